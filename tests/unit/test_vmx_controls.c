/* SPDX-License-Identifier: BSD-2-Clause */
// sources: arch/x86/vmx/controls.c arch/x86/vmx/bitmaps.c arch/x86/guest_msrs.c
/* Capabilities decide the controls, and refuse with a reason; bitmaps let through a whitelist. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/msr.h"
#include "arch/x86/vmx/vmx.h"
#include "core/errno.h"
#include "core/pmm.h"

struct vmx_machine vmx;

/* Capability registers from 0x480 on. */
static u64 caps[0x11];
static u8 pages[3][8192];
static u32 next_page;

u64 vmx_rdmsr(u32 msr)
{
	assert_in_range(msr, 0x480, 0x490);
	return caps[msr - 0x480];
}

paddr_t alloc_pages(u32 order, u32 flags)
{
	return next_page < 3 ? ((paddr_t)++next_page) << 16 : 0;
}

void *phys_to_virt(paddr_t pa) { return pages[(pa >> 16) - 1] + (pa & 0xffff); }

#define MUST(bits) ((u64)(bits))
#define MAY(bits) ((u64)(bits) << 32)

/* A CPU that has everything and asks for the traditional must-be-1 bits (SDM vol. 3, A.3 to A.5). */
static int setup(void **state)
{
	memset(&vmx, 0, sizeof(vmx));
	memset(caps, 0, sizeof(caps));
	vmx.basic = VMX_BASIC_TRUE_CTLS;
	caps[0] = vmx.basic;
	caps[1] = MAY(~0U) | MUST(0x16);
	caps[2] = MAY(~0U) | MUST(0x0401e172);
	caps[3] = MAY(~0U) | MUST(0x36dff);
	caps[4] = MAY(~0U) | MUST(0x11ff);
	caps[0xb] = MAY(~0U);
	caps[0xc] = EPT_CAP_WALK4 | EPT_CAP_WB | EPT_CAP_2M | EPT_CAP_INVEPT | EPT_CAP_INVEPT_SINGLE |
		    VPID_CAP_INVVPID | VPID_CAP_INVVPID_SINGLE;
	caps[0xd] = MAY(~0U) | MUST(0x16);
	caps[0xe] = MAY(~0U) | MUST(0x04006172);
	caps[0xf] = MAY(~0U) | MUST(0x36dfb);
	caps[0x10] = MAY(~0U) | MUST(0x11fb);
	return 0;
}

static void refused(void)
{
	const char *reason = NULL;

	assert_int_equal(vmx_controls_init(&reason), -ENODEV);
	assert_non_null(reason);
	assert_true(strlen(reason) > 20);
}

static void test_true_controls(void **state)
{
	const char *reason = NULL;

	assert_int_equal(vmx_controls_init(&reason), 0);
	/* MOV to and from CR3 exits only by the traditional rule: bits 15 and 16. */
	assert_int_equal(vmx.ctls.proc & 0x18000, 0);
	assert_int_equal(vmx.ctls.proc & 0x04006172, 0x04006172);
	assert_int_equal(vmx.ctls.pin, 0x16 | 1 | 1 << 3 | 1 << 5);
	assert_int_equal(vmx.ctls.exit & (1 << 15 | 1 << 9), 1 << 15 | 1 << 9);
	assert_true(vmx.vpid);
	assert_true(vmx_controls_match());
	vmx.basic = caps[0] = 0;
	assert_int_equal(vmx_controls_init(&reason), 0);
	assert_int_equal(vmx.ctls.proc & 0x18000, 0x18000);
}

static void test_adjust(void **state)
{
	assert_int_equal(vmx_adjust(MAY(0xf0) | MUST(0x10), 0x2c), 0x30);
	assert_int_equal(vmx_adjust(MAY(0xffffffff), 0), 0);
}

/* Every control that nothing works without: its absence is refused. */
static void test_missing_control(void **state)
{
	static const struct {
		u32 cap;
		u32 bit;
	} needed[] = { { 0xd, 0 }, { 0xd, 3 }, { 0xd, 5 }, { 0xe, 2 }, { 0xe, 3 }, { 0xe, 7 },
		       { 0xe, 21 }, { 0xe, 22 }, { 0xe, 25 }, { 0xe, 28 }, { 0xe, 31 }, { 0xf, 9 },
		       { 0xf, 15 }, { 0xf, 19 }, { 0xf, 20 }, { 0xf, 21 }, { 0x10, 14 },
		       { 0x10, 15 }, { 0xb, 1 }, { 0xb, 7 } };

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		setup(NULL);
		caps[needed[i].cap] &= ~(BIT(32 + needed[i].bit) | BIT(needed[i].bit));
		refused();
	}
}

