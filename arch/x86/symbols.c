/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/symbols.h"
#include "arch/x86/paging.h"
#include "core/string.h"

/* Written by tools/symbols.awk after the first link. Small rather than fast: it is read in reports. */
extern const u32 symbol_count;
extern const u16 symbol_table[]; /* from the one before, the first from IMAGE_BASE; ascending */
extern const char symbol_names[];
extern const char text_start[], text_end[];

const char *symbol_name(u64 address, u64 *offset)
{
	const char *name = symbol_names, *found = "?";
	u64 at = IMAGE_BASE;

	*offset = 0;
	if (address < (u64)text_start || address >= (u64)text_end)
		return found;
	for (u32 i = 0; i < symbol_count && at + symbol_table[i] <= address; i++) {
		at += symbol_table[i];
		found = name;
		name += strlen(name) + 1;
	}
	*offset = address - at;
	return found;
}
