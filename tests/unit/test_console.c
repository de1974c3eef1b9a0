/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* The unit's own functions are reached only through its record. */
#include "core/console.c"

#define ESCAPE 0x1d

struct config config;

static struct vm *vms[2];
static char screen[65536];   /* what reached the machine's console */
static char typed[4096];     /* what the shell received */
static u8 keyboard[8192];
static u32 keys, keys_used;
static u8 received[2][8192]; /* what the UARTs of port 0 received, by VM */
static u32 received_len[2];
static u32 uart_room;
static u32 notified, ready[2], prompts;

static void append(char *to, size_t size, char ch)
{
	size_t n = strlen(to);

	assert_true(n + 1 < size);
	to[n] = ch;
	to[n + 1] = '\0';
}

void log_printf(const char *fmt, ...)
{
	size_t n = strlen(screen);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(screen + n, sizeof(screen) - n, fmt, ap);
	va_end(ap);
}

static u32 warnings;

void log_print(u32 level, const char *fmt, ...)
{
	warnings++;
}

void *heap_alloc(size_t size) { return calloc(1, size); }
void heap_free(void *p) { free(p); }
void console_notify(void) { notified++; }
void console_put_raw(char ch) { append(screen, sizeof(screen), ch); }
bool console_poll(void) { return keys_used < keys; }
int console_getc(void) { return keys_used < keys ? keyboard[keys_used++] : -1; }
void shell_input(u8 ch) { append(typed, sizeof(typed), (char)ch); }
void shell_prompt(void) { prompts++; }

struct vm *vm_find(const char *name)
{
	for (u32 i = 0; i < 2; i++)
		if (vms[i] && !strcmp(vms[i]->name, name))
			return vms[i];
	return NULL;
}

static u32 vm_number(struct vdev_platform *p)
{
	return ((struct vm *)((char *)p - offsetof(struct vm, platform)))->id;
}

u32 vplatform_console_rx(struct vdev_platform *p, u32 port, const u8 *data, u32 len)
{
	u32 vm = vm_number(p);
	u32 n = MIN(len, uart_room);

	assert_int_equal(port, 0);
	memcpy(received[vm] + received_len[vm], data, n);
	received_len[vm] += n;
	uart_room -= n;
	return n;
}

void vplatform_console_tx_ready(struct vdev_platform *p, u32 port)
{
	ready[vm_number(p)]++;
}

static int setup(void **state)
{
	screen[0] = typed[0] = '\0';
	keys = keys_used = notified = prompts = warnings = 0;
	memset(received_len, 0, sizeof(received_len));
	memset(ready, 0, sizeof(ready));
	memset(&owner, 0, sizeof(owner));
	uart_room = 100000;
	config.host.escape = ESCAPE;
	config.host.attach[0] = '\0';
	for (u32 i = 0; i < 2; i++) {
		vms[i] = calloc(1, sizeof(struct vm));
		vms[i]->id = i;
		vms[i]->state = VM_RUNNING;
		strcpy(vms[i]->name, i ? "db" : "web");
		assert_int_equal(console_vm_init(vms[i]), 0);
	}
	return 0;
}

static int teardown(void **state)
{
	for (u32 i = 0; i < 2; i++) {
		if (!vms[i])
			continue;
		console_vm_exit(vms[i]);
		free(vms[i]);
	}
	return 0;
}

static void type(const char *text)
{
	memcpy(keyboard + keys, text, strlen(text));
	keys += (u32)strlen(text);
}

/* What the scheduler does: calls as long as there are notifications. */
static void run(void)
{
	u32 limit = 10000;

	do {
		notified = 0;
		console_task();
	} while (notified && --limit);
	assert_true(limit > 0);
}

static void say(u32 vm, const char *text)
{
	while (*text)
		assert_true(vdev_console_put(vm_host(vms[vm]), 0, (u8)*text++));
}

static void test_shell_has_it(void **state)
{
	console_start();
	assert_int_equal(prompts, 1);
	type("vm list\r");
	say(0, "not shown");
	run();
	assert_string_equal(typed, "vm list\r");
	assert_string_equal(screen, "");
	assert_int_equal(received_len[0], 0);
}

static void test_attach(void **state)
{
	say(0, "kept text\n");
	strcpy(config.host.attach, "web");
	console_start();
	assert_ptr_equal(console_owner(), vms[0]);
	run();
	assert_non_null(strstr(screen, "web"));
	assert_non_null(strstr(screen, "Ctrl-]"));
	assert_non_null(strstr(screen, "kept text\n"));
	screen[0] = '\0';
	notified = 0;
	say(0, "a");
	assert_int_equal(notified, 1);
	say(0, "b"); /* the console has not run: one notification is enough */
	assert_int_equal(notified, 1);
	say(1, "other");
	assert_int_equal(notified, 1);
	type("ls\r");
	run();
	assert_string_equal(screen, "ab");
	assert_int_equal(received_len[0], 3);
	assert_memory_equal(received[0], "ls\r", 3);
	assert_string_equal(typed, "");
	keyboard[keys++] = 0; /* Ctrl-@ and 8-bit text are for the guest, too */
	keyboard[keys++] = 0xff;
	run();
	assert_int_equal(received_len[0], 5);
	assert_memory_equal(received[0] + 3, "\0\xff", 2);
	assert_int_equal(warnings, 0);
}

static void test_attach_missing(void **state)
{
	strcpy(config.host.attach, "nobody");
	console_start();
	assert_int_equal(warnings, 1);
	assert_null(console_owner());
	assert_int_equal(prompts, 1);
}

