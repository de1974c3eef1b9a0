/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_PRINTF_H
#define RAVELIN_CORE_PRINTF_H

#include <stdarg.h>
#include "core/types.h"

/*
 * Formatted output: %d %i %u %x %X %p %s %c %% with the flags 0 - + # and
 * space, width, precision, '*' for both, and the lengths hh h l ll z. No
 * floating point. Returns the length the whole text has, as in C; the buffer
 * always ends with NUL when size > 0.
 */
#ifdef UNIT_TEST
#include <stdio.h>
#else
int vsnprintf(char *buf, size_t size, const char *fmt, va_list ap);
int snprintf(char *buf, size_t size, const char *fmt, ...) __printf(3, 4);
#endif

#endif
