/* SPDX-License-Identifier: BSD-2-Clause */
#include "vc.h"

#define MSR_GHCB 0xc0010130u

/* The GHCB's fields by offset (GHCB specification, 2.6, table 3). */
#define RAX 0x1f8u
#define RCX 0x308u
#define RDX 0x310u
#define RBX 0x318u
#define RSI 0x330u
#define CPL 0x0cbu
#define EXITCODE 0x390u
#define EXITINFO1 0x398u
#define EXITINFO2 0x3a0u
#define XCR0 0x3e8u

struct ghcb {
	uint8_t save[0x3f0];
	uint64_t valid[2]; /* bit n: the field at offset 8 * n */
	uint8_t rest[0xffa - 0x400];
	uint16_t version;
	uint32_t usage;
};
_Static_assert(sizeof(struct ghcb) == 4096, "one page");
_Static_assert(offsetof(struct ghcb, version) == 0xffa, "GHCB specification, table 3");

/* One page for each CPU: a request is never in two hands. */
static PV_SHARED __attribute__((aligned(4096))) struct ghcb ghcbs[KERNEL_CPUS];
static uint16_t version;

extern uint8_t boot_stack[], shared_start[], shared_end[];

#define STACK_SHIFT 14 /* start.asm: CPU 0's stack, then those of 1, 2, ... */

uint32_t vc_cpu(void)
{
	uint64_t sp = (uint64_t)__builtin_frame_address(0);

	return (uint32_t)((sp - (uint64_t)boot_stack) >> STACK_SHIFT);
}

static uint64_t read_msr(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(MSR_GHCB));
	return (uint64_t)hi << 32 | lo;
}

static void vmgexit(uint64_t msr)
{
	__asm__ volatile("wrmsr\n\trep; vmmcall"
			 : : "c"(MSR_GHCB), "a"((uint32_t)msr), "d"((uint32_t)(msr >> 32))
			 : "memory");
}

/* Reason set 0 is the specification's, 1 ours; the hypervisor may report it, nothing else works. */
enum { SET_SPEC, SET_OURS };
enum { NO_VERSION = 1 };                                             /* set 0 */
enum { UNKNOWN_INSTRUCTION = 1, NO_ANSWER, REFUSED, EXCEPTION };     /* set 1 */

static _Noreturn void terminate(uint32_t set, uint32_t reason)
{
	for (;;)
		vmgexit(0x100 | set << 12 | reason << 16);
}

/* --- one request ----------------------------------------------------------------------------- */

static volatile struct ghcb *open_request(void)
{
	volatile struct ghcb *g = &ghcbs[vc_cpu()];

	g->valid[0] = g->valid[1] = 0;
	g->version = version;
	g->usage = 0;
	return g;
}

static void mark(volatile struct ghcb *g, uint32_t offset)
{
	g->valid[offset / 512] |= 1ull << (offset / 8 % 64);
}

static void put(volatile struct ghcb *g, uint32_t offset, uint64_t value)
{
	*(volatile uint64_t *)&g->save[offset] = value;
	mark(g, offset);
}

/* An answer that is not marked valid is none. */
static uint64_t get(const volatile struct ghcb *g, uint32_t offset)
{
	if ((g->valid[offset / 512] >> (offset / 8 % 64) & 1) == 0)
		terminate(SET_OURS, NO_ANSWER);
	return *(const volatile uint64_t *)&g->save[offset];
}

/* All exceptions end this kernel: one that the hypervisor asks for does so here. */
static void request(volatile struct ghcb *g, uint64_t code, uint64_t info1)
{
	uint32_t outcome;

	put(g, EXITCODE, code);
	put(g, EXITINFO1, info1);
	put(g, EXITINFO2, 0);
	vmgexit((uint64_t)g);
	outcome = (uint32_t)*(volatile uint64_t *)&g->save[EXITINFO1];
	if (outcome != 0)
		terminate(SET_OURS, outcome == 1 ? EXCEPTION : REFUSED);
}

/* --- instructions ---------------------------------------------------------------------------- */

