/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/msr.h"
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/vcpu_state.h"
#include "core/errno.h"
#include "core/string.h"
#include "core/vm.h"

/*
 * Registers that every guest has; those of one vendor are the backend's.
 */
#define HWCR_TSC_FREQ_SEL BIT(24)
#define MTRR_DEF_TYPE_BITS 0xcffUL

static bool memory_type_valid(u64 t)
{
	return t == PAT_UC || t == PAT_WC || t == PAT_WT || t == PAT_WP || t == PAT_WB;
}

/* Eight types, a byte each (pat: UC- allowed, too). */
static bool types_valid(u64 value, bool pat)
{
	for (u32 i = 0; i < 8; i++, value >>= 8) {
		u64 t = value & 0xff;

		if (!memory_type_valid(t) && !(pat && t == PAT_UCM))
			return false;
	}
	return true;
}

#define ALL_WB 0x0606060606060606UL
#define MTRR_ENABLED (BIT(10) | BIT(11)) /* FE and E */
#define MTRR_MASK_VALID BIT(11)
#define MTRR_VIDEO 2 /* index of the fixed ranges at 0xa0000 */

/* RAM is write-back; the gigabyte below 4 GiB, where devices are, and video memory uncached. */
static void mtrr_firmware(struct vm_msrs *m)
{
	u64 address = BIT(MIN(cpu_features.phys_bits, 52U)) - 1;

	for (u32 i = 0; i < MTRR_FIXED; i++)
		m->mtrr_fixed[i] = i == MTRR_VIDEO ? 0 : ALL_WB;
	m->mtrr_var[0] = VM_LOW_MAX;
	m->mtrr_var[1] = (address & ~(GIB(1) - 1)) | MTRR_MASK_VALID;
	m->mtrr_def_type = MTRR_ENABLED | PAT_WB;
}

void vm_msrs_reset(struct vm_msrs *m, bool firmware)
{
	memset(m, 0, sizeof(*m));
	if (firmware)
		mtrr_firmware(m);
	m->hwcr = HWCR_TSC_FREQ_SEL;
	m->misc_enable = MISC_ENABLE_FIXED;
}

/* --- MTRRs (APM vol. 2, 7.7): kept, with no effect, as nested paging keeps guest RAM write-back --- */

static s32 mtrr_fixed_index(u32 msr)
{
	if (msr == MSR_MTRR_FIX64K_00000)
		return 0;
	if (msr == MSR_MTRR_FIX16K_80000 || msr == MSR_MTRR_FIX16K_A0000)
		return (s32)(msr - MSR_MTRR_FIX16K_80000 + 1);
	if (msr >= MSR_MTRR_FIX4K_C0000 && msr <= MSR_MTRR_FIX4K_F8000)
		return (s32)(msr - MSR_MTRR_FIX4K_C0000 + 3);
	return -1;
}

static u64 *mtrr_slot(struct vm_msrs *m, u32 msr)
{
	s32 fixed = mtrr_fixed_index(msr);

	if (fixed >= 0)
		return &m->mtrr_fixed[fixed];
	if (msr >= MSR_MTRR_PHYSBASE(0) && msr < MSR_MTRR_PHYSBASE(MTRR_VARIABLE))
		return &m->mtrr_var[msr - MSR_MTRR_PHYSBASE(0)];
	if (msr == MSR_MTRR_DEF_TYPE)
		return &m->mtrr_def_type;
	return NULL;
}

static bool mtrr_valid(const struct vcpu *v, u32 msr, u64 value)
{
	u64 address = BIT(v->cpuid.ext[8].eax & 0xff) - 1;

	if (mtrr_fixed_index(msr) >= 0)
		return types_valid(value, false);
	if (msr == MSR_MTRR_DEF_TYPE)
		return (value & ~MTRR_DEF_TYPE_BITS) == 0 && memory_type_valid(value & 0xff);
	if (((msr - MSR_MTRR_PHYSBASE(0)) & 1) != 0) /* mask */
		return (value & ~(address & ~0x7ffUL)) == 0;
	return (value & ~(address & (PAGE_MASK | 0xff))) == 0 && memory_type_valid(value & 0xff);
}

