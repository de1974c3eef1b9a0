/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CPU side of the SEV machine: what VMRUN, #VMEXIT, page walks and MSR accesses do beyond
 * plain SVM. Sources: AMD64 APM vol. 2, 15.34 (SEV) and 15.35 (SEV-ES); Linux
 * arch/x86/include/asm/svm.h for the layouts.
 *
 * The save area half of the VMCB and the VMSA have the same layout up to offset 0x298. For an ES
 * guest VMRUN therefore puts the decrypted image into the VMCB for the time QEMU's own code loads
 * it, and at the exit takes back what that code stored. No other CPU runs in between
 * (thread=single) and the host's bytes, or poison, are there again before it executes.
 */

#include "qemu/osdep.h"
#include "qemu/log.h"
#include "qemu/main-loop.h"
#include "cpu.h"
#include "exec/address-spaces.h"
#include "exec/cpu_ldst.h"
#include "exec/cputlb.h"
#include "exec/exec-all.h"
#include "exec/page-protection.h"
#include "hw/core/cpu.h"
#include "svm.h"
#include "tcg/helper-tcg.h"
#include "sev-hook.h"
#include "sev-cpu.h"

#define SAVE_OFFSET 0x400
#define SAVE_SHARED 0x298       /* bytes of the save area that VMCB and VMSA share */
#define POISON_BYTE 0xa5
#define POISON64 0xa5a5a5a5a5a5a5a5ull

#define SYSCFG_MEM_ENCRYPT (1ull << 23)
#define HWCR_SMM_LOCK 1ull

#define NESTED_NP 1u
#define NESTED_SEV 2u
#define NESTED_ES 4u
#define VIRT_LBR 1u
#define INT_STATE_IF 2u

#define VMCB_INT_STATE 0x068
#define VMCB_GHCB 0x0a0
#define VMCB_EVENTINJ 0x0a8
#define VMCB_VIRT_EXT 0x0b8
#define VMCB_NEXT_RIP 0x0c8
#define VMCB_INSN_BYTES 0x0d0
#define VMCB_VMSA 0x108
#define VMCB_TLB_CTL 0x05c
#define VMCB_EXITINFO2 0x080

#define MSR_SYSCFG 0xc0010010
#define MSR_HWCR 0xc0010015
#define MSR_VM_PAGE_FLUSH 0xc001011e
#define MSR_GHCB 0xc0010130
#define MSR_SEV_STATUS 0xc0010131
#define MSR_DBGCTL 0x1d9
#define MSR_BR_FROM 0x1db
#define MSR_EXCP_TO 0x1de
#define MSR_XSS 0xda0

/* VMSA offsets beyond the shared part (and of what QEMU's VMRUN does not load) */
#define VMSA_XSS 0x140
#define VMSA_PAT 0x268
#define VMSA_DBGCTL 0x270
#define VMSA_PKRU 0x2e8
#define VMSA_TSC_AUX 0x2ec
#define VMSA_CHECKSUM_PTR 0x388
#define VMSA_XCR0 0x3e8
#define VMSA_X87_DP 0x400
#define VMSA_MXCSR 0x408
#define VMSA_X87_FTW 0x40c
#define VMSA_X87_FSW 0x40e
#define VMSA_X87_FCW 0x410
#define VMSA_X87_FOP 0x412
#define VMSA_X87_DS 0x414
#define VMSA_X87_CS 0x416
#define VMSA_X87_RIP 0x418
#define VMSA_X87_MANT 0x420
#define VMSA_X87_EXP 0x460
#define VMSA_XMM 0x470
#define VMSA_YMM 0x570
#define VMSA_FS 0x040
#define VMSA_GS 0x050
#define VMSA_LDTR 0x070
#define VMSA_TR 0x090
#define VMSA_STAR 0x200

static SevCpu *cpu_of(CPUX86State *env)
{
    return &sev_cpus[env_cpu(env)->cpu_index];
}

static bool is_es(CPUX86State *env)
{
    return env->sev_guest & SEV_GUEST_ES;
}

static hwaddr c_mask(void)
{
    return 1ull << sev_config()->c_bit;
}

static bool cpu_encrypts(CPUX86State *env)
{
    return sev_memory_on && (cpu_of(env)->syscfg & SYSCFG_MEM_ENCRYPT);
}

/* ---- discovery ---------------------------------------------------------------------------- */

void sev_cpuid(uint32_t *eax, uint32_t *ebx, uint32_t *ecx, uint32_t *edx)
{
    const SevConfig *c = sev_config();

    if (!c->enabled) {
        return;
    }
    *eax = 1;                               /* SME */
    *eax |= c->sev ? 2 | 4 : 0;             /* SEV, VM_PAGE_FLUSH */
    *eax |= c->sev && c->sev_es ? 8 : 0;    /* SEV-ES */
    *eax |= 1u << 9;                        /* TSC_AUX virtualised */
    *eax |= c->coherent ? 1u << 10 : 0;
    *eax |= c->host64_only ? 1u << 11 : 0;
    *ebx = c->c_bit | c->phys_reduction << 6;
    *ecx = c->sev ? c->max_asid : 0;
    *edx = c->sev ? c->min_sev_asid : 0;
}

uint32_t sev_asid_count(uint32_t stock)
{
    return sev_memory_on ? MAX(stock, 0x8000) : stock;
}

uint32_t sev_svm_features(void)
{
    if (!sev_memory_on) {
        return 0;
    }
    return CPUID_SVM_NPT | CPUID_SVM_NRIPSAVE | CPUID_SVM_FLUSHASID | CPUID_SVM_DECODEASSIST |
           (sev_config()->lbrv ? CPUID_SVM_LBRV : 0);
}

/* ---- address translation --------------------------------------------------------------------- */

