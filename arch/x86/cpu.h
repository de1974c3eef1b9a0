/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_CPU_H
#define RAVELIN_ARCH_X86_CPU_H

#include "core/errno.h"
#include "core/spinlock.h"
#include "core/types.h"

/* Instructions that C has no words for. */

#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)

#define CR4_VME BIT(0)
#define CR4_PVI BIT(1)
#define CR4_TSD BIT(2)
#define CR4_DE BIT(3)
#define CR4_PSE BIT(4)
#define CR4_PAE BIT(5)
#define CR4_MCE BIT(6)
#define CR4_PGE BIT(7)
#define CR4_PCE BIT(8)
#define CR4_OSFXSR BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP BIT(11)
#define CR4_LA57 BIT(12)
#define CR4_VMXE BIT(13)
#define CR4_FSGSBASE BIT(16)
#define CR4_PCIDE BIT(17)
#define CR4_OSXSAVE BIT(18)
#define CR4_SMEP BIT(20)
#define CR4_SMAP BIT(21)
#define CR4_PKE BIT(22)
#define CR4_CET BIT(23)

#define RFLAGS_CF BIT(0)
#define RFLAGS_FIXED1 BIT(1)
#define RFLAGS_PF BIT(2)
#define RFLAGS_AF BIT(4)
#define RFLAGS_ZF BIT(6)
#define RFLAGS_SF BIT(7)
#define RFLAGS_TF BIT(8)
#define RFLAGS_IF BIT(9)
#define RFLAGS_DF BIT(10)
#define RFLAGS_OF BIT(11)
#define RFLAGS_IOPL (3UL << 12)
#define RFLAGS_NT BIT(14)
#define RFLAGS_RF BIT(16)
#define RFLAGS_VM BIT(17)
#define RFLAGS_AC BIT(18)
#define RFLAGS_VIF BIT(19)
#define RFLAGS_VIP BIT(20)
#define RFLAGS_ID BIT(21)

static inline void cpu_relax(void) { __asm__ volatile("pause" ::: "memory"); }
static inline void cli(void) { __asm__ volatile("cli" ::: "memory"); }
static inline void sti(void) { __asm__ volatile("sti" ::: "memory"); }
static inline void hlt(void) { __asm__ volatile("hlt" ::: "memory"); }
/* Interrupts on and wait for one, with no gap between: a wake-up cannot be lost. */
static inline void sti_hlt(void) { __asm__ volatile("sti; hlt" ::: "memory"); }
static inline void wbinvd(void) { __asm__ volatile("wbinvd" ::: "memory"); }
static inline void mfence(void) { __asm__ volatile("mfence" ::: "memory"); }
static inline void lfence(void) { __asm__ volatile("lfence" ::: "memory"); }
static inline void clflush(const void *p)
{
	__asm__ volatile("clflush %0" : : "m"(*(const char *)p) : "memory");
}

static inline u64 read_rflags(void)
{
	u64 f;

	__asm__ volatile("pushfq; popq %0" : "=r"(f) : : "memory");
	return f;
}

static inline bool irqs_enabled(void) { return (read_rflags() & RFLAGS_IF) != 0; }

#define DEFINE_REG_ACCESS(reg)                                                  \
	static inline u64 read_##reg(void)                                      \
	{                                                                       \
		u64 v;                                                          \
		__asm__ volatile("mov %%" #reg ", %0" : "=r"(v) : : "memory");  \
		return v;                                                       \
	}                                                                       \
	static inline void write_##reg(u64 v)                                   \
	{                                                                       \
		__asm__ volatile("mov %0, %%" #reg : : "r"(v) : "memory");      \
	}
DEFINE_REG_ACCESS(cr0)
DEFINE_REG_ACCESS(cr2)
DEFINE_REG_ACCESS(cr3)
DEFINE_REG_ACCESS(cr4)
DEFINE_REG_ACCESS(cr8)
DEFINE_REG_ACCESS(dr0)
DEFINE_REG_ACCESS(dr1)
DEFINE_REG_ACCESS(dr2)
DEFINE_REG_ACCESS(dr3)
DEFINE_REG_ACCESS(dr6)
DEFINE_REG_ACCESS(dr7)
#undef DEFINE_REG_ACCESS

static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return (u64)hi << 32 | lo;
}

static inline void wrmsr(u32 msr, u64 v)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}

/* Where to go on when the instruction at label `insn` faults: read by the trap handler. */
#define EXTABLE(insn, fixup)                      \
	".pushsection .extable, \"a\"\n"          \
	".balign 4\n"                             \
	".long " #insn " - .\n"                   \
	".long " #fixup " - .\n"                  \
	".popsection\n"

/* As above; -EIO instead of a panic when the CPU answers #GP (*v is then 0). */
static inline int __must_check rdmsr_safe(u32 msr, u64 *v)
{
	u32 lo, hi;
	int err;

	__asm__ volatile("xorl %2, %2\n"
			 "1:	rdmsr\n"
			 "	jmp 3f\n"
			 "2:	movl %4, %2\n"
			 "	xorl %%eax, %%eax\n"
			 "	xorl %%edx, %%edx\n"
			 "3:\n" EXTABLE(1b, 2b)
			 : "=a"(lo), "=d"(hi), "=&r"(err)
			 : "c"(msr), "i"(-EIO)
			 : "memory", "cc");
	*v = (u64)hi << 32 | lo;
	return err;
}

