/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/vmx/vmx.h"
#include "arch/x86/cpu.h"
#include "arch/x86/mitigations.h"
#include "arch/x86/msr.h"
#include "arch/x86/paging.h"
#include "arch/x86/percpu.h"
#include "arch/x86/vcpu_state.h"
#include "arch/x86/virt.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/pmm.h"

struct vmx_machine vmx;

static PERCPU struct vmx_cpu vmx_cpu;

struct vmx_cpu *vmx_this_cpu(void)
{
	return &vmx_cpu;
}

/* FEATURE_CONTROL (SDM vol. 3, 24.7): may VMXON be used? Opens and locks it when it is open. */
static int check_feature_control(const char **reason)
{
	u64 fc;

	if (rdmsr_safe(MSR_FEATURE_CONTROL, &fc) < 0) {
		*reason = "the CPU has no FEATURE_CONTROL register: allow nested virtualisation where "
			  "this machine is emulated";
		return -ENODEV;
	}
	if ((fc & FEATURE_CONTROL_LOCK) == 0 &&
	    wrmsr_safe(MSR_FEATURE_CONTROL, fc | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX) == 0)
		fc = rdmsr(MSR_FEATURE_CONTROL);
	if ((fc & (FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX)) ==
	    (FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX))
		return 0;
	*reason = "VMX is disabled and locked by the firmware (FEATURE_CONTROL bit 2 clear, bit 0 set): "
		  "enable \"Intel Virtualization Technology\" in the firmware's setup";
	return -ENODEV;
}

static int vmx_probe(const char **reason)
{
	if ((cpuid(1, 0).ecx & BIT32(5)) == 0) {
		*reason = "the CPU has no VMX (CPUID 1 ECX bit 5 is clear): use an Intel CPU, or allow "
			  "nested virtualisation";
		return -ENODEV;
	}
	if (check_feature_control(reason) < 0)
		return -ENODEV;
	vmx.basic = rdmsr(MSR_VMX_BASIC);
	vmx.io_info = (vmx.basic & VMX_BASIC_IO_INFO) != 0;
	if ((vmx.basic & VMX_BASIC_32BIT) != 0) {
		*reason = "VMX structures must lie below 4 GiB (VMX_BASIC bit 48): not a 64-bit CPU";
		return -ENODEV;
	}
	return vmx_controls_init(reason);
}

static int vmx_init(void)
{
	int err = vmx_bitmaps_init();

	if (err < 0) {
		log_err("vmx: no memory for the port and MSR bitmaps (3 pages)");
		return err;
	}
	vmx.guarded = (mitigations.return_stack | mitigations.verw | mitigations.l1d_flush) != 0;
	log_info("vmx: revision 0x%lx, pin 0x%x proc 0x%x proc2 0x%x exit 0x%x entry 0x%x:%s%s%s%s",
		 vmx.basic & VMX_BASIC_REVISION, vmx.ctls.pin, vmx.ctls.proc, vmx.ctls.proc2,
		 vmx.ctls.exit, vmx.ctls.entry, vmx.vpid ? " vpid" : "",
		 vmx.ept_cap & EPT_CAP_1G ? " ept-1g" : "",
		 vmx.ctls.proc2 & PROC2_PAUSE_LOOP ? " pause-loop" : "",
		 vmx.io_info ? " io-info" : "");
	return 0;
}

/* 0, or -EIO when the CPU refuses. */
static int vmxon(paddr_t pa)
{
	u8 fail;

	__asm__ volatile("vmxon %1; setna %0" : "=q"(fail) : "m"(pa) : "cc", "memory");
	return fail ? -EIO : 0;
}

/* CR0 and CR4 as VMX operation wants them (SDM vol. 3, A.7 and A.8). */
static bool fixed_bits_hold(u64 cr0, u64 cr4)
{
	return (cr0 & vmx.cr0_fixed0) == vmx.cr0_fixed0 && (cr0 & ~vmx.cr0_fixed1) == 0 &&
	       (cr4 & vmx.cr4_fixed0) == vmx.cr4_fixed0 && (cr4 & ~vmx.cr4_fixed1) == 0;
}