/* --- the rest -------------------------------------------------------------------------------- */

#define X2APIC_TPR 0x808U
#define X2APIC_PPR 0x80aU

static int lapic_read_msr(struct vcpu *v, u32 msr, u64 *value)
{
	if (unlikely(v->pv.eoi_armed))
		pv_eoi_settle(v);
	if (msr == X2APIC_TPR || msr == X2APIC_PPR)
		virt->sync_tpr(v);
	return vlapic_msr_read(&v->lapic, msr, value);
}

static __attribute__((noinline)) int lapic_write_msr(struct vcpu *v, u32 msr, u64 value)
{
	int err;

	if (v->pv.eoi_armed)
		pv_eoi_settle(v);
	err = vlapic_msr_write(&v->lapic, msr, value);
	if (err == 0 && (msr == X2APIC_TPR || msr == MSR_APIC_BASE))
		vcpu_hazard(v, HAZ_TPR | HAZ_IRQ);
	return err;
}

/* EFER bits that the guest's CPUID offers. LMA follows LME and paging: a write leaves it alone. */
static u64 efer_mask(const struct vcpu *v)
{
	u64 mask = EFER_SCE | EFER_LME | EFER_LMA;

	if (cpuid_has(v, CPUID_EXT_BASE + 1, 3, 20))
		mask |= EFER_NXE;
	if (cpuid_has(v, CPUID_EXT_BASE + 1, 3, 25))
		mask |= EFER_FFXSR;
	return mask;
}

static int write_efer(struct vcpu *v, u64 value)
{
	u64 old, cr0;

	if (virt->get_reg(v, VREG_EFER, &old) < 0 || virt->get_reg(v, VREG_CR0, &cr0) < 0)
		return -EINVAL;
	if ((value & ~efer_mask(v)) != 0)
		return -EINVAL;
	if (((value ^ old) & EFER_LME) != 0 && (cr0 & CR0_PG) != 0)
		return -EINVAL;
	return virt->set_reg(v, VREG_EFER, (value & ~EFER_LMA) | (old & EFER_LMA));
}

static int write_pat(struct vcpu *v, u64 value)
{
	return types_valid(value, true) ? virt->set_reg(v, VREG_PAT, value) : -EINVAL;
}

static int write_tsc(struct vcpu *v, u64 value)
{
	v->tsc_offset = value - rdtsc();
	vlapic_tsc_changed(&v->lapic);
	pv_clock_update(v);
	return virt->set_reg(v, VREG_TSC_OFFSET, v->tsc_offset);
}

static int write_tsc_aux(struct vcpu *v, u64 value)
{
	if (value >> 32 != 0 || !cpuid_has(v, CPUID_EXT_BASE + 1, 3, 27))
		return -EINVAL;
	vcpu_state_set_tsc_aux(v, value);
	return 0;
}

/* Registers that a backend may leave in the CPU and so are not intercepted everywhere. */
static s32 switched_reg(u32 msr)
{
	switch (msr) {
	case MSR_STAR: return VREG_STAR;
	case MSR_LSTAR: return VREG_LSTAR;
	case MSR_CSTAR: return VREG_CSTAR;
	case MSR_SFMASK: return VREG_SFMASK;
	case MSR_KERNEL_GS_BASE: return VREG_KERNEL_GS_BASE;
	case MSR_SYSENTER_CS: return VREG_SYSENTER_CS;
	case MSR_SYSENTER_ESP: return VREG_SYSENTER_ESP;
	case MSR_SYSENTER_EIP: return VREG_SYSENTER_EIP;
	case MSR_EFER: return VREG_EFER;
	case MSR_PAT: return VREG_PAT;
	case MSR_DEBUGCTL: return VREG_DEBUGCTL;
	default: return -1;
	}
}

