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
#define CPUID_SUBLEAVES 16

struct cpuid_subleaf {
	u32 leaf, subleaf;
	struct cpuid_entry e;
};

struct cpuid_table {
	u32 basic_max;   /* highest basic leaf */
	u32 ext_max;     /* highest extended leaf minus 0x80000000 */
	u64 basic_dyn;   /* bit n: leaf n needs cpuid_dynamic() */
	u64 ext_dyn;
	struct cpuid_entry basic[CPUID_BASIC_LEAVES];
	struct cpuid_entry ext[CPUID_EXT_LEAVES];
	struct cpuid_entry hv[CPUID_HV_LEAVES];
	u32 subleaves;
	struct cpuid_subleaf sub[CPUID_SUBLEAVES];
};

struct vcpu;
struct vm;

#define CPUID_HV_BASE 0x40000000U
#define CPUID_EXT_BASE 0x80000000U

/* The plain answer for leaf, or NULL when cpuid_dynamic() must be asked. */
static inline const struct cpuid_entry *cpuid_static(const struct cpuid_table *t, u32 leaf)
{
	u32 ext = leaf - CPUID_EXT_BASE;

	if (leaf < CPUID_BASIC_LEAVES)
		return (t->basic_dyn >> leaf & 1) ? NULL : &t->basic[leaf];
	if (ext < CPUID_EXT_LEAVES)
		return (t->ext_dyn >> ext & 1) ? NULL : &t->ext[ext];
	return NULL;
}

/* Fills v->cpuid from the policy and the machine. v->id, v->apic_id and vm->vcpus are set. */
void cpuid_build(struct vcpu *v);
/* Answers leaf/subleaf for v. *out is all zero for what the policy does not name. */
void cpuid_dynamic(struct vcpu *v, u32 leaf, u32 subleaf, struct cpuid_entry *out);
/* Is this feature bit shown to the guest? reg 0..3 = EAX..EDX of a plain leaf. */
bool cpuid_has(const struct vcpu *v, u32 leaf, u32 reg, u32 bit);

/* For a backend that completes the table. */
void cpuid_add_subleaf(struct cpuid_table *t, u32 leaf, u32 subleaf, struct cpuid_entry e);
/* Bits needed to number n things: the shift that removes a vCPU number from an APIC id. */
u32 cpuid_id_bits(u32 n);

#endif
