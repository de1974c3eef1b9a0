/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The security processor's command table, its platform commands and the flush rules.
 *
 * Check order of every command: platform state (table), command buffer, lengths and alignment,
 * then what the command's own comment says. Nothing changes before the last check.
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "psp.h"

#define INIT_FLAG_ES (1u << 0)
#define FW_MAX_LEN (16u * MiB)

PspStatus psp_resolve(uint64_t addr, uint64_t len, hwaddr *pa, SevKey *key)
{
    *pa = sev_split_addr(addr, key);
    if (!sev_mem_is_ram(*pa, len) || sev_mem_in_tmr(*pa, len)) {
        return PSP_INVALID_ADDRESS;
    }
    return PSP_SUCCESS;
}

/* ---- output of data through an address and an in/out length ------------------------------ */

static PspStatus put_data(uint64_t addr, const void *data, uint32_t len)
{
    hwaddr pa;
    SevKey key;
    PspStatus status = psp_resolve(addr, len, &pa, &key);

    if (status == PSP_SUCCESS && !sev_mem_write(pa, data, len, key)) {
        status = PSP_INVALID_ADDRESS;
    }
    return status;
}

static PspStatus get_data(uint64_t addr, void *data, uint32_t len)
{
    hwaddr pa;
    SevKey key;
    PspStatus status = psp_resolve(addr, len, &pa, &key);

    if (status == PSP_SUCCESS && !sev_mem_read(pa, data, len, key)) {
        status = PSP_INVALID_ADDRESS;
    }
    return status;
}

/* Check the length field at `len` against `need` and store `need` there in any case. */
static PspStatus need_len(uint8_t *len, uint32_t need)
{
    uint32_t have = ldl_le_p(len);

    stl_le_p(len, need);
    return have < need ? PSP_INVALID_LEN : PSP_SUCCESS;
}

/* ---- INIT, SHUTDOWN ---------------------------------------------------------------------- */

void psp_platform_uninit(SevPsp *s)
{
    const SevConfig *cfg = sev_config();

    for (uint32_t i = 0; i < s->max_guests; i++) {
        if (s->guests[i].state != PSP_G_INVALID) {
            psp_guest_free(s, &s->guests[i]);
        }
    }
    for (uint32_t asid = 1; asid <= cfg->max_asid; asid++) {
        if (sev_key_installed(asid)) {
            sev_key_remove(asid);
            sev_vmsa_forget(asid);
        }
        sev_asid_clear_has_run(asid);
        s->asids[asid] = PSP_ASID_DIRTY;
    }
    sev_tmr_clear();
    s->guest_count = 0;
    s->es = false;
    s->nv_external = false;
    memset(&s->identity, 0, sizeof(s->identity));
    s->state = PSP_UNINIT;
}

static PspStatus check_tmr(uint64_t addr, uint32_t len)
{
    SevKey key;
    hwaddr base = sev_split_addr(addr, &key);

    if (len != PSP_TMR_LEN) {
        return PSP_INVALID_LEN;
    }
    if (base % PSP_TMR_LEN) {
        return PSP_INVALID_ADDRESS;
    }
    return sev_mem_is_ram(base, len) ? PSP_SUCCESS : PSP_INVALID_CONFIG;
}

static PspStatus init_common(SevPsp *s, uint32_t flags, uint64_t tmr, uint32_t tmr_len)
{
    PspStatus status;
    SevKey key;
    bool es = flags & INIT_FLAG_ES;

    if (flags & ~INIT_FLAG_ES) {
        return PSP_INVALID_PARAM;
    }
    if (!sev_config()->sev) {
        return PSP_UNSUPPORTED;
    }
    if (!sev_syscfg_all_enabled()) {
        return PSP_HWERROR_PLATFORM;
    }
    if (es) {
        status = check_tmr(tmr, tmr_len);
        if (status) {
            return status;
        }
    }
    status = psp_identity_load(s);
    if (status) {
        return status;
    }
    if (es) {
        sev_tmr_set(sev_split_addr(tmr, &key), PSP_TMR_LEN);
        memset(s->tmr_slots, 0, PSP_TMR_SLOTS * sizeof(*s->tmr_slots));
    }
    s->es = es;
    for (uint32_t asid = 1; asid <= sev_config()->max_asid; asid++) {
        s->asids[asid] = PSP_ASID_DIRTY;
        sev_asid_set_valid(asid, false);
    }
    sev_wbinvd_clear();
    s->state = PSP_INIT;
    return PSP_SUCCESS;
}

