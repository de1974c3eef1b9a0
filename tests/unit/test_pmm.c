/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/pmm.c
#include <stdlib.h>
#include <string.h>
#include "tests/unit/host_memory.h"
#include "core/errno.h"
#include "core/pmm.h"
#include <cmocka.h>

static void *meta;

/* 16 MiB of RAM at HOST_RAM_BASE, in a machine that ends at max_pa. */
static void fresh(paddr_t max_pa)
{
	host_memory_map();
	free(meta);
	meta = malloc(pmm_meta_size(max_pa));
	memset(meta, 0xa5, pmm_meta_size(max_pa)); /* any content */
	pmm_init(max_pa, meta);
}

static void test_counts(void **state)
{
	fresh(HOST_RAM_BASE + HOST_RAM);
	assert_int_equal(pmm_free_count(), 0);
	assert_int_equal(alloc_pages(ORDER_4K, 0), 0);
	assert_int_equal(pmm_add(HOST_RAM_BASE, MIB(16)), 0);
	assert_int_equal(pmm_free_count(), 4096);
	assert_int_equal(pmm_total_count(), 4096);
	paddr_t a = alloc_pages(ORDER_4K, 0), b = alloc_pages(ORDER_2M, 0);
	assert_int_equal(pmm_free_count(), 4096 - 1 - 512);
	free_pages(a, ORDER_4K);
	free_pages(b, ORDER_2M);
	assert_int_equal(pmm_free_count(), 4096);
}

static void test_partial_frames_left_out(void **state)
{
	fresh(HOST_RAM_BASE + HOST_RAM);
	assert_int_equal(pmm_add(HOST_RAM_BASE + 1, 3 * PAGE_SIZE), 0);
	assert_int_equal(pmm_free_count(), 2);
	assert_int_equal(pmm_add(HOST_RAM_BASE + MIB(1) + 100, 200), 0);
	assert_int_equal(pmm_free_count(), 2);
}

static void test_add_refuses(void **state)
{
	fresh(HOST_RAM_BASE + HOST_RAM);
	assert_int_equal(pmm_add(HOST_RAM_BASE, MIB(2)), 0);
	assert_int_equal(pmm_add(HOST_RAM_BASE + MIB(1), MIB(2)), -EEXIST);
	assert_int_equal(pmm_add(HOST_RAM_BASE + HOST_RAM - PAGE_SIZE, 2 * PAGE_SIZE), -EINVAL);
	assert_int_equal(pmm_add(UINT64_MAX - PAGE_SIZE, 3 * PAGE_SIZE), -EINVAL);
	assert_int_equal(pmm_free_count(), 512);
}

static void test_too_many_ranges(void **state)
{
	fresh(HOST_RAM_BASE + HOST_RAM);
	for (u64 i = 0; i < PMM_RANGES; i++)
		assert_int_equal(pmm_add(HOST_RAM_BASE + i * 2 * PAGE_SIZE, PAGE_SIZE), 0);
	assert_int_equal(pmm_add(HOST_RAM_BASE + MIB(8), PAGE_SIZE), -ENOSPC);
	assert_int_equal(pmm_free_count(), PMM_RANGES);
}

static void test_frame_zero_is_never_given(void **state)
{
	fresh(MIB(1));
	assert_int_equal(pmm_add(0, 2 * PAGE_SIZE), 0);
	assert_int_equal(alloc_pages(ORDER_4K, 0), PAGE_SIZE);
	assert_int_equal(alloc_pages(ORDER_4K, 0), 0);
}

/* Every frame once, none twice, all aligned; then all come back and join to the largest block. */
static void test_all_frames_once(void **state)
{
	static paddr_t got[4096];
	static bool seen[4096];

	fresh(HOST_RAM_BASE + HOST_RAM);
	memset(seen, 0, sizeof(seen));
	assert_int_equal(pmm_add(HOST_RAM_BASE, MIB(16)), 0);
	for (u32 i = 0; i < 4096; i++) {
		got[i] = alloc_pages(ORDER_4K, i % 2 ? ALLOC_BELOW_4G : 0);
		assert_in_range(got[i], HOST_RAM_BASE, HOST_RAM_BASE + MIB(16) - 1);
		u64 frame = (got[i] - HOST_RAM_BASE) >> PAGE_SHIFT;
		assert_false(seen[frame]);
		seen[frame] = true;
	}
	assert_int_equal(alloc_pages(ORDER_4K, 0), 0);
	assert_int_equal(pmm_free_count(), 0);
	for (u32 i = 0; i < 4096; i++)
		free_pages(got[(i * 1237) % 4096], ORDER_4K);
	assert_int_equal(alloc_pages(12, 0), HOST_RAM_BASE);
}

