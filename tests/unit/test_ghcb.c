/* SPDX-License-Identifier: BSD-2-Clause */
// sources: sev/ghcb.c sev/ghcb_msr.c sev/ghcb_io.c sev/ghcb_stats.c core/dispatch.c core/cpuid.c core/msr.c core/hypercall.c arch/x86/svm/guest_cpu.c
/*
 * The GHCB protocol against its specification: layout, what each event needs
 * and answers, errors, and that nothing is read twice. Layouts, codes and
 * formats are the specification's, written out here as numbers.
 */
#include "tests/unit/ghcb_mock.h"

static char printed[4096];
void log_printf(const char *fmt, ...)
{
	size_t used = strlen(printed);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(printed + used, sizeof(printed) - used, fmt, ap);
	va_end(ap);
}

/* --- the page ----------------------------------------------------------------------------------- */

/* Offset and bit of each field (GHCB specification, table 3). */
static const struct {
	const char *name;
	u32 offset, size, bit, ours, our_bit;
} fields[] = {
#define F(name, offset, size, bit) \
	{ #name, offset, size, bit, offsetof(struct ghcb, name), GHCB_BIT(name) }
	F(cpl, 0x0cb, 1, 25),
	F(xss, 0x140, 8, 40),
	F(dr7, 0x160, 8, 44),
	F(rip, 0x178, 8, 47),
	F(rsp, 0x1d8, 8, 59),
	F(rax, 0x1f8, 8, 63),
	F(rcx, 0x308, 8, 97),
	F(rdx, 0x310, 8, 98),
	F(rbx, 0x318, 8, 99),
	F(rbp, 0x328, 8, 101),
	F(rsi, 0x330, 8, 102),
	F(rdi, 0x338, 8, 103),
	F(r8, 0x340, 8, 104),
	F(r9, 0x348, 8, 105),
	F(r10, 0x350, 8, 106),
	F(r11, 0x358, 8, 107),
	F(r12, 0x360, 8, 108),
	F(r13, 0x368, 8, 109),
	F(r14, 0x370, 8, 110),
	F(r15, 0x378, 8, 111),
	F(sw_exitcode, 0x390, 8, 114),
	F(sw_exitinfo1, 0x398, 8, 115),
	F(sw_exitinfo2, 0x3a0, 8, 116),
	F(sw_scratch, 0x3a8, 8, 117),
	F(xcr0, 0x3e8, 8, 125),
#undef F
};

static void row04_offsets_and_bits(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		assert_int_equal(fields[i].ours, fields[i].offset);
		assert_int_equal(fields[i].our_bit, fields[i].bit);
	}
	assert_int_equal(offsetof(struct ghcb, valid_bitmap), 0x3f0);
	assert_int_equal(offsetof(struct ghcb, shared_buffer), 0x800);
	assert_int_equal(sizeof(guest_page()->shared_buffer), 2032);
	assert_int_equal(offsetof(struct ghcb, protocol_version), 0xffa);
	assert_int_equal(offsetof(struct ghcb, ghcb_usage), 0xffc);
}

/* Each field is set, tested and got alone: no other one turns valid with it. */
static void row04_accessors(void **state)
{
	struct ghcb *g = guest_page();
	u8 *bitmap = (u8 *)g + 0x3f0;

#define TRY(i, name)                                                                 \
	do {                                                                         \
		memset(g, 0xee, sizeof(*g));                                         \
		memset(bitmap, 0, 16);                                               \
		assert_false(ghcb_has(g, name));                                     \
		assert_int_equal(ghcb_get(g, name), 0); /* absent, not 0xee... */    \
		ghcb_set(g, name, 0x5a);                                             \
		assert_true(ghcb_has(g, name));                                      \
		assert_int_equal(ghcb_get(g, name), 0x5a);                           \
		assert_int_equal(*((u8 *)g + fields[i].offset), 0x5a);               \
		for (u32 b = 0; b < 128; b++)                                        \
			assert_int_equal(bitmap[b / 8] >> (b % 8) & 1, b == fields[i].bit); \
		memset(bitmap, 0xff, 16);                                            \
		bitmap[fields[i].bit / 8] &= (u8) ~(1U << fields[i].bit % 8);        \
		assert_int_equal(ghcb_get(g, name), 0);                              \
	} while (0)
	TRY(0, cpl); TRY(1, xss); TRY(2, dr7); TRY(3, rip); TRY(4, rsp); TRY(5, rax);
	TRY(6, rcx); TRY(7, rdx); TRY(8, rbx); TRY(9, rbp); TRY(10, rsi); TRY(11, rdi);
	TRY(12, r8); TRY(13, r9); TRY(14, r10); TRY(15, r11); TRY(16, r12); TRY(17, r13);
	TRY(18, r14); TRY(19, r15); TRY(20, sw_exitcode); TRY(21, sw_exitinfo1);
	TRY(22, sw_exitinfo2); TRY(23, sw_scratch); TRY(24, xcr0);
#undef TRY
}

/* --- what each event needs ---------------------------------------------------------------------- */

#define N_RAX 1U
#define N_RCX 2U
#define N_RDX 4U
#define N_CPL 8U
#define N_XCR0 16U
#define N_SCRATCH 32U

static const struct need {
	u64 event, info1, info2;
	u64 rax, rcx;
	u32 needs;
	u32 out;     /* registers of the answer: N_RAX, N_RCX, N_RDX; 64: RBX */
	u32 version; /* that has it */
} needs[] = {
	{ 0x27, 0, 0, 0, 0, 0, N_RAX, 1 },
	{ 0x37, 0, 0, 0x400, 0, N_RAX, 0, 1 },
	{ 0x6e, 0, 0, 0, 0, 0, N_RAX | N_RDX, 1 },
	{ 0x72, 0, 0, 0, 0, N_RAX | N_RCX, N_RAX | N_RCX | N_RDX | 64, 1 },
	{ 0x72, 0, 0, 1, 0, N_RAX | N_RCX, N_RAX | N_RCX | N_RDX | 64, 1 },
	{ 0x72, 0, 0, 0xd, 0, N_RAX | N_RCX | N_XCR0, N_RAX | N_RCX | N_RDX | 64, 1 },
	{ 0x76, 0, 0, 0, 0, 0, 0, 1 },
	{ 0x7b, MOCK_PORT << 16 | 0x10, 0, 0x41, 0, N_RAX, 0, 1 },            /* OUT */
	{ 0x7b, MOCK_PORT << 16 | 0x11, 0, 0, 0, 0, N_RAX, 1 },               /* IN */
	{ 0x7b, MOCK_PORT << 16 | 0x14, 4, 0, 0, N_SCRATCH, 0, 1 },           /* OUTS */
	{ 0x7b, MOCK_PORT << 16 | 0x15, 4, 0, 0, N_SCRATCH, 0, 1 },           /* INS */
	{ 0x7c, 0, 0, 0, 0x802, N_RCX, N_RAX | N_RDX, 1 },
	{ 0x7c, 1, 0, 1, 0x80b, N_RAX | N_RCX | N_RDX, 0, 1 },
	{ 0x81, 0, 0, 1, 0, N_RAX | N_CPL, N_RAX, 1 },
	{ 0x87, 0, 0, 0, 0, 0, N_RAX | N_RCX | N_RDX, 1 },
	{ 0x89, 0, 0, 0, 0, 0, 0, 1 },
	{ 0x8a, 0, 0, 0, 0, N_RAX | N_RCX | N_RDX, 0, 1 },
	{ 0x8b, 0, 0, 0, 0, N_RAX | N_RCX, 0, 1 },
	{ 0x80000001, MOCK_DEVICE, 4, 0, 0, N_SCRATCH, 0, 1 },
	{ 0x80000002, MOCK_DEVICE, 4, 0, 0, N_SCRATCH, 0, 1 },
	{ 0x80000003, 0, 0, 0, 0, 0, 0, 1 },
	{ 0x80000005, 1, 0, 0, 0, 0, 0, 1 },
	{ 0x8000fffd, 0, 0, 0, 0, 0, 0, 2 },
};

