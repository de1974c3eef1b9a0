/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/lapic.h"
#include "arch/x86/percpu.h"
#include "arch/x86/traps.h"
#include "arch/x86/tsc.h"
#include "core/config.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/shell.h"
#include "core/string.h"

/*
 * Counts what arrives: interrupts and NMIs sent to each CPU one by one, while it
 * runs a guest or not, must each be handled once, on a stack that does not grow.
 * An NMI sent by an NMI handler must come once, after it. CPU 0, which sends, takes
 * its own NMIs with interrupts off.
 */
#define STORM_MAX 10000000U
#define SETTLE 100U
#define PAUSE_US 10U  /* for the CPU to get back to what it was doing: to its guest */
#define STACK_SLACK 2048U /* interrupts may come in deeper calls than the first SETTLE did */

struct storm {
	u32 irqs, nmis;
	u32 depth, deepest;  /* of NMI handlers */
	bool again;          /* the next NMI's handler sends another one */
	u64 low, low_first;  /* lowest frame of all, and of the first SETTLE */
};
static struct storm storms[CPU_MAX];
static int vector;

static void on_irq(struct trap_frame *f)
{
	struct storm *s = &storms[cpu_number()];

	s->low = MIN(s->low, (u64)f);
	if (s->irqs < SETTLE)
		s->low_first = s->low;
	__atomic_add_fetch(&s->irqs, 1, __ATOMIC_RELEASE);
}

static bool on_nmi(struct trap_frame *f)
{
	struct storm *s = &storms[cpu_number()];
	bool again = s->again;

	(void)f;
	s->depth++;
	s->deepest = MAX(s->deepest, s->depth);
	s->again = false;
	if (again) {
		ipi_send_nmi(cpu_number());
		for (u32 i = 0; i < 1000; i++)
			cpu_relax();
	}
	s->depth--;
	__atomic_add_fetch(&s->nmis, 1, __ATOMIC_RELEASE);
	return true;
}

/* Waits at most a second. */
static bool reaches(const u32 *count, u32 want)
{
	u64 end = rdtsc() + tsc_khz * 1000UL;

	while (__atomic_load_n(count, __ATOMIC_ACQUIRE) < want) {
		if (rdtsc() > end)
			return false;
		cpu_relax();
	}
	return true;
}

static bool send_irqs(u32 cpu, u32 n)
{
	for (u32 i = 1; i <= n; i++) {
		ipi_send(cpu, (u8)vector);
		if (!reaches(&storms[cpu].irqs, i))
			return false;
		delay_us(PAUSE_US);
	}
	return true;
}

static bool send_nmis(u32 cpu, u32 n)
{
	u64 flags = irq_save(); /* only CPU 0's own NMIs care */
	bool all = true;

	for (u32 i = 1; i <= n && all; i++) {
		storms[cpu].again = i == n;
		ipi_send_nmi(cpu);
		all = reaches(&storms[cpu].nmis, i == n ? n + 1 : i);
		delay_us(PAUSE_US);
	}
	irq_restore(flags);
	return all;
}

static bool storm_cpu(u32 cpu, u32 n)
{
	struct storm *s = &storms[cpu];
	bool good, steady;

	memset(s, 0, sizeof(*s));
	s->low = s->low_first = ~0UL;
	good = send_irqs(cpu, n) && send_nmis(cpu, n);
	/* A second delivery would come now. */
	delay_us(1000);
	steady = s->low_first - s->low < STACK_SLACK;
	good = good && s->irqs == n && s->nmis == n + 1 && s->deepest == 1 && steady;
	log_printf("storm: cpu %u: %u interrupts, %u NMIs of %u and %u, nested %u deep, stack %s: %s\n",
		   cpu, s->irqs, s->nmis, n, n + 1, s->deepest,
		   steady ? "constant" : "grew", good ? "good" : "FAILED");
	return good;
}

static int storm_command(int argc, char **argv)
{
	u64 n;
	bool good = true;

	if (argc != 2 || !shell_number(argv[1], &n) || n < 1 || n > STORM_MAX)
		return -EINVAL;
	if (vector <= 0)
		vector = irq_alloc_vector();
	if (vector < 0 || irq_register((u8)vector, on_irq) < 0) {
		log_printf("storm: no free interrupt vector\n");
		return -ENOSPC;
	}
	nmi_hook(on_nmi);
	for (u32 cpu = 0; cpu < cpu_count && good; cpu++)
		good = storm_cpu(cpu, (u32)n);
	nmi_hook(NULL);
	(void)irq_register((u8)vector, NULL);
	return good ? 0 : -EIO;
}

SHELL_COMMAND(storm, storm_command, "COUNT", "sends interrupts and NMIs to every CPU and counts them");
