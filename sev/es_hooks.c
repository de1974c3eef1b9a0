/* SPDX-License-Identifier: BSD-2-Clause */
#include "sev/es_hooks.h"

#ifdef ES_TEST_HOOKS
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/percpu.h"
#include "arch/x86/svm/svm.h"
#include "core/log.h"
#include "core/pmm.h"
#include "core/shell.h"
#include "core/string.h"
#include "sev/es.h"
#include "sev/es_entry.h"
#include "sev/vmsa.h"

u32 es_hooks;

void es_hook_intercepts(struct vmcb *b)
{
	if (es_hook(ES_HOOK_INTERCEPTS)) {
		b->intercept_cr |= BIT32(SVM_EXIT_CR8_WRITE);
		b->intercept4 |= VMCB_I4_XSETBV;
	}
	if (es_hook(ES_HOOK_NO_INVD))
		b->intercept3 &= ~VMCB_I3_INVD;
	if (es_hook(ES_HOOK_NO_CR4_TRAP))
		b->intercept4 &= ~VMCB_I4_CR_TRAP(4);
	if (es_hook(ES_HOOK_VMSA_ALIGN))
		b->vmsa_pa += 16;
	if (es_hook(ES_HOOK_VMSA_C_BIT))
		b->vmsa_pa |= BIT(sev_facts.c_bit);
}

/* --- the host's registers over an entry --- */

static const u32 host_msrs[] = {
	MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK,
	MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_EFER, MSR_PAT,
};

struct host_state {
	u64 msr[ARRAY_SIZE(host_msrs)];
	u64 xcr0, cr0, cr3, cr4, dr7;
	u16 tr, fs, gs;
};

static PERCPU struct {
	u64 entries, reported;
} checked;

static void read_host(struct host_state *s)
{
	memset(s, 0, sizeof(*s));
	for (size_t i = 0; i < ARRAY_SIZE(host_msrs); i++)
		s->msr[i] = rdmsr(host_msrs[i]);
	s->xcr0 = cpu_features.xsave ? xgetbv(0) : 0;
	s->cr0 = read_cr0();
	s->cr3 = read_cr3();
	s->cr4 = read_cr4();
	__asm__ volatile("mov %%dr7, %0" : "=r"(s->dr7));
	__asm__ volatile("str %0" : "=r"(s->tr));
	__asm__ volatile("mov %%fs, %0" : "=r"(s->fs));
	__asm__ volatile("mov %%gs, %0" : "=r"(s->gs));
}

/* What #VMEXIT loads is ciphertext then: the host's own is put back before anybody needs it. */
static u64 enter_hsave_plain(paddr_t vmcb_pa, struct vmsa *host, const u64 *pattern,
			     struct host_state *after)
{
	const struct svm_cpu *c = svm_this_cpu();
	u64 xcr0 = cpu_features.xsave ? xgetbv(0) : 0, wrong;

	svm_vmsave(c->host_vmcb);
	wrmsr(MSR_VM_HSAVE_PA, c->pages);
	wrong = es_enter_checked(vmcb_pa, host, pattern, es_enter);
	wrmsr(MSR_VM_HSAVE_PA, c->hsave);
	read_host(after);
	svm_vmload(c->host_vmcb);
	if (cpu_features.xsave)
		xsetbv(0, xcr0);
	return wrong;
}

void es_hook_enter(paddr_t vmcb_pa, struct vmsa *host)
{
	static const char *const name[] = { "rbx", "rbp", "r12", "r13", "r14", "r15" };
	static const u64 pattern[ARRAY_SIZE(name)] = {
		0x1111222233334441, 0x1111222233334442, 0x1111222233334443,
		0x1111222233334444, 0x1111222233334445, 0x1111222233334446,
	};
	struct host_state before, after;
	u64 wrong;

	read_host(&before);
	if (es_hook(ES_HOOK_HSAVE_PLAIN))
		wrong = enter_hsave_plain(vmcb_pa, host, pattern, &after);
	else if (es_hook(ES_HOOK_SKIP_R13))
		wrong = es_enter_checked(vmcb_pa, host, pattern, es_enter_skip_r13);
	else
		wrong = es_enter_checked(vmcb_pa, host, pattern,
					 svm.guarded ? es_enter_guarded : es_enter);
	if (!es_hook(ES_HOOK_HSAVE_PLAIN))
		read_host(&after);
	checked.entries++;
	if (wrong == 0 && memcmp(&before, &after, sizeof(before)) == 0)
		return;
	if (checked.reported++ > 8)
		return;
	for (u32 i = 0; i < ARRAY_SIZE(name); i++)
		if ((wrong >> i & 1) != 0)
			log_err("eshook: %s was not kept", name[i]);
	if (memcmp(&before, &after, sizeof(before)) != 0)
		log_err("eshook: a host register was not kept");
}

