/* SPDX-License-Identifier: BSD-2-Clause */
// sources: vdev/bus.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/errno.h"
#include "vdev/bus.h"

/* A device that remembers its last access and answers with its name's first letter in each byte. */
struct probe {
	u64 offset, value;
	u32 size, calls;
	u8 answer;
};

static u64 probe_read(void *dev, u64 offset, u32 size)
{
	struct probe *d = dev;

	d->offset = offset;
	d->size = size;
	d->calls++;
	return 0x0101010101010101ULL * d->answer;
}

static void probe_write(void *dev, u64 offset, u32 size, u64 value)
{
	struct probe *d = dev;

	d->offset = offset;
	d->size = size;
	d->value = d->value << (size * 8 % 64) | value;
	d->calls++;
}

static int add_port(struct vdev_bus *bus, u64 base, u64 len, struct probe *d, u32 width)
{
	const struct vdev_range r = { base, len, probe_read, probe_write, d, "probe", width };

	return vdev_bus_add_port(bus, &r);
}

static int add_mmio(struct vdev_bus *bus, u64 base, u64 len, struct probe *d)
{
	const struct vdev_range r = { base, len, probe_read, probe_write, d, "probe", 0 };

	return vdev_bus_add_mmio(bus, &r);
}

static void sorted_whatever_the_order(void **state)
{
	static const u64 base[] = { 0x60, 0x20, 0xFFFC, 0x40, 0 };
	struct vdev_bus bus = { 0 };
	struct probe d[5] = { 0 };

	for (u32 i = 0; i < 5; i++)
		assert_int_equal(add_port(&bus, base[i], 4, &d[i], 0), 0);
	for (u32 i = 0; i + 1 < bus.ports; i++)
		assert_true(bus.port[i].base < bus.port[i + 1].base);
	for (u32 i = 0; i < 5; i++) {
		assert_ptr_equal(vdev_bus_find_port(&bus, (u16)base[i], 1)->dev, &d[i]);
		assert_ptr_equal(vdev_bus_find_port(&bus, (u16)(base[i] + 3), 1)->dev, &d[i]);
	}
	assert_null(vdev_bus_find_port(&bus, 4, 1));
	assert_null(vdev_bus_find_port(&bus, 0x1F, 1));
	assert_null(vdev_bus_find_port(&bus, 0x64, 1));
	assert_null(vdev_bus_find_port(&bus, 0xFFFB, 1));
}

static void overlaps_are_refused(void **state)
{
	struct vdev_bus bus = { 0 };
	struct probe d = { 0 };

	assert_int_equal(add_port(&bus, 0x100, 0x10, &d, 0), 0);
	assert_int_equal(add_port(&bus, 0x100, 0x10, &d, 0), -EEXIST);
	assert_int_equal(add_port(&bus, 0x10F, 1, &d, 0), -EEXIST);
	assert_int_equal(add_port(&bus, 0xFF, 2, &d, 0), -EEXIST);
	assert_int_equal(add_port(&bus, 0xF0, 0x100, &d, 0), -EEXIST);
	assert_int_equal(add_port(&bus, 0x108, 2, &d, 0), -EEXIST);
	assert_int_equal(add_port(&bus, 0x110, 1, &d, 0), 0);
	assert_int_equal(add_port(&bus, 0xFF, 1, &d, 0), 0);
	assert_int_equal(bus.ports, 3);
}

static void bad_ranges_are_refused(void **state)
{
	struct vdev_bus bus = { 0 };
	struct probe d = { 0 };
	struct vdev_range r = { 0x10, 1, NULL, probe_write, &d, "no read", 0 };

	assert_int_equal(vdev_bus_add_port(&bus, &r), -EINVAL);
	r.read = probe_read;
	r.write = NULL;
	assert_int_equal(vdev_bus_add_port(&bus, &r), -EINVAL);
	assert_int_equal(add_port(&bus, 0x10, 0, &d, 0), -EINVAL);
	assert_int_equal(add_port(&bus, 0xFFFF, 2, &d, 0), -EINVAL);
	assert_int_equal(add_port(&bus, 0x10000, 1, &d, 0), -EINVAL);
	assert_int_equal(add_port(&bus, 0x10, ~0ULL, &d, 0), -EINVAL);
	assert_int_equal(add_port(&bus, 0x10, 8, &d, 3), -EINVAL);
	assert_int_equal(add_mmio(&bus, 1ULL << 52, 1, &d), -EINVAL);
	assert_int_equal(add_mmio(&bus, (1ULL << 52) - 1, 2, &d), -EINVAL);
	assert_int_equal(bus.ports + bus.mmios, 0);
}

static void a_full_table_says_so(void **state)
{
	struct vdev_bus bus = { 0 };
	struct probe d = { 0 };

	for (u32 i = 0; i < VDEV_BUS_RANGES; i++)
		assert_int_equal(add_port(&bus, i * 2, 1, &d, 0), 0);
	assert_int_equal(add_port(&bus, 0x1000, 1, &d, 0), -ENOSPC);
	assert_ptr_equal(vdev_bus_find_port(&bus, (VDEV_BUS_RANGES - 1) * 2, 1)->dev, &d);
}

