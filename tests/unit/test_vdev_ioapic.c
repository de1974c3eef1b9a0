/* SPDX-License-Identifier: BSD-2-Clause */
// sources: vdev/bus.c vdev/lapic.c vdev/pic.c vdev/ioapic.c vdev/pit.c vdev/rtc.c
// sources: vdev/uart.c vdev/acpi_pm.c vdev/platform.c tests/unit/fake_vdev_host.c
#include "tests/unit/fake_vdev_host.h"

/* Expected values: 82093AA data sheet, ICH9 data sheet 13.5. */
#define BASE 0xFEC00000ULL
#define EDGE 0x00000U
#define LEVEL 0x08000U
#define MASKED 0x10000U
#define LOGICAL 0x00800U
#define REMOTE_IRR 0x04000U

static struct fake_vm *vm;

static u32 rd(u32 index)
{
	vdev_bus_mmio_write(&vm->p.bus, BASE, 4, index);
	return (u32)vdev_bus_mmio_read(&vm->p.bus, BASE + 0x10, 4);
}

static void wr(u32 index, u32 value)
{
	vdev_bus_mmio_write(&vm->p.bus, BASE, 4, index);
	vdev_bus_mmio_write(&vm->p.bus, BASE + 0x10, 4, value);
}

static void route(u32 pin, u32 low, u32 dest)
{
	wr(0x11 + pin * 2, dest << 24);
	wr(0x10 + pin * 2, low);
}

static void eoi(u32 cpu)
{
	vlapic_mmio_write(&vm->lapic[cpu], 0xB0, 4, 0);
}

static int take(u32 cpu)
{
	return vlapic_accept(&vm->lapic[cpu]);
}

static int setup(void **state)
{
	vm = fake_vm_new(2);
	for (u32 i = 0; i < 2; i++)
		vlapic_mmio_write(&vm->lapic[i], 0xF0, 4, 0x1FF);
	vlapic_mmio_write(&vm->lapic[0], 0x350, 4, 0x10000);
	return 0;
}

static int teardown(void **state)
{
	fake_vm_free(vm);
	return 0;
}

static void registers(void **state)
{
	assert_int_equal(rd(0), 0);
	assert_int_equal(rd(1), 0x00170020); /* 24 entries, version 0x20 */
	wr(0, 0xFFFFFFFF);
	assert_int_equal(rd(0), 0x0F000000);
	assert_int_equal(rd(2), 0x0F000000);
	for (u32 pin = 0; pin < 24; pin++) {
		assert_int_equal(rd(0x10 + pin * 2), MASKED);
		assert_int_equal(rd(0x11 + pin * 2), 0);
	}
	wr(0x10, 0xFFFFFFFF);
	assert_int_equal(rd(0x10), 0x1AFFF); /* not status and remote IRR */
	wr(0x11, 0xFFFFFFFF);
	assert_int_equal(rd(0x11), 0xFF000000);
	assert_int_equal(vdev_bus_mmio_read(&vm->p.bus, BASE, 4), 0x11);
	/* Indices that do not exist, widths that do not work. */
	wr(0x40, 0);
	wr(0xFF, 0);
	assert_int_equal(rd(0x40), 0xFFFFFFFF);
	assert_int_equal(rd(0x03), 0xFFFFFFFF);
	vdev_bus_mmio_write(&vm->p.bus, BASE, 1, 0x12);
	vdev_bus_mmio_write(&vm->p.bus, BASE + 0x10, 2, 0);
	assert_int_equal(rd(0x12), MASKED);
	assert_int_equal(vdev_bus_mmio_read(&vm->p.bus, BASE + 0x20, 4), 0);
}

static void edge(void **state)
{
	route(4, EDGE | 0x44, 1);
	vplatform_irq(&vm->p, 4, true);
	assert_int_equal(take(1), 0x44);
	assert_int_equal(take(0), -1);
	eoi(1);
	assert_int_equal(take(1), -1);
	vplatform_irq(&vm->p, 4, true); /* no edge */
	assert_int_equal(take(1), -1);
	vplatform_irq(&vm->p, 4, false);
	vplatform_irq(&vm->p, 4, true);
	assert_int_equal(take(1), 0x44);
	assert_int_equal(rd(0x18) & REMOTE_IRR, 0);
}

static void masked_edges_are_lost(void **state)
{
	route(4, MASKED | 0x44, 0);
	vplatform_irq(&vm->p, 4, true);
	route(4, 0x44, 0);
	assert_int_equal(take(0), -1);
	vplatform_irq(&vm->p, 4, false);
	vplatform_irq(&vm->p, 4, true);
	assert_int_equal(take(0), 0x44);
}

static void level(void **state)
{
	route(9, LEVEL | 0x59, 0);
	vplatform_irq(&vm->p, 9, true);
	assert_int_equal(rd(0x22), LEVEL | REMOTE_IRR | 0x59);
	assert_int_equal(take(0), 0x59);
	/* Still asserted: once per EOI, not per change. */
	vplatform_irq(&vm->p, 9, true);
	assert_int_equal(take(0), -1);
	eoi(0);
	assert_int_equal(take(0), 0x59);
	vplatform_irq(&vm->p, 9, false);
	assert_int_equal(rd(0x22), LEVEL | REMOTE_IRR | 0x59);
	eoi(0);
	assert_int_equal(rd(0x22), LEVEL | 0x59);
	assert_int_equal(take(0), -1);
}

static void eoi_of_an_edge_vector_stays_local(void **state)
{
	route(9, LEVEL | 0x59, 0);
	route(4, EDGE | 0x44, 0);
	vplatform_irq(&vm->p, 9, true);
	assert_int_equal(take(0), 0x59);
	vplatform_irq(&vm->p, 4, true);
	eoi(0); /* ends 0x59 */
	assert_int_equal(take(0), 0x59);
	vplatform_irq(&vm->p, 9, false);
	eoi(0);
	assert_int_equal(take(0), 0x44);
	eoi(0);
	assert_int_equal(rd(0x22), LEVEL | 0x59);
}

