/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/lapic.h"
#include "arch/x86/percpu.h"
#include "arch/x86/svm/svm.h"
#include "arch/x86/traps.h"

/*
 * Events for the guest (APM vol. 2, 15.20 and 15.21). One event fits into
 * EVENTINJ at an entry; for what must wait a window is opened:
 *
 * - an interrupt: V_IRQ with the VINTR intercept, which exits as soon as IF,
 *   interrupt shadow and TPR allow it, without an exit before;
 * - an NMI in an NMI handler: the IRET intercept, then a single step over IRET;
 * - an NMI in an interrupt shadow: a single step.
 */

#define DR6_BS BIT(14)
#define DR6_HITS 0xfUL
/* What IRET or a stepped instruction can raise must end the step. */
#define STEP_EXCEPTIONS 0xffffffffU

static void set_hazard(struct vcpu *v, u32 bits)
{
	__atomic_or_fetch(&v->hazards, bits, __ATOMIC_RELAXED);
}

static u64 event_word(const struct vevent *e)
{
	static const u64 types[] = {
		[VEVENT_NONE] = 0,
		[VEVENT_INTR] = VMCB_EVENT_VALID | VMCB_EVENT_INTR,
		[VEVENT_NMI] = VMCB_EVENT_VALID | VMCB_EVENT_NMI,
		[VEVENT_EXCEPTION] = VMCB_EVENT_VALID | VMCB_EVENT_EXCEPTION,
		[VEVENT_SOFT_INT] = VMCB_EVENT_VALID | VMCB_EVENT_SOFT,
	};
	u64 w = e->type < ARRAY_SIZE(types) ? types[e->type] : 0;

	w |= e->vector;
	if (e->has_error)
		w |= VMCB_EVENT_ERROR | (u64)e->error << VMCB_EVENT_ERRCODE_SHIFT;
	return w;
}

/* --- single step ------------------------------------------------------------------------------ */

static void step_start(struct svm_vcpu *sv)
{
	struct vmcb *b = sv->vmcb;

	if (sv->step)
		return;
	sv->step = true;
	sv->step_tf = (b->rflags & RFLAGS_TF) != 0;
	b->rflags |= RFLAGS_TF;
	vmcb_set_intercept_exception(b, STEP_EXCEPTIONS);
	svm_irq_window_close(b);
}

static void step_stop(struct vcpu *v, bool restore_tf)
{
	struct svm_vcpu *sv = svm_vcpu(v);
	struct vmcb *b = sv->vmcb;

	sv->step = false;
	if (restore_tf)
		b->rflags = (b->rflags & ~RFLAGS_TF) | (sv->step_tf ? RFLAGS_TF : 0);
	vmcb_set_intercept_exception(b, SVM_EXCEPTIONS_ALWAYS);
	set_hazard(v, HAZ_NMI | HAZ_IRQ);
}

static void nmi_mask(struct svm_vcpu *sv)
{
	sv->nmi = SVM_NMI_MASKED;
	vmcb_set_intercept3(sv->vmcb, sv->vmcb->intercept3 | VMCB_I3_IRET);
}

/* The instruction did not complete: an IRET has not opened NMIs. */
static void step_abort(struct vcpu *v)
{
	step_stop(v, true);
	if (svm_vcpu(v)->nmi == SVM_NMI_IRET)
		nmi_mask(svm_vcpu(v));
}

bool svm_step_end(struct vcpu *v, u8 vector)
{
	struct svm_vcpu *sv = svm_vcpu(v);
	struct vmcb *b = sv->vmcb;
	bool iret = sv->nmi == SVM_NMI_IRET;

	/* A break point on the instruction itself comes before it: no BS. (A CPU that sets nothing at
	 * all in DR6, like Bochs's, has stepped.) */
	if (vector != VEC_DB || ((b->dr6 & DR6_BS) == 0 && (b->dr6 & DR6_HITS) != 0)) {
		step_abort(v);
		return true;
	}
	/* IRET has loaded the TF of where it returned to. */
	step_stop(v, !iret);
	if (iret)
		sv->nmi = SVM_NMI_OPEN;
	if (sv->step_tf || (b->dr6 & DR6_HITS) != 0)
		return true;
	vmcb_set_dr6(b, b->dr6 & ~DR6_BS);
	return false;
}

void svm_step_done(struct vcpu *v)
{
	step_stop(v, true);
}

/* --- interrupts ------------------------------------------------------------------------------- */

static inline bool irq_window_open(const struct vmcb *b)
{
	return (b->intercept3 & VMCB_I3_VINTR) != 0 || b->intercept_cr != 0;
}

void svm_irq_window_close(struct vmcb *b)
{
	if ((b->vintr & VMCB_V_IRQ) != 0)
		vmcb_set_vintr(b, b->vintr & ~(VMCB_V_IRQ | VMCB_V_IGN_TPR | VMCB_V_INTR_PRIO));
	if ((b->intercept3 & VMCB_I3_VINTR) != 0)
		vmcb_set_intercept3(b, b->intercept3 & ~VMCB_I3_VINTR);
	if (b->intercept_cr != 0)
		vmcb_set_intercept_cr(b, 0);
}

