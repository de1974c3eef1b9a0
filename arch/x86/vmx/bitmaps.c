/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/guest_msrs.h"
#include "arch/x86/paging.h"
#include "arch/x86/vmx/vmx.h"
#include "core/errno.h"
#include "core/pmm.h"
#include "core/string.h"

/*
 * One pair of port bitmaps and one MSR bitmap serve all VMs (SDM vol. 3, 25.6.4
 * and 25.6.9): a set bit intercepts. Ports: all of them. MSRs: all but
 * guest_msrs[]: VM entries and exits switch them, or switch.c gives them to each
 * vCPU that runs.
 */
#define WRITE_MAP 2048U

/* Number of an MSR's bit in the map of reads. -1: not in the maps. */
static s32 map_bit(u32 msr)
{
	if (msr <= 0x1fff)
		return (s32)msr;
	if (msr >= 0xc0000000 && msr <= 0xc0001fff)
		return (s32)(1024 * 8 + (msr - 0xc0000000));
	return -1;
}

bool vmx_msr_intercepted(const u8 *map, u32 msr, bool write)
{
	s32 bit = map_bit(msr);

	if (bit < 0)
		return true;
	return (map[(write ? WRITE_MAP : 0) + (u32)bit / 8] >> (bit % 8) & 1) != 0;
}

void vmx_msr_bitmap_fill(u8 *map)
{
	memset(map, 0xff, PAGE_SIZE);
	for (size_t i = 0; i < GUEST_MSRS; i++) {
		u32 bit = (u32)map_bit(guest_msrs[i].msr);
		u8 mask = (u8)~(1U << (bit % 8));

		map[bit / 8] &= mask;
		if (guest_msrs[i].write)
			map[WRITE_MAP + bit / 8] &= mask;
	}
}

int vmx_bitmaps_init(void)
{
	vmx.io_bitmap = alloc_pages(1, 0);
	vmx.msr_bitmap = alloc_pages(ORDER_4K, 0);
	if (vmx.io_bitmap == 0 || vmx.msr_bitmap == 0)
		return -ENOMEM;
	memset(phys_to_virt(vmx.io_bitmap), 0xff, 2 * PAGE_SIZE);
	vmx_msr_bitmap_fill(phys_to_virt(vmx.msr_bitmap));
	return 0;
}
