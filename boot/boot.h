/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_BOOT_BOOT_H
#define RAVELIN_BOOT_BOOT_H

#include "core/boot_info.h"

#define MB2_BOOT_MAGIC 0x36d76289U
#define EFI_BOOT_MAGIC 0x4e565652U

/* At the very start of the image's first segment: how ravelin.efi finds its way in. */
struct image_header {
	char magic[8]; /* "RAVELIN" */
	u32 entry64;   /* offset from the load address */
	u32 version;   /* of this header and struct boot_info */
};
#define IMAGE_HEADER_VERSION 1U

/*
 * Reads the information that a multiboot2 loader left (Multiboot2
 * specification 2.0, 3.4): size bytes at most are looked at, text that does
 * not fit is cut. *bi was zeroed. What cannot be used is logged and left out.
 * -EPROTO when the structure is damaged, -ENOENT without a memory map.
 */
int mb2_parse(const void *info, size_t size, struct boot_info *bi);

/* First C function, on the first page tables. */
void boot_main(u32 magic, u32 pointer, u64 load) __noreturn;

#endif