static void give(struct ghcb *g, const struct need *n, u32 mask)
{
	g->rax = n->rax;
	g->rcx = n->rcx;
	g->rdx = 0;
	g->cpl = 0;
	g->xcr0 = 7;
	g->sw_scratch = PAGE_GPA + 0x800;
	if (mask & N_RAX)
		ghcb_set(g, rax, n->rax);
	if (mask & N_RCX)
		ghcb_set(g, rcx, n->rcx);
	if (mask & N_RDX)
		ghcb_set(g, rdx, 0);
	if (mask & N_CPL)
		ghcb_set(g, cpl, 0);
	if (mask & N_XCR0)
		ghcb_set(g, xcr0, 7);
	if (mask & N_SCRATCH)
		ghcb_set(g, sw_scratch, PAGE_GPA + 0x800);
}

/* With exactly its inputs an event is served; the answer's registers, and no others, are valid. */
static void row12_each_event_with_its_inputs(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
		const struct need *n = &needs[i];
		struct ghcb *g = ask(n->event, n->info1, n->info2);
		u64 v0 = 0, v1 = BIT(51) | BIT(52);

		give(g, n, n->needs);
		assert_int_equal(vmgexit(), VRESULT_RETRY);
		assert_ok();
		v0 |= n->out & N_RAX ? BIT(63) : 0;
		v1 |= n->out & N_RCX ? BIT(33) : 0;
		v1 |= n->out & N_RDX ? BIT(34) : 0;
		v1 |= n->out & 64 ? BIT(35) : 0;
		assert_int_equal(g->valid_bitmap[0], v0);
		assert_int_equal(g->valid_bitmap[1], v1);
	}
}

/* Without any single one of them it is not, though the value is in its place. */
static void row12_missing_input(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
		const struct need *n = &needs[i];

		for (u32 bit = 1; bit <= N_SCRATCH; bit <<= 1) {
			struct ghcb *g = ask(n->event, n->info1, n->info2);

			if ((n->needs & bit) == 0)
				continue;
			give(g, n, n->needs & ~bit);
			memset(&mock_told, 0, sizeof(mock_told));
			assert_int_equal(vmgexit(), VRESULT_RETRY);
			assert_error(4);
			assert_int_equal(g->valid_bitmap[0], 0);
			assert_int_equal(g->valid_bitmap[1], BIT(51) | BIT(52));
			assert_int_equal(mock_told.outs + mock_told.ins + mock_told.mmio_reads +
					 mock_told.mmio_writes + mock_told.lapic_writes, 0);
		}
	}
}

/* SW_EXITCODE and both infos are needed by every event. */
static void row12_missing_event_fields(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
		for (u32 bit = 50; bit <= 52; bit++) {
			struct ghcb *g = ask(needs[i].event, needs[i].info1, needs[i].info2);

			give(g, &needs[i], ~0U);
			g->valid_bitmap[1] &= ~BIT(bit);
			assert_int_equal(vmgexit(), VRESULT_RETRY);
			assert_error(4);
		}
	}
}

static void row12_usage(void **state)
{
	static const u32 usages[] = { 1, 2, 0x80000000, ~0U };

	for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
		struct ghcb *g = ask(needs[i].event, needs[i].info1, needs[i].info2);

		give(g, &needs[i], ~0U);
		g->ghcb_usage = usages[i % ARRAY_SIZE(usages)];
		assert_int_equal(vmgexit(), VRESULT_RETRY);
		assert_error(2);
	}
}

static void row12_versions(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
		for (u16 version = 0; version < 5; version++) {
			struct ghcb *g = ask(needs[i].event, needs[i].info1, needs[i].info2);

			give(g, &needs[i], ~0U);
			g->protocol_version = version;
			assert_int_equal(vmgexit(), VRESULT_RETRY);
			if (version > 2)
				assert_error(5);
			else if (version < 2 && needs[i].version == 2)
				assert_error(6);
			else
				assert_ok();
			assert_int_equal(mock_es.version, version);
		}
	}
}

/* Unknown events, SEV-SNP's, and known ones with something in the upper half. */
static void row12_unknown_event(void **state)
{
	static const u64 events[] = { 0, 1, 0x41, 0x51, 0x55, 0x60, 0x78, 0x8d, 0x400, 0x403,
				      0x80000000, 0x80000006, 0x80000010, 0x80000011, 0x80000012,
				      0x80000013, 0x8000fffc, 0x80010000, 0x100000072, ~0UL,
				      0xffffffff00000072 };

	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		struct ghcb *g = ask(events[i], 0, 0);

		give(g, &needs[0], ~0U);
		assert_int_equal(vmgexit(), VRESULT_RETRY);
		assert_error(6);
	}
	assert_int_equal(mock_es.events[GHCB_UNKNOWN], ARRAY_SIZE(events));
	assert_int_equal(mock_es.events[GHCB_REFUSED], ARRAY_SIZE(events));
	assert_int_equal(mock_told.fatals, 0);
}

static void row12_page_address(void **state)
{
	/* not set; the hole; beyond RAM; a device; ROM; with the C-bit; the top of the address space */
	static const u64 pages[] = { 0, MOCK_HOLE, MOCK_RAM, MOCK_DEVICE, MOCK_ROM,
				     PAGE_GPA | BIT(MOCK_C_BIT), ~0xfffUL };

	/* The last good page is remembered: that must not stand in for another. */
	(void)ask(0x76, 0, 0);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	memset(guest_page(), 0xee, PAGE_SIZE);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		memset(&mock_told, 0, sizeof(mock_told));
		mock_ghcb_msr = pages[i];
		assert_int_equal(ghcb_vmgexit(&mock_v), VRESULT_RETRY);
		assert_int_equal(mock_ghcb_msr, pages[i]);
		assert_int_equal(mock_told.logs, 1);
		assert_non_null(strstr(mock_told.log, i == 0 ? "not set" : "not RAM"));
		for (size_t k = 0; k < MOCK_RAM; k++)
			assert_int_equal(mock_ram[k], 0xee);
	}
	assert_int_equal(mock_es.events[GHCB_NO_PAGE], ARRAY_SIZE(pages));
	/* The last page of RAM and the last before the hole are as good as any. */
	for (gpa_t gpa = MOCK_HOLE - PAGE_SIZE; gpa < MOCK_RAM; gpa += MOCK_RAM - MOCK_HOLE) {
		memcpy(mock_ram + gpa, ask(0x76, 0, 0), PAGE_SIZE);
		mock_ghcb_msr = gpa;
		assert_int_equal(ghcb_vmgexit(&mock_v), VRESULT_RETRY);
		assert_int_equal(*(u64 *)(mock_ram + gpa + 0x398), 0);
	}
}

/* --- CPUID -------------------------------------------------------------------------------------- */

static void cpuid_event(u32 leaf, u32 subleaf, u64 xcr0)
{
	struct ghcb *g = ask(0x72, 0, 0);

	ghcb_set(g, rax, 0xdead00000000UL | leaf);
	ghcb_set(g, rcx, 0xdead00000000UL | subleaf);
	ghcb_set(g, xcr0, xcr0);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
}

