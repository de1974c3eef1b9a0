/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest commands of the security processor.
 *
 * Check order: handle, lengths and alignment, guest state, policy, active, addresses, data.
 * Nothing changes before the last check of a command.
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/core/cpu.h"
#include "psp.h"

#define SESSION_LEN 0x80u
#define SESSION_NONCE 0x00
#define SESSION_WRAPPED 0x10    /* TEK | TIK */
#define SESSION_IV 0x30
#define SESSION_WRAP_MAC 0x40
#define SESSION_POLICY_MAC 0x60

#define SECRET_HDR_LEN 0x34u
#define SECRET_MAX_LEN 0x5000u
#define SECRET_FLAG_COMPRESSED (1u << 0)

#define MEASURE_LEN 0x30u
#define REPORT_LEN 0xd0u
#define REPORT_SIGNED_LEN 0x34u

#define VMSA_LEN 4096u
#define COPY_CHUNK (64u * KiB)

/* First byte of the two MACs made with the TIK. */
#define MAC_CONTEXT_SECRET 0x01
#define MAC_CONTEXT_MEASURE 0x04

/* ---- guests ------------------------------------------------------------------------------ */

static PspGuest *guest_by_handle(SevPsp *s, uint32_t handle)
{
    PspGuest *g;

    if (handle == 0 || handle > s->max_guests) {
        return NULL;
    }
    g = &s->guests[handle - 1];
    return g->state == PSP_G_INVALID ? NULL : g;
}

static uint32_t guest_handle(SevPsp *s, const PspGuest *g)
{
    return (uint32_t)(g - s->guests) + 1;
}

static bool guest_in(const PspGuest *g, unsigned states)
{
    return (states & (1u << g->state)) || sev_mutation(SEV_M_PSP_STATE);
}

void psp_guest_free(SevPsp *s, PspGuest *g)
{
    uint32_t handle = guest_handle(s, g);

    for (unsigned i = 0; i < PSP_TMR_SLOTS; i++) {
        if (s->tmr_slots[i] == handle) {
            s->tmr_slots[i] = 0;
        }
    }
    qcrypto_hash_free(g->hash);
    memset(g, 0, sizeof(*g));
}

PspStatus psp_cmd_decommission(SevPsp *s, uint8_t *buf)
{
    PspGuest *g = guest_by_handle(s, ldl_le_p(buf));

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    if (g->asid) {
        return PSP_ACTIVE;
    }
    psp_guest_free(s, g);
    if (--s->guest_count == 0) {
        s->state = PSP_INIT;
    }
    return PSP_SUCCESS;
}

PspStatus psp_cmd_guest_status(SevPsp *s, uint8_t *buf)
{
    PspGuest *g = guest_by_handle(s, ldl_le_p(buf));

    stl_le_p(buf + 4, g ? g->policy : 0);
    stl_le_p(buf + 8, g ? g->asid : 0);
    buf[0xc] = g ? g->state : PSP_G_INVALID;
    return PSP_SUCCESS;
}

/* ---- ASIDs ------------------------------------------------------------------------------- */

static bool asid_in_class(uint32_t asid, uint32_t policy)
{
    const SevConfig *cfg = sev_config();

    if (asid == 0 || asid > cfg->max_asid) {
        return false;
    }
    if (sev_mutation(SEV_M_PSP_ASID_CLASS)) {
        return true;
    }
    return policy & PSP_POLICY_ES ? asid < cfg->min_sev_asid : asid >= cfg->min_sev_asid;
}

static bool asid_dirty(SevPsp *s, uint32_t asid)
{
    return s->asids[asid] == PSP_ASID_DIRTY && !sev_mutation(SEV_M_PSP_NO_DIRTY);
}

