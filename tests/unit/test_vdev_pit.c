/* SPDX-License-Identifier: BSD-2-Clause */
// sources: vdev/bus.c vdev/lapic.c vdev/pic.c vdev/ioapic.c vdev/pit.c vdev/rtc.c
// sources: vdev/uart.c vdev/acpi_pm.c vdev/platform.c tests/unit/fake_vdev_host.c
#include "tests/unit/fake_vdev_host.h"

#include "vdev/ticks.h"

/* Expected values: Intel 8254 data sheet. One tick is 838.1 ns. */
static struct fake_vm *vm;

/* To the first nanosecond of a PIT tick. */
static void to_tick(u64 tick)
{
	/* ceil(tick * 10^9 / 1193182), by another route than the code's. */
	u64 ns = (u64)(((unsigned __int128)tick * 1000000000 + 1193181) / 1193182);

	assert_true(ns >= vm->host.now);
	fake_advance(&vm->host, ns - vm->host.now);
}

static u16 read_latched(u32 ch)
{
	outb(vm, 0x43, (u8)(ch << 6));
	u8 low = inb(vm, (u16)(0x40 + ch));

	return (u16)(low | inb(vm, (u16)(0x40 + ch)) << 8);
}

static void load(u32 ch, u8 mode, u16 count)
{
	outb(vm, 0x43, (u8)(ch << 6 | 0x30 | mode << 1));
	outb(vm, (u16)(0x40 + ch), (u8)count);
	outb(vm, (u16)(0x40 + ch), (u8)(count >> 8));
}

static u8 status(u32 ch)
{
	outb(vm, 0x43, (u8)(0xE0 | 2U << ch));
	return inb(vm, (u16)(0x40 + ch));
}

static bool out2(void)
{
	return inb(vm, 0x61) & 0x20;
}

static void gate2(bool on)
{
	outb(vm, 0x61, on);
}

/* Interrupts taken since the last call. */
static u32 ticks_taken(void)
{
	u32 n = 0;

	while (vlapic_accept(&vm->lapic[0]) == 0x40) {
		vlapic_eoi(&vm->lapic[0]);
		n++;
	}
	return n;
}

static int setup(void **state)
{
	vm = fake_vm_new(1);
	vlapic_mmio_write(&vm->lapic[0], 0xF0, 4, 0x1FF);
	vlapic_mmio_write(&vm->lapic[0], 0x350, 4, 0x10000);
	vdev_bus_mmio_write(&vm->p.bus, 0xFEC00000, 4, 0x14); /* pin 2, vector 0x40 */
	vdev_bus_mmio_write(&vm->p.bus, 0xFEC00010, 4, 0x40);
	return 0;
}

static int teardown(void **state)
{
	fake_vm_free(vm);
	return 0;
}

static void arithmetic(void **state)
{
	static const u64 ns[] = { 0, 1, 838, 839, 999999999, 1000000000, 123456789012345,
				  1ULL << 62, 1ULL << 63, ~0ULL };
	static const u32 hz[] = { 1193182, 3579545, 32768 };

	for (u32 i = 0; i < ARRAY_SIZE(ns); i++) {
		for (u32 j = 0; j < ARRAY_SIZE(hz); j++) {
			u64 t = (u64)((unsigned __int128)ns[i] * hz[j] / 1000000000);
			assert_true(ticks_from_ns(ns[i], hz[j]) == t);
			u64 first = ns_from_ticks(t, hz[j]);
			assert_true(ticks_from_ns(first, hz[j]) == t);
			assert_true(first == 0 || ticks_from_ns(first - 1, hz[j]) == t - 1);
		}
	}
	/* Where a tick begins and just before, through all of time. */
	for (u64 t = 1; t < 1ULL << 54; t = t * 3 + 1) {
		u64 at = (u64)(((unsigned __int128)t * 1000000000 + 1193181) / 1193182);
		assert_true(ticks_from_ns(at, 1193182) == t);
		assert_true(ticks_from_ns(at - 1, 1193182) == t - 1);
	}
}

