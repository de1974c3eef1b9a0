/* SPDX-License-Identifier: BSD-2-Clause */
#include <bearssl/bearssl_hash.h>

#include "core/string.h"
#include "guest-pv/loader/loader.h"
#include "vdev/acpi_tables.h"

/*
 * The order matters: what the hypervisor supplied is first made private, then
 * hashed, and only then looked at. Between the two no byte of it can change.
 */

extern const struct ldr_header ldr_start;
__noreturn void loader_main(void);
__noreturn void kernel_enter(u64 params, u64 entry);

static u8 bounce[PAGE_SIZE] __aligned(4096);
static u8 params[LDR_PARAMS_SIZE] __aligned(4096);
static u32 apic_id[64];

static const struct ldr_info *info(void)
{
	return (const void *)(u64)ldr_start.info;
}

/* The pages that hold it become private in place. What shares its first and last page is kept as
 * it is: nobody looks at it. */
static void make_private(const struct ldr_part *p)
{
	u64 end = ALIGN_UP(p->gpa + p->size, PAGE_SIZE);

	for (u64 at = ALIGN_DOWN(p->gpa, PAGE_SIZE); at < end; at += PAGE_SIZE) {
		memcpy(bounce, ldr_shared(at), PAGE_SIZE);
		ldr_flush_shared(at, PAGE_SIZE);
		memcpy((void *)at, bounce, PAGE_SIZE);
	}
}

static void take(enum ldr_part_name name, enum ldr_reason reason, const char *text)
{
	const struct ldr_part *p = &info()->part[name];
	br_sha256_context c;
	u8 hash[32];

	if (p->size == 0)
		return;
	make_private(p);
	br_sha256_init(&c);
	br_sha256_update(&c, (const void *)p->gpa, p->size);
	br_sha256_out(&c, hash);
	if (memcmp(hash, p->sha256, sizeof(hash)) != 0)
		ldr_terminate(reason, text);
}

static u64 acpi(void)
{
	const struct acpi_tables_config config = {
		.cpus = info()->cpus, .apic_id = apic_id,
		.com = { (info()->com & 1) != 0, (info()->com & 2) != 0 },
	};
	u8 *area = (u8 *)ACPI_TABLES_BASE;

	for (u32 i = 0; i < config.cpus; i++)
		apic_id[i] = i;
	return acpi_tables_write(area, &config);
}

/* What a BIOS leaves behind and kernels look for below 1 MiB: where conventional memory ends. */
static void bios_data(void)
{
	u64 base = 0;
	u8 *low, *ebda = (u8 *)LDR_EBDA;
	u16 segment = LDR_EBDA >> 4, kib = LDR_EBDA >> 10;

	__asm__("" : "+r"(base)); /* address 0 is memory here */
	low = (u8 *)base;
	memset(low, 0, PAGE_SIZE);
	memcpy(low + 0x40E, &segment, sizeof(segment));
	memcpy(low + 0x413, &kib, sizeof(kib));
	memset(ebda, 0, PAGE_SIZE);
	/* Noise could look like a ROM or a table of the BIOS's. */
	memset((u8 *)0xC0000UL, 0, LDR_BASE - 0xC0000);
	ebda[0] = (0xA0000 - LDR_EBDA) >> 10;
}

/* Behind the initrd, which begins a page: an archive starts at a multiple of 4. */
static u64 secrets(u64 initrd, u64 size)
{
	u8 *area = (u8 *)(u64)ldr_start.secret;
	u64 at = ALIGN_UP(size, 4UL);
	s64 n = ldr_secret_cpio(area, ldr_start.secret_size, (u8 *)initrd + at,
				LDR_CPIO_ROOM - 4);

	if (n < 0)
		ldr_terminate(LDR_R_SECRET,
			      "what lies in the place for secrets is no table of them");
	if (n == 0)
		return size;
	memset((u8 *)initrd + size, 0, at - size);
	memset(area, 0, ldr_start.secret_size);
	ldr_print("ravelin-loader: the secrets are in /sev-secret\n");
	return at + (u64)n;
}

#define EVENT_AP_JUMP_TABLE 0x80000005UL

__noreturn void loader_main(void)
{
	const struct ldr_info *in = info();
	const struct ldr_part *initrd = &in->part[LDR_INITRD];
	struct ldr_boot boot;
	struct ldr_kernel kernel;

	ldr_ghcb_init();
	if (!ldr_info_check(in, ldr_start.end, ldr_start.cmdline))
		ldr_terminate(LDR_R_INFO, "the launch information makes no sense");
	take(LDR_CMDLINE, LDR_R_CMDLINE, "the command line is not the one that was measured");
	take(LDR_KERNEL, LDR_R_KERNEL, "the kernel is not the one that was measured");
	take(LDR_INITRD, LDR_R_INITRD, "the initrd is not the one that was measured");
	ldr_print("ravelin-loader: kernel, initrd and command line are as measured\n");
	if (!ldr_kernel_check((const u8 *)in->part[LDR_KERNEL].gpa, in->part[LDR_KERNEL].size,
			      in->part[LDR_KERNEL].gpa, &kernel) ||
	    kernel.end > initrd->gpa)
		ldr_terminate(LDR_R_IMAGE,
			      "no Linux kernel with a 64-bit entry, or no room for it");

	bios_data();
	boot = (struct ldr_boot){
		.kernel = (const u8 *)in->part[LDR_KERNEL].gpa,
		.kernel_gpa = in->part[LDR_KERNEL].gpa,
		.initrd = initrd->gpa, .initrd_size = secrets(initrd->gpa, initrd->size),
		.cmdline = in->part[LDR_CMDLINE].gpa, .rsdp = acpi(),
		.mem_low = in->mem_low, .mem_high = in->mem_high,
	};
	ldr_boot_params(params, &boot);
	(void)ldr_ghcb_event(EVENT_AP_JUMP_TABLE, 0, LDR_JUMP_TABLE);
	ldr_ghcb_done();
	kernel_enter((u64)params, kernel.entry);
}

/* --- what Debian's libbearssl.a was built to call --- */

__noreturn void __stack_chk_fail(void);
void *__memcpy_chk(void *to, const void *from, size_t n, size_t room);

__noreturn void __stack_chk_fail(void)
{
	ldr_terminate(LDR_R_EXCEPTION, "a stack was overwritten");
}

void *__memcpy_chk(void *to, const void *from, size_t n, size_t room)
{
	if (n > room)
		ldr_terminate(LDR_R_EXCEPTION, "a buffer is too small");
	return memcpy(to, from, n);
}