/* --- after the launch --- */

/* The two pages behind the image's first one. */
#define SWAP_GPA 0x101000UL

static void set_registers(struct vcpu *v)
{
	static const enum vreg reg[] = { VREG_RIP, VREG_CR0, VREG_EFER };

	for (u32 i = 0; i < ARRAY_SIZE(reg); i++)
		log_err("eshook: setting register: error %d", -virt->set_reg(v, reg[i], 0));
	((struct vmsa *)phys_to_virt(v->es->vmsa))->rip ^= 1;
}

void es_hook_launched(struct vm *vm)
{
	size_t len = 2 * PAGE_SIZE;
	paddr_t pa;

	if (es_hook(ES_HOOK_VMSA_LATE))
		set_registers(vm->vcpu[0]);
	if (!es_hook(ES_HOOK_SWAP_PAGES))
		return;
	pa = virt_to_phys(vm_ram_ptr(vm, SWAP_GPA, &len, false));
	(void)pt_unmap(&vm->npt, SWAP_GPA, 2 * PAGE_SIZE);
	(void)pt_map(&vm->npt, SWAP_GPA, pa + PAGE_SIZE, PAGE_SIZE, PT_RWX | PT_USER | PT_ENCRYPTED);
	(void)pt_map(&vm->npt, SWAP_GPA + PAGE_SIZE, pa, PAGE_SIZE, PT_RWX | PT_USER | PT_ENCRYPTED);
}

/* --- shell --- */

static int hook_command(int argc, char **argv)
{
	static const char *const name[ES_HOOKS] = {
		[ES_HOOK_INTERCEPTS] = "intercepts", [ES_HOOK_NO_HOLES] = "no-holes",
		[ES_HOOK_AFTER_SHUTDOWN] = "after-shutdown", [ES_HOOK_NO_INVD] = "no-invd",
		[ES_HOOK_CR0] = "cr0", [ES_HOOK_NO_CR4_TRAP] = "no-cr4-trap",
		[ES_HOOK_VMSA_BYTE] = "vmsa-byte", [ES_HOOK_SOFT_INT] = "soft-int",
		[ES_HOOK_VECTOR3] = "vector3", [ES_HOOK_VMSA_ALIGN] = "vmsa-align",
		[ES_HOOK_VMSA_C_BIT] = "vmsa-c-bit", [ES_HOOK_NO_FLUSH] = "no-flush",
		[ES_HOOK_SKIP_R13] = "skip-r13", [ES_HOOK_NO_FINISH] = "no-finish",
		[ES_HOOK_SWAP_PAGES] = "swap-pages", [ES_HOOK_VERSION3] = "version3",
		[ES_HOOK_KERNEL_BYTE] = "kernel-byte", [ES_HOOK_INITRD_BYTE] = "initrd-byte",
		[ES_HOOK_CMDLINE_BYTE] = "cmdline-byte", [ES_HOOK_VMSA_LATE] = "vmsa-late",
		[ES_HOOK_HSAVE_PLAIN] = "hsave-plain", [ES_HOOK_CHECK] = "check",
	};

	es_hooks = 0;
	for (int i = 1; i < argc; i++)
		for (u32 n = 0; n < ES_HOOKS; n++)
			if (!strcmp(argv[i], name[n]))
				es_hooks |= BIT32(n);
	log_printf("hooks 0x%x, %lu entries checked on CPU 0, by %s\n", es_hooks, checked.entries,
		   svm.guarded ? "es_enter_guarded" : "es_enter");
	return 0;
}
SHELL_COMMAND(eshook, hook_command, "[NAME...]", "deliberate mistakes of the SEV-ES code");
#endif
