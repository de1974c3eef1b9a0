/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The security processor's identity and where it is kept.
 *
 * Real parts keep the owner's keys in SPI flash (INIT) or, encrypted, in a file of the host
 * (INIT_EX). The layout is private to the firmware, so this one is our own:
 *   0x00 magic[8] | 0x08 iv[16] | 0x18 HMAC-SHA256(nv key, iv | payload)[32] | 0x40 payload
 * with the payload AES-CTR encrypted under a key of the chip. Erased storage is all 0xff.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "psp.h"

#define NV_OFF_IV 0x08
#define NV_OFF_MAC 0x18
#define NV_OFF_PAYLOAD 0x40
#define NV_PAYLOAD_LEN ROUND_UP(sizeof(PspIdentity), 16)

static const uint8_t nv_magic[8] = "PSPNV01";

QEMU_BUILD_BUG_ON(NV_OFF_PAYLOAD + NV_PAYLOAD_LEN > PSP_NV_LEN);

/* ---- the chip ---------------------------------------------------------------------------- */

static void chip_key(SevPsp *s, const char *label, uint8_t key[PSP_KEY_BYTES])
{
    psp_kdf(s->chip_secret, sizeof(s->chip_secret), label, NULL, 0, key);
}

void psp_chip_setup(SevPsp *s)
{
    uint8_t seed[PSP_KEY_BYTES];
    PspRandom rng = { };
    PspPoint pub;

    psp_sha256(s->chip_id, strlen(s->chip_id), s->chip_secret);

    chip_key(s, "chip-unique-number", seed);
    psp_random_seed(&rng, seed, sizeof(seed));
    psp_random_bytes(&rng, s->chip_unique, sizeof(s->chip_unique));

    chip_key(s, "chip-endorsement-key", seed);
    psp_random_seed(&rng, seed, sizeof(seed));
    psp_ec_generate(&rng, s->cek_priv, &pub);
    psp_cert_make(s->cek, s->api_major, s->api_minor, PSP_USAGE_CEK, PSP_ALGO_ECDSA_SHA256,
                  &pub);
}

/* ---- the identity ------------------------------------------------------------------------ */

void psp_identity_new_pdh(SevPsp *s, PspIdentity *id)
{
    PspPoint pub;

    psp_ec_generate(&s->random, id->pdh_priv, &pub);
    psp_cert_make(id->pdh, s->api_major, s->api_minor, PSP_USAGE_PDH, PSP_ALGO_ECDH_SHA256,
                  &pub);
    psp_cert_sign(id->pdh, 0, PSP_USAGE_PEK, id->pek_priv, &s->random);
}

void psp_identity_new(SevPsp *s, PspIdentity *id)
{
    PspPoint pub;

    memset(id, 0, sizeof(*id));
    psp_ec_generate(&s->random, id->oca_priv, &pub);
    psp_cert_make(id->oca, s->api_major, s->api_minor, PSP_USAGE_OCA, PSP_ALGO_ECDSA_SHA256,
                  &pub);
    psp_cert_sign(id->oca, 0, PSP_USAGE_OCA, id->oca_priv, &s->random);

    psp_ec_generate(&s->random, id->pek_priv, &pub);
    psp_cert_make(id->pek, s->api_major, s->api_minor, PSP_USAGE_PEK, PSP_ALGO_ECDSA_SHA256,
                  &pub);
    psp_cert_sign(id->pek, 0, PSP_USAGE_OCA, id->oca_priv, &s->random);
    psp_cert_sign(id->pek, 1, PSP_USAGE_CEK, s->cek_priv, &s->random);

    psp_identity_new_pdh(s, id);
}

/* ---- storage ----------------------------------------------------------------------------- */

static void nv_mac(SevPsp *s, const uint8_t *nv, uint8_t mac[PSP_SHA256_BYTES])
{
    uint8_t key[PSP_KEY_BYTES];
    struct iovec parts[] = {
        { .iov_base = (void *)(nv + NV_OFF_IV), .iov_len = NV_OFF_MAC - NV_OFF_IV },
        { .iov_base = (void *)(nv + NV_OFF_PAYLOAD), .iov_len = NV_PAYLOAD_LEN },
    };

    chip_key(s, "nv-integrity", key);
    psp_hmac(key, sizeof(key), parts, ARRAY_SIZE(parts), mac);
}