static PspStatus cmd_init(SevPsp *s, uint8_t *buf)
{
    if (ldl_le_p(buf + 4)) {
        return PSP_INVALID_PARAM;
    }
    s->nv_external = false;
    return init_common(s, ldl_le_p(buf), ldq_le_p(buf + 8), ldl_le_p(buf + 0x10));
}

static PspStatus cmd_init_ex(SevPsp *s, uint8_t *buf)
{
    uint64_t nv = ldq_le_p(buf + 0x18), tmr = ldq_le_p(buf + 8);
    uint32_t nv_len = ldl_le_p(buf + 0x20), tmr_len = ldl_le_p(buf + 0x10);
    PspStatus status;
    SevKey key;
    hwaddr tmr_pa = sev_split_addr(tmr, &key);

    if (ldl_le_p(buf) != 0x24) {
        return PSP_INVALID_LEN;
    }
    if (ldl_le_p(buf + 0x14)) {
        return PSP_INVALID_PARAM;
    }
    if (nv_len != PSP_NV_LEN) {
        return PSP_INVALID_LEN;
    }
    if (nv % 4096) {
        return PSP_INVALID_ADDRESS;
    }
    status = psp_resolve(nv, nv_len, &s->nv_pa, &s->nv_key);
    if (status) {
        return status;
    }
    if ((ldl_le_p(buf + 4) & INIT_FLAG_ES) && s->nv_pa < tmr_pa + tmr_len &&
        tmr_pa < s->nv_pa + nv_len) {
        return PSP_INVALID_ADDRESS;
    }
    s->nv_external = true;
    status = init_common(s, ldl_le_p(buf + 4), tmr, tmr_len);
    if (status) {
        s->nv_external = false;
    }
    return status;
}

static PspStatus cmd_shutdown(SevPsp *s, uint8_t *buf)
{
    for (uint32_t asid = 1; asid <= sev_config()->max_asid; asid++) {
        if (sev_asid_running(asid)) {
            sev_violation(SEV_V_FLUSH_ORDER, "SHUTDOWN while ASID %u is in guest mode", asid);
        }
    }
    psp_platform_uninit(s);
    return PSP_SUCCESS;
}

static PspStatus cmd_platform_reset(SevPsp *s, uint8_t *buf)
{
    psp_nv_erase(s);
    return PSP_SUCCESS;
}

static PspStatus cmd_platform_status(SevPsp *s, uint8_t *buf)
{
    bool up = s->state != PSP_UNINIT;

    memset(buf, 0, 0xc);
    buf[0] = s->api_major;
    buf[1] = s->api_minor;
    buf[2] = s->state;
    buf[3] = up && s->identity.external_owner;
    stw_le_p(buf + 4, up && s->es);
    buf[7] = s->build;
    stl_le_p(buf + 8, up ? s->guest_count : 0);
    return PSP_SUCCESS;
}

/* ---- keys and certificates --------------------------------------------------------------- */

static PspStatus cmd_pek_gen(SevPsp *s, uint8_t *buf)
{
    psp_identity_new(s, &s->identity);
    psp_identity_store(s);
    return PSP_SUCCESS;
}

static PspStatus cmd_pdh_gen(SevPsp *s, uint8_t *buf)
{
    psp_identity_new_pdh(s, &s->identity);
    psp_identity_store(s);
    return PSP_SUCCESS;
}

static PspStatus cmd_pek_csr(SevPsp *s, uint8_t *buf)
{
    uint8_t csr[PSP_CERT_LEN];
    PspPoint pub;
    PspStatus status = need_len(buf + 8, PSP_CERT_LEN);

    if (status) {
        return status;
    }
    psp_ec_public(s->identity.pek_priv, &pub);
    psp_cert_make(csr, s->api_major, s->api_minor, PSP_USAGE_PEK, PSP_ALGO_ECDSA_SHA256, &pub);
    return put_data(ldq_le_p(buf), csr, sizeof(csr));
}

