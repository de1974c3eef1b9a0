/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/offsets.h"
#include "sev/vmsa.h"

/* For es_entry.asm. */
static void __used offsets(void)
{
	DEFINE(VMSA_RBX, offsetof(struct vmsa, rbx));
	DEFINE(VMSA_RBP, offsetof(struct vmsa, rbp));
	DEFINE(VMSA_R12, offsetof(struct vmsa, r8_15) + 4 * 8);
	DEFINE(VMSA_R13, offsetof(struct vmsa, r8_15) + 5 * 8);
	DEFINE(VMSA_R14, offsetof(struct vmsa, r8_15) + 6 * 8);
	DEFINE(VMSA_R15, offsetof(struct vmsa, r8_15) + 7 * 8);
}
