/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/decode.h"
#include "arch/x86/emulate.h"
#include "arch/x86/emulate_known.h"
#include "arch/x86/gwalk.h"
#include "arch/x86/msr.h"
#include "arch/x86/svm/svm.h"
#include "core/hypercall.h"
#include "core/mmio.h"
#include "core/msr.h"
#include "core/string.h"
#include "core/trace.h"

/*
 * From a #VMEXIT to a neutral exit, and on to the next entry. docs/svm-exits.md
 * says for every exit code what happens and why.
 */

#define DR6_BS BIT(14)

/* What a code needs beyond its kind. */
enum disposition {
	D_UNKNOWN,  /* never asked for: the VM is stopped with a report */
	D_PLAIN,    /* the kind says it all */
	D_IO,
	D_MSR,
	D_EXCEPTION,
	D_WINDOW,   /* host event: taken as soon as GIF is set */
	D_VINTR,
	D_IRET,
	D_CR8,
	D_PAUSE
};

struct rule {
	u8 disposition;
	u8 kind;
	u8 min_len; /* shortest encoding, bytes */
};

static const struct rule rules[SVM_EXIT_CODES] = {
	[SVM_EXIT_CR8_WRITE] = { D_CR8, VEXIT_NOTHING, 3 },
	[SVM_EXIT_EXCP0 ... SVM_EXIT_EXCP31] = { D_EXCEPTION, VEXIT_EXCEPTION, 0 },
	[SVM_EXIT_INTR] = { D_WINDOW, VEXIT_INTERRUPT, 0 },
	[SVM_EXIT_NMI] = { D_WINDOW, VEXIT_NMI, 0 },
	[SVM_EXIT_SMI] = { D_WINDOW, VEXIT_INTERRUPT, 0 },
	[SVM_EXIT_INIT] = { D_WINDOW, VEXIT_INTERRUPT, 0 },
	[SVM_EXIT_VINTR] = { D_VINTR, VEXIT_WINDOW, 0 },
	[SVM_EXIT_RDPMC] = { D_PLAIN, VEXIT_RDPMC, 2 },
	[SVM_EXIT_CPUID] = { D_PLAIN, VEXIT_CPUID, 2 },
	[SVM_EXIT_IRET] = { D_IRET, VEXIT_WINDOW, 1 },
	[SVM_EXIT_INVD] = { D_PLAIN, VEXIT_WBINVD, 2 },
	[SVM_EXIT_PAUSE] = { D_PAUSE, VEXIT_PAUSE, 2 },
	[SVM_EXIT_HLT] = { D_PLAIN, VEXIT_HLT, 1 },
	[SVM_EXIT_INVLPGA] = { D_PLAIN, VEXIT_UD, 3 },
	[SVM_EXIT_IOIO] = { D_IO, VEXIT_IO, 1 },
	[SVM_EXIT_MSR] = { D_MSR, VEXIT_RDMSR, 2 },
	[SVM_EXIT_TASK_SWITCH] = { D_PLAIN, VEXIT_TASK_SWITCH, 0 },
	[SVM_EXIT_FERR_FREEZE] = { D_UNKNOWN, VEXIT_FATAL, 0 },
	[SVM_EXIT_SHUTDOWN] = { D_PLAIN, VEXIT_SHUTDOWN, 0 },
	[SVM_EXIT_VMRUN] = { D_PLAIN, VEXIT_UD, 3 },
	[SVM_EXIT_VMMCALL] = { D_PLAIN, VEXIT_HYPERCALL, 3 },
	[SVM_EXIT_VMLOAD] = { D_PLAIN, VEXIT_UD, 3 },
	[SVM_EXIT_VMSAVE] = { D_PLAIN, VEXIT_UD, 3 },
	[SVM_EXIT_STGI] = { D_PLAIN, VEXIT_UD, 3 },
	[SVM_EXIT_CLGI] = { D_PLAIN, VEXIT_UD, 3 },
	[SVM_EXIT_SKINIT] = { D_PLAIN, VEXIT_UD, 3 },
	[SVM_EXIT_WBINVD] = { D_PLAIN, VEXIT_WBINVD, 2 },
	[SVM_EXIT_MONITOR] = { D_PLAIN, VEXIT_UD, 3 },
	[SVM_EXIT_MWAIT] = { D_PLAIN, VEXIT_UD, 3 },
	[SVM_EXIT_MWAIT_ARMED] = { D_PLAIN, VEXIT_UD, 3 },
	[SVM_EXIT_XSETBV] = { D_PLAIN, VEXIT_XSETBV, 3 },
	[SVM_EXIT_RDPRU] = { D_PLAIN, VEXIT_UD, 3 },
	[SVM_EXIT_INVLPGB] = { D_PLAIN, VEXIT_UD, 3 },
	[SVM_EXIT_INVLPGB_ILLEGAL] = { D_PLAIN, VEXIT_UD, 3 },
	[SVM_EXIT_MCOMMIT] = { D_PLAIN, VEXIT_UD, 4 },
	[SVM_EXIT_TLBSYNC] = { D_PLAIN, VEXIT_UD, 3 },
};