/*
 * Exit when the guest can take the vector. tpr: it is the TPR that holds it
 * back, so the CPU compares the priority; else TPR plays no part (an ExtINT
 * ignores it, and what is allowed now is looked at again anyhow).
 *
 * QEMU's TCG takes a priority that is equal to the TPR for higher, and up to
 * 10.0 it may abort when a guest writes CR8 while V_IRQ is set. There the write
 * to CR8 is intercepted for as long as something waits.
 */
static void irq_window(struct vmcb *b, int vector, bool tpr)
{
	u64 vintr = b->vintr & ~(VMCB_V_INTR_PRIO | VMCB_V_VECTOR | VMCB_V_IGN_TPR | VMCB_V_IRQ);

	if (svm.cr8_quirk)
		vmcb_set_intercept_cr(b, BIT32(SVM_EXIT_CR8_WRITE));
	if (svm.cr8_quirk && tpr) {
		vmcb_set_vintr(b, vintr);
		return;
	}
	vintr |= VMCB_V_IRQ | (tpr ? 0 : VMCB_V_IGN_TPR);
	vintr |= (u64)(u32)vector >> 4 << VMCB_V_INTR_PRIO_SHIFT;
	vmcb_set_vintr(b, vintr | (u64)(u32)vector << VMCB_V_VECTOR_SHIFT);
	vmcb_set_intercept3(b, b->intercept3 | VMCB_I3_VINTR);
}

static bool irq_open(const struct vmcb *b)
{
	return (b->rflags & RFLAGS_IF) != 0 && (b->int_state & VMCB_INT_SHADOW) == 0;
}

/* Is there anything at all that could be delivered, now or later? */
static inline bool irq_waits(const struct vcpu *v)
{
	return vlapic_waits(&v->lapic) ||
	       __atomic_load_n(&v->vm->platform.pic.intr, __ATOMIC_RELAXED);
}

/* Opens the window for what is to come next, or for what the TPR holds back; or closes it. */
static __attribute__((noinline)) void irq_wait(struct vcpu *v, struct vmcb *b)
{
	int vector = vcpu_irq_pending(v);
	bool tpr = vector < 0;

	if (tpr) {
		svm_irq_window_close(b);
		vector = vcpu_irq_blocked(v);
	}
	if (vector >= 0)
		irq_window(b, vector, tpr);
}

static inline void inject_irq(struct vcpu *v, const struct svm_vcpu *sv, struct vmcb *b)
{
	int vector;

	/* Before looking: a kick from here on is not lost. */
	vcpu_hazard_clear(v, HAZ_IRQ);
	if (unlikely(sv->step)) /* the end of the step brings it back */
		return;
	svm_take_tpr(v, b->vintr);
	if ((b->eventinj & VMCB_EVENT_VALID) != 0 || !irq_open(b)) {
		irq_wait(v, b);
		return;
	}
	if (unlikely(v->pv.eoi_armed))
		(void)vcpu_irq_pending(v);
	vector = vcpu_irq_accept(v);
	if (likely(vector >= 0))
		b->eventinj = VMCB_EVENT_VALID | VMCB_EVENT_INTR | (u64)(u32)vector;
	/* What is left is of lower priority and comes with EOI, unless the PIC has one too. */
	if (unlikely(vector < 0 || irq_waits(v)))
		irq_wait(v, b);
	else if (irq_window_open(b))
		svm_irq_window_close(b);
}

/* --- NMIs ------------------------------------------------------------------------------------- */

static void nmi_took_one(struct vcpu *v)
{
	if (__atomic_sub_fetch(&v->nmi_pending, 1, __ATOMIC_ACQ_REL) == 0)
		vcpu_hazard_clear(v, HAZ_NMI);
	/* One that came between the two lines has set the count again: look once more. */
	if (__atomic_load_n(&v->nmi_pending, __ATOMIC_ACQUIRE) != 0)
		set_hazard(v, HAZ_NMI);
}

static void inject_vnmi(struct vcpu *v, struct vmcb *b)
{
	/* One waits in the CPU; the next stays here, and with it the hazard. */
	if ((b->vintr & VMCB_V_NMI) != 0)
		return;
	vmcb_set_vintr(b, b->vintr | VMCB_V_NMI);
	nmi_took_one(v);
}

