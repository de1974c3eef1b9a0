/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/hypercall.h"
#include "core/sched.h"
#include "core/vm.h"

/* Hypercalls by which vCPUs reach each other. A vCPU's APIC id is its number. */

#define ICR_LOGICAL BIT(11)
#define ICR_SHORTHAND (BIT(18) | BIT(19))
#define ICR_MODE(icr) ((u32)(icr) >> 8 & 7)

static u64 send_set(struct vm *vm, u64 set, u64 first, const struct pv_ipi *ipi)
{
	u64 count = 0;

	if (first >= vm->vcpus)
		return 0;
	if (vm->vcpus - first < 64)
		set &= BIT(vm->vcpus - first) - 1;
	for (; set != 0; set &= set - 1) {
		struct vcpu *v = vm->vcpu[first + (u64)__builtin_ctzll(set)];

		count += vlapic_deliver(&v->lapic, ICR_MODE(ipi->icr), (u8)ipi->icr, false);
	}
	return count;
}

/* Fixed interrupts and NMIs only: the others are not for sets of CPUs (SDM vol. 3A, 11.6.1). */
s64 pv_send_ipi(struct vm *vm, const struct pv_ipi *ipi)
{
	u32 mode = ICR_MODE(ipi->icr);

	if ((ipi->icr & (ICR_LOGICAL | ICR_SHORTHAND)) != 0 ||
	    (mode != APIC_FIXED && mode != APIC_NMI))
		return -KVM_EINVAL;
	/* Checked here, so that min plus the cluster cannot overflow below. */
	if (ipi->min >= vm->vcpus)
		return 0;
	return (s64)(send_set(vm, ipi->low, ipi->min, ipi) +
		     send_set(vm, ipi->high, ipi->min + ipi->cluster, ipi));
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
