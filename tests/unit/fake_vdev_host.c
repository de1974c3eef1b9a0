/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit/fake_vdev_host.h"

#include <stdlib.h>

#define CALLBACKS_MAX 200000U /* in one fake_advance() */

u64 vdev_now_ns(struct vdev_host *h)
{
	return h->now;
}

u64 vdev_tsc_khz(struct vdev_host *h)
{
	return FAKE_TSC_KHZ;
}

u64 vdev_guest_tsc(struct vdev_host *h, u32 vcpu)
{
	return h->now * 2 + h->tsc_offset;
}

u64 vdev_tsc_to_ns(struct vdev_host *h, u32 vcpu, u64 guest_tsc)
{
	s64 ticks = (s64)(guest_tsc - h->tsc_offset); /* may lie before the VM's start */

	return ticks < 0 ? 0 : (u64)ticks / 2;
}

u64 vdev_wall_seconds(struct vdev_host *h)
{
	return h->wall;
}

void vdev_timer_init(struct vdev_timer *t, struct vdev_host *h, u32 vcpu, void (*fn)(void *),
		     void *arg)
{
	*t = (struct vdev_timer){ .host = h, .vcpu = vcpu, .fn = fn, .arg = arg };
}

void vdev_timer_cancel(struct vdev_timer *t)
{
	if (!t->armed)
		return;
	if (t->prev)
		t->prev->next = t->next;
	else
		t->host->timers = t->next;
	if (t->next)
		t->next->prev = t->prev;
	t->armed = false;
}

void vdev_timer_arm(struct vdev_timer *t, u64 deadline_ns)
{
	vdev_timer_cancel(t);
	t->deadline_ns = deadline_ns;
	t->prev = NULL;
	t->next = t->host->timers;
	if (t->next)
		t->next->prev = t;
	t->host->timers = t;
	t->armed = true;
}

void vdev_kick(struct vdev_host *h, u32 vcpu, u32 what, u32 arg)
{
	assert_true(vcpu < VDEV_MAX_CPUS);
	if (h->kicks < FAKE_LOG)
		h->kick[h->kicks] = (struct fake_kick){ vcpu, what, arg };
	h->kicks++;
}

void vdev_kick_self(struct vdev_host *h, u32 vcpu)
{
	vdev_kick(h, vcpu, VDEV_KICK_IRQ, 0);
}

int vm_memory_read(struct vdev_host *h, gpa_t gpa, void *buf, size_t len)
{
	return -14;
}

int vm_memory_write(struct vdev_host *h, gpa_t gpa, const void *buf, size_t len)
{
	return -14;
}

bool vdev_console_put(struct vdev_host *h, u32 port, u8 ch)
{
	assert_true(port < 2);
	if (h->room == 0)
		return false;
	h->room--;
	if (h->outs[port] < FAKE_LOG)
		h->out[port][h->outs[port]] = ch;
	h->outs[port]++;
	return true;
}

void vdev_power(struct vdev_host *h, enum vdev_power what, u32 code)
{
	h->power = (s32)what;
	h->power_code = code;
	h->powers++;
}

void vdev_log(struct vdev_host *h, const char *fmt, ...)
{
}

void fake_advance(struct vdev_host *h, u64 ns)
{
	u64 end = h->now + ns;

	for (u32 n = 0;; n++) {
		struct vdev_timer *first = NULL;
		for (struct vdev_timer *t = h->timers; t; t = t->next)
			if (t->deadline_ns <= end &&
			    (!first || t->deadline_ns < first->deadline_ns))
				first = t;
		if (!first)
			break;
		assert_true(n < CALLBACKS_MAX);
		if (first->deadline_ns > h->now)
			h->now = first->deadline_ns;
		vdev_timer_cancel(first);
		h->fired++;
		first->fn(first->arg);
	}
	h->now = end;
}

u32 fake_kicks(const struct vdev_host *h, u32 vcpu, u32 what)
{
	u32 count = 0;

	for (u32 i = 0; i < h->kicks && i < FAKE_LOG; i++)
		count += h->kick[i].vcpu == vcpu && h->kick[i].what == what;
	return count;
}

void fake_kicks_clear(struct vdev_host *h)
{
	h->kicks = 0;
}

struct fake_vm *fake_vm_new(u32 cpus)
{
	struct fake_vm *vm = calloc(1, sizeof(*vm));
	const struct vdev_platform_config config = {
		.com = { true, true },
		.debug_exit = true,
		.debugcon = true,
		.cpus = cpus,
		.phys_bits = 40,
		.mem_low = MIB(512),
		.mem_high = GIB(5),
	};

	assert_non_null(vm);
	vm->host.room = 1000000;
	vm->host.power = -1;
	vm->host.wall = 1700000000; /* Tuesday 2023-11-14 22:13:20 UTC */
	assert_int_equal(vplatform_init(&vm->p, &vm->host, &config), 0);
	for (u32 i = 0; i < cpus; i++)
		vlapic_init(&vm->lapic[i], &vm->p, i, i);
	return vm;
}

void fake_vm_free(struct fake_vm *vm)
{
	vplatform_destroy(&vm->p);
	assert_null(vm->host.timers);
	free(vm);
}
