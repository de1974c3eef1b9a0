/* SPDX-License-Identifier: BSD-2-Clause */
// sources: drivers/psp/psp.c drivers/psp/psp_words.c drivers/pci.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86/paging.h"
#include "arch/x86/percpu.h"
#include "arch/x86/traps.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/pmm.h"
#include "drivers/acpi.h"
#include "drivers/psp/psp.h"

/*
 * A machine with the processor (1:00.0) behind a bridge (0:01.0) whose bus
 * mastering has been stopped, and a mailbox that is served whenever the driver
 * looks at the clock. psp.c keeps what it found for the life of the process:
 * the tests run in the order of main().
 */
#define ECAM 0xb0000000UL
#define BAR2 0xfe000000UL
#define MSIX_BAR 0xfe100000UL
#define REG(n) (*(u32 *)(mmio + (n)))
#define R_COMMAND 0x980
#define R_LOW 0x9e0
#define R_FEATURE 0x9fc
#define R_INTEN 0x690
#define R_INTSTS 0x694

struct acpi acpi;
struct cpu cpus[CPU_MAX];
static u8 *space;                       /* two buses */
static u8 mmio[0x1000], msix[0x1000];
static u8 page[4096];
static irq_handler_t handler;
static u64 clock_ns;
static char text[4096];                  /* all that was logged */

static struct {
	u32 status;
	bool never, gone, lose_interrupt;
	u32 seen;        /* commands */
	u32 last;        /* command register of the last one */
	u8 write[64];    /* what the processor puts in the buffer */
	u32 writes;
} device;

void log_print(u32 level, const char *fmt, ...)
{
	size_t n = strlen(text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + n, sizeof(text) - n, fmt, ap);
	va_end(ap);
}

void log_printf(const char *fmt, ...)
{
	size_t n = strlen(text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + n, sizeof(text) - n, fmt, ap);
	va_end(ap);
}

void *mmio_map(paddr_t pa, size_t size)
{
	if (pa == ECAM)
		return space;
	if (pa == BAR2 + 0x10000)
		return mmio;
	return pa == MSIX_BAR ? msix : NULL;
}

paddr_t alloc_pages(u32 order, u32 flags) { return 0x123456000; }
void *phys_to_virt(paddr_t pa) { return pa == 0x123456000 ? page : NULL; }
paddr_t virt_to_phys(const void *va) { return va == page ? 0x123456000 : 0; }
int irq_alloc_vector(void) { return 0x31; }

int irq_register(u8 vector, irq_handler_t fn)
{
	assert_int_equal(vector, 0x31);
	handler = fn;
	return 0;
}

/* The device's turn. */
u64 time_ns(void)
{
	u32 command = REG(R_COMMAND);

	clock_ns += 1000000;
	if (device.gone)
		REG(R_COMMAND) = ~0U;
	if (command == 0 || (command & BIT32(31)) != 0 || device.never || device.gone)
		return clock_ns;
	device.seen++;
	device.last = command;
	memcpy(page, device.write, device.writes);
	REG(R_COMMAND) = BIT32(31) | device.status;
	if ((command & 1) != 0 && !device.lose_interrupt && (REG(R_INTEN) & 2) != 0) {
		REG(R_INTSTS) = 2;
		handler(NULL);
	}
	return clock_ns;
}

static u8 *function(u32 bus, u32 devfn) { return space + (bus << 20) + (devfn << 12); }

static void put32(u8 *p, u32 v) { memcpy(p, &v, 4); }

static int machine(void **state)
{
	u8 *bridge, *f;

	space = malloc(2 << 20);
	memset(space, 0xff, 2 << 20);
	bridge = function(0, 8);
	memset(bridge, 0, 256);
	put32(bridge, 0x12345678);
	bridge[PCI_HEADER] = PCI_HEADER_BRIDGE;
	bridge[PCI_SECONDARY] = 1;
	bridge[PCI_SUBORDINATE] = 1;
	f = function(1, 0);
	memset(f, 0, 256);
	put32(f, 0x14ca1022);
	put32(f + PCI_BAR0 + 8, (u32)BAR2 | 4);
	put32(f + PCI_BAR0 + 20, (u32)MSIX_BAR);
	f[PCI_CAPABILITIES] = 0x40;
	put32(f + 0x40, 0x00015009 | 0xc0000000); /* some other capability, then MSI-X */
	f[0x41] = 0x50;
	put32(f + 0x50, PCI_CAP_MSIX | 1U << 16);
	put32(f + 0x54, 5);
	acpi.ecams = 1;
	acpi.ecam[0] = (struct acpi_ecam){ ECAM, 0, 0, 1 };
	cpus[0].apic_id = 6;
	return 0;
}

static int fresh(void **state)
{
	memset(&device, 0, sizeof(device));
	text[0] = '\0';
	return 0;
}

static void without_mailbox(void **state)
{
	assert_int_equal(psp_nop(), -ENODEV);
	REG(R_FEATURE) = 0;
	assert_int_equal(psp_probe(), -ENOENT);
	REG(R_FEATURE) = ~0U;
	assert_int_equal(psp_probe(), -ENOENT);
	assert_non_null(strstr(text, "no SEV mailbox"));
	assert_int_equal(psp_nop(), -ENODEV);
}

