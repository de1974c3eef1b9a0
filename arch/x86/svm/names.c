/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/svm/svm.h"

/* Names of exit codes (APM vol. 2, appendix C), for statistics and reports. */

static const char *const names[SVM_EXIT_CODES - SVM_EXIT_INTR] = {
	"INTR", "NMI", "SMI", "INIT", "VINTR", "CR0_SEL_WRITE", "IDTR_READ", "GDTR_READ",
	"LDTR_READ", "TR_READ", "IDTR_WRITE", "GDTR_WRITE", "LDTR_WRITE", "TR_WRITE", "RDTSC",
	"RDPMC", "PUSHF", "POPF", "CPUID", "RSM", "IRET", "SWINT", "INVD", "PAUSE", "HLT",
	"INVLPG", "INVLPGA", "IOIO", "MSR", "TASK_SWITCH", "FERR_FREEZE", "SHUTDOWN", "VMRUN",
	"VMMCALL", "VMLOAD", "VMSAVE", "STGI", "CLGI", "SKINIT", "RDTSCP", "ICEBP", "WBINVD",
	"MONITOR", "MWAIT", "MWAIT_CONDITIONAL", "XSETBV", "RDPRU", "EFER_WRITE_TRAP",
	"CR0_WRITE_TRAP", "CR1_WRITE_TRAP", "CR2_WRITE_TRAP", "CR3_WRITE_TRAP",
	"CR4_WRITE_TRAP", "CR5_WRITE_TRAP", "CR6_WRITE_TRAP", "CR7_WRITE_TRAP",
	"CR8_WRITE_TRAP", "CR9_WRITE_TRAP", "CR10_WRITE_TRAP", "CR11_WRITE_TRAP",
	"CR12_WRITE_TRAP", "CR13_WRITE_TRAP", "CR14_WRITE_TRAP", "CR15_WRITE_TRAP", "INVLPGB",
	"INVLPGB_ILLEGAL", "INVPCID", "MCOMMIT", "TLBSYNC", "BUS_LOCK", "IDLE_HLT",
};

const char *svm_exit_name(u64 code)
{
	if ((u32)code == SVM_EXIT_INVALID)
		return "INVALID";
	if ((u32)code == SVM_EXIT_BUSY)
		return "BUSY";
	if (code < SVM_EXIT_DR0_READ)
		return code < SVM_EXIT_CR0_WRITE ? "CR_READ" : "CR_WRITE";
	if (code < SVM_EXIT_EXCP0)
		return code < SVM_EXIT_DR0_WRITE ? "DR_READ" : "DR_WRITE";
	if (code < SVM_EXIT_INTR)
		return "EXCEPTION";
	if (code < SVM_EXIT_CODES)
		return names[code - SVM_EXIT_INTR];
	switch (code) {
	case SVM_EXIT_NPF: return "NPF";
	case SVM_EXIT_AVIC_IPI: return "AVIC_INCOMPLETE_IPI";
	case SVM_EXIT_AVIC_NOACCEL: return "AVIC_NOACCEL";
	case SVM_EXIT_VMGEXIT: return "VMGEXIT";
	case SVM_EXIT_PAGE_NOT_VALIDATED: return "PAGE_NOT_VALIDATED";
	default: return "unknown";
	}
}
