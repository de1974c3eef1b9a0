/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/xmm.h"

struct xmm {
	u64 half[2];
};

#define EACH_XMM(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) \
	X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

void guest_xmm_read(u32 reg, u64 value[2])
{
	struct xmm x = { { 0, 0 } };

	switch (reg) {
#define READ(n) case n: __asm__ volatile("movdqu %%xmm" #n ", %0" : "=m"(x)); break;
	EACH_XMM(READ)
	default:
		break;
	}
	value[0] = x.half[0];
	value[1] = x.half[1];
}

void guest_xmm_write(u32 reg, const u64 value[2])
{
	struct xmm x = { { value[0], value[1] } };

	switch (reg) {
#define WRITE(n) case n: __asm__ volatile("movdqu %0, %%xmm" #n : : "m"(x)); break;
	EACH_XMM(WRITE)
	default:
		break;
	}
}
