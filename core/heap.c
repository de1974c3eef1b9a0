/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/heap.h"
#include "arch/x86/paging.h"
#include "core/panic.h"
#include "core/pmm.h"
#include "core/spinlock.h"
#include "core/string.h"

/*
 * Small sizes: a page holds pieces of one size, a header at its start has the
 * map of the used ones. Large sizes: a block of pages whose order is kept in a
 * table by address, so that the block itself stays page aligned.
 */
#define SLAB_MAGIC 0x51ab51abU
#define CLASSES 6 /* 64 .. 2048 bytes */
#define MIN_SHIFT 6
#define LARGE_SLOTS 4096
#define LARGE_ORDER_MAX 10

struct slab {
	u32 magic;
	u32 class;
	u32 used;
	u32 pad;
	u64 map; /* bit set: piece is in use */
	struct slab *next, *prev; /* in the list of slabs with a free piece */
};
_Static_assert(sizeof(struct slab) <= 64, "the header takes the place of the smallest piece");

static struct slab *partial[CLASSES];
static u64 large[LARGE_SLOTS]; /* address | order + 1, hashed by address; 0: empty, 1: removed */
static spinlock_t lock = SPINLOCK_INIT;

static u32 piece_size(u32 class)
{
	return 1U << (class + MIN_SHIFT);
}

/* Pieces start behind the header, at a multiple of their size. */
static u32 first_piece(u32 class)
{
	return MAX(piece_size(class), (u32)64);
}

static u32 pieces(u32 class)
{
	return (u32)(PAGE_SIZE - first_piece(class)) / piece_size(class);
}

static void list_add(struct slab *s)
{
	s->prev = NULL;
	s->next = partial[s->class];
	if (s->next != NULL)
		s->next->prev = s;
	partial[s->class] = s;
}

static void list_remove(struct slab *s)
{
	if (s->next != NULL)
		s->next->prev = s->prev;
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		partial[s->class] = s->next;
}

static struct slab *slab_new(u32 class)
{
	paddr_t pa = alloc_pages(ORDER_4K, ALLOC_ZERO);
	struct slab *s;

	if (pa == 0)
		return NULL;
	s = phys_to_virt(pa);
	s->magic = SLAB_MAGIC;
	s->class = class;
	list_add(s);
	return s;
}

static void *small_alloc(u32 class)
{
	struct slab *s = partial[class] != NULL ? partial[class] : slab_new(class);
	u32 i;

	if (s == NULL)
		return NULL;
	i = (u32)__builtin_ctzl(~s->map);
	s->map |= BIT(i);
	s->used++;
	if (s->used == pieces(class))
		list_remove(s);
	return (u8 *)s + first_piece(class) + i * piece_size(class);
}

/* NULL, or what is wrong with p. */
static const char *small_free(void *p)
{
	struct slab *s = (struct slab *)((uintptr_t)p & PAGE_MASK);
	u32 offset = (u32)((uintptr_t)p & ~PAGE_MASK);
	u32 i;

	if (s->magic != SLAB_MAGIC || s->class >= CLASSES || offset < first_piece(s->class))
		return "not from the heap";
	i = (offset - first_piece(s->class)) / piece_size(s->class);
	if (offset % piece_size(s->class) != 0 || (s->map & BIT(i)) == 0)
		return "free already";
	if (s->used == pieces(s->class))
		list_add(s);
	s->map &= ~BIT(i);
	s->used--;
	if (s->used == 0) {
		list_remove(s);
		s->magic = 0;
		free_pages(virt_to_phys(s), ORDER_4K);
	}
	return NULL;
}

static u32 large_hash(u64 address)
{
	return (u32)((address >> PAGE_SHIFT) * 0x9e3779b1U >> 7) % LARGE_SLOTS;
}

static void *large_alloc(u32 order)
{
	paddr_t pa = alloc_pages(order, 0);
	u64 address;

	if (pa == 0)
		return NULL;
	address = (u64)phys_to_virt(pa);
	for (u32 n = 0, i = large_hash(address); n < LARGE_SLOTS; n++, i = (i + 1) % LARGE_SLOTS) {
		if (large[i] <= 1) {
			large[i] = address | (order + 1);
			return (void *)address;
		}
	}
	free_pages(pa, order);
	return NULL;
}

static const char *large_free(void *p)
{
	u64 address = (u64)p;

	for (u32 n = 0, i = large_hash(address); n < LARGE_SLOTS && large[i] != 0;
	     n++, i = (i + 1) % LARGE_SLOTS) {
		if (large[i] > 1 && (large[i] & PAGE_MASK) == address) {
			free_pages(virt_to_phys(p), (u32)(large[i] & ~PAGE_MASK) - 1);
			/* A removed mark is only needed while a probe may have to pass here. */
			large[i] = large[(i + 1) % LARGE_SLOTS] == 0 ? 0 : 1;
			return NULL;
		}
	}
	return "not from the heap or free already";
}

void *heap_alloc(size_t size)
{
	size_t rounded = PAGE_SIZE;
	u32 order = 0, class = 0;
	u64 flags;
	void *p;

	if (size == 0 || size > PAGE_SIZE << LARGE_ORDER_MAX)
		return NULL;
	flags = spin_lock_irqsave(&lock);
	if (size <= piece_size(CLASSES - 1)) {
		while (piece_size(class) < size)
			class++;
		rounded = piece_size(class);
		p = small_alloc(class);
	} else {
		while (PAGE_SIZE << order < size)
			order++;
		rounded = PAGE_SIZE << order;
		p = large_alloc(order);
	}
	spin_unlock_irqrestore(&lock, flags);
	if (p != NULL)
		memset(p, 0, rounded);
	return p;
}

void heap_free(void *p)
{
	const char *wrong;
	u64 flags;

	if (p == NULL)
		return;
	flags = spin_lock_irqsave(&lock);
	wrong = IS_ALIGNED((uintptr_t)p, PAGE_SIZE) ? large_free(p) : small_free(p);
	spin_unlock_irqrestore(&lock, flags);
	if (wrong != NULL)
		panic("heap_free: %p is %s", p, wrong);
}
