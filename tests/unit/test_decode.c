/* SPDX-License-Identifier: BSD-2-Clause */
// sources: arch/x86/decode.c
/*
 * The decoder against hand-encoded instructions, and its lengths against an
 * independent judge: objdump's disassembly of real programs and of random bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/x86/decode.h"
#include "arch/x86/virt.h"
#include "core/errno.h"

#define NONE INSN_NO_REG

static size_t parse_hex(const char *text, u8 *out, size_t max)
{
	size_t n = 0;
	unsigned byte;
	int used;

	while (n < max && sscanf(text, " %2x%n", &byte, &used) == 1) {
		out[n++] = (u8)byte;
		text += used;
	}
	return n;
}

struct length_case {
	const char *name;
	enum insn_mode mode;
	const char *hex;
	int len; /* or a negative errno */
};

static const struct length_case lengths[] = {
	{ "cpuid", INSN_MODE_64, "0f a2", 2 },
	{ "rdmsr", INSN_MODE_64, "0f 32", 2 },
	{ "wrmsr", INSN_MODE_16, "0f 30", 2 },
	{ "rdpmc", INSN_MODE_64, "0f 33", 2 },
	{ "rdtsc", INSN_MODE_64, "0f 31", 2 },
	{ "rdtscp", INSN_MODE_64, "0f 01 f9", 3 },
	{ "rdpru", INSN_MODE_64, "0f 01 fd", 3 },
	{ "hlt with operand prefix", INSN_MODE_64, "66 f4", 2 },
	{ "pause", INSN_MODE_64, "f3 90", 2 },
	{ "vmrun", INSN_MODE_64, "0f 01 d8", 3 },
	{ "vmmcall", INSN_MODE_32, "0f 01 d9", 3 },
	{ "vmmcall with rex", INSN_MODE_64, "48 0f 01 d9", 4 },
	{ "vmload", INSN_MODE_64, "0f 01 da", 3 },
	{ "vmsave", INSN_MODE_64, "0f 01 db", 3 },
	{ "stgi", INSN_MODE_64, "0f 01 dc", 3 },
	{ "clgi", INSN_MODE_64, "0f 01 dd", 3 },
	{ "skinit", INSN_MODE_64, "0f 01 de", 3 },
	{ "invlpga", INSN_MODE_64, "0f 01 df", 3 },
	{ "invlpg [rax+8]", INSN_MODE_64, "0f 01 78 08", 4 },
	{ "monitor", INSN_MODE_64, "0f 01 c8", 3 },
	{ "mwait", INSN_MODE_64, "0f 01 c9", 3 },
	{ "monitorx", INSN_MODE_64, "0f 01 fa", 3 },
	{ "mwaitx", INSN_MODE_64, "0f 01 fb", 3 },
	{ "xsetbv", INSN_MODE_64, "0f 01 d1", 3 },
	{ "invd", INSN_MODE_64, "0f 08", 2 },
	{ "wbinvd", INSN_MODE_64, "0f 09", 2 },
	{ "wbnoinvd", INSN_MODE_64, "f3 0f 09", 3 },
	{ "clts", INSN_MODE_64, "0f 06", 2 },
	{ "lmsw ax", INSN_MODE_16, "0f 01 f0", 3 },
	{ "lmsw [0x1234]", INSN_MODE_16, "0f 01 36 34 12", 5 },
	{ "smsw [rip+0]", INSN_MODE_64, "0f 01 25 00 00 00 00", 7 },
	{ "mov cr8, rax", INSN_MODE_64, "44 0f 22 c0", 4 },
	{ "mov cr0, eax, odd mod", INSN_MODE_32, "0f 22 00", 3 },
	{ "mov rax, dr7, odd mod", INSN_MODE_64, "0f 21 84", 3 },
	{ "lock mov cr0", INSN_MODE_32, "f0 0f 22 c0", 4 },
	{ "sgdt [rsp+8]", INSN_MODE_64, "0f 01 44 24 08", 5 },
	{ "lidt [0x100]", INSN_MODE_16, "0f 01 1e 00 01", 5 },
	{ "sldt [rax]", INSN_MODE_64, "0f 00 00", 3 },
	{ "ltr ax", INSN_MODE_64, "0f 00 d8", 3 },
	{ "in al, imm8", INSN_MODE_16, "e4 60", 2 },
	{ "in eax, dx", INSN_MODE_16, "66 ed", 2 },
	{ "out imm8, eax", INSN_MODE_64, "e7 80", 2 },
	{ "rep insw", INSN_MODE_64, "f3 66 6d", 3 },
	{ "rep outs, es, a32", INSN_MODE_64, "f3 67 26 6e", 4 },
	{ "int 0x80", INSN_MODE_64, "cd 80", 2 },
	{ "int3", INSN_MODE_64, "cc", 1 },
	{ "icebp", INSN_MODE_64, "f1", 1 },
	{ "iretq", INSN_MODE_64, "48 cf", 2 },
	{ "pushf", INSN_MODE_16, "66 9c", 2 },
	{ "popf", INSN_MODE_64, "9d", 1 },
	{ "rsm", INSN_MODE_32, "0f aa", 2 },
	{ "invpcid", INSN_MODE_64, "66 0f 38 82 00", 5 },
	{ "mov rax, imm64", INSN_MODE_64, "48 b8 1 2 3 4 5 6 7 8", 10 },
	{ "mov eax, moffs64", INSN_MODE_64, "a1 1 2 3 4 5 6 7 8", 9 },
	{ "mov eax, moffs32", INSN_MODE_64, "67 a1 1 2 3 4", 6 },
	{ "mov al, moffs16", INSN_MODE_16, "a0 1 2", 3 },
	{ "enter", INSN_MODE_64, "c8 10 00 01", 4 },
	{ "far call 16", INSN_MODE_16, "9a 1 2 3 4", 5 },
	{ "far jmp 32", INSN_MODE_32, "ea 1 2 3 4 5 6", 7 },
	{ "test r/m, imm", INSN_MODE_64, "f7 00 1 2 3 4", 6 },
	{ "test r/m /1", INSN_MODE_64, "f6 c8 1", 3 },
	{ "not r/m", INSN_MODE_64, "f7 10", 2 },
	{ "imul r, r/m, imm16", INSN_MODE_64, "66 69 c0 1 2", 5 },
	{ "les", INSN_MODE_32, "c4 00", 2 },
	{ "vmovups", INSN_MODE_64, "c5 f8 10 00", 4 },
	{ "vmovups, 32-bit mode", INSN_MODE_32, "c5 f8 10 00", 4 },
	{ "vpblendd", INSN_MODE_64, "c4 e3 7d 02 c1 f0", 6 },
	{ "evex vaddps", INSN_MODE_64, "62 f1 7c 48 58 c1", 6 },
	{ "xop vpcmov", INSN_MODE_64, "8f e8 78 a2 c1 10", 6 },
	{ "xop bextr imm32", INSN_MODE_64, "8f ea 78 10 c1 1 2 3 4", 9 },
	{ "pop [rax]", INSN_MODE_64, "8f 00", 2 },
	{ "3dnow", INSN_MODE_32, "0f 0f c1 9e", 4 },
	{ "sse4a extrq", INSN_MODE_64, "66 0f 78 c0 1 2", 6 },
	{ "15 bytes", INSN_MODE_32, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", 15 },
	{ "16 bytes", INSN_MODE_32, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", -E2BIG },
	{ "immediate past 15", INSN_MODE_32, "66 66 66 66 66 66 66 66 66 66 66 66 66 b8 1 2 3 4",
	  -E2BIG },
	{ "nothing", INSN_MODE_64, "", -EAGAIN },
	{ "prefix only", INSN_MODE_64, "48", -EAGAIN },
	{ "no second byte", INSN_MODE_64, "0f", -EAGAIN },
	{ "no modrm", INSN_MODE_64, "8b", -EAGAIN },
	{ "no sib", INSN_MODE_64, "8b 04", -EAGAIN },
	{ "short displacement", INSN_MODE_64, "8b 80 1 2 3", -EAGAIN },
	{ "short immediate", INSN_MODE_64, "b8 1 2 3", -EAGAIN },
	{ "short vex", INSN_MODE_64, "c5 f8", -EAGAIN },
	{ "push es in long mode", INSN_MODE_64, "06", -EINVAL },
	{ "far jmp in long mode", INSN_MODE_64, "ea 1 2 3 4 5 6", -EINVAL },
	{ "aam in long mode", INSN_MODE_64, "d4 0a", -EINVAL },
	{ "undefined 0f", INSN_MODE_64, "0f 0a", -EINVAL },
	{ "lock vex", INSN_MODE_64, "f0 c5 f8 10 00", -EINVAL },
	{ "rex vex", INSN_MODE_64, "48 c5 f8 10 00", -EINVAL },
};

static void test_lengths(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		const struct length_case *t = &lengths[i];
		u8 bytes[32];
		struct insn in;
		size_t n = parse_hex(t->hex, bytes, sizeof(bytes));
		int rc = insn_decode(&in, bytes, n, t->mode);

		if ((rc ? rc : in.len) != t->len)
			fail_msg("%s: %d instead of %d", t->name, rc ? rc : in.len, t->len);
	}
}

/* Each legal instruction cut short asks for more, whatever the cut. */
static void test_truncated(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		u8 bytes[32];
		struct insn in;

		parse_hex(lengths[i].hex, bytes, sizeof(bytes));
		for (int n = 0; n < lengths[i].len; n++)
			assert_int_equal(insn_decode(&in, bytes, (size_t)n, lengths[i].mode),
					 -EAGAIN);
	}
}

