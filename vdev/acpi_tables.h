/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_VDEV_ACPI_TABLES_H
#define RAVELIN_VDEV_ACPI_TABLES_H

#include "core/types.h"

/*
 * The guest's ACPI tables lie in the BIOS area: where old systems look for the RSDP, too. Not at
 * 0xF0000 and above: Linux has a resource of its own there, "System ROM", and as an SEV guest
 * would map tables inside it as shared memory.
 */
#define ACPI_TABLES_BASE 0xE0000UL
#define ACPI_TABLES_SIZE 0x10000UL
/* The FACS is written by the guest: it has a page of type ACPI NVS, the rest is ACPI data. */
#define ACPI_TABLES_FACS 0xEF000UL

struct acpi_tables_config {
	u32 cpus;            /* 1..VDEV_MAX_CPUS */
	const u32 *apic_id;  /* one per CPU; the processor's ACPI UID is its index */
	bool com[2];
};

/*
 * Writes RSDP, RSDT, XSDT, FADT, FACS, MADT and DSDT for the platform of
 * vdev/platform.h (ACPI 5.0) to area: a zeroed buffer of ACPI_TABLES_SIZE bytes
 * that the guest sees at ACPI_TABLES_BASE. Returns the address of the RSDP as
 * the guest sees it, 0 when the configuration is out of range.
 */
gpa_t acpi_tables_write(u8 *area, const struct acpi_tables_config *config);

#endif