static void inject_nmi(struct vcpu *v, struct svm_vcpu *sv, struct vmcb *b)
{
	if (__atomic_load_n(&v->nmi_pending, __ATOMIC_ACQUIRE) == 0) {
		vcpu_hazard_clear(v, HAZ_NMI);
		return;
	}
	if (svm.vnmi) {
		inject_vnmi(v, b);
		return;
	}
	if (sv->nmi == SVM_NMI_IRET && b->rip != sv->nmi_rip && !sv->step)
		sv->nmi = SVM_NMI_OPEN;
	if (sv->nmi == SVM_NMI_MASKED || sv->step) {
		/* The IRET or the end of the step brings the hazard back. */
		vcpu_hazard_clear(v, HAZ_NMI);
		return;
	}
	if ((b->eventinj & VMCB_EVENT_VALID) != 0) {
		/* Back at once, when the other event has been delivered. */
		ipi_send(cpu_number(), VECTOR_KICK);
		return;
	}
	if (sv->nmi == SVM_NMI_IRET || (b->int_state & VMCB_INT_SHADOW) != 0) {
		vcpu_hazard_clear(v, HAZ_NMI);
		step_start(sv);
		return;
	}
	b->eventinj = VMCB_EVENT_VALID | VMCB_EVENT_NMI | VEC_NMI;
	nmi_mask(sv);
	nmi_took_one(v);
}

void svm_nmi_iret(struct vcpu *v)
{
	struct svm_vcpu *sv = svm_vcpu(v);

	vmcb_set_intercept3(sv->vmcb, sv->vmcb->intercept3 & ~VMCB_I3_IRET);
	sv->nmi = SVM_NMI_IRET;
	sv->nmi_rip = sv->vmcb->rip;
	if (__atomic_load_n(&v->nmi_pending, __ATOMIC_ACQUIRE) != 0)
		set_hazard(v, HAZ_NMI);
}

/* --- all -------------------------------------------------------------------------------------- */

static void inject_event(struct vcpu *v, struct svm_vcpu *sv, struct vmcb *b)
{
	vcpu_hazard_clear(v, HAZ_EVENT);
	if (v->event.type == VEVENT_NONE)
		return;
	/* The guest's saved RFLAGS must not show our TF. */
	if (sv->step)
		step_abort(v);
	b->eventinj = event_word(&v->event);
	/* With next-RIP save the CPU pushes nRIP for a software interrupt, else RIP. */
	if (v->event.type == VEVENT_SOFT_INT && svm.nrips)
		b->nrip = b->rip;
	v->event.type = VEVENT_NONE;
}

/* All hazards but a mere interrupt. */
static __attribute__((noinline)) void prepare_unusual(struct vcpu *v, struct vmcb *b, u32 h)
{
	if ((h & HAZ_TLB) != 0)
		svm_asid_flush(v);
	if ((h & HAZ_TPR) != 0) {
		vcpu_hazard_clear(v, HAZ_TPR);
		svm_load_tpr(v);
	}
	if ((h & HAZ_EVENT) != 0)
		inject_event(v, svm_vcpu(v), b);
	/* Not h: the event may have ended a step, which NMIs and interrupts have waited for. */
	if ((v->hazards & HAZ_NMI) != 0)
		inject_nmi(v, svm_vcpu(v), b);
	if ((h & (HAZ_TLB | HAZ_SVM_FLUSH)) != 0)
		svm_asid_enter(v);
}

/* Before an entry with hazards, and before the first. Non-zero: leave instead. GIF clear. */
u32 svm_prepare(struct vcpu *v)
{
	u32 h = __atomic_load_n(&v->hazards, __ATOMIC_ACQUIRE);

	if (unlikely((h & ~HAZ_IRQ) != 0)) {
		if ((h & HAZ_LEAVE) != 0)
			return 1;
		prepare_unusual(v, svm_vmcb(v), h);
		h = v->hazards;
	}
	if (likely((h & HAZ_IRQ) != 0))
		inject_irq(v, svm_vcpu(v), svm_vmcb(v));
	return 0;
}

/*
 * The event in EXITINTINFO has not been delivered (APM vol. 2, 15.7.2). Only the
 * valid bit says that there is one: the rest may be left over. Software
 * interrupts and INT3, INTO are not queued: RIP still is at the instruction,
 * which runs again.
 */
void svm_requeue(struct vcpu *v)
{
	const struct vmcb *b = svm_vmcb(v);
	u64 w = b->exitintinfo;
	u8 vector = w & VMCB_EVENT_VECTOR;
	u8 type;

	switch (w & VMCB_EVENT_TYPE) {
	case VMCB_EVENT_INTR: type = VEVENT_INTR; break;
	case VMCB_EVENT_NMI: type = VEVENT_NMI; break;
	case VMCB_EVENT_EXCEPTION: type = VEVENT_EXCEPTION; break;
	default: return;
	}
	if (type == VEVENT_EXCEPTION && (vector == 3 || vector == 4))
		return;
	v->event = (struct vevent){
		.type = type,
		.vector = vector,
		.has_error = (w & VMCB_EVENT_ERROR) != 0,
		.error = (u32)(w >> VMCB_EVENT_ERRCODE_SHIFT),
	};
	set_hazard(v, HAZ_EVENT);
}
