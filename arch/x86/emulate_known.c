/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/emulate_known.h"
#include "core/mmio.h"
#include "core/vm.h"

/* Off the straight way, so that the way on it has no registers to save. */
#define __noinline __attribute__((noinline))

/* At a page's first byte the operand may begin in the page before; near the last, end in the next. */
bool emulate_at_edge(const struct vcpu *v, const struct emulate_quick *q, gpa_t gpa)
{
	u64 address = q->low;

	if ((gpa & (PAGE_SIZE - 1)) != 0)
		return false;
	if (q->size == 1)
		return true;
	if (q->base != INSN_NO_REG)
		address += v->gpr[q->base];
	if (q->index != INSN_NO_REG)
		address += v->gpr[q->index] << q->scale;
	return q->located && (address & (PAGE_SIZE - 1)) == 0;
}

static __noinline u64 quick_extended(const struct vcpu *v, const struct emulate_quick *q, u64 value)
{
	if (q->sign)
		value = sign_extend(value, q->size);
	return merge(v->gpr[q->reg], value, q->reg_size);
}

static __noinline void quick_load(struct vcpu *v, const struct emulate_quick *q, gpa_t gpa)
{
	u64 value = mmio_read(v, gpa, q->size);

	if (likely(q->reg_size == 4 && q->size == 4))
		v->gpr[q->reg] = (u32)value;
	else
		v->gpr[q->reg] = quick_extended(v, q, value);
}

/* Ends in one jump on each way, so that it has no registers to save. */
void emulate_access(struct vcpu *v, const struct emulate_quick *q, gpa_t gpa)
{
	if ((q->kind & QUICK_STORE) != 0)
		mmio_write(v, gpa, q->size, q->use_imm ? q->imm : v->gpr[q->reg]);
	else
		quick_load(v, q, gpa);
}

/* In 64-bit code only FS and GS have bases; RSP and RIP are not at hand later. */
static void quick_locate(struct emulate_quick *q, const struct insn *in)
{
	q->located = in->mode == INSN_MODE_64 && in->addrsize == 8 && !in->rip_rel &&
		     in->seg != VSEG_FS && in->seg != VSEG_GS && in->base != GPR_RSP;
	q->base = in->base;
	q->index = in->index;
	q->scale = in->scale;
	q->low = (u16)in->disp;
}

static bool is_store(const struct insn *in)
{
	u8 op = in->opcode;

	return in->map == INSN_MAP_1 &&
	       (op == 0x88 || op == 0x89 || op == 0xa2 || op == 0xa3 || op == 0xc6 || op == 0xc7);
}

/* Describes a plain load or store; false for all other instructions. */
static bool quick_describe(struct emulate_quick *q, const struct insn *in)
{
	u32 size = bit0_size(in);
	u8 op = in->opcode;

	*q = (struct emulate_quick){ .len = in->len,
				     .kind = (u8)EMULATE_KIND(in->mode + 1U, is_store(in)),
				     .size = (u8)size,
				     .reg_size = (u8)size,
				     .reg = in->reg };
	if (!in->mem)
		return false;
	quick_locate(q, in);
	if (in->map == INSN_MAP_0F && (op & 0xf6) == 0xb6) { /* MOVZX, MOVSX */
		q->size = (u8)((op & 1) + 1);
		q->reg_size = in->opsize;
		q->sign = op >= 0xbe;
		return in->reg != GPR_RSP;
	}
	if (in->map != INSN_MAP_1)
		return false;
	if (op == 0xc6 || op == 0xc7) {
		q->use_imm = true;
		q->imm = in->imm;
		return (in->reg & 7) == 0;
	}
	if (op >= 0xa0 && op <= 0xa3) {
		q->reg = GPR_RAX;
		return true;
	}
	return op >= 0x88 && op <= 0x8b && in->reg != GPR_RSP && !high_byte(in, in->reg, size);
}

void emulate_learn(struct vcpu *v, const u8 *bytes, const struct insn *in)
{
	struct emulate_quick q;
	u8 mask[INSN_MAX] = { 0 };
	u64 head;

	if (!quick_describe(&q, in))
		return;
	q.last = (u16)(PAGE_SIZE - q.size);
	for (u32 i = 0; i < in->len; i++)
		mask[i] = 0xff;
	__builtin_memcpy(&q.mask[0], mask, 8);
	__builtin_memcpy(&q.mask[1], mask + 7, 8);
	__builtin_memcpy(&q.key[0], bytes, 8);
	__builtin_memcpy(&q.key[1], bytes + 7, 8);
	q.key[0] &= q.mask[0];
	q.key[1] &= q.mask[1];
	__builtin_memcpy(&head, bytes, 8);
	v->emulate.entry[emulate_slot(head)] = q;
}
