/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_DRIVERS_PSP_PSP_H
#define RAVELIN_DRIVERS_PSP_PSP_H

#include "core/types.h"
#include "drivers/pci.h"

/*
 * The AMD security processor's SEV mailbox (SEV API specification, AMD
 * publication 55766; register offsets as in Linux's ccp driver). One command
 * at a time; commands wait for their answer, interrupts on, no lock held that
 * an interrupt handler takes. A command that is not answered in time latches
 * the mailbox dead: its buffer stays the processor's and nothing is sent again.
 *
 * All addresses are physical, without the C-bit, of memory that the processor
 * may reach: RAM.
 */
#define PSP_INIT 0x001U
#define PSP_SHUTDOWN 0x002U
#define PSP_PLATFORM_RESET 0x003U
#define PSP_PLATFORM_STATUS 0x004U
#define PSP_PEK_GEN 0x005U
#define PSP_PEK_CSR 0x006U
#define PSP_PEK_CERT_IMPORT 0x007U
#define PSP_PDH_CERT_EXPORT 0x008U
#define PSP_PDH_GEN 0x009U
#define PSP_DF_FLUSH 0x00aU
#define PSP_DOWNLOAD_FIRMWARE 0x00bU
#define PSP_GET_ID 0x00cU
#define PSP_INIT_EX 0x00dU
#define PSP_NOP 0x00eU
#define PSP_DECOMMISSION 0x020U
#define PSP_ACTIVATE 0x021U
#define PSP_DEACTIVATE 0x022U
#define PSP_GUEST_STATUS 0x023U
#define PSP_ACTIVATE_EX 0x025U
#define PSP_LAUNCH_START 0x030U
#define PSP_LAUNCH_UPDATE_DATA 0x031U
#define PSP_LAUNCH_UPDATE_VMSA 0x032U
#define PSP_LAUNCH_MEASURE 0x033U
#define PSP_LAUNCH_SECRET 0x034U
#define PSP_LAUNCH_FINISH 0x035U
#define PSP_ATTESTATION 0x036U
#define PSP_SEND_START 0x040U
#define PSP_SEND_UPDATE_DATA 0x041U
#define PSP_SEND_UPDATE_VMSA 0x042U
#define PSP_SEND_FINISH 0x043U
#define PSP_SEND_CANCEL 0x044U
#define PSP_RECEIVE_START 0x050U
#define PSP_RECEIVE_UPDATE_DATA 0x051U
#define PSP_RECEIVE_UPDATE_VMSA 0x052U
#define PSP_RECEIVE_FINISH 0x053U
#define PSP_DBG_DECRYPT 0x060U
#define PSP_DBG_ENCRYPT 0x061U

/* Status codes that software acts on; psp_status_name() knows all. */
#define PSP_SUCCESS 0x00U
#define PSP_WBINVD_REQUIRED 0x0eU
#define PSP_DFFLUSH_REQUIRED 0x0fU
#define PSP_SECURE_DATA_INVALID 0x18U

#define PSP_STATE_UNINIT 0
#define PSP_STATE_INIT 1
#define PSP_STATE_WORKING 2

#define PSP_CERT_SIZE 0x824U    /* a certificate: PDH, the guest owner's DH key, CSR */
#define PSP_CHAIN_SIZE 0x186cU  /* PEK, OCA, CEK */
#define PSP_SESSION_SIZE 0x80U
#define PSP_MEASURE_SIZE 0x30U  /* HMAC, nonce */
#define PSP_SECRET_HDR_SIZE 0x34U
#define PSP_REPORT_SIZE 0xd0U
#define PSP_NV_SIZE 0x8000U

/* INIT */
#define PSP_INIT_ES BIT32(0)
struct psp_init {
	u32 flags;
	u32 reserved;
	u64 tmr; /* 1 MiB, aligned to its size */
	u32 tmr_len;
} __packed;

struct psp_init_ex {
	u32 length; /* of this structure */
	u32 flags;
	u64 tmr;
	u32 tmr_len;
	u32 reserved;
	u64 nv;
	u32 nv_len;
} __packed;

/* PLATFORM_STATUS, out */
#define PSP_CONFIG_ES BIT32(0)
struct psp_platform_status {
	u8 api_major, api_minor;
	u8 state;
	u8 owner;
	u16 config;
	u8 reserved;
	u8 build;
	u32 guests;
} __packed;

/* PEK_CSR, GET_ID (len in/out), DOWNLOAD_FIRMWARE */
struct psp_blob {
	u64 addr;
	u32 len;
} __packed;

