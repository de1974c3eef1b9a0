/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_SVM_SVM_H
#define RAVELIN_SVM_SVM_H

#include "arch/x86/svm/vmcb.h"
#include "core/types.h"
#include "core/vm.h"

/* Private to arch/x86/svm, but for what sev/ needs of a vCPU's control block. */

/* A hazard bit of our own: TLB_CONTROL must ask for a flush at the next entry, or no longer. */
#define HAZ_SVM_FLUSH BIT32(7)

/* svm_exit() tells the entry code to leave; the bit is no hazard and is the sign bit there. */
#define SVM_LEAVE BIT32(31)
_Static_assert((HAZ_BACKEND & (HAZ_SVM_FLUSH | SVM_LEAVE)) == 0, "hazard bits collide");
_Static_assert((HAZ_LEAVE & (HAZ_SVM_FLUSH | SVM_LEAVE)) == 0, "hazard bits collide");

/* What the machine offers; constant after probe(). */
struct svm_machine {
	u32 features;     /* SVM_FEAT_* */
	u32 asids;        /* number of ASIDs, 0 is the host's */
	u32 first_asid;   /* below it: reserved for encrypted guests */
	bool nrips;       /* next RIP is saved at instruction intercepts */
	bool decode;      /* instruction bytes are saved at #NPF */
	bool vnmi;
	bool cr8_quirk;   /* see svm_irq_window() */
	bool guarded;     /* mitigations are on: svm_loop_guarded() */
	u32 clean;        /* VMCB_CLEAN_ALL, or 0 without clean bits */
	paddr_t iopm;
	paddr_t msrpm;
};
extern struct svm_machine svm;

/* What each CPU has for itself. */
struct svm_cpu {
	paddr_t pages;      /* the two that follow, which are machine_pa() */
	paddr_t hsave;      /* VM_HSAVE_PA: where VMRUN keeps the host's state */
	paddr_t host_vmcb;  /* what VMLOAD loads on the way back to the host */
	u32 asid_next;
	u32 asid_generation;
	bool flush_all;     /* a generation of ASIDs began: flush before anything is entered */
	bool enabled;
};

/* Are NMIs open to the guest? */
enum svm_nmi {
	SVM_NMI_OPEN,
	SVM_NMI_MASKED, /* in a handler; the guest's IRET is intercepted */
	SVM_NMI_IRET    /* its IRET, at nmi_rip, is about to run */
};

struct svm_vcpu {
	struct vmcb *vmcb;
	paddr_t vmcb_pa;    /* machine_pa() */
	u32 cpu;            /* where it ran last; ~0: nowhere */
	u32 asid_generation;
	u32 fixed_asid;     /* an encrypted guest's own ASID, else 0 */
	bool flush;         /* the fixed ASID's translations are stale */
	bool loaded;        /* VMLOAD's registers are in the CPU, not in the VMCB */
	u8 nmi;             /* enum svm_nmi */
	bool step;          /* RFLAGS.TF is ours: one instruction, then the NMI window is open */
	bool step_tf;       /* the guest's own TF meanwhile */
	u64 nmi_rip;
};

static inline struct svm_vcpu *svm_vcpu(struct vcpu *v)
{
	return v->arch;
}

static inline struct vmcb *svm_vmcb(struct vcpu *v)
{
	return svm_vcpu(v)->vmcb;
}

/*
 * The guest's MOV CR8 changes V_TPR without an exit. It has the upper four bits
 * of the LAPIC's TPR; the lower four matter only to a reader of that register.
 */
static inline void svm_take_tpr(struct vcpu *v, u64 vintr)
{
	u8 tpr = (u8)((vintr & VMCB_V_TPR) << 4);

	if (unlikely((vlapic_tpr(&v->lapic) & 0xf0) != tpr))
		vlapic_set_tpr_hw(&v->lapic, tpr);
}

