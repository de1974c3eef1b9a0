/* SPDX-License-Identifier: BSD-2-Clause */
// sources: sev/ghcb.c sev/ghcb_msr.c sev/ghcb_io.c core/dispatch.c core/cpuid.c core/msr.c core/hypercall.c arch/x86/svm/guest_cpu.c
/*
 * Random GHCBs and MSR requests, with another vCPU that changes the page in the
 * middle. Each answer is judged by what the specification allows, and no byte of
 * RAM but the answer's own may change. GHCB_FUZZ_ROUNDS and GHCB_FUZZ_SEED.
 */
#include "tests/unit/ghcb_mock.h"

#define ROUNDS 1000000UL
#define FUZZ_RAM 0x10000UL /* what is compared each time: GHCBs and scratch are below, or nowhere */

static u8 before[FUZZ_RAM];
static u64 seed;
static bool scribbling;

static u64 rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static u64 one_of(const u64 *values, size_t n)
{
	u64 v = values[rnd() % n];

	switch (rnd() % 16) { /* near misses */
	case 0: return v + 1;
	case 1: return v - 1;
	case 2: return v ^ BIT(rnd() % 64);
	default: return v;
	}
}
#define ONE_OF(...) \
	one_of((const u64[]){ __VA_ARGS__ }, sizeof((u64[]){ __VA_ARGS__ }) / sizeof(u64))

static u64 random_event(void)
{
	return ONE_OF(0x27, 0x37, 0x6e, 0x6f, 0x72, 0x76, 0x7b, 0x7b, 0x7b, 0x7c, 0x7c, 0x81, 0x87,
		      0x89, 0x8a, 0x8b, 0x80000001, 0x80000001, 0x80000002, 0x80000002, 0x80000003,
		      0x80000004, 0x80000005, 0x80000010, 0x80000013, 0x8000fffd, 0x8000fffe,
		      0x8000ffff, 0x55, 0x400, rnd());
}

static u64 random_gpa(void)
{
	return ONE_OF(0, PAGE_GPA, PAGE_GPA + 0x800, PAGE_GPA + 0xff0, PAGE_GPA + 0x1000, 0x9000,
		      0xe000, FUZZ_RAM - 8, MOCK_HOLE, MOCK_DEVICE, MOCK_DEVICE + 0xff8, MOCK_ROM,
		      BIT(MOCK_C_BIT), PAGE_GPA | BIT(MOCK_C_BIT), ~0UL, rnd(), rnd() % FUZZ_RAM);
}

static u64 random_info1(u64 event)
{
	switch (event) {
	case 0x7b:
		return ONE_OF(MOCK_PORT << 16, 0x3f8UL << 16, 0xffffUL << 16, rnd() << 16) |
		       (rnd() % 8 == 0 ? rnd() & 0xff : BIT(4 + rnd() % 3) | (rnd() & 0xf));
	case 0x7c:
		return rnd() % 8 == 0 ? rnd() : rnd() & 1;
	case 0x80000005:
		return rnd() % 4;
	default:
		return random_gpa();
	}
}

static u64 random_info2(u64 event)
{
	if (event == 0x80000001 || event == 0x80000002)
		return ONE_OF(1, 2, 4, 8, 8, 0, 3, 16, 4096, rnd());
	return ONE_OF(0, 1, 4, 300, 508, 1016, 2032, 2033, 4096, 16384, BIT(31), BIT(32), BIT(62), rnd());
}

static void random_page(struct ghcb *g)
{
	u64 *word = (u64 *)g;

	for (size_t i = rnd() % 64; i < sizeof(*g) / 8; i += 1 + rnd() % 64)
		word[i] = rnd();
	g->valid_bitmap[0] = rnd() % 4 == 0 ? rnd() : ~0UL;
	g->valid_bitmap[1] = rnd() % 4 == 0 ? rnd() : ~0UL;
	g->ghcb_usage = rnd() % 16 == 0 ? (u32)rnd() : 0;
	g->protocol_version = (u16)ONE_OF(1, 1, 2, 2, 2, 0, 3, rnd());
	g->sw_exitcode = random_event();
	g->sw_exitinfo1 = random_info1(g->sw_exitcode);
	g->sw_exitinfo2 = random_info2(g->sw_exitcode);
	g->sw_scratch = rnd() % 2 == 0 ? PAGE_GPA + 0x800 : random_gpa();
	g->rax = ONE_OF(0, 1, 5, 10, 11, 0xd, 0x8000001f, 0x40000000, rnd());
	g->rcx = ONE_OF(0x10, 0x808, 0x8ff, 0xc0000080, 0x4b564d01, 0x2ff, 0xc0010117, rnd());
	g->cpl = rnd() % 4 == 0 ? (u8)rnd() : 0;
	g->xcr0 = ONE_OF(1, 3, 7, 0, rnd());
}

