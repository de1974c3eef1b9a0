/* SPDX-License-Identifier: BSD-2-Clause */
#include "vdev/ioapic.h"

#include "vdev/platform.h"

#define REG_SELECT 0x00U
#define REG_WINDOW 0x10U
#define REG_EOI 0x40U

#define INDEX_ID 0x00U
#define INDEX_VERSION 0x01U
#define INDEX_ARBITRATION 0x02U
#define INDEX_REDIRECTION 0x10U

#define VERSION (0x20U | (VIOAPIC_PINS - 1U) << 16)

/* Redirection entry (82093AA data sheet, 3.2.4). */
#define RTE_VECTOR(e) ((u8)(e))
#define RTE_MODE(e) ((u32)((e) >> 8) & 7)
#define RTE_LOGICAL BIT(11)
#define RTE_REMOTE_IRR BIT(14)
#define RTE_LEVEL BIT(15)
#define RTE_MASKED BIT(16)
#define RTE_DEST(e) ((u32)((e) >> 56))
#define RTE_WRITABLE 0xFF0000000001AFFFULL /* all but delivery status and remote IRR */

/* Sends pin's interrupt. Lock held, as for all static functions here. */
static void send(struct vioapic *io, u32 pin)
{
	u64 e = io->redir[pin];
	bool level = e & RTE_LEVEL;
	struct apic_message m = {
		.dest = RTE_DEST(e),
		.mode = (u8)RTE_MODE(e),
		.vector = RTE_VECTOR(e),
		.logical = e & RTE_LOGICAL,
		.level = level,
	};

	/* An EOI that another CPU sends at once waits for the lock, and finds the bit. */
	if (vlapic_send(io->p, &m) && level && m.mode <= APIC_LOWEST)
		io->redir[pin] |= RTE_REMOTE_IRR;
}

/* A level input requests while it is asserted and no EOI is outstanding. */
static void service_level(struct vioapic *io, u32 pin)
{
	u64 e = io->redir[pin];

	if ((e & RTE_LEVEL) && !(e & (RTE_MASKED | RTE_REMOTE_IRR)) && (io->line & BIT32(pin)))
		send(io, pin);
}

void vioapic_set_pin(struct vioapic *io, u32 pin, bool level)
{
	if (pin >= VIOAPIC_PINS)
		return;

	spin_lock(&io->lock);
	bool rising = level && !(io->line & BIT32(pin));
	io->line = level ? io->line | BIT32(pin) : io->line & ~BIT32(pin);
	if (io->redir[pin] & RTE_LEVEL)
		service_level(io, pin);
	else if (rising && !(io->redir[pin] & RTE_MASKED))
		send(io, pin); /* an edge on a masked input is lost (82093AA, 3.2.4) */
	spin_unlock(&io->lock);
}

static void end_of_interrupt(struct vioapic *io, u8 vector)
{
	for (u32 pin = 0; pin < VIOAPIC_PINS; pin++) {
		u64 e = io->redir[pin];
		if (!(e & RTE_REMOTE_IRR) || RTE_VECTOR(e) != vector)
			continue;
		io->redir[pin] = e & ~RTE_REMOTE_IRR;
		service_level(io, pin);
	}
}

void vioapic_eoi(struct vioapic *io, u8 vector)
{
	spin_lock(&io->lock);
	end_of_interrupt(io, vector);
	spin_unlock(&io->lock);
}

static u32 read_window(const struct vioapic *io)
{
	u32 index = io->select;

	if (index == INDEX_ID || index == INDEX_ARBITRATION)
		return io->id << 24;
	if (index == INDEX_VERSION)
		return VERSION;
	u32 n = index - INDEX_REDIRECTION;
	if (index < INDEX_REDIRECTION || n / 2 >= VIOAPIC_PINS)
		return ~0U;
	return (u32)(io->redir[n / 2] >> (n % 2 * 32));
}

static void write_window(struct vioapic *io, u32 value)
{
	u32 index = io->select;

	if (index == INDEX_ID)
		io->id = value >> 24 & 0xF;
	u32 n = index - INDEX_REDIRECTION;
	if (index < INDEX_REDIRECTION || n / 2 >= VIOAPIC_PINS)
		return;

	u64 *e = &io->redir[n / 2], half = 0xFFFFFFFFULL << (n % 2 * 32);
	u64 writable = RTE_WRITABLE & half;
	*e = (*e & ~writable) | ((u64)value << (n % 2 * 32) & writable);
	/* Without an EOI register, software cleared remote IRR by a turn to edge and back. */
	if (!(*e & RTE_LEVEL))
		*e &= ~RTE_REMOTE_IRR;
	service_level(io, n / 2);
}

static u64 mmio_read(void *dev, u64 offset, u32 size __unused)
{
	struct vioapic *io = dev;
	u32 value = 0;

	spin_lock(&io->lock);
	if (offset == REG_SELECT)
		value = io->select;
	else if (offset == REG_WINDOW)
		value = read_window(io);
	spin_unlock(&io->lock);
	return value;
}

static void mmio_write(void *dev, u64 offset, u32 size, u64 value)
{
	struct vioapic *io = dev;

	spin_lock(&io->lock);
	if (offset == REG_SELECT)
		io->select = (u8)value;
	else if (offset == REG_WINDOW && size >= 4) /* narrower writes are undefined: dropped */
		write_window(io, (u32)value);
	else if (offset == REG_EOI)
		end_of_interrupt(io, (u8)value);
	spin_unlock(&io->lock);
}

void vioapic_reset(struct vioapic *io)
{
	spin_lock(&io->lock);
	io->id = VDEV_IOAPIC_ID;
	io->select = 0;
	for (u32 pin = 0; pin < VIOAPIC_PINS; pin++)
		io->redir[pin] = RTE_MASKED;
	spin_unlock(&io->lock);
}

int vioapic_init(struct vioapic *io, struct vdev_platform *p)
{
	const struct vdev_range range = {
		VDEV_IOAPIC_BASE, VDEV_IOAPIC_SIZE, mmio_read, mmio_write, io, "ioapic", 0
	};

	io->p = p;
	vioapic_reset(io);
	return vdev_bus_add_mmio(&p->bus, &range);
}
