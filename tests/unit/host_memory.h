/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_TESTS_UNIT_HOST_MEMORY_H
#define RAVELIN_TESTS_UNIT_HOST_MEMORY_H

/*
 * "Physical" memory for tests of the allocators and page tables: a range of
 * the host process stands for HOST_RAM bytes at physical HOST_RAM_BASE. Panics
 * come back to the test by expect_panic().
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>

#include "arch/x86/paging.h"
#include "core/panic.h"

#define HOST_RAM_BASE 0x40000000UL
#define HOST_RAM MIB(64)

static unsigned char *host_ram;
static jmp_buf panic_exit;
static bool panic_expected;
bool panicked; /* by PANICS */
static char panic_text[256];

void *phys_to_virt(paddr_t pa)
{
	if (pa < HOST_RAM_BASE || pa >= HOST_RAM_BASE + HOST_RAM) {
		fprintf(stderr, "phys_to_virt(0x%lx) is outside of the test's memory\n", pa);
		abort();
	}
	return host_ram + (pa - HOST_RAM_BASE);
}

paddr_t virt_to_phys(const void *va)
{
	return HOST_RAM_BASE + (paddr_t)((const unsigned char *)va - host_ram);
}

void panic(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(panic_text, sizeof(panic_text), fmt, ap);
	va_end(ap);
	if (panic_expected)
		longjmp(panic_exit, 1);
	fprintf(stderr, "unexpected panic: %s\n", panic_text);
	abort();
}

/* Runs the statement; true when it panicked. */
#define PANICS(statement)                      \
	({                                     \
		panic_expected = true;         \
		panicked = true;               \
		if (setjmp(panic_exit) == 0) { \
			statement;             \
			panicked = false;      \
		}                              \
		panic_expected = false;        \
		panicked;                      \
	})

static inline void host_memory_map(void)
{
	if (host_ram == NULL) {
		/* Aligned like a physical 64 MiB block, so that page offsets agree. */
		unsigned char *p = mmap(NULL, 2 * HOST_RAM, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		host_ram = (unsigned char *)ALIGN_UP((uintptr_t)p, HOST_RAM);
	}
}

#endif
