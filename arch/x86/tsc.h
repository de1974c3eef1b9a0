/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_TSC_H
#define RAVELIN_ARCH_X86_TSC_H

#include "arch/x86/cpu.h"

/* The TSC's rate, constant after tsc_init(). */
extern u64 tsc_khz;

/* Finds the rate: CPUID 0x15, else measured against the ACPI PM timer, else the PIT. */
int tsc_init(void);

/* 2^32-scaled factors; no division, no overflow for any 64-bit input. */
extern u64 tsc_to_ns_mult; /* ns = ticks * mult >> 32 */
extern u64 ns_to_tsc_mult; /* ticks = ns * mult >> 32 */

static inline u64 mul_shift32(u64 a, u64 mult)
{
	return (u64)(((unsigned __int128)a * mult) >> 32);
}

static inline u64 tsc_to_ns(u64 ticks) { return mul_shift32(ticks, tsc_to_ns_mult); }
static inline u64 ns_to_tsc(u64 ns) { return mul_shift32(ns, ns_to_tsc_mult); }

/* Nanoseconds since tsc_init(). */
u64 time_ns(void);
/* Busy wait. */
void delay_us(u64 us);
/* Seconds since 1970 by the CMOS clock (taken as UTC); slow, interrupts on. */
u64 rtc_seconds(void);

#endif
