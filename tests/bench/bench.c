/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What each operation costs a guest, in ticks of its TSC. In an emulator that
 * counts instructions the TSC advances by one with each, the hypervisor's
 * included: the numbers are path lengths, the same on every host.
 *
 * Prints "bench NAME TICKS" for each; the least of three runs counts. The
 * cost of the loop itself is measured and taken off.
 *
 * With the option "busy" it only spins, interrupts on, for ever. With "short" it does three
 * operations, 100 times each.
 * With "reference" it does the operations of an independent measurement of KVM (reference.py).
 * With "ipi" only the interrupt to another CPU is measured; with "others=N" N CPUs more are
 * started first, which halt.
 *
 * With the option "trace" it waits for a byte on COM1, then does each operation
 * a few times only, with calls of mark_operation() and mark_turn() between them:
 * who logs single instructions finds by these which belong to what. The names come
 * at the end, after another byte, when nobody logs any more what printing takes.
 */
#include "rt.h"

int main(void);

#define RUNS 3
#define TURNS 1000u

#define IRQ_SELF 0x50
#define IRQ_TIMER 0x51
#define IRQ_OTHER 0x60

static volatile u32 taken;
static bool x2apic;

static void on_interrupt(struct frame *f)
{
	(void)f;
	taken++;
	if (x2apic)
		wrmsr(0x80b, 0);
	else
		apic_eoi();
}

/* --- operations: each is done once a turn ------------------------------------------------------ */

static void op_nothing(void) { __asm__ volatile("" ::: "memory"); }

static inline void do_cpuid(u32 leaf, u32 sub)
{
	u32 r[4];

	cpuid(leaf, sub, r);
}
static void op_cpuid0(void) { do_cpuid(0, 0); }
static void op_cpuid1(void) { do_cpuid(1, 0); }
static void op_cpuid7(void) { do_cpuid(7, 0); }
static void op_cpuid_d(void) { do_cpuid(0xd, 0); }
static void op_cpuid_hv(void) { do_cpuid(0x40000000, 0); }
static void op_cpuid_ext0(void) { do_cpuid(0x80000000, 0); }
static void op_cpuid_ext(void) { do_cpuid(0x80000008, 0); }

static void op_hypercall(void)
{
	u64 a = 0x7fffffff; /* no such call */

	__asm__ volatile("vmmcall" : "+a"(a) : : "memory", "rbx", "rcx", "rdx", "rsi");
}

static void op_rdmsr_apic_base(void) { rdmsr(MSR_APIC_BASE); }
static void op_rdmsr_efer(void) { rdmsr(MSR_EFER); }
static u64 efer;
static void op_wrmsr_efer(void) { wrmsr(MSR_EFER, efer); }
/* SCE: another value each time. */
static void op_wrmsr_efer_change(void) { wrmsr(MSR_EFER, efer ^= 1); }
static void op_rdmsr_mtrrcap(void) { rdmsr(0xfe); }
/* Each is later than the one before. */
static void op_wrmsr_deadline(void) { wrmsr(MSR_TSC_DEADLINE, rdtsc() + 1000000000ul); }
static void op_deadline_rearm(void)
{
	wrmsr(MSR_TSC_DEADLINE, 0);
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + 1000000000ul);
}

static void op_in_unclaimed(void) { inb(0xe0); }
static void op_out_unclaimed(void) { outb(0xe0, 0); }
static void op_in_pic(void) { inb(0x21); }
static void op_out_pic(void) { outb(0x21, 0xff); }
static void op_in_uart(void) { inb(COM2 + 7); }
static void op_out_uart(void) { outb(COM2 + 7, 0x55); }
static void op_in_pit(void) { inb(0x61); }

static void op_apic_id(void) { apic_read(APIC_ID); }
static void op_apic_eoi(void) { apic_eoi(); }
static void op_apic_tpr_read(void) { apic_read(APIC_TPR); }
static void op_apic_tpr_write(void) { apic_write(APIC_TPR, 0); }
static void op_apic_icr_read(void) { apic_read(APIC_ICR); }
static void op_ioapic_read(void) { mmio_read(IOAPIC_BASE + 0x10); }
static void op_mmio_hole(void) { mmio_read(0xd0000000u); }

static void op_x2apic_id(void) { rdmsr(0x802); }
static void op_x2apic_eoi(void) { wrmsr(0x80b, 0); }
static void op_x2apic_tpr(void) { wrmsr(0x808, 0); }

