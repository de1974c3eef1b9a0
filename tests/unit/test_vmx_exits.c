/* SPDX-License-Identifier: BSD-2-Clause */
// sources: arch/x86/vmx/exits.c arch/x86/vmx/inject.c arch/x86/vmx/vcpu.c arch/x86/vmx/cr.c arch/x86/vmx/switch.c arch/x86/vmx/names.c
/* From VM exit to neutral exit and over the instruction, with hand-made control structures. */
#include <stdlib.h>

#include "vmx_mock.h"

static u32 do_exit(u32 reason, u64 qualification)
{
	set_field(VMCS_EXIT_REASON, reason);
	set_field(VMCS_EXIT_QUALIFICATION, qualification);
	return vmx_exit(&mock.v[0], &mock.vx[0]);
}

static void dispatched_as(u32 reason, enum vexit_kind kind)
{
	mock_setup(NULL);
	do_exit(reason, 0);
	assert_int_equal(mock.dispatched, 1);
	assert_int_equal(mock.seen.kind, kind);
	assert_int_equal(mock.v[0].exits[kind], 1);
}

/* SDM vol. 3, table C-1. */
static void test_kinds(void **state)
{
	static const u8 ud[] = { 11, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 36, 39, 50, 53, 59, 60,
				 63, 64, 65, 67, 68, 69, 70, 76, 77, 78, 79 };

	dispatched_as(2, VEXIT_SHUTDOWN);
	dispatched_as(9, VEXIT_TASK_SWITCH);
	dispatched_as(10, VEXIT_CPUID);
	dispatched_as(12, VEXIT_HLT);
	dispatched_as(13, VEXIT_WBINVD);
	dispatched_as(15, VEXIT_RDPMC);
	dispatched_as(18, VEXIT_HYPERCALL);
	dispatched_as(31, VEXIT_RDMSR);
	dispatched_as(32, VEXIT_WRMSR);
	dispatched_as(40, VEXIT_PAUSE);
	dispatched_as(54, VEXIT_WBINVD);
	dispatched_as(55, VEXIT_XSETBV);
	for (size_t i = 0; i < ARRAY_SIZE(ud); i++)
		dispatched_as(ud[i], VEXIT_UD);
}

/* INIT and SIPI of the machine: the guest hears nothing of them. */
static void test_signals(void **state)
{
	for (u32 reason = 3; reason <= 4; reason++) {
		mock_setup(NULL);
		mock.v[0].hazards = HAZ_RESCHED;
		assert_int_equal(do_exit(reason, 0), HAZ_RESCHED);
		assert_int_equal(mock.dispatched + mock.handlers + mock.writes, 0);
		assert_int_equal(mock.v[0].exits[VEXIT_INTERRUPT], 1);
	}
}

/* Whatever is not asked for ends the VM with the numbers in the report. */
static void test_fatal(void **state)
{
	static const u32 codes[] = { 5, 6, 14, 16, 29, 35, 37, 38, 42, 44, 45, 46, 47, 49, 51, 52,
				     56, 57, 58, 61, 62, 66, 71, 72, 73, 74, 75, 80, 255, 0xffff,
				     BIT32(31) | 33, BIT32(31) | 34, BIT32(31) | 41 };

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		mock_setup(NULL);
		set_field(VMCS_GUEST_PA, 0x22);
		do_exit(codes[i], 0x11);
		assert_int_equal(mock.seen.kind, VEXIT_FATAL);
		assert_int_equal(mock.seen.fatal.code, codes[i]);
		assert_int_equal(mock.seen.fatal.info1, 0x11);
		assert_int_equal(mock.seen.fatal.info2, 0x22);
		assert_non_null(mock.seen.fatal.why);
	}
}

static void test_names(void **state)
{
	for (u64 code = 0; code < 0x200; code++) {
		assert_non_null(vmx_exit_name(code));
		assert_non_null(vmx_error_name(code));
	}
	assert_string_equal(vmx_exit_name(0), "EXCEPTION_NMI");
	assert_string_equal(vmx_exit_name(10), "CPUID");
	assert_string_equal(vmx_exit_name(28), "CR_ACCESS");
	assert_string_equal(vmx_exit_name(35), "unknown");
	assert_string_equal(vmx_exit_name(48), "EPT_VIOLATION");
	assert_string_equal(vmx_exit_name(55), "XSETBV");
	assert_string_equal(vmx_exit_name(70), "ENCLV");
	assert_string_equal(vmx_exit_name(79), "WRMSRLIST");
	assert_string_equal(vmx_exit_name(BIT32(31) | 33), "BAD_GUEST_STATE");
	assert_string_equal(vmx_error_name(7), "invalid control field");
	assert_string_equal(vmx_error_name(8), "invalid host-state field");
	assert_string_equal(vmx_error_name(28), "invalid operand to INVEPT or INVVPID");
	assert_string_equal(vmx_error_name(29), "unknown error");
}

/* --- CPUID ------------------------------------------------------------------------------------- */

static u32 cpuid_at(u64 rip)
{
	set_field(VMCS_GUEST_RIP, rip);
	mock.v[0].gpr[GPR_RAX] = 0xffffffff00000002UL;
	mock.reads = mock.writes = mock.dispatched = 0;
	return do_exit(10, 0);
}

static void cpuid_setup(void)
{
	mock.v[0].cpuid.basic[2] = (struct cpuid_entry){ 1, 2, 3, 4 };
	mock.result = VRESULT_ADVANCE;
	set_field(VMCS_EXIT_INSN_LEN, 3); /* with a prefix */
}

