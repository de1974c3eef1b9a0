/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/pmm.h"
#include "arch/x86/paging.h"
#include "core/errno.h"
#include "core/panic.h"
#include "core/spinlock.h"
#include "core/string.h"

/*
 * A buddy allocator on bitmaps: per order one bit for each aligned block, set
 * while that block is free as a whole. Above each bitmap stand summaries, one
 * bit for 64 below, so that a free block is found in one step per level. The
 * free memory itself is never touched.
 */
#define LEVELS 6

struct bitmap {
	u64 bits;          /* blocks of this order */
	u32 levels;
	u64 *word[LEVELS]; /* word[0]: the blocks; word[n]: which words of word[n-1] are not 0 */
};

struct range {
	u64 start, end; /* frames */
};

static struct bitmap maps[PMM_ORDERS];
static struct range ranges[PMM_RANGES];
static u32 range_count;
static u64 max_frame;
static u64 free_frames, total_frames;
static spinlock_t lock = SPINLOCK_INIT;

static u64 words_for(u64 bits)
{
	return (bits + 63) / 64;
}

static u64 order_bits(u64 frames, u32 order)
{
	return (frames + BIT(order) - 1) >> order;
}

size_t pmm_meta_size(paddr_t max_pa)
{
	u64 words = 0;

	for (u32 order = 0; order < PMM_ORDERS; order++) {
		u64 bits = order_bits(max_pa >> PAGE_SHIFT, order);

		do {
			bits = words_for(bits);
			words += bits;
		} while (bits > 1);
	}
	return words * sizeof(u64);
}

void pmm_init(paddr_t max_pa, void *meta)
{
	u64 *next = meta;

	max_frame = max_pa >> PAGE_SHIFT;
	range_count = 0;
	free_frames = 0;
	total_frames = 0;
	memset(meta, 0, pmm_meta_size(max_pa));
	for (u32 order = 0; order < PMM_ORDERS; order++) {
		struct bitmap *m = &maps[order];
		u64 n;

		m->bits = order_bits(max_frame, order);
		m->levels = 0;
		n = m->bits;
		do {
			n = words_for(n);
			m->word[m->levels++] = next;
			next += n;
		} while (n > 1);
	}
}

static bool bit_get(const struct bitmap *m, u64 i)
{
	return i < m->bits && (m->word[0][i / 64] & BIT(i % 64)) != 0;
}

static void bit_set(struct bitmap *m, u64 i)
{
	for (u32 l = 0; l < m->levels; l++, i /= 64)
		m->word[l][i / 64] |= BIT(i % 64);
}

static void bit_clear(struct bitmap *m, u64 i)
{
	for (u32 l = 0; l < m->levels; l++, i /= 64) {
		m->word[l][i / 64] &= ~BIT(i % 64);
		if (m->word[l][i / 64] != 0)
			break;
	}
}

/* The first (lowest) or last set bit. */
static bool bit_find(const struct bitmap *m, bool lowest, u64 *index)
{
	u64 i = 0;

	for (u32 l = m->levels; l-- > 0;) {
		u64 w = m->word[l][i];

		if (w == 0)
			return false;
		i = i * 64 + (u64)(lowest ? __builtin_ctzl(w) : 63 - __builtin_clzl(w));
	}
	*index = i;
	return true;
}

#define FRAMES_4G (GIB(4) >> PAGE_SHIFT)

/*
 * The smallest free block that can serve. Low memory is scarce: whoever does
 * not need it gets the highest block, and one below 4 GiB only when there is no
 * other.
 */
static bool choose(u32 order, bool below_4g, u32 *block_order, u64 *index)
{
	bool found = false;

	*block_order = 0;
	*index = 0;
	for (u32 o = order; o < PMM_ORDERS; o++) {
		u64 i;

		if (!bit_find(&maps[o], below_4g, &i))
			continue;
		if (below_4g ? (i << o) + BIT(order) <= FRAMES_4G : i << o >= FRAMES_4G) {
			*block_order = o;
			*index = i;
			return true;
		}
		if (!below_4g && !found) {
			found = true;
			*block_order = o;
			*index = i;
		}
	}
	return found;
}

/* Takes the lower end of the block for low memory, the upper end else; the rest stays free. */
static bool take(u32 order, bool below_4g, u64 *frame)
{
	u64 i, f;
	u32 o;

	if (!choose(order, below_4g, &o, &i))
		return false;
	bit_clear(&maps[o], i);
	f = i << o;
	while (o > order) {
		o--;
		if (below_4g) {
			bit_set(&maps[o], (f >> o) + 1);
		} else {
			bit_set(&maps[o], f >> o);
			f += BIT(o);
		}
	}
	free_frames -= BIT(order);
	*frame = f;
	return true;
}

