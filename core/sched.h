/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_SCHED_H
#define RAVELIN_CORE_SCHED_H

#include "core/config.h"
#include "core/types.h"

struct vcpu;
struct vm;

/*
 * Each CPU has a queue of the vCPUs that live on it and want to run. One alone
 * runs without a tick; several are time-sliced round robin.
 */
#define SCHED_SLICE_US 5000U

/* Every CPU for ever, interrupts on. CPU 0 also serves the console and power events. */
void sched_loop(void) __noreturn;

/* v has something to do: into its CPU's queue, unless it is there or runs. Any context. */
void sched_wake(struct vcpu *v);
/* The same for sets of vCPUs that have been seen away, with wait_start set to `now`, and current.
 * Interrupts off. id: the VM's, asked for by everything on the way. Returns `answer`: so its caller
 * has nothing to keep meanwhile. */
u64 sched_wake_set(const struct vm *vm, u64 running, u64 now, u64 id, u64 away, u64 answer);
/* v, if it waits for the calling CPU, runs next for the rest of the current slice. False: it does
 * not wait here, or the slice is over. Own CPU, exit path. */
bool sched_boost(struct vcpu *v);
/* Takes v off its CPU and waits until it does not run. Interrupts on, CPU 0, not from v's loop. */
void sched_remove(struct vcpu *v);
/* Gives v a home among the CPUs of the set (empty: any): the one with the fewest vCPUs. */
void sched_place(struct vcpu *v, const struct cpu_set *affinity);
/* v leaves its home for good. */
void sched_unplace(struct vcpu *v);
/* Does another vCPU wait for the CPU that v runs on? Own CPU. */
bool sched_others_wait(const struct vcpu *v);

/* Wakes CPU 0's loop: a console or a VM has something for it. Any context. */
void sched_notify_cpu0(void);

/* TSC ticks that the CPU spent in guests and in HLT since start. */
struct sched_stats {
	u64 guest_tsc, idle_tsc;
	u32 homed;    /* vCPUs that live here */
	u32 runnable; /* in the queue or running */
	const struct vcpu *current; /* for display only */
};
void sched_stats(u32 cpu, struct sched_stats *s);

#endif
