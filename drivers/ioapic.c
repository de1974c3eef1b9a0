/* SPDX-License-Identifier: BSD-2-Clause */
#include "drivers/ioapic.h"
#include "arch/x86/cpu.h"
#include "arch/x86/paging.h"
#include "arch/x86/percpu.h"
#include "core/errno.h"
#include "core/log.h"
#include "drivers/acpi.h"

/* Intel 82093AA data sheet. */
#define IOREGSEL 0x00
#define IOWIN 0x10
#define REG_VERSION 0x01
#define REG_REDIR(n) (0x10 + 2 * (n))
#define REDIR_LOW_ACTIVE BIT32(13)
#define REDIR_LEVEL BIT32(15)
#define REDIR_MASKED BIT32(16)
/* MPS INTI flags (ACPI 6.5, table 5.26): polarity 1:0, trigger 3:2; 3 = low, level */
#define INTI_POLARITY(f) ((f) & 3)
#define INTI_TRIGGER(f) ((f) >> 2 & 3)

static volatile u8 *regs[ACPI_IOAPICS];
static u32 pins[ACPI_IOAPICS];

static u32 reg_read(u32 i, u32 reg)
{
	mmio_write32(regs[i] + IOREGSEL, reg);
	return mmio_read32(regs[i] + IOWIN);
}

static void reg_write(u32 i, u32 reg, u32 value)
{
	mmio_write32(regs[i] + IOREGSEL, reg);
	mmio_write32(regs[i] + IOWIN, value);
}

void pic_mask(void)
{
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}

void ioapic_init(void)
{
	for (u32 i = 0; i < acpi.ioapics; i++) {
		regs[i] = mmio_map(acpi.ioapic[i].base, 0x20);
		if (regs[i] == NULL)
			continue;
		pins[i] = (reg_read(i, REG_VERSION) >> 16 & 0xff) + 1;
		for (u32 n = 0; n < pins[i]; n++)
			reg_write(i, REG_REDIR(n), REDIR_MASKED);
	}
}

static u32 isa_gsi(u8 irq, u16 *flags)
{
	*flags = 0;
	for (u32 i = 0; i < acpi.overrides; i++) {
		if (acpi.override[i].irq == irq) {
			*flags = acpi.override[i].flags;
			return acpi.override[i].gsi;
		}
	}
	return irq;
}

int ioapic_route_isa(u8 irq, u8 vector, u32 cpu)
{
	u16 flags;
	u32 gsi = isa_gsi(irq, &flags);
	u32 low = vector;

	if (INTI_POLARITY(flags) == 3)
		low |= REDIR_LOW_ACTIVE;
	if (INTI_TRIGGER(flags) == 3)
		low |= REDIR_LEVEL;
	/* The destination field has eight bits: a CPU beyond them gets no such interrupt. */
	if (cpus[cpu].apic_id > 0xff)
		return -ENODEV;
	for (u32 i = 0; i < acpi.ioapics; i++) {
		u32 base = acpi.ioapic[i].gsi_base;

		if (regs[i] == NULL || gsi < base || gsi - base >= pins[i])
			continue;
		reg_write(i, REG_REDIR(gsi - base) + 1, cpus[cpu].apic_id << 24);
		reg_write(i, REG_REDIR(gsi - base), low);
		return 0;
	}
	return -ENODEV;
}
