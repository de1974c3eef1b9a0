/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_MMIO_H
#define RAVELIN_CORE_MMIO_H

#include "core/types.h"

/*
 * A vCPU's access to its devices, with the architecture's answers for what
 * nobody claims (reads give all ones, writes are dropped). Own CPU, interrupts
 * off. size: 1, 2, 4, for memory also 8. A memory access must not cross a page.
 */
struct vcpu;

u64 mmio_read(struct vcpu *v, gpa_t gpa, u32 size);
void mmio_write(struct vcpu *v, gpa_t gpa, u32 size, u64 value);
u32 port_read(struct vcpu *v, u16 port, u32 size);
void port_write(struct vcpu *v, u16 port, u32 size, u32 value);

#endif
