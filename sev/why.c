/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/printf.h"
#include "sev/sev.h"

/* Can SEV and SEV-ES guests run here, and if not, why. Needs no command of the processor. */

#define SVM_NP BIT32(0)
#define SVM_LBRV BIT32(1)
#define SVM_NRIPS BIT32(3)
#define SVM_FLUSH_ASID BIT32(6)
#define SVM_DECODE BIT32(7)
#define SVM_NEEDED (SVM_NP | SVM_NRIPS | SVM_FLUSH_ASID | SVM_DECODE)

u32 sev_why(const struct sev_facts *f)
{
	u32 why = 0;

	if (!f->sev || f->max_asid == 0)
		return SEV_WHY_CPUID; /* nothing else means anything */
	if (f->syscfg_cpu != SEV_NO_CPU)
		why |= SEV_WHY_SYSCFG;
	if (f->smmlock_cpu != SEV_NO_CPU)
		why |= SEV_WHY_SMMLOCK;
	if ((f->svm_features & SVM_NEEDED) != SVM_NEEDED)
		why |= SEV_WHY_SVM;
	if (!f->psp)
		why |= SEV_WHY_PSP;
	if (!f->es)
		why |= SEV_WHY_ES_CPUID;
	else if (f->min_asid <= 1)
		why |= SEV_WHY_ES_ASIDS;
	if ((f->svm_features & SVM_LBRV) == 0)
		why |= SEV_WHY_ES_LBRV;
	return why;
}

int sev_why_text(u32 why, const struct sev_facts *f, char *text, size_t size)
{
	switch (why) {
	case SEV_WHY_CPUID:
		return snprintf(text, size, "the CPU has no SEV (CPUID 8000_001F)");
	case SEV_WHY_SYSCFG:
		return snprintf(text, size, "SYSCFG[23] is clear on CPU %u; enable SMEE in firmware "
				"setup", f->syscfg_cpu);
	case SEV_WHY_SMMLOCK:
		return snprintf(text, size, "HWCR.SmmLock is clear on CPU %u; update the firmware or "
				"enable SMM lock in its setup", f->smmlock_cpu);
	case SEV_WHY_SVM:
		return snprintf(text, size, "SVM lacks nested paging, next RIP, flush by ASID or decode "
				"assists (features 0x%x)", f->svm_features);
	case SEV_WHY_PSP:
		return snprintf(text, size, "no PSP with an SEV mailbox; enable the security processor "
				"in firmware setup");
	case SEV_WHY_FIRMWARE:
		return snprintf(text, size, "the SEV firmware is older than API 0.17; update it");
	case SEV_WHY_UP:
		return snprintf(text, size, "the PSP did not start; see log dmesg");
	case SEV_WHY_ES_CPUID:
		return snprintf(text, size, "the CPU has no SEV-ES (CPUID 8000_001F EAX bit 3)");
	case SEV_WHY_ES_ASIDS:
		return snprintf(text, size, "no ASIDs for SEV-ES (first SEV ASID is %u); raise \"SEV-ES "
				"ASID space limit\" in firmware setup", f->min_asid);
	case SEV_WHY_ES_LBRV:
		return snprintf(text, size, "the CPU has no LBR virtualisation");
	case SEV_WHY_ES_TMR:
		return snprintf(text, size, "no free 1 MiB of memory for the PSP's TMR; stop a VM");
	default:
		return snprintf(text, size, "reason 0x%x", why);
	}
}
