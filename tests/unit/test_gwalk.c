/* SPDX-License-Identifier: BSD-2-Clause */
// sources: arch/x86/gwalk.c arch/x86/decode.c
/* The guest page-table walk and segment checks, on tables made by hand for each paging mode. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "arch/x86/gwalk.h"
#include "tests/unit/guest_mock.h"

#define R VACCESS_READ
#define W VACCESS_WRITE
#define X VACCESS_EXEC
#define SYS GACCESS_SYSTEM

#define WP BIT(16)
#define PSE BIT(4)
#define PAE BIT(5)
#define LA57 BIT(12)
#define SMEP BIT(20)
#define SMAP BIT(21)
#define NXE BIT(11)
#define LMA BIT(10)
#define AC BIT(18)
#define NX BIT(63)

/* Entry bits */
#define P 1UL
#define PW 3UL
#define PU 5UL
#define PWU 7UL
#define A 0x20UL
#define D 0x40UL
#define PS 0x80UL

#define ROOT 0x1000UL /* the tables of each level are the pages from here */

static int walk(gva_t gva, u32 access, gpa_t *gpa, u32 *error)
{
	*gpa = ~0UL;
	*error = ~0U;
	return guest_translate(&mock_vcpu, gva, access, gpa, error);
}

#define assert_maps(gva, access, want) do { \
	gpa_t gpa_; u32 err_; \
	assert_int_equal(walk(gva, access, &gpa_, &err_), 0); \
	assert_int_equal(gpa_, want); \
} while (0)
#define assert_faults(gva, access, want) do { \
	gpa_t gpa_; u32 err_; \
	assert_int_equal(walk(gva, access, &gpa_, &err_), -EFAULT); \
	assert_int_equal(err_, want); \
} while (0)

static void paging(enum insn_mode mode, u64 cr4, u64 efer)
{
	mock_reset(mode);
	memset(mock_ram, 0, sizeof(mock_ram));
	mock_reg[VREG_CR0] = BIT(31) | WP | 1;
	mock_reg[VREG_CR3] = ROOT;
	mock_reg[VREG_CR4] = cr4;
	mock_reg[VREG_EFER] |= efer;
}

static void test_no_paging(void **state)
{
	(void)state;
	mock_reset(INSN_MODE_32);
	assert_maps(0xfee000b0, W, 0xfee000b0);
	assert_maps(0x1fee000b0, W, 0xfee000b0); /* linear addresses have 32 bits */
}

/* 0x00803004: directory entry 2, table entry 3. */
static void test_32bit(void **state)
{
	(void)state;
	paging(INSN_MODE_32, 0, 0);
	assert_faults(0x803004, R, 0);
	assert_faults(0x803004, W, PF_WRITE);
	mock_put32(ROOT + 2 * 4, 0x2000 | PWU);
	assert_faults(0x803004, R, 0);
	mock_put32(0x2000 + 3 * 4, 0xabcde000 | PWU);
	assert_maps(0x803004, R, 0xabcde004);
	assert_int_equal(mock_get32(ROOT + 2 * 4), 0x2000 | PWU | A);
	assert_int_equal(mock_get32(0x2000 + 3 * 4), 0xabcde000 | PWU | A);
	assert_maps(0x803fff, W, 0xabcdefff);
	assert_int_equal(mock_get32(ROOT + 2 * 4), 0x2000 | PWU | A);
	assert_int_equal(mock_get32(0x2000 + 3 * 4), 0xabcde000 | PWU | A | D);
	/* Bit 7 of a table entry is PAT; in a directory entry without CR4.PSE it is ignored. */
	mock_put32(0x2000 + 3 * 4, 0xabcde000 | PWU | PS);
	mock_put32(ROOT + 2 * 4, 0x2000 | PWU | PS);
	assert_maps(0x803004, R, 0xabcde004);
}

