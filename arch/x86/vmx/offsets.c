/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/percpu.h"
#include "arch/x86/vmx/vmx.h"
#include "core/offsets.h"

/* For entry.asm. */
static void __used offsets(void)
{
	DEFINE(VCPU_RAX, offsetof(struct vcpu, gpr) + GPR_RAX * 8);
	DEFINE(VCPU_RCX, offsetof(struct vcpu, gpr) + GPR_RCX * 8);
	DEFINE(VCPU_RDX, offsetof(struct vcpu, gpr) + GPR_RDX * 8);
	DEFINE(VCPU_RBX, offsetof(struct vcpu, gpr) + GPR_RBX * 8);
	DEFINE(VCPU_RBP, offsetof(struct vcpu, gpr) + GPR_RBP * 8);
	DEFINE(VCPU_RSI, offsetof(struct vcpu, gpr) + GPR_RSI * 8);
	DEFINE(VCPU_RDI, offsetof(struct vcpu, gpr) + GPR_RDI * 8);
	DEFINE(VCPU_R8, offsetof(struct vcpu, gpr) + GPR_R8 * 8);
	DEFINE(VCPU_R9, offsetof(struct vcpu, gpr) + GPR_R9 * 8);
	DEFINE(VCPU_R10, offsetof(struct vcpu, gpr) + GPR_R10 * 8);
	DEFINE(VCPU_R11, offsetof(struct vcpu, gpr) + GPR_R11 * 8);
	DEFINE(VCPU_R12, offsetof(struct vcpu, gpr) + GPR_R12 * 8);
	DEFINE(VCPU_R13, offsetof(struct vcpu, gpr) + GPR_R13 * 8);
	DEFINE(VCPU_R14, offsetof(struct vcpu, gpr) + GPR_R14 * 8);
	DEFINE(VCPU_R15, offsetof(struct vcpu, gpr) + GPR_R15 * 8);
	OFFSET(VMX_HOST_RSP, struct vmx_vcpu, host_rsp);
	OFFSET(VMX_LAUNCHED, struct vmx_vcpu, launched);
	DEFINE(FIELD_HOST_RSP, VMCS_HOST_RSP);
	DEFINE(SELECTOR_CODE, SEL_CODE);
	DEFINE(SELECTOR_DATA, SEL_DATA);
}