struct operand_case {
	enum insn_mode mode;
	const char *hex;
	struct insn want; /* only the operand fields below are compared */
};

/* Encodings written by hand from APM vol. 3, 1.4 to 1.8. */
static const struct operand_case operands[] = {
	/* mov [rbx+rcx*4-1], r9d */
	{ INSN_MODE_64, "44 89 4c 8b ff",
	  { .opsize = 4, .addrsize = 8, .mem = true, .reg = 9, .base = 3, .index = 1, .scale = 2,
	    .disp = -1, .seg = VSEG_DS } },
	/* mov rax, [r12] : base 12 needs a SIB byte */
	{ INSN_MODE_64, "49 8b 04 24",
	  { .opsize = 8, .addrsize = 8, .mem = true, .reg = 0, .base = 12, .index = NONE,
	    .seg = VSEG_DS } },
	/* mov rax, [r13+0] : base 13 needs a displacement */
	{ INSN_MODE_64, "49 8b 45 00",
	  { .opsize = 8, .addrsize = 8, .mem = true, .base = 13, .index = NONE, .seg = VSEG_DS } },
	/* mov eax, [rax+r12*2] : index 12 is an index, unlike 4 */
	{ INSN_MODE_64, "42 8b 04 60",
	  { .opsize = 4, .addrsize = 8, .mem = true, .base = 0, .index = 12, .scale = 1,
	    .seg = VSEG_DS } },
	/* mov eax, [rsp] */
	{ INSN_MODE_64, "8b 04 24",
	  { .opsize = 4, .addrsize = 8, .mem = true, .base = 4, .index = NONE, .seg = VSEG_SS } },
	/* mov [rip+0x10], esi */
	{ INSN_MODE_64, "89 35 10 00 00 00",
	  { .opsize = 4, .addrsize = 8, .mem = true, .rip_rel = true, .reg = 6, .base = NONE,
	    .index = NONE, .disp = 0x10, .seg = VSEG_DS } },
	/* mov [0xffffffffff5fc0b0], esi : absolute through SIB, as Linux writes EOI */
	{ INSN_MODE_64, "89 34 25 b0 c0 5f ff",
	  { .opsize = 4, .addrsize = 8, .mem = true, .reg = 6, .base = NONE, .index = NONE,
	    .disp = -0xa03f50, .seg = VSEG_DS } },
	/* mov word fs:[ebx], 0x8001 with a 32-bit address */
	{ INSN_MODE_64, "64 67 66 c7 03 01 80",
	  { .opsize = 2, .addrsize = 4, .mem = true, .base = 3, .index = NONE, .seg = VSEG_FS,
	    .imm = 0xffffffffffff8001 } },
	/* a DS override does not cancel GS in 64-bit mode; it does in 32-bit mode */
	{ INSN_MODE_64, "65 3e 8b 00",
	  { .opsize = 4, .addrsize = 8, .mem = true, .base = 0, .index = NONE, .seg = VSEG_GS } },
	{ INSN_MODE_32, "65 3e 8b 00",
	  { .opsize = 4, .addrsize = 4, .mem = true, .base = 0, .index = NONE, .seg = VSEG_DS } },
	/* a REX before a legacy prefix is ignored */
	{ INSN_MODE_64, "48 66 89 07",
	  { .opsize = 2, .addrsize = 8, .mem = true, .base = 7, .index = NONE, .seg = VSEG_DS } },
	/* mov [bp+si+0x12], al in 16-bit mode */
	{ INSN_MODE_16, "88 42 12",
	  { .opsize = 2, .addrsize = 2, .mem = true, .base = 5, .index = 6, .disp = 0x12,
	    .seg = VSEG_SS } },
	/* mov [0xfee0], ax ; mov eax, [bx-2] */
	{ INSN_MODE_16, "89 06 e0 fe",
	  { .opsize = 2, .addrsize = 2, .mem = true, .base = NONE, .index = NONE, .disp = -0x120,
	    .seg = VSEG_DS } },
	{ INSN_MODE_16, "66 8b 87 fe ff",
	  { .opsize = 4, .addrsize = 2, .mem = true, .base = 3, .index = NONE, .disp = -2,
	    .seg = VSEG_DS } },
	/* mov eax, [edi*8+0x12345678] in 16-bit mode by prefixes */
	{ INSN_MODE_16, "66 67 8b 04 fd 78 56 34 12",
	  { .opsize = 4, .addrsize = 4, .mem = true, .base = NONE, .index = 7, .scale = 3,
	    .disp = 0x12345678, .seg = VSEG_DS } },
	/* mov [0xfee000b0], eax by moffs */
	{ INSN_MODE_32, "a3 b0 00 e0 fe",
	  { .opsize = 4, .addrsize = 4, .mem = true, .base = NONE, .index = NONE,
	    .disp = 0xfee000b0, .seg = VSEG_DS } },
	/* push imm8 is 64 bits wide in 64-bit mode; mov r15b, r8b is a register form */
	{ INSN_MODE_64, "6a fe",
	  { .opsize = 8, .addrsize = 8, .base = NONE, .index = NONE, .seg = VSEG_DS,
	    .imm = (u64)-2 } },
	{ INSN_MODE_64, "45 88 c7",
	  { .opsize = 4, .addrsize = 8, .reg = 8, .rm = 15, .base = NONE, .index = NONE,
	    .seg = VSEG_DS } },
};