static inline int __must_check wrmsr_safe(u32 msr, u64 v)
{
	int err;

	__asm__ volatile("xorl %0, %0\n"
			 "1:	wrmsr\n"
			 "	jmp 3f\n"
			 "2:	movl %4, %0\n"
			 "3:\n" EXTABLE(1b, 2b)
			 : "=&r"(err)
			 : "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)), "i"(-EIO)
			 : "memory", "cc");
	return err;
}

struct cpuid_regs {
	u32 eax, ebx, ecx, edx;
};

static inline struct cpuid_regs cpuid(u32 leaf, u32 subleaf)
{
	struct cpuid_regs r;

	__asm__ volatile("cpuid"
			 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
			 : "a"(leaf), "c"(subleaf));
	return r;
}

/* The leaf's answer, or zeros when the CPU has no such leaf (basic or extended range). */
static inline struct cpuid_regs cpuid_if(u32 leaf, u32 subleaf)
{
	struct cpuid_regs none = { 0, 0, 0, 0 };

	if (cpuid(leaf & 0xffff0000U, 0).eax < leaf)
		return none;
	return cpuid(leaf, subleaf);
}

static inline u64 rdtsc(void)
{
	u64 lo, hi; /* the upper halves are cleared (APM vol. 3) */

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return hi << 32 | lo;
}

static inline u64 xgetbv(u32 index)
{
	u32 lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(index));
	return (u64)hi << 32 | lo;
}

static inline void xsetbv(u32 index, u64 v)
{
	__asm__ volatile("xsetbv" : : "c"(index), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}

static inline void invlpg(const void *va)
{
	__asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}

#define DEFINE_PORT_ACCESS(sfx, type)                                                  \
	static inline type in##sfx(u16 port)                                           \
	{                                                                              \
		type v;                                                                \
		__asm__ volatile("in" #sfx " %1, %0" : "=a"(v) : "Nd"(port) : "memory"); \
		return v;                                                              \
	}                                                                              \
	static inline void out##sfx(u16 port, type v)                                  \
	{                                                                              \
		__asm__ volatile("out" #sfx " %0, %1" : : "a"(v), "Nd"(port) : "memory"); \
	}
DEFINE_PORT_ACCESS(b, u8)
DEFINE_PORT_ACCESS(w, u16)
DEFINE_PORT_ACCESS(l, u32)
#undef DEFINE_PORT_ACCESS

/* Device registers; p comes from mmio_map(). One access of exactly this width. */
static inline u8 mmio_read8(const volatile void *p) { return *(const volatile u8 *)p; }
static inline u16 mmio_read16(const volatile void *p) { return *(const volatile u16 *)p; }
static inline u32 mmio_read32(const volatile void *p) { return *(const volatile u32 *)p; }
static inline u64 mmio_read64(const volatile void *p) { return *(const volatile u64 *)p; }
static inline void mmio_write8(volatile void *p, u8 v) { *(volatile u8 *)p = v; }
static inline void mmio_write16(volatile void *p, u16 v) { *(volatile u16 *)p = v; }
static inline void mmio_write32(volatile void *p, u32 v) { *(volatile u32 *)p = v; }
static inline void mmio_write64(volatile void *p, u64 v) { *(volatile u64 *)p = v; }

struct desc_ptr {
	u16 limit;
	u64 base;
} __packed;

static inline void lgdt(const struct desc_ptr *p) { __asm__ volatile("lgdt %0" : : "m"(*p)); }
static inline void lidt(const struct desc_ptr *p) { __asm__ volatile("lidt %0" : : "m"(*p)); }
static inline void ltr(u16 sel) { __asm__ volatile("ltr %0" : : "r"(sel) : "memory"); }
static inline void lldt(u16 sel) { __asm__ volatile("lldt %0" : : "r"(sel) : "memory"); }

/*
 * What start-up found out about the CPUs; the boot CPU's, the others must have
 * at least the same. Constant after start.
 */
struct cpu_features {
	char vendor[13];
	char brand[49];
	u32 family, model, stepping;
	u32 phys_bits;      /* physical address width, less what memory encryption takes */
	bool amd;           /* AMD or Hygon */
	bool intel;
	bool nx, page1g, pat;
	bool smep, smap, umip, pge;
	bool xsave, x2apic, tsc_deadline, tsc_invariant, arat;
	bool hypervisor;    /* runs under another hypervisor */
	bool tcg;           /* which is QEMU's emulation of a CPU, with quirks of its own */
};
extern struct cpu_features cpu_features;

/* Boot CPU: fills cpu_features; -ENOTSUP with a logged reason when the CPU lacks what we need
 * (long mode is a given; NX, PAT, PGE, TSC, APIC are not). */
int cpu_detect(void);
/* Each CPU: CR0, CR4, EFER, PAT, descriptor tables, as the hypervisor runs with. */
void cpu_setup(void);

/* The machine: never return. Reboot tries ACPI, then the keyboard controller, then a triple
 * fault. Power off says so when ACPI has no way to do it, and halts. */
void machine_reboot(void) __noreturn;
void machine_poweroff(void) __noreturn;
void machine_halt(void) __noreturn;

#endif
