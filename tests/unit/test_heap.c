/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/heap.c core/pmm.c
#include <stdlib.h>
#include <string.h>
#include "tests/unit/host_memory.h"
#include "core/heap.h"
#include "core/pmm.h"
#include <cmocka.h>

#define PAGES 8192UL

static int start(void **state)
{
	size_t size = pmm_meta_size(HOST_RAM_BASE + HOST_RAM);

	host_memory_map();
	pmm_init(HOST_RAM_BASE + HOST_RAM, malloc(size));
	return pmm_add(HOST_RAM_BASE, PAGES * PAGE_SIZE);
}

/* The allocator of the whole group is one: each test gives all back. */
static int all_back(void **state)
{
	return pmm_free_count() == PAGES ? 0 : -1;
}

static void test_sizes(void **state)
{
	static const size_t sizes[] = { 1, 63, 64, 65, 128, 1000, 2048, 2049, 4096, 4097, 300000,
					MIB(4) };

	for (u32 i = 0; i < ARRAY_SIZE(sizes); i++) {
		unsigned char *p = heap_alloc(sizes[i]);

		assert_non_null(p);
		for (size_t k = 0; k < sizes[i]; k++)
			assert_int_equal(p[k], 0);
		if (sizes[i] > 2048)
			assert_int_equal((uintptr_t)p % PAGE_SIZE, 0);
		memset(p, 0xff, sizes[i]); /* the next one must be zeroed again */
		heap_free(p);
	}
	assert_null(heap_alloc(0));
	assert_null(heap_alloc(MIB(4) + 1));
	heap_free(NULL);
}

static void test_no_overlap(void **state)
{
	static unsigned char *p[3000];
	static size_t size[3000];
	u32 seed = 7;

	for (u32 i = 0; i < 3000; i++) {
		seed = seed * 1664525 + 1013904223;
		size[i] = (seed >> 8) % (i % 50 == 0 ? 20000 : 3000) + 1;
		p[i] = heap_alloc(size[i]);
		assert_non_null(p[i]);
		memset(p[i], (int)(i % 251), size[i]);
		if (i % 3 == 2) { /* holes */
			heap_free(p[i - 1]);
			p[i - 1] = NULL;
		}
	}
	for (u32 i = 0; i < 3000; i++) {
		for (size_t k = 0; p[i] != NULL && k < size[i]; k++)
			assert_int_equal(p[i][k], i % 251);
	}
	for (u32 i = 0; i < 3000; i++)
		heap_free(p[(i * 7) % 3000]);
}

/* So many large blocks that their table has chains: holes in one must not hide the rest. */
static void test_many_large(void **state)
{
	static void *p[3500];

	for (u32 i = 0; i < 3500; i++) {
		p[i] = heap_alloc(PAGE_SIZE);
		assert_non_null(p[i]);
	}
	for (u32 i = 0; i < 3500; i += 2)
		heap_free(p[i]);
	for (u32 i = 1; i < 3500; i += 2)
		heap_free(p[i]);
}

static void test_out_of_memory(void **state)
{
	static void *p[64];
	u32 n = 0;

	while (n < 64 && (p[n] = heap_alloc(MIB(1))) != NULL)
		n++;
	assert_int_equal(n, 32); /* 8192 pages are 32 MiB */
	assert_null(heap_alloc(100));
	while (n > 0)
		heap_free(p[--n]);
}

static void test_wrong_frees(void **state)
{
	unsigned char *small = heap_alloc(100), *keep = heap_alloc(100);
	unsigned char *large = heap_alloc(10000);

	assert_true(PANICS(heap_free(small + 1)));
	assert_true(PANICS(heap_free(small + 64)));
	assert_true(PANICS(heap_free((void *)((uintptr_t)small & PAGE_MASK))));
	assert_true(PANICS(heap_free(large + PAGE_SIZE)));
	assert_true(PANICS(heap_free(large + 64)));
	heap_free(large);
	assert_true(PANICS(heap_free(large)));
	heap_free(small);
	assert_true(PANICS(heap_free(small))); /* its page is still a slab: keep is there */
	heap_free(keep);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_sizes, all_back),
		cmocka_unit_test_teardown(test_no_overlap, all_back),
		cmocka_unit_test_teardown(test_many_large, all_back),
		cmocka_unit_test_teardown(test_out_of_memory, all_back),
		cmocka_unit_test_teardown(test_wrong_frees, all_back),
	};

	return cmocka_run_group_tests(tests, start, NULL);
}
