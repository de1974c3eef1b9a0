/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_SEV_BASE64_H
#define RAVELIN_SEV_BASE64_H

#include "core/types.h"

/* RFC 4648, section 4, in which owners' tools write what goes through a console. Line ends are
 * skipped. Number of bytes; -EPROTO: no base64, or cut within a group of 4; -E2BIG: over room. */
s64 base64_decode(const void *text, u64 len, u8 *out, u64 room);

/* Text for n bytes, with a zero behind it: BASE64_LEN(n) characters. */
#define BASE64_LEN(n) (((n) + 2) / 3 * 4)
void base64_encode(const u8 *data, u32 n, char *text);

#endif