/* The budget: 2 VMREADs, 1 VMWRITE, no MSR, from the second time on at the same place. */
static void test_cpuid_fast(void **state)
{
	struct vcpu *v = &mock.v[0];

	cpuid_setup();
	assert_int_equal(cpuid_at(0x1000), 0);
	assert_int_equal(mock.reads, 5);
	assert_int_equal(mock.writes, 1);
	assert_int_equal(field(VMCS_GUEST_RIP), 0x1003);
	assert_int_equal(cpuid_at(0x1000), 0);
	assert_int_equal(mock.reads, 2);
	assert_int_equal(mock.writes, 1);
	assert_int_equal(mock.rdmsrs + mock.wrmsrs, 0);
	assert_int_equal(mock.dispatched, 0);
	assert_int_equal(field(VMCS_GUEST_RIP), 0x1003);
	assert_int_equal(v->gpr[GPR_RAX], 1);
	assert_int_equal(v->gpr[GPR_RBX], 2);
	assert_int_equal(v->gpr[GPR_RCX], 3);
	assert_int_equal(v->gpr[GPR_RDX], 4);
	assert_int_equal(v->exits[VEXIT_CPUID], 2);
	/* Elsewhere all is looked at; while tracing, or for other leaves, core is asked. */
	set_field(VMCS_EXIT_INSN_LEN, 2);
	assert_int_equal(cpuid_at(0x2000), 0);
	assert_int_equal(mock.reads, 5);
	assert_int_equal(field(VMCS_GUEST_RIP), 0x2002);
	trace_flags = 1;
	cpuid_at(0x2000);
	assert_int_equal(mock.dispatched, 1);
	trace_flags = 0;
	v->cpuid.basic_dyn |= 1U << 2;
	cpuid_at(0x2000);
	assert_int_equal(mock.dispatched, 1);
}

/* What was found at one exit holds for the next CPUID only if that is the next event. */
static void test_cpuid_is_looked_at_after_all_else(void **state)
{
	static const u32 others[] = { 0, 1, 7, 12, 18, 28, 30, 32, 48 };

	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		mock_setup(NULL);
		cpuid_setup();
		cpuid_at(0x1000);
		cpuid_at(0x1000);
		assert_int_equal(mock.reads, 2);
		mock.result = VRESULT_RETRY;
		do_exit(others[i], 0);
		/* Meanwhile there is other code at that address. */
		mock.result = VRESULT_ADVANCE;
		set_field(VMCS_EXIT_INSN_LEN, 2);
		cpuid_at(0x1000);
		assert_int_equal(mock.reads, 5);
		assert_int_equal(field(VMCS_GUEST_RIP), 0x1002);
	}
	/* An event goes in, or the loop is left: its handler may have changed all. */
	mock_setup(NULL);
	cpuid_setup();
	cpuid_at(0x1000);
	assert_int_equal(vmx_prepare(&mock.v[0], &mock.vx[0]), 0);
	cpuid_at(0x1000);
	assert_int_equal(mock.reads, 5);
}

static void test_cpuid_single_step(void **state)
{
	struct vcpu *v = &mock.v[0];

	cpuid_setup();
	cpuid_at(0x1000);
	do_exit(1, 0); /* something else in between */
	set_field(VMCS_GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_TF);
	assert_int_equal(cpuid_at(0x1000), HAZ_EVENT);
	assert_int_equal(v->event.type, VEVENT_EXCEPTION);
	assert_int_equal(v->event.vector, 1);
	assert_int_equal(mock.dr6 & BIT(14), BIT(14));
	assert_int_equal(field(VMCS_GUEST_RIP), 0x1003);
	/* A guest that has used it once: nothing is taken for known any more. */
	set_field(VMCS_GUEST_RFLAGS, RFLAGS_FIXED1);
	v->hazards = 0;
	for (u32 i = 0; i < 3; i++) {
		assert_int_equal(cpuid_at(0x1000), 0);
		assert_int_equal(mock.reads, 5);
	}
	set_field(VMCS_GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_TF);
	assert_int_equal(cpuid_at(0x1000), HAZ_EVENT);

	/* The same after a #DB that the CPU raised. */
	mock_setup(NULL);
	cpuid_setup();
	set_field(VMCS_EXIT_INTR_INFO, INTR_VALID | INTR_TYPE_HW_EXCEPTION | 1);
	mock.result = VRESULT_RETRY;
	do_exit(0, BIT(14));
	mock.result = VRESULT_ADVANCE;
	cpuid_at(0x1000);
	cpuid_at(0x1000);
	assert_int_equal(mock.reads, 5);
}

/* The shadow of STI or MOV SS ends with CPUID, or an interrupt would come an instruction late. */
static void test_cpuid_in_a_shadow(void **state)
{
	cpuid_setup();
	set_field(VMCS_GUEST_INTERRUPTIBILITY, INTERRUPTIBILITY_STI);
	cpuid_at(0x1000);
	assert_int_equal(field(VMCS_GUEST_INTERRUPTIBILITY), 0);
	assert_int_equal(field(VMCS_GUEST_RIP), 0x1003);
	/* While one waits for the guest, each exit looks; else it cannot be missed. */
	mock.vx[0].proc = PROC_INTR_WINDOW;
	cpuid_at(0x1000);
	cpuid_at(0x1000);
	assert_int_equal(mock.reads, 5);
	set_field(VMCS_GUEST_INTERRUPTIBILITY, INTERRUPTIBILITY_STI);
	cpuid_at(0x1000);
	assert_int_equal(field(VMCS_GUEST_INTERRUPTIBILITY), 0);
	mock.vx[0].proc = PROC_NMI_WINDOW;
	cpuid_at(0x1000);
	cpuid_at(0x1000);
	assert_int_equal(mock.reads, 5);
	/* RIP has 32 bits outside 64-bit code. */
	set_field(VMCS_GUEST_AR(VSEG_CS), 0xc09b);
	cpuid_at(0xfffffffe);
	assert_int_equal(field(VMCS_GUEST_RIP), 1);
}

