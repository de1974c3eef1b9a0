/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_SEV_SHA256_H
#define RAVELIN_SEV_SHA256_H

#include "core/types.h"

#define SHA256_SIZE 32

/* FIPS 180-4, 6.2. For what is public anyway: no care is taken about time. */
void sha256(const u8 *data, u64 size, u8 digest[SHA256_SIZE]);

#endif
