/* SPDX-License-Identifier: BSD-2-Clause */
// sources: drivers/acpi.c core/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "arch/x86/paging.h"
#include "arch/x86/tsc.h"
#include "core/errno.h"
#include "core/log.h"
#include "drivers/acpi.h"

/* "Physical" memory of the test: tables are written to it, then read by acpi_init(). */
#define MEMORY 0x100000UL
static u8 *memory;
static u32 next;
static char messages[65536];
static u32 table[32], tables;

void log_print(u32 level, const char *fmt, ...)
{
	size_t at = strlen(messages);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(messages + at, sizeof(messages) - at, fmt, ap);
	va_end(ap);
}

void delay_us(u64 us)
{
	(void)us;
}

/* A copy of exactly the bytes asked for, so that reading beyond them is caught. Never freed while
 * a test runs, as tables are used for good. */
static void *copies[4096];
static u32 copy_count;

const void *phys_map(paddr_t pa, size_t size)
{
	void *p;

	if (size == 0 || pa >= MEMORY || size > MEMORY - pa)
		return NULL;
	p = malloc(size);
	memcpy(p, memory + pa, size);
	copies[copy_count++] = p;
	return p;
}

void *mmio_map(paddr_t pa, size_t size)
{
	return (void *)(uintptr_t)phys_map(pa, size);
}

static int start(void **state)
{
	if (memory == NULL)
		memory = malloc(MEMORY);
	memset(memory, 0, MEMORY);
	next = 0x10000;
	tables = 0;
	messages[0] = '\0';
	memset(&acpi, 0, sizeof(acpi));
	return 0;
}

static int end(void **state)
{
	while (copy_count > 0)
		free(copies[--copy_count]);
	return 0;
}

static void fix_sum(u32 at, u32 len, u32 field)
{
	u8 s = 0;

	memory[at + field] = 0;
	for (u32 i = 0; i < len; i++)
		s = (u8)(s + memory[at + i]);
	memory[at + field] = (u8)-s;
}

/* A table with this body behind its header. Returns its address. */
static u32 add(const char *signature, const void *body, u32 len)
{
	u32 at = next, length = 36 + len;

	memcpy(memory + at, signature, 4);
	memcpy(memory + at + 4, &length, 4);
	memcpy(memory + at + 36, body, len);
	fix_sum(at, length, 9);
	next = (next + length + 63) & ~63U;
	if (strcmp(signature, "DSDT") != 0)
		table[tables++] = at;
	return at;
}

#define RSDP 0xf0000U

static u32 xsdt_at, rsdt_at;

static void finish(bool version2)
{
	u64 wide[32];
	u32 count = tables, length = 36;

	for (u32 i = 0; i < count; i++)
		wide[i] = table[i];
	rsdt_at = add("RSDT", table, count * 4);
	xsdt_at = add("XSDT", wide, count * 8);
	memcpy(memory + RSDP, "RSD PTR ", 8);
	memcpy(memory + RSDP + 16, &rsdt_at, 4);
	memory[RSDP + 15] = version2 ? 2 : 0;
	if (version2) {
		u64 x = xsdt_at;

		memcpy(memory + RSDP + 20, &length, 4);
		memcpy(memory + RSDP + 24, &x, 8);
	}
	fix_sum(RSDP, 20, 8);
	if (version2)
		fix_sum(RSDP, 36, 32);
}

/* Two CPUs, one disabled, one x2APIC, an I/O APIC, IRQ 0 on GSI 2. */
static const u8 madt[] = {
	0x00, 0x00, 0xe0, 0xfe, 1, 0, 0, 0,
	0, 8, 10, 0, 1, 0, 0, 0,
	0, 8, 11, 1, 1, 0, 0, 0,
	0, 8, 12, 2, 0, 0, 0, 0,
	9, 16, 0, 0, 0x00, 0x01, 0, 0, 1, 0, 0, 0, 77, 0, 0, 0,
	1, 12, 5, 0, 0x00, 0x00, 0xc0, 0xfe, 0, 0, 0, 0,
	2, 10, 0, 0, 2, 0, 0, 0, 0x0d, 0,
};