/* The vendor's string, from the CPU that runs this test. */
static void row12_cpuid_vendor(void **state)
{
	struct cpuid_regs host = cpuid(0, 0);
	struct ghcb *g = guest_page();

	for (int pass = 0; pass < 2; pass++) { /* first the page is looked up, then it is known */
		cpuid_event(0, 0, 1);
		assert_ok();
		assert_int_equal(g->rbx, host.ebx);
		assert_int_equal(g->rcx, host.ecx);
		assert_int_equal(g->rdx, host.edx);
	}
	assert_int_equal(mock_es.events[GHCB_CPUID], 2);
	assert_int_equal(mock_v.exits[VEXIT_CPUID], 2);
}

static void plain_exit(u32 kind)
{
	mock_plain.exit.kind = kind;
	(void)vcpu_dispatch(&mock_plain);
}

/*
 * Row 3: a handler does not know where the registers are. The same request by
 * both ways gives the same answer.
 */
static void row03_cpuid_by_both_ways(void **state)
{
	static const u32 leaves[] = { 0, 1, 2, 4, 5, 6, 7, 0xb, 0xd, 0x40000000, 0x40000001,
				      0x80000001, 0x80000008, 0x80000015, 0x77777777 };
	struct ghcb *g = guest_page();

	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++) {
		for (u32 sub = 0; sub < 3; sub++) {
			for (u64 xcr0 = 1; xcr0 <= 7; xcr0 += 2) {
				if (xcr0 == 5) /* AVX without SSE: no CPU has that */
					continue;
				mock_plain.gpr[GPR_RAX] = leaves[i];
				mock_plain.gpr[GPR_RCX] = sub;
				mock_plain.guest_xcr0 = xcr0;
				plain_exit(VEXIT_CPUID);
				cpuid_event(leaves[i], sub, xcr0);
				assert_ok();
				assert_int_equal(g->rax, mock_plain.gpr[GPR_RAX]);
				assert_int_equal(g->rbx, mock_plain.gpr[GPR_RBX]);
				assert_int_equal(g->rcx, mock_plain.gpr[GPR_RCX]);
				assert_int_equal(g->rdx, mock_plain.gpr[GPR_RDX]);
			}
		}
	}
}

static void row03_msr_by_both_ways(void **state)
{
	static const u32 msrs[] = { 0x10, 0x802, 0x8ff, 0xfe, 0x2ff, 0x4b564d01, 0xc0010015,
				    0xc0010117, 0xdeadbeef, 0xc0000103 };
	struct ghcb *g;

	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++) {
		bool fault;

		mock_plain.gpr[GPR_RCX] = msrs[i];
		mock_plain.event.type = VEVENT_NONE;
		plain_exit(VEXIT_RDMSR);
		fault = mock_plain.event.type == VEVENT_EXCEPTION;
		g = ask(0x7c, 0, 0);
		ghcb_set(g, rcx, msrs[i]);
		assert_int_equal(vmgexit(), VRESULT_RETRY);
		if (fault) {
			assert_gp();
			continue;
		}
		assert_ok();
		if (msrs[i] == 0x10) { /* time goes on */
			u64 plain = mock_plain.gpr[GPR_RDX] << 32 | mock_plain.gpr[GPR_RAX];

			assert_in_range((g->rdx << 32 | g->rax) - plain, 0, 10000000000UL);
			continue;
		}
		assert_int_equal(g->rax, mock_plain.gpr[GPR_RAX]);
		assert_int_equal(g->rdx, mock_plain.gpr[GPR_RDX]);
	}
}

static void row03_io_by_both_ways(void **state)
{
	for (u32 size = 1; size <= 4; size <<= 1) {
		struct ghcb *g;
		u64 plain;

		mock_plain.gpr[GPR_RAX] = 0x1122334455667788UL;
		mock_plain.exit.io = (struct vexit_io){ .port = MOCK_PORT + 4, .size = (u8)size,
							.in = true };
		memset(&mock_told, 0, sizeof(mock_told));
		plain_exit(VEXIT_IO);
		plain = mock_plain.gpr[GPR_RAX];
		memset(&mock_told, 0, sizeof(mock_told));
		g = ask(0x7b, (u64)(MOCK_PORT + 4) << 16 | size << 4 | 1, 0);
		ghcb_set(g, rax, 0x1122334455667788UL);
		assert_int_equal(vmgexit(), VRESULT_RETRY);
		assert_ok();
		assert_int_equal(g->rax, plain);

		mock_plain.exit.io.in = false;
		mock_plain.gpr[GPR_RAX] = 0x1122334455667788UL;
		plain_exit(VEXIT_IO);
		plain = mock_told.last;
		g = ask(0x7b, (u64)(MOCK_PORT + 4) << 16 | size << 4, 0);
		ghcb_set(g, rax, 0x1122334455667788UL);
		assert_int_equal(vmgexit(), VRESULT_RETRY);
		assert_int_equal(mock_told.last, plain);
		assert_int_equal(mock_told.size, size);
	}
}

/* Which XCR0 decides the sizes of leaf 0xD, and what is no XCR0. */
static void cpuid_xsave(void **state)
{
	struct ghcb *g = guest_page();

	if ((cpuid(1, 0).ecx & BIT32(28)) == 0)
		skip();
	cpuid_event(0xd, 0, 1);
	assert_int_equal(g->rbx, 576); /* SDM vol. 1, 13.4 */
	cpuid_event(0xd, 0, 7);
	assert_int_equal(g->rbx, 576 + 256);
	cpuid_event(0xd, 0, 5);
	assert_error(5);
	cpuid_event(0xd, 0, 0);
	assert_error(5);
	cpuid_event(0xd, 0, 0xf);
	assert_error(5);
	cpuid_event(0xd, 0, ~0UL);
	assert_error(5);
	assert_int_equal(mock_v.guest_xcr0, 7);
	mock_xcr0_mask = 0; /* no XSAVE here: nothing to know of it */
	cpuid_event(0xd, 0, 0xf);
	assert_ok();
	assert_int_equal(mock_v.guest_xcr0, 0);
}

static void cpuid_of_an_es_guest(void **state)
{
	struct ghcb *g = guest_page();

	cpuid_event(0x8000001f, 0, 1);
	assert_int_equal(g->rax, 0xa);
	assert_int_equal(g->rbx, MOCK_C_BIT | 5 << 6);
	cpuid_event(1, 0, 1);
	assert_int_equal(g->rbx >> 24, 1); /* APIC id */
	assert_int_equal(g->rcx & BIT(27), 0);
	mock_cr4 = mock_es.cr4 = CR4_OSXSAVE; /* as the write trap has told */
	cpuid_event(1, 0, 1);
	assert_int_equal(g->rcx & BIT(27), cpuid(1, 0).ecx & BIT32(26) ? BIT(27) : 0);
	cpuid_event(0xb, 0, 1);
	assert_int_equal(g->rdx, 1);
}

/* --- MSRs (row 5: a field that is not valid is not there) --------------------------------------- */