static void mode0_interrupt_on_terminal_count(void **state)
{
	gate2(true);
	outb(vm, 0x43, 0xB0);
	assert_false(out2());
	assert_int_equal(status(2), 0x70); /* out low, null count, both bytes, mode 0 */
	outb(vm, 0x42, 100);
	outb(vm, 0x42, 0);
	assert_int_equal(status(2), 0x30);
	assert_int_equal(read_latched(2), 100);
	to_tick(99);
	assert_false(out2());
	assert_int_equal(read_latched(2), 1);
	to_tick(100);
	assert_true(out2());
	assert_int_equal(read_latched(2), 0);
	to_tick(101);
	assert_int_equal(read_latched(2), 0xFFFF); /* goes on */
	assert_true(out2());
	/* The first byte of a new count stops and lowers the output. */
	outb(vm, 0x42, 50);
	assert_false(out2());
	to_tick(500);
	outb(vm, 0x42, 0);
	assert_int_equal(read_latched(2), 50);
	to_tick(550);
	assert_true(out2());
}

static void mode0_gate_suspends(void **state)
{
	gate2(true);
	load(2, 0, 1000);
	to_tick(300);
	gate2(false);
	to_tick(5000);
	assert_int_equal(read_latched(2), 700);
	assert_false(out2());
	gate2(true);
	to_tick(5699);
	assert_false(out2());
	to_tick(5700);
	assert_true(out2());
}

static void mode0_on_channel_0_interrupts_once(void **state)
{
	load(0, 0, 1000);
	to_tick(999);
	assert_int_equal(ticks_taken(), 0);
	to_tick(1000);
	assert_int_equal(ticks_taken(), 1);
	to_tick(1000000);
	assert_int_equal(ticks_taken(), 0);
	assert_null(vm->host.timers);
}

static void mode1_one_shot(void **state)
{
	load(2, 1, 100);
	assert_true(out2());
	to_tick(50);
	assert_true(out2());
	gate2(true);
	assert_false(out2());
	to_tick(149);
	assert_false(out2());
	to_tick(150);
	assert_true(out2());
	/* A trigger on the way starts anew, with a count written since. */
	gate2(false);
	gate2(true);
	outb(vm, 0x42, 200);
	outb(vm, 0x42, 0);
	assert_int_equal(status(2) & 0x40, 0x40);
	to_tick(200);
	assert_int_equal(read_latched(2), 50);
	gate2(false);
	gate2(true);
	assert_int_equal(read_latched(2), 200);
	assert_int_equal(status(2) & 0x40, 0);
	to_tick(399);
	assert_false(out2());
	to_tick(400);
	assert_true(out2());
}

static void mode2_rate_generator(void **state)
{
	gate2(true);
	load(2, 2, 10);
	to_tick(8);
	assert_true(out2());
	assert_int_equal(read_latched(2), 2);
	to_tick(9);
	assert_false(out2()); /* one tick low */
	assert_int_equal(read_latched(2), 1);
	to_tick(10);
	assert_true(out2());
	assert_int_equal(read_latched(2), 10);
	/* A new count takes over at the end of the period. */
	to_tick(13);
	outb(vm, 0x42, 4);
	outb(vm, 0x42, 0);
	assert_int_equal(status(2) & 0x40, 0x40);
	assert_int_equal(read_latched(2), 7);
	to_tick(20);
	assert_int_equal(read_latched(2), 4);
	assert_int_equal(status(2) & 0x40, 0);
	to_tick(23);
	assert_false(out2());
	/* The gate forces the output high and restarts. */
	gate2(false);
	assert_true(out2());
	to_tick(100);
	gate2(true);
	assert_int_equal(read_latched(2), 4);
	/* ... with a count that was waiting. */
	outb(vm, 0x42, 30);
	outb(vm, 0x42, 0);
	gate2(false);
	gate2(true);
	assert_int_equal(read_latched(2), 30);
	to_tick(110);
	assert_int_equal(read_latched(2), 20);
}

