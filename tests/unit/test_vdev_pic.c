/* SPDX-License-Identifier: BSD-2-Clause */
// sources: vdev/bus.c vdev/lapic.c vdev/pic.c vdev/ioapic.c vdev/pit.c vdev/rtc.c
// sources: vdev/uart.c vdev/acpi_pm.c vdev/platform.c tests/unit/fake_vdev_host.c
#include "tests/unit/fake_vdev_host.h"

/* Expected values: Intel 8259A data sheet. Vectors 0x20..0x27 and 0x28..0x2F. */
static struct fake_vm *vm;

static void init_pair(u8 icw4_master)
{
	outb(vm, 0x20, 0x11);
	outb(vm, 0x21, 0x20);
	outb(vm, 0x21, 0x04);
	outb(vm, 0x21, icw4_master);
	outb(vm, 0xA0, 0x11);
	outb(vm, 0xA1, 0x28);
	outb(vm, 0xA1, 0x02);
	outb(vm, 0xA1, 0x01);
	outb(vm, 0x21, 0x00);
	outb(vm, 0xA1, 0x00);
}

static void pulse(u32 irq)
{
	vplatform_irq(&vm->p, irq, true);
	vplatform_irq(&vm->p, irq, false);
}

/* The vector of the next interrupt, or -1 when INTR is low. */
static int take(void)
{
	return vm->p.pic.intr ? vpic_inta(&vm->p.pic) : -1;
}

static u8 read_isr(u16 port)
{
	outb(vm, port, 0x0B);
	return inb(vm, port);
}

static u8 read_irr(u16 port)
{
	outb(vm, port, 0x0A);
	return inb(vm, port);
}

static int setup(void **state)
{
	vm = fake_vm_new(1);
	init_pair(0x01);
	return 0;
}

static int teardown(void **state)
{
	fake_vm_free(vm);
	return 0;
}

static void masked_after_power_on(void **state)
{
	vplatform_reset(&vm->p);
	assert_int_equal(inb(vm, 0x21), 0xFF);
	assert_int_equal(inb(vm, 0xA1), 0xFF);
	pulse(4);
	assert_int_equal(take(), -1);
}

static void initialisation(void **state)
{
	outb(vm, 0x21, 0xAA);
	pulse(0);
	assert_int_equal(take(), 0x20);
	outb(vm, 0x20, 0xC3); /* priorities, reads of ISR, a request: all are forgotten */
	outb(vm, 0x20, 0x0B);
	pulse(6);
	outb(vm, 0x20, 0x11); /* ICW1 clears mask, requests and service */
	assert_int_equal(inb(vm, 0x20), 0);
	assert_int_equal(inb(vm, 0x21), 0);
	outb(vm, 0x21, 0x57); /* low three bits of the base do not count */
	outb(vm, 0x21, 0x04);
	outb(vm, 0x21, 0x01);
	outb(vm, 0x21, 0xE0); /* operating again: a mask */
	assert_int_equal(inb(vm, 0x21), 0xE0);
	pulse(4);
	assert_int_equal(inb(vm, 0x20), 0x10);
	assert_int_equal(read_isr(0x20), 0);
	pulse(3);
	assert_int_equal(take(), 0x53);
	assert_int_equal(take(), -1);
	/* Single, without ICW4: the next write after ICW2 is a mask. */
	outb(vm, 0x20, 0x12);
	outb(vm, 0x21, 0x60);
	outb(vm, 0x21, 0xFE);
	assert_int_equal(inb(vm, 0x21), 0xFE);
}

static void fixed_priorities_nest(void **state)
{
	pulse(5);
	pulse(3);
	pulse(6);
	assert_int_equal(read_irr(0x20), 0x68);
	assert_int_equal(take(), 0x23);
	assert_int_equal(read_isr(0x20), 0x08);
	assert_int_equal(read_irr(0x20), 0x60);
	assert_int_equal(take(), -1); /* lower ones wait */
	pulse(1);
	assert_int_equal(take(), 0x21); /* a higher one nests */
	assert_int_equal(read_isr(0x20), 0x0A);
	outb(vm, 0x20, 0x20); /* non-specific EOI ends the highest */
	assert_int_equal(read_isr(0x20), 0x08);
	outb(vm, 0x20, 0x63); /* specific EOI of 3 */
	assert_int_equal(read_isr(0x20), 0);
	assert_int_equal(take(), 0x25);
	outb(vm, 0x20, 0x20);
	assert_int_equal(take(), 0x26);
}

