/* SPDX-License-Identifier: BSD-2-Clause */
// sources: sev/secret.c sev/base64.c
/* A launch that waits for its owner's secret: what the shell's command takes, refuses and wipes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/errno.h"
#include "core/heap.h"
#include "core/log.h"
#include "core/shell.h"
#include "sev/base64.h"
#include "sev/es.h"

static struct vm_config conf;
static struct es_vm es;
static struct vm vm = { .name = "a", .config = &conf };
static u8 ram[KIB(32)];
static char screen[8192];
static u32 finished, ran, stopped, forgotten, given;
static int finish_result, secret_result;
static u8 seen_header[PSP_SECRET_HDR_SIZE], seen[KIB(16)];
static u32 seen_len;
static u8 *block;
static bool wiped; /* the block was all zeros when it was given back */
static bool no_memory;

void *heap_alloc(size_t size)
{
	if (no_memory)
		return NULL;
	assert_null(block);
	block = aligned_alloc(PAGE_SIZE, ALIGN_UP(size, PAGE_SIZE));
	memset(block, 0, size);
	return block;
}

void heap_free(void *p)
{
	assert_ptr_equal(p, block);
	wiped = true;
	for (u32 i = 0; i < KIB(16) + PSP_SECRET_HDR_SIZE; i++)
		wiped &= block[i] == 0;
	free(block);
	block = NULL;
}

static void say(const char *fmt, va_list ap)
{
	size_t n = strlen(screen);

	vsnprintf(screen + n, sizeof(screen) - n, fmt, ap);
}

void log_printf(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
}

void log_print(u32 level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
}

size_t str_copy(char *dst, const char *src, size_t size)
{
	return (size_t)snprintf(dst, size, "%s", src);
}
struct vm *vm_find(const char *name) { return strcmp(name, vm.name) == 0 ? &vm : NULL; }
bool config_secret_waits(const struct vm_config *c) { return strcmp(c->sev_secret, "wait") == 0; }
void shell_forget(void) { forgotten++; }
paddr_t virt_to_phys(const void *va) { return (paddr_t)va; }

void *vm_ram_ptr(struct vm *m, gpa_t gpa, size_t *len, bool write)
{
	assert_true(write);
	if (gpa >= sizeof(ram))
		return NULL;
	*len = MIN(*len, sizeof(ram) - gpa);
	return ram + gpa;
}

int sev_guest_secret(const struct sev_guest *g, const u8 *hdr, paddr_t trans, paddr_t guest,
		     u32 len)
{
	assert_ptr_equal(g, &es.guest);
	assert_ptr_equal(guest, es.secret);
	memcpy(seen_header, hdr, sizeof(seen_header));
	memcpy(seen, (const void *)trans, len);
	seen_len = len;
	given++;
	return secret_result;
}

int es_launch_finish(struct vm *m)
{
	finished++;
	return finish_result;
}
void vm_run(struct vm *m)
{
	m->state = VM_RUNNING;
	ran++;
}
int es_stop(struct vm *m)
{
	m->state = VM_OFF;
	stopped++;
	return 0;
}

static int setup(void **state)
{
	memset(&conf, 0, sizeof(conf));
	strcpy(conf.sev_secret, "wait");
	es_secret_drop(&es);
	memset(&es, 0, sizeof(es));
	vm.es = &es;
	vm.state = VM_OFF;
	finished = ran = stopped = forgotten = given = 0;
	finish_result = secret_result = 0;
	screen[0] = '\0';
	wiped = no_memory = false;
	es_secret_place(&vm, 0x1000, 64);
	assert_int_equal(es_secret_wait(&vm), 0);
	return 0;
}

/* "vm secret a WORD [WORD]"; the words must be gone afterwards. */
static int command(const char *first, const char *second)
{
	static char text[2][KIB(24)];
	char *argv[] = { "vm", "secret", vm.name, text[0], text[1] };
	int err;

	strcpy(text[0], first);
	strcpy(text[1], second);
	screen[0] = '\0';
	err = es_secret_command(second[0] != '\0' ? 5 : 4, argv);
	assert_int_equal(text[0][0], 0);
	for (u32 i = 0; i < strlen(first); i++)
		assert_int_equal(text[0][i], 0);
	for (u32 i = 0; i < strlen(second); i++)
		assert_int_equal(text[1][i], 0);
	return err;
}

