/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_MAIN_H
#define RAVELIN_CORE_MAIN_H

#include "core/boot_info.h"

/* From the doors, on the boot CPU with the first page tables: brings the machine up. */
void machine_start(struct boot_info *bi) __noreturn;

/*
 * Called by machine_start() on CPU 0 with all CPUs up, interrupts on: creates
 * the VMs and the shell, then runs the CPU for ever. *bi stays valid. Weak
 * default: says that the machine is up and idles.
 */
void core_start(const struct boot_info *bi) __noreturn;
/* What each other CPU runs for ever, interrupts on. Weak default: HLT loop. */
void cpu_idle_loop(void) __noreturn;
/* Called from the timer interrupt, interrupts off, EOI done. Weak default: nothing. */
void timer_interrupt(void);
/* Called for a kick IPI, interrupts off, EOI done. Weak default: nothing. */
void kick_interrupt(void);

/* The machine's boot information, constant after start. */
extern const struct boot_info *boot_info;

#endif
