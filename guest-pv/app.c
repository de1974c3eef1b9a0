/* SPDX-License-Identifier: BSD-2-Clause */
#include "vc.h"

/*
 * The library put to the test on all CPUs at once, and an example of its use.
 * Options: rounds=N (work of each test), fail=MASK (allocations that fail),
 * features=MASK (of those offered, what may be used), seconds=N (only the clock,
 * on all CPUs, until so much time has gone by; period=N seconds between two looks
 * at it, report=N between two lines that say what it shows).
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

/* --- clock ----------------------------------------------------------------------------------- */

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
struct reading {
	uint64_t ns, tsc;
};
static struct {
	uint64_t ns; /* the last reading, for others */
	struct reading first, last;
	uint32_t met[PV_CPUS]; /* new readings of each other CPU that were looked at */
	uint64_t known[PV_CPUS];
} __attribute__((aligned(64))) watch[PV_CPUS];
static uint64_t watch_ns, watch_period_ns, report_ns;
#define WATCH_BURST 100
#define SECOND 1000000000ull

static void look_at_others(uint32_t self)
{
	for (uint32_t i = 0; i < kernel_cpus; i++) {
		uint64_t ns = __atomic_load_n(&watch[i].ns, __ATOMIC_SEQ_CST);

		watch[self].met[i] += i != self && ns != watch[self].known[i];
		watch[self].known[i] = ns;
	}
}

static uint64_t look_at_own(struct pv_cpu *cpu)
{
	uint32_t self = cpu->number;
	uint64_t now = pv_clock_ns(cpu);

	for (uint32_t i = 0; i < kernel_cpus; i++)
		if (now < watch[self].known[i])
			__atomic_add_fetch(&backwards, 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&watch[self].ns, now, __ATOMIC_SEQ_CST);
	return now;
}

/* No CPU has read less before, none more since: who stops this VM now holds that against the next
 * run, or what comes after a reset. */
static void report(void)
{
	static uint64_t due;
	uint64_t latest = 0;

	for (uint32_t i = 0; i < kernel_cpus; i++)
		latest = watch[i].ns > latest ? watch[i].ns : latest;
	if (report_ns == 0 || latest < due)
		return;
	due = (latest / report_ns + 1) * report_ns;
	kernel_print("guest-pv: clock at %lu ns\n", latest);
}

static void sleep_until(struct pv_cpu *cpu, uint64_t ns)
{
	while (pv_clock_ns(cpu) < ns)
		kernel_sleep_until(cpu, ns);
}

static void watch_first(struct pv_cpu *cpu)
{
	struct reading *r = &watch[cpu->number].first;

	r->ns = pv_clock_read(cpu, &r->tsc);
}

static void watch_work(struct pv_cpu *cpu)
{
	struct reading *last = &watch[cpu->number].last;
	uint32_t self = cpu->number, turn = 0;
	uint64_t now;

	do {
		look_at_others(self);
		now = look_at_own(cpu);
		if (++turn % WATCH_BURST != 0)
			continue;
		if (self == 0)
			report();
		/* All at once, then none: time flies while all sleep. */
		sleep_until(cpu, (now / watch_period_ns + 1) * watch_period_ns);
	} while (now - watch[self].first.ns < watch_ns);
	last->ns = pv_clock_read(cpu, &last->tsc);
}

static void print_watch(uint32_t cpu)
{
	const struct pv_time_record *r = &pv_records[cpu].time;

	kernel_print("guest-pv: CPU %u: %lu ns in %lu ticks\n", cpu,
		     watch[cpu].last.ns - watch[cpu].first.ns,
		     watch[cpu].last.tsc - watch[cpu].first.tsc);
	kernel_print("guest-pv: CPU %u: %lu ns at %lu, from %lu ns at %lu by %u * 2^%u\n", cpu,
		     watch[cpu].last.ns, watch[cpu].last.tsc, r->system_time, r->tsc_timestamp,
		     r->mul, (uint32_t)(uint8_t)r->shift);
}

