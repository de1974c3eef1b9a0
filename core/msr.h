/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_MSR_H
#define RAVELIN_CORE_MSR_H

#include "arch/x86/msr.h"
#include "core/vm.h"

/*
 * The MSR policy: what a guest finds behind an intercepted RDMSR or WRMSR.
 * Own CPU, exit path. -EINVAL asks for #GP(0): the MSR is not offered, or the
 * value is not legal for it.
 */
int msr_read(struct vcpu *v, u32 msr, u64 *value);
int msr_write(struct vcpu *v, u32 msr, u64 value);

#define MTRR_VARIABLE 8
#define MTRR_FIXED 11
#define X2APIC_EOI 0x80bU

/* For a backend's loop, too: those that need no look at the rest of the policy. */
static inline bool msr_read_fast(const struct vcpu *v, u32 msr, u64 *value)
{
	if (msr == MSR_APIC_BASE)
		*value = v->lapic.base_msr;
	else if (msr == MSR_MTRRCAP) /* fixed ranges and write combining offered */
		*value = MTRR_VARIABLE | BIT(8) | BIT(10);
	else
		return false;
	return true;
}

/* The write that kernels make after each interrupt does no more than vlapic_eoi(). */
static inline bool msr_is_eoi(const struct vcpu *v, u32 msr, u64 value)
{
	return msr == X2APIC_EOI && value == 0 && v->lapic.mode == VLAPIC_X2APIC &&
	       !v->pv.eoi_armed;
}

/* Per-VM register state that has no effect beyond reading back. */
struct vm_msrs {
	u64 mtrr_def_type;
	u64 mtrr_fixed[MTRR_FIXED];
	u64 mtrr_var[2 * MTRR_VARIABLE];
	u64 hwcr;
	u64 misc_enable;
	u64 mcg_status;
};
/* firmware: as a PC's firmware leaves them to a kernel; else as after reset. */
void vm_msrs_reset(struct vm_msrs *m, bool firmware);

#endif
