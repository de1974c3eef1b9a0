/* SPDX-License-Identifier: BSD-2-Clause */
// sources: arch/x86/paging.c core/pmm.c
#include <stdlib.h>
#include <string.h>
#include "tests/unit/host_memory.h"
#include "core/errno.h"
#include "core/pmm.h"
#include <cmocka.h>

static void *meta;
static struct pt pt;

static void fresh(const struct pt_format *fmt, u64 pages)
{
	host_memory_map();
	free(meta);
	meta = malloc(pmm_meta_size(HOST_RAM_BASE + HOST_RAM));
	pmm_init(HOST_RAM_BASE + HOST_RAM, meta);
	assert_int_equal(pmm_add(HOST_RAM_BASE, pages * PAGE_SIZE), 0);
	memset(&pt, 0, sizeof(pt));
	assert_int_equal(pt_init(&pt, fmt), 0);
}

static u64 *raw(u64 va, u32 level)
{
	paddr_t table = pt.root;

	for (u32 l = 4;; l--) {
		u64 *t = phys_to_virt(table);
		u64 *e = &t[va >> (12 + 9 * (l - 1)) & 511];

		if (l == level)
			return e;
		table = *e & 0x000ffffffffff000UL & ~host_c_bit;
	}
}

/* Entries bit by bit, from APM vol. 2, figures 5-20 to 5-25. */
static void test_host_encoding(void **state)
{
	const u64 va = DIRECT_MAP_BASE;

	fresh(&pt_format_host, 1024);
	assert_int_equal(pt_map(&pt, va, 0x1000, PAGE_SIZE, PT_RW | PT_GLOBAL), 0);
	/* P W A D G NX */
	assert_int_equal(*raw(va, 1), 0x8000000000001163UL);
	assert_int_equal(pt_map(&pt, va + 0x1000, 0x5000, PAGE_SIZE, PT_RX), 0);
	assert_int_equal(*raw(va + 0x1000, 1), 0x5061UL);
	assert_int_equal(pt_map(&pt, va + 0x2000, 0x6000, PAGE_SIZE, PT_READ | PT_UC), 0);
	assert_int_equal(*raw(va + 0x2000, 1), 0x8000000000006079UL); /* PCD PWT */
	assert_int_equal(pt_map(&pt, va + 0x3000, 0x7000, PAGE_SIZE, PT_RW | PT_WC), 0);
	assert_int_equal(*raw(va + 0x3000, 1), 0x80000000000070e3UL); /* PAT */
	assert_int_equal(pt_map(&pt, va + MIB(2), MIB(4), MIB(2), PT_RW | PT_WC), 0);
	assert_int_equal(*raw(va + MIB(2), 2), 0x80000000004010e3UL); /* PS, PAT is bit 12 */
	assert_int_equal(*raw(va, 4) & 0xfff, 0x23); /* P W A, no U */
}

static void test_npt_encoding(void **state)
{
	fresh(&pt_format_npt, 1024);
	assert_int_equal(pt_map(&pt, 0, MIB(2), MIB(2), PT_RWX), 0);
	assert_int_equal(*raw(0, 2), 0x2000e7UL); /* P W U A D PS */
	assert_int_equal(*raw(0, 3) & 0xfff, 0x27);
	assert_int_equal(pt_map(&pt, GIB(1), GIB(2), GIB(1), PT_READ), 0);
	assert_int_equal(*raw(GIB(1), 3), 0x80000000800000e5UL);
}

/* SDM vol. 3, tables 29-2 to 29-7. */
static void test_ept_encoding(void **state)
{
	fresh(&pt_format_ept, 1024);
	assert_int_equal(pt_map(&pt, 0, 0x3000, PAGE_SIZE, PT_RWX), 0);
	assert_int_equal(*raw(0, 1), 0x3037UL); /* WB = 6 in bits 5:3 */
	assert_int_equal(pt_map(&pt, MIB(2), MIB(6), MIB(2), PT_READ | PT_UC), 0);
	assert_int_equal(*raw(MIB(2), 2), 0x600081UL);
	assert_int_equal(*raw(0, 4) & 0xfff, 7);
	assert_int_equal(pt_map(&pt, MIB(4), MIB(8), PAGE_SIZE, PT_EXEC), 0);
	assert_int_equal(*raw(MIB(4), 1), 0x800034UL);
}

