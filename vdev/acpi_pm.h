/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_VDEV_ACPI_PM_H
#define RAVELIN_VDEV_ACPI_PM_H

#include "core/spinlock.h"
#include "core/types.h"
#include "vdev/host.h"

/*
 * ACPI fixed hardware (ACPI 6.5, 4.8) always in ACPI mode, the 32-bit PM timer,
 * and the small power and reset ports of a PC.
 */
struct vdev_platform;

#define VACPI_PM_HZ 3579545U

struct vacpi_pm {
	struct vdev_platform *p;
	spinlock_t lock;
	u16 status;      /* PM1_STS */
	u16 enable;      /* PM1_EN */
	u16 control;     /* PM1_CNT without SLP_EN */
	u8 reset_ctl;    /* port 0xCF9 */
	u8 port92;
	u8 post;         /* port 0x80 */
	bool sci;        /* level of the SCI */
	u64 synced_tick; /* TMR_STS is complete up to this tick */
	struct vdev_timer timer;
};

int vacpi_pm_init(struct vacpi_pm *pm, struct vdev_platform *p, bool debug_exit, bool debugcon);
void vacpi_pm_reset(struct vacpi_pm *pm);
/* The user pressed the power button. Interrupts off, any CPU. */
void vacpi_pm_power_button(struct vacpi_pm *pm);

#endif
