/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_VDEV_RTC_H
#define RAVELIN_VDEV_RTC_H

#include "core/spinlock.h"
#include "core/types.h"
#include "vdev/host.h"

/* The MC146818 real-time clock with 128 bytes of CMOS memory. The weekday follows from the date. */
struct vdev_platform;

#define VRTC_BYTES 128

struct vrtc {
	struct vdev_platform *p;
	spinlock_t lock;
	u8 index;
	u8 flags;          /* register C */
	u8 cmos[VRTC_BYTES];
	s64 base_seconds;  /* clock = base_seconds + (guest time + phase_ns) / 1 s, from year 0 */
	u64 phase_ns;      /* 0..999999999 */
	u64 synced_ns;     /* flags are complete up to this guest time */
	s64 alarm_second;  /* clock value of the next alarm match, -1 none */
	u64 due_ns;        /* 0: timer idle */
	struct vdev_timer timer;
};

int vrtc_init(struct vrtc *rtc, struct vdev_platform *p);
/* CMOS memory and time survive a reset; interrupts are disabled. */
void vrtc_reset(struct vrtc *rtc);

#endif
