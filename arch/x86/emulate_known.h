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
	u8 mode;      /* the code mode it was decoded in, as vexit_mmio.code_mode */
	u8 size;      /* bytes of the access */
	u8 reg_size;  /* loads: bytes of the destination register */
	u8 reg;       /* GPR, never RSP */
	bool store;
	bool use_imm; /* stores: imm instead of reg */
	bool sign;    /* loads: sign-extend */
	bool located; /* the operand's place in its page follows from what comes next */
	u8 base;      /* registers or INSN_NO_REG */
	u8 index;
	u8 scale;
	u16 low;      /* displacement */
} __aligned(64);

#define EMULATE_QUICK 8

/* Part of struct vcpu; all zero at creation. */
struct emulate_cache {
	struct emulate_quick entry[EMULATE_QUICK];
	struct gwalk_code code; /* for CPUs whose exits have no instruction bytes */
};

/*
 * For a backend at an exit for device memory: executes the plain load or store
 * whose first n bytes are at bytes (15 can be read there), if it was seen before.
 * Registers are in v->gpr but RSP. v->exit.insn_len is 0 and becomes its length;
 * it stays 0, with nothing done, when emulate_mmio() must be asked. mode: as
 * vexit_mmio.code_mode.
 */
void emulate_known(struct vcpu *v, const u8 *bytes, u32 n, u32 mode, gpa_t gpa, bool write);

/*
 * in, decoded from bytes (INSN_MAX can be read there), is about to be executed for an
 * exit that has instruction bytes: emulate_known() finds it from now on, if it is a plain
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