static void mode2_interrupts_without_drift(void **state)
{
	load(0, 2, 11932); /* 100 Hz of Linux */
	for (u64 n = 1; n <= 1000; n++) {
		to_tick(n * 11932 - 1);
		assert_int_equal(ticks_taken(), 0);
		to_tick(n * 11932);
		assert_int_equal(ticks_taken(), 1);
	}
	assert_int_equal(vm->host.fired, 1000);
	/* Late by seven periods: one interrupt, then in phase. */
	vm->host.now += 7 * 10000200ULL; /* a period is 10 000 151.9 ns */
	fake_advance(&vm->host, 0);
	assert_int_equal(vm->host.fired, 1001);
	to_tick(1008 * 11932ULL);
	assert_int_equal(vm->host.fired, 1002);
}

static void mode3_square_wave(void **state)
{
	gate2(true);
	load(2, 3, 10);
	assert_int_equal(read_latched(2), 10);
	to_tick(1);
	assert_int_equal(read_latched(2), 8); /* steps of two */
	to_tick(4);
	assert_true(out2());
	to_tick(5);
	assert_false(out2());
	assert_int_equal(read_latched(2), 10);
	to_tick(9);
	assert_false(out2());
	to_tick(10);
	assert_true(out2());
	/* Odd: (N+1)/2 high, (N-1)/2 low. */
	load(2, 3, 7);
	to_tick(13);
	assert_true(out2());
	to_tick(14);
	assert_false(out2());
	to_tick(16);
	assert_false(out2());
	to_tick(17);
	assert_true(out2());
	/* Bit 2 of the mode is "don't care": 7 is 3. */
	outb(vm, 0x43, 0xBE);
	assert_int_equal(status(2) & 0x0E, 0x06);
}

static void mode4_software_strobe(void **state)
{
	gate2(true);
	load(2, 4, 20);
	to_tick(19);
	assert_true(out2());
	to_tick(20);
	assert_false(out2());
	to_tick(21);
	assert_true(out2());
	load(0, 4, 1000);
	to_tick(21 + 1000);
	assert_int_equal(ticks_taken(), 0);
	to_tick(21 + 1001);
	assert_int_equal(ticks_taken(), 1);
	to_tick(200000);
	assert_int_equal(ticks_taken(), 0);
}

static void mode5_hardware_strobe(void **state)
{
	load(2, 5, 20);
	to_tick(20);
	assert_true(out2());
	gate2(true);
	to_tick(39);
	assert_true(out2());
	to_tick(40);
	assert_false(out2());
	to_tick(41);
	assert_true(out2());
	/* Channel 0 has no gate edge: never. */
	load(0, 5, 20);
	load(0, 1, 20);
	to_tick(1000);
	assert_int_equal(ticks_taken(), 0);
	assert_null(vm->host.timers);
}

static void zero_is_65536(void **state)
{
	gate2(true);
	load(2, 0, 0);
	assert_int_equal(read_latched(2), 0);
	to_tick(1);
	assert_int_equal(read_latched(2), 0xFFFF);
	to_tick(65535);
	assert_false(out2());
	to_tick(65536);
	assert_true(out2());
}

static void binary_coded_decimal(void **state)
{
	gate2(true);
	outb(vm, 0x43, 0xB1);
	outb(vm, 0x42, 0x00);
	outb(vm, 0x42, 0x10); /* 1000 */
	to_tick(1);
	assert_int_equal(read_latched(2), 0x0999);
	to_tick(1000);
	assert_true(out2());
	to_tick(1001);
	assert_int_equal(read_latched(2), 0x9999);
	outb(vm, 0x42, 0);
	outb(vm, 0x42, 0); /* 10000 */
	to_tick(1001 + 9999);
	assert_false(out2());
	to_tick(1001 + 10000);
	assert_true(out2());
	assert_int_equal(status(2), 0xB1);
	/* Digits above 9 are nonsense that must do no harm. */
	outb(vm, 0x42, 0xFF);
	outb(vm, 0x42, 0xFF);
	(void)read_latched(2);
}

