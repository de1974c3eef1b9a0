/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/guest_msrs.h"
#include "arch/x86/msr.h"

const struct guest_msr guest_msrs[GUEST_MSRS] = {
	{ MSR_TSC, false },
	{ MSR_SYSENTER_CS, true },
	{ MSR_SYSENTER_ESP, true },
	{ MSR_SYSENTER_EIP, true },
	{ MSR_STAR, true },
	{ MSR_LSTAR, true },
	{ MSR_CSTAR, true },
	{ MSR_SFMASK, true },
	{ MSR_FS_BASE, true },
	{ MSR_GS_BASE, true },
	{ MSR_KERNEL_GS_BASE, true },
};
