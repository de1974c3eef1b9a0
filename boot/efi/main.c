/* SPDX-License-Identifier: BSD-2-Clause */
#include "boot/efi/loader.h"
#include "boot/boot.h"

#define CONFIG_FILE "ravelin.conf"
#define LOAD_ALIGN (2UL << 20)

/* boot/efi/blob.asm: the hypervisor's ELF image. */
extern const UINT8 image_blob[], image_blob_end[];

/* The parts of ELF64 that are needed (System V ABI); our own link step made the file. */
struct elf_header {
	UINT8 ident[16];
	UINT16 type, machine;
	UINT32 version;
	UINT64 entry, phoff, shoff;
	UINT32 flags;
	UINT16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct elf_program_header {
	UINT32 type, flags;
	UINT64 offset, vaddr, paddr, filesz, memsz, align;
};
#define PT_LOAD 1

typedef void __attribute__((sysv_abi)) (*entry_fn)(struct boot_info *bi);

/* Called by GNU-EFI's start code. */
EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *table);

static EFI_STATUS fail(const CHAR16 *what, EFI_STATUS s)
{
	Print(L"ravelin: %s: %r\n", what, s);
	return s;
}

static const struct elf_program_header *program_header(UINTN i)
{
	const struct elf_header *h = (const void *)image_blob;

	return (const void *)(image_blob + h->phoff + i * h->phentsize);
}

static void image_extent(UINT64 *low, UINT64 *high)
{
	const struct elf_header *h = (const void *)image_blob;

	*low = ~0UL;
	*high = 0;
	for (UINTN i = 0; i < h->phnum; i++) {
		const struct elf_program_header *p = program_header(i);

		if (p->type != PT_LOAD)
			continue;
		*low = p->paddr < *low ? p->paddr : *low;
		*high = p->paddr + p->memsz > *high ? p->paddr + p->memsz : *high;
	}
}

/* Memory below 4 GiB at a multiple of 2 MiB: what is too much is given back. */
static EFI_STATUS allocate_aligned(UINT64 size, UINT64 *base)
{
	EFI_PHYSICAL_ADDRESS at = BELOW_4G;
	UINTN pages = EFI_SIZE_TO_PAGES(size), all = pages + EFI_SIZE_TO_PAGES(LOAD_ALIGN);
	EFI_STATUS s = BS->AllocatePages(AllocateMaxAddress, EfiLoaderData, all, &at);
	UINTN before;

	if (EFI_ERROR(s))
		return s;
	*base = (at + LOAD_ALIGN - 1) & ~(LOAD_ALIGN - 1);
	before = EFI_SIZE_TO_PAGES(*base - at);
	if (before != 0)
		BS->FreePages(at, before);
	if (all - before - pages != 0)
		BS->FreePages(*base + (UINT64)pages * EFI_PAGE_SIZE, all - before - pages);
	return EFI_SUCCESS;
}

static EFI_STATUS load_image(UINT64 *base)
{
	const struct elf_header *h = (const void *)image_blob;
	UINT64 low, high;
	EFI_STATUS s;

	image_extent(&low, &high);
	s = allocate_aligned(high - low, base);
	if (EFI_ERROR(s))
		return s;
	SetMem((void *)*base, high - low, 0);
	for (UINTN i = 0; i < h->phnum; i++) {
		const struct elf_program_header *p = program_header(i);

		if (p->type == PT_LOAD)
			CopyMem((void *)(*base + p->paddr - low), image_blob + p->offset,
				p->filesz);
	}
	return EFI_SUCCESS;
}

static struct boot_info *allocate_boot_info(void)
{
	EFI_PHYSICAL_ADDRESS at = BELOW_4G;
	UINTN pages = EFI_SIZE_TO_PAGES(sizeof(struct boot_info));

	if (EFI_ERROR(BS->AllocatePages(AllocateMaxAddress, EfiLoaderData, pages, &at)))
		return NULL;
	SetMem((void *)at, pages * EFI_PAGE_SIZE, 0);
	return (struct boot_info *)at;
}

/* The load options are UTF-16; what is not ASCII is left out. */
static void command_line(EFI_HANDLE image, struct boot_info *bi)
{
	EFI_LOADED_IMAGE *self;
	const CHAR16 *text;
	UINTN n = 0;

	if (EFI_ERROR(BS->HandleProtocol(image, &LoadedImageProtocol, (void **)&self)))
		return;
	text = self->LoadOptions;
	for (UINTN i = 0; text != NULL && i < self->LoadOptionsSize / 2 && text[i] != 0; i++)
		if (text[i] >= ' ' && text[i] <= '~' && n < BOOT_CMDLINE_LEN - 1)
			bi->cmdline[n++] = (char)text[i];
}

static void read_files(EFI_HANDLE image, struct boot_info *bi)
{
	EFI_STATUS s = files_open(image);
	struct boot_module *m;

	if (EFI_ERROR(s)) {
		fail(L"the volume it was started from cannot be read", s);
		return;
	}
	m = files_read(bi, CONFIG_FILE);
	if (m != NULL && m->error == 0)
		config_read_files(bi, (const char *)m->base, m->size);
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *table)
{
	static const char door[] = "efi";
	const struct image_header *header;
	struct boot_info *bi;
	UINT64 base;
	EFI_STATUS s;

	InitializeLib(image, table);
	bi = allocate_boot_info();
	if (bi == NULL)
		return fail(L"no memory below 4 GiB", EFI_OUT_OF_RESOURCES);
	bi->magic = BOOT_INFO_MAGIC;
	CopyMem(bi->door, door, sizeof(door));
	s = load_image(&base);
	if (EFI_ERROR(s))
		return fail(L"no memory for the hypervisor below 4 GiB", s);
	header = (const struct image_header *)base;
	if (CompareMem(header->magic, "RAVELIN", 8) != 0 || header->version != IMAGE_HEADER_VERSION)
		return fail(L"the image inside is damaged", EFI_LOAD_ERROR);
	command_line(image, bi);
	read_files(image, bi);
	machine_find_tables(bi);
	machine_find_framebuffer(bi);
	machine_stop_dma();
	s = machine_exit_boot_services(image, bi);
	if (EFI_ERROR(s))
		return fail(L"boot services do not end", s);
	((entry_fn)(base + header->entry64))(bi);
	return EFI_LOAD_ERROR;
}