static void bytes_and_latches(void **state)
{
	gate2(true);
	outb(vm, 0x43, 0x90); /* low byte only */
	outb(vm, 0x42, 200);
	to_tick(10);
	assert_int_equal(inb(vm, 0x42), 190);
	assert_int_equal(inb(vm, 0x42), 190);
	outb(vm, 0x42, 100); /* mode 0 starts again at once */
	assert_int_equal(inb(vm, 0x42), 100);
	outb(vm, 0x43, 0xA0); /* high byte only */
	outb(vm, 0x42, 2); /* 512 */
	to_tick(11);
	assert_int_equal(inb(vm, 0x42), 1);
	/* A latch holds until it is read, a second one is ignored. */
	load(2, 0, 0x1234);
	outb(vm, 0x43, 0x80);
	to_tick(100);
	outb(vm, 0x43, 0x80);
	assert_int_equal(inb(vm, 0x42), 0x34);
	assert_int_equal(inb(vm, 0x42), 0x12);
	assert_int_equal(inb(vm, 0x42), (0x1234 - 89) & 0xFF);
	assert_int_equal(inb(vm, 0x42), (0x1234 - 89) >> 8);
	/* Read-back of status and count: status first. */
	outb(vm, 0x43, 0xC8);
	to_tick(200);
	assert_int_equal(inb(vm, 0x42), 0x30);
	assert_int_equal(inb(vm, 0x42), (0x1234 - 89) & 0xFF);
	assert_int_equal(inb(vm, 0x42), (0x1234 - 89) >> 8);
	assert_int_equal(inb(vm, 0x43), 0xFF);
}

static void reset_stops_it(void **state)
{
	load(0, 2, 1000);
	assert_non_null(vm->host.timers);
	vplatform_reset(&vm->p);
	assert_null(vm->host.timers);
}

static void too_fast(void **state)
{
	outb(vm, 0x43, 0x14);
	outb(vm, 0x40, 1); /* every 838 ns */
	fake_advance(&vm->host, 1000000);
	assert_in_range(vm->host.fired, 40, 50);
}

static void port_61(void **state)
{
	outb(vm, 0x61, 0xFF);
	assert_int_equal(inb(vm, 0x61) & 0xCF, 0x0F);
	u32 changes = 0;
	for (u32 i = 1; i <= 20; i++) {
		u8 before = inb(vm, 0x61);
		to_tick(i * 18);
		changes += (before ^ inb(vm, 0x61)) >> 4 & 1;
	}
	assert_int_equal(changes, 20); /* the refresh bit */
}

/* What Linux does to calibrate its TSC: 50 ms of channel 2 in mode 0. */
static void linux_calibration(void **state)
{
	outb(vm, 0x61, (inb(vm, 0x61) & ~0x02) | 0x01);
	outb(vm, 0x43, 0xB0);
	outb(vm, 0x42, 59659 & 0xFF);
	outb(vm, 0x42, 59659 >> 8);
	u64 start = vm->host.now;
	while (!out2())
		fake_advance(&vm->host, 100);
	/* 59659 ticks are 49 999 916.2 ns. */
	assert_in_range(vm->host.now - start, 49999916, 50000017);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(arithmetic), T(mode0_interrupt_on_terminal_count), T(mode0_gate_suspends),
		T(mode0_on_channel_0_interrupts_once), T(mode1_one_shot), T(mode2_rate_generator),
		T(mode2_interrupts_without_drift), T(mode3_square_wave), T(mode4_software_strobe),
		T(mode5_hardware_strobe), T(zero_is_65536), T(binary_coded_decimal),
		T(bytes_and_latches), T(reset_stops_it), T(too_fast), T(port_61), T(linux_calibration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
