/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/lapic.h"
#include "arch/x86/msr.h"
#include "arch/x86/percpu.h"
#include "arch/x86/svm/svm.h"
#include "arch/x86/traps.h"
#include "arch/x86/vcpu_state.h"
#include "core/trace.h"
#include "sev/es.h"
#include "sev/es_entry.h"
#include "sev/es_hooks.h"
#include "sev/ghcb.h"
#include "sev/vmsa.h"

/*
 * The loop of an SEV-ES vCPU. The CPU keeps the guest's registers to itself and
 * loads the host's from the host save area; the exits that reach the hypervisor
 * are the automatic ones of APM vol. 2, table 15-33. RIP is never touched: it is
 * behind HLT, PAUSE, VMGEXIT and trapped writes already.
 */

#define HSAVE_STATE 0x400U /* where the save area begins in the host save area */

/* A nested fault that software can do nothing about would come back for ever. */
#define NPF_MAX 16U

/* --- events --- */

/* Only the guest's IF and the interrupt shadow are to be seen. */
static bool irq_open(const struct vmcb *b)
{
	return (b->int_state & (VMCB_INT_SHADOW | VMCB_INT_IF)) == VMCB_INT_IF;
}

/* The VINTR exit comes as soon as IF and shadow allow. TPR plays no part: its changes are seen. */
static void irq_window(struct vmcb *b, int vector)
{
	u64 vintr = b->vintr & ~(VMCB_V_VECTOR | VMCB_V_INTR_PRIO);

	vmcb_set_vintr(b, vintr | VMCB_V_IRQ | VMCB_V_IGN_TPR |
			  (u64)(u32)vector << VMCB_V_VECTOR_SHIFT);
	vmcb_set_intercept3(b, b->intercept3 | VMCB_I3_VINTR);
}

static void inject_irq(struct vcpu *v, struct vmcb *b)
{
	int vector;

	/* Before looking: a kick from here on is not lost. */
	vcpu_hazard_clear(v, HAZ_IRQ);
	vector = vcpu_irq_pending(v);
	if (vector >= 0 && (b->eventinj & VMCB_EVENT_VALID) == 0 && irq_open(b)) {
		vector = vcpu_irq_accept(v);
		if (vector >= 0)
			b->eventinj = VMCB_EVENT_VALID | VMCB_EVENT_INTR | (u64)(u32)vector;
		vector = vcpu_irq_pending(v);
	}
	if (vector >= 0)
		irq_window(b, vector);
	else
		svm_irq_window_close(b);
}

/*
 * The end of the guest's handler cannot be observed; the guest says it (GHCB
 * event NMI complete). An interrupt shadow does not hold an NMI back: whether it is
 * that of STI or of MOV SS, hardware may take an NMI there.
 */
static void inject_nmi(struct vcpu *v, struct vmcb *b)
{
	if (v->es->nmi_masked || __atomic_load_n(&v->nmi_pending, __ATOMIC_ACQUIRE) == 0) {
		vcpu_hazard_clear(v, HAZ_NMI);
		return;
	}
	if ((b->eventinj & VMCB_EVENT_VALID) != 0) {
		/* Back at once, when the other event has been delivered. */
		ipi_send(cpu_number(), VECTOR_KICK);
		return;
	}
	b->eventinj = VMCB_EVENT_VALID | VMCB_EVENT_NMI | VEC_NMI;
	if (es_hook(ES_HOOK_SOFT_INT))
		b->eventinj = VMCB_EVENT_VALID | VMCB_EVENT_SOFT | 0x80;
	if (es_hook(ES_HOOK_VECTOR3))
		b->eventinj = VMCB_EVENT_VALID | VMCB_EVENT_EXCEPTION | 3;
	v->es->nmi_masked = true;
	/* What still waits comes back with the guest's word. */
	vcpu_hazard_clear(v, HAZ_NMI);
	__atomic_sub_fetch(&v->nmi_pending, 1, __ATOMIC_ACQ_REL);
}

/* Software interrupts and vectors 3 and 4 may not be injected (APM vol. 2, 15.35.8). */
static void inject_event(struct vcpu *v, struct vmcb *b)
{
	const struct vevent *e = &v->event;
	u64 w = VMCB_EVENT_VALID | e->vector;

	vcpu_hazard_clear(v, HAZ_EVENT);
	if (e->has_error)
		w |= VMCB_EVENT_ERROR | (u64)e->error << VMCB_EVENT_ERRCODE_SHIFT;
	if (e->type == VEVENT_EXCEPTION && e->vector != 3 && e->vector != 4)
		b->eventinj = w | VMCB_EVENT_EXCEPTION;
	else if (e->type == VEVENT_NMI)
		b->eventinj = w | VMCB_EVENT_NMI;
	else if (e->type == VEVENT_INTR)
		b->eventinj = w | VMCB_EVENT_INTR;
	v->event.type = VEVENT_NONE;
}