/*
 * PEK_CERT_IMPORT: owned, lengths, addresses, then the certificates: the OCA must be a
 * self-signed ECDSA certificate, the PEK the key of this platform signed by that OCA.
 */
static PspStatus cmd_pek_cert_import(SevPsp *s, uint8_t *buf)
{
    uint8_t pek[PSP_CERT_LEN], oca[PSP_CERT_LEN];
    PspPoint pek_pub, oca_pub, own;
    PspIdentity *id = &s->identity;
    PspStatus status;

    if (id->external_owner) {
        return PSP_ALREADY_OWNED;
    }
    if (ldl_le_p(buf + 8) != PSP_CERT_LEN || ldl_le_p(buf + 0x18) != PSP_CERT_LEN) {
        return PSP_INVALID_LEN;
    }
    status = get_data(ldq_le_p(buf), pek, sizeof(pek));
    if (status == PSP_SUCCESS) {
        status = get_data(ldq_le_p(buf + 0x10), oca, sizeof(oca));
    }
    if (status) {
        return status;
    }
    psp_ec_public(id->pek_priv, &own);
    if (!psp_cert_check(oca, PSP_USAGE_OCA, PSP_ALGO_ECDSA_SHA256, &oca_pub) ||
        !psp_cert_check(pek, PSP_USAGE_PEK, PSP_ALGO_ECDSA_SHA256, &pek_pub) ||
        !psp_equal(&pek_pub, &own, sizeof(own))) {
        return PSP_INVALID_CERTIFICATE;
    }
    if (!psp_cert_verify(oca, PSP_USAGE_OCA, &oca_pub) ||
        !psp_cert_verify(pek, PSP_USAGE_OCA, &oca_pub)) {
        return PSP_BAD_SIGNATURE;
    }
    memcpy(id->oca, oca, sizeof(oca));
    memcpy(id->pek, pek, sizeof(pek));
    psp_cert_sign(id->pek, 1, PSP_USAGE_CEK, s->cek_priv, &s->random);
    memset(id->oca_priv, 0, sizeof(id->oca_priv));
    id->external_owner = true;
    psp_identity_new_pdh(s, id);
    psp_identity_store(s);
    return PSP_SUCCESS;
}

static PspStatus cmd_pdh_cert_export(SevPsp *s, uint8_t *buf)
{
    uint8_t chain[PSP_CHAIN_LEN];
    PspStatus pdh_len = need_len(buf + 8, PSP_CERT_LEN);
    PspStatus chain_len = need_len(buf + 0x18, PSP_CHAIN_LEN);
    hwaddr pa;
    SevKey key;
    PspStatus status;

    if (pdh_len || chain_len) {
        return PSP_INVALID_LEN;
    }
    memcpy(chain, s->identity.pek, PSP_CERT_LEN);
    memcpy(chain + PSP_CERT_LEN, s->identity.oca, PSP_CERT_LEN);
    memcpy(chain + 2 * PSP_CERT_LEN, s->cek, PSP_CERT_LEN);
    status = psp_resolve(ldq_le_p(buf + 0x10), PSP_CHAIN_LEN, &pa, &key);
    if (status == PSP_SUCCESS) {
        status = put_data(ldq_le_p(buf), s->identity.pdh, PSP_CERT_LEN);
    }
    if (status == PSP_SUCCESS) {
        status = put_data(ldq_le_p(buf + 0x10), chain, PSP_CHAIN_LEN);
    }
    return status;
}

static PspStatus cmd_get_id(SevPsp *s, uint8_t *buf)
{
    PspStatus status = need_len(buf + 8, sizeof(s->chip_unique));

    return status ? status : put_data(ldq_le_p(buf), s->chip_unique, sizeof(s->chip_unique));
}

/* ---- the rest ---------------------------------------------------------------------------- */

static PspStatus cmd_nop(SevPsp *s, uint8_t *buf)
{
    return PSP_SUCCESS;
}

