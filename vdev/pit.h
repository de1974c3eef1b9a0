/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_VDEV_PIT_H
#define RAVELIN_VDEV_PIT_H

#include "core/spinlock.h"
#include "core/types.h"
#include "vdev/host.h"

/* The 8254 interval timer (Intel 231164-005) and port 0x61. Time is in PIT ticks since VM start. */
struct vdev_platform;

#define VPIT_HZ 1193182U

struct vpit_channel {
	u8 mode;          /* 0..5 */
	u8 access;        /* 1 low byte, 2 high byte, 3 low then high */
	bool bcd;
	bool gate;
	bool loaded;      /* a count was written since the control word */
	bool running;     /* counting from start; else stopped at frozen */
	bool triggered;   /* modes 1 and 5: a gate edge came */
	bool write_high;  /* the next byte written is the high one */
	bool read_high;
	u8 write_low;
	u32 count;        /* 1..65536 (10000 in BCD) */
	u32 next_count;   /* modes 2 and 3: loaded at tick next_at; 0 none */
	u64 next_at;
	u64 start;        /* tick at which count was loaded */
	u64 frozen;       /* ticks counted before the gate stopped it */
	bool status_latched;
	u8 status;
	u8 latch_bytes;   /* bytes of latch still to be read */
	u16 latch;
};

struct vpit {
	struct vdev_platform *p;
	spinlock_t lock;
	struct vpit_channel ch[3];
	u8 port61;        /* bits 3:0 as written */
	u64 due_tick;     /* next rising edge of channel 0; 0 none */
	struct vdev_timer timer;
};

int vpit_init(struct vpit *pit, struct vdev_platform *p);
void vpit_reset(struct vpit *pit);

#endif