/* PEK_CERT_IMPORT (PEK, OCA), PDH_CERT_EXPORT (PDH, chain; lengths in/out) */
struct psp_two_blobs {
	u64 first;
	u32 first_len;
	u32 reserved;
	u64 second;
	u32 second_len;
} __packed;

/* DECOMMISSION, DEACTIVATE, LAUNCH_FINISH, SEND_FINISH, SEND_CANCEL, RECEIVE_FINISH */
struct psp_handle {
	u32 handle;
} __packed;

struct psp_activate {
	u32 handle;
	u32 asid;
} __packed;

struct psp_activate_ex {
	u32 length;
	u32 handle;
	u32 asid;
	u32 ids;
	u64 id_list;
} __packed;

struct psp_guest_status {
	u32 handle;
	u32 policy;
	u32 asid; /* 0: not active */
	u8 state;
} __packed;

/* LAUNCH_START; RECEIVE_START has the sender's PDH at dh_cert */
struct psp_start {
	u32 handle; /* in: 0 or the guest to share a key with; out: the new guest */
	u32 policy;
	u64 dh_cert; /* 0: no session */
	u32 dh_cert_len;
	u32 reserved;
	u64 session;
	u32 session_len;
} __packed;

/* LAUNCH_UPDATE_DATA, LAUNCH_UPDATE_VMSA, LAUNCH_MEASURE (len in/out) */
struct psp_range {
	u32 handle;
	u32 reserved;
	u64 addr;
	u32 len;
} __packed;

/* LAUNCH_SECRET, SEND_UPDATE_*, RECEIVE_UPDATE_* */
struct psp_packet {
	u32 handle;
	u32 reserved;
	u64 hdr;
	u32 hdr_len;
	u32 reserved1;
	u64 guest;
	u32 guest_len;
	u32 reserved2;
	u64 trans;
	u32 trans_len;
} __packed;

struct psp_attestation {
	u32 handle;
	u32 reserved;
	u64 addr;
	u8 nonce[16];
	u32 len; /* in/out */
} __packed;

struct psp_send_start {
	u32 handle;
	u32 policy; /* out */
	u64 pdh;
	u32 pdh_len;
	u32 reserved;
	u64 chain;
	u32 chain_len;
	u32 reserved1;
	u64 amd;
	u32 amd_len;
	u32 reserved2;
	u64 session;
	u32 session_len; /* in/out */
} __packed;

struct psp_debug {
	u32 handle;
	u32 reserved;
	u64 src;
	u64 dst;
	u32 len;
} __packed;

ASSERT_SIZE(struct psp_init, 0x14);
ASSERT_SIZE(struct psp_init_ex, 0x24);
ASSERT_SIZE(struct psp_platform_status, 0x0c);
ASSERT_OFFSET(struct psp_platform_status, config, 4);
ASSERT_OFFSET(struct psp_platform_status, build, 7);
ASSERT_SIZE(struct psp_blob, 0x0c);
ASSERT_SIZE(struct psp_two_blobs, 0x1c);
ASSERT_OFFSET(struct psp_two_blobs, second, 0x10);
ASSERT_SIZE(struct psp_activate_ex, 0x18);
ASSERT_SIZE(struct psp_guest_status, 0x0d);
ASSERT_SIZE(struct psp_start, 0x24);
ASSERT_OFFSET(struct psp_start, session, 0x18);
ASSERT_SIZE(struct psp_range, 0x14);
ASSERT_SIZE(struct psp_packet, 0x34);
ASSERT_OFFSET(struct psp_packet, guest, 0x18);
ASSERT_OFFSET(struct psp_packet, trans, 0x28);
ASSERT_SIZE(struct psp_attestation, 0x24);
ASSERT_SIZE(struct psp_send_start, 0x44);
ASSERT_SIZE(struct psp_debug, 0x1c);

/*
 * Looks for a processor with an SEV mailbox; sends no command. 0, -ENOENT: this
 * machine has none, -ENODEV: there is one that cannot be used (logged).
 */
int psp_probe(void);

/*
 * Sends a command with its buffer (NULL for those without) and waits. The
 * answer is in the buffer. 0; -EIO: the processor refused, see
 * psp_last_status(), logged in words; -ENODEV: no mailbox or a dead one;
 * -ETIMEDOUT: it died now; -EINVAL: no such command. Use the typed functions.
 */
