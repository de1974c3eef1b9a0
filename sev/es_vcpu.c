/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/svm/svm.h"
#include "arch/x86/vcpu_state.h"
#include "core/errno.h"
#include "core/heap.h"
#include "core/log.h"
#include "core/pmm.h"
#include "core/string.h"
#include "sev/es.h"
#include "sev/es_hooks.h"
#include "sev/ghcb.h"
#include "sev/vmsa.h"

/* An SEV-ES vCPU beside what each vCPU has: control block, reset, start-up, what may be seen. */

/* One MSR bitmap for all of them: what VMRUN switches is the guest's own, and beyond the
 * hypervisor's reach. */
static paddr_t msrpm;
#define MSRPM_ORDER 1

static const u32 own_msrs[] = {
	MSR_EFER, MSR_PAT, MSR_DEBUGCTL, MSR_LASTBRANCHFROMIP, MSR_LASTBRANCHTOIP,
	MSR_LASTINTFROMIP, MSR_LASTINTTOIP, MSR_GHCB, MSR_SEV_STATUS,
};

static int make_msrpm(void)
{
	u8 *map;

	if (msrpm != 0)
		return 0;
	msrpm = alloc_pages(MSRPM_ORDER, 0);
	if (msrpm == 0)
		return -ENOMEM;
	map = phys_to_virt(msrpm);
	svm_msrpm_fill(map);
	for (size_t i = 0; i < ARRAY_SIZE(own_msrs); i++)
		svm_msrpm_open(map, own_msrs[i], true);
	if (sev_facts.tsc_aux)
		svm_msrpm_open(map, MSR_TSC_AUX, true);
	return 0;
}

/*
 * What the hypervisor could not emulate must not be intercepted: XSETBV, control
 * registers, IRET (that would be #VC in the #VC handler). The traps tell what
 * would be hidden otherwise. All else is #VC in the guest (APM vol. 2, 15.35.4).
 */
static void set_intercepts(struct vmcb *b)
{
	b->intercept_cr = 0;
	b->intercept_dr = BIT32(7) | BIT32(16 + 7);
	b->intercept3 &= ~(VMCB_I3_TASK_SWITCH | VMCB_I3_FERR_FREEZE | VMCB_I3_IRET |
			   VMCB_I3_VINTR);
	b->intercept4 = (b->intercept4 & ~VMCB_I4_XSETBV) | VMCB_I4_EFER_TRAP |
			VMCB_I4_CR_TRAP(0) | VMCB_I4_CR_TRAP(4) | VMCB_I4_CR_TRAP(8);
}

int es_vcpu_init(struct vcpu *v)
{
	struct vmcb *b = svm_vmcb(v);
	struct es_vcpu *es = heap_alloc(sizeof(*es));
	paddr_t copy = alloc_pages(ORDER_4K, ALLOC_ZERO);
	paddr_t vmsa = alloc_pages(ORDER_4K, ALLOC_ZERO);

	if (es == NULL || copy == 0 || vmsa == 0 || make_msrpm() < 0) {
		heap_free(es);
		if (copy != 0)
			free_pages(copy, ORDER_4K);
		if (vmsa != 0)
			free_pages(vmsa, ORDER_4K);
		return -ENOMEM;
	}
	es->copy = phys_to_virt(copy);
	es->vmsa = vmsa;
	es->ghcb_msr = &b->ghcb_gpa;
	v->es = es;
	v->trap_protected = true;
	set_intercepts(b);
	b->msrpm_base = machine_pa(msrpm);
	b->np_control = VMCB_NP_ENABLE | VMCB_SEV_ENABLE | VMCB_SEV_ES_ENABLE;
	b->lbr_control = VMCB_LBR_ENABLE; /* SEV-ES guests need it: APM vol. 2, 15.35.2 */
	b->vmsa_pa = vmsa;                /* plain address: the CPU knows that it is encrypted */
	es_hook_intercepts(b);
	return 0;
}

void es_vcpu_destroy(struct vcpu *v)
{
	struct es_vcpu *es = v->es;

	if (es == NULL)
		return;
	free_pages(virt_to_phys(es->copy), ORDER_4K);
	if (es->vmsa != 0)
		free_pages(es->vmsa, ORDER_4K);
	heap_free(es);
	v->es = NULL;
}

/* Power on: the registers come with the launch that follows. INIT: they cannot be set. */
void es_vcpu_reset(struct vcpu *v, bool init)
{
	struct es_vcpu *es = v->es;
	struct vmcb *b = svm_vmcb(v);

	es->nmi_masked = false;
	if (init)
		return;
	memset(v->gpr, 0, sizeof(v->gpr));
	es->hold = ES_HOLD_NONE;
	es->wake = 0;
	es->version = 0;
	es->efer = 0;
	es->cr8 = 0;
	es->npf_count = 0;
	b->int_state = 0;
	b->eventinj = 0;
	b->vintr = VMCB_V_INTR_MASKING;
	b->intercept3 &= ~VMCB_I3_VINTR;
	b->clean = 0;
	ghcb_reset(v);
	vcpu_state_reset(v, false);
	__atomic_or_fetch(&v->hazards, HAZ_TLB, __ATOMIC_RELEASE);
}

int es_get_reg(struct vcpu *v, enum vreg reg, u64 *value)
{
	const struct es_vcpu *es = v->es;
	const struct vmcb *b = svm_vmcb(v);

	switch (reg) {
	case VREG_CR0: *value = es->cr0; return 0;
	case VREG_CR4: *value = es->cr4; return 0;
	case VREG_EFER: *value = es->efer; return 0;
	case VREG_TSC_OFFSET: *value = b->tsc_offset; return 0;
	case VREG_INT_SHADOW: *value = b->int_state & VMCB_INT_SHADOW; return 0;
	case VREG_RFLAGS: /* nothing but IF is to be seen */
		*value = (b->int_state & VMCB_INT_IF) != 0 ? RFLAGS_IF : 0;
		return 0;
	default: return -EACCES;
	}
}

int es_set_reg(struct vcpu *v, enum vreg reg, u64 value)
{
	if (reg != VREG_TSC_OFFSET)
		return -EACCES;
	vmcb_set_tsc_offset(svm_vmcb(v), value);
	return 0;
}

void es_print_regs(const struct vcpu *v)
{
	const struct es_vcpu *es = v->es;

	log_printf("%s: protected: SEV-ES hides its registers; its writes were seen to\n"
		   "cr0 %08lx  cr4 %08lx  cr8 %x  efer %04lx\n", v->vm->name, es->cr0, es->cr4,
		   es->cr8, es->efer);
}

/*
 * After INIT the vCPU waits, and goes on where it was. Its APs' firmware or system
 * has it in reset hold by then; that is what a start-up IPI ends, and its vector
 * means nothing: the first one starts the VMSA of the launch, later ones a jump
 * through the AP jump table (GHCB specification, 4.3).
 */
void es_take_sipi(struct vcpu *v)
{
	if (v->es->hold != ES_HOLD_NONE)
		v->es->wake = 2;
	else if (v->state != VCPU_WAIT_SIPI)
		return;
	v->halted = false;
	v->state = VCPU_ON;
}
