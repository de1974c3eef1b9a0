/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_LOADER_LOADER_H
#define RAVELIN_LOADER_LOADER_H

#include "guest-pv/loader/abi.h"

/*
 * The first-stage loader: the only code of an SEV-ES guest that the owner has to
 * trust before the kernel. It runs on the boot processor with its own page tables;
 * everything it uses but the GHCB is private memory.
 */

/* Memory of the loader's that outlives it: entry and AP code, then the AP jump table. */
#define LDR_RESERVED_END (LDR_BASE + 2 * PAGE_SIZE)
#define LDR_JUMP_TABLE (LDR_BASE + PAGE_SIZE)
#define LDR_EBDA 0x9F000UL

/* --- linux.c, cpio.c: no hardware, tested on a host --- */

struct ldr_kernel {
	u64 base;  /* of the protected-mode part */
	u64 entry; /* 64-bit entry */
	u64 end;   /* needed up to here before the kernel reads the memory map */
};

/* Checks the file, which lies at gpa. False: no kernel that can be started there. */
bool ldr_kernel_check(const u8 *file, u64 size, u64 gpa, struct ldr_kernel *k);

#define LDR_PARAMS_SIZE 4096UL
struct ldr_boot {
	const u8 *kernel; /* checked */
	u64 kernel_gpa;
	u64 initrd, initrd_size;
	u64 cmdline;
	u64 rsdp;
	u64 mem_low, mem_high;
};
/* Fills the zero page (LDR_PARAMS_SIZE bytes). */
void ldr_boot_params(u8 *params, const struct ldr_boot *b);

/* Do sizes and addresses of all parts lie in RAM, clear of the loader and of each other? */
bool ldr_info_check(const struct ldr_info *info, u64 loader_end, u64 cmdline);

/*
 * The owner's table of secrets as an archive (cpio, newc): directory sev-secret with
 * one file for each entry, its GUID as the name. Returns the archive's size; 0:
 * the area is zero, there is no secret; -1: no table, or no room.
 */
s64 ldr_secret_cpio(const u8 *area, u64 size, u8 *out, u64 room);

/* --- ghcb.c --- */

/* GHCB page, traps. Ends the guest when the hypervisor speaks no version that is known here. */
void ldr_ghcb_init(void);
/* An event without further inputs; returns SW_EXITINFO2. Ends the guest when it fails. */
u64 ldr_ghcb_event(u64 code, u64 info1, u64 info2);
/* The GHCB page is private memory again; no event, trap or print after this. */
void ldr_ghcb_done(void);
void ldr_print(const char *text);
__noreturn void ldr_terminate(enum ldr_reason reason, const char *text);

/* The guest's view of memory that the hypervisor may read and write. */
static inline void *ldr_shared(u64 gpa) { return (void *)(gpa + GIB(4)); }
/* Lines of shared memory leave the caches: its frames change their key. */
void ldr_flush_shared(u64 gpa, u64 size);

#endif