int psp_command(u32 id, void *buffer);
u32 psp_last_status(void);
/* No command can be answered any more, and what the processor was given stays its own. */
bool psp_dead(void);

#define PSP_TYPED(fn, id, type) \
	static inline int fn(struct type *b) { return psp_command(id, b); }
#define PSP_PLAIN(fn, id) \
	static inline int fn(void) { return psp_command(id, NULL); }
PSP_TYPED(psp_init, PSP_INIT, psp_init)
PSP_TYPED(psp_init_ex, PSP_INIT_EX, psp_init_ex)
PSP_PLAIN(psp_shutdown, PSP_SHUTDOWN)
PSP_PLAIN(psp_platform_reset, PSP_PLATFORM_RESET)
PSP_TYPED(psp_platform_status, PSP_PLATFORM_STATUS, psp_platform_status)
PSP_PLAIN(psp_pek_gen, PSP_PEK_GEN)
PSP_TYPED(psp_pek_csr, PSP_PEK_CSR, psp_blob)
PSP_TYPED(psp_pek_cert_import, PSP_PEK_CERT_IMPORT, psp_two_blobs)
PSP_TYPED(psp_pdh_cert_export, PSP_PDH_CERT_EXPORT, psp_two_blobs)
PSP_PLAIN(psp_pdh_gen, PSP_PDH_GEN)
PSP_PLAIN(psp_df_flush, PSP_DF_FLUSH)
PSP_TYPED(psp_download_firmware, PSP_DOWNLOAD_FIRMWARE, psp_blob)
PSP_TYPED(psp_get_id, PSP_GET_ID, psp_blob)
PSP_PLAIN(psp_nop, PSP_NOP)
PSP_TYPED(psp_decommission, PSP_DECOMMISSION, psp_handle)
PSP_TYPED(psp_activate, PSP_ACTIVATE, psp_activate)
PSP_TYPED(psp_deactivate, PSP_DEACTIVATE, psp_handle)
PSP_TYPED(psp_guest_status, PSP_GUEST_STATUS, psp_guest_status)
PSP_TYPED(psp_activate_ex, PSP_ACTIVATE_EX, psp_activate_ex)
PSP_TYPED(psp_launch_start, PSP_LAUNCH_START, psp_start)
PSP_TYPED(psp_launch_update_data, PSP_LAUNCH_UPDATE_DATA, psp_range)
PSP_TYPED(psp_launch_update_vmsa, PSP_LAUNCH_UPDATE_VMSA, psp_range)
PSP_TYPED(psp_launch_measure, PSP_LAUNCH_MEASURE, psp_range)
PSP_TYPED(psp_launch_secret, PSP_LAUNCH_SECRET, psp_packet)
PSP_TYPED(psp_launch_finish, PSP_LAUNCH_FINISH, psp_handle)
PSP_TYPED(psp_attestation, PSP_ATTESTATION, psp_attestation)
PSP_TYPED(psp_send_start, PSP_SEND_START, psp_send_start)
PSP_TYPED(psp_send_update_data, PSP_SEND_UPDATE_DATA, psp_packet)
PSP_TYPED(psp_send_update_vmsa, PSP_SEND_UPDATE_VMSA, psp_packet)
PSP_TYPED(psp_send_finish, PSP_SEND_FINISH, psp_handle)
PSP_TYPED(psp_send_cancel, PSP_SEND_CANCEL, psp_handle)
PSP_TYPED(psp_receive_start, PSP_RECEIVE_START, psp_start)
PSP_TYPED(psp_receive_update_data, PSP_RECEIVE_UPDATE_DATA, psp_packet)
PSP_TYPED(psp_receive_update_vmsa, PSP_RECEIVE_UPDATE_VMSA, psp_packet)
PSP_TYPED(psp_receive_finish, PSP_RECEIVE_FINISH, psp_handle)
PSP_TYPED(psp_dbg_decrypt, PSP_DBG_DECRYPT, psp_debug)
PSP_TYPED(psp_dbg_encrypt, PSP_DBG_ENCRYPT, psp_debug)
#undef PSP_TYPED
#undef PSP_PLAIN

/* Length of a command's buffer, 0 for those without; -EINVAL: no such command. */
int psp_command_size(u32 id);
/* "WBINVD_REQUIRED"; "?" for a code nobody knows. Never NULL. */
const char *psp_status_name(u32 status);
/* What to do about it, "" when there is nothing to say. */
const char *psp_status_remedy(u32 status);
/* Prints where the mailbox is, and each command's count, failures and last status. */
void psp_print(void);

#endif
