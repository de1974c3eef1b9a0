/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/pv.h"
#include "arch/x86/tsc.h"
#include "arch/x86/tsc_sync.h"
#include "core/errno.h"
#include "core/string.h"
#include "core/vm.h"

/* What is offered, the MSRs that register guest memory, steal time and the TLB flush in it. */

/* KVM's feature leaf (Documentation/virt/kvm/x86/cpuid.rst). */
#define KVM_CLOCKSOURCE BIT32(0)
#define KVM_NOP_IO_DELAY BIT32(1) /* no writes to port 0x80 to wait */
#define KVM_CLOCKSOURCE2 BIT32(3)
#define KVM_STEAL_TIME BIT32(5)
#define KVM_PV_EOI BIT32(6)
#define KVM_PV_UNHALT BIT32(7)
#define KVM_PV_TLB_FLUSH BIT32(9)
#define KVM_PV_SEND_IPI BIT32(11)
#define KVM_PV_SCHED_YIELD BIT32(13)
#define KVM_CLOCKSOURCE_STABLE BIT32(24)

static const struct {
	u32 pv, kvm;
} feature_bits[] = {
	{ PV_CLOCK, KVM_CLOCKSOURCE | KVM_CLOCKSOURCE2 },
	{ PV_STEAL, KVM_STEAL_TIME },
	{ PV_EOI, KVM_PV_EOI },
	{ PV_IPI, KVM_PV_SEND_IPI },
	{ PV_TLB, KVM_PV_TLB_FLUSH },
	{ PV_UNHALT, KVM_PV_UNHALT },
	{ PV_YIELD, KVM_PV_SCHED_YIELD },
};

/*
 * EDX, the hints, stays zero: "realtime" would promise that no vCPU ever waits
 * for its CPU, and VMs that are started later may break that.
 */
void pv_cpuid(const struct vm *vm, struct cpuid_entry *leaf)
{
	const char *signature = vm->pv.features != 0 ? "KVMKVMKVM\0\0" : "RavelinRavel";

	memset(leaf, 0, PV_HV_LEAVES * sizeof(*leaf));
	leaf[0].eax = CPUID_HV_BASE + 1;
	memcpy(&leaf[0].ebx, signature, 4);
	memcpy(&leaf[0].ecx, signature + 4, 4);
	memcpy(&leaf[0].edx, signature + 8, 4);
	if (vm->pv.features == 0)
		return;
	leaf[1].eax = KVM_NOP_IO_DELAY;
	for (u32 i = 0; i < ARRAY_SIZE(feature_bits); i++)
		if ((vm->pv.features & feature_bits[i].pv) != 0)
			leaf[1].eax |= feature_bits[i].kvm;
	if ((vm->pv.features & PV_CLOCK) != 0 && tsc_synchronised)
		leaf[1].eax |= KVM_CLOCKSOURCE_STABLE;
}

void *pv_area(struct vm *vm, gpa_t gpa, size_t len)
{
	size_t got = len;
	void *p;

	if ((gpa & (PAGE_SIZE - 1)) + len > PAGE_SIZE)
		return NULL;
	p = vm_ram_ptr(vm, gpa, &got, true);
	return p != NULL && got == len ? p : NULL;
}

void pv_reset(struct vcpu *v)
{
	struct pv_vcpu *pv = &v->pv;

	/* Time waited goes on: a record that is registered again must not go back. */
	pv->eoi_armed = false;
	pv->clock = pv->steal = pv->eoi = 0;
	__atomic_store_n(&pv->unhalted, false, __ATOMIC_RELAXED);
}

/* --- steal time --------------------------------------------------------------------------------- */

/* Only what has changed is written: a vCPU that never waits costs no store. */
static void steal_publish(struct vcpu *v, struct pv_steal_time *st)
{
	u64 ns = tsc_to_ns(v->pv.waited);

	if (ns == v->pv.steal_shown)
		return;
	v->pv.steal_shown = ns;
	v->pv.steal_version |= 1;
	__atomic_store_n(&st->version, v->pv.steal_version, __ATOMIC_RELEASE);
	__atomic_store_n(&st->steal, ns, __ATOMIC_RELEASE);
	__atomic_store_n(&st->version, ++v->pv.steal_version, __ATOMIC_RELEASE);
}

static struct pv_steal_time *steal_record(struct vcpu *v)
{
	return pv_area(v->vm, v->pv.steal & ~PV_ENABLE, sizeof(struct pv_steal_time));
}

