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

/* Bit strings of eight words, which others change at any time. */
typedef u32 bits256_t[8];

static inline bool bits_test(const bits256_t *bits, u32 n)
{
	bool set;

	__asm__ volatile("btl %2, %1" : "=@ccc"(set) : "m"(*bits), "r"(n));
	return set;
}

/* True: it was set before. A full barrier. */
static inline bool bits_set(bits256_t *bits, u32 n)
{
	bool set;

	__asm__ volatile("lock btsl %2, %1" : "=@ccc"(set), "+m"(*bits) : "r"(n) : "memory");
	return set;
}

#endif
