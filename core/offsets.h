/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_OFFSETS_H
#define RAVELIN_CORE_OFFSETS_H

#include "core/types.h"

/*
 * For FOLDER/offsets.c files: values of C that assembly needs. The file is
 * compiled to assembly text, never linked; the Makefile turns each marker into
 * a line "%define NAME value" of FOLDER/offsets.inc in the output folder.
 */
#define DEFINE(name, value) \
	__asm__ volatile(".ascii \"->" #name " %c0\"" : : "i"((u64)(value)))
#define OFFSET(name, type, field) DEFINE(name, offsetof(type, field))

#endif
