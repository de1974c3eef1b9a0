/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef GUEST_PV_PV_H
#define GUEST_PV_PV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The guest's side of KVM's paravirtual interface, for kernels and appliances:
 * clock, steal time, interrupts to a set of CPUs, TLB flush on a set of CPUs.
 * Freestanding; what it needs from a kernel is at the end of this file.
 *
 * PV_CPUS        CPUs that the build can use; 1 builds for one CPU
 * PV_STATIC_MASKS  1: each CPU's masks are part of struct pv_cpu; 0: pvk_alloc()
 */
#ifndef PV_CPUS
#define PV_CPUS 256
#endif
#ifndef PV_STATIC_MASKS
#define PV_STATIC_MASKS 0
#endif

#define PV_APIC_IDS 512 /* APIC ids above are reached one by one */
#define PV_WORDS(bits) (((bits) + 63) / 64)

/* A set of CPUs by number. */
struct pv_cpuset {
	uint64_t bits[PV_WORDS(PV_CPUS)];
};

/*
 * Working space of one operation on one CPU: a set of CPUs, and one of APIC ids.
 * One for each purpose: an interrupt handler that sends an IPI while this CPU
 * prepares a flush uses another mask than the flush does.
 */
struct pv_mask {
	struct pv_cpuset cpus;
	uint64_t apic_ids[PV_WORDS(PV_APIC_IDS)];
};
enum pv_purpose { PV_FOR_IPI, PV_FOR_FLUSH, PV_PURPOSES };

/* Features: bits of EAX of leaf 0x40000001 (Linux, Documentation/virt/kvm/x86/cpuid.rst). */
#define PV_FEAT_CLOCK (1u << 3)
#define PV_FEAT_STEAL (1u << 5)
#define PV_FEAT_TLB (1u << 9)
#define PV_FEAT_IPI (1u << 11)
#define PV_FEAT_STABLE (1u << 24)

struct pv_time_record {
	uint32_t version, pad;
	uint64_t tsc_timestamp, system_time;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, pad2[2];
};

struct pv_steal_record {
	uint64_t steal; /* ns */
	uint32_t version, flags;
	uint8_t preempted; /* PV_PREEMPTED, PV_FLUSH_TLB */
	uint8_t pad8[3];
	uint32_t pad[11];
} __attribute__((aligned(64)));
#define PV_PREEMPTED 1u
#define PV_FLUSH_TLB 2u

struct pv_cpu;
/* Sends the vector to each CPU of the set; the set may hold the sender. */
typedef void pv_send_fn(struct pv_cpu *self, const struct pv_cpuset *to, uint8_t vector);
/* No CPU of the set uses a translation from before the call after it returns. All of the set are
 * online; not from an interrupt handler, which would change the mask under an interrupted flush. */
typedef void pv_flush_fn(struct pv_cpu *self, const struct pv_cpuset *on);

struct pv_counters {
	uint64_t ipi_hypercalls, ipi_native; /* hypercalls made; single IPIs sent */
	uint64_t flush_deferred;             /* CPUs that flush when they run again */
	uint64_t flush_ipis;                 /* CPUs that were interrupted for it */
	uint32_t no_mask[PV_PURPOSES];       /* allocations that failed */
};

struct pv_cpu {
	uint32_t number, apic_id;
	bool online;
	/*
	 * The operations. Never NULL after pv_cpu_init(): native ones first; a paravirtual one
	 * takes the place only when its mask is there.
	 */
	pv_send_fn *send;
	pv_flush_fn *flush;
	struct pv_mask *mask[PV_PURPOSES];
	struct pv_counters count;
	uint64_t flush_due; /* flushes asked of this CPU; atomic */
	uint64_t flush_done;
#if PV_STATIC_MASKS
	struct pv_mask space[PV_PURPOSES];
#endif
};

/*
 * What a CPU shares with the hypervisor, by its number, and nothing else is in that section: in an
 * encrypted guest it lies in shared pages, and the hypervisor may write anything there.
 */
struct pv_records {
	struct pv_steal_record steal;
	struct pv_time_record time;
} __attribute__((aligned(64)));
#define PV_SHARED __attribute__((section(".bss.pv_shared")))

extern struct pv_cpu pv_cpus[PV_CPUS];
extern struct pv_records pv_records[PV_CPUS];
extern uint32_t pv_features; /* 0 where KVM's interface is not there */

/* CPUID: boot CPU, first of all. */
void pv_detect(void);
/*
 * Each CPU for itself before it is used as sender: its masks, then its
 * operations, then its clock and steal time. Never fails: what is not there is
 * done natively.
 */
void pv_cpu_init(uint32_t number, uint32_t apic_id);
/* Part of it, for what comes in any order: masks and operations only. */
void pv_install_ops(struct pv_cpu *c);

/* ns since the VM's creation; never behind another CPU's. Only with PV_FEAT_CLOCK. */
uint64_t pv_clock_ns(struct pv_cpu *self);
/* The same with the reading of the TSC that it was computed from. */
uint64_t pv_clock_read(struct pv_cpu *self, uint64_t *tsc);
uint64_t pv_clock_compute(const struct pv_time_record *r, uint64_t tsc);
/* ns that this CPU wanted to run and did not; 0 without the feature. */
uint64_t pv_steal_ns(const struct pv_cpu *self);

/* The handler of PV_FLUSH_VECTOR. Also called while a flush waits: interrupts may be off there. */
void pv_flush_serve(struct pv_cpu *self);
#define PV_FLUSH_VECTOR 0xf1

/* Native operations, also of use by themselves. */
void pv_send_native(struct pv_cpu *self, const struct pv_cpuset *to, uint8_t vector);
void pv_flush_native(struct pv_cpu *self, const struct pv_cpuset *on);

static inline bool pv_set_has(const struct pv_cpuset *s, uint32_t cpu)
{
	return cpu < PV_CPUS && (s->bits[cpu / 64] >> (cpu % 64) & 1) != 0;
}
static inline void pv_set_add(struct pv_cpuset *s, uint32_t cpu)
{
	if (cpu < PV_CPUS)
		s->bits[cpu / 64] |= 1ull << (cpu % 64);
}
static inline void pv_set_del(struct pv_cpuset *s, uint32_t cpu)
{
	if (cpu < PV_CPUS)
		s->bits[cpu / 64] &= ~(1ull << (cpu % 64));
}
/* The first CPU of the set from that number on; PV_CPUS when there is none. */
uint32_t pv_set_next(const struct pv_cpuset *s, uint32_t from);

/* --- what the kernel provides ---------------------------------------------------------------- */

int64_t pvk_hypercall(uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3);
void pvk_native_ipi(uint32_t apic_id, uint8_t vector);
void pvk_flush_local(void);
void *pvk_alloc(size_t size); /* zeroed, for ever; NULL when there is none */
uint64_t pvk_irq_save(void);
void pvk_irq_restore(uint64_t flags);
void pvk_relax(void);
uint64_t pvk_tsc(void);
void pvk_cpuid(uint32_t leaf, uint32_t r[4]);
void pvk_wrmsr(uint32_t msr, uint64_t value);
/* The guest-physical address, for the hypervisor, of memory shared with it. */
uint64_t pvk_shared_address(const volatile void *p);

#endif
