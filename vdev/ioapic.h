/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_VDEV_IOAPIC_H
#define RAVELIN_VDEV_IOAPIC_H

#include "core/spinlock.h"
#include "core/types.h"

/*
 * One I/O APIC (Intel 82093AA data sheet; version 0x20 with the EOI register,
 * as in ICH9, 13.5). Pin levels are logical: true means asserted, whatever the
 * polarity bit says.
 */
struct vdev_platform;

#define VIOAPIC_PINS 24

struct vioapic {
	struct vdev_platform *p;
	spinlock_t lock;
	u32 id;
	u8 select;
	u32 line;                 /* bit n: pin n is asserted */
	u64 redir[VIOAPIC_PINS];
};

int vioapic_init(struct vioapic *io, struct vdev_platform *p);
void vioapic_reset(struct vioapic *io);
void vioapic_set_pin(struct vioapic *io, u32 pin, bool level);
/* A LAPIC ended level-triggered vector. */
void vioapic_eoi(struct vioapic *io, u8 vector);

#endif