static void test_step_over(void **state)
{
	struct vcpu *v = &mock.v[0];

	mock.result = VRESULT_ADVANCE;
	set_field(VMCS_EXIT_INSN_LEN, 2);
	set_field(VMCS_GUEST_INTERRUPTIBILITY, INTERRUPTIBILITY_STI | INTERRUPTIBILITY_NMI);
	do_exit(13, 0);
	assert_int_equal(field(VMCS_GUEST_RIP), 0x1002);
	assert_int_equal(field(VMCS_GUEST_INTERRUPTIBILITY), INTERRUPTIBILITY_NMI);
	assert_int_equal(v->hazards, 0);

	/* The handler's own length wins; an EPT violation has none from the CPU. */
	mock.set_len = 7;
	do_exit(13, 0);
	assert_int_equal(field(VMCS_GUEST_RIP), 0x1009);
	mock.set_len = 0;
	mock.length_at_rip = 5;
	do_exit(48, QUAL_EPT_LINEAR | QUAL_EPT_TRANSLATED | QUAL_EPT_READ);
	assert_int_equal(field(VMCS_GUEST_RIP), 0x100e);

	set_field(VMCS_GUEST_RFLAGS, RFLAGS_FIXED1 | RFLAGS_TF);
	do_exit(13, 0);
	assert_int_equal(v->event.type, VEVENT_EXCEPTION);
	assert_int_equal(v->event.vector, 1);
	assert_int_equal(mock.dr6 & BIT(14), BIT(14));
	assert_int_equal(v->hazards, HAZ_EVENT);
}

static void test_rip_wraps_outside_64_bit_code(void **state)
{
	mock.result = VRESULT_ADVANCE;
	set_field(VMCS_EXIT_INSN_LEN, 2);
	set_field(VMCS_GUEST_RIP, 0xffffffff);
	do_exit(13, 0);
	assert_int_equal(field(VMCS_GUEST_RIP), 0x100000001UL);
	set_field(VMCS_GUEST_RIP, 0xffffffff);
	set_field(VMCS_GUEST_AR(VSEG_CS), 0xc09b);
	do_exit(13, 0);
	assert_int_equal(field(VMCS_GUEST_RIP), 1);
}

static void test_host_events(void **state)
{
	set_field(VMCS_EXIT_INTR_INFO, INTR_VALID | INTR_TYPE_EXT | 0xf1);
	mock.v[0].hazards = HAZ_RESCHED;
	assert_int_equal(do_exit(1, 0), HAZ_RESCHED);
	assert_int_equal(mock.handlers, 1);
	assert_int_equal(mock.handler, 0x10f1);
	assert_int_equal(mock.v[0].exits[VEXIT_INTERRUPT], 1);

	set_field(VMCS_EXIT_INTR_INFO, INTR_VALID | INTR_TYPE_NMI | 2);
	do_exit(0, 0);
	assert_int_equal(mock.handlers, 2);
	assert_int_equal(mock.handler, 0x1002);
	assert_int_equal(mock.v[0].exits[VEXIT_NMI], 1);
	assert_int_equal(mock.dispatched, 0);

	set_field(VMCS_EXIT_INTR_INFO, INTR_VALID | INTR_TYPE_HW_EXCEPTION | 18);
	do_exit(0, 0);
	assert_int_equal(mock.handlers, 3);
	assert_int_equal(mock.handler, 0x1012);
	assert_int_equal(mock.seen.kind, VEXIT_MCE);

	/* Without the valid bit there is no vector to be believed. */
	set_field(VMCS_EXIT_INTR_INFO, 0x40);
	do_exit(1, 0);
	assert_int_equal(mock.handlers, 3);
}

static void test_exceptions(void **state)
{
	set_field(VMCS_EXIT_INTR_INFO, INTR_VALID | INTR_ERROR_CODE | INTR_TYPE_HW_EXCEPTION | 17);
	set_field(VMCS_EXIT_ERROR_CODE, 0);
	do_exit(0, 0);
	assert_int_equal(mock.seen.kind, VEXIT_EXCEPTION);
	assert_int_equal(mock.seen.exc.vector, 17);
	assert_true(mock.seen.exc.has_error);

	/* #DB: DR6 and DR7.GD are ours to complete. */
	mock.dr6 = 0xffff0ff3;
	set_field(VMCS_GUEST_DR7, 0x2400);
	set_field(VMCS_EXIT_INTR_INFO, INTR_VALID | INTR_TYPE_HW_EXCEPTION | 1);
	do_exit(0, 0x4004);
	assert_int_equal(mock.dr6, 0xffff4ff4);
	assert_int_equal(field(VMCS_GUEST_DR7), 0x400);
	assert_int_equal(field(VMCS_GUEST_RIP), 0x1000);

	/* INT1 goes on behind itself and leaves DR6 alone. */
	mock.dr6 = 0xffff0ff0;
	set_field(VMCS_EXIT_INSN_LEN, 1);
	set_field(VMCS_EXIT_INTR_INFO, INTR_VALID | INTR_TYPE_PRIV_SW_EXCEPTION | 1);
	do_exit(0, 0);
	assert_int_equal(mock.dr6, 0xffff0ff0);
	assert_int_equal(field(VMCS_GUEST_RIP), 0x1001);
}

