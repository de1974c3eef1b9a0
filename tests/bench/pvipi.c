/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What KVM_HC_SEND_IPI costs its caller, in ticks of the TSC: instructions in an
 * emulator that counts them. Targets are found as the options say:
 *   state=waiting   they want to run, and wait for their CPU
 *   state=halted    they are in HLT
 *   state=running   they run, which needs a CPU for each
 *   state=requested as waiting, and the vector is already requested
 * cpus=N: vCPUs, the sender included. x2apic=1: all of them in that mode.
 * Prints "pvipi STATE TARGETS TICKS" for 0, 1, 2, 4, ... targets
 * and for all; the least of several calls counts, after the cost of reading the TSC.
 */
#include "rt.h"

int main(void);

#define VECTOR 0x60
#define ROUNDS 6
#define HC_SEND_IPI 10
#define HC_YIELD 11

static volatile u64 taken;
static volatile u32 there;
static bool halted, running, requested, x2apic;

static u64 hypercall(u64 nr, u64 a0, u64 a1, u64 a2, u64 a3)
{
	__asm__ volatile("vmmcall" : "+a"(nr) : "b"(a0), "c"(a1), "d"(a2), "S"(a3) : "memory");
	return nr;
}

static void on_ipi(struct frame *f)
{
	(void)f;
	if (x2apic)
		wrmsr(0x80B, 0); /* EOI */
	else
		apic_eoi();
	__atomic_add_fetch(&taken, 1, __ATOMIC_SEQ_CST);
}

static void choose_mode(void)
{
	if (x2apic)
		wrmsr(0x1B, rdmsr(0x1B) | 0xC00);
}

static void target(u32 cpu)
{
	(void)cpu;
	choose_mode();
	__atomic_add_fetch(&there, 1, __ATOMIC_SEQ_CST);
	if (requested)
		for (;;)
			hypercall(HC_YIELD, 0, 0, 0, 0);
	sti();
	for (;;) {
		if (halted)
			__asm__ volatile("hlt" ::: "memory");
		else if (!running)
			hypercall(HC_YIELD, 0, 0, 0, 0);
	}
}

/* All targets get the CPU, and come to where they are to be found. */
static void settle(u32 targets)
{
	for (u32 round = 0; round < 4; round++)
		for (u32 i = 1; i <= targets; i++)
			hypercall(HC_YIELD, i, 0, 0, 0);
	delay_us(halted ? 300 : 20);
}

static u64 timed_call(u32 targets)
{
	u64 set = ((1ul << targets) - 1) << 1; /* not the sender */
	u64 start = rdtsc();
	u64 got = hypercall(HC_SEND_IPI, set, 0, 0, VECTOR);
	u64 ticks = rdtsc() - start;

	if (got != targets)
		check("targets that accept it", got, targets);
	return ticks;
}

static u64 timed_nothing(void)
{
	u64 start = rdtsc();

	__asm__ volatile("" : : "b"(start), "c"(0ul), "d"(0ul), "S"(0ul) : "memory");
	return rdtsc() - start;
}

static u64 measure(u32 targets)
{
	u64 least = ~0ul;

	for (u32 i = 0; i < ROUNDS; i++) {
		u64 want = taken + (requested ? 0 : targets), ticks;

		settle(targets);
		ticks = timed_call(targets);
		least = ticks < least ? ticks : least;
		while (taken != want)
			settle(targets);
	}
	return least - timed_nothing();
}

static void read_state(char state[16])
{
	state[0] = 0;
	option("state", state, 16);
	halted = strcmp(state, "halted") == 0;
	running = strcmp(state, "running") == 0;
	requested = strcmp(state, "requested") == 0;
}

int main(void)
{
	u32 cpus;
	char state[16];

	rt_init();
	read_state(state);
	cpus = (u32)option_number("cpus", 2);
	x2apic = option_number("x2apic", 0) != 0;
	irq_handler[VECTOR] = on_ipi;
	low_init();
	ap_work = target;
	check("CPUs", start_cpus(cpus), cpus);
	choose_mode();
	while (there != cpus - 1)
		settle(cpus - 1);
	for (u32 n = 1; n < cpus; n *= 2)
		print("pvipi %s %u %lu\n", state, n, measure(n));
	print("pvipi %s %u %lu\n", state, cpus - 1, measure(cpus - 1));
	print("pvipi %s 0 %lu\n", state, measure(0));
	print("pvipi done\n");
	guest_exit(checks_failed() != 0);
}
