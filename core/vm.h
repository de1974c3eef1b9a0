/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_VM_H
#define RAVELIN_CORE_VM_H

#include "arch/x86/emulate_known.h"
#include "arch/x86/paging.h"
#include "arch/x86/virt.h"
#include "core/config.h"
#include "core/cpuid.h"
#include "core/exit.h"
#include "core/pv.h"
#include "core/spinlock.h"
#include "core/types.h"
#include "vdev/host.h"
#include "vdev/lapic.h"
#include "vdev/platform.h"

/*
 * VMs and vCPUs. A vCPU is an event-style task without a stack of its own: the
 * scheduler calls virt->run(), which returns when the vCPU gives the CPU away.
 */

/*
 * The hazard word: tested once before each entry; zero means nothing but the
 * guest's own state matters. Any CPU may set bits (vcpu_hazard()); only the
 * CPU that runs the vCPU clears them.
 */
#define HAZ_EVENT BIT32(0)   /* v->event waits for delivery                  - backend */
#define HAZ_IRQ BIT32(1)     /* the virtual LAPIC may have a vector          - backend */
#define HAZ_NMI BIT32(2)     /* v->nmi_pending > 0                           - backend */
#define HAZ_TLB BIT32(3)     /* nested mappings changed                      - backend */
#define HAZ_TPR BIT32(4)     /* the LAPIC's TPR was written by software      - backend */
#define HAZ_BACKEND (HAZ_EVENT | HAZ_IRQ | HAZ_NMI | HAZ_TLB | HAZ_TPR)
#define HAZ_RESCHED BIT32(8) /* the scheduler wants the CPU back             - leave */
#define HAZ_STOP BIT32(9)    /* the VM is being stopped                      - leave */
#define HAZ_INIT BIT32(10)   /* INIT arrived                                 - leave */
#define HAZ_SIPI BIT32(11)   /* start-up IPI arrived, v->sipi_vector         - leave */
#define HAZ_LEAVE (HAZ_RESCHED | HAZ_STOP | HAZ_INIT | HAZ_SIPI)

enum vcpu_state {
	VCPU_OFF,       /* VM not started, or stopped */
	VCPU_WAIT_SIPI, /* application processor before its start-up IPI */
	VCPU_ON         /* runs, waits for a CPU, or halts */
};

/* What is costly in a CPU beside the exits themselves, and never done for one of them alone. */
struct vcpu_switches {
	u64 entries;  /* into the backend's loop, each with a way out: VMLOAD and VMSAVE on SVM */
	u64 loads;    /* of x87, vector and debug registers, another vCPU's before them */
	u64 xcr0;     /* XSETBV */
	u64 tsc_aux;  /* WRMSR of TSC_AUX */
	u64 barriers; /* WRMSR of PRED_CMD */
};

/*
 * Where a vCPU is; for the scheduler, but senders of interrupts look at it, too.
 * Away: it has nothing to do, or its CPU has not looked since it was woken. Waits:
 * in its CPU's queue. Current: taken from there, being run or about to be.
 */
enum vcpu_place { VCPU_AWAY, VCPU_WAITS, VCPU_CURRENT };

struct vcpu {
	/* Guest registers while not in guest mode; GPR_RSP lives in the backend. Offset 0: the
	 * entry code addresses them. */
	u64 gpr[GPR_COUNT];
	u32 hazards;          /* HAZ_*, atomic */
	bool trap_protected;  /* SEV-ES: register state not available */
	void *arch;           /* the backend's state: struct svm_vcpu, struct vmx_vcpu */
	struct vm *vm;
	u32 id;               /* index in vm->vcpu[] */
	u32 apic_id;
	struct vexit exit;    /* the last exit */
	struct vevent event;  /* to be delivered at entry, with HAZ_EVENT */
	u32 nmi_pending;      /* 0..2, atomic */
	u8 sipi_vector;
	u64 tsc_offset;       /* guest TSC minus host TSC */
	u64 guest_xcr0;
	u64 msr_tsc_aux;

	u64 exits[VEXIT_KINDS];  /* count per kind */
	u64 cycles[VEXIT_KINDS]; /* host cycles per kind, while tracing or `vm stats` timing is on */
	struct vcpu_switches switches;

	struct cpuid_table cpuid;

	/* Scheduler's; protected by the run queue's lock. */
	u32 cpu;              /* home CPU; constant after creation, like the next two */
	struct run_queue *queue; /* of the home CPU */
	u32 state;            /* enum vcpu_state */
	u8 place;             /* enum vcpu_place; read at any time */
	struct vcpu *next;
	u64 run_tsc;          /* TSC ticks spent in run() */
	bool halted;          /* in HLT until vcpu_wakes(); own CPU */
	bool halt_if;         /* RFLAGS.IF when it halted */

