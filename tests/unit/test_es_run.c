/* SPDX-License-Identifier: BSD-2-Clause */
// sources: sev/es_run.c arch/x86/svm/inject.c arch/x86/svm/asid.c arch/x86/decode.c
/* The loop of an SEV-ES vCPU: a list of exits instead of a CPU, and what each entry was given. */
#include <stdio.h>
#include <stdlib.h>

#include "svm_mock.h"

#include "arch/x86/vcpu_state.h"
#include "sev/es.h"
#include "sev/es_entry.h"
#include "sev/ghcb.h"
#include "sev/vmsa.h"

struct cpu_features cpu_features;

/* One step of the script: before it, what the entry saw is kept. */
struct step {
	u64 code, info1, info2;
	u64 int_state;
	u64 exitintinfo;
};
#define IF_ON 2UL

static struct es_vcpu es;
static struct es_vm esvm;
static u8 hsave[4096] __attribute__((aligned(4096)));
static const struct step *script;
static u32 steps, at;
static struct vmcb seen[64];
static char why[128];
static u32 vmgexits, hold_ends, loads;
static u32 vmgexit_result;
static void (*on_vmgexit)(void);

void *phys_to_virt(paddr_t pa)
{
	assert_int_equal(pa, 0x5000);
	return hsave;
}
u64 vcpu_state_tsc_aux(void) { return 0x77; }
void vcpu_state_load(struct vcpu *v) { loads++; }
void svm_pause_intercept(struct vmcb *b, bool on) { }
void svm_sync_tpr(struct vcpu *v) { abort(); }
void svm_load_tpr(struct vcpu *v)
{
	mock.vmcb.vintr = (mock.vmcb.vintr & ~VMCB_V_TPR_BYTE) | mock.tpr >> 4;
}
void trace_write(u32 vm, u32 vcpu, u32 kind, u64 a, u64 b) { }
bool svm_msrpm_intercepted(const u8 *map, u32 msr, bool write) { abort(); }

void vcpu_fatal(struct vcpu *v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
}

/* Ends the run when the script is over. */
void es_enter(paddr_t vmcb_pa, struct vmsa *host)
{
	struct vmcb *b = &mock.vmcb;

	assert_int_equal(vmcb_pa, mock.sv.vmcb_pa);
	assert_ptr_equal(host, hsave + 0x400);
	assert_true(at < steps);
	seen[at] = *b;
	b->exitcode = script[at].code;
	b->exitinfo1 = script[at].info1;
	b->exitinfo2 = script[at].info2;
	b->int_state = script[at].int_state;
	b->exitintinfo = script[at].exitintinfo;
	b->eventinj = 0;
	if (++at == steps)
		mock.v.hazards |= HAZ_RESCHED;
}
void es_enter_guarded(paddr_t vmcb_pa, struct vmsa *host) { abort(); }

u32 ghcb_vmgexit(struct vcpu *v)
{
	vmgexits++;
	if (on_vmgexit != NULL)
		on_vmgexit();
	return vmgexit_result;
}
void ghcb_hold_end(struct vcpu *v)
{
	hold_ends++;
	es.hold = ES_HOLD_NONE;
}

static int setup(void **state)
{
	mock_setup(state);
	memset(&es, 0, sizeof(es));
	memset(&esvm, 0, sizeof(esvm));
	memset(hsave, 0, sizeof(hsave));
	memset(&cpu_features, 0, sizeof(cpu_features));
	mock.v.es = &es;
	mock.v.trap_protected = true;
	mock.vm.es = &esvm;
	mock.cpu.pages = 0x5000;
	mock.cpu.hsave = 0x5000;
	mock.sv.fixed_asid = 3;
	/* What an SEV-ES guest's control block has of registers is nothing. */
	memset(&mock.vmcb.es, 0xa5, 0x298);
	why[0] = '\0';
	vmgexits = hold_ends = loads = vmgexit_result = 0;
	on_vmgexit = NULL;
	return 0;
}

static void run(const struct step *s, u32 n)
{
	script = s;
	steps = n;
	at = 0;
	mock.v.hazards &= ~HAZ_RESCHED;
	es_run(&mock.v);
}
#define RUN(...) \
	do { \
		const struct step s_[] = { __VA_ARGS__ }; \
		run(s_, ARRAY_SIZE(s_)); \
	} while (0)

static void test_row34_host_state(void **state)
{
	const struct vmsa *s = (const struct vmsa *)(hsave + 0x400);

	RUN({ SVM_EXIT_INTR, 0, 0, 0, 0 });
	assert_int_equal(mock.vmsaves, 1); /* to VM_HSAVE_PA, once a run */
	assert_int_equal(s->xcr0, 1);
	assert_int_equal(s->tsc_aux, 0x77);
	assert_int_equal(loads, 1);
	assert_int_equal(mock.vmloads, 0); /* nothing of the guest, nothing to undo */
	assert_int_equal(mock.windows, 1);
}

