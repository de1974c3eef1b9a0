/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What build.sh adds to Bochs's CPU, for Ravelin's tests. Each is off unless the environment
 * asks for it:
 *
 * RAVELIN_BOCHS_FEATURE_CONTROL=N  what firmware writes to IA32_FEATURE_CONTROL
 * RAVELIN_BOCHS_ARCH_CAPABILITIES=N  what the CPU says it is not affected by, where it has this MSR
 * RAVELIN_BOCHS_COUNT=1            what the hypervisor does at CPUID exits, see below; and a line
 *                                  for each 100 barriers of the branch predictor (IBPB)
 * RAVELIN_BOCHS_TAGGED_TLB=1       translations survive VM exits, as in a CPU with VPID
 *
 * Included by cpu/vmx.cc (which defines RAVELIN_CHECKS) and cpu/msr.cc.
 */
#ifndef RAVELIN_CHECKS_H
#define RAVELIN_CHECKS_H

#include <stdio.h>
#include <stdlib.h>

enum { RAVELIN_READS, RAVELIN_WRITES, RAVELIN_MSRS, RAVELIN_COUNTS };
extern Bit64u ravelin_counts[][RAVELIN_COUNTS];

/* The first write on each CPU is the firmware's. */
static inline Bit32u ravelin_feature_control(BX_CPU_C *cpu, Bit32u value)
{
	static bool written[64];
	const char *other = getenv("RAVELIN_BOCHS_FEATURE_CONTROL");

	if (written[cpu->bx_cpuid] || other == NULL)
		return value;
	written[cpu->bx_cpuid] = true;
	return (Bit32u)strtoul(other, NULL, 0);
}

static inline Bit64u ravelin_arch_capabilities(void)
{
	const char *other = getenv("RAVELIN_BOCHS_ARCH_CAPABILITIES");

	return other == NULL ? 0x1f : strtoull(other, NULL, 0); /* Bochs's own: bits 4:0 */
}

static inline void ravelin_barrier(BX_CPU_C *cpu)
{
	static unsigned barriers[64];

	if (getenv("RAVELIN_BOCHS_COUNT") != NULL && ++barriers[cpu->bx_cpuid] % 100 == 0)
		fprintf(stderr, "ravelin: cpu %u: %u barriers\n", cpu->bx_cpuid,
			barriers[cpu->bx_cpuid]);
}

static inline void ravelin_count(BX_CPU_C *cpu, unsigned what)
{
	ravelin_counts[cpu->bx_cpuid][what]++;
}

#ifdef RAVELIN_CHECKS

#define RAVELIN_CPUS 64
#define RAVELIN_CPUID 10 /* the exit reason */
#define RAVELIN_RUN 500

Bit64u ravelin_counts[RAVELIN_CPUS][RAVELIN_COUNTS];

static bool ravelin_option(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && *value == '1';
}

/*
 * Once RAVELIN_RUN exits by CPUID came one after the other, with no exit of another kind
 * between, a line says what the hypervisor needed for all but the first of them.
 */
static struct {
	unsigned exits;
	Bit64u at_exit, instructions;
} ravelin_run[RAVELIN_CPUS];

static void ravelin_run_exit(BX_CPU_C *cpu, unsigned reason)
{
	unsigned n = cpu->bx_cpuid;

	if (reason != RAVELIN_CPUID)
		ravelin_run[n].exits = 0;
	else if (++ravelin_run[n].exits == 2) {
		ravelin_run[n].instructions = 0;
		for (unsigned i = 0; i < RAVELIN_COUNTS; i++)
			ravelin_counts[n][i] = 0;
	}
	ravelin_run[n].at_exit = cpu->get_icount();
}

static void ravelin_run_entry(BX_CPU_C *cpu)
{
	unsigned n = cpu->bx_cpuid;
	const Bit64u *c = ravelin_counts[n];

	/* The guest's CPUID was not counted yet at the exit, nor is VMRESUME now: one for the other. */
	ravelin_run[n].instructions += cpu->get_icount() - ravelin_run[n].at_exit;
	if (ravelin_run[n].exits != RAVELIN_RUN + 1)
		return;
	fprintf(stderr, "ravelin: cpu %u: %u CPUID exits: %u VMREADs, %u VMWRITEs, %u MSR accesses, "
		"%u instructions\n", n, RAVELIN_RUN, (unsigned)c[RAVELIN_READS],
		(unsigned)c[RAVELIN_WRITES], (unsigned)c[RAVELIN_MSRS],
		(unsigned)ravelin_run[n].instructions);
	fflush(stderr);
	ravelin_run[n].exits = 1;
}

