/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/paging.h"
#include "arch/x86/percpu.h"
#include "arch/x86/smp.h"
#include "core/boot_info.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/panic.h"
#include "core/pmm.h"
#include "core/spinlock.h"
#include "core/string.h"

/* The hypervisor's own address space and the memory it is made of. */

#define LOW_MEMORY MIB(1)
#define RESERVED_MAX (BOOT_MODULE_MAX + 8)
#define PRIVATE_BLOCKS 32

extern const char image_start[], image_end[], rodata_start[], rodata_end[], data_start[];
extern const char percpu_start[], percpu_end[];

struct pt host_pt;

static struct {
	u64 start, end;
} reserved[RESERVED_MAX];
static u32 reserved_count;

static u64 mmio_next = MMIO_BASE;
static spinlock_t mmio_lock = SPINLOCK_INIT;

/* Frames that only one CPU may see: whole 2 MiB blocks, so that hiding them splits nothing. */
static struct {
	paddr_t block[PRIVATE_BLOCKS];
	u32 blocks;
	u32 used; /* frames of the last block */
	bool hidden;
} private_pool;

static void reserve(u64 start, u64 end)
{
	u32 i;

	if (start >= end || reserved_count == RESERVED_MAX)
		return;
	for (i = reserved_count++; i > 0 && reserved[i - 1].start > start; i--)
		reserved[i] = reserved[i - 1];
	reserved[i].start = start;
	reserved[i].end = end;
}

static void reserve_used(const struct boot_info *bi)
{
	reserve(0, LOW_MEMORY);
	reserve(bi->image, bi->image + ALIGN_UP(bi->image_size, PAGE_SIZE));
	for (u32 i = 0; i < bi->modules; i++) {
		const struct boot_module *m = &bi->module[i];

		if (m->size != 0)
			reserve(m->base & PAGE_MASK, ALIGN_UP(m->base + m->size, PAGE_SIZE));
	}
}

/* Calls fn for each piece of [start, end) that is not reserved, until fn returns true. */
static bool each_free_piece(u64 start, u64 end, bool (*fn)(u64 from, u64 to, void *arg), void *arg)
{
	for (u32 i = 0; i < reserved_count && start < end; i++) {
		if (reserved[i].end <= start)
			continue;
		if (reserved[i].start > start && fn(start, MIN(reserved[i].start, end), arg))
			return true;
		start = reserved[i].end;
	}
	return start < end && fn(start, end, arg);
}

static bool give_piece(u64 from, u64 to, void *arg)
{
	int err = pmm_add(from, to - from);

	(void)arg;
	if (err != 0)
		log_err("memory: 0x%lx-0x%lx is not used: error %d", from, to, -err);
	return false;
}

/* Calls fn for all RAM between two limits that is not reserved. */
static void each_free_ram(const struct boot_info *bi, u64 low, u64 high,
			  bool (*fn)(u64 from, u64 to, void *arg), void *arg)
{
	for (u32 i = 0; i < bi->mems; i++) {
		const struct boot_mem *m = &bi->mem[i];

		if (m->type == MEM_RAM)
			(void)each_free_piece(MAX(m->base, low), MIN(m->base + m->size, high), fn,
					      arg);
	}
}

static struct place {
	u64 size, start;
} pmm_pages; /* the page allocator's bookkeeping */

/* The highest free place below 4 GiB wins: low memory is left to those who need it. */
static bool try_place(u64 from, u64 to, void *arg)
{
	struct place *p = arg;

	from = ALIGN_UP(from, PAGE_SIZE);
	to = ALIGN_DOWN(to, PAGE_SIZE);
	if (to > from && to - from >= p->size && to - p->size > p->start)
		p->start = to - p->size;
	return false;
}

static u64 top_of_ram(const struct boot_info *bi)
{
	u64 top = 0;

	for (u32 i = 0; i < bi->mems; i++) {
		if (bi->mem[i].type == MEM_RAM)
			top = MAX(top, bi->mem[i].base + bi->mem[i].size);
	}
	return top;
}

