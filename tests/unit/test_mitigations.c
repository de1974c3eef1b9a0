/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/string.c
/* Which CPU gets which mitigation: SDM vol. 4 (ARCH_CAPABILITIES), vol. 2A (CPUID 7), APM vol. 3. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "arch/x86/mitigations.c"

struct cpu_features cpu_features;
struct config config;
void log_printf(const char *fmt, ...) { }
void log_print(u32 level, const char *fmt, ...) { }

static struct facts intel(u32 ebx7, u32 edx7, u64 caps)
{
	return (struct facts){ .intel = true, .ebx7 = ebx7, .edx7 = edx7, .caps = caps };
}

static struct facts amd(u32 ebx8)
{
	return (struct facts){ .amd = true, .ebx8 = ebx8 };
}

#define MD_CLEAR (1U << 10)
#define RTM (1U << 11)

static bool verw(u32 ebx7, u32 edx7, u64 caps)
{
	struct facts f = intel(ebx7, edx7, caps);

	assert_non_null(decide_verw(&f).why);
	return decide_verw(&f).on;
}

static void test_verw(void **state)
{
	struct facts a = amd(~0U);

	assert_true(verw(0, MD_CLEAR, 0));
	assert_false(verw(0, 0, 0)); /* no microcode for it */
	assert_false(verw(0, MD_CLEAR, BIT(5)));
	assert_true(verw(RTM, MD_CLEAR, BIT(5)));           /* TAA */
	assert_false(verw(RTM, MD_CLEAR, BIT(5) | BIT(8)));
	assert_true(verw(0, 0, BIT(5) | BIT(17)));          /* FB_CLEAR */
	assert_false(verw(0, 0, BIT(5) | BIT(17) | BIT(14)));
	assert_true(verw(0, 0, BIT(5) | BIT(28)));          /* RFDS_CLEAR */
	assert_false(verw(0, 0, BIT(5) | BIT(28) | BIT(27)));
	assert_false(decide_verw(&a).on);
}

static bool l1d(u32 edx7, u64 caps)
{
	struct facts f = intel(0, edx7, caps);

	return decide_l1d(&f).on;
}

static void test_l1d(void **state)
{
	struct facts a = amd(~0U);

	assert_true(l1d(1U << 28, 0));
	assert_false(l1d(0, 0));
	assert_false(l1d(1U << 28, BIT(0)));
	assert_false(l1d(1U << 28, BIT(3)));
	assert_false(decide_l1d(&a).on);
}

static void test_predictors(void **state)
{
	struct facts none = intel(0, 0, 0), i = intel(0, 1U << 26, BIT(1)), a = amd(1U << 12);
	struct facts ibrs = amd(1U << 14), always = amd(1U << 14 | 1U << 16);

	assert_true(decide_return_stack(&none).on);
	assert_false(decide_ibpb(&none).on);
	assert_true(decide_ibpb(&i).on);
	assert_true(decide_ibpb(&a).on);
	assert_false(decide_spec_ctrl(&none).on);
	assert_true(decide_spec_ctrl(&i).on);
	assert_false(decide_spec_ctrl(&ibrs).on);
	assert_true(decide_spec_ctrl(&always).on);
}

/* "mitigations = no": nothing, whatever the CPU is. */
static void test_off(void **state)
{
	config.host.mitigations = false;
	mitigations = (struct mitigations){ 1, 1, 1, 1, 1 };
	mitigations_init();
	for (size_t i = 0; i < sizeof(mitigations); i++)
		assert_int_equal(((u8 *)&mitigations)[i], 0);
	config.host.mitigations = true;
	mitigations_init();
	assert_int_equal(mitigations.return_stack, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verw),
		cmocka_unit_test(test_l1d),
		cmocka_unit_test(test_predictors),
		cmocka_unit_test(test_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
