/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/vcpu_state.h"
#include "arch/x86/cpu.h"
#include "arch/x86/mitigations.h"
#include "arch/x86/msr.h"
#include "arch/x86/percpu.h"
#include "arch/x86/smp.h"
#include "core/errno.h"
#include "core/pmm.h"
#include "core/spinlock.h"
#include "core/string.h"
#include "core/vm.h"

/* x87, SSE, AVX, MPX, AVX-512, PKRU. Not AMX: its XFD register would have to be switched too. */
#define XCR0_KNOWN 0x2ffUL
#define XCR0_RESET 1UL
#define MXCSR_RESET 0x1f80U

/* The XSAVE area (APM vol. 2, 11.5.4); bytes 464..511 are never touched by the CPU. */
struct fpu_area {
	u16 fcw, fsw;
	u8 ftw, reserved;
	u16 fop;
	u64 rip, rdp;
	u32 mxcsr, mxcsr_mask;
	u8 regs[464 - 32];
	u32 cpu;              /* CPU that has the state in its registers, plus 1; 0: it is here */
	u8 spare[512 - 468];
	u64 xstate_bv, xcomp_bv;
	u8 header[48];
};
ASSERT_OFFSET(struct fpu_area, mxcsr, 24);
ASSERT_OFFSET(struct fpu_area, cpu, 464);
ASSERT_OFFSET(struct fpu_area, xstate_bv, 512);
ASSERT_SIZE(struct fpu_area, 576);

PERCPU struct state_cpu state_cpu;

/* Boot CPU's: all CPUs are alike. */
static u64 xcr0_mask;
static u32 area_order;

static u64 detect_xcr0(void)
{
	struct cpuid_regs r;

	if (!cpu_features.xsave)
		return 0;
	r = cpuid_if(0xd, 0);
	return ((u64)r.edx << 32 | r.eax) & XCR0_KNOWN;
}

static bool detect_tsc_aux(void)
{
	return (cpuid_if(0x80000001U, 0).edx & BIT32(27)) != 0 ||
	       (cpuid_if(7, 0).ecx & BIT32(22)) != 0;
}

/* What one VM has taught the branch predictor must not steer another. */
static void predictor_barrier(const struct vcpu *from, struct vcpu *to)
{
	if (!state_cpu.barrier || (from != NULL && from->vm == to->vm))
		return;
	wrmsr(MSR_PRED_CMD, 1);
	to->switches.barriers++;
}

static void write_xcr0(struct vcpu *v, u64 value)
{
	if (state_cpu.xcr0_mask == 0 || state_cpu.xcr0 == value)
		return;
	xsetbv(0, value);
	state_cpu.xcr0 = value;
	v->switches.xcr0++;
}

static void write_tsc_aux(struct vcpu *v, u64 value)
{
	if (!state_cpu.has_tsc_aux || state_cpu.tsc_aux == value)
		return;
	wrmsr(MSR_TSC_AUX, value);
	state_cpu.tsc_aux = value;
	v->switches.tsc_aux++;
}

static void area_size_init(void)
{
	u32 size = sizeof(struct fpu_area);

	if (xcr0_mask != 0)
		size = MAX(size, cpuid_if(0xd, 0).ecx); /* for all that the CPU knows */
	area_order = 0;
	while ((PAGE_SIZE << area_order) < size)
		area_order++;
}

void vcpu_state_cpu_init(void)
{
	u64 cr4 = read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT;

	xcr0_mask = detect_xcr0();
	if (area_order == 0)
		area_size_init();
	state_cpu.xcr0_mask = xcr0_mask;
	state_cpu.has_tsc_aux = detect_tsc_aux();
	state_cpu.barrier = mitigations.ibpb != 0;
	write_cr0((read_cr0() | CR0_MP) & ~(CR0_TS | CR0_EM));
	/* What the registers hold now belongs to nobody: a first value makes the copies true. */
	if (state_cpu.has_tsc_aux) {
		wrmsr(MSR_TSC_AUX, 0);
		state_cpu.tsc_aux = 0;
	}
	if (xcr0_mask == 0) {
		write_cr4(cr4);
		return;
	}
	write_cr4(cr4 | CR4_OSXSAVE);
	xsetbv(0, xcr0_mask);
	state_cpu.xcr0 = xcr0_mask;
	/* No supervisor component is offered to guests; XSAVES must not save one. */
	if ((cpuid_if(0xd, 1).eax & BIT32(3)) != 0)
		wrmsr(MSR_XSS, 0);
}

u64 vcpu_state_xcr0_mask(void)
{
	return xcr0_mask;
}

/* All components at once: nothing of one guest may stay behind for the next. */
static void fpu_save(struct vcpu *v)
{
	struct fpu_area *a = v->fpu;
	u32 lo = (u32)state_cpu.xcr0_mask, hi = (u32)(state_cpu.xcr0_mask >> 32);

	write_xcr0(v, state_cpu.xcr0_mask);
	if (state_cpu.xcr0_mask != 0)
		__asm__ volatile("xsave64 (%0)" : : "r"(a), "a"(lo), "d"(hi) : "memory");
	else
		__asm__ volatile("fxsave64 (%0)" : : "r"(a) : "memory");
}