static PspStatus activate(SevPsp *s, PspGuest *g, uint32_t asid)
{
    if (g->state == PSP_G_SENT) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (!asid_in_class(asid, g->policy)) {
        return PSP_INVALID_ASID;
    }
    if (s->asids[asid] == PSP_ASID_ALLOCATED && g->asid != asid) {
        return PSP_ASID_OWNED;
    }
    if (g->asid) {
        return PSP_ACTIVE;
    }
    if (asid_dirty(s, asid)) {
        return PSP_DFFLUSH_REQUIRED;
    }
    s->asids[asid] = PSP_ASID_ALLOCATED;
    g->asid = asid;
    sev_key_install(asid, g->vek);
    sev_asid_clear_has_run(asid);
    if (g->state == PSP_G_RUNNING) {
        sev_asid_set_valid(asid, true);
    }
    return PSP_SUCCESS;
}

PspStatus psp_cmd_activate(SevPsp *s, uint8_t *buf)
{
    PspGuest *g = guest_by_handle(s, ldl_le_p(buf));

    return g ? activate(s, g, ldl_le_p(buf + 4)) : PSP_INVALID_GUEST;
}

static bool apic_id_exists(uint32_t apic_id)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        if (cpu->cc->get_arch_id(cpu) == apic_id) {
            return true;
        }
    }
    return false;
}

/*
 * ACTIVATE_EX names the cores (one per core complex) where the ASID is to be usable. The machine
 * has a single core complex, so a valid list activates everywhere; a second call with the same
 * ASID only adds cores and succeeds.
 */
PspStatus psp_cmd_activate_ex(SevPsp *s, uint8_t *buf)
{
    PspGuest *g = guest_by_handle(s, ldl_le_p(buf + 4));
    uint32_t asid = ldl_le_p(buf + 8), count = ldl_le_p(buf + 0xc);
    hwaddr pa;
    SevKey key;

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    if (ldl_le_p(buf) != 0x18) {
        return PSP_INVALID_LEN;
    }
    if (count == 0 || count > 4096) {
        return PSP_INVALID_PARAM;
    }
    if (psp_resolve(ldq_le_p(buf + 0x10), 4ull * count, &pa, &key)) {
        return PSP_INVALID_ADDRESS;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint8_t id[4];

        if (!sev_mem_read(pa + 4ull * i, id, sizeof(id), key)) {
            return PSP_INVALID_ADDRESS;
        }
        if (!apic_id_exists(ldl_le_p(id))) {
            return PSP_INVALID_PARAM;
        }
    }
    if (g->asid && g->asid == asid) {
        return PSP_SUCCESS;
    }
    return activate(s, g, asid);
}

PspStatus psp_cmd_deactivate(SevPsp *s, uint8_t *buf)
{
    PspGuest *g = guest_by_handle(s, ldl_le_p(buf));
    uint32_t asid;

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    asid = g->asid;
    if (!asid) {
        return PSP_INACTIVE;
    }
    if (sev_asid_running(asid)) {
        sev_violation(SEV_V_FLUSH_ORDER, "DEACTIVATE of ASID %u while a CPU runs it", asid);
    }
    if (sev_asid_valid(asid) || sev_asid_has_run(asid)) {
        s->asids[asid] = PSP_ASID_DIRTY;
        sev_wbinvd_clear();
    } else {
        s->asids[asid] = PSP_ASID_CLEAN;
    }
    sev_vmsa_forget(asid);
    sev_key_remove(asid);
    sev_asid_clear_has_run(asid);
    g->asid = 0;
    return PSP_SUCCESS;
}

/* ---- LAUNCH_START ------------------------------------------------------------------------ */

static PspStatus check_policy(SevPsp *s, uint32_t policy)
{
    uint8_t major = PSP_POLICY_API_MAJOR(policy), minor = PSP_POLICY_API_MINOR(policy);

    if (policy & PSP_POLICY_RESERVED) {
        return PSP_POLICY_FAILURE;
    }
    if (major > s->api_major || (major == s->api_major && minor > s->api_minor)) {
        return PSP_POLICY_FAILURE;
    }
    return PSP_SUCCESS;
}

