/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/emulate.h"

#include "arch/x86/cpu.h"
#include "arch/x86/emulate_known.h"
#include "arch/x86/gwalk.h"
#include "arch/x86/xmm.h"
#include "core/errno.h"
#include "core/mmio.h"
#include "core/vm.h"

#define FLAGS_ARITH \
	(RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

/* Shared by many operations off the fast path: one copy keeps the image small. */
#define __noinline __attribute__((noinline))

#define STRING_CHUNK 64 /* iterations of one REP instruction per exit */

/* What an operation answers beside 0 (complete) and negative errno. */
#define MORE 1 /* REP: registers are up to date, the instruction goes on */

enum alu_op { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };

/* One instruction being executed. */
struct emu {
	struct vcpu *v;
	struct gwalk_ctx cx;
	struct insn in;
	u64 rip;
	bool exit_gpa; /* the exit's address may stand for the operand's */
	u8 bytes[INSN_MAX];
	u32 nbytes;
	struct guest_fault fault;
};

/* --- registers -------------------------------------------------------------------------------- */

static u64 read_gpr(struct emu *e, u32 n)
{
	u64 value = 0;

	if (n != GPR_RSP)
		return e->v->gpr[n];
	(void)virt->get_reg(e->v, VREG_RSP, &value); /* cannot fail: gwalk_load() did not */
	return value;
}

static void write_gpr(struct emu *e, u32 n, u64 value)
{
	if (n != GPR_RSP)
		e->v->gpr[n] = value;
	else
		(void)virt->set_reg(e->v, VREG_RSP, value);
}

static __noinline u64 read_reg(struct emu *e, u32 n, u32 size)
{
	if (high_byte(&e->in, n, size))
		return (read_gpr(e, n - 4) >> 8) & 0xff;
	return read_gpr(e, n) & size_mask[size];
}

static __noinline void write_reg(struct emu *e, u32 n, u32 size, u64 value)
{
	u64 old;

	if (high_byte(&e->in, n, size)) {
		old = read_gpr(e, n - 4);
		write_gpr(e, n - 4, (old & ~0xff00UL) | ((value & 0xff) << 8));
		return;
	}
	write_gpr(e, n, merge(size < 4 ? read_gpr(e, n) : 0, value, size));
}

static void write_flags(struct emu *e, u64 flags)
{
	if (flags == e->cx.rflags)
		return;
	e->cx.rflags = flags;
	(void)virt->set_reg(e->v, VREG_RFLAGS, flags);
}

/* --- arithmetic ------------------------------------------------------------------------------- */

static u64 result_flags(u64 r, u32 size)
{
	u64 flags = 0;

	if (!(r & size_mask[size]))
		flags |= RFLAGS_ZF;
	if ((r >> (8 * size - 1)) & 1)
		flags |= RFLAGS_SF;
	if (!__builtin_parity((u32)r & 0xff))
		flags |= RFLAGS_PF;
	return flags;
}

static u64 alu_add(u64 a, u64 b, u64 carry, u32 size, u64 *flags)
{
	u32 msb = 8 * size - 1;
	u64 r = (a + b + carry) & size_mask[size];

	*flags = result_flags(r, size) | ((a ^ b ^ r) & RFLAGS_AF);
	if ((((a & b) | ((a | b) & ~r)) >> msb) & 1)
		*flags |= RFLAGS_CF;
	if ((((a ^ r) & (b ^ r)) >> msb) & 1)
		*flags |= RFLAGS_OF;
	return r;
}

static u64 alu_sub(u64 a, u64 b, u64 borrow, u32 size, u64 *flags)
{
	u32 msb = 8 * size - 1;
	u64 r = (a - b - borrow) & size_mask[size];

	*flags = result_flags(r, size) | ((a ^ b ^ r) & RFLAGS_AF);
	if ((((~a & b) | ((~a | b) & r)) >> msb) & 1)
		*flags |= RFLAGS_CF;
	if ((((a ^ b) & (a ^ r)) >> msb) & 1)
		*flags |= RFLAGS_OF;
	return r;
}

/* a op b on operands of `size` bytes; *rflags is updated. CMP returns a - b. */
static __noinline u64 alu(enum alu_op op, u64 a, u64 b, u32 size, u64 *rflags)
{
	u64 carry = *rflags & RFLAGS_CF, flags, r;

	a &= size_mask[size];
	b &= size_mask[size];
	switch (op) {
	case ALU_ADD: r = alu_add(a, b, 0, size, &flags); break;
	case ALU_ADC: r = alu_add(a, b, carry, size, &flags); break;
	case ALU_SBB: r = alu_sub(a, b, carry, size, &flags); break;
	case ALU_SUB:
	case ALU_CMP: r = alu_sub(a, b, 0, size, &flags); break;
	case ALU_OR: r = a | b; flags = result_flags(r, size); break;
	case ALU_AND: r = a & b; flags = result_flags(r, size); break;
	case ALU_XOR:
	default: r = a ^ b; flags = result_flags(r, size); break;
	}
	*rflags = (*rflags & ~FLAGS_ARITH) | flags;
	return r;
}

/* --- memory ----------------------------------------------------------------------------------- */

static u64 effective_address(struct emu *e)
{
	const struct insn *in = &e->in;
	u64 address = (u64)in->disp;

	if (in->rip_rel)
		address += e->rip + in->len;
	if (in->base != INSN_NO_REG)
		address += read_gpr(e, in->base);
	if (in->index != INSN_NO_REG)
		address += read_gpr(e, in->index) << in->scale;
	return address & size_mask[in->addrsize];
}

/*
 * Does the exit already say where [gva, gva + size) is? Only if the hardware
 * checked at least this access, for the operand's first byte. What may be written
 * may be read.
 */
static bool exit_covers(const struct emu *e, gva_t gva, u32 size, u32 access)
{
	const struct vexit_mmio *x = &e->v->exit.mmio;

	return e->exit_gpa && ((gva ^ x->gpa) & (PAGE_SIZE - 1)) == 0 &&
	       (gva & (PAGE_SIZE - 1)) + size <= PAGE_SIZE &&
	       (!(access & VACCESS_WRITE) || (x->access & VACCESS_WRITE));
}

/* Finds the memory behind seg:off; all faults of the access happen here. */
static __noinline int open_at(struct emu *e, u8 seg, u64 off, u32 size, u32 access,
			      struct guest_span *m)
{
	gva_t gva;
	int rc = guest_linear(e->v, &e->cx, seg, off, size, access, &gva, &e->fault);

	if (rc)
		return rc;
	if (exit_covers(e, gva, size, access)) {
		m->parts = 1;
		m->part[0].gpa = e->v->exit.mmio.gpa;
		m->part[0].len = size;
		return 0;
	}
	return guest_span(e->v, &e->cx, gva, size, access, m, &e->fault);
}

static __noinline int open_operand(struct emu *e, u32 size, u32 access, struct guest_span *m)
{
	return open_at(e, e->in.seg, effective_address(e), size, access, m);
}

/* The largest access a device knows that fits len bytes. */
static u32 device_step(u32 len)
{
	return len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;
}

static void device_read(struct vcpu *v, gpa_t gpa, u8 *buf, u32 len)
{
	while (len) {
		u32 step = device_step(len);
		u64 value = mmio_read(v, gpa, step);

		__builtin_memcpy(buf, &value, step);
		gpa += step;
		buf += step;
		len -= step;
	}
}

static void device_write(struct vcpu *v, gpa_t gpa, const u8 *buf, u32 len)
{
	while (len) {
		u32 step = device_step(len);
		u64 value = 0;

		__builtin_memcpy(&value, buf, step);
		mmio_write(v, gpa, step, value);
		gpa += step;
		buf += step;
		len -= step;
	}
}

static u8 *ram_ptr(struct vcpu *v, gpa_t gpa, u32 len, bool write)
{
	size_t room = len;
	u8 *p = vm_ram_ptr(v->vm, gpa, &room, write);

	return p && room >= len ? p : NULL;
}

/* Reads an opened range: cannot fail. */
static __noinline void load_bytes(struct emu *e, const struct guest_span *m, u8 *buf)
{
	for (u32 i = 0; i < m->parts; i++) {
		u32 len = m->part[i].len;
		const u8 *p = ram_ptr(e->v, m->part[i].gpa, len, false);

		if (p)
			__builtin_memcpy(buf, p, len);
		else
			device_read(e->v, m->part[i].gpa, buf, len);
		buf += len;
	}
}

/* Writes an opened range: cannot fail. Writes to ROM are dropped. */
static __noinline void store_bytes(struct emu *e, const struct guest_span *m, const u8 *buf)
{
	for (u32 i = 0; i < m->parts; i++) {
		u32 len = m->part[i].len;
		u8 *p = ram_ptr(e->v, m->part[i].gpa, len, true);

		if (p)
			__builtin_memcpy(p, buf, len);
		else if (!ram_ptr(e->v, m->part[i].gpa, len, false))
			device_write(e->v, m->part[i].gpa, buf, len);
		buf += len;
	}
}

static u64 load(struct emu *e, const struct guest_span *m)
{
	u64 value = 0;

	load_bytes(e, m, (u8 *)&value);
	return value;
}

static void store(struct emu *e, const struct guest_span *m, u64 value)
{
	store_bytes(e, m, (const u8 *)&value);
}

/* --- operations with one memory operand ------------------------------------------------------- */

static int do_load(struct emu *e, u32 reg, u32 size)
{
	struct guest_span m;
	int rc = open_operand(e, size, VACCESS_READ, &m);

	if (!rc)
		write_reg(e, reg, size, load(e, &m));
	return rc;
}

static int do_store(struct emu *e, u32 size, u64 value)
{
	struct guest_span m;
	int rc = open_operand(e, size, VACCESS_WRITE, &m);

	if (!rc)
		store(e, &m, value);
	return rc;
}

/* MOVZX, MOVSX, MOVSXD */
static int do_extend(struct emu *e, u32 size, bool sign)
{
	struct guest_span m;
	u64 value;
	int rc = open_operand(e, size, VACCESS_READ, &m);

	if (rc)
		return rc;
	value = load(e, &m);
	if (sign)
		value = sign_extend(value, size);
	write_reg(e, e->in.reg, e->in.opsize, value);
	return 0;
}

/* memory = memory op value; CMP only reads. */
static int do_alu_mem(struct emu *e, enum alu_op op, u32 size, u64 value)
{
	struct guest_span m;
	u64 flags = e->cx.rflags, r;
	u32 access = VACCESS_READ | (op == ALU_CMP ? 0 : VACCESS_WRITE);
	int rc = open_operand(e, size, access, &m);

	if (rc)
		return rc;
	r = alu(op, load(e, &m), value, size, &flags);
	if (op != ALU_CMP)
		store(e, &m, r);
	write_flags(e, flags);
	return 0;
}

/* register = register op memory */
static int do_alu_reg(struct emu *e, enum alu_op op, u32 size)
{
	struct guest_span m;
	u64 flags = e->cx.rflags, r;
	int rc = open_operand(e, size, VACCESS_READ, &m);

	if (rc)
		return rc;
	r = alu(op, read_reg(e, e->in.reg, size), load(e, &m), size, &flags);
	if (op != ALU_CMP)
		write_reg(e, e->in.reg, size, r);
	write_flags(e, flags);
	return 0;
}

static int do_test(struct emu *e, u32 size, u64 value)
{
	struct guest_span m;
	u64 flags = e->cx.rflags;
	int rc = open_operand(e, size, VACCESS_READ, &m);

	if (rc)
		return rc;
	(void)alu(ALU_AND, load(e, &m), value, size, &flags);
	write_flags(e, flags);
	return 0;
}

enum unary_op { UNARY_INC, UNARY_DEC, UNARY_NOT, UNARY_NEG };

static int do_unary(struct emu *e, enum unary_op op, u32 size)
{
	struct guest_span m;
	u64 old, r, flags = e->cx.rflags;
	int rc = open_operand(e, size, VACCESS_READ | VACCESS_WRITE, &m);

	if (rc)
		return rc;
	old = load(e, &m);
	switch (op) {
	case UNARY_INC: r = alu(ALU_ADD, old, 1, size, &flags); break;
	case UNARY_DEC: r = alu(ALU_SUB, old, 1, size, &flags); break;
	case UNARY_NEG: r = alu(ALU_SUB, 0, old, size, &flags); break;
	case UNARY_NOT:
	default: r = ~old; break;
	}
	if (op == UNARY_INC || op == UNARY_DEC) /* these leave the carry alone */
		flags = (flags & ~RFLAGS_CF) | (e->cx.rflags & RFLAGS_CF);
	store(e, &m, r);
	write_flags(e, flags);
	return 0;
}

static int do_xchg(struct emu *e, u32 size)
{
	struct guest_span m;
	u64 old;
	int rc = open_operand(e, size, VACCESS_READ | VACCESS_WRITE, &m);

	if (rc)
		return rc;
	old = load(e, &m);
	store(e, &m, read_reg(e, e->in.reg, size));
	write_reg(e, e->in.reg, size, old);
	return 0;
}

static int do_xadd(struct emu *e, u32 size)
{
	struct guest_span m;
	u64 old, sum, flags = e->cx.rflags;
	int rc = open_operand(e, size, VACCESS_READ | VACCESS_WRITE, &m);

	if (rc)
		return rc;
	old = load(e, &m);
	sum = alu(ALU_ADD, old, read_reg(e, e->in.reg, size), size, &flags);
	store(e, &m, sum);
	write_reg(e, e->in.reg, size, old);
	write_flags(e, flags);
	return 0;
}

/* The memory is written in both cases, as by the hardware. */
static int do_cmpxchg(struct emu *e, u32 size)
{
	struct guest_span m;
	u64 old, flags = e->cx.rflags;
	int rc = open_operand(e, size, VACCESS_READ | VACCESS_WRITE, &m);

	if (rc)
		return rc;
	old = load(e, &m);
	if (alu(ALU_CMP, read_reg(e, GPR_RAX, size), old, size, &flags) == 0) {
		store(e, &m, read_reg(e, e->in.reg, size));
	} else {
		store(e, &m, old);
		write_reg(e, GPR_RAX, size, old);
	}
	write_flags(e, flags);
	return 0;
}

enum bit_op { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT };

/* BT, BTS, BTR, BTC. A bit number in a register may lie beyond the operand; an immediate wraps. */
static int do_bit(struct emu *e, enum bit_op op, bool by_reg)
{
	u32 size = e->in.opsize, access = VACCESS_READ | (op == BIT_TEST ? 0 : VACCESS_WRITE);
	u64 number = by_reg ? sign_extend(read_reg(e, e->in.reg, size), size) : e->in.imm;
	u64 off = effective_address(e), bit = BIT(number & (8 * size - 1)), value;
	struct guest_span m;
	int rc;

	if (by_reg) {
		off += (u64)((s64)number >> 3) & ~(u64)(size - 1);
		off &= size_mask[e->in.addrsize];
	}
	rc = open_at(e, e->in.seg, off, size, access, &m);
	if (rc)
		return rc;
	value = load(e, &m);
	write_flags(e, (e->cx.rflags & ~RFLAGS_CF) | ((value & bit) ? RFLAGS_CF : 0));
	switch (op) {
	case BIT_SET: store(e, &m, value | bit); break;
	case BIT_RESET: store(e, &m, value & ~bit); break;
	case BIT_COMPLEMENT: store(e, &m, value ^ bit); break;
	case BIT_TEST:
	default: break;
	}
	return 0;
}

static u64 byte_swap(u64 value, u32 size)
{
	return __builtin_bswap64(value) >> (64 - 8 * size);
}

static int do_movbe(struct emu *e)
{
	u32 size = e->in.opsize;
	struct guest_span m;
	int rc;

	if (e->in.opcode == 0xf1)
		return do_store(e, size, byte_swap(read_reg(e, e->in.reg, size), size));
	rc = open_operand(e, size, VACCESS_READ, &m);
	if (!rc)
		write_reg(e, e->in.reg, size, byte_swap(load(e, &m), size));
	return rc;
}

/* --- stack ------------------------------------------------------------------------------------ */

static int stack_size(struct emu *e, u32 *size)
{
	struct vsegment ss;

	*size = 8;
	if (e->cx.mode == INSN_MODE_64)
		return 0;
	if (virt->get_seg(e->v, VSEG_SS, &ss))
		return -EACCES;
	*size = (ss.attr & VSEG_ATTR_DB) ? 4 : 2;
	return 0;
}

/* PUSH and POP with memory are 64 bits wide in 64-bit mode without a prefix. */
static u32 push_size(const struct emu *e)
{
	return e->cx.mode == INSN_MODE_64 && !e->in.data16 ? 8 : e->in.opsize;
}

static int do_push_mem(struct emu *e)
{
	u32 size = push_size(e), width;
	struct guest_span m, stack;
	u64 rsp;
	int rc = stack_size(e, &width);

	e->exit_gpa = false; /* the exit may be about the stack */
	if (!rc)
		rc = open_operand(e, size, VACCESS_READ, &m);
	if (rc)
		return rc;
	rsp = (read_gpr(e, GPR_RSP) - size) & size_mask[width];
	rc = open_at(e, VSEG_SS, rsp, size, VACCESS_WRITE, &stack);
	if (rc)
		return rc;
	store(e, &stack, load(e, &m));
	write_reg(e, GPR_RSP, width, rsp);
	return 0;
}

/* An operand based on RSP uses its value after the POP. */
static int do_pop_mem(struct emu *e)
{
	u32 size = push_size(e), width;
	struct guest_span m, stack;
	u64 old = read_gpr(e, GPR_RSP);
	int rc = stack_size(e, &width);

	if (rc)
		return rc;
	e->exit_gpa = false;
	rc = open_at(e, VSEG_SS, old & size_mask[width], size, VACCESS_READ, &stack);
	if (rc)
		return rc;
	write_reg(e, GPR_RSP, width, old + size);
	rc = open_operand(e, size, VACCESS_WRITE, &m);
	if (rc) {
		write_gpr(e, GPR_RSP, old);
		return rc;
	}
	store(e, &m, load(e, &stack));
	return 0;
}

/* --- 128-bit moves ---------------------------------------------------------------------------- */

struct xmm_move {
	u8 map, prefix, opcode; /* prefix: 0, 0x66, 0xf2, 0xf3 */
	u8 size;                /* bytes; 0: 4, or 8 with REX.W */
	bool is_store;
};

static const struct xmm_move xmm_moves[] = {
	{ INSN_MAP_0F, 0, 0x10, 16, false },      /* MOVUPS */
	{ INSN_MAP_0F, 0, 0x11, 16, true },
	{ INSN_MAP_0F, 0x66, 0x10, 16, false },   /* MOVUPD */
	{ INSN_MAP_0F, 0x66, 0x11, 16, true },
	{ INSN_MAP_0F, 0xf3, 0x10, 4, false },    /* MOVSS */
	{ INSN_MAP_0F, 0xf3, 0x11, 4, true },
	{ INSN_MAP_0F, 0xf2, 0x10, 8, false },    /* MOVSD */
	{ INSN_MAP_0F, 0xf2, 0x11, 8, true },
	{ INSN_MAP_0F, 0, 0x28, 16, false },      /* MOVAPS */
	{ INSN_MAP_0F, 0, 0x29, 16, true },
	{ INSN_MAP_0F, 0x66, 0x28, 16, false },   /* MOVAPD */
	{ INSN_MAP_0F, 0x66, 0x29, 16, true },
	{ INSN_MAP_0F, 0, 0x2b, 16, true },       /* MOVNTPS */
	{ INSN_MAP_0F, 0x66, 0x2b, 16, true },    /* MOVNTPD */
	{ INSN_MAP_0F, 0x66, 0x6e, 0, false },    /* MOVD, MOVQ */
	{ INSN_MAP_0F, 0x66, 0x7e, 0, true },
	{ INSN_MAP_0F, 0x66, 0x6f, 16, false },   /* MOVDQA */
	{ INSN_MAP_0F, 0x66, 0x7f, 16, true },
	{ INSN_MAP_0F, 0xf3, 0x6f, 16, false },   /* MOVDQU */
	{ INSN_MAP_0F, 0xf3, 0x7f, 16, true },
	{ INSN_MAP_0F, 0xf3, 0x7e, 8, false },    /* MOVQ */
	{ INSN_MAP_0F, 0x66, 0xd6, 8, true },
	{ INSN_MAP_0F, 0x66, 0xe7, 16, true },    /* MOVNTDQ */
	{ INSN_MAP_0F, 0xf2, 0xf0, 16, false },   /* LDDQU */
	{ INSN_MAP_0F38, 0x66, 0x2a, 16, false }, /* MOVNTDQA */
};

static const struct xmm_move *find_xmm_move(const struct insn *in)
{
	u8 prefix = in->rep ? in->rep : in->data16 ? 0x66 : 0;

	for (u32 i = 0; i < ARRAY_SIZE(xmm_moves); i++) {
		const struct xmm_move *x = &xmm_moves[i];

		if (x->map == in->map && x->opcode == in->opcode && x->prefix == prefix)
			return x;
	}
	return NULL;
}

static int do_xmm_move(struct emu *e)
{
	const struct xmm_move *x = find_xmm_move(&e->in);
	u64 value[2] = { 0, 0 }; /* loads clear what they do not fill */
	struct guest_span m;
	u32 size;
	int rc;

	if (!x)
		return -ENOTSUP;
	size = x->size ? x->size : (e->in.rex & 8) ? 8 : 4;
	rc = open_operand(e, size, x->is_store ? VACCESS_WRITE : VACCESS_READ, &m);
	if (rc)
		return rc;
	if (x->is_store) {
		guest_xmm_read(e->in.reg, value);
		store_bytes(e, &m, (const u8 *)value);
	} else {
		load_bytes(e, &m, (u8 *)value);
		guest_xmm_write(e->in.reg, value);
	}
	return 0;
}

/* --- string operations ------------------------------------------------------------------------ */

enum string_op { STRING_MOVS, STRING_CMPS, STRING_STOS, STRING_LODS, STRING_SCAS, STRING_INS,
		 STRING_OUTS };

struct string_run {
	enum string_op op;
	u32 size;      /* of an element */
	u32 addr_size;
	u8 seg;        /* of the source */
	bool rep;
	u8 rep_prefix; /* 0xf2: stop when equal, 0xf3: when not; CMPS and SCAS */
	u16 port;
};

static bool uses_source(enum string_op op)
{
	return op == STRING_MOVS || op == STRING_CMPS || op == STRING_LODS || op == STRING_OUTS;
}

static bool uses_destination(enum string_op op)
{
	return op != STRING_LODS && op != STRING_OUTS;
}

static void string_step_index(struct emu *e, const struct string_run *s, u32 reg)
{
	u64 step = (e->cx.rflags & RFLAGS_DF) ? 0 - (u64)s->size : s->size;

	write_gpr(e, reg, merge(read_gpr(e, reg), read_gpr(e, reg) + step, s->addr_size));
}

/* Opens the operands of one element at the index registers. */
static int string_open(struct emu *e, const struct string_run *s, struct guest_span *src,
		       struct guest_span *dst)
{
	u64 mask = size_mask[s->addr_size];
	u32 dst_access = s->op == STRING_CMPS || s->op == STRING_SCAS ? VACCESS_READ
								     : VACCESS_WRITE;
	int rc = 0;

	if (uses_source(s->op))
		rc = open_at(e, s->seg, read_gpr(e, GPR_RSI) & mask, s->size, VACCESS_READ, src);
	if (!rc && uses_destination(s->op))
		rc = open_at(e, VSEG_ES, read_gpr(e, GPR_RDI) & mask, s->size, dst_access, dst);
	return rc;
}

static void string_compare(struct emu *e, u64 a, u64 b, u32 size)
{
	u64 flags = e->cx.rflags;

	(void)alu(ALU_CMP, a, b, size, &flags);
	write_flags(e, flags);
}

static int string_element(struct emu *e, const struct string_run *s)
{
	struct guest_span src, dst;
	u64 acc = read_gpr(e, GPR_RAX), value;
	int rc = string_open(e, s, &src, &dst);

	if (rc)
		return rc;
	switch (s->op) {
	case STRING_MOVS: store(e, &dst, load(e, &src)); break;
	case STRING_STOS: store(e, &dst, acc); break;
	case STRING_LODS: write_gpr(e, GPR_RAX, merge(acc, load(e, &src), s->size)); break;
	case STRING_CMPS:
		value = load(e, &src);
		string_compare(e, value, load(e, &dst), s->size);
		break;
	case STRING_SCAS: string_compare(e, acc, load(e, &dst), s->size); break;
	case STRING_INS: store(e, &dst, port_read(e->v, s->port, s->size)); break;
	case STRING_OUTS: port_write(e->v, s->port, s->size, (u32)load(e, &src)); break;
	default: return -ENOTSUP;
	}
	if (uses_source(s->op))
		string_step_index(e, s, GPR_RSI);
	if (uses_destination(s->op))
		string_step_index(e, s, GPR_RDI);
	return 0;
}

/* Has a repeated CMPS or SCAS found what it looked for? */
static bool string_found(const struct emu *e, const struct string_run *s)
{
	bool equal = (e->cx.rflags & RFLAGS_ZF) != 0;

	if (s->op != STRING_CMPS && s->op != STRING_SCAS)
		return false;
	return s->rep_prefix == 0xf2 ? equal : !equal;
}

/*
 * Runs the instruction to its end, or a bounded part of it: then, and when
 * something else wants the vCPU, the guest re-executes it with its registers as
 * they are, as after an interrupt.
 */
static int do_string(struct emu *e, const struct string_run *s)
{
	u64 mask = size_mask[s->addr_size];
	int rc;

	e->exit_gpa = false; /* which operand the exit is about is not known */
	if (!s->rep)
		return string_element(e, s);
	for (u32 i = 0; i < STRING_CHUNK; i++) {
		u64 rcx = read_gpr(e, GPR_RCX);

		if (!(rcx & mask))
			return 0;
		rc = string_element(e, s);
		if (rc)
			return rc;
		write_gpr(e, GPR_RCX, merge(rcx, rcx - 1, s->addr_size));
		if (!((rcx - 1) & mask) || string_found(e, s))
			return 0;
		if (__atomic_load_n(&e->v->hazards, __ATOMIC_RELAXED))
			break;
	}
	return MORE;
}

static int do_string_insn(struct emu *e)
{
	static const u8 ops[] = { [0xa4 >> 1 & 7] = STRING_MOVS, [0xa6 >> 1 & 7] = STRING_CMPS,
				  [0xaa >> 1 & 7] = STRING_STOS, [0xac >> 1 & 7] = STRING_LODS,
				  [0xae >> 1 & 7] = STRING_SCAS };
	struct string_run s = {
		.op = ops[e->in.opcode >> 1 & 7],
		.size = bit0_size(&e->in),
		.addr_size = e->in.addrsize,
		.seg = e->in.seg,
		.rep = e->in.rep != 0,
		.rep_prefix = e->in.rep,
	};

	return do_string(e, &s);
}

/* --- dispatch --------------------------------------------------------------------------------- */

static int do_group3(struct emu *e)
{
	u32 size = bit0_size(&e->in);

	switch (e->in.reg & 7) {
	case 0:
	case 1: return do_test(e, size, e->in.imm);
	case 2: return do_unary(e, UNARY_NOT, size);
	case 3: return do_unary(e, UNARY_NEG, size);
	default: return -ENOTSUP;
	}
}

static int do_group45(struct emu *e)
{
	switch (e->in.reg & 7) {
	case 0: return do_unary(e, UNARY_INC, bit0_size(&e->in));
	case 1: return do_unary(e, UNARY_DEC, bit0_size(&e->in));
	case 6: return e->in.opcode == 0xff ? do_push_mem(e) : -ENOTSUP;
	default: return -ENOTSUP;
	}
}

static int do_map_1(struct emu *e)
{
	const struct insn *in = &e->in;
	u32 size = bit0_size(in);
	enum alu_op op = (enum alu_op)((in->opcode >> 3) & 7);

	switch (in->opcode) {
	case 0xa4 ... 0xa7:
	case 0xaa ... 0xaf: return do_string_insn(e);
	default: break;
	}
	if (!in->mem) /* a register form touches no device */
		return -ENOTSUP;
	switch (in->opcode) {
	case 0x00 ... 0x3f:
		if (in->opcode & 2)
			return do_alu_reg(e, op, size);
		return do_alu_mem(e, op, size, read_reg(e, in->reg, size));
	case 0x63: return in->mode == INSN_MODE_64 ? do_extend(e, 4, true) : -ENOTSUP;
	case 0x80 ... 0x83: return do_alu_mem(e, (enum alu_op)(in->reg & 7), size, in->imm);
	case 0x84:
	case 0x85: return do_test(e, size, read_reg(e, in->reg, size));
	case 0x86:
	case 0x87: return do_xchg(e, size);
	case 0x88:
	case 0x89: return do_store(e, size, read_reg(e, in->reg, size));
	case 0x8a:
	case 0x8b: return do_load(e, in->reg, size);
	case 0x8f: return (in->reg & 7) == 0 ? do_pop_mem(e) : -ENOTSUP;
	case 0xa0:
	case 0xa1: return do_load(e, GPR_RAX, size);
	case 0xa2:
	case 0xa3: return do_store(e, size, read_reg(e, GPR_RAX, size));
	case 0xc6:
	case 0xc7: return (in->reg & 7) == 0 ? do_store(e, size, in->imm) : -ENOTSUP;
	case 0xf6:
	case 0xf7: return do_group3(e);
	case 0xfe:
	case 0xff: return do_group45(e);
	default: return -ENOTSUP;
	}
}

/* CLFLUSH, CLFLUSHOPT, CLWB: a device's registers are not cached. */
static bool is_cache_flush(const struct insn *in)
{
	u32 op = in->reg & 7;

	return in->opcode == 0xae && !in->rep && (op == 7 || (op == 6 && in->data16));
}

static int do_map_0f(struct emu *e)
{
	const struct insn *in = &e->in;

	switch (in->opcode) {
	case 0xa3: return do_bit(e, BIT_TEST, true);
	case 0xab: return do_bit(e, BIT_SET, true);
	case 0xb3: return do_bit(e, BIT_RESET, true);
	case 0xbb: return do_bit(e, BIT_COMPLEMENT, true);
	case 0xba: return (in->reg & 4) ? do_bit(e, (enum bit_op)(in->reg & 3), false) : -ENOTSUP;
	case 0xb0:
	case 0xb1: return do_cmpxchg(e, bit0_size(in));
	case 0xb6:
	case 0xb7: return do_extend(e, (in->opcode & 1) + 1U, false);
	case 0xbe:
	case 0xbf: return do_extend(e, (in->opcode & 1) + 1U, true);
	case 0xc0:
	case 0xc1: return do_xadd(e, bit0_size(in));
	case 0xc3: /* MOVNTI */
		return in->rep || in->data16
			       ? -ENOTSUP
			       : do_store(e, in->opsize, read_reg(e, in->reg, in->opsize));
	case 0xae: return is_cache_flush(in) ? 0 : -ENOTSUP;
	default: return do_xmm_move(e);
	}
}

static int do_insn(struct emu *e)
{
	const struct insn *in = &e->in;

	if (in->map == INSN_MAP_1)
		return do_map_1(e);
	if (!in->mem)
		return -ENOTSUP;
	if (in->map == INSN_MAP_0F)
		return do_map_0f(e);
	if (in->map == INSN_MAP_0F38 && (in->opcode & 0xfe) == 0xf0)
		return in->rep ? -ENOTSUP : do_movbe(e); /* with a prefix: CRC32 */
	if (in->map == INSN_MAP_0F38)
		return do_xmm_move(e);
	return -ENOTSUP;
}

/* --- entry points ----------------------------------------------------------------------------- */

static void hex_bytes(char *text, const u8 *bytes, u32 n)
{
	static const char digit[] = "0123456789abcdef";

	for (u32 i = 0; i < n; i++) {
		*text++ = digit[bytes[i] >> 4];
		*text++ = digit[bytes[i] & 15];
		*text++ = ' ';
	}
	*text = 0;
}

static u32 stop_vm(struct emu *e, const char *why)
{
	char text[3 * INSN_MAX + 1];

	hex_bytes(text, e->bytes, e->nbytes);
	if (e->v->exit.kind == VEXIT_MMIO)
		vcpu_fatal(e->v, "access to guest-physical 0x%lx at RIP 0x%lx: %s; bytes: %s",
			   e->v->exit.mmio.gpa, e->rip, why, text);
	else
		vcpu_fatal(e->v, "string I/O at RIP 0x%lx: %s; bytes: %s", e->rip, why, text);
	return VRESULT_LEAVE;
}

/* What follows from an operation's answer. */
static u32 finish(struct emu *e, int rc)
{
	switch (rc) {
	case 0:
		e->v->exit.insn_len = e->in.len;
		return VRESULT_ADVANCE;
	case MORE:
	case -EAGAIN:
		return VRESULT_RETRY;
	case -EFAULT:
		guest_inject(e->v, &e->fault);
		return VRESULT_RETRY;
	case -EINVAL:
		vcpu_inject_ud(e->v);
		return VRESULT_RETRY;
	case -E2BIG:
		vcpu_inject_gp(e->v);
		return VRESULT_RETRY;
	case -EIO:
		return stop_vm(e, "code or page tables are not in RAM");
	case -EACCES:
		return stop_vm(e, "the guest's registers are protected");
	default:
		return stop_vm(e, "this instruction is not emulated on device memory");
	}
}

/* Registers and RIP of the instruction. */
static int begin(struct emu *e)
{
	int rc = gwalk_load(e->v, &e->cx);

	if (!rc && virt->get_reg(e->v, VREG_RIP, &e->rip))
		rc = -EACCES;
	return rc;
}

/* Fetches the instruction at RIP and decodes it. */
static int fetch_and_decode(struct emu *e)
{
	int n = guest_fetch(e->v, &e->cx, e->rip, e->bytes, &e->fault);
	int rc;

	e->nbytes = n > 0 ? (u32)n : 0;
	if (n < 0)
		return n;
	rc = insn_decode(&e->in, e->bytes, e->nbytes, (enum insn_mode)e->cx.mode);
	return rc == -EAGAIN ? -EFAULT : rc; /* the fetch met a fault behind these bytes */
}

/* Decodes the instruction from the exit's bytes, or from memory when those do not suffice. */
static int decode_exit(struct emu *e)
{
	const struct vexit_mmio *x = &e->v->exit.mmio;
	int rc;

	if (x->insn_len && x->insn_len <= INSN_MAX) {
		e->nbytes = x->insn_len;
		__builtin_memcpy(e->bytes, x->insn, INSN_MAX);
		rc = insn_decode(&e->in, e->bytes, e->nbytes, (enum insn_mode)e->cx.mode);
		if (rc != -EAGAIN)
			return rc;
	}
	return fetch_and_decode(e);
}

static __noinline u32 emulate_slowly(struct vcpu *v)
{
	struct emu e = { .v = v, .exit_gpa = true };
	int rc = begin(&e);

	if (!rc)
		rc = decode_exit(&e);
	if (rc)
		return finish(&e, rc);
	if (v->exit.mmio.insn_len) /* without bytes in the exit there is nothing to find it by */
		emulate_learn(v, e.bytes, &e.in);
	return finish(&e, do_insn(&e));
}

/* For backends that do not say; stays 0 for a protected guest, which then matches nothing. */
static void find_code_mode(struct vcpu *v)
{
	enum insn_mode mode;

	if (!guest_mode_of(v, &mode))
		v->exit.mmio.code_mode = (u8)(mode + 1);
}

/* Gives an exit without instruction bytes the bytes at RIP, if they are easily had. */
static __noinline void find_bytes(struct vcpu *v)
{
	struct vexit_mmio *x = &v->exit.mmio;
	struct gwalk_ctx ctx;
	u64 rip;

	if (gwalk_load(v, &ctx) || virt->get_reg(v, VREG_RIP, &rip))
		return;
	if (!guest_fetch_cached(v, &ctx, &v->emulate.code, rip, x->insn))
		return;
	x->insn_len = INSN_MAX;
	x->code_mode = (u8)(ctx.mode + 1);
}

u32 emulate_mmio(struct vcpu *v)
{
	const struct vexit_mmio *x = &v->exit.mmio;
	const struct emulate_quick *q;

	if (!x->insn_len)
		find_bytes(v);
	if (x->insn_len && !x->code_mode)
		find_code_mode(v);
	if (!x->insn_len || !x->code_mode)
		return emulate_slowly(v);
	q = emulate_find(&v->emulate, x->insn, x->insn_len,
			 EMULATE_KIND(x->code_mode, (x->access & VACCESS_WRITE) != 0));
	if (!q || !emulate_covers(v, q, x->gpa))
		return emulate_slowly(v);
	v->exit.insn_len = q->len;
	emulate_access(v, q, x->gpa);
	return VRESULT_ADVANCE;
}

u32 emulate_string_io(struct vcpu *v)
{
	const struct vexit_io io = v->exit.io;
	struct emu e = { .v = v };
	struct string_run s = {
		.op = io.in ? STRING_INS : STRING_OUTS,
		.size = io.size,
		.addr_size = io.addr_size,
		.seg = io.seg,
		.rep = io.rep,
		.port = io.port,
	};
	int rc = begin(&e);

	if (rc)
		return finish(&e, rc);
	e.in.len = (u8)v->exit.insn_len;
	if (!v->exit.insn_len || (!io.in && io.seg > VSEG_GS)) {
		rc = fetch_and_decode(&e);
		if (rc)
			return finish(&e, rc);
		s.seg = e.in.seg;
	}
	return finish(&e, do_string(&e, &s));
}

int insn_length_at_rip(struct vcpu *v)
{
	struct emu e = { .v = v };
	int rc = begin(&e);

	if (!rc)
		rc = fetch_and_decode(&e);
	return rc ? rc : e.in.len;
}
