/* SPDX-License-Identifier: BSD-2-Clause */
// sources: vdev/bus.c vdev/lapic.c vdev/pic.c vdev/ioapic.c vdev/pit.c vdev/rtc.c
// sources: vdev/uart.c vdev/acpi_pm.c vdev/platform.c tests/unit/fake_vdev_host.c
#include "tests/unit/fake_vdev_host.h"

#include <stdio.h>
#include <time.h>

/* Expected values: MC146818A data sheet; dates by the C library. The clock starts at
 * 2023-11-14 22:13:20 UTC, a Tuesday. */
#define SECOND 1000000000ULL

static struct fake_vm *vm;

static u8 rd(u8 reg)
{
	outb(vm, 0x70, reg);
	return inb(vm, 0x71);
}

static void wr(u8 reg, u8 value)
{
	outb(vm, 0x70, reg);
	outb(vm, 0x71, value);
}

static bool line(void)
{
	return vm->p.ioapic.line >> 8 & 1;
}

static void to_next_timer(void)
{
	fake_advance(&vm->host, vm->host.timers->deadline_ns - vm->host.now);
}

static int setup(void **state)
{
	vm = fake_vm_new(4);
	return 0;
}

static int teardown(void **state)
{
	fake_vm_free(vm);
	return 0;
}

/* hex: century, year, month, day, hour, minute, second as the registers have them. */
static void assert_time(const char *hex)
{
	static const u8 reg[] = { 0x32, 9, 8, 7, 4, 2, 0 };
	char got[15];

	for (u32 i = 0; i < 7; i++)
		sprintf(got + i * 2, "%02x", rd(reg[i]));
	assert_string_equal(got, hex);
}

static void start_value(void **state)
{
	assert_time("20231114221320");
	assert_int_equal(rd(6), 3); /* Tuesday, Sunday is 1 */
	assert_int_equal(rd(0x0A), 0x26);
	assert_int_equal(rd(0x0B), 0x02);
	assert_int_equal(rd(0x0D), 0x80);
	assert_int_equal(inb(vm, 0x70), 0xFF);
	outb(vm, 0x70, 0x8D); /* the NMI bit is not part of the index */
	assert_int_equal(inb(vm, 0x71), 0x80);
	fake_advance(&vm->host, 3600 * SECOND * 2);
	assert_time("20231115001320");
	assert_int_equal(rd(6), 4);
}

static void formats(void **state)
{
	wr(0x0B, 0x00); /* BCD, 12 hours */
	assert_int_equal(rd(4), 0x90); /* 10 PM */
	wr(0x0B, 0x04); /* binary, 12 hours */
	assert_int_equal(rd(4), 0x8A);
	wr(0x0B, 0x06); /* binary, 24 hours */
	assert_time("14170b0e160d14");
	wr(0x0B, 0x00);
	wr(4, 0x12); /* 12 AM is midnight */
	wr(0x0B, 0x02);
	assert_int_equal(rd(4), 0x00);
	wr(0x0B, 0x00);
	wr(4, 0x92); /* 12 PM is noon */
	wr(0x0B, 0x02);
	assert_int_equal(rd(4), 0x12);
}

static void calendar_agrees_with_the_library(void **state)
{
	/* Each day at some hour from 1970 to 2099. */
	wr(0x0B, 0x06);
	for (u64 day = 0; day < 47482; day++) {
		time_t t = (time_t)(day * 86400 + day * 7919 % 86400);
		struct tm tm;
		gmtime_r(&t, &tm);
		vm->p.rtc.base_seconds = (s64)(719528ULL * 86400) + t;
		assert_int_equal(rd(9) + rd(0x32) * 100, tm.tm_year + 1900);
		assert_int_equal(rd(8), tm.tm_mon + 1);
		assert_int_equal(rd(7), tm.tm_mday);
		assert_int_equal(rd(6), tm.tm_wday + 1);
		assert_int_equal(rd(4), tm.tm_hour);
		assert_int_equal(rd(2), tm.tm_min);
		assert_int_equal(rd(0), tm.tm_sec);
		/* And back: a write of the same value changes nothing. */
		s64 base = vm->p.rtc.base_seconds;
		wr(2, (u8)tm.tm_min);
		assert_true(vm->p.rtc.base_seconds == base);
	}
}

