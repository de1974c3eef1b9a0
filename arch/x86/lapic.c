/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/lapic.h"
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/paging.h"
#include "arch/x86/percpu.h"
#include "arch/x86/traps.h"
#include "arch/x86/tsc.h"
#include "core/log.h"
#include "core/sched.h"
#include "drivers/acpi.h"

#define SVR_ENABLE BIT32(8)
#define TIMER_DIVIDE_BY_1 0xbU

struct lapic_state lapic;
static u64 timer_mult; /* APIC timer ticks = TSC ticks * this >> 32 */

static u32 x2apic_msr(u32 reg)
{
	return MSR_X2APIC_BASE + (reg >> 4);
}

u32 lapic_read(u32 reg)
{
	return lapic.x2apic ? (u32)rdmsr(x2apic_msr(reg)) : mmio_read32(lapic.regs + reg);
}

void lapic_write(u32 reg, u32 v)
{
	if (lapic.x2apic)
		wrmsr(x2apic_msr(reg), v);
	else
		mmio_write32(lapic.regs + reg, v);
}

u32 lapic_id(void)
{
	return lapic.x2apic ? lapic_read(LAPIC_ID) : lapic_read(LAPIC_ID) >> 24;
}

void lapic_eoi(void)
{
	lapic_write(LAPIC_EOI, 0);
}

bool lapic_irr(u8 vector)
{
	return (lapic_read(LAPIC_IRR + (vector / 32U) * 0x10) >> (vector % 32) & 1) != 0;
}

int lapic_init(void)
{
	u64 base = rdmsr(MSR_APIC_BASE);

	lapic.x2apic = cpu_features.x2apic || (base & APIC_BASE_X2APIC) != 0;
	if (!lapic.x2apic) {
		lapic.regs = mmio_map(base & APIC_BASE_ADDR, PAGE_SIZE);
		if (lapic.regs == NULL)
			return -ENODEV;
	}
	lapic_cpu_init();
	return 0;
}

