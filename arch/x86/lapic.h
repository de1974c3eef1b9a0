/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_LAPIC_H
#define RAVELIN_ARCH_X86_LAPIC_H

#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/percpu.h"
#include "arch/x86/traps.h"
#include "core/types.h"

/* The physical CPU's local APIC (APM vol. 2, 16), xAPIC or x2APIC. */
#define LAPIC_ID 0x20
#define LAPIC_VERSION 0x30
#define LAPIC_TPR 0x80
#define LAPIC_EOI 0xb0
#define LAPIC_LDR 0xd0
#define LAPIC_DFR 0xe0
#define LAPIC_SVR 0xf0
#define LAPIC_ISR 0x100
#define LAPIC_IRR 0x200
#define LAPIC_ESR 0x280
#define LAPIC_LVT_CMCI 0x2f0
#define LAPIC_ICR 0x300
#define LAPIC_ICR_HIGH 0x310
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_LVT_THERMAL 0x330
#define LAPIC_LVT_PERF 0x340
#define LAPIC_LVT_LINT0 0x350
#define LAPIC_LVT_LINT1 0x360
#define LAPIC_LVT_ERROR 0x370
#define LAPIC_TIMER_INIT 0x380
#define LAPIC_TIMER_CURRENT 0x390
#define LAPIC_TIMER_DIVIDE 0x3e0

#define LVT_MASKED BIT32(16)
#define LVT_NMI (4U << 8)
#define LVT_PERIODIC (1U << 17)
#define LVT_TSC_DEADLINE (2U << 17)

#define ICR_FIXED (0U << 8)
#define ICR_NMI (4U << 8)
#define ICR_INIT (5U << 8)
#define ICR_STARTUP (6U << 8)
#define ICR_PENDING BIT32(12)
#define ICR_ASSERT BIT32(14)
#define ICR_LEVEL BIT32(15)

/* Boot CPU: chooses the mode; -ENODEV without an APIC. Then every CPU: its own. */
int lapic_init(void);
void lapic_cpu_init(void);

u32 lapic_read(u32 reg);
void lapic_write(u32 reg, u32 v);
u32 lapic_id(void);
void lapic_eoi(void);
/* Is the vector waiting in the interrupt request register? */
bool lapic_irr(u8 vector);

/* Sends an interrupt command to the APIC id. Any context. */
void lapic_icr(u32 apic_id, u32 low);
/* Fixed vector, or NMI, to a CPU by number. */
void ipi_send(u32 cpu, u8 vector);
void ipi_send_nmi(u32 cpu);
/* A CPU, as the interrupt command's upper half has it. */
u32 lapic_dest(u32 cpu);

/*
 * This CPU's timer, one shot, to a TSC value; a value in the past fires at
 * once. VECTOR_TIMER, then core's timer_interrupt(). It may fire early (the
 * APIC's counter is short): the callback looks at the clock. Interrupts off.
 */
void timer_arm(u64 tsc_deadline);
void timer_disarm(void);
/* First thing in timer_interrupt(): nothing is armed any more. */
void timer_fired(void);
/* Boot CPU, after tsc_init(): measures the timer when there is no TSC deadline mode. */
void timer_init(void);

/*
 * What the senders of interrupts call: here because they count instructions.
 * Interrupts off. VECTOR_KICK to a CPU, whose lapic_dest() it is, with the registers of `lapic`, NULL
 * for x2APIC, so that a loop has asked before; and a slice that begins now: its
 * end, for which the timer is armed unless it is for something earlier.
 */
struct lapic_state {
	bool x2apic;
	volatile u8 *regs; /* xAPIC only */
	u32 timer_msr;     /* what sets the timer; 0: LAPIC_TIMER_INIT of regs */
	u64 slice_tsc;     /* SCHED_SLICE_US */
	u32 slice_count;   /* the same in ticks of the APIC timer */
};
extern struct lapic_state lapic; /* constant once all CPUs run */

#ifdef UNIT_TEST
void ipi_kick(volatile u8 *regs, u32 dest);
void timer_slice(u64 now, u64 *slice_end);
#else
static inline void ipi_kick(volatile u8 *regs, u32 dest)
{
	bool pending;

	if (regs == NULL) {
		/* The MSR write is not serialising: what the IPI is about must be visible. */
		mfence();
		wrmsr(MSR_X2APIC_BASE + (LAPIC_ICR >> 4),
		      (u64)dest << 32 | ICR_FIXED | ICR_ASSERT | VECTOR_KICK);
		return;
	}
	for (;;) {
		__asm__ volatile("testl %2, %c3(%1)"
				 : "=@ccnz"(pending)
				 : "r"(regs), "i"(ICR_PENDING), "i"(LAPIC_ICR));
		if (likely(!pending))
			break;
		cpu_relax();
	}
	mmio_write32(regs + LAPIC_ICR_HIGH, dest);
	mmio_write32(regs + LAPIC_ICR, ICR_FIXED | ICR_ASSERT | VECTOR_KICK);
}

static inline void timer_slice(u64 now, u64 *slice_end)
{
	u64 end = *slice_end = now + lapic.slice_tsc; /* at once: a register less afterwards */

	if (end >= percpu.timer_deadline)
		return;
	percpu.timer_deadline = end;
	if (lapic.timer_msr == 0)
		mmio_write32(lapic.regs + LAPIC_TIMER_INIT, lapic.slice_count);
	else if (lapic.timer_msr == MSR_TSC_DEADLINE)
		wrmsr(MSR_TSC_DEADLINE, end);
	else
		wrmsr(lapic.timer_msr, lapic.slice_count);
}
#endif

#endif