static void slave_cascades(void **state)
{
	pulse(12);
	assert_int_equal(vpic_peek(&vm->p.pic), 0x2C);
	assert_int_equal(take(), 0x2C);
	assert_int_equal(read_isr(0x20), 0x04);
	assert_int_equal(read_isr(0xA0), 0x10);
	pulse(8); /* higher in the slave, but the master has 2 in service */
	assert_int_equal(take(), -1);
	pulse(1);
	assert_int_equal(take(), 0x21);
	outb(vm, 0x20, 0x20);
	outb(vm, 0xA0, 0x20);
	outb(vm, 0x20, 0x20);
	assert_int_equal(take(), 0x28);
	outb(vm, 0xA0, 0x20);
	outb(vm, 0x20, 0x20);
	assert_int_equal(read_isr(0x20) | read_isr(0xA0), 0);
	/* Priority between the chips: 8..15 rank at 2. */
	pulse(3);
	pulse(15);
	assert_int_equal(take(), 0x2F);
}

static void special_fully_nested(void **state)
{
	init_pair(0x11);
	pulse(12);
	assert_int_equal(take(), 0x2C);
	pulse(9);
	assert_int_equal(take(), 0x29); /* the slave interrupts its own service */
	pulse(14);
	assert_int_equal(take(), -1);
}

static void masks(void **state)
{
	outb(vm, 0x21, 0x10);
	pulse(4);
	assert_int_equal(take(), -1);
	assert_int_equal(read_irr(0x20), 0x10); /* requested nevertheless */
	outb(vm, 0x21, 0x00);
	assert_int_equal(take(), 0x24);
	outb(vm, 0x20, 0x20);
	outb(vm, 0x21, 0x04); /* masks the whole slave */
	pulse(9);
	assert_int_equal(take(), -1);
	outb(vm, 0x21, 0x00);
	assert_int_equal(take(), 0x29);
}

/* INTR falls and rises with the mask alone, also through the cascade. */
static void mask_moves_intr(void **state)
{
	pulse(4);
	assert_true(vm->p.pic.intr);
	outb(vm, 0x21, 0x10);
	assert_false(vm->p.pic.intr);
	assert_int_equal(inb(vm, 0x21), 0x10);
	outb(vm, 0x21, 0x00);
	assert_int_equal(take(), 0x24);
	outb(vm, 0x20, 0x20);

	pulse(9);
	outb(vm, 0x21, 0x04);
	assert_false(vm->p.pic.intr);
	assert_int_equal(read_irr(0x20), 0x04); /* the slave's output is high */
	outb(vm, 0xA1, 0x02);
	assert_int_equal(read_irr(0x20), 0); /* and is low now, though the master does not look */
	assert_int_equal(read_irr(0xA0), 0x02);
	outb(vm, 0x21, 0x00);
	assert_false(vm->p.pic.intr);
	outb(vm, 0xA1, 0x00);
	assert_int_equal(take(), 0x29);
}

static void automatic_eoi(void **state)
{
	init_pair(0x03);
	pulse(4);
	assert_int_equal(take(), 0x24);
	assert_int_equal(read_isr(0x20), 0);
	pulse(6);
	assert_int_equal(take(), 0x26);
	/* Rotating: the one just served becomes the lowest. */
	outb(vm, 0x20, 0x80);
	pulse(0);
	assert_int_equal(take(), 0x20);
	pulse(0);
	pulse(7);
	assert_int_equal(take(), 0x27);
	assert_int_equal(take(), 0x20);
	outb(vm, 0x20, 0x00); /* rotation off: the order stays as it is, 0 lowest */
	pulse(1);
	assert_int_equal(take(), 0x21);
	pulse(0);
	pulse(1);
	assert_int_equal(take(), 0x21);
}

static void rotation(void **state)
{
	pulse(4);
	pulse(6);
	assert_int_equal(take(), 0x24);
	outb(vm, 0x20, 0xA0); /* rotate on non-specific EOI: 4 lowest, 5 highest */
	pulse(4);
	assert_int_equal(take(), 0x26);
	outb(vm, 0x20, 0xE6); /* rotate on specific EOI: 6 lowest, 7 highest */
	pulse(7);
	assert_int_equal(take(), 0x27);
	outb(vm, 0x20, 0x67);
	assert_int_equal(take(), 0x24);
	outb(vm, 0x20, 0x20);
	outb(vm, 0x20, 0xC2); /* set priority: 2 lowest, 3 highest */
	pulse(1);
	pulse(3);
	assert_int_equal(take(), 0x23);
	outb(vm, 0x20, 0x20);
	assert_int_equal(take(), 0x21);
}

