/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/hypercall.h"
#include "arch/x86/bits.h"
#include "arch/x86/lapic.h"
#include "arch/x86/percpu.h"
#include "core/sched.h"
#include "core/vm.h"

/* Hypercalls by which vCPUs reach each other. A vCPU's APIC id is its number. */

#define ICR_LOGICAL BIT(11)
#define ICR_SHORTHAND (BIT(18) | BIT(19))
#define ICR_MODE(icr) ((u32)(icr) >> 8 & 7)

/* By the long way: NMIs, and vectors that raise an error. Returns how many took it. */
static u64 send_slowly(const struct vm *vm, u64 set, u64 icr)
{
	u64 sent = 0;

	for (; set != 0; set &= set - 1) {
		struct vcpu *v = vm->vcpu[lowest_bit(set)];

		sent += vlapic_deliver(&v->lapic, ICR_MODE(icr), (u8)icr, false);
	}
	return sent;
}

/* Those that run on other CPUs leave guest mode: one interrupt for each such CPU. */
static inline void kick(const struct vm *vm, u64 set)
{
	for (; set != 0; set &= set - 1) {
		u32 cpu = vm->vcpu[lowest_bit(set)]->cpu;

		if (cpu != cpu_number())
			ipi_kick(cpu);
	}
}

/* What the loop of send_fixed() found to do: vCPUs that run or are away, and after them the rest of
 * the set, from a LAPIC in an unusual state on. */
static __attribute__((noinline)) u64 send_rest(const struct vm *vm, u64 away, u64 run, u64 rest,
					       u64 sent, u64 icr)
{
	if (away != 0)
		sched_wake_set(vm, away);
	if (run != 0)
		kick(vm, run);
	return unlikely(rest != 0) ? sent + send_slowly(vm, rest, icr) : sent;
}

/*
 * The sender pays for each vCPU of the set, so the length of this loop counts. It
 * calls nobody, for then no register needs to be saved. It is vcpu_hazard() and
 * sched_wake() for a vCPU that waits; sched.c says why that needs no lock.
 */
static inline u64 send_fixed(const struct vm *vm, u64 set, u64 icr)
{
	u64 run = 0, away = 0, sent = 0;

	while (set != 0) {
		u64 n = lowest_bit(set);
		struct vcpu *v = vm->vcpu[n];
		int r = vlapic_request(&v->lapic, (u8)icr);

		if (unlikely(r < 0))
			break;
		sent++;
		set = without_bit(set, n);
		if (r == 0) /* requested before: its first sender has done the rest */
			continue;
		__atomic_or_fetch(&v->hazards, HAZ_IRQ, __ATOMIC_SEQ_CST);
		if (v->place == VCPU_AWAY)
			away = with_bit(away, n);
		else if (unlikely(v->place == VCPU_CURRENT))
			run = with_bit(run, n);
	}
	return likely((away | run | set) == 0) ? sent : send_rest(vm, away, run, set, sent, icr);
}

static u64 send_half(const struct vm *vm, u64 set, u64 first, u64 icr)
{
	/* Checked before anything is added to it: nothing overflows. */
	if (first >= vm->vcpus)
		return 0;
	set = set << first & vm->pv.present;
	return (icr & 0x700) == 0 && (u8)icr >= 16 ? send_fixed(vm, set, icr) :
						     send_slowly(vm, set, icr);
}

/* Fixed interrupts and NMIs only: the others are not for sets of CPUs (SDM vol. 3A, 11.6.1). */
static __attribute__((noinline)) s64 send_any(const struct vm *vm, u64 low, u64 high, u64 min,
					       u64 icr, u32 cluster)
{
	u64 sent;

	if ((icr & (ICR_LOGICAL | ICR_SHORTHAND | 0x300)) != 0)
		return -KVM_EINVAL;
	sent = send_half(vm, low, min, icr);
	if (min < vm->vcpus)
		sent += send_half(vm, high, min + cluster, icr);
	return (s64)sent;
}

s64 pv_send_ipi(const struct vm *vm, u64 low, u64 high, u64 min, u64 icr, u32 cluster)
{
	if (unlikely((icr & (ICR_LOGICAL | ICR_SHORTHAND | 0x700)) != 0 || (u8)icr < 16 ||
		     high != 0 || min >= VCPU_MAX))
		return send_any(vm, low, high, min, icr, cluster);
	return (s64)send_fixed(vm, low << min & vm->pv.present, icr);
}

void pv_kick(struct vm *vm, u64 apic_id)
{
	struct vcpu *target = apic_id < vm->vcpus ? vm->vcpu[apic_id] : NULL;

	if (target == NULL)
		return;
	__atomic_store_n(&target->pv.unhalted, true, __ATOMIC_SEQ_CST);
	sched_wake(target);
}

bool pv_yield(struct vcpu *v, u64 apic_id)
{
	struct vcpu *target = apic_id < v->vm->vcpus ? v->vm->vcpu[apic_id] : NULL;

	return target != NULL && target != v && sched_boost(target);
}