static void test_iret_keeps_nmis_closed(void **state)
{
	set_field(VMCS_EXIT_INTR_INFO, INTR_VALID | INTR_NMI_UNBLOCKED | INTR_ERROR_CODE |
		  INTR_TYPE_HW_EXCEPTION | 17);
	do_exit(0, 0);
	assert_int_equal(field(VMCS_GUEST_INTERRUPTIBILITY), INTERRUPTIBILITY_NMI);
	/* Not for a double fault, nor when an event was on its way. */
	mock_setup(NULL);
	set_field(VMCS_EXIT_INTR_INFO, INTR_VALID | INTR_NMI_UNBLOCKED | INTR_TYPE_HW_EXCEPTION | 8);
	do_exit(0, 0);
	assert_int_equal(field(VMCS_GUEST_INTERRUPTIBILITY), 0);
	mock_setup(NULL);
	do_exit(48, QUAL_EPT_LINEAR | QUAL_EPT_TRANSLATED | QUAL_EPT_READ | QUAL_EPT_NMI_UNBLOCKED);
	assert_int_equal(field(VMCS_GUEST_INTERRUPTIBILITY), INTERRUPTIBILITY_NMI);
}

static void test_io(void **state)
{
	const struct vexit_io *io = &mock.seen.io;

	do_exit(30, 0x03f80008 | 0); /* in, 1 byte */
	assert_int_equal(mock.seen.kind, VEXIT_IO);
	assert_int_equal(io->port, 0x3f8);
	assert_int_equal(io->size, 1);
	assert_true(io->in && !io->string && !io->rep);
	do_exit(30, 0x0cf80003); /* out, 4 bytes */
	assert_int_equal(io->port, 0xcf8);
	assert_int_equal(io->size, 4);
	assert_true(!io->in);
	/* REP OUTSW FS:, 32-bit addresses (SDM vol. 3, table 28-8) */
	set_field(VMCS_EXIT_INSN_INFO, 1 << 7 | 4 << 15);
	do_exit(30, 0x01f00031);
	assert_true(io->string && io->rep && !io->in);
	assert_int_equal(io->size, 2);
	assert_int_equal(io->addr_size, 4);
	assert_int_equal(io->seg, VSEG_FS);
	/* A CPU that says nothing: the decoder will. */
	vmx.io_info = false;
	do_exit(30, 0x01f00031);
	assert_int_equal(io->addr_size, 8);
	assert_int_equal(io->seg, VSEG_COUNT);
	set_field(VMCS_GUEST_AR(VSEG_CS), 0xc09b);
	do_exit(30, 0x01f00031);
	assert_int_equal(io->addr_size, 4);
}

static void test_ept_violation(void **state)
{
	u64 plain = QUAL_EPT_LINEAR | QUAL_EPT_TRANSLATED;

	set_field(VMCS_GUEST_PA, 0xfee00020);
	do_exit(48, plain | QUAL_EPT_READ);
	assert_int_equal(mock.seen.kind, VEXIT_MMIO);
	assert_int_equal(mock.seen.mmio.gpa, 0xfee00020);
	assert_int_equal(mock.seen.mmio.access, VACCESS_READ);
	assert_int_equal(mock.seen.mmio.insn_len, 0);
	do_exit(48, plain | QUAL_EPT_READ | QUAL_EPT_WRITE);
	assert_int_equal(mock.seen.mmio.access, VACCESS_WRITE);
	do_exit(48, plain | QUAL_EPT_FETCH);
	assert_int_equal(mock.seen.mmio.access, VACCESS_EXEC);
	/* Its page tables, or a stack during an event's delivery */
	do_exit(48, QUAL_EPT_LINEAR | QUAL_EPT_READ);
	assert_int_equal(mock.seen.kind, VEXIT_FATAL);
	do_exit(48, QUAL_EPT_READ);
	assert_int_equal(mock.seen.kind, VEXIT_FATAL);
	set_field(VMCS_IDT_INFO, INTR_VALID | INTR_TYPE_EXT | 0x40);
	do_exit(48, plain | QUAL_EPT_WRITE);
	assert_int_equal(mock.seen.kind, VEXIT_FATAL);
}

static void test_windows(void **state)
{
	mock.vx[0].proc = PROC_INTR_WINDOW | PROC_NMI_WINDOW | PROC_HLT;
	assert_int_equal(do_exit(7, 0), HAZ_IRQ);
	assert_int_equal(field(VMCS_PROC_CTLS), PROC_NMI_WINDOW | PROC_HLT);
	assert_int_equal(do_exit(8, 0), HAZ_IRQ | HAZ_NMI);
	assert_int_equal(field(VMCS_PROC_CTLS), PROC_HLT);
	mock.v[0].hazards = 0;
	assert_int_equal(do_exit(43, 0), HAZ_IRQ);
	assert_int_equal(mock.dispatched, 0);
}

static void test_leave(void **state)
{
	mock.result = VRESULT_LEAVE;
	assert_int_equal(do_exit(12, 0), VMX_LEAVE);
	assert_int_equal(field(VMCS_GUEST_RIP), 0x1000);
}

