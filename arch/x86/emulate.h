/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_EMULATE_H
#define RAVELIN_ARCH_X86_EMULATE_H

#include "arch/x86/gwalk.h"
#include "core/types.h"

/*
 * Executes the guest's instruction behind an exit for device memory or for string
 * I/O. Only instructions that touch memory are known here; nothing is emulated
 * that the CPU can run itself.
 */
struct vcpu;

/*
 * Answers VEXIT_MMIO (v->exit.mmio). Returns VRESULT_*: ADVANCE with
 * v->exit.insn_len set; RETRY when a fault was queued for the guest or a REP
 * instruction has more to do; LEAVE after the VM was stopped by vcpu_fatal().
 */
u32 emulate_mmio(struct vcpu *v);

/* Answers VEXIT_IO with io.string set. io.seg may be VSEG_COUNT when the hardware does not say
 * which segment OUTS uses: the instruction is decoded then. Results as emulate_mmio(). */
u32 emulate_string_io(struct vcpu *v);

/*
 * Length of the instruction at the guest's CS:RIP, for CPUs that save no next RIP:
 * 1..15, or -EFAULT when its bytes cannot be fetched (nothing is queued), -EINVAL
 * when it is no instruction, -E2BIG, -EIO, -EAGAIN, -EACCES.
 */
int insn_length_at_rip(struct vcpu *v);

#endif