static int watch_clocks(uint64_t seconds)
{
	uint32_t fewest = ~0u;
	uint64_t earliest = ~0ull;

	watch_ns = seconds * SECOND;
	watch_period_ns = kernel_option("period", 10) * SECOND;
	report_ns = kernel_option("report", 0) * SECOND;
	kernel_on_all(watch_first);
	for (uint32_t i = 0; i < kernel_cpus; i++)
		earliest = watch[i].first.ns < earliest ? watch[i].first.ns : earliest;
	kernel_print("guest-pv: clock from %lu ns\n", earliest);
	kernel_on_all(watch_work);
	for (uint32_t i = 0; i < kernel_cpus; i++) {
		for (uint32_t k = 0; k < kernel_cpus; k++)
			fewest = i != k && watch[i].met[k] < fewest ? watch[i].met[k] : fewest;
		print_watch(i);
	}
	kernel_print("guest-pv: backwards %u, each pair met %u times or more\n", backwards, fewest);
	check("clock goes back", backwards == 0);
	check("clocks not compared", fewest > 0);
	kernel_print("guest-pv: %s\n", failures == 0 ? "PASS" : "FAILED");
	return failures == 0 ? 0 : 1;
}

/* --- interrupts to sets of CPUs -------------------------------------------------------------- */

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
	uint64_t calls = self->count.ipi_hypercalls, native = self->count.ipi_native;
	uint64_t n = rounds / 50 + 1;

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
		     kernel_cpus - 1, self->count.ipi_hypercalls - calls,
		     self->count.ipi_native - native);
}

/* --- flush ----------------------------------------------------------------------------------- */

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

		uint64_t frame = (uint64_t)frames[i % FRAMES];

		*(volatile uint64_t *)frame = i;
		__atomic_store_n(&table_pt[0], frame | vc_c_bit | 3, __ATOMIC_SEQ_CST);
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
	kernel_print("guest-pv: flushes: %lu deferred, %lu by IPI, stale %u\n",
		     self->count.flush_deferred, self->count.flush_ipis, stale);
}

/* --- interrupts that send while a flush is on its way ---------------------------------------- */

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

/* --- by which way, on each CPU --------------------------------------------------------------- */

#define TURNS 5

static void (*turn_work)(struct pv_cpu *self);
static uint32_t turn;

static void take_turn(struct pv_cpu *self)
{
	if (self->number == turn)
		turn_work(self);
}

/* On one CPU after the other (of many: on four), while the others take interrupts. */
static void each_in_turn(void (*fn)(struct pv_cpu *self))
{
	uint32_t step = kernel_cpus <= 8 ? 1 : kernel_cpus / 3;

	turn_work = fn;
	for (turn = 0; turn < kernel_cpus; turn += step)
		kernel_on_all(take_turn);
}

/* With the mask one hypercall for a set, without it one interrupt for each CPU. */
static void count_ipis(struct pv_cpu *self)
{
	struct pv_cpuset to = others(self);
	uint64_t calls = self->count.ipi_hypercalls, single = self->count.ipi_native;
	bool pv = self->mask[PV_FOR_IPI] != NULL && kernel_cpus > 1;

	for (uint32_t i = 0; i < PV_CPUS; i++)
		__atomic_store_n(&taken[i], 0, __ATOMIC_SEQ_CST);
	for (uint64_t i = 1; i <= TURNS; i++) {
		self->send(self, &to, TEST_VECTOR);
		check("an interrupt of a turn is lost", wait_all(&to, taken, i));
	}
	calls = self->count.ipi_hypercalls - calls;
	single = self->count.ipi_native - single;
	check("IPIs by hypercall", calls == (pv ? TURNS : 0));
	check("single IPIs", single == (pv ? 0 : TURNS * (kernel_cpus - 1)));
	check("the sender is interrupted", taken[self->number] == 0);
}