/* On success every dirty ASID is clean and a TMR given by INIT becomes protected. */
static PspStatus cmd_df_flush(SevPsp *s, uint8_t *buf)
{
    if (!sev_wbinvd_all_done() && !sev_mutation(SEV_M_PSP_NO_WBINVD)) {
        return PSP_WBINVD_REQUIRED;
    }
    for (uint32_t asid = 1; asid <= sev_config()->max_asid; asid++) {
        if (s->asids[asid] == PSP_ASID_DIRTY) {
            s->asids[asid] = PSP_ASID_CLEAN;
        }
    }
    if (s->es && !sev_tmr_protected()) {
        sev_tmr_protect();
    }
    sev_note_df_flush();
    return PSP_SUCCESS;
}

/*
 * Images are signed by AMD's key; there is nothing here that could verify or run one, so a
 * well-formed request is answered as an image with a wrong signature (or, by property
 * accept-firmware, as accepted without effect).
 */
static PspStatus cmd_download_firmware(SevPsp *s, uint8_t *buf)
{
    uint32_t len = ldl_le_p(buf + 8);
    hwaddr pa;
    SevKey key;

    if (!len || len % 16 || len > FW_MAX_LEN) {
        return PSP_INVALID_LEN;
    }
    if (psp_resolve(ldq_le_p(buf), len, &pa, &key)) {
        return PSP_INVALID_ADDRESS;
    }
    return s->accept_firmware ? PSP_SUCCESS : PSP_BAD_SIGNATURE;
}

static PspStatus cmd_unsupported(SevPsp *s, uint8_t *buf)
{
    return PSP_UNSUPPORTED;
}

/* ---- table ------------------------------------------------------------------------------- */

#define UP (PSP_IN_INIT | PSP_IN_WORKING)

static const PspCommand commands[] = {
    { 0x001, "INIT", 0x14, PSP_IN_UNINIT, cmd_init },
    { 0x002, "SHUTDOWN", 0, PSP_IN_ANY, cmd_shutdown },
    { 0x003, "PLATFORM_RESET", 0, PSP_IN_UNINIT, cmd_platform_reset },
    { 0x004, "PLATFORM_STATUS", 0x0c, PSP_IN_ANY, cmd_platform_status },
    { 0x005, "PEK_GEN", 0, PSP_IN_INIT, cmd_pek_gen },
    { 0x006, "PEK_CSR", 0x0c, UP, cmd_pek_csr },
    { 0x007, "PEK_CERT_IMPORT", 0x1c, PSP_IN_INIT, cmd_pek_cert_import },
    { 0x008, "PDH_CERT_EXPORT", 0x1c, UP, cmd_pdh_cert_export },
    { 0x009, "PDH_GEN", 0, UP, cmd_pdh_gen },
    { 0x00a, "DF_FLUSH", 0, PSP_IN_ANY, cmd_df_flush },
    { 0x00b, "DOWNLOAD_FIRMWARE", 0x0c, PSP_IN_UNINIT, cmd_download_firmware },
    { 0x00c, "GET_ID", 0x0c, PSP_IN_ANY, cmd_get_id },
    { 0x00d, "INIT_EX", 0x24, PSP_IN_UNINIT, cmd_init_ex },
    { 0x00e, "NOP", 0, PSP_IN_ANY, cmd_nop },
    { 0x020, "DECOMMISSION", 0x04, PSP_IN_WORKING, psp_cmd_decommission },
    { 0x021, "ACTIVATE", 0x08, PSP_IN_WORKING, psp_cmd_activate },
    { 0x022, "DEACTIVATE", 0x04, PSP_IN_WORKING, psp_cmd_deactivate },
    { 0x023, "GUEST_STATUS", 0x0d, UP, psp_cmd_guest_status },
    { 0x025, "ACTIVATE_EX", 0x18, PSP_IN_WORKING, psp_cmd_activate_ex },
    { 0x030, "LAUNCH_START", 0x24, UP, psp_cmd_launch_start },
    { 0x031, "LAUNCH_UPDATE_DATA", 0x14, PSP_IN_WORKING, psp_cmd_launch_update_data },
    { 0x032, "LAUNCH_UPDATE_VMSA", 0x14, PSP_IN_WORKING, psp_cmd_launch_update_vmsa },
    { 0x033, "LAUNCH_MEASURE", 0x14, PSP_IN_WORKING, psp_cmd_launch_measure },
    { 0x034, "LAUNCH_SECRET", 0x34, PSP_IN_WORKING, psp_cmd_launch_secret },
    { 0x035, "LAUNCH_FINISH", 0x04, PSP_IN_WORKING, psp_cmd_launch_finish },
    { 0x036, "ATTESTATION", 0x24, PSP_IN_WORKING, psp_cmd_attestation },
    { 0x040, "SEND_START", 0, PSP_IN_WORKING, cmd_unsupported },
    { 0x041, "SEND_UPDATE_DATA", 0, PSP_IN_WORKING, cmd_unsupported },
    { 0x042, "SEND_UPDATE_VMSA", 0, PSP_IN_WORKING, cmd_unsupported },
    { 0x043, "SEND_FINISH", 0, PSP_IN_WORKING, cmd_unsupported },
    { 0x044, "SEND_CANCEL", 0, PSP_IN_WORKING, cmd_unsupported },
    { 0x050, "RECEIVE_START", 0, UP, cmd_unsupported },
    { 0x051, "RECEIVE_UPDATE_DATA", 0, PSP_IN_WORKING, cmd_unsupported },
    { 0x052, "RECEIVE_UPDATE_VMSA", 0, PSP_IN_WORKING, cmd_unsupported },
    { 0x053, "RECEIVE_FINISH", 0, PSP_IN_WORKING, cmd_unsupported },
    { 0x060, "DBG_DECRYPT", 0x1c, PSP_IN_WORKING, psp_cmd_dbg_decrypt },
    { 0x061, "DBG_ENCRYPT", 0x1c, PSP_IN_WORKING, psp_cmd_dbg_encrypt },
};

