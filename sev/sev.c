/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/paging.h"
#include "arch/x86/smp.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/pmm.h"
#include "core/shell.h"
#include "core/string.h"
#include "core/unit.h"
#include "drivers/psp/psp.h"
#include "sev/sev.h"

#define CPUID_SVM 0x8000000aU
#define CPUID_SEV 0x8000001fU
#define HWCR_SMM_LOCK BIT(0)
#define TMR_ORDER 8U /* 1 MiB (SEV API specification, INIT) */
#define TMR_SIZE MIB(1)
#define API_MIN 0x0011U /* 0.17: LAUNCH_SECRET covers the measurement */

struct sev_facts sev_facts = { .syscfg_cpu = SEV_NO_CPU, .smmlock_cpu = SEV_NO_CPU };

static struct {
	spinlock_t lock;
	bool up;
	u32 why;     /* what start-up of the processor added: SEV_WHY_* */
	paddr_t tmr;
	u8 *page;
	u32 flushes;
	struct psp_platform_status status; /* at the last sev_up() or `psp status` */
} sev = { .lock = SPINLOCK_INIT };

void sev_lock(void) { spin_lock(&sev.lock); }
void sev_unlock(void) { spin_unlock(&sev.lock); }
u8 *sev_page(void) { return sev.page; }

/* --- what the CPUs say --- */

/* Each CPU in turn. */
static void look_at_cpu(void *arg)
{
	u64 syscfg, hwcr;

	(void)arg;
	if (rdmsr_safe(MSR_SYSCFG, &syscfg) != 0)
		syscfg = 0;
	if (rdmsr_safe(MSR_HWCR, &hwcr) != 0)
		hwcr = 0;
	if ((syscfg & SYSCFG_MEM_ENCRYPT) == 0 && sev_facts.syscfg_cpu == SEV_NO_CPU)
		sev_facts.syscfg_cpu = cpu_number();
	if ((hwcr & HWCR_SMM_LOCK) == 0 && sev_facts.smmlock_cpu == SEV_NO_CPU)
		sev_facts.smmlock_cpu = cpu_number();
}

static void look_at_cpus(void)
{
	sev_facts.syscfg_cpu = SEV_NO_CPU;
	sev_facts.smmlock_cpu = SEV_NO_CPU;
	smp_call_all(look_at_cpu, NULL);
}

static void log_why(u32 why)
{
	char text[128];

	for (u32 i = 0; i < 32; i++) {
		if ((why & BIT32(i)) == 0)
			continue;
		(void)sev_why_text(BIT32(i), &sev_facts, text, sizeof(text));
		log_warn("sev: %s not available: %s",
			 (BIT32(i) & SEV_WHY_ALL) != 0 ? "SEV" : "SEV-ES", text);
	}
}

/* Finds out from CPUID, MSRs and PCI alone: the processor gets no command before a guest needs it. */
static int sev_init(void)
{
	struct cpuid_regs r = cpuid_if(CPUID_SEV, 0);

	if (!cpu_features.amd || (r.eax & BIT32(1)) == 0)
		return 0;
	sev_facts.sev = true;
	sev_facts.es = (r.eax & BIT32(3)) != 0;
	sev_facts.coherent = (r.eax & BIT32(10)) != 0;
	sev_facts.tsc_aux = (r.eax & BIT32(9)) != 0;
	sev_facts.c_bit = r.ebx & 0x3f;
	sev_facts.reduction = r.ebx >> 6 & 0x3f;
	sev_facts.max_asid = r.ecx;
	sev_facts.min_asid = r.edx;
	sev_facts.svm_features = cpuid_if(CPUID_SVM, 0).edx;
	look_at_cpus();
	sev_facts.psp = psp_probe() == 0;
	if (sev_why(&sev_facts) == 0)
		log_info("sev: ES ASIDs 1-%u, SEV %u-%u, C-bit %u", sev_facts.min_asid - 1,
			 sev_facts.min_asid, sev_facts.max_asid, sev_facts.c_bit);
	else
		log_why(sev_why(&sev_facts));
	return 0;
}
UNIT(60, sev) = { .name = "sev", .init = sev_init };

/* --- flushes --- */

static void wbinvd_call(void *arg)
{
	(void)arg;
	wbinvd();
}

void sev_wbinvd(void)
{
	smp_call_all(wbinvd_call, NULL);
}

int sev_flush(void)
{
	sev_wbinvd();
	sev.flushes++;
	return psp_df_flush();
}

#define LINE 64UL
void sev_flush_lines(paddr_t pa, u64 len)
{
	u8 *p = phys_to_virt(pa & ~(LINE - 1)), *end = phys_to_virt(pa);

	mfence();
	for (end += len; p < end; p += LINE)
		clflush(p);
	mfence();
}

/* --- up and down --- */

