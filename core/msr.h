/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_MSR_H
#define RAVELIN_CORE_MSR_H

#include "core/types.h"

struct vm;
struct vcpu;

/*
 * The MSR policy: what a guest finds behind an intercepted RDMSR or WRMSR.
 * Own CPU, exit path. -EINVAL asks for #GP(0): the MSR is not offered, or the
 * value is not legal for it.
 */
int msr_read(struct vcpu *v, u32 msr, u64 *value);
int msr_write(struct vcpu *v, u32 msr, u64 value);

#define MTRR_VARIABLE 8
#define MTRR_FIXED 11

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