static void start_allocator(const struct boot_info *bi)
{
	u64 top = MIN(top_of_ram(bi), DIRECT_MAP_SIZE);
	struct place p = { ALIGN_UP(pmm_meta_size(top), PAGE_SIZE), 0 };

	each_free_ram(bi, 0, GIB(4), try_place, &p);
	if (p.start == 0)
		panic("memory: no %lu KiB of free RAM below 4 GiB for the page allocator",
		      p.size >> 10);
	reserve(p.start, p.start + p.size);
	pmm_pages = p;
	pmm_init(top, phys_to_virt(p.start));
	/* The first page tables show 4 GiB: the rest follows when all is mapped. */
	each_free_ram(bi, 0, GIB(4), give_piece, NULL);
}

static void map_or_panic(u64 va, paddr_t pa, u64 size, u32 prot, const char *what)
{
	int err = pt_map(&host_pt, va, pa, size, prot);

	if (err != 0)
		panic("memory: %s cannot be mapped at 0x%lx, 0x%lx bytes: error %d", what, va, size,
		      -err);
}

static void map_image(void)
{
	static const struct {
		const char *from, *to;
		u32 prot;
	} parts[] = {
		{ image_start, rodata_start, PT_RX | PT_GLOBAL },
		{ rodata_start, rodata_end, PT_READ | PT_GLOBAL },
		{ data_start, image_end, PT_RW | PT_GLOBAL },
	};

	for (u32 i = 0; i < ARRAY_SIZE(parts); i++) {
		u64 va = (u64)parts[i].from;

		map_or_panic(va, va - IMAGE_BASE + image_phys,
			     ALIGN_UP((u64)parts[i].to, PAGE_SIZE) - va, parts[i].prot,
			     "the image");
	}
}

static void map_direct_piece(u64 from, u64 to)
{
	from = ALIGN_DOWN(from, PAGE_SIZE);
	to = MIN(ALIGN_UP(to, PAGE_SIZE), DIRECT_MAP_SIZE);
	if (from < to)
		map_or_panic(DIRECT_MAP_BASE + from, from, to - from, PT_RW | PT_GLOBAL, "RAM");
}

/* RAM and ACPI's memory; not the image, whose code must have no writable second view. */
static void map_direct(const struct boot_info *bi)
{
	u64 image = bi->image, image_stop = bi->image + ALIGN_UP(bi->image_size, PAGE_SIZE);
	u64 done = 0;

	for (u32 i = 0; i < bi->mems; i++) {
		const struct boot_mem *m = &bi->mem[i];
		u64 from = MAX(m->base & PAGE_MASK, done);
		u64 to = ALIGN_UP(m->base + m->size, PAGE_SIZE);

		if ((m->type != MEM_RAM && m->type != MEM_ACPI && m->type != MEM_NVS) || from >= to)
			continue;
		done = to;
		if (image >= from && image < to) {
			map_direct_piece(from, image);
			from = image_stop;
		}
		map_direct_piece(from, to);
	}
}

static bool encrypt_piece(u64 from, u64 to, void *arg)
{
	int err = 0;

	(void)arg;
	from = ALIGN_UP(from, PAGE_SIZE);
	to = ALIGN_DOWN(to, PAGE_SIZE);
	if (from < to)
		err = pt_protect(&host_pt, DIRECT_MAP_BASE + from, to - from,
				 PT_RW | PT_GLOBAL | PT_ENCRYPTED);
	if (err != 0)
		panic("memory: 0x%lx-0x%lx cannot be encrypted: error %d", from, to, -err);
	return false;
}

/* What the page allocator owns, and its own pages. */
static void encrypt_ram(const struct boot_info *bi)
{
	each_free_ram(bi, 0, DIRECT_MAP_SIZE, encrypt_piece, NULL);
	(void)encrypt_piece(pmm_pages.start, pmm_pages.start + pmm_pages.size, NULL);
}

/* Gives a top-level slot its table now: later maps in it are then seen by all CPUs. */
static void prepare_slot(u64 va)
{
	paddr_t pa = alloc_pages(ORDER_4K, ALLOC_ZERO | ALLOC_BELOW_4G);
	u64 *root = phys_to_virt(host_pt.root);

	if (pa == 0)
		panic("memory: none left for page tables");
	host_pt.tables++;
	root[va >> 39 & 511] = machine_pa(pa) | host_pt.fmt->table_fixed;
}

