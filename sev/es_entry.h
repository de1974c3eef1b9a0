/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_SEV_ES_ENTRY_H
#define RAVELIN_SEV_ES_ENTRY_H

#include "core/types.h"

struct vmsa;

/* VMRUN and back. GIF clear, RFLAGS.IF set. host: the save area of this CPU's host save area. */
void es_enter(paddr_t vmcb_pa, struct vmsa *host);
void es_enter_guarded(paddr_t vmcb_pa, struct vmsa *host);

#endif
