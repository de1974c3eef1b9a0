/* SPDX-License-Identifier: BSD-2-Clause */
#include "es_rt.h"

/*
 * The GHCB protocol from a guest's side: rows 12 to 19 of docs/sev-es.md, and a guest
 * that means harm. tests/machine/test_sev_ghcb.py has the other half of each test.
 */

#define EVENT_CPUID 0x72
#define EVENT_IOIO 0x7B
#define EVENT_MSR 0x7C
#define EVENT_MMIO_READ 0x80000001
#define EVENT_MMIO_WRITE 0x80000002

#define RAM_END 0x1000000UL /* 16 MiB */
#define IOAPIC 0xFEC00000UL
#define LAPIC 0xFEE00000UL
#define NOBODY 0xFD000000UL
#define SCRATCH (SHARED_FREE + 0x1000)

static u64 buffer_gpa(void) { return (u64)es_ghcb()->buffer; }

/* Both words of an answer in one: INFO1 in the upper half. */
static u64 both(u64 info1)
{
	return (info1 & 0xFFFFFFFF) << 32 | (ghcb_get(GHCB_INFO2) & 0xFFFFFFFF);
}
#define ERROR(n) (2UL << 32 | (n))
#define OK 0UL

static u64 cpuid_event(u32 leaf)
{
	ghcb_clear();
	ghcb_put(GHCB_RAX, leaf);
	ghcb_put(GHCB_RCX, 0);
	return both(ghcb_event(EVENT_CPUID, 0, 0));
}

/* --- 12: the page --- */

/* Each check() uses the page itself to print: the answer is taken out of it before. */
static void vendor_string(void)
{
	union {
		u32 r[3];
		char text[13];
	} v = { .text = { 0 } };
	u64 answer = cpuid_event(0), valid[2];

	v.r[0] = (u32)ghcb_get(GHCB_RBX);
	v.r[1] = (u32)ghcb_get(GHCB_RDX);
	v.r[2] = (u32)ghcb_get(GHCB_RCX);
	valid[0] = es_ghcb()->valid[0];
	valid[1] = es_ghcb()->valid[1];
	check("CPUID 0", answer, OK);
	check("RAX is valid, nothing else below 64", valid[0], 1UL << 63);
	check("RCX RDX RBX INFO1 INFO2, too", valid[1], 7UL << 33 | 3UL << 51);
	print("es: vendor %s\n", v.text);
}

static void bad_fields(void)
{
	u64 r;

	ghcb_clear();
	es_ghcb()->usage = 1;
	r = both(ghcb_event(EVENT_CPUID, 0, 0));
	check("usage 1", r, ERROR(2));
	ghcb_clear();
	r = both(ghcb_event(EVENT_MSR, 0, 0));
	check("RDMSR without RCX", r, ERROR(4));
	ghcb_clear();
	ghcb_put(GHCB_RCX, 0xDEADBEEF);
	r = both(ghcb_event(EVENT_MSR, 0, 0));
	check("RDMSR of nothing", r, 1UL << 32 | 0x80000B0D);
	ghcb_clear();
	r = both(ghcb_event(0x55, 0, 0));
	check("event 0x55", r, ERROR(6));
	ghcb_clear();
	r = both(ghcb_event(0x80000010, 0, 0));
	check("page state change", r, ERROR(6));
	ghcb_clear();
	es_ghcb()->version = 9;
	r = both(ghcb_event(0x76, 0, 0));
	check("version 9", r, ERROR(5));
	ghcb_clear();
	es_ghcb()->version = 1;
	r = both(ghcb_event(0x8000FFFD, 0, 0));
	check("features by version 1", r, ERROR(6));
	ghcb_clear();
	r = both(ghcb_event(0x8000FFFD, 0, 0));
	check("features", r, OK);
	ghcb_clear();
	*(volatile u64 *)&es_ghcb()->save[GHCB_EXITCODE] = 0x76; /* there, but not valid */
	wrmsr(MSR_GHCB, (u64)es_ghcb());
	vmgexit();
	r = both(ghcb_get(GHCB_INFO1));
	check("no exit code", r, ERROR(4));
}

