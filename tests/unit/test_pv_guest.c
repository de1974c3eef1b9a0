/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/string.c
/*
 * guest-pv's library on a simulated hypervisor: which CPU gets which interrupt,
 * what happens when masks cannot be had, one purpose in the middle of another.
 * test_pv_guest_static.c and test_pv_guest_up.c are the same with other builds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest-pv/pv.c"

#define IDS 1024
#define ALL_FEATURES (PV_FEAT_CLOCK | PV_FEAT_STEAL | PV_FEAT_TLB | PV_FEAT_IPI | PV_FEAT_STABLE)

static uint32_t got[IDS];       /* interrupts by APIC id */
static uint32_t single;
static struct { uint64_t low, high, min, icr; } calls[64];
static uint32_t ncalls;
static int64_t refuse;          /* answer of the hypercall, 0: it works */
static uint64_t fail_from, fail_to, allocs;
static void *blocks[2 * PV_CPUS + 8];
static uint64_t tsc;
static uint32_t local_flushes;
static uint32_t irqs_off;
static void (*in_between)(void); /* an interrupt, at a place where interrupts are on */
static uint32_t signature[4] = { 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d };
static uint64_t msr_system_time, msr_steal;
static bool silent;             /* CPUs do not serve flushes */

static void serve(uint32_t id)
{
	if (silent)
		return;
	for (uint32_t i = 0; i < PV_CPUS; i++)
		if (pv_cpus[i].online && pv_cpus[i].apic_id == id)
			pv_flush_serve(&pv_cpus[i]);
}

static void interrupt_at(uint32_t id, uint8_t vector)
{
	assert_true(id < IDS);
	got[id]++;
	if (vector == PV_FLUSH_VECTOR)
		serve(id);
}

int64_t pvk_hypercall(uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
	assert_int_equal(nr, 10);
	assert_true(irqs_off > 0);
	assert_true(ncalls < 64);
	calls[ncalls].low = a0;
	calls[ncalls].high = a1;
	calls[ncalls].min = a2;
	calls[ncalls++].icr = a3;
	if (refuse != 0)
		return refuse;
	for (uint32_t i = 0; i < 128; i++)
		if (((i < 64 ? a0 >> i : a1 >> (i - 64)) & 1) != 0)
			interrupt_at((uint32_t)a2 + i, (uint8_t)a3);
	return 1;
}

void pvk_native_ipi(uint32_t id, uint8_t vector)
{
	single++;
	interrupt_at(id, vector);
}
void pvk_flush_local(void)
{
	void (*fn)(void) = in_between;

	local_flushes++;
	if (fn != NULL && irqs_off == 0) {
		in_between = NULL;
		fn();
	}
}
void *pvk_alloc(size_t size)
{
	uint64_t nth = allocs++;

	if (nth >= fail_from && nth < fail_to)
		return NULL;
	assert_true(nth < sizeof(blocks) / sizeof(blocks[0]));
	return blocks[nth] = calloc(1, size); /* exactly as large: the sanitizer watches */
}
uint64_t pvk_irq_save(void) { return irqs_off++ == 0 ? 0x200 : 0; }
void pvk_irq_restore(uint64_t flags)
{
	irqs_off--;
	assert_int_equal(flags != 0, irqs_off == 0);
}
void pvk_relax(void) { }
uint64_t pvk_tsc(void) { return tsc; }
void pvk_cpuid(uint32_t leaf, uint32_t r[4])
{
	memset(r, 0, 16);
	if (leaf == 1)
		r[2] = 1u << 31;
	else if (leaf == 0x40000000)
		memcpy(r, signature, 16);
	else if (leaf == 0x40000001)
		r[0] = ALL_FEATURES;
}
void pvk_wrmsr(uint32_t msr, uint64_t value)
{
	if (msr == 0x4b564d01)
		msr_system_time = value;
	else if (msr == 0x4b564d03)
		msr_steal = value;
	else
		fail();
}
uint64_t pvk_shared_address(const volatile void *p) { return (uint64_t)p; }

static int setup(void **state)
{
	memset(pv_cpus, 0, sizeof(pv_cpus));
	memset(pv_records, 0, sizeof(pv_records));
	memset(got, 0, sizeof(got));
	memset(calls, 0, sizeof(calls));
	ncalls = single = local_flushes = irqs_off = 0;
	refuse = 0;
	allocs = fail_from = fail_to = 0;
	in_between = NULL;
	silent = false;
	pv_features = ALL_FEATURES;
	last_ns = 0;
	return 0;
}

static int teardown(void **state)
{
	for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
		free(blocks[i]);
		blocks[i] = NULL;
	}
	assert_int_equal(irqs_off, 0);
	return 0;
}

