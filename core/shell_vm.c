/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/smp.h"
#include "arch/x86/tsc.h"
#include "core/console.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/pmm.h"
#include "core/shell.h"
#include "core/string.h"
#include "core/trace.h"
#include "core/vm.h"
#include "sev/es.h"
#include "sev/ghcb.h"

/* The shell's commands about VMs. */

static const char *vm_state_name(u32 state)
{
	static const char *const name[] = { "off", "running", "crashed", "waiting" };

	return state < ARRAY_SIZE(name) ? name[state] : "?";
}

static const char *vcpu_state_name(const struct vcpu *v)
{
	switch (v->state) {
	case VCPU_OFF: return "off";
	case VCPU_WAIT_SIPI: return "wait-sipi";
	default: return v->halted ? "halted" : "runnable";
	}
}

/* ---- finding ---- */

/* NULL after saying that there is none. */
static struct vm *need_vm(const char *name)
{
	struct vm *vm = vm_find(name);

	if (!vm)
		log_printf("%s: no such VM%s\n", name,
			   config_find(name) ? " yet; vm start creates it" : "; try vm list");
	return vm;
}

/* argv[3], if given, is a vCPU's number; NULL after saying that it is wrong. */
static struct vcpu *need_vcpu(struct vm *vm, int argc, char **argv)
{
	u64 n = 0;

	if (argc > 3 && (!shell_number(argv[3], &n) || n >= vm->vcpus)) {
		log_printf("%s: no such vCPU; vm %s has 0 to %u\n", argv[3], vm->name,
			   vm->vcpus - 1);
		return NULL;
	}
	return vm->vcpu[n];
}

/* ---- list ---- */

static void list_line(const char *name, const char *state, const struct vm_config *c,
		      const char *why)
{
	log_printf("%-16s %-9s %4u %7luM  %-3s  %s\n", name, state, c->cpus,
		   (unsigned long)(c->memory >> 20), c->sev == SEV_ES ? "es" : "-", why);
}

static int vm_list(int argc, char **argv)
{
	(void)argv;
	if (argc > 2)
		return -EINVAL;
	log_printf("NAME             STATE     CPUS   MEMORY  SEV\n");
	for (u32 i = 0; i < VM_MAX; i++) {
		struct vm *vm = vm_get(i);

		if (vm)
			list_line(vm->name, vm_state_name(vm->state), vm->config, vm->why);
	}
	for (u32 i = 0; i < config.vms; i++) {
		const struct vm_config *c = &config.vm[i];

		if (!vm_find(c->name))
			list_line(c->name, c->valid ? "defined" : "invalid", c,
				  c->valid ? "" : "see log dmesg");
	}
	return 0;
}

/* ---- life ---- */

static int vm_start_command(int argc, char **argv)
{
	const struct vm_config *c;
	struct vm *vm;
	int error = 0;

	if (argc != 3)
		return -EINVAL;
	vm = vm_find(argv[2]);
	c = config_find(argv[2]);
	if (!vm && !c) {
		log_printf("%s: no such VM; try vm list\n", argv[2]);
		return -ENOENT;
	}
	if (!vm && !c->valid) {
		log_printf("%s: its section in line %u of the configuration has an error; see log "
			   "dmesg\n",
			   argv[2], c->line);
		return -EACCES;
	}
	if (!vm)
		error = vm_create(c, &vm);
	if (!error)
		error = vm_start(vm);
	if (error)
		log_printf("%s: not started, error %d; see log dmesg\n", argv[2], -error);
	return error == -EINVAL ? -EPROTO : error;
}

/* What to do with one VM; the result is 0 or a negative errno. */
static int change(int argc, char **argv, int (*fn)(struct vm *vm))
{
	struct vm *vm;
	int error;

	if (argc != 3)
		return -EINVAL;
	vm = need_vm(argv[2]);
	if (!vm)
		return -ENOENT;
	error = fn(vm);
	if (error)
		log_printf("%s: %s failed with error %d; see log dmesg\n", argv[2], argv[1],
			   -error);
	return error == -EINVAL ? -EPROTO : error;
}

