/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/config.c core/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/config.h"
#include "core/log.h"
#include "core/pv.h"

static char messages[65536];
static struct vm_config vms[VM_MAX];
static struct config c;

void log_print(u32 level, const char *fmt, ...)
{
	size_t at = strlen(messages);
	va_list ap;

	assert_int_equal(level, LOG_ERROR);
	va_start(ap, fmt);
	vsnprintf(messages + at, sizeof(messages) - at, fmt, ap);
	va_end(ap);
	at = strlen(messages);
	if (at + 1 < sizeof(messages))
		strcpy(messages + at, "\n");
}

/* The text is copied to a block of exactly its size: reading beyond it is caught. */
static u32 parse_len(const char *text, size_t len)
{
	char *copy = malloc(len ? len : 1);
	u32 errors;

	memcpy(copy, text, len);
	memset(&c, 0, sizeof(c));
	memset(vms, 0, sizeof(vms));
	c.vm = vms;
	messages[0] = '\0';
	errors = config_parse(&c, "ravelin.conf", copy, len);
	free(copy);
	assert_int_equal(errors, c.errors);
	return errors;
}

static u32 parse(const char *text)
{
	return parse_len(text, strlen(text));
}

static void test_full(void **state)
{
	assert_int_equal(parse("\xef\xbb\xbf# a comment\r\n"
			       "[host]\r\n"
			       "console = com2,9600 efifb   # two\r\n"
			       "console = 0x3e8\n"
			       "log=debug\n"
			       "attach = web\n"
			       "escape = ctrl-a\n"
			       "mitigations = off\n"
			       "memory-encryption = yes\n"
			       "; another\n"
			       "[vm web]   # first\n"
			       "kernel  = \\boot\\vmlinuz            # the kernel\n"
			       "initrd  = initrd.img\n"
			       "cmdline = console=ttyS0 a#b \t; not this\n"
			       "memory  = 512M\n"
			       "cpus    = 2\n"
			       "affinity= 0-1, 3,255\n"
			       "sev     = es\n"
			       "policy  = nodbg,noks\n"
			       "sev-loader = stage0.bin\n"
			       "sev-cert = godh.b64\n"
			       "sev-session = session.b64\n"
			       "sev-secret = secret.bin\n"
			       "sev-secret-header = header.bin\n"
			       "sev-secret-gpa = 0x80d000\n"
			       "autostart = yes\n"
			       "debug-exit = on\n"
			       "[VM old_one.2]\n"
			       "kernel = \"xen.gz;x\" # c\n"
			       "module = /vm linuz  two  words\n"
			       "module = initrd\n"
			       "cmdline = \" a # b\" ; c\n"
			       "debugcon = true\n"
			       "policy = 0x10001"),
			 0);
	assert_string_equal(messages, "");
	assert_int_equal(c.host.consoles, 3);
	assert_int_equal(c.host.console[0].kind, CONSOLE_UART);
	assert_int_equal(c.host.console[0].port, 0x2f8);
	assert_int_equal(c.host.console[0].baud, 9600);
	assert_int_equal(c.host.console[1].kind, CONSOLE_FB);
	assert_int_equal(c.host.console[2].port, 0x3e8);
	assert_int_equal(c.host.console[2].baud, 115200);
	assert_int_equal(c.host.log_level, LOG_DEBUG);
	assert_string_equal(c.host.attach, "web");
	assert_int_equal(c.host.escape, 1);
	assert_false(c.host.mitigations);
	assert_true(c.host.memory_encryption);
	assert_int_equal(c.vms, 2);
	assert_string_equal(vms[0].name, "web");
	assert_int_equal(vms[0].line, 11);
	assert_true(vms[0].valid);
	assert_string_equal(vms[0].kernel, "\\boot\\vmlinuz");
	assert_string_equal(vms[0].initrd, "initrd.img");
	assert_string_equal(vms[0].cmdline, "console=ttyS0 a#b");
	assert_int_equal(vms[0].memory, 512UL << 20);
	assert_int_equal(vms[0].cpus, 2);
	assert_int_equal(vms[0].affinity.bits[0], 0xb);
	assert_true(vms[0].affinity.bits[3] == 1UL << 63);
	assert_int_equal(vms[0].sev, SEV_ES);
	assert_int_equal(vms[0].policy, 1 | 2 | 4); /* NODBG, NOKS, and ES by sev = es */
	assert_string_equal(vms[0].sev_loader, "stage0.bin");
	assert_string_equal(vms[0].sev_cert, "godh.b64");
	assert_string_equal(vms[0].sev_session, "session.b64");
	assert_string_equal(vms[0].sev_secret, "secret.bin");
	assert_string_equal(vms[0].sev_secret_header, "header.bin");
	assert_int_equal(vms[0].sev_secret_gpa, 0x80d000);
	assert_true(vms[0].autostart);
	assert_true(vms[0].debug_exit);
	assert_false(vms[0].debugcon);
	assert_string_equal(vms[1].name, "old_one.2");
	assert_string_equal(vms[1].kernel, "xen.gz;x");
	assert_string_equal(vms[1].cmdline, " a # b");
	assert_int_equal(vms[1].modules, 2);
	assert_string_equal(vms[1].module[0].path, "/vm");
	assert_string_equal(vms[1].module[0].args, "linuz  two  words");
	assert_string_equal(vms[1].module[1].path, "initrd");
	assert_string_equal(vms[1].module[1].args, "");
	assert_int_equal(vms[1].policy, 0x10001);
	assert_true(vms[1].debugcon);
	assert_false(vms[1].autostart);
}