/* The firmware keeps what it was given until SHUTDOWN; of a dead one nothing comes back. */
static void tmr_free(void)
{
	if (sev.tmr == 0)
		return;
	if (psp_dead()) {
		log_warn("sev: 1 MiB at 0x%lx stays with the PSP that does not answer", sev.tmr);
	} else {
		smp_call_all(wbinvd_call, NULL);
		if (direct_map_show(sev.tmr, TMR_SIZE) != 0)
			return; /* cannot be mapped again: not given back */
		free_pages(sev.tmr, TMR_ORDER);
	}
	sev.tmr = 0;
}

/* Hidden from the host: from DF_FLUSH on no CPU may touch it, not even by speculation. */
static int tmr_alloc(void)
{
	int err;

	if (sev.tmr != 0)
		return 0;
	sev.tmr = alloc_pages(TMR_ORDER, 0);
	if (sev.tmr == 0) {
		sev.why |= SEV_WHY_ES_TMR;
		return -ENOMEM;
	}
	sev_flush_lines(sev.tmr, TMR_SIZE);
	err = direct_map_hide(sev.tmr, TMR_SIZE);
	if (err != 0) {
		(void)direct_map_show(sev.tmr, TMR_SIZE);
		free_pages(sev.tmr, TMR_ORDER);
		sev.tmr = 0;
	}
	return err;
}

static int init_once(void)
{
	struct psp_init b = { .flags = PSP_INIT_ES, .tmr = sev.tmr, .tmr_len = TMR_SIZE };

	return psp_init(&b);
}

/* Old owners' keys may be damaged: the second INIT makes new ones. */
static int init_platform(void)
{
	int err = init_once();

	if (err == -EIO && psp_last_status() == PSP_SECURE_DATA_INVALID)
		err = init_once();
	return err;
}

static int check_firmware(void)
{
	int err = psp_platform_status(&sev.status);

	if (err != 0)
		return err;
	if (((u32)sev.status.api_major << 8 | sev.status.api_minor) < API_MIN) {
		sev.why |= SEV_WHY_FIRMWARE;
		return -ENOTSUP;
	}
	/* Somebody before us, such as firmware or a kernel, has left it on. */
	return sev.status.state == PSP_STATE_UNINIT ? 0 : psp_shutdown();
}

static int start_platform(void)
{
	int err = check_firmware();

	if (err == 0)
		err = tmr_alloc();
	if (err == 0)
		err = init_platform();
	if (err != 0)
		return err;
	err = sev_flush();
	if (err == 0)
		err = psp_platform_status(&sev.status);
	if (err == 0 && (sev.status.config & PSP_CONFIG_ES) == 0)
		err = -EIO;
	if (err != 0 && !psp_dead())
		(void)psp_shutdown();
	return err;
}

static int page_alloc(void)
{
	paddr_t pa;

	if (sev.page != NULL)
		return 0;
	pa = alloc_pages(ORDER_4K, ALLOC_ZERO);
	sev.page = pa != 0 ? phys_to_virt(pa) : NULL;
	return pa != 0 ? 0 : -ENOMEM;
}

int sev_up_locked(void)
{
	int err;

	if (sev.up)
		return psp_dead() ? -ENODEV : 0;
	sev.why = 0;
	if (sev_facts.sev)
		look_at_cpus(); /* may have changed since start */
	if (sev_why(&sev_facts) != 0) {
		log_why(sev_why(&sev_facts));
		return -ENOTSUP;
	}
	err = page_alloc();
	if (err == 0)
		err = start_platform();
	if (err != 0) {
		if (sev.why == 0)
			sev.why = SEV_WHY_UP;
		log_why(sev.why);
		tmr_free();
		return err;
	}
	sev_asid_init(sev_facts.min_asid, sev_facts.max_asid);
	sev.up = true;
	log_info("sev: PSP firmware %u.%u build %u is up", sev.status.api_major,
		 sev.status.api_minor, sev.status.build);
	return 0;
}

int sev_up(void)
{
	int err;

	sev_lock();
	err = sev_up_locked();
	sev_unlock();
	return err;
}

static int down_locked(void)
{
	int err;

	if (!sev.up)
		return psp_dead() ? -ENODEV : 0;
	if (sev_guest_count() != 0)
		return -EBUSY;
	err = psp_shutdown();
	if (err != 0 && !psp_dead())
		return err;
	sev.up = false;
	sev_guest_forget(); /* SHUTDOWN ended those that were left */
	tmr_free();
	return err;
}

int sev_down(void)
{
	int err;

	sev_lock();
	err = down_locked();
	sev_unlock();
	return err;
}

/* --- the shell's view --- */

