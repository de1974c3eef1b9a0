/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef GUEST_PV_VC_H
#define GUEST_PV_VC_H

#include "kernel.h"

/*
 * An SEV-ES guest's half of the GHCB protocol (AMD publication 56421): what an
 * instruction needs of the hypervisor goes through a page of its CPU's own that
 * is shared with it. The handler of #VC does that for the instructions that this
 * kernel uses; so console, MSRs, CPUID and hypercalls need no other code.
 */
#define VC_VECTOR 29

/* Address bit of private memory; 0 when the guest is not encrypted. */
extern uint64_t vc_c_bit;
extern char es_cmdline[240];

/* Boot CPU, once, before anything that needs the hypervisor: the shared pages are made empty, and
 * the protocol's version is agreed on. IDT loaded. */
void vc_init(void);
/* Number of the calling CPU, by its stack: asks nobody. */
uint32_t vc_cpu(void);
/* The handler, interrupts off. Ends the guest when an instruction is none of those it knows, or
 * when the hypervisor's answer is none. */
void vc_handle(struct frame *f);

#endif
