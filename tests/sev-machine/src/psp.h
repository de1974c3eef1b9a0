/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The security processor of the SEV-ES machine: what its source files share.
 *
 * psp.c        PCI function, mailbox, interrupts, fault injection
 * psp-plat.c   command table, platform commands, ASID life cycle
 * psp-guest.c  guest commands
 * psp-nv.c     identity (keys and certificates) and where it is kept
 * psp-cert.c   the SEV certificate format
 * psp-crypto.c SHA-256, HMAC, AES-CTR, KDF, P-384: QEMU's crypto library and nettle/hogweed
 *
 * Sources: SEV API specification (55766); Linux 6.12 drivers/crypto/ccp and psp-sev.h; sev-tool
 * (Apache-2.0). docs/sev-machine-psp.md says what is our own reading.
 */
#ifndef SEV_MACHINE_PSP_H
#define SEV_MACHINE_PSP_H

#include "hw/pci/pci_device.h"
#include "crypto/hash.h"
#include "qemu/timer.h"
#include "qom/object.h"
#include "psp-cert.h"
#include "psp-crypto.h"
#include "sev.h"

#define TYPE_SEV_PSP "sev-psp"
OBJECT_DECLARE_SIMPLE_TYPE(SevPsp, SEV_PSP)

/* ---- status codes (psp-sev.h) ------------------------------------------------------------ */

typedef enum PspStatus {
    PSP_SUCCESS = 0x00,
    PSP_INVALID_PLATFORM_STATE = 0x01,
    PSP_INVALID_GUEST_STATE = 0x02,
    PSP_INVALID_CONFIG = 0x03,
    PSP_INVALID_LEN = 0x04,
    PSP_ALREADY_OWNED = 0x05,
    PSP_INVALID_CERTIFICATE = 0x06,
    PSP_POLICY_FAILURE = 0x07,
    PSP_INACTIVE = 0x08,
    PSP_INVALID_ADDRESS = 0x09,
    PSP_BAD_SIGNATURE = 0x0a,
    PSP_BAD_MEASUREMENT = 0x0b,
    PSP_ASID_OWNED = 0x0c,
    PSP_INVALID_ASID = 0x0d,
    PSP_WBINVD_REQUIRED = 0x0e,
    PSP_DFFLUSH_REQUIRED = 0x0f,
    PSP_INVALID_GUEST = 0x10,
    PSP_INVALID_COMMAND = 0x11,
    PSP_ACTIVE = 0x12,
    PSP_HWERROR_PLATFORM = 0x13,
    PSP_HWERROR_UNSAFE = 0x14,
    PSP_UNSUPPORTED = 0x15,
    PSP_INVALID_PARAM = 0x16,
    PSP_RESOURCE_LIMIT = 0x17,
    PSP_SECURE_DATA_INVALID = 0x18,
} PspStatus;

/* ---- states ------------------------------------------------------------------------------ */

typedef enum PspPlatformState {
    PSP_UNINIT = 0,
    PSP_INIT = 1,
    PSP_WORKING = 2,
} PspPlatformState;

/* Sets of platform states, for the command table. */
#define PSP_IN_UNINIT (1u << PSP_UNINIT)
#define PSP_IN_INIT (1u << PSP_INIT)
#define PSP_IN_WORKING (1u << PSP_WORKING)
#define PSP_IN_ANY (PSP_IN_UNINIT | PSP_IN_INIT | PSP_IN_WORKING)

typedef enum PspGuestState {
    PSP_G_INVALID = 0,
    PSP_G_LUPDATE = 1,
    PSP_G_LSECRET = 2,
    PSP_G_RUNNING = 3,
    PSP_G_SUPDATE = 4,
    PSP_G_RUPDATE = 5,
    PSP_G_SENT = 6,
} PspGuestState;

/* Guest policy word. */
#define PSP_POLICY_NODBG (1u << 0)
#define PSP_POLICY_NOKS (1u << 1)
#define PSP_POLICY_ES (1u << 2)
#define PSP_POLICY_RESERVED 0x0000ffc0u
#define PSP_POLICY_API_MAJOR(p) (((p) >> 16) & 0xff)
#define PSP_POLICY_API_MINOR(p) (((p) >> 24) & 0xff)

