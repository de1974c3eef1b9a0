/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_VDEV_TICKS_H
#define RAVELIN_VDEV_TICKS_H

#include "core/types.h"

/*
 * Nanoseconds to ticks of a clock and back, without drift: every count is
 * derived from absolute time. hz is below 2^32 and the whole range of ns is
 * allowed; no intermediate value exceeds 64 bits.
 */
#define NS_PER_SEC 1000000000ULL

/* No guest timer fires more often: what is missed in between is coalesced. */
#define VDEV_MIN_PERIOD_NS 20000ULL

/* Ticks that have passed at time ns (rounded down). */
static inline u64 ticks_from_ns(u64 ns, u32 hz)
{
	return ns / NS_PER_SEC * hz + ns % NS_PER_SEC * hz / NS_PER_SEC;
}

/* The first nanosecond at which ticks_from_ns() gives `ticks`. */
static inline u64 ns_from_ticks(u64 ticks, u32 hz)
{
	return ticks / hz * NS_PER_SEC + (ticks % hz * NS_PER_SEC + hz - 1) / hz;
}

#endif
