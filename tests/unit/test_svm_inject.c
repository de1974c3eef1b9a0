/* SPDX-License-Identifier: BSD-2-Clause */
// sources: arch/x86/svm/inject.c arch/x86/svm/asid.c arch/x86/decode.c
/* Events, interrupt and NMI windows, and ASIDs, with hand-made control blocks. */
#include "svm_mock.h"

void svm_load_tpr(struct vcpu *v) { }

#define B (&mock.vmcb)
#define V (&mock.v)

static void inject(void)
{
	B->eventinj = 0; /* as the CPU leaves it */
	assert_int_equal(svm_prepare(V), 0);
}

static void request(int vector)
{
	mock.irr = vector;
	V->hazards |= HAZ_IRQ;
	inject();
}

static bool window_open(void)
{
	return (B->vintr & VMCB_V_IRQ) != 0 && (B->intercept3 & VMCB_I3_VINTR) != 0;
}

static void test_irq(void **state)
{
	request(0x55);
	assert_int_equal(mock.accepted, 0x55);
	assert_int_equal(B->eventinj, VMCB_EVENT_VALID | 0x55);
	assert_false(window_open());
	assert_int_equal(V->hazards, 0);
}

/* The LAPIC's vector is taken, the PIC's waits: the window opens for it. */
static void test_second_irq(void **state)
{
	mock.next = 0x30;
	V->vm->platform.pic.intr = true;
	request(0x55);
	assert_int_equal(mock.accepted, 0x55);
	assert_true(window_open());

	mock_setup(NULL);
	mock.next = 0x30;
	V->lapic.irr_words = 2;
	request(0x55);
	assert_true(window_open());
}

static void test_irq_window(void **state)
{
	B->rflags &= ~RFLAGS_IF;
	request(0x55);
	assert_int_equal(mock.accepted, -1);
	assert_int_equal(B->eventinj, 0);
	assert_true(window_open());
	assert_int_equal(B->clean & (VMCB_CLEAN_TPR | VMCB_CLEAN_I), 0);
	assert_int_equal(V->hazards, 0);
	/* Taken back by its sender: the window goes. */
	mock.irr = -1;
	V->hazards = HAZ_IRQ;
	inject();
	assert_false(window_open());
	/* A shadow does the same. */
	B->rflags |= RFLAGS_IF;
	B->int_state = 1;
	request(0x55);
	assert_true(window_open());
	/* Open: injected, and the window closed. */
	B->int_state = 0;
	V->hazards = HAZ_IRQ;
	inject();
	assert_int_equal(mock.accepted, 0x55);
	assert_false(window_open());
}

static void test_tpr_window(void **state)
{
	B->vintr |= 5;
	request(0x55);
	assert_int_equal(mock.accepted, -1);
	assert_true(window_open());
	assert_int_equal((B->vintr & VMCB_V_INTR_PRIO) >> 16, 5);
	assert_int_equal(B->vintr & VMCB_V_IGN_TPR, 0);
	assert_int_equal(B->vintr & VMCB_V_TPR, 5);
	assert_int_equal(B->intercept_cr, 0);
}

/* Where V_IRQ is not exact, MOV to CR8 is watched instead. */
static void test_tpr_window_quirk(void **state)
{
	svm.cr8_quirk = true;
	B->vintr |= 6;
	request(0x55);
	assert_int_equal(B->vintr & VMCB_V_IRQ, 0);
	assert_int_equal(B->intercept_cr, BIT32(0x18));
	B->vintr &= ~VMCB_V_TPR;
	V->hazards = HAZ_IRQ;
	inject();
	assert_int_equal(mock.accepted, 0x55);
	assert_int_equal(B->intercept_cr, 0);
}

static void test_exception_and_irq(void **state)
{
	V->event = (struct vevent){ VEVENT_EXCEPTION, VEC_PF, true, 0x15 };
	V->hazards = HAZ_EVENT;
	request(0x55);
	assert_int_equal(B->eventinj, 0x15UL << 32 | 1UL << 31 | 1UL << 11 | 3UL << 8 | 14);
	assert_int_equal(mock.accepted, -1);
	assert_true(window_open());
	assert_int_equal(V->event.type, VEVENT_NONE);
	assert_int_equal(V->hazards, 0);
}

