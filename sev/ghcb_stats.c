/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/log.h"
#include "sev/ghcb.h"
#include "sev/ghcb_page.h"

/* What the counters of the GHCB protocol are called, for a person. */

static const char *const names[GHCB_KINDS] = {
	[GHCB_CPUID] = "cpuid",
	[GHCB_CPUID_XSAVE] = "cpuid-xsave",
	[GHCB_RDMSR] = "rdmsr",
	[GHCB_WRMSR] = "wrmsr",
	[GHCB_MMIO_READ] = "mmio-read",
	[GHCB_MMIO_WRITE] = "mmio-write",
	[GHCB_OUT] = "out",
	[GHCB_IN] = "in",
	[GHCB_OUTS] = "outs",
	[GHCB_INS] = "ins",
	[GHCB_VMMCALL] = "vmmcall",
	[GHCB_RDTSC] = "rdtsc",
	[GHCB_RDTSCP] = "rdtscp",
	[GHCB_RDPMC] = "rdpmc",
	[GHCB_WBINVD] = "wbinvd",
	[GHCB_INVD] = "invd",
	[GHCB_MONITOR] = "monitor",
	[GHCB_MWAIT] = "mwait",
	[GHCB_DR7_READ] = "dr7-read",
	[GHCB_DR7_WRITE] = "dr7-write",
	[GHCB_NMI_COMPLETE] = "nmi-complete",
	[GHCB_RESET_HOLD] = "reset-hold",
	[GHCB_JUMP_TABLE] = "jump-table",
	[GHCB_FEATURES] = "features",
	[GHCB_TERMINATE] = "terminate",
	[GHCB_UNSUPPORTED] = "unsupported",
	[GHCB_UNKNOWN] = "unknown",
	[GHCB_NO_PAGE] = "no-page",
	[GHCB_REFUSED] = "refused",
	[GHCB_MSR_INFO] = "msr:info",
	[GHCB_MSR_CPUID] = "msr:cpuid",
	[GHCB_MSR_RESET_HOLD] = "msr:reset-hold",
	[GHCB_MSR_FEATURES] = "msr:features",
	[GHCB_MSR_TERMINATE] = "msr:terminate",
	[GHCB_MSR_SNP] = "msr:snp",
	[GHCB_MSR_UNKNOWN] = "msr:unknown",
};

const char *ghcb_kind_name(u32 kind)
{
	return kind < GHCB_KINDS ? names[kind] : "?";
}

void ghcb_stats(const struct vm *vm, u32 first, u32 end)
{
	for (u32 k = 0; k < GHCB_KINDS && vm->es != NULL; k++) {
		u64 sum = 0;

		for (u32 i = first; i < end; i++)
			sum += vm->vcpu[i]->es->events[k];
		if (sum != 0)
			log_printf("    ghcb %-14s %12lu\n", names[k], (unsigned long)sum);
	}
}
