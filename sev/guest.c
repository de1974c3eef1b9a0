/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/paging.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/printf.h"
#include "core/string.h"
#include "drivers/psp/psp.h"
#include "sev/sev.h"

/*
 * A guest's life at the security processor. The lock is held over each step
 * that touches ASIDs: a DEACTIVATE between the WBINVDs and the DF_FLUSH would
 * make the latter fail.
 */
static struct sev_guest *guests;

/* Handles of launches that failed at their start and whose end the processor refused, too. */
#define LEFT_MAX 64
static u32 left[LEFT_MAX];
static u32 left_count;

static void unlink_guest(struct sev_guest *g)
{
	for (struct sev_guest **p = &guests; *p != NULL; p = &(*p)->next)
		if (*p == g) {
			*p = g->next;
			return;
		}
}

/* asid 0: was not activated. What has been done is cleared in the arguments. */
static int end(u32 *handle, u32 *asid, bool used)
{
	struct psp_handle b = { .handle = *handle };
	int err;

	if (*asid != 0) {
		err = psp_deactivate(&b);
		if (err != 0)
			return err;
		sev_asid_free(*asid, used);
		*asid = 0;
	}
	b.handle = *handle;
	err = psp_decommission(&b);
	if (err == 0)
		*handle = 0;
	return err;
}

static void retry_left(void)
{
	u32 kept = 0;

	for (u32 i = 0; i < left_count; i++) {
		u32 asid = 0;

		if (psp_dead() || end(&left[i], &asid, false) != 0)
			left[kept++] = left[i];
	}
	left_count = kept;
}

/* A launch that ends before it has memory. */
static void end_start(u32 handle)
{
	u32 asid = 0;

	if (end(&handle, &asid, false) == 0 || psp_dead() || left_count == LEFT_MAX)
		return;
	log_err("sev: guest handle %u could not be ended; tried again later", handle);
	left[left_count++] = handle;
}

/* --- start --- */

static int launch_start(struct sev_guest *g, const struct sev_session *s)
{
	struct psp_start b = { .policy = g->policy };
	int err;

	if (s != NULL && s->cert != 0) {
		b.dh_cert = s->cert;
		b.dh_cert_len = PSP_CERT_SIZE;
		b.session = s->session;
		b.session_len = PSP_SESSION_SIZE;
	}
	err = psp_launch_start(&b);
	if (err == 0 && b.handle == 0)
		err = -EIO; /* "done" without a guest */
	g->handle = err == 0 ? b.handle : 0;
	return err;
}

static int activate(const struct sev_guest *g)
{
	struct psp_activate b = { .handle = g->handle, .asid = g->asid };
	int err = psp_activate(&b);

	if (err != -EIO || (psp_last_status() != PSP_DFFLUSH_REQUIRED &&
			    psp_last_status() != PSP_WBINVD_REQUIRED))
		return err;
	err = sev_flush();
	return err != 0 ? err : psp_activate(&b);
}

static int take_asid(struct sev_guest *g)
{
	bool es = (g->policy & SEV_POLICY_ES) != 0;
	u32 asid;
	int err = sev_asid_alloc(es, &asid);

	if (err == -ENOSPC)
		log_err("sev: %s: no %s ASID is free; stop another SEV guest or raise the limit in "
			"firmware setup", g->name, es ? "ES" : "SEV");
	if (err != 0)
		return err;
	g->asid = asid;
	err = activate(g);
	if (err != 0) {
		/* A dead processor may have installed the key: the ASID is not given out again. */
		if (!psp_dead())
			sev_asid_free(asid, true);
		g->asid = 0;
	}
	return err;
}

static int start_locked(struct sev_guest *g, const struct sev_session *s)
{
	int err = sev_up_locked();

	if (err != 0)
		return err;
	retry_left();
	err = launch_start(g, s);
	if (err != 0)
		return err;
	err = take_asid(g);
	if (err != 0) {
		end_start(g->handle);
		g->handle = 0;
		return err;
	}
	g->next = guests;
	guests = g;
	return 0;
}

int sev_guest_start(struct sev_guest *g, const char *name, u32 policy,
		    const struct sev_session *session)
{
	int err;

	memset(g, 0, sizeof(*g));
	g->name = name;
	g->policy = policy;
	sev_lock();
	err = start_locked(g, session);
	sev_unlock();
	return err;
}

/* --- launch --- */

#define CHUNK MIB(16) /* a command must be answered in time */

