/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_PV_H
#define RAVELIN_CORE_PV_H

#include "core/types.h"

/*
 * KVM's paravirtual interface, so that unmodified kernels find a clock, cheap
 * interrupts and honest time accounting by themselves (docs/pv.md). Guest memory
 * that a guest registers is looked up anew at each use: no host pointer is kept.
 *
 * Numbers and layouts: Linux, Documentation/virt/kvm/x86 (cpuid, msr, hypercalls).
 */
struct vm;
struct vcpu;

/* Switches of a VM; `pv =` in the configuration. */
#define PV_CLOCK BIT32(0)
#define PV_STEAL BIT32(1)
#define PV_EOI BIT32(2)
#define PV_IPI BIT32(3)
#define PV_TLB BIT32(4)
#define PV_UNHALT BIT32(5)
#define PV_YIELD BIT32(6)
#define PV_ALL (BIT32(7) - 1)

#define MSR_KVM_WALL_CLOCK_OLD 0x11U
#define MSR_KVM_SYSTEM_TIME_OLD 0x12U
#define MSR_KVM_WALL_CLOCK 0x4b564d00U
#define MSR_KVM_SYSTEM_TIME 0x4b564d01U
#define MSR_KVM_STEAL_TIME 0x4b564d03U
#define MSR_KVM_PV_EOI 0x4b564d04U

#define PV_ENABLE BIT(0)             /* in each registration but the wall clock's */
#define PV_STEAL_ALIGN 64UL

/* A vCPU's clock: ns = system_time + ((tsc - tsc_timestamp) << tsc_shift) * mul / 2^32. */
typedef u64 pv_u64 __aligned(4); /* guests align the record to 4 bytes only */
struct pv_time_info {
	u32 version; /* odd while it changes */
	u32 pad0;
	pv_u64 tsc_timestamp;
	pv_u64 system_time;
	u32 tsc_to_system_mul;
	s8 tsc_shift; /* negative: to the right */
	u8 flags;
	u8 pad[2];
};
ASSERT_SIZE(struct pv_time_info, 32);
ASSERT_OFFSET(struct pv_time_info, tsc_timestamp, 8);
ASSERT_OFFSET(struct pv_time_info, tsc_to_system_mul, 24);
ASSERT_OFFSET(struct pv_time_info, flags, 29);
#define PV_TIME_STABLE 1U /* no vCPU's clock is ever behind another's */

struct pv_wall_clock { /* time of day when the system time was 0 */
	u32 version;
	u32 sec;
	u32 nsec;
};
ASSERT_SIZE(struct pv_wall_clock, 12);

struct pv_steal_time {
	u64 steal;    /* ns that the vCPU wanted to run and did not */
	u32 version;
	u32 flags;
	u8 preempted; /* PV_PREEMPTED, PV_FLUSH_TLB; atomic */
	u8 pad8[3];
	u32 pad[11];
};
ASSERT_SIZE(struct pv_steal_time, 64);
ASSERT_OFFSET(struct pv_steal_time, version, 8);
ASSERT_OFFSET(struct pv_steal_time, preempted, 16);
#define PV_PREEMPTED 1U
#define PV_FLUSH_TLB 2U

/* Part of struct vcpu. Own CPU, but for what is marked. */
struct pv_vcpu {
	bool eoi_armed;      /* the guest may end the interrupt in service by clearing its flag */
	bool unhalted;       /* KVM_HC_KICK_CPU came: the next HLT ends at once; atomic */
	u64 clock;           /* MSR values: address and enable bit */
	u64 steal;
	u64 eoi;
	u32 clock_version;
	u32 steal_version;
	u64 wait_start;      /* TSC when it entered the run queue; the queue's lock */
	u64 waited;          /* TSC ticks in run queues; the queue's lock */
	u64 steal_shown;     /* ns in the guest's record */
	/* For statistics. */
	u64 tlb_flushes;     /* by PV_FLUSH_TLB */
	u64 eois;            /* interrupts ended without an exit */
};

/* Part of struct vm. */
struct pv_vm {
	u32 features;        /* PV_*; constant after creation */
	u64 ipi_set;         /* the vCPUs that PV_IPI reaches, 0 without it; constant after creation */
	u64 wall;            /* last value of the wall clock's MSR */
};

#define PV_HV_LEAVES 2
struct cpuid_entry;
/* Leaves 0x40000000 and up into leaf[PV_HV_LEAVES]; vm->pv.features is set. */
void pv_cpuid(const struct vm *vm, struct cpuid_entry *leaf);

/* MSRs that are ours to answer. */
static inline bool pv_is_msr(u32 msr)
{
	return (msr & ~0xffU) == MSR_KVM_WALL_CLOCK || msr == MSR_KVM_WALL_CLOCK_OLD ||
	       msr == MSR_KVM_SYSTEM_TIME_OLD;
}
/* Own CPU. -EINVAL asks for #GP(0): not offered to this VM, reserved bits, an address that is
 * misaligned, crosses a page or is not (shared) RAM. Nothing changes then. */
int pv_msr_read(struct vcpu *v, u32 msr, u64 *value);
int pv_msr_write(struct vcpu *v, u32 msr, u64 value);

/* RESET or INIT: all registrations are gone. v does not run. */
void pv_reset(struct vcpu *v);

/* Host's view of len bytes within one page of guest RAM; NULL when they are not. */
void *pv_area(struct vm *vm, gpa_t gpa, size_t len);

/* --- clock: pv_clock.c --- */
int pv_write_wall_clock(struct vcpu *v, u64 value);
/* The clock's record anew: registered, or v->tsc_offset changed. Own CPU. */
void pv_clock_update(struct vcpu *v);
/* The guest's factors for a host TSC of that rate: mult is ns = ticks * mult >> 32. */
void pv_clock_scale(u64 mult, u32 *mul, s8 *shift);

/* --- steal time and TLB flush --- */
/* Around virt->run(), with a registered record only. */
void pv_steal_enter(struct vcpu *v);
void pv_steal_leave(struct vcpu *v);

/* --- end of interrupt: pv_eoi.c --- */
/* Takes the offer back, or does what the guest did with it. Own CPU, before its LAPIC is looked at. */
void pv_eoi_settle(struct vcpu *v);
/* vlapic_accept(), with the offer to end that interrupt without an exit where that is possible. */
int pv_eoi_accept(struct vcpu *v);

/* --- hypercalls: pv_ipi.c. Results are KVM's. --- */
/*
 * KVM_HC_SEND_IPI; the arguments, of which mask says the width, are in v->gpr. Bit n
 * of RBX: APIC id RDX + n; RCX goes on where RBX ends, which is after 64 bits, or 32
 * of a 32-bit guest. RSI: vector and delivery mode.
 */
s64 pv_send_ipi_any(const struct vcpu *v, u64 mask);
/* The same for 64-bit code; the one whose length counts. */
s64 pv_send_ipi(const struct vcpu *v);
void pv_kick(struct vm *vm, u64 apic_id);
/* Lets the vCPU go first that the caller waits for. True: give the CPU away. */
bool pv_yield(struct vcpu *v, u64 apic_id);

#endif
