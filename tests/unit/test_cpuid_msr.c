/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/cpuid.c core/msr.c arch/x86/svm/guest_cpu.c arch/x86/vmx/guest_cpu.c
/*
 * The CPUID and MSR policies. The machine below is the host's own CPUID; the
 * rules that are checked are the manuals' (APM vol. 2 and 3, SDM vol. 2A).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/vcpu_state.h"
#include "arch/x86/svm/svm.h"
#include "arch/x86/vmx/vmx.h"
#include "core/msr.h"
#include "core/vm.h"
#include "sev/sev.h"

struct cpu_features cpu_features;
struct sev_facts sev_facts;
static u64 xcr0_mask;
static u64 regs[VREG_COUNT];
static u32 hazards_set;
static u64 tsc_aux_set;

u64 vcpu_state_xcr0_mask(void) { return xcr0_mask; }
u64 vcpu_state_xcr0(struct vcpu *v) { return v->guest_xcr0; }
void vcpu_state_set_tsc_aux(struct vcpu *v, u64 value)
{
	tsc_aux_set = value;
	v->msr_tsc_aux = value;
}
void vcpu_hazard(struct vcpu *v, u32 bits) { hazards_set |= bits; }
void vlapic_tsc_changed(struct vlapic *l) {}
int vlapic_msr_read(struct vlapic *l, u32 msr, u64 *value)
{
	*value = msr;
	return msr == 0x8ff ? -22 : 0;
}
int vlapic_msr_write(struct vlapic *l, u32 msr, u64 value) { return value == 666 ? -22 : 0; }

/* The paravirtual part has its own tests. */
static u32 pv_settled, pv_clock_updates;
void pv_cpuid(const struct vm *m, struct cpuid_entry *leaf) { leaf[0].eax = 0x40000001; }
void pv_eoi_settle(struct vcpu *v)
{
	v->pv.eoi_armed = false;
	pv_settled++;
}
void pv_clock_update(struct vcpu *v) { pv_clock_updates++; }
int pv_msr_read(struct vcpu *v, u32 msr, u64 *value)
{
	*value = msr;
	return 0;
}
int pv_msr_write(struct vcpu *v, u32 msr, u64 value) { return value == 1 ? 0 : -22; }

static int get_reg(struct vcpu *v, enum vreg reg, u64 *value)
{
	*value = regs[reg];
	return 0;
}
static int set_reg(struct vcpu *v, enum vreg reg, u64 value)
{
	regs[reg] = value;
	return 0;
}
static void sync_tpr(struct vcpu *v) {}
static const struct virt_backend amd = { .get_reg = get_reg, .set_reg = set_reg,
					 .sync_tpr = sync_tpr, .cpuid = svm_guest_cpuid,
					 .msr_read = svm_msr_read, .msr_write = svm_msr_write };
static const struct virt_backend intel = { .get_reg = get_reg, .set_reg = set_reg,
					   .sync_tpr = sync_tpr, .cpuid = vmx_guest_cpuid,
					   .msr_read = vmx_msr_read, .msr_write = vmx_msr_write };
const struct virt_backend *virt = &amd;

static struct vm *vm;
static struct vm_msrs msrs;

static struct vcpu *make(u32 vcpus, u32 id)
{
	struct vcpu *v;

	vm = calloc(1, sizeof(*vm));
	v = calloc(1, sizeof(*v));
	assert_non_null(vm);
	assert_non_null(v);
	memset(regs, 0, sizeof(regs));
	vm->vcpus = vcpus;
	vm->msrs = &msrs;
	vm_msrs_reset(&msrs, false);
	v->vm = vm;
	v->id = v->apic_id = id;
	cpuid_build(v);
	return v;
}

static void drop(struct vcpu *v)
{
	free(v);
	free(vm);
}

static struct cpuid_entry ask(struct vcpu *v, u32 leaf, u32 subleaf)
{
	const struct cpuid_entry *s = cpuid_static(&v->cpuid, leaf);

