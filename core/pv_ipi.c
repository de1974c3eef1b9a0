/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/hypercall.h"
#include "arch/x86/bits.h"
#include "arch/x86/tsc.h"
#include "core/sched.h"
#include "core/vm.h"

/* Hypercalls by which vCPUs reach each other. A vCPU's APIC id is its number. */

#define ICR_LOGICAL BIT(11)
#define ICR_SHORTHAND (BIT(18) | BIT(19))
#define ICR_MODE(icr) ((u32)(icr) >> 8 & 7)

/* By the long way: NMIs, vectors that raise an error, LAPICs in an unusual state. Returns how many
 * took it. */
static __attribute__((noinline)) u64 send_slowly(const struct vm *vm, u64 set, u64 icr)
{
	u64 sent = 0;

	for (; set != 0; set &= set - 1) {
		struct vcpu *v = vm->vcpu[lowest_bit(set)];

		sent += vlapic_deliver(&v->lapic, ICR_MODE(icr), (u8)icr, false);
	}
	return sent;
}

/* Where v is: one look and one comparison, whose three ends the compiler would find by two. */
static inline enum vcpu_place place_of(const struct vcpu *v)
{
	__asm__ goto("cmpb %1, %0; jb %l2; ja %l3"
		     : : "m"(v->place), "i"(VCPU_WAITS) : "cc" : away, current);
	return VCPU_WAITS;
away:
	return VCPU_AWAY;
current:
	return VCPU_CURRENT;
}

/*
 * The sender pays for each vCPU of the set, so the length of this loop counts. It
 * calls nobody, for then hardly a register needs to be saved. It is vcpu_hazard() and
 * the first half of sched_wake(); sched.c says why that needs no lock.
 */
static inline u64 send_fixed(const struct vm *vm, u64 set, u32 vector)
{
	u64 now, away = set, running = 0, sent = 0, n;

	if (unlikely((vm->platform.unusual[vector] & set) != 0))
		return send_slowly(vm, set, vector);
	now = rdtsc();
	n = lowest_bit(set);
	do {
		struct vcpu *v = vm->vcpu[n];

		sent++;
		if (likely(vlapic_request(&v->lapic, vector))) { /* else its first sender has done the rest */
			__atomic_or_fetch(&v->hazards, HAZ_IRQ, __ATOMIC_SEQ_CST);
			switch (place_of(v)) {
			case VCPU_AWAY: v->pv.wait_start = now; continue;
			case VCPU_CURRENT: running = with_bit(running, n); break;
			case VCPU_WAITS: break;
			}
		}
		away = without_bit(away, n);
	} while (next_bit(set = without_bit(set, n), &n));
	if ((away | running) != 0)
		return sched_wake_set(vm, running, now, vm->id, away, sent);
	__asm__ volatile(""); /* or the answer is moved before the jump */
	return sent;
}

static u64 send_half(const struct vm *vm, u64 set, u64 first, u64 icr)
{
	/* Checked before anything is added to it: nothing overflows. */
	if (first >= vm->vcpus)
		return 0;
	set = set << first & vm->pv.ipi_set;
	if (set == 0)
		return 0;
	return (icr & 0x700) == 0 ? send_fixed(vm, set, (u8)icr) : send_slowly(vm, set, icr);
}

/* Fixed interrupts and NMIs only: the others are not for sets of CPUs (SDM vol. 3A, 11.6.1). */
s64 pv_send_ipi_any(const struct vcpu *v, u64 mask)
{
	const struct vm *vm = v->vm;
	u64 min = v->gpr[GPR_RDX] & mask, icr = v->gpr[GPR_RSI] & mask, sent;

	if (vm->pv.ipi_set == 0)
		return -KVM_ENOSYS;
	if ((icr & (ICR_LOGICAL | ICR_SHORTHAND | 0x300)) != 0)
		return -KVM_EINVAL;
	sent = send_half(vm, v->gpr[GPR_RBX] & mask, min, icr);
	if (min < vm->vcpus)
		sent += send_half(vm, v->gpr[GPR_RCX] & mask, min + (mask == ~0UL ? 64 : 32), icr);
	return (s64)sent;
}

s64 pv_send_ipi(const struct vcpu *v)
{
	const struct vm *vm = v->vm;
	u64 set = v->gpr[GPR_RBX], min = v->gpr[GPR_RDX], icr = v->gpr[GPR_RSI];

	if (unlikely((v->gpr[GPR_RCX] | (icr & (ICR_LOGICAL | ICR_SHORTHAND | 0x700))) != 0 ||
		     min >= VCPU_MAX))
		return pv_send_ipi_any(v, ~0UL);
	set = set << min & vm->pv.ipi_set;
	if (unlikely(set == 0))
		return __atomic_load_n(&vm->pv.ipi_set, __ATOMIC_RELAXED) != 0 ? 0 : -KVM_ENOSYS;
	return (s64)send_fixed(vm, set, (u8)icr);
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
