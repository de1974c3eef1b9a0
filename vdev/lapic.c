/* SPDX-License-Identifier: BSD-2-Clause */
#include "vdev/lapic.h"

#include "core/errno.h"
#include "core/string.h"
#include "vdev/platform.h"
#include "vdev/ticks.h"

/* Register numbers: MMIO offset / 16, MSR - 0x800 (SDM vol. 3A, tables 11-1 and 11-6). */
enum {
	REG_ID = 0x02,
	REG_VERSION = 0x03,
	REG_TPR = 0x08,
	REG_APR = 0x09,
	REG_PPR = 0x0A,
	REG_EOI = 0x0B,
	REG_RRD = 0x0C,
	REG_LDR = 0x0D,
	REG_DFR = 0x0E,
	REG_SVR = 0x0F,
	REG_ISR = 0x10,
	REG_TMR = 0x18,
	REG_IRR = 0x20,
	REG_ESR = 0x28,
	REG_ICR = 0x30,
	REG_ICR2 = 0x31,
	REG_LVT = 0x32,
	REG_TMICT = 0x38,
	REG_TMCCT = 0x39,
	REG_DIVIDE = 0x3E,
	REG_SELF_IPI = 0x3F
};

/* Integrated APIC, six LVT entries, no EOI broadcast suppression. */
#define VERSION (0x14U | (LVT_COUNT - 1U) << 16)

#define SVR_ENABLE BIT32(8)
#define SVR_NO_FOCUS BIT32(9)
#define SVR_WRITABLE 0x3FFU

#define LVT_MASKED BIT32(16)
#define LVT_MODE(lvt) ((lvt) >> 8 & 7)
#define TIMER_MODE(lvt) ((lvt) >> 17 & 3)
enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE };

#define ESR_SEND_VECTOR BIT32(5)
#define ESR_RECEIVE_VECTOR BIT32(6)
#define ESR_REGISTER BIT32(7)

#define ICR_LOGICAL BIT32(11)
#define ICR_ASSERT BIT32(14)
#define ICR_LEVEL BIT32(15)
#define ICR_SHORTHAND(icr) ((icr) >> 18 & 3)
enum { TO_DEST, TO_SELF, TO_ALL, TO_OTHERS };
#define ICR_TO_SELF_MASK 0xC0700U /* shorthand and delivery mode */
#define ICR_TO_SELF_FIXED 0x40000U
#define ICR_WRITABLE 0xCCFFFU
#define ICR_RESERVED 0xFFF32000U /* bits whose setting is #GP in x2APIC mode */

#define DFR_FLAT 0xFU

/* Bits that software can write in each LVT entry (SDM vol. 3A, figure 11-8). */
static const u32 lvt_writable[LVT_COUNT] = {
	[LVT_TIMER] = 0x700FF,   [LVT_THERMAL] = 0x107FF, [LVT_PMC] = 0x107FF,
	[LVT_LINT0] = 0x1A7FF,   [LVT_LINT1] = 0x1A7FF,   [LVT_ERROR] = 0x100FF,
};
/* Delivery status and remote IRR: written by read-modify-write code, ignored. */
#define LVT_READ_ONLY (BIT32(12) | BIT32(14))

/* A field that other CPUs read, or write, at any time. */
#define peek(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define poke(field, v) __atomic_store_n(&(field), (v), __ATOMIC_RELAXED)

/* Kept out of line, so that the hot paths around it need to save no registers. */
#define RARE __attribute__((noinline))

static inline u32 top_bit(u32 word)
{
	return (u32)__builtin_clz(word) ^ 31U; /* one BSR */
}

/* Priorities ------------------------------------------------------------- */

/* SDM vol. 3A, 11.8.3.1. */
static inline void update_ppr(struct vlapic *l)
{
	u8 tpr = l->tpr, isrv = l->isrv & 0xF0;

	poke(l->ppr, (tpr & 0xF0) >= isrv ? tpr : isrv);
}

/* What the vCPU sent to itself goes where all others are. */
RARE static void settle_own(struct vlapic *l)
{
	u32 w = l->own >> 5;

	__atomic_or_fetch(&l->irr[w], BIT32(l->own & 31), __ATOMIC_SEQ_CST);
	__atomic_or_fetch(&l->irr_words, BIT32(w), __ATOMIC_SEQ_CST);
	l->own = 0;
}

/* The highest vector that is requested; what is alone needs no look into the registers. */
static inline int highest_requested(struct vlapic *l)
{
	u32 words = peek(l->irr_words);

	if (l->own != 0) {
		if (likely(!words))
			return l->own;
		settle_own(l);
		words = peek(l->irr_words);
	}
	/* A sender sets the summary bit last, so it may be stale: then the next word counts. */
	while (words) {
		u32 w = top_bit(words);
		u32 word = peek(l->irr[w]);
		if (likely(word))
			return (int)(w * 32 + top_bit(word));
		words &= ~BIT32(w);
	}
	return -1;
}

