/* SPDX-License-Identifier: BSD-2-Clause */
#include "vc.h"

/*
 * The library put to the test on all CPUs at once, and an example of its use.
 * Options: rounds=N (work of each test), fail=MASK (allocations that fail),
 * features=MASK (of those offered, what may be used), seconds=N (only the clock,
 * on all CPUs, until so much time has gone by).
 */
#define TEST_VECTOR 0x50
#define ECHO_VECTOR 0x51

static uint64_t rounds;
static uint32_t failures;

static void check(const char *what, bool ok)
{
	if (ok)
		return;
	__atomic_add_fetch(&failures, 1, __ATOMIC_SEQ_CST);
	kernel_print("guest-pv: FAIL %s\n", what);
}

static struct pv_cpuset all(void)
{
	struct pv_cpuset s = { { 0 } };

	for (uint32_t i = 0; i < PV_CPUS; i++)
		if (__atomic_load_n(&pv_cpus[i].online, __ATOMIC_ACQUIRE))
			pv_set_add(&s, i);
	return s;
}

static struct pv_cpuset others(const struct pv_cpu *self)
{
	struct pv_cpuset s = all();

	pv_set_del(&s, self->number);
	return s;
}

/* --- clock ------------------------------------------------------------------------------------------ */

static uint64_t seen_ns;
static uint32_t backwards;

static void clock_work(struct pv_cpu *self)
{
	for (uint64_t i = 0; i < rounds; i++) {
		uint64_t before = __atomic_load_n(&seen_ns, __ATOMIC_SEQ_CST);
		uint64_t now = pv_clock_ns(self);

		if (now < before)
			__atomic_add_fetch(&backwards, 1, __ATOMIC_SEQ_CST);
		while (before < now &&
		       !__atomic_compare_exchange_n(&seen_ns, &before, now, false, __ATOMIC_SEQ_CST,
						    __ATOMIC_SEQ_CST))
			;
	}
}

static void test_clock(void)
{
	uint64_t before;

	if ((pv_features & PV_FEAT_CLOCK) == 0)
		return;
	before = pv_clock_ns(kernel_self());
	kernel_on_all(clock_work);
	check("clock goes back", backwards == 0);
	check("clock stands", pv_clock_ns(kernel_self()) > before);
	kernel_print("guest-pv: clock %lu ns, backwards %u\n", seen_ns, backwards);
}

/*
 * For a day, on machines whose time runs fast: each CPU looks at what all others
 * have read from their clocks before it reads its own, so that a step back
 * between any two of them is seen.
 */
static struct {
	uint64_t ns;            /* the last reading, for others */
	uint64_t first_ns, first_tsc, last_ns, last_tsc;
	uint32_t met[PV_CPUS];  /* new readings of each other CPU that were looked at */
	uint64_t known[PV_CPUS];
} __attribute__((aligned(64))) watch[PV_CPUS];
static uint64_t watch_ns;
#define WATCH_BURST 200
#define WATCH_PERIOD_NS 10000000000ull

static void look_at_others(uint32_t self)
{
	for (uint32_t i = 0; i < kernel_cpus; i++) {
		uint64_t ns = __atomic_load_n(&watch[i].ns, __ATOMIC_SEQ_CST);

		watch[self].met[i] += i != self && ns != watch[self].known[i];
		watch[self].known[i] = ns;
	}
}

/* Both clocks at one moment: once more when the CPU was away in between. */
static uint64_t read_both(struct pv_cpu *cpu, uint64_t *tsc)
{
	uint64_t ns;

	do {
		*tsc = pvk_tsc();
		ns = pv_clock_ns(cpu);
	} while (pvk_tsc() - *tsc > 1000000);
	return ns;
}

static void watch_work(struct pv_cpu *cpu)
{
	uint32_t self = cpu->number, turn = 0;
	uint64_t now;

	watch[self].first_ns = read_both(cpu, &watch[self].first_tsc);
	do {
		look_at_others(self);
		now = pv_clock_ns(cpu);
		for (uint32_t i = 0; i < kernel_cpus; i++)
			if (now < watch[self].known[i])
				__atomic_add_fetch(&backwards, 1, __ATOMIC_SEQ_CST);
		__atomic_store_n(&watch[self].ns, now, __ATOMIC_SEQ_CST);
		/* All at once, then none: time flies while all sleep. */
		if (++turn % WATCH_BURST == 0)
			kernel_sleep_until(cpu, (now / WATCH_PERIOD_NS + 1) * WATCH_PERIOD_NS);
	} while (now - watch[self].first_ns < watch_ns);
	watch[self].last_ns = read_both(cpu, &watch[self].last_tsc);
}

