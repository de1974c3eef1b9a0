/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/cpuid.h"
#include "arch/x86/cpu.h"
#include "arch/x86/vcpu_state.h"
#include "core/string.h"
#include "core/vm.h"
#include "sev/sev.h"

/*
 * The CPUID policy: what of the machine's features a guest is shown. A bit
 * that no table here names is hidden. Bits by the manuals' tables: APM vol. 3,
 * appendix E; SDM vol. 2A, CPUID.
 */

/* Leaf 1 ECX: SSE3 PCLMUL SSSE3 FMA CX16 PCID SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND */
#define L1_ECX (BIT32(0) | BIT32(1) | BIT32(9) | BIT32(12) | BIT32(13) | BIT32(17) | BIT32(19) | \
		BIT32(20) | BIT32(22) | BIT32(23) | BIT32(25) | BIT32(26) | BIT32(28) | \
		BIT32(29) | BIT32(30))
#define L1_ECX_X2APIC BIT32(21)
#define L1_ECX_TSC_DEADLINE BIT32(24)
#define L1_ECX_XSAVE BIT32(26)
#define L1_ECX_OSXSAVE BIT32(27)
#define L1_ECX_HYPERVISOR BIT32(31)
/* Leaf 1 EDX: FPU VME DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX
 * FXSR SSE SSE2 */
#define L1_EDX (0x078bfbffU)
#define L1_EDX_HTT BIT32(28)
/* Leaf 7 EBX: FSGSBASE BMI1 AVX2 SMEP BMI2 ERMS INVPCID RDSEED ADX SMAP CLFLUSHOPT CLWB SHA and
 * AVX-512 F DQ IFMA CD BW VL */
#define L7_EBX (BIT32(0) | BIT32(3) | BIT32(5) | BIT32(7) | BIT32(8) | BIT32(9) | BIT32(10) | \
		BIT32(18) | BIT32(19) | BIT32(20) | BIT32(23) | BIT32(24) | BIT32(29))
#define L7_EBX_AVX512 (BIT32(16) | BIT32(17) | BIT32(21) | BIT32(28) | BIT32(30) | BIT32(31))
/* Leaf 7 ECX: UMIP PKU GFNI VAES VPCLMUL RDPID; AVX-512 VBMI VBMI2 VNNI BITALG VPOPCNT */
#define L7_ECX (BIT32(2) | BIT32(3) | BIT32(8) | BIT32(9) | BIT32(10) | BIT32(22))
#define L7_ECX_OSPKE BIT32(4)
#define L7_ECX_PKU BIT32(3)
#define L7_ECX_AVX512 (BIT32(1) | BIT32(6) | BIT32(11) | BIT32(12) | BIT32(14))
/* Leaf 0xD.1 EAX: XSAVEOPT XSAVEC XGETBV1; XSAVES would need XSS to be the guest's */
#define LD_1_EAX (BIT32(0) | BIT32(1) | BIT32(2))
/* Extended leaf 1 ECX: LAHF AltMovCr8 ABM SSE4A MisAlignSse 3DNowPrefetch XOP FMA4 TBM */
#define E1_ECX (BIT32(0) | BIT32(4) | BIT32(5) | BIT32(6) | BIT32(7) | BIT32(8) | BIT32(11) | \
		BIT32(16) | BIT32(21))
/* Extended leaf 1 EDX: as leaf 1 EDX, and SYSCALL NX MmxExt FFXSR Page1GB RDTSCP LM */
#define E1_EDX (BIT32(11) | BIT32(20) | BIT32(22) | BIT32(25) | BIT32(26) | BIT32(27) | BIT32(29))
#define E7_EDX_INVARIANT_TSC BIT32(8)
/* Extended leaf 8 EBX: CLZERO XSAVEERPTR WBNOINVD */
#define E8_EBX (BIT32(0) | BIT32(2) | BIT32(9))

#define XCR0_AVX512_BITS 0xe0UL
#define XSAVE_MIN 576U /* x87, SSE and the header */

static struct cpuid_entry host(u32 leaf, u32 subleaf)
{
	struct cpuid_regs r = cpuid_if(leaf, subleaf);

	return (struct cpuid_entry){ r.eax, r.ebx, r.ecx, r.edx };
}

u32 cpuid_id_bits(u32 n)
{
	u32 bits = 0;

	while ((1U << bits) < n)
		bits++;
	return bits;
}

static void basic_features(struct vcpu *v, u64 xcr0)
{
	struct cpuid_table *t = &v->cpuid;
	struct cpuid_entry *e = &t->basic[1];
	u32 n = v->vm->vcpus;

	*e = host(1, 0);
	e->ebx = (e->ebx & 0xff00U) | (v->apic_id & 0xffU) << 24 | (n > 1 ? MIN(n, 255U) : 1) << 16;
	e->ecx &= L1_ECX;
	if (xcr0 == 0)
		e->ecx &= ~(L1_ECX_XSAVE | BIT32(28) | BIT32(29) | BIT32(12));
	e->ecx |= L1_ECX_X2APIC | L1_ECX_TSC_DEADLINE | L1_ECX_HYPERVISOR;
	e->edx = (e->edx & L1_EDX) | (n > 1 ? L1_EDX_HTT : 0);
	t->basic_dyn |= BIT(1); /* OSXSAVE follows CR4 */
}

