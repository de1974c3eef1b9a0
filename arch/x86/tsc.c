/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/tsc.h"
#include "core/errno.h"
#include "core/log.h"
#include "drivers/acpi.h"

#define PM_TIMER_HZ 3579545UL
#define PIT_HZ 1193182UL
#define MEASURE_MS 50UL

u64 tsc_khz;
u64 tsc_to_ns_mult;
u64 ns_to_tsc_mult;
static u64 tsc_start;

/* A counter's value, and the TSC around the read. */
struct sample {
	u64 tsc;
	u32 count;
};

static struct sample pm_sample(void)
{
	struct sample best = { 0, 0 };
	u64 best_gap = UINT64_MAX;

	/* Of some reads the quickest says best when it was. */
	for (u32 i = 0; i < 5; i++) {
		u64 before = rdtsc();
		u32 count = inl(acpi.pm_timer_port) & 0xffffff;
		u64 after = rdtsc();

		if (after - before < best_gap) {
			best_gap = after - before;
			best.tsc = before + (after - before) / 2;
			best.count = count;
		}
	}
	return best;
}

/* kHz by the ACPI PM timer (ACPI 6.5, 4.8.2.1), 0 when there is none or it stands still. */
static u64 by_pm_timer(void)
{
	const u32 want = (u32)(PM_TIMER_HZ * MEASURE_MS / 1000);
	struct sample a, b;
	u32 moved = 0, last;

	if (acpi.pm_timer_port == 0)
		return 0;
	a = pm_sample();
	last = a.count;
	for (u32 same = 0; moved < want && same < 100000;) {
		u32 now = inl(acpi.pm_timer_port) & 0xffffff;

		moved = (now - a.count) & 0xffffff;
		same = now == last ? same + 1 : 0;
		last = now;
	}
	if (moved < want)
		return 0;
	b = pm_sample();
	moved = (b.count - a.count) & 0xffffff;
	return (b.tsc - a.tsc) * PM_TIMER_HZ / moved / 1000;
}

/* kHz by counter 2 of the PIT, whose output can be read at port 0x61. */
static u64 by_pit(void)
{
	const u32 count = (u32)(PIT_HZ * MEASURE_MS / 1000);
	u64 start, end;
	u32 spins = 0;

	outb(0x61, (u8)((inb(0x61) & ~2U) | 1U));
	outb(0x43, 0xb0); /* counter 2, low then high byte, mode 0 */
	outb(0x42, (u8)count);
	outb(0x42, (u8)(count >> 8));
	start = rdtsc();
	while ((inb(0x61) & 0x20) == 0 && spins < 50000000)
		spins++;
	end = rdtsc();
	return spins == 50000000 ? 0 : (end - start) * 1000 / (count * 1000000UL / PIT_HZ);
}

static u64 by_cpuid(void)
{
	struct cpuid_regs r = cpuid_if(0x15, 0);

	if (r.eax == 0 || r.ebx == 0 || r.ecx == 0)
		return 0;
	return (u64)r.ecx * r.ebx / r.eax / 1000;
}

int tsc_init(void)
{
	static const struct {
		u64 (*khz)(void);
		const char *name;
	} sources[] = { { by_cpuid, "CPUID" }, { by_pm_timer, "PM timer" }, { by_pit, "PIT" } };
	u32 i;

	for (i = 0; i < ARRAY_SIZE(sources) && tsc_khz < 1000; i++)
		tsc_khz = sources[i].khz();
	if (tsc_khz < 1000) {
		log_err("tsc: its rate cannot be found: no CPUID 0x15, PM timer or PIT answers");
		return -ENODEV;
	}
	tsc_to_ns_mult = (1000000UL << 32) / tsc_khz;
	ns_to_tsc_mult = (tsc_khz << 32) / 1000000UL;
	tsc_start = rdtsc();
	log_info("tsc: %lu.%03lu MHz by %s%s", tsc_khz / 1000, tsc_khz % 1000, sources[i - 1].name,
		 cpu_features.tsc_invariant ? ", invariant" : "");
	return 0;
}

u64 time_ns(void)
{
	return tsc_khz == 0 ? 0 : tsc_to_ns(rdtsc() - tsc_start);
}

u64 log_time_us(void)
{
	return time_ns() / 1000;
}

void delay_us(u64 us)
{
	u64 end = rdtsc() + ns_to_tsc(us * 1000);

	while ((s64)(rdtsc() - end) < 0)
		cpu_relax();
}

static u8 cmos(u8 reg)
{
	outb(0x70, reg);
	return inb(0x71);
}

static u32 from_bcd(u32 v, bool bcd)
{
	return bcd ? (v >> 4) * 10 + (v & 15) : v;
}

/* Days from 1970-01-01 to a date of the Gregorian calendar, months counted from March. */
static u64 days(u64 year, u64 month, u64 day)
{
	u64 y = month <= 2 ? year - 1 : year;
	u64 m = month <= 2 ? month + 9 : month - 3;

	return y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719468;
}

/* Second, minute, hour, day, month, year: read until two readings outside of an update agree. */
static void rtc_read(u8 v[6])
{
	static const u8 reg[6] = { 0, 2, 4, 7, 8, 9 };

	for (u32 attempt = 0; attempt < 1000; attempt++) {
		bool same = true;

		for (u32 i = 0; i < 100000 && (cmos(0x0a) & 0x80) != 0; i++)
			cpu_relax();
		for (u32 i = 0; i < 6; i++)
			v[i] = cmos(reg[i]);
		for (u32 i = 0; i < 6; i++)
			same = same && cmos(reg[i]) == v[i];
		if (same)
			return;
	}
}

u64 rtc_seconds(void)
{
	u8 b = cmos(0x0b);
	bool bcd = (b & 4) == 0;
	u32 hour;
	u8 v[6];

	rtc_read(v);
	hour = from_bcd(v[2] & 0x7f, bcd);
	if ((b & 2) == 0) /* 12 hours, bit 7 is PM */
		hour = hour % 12 + ((v[2] & 0x80) != 0 ? 12 : 0);
	return days(2000 + from_bcd(v[5], bcd), from_bcd(v[4], bcd), from_bcd(v[3], bcd)) * 86400 +
	       hour * 3600UL + from_bcd(v[1], bcd) * 60UL + from_bcd(v[0], bcd);
}
