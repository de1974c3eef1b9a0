/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/loader.c core/loader_linux.c core/loader_elf.c core/loader_multiboot.c
// sources: core/loader_firmware.c core/boot_info.c vdev/acpi_tables.c core/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sanitizer/asan_interface.h>

#include "core/boot_info.h"
#include "core/errno.h"
#include "core/loader.h"
#include "core/log.h"
#include "core/main.h"

/* ---- a VM with RAM in scattered frames, and boot modules ---- */

#define RAM_SIZE MIB(32)
#define CHUNKS (RAM_SIZE >> VM_CHUNK_SHIFT)

static u8 *ram[CHUNKS];
static struct vm *vm;
static struct vcpu *vcpus;
static struct vm_config cfg;
static struct boot_info bi;
const struct boot_info *boot_info = &bi;
static char messages[8192];

void log_print(u32 level, const char *fmt, ...)
{
	size_t at = strlen(messages);
	va_list ap;

	if (level != LOG_ERROR)
		return;
	va_start(ap, fmt);
	vsnprintf(messages + at, sizeof(messages) - at, fmt, ap);
	va_end(ap);
}

void *phys_to_virt(paddr_t pa)
{
	return (void *)pa;
}

void *vm_ram_ptr(struct vm *v, gpa_t gpa, size_t *len, bool write)
{
	u64 offset = gpa & (VM_CHUNK_SIZE - 1);

	if (gpa >= v->ram.low)
		return NULL;
	*len = MIN(*len, VM_CHUNK_SIZE - offset);
	return ram[gpa >> VM_CHUNK_SHIFT] + offset;
}

static u8 *rom;
static gpa_t rom_gpa;
static u64 rom_size;

int vm_map_rom(struct vm *v, gpa_t gpa, u64 size, u8 **image)
{
	free(rom);
	rom = malloc(size);
	rom_gpa = gpa;
	rom_size = size;
	*image = rom;
	return 0;
}

