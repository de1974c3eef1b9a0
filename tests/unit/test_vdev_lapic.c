/* SPDX-License-Identifier: BSD-2-Clause */
// sources: vdev/bus.c vdev/lapic.c vdev/pic.c vdev/ioapic.c vdev/pit.c vdev/rtc.c
// sources: vdev/uart.c vdev/acpi_pm.c vdev/platform.c tests/unit/fake_vdev_host.c
#include "tests/unit/fake_vdev_host.h"

#include "core/errno.h"

/* Offsets and values are those of the SDM, vol. 3A, chapter 11. */
#define ID 0x20
#define VERSION 0x30
#define TPR 0x80
#define PPR 0xA0
#define EOI 0xB0
#define LDR 0xD0
#define DFR 0xE0
#define SVR 0xF0
#define ISR 0x100
#define TMR 0x180
#define IRR 0x200
#define ESR 0x280
#define ICR 0x300
#define ICR2 0x310
#define LVT_T 0x320
#define LVT_0 0x350
#define LVT_E 0x370
#define TMICT 0x380
#define TMCCT 0x390
#define TDCR 0x3E0

static struct fake_vm *vm;

static u32 rd(u32 cpu, u32 offset)
{
	return vlapic_mmio_read(&vm->lapic[cpu], offset, 4);
}

static void wr(u32 cpu, u32 offset, u32 value)
{
	vlapic_mmio_write(&vm->lapic[cpu], offset, 4, value);
}

static int wrmsr(u32 cpu, u32 msr, u64 value)
{
	return vlapic_msr_write(&vm->lapic[cpu], msr, value);
}

static u64 rdmsr(u32 cpu, u32 msr)
{
	u64 value = 0;

	assert_int_equal(vlapic_msr_read(&vm->lapic[cpu], msr, &value), 0);
	return value;
}

static int rdmsr_fails(u32 cpu, u32 msr)
{
	u64 value;

	return vlapic_msr_read(&vm->lapic[cpu], msr, &value);
}

static void start(u32 cpus)
{
	vm = fake_vm_new(cpus);
	for (u32 i = 0; i < cpus; i++) {
		wr(i, SVR, 0x1FF);
		wr(i, LVT_0, 0x10000);
	}
	fake_kicks_clear(&vm->host);
}

static void stop(void)
{
	fake_vm_free(vm);
}

static void to_x2apic(u32 cpu)
{
	assert_int_equal(wrmsr(cpu, 0x1B, rdmsr(cpu, 0x1B) | 0xC00), 0);
}

static void power_on_state(void **state)
{
	vm = fake_vm_new(2);
	assert_int_equal(rdmsr(0, 0x1B), 0xFEE00900);
	assert_int_equal(rdmsr(1, 0x1B), 0xFEE00800);
	assert_int_equal(rd(1, ID), 0x01000000);
	assert_int_equal(rd(1, VERSION), 0x00050014);
	assert_int_equal(rd(1, SVR), 0xFF);
	assert_int_equal(rd(1, DFR), 0xFFFFFFFF);
	assert_int_equal(rd(1, LDR), 0);
	for (u32 lvt = 0x320; lvt <= 0x370; lvt += 0x10)
		assert_int_equal(rd(1, lvt), 0x10000);
	assert_int_equal(rd(0, LVT_0), 0x700); /* firmware's virtual wire */
	assert_int_equal(vlapic_offset(&vm->lapic[0], 0xFEE00000), 0);
	assert_int_equal(vlapic_offset(&vm->lapic[0], 0xFEE00FFF), 0xFFF);
	assert_true(vlapic_offset(&vm->lapic[0], 0xFEE01000) >= PAGE_SIZE);
	assert_true(vlapic_offset(&vm->lapic[0], 0xFEDFFFFF) >= PAGE_SIZE);
	assert_int_equal(vlapic_pending(&vm->lapic[0]), -1);
	assert_int_equal(vlapic_accept(&vm->lapic[0]), -1);
	stop();
}

static void priorities_and_nesting(void **state)
{
	start(1);
	struct vlapic *l = &vm->lapic[0];

	assert_true(vlapic_deliver(l, APIC_FIXED, 0x41, false));
	assert_true(vlapic_deliver(l, APIC_FIXED, 0x93, false));
	assert_true(vlapic_deliver(l, APIC_FIXED, 0x45, false));
	assert_int_equal(fake_kicks(&vm->host, 0, VDEV_KICK_IRQ), 3);
	assert_int_equal(rd(0, IRR + 0x20), 1U << 1 | 1U << 5);
	assert_int_equal(rd(0, IRR + 0x40), 1U << 0x13);

	assert_int_equal(vlapic_pending(l), 0x93);
	assert_int_equal(vlapic_accept(l), 0x93);
	assert_int_equal(rd(0, IRR + 0x40), 0);
	assert_int_equal(rd(0, ISR + 0x40), 1U << 0x13);
	assert_int_equal(rd(0, PPR), 0x90);
	assert_int_equal(vlapic_pending(l), -1);

	/* The same class does not interrupt, a higher one does. */
	vlapic_deliver(l, APIC_FIXED, 0x9F, false);
	assert_int_equal(vlapic_pending(l), -1);
	vlapic_deliver(l, APIC_FIXED, 0xA0, false);
	assert_int_equal(vlapic_accept(l), 0xA0);
	assert_int_equal(rd(0, PPR), 0xA0);

	fake_kicks_clear(&vm->host);
	wr(0, EOI, 0);
	assert_int_equal(fake_kicks(&vm->host, 0, VDEV_KICK_IRQ), 1);
	assert_int_equal(rd(0, PPR), 0x90);
	wr(0, EOI, 0);
	assert_int_equal(vlapic_accept(l), 0x9F);
	wr(0, EOI, 0);
	assert_int_equal(vlapic_accept(l), 0x45);
	assert_int_equal(vlapic_pending(l), -1); /* 0x41 is of the same class */
	wr(0, EOI, 0);
	assert_int_equal(vlapic_accept(l), 0x41);
	fake_kicks_clear(&vm->host);
	wr(0, EOI, 0);
	assert_int_equal(vm->host.kicks, 0); /* nothing waits: nobody is woken */
	assert_int_equal(rd(0, PPR), 0);
	wr(0, EOI, 0); /* one too many */
	assert_int_equal(rd(0, PPR), 0);
	stop();
}

static void nested_in_one_word(void **state)
{
	start(1);
	struct vlapic *l = &vm->lapic[0];

	vlapic_deliver(l, APIC_FIXED, 0x41, false);
	assert_int_equal(vlapic_accept(l), 0x41);
	vlapic_deliver(l, APIC_FIXED, 0x52, false);
	assert_int_equal(vlapic_accept(l), 0x52);
	wr(0, EOI, 0);
	assert_int_equal(rd(0, ISR + 0x20), 1U << 1);
	assert_int_equal(rd(0, PPR), 0x40);
	wr(0, EOI, 0);
	assert_int_equal(rd(0, ISR + 0x20), 0);
	stop();
}

