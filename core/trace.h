/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_TRACE_H
#define RAVELIN_CORE_TRACE_H

#include "core/types.h"

/*
 * The trace: a ring of fixed records for each CPU, switched at run time. Off,
 * an event costs one test of trace_flags.
 */
#define TRACE_EVENTS BIT32(0) /* record events */
#define TRACE_TIMING BIT32(1) /* the exit path adds up cycles per kind of exit in vcpu->cycles[] */

enum trace_kind {
	TRACE_EXIT,   /* a: enum vexit_kind, b: operand (port, MSR, GPA) */
	TRACE_ENTER,  /* a: hazards */
	TRACE_INJECT, /* a: vector, b: error code */
	TRACE_IRQ,    /* a: vector that the LAPIC accepted */
	TRACE_SCHED,  /* a: enum vcpu_state */
	TRACE_VM,     /* a: enum vm_state */
	TRACE_ES_TRAP, /* write trap of an SEV-ES guest. a: exit code, b: new value */
	TRACE_VMGEXIT,  /* code, a, b: SW_EXITCODE, SW_EXITINFO1 and 2; result: class and error */
	TRACE_GHCB_MSR, /* code: the request's, a: request, b: answer */
	TRACE_KINDS
};

struct trace_record {
	u64 tsc;
	u8 vm;    /* index of the VM */
	u8 vcpu;
	u8 kind;  /* enum trace_kind */
	u8 result;
	u32 code;
	u64 a, b;
};
ASSERT_SIZE(struct trace_record, 32);

extern u32 trace_flags; /* TRACE_*; read by every CPU, written by the shell */

/* Fills in the time; for events that are seldom looked at. */
void trace_record(const struct trace_record *r);
void trace_write(u32 vm, u32 vcpu, u32 kind, u64 a, u64 b);

/* Any context on any CPU. */
static inline void trace_event(u32 vm, u32 vcpu, u32 kind, u64 a, u64 b)
{
	if (unlikely(trace_flags & TRACE_EVENTS))
		trace_write(vm, vcpu, kind, a, b);
}

/* CPU 0, interrupts on. Allocates the rings at the first call; -ENOMEM. Empties them. */
int trace_start(void);
void trace_stop(void);
#define TRACE_VM_ALL 0xffffffffU
/*
 * The newest `count` records of all CPUs, of one VM or TRACE_VM_ALL, in order
 * of time. Tracing must be off. Returns how many times show was called.
 */
u32 trace_show(u32 vm, u32 count, void (*show)(u32 cpu, const struct trace_record *r));
/* Static text, never NULL. */
const char *trace_kind_name(u32 kind);
const char *vexit_name(u32 kind);

#endif
