/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_SEV_ES_H
#define RAVELIN_SEV_ES_H

#include "core/vm.h"
#include "drivers/psp/psp.h"
#include "sev/sev.h"

/*
 * What an SEV-ES guest has beyond a plain one. Its registers are in an encrypted
 * page (the VMSA) that only the CPU reads; v->trap_protected is set, v->gpr[]
 * holds nothing but what the guest has put in its GHCB for the exit in hand.
 */

/* GHCB protocol versions that are spoken (GHCB specification, 2.3.1). */
#define GHCB_VERSION_MIN 1U
#define GHCB_VERSION_MAX 2U
#define GHCB_BUFFER_SIZE 2032U /* the page's shared buffer */
#define ES_EVENTS 40           /* counters; sev/ghcb_page.h says what of */

/* Why a vCPU waits in AP reset hold, and where the answer goes. */
enum es_hold {
	ES_HOLD_NONE,
	ES_HOLD_GHCB, /* event 0x80000004: SW_EXITINFO2 of the GHCB */
	ES_HOLD_MSR   /* MSR protocol 0x006: answered with 0x007 */
};

struct es_vcpu {
	u64 *ghcb_msr;     /* the guest's MSR C001_0130: VMCB offset 0x0A0 */
	struct ghcb *copy; /* a page of the hypervisor's: the one copy of the GHCB that is looked at */
	u8 hold;           /* enum es_hold */
	u8 wake;           /* with hold: 0 nothing came yet, 1 woken, 2 woken by a start-up IPI */
	gpa_t hold_ghcb;   /* ES_HOLD_GHCB: the page to answer in */
	u32 version;       /* that the guest's GHCB named, 0: none yet */

	/* Known from the write traps alone (APM vol. 2, 15.35.10). */
	u64 efer, cr0, cr4;
	u8 cr8;

	gpa_t npf_gpa;     /* of the last nested fault that reached the hypervisor */
	u32 npf_count;     /* how often in a row */
	bool nmi_masked;   /* from an NMI's injection to the guest's NMI_COMPLETE */
	paddr_t vmsa;      /* encrypted; 0: none */
	u64 events[ES_EVENTS]; /* GHCB events and MSR requests by kind, for `vm stats` */

	/* sev/ghcb*.c */
	gpa_t page_gpa;    /* the GHCB used last, ~0: none, */
	struct ghcb *page; /* and where it is: guest RAM never moves */
	u64 dr7;           /* as the guest says; no use is made of it */
};

struct es_vm {
	struct sev_guest guest;
	gpa_t ap_jump_table; /* as the guest stored it, 0: none */
	u32 min_version;     /* offered to the guest, GHCB_VERSION_MIN by default */
	u8 measure[PSP_MEASURE_SIZE];
	u8 *secret;          /* place of the owner's secret in its RAM, NULL: there is none */
	u32 secret_room;
	struct es_packet *packet; /* what the shell has got of it so far, NULL: nothing */
	u8 last[CPU_MAX];    /* vCPU that ran last on each CPU, plus 1; 0: none since the launch */

	/* The VM is gone and the processor would not end its guest: what the guest still has. */
	struct es_vm *next;
	char name[CONFIG_NAME_LEN];
	struct vm_ram ram;
	paddr_t vmsa[VCPU_MAX];
};

/* --- sev/es_vm.c: with the VM; CPU 0, interrupts on. All of them do nothing for a plain VM. --- */

/* Before anything else of the VM. Brings the processor up; -ENOTSUP or its error, logged. */
int es_vm_create(struct vm *vm);
/* After its RAM is mapped: makes an access to anything else a #VC in the guest. -ENOMEM. */
int es_vm_map(struct vm *vm);
/* The vCPUs are off. Memory of a guest that could not be ended is taken out of vm. */
void es_vm_destroy(struct vm *vm);
/* Ends the guest at the processor; the vCPUs are out of guest mode. 0, also when there is none. */
int es_stop(struct vm *vm);
/* sev/launch.c. Afterwards the guest may run, unless the VM is in the state VM_WAITING: then its
 * owner's secret comes first, and es_launch_finish(). Logged. */
int es_launch(struct vm *vm);
int es_launch_finish(struct vm *vm);

/* --- sev/secret.c: the owner's secret, in a launch that is measured and not finished --- */

/* Notes the place: sev-secret-gpa, else what the image names; size 0: nothing. */
void es_secret_place(struct vm *vm, gpa_t gpa, u32 size);
/* Makes the VM wait for it. -EFAULT: it would have no place; logged. */
int es_secret_wait(struct vm *vm);
/* LAUNCH_SECRET of a packet: header of PSP_SECRET_HDR_SIZE bytes, payload as it lies in memory:
 * machine_pa() if that is the allocator's, plain for a boot module.
 * -EFAULT, -E2BIG, -EPROTO: it does not fit; else as sev_guest_secret(). Logged. */
int es_secret_give(struct vm *vm, const u8 *header, paddr_t payload, u64 size);
/* Wipes what the shell has got. */
void es_secret_drop(struct es_vm *es);
/* The shell's `vm secret`. */
int es_secret_command(int argc, char **argv);

/* --- sev/es_vcpu.c: a vCPU beside the backend's own functions --- */

/* After the rest of the backend's part has been made. -ENOMEM: nothing is left behind. */
int es_vcpu_init(struct vcpu *v);
void es_vcpu_destroy(struct vcpu *v);
void es_vcpu_reset(struct vcpu *v, bool init);
/* VREG_CR0, _CR4, _EFER as the traps told, what the control block shows; -EACCES for the rest. */
int es_get_reg(struct vcpu *v, enum vreg reg, u64 *value);
int es_set_reg(struct vcpu *v, enum vreg reg, u64 value);
/* For a person: "protected", and what the traps told. */
void es_print_regs(const struct vcpu *v);
/* A start-up IPI arrived; own CPU, v not in its loop. */
void es_take_sipi(struct vcpu *v);

/* --- sev/es_run.c --- */

/* virt->run() of an SEV-ES vCPU. */
void es_run(struct vcpu *v);

#endif