	return s != NULL ? *s : *cpuid_dynamic(v, leaf, subleaf, regs[VREG_CR4]);
}

static int setup(void **state)
{
	memset(&cpu_features, 0, sizeof(cpu_features));
	virt = &amd;
	xcr0_mask = 7;
	hazards_set = 0;
	return 0;
}

static void cpuid_identity(void **state)
{
	struct vcpu *v = make(4, 3);
	struct cpuid_entry e = ask(v, 1, 0);

	assert_int_equal(e.ebx >> 24, 3);
	assert_int_equal(e.ebx >> 16 & 0xff, 4);
	assert_true(e.ecx & BIT32(31)); /* hypervisor present */
	assert_true(e.ecx & BIT32(21)); /* x2APIC: emulated, whatever the machine has */
	assert_true(e.edx & BIT32(28)); /* HTT: more than one logical processor */
	assert_int_equal(ask(v, 0xb, 0).edx, 3);
	assert_int_equal(ask(v, 0xb, 1).eax, 2); /* four vCPUs: two bits of the APIC id */
	assert_int_equal(ask(v, 0xb, 1).ebx, 4);
	assert_int_equal(ask(v, 0xb, 2).ebx, 0);
	drop(v);
}

static void cpuid_single(void **state)
{
	struct vcpu *v = make(1, 0);

	assert_false(ask(v, 1, 0).edx & BIT32(28));
	assert_int_equal(ask(v, 0x80000008, 0).ecx, 0);
	drop(v);
}

static void cpuid_hides_virtualisation(void **state)
{
	struct vcpu *v = make(2, 0);

	assert_false(ask(v, 1, 0).ecx & BIT32(5));          /* VMX */
	assert_false(ask(v, 1, 0).ecx & BIT32(3));          /* MONITOR */
	assert_false(ask(v, 0x80000001, 0).ecx & BIT32(2)); /* SVM */
	assert_int_equal(ask(v, 0x8000000a, 0).ebx, 0);
	assert_int_equal(ask(v, 0x8000001f, 0).eax, 0);     /* SEV */
	assert_int_equal(ask(v, 7, 0).edx, 0);
	drop(v);
}

/* APM vol. 3, E.4.17: what a Linux guest checks before it believes in its encryption. */
static void cpuid_of_an_encrypted_guest(void **state)
{
	struct vcpu *v = make(2, 1);
	struct cpuid_entry plain = ask(v, 0x80000008, 0), e;

	sev_facts = (struct sev_facts){ .c_bit = 51, .reduction = 5, .max_asid = 509, .min_asid = 5 };
	vm->es = (void *)&sev_facts; /* anything but NULL */
	cpuid_build(v);
	assert_int_equal(ask(v, 0x80000000, 0).eax, 0x8000001f);
	e = ask(v, 0x8000001f, 0);
	assert_int_equal(e.eax, 0xa);
	assert_int_equal(e.ebx, 51 | 5 << 6);
	assert_int_equal(e.ecx | e.edx, 0); /* ASIDs are no guest's business */
	assert_int_equal(ask(v, 0x80000008, 0).eax, plain.eax); /* the guest subtracts by itself */
	for (u32 leaf = 0x80000009; leaf < 0x8000001f; leaf++) {
		e = ask(v, leaf, 0);
		assert_int_equal(e.eax | e.ebx | e.ecx | e.edx, 0);
	}
	sev_facts.coherent = true;
	cpuid_build(v);
	assert_int_equal(ask(v, 0x8000001f, 0).eax, 0x40a);
	drop(v);
}

static void cpuid_follows_cr4(void **state)
{
	struct vcpu *v = make(1, 0);

	if ((cpuid(1, 0).ecx & BIT32(26)) == 0)
		skip();
	assert_false(ask(v, 1, 0).ecx & BIT32(27));
	regs[VREG_CR4] = CR4_OSXSAVE;
	assert_true(ask(v, 1, 0).ecx & BIT32(27));
	regs[VREG_CR4] = 0;
	assert_false(ask(v, 1, 0).ecx & BIT32(27));
	drop(v);
}

