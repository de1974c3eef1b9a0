/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_SEV_ES_ENTRY_H
#define RAVELIN_SEV_ES_ENTRY_H

#include "core/types.h"

struct vmsa;

/* VMRUN and back. GIF clear, RFLAGS.IF set. host: the save area of this CPU's host save area. */
void es_enter(paddr_t vmcb_pa, struct vmsa *host);
void es_enter_guarded(paddr_t vmcb_pa, struct vmsa *host);

#ifdef ES_TEST_HOOKS
void es_enter_skip_r13(paddr_t vmcb_pa, struct vmsa *host);
u64 es_enter_checked(paddr_t vmcb_pa, struct vmsa *host, const u64 pattern[6],
		     void (*enter)(paddr_t vmcb_pa, struct vmsa *host));
#endif

#endif
