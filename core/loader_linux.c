/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/errno.h"
#include "core/loader.h"
#include "core/log.h"
#include "core/string.h"

/* Linux bzImage: Documentation/arch/x86/boot.rst and zero-page.rst of the kernel's sources. */

#define HEADER_AT 0x1f1UL

struct linux_header {
	u8 setup_sects;
	u16 root_flags;
	u32 syssize; /* of the protected-mode part, in 16 bytes */
	u16 ram_size;
	u16 vid_mode;
	u16 root_dev;
	u16 boot_flag;
	u16 jump;    /* high byte: length of the header from 0x202 */
	u32 header;
	u16 version;
	u32 realmode_swtch;
	u16 start_sys_seg;
	u16 kernel_version;
	u8 type_of_loader;
	u8 loadflags;
	u16 setup_move_size;
	u32 code32_start;
	u32 ramdisk_image;
	u32 ramdisk_size;
	u32 bootsect_kludge;
	u16 heap_end_ptr;
	u8 ext_loader_ver;
	u8 ext_loader_type;
	u32 cmd_line_ptr;
	u32 initrd_addr_max;
	u32 kernel_alignment;
	u8 relocatable_kernel;
	u8 min_alignment;
	u16 xloadflags;
	u32 cmdline_size;
	u32 hardware_subarch;
	u64 hardware_subarch_data;
	u32 payload_offset;
	u32 payload_length;
	u64 setup_data;
	u64 pref_address;
	u32 init_size;
} __packed;
ASSERT_OFFSET(struct linux_header, boot_flag, 0x1fe - HEADER_AT);
ASSERT_OFFSET(struct linux_header, version, 0x206 - HEADER_AT);
ASSERT_OFFSET(struct linux_header, loadflags, 0x211 - HEADER_AT);
ASSERT_OFFSET(struct linux_header, cmd_line_ptr, 0x228 - HEADER_AT);
ASSERT_OFFSET(struct linux_header, xloadflags, 0x236 - HEADER_AT);
ASSERT_OFFSET(struct linux_header, pref_address, 0x258 - HEADER_AT);
ASSERT_OFFSET(struct linux_header, init_size, 0x260 - HEADER_AT);

struct linux_e820 {
	u64 base;
	u64 size;
	u32 type;
} __packed;
ASSERT_SIZE(struct linux_e820, 20);

/* The zero page, as far as it is filled here. */
struct linux_params {
	u8 screen_info[0x70];
	u64 acpi_rsdp_addr;
	u8 pad0[0x1e8 - 0x78];
	u8 e820_entries;
	u8 pad1[HEADER_AT - 0x1e9];
	struct linux_header header;
	u8 pad2[0x2d0 - HEADER_AT - sizeof(struct linux_header)];
	struct linux_e820 e820[128];
	u8 pad3[0x1000 - 0xcd0];
} __packed;
ASSERT_OFFSET(struct linux_params, acpi_rsdp_addr, 0x70);
ASSERT_OFFSET(struct linux_params, e820_entries, 0x1e8);
ASSERT_OFFSET(struct linux_params, header, HEADER_AT);
ASSERT_OFFSET(struct linux_params, e820, 0x2d0);
ASSERT_SIZE(struct linux_params, 0x1000);

#define HEADER_END 0x290UL   /* the header may grow up to here */
#define HDRS 0x53726448U     /* "HdrS" */
#define VERSION_MIN 0x206
#define VERSION_INIT_SIZE 0x20a
#define VERSION_XLOADFLAGS 0x20c
#define LOADED_HIGH 0x01
#define XLF_KERNEL_64 0x01
#define LOADER_UNDEFINED 0xff
#define ENTRY_64 0x200UL
#define SECTOR 512UL

struct linux_image {
	struct linux_header h;
	u64 setup_size;   /* real-mode part, not needed */
	u64 payload_size; /* protected-mode part */
	gpa_t base;       /* where the protected-mode part goes */
	gpa_t initrd;
};

bool linux_detect(const struct loader_image *image)
{
	u32 magic;

	if (image->size < HEADER_AT + sizeof(struct linux_header))
		return false;
	memcpy(&magic, image->data + 0x202, sizeof(magic));
	return magic == HDRS && image->data[0x1fe] == 0x55 && image->data[0x1ff] == 0xaa;
}

static int check_header(struct loader *l, struct linux_image *k)
{
	const struct loader_image *image = &l->kernel;
	const struct linux_header *h = &k->h;
	u64 claimed = (u64)h->syssize * 16;

	if (h->version < VERSION_MIN)
		return loader_error(l, image, -ENOTSUP,
				    "boot protocol %u.%02u is too old; 2.06 (Linux 2.6.22) is "
				    "needed",
				    h->version >> 8, h->version & 0xff);
	if (!(h->loadflags & LOADED_HIGH))
		return loader_error(l, image, -ENOTSUP, "loadflags 0x%x: a zImage; use a bzImage",
				    h->loadflags);
	k->setup_size = (1UL + (h->setup_sects ? h->setup_sects : 4)) * SECTOR;
	if (k->setup_size >= image->size)
		return loader_error(l, image, -EPROTO,
				    "setup_sects %u: the file has %llu bytes; it is truncated",
				    h->setup_sects, (unsigned long long)image->size);
	k->payload_size = image->size - k->setup_size;
	if (claimed > ALIGN_UP(k->payload_size, 16UL))
		return loader_error(l, image, -EPROTO,
				    "syssize says %llu bytes, the file has %llu; it is truncated",
				    (unsigned long long)claimed,
				    (unsigned long long)k->payload_size);
	if (strlen(l->vm->config->cmdline) > h->cmdline_size)
		return loader_error(l, image, -E2BIG,
				    "cmdline has %zu characters, the kernel takes %u",
				    strlen(l->vm->config->cmdline), h->cmdline_size);
	if (l->modules)
		return loader_error(l, image, -EINVAL,
				    "a Linux kernel takes no module; use initrd");
	return 0;
}