/* A flush that another vCPU left for this one happens before it runs. */
static void take_flush(struct vcpu *v)
{
	v->pv.tlb_flushes++;
	__atomic_or_fetch(&v->hazards, HAZ_TLB, __ATOMIC_RELEASE);
}

void pv_steal_enter(struct vcpu *v)
{
	struct pv_steal_time *st = steal_record(v);
	u8 old;

	if (st == NULL) {
		/* The guest took the page away; what others wrote there meanwhile is not known. */
		v->pv.steal = 0;
		take_flush(v);
		return;
	}
	old = __atomic_exchange_n(&st->preempted, 0, __ATOMIC_SEQ_CST);
	if ((old & PV_FLUSH_TLB) != 0)
		take_flush(v);
	steal_publish(v, st);
}

/* From here on others may leave a flush in the record instead of an interrupt. */
void pv_steal_leave(struct vcpu *v)
{
	struct pv_steal_time *st = steal_record(v);

	if (st != NULL)
		__atomic_store_n(&st->preempted, PV_PREEMPTED, __ATOMIC_SEQ_CST);
}

static int write_steal(struct vcpu *v, u64 value)
{
	gpa_t gpa = value & ~PV_ENABLE;
	struct pv_steal_time *st;

	if (!IS_ALIGNED(gpa, PV_STEAL_ALIGN))
		return -EINVAL;
	st = pv_area(v->vm, gpa, sizeof(*st));
	if ((value & PV_ENABLE) != 0 && st == NULL)
		return -EINVAL;
	v->pv.steal = value;
	if ((value & PV_ENABLE) == 0)
		return 0;
	v->pv.steal_shown = ~0UL; /* the record is new: write it whatever it holds */
	__atomic_store_n(&st->preempted, 0, __ATOMIC_SEQ_CST);
	steal_publish(v, st);
	return 0;
}

/* --- MSRs --------------------------------------------------------------------------------------- */

static u32 feature_of(u32 msr)
{
	switch (msr) {
	case MSR_KVM_WALL_CLOCK_OLD:
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_SYSTEM_TIME_OLD:
	case MSR_KVM_SYSTEM_TIME:
		return PV_CLOCK;
	case MSR_KVM_STEAL_TIME:
		return PV_STEAL;
	case MSR_KVM_PV_EOI:
		return PV_EOI;
	default:
		return 0;
	}
}

int pv_msr_read(struct vcpu *v, u32 msr, u64 *value)
{
	if ((v->vm->pv.features & feature_of(msr)) == 0)
		return -EINVAL;
	switch (msr) {
	case MSR_KVM_WALL_CLOCK_OLD:
	case MSR_KVM_WALL_CLOCK:
		*value = v->vm->pv.wall;
		break;
	case MSR_KVM_SYSTEM_TIME_OLD:
	case MSR_KVM_SYSTEM_TIME:
		*value = v->pv.clock;
		break;
	case MSR_KVM_STEAL_TIME:
		*value = v->pv.steal;
		break;
	default:
		*value = v->pv.eoi;
		break;
	}
	return 0;
}

static int write_clock(struct vcpu *v, u64 value)
{
	gpa_t gpa = value & ~PV_ENABLE;

	if ((value & PV_ENABLE) != 0 &&
	    (!IS_ALIGNED(gpa, 4UL) || pv_area(v->vm, gpa, sizeof(struct pv_time_info)) == NULL))
		return -EINVAL;
	v->pv.clock = value;
	pv_clock_update(v);
	return 0;
}

static int write_eoi(struct vcpu *v, u64 value)
{
	if (!IS_ALIGNED(value & ~PV_ENABLE, 4UL) ||
	    ((value & PV_ENABLE) != 0 && pv_area(v->vm, value & ~PV_ENABLE, 4) == NULL))
		return -EINVAL;
	if (v->pv.eoi_armed)
		pv_eoi_settle(v);
	v->pv.eoi = value;
	return 0;
}

int pv_msr_write(struct vcpu *v, u32 msr, u64 value)
{
	if ((v->vm->pv.features & feature_of(msr)) == 0)
		return -EINVAL;
	switch (msr) {
	case MSR_KVM_WALL_CLOCK_OLD:
	case MSR_KVM_WALL_CLOCK:
		return pv_write_wall_clock(v, value);
	case MSR_KVM_SYSTEM_TIME_OLD:
	case MSR_KVM_SYSTEM_TIME:
		return write_clock(v, value);
	case MSR_KVM_STEAL_TIME:
		return write_steal(v, value);
	default:
		return write_eoi(v, value);
	}
}
