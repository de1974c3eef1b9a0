/* SPDX-License-Identifier: BSD-2-Clause */
#include "vdev/pic.h"

#include "vdev/platform.h"

/* ICW1 (port 0, bit 4 set), OCW2 and OCW3 (port 0, bit 4 clear). */
#define ICW1_IC4 0x01U
#define ICW1_SINGLE 0x02U
#define ICW1 0x10U
#define ICW4_AUTO_EOI 0x02U
#define ICW4_NESTED_FULLY 0x10U
#define OCW3 0x08U
#define OCW3_RIS 0x01U
#define OCW3_RR 0x02U
#define OCW3_POLL 0x04U
#define OCW3_SMM 0x20U
#define OCW3_ESMM 0x40U

#define MASTER 0U
#define SLAVE 1U
#define CASCADE_BIT BIT32(VDEV_IRQ_CASCADE)

/* A field that other CPUs write under the lock. */
#define peek(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

/* Inputs that can be level triggered: all but timer, keyboard, cascade, RTC and FPU. */
static const u8 elcr_writable[2] = { 0xF8, 0xDE };

/* How many inputs rank above the first one set in bits; 8 for none. */
static u32 rank(const struct vpic_chip *c, u32 bits)
{
	u32 shift = (c->lowest + 1U) & 7;
	u32 rotated = (bits >> shift | bits << (8 - shift)) & 0xFF;

	return rotated ? (u32)__builtin_ctz(rotated) : 8;
}

static u32 input_of(const struct vpic_chip *c, u32 r)
{
	return (r + c->lowest + 1) & 7;
}

/* The input that the chip would acknowledge now, or -1. */
static int requested(const struct vpic_chip *c, bool master)
{
	u32 service = c->isr;

	if ((c->irr & ~(u32)c->imr) == 0)
		return -1;
	/* Masked levels do not inhibit others in special mask mode. */
	if (c->special_mask)
		service &= ~(u32)c->imr;
	/* The slave may interrupt its own service routine in special fully nested mode. */
	if (master && c->nested_fully)
		service &= ~CASCADE_BIT;

	u32 r = rank(c, c->irr & ~(u32)c->imr);
	return r < rank(c, service) ? (int)input_of(c, r) : -1;
}

/* Nothing is requested on either chip, as nearly always: the outputs are low, and stay low. */
static inline bool quiet(const struct vpic *pic)
{
	const struct vpic_chip *m = &pic->chip[MASTER], *s = &pic->chip[SLAVE];

	return ((s->irr & ~s->imr) | (m->irr & (~m->imr | (int)CASCADE_BIT)) | pic->intr) == 0;
}

/* The slave's output is the master's input 2; the master's is INTR. Lock held. */
static void update(struct vpic *pic)
{
	struct vdev_platform *p = pic->p;
	struct vpic_chip *m = &pic->chip[MASTER];

	if (requested(&pic->chip[SLAVE], false) >= 0)
		m->irr |= CASCADE_BIT;
	else
		m->irr &= (u8)~CASCADE_BIT;

	bool intr = requested(m, true) >= 0;
	if (intr != pic->intr) {
		__atomic_store_n(&pic->intr, intr, __ATOMIC_SEQ_CST);
		vioapic_set_pin(&p->ioapic, VDEV_IOAPIC_PIN_INTR, intr);
	}
	if (!intr)
		return;
	for (u64 set = __atomic_load_n(&p->extint_cpus, __ATOMIC_SEQ_CST); set; set &= set - 1)
		vdev_kick(p->host, (u32)__builtin_ctzll(set), VDEV_KICK_IRQ, 0);
}

void vpic_set_irq(struct vpic *pic, u32 irq, bool level)
{
	if (irq > 15 || irq == VDEV_IRQ_CASCADE)
		return;

	struct vpic_chip *c = &pic->chip[irq >> 3];
	u8 bit = (u8)BIT32(irq & 7);

	spin_lock(&pic->lock);
	/*
	 * An edge stays latched when the line falls before INTA, unlike in the
	 * data sheet: a vCPU may be off its CPU for longer than a pulse lasts.
	 */
	if (level && (c->elcr & bit || !(c->line & bit)))
		c->irr |= bit;
	else if (!level && c->elcr & bit)
		c->irr &= (u8)~bit;
	c->line = (u8)(level ? c->line | bit : c->line & ~bit);
	update(pic);
	spin_unlock(&pic->lock);
}