static void test_pse(void **state)
{
	(void)state;
	paging(INSN_MODE_32, PSE, 0);
	mock_put32(ROOT + 2 * 4, 0x40c00000 | PWU | PS);
	assert_maps(0xabc123, W, 0x40c00000 + 0x2bc123);
	assert_int_equal(mock_get32(ROOT + 2 * 4), 0x40c00000 | PWU | PS | A | D);
	/* PSE-36: bits 20:13 are address bits 39:32. */
	mock_put32(ROOT + 2 * 4, 0x40c00000 | 0x9a << 13 | PWU | PS);
	assert_maps(0x800000, R, 0x9a40c00000);
	/* Beyond the physical address width, and bit 21: reserved. */
	mock_vcpu.cpuid.ext[8].eax = 36;
	assert_faults(0x800000, R, PF_PRESENT | PF_RESERVED);
	mock_put32(ROOT + 2 * 4, 0x40c00000 | 0xa << 13 | PWU | PS);
	assert_maps(0x800000, R, 0xa40c00000);
	mock_put32(ROOT + 2 * 4, 0x40e00000 | PWU | PS);
	assert_faults(0x800000, W, PF_PRESENT | PF_RESERVED | PF_WRITE);
}

/* 0xc0403010: pointer 3, directory entry 2, table entry 3. CR3 needs only 32-byte alignment. */
static void test_pae(void **state)
{
	(void)state;
	paging(INSN_MODE_32, PAE, NXE);
	mock_reg[VREG_CR3] = ROOT + 0x20;
	mock_put64(ROOT + 0x20 + 3 * 8, 0x2000 | P);
	mock_put64(0x2000 + 2 * 8, 0x3000 | PWU);
	mock_put64(0x3000 + 3 * 8, 0x8abcde000 | PWU);
	assert_maps(0xc0403010, W, 0x8abcde010);
	assert_int_equal(mock_get64(ROOT + 0x20 + 3 * 8), 0x2000 | P); /* no accessed bit here */
	assert_int_equal(mock_get64(0x2000 + 2 * 8), 0x3000 | PWU | A);
	assert_int_equal(mock_get64(0x3000 + 3 * 8), 0x8abcde000 | PWU | A | D);
	mock_put64(0x2000 + 2 * 8, 0x40600000 | PWU | PS);
	assert_maps(0xc0523456, R, 0x40723456);
	mock_put64(0x2000 + 2 * 8, 0x40610000 | PWU | PS); /* bit 16 of a 2 MiB page */
	assert_faults(0xc0523456, R, PF_PRESENT | PF_RESERVED);
	mock_put64(0x2000 + 2 * 8,
		   0x40600000 | PWU | PS | BIT(52)); /* no available bits up there */
	assert_faults(0xc0523456, R, PF_PRESENT | PF_RESERVED);
	mock_put64(0x2000 + 2 * 8, 0x40600000 | PWU | PS | NX);
	assert_faults(0xc0523456, X, PF_PRESENT | PF_FETCH);
	mock_reg[VREG_EFER] = 0; /* without NXE the bit is reserved, and no fetch is told */
	assert_faults(0xc0523456, X, PF_PRESENT | PF_RESERVED);
	mock_put64(ROOT + 0x20 + 3 * 8, 0x2000 | PW); /* R/W of a pointer is reserved */
	assert_faults(0xc0523456, R, PF_PRESENT | PF_RESERVED);
}

#define KVA 0xffff800140604078UL /* entries 256, 5, 3, 4 */

static void long_tables(u64 l4, u64 l3, u64 l2, u64 l1)
{
	mock_put64(ROOT + 256 * 8, l4);
	mock_put64(0x2000 + 5 * 8, l3);
	mock_put64(0x3000 + 3 * 8, l2);
	mock_put64(0x4000 + 4 * 8, l1);
}

