/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_UNIT_H
#define RAVELIN_CORE_UNIT_H

#include "core/types.h"

/*
 * A subsystem as a record in a linker section: adding one touches no core
 * file. Called in the order of the two digits given, then of names; torn down
 * in reverse. Any function may be NULL.
 */
struct vm;

struct unit {
	const char *name;
	int (*init)(void);               /* once, on the boot CPU, all CPUs up, heap usable */
	int (*vm_init)(struct vm *vm);   /* at VM creation */
	void (*vm_exit)(struct vm *vm);  /* at VM destruction; also after a failed creation */
};

/* UNIT(50, iommu) = { .name = "iommu", .init = iommu_init }; */
#define UNIT(order, id) \
	static const struct unit unit_##id __used __aligned(8) __section(".units." #order "." #id)

/* Runs every init; a failure is logged with the unit's name and the others go on. Returns the
 * number of failures. */
u32 units_init(void);
/* Runs every vm_init; at a failure the ones done are undone and its error is returned. */
int units_vm_init(struct vm *vm);
void units_vm_exit(struct vm *vm);

#endif
