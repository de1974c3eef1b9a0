/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/unit.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "core/errno.h"
#include "core/log.h"
#include "core/unit.h"

static char calls[256], messages[1024];
static int fail_init, fail_vm; /* number of the unit that fails, 0: none */

void log_print(u32 level, const char *fmt, ...)
{
	size_t at = strlen(messages);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(messages + at, sizeof(messages) - at, fmt, ap);
	va_end(ap);
}

static int note(char what, int number, bool fail)
{
	size_t at = strlen(calls);

	snprintf(calls + at, sizeof(calls) - at, "%c%d ", what, number);
	return fail ? -EIO : 0;
}

static int init1(void) { return note('i', 1, fail_init == 1); }
static int init3(void) { return note('i', 3, fail_init == 3); }
static int vm1(struct vm *vm) { return note('v', 1, fail_vm == 1); }
static int vm2(struct vm *vm) { return note('v', 2, fail_vm == 2); }
static int vm3(struct vm *vm) { return note('v', 3, fail_vm == 3); }
static void exit1(struct vm *vm) { note('x', 1, false); }
static void exit3(struct vm *vm) { note('x', 3, false); }

/* In place of the linker's section. */
const struct unit units_start[3] = {
	{ .name = "one", .init = init1, .vm_init = vm1, .vm_exit = exit1 },
	{ .name = "two", .vm_init = vm2 },
	{ .name = "three", .init = init3, .vm_init = vm3, .vm_exit = exit3 },
};
_Static_assert(sizeof(struct unit) == 32, "for the symbol below");
__asm__(".globl units_end\n.set units_end, units_start + 96\n");

static int clear(void **state)
{
	calls[0] = '\0';
	messages[0] = '\0';
	fail_init = 0;
	fail_vm = 0;
	return 0;
}

static void test_order(void **state)
{
	assert_int_equal(units_init(), 0);
	assert_int_equal(units_vm_init(NULL), 0);
	units_vm_exit(NULL);
	assert_string_equal(calls, "i1 i3 v1 v2 v3 x3 x1 ");
}

static void test_init_failure_goes_on(void **state)
{
	fail_init = 1;
	assert_int_equal(units_init(), 1);
	assert_string_equal(calls, "i1 i3 ");
	assert_non_null(strstr(messages, "one"));
}

static void test_vm_failure_undoes(void **state)
{
	fail_vm = 3;
	assert_int_equal(units_vm_init(NULL), -EIO);
	assert_string_equal(calls, "v1 v2 v3 x1 ");
	assert_non_null(strstr(messages, "three"));
	clear(NULL);
	fail_vm = 1;
	assert_int_equal(units_vm_init(NULL), -EIO);
	assert_string_equal(calls, "v1 ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_order, clear),
		cmocka_unit_test_setup(test_init_failure_goes_on, clear),
		cmocka_unit_test_setup(test_vm_failure_undoes, clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