static u32 add_fadt(u32 dsdt, bool port_timer)
{
	u8 f[208] = { 0 }; /* offsets less 36 */
	u32 pm1a = 0xb004, timer = 0x608, flags = 1 << 10 | 1 << 8;

	memcpy(f + 40 - 36, &dsdt, 4);
	f[46 - 36] = 9;
	memcpy(f + 64 - 36, &pm1a, 4);
	memcpy(f + 76 - 36, &timer, 4);
	f[91 - 36] = port_timer ? 4 : 0;
	memcpy(f + 112 - 36, &flags, 4);
	f[116 - 36] = 1; /* reset register: port 0xcf9 */
	f[117 - 36] = 8;
	f[120 - 36] = 0xf9;
	f[121 - 36] = 0x0c;
	f[128 - 36] = 6;
	return add("FACP", f, sizeof(f));
}

static void test_good(void **state)
{
	static const u8 dsdt[] = { 0x10, 0x05, 0x08, '_', 'S', '5', '_', 0x12, 0x08, 0x04,
				   0x0a, 0x05, 0x0a, 0x03, 0x00, 0x00, 0x00 };
	static const u8 mcfg[24] = { [8] = 0, 0, 0, 0xb0, [18] = 0, [19] = 0xff };

	add("APIC", madt, sizeof(madt));
	add_fadt(add("DSDT", dsdt, sizeof(dsdt)), true);
	add("MCFG", mcfg, sizeof(mcfg));
	finish(true);
	assert_int_equal(acpi_init(RSDP), 0);
	assert_int_equal(acpi.cpus, 3);
	assert_int_equal(acpi.cpu[0].apic_id, 0);
	assert_int_equal(acpi.cpu[1].uid, 11);
	assert_int_equal(acpi.cpu[2].apic_id, 256);
	assert_int_equal(acpi.cpu[2].uid, 77);
	assert_int_equal(acpi.ioapics, 1);
	assert_int_equal(acpi.ioapic[0].base, 0xfec00000);
	assert_int_equal(acpi.ioapic[0].id, 5);
	assert_int_equal(acpi.overrides, 1);
	assert_int_equal(acpi.override[0].gsi, 2);
	assert_int_equal(acpi.override[0].flags, 0x0d);
	assert_true(acpi.has_8259);
	assert_int_equal(acpi.pm_timer_port, 0x608);
	assert_int_equal(acpi.pm1a_control, 0xb004);
	assert_true(acpi.reset_supported);
	assert_int_equal(acpi.reset.address, 0xcf9);
	assert_int_equal(acpi.reset_value, 6);
	assert_true(acpi.s5_known);
	assert_int_equal(acpi.s5_typ_a, 5);
	assert_int_equal(acpi.s5_typ_b, 3);
	assert_int_equal(acpi.ecams, 1);
	assert_int_equal(acpi.ecam[0].base, 0xb0000000);
	assert_int_equal(acpi.ecam[0].bus_last, 0xff);
	assert_non_null(acpi_find("MCFG", 0));
	assert_null(acpi_find("MCFG", 1));
	assert_null(acpi_find("XXXX", 0));
}

static void test_old_rsdp(void **state)
{
	add("APIC", madt, sizeof(madt));
	finish(false);
	assert_int_equal(acpi_init(RSDP), 0);
	assert_int_equal(acpi.cpus, 3);
}

static void test_search(void **state)
{
	add("APIC", madt, sizeof(madt));
	finish(true);
	assert_int_equal(acpi_init(0), 0);
	assert_int_equal(acpi.cpus, 3);
}

static void test_bad_table_checksum(void **state)
{
	u32 at = add("APIC", madt, sizeof(madt));

	memory[at + 50] ^= 1;
	finish(true);
	assert_int_equal(acpi_init(RSDP), 0);
	assert_int_equal(acpi.cpus, 0);
	assert_non_null(strstr(messages, "APIC"));
	assert_non_null(strstr(messages, "checksum"));
}

static void test_bad_xsdt_falls_back(void **state)
{
	add("APIC", madt, sizeof(madt));
	finish(true);
	memory[xsdt_at + 10] ^= 1;
	assert_int_equal(acpi_init(RSDP), 0);
	assert_int_equal(acpi.cpus, 3);
	memory[rsdt_at + 10] ^= 1;
	assert_int_equal(acpi_init(RSDP), -EPROTO);
}

static void test_bad_rsdp(void **state)
{
	add("APIC", madt, sizeof(madt));
	finish(true);
	memory[RSDP + 9] ^= 1;
	assert_int_equal(acpi_init(RSDP), -ENOENT);
	assert_non_null(strstr(messages, "RSDP"));
}

