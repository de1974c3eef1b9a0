/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_XMM_H
#define RAVELIN_ARCH_X86_XMM_H

#include "core/types.h"

/*
 * The current vCPU's XMM registers (0..15). They are live in the CPU because the
 * hypervisor uses none itself; needs the host's CR4.OSFXSR set and CR0.TS, EM clear.
 */
void guest_xmm_read(u32 reg, u64 value[2]);
void guest_xmm_write(u32 reg, const u64 value[2]);

#endif