static int vm_stop_command(int argc, char **argv)
{
	return change(argc, argv, vm_stop);
}

static int vm_reset_command(int argc, char **argv)
{
	return change(argc, argv, vm_reset);
}

static int destroy(struct vm *vm)
{
	vm_destroy(vm);
	return 0;
}

static int vm_destroy_command(int argc, char **argv)
{
	return change(argc, argv, destroy);
}

static int press_button(struct vm *vm)
{
	u64 flags = irq_save();

	vacpi_pm_power_button(&vm->platform.pm);
	irq_restore(flags);
	return 0;
}

static int vm_button_command(int argc, char **argv)
{
	return change(argc, argv, press_button);
}

static int vm_console_command(int argc, char **argv)
{
	struct vm *vm;
	u64 port = 1;

	if (argc < 3 || argc > 4 ||
	    (argc == 4 && (!shell_number(argv[3], &port) || port < 1 || port > 2)))
		return -EINVAL;
	vm = need_vm(argv[2]);
	if (!vm)
		return -ENOENT;
	console_attach(vm, (u32)port - 1);
	return 0;
}

static int vm_nmi_command(int argc, char **argv)
{
	struct vcpu *v;
	struct vm *vm;

	if (argc < 3 || argc > 4)
		return -EINVAL;
	vm = need_vm(argv[2]);
	v = vm ? need_vcpu(vm, argc, argv) : NULL;
	if (!v)
		return -ENOENT;
	if (vm->state != VM_RUNNING) {
		log_printf("%s: is %s\n", vm->name, vm_state_name(vm->state));
		return -EAGAIN;
	}
	return vm_send_nmi(vm, v->id);
}

/* ---- stats ---- */

static u64 total(const u64 count[VEXIT_KINDS])
{
	u64 sum = 0;

	for (u32 k = 0; k < VEXIT_KINDS; k++)
		sum += count[k];
	return sum;
}

static void stats_kinds(const u64 exits[VEXIT_KINDS], const u64 cycles[VEXIT_KINDS])
{
	for (u32 k = 0; k < VEXIT_KINDS; k++) {
		if (!exits[k])
			continue;
		if (cycles[k])
			log_printf("    %-12s %12lu  %8lu cycles each\n", vexit_name(k),
				   (unsigned long)exits[k], (unsigned long)(cycles[k] / exits[k]));
		else
			log_printf("    %-12s %12lu\n", vexit_name(k), (unsigned long)exits[k]);
	}
}

static void stats_vcpu(const struct vcpu *v)
{
	const struct vcpu_switches *s = &v->switches;

	log_printf("  vCPU %u: %s, on CPU %u, ran %lu ms, %lu exits\n", v->id,
		   vcpu_state_name(v), v->cpu,
		   (unsigned long)(tsc_to_ns(v->run_tsc) / 1000000),
		   (unsigned long)total(v->exits));
	log_printf("  vCPU %u: entered %lu times, loaded %lu, XSETBV %lu, TSC_AUX %lu, IBPB %lu\n",
		   v->id, (unsigned long)s->entries, (unsigned long)s->loads,
		   (unsigned long)s->xcr0, (unsigned long)s->tsc_aux, (unsigned long)s->barriers);
}

/* All vCPUs' exits added up. */
static void stats_vm(const struct vm *vm)
{
	u64 exits[VEXIT_KINDS] = { 0 };
	u64 cycles[VEXIT_KINDS] = { 0 };

	log_printf("%s: %s, %u resets\n", vm->name, vm_state_name(vm->state), vm->resets);
	for (u32 i = 0; i < vm->vcpus; i++) {
		const struct vcpu *v = vm->vcpu[i];

		stats_vcpu(v);
		for (u32 k = 0; k < VEXIT_KINDS; k++) {
			exits[k] += v->exits[k];
			cycles[k] += v->cycles[k];
		}
	}
	stats_kinds(exits, cycles);
	ghcb_stats(vm, 0, vm->vcpus);
}