static void test_missing_ept_feature(void **state)
{
	static const u64 needed[] = { EPT_CAP_WALK4, EPT_CAP_WB, EPT_CAP_2M, EPT_CAP_INVEPT,
				      EPT_CAP_INVEPT_SINGLE };

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		setup(NULL);
		caps[0xc] &= ~needed[i];
		refused();
	}
}

static void test_optional(void **state)
{
	const char *reason = NULL;

	/* Tags that cannot be invalidated are not used. */
	caps[0xc] &= ~VPID_CAP_INVVPID_SINGLE;
	assert_int_equal(vmx_controls_init(&reason), 0);
	assert_false(vmx.vpid);
	assert_int_equal(vmx.ctls.proc2 & PROC2_VPID, 0);
	assert_int_equal(vmx.ctls.proc & PROC_PAUSE, 0);
	/* Without the CPU's loop detection every PAUSE exits. */
	setup(NULL);
	caps[0xb] &= ~BIT(32 + 10);
	assert_int_equal(vmx_controls_init(&reason), 0);
	assert_int_equal(vmx.ctls.proc & PROC_PAUSE, PROC_PAUSE);
}

static void test_other_cpu_differs(void **state)
{
	const char *reason = NULL;

	assert_int_equal(vmx_controls_init(&reason), 0);
	caps[0xe] |= BIT(16); /* exits at MOV from CR3 must be on there */
	assert_false(vmx_controls_match());
	setup(NULL);
	assert_int_equal(vmx_controls_init(&reason), 0);
	caps[0xc] &= ~EPT_CAP_2M;
	assert_false(vmx_controls_match());
	caps[0xc] |= EPT_CAP_2M;
	assert_true(vmx_controls_match());
	caps[0] = 5;
	assert_false(vmx_controls_match());
}

static void test_bitmaps(void **state)
{
	static const u32 open_msrs[] = { 0x174, 0x175, 0x176, 0xc0000081, 0xc0000082, 0xc0000083,
					 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102 };
	u32 passes = 0;
	const u8 *map;

	next_page = 0;
	assert_int_equal(vmx_bitmaps_init(), 0);
	map = phys_to_virt(vmx.msr_bitmap);
	for (u32 i = 0; i < 8192; i++)
		assert_int_equal(((const u8 *)phys_to_virt(vmx.io_bitmap))[i], 0xff);
	for (size_t i = 0; i < ARRAY_SIZE(open_msrs); i++) {
		assert_false(vmx_msr_intercepted(map, open_msrs[i], false));
		assert_false(vmx_msr_intercepted(map, open_msrs[i], true));
	}
	assert_false(vmx_msr_intercepted(map, 0x10, false));
	assert_true(vmx_msr_intercepted(map, 0x10, true));
	assert_true(vmx_msr_intercepted(map, 0xc0000080, true));
	assert_true(vmx_msr_intercepted(map, 0x2000, false));
	assert_true(vmx_msr_intercepted(map, 0xc0010015, false));
	/* And nothing else: 10 MSRs twice, the TSC once (SDM vol. 3, 25.6.9). */
	for (u32 i = 0; i < 4096; i++)
		for (u32 bit = 0; bit < 8; bit++)
			passes += (map[i] >> bit & 1) == 0;
	assert_int_equal(passes, 21);
	/* STAR's write bit is bit 0x81 of the fourth kilobyte. */
	assert_int_equal(map[3072 + 0x81 / 8] >> (0x81 % 8) & 1, 0);
	assert_int_equal(vmx_bitmaps_init(), -ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_true_controls, setup),
		cmocka_unit_test_setup(test_adjust, setup),
		cmocka_unit_test_setup(test_missing_control, setup),
		cmocka_unit_test_setup(test_missing_ept_feature, setup),
		cmocka_unit_test_setup(test_optional, setup),
		cmocka_unit_test_setup(test_other_cpu_differs, setup),
		cmocka_unit_test_setup(test_bitmaps, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