	void *fpu;            /* XSAVE area, page aligned */
	u64 dr[4];            /* DR0..DR3 while another vCPU's are loaded */
	u64 xss;

	struct pv_vcpu pv;
	struct vlapic lapic;
	struct emulate_cache emulate;
	struct es_vcpu *es; /* of an SEV-ES guest, else NULL: sev/es.h */
};

/* VM_WAITING: an SEV-ES guest that is measured and waits for its owner's secret. */
enum vm_state { VM_OFF, VM_RUNNING, VM_CRASHED, VM_WAITING };

/* A power event that waits for CPU 0; no vCPU of the VM is entered meanwhile. */
#define VM_POWER_NONE 0U
#define VM_POWER_OFF 1U
#define VM_POWER_RESET 2U
#define VM_POWER_DEBUG_EXIT 3U
#define VM_POWER_CRASH 4U

/* Guest RAM: frames of 2 MiB, low part from 0, the rest from 4 GiB. */
#define VM_CHUNK_SHIFT 21
#define VM_CHUNK_SIZE BIT(VM_CHUNK_SHIFT)
#define VM_LOW_MAX GIB(3) /* RAM below 4 GiB ends here at the latest; devices above */

struct vm_ram {
	u64 low;         /* bytes from GPA 0 */
	u64 high;        /* bytes from GPA 4 GiB */
	u32 chunks;
	paddr_t *chunk;  /* host frame of each 2 MiB, low then high */
	paddr_t rom;     /* firmware image, read-only to the guest; 0 if none */
	u32 rom_order;
	gpa_t rom_gpa;
	u64 rom_size;
};

struct vm {
	char name[CONFIG_NAME_LEN];
	u32 id;                 /* index in the table of VMs */
	u32 state;              /* enum vm_state */
	const struct vm_config *config;
	struct vm_ram ram;
	struct pt npt;          /* nested page tables */
	void *arch;             /* backend's per-VM state */
	u32 vcpus;
	struct vcpu *vcpu[VCPU_MAX];
	/* The scheduler's, by vCPU: its home CPU's queue, and the vCPUs that live on other CPUs. */
	struct run_queue *home[VCPU_MAX];
	u64 elsewhere[VCPU_MAX];
	struct vdev_platform platform;
	u64 tsc_base;           /* host TSC at creation: guest time zero */
	u32 power;              /* VM_POWER_*: what its own vCPUs asked for, atomic */
	u32 power_code;
	u32 resets;
	bool units_ready;
	u32 log_lines;          /* remarks of devices in second log_second */
	u64 log_second;
	char why[96];           /* last stop or crash, in words */
	spinlock_t lock;
	struct pv_vm pv;
	struct vm_msrs *msrs;   /* core/msr.h */
	struct es_vm *es;       /* of an SEV-ES guest, else NULL: sev/es.h */
};

/*
 * Called by the backend's loop for each exit, interrupts (and on AMD GIF) off.
 * v->exit describes it. Returns VRESULT_*. Never blocks, never allocates.
 */
u32 vcpu_dispatch(struct vcpu *v);
/* What it calls for the most frequent kinds, for a backend that knows the kind. Only while
 * trace_flags is 0: nothing is measured here. */
u32 dispatch_io(struct vcpu *v);
/* HLT with the TPR known, and RFLAGS.IF. True: leave the loop; false: it is over already. */
bool vcpu_halt(struct vcpu *v, bool interruptible);

/* Sets hazard bits and makes sure that a vCPU in guest mode on another CPU notices. Any context. */
void vcpu_hazard(struct vcpu *v, u32 bits);
static inline void vcpu_hazard_clear(struct vcpu *v, u32 bits)
{
	__atomic_and_fetch(&v->hazards, ~bits, __ATOMIC_ACQ_REL);
}

/* Queue an exception for the next entry. An exception while one is pending combines to #DF or
 * shutdown as in APM vol. 2, 8.2.9. Own CPU only. */
void vcpu_inject_exception(struct vcpu *v, u8 vector, bool has_error, u32 error);
#define VEC_DE 0
#define VEC_DB 1
#define VEC_NMI 2
#define VEC_UD 6
#define VEC_DF 8
#define VEC_TS 10
#define VEC_NP 11
#define VEC_SS 12
#define VEC_GP 13
#define VEC_PF 14
#define VEC_MC 18
static inline void vcpu_inject_gp(struct vcpu *v) { vcpu_inject_exception(v, VEC_GP, true, 0); }
static inline void vcpu_inject_ud(struct vcpu *v) { vcpu_inject_exception(v, VEC_UD, false, 0); }
/* #PF: also sets the guest's CR2. */
void vcpu_inject_pf(struct vcpu *v, gva_t address, u32 error);

