/* SPDX-License-Identifier: BSD-2-Clause */
/* The runtime of the test guests: console, traps, local APIC, other CPUs. */
#ifndef RAVELIN_GUEST_RT_H
#define RAVELIN_GUEST_RT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define COM1 0x3F8
#define COM2 0x2F8
#define DEBUG_EXIT 0xF4

#define MSR_TSC 0x10
#define MSR_APIC_BASE 0x1B
#define MSR_TSC_DEADLINE 0x6E0
#define MSR_EFER 0xC0000080
#define MSR_STAR 0xC0000081
#define MSR_LSTAR 0xC0000082
#define MSR_SFMASK 0xC0000084
#define MSR_FS_BASE 0xC0000100
#define MSR_KERNEL_GS_BASE 0xC0000102
#define MSR_TSC_AUX 0xC0000103
#define MSR_PAT 0x277

#define APIC_BASE 0xFEE00000u
#define IOAPIC_BASE 0xFEC00000u
#define APIC_ID 0x20
#define APIC_VERSION 0x30
#define APIC_TPR 0x80
#define APIC_PPR 0xA0
#define APIC_EOI 0xB0
#define APIC_LDR 0xD0
#define APIC_DFR 0xE0
#define APIC_SVR 0xF0
#define APIC_ISR 0x100
#define APIC_TMR 0x180
#define APIC_IRR 0x200
#define APIC_ESR 0x280
#define APIC_ICR 0x300
#define APIC_ICR2 0x310
#define APIC_LVT_TIMER 0x320
#define APIC_LVT_LINT0 0x350
#define APIC_LVT_LINT1 0x360
#define APIC_LVT_ERROR 0x370
#define APIC_TICR 0x380
#define APIC_TCCR 0x390
#define APIC_TDCR 0x3E0

#define NO_TRAP 0xFFFFu
#define DB 1u
#define NMI 2u
#define BP 3u
#define UD 6u
#define NM 7u
#define NP 11u
#define GP 13u
#define PF 14u

struct frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};

/* At 0x7000; low.asm has the same offsets. */
struct low_params {
	u64 cr3;
	u64 ap_entry;
	u32 ap_count;
	u32 cr3_32;
	u32 cr3_pae;
	u32 results;
	u64 saved_rsp;
	u32 saved_cr4;
	u32 alias;
	u32 done;
};
_Static_assert(offsetof(struct low_params, saved_rsp) == 0x20, "low.asm");
_Static_assert(offsetof(struct low_params, done) == 0x30, "low.asm");

#define LOW_PARAMS ((volatile struct low_params *)0x7000)
#define LOW_BASE 0x8000u

/* What the last trap under TRY was. */
struct trap {
	u32 vector;		/* NO_TRAP: none */
	u32 error;
	u64 rip, cr2;
};
extern volatile struct trap trap;
extern volatile u64 trap_fixup;

typedef void irq_fn(struct frame *f);
extern irq_fn *volatile irq_handler[256];

extern bool plain;		/* the command line says: no hypervisor under test */
extern char cmdline[512];
extern u8 pml4[], idt_stubs[], low_blob[], low_blob_end[], ap_entry64[], gdt[], tss[];

void rt_init(void);
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void guest_exit(u8 code);
bool option(const char *name, char *value, size_t size);
u64 option_number(const char *name, u64 otherwise);

void check(const char *name, u64 got, u64 want);
void check_true(const char *name, bool ok);
u32 checks_failed(void);

void delay_us(u64 us);
bool wait_until(volatile u32 *counter, u32 at_least, u64 ms);

void low_init(void);
u32 start_cpus(u32 want);
extern void (*volatile ap_work)(u32 cpu);
extern volatile u32 cpus_up;

void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);
int strcmp(const char *a, const char *b);

/* Run instructions that may trap; afterwards trap.vector tells. RAX is used for the fixup. */
#define TRY(insn, ...) do { \
	trap.vector = NO_TRAP; \
	__asm__ volatile("leaq 991f(%%rip), %%r15\n\tmovq %%r15, trap_fixup\n\t" insn \
			 "\n991:\tmovq $0, trap_fixup" __VA_ARGS__); \
} while (0)
#define CLOBBERS "r15", "memory", "cc"

static inline u8 inb(u16 p)
{
	u8 v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(p));
	return v;
}

static inline u16 inw(u16 p)
{
	u16 v;

	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(p));
	return v;
}

static inline u32 inl(u16 p)
{
	u32 v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(p));
	return v;
}

static inline void outb(u16 p, u8 v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(p)); }
static inline void outw(u16 p, u16 v) { __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(p)); }
static inline void outl(u16 p, u32 v) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(p)); }

static inline u32 mmio_read(u32 at)
{
	u32 v;

	__asm__ volatile("movl (%1), %0" : "=r"(v) : "r"((u64)at) : "memory");
	return v;
}

static inline void mmio_write(u32 at, u32 v)
{
	__asm__ volatile("movl %0, (%1)" : : "r"(v), "r"((u64)at) : "memory");
}

static inline u32 apic_read(u32 reg) { return mmio_read(APIC_BASE + reg); }
static inline void apic_write(u32 reg, u32 v) { mmio_write(APIC_BASE + reg, v); }
static inline void apic_eoi(void) { apic_write(APIC_EOI, 0); }

static inline u32 ioapic_read(u8 reg)
{
	mmio_write(IOAPIC_BASE, reg);
	return mmio_read(IOAPIC_BASE + 0x10);
}

static inline void ioapic_write(u8 reg, u32 v)
{
	mmio_write(IOAPIC_BASE, reg);
	mmio_write(IOAPIC_BASE + 0x10, v);
}

static inline u64 rdmsr(u32 index)
{
	u32 lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(index) : "memory");
	return (u64)hi << 32 | lo;
}

static inline void wrmsr(u32 index, u64 v)
{
	__asm__ volatile("wrmsr" : : "c"(index), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}

static inline u64 rdtsc(void)
{
	u32 lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (u64)hi << 32 | lo;
}

static inline void cpuid(u32 leaf, u32 sub, u32 r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(sub));
}

/* Each vendor's CPUs have their own hypercall instruction; the other one is #UD. */
static inline bool has_vmcall(void)
{
	u32 r[4];

	cpuid(0, 0, r);
	return r[1] == 0x756E6547; /* "Genu" */
}

#define READ_CR(n) ({ u64 v_; __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v_) : : "memory"); v_; })
#define WRITE_CR(n, v) __asm__ volatile("mov %0, %%cr" #n : : "r"((u64)(v)) : "memory")
#define READ_DR(n) ({ u64 v_; __asm__ volatile("mov %%dr" #n ", %0" : "=r"(v_) : : "memory"); v_; })
#define WRITE_DR(n, v) __asm__ volatile("mov %0, %%dr" #n : : "r"((u64)(v)) : "memory")

static inline void sti(void) { __asm__ volatile("sti" : : : "memory"); }
static inline void cli(void) { __asm__ volatile("cli" : : : "memory"); }
static inline void pause_cpu(void) { __asm__ volatile("pause" : : : "memory"); }

#endif
