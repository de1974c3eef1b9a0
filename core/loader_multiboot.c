/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/errno.h"
#include "core/loader.h"
#include "core/log.h"
#include "core/printf.h"
#include "core/string.h"

/* Multiboot Specification version 0.6.96. */

#define HEADER_MAGIC 0x1badb002U
#define LOADER_MAGIC 0x2badb002U
#define HEADER_SEARCH 8192UL

#define NEED_VIDEO BIT32(2)
#define NEED_KNOWN 0x7U      /* page alignment, memory, video */
#define NEED_MASK 0xffffU
#define HAS_ADDRESSES BIT32(16)

struct mb_header {
	u32 magic, flags, checksum;
	u32 header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};
ASSERT_SIZE(struct mb_header, 32);
#define HEADER_SHORT 12UL /* without the addresses */

struct mb_info {
	u32 flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr;
	u32 syms[4];
	u32 mmap_length, mmap_addr, drives_length, drives_addr, config_table, boot_loader_name;
	u32 apm_table;
};
ASSERT_OFFSET(struct mb_info, mmap_length, 44);
ASSERT_OFFSET(struct mb_info, boot_loader_name, 64);
#define INFO_MEM BIT32(0)
#define INFO_CMDLINE BIT32(2)
#define INFO_MODS BIT32(3)
#define INFO_MMAP BIT32(6)
#define INFO_NAME BIT32(9)

struct mb_mmap {
	u32 size; /* of the rest */
	u64 base, length;
	u32 type;
} __packed;
ASSERT_SIZE(struct mb_mmap, 24);

struct mb_module {
	u32 start, end, string, reserved;
};

/* What is loaded by the header's addresses, or as ELF. */
struct mb_image {
	struct mb_header h;
	u64 header_offset;
	struct elf_image elf;
	bool is_elf;
	u64 file_offset, file_size; /* by addresses: what is copied, */
	gpa_t load;                 /* to where, */
	u64 memory;                 /* with this much including the zeroed part */
	gpa_t entry;
	gpa_t module[CONFIG_MODULES];
};

static bool find_header(const struct loader_image *image, struct mb_header *h, u64 *offset)
{
	u64 end = MIN(image->size, HEADER_SEARCH);

	for (u64 at = 0; at + HEADER_SHORT <= end; at += 4) {
		memset(h, 0, sizeof(*h));
		memcpy(h, image->data + at, HEADER_SHORT);
		if (h->magic != HEADER_MAGIC || h->magic + h->flags + h->checksum != 0)
			continue;
		memcpy(h, image->data + at, MIN(sizeof(*h), image->size - at));
		*offset = at;
		return true;
	}
	return false;
}

bool multiboot_detect(const struct loader_image *image)
{
	struct mb_header h;
	u64 offset;

	return find_header(image, &h, &offset);
}

/* Address fields of the header: 3.1.3. */
static int claim_by_addresses(struct loader *l, struct mb_image *m)
{
	const struct loader_image *image = &l->kernel;
	const struct mb_header *h = &m->h;
	u64 before = (u64)h->header_addr - h->load_addr;

	if (m->header_offset + sizeof(*h) > image->size)
		return loader_error(l, image, -EPROTO,
				    "the multiboot header at 0x%llx is truncated",
				    (unsigned long long)m->header_offset);
	if (h->load_addr > h->header_addr || before > m->header_offset)
		return loader_error(l, image, -EPROTO,
				    "load_addr 0x%x, header_addr 0x%x: the header is at 0x%llx "
				    "in the file",
				    h->load_addr, h->header_addr,
				    (unsigned long long)m->header_offset);
	m->file_offset = m->header_offset - before;
	m->file_size = image->size - m->file_offset;
	if (h->load_end_addr) {
		if (h->load_end_addr < h->load_addr ||
		    h->load_end_addr - h->load_addr > m->file_size)
			return loader_error(l, image, -EPROTO,
					    "load_addr 0x%x, load_end_addr 0x%x: the file has "
					    "%llu bytes",
					    h->load_addr, h->load_end_addr,
					    (unsigned long long)m->file_size);
		m->file_size = h->load_end_addr - h->load_addr;
	}
	m->load = h->load_addr;
	m->memory = m->file_size;
	if (h->bss_end_addr) {
		if (h->bss_end_addr < h->load_addr + m->file_size)
			return loader_error(l, image, -EPROTO,
					    "bss_end_addr 0x%x: below the end of the data, 0x%llx",
					    h->bss_end_addr,
					    (unsigned long long)(h->load_addr + m->file_size));
		m->memory = h->bss_end_addr - h->load_addr;
	}
	m->entry = h->entry_addr;
	return loader_claim(l, image, "the kernel", m->load, m->memory);
}