/* Exit qualification of MOV to CRn from a register (SDM vol. 3, table 28-3). */
#define MOV_TO(cr, gpr) ((u64)(cr) | (u64)(gpr) << 8)

static bool mov_cr(u32 cr, u64 value)
{
	mock.v[0].gpr[GPR_RDX] = value;
	mock.v[0].event.type = VEVENT_NONE;
	set_field(VMCS_GUEST_RIP, 0x1000);
	set_field(VMCS_EXIT_INSN_LEN, 3);
	do_exit(28, MOV_TO(cr, GPR_RDX));
	if (field(VMCS_GUEST_RIP) == 0x1003) {
		assert_int_equal(mock.v[0].event.type, VEVENT_NONE);
		return true;
	}
	assert_int_equal(mock.v[0].event.vector, 13);
	return false;
}

static void test_mov_cr0(void **state)
{
	u64 base = CR0_PE | CR0_PG | CR0_NE, cr0;

	/* Cache control is kept from the machine and shown to the guest. */
	assert_true(mov_cr(0, base | CR0_CD | CR0_NW | CR0_WP));
	assert_int_equal(field(VMCS_GUEST_CR0), base | CR0_WP | CR0_ET);
	vmx_get_reg(&mock.v[0], VREG_CR0, &cr0);
	assert_int_equal(cr0, base | CR0_CD | CR0_NW | CR0_WP | CR0_ET);
	assert_true((mock.v[0].hazards & HAZ_VMX_FLUSH) != 0);
	/* NE is fixed, and still reads as written. */
	assert_true(mov_cr(0, CR0_PE | CR0_PG));
	assert_int_equal(field(VMCS_GUEST_CR0), base | CR0_ET);
	vmx_get_reg(&mock.v[0], VREG_CR0, &cr0);
	assert_int_equal(cr0, CR0_PE | CR0_PG | CR0_ET);

	assert_false(mov_cr(0, base | CR0_NW));
	assert_false(mov_cr(0, CR0_PG | CR0_CD));
	assert_false(mov_cr(0, base | BIT(32)));
	assert_false(mov_cr(0, CR0_PE)); /* paging off in 64-bit code */
	assert_int_equal(field(VMCS_GUEST_CR0), base | CR0_ET);
}

static void test_mov_cr0_long_mode(void **state)
{
	/* Out, from compatibility mode; then in again. */
	set_field(VMCS_GUEST_AR(VSEG_CS), 0xc09b);
	assert_true(mov_cr(0, CR0_PE | CR0_CD));
	assert_int_equal(field(VMCS_GUEST_EFER), EFER_LME);
	assert_int_equal(field(VMCS_ENTRY_CTLS), 0);
	assert_true(mov_cr(0, CR0_PE | CR0_PG));
	assert_int_equal(field(VMCS_GUEST_EFER), EFER_LME | EFER_LMA);
	assert_int_equal(field(VMCS_ENTRY_CTLS), ENTRY_IA32E);
	/* Not without PAE, nor with CS.L set. */
	assert_true(mov_cr(0, CR0_PE));
	set_field(VMCS_GUEST_CR4, CR4_VMXE | CR4_MCE);
	assert_false(mov_cr(0, CR0_PE | CR0_PG));
	set_field(VMCS_GUEST_CR4, CR4_PAE | CR4_VMXE | CR4_MCE);
	set_field(VMCS_GUEST_AR(VSEG_CS), 0xa09b);
	assert_false(mov_cr(0, CR0_PE | CR0_PG));
}

static void test_mov_cr0_pae(void **state)
{
	u64 pdptr[4] = { 0x1001, 0, 0x3001, 0x4001 };

	set_field(VMCS_GUEST_EFER, 0);
	set_field(VMCS_GUEST_AR(VSEG_CS), 0xc09b);
	set_field(VMCS_GUEST_CR0, CR0_PE | CR0_NE);
	set_field(VMCS_GUEST_CR3, 0x20);
	memcpy(mock.ram + 0x20, pdptr, sizeof(pdptr));
	assert_true(mov_cr(0, CR0_PE | CR0_PG));
	for (u32 i = 0; i < 4; i++)
		assert_int_equal(field(VMCS_GUEST_PDPTE(i)), pdptr[i]);
	/* A reserved bit, and a table that is not in RAM */
	set_field(VMCS_GUEST_CR0, CR0_PE | CR0_NE);
	mock.ram[0x20] = 3;
	assert_false(mov_cr(0, CR0_PE | CR0_PG));
	mock.ram[0x20] = 1;
	assert_true(mov_cr(0, CR0_PE | CR0_PG));
	set_field(VMCS_GUEST_CR0, CR0_PE | CR0_NE);
	set_field(VMCS_GUEST_CR3, 0x5000);
	assert_false(mov_cr(0, CR0_PE | CR0_PG));
	set_field(VMCS_GUEST_CR3, 0xff0); /* only half of it: aligned down it is 0xfe0, all of it */
	assert_true(mov_cr(0, CR0_PE | CR0_PG));
}