static void detection(void **state)
{
	pv_features = 0;
	pv_detect();
	assert_int_equal(pv_features, ALL_FEATURES);
	signature[3] = 0x4e;
	pv_detect();
	assert_int_equal(pv_features, 0);
	signature[3] = 0x4d;
}

static void clock_formula(void **state)
{
	struct pv_time_record r = { .tsc_timestamp = 1000, .system_time = 77, .mul = 1u << 31 };

	assert_int_equal(pv_clock_compute(&r, 3000), 77 + 1000);
	r.shift = 2;
	assert_int_equal(pv_clock_compute(&r, 3000), 77 + 4000);
	r.shift = -1;
	assert_int_equal(pv_clock_compute(&r, 3000), 77 + 500);
	r.shift = -128; /* nonsense from a hostile hypervisor: any number, no trap */
	(void)pv_clock_compute(&r, 3000);
	r.shift = 127;
	(void)pv_clock_compute(&r, 3000);
	r.shift = 0;
	/* no overflow */
	assert_int_equal(pv_clock_compute(&r, 1000 + (1ull << 60)), 77 + (1ull << 59));
}

/* Without the promise of the hypervisor the library keeps the order itself. */
static void clock_order(void **state)
{
	pv_cpu_init(0, 0);
	assert_int_equal(msr_system_time, (uint64_t)&pv_records[0].time | 1);
	assert_int_equal(msr_steal, (uint64_t)&pv_records[0].steal | 1);
	pv_records[0].time = (struct pv_time_record){ .version = 2, .mul = 1u << 31 };
	tsc = 1000;
	assert_int_equal(pv_clock_ns(&pv_cpus[0]), 500);
	tsc = 400; /* another CPU's TSC is behind */
	assert_int_equal(pv_clock_ns(&pv_cpus[0]), 500);
	pv_records[0].time.flags = 1;
	assert_int_equal(pv_clock_ns(&pv_cpus[0]), 200);
}

static void steal(void **state)
{
	pv_cpu_init(0, 0);
	pv_records[0].steal.steal = 12345;
	pv_records[0].steal.version = 8;
	assert_int_equal(pv_steal_ns(&pv_cpus[0]), 12345);
	pv_features = 0;
	assert_int_equal(pv_steal_ns(&pv_cpus[0]), 0);
}

static void sets(void **state)
{
	struct pv_cpuset s = { { 0 } };

	assert_int_equal(pv_set_next(&s, 0), PV_CPUS);
	pv_set_add(&s, 0);
	pv_set_add(&s, PV_CPUS - 1);
	pv_set_add(&s, PV_CPUS);     /* not there: no effect */
	pv_set_add(&s, ~0u);
	assert_true(pv_set_has(&s, PV_CPUS - 1));
	assert_false(pv_set_has(&s, PV_CPUS));
	assert_int_equal(pv_set_next(&s, 0), 0);
	assert_int_equal(pv_set_next(&s, 1), PV_CPUS == 1 ? PV_CPUS : PV_CPUS - 1);
	assert_int_equal(pv_set_next(&s, PV_CPUS), PV_CPUS);
	pv_set_del(&s, 0);
	assert_false(pv_set_has(&s, 0));
}

#if PV_CPUS == 1

/* One CPU: the operations are there, need no mask, and the other CPUs are none. */
static void one_cpu(void **state)
{
	struct pv_cpuset s = { { 1 } };

	pv_cpu_init(0, 5);
	assert_int_equal(allocs, 0);
	assert_ptr_equal(pv_cpus[0].send, pv_send_native);
	assert_ptr_equal(pv_cpus[0].flush, pv_flush_native);
	pv_cpus[0].flush(&pv_cpus[0], &s);
	assert_int_equal(local_flushes, 1);
	assert_int_equal(single, 0);
	pv_cpus[0].send(&pv_cpus[0], &s, 0x40);
	assert_int_equal(got[5], 1);
}

#else

static void bring_up(uint32_t n, uint32_t stride)
{
	for (uint32_t i = 0; i < n; i++)
		pv_cpu_init(i, i * stride);
}

static struct pv_cpuset first(uint32_t n)
{
	struct pv_cpuset s = { { 0 } };

	for (uint32_t i = 0; i < n; i++)
		pv_set_add(&s, i);
	return s;
}

static void one_call_for_128(void **state)
{
	struct pv_cpuset s = first(128);

	bring_up(128, 1);
	pv_cpus[3].send(&pv_cpus[3], &s, 0x40);
	assert_int_equal(ncalls, 1);
	assert_int_equal(calls[0].min, 0);
	assert_int_equal(calls[0].low, ~0ull);
	assert_int_equal(calls[0].high, ~0ull);
	assert_int_equal(calls[0].icr, 0x40);
	assert_int_equal(single, 0);
}