static void task_priority(void **state)
{
	start(1);
	struct vlapic *l = &vm->lapic[0];

	wr(0, TPR, 0x5A);
	assert_int_equal(rd(0, PPR), 0x5A);
	vlapic_deliver(l, APIC_FIXED, 0x5F, false);
	assert_int_equal(vlapic_pending(l), -1);
	assert_int_equal(vlapic_blocked(l), 0x5F);
	fake_kicks_clear(&vm->host);
	wr(0, TPR, 0x4F);
	assert_int_equal(fake_kicks(&vm->host, 0, VDEV_KICK_IRQ), 1);
	assert_int_equal(vlapic_blocked(l), -1);
	assert_int_equal(vlapic_accept(l), 0x5F);
	/* Held back by what is in service is not held back by TPR. */
	vlapic_deliver(l, APIC_FIXED, 0x58, false);
	assert_int_equal(vlapic_blocked(l), -1);
	vlapic_set_tpr_hw(l, 0x60);
	assert_int_equal(vlapic_tpr(l), 0x60);
	assert_int_equal(rd(0, PPR), 0x60);
	vlapic_deliver(l, APIC_FIXED, 0x61, false);
	assert_int_equal(vlapic_blocked(l), 0x61);
	vlapic_set_tpr_hw(l, 0);
	assert_int_equal(vlapic_pending(l), 0x61);
	assert_int_equal(rd(0, PPR), 0x50);
	stop();
}

static void software_disable(void **state)
{
	start(1);
	struct vlapic *l = &vm->lapic[0];

	wr(0, LVT_T, 0x40);
	wr(0, SVR, 0xFF);
	assert_int_equal(rd(0, LVT_T), 0x10040); /* masked */
	wr(0, LVT_T, 0x41);
	assert_int_equal(rd(0, LVT_T), 0x10041); /* and stays so */
	assert_false(vlapic_deliver(l, APIC_FIXED, 0x50, false));
	assert_int_equal(vlapic_pending(l), -1);
	assert_true(vlapic_deliver(l, APIC_NMI, 0, false));
	assert_int_equal(fake_kicks(&vm->host, 0, VDEV_KICK_NMI), 1);
	wr(0, SVR, 0x1FF);
	assert_int_equal(rd(0, LVT_T), 0x10041);
	stop();
}

static void icr_physical(void **state)
{
	start(4);
	wr(0, ICR2, 2U << 24);
	wr(0, ICR, 0x4031);
	assert_int_equal(vlapic_pending(&vm->lapic[2]), 0x31);
	assert_int_equal(vm->host.kicks, 1);
	assert_int_equal(rd(0, ICR), 0x4031);
	assert_int_equal(rd(0, ICR2), 2U << 24);
	/* Nobody has this id. */
	wr(0, ICR2, 9U << 24);
	wr(0, ICR, 0x4032);
	assert_int_equal(vm->host.kicks, 1);
	/* Broadcast includes the sender. */
	wr(0, ICR2, 0xFFU << 24);
	wr(0, ICR, 0x4033);
	for (u32 i = 0; i < 4; i++)
		assert_int_equal(vlapic_accept(&vm->lapic[i]), 0x33);
	stop();
}

static void icr_shorthands(void **state)
{
	start(3);
	wr(1, ICR, 0x44050); /* self */
	assert_int_equal(vlapic_accept(&vm->lapic[1]), 0x50);
	wr(1, ICR, 0x84060); /* all including self */
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(vlapic_accept(&vm->lapic[i]), 0x60);
	wr(1, ICR, 0xC4070); /* all but self */
	assert_int_equal(vlapic_accept(&vm->lapic[0]), 0x70);
	assert_int_equal(vlapic_accept(&vm->lapic[1]), -1);
	assert_int_equal(vlapic_accept(&vm->lapic[2]), 0x70);
	fake_kicks_clear(&vm->host);
	wr(1, ICR, 0x44400); /* NMI to self is no valid combination */
	assert_int_equal(vm->host.kicks, 0);
	wr(1, ICR, 0xC4400); /* NMI to all others is */
	assert_int_equal(fake_kicks(&vm->host, 0, VDEV_KICK_NMI), 1);
	assert_int_equal(fake_kicks(&vm->host, 1, VDEV_KICK_NMI), 0);
	assert_int_equal(fake_kicks(&vm->host, 2, VDEV_KICK_NMI), 1);
	stop();
}

static void all_64_processors(void **state)
{
	start(64);
	wr(63, ICR, 0xC4070);
	for (u32 i = 0; i < 63; i++)
		assert_int_equal(vlapic_accept(&vm->lapic[i]), 0x70);
	assert_int_equal(vlapic_accept(&vm->lapic[63]), -1);
	for (u32 i = 0; i < 64; i++)
		wr(i, SVR, 0xFF);
	struct apic_message m = { .dest = 0xFF, .mode = APIC_LOWEST, .vector = 0x80 };
	assert_int_equal(vlapic_send(&vm->p, &m), 0);
	m.dest = 64;
	m.mode = APIC_FIXED;
	assert_int_equal(vlapic_send(&vm->p, &m), 0);
	stop();
}

static void icr_start_up(void **state)
{
	start(2);
	wr(0, ICR2, 1U << 24);
	wr(0, ICR, 0xC500); /* INIT, level, assert */
	assert_int_equal(fake_kicks(&vm->host, 1, VDEV_KICK_INIT), 1);
	wr(0, ICR, 0x8500); /* de-assert */
	assert_int_equal(fake_kicks(&vm->host, 1, VDEV_KICK_INIT), 1);
	wr(0, ICR, 0x469A);
	assert_int_equal(fake_kicks(&vm->host, 1, VDEV_KICK_SIPI), 1);
	assert_int_equal(vm->host.kick[vm->host.kicks - 1].arg, 0x9A);
	assert_int_equal(vlapic_pending(&vm->lapic[1]), -1);
	assert_true(vlapic_deliver(&vm->lapic[1], APIC_INIT, 0, false));
	assert_true(vlapic_deliver(&vm->lapic[1], APIC_SIPI, 0x10, false));
	assert_false(vlapic_deliver(&vm->lapic[1], APIC_SMI, 0, false));
	/* Reserved modes and SMI do nothing. */
	fake_kicks_clear(&vm->host);
	wr(0, ICR, 0x4255);
	wr(0, ICR, 0x4355);
	wr(0, ICR, 0x4755);
	assert_int_equal(vm->host.kicks, 0);
	stop();
}

