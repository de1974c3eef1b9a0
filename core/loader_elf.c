/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/errno.h"
#include "core/loader.h"
#include "core/log.h"
#include "core/string.h"

/* ELF files: System V ABI, chapters 4 and 5; the PVH entry: Xen's docs/misc/pvh.pandoc. */

struct elf32_header {
	u8 ident[16];
	u16 type, machine;
	u32 version, entry, phoff, shoff, flags;
	u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
ASSERT_SIZE(struct elf32_header, 52);

struct elf64_header {
	u8 ident[16];
	u16 type, machine;
	u32 version;
	u64 entry, phoff, shoff;
	u32 flags;
	u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
ASSERT_SIZE(struct elf64_header, 64);

struct elf32_phdr {
	u32 type, offset, vaddr, paddr, filesz, memsz, flags, align;
};
ASSERT_SIZE(struct elf32_phdr, 32);

struct elf64_phdr {
	u32 type, flags;
	u64 offset, vaddr, paddr, filesz, memsz, align;
};
ASSERT_SIZE(struct elf64_phdr, 56);

#define EI_CLASS 4
#define EI_DATA 5
#define EM_386 3
#define EM_X86_64 62
#define PT_LOAD 1
#define PT_NOTE 4
#define PHDRS_MAX 32

bool elf_detect(const struct loader_image *image)
{
	return image->size >= sizeof(struct elf32_header) && !memcmp(image->data, "\177ELF", 4);
}

/* What is wrong with a header. */
struct elf_fault {
	const char *field;
	u64 value;
	const char *rule;
};

/* Fills *e; false with *fault filled when the header or the table of segments is bad. */
static bool elf_parse(const struct loader_image *image, struct elf_image *e,
		      struct elf_fault *fault)
{
	struct elf64_header h64;
	struct elf32_header h32;
	u16 machine, phentsize;
	u64 entsize, end;

