/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/vmx/vmx.h"

/* Names of basic exit reasons and VM-instruction errors, for statistics and reports. */

static const char *const reasons[VMX_EXIT_REASONS] = {
	"EXCEPTION_NMI", "EXTERNAL_INTERRUPT", "TRIPLE_FAULT", "INIT", "SIPI", "IO_SMI",
	"OTHER_SMI", "INTERRUPT_WINDOW", "NMI_WINDOW", "TASK_SWITCH", "CPUID", "GETSEC", "HLT",
	"INVD", "INVLPG", "RDPMC", "RDTSC", "RSM", "VMCALL", "VMCLEAR", "VMLAUNCH", "VMPTRLD",
	"VMPTRST", "VMREAD", "VMRESUME", "VMWRITE", "VMXOFF", "VMXON", "CR_ACCESS", "DR_ACCESS",
	"IO", "RDMSR", "WRMSR", "BAD_GUEST_STATE", "BAD_MSR_AREA", NULL, "MWAIT", "MONITOR_TRAP",
	NULL, "MONITOR", "PAUSE", "ENTRY_MACHINE_CHECK", NULL, "TPR_BELOW_THRESHOLD",
	"APIC_ACCESS", "VIRTUALIZED_EOI", "GDTR_IDTR", "LDTR_TR", "EPT_VIOLATION", "EPT_MISCONFIG",
	"INVEPT", "RDTSCP", "PREEMPTION_TIMER", "INVVPID", "WBINVD", "XSETBV", "APIC_WRITE",
	"RDRAND", "INVPCID", "VMFUNC", "ENCLS", "RDSEED", "PML_FULL", "XSAVES", "XRSTORS",
	"PCONFIG", "SPP", "UMWAIT", "TPAUSE", "LOADIWKEY", "ENCLV", NULL, "ENQCMD", "ENQCMDS",
	"BUS_LOCK", "INSTRUCTION_TIMEOUT", "SEAMCALL", "TDCALL", "RDMSRLIST", "WRMSRLIST",
};

const char *vmx_exit_name(u64 code)
{
	u64 basic = code & VMX_REASON_BASIC;

	if (basic >= VMX_EXIT_REASONS || reasons[basic] == NULL)
		return "unknown";
	return reasons[basic];
}

/* SDM vol. 3, 31.4. */
static const char *const errors[] = {
	"no current VMCS",
	"VMCALL in VMX root operation",
	"VMCLEAR with an invalid physical address",
	"VMCLEAR with the VMXON pointer",
	"VMLAUNCH with a VMCS that is not clear",
	"VMRESUME with a VMCS that is not launched",
	"VMRESUME after VMXOFF",
	"invalid control field",
	"invalid host-state field",
	"VMPTRLD with an invalid physical address",
	"VMPTRLD with the VMXON pointer",
	"VMPTRLD with a wrong revision identifier",
	"VMREAD or VMWRITE of a field that does not exist",
	"VMWRITE of a read-only field",
	NULL,
	"VMXON in VMX root operation",
	"invalid executive-VMCS pointer",
	"executive VMCS that is not launched",
	"executive-VMCS pointer is not the VMXON pointer",
	"VMCALL with a VMCS that is not clear",
	"VMCALL with invalid exit controls",
	NULL,
	"VMCALL with a wrong MSEG revision identifier",
	"VMXOFF under dual-monitor treatment",
	"VMCALL with invalid SMM-monitor features",
	"invalid execution controls in the executive VMCS",
	"events blocked by MOV SS",
	NULL,
	"invalid operand to INVEPT or INVVPID",
};

const char *vmx_error_name(u64 error)
{
	if (error >= ARRAY_SIZE(errors) || errors[error] == NULL)
		return "unknown error";
	return errors[error];
}