/* Derive the transport keys of a session; the guest owner's certificate is in `cert`. */
static PspStatus open_session(SevPsp *s, const uint8_t *cert, const uint8_t *session,
                              uint32_t policy, PspGuest *out)
{
    uint8_t z[PSP_EC_BYTES], master[PSP_KEY_BYTES], kek[PSP_KEY_BYTES], kik[PSP_KEY_BYTES];
    uint8_t keys[2 * PSP_KEY_BYTES], mac[PSP_SHA256_BYTES], policy_le[4];
    struct iovec part = { .iov_base = keys, .iov_len = sizeof(keys) };
    PspPoint pub;

    if (!psp_cert_check(cert, PSP_USAGE_PDH, PSP_ALGO_ECDH_SHA256, &pub) ||
        !psp_ecdh(s->identity.pdh_priv, &pub, z)) {
        return PSP_INVALID_CERTIFICATE;
    }
    psp_kdf(z, sizeof(z), "sev-master-secret", session + SESSION_NONCE, 16, master);
    psp_kdf(master, sizeof(master), "sev-kek", NULL, 0, kek);
    psp_kdf(master, sizeof(master), "sev-kik", NULL, 0, kik);

    memcpy(keys, session + SESSION_WRAPPED, sizeof(keys));
    psp_hmac(kik, sizeof(kik), &part, 1, mac);
    if (!psp_equal(mac, session + SESSION_WRAP_MAC, sizeof(mac))) {
        return PSP_BAD_MEASUREMENT;
    }
    psp_aes_ctr(kek, session + SESSION_IV, keys, sizeof(keys));
    memcpy(out->tek, keys, PSP_KEY_BYTES);
    memcpy(out->tik, keys + PSP_KEY_BYTES, PSP_KEY_BYTES);

    stl_le_p(policy_le, policy);
    part.iov_base = policy_le;
    part.iov_len = sizeof(policy_le);
    psp_hmac(out->tik, sizeof(out->tik), &part, 1, mac);
    if (!psp_equal(mac, session + SESSION_POLICY_MAC, sizeof(mac)) &&
        !sev_mutation(SEV_M_PSP_NO_POLICY_MAC)) {
        return PSP_BAD_MEASUREMENT;
    }
    return PSP_SUCCESS;
}

static PspStatus read_session(SevPsp *s, const uint8_t *buf, uint32_t policy, PspGuest *out)
{
    uint8_t cert[PSP_CERT_LEN], session[SESSION_LEN];
    hwaddr cert_pa, session_pa;
    SevKey cert_key, session_key;
    PspStatus status;

    if (psp_resolve(ldq_le_p(buf + 8), sizeof(cert), &cert_pa, &cert_key) ||
        psp_resolve(ldq_le_p(buf + 0x18), sizeof(session), &session_pa, &session_key) ||
        !sev_mem_read(cert_pa, cert, sizeof(cert), cert_key) ||
        !sev_mem_read(session_pa, session, sizeof(session), session_key)) {
        return PSP_INVALID_ADDRESS;
    }
    status = check_policy(s, policy);
    return status ? status : open_session(s, cert, session, policy, out);
}

static PspStatus check_key_sharing(const PspGuest *from, uint32_t policy)
{
    if (from->policy != policy || (policy & PSP_POLICY_NOKS)) {
        return PSP_POLICY_FAILURE;
    }
    return PSP_SUCCESS;
}

static PspGuest *free_guest(SevPsp *s)
{
    for (uint32_t i = 0; i < s->max_guests; i++) {
        if (s->guests[i].state == PSP_G_INVALID) {
            return &s->guests[i];
        }
    }
    return NULL;
}

/*
 * LAUNCH_START: handle to share with, lengths, policy against handle and platform, room,
 * addresses, then (only with a session) policy word, certificate, wrap MAC, policy MAC.
 */
