/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/errno.h"
#include "core/string.h"
#include "sev/es.h"
#include "sev/launch.h"

/* What is measured of a guest that comes as one image: a flat program, or firmware. */

#define FLAT_BASE MIB(1)

/* The whole file, filled up to whole pages, at 1 MiB; entered at its first byte. */
int es_plan_flat(struct loader *l, struct es_plan *p)
{
	struct loader_image f;
	u64 size;
	int err = loader_file(l, "sev-loader", l->vm->config->sev_loader, &f);

	if (err != 0)
		return err;
	size = ALIGN_UP(f.size, PAGE_SIZE);
	err = loader_claim(l, &f, "the image", FLAT_BASE, size);
	if (err != 0)
		return err;
	loader_zero(l, FLAT_BASE, size);
	loader_write(l, FLAT_BASE, f.data, f.size);
	p->direct = true;
	p->entry = FLAT_BASE;
	return es_plan_add(l->vm, p, FLAT_BASE, size);
}

/* --- firmware (the table of GUIDs at the end of OVMF: its ResetVectorVtf0.asm) --- */

#define TABLE_END 0x20U /* bytes of the image behind the table */
#define HEADER 18U      /* length, GUID; an entry's data is in front of them */
#define ENTRIES_MAX 64U

struct guid {
	u64 lo, hi;
};
/* 96b582de-1fb2-45f7-baea-a366c55a082d; its length is that of the whole table */
static const struct guid footer = { 0x45f71fb296b582deUL, 0x2d085ac566a3eabaUL };
/* 00f771de-1a7e-4fcb-890e-68c77e2fb44e: u32 address at which APs begin */
static const struct guid reset_block = { 0x4fcb1a7e00f771deUL, 0x4eb42f7ec7680e89UL };
/* 4c2eb361-7d9b-4cc3-8081-127c90d3d294: u32 address, u32 size */
static const struct guid secret_area = { 0x4cc37d9b4c2eb361UL, 0x94d2d3907c128180UL };

/* The entry that ends at offset end; *len: of all of it. False when it does not fit. */
static bool read_entry(const u8 *image, u64 start, u64 end, struct guid *g, u16 *len)
{
	if (end - start < HEADER)
		return false;
	memcpy(g, image + end - sizeof(*g), sizeof(*g));
	memcpy(len, image + end - HEADER, sizeof(*len));
	return *len >= HEADER && *len <= end - start;
}

static bool same(const struct guid *a, const struct guid *b)
{
	return a->lo == b->lo && a->hi == b->hi;
}

static void use_entry(struct es_plan *p, const struct guid *g, const u8 *data, u32 size)
{
	if (same(g, &reset_block) && size >= 4)
		memcpy(&p->ap_reset, data, 4);
	if (same(g, &secret_area) && size >= 8) {
		u32 at;

		memcpy(&at, data, 4);
		memcpy(&p->secret_size, data + 4, 4);
		p->secret = at;
	}
}

static void read_table(const u8 *image, u64 size, struct es_plan *p)
{
	u64 end = size - TABLE_END, start;
	struct guid g;
	u16 len;

	if (!read_entry(image, 0, end, &g, &len) || !same(&g, &footer))
		return;
	start = end - len;
	end -= HEADER;
	for (u32 i = 0; i < ENTRIES_MAX && read_entry(image, start, end, &g, &len); i++) {
		end -= len;
		use_entry(p, &g, image + end, len - HEADER);
	}
}

/*
 * The image as ROM below 4 GiB, all of it measured. No shadow below 1 MiB: the
 * reset vector is where it is, and a shadow would be an unmeasured copy.
 */
int es_plan_firmware(struct loader *l, struct es_plan *p)
{
	struct vm *vm = l->vm;
	struct loader_image *f = &l->kernel;
	gpa_t base;
	u8 *rom;
	int err = loader_file(l, "firmware", vm->config->firmware, f);

	if (err != 0)
		return err;
	if (f->size < FIRMWARE_MIN || f->size > FIRMWARE_MAX || !IS_ALIGNED(f->size, PAGE_SIZE))
		return loader_error(l, f, -EPROTO, "a firmware image has 64K to 16M, in whole pages");
	base = GIB(4) - f->size;
	/* Until now a hole; afterwards it stays the ROM's. */
	if (vm->ram.rom == 0)
		err = pt_unmap(&vm->npt, base, f->size);
	if (err == 0)
		err = vm_map_rom(vm, base, f->size, &rom);
	if (err != 0)
		return loader_error(l, f, err, "no memory for the image");
	memcpy(rom, f->data, f->size);
	read_table(f->data, f->size, p);
	if (vm->vcpus > 1 && p->ap_reset == 0)
		return loader_error(l, f, -EPROTO, "names no SEV-ES reset address: use one vCPU");
	return es_plan_add(vm, p, base, f->size);
}
