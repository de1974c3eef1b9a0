/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/paging.h"
#include "arch/x86/percpu.h"
#include "arch/x86/vcpu_state.h"
#include "arch/x86/vmx/vmx.h"
#include "core/errno.h"
#include "core/heap.h"
#include "core/pmm.h"
#include "core/string.h"

/* The vCPU's control structure: creation, reset, and access to guest registers. */

#define AR_DPL_SHIFT 5
#define TPR_OFFSET 0x80

/* The host's state after an exit: nearly all of it the same on every CPU (see switch.c). */
static void write_host_state(void)
{
	struct desc_ptr idtr;

	__asm__ volatile("sidt %0" : "=m"(idtr));
	vmx_write(VMCS_HOST_CR0, read_cr0());
	vmx_write(VMCS_HOST_CR4, read_cr4());
	vmx_write(VMCS_HOST_EFER, vmx_rdmsr(MSR_EFER));
	vmx_write(VMCS_HOST_PAT, vmx_rdmsr(MSR_PAT));
	vmx_write(VMCS_HOST_CS, SEL_CODE);
	vmx_write(VMCS_HOST_SS, SEL_DATA);
	vmx_write(VMCS_HOST_DS, SEL_DATA);
	vmx_write(VMCS_HOST_ES, SEL_DATA);
	vmx_write(VMCS_HOST_FS, 0);
	vmx_write(VMCS_HOST_GS, 0);
	vmx_write(VMCS_HOST_TR, SEL_TSS);
	vmx_write(VMCS_HOST_FS_BASE, 0);
	vmx_write(VMCS_HOST_GS_BASE, 0);
	vmx_write(VMCS_HOST_TR_BASE, (u64)&percpu.tss);
	vmx_write(VMCS_HOST_GDTR_BASE, (u64)percpu.gdt);
	vmx_write(VMCS_HOST_IDTR_BASE, idtr.base);
	vmx_write(VMCS_HOST_SYSENTER_CS, 0);
	vmx_write(VMCS_HOST_SYSENTER_ESP, 0);
	vmx_write(VMCS_HOST_SYSENTER_EIP, 0);
	vmx_write(VMCS_HOST_RIP, (u64)(vmx.guarded ? vmx_exit_point_guarded : vmx_exit_point));
}

