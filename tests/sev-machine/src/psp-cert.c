/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The SEV certificate: see psp-cert.h. */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "psp-cert.h"

#define CERT_VERSION 1u

#define OFF_VERSION 0x000
#define OFF_API_MAJOR 0x004
#define OFF_API_MINOR 0x005
#define OFF_USAGE 0x008
#define OFF_ALGO 0x00c
#define OFF_KEY 0x010       /* curve, then Qx and Qy */
#define OFF_SIG0 0x414      /* usage, algorithm, then r and s */
#define OFF_SIG1 0x61c

static const unsigned sig_off[2] = { OFF_SIG0, OFF_SIG1 };

void psp_store_le72(uint8_t dst[PSP_LE_BYTES], const uint8_t be[PSP_EC_BYTES])
{
    memset(dst, 0, PSP_LE_BYTES);
    for (unsigned i = 0; i < PSP_EC_BYTES; i++) {
        dst[i] = be[PSP_EC_BYTES - 1 - i];
    }
}

bool psp_load_le72(const uint8_t src[PSP_LE_BYTES], uint8_t be[PSP_EC_BYTES])
{
    for (unsigned i = PSP_EC_BYTES; i < PSP_LE_BYTES; i++) {
        if (src[i]) {
            return false;
        }
    }
    for (unsigned i = 0; i < PSP_EC_BYTES; i++) {
        be[PSP_EC_BYTES - 1 - i] = src[i];
    }
    return true;
}

void psp_cert_make(uint8_t cert[PSP_CERT_LEN], uint8_t api_major, uint8_t api_minor,
                   uint32_t usage, uint32_t algo, const PspPoint *pub)
{
    memset(cert, 0, PSP_CERT_LEN);
    stl_le_p(cert + OFF_VERSION, CERT_VERSION);
    cert[OFF_API_MAJOR] = api_major;
    cert[OFF_API_MINOR] = api_minor;
    stl_le_p(cert + OFF_USAGE, usage);
    stl_le_p(cert + OFF_ALGO, algo);
    stl_le_p(cert + OFF_KEY, PSP_CURVE_P384);
    psp_store_le72(cert + OFF_KEY + 4, pub->x);
    psp_store_le72(cert + OFF_KEY + 4 + PSP_LE_BYTES, pub->y);
    for (unsigned i = 0; i < 2; i++) {
        stl_le_p(cert + sig_off[i], PSP_USAGE_INVALID);
        stl_le_p(cert + sig_off[i] + 4, PSP_ALGO_NONE);
    }
}

void psp_cert_sign(uint8_t cert[PSP_CERT_LEN], unsigned slot, uint32_t usage,
                   const uint8_t priv[PSP_EC_BYTES], PspRandom *rng)
{
    uint8_t digest[PSP_SHA256_BYTES], r[PSP_EC_BYTES], s[PSP_EC_BYTES];
    uint8_t *sig = cert + sig_off[slot];

    psp_sha256(cert, PSP_CERT_SIGNED_LEN, digest);
    psp_ecdsa_sign(rng, priv, digest, r, s);
    stl_le_p(sig, usage);
    stl_le_p(sig + 4, PSP_ALGO_ECDSA_SHA256);
    memset(sig + 8, 0, 0x200);
    psp_store_le72(sig + 8, r);
    psp_store_le72(sig + 8 + PSP_LE_BYTES, s);
}

bool psp_cert_check(const uint8_t cert[PSP_CERT_LEN], uint32_t usage, uint32_t algo,
                    PspPoint *pub)
{
    return ldl_le_p(cert + OFF_VERSION) == CERT_VERSION &&
           ldl_le_p(cert + OFF_USAGE) == usage &&
           ldl_le_p(cert + OFF_ALGO) == algo &&
           ldl_le_p(cert + OFF_KEY) == PSP_CURVE_P384 &&
           psp_load_le72(cert + OFF_KEY + 4, pub->x) &&
           psp_load_le72(cert + OFF_KEY + 4 + PSP_LE_BYTES, pub->y) &&
           psp_ec_on_curve(pub);
}

bool psp_cert_verify(const uint8_t cert[PSP_CERT_LEN], uint32_t usage, const PspPoint *pub)
{
    uint8_t digest[PSP_SHA256_BYTES], r[PSP_EC_BYTES], s[PSP_EC_BYTES];

    psp_sha256(cert, PSP_CERT_SIGNED_LEN, digest);
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *sig = cert + sig_off[i];

        if (ldl_le_p(sig) == usage && ldl_le_p(sig + 4) == PSP_ALGO_ECDSA_SHA256 &&
            psp_load_le72(sig + 8, r) && psp_load_le72(sig + 8 + PSP_LE_BYTES, s) &&
            psp_ecdsa_verify(pub, digest, r, s)) {
            return true;
        }
    }
    return false;
}