static void stats_vm_each(const struct vm *vm)
{
	log_printf("%s: %s, %u resets\n", vm->name, vm_state_name(vm->state), vm->resets);
	for (u32 i = 0; i < vm->vcpus; i++) {
		stats_vcpu(vm->vcpu[i]);
		stats_kinds(vm->vcpu[i]->exits, vm->vcpu[i]->cycles);
		ghcb_stats(vm, i, i + 1);
	}
}

static int vm_stats_command(int argc, char **argv)
{
	struct vm *vm;

	if (argc > 3)
		return -EINVAL;
	if (argc == 3) {
		vm = need_vm(argv[2]);
		if (vm)
			stats_vm_each(vm);
		return vm ? 0 : -ENOENT;
	}
	for (u32 i = 0; i < VM_MAX; i++) {
		vm = vm_get(i);
		if (vm)
			stats_vm(vm);
	}
	return 0;
}

/* On the vCPU's own CPU, which alone writes the counters. */
static void counters_clear(void *arg)
{
	struct vcpu *v = arg;

	memset(v->exits, 0, sizeof(v->exits));
	memset(v->cycles, 0, sizeof(v->cycles));
	memset(&v->switches, 0, sizeof(v->switches));
}

/* Counts start again, so that cycles and exits are of the same time. */
static void timing_on(void)
{
	__atomic_or_fetch(&trace_flags, TRACE_TIMING, __ATOMIC_RELEASE);
	for (u32 i = 0; i < VM_MAX; i++) {
		struct vm *vm = vm_get(i);

		for (u32 j = 0; vm && j < vm->vcpus; j++)
			smp_call(vm->vcpu[j]->cpu, counters_clear, vm->vcpu[j]);
	}
}

static int vm_timing_command(int argc, char **argv)
{
	if (argc != 3)
		return -EINVAL;
	if (!strcmp(argv[2], "on"))
		timing_on();
	else if (!strcmp(argv[2], "off"))
		__atomic_and_fetch(&trace_flags, ~TRACE_TIMING, __ATOMIC_RELEASE);
	else
		return -EINVAL;
	return 0;
}

/* ---- regs, peek ---- */

struct regs_request {
	struct vcpu *v;
	int error;
	u64 gpr[GPR_COUNT];
	u64 reg[VREG_COUNT];
	struct vsegment seg[VSEG_COUNT];
};

/* On the vCPU's own CPU, whose interrupt has taken it out of guest mode. */
static void regs_collect(void *arg)
{
	struct regs_request *r = arg;

	memcpy(r->gpr, r->v->gpr, sizeof(r->gpr));
	for (u32 i = 0; i < VREG_COUNT && !r->error; i++)
		r->error = virt->get_reg(r->v, i, &r->reg[i]);
	for (u32 i = 0; i < VSEG_COUNT && !r->error; i++)
		r->error = virt->get_seg(r->v, i, &r->seg[i]);
	r->gpr[GPR_RSP] = r->reg[VREG_RSP];
}

static void regs_print(const struct regs_request *r)
{
	static const char *const gpr[GPR_COUNT] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp",
						    "rsi", "rdi", "r8 ", "r9 ", "r10", "r11",
						    "r12", "r13", "r14", "r15" };
	static const char *const seg[VSEG_COUNT] = { "es", "cs", "ss", "ds", "fs",
						     "gs", "ldtr", "tr", "gdtr", "idtr" };

	log_printf("rip %016lx  rflags %08lx  cpl %lu\n", (unsigned long)r->reg[VREG_RIP],
		   (unsigned long)r->reg[VREG_RFLAGS], (unsigned long)r->reg[VREG_CPL]);
	for (u32 i = 0; i < GPR_COUNT; i++)
		log_printf("%s %016lx%s", gpr[i], (unsigned long)r->gpr[i],
			   i % 4 == 3 ? "\n" : "  ");
	log_printf("cr0 %08lx  cr2 %016lx  cr3 %016lx  cr4 %08lx  efer %04lx\n",
		   (unsigned long)r->reg[VREG_CR0], (unsigned long)r->reg[VREG_CR2],
		   (unsigned long)r->reg[VREG_CR3], (unsigned long)r->reg[VREG_CR4],
		   (unsigned long)r->reg[VREG_EFER]);
	for (u32 i = 0; i < VSEG_COUNT; i++)
		log_printf("%-4s %04x  base %016lx  limit %08x  attr %03x\n", seg[i],
			   r->seg[i].selector, (unsigned long)r->seg[i].base, r->seg[i].limit,
			   r->seg[i].attr);
}

