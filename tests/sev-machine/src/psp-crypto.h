/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cryptographic primitives of the security processor. Hash, HMAC and AES are QEMU's crypto
 * library; P-384 is hogweed (nettle), which the same library is built on.
 * Elliptic-curve numbers are 48 bytes big-endian here; certificates keep them little-endian.
 */
#ifndef SEV_MACHINE_PSP_CRYPTO_H
#define SEV_MACHINE_PSP_CRYPTO_H

#define PSP_EC_BYTES 48
#define PSP_SHA256_BYTES 32
#define PSP_KEY_BYTES 16

/* Random bytes: the host's, or with a seed a reproducible HMAC-SHA256 stream. */
typedef struct PspRandom {
    bool seeded;
    uint8_t key[PSP_SHA256_BYTES];
    uint64_t counter;
} PspRandom;

typedef struct PspPoint {
    uint8_t x[PSP_EC_BYTES];
    uint8_t y[PSP_EC_BYTES];
} PspPoint;

void psp_random_seed(PspRandom *rng, const void *seed, size_t len);
void psp_random_bytes(PspRandom *rng, void *buf, size_t len);

void psp_sha256(const void *data, size_t len, uint8_t out[PSP_SHA256_BYTES]);

/* HMAC-SHA256 over the concatenation of `n` parts. */
void psp_hmac(const void *key, size_t key_len, const struct iovec *parts, size_t n,
              uint8_t out[PSP_SHA256_BYTES]);

/* AES-128-CTR in place, 128-bit big-endian counter; len is a multiple of 16. */
void psp_aes_ctr(const uint8_t key[PSP_KEY_BYTES], const uint8_t iv[16], void *buf, size_t len);

/* SP 800-108 counter mode with HMAC-SHA256 and little-endian counter and length; 16 bytes. */
void psp_kdf(const void *key, size_t key_len, const char *label, const void *context,
             size_t context_len, uint8_t out[PSP_KEY_BYTES]);

/* True when the two buffers are equal. */
bool psp_equal(const void *a, const void *b, size_t len);

void psp_ec_generate(PspRandom *rng, uint8_t priv[PSP_EC_BYTES], PspPoint *pub);
/* The public point of a private number. */
void psp_ec_public(const uint8_t priv[PSP_EC_BYTES], PspPoint *pub);
bool psp_ec_on_curve(const PspPoint *pub);
/* Shared x-coordinate; false when `pub` is not a point of the curve. */
bool psp_ecdh(const uint8_t priv[PSP_EC_BYTES], const PspPoint *pub, uint8_t z[PSP_EC_BYTES]);
/* ECDSA over a SHA-256 digest. */
void psp_ecdsa_sign(PspRandom *rng, const uint8_t priv[PSP_EC_BYTES],
                    const uint8_t digest[PSP_SHA256_BYTES], uint8_t r[PSP_EC_BYTES],
                    uint8_t s[PSP_EC_BYTES]);
bool psp_ecdsa_verify(const PspPoint *pub, const uint8_t digest[PSP_SHA256_BYTES],
                      const uint8_t r[PSP_EC_BYTES], const uint8_t s[PSP_EC_BYTES]);

#endif