static enum insn_mode code_mode(const struct vmcb *b)
{
	if ((b->efer & EFER_LMA) != 0 && (b->cs.attr & VSEG_ATTR_L) != 0)
		return INSN_MODE_64;
	return (b->cs.attr & VSEG_ATTR_DB) != 0 ? INSN_MODE_32 : INSN_MODE_16;
}

/* --- RIP -------------------------------------------------------------------------------------- */

static int fetch_insn(struct vcpu *v, struct insn *insn)
{
	struct guest_fault fault;
	struct gwalk_ctx ctx;
	u8 bytes[INSN_MAX];
	int n = gwalk_load(v, &ctx);

	if (n == 0)
		n = guest_fetch(v, &ctx, svm_vmcb(v)->rip, bytes, &fault);
	if (n < 0)
		return n;
	return insn_decode(insn, bytes, (size_t)n, ctx.mode);
}

/*
 * Length of the instruction that caused this exit, for CPUs that do not save
 * the next RIP. The CPU has executed it, so it is there; when another vCPU
 * changed or unmapped it meanwhile, the shortest encoding is as good as any.
 */
static u32 insn_length(struct vcpu *v, struct vmcb *b)
{
	int len = insn_length_at_rip(v);

	if (len > 0)
		return (u32)len;
	return b->exitcode < SVM_EXIT_CODES ? rules[b->exitcode].min_len : 0;
}

/* The RIP behind the instruction of this exit, by length. */
static u64 rip_behind(struct vcpu *v, struct vmcb *b)
{
	u64 rip = b->rip + (v->exit.insn_len != 0 ? v->exit.insn_len : insn_length(v, b));

	return code_mode(b) == INSN_MODE_64 ? rip : (u32)rip;
}

/* RFLAGS.TF at an instruction that software completed: our step is done, the guest's traps. */
static void single_step(struct vcpu *v, struct vmcb *b)
{
	if (svm_vcpu(v)->step)
		svm_step_done(v);
	if ((b->rflags & RFLAGS_TF) == 0)
		return;
	vmcb_set_dr6(b, b->dr6 | DR6_BS);
	vcpu_inject_exception(v, VEC_DB, false, 0);
}

/*
 * What an instruction may leave to do when software completed it. The interrupt
 * shadow ends: what waits for that is looked at right away, which saves the exit
 * of the window.
 */
static __attribute__((noinline)) u32 step_unusual(struct vcpu *v, struct vmcb *b)
{
	if (b->int_state != 0 && (b->intercept3 & VMCB_I3_VINTR) != 0)
		__atomic_or_fetch(&v->hazards, HAZ_IRQ, __ATOMIC_RELAXED);
	b->int_state = 0;
	if ((b->rflags & RFLAGS_TF) != 0)
		single_step(v, b);
	return v->hazards;
}