static void set_bit_freezes(void **state)
{
	fake_advance(&vm->host, SECOND / 4);
	wr(0x0B, 0x92); /* SET clears UIE */
	assert_int_equal(rd(0x0B), 0x82);
	fake_advance(&vm->host, 5 * SECOND);
	assert_time("20231114221320");
	wr(0x32, 0x19);
	wr(9, 0x99);
	wr(8, 0x12);
	wr(7, 0x31);
	wr(4, 0x23);
	wr(2, 0x59);
	wr(0, 0x59);
	wr(0x0B, 0x02);
	assert_time("19991231235959");
	fake_advance(&vm->host, SECOND * 3 / 4 - 1); /* the fraction of the second went on */
	assert_time("19991231235959");
	fake_advance(&vm->host, 1);
	assert_time("20000101000000");
	assert_int_equal(rd(6), 7); /* a Saturday */
}

static void leap_days(void **state)
{
	static const struct { const char *after; u8 century, year; } cases[] = {
		{ "20240229000000", 0x20, 0x24 }, { "20230301000000", 0x20, 0x23 },
		{ "20000229000000", 0x20, 0x00 }, { "21000301000000", 0x21, 0x00 },
	};

	for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
		wr(0x0B, 0x82);
		wr(0x32, cases[i].century);
		wr(9, cases[i].year);
		wr(8, 0x02);
		wr(7, 0x28);
		wr(4, 0x23);
		wr(2, 0x59);
		wr(0, 0x59);
		wr(0x0B, 0x02);
		fake_advance(&vm->host, SECOND);
		assert_time(cases[i].after);
	}
}

static void divider_reset(void **state)
{
	fake_advance(&vm->host, SECOND / 10);
	wr(0x0A, 0x76); /* held in reset */
	fake_advance(&vm->host, 10 * SECOND);
	assert_int_equal(rd(0), 0x20);
	wr(0x0A, 0x26);
	fake_advance(&vm->host, SECOND / 2 - 1);
	assert_int_equal(rd(0), 0x20);
	fake_advance(&vm->host, 1); /* the first update comes after half a second */
	assert_int_equal(rd(0), 0x21);
	/* Flags and UIP know the new phase. */
	(void)rd(0x0C);
	wr(0x0B, 0x12);
	fake_advance(&vm->host, SECOND - 1);
	assert_int_equal(rd(0x0A), 0xA6);
	assert_false(line());
	fake_advance(&vm->host, 1);
	assert_true(line());
	assert_int_equal(rd(0x0A), 0x26);
}

static void update_in_progress(void **state)
{
	fake_advance(&vm->host, SECOND - 244001);
	assert_int_equal(rd(0x0A), 0x26);
	fake_advance(&vm->host, 1);
	assert_int_equal(rd(0x0A), 0xA6);
	fake_advance(&vm->host, 244000);
	assert_int_equal(rd(0x0A), 0x26);
	assert_int_equal(rd(0), 0x21);
	wr(0x0A, 0xA6); /* UIP is read-only */
	assert_int_equal(rd(0x0A), 0x26);
}