/* Bits of CR4 show in no feature that the machine, here made up, does not have. */
static void cpuid_follows_cr4_where_offered(void **state)
{
	struct vcpu *v = make(1, 0);

	for (u32 offered = 0; offered < 2; offered++) {
		v->cpuid.basic[1].ecx = offered ? BIT32(26) : 0;
		v->cpuid.basic[7].ecx = offered ? BIT32(3) : 0;
		for (u32 set = 0; set < 2; set++) {
			regs[VREG_CR4] = set ? CR4_OSXSAVE | CR4_PKE : 0;
			assert_int_equal(ask(v, 1, 0).ecx >> 27 & 1, offered & set);
			assert_int_equal(ask(v, 7, 0).ecx >> 4 & 1, offered & set);
			assert_int_equal(ask(v, 7, 1).ecx, 0);
		}
	}
	drop(v);
}

static void cpuid_unknown_leaves_are_zero(void **state)
{
	static const u32 leaves[] = { 0x20, 0x1f, 0x40000002, 0x400000ff, 0x80000022, 0x8fffffff,
				      0xc0000000, 0xffffffff, 0x14 };
	struct vcpu *v = make(1, 0);

	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++) {
		struct cpuid_entry e = ask(v, leaves[i], 0);

		assert_int_equal(e.eax | e.ebx | e.ecx | e.edx, 0);
	}
	drop(v);
}

static void cpuid_xsave_sizes(void **state)
{
	struct vcpu *v = make(1, 0);

	if ((cpuid(1, 0).ecx & BIT32(28)) == 0)
		skip();
	v->guest_xcr0 = 1;
	assert_int_equal(ask(v, 0xd, 0).eax, 7);
	assert_int_equal(ask(v, 0xd, 0).ebx, 576);
	v->guest_xcr0 = 7;
	assert_int_equal(ask(v, 0xd, 0).ebx, 576 + 256); /* AVX: SDM vol. 1, 13.4.3 */
	assert_int_equal(ask(v, 0xd, 0).ecx, 576 + 256);
	assert_int_equal(ask(v, 0xd, 2).eax, 256);
	assert_int_equal(ask(v, 0xd, 1).eax & BIT32(3), 0); /* XSAVES */
	assert_int_equal(ask(v, 0xd, 5).eax, 0);
	assert_int_equal(ask(v, 0xd, 63).eax | ask(v, 0xd, ~0U).eax, 0);
	v->guest_xcr0 = 3; /* and back: the sizes follow */
	assert_int_equal(ask(v, 0xd, 0).ebx, 576);
	assert_int_equal(ask(v, 0xd, 1).ebx, 576);
	drop(v);
}

/* Sizes of a machine that is made up (SDM vol. 1, 13.4.3): component 5 is aligned when compacted. */
static void cpuid_xsave_compacted(void **state)
{
	struct vcpu *v = make(1, 0);

	memset(v->cpuid.xsave, 0, sizeof(v->cpuid.xsave));
	v->cpuid.basic_max = 0xd;
	v->cpuid.basic_dyn |= BIT(0xd);
	v->cpuid.xsave[2] = (struct cpuid_entry){ 0x104, 0x240, 0, 0 };
	v->cpuid.xsave[5] = (struct cpuid_entry){ 0x40, 0x440, BIT32(1), 0 };
	v->cpuid.xsave[9] = (struct cpuid_entry){ 8, 0xa80, 0, 0 };
	v->guest_xcr0 = 0x203;
	assert_int_equal(ask(v, 0xd, 0).ebx, 0xa88);
	assert_int_equal(ask(v, 0xd, 1).ebx, 576 + 8);
	v->guest_xcr0 = 0x223;
	assert_int_equal(ask(v, 0xd, 1).ebx, 576 + 0x40 + 8);
	v->guest_xcr0 = 0x27;
	assert_int_equal(ask(v, 0xd, 0).ebx, 0x480);
	assert_int_equal(ask(v, 0xd, 1).ebx, 576 + 0x140 + 0x40);
	v->guest_xcr0 = 0x9f; /* components that this machine does not have */
	assert_int_equal(ask(v, 0xd, 1).ebx, 576 + 0x104);
	drop(v);
}

