/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/hypercall.h"
#include "arch/x86/lapic.h"
#include "arch/x86/percpu.h"
#include "core/sched.h"
#include "core/vm.h"

/* Hypercalls by which vCPUs reach each other. A vCPU's APIC id is its number. */

#define ICR_LOGICAL BIT(11)
#define ICR_SHORTHAND (BIT(18) | BIT(19))
#define ICR_MODE(icr) ((u32)(icr) >> 8 & 7)

/* By the long way: NMIs, vectors that raise an error, a LAPIC that is off. */
static __attribute__((noinline)) bool send_one(struct vcpu *v, u64 icr)
{
	return vlapic_deliver(&v->lapic, ICR_MODE(icr), (u8)icr, false);
}

/*
 * vcpu_hazard() for this path. A vCPU that is seen to run needs no lock: who lets
 * it go looks at its hazards after that, and they were set before.
 */
static inline void interrupt(struct vcpu *v)
{
	__atomic_or_fetch(&v->hazards, HAZ_IRQ, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&v->queued, __ATOMIC_RELAXED))
		return;
	if (!__atomic_load_n(&v->current, __ATOMIC_RELAXED))
		sched_wake(v);
	else if (v->cpu != cpu_number())
		ipi_kick(v->cpu);
}

/* Returns how many took it. The sender pays for each vCPU of the set: this loop's length counts. */
static u64 send_set(struct vcpu *const *first, u64 set, u64 icr, bool plain)
{
	u64 sent = 0;

	for (; set != 0; set &= set - 1) {
		struct vcpu *v = first[__builtin_ctzll(set)];
		int r = plain ? vlapic_request(&v->lapic, (u8)icr) : -1;

		sent++;
		if (unlikely(r < 0))
			sent -= !send_one(v, icr);
		else if (r > 0) /* else its first sender has done the rest */
			interrupt(v);
	}
	return sent;
}

/* What there is of the 64 vCPUs from `first` on, which is there. */
static inline u64 existing(const struct vm *vm, u64 set, u64 first)
{
	return vm->vcpus - first < 64 ? set & (BIT(vm->vcpus - first) - 1) : set;
}

/* Fixed interrupts and NMIs only: the others are not for sets of CPUs (SDM vol. 3A, 11.6.1). */
s64 pv_send_ipi(struct vm *vm, u64 low, u64 high, u64 min, u64 icr, u32 cluster)
{
	bool plain = (icr & 0x700) == 0 && (u8)icr >= 16;
	u64 sent;

	if (unlikely((icr & (ICR_LOGICAL | ICR_SHORTHAND | 0x300)) != 0))
		return -KVM_EINVAL;
	/* Checked here, so that min plus the cluster cannot overflow below. */
	if (unlikely(min >= vm->vcpus))
		return 0;
	sent = send_set(&vm->vcpu[min], existing(vm, low, min), icr, plain);
	min += cluster;
	if (unlikely(high != 0 && min < vm->vcpus))
		sent += send_set(&vm->vcpu[min], existing(vm, high, min), icr, plain);
	return (s64)sent;
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