static void periodic_interrupt(void **state)
{
	u32 edges = 0;

	wr(0x0B, 0x42); /* 1024 Hz */
	for (u32 ms = 0; ms < 1000; ms++) {
		fake_advance(&vm->host, 1000000);
		if (line()) {
			edges++;
			assert_int_equal(rd(0x0C) & 0xC0, 0xC0);
			assert_false(line());
		}
	}
	assert_in_range(edges, 999, 1000); /* each millisecond saw one of 1024 */
	/* Not read: one interrupt, no work for the host. */
	u32 fired = vm->host.fired;
	fake_advance(&vm->host, 10 * SECOND);
	assert_true(line());
	assert_int_equal(vm->host.fired, fired + 1);
	(void)rd(0x0C);
	/* The rates: 256 Hz for 1, 8192 Hz for 3, 2 Hz for 15. */
	static const struct { u8 rs; u32 hz; } rates[] = { { 1, 256 }, { 3, 8192 }, { 15, 2 } };
	for (u32 i = 0; i < ARRAY_SIZE(rates); i++) {
		u64 period = SECOND / rates[i].hz;
		wr(0x0A, (u8)(0x20 | rates[i].rs));
		(void)rd(0x0C);
		u64 start = vm->host.now;
		for (u32 n = 0; n < 2 * rates[i].hz; n++) {
			while (!line())
				to_next_timer();
			(void)rd(0x0C);
		}
		assert_in_range(vm->host.now - start, 2 * SECOND - period, 2 * SECOND);
	}
	wr(0x0A, 0x20); /* none */
	(void)rd(0x0C);
	fake_advance(&vm->host, SECOND);
	assert_false(line());
}

static void update_interrupt(void **state)
{
	fake_advance(&vm->host, SECOND / 2);
	wr(0x0B, 0x12);
	fake_advance(&vm->host, SECOND / 2 - 1);
	assert_false(line());
	fake_advance(&vm->host, 1);
	assert_true(line());
	assert_int_equal(rd(0x0C) & 0xB0, 0x90);
	assert_int_equal(rd(0x0C), 0);
	fake_advance(&vm->host, SECOND);
	assert_true(line());
	wr(0x0B, 0x02); /* disabled while pending */
	assert_false(line());
	assert_int_equal(rd(0x0C) & 0x90, 0x10);
	/* Polled without interrupt. */
	fake_advance(&vm->host, SECOND);
	assert_int_equal(rd(0x0C) & 0x90, 0x10);
}

static void alarm_at(u8 hour, u8 minute, u8 second)
{
	wr(5, hour);
	wr(3, minute);
	wr(1, second);
	(void)rd(0x0C);
}

/* Seconds until the alarm comes, at most two days. */
static u64 wait_alarm(void)
{
	u64 start = vm->host.now;

	if (vm->host.timers)
		to_next_timer();
	assert_true(line());
	assert_int_equal(rd(0x0C) & 0xA0, 0xA0);
	return (vm->host.now - start + SECOND - 1) / SECOND;
}

static void alarms(void **state)
{
	wr(0x0B, 0x22); /* now 22:13:20 */
	alarm_at(0x22, 0x13, 0x25);
	assert_int_equal(wait_alarm(), 5);
	assert_int_equal(wait_alarm(), 86400);
	alarm_at(0x22, 0x15, 0x40); /* not in this minute */
	assert_int_equal(wait_alarm(), 135);
	alarm_at(0x22, 0x13, 0x25);
	assert_int_equal(wait_alarm(), 86265);
	alarm_at(0x22, 0x13, 0x20); /* five seconds ago */
	assert_int_equal(wait_alarm(), 86395);
	alarm_at(0xC0, 0x13, 0x20); /* each hour */
	assert_int_equal(wait_alarm(), 3600);
	alarm_at(0xFF, 0xFF, 0x19); /* each minute */
	assert_int_equal(wait_alarm(), 59);
	alarm_at(0xFF, 0xFF, 0xFF); /* each second */
	assert_int_equal(wait_alarm(), 1);
	assert_int_equal(wait_alarm(), 1);
	alarm_at(0x23, 0xC5, 0xC0); /* 23:14:21 now: each second of hour 23 */
	assert_int_equal(wait_alarm(), 1);
	alarm_at(0x01, 0xC0, 0x00); /* each minute of hour 1 */
	/* From 23:14:22 to 01:00:00. */
	assert_int_equal(wait_alarm(), 45 * 60 + 38 + 3600);
	assert_int_equal(wait_alarm(), 60);
	wr(5, 0x03); /* only the hour changes: from 01:01:00 to 03:00:00 */
	assert_int_equal(wait_alarm(), 7140);
	/* No such time: never, and the timer is idle. */
	alarm_at(0x24, 0x00, 0x00);
	assert_null(vm->host.timers);
	alarm_at(0x00, 0x60, 0x00);
	assert_null(vm->host.timers);
	alarm_at(0x00, 0x00, 0x7F);
	assert_null(vm->host.timers);
	/* Polled. */
	alarm_at(0xC0, 0xC0, 0xC0);
	wr(0x0B, 0x02);
	(void)rd(0x0C);
	fake_advance(&vm->host, SECOND);
	assert_int_equal(rd(0x0C) & 0xA0, 0x20);
}