static void bad_pages(void)
{
	const u64 pages[] = { 0, RAM_END, 0xA0000, IOAPIC, 0xFFFFF000, es_c_mask | (u64)es_ghcb(),
			      1UL << 46, ~0xFFFUL };

	for (u32 i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		u64 msr;

		wrmsr(MSR_GHCB, pages[i]);
		vmgexit();
		msr = rdmsr(MSR_GHCB);
		check("page that is none", msr, pages[i]);
	}
}

static void pages(void)
{
	vendor_string();
	bad_fields();
	bad_pages();
	vendor_string();
}

/* --- 13, 17: what a trace must show --- */

static volatile u32 told;

static void on_nmi(struct es_frame *f)
{
	(void)f;
	told = 1;
}

/* The list comes after the trace is off: printing it would fill the trace. */
static void traced(void)
{
	static const struct {
		u32 event;
		u64 info1, info2;
	} calls[] = {
		{ EVENT_CPUID, 0, 0 }, { 0x55, 0x1234, 0x5678 }, { EVENT_MSR, 0, 0x99 },
		{ 0x80000005, 1, 0 },
		{ EVENT_MMIO_READ, IOAPIC, 4 }, { EVENT_MMIO_READ, IOAPIC, 3 },
		{ 0x6E, 0, 0 }, { 0x8000FFFD, 0, 0 },
	};
	static const u64 requests[] = { 0x002, 0x333, 4UL | 1UL << 30 };
	u64 answer[8], response[3];

	es_handler[2] = on_nmi;
	for (u32 i = 0; i < 8; i++) {
		ghcb_clear();
		ghcb_put(GHCB_RAX, 0);
		ghcb_put(GHCB_RCX, calls[i].event == EVENT_MSR ? 0xDEADBEEF : 0);
		ghcb_put(GHCB_SCRATCH, buffer_gpa());
		answer[i] = both(ghcb_event(calls[i].event, calls[i].info1, calls[i].info2));
	}
	for (u32 i = 0; i < 3; i++)
		response[i] = ghcb_msr_call(requests[i]);
	print("es: called\n");
	while (!told)
		hlt();
	for (u32 i = 0; i < 8; i++)
		print("es: event 0x%x info 0x%lx 0x%lx result %u/%u\n", calls[i].event,
		      calls[i].info1, calls[i].info2, (u32)(answer[i] >> 32),
		      answer[i] >> 32 == 2 ? (u32)answer[i] : 0);
	for (u32 i = 0; i < 3; i++)
		print("es: request 0x%lx response 0x%lx\n", requests[i], response[i]);
}

/* --- 14, 15, 17: the MSR protocol --- */

static void info(void)
{
	u64 offer = ghcb_msr_call(2), min = offer >> 32 & 0xFFFF, max = offer >> 48;
	u32 r[4];

	print("es: first 0x%lx offer 0x%lx\n", es_first_msr, offer);
	if (min > 2 || max < 1)
		es_terminate(0, 1);
	cpuid(0x8000001F, 0, r);
	check("the same before any request", es_first_msr, offer);
	check("code", offer & 0xFFF, 1);
	check("C-bit", offer >> 24 & 0xFF, r[1] & 0x3F);
	check("minimum", min, 1);
	check("maximum", max, 2);
}

static void cpuid_by_msr(void)
{
	static const u32 leaves[] = { 0, 1, 0x8000001F };

	for (u32 i = 0; i < 3; i++) {
		u64 by_page[4], by_msr[4], odd;

		(void)cpuid_event(leaves[i]);
		by_page[0] = ghcb_get(GHCB_RAX);
		by_page[1] = ghcb_get(GHCB_RBX);
		by_page[2] = ghcb_get(GHCB_RCX);
		by_page[3] = ghcb_get(GHCB_RDX);
		for (u64 r = 0; r < 4; r++) {
			by_msr[r] = ghcb_msr_call((u64)leaves[i] << 32 | r << 30 | 4);
			odd = ghcb_msr_call((u64)leaves[i] << 32 | r << 30 | 0x3FFFF004);
			check("reserved bits are ignored", odd, by_msr[r]);
			check("code and register", by_msr[r] & 0xFFFFFFFF, r << 30 | 5);
			check("as by the page", by_msr[r] >> 32, by_page[r]);
		}
	}
}

