/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/vcpu.c
/* Exceptions on top of each other, INIT and start-up IPIs, what ends HLT, the first state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/cpu.h"
#include "arch/x86/percpu.h"
#include "core/sched.h"
#include "core/vm.h"
#include "sev/es.h"

struct percpu percpu;
static u64 regs[VREG_COUNT];
static struct vsegment segs[VSEG_COUNT];
static bool protected;
static u32 resets, lapic_resets, wakes, powered;
static int irq; /* what the LAPIC would deliver */

static int get_reg(struct vcpu *v, enum vreg reg, u64 *value)
{
	*value = regs[reg];
	return protected ? -13 : 0;
}
static int set_reg(struct vcpu *v, enum vreg reg, u64 value)
{
	regs[reg] = value;
	return 0;
}
static int get_seg(struct vcpu *v, enum vseg seg, struct vsegment *s)
{
	*s = segs[seg];
	return protected ? -13 : 0;
}
static int set_seg(struct vcpu *v, enum vseg seg, const struct vsegment *s)
{
	segs[seg] = *s;
	return 0;
}
static void reset(struct vcpu *v, bool init) { resets += init ? 100 : 1; }
static const struct virt_backend mock = {
	.get_reg = get_reg, .set_reg = set_reg, .get_seg = get_seg, .set_seg = set_seg,
	.vcpu_reset = reset,
};
const struct virt_backend *virt = &mock;

void *heap_alloc(size_t size) { return calloc(1, size); }
void heap_free(void *p) { free(p); }
void sched_place(struct vcpu *v, const struct cpu_set *affinity) {}
void sched_unplace(struct vcpu *v) {}
void sched_wake(struct vcpu *v) { wakes++; }
void cpuid_build(struct vcpu *v) {}
void vlapic_init(struct vlapic *l, struct vdev_platform *p, u32 vcpu, u32 apic_id) {}
void vlapic_reset(struct vlapic *l, bool init) { lapic_resets += init ? 100 : 1; }
int vlapic_pending(struct vlapic *l) { return irq; }
void pv_reset(struct vcpu *v) {}
static u32 es_sipis;
void es_take_sipi(struct vcpu *v) { es_sipis++; }
void pv_eoi_settle(struct vcpu *v) {}
void log_print(u32 level, const char *fmt, ...) {}
void vm_power(struct vm *vm, u32 what, u32 code)
{
	vm->power = what;
	powered++;
}

static struct vm vm;
static struct vcpu v;

static int setup(void **state)
{
	memset(&vm, 0, sizeof(vm));
	memset(&v, 0, sizeof(v));
	memset(regs, 0, sizeof(regs));
	memset(segs, 0, sizeof(segs));
	v.vm = &vm;
	resets = lapic_resets = wakes = powered = 0;
	protected = false;
	irq = -1;
	return 0;
}