static void structured_features(struct cpuid_table *t, u64 xcr0)
{
	struct cpuid_entry h = host(7, 0);
	bool avx512 = (xcr0 & XCR0_AVX512_BITS) == XCR0_AVX512_BITS;
	struct cpuid_entry *e = &t->basic[7];

	e->eax = 0;
	e->ebx = h.ebx & (L7_EBX | (avx512 ? L7_EBX_AVX512 : 0));
	e->ecx = h.ecx & (L7_ECX | (avx512 ? L7_ECX_AVX512 : 0));
	if ((xcr0 & BIT(9)) == 0)
		e->ecx &= ~L7_ECX_PKU;
	if ((xcr0 & BIT(2)) == 0) {
		e->ebx &= ~BIT32(5);
		e->ecx &= ~(BIT32(9) | BIT32(10));
	}
	t->basic_dyn |= BIT(7); /* OSPKE follows CR4, subleaves */
}

static void basic_leaves(struct vcpu *v, u64 xcr0)
{
	struct cpuid_table *t = &v->cpuid;

	t->basic[0] = host(0, 0);
	t->basic[0].eax = t->basic_max = MIN(t->basic[0].eax, 0xdU);
	basic_features(v, xcr0);
	t->basic[6].eax = BIT32(2); /* the APIC timer never stops */
	structured_features(t, xcr0);
	t->basic_dyn |= BIT(0xb);
}

static void extended_leaves(struct vcpu *v)
{
	struct cpuid_table *t = &v->cpuid;
	struct cpuid_entry h;

	t->ext[0] = host(CPUID_EXT_BASE, 0);
	t->ext_max = MIN(t->ext[0].eax - CPUID_EXT_BASE, 8U);
	t->ext[0].eax = CPUID_EXT_BASE + t->ext_max;
	t->ext[1] = host(CPUID_EXT_BASE + 1, 0);
	t->ext[1].ecx &= E1_ECX;
	t->ext[1].edx &= E1_EDX;
	for (u32 i = 2; i <= 6 && i <= t->ext_max; i++)
		t->ext[i] = host(CPUID_EXT_BASE + i, 0);
	if (t->ext_max >= 7)
		t->ext[7].edx = host(CPUID_EXT_BASE + 7, 0).edx & E7_EDX_INVARIANT_TSC;
	if (t->ext_max >= 8) {
		h = host(CPUID_EXT_BASE + 8, 0);
		t->ext[8].eax = h.eax & 0xffffU;
		t->ext[8].ebx = h.ebx & E8_EBX;
	}
}

/* What an SEV-ES guest must know of its encryption: it checks all of it against the CPU. The bits
 * are SEV, SEV-ES and caches that are coherent across keys (APM vol. 3, appendix E.4.17). */
static void sev_leaf(struct cpuid_table *t)
{
	t->ext_max = 0x1f;
	t->ext[0].eax = CPUID_EXT_BASE + t->ext_max;
	t->ext[0x1f].eax = BIT32(1) | BIT32(3) | (sev_facts.coherent ? BIT32(10) : 0);
	t->ext[0x1f].ebx = sev_facts.c_bit | sev_facts.reduction << 6;
}

void cpuid_add_subleaf(struct cpuid_table *t, u32 leaf, u32 subleaf, struct cpuid_entry e)
{
	if (t->subleaves < CPUID_SUBLEAVES)
		t->sub[t->subleaves++] = (struct cpuid_subleaf){ leaf, subleaf, e };
}

/* EBX of subleaves 0 and 1, the sizes for the guest's XCR0, follows when asked: xsave_leaf(). */
static void xsave_subleaves(struct cpuid_table *t, u64 xcr0)
{
	u32 size = XSAVE_MIN;

	if (xcr0 == 0)
		return;
	for (u32 i = 2; i < CPUID_XSAVE_SUBLEAVES; i++) {
		struct cpuid_entry *c = &t->xsave[i];

		if ((xcr0 >> i & 1) == 0)
			continue;
		*c = host(0xd, i);
		c->ecx &= ~BIT32(0);
		c->edx = 0;
		size = MAX(size, c->eax + c->ebx);
	}
	t->xsave[0] = (struct cpuid_entry){ (u32)xcr0, 0, size, (u32)(xcr0 >> 32) };
	t->xsave[1].eax = host(0xd, 1).eax & LD_1_EAX;
	if (t->basic_max >= 0xd)
		t->basic_dyn |= BIT(0xd);
}

