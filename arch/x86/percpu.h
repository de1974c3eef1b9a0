/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_PERCPU_H
#define RAVELIN_ARCH_X86_PERCPU_H

#include "core/config.h"
#include "core/types.h"

/*
 * Private data of a CPU: one fixed virtual address, other frames behind it on
 * each CPU, mapped nowhere else. A PERCPU variable is an ordinary global that
 * each CPU has for itself, zero at start:
 *
 *     PERCPU struct svm_cpu svm_cpu;     (header: extern PERCPU struct ...)
 *
 * Its address means something only on the CPU that takes it: never pass it to
 * another CPU. What CPUs must see of each other lives in cpus[].
 */
#define PERCPU_BASE 0xffffffffc0000000UL
#define PERCPU_MAX 0x10000UL /* variables; the linker script checks */

#if defined(UNIT_TEST) && !defined(PERCPU)
#define PERCPU
#elif !defined(UNIT_TEST)
#define PERCPU __section(".bss..percpu")
#endif

/* Stacks, each with an unmapped page below. */
#define STACK_SIZE 0x4000UL
#define IST_STACK_SIZE 0x2000UL
#define STACK_BASE (PERCPU_BASE + 0x100000UL)
#define STACK_TOP (STACK_BASE + STACK_SIZE)
#define IST_SLOT 0x10000UL
#define IST_BASE(n) (STACK_BASE + (n) * IST_SLOT) /* n = 1.. */
#define IST_TOP(n) (IST_BASE(n) + IST_STACK_SIZE)
#define IST_NMI 1
#define IST_DF 2
#define IST_MC 3
#define IST_COUNT 3

struct tss {
	u32 reserved0;
	u64 rsp[3];
	u64 reserved1;
	u64 ist[7];
	u64 reserved2;
	u16 reserved3;
	u16 iomap;
} __packed;
ASSERT_SIZE(struct tss, 104);

#define SEL_CODE 0x08
#define SEL_DATA 0x10
#define SEL_TSS 0x18 /* two slots */
#define GDT_SLOTS 6

struct vcpu;
struct cpu;

struct percpu {
	u32 id;              /* CPU number, 0 = boot CPU */
	u32 apic_id;
	struct cpu *cpu;     /* = &cpus[id] */
	struct vcpu *vcpu;   /* the vCPU that owns the guest state in the registers, or NULL */
	u64 timer_deadline;  /* TSC value armed, or TIMER_NEVER */
#define TIMER_NEVER (~0UL)
	u64 gdt[GDT_SLOTS] __aligned(16);
	struct tss tss __aligned(16);
	u32 in_trap;         /* depth of exceptions being reported */
};

extern PERCPU struct percpu percpu;

static inline struct percpu *this_cpu(void) { return &percpu; }
static inline u32 cpu_number(void) { return percpu.id; }

/* What all CPUs may see of a CPU. */
struct cpu {
	u32 id;
	u32 apic_id;
	u32 acpi_uid;
	u32 node;            /* proximity domain from SRAT, 0 if none */
	bool online;         /* atomic */
	paddr_t cr3;         /* its page tables */
	/* smp_call(): one request at a time, under smp.c's lock. */
	void (*call_fn)(void *arg);
	void *call_arg;
	u32 call_seq, call_done;
} __aligned(64);

/* Every CPU, on its own area: number, GDT, TSS. */
void percpu_init(u32 id, u32 apic_id);

extern struct cpu cpus[CPU_MAX];
extern u32 cpu_count; /* CPUs online; numbers 0..cpu_count-1 */

#endif
