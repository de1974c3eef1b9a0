/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_GUEST_MSRS_H
#define RAVELIN_ARCH_X86_GUEST_MSRS_H

#include "core/types.h"

/*
 * The whitelist: MSRs that are the guest's own at every moment, because entries and exits switch
 * them or the hypervisor does not use them and each vCPU gets its own before it runs. Only
 * these are read or written without an exit.
 */
struct guest_msr {
	u32 msr;
	bool write; /* reading is free for all of them */
};

#define GUEST_MSRS 11
extern const struct guest_msr guest_msrs[GUEST_MSRS];

#endif