/*
 * For the backend, at entry with HAZ_IRQ set: the vector to deliver now (from
 * LAPIC or PIC), -1 for none; then vcpu_irq_accept() when it is really
 * injected. vcpu_irq_blocked(): a vector that only the TPR holds back, -1 none.
 */
static inline int vcpu_irq_pending(struct vcpu *v)
{
	/* What the guest may end silently is still in service here: that matters now. */
	if (unlikely(v->pv.eoi_armed) && vlapic_waits(&v->lapic))
		pv_eoi_settle(v);
	return vlapic_pending(&v->lapic);
}
static inline int vcpu_irq_accept(struct vcpu *v)
{
	return (v->pv.eoi & PV_ENABLE) != 0 ? pv_eoi_accept(v) : vlapic_accept(&v->lapic);
}
static inline int vcpu_irq_blocked(struct vcpu *v) { return vlapic_blocked(&v->lapic); }

/* Stops the VM with a report (registers, exit, text) in the log; usable from the exit path. */
void vcpu_fatal(struct vcpu *v, const char *fmt, ...) __printf(2, 3);

/* Host's view of guest RAM: a pointer to gpa with *len clipped to what is contiguous, or NULL. */
void *vm_ram_ptr(struct vm *vm, gpa_t gpa, size_t *len, bool write);
static inline struct vm *vm_from_host(struct vdev_host *h) { return (struct vm *)h; }
static inline struct vdev_host *vm_host(struct vm *vm) { return (struct vdev_host *)vm; }

/* Management: from the shell and start-up, CPU 0, interrupts on. 0 or negative errno, logged. */
int vm_create(const struct vm_config *cfg, struct vm **out);
int vm_start(struct vm *vm);  /* loads the images and starts the boot processor */
void vm_run(struct vm *vm);   /* the end of vm_start(): all is loaded, the boot processor begins */
int vm_stop(struct vm *vm);   /* all vCPUs out of guest mode; -EINVAL when it does not run */
int vm_reset(struct vm *vm);
void vm_destroy(struct vm *vm); /* stops, then frees all */
struct vm *vm_find(const char *name);
struct vm *vm_get(u32 id);    /* NULL when the slot is empty */
int vm_send_nmi(struct vm *vm, u32 vcpu);
/* A read-only page range for firmware, zeroed; *image is the host's view. Replaces an earlier one. */
int vm_map_rom(struct vm *vm, gpa_t gpa, u64 size, u8 **image);
void vm_free_rom(struct vm *vm);

/* Initial state of the boot processor, filled by a loader. */
enum guest_mode { GUEST_REAL, GUEST_PROT32, GUEST_LONG64 };
struct guest_entry {
	u8 mode;     /* enum guest_mode; REAL: CS:IP from the reset vector, the rest is ignored */
	u64 rip;
	u64 rax, rbx, rsi, rsp;
	u64 cr3;     /* LONG64 only */
	gpa_t gdt;   /* GDTR base in guest memory, 0: none; flat selectors 0x10 code, 0x18 data */
	u16 gdt_limit;
};
/* Loads kernel, initrd, modules or firmware named in vm->config from the boot modules into guest
 * memory, with ACPI tables. core/loader*.c. */
int loader_load(struct vm *vm, struct guest_entry *entry);

/* Is there an event that ends HLT (or that must be handled though the vCPU halts)? */
bool vcpu_wakes(struct vcpu *v);
/* Would this XCR0 value be accepted by a CPU whose XSAVE knows the components in mask? */
bool xcr0_valid(u64 value, u64 mask);
/* INIT and start-up IPIs that arrived; own CPU, v not in its loop. */
void vcpu_startup_events(struct vcpu *v);
/* The state a loader asks for, in the boot processor after its reset. */
int vcpu_set_entry(struct vcpu *v, const struct guest_entry *entry);
/* Creates vm->vcpu[id], or takes it apart (NULL and half-made ones too). */
int vcpu_create(struct vm *vm, u32 id);
void vcpu_destroy(struct vcpu *v);
/* Power-on state of the vCPU and its LAPIC; not running. */
void vcpu_power_on(struct vcpu *v);
/* Registers for a person; "protected" for an encrypted guest. v not running. */
void vcpu_dump(struct vcpu *v);

/* vdev_now_ns() time to a value of the host's TSC, not earlier. */
u64 vm_ns_to_tsc(const struct vm *vm, u64 ns);

/* Asks for a power event; the first one of several wins. Any context. */
void vm_power(struct vm *vm, u32 what, u32 code);
/* CPU 0's loop: carries out power events that vCPUs asked for. */
void vm_poll(void);

#endif