/* ASID life cycle: dirty -> clean (DF_FLUSH) -> allocated (ACTIVATE) -> dirty or clean. */
typedef enum PspAsidState {
    PSP_ASID_DIRTY,
    PSP_ASID_CLEAN,
    PSP_ASID_ALLOCATED,
} PspAsidState;

/* ---- TMR --------------------------------------------------------------------------------- */

#define PSP_TMR_LEN (1u * MiB)
/* Checksum slots: 8 bytes a vCPU, in the second half. */
#define PSP_TMR_SLOT_BASE (PSP_TMR_LEN / 2)
#define PSP_TMR_SLOTS ((PSP_TMR_LEN - PSP_TMR_SLOT_BASE) / 8)

/* ---- identity ---------------------------------------------------------------------------- */

#define PSP_NV_LEN 0x8000u

/* Everything that outlives SHUTDOWN. CEK is not here: it is derived from the chip's secret. */
typedef struct PspIdentity {
    bool external_owner;            /* an OCA certificate was imported */
    uint8_t oca_priv[PSP_EC_BYTES]; /* zero when externally owned */
    uint8_t pek_priv[PSP_EC_BYTES];
    uint8_t pdh_priv[PSP_EC_BYTES];
    uint8_t oca[PSP_CERT_LEN];
    uint8_t pek[PSP_CERT_LEN];
    uint8_t pdh[PSP_CERT_LEN];
} PspIdentity;

/* ---- guests ------------------------------------------------------------------------------ */

typedef struct PspGuest {
    PspGuestState state;        /* PSP_G_INVALID: free */
    uint32_t policy;
    uint32_t asid;              /* 0: not active */
    uint8_t vek[SEV_KEY_BYTES];
    uint8_t tek[PSP_KEY_BYTES];
    uint8_t tik[PSP_KEY_BYTES];
    QCryptoHash *hash;          /* running launch digest, NULL after LAUNCH_MEASURE */
    uint8_t digest[PSP_SHA256_BYTES];
    uint8_t measurement[PSP_SHA256_BYTES];
} PspGuest;

/* ---- fault injection --------------------------------------------------------------------- */

typedef enum PspFaultKind {
    PSP_FAULT_STATUS,           /* not executed, `value` is the answer */
    PSP_FAULT_DONE,             /* executed, but `value` is the answer */
    PSP_FAULT_LATE,             /* executed, answered `value` milliseconds later */
    PSP_FAULT_NEVER,            /* not executed, not answered: the mailbox is dead */
} PspFaultKind;

#define PSP_MAX_FAULTS 32
#define PSP_CMD_ANY 0xffffu

typedef struct PspFault {
    uint16_t cmd;               /* command id or PSP_CMD_ANY */
    PspFaultKind kind;
    uint32_t value;
    uint32_t skip;              /* this many occurrences are left alone first */
    uint32_t times;             /* then this many are hit; UINT32_MAX: all */
} PspFault;

/* ---- device ------------------------------------------------------------------------------ */

#define PSP_MAX_CMD 0x80u
#define PSP_MAX_BUF 0x40u
#define PSP_MNONCE_BYTES 16

struct SevPsp {
    PCIDevice parent_obj;
    MemoryRegion bar;
    const struct PspLayout *layout;

    /* properties */
    char *generation;
    char *chip_id;
    char *mnonce_hex;
    char *nv_path;
    char *fault_text;
    uint8_t api_major, api_minor, build;
    uint32_t feature;
    uint32_t bootloader;
    uint32_t latency_us;
    uint32_t max_guests;
    uint64_t seed;
    bool accept_firmware;
    bool log_counts;

    /* mailbox */
    uint32_t reg_cmd, reg_lo, reg_hi, reg_inten, reg_intsts;
    bool busy;                  /* a command has been accepted and not been answered */
    bool ioc;                   /* that command asked for an interrupt */
    uint16_t answer;            /* its status */
    QEMUTimer *timer;
    Notifier exit_notifier;

    PspFault faults[PSP_MAX_FAULTS];
    unsigned nfaults;
    uint32_t counts[PSP_MAX_CMD];

    /* firmware */
    PspPlatformState state;
    bool es;                    /* INIT asked for ES and donated a TMR */
    PspRandom random;
    uint8_t chip_secret[PSP_SHA256_BYTES];
    uint8_t cek_priv[PSP_EC_BYTES];
    uint8_t cek[PSP_CERT_LEN];
    uint8_t chip_unique[64];    /* GET_ID */
    bool forced_mnonce;
    uint8_t mnonce[PSP_MNONCE_BYTES];