#define MSR_MCI_FIRST 0x400U
#define MSR_MCI_LAST 0x47fU

static __attribute__((noinline)) int read_other(struct vcpu *v, u32 msr, u64 *value)
{
	const u64 *slot = mtrr_slot(v->vm->msrs, msr);
	s32 reg;

	if (slot != NULL) {
		*value = *slot;
		return 0;
	}
	reg = switched_reg(msr);
	if (reg >= 0)
		return virt->get_reg(v, (enum vreg)reg, value) < 0 ? -EINVAL : 0;
	switch (msr) {
	case MSR_TSC:
		*value = rdtsc() + v->tsc_offset;
		return 0;
	case MSR_TSC_AUX:
		*value = v->msr_tsc_aux;
		return cpuid_has(v, CPUID_EXT_BASE + 1, 3, 27) ? 0 : -EINVAL;
	case MSR_MCG_CAP: /* no banks */
	case MSR_MCG_CTL:
		*value = 0;
		return 0;
	case MSR_MCG_STATUS:
		*value = v->vm->msrs->mcg_status;
		return 0;
	default:
		if (pv_is_msr(msr))
			return pv_msr_read(v, msr, value);
		return virt->msr_read(v, msr, value);
	}
}

/* Those that are asked for often; read_other() knows the rest. */
int msr_read(struct vcpu *v, u32 msr, u64 *value)
{
	if (msr_read_fast(v, msr, value))
		return 0;
	if ((msr & ~0xffU) == MSR_X2APIC_FIRST || msr == MSR_TSC_DEADLINE)
		return lapic_read_msr(v, msr, value);
	if (msr == MSR_EFER)
		return virt->get_reg(v, VREG_EFER, value);
	return read_other(v, msr, value);
}

static int write_unswitched(struct vcpu *v, u32 msr, u64 value)
{
	switch (msr) {
	case MSR_TSC:
		return write_tsc(v, value);
	case MSR_TSC_AUX:
		return write_tsc_aux(v, value);
	case MSR_EFER:
		return write_efer(v, value);
	case MSR_PAT:
		return write_pat(v, value);
	case MSR_DEBUGCTL: /* LBR and BTF are not offered: zero only */
		return value == 0 ? virt->set_reg(v, VREG_DEBUGCTL, 0) : -EINVAL;
	case MSR_MCG_STATUS:
		if ((value & ~7UL) != 0)
			return -EINVAL;
		v->vm->msrs->mcg_status = value;
		return 0;
	case MSR_MCG_CTL:
		return 0;
	default:
		if (pv_is_msr(msr))
			return pv_msr_write(v, msr, value);
		return virt->msr_write(v, msr, value);
	}
}

static __attribute__((noinline)) int write_other(struct vcpu *v, u32 msr, u64 value)
{
	u64 *slot = mtrr_slot(v->vm->msrs, msr);
	s32 reg;

	if (slot != NULL) {
		if (!mtrr_valid(v, msr, value))
			return -EINVAL;
		*slot = value;
		return 0;
	}
	reg = switched_reg(msr);
	if (reg >= 0 && reg <= VREG_SYSENTER_EIP && reg >= VREG_STAR)
		return virt->set_reg(v, (enum vreg)reg, value);
	return write_unswitched(v, msr, value);
}

int msr_write(struct vcpu *v, u32 msr, u64 value)
{
	if ((msr & ~0xffU) != MSR_X2APIC_FIRST && msr != MSR_TSC_DEADLINE && msr != MSR_APIC_BASE)
		return write_other(v, msr, value);
	/* Most are the LAPIC's alone; a deadline does not make it look at its registers. */
	if (unlikely((v->pv.eoi_armed && msr != MSR_TSC_DEADLINE) || msr == X2APIC_TPR ||
		     msr == MSR_APIC_BASE))
		return lapic_write_msr(v, msr, value);
	return vlapic_msr_write(&v->lapic, msr, value);
}