static void logical_flat(void **state)
{
	start(3);
	for (u32 i = 0; i < 3; i++)
		wr(i, LDR, 1U << (24 + i));
	wr(0, ICR2, 0x06000000);
	wr(0, ICR, 0x4840);
	assert_int_equal(vlapic_pending(&vm->lapic[0]), -1);
	assert_int_equal(vlapic_pending(&vm->lapic[1]), 0x40);
	assert_int_equal(vlapic_pending(&vm->lapic[2]), 0x40);
	assert_int_equal(rd(0, LDR), 0x01000000);
	wr(0, LDR, 0xFFFFFFFF); /* the low bits are reserved */
	assert_int_equal(rd(0, LDR), 0xFF000000);
	stop();
}

static void logical_cluster(void **state)
{
	start(4);
	for (u32 i = 0; i < 4; i++) {
		wr(i, DFR, 0);
		assert_int_equal(rd(i, DFR), 0x0FFFFFFF);
	}
	wr(0, LDR, 0x01000000); /* cluster 0: bits 0, 1 */
	wr(1, LDR, 0x02000000);
	wr(2, LDR, 0x11000000); /* cluster 1: bits 0, 1 */
	wr(3, LDR, 0x12000000);
	wr(0, ICR2, 0x13000000);
	wr(0, ICR, 0x4840);
	assert_int_equal(vlapic_pending(&vm->lapic[0]), -1);
	assert_int_equal(vlapic_pending(&vm->lapic[1]), -1);
	assert_int_equal(vlapic_pending(&vm->lapic[2]), 0x40);
	assert_int_equal(vlapic_pending(&vm->lapic[3]), 0x40);
	stop();
}

static void lowest_priority(void **state)
{
	start(3);
	for (u32 i = 0; i < 3; i++)
		wr(i, LDR, 1U << (24 + i));
	wr(0, TPR, 0x40);
	wr(1, TPR, 0x20);
	wr(2, TPR, 0x30);
	struct apic_message m = { .dest = 7, .mode = APIC_LOWEST, .vector = 0x80, .logical = true };
	assert_int_equal(vlapic_send(&vm->p, &m), 1);
	assert_int_equal(vlapic_pending(&vm->lapic[1]), 0x80);
	/* The focus processor, which has the vector in service, takes it whatever its priority. */
	assert_int_equal(vlapic_accept(&vm->lapic[1]), 0x80);
	assert_int_equal(vlapic_send(&vm->p, &m), 1);
	assert_int_equal(rd(1, IRR + 0x40), 1);
	wr(1, SVR, 0x3FF); /* focus checking off: now CPU 2 has the lowest */
	assert_int_equal(vlapic_send(&vm->p, &m), 1);
	assert_int_equal(vlapic_pending(&vm->lapic[2]), 0x80);
	/* Nobody enabled among those addressed. */
	m.dest = 1;
	wr(0, SVR, 0xFF);
	assert_int_equal(vlapic_send(&vm->p, &m), 0);
	stop();
}

static void equal_priorities_take_turns(void **state)
{
	u32 hits[4] = { 0 };

	start(4);
	for (u32 i = 0; i < 4; i++)
		wr(i, LDR, 1U << (24 + i));
	struct apic_message m = {
		.dest = 0xF, .mode = APIC_LOWEST, .vector = 0x80, .logical = true
	};
	for (u32 n = 0; n < 16; n++) {
		assert_int_equal(vlapic_send(&vm->p, &m), 1);
		for (u32 i = 0; i < 4; i++) {
			if (vlapic_accept(&vm->lapic[i]) == 0x80) {
				hits[i]++;
				wr(i, EOI, 0);
			}
		}
	}
	for (u32 i = 0; i < 4; i++)
		assert_int_equal(hits[i], 4);
	stop();
}

static void errors(void **state)
{
	start(2);
	wr(0, LVT_E, 0xFE);
	wr(0, ICR2, 1U << 24);
	wr(0, ICR, 0x400F); /* vector 15 cannot be sent */
	assert_int_equal(rd(0, ESR), 0); /* not before a write */
	wr(0, ESR, 0);
	assert_int_equal(rd(0, ESR), 0x20);
	wr(1, ESR, 0);
	assert_int_equal(rd(1, ESR), 0); /* it was not sent at all */
	assert_int_equal(vlapic_accept(&vm->lapic[0]), 0xFE);
	wr(0, EOI, 0);
	wr(0, ESR, 0);
	assert_int_equal(rd(0, ESR), 0);
	assert_false(vlapic_deliver(&vm->lapic[0], APIC_FIXED, 3, false));
	wr(0, ESR, 0);
	assert_int_equal(rd(0, ESR), 0x40);
	assert_int_equal(rd(0, 0x40), 0); /* no such register */
	wr(0, ESR, 0);
	assert_int_equal(rd(0, ESR), 0x80);
	wr(0, 0x3F0, 1);
	wr(0, ESR, 0);
	assert_int_equal(rd(0, ESR), 0x80);
	/* An error interrupt with a bad vector is an error and ends there. */
	wr(0, LVT_E, 0x0E);
	wr(0, ICR, 0x400F);
	wr(0, ESR, 0);
	assert_int_equal(rd(0, ESR), 0x60);
	stop();
}

static void odd_mmio_accesses(void **state)
{
	start(1);
	assert_int_equal(vlapic_mmio_read(&vm->lapic[0], VERSION + 1, 1), 0);
	assert_int_equal(vlapic_mmio_read(&vm->lapic[0], VERSION, 2), 0);
	assert_int_equal(vlapic_mmio_read(&vm->lapic[0], 0x1030, 4), 0);
	vlapic_mmio_write(&vm->lapic[0], TPR, 1, 0x50);
	vlapic_mmio_write(&vm->lapic[0], TPR + 4, 4, 0x50);
	assert_int_equal(rd(0, TPR), 0);
	wr(0, ID, 0x07000000);
	wr(0, VERSION, 1);
	assert_int_equal(rd(0, ID), 0);
	assert_int_equal(rd(0, VERSION), 0x00050014);
	stop();
}

static void timer_one_shot(void **state)
{
	start(1);
	wr(0, TDCR, 0x3); /* divide by 16 */
	wr(0, LVT_T, 0x60);
	wr(0, TMICT, 1000); /* 16 us at 1 GHz */
	assert_int_equal(rd(0, TMICT), 1000);
	assert_int_equal(rd(0, TMCCT), 1000);
	fake_advance(&vm->host, 15);
	assert_int_equal(rd(0, TMCCT), 1000);
	fake_advance(&vm->host, 1);
	assert_int_equal(rd(0, TMCCT), 999);
	fake_advance(&vm->host, 16000 - 17);
	assert_int_equal(rd(0, TMCCT), 1);
	assert_int_equal(vlapic_pending(&vm->lapic[0]), -1);
	fake_advance(&vm->host, 1);
	assert_int_equal(rd(0, TMCCT), 0);
	assert_int_equal(rd(0, TMR + 0x30), 0);
	assert_int_equal(vlapic_accept(&vm->lapic[0]), 0x60);
	wr(0, EOI, 0);
	fake_advance(&vm->host, 1000000000);
	assert_int_equal(vlapic_pending(&vm->lapic[0]), -1);
	assert_int_equal(rd(0, TMCCT), 0);
	/* Stopped by 0. */
	wr(0, TMICT, 1000);
	wr(0, TMICT, 0);
	fake_advance(&vm->host, 1000000);
	assert_int_equal(vlapic_pending(&vm->lapic[0]), -1);
	assert_null(vm->host.timers);
	stop();
}