static void test_mov_cr4(void **state)
{
	u64 cr4;

	assert_true(mov_cr(4, CR4_PAE | CR4_MCE));
	vmx_get_reg(&mock.v[0], VREG_CR4, &cr4);
	assert_int_equal(cr4, CR4_PAE | CR4_MCE);
	assert_true(mov_cr(4, CR4_PAE | CR4_PGE));
	vmx_get_reg(&mock.v[0], VREG_CR4, &cr4);
	assert_int_equal(cr4, CR4_PAE | CR4_PGE);
	/* MCE and VMXE stay on in the machine. */
	assert_int_equal(field(VMCS_GUEST_CR4), CR4_PAE | CR4_PGE | CR4_VMXE | CR4_MCE);
	assert_false(mov_cr(4, CR4_PAE | CR4_VMXE));
	assert_false(mov_cr(4, CR4_PAE | CR4_LA57));
	assert_false(mov_cr(4, CR4_PAE | BIT(40)));
	assert_false(mov_cr(4, CR4_PGE)); /* PAE off in long mode */
	assert_true(mov_cr(4, CR4_PAE | CR4_PCIDE));
	assert_true(mov_cr(4, CR4_PAE));
	set_field(VMCS_GUEST_CR3, 1);
	assert_false(mov_cr(4, CR4_PAE | CR4_PCIDE));
}

static void test_cr_access_not_asked_for(void **state)
{
	static const u64 quals[] = { 3, 8, 0x10, 0x20, 0x30, 2 };

	for (size_t i = 0; i < ARRAY_SIZE(quals); i++) {
		mock_setup(NULL);
		do_exit(28, quals[i]);
		assert_int_equal(mock.seen.kind, VEXIT_FATAL);
	}
}

static void test_cr4_from_rsp_in_32_bit_code(void **state)
{
	set_field(VMCS_GUEST_EFER, 0);
	set_field(VMCS_GUEST_AR(VSEG_CS), 0xc09b);
	set_field(VMCS_GUEST_CR0, CR0_PE | CR0_NE);
	set_field(VMCS_EXIT_INSN_LEN, 3);
	set_field(VMCS_GUEST_RSP, 0xdead00000010UL);
	do_exit(28, MOV_TO(4, GPR_RSP));
	assert_int_equal(field(VMCS_CR4_SHADOW), CR4_PSE);
}

static void test_prepare_flushes(void **state)
{
	struct vcpu *v = &mock.v[0];

	assert_int_equal(vmx_prepare(v, &mock.vx[0]), 0);
	assert_int_equal(mock.invepts + mock.invvpids, 0);
	v->hazards = HAZ_TLB;
	assert_int_equal(vmx_prepare(v, &mock.vx[0]), 0);
	assert_int_equal(mock.invepts, 1);
	assert_int_equal(mock.invept_type, 1);
	assert_int_equal(mock.invept_eptp, 0x10000);
	assert_int_equal(v->hazards, 0);
	v->hazards = HAZ_VMX_FLUSH;
	mock.invvpids = 0;
	assert_int_equal(vmx_prepare(v, &mock.vx[0]), 0);
	assert_int_equal(mock.invepts, 1);
	assert_int_equal(mock.invvpids, 1);
	assert_int_equal(mock.invvpid_vpid, 1);
	/* No tags, no single-context form */
	vmx.vpid = false;
	vmx.ept_cap = EPT_CAP_INVEPT | EPT_CAP_INVEPT_ALL;
	v->hazards = HAZ_TLB | HAZ_VMX_FLUSH;
	assert_int_equal(vmx_prepare(v, &mock.vx[0]), 0);
	assert_int_equal(mock.invept_type, 2);
	assert_int_equal(mock.invvpids, 1);
	/* Leaving comes before all. */
	v->hazards = HAZ_TLB | HAZ_STOP;
	assert_int_equal(vmx_prepare(v, &mock.vx[0]), 1);
	assert_int_equal(v->hazards, HAZ_TLB | HAZ_STOP);
}

static void test_entry_failure(void **state)
{
	set_field(VMCS_INSN_ERROR, 7);
	vmx_entry_failed(&mock.v[0], &mock.vx[0]);
	assert_true(mock.fatal);
}

/* --- registers and segments -------------------------------------------------------------------- */

static void test_segments(void **state)
{
	struct vsegment s = { .selector = 0x10, .attr = 0xa9b, .limit = 0xffffffff, .base = 0x1234 }, r;

	assert_int_equal(vmx_set_seg(&mock.v[0], VSEG_CS, &s), 0);
	assert_int_equal(field(0x0802), 0x10);
	assert_int_equal(field(0x4816), 0xa09b); /* SDM vol. 3, table 25-2 */
	assert_int_equal(field(0x4802), 0xffffffff);
	assert_int_equal(field(0x6808), 0x1234);
	assert_int_equal(vmx_get_seg(&mock.v[0], VSEG_CS, &r), 0);
	assert_memory_equal(&s, &r, sizeof(s));
	/* Not present is what the VMCS calls unusable. */
	s.attr = 0;
	vmx_set_seg(&mock.v[0], VSEG_DS, &s);
	assert_int_equal(field(0x481a), BIT32(16));
	vmx_get_seg(&mock.v[0], VSEG_DS, &r);
	assert_int_equal(r.attr & VSEG_ATTR_P, 0);
	s = (struct vsegment){ .limit = 0x27, .base = 0x5000 };
	vmx_set_seg(&mock.v[0], VSEG_GDTR, &s);
	assert_int_equal(field(0x4810), 0x27);
	assert_int_equal(field(0x6816), 0x5000);
	assert_int_equal(vmx_set_seg(&mock.v[0], VSEG_COUNT, &s), -EINVAL);
	assert_int_equal(vmx_get_seg(&mock.v[0], VSEG_COUNT, &r), -EINVAL);
}