static void cpuid_without_xsave(void **state)
{
	struct vcpu *v;

	xcr0_mask = 0;
	v = make(1, 0);
	assert_int_equal(ask(v, 1, 0).ecx & (BIT32(26) | BIT32(28)), 0);
	assert_int_equal(ask(v, 0xd, 0).eax, 0);
	drop(v);
}

static int rd(struct vcpu *v, u32 msr, u64 *value) { return msr_read(v, msr, value); }

static void msr_unknown_is_gp(void **state)
{
	struct vcpu *v = make(1, 0);
	u64 value;

	assert_int_equal(rd(v, 0xdeadbeef, &value), -22);
	assert_int_equal(msr_write(v, 0xdeadbeef, 0), -22);
	assert_int_equal(rd(v, 0xc0010117, &value), -22); /* VM_HSAVE_PA */
	assert_int_equal(msr_write(v, 0xc0010117, 0x1000), -22);
	assert_int_equal(msr_write(v, MSR_SYSCFG, BIT(23)), -22);
	drop(v);
}

static void msr_efer(void **state)
{
	struct vcpu *v = make(1, 0);
	u64 value;

	v->cpuid.ext[1].edx |= BIT32(20);
	v->cpuid.ext[1].edx &= ~BIT32(25);
	assert_int_equal(msr_write(v, MSR_EFER, EFER_SCE | EFER_NXE | EFER_LME), 0);
	assert_int_equal(regs[VREG_EFER], EFER_SCE | EFER_NXE | EFER_LME);
	assert_int_equal(msr_write(v, MSR_EFER, EFER_SVME), -22);
	assert_int_equal(msr_write(v, MSR_EFER, EFER_FFXSR), -22);
	assert_int_equal(msr_write(v, MSR_EFER, BIT(40)), -22);
	/* LME may not change while paging is on (APM vol. 2, 14.6.2) */
	regs[VREG_CR0] = CR0_PG | CR0_PE;
	regs[VREG_EFER] = EFER_LME | EFER_LMA;
	assert_int_equal(msr_write(v, MSR_EFER, 0), -22);
	/* LMA is the processor's: a write leaves it alone */
	assert_int_equal(msr_write(v, MSR_EFER, EFER_LME), 0);
	assert_int_equal(regs[VREG_EFER], EFER_LME | EFER_LMA);
	assert_int_equal(rd(v, MSR_EFER, &value), 0);
	assert_int_equal(value, EFER_LME | EFER_LMA);
	drop(v);
}

static void msr_pat(void **state)
{
	struct vcpu *v = make(1, 0);

	assert_int_equal(msr_write(v, MSR_PAT, 0x0007040600070406UL), 0);
	assert_int_equal(regs[VREG_PAT], 0x0007040600070406UL);
	assert_int_equal(msr_write(v, MSR_PAT, 0x0000000000000002UL), -22); /* reserved type */
	assert_int_equal(msr_write(v, MSR_PAT, 0x0800000000000000UL), -22);
	drop(v);
}

