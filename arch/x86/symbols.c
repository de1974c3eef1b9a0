/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/symbols.h"
#include "arch/x86/paging.h"

/* Written by tools/symbols.awk after the first link. */
struct symbol {
	u32 offset; /* from IMAGE_BASE, ascending */
	u32 name;   /* in symbol_names */
};
extern const u32 symbol_count;
extern const struct symbol symbol_table[];
extern const char symbol_names[];
extern const char text_start[], text_end[];

const char *symbol_name(u64 address, u64 *offset)
{
	u32 low = 0, high = symbol_count;

	*offset = 0;
	if (address < (u64)text_start || address >= (u64)text_end || high == 0)
		return "?";
	while (high - low > 1) {
		u32 middle = (low + high) / 2;

		if (symbol_table[middle].offset <= address - IMAGE_BASE)
			low = middle;
		else
			high = middle;
	}
	*offset = address - IMAGE_BASE - symbol_table[low].offset;
	return symbol_names + symbol_table[low].name;
}
