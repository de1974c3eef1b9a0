/* SPDX-License-Identifier: BSD-2-Clause */
// sources: boot/multiboot2.c core/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "boot/boot.h"
#include "core/errno.h"
#include "core/log.h"

static char messages[65536];
static struct boot_info bi;

/* The information under construction; parsed from a copy of exactly its size. */
static u8 info[32768];
static u32 used;

void log_print(u32 level, const char *fmt, ...)
{
	size_t at = strlen(messages);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(messages + at, sizeof(messages) - at, fmt, ap);
	va_end(ap);
}

static void begin(void)
{
	memset(info, 0, sizeof(info));
	used = 8;
	messages[0] = '\0';
	memset(&bi, 0, sizeof(bi));
}

static u32 tag(u32 type, const void *data, u32 len)
{
	u32 at = used, size = len + 8;

	memcpy(info + used, &type, 4);
	memcpy(info + used + 4, &size, 4);
	memcpy(info + used + 8, data, len);
	used = (used + size + 7) & ~7U;
	return at;
}

static void module(u32 start, u32 end, const char *text)
{
	u8 data[512];

	memcpy(data, &start, 4);
	memcpy(data + 4, &end, 4);
	strcpy((char *)data + 8, text);
	tag(3, data, 8 + (u32)strlen(text) + 1);
}

static u32 mmap_tag(u32 entry_size, u32 count, u32 type)
{
	u8 data[2048] = { 0 };

	memcpy(data, &entry_size, 4);
	for (u32 i = 0; i < count; i++) {
		u64 base = MIB(1) * (i + 1), size = MIB(1);

		memcpy(data + 8 + i * entry_size, &base, 8);
		memcpy(data + 16 + i * entry_size, &size, 8);
		memcpy(data + 24 + i * entry_size, &type, 4);
	}
	return tag(6, data, 8 + count * entry_size);
}

static int parse_raw(u32 size)
{
	u8 *copy = malloc(size);
	int err;

	memcpy(copy, info, size);
	err = mb2_parse(copy, size, &bi);
	free(copy);
	return err;
}

static int parse(void)
{
	tag(0, "", 0);
	memcpy(info, &used, 4);
	return parse_raw(used);
}

static void test_all(void **state)
{
	u8 fb[24] = { 0 };
	u64 base = 0xfd000000, st = 0x12345678;
	u32 dims[3] = { 4096, 1024, 768 };
	u8 rsdp[36] = "RSD PTR ";

	begin();
	tag(1, "console=com1 x", 15);
	mmap_tag(24, 3, 1);
	module(0x100000, 0x100400, "vmlinuz");
	module(0x200000, 0x200000, "  empty args are dropped");
	memcpy(fb, &base, 8);
	memcpy(fb + 8, dims, 12);
	fb[20] = 32;
	fb[21] = 1;
	{
		u8 full[30] = { 0 };

		memcpy(full, fb, 24);
		full[24] = 16; /* red */
		full[26] = 8;
		full[28] = 0;
		tag(8, full, 30);
	}
	tag(12, &st, 8);
	tag(15, rsdp, 36);
	tag(99, "unknown", 8);
	assert_int_equal(parse(), 0);
	assert_string_equal(bi.cmdline, "console=com1 x");
	assert_string_equal(bi.door, "multiboot2");
	assert_int_equal(bi.mems, 3);
	assert_int_equal(bi.mem[2].base, MIB(3));
	assert_int_equal(bi.mem[2].type, MEM_RAM);
	assert_int_equal(bi.modules, 2);
	assert_string_equal(bi.module[0].name, "vmlinuz");
	assert_int_equal(bi.module[0].base, 0x100000);
	assert_int_equal(bi.module[0].size, 0x400);
	assert_string_equal(bi.module[1].name, "empty");
	assert_int_equal(bi.fb.base, 0xfd000000);
	assert_int_equal(bi.fb.pitch, 4096);
	assert_int_equal(bi.fb.width, 1024);
	assert_int_equal(bi.fb.height, 768);
	assert_int_equal(bi.fb.red_shift, 16);
	assert_int_equal(bi.fb.green_shift, 8);
	assert_int_equal(bi.efi_system_table, st);
	assert_memory_equal((void *)bi.rsdp, "RSD PTR ", 8);
	assert_string_equal(messages, "");
}

static void test_new_rsdp_wins(void **state)
{
	u8 old[20] = "OLD", new[36] = "NEW";

	begin();
	mmap_tag(24, 1, 1);
	tag(15, new, 36);
	tag(14, old, 20);
	assert_int_equal(parse(), 0);
	assert_string_equal((char *)bi.rsdp, "NEW");
}

static void test_no_memory_map(void **state)
{
	begin();
	module(0x100000, 0x100400, "vmlinuz");
	assert_int_equal(parse(), -ENOENT);
	assert_non_null(strstr(messages, "no memory map"));
}

/* Every truncation of a good structure is refused, never read beyond its end. */
static void test_truncated(void **state)
{
	u32 full;

	begin();
	tag(1, "cmdline", 8);
	mmap_tag(24, 3, 1);
	module(0x100000, 0x100400, "vmlinuz");
	assert_int_equal(parse(), 0);
	full = used;
	for (u32 size = 8; size < full; size++) {
		memset(&bi, 0, sizeof(bi));
		memcpy(info, &size, 4); /* the structure says that it ends here */
		assert_int_equal(parse_raw(size), -EPROTO);
	}
	memcpy(info, &full, 4);
	assert_int_equal(parse_raw(full - 8), -EPROTO); /* says more than there is */
}

