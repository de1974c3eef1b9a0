/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/vmx/vmx.h"
#include "core/errno.h"
#include "core/string.h"

/*
 * Control registers (SDM vol. 3, 25.6.6). A bit in the mask is the host's: the
 * guest reads the shadow, and a write that changes it exits. Masked are
 *
 * - CR0: what VMX operation fixes (NE), and CD and NW, which would take effect on
 *   the machine's caches. PE, PG, WP, TS, MP, EM, AM are the guest's own.
 * - CR4: VMXE, MCE (a machine check always comes to the host), and every bit that
 *   the guest's CPUID does not offer.
 */

#define CR0_GUEST_OWNED (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_WP | CR0_AM | CR0_PG)
#define CR0_CACHE (CR0_CD | CR0_NW)
#define CR0_DEFINED (CR0_GUEST_OWNED | CR0_CACHE | CR0_NE | CR0_ET)
/* A change of these reloads the page-directory pointers in PAE paging (SDM vol. 3, 4.4.1). */
#define CR0_PDPTR (CR0_PG | CR0_CD | CR0_NW)
#define CR4_PDPTR (CR4_PGE | CR4_PSE | CR4_PAE | CR4_SMEP)

/* Which CPUID bit offers which bit of CR4. */
static const struct {
	u64 cr4;
	u8 leaf, reg, bit; /* reg as in cpuid_has() */
} cr4_bits[] = {
	{ CR4_VME | CR4_PVI, 1, 3, 1 }, { CR4_DE, 1, 3, 2 }, { CR4_PSE, 1, 3, 3 },
	{ CR4_TSD, 1, 3, 4 }, { CR4_PAE, 1, 3, 6 }, { CR4_MCE, 1, 3, 7 },
	{ CR4_PGE, 1, 3, 13 }, { CR4_OSFXSR, 1, 3, 24 }, { CR4_OSXMMEXCPT, 1, 3, 25 },
	{ CR4_PCIDE, 1, 2, 17 }, { CR4_OSXSAVE, 1, 2, 26 },
	{ CR4_FSGSBASE, 7, 1, 0 }, { CR4_SMEP, 7, 1, 7 }, { CR4_SMAP, 7, 1, 20 },
	{ CR4_UMIP, 7, 2, 2 }, { CR4_PKE, 7, 2, 3 },
};

u64 vmx_cr4_allowed(const struct vcpu *v)
{
	u64 allowed = CR4_PCE;

	for (size_t i = 0; i < ARRAY_SIZE(cr4_bits); i++)
		if (cpuid_has(v, cr4_bits[i].leaf, cr4_bits[i].reg, cr4_bits[i].bit))
			allowed |= cr4_bits[i].cr4;
	return allowed & vmx.cr4_fixed1;
}

u64 vmx_get_cr0(const struct vmx_vcpu *vx)
{
	return (vmx_read(VMCS_GUEST_CR0) & ~vx->cr0_mask) |
	       (vmx_read(VMCS_CR0_SHADOW) & vx->cr0_mask);
}

u64 vmx_get_cr4(const struct vmx_vcpu *vx)
{
	return (vmx_read(VMCS_GUEST_CR4) & ~vx->cr4_mask) |
	       (vmx_read(VMCS_CR4_SHADOW) & vx->cr4_mask);
}

static void flush(struct vmx_vcpu *vx)
{
	__atomic_or_fetch(&vx->vcpu->hazards, HAZ_VMX_FLUSH, __ATOMIC_RELAXED);
}

void vmx_set_cr0(struct vmx_vcpu *vx, u64 value)
{
	u64 fixed = vmx.cr0_fixed0 & ~(CR0_PE | CR0_PG);

	vmx_write(VMCS_CR0_SHADOW, value);
	vmx_write(VMCS_GUEST_CR0, ((value & ~CR0_CACHE) | fixed) & vmx.cr0_fixed1);
	flush(vx);
}

void vmx_set_cr4(struct vmx_vcpu *vx, u64 value)
{
	vmx_write(VMCS_CR4_SHADOW, value);
	vmx_write(VMCS_GUEST_CR4, (value | vmx.cr4_fixed0 | CR4_MCE) & vmx.cr4_fixed1);
	flush(vx);
}