static void timer_dividers(void **state)
{
	static const struct { u32 tdcr, divider; } cases[] = {
		{ 0x0, 2 }, { 0x1, 4 }, { 0x2, 8 }, { 0x3, 16 },
		{ 0x8, 32 }, { 0x9, 64 }, { 0xA, 128 }, { 0xB, 1 },
	};

	start(1);
	for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
		wr(0, TDCR, cases[i].tdcr);
		assert_int_equal(rd(0, TDCR), cases[i].tdcr);
		wr(0, TMICT, 0x100000);
		fake_advance(&vm->host, 1000 * cases[i].divider);
		assert_int_equal(rd(0, TMCCT), 0x100000 - 1000);
	}
	/* A change on the way keeps the count. */
	wr(0, TDCR, 0xA);
	assert_int_equal(rd(0, TMCCT), 0x100000 - 1000);
	fake_advance(&vm->host, 1280);
	assert_int_equal(rd(0, TMCCT), 0x100000 - 1010);
	wr(0, TMICT, 0xFFFFFFFF); /* the longest period */
	fake_advance(&vm->host, 0xFFFFFFFFULL * 128 - 1);
	assert_int_equal(rd(0, TMCCT), 1);
	stop();
}

static void timer_periodic(void **state)
{
	u32 ticks = 0;

	start(1);
	wr(0, TDCR, 0xB);
	wr(0, LVT_T, 0x20061);
	wr(0, TMICT, 1000000);
	for (u32 i = 0; i < 100; i++) {
		fake_advance(&vm->host, 500000);
		if (vlapic_accept(&vm->lapic[0]) == 0x61) {
			ticks++;
			wr(0, EOI, 0);
		}
	}
	assert_int_equal(ticks, 50);
	fake_advance(&vm->host, 250000);
	assert_int_equal(rd(0, TMCCT), 750000);
	/* Late callbacks coalesce and stay in phase. */
	u32 fired = vm->host.fired;
	vm->host.now += 10 * 1000000;
	fake_advance(&vm->host, 0);
	assert_int_equal(vm->host.fired, fired + 1);
	assert_int_equal(rd(0, TMCCT), 750000);
	fake_advance(&vm->host, 750000);
	assert_int_equal(vm->host.fired, fired + 2);
	/* One shot and periodic differ only in what follows zero. */
	wr(0, LVT_T, 0x61);
	assert_int_equal(rd(0, TMICT), 1000000);
	wr(0, LVT_T, 0x20061);
	/* Masked, it counts without the host's timer. */
	wr(0, LVT_T, 0x30061);
	assert_null(vm->host.timers);
	fake_advance(&vm->host, 100000);
	assert_int_equal(rd(0, TMCCT), 900000);
	wr(0, LVT_T, 0x20061);
	fired = vm->host.fired;
	fake_advance(&vm->host, 900000);
	assert_int_equal(vm->host.fired, fired + 1);
	stop();
}

static void timer_too_fast(void **state)
{
	start(1);
	wr(0, TDCR, 0xB);
	wr(0, LVT_T, 0x20061);
	wr(0, TMICT, 1); /* every nanosecond */
	fake_advance(&vm->host, 1000000);
	assert_in_range(vm->host.fired, 1, 50); /* at most one each 20 us */
	stop();
}

static void timer_deadline(void **state)
{
	start(1);
	wr(0, TMICT, 1000);
	assert_int_equal(wrmsr(0, 0x6E0, 5000), 0);
	assert_int_equal(rdmsr(0, 0x6E0), 0); /* not in deadline mode: no effect */
	wr(0, LVT_T, 0x40062);
	assert_int_equal(rd(0, TMICT), 0);
	assert_int_equal(wrmsr(0, 0x6E0, 20000), 0); /* 10 us at 2 GHz */
	assert_int_equal(rdmsr(0, 0x6E0), 20000);
	wr(0, TMICT, 77); /* no such timer now */
	assert_int_equal(rd(0, TMICT), 0);
	assert_int_equal(rd(0, TMCCT), 0);
	fake_advance(&vm->host, 9999);
	assert_int_equal(vlapic_pending(&vm->lapic[0]), -1);
	fake_advance(&vm->host, 2);
	assert_int_equal(vlapic_accept(&vm->lapic[0]), 0x62);
	wr(0, EOI, 0);
	assert_int_equal(rdmsr(0, 0x6E0), 0);
	/* In the past: at once. */
	assert_int_equal(wrmsr(0, 0x6E0, 1), 0);
	assert_int_equal(vlapic_accept(&vm->lapic[0]), 0x62);
	wr(0, EOI, 0);
	assert_int_equal(rdmsr(0, 0x6E0), 0);
	/* Disarmed by 0 (see deadline_off), and by a change of mode. */
	assert_int_equal(wrmsr(0, 0x6E0, 100000), 0);
	assert_int_equal(wrmsr(0, 0x6E0, 0), 0);
	assert_int_equal(rdmsr(0, 0x6E0), 0);
	assert_int_equal(wrmsr(0, 0x6E0, 100000), 0);
	wr(0, LVT_T, 0x62);
	assert_int_equal(rdmsr(0, 0x6E0), 0);
	assert_null(vm->host.timers);
	/* Masked: expires silently. */
	wr(0, LVT_T, 0x50062);
	assert_int_equal(wrmsr(0, 0x6E0, 200000), 0);
	fake_advance(&vm->host, 200000);
	assert_int_equal(rdmsr(0, 0x6E0), 0);
	assert_int_equal(vlapic_pending(&vm->lapic[0]), -1);
	/* The far end of time. */
	wr(0, LVT_T, 0x40062);
	assert_int_equal(wrmsr(0, 0x6E0, ~0ULL), 0);
	fake_advance(&vm->host, 1000000000);
	assert_int_equal(vlapic_pending(&vm->lapic[0]), -1);
	assert_int_equal(rdmsr(0, 0x6E0), ~0ULL);
	stop();
}

