/* SPDX-License-Identifier: BSD-2-Clause */
#include "sev/sha256.h"
#include "core/string.h"

/*
 * FIPS 180-4, 6.2. The library that the guest's loader uses cannot be linked here:
 * it is built with SSE, and the hypervisor leaves those registers to the guests. What is hashed
 * here is only told to the loader, which does not trust it.
 */
#define BLOCK 64UL

static const u32 k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static u32 rotate(u32 x, u32 n)
{
	return x >> n | x << (32 - n);
}

static void schedule(u32 w[64], const u8 *p)
{
	for (u32 i = 0; i < 16; i++) {
		u32 word;

		memcpy(&word, p + 4UL * i, sizeof(word));
		w[i] = __builtin_bswap32(word);
	}
	for (u32 i = 16; i < 64; i++) {
		u32 s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
		u32 s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;

		w[i] = w[i - 16] + s0 + w[i - 7] + s1;
	}
}

/* v: a to h. */
static void block(u32 state[8], const u8 *p)
{
	u32 w[64], v[8];

	schedule(w, p);
	memcpy(v, state, sizeof(v));
	for (u32 i = 0; i < 64; i++) {
		u32 s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
		u32 ch = (v[4] & v[5]) ^ (~v[4] & v[6]);
		u32 t1 = v[7] + s1 + ch + k[i] + w[i];
		u32 s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
		u32 maj = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);

		memmove(v + 1, v, 7 * sizeof(v[0]));
		v[4] += t1;
		v[0] = t1 + s0 + maj;
	}
	for (u32 i = 0; i < 8; i++)
		state[i] += v[i];
}

void sha256(const u8 *data, u64 size, u8 digest[SHA256_SIZE])
{
	u32 state[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
			 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	u8 last[2 * BLOCK] = { 0 };
	u64 rest = size % BLOCK, bits = __builtin_bswap64(size * 8);
	u64 end = rest < BLOCK - 8 ? BLOCK : 2 * BLOCK;

	for (u64 at = 0; at + BLOCK <= size; at += BLOCK)
		block(state, data + at);
	memcpy(last, data + size - rest, rest);
	last[rest] = 0x80;
	memcpy(last + end - 8, &bits, sizeof(bits));
	for (u64 at = 0; at < end; at += BLOCK)
		block(state, last + at);
	for (u32 i = 0; i < 8; i++) {
		u32 word = __builtin_bswap32(state[i]);

		memcpy(digest + 4UL * i, &word, sizeof(word));
	}
}
