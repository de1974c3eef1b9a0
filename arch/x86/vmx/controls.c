/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/vmx/vmx.h"
#include "core/errno.h"

/*
 * Execution, exit and entry controls (SDM vol. 3, A.3 to A.5). A capability
 * register says in its low half which bits must be 1, in its high half which may
 * be. With the "true" registers some of the traditional must-be-1 bits may be 0:
 * exits at MOV to and from CR3 among them.
 */

#define LOW(cap) ((u32)(cap))
#define HIGH(cap) ((u32)((cap) >> 32))

u32 vmx_adjust(u64 cap, u32 want)
{
	return (want | LOW(cap)) & HIGH(cap);
}

/* A control word: what we cannot do without, and what we like to have. */
struct word {
	u32 msr, true_msr;
	u32 need, like;
	size_t offset; /* in struct vmx_controls */
	const char *lacks;
};

/* In the order in which a CPU is refused: what is missing on the older ones first. */
enum { WORD_PROC, WORD_PROC2 };

static const struct word words[] = {
	[WORD_PROC] = { MSR_VMX_PROC_CTLS, MSR_VMX_TRUE_PROC_CTLS,
	  PROC_INTR_WINDOW | PROC_NMI_WINDOW | PROC_TSC_OFFSET | PROC_HLT | PROC_MWAIT |
	  PROC_MONITOR | PROC_RDPMC | PROC_TPR_SHADOW | PROC_IO_BITMAPS | PROC_MSR_BITMAPS |
	  PROC_SECONDARY, 0,
	  offsetof(struct vmx_controls, proc),
	  "VMX lacks TPR shadow, bitmaps or secondary controls (VMX_PROCBASED_CTLS): use a CPU of "
	  "2008 or later" },
	[WORD_PROC2] = { MSR_VMX_PROC2_CTLS, MSR_VMX_PROC2_CTLS, 0,
	  PROC2_EPT | PROC2_UNRESTRICTED | PROC2_RDTSCP | PROC2_VPID | PROC2_WBINVD |
	  PROC2_PAUSE_LOOP | PROC2_INVPCID,
	  offsetof(struct vmx_controls, proc2), NULL },
	{ MSR_VMX_PIN_CTLS, MSR_VMX_TRUE_PIN_CTLS, PIN_EXT_INTR | PIN_NMI | PIN_VIRTUAL_NMI, 0,
	  offsetof(struct vmx_controls, pin),
	  "VMX lacks exits at interrupts or virtual NMIs (VMX_PINBASED_CTLS): use a CPU of 2008 or "
	  "later" },
	{ MSR_VMX_EXIT_CTLS, MSR_VMX_TRUE_EXIT_CTLS,
	  EXIT_SAVE_DEBUG | EXIT_HOST_64 | EXIT_ACK_INTR | EXIT_LOAD_PAT | EXIT_SAVE_EFER |
	  EXIT_LOAD_EFER, 0,
	  offsetof(struct vmx_controls, exit),
	  "VMX cannot acknowledge interrupts or load PAT and EFER at exits (VMX_EXIT_CTLS): use a "
	  "CPU of 2008 or later" },
	{ MSR_VMX_ENTRY_CTLS, MSR_VMX_TRUE_ENTRY_CTLS,
	  ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER, 0,
	  offsetof(struct vmx_controls, entry),
	  "VMX cannot load PAT and EFER at entries (VMX_ENTRY_CTLS): use a CPU of 2008 or later" },
};

static u64 capability(const struct word *w)
{
	return vmx_rdmsr((vmx.basic & VMX_BASIC_TRUE_CTLS) != 0 ? w->true_msr : w->msr);
}

static u32 *place(struct vmx_controls *c, const struct word *w)
{
	return (u32 *)((char *)c + w->offset);
}

static int check_ept(const char **reason)
{
	if ((vmx.ctls.proc2 & PROC2_EPT) == 0) {
		*reason = "VMX has no EPT (VMX_PROCBASED_CTLS2 bit 1): use a CPU of 2010 or later";
		return -ENODEV;
	}
	if ((vmx.ctls.proc2 & PROC2_UNRESTRICTED) == 0) {
		*reason = "VMX has no unrestricted guest (VMX_PROCBASED_CTLS2 bit 7), without which "
			  "real mode does not run: use a CPU of 2010 or later";
		return -ENODEV;
	}
	vmx.ept_cap = vmx_rdmsr(MSR_VMX_EPT_VPID_CAP);
	if ((vmx.ept_cap & (EPT_CAP_WALK4 | EPT_CAP_WB)) != (EPT_CAP_WALK4 | EPT_CAP_WB) ||
	    (vmx.ept_cap & EPT_CAP_2M) == 0) {
		*reason = "EPT lacks four levels, write-back tables or 2M pages (VMX_EPT_VPID_CAP): "
			  "use a CPU of 2010 or later";
		return -ENODEV;
	}
	if ((vmx.ept_cap & EPT_CAP_INVEPT) == 0 ||
	    (vmx.ept_cap & (EPT_CAP_INVEPT_SINGLE | EPT_CAP_INVEPT_ALL)) == 0) {
		*reason = "EPT cannot be invalidated: no INVEPT (VMX_EPT_VPID_CAP bit 20)";
		return -ENODEV;
	}
	return 0;
}

int vmx_controls_init(const char **reason)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		const struct word *w = &words[i];
		u64 cap;

		cap = capability(w);
		if ((HIGH(cap) & w->need) != w->need) {
			*reason = w->lacks;
			return -ENODEV;
		}
		*place(&vmx.ctls, w) = vmx_adjust(cap, w->need | w->like);
		if (i == WORD_PROC2 && check_ept(reason) < 0)
			return -ENODEV;
	}
	vmx.cr0_fixed0 = vmx_rdmsr(MSR_VMX_CR0_FIXED0);
	vmx.cr0_fixed1 = vmx_rdmsr(MSR_VMX_CR0_FIXED1);
	vmx.cr4_fixed0 = vmx_rdmsr(MSR_VMX_CR4_FIXED0);
	vmx.cr4_fixed1 = vmx_rdmsr(MSR_VMX_CR4_FIXED1);
	/* A tag whose translations cannot be invalidated is of no use. */
	vmx.vpid = (vmx.ctls.proc2 & PROC2_VPID) != 0 && (vmx.ept_cap & VPID_CAP_INVVPID) != 0 &&
		   (vmx.ept_cap & VPID_CAP_INVVPID_SINGLE) != 0;
	if (!vmx.vpid)
		vmx.ctls.proc2 &= ~PROC2_VPID;
	/* One PAUSE exit a run where the CPU does not find loops itself: see vmx_run(). */
	if ((vmx.ctls.proc2 & PROC2_PAUSE_LOOP) == 0)
		vmx.ctls.proc |= PROC_PAUSE & HIGH(capability(&words[WORD_PROC]));
	return 0;
}

bool vmx_controls_match(void)
{
	if (vmx_rdmsr(MSR_VMX_BASIC) != vmx.basic ||
	    vmx_rdmsr(MSR_VMX_EPT_VPID_CAP) != vmx.ept_cap)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		u32 have = *place(&vmx.ctls, &words[i]);

		if (vmx_adjust(capability(&words[i]), have) != have)
			return false;
	}
	return true;
}
