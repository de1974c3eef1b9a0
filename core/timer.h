/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_TIMER_H
#define RAVELIN_CORE_TIMER_H

#include "core/types.h"

/*
 * The devices' timers (vdev/host.h): a queue a CPU, sorted by deadline; a
 * device's timer is in the queue of the CPU where its vCPU lives.
 */

/* Own CPU, interrupts off: runs what is due; then the earliest deadline (TSC), 0 for none. */
void timer_run(void);
u64 timer_next(void);
/* core/sched.c: sets this CPU's hardware timer to what is needed next. Interrupts off. */
void timer_update(void);

#endif
