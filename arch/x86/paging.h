/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_PAGING_H
#define RAVELIN_ARCH_X86_PAGING_H

#include "core/types.h"

/* The hypervisor's address space (canonical upper half; nothing is mapped below). */
#define DIRECT_MAP_BASE 0xffff800000000000UL /* all RAM, writable, never executable */
#define DIRECT_MAP_SIZE (64UL << 40)
#define MMIO_BASE 0xffffc00000000000UL       /* mmio_map() */
#define MMIO_SIZE (512UL << 30)
#define IMAGE_BASE 0xffffffff80000000UL      /* this program */

/*
 * The C-bit when memory that the page allocator gives out is encrypted with the host's key
 * (memcrypt.c), else 0. Boot modules, firmware's tables and the image itself stay as they are.
 */
#ifdef UNIT_TEST
u64 __attribute__((weak)) host_c_bit;
#else
extern u64 host_c_bit;
#endif
/* The address of memory from alloc_pages() as the CPU and the security processor are given it. */
static inline paddr_t machine_pa(paddr_t pa) { return pa | host_c_bit; }

#ifdef UNIT_TEST
/* The test owns "physical" memory. */
void *phys_to_virt(paddr_t pa);
paddr_t virt_to_phys(const void *va);
#else
/* RAM only. Private frames of CPUs are not in the direct map. */
static inline void *phys_to_virt(paddr_t pa) { return (void *)(DIRECT_MAP_BASE + pa); }
/* Of a direct-map or image address. */
extern u64 image_phys; /* where IMAGE_BASE is in physical memory */
static inline paddr_t virt_to_phys(const void *va)
{
	u64 a = (u64)va;

	return a >= IMAGE_BASE ? a - IMAGE_BASE + image_phys : a - DIRECT_MAP_BASE;
}
#endif

/* Protection and kind of a mapping. Not every format knows all; see pt_format. */
#define PT_READ BIT32(0)
#define PT_WRITE BIT32(1)
#define PT_EXEC BIT32(2)
#define PT_USER BIT32(3)
#define PT_GLOBAL BIT32(4)
#define PT_UC BIT32(5) /* uncached; default is write-back */
#define PT_WC BIT32(6) /* write combining */
#define PT_ENCRYPTED BIT32(7) /* memory from alloc_pages(): machine_pa() */
#define PT_RW (PT_READ | PT_WRITE)
#define PT_RX (PT_READ | PT_EXEC)
#define PT_RWX (PT_READ | PT_WRITE | PT_EXEC)

/*
 * How one kind of 64-bit page table encodes what PT_* says. An entry is
 * present when any bit of `present` is set. nx_* bits are set when the right is
 * absent, the others when it is given.
 */
struct pt_format {
	const char *name;
	u8 levels;           /* 4 */
	u8 large_levels;     /* bit n: a leaf may stand at level n (1 = 4K, 2 = 2M, 3 = 1G) */
	u64 present;         /* any set: present */
	u64 read, write, exec, no_exec, user, global;
	u64 leaf_fixed;      /* always set in a leaf */
	u64 table_fixed;     /* always set in a pointer to a table */
	u64 large;           /* marks a leaf above level 1 */
	u64 mem_wb, mem_uc, mem_wc;        /* memory type of a 4K leaf */
	u64 mem_mask, mem_mask_large;
	u64 mem_wb_large, mem_uc_large, mem_wc_large;
	u64 addr_mask;       /* physical address bits in an entry */
};

extern struct pt_format pt_format_host; /* 1G pages are added when the CPU has them */
extern const struct pt_format pt_format_npt; /* AMD nested pages (APM vol. 2, 15.25): USER on */
extern const struct pt_format pt_format_ept; /* Intel EPT (SDM vol. 3, 29.3) with 1G pages */
extern const struct pt_format pt_format_ept_2m; /* EPT without 1G pages */

struct pt {
	const struct pt_format *fmt;
	paddr_t root;
	u64 tables;    /* table pages allocated, root included */
	u32 alloc_flags; /* extra ALLOC_* for table pages */
};

/*
 * All of these: the caller serialises access to one pt and flushes TLBs.
 * Addresses and sizes are multiples of 4 KiB (-EINVAL else).
 */
int pt_init(struct pt *pt, const struct pt_format *fmt); /* -ENOMEM */
/* Frees all table pages, not what they map. */
void pt_destroy(struct pt *pt);
/*
 * Maps [va, va+size) to [pa, pa+size) with the largest pages that fit. -EEXIST
 * when any part is mapped already, -ENOMEM; nothing of the range stays mapped then.
 */
int pt_map(struct pt *pt, u64 va, paddr_t pa, u64 size, u32 prot);
/* Removes what is mapped in the range, splitting larger pages at its ends (-ENOMEM). */
int pt_unmap(struct pt *pt, u64 va, u64 size);
/* Changes the protection of what is mapped in the range; holes are skipped. -ENOMEM. */
int pt_protect(struct pt *pt, u64 va, u64 size, u32 prot);

struct pt_walk {
	paddr_t pa;      /* of va itself */
	u64 page_size;   /* size of the page that holds it; of the hole when not mapped */
	u32 prot;        /* PT_* */
	u64 entry;       /* raw */
};
/* 0, or -ENOENT when va is not mapped. */
int pt_lookup(const struct pt *pt, u64 va, struct pt_walk *w);

/* Host address space. */
extern struct pt host_pt; /* template: shared part of all CPUs' tables */
/* Maps device memory (not RAM), uncached; wc: write combining. NULL when out of space. Any
 * alignment. Boot CPU or under a caller's lock-free context: takes a lock itself. Visible on all
 * CPUs at once. There is no unmap: devices stay. */
void *mmio_map(paddr_t pa, size_t size);
void *mmio_map_wc(paddr_t pa, size_t size);
/* To read firmware's tables: through the direct map or the image where that has all of them,
 * else as mmio_map(). */
const void *phys_map(paddr_t pa, size_t size);
/* Removes a frame from the direct map or puts it back (2M pages are split), on all CPUs. */
int direct_map_hide(paddr_t pa, u64 size);
int direct_map_show(paddr_t pa, u64 size);
/*
 * Start-up, boot CPU: builds host_pt with the image (W^X) and the direct map of
 * all RAM, and gives the page allocator the memory that nobody uses. Panics with
 * a reason when that cannot be.
 */
struct boot_info;
/*
 * Before that: memory will be encrypted when that is wanted and can be; why it cannot be is
 * logged. From here to the switch to the CPU's own space all RAM is seen through the key,
 * modules too.
 */
void memcrypt_init(const struct boot_info *bi, bool wanted);
/* After the switch: the first page tables are as they were, for the other CPUs' start. */
void memcrypt_done(void);
void hostmem_init(const struct boot_info *bi);
/* After the switch to CPU space: RAM above 4 GiB goes to the page allocator too. */
void hostmem_add_high(const struct boot_info *bi);
/* Makes a CPU's private area and its page tables; *cr3 is machine_pa() of a page below 4 GiB.
 * -ENOMEM. */
int hostmem_cpu_space(paddr_t *cr3);
/* All CPUs are up: hides private frames from the direct map, checks W^X of all that is mapped.
 * Returns the number of pages that break a rule (logged). */
u32 hostmem_seal(void);
/* All CPUs' TLBs, global entries too. Interrupts on, not from a handler. */
void tlb_flush_all(void);
void tlb_flush_local(void);

#endif
