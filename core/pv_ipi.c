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

/* By the long way: NMIs, and vectors that raise an error. Returns how many took it. */
static __attribute__((noinline)) u64 send_slowly(struct vcpu *const *first, u64 set, u64 icr)
{
	u64 sent = 0;

	for (; set != 0; set &= set - 1) {
		struct vcpu *v = first[__builtin_ctzll(set)];

		sent += vlapic_deliver(&v->lapic, ICR_MODE(icr), (u8)icr, false);
	}
	return sent;
}

/* The sender pays for each vCPU of the set: this loop's length counts. */
static inline u64 send_fixed(struct vcpu *const *first, u64 set, u64 icr)
{
	u64 sent = 0;

	while (set != 0) {
		u64 n = (u64)__builtin_ctzll(set);
		struct vcpu *v = first[n];
		int r = vlapic_request(&v->lapic, (u8)icr);

		set &= set - 1;
		sent++;
		if (r > 0)
			interrupt(v);
		else if (unlikely(r < 0)) /* 0: its first sender has done the rest */
			sent -= 1 - send_slowly(first, BIT(n), icr);
	}
	return sent;
}

/* What there is of the 64 vCPUs from `first` on, which is there. */
static inline u64 existing(const struct vm *vm, u64 set, u64 first)
{
	return vm->vcpus - first < 64 ? set & (BIT(vm->vcpus - first) - 1) : set;
}

/* Both halves, and what is not a plain interrupt. */
static __attribute__((noinline)) s64 send_any(const struct vm *vm, u64 low, u64 high, u64 min,
					       u64 icr, u64 next)
{
	bool plain = (icr & 0x700) == 0 && (u8)icr >= 16;
	u64 sent = plain ? send_fixed(&vm->vcpu[min], low, icr) :
			   send_slowly(&vm->vcpu[min], low, icr);

	if (high == 0 || next >= vm->vcpus)
		return (s64)sent;
	high = existing(vm, high, next);
	sent += plain ? send_fixed(&vm->vcpu[next], high, icr) :
			send_slowly(&vm->vcpu[next], high, icr);
	return (s64)sent;
}

/* Fixed interrupts and NMIs only: the others are not for sets of CPUs (SDM vol. 3A, 11.6.1). */
s64 pv_send_ipi(const struct vm *vm, u64 low, u64 high, u64 min, u64 icr, u32 cluster)
{
	if (unlikely((icr & (ICR_LOGICAL | ICR_SHORTHAND | 0x300)) != 0))
		return -KVM_EINVAL;
	/* Checked here, so that min plus the cluster cannot overflow. */
	if (unlikely(min >= vm->vcpus))
		return 0;
	low = existing(vm, low, min);
	if (unlikely(high != 0 || (icr & 0x700) != 0 || (u8)icr < 16))
		return send_any(vm, low, high, min, icr, min + cluster);
	return (s64)send_fixed(&vm->vcpu[min], low, icr);
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
