/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_LOADER_H
#define RAVELIN_CORE_LOADER_H

#include "core/vm.h"

/*
 * What the loaders of the image formats share. Images are hostile: a loader
 * checks all of an image and claims all of its memory first, then writes; the
 * writing cannot fail.
 */

/* A file from the boot medium, in host memory. */
struct loader_image {
	const char *name; /* as in the configuration */
	const char *args; /* modules only */
	const u8 *data;
	u64 size;
	paddr_t pa;
};

#define LOADER_RANGES 48

/* Guest memory that something was given. */
struct loader_range {
	gpa_t base;
	u64 size;
	const char *what;
};

struct loader {
	struct vm *vm;
	struct loader_image kernel;
	struct loader_image initrd; /* size 0: none */
	struct loader_image module[CONFIG_MODULES];
	u32 modules;
	gpa_t rsdp;
	u32 ranges;
	struct loader_range range[LOADER_RANGES];
};

/* Where a loader's own data for the guest lies; conventional memory ends at LOADER_EBDA. */
#define LOADER_LOW 0x90000UL
#define LOADER_GDT 0x90000UL
#define LOADER_PAGE_TABLES 0x91000UL /* PML4, PDPT, four page directories */
#define LOADER_STACK_TOP 0x98000UL
#define LOADER_INFO 0x98000UL    /* zero page, start info or multiboot information */
#define LOADER_CMDLINE 0x99000UL
#define LOADER_LISTS 0x9A000UL   /* memory map, then list of modules */
#define LOADER_STRINGS 0x9B000UL /* arguments of modules, LOADER_STRING_LEN each */
#define LOADER_LOW_END 0x9C000UL
#define LOADER_STRING_LEN 264UL
#define LOADER_EBDA 0x9F000UL
#define LOADER_HIGH 0x100000UL   /* memory above the BIOS area */

/* Looks a file up among the boot modules. key: of the configuration, for the message. -ENOENT or
 * why it could not be read; logged. */
int loader_file(struct loader *l, const char *key, const char *path, struct loader_image *out);

/* Logs "vm NAME: FILE: text" and returns error. */
int loader_error(const struct loader *l, const struct loader_image *image, int error,
		 const char *fmt, ...) __printf(4, 5);

/* Is [base, base+size) RAM that the guest's memory map calls usable, and unclaimed? Silent. */
bool loader_free(const struct loader *l, gpa_t base, u64 size);
/* Claims it. -EFAULT outside RAM, -EEXIST when it overlaps, -ENOSPC; logged. what: static text. */
int loader_claim(struct loader *l, const struct loader_image *image, const char *what, gpa_t base,
		 u64 size);
/* Claims the highest free page-aligned place that ends at or below max_end and 4 GiB. */
int loader_place(struct loader *l, const struct loader_image *image, const char *what, u64 size,
		 u64 max_end, gpa_t *base);

/* Host's view of [gpa, gpa+size), which lies below 1 MiB. */
void *loader_low_ptr(struct loader *l, gpa_t gpa);
/* Into claimed memory. */
void loader_write(struct loader *l, gpa_t gpa, const void *data, u64 size);
void loader_zero(struct loader *l, gpa_t gpa, u64 size);

struct loader_mem {
	u64 base;
	u64 size;
	u32 type; /* enum boot_mem_type */
};
#define LOADER_MEMS 6
/* The guest's memory map, sorted. Returns the number of entries. */
u32 loader_memory_map(const struct vm *vm, struct loader_mem map[LOADER_MEMS]);

/* Writes a flat GDT (0x10 code, 0x18 data) and fills entry for mode at rip. LONG64 gets page
 * tables that map the low 4 GiB to themselves. */
void loader_set_entry(struct loader *l, struct guest_entry *entry, enum guest_mode mode, gpa_t rip);

/* ELF, 32 or 64 bits (System V ABI). */
struct elf_image {
	const struct loader_image *image;
	bool is64;
	u64 entry;
	u64 phoff;
	u32 phnum;
};
struct elf_segment {
	u32 type;
	u64 offset, vaddr, paddr, filesz, memsz;
};
bool elf_detect(const struct loader_image *image);
/* 0 or -EPROTO, logged. After it, elf_segment(e, i) may be called for i < e->phnum. */
int elf_open(const struct loader *l, const struct loader_image *image, struct elf_image *e);
void elf_segment(const struct elf_image *e, u32 i, struct elf_segment *s);
/* Checks and claims all PT_LOAD segments at their physical addresses; then elf_copy() is safe. */
int elf_claim(struct loader *l, const struct elf_image *e);
void elf_copy(struct loader *l, const struct elf_image *e);
/* The physical address of a virtual one, by the segments; unchanged when none holds it. */
u64 elf_physical(const struct elf_image *e, u64 vaddr);

bool linux_detect(const struct loader_image *image);
int linux_load(struct loader *l, struct guest_entry *entry);
/* Claims memory for a kernel whose whole file stays in one piece, its protected-mode part where
 * linux_load() would put it, and for initrd and room bytes behind it; writes nothing. */
struct linux_layout {
	gpa_t file;     /* setup_size bytes of it, not claimed, are in front of the claim */
	u64 setup_size;
	gpa_t end;      /* what the kernel needs before it knows the memory map */
	gpa_t initrd;
};
int linux_place(struct loader *l, u64 room, struct linux_layout *out);
bool pvh_detect(const struct loader_image *image);
int pvh_load(struct loader *l, struct guest_entry *entry);
bool multiboot_detect(const struct loader_image *image);
int multiboot_load(struct loader *l, struct guest_entry *entry);
#define FIRMWARE_MIN KIB(64)
#define FIRMWARE_MAX MIB(16) /* stays clear of the LAPIC's page */
int firmware_load(struct loader *l, struct guest_entry *entry);

#endif
