/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/tsc_sync.h"
#include "arch/x86/smp.h"
#include "arch/x86/tsc.h"
#include "core/log.h"
#include "core/spinlock.h"
#include "core/unit.h"

/*
 * Do all CPUs' TSCs agree? Each CPU takes turns with the boot CPU in reading it
 * under a lock; a value below the one before, on whichever CPU, is a step back.
 * A TSC whose rate follows the CPU's clock drifts apart later: it does not count
 * as synchronised, whatever is measured, unless an emulator provides it.
 */
#define TEST_US 1000U

bool tsc_synchronised;

static struct {
	spinlock_t lock;
	u32 present;
	u64 last;
	u64 step; /* the largest one back */
} test;

/* Not before what stands in front of it. */
static u64 rdtsc_ordered(void)
{
	__asm__ volatile("lfence" ::: "memory");
	return rdtsc();
}

static void take_turns(void *arg)
{
	u64 end;

	(void)arg;
	__atomic_add_fetch(&test.present, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&test.present, __ATOMIC_SEQ_CST) < 2)
		cpu_relax();
	end = rdtsc_ordered() + ns_to_tsc(TEST_US * 1000UL);
	for (;;) {
		u64 now;

		spin_lock(&test.lock);
		now = rdtsc_ordered();
		if (now < test.last)
			test.step = MAX(test.step, test.last - now);
		test.last = now;
		spin_unlock(&test.lock);
		if ((s64)(now - end) >= 0)
			return;
	}
}

static int tsc_sync_init(void)
{
	u64 worst = 0;

	for (u32 cpu = 1; cpu < cpu_count; cpu++) {
		test.present = 0;
		test.last = test.step = 0;
		(void)smp_call_both(cpu, take_turns, NULL); /* the number is in range */
		worst = MAX(worst, test.step);
	}
	tsc_synchronised = worst == 0 && (cpu_count == 1 || cpu_features.tsc_invariant ||
					  cpu_features.hypervisor);
	if (worst != 0)
		log_warn("tsc: the CPUs' counters are up to %lu ticks apart: guests' clocks are slower "
			 "to read, and their timers less exact", worst);
	return 0;
}
UNIT(10, tsc_sync) = { .name = "tsc_sync", .init = tsc_sync_init };