static void bad_tag_size(u32 at, u32 size)
{
	memcpy(info + at + 4, &size, 4);
	memset(&bi, 0, sizeof(bi));
	messages[0] = '\0';
	assert_int_equal(parse_raw(used), -EPROTO);
	assert_non_null(strstr(messages, "bad size"));
}

static void test_bad_tag_sizes(void **state)
{
	static const u32 types[] = { 1, 3, 6, 8, 12, 14, 15, 77 };

	for (u32 i = 0; i < ARRAY_SIZE(types); i++) {
		u8 data[64] = { 0 };
		u32 at;

		begin();
		at = tag(types[i], data, 40);
		tag(0, "", 0);
		memcpy(info, &used, 4);
		bad_tag_size(at, 0);
		bad_tag_size(at, 7);
		bad_tag_size(at, used);
		bad_tag_size(at, 0xffffffff);
		bad_tag_size(at, 0xfffffff8);
		if (types[i] == 3 || types[i] == 6 || types[i] == 8 || types[i] == 12)
			bad_tag_size(at, 12);
	}
}

static void test_mmap_entry_size(void **state)
{
	static const u32 bad[] = { 0, 8, 16, 23, 25, 0xffffffff };

	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		u32 at;

		begin();
		at = mmap_tag(24, 2, 1);
		memcpy(info + at + 8, &bad[i], 4);
		if (bad[i] == 0xffffffff) {
			assert_int_equal(parse(), -EPROTO);
			continue;
		}
		assert_int_equal(parse(), -EPROTO);
		assert_non_null(strstr(messages, "entries of"));
	}
	begin();
	mmap_tag(40, 2, 1); /* larger entries of a later version are stepped over */
	assert_int_equal(parse(), 0);
	assert_int_equal(bi.mem[1].base, MIB(2));
	begin();
	mmap_tag(24, 1, 1);
	mmap_tag(24, 1, 20); /* unknown type: not to be used */
	assert_int_equal(parse(), 0);
	assert_int_equal(bi.mem[1].type, MEM_RESERVED);
}

static void test_too_many(void **state)
{
	begin();
	mmap_tag(24, 1, 1);
	for (u32 i = 0; i < BOOT_MODULE_MAX + 3; i++)
		module(0x1000 * i, 0x1000 * i + 1, "m");
	assert_int_equal(parse(), 0);
	assert_int_equal(bi.modules, BOOT_MODULE_MAX);
	assert_non_null(strstr(messages, "more than 128 modules"));
	begin();
	for (u32 i = 0; i < 9; i++)
		mmap_tag(24, 60, 1);
	assert_int_equal(parse(), -ENOSPC);
	assert_non_null(strstr(messages, "more than 512 entries"));
}

static void test_bad_modules(void **state)
{
	char long_name[300];

	begin();
	mmap_tag(24, 1, 1);
	module(0x2000, 0x1000, "backwards");
	module(0x1000, 0x2000, "");
	module(0x1000, 0x2000, "   ");
	memset(long_name, 'n', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	module(0x1000, 0x2000, long_name);
	assert_int_equal(parse(), 0);
	assert_int_equal(bi.module[0].error, -EPROTO);
	assert_int_equal(bi.module[0].size, 0);
	assert_non_null(strstr(messages, "backwards"));
	assert_int_equal(bi.module[1].error, -EINVAL);
	assert_int_equal(bi.module[2].error, -EINVAL);
	assert_int_equal(strlen(bi.module[3].name), BOOT_NAME_LEN - 1);
}

/* Text that fills its tag to the last byte without NUL. */
static void test_unterminated_text(void **state)
{
	begin();
	mmap_tag(24, 1, 1);
	tag(1, "abcdefgh", 8);
	{
		u8 data[16];
		u32 range[2] = { 0x1000, 0x2000 };

		memcpy(data, range, 8);
		memcpy(data + 8, "vmlinuz!", 8);
		tag(3, data, 16);
	}
	assert_int_equal(parse(), 0);
	assert_string_equal(bi.cmdline, "abcdefgh");
	assert_string_equal(bi.module[0].name, "vmlinuz!");
}

static void test_odd_framebuffer(void **state)
{
	u8 data[30] = { 0 };

	data[20] = 16; /* bits a pixel */
	data[21] = 1;
	begin();
	mmap_tag(24, 1, 1);
	tag(8, data, 30);
	data[20] = 32;
	data[21] = 2; /* EGA text */
	tag(8, data, 30);
	tag(8, data, 23); /* no colour fields */
	assert_int_equal(parse(), 0);
	assert_int_equal(bi.fb.width, 0);
}

/* Random bytes: no crash, no read outside (the sanitizer is the judge), bounds kept. */
static void test_random(void **state)
{
	u32 seed = 99;

	for (u32 round = 0; round < 20000; round++) {
		u32 size;

		begin();
		mmap_tag(24, 2, 1);
		module(0x1000, 0x2000, "file name");
		tag(1, "cmdline", 8);
		tag(0, "", 0);
		size = used;
		memcpy(info, &size, 4);
		for (u32 i = 0; i < 4; i++) {
			seed = seed * 1664525 + 1013904223;
			info[8 + (seed >> 8) % (size - 8)] = (u8)(seed >> 24);
		}
		(void)parse_raw(size);
		assert_in_range(bi.mems, 0, BOOT_MEM_MAX);
		assert_in_range(bi.modules, 0, BOOT_MODULE_MAX);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all), cmocka_unit_test(test_new_rsdp_wins),
		cmocka_unit_test(test_no_memory_map), cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_bad_tag_sizes), cmocka_unit_test(test_mmap_entry_size),
		cmocka_unit_test(test_too_many), cmocka_unit_test(test_bad_modules),
		cmocka_unit_test(test_unterminated_text), cmocka_unit_test(test_odd_framebuffer),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
