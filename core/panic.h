/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_PANIC_H
#define RAVELIN_CORE_PANIC_H

#include "core/types.h"

/* Reports, stops all CPUs, prints a back-trace and halts for ever. Any context. */
void panic(const char *fmt, ...) __printf(1, 2) __noreturn;

/* A condition that only a bug in the hypervisor can make false. Always compiled in. */
#define ASSERT(x)                                                                    \
	do {                                                                         \
		if (unlikely(!(x)))                                                  \
			panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #x); \
	} while (0)

/* Gives the stack protector a value that this start chose. From a function that never returns, as
 * no frame entered before may be left after. */
void stack_guard_init(void);

#endif
