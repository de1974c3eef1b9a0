/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Seam between the CPU/memory side of the SEV-ES machine (sev-*.c, target/i386 hooks) and the
 * security processor (psp*.c). The security processor includes this header and nothing else of
 * the CPU side; the CPU side calls nothing of psp*.c.
 *
 * Locking: every function here runs with the big QEMU lock held. The machine runs with
 * -accel tcg,thread=single, so no CPU executes while a device callback runs.
 *
 * Sources: AMD64 APM vol. 2, 15.34 and 15.35; SEV API specification (55766).
 */
#ifndef SEV_MACHINE_SEV_H
#define SEV_MACHINE_SEV_H

#include "exec/hwaddr.h"

/* ---- keys and views ------------------------------------------------------------------- */

/*
 * A view says through which key memory is looked at: an ASID number 1..max_asid, or one of the
 * two below. A physical page always has one content; each view shows it transformed.
 */
typedef uint32_t SevKey;
#define SEV_KEY_NONE 0u          /* raw DRAM bytes: device DMA, host access with C=0 */
#define SEV_KEY_HOST 0xffffffffu /* the SME key: host access with C=1 */

#define SEV_KEY_BYTES 16

/* ---- configuration --------------------------------------------------------------------- */

/* Set once from "-object sev-memory,..." before any CPU or device exists. */
typedef struct SevConfig {
    bool enabled;               /* an object sev-memory exists; all else is valid only then */
    bool sev;                   /* CPUID 8000001F EAX[1] */
    bool sev_es;                /* CPUID 8000001F EAX[3] */
    bool smm_lock;              /* reset value of HWCR[0] on every CPU */
    bool mem_encrypt;           /* reset value of SYSCFG[23] on every CPU */
    bool coherent;              /* CPUID 8000001F EAX[10] */
    bool lbrv;                  /* CPUID 8000000A EDX[1] */
    bool fatal;                 /* a violation ends the emulator */
    bool host64_only;           /* CPUID 8000001F EAX[11] */
    uint32_t c_bit;             /* position of the C-bit, 32..51 */
    uint32_t phys_reduction;    /* physical address bits lost when encryption is on */
    uint32_t max_asid;          /* largest SEV ASID (number of guest keys) */
    uint32_t min_sev_asid;      /* smallest ASID of a plain SEV guest; ES uses 1..this-1 */
} SevConfig;

const SevConfig *sev_config(void);

/* ---- memory ---------------------------------------------------------------------------- */

/*
 * Split a bus address as the x86 side hands it out: returns the address without the C-bit and
 * sets *key to SEV_KEY_HOST when the C-bit was set, else to SEV_KEY_NONE.
 */
hwaddr sev_split_addr(hwaddr addr, SevKey *key);

/* True when [pa, pa+len) is plain RAM without wrap; pa has no C-bit. len 0 is false. */
bool sev_mem_is_ram(hwaddr pa, uint64_t len);

/* True when [pa, pa+len) overlaps the TMR, protected or not. */
bool sev_mem_in_tmr(hwaddr pa, uint64_t len);

/*
 * Read or write RAM as the view `key` shows it. Any alignment and length. pa has no C-bit.
 * A key of an ASID without an installed key acts as an unknown key (content is garbage).
 * Returns false, with nothing transferred, when the range is not all RAM.
 * The TMR is *not* refused here: the security processor may touch it.
 */
bool sev_mem_read(hwaddr pa, void *buf, uint64_t len, SevKey key);
bool sev_mem_write(hwaddr pa, const void *buf, uint64_t len, SevKey key);

/*
 * In-place conversion: what view `from` shows of the range becomes what view `to` shows.
 * pa and len are 16-byte aligned (asserted). This is LAUNCH_UPDATE_DATA's encryption step
 * (from = SEV_KEY_NONE or SEV_KEY_HOST, to = the guest's ASID).
 * Returns false, with nothing changed, when the range is not all RAM.
 */
bool sev_mem_convert(hwaddr pa, uint64_t len, SevKey from, SevKey to);

/* ---- guest keys and ASIDs ---------------------------------------------------------------- */

