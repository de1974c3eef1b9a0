/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_VDEV_TICKS_H
#define RAVELIN_VDEV_TICKS_H

#include "core/types.h"

/*
 * Nanoseconds to ticks of a clock and back, without drift: every count is
 * derived from absolute time. hz is a constant below NS_PER_SEC; the whole range
 * of ns is allowed.
 */
#define NS_PER_SEC 1000000000ULL

/* No guest timer fires more often: what is missed in between is coalesced. */
#define VDEV_MIN_PERIOD_NS 20000ULL

/*
 * Ticks that have passed at time ns (rounded down). Devices do this at exits, so it
 * is without a division: the product with hz / NS_PER_SEC, rounded up to 64 binary
 * places, is right or one too many, which shows in the sign of the remainder.
 */
static inline __attribute__((always_inline)) u64 ticks_from_ns(u64 ns, u32 hz)
{
	u64 rate = (u64)(((unsigned __int128)hz << 64) / NS_PER_SEC) + 1;
	u64 ticks = (u64)((unsigned __int128)ns * rate >> 64);

	return ticks - ((ns * hz - ticks * NS_PER_SEC) >> 63);
}

/* The first nanosecond at which ticks_from_ns() gives `ticks`. */
static inline u64 ns_from_ticks(u64 ticks, u32 hz)
{
	return ticks / hz * NS_PER_SEC + (ticks % hz * NS_PER_SEC + hz - 1) / hz;
}

#endif