/* Over the completed instruction; the hazards after that. */
static inline u32 step_to(struct vcpu *v, struct vmcb *b, u64 next)
{
	b->rip = next;
	if (unlikely(b->int_state != 0 || (b->rflags & RFLAGS_TF) != 0))
		return step_unusual(v, b);
	return v->hazards;
}

/* --- decoding --------------------------------------------------------------------------------- */

static void fatal(struct vexit *x, const struct vmcb *b, const char *why)
{
	x->kind = VEXIT_FATAL;
	x->fatal = (struct vexit_fatal){ why, b->exitcode, b->exitinfo1, b->exitinfo2 };
}

/* QEMU's TCG does not say the address size, CPUs without decode assists not the segment. */
static void complete_string_io(struct vcpu *v, struct vexit_io *io)
{
	struct insn insn;
	bool known = fetch_insn(v, &insn) == 0;

	if (io->addr_size == 0)
		io->addr_size = known ? insn.addrsize : (u8)(2 << code_mode(svm_vmcb(v)));
	io->seg = known ? insn.seg : VSEG_DS;
}

/* APM vol. 2, 15.10.2 */
static inline void decode_plain_io(struct vexit_io *io, u64 info)
{
	io->port = (u16)(info >> SVM_IOIO_PORT_SHIFT);
	io->size = info >> SVM_IOIO_SIZE_SHIFT & 7;
	io->in = (info & SVM_IOIO_IN) != 0;
	io->string = false;
}

/* EXITINFO2 is the next RIP on all CPUs. */
static void decode_io(struct vcpu *v, const struct vmcb *b)
{
	struct vexit *x = &v->exit;
	u64 info = b->exitinfo1;

	x->insn_len = (u32)(b->exitinfo2 - b->rip) & 0xf;
	decode_plain_io(&x->io, info);
	if ((info & SVM_IOIO_STRING) == 0)
		return;
	x->io.string = true;
	x->io.rep = (info & SVM_IOIO_REP) != 0;
	x->io.addr_size = (u8)((info >> SVM_IOIO_ADDR_SHIFT & 7) << 1);
	x->io.seg = info >> SVM_IOIO_SEG_SHIFT & 7;
	if (!svm.decode || x->io.addr_size == 0)
		complete_string_io(v, &x->io);
}

static void decode_exception(struct vcpu *v, struct vmcb *b)
{
	struct vexit *x = &v->exit;
	u8 vector = (u8)(b->exitcode - SVM_EXIT_EXCP0);
	const u32 with_error = BIT32(VEC_DF) | BIT32(VEC_TS) | BIT32(VEC_NP) | BIT32(VEC_SS) |
			       BIT32(VEC_GP) | BIT32(VEC_PF) | BIT32(17) | BIT32(21);

	if (vector == VEC_MC) {
		x->kind = VEXIT_MCE;
		return;
	}
	if (svm_vcpu(v)->step && !svm_step_end(v, vector)) {
		x->kind = VEXIT_NOTHING;
		return;
	}
	x->exc.vector = vector;
	x->exc.has_error = (with_error >> vector & 1) != 0;
	x->exc.error = (u32)b->exitinfo1;
	if (vector == VEC_PF)
		vmcb_set_cr2(b, b->exitinfo2);
}

/* Four bits of length: 15 at most, which is what there is room for. */
static inline void copy_insn(struct vexit_mmio *x, const struct vmcb *b)
{
	x->insn_len = b->insn_len & 0xf;
	memcpy(x->insn, b->insn, sizeof(x->insn));
}

/* APM vol. 2, 15.25.6. All RAM is mapped at all times: this is a device, a ROM or a hole. */
static void decode_npf(struct vexit *x, const struct vmcb *b)
{
	u64 info = b->exitinfo1;

	if ((info & SVM_NPF_TABLE) != 0) {
		fatal(x, b, "the guest's page tables are not in its RAM");
		return;
	}
	if ((b->exitintinfo & VMCB_EVENT_VALID) != 0) {
		fatal(x, b, "the guest's descriptor tables or stack are not in its RAM");
		return;
	}
	x->kind = VEXIT_MMIO;
	x->mmio.gpa = b->exitinfo2;
	x->mmio.access = (info & SVM_NPF_WRITE) != 0 ? VACCESS_WRITE :
			 (info & SVM_NPF_FETCH) != 0 ? VACCESS_EXEC : VACCESS_READ;
	x->mmio.code_mode = (u8)(code_mode(b) + 1);
	x->mmio.insn_len = 0;
	if (svm.decode)
		copy_insn(&x->mmio, b);
}

