/* SPDX-License-Identifier: BSD-2-Clause */
// sources: arch/x86/svm/bitmaps.c arch/x86/guest_msrs.c
/* The whitelist in the MSR bitmap, judged by the layout in APM vol. 2, 15.11, not by the code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/svm/svm.h"
#include "core/pmm.h"

struct svm_machine svm;

static u8 *pages[8];
static u32 page_count, fail_at;

paddr_t alloc_pages(u32 order, u32 flags)
{
	if (page_count == fail_at)
		return 0;
	pages[page_count] = calloc(1, PAGE_SIZE << order);
	return (paddr_t)++page_count << 20;
}

void *phys_to_virt(paddr_t pa)
{
	return pages[(pa >> 20) - 1];
}

static int setup(void **state)
{
	page_count = 0;
	fail_at = 8;
	return 0;
}

static int teardown(void **state)
{
	while (page_count > 0)
		free(pages[--page_count]);
	return 0;
}

/* Read by hand: byte and bit where the manual puts them. */
static void test_layout(void **state)
{
	static u8 map[0x2000];

	svm_msrpm_fill(map);
	/* TSC, 10h: byte 4, bits 0 (read) and 1 (write). */
	assert_int_equal(map[4], 0xfe);
	/* SYSENTER_CS..EIP, 174h-176h: byte 5Dh. */
	assert_int_equal(map[0x5d], 0xc0);
	/* EFER, C0000080h, stays; STAR, LSTAR, CSTAR follow: byte 800h + 20h. */
	assert_int_equal(map[0x820], 0x03);
	/* SFMASK, C0000084h. */
	assert_int_equal(map[0x821], 0xfc);
	/* FS_BASE, GS_BASE, KERNEL_GS_BASE, C0000100h-102h; TSC_AUX stays. */
	assert_int_equal(map[0x840], 0xc0);
}

/* Nothing else is open: count the zero bits of the whole map. */
static void test_nothing_else(void **state)
{
	static u8 map[0x2000];
	u32 open = 0;

	svm_msrpm_fill(map);
	for (u32 i = 0; i < sizeof(map) * 8; i++)
		open += (map[i / 8] >> (i % 8) & 1) == 0;
	assert_int_equal(open, 1 + 2 * 10);
}

static void test_query(void **state)
{
	static u8 map[0x2000];
	static const u32 closed[] = {
		0x1b, 0x48, 0x277, 0x2ff, 0x6e0, 0x830, 0xc0000080, 0xc0000103, 0xc0010015,
		0xc0010114, 0xc0010117, 0xc0010130, 0xc0011fff, 0xc0012000, 0xc0002000, 0x2000,
		0x40000000, 0x4b564d00, 0xffffffff,
	};

	svm_msrpm_fill(map);
	for (size_t i = 0; i < ARRAY_SIZE(closed); i++) {
		assert_true(svm_msrpm_intercepted(map, closed[i], false));
		assert_true(svm_msrpm_intercepted(map, closed[i], true));
	}
	assert_false(svm_msrpm_intercepted(map, 0x10, false));
	assert_true(svm_msrpm_intercepted(map, 0x10, true));
	assert_false(svm_msrpm_intercepted(map, 0xc0000101, true));
}

static void test_init(void **state)
{
	const u8 *iopm;

	assert_int_equal(svm_bitmaps_init(), 0);
	iopm = phys_to_virt(svm.iopm);
	for (u32 i = 0; i < 0x3000; i++)
		assert_int_equal(iopm[i], 0xff);
	assert_int_equal(((u8 *)phys_to_virt(svm.msrpm))[4], 0xfe);
}

static void test_no_memory(void **state)
{
	fail_at = 1;
	assert_true(svm_bitmaps_init() < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_layout, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_else, setup, teardown),
		cmocka_unit_test_setup_teardown(test_query, setup, teardown),
		cmocka_unit_test_setup_teardown(test_init, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
