/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/paging.h"
#include "arch/x86/svm/svm.h"
#include "arch/x86/vcpu_state.h"
#include "core/errno.h"
#include "core/heap.h"
#include "core/pmm.h"
#include "core/string.h"
#include "sev/es.h"

/* The vCPU's control block: creation, reset, and access to guest registers. */

#define CPL_OF(attr) ((u8)((attr) >> 5 & 3))

static void set_intercepts(struct vmcb *b)
{
	b->intercept_exception = SVM_EXCEPTIONS_ALWAYS;
	b->intercept3 = VMCB_I3_INTR | VMCB_I3_NMI | VMCB_I3_SMI | VMCB_I3_INIT | VMCB_I3_RDPMC |
			VMCB_I3_CPUID | VMCB_I3_INVD | VMCB_I3_PAUSE | VMCB_I3_HLT |
			VMCB_I3_INVLPGA | VMCB_I3_IOIO | VMCB_I3_MSR | VMCB_I3_TASK_SWITCH |
			VMCB_I3_FERR_FREEZE | VMCB_I3_SHUTDOWN;
	b->intercept4 = VMCB_I4_VMRUN | VMCB_I4_VMMCALL | VMCB_I4_VMLOAD | VMCB_I4_VMSAVE |
			VMCB_I4_STGI | VMCB_I4_CLGI | VMCB_I4_SKINIT | VMCB_I4_WBINVD |
			VMCB_I4_MONITOR | VMCB_I4_MWAIT | VMCB_I4_MWAIT_ARMED | VMCB_I4_XSETBV |
			VMCB_I4_RDPRU;
	b->intercept5 = VMCB_I5_INVLPGB | VMCB_I5_INVLPGB_ILLEGAL | VMCB_I5_MCOMMIT |
			VMCB_I5_TLBSYNC;
	/* One short wait is not worth an exit (APM vol. 2, 15.14.4). */
	if (svm.features & SVM_FEAT_PAUSE_FILTER)
		b->pause_count = 3000;
	if (svm.features & SVM_FEAT_PAUSE_THRESHOLD)
		b->pause_threshold = 128;
}

/*
 * Without the CPU's filter every PAUSE would exit. The first one of a run is
 * enough: either the CPU is given to another vCPU, or there is none that waits;
 * if one comes, its time slice ends this run.
 */
void svm_pause_intercept(struct vmcb *b, bool on)
{
	u32 want = on ? b->intercept3 | VMCB_I3_PAUSE : b->intercept3 & ~VMCB_I3_PAUSE;

	if ((svm.features & SVM_FEAT_PAUSE_FILTER) == 0 && want != b->intercept3)
		vmcb_set_intercept3(b, want);
}

int svm_vcpu_init(struct vcpu *v)
{
	struct svm_vcpu *sv = heap_alloc(sizeof(*sv));
	paddr_t pa = alloc_pages(ORDER_4K, ALLOC_ZERO);
	struct vmcb *b;

	if (sv == NULL || pa == 0 || vcpu_state_init(v) < 0) {
		heap_free(sv);
		if (pa != 0)
			free_pages(pa, ORDER_4K);
		return -ENOMEM;
	}
	b = phys_to_virt(pa);
	sv->vmcb = b;
	sv->vmcb_pa = machine_pa(pa);
	sv->cpu = ~0U;
	v->arch = sv;
	set_intercepts(b);
	b->iopm_base = machine_pa(svm.iopm);
	b->msrpm_base = machine_pa(svm.msrpm);
	b->np_control = VMCB_NP_ENABLE;
	b->n_cr3 = machine_pa(v->vm->npt.root);
	b->tsc_offset = v->tsc_offset;
	b->asid = svm.first_asid;
	return v->vm->es != NULL ? es_vcpu_init(v) : 0;
}

void svm_vcpu_destroy(struct vcpu *v)
{
	struct svm_vcpu *sv = v->arch;

	if (sv == NULL)
		return;
	es_vcpu_destroy(v);
	vcpu_state_destroy(v);
	free_pages(virt_to_phys(sv->vmcb), ORDER_4K);
	heap_free(sv);
	v->arch = NULL;
}

static const struct vmcb_seg reset_data = { .attr = 0x93, .limit = 0xffff };
static const struct vmcb_seg reset_code = {
	.selector = 0xf000, .attr = 0x9b, .limit = 0xffff, .base = 0xffff0000
};

static void reset_segments(struct vmcb *b)
{
	b->cs = reset_code;
	b->ds = b->es = b->fs = b->gs = b->ss = reset_data;
	b->gdtr = b->idtr = (struct vmcb_seg){ .limit = 0xffff };
	b->ldtr = (struct vmcb_seg){ .attr = 0x82, .limit = 0xffff };
	/* A 32-bit TSS: not every CPU enters long mode with the 16-bit one of table 14-1. */
	b->tr = (struct vmcb_seg){ .attr = 0x8b, .limit = 0xffff };
	b->cpl = 0;
}

