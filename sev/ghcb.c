/* SPDX-License-Identifier: BSD-2-Clause */
#include "sev/ghcb.h"
#include "arch/x86/cpu.h"
#include "arch/x86/vcpu_state.h"
#include "core/hypercall.h"
#include "core/trace.h"
#include "sev/ghcb_page.h"

/*
 * VMGEXIT: what the guest asks for by its GHCB page. docs/ghcb.md has the
 * events, what each needs and how it can fail.
 *
 * The order is the same for all: copy, clear VALID_BITMAP, check everything in
 * the copy, serve, write the answer. Registers come from the copy into v->gpr[]
 * for core's handlers, which do not know where a guest keeps its registers.
 */

/* --- from core ---------------------------------------------------------------------------------- */

u32 ghcb_dispatch(struct vcpu *v, u32 kind)
{
	v->exit.kind = kind;
	v->exits[kind]++;
	return vcpu_dispatch(v);
}

/* HLT's rules say what ends the wait; the answer is written by ghcb_hold_end(). */
u32 ghcb_wait(struct vcpu *v)
{
	v->es->wake = 0;
	(void)ghcb_dispatch(v, VEXIT_HLT);
	return VRESULT_LEAVE;
}

static const char *termination_words(u32 set, u32 reason)
{
	static const char *const word[] = {
		"no reason given",
		"no common version of the GHCB protocol",
		"a feature of SEV-SNP is missing",
	};

	if (set != 0)
		return "a reason of the guest's own";
	return reason < ARRAY_SIZE(word) ? word[reason] : "reason not known";
}

u32 ghcb_terminate(struct vcpu *v, u32 set, u32 reason)
{
	vcpu_fatal(v, "the guest asked for its end: set %u, reason 0x%x: %s", set, reason,
		   termination_words(set, reason));
	return VRESULT_LEAVE;
}

/* --- events ------------------------------------------------------------------------------------- */

static u32 serve_cpuid(struct vcpu *v, struct ghcb_call *c)
{
	v->gpr[GPR_RAX] = c->copy->rax;
	v->gpr[GPR_RCX] = c->copy->rcx;
	return ghcb_dispatch(v, VEXIT_CPUID);
}

/* The sizes in leaf 0xD follow XCR0, which nobody but the guest knows. */
static u32 serve_cpuid_xsave(struct vcpu *v, struct ghcb_call *c)
{
	u64 mask = vcpu_state_xcr0_mask();

	if (mask != 0 && !xcr0_valid(c->copy->xcr0, mask))
		return ghcb_refuse(c, GHCB_ERR_INPUT);
	v->guest_xcr0 = c->copy->xcr0 & mask;
	return serve_cpuid(v, c);
}

static u32 serve_rdmsr(struct vcpu *v, struct ghcb_call *c)
{
	v->gpr[GPR_RCX] = c->copy->rcx;
	return ghcb_dispatch(v, VEXIT_RDMSR);
}

static u32 serve_wrmsr(struct vcpu *v, struct ghcb_call *c)
{
	if (c->info1 != 1)
		return ghcb_refuse(c, GHCB_ERR_INPUT);
	v->gpr[GPR_RAX] = c->copy->rax;
	v->gpr[GPR_RCX] = c->copy->rcx;
	v->gpr[GPR_RDX] = c->copy->rdx;
	return ghcb_dispatch(v, VEXIT_WRMSR);
}

/* The registers beside RAX are the hypercall's business: one that is absent is 0. */
static u32 serve_vmmcall(struct vcpu *v, struct ghcb_call *c)
{
	const struct ghcb *g = c->copy;

	if (g->cpl != 0) {
		v->gpr[GPR_RAX] = (u64)-KVM_EPERM;
		return VRESULT_RETRY;
	}
	v->gpr[GPR_RAX] = g->rax;
	v->gpr[GPR_RBX] = ghcb_get(g, rbx);
	v->gpr[GPR_RCX] = ghcb_get(g, rcx);
	v->gpr[GPR_RDX] = ghcb_get(g, rdx);
	v->gpr[GPR_RSI] = ghcb_get(g, rsi);
	return ghcb_dispatch(v, VEXIT_HYPERCALL);
}

/* RCX is an answer to RDTSCP alone. */
static u32 serve_tsc(struct vcpu *v, struct ghcb_call *c)
{
	u64 tsc = rdtsc() + v->tsc_offset;

	(void)c;
	v->gpr[GPR_RAX] = (u32)tsc;
	v->gpr[GPR_RDX] = tsc >> 32;
	v->gpr[GPR_RCX] = (u32)v->msr_tsc_aux;
	return VRESULT_RETRY;
}

