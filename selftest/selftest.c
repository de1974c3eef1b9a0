/* SPDX-License-Identifier: BSD-2-Clause */
#include "selftest/selftest.h"
#include "arch/x86/cpu.h"
#include "arch/x86/lapic.h"
#include "arch/x86/msr.h"
#include "arch/x86/paging.h"
#include "arch/x86/percpu.h"
#include "arch/x86/smp.h"
#include "core/log.h"
#include "core/panic.h"
#include "core/pmm.h"
#include "core/string.h"

extern const char text_start[];

static void on_null(void)
{
	volatile uintptr_t address = 0x10;

	*(volatile u32 *)address = 1;
}

/* Executes data: a RET on the heap's side of the direct map. */
static void on_exec(void)
{
	u8 *p = phys_to_virt(alloc_pages(ORDER_4K, ALLOC_ZERO));

	*p = 0xc3;
	((void (*)(void))(uintptr_t)p)();
}

static void on_text(void)
{
	*(volatile u8 *)(uintptr_t)text_start = 0xcc;
}

/* A second, writable view of the code must not exist. */
static void on_wx(void)
{
	*(volatile u8 *)phys_to_virt(virt_to_phys(text_start)) = 0xcc;
}

/* The guard page below the stack; #PF cannot push there either, so this is a #DF. */
static void on_stack(void)
{
	__asm__ volatile("mov %0, %%rsp\n"
			 "pushq $0\n" : : "r"(STACK_BASE));
}

static void on_ud(void)
{
	__asm__ volatile("ud2");
}

static void on_smash(void)
{
	char buf[16];
	volatile size_t n = 40;

	for (size_t i = 0; i < n; i++)
		((volatile char *)buf)[i] = 'x';
}

static void on_assert(void)
{
	ASSERT(cpu_count == 0);
}

static void on_hidden(void)
{
	struct pt pt = { .fmt = &pt_format_host, .root = read_cr3() & PAGE_MASK & ~host_c_bit };
	struct pt_walk w;

	if (pt_lookup(&pt, PERCPU_BASE, &w) == 0)
		*(volatile u8 *)phys_to_virt(w.pa) = 1;
}

static void count_cpu(void *arg)
{
	__atomic_add_fetch((u32 *)arg, 1, __ATOMIC_RELAXED);
}

/* What must work and go on: faulting MSR accesses, calls to all CPUs, NMI to another CPU. */
static void on_safe(void)
{
	static u32 calls;
	u64 efer = rdmsr(MSR_EFER);
	/* Reserved bits: #GP, where the CPU is not an emulator that takes everything. */
	int err = wrmsr_safe(MSR_EFER, ~0UL);

	wrmsr(MSR_EFER, efer);
	log_info("selftest: reserved EFER bits: %s", err < 0 ? "refused" : "taken");
	for (u32 i = 0; i < 1000; i++)
		smp_call_all(count_cpu, &calls);
	log_info("selftest: %u calls on %u CPUs", calls, cpu_count);
	if (cpu_count > 1)
		ipi_send_nmi(1);
	else
		ipi_send_nmi(0);
}

void selftest(const char *cmdline)
{
	static const struct {
		const char *name;
		void (*fn)(void);
	} tests[] = {
		{ "null", on_null }, { "exec", on_exec }, { "text", on_text }, { "wx", on_wx },
		{ "stack", on_stack }, { "ud", on_ud }, { "smash", on_smash },
		{ "assert", on_assert }, { "hidden", on_hidden }, { "safe", on_safe },
	};
	static const char key[] = "selftest=";

	for (const char *p = cmdline; *p != '\0'; p++) {
		if (strncmp(p, key, sizeof(key) - 1) != 0)
			continue;
		p += sizeof(key) - 1;
		for (u32 i = 0; i < ARRAY_SIZE(tests); i++) {
			if (strcmp(p, tests[i].name) == 0) {
				log_info("selftest: %s", p);
				tests[i].fn();
			}
		}
	}
}