/* The codes of APM vol. 2, table 15-33, and all others. */
static void test_row11_codes(void **state)
{
	static const u64 taken[] = { 0x52, 0x60, 0x61, 0x62, 0x63, 0x64, 0x77, 0x78, 0x7f, 0x8f,
				     0x90, 0x94, 0x98, 0x400, 0x403 };

	for (u64 code = 0; code < 0x410; code++) {
		bool known = false;

		for (size_t i = 0; i < ARRAY_SIZE(taken); i++)
			known |= taken[i] == code;
		setup(state);
		RUN({ code, 1, 2, 0, 0 });
		assert_int_equal(mock.dispatched != 0 && mock.seen.kind == VEXIT_FATAL, !known);
		if (known)
			continue;
		assert_string_equal(mock.seen.fatal.why, "unexpected exit");
		assert_int_equal(mock.seen.fatal.code, code);
		assert_int_equal(mock.seen.fatal.info2, 2);
	}
	setup(state);
	RUN({ ~0UL, 0, 0, 0, 0 });
	assert_string_equal(mock.seen.fatal.why, "VMRUN refused the guest's state");
}

static void test_row11_kinds(void **state)
{
	static const struct {
		u64 code;
		u32 kind;
	} kinds[] = { { 0x77, VEXIT_PAUSE }, { 0x78, VEXIT_HLT }, { 0x7f, VEXIT_SHUTDOWN },
		      { 0x52, VEXIT_MCE } };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		setup(state);
		mock.result = VRESULT_ADVANCE;
		RUN({ kinds[i].code, 0, 0, 0, 0 });
		assert_int_equal(mock.seen.kind, kinds[i].kind);
		assert_int_equal(mock.v.exits[kinds[i].kind], 1);
	}
	/* LEAVE ends the run, whatever waits. */
	setup(state);
	mock.result = VRESULT_ADVANCE | VRESULT_LEAVE;
	RUN({ 0x78, 0, 0, 0, 0 }, { 0x78, 0, 0, 0, 0 });
	assert_int_equal(at, 1);
}

/* Nothing of the save area half is ever written, whatever exit it was. */
static void test_row28_nothing_is_moved(void **state)
{
	struct vmcb before = mock.vmcb;

	mock.result = VRESULT_ADVANCE;
	mock.irr = 0x50;
	mock.v.hazards = HAZ_IRQ | HAZ_NMI | HAZ_TPR | HAZ_TLB;
	mock.v.nmi_pending = 1;
	RUN({ 0x77, 0, 0, 0, 0 }, { 0x78, 0, 0, 0, 0 }, { 0x8f, 0x1d00, 0, 0, 0 },
	    { 0x90, 0x80050033, 0, 0, 0 }, { 0x94, 0x20, 0, 0, 0 }, { 0x98, 3, 0, 0, 0 },
	    { 0x403, 0, 0, 0, 0 }, { 0x400, 4, 0x1000, IF_ON, 0 }, { 0x64, 0, 0, IF_ON, 0 });
	assert_int_equal(at, 9);
	assert_memory_equal(&mock.vmcb.es, &before.es, 0xc00);
	assert_int_equal(mock.vmcb.nrip, before.nrip);
}

static void test_row21_efer(void **state)
{
	RUN({ 0x8f, 0x1d01, 0, 0, 0 });
	assert_int_equal(es.efer, 0xd01); /* without SVME */
	/* LMA comes and goes with paging, which is no write to EFER. */
	RUN({ 0x8f, 0x1901, 0, 0, 0 }, { 0x90, 0x80000011, 0, 0, 0 });
	assert_int_equal(es.efer, 0xd01);
	RUN({ 0x90, 0x11, 0, 0, 0 });
	assert_int_equal(es.efer, 0x901);
}

static void test_row22_cr0(void **state)
{
	RUN({ 0x90, 0x80050033, 0, 0, 0 });
	assert_int_equal(es.cr0, 0x80050033);
}

static void test_row23_cr4(void **state)
{
	RUN({ 0x94, 0x406f0, 0, 0, 0 });
	assert_int_equal(es.cr4, 0x406f0);
}

