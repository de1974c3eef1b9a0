/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_TESTS_UNIT_GUEST_MOCK_H
#define RAVELIN_TESTS_UNIT_GUEST_MOCK_H

/*
 * A vCPU without a backend for tests of what reads guest state: registers in
 * arrays, RAM in an array, exceptions recorded. Included by one file per test.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86/decode.h"
#include "core/errno.h"
#include "core/vm.h"

#define MOCK_RAM_SIZE 0x100000UL
#define MOCK_ROM_BASE 0xf0000UL /* the last 64 KiB of RAM are read-only */

static _Alignas(4096) u8 mock_ram[MOCK_RAM_SIZE];
static u64 mock_reg[VREG_COUNT];
static struct vsegment mock_seg[VSEG_COUNT];
static bool mock_protected;  /* state access is refused */
static bool mock_1g_pages;
static struct vcpu mock_vcpu;
static struct { /* what the guest or the log was told since mock_clear() */
	u32 exceptions, fatals;
	u8 vector;
	bool has_error;
	u32 error;
	gva_t address;
	char fatal[256];
} mock_told;

static int mock_get_reg(struct vcpu *v, enum vreg reg, u64 *value)
{
	(void)v;
	if (mock_protected)
		return -EACCES;
	*value = mock_reg[reg];
	return 0;
}

static int mock_set_reg(struct vcpu *v, enum vreg reg, u64 value)
{
	(void)v;
	if (mock_protected)
		return -EACCES;
	mock_reg[reg] = value;
	return 0;
}

static int mock_get_seg(struct vcpu *v, enum vseg seg, struct vsegment *s)
{
	(void)v;
	if (mock_protected)
		return -EACCES;
	*s = mock_seg[seg];
	return 0;
}

static const struct virt_backend mock_backend = {
	.name = "mock", .get_reg = mock_get_reg, .set_reg = mock_set_reg, .get_seg = mock_get_seg,
};
const struct virt_backend *virt = &mock_backend;

void *vm_ram_ptr(struct vm *vm, gpa_t gpa, size_t *len, bool write)
{
	u64 end = write ? MOCK_ROM_BASE : MOCK_RAM_SIZE;

	(void)vm;
	if (gpa >= end)
		return NULL;
	if (*len > end - gpa)
		*len = end - gpa;
	return mock_ram + gpa;
}

bool cpuid_has(const struct vcpu *v, u32 leaf, u32 reg, u32 bit)
{
	(void)v;
	return leaf == 0x80000001 && reg == 3 && bit == 26 && mock_1g_pages;
}

void vcpu_inject_exception(struct vcpu *v, u8 vector, bool has_error, u32 error)
{
	(void)v;
	mock_told.exceptions++;
	mock_told.vector = vector;
	mock_told.has_error = has_error;
	mock_told.error = error;
}

void vcpu_inject_pf(struct vcpu *v, gva_t address, u32 error)
{
	vcpu_inject_exception(v, VEC_PF, true, error);
	mock_told.address = address;
}

void vcpu_fatal(struct vcpu *v, const char *fmt, ...)
{
	va_list ap;

	(void)v;
	mock_told.fatals++;
	va_start(ap, fmt);
	vsnprintf(mock_told.fatal, sizeof(mock_told.fatal), fmt, ap);
	va_end(ap);
}

static inline void mock_clear(void)
{
	memset(&mock_told, 0, sizeof(mock_told));
}

#define MOCK_CODE 0x9b  /* attr: present, ring 0, code, readable, accessed */
#define MOCK_DATA 0x93
#define MOCK_L 0x200
#define MOCK_DB 0x400

/* Flat segments of a mode, paging off, CPL 0. */
static inline void mock_reset(enum insn_mode mode)
{
	u16 size = mode == INSN_MODE_32 ? MOCK_DB : 0;

	memset(mock_reg, 0, sizeof(mock_reg));
	memset(&mock_vcpu, 0, sizeof(mock_vcpu));
	for (int i = 0; i < VSEG_COUNT; i++)
		mock_seg[i] = (struct vsegment){ .attr = (u16)(MOCK_DATA | size),
						 .limit = 0xffffffff };
	mock_seg[VSEG_CS].attr = (u16)(MOCK_CODE | size | (mode == INSN_MODE_64 ? MOCK_L : 0));
	mock_reg[VREG_CR0] = 1;
	mock_reg[VREG_EFER] = mode == INSN_MODE_64 ? 0x500 : 0;
	mock_reg[VREG_RFLAGS] = 2;
	mock_vcpu.cpuid.ext[8].eax = 40;
	mock_protected = false;
	mock_1g_pages = false;
	mock_clear();
}

static inline void mock_put64(gpa_t gpa, u64 value)
{
	memcpy(mock_ram + gpa, &value, 8);
}

static inline u64 mock_get64(gpa_t gpa)
{
	u64 value;

	memcpy(&value, mock_ram + gpa, 8);
	return value;
}

static inline void mock_put32(gpa_t gpa, u32 value)
{
	memcpy(mock_ram + gpa, &value, 4);
}

static inline u32 mock_get32(gpa_t gpa)
{
	u32 value;

	memcpy(&value, mock_ram + gpa, 4);
	return value;
}

#endif
