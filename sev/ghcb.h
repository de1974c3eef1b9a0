/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_SEV_GHCB_H
#define RAVELIN_SEV_GHCB_H

#include "core/vm.h"
#include "sev/es.h"

/*
 * The guest-hypervisor communication block: what an SEV-ES guest asks for by
 * VMGEXIT (GHCB specification 2.x). Own CPU, exit path: nothing here blocks,
 * allocates or loops without bound.
 */

/* v->es->ghcb_msr gets the answer to a SEV_INFO request: its value at reset. */
void ghcb_reset(struct vcpu *v);

/*
 * Serves one VMGEXIT: the MSR protocol, or the page that the MSR names. Returns
 * VRESULT_RETRY, or VRESULT_LEAVE when the vCPU waits, halts or its VM ends. RIP
 * is never touched: the CPU has advanced it.
 */
u32 ghcb_vmgexit(struct vcpu *v);

/*
 * A vCPU in reset hold goes on: writes the answer that v->es->wake asks for and
 * ends the hold. Called before the next entry.
 */
void ghcb_hold_end(struct vcpu *v);

/* Prints the counters of vCPUs first..end-1, added up; nothing for a plain VM. Shell. */
void ghcb_stats(const struct vm *vm, u32 first, u32 end);
/* Static text. */
const char *ghcb_kind_name(u32 kind);

#endif