static void row05_only_valid_registers_reach_a_handler(void **state)
{
	struct ghcb *g = ask(0x81, 0, 0);

	ghcb_set(g, rax, KVM_HC_SEND_IPI);
	ghcb_set(g, cpl, 0);
	ghcb_set(g, rbx, 0x11);
	g->rcx = 0x22; /* not valid */
	ghcb_set(g, rdx, 0x33);
	g->rsi = 0x44; /* not valid */
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	assert_int_equal(mock_told.ipis, 1);
	assert_int_equal(mock_told.ipi.low, 0x11);
	assert_int_equal(mock_told.ipi.high, 0);
	assert_int_equal(mock_told.ipi.min, 0x33);
	assert_int_equal(mock_told.ipi.icr, 0);
	assert_int_equal(mock_told.ipi.cluster, 64);
	assert_int_equal(g->rax, 3);
}

static void row05_nothing_lingers(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
		struct ghcb *g = ask(needs[i].event, needs[i].info1, needs[i].info2);

		give(g, &needs[i], ~0U);
		ghcb_set(g, rbx, 0xb);
		ghcb_set(g, rsi, 0x51);
		assert_int_equal(vmgexit(), VRESULT_RETRY);
		for (u32 r = 0; r < GPR_COUNT; r++)
			assert_int_equal(mock_v.gpr[r], 0);
	}
	(void)msr_protocol(0x1UL << 32 | 0x004);
	for (u32 r = 0; r < GPR_COUNT; r++)
		assert_int_equal(mock_v.gpr[r], 0);
}

static void msr_event(void **state)
{
	struct ghcb *g = ask(0x7c, 1, 0);

	ghcb_set(g, rcx, 0xffffffff00000808UL); /* ECX counts */
	ghcb_set(g, rax, 0x20);
	ghcb_set(g, rdx, 0);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	assert_int_equal(mock_told.lapic_writes, 1);
	assert_int_equal(mock_v.hazards & HAZ_TPR, HAZ_TPR);
	g = ask(0x7c, 1, 0); /* a value that is refused */
	ghcb_set(g, rcx, 0x808);
	ghcb_set(g, rax, 666);
	ghcb_set(g, rdx, 0);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_gp();
	assert_int_equal(mock_v.event.type, VEVENT_NONE); /* the guest raises it, not the entry */
	assert_int_equal(mock_v.hazards & HAZ_EVENT, 0);
	assert_false(ghcb_has(g, rax));
	g = ask(0x7c, 2, 0); /* neither read nor write */
	give(g, &needs[0], ~0U);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_error(5);
}

/* Registers in the encrypted save area are not to be had this way. */
static void msr_of_the_save_area(void **state)
{
	static const u32 msrs[] = { 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000102, 0x174, 0x277,
				    0x1d9, 0xc0010130, 0xc0010131 };

	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++) {
		for (u64 write = 0; write < 2; write++) {
			struct ghcb *g = ask(0x7c, write, 0);

			give(g, &needs[0], N_RAX | N_RDX);
			ghcb_set(g, rcx, msrs[i]);
			assert_int_equal(vmgexit(), VRESULT_RETRY);
			assert_gp();
		}
	}
}

/* --- the small ones ------------------------------------------------------------------------------ */

static void rdtsc_and_rdtscp(void **state)
{
	u64 before = rdtsc() + mock_v.tsc_offset;
	struct ghcb *g = ask(0x6e, 0, 0);
	u64 tsc;

	assert_int_equal(vmgexit(), VRESULT_RETRY);
	tsc = g->rdx << 32 | g->rax;
	assert_int_equal(g->rax >> 32, 0);
	assert_in_range(tsc, before, before + 100000000000UL);
	g = ask(0x87, 0, 0);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_true((g->rdx << 32 | g->rax) >= tsc);
	assert_int_equal(g->rcx, 0x77);
}

static void rdpmc_is_gp(void **state)
{
	struct ghcb *g = ask(0x6f, 0, 0);

	ghcb_set(g, rcx, 0);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_gp();
	assert_int_equal(mock_v.event.type, VEVENT_NONE);
}

static void dr7_is_information(void **state)
{
	struct ghcb *g = ask(0x27, 0, 0);

	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_int_equal(g->rax, 0x400);
	g = ask(0x37, 0, 0);
	ghcb_set(g, rax, 0x455);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	g = ask(0x27, 0, 0);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_int_equal(g->rax, 0x455);
}

static u64 hypercall_event(u64 number, u8 cpl, u32 want)
{
	struct ghcb *g = ask(0x81, 0, 0);

	ghcb_set(g, rax, number);
	ghcb_set(g, cpl, cpl);
	assert_int_equal(vmgexit(), want);
	assert_ok();
	return g->rax;
}

static void vmmcall(void **state)
{
	assert_int_equal(hypercall_event(KVM_HC_VAPIC_POLL_IRQ, 0, VRESULT_RETRY), 0);
	assert_int_equal(hypercall_event(12345, 0, VRESULT_RETRY), (u64)-KVM_ENOSYS);
	for (u8 cpl = 1; cpl != 0; cpl++) /* whatever is in the byte */
		assert_int_equal(hypercall_event(KVM_HC_SEND_IPI, cpl, VRESULT_RETRY),
				 (u64)-KVM_EPERM);
	assert_int_equal(mock_told.ipis, 0);
	mock_told.yields_cpu = true;
	assert_int_equal(hypercall_event(KVM_HC_SCHED_YIELD, 0, VRESULT_LEAVE), 0);
}

static void row29_nmi_complete(void **state)
{
	mock_es.nmi_masked = true;
	(void)ask(0x80000003, 0, 0);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	assert_false(mock_es.nmi_masked);
	assert_int_equal(mock_v.hazards & HAZ_NMI, 0); /* none waits */
	mock_es.nmi_masked = true;
	mock_v.nmi_pending = 1;
	(void)ask(0x80000003, 0, 0);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_false(mock_es.nmi_masked);
	assert_int_equal(mock_v.hazards & HAZ_NMI, HAZ_NMI);
	/* No other event opens the window. */
	mock_es.nmi_masked = true;
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
		if (needs[i].event == 0x80000003)
			continue;
		give(ask(needs[i].event, needs[i].info1, needs[i].info2), &needs[i], ~0U);
		assert_int_equal(vmgexit(), VRESULT_RETRY);
		assert_true(mock_es.nmi_masked);
	}
}

/* --- application processors ----------------------------------------------------------------------- */

static void row27_reset_hold(void **state)
{
	for (u8 wake = 1; wake <= 2; wake++) {
		struct ghcb *g = ask(0x80000004, 0, 0);

		mock_v.halted = false;
		assert_int_equal(vmgexit(), VRESULT_LEAVE);
		assert_int_equal(mock_es.hold, ES_HOLD_GHCB);
		assert_true(mock_v.halted);
		assert_ok();
		mock_es.wake = wake;
		ghcb_hold_end(&mock_v);
		assert_int_equal(g->sw_exitinfo1, 0);
		assert_int_equal(g->sw_exitinfo2, wake == 2);
		assert_true(ghcb_has(g, sw_exitinfo2));
		assert_int_equal(mock_es.hold, ES_HOLD_NONE);
		assert_int_equal(mock_es.wake, 0);
		assert_int_equal(mock_ghcb_msr, PAGE_GPA);
	}
}

static void row27_reset_hold_by_msr(void **state)
{
	for (u8 wake = 1; wake <= 2; wake++) {
		mock_ghcb_msr = 0x006;
		assert_int_equal(ghcb_vmgexit(&mock_v), VRESULT_LEAVE);
		assert_int_equal(mock_es.hold, ES_HOLD_MSR);
		mock_es.wake = wake;
		ghcb_hold_end(&mock_v);
		assert_int_equal(mock_ghcb_msr & 0xfff, 0x007);
		assert_int_equal(mock_ghcb_msr >> 12 != 0, wake == 2);
		assert_int_equal(mock_es.hold, ES_HOLD_NONE);
	}
}