static int setup(void **state)
{
	/* Frames in no order, filled with a pattern: what must be zero has to be written. */
	for (u32 i = 0; i < CHUNKS; i++) {
		ram[i] = malloc(VM_CHUNK_SIZE);
		memset(ram[i], 0xa5, VM_CHUNK_SIZE);
	}
	vm = calloc(1, sizeof(*vm));
	vcpus = calloc(2, sizeof(*vcpus));
	memset(&cfg, 0, sizeof(cfg));
	memset(&bi, 0, sizeof(bi));
	strcpy(cfg.name, "t");
	strcpy(vm->name, "t");
	vm->config = &cfg;
	vm->ram.low = RAM_SIZE;
	vm->vcpus = 2;
	vcpus[1].apic_id = 1;
	vm->vcpu[0] = &vcpus[0];
	vm->vcpu[1] = &vcpus[1];
	messages[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	for (u32 i = 0; i < CHUNKS; i++)
		free(ram[i]);
	for (u32 i = 0; i < bi.modules; i++)
		free((void *)bi.module[i].base);
	free(vcpus);
	free(vm);
	free(rom);
	rom = NULL;
	return 0;
}

static u8 *page_alloc(size_t size)
{
	void *data = NULL;

	assert_int_equal(posix_memalign(&data, 4096, size), 0);
	return data;
}

/* A module with exactly this many bytes: reading beyond is caught. */
static u8 *module(const char *name, size_t size, u8 fill)
{
	struct boot_module *m = &bi.module[bi.modules++];
	u8 *data = page_alloc(size);

	memset(data, fill, size);
	strcpy(m->name, name);
	m->base = (paddr_t)data;
	m->size = size;
	return data;
}

static void truncate_module(u32 n, size_t size)
{
	u8 *data = page_alloc(size);

	memcpy(data, (void *)bi.module[n].base, size);
	free((void *)bi.module[n].base);
	bi.module[n].base = (paddr_t)data;
	bi.module[n].size = size;
}

static u8 guest8(gpa_t gpa)
{
	assert_true(gpa < RAM_SIZE);
	return ram[gpa >> VM_CHUNK_SHIFT][gpa & (VM_CHUNK_SIZE - 1)];
}

static u64 guest(gpa_t gpa, u32 bytes)
{
	u64 v = 0;

	while (bytes--)
		v = v << 8 | guest8(gpa + bytes);
	return v;
}

static void guest_text(gpa_t gpa, const char *text)
{
	for (size_t i = 0; i <= strlen(text); i++)
		assert_int_equal(guest8(gpa + i), (u8)text[i]);
}

static void guest_filled(gpa_t from, gpa_t to, u8 byte)
{
	for (gpa_t a = from; a < to; a++)
		if (guest8(a) != byte)
			fail_msg("0x%lx is 0x%x, not 0x%x", a, guest8(a), byte);
}

static void put(u8 *p, u64 value, u32 bytes)
{
	memcpy(p, &value, bytes);
}

static struct guest_entry entry;

static void load_ok(void)
{
	int error = loader_load(vm, &entry);

	if (error)
		fail_msg("error %d: %s", error, messages);
}

/* The load fails with this error and text, and no memory was given a kernel. */
static void load_fails(int error, const char *text)
{
	messages[0] = '\0';
	assert_int_equal(loader_load(vm, &entry), error);
	if (!strstr(messages, text))
		fail_msg("want '%s', got '%s'", text, messages);
	guest_filled(MIB(1), RAM_SIZE, 0xa5);
}

static void check_gdt(u64 code)
{
	assert_int_equal(entry.gdt_limit, 31);
	assert_int_equal(guest(entry.gdt, 8), 0);
	assert_true(guest(entry.gdt + 16, 8) == code);
	assert_true(guest(entry.gdt + 24, 8) == 0x00cf93000000ffffUL);
}

/* ---- Linux ---- */

#define PAYLOAD 300000UL
#define SECTS 3UL

/* A bzImage of protocol 2.15 by boot.rst: relocatable, 64-bit, 2 MiB aligned, at 16 MiB. */
static u8 *bzimage(void)
{
	u8 *k = module("vmlinuz", (SECTS + 1) * 512 + PAYLOAD, 0);

	memset(k + (SECTS + 1) * 512, 0x5a, PAYLOAD);
	k[(SECTS + 1) * 512] = 0x11;
	k[(SECTS + 1) * 512 + PAYLOAD - 1] = 0x22;
	k[0x1f1] = SECTS;
	put(k + 0x1f4, (PAYLOAD + 15) / 16, 4);
	put(k + 0x1fe, 0xaa55, 2);
	k[0x200] = 0xeb;
	k[0x201] = 0x6a;
	memcpy(k + 0x202, "HdrS", 4);
	put(k + 0x206, 0x20f, 2);
	k[0x211] = 1;
	put(k + 0x214, 0x100000, 4);
	put(k + 0x22c, 0x7fffffff, 4);
	put(k + 0x230, 0x200000, 4);
	k[0x234] = 1;
	k[0x235] = 21;
	put(k + 0x236, 1, 2);
	put(k + 0x238, 2047, 4);
	put(k + 0x258, 0x1000000, 8);
	put(k + 0x260, 0x800000, 4);
	strcpy(cfg.kernel, "vmlinuz");
	return k;
}

static void check_e820(gpa_t zp)
{
	static const struct {
		u64 base, size;
		u32 type;
	} want[] = {
		{ 0, 0x9f000, 1 }, { 0x9f000, 0x1000, 2 }, { 0xe0000, 0xf000, 3 },
		{ 0xef000, 0x1000, 4 }, { 0x100000, RAM_SIZE - 0x100000, 1 },
		{ GIB(4), GIB(1), 1 },
	};

	assert_int_equal(guest8(zp + 0x1e8), 6);
	for (u32 i = 0; i < 6; i++) {
		assert_true(guest(zp + 0x2d0 + i * 20, 8) == want[i].base);
		assert_true(guest(zp + 0x2d0 + i * 20 + 8, 8) == want[i].size);
		assert_int_equal(guest(zp + 0x2d0 + i * 20 + 16, 4), want[i].type);
	}
}

static void test_linux64(void **state)
{
	u8 *initrd;
	u64 at, size;
	gpa_t zp;

	bzimage();
	initrd = module("initrd.img", 5000001, 0x77);
	initrd[0] = 1;
	initrd[5000000] = 2;
	strcpy(cfg.initrd, "\\INITRD.img");
	strcpy(cfg.cmdline, "console=ttyS0 quiet");
	vm->ram.high = GIB(1);
	load_ok();
	zp = entry.rsi;
	assert_int_equal(entry.mode, GUEST_LONG64);
	assert_int_equal(entry.rip, 0x1000200);
	check_gdt(0x00af9b000000ffffUL);
	/* The kernel where it prefers to be. */
	assert_int_equal(guest8(0x1000000), 0x11);
	assert_int_equal(guest8(0x1000000 + PAYLOAD - 1), 0x22);
	guest_filled(0x1000001, 0x1000000 + PAYLOAD - 1, 0x5a);
	guest_filled(0x1000000 + PAYLOAD, 0x1800000, 0xa5);
	/* The initrd above it, page aligned, whole. */
	at = guest(zp + 0x218, 4);
	size = guest(zp + 0x21c, 4);
	assert_int_equal(size, 5000001);
	assert_int_equal(at % 4096, 0);
	assert_true(at >= 0x1800000 && at + size <= RAM_SIZE);
	assert_int_equal(guest8(at), 1);
	assert_int_equal(guest8(at + size - 1), 2);
	guest_filled(at + 1, at + size - 1, 0x77);
	guest_text(guest(zp + 0x228, 4), "console=ttyS0 quiet");
	/* The zero page: header copied, the rest zero but what is filled in. */
	assert_int_equal(guest8(zp + 0x1ef), 0); /* sentinel */
	assert_int_equal(guest8(zp + 0x210), 0xff);
	assert_int_equal(guest8(zp + 0x1f1), SECTS);
	assert_int_equal(guest(zp + 0x202, 4), 0x53726448);
	assert_int_equal(guest(zp + 0x206, 2), 0x20f);
	guest_filled(zp, zp + 0x70, 0);
	check_e820(zp);
}

/* RSDP "RSD PTR " is not NUL-terminated: compared by bytes. */
static void check_rsdp(gpa_t rsdp)
{
	for (u32 i = 0; i < 8; i++)
		assert_int_equal(guest8(rsdp + i), (u8)"RSD PTR "[i]);
}

static void test_identity(void **state)
{
	u64 pml4, pdpt, pd;

	bzimage();
	load_ok();
	check_rsdp(guest(entry.rsi + 0x70, 8));
	/* BIOS data area: EBDA segment, KiB of conventional memory, size of the EBDA. */
	assert_int_equal(guest(0x40e, 2), 0x9f00);
	assert_int_equal(guest(0x413, 2), 636);
	assert_int_equal(guest8(0x9f000), 4);
	assert_int_equal(guest(entry.rsi + 0x218, 4), 0); /* no initrd */
	assert_int_equal(guest(entry.rsi + 0x21c, 4), 0);
	pml4 = guest(entry.cr3, 8);
	assert_int_equal(pml4 & 3, 3);
	for (u64 a = 0; a < GIB(4); a += MIB(2)) {
		pdpt = guest((pml4 & ~0xfffUL) + (a >> 30) * 8, 8);
		assert_int_equal(pdpt & 0x83, 3);
		pd = guest((pdpt & ~0xfffUL) + ((a >> 21) & 511) * 8, 8);
		assert_true(pd == (a | (pd & 0xfff)));
		assert_int_equal(pd & 0x83, 0x83);
	}
	guest_filled(entry.cr3 + 8, entry.cr3 + 4096, 0);
}

static void test_linux32(void **state)
{
	u8 *k = bzimage();

	put(k + 0x236, 0, 2); /* no 64-bit entry */
	load_ok();
	assert_int_equal(entry.mode, GUEST_PROT32);
	assert_int_equal(entry.rip, 0x1000000);
	check_gdt(0x00cf9b000000ffffUL);
	assert_int_equal(guest(entry.rsi + 0x214, 4), 0x1000000);
	/* Too little memory at the preferred address: the lowest aligned one. */
	put(k + 0x258, 0x1f00000, 8);
	load_ok();
	assert_int_equal(entry.rip, 0x200000);
	/* An alignment that the preferred address does not have moves it up. */
	put(k + 0x258, 0x1100000, 8);
	load_ok();
	assert_int_equal(entry.rip, 0x1200000);
	/* memtest86+: not relocatable, at code32_start. */
	put(k + 0x258, 0x100000, 8);
	put(k + 0x206, 0x20c, 2);
	k[0x234] = 0;
	load_ok();
	assert_int_equal(entry.rip, 0x100000);
	assert_int_equal(guest8(0x100000), 0x11);
	/* Protocol 2.06 has neither preferred address nor entry flags. */
	put(k + 0x206, 0x206, 2);
	put(k + 0x236, 1, 2);
	put(k + 0x258, ~0UL, 8);
	put(k + 0x260, ~0UL, 4);
	k[0x234] = 1;
	load_ok();
	assert_int_equal(entry.mode, GUEST_PROT32);
	assert_int_equal(entry.rip, 0x200000);
}

static void test_linux_bad(void **state)
{
	u8 *k = bzimage();
	u8 good[0x300];

	memcpy(good, k, sizeof(good));
#define BAD(error, text, ...)                            \
	do {                                             \
		__VA_ARGS__;                             \
		load_fails(error, text);                 \
		memcpy(k, good, sizeof(good));           \
	} while (0)
	BAD(-ENOTSUP, "t: vmlinuz: boot protocol 2.05 is too old", put(k + 0x206, 0x205, 2));
	BAD(-ENOTSUP, "zImage", k[0x211] = 0);
	BAD(-EPROTO, "syssize says", put(k + 0x1f4, 0xffffffff, 4));
	BAD(-EPROTO, "syssize says 300032 bytes", put(k + 0x1f4, 300032 / 16, 4));
	BAD(-EPROTO, "kernel_alignment 0x0", put(k + 0x230, 0, 4));
	BAD(-EPROTO, "kernel_alignment 0x300000", put(k + 0x230, 0x300000, 4));
	BAD(-EPROTO, "kernel_alignment 0x80000000", put(k + 0x230, 0x80000000, 4));
	BAD(-EFAULT, "not in RAM", put(k + 0x260, 0xffffffff, 4));
	BAD(-EFAULT, "not in RAM", put(k + 0x230, 0x40000000, 4));
	BAD(-E2BIG, "the kernel takes 0", put(k + 0x238, 0, 4); strcpy(cfg.cmdline, "x"));
	cfg.cmdline[0] = '\0';
	BAD(-EFAULT, "the kernel at 0x0", k[0x234] = 0; put(k + 0x214, 0, 4); put(k + 0x258, 0, 8));
	BAD(-EEXIST, "overlaps the loader's own data", k[0x234] = 0; put(k + 0x214, 0x90000, 4);
	    put(k + 0x260, 16, 4); put(k + 0x258, 0x90000, 8); k[0x1f1] = 588 % 256;
	    put(k + 0x1f4, 1, 4); truncate_module(0, (588 % 256 + 1) * 512 + 16);
	    k = (u8 *)bi.module[0].base);
#undef BAD
}

static void test_linux_initrd_bad(void **state)
{
	u8 *k = bzimage();

	module("big", RAM_SIZE, 1);
	module("small", 8192, 1);
	strcpy(cfg.initrd, "big");
	load_fails(-ENOMEM, "big: no room for 33554432 bytes");
	strcpy(cfg.initrd, "small");
	put(k + 0x22c, 0x100fff, 4); /* initrd_addr_max: 4 KiB above 1 MiB */
	load_fails(-ENOMEM, "small: no room for 8192 bytes below 0x101000");
	put(k + 0x22c, 0x101fff, 4);
	load_ok();
	assert_int_equal(guest(entry.rsi + 0x218, 4), 0x100000);
	/* Under the kernel when its limit is inside the kernel. */
	put(k + 0x22c, 0x10fffff, 4);
	load_ok();
	assert_int_equal(guest(entry.rsi + 0x218, 4), 0x1000000 - 8192);
}

static void test_files(void **state)
{
	strcpy(cfg.kernel, "gone");
	load_fails(-ENOENT, "vm t: kernel = gone: no such file or boot module");
	module("k", 1, 0);
	strcpy(cfg.kernel, "k");
	load_fails(-EPROTO, "k: not a kernel");
	bi.module[0].size = 0;
	load_fails(-EPROTO, "the file is empty");
	bi.module[0].error = -EIO;
	load_fails(-EIO, "kernel = k: the file could not be read");
	bi.module[0].error = 0;
	bi.module[0].size = 1;
	strcpy(cfg.initrd, "none");
	load_fails(-ENOENT, "initrd = none");
	strcpy(cfg.module[0].path, "none");
	cfg.initrd[0] = '\0';
	cfg.modules = 1;
	load_fails(-ENOENT, "module = none");
}

/* ---- ELF ---- */

/*
 * An ELF file with two PT_LOAD segments and a PVH note; 32 or 64 bits.
 * 0x1000 bytes at 4 MiB (0x2000 in memory), 0x10 at 8 MiB; note entry 4 MiB + 0x40.
 */
static u8 *elf(bool is64)
{
	u8 *e = module("elf", 0x3000, 0);
	u32 phoff = is64 ? 64 : 52;
	u32 width = is64 ? 8 : 4;
	u8 *p = e + phoff;

	memcpy(e, "\177ELF", 4);
	e[4] = is64 ? 2 : 1;
	e[5] = 1;
	put(e + 16, 2, 2);
	put(e + 18, is64 ? 62 : 3, 2);
	put(e + 24, 0xc0400080, width);
	put(e + (is64 ? 32 : 28), phoff, width);
	put(e + (is64 ? 54 : 42), is64 ? 56 : 32, 2);
	put(e + (is64 ? 56 : 44), 3, 2);
	for (u32 i = 0; i < 3; i++, p += is64 ? 56 : 32) {
		static const u64 seg[3][6] = { /* type, offset, vaddr, paddr, filesz, memsz */
			{ 1, 0x1000, 0xc0400000, 0x400000, 0x1000, 0x2000 },
			{ 1, 0x2000, 0xc0800000, 0x800000, 0x10, 0x10 },
			{ 4, 0x2800, 0, 0, 20 + 20, 20 + 20 },
		};

		put(p, seg[i][0], 4);
		for (u32 f = 1; f < 6; f++)
			put(p + (is64 ? f * 8 : f * 4), seg[i][f], width);
	}
	memset(e + 0x1000, 0x33, 0x1000);
	memset(e + 0x2000, 0x44, 0x10);
	/* A note of another kind first, then the entry. */
	put(e + 0x2800, 4, 4);
	put(e + 0x2804, 4, 4);
	put(e + 0x2808, 5, 4);
	memcpy(e + 0x280c, "Xen", 4);
	put(e + 0x2814, 4, 4);
	put(e + 0x2818, 4, 4);
	put(e + 0x281c, 18, 4);
	memcpy(e + 0x2820, "Xen", 4);
	put(e + 0x2824, 0x400040, 4);
	strcpy(cfg.kernel, "elf");
	return e;
}

static void check_pvh(void)
{
	gpa_t info = entry.rbx;
	gpa_t list, map;

	assert_int_equal(entry.mode, GUEST_PROT32);
	assert_int_equal(entry.rip, 0x400040);
	check_gdt(0x00cf9b000000ffffUL);
	guest_filled(0x400000, 0x401000, 0x33);
	guest_filled(0x401000, 0x402000, 0);
	guest_filled(0x800000, 0x800010, 0x44);
	assert_int_equal(guest(info, 4), 0x336ec578);
	assert_int_equal(guest(info + 4, 4), 1);
	guest_text(guest(info + 24, 8), "a=b");
	check_rsdp(guest(info + 32, 8));
	map = guest(info + 40, 8);
	assert_int_equal(guest(info + 48, 4), 5);
	assert_true(guest(map, 8) == 0 && guest(map + 8, 8) == 0x9f000 && guest(map + 16, 4) == 1);
	assert_true(guest(map + 96, 8) == MIB(1) && guest(map + 104, 8) == RAM_SIZE - MIB(1));
	assert_int_equal(guest(info + 12, 4), 1);
	list = guest(info + 16, 8);
	assert_int_equal(guest(list + 8, 8), 6000);
	guest_filled(guest(list, 8), guest(list, 8) + 6000, 0x66);
	assert_int_equal(guest(list + 16, 8), 0);
}

static void test_pvh(void **state)
{
	elf(false);
	module("ird", 6000, 0x66);
	strcpy(cfg.initrd, "ird");
	strcpy(cfg.cmdline, "a=b");
	load_ok();
	check_pvh();
	bi.module[0].name[0] = 'x';
	elf(true);
	for (gpa_t a = 0x400000; a < 0x403000; a += 0x1000)
		memset(ram[2] + (a & (VM_CHUNK_SIZE - 1)), 0xa5, 0x1000);
	load_ok();
	check_pvh();
}

static void test_elf_bad(void **state)
{
	u8 *e = elf(true);
	u8 good[0x3000];

	memcpy(good, e, sizeof(good));
#define BAD(error, text, ...)                            \
	do {                                             \
		__VA_ARGS__;                             \
		load_fails(error, text);                 \
		memcpy(e, good, sizeof(good));           \
	} while (0)
#define SEG(i, f) (e + 64 + (i) * 56 + (f) * 8) /* 1 offset, 3 paddr, 4 filesz, 5 memsz */
	BAD(-EPROTO, "bad ELF header", e[4] = 3);
	BAD(-EPROTO, "bad ELF header", e[5] = 2);
	BAD(-EPROTO, "e_machine 0xb7: not an x86", put(e + 18, 183, 2));
	BAD(-EPROTO, "e_phnum 0x0", put(e + 56, 0, 2));
	BAD(-EPROTO, "e_phnum 0x21", put(e + 56, 33, 2));
	BAD(-EPROTO, "e_phentsize 0x37", put(e + 54, 55, 2));
	BAD(-EPROTO, "e_phoff 0x2fff", put(e + 32, 0x2fff, 8));
	BAD(-EPROTO, "e_phoff 0xffffffffffffffff", put(e + 32, ~0UL, 8));
	BAD(-EPROTO, "p_offset 0x2001", put(SEG(0, 1), 0x2001, 8));
	BAD(-EPROTO, "p_offset 0xffffffffffffff00", put(SEG(0, 1), ~0xffUL, 8));
	BAD(-EPROTO, "over p_memsz 0xfff", put(SEG(0, 5), 0xfff, 8));
	BAD(-EFAULT, "a segment at 0x1fff000", put(SEG(0, 3), RAM_SIZE - 0x1000, 8));
	BAD(-EFAULT, "a segment at 0xfffffffffffff000", put(SEG(0, 3), ~0xfffUL, 8));
	BAD(-EFAULT, "not in RAM, memory = 32M", put(SEG(0, 5), ~0UL, 8));
	BAD(-EFAULT, "a segment at 0xb8000", put(SEG(0, 3), 0xb8000, 8));
	BAD(-EFAULT, "a segment at 0x9e000", put(SEG(0, 3), 0x9e000, 8));
	BAD(-EEXIST, "overlaps a segment at 0x400000", put(SEG(1, 3), 0x401ff1, 8));
	BAD(-EEXIST, "overlaps the loader's own data", put(SEG(1, 3), 0x8fff8, 8));
	BAD(-EPROTO, "no PT_LOAD", put(SEG(0, 0), 0, 4); put(SEG(1, 0), 0, 4));
	BAD(-EPROTO, "without a PVH entry", put(e + 0x281c, 17, 4));
	BAD(-EPROTO, "without a PVH entry", put(e + 0x2818, 3, 4));
	BAD(-EPROTO, "without a PVH entry", put(e + 0x2804, 0xffffffff, 4));
	BAD(-EPROTO, "without a PVH entry", put(e + 0x2800, 0xfffffffd, 4));
	BAD(-EPROTO, "without a PVH entry", put(SEG(2, 1), 0x2ff0, 8));
	BAD(-EPROTO, "without a PVH entry", put(SEG(2, 4), 39, 8));
#undef BAD
	truncate_module(0, 63);
	load_fails(-EPROTO, "bad ELF header");
	truncate_module(0, 51);
	load_fails(-EPROTO, "not a kernel");
}

/* ---- multiboot ---- */

static void mb_header(u8 *at, u32 flags)
{
	put(at, 0x1badb002, 4);
	put(at + 4, flags, 4);
	put(at + 8, (u32)-(0x1badb002 + flags), 4);
}

/* An image by addresses: header at 0x40 of the file, loaded at 4 MiB from file offset 0x20. */
static u8 *mb_image(void)
{
	u8 *m = module("kern", 0x1020, 0x55);

	mb_header(m + 0x40, 0x10003);
	put(m + 0x4c, 0x400020, 4);
	put(m + 0x50, 0x400000, 4);
	put(m + 0x54, 0x400f00, 4);
	put(m + 0x58, 0x402000, 4);
	put(m + 0x5c, 0x400123, 4);
	m[0x20] = 0x77;
	strcpy(cfg.kernel, "kern");
	return m;
}

static void test_multiboot(void **state)
{
	gpa_t info, mods, map;

	mb_image();
	module("one", 5000, 0x66);
	module("two", 1, 0x67);
	strcpy(cfg.cmdline, "a=b");
	strcpy(cfg.module[0].path, "one");
	strcpy(cfg.module[0].args, "x y");
	strcpy(cfg.module[1].path, "two");
	cfg.modules = 2;
	load_ok();
	info = entry.rbx;
	assert_int_equal(entry.mode, GUEST_PROT32);
	assert_int_equal(entry.rax, 0x2badb002);
	assert_int_equal(entry.rip, 0x400123);
	assert_int_equal(guest8(0x400000), 0x77);
	assert_int_equal(guest8(0x400eff), 0x55);
	guest_filled(0x400f00, 0x402000, 0);
	assert_int_equal(guest8(0x402000), 0xa5);
	assert_int_equal(guest(info, 4), 0x24d);
	assert_int_equal(guest(info + 4, 4), 0x9f000 / 1024);
	assert_int_equal(guest(info + 8, 4), (RAM_SIZE - MIB(1)) / 1024);
	guest_text(guest(info + 16, 4), "kern a=b");
	assert_int_equal(guest(info + 20, 4), 2);
	mods = guest(info + 24, 4);
	assert_int_equal(guest(mods, 4) % 4096, 0);
	assert_int_equal(guest(mods + 4, 4) - guest(mods, 4), 5000);
	guest_filled(guest(mods, 4), guest(mods + 4, 4), 0x66);
	guest_text(guest(mods + 8, 4), "one x y");
	assert_int_equal(guest8(guest(mods + 16, 4)), 0x67);
	guest_text(guest(mods + 24, 4), "two");
	assert_int_equal(guest(info + 44, 4), 5 * 24);
	map = guest(info + 48, 4);
	assert_int_equal(guest(map, 4), 20);
	assert_true(guest(map + 4, 8) == 0 && guest(map + 12, 8) == 0x9f000);
	assert_int_equal(guest(map + 20, 4), 1);
	guest_text(guest(info + 64, 4), "Ravelin");
}

/* With both ways in one file, modules decide; the entry of ELF is translated to physical. */
static void test_multiboot_elf(void **state)
{
	u8 *e = elf(false);

	mb_header(e + 0xf00, 0);
	load_ok();
	assert_int_equal(entry.rax, 0); /* PVH */
	module("mod", 10, 1);
	strcpy(cfg.module[0].path, "mod");
	cfg.modules = 1;
	load_ok();
	assert_int_equal(entry.rax, 0x2badb002);
	assert_int_equal(entry.rip, 0x400080);
	put(e + 0x281c, 0, 4); /* no PVH note: the initrd is the only module */
	strcpy(cfg.initrd, "mod");
	cfg.modules = 0;
	load_ok();
	assert_int_equal(entry.rax, 0x2badb002);
	assert_int_equal(guest(entry.rbx + 20, 4), 1);
	assert_int_equal(guest8(guest(guest(entry.rbx + 24, 4), 4)), 1);
	guest_text(guest(guest(entry.rbx + 24, 4) + 8, 4), "mod");
	cfg.initrd[0] = '\0';
	load_ok();
	assert_int_equal(guest(entry.rbx + 20, 4), 0);
}

static void test_multiboot_bad(void **state)
{
	u8 *m = mb_image();
	u8 good[0x1020];

	memcpy(good, m, sizeof(good));
#define BAD(error, text, ...)                            \
	do {                                             \
		__VA_ARGS__;                             \
		load_fails(error, text);                 \
		memcpy(m, good, sizeof(good));           \
	} while (0)
	BAD(-EPROTO, "not a kernel", m[0x48] ^= 1);
	BAD(-ENOTSUP, "flags 0x10008", mb_header(m + 0x40, 0x10008));
	BAD(-EPROTO, "no load addresses, and not an ELF", mb_header(m + 0x40, 0));
	BAD(-EPROTO, "load_addr 0x400021", put(m + 0x50, 0x400021, 4));
	BAD(-EPROTO, "load_addr 0x3fffdf", put(m + 0x50, 0x3fffdf, 4));
	BAD(-EPROTO, "load_end_addr 0x3fffff", put(m + 0x54, 0x3fffff, 4));
	BAD(-EPROTO, "load_end_addr 0x401001", put(m + 0x54, 0x401001, 4));
	BAD(-EPROTO, "bss_end_addr 0x400eff", put(m + 0x58, 0x400eff, 4));
	BAD(-EFAULT, "not in RAM", put(m + 0x58, 0xffffffff, 4));
	BAD(-EFAULT, "the kernel at 0xa0000", put(m + 0x4c, 0xa0020, 4); put(m + 0x50, 0xa0000, 4);
	    put(m + 0x54, 0, 4); put(m + 0x58, 0, 4));
#undef BAD
	truncate_module(0, 0x5f);
	load_fails(-EPROTO, "the multiboot header at 0x40 is truncated");
	truncate_module(0, 0x4b);
	load_fails(-EPROTO, "not a kernel");
}

/* ---- firmware ---- */

static void test_firmware(void **state)
{
	u8 *f = module("bios.bin", 0x80000, 0x12);

	memset(f + 0x40000, 0x13, 0x40000);
	strcpy(cfg.firmware, "bios.bin");
	load_ok();
	assert_int_equal(entry.mode, GUEST_REAL);
	assert_int_equal(rom_size, 0x80000);
	assert_true(rom_gpa + rom_size == GIB(4));
	assert_memory_equal(rom, f, 0x80000);
	guest_filled(0xc0000, 0x100000, 0x13);
	guest_filled(0xb0000, 0xc0000, 0xa5);
	truncate_module(0, 0x10000); /* 64 KiB: the end of the area */
	load_ok();
	guest_filled(0xc0000, 0xf0000, 0);
	guest_filled(0xf0000, 0x100000, 0x12);
	truncate_module(0, 0xf000);
	load_fails(-EPROTO, "bios.bin: 61440 bytes: a firmware image has 64K to 16M");
	truncate_module(0, 1);
	load_fails(-EPROTO, "a firmware image has");
}

/* ---- damaged images ---- */

static u32 seed = 7;

static u32 rnd(void)
{
	seed = seed * 1664525 + 1013904223;
	return seed >> 8;
}

/* Random damage to headers, random truncation: an error or a sane entry, no sanitizer report. */
static void fuzz(u8 *(*make)(void), u32 rounds, u32 header)
{
	static const u64 value[] = { 0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000,
				     0x400000, RAM_SIZE, ~0UL, 0xfff };
	u8 *image = make();
	size_t size = bi.module[0].size;
	u8 *good = malloc(size);

	module("m", 4000, 9);
	memcpy(good, image, size);
	for (u32 i = 0; i < rounds; i++) {
		for (u32 n = rnd() % 4 + 1; n; n--) {
			u32 at = rnd() % header;
			u32 len = 1U << rnd() % 4;

			put(image + at, rnd() % 3 ? value[rnd() % 10] : (u64)rnd() << 13 ^ rnd(),
			    len);
		}
		cfg.initrd[0] = rnd() % 2 ? 'm' : '\0';
		bi.module[0].size = rnd() % 4 ? size : rnd() % size;
		__asan_poison_memory_region(image + bi.module[0].size, size - bi.module[0].size);
		loader_load(vm, &entry);
		__asan_unpoison_memory_region(image, size);
		memcpy(image, good, size);
	}
	bi.module[0].size = size;
	free(good);
}

static u8 *make_elf64(void) { return elf(true); }
static u8 *make_elf32(void) { return elf(false); }

static void test_fuzz_linux(void **state) { fuzz(bzimage, 1500, 0x270); }
static void test_fuzz_elf64(void **state) { fuzz(make_elf64, 3000, 64 + 3 * 56); }
static void test_fuzz_elf32(void **state) { fuzz(make_elf32, 3000, 52 + 3 * 32); }
static void test_fuzz_multiboot(void **state) { fuzz(mb_image, 3000, 0x60); }

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_linux64),	  TEST(test_identity),	     TEST(test_linux32),
		TEST(test_linux_bad),	  TEST(test_linux_initrd_bad), TEST(test_files),
		TEST(test_pvh),		  TEST(test_elf_bad),	     TEST(test_multiboot),
		TEST(test_multiboot_elf), TEST(test_multiboot_bad),  TEST(test_firmware),
		TEST(test_fuzz_linux),	  TEST(test_fuzz_elf64),     TEST(test_fuzz_elf32),
		TEST(test_fuzz_multiboot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
