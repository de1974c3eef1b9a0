/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/boot_info.c core/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "core/boot_info.h"
#include "core/errno.h"
#include "core/log.h"

static char messages[65536];
static struct boot_info bi;

void log_print(u32 level, const char *fmt, ...)
{
	size_t at = strlen(messages);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(messages + at, sizeof(messages) - at, fmt, ap);
	va_end(ap);
}

static int clear(void **state)
{
	memset(&bi, 0, sizeof(bi));
	messages[0] = '\0';
	return 0;
}

static void mem(u64 base, u64 size, u32 type)
{
	bi.mem[bi.mems++] = (struct boot_mem){ base, size, type, 0 };
}

static void entry(u32 i, u64 base, u64 end, u32 type)
{
	assert_int_equal(bi.mem[i].base, base);
	assert_int_equal(bi.mem[i].base + bi.mem[i].size, end);
	assert_int_equal(bi.mem[i].type, type);
}

static void test_sort_and_merge(void **state)
{
	mem(0x3000, 0x1000, MEM_RAM);
	mem(0x1000, 0x1000, MEM_RAM);
	mem(0x2000, 0x1000, MEM_RAM);
	mem(0x8000, 0x1000, MEM_ACPI);
	mem(0x9000, 0x1000, MEM_RESERVED);
	mem(0x5000, 0, MEM_BAD);
	assert_int_equal(boot_info_normalise(&bi), 0);
	assert_int_equal(bi.mems, 3);
	entry(0, 0x1000, 0x4000, MEM_RAM);
	entry(1, 0x8000, 0x9000, MEM_ACPI);
	entry(2, 0x9000, 0xa000, MEM_RESERVED);
}

/* A hole of another kind in the middle of RAM. */
static void test_nested(void **state)
{
	mem(0, 0x10000, MEM_RAM);
	mem(0x4000, 0x2000, MEM_RESERVED);
	assert_int_equal(boot_info_normalise(&bi), 0);
	assert_int_equal(bi.mems, 3);
	entry(0, 0, 0x4000, MEM_RAM);
	entry(1, 0x4000, 0x6000, MEM_RESERVED);
	entry(2, 0x6000, 0x10000, MEM_RAM);
}

static void test_partial_overlaps(void **state)
{
	mem(0x1000, 0x4000, MEM_RAM);
	mem(0x4000, 0x4000, MEM_NVS);  /* from the right: wins */
	mem(0x0, 0x2000, MEM_BAD);     /* from the left: wins */
	mem(0x7000, 0x4000, MEM_RAM);  /* loses its start */
	mem(0x20000, 0x1000, MEM_RAM);
	mem(0x20000, 0x1000, MEM_RESERVED); /* the same place twice */
	assert_int_equal(boot_info_normalise(&bi), 0);
	assert_int_equal(bi.mems, 5);
	entry(0, 0, 0x2000, MEM_BAD);
	entry(1, 0x2000, 0x4000, MEM_RAM);
	entry(2, 0x4000, 0x8000, MEM_NVS);
	entry(3, 0x8000, 0xb000, MEM_RAM);
	entry(4, 0x20000, 0x21000, MEM_RESERVED);
}

/* Against a plain array of pages that says who wins. */
static void test_random_maps(void **state)
{
	static const u32 rank[] = { 9, 0, 3, 1, 2, 4 }; /* by type */
	u32 seed = 3;

	for (u32 round = 0; round < 3000; round++) {
		u32 page[64] = { 0 };

		clear(NULL);
		mem(0x3f000, 0x1000, MEM_RAM);
		page[63] = MEM_RAM;
		for (u32 i = 0; i < 12; i++) {
			seed = seed * 1664525 + 1013904223;
			u32 first = (seed >> 8) % 60, count = (seed >> 16) % 20 + 1;
			u32 type = (seed >> 24) % 5 + 1;

			count = first + count > 63 ? 63 - first : count;
			mem(first * 0x1000UL, count * 0x1000UL, type);
			for (u32 k = first; k < first + count; k++)
				if (page[k] == 0 || rank[type] > rank[page[k]])
					page[k] = type;
		}
		assert_int_equal(boot_info_normalise(&bi), 0);
		u64 last = 0;
		for (u32 i = 0; i < bi.mems; i++) {
			assert_true(bi.mem[i].base >= last);
			last = bi.mem[i].base + bi.mem[i].size;
			for (u64 a = bi.mem[i].base; a < last; a += 0x1000) {
				assert_int_equal(page[a / 0x1000], bi.mem[i].type);
				page[a / 0x1000] = 0;
			}
		}
		for (u32 k = 0; k < 64; k++)
			assert_int_equal(page[k], 0);
	}
}

static void test_no_ram(void **state)
{
	assert_int_equal(boot_info_normalise(&bi), -ENOENT);
	mem(0, 0x1000, MEM_RESERVED);
	assert_int_equal(boot_info_normalise(&bi), -ENOENT);
}

