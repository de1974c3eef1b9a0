/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/guest_msrs.h"
#include "arch/x86/paging.h"
#include "arch/x86/svm/svm.h"
#include "core/errno.h"
#include "core/pmm.h"
#include "core/string.h"

/*
 * One port bitmap and one MSR bitmap serve all VMs (APM vol. 2, 15.10.1 and
 * 15.11): a set bit intercepts. Ports: all of them. MSRs: all but guest_msrs[],
 * which VMRUN or VMLOAD switches. PAT is not among them: where RDMSR and WRMSR
 * of a guest lead with nested paging differs between machines, so core keeps
 * the value and the VMCB's G_PAT follows.
 */
#define IOPM_ORDER 2  /* 12 KiB are used */
#define MSRPM_ORDER 1 /* 8 KiB; the last 2 are reserved */
#define MSRPM_SIZE 0x2000U
#define IOPM_SIZE 0x3000U

#define READ 1U
#define WRITE 2U

/* Number of the read bit of an MSR; the write bit follows. -1: not in the bitmap. */
static s32 msrpm_bit(u32 msr)
{
	if (msr <= 0x1fff)
		return (s32)(msr * 2);
	if (msr >= 0xc0000000 && msr <= 0xc0001fff)
		return (s32)(0x800 * 8 + (msr - 0xc0000000) * 2);
	if (msr >= 0xc0010000 && msr <= 0xc0011fff)
		return (s32)(0x1000 * 8 + (msr - 0xc0010000) * 2);
	return -1;
}

bool svm_msrpm_intercepted(const u8 *map, u32 msr, bool write)
{
	s32 bit = msrpm_bit(msr);
	u32 n;

	if (bit < 0)
		return true;
	n = (u32)bit + (write ? 1 : 0);
	return (map[n / 8] >> (n % 8) & 1) != 0;
}

void svm_msrpm_open(u8 *map, u32 msr, bool write)
{
	u32 bit = (u32)msrpm_bit(msr);

	/* Bits of a pair never straddle a byte: the read bit's number is even. */
	map[bit / 8] &= (u8)~((write ? READ | WRITE : READ) << (bit % 8));
}

void svm_msrpm_fill(u8 *map)
{
	memset(map, 0xff, MSRPM_SIZE);
	for (size_t i = 0; i < GUEST_MSRS; i++)
		svm_msrpm_open(map, guest_msrs[i].msr, guest_msrs[i].write);
}

int svm_bitmaps_init(void)
{
	svm.iopm = alloc_pages(IOPM_ORDER, 0);
	svm.msrpm = alloc_pages(MSRPM_ORDER, 0);
	if (svm.iopm == 0 || svm.msrpm == 0)
		return -ENOMEM;
	memset(phys_to_virt(svm.iopm), 0xff, IOPM_SIZE);
	svm_msrpm_fill(phys_to_virt(svm.msrpm));
	return 0;
}