static void test_long(void **state)
{
	(void)state;
	paging(INSN_MODE_64, PAE, NXE);
	mock_reg[VREG_CR3] = ROOT | 0xfff; /* PCID and cache bits are no address */
	long_tables(0x2000 | PWU, 0x3000 | PWU, 0x4000 | PWU, 0xfee00000 | PWU | (0x7ffUL << 52));
	assert_maps(KVA, W, 0xfee00078);
	assert_int_equal(mock_get64(ROOT + 256 * 8), 0x2000 | PWU | A);
	assert_int_equal(mock_get64(0x2000 + 5 * 8), 0x3000 | PWU | A);
	assert_int_equal(mock_get64(0x3000 + 3 * 8), 0x4000 | PWU | A);
	assert_int_equal(mock_get64(0x4000 + 4 * 8),
			 0xfee00000 | PWU | (0x7ffUL << 52) | A | D);
	/* 2 MiB and 1 GiB pages */
	long_tables(0x2000 | PWU, 0x3000 | PWU, 0x8000000000 | PWU | PS, 0);
	assert_maps(KVA, R, 0x8000004078);
	long_tables(0x2000 | PWU, 0x40000000 | PWU | PS, 0, 0);
	assert_faults(KVA, R, PF_PRESENT | PF_RESERVED);
	mock_1g_pages = true;
	assert_maps(KVA, R, 0x40604078);
	/* Reserved: PS at the top, address bits beyond 40, holes in a large page's address. */
	long_tables(0x2000 | PWU | PS, 0x3000 | PWU, 0x4000 | PWU, 0);
	assert_faults(KVA, R, PF_PRESENT | PF_RESERVED);
	long_tables(0x2000 | PWU, 0x3000 | PWU | BIT(40), 0x4000 | PWU, 0);
	assert_faults(KVA, W, PF_PRESENT | PF_RESERVED | PF_WRITE);
	long_tables(0x2000 | PWU, 0x40002000 | PWU | PS, 0, 0);
	assert_faults(KVA, R, PF_PRESENT | PF_RESERVED);
	/* A table outside RAM is no fault of the guest's making that could be told to it. */
	long_tables(0xfee00000 | PWU, 0, 0, 0);
	gpa_t gpa;
	u32 error;
	assert_int_equal(walk(KVA, R, &gpa, &error), -EIO);
	mock_protected = true;
	assert_int_equal(walk(KVA, R, &gpa, &error), -EACCES);
}

static void test_5_levels(void **state)
{
	(void)state;
	paging(INSN_MODE_64, PAE | LA57, 0);
	mock_reg[VREG_CR3] = 0x5000;
	mock_put64(0x5000 + 511 * 8, ROOT | PWU);
	long_tables(0x2000 | PWU, 0x3000 | PWU, 0x4000 | PWU, 0xfee00000 | PWU);
	assert_maps(KVA, R, 0xfee00078);
	assert_int_equal(mock_get64(0x5000 + 511 * 8), ROOT | PWU | A);
}

/* A fault leaves no accessed or dirty bit behind; tables in ROM are used as they are. */
static void test_untouched(void **state)
{
	(void)state;
	paging(INSN_MODE_64, PAE, 0);
	long_tables(0x2000 | PWU, 0x3000 | PWU, 0x4000 | PWU, 0xfee00000 | PU);
	assert_faults(KVA, W, PF_PRESENT | PF_WRITE);
	assert_int_equal(mock_get64(ROOT + 256 * 8), 0x2000 | PWU);
	assert_int_equal(mock_get64(0x4000 + 4 * 8), 0xfee00000 | PU);

	mock_reg[VREG_CR3] = MOCK_ROM_BASE;
	mock_put64(MOCK_ROM_BASE + 256 * 8, 0x2000 | PWU);
	assert_maps(KVA, R, 0xfee00078);
	assert_int_equal(mock_get64(MOCK_ROM_BASE + 256 * 8), 0x2000 | PWU);
	assert_int_equal(mock_get64(0x4000 + 4 * 8), 0xfee00000 | PU | A);
}

struct rights_case {
	const char *name;
	u64 upper, leaf; /* entry bits */
	u32 cpl;
	u64 cr0, cr4, rflags;
	u32 access;
	int error; /* -1: allowed */
};