/* What INIT leaves alone. */
static void reset_msrs(struct vmcb *b)
{
	b->g_pat = PAT_RESET;
	b->star = b->lstar = b->cstar = b->sfmask = b->kernel_gs_base = 0;
	b->sysenter_cs = b->sysenter_esp = b->sysenter_eip = 0;
}

void svm_vcpu_reset(struct vcpu *v, bool init)
{
	struct svm_vcpu *sv = v->arch;
	struct vmcb *b = sv->vmcb;
	u64 cache = init ? b->cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW;

	if (v->trap_protected) {
		es_vcpu_reset(v, init);
		return;
	}
	memset(v->gpr, 0, sizeof(v->gpr));
	v->gpr[GPR_RDX] = v->cpuid.basic[1].eax;
	reset_segments(b);
	if (!init)
		reset_msrs(b);
	b->cr0 = cache | CR0_ET;
	b->cr2 = b->cr3 = b->cr4 = 0;
	b->efer = EFER_SVME;
	b->dr6 = 0xffff0ff0;
	b->dr7 = 0x400;
	b->rflags = RFLAGS_FIXED1;
	b->rip = 0xfff0;
	b->rsp = b->rax = 0;
	b->debugctl = 0;
	b->int_state = 0;
	b->eventinj = 0;
	b->vintr = VMCB_V_INTR_MASKING | (svm.vnmi ? VMCB_V_NMI_ENABLE : 0);
	b->intercept3 &= ~(VMCB_I3_VINTR | VMCB_I3_IRET);
	b->intercept_cr = 0;
	b->intercept_exception = SVM_EXCEPTIONS_ALWAYS;
	b->clean = 0;
	sv->nmi = SVM_NMI_OPEN;
	sv->step = false;
	vcpu_state_reset(v, init);
	/* Translations of the time before must not live on. */
	__atomic_or_fetch(&v->hazards, HAZ_TLB, __ATOMIC_RELEASE);
}

/* VMLOAD's registers are in the CPU while v is in its loop: bring the VMCB up to date. */
static void pull(struct svm_vcpu *sv)
{
	if (sv->loaded)
		svm_vmsave(sv->vmcb_pa);
}

static void push(struct svm_vcpu *sv)
{
	if (sv->loaded)
		svm_vmload(sv->vmcb_pa);
}

/* A register that VMLOAD and VMSAVE move, or NULL. */
static inline u64 *vmload_reg(struct vmcb *b, enum vreg reg)
{
	switch (reg) {
	case VREG_STAR: return &b->star;
	case VREG_LSTAR: return &b->lstar;
	case VREG_CSTAR: return &b->cstar;
	case VREG_SFMASK: return &b->sfmask;
	case VREG_KERNEL_GS_BASE: return &b->kernel_gs_base;
	case VREG_SYSENTER_CS: return &b->sysenter_cs;
	case VREG_SYSENTER_ESP: return &b->sysenter_esp;
	case VREG_SYSENTER_EIP: return &b->sysenter_eip;
	default: return NULL;
	}
}

static u64 visible_rflags(const struct svm_vcpu *sv)
{
	u64 f = sv->vmcb->rflags;

	if (sv->step)
		f = (f & ~RFLAGS_TF) | (sv->step_tf ? RFLAGS_TF : 0);
	return f;
}

static u64 read_reg(struct vcpu *v, enum vreg reg)
{
	struct svm_vcpu *sv = v->arch;
	const struct vmcb *b = sv->vmcb;
	const u64 *p = vmload_reg(sv->vmcb, reg);

	if (p != NULL) {
		pull(sv);
		return *p;
	}
	switch (reg) {
	case VREG_RIP: return b->rip;
	case VREG_RSP: return b->rsp;
	case VREG_RFLAGS: return visible_rflags(sv);
	case VREG_CR0: return b->cr0;
	case VREG_CR2: return b->cr2;
	case VREG_CR3: return b->cr3;
	case VREG_CR4: return b->cr4;
	case VREG_EFER: return b->efer & ~EFER_SVME;
	case VREG_DR6: return b->dr6;
	case VREG_DR7: return b->dr7;
	case VREG_PAT: return b->g_pat;
	case VREG_DEBUGCTL: return b->debugctl;
	case VREG_INT_SHADOW: return b->int_state & VMCB_INT_SHADOW;
	case VREG_CPL: return b->cpl;
	case VREG_TSC_OFFSET: return b->tsc_offset;
	default: return 0;
	}
}

u32 svm_code_state(struct vcpu *v)
{
	const struct vmcb *b = svm_vmcb(v);
	bool code64 = (b->efer & EFER_LMA) != 0 && (b->cs.attr & VSEG_ATTR_L) != 0;

	return v->trap_protected ? VCODE_64 : b->cpl | (code64 ? VCODE_64 : 0);
}

int svm_get_reg(struct vcpu *v, enum vreg reg, u64 *value)
{
	*value = 0;
	if (v->trap_protected)
		return es_get_reg(v, reg, value);
	if (reg >= VREG_COUNT)
		return -EINVAL;
	*value = read_reg(v, reg);
	return 0;
}

