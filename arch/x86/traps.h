/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_TRAPS_H
#define RAVELIN_ARCH_X86_TRAPS_H

#include "core/types.h"

/* Vectors of our own. Devices get 0x30..0xdf. */
#define VECTOR_DEVICE_FIRST 0x30
#define VECTOR_DEVICE_LAST 0xdf
#define VECTOR_TIMER 0xf0
#define VECTOR_KICK 0xf1 /* leave guest mode and look at the hazards: core's kick_interrupt() */
#define VECTOR_CALL 0xf2 /* smp_call() */
#define VECTOR_ERROR 0xfe
#define VECTOR_SPURIOUS 0xff

/* What the entry code saves, lowest address first. */
struct trap_frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8;
	u64 rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector;
	u64 error; /* 0 when the exception has none */
	u64 rip, cs, rflags, rsp, ss;
};
ASSERT_SIZE(struct trap_frame, 22 * 8);

/*
 * Interrupt handlers: interrupts off, EOI already sent for vectors above 31,
 * on the interrupted stack. Registering replaces; fn NULL removes. -EINVAL for
 * vectors below 32, -EBUSY when taken.
 */
typedef void (*irq_handler_t)(struct trap_frame *f);
int irq_register(u8 vector, irq_handler_t fn);
/* A free device vector, or -ENOSPC. */
int irq_alloc_vector(void);

/*
 * NMI and #MC hooks: run on their own stacks, may interrupt anything, take no
 * lock. True: handled, go on.
 */
typedef bool (*trap_hook_t)(struct trap_frame *f);
void nmi_hook(trap_hook_t fn);
void mce_hook(trap_hook_t fn);

/* Boot CPU: builds the IDT. Every CPU loads it. */
void traps_init(void);
void traps_load(void);
/* From now on an NMI halts the CPU that takes it. For smp_stop_others(). */
void traps_stop_cpus(void);
/* Entry point of a vector, for a backend that must call a handler without taking the interrupt. */
u64 trap_entry(u8 vector);
/* What the entry code calls. */
void trap_dispatch(struct trap_frame *f);

void dump_frame(const struct trap_frame *f);
/* Return addresses found on the stack from rsp upwards, with names. */
void backtrace(u64 rsp);

#endif
