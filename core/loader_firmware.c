/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/errno.h"
#include "core/loader.h"
#include "core/string.h"

/*
 * A firmware image at the reset vector: read-only below 4 GiB, its last 256 KiB
 * again in the BIOS and option-ROM areas, in RAM: the state that a PC's firmware
 * reaches when it has told the host bridge to shadow it, which is not there.
 */
#define SHADOW_BASE 0xC0000UL
#define SHADOW_SIZE 0x40000UL

int firmware_load(struct loader *l, struct guest_entry *entry)
{
	const struct loader_image *f = &l->kernel;
	u64 shadow = MIN(f->size, SHADOW_SIZE);
	u8 *rom;
	int err;

	if (f->size < FIRMWARE_MIN || f->size > FIRMWARE_MAX || !IS_ALIGNED(f->size, PAGE_SIZE))
		return loader_error(l, f, -EPROTO,
				    "%llu bytes: a firmware image has 64K to 16M, in whole pages",
				    (unsigned long long)f->size);
	err = vm_map_rom(l->vm, GIB(4) - f->size, f->size, &rom);
	if (err < 0)
		return loader_error(l, f, err, "no memory for the image");
	memcpy(rom, f->data, f->size);
	loader_zero(l, SHADOW_BASE, SHADOW_SIZE);
	loader_write(l, SHADOW_BASE + SHADOW_SIZE - shadow, f->data + f->size - shadow, shadow);
	entry->mode = GUEST_REAL;
	return 0;
}