/* TMR: the last one that came was level triggered. */
static inline bool is_level(const struct vlapic *l, u32 vector)
{
	return (peek(l->tmr[vector >> 5]) >> (vector & 31) & 1) != 0;
}

static void set_member(u64 *set, u32 vcpu, bool member)
{
	if (member)
		__atomic_or_fetch(set, BIT(vcpu), __ATOMIC_SEQ_CST);
	else
		__atomic_and_fetch(set, ~BIT(vcpu), __ATOMIC_SEQ_CST);
}

static bool is_unusual(const struct vlapic *l, u32 vector)
{
	return vector < 16 || !peek(l->open) || is_level(l, vector);
}

/* After a change of TMR or open. Who takes a member out looks again: another CPU may have changed
 * the other one meanwhile. */
static void note_unusual(struct vlapic *l, u32 vector)
{
	u64 *set = &l->p->unusual[vector];
	bool unusual = is_unusual(l, vector);

	set_member(set, l->vcpu, unusual);
	if (!unusual && is_unusual(l, vector))
		set_member(set, l->vcpu, true);
}

static void set_open(struct vlapic *l, bool open)
{
	if (open == l->open)
		return;
	poke(l->open, open);
	for (u32 vector = 0; vector < 256; vector++)
		note_unusual(l, vector);
}

static bool pic_waits(const struct vlapic *l)
{
	return peek(l->p->pic.intr) && (l->extint || peek(l->extint_once));
}

int vlapic_pending(struct vlapic *l)
{
	int vector = highest_requested(l);

	if (vector >= 0 && (vector & 0xF0) > (l->ppr & 0xF0))
		return vector;
	if (unlikely(pic_waits(l)))
		return vpic_peek(&l->p->pic);
	return -1;
}

int vlapic_blocked(struct vlapic *l)
{
	int vector = highest_requested(l);

	if (vector < 0 || (vector & 0xF0) <= (l->isrv & 0xF0))
		return -1;
	return (vector & 0xF0) <= (l->tpr & 0xF0) ? vector : -1;
}

static void irr_clear(struct vlapic *l, u32 vector)
{
	u32 w = vector >> 5;

	if (__atomic_and_fetch(&l->irr[w], ~BIT32(vector & 31), __ATOMIC_SEQ_CST))
		return;
	/* The order against accept_fixed(): whoever comes second sees the other's store. */
	__atomic_and_fetch(&l->irr_words, ~BIT32(w), __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&l->irr[w], __ATOMIC_SEQ_CST))
		__atomic_or_fetch(&l->irr_words, BIT32(w), __ATOMIC_SEQ_CST);
}

static inline void begin_service(struct vlapic *l, u32 vector)
{
	poke(l->isr[vector >> 4], (u8)vector);
	poke(l->isr_classes, l->isr_classes | BIT32(vector >> 4));
	l->isrv = (u8)vector;
	poke(l->ppr, (u8)(vector & 0xF0)); /* it is above TPR */
}

RARE static int accept_other(struct vlapic *l)
{
	int highest = highest_requested(l);

	if (highest >= 0 && (highest & 0xF0) > (l->ppr & 0xF0)) {
		irr_clear(l, (u32)highest);
		begin_service(l, (u32)highest);
		return highest;
	}
	if (!pic_waits(l))
		return -1;
	__atomic_store_n(&l->extint_once, false, __ATOMIC_RELAXED);
	return vpic_inta(&l->p->pic);
}

int vlapic_accept(struct vlapic *l)
{
	u32 own = l->own;

	if (own != 0 && !peek(l->irr_words) && (own & 0xF0) > (l->ppr & 0xF0)) {
		l->own = 0;
		begin_service(l, own);
		return (int)own;
	}
	return accept_other(l);
}

/* Something may have become deliverable on this very vCPU. */
static inline void recheck(struct vlapic *l)
{
	if (vlapic_waits(l))
		vdev_kick(l->host, l->vcpu, VDEV_KICK_IRQ, 0);
}

RARE static void eoi_of_level(struct vlapic *l, u32 vector)
{
	vplatform_eoi(l->p, (u8)vector);
	recheck(l);
}

void vlapic_eoi(struct vlapic *l)
{
	u32 vector = l->isrv, classes;

	if (unlikely(!vector))
		return;
	classes = l->isr_classes & ~BIT32(vector >> 4);
	poke(l->isr_classes, classes);
	l->isrv = unlikely(classes) ? l->isr[top_bit(classes)] : 0;
	update_ppr(l);
	if (unlikely(is_level(l, vector)))
		eoi_of_level(l, vector);
	else
		recheck(l);
}

void vlapic_set_tpr_hw(struct vlapic *l, u8 tpr)
{
	l->tpr = tpr;
	update_ppr(l);
}

static void write_tpr(struct vlapic *l, u8 tpr)
{
	bool lower = tpr < l->tpr;

	vlapic_set_tpr_hw(l, tpr);
	if (lower)
		recheck(l);
}

/* Acceptance ------------------------------------------------------------- */

