/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_VMX_VMX_H
#define RAVELIN_VMX_VMX_H

#include "arch/x86/vmx/vmcs.h"
#include "core/types.h"
#include "core/vm.h"

/* Private to arch/x86/vmx. */

/* A hazard bit of our own: translations by VPID are stale. */
#define HAZ_VMX_FLUSH BIT32(7)
/* vmx_exit() tells the entry code to leave; the bit is no hazard and is the sign bit there. */
#define VMX_LEAVE BIT32(31)
_Static_assert((HAZ_BACKEND & (HAZ_VMX_FLUSH | VMX_LEAVE)) == 0, "hazard bits collide");
_Static_assert((HAZ_LEAVE & (HAZ_VMX_FLUSH | VMX_LEAVE)) == 0, "hazard bits collide");

/* Controls of every vCPU, as the CPU's capabilities allow them. */
struct vmx_controls {
	u32 pin, proc, proc2, exit, entry;
};

/* What the machine offers; constant after probe(). */
struct vmx_machine {
	u64 basic;         /* VMX_BASIC */
	u64 ept_cap;       /* EPT_VPID_CAP */
	struct vmx_controls ctls;
	u64 cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
	bool vpid;
	bool io_info;
	bool guarded;      /* mitigations are on: the guarded loop */
	paddr_t io_bitmap; /* two pages */
	paddr_t msr_bitmap;
};
extern struct vmx_machine vmx;

/* Registers of the guest that stay in the CPU while another of its kind does not need them. */
enum vmx_msr { VM_STAR, VM_LSTAR, VM_CSTAR, VM_SFMASK, VM_KERNEL_GS_BASE, VM_MSRS };

#define NO_CPU (~0U)

struct vmx_vcpu {
	u64 host_rsp;      /* as the VMCS has it */
	u8 launched;       /* VMRESUME instead of VMLAUNCH */
	bool running;      /* in the loop: nobody may take the VMCS away */
	u8 cpuid_len;      /* of the CPUID at cpuid_rip, which the last exit was; 0: it was another */
	bool stepped;      /* the guest has used single step: look at TF at every exit */
	u64 cpuid_rip;
	struct vcpu *vcpu;
	paddr_t vmcs;
	paddr_t apic_page; /* for the TPR shadow */
	u8 *tpr;           /* its TPR byte */
	u32 cpu;           /* CPU on which the VMCS is active, or NO_CPU */
	u32 msr_cpu;       /* CPU whose registers hold msr[], or NO_CPU */
	u32 proc;          /* VMCS_PROC_CTLS as written */
	u32 threshold;     /* VMCS_TPR_THRESHOLD as written */
	u64 cr0_mask, cr4_mask; /* bits that are the host's */
	u64 cr4_allowed;   /* bits that this guest may set */
	u64 eptp;
	u16 vpid;
	u64 cr2, dr6;      /* while not running */
	u64 msr[VM_MSRS];  /* while in no CPU */
};

/* What each CPU has for itself. */
struct vmx_cpu {
	paddr_t vmxon;
	struct vmx_vcpu *current;   /* whose VMCS the VMREADs here read */
	struct vmx_vcpu *msr_owner; /* whose msr[] the registers hold */
	bool enabled;
};

static inline struct vmx_vcpu *vmx_vcpu(struct vcpu *v)
{
	return v->arch;
}

#ifdef UNIT_TEST
/* The host that runs a unit test has no VMX: the test keeps the fields and counts the calls. */
u64 vmx_read(u32 field);
void vmx_write(u32 field, u64 value);
int vmx_vmclear(paddr_t pa);
int vmx_vmptrld(paddr_t pa);
void vmx_invept(u64 type, u64 eptp);
void vmx_invvpid(u64 type, u16 vpid);
u64 vmx_rdmsr(u32 msr);
void vmx_wrmsr(u32 msr, u64 value);
u64 vmx_read_cr2(void);
void vmx_write_cr2(u64 value);
u64 vmx_read_dr6(void);
void vmx_write_dr6(u64 value);
u64 vmx_read_cr3(void);
u64 vmx_irq_save(void);
void vmx_irq_restore(u64 flags);
#else
#include "arch/x86/cpu.h"
/* A field that does not exist leaves the result alone: every field used here exists on every CPU
 * that probe() accepts. */
static inline u64 vmx_read(u32 field)
{
	u64 value;

	__asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((u64)field) : "cc");
	return value;
}

static inline void vmx_write(u32 field, u64 value)
{
	__asm__ volatile("vmwrite %0, %1" : : "r"(value), "r"((u64)field) : "cc", "memory");
}

/* 0, or -EIO when the CPU refuses (CF or ZF set; SDM vol. 3, 31.2). */
static inline int vmx_vmclear(paddr_t pa)
{
	u8 fail;

	__asm__ volatile("vmclear %1; setna %0" : "=q"(fail) : "m"(pa) : "cc", "memory");
	return fail ? -EIO : 0;
}

static inline int vmx_vmptrld(paddr_t pa)
{
	u8 fail;

	__asm__ volatile("vmptrld %1; setna %0" : "=q"(fail) : "m"(pa) : "cc", "memory");
	return fail ? -EIO : 0;
}

static inline void vmx_invept(u64 type, u64 eptp)
{
	const u64 desc[2] = { eptp, 0 };

	__asm__ volatile("invept %0, %1" : : "m"(desc), "r"(type) : "cc", "memory");
}

