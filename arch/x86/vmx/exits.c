/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/decode.h"
#include "arch/x86/emulate.h"
#include "arch/x86/gwalk.h"
#include "arch/x86/msr.h"
#include "arch/x86/traps.h"
#include "arch/x86/vmx/vmx.h"
#include "core/string.h"
#include "core/trace.h"

/*
 * From a VM exit to a neutral exit, and on to the next entry. docs/vmx-exits.md says
 * for every basic exit reason what happens and why.
 */

#define DR6_BS BIT(14)
#define DR7_GD BIT(13)

/* What a reason needs beyond its kind. */
enum disposition {
	D_UNKNOWN,  /* never asked for: the VM is stopped with a report */
	D_PLAIN,    /* the kind says it all */
	D_EXCEPTION,
	D_EXT_INTR,
	D_SIGNAL,   /* of the machine, not of the guest */
	D_WINDOW,
	D_CR,
	D_IO,
	D_EPT,
	D_FATAL,    /* with words of its own */
	D_PAUSE
};

struct rule {
	u8 disposition;
	u8 kind;
	const char *why; /* D_FATAL */
};

static const struct rule rules[VMX_EXIT_REASONS] = {
	[VMX_EXIT_EXCEPTION_NMI] = { D_EXCEPTION, VEXIT_EXCEPTION, NULL },
	[VMX_EXIT_EXT_INTR] = { D_EXT_INTR, VEXIT_INTERRUPT, NULL },
	[VMX_EXIT_TRIPLE_FAULT] = { D_PLAIN, VEXIT_SHUTDOWN, NULL },
	[VMX_EXIT_INIT] = { D_SIGNAL, VEXIT_INTERRUPT, NULL },
	[VMX_EXIT_SIPI] = { D_SIGNAL, VEXIT_INTERRUPT, NULL },
	[VMX_EXIT_INTR_WINDOW] = { D_WINDOW, VEXIT_WINDOW, NULL },
	[VMX_EXIT_NMI_WINDOW] = { D_WINDOW, VEXIT_WINDOW, NULL },
	[VMX_EXIT_TASK_SWITCH] = { D_PLAIN, VEXIT_TASK_SWITCH, NULL },
	[VMX_EXIT_CPUID] = { D_PLAIN, VEXIT_CPUID, NULL },
	[VMX_EXIT_GETSEC] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_HLT] = { D_PLAIN, VEXIT_HLT, NULL },
	[VMX_EXIT_INVD] = { D_PLAIN, VEXIT_WBINVD, NULL },
	[VMX_EXIT_RDPMC] = { D_PLAIN, VEXIT_RDPMC, NULL },
	[VMX_EXIT_RSM] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_VMCALL] = { D_PLAIN, VEXIT_HYPERCALL, NULL },
	[VMX_EXIT_VMCLEAR ... VMX_EXIT_VMXON] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_CR_ACCESS] = { D_CR, VEXIT_NOTHING, NULL },
	[VMX_EXIT_IO] = { D_IO, VEXIT_IO, NULL },
	[VMX_EXIT_RDMSR] = { D_PLAIN, VEXIT_RDMSR, NULL },
	[VMX_EXIT_WRMSR] = { D_PLAIN, VEXIT_WRMSR, NULL },
	[VMX_EXIT_BAD_GUEST_STATE] = { D_FATAL, VEXIT_FATAL, "the VM entry refused the guest's state" },
	[VMX_EXIT_BAD_MSR_AREA] = { D_FATAL, VEXIT_FATAL, "the VM entry failed at its MSR area" },
	[VMX_EXIT_MWAIT] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_MONITOR] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_PAUSE] = { D_PAUSE, VEXIT_PAUSE, NULL },
	[VMX_EXIT_ENTRY_MCE] = { D_FATAL, VEXIT_FATAL, "a machine check during the VM entry" },
	[VMX_EXIT_TPR_THRESHOLD] = { D_WINDOW, VEXIT_WINDOW, NULL },
	[VMX_EXIT_EPT_VIOLATION] = { D_EPT, VEXIT_MMIO, NULL },
	[VMX_EXIT_EPT_MISCONFIG] = { D_FATAL, VEXIT_FATAL, "the EPT has an entry the CPU does not accept" },
	[VMX_EXIT_INVEPT] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_INVVPID] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_WBINVD] = { D_PLAIN, VEXIT_WBINVD, NULL },
	[VMX_EXIT_XSETBV] = { D_PLAIN, VEXIT_XSETBV, NULL },
	[VMX_EXIT_VMFUNC] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_ENCLS] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_XSAVES] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_XRSTORS] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_PCONFIG] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_UMWAIT] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_TPAUSE] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_LOADIWKEY] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_ENCLV] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_SEAMCALL] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_TDCALL] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_RDMSRLIST] = { D_PLAIN, VEXIT_UD, NULL },
	[VMX_EXIT_WRMSRLIST] = { D_PLAIN, VEXIT_UD, NULL },
};

