/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_PMM_H
#define RAVELIN_CORE_PMM_H

#include "core/types.h"

/*
 * Physical memory: blocks of 2^order frames of 4 KiB, aligned to their size,
 * order 0 to 18 (1 GiB). All functions may be called on any CPU in any context
 * but NMI.
 */
#define PMM_ORDERS 19
#define ORDER_4K 0U
#define ORDER_2M 9U
#define ORDER_1G 18U

#define ALLOC_ZERO BIT32(0)     /* filled with zero bytes */
#define ALLOC_BELOW_4G BIT32(1) /* ends at or below 4 GiB */

/* The block's physical address, or 0 when there is none (frame 0 is never handed out). */
paddr_t alloc_pages(u32 order, u32 flags);
/*
 * Gives a block back. A part of an allocated block may be freed alone. Panics
 * on a double free and on memory that the allocator never owned.
 */
void free_pages(paddr_t pa, u32 order);

u64 pmm_free_count(void);  /* 4 KiB frames free now; exact */
u64 pmm_total_count(void); /* frames the allocator owns, free or not */

/*
 * Start-up. pmm_init: bookkeeping for frames below max_pa goes to the
 * pmm_meta_size(max_pa) bytes at meta (any content). pmm_add: [base, base+size)
 * becomes free memory; partial frames are left out. -EINVAL beyond max_pa,
 * -ENOSPC after PMM_RANGES ranges, -EEXIST when it overlaps an earlier one.
 */
#define PMM_RANGES 256
size_t pmm_meta_size(paddr_t max_pa);
void pmm_init(paddr_t max_pa, void *meta);
int pmm_add(paddr_t base, u64 size);

#endif
