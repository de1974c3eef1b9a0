/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/svm/svm.h"
#include "arch/x86/cpu.h"
#include "arch/x86/mitigations.h"
#include "arch/x86/msr.h"
#include "arch/x86/percpu.h"
#include "arch/x86/vcpu_state.h"
#include "arch/x86/virt.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/pmm.h"
#include "core/string.h"
#include "sev/es.h"

#define CPUID_SVM 0x8000000aU
#define CPUID_SEV 0x8000001fU

struct svm_machine svm;

static PERCPU struct svm_cpu svm_cpu;

struct svm_cpu *svm_this_cpu(void)
{
	return &svm_cpu;
}

static void read_features(void)
{
	struct cpuid_regs r = cpuid(CPUID_SVM, 0);
	struct cpuid_regs sev = cpuid_if(CPUID_SEV, 0);

	svm.features = r.edx;
	svm.asids = r.ebx;
	svm.nrips = (r.edx & SVM_FEAT_NRIPS) != 0;
	svm.decode = (r.edx & SVM_FEAT_DECODE) != 0;
	svm.vnmi = (r.edx & SVM_FEAT_VNMI) != 0;
	svm.clean = (r.edx & SVM_FEAT_CLEAN) != 0 ? VMCB_CLEAN_ALL : 0;
	svm.cr8_quirk = cpu_features.tcg; /* see irq_window() */
	/* ASIDs up to ECX of the SEV leaf are for encrypted guests (APM vol. 3, E.4.17). */
	svm.first_asid = 1;
	if ((sev.eax & BIT32(1)) != 0 && sev.ecx + 2 < svm.asids)
		svm.first_asid = sev.ecx + 1;
}

/* VM_CR (APM vol. 2, 15.30.1): may EFER.SVME be set? Opens it when it is not locked. */
static int check_vm_cr(const char **reason)
{
	u64 cr;

	if (rdmsr_safe(MSR_VM_CR, &cr) < 0 || (cr & VM_CR_SVMDIS) == 0)
		return 0;
	if ((cr & VM_CR_LOCK) != 0) {
		*reason = "SVM is disabled and locked by the firmware (VM_CR.SVMDIS, LOCK): "
			  "enable \"SVM mode\" in the firmware's setup";
		return -ENODEV;
	}
	if (wrmsr_safe(MSR_VM_CR, cr & ~VM_CR_SVMDIS) < 0 || (rdmsr(MSR_VM_CR) & VM_CR_SVMDIS)) {
		*reason = "SVM is disabled (VM_CR.SVMDIS) and cannot be enabled: "
			  "enable \"SVM mode\" in the firmware's setup";
		return -ENODEV;
	}
	return 0;
}

static int svm_probe(const char **reason)
{
	if ((cpuid_if(0x80000001U, 0).ecx & BIT32(2)) == 0) {
		*reason = "the CPU has no SVM (CPUID 8000_0001 ECX bit 2 is clear): use an AMD CPU, or "
			  "allow nested virtualisation (QEMU: -cpu ...,+svm)";
		return -ENODEV;
	}
	if (check_vm_cr(reason) < 0)
		return -ENODEV;
	read_features();
	if ((svm.features & SVM_FEAT_NP) == 0) {
		*reason = "SVM has no nested paging (CPUID 8000_000A EDX bit 0 is clear): use a CPU of "
			  "2008 or later (QEMU: -cpu ...,+npt)";
		return -ENODEV;
	}
	if (svm.asids < 2) {
		*reason = "SVM offers no address space number for guests (CPUID 8000_000A EBX below 2)";
		return -ENODEV;
	}
	return 0;
}

static int svm_init(void)
{
	int err = svm_bitmaps_init();

	if (err < 0) {
		log_err("svm: no memory for the port and MSR bitmaps (5 pages)");
		return err;
	}
	svm.guarded = mitigations.return_stack != 0;
	log_info("svm: %u ASIDs, features 0x%x:%s%s%s%s%s%s", svm.asids, svm.features,
		 svm.nrips ? " nrips" : "", svm.decode ? " decode-assists" : "",
		 svm.clean != 0 ? " clean-bits" : "",
		 svm.features & SVM_FEAT_FLUSH_ASID ? " flush-by-asid" : "",
		 svm.features & SVM_FEAT_PAUSE_FILTER ? " pause-filter" : "",
		 svm.vnmi ? " vnmi" : "");
	return 0;
}