/* APM vol. 2, 5.6: expectations worked out from the text, with EFER.NXE set. */
static const struct rights_case rights[] = {
	{ "user reads user page", PWU, PU, 3, WP, 0, 0, R, -1 },
	{ "user writes user page", PWU, PWU, 3, WP, 0, 0, W, -1 },
	{ "user reads supervisor page", PWU, PW, 3, WP, 0, 0, R, 5 },
	{ "user reads below supervisor table", PW, PWU, 3, WP, 0, 0, R, 5 },
	{ "user writes read-only page", PWU, PU, 3, WP, 0, 0, W, 7 },
	{ "user writes below read-only table", PU, PWU, 3, 0, 0, 0, W, 7 },
	{ "user fetches", PWU, PU, 3, WP, SMEP | SMAP, 0, X, -1 },
	{ "user fetches NX page", PWU, PU | NX, 3, WP, 0, 0, X, 0x15 },
	{ "user fetches below NX table", PWU | NX, PU, 3, WP, 0, 0, X, 0x15 },
	{ "user reads NX page", PWU, PU | NX, 3, WP, 0, 0, R, -1 },
	{ "kernel writes read-only, WP", PWU, P, 0, WP, 0, 0, W, 3 },
	{ "kernel writes read-only, no WP", PWU, P, 0, 0, 0, 0, W, -1 },
	{ "kernel writes user read-only, no WP", PWU, PU, 0, 0, 0, 0, W, -1 },
	{ "kernel writes user read-only, WP, ring 2", PWU, PU, 2, WP, 0, 0, W, 3 },
	{ "kernel fetches user page", PWU, PU, 0, WP, 0, 0, X, -1 },
	{ "kernel fetches user page, SMEP", PWU, PU, 0, WP, SMEP, 0, X, 0x11 },
	{ "kernel fetches supervisor page, SMEP", PW, PU, 0, WP, SMEP, 0, X, -1 },
	{ "kernel fetches NX page", PW, P | NX, 0, WP, 0, 0, X, 0x11 },
	{ "kernel reads user page, SMAP", PWU, PU, 0, WP, SMAP, 0, R, 1 },
	{ "kernel writes user page, SMAP", PWU, PWU, 0, WP, SMAP, 0, W, 3 },
	{ "kernel reads user page, SMAP, AC", PWU, PU, 0, WP, SMAP, AC, R, -1 },
	{ "kernel fetches user page, SMAP only", PWU, PU, 0, WP, SMAP, 0, X, -1 },
	{ "kernel reads supervisor page, SMAP", PWU, PW, 0, WP, SMAP, 0, R, -1 },
	{ "system read at CPL 3 of supervisor page", PWU, P, 3, WP, 0, 0, R | SYS, -1 },
	{ "system read at CPL 3 of user page, SMAP, AC", PWU, PU, 3, WP, SMAP, AC, R | SYS, 1 },
	{ "system write at CPL 3, read-only", PWU, P, 3, WP, 0, 0, W | SYS, 3 },
};

static void test_rights(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rights); i++) {
		const struct rights_case *t = &rights[i];
		gpa_t gpa;
		u32 error = 0;
		int rc;

		paging(INSN_MODE_64, PAE | t->cr4, NXE);
		mock_reg[VREG_CR0] = BIT(31) | 1 | t->cr0;
		mock_reg[VREG_RFLAGS] = 2 | t->rflags;
		mock_reg[VREG_CPL] = t->cpl;
		long_tables(0x2000 | PWU, 0x3000 | t->upper, 0x4000 | PWU, 0x7000 | t->leaf);
		rc = walk(KVA, t->access, &gpa, &error);
		if (rc != (t->error < 0 ? 0 : -EFAULT) || (rc && (int)error != t->error))
			fail_msg("%s: %d, error 0x%x", t->name, rc, error);
	}
}

struct segment_case {
	const char *name;
	enum insn_mode mode;
	u64 cr0;
	u8 seg;
	struct vsegment s;
	u64 off;
	u32 size, access;
	int vector; /* -1: allowed */
	gva_t gva;
};

#define SEG(a, l, b) { .attr = (a), .limit = (l), .base = (b) }

