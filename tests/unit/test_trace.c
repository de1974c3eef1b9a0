/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/trace.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86/percpu.h"
#include "core/errno.h"
#include "core/exit.h"
#include "core/heap.h"
#include "core/trace.h"

#define PER_CPU 2048U /* what a ring holds */

struct percpu percpu;
u32 cpu_count = 3;
static u32 allocations;
static u32 allocations_left = 100;

void *heap_alloc(size_t size)
{
	if (!allocations_left)
		return NULL;
	allocations_left--;
	allocations++;
	return calloc(1, size);
}

static struct {
	u32 cpu;
	struct trace_record r;
} seen[20000];
static u32 seen_count;

static void show(u32 cpu, const struct trace_record *r)
{
	seen[seen_count].cpu = cpu;
	seen[seen_count++].r = *r;
}

static void event(u32 cpu, u32 vm, u64 a)
{
	percpu.id = cpu;
	trace_event(vm, 7, TRACE_INJECT, a, ~a);
}

static u32 shown(u32 vm, u32 count)
{
	u32 n;

	seen_count = 0;
	n = trace_show(vm, count, show);
	assert_int_equal(n, seen_count);
	return n;
}

/* The first test: before anything was allocated. */
static void test_off(void **state)
{
	event(0, 0, 1);
	assert_int_equal(allocations, 0);
	assert_int_equal(shown(TRACE_VM_ALL, 10), 0);
	allocations_left = 1;
	assert_int_equal(trace_start(), -ENOMEM);
	assert_int_equal(trace_flags, 0);
	event(0, 0, 1);
	allocations_left = 100;
}

static void test_order(void **state)
{
	assert_int_equal(trace_start(), 0);
	assert_int_equal(trace_flags, TRACE_EVENTS);
	assert_int_equal(shown(TRACE_VM_ALL, 10), 0);
	for (u32 i = 0; i < 100; i++)
		event(i % 3, i % 2, i);
	trace_stop();
	event(0, 0, 1000); /* not recorded */
	assert_int_equal(shown(TRACE_VM_ALL, 1000), 100);
	for (u32 i = 0; i < 100; i++) {
		assert_int_equal(seen[i].r.a, i);
		assert_true(seen[i].r.b == ~(u64)i);
		assert_int_equal(seen[i].cpu, i % 3);
		assert_int_equal(seen[i].r.vm, i % 2);
		assert_int_equal(seen[i].r.vcpu, 7);
		assert_int_equal(seen[i].r.kind, TRACE_INJECT);
	}
	/* The newest ones, in order; those of one VM. */
	assert_int_equal(shown(TRACE_VM_ALL, 10), 10);
	for (u32 i = 0; i < 10; i++)
		assert_int_equal(seen[i].r.a, 90 + i);
	assert_int_equal(shown(1, 5), 5);
	for (u32 i = 0; i < 5; i++)
		assert_int_equal(seen[i].r.a, 91 + 2 * i);
	assert_int_equal(shown(5, 5), 0);
	assert_int_equal(shown(TRACE_VM_ALL, 0), 0);
}

static void test_wrap(void **state)
{
	u32 before = allocations;

	assert_int_equal(trace_start(), 0);
	assert_int_equal(allocations, before); /* the rings are kept */
	assert_int_equal(shown(TRACE_VM_ALL, 10), 0); /* and emptied */
	for (u32 i = 0; i < PER_CPU + 500; i++)
		event(1, 0, i);
	event(2, 0, 9999);
	trace_stop();
	assert_int_equal(shown(TRACE_VM_ALL, 20000), PER_CPU + 1);
	for (u32 i = 0; i < PER_CPU; i++)
		assert_int_equal(seen[i].r.a, 500 + i);
	assert_int_equal(seen[PER_CPU].r.a, 9999);
}

static void test_late_cpu(void **state)
{
	assert_int_equal(trace_start(), 0);
	event(200, 0, 1); /* has no ring */
	trace_stop();
	assert_int_equal(shown(TRACE_VM_ALL, 10), 0);
}

static void test_names(void **state)
{
	for (u32 i = 0; i < VEXIT_KINDS; i++) {
		assert_string_not_equal(vexit_name(i), "?");
		for (u32 j = 0; j < i; j++)
			assert_string_not_equal(vexit_name(i), vexit_name(j));
	}
	assert_string_equal(vexit_name(VEXIT_CPUID), "cpuid");
	assert_string_equal(vexit_name(VEXIT_KINDS), "?");
	assert_string_equal(vexit_name(~0U), "?");
	for (u32 i = 0; i < TRACE_KINDS; i++)
		assert_string_not_equal(trace_kind_name(i), "?");
	assert_string_equal(trace_kind_name(TRACE_KINDS), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_off),	 cmocka_unit_test(test_order),
		cmocka_unit_test(test_wrap),	 cmocka_unit_test(test_late_cpu),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
