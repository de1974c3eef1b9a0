/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/paging.h"
#include "core/errno.h"
#include "core/pmm.h"

/* Bits of the AMD64 formats (APM vol. 2, 5.3 and 5.4). */
#define P BIT(0)
#define W BIT(1)
#define U BIT(2)
#define PWT BIT(3)
#define PCD BIT(4)
#define A BIT(5)
#define D BIT(6)
#define PS BIT(7)
#define PAT_4K BIT(7)
#define G BIT(8)
#define PAT_LARGE BIT(12)
#define NX BIT(63)
#define ADDR 0x000ffffffffff000UL

/* Entry 3 of the PAT is UC, entry 4 (the PAT bit alone) is WC: PAT_HOST in msr.h. */
#define AMD64_MEMORY                                                              \
	.mem_uc = PWT | PCD, .mem_wc = PAT_4K, .mem_mask = PWT | PCD | PAT_4K,    \
	.mem_uc_large = PWT | PCD, .mem_wc_large = PAT_LARGE,                     \
	.mem_mask_large = PWT | PCD | PAT_LARGE, .large = PS, .addr_mask = ADDR

struct pt_format pt_format_host = {
	.name = "host", .levels = 4, .large_levels = BIT32(1) | BIT32(2),
	.present = P, .write = W, .no_exec = NX, .user = U, .global = G,
	.leaf_fixed = P | A | D, .table_fixed = P | W | A, AMD64_MEMORY
};

/* The nested walk is a user access: every level needs U (APM vol. 2, 15.25.5). */
const struct pt_format pt_format_npt = {
	.name = "NPT", .levels = 4, .large_levels = BIT32(1) | BIT32(2) | BIT32(3),
	.present = P, .write = W, .no_exec = NX,
	.leaf_fixed = P | U | A | D, .table_fixed = P | W | U | A, AMD64_MEMORY
};

/* SDM vol. 3, table 29-7: rights in bits 2:0, memory type in 5:3 (0 UC, 1 WC, 6 WB). */
#define EPT_MEMORY                                                                \
	.mem_wb = 6UL << 3, .mem_wc = 1UL << 3, .mem_mask = 7UL << 3,             \
	.mem_wb_large = 6UL << 3, .mem_wc_large = 1UL << 3,                       \
	.mem_mask_large = 7UL << 3, .large = PS, .addr_mask = ADDR

const struct pt_format pt_format_ept = {
	.name = "EPT", .levels = 4, .large_levels = BIT32(1) | BIT32(2) | BIT32(3),
	.present = 7, .read = BIT(0), .write = BIT(1), .exec = BIT(2), .table_fixed = 7, EPT_MEMORY
};

const struct pt_format pt_format_ept_2m = {
	.name = "EPT without 1G pages", .levels = 4, .large_levels = BIT32(1) | BIT32(2),
	.present = 7, .read = BIT(0), .write = BIT(1), .exec = BIT(2), .table_fixed = 7, EPT_MEMORY
};

static u64 level_size(u32 level)
{
	return PAGE_SIZE << (9 * (level - 1));
}

static u64 *entry_at(paddr_t table, u64 va, u32 level)
{
	u64 *t = phys_to_virt(table);

	return &t[va >> (PAGE_SHIFT + 9 * (level - 1)) & 511];
}

static bool is_leaf(const struct pt_format *f, u64 entry, u32 level)
{
	return level == 1 || (entry & f->large) != 0;
}

/* Entries are read by other CPUs' table walkers: written whole. */
static void set_entry(u64 *e, u64 value)
{
	__atomic_store_n(e, value, __ATOMIC_RELEASE);
}

static u64 memory_bits(const struct pt_format *f, u32 prot, bool large)
{
	if ((prot & PT_UC) != 0)
		return large ? f->mem_uc_large : f->mem_uc;
	if ((prot & PT_WC) != 0)
		return large ? f->mem_wc_large : f->mem_wc;
	return large ? f->mem_wb_large : f->mem_wb;
}