/* A guest's page tables are always read through its own key (APM 15.34.5). */
hwaddr sev_guest_walk_gpa(hwaddr gpa)
{
    return gpa | c_mask();
}

hwaddr sev_guest_strip_slow(hwaddr gpa)
{
    return gpa & ~c_mask();
}

/* Tag the guest-physical address with the view: C-bit set means the guest's key. */
hwaddr sev_guest_data_gpa(CPUX86State *env, hwaddr gpa, int pg_mode, int access, int *prot)
{
    if (!(pg_mode & PG_MODE_PG) || !(pg_mode & PG_MODE_PAE) ||
        sev_mutation(SEV_M_C_BIT_IGNORED)) {
        return gpa | c_mask();
    }
    if (gpa & c_mask()) {
        return gpa;
    }
    /* Fetches use the guest's key even here, so code and data cannot share a TLB entry. */
    if (access == MMU_INST_FETCH) {
        *prot &= PAGE_EXEC;
        return gpa | c_mask();
    }
    *prot &= ~PAGE_EXEC;
    return gpa;
}

/* Page-table entry bits that fault with RSVD: [51:width], without the C-bit where it has one. */
uint64_t sev_reserved_mask(CPUX86State *env, bool guest_walk)
{
    uint32_t bits = env_archcpu(env)->phys_bits;
    uint64_t mask;

    if (guest_walk) {
        mask = ~MAKE_64BIT_MASK(0, bits);
        return env->sev_guest ? mask & ~c_mask() : mask;
    }
    if (!cpu_encrypts(env)) {
        return ~MAKE_64BIT_MASK(0, bits);
    }
    bits -= sev_config()->phys_reduction;
    return ~MAKE_64BIT_MASK(0, bits) & ~c_mask();
}

uint64_t sev_bad_pa_bits(CPUX86State *env)
{
    if (!cpu_encrypts(env)) {
        return ~0ull << env_archcpu(env)->phys_bits;
    }
    return sev_reserved_mask(env, false);
}

uint64_t sev_bad_cr3_bits(CPUX86State *env)
{
    uint64_t bad = ~0ull << env_archcpu(env)->phys_bits;

    return cpu_encrypts(env) ? bad & ~c_mask() : bad;
}

uint64_t sev_strip_pa(uint64_t pa)
{
    return sev_encryption_on ? pa & ~c_mask() : pa;
}

void sev_tlb_fill(CPUX86State *env, uint64_t addr, int access, int mmu_idx, hwaddr *pa,
                  int *prot)
{
    bool nested = env->hflags2 & HF2_NPT_MASK;
    SevKey key;

    if (nested && mmu_idx < MMU_PHYS_IDX) {
        return; /* the nested entry brought the page to its state a moment ago */
    }
    *pa = sev_split_addr(*pa, &key);
    if (mmu_idx == MMU_NESTED_IDX && nested && env->sev_guest && (addr & c_mask())) {
        key = cpu_of(env)->asid;
    }
    sev_page_enter(env_cpu(env)->cpu_index, *pa, key, access, prot);
}

/* ---- VMCB access ---------------------------------------------------------------------------------- */

static void vmcb_copy(CPUX86State *env, uint32_t offset, void *buf, uint32_t len, bool write)
{
    SevKey key;
    hwaddr pa = sev_split_addr(env->vm_vmcb, &key);

    if (write) {
        sev_mem_write(pa + offset, buf, len, key);
    } else {
        sev_mem_read(pa + offset, buf, len, key);
    }
}

static uint64_t vmcb_q(CPUX86State *env, uint32_t offset)
{
    return x86_ldq_phys(env_cpu(env), env->vm_vmcb + offset);
}

/* ---- guest register image ---------------------------------------------------------------------------- */

/* VMSA offset of a general register that VMRUN does not load for plain guests, else 0. */
static uint32_t gpr_offset(int reg)
{
    static const uint16_t low[8] = {
        [R_ECX] = 0x308, [R_EDX] = 0x310, [R_EBX] = 0x318,
        [R_EBP] = 0x328, [R_ESI] = 0x330, [R_EDI] = 0x338,
    };

    return reg < 8 ? low[reg] : 0x340 + 8 * (reg - 8);
}

static void load_seg(const uint8_t *img, SegmentCache *sc)
{
    uint32_t attr = lduw_le_p(img + 2);

    sc->selector = lduw_le_p(img);
    sc->limit = ldl_le_p(img + 4);
    sc->base = ldq_le_p(img + 8);
    sc->flags = (attr & 0xff) << 8 | (attr & 0xf00) << 12;
}

static void save_seg(uint8_t *img, const SegmentCache *sc)
{
    stw_le_p(img, sc->selector);
    stw_le_p(img + 2, ((sc->flags >> 8) & 0xff) | ((sc->flags >> 12) & 0xf00));
    stl_le_p(img + 4, sc->limit);
    stq_le_p(img + 8, sc->base);
}