/* 130 ids: the second call begins at the lowest one that is left. */
static void several_calls(void **state)
{
	struct pv_cpuset s = first(130);

	bring_up(130, 1);
	pv_set_del(&s, 0);
	pv_set_del(&s, 1);
	pv_cpus[0].send(&pv_cpus[0], &s, 0x40);
	assert_int_equal(ncalls, 1); /* 2..129 fit */
	assert_int_equal(calls[0].min, 2);
	pv_set_add(&s, 0);
	ncalls = 0;
	pv_cpus[0].send(&pv_cpus[0], &s, 0x40);
	assert_int_equal(ncalls, 2);
	assert_int_equal(calls[0].min, 0);
	assert_int_equal(calls[0].low, ~2ull);
	assert_int_equal(calls[1].min, 128);
	assert_int_equal(calls[1].low, 3);
	assert_int_equal(calls[1].high, 0);
	for (uint32_t i = 0; i < 131; i++)
		assert_int_equal(got[i], i == 0 || i > 129 ? i == 0 : i == 1 ? 0 : 2);
}

/* Ids far apart, in any order, and beyond the map: each exactly once. */
static void any_apic_ids(void **state)
{
	static const uint32_t ids[] = { 300, 7, 63, 64, 65, 127, 128, 129, 191, 192, 511, 512, 1000,
					0 };
	struct pv_cpuset s = { { 0 } };
	uint32_t n = sizeof(ids) / sizeof(ids[0]);

	for (uint32_t i = 0; i < n; i++) {
		pv_cpu_init(i, ids[i]);
		pv_set_add(&s, i);
	}
	pv_cpus[0].send(&pv_cpus[0], &s, 0x40);
	for (uint32_t id = 0; id < IDS; id++) {
		uint32_t want = 0;

		for (uint32_t i = 0; i < n; i++)
			want += ids[i] == id;
		assert_int_equal(got[id], want);
	}
	assert_int_equal(single, 2); /* 512 and 1000 */
	assert_int_equal(ncalls, 4); /* 0..127, 128..255, 300..., 511... */
}

static void refused_call(void **state)
{
	struct pv_cpuset s = first(200);

	bring_up(200, 2);
	refuse = -22;
	pv_cpus[0].send(&pv_cpus[0], &s, 0x40);
	for (uint32_t i = 0; i < 512; i++)
		assert_int_equal(got[i], i % 2 == 0 && i < 400);
}

#if !PV_STATIC_MASKS

/* Each allocation fails in turn: that operation of that CPU is the native one, nothing else is. */
static void each_mask_fails(void **state)
{
	const uint32_t n = 6;
	struct pv_cpuset s = first(6);

	for (uint32_t f = 0; f < 2 * n; f++) {
		setup(NULL);
		fail_from = f;
		fail_to = f + 1;
		bring_up(n, 1);
		for (uint32_t i = 0; i < n; i++) {
			struct pv_cpu *c = &pv_cpus[i];
			bool no_ipi = f == 2 * i, no_flush = f == 2 * i + 1;

			assert_ptr_equal(c->send, no_ipi ? pv_send_native : send_pv);
			assert_ptr_equal(c->flush, no_flush ? pv_flush_native : flush_pv);
			assert_int_equal(c->count.no_mask[PV_FOR_IPI], no_ipi);
			assert_int_equal(c->count.no_mask[PV_FOR_FLUSH], no_flush);
			memset(got, 0, sizeof(got));
			ncalls = 0;
			c->send(c, &s, 0x40);
			c->flush(c, &s);
			for (uint32_t k = 0; k < n; k++)
				assert_int_equal(got[k], k == i ? 1 : 2);
		}
		teardown(NULL);
	}
}

/* None can be had before, and again after other CPUs are up; a later try gets them. */
static void all_masks_fail(void **state)
{
	struct pv_cpuset s = first(4);

	fail_to = ~0ull;
	bring_up(4, 1);
	for (uint32_t i = 0; i < 4; i++) {
		assert_null(pv_cpus[i].mask[PV_FOR_IPI]);
		assert_null(pv_cpus[i].mask[PV_FOR_FLUSH]);
		pv_cpus[i].send(&pv_cpus[i], &s, 0x40);
		pv_cpus[i].flush(&pv_cpus[i], &s);
	}
	assert_int_equal(ncalls, 0);
	fail_to = 0;
	pv_install_ops(&pv_cpus[2]);
	assert_ptr_equal(pv_cpus[2].send, send_pv);
	assert_ptr_equal(pv_cpus[1].send, pv_send_native);
	/* A CPU that comes back keeps its masks: nothing is allocated again. */
	fail_to = allocs;
	pv_install_ops(&pv_cpus[2]);
	assert_int_equal(allocs, fail_to);
	assert_ptr_equal(pv_cpus[2].flush, flush_pv);
}

