/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_LOADER_ABI_H
#define RAVELIN_LOADER_ABI_H

#include "core/types.h"

/*
 * What the hypervisor and the first-stage loader of an SEV-ES guest agree on
 * (docs/sev-launch.md). All of it is measured: the loader's image, this
 * description of the launch, the place for the secret as zeros.
 */

#define LDR_BASE 0x100000UL /* the image; entered with EBX = vCPU, ESI = launch information */

#define LDR_MAGIC 0x31524c4e4c5652UL  /* "RVLNLR1" */
#define LDR_INFO_MAGIC 0x31464e4e4c5652UL /* "RVLNNF1" */

/* At the image's first byte. Addresses are the guest's. */
struct ldr_header {
	u8 jump[8];      /* to the entry */
	u64 magic;
	u32 entry;
	u32 end;         /* the loader's own memory ends here, behind image and zeros */
	u32 info;        /* one page: struct ldr_info, then zeros */
	u32 secret;      /* whole pages, measured as zeros, for LAUNCH_SECRET */
	u32 secret_size;
	u32 cmdline;     /* one page: command line with its NUL, not measured */
};
ASSERT_OFFSET(struct ldr_header, magic, 8);
ASSERT_OFFSET(struct ldr_header, entry, 16);
ASSERT_OFFSET(struct ldr_header, cmdline, 36);
ASSERT_SIZE(struct ldr_header, 40);

enum ldr_part_name { LDR_KERNEL, LDR_INITRD, LDR_CMDLINE, LDR_PARTS };

/* A file that the hypervisor has put there as plain text, and what its bytes must be. */
struct ldr_part {
	u64 gpa;
	u64 size; /* 0: there is none */
	u8 sha256[32];
};
ASSERT_SIZE(struct ldr_part, 48);

struct ldr_info {
	u64 magic;
	u32 cpus;     /* APIC ids 0..cpus-1 */
	u32 com;      /* bit 0: COM1 exists, bit 1: COM2 */
	u64 mem_low;  /* RAM from 0 */
	u64 mem_high; /* RAM from 4 GiB */
	struct ldr_part part[LDR_PARTS];
};
ASSERT_OFFSET(struct ldr_info, mem_low, 16);
ASSERT_OFFSET(struct ldr_info, part, 32);
ASSERT_SIZE(struct ldr_info, 176);

/* Why the loader ends the guest: GHCB termination request with this set of reasons. */
#define LDR_REASON_SET 6U
enum ldr_reason {
	LDR_R_PLATFORM = 1, /* no SEV-ES, or the C-bit does not encrypt */
	LDR_R_INFO,         /* the launch information makes no sense */
	LDR_R_KERNEL,       /* the bytes are not those that were measured */
	LDR_R_INITRD,
	LDR_R_CMDLINE,
	LDR_R_IMAGE,        /* no kernel with a 64-bit entry, or no room for it */
	LDR_R_SECRET,       /* neither a table of secrets nor zeros */
	LDR_R_EXCEPTION,
	LDR_R_HOST          /* the hypervisor's answer to a GHCB event is an error */
};

/* Room kept behind the initrd for an archive of the secrets. */
#define LDR_CPIO_ROOM KIB(64)

#endif
