/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/main.h"
#include "arch/x86/cpu.h"
#include "arch/x86/lapic.h"
#include "arch/x86/paging.h"
#include "arch/x86/percpu.h"
#include "selftest/selftest.h"
#include "arch/x86/smp.h"
#include "arch/x86/tsc.h"
#include "core/config.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/panic.h"
#include "core/pmm.h"
#include "core/version.h"
#include "drivers/acpi.h"
#include "drivers/console.h"
#include "drivers/ioapic.h"

const struct boot_info *boot_info;

/* Leaves the first page tables and the first stack (boot/entry.asm). */
void switch_space(paddr_t cr3, u64 stack_top, void (*fn)(void)) __noreturn;

__weak void __noreturn cpu_idle_loop(void)
{
	for (;;)
		sti_hlt();
}

__weak void __noreturn core_start(const struct boot_info *bi)
{
	(void)bi;
	log_info("Ravelin up: %u CPUs, %lu MiB", cpu_count, pmm_total_count() >> 8);
	cpu_idle_loop();
}

static const char *type_name(u32 type)
{
	static const char *const names[] = { "?", "RAM", "reserved", "ACPI", "ACPI NVS", "bad" };

	return names[type < ARRAY_SIZE(names) ? type : 0];
}

static void show_boot_info(const struct boot_info *bi)
{
	log_info("boot: by %s, image of %lu KiB at 0x%lx", bi->door, bi->image_size >> 10,
		 bi->image);
	for (u32 i = 0; i < bi->mems; i++)
		log_debug("boot: memory 0x%lx-0x%lx %s", bi->mem[i].base,
			  bi->mem[i].base + bi->mem[i].size, type_name(bi->mem[i].type));
	for (u32 i = 0; i < bi->modules; i++) {
		const struct boot_module *m = &bi->module[i];

		if (m->error != 0)
			log_err("boot: file %s could not be read: error %d", m->name, -m->error);
		else
			log_info("boot: file %s, %lu bytes", m->name, m->size);
	}
}

/* On the CPU's own page tables and stack, without the lower half. */
static void __noreturn machine_main(void)
{
	u32 bad;

	stack_guard_init();
	percpu_init(0, 0);
	cpu_setup();
	hostmem_add_high(boot_info);
	(void)acpi_init(boot_info->rsdp); /* logged; without tables there is one CPU */
	if (acpi.has_8259)
		pic_mask();
	if (lapic_init() != 0)
		panic("start: this machine has no local APIC");
	if (tsc_init() != 0)
		panic("start: no clock");
	timer_init();
	ioapic_init();
	sti();
	(void)smp_start();
	bad = hostmem_seal();
	if (bad != 0)
		panic("start: %u pages break the rules of the address space", bad);
	log_info("machine: %s, %u CPUs, %lu MiB, %lu MiB free, %s", cpu_features.brand, cpu_count,
		 pmm_total_count() >> 8, pmm_free_count() >> 8,
		 lapic.x2apic ? "x2APIC" : "xAPIC");
	selftest(boot_info->cmdline);
	core_start(boot_info);
}

static void check_boot_info(struct boot_info *bi)
{
	int err = boot_info_normalise(bi);

	if (err == -ENOENT)
		panic("start: the boot loader's memory map names no RAM");
	if (err != 0)
		panic("start: the boot loader's memory map cannot be used: error %d", -err);
	(void)boot_info_check_modules(bi); /* each is logged; the machine comes up without */
}

void machine_start(struct boot_info *bi)
{
	paddr_t cr3;

	boot_info = bi;
	console_early(bi);
	log_info("Ravelin " RAVELIN_VERSION);
	if (cpu_detect() != 0)
		panic("start: this CPU cannot run Ravelin");
	check_boot_info(bi);
	show_boot_info(bi);
	config_read(bi);
	memcrypt_init(bi, config.host.memory_encryption);
	hostmem_init(bi);
	if (hostmem_cpu_space(&cr3) != 0)
		panic("start: no memory for the boot CPU's own area");
	cpus[0].cr3 = cr3;
	switch_space(cr3, STACK_TOP, machine_main);
}