static int svm_cpu_enable(const char **reason)
{
	struct svm_cpu *c = &svm_cpu;

	if (check_vm_cr(reason) < 0)
		return -ENODEV;
	if ((cpuid(CPUID_SVM, 0).edx & svm.features) != svm.features) {
		*reason = "this CPU's SVM lacks a feature that the boot CPU has";
		return -ENODEV;
	}
	if (c->pages == 0)
		c->pages = alloc_pages(1, ALLOC_ZERO);
	if (c->pages == 0) {
		*reason = "no memory for the host save area";
		return -ENOMEM;
	}
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	c->hsave = machine_pa(c->pages);
	c->host_vmcb = c->hsave + PAGE_SIZE;
	wrmsr(MSR_VM_HSAVE_PA, c->hsave);
	c->asid_next = svm.first_asid;
	c->asid_generation++;
	c->flush_all = true;
	c->enabled = true;
	vcpu_state_cpu_init();
	return 0;
}

static void svm_cpu_disable(void)
{
	struct svm_cpu *c = &svm_cpu;

	if (!c->enabled)
		return;
	c->enabled = false;
	wrmsr(MSR_VM_HSAVE_PA, 0);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_SVME);
	free_pages(c->pages, 1);
	c->pages = 0;
}

static int svm_vm_init(struct vm *vm)
{
	return pt_init(&vm->npt, &pt_format_npt);
}

static void svm_vm_destroy(struct vm *vm)
{
	pt_destroy(&vm->npt);
}

static void svm_flush_guest_tlb(struct vm *vm)
{
	for (u32 i = 0; i < vm->vcpus; i++)
		if (vm->vcpu[i] != NULL)
			vcpu_hazard(vm->vcpu[i], HAZ_TLB);
}

static void svm_run(struct vcpu *v)
{
	struct svm_vcpu *sv = v->arch;
	paddr_t host = svm_cpu.host_vmcb;

	if (v->trap_protected) {
		es_run(v);
		return;
	}
	vcpu_state_load(v);
	/* RFLAGS.IF stays set: host interrupts wait for GIF, and end guest mode. */
	svm_clgi();
	svm_vmsave(host);
	svm_asid_load(v);
	svm_pause_intercept(sv->vmcb, true);
	sv->vmcb->rax = v->gpr[GPR_RAX];
	svm_vmload(sv->vmcb_pa);
	sv->loaded = true;
	if (svm.guarded)
		svm_loop_guarded(v, sv->vmcb_pa, sv->vmcb);
	else
		svm_loop(v, sv->vmcb_pa, sv->vmcb);
	svm_vmsave(sv->vmcb_pa);
	sv->loaded = false;
	v->gpr[GPR_RAX] = sv->vmcb->rax;
	svm_sync_tpr(v);
	svm_vmload(host);
	svm_stgi();
}

const struct virt_backend svm_backend = {
	.name = "svm",
	.isa = "AMD SVM",
	.probe = svm_probe,
	.init = svm_init,
	.cpu_enable = svm_cpu_enable,
	.cpu_disable = svm_cpu_disable,
	.vm_init = svm_vm_init,
	.vm_destroy = svm_vm_destroy,
	.vcpu_init = svm_vcpu_init,
	.vcpu_destroy = svm_vcpu_destroy,
	.vcpu_reset = svm_vcpu_reset,
	.run = svm_run,
	.get_reg = svm_get_reg,
	.set_reg = svm_set_reg,
	.get_seg = svm_get_seg,
	.set_seg = svm_set_seg,
	.code_state = svm_code_state,
	.cpuid = svm_guest_cpuid,
	.msr_read = svm_msr_read,
	.msr_write = svm_msr_write,
	.flush_guest_tlb = svm_flush_guest_tlb,
	.sync_tpr = svm_sync_tpr,
	.load_tpr = svm_load_tpr,
	.exit_name = svm_exit_name,
};