/* Something came before the wait began: it does not halt, but the answer still waits for the entry. */
static void row27_wake_before_the_hold(void **state)
{
	mock_told.wakes = true;
	(void)ask(0x80000004, 0, 0);
	assert_int_equal(vmgexit(), VRESULT_LEAVE);
	assert_false(mock_v.halted);
	assert_int_equal(mock_es.hold, ES_HOLD_GHCB);
	ghcb_hold_end(&mock_v);
	assert_ok(); /* INFO2 = 0: not by a start-up IPI */
}

/* Without a hold the end of one does nothing. */
static void row27_no_hold(void **state)
{
	mock_ghcb_msr = 0x123;
	mock_es.wake = 2;
	mock_es.hold_ghcb = PAGE_GPA;
	ghcb_hold_end(&mock_v);
	assert_int_equal(mock_ghcb_msr, 0x123);
	for (size_t i = 0; i < MOCK_RAM; i++)
		assert_int_equal(mock_ram[i], 0xee);
}

static void row27_jump_table(void **state)
{
	struct ghcb *g = ask(0x80000005, 1, 0);

	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_answer(0, 0); /* none yet */
	(void)ask(0x80000005, 0, 0x9000);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	assert_int_equal(mock_es_vm.ap_jump_table, 0x9000);
	g = ask(0x80000005, 1, 0);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_answer(0, 0x9000);
	(void)ask(0x80000005, 0, 0x9123); /* unaligned: the guest's to judge */
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	(void)ask(0x80000005, 7, 0x5555);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_error(5);
	(void)ask(0x80000005, BIT(32), 0x5555);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_error(5);
	(void)ask(0x80000005, 0, BIT(MOCK_C_BIT) | 0x8000);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_error(5);
	g = ask(0x80000005, 1, 0);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_answer(0, 0x9123);
	(void)g;
}

/* --- the end ---------------------------------------------------------------------------------------- */

static void row16_termination(void **state)
{
	mock_ghcb_msr = 0x42UL << 16 | 1UL << 12 | 0x100;
	assert_int_equal(ghcb_vmgexit(&mock_v), VRESULT_LEAVE);
	assert_int_equal(mock_told.fatals, 1);
	assert_non_null(strstr(mock_told.fatal, "set 1, reason 0x42"));
	mock_ghcb_msr = 0xabcdef0000421000UL | 1UL << 24 | 0x100; /* bits above 23 are nobody's */
	assert_int_equal(ghcb_vmgexit(&mock_v), VRESULT_LEAVE);
	assert_non_null(strstr(mock_told.fatal, "set 1, reason 0x42:"));
	mock_ghcb_msr = 1UL << 16 | 0x100;
	assert_int_equal(ghcb_vmgexit(&mock_v), VRESULT_LEAVE);
	assert_non_null(strstr(mock_told.fatal, "set 0, reason 0x1"));
	assert_non_null(strstr(mock_told.fatal, "version"));
	mock_ghcb_msr = 0xffUL << 16 | 0x100; /* beyond the words */
	assert_int_equal(ghcb_vmgexit(&mock_v), VRESULT_LEAVE);
	assert_non_null(strstr(mock_told.fatal, "set 0, reason 0xff"));
	(void)ask(0x8000fffe, 0x421, 0);
	assert_int_equal(vmgexit(), VRESULT_LEAVE);
	assert_non_null(strstr(mock_told.fatal, "set 1, reason 0x42"));
	assert_int_equal(mock_told.fatals, 5);
	(void)ask(0x8000ffff, 0x78, 0x1234);
	assert_int_equal(vmgexit(), VRESULT_LEAVE);
	assert_non_null(strstr(mock_told.fatal, "exit 0x78, info 0x1234"));
}

/* --- the MSR protocol -------------------------------------------------------------------------------- */

static void row14_info(void **state)
{
	u64 info = 2UL << 48 | 1UL << 32 | (u64)MOCK_C_BIT << 24 | 0x001;

	ghcb_reset(&mock_v);
	assert_int_equal(mock_ghcb_msr, info); /* before any request */
	assert_int_equal(msr_protocol(0x002), info);
	assert_int_equal(msr_protocol(0xfffffffffffff002UL), info); /* reserved bits do not matter */
	mock_es_vm.min_version = 3;
	assert_int_equal(msr_protocol(0x002), 3UL << 48 | 3UL << 32 | (u64)MOCK_C_BIT << 24 | 1);
	mock_es_vm.min_version = 0; /* not set */
	assert_int_equal(msr_protocol(0x002), info);
}

/* All four registers of a leaf are those of the event; bits 29:12 of the request are reserved. */
static void row15_cpuid(void **state)
{
	static const u32 leaves[] = { 0, 1, 7, 0xb, 0xd, 0x40000000, 0x80000008, 0x8000001f, 0x123456 };
	struct ghcb *g = guest_page();

	mock_v.guest_xcr0 = 1;
	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++) {
		u64 value[4];

		cpuid_event(leaves[i], 0, 1);
		value[0] = g->rax;
		value[1] = g->rbx;
		value[2] = g->rcx;
		value[3] = g->rdx;
		for (u64 r = 0; r < 4; r++) {
			u64 request = (u64)leaves[i] << 32 | r << 30 | 0x004;

			assert_int_equal(msr_protocol(request), value[r] << 32 | r << 30 | 0x005);
			assert_int_equal(msr_protocol(request | 0x3ffff000),
					 value[r] << 32 | r << 30 | 0x005);
		}
	}
}

static void row17_unknown_request(void **state)
{
	static const u64 requests[] = { 0x333, 0x001, 0x003, 0x005, 0x007, 0x081, 0xfff,
					0xabcdef0123456333UL };

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		assert_int_equal(msr_protocol(requests[i]), requests[i]);
		assert_int_equal(mock_told.logs, i + 1);
		assert_non_null(strstr(mock_told.log, "unknown request 0x"));
	}
	assert_int_equal(mock_told.fatals, 0);
	assert_int_equal(mock_es.events[GHCB_MSR_UNKNOWN], ARRAY_SIZE(requests));
}

static void msr_features_and_snp(void **state)
{
	assert_int_equal(msr_protocol(0x080), 0x081);
	assert_int_equal(msr_protocol(0x010), 0xfffffffffffff011UL); /* no preferred GPA */
	assert_int_equal(msr_protocol(0x5012), 0xfffffffffffff013UL); /* not registered */
	assert_int_equal(msr_protocol(0x5014) & 0xfff, 0x015);
	assert_int_not_equal(msr_protocol(0x5014) >> 32, 0);
	assert_int_equal(msr_protocol(0x016) & 0xfff, 0x017);
	assert_int_not_equal(msr_protocol(0x016) >> 32, 0);
	assert_int_equal(mock_es.events[GHCB_MSR_SNP], 6);
}

/* --- traces ------------------------------------------------------------------------------------------ */