#endif

static void features_decide(void **state)
{
	pv_features = PV_FEAT_TLB; /* without steal time there is nothing to read the flag from */
	pv_cpu_init(0, 0);
	assert_ptr_equal(pv_cpus[0].send, pv_send_native);
	assert_ptr_equal(pv_cpus[0].flush, pv_flush_native);
	assert_int_equal(allocs, 0);
	pv_features = PV_FEAT_IPI;
	pv_cpu_init(0, 0);
	assert_ptr_equal(pv_cpus[0].send, send_pv);
	assert_ptr_equal(pv_cpus[0].flush, pv_flush_native);
}

static void preempted_cpus_flush_later(void **state)
{
	struct pv_cpuset s = first(5);

	bring_up(5, 1);
	pv_records[1].steal.preempted = PV_PREEMPTED;
	pv_records[3].steal.preempted = PV_PREEMPTED;
	pv_cpus[0].flush(&pv_cpus[0], &s);
	assert_int_equal(pv_records[1].steal.preempted, PV_PREEMPTED | PV_FLUSH_TLB);
	assert_int_equal(pv_records[3].steal.preempted, PV_PREEMPTED | PV_FLUSH_TLB);
	assert_int_equal(pv_records[2].steal.preempted, 0);
	assert_int_equal(got[0] + got[1] + got[3], 0);
	assert_int_equal(got[2], 1);
	assert_int_equal(got[4], 1);
	assert_int_equal(local_flushes, 3);
	assert_int_equal(pv_cpus[0].count.flush_deferred, 2);
	assert_int_equal(pv_cpus[0].count.flush_ipis, 2);
	/* all of them: nobody is interrupted */
	for (uint32_t i = 1; i < 5; i++)
		pv_records[i].steal.preempted = PV_PREEMPTED;
	memset(got, 0, sizeof(got));
	pv_cpus[0].flush(&pv_cpus[0], &s);
	assert_int_equal(got[2] + got[4], 0);
	/* the set without oneself: no local flush */
	local_flushes = 0;
	pv_set_del(&s, 0);
	pv_cpus[0].flush(&pv_cpus[0], &s);
	assert_int_equal(local_flushes, 0);
}

/* An interrupt in the middle of a flush sends to everybody: the flush's set is another mask. */
static void handler_sends(void)
{
	struct pv_cpuset s = first(64);

	pv_cpus[0].send(&pv_cpus[0], &s, 0x40);
}

static void ipi_during_flush(void **state)
{
	struct pv_cpuset s = { { 0 } };

	bring_up(64, 1);
	pv_set_add(&s, 0);
	pv_set_add(&s, 9);
	in_between = handler_sends;
	pv_cpus[0].flush(&pv_cpus[0], &s);
	assert_null(in_between); /* it did happen */
	for (uint32_t i = 0; i < 64; i++)
		assert_int_equal(got[i], i == 9 ? 2 : 1);
	assert_int_equal(pv_cpus[9].flush_done, pv_cpus[9].flush_due);
	assert_int_equal(pv_cpus[8].flush_due, 0);
	assert_ptr_not_equal(pv_cpus[0].mask[PV_FOR_IPI], pv_cpus[0].mask[PV_FOR_FLUSH]);
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(detection, setup, teardown),
		cmocka_unit_test_setup_teardown(clock_formula, setup, teardown),
		cmocka_unit_test_setup_teardown(clock_order, setup, teardown),
		cmocka_unit_test_setup_teardown(steal, setup, teardown),
		cmocka_unit_test_setup_teardown(sets, setup, teardown),
#if PV_CPUS == 1
		cmocka_unit_test_setup_teardown(one_cpu, setup, teardown),
#else
		cmocka_unit_test_setup_teardown(one_call_for_128, setup, teardown),
		cmocka_unit_test_setup_teardown(several_calls, setup, teardown),
		cmocka_unit_test_setup_teardown(any_apic_ids, setup, teardown),
		cmocka_unit_test_setup_teardown(refused_call, setup, teardown),
		cmocka_unit_test_setup_teardown(features_decide, setup, teardown),
		cmocka_unit_test_setup_teardown(preempted_cpus_flush_later, setup, teardown),
		cmocka_unit_test_setup_teardown(ipi_during_flush, setup, teardown),
#if !PV_STATIC_MASKS
		cmocka_unit_test_setup_teardown(each_mask_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(all_masks_fail, setup, teardown),
#endif
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