static void test_defaults(void **state)
{
	assert_int_equal(parse("[vm a]\nkernel=k"), 0);
	assert_int_equal(c.host.consoles, 0);
	assert_int_equal(c.host.log_level, LOG_INFO);
	assert_int_equal(c.host.escape, 0x1d); /* Ctrl-] */
	assert_true(c.host.mitigations);
	assert_false(c.host.memory_encryption);
	assert_int_equal(vms[0].memory, 256UL << 20);
	assert_int_equal(vms[0].cpus, 1);
	assert_int_equal(parse(""), 0);
	assert_int_equal(c.vms, 0);
}

/* A bad line in [vm a] or [host]: the message has the text; a second VM still counts. */
static const struct {
	const char *line;
	const char *message;
} bad_vm[] = {
	{ "memory = 5Q",
	  "ravelin.conf:3: memory = 5Q: not a size; use a number with K, M or G, 2M to 1T" },
	{ "memory = ", "memory = : not a size" },
	{ "memory = M", "memory = M: not a size" },
	{ "memory = -1M", "not a size" },
	{ "memory = 1M", "out of range; use 2M to 1T" },
	{ "memory = 2T", "out of range" },
	{ "memory = 99999999999999999999", "not a size" },
	{ "memory = 18014398509481985K", "not a size" }, /* 2^64 + 1K */
	{ "memory = 3M", "not a multiple of 2M" },
	{ "cpus = 0", "use a number from 1 to 64" },
	{ "cpus = 65", "use a number from 1 to 64" },
	{ "cpus = two", "use a number from 1 to 64" },
	{ "affinity = 1-", "not a list of CPUs" },
	{ "affinity = -1", "not a list of CPUs" },
	{ "affinity = 1-2-3", "not a list of CPUs" },
	{ "affinity = ,", "not a list of CPUs" },
	{ "affinity = 3-1", "bad range of CPUs" },
	{ "affinity = 256", "bad range of CPUs" },
	{ "affinity = 0-18446744073709551615", "bad range of CPUs" },
	{ "sev = snp", "sev = snp: use off or es" },
	{ "policy = nodbg,foo", "words of nodbg, noks" },
	{ "policy = 0x100000000", "a policy has 32 bits" },
	{ "autostart = maybe", "use yes or no" },
	{ "pv = clock", "use all, none, or words of" },
	{ "pv = kvmclock,,steal", "use all, none, or words of" },
	{ "pv =", "use all, none, or words of" },
	{ "pv = kvmclock,all", "use all, none, or words of" },
	{ "pv = ipi,tlb", "tlb needs steal" },
	{ "colour = red", "ravelin.conf:3: 'colour': unknown key in [vm]; use kernel, initrd," },
	{ "Cpus = 1", "'Cpus': unknown key in [vm]" },
	{ "initrd = a b", "initrd = a b: a path has no spaces" },
	{ "kernel = other", "ravelin.conf:3: kernel: already given in line 2" },
	{ "initrd = \"x", "closing \" is missing" },
	{ "initrd = \"x\" y", "text after the closing \"" },
	{ "module = ", "empty; use the path" },
	{ "firmware = f", "[vm a]: has both kernel and firmware" },
	{ "sev-loader = l", "[vm a]: has sev-... keys, which need sev = es" },
	{ "sev = es", "[vm a]: sev = es with a kernel needs sev-loader" },
	{ "sev = es\nsev-loader = l\nsev-cert = c", "sev-cert and sev-session belong together" },
	{ "sev = es\nsev-loader = l\nsev-secret = s", "sev-secret and sev-secret-header belong" },
	{ "sev = es\nsev-loader = l\nsev-secret = wait", "sev-secret = wait needs sev-cert" },
	{ "sev = es\nsev-loader = l\nsev-cert = c\nsev-session = s\nsev-secret = wait\n"
	  "sev-secret-header = h", "sev-secret = wait needs sev-cert and sev-session, and no" },
	{ "sev-secret-gpa = x", "use an address, such as" },
	{ "initrd = i\nmodule = m", "has both initrd and module" },
	{ "just words", "ravelin.conf:3: 'just words': not understood" },
	{ "= 5", "not understood" },
	{ "cmdline = a\x01" "b", "has a control character" },
	{ "cmdline = \x1b[2J", "'cmdline = ?[2J': has a control character" },
};

