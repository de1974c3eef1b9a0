/* SPDX-License-Identifier: BSD-2-Clause */
#include "vdev/pit.h"

#include "vdev/platform.h"
#include "vdev/ticks.h"

#define CONTROL 3U /* offset of the control word's port */

#define READ_BACK 3U         /* SC field */
#define READ_BACK_NO_COUNT 0x20U
#define READ_BACK_NO_STATUS 0x10U
#define STATUS_OUT 0x80U
#define STATUS_NULL 0x40U

/* Port 0x61 (ICH9 data sheet, 13.7.1). */
#define P61_GATE2 0x01U
#define P61_WRITABLE 0x0FU
#define P61_REFRESH 0x10U
#define P61_OUT2 0x20U

static u64 now_tick(const struct vpit *pit)
{
	return ticks_from_ns(vdev_now_ns(pit->p->host), VPIT_HZ);
}

static u32 modulus(const struct vpit_channel *c)
{
	return c->bcd ? 10000 : 0x10000;
}

static bool periodic(const struct vpit_channel *c)
{
	return c->mode == 2 || c->mode == 3;
}

/* Started by an edge of the gate, instead of enabled by its level. */
static bool gate_triggered(const struct vpit_channel *c)
{
	return c->mode == 1 || c->mode == 5;
}

static u32 from_bcd(u32 v)
{
	return (v >> 12 & 15) * 1000 + (v >> 8 & 15) * 100 + (v >> 4 & 15) * 10 + (v & 15);
}

static u32 to_bcd(u32 v)
{
	return (v / 1000 % 10) << 12 | (v / 100 % 10) << 8 | (v / 10 % 10) << 4 | v % 10;
}

static u64 elapsed(const struct vpit_channel *c, u64 now)
{
	return likely(c->running) ? now - c->start : c->frozen;
}

/* A new count of a periodic mode takes over at the end of the period in which it was written. */
static void catch_up(struct vpit_channel *c, u64 now)
{
	if (unlikely(c->next_count) && periodic(c) && c->running && now >= c->next_at) {
		c->count = c->next_count;
		c->start = c->next_at;
		c->next_count = 0;
	}
}

/* The counting element (8254 data sheet, mode definitions). */
static u32 counter(const struct vpit_channel *c, u64 now)
{
	u64 e = elapsed(c, now);

	if (!c->loaded || (gate_triggered(c) && !c->triggered))
		return c->count % modulus(c);
	if (c->mode == 2)
		return (u32)(c->count - e % c->count) % modulus(c);
	if (c->mode == 3) {
		/* Steps of two, (N+1)/2 ticks with the output high, N/2 with it low. */
		u32 high = (c->count + 1) / 2, phase = (u32)(e % c->count);
		u32 step = phase < high ? phase : phase - high;
		return ((c->count & ~1U) - 2 * step) % modulus(c);
	}
	return (u32)((c->count + modulus(c) - e % modulus(c)) % modulus(c));
}

static __attribute__((noinline)) bool output_of_mode(const struct vpit_channel *c, u64 now)
{
	u64 e = elapsed(c, now);

	if (!c->loaded)
		return true;
	switch (c->mode) {
	case 1: return !c->triggered || e >= c->count;
	case 2: return !c->gate || e % c->count != c->count - 1;
	case 3: return !c->gate || e % c->count < (c->count + 1) / 2;
	case 4: return e != c->count;
	default: return !c->triggered || e != c->count;
	}
}

/* Mode 0 is the one that is waited for, in a loop. */
static inline bool output(const struct vpit_channel *c, u64 now)
{
	if (c->mode != 0)
		return output_of_mode(c, now);
	return c->loaded && elapsed(c, now) >= c->count;
}

/* Channel 0's interrupt --------------------------------------------------- */

/* The next tick after now at which channel 0's output rises; 0 for none. */
static u64 next_edge(const struct vpit_channel *c, u64 now)
{
	u64 at;

	if (!c->loaded || !c->running)
		return 0;
	switch (c->mode) {
	case 0: at = c->start + c->count; break;
	case 4: at = c->start + c->count + 1; break;
	case 2:
	case 3:
		if (c->next_count)
			return c->next_at;
		return now + c->count - (now - c->start) % c->count;
	default: return 0; /* the gate of channel 0 is tied high: no trigger ever comes */
	}
	return at > now ? at : 0;
}

