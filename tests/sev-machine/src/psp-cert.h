/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The SEV certificate: 0x824 bytes, little-endian, up to two ECDSA P-384/SHA-256 signatures over
 * bytes 0..0x413 (SEV API specification, appendix "Certificate format").
 */
#ifndef SEV_MACHINE_PSP_CERT_H
#define SEV_MACHINE_PSP_CERT_H

#include "psp-crypto.h"

#define PSP_CERT_LEN 0x824u
#define PSP_CERT_SIGNED_LEN 0x414u
#define PSP_CHAIN_LEN (3 * PSP_CERT_LEN)

enum {
    PSP_USAGE_INVALID = 0x1000,
    PSP_USAGE_OCA = 0x1001,
    PSP_USAGE_PEK = 0x1002,
    PSP_USAGE_PDH = 0x1003,
    PSP_USAGE_CEK = 0x1004,
};

enum {
    PSP_ALGO_NONE = 0,
    PSP_ALGO_ECDSA_SHA256 = 2,
    PSP_ALGO_ECDH_SHA256 = 3,
};

#define PSP_CURVE_P384 2u

/* Little-endian 72-byte number fields, as certificates and reports hold them. */
#define PSP_LE_BYTES 72
void psp_store_le72(uint8_t dst[PSP_LE_BYTES], const uint8_t be[PSP_EC_BYTES]);
/* False when the number does not fit in 384 bits. */
bool psp_load_le72(const uint8_t src[PSP_LE_BYTES], uint8_t be[PSP_EC_BYTES]);

/* An unsigned certificate. */
void psp_cert_make(uint8_t cert[PSP_CERT_LEN], uint8_t api_major, uint8_t api_minor,
                   uint32_t usage, uint32_t algo, const PspPoint *pub);

/* Sign as `usage` into signature slot 0 or 1. */
void psp_cert_sign(uint8_t cert[PSP_CERT_LEN], unsigned slot, uint32_t usage,
                   const uint8_t priv[PSP_EC_BYTES], PspRandom *rng);

/* True when the version, usage, algorithm, curve and point are right; gives the public key. */
bool psp_cert_check(const uint8_t cert[PSP_CERT_LEN], uint32_t usage, uint32_t algo,
                    PspPoint *pub);

/* True when one of the two signatures is made as `usage` and verifies with `pub`. */
bool psp_cert_verify(const uint8_t cert[PSP_CERT_LEN], uint32_t usage, const PspPoint *pub);

#endif
