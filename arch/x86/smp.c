/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/smp.h"
#include "arch/x86/cpu.h"
#include "arch/x86/lapic.h"
#include "arch/x86/paging.h"
#include "arch/x86/traps.h"
#include "arch/x86/tsc.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/panic.h"
#include "core/main.h"
#include "core/string.h"
#include "drivers/acpi.h"

#define LOW_MEMORY_END 0xa0000UL
#define BOOT_TABLES_SIZE (10 * PAGE_SIZE) /* boot/entry.asm */

extern u8 trampoline[], trampoline_end[], trampoline_gdtr[], trampoline_jump[];
extern u8 trampoline_cr3[], trampoline_cpu_cr3[], trampoline_refused[], boot_tables[];
void ap_main(void) __noreturn;

static spinlock_t call_lock = SPINLOCK_INIT;

static void on_call(struct trap_frame *f)
{
	struct cpu *c = percpu.cpu;
	u32 seq = __atomic_load_n(&c->call_seq, __ATOMIC_ACQUIRE);

	(void)f;
	if (c->call_done == seq)
		return;
	c->call_fn(c->call_arg);
	__atomic_store_n(&c->call_done, seq, __ATOMIC_RELEASE);
}

static void call_other(struct cpu *c, void (*fn)(void *arg), void *arg, bool here_too)
{
	ASSERT((u64)arg < PERCPU_BASE); /* mapped there, too */
	/* Interrupts stay on: two CPUs that call each other both get served. */
	spin_lock(&call_lock);
	c->call_fn = fn;
	c->call_arg = arg;
	__atomic_store_n(&c->call_seq, c->call_seq + 1, __ATOMIC_RELEASE);
	ipi_send(c->id, VECTOR_CALL);
	if (here_too)
		fn(arg);
	while (__atomic_load_n(&c->call_done, __ATOMIC_ACQUIRE) != c->call_seq)
		cpu_relax();
	spin_unlock(&call_lock);
}

int smp_call(u32 cpu, void (*fn)(void *arg), void *arg)
{
	struct cpu *c;
	u64 flags;

	if (cpu >= cpu_count)
		return -EINVAL;
	c = &cpus[cpu];
	if (cpu == cpu_number()) {
		flags = irq_save();
		fn(arg);
		irq_restore(flags);
		return 0;
	}
	call_other(c, fn, arg, false);
	return 0;
}

int smp_call_both(u32 cpu, void (*fn)(void *arg), void *arg)
{
	if (cpu >= cpu_count || cpu == cpu_number())
		return -EINVAL;
	call_other(&cpus[cpu], fn, arg, true);
	return 0;
}

void smp_call_all(void (*fn)(void *arg), void *arg)
{
	for (u32 i = 0; i < cpu_count; i++)
		(void)smp_call(i, fn, arg); /* the number is in range */
}

void smp_stop_others(void)
{
	traps_stop_cpus();
	for (u32 i = 0; i < cpu_count; i++) {
		if (i != cpu_number())
			ipi_send_nmi(i);
	}
}

int smp_prepare(void)
{
	u32 me = lapic_id(), n = 1;

	cpus[0].id = 0;
	cpus[0].apic_id = me;
	cpus[0].online = true;
	percpu.apic_id = me;
	for (u32 i = 0; i < acpi.cpus; i++) {
		const struct acpi_cpu *a = &acpi.cpu[i];
		struct cpu *c = a->apic_id == me ? &cpus[0] : &cpus[n];

		c->acpi_uid = a->uid;
		c->node = a->node;
		if (a->apic_id == me)
			continue;
		if (!lapic.x2apic && a->apic_id > 0xfe) {
			log_warn("smp: CPU with APIC id %u needs x2APIC, which is not there",
				 a->apic_id);
			continue;
		}
		if (n == CPU_MAX || hostmem_cpu_space(&c->cr3) != 0) {
			log_err("smp: no room for CPU with APIC id %u and those after it",
				a->apic_id);
			break;
		}
		c->id = n;
		c->apic_id = a->apic_id;
		n++;
	}
	return (int)n;
}

/*
 * Where APs begin: a page of RAM below 640 KiB. The first page has the BIOS's
 * data. 0: there is none, or a boot module is in each.
 */