static void test_row24_cr8(void **state)
{
	mock.irr = 0x50;
	RUN({ 0x98, 15, 0, IF_ON, 0 }, { 0x60, 0, 0, IF_ON, 0 }, { 0x98, 4, 0, IF_ON, 0 },
	    { 0x60, 0, 0, IF_ON, 0 });
	assert_int_equal(mock.vmcb.vintr & VMCB_V_TPR_BYTE, 4);
	assert_int_equal(es.cr8, 4);
	assert_int_equal(mock.tpr, 0x40);
	/* Held back by the priority without V_IRQ; given at the entry after the write. */
	assert_false((seen[1].vintr & VMCB_V_IRQ) != 0 || seen[1].eventinj != 0);
	assert_false((seen[2].vintr & VMCB_V_IRQ) != 0 || seen[2].eventinj != 0);
	assert_int_equal(seen[3].eventinj, VMCB_EVENT_VALID | 0x50);
	/* CR8 is never intercepted, not even on emulated CPUs. */
	assert_int_equal(seen[1].intercept_cr, 0);
}

static void test_row24_software_tpr(void **state)
{
	mock.tpr = 0x70;
	mock.v.hazards = HAZ_TPR;
	RUN({ 0x60, 0, 0, 0, 0 });
	assert_int_equal(seen[0].vintr & VMCB_V_TPR_BYTE, 7);
	assert_int_equal(es.cr8, 7);
}

/* IF and the shadow come from the control block, never from RFLAGS in the save area. */
static void test_interrupt_window(void **state)
{
	mock.irr = 0x50;
	mock.vmcb.rflags = RFLAGS_IF; /* not the guest's */
	mock.v.hazards = HAZ_IRQ;
	RUN({ 0x60, 0, 0, IF_ON | VMCB_INT_SHADOW, 0 }, { 0x64, 0, 0, IF_ON, 0 },
	    { 0x60, 0, 0, IF_ON, 0 });
	assert_int_equal(seen[0].eventinj, 0);
	assert_true((seen[0].vintr & VMCB_V_IRQ) != 0);
	assert_true((seen[0].vintr & VMCB_V_IGN_TPR) != 0);
	assert_true((seen[0].intercept3 & VMCB_I3_VINTR) != 0);
	assert_int_equal(seen[1].eventinj, 0);
	assert_int_equal(seen[2].eventinj, VMCB_EVENT_VALID | 0x50);
	assert_true((seen[2].vintr & VMCB_V_IRQ) == 0);
	assert_true((seen[2].intercept3 & VMCB_I3_VINTR) == 0);
	/* IF alone is not enough. */
	mock.irr = 0x51;
	mock.v.hazards = HAZ_IRQ;
	mock.vmcb.int_state = IF_ON | VMCB_INT_SHADOW;
	RUN({ 0x60, 0, 0, IF_ON, 0 });
	assert_int_equal(seen[0].eventinj, 0);
	assert_true((seen[0].vintr & VMCB_V_IRQ) != 0);
}

/* As sev/ghcb.c serves it. */
static void nmi_complete(void)
{
	es.nmi_masked = false;
	if (mock.v.nmi_pending != 0)
		mock.v.hazards |= HAZ_NMI;
}

static void test_row29_nmi_waits_for_complete(void **state)
{
	const u64 nmi = VMCB_EVENT_VALID | VMCB_EVENT_NMI | 2;

	mock.v.nmi_pending = 2;
	mock.v.hazards = HAZ_NMI;
	RUN({ 0x60, 0, 0, 0, 0 }, { 0x60, 0, 0, 0, 0 });
	assert_int_equal(seen[0].eventinj, nmi);
	assert_int_equal(seen[1].eventinj, 0);
	assert_true(es.nmi_masked);
	/* A third one: it changes nothing. */
	mock.v.hazards |= HAZ_NMI;
	RUN({ 0x60, 0, 0, 0, 0 });
	assert_int_equal(seen[0].eventinj, 0);
	nmi_complete();
	RUN({ 0x60, 0, 0, 0, 0 });
	assert_int_equal(seen[0].eventinj, nmi);
	assert_int_equal(mock.v.nmi_pending, 0);
	nmi_complete();
	RUN({ 0x60, 0, 0, 0, 0 });
	assert_int_equal(seen[0].eventinj, 0);
	/* Never IRET, whose intercept would be a #VC in the #VC handler. */
	assert_true((seen[0].intercept3 & VMCB_I3_IRET) == 0);
}

