/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hooks of the SEV machine in QEMU's own files (system/physmem.c, target/i386). Each is a no-op
 * behind one predictable branch while no object "sev-memory" exists.
 */
#ifndef HW_I386_SEV_HOOK_H
#define HW_I386_SEV_HOOK_H

#include "exec/hwaddr.h"
#include "exec/cpu-common.h"
#include "exec/memory.h"

/* env->sev_guest */
#define SEV_GUEST_SEV 1u
#define SEV_GUEST_ES 2u
#define SEV_GUEST_FAILED 4u /* VMRUN ended in VMEXIT_INVALID: no guest state was entered */

#define EXCP1D_VC 29

/* exec/memory.h declares sev_memory_on: true once an object "sev-memory" exists; it never
 * changes after the first CPU is created. */

/* Key that the bus address of the current access asked for (its C-bit). */
extern __thread uint32_t sev_bus_key;

hwaddr sev_bus_addr_slow(hwaddr addr);
void sev_bus_access_slow(RAMBlock *block, uint64_t offset, uint64_t len);
void sev_bus_written_slow(RAMBlock *block, uint64_t offset, uint64_t len);
void *sev_map_ram_ptr(RAMBlock *block, uint64_t offset);

/* Remember the key the C-bit of a bus address asks for and take the bit off. */
static inline hwaddr sev_bus_addr(hwaddr addr)
{
    return unlikely(sev_memory_on) ? sev_bus_addr_slow(addr) : addr;
}

/* Before bytes of a RAM block are touched by address: bring the pages to that key's view. */
static inline void sev_bus_access(RAMBlock *block, uint64_t offset, uint64_t len)
{
    if (unlikely(sev_memory_on)) {
        sev_bus_access_slow(block, offset, len);
    }
}

/* After bytes of a RAM block were written by address. */
static inline void sev_bus_written(RAMBlock *block, uint64_t offset, uint64_t len)
{
    if (unlikely(sev_memory_on)) {
        sev_bus_written_slow(block, offset, len);
    }
}

#ifdef I386_CPU_H

void sev_cpuid(uint32_t *eax, uint32_t *ebx, uint32_t *ecx, uint32_t *edx);
uint32_t sev_asid_count(uint32_t stock);
uint32_t sev_svm_features(void);

/* Address translation. */
hwaddr sev_guest_walk_gpa(hwaddr gpa);
hwaddr sev_guest_data_gpa(CPUX86State *env, hwaddr gpa, int pg_mode, int access, int *prot);
hwaddr sev_guest_strip_slow(hwaddr gpa);
uint64_t sev_reserved_mask(CPUX86State *env, bool guest_walk);
uint64_t sev_bad_pa_bits(CPUX86State *env);
uint64_t sev_bad_cr3_bits(CPUX86State *env);
uint64_t sev_strip_pa(uint64_t pa);
void sev_tlb_fill(CPUX86State *env, uint64_t addr, int access, int mmu_idx, hwaddr *pa,
                  int *prot);

static inline hwaddr sev_guest_strip(CPUX86State *env, hwaddr gpa)
{
    return unlikely(env->sev_guest) ? sev_guest_strip_slow(gpa) : gpa;
}

/* The virtual interrupt request (V_IRQ) of a CPU on or off. QEMU does this without the lock that
 * other threads change the same word under, and so loses an interrupt of the host now and then. */
void sev_request_virq(CPUState *cs, bool on);

/* World switch. */
bool sev_vmrun_check(CPUX86State *env, uint64_t nested_ctl, uint32_t asid);
void sev_vmrun_enter_slow(CPUX86State *env);
void sev_vmexit_filter(CPUX86State *env, uint64_t *code, uint64_t *info1);
void sev_vmexit_save_slow(CPUX86State *env);
void sev_vmexit_host_slow(CPUX86State *env);
bool sev_event_restarts(int intno, int is_int);

static inline void sev_vmrun_enter(CPUX86State *env)
{
    if (unlikely(sev_memory_on)) {
        sev_vmrun_enter_slow(env);
    }
}

static inline void sev_vmexit_save(CPUX86State *env)
{
    if (unlikely(sev_memory_on)) {
        sev_vmexit_save_slow(env);
    }
}

static inline void sev_vmexit_host(CPUX86State *env)
{
    if (unlikely(sev_memory_on)) {
        sev_vmexit_host_slow(env);
    }
}

/* Registers. */
bool sev_rdmsr_slow(CPUX86State *env, uintptr_t ra);
bool sev_wrmsr_slow(CPUX86State *env, uintptr_t ra);
void sev_check_efer(CPUX86State *env, uint64_t val, uintptr_t ra);
void sev_efer_written(CPUX86State *env, uint64_t old, uintptr_t ra);
void sev_cr_written(CPUX86State *env, int reg, uint64_t old, uint64_t val, uintptr_t ra);

static inline bool sev_rdmsr(CPUX86State *env, uintptr_t ra)
{
    return unlikely(sev_memory_on) && sev_rdmsr_slow(env, ra);
}

static inline bool sev_wrmsr(CPUX86State *env, uintptr_t ra)
{
    return unlikely(sev_memory_on) && sev_wrmsr_slow(env, ra);
}

/* Caches. */
void sev_cache_flushed(CPUX86State *env, bool invd);
void sev_line_flushed(CPUX86State *env, uint64_t addr, uintptr_t ra);

#endif /* I386_CPU_H */
#endif