static void program_timer(struct vpit *pit)
{
	struct vpit_channel *c = &pit->ch[0];
	u64 now_ns = vdev_now_ns(pit->p->host);

	pit->due_tick = next_edge(c, ticks_from_ns(now_ns, VPIT_HZ));
	if (!pit->due_tick) {
		vdev_timer_cancel(&pit->timer);
		return;
	}
	u64 due_ns = ns_from_ticks(pit->due_tick, VPIT_HZ);
	if (periodic(c))
		due_ns = MAX(due_ns, now_ns + VDEV_MIN_PERIOD_NS);
	vdev_timer_arm(&pit->timer, due_ns);
}

static void timer_fired(void *arg)
{
	struct vpit *pit = arg;

	spin_lock(&pit->lock);
	u64 now = now_tick(pit);
	bool due = pit->due_tick && now >= pit->due_tick;
	catch_up(&pit->ch[0], now);
	program_timer(pit);
	if (due) {
		/* The output's edge as a pulse: its low time is of no use to an edge input. */
		vplatform_irq(pit->p, VDEV_IRQ_PIT, true);
		vplatform_irq(pit->p, VDEV_IRQ_PIT, false);
	}
	spin_unlock(&pit->lock);
}

/* Counts and control words ------------------------------------------------ */

static void start(struct vpit_channel *c, u64 now)
{
	c->start = now;
	c->frozen = 0;
	c->running = true;
}

static void load(struct vpit_channel *c, u32 raw, u64 now)
{
	u32 count = c->bcd ? from_bcd(raw) : raw;

	if (count == 0)
		count = modulus(c);
	if (c->loaded && periodic(c) && c->running) {
		c->next_count = count;
		c->next_at = now + c->count - (now - c->start) % c->count;
		return;
	}
	c->next_count = 0;
	/* Modes 1 and 5 take a new count at the next trigger; one in progress runs to its end. */
	if (gate_triggered(c)) {
		if (c->loaded && c->triggered)
			c->next_count = count;
		else
			c->count = count;
		c->loaded = true;
		return;
	}
	c->count = count;
	c->loaded = true;
	start(c, now);
	c->running = c->gate;
}

static void write_count(struct vpit_channel *c, u8 value, u64 now)
{
	switch (c->access) {
	case 1: load(c, value, now); break;
	case 2: load(c, (u32)value << 8, now); break;
	default:
		if (c->write_high) {
			load(c, (u32)value << 8 | c->write_low, now);
		} else {
			c->write_low = value;
			/* The first byte stops a count of mode 0. */
			if (c->mode == 0)
				c->loaded = false;
		}
		c->write_high = !c->write_high;
	}
}

static void latch_count(struct vpit_channel *c, u64 now)
{
	if (c->latch_bytes)
		return;
	u32 v = counter(c, now);
	c->latch = (u16)(c->bcd ? to_bcd(v) : v);
	c->latch_bytes = c->access == 3 ? 2 : 1;
	c->read_high = false;
}

static void latch_status(struct vpit_channel *c, u64 now)
{
	if (c->status_latched)
		return;
	c->status = (u8)((output(c, now) ? STATUS_OUT : 0) |
			 (!c->loaded || c->next_count ? STATUS_NULL : 0) |
			 (u32)c->access << 4 | (u32)c->mode << 1 | (c->bcd ? 1U : 0));
	c->status_latched = true;
}

static void write_control(struct vpit *pit, u8 value, u64 now)
{
	u32 select = value >> 6;

	if (select == READ_BACK) {
		for (u32 n = 0; n < 3; n++) {
			if (!(value & (2U << n)))
				continue;
			if (!(value & READ_BACK_NO_COUNT))
				latch_count(&pit->ch[n], now);
			if (!(value & READ_BACK_NO_STATUS))
				latch_status(&pit->ch[n], now);
		}
		return;
	}

	struct vpit_channel *c = &pit->ch[select];
	u8 access = value >> 4 & 3, mode = value >> 1 & 7;
	if (access == 0) {
		latch_count(c, now);
		return;
	}
	*c = (struct vpit_channel){
		.mode = mode > 5 ? mode & 3 : mode, /* bit 3 of modes 2 and 3 is "don't care" */
		.access = access,
		.bcd = value & 1,
		.gate = c->gate,
		.count = c->count,
		.frozen = elapsed(c, now),
	};
}