void hostmem_init(const struct boot_info *bi)
{
	reserve_used(bi);
	start_allocator(bi);
	if (cpu_features.page1g)
		pt_format_host.large_levels |= BIT32(3);
	host_pt.alloc_flags = ALLOC_BELOW_4G;
	if (pt_init(&host_pt, &pt_format_host) != 0)
		panic("memory: none left for page tables");
	prepare_slot(MMIO_BASE);
	map_image();
	map_direct(bi);
	if (host_c_bit != 0)
		encrypt_ram(bi);
}

/* The rest of the RAM, after the switch to tables that show it. */
void hostmem_add_high(const struct boot_info *bi)
{
	host_pt.alloc_flags = 0;
	memcrypt_done();
	each_free_ram(bi, GIB(4), DIRECT_MAP_SIZE, give_piece, NULL);
}

static paddr_t private_frame(void)
{
	paddr_t pa;

	if (private_pool.blocks == 0 || private_pool.used == 512) {
		if (private_pool.hidden || private_pool.blocks == PRIVATE_BLOCKS)
			return 0;
		pa = alloc_pages(ORDER_2M, ALLOC_ZERO | ALLOC_BELOW_4G);
		if (pa == 0)
			return 0;
		private_pool.block[private_pool.blocks++] = pa;
		private_pool.used = 0;
	}
	return private_pool.block[private_pool.blocks - 1] + PAGE_SIZE * private_pool.used++;
}

static int map_private(struct pt *pt, u64 va, u64 size)
{
	for (u64 done = 0; done < size; done += PAGE_SIZE) {
		paddr_t pa = private_frame();
		int err = -ENOMEM;

		if (pa != 0)
			err = pt_map(pt, va + done, pa, PAGE_SIZE, PT_RW | PT_ENCRYPTED);
		if (err != 0)
			return err;
	}
	return 0;
}

/*
 * The lower levels of the direct map, of devices and of the image are common;
 * the last of the 512 top slots is the CPU's own, for the per-CPU area beside
 * the image. A failure here ends the start of that CPU: what it took is lost.
 */
int hostmem_cpu_space(paddr_t *cr3)
{
	struct pt pt = { .alloc_flags = ALLOC_BELOW_4G };
	int err = pt_init(&pt, &pt_format_host);
	const u64 *common;
	u64 *own;

	if (err == 0)
		err = map_private(&pt, PERCPU_BASE,
				  ALIGN_UP((u64)percpu_end - (u64)percpu_start, PAGE_SIZE));
	if (err == 0)
		err = map_private(&pt, STACK_BASE, STACK_SIZE);
	for (u32 i = 1; i <= IST_COUNT && err == 0; i++)
		err = map_private(&pt, IST_BASE(i), IST_STACK_SIZE);
	if (err != 0)
		return err;
	common = phys_to_virt(host_pt.root);
	own = phys_to_virt(pt.root);
	memcpy(own + 256, common + 256, 255 * sizeof(u64));
	common = phys_to_virt(common[511] & pt.fmt->addr_mask & ~host_c_bit);
	own = phys_to_virt(own[511] & pt.fmt->addr_mask & ~host_c_bit);
	own[IMAGE_BASE >> 30 & 511] = common[IMAGE_BASE >> 30 & 511];
	*cr3 = machine_pa(pt.root);
	return 0;
}

static u32 check_entry(u64 va, const struct pt_walk *w)
{
	if ((w->prot & PT_WRITE) != 0 && (w->prot & PT_EXEC) != 0)
		log_err("memory: 0x%lx is writable and executable", va);
	else if ((w->prot & PT_USER) != 0)
		log_err("memory: 0x%lx is open to user mode", va);
	else if ((w->prot & PT_EXEC) != 0 && (va < IMAGE_BASE || va >= (u64)rodata_start))
		log_err("memory: 0x%lx is executable outside of the code", va);
	else
		return 0;
	return 1;
}

/* Walks the calling CPU's tables, all of the upper half. */
static u32 check_rules(void)
{
	struct pt pt = { .fmt = &pt_format_host, .root = read_cr3() & PAGE_MASK & ~host_c_bit };
	u64 va = DIRECT_MAP_BASE;
	u32 bad = 0;

	do {
		struct pt_walk w;

		if (pt_lookup(&pt, va, &w) == 0)
			bad += check_entry(va, &w);
		va = (va | (w.page_size - 1)) + 1;
	} while (va != 0);
	for (va = 0; va < 1UL << 47; va += 1UL << 39) {
		struct pt_walk w;

		if (pt_lookup(&pt, va, &w) == 0 || w.page_size < 1UL << 39) {
			log_err("memory: something is mapped in the lower half at 0x%lx", va);
			bad++;
		}
	}
	return bad;
}