const PspCommand *psp_command_by_id(uint16_t id)
{
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        if (commands[i].id == id) {
            return &commands[i];
        }
    }
    return NULL;
}

const PspCommand *psp_command_by_name(const char *name)
{
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        if (!g_ascii_strcasecmp(commands[i].name, name)) {
            return &commands[i];
        }
    }
    return NULL;
}

const char *psp_status_name(uint16_t status)
{
    static const char *const names[] = {
        "SUCCESS", "INVALID_PLATFORM_STATE", "INVALID_GUEST_STATE", "INVALID_CONFIG",
        "INVALID_LEN", "ALREADY_OWNED", "INVALID_CERTIFICATE", "POLICY_FAILURE", "INACTIVE",
        "INVALID_ADDRESS", "BAD_SIGNATURE", "BAD_MEASUREMENT", "ASID_OWNED", "INVALID_ASID",
        "WBINVD_REQUIRED", "DFFLUSH_REQUIRED", "INVALID_GUEST", "INVALID_COMMAND", "ACTIVE",
        "HWERROR_PLATFORM", "HWERROR_UNSAFE", "UNSUPPORTED", "INVALID_PARAM", "RESOURCE_LIMIT",
        "SECURE_DATA_INVALID",
    };

    return status < ARRAY_SIZE(names) ? names[status] : "?";
}

PspStatus psp_execute(SevPsp *s, uint16_t id, uint64_t buf_addr)
{
    const PspCommand *cmd = psp_command_by_id(id);
    uint8_t buf[PSP_MAX_BUF] = { }, before[PSP_MAX_BUF];
    hwaddr pa = 0;
    SevKey key = SEV_KEY_NONE;
    PspStatus status;

    if (!cmd) {
        return PSP_INVALID_COMMAND;
    }
    if (!(cmd->states & (1u << s->state))) {
        return PSP_INVALID_PLATFORM_STATE;
    }
    if (cmd->buf_len) {
        if (psp_resolve(buf_addr, cmd->buf_len, &pa, &key) ||
            !sev_mem_read(pa, buf, cmd->buf_len, key)) {
            return PSP_INVALID_ADDRESS;
        }
    }
    memcpy(before, buf, sizeof(before));
    status = cmd->run(s, buf);
    if (cmd->buf_len && memcmp(before, buf, cmd->buf_len)) {
        sev_mem_write(pa, buf, cmd->buf_len, key);
    }
    return status;
}