static bool nv_erased(const uint8_t *nv)
{
    for (unsigned i = 0; i < PSP_NV_LEN; i++) {
        if (nv[i] != 0xff) {
            return false;
        }
    }
    return true;
}

static bool nv_decode(SevPsp *s, const uint8_t *nv)
{
    uint8_t key[PSP_KEY_BYTES], mac[PSP_SHA256_BYTES], payload[NV_PAYLOAD_LEN];

    nv_mac(s, nv, mac);
    if (!psp_equal(nv, nv_magic, sizeof(nv_magic)) ||
        !psp_equal(nv + NV_OFF_MAC, mac, sizeof(mac))) {
        return false;
    }
    chip_key(s, "nv-secrecy", key);
    memcpy(payload, nv + NV_OFF_PAYLOAD, NV_PAYLOAD_LEN);
    psp_aes_ctr(key, nv + NV_OFF_IV, payload, NV_PAYLOAD_LEN);
    memcpy(&s->identity, payload, sizeof(s->identity));
    return true;
}

static void nv_encode(SevPsp *s, uint8_t *nv)
{
    uint8_t key[PSP_KEY_BYTES];

    memset(nv, 0, PSP_NV_LEN);
    memcpy(nv, nv_magic, sizeof(nv_magic));
    psp_random_bytes(&s->random, nv + NV_OFF_IV, 16);
    memcpy(nv + NV_OFF_PAYLOAD, &s->identity, sizeof(s->identity));
    chip_key(s, "nv-secrecy", key);
    psp_aes_ctr(key, nv + NV_OFF_IV, nv + NV_OFF_PAYLOAD, NV_PAYLOAD_LEN);
    nv_mac(s, nv, nv + NV_OFF_MAC);
}

static void flash_sync(SevPsp *s)
{
    g_autoptr(GError) err = NULL;

    if (s->nv_path &&
        !g_file_set_contents(s->nv_path, (const char *)s->flash, PSP_NV_LEN, &err)) {
        warn_report("sev-psp: cannot write nv-file: %s", err->message);
    }
}

void psp_identity_store(SevPsp *s)
{
    if (s->nv_external) {
        g_autofree uint8_t *nv = g_malloc(PSP_NV_LEN);

        nv_encode(s, nv);
        /* The range was resolved when INIT_EX was accepted; RAM does not go away. */
        sev_mem_write(s->nv_pa, nv, PSP_NV_LEN, s->nv_key);
        return;
    }
    nv_encode(s, s->flash);
    flash_sync(s);
}

PspStatus psp_identity_load(SevPsp *s)
{
    g_autofree uint8_t *nv = g_malloc(PSP_NV_LEN);

    if (!s->nv_external) {
        memcpy(nv, s->flash, PSP_NV_LEN);
    } else if (!sev_mem_read(s->nv_pa, nv, PSP_NV_LEN, s->nv_key)) {
        return PSP_INVALID_ADDRESS;
    }
    if (!s->secure_data_failed && !nv_erased(nv)) {
        if (!nv_decode(s, nv)) {
            /* Fail once; the retry replaces the state (Linux sev-dev.c does that retry). */
            s->secure_data_failed = true;
            return PSP_SECURE_DATA_INVALID;
        }
    } else {
        psp_identity_new(s, &s->identity);
        s->secure_data_failed = false;
    }
    psp_identity_store(s);
    return PSP_SUCCESS;
}

void psp_nv_erase(SevPsp *s)
{
    memset(s->flash, 0xff, sizeof(s->flash));
    s->secure_data_failed = false;
    flash_sync(s);
}

bool psp_nv_open(SevPsp *s, Error **errp)
{
    g_autofree char *data = NULL;
    g_autoptr(GError) err = NULL;
    size_t len;

    memset(s->flash, 0xff, sizeof(s->flash));
    if (!s->nv_path || !g_file_test(s->nv_path, G_FILE_TEST_EXISTS)) {
        return true;
    }
    if (!g_file_get_contents(s->nv_path, &data, &len, &err)) {
        error_setg(errp, "sev-psp: cannot read nv-file: %s", err->message);
        return false;
    }
    if (len != PSP_NV_LEN) {
        error_setg(errp, "sev-psp: nv-file '%s' has %zu bytes, not %u; remove it to start afresh",
                   s->nv_path, len, PSP_NV_LEN);
        return false;
    }
    memcpy(s->flash, data, PSP_NV_LEN);
    return true;
}
