/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/host.h"
#include "arch/x86/cpu.h"
#include "arch/x86/tsc.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/printf.h"
#include "core/sched.h"
#include "core/string.h"
#include "core/vm.h"

/* What core offers to devices: the other side of vdev/host.h (timers: core/timer.c). */

u64 vdev_now_ns(struct vdev_host *h)
{
	return tsc_to_ns(rdtsc() - vm_from_host(h)->tsc_base);
}

/* One tick more than the exact value: at the deadline vdev_now_ns() is never short of it. */
u64 vm_ns_to_tsc(const struct vm *vm, u64 ns)
{
	u64 ticks = ns_to_tsc(ns) + 1 + tsc_khz / 1000000;

	return ticks > ~vm->tsc_base ? ~0UL : vm->tsc_base + ticks;
}

u64 vdev_guest_tsc(struct vdev_host *h, u32 vcpu)
{
	return rdtsc() + vm_from_host(h)->vcpu[vcpu]->tsc_offset;
}

u64 vdev_tsc_to_ns(struct vdev_host *h, u32 vcpu, u64 guest_tsc)
{
	const struct vm *vm = vm_from_host(h);
	u64 host = guest_tsc - vm->vcpu[vcpu]->tsc_offset;

	/* The guest's clock may have been set so that the value lies before the VM's creation. */
	return (s64)(host - vm->tsc_base) <= 0 ? 0 : tsc_to_ns(host - vm->tsc_base);
}

u64 vdev_tsc_khz(struct vdev_host *h)
{
	(void)h;
	return tsc_khz;
}

/* The machine's clock is read once: CMOS access is slow, and not for an exit path. */
static u64 boot_seconds, boot_tsc;

void host_clock_init(void)
{
	boot_seconds = rtc_seconds();
	boot_tsc = rdtsc();
}

u64 host_wall_ns(void)
{
	return boot_seconds * 1000000000UL + tsc_to_ns(rdtsc() - boot_tsc);
}

u64 vdev_wall_seconds(struct vdev_host *h)
{
	(void)h;
	return host_wall_ns() / 1000000000UL;
}

void vdev_kick(struct vdev_host *h, u32 vcpu, u32 what, u32 arg)
{
	struct vm *vm = vm_from_host(h);
	struct vcpu *v = vcpu < vm->vcpus ? vm->vcpu[vcpu] : NULL;
	u32 bits = 0;

	if (v == NULL)
		return;
	if (likely(what == VDEV_KICK_IRQ)) {
		vcpu_hazard(v, HAZ_IRQ);
		return;
	}
	if ((what & VDEV_KICK_IRQ) != 0)
		bits |= HAZ_IRQ;
	if ((what & VDEV_KICK_INIT) != 0)
		bits |= HAZ_INIT;
	if ((what & VDEV_KICK_SIPI) != 0) {
		v->sipi_vector = (u8)arg;
		bits |= HAZ_SIPI;
	}
	if ((what & VDEV_KICK_NMI) != 0) {
		/* One in service and one waiting is all a CPU keeps (APM vol. 2, 8.2.3). */
		if (__atomic_load_n(&v->nmi_pending, __ATOMIC_RELAXED) < 2)
			__atomic_fetch_add(&v->nmi_pending, 1, __ATOMIC_RELAXED);
		bits |= HAZ_NMI;
	}
	vcpu_hazard(v, bits);
}

/* The hazards are looked at before the entry that ends the exit. */
void vdev_kick_self(struct vdev_host *h, u32 vcpu)
{
	__atomic_or_fetch(&vm_from_host(h)->vcpu[vcpu]->hazards, HAZ_IRQ, __ATOMIC_RELAXED);
}

/* --- guest memory ------------------------------------------------------------------------------ */

#define VGA_START 0xa0000UL
#define VGA_END 0xc0000UL

void *vm_ram_ptr(struct vm *vm, gpa_t gpa, size_t *len, bool write)
{
	const struct vm_ram *r = &vm->ram;
	u64 offset, room;

	if (gpa < r->low) {
		if (gpa >= VGA_START && gpa < VGA_END)
			return NULL;
		offset = gpa;
		room = gpa < VGA_START ? VGA_START - gpa : VM_CHUNK_SIZE;
	} else if (gpa >= GIB(4) && gpa - GIB(4) < r->high) {
		offset = r->low + (gpa - GIB(4));
		room = VM_CHUNK_SIZE;
	} else if (!write && r->rom != 0 && gpa >= r->rom_gpa && gpa - r->rom_gpa < r->rom_size) {
		*len = MIN(*len, r->rom_size - (gpa - r->rom_gpa));
		return (u8 *)phys_to_virt(r->rom) + (gpa - r->rom_gpa);
	} else {
		return NULL;
	}
	room = MIN(room, VM_CHUNK_SIZE - (offset & (VM_CHUNK_SIZE - 1)));
	*len = MIN(*len, room);
	return (u8 *)phys_to_virt(r->chunk[offset >> VM_CHUNK_SHIFT]) +
	       (offset & (VM_CHUNK_SIZE - 1));
}

/* Is all of [gpa, gpa+len) there? */
static bool present(struct vm *vm, gpa_t gpa, size_t len, bool write)
{
	while (len != 0) {
		size_t part = len;

		if (vm_ram_ptr(vm, gpa, &part, write) == NULL)
			return false;
		gpa += part;
		len -= part;
	}
	return true;
}

int vm_memory_read(struct vdev_host *h, gpa_t gpa, void *buf, size_t len)
{
	struct vm *vm = vm_from_host(h);
	u8 *to = buf;

	if (!present(vm, gpa, len, false))
		return -EFAULT;
	while (len != 0) {
		size_t part = len;

		memcpy(to, vm_ram_ptr(vm, gpa, &part, false), part);
		to += part;
		gpa += part;
		len -= part;
	}
	return 0;
}

int vm_memory_write(struct vdev_host *h, gpa_t gpa, const void *buf, size_t len)
{
	struct vm *vm = vm_from_host(h);
	const u8 *from = buf;

	if (!present(vm, gpa, len, true))
		return -EFAULT;
	while (len != 0) {
		size_t part = len;
		void *to = vm_ram_ptr(vm, gpa, &part, true);

		memcpy(to, from, part);
		from += part;
		gpa += part;
		len -= part;
	}
	return 0;
}

/* --- the rest ---------------------------------------------------------------------------------- */

void vdev_power(struct vdev_host *h, enum vdev_power what, u32 code)
{
	static const u32 map[] = {
		[VDEV_POWER_OFF] = VM_POWER_OFF,
		[VDEV_POWER_RESET] = VM_POWER_RESET,
		[VDEV_POWER_DEBUG_EXIT] = VM_POWER_DEBUG_EXIT,
	};

	vm_power(vm_from_host(h), map[what], code);
}

/* A guest that makes a device complain must not fill the log: so many lines a second, and a VM. */
#define LOG_LINES 8U

void vdev_log(struct vdev_host *h, const char *fmt, ...)
{
	struct vm *vm = vm_from_host(h);
	u64 second = vdev_now_ns(h) / 1000000000UL;
	char text[128];
	va_list ap;

	if (vm->log_second != second) {
		vm->log_second = second;
		vm->log_lines = 0;
	}
	if (++vm->log_lines > LOG_LINES)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_debug("vm %s: %s", vm->name, text);
}