/* ACTIVATE: load `vek` for `asid` (1..max_asid) in the memory controllers; not yet valid. */
void sev_key_install(uint32_t asid, const uint8_t vek[SEV_KEY_BYTES]);

/* DEACTIVATE, SHUTDOWN: drop the key; also clears the valid flag. */
void sev_key_remove(uint32_t asid);
bool sev_key_installed(uint32_t asid);

/* LAUNCH_FINISH: VMRUN with this ASID is allowed from now on (until sev_key_remove). */
void sev_asid_set_valid(uint32_t asid, bool valid);
bool sev_asid_valid(uint32_t asid);

/* Set by the CPU side at each VMRUN of a SEV guest with this ASID; "in use" of the life cycle. */
bool sev_asid_has_run(uint32_t asid);
void sev_asid_clear_has_run(uint32_t asid);

/* True while any CPU is in guest mode with this ASID (DEACTIVATE then is a violation). */
bool sev_asid_running(uint32_t asid);

/* Tell the checkers that a DF_FLUSH succeeded. */
void sev_note_df_flush(void);

/* ---- WBINVD and SYSCFG of the CPUs --------------------------------------------------------- */

/* True when every CPU executed WBINVD since the last sev_wbinvd_clear(). */
bool sev_wbinvd_all_done(void);
/* INIT, DEACTIVATE of an ASID that ran: forget all "WBINVD done" flags. */
void sev_wbinvd_clear(void);
/* True when SYSCFG[23] is set on every CPU. */
bool sev_syscfg_all_enabled(void);

/* ---- TMR and VMSA -------------------------------------------------------------------------- */

/* INIT with ES: remember the donated range (checked by the caller); not protected yet. */
void sev_tmr_set(hwaddr base, uint64_t len);
/* The first DF_FLUSH after INIT: from now on an x86 or DMA access is a violation. */
void sev_tmr_protect(void);
/* SHUTDOWN: give the range back. */
void sev_tmr_clear(void);
/* Set and protected, i.e. usable for VMSA checksums. */
bool sev_tmr_protected(void);
hwaddr sev_tmr_base(void);
uint64_t sev_tmr_len(void);

/*
 * LAUNCH_UPDATE_VMSA after the measurement: read the page through `from`, zero 0x380, store
 * `slot_pa` (an 8-byte aligned address in the TMR) at 0x388, store the checksum in the slot,
 * leave the page encrypted for `asid` and remember it as a live VMSA.
 * Returns false, with nothing changed, when the page is not RAM.
 */
bool sev_vmsa_seal(hwaddr vmsa_pa, SevKey from, uint32_t asid, hwaddr slot_pa);

/* DEACTIVATE/DECOMMISSION: the pages of this ASID are no longer live VMSAs. */
void sev_vmsa_forget(uint32_t asid);

/* ---- checkers -------------------------------------------------------------------------------- */

typedef enum SevViolation {
    SEV_V_KEY_CHANGE,     /* page used under another key without the flush hardware needs */
    SEV_V_TLB_FLUSH,      /* VMRUN needed a TLB flush of the ASID and did not ask for it */
    SEV_V_VMSA_WRITE,     /* host or DMA write to a live VMSA */
    SEV_V_TMR_ACCESS,     /* host or DMA access to the protected TMR */
    SEV_V_GUEST_INVD,     /* INVD executed in a guest */
    SEV_V_FLUSH_ORDER,    /* WBINVD/DF_FLUSH order, or DEACTIVATE while a vCPU runs */
    SEV_V_SAVE_AREA,      /* host wrote save area state of an ES guest that cannot have effect */
    SEV_V_MAILBOX,        /* security processor mailbox misused (command while busy, ...) */
    SEV_V_COUNT
} SevViolation;

/*
 * Report misuse that hardware would punish silently: one line "sev: violation KIND: ..." on the
 * emulator's log, counted; with the option fatal=on the emulator then exits with status 70.
 */
