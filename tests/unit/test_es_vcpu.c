/* SPDX-License-Identifier: BSD-2-Clause */
// sources: sev/es_vcpu.c sev/vmsa.c arch/x86/svm/bitmaps.c arch/x86/guest_msrs.c core/vcpu.c
/* An SEV-ES vCPU as it is made: control block, MSR bitmap, save areas, what may be read and set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/percpu.h"
#include "arch/x86/svm/svm.h"
#include "arch/x86/vcpu_state.h"
#include "core/errno.h"
#include "core/heap.h"
#include "core/pmm.h"
#include "core/sched.h"
#include "sev/es.h"
#include "sev/ghcb.h"
#include "sev/vmsa.h"

struct svm_machine svm;
struct sev_facts sev_facts = { .c_bit = 51, .reduction = 1 };
static struct vmcb vmcb, before;
static struct svm_vcpu sv = { .vmcb = &vmcb };
static struct vm vm = { .name = "a", .vcpus = 2 };
static struct es_vm esvm;
static struct vcpu v;
static int allocations; /* left */
static u8 *pages[64];
static u32 made, freed, lapic_resets;

void *heap_alloc(size_t size) { return allocations-- > 0 ? calloc(1, size) : NULL; }
void heap_free(void *p) { free(p); }
paddr_t alloc_pages(u32 order, u32 flags)
{
	if (allocations-- <= 0)
		return 0;
	pages[made] = calloc(1, PAGE_SIZE << order);
	return (paddr_t)(++made) << 20;
}
void free_pages(paddr_t pa, u32 order)
{
	free(pages[(pa >> 20) - 1]);
	freed++;
}
void *phys_to_virt(paddr_t pa) { return pages[(pa >> 20) - 1]; }
paddr_t virt_to_phys(const void *va)
{
	for (u32 i = 0; i < made; i++)
		if (pages[i] == va)
			return (paddr_t)(i + 1) << 20;
	abort();
}
void vcpu_state_reset(struct vcpu *c, bool init) { assert_false(init); }
void ghcb_reset(struct vcpu *c) { *c->es->ghcb_msr = 0x1234; }
void pv_reset(struct vcpu *c) { }
void vlapic_reset(struct vlapic *l, bool init) { lapic_resets++; }
void log_printf(const char *fmt, ...) { }

/* Of core/vcpu.c. */
struct percpu percpu;
static int set_reg(struct vcpu *c, enum vreg reg, u64 value) { return es_set_reg(c, reg, value); }
static const struct virt_backend mock = { .set_reg = set_reg, .vcpu_reset = es_vcpu_reset };
const struct virt_backend *virt = &mock;
void sched_place(struct vcpu *c, const struct cpu_set *affinity) { }
void sched_unplace(struct vcpu *c) { }
void sched_wake(struct vcpu *c) { }
void cpuid_build(struct vcpu *c) { }
void vlapic_init(struct vlapic *l, struct vdev_platform *p, u32 vcpu, u32 apic_id) { }
int vlapic_pending(struct vlapic *l) { return -1; }
void pv_eoi_settle(struct vcpu *c) { }
void log_print(u32 level, const char *fmt, ...) { }
void vm_power(struct vm *machine, u32 what, u32 code) { }

/* What svm_vcpu_init() leaves, of which all that concerns SEV-ES must be changed. */
static int setup(void **state)
{
	memset(&vmcb, 0, sizeof(vmcb));
	memset(&v, 0, sizeof(v));
	memset(&esvm, 0, sizeof(esvm));
	lapic_resets = 0;
	allocations = 100;
	vm.es = &esvm;
	v.vm = &vm;
	v.arch = &sv;
	v.id = 1;
	vmcb.intercept_exception = BIT32(1) | BIT32(17) | BIT32(18);
	vmcb.intercept_cr = BIT32(SVM_EXIT_CR8_WRITE);
	vmcb.intercept3 = 0xfdd4801f; /* all that a plain guest has, window and IRET too */
	vmcb.intercept4 = 0x7e7f;
	vmcb.iopm_base = 0x7000;
	vmcb.msrpm_base = 0x8000;
	vmcb.np_control = VMCB_NP_ENABLE;
	vmcb.n_cr3 = 0x9000;
	before = vmcb;
	return 0;
}