static void test_registers(void **state)
{
	static const struct {
		enum vreg reg;
		u32 field;
	} plain[] = { { VREG_RIP, 0x681e }, { VREG_RSP, 0x681c }, { VREG_CR3, 0x6802 },
		      { VREG_DR7, 0x681a }, { VREG_PAT, 0x2804 }, { VREG_SYSENTER_CS, 0x482a },
		      { VREG_SYSENTER_ESP, 0x6824 }, { VREG_SYSENTER_EIP, 0x6826 },
		      { VREG_DEBUGCTL, 0x2802 }, { VREG_TSC_OFFSET, 0x2010 } };
	struct vcpu *v = &mock.v[0];
	u64 value;

	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		assert_int_equal(vmx_set_reg(v, plain[i].reg, 0x500 + i), 0);
		assert_int_equal(field(plain[i].field), 0x500 + i);
		assert_int_equal(vmx_get_reg(v, plain[i].reg, &value), 0);
		assert_int_equal(value, 0x500 + i);
	}
	vmx_set_reg(v, VREG_RFLAGS, 0);
	assert_int_equal(field(VMCS_GUEST_RFLAGS), 2);
	vmx_set_reg(v, VREG_INT_SHADOW, 1);
	vmx_get_reg(v, VREG_INT_SHADOW, &value);
	assert_int_equal(value, 1);
	set_field(VMCS_GUEST_AR(VSEG_SS), 0xc0f3);
	vmx_get_reg(v, VREG_CPL, &value);
	assert_int_equal(value, 3);
	vmx_set_reg(v, VREG_EFER, EFER_LME | EFER_SCE);
	assert_int_equal(field(VMCS_ENTRY_CTLS), 0);
	/* CR2 is in the CPU while the vCPU runs. */
	vmx_set_reg(v, VREG_CR2, 0x77);
	assert_int_equal(mock.cr2, 0x77);
	mock.vx[0].running = false;
	mock.cr2 = 0x88;
	vmx_get_reg(v, VREG_CR2, &value);
	assert_int_equal(value, 0x77);
	assert_int_equal(vmx_get_reg(v, VREG_COUNT, &value), -EINVAL);
	assert_int_equal(vmx_set_reg(v, VREG_COUNT, 0), -EINVAL);
}

/* --- between CPUs -------------------------------------------------------------------------------- */

/* The mock fails the test when a VMCS is active in two places, or cleared in the wrong one. */
static void test_vmcs_moves(void **state)
{
	struct vcpu *v = &mock.v[0];

	mock.vx[0].running = false;
	mock.vx[0].launched = 1;
	on_cpu(1);
	assert_int_equal(vmx_load(v), 0);
	assert_int_equal(mock.active[0], 1);
	assert_int_equal(mock.vx[0].launched, 0);
	assert_int_equal(mock.loaded[0], -1);
	assert_true(mock.cpu[0].current == NULL && mock.cpu[1].current == &mock.vx[0]);
	/* Translations that this CPU may have kept die. */
	assert_int_equal(v->hazards & (HAZ_TLB | HAZ_VMX_FLUSH), HAZ_TLB | HAZ_VMX_FLUSH);
	v->hazards = 0;
	assert_int_equal(vmx_load(v), 0);
	assert_int_equal(v->hazards, 0);
	/* Another one on the same CPU and back: active all the time, nothing to launch anew. */
	mock.vx[0].launched = 1;
	assert_int_equal(vmx_load(&mock.v[1]), 0);
	assert_int_equal(vmx_load(v), 0);
	assert_int_equal(mock.vx[0].launched, 1);
	assert_int_equal(v->hazards, 0);
	vmx_evict(v);
	assert_int_equal(mock.active[0], -1);
	assert_int_equal(mock.vx[0].cpu, NO_CPU);
}

static void test_running_vmcs_is_not_taken(void **state)
{
	u64 value;

	on_cpu(1);
	assert_int_equal(vmx_get_reg(&mock.v[0], VREG_RIP, &value), -EBUSY);
	assert_int_equal(value, 0);
	assert_int_equal(mock.active[0], 0);
	assert_true(mock.cpu[0].current == &mock.vx[0]);
}

#define STAR_LOW (MSR_STAR & 0x1fff)
#define LSTAR_LOW (MSR_LSTAR & 0x1fff)

static void test_msrs_are_compared_first(void **state)
{
	/* vCPU 0's guest wrote its own, without an exit. */
	mock.msr[0][STAR_LOW] = 0x10;
	mock.msr[0][LSTAR_LOW] = 0x20;
	mock.vx[0].running = false;
	mock.vx[1].msr[VM_STAR] = 0x10;
	mock.vx[1].msr[VM_LSTAR] = 0x30;
	assert_int_equal(vmx_load(&mock.v[1]), 0);
	assert_int_equal(mock.wrmsrs, 1);
	assert_int_equal(mock.msr[0][LSTAR_LOW], 0x30);
	assert_int_equal(vmx_get_msr(&mock.v[0], VM_LSTAR), 0x20);
	assert_int_equal(vmx_get_msr(&mock.v[1], VM_LSTAR), 0x30);
	/* Back to back runs of one vCPU cost nothing. */
	mock.rdmsrs = mock.wrmsrs = 0;
	assert_int_equal(vmx_load(&mock.v[1]), 0);
	assert_int_equal(mock.rdmsrs + mock.wrmsrs, 0);
}