static void op_cr0_wp(void)
{
	u64 v = READ_CR(0);

	WRITE_CR(0, v ^ 1ul << 16);
	WRITE_CR(0, v);
}
static void op_cr4_pge(void)
{
	u64 v = READ_CR(4);

	WRITE_CR(4, v ^ 1ul << 7);
	WRITE_CR(4, v);
}
static void op_cr8(void) { WRITE_CR(8, 0); }
static void op_dr7(void) { WRITE_DR(7, 0x400); }
static void op_pause(void) { pause_cpu(); }
static void op_wbinvd(void) { __asm__ volatile("wbinvd" ::: "memory"); }

/*
 * At least that many: QEMU's VMRUN leaves the injected vector behind as a pending
 * exception, and delivers it once more when its main loop wants the CPU just then.
 */
static bool arrived(u32 count, u32 want)
{
	return (int32_t)(count - want) >= 0;
}

static void wait_for(u32 count)
{
	while (!arrived(taken, count))
		;
}

static void self_ipi(u8 vector)
{
	if (x2apic)
		wrmsr(0x83f, vector);
	else
		apic_write(APIC_ICR, 0x40000u | vector);
}

/* Interrupts on: the handler has run when the next instruction does. */
static void op_self_ipi(void)
{
	u32 want = taken + 1;

	self_ipi(IRQ_SELF);
	wait_for(want);
}

static void op_self_ipi_hlt(void)
{
	u32 want = taken + 1;

	cli();
	self_ipi(IRQ_SELF);
	while (!arrived(taken, want)) {
		__asm__ volatile("sti; hlt" ::: "memory");
		cli();
	}
	sti();
}

static void op_self_ipi_tpr(void)
{
	u32 want = taken + 1;

	WRITE_CR(8, 15);
	self_ipi(IRQ_SELF);
	WRITE_CR(8, 0);
	wait_for(want);
}

/* As the measurement that we compare with seems to have done it: ICR's two halves with interrupts
 * off, so that the vector is taken through an interrupt window. */
static u32 icr_self(void)
{
	cli();
	apic_write(APIC_ICR2, 0);
	apic_write(APIC_ICR, IRQ_SELF);
	return taken + 1;
}

static void op_icr_self(void)
{
	u32 want = icr_self();

	sti();
	wait_for(want);
}

static void op_icr_self_hlt(void)
{
	u32 want = icr_self();

	while (!arrived(taken, want)) {
		__asm__ volatile("sti; hlt" ::: "memory");
		cli();
	}
	sti();
}

/* The deadline is past: the interrupt comes at once. */
static void op_deadline_taken(void)
{
	u32 want = taken + 1;

	wrmsr(MSR_TSC_DEADLINE, 1);
	wait_for(want);
}

static volatile u32 other_taken;
static volatile bool other_stop;
static volatile bool other_halts; /* asked for */
static volatile bool other_idle;  /* about to execute HLT */

static void on_other(struct frame *f)
{
	(void)f;
	other_idle = false;
	apic_eoi();
	other_taken++;
}

static void other_cpu(u32 cpu)
{
	(void)cpu;
	apic_write(APIC_SVR, 0x1ff);
	sti();
	while (!other_stop) {
		if (!other_halts) {
			pause_cpu();
			continue;
		}
		cli();
		other_idle = true;
		__asm__ volatile("sti; hlt" ::: "memory");
	}
	cli();
}

static void op_ipi_other(void)
{
	u32 want = other_taken + 1;

	apic_write(APIC_ICR2, 1u << 24);
	apic_write(APIC_ICR, IRQ_OTHER);
	while (!arrived(other_taken, want))
		;
}

/* Ends when the other CPU is about to halt again. */
static void op_ipi_halted(void)
{
	op_ipi_other();
	while (!other_idle)
		;
}

static void halting_cpu(u32 cpu)
{
	(void)cpu;
	cli();
	for (;;)
		__asm__ volatile("hlt");
}

/* --- measuring --------------------------------------------------------------------------------- */

typedef void op_fn(void);

static u64 measure(op_fn *op, u32 turns)
{
	u64 least = ~0ul;

	for (u32 run = 0; run < RUNS; run++) {
		u64 start, ticks;

		op(); /* a first time is never typical */
		start = rdtsc();
		for (u32 i = 0; i < turns; i++)
			op();
		ticks = rdtsc() - start;
		least = ticks < least ? ticks : least;
	}
	return least;
}

