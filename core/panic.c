/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/panic.h"
#include "arch/x86/cpu.h"
#include "arch/x86/percpu.h"
#include "arch/x86/smp.h"
#include "arch/x86/traps.h"
#include "core/log.h"

static u32 panic_owner; /* CPU number + 1 of the first to come here */

/* The guard value is fixed: no source of chance exists before the machine is up, and the value
 * in the image is as readable as one in memory to whoever can read memory. The zero byte stops
 * string copies from passing it. */
u64 __stack_chk_guard = 0x5be7c3a100f29d6eUL;
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