static inline void vmx_invvpid(u64 type, u16 vpid)
{
	const u64 desc[2] = { vpid, 0 };

	__asm__ volatile("invvpid %0, %1" : : "m"(desc), "r"(type) : "cc", "memory");
}

static inline u64 vmx_rdmsr(u32 msr) { return rdmsr(msr); }
static inline void vmx_wrmsr(u32 msr, u64 value) { wrmsr(msr, value); }
static inline u64 vmx_read_cr2(void) { return read_cr2(); }
static inline void vmx_write_cr2(u64 value) { write_cr2(value); }
static inline u64 vmx_read_dr6(void) { return read_dr6(); }
static inline void vmx_write_dr6(u64 value) { write_dr6(value); }
static inline u64 vmx_read_cr3(void) { return read_cr3(); }
static inline u64 vmx_irq_save(void) { return irq_save(); }
static inline void vmx_irq_restore(u64 flags) { irq_restore(flags); }
#endif

/* controls.c: fills vmx.ctls and the fixed bits. -ENODEV with *reason. */
int vmx_controls_init(const char **reason);
/* Bits of a control word: want | what must be 1, without what must be 0. cap as in the MSR. */
u32 vmx_adjust(u64 cap, u32 want);
/* Does this CPU allow what the boot CPU allows? */
bool vmx_controls_match(void);

/* bitmaps.c: 0 or -ENOMEM; sets vmx.io_bitmap and vmx.msr_bitmap. */
int vmx_bitmaps_init(void);
/* Fills a page: everything intercepted but the written whitelist. */
void vmx_msr_bitmap_fill(u8 *map);
bool vmx_msr_intercepted(const u8 *map, u32 msr, bool write);

/* switch.c: VMCS and MSRs between CPUs. */
/* Makes v's VMCS the current one here; interrupts on, unless it is so already. -EBUSY: v runs. */
int vmx_focus(struct vcpu *v);
/* As vmx_focus(), and v's MSRs into the registers. Interrupts on, v about to run. */
int vmx_load(struct vcpu *v);
/* Takes VMCS and MSRs out of whatever CPU has them. Interrupts on, v not running. */
void vmx_evict(struct vcpu *v);
/* A register of enum vmx_msr, wherever it is. */
u64 vmx_get_msr(struct vcpu *v, enum vmx_msr m);
void vmx_set_msr(struct vcpu *v, enum vmx_msr m, u64 value);

/* vcpu.c */
int vmx_vcpu_init(struct vcpu *v);
void vmx_vcpu_destroy(struct vcpu *v);
void vmx_vcpu_reset(struct vcpu *v, bool init);
int vmx_get_reg(struct vcpu *v, enum vreg reg, u64 *value);
u32 vmx_code_state(struct vcpu *v);
int vmx_set_reg(struct vcpu *v, enum vreg reg, u64 value);
int vmx_get_seg(struct vcpu *v, enum vseg seg, struct vsegment *s);
int vmx_set_seg(struct vcpu *v, enum vseg seg, const struct vsegment *s);
void vmx_sync_tpr(struct vcpu *v);
void vmx_load_tpr(struct vcpu *v);
void vmx_proc_ctls(struct vmx_vcpu *vx, u32 set, u32 clear);

/* cr.c: control registers. The VMCS is current. */
u64 vmx_get_cr0(const struct vmx_vcpu *vx);
u64 vmx_get_cr4(const struct vmx_vcpu *vx);
void vmx_set_cr0(struct vmx_vcpu *vx, u64 value);
void vmx_set_cr4(struct vmx_vcpu *vx, u64 value);
void vmx_set_efer(struct vmx_vcpu *vx, u64 value);
u64 vmx_cr4_allowed(const struct vcpu *v);
/* The guest's MOV to CR0 or CR4. False: #GP(0). */
bool vmx_mov_cr0(struct vcpu *v, u64 value);
bool vmx_mov_cr4(struct vcpu *v, u64 value);
bool vmx_code64(void);

/* inject.c */
#define VMX_EXCEPTIONS (BIT32(1) | BIT32(17) | BIT32(VEC_MC)) /* #DB, #AC, #MC */
/* Delivers what the hazards ask for, or opens the window for it. */
void vmx_inject(struct vcpu *v, u32 hazards);
/* IDT-vectoring information says that an event's delivery was cut short: queue it again. */
void vmx_requeue(struct vcpu *v, u32 info);
void vmx_close_windows(struct vmx_vcpu *vx, u32 which);

/* exits.c and entry.asm */
u32 vmx_exit(struct vcpu *v, struct vmx_vcpu *vx);
u32 vmx_prepare(struct vcpu *v, struct vmx_vcpu *vx);
/* VMLAUNCH or VMRESUME failed: stops the VM with the VM-instruction error in words. */
void vmx_entry_failed(struct vcpu *v, struct vmx_vcpu *vx);
void vmx_loop(struct vcpu *v, struct vmx_vcpu *vx);
void vmx_loop_guarded(struct vcpu *v, struct vmx_vcpu *vx);
extern const char vmx_exit_point[], vmx_exit_point_guarded[];
/* Runs an IDT entry point as if its event had come now, interrupts off. */
void vmx_call_handler(u64 entry);

/* names.c */
const char *vmx_exit_name(u64 code);
const char *vmx_error_name(u64 error);

/* vmx.c */
struct vmx_cpu *vmx_this_cpu(void);

/* guest_cpu.c */
void vmx_guest_cpuid(struct vcpu *v);
int vmx_msr_read(struct vcpu *v, u32 msr, u64 *value);
int vmx_msr_write(struct vcpu *v, u32 msr, u64 value);

#endif
