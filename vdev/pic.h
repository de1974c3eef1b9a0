/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_VDEV_PIC_H
#define RAVELIN_VDEV_PIC_H

#include "core/spinlock.h"
#include "core/types.h"

/* The pair of 8259A interrupt controllers (Intel 8259A data sheet, 231468-003). */
struct vdev_platform;

struct vpic_chip {
	u8 irr;
	u8 imr;
	u8 isr;
	u8 line;          /* levels of the inputs */
	u8 elcr;          /* bit set: level triggered */
	u8 base;          /* vector of input 0 */
	u8 lowest;        /* input with the lowest priority; 7 after ICW1 */
	u8 icw_next;      /* initialisation word expected: 2, 3, 4; 0 when operating */
	bool icw4_needed;
	bool single;
	bool auto_eoi;
	bool rotate_on_aeoi;
	bool special_mask;
	bool nested_fully;  /* special fully nested mode */
	bool poll;          /* the next read is a poll */
	bool read_isr;      /* OCW3 chose ISR for reads of port 0 */
};

struct vpic {
	struct vdev_platform *p;
	spinlock_t lock;
	bool intr;            /* the INTR output; read without the lock */
	struct vpic_chip chip[2]; /* master, slave */
};

int vpic_init(struct vpic *pic, struct vdev_platform *p);
void vpic_reset(struct vpic *pic);
/* Level of ISA interrupt line irq (0..15; 2 is the cascade and ignored). */
void vpic_set_irq(struct vpic *pic, u32 irq, bool level);
/* The vector an INTA cycle would give now. */
u8 vpic_peek(struct vpic *pic);
/* The INTA cycle: the vector, or that of the spurious input 7 when nothing is requested. */
u8 vpic_inta(struct vpic *pic);

#endif