static void test_operands(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(operands); i++) {
		const struct insn *w = &operands[i].want;
		u8 bytes[16];
		struct insn in;
		size_t n = parse_hex(operands[i].hex, bytes, sizeof(bytes));

		print_message("%s\n", operands[i].hex);
		assert_int_equal(insn_decode(&in, bytes, n, operands[i].mode), 0);
		assert_int_equal(in.len, n);
		assert_int_equal(in.opsize, w->opsize);
		assert_int_equal(in.addrsize, w->addrsize);
		assert_int_equal(in.mem, w->mem);
		assert_int_equal(in.rip_rel, w->rip_rel);
		assert_int_equal(in.reg, w->reg);
		assert_int_equal(in.rm, w->rm);
		assert_int_equal(in.base, w->base);
		assert_int_equal(in.index, w->index);
		assert_int_equal(in.scale, w->scale);
		assert_int_equal(in.disp, w->disp);
		assert_int_equal(in.imm, w->imm);
		assert_int_equal(in.seg, w->seg);
	}
}

/* Does objdump's text say that this line is no (whole) instruction? */
static bool not_an_instruction(const char *text)
{
	static const char *const prefix[] = {
		"rex", "data16", "data32", "addr16", "addr32", "lock", "repz", "repnz", "rep", "cs",
		"ds", "es", "ss", "fs", "gs", "xacquire", "xrelease", "bnd", "notrack",
	};
	char word[32];
	int used;

	if (strstr(text, "(bad)") || strstr(text, ".byte"))
		return true;
	/* Test registers ended with the 80486; REX before VEX is #UD (APM vol. 3, 1.2.7). */
	if (strstr(text, "%tr") || (!strncmp(text, "rex", 3) && strstr(text, " v")))
		return true;
	/* A line of prefixes alone. */
	while (sscanf(text, " %31s%n", word, &used) == 1) {
		size_t i;

		for (i = 0; i < ARRAY_SIZE(prefix); i++)
			if (!strncmp(word, prefix[i], strlen(prefix[i])) &&
			    (word[strlen(prefix[i])] == 0 || word[strlen(prefix[i])] == '.'))
				break;
		if (i == ARRAY_SIZE(prefix))
			return false;
		text += used;
	}
	return true;
}