static void accept_fixed(struct vlapic *l, u8 vector, bool level)
{
	u32 w = vector >> 5, bit = BIT32(vector & 31);
	bool was_level = (peek(l->tmr[w]) & bit) != 0;

	if (unlikely(level != was_level)) {
		if (level)
			__atomic_or_fetch(&l->tmr[w], bit, __ATOMIC_SEQ_CST);
		else
			__atomic_and_fetch(&l->tmr[w], ~bit, __ATOMIC_SEQ_CST);
		note_unusual(l, vector);
	}

	/* Already requested: its first sender kicks. */
	if (__atomic_fetch_or(&l->irr[w], bit, __ATOMIC_SEQ_CST) & bit)
		return;
	__atomic_or_fetch(&l->irr_words, BIT32(w), __ATOMIC_SEQ_CST);
	vdev_kick(l->host, l->vcpu, VDEV_KICK_IRQ, 0);
}

/* Notes errors for the next write of ESR, and interrupts for those that were not noted before. */
RARE static void raise_error(struct vlapic *l, u32 errors)
{
	u32 before = __atomic_fetch_or(&l->esr_pending, errors, __ATOMIC_SEQ_CST);
	u32 lvt = peek(l->lvt[LVT_ERROR]);

	if ((errors & ~before) == 0 || (lvt & LVT_MASKED))
		return;
	if ((lvt & 0xFF) >= 16)
		accept_fixed(l, (u8)lvt, false);
	else
		__atomic_or_fetch(&l->esr_pending, ESR_RECEIVE_VECTOR, __ATOMIC_SEQ_CST);
}

static bool deliver_fixed(struct vlapic *l, u8 vector, bool level)
{
	if (unlikely(!(peek(l->svr) & SVR_ENABLE)))
		return false;
	if (unlikely(vector < 16)) {
		raise_error(l, ESR_RECEIVE_VECTOR);
		return false;
	}
	accept_fixed(l, vector, level);
	return true;
}

bool vlapic_deliver(struct vlapic *l, u32 delivery_mode, u8 vector, bool level)
{
	if (unlikely(peek(l->mode) == VLAPIC_OFF))
		return false;

	switch (delivery_mode) {
	case APIC_FIXED:
	case APIC_LOWEST:
		return deliver_fixed(l, vector, level);
	case APIC_NMI:
		vdev_kick(l->host, l->vcpu, VDEV_KICK_NMI, 0);
		return true;
	case APIC_INIT:
		vdev_kick(l->host, l->vcpu, VDEV_KICK_INIT, 0);
		return true;
	case APIC_SIPI:
		vdev_kick(l->host, l->vcpu, VDEV_KICK_SIPI, vector);
		return true;
	case APIC_EXTINT:
		__atomic_store_n(&l->extint_once, true, __ATOMIC_SEQ_CST);
		vdev_kick(l->host, l->vcpu, VDEV_KICK_IRQ, 0);
		return true;
	default:
		return false; /* guests have no SMM; 3 is reserved */
	}
}

/* Addressing ------------------------------------------------------------- */

/* SDM vol. 3A, 11.12.10.2. */
static u32 x2apic_ldr(const struct vlapic *l)
{
	return (l->apic_id >> 4) << 16 | BIT32(l->apic_id & 15);
}

/* SDM vol. 3A, 11.6.2. */
static bool addressed(const struct vlapic *l, const struct apic_message *m)
{
	if (m->dest == (m->wide ? ~0U : 0xFFU))
		return true;
	if (!m->logical)
		return m->dest == l->apic_id;
	if (peek(l->mode) == VLAPIC_X2APIC) {
		u32 ldr = x2apic_ldr(l);
		return m->dest >> 16 == ldr >> 16 && (m->dest & ldr & 0xFFFF) != 0;
	}

	u32 ldr = peek(l->ldr) >> 24;
	if (m->dest > 0xFF)
		return false;
	if (peek(l->dfr) >> 28 == DFR_FLAT)
		return (m->dest & ldr) != 0;
	return m->dest >> 4 == ldr >> 4 && (m->dest & ldr & 0xF) != 0;
}

/* The LAPIC of one vCPU, or NULL. */
static struct vlapic *lapic_of(struct vdev_platform *p, u32 vcpu)
{
	return __atomic_load_n(&p->lapic[vcpu], __ATOMIC_ACQUIRE);
}

static u64 addressed_set(struct vdev_platform *p, const struct apic_message *m)
{
	u64 set = 0;

	for (u32 i = 0; i < p->config.cpus; i++) {
		const struct vlapic *l = lapic_of(p, i);
		if (l && peek(l->mode) != VLAPIC_OFF && addressed(l, m))
			set |= BIT(i);
	}
	return set;
}

/* Word n of the ISR. */
RARE static u32 isr_word(const struct vlapic *l, u32 n)
{
	u32 classes = peek(l->isr_classes), word = 0;

	for (u32 c = 2 * n; c < 2 * n + 2; c++)
		if (classes >> c & 1)
			word |= BIT32(peek(l->isr[c]) & 31);
	return word;
}

