/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Abuses the paravirtual interface: random hypercalls from all CPUs, random values in its MSRs from
 * the first one. Memory that gets registered is a buffer of its own, or none of its.
 * Command line: calls=N of all CPUs together (default 100000), seed=N, cpus=N (default 4).
 */
#include "rt.h"

int main(void);

#define CPUS 8
#define MEMORY 0x4000000ul /* 64 MiB */

static u64 seeds[CPUS];
static u8 buffer[65536] __attribute__((aligned(4096)));
static volatile u32 stop;
static bool intel;
static volatile u64 others[CPUS]; /* calls of each CPU but the first */

/* xorshift64*, Vigna 2016. */
static u64 next(u32 cpu)
{
	u64 *s = &seeds[cpu % CPUS];

	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545F4914F6CDD1Dul;
}

/* Never an address of our own but in the buffer: it will be written to. */
static u64 address(u32 cpu)
{
	u64 v = next(cpu), at;

	switch (v >> 61) {
	case 0: at = v | 1; break;
	case 1: at = MEMORY - (v & 0x7f); break;          /* RAM ends within */
	case 2: at = ~0ul - (v & 0x3f); break;            /* wraps around */
	case 3: at = (u64)buffer + (v & 0xf000) + 0xfc0 + (v >> 16 & 0x3f); break; /* page's end */
	case 4: at = 0xfee00000 + (v & 0xfff); break;
	case 5: at = 0xa0000 + (v & 0x1ffff); break;      /* a hole in RAM */
	default: at = (u64)buffer + (v & 0xff7f); break;
	}
	/* Within RAM, only the buffer. */
	if ((at < 0xa0000 || (at >= 0xc0000 && at < MEMORY)) &&
	    (at < (u64)buffer || at >= (u64)buffer + sizeof(buffer) - 128))
		at = (u64)buffer + (at & 0xff7f);
	return at;
}

static u64 argument(u32 cpu)
{
	u64 v = next(cpu);

	switch (v >> 62) {
	case 0: return v & 0xff;
	case 1: return v & 0x7ff;
	default: return v;
	}
}

static void one_call(u32 cpu)
{
	u64 nr = next(cpu), a = nr % 16, b = argument(cpu), c = argument(cpu), d = argument(cpu);
	u64 s = argument(cpu);

	if ((nr >> 60) == 0)
		a = nr;
	if (a == 10 && (s & 0x700) == 0x400 && (nr >> 32 & 63) != 0)
		s &= ~0x400ul; /* few NMIs: each one costs a trap */
	if (a == 10 && (s & 0xf0) == 0x10)
		s |= 0x20; /* legal for the APIC, but our handlers would take them for exceptions */
	if (intel)
		__asm__ volatile("vmcall" : "+a"(a) : "b"(b), "c"(c), "d"(d), "S"(s) : "memory");
	else
		__asm__ volatile("vmmcall" : "+a"(a) : "b"(b), "c"(c), "d"(d), "S"(s) : "memory");
}

static void one_msr(u32 cpu)
{
	static const u32 known[] = { 0x11, 0x12, 0x4b564d00, 0x4b564d01, 0x4b564d03, 0x4b564d04 };
	u64 v = next(cpu), value = address(cpu);
	u32 msr = (v & 7) < 6 ? known[v & 7] : 0x4b564d00 + (u32)(v >> 8 & 0xff), lo, hi;

	if ((v >> 32 & 7) != 0 && (msr & 0xf) != 0)
		value |= 1;
	TRY("wrmsr", : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : CLOBBERS);
	TRY("rdmsr", : "=a"(lo), "=d"(hi) : "c"(msr) : CLOBBERS);
}

static void on_nmi(struct frame *f)
{
	(void)f;
}

static void on_irq(struct frame *f)
{
	(void)f;
	apic_eoi();
}

static void other_cpu(u32 cpu)
{
	while (!stop) {
		one_call(cpu);
		others[cpu % CPUS]++;
	}
	for (;;)
		__asm__ volatile("cli\n\thlt");
}

int main(void)
{
	u64 calls, seed, done = 0;

	rt_init();
	intel = has_vmcall();
	calls = option_number("calls", 100000);
	seed = option_number("seed", 1);
	for (u32 i = 0; i < CPUS; i++)
		seeds[i] = seed * 0x9E3779B97F4A7C15ul + i + 1;
	irq_handler[NMI] = on_nmi;
	for (u32 v = 32; v < 256; v++)
		irq_handler[v] = on_irq;
	low_init();
	print("pvfuzz: %u CPUs\n", start_cpus((u32)option_number("cpus", 4)));
	ap_work = other_cpu;
	for (u64 i = 0; done < calls; i++) {
		if ((i & 3) == 0)
			one_msr(0);
		else
			one_call(0);
		done++;
		if ((i & 0xff) != 0)
			continue;
		done = i + 1;
		for (u32 c = 1; c < CPUS; c++)
			done += others[c];
		__asm__ volatile("sti\n\tnop\n\tnop\n\tcli" : : : "memory");
	}
	stop = 1;
	/* Nothing is left registered. */
	wrmsr(0x4b564d01, 0);
	wrmsr(0x4b564d03, 0);
	wrmsr(0x4b564d04, 0);
	print("pvfuzz: survived %u\n", (u32)calls);
	guest_exit(0);
}