/* Swap type B, from a VMSA image (guest) or the host save area's copy (host). */
static void load_type_b(CPUX86State *env, const uint8_t *img)
{
    SegmentCache fs, gs;

    load_seg(img + VMSA_FS, &fs);
    load_seg(img + VMSA_GS, &gs);
    cpu_x86_load_seg_cache(env, R_FS, fs.selector, fs.base, fs.limit, fs.flags);
    cpu_x86_load_seg_cache(env, R_GS, gs.selector, gs.base, gs.limit, gs.flags);
    load_seg(img + VMSA_LDTR, &env->ldt);
    load_seg(img + VMSA_TR, &env->tr);
    env->star = ldq_le_p(img + VMSA_STAR);
    env->lstar = ldq_le_p(img + VMSA_STAR + 8);
    env->cstar = ldq_le_p(img + VMSA_STAR + 16);
    env->fmask = ldq_le_p(img + VMSA_STAR + 24);
    env->kernelgsbase = ldq_le_p(img + VMSA_STAR + 32);
    env->sysenter_cs = ldq_le_p(img + VMSA_STAR + 40);
    env->sysenter_esp = ldq_le_p(img + VMSA_STAR + 48);
    env->sysenter_eip = ldq_le_p(img + VMSA_STAR + 56);
    env->xss = ldq_le_p(img + VMSA_XSS);
    env->xcr0 = ldq_le_p(img + VMSA_XCR0) | XSTATE_FP_MASK;
    if (env->pkru != ldl_le_p(img + VMSA_PKRU)) {
        env->pkru = ldl_le_p(img + VMSA_PKRU);
        tlb_flush(env_cpu(env)); /* the TLB caches what PKRU allows */
    }
    env->tsc_aux = ldl_le_p(img + VMSA_TSC_AUX);
    for (int r = 0; r < CPU_NB_REGS; r++) {
        if (gpr_offset(r) && !(sev_mutation(SEV_M_NO_TYPE_B) && img != cpu_of(env)->vmsa)) {
            env->regs[r] = ldq_le_p(img + gpr_offset(r));
        }
    }
    cpu_sync_avx_hflag(env);
}

static void save_type_b(CPUX86State *env, uint8_t *img)
{
    save_seg(img + VMSA_FS, &env->segs[R_FS]);
    save_seg(img + VMSA_GS, &env->segs[R_GS]);
    save_seg(img + VMSA_LDTR, &env->ldt);
    save_seg(img + VMSA_TR, &env->tr);
    stq_le_p(img + VMSA_STAR, env->star);
    stq_le_p(img + VMSA_STAR + 8, env->lstar);
    stq_le_p(img + VMSA_STAR + 16, env->cstar);
    stq_le_p(img + VMSA_STAR + 24, env->fmask);
    stq_le_p(img + VMSA_STAR + 32, env->kernelgsbase);
    stq_le_p(img + VMSA_STAR + 40, env->sysenter_cs);
    stq_le_p(img + VMSA_STAR + 48, env->sysenter_esp);
    stq_le_p(img + VMSA_STAR + 56, env->sysenter_eip);
    stq_le_p(img + VMSA_XSS, env->xss);
    stq_le_p(img + VMSA_XCR0, env->xcr0);
    stl_le_p(img + VMSA_PKRU, env->pkru);
    stl_le_p(img + VMSA_TSC_AUX, env->tsc_aux);
    for (int r = 0; r < CPU_NB_REGS; r++) {
        if (gpr_offset(r)) {
            stq_le_p(img + gpr_offset(r), env->regs[r]);
        }
    }
}

/* Swap type C. The tag word is the 8-bit form of FXSAVE (what KVM puts there); registers are in
 * stack order, mantissas first, then exponents. */
static void load_fpu(CPUX86State *env, const uint8_t *img)
{
    uint16_t fsw = lduw_le_p(img + VMSA_X87_FSW);
    uint8_t ftw = img[VMSA_X87_FTW];

    env->fpstt = (fsw >> 11) & 7;
    env->fpus = fsw & ~0x3800;
    cpu_set_fpuc(env, lduw_le_p(img + VMSA_X87_FCW));
    cpu_set_mxcsr(env, ldl_le_p(img + VMSA_MXCSR));
    for (int i = 0; i < 8; i++) {
        FPReg *reg = &env->fpregs[(env->fpstt + i) & 7];

        env->fptags[i] = !(ftw & (1 << i));
        reg->d.low = ldq_le_p(img + VMSA_X87_MANT + 8 * i);
        reg->d.high = lduw_le_p(img + VMSA_X87_EXP + 2 * i);
    }
    env->fpop = lduw_le_p(img + VMSA_X87_FOP);
    env->fpcs = lduw_le_p(img + VMSA_X87_CS);
    env->fpds = lduw_le_p(img + VMSA_X87_DS);
    env->fpip = ldq_le_p(img + VMSA_X87_RIP);
    env->fpdp = ldq_le_p(img + VMSA_X87_DP);
    for (int i = 0; i < 16; i++) {
        env->xmm_regs[i].ZMM_Q(0) = ldq_le_p(img + VMSA_XMM + 16 * i);
        env->xmm_regs[i].ZMM_Q(1) = ldq_le_p(img + VMSA_XMM + 16 * i + 8);
        env->xmm_regs[i].ZMM_Q(2) = ldq_le_p(img + VMSA_YMM + 16 * i);
        env->xmm_regs[i].ZMM_Q(3) = ldq_le_p(img + VMSA_YMM + 16 * i + 8);
    }
}

static void save_fpu(CPUX86State *env, uint8_t *img)
{
    uint8_t ftw = 0;

    update_mxcsr_from_sse_status(env);
    for (int i = 0; i < 8; i++) {
        const FPReg *reg = &env->fpregs[(env->fpstt + i) & 7];

        ftw |= env->fptags[i] ? 0 : 1 << i;
        stq_le_p(img + VMSA_X87_MANT + 8 * i, reg->d.low);
        stw_le_p(img + VMSA_X87_EXP + 2 * i, reg->d.high);
    }
    stw_le_p(img + VMSA_X87_FTW, ftw);
    stw_le_p(img + VMSA_X87_FSW, (env->fpus & ~0x3800) | (env->fpstt & 7) << 11);
    stw_le_p(img + VMSA_X87_FCW, env->fpuc);
    stl_le_p(img + VMSA_MXCSR, env->mxcsr);
    stw_le_p(img + VMSA_X87_FOP, env->fpop);
    stw_le_p(img + VMSA_X87_CS, env->fpcs);
    stw_le_p(img + VMSA_X87_DS, env->fpds);
    stq_le_p(img + VMSA_X87_RIP, env->fpip);
    stq_le_p(img + VMSA_X87_DP, env->fpdp);
    for (int i = 0; i < 16; i++) {
        stq_le_p(img + VMSA_XMM + 16 * i, env->xmm_regs[i].ZMM_Q(0));
        stq_le_p(img + VMSA_XMM + 16 * i + 8, env->xmm_regs[i].ZMM_Q(1));
        stq_le_p(img + VMSA_YMM + 16 * i, env->xmm_regs[i].ZMM_Q(2));
        stq_le_p(img + VMSA_YMM + 16 * i + 8, env->xmm_regs[i].ZMM_Q(3));
    }
}

