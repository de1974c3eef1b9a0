/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/trace.h"
#include "sev/ghcb_page.h"

/*
 * The MSR protocol: requests in the GHCB MSR itself, for code that has no page
 * yet (GHCB specification, 2.3). Bits 11:0 say what is asked or answered.
 */
#define CODE_MASK 0xfffUL
#define REQ_INFO 0x002U
#define REQ_CPUID 0x004U
#define REQ_RESET_HOLD 0x006U
#define REQ_PREFERRED_GPA 0x010U
#define REQ_REGISTER_GPA 0x012U
#define REQ_PAGE_STATE 0x014U
#define REQ_RUN_VMPL 0x016U
#define REQ_FEATURES 0x080U
#define REQ_TERMINATE 0x100U

#define ANSWER_INFO 0x001UL
#define ANSWER_CPUID 0x005UL
#define ANSWER_FEATURES 0x081UL

u64 ghcb_msr_info(const struct vcpu *v)
{
	u64 min = MAX(v->vm->es->min_version, GHCB_VERSION_MIN);
	u64 max = MAX(min, GHCB_VERSION_MAX);

	return max << 48 | min << 32 | (u64)sev_facts.c_bit << 24 | ANSWER_INFO;
}

/* One register of a leaf; there is no place for a subleaf, which is 0. */
static u64 cpuid_answer(struct vcpu *v, u64 request)
{
	static const u8 gpr[] = { GPR_RAX, GPR_RBX, GPR_RCX, GPR_RDX };
	u64 reg = request >> 30 & 3;
	u64 value;

	v->gpr[GPR_RAX] = request >> 32;
	v->gpr[GPR_RCX] = 0;
	(void)ghcb_dispatch(v, VEXIT_CPUID);
	value = (u32)v->gpr[gpr[reg]];
	for (u32 i = 0; i < ARRAY_SIZE(gpr); i++)
		v->gpr[gpr[i]] = 0;
	return value << 32 | reg << 30 | ANSWER_CPUID;
}

/* "Not here", in the form that each of SEV-SNP's requests has for it. */
static u64 snp_answer(u64 request)
{
	u64 answer = (request & CODE_MASK) + 1;

	if (answer == REQ_PREFERRED_GPA + 1 || answer == REQ_REGISTER_GPA + 1)
		return answer | ~CODE_MASK; /* no page */
	return answer | 0xffffffffUL << 32; /* error */
}

static u64 unknown(struct vcpu *v, u64 request)
{
	vdev_log(vm_host(v->vm), "vcpu %u: unknown request 0x%lx in the GHCB MSR, ignored", v->id,
		 request);
	return request;
}

static void trace(const struct vcpu *v, u64 request, u64 answer)
{
	struct trace_record r = {
		.vm = (u8)v->vm->id, .vcpu = (u8)v->id, .kind = TRACE_GHCB_MSR,
		.code = (u32)(request & CODE_MASK), .a = request, .b = answer,
	};

	trace_record(&r);
}

static u32 kind_of(u64 request)
{
	switch (request & CODE_MASK) {
	case REQ_INFO: return GHCB_MSR_INFO;
	case REQ_CPUID: return GHCB_MSR_CPUID;
	case REQ_RESET_HOLD: return GHCB_MSR_RESET_HOLD;
	case REQ_FEATURES: return GHCB_MSR_FEATURES;
	case REQ_TERMINATE: return GHCB_MSR_TERMINATE;
	case REQ_PREFERRED_GPA:
	case REQ_REGISTER_GPA:
	case REQ_PAGE_STATE:
	case REQ_RUN_VMPL: return GHCB_MSR_SNP;
	default: return GHCB_MSR_UNKNOWN;
	}
}

/* What the MSR holds afterwards. */
static u64 answer_to(struct vcpu *v, u32 kind, u64 request)
{
	switch (kind) {
	case GHCB_MSR_INFO: return ghcb_msr_info(v);
	case GHCB_MSR_CPUID: return cpuid_answer(v, request);
	case GHCB_MSR_FEATURES: return ANSWER_FEATURES; /* no feature */
	case GHCB_MSR_SNP: return snp_answer(request);
	case GHCB_MSR_UNKNOWN: return unknown(v, request);
	default: return request; /* answered when the hold ends, or never */
	}
}

u32 ghcb_msr_request(struct vcpu *v, u64 request)
{
	u32 kind = kind_of(request);
	u64 answer = answer_to(v, kind, request);

	v->es->events[kind]++;
	*v->es->ghcb_msr = answer;
	if (trace_flags != 0)
		trace(v, request, answer);
	if (kind == GHCB_MSR_TERMINATE)
		return ghcb_terminate(v, request >> 12 & 0xf, request >> 16 & 0xff);
	if (kind != GHCB_MSR_RESET_HOLD)
		return VRESULT_RETRY;
	v->es->hold = ES_HOLD_MSR;
	return ghcb_wait(v);
}
