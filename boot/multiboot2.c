/* SPDX-License-Identifier: BSD-2-Clause */
#include "boot/boot.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/string.h"

#define TAG_END 0U
#define TAG_CMDLINE 1U
#define TAG_MODULE 3U
#define TAG_MMAP 6U
#define TAG_FRAMEBUFFER 8U
#define TAG_EFI64 12U
#define TAG_ACPI_OLD 14U
#define TAG_ACPI_NEW 15U

struct tag {
	u32 type;
	u32 size; /* with this header, without padding */
};

struct tag_module {
	struct tag tag;
	u32 start, end;
	char text[];
};

struct tag_mmap {
	struct tag tag;
	u32 entry_size;
	u32 entry_version;
};

struct mmap_entry {
	u64 base, size;
	u32 type;
	u32 zero;
};

struct tag_framebuffer {
	struct tag tag;
	u64 base;
	u32 pitch, width, height;
	u8 bpp;
	u8 kind; /* 1: direct colour */
	u16 reserved;
	u8 red_pos, red_size, green_pos, green_size, blue_pos, blue_size;
};

/* The loader's copy of the RSDP: kept here, as its memory is reused. */
static u8 rsdp_copy[64] __aligned(16);

static void copy_text(char *dst, size_t room, const char *text, size_t len)
{
	size_t n = MIN(strnlen(text, len), room - 1);

	memcpy(dst, text, n);
	dst[n] = '\0';
}

static void parse_module(const struct tag_module *t, struct boot_info *bi)
{
	const char *text = t->text;
	size_t len = strnlen(text, t->tag.size - sizeof(*t));
	struct boot_module *m;
	size_t name;

	if (bi->modules == BOOT_MODULE_MAX) {
		log_err("multiboot2: more than %u modules, the rest is ignored", BOOT_MODULE_MAX);
		return;
	}
	/* The name is the first word; GRUB passes what follows the file name on its line. */
	while (len > 0 && *text == ' ') {
		text++;
		len--;
	}
	for (name = 0; name < len && text[name] != ' '; name++)
		;
	m = &bi->module[bi->modules++];
	copy_text(m->name, sizeof(m->name), text, name);
	if (name == 0) {
		log_err("multiboot2: module %u has no name: write one behind the file's, as in "
			"\"module2 /boot/vmlinuz vmlinuz\"", bi->modules - 1);
		m->error = -EINVAL;
		return;
	}
	if (t->end < t->start) {
		log_err("multiboot2: module %s ends (0x%x) before it starts (0x%x)", m->name,
			t->end, t->start);
		m->error = -EPROTO;
		return;
	}
	m->base = t->start;
	m->size = t->end - t->start;
}

static int parse_mmap(const struct tag_mmap *t, struct boot_info *bi)
{
	const u8 *p = (const u8 *)(t + 1);
	u32 left = t->tag.size - (u32)sizeof(*t);

	if (t->entry_size < sizeof(struct mmap_entry) || t->entry_size % 8 != 0) {
		log_err("multiboot2: memory map with entries of %u bytes, at least 24 expected",
			t->entry_size);
		return -EPROTO;
	}
	for (; left >= t->entry_size; left -= t->entry_size, p += t->entry_size) {
		const struct mmap_entry *e = (const struct mmap_entry *)p;

		if (bi->mems == BOOT_MEM_MAX) {
			log_err("multiboot2: memory map with more than %u entries", BOOT_MEM_MAX);
			return -ENOSPC;
		}
		/* The loader's numbers for 1 to 5 are the e820 ones. */
		bi->mem[bi->mems++] = (struct boot_mem){
			e->base, e->size, e->type >= 1 && e->type <= 5 ? e->type : MEM_RESERVED, 0
		};
	}
	return 0;
}

