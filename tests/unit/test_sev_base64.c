/* SPDX-License-Identifier: BSD-2-Clause */
// sources: sev/base64.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/errno.h"
#include "sev/base64.h"

/* RFC 4648, section 10; the last two have the letters of its table 1 that differ elsewhere. */
static const struct {
	const char *data, *text;
} pairs[] = {
	{ "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" },
	{ "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" }, { "\xfb\xef\xbe", "++++" },
	{ "\xff\xff\xff", "////" },
};

static s64 decode(const char *text, u8 *out, u64 room)
{
	return base64_decode(text, strlen(text), out, room);
}

static void both_ways(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		u64 n = strlen(pairs[i].data);
		char text[16];
		u8 out[8];

		base64_encode((const u8 *)pairs[i].data, (u32)n, text);
		assert_string_equal(text, pairs[i].text);
		assert_int_equal(strlen(text), BASE64_LEN(n));
		assert_int_equal(decode(pairs[i].text, out, n), n);
		assert_memory_equal(out, pairs[i].data, n);
		if (n != 0)
			assert_int_equal(decode(pairs[i].text, out, n - 1), -E2BIG);
	}
}

static void every_byte(void **state)
{
	u8 data[256], out[256];
	char text[BASE64_LEN(256) + 1];

	for (u32 i = 0; i < 256; i++)
		data[i] = (u8)i;
	base64_encode(data, 256, text);
	assert_int_equal(decode(text, out, 256), 256);
	assert_memory_equal(out, data, 256);
}

static void lines(void **state)
{
	u8 out[8];

	assert_int_equal(decode("Zm9v\r\nYmFy\n", out, 8), 6);
	assert_memory_equal(out, "foobar", 6);
}

static void refused(void **state)
{
	static const char *const bad[] = {
		"Z", "Zg", "Zm8", "Zg=", "Zg===", "=", "==", "====", "Z===", "Zm9vYg", "Zg==Zg==",
		"Zm=v", "Zm9v!", "Zm 9v", "Zm9-", "Zm9_", "\xff" "m9v",
	};
	u8 out[16];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(decode(bad[i], out, 16), -EPROTO);
	assert_int_equal(base64_decode("Zm9\0", 4, out, 16), -EPROTO);
	assert_int_equal(base64_decode("Zm9v", 3, out, 16), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ways), cmocka_unit_test(every_byte), cmocka_unit_test(lines),
		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
