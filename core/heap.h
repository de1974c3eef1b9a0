/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_HEAP_H
#define RAVELIN_CORE_HEAP_H

#include "core/types.h"

/*
 * Memory for bookkeeping at start and at VM creation, never on an exit. Sizes
 * up to half a page are served from pages of equal pieces, larger ones from
 * whole blocks of pages (page aligned). Zeroed. NULL when memory is out or size
 * is 0 or above 4 MiB. Any CPU, any context but NMI.
 */
void *heap_alloc(size_t size);
/* NULL is allowed. Panics on a pointer that heap_alloc() did not give, or a second free. */
void heap_free(void *p);

#endif