static paddr_t trampoline_page(void)
{
	for (paddr_t pa = PAGE_SIZE; pa < LOW_MEMORY_END; pa += PAGE_SIZE) {
		if (boot_info_is_free_ram(boot_info, pa, PAGE_SIZE))
			return pa;
	}
	return 0;
}

/* Writes the start code with this CPU's page tables to its page. */
static void place_trampoline(paddr_t pa, const struct cpu *c)
{
	u8 *page = phys_to_virt(pa);
	u32 value;

	memcpy(page, trampoline, (size_t)(trampoline_end - trampoline));
	memcpy(&value, page + (trampoline_gdtr - trampoline) + 2, 4);
	value += (u32)pa;
	memcpy(page + (trampoline_gdtr - trampoline) + 2, &value, 4);
	memcpy(&value, page + (trampoline_jump - trampoline), 4);
	value += (u32)pa;
	memcpy(page + (trampoline_jump - trampoline), &value, 4);
	value = (u32)virt_to_phys(boot_tables);
	memcpy(page + (trampoline_cr3 - trampoline), &value, 4);
	memcpy(page + (trampoline_cpu_cr3 - trampoline), &c->cr3, 8);
}

static bool wait_online(struct cpu *c, u64 us)
{
	u64 end = rdtsc() + ns_to_tsc(us * 1000);

	while (!__atomic_load_n(&c->online, __ATOMIC_ACQUIRE)) {
		if ((s64)(rdtsc() - end) > 0)
			return false;
		cpu_relax();
	}
	return true;
}

/* INIT, 10 ms, start-up IPI, and a second one when the first was not enough (SDM vol. 3, 9.4.4). */
static bool start_cpu(struct cpu *c, paddr_t page)
{
	u32 sipi = ICR_STARTUP | ICR_ASSERT | (u32)(page >> PAGE_SHIFT);

	lapic_icr(c->apic_id, ICR_INIT | ICR_ASSERT);
	delay_us(10000);
	lapic_icr(c->apic_id, sipi);
	if (wait_online(c, 20000))
		return true;
	lapic_icr(c->apic_id, sipi);
	return wait_online(c, 1000000);
}

/* The CPU has said why it goes no further. */
static bool refused(paddr_t page)
{
	const volatile u8 *p = phys_to_virt(page);

	return p[trampoline_refused - trampoline] != 0;
}

u32 smp_start(void)
{
	int found = smp_prepare();
	paddr_t page = trampoline_page();
	u32 n = 1;

	if (page == 0 && found > 1) {
		log_err("smp: no free page below 640 KiB to start CPUs from: only one is used");
		return n;
	}

	(void)irq_register(VECTOR_CALL, on_call); /* first to ask for it */
	for (int i = 1; i < found; i++) {
		struct cpu *c = &cpus[n];

		/* A CPU that stayed away leaves its number to the next one. */
		if (n != (u32)i)
			*c = cpus[i];
		c->id = n;
		place_trampoline(page, c);
		if (start_cpu(c, page)) {
			n++;
			__atomic_store_n(&cpu_count, n, __ATOMIC_RELEASE);
		} else {
			log_err("smp: CPU with APIC id %u %s, going on without it", c->apic_id,
				refused(page) ? "has SYSCFG[23] clear and cannot use encrypted "
				"memory (enable SMEE in firmware setup)" : "does not start");
			/* It may be late: park it for good. */
			lapic_icr(c->apic_id, ICR_INIT | ICR_ASSERT);
		}
	}
	/* Neither the start code nor the first page tables are to be used again. */
	memset(phys_to_virt(page), 0xf4, PAGE_SIZE);
	memset(boot_tables, 0, BOOT_TABLES_SIZE);
	return n;
}

void ap_main(void)
{
	/* CPUs start one at a time: this one's number is how many there are. */
	percpu_init(cpu_count, 0);
	cpu_setup();
	lapic_cpu_init();
	percpu.apic_id = lapic_id();
	__atomic_store_n(&percpu.cpu->online, true, __ATOMIC_RELEASE);
	/* cpu_count follows: nobody sends work before. */
	while (__atomic_load_n(&cpu_count, __ATOMIC_ACQUIRE) <= percpu.id)
		cpu_relax();
	sti();
	cpu_idle_loop();
}