static void unknown_request(void)
{
	u64 r = ghcb_msr_call(0x333);

	check("0x333 unchanged", r, 0x333);
	r = ghcb_msr_call(0x080);
	check("no features", r, 0x081);
	r = ghcb_msr_call(0x010);
	check("no preferred GHCB", r, 0xFFFFFFFFFFFFF011);
}

/* --- 18: device memory --- */

static u64 mmio(bool write, u64 gpa, u64 size, u64 scratch)
{
	ghcb_clear();
	ghcb_put(GHCB_SCRATCH, scratch);
	return both(ghcb_event(write ? EVENT_MMIO_WRITE : EVENT_MMIO_READ, gpa, size));
}

static void devices(void)
{
	volatile u64 *buffer = (volatile u64 *)buffer_gpa();
	u64 r;

	for (u64 size = 1; size <= 8; size <<= 1) {
		*buffer = 0x10 + size;
		r = mmio(true, IOAPIC, size, buffer_gpa());
		check("write", r, OK);
		*buffer = ~0UL;
		r = mmio(false, IOAPIC, size, buffer_gpa());
		check("read", r, OK);
		/* Nothing beyond the size is touched. */
		check("read back", *buffer, size == 8 ? 0x18 : (~0UL << 8 * size) | (0x10 + size));
		*buffer = 0;
		r = mmio(false, NOBODY, size, buffer_gpa());
		check("nobody's", r, OK);
		check("all ones", *buffer, size == 8 ? ~0UL : (1UL << 8 * size) - 1);
	}
	*buffer = 0;
	r = mmio(false, LAPIC + 0x30, 4, buffer_gpa());
	check("local APIC", r, OK);
	check("its version", *buffer & 0xF0, 0x10);
	*buffer = 0x20;
	(void)mmio(true, LAPIC + 0x80, 4, buffer_gpa());
	*buffer = 0;
	(void)mmio(false, LAPIC + 0x80, 4, buffer_gpa());
	check("its TPR", *buffer, 0x20);
	*buffer = 0;
	(void)mmio(true, LAPIC + 0x80, 4, buffer_gpa());
}

static u64 private_word = 0x1122334455667788;

static void bad_devices(void)
{
	static const u64 sizes[] = { 0, 3, 5, 16, 4096, 1UL << 32 | 4, ~0UL };
	const u64 gpas[] = { 0x1000, SCRATCH, (u64)&private_word, (u64)es_ghcb(), RAM_END - 8,
			     es_c_mask | IOAPIC, IOAPIC + 0xFFC, 0xFFFF800000100000 };
	volatile u64 *scratch = (volatile u64 *)SCRATCH;
	u64 r;

	*scratch = 0x5A5A;
	for (u32 w = 0; w < 2; w++) {
		for (u32 i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			r = mmio(w, IOAPIC, sizes[i], buffer_gpa());
			check("size", r, ERROR(5));
		}
		for (u32 i = 0; i < sizeof(gpas) / sizeof(gpas[0]); i++) {
			r = mmio(w, gpas[i], 8, buffer_gpa());
			check("address", r, ERROR(5));
		}
		r = mmio(w, IOAPIC, 4, SCRATCH);
		check("scratch elsewhere in RAM", r, ERROR(3));
		r = mmio(w, IOAPIC, 4, (u64)es_ghcb());
		check("scratch in the save area", r, ERROR(3));
		r = mmio(w, IOAPIC, 4, buffer_gpa() + 2030);
		check("scratch beyond the buffer", r, ERROR(3));
		r = mmio(w, IOAPIC, 4, es_c_mask | buffer_gpa());
		check("scratch with the C-bit", r, ERROR(3));
	}
	check("RAM is as it was", *scratch, 0x5A5A);
	check("private RAM, too", private_word, 0x1122334455667788);
}

/* --- 19: ports --- */

