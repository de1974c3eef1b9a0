/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/msr.h"
#include "arch/x86/percpu.h"
#include "arch/x86/smp.h"
#include "arch/x86/vmx/vmx.h"
#include "core/errno.h"

/*
 * A VMCS is active on at most one CPU: VMCLEAR there comes before VMPTRLD
 * elsewhere (SDM vol. 3, 25.11.1). The system-call MSRs and KERNEL_GS_BASE go the
 * same way: the hypervisor does not use them, the guest writes them without an
 * exit, so they stay in the CPU until another vCPU runs there. Then they are read
 * back, and only those that differ are written: no MSR area, no cost at an exit.
 */

static const u32 msr_numbers[VM_MSRS] = {
	[VM_STAR] = MSR_STAR,     [VM_LSTAR] = MSR_LSTAR, [VM_CSTAR] = MSR_CSTAR,
	[VM_SFMASK] = MSR_SFMASK, [VM_KERNEL_GS_BASE] = MSR_KERNEL_GS_BASE,
};

static void save_msrs(struct vmx_cpu *c)
{
	struct vmx_vcpu *vx = c->msr_owner;

	for (u32 i = 0; i < VM_MSRS; i++)
		vx->msr[i] = vmx_rdmsr(msr_numbers[i]);
	vx->msr_cpu = NO_CPU;
	c->msr_owner = NULL;
}

/* Interrupts off. */
static void load_msrs(struct vmx_cpu *c, struct vmx_vcpu *vx)
{
	u64 now[VM_MSRS];

	for (u32 i = 0; i < VM_MSRS; i++)
		now[i] = vmx_rdmsr(msr_numbers[i]);
	if (c->msr_owner != NULL) {
		for (u32 i = 0; i < VM_MSRS; i++)
			c->msr_owner->msr[i] = now[i];
		c->msr_owner->msr_cpu = NO_CPU;
	}
	for (u32 i = 0; i < VM_MSRS; i++)
		if (now[i] != vx->msr[i])
			vmx_wrmsr(msr_numbers[i], vx->msr[i]);
	c->msr_owner = vx;
	vx->msr_cpu = cpu_number();
}

/* On the CPU that has something of vx. */
static void evict_here(void *arg)
{
	struct vmx_cpu *c = vmx_this_cpu();
	struct vmx_vcpu *vx = arg;

	if (vx->running)
		return;
	if (c->msr_owner == vx)
		save_msrs(c);
	if (vx->cpu != cpu_number())
		return;
	(void)vmx_vmclear(vx->vmcs); /* fails only for an address that is no VMCS */
	if (c->current == vx)
		c->current = NULL;
	vx->launched = 0;
	vx->cpu = NO_CPU;
}

/* MSRs and VMCS may be on two CPUs. smp_call() cannot fail: the CPUs ran v. */
void vmx_evict(struct vcpu *v)
{
	struct vmx_vcpu *vx = vmx_vcpu(v);

	if (vx->cpu != NO_CPU)
		(void)smp_call(vx->cpu, evict_here, vx);
	if (vx->msr_cpu != NO_CPU)
		(void)smp_call(vx->msr_cpu, evict_here, vx);
}

/* Interrupts off; the VMCS is active nowhere else. */
static void arrive(struct vmx_vcpu *vx)
{
	bool moved = vx->cpu == NO_CPU;

	(void)vmx_vmptrld(vx->vmcs); /* as above */
	vmx_this_cpu()->current = vx;
	vx->cpu = cpu_number();
	if (!moved)
		return;
	/* The rest of the host's state is the same on every CPU, in private memory at one address. */
	vmx_write(VMCS_HOST_CR3, vmx_read_cr3());
	/* This CPU may know translations from an earlier stay, or of an earlier owner of the tags. */
	__atomic_or_fetch(&vx->vcpu->hazards, HAZ_TLB | HAZ_VMX_FLUSH, __ATOMIC_RELAXED);
}

int vmx_focus(struct vcpu *v)
{
	struct vmx_vcpu *vx = vmx_vcpu(v);
	u64 flags;

	if (likely(vmx_this_cpu()->current == vx))
		return 0;
	if (vx->cpu != NO_CPU && vx->cpu != cpu_number()) {
		(void)smp_call(vx->cpu, evict_here, vx);
		if (vx->cpu != NO_CPU)
			return -EBUSY;
	}
	flags = vmx_irq_save();
	arrive(vx);
	vmx_irq_restore(flags);
	return 0;
}

int vmx_load(struct vcpu *v)
{
	struct vmx_vcpu *vx = vmx_vcpu(v);
	struct vmx_cpu *c = vmx_this_cpu();
	int err = vmx_focus(v);
	u64 flags;

	if (err < 0 || likely(c->msr_owner == vx))
		return err;
	if (vx->msr_cpu != NO_CPU)
		(void)smp_call(vx->msr_cpu, evict_here, vx);
	flags = vmx_irq_save();
	load_msrs(c, vx);
	vmx_irq_restore(flags);
	return 0;
}

u64 vmx_get_msr(struct vcpu *v, enum vmx_msr m)
{
	struct vmx_vcpu *vx = vmx_vcpu(v);

	if (vmx_this_cpu()->msr_owner == vx)
		return vmx_rdmsr(msr_numbers[m]);
	if (vx->msr_cpu != NO_CPU)
		(void)smp_call(vx->msr_cpu, evict_here, vx);
	return vx->msr[m];
}

void vmx_set_msr(struct vcpu *v, enum vmx_msr m, u64 value)
{
	struct vmx_vcpu *vx = vmx_vcpu(v);

	if (vmx_this_cpu()->msr_owner == vx) {
		vmx_wrmsr(msr_numbers[m], value);
		return;
	}
	if (vx->msr_cpu != NO_CPU)
		(void)smp_call(vx->msr_cpu, evict_here, vx);
	vx->msr[m] = value;
}
