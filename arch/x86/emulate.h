/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_EMULATE_H
#define RAVELIN_ARCH_X86_EMULATE_H

#include "arch/x86/gwalk.h"
#include "core/types.h"

/*
 * Executes the guest's instruction behind an exit for device memory or for string
 * I/O. Only instructions that touch memory are known here; nothing is emulated
 * that the CPU can run itself.
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
 * Answers VEXIT_MMIO (v->exit.mmio). Returns VRESULT_*: ADVANCE with
 * v->exit.insn_len set; RETRY when a fault was queued for the guest or a REP
 * instruction has more to do; LEAVE after the VM was stopped by vcpu_fatal().
 */
u32 emulate_mmio(struct vcpu *v);

/* Answers VEXIT_IO with io.string set. io.seg may be VSEG_COUNT when the hardware does not say
 * which segment OUTS uses: the instruction is decoded then. Results as emulate_mmio(). */
u32 emulate_string_io(struct vcpu *v);

/*
 * Length of the instruction at the guest's CS:RIP, for CPUs that save no next RIP:
 * 1..15, or -EFAULT when its bytes cannot be fetched (nothing is queued), -EINVAL
 * when it is no instruction, -E2BIG, -EIO, -EAGAIN, -EACCES.
 */
int insn_length_at_rip(struct vcpu *v);

#endif
