/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What each operation costs a guest, in ticks of its TSC. In an emulator that
 * counts instructions the TSC advances by one with each, the hypervisor's
 * included: the numbers are path lengths, the same on every host.
 *
 * Prints "bench NAME TICKS" for each; the least of three runs counts. The
 * cost of the loop itself is measured and taken off.
 */
#include "rt.h"

int main(void);

#define RUNS 3
#define TURNS 1000u

#define IRQ_SELF 0x50
#define IRQ_TIMER 0x51
#define IRQ_LOW 0x31
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
static void op_rdmsr_mtrrcap(void) { rdmsr(0xfe); }
static void op_wrmsr_deadline(void) { wrmsr(MSR_TSC_DEADLINE, rdtsc() + 1000000000ul); }

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

static void wait_for(u32 count)
{
	while (taken != count)
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
	while (taken != want) {
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

/* The deadline is past: the interrupt comes at once. */
static void op_deadline_taken(void)
{
	u32 want = taken + 1;

	wrmsr(MSR_TSC_DEADLINE, 1);
	wait_for(want);
}

static volatile u32 other_taken;
static volatile bool other_stop;

static void on_other(struct frame *f)
{
	(void)f;
	other_taken++;
	if (x2apic)
		wrmsr(0x80b, 0);
	else
		apic_eoi();
}

static void other_cpu(u32 cpu)
{
	(void)cpu;
	apic_write(APIC_SVR, 0x1ff);
	sti();
	while (!other_stop)
		pause_cpu();
	cli();
}

static void op_ipi_other(void)
{
	u32 want = other_taken + 1;

	apic_write(APIC_ICR2, 1u << 24);
	apic_write(APIC_ICR, IRQ_OTHER);
	while (other_taken != want)
		;
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

static void bench_turns(const char *name, op_fn *op, u32 turns)
{
	u64 ticks = measure(op, turns);
	u64 off = overhead * turns / TURNS;

	ticks = ticks > off ? ticks - off : 0;
	print("bench %s %lu\n", name, (ticks + turns / 2) / turns);
}

static void bench(const char *name, op_fn *op)
{
	bench_turns(name, op, TURNS);
}

static void plain_operations(void)
{
	bench("cpuid.0", op_cpuid0);
	bench("cpuid.1", op_cpuid1);
	bench("cpuid.7", op_cpuid7);
	bench("cpuid.d", op_cpuid_d);
	bench("cpuid.40000000", op_cpuid_hv);
	bench("cpuid.80000008", op_cpuid_ext);
	if (!plain)
		bench("hypercall", op_hypercall);
	bench("rdmsr.apic_base", op_rdmsr_apic_base);
	bench("rdmsr.efer", op_rdmsr_efer);
	bench("wrmsr.efer", op_wrmsr_efer);
	bench("rdmsr.mtrrcap", op_rdmsr_mtrrcap);
	bench("in.unclaimed", op_in_unclaimed);
	bench("out.unclaimed", op_out_unclaimed);
	bench("in.pic", op_in_pic);
	bench("out.pic", op_out_pic);
	bench("in.uart", op_in_uart);
	bench("out.uart", op_out_uart);
	bench("in.port61", op_in_pit);
	bench("cr0.wp", op_cr0_wp);
	bench("cr4.pge", op_cr4_pge);
	bench("cr8", op_cr8);
	bench("dr7", op_dr7);
	bench("pause", op_pause);
	bench("wbinvd", op_wbinvd);
}

static void apic_operations(void)
{
	bench("apic.id", op_apic_id);
	bench("apic.eoi", op_apic_eoi);
	bench("apic.tpr.read", op_apic_tpr_read);
	bench("apic.tpr.write", op_apic_tpr_write);
	bench("apic.icr.read", op_apic_icr_read);
	bench("ioapic.read", op_ioapic_read);
	bench("mmio.hole", op_mmio_hole);
}

static void interrupts(const char *suffix)
{
	char name[32];
	static const struct {
		const char *name;
		op_fn *op;
	} ops[] = {
		{ "self_ipi", op_self_ipi },
		{ "self_ipi.hlt", op_self_ipi_hlt },
		{ "self_ipi.tpr", op_self_ipi_tpr },
	};

	for (u32 i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		u32 n = 0;

		for (const char *p = ops[i].name; *p != 0; p++)
			name[n++] = *p;
		for (const char *p = suffix; *p != 0; p++)
			name[n++] = *p;
		name[n] = 0;
		sti();
		bench(name, ops[i].op);
		cli();
	}
}

static void timer(void)
{
	u32 r[4];

	cpuid(1, 0, r);
	if ((r[2] & 1u << 24) == 0)
		return;
	apic_write(APIC_LVT_TIMER, 2u << 17 | IRQ_TIMER);
	bench("wrmsr.deadline", op_wrmsr_deadline);
	wrmsr(MSR_TSC_DEADLINE, 0);
	sti();
	bench("deadline.taken", op_deadline_taken);
	cli();
	apic_write(APIC_LVT_TIMER, 0x10000);
}

static void other(void)
{
	if (option_number("cpus", 1) < 2)
		return;
	irq_handler[IRQ_OTHER] = on_other;
	ap_work = other_cpu;
	if (start_cpus(2) != 2)
		return;
	delay_us(1000);
	bench_turns("ipi.other", op_ipi_other, 200);
	other_stop = true;
}

static void x2apic_operations(void)
{
	u32 r[4];

	cpuid(1, 0, r);
	if ((r[2] & 1u << 21) == 0)
		return;
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 1u << 10);
	x2apic = true;
	bench("x2apic.id", op_x2apic_id);
	bench("x2apic.eoi", op_x2apic_eoi);
	bench("x2apic.tpr", op_x2apic_tpr);
	interrupts(".x2apic");
}

int main(void)
{
	rt_init();
	apic_write(APIC_SVR, 0x1ff);
	irq_handler[IRQ_SELF] = on_interrupt;
	irq_handler[IRQ_TIMER] = on_interrupt;
	efer = rdmsr(MSR_EFER);
	overhead = measure(op_nothing, TURNS);
	print("bench loop %lu\n", overhead / TURNS);
	plain_operations();
	apic_operations();
	interrupts("");
	timer();
	other();
	x2apic_operations();
	print("bench done\n");
	guest_exit(0);
}