/* Is the first byte after the prefixes an FWAIT? */
static bool starts_with_fwait(const u8 *bytes, size_t n)
{
	size_t i = 0;

	while (i + 1 < n && strchr("\x66\x67\x26\x2e\x36\x3e\x64\x65\xf0\xf2\xf3", bytes[i]) &&
	       bytes[i])
		i++;
	while (i + 1 < n && (bytes[i] & 0xf0) == 0x40)
		i++;
	return bytes[i] == 0x9b;
}

/* Compares lengths with each line of a disassembly; returns the number compared. */
static u32 judge(const char *command, enum insn_mode mode, u32 *wrong)
{
	char line[512];
	u32 compared = 0;
	FILE *f = popen(command, "r");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		char *hex = strchr(line, '\t'), *text = hex ? strchr(hex + 1, '\t') : NULL;
		u8 bytes[16];
		struct insn in;
		size_t n;
		int rc;

		if (!text)
			continue;
		*text++ = 0;
		n = parse_hex(hex, bytes, sizeof(bytes));
		if (n > INSN_MAX || not_an_instruction(text))
			continue;
		if (n > 1 && starts_with_fwait(bytes, n)) /* shown as one with what follows FWAIT */
			continue;
		rc = insn_decode(&in, bytes, n, mode);
		compared++;
		if (rc || in.len != n) {
			if ((*wrong)++ < 20)
				print_message("mode %d, got %d:%s %s", mode, rc ? rc : in.len, hex,
					      text);
		}
	}
	pclose(f);
	return compared;
}

