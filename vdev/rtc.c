/* SPDX-License-Identifier: BSD-2-Clause */
#include "vdev/rtc.h"

#include "vdev/platform.h"
#include "vdev/ticks.h"

/* Registers (MC146818A data sheet; hours are 24 or 12 with bit 7 for PM, all BCD or binary). */
enum {
	REG_SECOND = 0,
	REG_SECOND_ALARM = 1,
	REG_MINUTE = 2,
	REG_MINUTE_ALARM = 3,
	REG_HOUR = 4,
	REG_HOUR_ALARM = 5,
	REG_WEEKDAY = 6,
	REG_DAY = 7,
	REG_MONTH = 8,
	REG_YEAR = 9,
	REG_A = 10,
	REG_B = 11,
	REG_C = 12,
	REG_D = 13
};

#define A_UIP 0x80U
#define A_DIVIDER 0x70U
#define A_DIVIDER_RUNS 0x20U
#define A_RATE 0x0FU
#define B_SET 0x80U
#define B_UIE 0x10U
#define B_BINARY 0x04U
#define B_24H 0x02U
#define C_IRQF 0x80U
#define C_PF 0x40U
#define C_AF 0x20U
#define C_UF 0x10U
#define C_SOURCES (C_PF | C_AF | C_UF) /* the enable bits of register B are in the same places */
#define D_VALID 0x80U

#define UPDATE_NS 244000ULL /* UIP precedes an update by this much */
#define DAY_SECONDS 86400ULL
#define LAST_SECOND (3652425ULL * DAY_SECONDS - 1) /* end of year 9999 */
#define CRYSTAL_HZ 32768U

/* Calendar ---------------------------------------------------------------- */

struct civil {
	u32 year, month, day; /* month and day from 1 */
	u32 hour, minute, second, weekday; /* weekday 1..7, Sunday is 1 */
};