/* Codes above the dense range. */
static void decode_far(struct vexit *x, const struct vmcb *b)
{
	if (b->exitcode == SVM_EXIT_NPF)
		decode_npf(x, b);
	else if ((u32)b->exitcode == SVM_EXIT_INVALID)
		fatal(x, b, "VMRUN refused the guest's state");
	else if ((u32)b->exitcode == SVM_EXIT_BUSY)
		fatal(x, b, "VMRUN found the control block in use on another CPU");
	else
		fatal(x, b, "an exit that was not asked for");
}

/* --- exits that need nobody else -------------------------------------------------------------- */

/*
 * A host event ended guest mode and waits for GIF. The handlers need the host's
 * TR for their stacks; one instruction with GIF set is enough for all that is
 * pending, since RFLAGS.IF is set throughout the loop.
 */
static void host_window(struct svm_vcpu *sv)
{
	paddr_t host = svm_this_cpu()->host_vmcb;

	svm_vmsave(sv->vmcb_pa);
	sv->loaded = false;
	svm_vmload(host);
	svm_gif_window();
	svm_vmload(sv->vmcb_pa);
	sv->loaded = true;
}

static void vintr(struct vcpu *v, struct vmcb *b)
{
	u64 prio = (b->vintr & VMCB_V_INTR_PRIO) >> VMCB_V_INTR_PRIO_SHIFT;

	/* A CPU that is not exact about priorities must not be asked again. */
	if ((b->vintr & VMCB_V_IGN_TPR) == 0 && prio <= (b->vintr & VMCB_V_TPR))
		svm.cr8_quirk = true;
	svm_irq_window_close(b);
	__atomic_or_fetch(&v->hazards, HAZ_IRQ, __ATOMIC_RELAXED);
}

/* MOV to CR8 (APM vol. 3), intercepted while an interrupt waits: see irq_window(). */
static void mov_to_cr8(struct vcpu *v, struct vmcb *b)
{
	struct insn insn;
	u64 value;
	int err = fetch_insn(v, &insn);

	/* Not there any more: let the guest run into what is there now, without the intercept. */
	if (err < 0 || insn.map != INSN_MAP_0F || insn.opcode != 0x22 || insn.mem) {
		svm_irq_window_close(b);
		return;
	}
	value = insn.rm == GPR_RSP ? b->rsp : v->gpr[insn.rm & 15];
	if (value > VMCB_V_TPR) {
		vcpu_inject_gp(v);
		return;
	}
	vmcb_set_vintr(b, (b->vintr & ~VMCB_V_TPR_BYTE) | value);
	v->exit.insn_len = insn.len;
	(void)step_to(v, b, rip_behind(v, b));
	__atomic_or_fetch(&v->hazards, HAZ_IRQ, __ATOMIC_RELAXED);
}

/* Fills v->exit. False: the exit is done. */
static bool decode(struct vcpu *v, struct vmcb *b)
{
	struct vexit *x = &v->exit;
	const struct rule *r;

	x->insn_len = 0;
	if (unlikely(b->exitcode >= SVM_EXIT_CODES)) {
		decode_far(x, b);
		return true;
	}
	r = &rules[b->exitcode];
	x->kind = r->kind;
	switch (r->disposition) {
	case D_PLAIN:
		return true;
	case D_IO:
		decode_io(v, b);
		return true;
	case D_PAUSE:
		svm_pause_intercept(b, false);
		return true;
	case D_MSR:
		x->kind = b->exitinfo1 & 1 ? VEXIT_WRMSR : VEXIT_RDMSR;
		return true;
	case D_EXCEPTION:
		decode_exception(v, b);
		return x->kind != VEXIT_NOTHING;
	case D_WINDOW:
		host_window(svm_vcpu(v));
		return false;
	case D_VINTR:
		vintr(v, b);
		return false;
	case D_IRET:
		svm_nmi_iret(v);
		return false;
	case D_CR8:
		mov_to_cr8(v, b);
		return false;
	default:
		fatal(x, b, "an exit that was not asked for");
		return true;
	}
}

