/* SPDX-License-Identifier: BSD-2-Clause */
#include "pv.h"

/*
 * One rule orders everything here: a CPU's masks exist before the operations
 * that use them are installed. A mask that cannot be had leaves the native
 * operation in place, for that purpose and that CPU alone.
 */

struct pv_cpu pv_cpus[PV_CPUS];
PV_SHARED struct pv_records pv_records[PV_CPUS];
uint32_t pv_features;

#define HV_BASE 0x40000000u
#define MSR_SYSTEM_TIME 0x4b564d01u
#define MSR_STEAL_TIME 0x4b564d03u
#define HC_SEND_IPI 10
#define ENABLE 1ull
#define NO_APIC_ID UINT32_MAX

uint32_t pv_set_next(const struct pv_cpuset *s, uint32_t from)
{
	while (from < PV_CPUS) {
		uint64_t word = s->bits[from / 64] >> (from % 64);
		uint32_t found;

		if (word != 0) {
			found = from + (uint32_t)__builtin_ctzll(word);
			return found < PV_CPUS ? found : PV_CPUS;
		}
		from = (from / 64 + 1) * 64;
	}
	return PV_CPUS;
}

void pv_detect(void)
{
	uint32_t r[4];

	pv_features = 0;
	pvk_cpuid(1, r);
	if ((r[2] >> 31) == 0)
		return;
	pvk_cpuid(HV_BASE, r);
	/* "KVMKVMKVM" and three zero bytes in EBX, ECX, EDX; old hosts say 0 for the last leaf. */
	if (r[1] != 0x4b4d564b || r[2] != 0x564b4d56 || r[3] != 0x4d)
		return;
	pvk_cpuid(HV_BASE + 1, r);
	pv_features = r[0];
}

/* --- interrupts to a set of CPUs ------------------------------------------------------------- */

void pv_send_native(struct pv_cpu *self, const struct pv_cpuset *to, uint8_t vector)
{
	for (uint32_t i = pv_set_next(to, 0); i < PV_CPUS; i = pv_set_next(to, i + 1)) {
		pvk_native_ipi(pv_cpus[i].apic_id, vector);
		self->count.ipi_native++;
	}
}

#if PV_CPUS > 1

/* 64 bits of the map from bit `at` on. */
static uint64_t window(const uint64_t *map, uint32_t at)
{
	uint32_t word = at / 64, shift = at % 64;
	uint64_t low = word < PV_WORDS(PV_APIC_IDS) ? map[word] >> shift : 0;

	if (shift != 0 && word + 1 < PV_WORDS(PV_APIC_IDS))
		low |= map[word + 1] << (64 - shift);
	return low;
}

/* The lowest APIC id from that one on, NO_APIC_ID when there is none. */
static uint32_t next_apic_id(const uint64_t *map, uint32_t from)
{
	while (from < PV_APIC_IDS) {
		uint64_t w = window(map, from);

		if (w != 0)
			return from + (uint32_t)__builtin_ctzll(w);
		from += 64;
	}
	return NO_APIC_ID;
}

/* A call reaches 128 APIC ids from the lowest one on: as many calls as that takes. */
static void send_windows(struct pv_cpu *self, const uint64_t *map, uint8_t vector)
{
	uint32_t low = next_apic_id(map, 0);

	while (low != NO_APIC_ID) {
		int64_t r = pvk_hypercall(HC_SEND_IPI, window(map, low), window(map, low + 64), low,
					  vector);

		self->count.ipi_hypercalls++;
		if (r < 0) { /* refused after all: this window one by one */
			for (uint32_t id = low; id < low + 128 && id < PV_APIC_IDS; id++) {
				if ((map[id / 64] >> (id % 64) & 1) == 0)
					continue;
				pvk_native_ipi(id, vector);
				self->count.ipi_native++;
			}
		}
		low = next_apic_id(map, low + 128);
	}
}