/* Many free blocks of one order at once: none is lost when its neighbours go. */
static void test_scattered_frames(void **state)
{
	fresh(HOST_RAM_BASE + HOST_RAM);
	assert_int_equal(pmm_add(HOST_RAM_BASE, MIB(16)), 0);
	assert_int_equal(alloc_pages(12, 0), HOST_RAM_BASE);
	for (u32 i = 0; i < 4096; i += 2)
		free_pages(HOST_RAM_BASE + i * PAGE_SIZE, ORDER_4K);
	for (u32 i = 0; i < 2048; i++)
		assert_int_not_equal(alloc_pages(ORDER_4K, i % 3 ? 0 : ALLOC_BELOW_4G), 0);
	assert_int_equal(alloc_pages(ORDER_4K, 0), 0);
}

static void test_alignment_of_orders(void **state)
{
	fresh(HOST_RAM_BASE + HOST_RAM);
	assert_int_equal(pmm_add(HOST_RAM_BASE + PAGE_SIZE, MIB(16)), 0);
	for (u32 order = 0; order < 11; order++) {
		paddr_t pa = alloc_pages(order, order % 2 ? ALLOC_BELOW_4G : 0);

		assert_int_not_equal(pa, 0);
		assert_int_equal(pa & ((PAGE_SIZE << order) - 1), 0);
	}
	assert_int_equal(alloc_pages(PMM_ORDERS, 0), 0);
}

static void test_1g_across_two_adds(void **state)
{
	/* Never touched without ALLOC_ZERO: the memory need not exist. */
	fresh(GIB(8));
	assert_int_equal(pmm_add(GIB(1), MIB(512)), 0);
	assert_int_equal(pmm_add(GIB(1) + MIB(512), MIB(512)), 0);
	paddr_t pa = alloc_pages(ORDER_1G, 0);
	assert_int_equal(pa, GIB(1));
	free_pages(pa, ORDER_1G);
	assert_int_equal(pmm_free_count(), GIB(1) >> PAGE_SHIFT);
}

static void test_below_4g(void **state)
{
	fresh(GIB(8));
	assert_int_equal(pmm_add(GIB(4) - MIB(2), MIB(2)), 0);
	assert_int_equal(pmm_add(GIB(4), GIB(2)), 0);
	assert_true(alloc_pages(ORDER_2M, 0) >= GIB(4)); /* low memory is kept */
	assert_int_equal(alloc_pages(ORDER_2M, ALLOC_BELOW_4G), GIB(4) - MIB(2));
	assert_int_equal(alloc_pages(ORDER_4K, ALLOC_BELOW_4G), 0);
	assert_true(alloc_pages(ORDER_4K, 0) >= GIB(4));
}

/* A block that straddles 4 GiB in the free lists must still serve its lower half. */
static void test_below_4g_from_large_block(void **state)
{
	fresh(GIB(8));
	assert_int_equal(pmm_add(GIB(3), GIB(2)), 0);
	for (u32 i = 0; i < 512; i++)
		assert_in_range(alloc_pages(ORDER_2M, ALLOC_BELOW_4G), GIB(3), GIB(4) - MIB(2));
	assert_int_equal(alloc_pages(ORDER_2M, ALLOC_BELOW_4G), 0);
}

static void test_zero(void **state)
{
	fresh(HOST_RAM_BASE + HOST_RAM);
	assert_int_equal(pmm_add(HOST_RAM_BASE, MIB(2)), 0);
	memset(phys_to_virt(HOST_RAM_BASE), 0xff, MIB(2));
	paddr_t pa = alloc_pages(1, ALLOC_ZERO);
	unsigned char *p = phys_to_virt(pa);
	for (u32 i = 0; i < 2 * PAGE_SIZE; i++)
		assert_int_equal(p[i], 0);
}