static void alarm_in_12_hour_mode(void **state)
{
	wr(0x0B, 0x20); /* 10:13:20 PM */
	alarm_at(0x90, 0x13, 0x30);
	assert_int_equal(wait_alarm(), 10);
	alarm_at(0x10, 0x13, 0x30); /* AM */
	assert_int_equal(wait_alarm(), 43200);
}

static void hostile_dates(void **state)
{
	for (u32 v = 0; v < 256; v++) {
		wr(0x0B, (u8)(0x80 | (v & 6)));
		static const u8 reg[] = { 0x32, 9, 8, 7, 4, 2, 0 };
		for (u32 i = 0; i < 7; i++)
			wr(reg[i], (u8)(v * (i + 1)));
		wr(0x0B, (u8)((v & 6) | 0x70));
		fake_advance(&vm->host, 2 * SECOND);
		assert_in_range(rd(8), 1, v & 4 ? 12 : 0x12);
		assert_in_range(rd(7), 1, v & 4 ? 31 : 0x31);
		assert_in_range(rd(2), 0, v & 4 ? 59 : 0x59);
		(void)rd(0x0C);
	}
	wr(0x0B, 0x02);
}

static void memory_bytes(void **state)
{
	assert_int_equal(rd(0x15) | rd(0x16) << 8, 640);
	assert_int_equal(rd(0x17) | rd(0x18) << 8, 0xFFFF); /* 511 MiB are more than fits */
	assert_int_equal(rd(0x30) | rd(0x31) << 8, 0xFFFF);
	assert_int_equal(rd(0x34) | rd(0x35) << 8, 496 * 16); /* 496 MiB in 64 KiB */
	assert_int_equal(rd(0x5B) | rd(0x5C) << 8 | rd(0x5D) << 16, 5 * 1024 * 16);
	assert_int_equal(rd(0x5F), 3);
	u32 sum = 0;
	for (u8 i = 0x10; i < 0x2E; i++)
		sum += rd(i);
	assert_int_equal(rd(0x2E) << 8 | rd(0x2F), sum);
	wr(0x7F, 0xA5);
	wr(0x0E, 0x5A);
	vplatform_reset(&vm->p);
	assert_int_equal(rd(0x7F), 0xA5);
	assert_int_equal(rd(0x0E), 0x5A);
	wr(0x0C, 0xFF);
	wr(0x0D, 0x00);
	assert_int_equal(rd(0x0C), 0);
	assert_int_equal(rd(0x0D), 0x80);
}

static void reset_stops_interrupts(void **state)
{
	wr(0x0B, 0x72);
	fake_advance(&vm->host, SECOND);
	assert_true(line());
	vplatform_reset(&vm->p);
	assert_false(line());
	assert_null(vm->host.timers);
	assert_int_equal(rd(0x0B), 0x02);
	assert_time("20231114221321");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(start_value), T(formats), T(calendar_agrees_with_the_library), T(set_bit_freezes),
		T(leap_days), T(divider_reset), T(update_in_progress), T(periodic_interrupt),
		T(update_interrupt), T(alarms), T(alarm_in_12_hour_mode), T(hostile_dates),
		T(memory_bytes), T(reset_stops_interrupts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
