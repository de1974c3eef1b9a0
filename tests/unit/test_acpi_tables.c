/* SPDX-License-Identifier: BSD-2-Clause */
// sources: vdev/acpi_tables.c core/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "vdev/acpi_tables.h"
#include "vdev/platform.h"

static u8 *area;
static u32 ids[VDEV_MAX_CPUS];

static int setup(void **state)
{
	area = calloc(1, ACPI_TABLES_SIZE);
	for (u32 i = 0; i < VDEV_MAX_CPUS; i++)
		ids[i] = i;
	return area ? 0 : -1;
}

static int teardown(void **state)
{
	free(area);
	return 0;
}

static gpa_t build(u32 cpus, bool com2)
{
	struct acpi_tables_config config = {
		.cpus = cpus, .apic_id = ids, .com = { true, com2 },
	};

	return acpi_tables_write(area, &config);
}

static u32 get(const u8 *p, u32 bytes)
{
	u32 v = 0;

	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

static u8 sum(const u8 *p, u32 len)
{
	u8 s = 0;

	while (len--)
		s = (u8)(s + *p++);
	return s;
}

/* The table at a guest address, with its header checked. */
static const u8 *table(u32 address, const char *signature)
{
	const u8 *t;

	assert_in_range(address, ACPI_TABLES_BASE, ACPI_TABLES_BASE + ACPI_TABLES_SIZE - 36);
	t = area + address - ACPI_TABLES_BASE;
	assert_memory_equal(t, signature, 4);
	assert_in_range(get(t + 4, 4), 36, ACPI_TABLES_BASE + ACPI_TABLES_SIZE - address);
	assert_int_equal(sum(t, get(t + 4, 4)), 0);
	return t;
}

/* The n-th entry of the XSDT by way of the RSDP. */
static const u8 *find(gpa_t rsdp, u32 n, const char *signature)
{
	const u8 *r = area + rsdp - ACPI_TABLES_BASE;
	const u8 *xsdt = table(get(r + 24, 4), "XSDT");
	const u8 *rsdt = table(get(r + 16, 4), "RSDT");

	assert_int_equal(get(xsdt + 4, 4), 36 + 2 * 8);
	assert_int_equal(get(rsdt + 4, 4), 36 + 2 * 4);
	assert_int_equal(get(rsdt + 36 + n * 4, 4), get(xsdt + 36 + n * 8, 4));
	assert_int_equal(get(xsdt + 36 + n * 8 + 4, 4), 0);
	return table(get(xsdt + 36 + n * 8, 4), signature);
}

static void test_rsdp(void **state)
{
	gpa_t rsdp = build(2, true);
	const u8 *r = area + rsdp - ACPI_TABLES_BASE;

	assert_in_range(rsdp, 0xe0000, 0xfffff);
	assert_int_equal(rsdp % 16, 0); /* where old systems look: 5.2.5.1 */
	assert_memory_equal(r, "RSD PTR ", 8);
	assert_int_equal(r[15], 2);
	assert_int_equal(get(r + 20, 4), 36);
	assert_int_equal(sum(r, 20), 0);
	assert_int_equal(sum(r, 36), 0);
}

static void test_fadt(void **state)
{
	const u8 *f = find(build(2, true), 0, "FACP");
	const u8 *facs = area + get(f + 36, 4) - ACPI_TABLES_BASE;
	u32 flags = get(f + 112, 4);

	assert_int_equal(get(f + 4, 4), 268);
	assert_int_equal(get(f + 36, 4), ACPI_TABLES_FACS);
	assert_int_equal(get(f + 36, 4) % 64, 0);
	assert_memory_equal(facs, "FACS", 4);
	assert_int_equal(get(facs + 4, 4), 64);
	table(get(f + 40, 4), "DSDT");
	assert_int_equal(get(f + 140, 4), get(f + 40, 4));
	assert_int_equal(get(f + 46, 2), VDEV_IRQ_SCI);
	assert_int_equal(get(f + 48, 4), 0); /* no SMI: always in ACPI mode */
	assert_int_equal(get(f + 56, 4), VDEV_PORT_PM1_EVENT);
	assert_int_equal(get(f + 64, 4), VDEV_PORT_PM1_CONTROL);
	assert_int_equal(get(f + 76, 4), VDEV_PORT_PM_TIMER);
	assert_int_equal(f[88], 4);
	assert_int_equal(f[89], 2);
	assert_int_equal(f[91], 4);
	/* The extended forms: I/O space, width, address. */
	assert_int_equal(get(f + 148, 3), 0x002001);
	assert_int_equal(get(f + 152, 4), VDEV_PORT_PM1_EVENT);
	assert_int_equal(get(f + 172, 3), 0x001001);
	assert_int_equal(get(f + 176, 4), VDEV_PORT_PM1_CONTROL);
	assert_int_equal(get(f + 208, 3), 0x002001);
	assert_int_equal(get(f + 212, 4), VDEV_PORT_PM_TIMER);
	/* IAPC_BOOT_ARCH: legacy devices, no 8042, no VGA. */
	assert_int_equal(get(f + 109, 2), 0x5);
	assert_true(flags & (1 << 0));     /* WBINVD */
	assert_false(flags & (1 << 4));    /* a fixed power button */
	assert_true(flags & (1 << 8));     /* 32-bit timer */
	assert_true(flags & (1 << 10));    /* reset register */
	assert_false(flags & (1 << 20));   /* not hardware-reduced */
	assert_int_equal(get(f + 116, 3), 0x000801);
	assert_int_equal(get(f + 120, 4), VDEV_PORT_RESET);
	assert_int_equal(f[128], VDEV_RESET_VALUE);
}

/* Walks the entries; counts by type and compares with what must be there. */
static void check_madt(const u8 *madt, u32 cpus, u32 x2apics)
{
	u32 count[256] = { 0 };
	u32 len = get(madt + 4, 4);
	u32 cpu = 0;

	assert_int_equal(get(madt + 36, 4), 0xfee00000);
	assert_int_equal(get(madt + 40, 4), 1);
	for (u32 at = 44; at < len; at += madt[at + 1]) {
		const u8 *e = madt + at;

		assert_in_range(e[1], 6, len - at);
		count[e[0]]++;
		if (e[0] == 0) {
			assert_int_equal(e[1], 8);
			assert_int_equal(e[2], cpu);
			assert_int_equal(e[3], ids[cpu++]);
			assert_int_equal(get(e + 4, 4), 1);
		} else if (e[0] == 9) {
			assert_int_equal(e[1], 16);
			assert_int_equal(get(e + 4, 4), ids[cpu]);
			assert_int_equal(get(e + 8, 4), 1);
			assert_int_equal(get(e + 12, 4), cpu++);
		} else if (e[0] == 1) {
			assert_int_equal(get(e + 4, 4), VDEV_IOAPIC_BASE);
			assert_int_equal(get(e + 8, 4), 0);
		} else if (e[0] == 2) {
			assert_int_equal(e[2], 0);
			assert_true((e[3] == 0 && get(e + 4, 4) == 2 && get(e + 8, 2) == 0) ||
				    (e[3] == 9 && get(e + 4, 4) == 9 && get(e + 8, 2) == 0xd));
		} else {
			assert_int_equal(e[0], 4);
			assert_int_equal(e[2], 0xff);
			assert_int_equal(e[5], 1);
		}
	}
	assert_int_equal(count[0], cpus - x2apics);
	assert_int_equal(count[9], x2apics);
	assert_int_equal(count[1], 1);
	assert_int_equal(count[2], 2);
	assert_int_equal(count[4], 1);
}

static void test_madt(void **state)
{
	check_madt(find(build(1, true), 1, "APIC"), 1, 0);
	memset(area, 0, ACPI_TABLES_SIZE);
	ids[63] = 254; /* the highest xAPIC id */
	check_madt(find(build(64, true), 1, "APIC"), 64, 0);
	memset(area, 0, ACPI_TABLES_SIZE);
	ids[62] = 255; /* the broadcast id of xAPIC: only x2APIC can have it */
	ids[63] = 1000;
	check_madt(find(build(64, true), 1, "APIC"), 64, 2);
}

static void test_range(void **state)
{
	assert_int_equal(build(0, true), 0);
	assert_int_equal(build(VDEV_MAX_CPUS + 1, true), 0);
}

/* What the reference disassembler (Debian's acpica-tools) reads from the DSDT. */
static char *disassemble(const u8 *dsdt)
{
	static char text[65536];
	char dir[] = "/tmp/acpi-XXXXXX";
	char command[256];
	FILE *f;
	size_t n;

	assert_non_null(mkdtemp(dir));
	snprintf(command, sizeof(command), "%s/dsdt.aml", dir);
	f = fopen(command, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(dsdt, 1, get(dsdt + 4, 4), f), get(dsdt + 4, 4));
	fclose(f);
	/* Disassemble, compile the result again; both must end well, without a warning. */
	snprintf(command, sizeof(command),
		 "cd %s && iasl -d dsdt.aml >log 2>&1 && iasl -p again dsdt.dsl >>log 2>&1; "
		 "echo \"STATUS $?\" >>log; cat dsdt.dsl log; rm -r %s", dir, dir);
	f = popen(command, "r");
	assert_non_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	pclose(f);
	return text;
}

static void has(const char *text, const char *what)
{
	if (!strstr(text, what))
		fail_msg("no '%s' in:\n%s", what, text);
}

static void test_dsdt(void **state)
{
	const char *text;

	if (access("/usr/bin/iasl", X_OK))
		skip();
	text = disassemble(table(get(find(build(64, true), 0, "FACP") + 40, 4), "DSDT"));
	has(text, "STATUS 0");
	has(text, "0 Errors, 0 Warnings");
	has(text, "\"RAVELN\", \"RAVELIN \"");
	has(text, "Name (_S5");
	has(text, "Scope (\\_SB)");
	has(text, "Device (C000)");
	has(text, "Device (C03F)");
	has(text, "Name (_HID, \"ACPI0007\"");
	has(text, "Name (_UID, 0x3F)");
	has(text, "EisaId (\"PNP0501\")");
	has(text, "EisaId (\"PNP0B00\")");
	has(text, "IO (Decode16,\n                    0x03F8,             // Range Minimum\n"
		  "                    0x03F8,             // Range Maximum\n"
		  "                    0x01,               // Alignment\n"
		  "                    0x08,               // Length");
	has(text, "0x02F8,             // Range Minimum");
	has(text, "IRQNoFlags ()\n                    {4}");
	has(text, "IRQNoFlags ()\n                    {3}");
	has(text, "IRQNoFlags ()\n                    {8}");
	memset(area, 0, ACPI_TABLES_SIZE);
	text = disassemble(table(get(find(build(1, false), 0, "FACP") + 40, 4), "DSDT"));
	has(text, "STATUS 0");
	has(text, "Device (COM1)");
	assert_null(strstr(text, "COM2"));
	assert_null(strstr(text, "Device (C001)"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rsdp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fadt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_madt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_range, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dsdt, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
