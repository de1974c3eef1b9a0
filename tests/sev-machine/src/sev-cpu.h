/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between sev-memory.c (pages, keys, checkers) and sev-guest.c (world switch, registers). */
#ifndef SEV_MACHINE_SEV_CPU_H
#define SEV_MACHINE_SEV_CPU_H

#include "sev.h"

#define SEV_MAX_CPUS 256

/* State of one CPU that QEMU's own CPU model does not have. */
typedef struct SevCpu {
    uint64_t syscfg;            /* MSR C001_0010 */
    uint64_t hwcr;              /* MSR C001_0015 */
    uint64_t ghcb;              /* MSR C001_0130 */
    uint64_t lbr[5];            /* DBGCTL, BR_FROM, BR_TO, LASTEXCP_FROM, LASTEXCP_TO */
    uint64_t host_lbr[5];       /* the host's while a guest with LBR virtualisation runs */
    uint64_t host_pat;
    bool wbinvd_done;           /* since the security processor cleared the flags */
    uint32_t flush_epoch;       /* of this CPU's last WBINVD */
    bool lbr_swapped;
    uint32_t asid;              /* of the guest that runs; 0 in host mode */
    hwaddr vmsa_pa;
    uint64_t *last_vmcb;        /* by ASID: VMCB that ran last here; 0 none */
    uint8_t vmsa[4096];         /* decrypted copy while the guest runs */
    uint8_t vmcb_save[0x400];   /* what the host had in the save area half of the VMCB */
} SevCpu;

extern SevCpu sev_cpus[SEV_MAX_CPUS];

/* CPUs that the machine has, by index. */
int sev_cpu_count(void);

/* Test hooks that the test port arms; each acts once. */
extern int sev_arm_vmsa_flip;         /* bit number in the VMSA, or -1 */
extern int sev_arm_exit_code;         /* exit code, or -1 */
extern bool sev_poison;               /* fill the VMCB's save area at exits of ES guests */

/* True when SYSCFG[23] is set on any CPU: the C-bit of bus addresses has a meaning. */
extern bool sev_encryption_on;
void sev_syscfg_changed(void);

/* A CPU is about to map `pa` (no C-bit) through `key` for this access. */
void sev_page_enter(int cpu, hwaddr pa, SevKey key, int access, int *prot);

/* Cache maintenance, for the checker of key changes. */
void sev_note_wbinvd(int cpu);
void sev_note_clflush(hwaddr pa, SevKey key);

/* The key whose view RAM at `pa` is in (SEV_KEY_NONE when it is not RAM). */
SevKey sev_page_key(hwaddr pa);

/* VMSA integrity value over the first 0xFC0 bytes. */
uint64_t sev_vmsa_checksum(const uint8_t *vmsa);

/* A SEV guest with this ASID enters guest mode. */
void sev_asid_note_run(uint32_t asid);

/* True when `pa` is the page of a live VMSA of this ASID. */
bool sev_vmsa_live(hwaddr pa, uint32_t asid);

#endif