static void set_hazard(struct vcpu *v, u32 bits)
{
	__atomic_or_fetch(&v->hazards, bits, __ATOMIC_RELAXED);
}

/* --- RIP -------------------------------------------------------------------------------------- */

/* RFLAGS.TF at an instruction that software completed. */
static void single_step(struct vcpu *v, struct vmx_vcpu *vx)
{
	vx->stepped = true;
	vmx_write_dr6(vmx_read_dr6() | DR6_BS);
	vcpu_inject_exception(v, VEC_DB, false, 0);
}

/* RIP behind the instruction; outside 64-bit code it has 32 bits. */
static u64 next_rip(u64 rip, u32 len)
{
	u64 next = rip + len;

	if (unlikely((rip ^ next) >> 32 != 0) && !vmx_code64())
		next = (u32)next;
	return next;
}

/* The CPU gives the length for instructions that exit as such, but not at EPT violations. */
static u32 insn_length(struct vcpu *v, u32 reason)
{
	int len;

	if (v->exit.insn_len != 0)
		return v->exit.insn_len;
	if (reason != VMX_EXIT_EPT_VIOLATION)
		return (u32)vmx_read(VMCS_EXIT_INSN_LEN) & 0xf;
	len = insn_length_at_rip(v);
	return len > 0 ? (u32)len : 1;
}

static void step_over(struct vcpu *v, struct vmx_vcpu *vx, u32 reason)
{
	u64 rip = vmx_read(VMCS_GUEST_RIP);
	u32 len = insn_length(v, reason);
	u64 i = vmx_read(VMCS_GUEST_INTERRUPTIBILITY);

	vmx_write(VMCS_GUEST_RIP, next_rip(rip, len));
	if (unlikely((i & INTERRUPTIBILITY_SHADOW) != 0))
		vmx_write(VMCS_GUEST_INTERRUPTIBILITY, i & ~INTERRUPTIBILITY_SHADOW);
	if (unlikely((vmx_read(VMCS_GUEST_RFLAGS) & RFLAGS_TF) != 0))
		single_step(v, vx);
}

/* --- decoding --------------------------------------------------------------------------------- */

static void fatal(struct vexit *x, u64 reason, const char *why)
{
	x->kind = VEXIT_FATAL;
	x->fatal = (struct vexit_fatal){ why, reason, vmx_read(VMCS_EXIT_QUALIFICATION),
					 vmx_read(VMCS_GUEST_PA) };
}

/* IRET had opened NMIs before the fault or EPT violation on its way (SDM vol. 3, 28.2.3): it runs
 * again, so they are still closed. */
static void close_nmis_again(void)
{
	vmx_write(VMCS_GUEST_INTERRUPTIBILITY,
		  vmx_read(VMCS_GUEST_INTERRUPTIBILITY) | INTERRUPTIBILITY_NMI);
}

/* #DB: an exit leaves DR6 and DR7.GD as they were before the exception. */
static void complete_debug(struct vmx_vcpu *vx, u32 info)
{
	u64 hits = vmx_read(VMCS_EXIT_QUALIFICATION) & QUAL_DEBUG_DR6;

	if ((info & INTR_TYPE) == INTR_TYPE_PRIV_SW_EXCEPTION) {
		/* INT1 is a trap: the handler returns behind it. */
		vmx_write(VMCS_GUEST_RIP, next_rip(vmx_read(VMCS_GUEST_RIP),
						   (u32)vmx_read(VMCS_EXIT_INSN_LEN) & 0xf));
		return;
	}
	if ((hits & DR6_BS) != 0)
		vx->stepped = true;
	vmx_write_dr6((vmx_read_dr6() & ~0xfUL) | hits);
	vmx_write(VMCS_GUEST_DR7, vmx_read(VMCS_GUEST_DR7) & ~DR7_GD);
}