static int watch_clocks(uint64_t seconds)
{
	uint32_t fewest = ~0u;

	watch_ns = seconds * 1000000000ull;
	kernel_on_all(watch_work);
	for (uint32_t i = 0; i < kernel_cpus; i++) {
		for (uint32_t k = 0; k < kernel_cpus; k++)
			fewest = i != k && watch[i].met[k] < fewest ? watch[i].met[k] : fewest;
		kernel_print("guest-pv: CPU %u: %lu ns in %lu ticks\n", i,
			     watch[i].last_ns - watch[i].first_ns, watch[i].last_tsc - watch[i].first_tsc);
	}
	kernel_print("guest-pv: backwards %u, each pair met %u times or more\n", backwards, fewest);
	check("clock goes back", backwards == 0);
	check("clocks not compared", fewest > 0);
	kernel_print("guest-pv: %s\n", failures == 0 ? "PASS" : "FAILED");
	return failures == 0 ? 0 : 1;
}

/* --- interrupts to sets of CPUs ---------------------------------------------------------------------- */

static uint64_t taken[PV_CPUS], echoes[PV_CPUS];

static void on_test(struct pv_cpu *self)
{
	__atomic_add_fetch(&taken[self->number], 1, __ATOMIC_SEQ_CST);
}

static bool wait_all(const struct pv_cpuset *set, const uint64_t *count, uint64_t want)
{
	uint64_t end = pvk_tsc() + 60000000000ull;

	for (uint32_t i = pv_set_next(set, 0); i < PV_CPUS; i = pv_set_next(set, i + 1))
		while (__atomic_load_n(&count[i], __ATOMIC_SEQ_CST) < want) {
			if ((int64_t)(pvk_tsc() - end) > 0)
				return false;
			pvk_relax();
		}
	return true;
}

static void test_ipi(void)
{
	struct pv_cpu *self = kernel_self();
	struct pv_cpuset to = others(self);
	uint64_t calls = self->count.ipi_hypercalls, native = self->count.ipi_native, n = rounds / 50 + 1;

	for (uint64_t i = 1; i <= n; i++) {
		self->send(self, &to, TEST_VECTOR);
		if (!wait_all(&to, taken, i)) {
			check("an interrupt of a set is lost", false);
			return;
		}
	}
	for (uint32_t i = pv_set_next(&to, 0); i < PV_CPUS; i = pv_set_next(&to, i + 1))
		check("an interrupt came twice", taken[i] == n);
	check("sent to itself", taken[self->number] == 0);
	kernel_print("guest-pv: %lu multicasts to %u CPUs: %lu hypercalls, %lu single IPIs\n", n,
		     kernel_cpus - 1, self->count.ipi_hypercalls - calls, self->count.ipi_native - native);
}

/* --- flush ------------------------------------------------------------------------------------------- */

extern uint64_t pml4[512];
static uint64_t table_pdpt[512] __attribute__((aligned(4096)));
static uint64_t table_pd[512] __attribute__((aligned(4096)));
static uint64_t table_pt[512] __attribute__((aligned(4096)));
#define FRAMES 16 /* an old one keeps its number long enough to be noticed */
static uint64_t frames[FRAMES][512] __attribute__((aligned(4096)));
static uint64_t flush_round, flush_stop;
static uint64_t looks[PV_CPUS];
static uint32_t stale;

#define TEST_WINDOW 0x8000000000ull /* slot 1 of the PML4 */

static uint64_t read_window(void)
{
	return *(volatile uint64_t *)TEST_WINDOW;
}

/* Until each reader has begun a look and ended it since. */
static void wait_for_looks(const struct pv_cpu *self)
{
	static uint64_t before[PV_CPUS];
	struct pv_cpuset set = others(self);

	for (uint32_t i = pv_set_next(&set, 0); i < PV_CPUS; i = pv_set_next(&set, i + 1))
		before[i] = __atomic_load_n(&looks[i], __ATOMIC_SEQ_CST);
	for (uint32_t i = pv_set_next(&set, 0); i < PV_CPUS; i = pv_set_next(&set, i + 1))
		while (__atomic_load_n(&looks[i], __ATOMIC_SEQ_CST) < before[i] + 2)
			pvk_relax();
}

