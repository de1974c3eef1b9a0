/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/tsc.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/pmm.h"
#include "core/shell.h"
#include "core/string.h"
#include "core/vm.h"

/* Whatever a VM was given must come back. */

#define STRESS_RUN_US 20000

static int stress_rounds(const struct vm_config *c, u64 rounds, bool run)
{
	struct vm *vm;
	int error = 0;

	for (u64 i = 0; i < rounds && !error; i++) {
		error = vm_create(c, &vm);
		if (error) {
			log_printf("round %lu: vm_create: error %d\n", (unsigned long)i, -error);
			break;
		}
		if (run)
			error = vm_start(vm);
		if (run && !error)
			delay_us(STRESS_RUN_US);
		if (error)
			log_printf("round %lu: vm_start: error %d\n", (unsigned long)i, -error);
		vm_destroy(vm);
	}
	return error;
}

static int stress_command(int argc, char **argv)
{
	const struct vm_config *c = argc > 3 ? config_find(argv[3]) : NULL;
	u64 rounds, before, after;
	u32 level = log_level;
	int error;
	bool run;

	if (argc != 4 || !shell_number(argv[2], &rounds) || rounds < 1 || rounds > 100000)
		return -EINVAL;
	run = !strcmp(argv[1], "start");
	if (!run && strcmp(argv[1], "create"))
		return -EINVAL;
	if (!c || !c->valid || vm_find(argv[3])) {
		log_printf("%s: needs a valid VM of the configuration that does not exist now; "
			   "vm destroy it first\n", argv[3]);
		return -ENOENT;
	}
	before = pmm_free_count();
	log_level = MIN(level, LOG_WARN); /* the ring still gets every line */
	error = stress_rounds(c, rounds, run);
	log_level = level;
	after = pmm_free_count();
	log_printf("stress: %lu rounds, free frames before %lu, after %lu: %s\n",
		   (unsigned long)rounds, (unsigned long)before, (unsigned long)after,
		   error ? "FAILED" : before == after ? "equal" : "LOST");
	return error == -EINVAL ? -EPROTO : error;
}
SHELL_COMMAND(stress, stress_command, "create|start ROUNDS NAME",
	      "creates (and runs shortly) and destroys a VM again and again, counts free memory");
