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

/* --- from core ---------------------------------------------------------------------------- */

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

/* --- events ------------------------------------------------------------------------------- */

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

/* --- the table ---------------------------------------------------------------------------- */

/*
 * Fields of an event, each a bit: those of the bitmap's second word moved down,
 * the two of its first word where the others leave room. See fields_in().
 */
#define SHIFT 33
#define FIELD(name) ((u32)(GHCB_V1(name) >> SHIFT))
#define RCX FIELD(rcx)
#define RDX FIELD(rdx)
#define RBX FIELD(rbx)
#define SCRATCH FIELD(sw_scratch)
#define XCR0 FIELD(xcr0)
#define EVENT (FIELD(sw_exitcode) | FIELD(sw_exitinfo1) | FIELD(sw_exitinfo2))
#define RAX ((u32)(GHCB_V0(rax) >> 32))
#define CPL ((u32)GHCB_V0(cpl))
#define SECOND_WORD (RCX | RDX | RBX | SCRATCH | XCR0 | EVENT)
#define NEW BIT32(30) /* no field: the event came with version 2 */
_Static_assert(GHCB_V1(rcx) >> SHIFT == 1 && GHCB_V1(xcr0) >> SHIFT < NEW, "a field is lost");
_Static_assert(((RAX | CPL) & (SECOND_WORD | NEW)) == 0 && RAX != CPL && CPL != 0, "fields meet");

static inline u32 fields_in(const struct ghcb *g)
{
	return ((u32)(g->valid_bitmap[1] >> SHIFT) & SECOND_WORD) |
	       ((u32)(g->valid_bitmap[0] >> 32) & RAX) | ((u32)g->valid_bitmap[0] & CPL);
}

/*
 * Each event: what it needs beside SW_EXITCODE, SW_EXITINFO1 and 2, and the
 * registers of its answer. One code may have several rows, the first has the
 * code; the more frequent ones stand first.
 */
static const struct row {
	u32 code; /* SW_EXITCODE */
	u32 in, out;
	u32 (*serve)(struct vcpu *v, struct ghcb_call *c);
} rows[GHCB_EVENTS] = {
	[GHCB_CPUID] = { 0x72, RAX | RCX, RAX | RBX | RCX | RDX, serve_cpuid },
	[GHCB_CPUID_XSAVE] = { 0, RAX | RCX | XCR0, RAX | RBX | RCX | RDX, serve_cpuid_xsave },
	[GHCB_RDMSR] = { 0x7c, RCX, RAX | RDX, serve_rdmsr },
	[GHCB_WRMSR] = { 0, RAX | RCX | RDX, 0, serve_wrmsr },
	[GHCB_MMIO_READ] = { 0x80000001, SCRATCH, 0, ghcb_mmio_read },
	[GHCB_MMIO_WRITE] = { 0x80000002, SCRATCH, 0, ghcb_mmio_write },
	[GHCB_OUT] = { 0x7b, RAX, 0, ghcb_port },
	[GHCB_IN] = { 0, 0, RAX, ghcb_port },
	[GHCB_OUTS] = { 0, SCRATCH, 0, ghcb_string },
	[GHCB_INS] = { 0, SCRATCH, 0, ghcb_string },
	[GHCB_VMMCALL] = { 0x81, RAX | CPL, RAX, serve_vmmcall },
	[GHCB_RDTSC] = { 0x6e, 0, RAX | RDX, serve_tsc },
	[GHCB_RDTSCP] = { 0x87, 0, RAX | RCX | RDX, serve_tsc },
	[GHCB_RDPMC] = { 0x6f, RCX, RAX | RDX, serve_rdpmc },
	[GHCB_WBINVD] = { 0x89, 0, 0, serve_wbinvd },
	[GHCB_INVD] = { 0x76, 0, 0, serve_wbinvd },
	[GHCB_MONITOR] = { 0x8a, RAX | RCX | RDX, 0, serve_nothing },
	[GHCB_MWAIT] = { 0x8b, RAX | RCX, 0, serve_nothing },
	[GHCB_DR7_READ] = { 0x27, 0, RAX, serve_dr7_read },
	[GHCB_DR7_WRITE] = { 0x37, RAX, 0, serve_dr7_write },
	[GHCB_NMI_COMPLETE] = { 0x80000003, 0, 0, serve_nmi_complete },
	[GHCB_RESET_HOLD] = { 0x80000004, 0, 0, serve_reset_hold },
	[GHCB_JUMP_TABLE] = { 0x80000005, 0, 0, serve_jump_table },
	[GHCB_FEATURES] = { 0x8000fffd, NEW, 0, serve_features },
	[GHCB_TERMINATE] = { 0x8000fffe, NEW, 0, serve_terminate },
	[GHCB_UNSUPPORTED] = { 0x8000ffff, 0, 0, serve_unsupported },
	[GHCB_UNKNOWN] = { 0, 0, 0, serve_unknown }, /* SEV-SNP's among them */
};