/* APM vol. 2, table 8-7: which second exception makes a double fault. */
static void second_exceptions(void **state)
{
	static const struct { u8 first, second; bool fault; } rows[] = {
		{ VEC_GP, VEC_GP, true },  { VEC_DE, VEC_NP, true },  { VEC_PF, VEC_PF, true },
		{ VEC_PF, VEC_GP, true },  { VEC_GP, VEC_PF, false }, { VEC_UD, VEC_GP, false },
		{ VEC_GP, VEC_UD, false }, { VEC_DB, VEC_PF, false }, { VEC_PF, VEC_UD, false },
		{ VEC_SS, VEC_TS, true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		setup(NULL);
		vcpu_inject_exception(&v, rows[i].first, true, 7);
		vcpu_inject_exception(&v, rows[i].second, true, 9);
		assert_int_equal(v.event.vector, rows[i].fault ? VEC_DF : rows[i].second);
		assert_true(v.event.has_error);
		assert_int_equal(v.event.error, rows[i].fault ? 0 : 9);
		assert_int_equal(v.hazards, HAZ_EVENT);
		assert_int_equal(powered, 0);
	}
}

static void third_exception_is_shutdown(void **state)
{
	vcpu_inject_gp(&v);
	vcpu_inject_gp(&v);
	assert_int_equal(v.event.vector, VEC_DF);
	vcpu_inject_ud(&v);
	assert_int_equal(vm.power, VM_POWER_CRASH);
	assert_string_equal(vm.why, "triple fault");
}

static void interrupted_nmi_is_not_lost(void **state)
{
	v.event = (struct vevent){ .type = VEVENT_NMI, .vector = 2 };
	vcpu_inject_gp(&v);
	assert_int_equal(v.nmi_pending, 1);
	assert_int_equal(v.event.vector, VEC_GP);
}

static void page_fault_sets_cr2(void **state)
{
	vcpu_inject_pf(&v, 0xffff800000001234UL, 6);
	assert_int_equal(regs[VREG_CR2], 0xffff800000001234UL);
	assert_int_equal(v.event.error, 6);
}

static void first_reason_stays(void **state)
{
	vcpu_fatal(&v, "first %u", 1);
	vcpu_fatal(&v, "second");
	assert_string_equal(vm.why, "first 1");
}

static void init_and_sipi(void **state)
{
	v.id = 1;
	v.state = VCPU_ON;
	v.event.type = VEVENT_EXCEPTION;
	v.nmi_pending = 1;
	v.halted = true;
	v.hazards = HAZ_INIT | HAZ_EVENT | HAZ_NMI;
	vcpu_startup_events(&v);
	assert_int_equal(v.state, VCPU_WAIT_SIPI);
	assert_int_equal(v.event.type, VEVENT_NONE);
	assert_int_equal(v.nmi_pending, 0);
	assert_false(v.halted);
	assert_int_equal(v.hazards, 0);
	assert_int_equal(resets, 100);
	assert_int_equal(lapic_resets, 100);

	v.sipi_vector = 0x9a;
	v.hazards = HAZ_SIPI;
	vcpu_startup_events(&v);
	assert_int_equal(v.state, VCPU_ON);
	assert_int_equal(segs[VSEG_CS].selector, 0x9a00);
	assert_int_equal(segs[VSEG_CS].base, 0x9a000);
	assert_int_equal(regs[VREG_RIP], 0);

	/* A second start-up IPI is ignored. */
	v.sipi_vector = 0x10;
	v.hazards = HAZ_SIPI;
	vcpu_startup_events(&v);
	assert_int_equal(segs[VSEG_CS].selector, 0x9a00);
}

static void init_of_the_boot_processor(void **state)
{
	v.state = VCPU_ON;
	v.hazards = HAZ_INIT;
	vcpu_startup_events(&v);
	assert_int_equal(v.state, VCPU_ON);
	assert_int_equal(resets, 100);
}

/* Of an SEV-ES guest the boot processor ignores INIT; a start-up IPI has its own rules. */
static void protected_init_and_sipi(void **state)
{
	struct es_vcpu es = { 0 };

	v.es = &es;
	v.state = VCPU_ON;
	v.nmi_pending = 1;
	v.hazards = HAZ_INIT;
	vcpu_startup_events(&v);
	assert_int_equal(v.state, VCPU_ON);
	assert_int_equal(v.nmi_pending, 1);
	assert_int_equal(resets, 0);
	v.id = 1;
	v.hazards = HAZ_INIT | HAZ_SIPI;
	vcpu_startup_events(&v);
	assert_int_equal(v.state, VCPU_WAIT_SIPI);
	assert_int_equal(v.nmi_pending, 0);
	assert_int_equal(resets, 100);
	assert_int_equal(es_sipis, 1);
	assert_int_equal(segs[VSEG_CS].selector, 0);
}

static void what_ends_halt(void **state)
{
	static const u32 always[] = { HAZ_NMI, HAZ_INIT, HAZ_SIPI, HAZ_STOP, HAZ_EVENT };

	for (size_t i = 0; i < ARRAY_SIZE(always); i++) {
		v.hazards = always[i];
		assert_true(vcpu_wakes(&v));
	}
	v.hazards = HAZ_IRQ | HAZ_RESCHED | HAZ_TLB | HAZ_TPR;
	v.halt_if = true;
	assert_false(vcpu_wakes(&v)); /* the LAPIC has nothing after all */
	irq = 0x30;
	assert_true(vcpu_wakes(&v));
	v.halt_if = false;
	assert_false(vcpu_wakes(&v)); /* interrupts off: HLT for ever, but for an NMI */
}

static void hazards_wake_others_only(void **state)
{
	vcpu_hazard(&v, HAZ_IRQ);
	assert_int_equal(wakes, 1);
	v.place = VCPU_CURRENT;
	v.cpu = 0;
	percpu.id = 0;
	vcpu_hazard(&v, HAZ_NMI);
	assert_int_equal(wakes, 1); /* its own CPU looks before it enters again */
	percpu.id = 1;
	vcpu_hazard(&v, HAZ_TLB);
	assert_int_equal(wakes, 2);
	assert_int_equal(v.hazards, HAZ_IRQ | HAZ_NMI | HAZ_TLB);
	percpu.id = 0;
}

static void entry_in_long_mode(void **state)
{
	const struct guest_entry e = { .mode = GUEST_LONG64, .rip = 0x1000200, .rsi = 0x98000,
				       .cr3 = 0x91000, .gdt = 0x90000, .gdt_limit = 31,
				       .rsp = 0x8000 };

	assert_int_equal(vcpu_set_entry(&v, &e), 0);
	assert_int_equal(regs[VREG_RIP], 0x1000200);
	assert_int_equal(v.gpr[GPR_RSI], 0x98000);
	assert_int_equal(regs[VREG_EFER], 0x500);
	assert_true(regs[VREG_CR0] & CR0_PG);
	assert_true(regs[VREG_CR4] & CR4_PAE);
	assert_int_equal(segs[VSEG_CS].selector, 0x10);
	assert_true(segs[VSEG_CS].attr & VSEG_ATTR_L);
	assert_false(segs[VSEG_CS].attr & VSEG_ATTR_DB); /* L and D together are reserved */
	assert_int_equal(segs[VSEG_DS].selector, 0x18);
	assert_int_equal(segs[VSEG_GDTR].base, 0x90000);
}

static void entry_in_protected_mode(void **state)
{
	const struct guest_entry e = { .mode = GUEST_PROT32, .rip = 0x100000, .rax = 0x2badb002,
				       .rbx = 0x98000 };

	assert_int_equal(vcpu_set_entry(&v, &e), 0);
	assert_int_equal(regs[VREG_CR0] & (CR0_PE | CR0_PG), CR0_PE);
	assert_int_equal(v.gpr[GPR_RAX], 0x2badb002);
	assert_int_equal(v.gpr[GPR_RBX], 0x98000);
	assert_true(segs[VSEG_CS].attr & VSEG_ATTR_DB);
	assert_int_equal(segs[VSEG_CS].limit, 0xffffffff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(second_exceptions, setup),
		cmocka_unit_test_setup(third_exception_is_shutdown, setup),
		cmocka_unit_test_setup(interrupted_nmi_is_not_lost, setup),
		cmocka_unit_test_setup(page_fault_sets_cr2, setup),
		cmocka_unit_test_setup(first_reason_stays, setup),
		cmocka_unit_test_setup(init_and_sipi, setup),
		cmocka_unit_test_setup(init_of_the_boot_processor, setup),
		cmocka_unit_test_setup(protected_init_and_sipi, setup),
		cmocka_unit_test_setup(what_ends_halt, setup),
		cmocka_unit_test_setup(hazards_wake_others_only, setup),
		cmocka_unit_test_setup(entry_in_long_mode, setup),
		cmocka_unit_test_setup(entry_in_protected_mode, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
