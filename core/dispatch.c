/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/emulate.h"
#include "arch/x86/vcpu_state.h"
#include "core/cpuid.h"
#include "core/errno.h"
#include "core/hypercall.h"
#include "core/mmio.h"
#include "core/msr.h"
#include "core/sched.h"
#include "core/trace.h"
#include "core/vm.h"

/*
 * What each neutral exit means for a guest. Runs with interrupts (and GIF) off
 * between two entries: nothing here may block, allocate or loop for long.
 *
 * Each handler is a function of its own, so that the way to it is one jump: were
 * they part of dispatch(), each exit would save the registers that any of them needs.
 */
#define __handler __attribute__((noinline))

static __handler u32 exit_cpuid(struct vcpu *v)
{
	u32 leaf = (u32)v->gpr[GPR_RAX];
	const struct cpuid_entry *e = cpuid_static(&v->cpuid, leaf);
	u64 cr4 = 0;

	if (unlikely(e == NULL)) {
		(void)virt->get_reg(v, VREG_CR4, &cr4);
		e = cpuid_dynamic(v, leaf, (u32)v->gpr[GPR_RCX], cr4);
	}
	v->gpr[GPR_RAX] = e->eax;
	v->gpr[GPR_RBX] = e->ebx;
	v->gpr[GPR_RCX] = e->ecx;
	v->gpr[GPR_RDX] = e->edx;
	return VRESULT_ADVANCE;
}

static __handler u32 exit_rdmsr(struct vcpu *v)
{
	u64 *value = &v->exit.msr;

	if (unlikely(msr_read(v, (u32)v->gpr[GPR_RCX], value) < 0)) {
		vcpu_inject_gp(v);
		return VRESULT_RETRY;
	}
	v->gpr[GPR_RAX] = (u32)*value;
	v->gpr[GPR_RDX] = *value >> 32;
	return VRESULT_ADVANCE;
}

static __handler u32 exit_wrmsr(struct vcpu *v)
{
	u64 value = v->gpr[GPR_RDX] << 32 | (u32)v->gpr[GPR_RAX];

	if (unlikely(msr_write(v, (u32)v->gpr[GPR_RCX], value) < 0)) {
		vcpu_inject_gp(v);
		return VRESULT_RETRY;
	}
	return VRESULT_ADVANCE;
}

u32 dispatch_io(struct vcpu *v)
{
	const struct vexit_io *io = &v->exit.io;
	u64 *rax = &v->gpr[GPR_RAX];
	u32 value;

	if (unlikely(io->string))
		return emulate_string_io(v);
	if (!io->in) {
		port_write(v, io->port, io->size, (u32)*rax);
		return VRESULT_ADVANCE;
	}
	value = port_read(v, io->port, io->size);
	if (io->size == 4)
		*rax = value; /* 32-bit results clear the upper half */
	else if (io->size == 2)
		*rax = (*rax & ~0xffffUL) | (u16)value;
	else
		*rax = (*rax & ~0xffUL) | (u8)value;
	return VRESULT_ADVANCE;
}

/* Nobody answers an instruction fetch from the bus: it reads all ones, which is no instruction. */
static __handler u32 exit_mmio(struct vcpu *v)
{
	if (unlikely(v->exit.mmio.access & VACCESS_EXEC)) {
		vcpu_inject_ud(v);
		return VRESULT_RETRY;
	}
	return emulate_mmio(v);
}

/* XSETBV (APM vol. 4): index 0 only, and only what the guest's CPUID offers, in legal sets. */
#define XCR0_X87 BIT(0)
#define XCR0_SSE BIT(1)
#define XCR0_AVX BIT(2)
#define XCR0_AVX512 (BIT(5) | BIT(6) | BIT(7))

bool xcr0_valid(u64 value, u64 mask)
{
	if ((value & ~mask) != 0 || (value & XCR0_X87) == 0)
		return false;
	if ((value & XCR0_AVX) != 0 && (value & XCR0_SSE) == 0)
		return false;
	if ((value & XCR0_AVX512) == 0)
		return true;
	return (value & XCR0_AVX512) == XCR0_AVX512 && (value & XCR0_AVX) != 0;
}

static __handler u32 exit_xsetbv(struct vcpu *v)
{
	u64 value = v->gpr[GPR_RDX] << 32 | (u32)v->gpr[GPR_RAX];

	if ((u32)v->gpr[GPR_RCX] != 0 || !xcr0_valid(value, vcpu_state_xcr0_mask())) {
		vcpu_inject_gp(v);
		return VRESULT_RETRY;
	}
	vcpu_state_set_xcr0(v, value);
	return VRESULT_ADVANCE;
}

