/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/traps.h"
#include "arch/x86/cpu.h"
#include "arch/x86/lapic.h"
#include "arch/x86/msr.h"
#include "arch/x86/paging.h"
#include "arch/x86/percpu.h"
#include "arch/x86/symbols.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/main.h"
#include "core/panic.h"

#define TRAP_NMI 2
#define TRAP_DF 8
#define TRAP_MC 18
#define TRAP_PF 14

#define MC_STATUS_VALID BIT(63)
#define MC_STATUS_MISCV BIT(59)
#define MC_STATUS_ADDRV BIT(58)

#define GATE_INTERRUPT 0x8e /* present, DPL 0, 64-bit interrupt gate */

struct gate {
	u16 offset_low;
	u16 selector;
	u8 ist;
	u8 type;
	u16 offset_mid;
	u32 offset_high;
	u32 reserved;
};
ASSERT_SIZE(struct gate, 16);

struct extable_entry {
	s32 insn, fixup; /* each relative to its own place */
};

extern const u8 trap_stubs[256][16];
extern const struct extable_entry extable_start[], extable_end[];
extern const char text_start[], text_end[];
extern const char boot_stack[], boot_stack_top[];

static struct gate idt[256] __aligned(4096);
static irq_handler_t handlers[256];
static trap_hook_t nmi_hook_fn, mce_hook_fn;
static bool stopping;

static const char *const names[32] = {
	"#DE divide error", "#DB debug", "NMI", "#BP breakpoint", "#OF overflow", "#BR bound range",
	"#UD invalid opcode", "#NM no FPU", "#DF double fault", "coprocessor overrun",
	"#TS invalid TSS", "#NP segment not present", "#SS stack", "#GP general protection",
	"#PF page fault", "reserved 15", "#MF x87", "#AC alignment", "#MC machine check",
	"#XF SIMD", "#VE virtualization", "#CP control protection", "reserved 22", "reserved 23",
	"reserved 24", "reserved 25", "reserved 26", "reserved 27", "#HV injection",
	"#VC VMM communication", "#SX security", "reserved 31",
};

__weak void timer_interrupt(void)
{
}

__weak void kick_interrupt(void)
{
}

static void on_timer(struct trap_frame *f)
{
	(void)f;
	timer_interrupt();
}

static void on_kick(struct trap_frame *f)
{
	(void)f;
	kick_interrupt();
}

static void on_apic_error(struct trap_frame *f)
{
	(void)f;
	lapic_write(LAPIC_ESR, 0);
	log_warn("cpu%u: the local APIC reports error 0x%x", cpu_number(), lapic_read(LAPIC_ESR));
}

u64 trap_entry(u8 vector)
{
	return (u64)trap_stubs[vector];
}

/*
 * Only NMI, #DF and #MC have stacks of their own: the others must work while a
 * guest's task register is loaded.
 */
void traps_init(void)
{
	for (u32 v = 0; v < 256; v++) {
		u64 entry = trap_entry((u8)v);

		idt[v] = (struct gate){
			.offset_low = (u16)entry, .selector = SEL_CODE, .type = GATE_INTERRUPT,
			.offset_mid = (u16)(entry >> 16), .offset_high = (u32)(entry >> 32),
		};
	}
	idt[TRAP_NMI].ist = IST_NMI;
	idt[TRAP_DF].ist = IST_DF;
	idt[TRAP_MC].ist = IST_MC;
	handlers[VECTOR_TIMER] = on_timer;
	handlers[VECTOR_KICK] = on_kick;
	handlers[VECTOR_ERROR] = on_apic_error;
}

void traps_load(void)
{
	struct desc_ptr idtr = { sizeof(idt) - 1, (u64)idt };

	lidt(&idtr);
}

int irq_register(u8 vector, irq_handler_t fn)
{
	if (vector < 32)
		return -EINVAL;
	if (fn != NULL && handlers[vector] != NULL && handlers[vector] != fn)
		return -EBUSY;
	handlers[vector] = fn;
	return 0;
}

int irq_alloc_vector(void)
{
	static u32 next = VECTOR_DEVICE_FIRST;

	if (next > VECTOR_DEVICE_LAST)
		return -ENOSPC;
	return (int)next++;
}

void nmi_hook(trap_hook_t fn)
{
	nmi_hook_fn = fn;
}

void mce_hook(trap_hook_t fn)
{
	mce_hook_fn = fn;
}

void traps_stop_cpus(void)
{
	__atomic_store_n(&stopping, true, __ATOMIC_RELEASE);
}

static bool fix_up(struct trap_frame *f)
{
	for (const struct extable_entry *e = extable_start; e < extable_end; e++) {
		if ((u64)&e->insn + (u64)(s64)e->insn == f->rip) {
			f->rip = (u64)&e->fixup + (u64)(s64)e->fixup;
			return true;
		}
	}
	return false;
}