static void test_soft_int(void **state)
{
	V->event = (struct vevent){ .type = VEVENT_SOFT_INT, .vector = 0x80 };
	V->hazards = HAZ_EVENT;
	inject();
	assert_int_equal(B->eventinj, 1UL << 31 | 4UL << 8 | 0x80);
	assert_int_equal(B->nrip, 0x1000);
}

static void test_nmi(void **state)
{
	V->nmi_pending = 1;
	V->hazards = HAZ_NMI;
	inject();
	assert_int_equal(B->eventinj, 1UL << 31 | 2UL << 8 | 2);
	assert_int_equal(V->nmi_pending, 0);
	assert_int_equal(V->hazards, 0);
	assert_true((B->intercept3 & VMCB_I3_IRET) != 0);
	/* The next one waits for IRET ... */
	V->nmi_pending = 1;
	V->hazards = HAZ_NMI;
	inject();
	assert_int_equal(B->eventinj, 0);
	assert_int_equal(V->hazards, 0);
	/* ... and then for its end: one step with TF. */
	B->rip = 0x2000;
	svm_nmi_iret(V);
	assert_int_equal(B->intercept3 & VMCB_I3_IRET, 0);
	assert_int_equal(V->hazards, HAZ_NMI);
	inject();
	assert_int_equal(B->eventinj, 0);
	assert_true((B->rflags & RFLAGS_TF) != 0);
	assert_true(mock.sv.step);
	/* The step is over: TF is what IRET has loaded, DR6 shows nothing of it. */
	B->rflags &= ~RFLAGS_TF;
	B->rip = 0x3000;
	B->dr6 = 0xffff4ff0;
	assert_false(svm_step_end(V, VEC_DB));
	assert_int_equal(B->dr6, 0xffff0ff0);
	assert_int_equal(B->intercept_exception, SVM_EXCEPTIONS_ALWAYS);
	inject();
	assert_int_equal(B->eventinj, 1UL << 31 | 2UL << 8 | 2);
	assert_int_equal(V->nmi_pending, 0);
}

/* No NMI waits at IRET: no step, and the next one goes in as soon as RIP has moved on. */
static void test_nmi_after_iret(void **state)
{
	mock.sv.nmi = SVM_NMI_MASKED;
	B->intercept3 = VMCB_I3_IRET;
	svm_nmi_iret(V);
	assert_int_equal(V->hazards, 0);
	B->rip = 0x3000;
	V->nmi_pending = 1;
	V->hazards = HAZ_NMI;
	inject();
	assert_int_equal(B->eventinj, 1UL << 31 | 2UL << 8 | 2);
	assert_false(mock.sv.step);
}

static void start_iret_step(void)
{
	mock.sv.nmi = SVM_NMI_IRET;
	mock.sv.nmi_rip = B->rip;
	V->nmi_pending = 1;
	V->hazards = HAZ_NMI;
	inject();
	assert_true(mock.sv.step);
}

/* IRET faults: the guest sees the fault without our TF, NMIs stay masked. */
static void test_iret_faults(void **state)
{
	start_iret_step();
	assert_true(svm_step_end(V, VEC_GP));
	assert_int_equal(B->rflags & RFLAGS_TF, 0);
	assert_int_equal(mock.sv.nmi, SVM_NMI_MASKED);
	assert_true((B->intercept3 & VMCB_I3_IRET) != 0);
}

/* The guest steps itself, or has hit a watch point: it gets its #DB. */
static void test_step_of_the_guest(void **state)
{
	B->rflags |= RFLAGS_TF;
	start_iret_step();
	B->dr6 = 0xffff4ff0;
	assert_true(svm_step_end(V, VEC_DB));
	assert_int_equal(B->dr6, 0xffff4ff0);

	/* IRET has returned to where the guest steps: TF stays. */
	mock_setup(NULL);
	start_iret_step();
	B->dr6 = 0xffff4ff0;
	assert_false(svm_step_end(V, VEC_DB));
	assert_true((B->rflags & RFLAGS_TF) != 0);

	mock_setup(NULL);
	start_iret_step();
	B->dr6 = 0xffff4ff1;
	assert_true(svm_step_end(V, VEC_DB));

	/* An instruction break point on IRET itself: it has not run. */
	mock_setup(NULL);
	start_iret_step();
	B->dr6 = 0xffff0ff1;
	assert_true(svm_step_end(V, VEC_DB));
	assert_int_equal(mock.sv.nmi, SVM_NMI_MASKED);
	assert_int_equal(B->rflags & RFLAGS_TF, 0);
}

