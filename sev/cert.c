/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/paging.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/pmm.h"
#include "core/string.h"
#include "drivers/psp/psp.h"
#include "sev/base64.h"
#include "sev/sev.h"

/*
 * The platform's certificates as text that is copied from a console: an owner makes a session for
 * this machine from the first, the PDH, and checks by the others whose machine it is.
 */
#define CERTS_SIZE (PSP_CERT_SIZE + PSP_CHAIN_SIZE)
#define CERTS_ORDER 2U
#define CHAIN_AT PAGE_SIZE /* where the processor writes it */
#define LINE_BYTES 48U     /* 64 characters */

/* By which AMD hands out the signed certificate of the chip's own key, the CEK. */
#define ID_AT (3 * PAGE_SIZE)
#define ID_SIZE 64U /* a socket */

static void print(const u8 *certs)
{
	char line[BASE64_LEN(LINE_BYTES) + 1];

	log_printf("-----BEGIN SEV PLATFORM-----\n");
	for (u32 at = 0; at < CERTS_SIZE; at += LINE_BYTES) {
		base64_encode(certs + at, MIN(CERTS_SIZE - at, LINE_BYTES), line);
		log_printf("%s\n", line);
	}
	log_printf("-----END SEV PLATFORM-----\n");
}

/* certs: the block at pa. */
static int export(u8 *certs, paddr_t pa)
{
	struct psp_two_blobs b = {
		.first = machine_pa(pa), .first_len = PSP_CERT_SIZE,
		.second = machine_pa(pa + CHAIN_AT), .second_len = PSP_CHAIN_SIZE,
	};
	int err = psp_pdh_cert_export(&b);

	if (err == 0)
		memmove(certs + PSP_CERT_SIZE, certs + CHAIN_AT, PSP_CHAIN_SIZE);
	return err;
}

static void print_id(const u8 *id, paddr_t pa)
{
	struct psp_blob b = { .addr = machine_pa(pa), .len = 2 * ID_SIZE };

	if (psp_get_id(&b) != 0)
		return; /* logged; owners can do without */
	log_printf("chip ");
	for (u32 i = 0; i < ID_SIZE; i++)
		log_printf("%02x", id[i]);
	log_printf("\n");
}

int sev_cert_print(void)
{
	int err = sev_up();
	paddr_t pa = err == 0 ? alloc_pages(CERTS_ORDER, ALLOC_ZERO) : 0;

	if (pa != 0) {
		err = export(phys_to_virt(pa), pa);
		if (err == 0) {
			print_id(phys_to_virt(pa + ID_AT), pa + ID_AT);
			print(phys_to_virt(pa));
		}
		if (!psp_dead()) /* it would write there yet */
			free_pages(pa, CERTS_ORDER);
	} else if (err == 0) {
		err = -ENOMEM;
	}
	if (err != 0)
		log_printf("cert: failed, error %d; see log dmesg\n", -err);
	return err == -EINVAL ? -EIO : err;
}
