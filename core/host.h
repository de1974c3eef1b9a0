/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_HOST_H
#define RAVELIN_CORE_HOST_H

/* Reads the machine's clock, once at start, for vdev_wall_seconds(). */
void host_clock_init(void);

#endif
