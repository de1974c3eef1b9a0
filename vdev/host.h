/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_VDEV_HOST_H
#define RAVELIN_VDEV_HOST_H

#include "core/types.h"

/*
 * What a virtual device may ask of the hypervisor: this file is the whole of
 * it. A device holds an opaque vdev_host, never a pointer into core. All calls
 * may be made with a device lock held and with interrupts off; none blocks.
 * Unit tests provide their own implementation.
 */
struct vdev_host;

/* Nanoseconds of guest time since the VM was created; never goes back. */
u64 vdev_now_ns(struct vdev_host *h);
/* A vCPU's TSC now, and its frequency in kHz. */
u64 vdev_guest_tsc(struct vdev_host *h, u32 vcpu);
u64 vdev_tsc_khz(struct vdev_host *h);
/* Seconds since 1970 by the machine's clock (RTC), for the CMOS clock's start value. */
u64 vdev_wall_seconds(struct vdev_host *h);

/* One-shot timer. Deadlines in vdev_now_ns() time. Runs fn(arg) in interrupt-off context on a CPU
 * of the VM, without any device lock held. Storage is the device's. */
struct vdev_timer {
	u64 deadline_ns;
	void (*fn)(void *arg);
	void *arg;
	struct vdev_host *host;
	u32 vcpu;               /* the vCPU whose CPU should take the interrupt */
	bool armed;
	u32 cpu;                /* core's: the queue it is in */
	u64 tsc;                /* core's: the deadline on the host's clock */
	struct vdev_timer *next, *prev; /* core's: queue links */
};
void vdev_timer_init(struct vdev_timer *t, struct vdev_host *h, u32 vcpu, void (*fn)(void *),
		     void *arg);
void vdev_timer_arm(struct vdev_timer *t, u64 deadline_ns); /* re-arms when armed */
void vdev_timer_cancel(struct vdev_timer *t);
/* Converts a value of a vCPU's TSC to vdev_now_ns() time (for TSC deadline). */
u64 vdev_tsc_to_ns(struct vdev_host *h, u32 vcpu, u64 guest_tsc);

/* Things a LAPIC (or the PIC's INTR wire) tells a vCPU. Safe from any CPU. */
#define VDEV_KICK_IRQ BIT32(0)  /* an interrupt may be deliverable: re-evaluate */
#define VDEV_KICK_NMI BIT32(1)  /* deliver one NMI */
#define VDEV_KICK_INIT BIT32(2)
#define VDEV_KICK_SIPI BIT32(3) /* arg = start vector */
void vdev_kick(struct vdev_host *h, u32 vcpu, u32 what, u32 arg);
/* VDEV_KICK_IRQ of a vCPU to itself, in an exit of its own. */
void vdev_kick_self(struct vdev_host *h, u32 vcpu);

/* Bounds-checked guest memory; -EFAULT when any byte is not RAM, or is private (SEV). */
int vm_memory_read(struct vdev_host *h, gpa_t gpa, void *buf, size_t len);
int vm_memory_write(struct vdev_host *h, gpa_t gpa, const void *buf, size_t len);

/* A byte the guest sent on serial port `port` (0 or 1). False: no room now, try after the tx callback. */
bool vdev_console_put(struct vdev_host *h, u32 port, u8 ch);

/* Power events; they take effect after the current exit. */
enum vdev_power { VDEV_POWER_OFF, VDEV_POWER_RESET, VDEV_POWER_DEBUG_EXIT };
void vdev_power(struct vdev_host *h, enum vdev_power what, u32 code);

/* A device-level remark for the log, rate limited by the host ("vm NAME: uart0: ..."). */
void vdev_log(struct vdev_host *h, const char *fmt, ...) __printf(2, 3);

#endif