/* The focus processor has the vector in service or requested (SDM vol. 3A, 11.6.2.4). */
static bool is_focus(const struct vlapic *l, u8 vector)
{
	u32 w = vector >> 5;

	return !(peek(l->svr) & SVR_NO_FOCUS) &&
	       ((peek(l->irr[w]) | isr_word(l, w)) & BIT32(vector & 31)) != 0;
}

/* Lowest-priority arbitration; equals take turns. */
static u64 lowest_of(struct vdev_platform *p, u64 set, u8 vector)
{
	u32 cpus = p->config.cpus, best = ~0U, best_class = 16;
	u32 first = __atomic_fetch_add(&p->lowest_next, 1, __ATOMIC_RELAXED) % cpus;

	for (u32 n = 0; n < cpus; n++) {
		u32 i = (first + n) % cpus;
		if (!(set >> i & 1))
			continue;
		const struct vlapic *l = lapic_of(p, i);
		if (!(peek(l->svr) & SVR_ENABLE))
			continue;
		if (is_focus(l, vector))
			return BIT(i);
		if ((u32)peek(l->ppr) >> 4 < best_class) {
			best_class = (u32)peek(l->ppr) >> 4;
			best = i;
		}
	}
	return best == ~0U ? 0 : BIT(best);
}

RARE static u32 send_to_set(struct vdev_platform *p, u64 set, const struct apic_message *m)
{
	u32 accepted = 0;

	if (m->mode == APIC_LOWEST)
		set = lowest_of(p, set, m->vector);
	for (; set; set &= set - 1) {
		u32 i = (u32)__builtin_ctzll(set);
		accepted += vlapic_deliver(lapic_of(p, i), m->mode, m->vector, m->level);
	}
	return accepted;
}

u32 vlapic_send(struct vdev_platform *p, const struct apic_message *m)
{
	/* APIC ids equal vCPU indices in practice: one look finds a physical destination. */
	if (likely(!m->logical && m->dest < p->config.cpus && m->mode != APIC_LOWEST)) {
		struct vlapic *l = lapic_of(p, m->dest);
		if (likely(l && l->apic_id == m->dest))
			return vlapic_deliver(l, m->mode, m->vector, m->level);
	}
	return send_to_set(p, addressed_set(p, m), m);
}

/* Interrupt command register (SDM vol. 3A, 11.6.1) ----------------------- */

RARE static void icr_send_shorthand(struct vlapic *l, u32 shorthand, const struct apic_message *m)
{
	struct vdev_platform *p = l->p;
	u32 cpus = p->config.cpus;
	u64 set = 0;

	/* To oneself only fixed interrupts can go (APM vol. 2, table 16-4). */
	if (shorthand != TO_OTHERS && m->mode != APIC_FIXED)
		return;
	if (shorthand == TO_SELF) {
		vlapic_deliver(l, APIC_FIXED, m->vector, false);
		return;
	}
	for (u32 i = 0; i < cpus; i++)
		if (lapic_of(p, i))
			set |= BIT(i);
	if (shorthand == TO_OTHERS)
		set &= ~BIT(l->vcpu);
	send_to_set(p, set, m);
}

RARE static void icr_send_message(struct vlapic *l, u32 low, u32 dest)
{
	struct apic_message m = {
		.dest = dest,
		.mode = low >> 8 & 7,
		.vector = (u8)low,
		.logical = (low & ICR_LOGICAL) != 0,
		.wide = l->mode == VLAPIC_X2APIC,
	};

	if (unlikely(m.mode <= APIC_LOWEST && m.vector < 16)) {
		raise_error(l, ESR_SEND_VECTOR);
		return;
	}
	/* INIT level de-assert sets arbitration ids only; ExtINT has no ICR encoding. */
	if (m.mode == APIC_INIT && (low & ICR_LEVEL) && !(low & ICR_ASSERT))
		return;
	if (m.mode == APIC_EXTINT)
		return;

	if (likely(ICR_SHORTHAND(low) == TO_DEST))
		vlapic_send(l->p, &m);
	else
		icr_send_shorthand(l, ICR_SHORTHAND(low), &m);
}

/* A fixed interrupt to oneself: taken at the next entry nearly always, and seen by nobody else. */
static inline void send_to_self(struct vlapic *l, u32 vector)
{
	if (unlikely(!l->open || l->own != 0 || is_level(l, vector))) {
		deliver_fixed(l, (u8)vector, false);
		return;
	}
	l->own = (u8)vector;
	vdev_kick_self(l->host, l->vcpu);
}

static inline void icr_send(struct vlapic *l, u32 low, u32 dest)
{
	if ((low & ICR_TO_SELF_MASK) == ICR_TO_SELF_FIXED && (low & 0xF0) != 0)
		send_to_self(l, low & 0xFF);
	else
		icr_send_message(l, low, dest);
}

static void self_ipi(struct vlapic *l, u8 vector)
{
	if (unlikely(vector < 16))
		raise_error(l, ESR_SEND_VECTOR);
	else
		send_to_self(l, vector);
}

/* Timer (SDM vol. 3A, 11.5.4) -------------------------------------------- */

