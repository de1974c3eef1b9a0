/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/svm/svm.h"
#include "core/cpuid.h"
#include "core/errno.h"
#include "core/msr.h"

/*
 * What only AMD's CPUs show of themselves. The registers have no effect and read
 * as a machine has them that uses no such feature: Linux and firmware touch them
 * by family and model, without asking CPUID.
 */
#define MSR_AMD_SMM_BASE 0xc0010111U
#define MSR_AMD_SMM_ADDR 0xc0010112U
#define MSR_AMD_SMM_MASK 0xc0010113U
#define MSR_AMD_LS_CFG 0xc0011020U
#define MSR_AMD_BU_CFG2 0xc001102aU
#define MSR_AMD_DC_CFG 0xc0011022U
#define MSR_AMD_BU_CFG 0xc0011023U
#define MSR_AMD_INT_PENDING 0xc0010055U
#define MSR_AMD_NB_CFG 0xc001001fU
#define NB_CFG_CF8_EXT BIT(46) /* extended configuration space by port 0xCF8 */
#define DE_CFG_LFENCE_SERIALIZE BIT(1)
#define HWCR_WRITABLE (BIT(3) | BIT(6) | BIT(8) | BIT(18) | BIT(24) | BIT(27))

/* Extended leaf 1: CmpLegacy; EDX repeats these bits of leaf 1 (APM vol. 3, appendix E.4.2). */
#define E1_ECX_CMP_LEGACY BIT32(1)
#define E1_EDX_COPY 0x0183f3ffU

void svm_guest_cpuid(struct vcpu *v)
{
	struct cpuid_table *t = &v->cpuid;
	u32 n = v->vm->vcpus;

	t->ext[1].edx |= cpuid(CPUID_EXT_BASE + 1, 0).edx & E1_EDX_COPY;
	if (n > 1)
		t->ext[1].ecx |= E1_ECX_CMP_LEGACY;
	if (t->ext_max >= 8)
		t->ext[8].ecx = (n - 1) | cpuid_id_bits(n) << 12;
}

int svm_msr_read(struct vcpu *v, u32 msr, u64 *value)
{
	*value = 0;
	switch (msr) {
	case MSR_HWCR:
		*value = v->vm->msrs->hwcr;
		return 0;
	case MSR_DE_CFG:
		*value = DE_CFG_LFENCE_SERIALIZE;
		return 0;
	case MSR_BIOS_SIGN_ID:
		*value = 1;
		return 0;
	case MSR_SYSCFG:
	case MSR_TOP_MEM:
	case MSR_TOP_MEM2:
	case MSR_VM_CR:
	case MSR_AMD_SMM_BASE:
	case MSR_AMD_SMM_ADDR:
	case MSR_AMD_SMM_MASK:
	case MSR_AMD_LS_CFG:
	case MSR_AMD_DC_CFG:
	case MSR_AMD_BU_CFG:
	case MSR_AMD_BU_CFG2:
	case MSR_AMD_INT_PENDING:
	case MSR_AMD_NB_CFG:
		if (msr == MSR_VM_CR)
			*value = VM_CR_LOCK | VM_CR_SVMDIS;
		return 0;
	default:
		return -EINVAL;
	}
}

int svm_msr_write(struct vcpu *v, u32 msr, u64 value)
{
	switch (msr) {
	case MSR_HWCR:
		if ((value & ~HWCR_WRITABLE) != 0)
			return -EINVAL;
		v->vm->msrs->hwcr = value;
		return 0;
	case MSR_DE_CFG:
		return (value & ~DE_CFG_LFENCE_SERIALIZE) != 0 ? -EINVAL : 0;
	case MSR_BIOS_SIGN_ID:
	case MSR_AMD_LS_CFG:
	case MSR_AMD_DC_CFG:
	case MSR_AMD_BU_CFG:
	case MSR_AMD_BU_CFG2:
	case MSR_AMD_INT_PENDING:
		return value == 0 ? 0 : -EINVAL;
	case MSR_AMD_NB_CFG: /* Linux sets this bit on every family, with or without a PCI bus */
		return (value & ~NB_CFG_CF8_EXT) == 0 ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}