static void test_secret_waits(void **state)
{
	static const char text[] = "[vm a]\nkernel = k\nsev = es\nsev-loader = l\nsev-cert = c\n"
				   "sev-session = s\nsev-secret = wait\n[vm b]\nkernel = k\n";

	assert_int_equal(parse(text), 0);
	assert_true(vms[0].valid);
	assert_true(config_secret_waits(&vms[0]));
	assert_false(config_secret_waits(&vms[1]));
}

static void test_bad_vm(void **state)
{
	char text[512];

	for (size_t i = 0; i < sizeof(bad_vm) / sizeof(bad_vm[0]); i++) {
		snprintf(text, sizeof(text), "[vm a]\nkernel = k\n%s\n[vm b]\nkernel=k\n",
			 bad_vm[i].line);
		assert_int_equal(parse(text), 1);
		if (!strstr(messages, bad_vm[i].message))
			fail_msg("%s: got %s", bad_vm[i].line, messages);
		assert_int_equal(c.vms, 2);
		assert_false(vms[0].valid);
		assert_true(vms[1].valid);
	}
}

static const struct {
	const char *text;
	const char *message;
} bad_text[] = {
	{ "[host]\nlog = loud", "ravelin.conf:2: log = loud: use error, warn, info or debug" },
	{ "[host]\nconsole = com3", "use com1, com2, a port" },
	{ "[host]\nconsole = com1,12345", "bad baud rate" },
	{ "[host]\nconsole = com1,0", "bad baud rate" },
	{ "[host]\nconsole = 0xff", "use com1, com2, a port" },
	{ "[host]\nconsole = efifb,1", "efifb has no baud rate" },
	{ "[host]\nconsole = com1 com1 com1 com1 com1", "at most 4 consoles" },
	{ "[host]\nescape = ctrl-m", "use ctrl- and a letter" },
	{ "[host]\nescape = x", "use ctrl- and a letter" },
	{ "[host]\nattach = nobody", "ravelin.conf:2: attach = nobody: no such VM" },
	{ "[host]\nattach = a b", "not a VM's name" },
	{ "[host]\nmitigations = 3", "use yes or no" },
	{ "[host]\nmemory-encryption = sme", "use yes or no" },
	{ "[host]\nkernel = k", "unknown key in [host]; use console, log" },
	{ "[host]\n[host]\nlog=info", "ravelin.conf:2: [host]: already in line 1" },
	{ "[guest x]\nkernel=k\n", "unknown section; use [host] or [vm NAME]" },
	{ "[host x]", "unknown section" },
	{ "[vm]", "bad VM name" },
	{ "[vm a b]", "bad VM name" },
	{ "[vm a/b]", "bad VM name" },
	{ "[vm 12345678901234567890123456789012]", "bad VM name" },
	{ "[vm a", "a section ends with ]" },
	{ "[", "a section ends with ]" },
	{ "[]", "unknown section" },
	{ "kernel = k", "before any section" },
	{ "[vm a]\n", "ravelin.conf:1: [vm a]: names nothing to start" },
	{ "[vm a]\nfirmware=f\ncmdline=x", "initrd, module and cmdline need kernel" },
	{ "[vm a]\nkernel=k\n[vm a]\nkernel=k\n", "ravelin.conf:3: [vm a]: already in line 1" },
};

static void test_bad_text(void **state)
{
	for (size_t i = 0; i < sizeof(bad_text) / sizeof(bad_text[0]); i++) {
		assert_true(parse(bad_text[i].text) >= 1);
		if (!strstr(messages, bad_text[i].message))
			fail_msg("%s: got %s", bad_text[i].text, messages);
	}
	/* Nothing of a refused section counts as an error again, nor as a VM. */
	assert_int_equal(parse("[guest x]\nkernel=k\n"), 1);
	assert_int_equal(c.vms, 0);
	/* Of two sections with one name the first counts. */
	assert_int_equal(parse("[vm a]\nkernel=k\n[vm a]\nkernel=j\n"), 1);
	assert_true(vms[0].valid);
	assert_string_equal(vms[0].kernel, "k");
}

static char *filled(const char *head, char fill, size_t n, const char *tail)
{
	char *s = malloc(strlen(head) + n + strlen(tail) + 1);

	strcpy(s, head);
	memset(s + strlen(head), fill, n);
	strcpy(s + strlen(head) + n, tail);
	return s;
}