/* Nanoseconds per count are 1 << shift: a 1 GHz bus and a power of two as divider. */
static u32 divide_shift(u8 divide)
{
	return (((divide & 3U) | (divide >> 1 & 4U)) + 1) & 7; /* 0: by 2, ... 6: by 128, 7: by 1 */
}
_Static_assert(VLAPIC_BUS_HZ == NS_PER_SEC, "the timer's unit is the nanosecond");

static u64 period_ns(const struct vlapic *l)
{
	return (u64)l->tmict << divide_shift(l->divide);
}

static u32 current_count(const struct vlapic *l, u64 now)
{
	u32 mode = TIMER_MODE(l->lvt[LVT_TIMER]);
	u64 passed = (now - l->start_ns) >> divide_shift(l->divide);

	if (l->tmict == 0 || mode > TIMER_PERIODIC)
		return 0;
	if (mode == TIMER_PERIODIC)
		passed %= l->tmict;
	return passed >= l->tmict ? 0 : (u32)(l->tmict - passed);
}

/* IA32_TSC_DEADLINE in guest time; 0 for never. */
static u64 deadline_ns(const struct vlapic *l, u64 now)
{
	u64 tsc = vdev_guest_tsc(l->host, l->vcpu);

	/* Some guests disarm with a value centuries away: it must not wrap on its way. */
	if (l->deadline_tsc == 0 || (l->deadline_tsc > tsc && (l->deadline_tsc - tsc) >> 62))
		return 0;
	/* One more, for the conversion rounds down and an early tick confuses guests. */
	return MAX(vdev_tsc_to_ns(l->host, l->vcpu, l->deadline_tsc), now) + 1;
}

/* When the timer expires next, seen from now; 0 for never. */
static u64 timer_next(const struct vlapic *l, u64 now)
{
	u32 lvt = l->lvt[LVT_TIMER];
	u64 period = period_ns(l), next;

	switch (TIMER_MODE(lvt)) {
	case TIMER_ONE_SHOT:
		next = l->start_ns + period;
		return period && next > now ? next : 0;
	case TIMER_PERIODIC:
		if (!period)
			return 0;
		next = now - (now - l->start_ns) % period + period;
		return period < VDEV_MIN_PERIOD_NS ? MAX(next, now + VDEV_MIN_PERIOD_NS) : next;
	case TIMER_DEADLINE:
		return deadline_ns(l, now);
	default:
		return 0;
	}
}

/* Lets the host's timer follow the registers. A masked timer counts without it. */
static void timer_program(struct vlapic *l, u64 now)
{
	u64 due = l->lvt[LVT_TIMER] & LVT_MASKED ? 0 : timer_next(l, now);

	if (due)
		vdev_timer_arm(&l->timer, due);
	else if (l->due_ns)
		vdev_timer_cancel(&l->timer);
	l->due_ns = due;
	l->armed_tsc = due ? l->deadline_tsc : 0;
}

void vlapic_tsc_changed(struct vlapic *l)
{
	spin_lock(&l->timer_lock);
	if (l->deadline_tsc || l->armed_tsc)
		timer_program(l, vdev_now_ns(l->host));
	spin_unlock(&l->timer_lock);
}

static void timer_fired(void *arg)
{
	struct vlapic *l = arg;

	spin_lock(&l->timer_lock);
	u64 now = vdev_now_ns(l->host);
	u32 lvt = l->lvt[LVT_TIMER];
	bool put_off = l->armed_tsc != l->deadline_tsc;
	bool fire = !put_off && l->due_ns && now >= l->due_ns;
	if (put_off) {
		timer_program(l, now);
	} else if (fire) {
		l->deadline_tsc = 0;
		l->armed_tsc = 0;
		l->due_ns = 0;
		if (TIMER_MODE(lvt) == TIMER_PERIODIC)
			timer_program(l, now);
	} else if (l->due_ns) {
		vdev_timer_arm(&l->timer, l->due_ns);
	}
	spin_unlock(&l->timer_lock);
	if (fire)
		deliver_fixed(l, (u8)lvt, false);
}

static void write_tmict(struct vlapic *l, u32 value)
{
	spin_lock(&l->timer_lock);
	/* In deadline mode the register does not respond. */
	if (TIMER_MODE(l->lvt[LVT_TIMER]) != TIMER_DEADLINE) {
		u64 now = vdev_now_ns(l->host);
		l->tmict = value;
		l->start_ns = now;
		timer_program(l, now);
	}
	spin_unlock(&l->timer_lock);
}

static void write_divide(struct vlapic *l, u32 value)
{
	spin_lock(&l->timer_lock);
	u64 now = vdev_now_ns(l->host);
	u64 counted = l->tmict - current_count(l, now);
	l->divide = value & 0xB;
	/* The count so far stands; the rest runs at the new rate. */
	l->start_ns = now - (counted << divide_shift(l->divide));
	timer_program(l, now);
	spin_unlock(&l->timer_lock);
}

