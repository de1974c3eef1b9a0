/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/percpu.h"
#include "arch/x86/svm/svm.h"

/*
 * Each CPU hands out its own ASIDs (APM vol. 2, 15.16). When they are used up a
 * new generation starts: everything is flushed once and all vCPUs take a new
 * ASID at their next entry. So a plain flush of one guest is a new ASID; only a
 * guest with a fixed ASID (encrypted memory) needs TLB_CONTROL for it.
 */
/* svm_asid_enter() has something to do. */
static void look_again(struct vcpu *v)
{
	__atomic_or_fetch(&v->hazards, HAZ_SVM_FLUSH, __ATOMIC_RELAXED);
}

static void new_asid(struct vcpu *v)
{
	struct svm_cpu *c = svm_this_cpu();
	struct svm_vcpu *sv = svm_vcpu(v);

	if (c->asid_next >= svm.asids) {
		c->asid_next = svm.first_asid;
		c->asid_generation++;
		c->flush_all = true;
	}
	sv->asid_generation = c->asid_generation;
	vmcb_set_asid(sv->vmcb, c->asid_next++);
}

void svm_asid_load(struct vcpu *v)
{
	struct svm_vcpu *sv = svm_vcpu(v);
	u32 here = cpu_number();
	bool moved = sv->cpu != here;

	if (moved) {
		/* This CPU may hold a stale copy of the VMCB's fields (APM vol. 2, 15.15.2). */
		sv->vmcb->clean = 0;
		sv->cpu = here;
	}
	if (sv->fixed_asid != 0) {
		vmcb_set_asid(sv->vmcb, sv->fixed_asid);
		sv->flush |= moved;
	} else if (moved || sv->asid_generation != svm_this_cpu()->asid_generation) {
		new_asid(v);
	}
	/* Perhaps a flush of this CPU that another vCPU asked for and did not get to. */
	if (svm_this_cpu()->flush_all || sv->flush)
		look_again(v);
}

void svm_asid_flush(struct vcpu *v)
{
	vcpu_hazard_clear(v, HAZ_TLB);
	if (svm_vcpu(v)->fixed_asid != 0)
		svm_vcpu(v)->flush = true;
	else
		new_asid(v);
}

void svm_asid_enter(struct vcpu *v)
{
	struct svm_cpu *c = svm_this_cpu();
	struct svm_vcpu *sv = svm_vcpu(v);

	if (!c->flush_all && !sv->flush) {
		sv->vmcb->tlb_control = VMCB_TLB_NOTHING;
		vcpu_hazard_clear(v, HAZ_SVM_FLUSH);
		return;
	}
	if (c->flush_all || (svm.features & SVM_FEAT_FLUSH_ASID) == 0)
		sv->vmcb->tlb_control = VMCB_TLB_FLUSH_ALL;
	else
		sv->vmcb->tlb_control = VMCB_TLB_FLUSH_ASID;
	c->flush_all = false;
	sv->flush = false;
	/* The CPU leaves TLB_CONTROL as it is: the next entry must come by here again. */
	look_again(v);
}