/* A cache line a turn: as fast as the string instructions, much faster where those are emulated. */
static void zero(u64 *p, u64 size)
{
	for (u64 *end = p + size / sizeof(*p); p != end; p += 8) {
		p[0] = p[1] = p[2] = p[3] = 0;
		p[4] = p[5] = p[6] = p[7] = 0;
		__asm__ volatile("" : : : "memory"); /* not a call of memset() */
	}
}

paddr_t alloc_pages(u32 order, u32 flags)
{
	u64 saved, frame;
	bool ok;

	if (order >= PMM_ORDERS)
		return 0;
	saved = spin_lock_irqsave(&lock);
	ok = take(order, (flags & ALLOC_BELOW_4G) != 0, &frame);
	spin_unlock_irqrestore(&lock, saved);
	if (!ok)
		return 0;
	if ((flags & ALLOC_ZERO) != 0)
		zero(phys_to_virt(frame << PAGE_SHIFT), PAGE_SIZE << order);
	return frame << PAGE_SHIFT;
}

static bool any_bit(const struct bitmap *m, u64 first, u64 count)
{
	if (count < 64)
		return (m->word[0][first / 64] >> (first % 64) & (BIT(count) - 1)) != 0;
	for (u64 w = first / 64; w < (first + count) / 64; w++) {
		if (m->word[0][w] != 0)
			return true;
	}
	return false;
}

/* Is any frame of the block free, alone or in a smaller or larger block? */
static bool any_free(u64 frame, u32 order)
{
	for (u32 o = 0; o < PMM_ORDERS; o++) {
		if (o >= order ? bit_get(&maps[o], frame >> o)
			       : any_bit(&maps[o], frame >> o, BIT(order - o)))
			return true;
	}
	return false;
}

static bool is_owned(u64 frame, u32 order)
{
	for (u32 i = 0; i < range_count; i++) {
		if (frame >= ranges[i].start && frame + BIT(order) <= ranges[i].end)
			return true;
	}
	return false;
}

static void give(u64 frame, u32 order)
{
	free_frames += BIT(order);
	/* Join with the other half as long as that is free too. */
	while (order < PMM_ORDERS - 1 && bit_get(&maps[order], (frame >> order) ^ 1)) {
		bit_clear(&maps[order], (frame >> order) ^ 1);
		order++;
		frame &= ~(BIT(order) - 1);
	}
	bit_set(&maps[order], frame >> order);
}

void free_pages(paddr_t pa, u32 order)
{
	u64 frame = pa >> PAGE_SHIFT;
	u64 saved;
	bool twice;

	if (order >= PMM_ORDERS || !IS_ALIGNED(pa, PAGE_SIZE << order) || !is_owned(frame, order))
		panic("free_pages: 0x%lx order %u is not the allocator's", pa, order);
	saved = spin_lock_irqsave(&lock);
	twice = any_free(frame, order);
	if (!twice)
		give(frame, order);
	spin_unlock_irqrestore(&lock, saved);
	if (twice)
		panic("free_pages: 0x%lx order %u is free already", pa, order);
}

/* Neighbouring ranges join, so that a block may lie across what two calls gave. */
static int add_range(u64 start, u64 end)
{
	for (u32 i = 0; i < range_count; i++) {
		if (start < ranges[i].end && end > ranges[i].start)
			return -EEXIST;
	}
	for (u32 i = 0; i < range_count; i++) {
		if (ranges[i].end == start) {
			ranges[i].end = end;
			return 0;
		}
	}
	if (range_count == PMM_RANGES)
		return -ENOSPC;
	ranges[range_count++] = (struct range){ start, end };
	return 0;
}

int pmm_add(paddr_t base, u64 size)
{
	u64 start = MAX(ALIGN_UP(base, PAGE_SIZE) >> PAGE_SHIFT, 1UL);
	u64 end = (base + size) >> PAGE_SHIFT;
	u64 saved;
	int err;

	if (base + size < base || end > max_frame)
		return -EINVAL;
	if (start >= end)
		return 0;
	saved = spin_lock_irqsave(&lock);
	err = add_range(start, end);
	while (err == 0 && start < end) {
		u32 order = MIN((u32)__builtin_ctzl(start), PMM_ORDERS - 1);

		while (start + BIT(order) > end)
			order--;
		total_frames += BIT(order);
		give(start, order);
		start += BIT(order);
	}
	spin_unlock_irqrestore(&lock, saved);
	return err;
}

u64 pmm_free_count(void)
{
	return __atomic_load_n(&free_frames, __ATOMIC_RELAXED);
}

u64 pmm_total_count(void)
{
	return total_frames;
}
