/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/paging.h"
#include "arch/x86/percpu.h"
#include "arch/x86/tsc.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/main.h"
#include "core/panic.h"
#include "core/pmm.h"
#include "core/shell.h"
#include "core/string.h"
#include "core/trace.h"
#include "core/version.h"
#include "core/vm.h"

/* The shell's commands about the machine. */

/* ---- version, cpu, mem ---- */

static int version_command(int argc, char **argv)
{
	(void)argv;
	if (argc != 1)
		return -EINVAL;
	log_printf("Ravelin " RAVELIN_VERSION ", booted by %s, %s\n", boot_info->door,
		   virt ? virt->isa : "no virtualisation");
	return 0;
}
SHELL_COMMAND(version, version_command, "", "what this is");

/* vCPUs whose home is this CPU. */
static void cpu_vcpus(u32 cpu)
{
	for (u32 i = 0; i < VM_MAX; i++) {
		const struct vm *vm = vm_get(i);

		for (u32 j = 0; vm && j < vm->vcpus; j++)
			if (vm->vcpu[j]->cpu == cpu)
				log_printf(" %s/%u%s", vm->name, j,
					   vm->vcpu[j]->place == VCPU_CURRENT ? "*" : "");
	}
}

static int cpu_command(int argc, char **argv)
{
	(void)argv;
	if (argc != 1)
		return -EINVAL;
	log_printf("%s\n%s, family 0x%x model 0x%x, TSC %lu kHz\n", cpu_features.brand,
		   cpu_features.vendor, cpu_features.family, cpu_features.model,
		   (unsigned long)tsc_khz);
	for (u32 i = 0; i < cpu_count; i++) {
		log_printf("CPU %-3u apic %-3u node %-2u vCPUs:", i, cpus[i].apic_id, cpus[i].node);
		cpu_vcpus(i);
		log_printf("\n");
	}
	return 0;
}
SHELL_COMMAND(cpu, cpu_command, "", "CPUs and the vCPUs on them; * runs now");

static int mem_command(int argc, char **argv)
{
	u64 total = pmm_total_count();
	u64 free = pmm_free_count();

	(void)argv;
	if (argc != 1)
		return -EINVAL;
	log_printf("total %8lu MiB %10lu frames\nfree  %8lu MiB %10lu frames\n",
		   (unsigned long)(total >> 8), (unsigned long)total, (unsigned long)(free >> 8),
		   (unsigned long)free);
	if (host_c_bit != 0)
		log_printf("encrypted with the host's key\n");
	for (u32 i = 0; i < VM_MAX; i++) {
		const struct vm *vm = vm_get(i);

		if (vm)
			log_printf("vm %-16s %8lu MiB\n", vm->name,
				   (unsigned long)((vm->ram.low + vm->ram.high) >> 20));
	}
	return 0;
}
SHELL_COMMAND(mem, mem_command, "", "physical memory, counted in frames of 4 KiB");

/* ---- log ---- */