void sev_violation(SevViolation kind, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* One line "sev: ..." on the emulator's log when trace=on. */
void sev_trace(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/* ---- deliberate defects ------------------------------------------------------------------------ */

/*
 * A mutation is a named defect of the emulator, off unless listed in the object's property
 * mutate=NAME[:NAME...]; the tests prove that each is noticed. sev_mutation() costs a load.
 */
typedef enum SevMutation {
    /* CPU side */
    SEV_M_NO_VMSA_CHECK,        /* "no-vmsa-check": integrity of the VMSA not checked at VMRUN */
    SEV_M_AE_AS_NAE,            /* "ae-as-nae": HLT of an ES guest raises #VC */
    SEV_M_NO_RIP_ADVANCE,       /* "no-rip-advance": VMGEXIT leaves RIP at the instruction */
    SEV_M_MMIO_AE,              /* "mmio-ae": NPF with RSVD exits instead of #VC */
    SEV_M_NO_TRAP,              /* "no-trap": CR/EFER write traps are lost */
    SEV_M_TRAP_BEFORE,          /* "trap-old-value": the trap reports the old value */
    SEV_M_FPU_KEPT,             /* "fpu-kept": swap type C registers survive the exit */
    SEV_M_NO_TYPE_B,            /* "no-type-b": GPRs are not loaded from the host save area */
    SEV_M_NO_ASID_VALID,        /* "no-asid-valid": VMRUN allowed before LAUNCH_FINISH */
    SEV_M_C_BIT_IGNORED,        /* "c-bit-ignored": guest C=0 data still uses the guest key */
    SEV_M_NO_TWEAK,             /* "no-tweak": cipher does not depend on the address */
    SEV_M_DMA_DECRYPTS,         /* "dma-decrypts": DMA sees the current view, not raw bytes */
    SEV_M_GHCB_NOT_SAVED,       /* "ghcb-not-saved": GHCB MSR not stored at exit */
    SEV_M_IF_NOT_SHOWN,         /* "if-not-shown": VMCB 0x68 bit 1 stays clear */
    SEV_M_NO_SMMLOCK_CHECK,     /* "no-smmlock-check": HWCR[0] not checked at VMRUN */
    SEV_M_LEAK_EXITINFO,        /* "leak-exitinfo": VMCB keeps real state of an NAE event */
    /* security processor side */
    SEV_M_PSP_HMAC_ORDER,       /* "psp-hmac-order": measurement fields in the wrong order */
    SEV_M_PSP_NO_DIRTY,         /* "psp-no-dirty": ASIDs are never dirty */
    SEV_M_PSP_NO_WBINVD,        /* "psp-no-wbinvd": DF_FLUSH without WBINVD accepted */
    SEV_M_PSP_NO_POLICY_MAC,    /* "psp-no-policy-mac": session policy MAC not checked */
    SEV_M_PSP_SECRET_MAC,       /* "psp-secret-mac": LAUNCH_SECRET MAC not checked */
    SEV_M_PSP_ASID_CLASS,       /* "psp-asid-class": ES and plain ASIDs not kept apart */
    SEV_M_PSP_VMSA_LATE_HASH,   /* "psp-vmsa-late-hash": digest covers the sealed VMSA */
    SEV_M_PSP_STATE,            /* "psp-state": guest state not checked */
    SEV_M_COUNT
} SevMutation;

extern bool sev_mutations[SEV_M_COUNT];

static inline bool sev_mutation(SevMutation id)
{
    return sev_mutations[id];
}

/* ---- counters ------------------------------------------------------------------------------------ */

/*
 * Readable as object properties "count-NAME" and through the test port (see sev-memory.c);
 * the security processor adds to the last group itself.
 */
typedef struct SevCounters {
    uint64_t page_flips;        /* pages converted from one view to another */
    uint64_t vmrun_sev;         /* successful VMRUNs of plain SEV guests */
    uint64_t vmrun_es;          /* successful VMRUNs of ES guests */
    uint64_t vmrun_refused;     /* VMRUNs that ended in VMEXIT_INVALID */
    uint64_t exits_ae;          /* automatic exits of ES guests */
    uint64_t exits_nae;         /* #VC raised */
    uint64_t guest_invd;        /* INVD executed in a guest, not intercepted */
    uint64_t violations;        /* all kinds */
    uint64_t psp_commands;      /* commands accepted by the mailbox */
    uint64_t psp_errors;        /* commands answered with a status other than 0 */
} SevCounters;

extern SevCounters sev_counters;

#endif