static u64 overhead;

static char spin[32]; /* the operation to be repeated for ever, for a profile */

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

#define TRACE_NAMES 64u

static bool trace;
static u32 trace_turns_each = 8;
static const char *traced[TRACE_NAMES];
static u32 traced_count;

/* Not one function folded into the other: each needs an address of its own. */
void __attribute__((noinline, noipa)) mark_operation(void) { __asm__ volatile("nop"); }
void __attribute__((noinline, noipa)) mark_turn(void) { __asm__ volatile(""); }

static void trace_turns(const char *name, op_fn *op)
{
	op();
	mark_operation();
	for (u32 i = 0; i < trace_turns_each; i++) {
		mark_turn();
		op();
	}
	mark_turn();
	if (traced_count < TRACE_NAMES)
		traced[traced_count++] = name;
}

static void wait_for_byte(const char *why)
{
	print("bench %s\n", why);
	while ((inb(COM1 + 5) & 1) == 0)
		;
	inb(COM1);
}

static _Noreturn void done(void)
{
	if (trace)
		wait_for_byte("traced");
	for (u32 i = 0; i < traced_count; i++)
		print("bench %s 0\n", traced[i]);
	print("bench done\n");
	guest_exit(0);
}

static void bench_turns(const char *name, op_fn *op, u32 turns)
{
	u64 off = overhead * turns / TURNS;
	u64 ticks;

	if (trace) {
		trace_turns(name, op);
		return;
	}
	if (spin[0] != 0) {
		if (!same(name, spin))
			return;
		print("bench spin %s\n", name);
		for (;;)
			op();
	}
	ticks = measure(op, turns);
	ticks = ticks > off ? ticks - off : 0;
	print("bench %s %lu\n", name, (ticks + turns / 2) / turns);
}

struct entry {
	const char *name;
	op_fn *op;
};

static void bench_all(const struct entry *e, u32 n)
{
	for (u32 i = 0; i < n; i++)
		bench_turns(e[i].name, e[i].op, TURNS);
}
#define BENCH_ALL(table) bench_all(table, sizeof(table) / sizeof((table)[0]))

static const struct entry plain_operations[] = {
	{ "cpuid.0", op_cpuid0 },
	{ "cpuid.1", op_cpuid1 },
	{ "cpuid.7", op_cpuid7 },
	{ "cpuid.d", op_cpuid_d },
	{ "cpuid.40000000", op_cpuid_hv },
	{ "cpuid.80000008", op_cpuid_ext },
	{ "rdmsr.apic_base", op_rdmsr_apic_base },
	{ "rdmsr.efer", op_rdmsr_efer },
	{ "wrmsr.efer", op_wrmsr_efer },
	{ "wrmsr.efer.change", op_wrmsr_efer_change },
	{ "rdmsr.mtrrcap", op_rdmsr_mtrrcap },
	{ "in.unclaimed", op_in_unclaimed },
	{ "out.unclaimed", op_out_unclaimed },
	{ "in.pic", op_in_pic },
	{ "out.pic", op_out_pic },
	{ "in.uart", op_in_uart },
	{ "out.uart", op_out_uart },
	{ "in.port61", op_in_pit },
	{ "cr0.wp", op_cr0_wp },
	{ "cr4.pge", op_cr4_pge },
	{ "cr8", op_cr8 },
	{ "dr7", op_dr7 },
	{ "pause", op_pause },
	{ "wbinvd", op_wbinvd },
	{ "apic.id", op_apic_id },
	{ "apic.eoi", op_apic_eoi },
	{ "apic.tpr.read", op_apic_tpr_read },
	{ "apic.tpr.write", op_apic_tpr_write },
	{ "apic.icr.read", op_apic_icr_read },
	{ "ioapic.read", op_ioapic_read },
	{ "mmio.hole", op_mmio_hole },
};

static const struct entry hypercalls[] = { { "hypercall", op_hypercall } };

static const struct entry interrupts[] = {
	{ "self_ipi", op_self_ipi },
	{ "self_ipi.hlt", op_self_ipi_hlt },
	{ "self_ipi.tpr", op_self_ipi_tpr },
};