/* Interrupts off: a handler that sends, too, would use the same mask. */
static void send_pv(struct pv_cpu *self, const struct pv_cpuset *to, uint8_t vector)
{
	uint64_t *map = self->mask[PV_FOR_IPI]->apic_ids;
	uint64_t flags = pvk_irq_save();

	for (uint32_t w = 0; w < PV_WORDS(PV_APIC_IDS); w++)
		map[w] = 0;
	for (uint32_t i = pv_set_next(to, 0); i < PV_CPUS; i = pv_set_next(to, i + 1)) {
		uint32_t id = pv_cpus[i].apic_id;

		if (id < PV_APIC_IDS) {
			map[id / 64] |= 1ull << (id % 64);
		} else {
			pvk_native_ipi(id, vector);
			self->count.ipi_native++;
		}
	}
	send_windows(self, map, vector);
	pvk_irq_restore(flags);
}

#endif

/* --- TLB flush on a set of CPUs -------------------------------------------------------------- */

void pv_flush_serve(struct pv_cpu *self)
{
	/* The handler within this would finish what is newer, and be undone by what is older. */
	uint64_t flags = pvk_irq_save();
	uint64_t due = __atomic_load_n(&self->flush_due, __ATOMIC_SEQ_CST);

	if (__atomic_load_n(&self->flush_done, __ATOMIC_RELAXED) != due) {
		pvk_flush_local();
		__atomic_store_n(&self->flush_done, due, __ATOMIC_SEQ_CST);
	}
	pvk_irq_restore(flags);
}

/*
 * Asks each CPU of the set, then waits for each. A CPU that waits serves what
 * others ask of it: two that flush each other with interrupts off both go on.
 */
static void flush_by_ipi(struct pv_cpu *self, const struct pv_cpuset *on)
{
	for (uint32_t i = pv_set_next(on, 0); i < PV_CPUS; i = pv_set_next(on, i + 1)) {
		if (i == self->number)
			continue;
		__atomic_add_fetch(&pv_cpus[i].flush_due, 1, __ATOMIC_SEQ_CST);
		self->count.flush_ipis++;
	}
	self->send(self, on, PV_FLUSH_VECTOR);
	for (uint32_t i = pv_set_next(on, 0); i < PV_CPUS; i = pv_set_next(on, i + 1)) {
		uint64_t due = __atomic_load_n(&pv_cpus[i].flush_due, __ATOMIC_SEQ_CST);
		const uint64_t *done = &pv_cpus[i].flush_done;

		if (i == self->number)
			continue;
		while ((int64_t)(__atomic_load_n(done, __ATOMIC_SEQ_CST) - due) < 0) {
			pv_flush_serve(self);
			pvk_relax();
		}
	}
}

/* The set may hold this CPU, which needs no interrupt for it. */
void pv_flush_native(struct pv_cpu *self, const struct pv_cpuset *on)
{
	struct pv_cpuset others = *on;

	if (pv_set_has(on, self->number))
		pvk_flush_local();
	pv_set_del(&others, self->number);
	if (pv_set_next(&others, 0) < PV_CPUS)
		flush_by_ipi(self, &others);
}

#if PV_CPUS > 1

