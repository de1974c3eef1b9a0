/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The runtime of the SEV-ES test guests: GHCB, #VC, console, interrupts, other CPUs.
 *
 * A test is a number in the image (es_test, offset 12) with four arguments
 * (es_args, offset 16 and on); tests/machine/es.py writes them.
 */
#ifndef RAVELIN_GUEST_ES_RT_H
#define RAVELIN_GUEST_ES_RT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define COM1 0x3F8
#define DEBUG_EXIT 0xF4
#define ES_CPUS 8

#define MSR_APIC_BASE 0x1B
#define MSR_PAT 0x277
#define MSR_X2APIC 0x800
#define MSR_EFER 0xC0000080
#define MSR_GHCB 0xC0010130
#define MSR_SEV_STATUS 0xC0010131

/* All of RAM once more without the C-bit: what the hypervisor sees of it. */
#define SHARED(p) ((void *)((u64)(p) | 1UL << 39))
/* 6..8 MiB is shared in both views: one GHCB a CPU, then free pages. */
#define SHARED_BASE 0x600000UL
#define GHCB_OF(cpu) ((volatile struct es_ghcb *)(SHARED_BASE + (u64)(cpu) * 4096))
#define SHARED_FREE (SHARED_BASE + ES_CPUS * 4096)

/* Offsets of the GHCB's fields; bit n of the bitmap stands for the 8 bytes at 8 * n. */
#define GHCB_CPL 0x0CB
#define GHCB_XSS 0x140
#define GHCB_RAX 0x1F8
#define GHCB_RCX 0x308
#define GHCB_RDX 0x310
#define GHCB_RBX 0x318
#define GHCB_RSI 0x330
#define GHCB_EXITCODE 0x390
#define GHCB_INFO1 0x398
#define GHCB_INFO2 0x3A0
#define GHCB_SCRATCH 0x3A8
#define GHCB_XCR0 0x3E8

struct es_ghcb {
	u8 save[0x3F0];
	u64 valid[2];
	u8 reserved[0x400];
	u8 buffer[2032];
	u8 reserved_ff0[10];
	u16 version;
	u32 usage;
};
_Static_assert(offsetof(struct es_ghcb, buffer) == 0x800, "GHCB");
_Static_assert(offsetof(struct es_ghcb, version) == 0xFFA, "GHCB");
_Static_assert(sizeof(struct es_ghcb) == 4096, "GHCB");

struct es_frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};

extern u32 es_test;
extern u64 es_args[4];
extern u64 es_first_msr;  /* MSR C001_0130 as the first instruction found it */
extern u64 es_c_mask;
extern u64 es_pml4[], es_pd[];
extern u8 es_stacks[], es_idt_stubs[];

/* The test itself: boot processor; es_ap() on each other CPU. */
void es_guest(void);
void es_ap(u32 cpu);
/* Every test image has one of these lists; an unknown number: false. */
bool es_ghcb_test(u32 number);
void es_ghcb_ap(u32 cpu);

/* --- GHCB --- */
u32 es_cpu(void);                       /* by the stack */
volatile struct es_ghcb *es_ghcb(void); /* this CPU's */
void ghcb_clear(void);
void ghcb_put(u32 offset, u64 value);   /* and marks it valid */
u64 ghcb_get(u32 offset);
bool ghcb_valid(u32 offset);
void vmgexit(void);                     /* the MSR as it is */
u64 ghcb_msr_call(u64 value);           /* one request of the MSR protocol */
/* An event with this CPU's GHCB: fields put before stay. Returns SW_EXITINFO1. */
u64 ghcb_event(u64 code, u64 info1, u64 info2);
_Noreturn void es_terminate(u32 set, u32 reason);

/* --- #VC --- */
#define VC_CODES 0x100
extern volatile u32 vc_count[VC_CODES]; /* by error code; 0xff: nested page faults */
extern volatile u64 vc_last;            /* the last error code that was no CPUID, IO or MSR */

/* --- traps --- */
#define NO_TRAP 0xFFFFu
#define UD 6u
#define GP 13u
struct es_trap {
	u32 vector, error;
};
extern volatile struct es_trap trap;
extern volatile u64 trap_fixup;
typedef void es_irq_fn(struct es_frame *f);
extern es_irq_fn *volatile es_handler[256];

#define TRY(insn, ...) do { \
	trap.vector = NO_TRAP; \
	__asm__ volatile("leaq 991f(%%rip), %%r15\n\tmovq %%r15, trap_fixup\n\t" insn \
			 "\n991:\tmovq $0, trap_fixup" __VA_ARGS__); \
} while (0)
#define CLOBBERS "r15", "memory", "cc"

/* --- console, exit --- */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void check(const char *name, u64 got, u64 want);
void check_true(const char *name, bool ok);
u32 checks_failed(void);
_Noreturn void guest_exit(u8 code);

/* --- interrupts, CPUs --- */
void x2apic_on(void);
void apic_write(u32 reg, u64 v); /* number as in xAPIC: 0xB0 is EOI */
u64 apic_read(u32 reg);
void apic_eoi(void);
void send_ipi(u32 cpu, u32 low);
#define IPI_NMI 0x400u
#define IPI_INIT 0x4500u
#define IPI_SIPI 0x4600u
void start_ap(u32 cpu, u8 vector);
bool wait_until(volatile u32 *counter, u32 at_least, u64 spins);
extern volatile u32 cpus_up;

void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);
int memcmp(const void *a, const void *b, size_t n);

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

static inline void cpuid(u32 leaf, u32 sub, u32 r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(sub));
}

#define READ_CR(n) ({ u64 v_; __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v_) : : "memory"); v_; })
#define WRITE_CR(n, v) __asm__ volatile("mov %0, %%cr" #n : : "r"((u64)(v)) : "memory")
#define READ_DR(n) ({ u64 v_; __asm__ volatile("mov %%dr" #n ", %0" : "=r"(v_) : : "memory"); v_; })
#define WRITE_DR(n, v) __asm__ volatile("mov %0, %%dr" #n : : "r"((u64)(v)) : "memory")

static inline void sti(void) { __asm__ volatile("sti" : : : "memory"); }
static inline void cli(void) { __asm__ volatile("cli" : : : "memory"); }
static inline void hlt(void) { __asm__ volatile("hlt" : : : "memory"); }
static inline void pause_cpu(void) { __asm__ volatile("pause" : : : "memory"); }
static inline void clflush(const volatile void *p)
{
	__asm__ volatile("clflush (%0)" : : "r"(p) : "memory");
}

/* In the forms that the #VC handler knows. */
static inline u32 mmio_read(u64 at)
{
	u32 v;

	__asm__ volatile("movl (%1), %0" : "=r"(v) : "r"(at) : "memory");
	return v;
}

static inline void mmio_write(u64 at, u32 v)
{
	__asm__ volatile("movl %0, (%1)" : : "r"(v), "r"(at) : "memory");
}

/* A page that was private and is used through the shared view from now on, or the other way. */
void flush_page(volatile void *p);

static inline void outb(u16 p, u8 v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(p)); }
static inline u8 inb(u16 p)
{
	u8 v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(p));
	return v;
}

#endif
