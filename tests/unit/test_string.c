/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "core/errno.h"
#include "core/string.h"
#define STRING_NAMES_ONLY
#include "tests/unit/string_names.h"

static int sign(int v)
{
	return (v > 0) - (v < 0);
}

/* All against the host's C library. */
static void test_memory(void **state)
{
	unsigned char a[64], b[64], src[64];

	for (u32 i = 0; i < 64; i++)
		src[i] = (unsigned char)(i * 37 + 11);
	for (u32 from = 0; from < 24; from++) {
		for (u32 to = 0; to < 24; to++) {
			for (u32 n = 0; n < 20; n++) {
				memcpy(a, src, 64);
				memcpy(b, src, 64);
				assert_ptr_equal(rv_memmove(a + to, a + from, n), a + to);
				memmove(b + to, b + from, n);
				assert_memory_equal(a, b, 64);
			}
		}
	}
	memset(a, 0, 64);
	assert_ptr_equal(rv_memcpy(a + 1, src, 33), a + 1);
	assert_memory_equal(a + 1, src, 33);
	assert_int_equal(a[0] | a[34], 0);
	assert_ptr_equal(rv_memset(a + 3, 0x1fe, 5), a + 3);
	assert_int_equal(a[2], src[1]);
	assert_int_equal(a[3], 0xfe);
	assert_int_equal(a[7], 0xfe);
	assert_int_equal(a[8], src[7]);
	assert_ptr_equal(rv_memchr(src, src[9], 64), memchr(src, src[9], 64));
	assert_null(rv_memchr("abc", 'c', 2));
}

static void test_compare(void **state)
{
	static const char *const words[] = { "", "a", "ab", "abc", "abd", "b", "\xff", "a\xff" };

	for (u32 i = 0; i < ARRAY_SIZE(words); i++) {
		for (u32 k = 0; k < ARRAY_SIZE(words); k++) {
			assert_int_equal(sign(rv_strcmp(words[i], words[k])),
					 sign(strcmp(words[i], words[k])));
			for (u32 n = 0; n < 5; n++)
				assert_int_equal(sign(rv_strncmp(words[i], words[k], n)),
						 sign(strncmp(words[i], words[k], n)));
		}
	}
	assert_int_equal(sign(rv_memcmp("a\0b", "a\0c", 3)), -1);
	assert_int_equal(rv_memcmp("a\0b", "a\0c", 2), 0);
}

static void test_search(void **state)
{
	const char *s = "ravelin";

	assert_int_equal(rv_strlen(s), 7);
	assert_int_equal(rv_strnlen(s, 3), 3);
	assert_int_equal(rv_strnlen(s, 30), 7);
	assert_ptr_equal(rv_strchr(s, 'e'), s + 3);
	assert_ptr_equal(rv_strchr(s, '\0'), s + 7);
	assert_null(rv_strchr(s, 'x'));
	assert_ptr_equal(rv_strrchr("a/b/c", '/') - 3, "a/b/c");
	assert_null(rv_strrchr(s, 'x'));
	assert_ptr_equal(rv_strrchr(s, '\0'), s + 7);
}

static void test_str_copy(void **state)
{
	char buf[4] = { 'x', 'x', 'x', 'x' };

	assert_int_equal(str_copy(buf, "ab", sizeof(buf)), 2);
	assert_string_equal(buf, "ab");
	assert_int_equal(str_copy(buf, "abcdef", sizeof(buf)), 6);
	assert_string_equal(buf, "abc");
	assert_int_equal(str_copy(buf, "abc", 1), 3);
	assert_string_equal(buf, "");
}

static void number(const char *text, int err, u64 expect)
{
	/* Exactly as long as the text, so that reading on is caught. */
	size_t len = strlen(text);
	char *copy = malloc(len ? len : 1);
	u64 v = 0x5555;

	memcpy(copy, text, len);
	assert_int_equal(str_to_u64(copy, len, &v), err);
	assert_int_equal(v, err == 0 ? expect : 0x5555);
	free(copy);
}

static void test_numbers(void **state)
{
	number("0", 0, 0);
	number("42", 0, 42);
	number("0x2A", 0, 42);
	number("0Xff", 0, 255);
	number("18446744073709551615", 0, UINT64_MAX);
	number("18446744073709551616", -ERANGE, 0);
	number("0xffffffffffffffff", 0, UINT64_MAX);
	number("0x10000000000000000", -ERANGE, 0);
	number("", -EINVAL, 0);
	number("0x", -EINVAL, 0);
	number("12a", -EINVAL, 0);
	number("-1", -EINVAL, 0);
	number(" 1", -EINVAL, 0);
	number("0xg", -EINVAL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory), cmocka_unit_test(test_compare),
		cmocka_unit_test(test_search), cmocka_unit_test(test_str_copy),
		cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