static void print_why(void)
{
	u32 why = sev_why(&sev_facts) | sev.why;
	char text[128];

	for (u32 i = 0; i < 32; i++) {
		if ((why & BIT32(i)) == 0)
			continue;
		(void)sev_why_text(BIT32(i), &sev_facts, text, sizeof(text));
		log_printf("%s not available: %s\n",
			   (BIT32(i) & SEV_WHY_ALL) != 0 ? "SEV" : "SEV-ES", text);
	}
	if (psp_dead())
		log_printf("SEV not available: the PSP has stopped to answer; reset the machine\n");
}

static void print_pool(const char *name, u32 first, u32 last, bool es)
{
	struct sev_asid_count c = sev_asid_count(es);

	log_printf("%s ASIDs %u-%u", name, first, last);
	if (sev.up)
		log_printf(": %u taken, %u clean, %u to be flushed", c.taken, c.clean, c.dirty);
	log_printf("\n");
}

static void print_platform(void)
{
	static const char *const state[] = { "uninit", "init", "working" };

	if (!sev.up) {
		log_printf("PSP is not up: no guest has needed it\n");
		return;
	}
	log_printf("API %u.%u build %u, state %s, owner %s, %u guests, %u flushes\n",
		   sev.status.api_major, sev.status.api_minor, sev.status.build,
		   sev.status.state < ARRAY_SIZE(state) ? state[sev.status.state] : "?",
		   sev.status.owner & 1 ? "external" : "self", sev.status.guests, sev.flushes);
}

static void print_all(void)
{
	const struct sev_facts *f = &sev_facts;

	print_why();
	if (f->sev) {
		if (f->min_asid > 1)
			print_pool("SEV-ES", 1, f->min_asid - 1, true);
		if (f->min_asid <= f->max_asid)
			print_pool("SEV", f->min_asid, f->max_asid, false);
		log_printf("C-bit %u, %u address bits lost\n", f->c_bit, f->reduction);
		print_platform();
	}
	sev_guest_print();
	psp_print();
}

/*
 * A guest that is launched and ended without running: the whole path but VMRUN.
 * In a list that other CPUs may read: not on the stack. What could not be
 * ended keeps its memory and is tried again next time.
 */
static struct {
	struct sev_guest guest;
	paddr_t pages; /* data, VMSA */
} test;

static int test_end(void)
{
	int err = sev_guest_stop(&test.guest);

	if (err == 0 && test.pages != 0) {
		sev_flush_lines(test.pages, 2 * PAGE_SIZE);
		free_pages(test.pages, 1);
		test.pages = 0;
	}
	return err;
}

static int test_launch(void)
{
	struct sev_guest *g = &test.guest;
	u8 measure[PSP_MEASURE_SIZE];
	int err, stop;

	err = test_end();
	if (err != 0)
		return err;
	test.pages = alloc_pages(1, ALLOC_ZERO);
	if (test.pages == 0)
		return -ENOMEM;
	err = sev_guest_start(g, "test", SEV_POLICY_ES | SEV_POLICY_NODBG, NULL);
	if (err == 0)
		err = sev_guest_data(g, test.pages, PAGE_SIZE);
	if (err == 0)
		err = sev_guest_vmsa(g, test.pages + PAGE_SIZE);
	if (err == 0)
		err = sev_guest_measure(g, measure);
	if (err == 0)
		err = sev_guest_finish(g);
	/* A dead processor may still write what it was given. */
	stop = psp_dead() ? -ENODEV : test_end();
	return err != 0 ? err : stop;
}

static int test_command(u64 count)
{
	u64 done = 0;
	int err = 0;

	for (; err == 0 && done < count; done++)
		err = test_launch();
	if (err == 0)
		log_printf("%lu launches: all right\n", count);
	else
		log_printf("launch %lu failed: error %d; see log dmesg\n", done, -err);
	return err == -EINVAL ? -EIO : err;
}

static int status_command(void)
{
	int err = 0;

	if (sev.up)
		err = psp_platform_status(&sev.status);
	print_all();
	return err;
}

#define TEST_MAX 10000UL
static int psp_shell(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	u64 count = 1;
	int err;

	if (argc > 2 && (strcmp(what, "test") != 0 || argc > 3 ||
			 !shell_number(argv[2], &count) || count > TEST_MAX))
		return -EINVAL;
	if (argc == 1) {
		print_all();
		return 0;
	}
	if (!strcmp(what, "test"))
		return test_command(count);
	if (!strcmp(what, "status"))
		return status_command();
	if (!strcmp(what, "cert"))
		return sev_cert_print();
	if (strcmp(what, "up") != 0 && strcmp(what, "down") != 0)
		return -EINVAL;
	err = what[0] == 'u' ? sev_up() : sev_down();
	log_printf(err == 0 ? "psp is %s\n" : err == -EBUSY ? "%s: guests are still there\n" :
		   "%s: failed; see log dmesg\n", what);
	return err == -EINVAL ? -EIO : err;
}
SHELL_COMMAND(psp, psp_shell, "[status | up | down | cert | test [COUNT]]",
	      "the security processor, SEV-ES and why it is not available");