void dump_frame(const struct trap_frame *f)
{
	u64 offset;
	const char *name = symbol_name(f->rip, &offset);

	log_err("CPU %u: vector %lu error 0x%lx at %s+0x%lx", cpu_number(), f->vector, f->error,
		name, offset);
	log_err("RIP %016lx CS %04lx RFLAGS %08lx RSP %016lx SS %04lx", f->rip, f->cs, f->rflags,
		f->rsp, f->ss);
	log_err("RAX %016lx RBX %016lx RCX %016lx RDX %016lx", f->rax, f->rbx, f->rcx, f->rdx);
	log_err("RSI %016lx RDI %016lx RBP %016lx R8  %016lx", f->rsi, f->rdi, f->rbp, f->r8);
	log_err("R9  %016lx R10 %016lx R11 %016lx R12 %016lx", f->r9, f->r10, f->r11, f->r12);
	log_err("R13 %016lx R14 %016lx R15 %016lx", f->r13, f->r14, f->r15);
	log_err("CR0 %08lx CR2 %016lx CR3 %016lx CR4 %08lx CR8 %lx", read_cr0(), read_cr2(),
		read_cr3(), read_cr4(), read_cr8());
}

/* Where the stack that rsp is in ends; 0 when it is in none. */
static u64 stack_end(u64 rsp)
{
	if (rsp >= STACK_BASE && rsp < STACK_TOP)
		return STACK_TOP;
	for (u32 i = 1; i <= IST_COUNT; i++) {
		if (rsp >= IST_BASE(i) && rsp < IST_TOP(i))
			return IST_TOP(i);
	}
	if (rsp >= (u64)boot_stack && rsp < (u64)boot_stack_top)
		return (u64)boot_stack_top;
	return 0;
}

/* Does a call instruction end here? E8 rel32, or FF /2 in its common lengths. */
static bool after_call(u64 address)
{
	const u8 *p = (const u8 *)address;

	if (address < (u64)text_start + 8 || address >= (u64)text_end)
		return false;
	if (p[-5] == 0xe8)
		return true;
	for (s32 len = 2; len <= 7; len++) {
		if (p[-len] == 0xff && (p[-len + 1] & 0x38) == 0x10)
			return true;
	}
	return false;
}

/*
 * The code keeps no frame pointers, which cost instructions on each exit: what
 * is listed is every value on the stack that a call can have pushed. A stale
 * one may be among them.
 */
void backtrace(u64 rsp)
{
	u64 end = stack_end(rsp);
	u32 lines = 0;

	log_err("return addresses on the stack:");
	for (u64 at = ALIGN_UP(rsp, 8UL); at < end && lines < 24; at += 8) {
		u64 value = *(const u64 *)at, offset;
		const char *name;

		if (!after_call(value))
			continue;
		name = symbol_name(value - 1, &offset);
		log_err("  %016lx %s+0x%lx", value, name, offset + 1);
		lines++;
	}
}

static void __noreturn fatal(struct trap_frame *f)
{
	cli();
	if (percpu.in_trap++ > 0) {
		/* The report itself faults: no more of it. */
		for (;;)
			hlt();
	}
	dump_frame(f);
	backtrace(f->rsp);
	if (f->vector == TRAP_PF)
		panic("%s: address 0x%lx, error 0x%lx", names[f->vector], read_cr2(), f->error);
	panic("%s in the hypervisor", f->vector < 32 ? names[f->vector] : "unknown trap");
}

static void on_nmi(struct trap_frame *f)
{
	if (__atomic_load_n(&stopping, __ATOMIC_ACQUIRE)) {
		for (;;)
			hlt();
	}
	if (nmi_hook_fn == NULL || !nmi_hook_fn(f))
		log_warn("cpu%u: NMI of unknown source", cpu_number());
}

/* The banks of the machine check architecture that hold an error (APM vol. 2, 9.3). */
static void dump_machine_check(void)
{
	u32 banks = (u32)rdmsr(MSR_MCG_CAP) & 0xff;

	log_err("machine check on CPU %u: MCG_STATUS 0x%lx", cpu_number(), rdmsr(MSR_MCG_STATUS));
	for (u32 i = 0; i < banks; i++) {
		u64 status = rdmsr(MSR_MC0_STATUS + 4 * i);

		if ((status & MC_STATUS_VALID) == 0)
			continue;
		log_err("bank %u: status 0x%lx address 0x%lx misc 0x%lx", i, status,
			(status & MC_STATUS_ADDRV) != 0 ? rdmsr(MSR_MC0_ADDR + 4 * i) : 0,
			(status & MC_STATUS_MISCV) != 0 ? rdmsr(MSR_MC0_MISC + 4 * i) : 0);
	}
}

static void on_exception(struct trap_frame *f)
{
	if (f->vector == TRAP_NMI) {
		on_nmi(f);
		return;
	}
	if (f->vector == TRAP_MC) {
		if (mce_hook_fn != NULL && mce_hook_fn(f))
			return;
		dump_machine_check();
		fatal(f);
	}
	if (f->vector == TRAP_DF || !fix_up(f))
		fatal(f);
}

void trap_dispatch(struct trap_frame *f)
{
	irq_handler_t fn;

	if (f->vector < 32) {
		on_exception(f);
		return;
	}
	/* A spurious interrupt is not in service: it takes no EOI (APM vol. 2, 16.4.7). */
	if (f->vector == VECTOR_SPURIOUS)
		return;
	lapic_eoi();
	fn = handlers[f->vector];
	if (fn != NULL)
		fn(f);
	else
		log_warn("cpu%u: interrupt on vector 0x%lx, which nobody serves", cpu_number(),
			 f->vector);
}