static void test_lengths(void **state)
{
	static const u32 lengths[] = { 0, 8, 35, 0x80000000, 0xffffffff };

	for (u32 i = 0; i < ARRAY_SIZE(lengths); i++) {
		u32 at;

		start(NULL);
		at = add("APIC", madt, sizeof(madt));
		memcpy(memory + at + 4, &lengths[i], 4);
		finish(true);
		assert_int_equal(acpi_init(RSDP), 0);
		assert_int_equal(acpi.cpus, 0);
	}
}

/* Structures within the MADT: zero length, longer than what is left, too short for their type. */
static void test_madt_structures(void **state)
{
	static const u8 bad[][4] = { { 0, 0 }, { 0, 1 }, { 0, 200 }, { 9, 4, 0, 0 } };

	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		u8 body[8 + 8 + 4] = { 0 };

		start(NULL);
		memcpy(body + 8, madt + 8, 8);
		memcpy(body + 16, bad[i], 4);
		add("APIC", body, sizeof(body));
		finish(true);
		assert_int_equal(acpi_init(RSDP), 0);
		assert_int_equal(acpi.cpus, 1); /* what came before still counts */
	}
}

static void test_too_many_cpus(void **state)
{
	static u8 body[8 + 16 * (CPU_MAX + 5)];

	for (u32 i = 0; i < CPU_MAX + 5; i++) {
		u8 *e = body + 8 + 16 * i;

		e[0] = 9;
		e[1] = 16;
		memcpy(e + 4, &i, 4);
		e[8] = 1;
	}
	add("APIC", body, sizeof(body));
	finish(true);
	assert_int_equal(acpi_init(RSDP), 0);
	assert_int_equal(acpi.cpus, CPU_MAX);
	assert_int_equal(acpi.cpus_ignored, 5);
}

static void s5(const u8 *body, u32 len, bool known)
{
	start(NULL);
	add_fadt(add("DSDT", body, len), false);
	finish(true);
	assert_int_equal(acpi_init(RSDP), 0);
	assert_int_equal(acpi.s5_known, known);
	assert_int_equal(acpi.pm_timer_port, 0);
}

static void test_s5_forms(void **state)
{
	static const u8 ones[] = { 0x08, '_', 'S', '5', '_', 0x12, 0x06, 0x04, 1, 0, 0, 0 };
	static const u8 longlen[] = { 0x08, '_', 'S', '5', '_', 0x12, 0x4a, 0x00, 0x04,
				      0x0a, 7, 0x0a, 7, 0, 0 };
	static const u8 noname[] = { 0x08, '_', 'S', '5', '_', 0x0a, 5, 0, 0, 0, 0, 0 };
	static const u8 cut[] = { 0x08, '_', 'S', '5', '_', 0x12, 0x06, 0x04, 0x0a };

	s5(ones, sizeof(ones), true);
	assert_int_equal(acpi.s5_typ_a, 1);
	s5(longlen, sizeof(longlen), true);
	assert_int_equal(acpi.s5_typ_a, 7);
	s5(noname, sizeof(noname), false);
	s5(cut, sizeof(cut), false);
	s5((const u8 *)"_S5_", 4, false);
}

/* Damage everywhere, with the checksums made good again. */
static void test_random_damage(void **state)
{
	static const u8 dsdt[] = { 0x08, '_', 'S', '5', '_', 0x12, 0x08, 0x04, 0x0a, 5, 0x0a, 3, 0, 0 };
	u32 seed = 5;

	for (u32 round = 0; round < 2000; round++) {
		u32 at, f;

		start(NULL);
		at = add("APIC", madt, sizeof(madt));
		f = add_fadt(add("DSDT", dsdt, sizeof(dsdt)), true);
		for (u32 i = 0; i < 6; i++) {
			seed = seed * 1664525 + 1013904223;
			memory[at + 36 + (seed >> 8) % sizeof(madt)] = (u8)(seed >> 24);
			memory[f + 36 + (seed >> 16) % 208] = (u8)(seed >> 20);
		}
		fix_sum(at, 36 + sizeof(madt), 9);
		fix_sum(f, 36 + 208, 9);
		finish(true);
		assert_int_equal(acpi_init(RSDP), 0);
		assert_in_range(acpi.cpus, 0, CPU_MAX);
		end(NULL);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, start, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_good), T(test_old_rsdp), T(test_search), T(test_bad_table_checksum),
		T(test_bad_xsdt_falls_back), T(test_bad_rsdp), T(test_lengths),
		T(test_madt_structures), T(test_too_many_cpus), T(test_s5_forms),
		T(test_random_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