static void test_largest_pages(void **state)
{
	struct pt_walk w;

	fresh(&pt_format_npt, 1024);
	/* 4K, 2M, 1G, 2M and 4K in one call. */
	assert_int_equal(pt_map(&pt, GIB(1) - MIB(2) - 0x1000, GIB(3) - MIB(2) - 0x1000,
				GIB(1) + MIB(4) + 0x2000, PT_RW), 0);
	static const struct { u64 va, size; } expect[] = {
		{ GIB(1) - MIB(2) - 0x1000, PAGE_SIZE }, { GIB(1) - MIB(2), MIB(2) },
		{ GIB(1), GIB(1) }, { GIB(2), MIB(2) }, { GIB(2) + MIB(2), PAGE_SIZE },
	};
	for (u32 i = 0; i < ARRAY_SIZE(expect); i++) {
		assert_int_equal(pt_lookup(&pt, expect[i].va, &w), 0);
		assert_int_equal(w.page_size, expect[i].size);
		assert_int_equal(w.pa, expect[i].va + GIB(2));
		assert_int_equal(w.prot, PT_RW);
	}
	assert_int_equal(pt_lookup(&pt, GIB(2) + MIB(2) + 0x1000, &w), -ENOENT);
	assert_int_equal(pt_lookup(&pt, GIB(1) - MIB(2) - 0x1001, &w), -ENOENT);
}

static void test_format_without_1g(void **state)
{
	struct pt_walk w;

	fresh(&pt_format_ept_2m, 2048);
	assert_int_equal(pt_map(&pt, 0, 0, GIB(1), PT_RWX), 0);
	assert_int_equal(pt_lookup(&pt, MIB(5), &w), 0);
	assert_int_equal(w.page_size, MIB(2));
	assert_int_equal(w.pa, MIB(5));
}

static void test_unaligned_pair_uses_small_pages(void **state)
{
	struct pt_walk w;

	fresh(&pt_format_npt, 2048);
	assert_int_equal(pt_map(&pt, 0, 0x1000, MIB(2), PT_RWX), 0);
	assert_int_equal(pt_lookup(&pt, 0x5000, &w), 0);
	assert_int_equal(w.page_size, PAGE_SIZE);
	assert_int_equal(w.pa, 0x6000);
}

static void test_bad_arguments(void **state)
{
	fresh(&pt_format_npt, 64);
	assert_int_equal(pt_map(&pt, 1, 0, PAGE_SIZE, PT_RW), -EINVAL);
	assert_int_equal(pt_map(&pt, 0, 0, PAGE_SIZE + 1, PT_RW), -EINVAL);
	assert_int_equal(pt_map(&pt, 0, 0x800, PAGE_SIZE, PT_RW), -EINVAL);
	assert_int_equal(pt_map(&pt, 0, 0, 0, PT_RW), -EINVAL);
	assert_int_equal(pt_map(&pt, 0, 0, PAGE_SIZE, 0), -EINVAL);
	assert_int_equal(pt_map(&pt, 0, 1UL << 52, PAGE_SIZE, PT_RW), -EINVAL);
	assert_int_equal(pt_map(&pt, 0UL - MIB(2), 0, MIB(4), PT_RW), -EINVAL);
	assert_int_equal(pt_unmap(&pt, 5, PAGE_SIZE), -EINVAL);
	assert_int_equal(pt_protect(&pt, 0, PAGE_SIZE, PT_GLOBAL), -EINVAL);
	assert_int_equal(pt.tables, 1);
}

static void test_existing_is_kept(void **state)
{
	struct pt_walk w;

	fresh(&pt_format_npt, 64);
	assert_int_equal(pt_map(&pt, MIB(2), MIB(8), PAGE_SIZE, PT_RW), 0);
	assert_int_equal(pt_map(&pt, 0, MIB(16), MIB(4), PT_RWX), -EEXIST);
	assert_int_equal(pt_lookup(&pt, 0, &w), -ENOENT); /* nothing of it stays */
	assert_int_equal(pt_lookup(&pt, MIB(2), &w), 0);
	assert_int_equal(w.pa, MIB(8));
}

static void test_out_of_memory_leaves_nothing(void **state)
{
	struct pt_walk w;
	u64 free_before;

	fresh(&pt_format_npt, 8);
	/* Unaligned: each 2 MiB takes a table; eight frames do not suffice for 32 MiB. */
	free_before = pmm_free_count();
	assert_int_equal(free_before, 7);
	assert_int_equal(pt_map(&pt, 0, 0x1000, MIB(32), PT_RW), -ENOMEM);
	for (u64 va = 0; va < MIB(32); va += PAGE_SIZE)
		assert_int_equal(pt_lookup(&pt, va, &w), -ENOENT);
	pt_destroy(&pt);
	assert_int_equal(pmm_free_count(), 8);
}