PspStatus psp_cmd_launch_start(SevPsp *s, uint8_t *buf)
{
    uint32_t share = ldl_le_p(buf), policy = ldl_le_p(buf + 4);
    bool session = ldq_le_p(buf + 8) != 0;
    PspGuest *from = share ? guest_by_handle(s, share) : NULL;
    PspGuest fresh = { .state = PSP_G_LUPDATE, .policy = policy }, *g;
    PspStatus status;

    if (share && !from) {
        return PSP_INVALID_GUEST;
    }
    if (session &&
        (ldl_le_p(buf + 0x10) != PSP_CERT_LEN || ldl_le_p(buf + 0x20) != SESSION_LEN)) {
        return PSP_INVALID_LEN;
    }
    status = from ? check_key_sharing(from, policy) : PSP_SUCCESS;
    if (status) {
        return status;
    }
    if ((policy & PSP_POLICY_ES) && !s->es) {
        return PSP_UNSUPPORTED;
    }
    g = free_guest(s);
    if (!g) {
        return PSP_RESOURCE_LIMIT;
    }
    status = session ? read_session(s, buf, policy, &fresh) : PSP_SUCCESS;
    if (status) {
        return status;
    }
    if (from) {
        memcpy(fresh.vek, from->vek, sizeof(fresh.vek));
    } else {
        psp_random_bytes(&s->random, fresh.vek, sizeof(fresh.vek));
    }
    fresh.hash = qcrypto_hash_new(QCRYPTO_HASH_ALGO_SHA256, &error_abort);
    *g = fresh;
    s->guest_count++;
    s->state = PSP_WORKING;
    stl_le_p(buf, guest_handle(s, g));
    return PSP_SUCCESS;
}

/* ---- LAUNCH_UPDATE ----------------------------------------------------------------------- */

/* Add what view `key` shows of a resolved range to the launch digest. */
static bool digest_range(PspGuest *g, hwaddr pa, uint32_t len, SevKey key)
{
    g_autofree uint8_t *chunk = g_malloc(COPY_CHUNK);

    while (len) {
        uint32_t n = MIN(len, COPY_CHUNK);

        if (!sev_mem_read(pa, chunk, n, key)) {
            return false;
        }
        if (g->hash) {
            qcrypto_hash_update(g->hash, (const char *)chunk, n, &error_abort);
        }
        pa += n;
        len -= n;
    }
    return true;
}

PspStatus psp_cmd_launch_update_data(SevPsp *s, uint8_t *buf)
{
    PspGuest *g = guest_by_handle(s, ldl_le_p(buf));
    uint64_t addr = ldq_le_p(buf + 8);
    uint32_t len = ldl_le_p(buf + 0x10);
    hwaddr pa;
    SevKey key;

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    if (len == 0 || len % 16) {
        return PSP_INVALID_LEN;
    }
    if (addr % 16) {
        return PSP_INVALID_ADDRESS;
    }
    if (!guest_in(g, 1u << PSP_G_LUPDATE)) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (!g->asid) {
        return PSP_INACTIVE;
    }
    if (psp_resolve(addr, len, &pa, &key) || !digest_range(g, pa, len, key) ||
        !sev_mem_convert(pa, len, key, g->asid)) {
        return PSP_INVALID_ADDRESS;
    }
    return PSP_SUCCESS;
}

static int free_tmr_slot(const SevPsp *s)
{
    for (unsigned i = 0; i < PSP_TMR_SLOTS; i++) {
        if (!s->tmr_slots[i]) {
            return (int)i;
        }
    }
    return -1;
}

