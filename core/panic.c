/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/panic.h"
#include "arch/x86/cpu.h"
#include "arch/x86/percpu.h"
#include "arch/x86/smp.h"
#include "arch/x86/traps.h"
#include "core/log.h"

static u32 panic_owner; /* CPU number + 1 of the first to come here */

/* Until stack_guard_init(). The lowest byte is always zero: it stops string copies. */
u64 __stack_chk_guard = 0x5be7c3a1f29d6e00UL;

#define CPUID1_ECX_RDRAND BIT32(30)

void stack_guard_init(void)
{
	u64 v = rdtsc() * 0x9e3779b97f4a7c15UL;
	u64 r = 0;

	if ((cpuid(1, 0).ecx & CPUID1_ECX_RDRAND) != 0)
		__asm__ volatile("rdrand %0" : "+r"(r) : : "cc");
	__stack_chk_guard = (v ^ r ^ v >> 32) << 8;
}

void __stack_chk_fail(void) __noreturn;
void __stack_chk_fail(void)
{
	panic("stack smashed: a local buffer was overrun in the caller");
}

void panic(const char *fmt, ...)
{
	va_list ap;
	u32 me = cpu_number() + 1;
	u32 expect = 0;

	cli();
	if (!__atomic_compare_exchange_n(&panic_owner, &expect, me, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE)) {
		/* A panic within the report, or a second CPU's: the first has the console. */
		for (;;)
			hlt();
	}
	log_panic_mode();
	smp_stop_others();
	log_err("panic on CPU %u:", me - 1);
	va_start(ap, fmt);
	log_vprint(LOG_ERROR, fmt, ap);
	va_end(ap);
	backtrace((u64)__builtin_frame_address(0));
	log_err("the machine is halted");
	for (;;)
		hlt();
}