/* False: the exit is done. */
static bool decode_exception(struct vcpu *v, struct vmx_vcpu *vx, u32 idt_info)
{
	u32 info = (u32)vmx_read(VMCS_EXIT_INTR_INFO);
	struct vexit *x = &v->exit;
	u8 vector = info & INTR_VECTOR;

	if ((info & INTR_TYPE) == INTR_TYPE_NMI) {
		x->kind = VEXIT_NMI;
		vmx_call_handler(trap_entry(VEC_NMI));
		return false;
	}
	if (vector == VEC_MC) {
		x->kind = VEXIT_MCE;
		vmx_call_handler(trap_entry(VEC_MC));
		return true;
	}
	if ((info & INTR_NMI_UNBLOCKED) != 0 && (idt_info & INTR_VALID) == 0 && vector != VEC_DF)
		close_nmis_again();
	if (vector == 1)
		complete_debug(vx, info);
	x->exc.vector = vector;
	x->exc.has_error = (info & INTR_ERROR_CODE) != 0;
	x->exc.error = x->exc.has_error ? (u32)vmx_read(VMCS_EXIT_ERROR_CODE) : 0;
	return true;
}

/* The CPU has acknowledged the interrupt: its vector goes to the handler here and now. */
static void host_interrupt(void)
{
	u32 info = (u32)vmx_read(VMCS_EXIT_INTR_INFO);

	if ((info & INTR_VALID) != 0)
		vmx_call_handler(trap_entry(info & INTR_VECTOR));
}

static void window(struct vcpu *v, struct vmx_vcpu *vx, u32 reason)
{
	if (reason == VMX_EXIT_NMI_WINDOW) {
		vmx_close_windows(vx, PROC_NMI_WINDOW);
		set_hazard(v, HAZ_NMI);
		return;
	}
	vmx_close_windows(vx, PROC_INTR_WINDOW);
	set_hazard(v, HAZ_IRQ);
}

/* OUTS and INS: address size and segment, from the CPU or from the instruction. */
static void complete_string_io(struct vcpu *v, struct vexit_io *io)
{
	u32 info = (u32)vmx_read(VMCS_EXIT_INSN_INFO);

	if (!vmx.io_info) {
		io->addr_size = vmx_code64() ? 8 : (vmx_read(VMCS_GUEST_AR(VSEG_CS)) & BIT(14)) ? 4 : 2;
		io->seg = VSEG_COUNT;
		return;
	}
	io->addr_size = (u8)(2 << (info >> INSN_INFO_ADDR_SHIFT & 3));
	io->seg = io->in ? VSEG_ES : info >> INSN_INFO_SEG_SHIFT & 7;
	(void)v;
}

static void decode_io(struct vcpu *v)
{
	u64 qual = vmx_read(VMCS_EXIT_QUALIFICATION);
	struct vexit_io *io = &v->exit.io;

	io->port = (u16)(qual >> QUAL_IO_PORT_SHIFT);
	io->size = (qual & QUAL_IO_SIZE) + 1;
	io->in = (qual & QUAL_IO_IN) != 0;
	io->string = (qual & QUAL_IO_STRING) != 0;
	io->rep = (qual & QUAL_IO_REP) != 0;
	if (unlikely(io->string))
		complete_string_io(v, io);
}

/* All RAM is mapped at all times: this is a device, a ROM or a hole. */
static void decode_ept(struct vexit *x, u32 idt_info)
{
	u64 qual = vmx_read(VMCS_EXIT_QUALIFICATION);

	if ((qual & QUAL_EPT_LINEAR) == 0 || (qual & QUAL_EPT_TRANSLATED) == 0) {
		fatal(x, VMX_EXIT_EPT_VIOLATION, "the guest's page tables are not in its RAM");
		return;
	}
	if ((idt_info & INTR_VALID) != 0) {
		fatal(x, VMX_EXIT_EPT_VIOLATION,
		      "the guest's descriptor tables or stack are not in its RAM");
		return;
	}
	if ((qual & QUAL_EPT_NMI_UNBLOCKED) != 0)
		close_nmis_again();
	x->mmio.gpa = vmx_read(VMCS_GUEST_PA);
	x->mmio.access = (qual & QUAL_EPT_WRITE) != 0 ? VACCESS_WRITE :
			 (qual & QUAL_EPT_FETCH) != 0 ? VACCESS_EXEC : VACCESS_READ;
	x->mmio.insn_len = 0;
	x->mmio.code_mode = 0;
}