/* The host's timer stays where it is, comes once, and is moved then. */
static void deadline_put_off(void **state)
{
	start(1);
	struct vlapic *l = &vm->lapic[0];

	wr(0, LVT_T, 0x40062);
	assert_int_equal(wrmsr(0, 0x6E0, 20000), 0); /* 10 us at 2 GHz */
	for (u64 tsc = 30000; tsc <= 80000; tsc += 10000) {
		assert_int_equal(wrmsr(0, 0x6E0, tsc), 0);
		assert_int_equal(rdmsr(0, 0x6E0), tsc);
	}
	assert_true(l->timer.deadline_ns < 10010);
	fake_advance(&vm->host, 39999);
	assert_int_equal(vm->host.fired, 1);
	assert_int_equal(vlapic_pending(l), -1);
	assert_int_equal(rdmsr(0, 0x6E0), 80000);
	fake_advance(&vm->host, 2);
	assert_int_equal(vm->host.fired, 2);
	assert_int_equal(vlapic_accept(l), 0x62);
	wr(0, EOI, 0);
	assert_int_equal(rdmsr(0, 0x6E0), 0);
	assert_null(vm->host.timers);

	/* To an earlier one at once, also when that is later than the first was. */
	assert_int_equal(wrmsr(0, 0x6E0, 100000), 0);
	assert_int_equal(wrmsr(0, 0x6E0, 400000), 0);
	assert_int_equal(wrmsr(0, 0x6E0, 200000), 0);
	fake_advance(&vm->host, 59990); /* to 99.99 us */
	assert_int_equal(vlapic_pending(l), -1);
	fake_advance(&vm->host, 20);
	assert_int_equal(vlapic_accept(l), 0x62);
	wr(0, EOI, 0);

	/* Masked, or for ever: no timer is left, or its callback leaves none. */
	assert_int_equal(wrmsr(0, 0x6E0, 300000), 0);
	assert_int_equal(wrmsr(0, 0x6E0, 400000), 0);
	wr(0, LVT_T, 0x50062);
	assert_null(vm->host.timers);
	wr(0, LVT_T, 0x40062);
	assert_in_range(l->timer.deadline_ns, 200000, 200002); /* the later one */
	assert_int_equal(wrmsr(0, 0x6E0, ~0ULL), 0);
	fake_advance(&vm->host, 1000000);
	assert_null(vm->host.timers);
	assert_int_equal(vlapic_pending(l), -1);
	assert_int_equal(rdmsr(0, 0x6E0), ~0ULL);

	/* The host is late: both are past, and one interrupt comes. */
	u64 now = vm->host.now * 2;
	assert_int_equal(wrmsr(0, 0x6E0, now + 1000), 0);
	assert_int_equal(wrmsr(0, 0x6E0, now + 2000), 0);
	vm->host.now += 5000;
	fake_advance(&vm->host, 2);
	assert_int_equal(vlapic_accept(l), 0x62);
	wr(0, EOI, 0);
	assert_null(vm->host.timers);

	/* The clock is set while one is put off: the new one counts. */
	now = vm->host.now * 2;
	assert_int_equal(wrmsr(0, 0x6E0, now + 100000), 0);
	assert_int_equal(wrmsr(0, 0x6E0, now + 200000), 0);
	vm->host.tsc_offset = 150000;
	vlapic_tsc_changed(l);
	fake_advance(&vm->host, 24999);
	assert_int_equal(vlapic_pending(l), -1);
	fake_advance(&vm->host, 2);
	assert_int_equal(vlapic_accept(l), 0x62);
	stop();
}

/* Disarmed by 0: the host's timer stays, too, comes once at most, and interrupts nobody. */
static void deadline_off(void **state)
{
	start(1);
	struct vlapic *l = &vm->lapic[0];

	wr(0, LVT_T, 0x40062);
	assert_int_equal(wrmsr(0, 0x6E0, 20000), 0); /* 10 us at 2 GHz */
	assert_int_equal(wrmsr(0, 0x6E0, 0), 0);
	assert_int_equal(rdmsr(0, 0x6E0), 0);
	fake_advance(&vm->host, 1000000);
	assert_int_equal(vm->host.fired, 1);
	assert_int_equal(vlapic_pending(l), -1);
	assert_null(vm->host.timers);
	/* Nothing is armed: off once more, which arms nothing. */
	assert_int_equal(wrmsr(0, 0x6E0, 0), 0);
	assert_null(vm->host.timers);

	/* Armed again for later: that one comes, and no other. */
	u64 now = vm->host.now * 2;
	assert_int_equal(wrmsr(0, 0x6E0, now + 20000), 0);
	assert_int_equal(wrmsr(0, 0x6E0, 0), 0);
	assert_int_equal(wrmsr(0, 0x6E0, now + 60000), 0);
	fake_advance(&vm->host, 29999);
	assert_int_equal(vlapic_pending(l), -1);
	fake_advance(&vm->host, 2);
	assert_int_equal(vlapic_accept(l), 0x62);
	wr(0, EOI, 0);
	assert_null(vm->host.timers);

	/* For earlier, and for what is past already. */
	now = vm->host.now * 2;
	assert_int_equal(wrmsr(0, 0x6E0, now + 200000), 0);
	assert_int_equal(wrmsr(0, 0x6E0, 0), 0);
	assert_int_equal(wrmsr(0, 0x6E0, now + 20000), 0);
	fake_advance(&vm->host, 9999);
	assert_int_equal(vlapic_pending(l), -1);
	fake_advance(&vm->host, 2);
	assert_int_equal(vlapic_accept(l), 0x62);
	wr(0, EOI, 0);
	assert_int_equal(wrmsr(0, 0x6E0, now + 200000), 0);
	assert_int_equal(wrmsr(0, 0x6E0, 0), 0);
	assert_int_equal(wrmsr(0, 0x6E0, 1), 0);
	assert_int_equal(vlapic_accept(l), 0x62);
	wr(0, EOI, 0);

	/* The clock is set forward meanwhile: what is then later than before may be earlier. */
	now = vm->host.now * 2;
	assert_int_equal(wrmsr(0, 0x6E0, now + 200000), 0);
	assert_int_equal(wrmsr(0, 0x6E0, 0), 0);
	vm->host.tsc_offset = 190000;
	vlapic_tsc_changed(l);
	assert_int_equal(wrmsr(0, 0x6E0, now + 250000), 0);
	fake_advance(&vm->host, 29999);
	assert_int_equal(vlapic_pending(l), -1);
	fake_advance(&vm->host, 2);
	assert_int_equal(vlapic_accept(l), 0x62);
	stop();
}

static void deadline_follows_the_tsc(void **state)
{
	start(1);
	wr(0, LVT_T, 0x40062);
	assert_int_equal(wrmsr(0, 0x6E0, 200000), 0); /* in 100 us */
	vm->host.tsc_offset = 100000; /* 50 us less */
	vlapic_tsc_changed(&vm->lapic[0]);
	fake_advance(&vm->host, 49999);
	assert_int_equal(vlapic_pending(&vm->lapic[0]), -1);
	fake_advance(&vm->host, 2);
	assert_int_equal(vlapic_accept(&vm->lapic[0]), 0x62);
	vlapic_tsc_changed(&vm->lapic[0]);
	assert_null(vm->host.timers);
	stop();
}