static void msr_mtrr(void **state)
{
	struct vcpu *v = make(1, 0);
	u64 value;

	v->cpuid.ext[8].eax = 40;
	assert_int_equal(rd(v, MSR_MTRRCAP, &value), 0);
	assert_int_equal(value & 0xff, 8);
	assert_int_equal(msr_write(v, MSR_MTRR_PHYSBASE(7), 0x80000006), 0);
	assert_int_equal(rd(v, MSR_MTRR_PHYSBASE(7), &value), 0);
	assert_int_equal(value, 0x80000006);
	assert_int_equal(msr_write(v, MSR_MTRR_PHYSBASE(0), 0x80000002), -22); /* reserved type */
	assert_int_equal(msr_write(v, MSR_MTRR_PHYSBASE(0), BIT(40)), -22);    /* beyond MAXPHYADDR */
	assert_int_equal(msr_write(v, MSR_MTRR_PHYSMASK(0), 0xffff000800UL), 0);
	assert_int_equal(msr_write(v, MSR_MTRR_PHYSMASK(0), 1), -22);
	assert_int_equal(msr_write(v, MSR_MTRR_PHYSBASE(8), 0), -22);
	assert_int_equal(msr_write(v, MSR_MTRR_DEF_TYPE, 0xc06), 0);
	assert_int_equal(msr_write(v, MSR_MTRR_DEF_TYPE, 0xc07), -22);
	assert_int_equal(msr_write(v, MSR_MTRR_DEF_TYPE, 0x1006), -22);
	assert_int_equal(msr_write(v, MSR_MTRR_FIX64K_00000, 0x0606060606060606UL), 0);
	assert_int_equal(msr_write(v, MSR_MTRR_FIX4K_F8000, 0x0606060606060602UL), -22);
	assert_int_equal(msr_write(v, MSR_MTRRCAP, 0), -22); /* read only */
	drop(v);
}

/* A kernel that is started without firmware finds what firmware would have set. */
static void msr_mtrr_as_firmware_leaves_them(void **state)
{
	struct vcpu *v = make(1, 0);
	u64 value;

	assert_int_equal(rd(v, MSR_MTRR_DEF_TYPE, &value), 0);
	assert_int_equal(value, 0); /* off at reset */
	v->cpuid.ext[8].eax = 40;
	vm_msrs_reset(&msrs, true);
	assert_int_equal(rd(v, MSR_MTRR_DEF_TYPE, &value), 0);
	assert_int_equal(value, 0xc06);
	assert_int_equal(rd(v, MSR_MTRR_FIX16K_A0000, &value), 0);
	assert_int_equal(value, 0); /* video memory: uncached */
	assert_int_equal(rd(v, MSR_MTRR_PHYSBASE(0), &value), 0);
	assert_int_equal(value, 0xc0000000);
	drop(v);
}

static void msr_tsc(void **state)
{
	struct vcpu *v = make(1, 0);
	u64 value;

	assert_int_equal(msr_write(v, MSR_TSC, 1000), 0);
	assert_int_equal(rd(v, MSR_TSC, &value), 0);
	assert_in_range(value, 1000, 1000 + 100000000000UL);
	assert_int_equal(regs[VREG_TSC_OFFSET], v->tsc_offset);
	v->cpuid.ext[1].edx |= BIT32(27);
	assert_int_equal(msr_write(v, MSR_TSC_AUX, 5), 0);
	assert_int_equal(tsc_aux_set, 5);
	assert_int_equal(msr_write(v, MSR_TSC_AUX, BIT(32)), -22);
	v->cpuid.ext[1].edx &= ~BIT32(27);
	assert_int_equal(msr_write(v, MSR_TSC_AUX, 5), -22);
	drop(v);
}

static void msr_lapic_goes_to_lapic(void **state)
{
	struct vcpu *v = make(1, 0);
	u64 value;

	assert_int_equal(rd(v, 0x802, &value), 0);
	assert_int_equal(value, 0x802);
	assert_int_equal(rd(v, 0x8ff, &value), -22);
	assert_int_equal(msr_write(v, 0x808, 0x20), 0);
	assert_int_equal(hazards_set & HAZ_TPR, HAZ_TPR);
	hazards_set = 0;
	assert_int_equal(msr_write(v, 0x808, 666), -22);
	assert_int_equal(hazards_set, 0);
	drop(v);
}