static u8 read_count(struct vpit_channel *c, u64 now)
{
	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	u32 v = counter(c, now);
	u32 word = c->latch_bytes ? c->latch : c->bcd ? to_bcd(v) : v;
	bool high = c->access == 2 || (c->access == 3 && c->read_high);

	if (c->access == 3)
		c->read_high = !c->read_high;
	if (c->latch_bytes)
		c->latch_bytes--;
	return (u8)(high ? word >> 8 : word);
}

static void set_gate(struct vpit_channel *c, bool gate, u64 now)
{
	bool rising = gate && !c->gate;

	if (gate == c->gate)
		return;
	c->gate = gate;
	if (!c->loaded)
		return;
	if (gate_triggered(c)) {
		if (!rising)
			return;
		if (c->next_count)
			c->count = c->next_count;
		c->next_count = 0;
		c->triggered = true;
		start(c, now);
	} else if (periodic(c) && rising) {
		if (c->next_count)
			c->count = c->next_count;
		c->next_count = 0;
		start(c, now);
	} else if (rising) {
		c->start = now - c->frozen;
		c->running = true;
	} else {
		c->frozen = elapsed(c, now);
		c->running = false;
	}
}

/* Ports ------------------------------------------------------------------- */

static u64 port_read(void *dev, u64 offset, u32 size __unused)
{
	struct vpit *pit = dev;

	if (offset == CONTROL)
		return 0xFF; /* write-only */
	spin_lock(&pit->lock);
	u64 now = now_tick(pit);
	catch_up(&pit->ch[offset], now);
	u8 value = read_count(&pit->ch[offset], now);
	spin_unlock(&pit->lock);
	return value;
}

static void port_write(void *dev, u64 offset, u32 size __unused, u64 value)
{
	struct vpit *pit = dev;

	spin_lock(&pit->lock);
	u64 now = now_tick(pit);
	for (u32 n = 0; n < 3; n++)
		catch_up(&pit->ch[n], now);
	if (offset == CONTROL)
		write_control(pit, (u8)value, now);
	else
		write_count(&pit->ch[offset], (u8)value, now);
	/* Latches leave channel 0's edges where they are. */
	if (offset == 0 || (offset == CONTROL && value >> 6 == 0 && (value & 0x30)))
		program_timer(pit);
	spin_unlock(&pit->lock);
}

static u64 speaker_read(void *dev, u64 offset __unused, u32 size __unused)
{
	struct vpit *pit = dev;

	spin_lock(&pit->lock);
	u64 now = now_tick(pit);
	catch_up(&pit->ch[2], now);
	u32 value = pit->port61 | (output(&pit->ch[2], now) ? P61_OUT2 : 0);
	spin_unlock(&pit->lock);
	/* The refresh bit toggles every 15 us: 18 ticks. */
	return value | (now / 18 & 1 ? P61_REFRESH : 0);
}

static void speaker_write(void *dev, u64 offset __unused, u32 size __unused, u64 value)
{
	struct vpit *pit = dev;

	spin_lock(&pit->lock);
	u64 now = now_tick(pit);
	catch_up(&pit->ch[2], now);
	pit->port61 = (u8)value & P61_WRITABLE;
	set_gate(&pit->ch[2], value & P61_GATE2, now);
	spin_unlock(&pit->lock);
}

void vpit_reset(struct vpit *pit)
{
	spin_lock(&pit->lock);
	for (u32 n = 0; n < 3; n++)
		pit->ch[n] = (struct vpit_channel){
			.mode = 3, .access = 3, .count = 0x10000, .gate = n != 2
		};
	pit->port61 = 0;
	pit->due_tick = 0;
	vdev_timer_cancel(&pit->timer);
	spin_unlock(&pit->lock);
}

int vpit_init(struct vpit *pit, struct vdev_platform *p)
{
	const struct vdev_range ranges[] = {
		{ VDEV_PORT_PIT, 4, port_read, port_write, pit, "pit", 1 },
		{ VDEV_PORT_SPEAKER, 1, speaker_read, speaker_write, pit, "speaker", 1 },
	};

	pit->p = p;
	vdev_timer_init(&pit->timer, p->host, 0, timer_fired, pit);
	vpit_reset(pit);
	for (u32 i = 0; i < ARRAY_SIZE(ranges); i++) {
		int err = vdev_bus_add_port(&p->bus, &ranges[i]);
		if (err)
			return err;
	}
	return 0;
}
