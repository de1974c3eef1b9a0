/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_SEV_LAUNCH_H
#define RAVELIN_SEV_LAUNCH_H

#include "core/loader.h"
#include "core/vm.h"

/*
 * The launch of an SEV-ES guest (SEV API specification, chapter 6): plain text
 * is put in guest memory, encrypted in place and measured piece by piece, then
 * the VMSAs. CPU 0, VM off.
 */

#define ES_RANGES 16

/* A run of guest memory that is measured: all of its bytes, in this order. */
struct es_range {
	gpa_t gpa; /* a multiple of 16, and so is size */
	u64 size;
};

/* What a loader decided. Measured: range[0], range[1], ..., then the VMSAs of vCPU 0, 1, ... */
struct es_plan {
	struct es_range range[ES_RANGES];
	u32 ranges;
	bool direct;     /* VMSAs by vmsa_direct(), else by vmsa_reset() */
	u32 entry;       /* direct: EIP of all vCPUs */
	u32 info;        /* direct: their ESI, address of the launch information */
	u32 ap_reset;    /* else: where APs begin, 0: the boot processor's reset vector */
	gpa_t secret;    /* place for the owner's secret; 0: none named */
	u32 secret_size;
};

/* Adds a range behind the others. -EINVAL: alignment, or not all in RAM or the firmware's ROM;
 * -ENOSPC: ES_RANGES. The bytes must not be touched any more when the loader has returned. */
int es_plan_add(struct vm *vm, struct es_plan *p, gpa_t gpa, u64 size);

/*
 * The loaders. Each writes plain text to guest memory (loader_write() and its
 * kin) and fills the plan; logged when it fails. Chosen by the configuration:
 * firmware; sev-loader with a kernel (direct.c); sev-loader alone (flat.c).
 */
int es_plan_firmware(struct loader *l, struct es_plan *p);
int es_plan_direct(struct loader *l, struct es_plan *p);
int es_plan_flat(struct loader *l, struct es_plan *p);

#endif
