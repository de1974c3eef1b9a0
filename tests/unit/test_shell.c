/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/shell.c core/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/console.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/shell.h"

static char screen[1 << 20];
static char called[1024]; /* "[arg][arg]" of each call of `probe` */
static int probe_result;
static struct vm *guest_owner;

void log_write(const char *text, size_t len)
{
	size_t n = strlen(screen);

	assert_true(n + len < sizeof(screen));
	memcpy(screen + n, text, len);
	screen[n + len] = '\0';
}

void log_printf(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_write(text, strlen(text));
}

struct vm *console_owner(void)
{
	return guest_owner;
}

static int probe(int argc, char **argv)
{
	assert_in_range(argc, 1, SHELL_ARGS);
	for (int i = 0; i < argc; i++) {
		strcat(called, "[");
		strcat(called, argv[i]);
		strcat(called, "]");
	}
	return probe_result;
}
SHELL_COMMAND(probe, probe, "A | B [C]", "for the test");

static int quiet(int argc, char **argv)
{
	shell_forget();
	return probe(argc, argv);
}
SHELL_COMMAND(quiet, quiet, "A", "is forgotten");

static int take(int argc, char **argv)
{
	guest_owner = (struct vm *)&guest_owner;
	return 0;
}
SHELL_COMMAND(take, take, "", "gives the console away");

static int setup(void **state)
{
	shell_input(0x03); /* Ctrl-C: nothing left of the last test */
	screen[0] = called[0] = '\0';
	probe_result = 0;
	guest_owner = NULL;
	return 0;
}

static void type(const char *s)
{
	while (*s)
		shell_input((u8)*s++);
}

static void expect(const char *keys, const char *calls)
{
	called[0] = '\0';
	type(keys);
	assert_string_equal(called, calls);
}

static void test_words(void **state)
{
	expect("probe\r", "[probe]");
	expect("  probe \t a   b\t\r", "[probe][a][b]");
	expect("\r", "");
	expect("   \r", "");
	expect("probe 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15\r",
	       "[probe][1][2][3][4][5][6][7][8][9][10][11][12][13][14][15]");
	screen[0] = '\0';
	expect("probe 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\r", "");
	assert_non_null(strstr(screen, "usage: probe A | B [C]"));
}

static void test_unknown(void **state)
{
	expect("prob\rprobes\r", "");
	assert_non_null(strstr(screen, "prob: no such command; try help\n"));
	assert_non_null(strstr(screen, "probes: no such command"));
}

static void test_usage(void **state)
{
	probe_result = -EINVAL;
	type("probe x\r");
	assert_non_null(strstr(screen, "usage: probe A | B [C]\n"));
	screen[0] = '\0';
	probe_result = -ENOENT; /* the command has explained it */
	type("probe x\r");
	assert_null(strstr(screen, "usage"));
}

static void test_help(void **state)
{
	type("help\r");
	assert_non_null(strstr(screen, "probe"));
	assert_non_null(strstr(screen, "for the test"));
	assert_non_null(strstr(screen, "lists the commands"));
	assert_true(strstr(screen, "  help ") < strstr(screen, "  probe "));
	assert_true(strstr(screen, "  probe ") < strstr(screen, "  take "));
	assert_null(strstr(strstr(screen, "  take ") + 1, "  probe "));
	screen[0] = '\0';
	type("help me\r");
	assert_non_null(strstr(screen, "usage: help"));
}

static void test_echo_and_prompt(void **state)
{
	type("probe");
	assert_string_equal(screen, "probe");
	type("\r");
	assert_string_equal(screen, "probe\nravelin> ");
	screen[0] = '\0';
	type("take\r"); /* no prompt over a guest's console */
	assert_string_equal(screen, "take\n");
	guest_owner = NULL;
	screen[0] = '\0';
	type("pro");
	shell_prompt(); /* with what was typed */
	assert_string_equal(screen, "proravelin> pro");
	expect("be\r", "[probe]");
}

static void test_editing(void **state)
{
	expect("prox\bbe\r", "[probe]");
	expect("prox\x7f" "be\r", "[probe]");
	expect("\b\b\bprobe\r", "[probe]");
	expect("wrong\x15probe\r", "[probe]");     /* Ctrl-U */
	screen[0] = '\0';
	expect("wrong\x03probe\r", "[probe]");     /* Ctrl-C */
	assert_non_null(strstr(screen, "wrong^C\nravelin> probe"));
	expect("probe\n", "[probe]");
	expect("pr\x01\x02\xff\x80obe\r", "[probe]"); /* not text */
	expect("probe ~ !\r", "[probe][~][!]");     /* the first and last printable ones */
	screen[0] = '\0';
	type("ab\b");
	assert_string_equal(screen, "ab\b \b");
}

