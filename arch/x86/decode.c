/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/decode.h"

#include "arch/x86/virt.h"
#include "core/errno.h"

/* What follows an opcode byte: the low four bits name the immediate, flags are above. */
enum imm_kind {
	IMM_NONE,
	IMM_B,     /* one byte */
	IMM_W,     /* two bytes */
	IMM_Z,     /* two bytes with 16-bit operands, else four */
	IMM_V,     /* full operand size */
	IMM_MOFFS, /* address of the effective address size */
	IMM_FAR,   /* offset of IMM_Z size and a selector */
	IMM_WB,    /* ENTER: two bytes and one */
	IMM_BB,    /* EXTRQ, INSERTQ: two bytes */
	IMM_D,     /* four bytes */
	IMM_MASK = 15
};

#define M 16    /* ModRM follows */
#define X64 32  /* undefined in 64-bit mode */
#define BAD 64  /* undefined in every mode */
#define D64 128 /* operand size is 64 bits in 64-bit mode without REX.W */

/* One row of the eight arithmetic operations, without its last two columns. */
#define ALU_ROW M, M, M, M, IMM_B, IMM_Z

/* APM vol. 3, table. Prefixes and escapes are consumed before the look-up. */
static const u8 map_1[256] = {
	/* 00 */ ALU_ROW, X64, X64, ALU_ROW, X64, 0,
	/* 10 */ ALU_ROW, X64, X64, ALU_ROW, X64, X64,
	/* 20 */ ALU_ROW, 0, X64, ALU_ROW, 0, X64,
	/* 30 */ ALU_ROW, 0, X64, ALU_ROW, 0, X64,
	[0x50 ... 0x5f] = D64,
	/* 60 */ X64, X64, M | X64, M, 0, 0, 0, 0, IMM_Z | D64, M | IMM_Z, IMM_B | D64, M | IMM_B,
	[0x70 ... 0x7f] = IMM_B,
	/* 80 */ M | IMM_B, M | IMM_Z, M | IMM_B | X64, M | IMM_B, M, M, M, M,
	/* 88 */ M, M, M, M, M, M, M, M,
	[0x9a] = IMM_FAR | X64, [0x9c] = D64, [0x9d] = D64,
	[0xa0 ... 0xa3] = IMM_MOFFS, [0xa8] = IMM_B, [0xa9] = IMM_Z,
	[0xb0 ... 0xb7] = IMM_B, [0xb8 ... 0xbf] = IMM_V,
	/* c0 */ M | IMM_B, M | IMM_B, IMM_W | D64, D64, M | X64, M | X64, M | IMM_B, M | IMM_Z,
	/* c8 */ IMM_WB | D64, D64, IMM_W, 0, 0, IMM_B, X64, 0,
	/* d0 */ M, M, M, M, IMM_B | X64, IMM_B | X64, X64, 0, M, M, M, M, M, M, M, M,
	/* e0 */ IMM_B, IMM_B, IMM_B, IMM_B, IMM_B, IMM_B, IMM_B, IMM_B,
	/* e8 */ IMM_Z, IMM_Z, IMM_FAR | X64, IMM_B, 0, 0, 0, 0,
	/* The immediate of F6 and F7 depends on ModRM.reg. */
	[0xf6] = M, [0xf7] = M, [0xfe] = M, [0xff] = M,
};

/* APM vol. 3, table. */
static const u8 map_0f[256] = {
	/* 00 */ M, M, M, M, BAD, 0, 0, 0, 0, 0, BAD, 0, BAD, M, 0, M | IMM_B,
	[0x10 ... 0x23] = M, [0x24 ... 0x27] = BAD, [0x28 ... 0x2f] = M,
	[0x36] = BAD, [0x39] = BAD, [0x3b ... 0x3f] = BAD,
	[0x40 ... 0x6f] = M, [0x70 ... 0x73] = M | IMM_B, [0x74 ... 0x76] = M,
	[0x78] = M, [0x79] = M, [0x7a] = BAD, [0x7b] = BAD, [0x7c ... 0x7f] = M,
	[0x80 ... 0x8f] = IMM_Z, [0x90 ... 0x9f] = M,
	[0xa0] = D64, [0xa1] = D64, [0xa3] = M, [0xa4] = M | IMM_B, [0xa5] = M,
	[0xa6] = BAD, [0xa7] = BAD, [0xa8] = D64, [0xa9] = D64,
	[0xab] = M, [0xac] = M | IMM_B, [0xad ... 0xb9] = M, [0xba] = M | IMM_B,
	[0xbb ... 0xc1] = M, [0xc2] = M | IMM_B, [0xc3] = M, [0xc4 ... 0xc6] = M | IMM_B,
	[0xc7] = M, [0xd0 ... 0xff] = M,
};