void cpuid_build(struct vcpu *v)
{
	u64 xcr0 = vcpu_state_xcr0_mask();

	memset(&v->cpuid, 0, sizeof(v->cpuid));
	basic_leaves(v, xcr0);
	extended_leaves(v);
	if (v->vm->es != NULL)
		sev_leaf(&v->cpuid);
	pv_cpuid(v->vm, v->cpuid.hv);
	virt->cpuid(v);
	xsave_subleaves(&v->cpuid, xcr0);
}

static const struct cpuid_entry none;

static const struct cpuid_entry *find_subleaf(const struct cpuid_table *t, u32 leaf, u32 subleaf)
{
	for (u32 i = 0; i < t->subleaves; i++)
		if (t->sub[i].leaf == leaf && t->sub[i].subleaf == subleaf)
			return &t->sub[i].e;
	return &none;
}

/* SDM vol. 2A, leaf 0xB: one thread a core, all cores in one package. */
static const struct cpuid_entry *topology(struct vcpu *v, u32 subleaf)
{
	struct cpuid_entry *out = &v->cpuid.made;

	*out = (struct cpuid_entry){ 0, 0, subleaf & 0xff, v->apic_id };
	if (subleaf == 0) {
		out->ebx = 1;
		out->ecx |= 1U << 8;
	} else if (subleaf == 1) {
		out->eax = cpuid_id_bits(v->vm->vcpus);
		out->ebx = v->vm->vcpus;
		out->ecx |= 2U << 8;
	}
	return out;
}

/* Bytes of the XSAVE area for the components in xcr0, in its standard format, and compacted: one
 * behind the other, some aligned (SDM vol. 1, 13.4.3). */
static __attribute__((noinline)) const struct cpuid_entry *xsave_resized(struct cpuid_table *t,
									u64 xcr0, u32 subleaf)
{
	u32 standard = XSAVE_MIN, compact = XSAVE_MIN;

	for (u32 i = 2; i < CPUID_XSAVE_SUBLEAVES; i++) {
		const struct cpuid_entry *c = &t->xsave[i];

		if ((xcr0 >> i & 1) == 0 || c->eax == 0)
			continue;
		standard = MAX(standard, c->eax + c->ebx);
		if ((c->ecx & BIT32(1)) != 0)
			compact = ALIGN_UP(compact, 64U);
		compact += c->eax;
	}
	t->xsave[0].ebx = standard;
	t->xsave[1].ebx = compact;
	t->xsave_xcr0 = xcr0;
	return &t->xsave[subleaf];
}

static inline const struct cpuid_entry *xsave_leaf(struct vcpu *v, u32 subleaf)
{
	u64 xcr0 = vcpu_state_xcr0(v);

	if (subleaf >= CPUID_XSAVE_SUBLEAVES)
		return &none;
	if (unlikely(xcr0 != v->cpuid.xsave_xcr0))
		return xsave_resized(&v->cpuid, xcr0, subleaf);
	return &v->cpuid.xsave[subleaf];
}

/* A bit that follows one of CR4, which changes without an exit. */
static inline void follow(u32 *reg, u32 bit, bool set)
{
	*reg = (*reg & ~bit) | (set ? bit : 0);
}

/* Out of line, so that the leaves below need to save no registers. */
static __attribute__((noinline)) const struct cpuid_entry *rare_leaf(struct vcpu *v, u32 leaf,
								   u32 subleaf)
{
	if (leaf > v->cpuid.basic_max)
		return &none;
	return leaf == 0xb ? topology(v, subleaf) : find_subleaf(&v->cpuid, leaf, subleaf);
}

const struct cpuid_entry *cpuid_dynamic(struct vcpu *v, u32 leaf, u32 subleaf, u64 cr4)
{
	struct cpuid_entry *e = v->cpuid.basic;

	if (leaf == 0xd)
		return xsave_leaf(v, subleaf);
	if (leaf == 1) {
		follow(&e[1].ecx, L1_ECX_OSXSAVE,
		       (e[1].ecx & L1_ECX_XSAVE) != 0 && (cr4 & CR4_OSXSAVE) != 0);
		return &e[1];
	}
	if (leaf == 7 && subleaf == 0) {
		follow(&e[7].ecx, L7_ECX_OSPKE,
		       (e[7].ecx & L7_ECX_PKU) != 0 && (cr4 & CR4_PKE) != 0);
		return &e[7];
	}
	return rare_leaf(v, leaf, subleaf);
}

bool cpuid_has(const struct vcpu *v, u32 leaf, u32 reg, u32 bit)
{
	const struct cpuid_table *t = &v->cpuid;
	const struct cpuid_entry *e = leaf < CPUID_BASIC_LEAVES ? &t->basic[leaf] :
				      &t->ext[leaf - CPUID_EXT_BASE];
	u32 value = reg == 0 ? e->eax : reg == 1 ? e->ebx : reg == 2 ? e->ecx : e->edx;

	return (value >> bit & 1) != 0;
}
