/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/hypercall.h"
#include "core/vm.h"

/* KVM's hypercalls: an unknown one, or one that is switched off, answers -KVM_ENOSYS. */

/* Who kicks has nothing to wait for but the kicked: that one goes first if it waits here. */
static u32 kick(struct vcpu *v, u64 apic_id)
{
	pv_kick(v->vm, apic_id);
	return pv_yield(v, apic_id) ? VRESULT_ADVANCE | VRESULT_LEAVE : VRESULT_ADVANCE;
}

static u32 yield(struct vcpu *v, u64 apic_id)
{
	return pv_yield(v, apic_id) ? VRESULT_ADVANCE | VRESULT_LEAVE : VRESULT_ADVANCE;
}

static __attribute__((noinline)) u32 other_call(struct vcpu *v, u64 number, u64 mask)
{
	u32 features = v->vm->pv.features;

	switch (number) {
	case KVM_HC_VAPIC_POLL_IRQ: /* an exit, and thereby a look at what waits, is all it wants */
		v->gpr[GPR_RAX] = 0;
		break;
	case KVM_HC_KICK_CPU:
		if ((features & PV_UNHALT) == 0)
			break;
		v->gpr[GPR_RAX] = 0;
		return kick(v, v->gpr[GPR_RCX] & mask);
	case KVM_HC_SCHED_YIELD:
		if ((features & PV_YIELD) == 0)
			break;
		v->gpr[GPR_RAX] = 0;
		return yield(v, v->gpr[GPR_RBX] & mask);
	case KVM_HC_CLOCK_PAIRING: /* the machine's clock is not a clock source of the TSC here */
		if ((features & PV_CLOCK) != 0)
			v->gpr[GPR_RAX] = (u64)-KVM_EOPNOTSUPP;
		break;
	default:
		break;
	}
	return VRESULT_ADVANCE;
}

u32 hypercall(struct vcpu *v)
{
	u64 *g = v->gpr, number = g[GPR_RAX];
	u32 code = virt->code_state(v);
	u64 mask = (code & VCODE_64) != 0 ? ~0UL : 0xffffffffUL;

	g[GPR_RAX] = (u64)-KVM_ENOSYS;
	if (unlikely((code & VCODE_CPL) != 0)) {
		g[GPR_RAX] = (u64)-KVM_EPERM;
		return VRESULT_ADVANCE;
	}
	if (number != KVM_HC_SEND_IPI)
		return other_call(v, number, mask);
	g[GPR_RAX] = (u64)pv_send_ipi_any(v, mask);
	return VRESULT_ADVANCE;
}