static const struct segment_case segments[] = {
	{ "real mode", INSN_MODE_16, 0, VSEG_DS, SEG(0x93, 0xffff, 0x12340), 0xfffe, 2, W, -1,
	  0x2233e },
	{ "real mode, past limit", INSN_MODE_16, 0, VSEG_DS, SEG(0x93, 0xffff, 0), 0xffff, 2, R, 13,
	  0 },
	{ "real mode, stack", INSN_MODE_16, 0, VSEG_SS, SEG(0x93, 0xffff, 0), 0xffff, 2, R, 12, 0 },
	{ "real mode writes CS", INSN_MODE_16, 0, VSEG_CS, SEG(0x9b, 0xffff, 0x100), 0, 2, W, -1,
	  0x100 },
	{ "flat", INSN_MODE_32, 1, VSEG_DS, SEG(0xc93, 0xffffffff, 0), 0xfee000b0, 4, W, -1,
	  0xfee000b0 },
	{ "base wraps at 4G", INSN_MODE_32, 1, VSEG_DS, SEG(0xc93, 0xffffffff, 0x80000000),
	  0x80000010, 4, R, -1, 0x10 },
	{ "limit exact", INSN_MODE_32, 1, VSEG_DS, SEG(0x493, 0xfff, 0x5000), 0xffc, 4, R, -1,
	  0x5ffc },
	{ "limit passed by one", INSN_MODE_32, 1, VSEG_DS, SEG(0x493, 0xfff, 0), 0xffd, 4, R, 13,
	  0 },
	{ "end of range wraps", INSN_MODE_32, 1, VSEG_DS, SEG(0xc93, 0xffffffff, 0), 0xfffffffe, 4,
	  R, 13, 0 },
	{ "expand-down below", INSN_MODE_32, 1, VSEG_SS, SEG(0x497, 0xfff, 0), 0xfff, 1, R, 12, 0 },
	{ "expand-down above", INSN_MODE_32, 1, VSEG_SS, SEG(0x497, 0xfff, 0), 0x1000, 4, W, -1,
	  0x1000 },
	{ "expand-down 16-bit top", INSN_MODE_32, 1, VSEG_DS, SEG(0x097, 0xfff, 0), 0xfffe, 4, R,
	  13, 0 },
	{ "write to read-only", INSN_MODE_32, 1, VSEG_DS, SEG(0xc91, 0xffffffff, 0), 0, 4, W, 13,
	  0 },
	{ "write to code", INSN_MODE_32, 1, VSEG_CS, SEG(0xc9b, 0xffffffff, 0), 0, 4, W, 13, 0 },
	{ "read execute-only code", INSN_MODE_32, 1, VSEG_CS, SEG(0xc99, 0xffffffff, 0), 0, 4, R,
	  13, 0 },
	{ "read readable code", INSN_MODE_32, 1, VSEG_CS, SEG(0xc9b, 0xffffffff, 0), 4, 4, R, -1,
	  4 },
	{ "fetch from data", INSN_MODE_32, 1, VSEG_CS, SEG(0xc93, 0xffffffff, 0), 4, 4, X, 13, 0 },
	{ "null segment", INSN_MODE_32, 1, VSEG_ES, SEG(0, 0, 0), 0, 1, R, 13, 0 },
	{ "64-bit ignores base and limit", INSN_MODE_64, 1, VSEG_DS, SEG(0, 0, 0x1000), 0x8000, 4,
	  W, -1, 0x8000 },
	{ "64-bit GS base", INSN_MODE_64, 1, VSEG_GS, SEG(0, 0, 0xffff888000000000), 0x10, 8, R, -1,
	  0xffff888000000010 },
	{ "non-canonical", INSN_MODE_64, 1, VSEG_DS, SEG(0, 0, 0), 0x800000000000, 1, R, 13, 0 },
	{ "non-canonical stack", INSN_MODE_64, 1, VSEG_SS, SEG(0, 0, 0), 0x800000000000, 1, R, 12,
	  0 },
	{ "last byte non-canonical", INSN_MODE_64, 1, VSEG_DS, SEG(0, 0, 0), 0x7fffffffffff, 2, R,
	  13, 0 },
};

static void test_segments(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(segments); i++) {
		const struct segment_case *t = &segments[i];
		struct gwalk_ctx ctx;
		struct guest_fault fault = { 0 };
		gva_t gva = 0;
		int rc;

		mock_reset(t->mode);
		mock_reg[VREG_CR0] = t->cr0;
		assert_int_equal(gwalk_load(&mock_vcpu, &ctx), 0);
		mock_seg[t->seg] = t->s;
		rc = guest_linear(&mock_vcpu, &ctx, t->seg, t->off, t->size, t->access, &gva,
				  &fault);
		if (rc != (t->vector < 0 ? 0 : -EFAULT) || (rc && fault.vector != t->vector) ||
		    (!rc && gva != t->gva) || fault.error)
			fail_msg("%s: %d, vector %d, 0x%lx", t->name, rc, fault.vector, gva);
	}
}

static void test_code_mode(void **state)
{
	enum insn_mode mode;

	(void)state;
	for (int want = INSN_MODE_16; want <= INSN_MODE_64; want++) {
		mock_reset((enum insn_mode)want);
		assert_int_equal(guest_mode_of(&mock_vcpu, &mode), 0);
		assert_int_equal(mode, want);
	}
	mock_reg[VREG_EFER] = 0x100; /* CS.L without long mode active */
	mock_seg[VSEG_CS].attr |= MOCK_DB;
	assert_int_equal(guest_mode_of(&mock_vcpu, &mode), 0);
	assert_int_equal(mode, INSN_MODE_32);
}

