/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/lapic.h"
#include "arch/x86/msr.h"
#include "arch/x86/percpu.h"
#include "arch/x86/traps.h"
#include "core/errno.h"
#include "core/heap.h"
#include "core/log.h"
#include "core/printf.h"
#include "core/sched.h"
#include "core/string.h"
#include "core/vm.h"
#include "sev/es.h"

/* A vCPU's life, its hazards and the exceptions it is given. */

int vcpu_create(struct vm *vm, u32 id)
{
	struct vcpu *v = heap_alloc(sizeof(*v));
	int err;

	if (v == NULL)
		return -ENOMEM;
	vm->vcpu[id] = v;
	v->vm = vm;
	v->id = v->apic_id = id;
	v->tsc_offset = 0 - vm->tsc_base;
	sched_place(v, &vm->config->affinity);
	cpuid_build(v);
	err = virt->vcpu_init(v);
	if (err < 0)
		return err;
	vlapic_init(&v->lapic, &vm->platform, id, v->apic_id);
	return 0;
}

void vcpu_destroy(struct vcpu *v)
{
	if (v == NULL)
		return;
	virt->vcpu_destroy(v);
	sched_unplace(v);
	heap_free(v);
}

void vcpu_power_on(struct vcpu *v)
{
	v->hazards = 0;
	v->event.type = VEVENT_NONE;
	v->nmi_pending = 0;
	v->halted = false;
	v->tsc_offset = 0 - v->vm->tsc_base;
	v->msr_tsc_aux = 0;
	pv_reset(v);
	virt->vcpu_reset(v, false);
	(void)virt->set_reg(v, VREG_TSC_OFFSET, v->tsc_offset);
}

/* --- hazards -------------------------------------------------------------------------------- */

void vcpu_hazard(struct vcpu *v, u32 bits)
{
	__atomic_or_fetch(&v->hazards, bits, __ATOMIC_SEQ_CST);
	/* In its own loop the bits are looked at before the next entry. */
	if (v->place == VCPU_CURRENT && v->cpu == cpu_number())
		return;
	sched_wake(v);
}

bool vcpu_wakes(struct vcpu *v)
{
	u32 haz = __atomic_load_n(&v->hazards, __ATOMIC_SEQ_CST);

	if ((haz & (HAZ_NMI | HAZ_INIT | HAZ_SIPI | HAZ_EVENT | HAZ_STOP)) != 0)
		return true;
	if (__atomic_load_n(&v->pv.unhalted, __ATOMIC_SEQ_CST))
		return true;
	return v->halt_if && vcpu_irq_pending(v) >= 0;
}

/* --- INIT and SIPI (APM vol. 2, 14.1.3 and 16.5) ---------------------------------------------- */

static void take_init(struct vcpu *v)
{
	v->event.type = VEVENT_NONE;
	v->nmi_pending = 0;
	v->halted = false;
	vcpu_hazard_clear(v, HAZ_EVENT | HAZ_NMI | HAZ_IRQ);
	pv_reset(v);
	vlapic_reset(&v->lapic, true);
	virt->vcpu_reset(v, true);
	(void)virt->set_reg(v, VREG_TSC_OFFSET, v->tsc_offset);
	/* The boot processor starts at the reset vector again; the others wait for their SIPI. */
	v->state = v->id == 0 ? VCPU_ON : VCPU_WAIT_SIPI;
}

static void take_sipi(struct vcpu *v)
{
	struct vsegment cs = { .attr = 0x9b, .limit = 0xffff };

	if (v->state != VCPU_WAIT_SIPI)
		return;
	cs.selector = (u16)(v->sipi_vector << 8);
	cs.base = (u64)v->sipi_vector << 12;
	(void)virt->set_seg(v, VSEG_CS, &cs);
	(void)virt->set_reg(v, VREG_RIP, 0);
	v->state = VCPU_ON;
}

void vcpu_startup_events(struct vcpu *v)
{
	u32 haz = __atomic_fetch_and(&v->hazards, ~(HAZ_INIT | HAZ_SIPI), __ATOMIC_ACQ_REL);

	/* The boot processor of an SEV-ES guest goes on: nobody can give it the state of reset. */
	if ((haz & HAZ_INIT) != 0 && (v->es == NULL || v->id != 0))
		take_init(v);
	if ((haz & HAZ_SIPI) != 0 && v->es != NULL)
		es_take_sipi(v);
	else if ((haz & HAZ_SIPI) != 0)
		take_sipi(v);
}

/* --- the boot processor's first state ---------------------------------------------------------- */

static int set_flat_segments(struct vcpu *v, bool code64, u16 cs_sel, u16 ds_sel)
{
	struct vsegment code = { .selector = cs_sel, .attr = code64 ? 0xa9b : 0xc9b,
				 .limit = 0xffffffff };
	struct vsegment data = { .selector = ds_sel, .attr = 0xc93, .limit = 0xffffffff };
	struct vsegment tr = { .attr = 0x8b, .limit = 0x67 };
	int err = virt->set_seg(v, VSEG_CS, &code);

	for (u32 s = VSEG_ES; s <= VSEG_GS && err == 0; s++)
		if (s != VSEG_CS)
			err = virt->set_seg(v, (enum vseg)s, &data);
	return err < 0 ? err : virt->set_seg(v, VSEG_TR, &tr);
}

static int set_gdt(struct vcpu *v, const struct guest_entry *e)
{
	struct vsegment gdtr = { .base = e->gdt, .limit = e->gdt_limit };

	return e->gdt == 0 ? 0 : virt->set_seg(v, VSEG_GDTR, &gdtr);
}

