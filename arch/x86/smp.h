/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_SMP_H
#define RAVELIN_ARCH_X86_SMP_H

#include "arch/x86/percpu.h"

/* Boot CPU: private areas and page tables for all CPUs that ACPI names. */
int smp_prepare(void);
/* Starts the other CPUs; those that do not answer are logged and left out. Returns cpu_count. */
u32 smp_start(void);

/*
 * Runs fn(arg) on a CPU (interrupts off there) and waits until it is done; arg must not point into
 * the stack, which each CPU has at the same address for itself. On
 * the own CPU a plain call. Interrupts on, no lock held that an interrupt
 * handler takes. -EINVAL: no such CPU.
 */
int smp_call(u32 cpu, void (*fn)(void *arg), void *arg);
/* As smp_call() to another CPU, and the calling CPU runs fn(arg) at the same time. */
int smp_call_both(u32 cpu, void (*fn)(void *arg), void *arg);
/* On every CPU, the own one included, one after another. */
void smp_call_all(void (*fn)(void *arg), void *arg);
/* Halts all other CPUs for good (panic, power off). Any context. */
void smp_stop_others(void);

#endif