static u64 make_leaf(const struct pt_format *f, paddr_t pa, u32 prot, u32 level)
{
	u64 e = pa | f->leaf_fixed | memory_bits(f, prot, level > 1);

	if (level > 1)
		e |= f->large;
	e |= (prot & PT_READ) != 0 ? f->read : 0;
	e |= (prot & PT_WRITE) != 0 ? f->write : 0;
	e |= (prot & PT_EXEC) != 0 ? f->exec : f->no_exec;
	e |= (prot & PT_USER) != 0 ? f->user : 0;
	e |= (prot & PT_GLOBAL) != 0 ? f->global : 0;
	e |= (prot & PT_ENCRYPTED) != 0 ? host_c_bit : 0;
	return e;
}

static u32 leaf_prot(const struct pt_format *f, u64 e, u32 level)
{
	u64 mem = e & (level > 1 ? f->mem_mask_large : f->mem_mask);
	u32 prot = 0;

	if (f->read == 0 || (e & f->read) != 0)
		prot |= PT_READ;
	if ((e & f->write) != 0)
		prot |= PT_WRITE;
	if (f->exec != 0 ? (e & f->exec) != 0 : (e & f->no_exec) == 0)
		prot |= PT_EXEC;
	if ((e & f->user) != 0)
		prot |= PT_USER;
	if ((e & f->global) != 0)
		prot |= PT_GLOBAL;
	if ((e & host_c_bit) != 0)
		prot |= PT_ENCRYPTED;
	if (mem == memory_bits(f, PT_UC, level > 1))
		prot |= PT_UC;
	else if (mem == memory_bits(f, PT_WC, level > 1))
		prot |= PT_WC;
	return prot;
}

static paddr_t table_pa(const struct pt *pt, u64 e)
{
	return e & pt->fmt->addr_mask & ~host_c_bit;
}

static paddr_t leaf_pa(const struct pt *pt, u64 e, u32 level)
{
	return table_pa(pt, e) & ~(level_size(level) - 1);
}

static paddr_t new_table(struct pt *pt)
{
	paddr_t pa = alloc_pages(ORDER_4K, ALLOC_ZERO | pt->alloc_flags);

	if (pa != 0)
		pt->tables++;
	return pa;
}

int pt_init(struct pt *pt, const struct pt_format *fmt)
{
	pt->fmt = fmt;
	pt->tables = 0;
	pt->root = new_table(pt);
	return pt->root != 0 ? 0 : -ENOMEM;
}

/* Depth-first with an index per level instead of recursion. */
void pt_destroy(struct pt *pt)
{
	const struct pt_format *f = pt->fmt;
	paddr_t table[6];
	u32 index[6] = { 0 };
	u32 level;

	if (pt->root == 0)
		return; /* the VM's creation failed before pt_init() */
	level = f->levels;
	table[level] = pt->root;
	while (level <= f->levels) {
		u64 *t = phys_to_virt(table[level]);
		u64 e;

		if (level == 1 || index[level] == 512) {
			free_pages(table[level], ORDER_4K);
			level++;
			continue;
		}
		e = t[index[level]++];
		if ((e & f->present) == 0 || is_leaf(f, e, level))
			continue;
		level--;
		table[level] = table_pa(pt, e);
		index[level] = 0;
	}
	pt->root = 0;
	pt->tables = 0;
}

/* Goes down to the leaf or the hole that va is in. Returns its level, *e points to it. */
static u32 walk(const struct pt *pt, u64 va, u64 **e)
{
	const struct pt_format *f = pt->fmt;
	paddr_t table = pt->root;

	for (u32 level = f->levels;; level--) {
		*e = entry_at(table, va, level);
		if ((**e & f->present) == 0 || is_leaf(f, **e, level))
			return level;
		table = table_pa(pt, **e);
	}
}

int pt_lookup(const struct pt *pt, u64 va, struct pt_walk *w)
{
	u64 *e;
	u32 level = walk(pt, va, &e);
	u64 size = level_size(level);

	w->page_size = size;
	w->entry = *e;
	w->prot = 0;
	w->pa = 0;
	if ((*e & pt->fmt->present) == 0)
		return -ENOENT;
	w->pa = leaf_pa(pt, *e, level) + (va & (size - 1));
	w->prot = leaf_prot(pt->fmt, *e, level);
	return 0;
}