static u32 serve_rdpmc(struct vcpu *v, struct ghcb_call *c)
{
	v->gpr[GPR_RCX] = c->copy->rcx;
	return ghcb_dispatch(v, VEXIT_RDPMC);
}

static u32 serve_wbinvd(struct vcpu *v, struct ghcb_call *c)
{
	(void)c;
	return ghcb_dispatch(v, VEXIT_WBINVD);
}

/* MONITOR is not offered; a guest that uses it all the same waits for nothing. */
static u32 serve_nothing(struct vcpu *v, struct ghcb_call *c)
{
	(void)v;
	(void)c;
	return VRESULT_RETRY;
}

static u32 serve_dr7_read(struct vcpu *v, struct ghcb_call *c)
{
	(void)c;
	v->gpr[GPR_RAX] = v->es->dr7;
	return VRESULT_RETRY;
}

/* For information: the register itself is in the save area and never reaches the host's. */
static u32 serve_dr7_write(struct vcpu *v, struct ghcb_call *c)
{
	v->es->dr7 = c->copy->rax;
	return VRESULT_RETRY;
}

static u32 serve_nmi_complete(struct vcpu *v, struct ghcb_call *c)
{
	(void)c;
	v->es->nmi_masked = false;
	if (__atomic_load_n(&v->nmi_pending, __ATOMIC_RELAXED) != 0)
		__atomic_or_fetch(&v->hazards, HAZ_NMI, __ATOMIC_RELEASE);
	return VRESULT_RETRY;
}

static u32 serve_reset_hold(struct vcpu *v, struct ghcb_call *c)
{
	v->es->hold = ES_HOLD_GHCB;
	v->es->hold_ghcb = c->gpa;
	return ghcb_wait(v);
}

/* The page is the guest's own, encrypted: its address is all there is to know of it. */
static u32 serve_jump_table(struct vcpu *v, struct ghcb_call *c)
{
	gpa_t *table = &v->vm->es->ap_jump_table;

	if (c->info1 > 1 || (c->info1 == 0 && !ghcb_gpa_valid(c->info2)))
		return ghcb_refuse(c, GHCB_ERR_INPUT);
	if (c->info1 == 0)
		__atomic_store_n(table, c->info2, __ATOMIC_RELEASE);
	else
		c->out2 = __atomic_load_n(table, __ATOMIC_ACQUIRE);
	return VRESULT_RETRY;
}

/* All of them are SEV-SNP's: SW_EXITINFO2 stays 0. */
#define serve_features serve_nothing

static u32 serve_terminate(struct vcpu *v, struct ghcb_call *c)
{
	return ghcb_terminate(v, c->info1 & 0xf, c->info1 >> 4 & 0xff);
}

static u32 serve_unsupported(struct vcpu *v, struct ghcb_call *c)
{
	vcpu_fatal(v, "the guest cannot handle exit 0x%lx, info 0x%lx", c->info1, c->info2);
	return VRESULT_LEAVE;
}

static u32 serve_unknown(struct vcpu *v, struct ghcb_call *c)
{
	(void)v;
	return ghcb_refuse(c, GHCB_ERR_EVENT);
}

/* --- the table ---------------------------------------------------------------------------------- */

/* Fields in the two words of VALID_BITMAP. */
#define RAX GHCB_V0(rax)
#define CPL GHCB_V0(cpl)
#define RBX GHCB_V1(rbx)
#define RCX GHCB_V1(rcx)
#define RDX GHCB_V1(rdx)
#define XCR0 GHCB_V1(xcr0)
#define SCRATCH GHCB_V1(sw_scratch)
#define EVENT (GHCB_V1(sw_exitcode) | GHCB_V1(sw_exitinfo1) | GHCB_V1(sw_exitinfo2))
#define INFO (GHCB_V1(sw_exitinfo1) | GHCB_V1(sw_exitinfo2))

