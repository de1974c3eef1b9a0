/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_DRIVERS_ACPI_H
#define RAVELIN_DRIVERS_ACPI_H

#include "core/config.h"
#include "core/types.h"

/*
 * The machine's ACPI tables (ACPI 6.5, chapter 5.2), read once at start. Every
 * table's length and checksum are checked; a bad one is logged by its signature
 * and left out.
 */
struct acpi_header {
	char signature[4];
	u32 length;
	u8 revision;
	u8 checksum;
	char oem_id[6];
	char oem_table_id[8];
	u32 oem_revision;
	u32 creator_id;
	u32 creator_revision;
} __packed;
ASSERT_SIZE(struct acpi_header, 36);

/* Generic address structure (5.2.3.2). */
struct acpi_gas {
	u8 space; /* 0 memory, 1 I/O port, 2 PCI configuration */
	u8 width;
	u8 offset;
	u8 access;
	u64 address;
} __packed;
ASSERT_SIZE(struct acpi_gas, 12);
#define GAS_MEMORY 0
#define GAS_IO 1
#define GAS_PCI 2

#define ACPI_IOAPICS 16
#define ACPI_OVERRIDES 16
#define ACPI_ECAMS 16

struct acpi_cpu {
	u32 apic_id;
	u32 uid;
	u32 node;
};

struct acpi_ioapic {
	paddr_t base;
	u32 gsi_base;
	u8 id;
};

struct acpi_override {
	u8 irq; /* ISA */
	u32 gsi;
	u16 flags; /* MPS INTI flags */
};

/* One PCI segment's memory-mapped configuration space. */
struct acpi_ecam {
	paddr_t base;
	u16 segment;
	u8 bus_first, bus_last;
};

struct acpi {
	paddr_t lapic_base;
	u32 cpus;
	struct acpi_cpu cpu[CPU_MAX]; /* enabled ones, in the MADT's order */
	u32 cpus_ignored;             /* beyond CPU_MAX */
	u32 ioapics;
	struct acpi_ioapic ioapic[ACPI_IOAPICS];
	u32 overrides;
	struct acpi_override override[ACPI_OVERRIDES];
	u32 ecams;
	struct acpi_ecam ecam[ACPI_ECAMS];
	bool has_8259;
	/* FADT */
	u16 pm_timer_port; /* 0: none */
	bool pm_timer_32bit;
	u16 pm1a_control, pm1b_control, pm1a_event;
	u16 sci_irq;
	struct acpi_gas reset;
	u8 reset_value;
	bool reset_supported;
	bool s5_known;
	u8 s5_typ_a, s5_typ_b;
	u16 smi_command;
	u8 acpi_enable;
	/* SPCR */
	struct acpi_gas spcr;
	u8 spcr_type;      /* interface: 0 = 16550, 1 = 16450, 0x12 = 16550 by GAS */
	u8 spcr_baud;      /* 3 = 9600, 4 = 19200, 6 = 57600, 7 = 115200, 0 = as is */
	bool spcr_present;
};

extern struct acpi acpi;

/*
 * Reads all tables from the RSDP at physical address rsdp. 0: looks for it in
 * the BIOS areas. -ENOENT: none found; -EPROTO: root table damaged. The
 * machine then has one CPU.
 */
int acpi_init(paddr_t rsdp);
/* A table by signature, checked, mapped for good; nth counts from 0. NULL: there is none. */
const struct acpi_header *acpi_find(const char *signature, u32 nth);
/* ACPI ways; return when they had no effect. */
void acpi_reset(void);
void acpi_poweroff(void);

#endif
