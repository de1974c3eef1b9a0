/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_DECODE_H
#define RAVELIN_ARCH_X86_DECODE_H

#include "core/types.h"

/*
 * x86 instruction decoder: the length of every instruction, and the operands of
 * those that the emulator executes. Pure: no guest state, no allocation.
 */

#define INSN_MAX 15      /* longest legal instruction, APM vol. 3, 1.1 */
#define INSN_NO_REG 0xff /* no base or index register */

/* Default operand and address size of the code segment. */
enum insn_mode { INSN_MODE_16, INSN_MODE_32, INSN_MODE_64 };

enum insn_map {
	INSN_MAP_1,    /* one-byte opcodes */
	INSN_MAP_0F,
	INSN_MAP_0F38,
	INSN_MAP_0F3A,
	INSN_MAP_VEX   /* VEX, EVEX or XOP; vex and vex_map say which */
};

struct insn {
	u8 len;
	u8 mode;       /* enum insn_mode */
	u8 map;        /* enum insn_map */
	u8 opcode;     /* last opcode byte */
	u8 opsize;     /* effective operand size of non-byte forms: 2, 4, 8 */
	u8 addrsize;   /* effective address size: 2, 4, 8 */
	u8 rex;        /* 0x40..0x4f, or 0 */
	u8 rep;        /* 0xf3, 0xf2 (the last one given), or 0 */
	bool lock;
	bool data16;   /* prefix 0x66 present */
	u8 seg;        /* enum vseg of the memory operand, default or overridden */
	u8 vex;        /* 0xc4, 0xc5, 0x62 or 0x8f, else 0 */
	u8 vex_map;
	bool has_modrm;
	bool mem;      /* there is a memory operand: ModRM with mod != 3, or moffs */
	bool rip_rel;
	u8 reg;        /* ModRM.reg with REX.R; the three-bit group opcode is reg & 7 */
	u8 rm;         /* ModRM.rm with REX.B, when !mem */
	u8 base;       /* register number or INSN_NO_REG */
	u8 index;      /* register number or INSN_NO_REG */
	u8 scale;      /* shift count 0..3 */
	s64 disp;      /* displacement, or the moffs address */
	u64 imm;       /* immediate, sign-extended from its encoded size */
};

/*
 * Decodes the instruction at bytes[0..n). Returns 0; -EAGAIN when it is longer
 * than n (and may be legal); -E2BIG when it is longer than INSN_MAX (#GP);
 * -EINVAL when no such instruction exists in this mode (#UD). *out is valid
 * only after 0. Source: APM vol. 3, chapter 1 and appendix A.
 */
int insn_decode(struct insn *out, const u8 *bytes, size_t n, enum insn_mode mode) __must_check;

#endif