/* Memory that the kernel needs from its load address until it reads the memory map. */
static u64 init_size(const struct linux_image *k)
{
	u64 size = k->h.version >= VERSION_INIT_SIZE ? k->h.init_size : k->payload_size * 4;

	return MAX(size, k->payload_size);
}

static int place_fixed(struct loader *l, struct linux_image *k)
{
	gpa_t end = (gpa_t)k->h.code32_start + k->payload_size;
	gpa_t base = k->h.code32_start;

	k->base = base;
	if (k->h.version >= VERSION_INIT_SIZE && k->h.pref_address <= l->vm->ram.low) {
		base = MIN(base, k->h.pref_address);
		end = MAX(end, k->h.pref_address + k->h.init_size);
	}
	return loader_claim(l, &l->kernel, "the kernel", base, end - base);
}

static int place_kernel(struct loader *l, struct linux_image *k)
{
	u64 align = k->h.kernel_alignment;
	u64 size = init_size(k);
	gpa_t base;

	if (!k->h.relocatable_kernel)
		return place_fixed(l, k);
	if (align < PAGE_SIZE || (align & (align - 1)) || align > GIB(1))
		return loader_error(l, &l->kernel, -EPROTO,
				    "kernel_alignment 0x%llx: not a power of two from 4K to 1G",
				    (unsigned long long)align);
	base = ALIGN_UP(LOADER_HIGH, align);
	if (k->h.version >= VERSION_INIT_SIZE && k->h.pref_address >= LOADER_HIGH &&
	    k->h.pref_address <= l->vm->ram.low &&
	    loader_free(l, ALIGN_UP(k->h.pref_address, align), size))
		base = ALIGN_UP(k->h.pref_address, align);
	k->base = base;
	return loader_claim(l, &l->kernel, "the kernel", base, size);
}

static int place_initrd(struct loader *l, struct linux_image *k, u64 room)
{
	if (!l->initrd.size && !room)
		return 0;
	return loader_place(l, l->initrd.size ? &l->initrd : &l->kernel, "the initrd",
			    l->initrd.size + room, (u64)k->h.initrd_addr_max + 1, &k->initrd);
}

static void write_params(struct loader *l, const struct linux_image *k)
{
	struct linux_params *p = loader_low_ptr(l, LOADER_INFO);
	const u8 *file = l->kernel.data;
	size_t header_end = MIN(0x202UL + file[0x201], HEADER_END);
	struct loader_mem map[LOADER_MEMS];

	memset(p, 0, sizeof(*p));
	if (header_end > HEADER_AT && header_end <= l->kernel.size)
		memcpy((u8 *)p + HEADER_AT, file + HEADER_AT, header_end - HEADER_AT);
	p->header.type_of_loader = LOADER_UNDEFINED;
	p->header.code32_start = (u32)k->base;
	p->header.ramdisk_image = (u32)k->initrd;
	p->header.ramdisk_size = (u32)l->initrd.size;
	p->header.cmd_line_ptr = LOADER_CMDLINE;
	p->header.setup_data = 0;
	p->acpi_rsdp_addr = l->rsdp;
	p->e820_entries = (u8)loader_memory_map(l->vm, map);
	for (u32 i = 0; i < p->e820_entries; i++)
		p->e820[i] = (struct linux_e820){ map[i].base, map[i].size, map[i].type };
}

static bool has_entry64(const struct linux_image *k)
{
	return k->h.version >= VERSION_XLOADFLAGS && (k->h.xloadflags & XLF_KERNEL_64);
}

static int place(struct loader *l, struct linux_image *k, u64 room)
{
	int error;

	memcpy(&k->h, l->kernel.data + HEADER_AT, sizeof(k->h));
	error = check_header(l, k);
	if (!error)
		error = place_kernel(l, k);
	return error ? error : place_initrd(l, k, room);
}

int linux_place(struct loader *l, u64 room, struct linux_layout *out)
{
	struct linux_image k = { 0 };
	int error = place(l, &k, room);

	if (!error && (!has_entry64(&k) || !k.h.relocatable_kernel))
		error = loader_error(l, &l->kernel, -ENOTSUP,
				     "not relocatable, or without a 64-bit entry");
	*out = (struct linux_layout){ .file = k.base - k.setup_size, .setup_size = k.setup_size,
				      .end = k.base + init_size(&k), .initrd = k.initrd };
	return error;
}

int linux_load(struct loader *l, struct guest_entry *entry)
{
	struct linux_image k = { 0 };
	bool is64;
	int error = place(l, &k, 0);

	if (error)
		return error;

	loader_write(l, k.base, l->kernel.data + k.setup_size, k.payload_size);
	loader_write(l, k.initrd, l->initrd.data, l->initrd.size);
	loader_write(l, LOADER_CMDLINE, l->vm->config->cmdline,
		     strlen(l->vm->config->cmdline) + 1);
	write_params(l, &k);
	is64 = has_entry64(&k);
	loader_set_entry(l, entry, is64 ? GUEST_LONG64 : GUEST_PROT32,
			 is64 ? k.base + ENTRY_64 : k.base);
	entry->rsi = LOADER_INFO;
	log_debug("vm %s: Linux %s at 0x%llx, initrd at 0x%llx", l->vm->name, l->kernel.name,
		  (unsigned long long)k.base, (unsigned long long)k.initrd);
	return 0;
}