static void expect_len(const char *head, size_t n, u32 errors)
{
	char *s = filled(head, 'x', n, "\n");

	assert_int_equal(parse(s), errors);
	free(s);
}

static void test_lengths(void **state)
{
	expect_len("[vm a]\nkernel=", CONFIG_PATH_LEN - 1, 0);
	assert_int_equal(strlen(vms[0].kernel), CONFIG_PATH_LEN - 1);
	expect_len("[vm a]\nkernel=", CONFIG_PATH_LEN, 1);
	expect_len("[vm a]\nkernel=k\ncmdline=", CONFIG_CMDLINE_LEN - 1, 0);
	assert_int_equal(strlen(vms[0].cmdline), CONFIG_CMDLINE_LEN - 1);
	expect_len("[vm a]\nkernel=k\ncmdline=", CONFIG_CMDLINE_LEN, 1);
	expect_len("[vm a]\nkernel=k\nmodule=m ", CONFIG_PATH_LEN, 1);
	expect_len("[vm a]\nkernel=k\n", 100000, 1);
}

static void test_many(void **state)
{
	char text[VM_MAX * 40];
	size_t n = 0;

	for (u32 i = 0; i <= VM_MAX; i++)
		n += (size_t)sprintf(text + n, "[vm v%u]\nkernel=k\n", i);
	assert_int_equal(parse(text), 1);
	assert_int_equal(c.vms, VM_MAX);
	assert_non_null(strstr(messages, "more than 64 VMs"));
	n = (size_t)sprintf(text, "[vm a]\nkernel=k\n");
	for (u32 i = 0; i <= CONFIG_MODULES; i++)
		n += (size_t)sprintf(text + n, "module=m\n");
	assert_int_equal(parse(text), 1);
	assert_int_equal(vms[0].modules, CONFIG_MODULES);
	assert_non_null(strstr(messages, "at most 8 modules"));
}

static u32 seed = 1;

static u32 rnd(void)
{
	seed = seed * 1664525 + 1013904223;
	return seed >> 8;
}

/* Words of the language in random order with random bytes: no sanitizer report, sane results. */
static void test_fuzz(void **state)
{
	static const char *const word[] = {
		"[host]", "[vm ", "a", "]", "\n", "=", "kernel", "memory", "cpus", "affinity",
		"policy", "console", "com1", ",", "-", "0", "1", "255", "18446744073709551615", "M",
		"0x", "\"", "#", ";", " ", "\t", "\r\n", "module", "escape", "ctrl-", "^]", "sev",
		"es", "nodbg",
		"firmware", "attach", "cmdline", "initrd", "\xff", "\0x"
	};
	char text[400];

	for (u32 round = 0; round < 20000; round++) {
		size_t n = 0;

		for (u32 i = rnd() % 40; i; i--) {
			const char *w = word[rnd() % (sizeof(word) / sizeof(word[0]))];

			memcpy(text + n, w, strlen(w));
			n += strlen(w);
			if (n > sizeof(text) - 40)
				break;
		}
		for (u32 i = rnd() % 4; i && n; i--)
			text[rnd() % n] = (char)rnd();
		parse_len(text, n);
		assert_true(c.vms <= VM_MAX);
		for (u32 i = 0; i < c.vms; i++) {
			assert_true(strlen(vms[i].name) < CONFIG_NAME_LEN);
			assert_true(vms[i].cpus >= 1 && vms[i].cpus <= VCPU_MAX);
			assert_true(vms[i].memory >= 2UL << 20 && vms[i].memory % (2UL << 20) == 0);
			if (vms[i].valid)
				assert_true(!vms[i].kernel[0] != !vms[i].firmware[0]);
		}
		if (c.errors)
			assert_true(messages[0] != '\0');
	}
}

/* What a VM is offered: everything, unless its section says otherwise. */
static void test_pv(void **state)
{
	static const struct {
		const char *text;
		u32 pv;
	} good[] = {
		{ "", PV_ALL },
		{ "pv = all\n", PV_ALL },
		{ "pv = NONE\n", 0 },
		{ "pv = kvmclock\n", PV_CLOCK },
		{ "pv = tlb , steal,yield\n", PV_TLB | PV_STEAL | PV_YIELD },
		{ "pv = unhalt,ipi,eoi\n", PV_UNHALT | PV_IPI | PV_EOI },
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		char text[128];

		snprintf(text, sizeof(text), "[vm a]\nkernel = k\n%s", good[i].text);
		assert_int_equal(parse(text), 0);
		assert_int_equal(vms[0].pv, good[i].pv);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full),	 cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_secret_waits),
		cmocka_unit_test(test_bad_vm),	 cmocka_unit_test(test_bad_text),
		cmocka_unit_test(test_lengths),	 cmocka_unit_test(test_many),
		cmocka_unit_test(test_fuzz),	 cmocka_unit_test(test_pv),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