static const char *const level_name[] = {
	[LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug",
};

static void dmesg(void)
{
	char text[256];
	u64 pos = 0;
	size_t n;

	while ((n = log_read(&pos, text, sizeof(text))) > 0)
		log_write(text, n);
}

static int log_command(int argc, char **argv)
{
	if (argc > 2)
		return -EINVAL;
	if (argc == 1) {
		log_printf("level %s\n", log_level < 4 ? level_name[log_level] : "?");
		return 0;
	}
	if (!strcmp(argv[1], "dmesg")) {
		dmesg();
		return 0;
	}
	for (u32 i = 0; i < ARRAY_SIZE(level_name); i++)
		if (!strcmp(argv[1], level_name[i])) {
			log_level = i;
			return 0;
		}
	return -EINVAL;
}
SHELL_COMMAND(log, log_command, "[dmesg | error|warn|info|debug]",
	      "shows the log, or which lines reach the console");

/* ---- config ---- */

static void show_host(const struct host_config *h)
{
	log_printf("[host]\n");
	for (u32 i = 0; i < h->consoles; i++) {
		if (h->console[i].kind == CONSOLE_FB)
			log_printf("console = efifb\n");
		else
			log_printf("console = 0x%x,%u\n", h->console[i].port, h->console[i].baud);
	}
	log_printf("log = %s\nescape = ctrl-%c\nmitigations = %s\nmemory-encryption = %s\n",
		   h->log_level < 4 ? level_name[h->log_level] : "?", h->escape + '@',
		   h->mitigations ? "yes" : "no", h->memory_encryption ? "yes" : "no");
	if (h->attach[0])
		log_printf("attach = %s\n", h->attach);
}

static bool in_set(const struct cpu_set *s, u32 cpu)
{
	return cpu < CPU_MAX && (s->bits[cpu / 64] >> (cpu % 64)) & 1;
}

static void show_affinity(const struct cpu_set *s)
{
	const char *lead = "affinity = ";

	for (u32 i = 0; i < CPU_MAX; i++) {
		u32 last = i;

		if (!in_set(s, i))
			continue;
		while (in_set(s, last + 1))
			last++;
		log_printf("%s%u", lead, i);
		if (last > i)
			log_printf("-%u", last);
		lead = ",";
		i = last;
	}
	if (lead[0] == ',')
		log_printf("\n");
}

static void show_text(const char *key, const char *value)
{
	if (value[0])
		log_printf("%s = %s\n", key, value);
}

static void show_vm(const struct vm_config *c)
{
	log_printf("\n[vm %s]%s\n", c->name, c->valid ? "" : "   # has errors, is not started");
	show_text("kernel", c->kernel);
	show_text("firmware", c->firmware);
	show_text("initrd", c->initrd);
	show_text("cmdline", c->cmdline);
	for (u32 i = 0; i < c->modules; i++)
		log_printf("module = %s %s\n", c->module[i].path, c->module[i].args);
	log_printf("memory = %luM\ncpus = %u\n", (unsigned long)(c->memory >> 20), c->cpus);
	show_affinity(&c->affinity);
	log_printf("sev = %s\n", c->sev == SEV_ES ? "es" : "off");
	if (c->policy)
		log_printf("policy = 0x%x\n", c->policy);
	show_text("sev-loader", c->sev_loader);
	show_text("sev-cert", c->sev_cert);
	show_text("sev-session", c->sev_session);
	show_text("sev-secret-header", c->sev_secret_header);
	show_text("sev-secret", c->sev_secret);
	if (c->sev_secret_gpa)
		log_printf("sev-secret-gpa = 0x%lx\n", (unsigned long)c->sev_secret_gpa);
	log_printf("autostart = %s\n", c->autostart ? "yes" : "no");
	if (c->debug_exit)
		log_printf("debug-exit = yes\n");
	if (c->debugcon)
		log_printf("debugcon = yes\n");
}

static int config_command(int argc, char **argv)
{
	(void)argv;
	if (argc != 1)
		return -EINVAL;
	show_host(&config.host);
	for (u32 i = 0; i < config.vms; i++)
		show_vm(&config.vm[i]);
	if (config.errors)
		log_printf("\n# %u errors; see log dmesg\n", config.errors);
	return 0;
}
SHELL_COMMAND(config, config_command, "", "the configuration as it was understood");

/* ---- trace ---- */

#define TRACE_SHOW 40U

static void trace_line(u32 cpu, const struct trace_record *r)
{
	const struct vm *vm = vm_get(r->vm);
	u64 us = tsc_to_ns(r->tsc) / 1000;

	log_printf("%8lu.%06lu cpu%-3u %s/%u %-6s ", (unsigned long)(us / 1000000),
		   (unsigned long)(us % 1000000), cpu, vm ? vm->name : "?", r->vcpu,
		   trace_kind_name(r->kind));
	if (r->kind == TRACE_EXIT)
		log_printf("%s 0x%lx\n", vexit_name((u32)r->a), (unsigned long)r->b);
	else if (r->kind == TRACE_VMGEXIT)
		log_printf("0x%x info 0x%lx 0x%lx result %u/%u\n", r->code, (unsigned long)r->a,
			   (unsigned long)r->b, r->result >> 4, r->result & 0xf);
	else
		log_printf("0x%lx 0x%lx\n", (unsigned long)r->a, (unsigned long)r->b);
}

static int trace_show_command(int argc, char **argv)
{
	bool was_on = (trace_flags & TRACE_EVENTS) != 0;
	u32 id = TRACE_VM_ALL;
	u64 count = TRACE_SHOW;

	if (argc > 2 && !shell_number(argv[2], &count)) {
		const struct vm *vm = vm_find(argv[2]);

		if (!vm) {
			log_printf("%s: no such VM\n", argv[2]);
			return -ENOENT;
		}
		id = vm->id;
		if (argc > 3 && !shell_number(argv[3], &count))
			return -EINVAL;
	}
	trace_stop();
	if (!trace_show(id, (u32)MIN(count, 100000UL), trace_line))
		log_printf("nothing recorded; trace on starts it\n");
	if (was_on) /* goes on without emptying the rings */
		__atomic_or_fetch(&trace_flags, TRACE_EVENTS, __ATOMIC_RELEASE);
	return 0;
}

static int trace_command(int argc, char **argv)
{
	if (argc == 1) {
		log_printf("trace is %s\n", trace_flags & TRACE_EVENTS ? "on" : "off");
		return 0;
	}
	if (!strcmp(argv[1], "show") && argc <= 4)
		return trace_show_command(argc, argv);
	if (argc == 2 && !strcmp(argv[1], "off")) {
		trace_stop();
		return 0;
	}
	if (argc == 2 && !strcmp(argv[1], "on")) {
		if (trace_start()) {
			log_printf("no memory for the trace\n");
			return -ENOMEM;
		}
		return 0;
	}
	return -EINVAL;
}
SHELL_COMMAND(trace, trace_command, "on | off | show [VM] [COUNT]",
	      "records what vCPUs do, in a ring on each CPU");

/* ---- power ---- */

static int reboot_command(int argc, char **argv)
{
	(void)argv;
	if (argc != 1)
		return -EINVAL;
	machine_reboot();
}
SHELL_COMMAND(reboot, reboot_command, "", "restarts the machine; VMs are not asked");

static int poweroff_command(int argc, char **argv)
{
	(void)argv;
	if (argc != 1)
		return -EINVAL;
	machine_poweroff();
}
SHELL_COMMAND(poweroff, poweroff_command, "", "switches the machine off; VMs are not asked");

#ifdef RAVELIN_DEBUG
/* Tests the reports of the hypervisor's own faults. */
static int crash_command(int argc, char **argv)
{
	if (argc != 2)
		return -EINVAL;
	if (!strcmp(argv[1], "panic"))
		panic("asked for");
	if (!strcmp(argv[1], "ud"))
		__asm__ volatile("ud2");
	if (!strcmp(argv[1], "null"))
		*(volatile u32 *)0x10 = 0;
	return -EINVAL;
}
SHELL_COMMAND(crash, crash_command, "panic | ud | null", "tests fault reports");
#endif