struct cursor {
	const u8 *bytes;
	size_t n;
	size_t pos;
};

/* Reads a little-endian value of `count` bytes (0..8). */
static int take(struct cursor *c, u32 count, u64 *value)
{
	if (c->pos + count > INSN_MAX)
		return -E2BIG;
	if (c->pos + count > c->n)
		return -EAGAIN;
	*value = 0;
	for (u32 i = 0; i < count; i++)
		*value |= (u64)c->bytes[c->pos + i] << (8 * i);
	c->pos += count;
	return 0;
}

static u64 sign_extend(u64 value, u32 bytes)
{
	u32 shift = 64 - 8 * bytes;

	return (u64)((s64)(value << shift) >> shift);
}

static int take_signed(struct cursor *c, u32 count, u64 *value)
{
	int rc = take(c, count, value);

	if (!rc && count)
		*value = sign_extend(*value, count);
	return rc;
}

/* Which segment a prefix byte selects, or -1. */
static int segment_prefix(u8 byte)
{
	switch (byte) {
	case 0x26: return VSEG_ES;
	case 0x2e: return VSEG_CS;
	case 0x36: return VSEG_SS;
	case 0x3e: return VSEG_DS;
	case 0x64: return VSEG_FS;
	case 0x65: return VSEG_GS;
	default: return -1;
	}
}

struct prefixes {
	bool addr;
	u8 seg; /* VSEG_COUNT: none */
};

/* Notes one legacy prefix; false when the byte is none. */
static bool legacy_prefix(struct insn *in, struct prefixes *p, u8 byte)
{
	int seg = segment_prefix(byte);

	if (seg >= 0) {
		/* In 64-bit mode only FS and GS count; the others do not cancel them. */
		if (in->mode != INSN_MODE_64 || seg >= VSEG_FS)
			p->seg = (u8)seg;
		return true;
	}
	switch (byte) {
	case 0x66: in->data16 = true; return true;
	case 0x67: p->addr = true; return true;
	case 0xf0: in->lock = true; return true;
	case 0xf2:
	case 0xf3: in->rep = byte; return true;
	default: return false;
	}
}

/* Consumes prefixes; *opcode is the first byte after them. */
static int decode_prefixes(struct insn *in, struct prefixes *p, struct cursor *c, u8 *opcode)
{
	u64 byte;

	p->seg = VSEG_COUNT;
	p->addr = false;
	for (;;) { /* ends at the latest when take() has seen INSN_MAX bytes */
		int rc = take(c, 1, &byte);

		if (rc)
			return rc;
		if (in->mode == INSN_MODE_64 && (byte & 0xf0) == 0x40)
			in->rex = (u8)byte;
		else if (legacy_prefix(in, p, (u8)byte))
			in->rex = 0; /* only counts right before the opcode */
		else
			break;
	}
	*opcode = (u8)byte;
	return 0;
}

static void set_sizes(struct insn *in, const struct prefixes *p)
{
	bool wide = in->mode == INSN_MODE_16 ? in->data16 : !in->data16;

	in->opsize = (in->rex & 8) ? 8 : wide ? 4 : 2;
	if (in->mode == INSN_MODE_64)
		in->addrsize = p->addr ? 4 : 8;
	else
		in->addrsize = (in->mode == INSN_MODE_16) == p->addr ? 4 : 2;
}

/* Does this byte start a VEX, EVEX or XOP prefix, not LES, LDS, BOUND or POP? */
static bool is_vex(const struct insn *in, const struct cursor *c, u8 opcode)
{
	bool known = c->pos < c->n; /* else the missing byte is noticed later */

	if (opcode == 0xc4 || opcode == 0xc5 || opcode == 0x62)
		return in->mode == INSN_MODE_64 || (known && c->bytes[c->pos] >= 0xc0);
	/* XOP shares its first byte with POP r/m: maps below 8 are POP. */
	return opcode == 0x8f && known && (c->bytes[c->pos] & 0x1f) >= 8;
}

