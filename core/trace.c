/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/trace.h"

#include "arch/x86/cpu.h"
#include "arch/x86/percpu.h"
#include "core/errno.h"
#include "core/exit.h"
#include "core/heap.h"
#include "core/string.h"

#define RECORDS 2048U /* a CPU; power of two */

struct trace_ring {
	u64 next; /* records ever written; atomic: an interrupt may write between two of ours */
	struct trace_record record[RECORDS];
};

u32 trace_flags;

static struct trace_ring *rings[CPU_MAX];

void trace_record(const struct trace_record *r)
{
	struct trace_ring *ring = rings[cpu_number()];
	struct trace_record *to;

	if (!ring)
		return; /* a CPU that came up after the start */
	to = &ring->record[__atomic_fetch_add(&ring->next, 1, __ATOMIC_RELAXED) % RECORDS];
	*to = *r;
	to->tsc = rdtsc();
}

void trace_write(u32 vm, u32 vcpu, u32 kind, u64 a, u64 b)
{
	trace_record(&(struct trace_record){ .vm = (u8)vm, .vcpu = (u8)vcpu, .kind = (u8)kind,
					     .a = a, .b = b });
}

int trace_start(void)
{
	trace_stop();
	for (u32 i = 0; i < cpu_count; i++) {
		if (!rings[i])
			rings[i] = heap_alloc(sizeof(struct trace_ring));
		if (!rings[i])
			return -ENOMEM;
		memset(rings[i], 0, sizeof(*rings[i]));
	}
	__atomic_or_fetch(&trace_flags, TRACE_EVENTS, __ATOMIC_RELEASE);
	return 0;
}

void trace_stop(void)
{
	__atomic_and_fetch(&trace_flags, ~TRACE_EVENTS, __ATOMIC_RELEASE);
}

/* A reader's place in each ring: how many of its records are before the place. */
static u64 cursor[CPU_MAX];

static const struct trace_record *ring_at(u32 cpu, u64 index)
{
	return &rings[cpu]->record[index % RECORDS];
}

static u64 ring_first(u32 cpu)
{
	return rings[cpu]->next > RECORDS ? rings[cpu]->next - RECORDS : 0;
}

static bool wanted(const struct trace_record *r, u32 vm)
{
	return r->tsc && (vm == TRACE_VM_ALL || r->vm == vm);
}

/* Moves one step back in time; false at the beginning of all rings. */
static bool step_back(const struct trace_record **r)
{
	u32 newest = CPU_MAX;

	for (u32 i = 0; i < cpu_count; i++) {
		if (!rings[i] || cursor[i] == ring_first(i))
			continue;
		if (newest == CPU_MAX ||
		    ring_at(i, cursor[i] - 1)->tsc > ring_at(newest, cursor[newest] - 1)->tsc)
			newest = i;
	}
	if (newest == CPU_MAX)
		return false;
	*r = ring_at(newest, --cursor[newest]);
	return true;
}

static bool step_forward(const struct trace_record **r, u32 *cpu)
{
	u32 oldest = CPU_MAX;

	for (u32 i = 0; i < cpu_count; i++) {
		if (!rings[i] || cursor[i] == rings[i]->next)
			continue;
		if (oldest == CPU_MAX ||
		    ring_at(i, cursor[i])->tsc < ring_at(oldest, cursor[oldest])->tsc)
			oldest = i;
	}
	if (oldest == CPU_MAX)
		return false;
	*cpu = oldest;
	*r = ring_at(oldest, cursor[oldest]++);
	return true;
}

u32 trace_show(u32 vm, u32 count, void (*show)(u32 cpu, const struct trace_record *r))
{
	const struct trace_record *r;
	u32 shown = 0;
	u32 found = 0;
	u32 cpu;

	for (u32 i = 0; i < cpu_count; i++)
		cursor[i] = rings[i] ? rings[i]->next : 0;
	while (found < count && step_back(&r))
		found += wanted(r, vm);
	while (shown < found && step_forward(&r, &cpu)) {
		if (!wanted(r, vm))
			continue;
		show(cpu, r);
		shown++;
	}
	return shown;
}

const char *trace_kind_name(u32 kind)
{
	static const char *const name[TRACE_KINDS] = {
		[TRACE_EXIT] = "exit", [TRACE_ENTER] = "enter", [TRACE_INJECT] = "inject",
		[TRACE_IRQ] = "irq",   [TRACE_SCHED] = "sched", [TRACE_VM] = "vm",
		[TRACE_ES_TRAP] = "trap",
		[TRACE_VMGEXIT] = "vmgexit", [TRACE_GHCB_MSR] = "ghcb-msr",
	};

	return kind < TRACE_KINDS ? name[kind] : "?";
}

const char *vexit_name(u32 kind)
{
	static const char *const name[VEXIT_KINDS] = {
		[VEXIT_CPUID] = "cpuid",
		[VEXIT_HYPERCALL] = "hypercall",
		[VEXIT_RDMSR] = "rdmsr",
		[VEXIT_WRMSR] = "wrmsr",
		[VEXIT_IO] = "io",
		[VEXIT_MMIO] = "mmio",
		[VEXIT_HLT] = "hlt",
		[VEXIT_PAUSE] = "pause",
		[VEXIT_XSETBV] = "xsetbv",
		[VEXIT_WBINVD] = "wbinvd",
		[VEXIT_RDPMC] = "rdpmc",
		[VEXIT_UD] = "ud",
		[VEXIT_GP] = "gp",
		[VEXIT_EXCEPTION] = "exception",
		[VEXIT_INTERRUPT] = "interrupt",
		[VEXIT_NMI] = "nmi",
		[VEXIT_MCE] = "mce",
		[VEXIT_WINDOW] = "window",
		[VEXIT_SHUTDOWN] = "shutdown",
		[VEXIT_TASK_SWITCH] = "task-switch",
		[VEXIT_NOTHING] = "backend",
		[VEXIT_FATAL] = "fatal",
	};

	return kind < VEXIT_KINDS && name[kind] ? name[kind] : "?";
}