    PspIdentity identity;       /* valid outside UNINIT */
    uint8_t flash[PSP_NV_LEN];  /* what plain INIT uses; erased: all 0xff */
    bool secure_data_failed;    /* the next INIT starts afresh instead of failing again */
    bool nv_external;           /* INIT_EX: the state is kept in memory at nv_pa */
    hwaddr nv_pa;
    SevKey nv_key;

    PspGuest *guests;           /* handle - 1 is the index; max_guests entries */
    uint32_t guest_count;
    uint8_t *asids;             /* PspAsidState by ASID; max_asid + 1 entries */
    uint32_t *tmr_slots;        /* handle that owns each slot, 0 free */
};

/* ---- psp-plat.c -------------------------------------------------------------------------- */

typedef struct PspCommand {
    uint16_t id;
    const char *name;
    uint16_t buf_len;           /* 0: no command buffer */
    uint8_t states;             /* PSP_IN_...: platform states it is allowed in */
    /* Runs the command; `buf` is a private copy, changes are written back. */
    PspStatus (*run)(SevPsp *s, uint8_t *buf);
} PspCommand;

const PspCommand *psp_command_by_id(uint16_t id);
const PspCommand *psp_command_by_name(const char *name);
const char *psp_status_name(uint16_t status);

/* Check state and buffer, run the command and write the buffer back. */
PspStatus psp_execute(SevPsp *s, uint16_t id, uint64_t buf_addr);

/* Back to UNINIT: guests, keys and TMR are dropped. Also the device's reset. */
void psp_platform_uninit(SevPsp *s);

/*
 * Resolve a bus address (which may carry the C-bit) of `len` bytes to RAM outside the TMR.
 * Returns PSP_SUCCESS or PSP_INVALID_ADDRESS.
 */
PspStatus psp_resolve(uint64_t addr, uint64_t len, hwaddr *pa, SevKey *key);

/* ---- psp-guest.c ------------------------------------------------------------------------- */

PspStatus psp_cmd_decommission(SevPsp *s, uint8_t *buf);
PspStatus psp_cmd_activate(SevPsp *s, uint8_t *buf);
PspStatus psp_cmd_activate_ex(SevPsp *s, uint8_t *buf);
PspStatus psp_cmd_deactivate(SevPsp *s, uint8_t *buf);
PspStatus psp_cmd_guest_status(SevPsp *s, uint8_t *buf);
PspStatus psp_cmd_launch_start(SevPsp *s, uint8_t *buf);
PspStatus psp_cmd_launch_update_data(SevPsp *s, uint8_t *buf);
PspStatus psp_cmd_launch_update_vmsa(SevPsp *s, uint8_t *buf);
PspStatus psp_cmd_launch_measure(SevPsp *s, uint8_t *buf);
PspStatus psp_cmd_launch_secret(SevPsp *s, uint8_t *buf);
PspStatus psp_cmd_launch_finish(SevPsp *s, uint8_t *buf);
PspStatus psp_cmd_attestation(SevPsp *s, uint8_t *buf);
PspStatus psp_cmd_dbg_decrypt(SevPsp *s, uint8_t *buf);
PspStatus psp_cmd_dbg_encrypt(SevPsp *s, uint8_t *buf);

/* Forget a guest without any check: SHUTDOWN and DECOMMISSION. */
void psp_guest_free(SevPsp *s, PspGuest *g);

/* ---- psp-nv.c ---------------------------------------------------------------------------- */

/* Derive the chip's secret, its unique number and the CEK from the property chip-id. */
void psp_chip_setup(SevPsp *s);

/* Load the identity from NV storage, or make a new one when it is erased. */
PspStatus psp_identity_load(SevPsp *s);
/* Write the identity to NV storage (flash, file, or the INIT_EX buffer). */
void psp_identity_store(SevPsp *s);

/* New OCA, PEK and PDH: the platform is self-owned. */
void psp_identity_new(SevPsp *s, PspIdentity *id);
/* New PDH under the present PEK. */
void psp_identity_new_pdh(SevPsp *s, PspIdentity *id);

/* PLATFORM_RESET: erase the flash (and the file behind it). */
void psp_nv_erase(SevPsp *s);
/* Read the property nv-file, if set, into the flash. */
bool psp_nv_open(SevPsp *s, Error **errp);

#endif