/* The guest may have ended an interrupt silently: settled before it looks at its LAPIC. */
static void msr_lapic_settles_eoi(void **state)
{
	struct vcpu *v = make(1, 0);
	u64 value;

	pv_settled = 0;
	v->pv.eoi_armed = true;
	assert_int_equal(msr_write(v, MSR_TSC_DEADLINE, 5), 0); /* the timer's business only */
	assert_int_equal(pv_settled, 0);
	assert_int_equal(msr_write(v, 0x80b, 0), 0);
	assert_int_equal(pv_settled, 1);
	v->pv.eoi_armed = true;
	assert_int_equal(rd(v, 0x810, &value), 0);
	assert_int_equal(pv_settled, 2);
	drop(v);
}

static void msr_pv_goes_to_pv(void **state)
{
	static const u32 msrs[] = { 0x11, 0x12, 0x4b564d00, 0x4b564d04, 0x4b564dff };
	struct vcpu *v = make(1, 0);
	u64 value;

	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++) {
		assert_int_equal(rd(v, msrs[i], &value), 0);
		assert_int_equal(value, msrs[i]);
		assert_int_equal(msr_write(v, msrs[i], 1), 0);
		assert_int_equal(msr_write(v, msrs[i], 2), -22);
	}
	assert_int_equal(rd(v, 0x4b564e00, &value), -22);
	/* a TSC that is set moves the paravirtual clock's base */
	pv_clock_updates = 0;
	assert_int_equal(msr_write(v, MSR_TSC, 77), 0);
	assert_int_equal(pv_clock_updates, 1);
	drop(v);
}

static void msr_vendors_apart(void **state)
{
	struct vcpu *v = make(1, 0);
	u64 value;

	assert_int_equal(rd(v, MSR_HWCR, &value), 0);
	assert_int_equal(rd(v, MSR_MISC_ENABLE, &value), -22);
	assert_int_equal(rd(v, MSR_VM_CR, &value), 0);
	assert_true(value & VM_CR_SVMDIS); /* the guest's firmware "disabled" SVM */
	virt = &intel;
	assert_int_equal(rd(v, MSR_HWCR, &value), -22);
	assert_int_equal(rd(v, MSR_MISC_ENABLE, &value), 0);
	assert_int_equal(rd(v, MSR_FEATURE_CONTROL, &value), 0);
	assert_int_equal(value, 1); /* locked, VMX off */
	drop(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(cpuid_identity, setup),
		cmocka_unit_test_setup(cpuid_single, setup),
		cmocka_unit_test_setup(cpuid_hides_virtualisation, setup),
		cmocka_unit_test_setup(cpuid_of_an_encrypted_guest, setup),
		cmocka_unit_test_setup(cpuid_follows_cr4, setup),
		cmocka_unit_test_setup(cpuid_follows_cr4_where_offered, setup),
		cmocka_unit_test_setup(cpuid_unknown_leaves_are_zero, setup),
		cmocka_unit_test_setup(cpuid_xsave_sizes, setup),
		cmocka_unit_test_setup(cpuid_xsave_compacted, setup),
		cmocka_unit_test_setup(cpuid_without_xsave, setup),
		cmocka_unit_test_setup(msr_unknown_is_gp, setup),
		cmocka_unit_test_setup(msr_efer, setup),
		cmocka_unit_test_setup(msr_pat, setup),
		cmocka_unit_test_setup(msr_mtrr, setup),
		cmocka_unit_test_setup(msr_mtrr_as_firmware_leaves_them, setup),
		cmocka_unit_test_setup(msr_tsc, setup),
		cmocka_unit_test_setup(msr_lapic_goes_to_lapic, setup),
		cmocka_unit_test_setup(msr_lapic_settles_eoi, setup),
		cmocka_unit_test_setup(msr_pv_goes_to_pv, setup),
		cmocka_unit_test_setup(msr_vendors_apart, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