#define IOIO_IN BIT(0)
#define IOIO_STRING BIT(2)
#define LEAF_XSAVE 0xdU

static u32 kind_of(const struct ghcb *g)
{
	u32 kind = 0;

	while (kind < GHCB_UNKNOWN && (rows[kind].code != g->sw_exitcode || rows[kind].code == 0))
		kind++;
	switch (kind) {
	case GHCB_CPUID:
		return (u32)g->rax == LEAF_XSAVE ? GHCB_CPUID_XSAVE : GHCB_CPUID;
	case GHCB_RDMSR:
		return g->sw_exitinfo1 == 0 ? GHCB_RDMSR : GHCB_WRMSR;
	case GHCB_OUT:
		kind = (g->sw_exitinfo1 & IOIO_STRING) != 0 ? GHCB_OUTS : GHCB_OUT;
		return (g->sw_exitinfo1 & IOIO_IN) != 0 ? kind + 1 : kind;
	default:
		return kind;
	}
}
_Static_assert(GHCB_IN == GHCB_OUT + 1 && GHCB_INS == GHCB_OUTS + 1, "IN follows OUT");

/* --- the page ----------------------------------------------------------------------------- */

/*
 * Fields that no event looks at are left out: the whole page would cost more
 * than most events. Nothing counts as an answer until there is one.
 */
