/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef GUEST_PV_KERNEL_H
#define GUEST_PV_KERNEL_H

#include "pv.h"

/* A kernel just large enough for the library: entry on all CPUs, interrupts, console. */

#define KERNEL_CPUS 64 /* stacks in start.asm */

struct frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

extern uint32_t kernel_cpus; /* CPUs that are up */
extern char kernel_cmdline[256];

/* Called with interrupts off; the kernel has done the EOI. */
extern void (*kernel_handler[256])(struct pv_cpu *self);

/* For tests: while set, no allocation succeeds. */
extern bool kernel_no_memory;

struct pv_cpu *kernel_self(void);
/* Runs work(self) on every CPU, the caller's included, and waits for all. */
void kernel_on_all(void (*work)(struct pv_cpu *self));
void kernel_print(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The calling CPU in HLT until its PV clock shows that time, or a second before the timer's range
 * ends: look at the clock again. Interrupts on. */
void kernel_sleep_until(struct pv_cpu *self, uint64_t ns);
/* The compiler may call these. */
void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);

/* A number from "name=N" of the command line. */
uint64_t kernel_option(const char *name, uint64_t otherwise);
/* Ends the VM by its debug-exit port, or halts. */
_Noreturn void kernel_exit(uint8_t code);

/* The program: all CPUs are up, interrupts on. Its result is the exit code. */
int app_main(void);
/* Before the other CPUs start: what the program needs early. */
void app_early(void);

#endif
