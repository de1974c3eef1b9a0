/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cryptographic primitives of the security processor: see psp-crypto.h. */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/iov.h"
#include "qapi/error.h"
#include "crypto/cipher.h"
#include "crypto/hash.h"
#include "crypto/hmac.h"
#include "crypto/random.h"
#include <gmp.h>
#include <nettle/bignum.h>
#include <nettle/ecc.h>
#include <nettle/ecc-curve.h>
#include <nettle/ecdsa.h>
#include "psp-crypto.h"

/* ---- random ------------------------------------------------------------------------------ */

void psp_random_seed(PspRandom *rng, const void *seed, size_t len)
{
    rng->seeded = true;
    rng->counter = 0;
    psp_sha256(seed, len, rng->key);
}

void psp_random_bytes(PspRandom *rng, void *buf, size_t len)
{
    uint8_t *out = buf;

    if (!rng->seeded) {
        qcrypto_random_bytes(buf, len, &error_abort);
        return;
    }
    while (len) {
        uint8_t count[8], block[PSP_SHA256_BYTES];
        struct iovec part = { .iov_base = count, .iov_len = sizeof(count) };
        size_t n = MIN(len, sizeof(block));

        stq_le_p(count, rng->counter++);
        psp_hmac(rng->key, sizeof(rng->key), &part, 1, block);
        memcpy(out, block, n);
        out += n;
        len -= n;
    }
}

static void nettle_random(void *ctx, size_t len, uint8_t *dst)
{
    psp_random_bytes(ctx, dst, len);
}

/* ---- symmetric --------------------------------------------------------------------------- */

void psp_sha256(const void *data, size_t len, uint8_t out[PSP_SHA256_BYTES])
{
    size_t out_len = PSP_SHA256_BYTES;

    qcrypto_hash_bytes(QCRYPTO_HASH_ALGO_SHA256, data, len, &out, &out_len, &error_abort);
}

void psp_hmac(const void *key, size_t key_len, const struct iovec *parts, size_t n,
              uint8_t out[PSP_SHA256_BYTES])
{
    g_autoptr(QCryptoHmac) hmac = qcrypto_hmac_new(QCRYPTO_HASH_ALGO_SHA256, key, key_len,
                                                   &error_abort);
    size_t out_len = PSP_SHA256_BYTES;

    qcrypto_hmac_bytesv(hmac, parts, n, &out, &out_len, &error_abort);
}

void psp_aes_ctr(const uint8_t key[PSP_KEY_BYTES], const uint8_t iv[16], void *buf, size_t len)
{
    g_autoptr(QCryptoCipher) cipher = qcrypto_cipher_new(QCRYPTO_CIPHER_ALGO_AES_128,
                                                         QCRYPTO_CIPHER_MODE_CTR, key,
                                                         PSP_KEY_BYTES, &error_abort);

    qcrypto_cipher_setiv(cipher, iv, 16, &error_abort);
    qcrypto_cipher_encrypt(cipher, buf, buf, len, &error_abort);
}

void psp_kdf(const void *key, size_t key_len, const char *label, const void *context,
             size_t context_len, uint8_t out[PSP_KEY_BYTES])
{
    uint8_t index[4], bits[4], zero = 0, block[PSP_SHA256_BYTES];
    struct iovec parts[] = {
        { .iov_base = index, .iov_len = sizeof(index) },
        { .iov_base = (void *)label, .iov_len = strlen(label) },
        { .iov_base = &zero, .iov_len = 1 },
        { .iov_base = (void *)context, .iov_len = context_len },
        { .iov_base = bits, .iov_len = sizeof(bits) },
    };

    /* 16 bytes are less than one HMAC: a single round. */
    stl_le_p(index, 1);
    stl_le_p(bits, PSP_KEY_BYTES * 8);
    psp_hmac(key, key_len, parts, ARRAY_SIZE(parts), block);
    memcpy(out, block, PSP_KEY_BYTES);
}

bool psp_equal(const void *a, const void *b, size_t len)
{
    return memcmp(a, b, len) == 0;
}

/* ---- P-384 ------------------------------------------------------------------------------- */

static const struct ecc_curve *curve(void)
{
    return nettle_get_secp_384r1();
}

static void load_scalar(struct ecc_scalar *k, const uint8_t priv[PSP_EC_BYTES])
{
    mpz_t z;

    ecc_scalar_init(k, curve());
    nettle_mpz_init_set_str_256_u(z, PSP_EC_BYTES, priv);
    if (!ecc_scalar_set(k, z)) {
        /* Private numbers are made below and kept under a MAC: they are in range. */
        g_assert_not_reached();
    }
    mpz_clear(z);
}