/* A CPU that leaves DR6 alone at the intercept has stepped all the same. */
static void test_step_without_dr6(void **state)
{
	start_iret_step();
	B->dr6 = 0xffff0ff0;
	assert_false(svm_step_end(V, VEC_DB));
	assert_int_equal(mock.sv.nmi, SVM_NMI_OPEN);
}

/* While stepping nothing else is delivered, and an exception of ours ends the step first. */
static void test_step_holds_irqs(void **state)
{
	start_iret_step();
	request(0x55);
	assert_int_equal(mock.accepted, -1);
	assert_false(window_open());
	V->event = (struct vevent){ VEVENT_EXCEPTION, VEC_UD, false, 0 };
	V->hazards |= HAZ_EVENT;
	inject();
	assert_int_equal(B->eventinj & 0xff, VEC_UD);
	assert_int_equal(B->rflags & RFLAGS_TF, 0);
	assert_false(mock.sv.step);
	/* What the step has held back is looked at in the same preparation: no exit need follow. */
	assert_true(window_open());
	assert_int_equal(V->hazards, 0);
}

static void test_nmi_in_shadow(void **state)
{
	B->int_state = 1;
	V->nmi_pending = 1;
	V->hazards = HAZ_NMI;
	inject();
	assert_int_equal(B->eventinj, 0);
	assert_true(mock.sv.step);
	/* The instruction was completed by software. */
	B->int_state = 0;
	svm_step_done(V);
	assert_int_equal(B->rflags & RFLAGS_TF, 0);
	inject();
	assert_int_equal(B->eventinj & 0xff, VEC_NMI);
}

/* Two events at once: the NMI comes right behind, by an interrupt to ourselves. */
static void test_nmi_behind_event(void **state)
{
	V->event = (struct vevent){ VEVENT_EXCEPTION, VEC_UD, false, 0 };
	V->nmi_pending = 1;
	V->hazards = HAZ_EVENT | HAZ_NMI;
	inject();
	assert_int_equal(B->eventinj & 0xff, VEC_UD);
	assert_int_equal(mock.kicks, 1);
	assert_int_equal(V->hazards, HAZ_NMI);
	inject();
	assert_int_equal(B->eventinj & 0xff, VEC_NMI);
}

static void test_vnmi(void **state)
{
	svm.vnmi = true;
	V->nmi_pending = 2;
	V->hazards = HAZ_NMI;
	inject();
	assert_true((B->vintr & VMCB_V_NMI) != 0);
	assert_int_equal(V->nmi_pending, 1);
	assert_int_equal(B->intercept3, 0);
	/* The second waits until the CPU has taken the first. */
	inject();
	assert_int_equal(V->nmi_pending, 1);
	assert_int_equal(V->hazards, HAZ_NMI);
	B->vintr = (B->vintr & ~VMCB_V_NMI) | VMCB_V_NMI_MASK;
	inject();
	assert_int_equal(V->nmi_pending, 0);
	assert_int_equal(V->hazards, 0);
}

static void test_requeue(void **state)
{
	B->exitintinfo = 0x1234UL << 32 | 1UL << 31 | 1UL << 11 | 3UL << 8 | 13;
	svm_requeue(V);
	assert_int_equal(V->event.type, VEVENT_EXCEPTION);
	assert_int_equal(V->event.vector, 13);
	assert_true(V->event.has_error);
	assert_int_equal(V->event.error, 0x1234);
	assert_int_equal(V->hazards, HAZ_EVENT);
	inject();
	assert_int_equal(B->eventinj, 0x1234UL << 32 | 1UL << 31 | 1UL << 11 | 3UL << 8 | 13);

	B->exitintinfo = 1UL << 31 | 0x31;
	svm_requeue(V);
	assert_int_equal(V->event.type, VEVENT_INTR);
	B->exitintinfo = 1UL << 31 | 2UL << 8 | 2;
	svm_requeue(V);
	assert_int_equal(V->event.type, VEVENT_NMI);
}

