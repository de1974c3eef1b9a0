/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/printf.c core/log.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "core/log.h"
#include "core/errno.h"

int rv_snprintf(char *buf, size_t size, const char *fmt, ...);
int rv_vsnprintf(char *buf, size_t size, const char *fmt, va_list ap);

#pragma GCC diagnostic ignored "-Wformat-truncation"

/* The host's C library is the judge. */
#define SAME(...)                                                        \
	do {                                                             \
		char ours[200], theirs[200];                             \
		int n = rv_snprintf(ours, sizeof(ours), __VA_ARGS__);    \
		int m = snprintf(theirs, sizeof(theirs), __VA_ARGS__);   \
		assert_string_equal(ours, theirs);                       \
		assert_int_equal(n, m);                                  \
	} while (0)

static void test_integers(void **state)
{
	static const long values[] = { 0, 1, -1, 42, -12345, 2147483647, -2147483648L,
				       9223372036854775807L, -9223372036854775807L - 1 };

	for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
		long v = values[i];

		SAME("%d|%i|%u|%x|%X", (int)v, (int)v, (unsigned)v, (unsigned)v, (unsigned)v);
		SAME("%ld|%lu|%lx|%lld|%llx|%zu", v, (unsigned long)v, (unsigned long)v,
		     (long long)v, (unsigned long long)v, (size_t)v);
		SAME("%hd|%hhd|%hu|%hhu", (short)v, (signed char)v, (unsigned short)v,
		     (unsigned char)v);
		SAME("%8ld|%-8ld|%08ld|%+ld|% ld", v, v, v, v, v);
		SAME("%#lx|%#10lx|%#010lx|%-#10lx|", (unsigned long)v, (unsigned long)v,
		     (unsigned long)v, (unsigned long)v);
		SAME("%.5ld|%8.5ld|%-8.5ld|%.0ld", v, v, v, v);
		SAME("%*ld|%.*ld|%*ld", 12, v, 7, v, -12, v);
	}
	SAME("%016lx", 0xffff800000000000UL);
}

static void test_text(void **state)
{
	SAME("%s|%10s|%-10s|%.2s|%5.1s|", "abc", "abc", "abc", "abc", "abc");
	SAME("%c%c%3c%-3c|", 'x', 'y', 'z', 'w');
	SAME("100%% %s", "sure");
	SAME("%.*s|", 3, "abcdef");
	SAME("%p", (void *)0xdead0000);
}

/* Text without NUL is fine within its precision. */
static void test_bounded_text(void **state)
{
	char *t = malloc(4), out[16];

	memcpy(t, "FACP", 4);
	assert_int_equal(rv_snprintf(out, sizeof(out), "%.4s", t), 4);
	assert_string_equal(out, "FACP");
	free(t);
}

static void test_truncation(void **state)
{
	for (size_t size = 0; size < 12; size++) {
		char *ours = malloc(size ? size : 1), theirs[16];

		assert_int_equal(rv_snprintf(ours, size, "%d-%s", 1234, "abcd"), 9);
		snprintf(theirs, size, "%d-%s", 1234, "abcd");
		if (size > 0)
			assert_string_equal(ours, theirs);
		free(ours);
	}
}

static void test_odd_formats(void **state)
{
	char out[64];
	const char *null = NULL;
	const char *incomplete = "abc%", *unknown = "%q";

	rv_snprintf(out, sizeof(out), "%s", null);
	assert_string_equal(out, "(null)");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-security"
	rv_snprintf(out, sizeof(out), incomplete);
	assert_string_equal(out, "abc");
	rv_snprintf(out, sizeof(out), unknown);
	assert_string_equal(out, "%q");
#pragma GCC diagnostic pop
}

static char seen[65536 * 2];

static void sink(const char *text, size_t len)
{
	strncat(seen, text, len);
}

static void sink2(const char *text, size_t len)
{
	(void)text;
	(void)len;
}

static void test_log_levels(void **state)
{
	seen[0] = '\0';
	assert_int_equal(log_add_sink(sink), 0);
	assert_int_equal(log_add_sink(sink), 0); /* known already: once */
	log_level = LOG_WARN;
	log_err("one %d", 1);
	log_info("two");
	log_warn("three");
	log_printf("raw");
	assert_non_null(strstr(seen, "error: one 1\n"));
	assert_null(strstr(seen, "two"));
	assert_non_null(strstr(seen, "warning: three\nraw"));
	log_level = LOG_INFO;
}

/* The ring has all levels, and the newest text when it is full. */
static void test_log_ring(void **state)
{
	static char text[65536];
	u64 pos = 0;
	size_t n;

	log_level = LOG_ERROR;
	for (int i = 0; i < 3000; i++)
		log_debug("line %d of the ring", i);
	n = log_read(&pos, text, sizeof(text) - 1);
	assert_int_equal(n, 32768);
	text[n] = '\0';
	assert_non_null(strstr(text, "line 2999 of the ring\n"));
	assert_null(strstr(text, "line 100 of"));
	assert_int_equal(log_read(&pos, text, sizeof(text)), 0);
	log_debug("more");
	n = log_read(&pos, text, 5);
	assert_int_equal(n, 5);
	pos = UINT64_MAX; /* beyond the end: no more, no harm */
	assert_int_equal(log_read(&pos, text, sizeof(text)), 0);
	log_level = LOG_INFO;
}

static void test_log_long_line(void **state)
{
	static char text[4096];
	char part[1000];
	u64 pos = UINT64_MAX;

	memset(part, 'x', sizeof(part) - 1);
	part[sizeof(part) - 1] = '\0';
	(void)log_read(&pos, text, 1);
	log_debug("%s", part);
	size_t n = log_read(&pos, text, sizeof(text));
	assert_in_range(n, 400, 512);
	assert_int_equal(text[n - 1], '\n');
	assert_int_equal(text[n - 2], 'x');
}

static void test_log_sinks_are_limited(void **state)
{
	int full = 0;

	assert_int_equal(log_add_sink(sink2), 0);
	for (u64 i = 0; i < LOG_SINKS; i++) /* never called: the level keeps everything away */
		full = log_add_sink((log_sink_fn)(uintptr_t)(0x1000 + i));
	assert_int_equal(full, -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_integers), cmocka_unit_test(test_text),
		cmocka_unit_test(test_bounded_text), cmocka_unit_test(test_truncation),
		cmocka_unit_test(test_odd_formats), cmocka_unit_test(test_log_levels),
		cmocka_unit_test(test_log_ring), cmocka_unit_test(test_log_long_line),
		cmocka_unit_test(test_log_sinks_are_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
