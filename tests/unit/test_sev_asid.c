/* SPDX-License-Identifier: BSD-2-Clause */
// sources: sev/asid.c sev/why.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "core/errno.h"
#include "sev/sev.h"

static u32 flushes;
static int flush_error;

int sev_flush(void)
{
	flushes++;
	return flush_error;
}

static int setup(void **state)
{
	flushes = 0;
	flush_error = 0;
	return 0;
}

static u32 take(bool es)
{
	u32 asid = 0;

	assert_int_equal(sev_asid_alloc(es, &asid), 0);
	return asid;
}

static void pools_are_apart(void **state)
{
	u32 asid;

	sev_asid_init(3, 5);
	assert_int_equal(take(true), 1);
	assert_int_equal(take(true), 2);
	assert_int_equal(sev_asid_alloc(true, &asid), -ENOSPC);
	assert_int_equal(take(false), 3);
	assert_int_equal(take(false), 4);
	assert_int_equal(take(false), 5);
	assert_int_equal(sev_asid_alloc(false, &asid), -ENOSPC);
	assert_int_equal(flushes, 0);
}

static void used_ones_wait_for_one_flush(void **state)
{
	sev_asid_init(4, 4);
	sev_asid_free(take(true), true);
	sev_asid_free(take(true), true);
	assert_int_equal(sev_asid_count(true).dirty, 2);
	assert_int_equal(take(true), 3);
	assert_int_equal(flushes, 0);
	take(true);
	assert_int_equal(flushes, 1);
	take(true);
	assert_int_equal(flushes, 1);
	assert_int_equal(sev_asid_count(true).taken, 3);
}

static void unused_one_is_clean(void **state)
{
	sev_asid_init(2, 2);
	sev_asid_free(take(true), false);
	assert_int_equal(take(true), 1);
	assert_int_equal(flushes, 0);
}

static void failed_flush_cleans_nothing(void **state)
{
	u32 asid;

	sev_asid_init(2, 2);
	sev_asid_free(take(true), true);
	flush_error = -EIO;
	assert_int_equal(sev_asid_alloc(true, &asid), -EIO);
	assert_int_equal(sev_asid_count(true).dirty, 1);
	flush_error = 0;
	assert_int_equal(take(true), 1);
	assert_int_equal(flushes, 2);
}

/* CPUID is the machine's word: any two numbers must do. */
static void odd_limits(void **state)
{
	u32 asid;

	sev_asid_init(1, 1);
	assert_int_equal(sev_asid_alloc(true, &asid), -ENOSPC);
	assert_int_equal(take(false), 1);
	sev_asid_init(0, 0);
	assert_int_equal(sev_asid_alloc(true, &asid), -ENOSPC);
	assert_int_equal(sev_asid_alloc(false, &asid), -ENOSPC);
	sev_asid_init(~0U, 1000000);
	assert_int_equal(sev_asid_count(true).clean, SEV_ASID_MAX);
	assert_int_equal(sev_asid_count(false).clean, 0);
	sev_asid_free(0, true);
	sev_asid_free(~0U, true);
	sev_asid_free(7, true); /* not given out */
	assert_int_equal(sev_asid_count(true).dirty, 0);
}

static const struct sev_facts good = {
	.sev = true, .es = true, .max_asid = 15, .min_asid = 5, .svm_features = 0xcb,
	.syscfg_cpu = SEV_NO_CPU, .smmlock_cpu = SEV_NO_CPU, .psp = true,
};

static void each_reason(void **state)
{
	struct sev_facts f = good;

	assert_int_equal(sev_why(&f), 0);
	f.syscfg_cpu = 1;
	assert_int_equal(sev_why(&f), SEV_WHY_SYSCFG);
	f = good, f.smmlock_cpu = 0;
	assert_int_equal(sev_why(&f), SEV_WHY_SMMLOCK);
	f = good, f.svm_features = 0xca;
	assert_int_equal(sev_why(&f), SEV_WHY_SVM);
	f = good, f.svm_features = 0xc9;
	assert_int_equal(sev_why(&f), SEV_WHY_ES_LBRV);
	f = good, f.psp = false;
	assert_int_equal(sev_why(&f), SEV_WHY_PSP);
	f = good, f.es = false;
	assert_int_equal(sev_why(&f), SEV_WHY_ES_CPUID);
	f = good, f.min_asid = 1;
	assert_int_equal(sev_why(&f), SEV_WHY_ES_ASIDS);
	f = good, f.sev = false;
	assert_int_equal(sev_why(&f), SEV_WHY_CPUID);
}

/* SYSCFG[23] clear on CPU 1 only: the words name that CPU and the remedy. */
static void words_name_the_cpu(void **state)
{
	struct sev_facts f = good;
	char text[128], other[128];

	f.syscfg_cpu = 1;
	sev_why_text(SEV_WHY_SYSCFG, &f, text, sizeof(text));
	assert_string_equal(text, "SYSCFG[23] is clear on CPU 1; enable SMEE in firmware setup");
	for (u32 i = 0; i < 12; i++)
		for (u32 j = 0; j < i; j++) {
			assert_true(sev_why_text(BIT32(i), &f, text, sizeof(text)) < 128);
			sev_why_text(BIT32(j), &f, other, sizeof(other));
			assert_string_not_equal(text, other);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(pools_are_apart, setup),
		cmocka_unit_test_setup(used_ones_wait_for_one_flush, setup),
		cmocka_unit_test_setup(unused_one_is_clean, setup),
		cmocka_unit_test_setup(failed_flush_cleans_nothing, setup),
		cmocka_unit_test_setup(odd_limits, setup),
		cmocka_unit_test_setup(each_reason, setup),
		cmocka_unit_test_setup(words_name_the_cpu, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
