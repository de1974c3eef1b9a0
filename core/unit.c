/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/unit.h"
#include "core/log.h"

extern const struct unit units_start[], units_end[];

u32 units_init(void)
{
	u32 failures = 0;

	for (const struct unit *u = units_start; u < units_end; u++) {
		int err = u->init != NULL ? u->init() : 0;

		if (err != 0) {
			log_err("%s: start failed with error %d, going on without", u->name, -err);
			failures++;
		}
	}
	return failures;
}

static void vm_exit_down(const struct unit *from, struct vm *vm)
{
	for (const struct unit *u = from; u-- > units_start;) {
		if (u->vm_exit != NULL)
			u->vm_exit(vm);
	}
}

int units_vm_init(struct vm *vm)
{
	for (const struct unit *u = units_start; u < units_end; u++) {
		int err = u->vm_init != NULL ? u->vm_init(vm) : 0;

		if (err != 0) {
			log_err("%s: preparing the VM failed with error %d", u->name, -err);
			vm_exit_down(u, vm);
			return err;
		}
	}
	return 0;
}

void units_vm_exit(struct vm *vm)
{
	vm_exit_down(units_end, vm);
}