/* Another vCPU of the guest: any word of the page, at any time. */
static void other_vcpu(void)
{
	u64 *word = (u64 *)guest_page();

	if (!scribbling || rnd() % 4 != 0)
		return;
	for (u32 i = 0; i < 4; i++)
		word[rnd() % 512] = rnd();
	guest_page()->sw_scratch = random_gpa();
	guest_page()->sw_exitinfo2 = rnd();
}

/* The bytes of scratch that the request may change, as the specification has it. */
static u64 scratch_size(const struct ghcb *g)
{
	u64 size = g->sw_exitinfo1 >> 4 & 7;

	if (g->sw_exitcode == 0x80000001)
		return g->sw_exitinfo2 <= 8 ? g->sw_exitinfo2 : 0;
	if (g->sw_exitcode != 0x7b || (g->sw_exitinfo1 & 5) != 5 || g->sw_exitinfo2 > 16384)
		return 0;
	return size * g->sw_exitinfo2;
}

static bool may_change(const struct ghcb *asked, gpa_t gpa)
{
	static const u32 answer[] = { 0x1f8, 0x308, 0x310, 0x318, 0x398, 0x3a0, 0x3f0, 0x3f8 };
	u64 size = scratch_size(asked);

	for (size_t i = 0; i < ARRAY_SIZE(answer); i++)
		if (gpa - PAGE_GPA - answer[i] < 8)
			return true;
	if (gpa - asked->sw_scratch >= size)
		return false;
	if (asked->protocol_version >= 2 || (gpa & PAGE_MASK) == PAGE_GPA)
		return gpa >= PAGE_GPA + 0x800 && gpa < PAGE_GPA + 0xff0;
	return true;
}

static void check_memory(const struct ghcb *asked)
{
	if (memcmp(before, mock_ram, FUZZ_RAM) == 0)
		return;
	for (gpa_t page = 0; page < FUZZ_RAM; page += PAGE_SIZE) {
		/* With the other vCPU at work, its page is its own matter. */
		if (memcmp(before + page, mock_ram + page, PAGE_SIZE) == 0 ||
		    (scribbling && page == PAGE_GPA))
			continue;
		for (gpa_t gpa = page; gpa < page + PAGE_SIZE; gpa++)
			if (before[gpa] != mock_ram[gpa] && !may_change(asked, gpa))
				fail_msg("0x%lx changed, event 0x%lx info 0x%lx 0x%lx scratch 0x%lx",
					 gpa, asked->sw_exitcode, asked->sw_exitinfo1,
					 asked->sw_exitinfo2, asked->sw_scratch);
	}
	memcpy(before, mock_ram, FUZZ_RAM);
}

/* The answer itself: one of the classes, with what belongs to it; no stale valid bits. */
static void check_answer(const struct ghcb *asked)
{
	const struct ghcb *g = guest_page();
	const u64 infos = BIT(51) | BIT(52);

	if (scribbling)
		return;
	assert_true(g->sw_exitinfo1 <= 2);
	assert_int_equal(g->valid_bitmap[0] & ~BIT(63), 0);
	assert_int_equal(g->valid_bitmap[1] & ~(BIT(33) | BIT(34) | BIT(35) | infos), 0);
	assert_int_equal(g->valid_bitmap[1] & infos, infos);
	if (g->sw_exitinfo1 == 1)
		assert_true(g->sw_exitinfo2 == 0x80000b0d || g->sw_exitinfo2 == 0x80000306);
	if (g->sw_exitinfo1 == 2)
		assert_in_range(g->sw_exitinfo2, 2, 6);
	if (g->sw_exitinfo1 != 0)
		assert_int_equal(g->valid_bitmap[0] | (g->valid_bitmap[1] & ~infos), 0);
	if (asked->ghcb_usage != 0)
		assert_true(g->sw_exitinfo1 == 2 && g->sw_exitinfo2 == 2);
	else if ((BIT(50) | infos) & ~asked->valid_bitmap[1])
		assert_true(g->sw_exitinfo1 == 2 && g->sw_exitinfo2 == 4);
	else if (asked->protocol_version > 2)
		assert_true(g->sw_exitinfo1 == 2 && g->sw_exitinfo2 == 5);
}

static u64 served, errors, exceptions, ended, holds;

static void check_vcpu(u32 result)
{
	assert_true(result == VRESULT_RETRY || result == VRESULT_LEAVE);
	assert_int_equal(mock_v.event.type, VEVENT_NONE);
	assert_int_equal(mock_v.hazards & HAZ_EVENT, 0);
	for (u32 i = 0; i < GPR_COUNT; i++)
		assert_int_equal(mock_v.gpr[i], 0);
	/* Out of the loop only for a wait, a yield or the end. */
	if (result == VRESULT_LEAVE)
		assert_true(mock_es.hold != ES_HOLD_NONE || mock_told.fatals != 0 ||
			    (mock_told.yields != 0 && mock_told.yields_cpu));
	assert_false(mock_v.guest_xcr0 & ~7UL);
	assert_int_equal(mock_es_vm.ap_jump_table >> MOCK_C_BIT, 0);
}

