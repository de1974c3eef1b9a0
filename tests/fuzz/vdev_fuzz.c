/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/fuzz/vdev_fuzz.h"

#include "tests/unit/fake_vdev_host.h"

/* xorshift64* (Vigna 2016): small, and the same everywhere. */
struct random {
	u64 s;
};

static u64 next(struct random *r)
{
	r->s ^= r->s >> 12;
	r->s ^= r->s << 25;
	r->s ^= r->s >> 27;
	return r->s * 0x2545F4914F6CDD1DULL;
}

static u32 below(struct random *r, u32 n)
{
	return (u32)((next(r) >> 32) % n);
}

/* Values near the edges find more than uniform ones. */
static u64 value(struct random *r)
{
	switch (below(r, 6)) {
	case 0: return 0;
	case 1: return ~0ULL;
	case 2: return 1ULL << below(r, 64);
	case 3: return below(r, 256);
	case 4: return next(r) & 0xFFFFFFFF;
	default: return next(r);
	}
}

static u16 any_port(struct random *r, const struct vdev_bus *bus)
{
	if (below(r, 20) == 0)
		return (u16)next(r);
	const struct vdev_range *range = &bus->port[below(r, bus->ports)];
	return (u16)(range->base + below(r, (u32)range->len + 1));
}

static void port_access(struct fake_vm *vm, struct random *r)
{
	u16 port = any_port(r, &vm->p.bus);
	u32 size = 1U << below(r, 3);

	if (below(r, 2))
		vdev_bus_port_write(&vm->p.bus, port, size, (u32)value(r));
	else
		assert_true(vdev_bus_port_read(&vm->p.bus, port, size) <= ~0U >> (32 - size * 8));
}

static void ioapic_access(struct fake_vm *vm, struct random *r)
{
	u64 gpa = 0xFEC00000ULL + (below(r, 8) ? below(r, 2) * 0x10 : below(r, 0x1000));
	u32 size = below(r, 8) ? 4 : 1U << below(r, 4);

	if (below(r, 3)) {
		u64 v = gpa == 0xFEC00000ULL ? below(r, 0x42) : value(r);
		/* Unmasked entries with useful vectors often enough. */
		vdev_bus_mmio_write(&vm->p.bus, gpa, size, below(r, 2) ? v : v & 0xF000A0FF);
	} else {
		vdev_bus_mmio_read(&vm->p.bus, gpa, size);
	}
}

static void lapic_access(struct vlapic *l, struct random *r)
{
	u32 offset = below(r, 16) ? below(r, 0x40) * 16 : (u32)next(r);
	u32 msr = 0x800 + below(r, 0x40);
	u64 v;

	switch (below(r, 8)) {
	case 0: vlapic_mmio_read(l, offset, 1U << below(r, 4)); break;
	case 1:
	case 2: vlapic_mmio_write(l, offset, 4, (u32)value(r)); break;
	case 3: vlapic_msr_write(l, msr, value(r)); break;
	case 4: vlapic_msr_read(l, msr, &v); break;
	case 5: vlapic_msr_write(l, below(r, 2) ? 0x6E0 : (u32)next(r), value(r)); break;
	case 6:
		if (below(r, 30) == 0)
			vlapic_msr_write(l, 0x1B, 0xFEE00000 | below(r, 8) << 9);
		vlapic_mmio_write(l, 0xF0, 4, 0x1FF);
		break;
	default: vlapic_set_tpr_hw(l, (u8)value(r)); break;
	}
}

/* A summary word says exactly which words are in use; each class has one vector in service at most;
 * PPR follows from TPR and ISR. */
static void check_lapic(const struct vlapic *l)
{
	int highest = -1;

	for (u32 w = 0; w < 8; w++)
		assert_int_equal(l->irr_words >> w & 1, l->irr[w] != 0);
	for (u32 c = 0; c < 16; c++) {
		if (!(l->isr_classes >> c & 1))
			continue;
		assert_int_equal(l->isr[c] >> 4, c);
		highest = l->isr[c];
	}
	assert_int_equal(l->isr_classes & ~0xFFFEU, 0);
	assert_true(l->own == 0 || l->own >= 16);
	assert_int_equal(l->irr[0] & 0xFFFF, 0); /* vectors below 16 are illegal */
	assert_int_equal(l->isrv, highest < 0 ? 0 : highest);
	u32 class = highest < 0 ? 0 : (u32)highest & 0xF0;
	assert_int_equal(l->ppr & 0xF0, (l->tpr & 0xF0) > class ? l->tpr & 0xF0 : class);
}