static void row13_trace_of_events(void **state)
{
	struct ghcb *g = ask(0x7c, 0, 0x99);

	ghcb_set(g, rcx, 0xdeadbeef);
	(void)vmgexit();
	assert_int_equal(mock_told.records, 0); /* off: nothing, and the same answer */
	assert_gp();
	trace_flags = TRACE_EVENTS;
	g = ask(0x7c, 0, 0x99);
	ghcb_set(g, rcx, 0xdeadbeef);
	(void)vmgexit();
	assert_gp();
	assert_int_equal(mock_told.records, 1);
	assert_int_equal(mock_told.record.kind, TRACE_VMGEXIT);
	assert_int_equal(mock_told.record.vm, 3);
	assert_int_equal(mock_told.record.vcpu, 1);
	assert_int_equal(mock_told.record.code, 0x7c);
	assert_int_equal(mock_told.record.a, 0);
	assert_int_equal(mock_told.record.b, 0x99);
	assert_int_equal(mock_told.record.result, 0x10); /* an exception */
	(void)ask(0x55, 1, 2);
	(void)vmgexit();
	assert_int_equal(mock_told.record.code, 0x55);
	assert_int_equal(mock_told.record.a, 1);
	assert_int_equal(mock_told.record.b, 2);
	assert_int_equal(mock_told.record.result, 0x26);
	cpuid_event(0, 0, 1);
	cpuid_event(0, 0, 1);
	assert_int_equal(mock_told.records, 4); /* the short way is traced, too */
	assert_int_equal(mock_told.record.code, 0x72);
	assert_int_equal(mock_told.record.result, 0);
}

static void row17_trace_of_requests(void **state)
{
	trace_flags = TRACE_EVENTS;
	(void)msr_protocol(0x002);
	assert_int_equal(mock_told.records, 1);
	assert_int_equal(mock_told.record.kind, TRACE_GHCB_MSR);
	assert_int_equal(mock_told.record.a, 0x002);
	assert_int_equal(mock_told.record.b, mock_ghcb_msr);
	(void)msr_protocol(0x333);
	assert_int_equal(mock_told.record.a, 0x333);
	assert_int_equal(mock_told.record.b, 0x333);
}

/* --- ports ------------------------------------------------------------------------------------------- */

#define IOIO(port, size, rest) ((u64)(port) << 16 | (u64)(size) << 4 | (rest))
#define STR_OUT 0x4U
#define STR_IN 0x5U
#define REP 0x8U

static struct ghcb *string_event(u32 size, u32 rest, u64 count, gpa_t scratch)
{
	struct ghcb *g = ask(0x7b, IOIO(MOCK_PORT, size, rest), count);

	ghcb_set(g, sw_scratch, scratch);
	return g;
}

static void row19_rep_outsb(void **state)
{
	struct ghcb *g = string_event(1, STR_OUT | REP, 300, PAGE_GPA + 0x800);

	for (u32 i = 0; i < 300; i++)
		g->shared_buffer[i] = (u8)(i * 7);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	assert_int_equal(mock_told.outs, 300);
	for (u32 i = 0; i < 300; i++)
		assert_int_equal(mock_told.out[i], (u8)(i * 7));
}

static void row19_rep_insw(void **state)
{
	struct ghcb *g = string_event(2, STR_IN | REP, 5, PAGE_GPA + 0x810);

	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	for (u32 i = 0; i < 5; i++) {
		u16 value;

		memcpy(&value, g->shared_buffer + 0x10 + 2 * i, 2);
		assert_int_equal(value, (u16)(MOCK_PORT + (i + 1) * 0x01010101));
	}
	assert_int_equal(g->shared_buffer[0xf], 0xee);
	assert_int_equal(g->shared_buffer[0x1a], 0xee);
}

/* In the size bits exactly one must be set. */
static void row19_sizes(void **state)
{
	for (u32 bits = 0; bits < 8; bits++) {
		bool good = bits == 1 || bits == 2 || bits == 4;

		for (u32 rest = 0; rest < 16; rest++) {
			struct ghcb *g = ask(0x7b, IOIO(MOCK_PORT, bits, rest), 1);

			ghcb_set(g, rax, 1);
			ghcb_set(g, sw_scratch, PAGE_GPA + 0x800);
			memset(&mock_told, 0, sizeof(mock_told));
			assert_int_equal(vmgexit(), VRESULT_RETRY);
			if (good)
				assert_ok();
			else
				assert_error(5);
			assert_int_equal(mock_told.ins + mock_told.outs, good);
		}
	}
}

static void row19_too_much(void **state)
{
	static const struct {
		u64 count;
		u32 size;
	} bad[] = { { 2033, 1 }, { 1017, 2 }, { 509, 4 }, { BIT(31), 1 }, { BIT(31), 4 },
		    { BIT(32), 1 }, { BIT(62), 4 }, { BIT(63), 2 }, { ~0UL, 1 }, { ~0UL, 4 } };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		for (u32 in = 0; in < 2; in++) {
			struct ghcb *g = string_event(bad[i].size, STR_OUT | REP | in,
						      bad[i].count, PAGE_GPA + 0x800);

			assert_int_equal(vmgexit(), VRESULT_RETRY);
			assert_error(3);
			assert_int_equal(g->shared_buffer[0], 0xee);
			assert_int_equal(g->protocol_version, 2);
		}
	}
	assert_int_equal(mock_told.outs + mock_told.ins, 0);
	/* The largest that fit. */
	(void)string_event(1, STR_OUT | REP, 2032, PAGE_GPA + 0x800);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	(void)string_event(4, STR_IN | REP, 508, PAGE_GPA + 0x800);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	(void)string_event(4, STR_IN | REP, 0, PAGE_GPA + 0x800);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	assert_int_equal(mock_told.outs, 2032);
	assert_int_equal(mock_told.ins, 508);
}

/* --- scratch ----------------------------------------------------------------------------------------- */

static void try_scratch(u16 version, gpa_t scratch, u64 count, bool good)
{
	for (u32 in = 0; in < 2; in++) {
		struct ghcb *g = string_event(1, STR_OUT | REP | in, count, scratch);

		g->protocol_version = version;
		memset(&mock_told, 0, sizeof(mock_told));
		assert_int_equal(vmgexit(), VRESULT_RETRY);
		if (good)
			assert_ok();
		else
			assert_error(3);
		assert_int_equal(mock_told.ins + mock_told.outs, good ? count : 0);
	}
}

static void row18_scratch_of_version_2(void **state)
{
	const gpa_t buffer = PAGE_GPA + 0x800;

	try_scratch(2, buffer, 1, true);
	try_scratch(2, buffer + 2031, 1, true);
	try_scratch(2, buffer + 2031, 2, false);
	try_scratch(2, buffer + 2032, 1, false);
	try_scratch(2, buffer - 1, 1, false);
	try_scratch(2, buffer - 1, 2, false);
	try_scratch(2, PAGE_GPA, 16, false);
	try_scratch(2, PAGE_GPA + 0xff0, 16, false);
	try_scratch(2, 0x9000, 16, false);           /* RAM, but not the buffer */
	try_scratch(2, 0, 16, false);
	try_scratch(2, ~0UL, 1, false);
	try_scratch(2, ~0UL, 16, false);
	try_scratch(2, 0 - 0x800UL, 2032, false);
	try_scratch(2, buffer | BIT(MOCK_C_BIT), 1, false);
}