/* Two pages that are neighbours only in linear space. */
static void two_pages(u64 second)
{
	paging(INSN_MODE_64, PAE, 0);
	long_tables(0x2000 | PWU, 0x3000 | PWU, 0x4000 | PWU, 0x8000 | PWU);
	mock_put64(0x4000 + 5 * 8, second);
	for (int i = 0; i < 4096; i++) {
		mock_ram[0x8000 + i] = (u8)i;
		mock_ram[0x6000 + i] = (u8)~i;
	}
}

#define PAGE_OF_KVA (KVA & ~0xfffUL)

static void test_copy(void **state)
{
	static const u8 want[4] = { 0xfe, 0xff, 0xff, 0xfe };
	struct gwalk_ctx ctx;
	struct guest_fault fault = { 0 };
	u8 buf[32] = { 0 };

	(void)state;
	two_pages(0x6000 | PWU);
	assert_int_equal(gwalk_load(&mock_vcpu, &ctx), 0);
	assert_int_equal(guest_read_linear(&mock_vcpu, &ctx, PAGE_OF_KVA + 0xffe, buf, 4, &fault),
			 0);
	assert_memory_equal(buf, want, 4);
	assert_int_equal(
		guest_write_linear(&mock_vcpu, &ctx, PAGE_OF_KVA + 0xffd, "abcdef", 6, &fault), 0);
	assert_memory_equal(mock_ram + 0x8ffd, "abc", 3);
	assert_memory_equal(mock_ram + 0x6000, "def", 3);
	assert_int_equal(mock_ram[0x6003], 0xfc);

	/* The second page is read-only: nothing of the first is written. */
	two_pages(0x6000 | PU);
	assert_int_equal(
		guest_write_linear(&mock_vcpu, &ctx, PAGE_OF_KVA + 0xffd, "abcdef", 6, &fault),
		-EFAULT);
	assert_int_equal(fault.vector, VEC_PF);
	assert_int_equal(fault.error, PF_PRESENT | PF_WRITE);
	assert_int_equal(fault.address, PAGE_OF_KVA + 0x1000);
	assert_int_equal(mock_ram[0x8ffd], 0xfd);
	/* The second page is a device or ROM. */
	two_pages(0xfee00000 | PWU);
	assert_int_equal(guest_read_linear(&mock_vcpu, &ctx, PAGE_OF_KVA + 0xffe, buf, 4, &fault),
			 -EIO);
	two_pages(MOCK_ROM_BASE | PWU);
	assert_int_equal(
		guest_write_linear(&mock_vcpu, &ctx, PAGE_OF_KVA + 0xffd, "abcdef", 6, &fault),
		-EIO);
	assert_int_equal(mock_ram[0x8ffd], 0xfd);
	/* Linear addresses wrap at 4 GiB outside 64-bit mode. */
	two_pages(0);
	mock_put64(ROOT, 0x2000 | PWU);
	mock_put64(0x2000 + 3 * 8, 0x3000 | PWU);
	mock_put64(0x3000 + 511 * 8, 0x4000 | PWU);
	mock_put64(0x4000 + 511 * 8, 0x8000 | PWU);
	mock_seg[VSEG_CS].attr = MOCK_CODE | MOCK_DB;
	assert_int_equal(gwalk_load(&mock_vcpu, &ctx), 0);
	assert_int_equal(guest_read_linear(&mock_vcpu, &ctx, 0xfffffffe, buf, 4, &fault), -EFAULT);
	assert_int_equal(fault.address, 0);
	/* Sizes out of range */
	assert_int_equal(guest_read_linear(&mock_vcpu, &ctx, PAGE_OF_KVA, buf, 0, &fault), -E2BIG);
	assert_int_equal(guest_read_linear(&mock_vcpu, &ctx, PAGE_OF_KVA, buf, 4097, &fault),
			 -E2BIG);
}

