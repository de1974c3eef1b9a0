/* SPDX-License-Identifier: BSD-2-Clause */
// sources: guest-pv/loader/cpio.c guest-pv/loader/linux.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "guest-pv/loader/loader.h"

/* --- secrets --- */

static const u8 table[16] = { 0x42, 0xf5, 0x74, 0x1e, 0xdd, 0x71, 0x66, 0x4d,
			      0x96, 0x3e, 0xef, 0x42, 0x87, 0xff, 0x17, 0x3b };
/* 736869e5-84f0-4973-92ec-06879ce3da0b */
static const u8 entry[16] = { 0xe5, 0x69, 0x68, 0x73, 0xf0, 0x84, 0x73, 0x49,
			      0x92, 0xec, 0x06, 0x87, 0x9c, 0xe3, 0xda, 0x0b };
static u8 area[256], out[1024];

static void put32(u8 *p, u32 v) { memcpy(p, &v, 4); }

static void fill(u32 table_len, u32 entry_len)
{
	memset(area, 0, sizeof(area));
	memcpy(area, table, 16);
	put32(area + 16, table_len);
	memcpy(area + 20, entry, 16);
	put32(area + 36, entry_len);
	memcpy(area + 40, "hello", 5);
}

static void test_cpio(void **state)
{
	const u8 *file = out + 124; /* behind the directory: 110 + 11 bytes, padded to 4 */

	fill(45, 25);
	assert_int_equal(ldr_secret_cpio(area, sizeof(area), out, sizeof(out)), 124 + 160 + 8 + 124);
	assert_memory_equal(out, "070701" "00000001" "000041c0", 22);
	assert_string_equal((char *)out + 110, "sev-secret");
	assert_memory_equal(file, "070701" "00000002" "00008100", 22);
	assert_memory_equal(file + 6 + 8 * 6, "00000005", 8);
	assert_string_equal((char *)file + 110, "sev-secret/736869e5-84f0-4973-92ec-06879ce3da0b");
	assert_memory_equal(file + 160, "hello\0\0\0", 8);
	assert_string_equal((char *)file + 160 + 8 + 110, "TRAILER!!!");
}

static void test_cpio_refused(void **state)
{
	memset(area, 0, sizeof(area));
	assert_int_equal(ldr_secret_cpio(area, sizeof(area), out, sizeof(out)), 0);
	area[200] = 1; /* noise */
	assert_int_equal(ldr_secret_cpio(area, sizeof(area), out, sizeof(out)), -1);
	for (u32 i = 0; i < 16; i++) {
		fill(45, 25);
		area[i] ^= 1;
		assert_int_equal(ldr_secret_cpio(area, sizeof(area), out, sizeof(out)), -1);
	}
	static const u32 bad[][2] = { { 19, 25 }, { 257, 25 }, { ~0U, 25 }, { 45, 19 }, { 45, 26 },
				      { 45, 0 }, { 45, ~0U } };
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		fill(bad[i][0], bad[i][1]);
		assert_int_equal(ldr_secret_cpio(area, sizeof(area), out, sizeof(out)), -1);
	}
	for (u64 room = 0; room < 416; room++) {
		fill(45, 25);
		assert_int_equal(ldr_secret_cpio(area, sizeof(area), out, room), -1);
	}
}

/* --- launch information --- */

static struct ldr_info good(void)
{
	struct ldr_info i = { .magic = LDR_INFO_MAGIC, .cpus = 2, .com = 3, .mem_low = MIB(256) };

	i.part[LDR_KERNEL].gpa = MIB(16);
	i.part[LDR_KERNEL].size = MIB(12);
	i.part[LDR_INITRD].gpa = MIB(200);
	i.part[LDR_INITRD].size = 12345;
	i.part[LDR_CMDLINE].gpa = 0x1E2000;
	i.part[LDR_CMDLINE].size = 1;
	return i;
}

#define BAD(change) do { \
	struct ldr_info i = good(); \
	change; \
	assert_false(ldr_info_check(&i, 0x120000, 0x1E2000)); \
} while (0)

static void test_info(void **state)
{
	struct ldr_info ok = good();

	assert_true(ldr_info_check(&ok, 0x120000, 0x1E2000));
	ok.part[LDR_INITRD].size = 0;
	assert_true(ldr_info_check(&ok, 0x120000, 0x1E2000));
	assert_false(ldr_info_check(&ok, MIB(2) + 1, 0x1E2000));
	BAD(i.magic++);
	BAD(i.cpus = 0);
	BAD(i.cpus = 65);
	BAD(i.mem_low = MIB(200));
	BAD(i.mem_low = GIB(4));
	BAD(i.mem_high = BIT(41));
	BAD(i.part[LDR_KERNEL].size = 0);
	BAD(i.part[LDR_KERNEL].gpa = 0x100000);
	BAD(i.part[LDR_KERNEL].size = ~0UL);
	BAD(i.part[LDR_KERNEL].gpa = MIB(199));
	BAD(i.part[LDR_INITRD].gpa = MIB(20));
	BAD(i.part[LDR_INITRD].gpa += 1);
	BAD(i.part[LDR_INITRD].gpa = MIB(256) - 4096);
	BAD(i.part[LDR_INITRD].size = MIB(56) - LDR_CPIO_ROOM + 1);
	BAD(i.part[LDR_CMDLINE].gpa = 0x1E3000);
	BAD(i.part[LDR_CMDLINE].size = 0);
	BAD(i.part[LDR_CMDLINE].size = 4097);
}