/* LAUNCH_UPDATE_VMSA measures the page as the hypervisor wrote it, and only then seals it. */
PspStatus psp_cmd_launch_update_vmsa(SevPsp *s, uint8_t *buf)
{
    PspGuest *g = guest_by_handle(s, ldl_le_p(buf));
    uint64_t addr = ldq_le_p(buf + 8);
    bool late_hash = sev_mutation(SEV_M_PSP_VMSA_LATE_HASH);
    hwaddr pa;
    SevKey key;
    int slot;

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    if (ldl_le_p(buf + 0x10) != VMSA_LEN) {
        return PSP_INVALID_LEN;
    }
    if (addr % VMSA_LEN) {
        return PSP_INVALID_ADDRESS;
    }
    if (!guest_in(g, 1u << PSP_G_LUPDATE)) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (!(g->policy & PSP_POLICY_ES)) {
        return PSP_UNSUPPORTED;
    }
    if (!g->asid) {
        return PSP_INACTIVE;
    }
    if (!sev_tmr_protected()) {
        return PSP_RESOURCE_LIMIT;
    }
    slot = free_tmr_slot(s);
    if (slot < 0) {
        return PSP_RESOURCE_LIMIT;
    }
    if (psp_resolve(addr, VMSA_LEN, &pa, &key) ||
        (!late_hash && !digest_range(g, pa, VMSA_LEN, key))) {
        return PSP_INVALID_ADDRESS;
    }
    if (!sev_vmsa_seal(pa, key, g->asid, sev_tmr_base() + PSP_TMR_SLOT_BASE + 8u * (hwaddr)slot)) {
        return PSP_INVALID_ADDRESS;
    }
    if (late_hash) {
        digest_range(g, pa, VMSA_LEN, g->asid);
    }
    s->tmr_slots[slot] = guest_handle(s, g);
    return PSP_SUCCESS;
}

/* ---- LAUNCH_MEASURE ---------------------------------------------------------------------- */

static void launch_mac(SevPsp *s, const PspGuest *g, const uint8_t *mnonce, uint8_t *mac)
{
    uint8_t head[8] = { MAC_CONTEXT_MEASURE, s->api_major, s->api_minor, s->build };
    struct iovec parts[] = {
        { .iov_base = head, .iov_len = sizeof(head) },
        { .iov_base = (void *)g->digest, .iov_len = sizeof(g->digest) },
        { .iov_base = (void *)mnonce, .iov_len = PSP_MNONCE_BYTES },
    };

    stl_le_p(head + 4, g->policy);
    if (sev_mutation(SEV_M_PSP_HMAC_ORDER)) {
        struct iovec swap = parts[1];

        parts[1] = parts[2];
        parts[2] = swap;
    }
    psp_hmac(g->tik, sizeof(g->tik), parts, ARRAY_SIZE(parts), mac);
}

static void finish_digest(PspGuest *g)
{
    uint8_t *out = g->digest;
    size_t len = sizeof(g->digest);

    if (g->hash) {
        qcrypto_hash_finalize_bytes(g->hash, &out, &len, &error_abort);
        qcrypto_hash_free(g->hash);
        g->hash = NULL;
    }
}

PspStatus psp_cmd_launch_measure(SevPsp *s, uint8_t *buf)
{
    PspGuest *g = guest_by_handle(s, ldl_le_p(buf));
    uint32_t len = ldl_le_p(buf + 0x10);
    uint8_t out[MEASURE_LEN], *mnonce = out + PSP_SHA256_BYTES;
    hwaddr pa;
    SevKey key;

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    stl_le_p(buf + 0x10, MEASURE_LEN);
    if (len < MEASURE_LEN) {
        return PSP_INVALID_LEN;
    }
    if (!guest_in(g, 1u << PSP_G_LUPDATE)) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (psp_resolve(ldq_le_p(buf + 8), MEASURE_LEN, &pa, &key)) {
        return PSP_INVALID_ADDRESS;
    }
    finish_digest(g);
    if (s->forced_mnonce) {
        memcpy(mnonce, s->mnonce, PSP_MNONCE_BYTES);
    } else {
        psp_random_bytes(&s->random, mnonce, PSP_MNONCE_BYTES);
    }
    launch_mac(s, g, mnonce, g->measurement);
    memcpy(out, g->measurement, PSP_SHA256_BYTES);
    sev_mem_write(pa, out, sizeof(out), key);
    g->state = PSP_G_LSECRET;
    return PSP_SUCCESS;
}

