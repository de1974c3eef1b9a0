/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_BOOT_INFO_H
#define RAVELIN_CORE_BOOT_INFO_H

#include "core/types.h"

/*
 * What the boot doors (boot/multiboot2.c, boot/efi/) tell the hypervisor.
 * Nothing after them knows which door was used. Addresses are physical.
 */
#define BOOT_INFO_MAGIC 0x3031464e49564152ULL /* "RAVINF10" */
#define BOOT_MEM_MAX 512
#define BOOT_MODULE_MAX 128
#define BOOT_NAME_LEN 128
#define BOOT_CMDLINE_LEN 1024

/* The e820 numbers (ACPI 6.5, 15.1). */
enum boot_mem_type { MEM_RAM = 1, MEM_RESERVED = 2, MEM_ACPI = 3, MEM_NVS = 4, MEM_BAD = 5 };

struct boot_mem {
	u64 base;
	u64 size;
	u32 type; /* enum boot_mem_type */
	u32 pad;
};

/* A file. error is 0, or a negative errno with base and size 0: the file was
 * named in the configuration and could not be read. */
struct boot_module {
	char name[BOOT_NAME_LEN];
	paddr_t base;
	u64 size;
	s32 error;
	u32 pad;
};

/* Linear framebuffer with 32 bits a pixel; width 0: none. */
struct boot_framebuffer {
	paddr_t base;
	u32 width, height; /* pixels */
	u32 pitch;         /* bytes a line */
	u8 red_shift, green_shift, blue_shift, pad;
};

struct boot_info {
	u64 magic;
	u32 mems;
	u32 modules;
	paddr_t image;          /* where the hypervisor itself is loaded */
	u64 image_size;
	paddr_t rsdp;           /* 0: not told */
	paddr_t efi_system_table; /* 0: not booted by UEFI, or not told */
	struct boot_framebuffer fb;
	char door[16];          /* "efi" or "multiboot2", for the log only */
	char cmdline[BOOT_CMDLINE_LEN];
	/* After boot_info_normalise(): sorted, no overlaps, neighbours of one type merged. */
	struct boot_mem mem[BOOT_MEM_MAX];
	struct boot_module module[BOOT_MODULE_MAX];
};

/*
 * Sorts and merges the memory map in place; where entries overlap, the less
 * usable type wins. -ENOENT when there is no RAM in it, -EINVAL when an entry
 * wraps around the address space, -ENOSPC when it does not fit.
 */
int boot_info_normalise(struct boot_info *bi);
/*
 * Checks that no module overlaps another, the image or memory that is not RAM.
 * A module that does gets .error = -EEXIST or -EFAULT and is logged with both
 * names. Returns the number of bad modules.
 */
u32 boot_info_check_modules(struct boot_info *bi);
/* Is all of it RAM that neither a module nor the image uses? */
bool boot_info_is_free_ram(const struct boot_info *bi, u64 base, u64 size);
/*
 * The module called name, or NULL. Leading slashes and backslashes do not
 * count, the two kinds of slash and the cases of letters are equal. The caller
 * looks at ->error.
 */
const struct boot_module *boot_module_find(const struct boot_info *bi, const char *name);

#endif