static void take_interrupt(struct vlapic *l, struct random *r)
{
	int pending = vlapic_pending(l), blocked = vlapic_blocked(l);
	u8 ppr = l->ppr;
	u32 in_service = l->isr_classes;

	assert_true(pending >= -1 && pending < 256 && blocked >= -1 && blocked < 256);
	int taken = vlapic_accept(l);
	assert_int_equal(taken, pending);
	if (l->isr_classes != in_service || l->ppr != ppr)
		assert_true((taken & 0xF0) > (ppr & 0xF0));
	check_lapic(l);
	if (below(r, 4))
		vlapic_eoi(l);
	check_lapic(l);
}

static void message(struct fake_vm *vm, struct random *r, u32 cpus)
{
	u8 text[40];

	switch (below(r, 4)) {
	case 0: vplatform_msi(&vm->p, 0xFEE00000ULL | (value(r) & 0xFFFFF), (u32)value(r)); break;
	case 1: vplatform_irq(&vm->p, below(r, 26), below(r, 2)); break;
	case 2:
		for (u32 i = 0; i < sizeof(text); i++)
			text[i] = (u8)next(r);
		vplatform_console_rx(&vm->p, below(r, 3), text, below(r, sizeof(text)));
		vm->host.room = below(r, 64);
		vplatform_console_tx_ready(&vm->p, below(r, 3));
		break;
	default:
		vlapic_deliver(&vm->lapic[below(r, cpus)], below(r, 9), (u8)value(r), below(r, 2));
	}
}

/*
 * No guest makes the host work without bound: each LAPIC and the PIT fire at
 * most once in 20 us, the RTC at most 8192 times a second.
 */
static void advance(struct fake_vm *vm, struct random *r, u32 cpus)
{
	static const u64 spans[] = { 1, 1000, 100000, 10000000 };
	u64 ns = spans[below(r, 4)] * (1 + below(r, 10));
	u32 before = vm->host.fired;

	if (below(r, 1000) == 0) { /* the host slept: what is overdue coalesces */
		vm->host.now += 1ULL << below(r, 50);
		fake_advance(&vm->host, 0);
		assert_in_range(vm->host.fired - before, 0, cpus + 3);
		return;
	}
	fake_advance(&vm->host, ns);
	assert_true(vm->host.fired - before <= (cpus + 2) * (ns / 20000 + 2) + 2);
}

/* No path leaves a device locked, or unlocks it twice. */
static void check_locks(const struct fake_vm *vm, const struct vlapic *l)
{
	const struct vdev_platform *p = &vm->p;

	assert_false(spin_is_locked(&p->pic.lock) || spin_is_locked(&p->ioapic.lock) ||
		     spin_is_locked(&p->pit.lock) || spin_is_locked(&p->rtc.lock) ||
		     spin_is_locked(&p->uart[0].lock) || spin_is_locked(&p->uart[1].lock) ||
		     spin_is_locked(&p->pm.lock) || spin_is_locked(&l->timer_lock));
}

void vdev_fuzz(u64 seed, u32 steps, u32 cpus)
{
	struct random r = { seed ? seed : 1 };
	struct fake_vm *vm = fake_vm_new(cpus);

	for (u32 n = 0; n < steps; n++) {
		struct vlapic *l = &vm->lapic[below(&r, cpus)];

		fake_kicks_clear(&vm->host);
		switch (below(&r, 16)) {
		case 0 ... 4: port_access(vm, &r); break;
		case 5 ... 6: ioapic_access(vm, &r); break;
		case 7 ... 9: lapic_access(l, &r); break;
		case 10 ... 11: message(vm, &r, cpus); break;
		case 12 ... 13: take_interrupt(l, &r); break;
		case 14: advance(vm, &r, cpus); break;
		default:
			if (below(&r, 500) == 0)
				vplatform_reset(&vm->p);
			if (below(&r, 500) == 0)
				vlapic_reset(l, below(&r, 2));
		}
		check_locks(vm, l);
	}
	for (u32 i = 0; i < cpus; i++)
		check_lapic(&vm->lapic[i]);
	fake_vm_free(vm);
}