void vmx_set_efer(struct vmx_vcpu *vx, u64 value)
{
	u64 entry = vmx_read(VMCS_ENTRY_CTLS) & ~(u64)ENTRY_IA32E;

	vmx_write(VMCS_GUEST_EFER, value);
	vmx_write(VMCS_ENTRY_CTLS, entry | ((value & EFER_LMA) != 0 ? ENTRY_IA32E : 0));
	flush(vx);
}

bool vmx_code64(void)
{
	return (vmx_read(VMCS_GUEST_EFER) & EFER_LMA) != 0 &&
	       (vmx_read(VMCS_GUEST_AR(VSEG_CS)) & BIT(13)) != 0;
}

/* --- the guest's writes ------------------------------------------------------------------------ */

/*
 * The four page-directory pointers that PAE paging keeps in the CPU. Where the
 * write of the control register runs in the guest the CPU loads them itself.
 * False: they are not in RAM, or a reserved bit is set.
 */
static bool load_pdptrs(struct vcpu *v)
{
	gpa_t gpa = vmx_read(VMCS_GUEST_CR3) & 0xffffffe0UL;
	size_t len = 32;
	const void *p = vm_ram_ptr(v->vm, gpa, &len, false);
	u64 reserved = ~(BIT(cpu_features.phys_bits) - 1) | 0x1e6;
	u64 pdptr[4];

	if (p == NULL || len < sizeof(pdptr))
		return false;
	memcpy(pdptr, p, sizeof(pdptr));
	for (u32 i = 0; i < 4; i++)
		if ((pdptr[i] & 1) != 0 && (pdptr[i] & reserved) != 0)
			return false;
	for (u32 i = 0; i < 4; i++)
		vmx_write(VMCS_GUEST_PDPTE(i), pdptr[i]);
	return true;
}

/* Paging goes on (SDM vol. 3, 4.1.2)? */
static bool paging_on_legal(u64 efer, u64 cr4)
{
	if ((efer & EFER_LME) == 0)
		return true;
	/* The L bit of CS has no meaning yet and must not get one behind the guest's back. */
	return (cr4 & CR4_PAE) != 0 && (vmx_read(VMCS_GUEST_AR(VSEG_CS)) & BIT(13)) == 0;
}

static bool cr0_legal(u64 old, u64 value, u64 efer, u64 cr4)
{
	if (value >> 32 != 0)
		return false;
	if ((value & CR0_CACHE) == CR0_NW || (value & (CR0_PG | CR0_PE)) == CR0_PG)
		return false;
	if (((old ^ value) & CR0_PG) == 0)
		return true;
	if ((value & CR0_PG) != 0)
		return paging_on_legal(efer, cr4);
	return !vmx_code64() && (cr4 & CR4_PCIDE) == 0;
}

bool vmx_mov_cr0(struct vcpu *v, u64 value)
{
	struct vmx_vcpu *vx = vmx_vcpu(v);
	u64 old = vmx_get_cr0(vx), efer = vmx_read(VMCS_GUEST_EFER), cr4 = vmx_get_cr4(vx);

	if (!cr0_legal(old, value, efer, cr4))
		return false;
	value = (value & CR0_DEFINED) | CR0_ET;
	if ((value & CR0_PG) != 0 && (cr4 & CR4_PAE) != 0 && (efer & EFER_LME) == 0 &&
	    ((old ^ value) & CR0_PDPTR) != 0 && !load_pdptrs(v))
		return false;
	if (((old ^ value) & CR0_PG) != 0 && (efer & EFER_LME) != 0)
		vmx_set_efer(vx, (value & CR0_PG) != 0 ? efer | EFER_LMA : efer & ~EFER_LMA);
	vmx_set_cr0(vx, value);
	return true;
}

bool vmx_mov_cr4(struct vcpu *v, u64 value)
{
	struct vmx_vcpu *vx = vmx_vcpu(v);
	u64 old = vmx_get_cr4(vx), efer = vmx_read(VMCS_GUEST_EFER);
	bool lma = (efer & EFER_LMA) != 0;

	if ((value & ~vx->cr4_allowed) != 0 || (lma && (value & CR4_PAE) == 0))
		return false;
	if ((value & ~old & CR4_PCIDE) != 0 &&
	    (!lma || (vmx_read(VMCS_GUEST_CR3) & 0xfff) != 0))
		return false;
	if (!lma && (value & CR4_PAE) != 0 && (vmx_get_cr0(vx) & CR0_PG) != 0 &&
	    ((old ^ value) & CR4_PDPTR) != 0 && !load_pdptrs(v))
		return false;
	vmx_set_cr4(vx, value);
	return true;
}