#define IOIO(port, size, rest) ((u64)(port) << 16 | 0x400 | (u64)(size) << 4 | (rest))
#define STRING_OUT 4u
#define STRING_IN 5u
#define REP 8u
#define COM2_SCRATCH 0x2FF
#define NO_PORT 0x4444

static u64 string_io(u64 info1, u64 count, u64 scratch)
{
	ghcb_put(GHCB_SCRATCH, scratch);
	return both(ghcb_event(EVENT_IOIO, info1, count));
}

static void text_out(void)
{
	volatile u8 *b = es_ghcb()->buffer;
	u64 r;

	ghcb_clear();
	for (u32 i = 0; i < 298; i++)
		b[i] = (u8)('a' + i % 26);
	b[298] = '\r';
	b[299] = '\n';
	r = string_io(IOIO(COM1, 1, STRING_OUT | REP), 300, buffer_gpa());
	check("REP OUTSB", r, OK);
}

static void pattern_in(void)
{
	volatile u8 *b = es_ghcb()->buffer;
	volatile u16 *w = (volatile u16 *)b;
	u32 wrong = 0;
	u64 r;

	outb(COM2_SCRATCH, 0xA5);
	ghcb_clear();
	b[40] = 0x77;
	r = string_io(IOIO(COM2_SCRATCH, 1, STRING_IN | REP), 40, buffer_gpa());
	for (u32 i = 0; i < 40; i++)
		wrong += b[i] != 0xA5;
	wrong += b[40] != 0x77;
	check("REP INSB", r, OK);
	check("its bytes", wrong, 0);
	ghcb_clear();
	r = string_io(IOIO(COM2_SCRATCH - 1, 2, STRING_IN | REP), 20, buffer_gpa());
	for (u32 i = 0; i < 20; i++)
		wrong += w[i] >> 8 != 0xA5;
	check("REP INSW", r, OK);
	check("its words", wrong, 0);
	ghcb_clear();
	r = string_io(IOIO(NO_PORT, 4, STRING_IN | REP), 3, buffer_gpa());
	for (u32 i = 0; i < 12; i++)
		wrong += b[i] != 0xFF;
	check("nobody's port", r, OK);
	check("all ones", wrong, 0);
}

static void bad_strings(void)
{
	static const u64 counts[] = { 2033, 0x80000000, 1UL << 32, 1UL << 62, ~0UL };
	volatile u8 *b = es_ghcb()->buffer;
	u64 r;

	for (u32 i = 0; i < 5; i++) {
		for (u32 in = 0; in < 2; in++) {
			ghcb_clear();
			b[0] = 0x33;
			r = string_io(IOIO(COM2_SCRATCH, 1, STRING_OUT | REP | in), counts[i],
				      buffer_gpa());
			check("too many", r, ERROR(3));
			ghcb_clear();
			r = string_io(IOIO(COM2_SCRATCH, 4, STRING_OUT | REP | in), 509,
				      buffer_gpa());
			check("count times size", r, ERROR(3));
			check("buffer as it was", b[0], 0x33);
		}
	}
	for (u32 rest = 0; rest < 16; rest++) {
		ghcb_clear();
		ghcb_put(GHCB_RAX, 0);
		r = string_io(IOIO(COM2_SCRATCH, 0, rest), 1, buffer_gpa());
		check("size bits 0", r, ERROR(5));
	}
	check("nothing went out", inb(COM2_SCRATCH), 0xA5);
	check("nobody's port", inb(NO_PORT), 0xFF);
}

/* With version 1 the data may be anywhere in RAM that is shared. */
static void scratch_of_version_1(void)
{
	volatile u8 *scratch = (volatile u8 *)SCRATCH;
	u64 r;

	ghcb_clear();
	es_ghcb()->version = 1;
	scratch[100] = 0x77;
	r = string_io(IOIO(COM2_SCRATCH, 1, STRING_IN | REP), 100, SCRATCH);
	check("version 1: anywhere", r, OK);
	check("the data", scratch[0] == 0xA5 && scratch[99] == 0xA5 && scratch[100] == 0x77, 1);
	ghcb_clear();
	es_ghcb()->version = 1;
	r = string_io(IOIO(COM2_SCRATCH, 1, STRING_IN | REP), 4 * 4096 + 1, SCRATCH);
	check("version 1: no more than 4 pages", r, ERROR(3));
	ghcb_clear();
	es_ghcb()->version = 1;
	r = string_io(IOIO(COM2_SCRATCH, 1, STRING_IN | REP), 16, RAM_END - 8);
	check("version 1: beyond RAM", r, ERROR(3));
}