static void test_unmap_splits(void **state)
{
	struct pt_walk w;

	fresh(&pt_format_npt, 1024);
	assert_int_equal(pt_map(&pt, 0, GIB(4), GIB(1), PT_RX), 0);
	assert_int_equal(pt_unmap(&pt, MIB(2) + 0x3000, 0x2000), 0);
	assert_int_equal(pt_lookup(&pt, MIB(2) + 0x2000, &w), 0);
	assert_int_equal(w.page_size, PAGE_SIZE);
	assert_int_equal(w.pa, GIB(4) + MIB(2) + 0x2000);
	assert_int_equal(w.prot, PT_RX);
	assert_int_equal(pt_lookup(&pt, MIB(2) + 0x3000, &w), -ENOENT);
	assert_int_equal(pt_lookup(&pt, MIB(2) + 0x4000, &w), -ENOENT);
	assert_int_equal(pt_lookup(&pt, MIB(2) + 0x5000, &w), 0);
	assert_int_equal(w.pa, GIB(4) + MIB(2) + 0x5000);
	assert_int_equal(pt_lookup(&pt, 0, &w), 0);
	assert_int_equal(w.page_size, MIB(2)); /* the neighbours stay large */
	assert_int_equal(pt_lookup(&pt, MIB(900), &w), 0);
	assert_int_equal(w.pa, GIB(4) + MIB(900));
}

/* The first or the last frame of a large page. */
static void test_unmap_ends_of_a_large_page(void **state)
{
	struct pt_walk w;

	fresh(&pt_format_npt, 1024);
	assert_int_equal(pt_map(&pt, 0, 0, MIB(4), PT_RWX), 0);
	assert_int_equal(pt_unmap(&pt, 0, PAGE_SIZE), 0);
	assert_int_equal(pt_unmap(&pt, MIB(4) - PAGE_SIZE, PAGE_SIZE), 0);
	assert_int_equal(pt_lookup(&pt, 0, &w), -ENOENT);
	assert_int_equal(pt_lookup(&pt, PAGE_SIZE, &w), 0);
	assert_int_equal(pt_lookup(&pt, MIB(4) - 2 * PAGE_SIZE, &w), 0);
	assert_int_equal(pt_lookup(&pt, MIB(4) - PAGE_SIZE, &w), -ENOENT);
}

static void test_split_keeps_memory_type(void **state)
{
	struct pt_walk w;

	fresh(&pt_format_host, 1024);
	assert_int_equal(pt_map(&pt, MMIO_BASE, GIB(3), MIB(2), PT_RW | PT_WC | PT_GLOBAL), 0);
	assert_int_equal(pt_protect(&pt, MMIO_BASE + 0x1000, PAGE_SIZE, PT_READ | PT_UC), 0);
	assert_int_equal(pt_lookup(&pt, MMIO_BASE, &w), 0);
	assert_int_equal(w.prot, PT_RW | PT_WC | PT_GLOBAL);
	assert_int_equal(w.pa, GIB(3)); /* the PAT bit is no address bit */
	assert_int_equal(pt_lookup(&pt, MMIO_BASE + 0x1000, &w), 0);
	assert_int_equal(w.prot, PT_READ | PT_UC);
	assert_int_equal(w.pa, GIB(3) + 0x1000);
}

static void test_protect_skips_holes(void **state)
{
	struct pt_walk w;

	fresh(&pt_format_npt, 1024);
	assert_int_equal(pt_map(&pt, 0, MIB(10), PAGE_SIZE, PT_RWX), 0);
	assert_int_equal(pt_map(&pt, GIB(5), MIB(20), PAGE_SIZE, PT_RWX), 0);
	assert_int_equal(pt_protect(&pt, 0, GIB(6), PT_READ), 0);
	assert_int_equal(pt_lookup(&pt, 0, &w), 0);
	assert_int_equal(w.prot, PT_READ);
	assert_int_equal(pt_lookup(&pt, GIB(5), &w), 0);
	assert_int_equal(w.prot, PT_READ);
	assert_int_equal(pt_lookup(&pt, GIB(1), &w), -ENOENT);
	assert_int_equal(w.page_size, GIB(1));
}