	*e = (struct elf_image){ .image = image, .is64 = image->data[EI_CLASS] == 2 };
	*fault = (struct elf_fault){ "e_ident[EI_CLASS]", image->data[EI_CLASS],
				     "use ELFCLASS32 or ELFCLASS64, with a whole header" };
	if (image->data[EI_CLASS] < 1 || image->data[EI_CLASS] > 2 ||
	    image->size < (e->is64 ? sizeof(h64) : sizeof(h32)))
		return false;
	*fault = (struct elf_fault){ "e_ident[EI_DATA]", image->data[EI_DATA],
				     "not little-endian" };
	if (image->data[EI_DATA] != 1)
		return false;
	if (e->is64) {
		memcpy(&h64, image->data, sizeof(h64));
		machine = h64.machine;
		phentsize = h64.phentsize;
		e->entry = h64.entry;
		e->phoff = h64.phoff;
		e->phnum = h64.phnum;
	} else {
		memcpy(&h32, image->data, sizeof(h32));
		machine = h32.machine;
		phentsize = h32.phentsize;
		e->entry = h32.entry;
		e->phoff = h32.phoff;
		e->phnum = h32.phnum;
	}
	entsize = e->is64 ? sizeof(struct elf64_phdr) : sizeof(struct elf32_phdr);
	*fault = (struct elf_fault){ "e_machine", machine, "not an x86 program" };
	if (machine != EM_386 && machine != EM_X86_64)
		return false;
	*fault = (struct elf_fault){ "e_phnum", e->phnum, "use 1 to 32 program headers" };
	if (!e->phnum || e->phnum > PHDRS_MAX)
		return false;
	*fault = (struct elf_fault){ "e_phentsize", phentsize, "not the size of a program header" };
	if (phentsize != entsize)
		return false;
	*fault = (struct elf_fault){ "e_phoff", e->phoff, "beyond the end of the file" };
	return !__builtin_add_overflow(e->phoff, e->phnum * entsize, &end) && end <= image->size;
}

int elf_open(const struct loader *l, const struct loader_image *image, struct elf_image *e)
{
	struct elf_fault fault;

	if (elf_parse(image, e, &fault))
		return 0;
	return loader_error(l, image, -EPROTO, "bad ELF header: %s 0x%llx: %s", fault.field,
			    (unsigned long long)fault.value, fault.rule);
}

void elf_segment(const struct elf_image *e, u32 i, struct elf_segment *s)
{
	struct elf64_phdr p64;
	struct elf32_phdr p32;

	if (e->is64) {
		memcpy(&p64, e->image->data + e->phoff + i * sizeof(p64), sizeof(p64));
		*s = (struct elf_segment){ p64.type, p64.offset, p64.vaddr,
					   p64.paddr, p64.filesz, p64.memsz };
	} else {
		memcpy(&p32, e->image->data + e->phoff + i * sizeof(p32), sizeof(p32));
		*s = (struct elf_segment){ p32.type, p32.offset, p32.vaddr,
					   p32.paddr, p32.filesz, p32.memsz };
	}
}

/* Do the segment's bytes lie in the file? */
static bool segment_in_file(const struct elf_image *e, const struct elf_segment *s)
{
	u64 end;

	return !__builtin_add_overflow(s->offset, s->filesz, &end) && end <= e->image->size;
}

static int check_segment(const struct loader *l, const struct elf_image *e, u32 i,
			 const struct elf_segment *s)
{
	if (!segment_in_file(e, s))
		return loader_error(l, e->image, -EPROTO,
				    "segment %u: p_offset 0x%llx, p_filesz 0x%llx: the file has "
				    "0x%llx bytes",
				    i, (unsigned long long)s->offset,
				    (unsigned long long)s->filesz,
				    (unsigned long long)e->image->size);
	if (s->type == PT_LOAD && s->filesz > s->memsz)
		return loader_error(l, e->image, -EPROTO,
				    "segment %u: p_filesz 0x%llx over p_memsz 0x%llx",
				    i, (unsigned long long)s->filesz,
				    (unsigned long long)s->memsz);
	return 0;
}

int elf_claim(struct loader *l, const struct elf_image *e)
{
	struct elf_segment s;
	u32 loads = 0;
	int error = 0;

	for (u32 i = 0; i < e->phnum && !error; i++) {
		elf_segment(e, i, &s);
		if (s.type != PT_LOAD || !s.memsz)
			continue;
		loads++;
		error = check_segment(l, e, i, &s);
		if (!error)
			error = loader_claim(l, e->image, "a segment", s.paddr, s.memsz);
	}
	if (!error && !loads)
		return loader_error(l, e->image, -EPROTO, "no PT_LOAD segment: nothing to load");
	return error;
}

void elf_copy(struct loader *l, const struct elf_image *e)
{
	struct elf_segment s;

	for (u32 i = 0; i < e->phnum; i++) {
		elf_segment(e, i, &s);
		if (s.type != PT_LOAD || !s.memsz)
			continue;
		loader_write(l, s.paddr, e->image->data + s.offset, s.filesz);
		loader_zero(l, s.paddr + s.filesz, s.memsz - s.filesz);
	}
}

u64 elf_physical(const struct elf_image *e, u64 vaddr)
{
	struct elf_segment s;

	for (u32 i = 0; i < e->phnum; i++) {
		elf_segment(e, i, &s);
		if (s.type == PT_LOAD && vaddr >= s.vaddr && vaddr - s.vaddr < s.memsz)
			return vaddr - s.vaddr + s.paddr;
	}
	return vaddr;
}

/* ---- PVH ---- */

#define NOTE_PHYS32_ENTRY 18
#define START_INFO_MAGIC 0x336ec578U

struct note_header {
	u32 namesz, descsz, type;
};

struct start_info {
	u32 magic, version, flags, nr_modules;
	u64 modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
	u32 memmap_entries, reserved;
};
ASSERT_OFFSET(struct start_info, memmap_paddr, 40);
ASSERT_SIZE(struct start_info, 56);

struct start_module {
	u64 paddr, size, cmdline_paddr, reserved;
};

struct start_memmap {
	u64 addr, size;
	u32 type, reserved;
};
ASSERT_SIZE(struct start_memmap, 24);

/* Looks through the notes in data for the entry point; 32 bits, as the entry is in that mode. */
static bool find_note(const u8 *data, u64 size, u64 *entry)
{
	struct note_header n;
	u64 at = 0;

	while (size - at >= sizeof(n)) {
		u64 name = at + sizeof(n);
		u64 desc, next;

		memcpy(&n, data + at, sizeof(n));
		desc = name + ALIGN_UP((u64)n.namesz, 4UL);
		next = desc + ALIGN_UP((u64)n.descsz, 4UL);
		if (desc > size || n.descsz > size - desc)
			return false;
		if (n.type == NOTE_PHYS32_ENTRY && n.namesz == 4 &&
		    !memcmp(data + name, "Xen", 4) && (n.descsz == 4 || n.descsz == 8)) {
			*entry = 0;
			memcpy(entry, data + desc, n.descsz);
			return *entry <= 0xffffffffUL;
		}
		if (next >= size)
			return false;
		at = next;
	}
	return false;
}

static bool find_entry(const struct elf_image *e, u64 *entry)
{
	struct elf_segment s;

	for (u32 i = 0; i < e->phnum; i++) {
		elf_segment(e, i, &s);
		if (s.type == PT_NOTE && segment_in_file(e, &s) &&
		    find_note(e->image->data + s.offset, s.filesz, entry))
			return true;
	}
	return false;
}

bool pvh_detect(const struct loader_image *image)
{
	struct elf_fault fault;
	struct elf_image e;
	u64 entry;

	return elf_detect(image) && elf_parse(image, &e, &fault) && find_entry(&e, &entry);
}

static int place_modules(struct loader *l, gpa_t at[CONFIG_MODULES + 1])
{
	int error = 0;

	if (l->initrd.size) /* the initrd is the first and only module */
		return loader_place(l, &l->initrd, "the initrd", l->initrd.size, GIB(4), &at[0]);
	for (u32 i = 0; i < l->modules && !error; i++)
		error = loader_place(l, &l->module[i], "a module", l->module[i].size, GIB(4),
				     &at[i]);
	return error;
}

static void write_start_info(struct loader *l, const gpa_t at[CONFIG_MODULES + 1])
{
	struct start_info *info = loader_low_ptr(l, LOADER_INFO);
	struct start_memmap *memmap = loader_low_ptr(l, LOADER_LISTS);
	struct start_module *list = (struct start_module *)(memmap + LOADER_MEMS);
	struct loader_mem map[LOADER_MEMS];
	u32 mems = loader_memory_map(l->vm, map);
	u32 modules = l->initrd.size ? 1 : l->modules;

	for (u32 i = 0; i < mems; i++)
		memmap[i] = (struct start_memmap){ map[i].base, map[i].size, map[i].type, 0 };
	for (u32 i = 0; i < modules; i++) {
		const struct loader_image *m = l->initrd.size ? &l->initrd : &l->module[i];
		gpa_t args = LOADER_STRINGS + i * LOADER_STRING_LEN;

		list[i] = (struct start_module){ at[i], m->size, m->args ? args : 0, 0 };
		loader_write(l, at[i], m->data, m->size);
		if (m->args)
			loader_write(l, args, m->args, strlen(m->args) + 1);
	}
	*info = (struct start_info){
		.magic = START_INFO_MAGIC, .version = 1, .nr_modules = modules,
		.modlist_paddr = modules ? LOADER_LISTS + sizeof(*memmap) * LOADER_MEMS : 0,
		.cmdline_paddr = LOADER_CMDLINE, .rsdp_paddr = l->rsdp,
		.memmap_paddr = LOADER_LISTS, .memmap_entries = mems,
	};
	loader_write(l, LOADER_CMDLINE, l->vm->config->cmdline,
		     strlen(l->vm->config->cmdline) + 1);
}

int pvh_load(struct loader *l, struct guest_entry *entry)
{
	gpa_t at[CONFIG_MODULES + 1] = { 0 };
	struct elf_image e;
	u64 start;
	int error;

	error = elf_open(l, &l->kernel, &e);
	if (error)
		return error;
	if (!find_entry(&e, &start))
		return loader_error(l, &l->kernel, -EPROTO,
				    "an ELF file without a PVH entry note or multiboot header");
	error = elf_claim(l, &e);
	if (!error)
		error = place_modules(l, at);
	if (error)
		return error;
	elf_copy(l, &e);
	write_start_info(l, at);
	loader_set_entry(l, entry, GUEST_PROT32, start);
	entry->rbx = LOADER_INFO;
	return 0;
}