/* Readers: once a round's flush is announced as done, the old frame must not be seen. */
static void flush_work(struct pv_cpu *self)
{
	if (self->number != 0) {
		while (__atomic_load_n(&flush_stop, __ATOMIC_SEQ_CST) == 0) {
			uint64_t round = __atomic_load_n(&flush_round, __ATOMIC_SEQ_CST);

			/* Frames carry the round from which on they are mapped. */
			if (read_window() < round)
				__atomic_add_fetch(&stale, 1, __ATOMIC_SEQ_CST);
			__atomic_add_fetch(&looks[self->number], 1, __ATOMIC_SEQ_CST);
		}
		return;
	}
	for (uint64_t i = 1; i <= rounds / 50 + 1; i++) {
		struct pv_cpuset set = all();

		*(volatile uint64_t *)frames[i % FRAMES] = i;
		__atomic_store_n(&table_pt[0], (uint64_t)frames[i % FRAMES] | vc_c_bit | 3, __ATOMIC_SEQ_CST);
		self->flush(self, &set);
		__atomic_store_n(&flush_round, i, __ATOMIC_SEQ_CST);
		wait_for_looks(self);
	}
	__atomic_store_n(&flush_stop, 1, __ATOMIC_SEQ_CST);
}

static void test_flush(void)
{
	struct pv_cpu *self = kernel_self();

	kernel_on_all(flush_work);
	check("a stale translation was used", stale == 0);
	kernel_print("guest-pv: flushes: %lu deferred, %lu by IPI, stale %u\n", self->count.flush_deferred,
		     self->count.flush_ipis, stale);
}

/* --- interrupts that send while a flush is on its way -------------------------------------------------- */

/* On CPU 0, in the middle of its flush: sends to all others from the handler. */
static void on_echo(struct pv_cpu *self)
{
	struct pv_cpuset to = others(self);

	self->send(self, &to, TEST_VECTOR);
	__atomic_add_fetch(&echoes[self->number], 1, __ATOMIC_SEQ_CST);
}

static void mixed_work(struct pv_cpu *self)
{
	struct pv_cpuset zero = { { 0 } };
	uint64_t n = rounds / 100 + 1;

	pv_set_add(&zero, 0);
	for (uint64_t i = 0; i < n; i++) {
		if (self->number == 0) {
			struct pv_cpuset set = all();

			self->flush(self, &set);
		} else if (self->number == 1) {
			uint64_t before = __atomic_load_n(&echoes[0], __ATOMIC_SEQ_CST);

			self->send(self, &zero, ECHO_VECTOR);
			if (!wait_all(&zero, echoes, before + 1))
				check("CPU 0 does not answer", false);
		}
	}
}

static void test_mixed(void)
{
	struct pv_cpuset to;
	uint64_t n = rounds / 100 + 1;

	if (kernel_cpus < 2)
		return;
	for (uint32_t i = 0; i < PV_CPUS; i++)
		__atomic_store_n(&taken[i], 0, __ATOMIC_SEQ_CST);
	kernel_on_all(mixed_work);
	check("an echo is lost", echoes[0] == n);
	to = others(kernel_self());
	/* Two that come close together may be one: the last one counts. */
	check("an interrupt sent during a flush is lost", wait_all(&to, taken, 1));
	kernel_print("guest-pv: %lu IPIs during flushes answered\n", echoes[0]);
}

/* --- all ------------------------------------------------------------------------------------------------ */

void app_early(void)
{
	rounds = kernel_option("rounds", 2000);
	kernel_handler[TEST_VECTOR] = on_test;
	kernel_handler[ECHO_VECTOR] = on_echo;
	table_pt[0] = (uint64_t)frames[0] | vc_c_bit | 3;
	table_pd[0] = (uint64_t)table_pt | vc_c_bit | 3;
	table_pdpt[0] = (uint64_t)table_pd | vc_c_bit | 3;
	pml4[1] = (uint64_t)table_pdpt | vc_c_bit | 3;
}

int app_main(void)
{
	uint32_t no_ipi = 0, no_flush = 0;

	if (kernel_option("seconds", 0) != 0)
		return watch_clocks(kernel_option("seconds", 0));
	test_clock();
	test_ipi();
	test_flush();
	test_mixed();
	for (uint32_t i = 0; i < PV_CPUS; i++) {
		no_ipi += pv_cpus[i].count.no_mask[PV_FOR_IPI];
		no_flush += pv_cpus[i].count.no_mask[PV_FOR_FLUSH];
		if (pv_cpus[i].online)
			check("an operation is missing", pv_cpus[i].send != NULL && pv_cpus[i].flush != NULL);
	}
	kernel_print("guest-pv: masks missing: %u for IPIs, %u for flushes; steal %lu ns\n", no_ipi,
		     no_flush, pv_steal_ns(kernel_self()));
	kernel_print("guest-pv: %s\n", failures == 0 ? "PASS" : "FAILED");
	return failures == 0 ? 0 : 1;
}