static void acknowledge(struct vpic_chip *c, u32 input)
{
	u8 bit = (u8)BIT32(input);

	if (!(c->elcr & bit))
		c->irr &= (u8)~bit;
	if (!c->auto_eoi)
		c->isr |= bit;
	else if (c->rotate_on_aeoi)
		c->lowest = (u8)input;
}

u8 vpic_peek(struct vpic *pic)
{
	spin_lock(&pic->lock);
	const struct vpic_chip *c = &pic->chip[MASTER];
	int input = requested(c, true);
	if (input == (int)VDEV_IRQ_CASCADE) {
		c = &pic->chip[SLAVE];
		input = requested(c, false);
	}
	u8 vector = (u8)(c->base + (input < 0 ? 7 : input));
	spin_unlock(&pic->lock);
	return vector;
}

u8 vpic_inta(struct vpic *pic)
{
	spin_lock(&pic->lock);
	struct vpic_chip *c = &pic->chip[MASTER];
	int input = requested(c, true);
	if (input >= 0)
		acknowledge(c, (u32)input);
	if (input == (int)VDEV_IRQ_CASCADE) {
		c = &pic->chip[SLAVE];
		input = requested(c, false);
		if (input >= 0)
			acknowledge(c, (u32)input);
	}
	u8 vector = (u8)(c->base + (input < 0 ? 7 : input));
	update(pic);
	spin_unlock(&pic->lock);
	return vector;
}

static void write_icw1(struct vpic_chip *c, u32 value)
{
	/* LTIM (bit 3) is replaced by ELCR on a PC. */
	c->irr = (u8)(c->line & c->elcr);
	c->imr = 0;
	c->isr = 0;
	c->lowest = 7;
	c->special_mask = false;
	c->read_isr = false;
	c->poll = false;
	c->auto_eoi = false;
	c->rotate_on_aeoi = false;
	c->nested_fully = false;
	c->single = value & ICW1_SINGLE;
	c->icw4_needed = value & ICW1_IC4;
	c->icw_next = 2;
}

static void write_ocw2(struct vpic_chip *c, u32 value)
{
	u32 level = value & 7;
	u32 highest = rank(c, c->isr);

	switch (value >> 5) {
	case 0: /* rotate in automatic EOI mode: clear, set */
	case 4: c->rotate_on_aeoi = value >> 5 == 4; break;
	case 1: /* non-specific EOI, without and with rotation */
	case 5:
		if (highest == 8)
			break;
		level = input_of(c, highest);
		__attribute__((fallthrough));
	case 3: /* specific EOI, without and with rotation */
	case 7:
		c->isr &= (u8)~BIT32(level);
		if (value & 0x80)
			c->lowest = (u8)level;
		break;
	case 6: c->lowest = (u8)level; break;
	default: break;
	}
}

static void write_ocw3(struct vpic_chip *c, u32 value)
{
	if (value & OCW3_ESMM)
		c->special_mask = value & OCW3_SMM;
	if (value & OCW3_POLL)
		c->poll = true;
	else if (value & OCW3_RR)
		c->read_isr = value & OCW3_RIS;
}

/* The initialisation words after ICW1. */
static void write_icw(struct vpic_chip *c, u8 value)
{
	switch (c->icw_next) {
	case 2:
		c->base = value & 0xF8;
		c->icw_next = !c->single ? 3 : c->icw4_needed ? 4 : 0;
		break;
	case 3: /* the cascade is wired */
		c->icw_next = c->icw4_needed ? 4 : 0;
		break;
	default:
		c->auto_eoi = value & ICW4_AUTO_EOI;
		c->nested_fully = value & ICW4_NESTED_FULLY;
		c->icw_next = 0;
	}
}

