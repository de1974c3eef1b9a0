/* SPDX-License-Identifier: BSD-2-Clause */
/* A neighbour: counts for ever, and looks each time whether its memory is as it left it. */
#include "rt.h"

int main(void);

#define WORDS 0x40000u /* 2 MiB */
static u64 memory[WORDS];

static u64 pattern(u64 i) { return i * 0x9E3779B97F4A7C15; }

int main(void)
{
	rt_init();
	for (u64 i = 0; i < WORDS; i++)
		memory[i] = pattern(i);
	for (u64 n = 1;; n++) {
		u32 changed = 0;

		for (u32 pass = 0; pass < 32; pass++)
			for (u64 i = 0; i < WORDS; i++)
				changed += ((volatile u64 *)memory)[i] != pattern(i);
		print("count: %lu %s\n", n, changed ? "CHANGED" : "unchanged");
	}
}