static void fpu_restore(struct vcpu *v)
{
	struct fpu_area *a = v->fpu;
	u32 lo = (u32)state_cpu.xcr0_mask, hi = (u32)(state_cpu.xcr0_mask >> 32);

	write_xcr0(v, state_cpu.xcr0_mask);
	if (state_cpu.xcr0_mask != 0)
		__asm__ volatile("xrstor64 (%0)" : : "r"(a), "a"(lo), "d"(hi) : "memory");
	else
		__asm__ volatile("fxrstor64 (%0)" : : "r"(a) : "memory");
}

static void save(struct vcpu *v)
{
	struct fpu_area *a = v->fpu;

	/* Of an SEV-ES guest the CPU has switched all but the break points' addresses. */
	if (!v->trap_protected) {
		vcpu_state_read_xcr0(v);
		fpu_save(v);
	}
	v->dr[0] = read_dr0();
	v->dr[1] = read_dr1();
	v->dr[2] = read_dr2();
	v->dr[3] = read_dr3();
	state_cpu.owner = NULL;
	__atomic_store_n(&a->cpu, 0, __ATOMIC_RELEASE);
}

static void restore(struct vcpu *v)
{
	struct fpu_area *a = v->fpu;

	if (!v->trap_protected)
		fpu_restore(v);
	write_dr0(v->dr[0]);
	write_dr1(v->dr[1]);
	write_dr2(v->dr[2]);
	write_dr3(v->dr[3]);
	if (!v->trap_protected)
		write_xcr0(v, v->guest_xcr0);
	write_tsc_aux(v, v->msr_tsc_aux);
	v->switches.loads++;
	state_cpu.owner = v;
	__atomic_store_n(&a->cpu, cpu_number() + 1, __ATOMIC_RELEASE);
}

static void put_call(void *arg)
{
	if (state_cpu.owner == arg)
		save(arg);
}

static void drop_call(void *arg)
{
	if (state_cpu.owner == arg) {
		vcpu_state_read_xcr0(arg);
		state_cpu.owner = NULL;
	}
}

/* Runs fn on the CPU that has v's registers, if one has. */
static void call_holder(struct vcpu *v, void (*fn)(void *arg))
{
	struct fpu_area *a = v->fpu;
	u32 holder = __atomic_load_n(&a->cpu, __ATOMIC_ACQUIRE);

	/* Cannot fail: the number is that of a CPU that ran v. */
	if (holder != 0)
		(void)smp_call(holder - 1, fn, v);
}

void vcpu_state_load(struct vcpu *v)
{
	u64 flags;

	v->switches.entries++;
	if (likely(state_cpu.owner == v))
		return;
	call_holder(v, put_call);
	/* Another CPU's put_call must not come between. */
	flags = irq_save();
	predictor_barrier(state_cpu.owner, v);
	if (state_cpu.owner != NULL)
		save(state_cpu.owner);
	restore(v);
	irq_restore(flags);
}

void vcpu_state_put(struct vcpu *v)
{
	u64 flags = irq_save();

	if (state_cpu.owner == v)
		save(v);
	irq_restore(flags);
}

int vcpu_state_init(struct vcpu *v)
{
	paddr_t pa = alloc_pages(area_order, ALLOC_ZERO);

	if (pa == 0)
		return -ENOMEM;
	v->fpu = phys_to_virt(pa);
	return 0;
}

void vcpu_state_destroy(struct vcpu *v)
{
	if (v->fpu == NULL)
		return;
	call_holder(v, drop_call);
	free_pages(virt_to_phys(v->fpu), area_order);
	v->fpu = NULL;
}

void vcpu_state_reset(struct vcpu *v, bool init)
{
	struct fpu_area *a = v->fpu;

	call_holder(v, init ? put_call : drop_call);
	memset(v->dr, 0, sizeof(v->dr));
	if (init)
		return;
	memset(a, 0, PAGE_SIZE << area_order);
	a->fcw = 0x40;
	a->ftw = 0xff; /* all registers valid, zero */
	a->mxcsr = MXCSR_RESET;
	a->xstate_bv = XCR0_RESET;
	v->guest_xcr0 = XCR0_RESET;
	v->msr_tsc_aux = 0;
	v->xss = 0;
}

void vcpu_state_set_xcr0(struct vcpu *v, u64 value)
{
	v->guest_xcr0 = value;
	write_xcr0(v, value);
}

u64 vcpu_state_tsc_aux(void)
{
	return state_cpu.tsc_aux;
}

void vcpu_state_set_tsc_aux(struct vcpu *v, u64 value)
{
	v->msr_tsc_aux = value;
	write_tsc_aux(v, value);
}