/* --- the loop's half in C --------------------------------------------------------------------- */

static __attribute__((noinline)) u32 end_unusual(struct vcpu *v, struct vmcb *b, u32 result,
						 u64 next)
{
	u32 hazards = (result & VRESULT_ADVANCE) != 0 ? step_to(v, b, next) : v->hazards;

	return (result & VRESULT_LEAVE) != 0 ? SVM_LEAVE : hazards;
}

/* After core's dispatch; next: the RIP behind the instruction. */
static inline u32 end(struct vcpu *v, struct vmcb *b, u32 result, u64 next)
{
	b->rax = v->gpr[GPR_RAX];
	if (unlikely(result != VRESULT_ADVANCE))
		return end_unusual(v, b, result, next);
	return step_to(v, b, next);
}

static __attribute__((noinline)) u32 exit_slow(struct vcpu *v, struct vmcb *b)
{
	bool dispatch;
	u64 next = 0;
	u32 r;

	/* From here on the writers of the VMCB say what is no longer as the CPU knows it. */
	b->clean = svm.clean;
	v->gpr[GPR_RAX] = b->rax;
	if (unlikely((b->exitintinfo & VMCB_EVENT_VALID) != 0))
		svm_requeue(v);
	dispatch = decode(v, b);
	v->exits[v->exit.kind]++;
	if (!dispatch)
		return v->hazards;
	r = vcpu_dispatch(v);
	if ((r & VRESULT_ADVANCE) != 0) {
		bool saved = b->nrip != 0 && v->exit.insn_len == 0 && v->exit.kind != VEXIT_MMIO;

		next = saved ? b->nrip : rip_behind(v, b);
	}
	return end(v, b, r, next);
}

static inline u32 answer_cpuid(struct vcpu *v, struct vmcb *b, const struct cpuid_entry *e)
{
	b->rax = e->eax;
	v->gpr[GPR_RBX] = e->ebx;
	v->gpr[GPR_RCX] = e->ecx;
	v->gpr[GPR_RDX] = e->edx;
	v->exits[VEXIT_CPUID]++;
	return step_to(v, b, b->nrip);
}

static __attribute__((noinline)) u32 cpuid_changing(struct vcpu *v, struct vmcb *b)
{
	u32 leaf = (u32)b->rax, subleaf = (u32)v->gpr[GPR_RCX];

	return answer_cpuid(v, b, cpuid_dynamic(v, leaf, subleaf, b->cr4));
}

/* A leaf whose answer never changes is straight from core's table. RAX is in the VMCB. */
static inline u32 exit_cpuid(struct vcpu *v, struct vmcb *b)
{
	const struct cpuid_entry *e = cpuid_static(&v->cpuid, (u32)b->rax);

	return likely(e != NULL) ? answer_cpuid(v, b, e) : cpuid_changing(v, b);
}

/*
 * The exits that make up nearly all of them go to core in a few instructions.
 * What is unusual about one of them is left to exit_slow(). None of those at an
 * instruction can come in the middle of an event's delivery.
 */
static inline void begin(struct vcpu *v, struct vmcb *b, enum vexit_kind kind)
{
	/* From here on the writers of the VMCB say what is no longer as the CPU knows it. */
	b->clean = svm.clean;
	v->gpr[GPR_RAX] = b->rax;
	v->exit.kind = kind;
	v->exit.insn_len = 0;
	v->exits[kind]++;
}

