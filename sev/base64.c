/* SPDX-License-Identifier: BSD-2-Clause */
#include "sev/base64.h"
#include "core/errno.h"
#include "core/string.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

s64 base64_decode(const void *text, u64 len, u8 *out, u64 room)
{
	const u8 *c = text;
	u64 n = 0;
	u32 bits = 0, count = 0, pad = 0;

	for (u64 i = 0; i < len; i++) {
		const char *digit = memchr(digits, c[i], sizeof(digits) - 1);

		if (c[i] == '\n' || c[i] == '\r')
			continue;
		if (c[i] == '=' && ++pad <= 2)
			continue;
		if (digit == NULL || pad != 0)
			return -EPROTO;
		bits = bits << 6 | (u32)(digit - digits);
		if (count++ % 4 == 0)
			continue;
		if (n == room)
			return -E2BIG;
		out[n++] = (u8)(bits >> (6 - 2 * ((count - 1) % 4)));
	}
	return (count + pad) % 4 == 0 ? (s64)n : -EPROTO;
}

void base64_encode(const u8 *data, u32 n, char *text)
{
	for (u32 i = 0; i < n; i += 3) {
		u32 have = MIN(n - i, 3U);
		u32 bits = (u32)data[i] << 16 | (have > 1 ? (u32)data[i + 1] << 8 : 0) |
			   (have > 2 ? data[i + 2] : 0U);

		for (u32 k = 0; k < 4; k++)
			*text++ = k <= have ? digits[bits >> (18 - 6 * k) & 0x3f] : '=';
	}
	*text = '\0';
}