static inline void copy_in(struct ghcb *to, volatile struct ghcb *from)
{
	to->valid_bitmap[0] = from->valid_bitmap[0];
	to->valid_bitmap[1] = from->valid_bitmap[1];
	from->valid_bitmap[0] = 0;
	from->valid_bitmap[1] = 0;
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

/* GHCB_OK, or why the request is not served. The usage was found to be right. */
static inline u32 check(const struct ghcb *g, const struct row *row, u32 fields)
{
	if (unlikely((EVENT & ~fields) != 0))
		return GHCB_ERR_MISSING;
	if (unlikely(g->protocol_version > GHCB_VERSION_MAX))
		return GHCB_ERR_INPUT;
	if (unlikely((row->in & NEW) != 0 && g->protocol_version < 2))
		return GHCB_ERR_EVENT;
	return unlikely((row->in & ~NEW & ~fields) != 0) ? GHCB_ERR_MISSING : GHCB_OK;
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

#define INFO (GHCB_V1(sw_exitinfo1) | GHCB_V1(sw_exitinfo2))

/* On an error the registers have no answer. */
static inline void answer(const struct vcpu *v, const struct ghcb_call *c, const struct row *row)
{
	volatile struct ghcb *g = c->page;
	u32 out = likely(c->out1 == GHCB_OK) ? row->out : 0;

	if ((out & RAX) != 0)
		g->rax = v->gpr[GPR_RAX];
	if ((out & RBX) != 0)
		g->rbx = v->gpr[GPR_RBX];
	if ((out & RCX) != 0)
		g->rcx = v->gpr[GPR_RCX];
	if ((out & RDX) != 0)
		g->rdx = v->gpr[GPR_RDX];
	g->sw_exitinfo1 = c->out1;
	g->sw_exitinfo2 = c->out2;
	g->valid_bitmap[0] = (u64)(out & RAX) << 32;
	g->valid_bitmap[1] = (u64)(out & ~RAX) << SHIFT | INFO;
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

/* es->page_gpa when no page was used: no page is there. */
#define NO_PAGE (~0UL)

/* NULL: not RAM. Page 0 is "not set". */
static struct ghcb *page_at(struct vcpu *v, gpa_t gpa)
{
	struct es_vcpu *es = v->es;
	size_t len = PAGE_SIZE;
	struct ghcb *page;

	if (likely(gpa == es->page_gpa))
		return es->page;
	if (gpa == 0)
		return NULL;
	page = vm_ram_ptr(v->vm, gpa, &len, true);
	if (page == NULL || len < PAGE_SIZE)
		return NULL;
	es->page_gpa = gpa;
	es->page = page;
	return page;
}

/* Decides what the copy asks for, and does it. */
static inline u32 serve(struct vcpu *v, struct ghcb_call *c, u32 *kind)
{
	u32 fields = fields_in(c->copy);
	u32 error = GHCB_ERR_USAGE;

	*kind = GHCB_UNKNOWN;
	if (likely(c->copy->ghcb_usage == 0)) {
		*kind = (fields & EVENT) == EVENT ? kind_of(c->copy) : GHCB_UNKNOWN;
		error = check(c->copy, &rows[*kind], fields);
	}
	v->es->events[*kind]++;
	if (unlikely(error != GHCB_OK))
		return ghcb_refuse(c, error);
	return rows[*kind].serve(v, c);
}

static __attribute__((noinline)) u32 page_request(struct vcpu *v, gpa_t gpa)
{
	struct es_vcpu *es = v->es;
	u32 result, kind;
	struct ghcb_call c;

	c.page = page_at(v, gpa);
	if (unlikely(c.page == NULL))
		return no_page(v, gpa);
	c.copy = es->copy;
	c.gpa = gpa;
	c.out1 = c.out2 = 0;
	copy_in(c.copy, c.page);
	es->version = c.copy->protocol_version;
	c.info1 = ghcb_get(c.copy, sw_exitinfo1);
	c.info2 = ghcb_get(c.copy, sw_exitinfo2);
	result = serve(v, &c, &kind);
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

static inline u32 answer_cpuid(struct vcpu *v, volatile struct ghcb *g, const struct cpuid_entry *e)
{
	v->es->events[GHCB_CPUID]++;
	v->exits[VEXIT_CPUID]++;
	g->rax = e->eax;
	g->rbx = e->ebx;
	g->rcx = e->ecx;
	g->rdx = e->edx;
	g->sw_exitinfo1 = GHCB_OK;
	g->sw_exitinfo2 = 0;
	g->valid_bitmap[0] = GHCB_V0(rax);
	g->valid_bitmap[1] = (u64)(RBX | RCX | RDX) << SHIFT | INFO;
	return VRESULT_RETRY;
}

/* Leaves that are not in the table; 0xD needs another field. */
static __attribute__((noinline)) u32 cpuid_computed(struct vcpu *v, u32 leaf)
{
	volatile struct ghcb *g = v->es->page;

	if (leaf == LEAF_XSAVE)
		return page_request(v, v->es->page_gpa);
	return answer_cpuid(v, g, cpuid_dynamic(v, leaf, (u32)g->rcx, v->es->cr4));
}

/*
 * The most frequent request in a few instructions: CPUID with nothing wrong about
 * it. Each field is read once here, too; when this is not such a request, nothing
 * has been done, and the copy is the first that counts.
 */
static inline bool plain_cpuid(struct es_vcpu *es, gpa_t gpa)
{
	const volatile struct ghcb *g = es->page;
	const u64 need1 = (u64)(EVENT | RCX) << SHIFT;
	u32 version;

	if (unlikely(gpa != es->page_gpa || trace_flags != 0))
		return false;
	if (g->sw_exitcode != rows[GHCB_CPUID].code || (need1 & ~g->valid_bitmap[1]) != 0 ||
	    (g->valid_bitmap[0] & GHCB_V0(rax)) == 0)
		return false;
	version = g->protocol_version;
	if (unlikely(g->ghcb_usage != 0 || version > GHCB_VERSION_MAX))
		return false;
	es->version = version;
	return true;
}

/* --- the interface ------------------------------------------------------------------------ */

u32 ghcb_vmgexit(struct vcpu *v)
{
	u64 msr = *v->es->ghcb_msr;
	const struct cpuid_entry *e;
	u32 leaf;

	if (unlikely((msr & ~PAGE_MASK) != 0))
		return ghcb_msr_request(v, msr);
	if (!plain_cpuid(v->es, msr))
		return page_request(v, msr);
	leaf = (u32)((volatile struct ghcb *)v->es->page)->rax;
	e = cpuid_static(&v->cpuid, leaf);
	return likely(e != NULL) ? answer_cpuid(v, v->es->page, e) : cpuid_computed(v, leaf);
}

void ghcb_reset(struct vcpu *v)
{
	struct es_vcpu *es = v->es;

	es->hold = ES_HOLD_NONE;
	es->wake = 0;
	es->version = 0;
	es->page_gpa = NO_PAGE;
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