/* MOV to CR0 or CR4 that changes a bit of the host's. Nothing else of this reason is asked for. */
static bool cr_access(struct vcpu *v, struct vmx_vcpu *vx)
{
	u64 qual = vmx_read(VMCS_EXIT_QUALIFICATION);
	u32 gpr = qual >> QUAL_CR_GPR_SHIFT & 15, cr = qual & QUAL_CR_NUMBER;
	u64 value = gpr == GPR_RSP ? vmx_read(VMCS_GUEST_RSP) : v->gpr[gpr];

	if ((qual & QUAL_CR_TYPE) != QUAL_CR_TYPE_MOV_TO || (cr != 0 && cr != 4)) {
		fatal(&v->exit, VMX_EXIT_CR_ACCESS, "an access to a control register not asked for");
		return true;
	}
	if (!vmx_code64())
		value = (u32)value;
	if (cr == 0 ? vmx_mov_cr0(v, value) : vmx_mov_cr4(v, value))
		step_over(v, vx, VMX_EXIT_CR_ACCESS);
	else
		vcpu_inject_gp(v);
	return false;
}

/* Fills v->exit. False: the exit is done. */
static bool decode(struct vcpu *v, struct vmx_vcpu *vx, u32 full, u32 idt_info)
{
	u32 reason = full & VMX_REASON_BASIC;
	struct vexit *x = &v->exit;
	const struct rule *r;

	x->insn_len = 0;
	if (unlikely(reason >= VMX_EXIT_REASONS)) {
		fatal(x, full, "an exit that was not asked for");
		return true;
	}
	r = &rules[reason];
	x->kind = r->kind;
	switch (r->disposition) {
	case D_PLAIN:
		return true;
	case D_EXT_INTR:
		host_interrupt();
		return false;
	case D_SIGNAL:
		return false;
	case D_EXCEPTION:
		return decode_exception(v, vx, idt_info);
	case D_WINDOW:
		window(v, vx, reason);
		return false;
	case D_CR:
		return cr_access(v, vx);
	case D_IO:
		decode_io(v);
		return true;
	case D_EPT:
		decode_ept(x, idt_info);
		return true;
	case D_PAUSE:
		if ((vmx.ctls.proc2 & PROC2_PAUSE_LOOP) == 0)
			vmx_proc_ctls(vx, 0, PROC_PAUSE);
		return true;
	case D_FATAL:
		fatal(x, full, r->why);
		return true;
	default:
		fatal(x, full, "an exit that was not asked for");
		return true;
	}
}

/* --- the loop's half in C --------------------------------------------------------------------- */

static __attribute__((noinline)) u32 exit_slow(struct vcpu *v, struct vmx_vcpu *vx, u32 reason)
{
	u32 idt_info = 0, r;
	bool dispatch;

	vx->cpuid_len = 0;
	/* A failed entry has delivered nothing and left the guest's state alone. */
	if (likely((reason & VMX_REASON_ENTRY_FAILED) == 0)) {
		idt_info = (u32)vmx_read(VMCS_IDT_INFO);
		if (unlikely((idt_info & INTR_VALID) != 0))
			vmx_requeue(v, idt_info);
	}
	dispatch = decode(v, vx, reason, idt_info);
	v->exits[v->exit.kind]++;
	if (!dispatch)
		return v->hazards;
	r = vcpu_dispatch(v);
	if ((r & VRESULT_ADVANCE) != 0)
		step_over(v, vx, reason & VMX_REASON_BASIC);
	return (r & VRESULT_LEAVE) != 0 ? VMX_LEAVE : v->hazards;
}

/*
 * Length of the CPUID at rip; 0: there is more to do than to step over it. It is kept
 * for the next exit where nothing waits for the end of an interrupt shadow, of which
 * that exit would know nothing.
 */