/* What each event needs beside SW_EXITCODE, SW_EXITINFO1 and 2, and the registers it answers in. */
static const struct row {
	u64 in0, in1;   /* fields that must be valid, by words of VALID_BITMAP */
	u64 out0, out1; /* registers of the answer: RAX, RBX, RCX, RDX */
	u32 (*serve)(struct vcpu *v, struct ghcb_call *c);
	u32 version;    /* of the protocol that has the event */
} rows[GHCB_EVENTS] = {
	[GHCB_CPUID] = { RAX, RCX, RAX, RBX | RCX | RDX, serve_cpuid, 1 },
	[GHCB_CPUID_XSAVE] = { RAX, RCX | XCR0, RAX, RBX | RCX | RDX, serve_cpuid_xsave, 1 },
	[GHCB_RDMSR] = { 0, RCX, RAX, RDX, serve_rdmsr, 1 },
	[GHCB_WRMSR] = { RAX, RCX | RDX, 0, 0, serve_wrmsr, 1 },
	[GHCB_IN] = { 0, 0, RAX, 0, ghcb_port, 1 },
	[GHCB_OUT] = { RAX, 0, 0, 0, ghcb_port, 1 },
	[GHCB_INS] = { 0, SCRATCH, 0, 0, ghcb_string, 1 },
	[GHCB_OUTS] = { 0, SCRATCH, 0, 0, ghcb_string, 1 },
	[GHCB_VMMCALL] = { RAX | CPL, 0, RAX, 0, serve_vmmcall, 1 },
	[GHCB_RDTSC] = { 0, 0, RAX, RDX, serve_tsc, 1 },
	[GHCB_RDTSCP] = { 0, 0, RAX, RCX | RDX, serve_tsc, 1 },
	[GHCB_RDPMC] = { 0, RCX, RAX, RDX, serve_rdpmc, 1 },
	[GHCB_WBINVD] = { 0, 0, 0, 0, serve_wbinvd, 1 },
	[GHCB_INVD] = { 0, 0, 0, 0, serve_wbinvd, 1 },
	[GHCB_MONITOR] = { RAX, RCX | RDX, 0, 0, serve_nothing, 1 },
	[GHCB_MWAIT] = { RAX, RCX, 0, 0, serve_nothing, 1 },
	[GHCB_DR7_READ] = { 0, 0, RAX, 0, serve_dr7_read, 1 },
	[GHCB_DR7_WRITE] = { RAX, 0, 0, 0, serve_dr7_write, 1 },
	[GHCB_MMIO_READ] = { 0, SCRATCH, 0, 0, ghcb_mmio_read, 1 },
	[GHCB_MMIO_WRITE] = { 0, SCRATCH, 0, 0, ghcb_mmio_write, 1 },
	[GHCB_NMI_COMPLETE] = { 0, 0, 0, 0, serve_nmi_complete, 1 },
	[GHCB_RESET_HOLD] = { 0, 0, 0, 0, serve_reset_hold, 1 },
	[GHCB_JUMP_TABLE] = { 0, 0, 0, 0, serve_jump_table, 1 },
	[GHCB_FEATURES] = { 0, 0, 0, 0, serve_features, 2 },
	[GHCB_TERMINATE] = { 0, 0, 0, 0, serve_terminate, 2 },
	[GHCB_UNSUPPORTED] = { 0, 0, 0, 0, serve_unsupported, 1 },
	[GHCB_UNKNOWN] = { 0, 0, 0, 0, serve_unknown, 1 },
};

#define IOIO_IN BIT(0)
#define IOIO_STRING BIT(2)
#define LEAF_XSAVE 0xdU

static u32 port_kind(u64 info1)
{
	if ((info1 & IOIO_STRING) != 0)
		return (info1 & IOIO_IN) != 0 ? GHCB_INS : GHCB_OUTS;
	return (info1 & IOIO_IN) != 0 ? GHCB_IN : GHCB_OUT;
}

static u32 kind_of(const struct ghcb *g)
{
	switch (g->sw_exitcode) {
	case 0x27: return GHCB_DR7_READ;
	case 0x37: return GHCB_DR7_WRITE;
	case 0x6e: return GHCB_RDTSC;
	case 0x6f: return GHCB_RDPMC;
	case 0x72: return (u32)g->rax == LEAF_XSAVE ? GHCB_CPUID_XSAVE : GHCB_CPUID;
	case 0x76: return GHCB_INVD;
	case 0x7b: return port_kind(g->sw_exitinfo1);
	case 0x7c: return g->sw_exitinfo1 == 0 ? GHCB_RDMSR : GHCB_WRMSR;
	case 0x81: return GHCB_VMMCALL;
	case 0x87: return GHCB_RDTSCP;
	case 0x89: return GHCB_WBINVD;
	case 0x8a: return GHCB_MONITOR;
	case 0x8b: return GHCB_MWAIT;
	case 0x80000001: return GHCB_MMIO_READ;
	case 0x80000002: return GHCB_MMIO_WRITE;
	case 0x80000003: return GHCB_NMI_COMPLETE;
	case 0x80000004: return GHCB_RESET_HOLD;
	case 0x80000005: return GHCB_JUMP_TABLE;
	case 0x8000fffd: return GHCB_FEATURES;
	case 0x8000fffe: return GHCB_TERMINATE;
	case 0x8000ffff: return GHCB_UNSUPPORTED;
	default: return GHCB_UNKNOWN; /* SEV-SNP's among them */
	}
}