static const char *packed(u32 size, u8 first)
{
	static char text[4][KIB(24)];
	static u32 n;
	static u8 data[KIB(17)];

	for (u32 i = 0; i < size; i++)
		data[i] = (u8)(first + i);
	base64_encode(data, size, text[++n % 4]);
	return text[n % 4];
}

/* Nothing is lost, the VM waits on, and what was given is wiped. */
static void still_waits(void)
{
	assert_int_equal(vm.state, VM_WAITING);
	assert_int_equal(ran + finished + stopped, 0);
	assert_null(es.packet);
	assert_true(wiped);
	assert_non_null(strstr(screen, "a: refused, error"));
	assert_non_null(strstr(screen, "it still waits"));
}

static void places(void **state)
{
	static const struct {
		gpa_t gpa, config;
		u32 size, room;
		u64 at;
	} rows[] = {
		{ 0x1000, 0, 0x1000, 0x1000, 0x1000 }, { 0x1000, 0, KIB(20), KIB(16), 0x1000 },
		{ 0, 0x2000, 0, KIB(16), 0x2000 },     { 0x1000, 0x7f00, 64, 0x100, 0x7f00 },
		{ 0, 0, 0, 0, 0 },                     { 0x1000, 0, 0, 0, 0 },
		{ 0x1008, 0, 64, 0, 0 },               { 0x1000, 0x2004, 64, 0, 0 },
		{ 0x100000, 0, 64, 0, 0 },             { 0, 0x100000, 0, 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		conf.sev_secret_gpa = rows[i].config;
		vm.state = VM_OFF;
		screen[0] = '\0';
		es_secret_place(&vm, rows[i].gpa, rows[i].size);
		assert_int_equal(es.secret_room, rows[i].room);
		assert_ptr_equal(es.secret, rows[i].room != 0 ? ram + rows[i].at : NULL);
		assert_int_equal(es_secret_wait(&vm), rows[i].room != 0 ? 0 : -EFAULT);
		assert_int_equal(vm.state, rows[i].room != 0 ? VM_WAITING : VM_OFF);
		if (rows[i].room == 0)
			assert_non_null(strstr(screen, "set sev-secret-gpa"));
	}
}

/* As files give it: the size against the place. */
static void sizes(void **state)
{
	u8 payload[128] = { 0 };

	assert_int_equal(es_secret_give(&vm, payload, (paddr_t)payload, 64), 0);
	assert_int_equal(given, 1);
	for (u32 n = 0; n <= 128; n++)
		if (n == 0 || n > 64 || n % 16 != 0)
			assert_int_equal(es_secret_give(&vm, payload, (paddr_t)payload, n), -E2BIG);
	assert_int_equal(given, 1);
	assert_non_null(strstr(screen, "has 80 bytes; its place takes 16 to 64, in steps of 16"));
}

static void in_one_line(void **state)
{
	assert_int_equal(command(packed(PSP_SECRET_HDR_SIZE, 1), packed(64, 100)), 0);
	assert_int_equal(given, 1);
	assert_int_equal(seen_len, 64);
	assert_int_equal(seen_header[0], 1);
	assert_int_equal(seen_header[51], 52);
	assert_int_equal(seen[0], 100);
	assert_int_equal(seen[63], 163);
	assert_int_equal(finished, 1);
	assert_int_equal(ran, 1);
	assert_int_equal(vm.state, VM_RUNNING);
	assert_true(wiped);
	assert_null(es.packet);
	assert_int_equal(forgotten, 1);
	assert_string_equal(screen, "");
}

static void in_pieces(void **state)
{
	es_secret_place(&vm, 0x1000, KIB(16));
	for (u32 at = 0; at < KIB(16); at += 128) {
		assert_int_equal(command("+", packed(128, (u8)(at / 128))), 0);
		assert_int_equal(vm.state, VM_WAITING);
	}
	assert_int_equal(given, 0);
	assert_int_equal(forgotten, 128);
	assert_int_equal(command(packed(PSP_SECRET_HDR_SIZE, 7), ""), 0);
	assert_int_equal(seen_len, KIB(16));
	for (u32 at = 0; at < KIB(16); at++)
		assert_int_equal(seen[at], (u8)(at / 128 + at % 128));
	assert_int_equal(ran, 1);
	assert_true(wiped);
}

static void last_piece_with_the_header(void **state)
{
	assert_int_equal(command("+", packed(48, 1)), 0);
	assert_int_equal(command(packed(PSP_SECRET_HDR_SIZE, 0), packed(16, 49)), 0);
	assert_int_equal(seen_len, 64);
	assert_int_equal(seen[63], 64);
}

static void refused_by_the_processor(void **state)
{
	secret_result = -EIO;
	assert_int_equal(command(packed(PSP_SECRET_HDR_SIZE, 1), packed(64, 100)), -EIO);
	still_waits();
	secret_result = 0;
	assert_int_equal(command(packed(PSP_SECRET_HDR_SIZE, 1), packed(64, 100)), 0);
	assert_int_equal(ran, 1);
}

static void bad_text(void **state)
{
	const char *header = packed(PSP_SECRET_HDR_SIZE, 1);
	static const struct {
		const char *header, *payload, *words;
	} rows[] = {
		{ "garbage!", "AAAA", "the header is not 52 bytes in base64" },
		{ "AAAA", "AAAA", "the header is not 52 bytes in base64" },
		{ "+", "?", "the payload is no base64" },
		{ "+", "AAA", "the payload is no base64, or cut within a group of four" },
		{ NULL, "AAAA====", "the payload is no base64" },
		{ NULL, "", "has 0 bytes" }, { NULL, "AAAA", "has 3 bytes" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		wiped = false;
		assert_true(command(rows[i].header != NULL ? rows[i].header : header,
				    rows[i].payload) < 0);
		if (strstr(screen, rows[i].words) == NULL)
			fail_msg("%zu: %s", i, screen);
		still_waits();
	}
	wiped = false;
	assert_int_equal(command("+", packed(65, 0)), -E2BIG);
	assert_non_null(strstr(screen, "longer than its place of 64 bytes"));
	still_waits();
	/* A piece too many takes the others with it. */
	assert_int_equal(command("+", packed(48, 0)), 0);
	assert_int_equal(command("+", packed(48, 0)), -E2BIG);
	still_waits();
	assert_int_equal(command("+", packed(48, 9)), 0);
	assert_int_equal(command(packed(PSP_SECRET_HDR_SIZE, 1), ""), 0);
	assert_int_equal(seen_len, 48);
	assert_int_equal(seen[0], 9);
}

static void none(void **state)
{
	assert_int_equal(command("none", ""), 0);
	assert_int_equal(given, 0);
	assert_int_equal(finished, 1);
	assert_int_equal(ran, 1);
}

static void finish_fails(void **state)
{
	finish_result = -EIO;
	assert_int_equal(command("none", ""), -EIO);
	assert_int_equal(stopped, 1);
	assert_int_equal(ran, 0);
	assert_int_equal(vm.state, VM_OFF);
}

static void no_room(void **state)
{
	no_memory = true;
	wiped = true;
	assert_int_equal(command("+", "AAAA"), -ENOMEM);
	still_waits();
}

static void who_does_not_wait(void **state)
{
	char other[] = "b", name[] = "a", word[] = "AAAA", second[] = "x", third[] = "y";
	char *argv[] = { "vm", "secret", other, word, second, third };

	assert_int_equal(es_secret_command(3, argv), -EINVAL);
	assert_int_equal(es_secret_command(4, argv), -ENOENT);
	assert_non_null(strstr(screen, "b: no such VM"));
	assert_int_equal(word[0], 0);
	assert_int_equal(es_secret_command(6, argv), -EINVAL); /* wiped, too */
	assert_int_equal(second[0] | third[0], 0);
	assert_int_equal(forgotten, 3);
	assert_int_equal(command("+", ""), -EINVAL);
	argv[2] = name;
	for (u32 s = VM_OFF; s <= VM_CRASHED; s++) {
		vm.state = s;
		assert_int_equal(command("none", ""), -ENOENT);
		assert_non_null(strstr(screen, "is not in a launch that waits"));
	}
	conf.sev_secret[0] = '\0';
	assert_int_equal(command("none", ""), -ENOENT);
	assert_non_null(strstr(screen, "sev-secret = wait is not set"));
	vm.es = NULL;
	assert_int_equal(command(packed(PSP_SECRET_HDR_SIZE, 1), "AAAA"), -ENOENT);
	assert_non_null(strstr(screen, "is no SEV-ES guest"));
	assert_int_equal(given + finished + ran, 0);
}

#define TEST(fn) cmocka_unit_test_setup(fn, setup)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(places), TEST(sizes), TEST(in_one_line), TEST(in_pieces),
		TEST(last_piece_with_the_header), TEST(refused_by_the_processor), TEST(bad_text),
		TEST(none), TEST(finish_fails), TEST(no_room), TEST(who_does_not_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
