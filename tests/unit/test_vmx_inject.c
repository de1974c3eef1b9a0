/* SPDX-License-Identifier: BSD-2-Clause */
// sources: arch/x86/vmx/exits.c arch/x86/vmx/inject.c arch/x86/vmx/vcpu.c arch/x86/vmx/cr.c arch/x86/vmx/switch.c arch/x86/vmx/names.c
/* What goes in with an entry, what waits for a window, and what an exit has cut short. */
#include <stdlib.h>

#include "vmx_mock.h"

static u64 info(void) { return field(VMCS_ENTRY_INTR_INFO); }

static void prepare(u32 hazards)
{
	set_field(VMCS_ENTRY_INTR_INFO, 0); /* as the last exit left it */
	mock.v[0].hazards |= hazards;
	assert_int_equal(vmx_prepare(&mock.v[0], &mock.vx[0]), 0);
}

static void queue(u8 type, u8 vector, bool has_error, u32 error)
{
	mock.v[0].event = (struct vevent){ type, vector, has_error, error };
}

/* Encodings by SDM vol. 3, table 25-17. */
static void test_event(void **state)
{
	queue(VEVENT_EXCEPTION, 14, true, 6);
	prepare(HAZ_EVENT);
	assert_int_equal(info(), 0x80000b0e);
	assert_int_equal(field(VMCS_ENTRY_ERROR_CODE), 6);
	assert_int_equal(mock.v[0].hazards, 0);
	assert_int_equal(mock.v[0].event.type, VEVENT_NONE);
	queue(VEVENT_EXCEPTION, 6, false, 0);
	prepare(HAZ_EVENT);
	assert_int_equal(info(), 0x80000306);
	queue(VEVENT_INTR, 0x41, false, 0);
	prepare(HAZ_EVENT);
	assert_int_equal(info(), 0x80000041);
	queue(VEVENT_NMI, 2, false, 0);
	prepare(HAZ_EVENT);
	assert_int_equal(info(), 0x80000202);
	queue(VEVENT_SOFT_INT, 0x80, false, 0);
	set_field(VMCS_ENTRY_INSN_LEN, 5);
	prepare(HAZ_EVENT);
	assert_int_equal(info(), 0x80000480);
	assert_int_equal(field(VMCS_ENTRY_INSN_LEN), 0);
	/* Withdrawn meanwhile */
	prepare(HAZ_EVENT);
	assert_int_equal(info(), 0);
}

static void test_no_error_code_in_real_mode(void **state)
{
	set_field(VMCS_GUEST_CR0, CR0_NE);
	queue(VEVENT_EXCEPTION, 13, true, 0);
	prepare(HAZ_EVENT);
	assert_int_equal(info(), 0x8000030d);
}

static void test_redelivered_nmi(void **state)
{
	set_field(VMCS_GUEST_INTERRUPTIBILITY, INTERRUPTIBILITY_NMI);
	queue(VEVENT_NMI, 2, false, 0);
	prepare(HAZ_EVENT);
	assert_int_equal(info(), 0x80000202);
	assert_int_equal(field(VMCS_GUEST_INTERRUPTIBILITY), 0);
}

static void test_pending_step_in_a_shadow(void **state)
{
	set_field(VMCS_GUEST_INTERRUPTIBILITY, INTERRUPTIBILITY_MOV_SS);
	set_field(VMCS_GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_TF);
	queue(VEVENT_EXCEPTION, 1, false, 0);
	prepare(HAZ_EVENT);
	assert_int_equal(field(VMCS_GUEST_PENDING_DEBUG), BIT(14));
	mock_setup(NULL);
	set_field(VMCS_GUEST_INTERRUPTIBILITY, INTERRUPTIBILITY_MOV_SS);
	queue(VEVENT_EXCEPTION, 1, false, 0);
	prepare(HAZ_EVENT);
	assert_int_equal(field(VMCS_GUEST_PENDING_DEBUG), 0);
}

/* --- interrupts ------------------------------------------------------------------------------- */

static void test_irq(void **state)
{
	mock.irr = 0x51;
	prepare(HAZ_IRQ);
	assert_int_equal(info(), 0x80000051);
	assert_int_equal(mock.accepted, 0x51);
	assert_int_equal(mock.v[0].hazards, 0);
	assert_int_equal(mock.vx[0].proc & PROC_INTR_WINDOW, 0);
}