static void test_fetch(void **state)
{
	struct gwalk_ctx ctx;
	struct guest_fault fault = { 0 };
	u8 buf[INSN_MAX];

	(void)state;
	two_pages(0x6000 | PWU);
	assert_int_equal(gwalk_load(&mock_vcpu, &ctx), 0);
	assert_int_equal(guest_fetch(&mock_vcpu, &ctx, PAGE_OF_KVA + 0xffc, buf, &fault), 15);
	assert_int_equal(buf[3], 0xff);
	assert_int_equal(buf[5], 0xfe);
	two_pages(0);
	assert_int_equal(guest_fetch(&mock_vcpu, &ctx, PAGE_OF_KVA + 0xffc, buf, &fault), 4);
	assert_int_equal(fault.vector, VEC_PF);
	assert_int_equal(fault.address, PAGE_OF_KVA + 0x1000);
	assert_int_equal(guest_fetch(&mock_vcpu, &ctx, PAGE_OF_KVA + 0x1004, buf, &fault), -EFAULT);
	assert_int_equal(fault.address, PAGE_OF_KVA + 0x1004);
	assert_int_equal(guest_fetch(&mock_vcpu, &ctx, 0x800000000000, buf, &fault), -EFAULT);
	assert_int_equal(fault.vector, VEC_GP);

	/* The code segment ends 5 bytes on. */
	mock_reset(INSN_MODE_32);
	assert_int_equal(gwalk_load(&mock_vcpu, &ctx), 0);
	mock_seg[VSEG_CS].limit = 0x8004;
	assert_int_equal(guest_fetch(&mock_vcpu, &ctx, 0x8000, buf, &fault), 5);
	assert_int_equal(fault.vector, VEC_GP);
	/* Code in a device */
	mock_seg[VSEG_CS].limit = 0xffffffff;
	assert_int_equal(guest_fetch(&mock_vcpu, &ctx, 0xfee00000, buf, &fault), -EIO);
}

/* One instruction page at KVA's page; the caller changes things and asks again. */
static bool cached(struct gwalk_code *code, u64 rip, u8 *first)
{
	struct gwalk_ctx ctx;
	u8 buf[INSN_MAX];
	bool ok;

	assert_int_equal(gwalk_load(&mock_vcpu, &ctx), 0);
	ok = guest_fetch_cached(&mock_vcpu, &ctx, code, rip, buf);
	*first = buf[0];
	return ok;
}

static void test_fetch_cached(void **state)
{
	struct gwalk_code code = { 0 };
	u8 first;

	(void)state;
	two_pages(0x6000 | PWU);
	mock_reg[VREG_EFER] |= NXE;
	for (int i = 0; i < 3; i++) {
		assert_true(cached(&code, PAGE_OF_KVA + 0x123, &first));
		assert_int_equal(first, 0x23);
	}
	/* The bytes themselves are read each time. */
	mock_ram[0x8123] = 0x99;
	assert_true(cached(&code, PAGE_OF_KVA + 0x123, &first));
	assert_int_equal(first, 0x99);
	/* An entry at each level that changes leads elsewhere at once. */
	mock_put64(0x4000 + 4 * 8, 0x6000 | PWU);
	assert_true(cached(&code, PAGE_OF_KVA + 0x123, &first));
	assert_int_equal(first, (u8)~0x23);
	mock_put64(0x7000 + 4 * 8, 0x8000 | PWU);
	mock_put64(0x3000 + 3 * 8, 0x7000 | PWU);
	assert_true(cached(&code, PAGE_OF_KVA + 0x123, &first));
	assert_int_equal(first, 0x99);
	mock_put64(ROOT + 256 * 8, 0);
	assert_false(cached(&code, PAGE_OF_KVA + 0x123, &first));
	mock_put64(ROOT + 256 * 8, 0x2000 | PWU);
	assert_true(cached(&code, PAGE_OF_KVA + 0x123, &first));
	/* A cleared accessed bit is set again, as by a walk. */
	mock_put64(0x7000 + 4 * 8, 0x8000 | PWU);
	assert_true(cached(&code, PAGE_OF_KVA + 0x123, &first));
	assert_int_equal(mock_get64(0x7000 + 4 * 8), 0x8000 | PWU | A);
	/* The next page, another root, lost rights */
	assert_false(cached(&code, PAGE_OF_KVA + 0x1123, &first)); /* not mapped in table 0x7000 */
	assert_true(cached(&code, PAGE_OF_KVA + 0x123, &first));
	mock_reg[VREG_CR3] = 0x5000;
	assert_false(cached(&code, PAGE_OF_KVA + 0x123, &first));
	mock_reg[VREG_CR3] = ROOT;
	mock_put64(0x7000 + 4 * 8, 0x8000 | PWU | NX);
	assert_false(cached(&code, PAGE_OF_KVA + 0x123, &first));
	mock_put64(0x7000 + 4 * 8, 0x8000 | PWU);
	assert_true(cached(&code, PAGE_OF_KVA + 0x123, &first));
	mock_reg[VREG_CR4] |= SMEP;
	assert_false(cached(&code, PAGE_OF_KVA + 0x123, &first));
	mock_reg[VREG_CPL] = 3;
	assert_true(cached(&code, PAGE_OF_KVA + 0x123, &first));
	mock_reg[VREG_CPL] = 0;
	assert_false(cached(&code, PAGE_OF_KVA + 0x123, &first));
	mock_reg[VREG_CR4] &= ~SMEP;
	assert_true(cached(&code, PAGE_OF_KVA + 0x123, &first));
	/* Only within one page, only 64-bit code, only RAM, only canonical */
	assert_true(cached(&code, PAGE_OF_KVA + 0xff1, &first));
	assert_false(cached(&code, PAGE_OF_KVA + 0xff2, &first));
	assert_false(cached(&code, PAGE_OF_KVA & ~(1UL << 60), &first));
	mock_put64(0x7000 + 4 * 8, 0xfee00000 | PWU);
	assert_false(cached(&code, PAGE_OF_KVA + 0x123, &first));
	mock_put64(0x7000 + 4 * 8, 0x8000 | PWU);
	mock_seg[VSEG_CS].attr = MOCK_CODE | MOCK_DB;
	assert_false(cached(&code, PAGE_OF_KVA + 0x123, &first));
}