/* No guest-physical address is in the LAPIC's page. */
static bool nowhere(const struct vlapic *l)
{
	static const gpa_t some[] = { 0, 0xFFF, 0xFEE00000, 0xFEE000B0, BIT(52) - 1 };

	for (u32 i = 0; i < ARRAY_SIZE(some); i++)
		if (vlapic_offset(l, some[i]) < PAGE_SIZE)
			return false;
	return true;
}

static void x2apic_transitions(void **state)
{
	start(2);
	/* From xAPIC: not to EXTD alone, not with reserved bits or beyond the address width. */
	assert_int_equal(wrmsr(1, 0x1B, 0xFEE00400), -EINVAL);
	assert_int_equal(wrmsr(1, 0x1B, 0xFEE00801), -EINVAL);
	assert_int_equal(wrmsr(1, 0x1B, 0xFEE00A00), -EINVAL);
	assert_int_equal(wrmsr(1, 0x1B, 1ULL << 40 | 0x800), -EINVAL);
	assert_int_equal(wrmsr(1, 0x1B, 0xFEE00C00), 0);
	assert_true(nowhere(&vm->lapic[1]));
	/* From x2APIC: not back, only off. */
	assert_int_equal(wrmsr(1, 0x1B, 0xFEE00800), -EINVAL);
	assert_int_equal(wrmsr(1, 0x1B, 0xFEE00400), -EINVAL);
	assert_int_equal(wrmsr(1, 0x1B, 0xFEE00C00), 0);
	assert_int_equal(rdmsr(1, 0x80F), 0x1FF); /* still enabled */
	assert_int_equal(wrmsr(1, 0x1B, 0xFEE00000), 0);
	assert_true(nowhere(&vm->lapic[1]));
	assert_false(vlapic_deliver(&vm->lapic[1], APIC_NMI, 0, false));
	assert_int_equal(rdmsr_fails(1, 0x802), -EINVAL);
	/* From off: to xAPIC only, in reset state. */
	assert_int_equal(wrmsr(1, 0x1B, 0xFEE00C00), -EINVAL);
	assert_int_equal(wrmsr(1, 0x1B, 0xFEE00800), 0);
	assert_int_equal(rd(1, SVR), 0xFF);
	/* Elsewhere in memory. */
	assert_int_equal(wrmsr(1, 0x1B, 0xD0000800), 0);
	assert_int_equal(vlapic_offset(&vm->lapic[1], 0xD00000B0), 0xB0);
	assert_true(vlapic_offset(&vm->lapic[1], 0xFEE000B0) >= PAGE_SIZE);
	vlapic_reset(&vm->lapic[1], false);
	assert_int_equal(vlapic_offset(&vm->lapic[1], 0xFEE000B0), 0xB0);
	stop();
}

static void x2apic_registers(void **state)
{
	start(40);
	wr(37, ICR2, 0xFF000000);
	assert_int_equal(rdmsr_fails(37, 0x802), -EINVAL); /* xAPIC mode */
	assert_int_equal(wrmsr(37, 0x80B, 0), -EINVAL);
	to_x2apic(37);
	assert_int_equal(rdmsr(37, 0x802), 37);
	assert_int_equal(rdmsr(37, 0x830), 0); /* the old destination is no id of this mode */
	assert_int_equal(rdmsr(37, 0x803), 0x00050014);
	assert_int_equal(rdmsr(37, 0x80D), 2U << 16 | 1U << 5); /* cluster 2, bit 5 */

	/* Write-only, absent, read-only. */
	static const u32 unreadable[] = { 0x800, 0x801, 0x809, 0x80B, 0x80C, 0x80E, 0x831, 0x83F,
					  0x82F, 0x840, 0x8FF };
	for (u32 i = 0; i < ARRAY_SIZE(unreadable); i++)
		assert_int_equal(rdmsr_fails(37, unreadable[i]), -EINVAL);
	static const u32 unwritable[] = { 0x802, 0x803, 0x80A, 0x80D, 0x80E, 0x810, 0x818, 0x820,
					  0x827, 0x82F, 0x831, 0x839, 0x840, 0x8FF };
	for (u32 i = 0; i < ARRAY_SIZE(unwritable); i++)
		assert_int_equal(wrmsr(37, unwritable[i], 0), -EINVAL);

	/* Reserved bits. */
	static const struct { u32 msr; u64 value; } bad[] = {
		{ 0x808, 0x100 }, { 0x808, 1ULL << 32 }, { 0x80B, 1 }, { 0x80F, 0x400 },
		{ 0x828, 1 }, { 0x830, 1U << 13 }, { 0x830, 1U << 16 }, { 0x830, 1U << 20 },
		{ 0x832, 1U << 8 }, { 0x832, 3U << 17 }, { 0x835, 1U << 17 }, { 0x837, 1U << 8 },
		{ 0x838, 1ULL << 32 }, { 0x83E, 4 }, { 0x83F, 0x100 },
	};
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(wrmsr(37, bad[i].msr, bad[i].value), -EINVAL);
	assert_int_equal(wrmsr(37, 0x808, 0x23), 0);
	assert_int_equal(rdmsr(37, 0x808), 0x23);
	assert_int_equal(wrmsr(37, 0x808, 0), 0);
	assert_int_equal(wrmsr(37, 0x828, 0), 0);
	assert_int_equal(wrmsr(37, 0x832, 0x40044), 0);
	stop();
}

static void x2apic_interrupts(void **state)
{
	start(40);
	for (u32 i = 0; i < 40; i++)
		to_x2apic(i);
	fake_kicks_clear(&vm->host);
	assert_int_equal(wrmsr(0, 0x830, 33ULL << 32 | 0x4041), 0); /* physical 33 */
	assert_int_equal(rdmsr(0, 0x830), 33ULL << 32 | 0x4041);
	assert_int_equal(vlapic_accept(&vm->lapic[33]), 0x41);
	assert_int_equal(wrmsr(33, 0x80B, 0), 0);
	/* Logical: cluster 1, members 0 and 3. */
	fake_kicks_clear(&vm->host);
	assert_int_equal(wrmsr(0, 0x830, 0x00010009ULL << 32 | 0x4842), 0);
	assert_int_equal(vlapic_accept(&vm->lapic[16]), 0x42);
	assert_int_equal(vlapic_accept(&vm->lapic[19]), 0x42);
	assert_int_equal(vm->host.kicks, 2);
	/* 0xFF is an id like others in x2APIC mode; all ones is the broadcast. */
	fake_kicks_clear(&vm->host);
	assert_int_equal(wrmsr(0, 0x830, 0xFFULL << 32 | 0x4043), 0);
	assert_int_equal(vm->host.kicks, 0);
	assert_int_equal(wrmsr(0, 0x830, 0xFFFFFFFFULL << 32 | 0x4043), 0);
	assert_int_equal(vm->host.kicks, 40);
	/* Self IPI. */
	assert_int_equal(wrmsr(5, 0x83F, 0x99), 0);
	assert_int_equal(rdmsr(5, 0x81C), 0); /* edge */
	assert_int_equal(vlapic_accept(&vm->lapic[5]), 0x99);
	assert_int_equal(wrmsr(5, 0x83F, 0x05), 0);
	assert_int_equal(wrmsr(5, 0x828, 0), 0);
	assert_int_equal(rdmsr(5, 0x828), 0x20);
	stop();
}

