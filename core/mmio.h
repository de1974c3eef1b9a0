/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_MMIO_H
#define RAVELIN_CORE_MMIO_H

#include "core/vm.h"

/*
 * A vCPU's access to its devices, with the architecture's answers for what
 * nobody claims (reads give all ones, writes are dropped). Own CPU, interrupts
 * off. size: 1, 2, 4, for memory also 8; of a value written only so many bytes
 * count. A memory access must not cross a page.
 */
u64 mmio_read(struct vcpu *v, gpa_t gpa, u32 size);
void mmio_write(struct vcpu *v, gpa_t gpa, u32 size, u64 value);
u32 port_read(struct vcpu *v, u16 port, u32 size);
void port_write(struct vcpu *v, u16 port, u32 size, u32 value);
/* One byte, without a call where a device has it. */
static inline u8 port_read_byte(struct vcpu *v, u32 port)
{
	return vdev_bus_byte_read(&v->vm->platform.bus, port);
}
static inline void port_write_byte(struct vcpu *v, u32 port, u8 value)
{
	vdev_bus_byte_write(&v->vm->platform.bus, port, value);
}

#endif
