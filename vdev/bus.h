/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_VDEV_BUS_H
#define RAVELIN_VDEV_BUS_H

#include "core/types.h"

/*
 * The ports and guest-physical ranges of a VM's devices: sorted tables filled
 * at VM creation and constant afterwards, so look-up needs no lock.
 */
#define VDEV_BUS_RANGES 40

/* offset is relative to the range's base; size is 1, 2, 4 (ports, MMIO) or 8 (MMIO). */
typedef u64 (*vdev_read_fn)(void *dev, u64 offset, u32 size);
typedef void (*vdev_write_fn)(void *dev, u64 offset, u32 size, u64 value);

struct vdev_range {
	u64 base;
	u64 len;
	vdev_read_fn read;   /* never NULL */
	vdev_write_fn write; /* never NULL */
	void *dev;
	const char *name;
	u32 width; /* widest access the device takes; wider ones are split. 0: any */
} __aligned(64);

/* Ports below this are found by one look into a table; nearly all of a PC's are. */
#define VDEV_BUS_INDEXED 0x1000U

struct vdev_bus {
	u32 ports;
	u32 mmios;
	u8 port_index[VDEV_BUS_INDEXED]; /* 1 + index in port[], 0 for nobody's */
	struct vdev_range port[VDEV_BUS_RANGES];
	struct vdev_range mmio[VDEV_BUS_RANGES];
};

/* 0, -EEXIST when it overlaps a range (both are logged by name by the caller), -ENOSPC, -EINVAL. */
int vdev_bus_add_port(struct vdev_bus *bus, const struct vdev_range *r);
int vdev_bus_add_mmio(struct vdev_bus *bus, const struct vdev_range *r);

/* The range that holds all of [addr, addr+size), or NULL. size >= 1. */
const struct vdev_range *vdev_bus_find_port(const struct vdev_bus *bus, u16 port, u32 size);
const struct vdev_range *vdev_bus_find_mmio(const struct vdev_bus *bus, gpa_t gpa, u32 size);

/*
 * Access with the architecture's answers for what nobody claims: reads give all
 * ones, writes are dropped. A multi-byte port access that no single device
 * claims whole is split into bytes, as on an ISA bus.
 */
u32 vdev_bus_port_read(const struct vdev_bus *bus, u16 port, u32 size);
void vdev_bus_port_write(const struct vdev_bus *bus, u16 port, u32 size, u32 value);
/* One byte, as nearly every access is: it always fits, and mostly one look finds its device. */
static inline u8 vdev_bus_byte_read(const struct vdev_bus *bus, u32 port)
{
	const struct vdev_range *r;

	if (unlikely(port >= VDEV_BUS_INDEXED))
		return (u8)vdev_bus_port_read(bus, (u16)port, 1);
	if (bus->port_index[port] == 0)
		return 0xFF;
	r = &bus->port[bus->port_index[port] - 1L];
	return (u8)r->read(r->dev, port - r->base, 1);
}
static inline void vdev_bus_byte_write(const struct vdev_bus *bus, u32 port, u8 value)
{
	const struct vdev_range *r;

	if (unlikely(port >= VDEV_BUS_INDEXED)) {
		vdev_bus_port_write(bus, (u16)port, 1, value);
	} else if (bus->port_index[port] != 0) {
		r = &bus->port[bus->port_index[port] - 1L];
		r->write(r->dev, port - r->base, 1, value);
	}
}
u64 vdev_bus_mmio_read(const struct vdev_bus *bus, gpa_t gpa, u32 size);
void vdev_bus_mmio_write(const struct vdev_bus *bus, gpa_t gpa, u32 size, u64 value);

#endif