/* Days from 1 January of year 0 to that of `year` (proleptic Gregorian calendar). */
static u64 days_before(u64 year)
{
	return year * 365 + (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400;
}

static bool is_leap(u32 year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static u32 month_days(u32 year, u32 month)
{
	static const u8 days[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	return days[month - 1] + (month == 2 && is_leap(year) ? 1U : 0U);
}

static struct civil civil_from_seconds(u64 seconds)
{
	u64 days = MIN(seconds, LAST_SECOND) / DAY_SECONDS;
	u32 of_day = (u32)(seconds % DAY_SECONDS);
	u32 year = (u32)(days * 400 / 146097);
	struct civil c = {
		.hour = of_day / 3600,
		.minute = of_day / 60 % 60,
		.second = of_day % 60,
		.weekday = (u32)((days + 6) % 7) + 1, /* 1 January 0000 was a Saturday */
	};

	/* The mean length of a year misses by at most one. */
	if (days_before(year) > days)
		year--;
	else if (days_before(year + 1) <= days)
		year++;
	u32 day = (u32)(days - days_before(year)), month = 1;
	while (month < 12 && day >= month_days(year, month))
		day -= month_days(year, month++);
	c.year = year;
	c.month = month;
	c.day = day + 1;
	return c;
}

/* Fields out of range carry over, which keeps the result below year 10001. */
static u64 seconds_from_civil(const struct civil *c)
{
	u32 month = c->month >= 1 && c->month <= 12 ? c->month : 1;
	u64 days = days_before(c->year) + c->day - (c->day ? 1 : 0);

	for (u32 m = 1; m < month; m++)
		days += month_days(c->year, m);
	return MIN(days * DAY_SECONDS + c->hour * 3600 + c->minute * 60 + c->second, LAST_SECOND);
}

/* Register formats -------------------------------------------------------- */

static u8 encode(const struct vrtc *rtc, u32 v)
{
	return (u8)(rtc->cmos[REG_B] & B_BINARY ? v : v / 10 % 10 << 4 | v % 10);
}

static u32 decode(const struct vrtc *rtc, u8 v)
{
	return rtc->cmos[REG_B] & B_BINARY ? v : (v >> 4) * 10U + (v & 15U);
}

static u8 encode_hour(const struct vrtc *rtc, u32 hour)
{
	if (rtc->cmos[REG_B] & B_24H)
		return encode(rtc, hour);
	return (u8)(encode(rtc, (hour + 11) % 12 + 1) | (hour >= 12 ? 0x80 : 0));
}

static u32 decode_hour(const struct vrtc *rtc, u8 v)
{
	if (rtc->cmos[REG_B] & B_24H)
		return decode(rtc, v);
	return decode(rtc, v & 0x7F) % 12 + (v & 0x80 ? 12 : 0);
}

/* Clock ------------------------------------------------------------------- */

static bool divider_runs(const struct vrtc *rtc)
{
	return (rtc->cmos[REG_A] & A_DIVIDER) == A_DIVIDER_RUNS;
}

/* Otherwise the time registers hold still, and are plain memory. */
static bool clock_runs(const struct vrtc *rtc)
{
	return divider_runs(rtc) && !(rtc->cmos[REG_B] & B_SET);
}

static u64 clock_at(const struct vrtc *rtc, u64 ns)
{
	return (u64)(rtc->base_seconds + (s64)((ns + rtc->phase_ns) / NS_PER_SEC));
}

static u64 ns_into_second(const struct vrtc *rtc, u64 ns)
{
	return (ns + rtc->phase_ns) % NS_PER_SEC;
}

static void store_time(struct vrtc *rtc, u64 ns)
{
	struct civil c = civil_from_seconds(clock_at(rtc, ns));

	rtc->cmos[REG_SECOND] = encode(rtc, c.second);
	rtc->cmos[REG_MINUTE] = encode(rtc, c.minute);
	rtc->cmos[REG_HOUR] = encode_hour(rtc, c.hour);
	rtc->cmos[REG_WEEKDAY] = encode(rtc, c.weekday);
	rtc->cmos[REG_DAY] = encode(rtc, c.day);
	rtc->cmos[REG_MONTH] = encode(rtc, c.month);
	rtc->cmos[REG_YEAR] = encode(rtc, c.year % 100);
	rtc->cmos[VDEV_CMOS_CENTURY] = encode(rtc, c.year / 100);
}

static void load_time(struct vrtc *rtc, u64 ns)
{
	struct civil c = {
		.year = decode(rtc, rtc->cmos[REG_YEAR]) % 100 +
			decode(rtc, rtc->cmos[VDEV_CMOS_CENTURY]) % 100 * 100,
		.month = decode(rtc, rtc->cmos[REG_MONTH]),
		.day = decode(rtc, rtc->cmos[REG_DAY]),
		.hour = decode_hour(rtc, rtc->cmos[REG_HOUR]),
		.minute = decode(rtc, rtc->cmos[REG_MINUTE]),
		.second = decode(rtc, rtc->cmos[REG_SECOND]),
	};

	rtc->base_seconds = (s64)seconds_from_civil(&c) -
			    (s64)((ns + rtc->phase_ns) / NS_PER_SEC);
}

/* Alarm ------------------------------------------------------------------- */

static bool alarm_matches(u8 alarm, u8 value)
{
	return (alarm & 0xC0) == 0xC0 || alarm == value;
}

/* The first match of one field at or after `from` and below `end`; end when there is none. */
static u32 alarm_field(const struct vrtc *rtc, u32 reg, u32 from, u32 end)
{
	while (from < end) {
		u8 v = reg == REG_HOUR_ALARM ? encode_hour(rtc, from) : encode(rtc, from);
		if (alarm_matches(rtc->cmos[reg], v))
			break;
		from++;
	}
	return from;
}

/* The clock's next match at or after second `from`; -1 when the registers match no time of day. */
static s64 next_alarm(const struct vrtc *rtc, u64 from)
{
	u64 midnight = from - from % DAY_SECONDS;
	u32 of_day = (u32)(from % DAY_SECONDS);
	u32 hour = of_day / 3600, minute = of_day / 60 % 60, second = of_day % 60;
	u32 m = alarm_field(rtc, REG_MINUTE_ALARM, 0, 60);
	u32 s = alarm_field(rtc, REG_SECOND_ALARM, 0, 60);
	u32 h = alarm_field(rtc, REG_HOUR_ALARM, 0, 24);

	if (h == 24 || m == 60 || s == 60)
		return -1;
	/* Later in this minute, later in this hour, later today, tomorrow. */
	if (alarm_field(rtc, REG_HOUR_ALARM, hour, hour + 1) == hour) {
		if (alarm_field(rtc, REG_MINUTE_ALARM, minute, minute + 1) == minute) {
			u32 s2 = alarm_field(rtc, REG_SECOND_ALARM, second, 60);
			if (s2 < 60)
				return (s64)(from - second + s2);
		}
		u32 m2 = alarm_field(rtc, REG_MINUTE_ALARM, minute + 1, 60);
		if (m2 < 60)
			return (s64)(midnight + hour * 3600ULL + m2 * 60ULL + s);
	}
	u32 h2 = alarm_field(rtc, REG_HOUR_ALARM, hour + 1, 24);
	if (h2 == 24)
		h2 = h + 24;
	return (s64)(midnight + h2 * 3600ULL + m * 60ULL + s);
}

/* Interrupts -------------------------------------------------------------- */

/* Binary logarithm of the periodic interrupt's period in crystal ticks; 0 for none. */
static u32 period_shift(const struct vrtc *rtc)
{
	u32 rate = rtc->cmos[REG_A] & A_RATE;

	if (rate == 0 || !divider_runs(rtc))
		return 0;
	return rate <= 2 ? rate + 6 : rate - 1;
}

/* Brings register C up to now: what happened since the last call sets its flag. */
static void sync_flags(struct vrtc *rtc, u64 now)
{
	u32 shift = period_shift(rtc);

	if (shift && ticks_from_ns(now, CRYSTAL_HZ) >> shift !=
		     ticks_from_ns(rtc->synced_ns, CRYSTAL_HZ) >> shift)
		rtc->flags |= C_PF;
	if (clock_runs(rtc)) {
		u64 second = clock_at(rtc, now);
		if (second != clock_at(rtc, rtc->synced_ns))
			rtc->flags |= C_UF;
		if (rtc->alarm_second >= 0 && second >= (u64)rtc->alarm_second) {
			rtc->flags |= C_AF;
			rtc->alarm_second = next_alarm(rtc, second + 1);
		}
	}
	rtc->synced_ns = now;
}

/* When the next enabled flag will be set that is not set yet; 0 for never. */
static u64 next_event(const struct vrtc *rtc, u64 now)
{
	u32 wanted = rtc->cmos[REG_B] & ~(u32)rtc->flags & C_SOURCES;
	u32 shift = period_shift(rtc);
	u64 due = 0;

	if ((wanted & C_PF) && shift)
		due = ns_from_ticks(((ticks_from_ns(now, CRYSTAL_HZ) >> shift) + 1) << shift,
				    CRYSTAL_HZ);
	if (!clock_runs(rtc))
		return due;
	if (wanted & C_UF) {
		u64 at = now + NS_PER_SEC - ns_into_second(rtc, now);
		due = due ? MIN(due, at) : at;
	}
	if ((wanted & C_AF) && rtc->alarm_second >= 0) {
		u64 at = (u64)(rtc->alarm_second - rtc->base_seconds) * NS_PER_SEC - rtc->phase_ns;
		due = due ? MIN(due, at) : at;
	}
	return due;
}

/* The interrupt line and the host's timer follow flags and enables. */
static void update(struct vrtc *rtc, u64 now)
{
	u64 due = next_event(rtc, now);

	vplatform_irq(rtc->p, VDEV_IRQ_RTC, (rtc->flags & rtc->cmos[REG_B] & C_SOURCES) != 0);
	if (due)
		vdev_timer_arm(&rtc->timer, due);
	else if (rtc->due_ns)
		vdev_timer_cancel(&rtc->timer);
	rtc->due_ns = due;
}

static void timer_fired(void *arg)
{
	struct vrtc *rtc = arg;

	spin_lock(&rtc->lock);
	u64 now = vdev_now_ns(rtc->p->host);
	sync_flags(rtc, now);
	update(rtc, now);
	spin_unlock(&rtc->lock);
}

/* Ports ------------------------------------------------------------------- */

static bool is_time(u32 reg)
{
	return reg == REG_SECOND || reg == REG_MINUTE || reg == REG_HOUR ||
	       (reg >= REG_WEEKDAY && reg <= REG_YEAR) || reg == VDEV_CMOS_CENTURY;
}

static void write_control(struct vrtc *rtc, u32 reg, u8 value, u64 now)
{
	bool ran = clock_runs(rtc), divided = divider_runs(rtc);

	if (ran)
		store_time(rtc, now);
	if (reg == REG_A)
		rtc->cmos[REG_A] = value & (u8)~A_UIP;
	else /* SET inhibits updates, so their interrupt too */
		rtc->cmos[REG_B] = (u8)(value & B_SET ? value & ~B_UIE : value);

	/* The first update comes half a second after the divider starts. */
	if (!divided && divider_runs(rtc))
		rtc->phase_ns = (NS_PER_SEC + NS_PER_SEC / 2 - now % NS_PER_SEC) % NS_PER_SEC;
	if (!ran && clock_runs(rtc))
		load_time(rtc, now);
	if (clock_runs(rtc))
		rtc->alarm_second = next_alarm(rtc, clock_at(rtc, now) + 1);
}

static void write_register(struct vrtc *rtc, u32 reg, u8 value, u64 now)
{
	bool runs = clock_runs(rtc);

	if (reg == REG_A || reg == REG_B) {
		write_control(rtc, reg, value, now);
		return;
	}
	if (reg == REG_C || reg == REG_D)
		return;
	if (runs && is_time(reg))
		store_time(rtc, now);
	rtc->cmos[reg] = value;
	if (runs && is_time(reg))
		load_time(rtc, now);
	if (runs && (is_time(reg) || reg <= REG_HOUR_ALARM))
		rtc->alarm_second = next_alarm(rtc, clock_at(rtc, now) + 1);
}

static u8 read_register(struct vrtc *rtc, u32 reg, u64 now)
{
	u8 value;

	switch (reg) {
	case REG_A:
		value = rtc->cmos[REG_A];
		if (clock_runs(rtc) && ns_into_second(rtc, now) >= NS_PER_SEC - UPDATE_NS)
			value |= A_UIP;
		return value;
	case REG_C:
		value = rtc->flags;
		if (value & rtc->cmos[REG_B] & C_SOURCES)
			value |= C_IRQF;
		rtc->flags = 0;
		update(rtc, now);
		return value;
	case REG_D: return D_VALID;
	default:
		if (is_time(reg) && clock_runs(rtc))
			store_time(rtc, now);
		return rtc->cmos[reg];
	}
}

static u64 port_read(void *dev, u64 offset, u32 size __unused)
{
	struct vrtc *rtc = dev;

	if (offset == 0)
		return 0xFF; /* the index is write-only */
	spin_lock(&rtc->lock);
	u64 now = vdev_now_ns(rtc->p->host);
	sync_flags(rtc, now);
	u8 value = read_register(rtc, rtc->index, now);
	spin_unlock(&rtc->lock);
	return value;
}

static void port_write(void *dev, u64 offset, u32 size __unused, u64 value)
{
	struct vrtc *rtc = dev;

	spin_lock(&rtc->lock);
	if (offset == 0) {
		rtc->index = value & 0x7F; /* bit 7 would mask NMI */
	} else {
		u64 now = vdev_now_ns(rtc->p->host);
		sync_flags(rtc, now);
		write_register(rtc, rtc->index, (u8)value, now);
		update(rtc, now);
	}
	spin_unlock(&rtc->lock);
}

/* Life -------------------------------------------------------------------- */

static void set16(struct vrtc *rtc, u32 at, u64 value)
{
	rtc->cmos[at] = (u8)value;
	rtc->cmos[at + 1] = (u8)(value >> 8);
}

/* Memory sizes where PC firmware keeps them (RBIL CMOS.LST, and QEMU's for memory above 16 MiB). */
static void fill_memory_sizes(struct vrtc *rtc)
{
	const struct vdev_platform_config *config = &rtc->p->config;
	u64 above_1m = config->mem_low > MIB(1) ? config->mem_low - MIB(1) : 0;
	u64 above_16m = config->mem_low > MIB(16) ? config->mem_low - MIB(16) : 0;
	u32 sum = 0;

	rtc->cmos[0x14] = 0x02; /* equipment: FPU */
	set16(rtc, 0x15, 640);
	set16(rtc, 0x17, MIN(above_1m / KIB(1), 0xFFFFULL));
	set16(rtc, 0x30, MIN(above_1m / KIB(1), 0xFFFFULL));
	set16(rtc, 0x34, MIN(above_16m / KIB(64), 0xFFFFULL));
	set16(rtc, 0x5B, config->mem_high / KIB(64));
	rtc->cmos[0x5D] = (u8)(config->mem_high / KIB(64) >> 16);
	rtc->cmos[0x5F] = (u8)(config->cpus - 1);
	for (u32 i = 0x10; i < 0x2E; i++)
		sum += rtc->cmos[i];
	rtc->cmos[0x2E] = (u8)(sum >> 8); /* this checksum is big-endian */
	rtc->cmos[0x2F] = (u8)sum;
}

void vrtc_reset(struct vrtc *rtc)
{
	spin_lock(&rtc->lock);
	u64 now = vdev_now_ns(rtc->p->host);
	write_control(rtc, REG_A, A_DIVIDER_RUNS | 6, now); /* 1024 Hz, as firmware sets it */
	write_control(rtc, REG_B, B_24H, now);
	rtc->flags = 0;
	rtc->index = 0;
	rtc->synced_ns = now;
	update(rtc, now);
	spin_unlock(&rtc->lock);
}

int vrtc_init(struct vrtc *rtc, struct vdev_platform *p)
{
	const struct vdev_range range = {
		VDEV_PORT_RTC, 2, port_read, port_write, rtc, "rtc", 1
	};
	u64 now = vdev_now_ns(p->host);

	rtc->p = p;
	vdev_timer_init(&rtc->timer, p->host, 0, timer_fired, rtc);
	rtc->cmos[REG_A] = A_DIVIDER_RUNS;
	rtc->cmos[REG_B] = B_24H;
	rtc->base_seconds = (s64)(MIN(vdev_wall_seconds(p->host), LAST_SECOND / 2) +
				  days_before(1970) * DAY_SECONDS) - (s64)(now / NS_PER_SEC);
	fill_memory_sizes(rtc);
	vrtc_reset(rtc);
	return vdev_bus_add_port(&p->bus, &range);
}
