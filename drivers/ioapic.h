/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_DRIVERS_IOAPIC_H
#define RAVELIN_DRIVERS_IOAPIC_H

#include "core/types.h"

/* Masks the 8259 pair: interrupts come by the I/O APIC. Before the local APIC stops listening to
 * it, or a CPU may be left with a request that nobody answers for. */
void pic_mask(void);
/* The machine's I/O APICs, as ACPI lists them. Masks all pins. */
void ioapic_init(void);
/* Sends an ISA interrupt (with ACPI's override) to a vector on a CPU. -ENODEV: no such pin. */
int ioapic_route_isa(u8 irq, u8 vector, u32 cpu);

#endif
