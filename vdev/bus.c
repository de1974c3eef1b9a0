/* SPDX-License-Identifier: BSD-2-Clause */
#include "vdev/bus.h"

#include "core/errno.h"

#define PORT_SPACE 0x10000ULL

static int add(struct vdev_range *table, u32 *count, const struct vdev_range *r, u64 space)
{
	if (r->len == 0 || r->base >= space || r->len > space - r->base)
		return -EINVAL;
	if (!r->read || !r->write || r->width > 8 || (r->width & (r->width - 1)) != 0)
		return -EINVAL;

	u32 at = 0;
	while (at < *count && table[at].base < r->base)
		at++;
	if (at > 0 && r->base - table[at - 1].base < table[at - 1].len)
		return -EEXIST;
	if (at < *count && table[at].base - r->base < r->len)
		return -EEXIST;
	if (*count == VDEV_BUS_RANGES)
		return -ENOSPC;

	for (u32 i = *count; i > at; i--)
		table[i] = table[i - 1];
	table[at] = *r;
	(*count)++;
	return 0;
}

static void index_ports(struct vdev_bus *bus)
{
	for (u32 i = 0; i < bus->ports; i++) {
		const struct vdev_range *r = &bus->port[i];

		for (u64 p = r->base; p < r->base + r->len && p < VDEV_BUS_INDEXED; p++)
			bus->port_index[p] = (u8)(i + 1);
	}
}
_Static_assert(VDEV_BUS_RANGES < 255, "port_index holds eight bits");

int vdev_bus_add_port(struct vdev_bus *bus, const struct vdev_range *r)
{
	int err = add(bus->port, &bus->ports, r, PORT_SPACE);

	if (err == 0)
		index_ports(bus);
	return err;
}

int vdev_bus_add_mmio(struct vdev_bus *bus, const struct vdev_range *r)
{
	return add(bus->mmio, &bus->mmios, r, 1ULL << 52);
}

/* The range that holds addr and the size - 1 bytes after it. */
static const struct vdev_range *find(const struct vdev_range *table, u32 count, u64 addr, u32 size)
{
	u32 low = 0;

	/* table[low - 1] is the last range that starts at or below addr. */
	while (low < count) {
		u32 mid = low + (count - low) / 2;
		if (table[mid].base <= addr)
			low = mid + 1;
		else
			count = mid;
	}
	if (low == 0)
		return NULL;

	const struct vdev_range *r = &table[low - 1];
	u64 offset = addr - r->base;
	if (offset >= r->len || size > r->len - offset)
		return NULL;
	return r;
}

const struct vdev_range *vdev_bus_find_port(const struct vdev_bus *bus, u16 port, u32 size)
{
	const struct vdev_range *r;

	if (unlikely(port >= VDEV_BUS_INDEXED))
		return find(bus->port, bus->ports, port, size);
	if (bus->port_index[port] == 0)
		return NULL;
	r = &bus->port[bus->port_index[port] - 1];
	return port - r->base + size <= r->len ? r : NULL;
}

const struct vdev_range *vdev_bus_find_mmio(const struct vdev_bus *bus, gpa_t gpa, u32 size)
{
	return find(bus->mmio, bus->mmios, gpa, size);
}

static u64 ones(u32 size)
{
	return size >= 8 ? ~0ULL : (1ULL << (size * 8)) - 1;
}

static u64 range_read(const struct vdev_range *r, u64 offset, u32 size)
{
	if (likely(r->width == 0 || size <= r->width))
		return r->read(r->dev, offset, size) & ones(size);

	u64 value = 0;
	for (u32 i = 0; i < size; i += r->width)
		value |= (r->read(r->dev, offset + i, r->width) & ones(r->width)) << (i * 8);
	return value;
}

static void range_write(const struct vdev_range *r, u64 offset, u32 size, u64 value)
{
	value &= ones(size);
	if (likely(r->width == 0 || size <= r->width)) {
		r->write(r->dev, offset, size, value);
		return;
	}
	for (u32 i = 0; i < size; i += r->width)
		r->write(r->dev, offset + i, r->width, value >> (i * 8) & ones(r->width));
}

static bool port_access_valid(u16 port, u32 size)
{
	return (size == 1 || size == 2 || size == 4) && port + size <= PORT_SPACE;
}

/* One device takes the whole access at once: nearly every access is like that. Its range, or NULL. */
static inline const struct vdev_range *simple_port(const struct vdev_bus *bus, u32 port, u32 size)
{
	const struct vdev_range *r;

	if (port >= VDEV_BUS_INDEXED || bus->port_index[port] == 0 || size > 4)
		return NULL;
	r = &bus->port[bus->port_index[port] - 1];
	if (port - (u32)r->base + size > (u32)r->len || (r->width != 0 && size > r->width))
		return NULL;
	return r;
}

/* 0: no such access. */
static const u32 port_mask[8] = { [1] = 0xff, [2] = 0xffff, [4] = 0xffffffff };

static __attribute__((noinline)) u32 port_read_slowly(const struct vdev_bus *bus, u16 port, u32 size)
{
	const struct vdev_range *r;
	u32 value = 0;

	if (!port_access_valid(port, size))
		return (u32)ones(size);
	r = vdev_bus_find_port(bus, port, size);
	if (r)
		return (u32)range_read(r, port - r->base, size);
	for (u32 i = 0; i < size; i++) {
		r = vdev_bus_find_port(bus, (u16)(port + i), 1);
		value |= (r ? (u32)range_read(r, port + i - r->base, 1) : 0xFFU) << (i * 8);
	}
	return value;
}

u32 vdev_bus_port_read(const struct vdev_bus *bus, u16 port, u32 size)
{
	const struct vdev_range *r = simple_port(bus, port, size);
	u32 mask = port_mask[size & 7];

	if (unlikely(!r || mask == 0))
		return port_read_slowly(bus, port, size);
	return (u32)r->read(r->dev, port - r->base, size) & mask;
}

static __attribute__((noinline)) void port_write_slowly(const struct vdev_bus *bus, u16 port,
							u32 size, u32 value)
{
	const struct vdev_range *r;

	if (!port_access_valid(port, size))
		return;
	r = vdev_bus_find_port(bus, port, size);
	if (r) {
		range_write(r, port - r->base, size, value);
		return;
	}
	for (u32 i = 0; i < size; i++) {
		r = vdev_bus_find_port(bus, (u16)(port + i), 1);
		if (r)
			range_write(r, port + i - r->base, 1, value >> (i * 8));
	}
}

void vdev_bus_port_write(const struct vdev_bus *bus, u16 port, u32 size, u32 value)
{
	const struct vdev_range *r = simple_port(bus, port, size);
	u32 mask = port_mask[size & 7];

	if (unlikely(!r || mask == 0))
		port_write_slowly(bus, port, size, value);
	else
		r->write(r->dev, port - r->base, size, value & mask);
}

u64 vdev_bus_mmio_read(const struct vdev_bus *bus, gpa_t gpa, u32 size)
{
	const struct vdev_range *r = vdev_bus_find_mmio(bus, gpa, size);

	if (!r || (size != 1 && size != 2 && size != 4 && size != 8))
		return ~0ULL;
	return range_read(r, gpa - r->base, size);
}

void vdev_bus_mmio_write(const struct vdev_bus *bus, gpa_t gpa, u32 size, u64 value)
{
	const struct vdev_range *r = vdev_bus_find_mmio(bus, gpa, size);

	if (r && (size == 1 || size == 2 || size == 4 || size == 8))
		range_write(r, gpa - r->base, size, value);
}
