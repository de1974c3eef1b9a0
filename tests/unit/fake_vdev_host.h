/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_TESTS_FAKE_VDEV_HOST_H
#define RAVELIN_TESTS_FAKE_VDEV_HOST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "vdev/platform.h"

/* A vdev_host whose clock stands until fake_advance() moves it. The guest's TSC runs at 2 GHz. */
#define FAKE_TSC_KHZ 2000000ULL
#define FAKE_LOG 256

struct fake_kick {
	u32 vcpu, what, arg;
};

struct vdev_host {
	u64 now;
	u64 wall;
	u64 tsc_offset;
	struct vdev_timer *timers;   /* armed ones, in no order */
	u32 fired;                   /* callbacks run, in all */
	struct fake_kick kick[FAKE_LOG];
	u32 kicks;                   /* may exceed FAKE_LOG */
	u8 out[2][FAKE_LOG];         /* console output by port */
	u32 outs[2];
	u32 room;                    /* bytes that the console still takes */
	s32 power;                   /* last event, -1 none */
	u32 power_code;
	u32 powers;
};

/* A platform with `cpus` LAPICs, both serial ports and debug exit. */
struct fake_vm {
	struct vdev_host host;
	struct vdev_platform p;
	struct vlapic lapic[VDEV_MAX_CPUS];
};

struct fake_vm *fake_vm_new(u32 cpus);
void fake_vm_free(struct fake_vm *vm);

/* Moves the clock by ns and runs each timer at its deadline. Fails after too many callbacks. */
void fake_advance(struct vdev_host *h, u64 ns);

/* How many kicks of kind `what` vCPU got; forgets all with fake_kicks_clear(). */
u32 fake_kicks(const struct vdev_host *h, u32 vcpu, u32 what);
void fake_kicks_clear(struct vdev_host *h);

static inline u8 inb(struct fake_vm *vm, u16 port)
{
	return (u8)vdev_bus_port_read(&vm->p.bus, port, 1);
}

static inline void outb(struct fake_vm *vm, u16 port, u8 value)
{
	vdev_bus_port_write(&vm->p.bus, port, 1, value);
}

#endif
