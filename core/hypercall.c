/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/hypercall.h"
#include "arch/x86/cpu.h"
#include "core/vm.h"

/* KVM's hypercalls: an unknown one, or one that is switched off, answers -KVM_ENOSYS. */

struct args {
	u64 a0, a1, a2, a3;
	bool wide; /* from 64-bit code */
};

/* A guest whose state is protected runs in 64-bit mode. */
static bool in_64bit_mode(struct vcpu *v)
{
	struct vsegment cs;
	u64 efer;

	if (virt->get_reg(v, VREG_EFER, &efer) < 0 || virt->get_seg(v, VSEG_CS, &cs) < 0)
		return true;
	return (efer & EFER_LMA) != 0 && (cs.attr & VSEG_ATTR_L) != 0;
}

static struct args get_args(struct vcpu *v)
{
	bool wide = in_64bit_mode(v);
	u64 mask = wide ? ~0UL : 0xffffffffUL;

	return (struct args){ v->gpr[GPR_RBX] & mask, v->gpr[GPR_RCX] & mask,
			      v->gpr[GPR_RDX] & mask, v->gpr[GPR_RSI] & mask, wide };
}

static s64 send_ipi(struct vcpu *v)
{
	struct args a = get_args(v);
	struct pv_ipi ipi = { a.a0, a.a1, a.a2, a.a3, a.wide ? 64 : 32 };

	return pv_send_ipi(v->vm, &ipi);
}

/* Who kicks has nothing to wait for but the kicked: that one goes first if it waits here. */
static u32 kick(struct vcpu *v)
{
	struct args a = get_args(v);

	pv_kick(v->vm, a.a1);
	return pv_yield(v, a.a1) ? VRESULT_ADVANCE | VRESULT_LEAVE : VRESULT_ADVANCE;
}

static u32 yield(struct vcpu *v)
{
	return pv_yield(v, get_args(v).a0) ? VRESULT_ADVANCE | VRESULT_LEAVE : VRESULT_ADVANCE;
}

u32 hypercall(struct vcpu *v)
{
	u32 features = v->vm->pv.features;
	u64 number = v->gpr[GPR_RAX], cpl = 0;

	v->gpr[GPR_RAX] = (u64)-KVM_ENOSYS;
	if (virt->get_reg(v, VREG_CPL, &cpl) == 0 && cpl != 0) {
		v->gpr[GPR_RAX] = (u64)-KVM_EPERM;
		return VRESULT_ADVANCE;
	}
	switch (number) {
	case KVM_HC_VAPIC_POLL_IRQ: /* an exit, and thereby a look at what waits, is all it wants */
		v->gpr[GPR_RAX] = 0;
		break;
	case KVM_HC_SEND_IPI:
		if ((features & PV_IPI) != 0)
			v->gpr[GPR_RAX] = (u64)send_ipi(v);
		break;
	case KVM_HC_KICK_CPU:
		if ((features & PV_UNHALT) == 0)
			break;
		v->gpr[GPR_RAX] = 0;
		return kick(v);
	case KVM_HC_SCHED_YIELD:
		if ((features & PV_YIELD) == 0)
			break;
		v->gpr[GPR_RAX] = 0;
		return yield(v);
	case KVM_HC_CLOCK_PAIRING: /* the machine's clock is not a clock source of the TSC here */
		if ((features & PV_CLOCK) != 0)
			v->gpr[GPR_RAX] = (u64)-KVM_EOPNOTSUPP;
		break;
	default:
		break;
	}
	return VRESULT_ADVANCE;
}