static void test_escape_sequences(void **state)
{
	expect("pro\x1b[Cbe\r", "[probe]");       /* right */
	expect("pro\x1b[9~be\r", "[probe]");      /* delete */
	expect("pro\x1b[1;5Dbe\r", "[probe]");    /* control and left */
	expect("pro\x1bOPbe\r", "[probe]");       /* F1 */
	expect("pro\x1b\x1b[Dbe\r", "[probe]");
}

#define UP "\x1b[A"
#define DOWN "\x1b[B"

static void test_history(void **state)
{
	type("probe 1\rprobe 2\rprobe 2\rprobe 3\r");
	expect(UP "\r", "[probe][3]");
	expect(UP UP "\r", "[probe][2]");  /* a repeated line is kept once */
	expect("\x10\x10\r", "[probe][3]"); /* Ctrl-P */
	expect("junk" UP UP DOWN "\r", "[probe][3]");
	expect("probe 9" UP DOWN "\r", ""); /* down from the newest: an empty line */
	expect(UP " x\r", "[probe][3][x]");
	expect(UP "\b\b\r", "[probe][3]");
}

static void test_history_limit(void **state)
{
	char line[32];

	for (int i = 0; i < 20; i++) {
		snprintf(line, sizeof(line), "probe %d\r", i);
		type(line);
	}
	expect(UP UP UP UP UP UP UP UP UP UP UP UP "\r", "[probe][12]"); /* eight lines */
}

/* A command that asks for it is in no line of the history, also when it came twice. */
static void test_forget(void **state)
{
	expect("probe 1\rquiet secret\r", "[probe][1][quiet][secret]");
	expect(UP "\r", "[probe][1]");
	expect("quiet secret\rquiet secret\r" UP "\r", "[quiet][secret][quiet][secret][probe][1]");
	screen[0] = '\0';
	type(UP UP UP UP UP UP UP UP UP);
	assert_null(strstr(screen, "secret"));
	type("\x15");
}

static void test_long_line(void **state)
{
	char want[SHELL_LINE + 16];
	size_t room = SHELL_LINE - 1 - strlen("probe ");

	type("probe ");
	for (u32 i = 0; i < 1000; i++)
		type("x");
	type("\r");
	strcpy(want, "[probe][");
	memset(want + 8, 'x', room);
	strcpy(want + 8 + room, "]");
	assert_string_equal(called, want);
	expect(UP "\r", want);
}

static void test_number(void **state)
{
	static const struct {
		const char *text;
		bool ok;
		u64 value;
	} cases[] = {
		{ "0", true, 0 },	     { "4096", true, 4096 },
		{ "0x1F", true, 31 },	     { "4K", true, 4096 },
		{ "2m", true, 2 << 20 },     { "3G", true, 3UL << 30 },
		{ "18446744073709551615", true, ~0UL },
		{ "18446744073709551616", false, 0 },
		{ "17179869184G", false, 0 }, { "", false, 0 },
		{ "K", false, 0 },	     { "-1", false, 0 },
		{ "1x", false, 0 },	     { "0x", false, 0 },
	};
	u64 value;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool ok = shell_number(cases[i].text, &value);

		if (ok != cases[i].ok || (ok && value != cases[i].value))
			fail_msg("%s: %d 0x%lx", cases[i].text, ok, value);
	}
}

static void test_fuzz(void **state)
{
	u32 seed = 3;

	for (u32 i = 0; i < 200000; i++) {
		seed = seed * 1664525 + 1013904223;
		shell_input((u8)(seed >> 24));
		if (i % 1000 == 0)
			screen[0] = called[0] = '\0';
	}
	type("\x1b[Z\x15");
	expect("probe z\r", "[probe][z]");
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_words),    TEST(test_unknown), TEST(test_usage),
		TEST(test_help),     TEST(test_echo_and_prompt), TEST(test_editing),
		TEST(test_escape_sequences), TEST(test_history), TEST(test_history_limit),
		TEST(test_forget), TEST(test_long_line), TEST(test_number), TEST(test_fuzz),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