static void do_cpuid(struct frame *f, volatile struct ghcb *g)
{
	put(g, RAX, f->rax);
	put(g, RCX, f->rcx);
	if ((uint32_t)f->rax == 0xd)
		put(g, XCR0, 1);
	request(g, 0x72, 0);
	f->rax = get(g, RAX);
	f->rbx = get(g, RBX);
	f->rcx = get(g, RCX);
	f->rdx = get(g, RDX);
	f->rip += 2;
}

/* 0F 30 writes, 0F 32 reads. */
static void do_msr(struct frame *f, volatile struct ghcb *g, const uint8_t *code)
{
	bool write = code[1] == 0x30;

	put(g, RCX, (uint32_t)f->rcx);
	if (write) {
		put(g, RAX, (uint32_t)f->rax);
		put(g, RDX, (uint32_t)f->rdx);
	}
	request(g, 0x7c, write);
	if (!write) {
		f->rax = (uint32_t)get(g, RAX);
		f->rdx = (uint32_t)get(g, RDX);
	}
	f->rip += 2;
}

/* IN and OUT of a register: 66 before a word's; E4..E7 with the port in a byte, EC..EF in DX. */
static void do_io(struct frame *f, volatile struct ghcb *g, const uint8_t *code)
{
	uint32_t word = code[0] == 0x66, size, len = word + 1;
	uint8_t op = code[word];
	bool in = (op & 2) == 0;
	uint64_t port = (uint16_t)f->rdx, mask;

	if ((op & 0xf4) != 0xe4)
		terminate(SET_OURS, UNKNOWN_INSTRUCTION);
	if ((op & 8) == 0) {
		port = code[word + 1];
		len++;
	}
	size = (op & 1) == 0 ? 1 : word ? 2 : 4;
	mask = size == 4 ? 0xffffffff : (1u << 8 * size) - 1;
	put(g, RAX, in ? 0 : f->rax & mask);
	request(g, 0x7b, port << 16 | 0x200 | size << 4 | in);
	if (in) /* a double word clears the register's upper half */
		f->rax = (size == 4 ? 0 : f->rax & ~mask) | (get(g, RAX) & mask);
	f->rip += len;
}

static void do_hypercall(struct frame *f, volatile struct ghcb *g)
{
	put(g, RAX, f->rax);
	put(g, RBX, f->rbx);
	put(g, RCX, f->rcx);
	put(g, RDX, f->rdx);
	put(g, RSI, f->rsi);
	g->save[CPL] = 0;
	mark(g, CPL);
	request(g, 0x81, 0);
	f->rax = get(g, RAX);
	f->rip += 3;
}

static void serve(struct frame *f, volatile struct ghcb *g)
{
	const uint8_t *code = (const uint8_t *)f->rip;

	switch (f->error) {
	case 0x72:
		do_cpuid(f, g);
		break;
	case 0x7b:
		do_io(f, g, code);
		break;
	case 0x7c:
		do_msr(f, g, code);
		break;
	case 0x81:
		do_hypercall(f, g);
		break;
	case 0x76: /* INVD, WBINVD */
	case 0x89:
		request(g, f->error, 0);
		f->rip += 2;
		break;
	default: /* a device's registers, a debug register, ...: this kernel uses none */
		terminate(SET_OURS, UNKNOWN_INSTRUCTION);
	}
}

void vc_handle(struct frame *f)
{
	serve(f, open_request());
}

/* --- start ----------------------------------------------------------------------------------- */

/* SEV_INFO in the MSR at reset: bits 63:48 highest, 47:32 lowest version (2.3.1). */
void vc_init(void)
{
	uint64_t info = read_msr();
	uint32_t highest = (uint32_t)(info >> 48), lowest = (uint32_t)(info >> 32 & 0xffff);

	if ((info & 0xfff) != 1 || lowest > 2 || highest == 0)
		terminate(SET_SPEC, NO_VERSION);
	version = highest >= 2 ? 2 : 1;
	/* Shared from now on: what is there is what encrypted zeros look like. */
	memset(shared_start, 0, (size_t)(shared_end - shared_start));
}