static void test_wrap(void **state)
{
	mem(0, 0x1000, MEM_RAM);
	mem(0xffffffffffff0000UL, 0x20000, MEM_RAM);
	assert_int_equal(boot_info_normalise(&bi), -EINVAL);
	assert_non_null(strstr(messages, "wraps around"));
	clear(NULL);
	mem(0, 0x1000, MEM_RAM);
	mem(0xffffffffffff0000UL, 0x10000, MEM_RESERVED); /* exactly to the end */
	assert_int_equal(boot_info_normalise(&bi), 0);
}

static void test_full_table(void **state)
{
	mem(0, MIB(100), MEM_RAM);
	while (bi.mems < BOOT_MEM_MAX)
		mem(0x2000UL * bi.mems, 0x1000, MEM_RESERVED);
	/* The RAM would fall into 511 pieces: no room. */
	assert_int_equal(boot_info_normalise(&bi), -ENOSPC);
}

static void module(const char *name, u64 base, u64 size)
{
	struct boot_module *m = &bi.module[bi.modules++];

	strcpy(m->name, name);
	m->base = base;
	m->size = size;
}

static void test_modules(void **state)
{
	mem(MIB(1), MIB(64), MEM_RAM);
	mem(MIB(128), MIB(1), MEM_RESERVED);
	bi.image = MIB(2);
	bi.image_size = MIB(1);
	module("good", MIB(8), 5000);
	module("on-image", MIB(3) - 1, 1);
	module("beside-image", MIB(3), 100);
	module("twin", MIB(8) + 4999, 10);
	module("not-ram", MIB(128), 100);
	module("half-ram", MIB(65) - 10, 20);
	module("wrap", UINT64_MAX - 5, 10);
	module("empty", 0, 0);
	module("missing", 0, 0);
	bi.module[8].error = -ENOENT;
	assert_int_equal(boot_info_check_modules(&bi), 5);
	assert_int_equal(bi.module[0].error, 0);
	assert_int_equal(bi.module[1].error, -EEXIST);
	assert_int_equal(bi.module[1].size, 0);
	assert_int_equal(bi.module[2].error, 0);
	assert_int_equal(bi.module[3].error, -EEXIST);
	assert_int_equal(bi.module[4].error, -EFAULT);
	assert_int_equal(bi.module[5].error, -EFAULT);
	assert_int_equal(bi.module[6].error, -EFAULT);
	assert_int_equal(bi.module[7].error, 0);
	assert_int_equal(bi.module[8].error, -ENOENT);
	assert_non_null(strstr(messages, "module twin overlaps module good"));
	assert_non_null(strstr(messages, "module on-image overlaps the hypervisor"));
	assert_non_null(strstr(messages, "module not-ram"));
}

static void test_free_ram(void **state)
{
	mem(0, MIB(16), MEM_RAM);
	bi.image = MIB(2);
	bi.image_size = MIB(1);
	module("m", MIB(8), 5000);
	assert_true(boot_info_is_free_ram(&bi, MIB(1), MIB(1)));
	assert_false(boot_info_is_free_ram(&bi, MIB(1), MIB(1) + 1));
	assert_true(boot_info_is_free_ram(&bi, MIB(3), MIB(5)));
	assert_false(boot_info_is_free_ram(&bi, MIB(8) + 4999, 1));
	assert_true(boot_info_is_free_ram(&bi, MIB(8) + 5000, 1));
	assert_false(boot_info_is_free_ram(&bi, MIB(15), MIB(2)));
}

static void test_find(void **state)
{
	module("/boot/vmlinuz", 1, 1);
	module("initrd.img", 2, 1);
	assert_ptr_equal(boot_module_find(&bi, "boot/vmlinuz"), &bi.module[0]);
	assert_ptr_equal(boot_module_find(&bi, "\\Boot\\VMLINUZ"), &bi.module[0]);
	assert_ptr_equal(boot_module_find(&bi, "//initrd.img"), &bi.module[1]);
	assert_null(boot_module_find(&bi, "vmlinuz"));
	assert_null(boot_module_find(&bi, "initrd.im"));
	assert_null(boot_module_find(&bi, "initrd.img2"));
	assert_null(boot_module_find(&bi, ""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_sort_and_merge, clear),
		cmocka_unit_test_setup(test_nested, clear),
		cmocka_unit_test_setup(test_partial_overlaps, clear),
		cmocka_unit_test_setup(test_random_maps, clear),
		cmocka_unit_test_setup(test_no_ram, clear), cmocka_unit_test_setup(test_wrap, clear),
		cmocka_unit_test_setup(test_full_table, clear),
		cmocka_unit_test_setup(test_modules, clear), cmocka_unit_test_setup(test_find, clear),
		cmocka_unit_test_setup(test_free_ram, clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