static int set_long_mode(struct vcpu *v, const struct guest_entry *e)
{
	int err = virt->set_reg(v, VREG_CR4, CR4_PAE);

	if (err == 0)
		err = virt->set_reg(v, VREG_CR3, e->cr3);
	if (err == 0)
		err = virt->set_reg(v, VREG_EFER, EFER_LME | EFER_LMA);
	if (err == 0)
		err = virt->set_reg(v, VREG_CR0, CR0_PE | CR0_ET | CR0_NE | CR0_PG);
	return err;
}

int vcpu_set_entry(struct vcpu *v, const struct guest_entry *e)
{
	int err;

	if (e->mode == GUEST_REAL)
		return 0;
	err = set_gdt(v, e);
	if (err == 0)
		err = set_flat_segments(v, e->mode == GUEST_LONG64, 0x10, 0x18);
	if (err == 0 && e->mode == GUEST_LONG64)
		err = set_long_mode(v, e);
	else if (err == 0)
		err = virt->set_reg(v, VREG_CR0, CR0_PE | CR0_ET);
	if (err == 0)
		err = virt->set_reg(v, VREG_RIP, e->rip);
	if (err == 0)
		err = virt->set_reg(v, VREG_RSP, e->rsp);
	v->gpr[GPR_RAX] = e->rax;
	v->gpr[GPR_RBX] = e->rbx;
	v->gpr[GPR_RSI] = e->rsi;
	return err;
}

/* --- exceptions (APM vol. 2, 8.2.9, table 8-7) -------------------------------------------------- */

static bool is_contributory(u8 vector)
{
	return vector == VEC_DE || (vector >= VEC_TS && vector <= VEC_GP);
}

/* Two exceptions in a row: does the second make a double fault? */
static bool makes_double_fault(u8 first, u8 second)
{
	if (first == VEC_PF)
		return second == VEC_PF || is_contributory(second);
	return is_contributory(first) && is_contributory(second);
}

void vcpu_inject_exception(struct vcpu *v, u8 vector, bool has_error, u32 error)
{
	struct vevent *e = &v->event;

	if (e->type == VEVENT_EXCEPTION && e->vector == VEC_DF) {
		vcpu_fatal(v, "triple fault");
		return;
	}
	if (e->type == VEVENT_EXCEPTION && makes_double_fault(e->vector, vector)) {
		vector = VEC_DF;
		has_error = true;
		error = 0;
	}
	/* An interrupt whose delivery raised the exception is delivered again after the handler:
	 * its vector is still requested, or its NMI counts on. */
	if (e->type == VEVENT_NMI)
		v->nmi_pending++;
	*e = (struct vevent){ VEVENT_EXCEPTION, vector, has_error, error };
	__atomic_or_fetch(&v->hazards, HAZ_EVENT, __ATOMIC_RELEASE);
}

void vcpu_inject_pf(struct vcpu *v, gva_t address, u32 error)
{
	(void)virt->set_reg(v, VREG_CR2, address);
	vcpu_inject_exception(v, VEC_PF, true, error);
}

/* --- reports ---------------------------------------------------------------------------------- */

static u64 reg(struct vcpu *v, enum vreg r)
{
	u64 value = 0;

	return virt->get_reg(v, r, &value) < 0 ? 0 : value;
}

void vcpu_dump(struct vcpu *v)
{
	const u64 *g = v->gpr;
	struct vsegment cs;

	if (v->trap_protected || virt->get_seg(v, VSEG_CS, &cs) < 0) {
		log_info("vm %s: vcpu %u: state protected", v->vm->name, v->id);
		return;
	}
	log_info("vm %s: vcpu %u: cs:rip %04x:%016lx rflags %08lx rsp %016lx", v->vm->name, v->id,
		 cs.selector, reg(v, VREG_RIP), reg(v, VREG_RFLAGS), reg(v, VREG_RSP));
	log_info("  rax %016lx rbx %016lx rcx %016lx rdx %016lx", g[GPR_RAX], g[GPR_RBX],
		 g[GPR_RCX], g[GPR_RDX]);
	log_info("  rsi %016lx rdi %016lx rbp %016lx r8  %016lx", g[GPR_RSI], g[GPR_RDI],
		 g[GPR_RBP], g[GPR_R8]);
	log_info("  r9  %016lx r10 %016lx r11 %016lx r12 %016lx", g[GPR_R9], g[GPR_R10],
		 g[GPR_R11], g[GPR_R12]);
	log_info("  r13 %016lx r14 %016lx r15 %016lx", g[GPR_R13], g[GPR_R14], g[GPR_R15]);
	log_info("  cr0 %08lx cr2 %016lx cr3 %016lx cr4 %08lx efer %04lx cpl %lu",
		 reg(v, VREG_CR0), reg(v, VREG_CR2), reg(v, VREG_CR3), reg(v, VREG_CR4),
		 reg(v, VREG_EFER), reg(v, VREG_CPL));
}

void vcpu_fatal(struct vcpu *v, const char *fmt, ...)
{
	struct vm *vm = v->vm;
	va_list ap;

	if (__atomic_load_n(&vm->power, __ATOMIC_ACQUIRE) == VM_POWER_NONE) {
		va_start(ap, fmt);
		vsnprintf(vm->why, sizeof(vm->why), fmt, ap);
		va_end(ap);
		log_err("vm %s: vcpu %u stopped: %s", vm->name, v->id, vm->why);
		vcpu_dump(v);
	}
	vm_power(vm, VM_POWER_CRASH, 0);
}