/* Reset values of the FPU: FCW 0x40, all tags zero, MXCSR 0x1F80 (APM table 14-1). */
static void reset_fpu(CPUX86State *env)
{
    uint8_t img[4096] = { 0 };

    img[VMSA_X87_FTW] = 0xff;
    stw_le_p(img + VMSA_X87_FCW, 0x40);
    stl_le_p(img + VMSA_MXCSR, 0x1f80);
    load_fpu(env, img);
    memset(env->opmask_regs, 0, sizeof(env->opmask_regs));
}

/* ---- VMRUN ------------------------------------------------------------------------------------------- */

static bool refuse(CPUX86State *env, const char *why)
{
    sev_counters.vmrun_refused++;
    sev_trace("VMRUN of VMCB 0x%" PRIx64 " refused: %s", env->vm_vmcb, why);
    return false;
}

/* Legal event injection for an ES guest (APM 15.35.8). */
static bool event_legal(CPUX86State *env)
{
    uint32_t inj = vmcb_q(env, VMCB_EVENTINJ);
    uint32_t vector = inj & SVM_EVTINJ_VEC_MASK;

    if (!(inj & SVM_EVTINJ_VALID)) {
        return true;
    }
    switch (inj & SVM_EVTINJ_TYPE_MASK) {
    case SVM_EVTINJ_TYPE_INTR:
    case SVM_EVTINJ_TYPE_NMI:
        return true;
    case SVM_EVTINJ_TYPE_EXEPT:
        return vector != 3 && vector != 4;
    default:
        return false;
    }
}

/* Read, decrypt and verify the VMSA into cpu->vmsa. */
static bool read_vmsa(CPUX86State *env, SevCpu *c)
{
    uint64_t slot, sum;

    c->vmsa_pa = vmcb_q(env, VMCB_VMSA);
    if ((c->vmsa_pa & 0xfff) || (sev_encryption_on && (c->vmsa_pa & c_mask()))) {
        return refuse(env, "VMSA address not aligned or with C-bit");
    }
    if (!sev_mem_is_ram(c->vmsa_pa, sizeof(c->vmsa))) {
        return refuse(env, "VMSA not in RAM");
    }
    if (sev_arm_vmsa_flip >= 0) {
        uint8_t byte;

        sev_mem_read(c->vmsa_pa + sev_arm_vmsa_flip / 8, &byte, 1, SEV_KEY_NONE);
        byte ^= 1 << (sev_arm_vmsa_flip % 8);
        sev_mem_write(c->vmsa_pa + sev_arm_vmsa_flip / 8, &byte, 1, SEV_KEY_NONE);
        sev_arm_vmsa_flip = -1;
    }
    sev_mem_read(c->vmsa_pa, c->vmsa, sizeof(c->vmsa), c->asid);
    if (sev_mutation(SEV_M_NO_VMSA_CHECK)) {
        return true;
    }
    slot = ldq_le_p(c->vmsa + VMSA_CHECKSUM_PTR);
    if (!sev_tmr_protected() || (slot & 7) || slot < sev_tmr_base() ||
        slot - sev_tmr_base() > sev_tmr_len() - 8) {
        return refuse(env, "VMSA has no checksum slot in the TMR");
    }
    sev_mem_read(slot, &sum, sizeof(sum), SEV_KEY_NONE);
    if (le64_to_cpu(sum) != sev_vmsa_checksum(c->vmsa)) {
        return refuse(env, "VMSA checksum differs");
    }
    return true;
}

/* With poison=on the save area holds the pattern since the last exit: report what is not it. */
static void check_save_area(CPUX86State *env, SevCpu *c)
{
    int i;

    if (!sev_poison || c->last_vmcb[c->asid] != env->vm_vmcb) {
        return;
    }
    for (i = 0; i < SAVE_SHARED && c->vmcb_save[i] == POISON_BYTE; i++) {
    }
    if (i < SAVE_SHARED) {
        sev_violation(SEV_V_SAVE_AREA, "host wrote offset 0x%x of VMCB 0x%" PRIx64
                      ", which has no effect for an ES guest", SAVE_OFFSET + i, env->vm_vmcb);
    }
}

static bool check_es(CPUX86State *env, SevCpu *c)
{
    vmcb_copy(env, SAVE_OFFSET, c->vmcb_save, sizeof(c->vmcb_save), false);
    check_save_area(env, c);
    if (!sev_config()->sev_es) {
        return refuse(env, "SEV-ES is not offered");
    }
    if (!(vmcb_q(env, VMCB_VIRT_EXT) & VIRT_LBR)) {
        return refuse(env, "LBR virtualisation is off");
    }
    if (!event_legal(env)) {
        return refuse(env, "event injection not legal for an ES guest");
    }
    return read_vmsa(env, c);
}