/* --- kernel --- */

static u8 file[0x10000];
#define SETUP 4096UL
#define GPA (MIB(16) - SETUP)

static void make_kernel(void)
{
	memset(file, 0, sizeof(file));
	file[0x1F1] = 7;
	memcpy(file + 0x1FE, "\x55\xaa\xeb\x66HdrS\x0f\x02", 10);
	put32(file + 0x230, MIB(2));
	file[0x234] = 1;
	file[0x236] = 1;
	put32(file + 0x260, MIB(50));
	put32(file + 0x250, 0x1234);
}

static void test_kernel(void **state)
{
	static const u32 fatal[] = { 0x1FE, 0x202, 0x205, 0x234, 0x236 };
	struct ldr_kernel k;

	make_kernel();
	assert_true(ldr_kernel_check(file, sizeof(file), GPA, &k));
	assert_int_equal(k.entry, MIB(16) + 0x200);
	assert_int_equal(k.end, MIB(66));
	assert_false(ldr_kernel_check(file, sizeof(file), GPA + 4096, &k));
	assert_false(ldr_kernel_check(file, 0xfff, GPA, &k));
	assert_false(ldr_kernel_check(file, SETUP + 0x200, GPA, &k));
	for (u32 i = 0; i < ARRAY_SIZE(fatal); i++) {
		make_kernel();
		file[fatal[i]] ^= 1;
		assert_false(ldr_kernel_check(file, sizeof(file), GPA, &k));
	}
	make_kernel();
	put32(file + 0x230, 3 * MIB(1));
	assert_false(ldr_kernel_check(file, sizeof(file), GPA, &k));
	make_kernel();
	file[0x206] = 0x0b; /* protocol 2.11 has no xloadflags */
	assert_false(ldr_kernel_check(file, sizeof(file), GPA, &k));
}

static u64 get(const u8 *p, u32 size)
{
	u64 v = 0;

	memcpy(&v, p, size);
	return v;
}

static void test_boot_params(void **state)
{
	static const struct { u64 base, size; u32 type; } want[] = {
		{ 0, 0x9f000, 1 }, { 0x9f000, 0x1000, 2 }, { 0xe0000, 0xf000, 3 },
		{ 0xef000, 0x1000, 4 }, { 0x100000, 0x2000, 2 },
		{ 0x102000, MIB(256) - 0x102000, 1 }, { GIB(4), MIB(64), 1 },
	};
	static u8 p[LDR_PARAMS_SIZE];
	struct ldr_boot b = { .kernel = file, .kernel_gpa = GPA, .initrd = MIB(200),
			      .initrd_size = 77, .cmdline = 0x1E2000, .rsdp = 0xE0000,
			      .mem_low = MIB(256), .mem_high = MIB(64) };

	make_kernel();
	memset(p, 0xff, sizeof(p));
	ldr_boot_params(p, &b);
	assert_int_equal(get(p + 0x202, 4), 0x53726448);
	assert_int_equal(p[0x210], 0xff);
	assert_int_equal(get(p + 0x214, 4), MIB(16));
	assert_int_equal(get(p + 0x218, 4), MIB(200));
	assert_int_equal(get(p + 0x21c, 4), 77);
	assert_int_equal(get(p + 0x228, 4), 0x1E2000);
	assert_int_equal(get(p + 0x250, 8), 0); /* no setup data of the file's */
	assert_int_equal(get(p + 0x70, 8), 0xE0000);
	assert_int_equal(get(p + 0x13c, 4), 0); /* no confidential computing blob */
	assert_int_equal(p[0x1e8], ARRAY_SIZE(want));
	for (u32 i = 0; i < ARRAY_SIZE(want); i++) {
		assert_int_equal(get(p + 0x2d0 + 20 * i, 8), want[i].base);
		assert_int_equal(get(p + 0x2d8 + 20 * i, 8), want[i].size);
		assert_int_equal(get(p + 0x2e0 + 20 * i, 4), want[i].type);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpio), cmocka_unit_test(test_cpio_refused),
		cmocka_unit_test(test_info), cmocka_unit_test(test_kernel),
		cmocka_unit_test(test_boot_params),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