/* RIP is still at the instruction: it runs again. */
static void test_requeue_software(void **state)
{
	static const u64 words[] = { 4UL << 8 | 0x80, 4UL << 8 | 3, 3UL << 8 | 3, 3UL << 8 | 4,
				     5UL << 8 | 1 };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		B->exitintinfo = 1UL << 31 | words[i];
		svm_requeue(V);
		assert_int_equal(V->event.type, VEVENT_NONE);
		assert_int_equal(V->hazards, 0);
	}
}

static void test_asid(void **state)
{
	svm.asids = 4; /* 1, 2, 3 */
	svm_asid_load(V);
	assert_int_equal(B->asid, 1);
	assert_int_equal(B->clean, 0);
	svm_asid_enter(V);
	assert_int_equal(B->tlb_control, VMCB_TLB_NOTHING);
	/* The same CPU again: nothing changes. */
	svm_asid_load(V);
	assert_int_equal(B->asid, 1);
	/* A flush is a new ASID. */
	V->hazards = HAZ_TLB;
	svm_asid_flush(V);
	assert_int_equal(B->asid, 2);
	assert_int_equal(V->hazards, 0);
	/* Another vCPU has been here and begun a new generation. */
	svm_asid_flush(V);
	svm_asid_flush(V);
	assert_int_equal(B->asid, 1);
	svm_asid_enter(V);
	assert_int_equal(B->tlb_control, VMCB_TLB_FLUSH_ALL);
	assert_int_equal(V->hazards, HAZ_SVM_FLUSH);
	svm_asid_enter(V);
	assert_int_equal(B->tlb_control, VMCB_TLB_NOTHING);
	assert_int_equal(V->hazards, 0);
	mock.cpu.asid_generation++;
	mock.cpu.asid_next = 3;
	svm_asid_load(V);
	assert_int_equal(B->asid, 3);
}

/* A rollover whose entry did not happen: whoever enters first on this CPU flushes. */
static void test_asid_flush_is_the_cpus(void **state)
{
	mock.cpu.asid_next = svm.asids;
	svm_asid_load(V);
	assert_int_equal(B->tlb_control, VMCB_TLB_NOTHING);
	assert_true(mock.cpu.flush_all);
	svm_asid_enter(V);
	assert_int_equal(B->tlb_control, VMCB_TLB_FLUSH_ALL);
	assert_false(mock.cpu.flush_all);
}

static void test_fixed_asid(void **state)
{
	mock.sv.fixed_asid = 7;
	svm_asid_load(V);
	assert_int_equal(B->asid, 7);
	svm_asid_enter(V);
	assert_int_equal(B->tlb_control, VMCB_TLB_FLUSH_ASID);
	svm_asid_enter(V);
	assert_int_equal(B->tlb_control, VMCB_TLB_NOTHING);
	svm.features = SVM_FEAT_NP;
	svm_asid_flush(V);
	svm_asid_enter(V);
	assert_int_equal(B->asid, 7);
	assert_int_equal(B->tlb_control, VMCB_TLB_FLUSH_ALL);
	/* Moved to another CPU. */
	svm_asid_enter(V);
	percpu.id = 1;
	svm_asid_load(V);
	svm_asid_enter(V);
	assert_int_equal(B->tlb_control, VMCB_TLB_FLUSH_ALL);
}

#define T(f) cmocka_unit_test_setup(f, mock_setup)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_irq), T(test_second_irq), T(test_irq_window), T(test_tpr_window), T(test_tpr_window_quirk),
		T(test_exception_and_irq), T(test_soft_int), T(test_nmi), T(test_nmi_after_iret),
		T(test_iret_faults), T(test_step_of_the_guest), T(test_step_holds_irqs), T(test_step_without_dr6),
		T(test_nmi_in_shadow), T(test_nmi_behind_event), T(test_vnmi), T(test_requeue),
		T(test_requeue_software), T(test_asid), T(test_asid_flush_is_the_cpus),
		T(test_fixed_asid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