static __attribute__((noinline)) u32 exit_insn(struct vcpu *v, struct vmcb *b, enum vexit_kind kind)
{
	begin(v, b, kind);
	return end(v, b, vcpu_dispatch(v), b->nrip);
}

static __attribute__((noinline)) u32 exit_hlt(struct vcpu *v, struct vmcb *b)
{
	bool halts;
	u32 hazards;

	b->clean = svm.clean;
	v->exits[VEXIT_HLT]++;
	svm_take_tpr(v, b->vintr);
	halts = vcpu_halt(v, (b->rflags & RFLAGS_IF) != 0);
	hazards = step_to(v, b, b->nrip);
	return halts ? SVM_LEAVE : hazards;
}

static u32 refuse_msr(struct vcpu *v)
{
	vcpu_inject_gp(v);
	return v->hazards;
}

/* EFER is intercepted for SVME alone. SCE, and NXE where CPUID offers it, are the guest's to change. */
static inline bool efer_quick(const struct vcpu *v, struct vmcb *b, u64 value)
{
	u64 change = value ^ (b->efer & ~EFER_SVME);

	if (change == 0)
		return true;
	if ((change & ~(EFER_SCE | (v->cpuid.ext[1].edx >> 9 & EFER_NXE))) != 0)
		return false;
	vmcb_set_efer(b, b->efer ^ change);
	return true;
}

static inline u32 answer_rdmsr(struct vcpu *v, struct vmcb *b, u64 value)
{
	b->rax = (u32)value;
	v->gpr[GPR_RDX] = value >> 32;
	return step_to(v, b, b->nrip);
}

/* The VMCB is not kept over the calls: one register less to save. */
static __attribute__((noinline)) u32 rdmsr_rest(struct vcpu *v, u32 msr)
{
	if (unlikely(msr_read(v, msr, &v->exit.msr) < 0))
		return refuse_msr(v);
	return answer_rdmsr(v, svm_vmcb(v), v->exit.msr);
}

/* What calls nobody is apart from the rest, which has registers to save. */
static __attribute__((noinline)) u32 exit_rdmsr(struct vcpu *v, struct vmcb *b)
{
	u32 msr = (u32)v->gpr[GPR_RCX];
	u64 value;

	v->exits[VEXIT_RDMSR]++;
	if (msr == MSR_EFER)
		value = b->efer & ~EFER_SVME;
	else if (!msr_read_fast(v, msr, &value))
		return rdmsr_rest(v, msr);
	return answer_rdmsr(v, b, value);
}

static __attribute__((noinline)) u32 wrmsr_rest(struct vcpu *v, u32 msr, u64 value)
{
	if (unlikely(msr_write(v, msr, value) < 0))
		return refuse_msr(v);
	return step_to(v, svm_vmcb(v), svm_vmcb(v)->nrip);
}

/* The step first: then only one register is to be saved over the call. */
static __attribute__((noinline)) u32 wrmsr_eoi(struct vcpu *v, struct vmcb *b)
{
	(void)step_to(v, b, b->nrip);
	vlapic_eoi(&v->lapic);
	return v->hazards;
}

static __attribute__((noinline)) u32 exit_wrmsr(struct vcpu *v, struct vmcb *b)
{
	u32 msr = (u32)v->gpr[GPR_RCX];
	u64 value = v->gpr[GPR_RDX] << 32 | (u32)b->rax;

	b->clean = svm.clean;
	v->exits[VEXIT_WRMSR]++;
	if (msr_is_eoi(v, msr, value))
		return wrmsr_eoi(v, b);
	if (unlikely(msr == MSR_EFER) && efer_quick(v, b, value))
		return step_to(v, b, b->nrip);
	return wrmsr_rest(v, msr, value);
}

static __attribute__((noinline)) u32 io_wide(struct vcpu *v, struct vmcb *b)
{
	begin(v, b, VEXIT_IO);
	decode_plain_io(&v->exit.io, b->exitinfo1);
	return end(v, b, dispatch_io(v), b->exitinfo2);
}