static void test_map_again_after_unmap(void **state)
{
	struct pt_walk w;

	fresh(&pt_format_npt, 1024);
	assert_int_equal(pt_map(&pt, 0, 0, 0x1000, PT_RWX), 0);
	assert_int_equal(pt_unmap(&pt, 0, MIB(2)), 0);
	/* The table below stays: the range is mapped again, by small pages. */
	assert_int_equal(pt_map(&pt, 0, MIB(4), MIB(2), PT_RWX), 0);
	assert_int_equal(pt_lookup(&pt, MIB(1), &w), 0);
	assert_int_equal(w.pa, MIB(5));
}

static void test_destroy_gives_all_back(void **state)
{
	fresh(&pt_format_ept, 2048);
	assert_int_equal(pt_map(&pt, 0, 0x1000, MIB(64), PT_RWX), 0);
	assert_int_equal(pt_map(&pt, GIB(513), GIB(1), GIB(2), PT_RW), 0);
	assert_int_equal(pt_protect(&pt, GIB(513) + 0x1000, 0x1000, PT_READ), 0);
	assert_int_equal(pt_map(&pt, GIB(511) + MIB(1022), 0x1000, MIB(2), PT_RW), 0);
	assert_int_equal(pt_map(&pt, 0UL - 0x1000, 0x1000, 0x1000, PT_RW), 0); /* the last of all */
	assert_int_equal(2048 - pmm_free_count(), pt.tables);
	pt_destroy(&pt);
	assert_int_equal(pmm_free_count(), 2048);
	pt_destroy(&pt); /* one that is not there: nothing */
	assert_int_equal(pmm_free_count(), 2048);
}

/* Row 30: tables are encrypted always, what they map when it is said; addresses come without. */
static void test_row30_where_the_c_bit_goes(void **state)
{
	const u64 c = 1UL << 51;
	struct pt_walk w;

	host_c_bit = c;
	fresh(&pt_format_npt, 64);
	assert_int_equal(pt_map(&pt, 0, MIB(2), MIB(2), PT_RWX | PT_ENCRYPTED), 0);
	assert_int_equal(*raw(0, 2), c | 0x2000e7UL);
	assert_int_equal(*raw(0, 4) & c, c);
	assert_int_equal(*raw(0, 3) & c, c);
	assert_int_equal(pt_map(&pt, MIB(2), MIB(8), PAGE_SIZE, PT_RWX), 0);
	assert_int_equal(*raw(MIB(2), 1), 0x800067UL);
	assert_int_equal(*raw(MIB(2), 2) & c, c);
	/* A split keeps it, with the address. */
	assert_int_equal(pt_protect(&pt, 0, PAGE_SIZE, PT_READ), 0);
	assert_int_equal(pt_lookup(&pt, PAGE_SIZE, &w), 0);
	assert_int_equal(w.pa, MIB(2) + PAGE_SIZE);
	assert_int_equal(w.entry & c, c);
	assert_int_equal(w.prot, PT_RWX | PT_ENCRYPTED);
	/* Protection is given whole: this page has become plain. */
	assert_int_equal(pt_lookup(&pt, 0, &w), 0);
	assert_int_equal(w.pa, MIB(2));
	assert_int_equal(w.entry & c, 0);
	assert_int_equal(w.prot, PT_READ);
	pt_destroy(&pt);
	assert_int_equal(pmm_free_count(), 64);
	host_c_bit = 0;
	fresh(&pt_format_npt, 64);
	assert_int_equal(pt_map(&pt, 0, MIB(2), MIB(2), PT_RWX | PT_ENCRYPTED), 0);
	assert_int_equal(*raw(0, 2), 0x2000e7UL);
	assert_int_equal(*raw(0, 3) & c, 0);
	assert_int_equal(pt_lookup(&pt, 0, &w), 0);
	assert_int_equal(w.prot, PT_RWX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_encoding), cmocka_unit_test(test_npt_encoding),
		cmocka_unit_test(test_ept_encoding), cmocka_unit_test(test_largest_pages),
		cmocka_unit_test(test_format_without_1g),
		cmocka_unit_test(test_unaligned_pair_uses_small_pages),
		cmocka_unit_test(test_bad_arguments), cmocka_unit_test(test_existing_is_kept),
		cmocka_unit_test(test_out_of_memory_leaves_nothing),
		cmocka_unit_test(test_unmap_splits),
		cmocka_unit_test(test_unmap_ends_of_a_large_page),
		cmocka_unit_test(test_split_keeps_memory_type),
		cmocka_unit_test(test_protect_skips_holes),
		cmocka_unit_test(test_map_again_after_unmap),
		cmocka_unit_test(test_destroy_gives_all_back),
		cmocka_unit_test(test_row30_where_the_c_bit_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
