/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_STRING_H
#define RAVELIN_CORE_STRING_H

#include "core/types.h"

/*
 * The few string functions that the hypervisor uses, with the C library's
 * meaning. Built for the host (UNIT_TEST), the C library's own are used and
 * core/string.c offers its versions under rv_ names to their test.
 */
#ifdef UNIT_TEST
#include <string.h>
#else
void *memcpy(void *dst, const void *src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memchr(const void *s, int c, size_t n);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t max);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);
char *strrchr(const char *s, int c);

#define memcpy(d, s, n) __builtin_memcpy(d, s, n)
#define memmove(d, s, n) __builtin_memmove(d, s, n)
#define memset(d, c, n) __builtin_memset(d, c, n)
#define memcmp(a, b, n) __builtin_memcmp(a, b, n)
#define strlen(s) __builtin_strlen(s)
#endif

/* Copies at most size-1 bytes and always ends dst with NUL (size > 0). Returns strlen(src). */
size_t str_copy(char *dst, const char *src, size_t size);

/*
 * Reads an unsigned number, decimal or 0x hexadecimal, from s[0..len). The
 * whole of it must be digits. 0, -EINVAL on other characters or none, -ERANGE
 * when it does not fit 64 bits.
 */
int str_to_u64(const char *s, size_t len, u64 *value);

#endif
