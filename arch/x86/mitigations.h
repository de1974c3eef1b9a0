/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_MITIGATIONS_H
#define RAVELIN_ARCH_X86_MITIGATIONS_H

#include "core/types.h"

/*
 * What is done against speculation of one guest on another's or the hypervisor's
 * data, chosen once at start from CPUID, ARCH_CAPABILITIES and the CPU's family,
 * for both vendors. With "mitigations = no" nothing is, and no exit pays for it.
 * entry.asm of the backends reads the first bytes.
 */
struct mitigations {
	u8 verw;         /* before each entry: overwrite the CPU's buffers */
	u8 l1d_flush;    /* before each entry */
	u8 return_stack; /* after each exit: fill the return predictor, clear registers */
	u8 ibpb;         /* another VM runs on the CPU: flush the branch predictor */
	u8 spec_ctrl;    /* SPEC_CTRL of every CPU is set once, see mitigations_cpu_init() */
};
ASSERT_OFFSET(struct mitigations, verw, 0);
ASSERT_OFFSET(struct mitigations, l1d_flush, 1);
extern struct mitigations mitigations;

/* Boot CPU, before guests run. Safe to call again. */
void mitigations_init(void);
/* Every CPU, before it runs a guest. */
void mitigations_cpu_init(void);

#endif