static void write_rflags(struct svm_vcpu *sv, u64 value)
{
	sv->vmcb->rflags = value | RFLAGS_FIXED1;
	if (sv->step) {
		sv->step_tf = (value & RFLAGS_TF) != 0;
		sv->vmcb->rflags |= RFLAGS_TF;
	}
}

static void write_reg(struct vcpu *v, enum vreg reg, u64 value)
{
	struct svm_vcpu *sv = v->arch;
	struct vmcb *b = sv->vmcb;
	u64 *p = vmload_reg(b, reg);

	if (p != NULL) {
		pull(sv);
		*p = value;
		push(sv);
		return;
	}
	switch (reg) {
	case VREG_RIP: b->rip = value; break;
	case VREG_RSP: b->rsp = value; break;
	case VREG_RFLAGS: write_rflags(sv, value); break;
	case VREG_CR0: vmcb_set_cr0(b, value); break;
	case VREG_CR2: vmcb_set_cr2(b, value); break;
	case VREG_CR3: vmcb_set_cr3(b, value); break;
	case VREG_CR4: vmcb_set_cr4(b, value); break;
	case VREG_EFER: vmcb_set_efer(b, value | EFER_SVME); break;
	case VREG_DR6: vmcb_set_dr6(b, value); break;
	case VREG_DR7: vmcb_set_dr7(b, value); break;
	case VREG_PAT: vmcb_set_g_pat(b, value); break;
	case VREG_DEBUGCTL: vmcb_set_debugctl(b, value); break;
	case VREG_INT_SHADOW: b->int_state = value != 0 ? VMCB_INT_SHADOW : 0; break;
	case VREG_CPL:
		b->cpl = value & 3;
		b->clean &= ~VMCB_CLEAN_SEG;
		break;
	case VREG_TSC_OFFSET: vmcb_set_tsc_offset(b, value); break;
	default: break;
	}
}

int svm_set_reg(struct vcpu *v, enum vreg reg, u64 value)
{
	if (v->trap_protected)
		return es_set_reg(v, reg, value);
	if (reg >= VREG_COUNT)
		return -EINVAL;
	write_reg(v, reg, value);
	return 0;
}

/* The segment's place in the VMCB; *vmload: VMLOAD moves it. */
static struct vmcb_seg *seg_place(struct vmcb *b, enum vseg seg, bool *vmload)
{
	*vmload = seg == VSEG_FS || seg == VSEG_GS || seg == VSEG_LDTR || seg == VSEG_TR;
	switch (seg) {
	case VSEG_ES: return &b->es;
	case VSEG_CS: return &b->cs;
	case VSEG_SS: return &b->ss;
	case VSEG_DS: return &b->ds;
	case VSEG_FS: return &b->fs;
	case VSEG_GS: return &b->gs;
	case VSEG_LDTR: return &b->ldtr;
	case VSEG_TR: return &b->tr;
	case VSEG_GDTR: return &b->gdtr;
	case VSEG_IDTR: return &b->idtr;
	default: return NULL;
	}
}

int svm_get_seg(struct vcpu *v, enum vseg seg, struct vsegment *s)
{
	struct svm_vcpu *sv = v->arch;
	const struct vmcb_seg *p;
	bool vmload;

	memset(s, 0, sizeof(*s));
	if (v->trap_protected)
		return -EACCES;
	p = seg_place(sv->vmcb, seg, &vmload);
	if (p == NULL)
		return -EINVAL;
	if (vmload)
		pull(sv);
	s->selector = p->selector;
	s->attr = p->attr & 0xfff;
	s->limit = p->limit;
	s->base = p->base;
	return 0;
}

int svm_set_seg(struct vcpu *v, enum vseg seg, const struct vsegment *s)
{
	struct svm_vcpu *sv = v->arch;
	struct vmcb *b = sv->vmcb;
	struct vmcb_seg *p;
	bool vmload;

	if (v->trap_protected)
		return -EACCES;
	p = seg_place(b, seg, &vmload);
	if (p == NULL)
		return -EINVAL;
	if (vmload)
		pull(sv);
	*p = (struct vmcb_seg){ s->selector, s->attr & 0xfff, s->limit, s->base };
	if (vmload)
		push(sv);
	if (seg == VSEG_SS)
		b->cpl = CPL_OF(s->attr);
	b->clean &= ~(VMCB_CLEAN_SEG | VMCB_CLEAN_DT);
	return 0;
}

void svm_sync_tpr(struct vcpu *v)
{
	svm_take_tpr(v, svm_vmcb(v)->vintr);
}

void svm_load_tpr(struct vcpu *v)
{
	struct vmcb *b = svm_vmcb(v);

	vmcb_set_vintr(b, (b->vintr & ~VMCB_V_TPR_BYTE) | (u64)(vlapic_tpr(&v->lapic) >> 4));
}