/* Interrupts are on; handlers as everywhere. */
static const struct entry reference_operations[] = {
	{ "cpuid.0", op_cpuid0 },
	{ "cpuid.80000000", op_cpuid_ext0 },
	{ "hypercall", op_hypercall },
	{ "rdmsr.apic_base", op_rdmsr_apic_base },
	{ "rdmsr.efer", op_rdmsr_efer },
	{ "wrmsr.efer", op_wrmsr_efer },
	{ "in.pic", op_in_pic },
	{ "in.unclaimed", op_in_unclaimed },
	{ "apic.id", op_apic_id },
	{ "apic.eoi", op_apic_eoi },
	{ "self_ipi", op_self_ipi },
	{ "icr_self", op_icr_self },
	{ "icr_self.hlt", op_icr_self_hlt },
	{ "mmio.hole", op_mmio_hole },
};

static const struct entry x2apic_operations[] = {
	{ "x2apic.id", op_x2apic_id },
	{ "x2apic.eoi", op_x2apic_eoi },
	{ "x2apic.tpr", op_x2apic_tpr },
};

static const struct entry x2apic_interrupts[] = {
	{ "x2apic.self_ipi", op_self_ipi },
	{ "x2apic.self_ipi.hlt", op_self_ipi_hlt },
	{ "x2apic.self_ipi.tpr", op_self_ipi_tpr },
};

static const struct entry deadline_write[] = {
	{ "deadline.write", op_wrmsr_deadline },
	{ "deadline.rearm", op_deadline_rearm },
};
static const struct entry deadline_taken[] = { { "deadline.taken", op_deadline_taken } };

static void timer(void)
{
	u32 r[4];

	cpuid(1, 0, r);
	if ((r[2] & 1u << 24) == 0)
		return;
	apic_write(APIC_LVT_TIMER, 2u << 17 | IRQ_TIMER);
	BENCH_ALL(deadline_write);
	wrmsr(MSR_TSC_DEADLINE, 0);
	sti();
	BENCH_ALL(deadline_taken);
	cli();
	apic_write(APIC_LVT_TIMER, 0x10000);
}

/* A first turn before each: the CPU must already do what the name says. Not every turn takes the
 * same way, so that more of them are traced. */
static void other(void)
{
	trace_turns_each = 64;
	irq_handler[IRQ_OTHER] = on_other;
	ap_work = other_cpu;
	low_init();
	if (start_cpus(2) != 2) /* with this one */
		return;
	delay_us(1000);
	bench_turns("ipi.running", op_ipi_other, 200);
	other_halts = true;
	op_ipi_halted();
	bench_turns("ipi.halted", op_ipi_halted, 200);
	other_stop = true;
}

static void halted_others(u32 count)
{
	u32 up;

	if (count == 0)
		return;
	ap_work = halting_cpu;
	low_init();
	up = start_cpus(count + 1) - 1;
	print("others %u\n", up);
}

static void with_x2apic(void)
{
	u32 r[4];

	cpuid(1, 0, r);
	if ((r[2] & 1u << 21) == 0)
		return;
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 1u << 10);
	x2apic = true;
	BENCH_ALL(x2apic_operations);
	sti();
	BENCH_ALL(x2apic_interrupts);
	cli();
}

static void short_operations(void)
{
	bench_turns("cpuid.0", op_cpuid0, 100);
	bench_turns("apic.eoi", op_apic_eoi, 100);
	sti();
	bench_turns("self_ipi.hlt", op_self_ipi_hlt, 100);
	cli();
}

int main(void)
{
	char text[8];

	rt_init();
	option("spin", spin, sizeof(spin));
	trace = option("trace", text, sizeof(text));
	apic_write(APIC_SVR, 0x1ff);
	irq_handler[IRQ_SELF] = on_interrupt;
	irq_handler[IRQ_TIMER] = on_interrupt;
	efer = rdmsr(MSR_EFER);
	overhead = measure(op_nothing, TURNS);
	if (option("busy", text, sizeof(text))) {
		print("bench busy\n");
		sti();
		for (;;)
			rdtsc();
	}
	halted_others((u32)option_number("others", 0));
	if (trace)
		wait_for_byte("ready");
	if (option("ipi", text, sizeof(text))) {
		other();
		done();
	}
	print("bench loop %lu\n", overhead / TURNS);
	if (option("short", text, sizeof(text))) {
		short_operations();
		done();
	}
	if (option("reference", text, sizeof(text))) {
		sti();
		BENCH_ALL(reference_operations);
		done();
	}
	BENCH_ALL(plain_operations);
	if (!plain)
		BENCH_ALL(hypercalls);
	sti();
	BENCH_ALL(interrupts);
	cli();
	timer();
	with_x2apic();
	done();
}
