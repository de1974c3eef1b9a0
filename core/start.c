/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/vcpu_state.h"
#include "core/config.h"
#include "core/console.h"
#include "core/errno.h"
#include "core/host.h"
#include "core/log.h"
#include "core/main.h"
#include "core/sched.h"
#include "core/string.h"
#include "core/unit.h"
#include "core/vm.h"
#include "drivers/console.h"

/* From the machine's start to running guests. */

#define CONFIG_FILE "ravelin.conf"

struct config config;

const struct vm_config *config_find(const char *name)
{
	for (u32 i = 0; i < config.vms; i++)
		if (!strcmp(config.vm[i].name, name))
			return &config.vm[i];
	return NULL;
}

void config_read(const struct boot_info *bi)
{
	static struct vm_config vms[VM_MAX];
	const struct boot_module *m = boot_module_find(bi, CONFIG_FILE);

	config.vm = vms;
	config_defaults(&config);
	if (m == NULL || m->error != 0 || m->base + m->size > GIB(4)) {
		log_warn("%s: not found beside the loader: no VM is defined; the shell works",
			 CONFIG_FILE);
		return;
	}
	config_parse(&config, CONFIG_FILE, phys_to_virt(m->base), m->size);
}

static void create_vms(void)
{
	for (u32 i = 0; i < config.vms; i++) {
		const struct vm_config *c = &config.vm[i];
		struct vm *vm;

		if (!c->valid) {
			log_err("vm %s: not created: its section in %s has errors", c->name,
				CONFIG_FILE);
			continue;
		}
		if (vm_create(c, &vm) == 0 && c->autostart)
			(void)vm_start(vm);
	}
}

void core_start(const struct boot_info *bi)
{
	log_level = config.host.log_level;
	console_setup(bi, config.host.console, config.host.consoles);
	host_clock_init();
	units_init();
	if (virt_init() == 0)
		create_vms();
	console_start();
	sched_loop();
}