static bool load_point(struct ecc_point *p, const PspPoint *pub)
{
    mpz_t x, y;
    bool ok;

    ecc_point_init(p, curve());
    nettle_mpz_init_set_str_256_u(x, PSP_EC_BYTES, pub->x);
    nettle_mpz_init_set_str_256_u(y, PSP_EC_BYTES, pub->y);
    ok = ecc_point_set(p, x, y);
    mpz_clear(x);
    mpz_clear(y);
    return ok;
}

static void store_point(const struct ecc_point *p, PspPoint *pub)
{
    mpz_t x, y;

    mpz_init(x);
    mpz_init(y);
    ecc_point_get(p, x, y);
    nettle_mpz_get_str_256(PSP_EC_BYTES, pub->x, x);
    nettle_mpz_get_str_256(PSP_EC_BYTES, pub->y, y);
    mpz_clear(x);
    mpz_clear(y);
}

void psp_ec_generate(PspRandom *rng, uint8_t priv[PSP_EC_BYTES], PspPoint *pub)
{
    struct ecc_point p;
    struct ecc_scalar k;
    mpz_t z;

    ecc_point_init(&p, curve());
    ecc_scalar_init(&k, curve());
    ecdsa_generate_keypair(&p, &k, rng, nettle_random);
    mpz_init(z);
    ecc_scalar_get(&k, z);
    nettle_mpz_get_str_256(PSP_EC_BYTES, priv, z);
    mpz_clear(z);
    store_point(&p, pub);
    ecc_scalar_clear(&k);
    ecc_point_clear(&p);
}

void psp_ec_public(const uint8_t priv[PSP_EC_BYTES], PspPoint *pub)
{
    struct ecc_point p;
    struct ecc_scalar k;

    load_scalar(&k, priv);
    ecc_point_init(&p, curve());
    ecc_point_mul_g(&p, &k);
    store_point(&p, pub);
    ecc_point_clear(&p);
    ecc_scalar_clear(&k);
}

bool psp_ec_on_curve(const PspPoint *pub)
{
    struct ecc_point p;
    bool ok = load_point(&p, pub);

    ecc_point_clear(&p);
    return ok;
}

bool psp_ecdh(const uint8_t priv[PSP_EC_BYTES], const PspPoint *pub, uint8_t z[PSP_EC_BYTES])
{
    struct ecc_point theirs, shared;
    struct ecc_scalar k;
    PspPoint out;
    bool ok = load_point(&theirs, pub);

    if (ok) {
        load_scalar(&k, priv);
        ecc_point_init(&shared, curve());
        ecc_point_mul(&shared, &k, &theirs);
        store_point(&shared, &out);
        memcpy(z, out.x, PSP_EC_BYTES);
        ecc_point_clear(&shared);
        ecc_scalar_clear(&k);
    }
    ecc_point_clear(&theirs);
    return ok;
}

void psp_ecdsa_sign(PspRandom *rng, const uint8_t priv[PSP_EC_BYTES],
                    const uint8_t digest[PSP_SHA256_BYTES], uint8_t r[PSP_EC_BYTES],
                    uint8_t s[PSP_EC_BYTES])
{
    struct dsa_signature sig;
    struct ecc_scalar k;

    load_scalar(&k, priv);
    dsa_signature_init(&sig);
    ecdsa_sign(&k, rng, nettle_random, PSP_SHA256_BYTES, digest, &sig);
    nettle_mpz_get_str_256(PSP_EC_BYTES, r, sig.r);
    nettle_mpz_get_str_256(PSP_EC_BYTES, s, sig.s);
    dsa_signature_clear(&sig);
    ecc_scalar_clear(&k);
}

bool psp_ecdsa_verify(const PspPoint *pub, const uint8_t digest[PSP_SHA256_BYTES],
                      const uint8_t r[PSP_EC_BYTES], const uint8_t s[PSP_EC_BYTES])
{
    struct dsa_signature sig;
    struct ecc_point p;
    bool ok = load_point(&p, pub);

    if (ok) {
        dsa_signature_init(&sig);
        nettle_mpz_set_str_256_u(sig.r, PSP_EC_BYTES, r);
        nettle_mpz_set_str_256_u(sig.s, PSP_EC_BYTES, s);
        ok = ecdsa_verify(&p, PSP_SHA256_BYTES, digest, &sig);
        dsa_signature_clear(&sig);
    }
    ecc_point_clear(&p);
    return ok;
}