static void init_keeps_the_mode(void **state)
{
	start(2);
	to_x2apic(1);
	vlapic_deliver(&vm->lapic[1], APIC_FIXED, 0x40, false);
	assert_int_equal(vlapic_accept(&vm->lapic[1]), 0x40);
	assert_int_equal(wrmsr(1, 0x830, 0xC4043), 0);
	assert_int_equal(wrmsr(1, 0x832, 0x40044), 0);
	assert_int_equal(wrmsr(1, 0x6E0, 50000), 0);
	assert_non_null(vm->host.timers);
	vlapic_reset(&vm->lapic[1], true);
	assert_int_equal(rdmsr(1, 0x6E0), 0);
	assert_int_equal(rdmsr(1, 0x830), 0);
	assert_int_equal(rdmsr(1, 0x1B), 0xFEE00C00);
	assert_int_equal(rdmsr(1, 0x80F), 0xFF);
	assert_int_equal(rdmsr(1, 0x80A), 0);
	assert_int_equal(rdmsr(1, 0x812), 0);
	assert_null(vm->host.timers);
	vlapic_reset(&vm->lapic[1], false);
	assert_int_equal(rdmsr(1, 0x1B), 0xFEE00800);
	stop();
}

static void messages(void **state)
{
	start(3);
	vplatform_msi(&vm->p, 0xFEE02000, 0x0041); /* physical 2, fixed */
	assert_int_equal(vlapic_accept(&vm->lapic[2]), 0x41);
	wr(1, LDR, 0x02000000);
	vplatform_msi(&vm->p, 0xFEE0200C, 0x0142); /* logical 2, lowest priority */
	assert_int_equal(vlapic_accept(&vm->lapic[1]), 0x42);
	fake_kicks_clear(&vm->host);
	vplatform_msi(&vm->p, 0xFED00000, 0x0041);
	vplatform_msi(&vm->p, 0x1FEE00000, 0x0041);
	vplatform_msi(&vm->p, 0xFEE00000, 0x0003); /* vector below 16 */
	vplatform_msi(&vm->p, 0xFEE00000, 0x0341); /* reserved mode */
	assert_int_equal(vm->host.kicks, 0);
	stop();
}

static void a_second_request_waits(void **state)
{
	start(1);
	struct vlapic *l = &vm->lapic[0];

	vlapic_deliver(l, APIC_FIXED, 0x50, false);
	vlapic_deliver(l, APIC_FIXED, 0x50, false); /* merges */
	assert_int_equal(vm->host.kicks, 1);
	assert_int_equal(vlapic_accept(l), 0x50);
	vlapic_deliver(l, APIC_FIXED, 0x50, false); /* one in service, one requested */
	assert_int_equal(vlapic_accept(l), -1);
	wr(0, EOI, 0);
	assert_int_equal(vlapic_accept(l), 0x50);
	wr(0, EOI, 0);
	assert_int_equal(vlapic_accept(l), -1);
	stop();
}

static void self_ipi(u8 vector)
{
	wr(0, ICR, 0x44000U | vector);
}

/* Kept outside IRR for as long as it is alone: nothing of that is to be seen. */
static void sent_to_itself(void **state)
{
	start(1);
	struct vlapic *l = &vm->lapic[0];

	self_ipi(0x50);
	assert_int_equal(fake_kicks(&vm->host, 0, VDEV_KICK_IRQ), 1);
	assert_int_equal(l->irr_words, 0);
	assert_true(vlapic_waits(l));
	assert_int_equal(vlapic_pending(l), 0x50);
	assert_int_equal(vlapic_accept(l), 0x50);
	assert_false(vlapic_waits(l));
	assert_int_equal(rd(0, ISR + 0x20), 1U << 16);
	assert_int_equal(rd(0, PPR), 0x50);
	assert_int_equal(vlapic_accept(l), -1);

	/* One of a class that is in service waits for its EOI, which tells. */
	self_ipi(0x51);
	assert_int_equal(vlapic_pending(l), -1);
	assert_int_equal(vlapic_blocked(l), -1);
	assert_int_equal(vlapic_accept(l), -1);
	fake_kicks_clear(&vm->host);
	wr(0, EOI, 0);
	assert_int_equal(fake_kicks(&vm->host, 0, VDEV_KICK_IRQ), 1);
	assert_int_equal(vlapic_accept(l), 0x51);
	wr(0, EOI, 0);

	/* Held back by TPR, until that is lowered. */
	wr(0, TPR, 0x60);
	self_ipi(0x52);
	assert_int_equal(vlapic_accept(l), -1);
	assert_int_equal(vlapic_blocked(l), 0x52);
	fake_kicks_clear(&vm->host);
	wr(0, TPR, 0);
	assert_int_equal(fake_kicks(&vm->host, 0, VDEV_KICK_IRQ), 1);
	assert_int_equal(vlapic_accept(l), 0x52);
	wr(0, EOI, 0);

	/* A disabled LAPIC takes none, and reset forgets one. */
	self_ipi(0x53);
	vlapic_reset(l, true);
	assert_int_equal(vlapic_accept(l), -1);
	self_ipi(0x53);
	assert_int_equal(vlapic_pending(l), -1);
	stop();
}

static void sent_to_itself_among_others(void **state)
{
	start(1);
	struct vlapic *l = &vm->lapic[0];

	/* IRR shows it. */
	self_ipi(0x50);
	assert_int_equal(rd(0, IRR + 0x20), 1U << 16);
	assert_int_equal(vlapic_accept(l), 0x50);
	wr(0, EOI, 0);
	assert_int_equal(vlapic_accept(l), -1);

	/* Two, in the order of their priorities. */
	self_ipi(0x60);
	self_ipi(0x71);
	assert_int_equal(vlapic_accept(l), 0x71);
	wr(0, EOI, 0);
	assert_int_equal(vlapic_accept(l), 0x60);
	wr(0, EOI, 0);
	assert_int_equal(vlapic_accept(l), -1);

	/* A higher one from elsewhere first, a lower one later. */
	self_ipi(0x60);
	vlapic_deliver(l, APIC_FIXED, 0x80, false);
	vlapic_deliver(l, APIC_FIXED, 0x40, false);
	assert_int_equal(vlapic_accept(l), 0x80);
	wr(0, EOI, 0);
	assert_int_equal(vlapic_accept(l), 0x60);
	wr(0, EOI, 0);
	assert_int_equal(vlapic_accept(l), 0x40);
	wr(0, EOI, 0);
	assert_int_equal(vlapic_accept(l), -1);

	/* The same vector from both sides, in either order, or twice: once. */
	self_ipi(0x60);
	vlapic_deliver(l, APIC_FIXED, 0x60, false);
	self_ipi(0x60);
	assert_int_equal(vlapic_accept(l), 0x60);
	wr(0, EOI, 0);
	assert_int_equal(vlapic_accept(l), -1);
	vlapic_deliver(l, APIC_FIXED, 0x60, false);
	self_ipi(0x60);
	assert_int_equal(vlapic_accept(l), 0x60);
	wr(0, EOI, 0);
	assert_int_equal(vlapic_accept(l), -1);

	/* After a level-triggered one it is an edge again; a level that comes later stays one. */
	vlapic_deliver(l, APIC_FIXED, 0x90, true);
	assert_int_equal(vlapic_accept(l), 0x90);
	wr(0, EOI, 0);
	self_ipi(0x90);
	assert_int_equal(rd(0, TMR + 0x40), 0);
	assert_int_equal(vlapic_accept(l), 0x90);
	wr(0, EOI, 0);
	self_ipi(0x90);
	vlapic_deliver(l, APIC_FIXED, 0x90, true);
	assert_int_equal(vlapic_accept(l), 0x90);
	assert_int_equal(rd(0, TMR + 0x40), 1U << 16);
	stop();
}