static void row18_scratch_of_version_1(void **state)
{
	const gpa_t buffer = PAGE_GPA + 0x800;

	for (u16 version = 0; version < 2; version++) {
		try_scratch(version, buffer, 2032, true);
		try_scratch(version, 0x9000, 16, true);
		try_scratch(version, 0x9ffc, 16, true);
		try_scratch(version, 0x9000, 4 * PAGE_SIZE, true);
		try_scratch(version, 0x9000, 4 * PAGE_SIZE + 1, false);
		try_scratch(version, MOCK_HOLE - 16, 16, true);
		try_scratch(version, MOCK_HOLE - 16, 17, false);
		try_scratch(version, MOCK_HOLE, 1, false);
		try_scratch(version, MOCK_RAM - 16, 17, false);
		try_scratch(version, MOCK_DEVICE, 1, false);
		try_scratch(version, MOCK_ROM, 1, false); /* nothing is shared there */
		try_scratch(version, 0x9000 | BIT(MOCK_C_BIT), 1, false);
		try_scratch(version, ~0UL, 16, false);
		/* The GHCB itself is no scratch but for its buffer. */
		try_scratch(version, PAGE_GPA + 0x3f0, 16, false);
		try_scratch(version, PAGE_GPA - 8, 9, false);
		try_scratch(version, PAGE_GPA - 8, 8, true);
		try_scratch(version, buffer - 1, 1, false);
		try_scratch(version, PAGE_GPA + 0xfff, 1, false);
		try_scratch(version, PAGE_GPA + 0xff0, 32, false);
		try_scratch(version, PAGE_GPA + PAGE_SIZE, 32, true);
	}
}

/* Data of more than one piece arrives whole and in order. */
static void scratch_in_pieces(void **state)
{
	struct ghcb *g;

	g = string_event(4, STR_OUT | REP, 4096, 0x9004);
	g->protocol_version = 1;
	for (u32 i = 0; i < 16384; i++)
		mock_ram[0x9004 + i] = (u8)(i * 13 + (i >> 8));
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	assert_int_equal(mock_told.out_bytes, 16384);
	assert_int_equal(mock_told.outs, 4096);
	for (u32 i = 0; i < 16384; i++)
		assert_int_equal(mock_told.out[i], (u8)(i * 13 + (i >> 8)));
	g = string_event(4, STR_IN | REP, 4096, 0x9004);
	g->protocol_version = 1;
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	for (u32 i = 0; i < 4096; i++) {
		u32 value;

		memcpy(&value, mock_ram + 0x9004 + 4 * i, 4);
		assert_int_equal(value, MOCK_PORT + (i + 1) * 0x01010101);
	}
	assert_int_equal(mock_ram[0x9003], 0xee);
	assert_int_equal(mock_ram[0x9004 + 16384], 0xee);
}

/* --- device memory ----------------------------------------------------------------------------------- */

static struct ghcb *mmio_event(bool write, gpa_t gpa, u64 size)
{
	struct ghcb *g = ask(write ? 0x80000002 : 0x80000001, gpa, size);

	ghcb_set(g, sw_scratch, PAGE_GPA + 0x800);
	return g;
}

static void row18_mmio_sizes(void **state)
{
	for (u32 size = 1; size <= 8; size <<= 1) {
		struct ghcb *g = mmio_event(true, MOCK_DEVICE + 0x10, size);

		memset(mock_told.device, 0x11, PAGE_SIZE);
		for (u32 i = 0; i < 8; i++)
			g->shared_buffer[i] = (u8)(0xa0 + i);
		assert_int_equal(vmgexit(), VRESULT_RETRY);
		assert_ok();
		for (u32 i = 0; i < 8; i++)
			assert_int_equal(mock_told.device[0x10 + i], i < size ? 0xa0 + i : 0x11);
		g = mmio_event(false, MOCK_DEVICE + 0x10, size);
		assert_int_equal(vmgexit(), VRESULT_RETRY);
		assert_ok();
		for (u32 i = 0; i < 8; i++)
			assert_int_equal(g->shared_buffer[i], i < size ? 0xa0 + i : 0xee);
		assert_false(ghcb_has(g, rax));
	}
	assert_int_equal(mock_v.exits[VEXIT_MMIO], 8);
}

static void row18_mmio_refused(void **state)
{
	static const struct {
		gpa_t gpa;
		u64 size;
	} bad[] = {
		{ MOCK_DEVICE, 0 }, { MOCK_DEVICE, 3 }, { MOCK_DEVICE, 5 }, { MOCK_DEVICE, 16 },
		{ MOCK_DEVICE, 4096 }, { MOCK_DEVICE, BIT(32) | 4 }, { MOCK_DEVICE, ~0UL },
		{ MOCK_DEVICE + 0xfff, 2 }, { MOCK_DEVICE + 0xff9, 8 }, /* across a page */
		{ 0, 4 }, { 0x9000, 8 }, { PAGE_GPA, 8 }, { MOCK_RAM - 8, 8 }, /* RAM */
		{ MOCK_ROM, 4 },
		{ MOCK_DEVICE | BIT(MOCK_C_BIT), 4 }, { BIT(MOCK_C_BIT), 4 }, { ~0UL, 1 },
		{ 0xffff800000100000UL, 4 }, /* the hypervisor's own addresses */
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		for (u32 write = 0; write < 2; write++) {
			struct ghcb *g = mmio_event(write, bad[i].gpa, bad[i].size);

			assert_int_equal(vmgexit(), VRESULT_RETRY);
			assert_error(5);
			assert_int_equal(g->shared_buffer[0], 0xee);
		}
	}
	assert_int_equal(mock_told.mmio_reads + mock_told.mmio_writes, 0);
	for (size_t i = 0; i < MOCK_RAM; i++)
		if ((i & PAGE_MASK) != PAGE_GPA)
			assert_int_equal(mock_ram[i], 0xee);
	/* The last bytes of a page, and the hole where a VGA card would be: nobody answers. */
	(void)mmio_event(false, MOCK_DEVICE + 0xff8, 8);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	(void)mmio_event(false, MOCK_HOLE, 8);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	assert_int_equal(guest_page()->shared_buffer[7], 0xff);
}

static void row18_mmio_scratch(void **state)
{
	struct ghcb *g;

	for (u32 write = 0; write < 2; write++) {
		for (u16 version = 1; version <= 2; version++) {
			g = mmio_event(write, MOCK_DEVICE, 8);
			ghcb_set(g, sw_scratch, PAGE_GPA + 0xfe9); /* one byte beyond the buffer */
			g->protocol_version = version;
			assert_int_equal(vmgexit(), VRESULT_RETRY);
			assert_error(3);
			g = mmio_event(write, MOCK_DEVICE, 8);
			ghcb_set(g, sw_scratch, PAGE_GPA + 0xfe8);
			g->protocol_version = version;
			assert_int_equal(vmgexit(), VRESULT_RETRY);
			assert_ok();
			g = mmio_event(write, MOCK_DEVICE, 8);
			ghcb_set(g, sw_scratch, 0x9ffc); /* across a page */
			g->protocol_version = version;
			assert_int_equal(vmgexit(), VRESULT_RETRY);
			if (version == 2)
				assert_error(3);
			else
				assert_ok();
		}
	}
	assert_int_equal(mock_told.mmio_reads, 3);
	assert_int_equal(mock_told.mmio_writes, 3);
}

/* --- time of check, time of use ------------------------------------------------------------------------ */

static bool others_write;
/* Another vCPU writes all over the page, and over all scratch there may be. */
static void scribble(void)
{
	if (!others_write)
		return;
	memset(mock_ram + PAGE_GPA, 0x5a, PAGE_SIZE);
	memset(mock_ram + 0x9000, 0x5a, 0x8000);
}

