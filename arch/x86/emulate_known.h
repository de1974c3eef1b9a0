/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_EMULATE_KNOWN_H
#define RAVELIN_ARCH_X86_EMULATE_KNOWN_H

#include "arch/x86/gwalk.h"
#include "core/types.h"

/*
 * Loads and stores on device memory that a vCPU has executed before: what the
 * exits of a driver are nearly always about, and built for speed. All else, and the
 * first time, is emulate.c's.
 */
struct vcpu;

/*
 * A plain load or store seen before, found again by its bytes: it needs no decode
 * and, as the exit names the guest-physical address, no operand address either.
 */
struct emulate_quick {
	u64 key[2];   /* instruction bytes 0..7 and 7..14, under mask */
	u64 mask[2];
	u64 imm;
	u8 len;       /* 0: empty */
	u8 kind;      /* EMULATE_KIND() */
	u16 last;     /* bytes of a page in which the access can begin without leaving it */
	u8 size;      /* bytes of the access */
	u8 reg_size;  /* loads: bytes of the destination register */
	u8 reg;       /* GPR, never RSP */
	bool use_imm; /* stores: imm instead of reg */
	bool sign;    /* loads: sign-extend */
	bool located; /* the operand's place in its page follows from what comes next */
	u8 base;      /* registers or INSN_NO_REG */
	u8 index;
	u8 scale;
	u16 low;      /* displacement */
} __aligned(64);

/* The code mode that an instruction was decoded in, as vexit_mmio.code_mode, and does it write? */
#define QUICK_STORE 0x80U
#define EMULATE_KIND(mode, write) ((mode) | ((write) ? QUICK_STORE : 0))

#define EMULATE_QUICK_BITS 3

/* Part of struct vcpu; all zero at creation. */
struct emulate_cache {
	struct emulate_quick entry[1 << EMULATE_QUICK_BITS];
	struct gwalk_code code; /* for CPUs whose exits have no instruction bytes */
};

static inline u32 emulate_slot(u64 head)
{
	return (u32)((head * 0x9e3779b97f4a7c15UL) >> (64 - EMULATE_QUICK_BITS));
}

/*
 * For a backend at an exit for device memory: the plain load or store whose first n
 * bytes are at bytes (15 can be read there); NULL when it was not seen before. The
 * code mode is known: kind is not 0.
 */
static inline const struct emulate_quick *emulate_find(const struct emulate_cache *c,
						       const u8 *bytes, u32 n, u32 kind)
{
	const struct emulate_quick *q;
	u64 head, tail;

	__builtin_memcpy(&head, bytes, 8);
	__builtin_memcpy(&tail, bytes + 7, 8);
	q = &c->entry[emulate_slot(head)];
	__asm__("" : "+r"(q)); /* one address in one register, not one anew for each field */
	return q->kind == kind && q->len <= n && (head & q->mask[0]) == q->key[0] &&
	       (tail & q->mask[1]) == q->key[1] ? q : NULL;
}

bool emulate_at_edge(const struct vcpu *v, const struct emulate_quick *q, gpa_t gpa);

/* Is the exit's address that of the operand's first byte, and all of the operand in that page? */
static inline bool emulate_covers(const struct vcpu *v, const struct emulate_quick *q, gpa_t gpa)
{
	return likely((gpa & (PAGE_SIZE - 1)) - 1 < q->last) || emulate_at_edge(v, q, gpa);
}

/* Executes what emulate_find() gave and emulate_covers() allows. Registers are in v->gpr but RSP. */
void emulate_access(struct vcpu *v, const struct emulate_quick *q, gpa_t gpa);

/*
 * in, decoded from bytes (INSN_MAX can be read there), is about to be executed for an
 * exit that has instruction bytes: emulate_find() finds it from now on, if it is a plain
 * load or store.
 */
void emulate_learn(struct vcpu *v, const u8 *bytes, const struct insn *in);

/* --- operands, shared with emulate.c --- */

static const u64 size_mask[9] = { [1] = 0xff, [2] = 0xffff, [4] = 0xffffffff, [8] = ~0UL };

static inline u64 sign_extend(u64 value, u32 size)
{
	u32 shift = 64 - 8 * size;

	return (u64)((s64)(value << shift) >> shift);
}

/* AH, CH, DH, BH: byte registers 4 to 7 without REX. */
static inline bool high_byte(const struct insn *in, u32 n, u32 size)
{
	return size == 1 && !in->rex && n >= 4 && n <= 7;
}

/* Writes of 32 bits clear the upper half, smaller ones leave it: APM vol. 1, 3.1.2. */
static inline u64 merge(u64 old, u64 value, u32 size)
{
	if (size >= 4)
		return value & size_mask[size];
	return (old & ~size_mask[size]) | (value & size_mask[size]);
}

/* Operand size of the many opcodes whose bit 0 tells bytes from words. */
static inline u32 bit0_size(const struct insn *in)
{
	return (in->opcode & 1) ? in->opsize : 1;
}

#endif
