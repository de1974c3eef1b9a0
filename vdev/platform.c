/* SPDX-License-Identifier: BSD-2-Clause */
#include "vdev/platform.h"

#include "core/errno.h"
#include "core/string.h"

#define ISA_IRQS 16U

void vplatform_irq(struct vdev_platform *p, u32 gsi, bool level)
{
	if (gsi < ISA_IRQS) {
		if (gsi == VDEV_IRQ_CASCADE)
			return;
		vpic_set_irq(&p->pic, gsi, level);
	}
	vioapic_set_pin(&p->ioapic, gsi == VDEV_IRQ_PIT ? VDEV_IOAPIC_PIN_PIT : gsi, level);
}

/* SDM vol. 3A, 11.11. */
void vplatform_msi(struct vdev_platform *p, u64 address, u32 data)
{
	struct apic_message m = {
		.dest = (u32)(address >> 12) & 0xFF,
		.mode = data >> 8 & 7,
		.vector = (u8)data,
		.logical = (address & BIT(2)) != 0, /* the redirection hint changes nothing here */
		.level = false, /* no EOI goes back to the sender of a message */
	};

	if (address >> 20 != VDEV_LAPIC_BASE >> 20)
		return;
	vlapic_send(p, &m);
}

void vplatform_eoi(struct vdev_platform *p, u8 vector)
{
	vioapic_eoi(&p->ioapic, vector);
}

u32 vplatform_console_rx(struct vdev_platform *p, u32 port, const u8 *data, u32 len)
{
	return port < 2 && p->config.com[port] ? vuart_rx(&p->uart[port], data, len) : 0;
}

void vplatform_console_tx_ready(struct vdev_platform *p, u32 port)
{
	if (port < 2 && p->config.com[port])
		vuart_tx_ready(&p->uart[port]);
}

static bool config_valid(struct vdev_host *host, const struct vdev_platform_config *c)
{
	if (c->cpus < 1 || c->cpus > VDEV_MAX_CPUS) {
		vdev_log(host, "platform: %u vCPUs are out of range, allowed are 1 to %u", c->cpus,
			 VDEV_MAX_CPUS);
		return false;
	}
	if (c->phys_bits < 32 || c->phys_bits > 52) {
		vdev_log(host, "platform: %u physical address bits, allowed are 32 to 52",
			 c->phys_bits);
		return false;
	}
	return true;
}

int vplatform_init(struct vdev_platform *p, struct vdev_host *host,
		   const struct vdev_platform_config *config)
{
	if (!config_valid(host, config))
		return -EINVAL;

	memset(p, 0, sizeof(*p));
	memset(p->unusual, 0xFF, sizeof(p->unusual)); /* till each LAPIC opens */
	p->host = host;
	p->config = *config;

	/* The interrupt controllers first: the others set their lines at once. */
	int err = vpic_init(&p->pic, p);
	if (!err)
		err = vioapic_init(&p->ioapic, p);
	if (!err)
		err = vpit_init(&p->pit, p);
	if (!err)
		err = vrtc_init(&p->rtc, p);
	for (u32 port = 0; !err && port < 2; port++)
		if (config->com[port])
			err = vuart_init(&p->uart[port], p, port);
	if (!err)
		err = vacpi_pm_init(&p->pm, p, config->debug_exit, config->debugcon);
	if (err)
		vdev_log(host, "platform: device ports overlap or are too many (error %d)", err);
	return err;
}

void vplatform_reset(struct vdev_platform *p)
{
	vpic_reset(&p->pic);
	vioapic_reset(&p->ioapic);
	vpit_reset(&p->pit);
	vrtc_reset(&p->rtc);
	for (u32 port = 0; port < 2; port++)
		if (p->config.com[port])
			vuart_reset(&p->uart[port]);
	vacpi_pm_reset(&p->pm);
}

void vplatform_destroy(struct vdev_platform *p)
{
	for (u32 i = 0; i < VDEV_MAX_CPUS; i++)
		if (p->lapic[i])
			vdev_timer_cancel(&p->lapic[i]->timer);
	vdev_timer_cancel(&p->pit.timer);
	vdev_timer_cancel(&p->rtc.timer);
	vdev_timer_cancel(&p->pm.timer);
}