static void test_real_programs(void **state)
{
	u32 wrong = 0, n;

	(void)state;
	if (system("objdump --version >/dev/null 2>&1"))
		skip();
	n = judge("objdump -d -w --insn-width=15 /lib/x86_64-linux-gnu/libc.so.6 "
		  "/lib/x86_64-linux-gnu/libm.so.6 /bin/bash",
		  INSN_MODE_64, &wrong);
	print_message("%u instructions compared\n", n);
	assert_true(n > 100000);
	assert_int_equal(wrong, 0);
}

static void random_file(const char *path, u32 seed, size_t n)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	srand(seed);
	while (n--)
		fputc(rand() >> 8 & 0xff, f);
	assert_int_equal(fclose(f), 0);
}

static void test_random_bytes(void **state)
{
	static const struct {
		enum insn_mode mode;
		const char *machine;
	} modes[] = {
		{ INSN_MODE_16, "i8086" },
		{ INSN_MODE_32, "i386" },
		{ INSN_MODE_64, "i386:x86-64" },
	};
	char path[64], command[256];

	(void)state;
	if (system("objdump --version >/dev/null 2>&1"))
		skip();
	snprintf(path, sizeof(path), "/tmp/ravelin-decode-%d.bin", (int)getpid());
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		u32 wrong = 0, n;

		random_file(path, 4711 + (u32)i, 400000);
		snprintf(command, sizeof(command),
			 "objdump -D -z -w --insn-width=15 -b binary -m %s -M suffix %s",
			 modes[i].machine, path);
		n = judge(command, modes[i].mode, &wrong);
		print_message("mode %d: %u instructions compared, %u differ\n", modes[i].mode, n,
			      wrong);
		assert_true(n > 50000);
		assert_int_equal(wrong, 0);
	}
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths),      cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_operands),     cmocka_unit_test(test_real_programs),
		cmocka_unit_test(test_random_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