/* --- the page ----------------------------------------------------------------------------------- */

/* Fields that no event looks at are left out: the whole page would cost more than most events. */
static inline void copy_in(struct ghcb *to, const volatile struct ghcb *from)
{
	to->valid_bitmap[0] = from->valid_bitmap[0];
	to->valid_bitmap[1] = from->valid_bitmap[1];
	to->sw_exitcode = from->sw_exitcode;
	to->sw_exitinfo1 = from->sw_exitinfo1;
	to->sw_exitinfo2 = from->sw_exitinfo2;
	to->sw_scratch = from->sw_scratch;
	to->rax = from->rax;
	to->rbx = from->rbx;
	to->rcx = from->rcx;
	to->rdx = from->rdx;
	to->rsi = from->rsi;
	to->cpl = from->cpl;
	to->xcr0 = from->xcr0;
	to->protocol_version = from->protocol_version;
	to->ghcb_usage = from->ghcb_usage;
}

/* The kind of a request that may be served, else c->out1 is set. */
static inline u32 check(struct ghcb_call *c)
{
	const struct ghcb *g = c->copy;
	const struct row *row;
	u32 kind;

	if (unlikely(g->ghcb_usage != 0)) {
		(void)ghcb_refuse(c, GHCB_ERR_USAGE);
		return GHCB_UNKNOWN;
	}
	if (unlikely((EVENT & ~g->valid_bitmap[1]) != 0)) {
		(void)ghcb_refuse(c, GHCB_ERR_MISSING);
		return GHCB_UNKNOWN;
	}
	kind = kind_of(g);
	row = &rows[kind];
	if (unlikely(g->protocol_version > GHCB_VERSION_MAX))
		(void)ghcb_refuse(c, GHCB_ERR_INPUT);
	else if (unlikely(MAX(g->protocol_version, 1U) < row->version))
		(void)ghcb_refuse(c, GHCB_ERR_EVENT);
	else if (unlikely((row->in0 & ~g->valid_bitmap[0]) != 0 ||
			  (row->in1 & ~g->valid_bitmap[1]) != 0))
		(void)ghcb_refuse(c, GHCB_ERR_MISSING);
	return kind;
}

/*
 * What core would have delivered at the next entry is the guest's to raise: its
 * RIP is in its own #VC handler. It accepts nothing but #GP and #UD.
 */
static __attribute__((noinline)) void take_exception(struct vcpu *v, struct ghcb_call *c)
{
	const struct vevent *e = &v->event;
	const u64 valid_exception = BIT(31) | 3UL << 8;

	c->out1 = GHCB_EXCEPTION;
	if (e->vector == VEC_UD)
		c->out2 = valid_exception | VEC_UD;
	else
		c->out2 = valid_exception | BIT(11) | VEC_GP | (u64)e->error << 32;
	v->event.type = VEVENT_NONE;
	vcpu_hazard_clear(v, HAZ_EVENT);
}

/* On an error the registers have no answer. */
static inline void answer(const struct vcpu *v, const struct ghcb_call *c, const struct row *row)
{
	volatile struct ghcb *g = c->page;
	u64 out0 = 0, out1 = 0;

	if (likely(c->out1 == GHCB_OK)) {
		out0 = row->out0;
		out1 = row->out1;
	}
	if ((out0 & RAX) != 0)
		g->rax = v->gpr[GPR_RAX];
	if ((out1 & RBX) != 0)
		g->rbx = v->gpr[GPR_RBX];
	if ((out1 & RCX) != 0)
		g->rcx = v->gpr[GPR_RCX];
	if ((out1 & RDX) != 0)
		g->rdx = v->gpr[GPR_RDX];
	g->sw_exitinfo1 = c->out1;
	g->sw_exitinfo2 = c->out2;
	g->valid_bitmap[0] = out0;
	g->valid_bitmap[1] = out1 | INFO;
}

