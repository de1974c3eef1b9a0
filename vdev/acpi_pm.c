/* SPDX-License-Identifier: BSD-2-Clause */
#include "vdev/acpi_pm.h"

#include "vdev/platform.h"
#include "vdev/ticks.h"

/* ACPI 6.5, 4.8.3. */
#define PM1_TMR 0x0001U
#define PM1_GBL 0x0020U
#define PM1_PWRBTN 0x0100U
#define PM1_RTC 0x0400U
#define PM1_ENABLE_BITS (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_RTC)
#define CNT_SCI_EN 0x0001U
#define CNT_WRITABLE 0x1C03U /* SLP_TYP, BM_RLD; SCI_EN is always on: there is no SMI_CMD */
#define CNT_SLP_TYP(c) ((c) >> 10 & 7)
#define CNT_SLP_EN 0x2000U

#define TMR_CARRY 31U /* TMR_STS notes each change of this bit */

/* Port 0xCF9 (ICH9 data sheet, 13.7.5): a rising RST_CPU resets. */
#define CF9_RST_CPU 0x04U
#define CF9_WRITABLE 0x0EU

#define P92_RESET 0x01U
#define P92_A20 0x02U

#define DEBUGCON_PRESENT 0xE9U

static u64 now_tick(const struct vacpi_pm *pm)
{
	return ticks_from_ns(vdev_now_ns(pm->p->host), VACPI_PM_HZ);
}

/* Lock held: the timer's carry, the SCI and the host's timer follow time and registers. */
static void update(struct vacpi_pm *pm)
{
	u64 tick = now_tick(pm);

	if (tick >> TMR_CARRY != pm->synced_tick >> TMR_CARRY)
		pm->status |= PM1_TMR;
	pm->synced_tick = tick;

	bool sci = (pm->status & pm->enable) != 0;
	if (sci != pm->sci) {
		pm->sci = sci;
		vplatform_irq(pm->p, VDEV_IRQ_SCI, sci);
	}
	if ((pm->enable & PM1_TMR) && !(pm->status & PM1_TMR))
		vdev_timer_arm(&pm->timer, ns_from_ticks(((tick >> TMR_CARRY) + 1) << TMR_CARRY,
							 VACPI_PM_HZ));
	else
		vdev_timer_cancel(&pm->timer);
}

static void timer_fired(void *arg)
{
	struct vacpi_pm *pm = arg;

	spin_lock(&pm->lock);
	update(pm);
	spin_unlock(&pm->lock);
}

/* PM1 event block: status at 0, enable at 2, each 16 bits, accessed in any width. */
static u64 event_read(void *dev, u64 offset, u32 size __unused)
{
	struct vacpi_pm *pm = dev;

	spin_lock(&pm->lock);
	update(pm);
	u32 both = pm->status | (u32)pm->enable << 16;
	spin_unlock(&pm->lock);
	return both >> (offset * 8);
}

static void event_write(void *dev, u64 offset, u32 size, u64 value)
{
	struct vacpi_pm *pm = dev;
	u32 shift = (u32)offset * 8;
	u32 mask = (u32)((1ULL << size * 8) - 1) << shift, v = (u32)value << shift;

	spin_lock(&pm->lock);
	update(pm);
	pm->status &= (u16)~(v & mask); /* written ones clear */
	u32 enable = ((u32)pm->enable << 16 & ~mask) | (v & mask);
	pm->enable = (u16)(enable >> 16 & PM1_ENABLE_BITS);
	update(pm);
	spin_unlock(&pm->lock);
}

static u64 control_read(void *dev, u64 offset, u32 size __unused)
{
	const struct vacpi_pm *pm = dev;

	return (u32)(pm->control | CNT_SCI_EN) >> (offset * 8);
}

static void control_write(void *dev, u64 offset, u32 size, u64 value)
{
	struct vacpi_pm *pm = dev;
	u32 shift = (u32)offset * 8;
	u32 mask = (u32)((1ULL << size * 8) - 1) << shift, v = (u32)value << shift;

	spin_lock(&pm->lock);
	u32 control = (pm->control & ~mask) | (v & mask);
	pm->control = (u16)(control & CNT_WRITABLE);
	spin_unlock(&pm->lock);
	if ((v & mask & CNT_SLP_EN) && CNT_SLP_TYP(control) == VDEV_ACPI_SLP_TYP_S5)
		vdev_power(pm->p->host, VDEV_POWER_OFF, 0);
}

static u64 timer_read(void *dev, u64 offset, u32 size __unused)
{
	const struct vacpi_pm *pm = dev;

	return (u32)now_tick(pm) >> (offset * 8);
}

static void ignore_write(void *dev __unused, u64 offset __unused, u32 size __unused,
			 u64 value __unused)
{
}

/* Reset and small ports ---------------------------------------------------- */

/*
 * 0xCF9 is a byte register inside the PCI configuration address port: only byte
 * accesses reach it, so that a guest that probes for PCI resets nothing. The
 * rest of the range answers that there is no PCI.
 */
static bool is_reset_byte(u64 offset, u32 size)
{
	return offset == VDEV_PORT_RESET - VDEV_PORT_PCI_CONFIG && size == 1;
}

static u64 reset_read(void *dev, u64 offset, u32 size)
{
	const struct vacpi_pm *pm = dev;

	return is_reset_byte(offset, size) ? pm->reset_ctl : ~0ULL;
}

