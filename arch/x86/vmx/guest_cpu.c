/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/vmx/vmx.h"
#include "core/cpuid.h"
#include "core/errno.h"
#include "core/msr.h"

/* What only Intel's CPUs show of themselves. */

static void cache_subleaves(struct vcpu *v)
{
	for (u32 i = 0; i < 5; i++) {
		struct cpuid_regs r = cpuid_if(4, i);

		if ((r.eax & 0x1f) == 0)
			break;
		/* Caches below level 3 belong to one vCPU, the others to all. */
		r.eax &= 0x3fff;
		if ((r.eax >> 5 & 7) >= 3)
			r.eax |= (v->vm->vcpus - 1) << 14;
		r.eax |= (v->vm->vcpus - 1) << 26;
		cpuid_add_subleaf(&v->cpuid, 4, i,
				  (struct cpuid_entry){ r.eax, r.ebx, r.ecx, r.edx });
	}
}

void vmx_guest_cpuid(struct vcpu *v)
{
	struct cpuid_regs r = cpuid_if(2, 0);

	v->cpuid.basic[2] = (struct cpuid_entry){ r.eax, r.ebx, r.ecx, r.edx };
	v->cpuid.basic_dyn |= BIT(4);
	cache_subleaves(v);
}

int vmx_msr_read(struct vcpu *v, u32 msr, u64 *value)
{
	*value = 0;
	switch (msr) {
	case MSR_MISC_ENABLE:
		*value = v->vm->msrs->misc_enable;
		return 0;
	case MSR_FEATURE_CONTROL:
		*value = BIT(0); /* locked, VMX off */
		return 0;
	case MSR_BIOS_SIGN_ID:
		*value = BIT(32);
		return 0;
	case MSR_PLATFORM_ID:
		return 0;
	default:
		return -EINVAL;
	}
}

int vmx_msr_write(struct vcpu *v, u32 msr, u64 value)
{
	switch (msr) {
	case MSR_MISC_ENABLE:
		v->vm->msrs->misc_enable = value | MISC_ENABLE_FIXED;
		return 0;
	case MSR_BIOS_SIGN_ID:
		return 0;
	default:
		return -EINVAL;
	}
}