/* Report a VMRUN that needed a TLB flush of its ASID on this CPU and did not ask for one. */
static void check_tlb_flush(CPUX86State *env, SevCpu *c)
{
    uint8_t ctl = x86_ldub_phys(env_cpu(env), env->vm_vmcb + VMCB_TLB_CTL);
    bool moved = false;

    if (ctl == TLB_CONTROL_DO_NOTHING) {
        for (int i = 0; i < sev_cpu_count(); i++) {
            moved |= &sev_cpus[i] != c && sev_cpus[i].last_vmcb[c->asid] == env->vm_vmcb;
        }
        if (c->last_vmcb[c->asid] != env->vm_vmcb || moved) {
            sev_violation(SEV_V_TLB_FLUSH, "CPU %d runs VMCB 0x%" PRIx64 " of ASID %u after %s "
                          "without flush", env_cpu(env)->cpu_index, env->vm_vmcb, c->asid,
                          moved ? "it ran on another CPU" : "another VMCB");
        }
    }
    for (int i = 0; i < sev_cpu_count(); i++) {
        if (sev_cpus[i].last_vmcb[c->asid] == env->vm_vmcb) {
            sev_cpus[i].last_vmcb[c->asid] = 0;
        }
    }
    c->last_vmcb[c->asid] = env->vm_vmcb;
}

static bool check_sev(CPUX86State *env, SevCpu *c, uint64_t nested_ctl, uint32_t asid)
{
    const SevConfig *cfg = sev_config();
    bool es = nested_ctl & NESTED_ES;

    if (!(nested_ctl & NESTED_SEV)) {
        return refuse(env, "SEV-ES without SEV");
    }
    if (!(nested_ctl & NESTED_NP)) {
        return refuse(env, "SEV without nested paging");
    }
    if (!(c->hwcr & HWCR_SMM_LOCK) && !sev_mutation(SEV_M_NO_SMMLOCK_CHECK)) {
        return refuse(env, "HWCR.SmmLock is clear");
    }
    if (cfg->host64_only && !(env->efer & MSR_EFER_LMA)) {
        return refuse(env, "host is not in 64-bit mode");
    }
    if (asid > cfg->max_asid || (!es && asid < cfg->min_sev_asid)) {
        return refuse(env, "ASID out of the guest type's range");
    }
    if (!sev_key_installed(asid) ||
        (!sev_asid_valid(asid) && !sev_mutation(SEV_M_NO_ASID_VALID))) {
        return refuse(env, "ASID is not active");
    }
    c->asid = asid;
    return !es || check_es(env, c);
}

void sev_request_virq(CPUState *cs, bool on)
{
    bool locked = bql_locked();

    if (((cs->interrupt_request & CPU_INTERRUPT_VIRQ) != 0) == on) {
        return;
    }
    if (!locked) {
        bql_lock();
    }
    if (on) {
        cs->interrupt_request |= CPU_INTERRUPT_VIRQ;
    } else {
        cs->interrupt_request &= ~CPU_INTERRUPT_VIRQ;
    }
    if (!locked) {
        bql_unlock();
    }
}

bool sev_vmrun_check(CPUX86State *env, uint64_t nested_ctl, uint32_t asid)
{
    SevCpu *c = cpu_of(env);
    bool es = nested_ctl & NESTED_ES;

    env->sev_guest = 0;
    if (!(nested_ctl & (NESTED_SEV | NESTED_ES)) || !cpu_encrypts(env) || !sev_config()->sev) {
        return true; /* without SYSCFG[23] the bits have no meaning (APM 15.34.3) */
    }
    if (!check_sev(env, c, nested_ctl, asid)) {
        c->asid = 0;
        if (es) {
            vmcb_copy(env, SAVE_OFFSET, c->vmcb_save, sizeof(c->vmcb_save), false);
            env->sev_guest = SEV_GUEST_SEV | SEV_GUEST_ES | SEV_GUEST_FAILED;
        }
        return false;
    }
    check_tlb_flush(env, c);
    env->sev_guest = SEV_GUEST_SEV | (es ? SEV_GUEST_ES : 0);
    if (es) {
        env->sev_guest |= SEV_GUEST_FAILED; /* until all state is loaded */
        vmcb_copy(env, SAVE_OFFSET, c->vmsa, SAVE_SHARED, true);
        c->host_pat = env->pat;
        c->ghcb = vmcb_q(env, VMCB_GHCB);
    }
    sev_asid_note_run(asid);
    return true;
}

static void swap_lbr_in(CPUX86State *env, SevCpu *c)
{
    c->lbr_swapped = vmcb_q(env, VMCB_VIRT_EXT) & VIRT_LBR;
    if (!c->lbr_swapped) {
        return;
    }
    for (int i = 0; i < 5; i++) {
        c->host_lbr[i] = c->lbr[i];
        c->lbr[i] = vmcb_q(env, SAVE_OFFSET + VMSA_DBGCTL + 8 * i);
    }
}

void sev_vmrun_enter_slow(CPUX86State *env)
{
    SevCpu *c = cpu_of(env);

    swap_lbr_in(env, c);
    if (!env->sev_guest) {
        return;
    }
    if (!is_es(env)) {
        sev_counters.vmrun_sev++;
        return;
    }
    env->sev_guest &= ~SEV_GUEST_FAILED;
    sev_counters.vmrun_es++;
    load_type_b(env, c->vmsa);
    load_fpu(env, c->vmsa);
    env->pat = ldq_le_p(c->vmsa + VMSA_PAT);
    env->intercept_exceptions &= ~(1u << EXCP1D_VC); /* cannot be intercepted: it is the answer */
}

/* ---- #VMEXIT ------------------------------------------------------------------------------------------- */

/* Exits of an ES guest that reach the hypervisor (APM table 15-33). */
static bool automatic(uint64_t code, uint64_t info1)
{
    switch (code) {
    case SVM_EXIT_EXCP_BASE + EXCP12_MCHK:
    case SVM_EXIT_INTR ... SVM_EXIT_VINTR:
    case SVM_EXIT_PAUSE:
    case SVM_EXIT_SHUTDOWN:
    case SVM_EXIT_EFER_TRAP ... SVM_EXIT_CR0_TRAP + 15:
    case SVM_EXIT_VMGEXIT:
        return true;
    case SVM_EXIT_HLT:
        return !sev_mutation(SEV_M_AE_AS_NAE);
    case SVM_EXIT_NPF:
        return !(info1 & PG_ERROR_RSVD_MASK) || sev_mutation(SEV_M_MMIO_AE);
    default:
        return code >= (uint64_t)-4;
    }
}

