/* SPDX-License-Identifier: BSD-2-Clause */
// sources: vdev/bus.c vdev/lapic.c vdev/pic.c vdev/ioapic.c vdev/pit.c vdev/rtc.c
// sources: vdev/uart.c vdev/acpi_pm.c vdev/platform.c tests/unit/fake_vdev_host.c
#include "tests/unit/fake_vdev_host.h"

/* Expected values: National PC16550D data sheet. */
static struct fake_vm *vm;
#define COM1 0x3F8

static u8 rd(u32 reg)
{
	return inb(vm, (u16)(COM1 + reg));
}

static void wr(u32 reg, u8 value)
{
	outb(vm, (u16)(COM1 + reg), value);
}

static bool line(u32 irq)
{
	return vm->p.ioapic.line >> irq & 1;
}

static u32 receive(const char *text)
{
	u32 len = 0;

	while (text[len])
		len++;
	return vplatform_console_rx(&vm->p, 0, (const u8 *)text, len);
}

static int setup(void **state)
{
	vm = fake_vm_new(1);
	return 0;
}

static int teardown(void **state)
{
	fake_vm_free(vm);
	return 0;
}

static void power_on(void **state)
{
	assert_int_equal(rd(1), 0);
	assert_int_equal(rd(2), 0x01);
	assert_int_equal(rd(3), 0);
	assert_int_equal(rd(4), 0);
	assert_int_equal(rd(5), 0x60);
	assert_int_equal(rd(6), 0xB0);
}

static void plain_registers(void **state)
{
	wr(7, 0x5A);
	assert_int_equal(rd(7), 0x5A);
	wr(1, 0xFF);
	assert_int_equal(rd(1), 0x0F);
	wr(4, 0xFF);
	assert_int_equal(rd(4), 0x1F);
	wr(3, 0x83); /* DLAB */
	wr(0, 0x01);
	wr(1, 0x02);
	assert_int_equal(rd(0), 0x01);
	assert_int_equal(rd(1), 0x02);
	assert_int_equal(vm->host.outs[0], 0);
	wr(3, 0x03);
	assert_int_equal(rd(1), 0x0F);
	wr(5, 0);
	wr(6, 0);
	assert_int_equal(rd(5), 0x60);
	/* A 16550A shows its FIFOs; only with the enable bit. */
	wr(2, 0x01);
	assert_int_equal(rd(2) & 0xC0, 0xC0);
	wr(2, 0xC0);
	assert_int_equal(rd(2) & 0xC0, 0);
}

static void sends(void **state)
{
	wr(0, 'h');
	wr(0, 'i');
	assert_int_equal(vm->host.outs[0], 2);
	assert_memory_equal(vm->host.out[0], "hi", 2);
	outb(vm, 0x2F8, '2');
	assert_int_equal(vm->host.outs[1], 1);
	assert_int_equal(rd(5), 0x60);
}

static void transmitter_interrupt(void **state)
{
	wr(4, 0x08);
	wr(1, 0x02);
	assert_true(line(4)); /* at once: it is empty */
	assert_int_equal(rd(2), 0x02);
	assert_false(line(4)); /* reading IIR acknowledged */
	assert_int_equal(rd(2), 0x01);
	wr(0, 'x');
	assert_true(line(4));
	/* A write while it is pending gives a new edge. */
	vdev_bus_mmio_write(&vm->p.bus, 0xFEC00000, 4, 0x18);
	vdev_bus_mmio_write(&vm->p.bus, 0xFEC00010, 4, 0x44);
	vlapic_mmio_write(&vm->lapic[0], 0xF0, 4, 0x1FF);
	wr(0, 'y');
	assert_int_equal(vlapic_accept(&vm->lapic[0]), 0x44);
	/* Disabling and enabling again raises it anew. */
	(void)rd(2);
	wr(1, 0x00);
	wr(1, 0x02);
	assert_int_equal(rd(2), 0x02);
}