static inline void forget_registers(struct vcpu *v)
{
	v->gpr[GPR_RAX] = 0;
	v->gpr[GPR_RBX] = 0;
	v->gpr[GPR_RCX] = 0;
	v->gpr[GPR_RDX] = 0;
	v->gpr[GPR_RSI] = 0;
}

static __attribute__((noinline)) void trace(const struct vcpu *v, const struct ghcb_call *c)
{
	struct trace_record r = {
		.vm = (u8)v->vm->id, .vcpu = (u8)v->id, .kind = TRACE_VMGEXIT,
		.result = (u8)(c->out1 << 4 | (c->out1 == GHCB_MALFORMED ? c->out2 : 0)),
		.code = (u32)ghcb_get(c->copy, sw_exitcode),
		.a = c->info1, .b = c->info2,
	};

	trace_record(&r);
}

static __attribute__((noinline)) u32 no_page(struct vcpu *v, gpa_t gpa)
{
	v->es->events[GHCB_NO_PAGE]++;
	vdev_log(vm_host(v->vm), "vcpu %u: VMGEXIT ignored, GHCB 0x%lx is %s", v->id, gpa,
		 gpa == 0 ? "not set" : "not RAM of the guest");
	return VRESULT_RETRY;
}

/* NULL: not RAM. Page 0 is "not set". */
static struct ghcb *page_at(struct vcpu *v, gpa_t gpa)
{
	struct es_vcpu *es = v->es;
	size_t len = PAGE_SIZE;
	struct ghcb *page;

	if (likely(gpa == es->page_gpa))
		return gpa == 0 ? NULL : es->page;
	page = vm_ram_ptr(v->vm, gpa, &len, true);
	if (page == NULL || len < PAGE_SIZE)
		return NULL;
	es->page_gpa = gpa;
	es->page = page;
	return page;
}

static u32 page_request(struct vcpu *v, gpa_t gpa)
{
	struct es_vcpu *es = v->es;
	struct ghcb_call c = { .page = page_at(v, gpa), .copy = es->copy, .gpa = gpa };
	u32 result = VRESULT_RETRY;
	u32 kind;

	if (unlikely(c.page == NULL))
		return no_page(v, gpa);
	copy_in(c.copy, c.page);
	((volatile struct ghcb *)c.page)->valid_bitmap[0] = 0;
	((volatile struct ghcb *)c.page)->valid_bitmap[1] = 0;
	es->version = c.copy->protocol_version;
	c.info1 = ghcb_get(c.copy, sw_exitinfo1);
	c.info2 = ghcb_get(c.copy, sw_exitinfo2);
	kind = check(&c);
	es->events[kind]++;
	if (likely(c.out1 == GHCB_OK))
		result = rows[kind].serve(v, &c);
	if (unlikely(v->event.type == VEVENT_EXCEPTION))
		take_exception(v, &c);
	if (unlikely(c.out1 == GHCB_MALFORMED))
		es->events[GHCB_REFUSED]++;
	answer(v, &c, &rows[kind]);
	forget_registers(v);
	if (unlikely(trace_flags != 0))
		trace(v, &c);
	return result & VRESULT_LEAVE;
}

/* --- the interface ------------------------------------------------------------------------------ */

u32 ghcb_vmgexit(struct vcpu *v)
{
	u64 msr = *v->es->ghcb_msr;

	if (unlikely((msr & ~PAGE_MASK) != 0))
		return ghcb_msr_request(v, msr);
	return page_request(v, msr);
}

void ghcb_reset(struct vcpu *v)
{
	struct es_vcpu *es = v->es;

	es->hold = ES_HOLD_NONE;
	es->wake = 0;
	es->version = 0;
	es->page_gpa = 0;
	es->page = NULL;
	es->dr7 = 0x400; /* APM vol. 2, table 14-1 */
	es->nmi_masked = false;
	*es->ghcb_msr = ghcb_msr_info(v);
}

#define MSR_HOLD_ANSWER 0x007UL

void ghcb_hold_end(struct vcpu *v)
{
	struct es_vcpu *es = v->es;
	u64 sipi = es->wake == 2;

	if (es->hold == ES_HOLD_MSR) {
		*es->ghcb_msr = MSR_HOLD_ANSWER | sipi << PAGE_SHIFT;
	} else if (es->hold == ES_HOLD_GHCB) {
		volatile struct ghcb *g = page_at(v, es->hold_ghcb);

		if (g != NULL)
			g->sw_exitinfo2 = sipi;
	}
	es->hold = ES_HOLD_NONE;
	es->wake = 0;
}