/* Facts of the manual (APM vol. 2, 15.34 to 15.35), not what the code has: offset by offset. */
static void test_row32_control_block(void **state)
{
	const u8 *b = (const u8 *)&vmcb;

	assert_int_equal(es_vcpu_init(&v), 0);
	es_vcpu_reset(&v, false);
#define AT(type, offset) (*(const type *)(b + (offset)))
	assert_int_equal(AT(u32, 0x000), 0);                /* no control register */
	assert_int_equal(AT(u32, 0x004), 0x00800080);       /* DR7 */
	assert_int_equal(AT(u32, 0x008) & BIT32(29), 0);    /* never #VC */
	assert_int_equal(AT(u32, 0x008), 0x00060002);       /* #DB, #AC, #MC */
	assert_int_equal(AT(u32, 0x00c) & BIT32(20), 0);    /* never IRET */
	assert_int_equal(AT(u32, 0x00c) & BIT32(4), 0);     /* no window open */
	assert_int_equal(AT(u32, 0x00c), 0x9dc4800f);       /* INTR..INIT, CPUID, INVD, ... */
	assert_int_equal(AT(u32, 0x010) & BIT32(13), 0);    /* never XSETBV */
	assert_int_equal(AT(u32, 0x010) >> 15, 0x223);      /* traps: EFER, CR0, CR4, CR8 */
	assert_int_equal(AT(u32, 0x010) & 1, 1);            /* VMRUN */
	assert_int_equal(AT(u64, 0x060), BIT(24));          /* V_INTR_MASKING and nothing else */
	assert_int_equal(AT(u64, 0x090), 7);                /* NP, SEV, SEV-ES */
	assert_int_equal(AT(u64, 0x0a0), 0x1234);           /* preset of the GHCB's MSR */
	assert_int_equal(AT(u64, 0x0a8), 0);
	assert_int_equal(AT(u64, 0x0b0), 0x9000);
	assert_int_equal(AT(u64, 0x0b8) & 1, 1);            /* LBR virtualisation */
	assert_int_equal(AT(u64, 0x108), v.es->vmsa);
	assert_int_equal(v.es->vmsa & 0xfff, 0);
	assert_int_equal(v.es->vmsa >> 51, 0);
	assert_true(AT(u64, 0x048) != 0x8000);              /* a bitmap of its own */
	assert_true(v.trap_protected);
	assert_memory_equal(&vmcb.es, &before.es, 0xc00);
	es_vcpu_destroy(&v);
}

static void test_row06_msr_bitmap(void **state)
{
	static const u32 open[] = { MSR_EFER, MSR_PAT, MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
				    MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK, MSR_SYSENTER_CS,
				    MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_DEBUGCTL, MSR_GHCB };
	static const u32 closed[] = { MSR_APIC_BASE, MSR_VM_CR, MSR_VM_HSAVE_PA, MSR_SYSCFG,
				      MSR_TSC_AUX, MSR_XSS, MSR_SPEC_CTRL, 0x8b, 0xc0010015 };
	const u8 *map;

	assert_int_equal(es_vcpu_init(&v), 0);
	map = phys_to_virt(vmcb.msrpm_base);
	for (size_t i = 0; i < ARRAY_SIZE(open); i++) {
		assert_false(svm_msrpm_intercepted(map, open[i], false));
		assert_false(svm_msrpm_intercepted(map, open[i], true));
	}
	for (size_t i = 0; i < ARRAY_SIZE(closed); i++) {
		assert_true(svm_msrpm_intercepted(map, closed[i], false));
		assert_true(svm_msrpm_intercepted(map, closed[i], true));
	}
	es_vcpu_destroy(&v);
}

/* The bitmap is encrypted memory; the VMSA is so by itself: its address is plain. */
static void test_row30_addresses(void **state)
{
	paddr_t plain;

	assert_int_equal(es_vcpu_init(&v), 0);
	plain = vmcb.msrpm_base;
	es_vcpu_destroy(&v);
	host_c_bit = BIT(51);
	assert_int_equal(es_vcpu_init(&v), 0);
	assert_int_equal(vmcb.msrpm_base, plain | BIT(51));
	assert_int_equal(vmcb.vmsa_pa, v.es->vmsa);
	assert_int_equal(vmcb.vmsa_pa >> 51, 0);
	es_vcpu_destroy(&v);
	host_c_bit = 0;
}