static void write_lvt_timer(struct vlapic *l, u32 value)
{
	spin_lock(&l->timer_lock);
	u32 old = TIMER_MODE(l->lvt[LVT_TIMER]), new = TIMER_MODE(value);
	l->lvt[LVT_TIMER] = value;
	/* To or from deadline mode disarms (SDM vol. 3A, 11.5.4.1). */
	if (old != new && (old == TIMER_DEADLINE || new == TIMER_DEADLINE)) {
		l->tmict = 0;
		l->deadline_tsc = 0;
	}
	timer_program(l, vdev_now_ns(l->host));
	spin_unlock(&l->timer_lock);
}

static u64 read_deadline(struct vlapic *l)
{
	spin_lock(&l->timer_lock);
	u64 value = l->deadline_tsc;
	/* A masked timer has no callback that would disarm it. */
	if (value && vdev_guest_tsc(l->host, l->vcpu) >= value && !l->due_ns)
		value = l->deadline_tsc = 0;
	spin_unlock(&l->timer_lock);
	return value;
}

/* Unlocks the timer. */
RARE static void move_deadline(struct vlapic *l, u64 tsc)
{
	u32 lvt = l->lvt[LVT_TIMER];
	bool now_due = false;

	if (TIMER_MODE(lvt) != TIMER_DEADLINE || l->mode == VLAPIC_OFF) {
		spin_unlock(&l->timer_lock);
		return;
	}
	if (tsc && tsc <= vdev_guest_tsc(l->host, l->vcpu)) {
		now_due = !(lvt & LVT_MASKED);
		tsc = 0;
	}
	l->deadline_tsc = tsc;
	if (tsc != 0 || l->due_ns != 0)
		timer_program(l, vdev_now_ns(l->host));
	spin_unlock(&l->timer_lock);
	if (now_due && (lvt & 0xF0) != 0)
		send_to_self(l, lvt & 0xFF);
	else if (now_due)
		deliver_fixed(l, (u8)lvt, false);
}

/*
 * A deadline that is only put off, or off (0) until the next one, as kernels do again and
 * again, leaves the host's timer where it is: that comes too early, once for however many,
 * and looks again. One less on both sides, so that 0 is later than all.
 */
static void write_deadline(struct vlapic *l, u64 tsc)
{
	spin_lock(&l->timer_lock);
	if (unlikely(tsc - 1 < l->armed_tsc - 1)) {
		move_deadline(l, tsc);
		return;
	}
	l->deadline_tsc = tsc;
	spin_unlock(&l->timer_lock);
}

/* Registers -------------------------------------------------------------- */

/* Who takes the PIC's INTR: a LAPIC that is off, or one whose LVT0 lets ExtINT through. */
static void update_extint(struct vlapic *l)
{
	u32 lvt = l->lvt[LVT_LINT0];

	l->extint = l->mode == VLAPIC_OFF ||
		    (!(lvt & LVT_MASKED) && LVT_MODE(lvt) == APIC_EXTINT);
	set_member(&l->p->extint_cpus, l->vcpu, l->extint);
	if (l->extint && __atomic_load_n(&l->p->pic.intr, __ATOMIC_SEQ_CST))
		vdev_kick(l->host, l->vcpu, VDEV_KICK_IRQ, 0);
}

static void write_lvt(struct vlapic *l, u32 n, u32 value)
{
	value &= lvt_writable[n];
	if (!(l->svr & SVR_ENABLE))
		value |= LVT_MASKED;
	if (n == LVT_TIMER) {
		write_lvt_timer(l, value);
		return;
	}
	poke(l->lvt[n], value);
	if (n == LVT_LINT0)
		update_extint(l);
}

static void write_svr(struct vlapic *l, u32 value)
{
	poke(l->svr, value & SVR_WRITABLE);
	set_open(l, (value & SVR_ENABLE) != 0);
	if (value & SVR_ENABLE)
		return;
	for (u32 n = 0; n < LVT_COUNT; n++)
		write_lvt(l, n, l->lvt[n]);
}

static bool read_register(struct vlapic *l, u32 reg, u32 *value)
{
	bool x2 = l->mode == VLAPIC_X2APIC;

	switch (reg) {
	case REG_ID: *value = x2 ? l->apic_id : l->apic_id << 24; break;
	case REG_VERSION: *value = VERSION; break;
	case REG_TPR: *value = l->tpr; break;
	case REG_APR: *value = 0; return !x2;
	case REG_PPR: *value = l->ppr; break;
	case REG_RRD: *value = 0; return !x2;
	case REG_LDR: *value = x2 ? x2apic_ldr(l) : l->ldr; break;
	case REG_DFR: *value = l->dfr; return !x2;
	case REG_SVR: *value = l->svr; break;
	case REG_ISR ... REG_ISR + 7: *value = isr_word(l, reg - REG_ISR); break;
	case REG_TMR ... REG_TMR + 7: *value = peek(l->tmr[reg - REG_TMR]); break;
	case REG_IRR ... REG_IRR + 7:
		if (l->own != 0)
			settle_own(l);
		*value = peek(l->irr[reg - REG_IRR]);
		break;
	case REG_ESR: *value = l->esr; break;
	case REG_ICR: *value = l->icr_low; break;
	case REG_ICR2: *value = l->icr_high; return !x2;
	case REG_LVT ... REG_LVT + LVT_COUNT - 1: *value = l->lvt[reg - REG_LVT]; break;
	case REG_TMICT: *value = l->tmict; break;
	case REG_TMCCT:
		spin_lock(&l->timer_lock);
		*value = current_count(l, vdev_now_ns(l->host));
		spin_unlock(&l->timer_lock);
		break;
	case REG_DIVIDE: *value = l->divide; break;
	default: return false; /* EOI and self IPI cannot be read */
	}
	return true;
}