static void row05_only_the_copy_counts(void **state)
{
	mock_meanwhile = scribble;
	for (u32 pass = 0; pass < 2; pass++) {
		static u8 out[2][16384];
		struct ghcb *g = string_event(1, STR_OUT | REP, 300, PAGE_GPA + 0x800);

		others_write = pass;
		memset(&mock_told, 0, sizeof(mock_told));
		for (u32 i = 0; i < 300; i++)
			g->shared_buffer[i] = (u8)i;
		assert_int_equal(vmgexit(), VRESULT_RETRY);
		assert_ok();
		memcpy(out[pass], mock_told.out, 300);
		assert_int_equal(mock_told.outs, 300);
		assert_memory_equal(out[0], out[pass], 300);
		/* The answer's valid bits are the hypervisor's alone, whoever set some meanwhile. */
		assert_int_equal(g->valid_bitmap[0], 0);
		assert_int_equal(g->valid_bitmap[1], BIT(51) | BIT(52));
	}
	others_write = true;
	(void)ask(0x7c, 1, 0);
	give(guest_page(), &needs[12], ~0U); /* WRMSR 0x80b, 1 */
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	assert_int_equal(guest_page()->valid_bitmap[0], 0);
	/* MMIO: where the answer goes was decided before the other vCPU moved SW_SCRATCH. */
	mock_told.device[0] = 0x42;
	(void)mmio_event(false, MOCK_DEVICE, 1);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	assert_int_equal(guest_page()->shared_buffer[0], 0x42);
	assert_int_equal(mock_ram[0x5a5a], 0x5a); /* in the page itself: as scribbled */
	/* INS: what was read goes where the request said. */
	(void)string_event(4, STR_IN | REP, 3, PAGE_GPA + 0x900);
	mock_told.ins = 0;
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_ok();
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(*(u32 *)(guest_page()->shared_buffer + 0x100 + 4 * i),
				 MOCK_PORT + (i + 1) * 0x01010101);
}

static u32 seen_clear;
static void look_at_bitmap(void)
{
	seen_clear += (guest_page()->valid_bitmap[0] | guest_page()->valid_bitmap[1]) == 0;
}

/* Nothing of the request can be taken for an answer while there is none. */
static void row12_bitmap_is_clear_meanwhile(void **state)
{
	mock_meanwhile = look_at_bitmap;
	seen_clear = 0;
	(void)string_event(1, STR_OUT | REP, 3, PAGE_GPA + 0x800);
	ghcb_set(guest_page(), rax, 0);
	assert_int_equal(vmgexit(), VRESULT_RETRY);
	assert_int_equal(seen_clear, 3);
}

/* --- the whole ------------------------------------------------------------------------------------------ */

static void counters(void **state)
{
	u64 sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
		give(ask(needs[i].event, needs[i].info1, needs[i].info2), &needs[i], ~0U);
		(void)vmgexit();
	}
	for (u32 k = 0; k < ES_EVENTS; k++)
		sum += mock_es.events[k];
	assert_int_equal(sum, ARRAY_SIZE(needs));
	assert_int_equal(mock_es.events[GHCB_CPUID], 2);
	assert_int_equal(mock_es.events[GHCB_CPUID_XSAVE], 1);
	assert_int_equal(mock_es.events[GHCB_IN], 1);
	assert_int_equal(mock_es.events[GHCB_INS], 1);
	assert_int_equal(mock_es.events[GHCB_OUTS], 1);
	assert_int_equal(mock_es.events[GHCB_WRMSR], 1);
	(void)msr_protocol(0x002);
	(void)msr_protocol(0x4);
	(void)msr_protocol(0x80);
	assert_int_equal(mock_es.events[GHCB_MSR_INFO], 1);
	assert_int_equal(mock_es.events[GHCB_MSR_CPUID], 1);
	assert_int_equal(mock_es.events[GHCB_MSR_FEATURES], 1);
}

static void counters_have_names(void **state)
{
	for (u32 i = 0; i < GHCB_KINDS; i++) {
		assert_non_null(ghcb_kind_name(i));
		for (u32 k = 0; k < i; k++)
			assert_string_not_equal(ghcb_kind_name(i), ghcb_kind_name(k));
	}
	assert_string_equal(ghcb_kind_name(GHCB_KINDS), "?");
	printed[0] = '\0';
	mock_es.events[GHCB_CPUID] = 17;
	mock_es.events[GHCB_MSR_UNKNOWN] = 4;
	ghcb_stats(&mock_vm, 1, 2);
	assert_string_equal(printed, "    ghcb cpuid                    17\n"
				     "    ghcb msr:unknown               4\n");
	printed[0] = '\0';
	ghcb_stats(&mock_plain_vm, 1, 2);
	assert_string_equal(printed, "");
}

/* The page that was used last is not used for another address, nor after a reset. */
static void another_page(void **state)
{
	struct ghcb *other = (struct ghcb *)(mock_ram + 0x7000);

	cpuid_event(0, 0, 1);
	memcpy(other, ask(0x72, 0, 0), PAGE_SIZE);
	ghcb_set(other, rax, 0x8000001f);
	ghcb_set(other, rcx, 0);
	mock_ghcb_msr = 0x7000;
	assert_int_equal(ghcb_vmgexit(&mock_v), VRESULT_RETRY);
	assert_int_equal(other->rax, 0xa);
	assert_true(ghcb_has(guest_page(), sw_exitcode)); /* as it was asked, never served */
	ghcb_reset(&mock_v);
	assert_null(mock_es.page);
	memset(other->valid_bitmap, 0, 16);
	ghcb_set(other, sw_exitcode, 0x76);
	ghcb_set(other, sw_exitinfo1, 9);
	ghcb_set(other, sw_exitinfo2, 9);
	mock_ghcb_msr = 0x7000; /* the one used last before the reset */
	assert_int_equal(ghcb_vmgexit(&mock_v), VRESULT_RETRY);
	assert_int_equal(other->sw_exitinfo1, 0);
	mock_ghcb_msr = 0;
	assert_int_equal(ghcb_vmgexit(&mock_v), VRESULT_RETRY);
	assert_int_equal(mock_told.logs, 1);
}

#define T(f) cmocka_unit_test_setup(f, mock_setup)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(row04_offsets_and_bits),
		T(row04_accessors),
		T(row12_each_event_with_its_inputs),
		T(row12_missing_input),
		T(row12_missing_event_fields),
		T(row12_usage),
		T(row12_versions),
		T(row12_unknown_event),
		T(row12_page_address),
		T(row12_bitmap_is_clear_meanwhile),
		T(row12_cpuid_vendor),
		T(row03_cpuid_by_both_ways),
		T(row03_msr_by_both_ways),
		T(row03_io_by_both_ways),
		T(cpuid_xsave),
		T(cpuid_of_an_es_guest),
		T(row05_only_valid_registers_reach_a_handler),
		T(row05_nothing_lingers),
		T(row05_only_the_copy_counts),
		T(msr_event),
		T(msr_of_the_save_area),
		T(rdtsc_and_rdtscp),
		T(rdpmc_is_gp),
		T(dr7_is_information),
		T(vmmcall),
		T(row29_nmi_complete),
		T(row27_reset_hold),
		T(row27_reset_hold_by_msr),
		T(row27_wake_before_the_hold),
		T(row27_no_hold),
		T(row27_jump_table),
		T(row16_termination),
		T(row14_info),
		T(row15_cpuid),
		T(row17_unknown_request),
		T(msr_features_and_snp),
		T(row13_trace_of_events),
		T(row17_trace_of_requests),
		T(row19_rep_outsb),
		T(row19_rep_insw),
		T(row19_sizes),
		T(row19_too_much),
		T(row18_scratch_of_version_2),
		T(row18_scratch_of_version_1),
		T(scratch_in_pieces),
		T(row18_mmio_sizes),
		T(row18_mmio_refused),
		T(row18_mmio_scratch),
		T(counters),
		T(counters_have_names),
		T(another_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
