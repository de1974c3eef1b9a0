/* SPDX-License-Identifier: BSD-2-Clause */
#include "sev/vmsa.h"
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "core/string.h"

/*
 * Initial save areas. Byte for byte what a launch by KVM has at reset: tools that
 * compute measurements know these values (sevctl's vmsa files).
 */
void vmsa_reset(struct vmsa *s, u32 signature, u32 reset)
{
	const struct vmcb_seg data = { .attr = 0x93, .limit = 0xffff };

	memset(s, 0, sizeof(*s));
	s->es = s->ss = s->ds = s->fs = s->gs = data;
	s->cs = (struct vmcb_seg){ 0xf000, 0x9b, 0xffff, reset & 0xffff0000U };
	s->gdtr.limit = s->idtr.limit = 0xffff;
	s->ldtr = (struct vmcb_seg){ .attr = 0x82, .limit = 0xffff };
	s->tr = (struct vmcb_seg){ .attr = 0x8b, .limit = 0xffff };
	s->efer = VMSA_EFER;
	s->cr4 = VMSA_CR4;
	s->cr0 = VMSA_CR0;
	s->dr7 = 0x400;
	s->dr6 = 0xffff0ff0;
	s->rflags = RFLAGS_FIXED1;
	s->rip = reset & 0xffffU;
	s->g_pat = PAT_RESET;
	s->rdx = signature;
	s->xcr0 = 1;
}

void vmsa_direct(struct vmsa *s, u32 signature, u32 entry, u32 vcpu, u32 info)
{
	const struct vmcb_seg data = { 0x18, 0xc93, 0xffffffff, 0 };

	vmsa_reset(s, signature, 0);
	s->es = s->ss = s->ds = s->fs = s->gs = data;
	s->cs = (struct vmcb_seg){ 0x10, 0xc9b, 0xffffffff, 0 };
	s->cr0 = VMSA_CR0 | CR0_PE;
	s->rip = entry;
	s->rbx = vcpu;
	s->rsi = info;
}