u32 hostmem_seal(void)
{
	u32 bad;

	for (u32 i = 0; i < private_pool.blocks; i++) {
		if (direct_map_hide(private_pool.block[i], MIB(2)) != 0) {
			log_err("memory: a CPU's private block at 0x%lx cannot be hidden",
				private_pool.block[i]);
			return 1;
		}
	}
	private_pool.hidden = true;
	bad = check_rules();
	if (bad == 0)
		log_debug("memory: W^X holds, %lu table pages, %u private blocks", host_pt.tables,
			  private_pool.blocks);
	return bad;
}

static void *map_device(paddr_t pa, size_t size, u32 cache)
{
	u64 offset = pa & ~PAGE_MASK;
	u64 len = ALIGN_UP(offset + size, PAGE_SIZE);
	/* Same offset within 2 MiB as the frames: big windows get big pages. */
	u64 saved, va;
	int err = -ENOSPC;

	if (host_pt.root == 0 || size == 0 || pa + size < pa || len > MMIO_SIZE)
		return NULL;
	if ((pa + size - 1) >> cpu_features.phys_bits != 0) {
		log_err("memory: device at 0x%lx is out of the CPU's reach of %u address bits; let "
			"firmware place devices below that", pa, cpu_features.phys_bits);
		return NULL;
	}
	saved = spin_lock_irqsave(&mmio_lock);
	va = mmio_next;
	if (len >= MIB(2))
		va = ALIGN_UP(va, MIB(2)) + ((pa - offset) & (MIB(2) - 1));
	/* A page stays free behind each window. */
	if (va + len + PAGE_SIZE <= MMIO_BASE + MMIO_SIZE) {
		err = pt_map(&host_pt, va, pa - offset, len, PT_RW | PT_GLOBAL | cache);
		if (err == 0)
			mmio_next = va + len + PAGE_SIZE;
	}
	spin_unlock_irqrestore(&mmio_lock, saved);
	if (err != 0) {
		log_err("memory: device at 0x%lx, 0x%lx bytes, cannot be mapped: error %d", pa,
			size, -err);
		return NULL;
	}
	return (void *)(va + offset);
}

void *mmio_map(paddr_t pa, size_t size)
{
	return map_device(pa, size, PT_UC);
}

void *mmio_map_wc(paddr_t pa, size_t size)
{
	return map_device(pa, size, PT_WC);
}

const void *phys_map(paddr_t pa, size_t size)
{
	u64 done = 0;

	if (size == 0 || pa + size < pa)
		return NULL;
	if (pa >= image_phys && pa + size <= image_phys + ((u64)image_end - IMAGE_BASE))
		return (const void *)(pa - image_phys + IMAGE_BASE);
	while (done < size && pa + size <= DIRECT_MAP_SIZE) {
		struct pt_walk w;

		if (pt_lookup(&host_pt, DIRECT_MAP_BASE + pa + done, &w) != 0)
			return mmio_map(pa, size);
		done += w.page_size - ((pa + done) & (w.page_size - 1));
	}
	return done >= size ? phys_to_virt(pa) : mmio_map(pa, size);
}

int direct_map_hide(paddr_t pa, u64 size)
{
	int err = pt_unmap(&host_pt, DIRECT_MAP_BASE + pa, size);

	tlb_flush_all();
	return err;
}

int direct_map_show(paddr_t pa, u64 size)
{
	return pt_map(&host_pt, DIRECT_MAP_BASE + pa, pa, size,
		      PT_RW | PT_GLOBAL | PT_ENCRYPTED);
}

void tlb_flush_local(void)
{
	u64 flags = irq_save();
	u64 cr4 = read_cr4();

	/* Clearing PGE drops global entries too (APM vol. 2, 5.5.3). */
	write_cr4(cr4 & ~CR4_PGE);
	write_cr4(cr4);
	irq_restore(flags);
}

static void flush_call(void *arg)
{
	(void)arg;
	tlb_flush_local();
}

void tlb_flush_all(void)
{
	smp_call_all(flush_call, NULL);
}