bool vcpu_halt(struct vcpu *v, bool interruptible)
{
	v->halt_if = interruptible;
	/* The shadow of STI ends with HLT itself: nothing else keeps an interrupt out. */
	if (vcpu_wakes(v)) {
		__atomic_store_n(&v->pv.unhalted, false, __ATOMIC_RELAXED);
		return false;
	}
	v->halted = true;
	return true;
}

static __handler u32 exit_hlt(struct vcpu *v)
{
	u64 rflags = 0;

	virt->sync_tpr(v);
	if (virt->get_reg(v, VREG_RFLAGS, &rflags) < 0)
		rflags = RFLAGS_IF;
	return VRESULT_ADVANCE | (vcpu_halt(v, (rflags & RFLAGS_IF) != 0) ? VRESULT_LEAVE : 0);
}

static __handler u32 exit_pause(struct vcpu *v)
{
	return sched_others_wait(v) ? VRESULT_ADVANCE | VRESULT_LEAVE : VRESULT_ADVANCE;
}

/* Left, because the delivery may cause the next one, before any interrupt of the host's. */
static __handler u32 exit_exception(struct vcpu *v)
{
	const struct vexit_exception *x = &v->exit.exc;

	vcpu_inject_exception(v, x->vector, x->has_error, x->error);
	return VRESULT_LEAVE;
}

static __handler u32 exit_shutdown(struct vcpu *v)
{
	vcpu_fatal(v, "triple fault");
	return VRESULT_LEAVE;
}

static __handler u32 exit_task_switch(struct vcpu *v)
{
	vcpu_fatal(v, "hardware task switch, which is not offered: use software task switching");
	return VRESULT_LEAVE;
}

static __handler u32 exit_fatal(struct vcpu *v)
{
	const struct vexit_fatal *f = &v->exit.fatal;

	vcpu_fatal(v, "%s (exit code 0x%lx %s, info 0x%lx 0x%lx)", f->why, f->code,
		   virt->exit_name(f->code), f->info1, f->info2);
	return VRESULT_LEAVE;
}

static u32 dispatch(struct vcpu *v)
{
	switch ((enum vexit_kind)v->exit.kind) {
	case VEXIT_CPUID:
		return exit_cpuid(v);
	case VEXIT_HYPERCALL:
		return hypercall(v);
	case VEXIT_RDMSR:
		return exit_rdmsr(v);
	case VEXIT_WRMSR:
		return exit_wrmsr(v);
	case VEXIT_IO:
		return dispatch_io(v);
	case VEXIT_MMIO:
		return exit_mmio(v);
	case VEXIT_HLT:
		return exit_hlt(v);
	case VEXIT_PAUSE:
		return exit_pause(v);
	case VEXIT_XSETBV:
		return exit_xsetbv(v);
	case VEXIT_WBINVD: /* no device of a guest sees memory behind the caches */
		return VRESULT_ADVANCE;
	case VEXIT_RDPMC: /* no counters are offered */
	case VEXIT_GP:
		vcpu_inject_gp(v);
		return VRESULT_RETRY;
	case VEXIT_UD:
		vcpu_inject_ud(v);
		return VRESULT_RETRY;
	case VEXIT_EXCEPTION:
		return exit_exception(v);
	case VEXIT_INTERRUPT:
	case VEXIT_NMI:
	case VEXIT_MCE:
	case VEXIT_WINDOW:
	case VEXIT_NOTHING:
		return VRESULT_RETRY;
	case VEXIT_SHUTDOWN:
		return exit_shutdown(v);
	case VEXIT_TASK_SWITCH:
		return exit_task_switch(v);
	case VEXIT_FATAL:
	case VEXIT_KINDS:
		break;
	}
	return exit_fatal(v);
}

/* What a trace shows of the exit beside its kind; of an encrypted guest no register. */
static u64 exit_operand(const struct vcpu *v)
{
	if (v->trap_protected && v->exit.kind != VEXIT_IO)
		return 0;
	switch (v->exit.kind) {
	case VEXIT_CPUID:
	case VEXIT_HYPERCALL:
		return v->gpr[GPR_RAX];
	case VEXIT_RDMSR:
	case VEXIT_WRMSR:
		return v->gpr[GPR_RCX];
	case VEXIT_IO:
		return v->exit.io.port;
	case VEXIT_MMIO:
		return v->exit.mmio.gpa;
	default:
		return 0;
	}
}

static u32 __attribute__((noinline)) dispatch_measured(struct vcpu *v)
{
	u32 kind = v->exit.kind;
	u64 start = rdtsc();
	u32 result;

	trace_event(v->vm->id, v->id, TRACE_EXIT, kind, exit_operand(v));
	result = dispatch(v);
	if (trace_flags & TRACE_TIMING)
		v->cycles[kind] += rdtsc() - start;
	return result;
}

u32 vcpu_dispatch(struct vcpu *v)
{
	if (unlikely(trace_flags != 0))
		return dispatch_measured(v);
	return dispatch(v);
}
