/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_VCPU_STATE_H
#define RAVELIN_ARCH_X86_VCPU_STATE_H

#include "arch/x86/cpu.h"
#include "arch/x86/percpu.h"
#include "core/vm.h"

/*
 * Guest registers that neither VMRUN nor VMLAUNCH switches and that the
 * hypervisor itself does not use: x87, vector and PKRU state, XCR0, DR0..DR3,
 * TSC_AUX. They stay in the CPU, over exits and while the vCPU waits, until
 * another vCPU needs the place or the vCPU is run on another CPU.
 */

/* What each CPU's registers hold. */
struct state_cpu {
	struct vcpu *owner; /* whose state it is */
	u64 xcr0;
	u64 tsc_aux;
	u64 xcr0_mask;
	bool has_tsc_aux;
	bool barrier;       /* the branch predictor is flushed between VMs */
};
extern PERCPU struct state_cpu state_cpu;

/* Every CPU, before it runs a vCPU: control registers, XCR0, XSS. */
void vcpu_state_cpu_init(void);
/* XCR0 bits that a guest may set: what the CPUs have and this code saves. 0: no XSAVE. */
u64 vcpu_state_xcr0_mask(void);

/* Allocates v->fpu. 0 or -ENOMEM. */
int vcpu_state_init(struct vcpu *v);
/* Forgets the state wherever it is and frees it. Interrupts on, v not running. */
void vcpu_state_destroy(struct vcpu *v);
/* Values after RESET, or after INIT (which keeps x87, vector state and XCR0; APM vol. 2, table
 * 14-1). v not running; on any CPU with interrupts on. */
void vcpu_state_reset(struct vcpu *v, bool init);

/* Makes v's state the one in this CPU's registers, fetching it from another CPU when it is still
 * there. Interrupts on. */
void vcpu_state_load(struct vcpu *v);
/* Writes the state back to *v if this CPU has it. */
void vcpu_state_put(struct vcpu *v);

/* The guest's XCR0. v runs on this CPU, or its state is not in any other CPU's registers. */
#ifdef UNIT_TEST
u64 vcpu_state_xcr0(struct vcpu *v);
#else
/* The register itself is what counts: there are CPUs (emulated ones) that let a guest's XSETBV
 * pass though its intercept is set. */
static inline void vcpu_state_read_xcr0(struct vcpu *v)
{
	if (likely(state_cpu.xcr0_mask != 0))
		state_cpu.xcr0 = v->guest_xcr0 = xgetbv(0);
}

static inline u64 vcpu_state_xcr0(struct vcpu *v)
{
	if (likely(state_cpu.owner == v && !v->trap_protected))
		vcpu_state_read_xcr0(v);
	return v->guest_xcr0;
}
#endif
/* v runs on this CPU and changes a register; the value has been checked. */
void vcpu_state_set_xcr0(struct vcpu *v, u64 value);
void vcpu_state_set_tsc_aux(struct vcpu *v, u64 value);
/* What TSC_AUX of this CPU holds. */
u64 vcpu_state_tsc_aux(void);

#endif