static void test_escape(void **state)
{
	notified = 0;
	console_attach(vms[0], 0);
	assert_int_equal(notified, 1); /* what the ring kept is to be shown */
	type("x\x1d" "help\r");
	run();
	assert_null(console_owner());
	assert_int_equal(received_len[0], 1);
	assert_string_equal(typed, "help\r");
	assert_int_equal(prompts, 1);
	/* Not right after the first one, the key is the shell's. */
	type("\x1d");
	run();
	assert_null(console_owner());
	assert_string_equal(typed, "help\r\x1d");
	/* Twice: to the guest. */
	console_attach(vms[1], 0);
	type("\x1d\x1dq");
	run();
	assert_ptr_equal(console_owner(), vms[1]);
	assert_int_equal(received_len[1], 2);
	assert_memory_equal(received[1], "\x1dq", 2);
	/* Once more, singly: the shell again. */
	type("\x1d");
	run();
	assert_null(console_owner());
}

static void test_escape_configured(void **state)
{
	config.host.escape = 1; /* Ctrl-A */
	console_attach(vms[0], 0);
	type("\x1d");
	run();
	assert_int_equal(received_len[0], 1);
	type("\x01");
	run();
	assert_null(console_owner());
	assert_non_null(strstr(screen, "Ctrl-A"));
}

/* Detached, the ring keeps the newest 4096 bytes; nothing is refused. */
static void test_overflow_detached(void **state)
{
	char want[16];

	for (u32 i = 0; i < 5000; i++) {
		snprintf(want, sizeof(want), "%04u\n", i);
		say(0, want);
	}
	assert_int_equal(ready[0], 0);
	console_attach(vms[0], 0);
	screen[0] = '\0';
	run();
	assert_int_equal(strlen(screen), 4096);
	assert_string_equal(screen + 4096 - 5, "4999\n");
	assert_null(strstr(screen, "4100\n"));
}

/* Attached, a full ring holds the UART back until text has gone out: nothing is lost. */
static void test_overflow_attached(void **state)
{
	u32 put = 0;

	console_attach(vms[0], 0);
	screen[0] = '\0';
	while (vdev_console_put(vm_host(vms[0]), 0, (u8)('a' + put % 26)))
		put++;
	assert_int_equal(put, 4096);
	console_task();
	assert_int_equal(ready[0], 1);
	assert_true(vdev_console_put(vm_host(vms[0]), 0, 'a' + 4096 % 26));
	run();
	assert_int_equal(ready[0], 1);
	assert_int_equal(strlen(screen), 4097);
	for (u32 i = 0; i < 4097; i++)
		assert_int_equal(screen[i], 'a' + i % 26);
}

/* A UART that waited goes on when its console is taken away. */
static void test_detach_stalled(void **state)
{
	console_attach(vms[0], 0);
	while (vdev_console_put(vm_host(vms[0]), 0, 'x'))
		;
	console_detach();
	assert_int_equal(ready[0], 1);
	assert_true(vdev_console_put(vm_host(vms[0]), 0, 'y'));
}

/* One call moves a bounded amount, and asks to be called again. */
static void test_bounded(void **state)
{
	size_t shown;

	console_attach(vms[0], 0);
	for (u32 i = 0; i < 2000; i++)
		say(0, "z");
	screen[0] = '\0';
	notified = 0;
	console_task();
	shown = strlen(screen);
	assert_in_range(shown, 1, 512);
	assert_true(notified > 0);
	run();
	assert_int_equal(strlen(screen), 2000);
}

/* More input than the guest takes waits, then stays with the machine; nothing is lost or mixed. */
static void test_input_waits(void **state)
{
	console_attach(vms[0], 0);
	uart_room = 10;
	for (u32 i = 0; i < 4000; i++)
		keyboard[keys++] = (u8)('a' + i % 26);
	run();
	assert_int_equal(received_len[0], 10);
	assert_in_range(keys_used, 11, 2000);
	for (u32 i = 0; i < 1000 && received_len[0] < 4000; i++) {
		uart_room = 16;
		run();
	}
	assert_int_equal(received_len[0], 4000);
	for (u32 i = 0; i < 4000; i++)
		assert_int_equal(received[0][i], 'a' + i % 26);
}

static void test_power_off(void **state)
{
	vms[0]->state = VM_OFF;
	console_attach(vms[0], 0); /* off when attached: waits for its start */
	run();
	assert_ptr_equal(console_owner(), vms[0]);
	vms[0]->state = VM_RUNNING;
	run();
	say(0, "last words");
	vms[0]->state = VM_OFF;
	run();
	assert_null(console_owner());
	assert_int_equal(prompts, 1);
	assert_non_null(strstr(screen, "last words\n[web: is off]"));
	vms[1]->state = VM_RUNNING;
	console_attach(vms[1], 0);
	run();
	vms[1]->state = VM_CRASHED;
	run();
	assert_non_null(strstr(screen, "[db: has crashed]"));
}

static void test_destroy(void **state)
{
	console_attach(vms[0], 0);
	console_vm_exit(vms[0]);
	assert_null(console_owner());
	assert_true(vdev_console_put(vm_host(vms[0]), 0, 'x')); /* dropped */
	free(vms[0]);
	vms[0] = NULL;
	run();
	/* A port that does not exist takes everything and keeps nothing. */
	assert_true(vdev_console_put(vm_host(vms[1]), 2, 'x'));
	console_attach(vms[1], 2);
	assert_null(console_owner());
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_shell_has_it),      TEST(test_attach),
		TEST(test_attach_missing),    TEST(test_escape),
		TEST(test_escape_configured),
		TEST(test_overflow_detached), TEST(test_overflow_attached),
		TEST(test_detach_stalled),    TEST(test_bounded),
		TEST(test_input_waits),	      TEST(test_power_off),
		TEST(test_destroy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