static int enter_vmx(struct vmx_cpu *c, const char **reason)
{
	*(u32 *)phys_to_virt(c->vmxon) = (u32)(vmx.basic & VMX_BASIC_REVISION);
	write_cr4(read_cr4() | CR4_VMXE);
	if (!fixed_bits_hold(read_cr0(), read_cr4())) {
		*reason = "CR0 or CR4 has a bit that VMX operation does not allow (VMX_CR0_FIXED0, "
			  "VMX_CR4_FIXED1)";
	} else if (vmxon(c->vmxon) < 0) {
		*reason = "VMXON failed: VMX is on already, left so by what ran before";
	} else {
		return 0;
	}
	write_cr4(read_cr4() & ~CR4_VMXE);
	return -ENODEV;
}

static int vmx_cpu_enable(const char **reason)
{
	struct vmx_cpu *c = &vmx_cpu;

	if (check_feature_control(reason) < 0)
		return -ENODEV;
	if (!vmx_controls_match()) {
		*reason = "this CPU's VMX differs from that of the boot CPU";
		return -ENODEV;
	}
	if (c->vmxon == 0)
		c->vmxon = alloc_pages(ORDER_4K, ALLOC_ZERO);
	if (c->vmxon == 0) {
		*reason = "no memory for the VMXON region";
		return -ENOMEM;
	}
	vcpu_state_cpu_init();
	if (enter_vmx(c, reason) < 0)
		return -ENODEV;
	c->enabled = true;
	/* Nobody's translations: what ran before may have used the same tags. */
	if ((vmx.ept_cap & EPT_CAP_INVEPT_ALL) != 0)
		vmx_invept(INV_ALL, 0);
	return 0;
}

static void vmx_cpu_disable(void)
{
	struct vmx_cpu *c = &vmx_cpu;

	if (!c->enabled)
		return;
	c->enabled = false;
	__asm__ volatile("vmxoff" ::: "cc", "memory");
	write_cr4(read_cr4() & ~CR4_VMXE);
	free_pages(c->vmxon, ORDER_4K);
	c->vmxon = 0;
}

static int vmx_vm_init(struct vm *vm)
{
	return pt_init(&vm->npt, (vmx.ept_cap & EPT_CAP_1G) != 0 ? &pt_format_ept :
								   &pt_format_ept_2m);
}

static void vmx_vm_destroy(struct vm *vm)
{
	pt_destroy(&vm->npt);
}

static void vmx_flush_guest_tlb(struct vm *vm)
{
	for (u32 i = 0; i < vm->vcpus; i++)
		if (vm->vcpu[i] != NULL)
			vcpu_hazard(vm->vcpu[i], HAZ_TLB);
}

static void vmx_run(struct vcpu *v)
{
	struct vmx_vcpu *vx = v->arch;

	vcpu_state_load(v);
	if (vmx_load(v) < 0)
		return; /* another CPU looks at it: the scheduler comes back */
	cli();
	vx->running = true;
	/* Without the CPU's loop detection one PAUSE exit a run is enough. */
	vmx_proc_ctls(vx, vmx.ctls.proc & PROC_PAUSE, 0);
	vmx_write_cr2(vx->cr2);
	vmx_write_dr6(vx->dr6);
	if (vmx.guarded)
		vmx_loop_guarded(v, vx);
	else
		vmx_loop(v, vx);
	vx->cr2 = vmx_read_cr2();
	vx->dr6 = vmx_read_dr6();
	vx->running = false;
	vmx_sync_tpr(v);
	sti();
}

const struct virt_backend vmx_backend = {
	.name = "vmx",
	.isa = "Intel VMX",
	.probe = vmx_probe,
	.init = vmx_init,
	.cpu_enable = vmx_cpu_enable,
	.cpu_disable = vmx_cpu_disable,
	.vm_init = vmx_vm_init,
	.vm_destroy = vmx_vm_destroy,
	.vcpu_init = vmx_vcpu_init,
	.vcpu_destroy = vmx_vcpu_destroy,
	.vcpu_reset = vmx_vcpu_reset,
	.run = vmx_run,
	.get_reg = vmx_get_reg,
	.set_reg = vmx_set_reg,
	.get_seg = vmx_get_seg,
	.set_seg = vmx_set_seg,
	.code_state = vmx_code_state,
	.cpuid = vmx_guest_cpuid,
	.msr_read = vmx_msr_read,
	.msr_write = vmx_msr_write,
	.flush_guest_tlb = vmx_flush_guest_tlb,
	.sync_tpr = vmx_sync_tpr,
	.load_tpr = vmx_load_tpr,
	.exit_name = vmx_exit_name,
};
