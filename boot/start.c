/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/paging.h"
#include "arch/x86/percpu.h"
#include "arch/x86/traps.h"
#include "boot/boot.h"
#include "core/log.h"
#include "core/main.h"
#include "core/string.h"
#include "drivers/console.h"

/* boot/image.inc has these numbers for the assembler. */
_Static_assert(IMAGE_BASE == 0xffffffff80000000UL, "boot/image.inc");
_Static_assert(PERCPU_BASE == 0xffffffffc0000000UL, "boot/image.inc");
_Static_assert(PERCPU_MAX == 16 * PAGE_SIZE, "boot/image.inc");
_Static_assert(STACK_TOP == PERCPU_BASE + 0x104000, "boot/image.inc");

#define MB2_SIZE_MAX MIB(1)

extern char image_end[];

static struct boot_info info;
u64 image_phys;

static void __noreturn boot_failed(const char *what, int err)
{
	console_early(&info);
	log_err("start: %s (error %d): check the boot loader's configuration", what, -err);
	machine_halt();
}

static void from_multiboot2(u32 pointer)
{
	int err = mb2_parse(phys_to_virt(pointer), MB2_SIZE_MAX, &info);

	if (err != 0)
		boot_failed("the multiboot2 information cannot be used", err);
	if (info.rsdp != 0)
		info.rsdp = virt_to_phys((void *)info.rsdp);
}

static void from_efi(u32 pointer)
{
	const struct boot_info *bi = phys_to_virt(pointer);

	if (bi->magic != BOOT_INFO_MAGIC || bi->mems > BOOT_MEM_MAX ||
	    bi->modules > BOOT_MODULE_MAX)
		boot_failed("ravelin.efi and the image in it do not belong together", 0);
	memcpy(&info, bi, sizeof(info));
}

void boot_main(u32 magic, u32 pointer, u64 load)
{
	image_phys = load;
	traps_init();
	cpu_setup();
	if (magic == EFI_BOOT_MAGIC)
		from_efi(pointer);
	else
		from_multiboot2(pointer);
	info.magic = BOOT_INFO_MAGIC;
	info.image = load;
	info.image_size = (u64)image_end - IMAGE_BASE;
	machine_start(&info);
}
