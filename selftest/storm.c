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
#include "drivers/ioapic.h"

/*
 * Counts what arrives. In each round a device (counter 0 of the 8254), two IPIs and an
 * NMI are sent to a CPU at once, while it runs a guest or not; each must be handled
 * once, on a stack that does not grow. In every NESTED-th round the handler of the NMI
 * sends another one, which must come once, after it. CPU 0, which sends, takes its own
 * with interrupts off in every second round: only the NMI may come before they are on.
 */
#define STORM_MAX 10000000U
#define SETTLE 100U
#define NESTED 15U /* odd: with interrupts off and on */
#define PAUSE_US 10U  /* for the CPU to get back to what it was doing: to its guest */
#define STACK_SLACK 2048U /* interrupts may come in deeper calls than the first SETTLE did */

#define PIT_COUNTER0 0x40
#define PIT_CONTROL 0x43
#define PIT_ONE_SHOT 0x10 /* counter 0, low byte only, mode 0: one rising edge */

enum source { DEVICE, IPI, IPI2, NMI, SOURCES };

struct storm {
	u32 count[SOURCES];
	u32 depth, deepest;  /* of NMI handlers */
	u32 nmis_off;        /* NMIs that came in the host with interrupts off */
	bool device;         /* there is one */
	bool again;          /* the next NMI's handler sends another one */
	u64 low, low_first;  /* lowest frame of all interrupts, and of the first SETTLE */
};
static struct storm storms[CPU_MAX];
static int vectors[NMI]; /* of what is no NMI */

static void on_irq(struct trap_frame *f)
{
	struct storm *s = &storms[cpu_number()];

	s->low = MIN(s->low, (u64)f);
	if (s->count[IPI] < SETTLE)
		s->low_first = s->low;
	for (u32 i = 0; i < NMI; i++)
		if (f->vector == (u64)vectors[i])
			__atomic_add_fetch(&s->count[i], 1, __ATOMIC_RELEASE);
}

static bool on_nmi(struct trap_frame *f)
{
	struct storm *s = &storms[cpu_number()];
	bool again = s->again;

	s->depth++;
	s->deepest = MAX(s->deepest, s->depth);
	s->again = false;
	/* What ended guest mode is handled on the stack of the exit, if by an exit at all. */
	if ((f->rflags & RFLAGS_IF) == 0 && (u64)f >= IST_BASE(IST_NMI) && (u64)f < IST_TOP(IST_NMI))
		s->nmis_off++;
	if (again) {
		ipi_send_nmi(cpu_number());
		for (u32 i = 0; i < 1000; i++)
			cpu_relax();
	}
	s->depth--;
	__atomic_add_fetch(&s->count[NMI], 1, __ATOMIC_RELEASE);
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

static void send_all(u32 cpu, u32 round)
{
	/* The device's comes at a different moment each time: 1 to 32 ticks of 0.8 us. */
	if (storms[cpu].device) {
		outb(PIT_CONTROL, PIT_ONE_SHOT);
		outb(PIT_COUNTER0, (u8)(1 + round % 32));
	}
	/* What comes first meets the guest, what follows the handling of that. */
	if (round % 4 < 2)
		ipi_send_nmi(cpu);
	ipi_send(cpu, (u8)vectors[IPI]);
	if (round % 4 >= 2)
		ipi_send_nmi(cpu);
	ipi_send(cpu, (u8)vectors[IPI2]);
}

/* want: NMIs up to now. */
static bool one_round(u32 cpu, u32 round, u32 want)
{
	struct storm *s = &storms[cpu];
	bool off = cpu == cpu_number() && round % 2 != 0, all = true;
	u64 flags = irq_save();

	if (!off)
		irq_restore(flags);
	send_all(cpu, round);
	if (off) {
		all = reaches(&s->count[NMI], want) && s->count[IPI] == round - 1 &&
		      s->count[IPI2] == round - 1;
		irq_restore(flags);
	}
	for (u32 i = s->device ? DEVICE : IPI; i < NMI; i++)
		all = all && reaches(&s->count[i], round);
	all = all && reaches(&s->count[NMI], want);
	delay_us(PAUSE_US);
	return all;
}

static bool storm_cpu(u32 cpu, u32 n)
{
	struct storm *s = &storms[cpu];
	u32 nmis = n + n / NESTED;
	bool good = true, steady;

	memset(s, 0, sizeof(*s));
	s->low = s->low_first = ~0UL;
	s->device = ioapic_route_isa(0, (u8)vectors[DEVICE], cpu) == 0;
	for (u32 i = 1; i <= n && good; i++) {
		s->again = i % NESTED == 0;
		good = one_round(cpu, i, i + i / NESTED);
	}
	/* A second delivery would come now. */
	delay_us(1000);
	steady = s->low_first - s->low < STACK_SLACK;
	good = good && s->count[DEVICE] == (s->device ? n : 0) && s->count[IPI] == n && s->count[IPI2] == n &&
	       s->count[NMI] == nmis && s->deepest == 1 && steady;
	log_printf("storm: cpu %u: %u of %u device interrupts, %u of %u IPIs, %u of %u NMIs (%u with "
		   "interrupts off), nested %u deep, stack %s: %s\n",
		   cpu, s->count[DEVICE], s->device ? n : 0, s->count[IPI] + s->count[IPI2], 2 * n,
		   s->count[NMI], nmis, s->nmis_off, s->deepest, steady ? "constant" : "grew",
		   good ? "good" : "FAILED");
	return good;
}

/* Vectors are given once and kept. */
static int take_vectors(irq_handler_t fn)
{
	for (u32 i = 0; i < NMI; i++) {
		if (vectors[i] <= 0)
			vectors[i] = irq_alloc_vector();
		if (vectors[i] < 0 || irq_register((u8)vectors[i], fn) < 0)
			return -ENOSPC;
	}
	return 0;
}

static int storm_command(int argc, char **argv)
{
	u64 n;
	bool good = true;

	if (argc != 2 || !shell_number(argv[1], &n) || n < 1 || n > STORM_MAX)
		return -EINVAL;
	if (take_vectors(on_irq) < 0) {
		log_printf("storm: no free interrupt vectors\n");
		return -ENOSPC;
	}
	nmi_hook(on_nmi);
	for (u32 cpu = 0; cpu < cpu_count && good; cpu++)
		good = storm_cpu(cpu, (u32)n);
	nmi_hook(NULL);
	(void)take_vectors(NULL);
	return good ? 0 : -EIO;
}

SHELL_COMMAND(storm, storm_command, "COUNT", "sends interrupts and NMIs to every CPU and counts them");