/* Non-zero: leave instead of entering. GIF clear. */
static u32 prepare(struct vcpu *v, struct vmcb *b)
{
	u32 h = __atomic_load_n(&v->hazards, __ATOMIC_ACQUIRE);

	if ((h & HAZ_LEAVE) != 0)
		return 1;
	if ((h & HAZ_TLB) != 0)
		svm_asid_flush(v);
	if ((h & HAZ_TPR) != 0) {
		vcpu_hazard_clear(v, HAZ_TPR);
		svm_load_tpr(v);
		v->es->cr8 = b->vintr & VMCB_V_TPR;
	}
	if ((h & HAZ_EVENT) != 0)
		inject_event(v, b);
	if ((h & HAZ_NMI) != 0)
		inject_nmi(v, b);
	if ((h & HAZ_IRQ) != 0)
		inject_irq(v, b);
	if ((h & (HAZ_TLB | HAZ_SVM_FLUSH)) != 0)
		svm_asid_enter(v);
	return 0;
}

/* --- exits --- */

static u32 dispatch(struct vcpu *v, enum vexit_kind kind)
{
	v->exit.kind = kind;
	v->exit.insn_len = 0;
	v->exits[kind]++;
	return vcpu_dispatch(v);
}

static u32 fatal(struct vcpu *v, const struct vmcb *b, const char *why)
{
	v->exit.fatal = (struct vexit_fatal){ why, b->exitcode, b->exitinfo1, b->exitinfo2 };
	return dispatch(v, VEXIT_FATAL);
}

/* CR8 has the upper four bits of the TPR. */
static void cr8_written(struct vcpu *v, struct vmcb *b, u64 value)
{
	v->es->cr8 = value & VMCB_V_TPR;
	vmcb_set_vintr(b, (b->vintr & ~VMCB_V_TPR_BYTE) | v->es->cr8);
	vlapic_set_tpr_hw(&v->lapic, (u8)(v->es->cr8 << 4));
	__atomic_or_fetch(&v->hazards, HAZ_IRQ, __ATOMIC_RELAXED);
}

/* The register has the new value already, and it cannot be changed (APM vol. 2, 15.35.10). */
static u32 trap(struct vcpu *v, struct vmcb *b)
{
	struct es_vcpu *es = v->es;
	u64 value = b->exitinfo1;

	switch (b->exitcode) {
	case SVM_EXIT_EFER_TRAP:
		es->efer = value & ~EFER_SVME;
		break;
	case SVM_EXIT_CR0_TRAP:
		es->cr0 = value;
		/* LMA follows without a write. */
		es->efer &= ~EFER_LMA;
		if ((value & CR0_PG) != 0 && (es->efer & EFER_LME) != 0)
			es->efer |= EFER_LMA;
		if (es_hook(ES_HOOK_CR0))
			vmcb_set_cr0(b, value ^ CR0_WP);
		break;
	case SVM_EXIT_CR0_TRAP + 4:
		es->cr4 = value;
		break;
	default:
		cr8_written(v, b, value);
		break;
	}
	if (unlikely(trace_flags != 0))
		trace_event(v->vm->id, v->id, TRACE_ES_TRAP, (u32)b->exitcode, value);
	v->exits[VEXIT_NOTHING]++;
	return VRESULT_RETRY;
}

/*
 * Devices' addresses are no case here: their faults are the guest's (es_vm_map()).
 * All RAM is mapped at all times, so this is a write to the ROM or a fetch or walk
 * where nothing is; once may be a translation that was about to be flushed.
 */
static u32 nested_fault(struct vcpu *v, struct vmcb *b)
{
	struct es_vcpu *es = v->es;

	v->exits[VEXIT_MMIO]++;
	if (es->npf_gpa != b->exitinfo2)
		es->npf_count = 0;
	es->npf_gpa = b->exitinfo2;
	if (++es->npf_count < NPF_MAX)
		return VRESULT_RETRY;
	vcpu_fatal(v, "no progress: nested page fault at 0x%lx for ever (info 0x%lx)", b->exitinfo2,
		   b->exitinfo1);
	return VRESULT_LEAVE;
}

static u32 window(struct vcpu *v, enum vexit_kind kind)
{
	v->exits[kind]++;
	svm_gif_window(); /* the host's TR and stacks are in place */
	return VRESULT_RETRY;
}

static u32 vintr(struct vcpu *v, struct vmcb *b)
{
	v->exits[VEXIT_WINDOW]++;
	svm_irq_window_close(b);
	__atomic_or_fetch(&v->hazards, HAZ_IRQ, __ATOMIC_RELAXED);
	return VRESULT_RETRY;
}