/*
 * Bochs drops all translations at each VM entry and exit. A CPU with VPID and EPT keeps them
 * under VPID and EPT pointer (SDM vol. 3, 29.4): they are put away at an exit and are back
 * after the next entry with the same tags, unless INVEPT or INVVPID came in between.
 */
struct ravelin_tlb {
	bool valid;
	bool paging; /* without it they depend on the EPT alone: INVVPID leaves them */
	Bit16u vpid;
	Bit64u eptp;
	Bit32u dr7; /* Bochs keeps pages with breakpoints out of its TLB */
	decltype(BX_CPU_C::DTLB) dtlb;
	decltype(BX_CPU_C::ITLB) itlb;
};
#define RAVELIN_TLBS 8
static struct ravelin_tlb *ravelin_tlbs[RAVELIN_CPUS];
static unsigned ravelin_victim[RAVELIN_CPUS];

static bool ravelin_tagged(BX_CPU_C *cpu)
{
	static int on = -1;

	if (on < 0)
		on = ravelin_option("RAVELIN_BOCHS_TAGGED_TLB");
	return on && cpu->vmcs.vmexec_ctrls2.VPID_ENABLE() && cpu->vmcs.vmexec_ctrls2.EPT_ENABLE();
}

static struct ravelin_tlb *ravelin_find(BX_CPU_C *cpu)
{
	struct ravelin_tlb *t = ravelin_tlbs[cpu->bx_cpuid];

	for (unsigned i = 0; t != NULL && i < RAVELIN_TLBS; i++)
		if (t[i].valid && t[i].vpid == cpu->vmcs.vpid && t[i].eptp >> 12 == cpu->vmcs.eptptr >> 12)
			return &t[i];
	return NULL;
}

static void ravelin_tlb_put_away(BX_CPU_C *cpu)
{
	unsigned n = cpu->bx_cpuid;
	struct ravelin_tlb *t;

	if (!ravelin_tagged(cpu))
		return;
	if (ravelin_tlbs[n] == NULL)
		ravelin_tlbs[n] = new ravelin_tlb[RAVELIN_TLBS]();
	t = ravelin_find(cpu);
	if (t == NULL)
		t = &ravelin_tlbs[n][ravelin_victim[n]++ % RAVELIN_TLBS];
	t->valid = true;
	t->paging = cpu->cr0.get_PG();
	t->vpid = cpu->vmcs.vpid;
	t->eptp = cpu->vmcs.eptptr;
	t->dr7 = cpu->dr7.get32();
	t->dtlb = cpu->DTLB;
	t->itlb = cpu->ITLB;
}

static void ravelin_tlb_bring_back(BX_CPU_C *cpu)
{
	struct ravelin_tlb *t;

	if (!ravelin_tagged(cpu))
		return;
	t = ravelin_find(cpu);
	if (t == NULL || t->dr7 != cpu->dr7.get32() || t->paging != (cpu->cr0.get_PG() != 0))
		return;
	cpu->DTLB = t->dtlb;
	cpu->ITLB = t->itlb;
}

/* All: no tag is compared. */
static void ravelin_tlb_drop(BX_CPU_C *cpu, bool all, bool by_vpid, Bit64u tag)
{
	struct ravelin_tlb *t = ravelin_tlbs[cpu->bx_cpuid];

	for (unsigned i = 0; t != NULL && i < RAVELIN_TLBS; i++)
		if (by_vpid ? t[i].paging && (all || t[i].vpid == tag) : all || t[i].eptp >> 12 == tag >> 12)
			t[i].valid = false;
}

static void ravelin_exit(BX_CPU_C *cpu, unsigned reason)
{
	static int count = -1;

	/* Not where the entry failed: these are the host's translations. */
	if (cpu->in_vmx_guest)
		ravelin_tlb_put_away(cpu);
	if (count < 0)
		count = ravelin_option("RAVELIN_BOCHS_COUNT");
	if (count)
		ravelin_run_exit(cpu, reason);
}

static void ravelin_entry(BX_CPU_C *cpu)
{
	ravelin_tlb_bring_back(cpu);
	if (ravelin_run[cpu->bx_cpuid].exits > 0)
		ravelin_run_entry(cpu);
}
#endif
#endif
