/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/mmio.h"
#include "core/vm.h"
#include "vdev/bus.h"

#define APIC_TPR 0x80U
#define APIC_PPR 0xa0U

/* The task priority lives in hardware while the guest runs; only two registers show it. */
static u32 lapic_read_reg(struct vcpu *v, u32 offset, u32 size)
{
	if (unlikely(v->pv.eoi_armed))
		pv_eoi_settle(v);
	if (offset == APIC_TPR || offset == APIC_PPR)
		virt->sync_tpr(v);
	return vlapic_mmio_read(&v->lapic, offset, size);
}

static __attribute__((noinline)) void lapic_write_reg(struct vcpu *v, u32 offset, u32 size, u32 value)
{
	if (unlikely(v->pv.eoi_armed))
		pv_eoi_settle(v);
	vlapic_mmio_write(&v->lapic, offset, size, value);
	if (offset == APIC_TPR)
		vcpu_hazard(v, HAZ_TPR | HAZ_IRQ);
}

u64 mmio_read(struct vcpu *v, gpa_t gpa, u32 size)
{
	u64 offset = vlapic_offset(&v->lapic, gpa);

	if (offset < PAGE_SIZE)
		return lapic_read_reg(v, (u32)offset, size);
	return vdev_bus_mmio_read(&v->vm->platform.bus, gpa, size);
}

void mmio_write(struct vcpu *v, gpa_t gpa, u32 size, u64 value)
{
	u64 offset = vlapic_offset(&v->lapic, gpa);

	if (unlikely(offset >= PAGE_SIZE))
		vdev_bus_mmio_write(&v->vm->platform.bus, gpa, size, value);
	else if (unlikely(offset == APIC_TPR || v->pv.eoi_armed))
		lapic_write_reg(v, (u32)offset, size, (u32)value);
	else
		vlapic_mmio_write(&v->lapic, (u32)offset, size, (u32)value);
}

u32 port_read(struct vcpu *v, u16 port, u32 size)
{
	return vdev_bus_port_read(&v->vm->platform.bus, port, size);
}

void port_write(struct vcpu *v, u16 port, u32 size, u32 value)
{
	vdev_bus_port_write(&v->vm->platform.bus, port, size, value);
}
