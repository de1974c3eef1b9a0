/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_VIRT_H
#define RAVELIN_ARCH_X86_VIRT_H

#include "core/types.h"

/*
 * The seam between core and the vendor halves (arch/x86/svm, arch/x86/vmx).
 * The vendor is chosen at boot. Nothing here is called on the hot path: each
 * backend has its own enter/exit loop which calls core's vcpu_dispatch()
 * directly.
 */
struct vm;
struct vcpu;

/* General registers in the encoding order of the instruction set. */
enum vgpr {
	GPR_RAX, GPR_RCX, GPR_RDX, GPR_RBX, GPR_RSP, GPR_RBP, GPR_RSI, GPR_RDI,
	GPR_R8, GPR_R9, GPR_R10, GPR_R11, GPR_R12, GPR_R13, GPR_R14, GPR_R15,
	GPR_COUNT
};

enum vreg {
	VREG_RIP, VREG_RSP, VREG_RFLAGS,
	VREG_CR0, VREG_CR2, VREG_CR3, VREG_CR4, VREG_EFER, /* EFER as the guest sees it */
	VREG_DR6, VREG_DR7, VREG_PAT,
	VREG_STAR, VREG_LSTAR, VREG_CSTAR, VREG_SFMASK, VREG_KERNEL_GS_BASE,
	VREG_SYSENTER_CS, VREG_SYSENTER_ESP, VREG_SYSENTER_EIP,
	VREG_DEBUGCTL,
	VREG_INT_SHADOW,   /* bool: interrupts held off for one instruction */
	VREG_CPL,
	VREG_TSC_OFFSET,   /* guest TSC minus host TSC */
	VREG_COUNT
};

enum vseg {
	VSEG_ES, VSEG_CS, VSEG_SS, VSEG_DS, VSEG_FS, VSEG_GS, /* encoding order */
	VSEG_LDTR, VSEG_TR, VSEG_GDTR, VSEG_IDTR,
	VSEG_COUNT
};

/*
 * A segment register with its hidden part. attr has the 12-bit form of the
 * VMCB (APM vol. 2, 15.5.1): bits 7:0 = descriptor bits 47:40, bits 11:8 =
 * descriptor bits 55:52 (AVL L D/B G). Unusable: P (bit 7) clear.
 */
struct vsegment {
	u16 selector;
	u16 attr;
	u32 limit; /* in bytes, expanded */
	u64 base;
};

#define VSEG_ATTR_P BIT32(7)
#define VSEG_ATTR_S BIT32(4)
#define VSEG_ATTR_L BIT32(9)
#define VSEG_ATTR_DB BIT32(10)
#define VSEG_ATTR_G BIT32(11)

/* An event to be delivered at the next entry (the meaning of EVENTINJ, APM vol. 2, 15.20). */
enum vevent_type { VEVENT_NONE, VEVENT_INTR, VEVENT_NMI, VEVENT_EXCEPTION, VEVENT_SOFT_INT };

struct vevent {
	u8 type;   /* enum vevent_type */
	u8 vector;
	bool has_error;
	u32 error;
};

#define VCODE_CPL 3U
#define VCODE_64 BIT32(2)

struct virt_backend {
	const char *name;      /* "svm" or "vmx" */
	const char *isa;       /* "AMD SVM" or "Intel VMX" */

	/*
	 * May this machine use the backend? Called on the boot CPU. Returns 0 or
	 * -ENODEV with *reason set to a static sentence that names cause and remedy.
	 */
	int (*probe)(const char **reason);
	/* Prepares memory shared by all CPUs (bitmaps). Boot CPU, once. */
	int (*init)(void);
	/* Turns virtualisation on (off) on the calling CPU. On also checks that the CPU can. */
	int (*cpu_enable)(const char **reason);
	void (*cpu_disable)(void);

	int (*vm_init)(struct vm *vm);          /* nested page-table format, ASID policy */
	void (*vm_destroy)(struct vm *vm);
	int (*vcpu_init)(struct vcpu *v);       /* allocates v->arch */
	void (*vcpu_destroy)(struct vcpu *v);
	/* Architectural state after INIT or RESET (APM vol. 2, table 14-1). */
	void (*vcpu_reset)(struct vcpu *v, bool init);

	/*
	 * Runs the vCPU on the calling CPU until core's dispatch asks to leave or
	 * a hazard does. Interrupts are enabled at call and at return.
	 */
	void (*run)(struct vcpu *v);

	/* State access; 0, or -EACCES when the state is protected (SEV-ES). vCPU not running. */
	int (*get_reg)(struct vcpu *v, enum vreg reg, u64 *value);
	int (*set_reg)(struct vcpu *v, enum vreg reg, u64 value);
	int (*get_seg)(struct vcpu *v, enum vseg seg, struct vsegment *s);
	int (*set_seg)(struct vcpu *v, enum vseg seg, const struct vsegment *s);

	/* What hypercalls ask of the code that runs: its CPL, and VCODE_64. A protected guest's
	 * is 64-bit code of CPL 0: its own #VC handler is who asks. Exit path. */
	u32 (*code_state)(struct vcpu *v);

	/* What only this vendor's CPUs have: completes v->cpuid, which core has built, and the MSRs
	 * that core does not know. -EINVAL asks for #GP(0). */
	void (*cpuid)(struct vcpu *v);
	int (*msr_read)(struct vcpu *v, u32 msr, u64 *value);
	int (*msr_write)(struct vcpu *v, u32 msr, u64 value);

	/* The guest's nested mappings changed: stale translations die before the next entry. */
	void (*flush_guest_tlb)(struct vm *vm);
	/* The CR8/V_TPR byte as hardware has it now, into the virtual LAPIC's TPR, or back. */
	void (*sync_tpr)(struct vcpu *v);
	void (*load_tpr)(struct vcpu *v);
	/* Name of a raw hardware exit code, for statistics and reports; never NULL. */
	const char *(*exit_name)(u64 code);
};

/* The backend in use; NULL until virt_init() succeeded. */
extern const struct virt_backend *virt;
extern const struct virt_backend svm_backend, vmx_backend;

/*
 * Chooses the backend and enables it on all CPUs. -ENODEV when neither serves;
 * each refusal has then been logged. The machine's shell still works without.
 */
int virt_init(void);

#endif