static u32 cpuid_length(struct vmx_vcpu *vx, u64 rip)
{
	u64 shadow = vmx_read(VMCS_GUEST_INTERRUPTIBILITY) & INTERRUPTIBILITY_SHADOW;
	u64 step = vmx_read(VMCS_GUEST_RFLAGS) & RFLAGS_TF;
	u32 len = (u32)vmx_read(VMCS_EXIT_INSN_LEN) & 0xf;

	if (unlikely((shadow | step | (rip ^ (rip + len)) >> 32) != 0))
		return 0;
	if (!vx->stepped && (vx->proc & (PROC_INTR_WINDOW | PROC_NMI_WINDOW)) == 0) {
		vx->cpuid_rip = rip;
		vx->cpuid_len = (u8)len;
	}
	return len;
}

/*
 * A CPUID leaf whose answer never changes, straight from core's table. When the exit
 * before was a CPUID at the same address, too, and nothing was delivered since, it is
 * taken for the same instruction in the same state: docs/vmx-exits.md says what that
 * saves, and what it can get wrong.
 */
static inline bool cpuid_fast(struct vcpu *v, struct vmx_vcpu *vx)
{
	const struct cpuid_entry *e = cpuid_static(&v->cpuid, (u32)v->gpr[GPR_RAX]);
	u64 rip;
	u32 len;

	if (unlikely(e == NULL))
		return false;
	rip = vmx_read(VMCS_GUEST_RIP);
	len = rip == vx->cpuid_rip ? vx->cpuid_len : 0;
	if (unlikely(len == 0)) {
		len = cpuid_length(vx, rip);
		if (len == 0)
			return false;
	}
	vmx_write(VMCS_GUEST_RIP, rip + len);
	v->gpr[GPR_RAX] = e->eax;
	v->gpr[GPR_RBX] = e->ebx;
	v->gpr[GPR_RCX] = e->ecx;
	v->gpr[GPR_RDX] = e->edx;
	v->exits[VEXIT_CPUID]++;
	return true;
}

/*
 * After each VM exit, interrupts off. Returns the hazards to be looked at before the
 * next entry, 0 to enter at once, VMX_LEAVE to leave.
 */
u32 vmx_exit(struct vcpu *v, struct vmx_vcpu *vx)
{
	u32 reason = (u32)vmx_read(VMCS_EXIT_REASON);

	if (likely(reason == VMX_EXIT_CPUID && trace_flags == 0) && likely(cpuid_fast(v, vx)))
		return v->hazards;
	return exit_slow(v, vx, reason);
}

static void flush_translations(struct vcpu *v, struct vmx_vcpu *vx, u32 hazards)
{
	vcpu_hazard_clear(v, HAZ_TLB | HAZ_VMX_FLUSH);
	/* Covers combined translations of every VPID (SDM vol. 3, 29.4.3.1). */
	if ((hazards & HAZ_TLB) != 0)
		vmx_invept((vmx.ept_cap & EPT_CAP_INVEPT_SINGLE) != 0 ? INV_SINGLE : INV_ALL, vx->eptp);
	if (vmx.vpid)
		vmx_invvpid(INV_SINGLE, vx->vpid);
}

/* Before an entry with hazards, and before the first. Non-zero: leave instead. Interrupts off. */
u32 vmx_prepare(struct vcpu *v, struct vmx_vcpu *vx)
{
	u32 h = __atomic_load_n(&v->hazards, __ATOMIC_ACQUIRE);

	vx->cpuid_len = 0;
	if (unlikely((h & HAZ_LEAVE) != 0))
		return 1;
	if ((h & (HAZ_TLB | HAZ_VMX_FLUSH)) != 0)
		flush_translations(v, vx, h);
	if ((h & HAZ_TPR) != 0) {
		vcpu_hazard_clear(v, HAZ_TPR);
		vmx_load_tpr(v);
	}
	if ((h & (HAZ_EVENT | HAZ_NMI | HAZ_IRQ)) != 0)
		vmx_inject(v, h);
	return 0;
}

void vmx_entry_failed(struct vcpu *v, struct vmx_vcpu *vx)
{
	u64 error = vmx_read(VMCS_INSN_ERROR);

	vcpu_fatal(v, "%s failed with VM-instruction error %lu: %s",
		   vx->launched ? "VMRESUME" : "VMLAUNCH", error, vmx_error_name(error));
}
