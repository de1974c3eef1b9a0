/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_SYMBOLS_H
#define RAVELIN_ARCH_X86_SYMBOLS_H

#include "core/types.h"

/* The function that address lies in, and how far in; "?" outside of the code. */
const char *symbol_name(u64 address, u64 *offset);

#endif