static void back_pressure(void **state)
{
	wr(4, 0x08);
	wr(2, 0x01);
	vm->host.room = 3;
	for (char c = 'a'; c <= 'z'; c++)
		wr(0, (u8)c);
	assert_int_equal(vm->host.outs[0], 3);
	assert_int_equal(rd(5) & 0x60, 0); /* neither THRE nor idle */
	wr(1, 0x02);
	assert_false(line(4));
	vm->host.room = 5;
	vplatform_console_tx_ready(&vm->p, 0);
	assert_int_equal(vm->host.outs[0], 8);
	assert_false(line(4));
	vm->host.room = 100;
	vplatform_console_tx_ready(&vm->p, 0);
	/* Three sent, sixteen waited, the rest of a guest that did not wait is lost. */
	assert_int_equal(vm->host.outs[0], 19);
	assert_memory_equal(vm->host.out[0], "abcdefghijklmnopqrs", 19);
	assert_true(line(4));
	assert_int_equal(rd(5) & 0x60, 0x60);
	/* A FIFO reset drops what waits; other FIFO settings do not. */
	(void)rd(2);
	vm->host.room = 0;
	wr(0, 'x');
	wr(2, 0x81);
	assert_int_equal(rd(5) & 0x60, 0);
	assert_int_equal(rd(2), 0xC1);
	wr(2, 0x05);
	assert_int_equal(rd(2), 0xC2);
	assert_int_equal(rd(5) & 0x60, 0x60);
	/* A look at LSR tries again, too. */
	wr(0, 'x');
	vm->host.room = 1;
	(void)rd(5);
	assert_int_equal(vm->host.outs[0], 20);
}

static void receives(void **state)
{
	wr(4, 0x08);
	wr(1, 0x01);
	assert_int_equal(receive("ab"), 2);
	assert_true(line(4));
	assert_int_equal(rd(2), 0x04);
	assert_int_equal(rd(5), 0x61);
	assert_int_equal(rd(0), 'a');
	assert_true(line(4));
	assert_int_equal(rd(0), 'b');
	assert_false(line(4));
	assert_int_equal(rd(5), 0x60);
	assert_int_equal(rd(0), 0); /* nothing there, and nothing less afterwards */
	assert_int_equal(rd(5), 0x60);
}

static void trigger_levels(void **state)
{
	static const u8 level[4] = { 1, 4, 8, 14 };

	wr(4, 0x08);
	wr(1, 0x01);
	for (u32 i = 0; i < 4; i++) {
		wr(2, (u8)(0x07 | i << 6));
		for (u32 n = 1; n <= 14; n++) {
			assert_int_equal(receive("x"), 1);
			assert_int_equal(rd(2), n >= level[i] ? 0xC4 : 0xCC); /* below: time-out */
		}
	}
}

static void long_input_waits_in_the_ring(void **state)
{
	u8 text[600];

	for (u32 i = 0; i < sizeof(text); i++)
		text[i] = (u8)i;
	wr(2, 0x01);
	assert_int_equal(vplatform_console_rx(&vm->p, 0, text, sizeof(text)), 512);
	/* The FIFO took 16 of them: so many fit again. */
	assert_int_equal(vplatform_console_rx(&vm->p, 0, text + 512, 88), 16);
	for (u32 i = 0; i < 528; i++) {
		assert_int_equal(rd(5) & 0x03, 0x01);
		assert_int_equal(rd(0), (u8)i);
	}
	assert_int_equal(rd(5) & 0x01, 0);
	/* A FIFO reset forgets at most 16 bytes. */
	assert_int_equal(vplatform_console_rx(&vm->p, 0, text, 20), 20);
	wr(2, 0x03);
	assert_int_equal(rd(0), 16);
}

static void loop_back(void **state)
{
	wr(4, 0x1A); /* what Linux's probe writes */
	assert_int_equal(rd(6) & 0xF0, 0x90);
	wr(4, 0x10);
	assert_int_equal(rd(6) & 0xF0, 0x00);
	wr(4, 0x15);
	assert_int_equal(rd(6) & 0xF0, 0x60);
	wr(2, 0x01);
	wr(0, 'L');
	assert_int_equal(vm->host.outs[0], 0);
	assert_int_equal(rd(5) & 0x01, 0x01);
	assert_int_equal(rd(0), 'L');
	/* Overrun: the 17th byte. */
	for (u32 i = 0; i < 17; i++)
		wr(0, (u8)i);
	assert_int_equal(rd(5) & 0x03, 0x03);
	assert_int_equal(rd(5) & 0x03, 0x01); /* reading cleared it */
	assert_int_equal(rd(0), 0);
	/* Console input waits outside. */
	assert_int_equal(receive("z"), 1);
	for (u32 i = 1; i < 16; i++)
		assert_int_equal(rd(0), i);
	assert_int_equal(rd(5) & 0x01, 0);
	wr(4, 0x00);
	assert_int_equal(receive(""), 0);
	assert_int_equal(rd(0), 'z');
}