static void test_out_of_memory(void **state)
{
	for (int n = 0; n < 3; n++) {
		u32 left = made - freed;

		setup(state);
		allocations = n;
		assert_int_equal(es_vcpu_init(&v), -ENOMEM);
		assert_null(v.es);
		assert_int_equal(made - freed, left);
	}
}

/* The tracked ones and what the control block shows can be read; nothing but the TSC offset set. */
static void test_row25_registers(void **state)
{
	u64 value;

	assert_int_equal(es_vcpu_init(&v), 0);
	v.es->cr0 = 0x80050033;
	v.es->cr4 = 0x406f0;
	v.es->efer = 0xd01;
	vmcb.int_state = 2;
	vmcb.rflags = ~0UL; /* nothing of the guest's */
	for (u32 r = 0; r < VREG_COUNT; r++) {
		bool known = r == VREG_CR0 || r == VREG_CR4 || r == VREG_EFER ||
			     r == VREG_RFLAGS || r == VREG_INT_SHADOW || r == VREG_TSC_OFFSET;

		value = 0x55;
		assert_int_equal(es_get_reg(&v, r, &value), known ? 0 : -EACCES);
		if (!known)
			assert_int_equal(value, 0x55);
		assert_int_equal(es_set_reg(&v, r, 1), r == VREG_TSC_OFFSET ? 0 : -EACCES);
	}
	(void)es_get_reg(&v, VREG_CR0, &value);
	assert_int_equal(value, 0x80050033);
	(void)es_get_reg(&v, VREG_RFLAGS, &value);
	assert_int_equal(value, RFLAGS_IF);
	vmcb.int_state = 1;
	(void)es_get_reg(&v, VREG_RFLAGS, &value);
	assert_int_equal(value, 0);
	(void)es_get_reg(&v, VREG_INT_SHADOW, &value);
	assert_int_equal(value, 1);
	es_vcpu_destroy(&v);
}

static void startup(u32 hazards)
{
	v.hazards |= hazards;
	vcpu_startup_events(&v);
	assert_int_equal(v.hazards & (HAZ_INIT | HAZ_SIPI), 0);
}

static void test_row27_start_up(void **state)
{
	assert_int_equal(es_vcpu_init(&v), 0);
	/* A start-up IPI to one that runs. */
	v.state = VCPU_ON;
	v.halted = true;
	startup(HAZ_SIPI);
	assert_int_equal(v.state, VCPU_ON);
	assert_true(v.halted);
	assert_int_equal(v.es->wake, 0);
	/* The first. */
	v.state = VCPU_WAIT_SIPI;
	startup(HAZ_INIT | HAZ_SIPI);
	assert_int_equal(v.state, VCPU_ON);
	assert_int_equal(lapic_resets, 1);
	/* INIT makes a running one wait, and nothing of it is reset. */
	v.es->efer = 0xd01;
	v.es->nmi_masked = true;
	v.nmi_pending = 1;
	startup(HAZ_INIT);
	assert_int_equal(v.state, VCPU_WAIT_SIPI);
	assert_int_equal(v.es->efer, 0xd01);
	assert_false(v.es->nmi_masked);
	assert_int_equal(v.nmi_pending, 0);
	startup(HAZ_SIPI);
	assert_int_equal(v.state, VCPU_ON);
	assert_int_equal(v.es->wake, 0);
	/* In reset hold: released. */
	v.es->hold = ES_HOLD_GHCB;
	v.halted = true;
	startup(HAZ_INIT | HAZ_SIPI);
	assert_int_equal(v.es->wake, 2);
	assert_false(v.halted);
	assert_int_equal(v.state, VCPU_ON);
	/* The boot processor has no such life. */
	v.id = 0;
	lapic_resets = 0;
	startup(HAZ_INIT);
	assert_int_equal(v.state, VCPU_ON);
	assert_int_equal(lapic_resets, 0);
	es_vcpu_destroy(&v);
}

/* --- save areas --- */

static u64 at(const struct vmsa *s, u32 offset, u32 size)
{
	u64 value = 0;

	memcpy(&value, (const u8 *)s + offset, size);
	return value;
}