/* Automatic exits that are instructions: hardware has moved RIP past them. */
static bool advances(uint64_t code)
{
    switch (code) {
    case SVM_EXIT_PAUSE:
    case SVM_EXIT_HLT:
    case SVM_EXIT_EFER_TRAP ... SVM_EXIT_CR0_TRAP + 15:
        return true;
    case SVM_EXIT_VMGEXIT:
        return !sev_mutation(SEV_M_NO_RIP_ADVANCE);
    default:
        return false;
    }
}

static void filter_es(CPUX86State *env, uint64_t *code, uint64_t *info1)
{
    CPUState *cs = env_cpu(env);

    if (!automatic(*code, *info1)) {
        sev_counters.exits_nae++;
        if (!sev_mutation(SEV_M_LEAK_EXITINFO)) {
            x86_stq_phys(cs, env->vm_vmcb + VMCB_EXITINFO2, POISON64);
        }
        raise_exception_err(env, EXCP1D_VC, *code);
    }
    sev_counters.exits_ae++;
    if (*code == SVM_EXIT_SHUTDOWN) {
        sev_trace("ASID %u shuts down at 0x%" PRIx64 ", CR0 0x%" PRIx64 ", CR2 0x%" PRIx64,
                  cpu_of(env)->asid, (uint64_t)env->eip, (uint64_t)env->cr[0],
                  (uint64_t)env->cr[2]);
    }
    if (advances(*code)) {
        env->eip += env->sev_insn_len;
        do_end_instruction(env);
    }
    if (*code != SVM_EXIT_NPF && !sev_mutation(SEV_M_LEAK_EXITINFO)) {
        if (!(*code >= SVM_EXIT_EFER_TRAP && *code < SVM_EXIT_CR0_TRAP + 16)) {
            *info1 = POISON64;
        }
        x86_stq_phys(cs, env->vm_vmcb + VMCB_EXITINFO2, POISON64);
    }
    if (sev_arm_exit_code >= 0) {
        *code = sev_arm_exit_code;
        sev_arm_exit_code = -1;
    }
}

/* Up to 15 bytes of the instruction at RIP; stops at a page that cannot be fetched. */
static int fetch_insn(CPUX86State *env, uint8_t *buf)
{
    CPUState *cs = env_cpu(env);
    int mmu_idx = cpu_mmu_index(cs, true), error_code = env->error_code, n = 0;
    vaddr pc = env->eip + env->segs[R_CS].base;
    void *host;

    if (!(env->hflags & HF_CS64_MASK)) {
        pc = (uint32_t)pc;
    }
    while (n < 15) {
        int part = MIN(15 - n, 4096 - (int)((pc + n) & 0xfff));
        int flags = probe_access_flags(env, pc + n, part, MMU_INST_FETCH, mmu_idx, true, &host,
                                       0);

        if ((flags & TLB_INVALID_MASK) || !host) {
            break;
        }
        memcpy(buf + n, host, part);
        n += part;
    }
    env->error_code = error_code;
    return n;
}

/* MOV CR and MOV DR: EXITINFO1 has the general register's number, CR moves also bit 63. */
static uint64_t mov_assist(CPUX86State *env, uint64_t code)
{
    uint8_t insn[16];
    int n = fetch_insn(env, insn), len = MIN(env->sev_insn_len, 15);
    bool rex_b = false;
    uint64_t reg;

    if (len < 3 || n < len || insn[len - 3] != 0x0f || (insn[len - 2] & 0xfc) != 0x20) {
        return 0; /* LMSW, CLTS, SMSW: no assist */
    }
    if (len >= 4 && (env->hflags & HF_CS64_MASK) && (insn[len - 4] & 0xf0) == 0x40) {
        rex_b = insn[len - 4] & 1;
    }
    reg = (insn[len - 1] & 7) | (rex_b ? 8 : 0);
    return code < SVM_EXIT_READ_DR0 || code == SVM_EXIT_CR0_SEL_WRITE ? reg | 1ull << 63 : reg;
}

/* Next RIP and decode assists, which this machine offers to every guest (APM 15.7.1, 15.10). */
static void assist(CPUX86State *env, uint64_t code, uint64_t *info1)
{
    CPUState *cs = env_cpu(env);
    uint64_t next_rip = 0;
    uint8_t bytes[16] = { 0 };

    if (code <= SVM_EXIT_WRITE_DR7) {
        *info1 = mov_assist(env, code);
        next_rip = env->eip + env->sev_insn_len;
    } else if (code >= SVM_EXIT_CR0_SEL_WRITE && code <= 0x8e && code != SVM_EXIT_SHUTDOWN &&
               code != SVM_EXIT_TASK_SWITCH && code != SVM_EXIT_FERR_FREEZE) {
        if (code == SVM_EXIT_INVLPG) {
            *info1 = env->sev_assist;
        } else if (code == SVM_EXIT_CR0_SEL_WRITE) {
            *info1 = mov_assist(env, code);
        }
        next_rip = env->eip + env->sev_insn_len;
    } else if ((code == SVM_EXIT_NPF && !(*info1 & PG_ERROR_I_D_MASK)) ||
               (code == SVM_EXIT_EXCP_BASE + EXCP0E_PAGE && !(*info1 & PG_ERROR_I_D_MASK))) {
        bytes[0] = fetch_insn(env, bytes + 1);
    }
    x86_stq_phys(cs, env->vm_vmcb + VMCB_NEXT_RIP, next_rip);
    x86_stq_phys(cs, env->vm_vmcb + VMCB_INSN_BYTES, ldq_le_p(bytes));
    x86_stq_phys(cs, env->vm_vmcb + VMCB_INSN_BYTES + 8, ldq_le_p(bytes + 8));
}