/* ---- LAUNCH_SECRET ----------------------------------------------------------------------- */

static bool secret_mac_ok(const PspGuest *g, const uint8_t *hdr, const uint8_t *cipher,
                          uint32_t len)
{
    uint8_t context = MAC_CONTEXT_SECRET, lens[8], mac[PSP_SHA256_BYTES];
    struct iovec parts[] = {
        { .iov_base = &context, .iov_len = 1 },
        { .iov_base = (void *)hdr, .iov_len = 4 + 16 },     /* flags, IV */
        { .iov_base = lens, .iov_len = sizeof(lens) },
        { .iov_base = (void *)cipher, .iov_len = len },
        { .iov_base = (void *)g->measurement, .iov_len = sizeof(g->measurement) },
    };

    stl_le_p(lens, len);
    stl_le_p(lens + 4, len);
    psp_hmac(g->tik, sizeof(g->tik), parts, ARRAY_SIZE(parts), mac);
    return psp_equal(mac, hdr + 4 + 16, sizeof(mac)) || sev_mutation(SEV_M_PSP_SECRET_MAC);
}

static PspStatus secret_lengths(const uint8_t *buf)
{
    uint32_t guest_len = ldl_le_p(buf + 0x20);

    if (ldl_le_p(buf + 0x10) != SECRET_HDR_LEN || guest_len == 0 || guest_len % 16 ||
        guest_len > SECRET_MAX_LEN || ldl_le_p(buf + 0x30) != guest_len) {
        return PSP_INVALID_LEN;
    }
    return ldq_le_p(buf + 0x18) % 16 ? PSP_INVALID_ADDRESS : PSP_SUCCESS;
}

PspStatus psp_cmd_launch_secret(SevPsp *s, uint8_t *buf)
{
    PspGuest *g = guest_by_handle(s, ldl_le_p(buf));
    uint32_t len = ldl_le_p(buf + 0x20), flags;
    uint8_t hdr[SECRET_HDR_LEN];
    g_autofree uint8_t *data = NULL;
    hwaddr hdr_pa, guest_pa, data_pa;
    SevKey hdr_key, guest_key, data_key;
    PspStatus status;

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    status = secret_lengths(buf);
    if (status) {
        return status;
    }
    if (!guest_in(g, 1u << PSP_G_LSECRET)) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (!g->asid) {
        return PSP_INACTIVE;
    }
    data = g_malloc(len);
    if (psp_resolve(ldq_le_p(buf + 8), sizeof(hdr), &hdr_pa, &hdr_key) ||
        psp_resolve(ldq_le_p(buf + 0x18), len, &guest_pa, &guest_key) ||
        psp_resolve(ldq_le_p(buf + 0x28), len, &data_pa, &data_key) ||
        !sev_mem_read(hdr_pa, hdr, sizeof(hdr), hdr_key) ||
        !sev_mem_read(data_pa, data, len, data_key)) {
        return PSP_INVALID_ADDRESS;
    }
    flags = ldl_le_p(hdr);
    if (flags) {
        return flags & SECRET_FLAG_COMPRESSED ? PSP_UNSUPPORTED : PSP_INVALID_PARAM;
    }
    if (!secret_mac_ok(g, hdr, data, len)) {
        return PSP_BAD_MEASUREMENT;
    }
    psp_aes_ctr(g->tek, hdr + 4, data, len);
    sev_mem_write(guest_pa, data, len, g->asid);
    return PSP_SUCCESS;
}

