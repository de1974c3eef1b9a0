/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_TESTS_UNIT_STRING_NAMES_H
#define RAVELIN_TESTS_UNIT_STRING_NAMES_H

#include "core/types.h"

/*
 * On the host core/string.c's functions have other names, as the C library has the plain ones:
 * the test compares the two. STRING_NAMES_ONLY: for the test, which needs both.
 */
void *rv_memcpy(void *dst, const void *src, size_t n);
void *rv_memmove(void *dst, const void *src, size_t n);
void *rv_memset(void *dst, int c, size_t n);
int rv_memcmp(const void *a, const void *b, size_t n);
void *rv_memchr(const void *s, int c, size_t n);
size_t rv_strlen(const char *s);
size_t rv_strnlen(const char *s, size_t max);
int rv_strcmp(const char *a, const char *b);
int rv_strncmp(const char *a, const char *b, size_t n);
char *rv_strchr(const char *s, int c);
char *rv_strrchr(const char *s, int c);

#ifndef STRING_NAMES_ONLY
#define memcpy rv_memcpy
#define memmove rv_memmove
#define memset rv_memset
#define memcmp rv_memcmp
#define memchr rv_memchr
#define strlen rv_strlen
#define strnlen rv_strnlen
#define strcmp rv_strcmp
#define strncmp rv_strncmp
#define strchr rv_strchr
#define strrchr rv_strrchr
#endif

#endif