static void modem_status(void **state)
{
	wr(4, 0x00);
	(void)rd(6);
	wr(4, 0x10); /* CTS, DSR, DCD fall */
	assert_int_equal(rd(6), 0x0B);
	assert_int_equal(rd(6), 0x00); /* reading cleared the deltas */
	wr(4, 0x14); /* RI rises: no delta */
	assert_int_equal(rd(6), 0x40);
	wr(4, 0x10); /* RI falls: trailing edge */
	assert_int_equal(rd(6), 0x04);
	wr(1, 0x08);
	wr(4, 0x08);
	assert_int_equal(rd(2), 0x00);
	assert_true(line(4));
	(void)rd(6);
	assert_int_equal(rd(2), 0x01);
	assert_false(line(4));
}

static void priorities(void **state)
{
	wr(2, 0x01);
	wr(1, 0x0F);
	wr(4, 0x10);
	for (u32 i = 0; i < 17; i++)
		wr(0, (u8)i);
	assert_int_equal(rd(2), 0xC6); /* line status */
	(void)rd(5);
	assert_int_equal(rd(2), 0xC4); /* data */
	for (u32 i = 0; i < 16; i++)
		(void)rd(0);
	assert_int_equal(rd(2), 0xC2); /* transmitter */
	assert_int_equal(rd(2), 0xC0); /* modem */
	(void)rd(6);
	assert_int_equal(rd(2), 0xC1);
}

static void out2_gates_the_line(void **state)
{
	wr(1, 0x02);
	assert_false(line(4));
	wr(4, 0x08);
	assert_true(line(4));
	wr(4, 0x18);
	assert_false(line(4));
	outb(vm, 0x2F9, 0x02);
	outb(vm, 0x2FC, 0x08);
	assert_true(line(3)); /* COM2 */
	vplatform_reset(&vm->p);
	assert_false(line(3));
}

static void reset_forgets_all(void **state)
{
	wr(1, 0x0F);
	wr(2, 0x01);
	wr(3, 0x03);
	vm->host.room = 0;
	wr(0, 'x');
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(receive("0123456789"), 10);
	vplatform_reset(&vm->p);
	power_on(state);
	wr(2, 0x01);
	assert_int_equal(rd(5), 0x60);
	vm->host.room = 1;
	vplatform_console_tx_ready(&vm->p, 0);
	assert_int_equal(vm->host.outs[0], 0);
}

static void absent_ports(void **state)
{
	struct vdev_host host = { .power = -1 };
	struct vdev_platform p;
	const struct vdev_platform_config config = {
		.com = { false, true }, .cpus = 1, .phys_bits = 36
	};

	assert_int_equal(vplatform_init(&p, &host, &config), 0);
	assert_int_equal(vdev_bus_port_read(&p.bus, COM1 + 5, 1), 0xFF);
	assert_int_equal(vdev_bus_port_read(&p.bus, 0x2FD, 1), 0x60);
	assert_int_equal(vplatform_console_rx(&p, 0, (const u8 *)"x", 1), 0);
	assert_int_equal(vplatform_console_rx(&p, 2, (const u8 *)"x", 1), 0);
	vplatform_console_tx_ready(&p, 7);
	vdev_bus_port_write(&p.bus, 0xF4, 1, 1); /* no debug exit configured */
	assert_int_equal(host.power, -1);
	vplatform_destroy(&p);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(power_on), T(plain_registers), T(sends), T(transmitter_interrupt),
		T(back_pressure), T(receives), T(trigger_levels), T(long_input_waits_in_the_ring),
		T(loop_back), T(modem_status), T(priorities), T(out2_gates_the_line),
		T(reset_forgets_all), T(absent_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
