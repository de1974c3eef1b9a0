/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_CONSOLE_H
#define RAVELIN_CORE_CONSOLE_H

#include "core/types.h"

/*
 * The console multiplexer: the machine's console belongs to the shell or is
 * attached to one serial port of a guest. Each guest port has a ring for what
 * the guest sends; while it is detached the oldest text makes room.
 */
struct vm;

/*
 * Moves text between guests, shell and the machine's console. CPU 0's scheduler
 * calls it in its loop after console_notify(), interrupts on. A call moves a
 * bounded amount; when more is waiting it notifies itself.
 */
void console_task(void);
/* Asks for a console_task() soon. Any CPU, any context. The scheduler's. */
void console_notify(void);

/* Once, after the VMs of the configuration are created: the first prompt, or the VM of `attach`. */
void console_start(void);

/* Gives the console to a guest's serial port (0 or 1) and shows what it kept. CPU 0. */
void console_attach(struct vm *vm, u32 port);
/* Gives it back to the shell. */
void console_detach(void);
/* The VM that has the console, NULL: the shell. */
struct vm *console_owner(void);

#endif
