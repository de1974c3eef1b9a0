/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_SEV_GHCB_PAGE_H
#define RAVELIN_SEV_GHCB_PAGE_H

#include "core/vm.h"
#include "sev/es.h"

/*
 * The GHCB page (GHCB specification, 2.6, table 3) and what the files
 * sev/ghcb*.c share. The page belongs to the guest and all its vCPUs may write
 * it at any time: it is read once, into a copy, and only the copy is looked at.
 */
struct ghcb {
	u8 reserved_0[0xcb];
	u8 cpl;
	u8 reserved_cc[0x140 - 0xcc];
	u64 xss;
	u8 reserved_148[0x160 - 0x148];
	u64 dr7;
	u8 reserved_168[0x178 - 0x168];
	u64 rip;
	u8 reserved_180[0x1d8 - 0x180];
	u64 rsp;
	u8 reserved_1e0[0x1f8 - 0x1e0];
	u64 rax;
	u8 reserved_200[0x308 - 0x200];
	u64 rcx;
	u64 rdx;
	u64 rbx;
	u8 reserved_320[8];
	u64 rbp;
	u64 rsi;
	u64 rdi;
	u64 r8, r9, r10, r11, r12, r13, r14, r15;
	u8 reserved_380[16];
	u64 sw_exitcode;
	u64 sw_exitinfo1;
	u64 sw_exitinfo2;
	u64 sw_scratch;
	u8 reserved_3b0[0x3e8 - 0x3b0];
	u64 xcr0;
	u64 valid_bitmap[2]; /* bit n: the field at offset 8 * n is valid */
	u64 x87_state_gpa;
	u8 reserved_408[0x800 - 0x408];
	u8 shared_buffer[GHCB_BUFFER_SIZE];
	u8 reserved_ff0[10];
	u16 protocol_version;
	u32 ghcb_usage;
};
ASSERT_SIZE(struct ghcb, PAGE_SIZE);
ASSERT_OFFSET(struct ghcb, cpl, 0x0cb);
ASSERT_OFFSET(struct ghcb, xss, 0x140);
ASSERT_OFFSET(struct ghcb, dr7, 0x160);
ASSERT_OFFSET(struct ghcb, rip, 0x178);
ASSERT_OFFSET(struct ghcb, rsp, 0x1d8);
ASSERT_OFFSET(struct ghcb, rax, 0x1f8);
ASSERT_OFFSET(struct ghcb, rcx, 0x308);
ASSERT_OFFSET(struct ghcb, rdx, 0x310);
ASSERT_OFFSET(struct ghcb, rbx, 0x318);
ASSERT_OFFSET(struct ghcb, rbp, 0x328);
ASSERT_OFFSET(struct ghcb, rsi, 0x330);
ASSERT_OFFSET(struct ghcb, rdi, 0x338);
ASSERT_OFFSET(struct ghcb, r8, 0x340);
ASSERT_OFFSET(struct ghcb, r15, 0x378);
ASSERT_OFFSET(struct ghcb, sw_exitcode, 0x390);
ASSERT_OFFSET(struct ghcb, sw_exitinfo1, 0x398);
ASSERT_OFFSET(struct ghcb, sw_exitinfo2, 0x3a0);
ASSERT_OFFSET(struct ghcb, sw_scratch, 0x3a8);
ASSERT_OFFSET(struct ghcb, xcr0, 0x3e8);
ASSERT_OFFSET(struct ghcb, valid_bitmap, 0x3f0);
ASSERT_OFFSET(struct ghcb, x87_state_gpa, 0x400);
ASSERT_OFFSET(struct ghcb, shared_buffer, 0x800);
ASSERT_OFFSET(struct ghcb, protocol_version, 0xffa);
ASSERT_OFFSET(struct ghcb, ghcb_usage, 0xffc);

/* A field's bit in VALID_BITMAP, and in each of its two words. */
#define GHCB_BIT(field) (offsetof(struct ghcb, field) / 8)
#define GHCB_V0(field) (GHCB_BIT(field) < 64 ? BIT(GHCB_BIT(field) & 63) : 0)
#define GHCB_V1(field) (GHCB_BIT(field) < 64 ? 0 : BIT(GHCB_BIT(field) & 63))

static inline bool ghcb_bit(const struct ghcb *g, size_t bit)
{
	return (g->valid_bitmap[bit / 64] >> (bit % 64) & 1) != 0;
}