/* A code that is none of these would have been #VC in the guest. */
static __attribute__((noinline)) u32 other_exit(struct vcpu *v, struct vmcb *b)
{
	switch (b->exitcode) {
	case SVM_EXIT_INTR:
	case SVM_EXIT_SMI:
	case SVM_EXIT_INIT:
		return window(v, VEXIT_INTERRUPT);
	case SVM_EXIT_NMI:
		return window(v, VEXIT_NMI);
	case SVM_EXIT_VINTR:
		return vintr(v, b);
	case SVM_EXIT_PAUSE:
		svm_pause_intercept(b, false);
		return dispatch(v, VEXIT_PAUSE);
	case SVM_EXIT_HLT:
		return dispatch(v, VEXIT_HLT);
	case SVM_EXIT_EFER_TRAP:
	case SVM_EXIT_CR0_TRAP:
	case SVM_EXIT_CR0_TRAP + 4:
	case SVM_EXIT_CR0_TRAP + 8:
		return trap(v, b);
	case SVM_EXIT_NPF:
		return nested_fault(v, b);
	case SVM_EXIT_EXCP_MC:
		return dispatch(v, VEXIT_MCE);
	case SVM_EXIT_SHUTDOWN: /* nothing of it can be used again: 15.35.8 */
		if (es_hook(ES_HOOK_AFTER_SHUTDOWN) && v->es->npf_count++ < 3)
			return VRESULT_RETRY;
		return dispatch(v, VEXIT_SHUTDOWN);
	default:
		break;
	}
	if ((u32)b->exitcode == SVM_EXIT_INVALID)
		return fatal(v, b, "VMRUN refused the guest's state");
	return fatal(v, b, "unexpected exit");
}

/* GIF clear. Non-zero: leave. */
static u32 handle_exit(struct vcpu *v, struct vmcb *b)
{
	u32 result;

	/* From here on the writers of the VMCB say what is no longer as the CPU knows it. */
	b->clean = svm.clean;
	if (unlikely((b->exitintinfo & VMCB_EVENT_VALID) != 0))
		svm_requeue(v);
	if (likely(b->exitcode == SVM_EXIT_VMGEXIT))
		result = ghcb_vmgexit(v);
	else
		result = other_exit(v, b);
	return result & VRESULT_LEAVE;
}

/* --- run --- */

/*
 * What #VMEXIT loads and VMRUN has not saved (swap type B: APM vol. 2, 15.35.9);
 * general registers are stored at each entry. PKRU, XSS and CET are not used by
 * the host: the page has zeros. x87 and SSE come back as after reset: no state of
 * anybody is in them then (vcpu_state_load()).
 */
static struct vmsa *fill_host_save(const struct svm_cpu *c)
{
	struct vmsa *s = (struct vmsa *)((u8 *)phys_to_virt(c->pages) + HSAVE_STATE);

	svm_vmsave(c->hsave);
	s->xcr0 = cpu_features.xsave ? xgetbv(0) : 1;
	s->tsc_aux = (u32)vcpu_state_tsc_aux();
	return s;
}

static inline void enter(paddr_t vmcb_pa, struct vmsa *host)
{
#ifdef ES_TEST_HOOKS
	es_hook_enter(vmcb_pa, host);
#else
	if (svm.guarded)
		es_enter_guarded(vmcb_pa, host);
	else
		es_enter(vmcb_pa, host);
#endif
}

void es_run(struct vcpu *v)
{
	struct svm_vcpu *sv = svm_vcpu(v);
	u8 *last = &v->vm->es->last[cpu_number()];
	struct vmsa *host;

	vcpu_state_load(v);
	/* RFLAGS.IF stays set: host interrupts wait for GIF, and end guest mode. */
	svm_clgi();
	host = fill_host_save(svm_this_cpu());
	/* The ASID is the VM's: another vCPU's translations are not for this one. */
	if (*last != v->id + 1) {
		*last = (u8)(v->id + 1);
		sv->flush = !es_hook(ES_HOOK_NO_FLUSH);
	}
	svm_asid_load(v);
	svm_pause_intercept(sv->vmcb, true);
	if (v->es->hold != ES_HOLD_NONE) {
		v->es->wake = MAX(v->es->wake, 1);
		ghcb_hold_end(v);
	}
	do {
		if (__atomic_load_n(&v->hazards, __ATOMIC_ACQUIRE) != 0 && prepare(v, sv->vmcb) != 0)
			break;
		enter(sv->vmcb_pa, host);
	} while (handle_exit(v, sv->vmcb) == 0);
	svm_stgi();
}