static int vm_regs_command(int argc, char **argv)
{
	static struct regs_request r; /* read by another CPU: not on the stack */
	struct vm *vm;

	if (argc < 3 || argc > 4)
		return -EINVAL;
	vm = need_vm(argv[2]);
	r = (struct regs_request){ .v = vm ? need_vcpu(vm, argc, argv) : NULL };
	if (!r.v)
		return -ENOENT;
	if (smp_call(r.v->cpu, regs_collect, &r))
		return -ENODEV;
	if (r.error == -EACCES)
		es_print_regs(r.v);
	else if (r.error)
		log_printf("%s: error %d\n", vm->name, -r.error);
	else
		regs_print(&r);
	return r.error == -EINVAL ? -EIO : r.error;
}

#define PEEK_MAX 4096UL

static void peek_line(gpa_t gpa, const u8 *data, size_t len)
{
	log_printf("%012lx ", (unsigned long)gpa);
	for (size_t i = 0; i < 16; i++) {
		if (i < len)
			log_printf(" %02x", data[i]);
		else
			log_printf("   ");
	}
	log_printf("  ");
	for (size_t i = 0; i < len; i++)
		log_printf("%c", data[i] >= ' ' && data[i] <= '~' ? data[i] : '.');
	log_printf("\n");
}

static int vm_peek_command(int argc, char **argv)
{
	u64 gpa, len = 64;
	struct vm *vm;
	u8 data[16];

	if (argc < 4 || argc > 5 || !shell_number(argv[3], &gpa) ||
	    (argc == 5 && (!shell_number(argv[4], &len) || len > PEEK_MAX)))
		return -EINVAL;
	vm = need_vm(argv[2]);
	if (!vm)
		return -ENOENT;
	if (vm->es) {
		log_printf("%s: protected\n", vm->name);
		return -EACCES;
	}
	for (u64 done = 0; done < len; done += sizeof(data)) {
		size_t n = MIN(len - done, sizeof(data));

		if (gpa + done < gpa || vm_memory_read(vm_host(vm), gpa + done, data, n)) {
			log_printf("%012lx: not RAM\n", (unsigned long)(gpa + done));
			return -EFAULT;
		}
		peek_line(gpa + done, data, n);
	}
	return 0;
}

/* ---- dispatch ---- */

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} subcommands[] = {
	{ "list", vm_list },
	{ "start", vm_start_command },
	{ "stop", vm_stop_command },
	{ "reset", vm_reset_command },
	{ "destroy", vm_destroy_command },
	{ "button", vm_button_command },
	{ "console", vm_console_command },
	{ "stats", vm_stats_command },
	{ "timing", vm_timing_command },
	{ "nmi", vm_nmi_command },
	{ "regs", vm_regs_command },
	{ "peek", vm_peek_command },
	{ "secret", es_secret_command },
};

static int vm_command(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "list";

	for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++)
		if (!strcmp(name, subcommands[i].name))
			return subcommands[i].run(argc, argv);
	return -EINVAL;
}
SHELL_COMMAND(vm, vm_command,
	      "list | start|stop|reset|destroy|button NAME | console NAME [1|2]\n"
	      "                  stats [NAME] | timing on|off | nmi NAME [VCPU]\n"
	      "                  regs NAME [VCPU] | peek NAME ADDRESS [LENGTH]\n"
	      "                  secret NAME HEADER [PAYLOAD] | + PAYLOAD | none",
	      "virtual machines");
