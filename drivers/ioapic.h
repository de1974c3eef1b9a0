/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_DRIVERS_IOAPIC_H
#define RAVELIN_DRIVERS_IOAPIC_H

#include "core/types.h"

/* The machine's I/O APICs, as ACPI lists them. Masks all pins; the 8259s too. */
void ioapic_init(void);
/* Sends an ISA interrupt (with ACPI's override) to a vector on CPU 0. -ENODEV: no such pin. */
int ioapic_route_isa(u8 irq, u8 vector);

#endif
