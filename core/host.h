/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_HOST_H
#define RAVELIN_CORE_HOST_H

#include "core/types.h"

/* Reads the machine's clock, once at start, for vdev_wall_seconds(). */
void host_clock_init(void);
/* Nanoseconds since 1970 by the machine's clock and the TSC. */
u64 host_wall_ns(void);

#endif