/*
 * Every exit passes here with the guest's registers exact. Returns for an exit; raises #VC in
 * the guest instead for a non-automatic event of an ES guest.
 */
void sev_vmexit_filter(CPUX86State *env, uint64_t *code, uint64_t *info1)
{
    if (unlikely(is_es(env))) {
        if (!(env->sev_guest & SEV_GUEST_FAILED)) {
            filter_es(env, code, info1);
        }
        return;
    }
    if ((env->features[FEAT_SVM] | sev_svm_features()) &
        (CPUID_SVM_NRIPSAVE | CPUID_SVM_DECODEASSIST)) {
        assist(env, *code, info1);
    }
}

/* Write the guest's registers and the checksum back; the host sees none of it. */
static void save_es(CPUX86State *env, SevCpu *c)
{
    uint64_t sum;
    uint32_t int_state;

    vmcb_copy(env, SAVE_OFFSET, c->vmsa, SAVE_SHARED, false);
    save_type_b(env, c->vmsa);
    save_fpu(env, c->vmsa);
    stq_le_p(c->vmsa + VMSA_PAT, env->pat);
    for (int i = 0; i < 5; i++) {
        stq_le_p(c->vmsa + VMSA_DBGCTL + 8 * i, c->lbr[i]);
    }
    sev_mem_write(c->vmsa_pa, c->vmsa, sizeof(c->vmsa), c->asid);
    sum = cpu_to_le64(sev_vmsa_checksum(c->vmsa));
    sev_mem_write(ldq_le_p(c->vmsa + VMSA_CHECKSUM_PTR), &sum, sizeof(sum), SEV_KEY_NONE);
    if (!sev_mutation(SEV_M_GHCB_NOT_SAVED)) {
        x86_stq_phys(env_cpu(env), env->vm_vmcb + VMCB_GHCB, c->ghcb);
    }
    if ((env->eflags & IF_MASK) && !sev_mutation(SEV_M_IF_NOT_SHOWN)) {
        int_state = x86_ldl_phys(env_cpu(env), env->vm_vmcb + VMCB_INT_STATE);
        x86_stl_phys(env_cpu(env), env->vm_vmcb + VMCB_INT_STATE, int_state | INT_STATE_IF);
    }
}

void sev_vmexit_save_slow(CPUX86State *env)
{
    SevCpu *c = cpu_of(env);

    if (!is_es(env)) {
        if (c->lbr_swapped) {
            for (int i = 0; i < 5; i++) {
                x86_stq_phys(env_cpu(env), env->vm_vmcb + SAVE_OFFSET + VMSA_DBGCTL + 8 * i,
                             c->lbr[i]);
            }
        }
        return;
    }
    if (!(env->sev_guest & SEV_GUEST_FAILED)) {
        save_es(env, c);
        if (sev_poison) {
            memset(c->vmcb_save, POISON_BYTE, SAVE_SHARED);
        }
    }
    vmcb_copy(env, SAVE_OFFSET, c->vmcb_save, sizeof(c->vmcb_save), true);
}

void sev_vmexit_host_slow(CPUX86State *env)
{
    SevCpu *c = cpu_of(env);
    CPUState *cs = env_cpu(env);
    uint8_t img[SAVE_OFFSET];

    if (c->lbr_swapped) {
        memcpy(c->lbr, c->host_lbr, sizeof(c->lbr));
        c->lbr_swapped = false;
    }
    c->asid = 0;
    if (is_es(env)) {
        bool entered = !(env->sev_guest & SEV_GUEST_FAILED);

        env->sev_guest = 0;
        for (int i = 0; i < SAVE_OFFSET; i += 8) {
            stq_le_p(img + i, x86_ldq_phys(cs, env->vm_hsave + SAVE_OFFSET + i));
        }
        load_type_b(env, img);
        if (entered) {
            env->pat = c->host_pat;
            if (!sev_mutation(SEV_M_FPU_KEPT)) {
                reset_fpu(env);
            }
            env->cr[2] = 0;
        }
    }
    env->sev_guest = 0;
}

/*
 * EXITINTINFO tells which event's delivery an exit interrupted, so that it can be injected again.
 * What an ES hypervisor could not inject is not recorded: the instruction runs again.
 */
bool sev_event_restarts(int intno, int is_int)
{
    return is_int || intno == EXCP03_INT3 || intno == EXCP04_INTO;
}

/* ---- registers ---------------------------------------------------------------------------------------------- */

static uint64_t msr_value(CPUX86State *env)
{
    return (uint32_t)env->regs[R_EAX] | (uint64_t)(uint32_t)env->regs[R_EDX] << 32;
}

static bool msr_result(CPUX86State *env, uint64_t val)
{
    env->regs[R_EAX] = (uint32_t)val;
    env->regs[R_EDX] = val >> 32;
    return true;
}

static uint64_t *msr_storage(CPUX86State *env, uint32_t msr)
{
    SevCpu *c = cpu_of(env);

    switch (msr) {
    case MSR_SYSCFG:
        return &c->syscfg;
    case MSR_HWCR:
        return &c->hwcr;
    case MSR_DBGCTL:
        return &c->lbr[0];
    case MSR_BR_FROM ... MSR_EXCP_TO:
        return &c->lbr[msr - MSR_BR_FROM + 1];
    case MSR_XSS:
        return &env->xss;
    default:
        return NULL;
    }
}