static void end_hold(void)
{
	if (mock_es.hold == ES_HOLD_NONE)
		return;
	holds++;
	mock_es.wake = (u8)(rnd() % 3);
	ghcb_hold_end(&mock_v);
	mock_v.halted = false;
	memcpy(before, mock_ram, FUZZ_RAM); /* SW_EXITINFO2 */
}

static void round_page(void)
{
	struct ghcb *g = guest_page(), asked;
	u32 result;

	random_page(g);
	asked = *g;
	memcpy(before + PAGE_GPA, g, PAGE_SIZE);
	mock_ghcb_msr = rnd() % 16 == 0 ? random_gpa() & PAGE_MASK : PAGE_GPA;
	if (mock_ghcb_msr != PAGE_GPA) {
		/* Some other page of RAM is taken as it is; memory elsewhere must not change. */
		gpa_t gpa = mock_ghcb_msr;

		result = ghcb_vmgexit(&mock_v);
		check_vcpu(result);
		if (gpa < FUZZ_RAM)
			memcpy(before, mock_ram, FUZZ_RAM);
		assert_memory_equal(before, mock_ram, FUZZ_RAM);
		end_hold();
		return;
	}
	result = ghcb_vmgexit(&mock_v);
	check_vcpu(result);
	check_memory(&asked);
	check_answer(&asked);
	served += g->sw_exitinfo1 == 0;
	exceptions += g->sw_exitinfo1 == 1;
	errors += g->sw_exitinfo1 == 2;
	ended += mock_told.fatals;
	end_hold();
}

static void round_msr(void)
{
	u64 code = ONE_OF(0x002, 0x004, 0x006, 0x080, 0x100, 0x010, 0x012, 0x014, 0x333, rnd());
	u64 request = (code & 0xfff) | (rnd() & ~0xfffUL);
	u32 result;

	if ((request & 0xfff) == 0)
		request |= 1;
	mock_ghcb_msr = request;
	result = ghcb_vmgexit(&mock_v);
	check_vcpu(result);
	assert_memory_equal(before, mock_ram, FUZZ_RAM);
	end_hold();
}

static void fuzz(u64 rounds)
{
	for (u64 i = 0; i < rounds; i++) {
		/* What a round leaves behind is no matter of the next, but for the page itself. */
		mock_told.fatals = mock_told.yields = mock_told.out_bytes = 0;
		mock_told.yields_cpu = rnd() & 1;
		mock_told.wakes = rnd() & 1;
		mock_v.hazards = 0;
		if (rnd() % 8 == 0)
			round_msr();
		else
			round_page();
	}
}

static u64 from_environment(const char *name, u64 otherwise)
{
	const char *s = getenv(name);

	return s != NULL ? strtoull(s, NULL, 0) : otherwise;
}

static int setup(void **state)
{
	int err = mock_setup(state);

	seed = from_environment("GHCB_FUZZ_SEED", 0x9e3779b97f4a7c15UL);
	memset(&mock_told, 0, sizeof(mock_told));
	memcpy(before, mock_ram, FUZZ_RAM);
	served = errors = exceptions = ended = holds = 0;
	return err;
}

/* Half of the rounds alone, half with another vCPU writing the page meanwhile. */
static void random_ghcbs(void **state)
{
	scribbling = false;
	fuzz(from_environment("GHCB_FUZZ_ROUNDS", ROUNDS) / 2);
	/* It must have reached what it is about. */
	assert_true(served > 1000 && errors > 1000 && exceptions > 100 && ended > 100 && holds > 100);
	printf("served %lu, errors %lu, exceptions %lu, ended %lu, holds %lu\n", served, errors,
	       exceptions, ended, holds);
	for (u32 k = 0; k < GHCB_KINDS; k++)
		assert_int_not_equal(mock_es.events[k], 0);
}

static void random_ghcbs_with_another_vcpu(void **state)
{
	scribbling = true;
	mock_meanwhile = other_vcpu;
	fuzz(from_environment("GHCB_FUZZ_ROUNDS", ROUNDS) / 2);
}

/* The checker itself: a byte changed where none may is found. */
static void the_checker_sees_a_stray_write(void **state)
{
	struct ghcb *g = ask(0x7b, MOCK_PORT << 16 | 0x15, 16);

	scribbling = false;
	ghcb_set(g, sw_scratch, PAGE_GPA + 0x800);
	assert_true(may_change(g, PAGE_GPA + 0x80f));
	assert_false(may_change(g, PAGE_GPA + 0x810));
	assert_false(may_change(g, PAGE_GPA + 0x7ff));
	assert_false(may_change(g, 0x9000));
	assert_false(may_change(g, PAGE_GPA + 0x390));
	g->sw_scratch = 0x9000;
	assert_false(may_change(g, 0x9000));
	g->protocol_version = 1;
	assert_true(may_change(g, 0x9000));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(the_checker_sees_a_stray_write, setup),
		cmocka_unit_test_setup(random_ghcbs, setup),
		cmocka_unit_test_setup(random_ghcbs_with_another_vcpu, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