static void found_behind_the_bridge(void **state)
{
	REG(R_FEATURE) = 1;
	function(0, 8)[PCI_COMMAND] = 0;
	assert_int_equal(psp_probe(), 0);
	assert_int_equal(device.seen, 0); /* row 1: no command */
	assert_int_equal(function(0, 8)[PCI_COMMAND] & 6, 6);
	assert_int_equal(function(1, 0)[PCI_COMMAND] & 6, 6);
	assert_int_equal(*(u32 *)msix, 0xfee06000);
	assert_int_equal(*(u32 *)(msix + 8), 0x31);
	assert_int_equal(*(u32 *)(msix + 12), 0);
	assert_int_equal(function(1, 0)[0x53] & 0xc0, 0x80); /* enabled, not masked */
	assert_int_equal(REG(R_INTEN), 2);
}

static void answer_comes_back(void **state)
{
	struct psp_platform_status b = { 0 };

	device.write[0] = 1;
	device.write[1] = 55;
	device.writes = 12;
	assert_int_equal(psp_platform_status(&b), 0);
	assert_int_equal(b.api_minor, 55);
	assert_int_equal(device.last, 4 << 16 | 1);
	assert_int_equal(REG(R_LOW), 0x23456000);
	assert_int_equal(REG(R_LOW + 4), 1);
}

static void refusal_in_words(void **state)
{
	struct psp_init b = { 0 };

	device.status = 0x13;
	assert_int_equal(psp_init(&b), -EIO);
	assert_int_equal(psp_last_status(), 0x13);
	assert_non_null(strstr(text, "psp: INIT failed: 0x13 HWERROR_PLATFORM: "));
	assert_non_null(strstr(text, "enable SMEE"));
	device.status = 0xabc;
	assert_int_equal(psp_init(&b), -EIO);
	assert_non_null(strstr(text, "INIT failed: 0xabc ?"));
}

static void bad_calls(void **state)
{
	u32 b;

	assert_int_equal(psp_command(0x1ff, NULL), -EINVAL);
	assert_int_equal(psp_command(PSP_INIT, NULL), -EINVAL);
	assert_int_equal(psp_command(PSP_NOP, &b), -EINVAL);
	assert_int_equal(device.seen, 0);
}

static void lengths(void **state)
{
	static const u16 want[][2] = {
		{ 0x01, 0x14 }, { 0x02, 0 }, { 0x04, 0x0c }, { 0x06, 0x0c }, { 0x07, 0x1c },
		{ 0x08, 0x1c }, { 0x0a, 0 }, { 0x0d, 0x24 }, { 0x20, 4 }, { 0x21, 8 }, { 0x22, 4 },
		{ 0x23, 0x0d }, { 0x25, 0x18 }, { 0x30, 0x24 }, { 0x31, 0x14 }, { 0x32, 0x14 },
		{ 0x33, 0x14 }, { 0x34, 0x34 }, { 0x35, 4 }, { 0x36, 0x24 }, { 0x60, 0x1c },
	};

	for (u32 i = 0; i < ARRAY_SIZE(want); i++)
		assert_int_equal(psp_command_size(want[i][0]), want[i][1]);
	assert_int_equal(psp_command_size(0x7ff), -EINVAL);
}

static void lost_interrupts_end_in_polling(void **state)
{
	device.lose_interrupt = true;
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(psp_nop(), 0);
	assert_non_null(strstr(text, "polling from now on"));
	assert_int_equal(psp_nop(), 0);
	assert_int_equal(device.last, 0xe << 16); /* no interrupt asked for */
	assert_int_equal(REG(R_INTEN), 0);
}

static void dead_after_the_time_out(void **state)
{
	u64 before = clock_ns;

	device.never = true;
	assert_int_equal(psp_df_flush(), -ETIMEDOUT);
	assert_true(clock_ns - before >= 5000000000UL && clock_ns - before < 6000000000UL);
	assert_true(psp_dead());
	assert_non_null(strstr(text, "psp: DF_FLUSH: no answer within 5 s"));
	device.never = false;
	REG(R_COMMAND) = 0;
	assert_int_equal(psp_nop(), -ENODEV);
	assert_int_equal(REG(R_COMMAND), 0); /* nothing was sent */
	text[0] = '\0';
	psp_print();
	assert_non_null(strstr(text, "DEAD"));
	assert_non_null(strstr(text, "DF_FLUSH                  1 sent      1 failed, last 0xffff no"));
	assert_non_null(strstr(text, "INIT                      2 sent      2 failed, last 0xabc ?"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(without_mailbox, fresh),
		cmocka_unit_test_setup(found_behind_the_bridge, fresh),
		cmocka_unit_test_setup(answer_comes_back, fresh),
		cmocka_unit_test_setup(refusal_in_words, fresh),
		cmocka_unit_test_setup(bad_calls, fresh),
		cmocka_unit_test_setup(lengths, fresh),
		cmocka_unit_test_setup(lost_interrupts_end_in_polling, fresh),
		cmocka_unit_test_setup(dead_after_the_time_out, fresh),
	};

	return cmocka_run_group_tests(tests, machine, NULL);
}