static void masked_level_is_delivered_on_unmask(void **state)
{
	route(10, LEVEL | MASKED | 0x60, 0);
	vplatform_irq(&vm->p, 10, true);
	assert_int_equal(take(0), -1);
	assert_int_equal(rd(0x24) & REMOTE_IRR, 0);
	wr(0x24, LEVEL | 0x60);
	assert_int_equal(take(0), 0x60);
	/* Masked while in service: the EOI does not re-deliver, unmasking does. */
	wr(0x24, LEVEL | MASKED | 0x60);
	eoi(0);
	assert_int_equal(take(0), -1);
	wr(0x24, LEVEL | 0x60);
	assert_int_equal(take(0), 0x60);
}

static void eoi_register_and_edge_toggle(void **state)
{
	route(9, LEVEL | 0x59, 0);
	vplatform_irq(&vm->p, 9, true);
	assert_int_equal(take(0), 0x59);
	vplatform_irq(&vm->p, 9, false);
	vdev_bus_mmio_write(&vm->p.bus, BASE + 0x40, 4, 0x58); /* another vector */
	assert_int_equal(rd(0x22) & REMOTE_IRR, REMOTE_IRR);
	vdev_bus_mmio_write(&vm->p.bus, BASE + 0x40, 4, 0x59);
	assert_int_equal(rd(0x22) & REMOTE_IRR, 0);
	vplatform_irq(&vm->p, 9, true);
	assert_int_equal(rd(0x22) & REMOTE_IRR, REMOTE_IRR);
	wr(0x22, MASKED | 0x59);
	assert_int_equal(rd(0x22) & REMOTE_IRR, 0);
}

static void refused_level_leaves_no_remote_irr(void **state)
{
	route(9, LEVEL | 0x59, 7); /* no such APIC */
	vplatform_irq(&vm->p, 9, true);
	assert_int_equal(rd(0x22) & REMOTE_IRR, 0);
	wr(0x23, 0);
	wr(0x22, LEVEL | 0x59);
	assert_int_equal(take(0), 0x59);
}

static void delivery_modes(void **state)
{
	fake_kicks_clear(&vm->host);
	route(5, 0x400, 1); /* NMI */
	vplatform_irq(&vm->p, 5, true);
	assert_int_equal(fake_kicks(&vm->host, 1, VDEV_KICK_NMI), 1);
	route(6, 0x500, 1); /* INIT */
	vplatform_irq(&vm->p, 6, true);
	assert_int_equal(fake_kicks(&vm->host, 1, VDEV_KICK_INIT), 1);
	fake_kicks_clear(&vm->host);
	route(7, 0x377, 1); /* reserved */
	vplatform_irq(&vm->p, 7, true);
	route(10, 0x00F, 1); /* vector 15 */
	vplatform_irq(&vm->p, 10, true);
	assert_int_equal(vm->host.kicks, 0);
	/* Logical and lowest priority. */
	vlapic_mmio_write(&vm->lapic[0], 0xD0, 4, 1U << 24);
	vlapic_mmio_write(&vm->lapic[1], 0xD0, 4, 2U << 24);
	vlapic_mmio_write(&vm->lapic[0], 0x80, 4, 0x20);
	route(11, LOGICAL | 0x100 | 0x71, 3);
	vplatform_irq(&vm->p, 11, true);
	assert_int_equal(take(0), -1);
	assert_int_equal(take(1), 0x71);
}

static void isa_wiring(void **state)
{
	route(2, 0x32, 0);
	route(0, 0x30, 0);
	vplatform_irq(&vm->p, 0, true); /* the PIT is on pin 2 */
	assert_int_equal(take(0), 0x32);
	eoi(0);
	route(2, 0x32, 0);
	vplatform_irq(&vm->p, 2, true); /* the cascade is no source */
	assert_int_equal(take(0), -1);
	route(23, 0x47, 0);
	vplatform_irq(&vm->p, 23, true);
	assert_int_equal(take(0), 0x47);
	eoi(0);
	vplatform_irq(&vm->p, 24, true);
	vplatform_irq(&vm->p, ~0U, true);
	assert_int_equal(take(0), -1);
}

static void pic_through_the_ioapic(void **state)
{
	outb(vm, 0x20, 0x11);
	outb(vm, 0x21, 0x20);
	outb(vm, 0x21, 0x04);
	outb(vm, 0x21, 0x01);
	outb(vm, 0x21, 0x00);
	route(0, 0x700, 1); /* ExtINT to CPU 1 */
	fake_kicks_clear(&vm->host);
	vplatform_irq(&vm->p, 3, true);
	assert_int_equal(fake_kicks(&vm->host, 1, VDEV_KICK_IRQ), 1);
	assert_int_equal(vlapic_pending(&vm->lapic[0]), -1);
	assert_int_equal(take(1), 0x23);
	assert_int_equal(take(1), -1);
}

static void reset_masks_all(void **state)
{
	route(9, LEVEL | 0x59, 0);
	vplatform_irq(&vm->p, 9, true);
	vplatform_reset(&vm->p);
	assert_int_equal(rd(0x22), MASKED);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(registers), T(edge), T(masked_edges_are_lost), T(level),
		T(eoi_of_an_edge_vector_stays_local), T(masked_level_is_delivered_on_unmask),
		T(eoi_register_and_edge_toggle), T(refused_level_leaves_no_remote_irr),
		T(delivery_modes), T(isa_wiring), T(pic_through_the_ioapic), T(reset_masks_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