static void parse_framebuffer(const struct tag_framebuffer *t, struct boot_info *bi)
{
	if (t->kind != 1 || t->bpp != 32 || t->red_pos > 24 || t->green_pos > 24 ||
	    t->blue_pos > 24) {
		log_info("multiboot2: framebuffer of kind %u with %u bits a pixel is not used",
			 t->kind, t->bpp);
		return;
	}
	bi->fb = (struct boot_framebuffer){
		.base = t->base, .width = t->width, .height = t->height, .pitch = t->pitch,
		.red_shift = t->red_pos, .green_shift = t->green_pos, .blue_shift = t->blue_pos,
	};
}

static void parse_rsdp(const struct tag *t, struct boot_info *bi)
{
	size_t len = t->size - sizeof(*t);

	if (len > sizeof(rsdp_copy)) {
		log_err("multiboot2: ACPI tag of %u bytes is too long, ignored", t->size);
		return;
	}
	memset(rsdp_copy, 0, sizeof(rsdp_copy));
	memcpy(rsdp_copy, t + 1, len);
	bi->rsdp = (paddr_t)(uintptr_t)rsdp_copy; /* boot_main() makes it physical */
}

/* The smallest size a tag of this type can have. */
static size_t min_size(u32 type)
{
	switch (type) {
	case TAG_MODULE:
		return sizeof(struct tag_module);
	case TAG_MMAP:
		return sizeof(struct tag_mmap);
	case TAG_FRAMEBUFFER:
		return offsetof(struct tag_framebuffer, reserved);
	case TAG_EFI64:
		return sizeof(struct tag) + 8;
	case TAG_ACPI_OLD:
		return sizeof(struct tag) + 20;
	case TAG_ACPI_NEW:
		return sizeof(struct tag) + 36;
	default:
		return sizeof(struct tag);
	}
}

static int parse_tag(const struct tag *t, struct boot_info *bi)
{
	switch (t->type) {
	case TAG_CMDLINE:
		copy_text(bi->cmdline, sizeof(bi->cmdline), (const char *)(t + 1),
			  t->size - sizeof(*t));
		return 0;
	case TAG_MODULE:
		parse_module((const struct tag_module *)t, bi);
		return 0;
	case TAG_MMAP:
		return parse_mmap((const struct tag_mmap *)t, bi);
	case TAG_FRAMEBUFFER:
		/* Only direct colour has the fields behind `reserved`. */
		if (t->size >= offsetof(struct tag_framebuffer, blue_size))
			parse_framebuffer((const struct tag_framebuffer *)t, bi);
		return 0;
	case TAG_EFI64:
		memcpy(&bi->efi_system_table, t + 1, 8);
		return 0;
	case TAG_ACPI_OLD:
		if (bi->rsdp == 0)
			parse_rsdp(t, bi);
		return 0;
	case TAG_ACPI_NEW:
		parse_rsdp(t, bi);
		return 0;
	default:
		return 0;
	}
}

int mb2_parse(const void *info, size_t size, struct boot_info *bi)
{
	const u8 *p = info;
	u32 total, pos = 8;
	int err;

	memcpy(&total, p, 4);
	if (total < 16 || total > size) {
		log_err("multiboot2: information of %u bytes, 16 to %lu expected", total, size);
		return -EPROTO;
	}
	for (;;) {
		const struct tag *t = (const struct tag *)(p + pos);

		if (total - pos < sizeof(*t)) {
			log_err("multiboot2: no end tag within the %u bytes", total);
			return -EPROTO;
		}
		if (t->type == TAG_END)
			break;
		if (t->size < min_size(t->type) || t->size > total - pos) {
			log_err("multiboot2: tag of type %u at %u has a bad size of %u bytes", t->type,
				pos, t->size);
			return -EPROTO;
		}
		err = parse_tag(t, bi);
		if (err != 0)
			return err;
		pos = (u32)MIN(ALIGN_UP((u64)pos + t->size, 8UL), (u64)total);
	}
	if (bi->mems == 0) {
		log_err("multiboot2: the loader gave no memory map");
		return -ENOENT;
	}
	str_copy(bi->door, "multiboot2", sizeof(bi->door));
	return 0;
}
