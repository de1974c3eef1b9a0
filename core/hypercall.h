/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_HYPERCALL_H
#define RAVELIN_CORE_HYPERCALL_H

#include "core/vm.h"

/*
 * VMMCALL/VMCALL with KVM's calling convention: number in RAX, arguments in
 * RBX RCX RDX RSI, result in RAX (negative KVM error codes). Returns VRESULT_*.
 */
u32 hypercall(struct vcpu *v);

/* Numbers: Linux, Documentation/virt/kvm/x86/hypercalls.rst. */
#define KVM_HC_VAPIC_POLL_IRQ 1
#define KVM_HC_KICK_CPU 5
#define KVM_HC_CLOCK_PAIRING 9
#define KVM_HC_SEND_IPI 10
#define KVM_HC_SCHED_YIELD 11

#define KVM_EPERM 1
#define KVM_EINVAL 22
#define KVM_EOPNOTSUPP 95
#define KVM_ENOSYS 1000

/*
 * For a backend's loop: the hypercall whose length counts, straight from 64-bit
 * code of CPL 0. False: hypercall() knows what to do. v->gpr but for RAX are the
 * guest's.
 */
static inline bool hypercall_fast(const struct vcpu *v, u64 number, u64 *answer)
{
	if (likely(number == KVM_HC_SEND_IPI))
		*answer = (u64)pv_send_ipi(v);
	else if (number > KVM_HC_SCHED_YIELD) /* there is none above it */
		*answer = (u64)-KVM_ENOSYS;
	else
		return false;
	return true;
}

#endif