static void special_mask(void **state)
{
	pulse(3);
	assert_int_equal(take(), 0x23);
	pulse(5);
	assert_int_equal(take(), -1);
	outb(vm, 0x21, 0x08); /* masks the level in service ... */
	assert_int_equal(take(), -1);
	outb(vm, 0x20, 0x68); /* ... which in special mask mode lets lower ones through */
	assert_int_equal(take(), 0x25);
	outb(vm, 0x20, 0x65);
	outb(vm, 0x20, 0x48); /* back to normal */
	pulse(6);
	assert_int_equal(take(), -1);
}

static void spurious(void **state)
{
	assert_int_equal(vpic_inta(&vm->p.pic), 0x27);
	assert_int_equal(read_isr(0x20), 0); /* no service bit */
	/* A slave whose request is masked between INTR and INTA: the master's bit 2 is set. */
	vplatform_irq(&vm->p, 9, true);
	assert_true(vm->p.pic.intr);
	vm->p.pic.chip[1].imr = 0xFF;
	assert_int_equal(vpic_inta(&vm->p.pic), 0x2F);
	assert_int_equal(read_isr(0x20), 0x04);
	assert_int_equal(read_isr(0xA0), 0);
}

static void level_triggered(void **state)
{
	outb(vm, 0x4D0, 0xFF);
	outb(vm, 0x4D1, 0xFF);
	assert_int_equal(inb(vm, 0x4D0), 0xF8); /* not 0, 1, 2 */
	assert_int_equal(inb(vm, 0x4D1), 0xDE); /* not 8, 13 */
	vplatform_irq(&vm->p, 5, true);
	assert_int_equal(take(), 0x25);
	outb(vm, 0x20, 0x20);
	assert_int_equal(take(), 0x25); /* still asserted */
	vplatform_irq(&vm->p, 5, false);
	outb(vm, 0x20, 0x20);
	assert_int_equal(take(), -1);
	/* A request by edge stays when another input changes its kind. */
	pulse(6);
	outb(vm, 0x4D0, 0x20);
	outb(vm, 0x4D0, 0x00);
	assert_int_equal(take(), -1); /* 6 was a level a moment ago and its line is low */
	pulse(6);
	outb(vm, 0x4D0, 0x20);
	assert_int_equal(take(), 0x26);
	outb(vm, 0x20, 0x20);
	/* An edge input asks once. */
	outb(vm, 0x4D0, 0x00);
	vplatform_irq(&vm->p, 5, true);
	assert_int_equal(take(), 0x25);
	outb(vm, 0x20, 0x20);
	vplatform_irq(&vm->p, 5, true); /* still high: no edge */
	assert_int_equal(take(), -1);
}

static void poll_command(void **state)
{
	outb(vm, 0x20, 0x0C);
	assert_int_equal(inb(vm, 0x20) & 0x80, 0);
	pulse(6);
	outb(vm, 0x20, 0x0C);
	assert_int_equal(inb(vm, 0x20), 0x86);
	pulse(0);
	outb(vm, 0x20, 0x0C);
	assert_int_equal(inb(vm, 0x20), 0x80);
	outb(vm, 0x20, 0x20);
	assert_int_equal(read_isr(0x20), 0x40);
	assert_int_equal(take(), -1);
}

static void bad_lines(void **state)
{
	vpic_set_irq(&vm->p.pic, 16, true);
	vpic_set_irq(&vm->p.pic, ~0U, true);
	vpic_set_irq(&vm->p.pic, 2, true);
	assert_int_equal(take(), -1);
	assert_int_equal(read_irr(0x20) | read_irr(0xA0), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(masked_after_power_on), T(initialisation), T(fixed_priorities_nest),
		T(slave_cascades), T(special_fully_nested), T(masks), T(mask_moves_intr),
		T(automatic_eoi), T(rotation), T(special_mask), T(spurious), T(level_triggered), T(poll_command),
		T(bad_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