/* Registers common to both modes and off the hot path; the caller has checked reserved bits. */
static bool write_register(struct vlapic *l, u32 reg, u32 value)
{
	switch (reg) {
	case REG_TPR: write_tpr(l, (u8)value); break;
	case REG_SVR: write_svr(l, value); break;
	case REG_ESR: l->esr = __atomic_exchange_n(&l->esr_pending, 0, __ATOMIC_SEQ_CST); break;
	case REG_LVT ... REG_LVT + LVT_COUNT - 1: write_lvt(l, reg - REG_LVT, value); break;
	case REG_TMICT: write_tmict(l, value); break;
	case REG_DIVIDE: write_divide(l, value); break;
	default: return false;
	}
	return true;
}

u32 vlapic_mmio_read(struct vlapic *l, u32 offset, u32 size)
{
	u32 value = 0;

	if (size != 4 || (offset & 0xF) || offset >= PAGE_SIZE)
		return 0;
	if (!read_register(l, offset >> 4, &value))
		raise_error(l, ESR_REGISTER);
	return value;
}

/* All but EOI, TPR and both halves of ICR. */
RARE static void mmio_write_rest(struct vlapic *l, u32 reg, u32 value)
{
	if (write_register(l, reg, value))
		return;
	switch (reg) {
	case REG_LDR: poke(l->ldr, value & 0xFF000000); break;
	case REG_DFR: poke(l->dfr, value | 0x0FFFFFFF); break;
	case REG_ID:
	case REG_VERSION:
	case REG_APR:
	case REG_PPR:
	case REG_RRD:
	case REG_ISR ... REG_IRR + 7:
	case REG_TMCCT:
		break; /* read-only: the id is that of the MADT */
	default:
		raise_error(l, ESR_REGISTER);
	}
}

void vlapic_mmio_write(struct vlapic *l, u32 offset, u32 size, u32 value)
{
	if (unlikely(size != 4))
		return;
	if (likely(offset == REG_EOI << 4)) {
		vlapic_eoi(l);
	} else if (likely(offset == REG_ICR << 4)) {
		l->icr_low = value & ICR_WRITABLE;
		icr_send(l, l->icr_low, l->icr_high >> 24);
	} else if (likely(offset == REG_ICR2 << 4)) {
		l->icr_high = value & 0xFF000000;
	} else if (offset == REG_TPR << 4) {
		write_tpr(l, (u8)value);
	} else if ((offset & 0xF) == 0 && offset < PAGE_SIZE) {
		mmio_write_rest(l, offset >> 4, value);
	}
}

/* MSRs ------------------------------------------------------------------- */

/* Bits that cause #GP when written in x2APIC mode (SDM vol. 3A, 11.12.1.2 and 11.12.1.3). */
static u32 x2apic_reserved(u32 reg)
{
	switch (reg) {
	case REG_TPR: return ~0xFFU;
	case REG_SVR: return ~SVR_WRITABLE;
	case REG_ESR: return ~0U;
	case REG_DIVIDE: return ~0xBU;
	case REG_TMICT: return 0;
	case REG_LVT ... REG_LVT + LVT_COUNT - 1:
		return ~(lvt_writable[reg - REG_LVT] | LVT_READ_ONLY);
	default: return ~0U;
	}
}

RARE static int x2apic_write_rest(struct vlapic *l, u32 reg, u64 value)
{
	if (value >> 32 || ((u32)value & x2apic_reserved(reg)))
		return -EINVAL;
	if (reg == REG_LVT + LVT_TIMER && TIMER_MODE((u32)value) > TIMER_DEADLINE)
		return -EINVAL;
	return write_register(l, reg, (u32)value) ? 0 : -EINVAL;
}

static int x2apic_write(struct vlapic *l, u32 reg, u64 value)
{
	if (unlikely(l->mode != VLAPIC_X2APIC))
		return -EINVAL;
	if (likely(reg == REG_ICR)) {
		if (unlikely((u32)value & ICR_RESERVED))
			return -EINVAL;
		l->icr_low = (u32)value & ICR_WRITABLE;
		l->icr_high = (u32)(value >> 32);
		icr_send(l, l->icr_low, l->icr_high);
		return 0;
	}
	if (likely(reg == REG_SELF_IPI && value <= 0xFF)) {
		self_ipi(l, (u8)value);
		return 0;
	}
	if (likely(reg == REG_EOI && value == 0)) {
		vlapic_eoi(l);
		return 0;
	}
	return x2apic_write_rest(l, reg, value);
}