static void nobody_answers_all_ones(void **state)
{
	struct vdev_bus bus = { 0 };

	assert_int_equal(vdev_bus_port_read(&bus, 0x80, 1), 0xFF);
	assert_int_equal(vdev_bus_port_read(&bus, 0x80, 2), 0xFFFF);
	assert_int_equal(vdev_bus_port_read(&bus, 0x80, 4), 0xFFFFFFFF);
	assert_int_equal(vdev_bus_port_read(&bus, 0xFFFF, 4), 0xFFFFFFFF);
	assert_true(vdev_bus_mmio_read(&bus, 0xFEC00000, 8) == ~0ULL);
	vdev_bus_port_write(&bus, 0xFFFF, 4, 0);
	vdev_bus_mmio_write(&bus, ~0ULL, 8, 0);
}

static void wide_accesses_are_split(void **state)
{
	struct vdev_bus bus = { 0 };
	struct probe a = { .answer = 0xA1 }, b = { .answer = 0xB2 }, byte = { .answer = 0xC3 };

	assert_int_equal(add_port(&bus, 0x10, 2, &a, 0), 0);
	assert_int_equal(add_port(&bus, 0x13, 1, &b, 0), 0);
	assert_int_equal(add_port(&bus, 0x20, 8, &byte, 1), 0);
	/* Two bytes of a, a hole, one of b. */
	assert_int_equal(vdev_bus_port_read(&bus, 0x10, 4), 0xB2FFA1A1);
	assert_int_equal(a.size, 1);
	assert_int_equal(a.calls, 2);
	assert_int_equal(a.offset, 1);
	vdev_bus_port_write(&bus, 0x10, 4, 0x44332211);
	assert_int_equal(a.value, 0x1122);
	assert_int_equal(a.offset, 1);
	assert_int_equal(b.value, 0x44);
	/* Claimed whole: one access. */
	assert_int_equal(vdev_bus_port_read(&bus, 0x10, 2), 0xA1A1);
	assert_int_equal(a.size, 2);
	/* A device for bytes only. */
	assert_int_equal(vdev_bus_port_read(&bus, 0x22, 2), 0xC3C3);
	assert_int_equal(byte.calls, 2);
	assert_int_equal(byte.offset, 3);
	byte.calls = 0;
	vdev_bus_port_write(&bus, 0x20, 4, 0x11223344);
	assert_int_equal(byte.calls, 4);
	assert_int_equal(byte.value, 0x44332211); /* lowest byte first */
	/* At the end of the port space nothing wraps to port 0. */
	struct probe zero = { 0 };
	assert_int_equal(add_port(&bus, 0, 1, &zero, 0), 0);
	vdev_bus_port_write(&bus, 0xFFFE, 4, 0x12345678);
	assert_int_equal(zero.calls, 0);
}

static void memory_boundaries(void **state)
{
	struct vdev_bus bus = { 0 };
	struct probe d = { .answer = 0x5A };

	assert_int_equal(add_mmio(&bus, 0xFEC00000, 0x1000, &d), 0);
	assert_true(vdev_bus_mmio_read(&bus, 0xFEC00FFC, 4) == 0x5A5A5A5A);
	assert_int_equal(d.offset, 0xFFC);
	assert_true(vdev_bus_mmio_read(&bus, 0xFEC00FFD, 4) == ~0ULL);
	assert_true(vdev_bus_mmio_read(&bus, 0xFEBFFFFF, 1) == ~0ULL);
	assert_true(vdev_bus_mmio_read(&bus, 0xFEC00000, 3) == ~0ULL);
	assert_int_equal(d.calls, 1);
	vdev_bus_mmio_write(&bus, 0xFEC00010, 2, 0x123456789ULL);
	assert_int_equal(d.value, 0x6789); /* clipped to the size */
}

/* Ports are looked up in two ways, below and above a border; a range may lie across it. */
static void the_same_answers_on_both_sides_of_the_index(void **state)
{
	static const struct { u16 port; u32 size; u32 owner; } want[] = {
		{ 0xFEF, 1, 9 }, { 0xFF0, 1, 0 }, { 0xFF7, 1, 0 }, { 0xFF7, 2, 9 }, { 0xFF8, 1, 9 },
		{ 0xFFC, 4, 1 }, { 0xFFE, 4, 1 }, { 0x1000, 4, 1 }, { 0x1001, 4, 9 },
		{ 0x1003, 1, 1 }, { 0x1004, 1, 9 }, { 0x1010, 2, 2 }, { 0x1011, 2, 9 },
	};
	struct vdev_bus bus = { 0 };
	struct probe d[3] = { 0 };

	assert_int_equal(add_port(&bus, 0x1010, 2, &d[2], 0), 0);
	assert_int_equal(add_port(&bus, 0xFFC, 8, &d[1], 0), 0);
	assert_int_equal(add_port(&bus, 0xFF0, 8, &d[0], 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		const struct vdev_range *r = vdev_bus_find_port(&bus, want[i].port, want[i].size);

		if (want[i].owner == 9)
			assert_null(r);
		else
			assert_ptr_equal(r->dev, &d[want[i].owner]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sorted_whatever_the_order),
		cmocka_unit_test(overlaps_are_refused),
		cmocka_unit_test(bad_ranges_are_refused),
		cmocka_unit_test(a_full_table_says_so),
		cmocka_unit_test(nobody_answers_all_ones),
		cmocka_unit_test(wide_accesses_are_split),
		cmocka_unit_test(memory_boundaries),
		cmocka_unit_test(the_same_answers_on_both_sides_of_the_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