static void timer_setup(u32 mode)
{
	lapic_write(LAPIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
	lapic_write(LAPIC_LVT_TIMER, mode | VECTOR_TIMER);
}

/* The mode never changes after this: who arms the timer writes one register. TCG: see timer_count(). */
static void timer_cpu_init(void)
{
	timer_setup(cpu_features.tsc_deadline ? LVT_TSC_DEADLINE : cpu_features.tcg ? LVT_PERIODIC : 0);
	/* The mode must be in effect before the first deadline (SDM vol. 3, 11.5.4.1). */
	mfence();
	timer_disarm();
}

void lapic_cpu_init(void)
{
	u64 base = rdmsr(MSR_APIC_BASE);

	/* x2APIC can only be entered from xAPIC, so enable in two steps (SDM vol. 3, 11.12.5). */
	if ((base & APIC_BASE_ENABLE) == 0) {
		base |= APIC_BASE_ENABLE;
		wrmsr(MSR_APIC_BASE, base);
	}
	if (lapic.x2apic && (base & APIC_BASE_X2APIC) == 0)
		wrmsr(MSR_APIC_BASE, base | APIC_BASE_X2APIC);
	lapic_write(LAPIC_SVR, SVR_ENABLE | VECTOR_SPURIOUS);
	lapic_write(LAPIC_TPR, 0);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
	lapic_write(LAPIC_LVT_LINT0, LVT_MASKED);
	lapic_write(LAPIC_LVT_LINT1, LVT_NMI);
	lapic_write(LAPIC_ESR, 0);
	lapic_write(LAPIC_LVT_ERROR, VECTOR_ERROR);
	/* What firmware left in service would block all of its priority and below. */
	for (u32 i = 0; i < 8; i++) {
		for (u32 n = 0; n < 32 && lapic_read(LAPIC_ISR + i * 0x10) != 0; n++)
			lapic_eoi();
	}
	if (timer_mult != 0 || cpu_features.tsc_deadline)
		timer_cpu_init();
}

/* In xAPIC mode the register pair must not be torn apart by an interrupt that sends too. */
void lapic_icr(u32 apic_id, u32 low)
{
	u64 flags;

	if (lapic.x2apic) {
		/* The MSR write is not serialising: what the IPI is about must be visible. */
		mfence();
		wrmsr(x2apic_msr(LAPIC_ICR), (u64)apic_id << 32 | low);
		return;
	}
	flags = irq_save();
	while ((lapic_read(LAPIC_ICR) & ICR_PENDING) != 0)
		cpu_relax();
	lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
	lapic_write(LAPIC_ICR, low);
	irq_restore(flags);
}

u32 lapic_dest(u32 cpu)
{
	return lapic.x2apic ? cpus[cpu].apic_id : cpus[cpu].apic_id << 24;
}

void ipi_send(u32 cpu, u8 vector)
{
	lapic_icr(cpus[cpu].apic_id, ICR_FIXED | ICR_ASSERT | vector);
}

void ipi_send_nmi(u32 cpu)
{
	lapic_icr(cpus[cpu].apic_id, ICR_NMI | ICR_ASSERT);
}

/*
 * QEMU's TCG now and then forgets a hardware interrupt that arrives while its
 * CPU thread is in #VMEXIT: the request stays in the local APIC, and nobody
 * looks there before the next interrupt (target/i386/tcg/system/svm_helper.c
 * changes interrupt_request without the lock that other threads change it
 * under). There the timer is periodic and never off: what was forgotten, the
 * timer's own interrupt too, is found one period later. A period that is much
 * shorter than QEMU's own work for it would leave it no time for anything else.
 */
#define TCG_TICK_MIN_US 100U
#define TCG_TICK_MAX_US 250000U

static u64 tick_min, tick_max; /* in ticks of the APIC timer */

static u32 timer_count(u64 ticks)
{
	if (cpu_features.tcg)
		ticks = ticks == 0 ? tick_max : MAX(MIN(ticks, tick_max), tick_min);
	return (u32)MIN(ticks, 0xffffffffUL);
}

void timer_arm(u64 tsc_deadline)
{
	u64 now, ticks;

	percpu.timer_deadline = tsc_deadline;
	if (cpu_features.tsc_deadline) {
		wrmsr(MSR_TSC_DEADLINE, tsc_deadline);
		return;
	}
	now = rdtsc();
	ticks = tsc_deadline > now ? mul_shift32(tsc_deadline - now, timer_mult) + 1 : 1;
	lapic_write(LAPIC_TIMER_INIT, timer_count(ticks));
}

void timer_disarm(void)
{
	percpu.timer_deadline = TIMER_NEVER;
	if (cpu_features.tsc_deadline)
		wrmsr(MSR_TSC_DEADLINE, 0);
	else
		lapic_write(LAPIC_TIMER_INIT, timer_count(0));
}

void timer_fired(void)
{
	percpu.timer_deadline = TIMER_NEVER;
	if (cpu_features.tcg && !cpu_features.tsc_deadline)
		timer_disarm(); /* the short period that was armed does not go on */
}

void timer_init(void)
{
	u64 best = UINT64_MAX;
	u32 best_count = 0;

	lapic.slice_tsc = SCHED_SLICE_US * tsc_khz / 1000;
	if (cpu_features.tsc_deadline) {
		lapic.timer_msr = MSR_TSC_DEADLINE;
		timer_disarm();
		log_info("timer: TSC deadline");
		return;
	}
	timer_setup(LVT_MASKED);
	/* The shortest of three runs is the one that nothing disturbed. */
	for (u32 i = 0; i < 3; i++) {
		u64 start, ticks;
		u32 count;

		lapic_write(LAPIC_TIMER_INIT, 0xffffffff);
		start = rdtsc();
		delay_us(5000);
		count = 0xffffffffU - lapic_read(LAPIC_TIMER_CURRENT);
		ticks = rdtsc() - start;
		if (ticks < best) {
			best = ticks;
			best_count = count;
		}
	}
	lapic_write(LAPIC_TIMER_INIT, 0);
	timer_mult = ((u64)best_count << 32) / best;
	if (timer_mult == 0)
		timer_mult = 1;
	tick_min = mul_shift32(TCG_TICK_MIN_US * tsc_khz / 1000, timer_mult);
	tick_max = mul_shift32(TCG_TICK_MAX_US * tsc_khz / 1000, timer_mult);
	lapic.slice_count = timer_count(mul_shift32(lapic.slice_tsc, timer_mult) + 1);
	if (lapic.x2apic)
		lapic.timer_msr = x2apic_msr(LAPIC_TIMER_INIT);
	timer_cpu_init();
	log_info("timer: local APIC at %lu kHz", mul_shift32(tsc_khz, timer_mult));
}