#ifdef UNIT_TEST
/* The host that runs a unit test has no such instructions: the test counts the calls. */
void svm_clgi(void);
void svm_stgi(void);
void svm_gif_window(void);
void svm_vmload(paddr_t pa);
void svm_vmsave(paddr_t pa);
#else
static inline void svm_clgi(void) { __asm__ volatile("clgi" ::: "memory"); }
static inline void svm_stgi(void) { __asm__ volatile("stgi" ::: "memory"); }
/* All that waits for GIF is taken here, if RFLAGS.IF is set. */
static inline void svm_gif_window(void) { __asm__ volatile("stgi; nop; clgi" ::: "memory", "cc"); }
static inline void svm_vmload(paddr_t pa) { __asm__ volatile("vmload %%rax" ::"a"(pa) : "memory"); }
static inline void svm_vmsave(paddr_t pa) { __asm__ volatile("vmsave %%rax" ::"a"(pa) : "memory"); }
#endif

/* bitmaps.c: the port and MSR bitmaps. 0 or -ENOMEM; sets svm.iopm and svm.msrpm. */
int svm_bitmaps_init(void);
/* Fills 8 KiB: everything intercepted but the written whitelist. */
void svm_msrpm_fill(u8 *map);
/* Lets the guest read (and write) an MSR of the three ranges without an exit. */
void svm_msrpm_open(u8 *map, u32 msr, bool write);
/* Is the access intercepted? MSRs outside the three ranges always are. */
bool svm_msrpm_intercepted(const u8 *map, u32 msr, bool write);

/* asid.c */
/* Gives v an ASID that is valid on this CPU. GIF off. */
void svm_asid_load(struct vcpu *v);
/* HAZ_TLB: no translation of v made before this survives the next entry. GIF off. */
void svm_asid_flush(struct vcpu *v);
/* The last step before an entry: asks the CPU for the flush that is due, or takes the request of
 * the entry before back. GIF off. */
void svm_asid_enter(struct vcpu *v);

/* vcpu.c */
int svm_vcpu_init(struct vcpu *v);
void svm_vcpu_destroy(struct vcpu *v);
void svm_vcpu_reset(struct vcpu *v, bool init);
int svm_get_reg(struct vcpu *v, enum vreg reg, u64 *value);
u32 svm_code_state(struct vcpu *v);
int svm_set_reg(struct vcpu *v, enum vreg reg, u64 value);
int svm_get_seg(struct vcpu *v, enum vseg seg, struct vsegment *s);
int svm_set_seg(struct vcpu *v, enum vseg seg, const struct vsegment *s);
void svm_pause_intercept(struct vmcb *b, bool on);
void svm_sync_tpr(struct vcpu *v);
void svm_load_tpr(struct vcpu *v);

/* inject.c */
#define SVM_EXCEPTIONS_ALWAYS (BIT32(VEC_DB) | BIT32(17) | BIT32(VEC_MC))
/* Does what the hazards ask for, or opens the window for it. */
u32 svm_prepare(struct vcpu *v);
/* EXITINTINFO says that an event's delivery was cut short: queue it again. */
void svm_requeue(struct vcpu *v);
void svm_irq_window_close(struct vmcb *b);
/* IRET was intercepted: the end of an NMI handler. */
void svm_nmi_iret(struct vcpu *v);
/* Ends our single step after the given exception (VEC_DB: the step is done). True: the guest must
 * see the exception. */
bool svm_step_end(struct vcpu *v, u8 vector);
/* The instruction that was to be stepped was completed by software. */
void svm_step_done(struct vcpu *v);

/* exits.c and entry.asm */
u32 svm_exit(struct vcpu *v, struct vmcb *b);
void svm_loop(struct vcpu *v, paddr_t vmcb_pa, struct vmcb *b);
void svm_loop_guarded(struct vcpu *v, paddr_t vmcb_pa, struct vmcb *b);
const char *svm_exit_name(u64 code);

/* svm.c */
struct svm_cpu *svm_this_cpu(void);

/* guest_cpu.c */
void svm_guest_cpuid(struct vcpu *v);
int svm_msr_read(struct vcpu *v, u32 msr, u64 *value);
int svm_msr_write(struct vcpu *v, u32 msr, u64 value);

#endif