static bool bad_range(u64 va, u64 size)
{
	return ((va | size) & ~PAGE_MASK) != 0 || size == 0 || (va + size < va && va + size != 0);
}

static u64 step(u64 va, u64 page_size)
{
	return page_size - (va & (page_size - 1));
}

static bool range_empty(const struct pt *pt, u64 va, u64 size)
{
	for (u64 done = 0; done < size;) {
		struct pt_walk w;

		if (pt_lookup(pt, va + done, &w) == 0)
			return false;
		done += step(va + done, w.page_size);
	}
	return true;
}

static bool fits(const struct pt_format *f, u32 level, u64 va, paddr_t pa, u64 size)
{
	return (f->large_levels & BIT32(level)) != 0 && size >= level_size(level) &&
	       ((va | pa) & (level_size(level) - 1)) == 0;
}

/* Writes one leaf of the largest size possible; returns its size, 0 when memory is out. */
static u64 map_one(struct pt *pt, u64 va, paddr_t pa, u64 size, u32 prot)
{
	const struct pt_format *f = pt->fmt;
	paddr_t table = pt->root;

	for (u32 level = f->levels;; level--) {
		u64 *e = entry_at(table, va, level);

		if ((*e & f->present) != 0) {
			table = table_pa(pt, *e);
			continue;
		}
		if (fits(f, level, va, pa, size)) {
			set_entry(e, make_leaf(f, pa, prot, level));
			return level_size(level);
		}
		table = new_table(pt);
		if (table == 0)
			return 0;
		set_entry(e, machine_pa(table) | f->table_fixed);
	}
}

int pt_map(struct pt *pt, u64 va, paddr_t pa, u64 size, u32 prot)
{
	u64 done = 0;

	if (bad_range(va, size) || (pa & ~(pt->fmt->addr_mask)) != 0 || (prot & PT_RWX) == 0)
		return -EINVAL;
	if (!range_empty(pt, va, size))
		return -EEXIST;
	while (done < size) {
		u64 n = map_one(pt, va + done, pa + done, size - done, prot);

		if (n == 0) {
			/* What was mapped here are whole pages of the range: no split, no error. */
			if (done > 0)
				(void)pt_unmap(pt, va, done);
			return -ENOMEM;
		}
		done += n;
	}
	return 0;
}

/* Replaces a large leaf by a table of leaves one level below with the same meaning. */
static int split(struct pt *pt, u64 *e, u32 level)
{
	paddr_t pa = leaf_pa(pt, *e, level);
	u32 prot = leaf_prot(pt->fmt, *e, level);
	paddr_t table = new_table(pt);
	u64 *t;

	if (table == 0)
		return -ENOMEM;
	t = phys_to_virt(table);
	for (u32 i = 0; i < 512; i++)
		t[i] = make_leaf(pt->fmt, pa + i * level_size(level - 1), prot, level - 1);
	set_entry(e, machine_pa(table) | pt->fmt->table_fixed);
	return 0;
}

static int change(struct pt *pt, u64 va, u64 size, bool unmap, u32 prot)
{
	u64 done = 0;

	if (bad_range(va, size))
		return -EINVAL;
	while (done < size) {
		u64 *e;
		u32 level = walk(pt, va + done, &e);
		u64 page = level_size(level);

		if ((*e & pt->fmt->present) == 0) {
			done += step(va + done, page);
		} else if (((va + done) & (page - 1)) != 0 || size - done < page) {
			int err = split(pt, e, level);

			if (err != 0)
				return err;
		} else {
			u64 leaf = make_leaf(pt->fmt, leaf_pa(pt, *e, level), prot, level);

			set_entry(e, unmap ? 0 : leaf);
			done += page;
		}
	}
	return 0;
}

int pt_unmap(struct pt *pt, u64 va, u64 size)
{
	return change(pt, va, size, true, 0);
}

int pt_protect(struct pt *pt, u64 va, u64 size, u32 prot)
{
	if ((prot & PT_RWX) == 0)
		return -EINVAL;
	return change(pt, va, size, false, prot);
}