/* One byte needs no decoding: RAX stays where it is. */
static __attribute__((noinline)) u32 exit_io(struct vcpu *v, struct vmcb *b)
{
	u64 info = b->exitinfo1;
	u32 port = (u32)info >> SVM_IOIO_PORT_SHIFT;

	if (unlikely((info & (SVM_IOIO_STRING | SVM_IOIO_BYTE)) != SVM_IOIO_BYTE))
		return (info & SVM_IOIO_STRING) != 0 ? exit_slow(v, b) : io_wide(v, b);
	b->clean = svm.clean;
	v->exits[VEXIT_IO]++;
	if ((info & SVM_IOIO_IN) != 0) {
		u8 value = port_read_byte(v, port);

		b->rax = (b->rax & ~0xffUL) | value;
	} else {
		port_write_byte(v, port, (u8)b->rax);
	}
	return step_to(v, b, b->exitinfo2);
}

/* A load or store seen before, by 64-bit code. A CPU that does not give the instruction's bytes leaves
 * their number zero, as it was made. */
static __attribute__((noinline)) u32 exit_npf(struct vcpu *v, struct vmcb *b)
{
	u64 info = b->exitinfo1;
	const struct emulate_quick *q;

	if (unlikely((info & (SVM_NPF_TABLE | SVM_NPF_FETCH)) != 0 ||
		     (b->exitintinfo & VMCB_EVENT_VALID) != 0 || code_mode(b) != INSN_MODE_64))
		return exit_slow(v, b);
	v->gpr[GPR_RAX] = b->rax;
	q = emulate_find(&v->emulate, b->insn, b->insn_len & 0xf,
			 EMULATE_KIND(INSN_MODE_64 + 1, (info & SVM_NPF_WRITE) != 0));
	if (unlikely(q == NULL || !emulate_covers(v, q, b->exitinfo2)))
		return exit_slow(v, b);
	b->clean = svm.clean;
	v->exits[VEXIT_MMIO]++;
	emulate_access(v, q, b->exitinfo2);
	b->rax = v->gpr[GPR_RAX];
	return step_to(v, b, b->rip + q->len);
}

/* The hypercall that kernels make most needs no more than what it is about. */
static __attribute__((noinline)) u32 exit_vmmcall(struct vcpu *v, struct vmcb *b)
{
	u64 answer;

	if (unlikely(b->cpl != 0 || code_mode(b) != INSN_MODE_64) ||
	    !hypercall_fast(v, b->rax, &answer))
		return exit_insn(v, b, VEXIT_HYPERCALL);
	b = svm_vmcb(v); /* not kept over the call: one register less to save */
	b->rax = answer;
	b->clean = svm.clean;
	v->exits[VEXIT_HYPERCALL]++;
	return step_to(v, b, b->nrip);
}

/*
 * After each #VMEXIT, GIF clear. Returns the hazards to be looked at before the
 * next entry, 0 to enter at once, SVM_LEAVE to leave. The most frequent exits
 * first: a chain of compares, as an indirect jump costs more. A CPU without
 * next-RIP save leaves nRIP zero, as it was made.
 */
u32 svm_exit(struct vcpu *v, struct vmcb *b)
{
	u64 code = b->exitcode;

	if (unlikely(trace_flags != 0))
		return exit_slow(v, b);
	if (likely(code == SVM_EXIT_CPUID && b->nrip != 0))
		return exit_cpuid(v, b);
	if (code == SVM_EXIT_NPF)
		return exit_npf(v, b);
	if (code == SVM_EXIT_IOIO)
		return exit_io(v, b);
	if (unlikely(b->nrip == 0)) /* the CPU does not save it */
		return exit_slow(v, b);
	if (code == SVM_EXIT_MSR)
		return (b->exitinfo1 & 1) != 0 ? exit_wrmsr(v, b) : exit_rdmsr(v, b);
	if (code == SVM_EXIT_HLT)
		return exit_hlt(v, b);
	if (code == SVM_EXIT_VMMCALL)
		return exit_vmmcall(v, b);
	return exit_slow(v, b);
}