bool sev_rdmsr_slow(CPUX86State *env, uintptr_t ra)
{
    uint32_t msr = env->regs[R_ECX];
    uint64_t *reg;

    if (msr == MSR_GHCB && is_es(env)) {
        return msr_result(env, cpu_of(env)->ghcb);
    }
    if (msr == MSR_SEV_STATUS && env->sev_guest) {
        return msr_result(env, env->sev_guest & (SEV_GUEST_SEV | SEV_GUEST_ES));
    }
    if (msr == MSR_GHCB || msr == MSR_VM_PAGE_FLUSH) {
        cpu_svm_check_intercept_param(env, SVM_EXIT_MSR, 0, ra);
        raise_exception_err_ra(env, EXCP0D_GPF, 0, ra);
    }
    reg = msr_storage(env, msr);
    if (!reg) {
        return false;
    }
    cpu_svm_check_intercept_param(env, SVM_EXIT_MSR, 0, ra);
    return msr_result(env, *reg);
}

/* Physical address and view of a host linear address, without touching the page; -1: unmapped. */
static hwaddr host_page(CPUX86State *env, uint64_t addr, SevKey *key)
{
    MemTxAttrs attrs;
    hwaddr pa = cpu_get_phys_page_attrs_debug(env_cpu(env), addr & ~0xfffull, &attrs);

    return pa == (hwaddr)-1 ? pa : sev_split_addr(pa, key);
}

/* VM_PAGE_FLUSH: bits 63:12 host linear address, 11:0 ASID (APM 15.34.9). */
static void page_flush(CPUX86State *env, uint64_t val, uintptr_t ra)
{
    uint32_t asid = val & 0xfff;
    SevKey view;
    hwaddr pa = host_page(env, val, &view);

    if (asid == 0 || asid > sev_config()->max_asid || pa == (hwaddr)-1) {
        raise_exception_err_ra(env, EXCP0D_GPF, 0, ra);
    }
    sev_note_clflush(pa, asid);
}

bool sev_wrmsr_slow(CPUX86State *env, uintptr_t ra)
{
    uint32_t msr = env->regs[R_ECX];
    uint64_t val = msr_value(env);
    uint64_t *reg;

    if (msr == MSR_GHCB && is_es(env)) {
        cpu_of(env)->ghcb = val;
        return true;
    }
    if (msr == MSR_SEV_STATUS && env->sev_guest) {
        raise_exception_err_ra(env, EXCP0D_GPF, 0, ra);
    }
    if (msr == MSR_GHCB || msr == MSR_VM_PAGE_FLUSH || msr == MSR_SEV_STATUS) {
        cpu_svm_check_intercept_param(env, SVM_EXIT_MSR, 1, ra);
        if (msr != MSR_VM_PAGE_FLUSH || !sev_config()->sev) {
            raise_exception_err_ra(env, EXCP0D_GPF, 0, ra);
        }
        page_flush(env, val, ra);
        return true;
    }
    reg = msr_storage(env, msr);
    if (!reg) {
        return false;
    }
    cpu_svm_check_intercept_param(env, SVM_EXIT_MSR, 1, ra);
    *reg = val;
    if (msr == MSR_SYSCFG) {
        sev_syscfg_changed();
    }
    return true;
}

void sev_check_efer(CPUX86State *env, uint64_t val, uintptr_t ra)
{
    if (is_es(env) && (val & MSR_EFER_RESERVED)) {
        raise_exception_err_ra(env, EXCP0D_GPF, 0, ra);
    }
}

/* Write traps exist for ES guests only; the new value is in force and RIP is past the write. */
static void trap(CPUX86State *env, uint32_t code, uint64_t old, uint64_t val, uintptr_t ra)
{
    uint32_t bit = 32 + (code - SVM_EXIT_VMRUN);

    if (is_es(env) && (env->intercept & (1ull << bit)) && !sev_mutation(SEV_M_NO_TRAP)) {
        cpu_vmexit(env, code, sev_mutation(SEV_M_TRAP_BEFORE) ? old : val, ra);
    }
}

void sev_efer_written(CPUX86State *env, uint64_t old, uintptr_t ra)
{
    trap(env, SVM_EXIT_EFER_TRAP, old, env->efer, ra);
}

void sev_cr_written(CPUX86State *env, int reg, uint64_t old, uint64_t val, uintptr_t ra)
{
    if (unlikely(is_es(env))) {
        trap(env, SVM_EXIT_CR0_TRAP + reg, old, reg == 8 ? val & 15 : env->cr[reg], ra);
    }
}

/* ---- caches -------------------------------------------------------------------------------------------------- */

void sev_cache_flushed(CPUX86State *env, bool invd)
{
    if (!sev_memory_on) {
        return;
    }
    if (invd && (env->hflags & HF_GUEST_MASK)) {
        sev_counters.guest_invd++;
        sev_violation(SEV_V_GUEST_INVD, "INVD executed in a guest at 0x%" PRIx64,
                      (uint64_t)env->eip);
        return;
    }
    if (!invd) {
        sev_note_wbinvd(env_cpu(env)->cpu_index);
    }
}

void sev_line_flushed(CPUX86State *env, uint64_t addr, uintptr_t ra)
{
    CPUTLBEntryFull *full;
    SevKey key;
    hwaddr pa;
    void *host;

    if (sev_config()->coherent || !sev_memory_on) {
        return;
    }
    if (!(env->hflags & HF_GUEST_MASK)) {
        pa = host_page(env, addr, &key);
        if (pa != (hwaddr)-1) {
            sev_note_clflush(pa, key);
        }
        return;
    }
    /* In a guest a load finds out which view the address selects. */
    if (probe_access_full(env, addr, 1, MMU_DATA_LOAD, cpu_mmu_index(env_cpu(env), false), true,
                          &host, &full, ra) & TLB_INVALID_MASK) {
        return;
    }
    pa = full->phys_addr;
    sev_note_clflush(pa, sev_page_key(pa));
}