static int claim_kernel(struct loader *l, struct mb_image *m)
{
	int error;

	if (m->h.flags & NEED_MASK & ~NEED_KNOWN)
		return loader_error(l, &l->kernel, -ENOTSUP,
				    "multiboot flags 0x%x ask for what is not offered; 0 to 2 "
				    "are known",
				    m->h.flags);
	if (m->h.flags & NEED_VIDEO)
		log_debug("vm %s: %s asks for a video mode; there is no display", l->vm->name,
			  l->kernel.name);
	if (m->h.flags & HAS_ADDRESSES)
		return claim_by_addresses(l, m);
	if (!elf_detect(&l->kernel))
		return loader_error(l, &l->kernel, -EPROTO,
				    "multiboot flags 0x%x: no load addresses, and not an ELF file",
				    m->h.flags);
	m->is_elf = true;
	error = elf_open(l, &l->kernel, &m->elf);
	if (error)
		return error;
	m->entry = elf_physical(&m->elf, m->elf.entry);
	if (m->entry > 0xffffffffUL)
		return loader_error(l, &l->kernel, -EPROTO, "e_entry 0x%llx: above 4 GiB",
				    (unsigned long long)m->entry);
	return elf_claim(l, &m->elf);
}

static int place_modules(struct loader *l, struct mb_image *m)
{
	int error = 0;

	for (u32 i = 0; i < l->modules && !error; i++)
		error = loader_place(l, &l->module[i], "a module", l->module[i].size, GIB(4),
				     &m->module[i]);
	return error;
}

static void copy_kernel(struct loader *l, const struct mb_image *m)
{
	if (m->is_elf) {
		elf_copy(l, &m->elf);
		return;
	}
	loader_write(l, m->load, l->kernel.data + m->file_offset, m->file_size);
	loader_zero(l, m->load + m->file_size, m->memory - m->file_size);
}

/* "PATH ARGUMENTS" at gpa, which has room for both and a NUL. */
static void write_command(struct loader *l, gpa_t gpa, size_t room, const char *path,
			  const char *args)
{
	char *at = loader_low_ptr(l, gpa);

	snprintf(at, room, "%s%s%s", path, args[0] ? " " : "", args);
}

static void write_info(struct loader *l, const struct mb_image *m)
{
	static const char name[] = "Ravelin";
	struct mb_info *info = loader_low_ptr(l, LOADER_INFO);
	struct mb_mmap *mmap = loader_low_ptr(l, LOADER_LISTS);
	struct mb_module *list = (struct mb_module *)(mmap + LOADER_MEMS);
	gpa_t strings = LOADER_STRINGS + CONFIG_MODULES * LOADER_STRING_LEN;
	struct loader_mem map[LOADER_MEMS];
	u32 mems = loader_memory_map(l->vm, map);

	for (u32 i = 0; i < mems; i++)
		mmap[i] = (struct mb_mmap){ sizeof(*mmap) - 4, map[i].base, map[i].size,
					    map[i].type };
	for (u32 i = 0; i < l->modules; i++) {
		gpa_t args = LOADER_STRINGS + i * LOADER_STRING_LEN;

		loader_write(l, m->module[i], l->module[i].data, l->module[i].size);
		write_command(l, args, LOADER_STRING_LEN, l->module[i].name, l->module[i].args);
		list[i] = (struct mb_module){ (u32)m->module[i],
					      (u32)(m->module[i] + l->module[i].size), (u32)args,
					      0 };
	}
	write_command(l, LOADER_CMDLINE, PAGE_SIZE, l->kernel.name, l->vm->config->cmdline);
	loader_write(l, strings, name, sizeof(name));
	*info = (struct mb_info){
		.flags = INFO_MEM | INFO_CMDLINE | INFO_MODS | INFO_MMAP | INFO_NAME,
		.mem_lower = LOADER_EBDA >> 10,
		.mem_upper = (u32)((l->vm->ram.low - LOADER_HIGH) >> 10),
		.cmdline = LOADER_CMDLINE,
		.mods_count = l->modules,
		.mods_addr = LOADER_LISTS + sizeof(*mmap) * LOADER_MEMS,
		.mmap_length = (u32)(mems * sizeof(*mmap)),
		.mmap_addr = LOADER_LISTS,
		.boot_loader_name = (u32)strings,
	};
}

int multiboot_load(struct loader *l, struct guest_entry *entry)
{
	struct mb_image m = { 0 };
	int error;

	if (!find_header(&l->kernel, &m.h, &m.header_offset))
		return loader_error(l, &l->kernel, -EPROTO, "no multiboot header");
	if (l->initrd.size) { /* the only module, without arguments */
		l->module[0] = l->initrd;
		l->module[0].args = "";
		l->modules = 1;
	}
	error = claim_kernel(l, &m);
	if (!error)
		error = place_modules(l, &m);
	if (error)
		return error;
	copy_kernel(l, &m);
	write_info(l, &m);
	loader_set_entry(l, entry, GUEST_PROT32, m.entry);
	entry->rax = LOADER_MAGIC;
	entry->rbx = LOADER_INFO;
	return 0;
}