static void window_for(u64 rflags, u64 interruptibility)
{
	mock_setup(NULL);
	mock.irr = 0x51;
	set_field(VMCS_GUEST_RFLAGS, rflags);
	set_field(VMCS_GUEST_INTERRUPTIBILITY, interruptibility);
	prepare(HAZ_IRQ);
	assert_int_equal(info(), 0);
	assert_int_equal(mock.accepted, -1);
	assert_int_equal(field(VMCS_PROC_CTLS) & PROC_INTR_WINDOW, PROC_INTR_WINDOW);
}

static void test_irq_window(void **state)
{
	window_for(RFLAGS_FIXED1, 0);
	window_for(RFLAGS_FIXED1 | RFLAGS_IF, INTERRUPTIBILITY_STI);
	window_for(RFLAGS_FIXED1 | RFLAGS_IF, INTERRUPTIBILITY_MOV_SS);
	/* The window's exit, then the vector. */
	set_field(VMCS_GUEST_INTERRUPTIBILITY, 0);
	set_field(VMCS_EXIT_REASON, 7);
	assert_int_equal(vmx_exit(&mock.v[0], &mock.vx[0]), HAZ_IRQ);
	prepare(0);
	assert_int_equal(info(), 0x80000051);
	assert_int_equal(field(VMCS_PROC_CTLS) & PROC_INTR_WINDOW, 0);
}

/* An NMI handler takes interrupts when it opens them. */
static void test_irq_in_nmi_handler(void **state)
{
	set_field(VMCS_GUEST_INTERRUPTIBILITY, INTERRUPTIBILITY_NMI);
	mock.irr = 0x51;
	prepare(HAZ_IRQ);
	assert_int_equal(info(), 0x80000051);
}

static void test_irq_behind_event(void **state)
{
	mock.irr = 0x51;
	queue(VEVENT_EXCEPTION, 6, false, 0);
	prepare(HAZ_EVENT | HAZ_IRQ);
	assert_int_equal(info(), 0x80000306);
	assert_int_equal(mock.accepted, -1);
	assert_int_equal(field(VMCS_PROC_CTLS) & PROC_INTR_WINDOW, PROC_INTR_WINDOW);
}

static void test_tpr_threshold(void **state)
{
	*mock.vx[0].tpr = 0x60;
	mock.irr = 0x51;
	prepare(HAZ_IRQ);
	assert_int_equal(info(), 0);
	assert_int_equal(mock.tpr, 0x60); /* what the guest wrote by CR8 has arrived */
	assert_int_equal(field(VMCS_TPR_THRESHOLD), 5);
	assert_int_equal(mock.vx[0].proc & PROC_INTR_WINDOW, 0);
	/* It lowers it: the exit, then the vector and no more threshold. */
	*mock.vx[0].tpr = 0x40;
	set_field(VMCS_EXIT_REASON, 43);
	assert_int_equal(vmx_exit(&mock.v[0], &mock.vx[0]), HAZ_IRQ);
	prepare(0);
	assert_int_equal(info(), 0x80000051);
	assert_int_equal(field(VMCS_TPR_THRESHOLD), 0);
}

static void test_load_tpr(void **state)
{
	mock.v[0].lapic.tpr = 0x75;
	prepare(HAZ_TPR);
	assert_int_equal(*mock.vx[0].tpr, 0x75);
	assert_int_equal(mock.v[0].hazards, 0);
}

/* --- NMIs ------------------------------------------------------------------------------------- */

static void test_nmi(void **state)
{
	mock.v[0].nmi_pending = 1;
	prepare(HAZ_NMI);
	assert_int_equal(info(), 0x80000202);
	assert_int_equal(mock.v[0].nmi_pending, 0);
	assert_int_equal(mock.v[0].hazards, 0);
	prepare(HAZ_NMI); /* taken back */
	assert_int_equal(info(), 0);
	assert_int_equal(mock.v[0].hazards, 0);
}

static void nmi_waits(u64 interruptibility)
{
	mock_setup(NULL);
	mock.v[0].nmi_pending = 1;
	set_field(VMCS_GUEST_INTERRUPTIBILITY, interruptibility);
	prepare(HAZ_NMI);
	assert_int_equal(info(), 0);
	assert_int_equal(mock.v[0].nmi_pending, 1);
	assert_int_equal(mock.v[0].hazards, 0);
	assert_int_equal(field(VMCS_PROC_CTLS) & PROC_NMI_WINDOW, PROC_NMI_WINDOW);
}

