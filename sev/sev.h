/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_SEV_SEV_H
#define RAVELIN_SEV_SEV_H

#include "core/types.h"

/*
 * SEV and SEV-ES on this machine: what there is, bringing the security
 * processor up, ASIDs, and the life of a guest as the processor sees it. Everything
 * here is for VM creation and destruction and for the shell: it takes a lock
 * and may wait for seconds; interrupts on, no other lock held, never on an
 * exit. sev/README.md says how it works.
 */

/* What the CPUs say; constant after start (APM vol. 2, 15.34 and 15.35; CPUID 8000_001F). */
struct sev_facts {
	bool sev, es;
	bool coherent;    /* caches are coherent across keys */
	bool tsc_aux;     /* TSC_AUX of an SEV-ES guest is switched with it */
	u32 c_bit;        /* position of the encryption bit */
	u32 reduction;    /* physical address bits lost */
	u32 max_asid;     /* 1..min_asid-1 for ES guests, min_asid..max_asid for the others */
	u32 min_asid;
	u32 svm_features; /* CPUID 8000_000A EDX */
	u32 syscfg_cpu;   /* first CPU without SYSCFG[23], SEV_NO_CPU if all have it */
	u32 smmlock_cpu;  /* first CPU without HWCR.SmmLock */
	bool psp;         /* there is a mailbox */
};
#define SEV_NO_CPU (~0U)

/* Why not. The first group is about all SEV guests, the second about SEV-ES ones. */
#define SEV_WHY_CPUID BIT32(0)
#define SEV_WHY_SYSCFG BIT32(1)
#define SEV_WHY_SMMLOCK BIT32(2)
#define SEV_WHY_SVM BIT32(3)      /* nested paging, next RIP, flush by ASID or decode assists */
#define SEV_WHY_PSP BIT32(4)
#define SEV_WHY_FIRMWARE BIT32(5) /* too old: known after the processor is up */
#define SEV_WHY_UP BIT32(6)       /* the processor refused to start */
#define SEV_WHY_ES_CPUID BIT32(8)
#define SEV_WHY_ES_ASIDS BIT32(9)
#define SEV_WHY_ES_LBRV BIT32(10)
#define SEV_WHY_ES_TMR BIT32(11)
#define SEV_WHY_ALL 0xffU

extern struct sev_facts sev_facts;

/* SEV_WHY_* for these facts: 0 when SEV-ES guests can run, as far as the CPUs know. Pure. */
u32 sev_why(const struct sev_facts *f);
/* One reason (a single bit) with its remedy, as snprintf(). */
int sev_why_text(u32 why, const struct sev_facts *f, char *text, size_t size);

/*
 * Brings the processor up unless it is: TMR, INIT, WBINVD on every CPU,
 * DF_FLUSH. 0; -ENOTSUP: SEV-ES is not to be had here; else as psp_command(). The
 * reason has been logged.
 */
int sev_up(void);
/* SHUTDOWN; -EBUSY while guests exist. */
int sev_down(void);

/* --- ASIDs (sev/asid.c); under sev.c's lock --- */

#define SEV_ASID_MAX 2047U

/* At each INIT: all of 1..max are clean (a DF_FLUSH follows) and free. */
void sev_asid_init(u32 min, u32 max);
/*
 * A clean ASID of the class. When only used ones are left, all are cleaned by
 * one sev_flush(). -ENOSPC: all are in use; else sev_flush()'s error.
 */
int sev_asid_alloc(bool es, u32 *asid);
/* used: a guest may have run with it; it is cleaned before it is given out again. */
void sev_asid_free(u32 asid, bool used);
/* Number of ASIDs of a class that are given out, clean, and waiting for the flush. */
struct sev_asid_count {
	u32 taken, clean, dirty;
};
struct sev_asid_count sev_asid_count(bool es);

/* WBINVD on every CPU. Interrupts on. */
void sev_wbinvd(void);
/* WBINVD on every CPU, then DF_FLUSH. Under the lock: no DEACTIVATE comes between. */
int sev_flush(void);

/* --- guests (sev/guest.c) --- */

#define SEV_POLICY_NODBG BIT32(0)
#define SEV_POLICY_ES BIT32(2)

/* A guest as the processor knows it; embedded in its VM, zero before sev_guest_start(). */
struct sev_guest {
	struct sev_guest *next;
	const char *name;
	u32 handle; /* 0: none */
	u32 asid;
	u32 policy;
	bool finished; /* LAUNCH_FINISH is done: may run */
	const u8 *measure; /* what LAUNCH_MEASURE answered, NULL: not yet; for the list */
};

/* The owner's files: certificate of PSP_CERT_SIZE and session of PSP_SESSION_SIZE bytes, physical
 * addresses; 0 both: a launch without an owner. */
struct sev_session {
	paddr_t cert, session;
};

/*
 * LAUNCH_START, an ASID, ACTIVATE. Brings the processor up first. On error
 * nothing is left behind. -ENOSPC: no ASID of the class is free; else as
 * sev_up() or psp_command(). Logged.
 */
int sev_guest_start(struct sev_guest *g, const char *name, u32 policy,
		    const struct sev_session *session);
/* Encrypts RAM in place and adds it to the measurement: pa and len multiples of 16. The host's
 * copy in the caches is flushed first; the memory must not be touched after. */
int sev_guest_data(const struct sev_guest *g, paddr_t pa, u64 len);
/* The same for a VMSA page. */
int sev_guest_vmsa(const struct sev_guest *g, paddr_t pa);
/* Ends the measured part. measure: PSP_MEASURE_SIZE bytes, HMAC and nonce. */
int sev_guest_measure(const struct sev_guest *g, u8 *measure);
/* A packet from the owner: hdr is PSP_SECRET_HDR_SIZE bytes; trans and the guest's memory len. */
int sev_guest_secret(const struct sev_guest *g, const u8 *hdr, paddr_t trans, paddr_t guest,
		     u32 len);
int sev_guest_finish(struct sev_guest *g);
/* Attestation report of PSP_REPORT_SIZE bytes for the 16 bytes of nonce. */
int sev_guest_report(const struct sev_guest *g, const u8 *nonce, u8 *report);
/*
 * DEACTIVATE, DECOMMISSION; no vCPU is in guest mode any more. 0 also when there
 * is nothing to do. On error the guest still exists: g and its memory stay as
 * they are, and the caller tries again (with a dead processor: never).
 */
int sev_guest_stop(struct sev_guest *g);
/* Guests that exist, but for failed starts whose end was refused; the shell's list of all. */
u32 sev_guest_count(void);
/* The processor has been shut down: those failed starts are gone, too. */
void sev_guest_forget(void);
void sev_guest_print(void);
/* The shell's `psp cert`: the platform's certificates PDH, PEK, OCA and CEK, in base64. */
int sev_cert_print(void);
/* PSP_MEASURE_SIZE bytes in hexadecimal, with a zero behind. */
void sev_measure_text(const u8 *measure, char *text);

/* --- shared by the files of sev/ --- */
void sev_lock(void);
void sev_unlock(void);
/* Under the lock: sev_up() without it. */
int sev_up_locked(void);
/* A page for what the processor writes; NULL before sev_up(). Under the lock. */
u8 *sev_page(void);
void sev_flush_lines(paddr_t pa, u64 len);

#endif
