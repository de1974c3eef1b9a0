/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/hypercall.h"
#include "core/vm.h"

/* No call is offered yet; each gets the answer that KVM's interface gives an unknown one. */
u32 hypercall(struct vcpu *v)
{
	u64 cpl = 0;

	if (virt->get_reg(v, VREG_CPL, &cpl) == 0 && cpl != 0)
		v->gpr[GPR_RAX] = (u64)-KVM_EPERM;
	else
		v->gpr[GPR_RAX] = (u64)-KVM_ENOSYS;
	return VRESULT_ADVANCE;
}