/* Is it marked valid? A field that is not has no value, whatever is in its place. */
#define ghcb_has(g, field) ghcb_bit(g, GHCB_BIT(field))
/* The field of a copy, 0 if absent. */
#define ghcb_get(g, field) ((__typeof__((g)->field))(ghcb_has(g, field) ? (g)->field : 0))
/* Sets a field and marks it valid. */
#define ghcb_set(g, field, value)                                            \
	do {                                                                 \
		(g)->field = (value);                                        \
		(g)->valid_bitmap[GHCB_BIT(field) / 64] |= BIT(GHCB_BIT(field) % 64); \
	} while (0)

/* What SW_EXITINFO1[31:0] says of the outcome. */
#define GHCB_OK 0U
#define GHCB_EXCEPTION 1U /* to be raised by the guest: SW_EXITINFO2 in the form of EVENTINJ */
#define GHCB_MALFORMED 2U /* SW_EXITINFO2: one of GHCB_ERR_* */

#define GHCB_ERR_USAGE 2U
#define GHCB_ERR_SCRATCH 3U
#define GHCB_ERR_MISSING 4U
#define GHCB_ERR_INPUT 5U
#define GHCB_ERR_EVENT 6U

/* Kinds of requests, each with a row in the table of sev/ghcb.c. */
enum ghcb_kind {
	GHCB_CPUID,
	GHCB_CPUID_XSAVE,
	GHCB_RDMSR,
	GHCB_WRMSR,
	GHCB_MMIO_READ,
	GHCB_MMIO_WRITE,
	GHCB_OUT,
	GHCB_IN,
	GHCB_OUTS,
	GHCB_INS,
	GHCB_VMMCALL,
	GHCB_RDTSC,
	GHCB_RDTSCP,
	GHCB_RDPMC,
	GHCB_WBINVD,
	GHCB_INVD,
	GHCB_MONITOR,
	GHCB_MWAIT,
	GHCB_DR7_READ,
	GHCB_DR7_WRITE,
	GHCB_NMI_COMPLETE,
	GHCB_RESET_HOLD,
	GHCB_JUMP_TABLE,
	GHCB_FEATURES,
	GHCB_TERMINATE,
	GHCB_UNSUPPORTED,
	GHCB_UNKNOWN,
	GHCB_EVENTS,

	/* Counted only. */
	GHCB_NO_PAGE = GHCB_EVENTS, /* the MSR names no RAM */
	GHCB_REFUSED,               /* answered with an error, beside its own kind */
	GHCB_MSR_INFO,
	GHCB_MSR_CPUID,
	GHCB_MSR_RESET_HOLD,
	GHCB_MSR_FEATURES,
	GHCB_MSR_TERMINATE,
	GHCB_MSR_SNP,
	GHCB_MSR_UNKNOWN,
	GHCB_KINDS
};
_Static_assert(GHCB_KINDS <= ES_EVENTS, "a counter for each kind");

/* One VMGEXIT in work. */
struct ghcb_call {
	struct ghcb *page; /* the guest's: only written */
	struct ghcb *copy;
	gpa_t gpa;         /* of the page */
	u64 info1, info2;  /* as the guest gave them */
	u64 out1, out2;    /* SW_EXITINFO1 and 2 of the answer */
};

static inline u32 ghcb_refuse(struct ghcb_call *c, u32 error)
{
	c->out1 = GHCB_MALFORMED;
	c->out2 = error;
	return VRESULT_RETRY;
}

/* A guest-physical address by the guest: without the C-bit and what is above it. */
static inline bool ghcb_gpa_valid(gpa_t gpa)
{
	return gpa >> sev_facts.c_bit == 0;
}

/* Has core serve an exit of the kind, with registers in v->gpr[]. Returns VRESULT_*. */
u32 ghcb_dispatch(struct vcpu *v, u32 kind);
/* The vCPU waits until something wakes it; v->es->hold is set. */
u32 ghcb_wait(struct vcpu *v);
/* Stops the VM at its own wish. */
u32 ghcb_terminate(struct vcpu *v, u32 set, u32 reason);

/* ghcb_msr.c */
u32 ghcb_msr_request(struct vcpu *v, u64 request);
u64 ghcb_msr_info(const struct vcpu *v);

/* ghcb_io.c: in v->exits[] these count as the exits that they stand for */
u32 ghcb_port(struct vcpu *v, struct ghcb_call *c);
u32 ghcb_string(struct vcpu *v, struct ghcb_call *c);
u32 ghcb_mmio_read(struct vcpu *v, struct ghcb_call *c);
u32 ghcb_mmio_write(struct vcpu *v, struct ghcb_call *c);

#endif
