/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/loader.h"

#include "core/boot_info.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/main.h"
#include "core/printf.h"
#include "core/string.h"
#include "vdev/acpi_tables.h"

int loader_error(const struct loader *l, const struct loader_image *image, int error,
		 const char *fmt, ...)
{
	char text[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_err("vm %s: %s: %s", l->vm->name, image->name, text);
	return error;
}

/* ---- guest memory ---- */

static bool in_ram(const struct vm *vm, gpa_t base, u64 size)
{
	gpa_t end;

	if (__builtin_add_overflow(base, size, &end))
		return false;
	if (base < LOADER_HIGH)
		return end <= MIN(LOADER_EBDA, vm->ram.low);
	if (base < GIB(4))
		return end <= vm->ram.low;
	return end <= GIB(4) + vm->ram.high;
}

static const struct loader_range *overlap(const struct loader *l, gpa_t base, u64 size)
{
	for (u32 i = 0; i < l->ranges; i++) {
		const struct loader_range *r = &l->range[i];

		if (base < r->base + r->size && r->base < base + size)
			return r;
	}
	return NULL;
}

bool loader_free(const struct loader *l, gpa_t base, u64 size)
{
	return in_ram(l->vm, base, size) && !overlap(l, base, size);
}

int loader_claim(struct loader *l, const struct loader_image *image, const char *what, gpa_t base,
		 u64 size)
{
	const struct loader_range *other;

	if (!in_ram(l->vm, base, size))
		return loader_error(l, image, -EFAULT,
				    "%s at 0x%llx, size 0x%llx: not in RAM, memory = %lluM", what,
				    (unsigned long long)base, (unsigned long long)size,
				    (unsigned long long)(l->vm->ram.low + l->vm->ram.high) >> 20);
	other = overlap(l, base, size);
	if (other)
		return loader_error(l, image, -EEXIST,
				    "%s at 0x%llx, size 0x%llx: overlaps %s at 0x%llx",
				    what, (unsigned long long)base, (unsigned long long)size,
				    other->what, (unsigned long long)other->base);
	if (l->ranges == LOADER_RANGES)
		return loader_error(l, image, -ENOSPC, "%s: more than %d pieces", what,
				    LOADER_RANGES);
	l->range[l->ranges++] = (struct loader_range){ base, size, what };
	return 0;
}

int loader_place(struct loader *l, const struct loader_image *image, const char *what, u64 size,
		 u64 max_end, gpa_t *base)
{
	gpa_t end = MIN(max_end, l->vm->ram.low);

	/* From the top down: below each range that is in the way. At most one step a range. */
	for (u32 step = 0; step <= LOADER_RANGES && end > size; step++) {
		gpa_t at = ALIGN_DOWN(end - size, PAGE_SIZE);
		const struct loader_range *r = overlap(l, at, size);

		if (at < LOADER_HIGH)
			break;
		if (!r) {
			*base = at;
			return loader_claim(l, image, what, at, size);
		}
		end = r->base;
	}
	return loader_error(l, image, -ENOMEM,
			    "no room for %llu bytes below 0x%llx; give the VM more memory "
			    "than %lluM",
			    (unsigned long long)size, (unsigned long long)max_end,
			    (unsigned long long)(l->vm->ram.low + l->vm->ram.high) >> 20);
}

/* One contiguous piece of claimed memory; data NULL: zero bytes. Returns its length. */
static u64 write_piece(struct loader *l, gpa_t gpa, const u8 *data, u64 size)
{
	size_t len = size;
	void *p = vm_ram_ptr(l->vm, gpa, &len, true);

	if (!p || !len || len > size)
		return 0;
	if (data)
		memcpy(p, data, len);
	else
		memset(p, 0, len);
	return len;
}

void loader_write(struct loader *l, gpa_t gpa, const void *data, u64 size)
{
	const u8 *from = data;

	for (u64 done = 0, n; done < size; done += n) {
		n = write_piece(l, gpa + done, from + done, size - done);
		if (!n)
			return; /* not RAM after all: only when claimed memory went away */
	}
}

void loader_zero(struct loader *l, gpa_t gpa, u64 size)
{
	for (u64 done = 0, n; done < size; done += n) {
		n = write_piece(l, gpa + done, NULL, size - done);
		if (!n)
			return;
	}
}

void *loader_low_ptr(struct loader *l, gpa_t gpa)
{
	size_t len = LOADER_HIGH - gpa; /* within the first 2 MiB, one frame of the host */

	return vm_ram_ptr(l->vm, gpa, &len, true);
}

static void map_add(struct loader_mem *map, u32 *count, u64 base, u64 end, u32 type)
{
	if (end > base)
		map[(*count)++] = (struct loader_mem){ base, end - base, type };
}

u32 loader_memory_map(const struct vm *vm, struct loader_mem map[LOADER_MEMS])
{
	u32 n = 0;

	map_add(map, &n, 0, LOADER_EBDA, MEM_RAM);
	map_add(map, &n, LOADER_EBDA, 0xa0000, MEM_RESERVED);
	map_add(map, &n, ACPI_TABLES_BASE, ACPI_TABLES_FACS, MEM_ACPI);
	map_add(map, &n, ACPI_TABLES_FACS, ACPI_TABLES_BASE + ACPI_TABLES_SIZE, MEM_NVS);
	map_add(map, &n, LOADER_HIGH, vm->ram.low, MEM_RAM);
	map_add(map, &n, GIB(4), GIB(4) + vm->ram.high, MEM_RAM);
	return n;
}

/* ---- entry state ---- */

#define DESC_CODE32 0x00cf9b000000ffffUL
#define DESC_CODE64 0x00af9b000000ffffUL
#define DESC_DATA 0x00cf93000000ffffUL

#define PTE_TABLE 0x7UL    /* present, writable, user */
#define PTE_PAGE_2M 0x83UL /* present, writable, large */

static void identity_map(struct loader *l)
{
	u64 *pml4 = loader_low_ptr(l, LOADER_PAGE_TABLES);
	u64 *pdpt = pml4 + 512;
	u64 *pd = pdpt + 512;

	memset(pml4, 0, 6 * PAGE_SIZE);
	pml4[0] = (LOADER_PAGE_TABLES + PAGE_SIZE) | PTE_TABLE;
	for (u64 i = 0; i < 4; i++)
		pdpt[i] = (LOADER_PAGE_TABLES + (2 + i) * PAGE_SIZE) | PTE_TABLE;
	for (u64 i = 0; i < 4 * 512; i++)
		pd[i] = (i << 21) | PTE_PAGE_2M;
}

void loader_set_entry(struct loader *l, struct guest_entry *entry, enum guest_mode mode, gpa_t rip)
{
	u64 *gdt = loader_low_ptr(l, LOADER_GDT);

	gdt[0] = 0;
	gdt[1] = 0;
	gdt[2] = mode == GUEST_LONG64 ? DESC_CODE64 : DESC_CODE32;
	gdt[3] = DESC_DATA;
	entry->mode = (u8)mode;
	entry->rip = rip;
	entry->rsp = LOADER_STACK_TOP;
	entry->gdt = LOADER_GDT;
	entry->gdt_limit = 4 * 8 - 1;
	if (mode == GUEST_LONG64) {
		identity_map(l);
		entry->cr3 = LOADER_PAGE_TABLES;
	}
}

/* ---- files ---- */

int loader_file(struct loader *l, const char *key, const char *path, struct loader_image *out)
{
	const struct boot_module *m = boot_module_find(boot_info, path);

	if (!m) {
		log_err("vm %s: %s = %s: no such file or boot module; check the path", l->vm->name,
			key, path);
		return -ENOENT;
	}
	if (m->error) {
		log_err("vm %s: %s = %s: the file could not be read (error %d)", l->vm->name, key,
			path, m->error);
		return m->error;
	}
	if (!m->size) {
		log_err("vm %s: %s = %s: the file is empty", l->vm->name, key, path);
		return -EPROTO;
	}
	*out = (struct loader_image){
		.name = path, .data = phys_to_virt(m->base), .size = m->size, .pa = m->base,
	};
	return 0;
}

static int find_files(struct loader *l)
{
	const struct vm_config *c = l->vm->config;
	int error;

	if (c->firmware[0])
		return loader_file(l, "firmware", c->firmware, &l->kernel);
	error = loader_file(l, "kernel", c->kernel, &l->kernel);
	if (!error && c->initrd[0])
		error = loader_file(l, "initrd", c->initrd, &l->initrd);
	for (u32 i = 0; i < c->modules && !error; i++) {
		error = loader_file(l, "module", c->module[i].path, &l->module[i]);
		l->module[i].args = c->module[i].args;
		l->modules = i + 1;
	}
	return error;
}

static int acpi_build(struct loader *l)
{
	struct vm *vm = l->vm;
	u32 apic_id[VCPU_MAX];
	struct acpi_tables_config tables = {
		.cpus = vm->vcpus, .apic_id = apic_id,
		.com = { vm->platform.config.com[0], vm->platform.config.com[1] },
	};
	u8 *area = loader_low_ptr(l, ACPI_TABLES_BASE);

	for (u32 i = 0; i < vm->vcpus; i++)
		apic_id[i] = vm->vcpu[i]->apic_id;
	memset(area, 0, ACPI_TABLES_SIZE);
	l->rsdp = acpi_tables_write(area, &tables);
	return l->rsdp ? 0 : loader_error(l, &l->kernel, -EINVAL, "no ACPI tables for %u CPUs",
					  vm->vcpus);
}

/* What a BIOS leaves behind and kernels look for below 1 MiB: where conventional memory ends. */
#define BDA_EBDA_SEGMENT 0x40EUL
#define BDA_MEMORY_KIB 0x413UL

static void bios_data(struct loader *l)
{
	u16 segment = LOADER_EBDA >> 4;
	u16 kib = LOADER_EBDA >> 10;
	u8 ebda_kib = (0xa0000 - LOADER_EBDA) >> 10;

	memcpy(loader_low_ptr(l, BDA_EBDA_SEGMENT), &segment, sizeof(segment));
	memcpy(loader_low_ptr(l, BDA_MEMORY_KIB), &kib, sizeof(kib));
	memcpy(loader_low_ptr(l, LOADER_EBDA), &ebda_kib, sizeof(ebda_kib));
}

static int kernel_load(struct loader *l, struct guest_entry *entry)
{
	const struct loader_image *k = &l->kernel;
	bool multiboot = multiboot_detect(k);
	int error;

	error = acpi_build(l);
	bios_data(l);
	if (!error)
		error = loader_claim(l, k, "the loader's own data", LOADER_LOW,
				     LOADER_LOW_END - LOADER_LOW);
	if (error)
		return error;
	if (linux_detect(k))
		return linux_load(l, entry);
	if (multiboot && (l->modules || !pvh_detect(k)))
		return multiboot_load(l, entry);
	if (elf_detect(k))
		return pvh_load(l, entry); /* says what is missing, too */
	return loader_error(l, k, -EPROTO,
			    "not a kernel; use a Linux bzImage, an ELF file with a PVH note, or a "
			    "multiboot image");
}

int loader_load(struct vm *vm, struct guest_entry *entry)
{
	struct loader l = { .vm = vm };
	int error;

	memset(entry, 0, sizeof(*entry));
	error = find_files(&l);
	if (error)
		return error;
	return vm->config->firmware[0] ? firmware_load(&l, entry) : kernel_load(&l, entry);
}