static void test_nmi_window(void **state)
{
	nmi_waits(INTERRUPTIBILITY_STI);
	nmi_waits(INTERRUPTIBILITY_MOV_SS);
	nmi_waits(INTERRUPTIBILITY_NMI);
	set_field(VMCS_GUEST_INTERRUPTIBILITY, 0);
	set_field(VMCS_EXIT_REASON, 8);
	assert_int_equal(vmx_exit(&mock.v[0], &mock.vx[0]), HAZ_NMI);
	prepare(0);
	assert_int_equal(info(), 0x80000202);
	assert_int_equal(field(VMCS_PROC_CTLS) & PROC_NMI_WINDOW, 0);
}

static void test_two_nmis(void **state)
{
	mock.v[0].nmi_pending = 2;
	prepare(HAZ_NMI);
	assert_int_equal(mock.v[0].nmi_pending, 1);
	assert_int_equal(mock.v[0].hazards, HAZ_NMI);
}

/* NMI before interrupt; the interrupt waits. */
static void test_nmi_and_irq(void **state)
{
	mock.v[0].nmi_pending = 1;
	mock.irr = 0x51;
	prepare(HAZ_NMI | HAZ_IRQ);
	assert_int_equal(info(), 0x80000202);
	assert_int_equal(mock.accepted, -1);
	assert_int_equal(field(VMCS_PROC_CTLS) & PROC_INTR_WINDOW, PROC_INTR_WINDOW);
}

/* --- cut short -------------------------------------------------------------------------------- */

static void cut_short(u32 idt_info, u32 error)
{
	mock_setup(NULL);
	set_field(VMCS_IDT_INFO, idt_info);
	set_field(VMCS_IDT_ERROR_CODE, error);
	set_field(VMCS_EXIT_REASON, 1);
	vmx_exit(&mock.v[0], &mock.vx[0]);
}

static void test_requeue(void **state)
{
	const struct vevent *e = &mock.v[0].event;

	cut_short(0x80000041, 0);
	assert_int_equal(e->type, VEVENT_INTR);
	assert_int_equal(e->vector, 0x41);
	assert_int_equal(mock.v[0].hazards, HAZ_EVENT);
	cut_short(0x80000202, 0);
	assert_int_equal(e->type, VEVENT_NMI);
	cut_short(0x80000b0e, 7);
	assert_int_equal(e->type, VEVENT_EXCEPTION);
	assert_int_equal(e->vector, 14);
	assert_true(e->has_error);
	assert_int_equal(e->error, 7);
	cut_short(0x80000306, 7);
	assert_false(e->has_error);
	assert_int_equal(e->error, 0);
	/* INT n, INT1, INT3: run again. Not valid: nothing. */
	cut_short(0x80000480, 0);
	assert_int_equal(e->type, VEVENT_NONE);
	cut_short(0x80000501, 0);
	assert_int_equal(e->type, VEVENT_NONE);
	cut_short(0x80000603, 0);
	assert_int_equal(e->type, VEVENT_NONE);
	cut_short(0x00000041, 0);
	assert_int_equal(e->type, VEVENT_NONE);
	assert_int_equal(mock.v[0].hazards, 0);
}

/* A failed entry has delivered nothing; the field is left over from before. */
static void test_no_requeue_after_failed_entry(void **state)
{
	set_field(VMCS_IDT_INFO, 0x80000041);
	set_field(VMCS_EXIT_REASON, BIT32(31) | 33);
	vmx_exit(&mock.v[0], &mock.vx[0]);
	assert_int_equal(mock.v[0].event.type, VEVENT_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_event, mock_setup),
		cmocka_unit_test_setup(test_no_error_code_in_real_mode, mock_setup),
		cmocka_unit_test_setup(test_redelivered_nmi, mock_setup),
		cmocka_unit_test_setup(test_pending_step_in_a_shadow, mock_setup),
		cmocka_unit_test_setup(test_irq, mock_setup),
		cmocka_unit_test_setup(test_irq_window, mock_setup),
		cmocka_unit_test_setup(test_irq_in_nmi_handler, mock_setup),
		cmocka_unit_test_setup(test_irq_behind_event, mock_setup),
		cmocka_unit_test_setup(test_tpr_threshold, mock_setup),
		cmocka_unit_test_setup(test_load_tpr, mock_setup),
		cmocka_unit_test_setup(test_nmi, mock_setup),
		cmocka_unit_test_setup(test_nmi_window, mock_setup),
		cmocka_unit_test_setup(test_two_nmis, mock_setup),
		cmocka_unit_test_setup(test_nmi_and_irq, mock_setup),
		cmocka_unit_test_setup(test_requeue, mock_setup),
		cmocka_unit_test_setup(test_no_requeue_after_failed_entry, mock_setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