/* Immediate and ModRM of an opcode in a VEX, EVEX or XOP map. -EINVAL: no such map. */
static int vex_attr(const struct insn *in, u8 *attr)
{
	if (in->vex == 0x8f) { /* APM vol. 6, 1.2: maps 8, 9, 10 */
		if (in->vex_map > 10)
			return -EINVAL;
		*attr = M | (u8)(in->vex_map == 8 ? IMM_B : in->vex_map == 9 ? IMM_NONE : IMM_D);
		return 0;
	}
	switch (in->vex_map) {
	case 1:
		if (in->opcode == 0x77 && in->vex != 0x62)
			*attr = 0; /* VZEROUPPER, VZEROALL */
		else
			*attr = M | (map_0f[in->opcode] & IMM_MASK);
		/* Mask-register instructions took places that were jumps and SETcc. */
		if (in->opcode >= 0x80 && in->opcode <= 0x8f)
			return -EINVAL;
		return 0;
	case 2:
		*attr = M;
		return 0;
	case 3:
		*attr = M | IMM_B;
		return 0;
	case 5:
	case 6:
		*attr = M;
		return in->vex == 0x62 ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}

static int decode_vex(struct insn *in, struct cursor *c, u8 escape, u8 *attr)
{
	u64 payload, opcode;
	u32 bytes = escape == 0xc5 ? 1 : escape == 0x62 ? 3 : 2;
	int rc = take(c, bytes, &payload);

	if (!rc)
		rc = take(c, 1, &opcode);
	if (rc)
		return rc;
	if (in->lock || in->rep || in->data16 || in->rex)
		return -EINVAL;
	in->map = INSN_MAP_VEX;
	in->vex = escape;
	in->opcode = (u8)opcode;
	in->vex_map = escape == 0xc5 ? 1 : (u8)(payload & (escape == 0x62 ? 7 : 0x1f));
	/* R is inverted, and fixed to 1 outside 64-bit mode; X and B of C5 are 1. */
	in->rex = (payload & 0x80) ? 0x40 : 0x44;
	if (escape != 0xc5)
		in->rex |= (u8)((~payload >> 5) & 3);
	return vex_attr(in, attr);
}

/* Consumes the opcode after `first`; *attr says what follows. */
static int decode_opcode(struct insn *in, struct cursor *c, u8 first, u8 *attr)
{
	u64 byte;
	int rc;

	if (is_vex(in, c, first))
		return decode_vex(in, c, first, attr);
	in->opcode = first;
	*attr = map_1[first];
	if (first != 0x0f)
		return (*attr & X64) && in->mode == INSN_MODE_64 ? -EINVAL : 0;

	rc = take(c, 1, &byte);
	if (rc)
		return rc;
	in->map = INSN_MAP_0F;
	in->opcode = (u8)byte;
	*attr = map_0f[byte];
	if (byte == 0x38 || byte == 0x3a) {
		in->map = byte == 0x38 ? INSN_MAP_0F38 : INSN_MAP_0F3A;
		*attr = byte == 0x38 ? M : M | IMM_B;
		rc = take(c, 1, &byte);
		if (rc)
			return rc;
		in->opcode = (u8)byte;
	}
	/* SSE4a's EXTRQ and INSERTQ share 0F 78 with VMREAD. */
	if (in->map == INSN_MAP_0F && in->opcode == 0x78 && (in->data16 || in->rep == 0xf2))
		*attr = M | IMM_BB;
	return (*attr & BAD) ? -EINVAL : 0;
}

static int decode_mem16(struct insn *in, struct cursor *c, u8 mod, u8 rm)
{
	/* BX+SI, BX+DI, BP+SI, BP+DI, SI, DI, BP, BX: APM vol. 3, table 1-15 */
	static const u8 base[8] = { 3, 3, 5, 5, 6, 7, 5, 3 };
	static const u8 index[8] = { 6, 7, 6, 7,
				     INSN_NO_REG, INSN_NO_REG, INSN_NO_REG, INSN_NO_REG };
	bool absolute = mod == 0 && rm == 6;
	u64 disp;
	int rc = take_signed(c, absolute ? 2 : mod, &disp);

	if (rc)
		return rc;
	in->base = absolute ? INSN_NO_REG : base[rm];
	in->index = index[rm];
	in->disp = (s64)disp;
	return 0;
}

static int decode_mem32(struct insn *in, struct cursor *c, u8 mod, u8 rm)
{
	u32 disp_bytes = mod == 1 ? 1 : mod == 2 ? 4 : 0;
	u64 sib, disp;
	u8 low = rm;
	int rc;

	if (rm == 4) {
		rc = take(c, 1, &sib);
		if (rc)
			return rc;
		low = sib & 7;
		in->index = (u8)(((sib >> 3) & 7) | ((in->rex & 2) << 2));
		in->scale = (u8)(sib >> 6);
		if (in->index == GPR_RSP)
			in->index = INSN_NO_REG;
	}
	if (mod == 0 && low == 5) {
		disp_bytes = 4;
		in->rip_rel = rm == 5 && in->mode == INSN_MODE_64;
	} else {
		in->base = (u8)(low | ((in->rex & 1) << 3));
	}
	rc = take_signed(c, disp_bytes, &disp);
	in->disp = (s64)disp;
	return rc;
}

/* MOV to and from control and debug registers ignore mod: always a register. */
static bool register_only(const struct insn *in)
{
	return in->map == INSN_MAP_0F && in->opcode >= 0x20 && in->opcode <= 0x23;
}

static int decode_modrm(struct insn *in, struct cursor *c)
{
	u64 modrm;
	u8 mod, rm;
	int rc = take(c, 1, &modrm);

	if (rc)
		return rc;
	in->has_modrm = true;
	mod = (u8)(modrm >> 6);
	rm = modrm & 7;
	in->reg = (u8)(((modrm >> 3) & 7) | ((in->rex & 4) << 1));
	if (mod == 3 || register_only(in)) {
		in->rm = (u8)(rm | ((in->rex & 1) << 3));
		return 0;
	}
	in->mem = true;
	return in->addrsize == 2 ? decode_mem16(in, c, mod, rm) : decode_mem32(in, c, mod, rm);
}

static int decode_imm(struct insn *in, struct cursor *c, u8 kind)
{
	u32 z = in->opsize == 2 ? 2 : 4;
	u64 extra;
	int rc;

	switch (kind) {
	case IMM_NONE:
		return 0;
	case IMM_B:
		return take_signed(c, 1, &in->imm);
	case IMM_W:
	case IMM_BB:
		return take(c, 2, &in->imm);
	case IMM_Z:
		return take_signed(c, z, &in->imm);
	case IMM_D:
		return take_signed(c, 4, &in->imm);
	case IMM_V:
		return take_signed(c, in->opsize, &in->imm);
	case IMM_WB:
		return take(c, 3, &in->imm);
	case IMM_FAR:
		rc = take(c, z, &in->imm);
		return rc ? rc : take(c, 2, &extra);
	case IMM_MOFFS:
		in->mem = true;
		rc = take(c, in->addrsize, &extra);
		in->disp = (s64)extra;
		return rc;
	default:
		return -EINVAL;
	}
}

static u8 default_segment(const struct insn *in)
{
	if (in->base == GPR_RBP || in->base == GPR_RSP)
		return VSEG_SS;
	return VSEG_DS;
}

int insn_decode(struct insn *out, const u8 *bytes, size_t n, enum insn_mode mode)
{
	struct cursor c = { .bytes = bytes, .n = n };
	struct prefixes p;
	u8 first, attr = 0, imm;
	int rc;

	*out = (struct insn){ .mode = (u8)mode, .base = INSN_NO_REG, .index = INSN_NO_REG };
	rc = decode_prefixes(out, &p, &c, &first);
	if (rc)
		return rc;
	set_sizes(out, &p);
	rc = decode_opcode(out, &c, first, &attr);
	if (rc)
		return rc;
	if (mode == INSN_MODE_64 && (attr & D64) && !out->data16)
		out->opsize = 8;
	if (attr & M) {
		rc = decode_modrm(out, &c);
		if (rc)
			return rc;
	}
	imm = attr & IMM_MASK;
	if (out->map == INSN_MAP_1 && (out->opcode & 0xfe) == 0xf6 && (out->reg & 6) == 0)
		imm = out->opcode == 0xf6 ? IMM_B : IMM_Z; /* TEST r/m, imm */
	rc = decode_imm(out, &c, imm);
	if (rc)
		return rc;
	out->seg = p.seg < VSEG_COUNT ? p.seg : default_segment(out);
	out->len = (u8)c.pos;
	return 0;
}