/* What was on its way is given again; what may not be injected is left to the instruction. */
static void test_row29_events_again(void **state)
{
	static const struct {
		u64 info, again;
	} cases[] = {
		{ VMCB_EVENT_VALID | 0x31, VMCB_EVENT_VALID | 0x31 },
		{ VMCB_EVENT_VALID | VMCB_EVENT_NMI | 2, VMCB_EVENT_VALID | VMCB_EVENT_NMI | 2 },
		{ 0x7700000000 | VMCB_EVENT_VALID | VMCB_EVENT_ERROR | VMCB_EVENT_EXCEPTION | 14,
		  0x7700000000 | VMCB_EVENT_VALID | VMCB_EVENT_ERROR | VMCB_EVENT_EXCEPTION | 14 },
		{ VMCB_EVENT_VALID | VMCB_EVENT_EXCEPTION | 3, 0 },
		{ VMCB_EVENT_VALID | VMCB_EVENT_EXCEPTION | 4, 0 },
		{ VMCB_EVENT_VALID | VMCB_EVENT_SOFT | 0x80, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		setup(state);
		RUN({ 0x60, 0, 0, 0, cases[i].info }, { 0x60, 0, 0, 0, 0 });
		assert_int_equal(seen[1].eventinj, cases[i].again);
	}
	/* The same by core's hand. */
	for (u8 vector = 3; vector <= 4; vector++) {
		setup(state);
		mock.v.event = (struct vevent){ VEVENT_EXCEPTION, vector, false, 0 };
		mock.v.hazards = HAZ_EVENT;
		RUN({ 0x60, 0, 0, 0, 0 });
		assert_int_equal(seen[0].eventinj, 0);
	}
	setup(state);
	mock.v.event = (struct vevent){ VEVENT_SOFT_INT, 0x80, false, 0 };
	mock.v.hazards = HAZ_EVENT;
	RUN({ 0x60, 0, 0, 0, 0 });
	assert_int_equal(seen[0].eventinj, 0);
}

static void test_row09_no_progress(void **state)
{
	struct step s[40];

	for (u32 i = 0; i < 40; i++)
		s[i] = (struct step){ 0x400, 0x100000004, 0xfee00000, 0, 0 };
	run(s, 40);
	assert_int_equal(at, 16);
	assert_non_null(strstr(why, "no progress"));
	assert_non_null(strstr(why, "0xfee00000"));
	/* Other places each time: no such thing. */
	setup(state);
	for (u32 i = 0; i < 40; i++)
		s[i].info2 = 0x1000UL * i;
	run(s, 40);
	assert_int_equal(at, 40);
	assert_string_equal(why, "");
}

static void test_row33_flush(void **state)
{
	mock.v.id = 1;
	RUN({ 0x60, 0, 0, 0, 0 }, { 0x60, 0, 0, 0, 0 });
	assert_int_equal(seen[0].asid, 3);
	assert_int_equal(seen[0].tlb_control, VMCB_TLB_FLUSH_ASID); /* first time on this CPU */
	assert_int_equal(seen[1].tlb_control, VMCB_TLB_NOTHING);
	RUN({ 0x60, 0, 0, 0, 0 });
	assert_int_equal(seen[0].tlb_control, VMCB_TLB_NOTHING);
	/* Another vCPU of the VM has been here. */
	esvm.last[0] = 1;
	RUN({ 0x60, 0, 0, 0, 0 });
	assert_int_equal(seen[0].tlb_control, VMCB_TLB_FLUSH_ASID);
	assert_int_equal(esvm.last[0], 2);
	/* It has been on another CPU meanwhile. */
	mock.sv.cpu = 7;
	RUN({ 0x60, 0, 0, 0, 0 });
	assert_int_equal(seen[0].tlb_control, VMCB_TLB_FLUSH_ASID);
	assert_int_equal(seen[0].clean, 0);
}

static void begin_hold(void) { es.hold = ES_HOLD_GHCB; }

static void test_row27_hold(void **state)
{
	on_vmgexit = begin_hold;
	vmgexit_result = VRESULT_LEAVE;
	RUN({ 0x403, 0, 0, IF_ON, 0 }, { 0x60, 0, 0, 0, 0 });
	assert_int_equal(at, 1);
	on_vmgexit = NULL;
	vmgexit_result = 0;
	/* Without a start-up IPI: woken, no more. */
	RUN({ 0x60, 0, 0, 0, 0 });
	assert_int_equal(hold_ends, 1);
	assert_int_equal(es.wake, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_row34_host_state, setup),
		cmocka_unit_test_setup(test_row11_codes, setup),
		cmocka_unit_test_setup(test_row11_kinds, setup),
		cmocka_unit_test_setup(test_row28_nothing_is_moved, setup),
		cmocka_unit_test_setup(test_row21_efer, setup),
		cmocka_unit_test_setup(test_row22_cr0, setup),
		cmocka_unit_test_setup(test_row23_cr4, setup),
		cmocka_unit_test_setup(test_row24_cr8, setup),
		cmocka_unit_test_setup(test_row24_software_tpr, setup),
		cmocka_unit_test_setup(test_interrupt_window, setup),
		cmocka_unit_test_setup(test_row29_nmi_waits_for_complete, setup),
		cmocka_unit_test_setup(test_row29_events_again, setup),
		cmocka_unit_test_setup(test_row09_no_progress, setup),
		cmocka_unit_test_setup(test_row33_flush, setup),
		cmocka_unit_test_setup(test_row27_hold, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