int sev_guest_data(const struct sev_guest *g, paddr_t pa, u64 len)
{
	int err = IS_ALIGNED(pa | len, 16) ? 0 : -EINVAL;

	while (err == 0 && len != 0) {
		u64 n = MIN(len, CHUNK);
		struct psp_range b = { .handle = g->handle, .addr = machine_pa(pa), .len = (u32)n };

		sev_flush_lines(pa, n);
		err = psp_launch_update_data(&b);
		pa += n;
		len -= n;
	}
	return err;
}

int sev_guest_vmsa(const struct sev_guest *g, paddr_t pa)
{
	struct psp_range b = { .handle = g->handle, .addr = machine_pa(pa), .len = PAGE_SIZE };

	sev_flush_lines(pa, PAGE_SIZE);
	return psp_launch_update_vmsa(&b);
}

int sev_guest_measure(const struct sev_guest *g, u8 *measure)
{
	struct psp_range b = { .handle = g->handle, .len = PSP_MEASURE_SIZE };
	int err;

	sev_lock();
	b.addr = machine_pa(virt_to_phys(sev_page()));
	err = psp_launch_measure(&b);
	if (err == 0)
		memcpy(measure, sev_page(), PSP_MEASURE_SIZE);
	sev_unlock();
	return err;
}

int sev_guest_secret(const struct sev_guest *g, const u8 *hdr, paddr_t trans, paddr_t guest, u32 len)
{
	struct psp_packet b = {
		.handle = g->handle, .hdr_len = PSP_SECRET_HDR_SIZE,
		.guest = machine_pa(guest), .guest_len = len, .trans = trans, .trans_len = len,
	};
	int err;

	if (len == 0 || !IS_ALIGNED(guest | len, 16))
		return -EINVAL;
	sev_flush_lines(guest, len);
	sev_lock();
	memcpy(sev_page(), hdr, PSP_SECRET_HDR_SIZE);
	b.hdr = machine_pa(virt_to_phys(sev_page()));
	err = psp_launch_secret(&b);
	memset(sev_page(), 0, PSP_SECRET_HDR_SIZE);
	sev_unlock();
	return err;
}

int sev_guest_finish(struct sev_guest *g)
{
	struct psp_handle b = { .handle = g->handle };
	int err = psp_launch_finish(&b);

	/* Refused or not: it may have been done. */
	g->finished = err == 0;
	return err;
}

int sev_guest_report(const struct sev_guest *g, const u8 *nonce, u8 *report)
{
	struct psp_attestation b = { .handle = g->handle, .len = PSP_REPORT_SIZE };
	int err;

	memcpy(b.nonce, nonce, sizeof(b.nonce));
	sev_lock();
	b.addr = machine_pa(virt_to_phys(sev_page()));
	err = psp_attestation(&b);
	if (err == 0)
		memcpy(report, sev_page(), PSP_REPORT_SIZE);
	sev_unlock();
	return err;
}

/* --- end --- */

int sev_guest_stop(struct sev_guest *g)
{
	int err;

	if (g->handle == 0)
		return 0;
	sev_lock();
	retry_left();
	/* Counted as used even if it was not finished: one flush more, never one too few. */
	err = end(&g->handle, &g->asid, true);
	if (err == -EIO) /* once more, before the caller has to keep everything */
		err = end(&g->handle, &g->asid, true);
	if (err == 0)
		unlink_guest(g);
	else
		log_err("sev: %s: handle %u, ASID %u could not be ended; kept", g->name, g->handle,
			g->asid);
	sev_unlock();
	return err;
}

u32 sev_guest_count(void)
{
	u32 n = 0;

	for (const struct sev_guest *g = guests; g != NULL; g = g->next)
		n++;
	return n;
}

void sev_guest_forget(void) { left_count = 0; }

void sev_measure_text(const u8 *measure, char *text)
{
	for (u32 i = 0; i < PSP_MEASURE_SIZE; i++)
		snprintf(text + 2 * i, 3, "%02x", measure[i]);
}

static void print_guest(const struct sev_guest *g)
{
	char text[2 * PSP_MEASURE_SIZE + 1];

	log_printf("guest %-16s handle %-4u ASID %-4u policy 0x%x %s\n", g->name, g->handle,
		   g->asid, g->policy, g->finished ? "launched" : "in launch");
	if (g->measure == NULL)
		return;
	sev_measure_text(g->measure, text);
	log_printf("  measurement %.64s\n  nonce       %s\n", text, text + 64);
}

void sev_guest_print(void)
{
	sev_lock();
	for (const struct sev_guest *g = guests; g != NULL; g = g->next)
		print_guest(g);
	for (u32 i = 0; i < left_count; i++)
		log_printf("guest %-16s handle %-4u waits for the PSP to end it\n", "(failed)", left[i]);
	sev_unlock();
}