/* All that a launch by KVM has in the boot processor's page; the rest is zero (sevctl's dumps). */
static const struct {
	u32 offset, size;
	u64 value;
} reset_state[] = {
	{ 0x002, 2, 0x93 }, { 0x004, 4, 0xffff },                     /* ES */
	{ 0x010, 2, 0xf000 }, { 0x012, 2, 0x9b }, { 0x014, 4, 0xffff }, { 0x018, 8, 0xffff0000 },
	{ 0x022, 2, 0x93 }, { 0x024, 4, 0xffff }, { 0x032, 2, 0x93 }, { 0x034, 4, 0xffff },
	{ 0x042, 2, 0x93 }, { 0x044, 4, 0xffff }, { 0x052, 2, 0x93 }, { 0x054, 4, 0xffff },
	{ 0x064, 4, 0xffff }, { 0x072, 2, 0x82 }, { 0x074, 4, 0xffff }, { 0x084, 4, 0xffff },
	{ 0x092, 2, 0x8b }, { 0x094, 4, 0xffff },
	{ 0x0d0, 8, 0x1000 }, { 0x148, 8, 0x40 }, { 0x158, 8, 0x10 }, { 0x160, 8, 0x400 },
	{ 0x168, 8, 0xffff0ff0 }, { 0x170, 8, 2 }, { 0x178, 8, 0xfff0 },
	{ 0x268, 8, 0x0007040600070406 }, { 0x310, 8, 0xa00f11 }, { 0x3e8, 8, 1 },
};

static void clear(struct vmsa *s, u32 offset, u32 size) { memset((u8 *)s + offset, 0, size); }

static void test_vmsa_reset(void **state)
{
	static struct vmsa s;
	static const struct vmsa zero;

	memset(&s, 0xee, sizeof(s));
	vmsa_reset(&s, 0xa00f11, 0xfffffff0);
	for (size_t i = 0; i < ARRAY_SIZE(reset_state); i++) {
		assert_int_equal(at(&s, reset_state[i].offset, reset_state[i].size),
				 reset_state[i].value);
		clear(&s, reset_state[i].offset, reset_state[i].size);
	}
	assert_memory_equal(&s, &zero, sizeof(s));
	/* An AP of OVMF. */
	vmsa_reset(&s, 0xa00f11, 0x0080b004);
	assert_int_equal(at(&s, 0x010, 2), 0xf000);
	assert_int_equal(at(&s, 0x018, 8), 0x800000);
	assert_int_equal(at(&s, 0x178, 8), 0xb004);
}

static void test_vmsa_direct(void **state)
{
	static struct vmsa s, r;

	vmsa_direct(&s, 0xa00f11, 0x100000, 3, 0x80d000);
	vmsa_reset(&r, 0xa00f11, 0);
	assert_int_equal(at(&s, 0x010, 4), 0x0c9b0010);
	assert_int_equal(at(&s, 0x014, 4), 0xffffffff);
	assert_int_equal(at(&s, 0x018, 8), 0);
	for (u32 seg = 0; seg <= 0x50; seg += 0x10) {
		if (seg != 0x10)
			assert_int_equal(at(&s, seg, 8), 0xffffffff0c930018);
		clear(&s, seg, 16);
		clear(&r, seg, 16);
	}
	assert_int_equal(at(&s, 0x158, 8), 0x11);
	assert_int_equal(at(&s, 0x178, 8), 0x100000);
	assert_int_equal(at(&s, 0x318, 8), 3);
	assert_int_equal(at(&s, 0x330, 8), 0x80d000);
	clear(&s, 0x158, 8);
	clear(&r, 0x158, 8);
	clear(&s, 0x178, 8);
	clear(&s, 0x318, 8);
	clear(&s, 0x330, 8);
	assert_memory_equal(&s, &r, sizeof(s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_row32_control_block, setup),
		cmocka_unit_test_setup(test_row06_msr_bitmap, setup),
		cmocka_unit_test_setup(test_row30_addresses, setup),
		cmocka_unit_test_setup(test_out_of_memory, setup),
		cmocka_unit_test_setup(test_row25_registers, setup),
		cmocka_unit_test_setup(test_row27_start_up, setup),
		cmocka_unit_test(test_vmsa_reset),
		cmocka_unit_test(test_vmsa_direct),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
