/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_BITS_H
#define RAVELIN_ARCH_X86_BITS_H

#include "core/types.h"

/*
 * Sets of bits where instructions count: BSF, BT, BTS and BTR, by themselves
 * (APM vol. 3). With a bit number in a register the memory operand is a bit
 * string of any length.
 */

/* The lowest member of a set that is not empty: __builtin_ctzll() is three instructions for the
 * processors that we build for. */
static inline u64 lowest_bit(u64 set)
{
	u64 n;

	__asm__("bsfq %1, %0" : "=r"(n) : "r"(set) : "cc");
	return n;
}

/* False: the set is empty. */
static inline bool next_bit(u64 set, u64 *n)
{
	bool empty;

	__asm__("bsfq %2, %0" : "=r"(*n), "=@ccz"(empty) : "r"(set));
	return !empty;
}

static inline u64 with_bit(u64 set, u64 n)
{
	__asm__("btsq %1, %0" : "+r"(set) : "r"(n) : "cc");
	return set;
}

static inline u64 without_bit(u64 set, u64 n)
{
	__asm__("btrq %1, %0" : "+r"(set) : "r"(n) : "cc");
	return set;
}

/* Sets bit n of an array or word that others change at any time; true: it was set before. A full barrier. */
#define bits_set(bits, n) \
	({ \
		bool set_; \
		__asm__ volatile("lock btsl %2, %1" \
				 : "=@ccc"(set_), "+m"(bits) : "r"((u32)(n)) : "memory"); \
		set_; \
	})

#endif
