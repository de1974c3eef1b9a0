/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_GWALK_H
#define RAVELIN_ARCH_X86_GWALK_H

#include "arch/x86/decode.h"
#include "arch/x86/virt.h"
#include "core/exit.h"
#include "core/types.h"

/*
 * The guest's own view of an address: segmentation, then the guest's page
 * tables, with the rights, reserved-bit checks and accessed/dirty updates of the
 * hardware. Called for the vCPU that runs on the calling CPU, out of guest mode.
 */

/* With VACCESS_*: an access the CPU makes on its own behalf (descriptor tables), supervisor at
 * any CPL. */
#define GACCESS_SYSTEM BIT32(8)

/* #PF error code, APM vol. 2, 8.4.2. */
#define PF_PRESENT BIT32(0)
#define PF_WRITE BIT32(1)
#define PF_USER BIT32(2)
#define PF_RESERVED BIT32(3)
#define PF_FETCH BIT32(4)

/* Registers that decide about addresses, gathered once for an exit. */
struct gwalk_ctx {
	u64 cr0, cr3, cr4, efer, rflags;
	u8 cpl;
	u8 mode; /* enum insn_mode, from CS */
};

/* An exception that an access caused: not yet queued. */
struct guest_fault {
	u8 vector;
	u32 error;
	gva_t address; /* #PF only */
};

/* Guest-physical ranges of one linear range that crosses at most one page boundary. */
struct guest_span {
	u32 parts; /* 1 or 2 */
	struct {
		gpa_t gpa;
		u32 len;
	} part[2];
};

/* Code size of the vCPU's CS. 0, or -EACCES when the state is protected. */
int guest_mode_of(struct vcpu *v, enum insn_mode *mode) __must_check;
/* Gathers *ctx from the backend. 0, or -EACCES. */
int gwalk_load(struct vcpu *v, struct gwalk_ctx *ctx) __must_check;

/*
 * Walks the guest's page tables for one byte at gva; access is VACCESS_* and
 * GACCESS_SYSTEM. Returns 0 with *gpa; -EFAULT with the error code of the #PF in
 * *pf_error (-EFAULT too for a non-canonical address: see guest_linear()); -EIO
 * when a page table is not in RAM; -EAGAIN when other CPUs keep changing the
 * tables: enter the guest again and let it retry.
 */
int gwalk(struct vcpu *v, const struct gwalk_ctx *ctx, gva_t gva, u32 access, gpa_t *gpa,
	  u32 *pf_error) __must_check;
/* gwalk() with the registers gathered for this one call. */
int guest_translate(struct vcpu *v, gva_t gva, u32 access, gpa_t *gpa, u32 *pf_error) __must_check;

/*
 * Linear address of size bytes (1..PAGE_SIZE) at seg:off, with the limit, type
 * and canonical checks of the mode. 0, or -EFAULT with *fault (#SS or #GP);
 * -EACCES. APM vol. 2, 4.7 to 4.12.
 */
int guest_linear(struct vcpu *v, const struct gwalk_ctx *ctx, u8 seg, u64 off, u32 size,
		 u32 access, gva_t *gva, struct guest_fault *fault) __must_check;

/*
 * Translates len bytes (1..PAGE_SIZE) at gva. 0; -EFAULT with *fault; -EIO,
 * -EAGAIN as gwalk(). Nothing but accessed/dirty bits has changed on failure.
 */
int guest_span(struct vcpu *v, const struct gwalk_ctx *ctx, gva_t gva, u32 len, u32 access,
	       struct guest_span *span, struct guest_fault *fault) __must_check;

/* Copy between buf and guest RAM; results as guest_span(), -EIO also when the range is no RAM.
 * A write changes all of the range or nothing. */
int guest_read_linear(struct vcpu *v, const struct gwalk_ctx *ctx, gva_t gva, void *buf, u32 len,
		      struct guest_fault *fault) __must_check;
int guest_write_linear(struct vcpu *v, const struct gwalk_ctx *ctx, gva_t gva, const void *buf,
		       u32 len, struct guest_fault *fault) __must_check;

/*
 * Instruction bytes at CS:rip, at most INSN_MAX. Returns how many could be read
 * (1..INSN_MAX): fewer when the next page faults, then *fault says how. Else
 * -EFAULT with *fault, -EIO, -EAGAIN, -EACCES.
 */
int guest_fetch(struct vcpu *v, const struct gwalk_ctx *ctx, u64 rip, u8 *buf,
		struct guest_fault *fault) __must_check;

/*
 * How the vCPU's current code page was reached, in 64-bit mode: the page-table
 * entries of the walk and where they are. Guest RAM does not move, so as long as
 * registers and entries are unchanged a new walk would end in the same page.
 */
struct gwalk_code {
	u64 cr0, cr3, cr4, efer;
	gva_t page;
	const u8 *host;       /* the page; NULL: nothing known */
	u8 cpl;
	u8 depth;             /* entries in use */
	const u64 *entry[5];
	u64 value[5];
};

/*
 * As guest_fetch(), through the cache: INSN_MAX bytes of 64-bit code in one page
 * of RAM. False when that is not what is at rip: guest_fetch() will tell.
 */
bool guest_fetch_cached(struct vcpu *v, const struct gwalk_ctx *ctx, struct gwalk_code *code,
			u64 rip, u8 *buf) __must_check;

/* Queues the exception for the guest. */
void guest_inject(struct vcpu *v, const struct guest_fault *fault);

#endif