static void trigger_mode_register(void **state)
{
	start(1);
	struct vlapic *l = &vm->lapic[0];

	vlapic_deliver(l, APIC_FIXED, 0x50, true);
	assert_int_equal(rd(0, TMR + 0x20), 1U << 16);
	vlapic_accept(l);
	wr(0, EOI, 0);
	vlapic_deliver(l, APIC_FIXED, 0x50, false);
	assert_int_equal(rd(0, TMR + 0x20), 0);
	stop();
}

static u64 unusual(u32 vector)
{
	return vm->p.unusual[vector] & 7; /* of three; all others are closed */
}

/* Who must be sent to by vlapic_deliver(): for whom sends to a set of LAPICs in one look. */
static void unusual_states(void **state)
{
	start(3);
	wr(0, SVR, 0x1FF);
	wr(1, SVR, 0x1FF);
	wr(2, SVR, 0x0FF);
	for (u32 vector = 0; vector < 256; vector++)
		assert_int_equal(unusual(vector), vector < 16 ? 7 : 4);
	wr(2, SVR, 0x1FF);
	wr(1, SVR, 0x0FF);
	assert_int_equal(unusual(0x50), 2);
	wr(1, SVR, 0x1FF);
	assert_int_equal(unusual(0x50), 0);
	/* Level triggered: that vector of that LAPIC, until it comes edge triggered. */
	vlapic_deliver(&vm->lapic[1], APIC_FIXED, 0x50, true);
	assert_int_equal(unusual(0x50), 2);
	assert_int_equal(unusual(0x51), 0);
	wr(1, SVR, 0x0FF);
	wr(1, SVR, 0x1FF); /* the bit of TMR is still there */
	assert_int_equal(unusual(0x50), 2);
	assert_int_equal(unusual(0x51), 0);
	vlapic_deliver(&vm->lapic[1], APIC_FIXED, 0x50, false);
	assert_int_equal(unusual(0x50), 0);
	/* Off altogether, and after INIT. */
	assert_int_equal(wrmsr(0, MSR_APIC_BASE, rdmsr(0, MSR_APIC_BASE) & ~BIT(11)), 0);
	assert_int_equal(unusual(0xFF), 1);
	vlapic_reset(&vm->lapic[2], true);
	assert_int_equal(unusual(0xFF), 5);
	stop();
}

static void virtual_wire(void **state)
{
	start(2);
	outb(vm, 0x20, 0x11);
	outb(vm, 0x21, 0x08);
	outb(vm, 0x21, 0x04);
	outb(vm, 0x21, 0x01);
	outb(vm, 0x21, 0x00);
	vplatform_irq(&vm->p, 4, true);
	assert_int_equal(vlapic_pending(&vm->lapic[0]), -1); /* LVT0 is masked */
	wr(0, LVT_0, 0x700);
	assert_int_equal(fake_kicks(&vm->host, 0, VDEV_KICK_IRQ), 1);
	assert_int_equal(vlapic_pending(&vm->lapic[0]), 0x0C);
	wr(0, TPR, 0xF0); /* ExtINT knows no priority */
	assert_int_equal(vlapic_pending(&vm->lapic[0]), 0x0C);
	assert_int_equal(vlapic_pending(&vm->lapic[1]), -1);
	assert_int_equal(vlapic_accept(&vm->lapic[0]), 0x0C);
	assert_int_equal(rd(0, ISR), 0);
	assert_int_equal(vlapic_pending(&vm->lapic[0]), -1);
	assert_int_equal(vlapic_accept(&vm->lapic[0]), -1);
	/* A LAPIC that is off passes INTR through. */
	vplatform_irq(&vm->p, 4, false);
	outb(vm, 0x20, 0x20);
	wr(0, LVT_0, 0x10000);
	vplatform_irq(&vm->p, 4, true);
	assert_int_equal(vlapic_pending(&vm->lapic[0]), -1);
	assert_int_equal(wrmsr(0, 0x1B, 0xFEE00100), 0);
	assert_int_equal(vlapic_accept(&vm->lapic[0]), 0x0C);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_on_state),
		cmocka_unit_test(priorities_and_nesting),
		cmocka_unit_test(nested_in_one_word),
		cmocka_unit_test(task_priority),
		cmocka_unit_test(software_disable),
		cmocka_unit_test(icr_physical),
		cmocka_unit_test(icr_shorthands),
		cmocka_unit_test(all_64_processors),
		cmocka_unit_test(icr_start_up),
		cmocka_unit_test(logical_flat),
		cmocka_unit_test(logical_cluster),
		cmocka_unit_test(lowest_priority),
		cmocka_unit_test(equal_priorities_take_turns),
		cmocka_unit_test(errors),
		cmocka_unit_test(odd_mmio_accesses),
		cmocka_unit_test(timer_one_shot),
		cmocka_unit_test(timer_dividers),
		cmocka_unit_test(timer_periodic),
		cmocka_unit_test(timer_too_fast),
		cmocka_unit_test(timer_deadline),
		cmocka_unit_test(deadline_put_off),
		cmocka_unit_test(deadline_off),
		cmocka_unit_test(deadline_follows_the_tsc),
		cmocka_unit_test(x2apic_transitions),
		cmocka_unit_test(x2apic_registers),
		cmocka_unit_test(x2apic_interrupts),
		cmocka_unit_test(init_keeps_the_mode),
		cmocka_unit_test(messages),
		cmocka_unit_test(a_second_request_waits),
		cmocka_unit_test(sent_to_itself),
		cmocka_unit_test(sent_to_itself_among_others),
		cmocka_unit_test(trigger_mode_register),
		cmocka_unit_test(unusual_states),
		cmocka_unit_test(virtual_wire),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