static void test_msrs_follow_the_vcpu(void **state)
{
	mock.msr[0][LSTAR_LOW] = 0x1234;
	mock.vx[0].running = false;
	on_cpu(1);
	assert_int_equal(vmx_load(&mock.v[0]), 0);
	assert_int_equal(mock.msr[1][LSTAR_LOW], 0x1234);
	assert_true(mock.cpu[0].msr_owner == NULL && mock.cpu[1].msr_owner == &mock.vx[0]);
	/* Written and read from elsewhere */
	on_cpu(0);
	vmx_set_msr(&mock.v[0], VM_LSTAR, 0x5678);
	assert_int_equal(vmx_get_msr(&mock.v[0], VM_LSTAR), 0x5678);
	on_cpu(1);
	assert_int_equal(vmx_load(&mock.v[0]), 0);
	assert_int_equal(mock.msr[1][LSTAR_LOW], 0x5678);
}

/* --- translations ------------------------------------------------------------------------------ */

/*
 * A model of tagged TLBs: an entry leaves translations behind, marked with the state of the
 * tables that they were made from; a later entry must not find any of an older state. The
 * model goes between CPUs as well; tests/machine/test_bochs.py shows it with real translations.
 */
static u64 ept_state, guest_state;

static bool enter(u32 cpu)
{
	struct vmx_vcpu *vx = &mock.vx[0];
	u64 *ept = &mock.tlb_ept[cpu][0], *guest = &mock.tlb_guest[cpu][0];

	on_cpu(cpu);
	vx->running = false;
	assert_int_equal(vmx_load(&mock.v[0]), 0);
	assert_int_equal(vmx_prepare(&mock.v[0], vx), 0);
	if ((*ept != 0 && *ept != ept_state) || (*guest != 0 && *guest != guest_state))
		return false;
	*ept = ept_state;
	*guest = guest_state;
	return true;
}

static void ept_changes(void)
{
	ept_state++;
	mock.v[0].hazards |= HAZ_TLB; /* what flush_guest_tlb() does */
}

static void test_no_stale_translation(void **state)
{
	ept_state = guest_state = 1;
	assert_true(enter(0));
	ept_changes();
	assert_true(enter(0));
	/* Another CPU, a change there, and back to what the first one has kept. */
	assert_true(enter(1));
	ept_changes();
	assert_true(enter(1));
	assert_true(enter(0));
	/* Control registers by software */
	vmx_set_reg(&mock.v[0], VREG_CR3, 0x5000);
	guest_state++;
	assert_true(enter(0));
	assert_true(mov_cr(0, CR0_PE | CR0_PG | CR0_CD));
	guest_state++;
	assert_true(enter(0));
	vmx_set_reg(&mock.v[0], VREG_EFER, EFER_LME | EFER_LMA | EFER_NXE);
	guest_state++;
	assert_true(enter(0));
	/* The model can tell: a change whose hazard is lost leaves a stale one. */
	guest_state++;
	assert_false(enter(0));
	guest_state--;
	ept_changes();
	mock.v[0].hazards = 0;
	assert_false(enter(0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_kinds, mock_setup),
		cmocka_unit_test_setup(test_signals, mock_setup),
		cmocka_unit_test_setup(test_fatal, mock_setup),
		cmocka_unit_test_setup(test_names, mock_setup),
		cmocka_unit_test_setup(test_cpuid_fast, mock_setup),
		cmocka_unit_test_setup(test_cpuid_is_looked_at_after_all_else, mock_setup),
		cmocka_unit_test_setup(test_cpuid_single_step, mock_setup),
		cmocka_unit_test_setup(test_cpuid_in_a_shadow, mock_setup),
		cmocka_unit_test_setup(test_step_over, mock_setup),
		cmocka_unit_test_setup(test_rip_wraps_outside_64_bit_code, mock_setup),
		cmocka_unit_test_setup(test_host_events, mock_setup),
		cmocka_unit_test_setup(test_exceptions, mock_setup),
		cmocka_unit_test_setup(test_iret_keeps_nmis_closed, mock_setup),
		cmocka_unit_test_setup(test_io, mock_setup),
		cmocka_unit_test_setup(test_ept_violation, mock_setup),
		cmocka_unit_test_setup(test_windows, mock_setup),
		cmocka_unit_test_setup(test_leave, mock_setup),
		cmocka_unit_test_setup(test_mov_cr0, mock_setup),
		cmocka_unit_test_setup(test_mov_cr0_long_mode, mock_setup),
		cmocka_unit_test_setup(test_mov_cr0_pae, mock_setup),
		cmocka_unit_test_setup(test_mov_cr4, mock_setup),
		cmocka_unit_test_setup(test_cr_access_not_asked_for, mock_setup),
		cmocka_unit_test_setup(test_cr4_from_rsp_in_32_bit_code, mock_setup),
		cmocka_unit_test_setup(test_prepare_flushes, mock_setup),
		cmocka_unit_test_setup(test_entry_failure, mock_setup),
		cmocka_unit_test_setup(test_segments, mock_setup),
		cmocka_unit_test_setup(test_registers, mock_setup),
		cmocka_unit_test_setup(test_vmcs_moves, mock_setup),
		cmocka_unit_test_setup(test_running_vmcs_is_not_taken, mock_setup),
		cmocka_unit_test_setup(test_msrs_are_compared_first, mock_setup),
		cmocka_unit_test_setup(test_msrs_follow_the_vcpu, mock_setup),
		cmocka_unit_test_setup(test_no_stale_translation, mock_setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
