/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/paging.h"
#include "core/boot_info.h"
#include "core/log.h"

/*
 * Memory encryption for the host (SME: APM vol. 2, 7.10). A page is encrypted when the entry that
 * maps it, or the address that the CPU is given, has the C-bit. Which pages are is decided once:
 * those of the page allocator. No page ever changes from one to the other.
 */

#define CPUID_MEM_ENCRYPT 0x8000001fU
#define CPUID_SME BIT32(0)
#define PD_LOW 6      /* boot/entry.asm: the tables of the first 4 GiB */
#define PD_ENTRIES 2048

extern u64 boot_tables[];

u64 host_c_bit;

static const char *refusal(u32 features)
{
	if ((features & CPUID_SME) == 0)
		return "the CPU has no SME (CPUID 8000_001F EAX bit 0)";
	if ((rdmsr(MSR_SYSCFG) & SYSCFG_MEM_ENCRYPT) == 0)
		return "SYSCFG[23] is clear on CPU 0; enable SMEE in firmware setup";
	return NULL;
}

/* RAM as the first page tables show it; not devices between, which have no C-bit. */
static void encrypt_view(const struct boot_info *bi)
{
	u64 *pd = boot_tables + PD_LOW * 512;

	for (u32 i = 0; i < bi->mems; i++) {
		const struct boot_mem *m = &bi->mem[i];
		u64 end = MIN(m->base + m->size, GIB(4));

		for (u64 pa = ALIGN_DOWN(m->base, MIB(2)); m->type == MEM_RAM && pa < end;
		     pa += MIB(2))
			pd[pa >> 21] |= host_c_bit;
	}
}

/*
 * From here on nothing is written to RAM that the allocator owns but through the key, with which
 * the tables are made and the bookkeeping is written: nothing has to be converted in place.
 */
void memcrypt_init(const struct boot_info *bi, bool wanted)
{
	struct cpuid_regs r = cpuid_if(CPUID_MEM_ENCRYPT, 0);
	const char *why;

	if (!wanted)
		return;
	why = refusal(cpu_features.amd ? r.eax : 0);
	if (why != NULL) {
		log_err("memory: not encrypted: %s", why);
		return;
	}
	host_c_bit = BIT(r.ebx & 0x3f);
	encrypt_view(bi);
	/* Lines that were written without the C-bit must not be written back over what comes now:
	 * caches need not be coherent over it (7.10.6). */
	wbinvd();
	tlb_flush_local();
	log_info("memory: encrypted with the host's key, C-bit %u", r.ebx & 0x3f);
}

void memcrypt_done(void)
{
	for (u32 i = 0; i < PD_ENTRIES; i++)
		boot_tables[PD_LOW * 512 + i] &= ~host_c_bit;
}
