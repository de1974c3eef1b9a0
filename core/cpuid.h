/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_CPUID_H
#define RAVELIN_CORE_CPUID_H

#include "core/pv.h"
#include "core/types.h"

/*
 * A vCPU's CPUID answers: built at VM creation from the policy, so that an
 * exit only looks up. Leaves whose answer depends on the subleaf or on a
 * control register are marked and answered by cpuid_dynamic().
 */
struct cpuid_entry {
	u32 eax, ebx, ecx, edx;
};

#define CPUID_BASIC_LEAVES 0x20
#define CPUID_EXT_LEAVES 0x22
#define CPUID_HV_LEAVES PV_HV_LEAVES
#define CPUID_SUBLEAVES 8
#define CPUID_XSAVE_SUBLEAVES 10 /* two, and the components of vcpu_state_xcr0_mask() */

struct cpuid_subleaf {
	u32 leaf, subleaf;
	struct cpuid_entry e;
};

struct cpuid_table {
	u32 basic_max;   /* highest basic leaf */
	u32 ext_max;     /* highest extended leaf minus 0x80000000 */
	u64 basic_dyn;   /* bit n: leaf n needs cpuid_dynamic() */
	struct cpuid_entry basic[CPUID_BASIC_LEAVES];
	struct cpuid_entry ext[CPUID_EXT_LEAVES];
	struct cpuid_entry hv[CPUID_HV_LEAVES];
	struct cpuid_entry xsave[CPUID_XSAVE_SUBLEAVES]; /* leaf 0xD */
	u64 xsave_xcr0;  /* XCR0 for which the sizes in it are right */
	u32 subleaves;   /* of other leaves */
	struct cpuid_subleaf sub[CPUID_SUBLEAVES];
	struct cpuid_entry made; /* an answer that is put together when asked for */
};

struct vcpu;
struct vm;

#define CPUID_HV_BASE 0x40000000U
#define CPUID_EXT_BASE 0x80000000U

/* The plain answer for leaf, or NULL when cpuid_dynamic() must be asked. */
static inline const struct cpuid_entry *cpuid_static(const struct cpuid_table *t, u32 leaf)
{
	u32 ext = leaf - CPUID_EXT_BASE, hv = leaf - CPUID_HV_BASE;

	if (likely(leaf < CPUID_BASIC_LEAVES))
		return (t->basic_dyn >> leaf & 1) ? NULL : &t->basic[leaf];
	if (ext < CPUID_EXT_LEAVES)
		return &t->ext[ext];
	return hv < CPUID_HV_LEAVES ? &t->hv[hv] : NULL;
}

/* Fills v->cpuid from the policy and the machine. v->id, v->apic_id and vm->vcpus are set. */
void cpuid_build(struct vcpu *v);
/* Answers leaf/subleaf for v, whose CR4 is given: all zero for what the policy does not name. */
const struct cpuid_entry *cpuid_dynamic(struct vcpu *v, u32 leaf, u32 subleaf, u64 cr4);
/* Is this feature bit shown to the guest? reg 0..3 = EAX..EDX of a plain leaf. */
bool cpuid_has(const struct vcpu *v, u32 leaf, u32 reg, u32 bit);

/* For a backend that completes the table. */
void cpuid_add_subleaf(struct cpuid_table *t, u32 leaf, u32 subleaf, struct cpuid_entry e);
/* Bits needed to number n things: the shift that removes a vCPU number from an APIC id. */
u32 cpuid_id_bits(u32 n);

#endif
