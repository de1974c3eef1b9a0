/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/string.h"
#include "guest-pv/loader/loader.h"
#include "vdev/acpi_tables.h"

/* Linux's 64-bit boot protocol: boot.rst and zero-page.rst in Documentation/arch/x86/. */

/* Offsets in the image, and in the zero page, which holds a copy of the header. */
#define H_SETUP_SECTS 0x1F1UL
#define H_BOOT_FLAG 0x1FEUL
#define H_LENGTH 0x201UL
#define H_MAGIC 0x202UL
#define H_VERSION 0x206UL
#define H_TYPE_OF_LOADER 0x210UL
#define H_CODE32_START 0x214UL
#define H_RAMDISK_IMAGE 0x218UL
#define H_RAMDISK_SIZE 0x21CUL
#define H_CMD_LINE_PTR 0x228UL
#define H_ALIGNMENT 0x230UL
#define H_RELOCATABLE 0x234UL
#define H_XLOADFLAGS 0x236UL
#define H_SETUP_DATA 0x250UL
#define H_INIT_SIZE 0x260UL
#define H_END 0x290UL
#define P_ACPI_RSDP 0x070UL
#define P_RAMDISK_HIGH 0x0C0UL
#define P_E820_ENTRIES 0x1E8UL
#define P_E820 0x2D0UL

#define MAGIC_HDRS 0x53726448U
#define VERSION_XLOADFLAGS 0x20CU
#define XLF_KERNEL_64 0x01U
#define ENTRY_64 0x200UL
#define SECTOR 512UL
#define LOADER_UNDEFINED 0xFFU

enum { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4 };

static u64 get(const u8 *p, u64 at, u32 bytes)
{
	u64 v = 0;

	memcpy(&v, p + at, bytes);
	return v;
}

static void put(u8 *p, u64 at, u64 v, u32 bytes)
{
	memcpy(p + at, &v, bytes);
}

bool ldr_kernel_check(const u8 *file, u64 size, u64 gpa, struct ldr_kernel *k)
{
	u64 sects, setup, align;

	if (size < 0x1000 || get(file, H_MAGIC, 4) != MAGIC_HDRS ||
	    get(file, H_BOOT_FLAG, 2) != 0xAA55 || get(file, H_VERSION, 2) < VERSION_XLOADFLAGS ||
	    (get(file, H_XLOADFLAGS, 2) & XLF_KERNEL_64) == 0 || file[H_RELOCATABLE] == 0)
		return false;
	sects = file[H_SETUP_SECTS] != 0 ? file[H_SETUP_SECTS] : 4;
	setup = (sects + 1) * SECTOR;
	align = get(file, H_ALIGNMENT, 4);
	if (setup + ENTRY_64 >= size || align < PAGE_SIZE || (align & (align - 1)) != 0 ||
	    !IS_ALIGNED(gpa + setup, align))
		return false;
	k->base = gpa + setup;
	k->entry = k->base + ENTRY_64;
	k->end = k->base + MAX(get(file, H_INIT_SIZE, 4), size - setup);
	return true;
}

static void add_range(u8 *params, u64 base, u64 end, u32 type)
{
	u64 at = P_E820 + params[P_E820_ENTRIES] * 20UL;

	if (end <= base)
		return;
	put(params, at, base, 8);
	put(params, at + 8, end - base, 8);
	put(params, at + 16, type, 4);
	params[P_E820_ENTRIES]++;
}

static void memory_map(u8 *params, const struct ldr_boot *b)
{
	add_range(params, 0, LDR_EBDA, E820_RAM);
	add_range(params, LDR_EBDA, 0xA0000, E820_RESERVED);
	add_range(params, ACPI_TABLES_BASE, ACPI_TABLES_FACS, E820_ACPI);
	add_range(params, ACPI_TABLES_FACS, ACPI_TABLES_BASE + ACPI_TABLES_SIZE, E820_NVS);
	add_range(params, LDR_BASE, LDR_RESERVED_END, E820_RESERVED);
	add_range(params, LDR_RESERVED_END, b->mem_low, E820_RAM);
	add_range(params, GIB(4), GIB(4) + b->mem_high, E820_RAM);
}

void ldr_boot_params(u8 *params, const struct ldr_boot *b)
{
	u64 end = MIN(H_MAGIC + b->kernel[H_LENGTH], H_END);
	u64 setup = b->kernel[H_SETUP_SECTS] != 0 ? b->kernel[H_SETUP_SECTS] : 4;

	memset(params, 0, LDR_PARAMS_SIZE);
	memcpy(params + H_SETUP_SECTS, b->kernel + H_SETUP_SECTS, end - H_SETUP_SECTS);
	put(params, H_TYPE_OF_LOADER, LOADER_UNDEFINED, 1);
	put(params, H_CODE32_START, b->kernel_gpa + (setup + 1) * SECTOR, 4);
	put(params, H_RAMDISK_IMAGE, b->initrd_size != 0 ? b->initrd : 0, 4);
	put(params, H_RAMDISK_SIZE, b->initrd_size, 4);
	put(params, H_CMD_LINE_PTR, b->cmdline, 4);
	put(params, H_SETUP_DATA, 0, 8);
	put(params, P_ACPI_RSDP, b->rsdp, 8);
	memory_map(params, b);
}

/* --- launch information --- */

/* [gpa, gpa + size) in RAM above the loader, with room for an archive behind an initrd. */
static bool part_fits(const struct ldr_info *info, const struct ldr_part *p, u64 room)
{
	u64 end;

	return p->size == 0 || (p->gpa >= MIB(2) && p->gpa < GIB(4) &&
		!__builtin_add_overflow(p->gpa, p->size, &end) && end <= info->mem_low &&
		room <= info->mem_low - end);
}

bool ldr_info_check(const struct ldr_info *info, u64 loader_end, u64 cmdline)
{
	const struct ldr_part *k = &info->part[LDR_KERNEL], *i = &info->part[LDR_INITRD];
	const struct ldr_part *c = &info->part[LDR_CMDLINE];

	return info->magic == LDR_INFO_MAGIC && info->cpus >= 1 && info->cpus <= 64 &&
		info->mem_low >= MIB(4) && info->mem_low <= GIB(3) &&
		info->mem_high <= BIT(40) && loader_end <= MIB(2) && k->size != 0 &&
		part_fits(info, k, 0) && IS_ALIGNED(i->gpa, PAGE_SIZE) && i->gpa >= MIB(2) &&
		i->gpa <= info->mem_low && part_fits(info, i, LDR_CPIO_ROOM) &&
		LDR_CPIO_ROOM <= info->mem_low - i->gpa && k->gpa + k->size <= i->gpa &&
		c->gpa == cmdline && c->size >= 1 && c->size <= PAGE_SIZE;
}