PspStatus psp_cmd_launch_finish(SevPsp *s, uint8_t *buf)
{
    PspGuest *g = guest_by_handle(s, ldl_le_p(buf));

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    if (!guest_in(g, 1u << PSP_G_LSECRET)) {
        return PSP_INVALID_GUEST_STATE;
    }
    finish_digest(g);
    g->state = PSP_G_RUNNING;
    if (g->asid) {
        sev_asid_set_valid(g->asid, true);
    }
    return PSP_SUCCESS;
}

/* ---- ATTESTATION ------------------------------------------------------------------------- */

PspStatus psp_cmd_attestation(SevPsp *s, uint8_t *buf)
{
    PspGuest *g = guest_by_handle(s, ldl_le_p(buf));
    uint32_t len = ldl_le_p(buf + 0x20);
    uint8_t out[REPORT_LEN] = { };
    uint8_t digest[PSP_SHA256_BYTES], r[PSP_EC_BYTES], sig_s[PSP_EC_BYTES];
    hwaddr pa;
    SevKey key;

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    stl_le_p(buf + 0x20, REPORT_LEN);
    if (len < REPORT_LEN) {
        return PSP_INVALID_LEN;
    }
    if (!guest_in(g, 1u << PSP_G_LSECRET | 1u << PSP_G_RUNNING | 1u << PSP_G_SUPDATE |
                     1u << PSP_G_SENT)) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (psp_resolve(ldq_le_p(buf + 8), REPORT_LEN, &pa, &key)) {
        return PSP_INVALID_ADDRESS;
    }
    memcpy(out, buf + 0x10, 16);
    memcpy(out + 0x10, g->digest, sizeof(g->digest));
    stl_le_p(out + 0x30, g->policy);
    stl_le_p(out + 0x34, PSP_USAGE_PEK);
    stl_le_p(out + 0x38, PSP_ALGO_ECDSA_SHA256);
    psp_sha256(out, REPORT_SIGNED_LEN, digest);
    psp_ecdsa_sign(&s->random, s->identity.pek_priv, digest, r, sig_s);
    psp_store_le72(out + 0x40, r);
    psp_store_le72(out + 0x40 + PSP_LE_BYTES, sig_s);
    sev_mem_write(pa, out, sizeof(out), key);
    return PSP_SUCCESS;
}

/* ---- DBG_DECRYPT, DBG_ENCRYPT ------------------------------------------------------------ */

static PspStatus dbg_copy(SevPsp *s, const uint8_t *buf, bool decrypt)
{
    PspGuest *g = guest_by_handle(s, ldl_le_p(buf));
    uint64_t src = ldq_le_p(buf + 8), dst = ldq_le_p(buf + 0x10);
    uint32_t len = ldl_le_p(buf + 0x18);
    g_autofree uint8_t *data = NULL;
    hwaddr src_pa, dst_pa;
    SevKey src_key, dst_key;

    if (!g) {
        return PSP_INVALID_GUEST;
    }
    if (len == 0 || len % 16) {
        return PSP_INVALID_LEN;
    }
    if (src % 16 || dst % 16) {
        return PSP_INVALID_ADDRESS;
    }
    if (g->policy & PSP_POLICY_NODBG) {
        return PSP_POLICY_FAILURE;
    }
    if (!g->asid) {
        return PSP_INACTIVE;
    }
    if (psp_resolve(src, len, &src_pa, &src_key) || psp_resolve(dst, len, &dst_pa, &dst_key)) {
        return PSP_INVALID_ADDRESS;
    }
    data = g_malloc(len);
    if (!sev_mem_read(src_pa, data, len, decrypt ? g->asid : src_key) ||
        !sev_mem_write(dst_pa, data, len, decrypt ? dst_key : g->asid)) {
        return PSP_INVALID_ADDRESS;
    }
    return PSP_SUCCESS;
}

PspStatus psp_cmd_dbg_decrypt(SevPsp *s, uint8_t *buf)
{
    return dbg_copy(s, buf, true);
}

PspStatus psp_cmd_dbg_encrypt(SevPsp *s, uint8_t *buf)
{
    return dbg_copy(s, buf, false);
}