static void test_inject(void **state)
{
	struct guest_fault pf = { .vector = VEC_PF, .error = 6, .address = 0x1234 };
	struct guest_fault gp = { .vector = VEC_GP };

	(void)state;
	mock_reset(INSN_MODE_64);
	guest_inject(&mock_vcpu, &pf);
	assert_int_equal(mock_told.vector, VEC_PF);
	assert_int_equal(mock_told.error, 6);
	assert_int_equal(mock_told.address, 0x1234);
	guest_inject(&mock_vcpu, &gp);
	assert_int_equal(mock_told.vector, VEC_GP);
	assert_int_equal(mock_told.error, 0);
	assert_true(mock_told.has_error);
}

/* Tables of random bits never make the walker read outside RAM or loop. */
static void test_random_tables(void **state)
{
	(void)state;
	srand(20);
	for (int round = 0; round < 20000; round++) {
		static const u64 cr4[] = { 0, PSE, PAE, PAE | SMEP | SMAP, PAE | LA57 };
		u32 m = (u32)rand() % 5;
		bool wide = m >= 3 && (rand() & 1);
		gpa_t gpa;
		u32 error;
		int rc;

		if (round % 200 == 0)
			for (size_t i = 0; i < 0x8000; i += 8)
				mock_put64(i, ((u64)(rand() & 7) << 12) | 7U |
						      (u64)(rand() & 0xf8) |
						      (rand() % 16 ? 0 : (u64)rand() << 20));
		mock_reset(wide ? INSN_MODE_64 : INSN_MODE_32);
		mock_reg[VREG_CR0] = BIT(31) | WP | 1;
		mock_reg[VREG_CR3] = (u64)rand() & 0x7fff;
		mock_reg[VREG_CR4] = cr4[m];
		mock_reg[VREG_CPL] = (u64)rand() & 3;
		rc = walk((u64)rand() << 17 ^ (u64)rand(), 1U << rand() % 3, &gpa, &error);
		assert_true(rc == 0 || rc == -EFAULT || rc == -EIO);
		assert_true(rc != -EFAULT || error < 32);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_paging), cmocka_unit_test(test_32bit),
		cmocka_unit_test(test_pse),       cmocka_unit_test(test_pae),
		cmocka_unit_test(test_long),      cmocka_unit_test(test_5_levels),
		cmocka_unit_test(test_untouched), cmocka_unit_test(test_rights),
		cmocka_unit_test(test_segments),  cmocka_unit_test(test_code_mode),
		cmocka_unit_test(test_copy),      cmocka_unit_test(test_fetch),
		cmocka_unit_test(test_fetch_cached), cmocka_unit_test(test_inject),
		   cmocka_unit_test(test_random_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