static int x2apic_read(struct vlapic *l, u32 reg, u64 *value)
{
	u32 low;

	if (l->mode != VLAPIC_X2APIC || !read_register(l, reg, &low))
		return -EINVAL;
	*value = reg == REG_ICR ? (u64)l->icr_high << 32 | low : low;
	return 0;
}

/* The registers as after power-on; the mode stays. */
static void reset_registers(struct vlapic *l)
{
	spin_lock(&l->timer_lock);
	vdev_timer_cancel(&l->timer);
	l->tmict = 0;
	l->divide = 0;
	l->start_ns = 0;
	l->deadline_tsc = 0;
	l->due_ns = 0;
	l->armed_tsc = 0;
	for (u32 n = 0; n < LVT_COUNT; n++)
		poke(l->lvt[n], LVT_MASKED);
	spin_unlock(&l->timer_lock);

	/* Firmware leaves the boot processor in virtual wire mode (MP specification, 3.6.2.2). */
	if (l->vcpu == 0)
		l->lvt[LVT_LINT0] = APIC_EXTINT << 8;
	for (u32 w = 0; w < 8; w++) {
		poke(l->irr[w], 0);
		poke(l->tmr[w], 0);
	}
	poke(l->irr_words, 0);
	l->own = 0;
	poke(l->isr_classes, 0);
	l->isrv = 0;
	poke(l->extint_once, false);
	vlapic_set_tpr_hw(l, 0);
	poke(l->svr, 0xFF);
	set_open(l, false);
	poke(l->ldr, 0);
	poke(l->dfr, ~0U);
	l->icr_low = 0;
	l->icr_high = 0;
	l->esr = 0;
	poke(l->esr_pending, 0);
}

static void place(struct vlapic *l, u8 mode)
{
	l->page = mode == VLAPIC_XAPIC ? l->base_msr & PAGE_MASK : VLAPIC_NOWHERE;
}

/* Legal transitions: SDM vol. 3A, 11.12.5. */
RARE static int write_apic_base(struct vlapic *l, u64 value)
{
	u64 phys = (1ULL << l->p->config.phys_bits) - 1;
	u64 allowed = (phys & PAGE_MASK) | APIC_BASE_BSP | APIC_BASE_EXTD | APIC_BASE_EN;
	bool enable = value & APIC_BASE_EN, extended = value & APIC_BASE_EXTD;
	u8 mode = !enable ? VLAPIC_OFF : extended ? VLAPIC_X2APIC : VLAPIC_XAPIC;

	if ((value & ~allowed) || (extended && !enable))
		return -EINVAL;
	if (l->mode == VLAPIC_X2APIC && mode == VLAPIC_XAPIC)
		return -EINVAL;
	if (l->mode == VLAPIC_OFF && mode == VLAPIC_X2APIC)
		return -EINVAL;

	l->base_msr = value;
	place(l, mode);
	if (mode == l->mode)
		return 0;
	poke(l->mode, mode);
	if (mode == VLAPIC_OFF)
		reset_registers(l);
	if (mode == VLAPIC_X2APIC)
		l->icr_high = 0; /* the destination's format differs */
	update_extint(l);
	return 0;
}

int vlapic_msr_read(struct vlapic *l, u32 msr, u64 *value)
{
	if (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST)
		return x2apic_read(l, msr - MSR_X2APIC_FIRST, value);
	if (msr == MSR_TSC_DEADLINE)
		*value = read_deadline(l);
	else if (msr == MSR_APIC_BASE)
		*value = l->base_msr;
	else
		return -EINVAL;
	return 0;
}

int vlapic_msr_write(struct vlapic *l, u32 msr, u64 value)
{
	if (likely(msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST))
		return x2apic_write(l, msr - MSR_X2APIC_FIRST, value);
	if (msr == MSR_TSC_DEADLINE) {
		write_deadline(l, value);
		return 0;
	}
	return msr == MSR_APIC_BASE ? write_apic_base(l, value) : -EINVAL;
}

/* Life ------------------------------------------------------------------- */

void vlapic_reset(struct vlapic *l, bool init)
{
	if (!init) {
		l->base_msr = VDEV_LAPIC_BASE | APIC_BASE_EN | (l->vcpu == 0 ? APIC_BASE_BSP : 0);
		poke(l->mode, VLAPIC_XAPIC);
		place(l, VLAPIC_XAPIC);
	}
	reset_registers(l);
	update_extint(l);
}

void vlapic_init(struct vlapic *l, struct vdev_platform *p, u32 vcpu, u32 apic_id)
{
	memset(l, 0, sizeof(*l));
	l->p = p;
	l->host = p->host;
	l->vcpu = vcpu;
	l->apic_id = apic_id;
	vdev_timer_init(&l->timer, p->host, vcpu, timer_fired, l);
	vlapic_reset(l, false);
	__atomic_store_n(&p->lapic[vcpu], l, __ATOMIC_RELEASE);
}