/* Each other CPU is interrupted, or, by a CPU with a mask, left to flush when it runs again. */
static void count_flushes(struct pv_cpu *self)
{
	struct pv_cpuset set = all();
	uint64_t deferred = self->count.flush_deferred, ipis = self->count.flush_ipis;

	for (uint32_t i = 0; i < TURNS; i++)
		self->flush(self, &set);
	deferred = self->count.flush_deferred - deferred;
	ipis = self->count.flush_ipis - ipis;
	check("flushes of a set", deferred + ipis == TURNS * (kernel_cpus - 1));
	check("flushes left to be done later", deferred == 0 || self->mask[PV_FOR_FLUSH] != NULL);
}

static void count_ways(struct pv_cpu *self)
{
	struct pv_counters before = self->count, *now = &self->count;

	count_ipis(self);
	kernel_print("guest-pv: CPU %u: %u multicasts: %lu hypercalls, %lu single IPIs",
		     self->number, TURNS, now->ipi_hypercalls - before.ipi_hypercalls,
		     now->ipi_native - before.ipi_native);
	before = *now;
	count_flushes(self);
	kernel_print("; flushes: %lu deferred, %lu by IPI\n",
		     now->flush_deferred - before.flush_deferred,
		     now->flush_ipis - before.flush_ipis);
}

#if PV_CPUS > 1

static bool offered(uint32_t purpose)
{
	uint32_t need = purpose == PV_FOR_IPI ? PV_FEAT_IPI : PV_FEAT_TLB | PV_FEAT_STEAL;

	return (pv_features & need) == need;
}

/* Gives up the mask and asks for another one, with or without success. */
static void ask_again(struct pv_cpu *self, uint32_t purpose, bool success)
{
	uint64_t flags = pvk_irq_save();
	bool want = offered(purpose) && (success || PV_STATIC_MASKS);

	self->mask[purpose] = NULL;
	kernel_no_memory = !success;
	pv_install_ops(self);
	kernel_no_memory = false;
	pvk_irq_restore(flags);
	check("mask", (self->mask[purpose] != NULL) == want);
	check("send", (self->send == pv_send_native) == (self->mask[PV_FOR_IPI] == NULL));
	check("flush", (self->flush == pv_flush_native) == (self->mask[PV_FOR_FLUSH] == NULL));
}

/*
 * With all CPUs up, each of them loses each mask. The native operation takes the
 * place for that purpose alone, and the paravirtual one again with a new mask.
 */
static void lose_masks(struct pv_cpu *self)
{
	for (uint32_t purpose = 0; purpose < PV_PURPOSES; purpose++) {
		ask_again(self, purpose, false);
		count_ipis(self);
		count_flushes(self);
		ask_again(self, purpose, true);
		count_ipis(self);
		count_flushes(self);
	}
}

#else

static void lose_masks(struct pv_cpu *self)
{
	(void)self; /* one CPU has none */
}

#endif

/* --- all ------------------------------------------------------------------------------------- */

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

static uint32_t missing(uint32_t purpose)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < PV_CPUS; i++)
		n += pv_cpus[i].count.no_mask[purpose];
	return n;
}

int app_main(void)
{
	if (kernel_option("seconds", 0) != 0)
		return watch_clocks(kernel_option("seconds", 0));
	test_clock();
	test_ipi();
	test_flush();
	each_in_turn(count_ways);
	kernel_print("guest-pv: masks missing: %u for IPIs, %u for flushes; steal %lu ns\n",
		     missing(PV_FOR_IPI), missing(PV_FOR_FLUSH), pv_steal_ns(kernel_self()));
	each_in_turn(lose_masks);
	kernel_print("guest-pv: masks lost and found: %u failures\n",
		     missing(PV_FOR_IPI) + missing(PV_FOR_FLUSH));
	test_mixed();
	for (uint32_t i = 0; i < PV_CPUS; i++)
		if (pv_cpus[i].online)
			check("an operation is missing",
			      pv_cpus[i].send != NULL && pv_cpus[i].flush != NULL);
	kernel_print("guest-pv: %s\n", failures == 0 ? "PASS" : "FAILED");
	return failures == 0 ? 0 : 1;
}