static void ports(void)
{
	text_out();
	pattern_in();
	bad_strings();
	scratch_of_version_1();
}

/* --- a guest that means harm --- */

static u64 seed;
static volatile u32 other_runs, over;

static u64 rnd_of(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

#define PICK(state, list) ((list)[rnd_of(state) % (sizeof(list) / sizeof((list)[0]))])

/* What would end the guest itself is left out: termination, power, reset, the debug exit. */
static const u64 events[] = {
	0x27, 0x37, 0x6E, 0x6F, 0x72, 0x72, 0x76, 0x7B, 0x7B, 0x7B, 0x7C, 0x7C, 0x81, 0x87, 0x89,
	0x8A, 0x8B, 0x80000001, 0x80000001, 0x80000002, 0x80000002, 0x80000003, 0x80000004,
	0x80000005, 0x80000010, 0x80000011, 0x80000012, 0x80000013, 0x8000FFFD, 0x55, 0x400, 0,
	1UL << 63 | 0x72,
};
static const u64 ports_of[] = { 0x20, 0x21, 0x40, 0x43, 0x61, 0x70, 0x71, 0x80, 0x2F8, 0x2FF,
				0x3FF, 0x402, NO_PORT, 0xFFFF };
static const u64 gpas_of[] = { IOAPIC, IOAPIC + 0x10, IOAPIC + 0xFFC, LAPIC + 0x20, NOBODY, 0xA0000,
			       RAM_END, 1UL << 46, 1UL << 47, 1UL << 51, ~0UL, 0xFFFFFFF8 };
static const u64 msrs_of[] = { 0x10, 0x8B, 0xFE, 0x200, 0x277, 0x2FF, 0x802, 0x808, 0x80B, 0x80D,
			       0xC0000080, 0xC0000103, 0xC0010015, 0xC0010117, 0xC0010130,
			       0x4B564D00, 0x4B564D01, 0x4B564D03, 0xDEADBEEF };
static const u64 counts_of[] = { 0, 1, 2, 3, 4, 8, 16, 100, 508, 509, 2032, 2033, 4096, 1UL << 31,
				 1UL << 32, 1UL << 62, ~0UL };

/* Shared memory, no RAM at all, or an address with bits it must not have: never private memory,
 * which the hypervisor may well be asked to write to. */
static u64 harmful_scratch(u64 *s)
{
	switch (rnd_of(s) % 4) {
	case 0: return PICK(s, gpas_of);
	case 1: return SHARED_FREE + rnd_of(s) % 0x100000;
	case 2: return (u64)GHCB_OF(0) + rnd_of(s) % 0x1000;
	default: return (u64)GHCB_OF(0)->buffer + rnd_of(s) % 64;
	}
}

static u64 harmful_info1(u64 *s)
{
	switch (rnd_of(s) % 4) {
	case 0: return rnd_of(s) & 1;
	case 1: return PICK(s, gpas_of);
	default: return PICK(s, ports_of) << 16 | (rnd_of(s) & 0xFFF);
	}
}

/* A reset hold needs another CPU to end it, and lasts until that has its turn. */
static bool hold_wanted(u64 *s)
{
	return es_args[2] != 0 && rnd_of(s) % 16 == 0;
}

static u64 harmful_event(u64 *s)
{
	u64 event = PICK(s, events);

	return event == 0x80000004 && !hold_wanted(s) ? 0x80000003 : event;
}

static void harmful_word(u64 *s, volatile struct es_ghcb *g)
{
	volatile u64 *word = (volatile u64 *)g;

	switch (rnd_of(s) % 12) {
	case 0: word[GHCB_EXITCODE / 8] = harmful_event(s); break;
	case 1: word[GHCB_INFO1 / 8] = harmful_info1(s); break;
	case 2: word[GHCB_INFO2 / 8] = PICK(s, counts_of); break;
	case 3: word[GHCB_SCRATCH / 8] = harmful_scratch(s); break;
	case 4: word[GHCB_RAX / 8] = SHARED_FREE | (rnd_of(s) & 0xFF); break;
	case 5: word[GHCB_RCX / 8] = PICK(s, msrs_of); break;
	case 6: word[GHCB_RDX / 8] = rnd_of(s) % 2; break;
	case 7: word[GHCB_XCR0 / 8] = rnd_of(s) & 0xFF; break;
	case 8: g->valid[0] = rnd_of(s) % 4 != 0 ? ~0UL : rnd_of(s); break;
	case 9: g->valid[1] = rnd_of(s) % 4 != 0 ? ~0UL : rnd_of(s); break;
	case 10: g->version = (u16)(rnd_of(s) % 8 != 0 ? 1 + rnd_of(s) % 2 : rnd_of(s)); break;
	default: g->usage = rnd_of(s) % 8 == 0 ? (u32)rnd_of(s) : 0; break;
	}
}

static void harmful_page(u64 *s, volatile struct es_ghcb *g)
{
	volatile u64 *word = (volatile u64 *)g;

	word[GHCB_EXITCODE / 8] = harmful_event(s);
	word[GHCB_INFO1 / 8] = harmful_info1(s);
	word[GHCB_INFO2 / 8] = rnd_of(s) % 4 == 0 ? PICK(s, counts_of) : 1UL << rnd_of(s) % 4;
	word[GHCB_SCRATCH / 8] = harmful_scratch(s);
	word[GHCB_RAX / 8] = SHARED_FREE | (rnd_of(s) & 0xFF);
	word[GHCB_RBX / 8] = 0; /* no interprocessor interrupt by hypercall */
	word[GHCB_RCX / 8] = PICK(s, msrs_of);
	word[GHCB_RDX / 8] = 0;
	g->save[GHCB_CPL] = rnd_of(s) & 3;
	g->valid[0] = rnd_of(s) % 8 != 0 ? ~0UL : rnd_of(s);
	g->valid[1] = rnd_of(s) % 8 != 0 ? ~0UL : rnd_of(s);
	g->usage = 0;
	g->version = (u16)(1 + rnd_of(s) % 2);
	for (u64 n = rnd_of(s) % 8; n != 0; n--)
		harmful_word(s, g);
}

static u64 harmful_msr(u64 *s)
{
	static const u64 codes[] = { 1, 2, 4, 5, 6, 7, 0x10, 0x12, 0x14, 0x16, 0x80, 0x333, 0xFFF };
	static const u64 pages[] = { 0, RAM_END, 0xA0000, IOAPIC, 1UL << 47, 1UL << 51,
				     0xFFFFFFFFFFFFF000 };

	u64 code = PICK(s, codes);

	if (rnd_of(s) % 4 == 0)
		return PICK(s, pages);
	if (code == 6 && !hold_wanted(s))
		code = 7;
	return (rnd_of(s) & ~0xFFFUL) | code;
}

#define PRIVATE_SIZE 0x80000UL
static u64 private_area[PRIVATE_SIZE / 8] __attribute__((aligned(4096)));

static u32 private_changed(void)
{
	u32 n = 0;

	for (u64 i = 0; i < PRIVATE_SIZE / 8; i++)
		n += private_area[i] != (i ^ 0xC0DE000000000000);
	return n;
}

/* The other CPU: the first one's GHCB all the time, and an end to its reset holds. */
static void other(void)
{
	u64 s = es_args[1] * 3 + 0x1234567;

	x2apic_on();
	other_runs = 1;
	while (other_runs == 1)
		pause_cpu();
	for (u32 n = 0; !over; n++) {
		harmful_word(&s, GHCB_OF(0));
		if (n % 256 == 0)
			send_ipi(0, IPI_SIPI);
	}
	other_runs = 3;
}

static void harm(void)
{
	volatile struct es_ghcb *g = GHCB_OF(0);
	u64 pages_sent = 0, requests = 0;

	seed = es_args[1] * 0x9E3779B97F4A7C15 + 1;
	for (u64 i = 0; i < PRIVATE_SIZE / 8; i++)
		private_area[i] = i ^ 0xC0DE000000000000;
	x2apic_on();
	if (es_args[2] != 0) {
		start_ap(1, 0);
		check_true("the other CPU runs", wait_until(&other_runs, 1, 100000000));
		other_runs = 2;
	}
	for (u64 i = 0; i < es_args[0]; i++) {
		if (rnd_of(&seed) % 8 == 0) {
			wrmsr(MSR_GHCB, harmful_msr(&seed));
			requests++;
		} else {
			harmful_page(&seed, g);
			wrmsr(MSR_GHCB, (u64)g);
			pages_sent++;
		}
		vmgexit();
	}
	over = 1;
	while (other_runs == 2) /* not a word before it is quiet: the console needs the page */
		pause_cpu();
	check("private words changed", private_changed(), 0);
	print("es: %lu pages, %lu requests\n", pages_sent, requests);
	vendor_string();
}

/* --- cost, for an emulator that counts instructions by the TSC --- */

static u64 tsc(void)
{
	u32 lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (u64)hi << 32 | lo;
}

/* The median of 101 rounds, without the two RDTSC: an interrupt falls into some. */
static u64 cost_of(void (*fill)(void))
{
	static u64 sorted[101];
	u64 empty = ~0UL;

	for (u32 i = 0; i < 101; i++) {
		u64 start, ticks;
		u32 at = i;

		ghcb_clear();
		fill();
		wrmsr(MSR_GHCB, (u64)es_ghcb());
		start = tsc();
		ticks = tsc() - start;
		empty = ticks < empty ? ticks : empty;
		start = tsc();
		vmgexit();
		ticks = tsc() - start;
		for (; at > 0 && sorted[at - 1] > ticks; at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = ticks;
	}
	return sorted[50] - empty;
}

static void put_event(u64 code, u64 info1, u64 info2)
{
	ghcb_put(GHCB_EXITCODE, code);
	ghcb_put(GHCB_INFO1, info1);
	ghcb_put(GHCB_INFO2, info2);
	ghcb_put(GHCB_RAX, 0);
	ghcb_put(GHCB_RDX, 0);
	ghcb_put(GHCB_SCRATCH, buffer_gpa());
}

static void ask_cpuid(void)
{
	put_event(EVENT_CPUID, 0, 0);
	ghcb_put(GHCB_RCX, 0);
}

static void ask_cpuid_1(void)
{
	put_event(EVENT_CPUID, 0, 0);
	ghcb_put(GHCB_RAX, 1);
	ghcb_put(GHCB_RCX, 0);
}

static void ask_eoi(void)
{
	put_event(EVENT_MSR, 1, 0);
	ghcb_put(GHCB_RCX, 0x80B);
}

static void ask_mmio(void) { put_event(EVENT_MMIO_READ, IOAPIC, 4); }
static void ask_port(void) { put_event(EVENT_IOIO, (u64)COM2_SCRATCH << 16 | 0x411, 0); }

static void cost(void)
{
	x2apic_on();
	print("es: cost cpuid %lu cpuid-1 %lu eoi %lu mmio-read %lu in %lu\n", cost_of(ask_cpuid),
	      cost_of(ask_cpuid_1), cost_of(ask_eoi), cost_of(ask_mmio), cost_of(ask_port));
}

/* --- the list --- */

static const struct {
	u32 number;
	void (*test)(void);
} tests[] = {
	{ 100, cost },
	{ 112, pages },
	{ 113, traced },
	{ 114, info },
	{ 115, cpuid_by_msr },
	{ 117, unknown_request },
	{ 118, devices },
	{ 218, bad_devices },
	{ 119, ports },
	{ 112000, harm },
};

bool es_ghcb_test(u32 number)
{
	for (u32 i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		if (tests[i].number != number)
			continue;
		tests[i].test();
		return true;
	}
	return false;
}

void es_ghcb_ap(u32 cpu)
{
	(void)cpu;
	if (es_test == 112000)
		other();
}