static void reset_write(void *dev, u64 offset, u32 size, u64 value)
{
	struct vacpi_pm *pm = dev;

	if (!is_reset_byte(offset, size))
		return;
	bool rising = (value & CF9_RST_CPU) && !(pm->reset_ctl & CF9_RST_CPU);
	pm->reset_ctl = (u8)(value & CF9_WRITABLE);
	if (rising)
		vdev_power(pm->p->host, VDEV_POWER_RESET, 0);
}

/* No keyboard controller: all ones is what its drivers look for. Its reset command still works. */
static u64 keyboard_read(void *dev __unused, u64 offset __unused, u32 size __unused)
{
	return 0xFF;
}

static void keyboard_command(void *dev, u64 offset __unused, u32 size __unused, u64 value)
{
	struct vacpi_pm *pm = dev;

	/* Commands 0xF0..0xFF pulse output lines; bit 0 clear selects the processor's reset. */
	if ((value & 0xF1) == 0xF0)
		vdev_power(pm->p->host, VDEV_POWER_RESET, 0);
}

static u64 port92_read(void *dev, u64 offset __unused, u32 size __unused)
{
	const struct vacpi_pm *pm = dev;

	return pm->port92;
}

/* The A20 bit is memory: the address line is always enabled. */
static void port92_write(void *dev, u64 offset __unused, u32 size __unused, u64 value)
{
	struct vacpi_pm *pm = dev;
	bool rising = (value & P92_RESET) && !(pm->port92 & P92_RESET);

	pm->port92 = (u8)(value & (P92_RESET | P92_A20));
	if (rising)
		vdev_power(pm->p->host, VDEV_POWER_RESET, 0);
}

static u64 post_read(void *dev, u64 offset __unused, u32 size __unused)
{
	const struct vacpi_pm *pm = dev;

	return pm->post;
}

static void post_write(void *dev, u64 offset __unused, u32 size __unused, u64 value)
{
	struct vacpi_pm *pm = dev;

	pm->post = (u8)value;
}

static u64 debug_exit_read(void *dev __unused, u64 offset __unused, u32 size __unused)
{
	return 0;
}

static void debug_exit_write(void *dev, u64 offset __unused, u32 size __unused, u64 value)
{
	struct vacpi_pm *pm = dev;

	vdev_power(pm->p->host, VDEV_POWER_DEBUG_EXIT, (u32)value);
}

static u64 debugcon_read(void *dev __unused, u64 offset __unused, u32 size __unused)
{
	return DEBUGCON_PRESENT;
}

/* Text that finds no room is lost: the port has no way to make the guest wait. */
static void debugcon_write(void *dev, u64 offset __unused, u32 size __unused, u64 value)
{
	struct vacpi_pm *pm = dev;

	(void)vdev_console_put(pm->p->host, 0, (u8)value);
}

void vacpi_pm_power_button(struct vacpi_pm *pm)
{
	spin_lock(&pm->lock);
	pm->status |= PM1_PWRBTN;
	update(pm);
	spin_unlock(&pm->lock);
}

void vacpi_pm_reset(struct vacpi_pm *pm)
{
	spin_lock(&pm->lock);
	pm->status = 0;
	pm->enable = 0;
	pm->control = 0;
	pm->reset_ctl = 0;
	pm->port92 = P92_A20;
	pm->post = 0;
	pm->synced_tick = now_tick(pm);
	update(pm);
	spin_unlock(&pm->lock);
}

int vacpi_pm_init(struct vacpi_pm *pm, struct vdev_platform *p, bool debug_exit, bool debugcon)
{
	const struct vdev_range ranges[] = {
		{ VDEV_PORT_PM1_EVENT, 4, event_read, event_write, pm, "pm1-event", 0 },
		{ VDEV_PORT_PM1_CONTROL, 2, control_read, control_write, pm, "pm1-control", 0 },
		{ VDEV_PORT_PM_TIMER, 4, timer_read, ignore_write, pm, "pm-timer", 0 },
		{ VDEV_PORT_PCI_CONFIG, 8, reset_read, reset_write, pm, "reset", 0 },
		{ VDEV_PORT_KBD_DATA, 1, keyboard_read, ignore_write, pm, "keyboard", 1 },
		{ VDEV_PORT_KBD_STATUS, 1, keyboard_read, keyboard_command, pm, "keyboard", 1 },
		{ VDEV_PORT_FAST_A20, 1, port92_read, port92_write, pm, "port92", 1 },
		{ VDEV_PORT_POST, 1, post_read, post_write, pm, "post", 1 },
		{ VDEV_PORT_DEBUG_EXIT, 4, debug_exit_read, debug_exit_write, pm, "debug-exit", 0 },
		{ VDEV_PORT_DEBUGCON, 1, debugcon_read, debugcon_write, pm, "debugcon", 1 },
	};

	pm->p = p;
	vdev_timer_init(&pm->timer, p->host, 0, timer_fired, pm);
	vacpi_pm_reset(pm);
	for (u32 i = 0; i < ARRAY_SIZE(ranges); i++) {
		if (ranges[i].base == VDEV_PORT_DEBUG_EXIT && !debug_exit)
			continue;
		if (ranges[i].base == VDEV_PORT_DEBUGCON && !debugcon)
			continue;
		int err = vdev_bus_add_port(&p->bus, &ranges[i]);
		if (err)
			return err;
	}
	return 0;
}