/* All but the mask. Out of line, so that a write of the mask needs to save no registers. */
static __attribute__((noinline)) void write_command(struct vpic_chip *c, u64 offset, u8 value)
{
	if (offset & 1)
		write_icw(c, value);
	else if (value & ICW1)
		write_icw1(c, value);
	else if (value & OCW3)
		write_ocw3(c, value);
	else
		write_ocw2(c, value);
}

static void chip_write(struct vpic *pic, u32 n, u64 offset, u8 value)
{
	struct vpic_chip *c = &pic->chip[n];

	spin_lock(&pic->lock);
	if ((offset & 1) && c->icw_next == 0)
		c->imr = value;
	else
		write_command(c, offset, value);
	if (unlikely(!quiet(pic)))
		update(pic);
	spin_unlock(&pic->lock);
}

/* A poll acknowledges like INTA, and tells the input instead of the vector. */
static __attribute__((noinline)) u8 poll(struct vpic *pic, u32 n)
{
	struct vpic_chip *c = &pic->chip[n];
	u8 value = 7;

	spin_lock(&pic->lock);
	int input = requested(c, n == MASTER);
	c->poll = false;
	if (input >= 0) {
		acknowledge(c, (u32)input);
		update(pic);
		value = (u8)(0x80 | input);
	}
	spin_unlock(&pic->lock);
	return value;
}

/* A register is one byte, and reading it changes nothing: no lock. */
static inline u8 chip_read(struct vpic *pic, u32 n, u64 offset)
{
	const struct vpic_chip *c = &pic->chip[n];

	if (unlikely(peek(c->poll)))
		return poll(pic, n);
	if (offset & 1)
		return peek(c->imr);
	return peek(c->read_isr) ? peek(c->isr) : peek(c->irr);
}

static u64 master_read(void *dev, u64 offset, u32 size __unused)
{
	return chip_read(dev, MASTER, offset);
}

static void master_write(void *dev, u64 offset, u32 size __unused, u64 value)
{
	chip_write(dev, MASTER, offset, (u8)value);
}

static u64 slave_read(void *dev, u64 offset, u32 size __unused)
{
	return chip_read(dev, SLAVE, offset);
}

static void slave_write(void *dev, u64 offset, u32 size __unused, u64 value)
{
	chip_write(dev, SLAVE, offset, (u8)value);
}

static u64 elcr_read(void *dev, u64 offset, u32 size __unused)
{
	struct vpic *pic = dev;

	return pic->chip[offset & 1].elcr;
}

static void elcr_write(void *dev, u64 offset, u32 size __unused, u64 value)
{
	struct vpic *pic = dev;
	struct vpic_chip *c = &pic->chip[offset & 1];

	spin_lock(&pic->lock);
	c->elcr = (u8)value & elcr_writable[offset & 1];
	/* A level input requests as long as its line is high. */
	c->irr = (u8)((c->irr & ~c->elcr) | (c->line & c->elcr));
	update(pic);
	spin_unlock(&pic->lock);
}

void vpic_reset(struct vpic *pic)
{
	spin_lock(&pic->lock);
	for (u32 n = 0; n < 2; n++) {
		struct vpic_chip *c = &pic->chip[n];
		u8 line = c->line;
		*c = (struct vpic_chip){ .line = line, .imr = 0xFF, .lowest = 7 };
	}
	update(pic);
	spin_unlock(&pic->lock);
}

int vpic_init(struct vpic *pic, struct vdev_platform *p)
{
	const struct vdev_range ranges[] = {
		{ VDEV_PORT_PIC_MASTER, 2, master_read, master_write, pic, "pic0", 1 },
		{ VDEV_PORT_PIC_SLAVE, 2, slave_read, slave_write, pic, "pic1", 1 },
		{ VDEV_PORT_ELCR, 2, elcr_read, elcr_write, pic, "elcr", 1 },
	};

	pic->p = p;
	for (u32 i = 0; i < ARRAY_SIZE(ranges); i++) {
		int err = vdev_bus_add_port(&p->bus, &ranges[i]);
		if (err)
			return err;
	}
	vpic_reset(pic);
	return 0;
}