static void write_controls(struct vcpu *v, struct vmx_vcpu *vx)
{
	vx->proc = vmx.ctls.proc;
	vmx_write(VMCS_PIN_CTLS, vmx.ctls.pin);
	vmx_write(VMCS_PROC_CTLS, vmx.ctls.proc);
	vmx_write(VMCS_PROC2_CTLS, vmx.ctls.proc2);
	vmx_write(VMCS_EXIT_CTLS, vmx.ctls.exit);
	vmx_write(VMCS_ENTRY_CTLS, vmx.ctls.entry);
	vmx_write(VMCS_EXCEPTION_BITMAP, VMX_EXCEPTIONS);
	vmx_write(VMCS_PF_MASK, 0);
	vmx_write(VMCS_PF_MATCH, 0);
	vmx_write(VMCS_CR3_TARGETS, 0);
	vmx_write(VMCS_EXIT_MSR_STORE_COUNT, 0);
	vmx_write(VMCS_EXIT_MSR_LOAD_COUNT, 0);
	vmx_write(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
	vmx_write(VMCS_IO_BITMAP_A, vmx.io_bitmap);
	vmx_write(VMCS_IO_BITMAP_B, vmx.io_bitmap + PAGE_SIZE);
	vmx_write(VMCS_MSR_BITMAP, vmx.msr_bitmap);
	vmx_write(VMCS_VIRTUAL_APIC, vx->apic_page);
	vmx_write(VMCS_EPTP, vx->eptp);
	vmx_write(VMCS_LINK, ~0UL);
	vmx_write(VMCS_TSC_OFFSET, v->tsc_offset);
	vmx_write(VMCS_CR0_MASK, vx->cr0_mask);
	vmx_write(VMCS_CR4_MASK, vx->cr4_mask);
	if (vmx.vpid)
		vmx_write(VMCS_VPID, vx->vpid);
	/* One short wait is not worth an exit: 4096 ticks of a loop whose PAUSEs follow within 128. */
	if ((vmx.ctls.proc2 & PROC2_PAUSE_LOOP) != 0) {
		vmx_write(VMCS_PLE_GAP, 128);
		vmx_write(VMCS_PLE_WINDOW, 4096);
	}
}

static void init_masks(struct vcpu *v, struct vmx_vcpu *vx)
{
	vx->cr4_allowed = vmx_cr4_allowed(v);
	vx->cr0_mask = ~(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_WP | CR0_AM | CR0_PG);
	vx->cr4_mask = ~(vx->cr4_allowed & ~(CR4_MCE | vmx.cr4_fixed0));
}

static void free_all(struct vmx_vcpu *vx)
{
	if (vx == NULL)
		return;
	if (vx->vmcs != 0)
		free_pages(vx->vmcs, ORDER_4K);
	if (vx->apic_page != 0)
		free_pages(vx->apic_page, ORDER_4K);
	heap_free(vx);
}

int vmx_vcpu_init(struct vcpu *v)
{
	struct vmx_vcpu *vx = heap_alloc(sizeof(*vx));

	if (vx == NULL)
		return -ENOMEM;
	vx->vcpu = v;
	vx->cpu = vx->msr_cpu = NO_CPU;
	vx->vmcs = alloc_pages(ORDER_4K, ALLOC_ZERO);
	vx->apic_page = alloc_pages(ORDER_4K, ALLOC_ZERO);
	if (vx->vmcs == 0 || vx->apic_page == 0 || vcpu_state_init(v) < 0) {
		free_all(vx);
		return -ENOMEM;
	}
	v->arch = vx;
	vx->tpr = (u8 *)phys_to_virt(vx->apic_page) + TPR_OFFSET;
	/* Unique among all vCPUs that exist; 0 is the host's. */
	vx->vpid = (u16)(1 + v->vm->id * VCPU_MAX + v->id);
	vx->eptp = v->vm->npt.root | EPTP_WB | EPTP_WALK4;
	init_masks(v, vx);
	*(u32 *)phys_to_virt(vx->vmcs) = (u32)(vmx.basic & VMX_BASIC_REVISION);
	(void)vmx_vmclear(vx->vmcs); /* what makes the page a VMCS */
	(void)vmx_focus(v);
	write_host_state();
	write_controls(v, vx);
	return 0;
}
_Static_assert(1 + VM_MAX * VCPU_MAX <= 0xffff, "a VPID has 16 bits");

void vmx_vcpu_destroy(struct vcpu *v)
{
	if (v->arch == NULL)
		return;
	vmx_evict(v);
	vcpu_state_destroy(v);
	free_all(v->arch);
	v->arch = NULL;
}

/* --- reset ------------------------------------------------------------------------------------ */

static void write_seg(enum vseg seg, const struct vsegment *s)
{
	u32 ar = (s->attr & AR_LOW) | ((u32)s->attr << 4 & AR_HIGH);

	vmx_write(VMCS_GUEST_BASE(seg), s->base);
	vmx_write(VMCS_GUEST_LIMIT(seg), s->limit);
	if (seg >= VSEG_GDTR)
		return;
	if ((s->attr & VSEG_ATTR_P) == 0)
		ar |= AR_UNUSABLE;
	vmx_write(VMCS_GUEST_SELECTOR(seg), s->selector);
	vmx_write(VMCS_GUEST_AR(seg), ar);
}

static void reset_segments(void)
{
	static const struct vsegment data = { .attr = 0x93, .limit = 0xffff };
	static const struct vsegment code = { .selector = 0xf000, .attr = 0x9b, .limit = 0xffff,
					      .base = 0xffff0000 };
	static const struct vsegment ldt = { .attr = 0x82, .limit = 0xffff };
	static const struct vsegment tss = { .attr = 0x8b, .limit = 0xffff };
	static const struct vsegment table = { .limit = 0xffff };

	for (u32 s = VSEG_ES; s <= VSEG_GS; s++)
		write_seg((enum vseg)s, s == VSEG_CS ? &code : &data);
	write_seg(VSEG_LDTR, &ldt);
	write_seg(VSEG_TR, &tss);
	write_seg(VSEG_GDTR, &table);
	write_seg(VSEG_IDTR, &table);
}

/* What INIT leaves alone. */
static void reset_msrs(struct vcpu *v)
{
	vmx_write(VMCS_GUEST_PAT, PAT_RESET);
	for (u32 i = 0; i < VM_MSRS; i++)
		vmx_set_msr(v, (enum vmx_msr)i, 0);
	vmx_write(VMCS_GUEST_SYSENTER_CS, 0);
	vmx_write(VMCS_GUEST_SYSENTER_ESP, 0);
	vmx_write(VMCS_GUEST_SYSENTER_EIP, 0);
}

static void reset_control_regs(struct vmx_vcpu *vx, bool init)
{
	u64 cache = init ? vmx_get_cr0(vx) & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW;

	vmx_set_efer(vx, 0);
	vmx_set_cr0(vx, cache | CR0_ET);
	vmx_set_cr4(vx, 0);
	vmx_write(VMCS_GUEST_CR3, 0);
	for (u32 i = 0; i < 4; i++)
		vmx_write(VMCS_GUEST_PDPTE(i), 0);
	vx->cr2 = 0;
	vx->dr6 = 0xffff0ff0;
	vmx_write(VMCS_GUEST_DR7, 0x400);
	vmx_write(VMCS_GUEST_DEBUGCTL, 0);
}

void vmx_vcpu_reset(struct vcpu *v, bool init)
{
	struct vmx_vcpu *vx = vmx_vcpu(v);

	(void)vmx_focus(v); /* v does not run */
	memset(v->gpr, 0, sizeof(v->gpr));
	v->gpr[GPR_RDX] = v->cpuid.basic[1].eax;
	reset_segments();
	if (!init)
		reset_msrs(v);
	reset_control_regs(vx, init);
	vmx_write(VMCS_GUEST_RFLAGS, RFLAGS_FIXED1);
	vmx_write(VMCS_GUEST_RIP, 0xfff0);
	vmx_write(VMCS_GUEST_RSP, 0);
	vmx_write(VMCS_GUEST_INTERRUPTIBILITY, 0);
	vmx_write(VMCS_GUEST_ACTIVITY, 0);
	vmx_write(VMCS_GUEST_PENDING_DEBUG, 0);
	vmx_write(VMCS_ENTRY_INTR_INFO, 0);
	vmx_write(VMCS_TPR_THRESHOLD, 0);
	vx->threshold = 0;
	*vx->tpr = 0;
	vmx_proc_ctls(vx, 0, PROC_INTR_WINDOW | PROC_NMI_WINDOW);
	vx->stepped = false;
	vcpu_state_reset(v, init);
	/* Translations of the time before must not live on. */
	__atomic_or_fetch(&v->hazards, HAZ_TLB | HAZ_VMX_FLUSH, __ATOMIC_RELEASE);
}

/* --- registers -------------------------------------------------------------------------------- */

void vmx_proc_ctls(struct vmx_vcpu *vx, u32 set, u32 clear)
{
	u32 want = (vx->proc | set) & ~clear;

	if (want == vx->proc)
		return;
	vx->proc = want;
	vmx_write(VMCS_PROC_CTLS, want);
}

/* A register that switch.c keeps, or VM_MSRS. */
static enum vmx_msr msr_reg(enum vreg reg)
{
	switch (reg) {
	case VREG_STAR: return VM_STAR;
	case VREG_LSTAR: return VM_LSTAR;
	case VREG_CSTAR: return VM_CSTAR;
	case VREG_SFMASK: return VM_SFMASK;
	case VREG_KERNEL_GS_BASE: return VM_KERNEL_GS_BASE;
	default: return VM_MSRS;
	}
}

/* A register that is one field of the VMCS, or 0 (which is the field of the VPID). */
static u32 reg_field(enum vreg reg)
{
	switch (reg) {
	case VREG_RIP: return VMCS_GUEST_RIP;
	case VREG_RSP: return VMCS_GUEST_RSP;
	case VREG_RFLAGS: return VMCS_GUEST_RFLAGS;
	case VREG_CR3: return VMCS_GUEST_CR3;
	case VREG_EFER: return VMCS_GUEST_EFER;
	case VREG_DR7: return VMCS_GUEST_DR7;
	case VREG_PAT: return VMCS_GUEST_PAT;
	case VREG_DEBUGCTL: return VMCS_GUEST_DEBUGCTL;
	case VREG_SYSENTER_CS: return VMCS_GUEST_SYSENTER_CS;
	case VREG_SYSENTER_ESP: return VMCS_GUEST_SYSENTER_ESP;
	case VREG_SYSENTER_EIP: return VMCS_GUEST_SYSENTER_EIP;
	case VREG_TSC_OFFSET: return VMCS_TSC_OFFSET;
	default: return 0;
	}
}

static u64 read_reg(struct vcpu *v, enum vreg reg)
{
	const struct vmx_vcpu *vx = v->arch;
	enum vmx_msr m = msr_reg(reg);
	u32 field = reg_field(reg);

	if (field != 0)
		return vmx_read(field);
	if (m != VM_MSRS)
		return vmx_get_msr(v, m);
	switch (reg) {
	case VREG_CR0: return vmx_get_cr0(vx);
	case VREG_CR4: return vmx_get_cr4(vx);
	case VREG_CR2: return vx->running ? vmx_read_cr2() : vx->cr2;
	case VREG_DR6: return vx->running ? vmx_read_dr6() : vx->dr6;
	case VREG_INT_SHADOW:
		return (vmx_read(VMCS_GUEST_INTERRUPTIBILITY) & INTERRUPTIBILITY_SHADOW) != 0;
	case VREG_CPL: return vmx_read(VMCS_GUEST_AR(VSEG_SS)) >> AR_DPL_SHIFT & 3;
	default: return 0;
	}
}

/* v has just left guest mode here: its VMCS is the current one. */
u32 vmx_code_state(struct vcpu *v)
{
	u32 cpl = (u32)vmx_read(VMCS_GUEST_AR(VSEG_SS)) >> AR_DPL_SHIFT & 3;

	(void)v;
	return cpl | (vmx_code64() ? VCODE_64 : 0);
}

int vmx_get_reg(struct vcpu *v, enum vreg reg, u64 *value)
{
	int err;

	*value = 0;
	if (reg >= VREG_COUNT)
		return -EINVAL;
	err = vmx_focus(v);
	if (err == 0)
		*value = read_reg(v, reg);
	return err;
}

static void write_shadow(bool on)
{
	u64 i = vmx_read(VMCS_GUEST_INTERRUPTIBILITY) & ~INTERRUPTIBILITY_SHADOW;

	vmx_write(VMCS_GUEST_INTERRUPTIBILITY, i | (on ? INTERRUPTIBILITY_STI : 0));
}

static void write_reg(struct vcpu *v, enum vreg reg, u64 value)
{
	struct vmx_vcpu *vx = v->arch;
	enum vmx_msr m = msr_reg(reg);

	if (m != VM_MSRS) {
		vmx_set_msr(v, m, value);
		return;
	}
	switch (reg) {
	case VREG_RFLAGS: vmx_write(VMCS_GUEST_RFLAGS, value | RFLAGS_FIXED1); break;
	case VREG_CR0: vmx_set_cr0(vx, value); break;
	case VREG_CR4: vmx_set_cr4(vx, value); break;
	case VREG_EFER: vmx_set_efer(vx, value); break;
	case VREG_CR2:
		vx->cr2 = value;
		if (vx->running)
			vmx_write_cr2(value);
		break;
	case VREG_DR6:
		vx->dr6 = value;
		if (vx->running)
			vmx_write_dr6(value);
		break;
	case VREG_INT_SHADOW: write_shadow(value != 0); break;
	case VREG_CPL: break; /* is the privilege level of SS: comes with set_seg() */
	default: vmx_write(reg_field(reg), value); break;
	}
	if (reg == VREG_CR3)
		__atomic_or_fetch(&v->hazards, HAZ_VMX_FLUSH, __ATOMIC_RELAXED);
}

int vmx_set_reg(struct vcpu *v, enum vreg reg, u64 value)
{
	int err;

	if (reg >= VREG_COUNT)
		return -EINVAL;
	err = vmx_focus(v);
	if (err == 0)
		write_reg(v, reg, value);
	return err;
}

int vmx_get_seg(struct vcpu *v, enum vseg seg, struct vsegment *s)
{
	int err;
	u32 ar;

	memset(s, 0, sizeof(*s));
	if (seg >= VSEG_COUNT)
		return -EINVAL;
	err = vmx_focus(v);
	if (err < 0)
		return err;
	s->base = vmx_read(VMCS_GUEST_BASE(seg));
	s->limit = (u32)vmx_read(VMCS_GUEST_LIMIT(seg));
	if (seg >= VSEG_GDTR)
		return 0;
	s->selector = (u16)vmx_read(VMCS_GUEST_SELECTOR(seg));
	ar = (u32)vmx_read(VMCS_GUEST_AR(seg));
	s->attr = (u16)((ar & AR_LOW) | (ar & AR_HIGH) >> 4);
	if ((ar & AR_UNUSABLE) != 0)
		s->attr &= (u16)~VSEG_ATTR_P;
	return 0;
}

int vmx_set_seg(struct vcpu *v, enum vseg seg, const struct vsegment *s)
{
	int err;

	if (seg >= VSEG_COUNT)
		return -EINVAL;
	err = vmx_focus(v);
	if (err == 0)
		write_seg(seg, s);
	return err;
}

/*
 * The guest's MOV CR8 changes the TPR of the virtual-APIC page without an exit. It
 * has the upper four bits; the lower four matter only to a reader of the register.
 */
void vmx_sync_tpr(struct vcpu *v)
{
	u8 tpr = *vmx_vcpu(v)->tpr & 0xf0;

	if ((vlapic_tpr(&v->lapic) & 0xf0) != tpr)
		vlapic_set_tpr_hw(&v->lapic, tpr);
}

void vmx_load_tpr(struct vcpu *v)
{
	*vmx_vcpu(v)->tpr = vlapic_tpr(&v->lapic);
}
