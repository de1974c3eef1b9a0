/* SPDX-License-Identifier: BSD-2-Clause */
// sources: vdev/bus.c vdev/lapic.c vdev/pic.c vdev/ioapic.c vdev/pit.c vdev/rtc.c
// sources: vdev/uart.c vdev/acpi_pm.c vdev/platform.c tests/unit/fake_vdev_host.c
#include "tests/unit/fake_vdev_host.h"

#include "core/errno.h"

/* Expected values: ACPI 6.5, 4.8.3; ICH9 data sheet for ports 0x92 and 0xCF9. */
static struct fake_vm *vm;

static u32 in(u16 port, u32 size)
{
	return vdev_bus_port_read(&vm->p.bus, port, size);
}

static void out(u16 port, u32 size, u32 value)
{
	vdev_bus_port_write(&vm->p.bus, port, size, value);
}

static bool sci(void)
{
	return vm->p.ioapic.line >> 9 & 1;
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

static void pm_timer(void **state)
{
	assert_int_equal(in(0x608, 4), 0);
	fake_advance(&vm->host, 1000000000);
	assert_int_equal(in(0x608, 4), 3579545);
	fake_advance(&vm->host, 3599ULL * 1000000000);
	assert_int_equal(in(0x608, 4), (u32)(3600ULL * 3579545)); /* 32 bits wrap */
	out(0x608, 4, 0);
	assert_int_equal(in(0x608, 4), (u32)(3600ULL * 3579545));
	assert_int_equal(in(0x609, 1), (u32)(3600ULL * 3579545) >> 8 & 0xFF);
}

static void pm_timer_carry(void **state)
{
	/* 2^31 ticks are 599.9 s; the first whole nanosecond after: ceil(2^31 * 10^9 / 3579545). */
	u64 carry = (u64)(((unsigned __int128)1000000000 * 0x80000000U + 3579544) / 3579545);

	assert_null(vm->host.timers);
	out(0x602, 2, 0x0001);
	fake_advance(&vm->host, carry - 1);
	assert_false(sci());
	assert_int_equal(in(0x600, 2), 0);
	fake_advance(&vm->host, 1);
	assert_true(sci());
	assert_int_equal(in(0x600, 4), 0x00010001);
	out(0x600, 2, 0x0001);
	assert_false(sci());
	assert_int_equal(in(0x600, 2), 0);
	fake_advance(&vm->host, carry); /* from 1 to 0 counts as well */
	assert_true(sci());
	out(0x600, 2, 0xFFFF);
	out(0x602, 2, 0);
	assert_null(vm->host.timers);
	fake_advance(&vm->host, carry);
	assert_false(sci());
	assert_int_equal(in(0x600, 2), 0x0001); /* noted without interrupt */
}

static void power_button(void **state)
{
	vacpi_pm_power_button(&vm->p.pm);
	assert_false(sci());
	assert_int_equal(in(0x600, 2), 0x0100);
	out(0x602, 2, 0xFFFF);
	assert_int_equal(in(0x602, 2), 0x0521); /* timer, global lock, button, RTC */
	assert_true(sci());
	out(0x601, 1, 0x01); /* a byte of it */
	assert_false(sci());
	assert_int_equal(in(0x602, 2), 0x0521);
}

static void power_off(void **state)
{
	assert_int_equal(in(0x604, 2), 0x0001); /* always ACPI mode */
	out(0x604, 2, 0x1400);
	assert_int_equal(vm->host.power, -1); /* no SLP_EN */
	assert_int_equal(in(0x604, 2), 0x1401);
	out(0x604, 1, 0x02); /* the other byte stays */
	assert_int_equal(in(0x604, 2), 0x1403);
	out(0x604, 2, 0x2400); /* S1: not offered */
	assert_int_equal(vm->host.power, -1);
	out(0x604, 2, 0x3400);
	assert_int_equal(vm->host.power, VDEV_POWER_OFF);
	assert_int_equal(in(0x604, 2), 0x1401); /* SLP_EN reads 0 */
}

static void power_off_by_bytes(void **state)
{
	out(0x605, 1, 0x34);
	assert_int_equal(vm->host.power, VDEV_POWER_OFF);
}

static void reset_register(void **state)
{
	out(0xCF9, 1, 0x02);
	assert_int_equal(vm->host.power, -1);
	assert_int_equal(in(0xCF9, 1), 0x02);
	out(0xCF9, 1, 0x06);
	assert_int_equal(vm->host.power, VDEV_POWER_RESET);
	assert_int_equal(vm->host.powers, 1);
	out(0xCF9, 1, 0x06); /* no rising edge */
	assert_int_equal(vm->host.powers, 1);
}

static void pci_probes_reset_nothing(void **state)
{
	out(0xCF8, 4, 0x80000600); /* a function whose number has the reset bit */
	out(0xCF8, 4, 0xFFFFFFFF);
	out(0xCF8, 2, 0x0600);
	out(0xCFB, 1, 0x01);
	out(0xCFC, 4, 0xFFFFFFFF);
	assert_int_equal(vm->host.power, -1);
	assert_int_equal(in(0xCF8, 4), 0xFFFFFFFF);
	assert_int_equal(in(0xCFC, 4), 0xFFFFFFFF);
	assert_int_equal(in(0xCF9, 2), 0xFFFF);
}

static void keyboard_controller(void **state)
{
	assert_int_equal(in(0x64, 1), 0xFF);
	assert_int_equal(in(0x60, 1), 0xFF);
	out(0x64, 1, 0xAA);
	out(0x64, 1, 0xD1);
	out(0x60, 1, 0xFE);
	out(0x64, 1, 0xFF); /* pulses nothing */
	assert_int_equal(vm->host.power, -1);
	out(0x64, 1, 0xFE);
	assert_int_equal(vm->host.power, VDEV_POWER_RESET);
}

static void port_92(void **state)
{
	assert_int_equal(in(0x92, 1), 0x02);
	out(0x92, 1, 0x00);
	assert_int_equal(in(0x92, 1), 0x00);
	out(0x92, 1, 0xFE);
	assert_int_equal(in(0x92, 1), 0x02);
	assert_int_equal(vm->host.power, -1);
	out(0x92, 1, 0x03);
	assert_int_equal(vm->host.power, VDEV_POWER_RESET);
}

static void debug_ports(void **state)
{
	out(0x80, 1, 0x42);
	assert_int_equal(in(0x80, 1), 0x42);
	out(0x402, 1, 'F');
	assert_int_equal(vm->host.out[0][0], 'F');
	assert_int_equal(in(0x402, 1), 0xE9);
	vm->host.room = 0;
	out(0x402, 1, 'G');
	assert_int_equal(vm->host.outs[0], 1);
	out(0xF4, 4, 0x12345678);
	assert_int_equal(vm->host.power, VDEV_POWER_DEBUG_EXIT);
	assert_int_equal(vm->host.power_code, 0x12345678);
	out(0xF4, 1, 0x21);
	assert_int_equal(vm->host.power_code, 0x21);
}

static void bad_configurations(void **state)
{
	struct vdev_host host = { 0 };
	struct vdev_platform p;
	struct vdev_platform_config config = { .cpus = 0, .phys_bits = 40 };

	assert_int_equal(vplatform_init(&p, &host, &config), -EINVAL);
	config.cpus = 65;
	assert_int_equal(vplatform_init(&p, &host, &config), -EINVAL);
	config.cpus = 64;
	config.phys_bits = 31;
	assert_int_equal(vplatform_init(&p, &host, &config), -EINVAL);
	config.phys_bits = 53;
	assert_int_equal(vplatform_init(&p, &host, &config), -EINVAL);
	config.phys_bits = 52;
	assert_int_equal(vplatform_init(&p, &host, &config), 0);
	vplatform_destroy(&p);
}

static void reset_of_the_platform(void **state)
{
	out(0x602, 2, 0x0100);
	vacpi_pm_power_button(&vm->p.pm);
	out(0xCF9, 1, 0x06);
	vplatform_reset(&vm->p);
	assert_false(sci());
	assert_int_equal(in(0x600, 4), 0);
	assert_int_equal(in(0xCF9, 1), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(pm_timer), T(pm_timer_carry), T(power_button), T(power_off),
		T(power_off_by_bytes), T(reset_register), T(pci_probes_reset_nothing), T(keyboard_controller), T(port_92),
		T(debug_ports), T(bad_configurations), T(reset_of_the_platform),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