static void test_double_free(void **state)
{
	fresh(HOST_RAM_BASE + HOST_RAM);
	assert_int_equal(pmm_add(HOST_RAM_BASE, MIB(16)), 0);
	paddr_t small = alloc_pages(ORDER_4K, 0), large = alloc_pages(ORDER_2M, 0);
	free_pages(small, ORDER_4K);
	free_pages(large, ORDER_2M);
	u64 before = pmm_free_count();
	assert_true(PANICS(free_pages(small, ORDER_4K)));
	assert_true(PANICS(free_pages(large, ORDER_2M)));
	assert_true(PANICS(free_pages(large + PAGE_SIZE, ORDER_4K))); /* part of a free block */
	assert_int_equal(pmm_free_count(), before);
	/* A block of which a part is free already. */
	large = alloc_pages(ORDER_2M, 0);
	free_pages(large + 7 * PAGE_SIZE, ORDER_4K);
	assert_true(PANICS(free_pages(large, ORDER_2M)));
}

static void test_foreign_free(void **state)
{
	fresh(HOST_RAM_BASE + HOST_RAM);
	assert_int_equal(pmm_add(HOST_RAM_BASE + MIB(2), MIB(2)), 0);
	assert_true(PANICS(free_pages(0, ORDER_4K)));
	assert_true(PANICS(free_pages(HOST_RAM_BASE, ORDER_4K)));
	assert_true(PANICS(free_pages(HOST_RAM_BASE + MIB(4), ORDER_4K)));
	assert_true(PANICS(free_pages(GIB(100), ORDER_4K)));
	paddr_t pa = alloc_pages(ORDER_4K, 0);
	assert_true(PANICS(free_pages(pa + 8, ORDER_4K)));
	assert_true(PANICS(free_pages(pa, PMM_ORDERS)));
	free_pages(pa, ORDER_4K);
}

static void test_part_of_a_block_may_be_freed(void **state)
{
	fresh(HOST_RAM_BASE + HOST_RAM);
	assert_int_equal(pmm_add(HOST_RAM_BASE, MIB(2)), 0);
	paddr_t pa = alloc_pages(ORDER_2M, 0);
	for (u32 i = 0; i < 512; i++)
		free_pages(pa + i * PAGE_SIZE, ORDER_4K);
	assert_int_equal(alloc_pages(ORDER_2M, 0), pa);
}

/* Random use against a plain array that knows each frame's owner. */
static void test_random(void **state)
{
	static struct { paddr_t pa; u32 order; } held[600];
	static unsigned char used[4096];
	u32 n = 0, frames = 0;
	u32 seed = 12345;

	fresh(HOST_RAM_BASE + HOST_RAM);
	memset(used, 0, sizeof(used));
	assert_int_equal(pmm_add(HOST_RAM_BASE, MIB(16)), 0);
	for (u32 i = 0; i < 200000; i++) {
		seed = seed * 1664525 + 1013904223;
		if ((seed >> 16 & 1) != 0 && n < 600) {
			u32 order = (seed >> 20) % 8;
			paddr_t pa = alloc_pages(order, seed >> 30 ? 0 : ALLOC_BELOW_4G);

			if (pa == 0)
				continue;
			for (u32 f = 0; f < 1U << order; f++)
				assert_int_equal(used[((pa - HOST_RAM_BASE) >> 12) + f]++, 0);
			held[n].pa = pa;
			held[n++].order = order;
			frames += 1U << order;
		} else if (n > 0) {
			u32 k = (seed >> 8) % n;

			for (u32 f = 0; f < 1U << held[k].order; f++)
				used[((held[k].pa - HOST_RAM_BASE) >> 12) + f]--;
			free_pages(held[k].pa, held[k].order);
			frames -= 1U << held[k].order;
			held[k] = held[--n];
		}
		assert_int_equal(pmm_free_count(), 4096 - frames);
	}
	while (n > 0) {
		n--;
		free_pages(held[n].pa, held[n].order);
	}
	assert_int_equal(alloc_pages(12, 0), HOST_RAM_BASE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts), cmocka_unit_test(test_partial_frames_left_out),
		cmocka_unit_test(test_add_refuses), cmocka_unit_test(test_too_many_ranges),
		cmocka_unit_test(test_frame_zero_is_never_given),
		cmocka_unit_test(test_all_frames_once), cmocka_unit_test(test_scattered_frames),
		cmocka_unit_test(test_alignment_of_orders),
		cmocka_unit_test(test_1g_across_two_adds), cmocka_unit_test(test_below_4g),
		cmocka_unit_test(test_below_4g_from_large_block), cmocka_unit_test(test_zero),
		cmocka_unit_test(test_double_free), cmocka_unit_test(test_foreign_free),
		cmocka_unit_test(test_part_of_a_block_may_be_freed), cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
