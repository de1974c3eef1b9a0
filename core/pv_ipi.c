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
static u64 send_slowly(struct vcpu *const *first, u64 set, u64 icr)
{
	u64 sent = 0;

	for (; set != 0; set &= set - 1) {
		struct vcpu *v = first[__builtin_ctzll(set)];

		sent += vlapic_deliver(&v->lapic, ICR_MODE(icr), (u8)icr, false);
	}
	return sent;
}

/*
 * vcpu_hazard()'s second half, for vCPUs whose hazard is set. One that is seen to
 * run needs no lock: who lets it go looks at its hazards after that.
 */
static void tell(struct vcpu *const *first, u64 set)
{
	for (; set != 0; set &= set - 1) {
		struct vcpu *v = first[__builtin_ctzll(set)];

		if (!__atomic_load_n(&v->current, __ATOMIC_RELAXED))
			sched_wake(v);
		else if (v->cpu != cpu_number())
			ipi_kick(v->cpu);
	}
}

/* What the loop of send_fixed() left: LAPICs in an unusual state, vCPUs that wait for nothing. */
static __attribute__((noinline)) u64 send_rest(struct vcpu *const *first, u64 odd, u64 idle,
					       u64 sent, u64 icr)
{
	tell(first, idle);
	for (; odd != 0; odd &= odd - 1)
		sent -= 1 - send_slowly(first, odd & -odd, icr);
	return sent;
}

/* The lowest member: __builtin_ctzll() is three instructions for the processors that we build for. */
static inline u64 lowest(u64 set)
{
	u64 n;

	__asm__("bsfq %1, %0" : "=r"(n) : "r"(set) : "cc");
	return n;
}

/*
 * The sender pays for each vCPU of the set, so the length of this loop counts. It
 * calls nobody, for then no register needs to be saved.
 */
static inline u64 send_fixed(struct vcpu *const *first, u64 set, u64 icr)
{
	u64 odd = 0, idle = 0, sent = 0;

	for (u64 rest = set; rest != 0; rest &= rest - 1) {
		u64 n = lowest(rest);
		struct vcpu *v = first[n];
		int r = vlapic_request(&v->lapic, (u8)icr);

		sent++;
		if (unlikely(r < 0))
			odd |= BIT(n);
		if (r <= 0) /* requested before: its first sender has done the rest */
			continue;
		__atomic_or_fetch(&v->hazards, HAZ_IRQ, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&v->queued, __ATOMIC_RELAXED))
			continue;
		__asm__ volatile(""); /* a jump that is not taken, not a conditional move that is */
		idle |= BIT(n);
	}
	return likely((odd | idle) == 0) ? sent : send_rest(first, odd, idle, sent, icr);
}

static u64 send_half(const struct vm *vm, u64 set, u64 first, u64 icr)
{
	/* Checked before anything is added to it: nothing overflows. */
	if (first >= vm->vcpus)
		return 0;
	set &= vm->pv.present >> first;
	return (icr & 0x700) == 0 && (u8)icr >= 16 ? send_fixed(&vm->vcpu[first], set, icr) :
						     send_slowly(&vm->vcpu[first], set, icr);
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
	return (s64)send_fixed(&vm->vcpu[min], low & vm->pv.present >> min, icr);
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