/* A CPU that does not run flushes before it runs again: the hypervisor sees to that. */
static bool defer(uint32_t cpu)
{
	uint8_t *flags = &pv_records[cpu].steal.preempted;
	uint8_t old = __atomic_load_n(flags, __ATOMIC_SEQ_CST);

	return (old & PV_PREEMPTED) != 0 &&
	       __atomic_compare_exchange_n(flags, &old, (uint8_t)(old | PV_FLUSH_TLB), false,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void flush_pv(struct pv_cpu *self, const struct pv_cpuset *on)
{
	struct pv_cpuset *rest = &self->mask[PV_FOR_FLUSH]->cpus;

	if (pv_set_has(on, self->number))
		pvk_flush_local();
	*rest = *on;
	pv_set_del(rest, self->number);
	for (uint32_t i = pv_set_next(rest, 0); i < PV_CPUS; i = pv_set_next(rest, i + 1)) {
		if (!defer(i))
			continue;
		pv_set_del(rest, i);
		self->count.flush_deferred++;
	}
	if (pv_set_next(rest, 0) < PV_CPUS)
		flush_by_ipi(self, rest);
}

static struct pv_mask *get_mask(struct pv_cpu *c, enum pv_purpose purpose)
{
#if PV_STATIC_MASKS
	return &c->space[purpose];
#else
	struct pv_mask *m = c->mask[purpose]; /* a CPU that comes back has kept its masks */

	if (m == NULL)
		m = pvk_alloc(sizeof(*m));
	if (m == NULL)
		c->count.no_mask[purpose]++;
	return m;
#endif
}

#endif

void pv_install_ops(struct pv_cpu *c)
{
	__atomic_store_n(&c->send, pv_send_native, __ATOMIC_RELEASE);
	__atomic_store_n(&c->flush, pv_flush_native, __ATOMIC_RELEASE);
#if PV_CPUS > 1
	if ((pv_features & PV_FEAT_IPI) != 0) {
		c->mask[PV_FOR_IPI] = get_mask(c, PV_FOR_IPI);
		if (c->mask[PV_FOR_IPI] != NULL)
			__atomic_store_n(&c->send, send_pv, __ATOMIC_RELEASE);
	}
	if ((pv_features & PV_FEAT_TLB) != 0 && (pv_features & PV_FEAT_STEAL) != 0) {
		c->mask[PV_FOR_FLUSH] = get_mask(c, PV_FOR_FLUSH);
		if (c->mask[PV_FOR_FLUSH] != NULL)
			__atomic_store_n(&c->flush, flush_pv, __ATOMIC_RELEASE);
	}
#endif
}

/* --- clock and steal time -------------------------------------------------------------------- */

uint64_t pv_clock_compute(const struct pv_time_record *r, uint64_t tsc)
{
	uint64_t d = tsc - r->tsc_timestamp;

	/* A shift that makes no sense must do no harm: an encrypted guest believes nothing. */
	d = r->shift >= 0 ? d << (r->shift & 63) : d >> (-r->shift & 63);
	return r->system_time + (uint64_t)((unsigned __int128)d * r->mul >> 32);
}

/* Where the hypervisor does not promise it (PV_FEAT_STABLE), the order among CPUs is kept here. */
static uint64_t last_ns;

static uint64_t not_before(uint64_t ns)
{
	uint64_t last = __atomic_load_n(&last_ns, __ATOMIC_SEQ_CST);

	while (ns > last)
		if (__atomic_compare_exchange_n(&last_ns, &last, ns, false, __ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST))
			return ns;
	return last;
}

uint64_t pv_clock_read(struct pv_cpu *self, uint64_t *tsc)
{
	const struct pv_time_record *r = &pv_records[self->number].time;
	const volatile uint32_t *version = &r->version;
	uint32_t before;
	uint64_t ns;

	do {
		before = *version & ~1u; /* odd: never equal afterwards */
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		*tsc = pvk_tsc();
		ns = pv_clock_compute(r, *tsc);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (*version != before);
	return (pv_features & PV_FEAT_STABLE) != 0 && (r->flags & 1) != 0 ? ns : not_before(ns);
}

uint64_t pv_clock_ns(struct pv_cpu *self)
{
	uint64_t tsc;

	return pv_clock_read(self, &tsc);
}

uint64_t pv_steal_ns(const struct pv_cpu *self)
{
	const volatile struct pv_steal_record *r = &pv_records[self->number].steal;
	uint32_t before;
	uint64_t ns;

	if ((pv_features & PV_FEAT_STEAL) == 0)
		return 0;
	do {
		before = r->version & ~1u;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		ns = r->steal;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (r->version != before);
	return ns;
}

void pv_cpu_init(uint32_t number, uint32_t apic_id)
{
	struct pv_cpu *c = &pv_cpus[number];

	c->number = number;
	c->apic_id = apic_id;
	pv_install_ops(c);
	if ((pv_features & PV_FEAT_CLOCK) != 0)
		pvk_wrmsr(MSR_SYSTEM_TIME, pvk_shared_address(&pv_records[number].time) | ENABLE);
	if ((pv_features & PV_FEAT_STEAL) != 0)
		pvk_wrmsr(MSR_STEAL_TIME, pvk_shared_address(&pv_records[number].steal) | ENABLE);
	__atomic_store_n(&c->online, true, __ATOMIC_RELEASE);
}
