/* SPDX-License-Identifier: BSD-2-Clause */
#include "es_rt.h"

/*
 * SEV-ES test guest: es_test says which part of docs/sev-es.md it exercises (the row's
 * number), es_args how. tests/machine/test_sev_es.py has the other half of each test.
 */

#define CR0_TS 8UL
#define CR0_WP (1UL << 16)
#define CR4_OSFXSR (1UL << 9)
#define CR4_OSXSAVE (1UL << 18)
#define CR4_PGE (1UL << 7)
#define EFER_SCE 1UL
#define EFER_NXE (1UL << 11)
#define EFER_SVME (1UL << 12)
#define XSTATE_X87_SSE 3u

static u32 vc_total(void)
{
	u32 sum = 0;

	for (u32 i = 0; i < VC_CODES; i++)
		sum += vc_count[i];
	return sum;
}

static void xsetbv(u32 lo)
{
	__asm__ volatile("xsetbv" : : "c"(0), "a"(lo), "d"(0) : "memory");
}

static u32 xgetbv(void)
{
	u32 lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return lo;
}

static void hello(void)
{
	print("es: hello\n");
}

/* --- 5: one copy of the GHCB --- */

static volatile u32 flipping, stop;

static void flip(void)
{
	volatile struct es_ghcb *g = GHCB_OF(0);

	flipping = 1;
	while (!stop) {
		*(volatile u64 *)&g->save[GHCB_RAX] = 0x40000000;
		*(volatile u64 *)&g->save[GHCB_RAX] = 0;
	}
}

static u64 missing_rdx(void)
{
	ghcb_clear();
	ghcb_put(GHCB_RCX, 0x8B); /* writable, without a meaning */
	ghcb_put(GHCB_RAX, 0);
	*(volatile u64 *)&es_ghcb()->save[GHCB_RDX] = 0x22; /* there, but not valid */
	return ghcb_event(0x7C, 1, 0);
}

static void one_copy(void)
{
	u32 vendor[4], hv[4];
	u32 wrong = 0, seen[2] = { 0, 0 };
	u64 info1, info2;

	info1 = missing_rdx();
	info2 = ghcb_get(GHCB_INFO2);
	check("RDX absent: INFO1", info1 & 0xFFFFFFFF, 2);
	check("RDX absent: INFO2", info2, 4);
	ghcb_clear();
	ghcb_put(GHCB_RCX, 0x10);
	info1 = ghcb_event(0x7C, 0, 0);
	check("RCX alone reads an MSR", info1 & 0xFFFFFFFF, 0);
	if (es_args[0] == 0)
		return;
	cpuid(0, 0, vendor);
	cpuid(0x40000000, 0, hv);
	x2apic_on();
	start_ap(1, 0);
	check_true("other CPU writes", wait_until(&flipping, 1, 10000000));
	for (u32 i = 0; i < es_args[0]; i++) {
		u64 b;

		ghcb_clear();
		ghcb_put(GHCB_RAX, 0);
		ghcb_put(GHCB_RCX, 0);
		(void)ghcb_event(0x72, 0, 0);
		b = (u32)ghcb_get(GHCB_RBX);
		if (b == vendor[1] && (u32)ghcb_get(GHCB_RDX) == vendor[3])
			seen[0]++;
		else if (b == hv[1] && (u32)ghcb_get(GHCB_RDX) == hv[3])
			seen[1]++;
		else
			wrong++;
	}
	stop = 1;
	check("answers of no leaf or of two", wrong, 0);
	print("es: leaf 0 %u times, the other's %u times\n", seen[0], seen[1]);
}

/* --- 6: what must not be intercepted --- */

static void intercepts(void)
{
	u64 cr4 = READ_CR(4);
	u32 before, r[4];

	cpuid(1, 0, r);
	WRITE_CR(4, cr4 | ((r[2] >> 26 & 1) != 0 ? CR4_OSXSAVE : 0));
	before = vc_total();
	WRITE_CR(0, READ_CR(0) | CR0_TS);
	__asm__ volatile("clts");
	WRITE_CR(4, READ_CR(4) ^ CR4_PGE);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	if ((r[2] >> 26 & 1) != 0)
		xsetbv(XSTATE_X87_SSE);
	WRITE_CR(3, READ_CR(3));
	(void)rdmsr(MSR_PAT);
	(void)rdmsr(MSR_SEV_STATUS);
	check("#VC by none of them", vc_total() - before, 0);
	check("CR4 stays", READ_CR(4) & CR4_PGE, ~cr4 & CR4_PGE);
	check("EFER stays", rdmsr(MSR_EFER) & EFER_SCE, EFER_SCE);
	if ((r[2] >> 26 & 1) != 0)
		check("XCR0 stays", xgetbv(), XSTATE_X87_SSE);
	check("PAT after reset", rdmsr(MSR_PAT), 0x0007040600070406);
	check("SEV_STATUS", rdmsr(MSR_SEV_STATUS) & 3, 3);
}

/* Only the codes of #VC: the hypervisor has been told to intercept what it must not. */
static void wrong_intercepts(void)
{
	TRY("mov %0, %%cr8", : : "r"(0UL) : CLOBBERS);
	print("es: CR8 write: vector %u code 0x%x\n", trap.vector, trap.error);
	WRITE_CR(4, READ_CR(4) | CR4_OSXSAVE);
	TRY("xsetbv", : : "c"(0), "a"(3), "d"(0) : CLOBBERS);
	print("es: XSETBV: vector %u code 0x%x\n", trap.vector, trap.error);
}

/* --- 7: debug registers --- */

static void debug_registers(void)
{
	u32 before = vc_total();

	u64 dr0, dr3;

	WRITE_DR(0, 0x123450);
	WRITE_DR(3, 0x678900);
	dr0 = READ_DR(0);
	dr3 = READ_DR(3);
	check("no #VC", vc_total() - before, 0);
	check("DR0 read back", dr0, 0x123450);
	check("DR3 read back", dr3, 0x678900);
	WRITE_DR(7, 0x403); /* armed, as the hypervisor is told: the host must not care */
	check("DR7 by #VC 0x37", vc_count[0x37], 1);
	print("es: armed\n");
	cli();
	for (;;)
		hlt();
}

/* --- 8, 26: what the host can see --- */

/* Not written in one piece in the image: it must not be found there. */
static void marker(char *to, const char *word)
{
	for (u32 i = 0; i < 4; i++)
		for (u32 j = 0; word[j]; j++)
			*to++ = (char)(word[j] ^ 0x20);
}

static char private_page[4096] __attribute__((aligned(4096)));

static void hide(void)
{
	marker(private_page, "pRIVATEmARKER");
	marker((char *)SHARED_FREE, "sHAREDmARKER");
	print("es: hidden\n");
	__asm__ volatile("mov $~0x5ec2e7005ec2e701, %%r8\n\tnot %%r8\n\tmov %%r8, %%r9\n\t"
			 "mov %%r8, %%r12\n\tmov %%r8, %%r15\n\tmovq %%r8, %%xmm3\n\t"
			 "punpcklqdq %%xmm3, %%xmm3\n"
			 "1:\thlt\n\tjmp 1b" : : : "r8", "r9", "r12", "r15", "memory");
}

/* Two CPUs or two guests on one CPU: each has its own pattern in the vector registers. */
static void vectors(void)
{
	u64 pattern = es_args[0], lo, hi, wrong = 0;

	__asm__ volatile("movq %0, %%xmm5\n\tpunpcklqdq %%xmm5, %%xmm5" : : "r"(pattern));
	for (u64 i = 0; i < es_args[1]; i++) {
		if (i % 16 == 0) {
			ghcb_clear();
			ghcb_put(GHCB_RAX, 0);
			ghcb_put(GHCB_RCX, 0);
			(void)ghcb_event(0x72, 0, 0);
		}
		pause_cpu();
		__asm__ volatile("movq %%xmm5, %0\n\tmovhlps %%xmm5, %%xmm6\n\tmovq %%xmm6, %1"
				 : "=r"(lo), "=r"(hi));
		wrong += lo != pattern || hi != pattern;
	}
	check("vector registers changed", wrong, 0);
}

/* --- 9: devices --- */

static void device(void)
{
	u64 ioapic = 0xFEC00000;
	u32 value;

	mmio_write(ioapic, 1); /* version register */
	check("one #VC for the write", vc_count[0xFF], 1);
	value = mmio_read(ioapic + 0x10);
	check("one more for the read", vc_count[0xFF], 2);
	check("nothing else", vc_last, 0x400);
	check("version of an I/O APIC", value >> 16 & 0xFF, 23);
}

/* --- 10 --- */

static void triple_fault(void)
{
	static const struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) none = { 0, 0 };

	print("es: shutdown\n");
	__asm__ volatile("lidt %0\n\tud2" : : "m"(none));
}

/* --- 11: some of everything, for long --- */

static void many_exits(void)
{
	u32 r[4];

	for (u64 i = 0; i < es_args[0]; i++) {
		cpuid((u32)i & 0xF, 0, r);
		(void)rdmsr(0x10);
		pause_cpu();
		WRITE_CR(0, READ_CR(0));
		(void)inb(0x80);
	}
	check("CPUID exits", vc_count[0x72], es_args[0]);
}

static void terminate(void)
{
	if (es_args[2] != 0) {
		x2apic_on();
		start_ap(1, 0);
		(void)wait_until(&flipping, 1, 10000000);
	}
	es_terminate((u32)es_args[0], (u32)es_args[1]);
}

/* --- 20 to 24: INVD and the write traps --- */

static void invd(void)
{
	__asm__ volatile("invd" : : : "memory");
	if (es_args[0] == 0)
		check("INVD by #VC 0x76", vc_count[0x76], 1);
	__asm__ volatile("wbinvd" : : : "memory");
	check("WBINVD by #VC 0x89", vc_count[0x89], 1);
}

static void efer(void)
{
	u64 old = rdmsr(MSR_EFER);

	wrmsr(MSR_EFER, old | EFER_SCE);
	check("EFER.SCE set, behind WRMSR", rdmsr(MSR_EFER) & EFER_SCE, EFER_SCE);
	wrmsr(MSR_EFER, old | EFER_SCE | EFER_SVME);
	TRY("wrmsr", : : "c"(MSR_EFER), "a"(0x80000500), "d"(0) : CLOBBERS);
	check("reserved bit: #GP", trap.vector, GP);
	print("es: EFER 0x%lx\n", (rdmsr(MSR_EFER) | EFER_SCE) & ~EFER_SVME);
	cli();
	for (;;)
		hlt();
}

static void cr0(void)
{
	u64 old = READ_CR(0);

	WRITE_CR(0, old ^ CR0_WP);
	check("WP off", READ_CR(0), old ^ CR0_WP);
	WRITE_CR(0, old);
	WRITE_CR(0, old | CR0_TS);
	check("TS on", READ_CR(0), old | CR0_TS);
	WRITE_CR(0, old);
	check("as before", READ_CR(0), old);
	print("es: CR0 0x%lx\n", old);
}

static void cr4(void)
{
	u32 r[4];

	cpuid(1, 0, r);
	check("OSXSAVE clear", r[2] >> 27 & 1, 0);
	WRITE_CR(4, READ_CR(4) | CR4_OSXSAVE);
	cpuid(1, 0, r);
	print("es: OSXSAVE %u CR4 0x%lx\n", r[2] >> 27 & 1, READ_CR(4));
}

static volatile u32 irqs, nmis, nested;

static void count_irq(struct es_frame *f)
{
	(void)f;
	irqs++;
	apic_eoi();
}

#define TEST_VECTOR 0x50

static void cr8(void)
{
	es_handler[TEST_VECTOR] = count_irq;
	x2apic_on();
	WRITE_CR(8, 15);
	sti();
	send_ipi(0, TEST_VECTOR);
	for (u32 i = 0; i < 1000; i++)
		pause_cpu();
	check("held back by CR8", irqs, 0);
	WRITE_CR(8, 4);
	check("injected at once", irqs, 1);
	WRITE_CR(8, 5);
	send_ipi(0, TEST_VECTOR);
	check("class equal to the priority", irqs, 1);
	WRITE_CR(8, 0);
	check("and below", irqs, 2);
	check("CR8", READ_CR(8), 0);
	check("TPR register", apic_read(0x80), 0);
	WRITE_CR(8, 3);
	check("TPR follows", apic_read(0x80), 0x30);
	apic_write(0x80, 0x20);
	check("CR8 follows", READ_CR(8), 2);
	TRY("mov %0, %%cr8", : : "r"(16UL) : CLOBBERS);
	check("16: #GP", trap.vector, GP);
	cli();
	WRITE_CR(8, 0);
	send_ipi(0, TEST_VECTOR);
	check("IF off", irqs, 2);
	__asm__ volatile("sti; nop; nop" : : : "memory");
	check("window", irqs, 3);
	print("es: traps done\n");
}

/* --- 25 --- */

static void registers(void)
{
	WRITE_CR(4, READ_CR(4) | CR4_PGE);
	WRITE_CR(8, 7);
	print("es: tracked cr0 %lx cr4 %lx cr8 %lx efer %lx\n", READ_CR(0), READ_CR(4), READ_CR(8),
	      rdmsr(MSR_EFER) & ~EFER_SVME);
	cli();
	for (;;)
		hlt();
}

/* --- 28: where the guest goes on --- */

static void resume(void)
{
	u64 a = 0;

	es_handler[TEST_VECTOR] = count_irq;
	x2apic_on();
	send_ipi(0, TEST_VECTOR);
	__asm__ volatile("inc %0\n\tsti\n\thlt\n\tinc %0\n\tcli\n\tpause\n\tinc %0" : "+r"(a));
	check("each instruction once: HLT, PAUSE", a, 3);
	check("woken by its interrupt", irqs, 1);
	wrmsr(MSR_GHCB, 0x004 | 3UL << 30);
	a = 0;
	__asm__ volatile("inc %0\n\trep; vmmcall\n\tinc %0" : "+r"(a) : : "memory");
	check("VMGEXIT", a, 2);
	__asm__ volatile("inc %0\n\twrmsr\n\tinc %0" : "+r"(a)
			 : "c"(MSR_EFER), "a"((u32)rdmsr(MSR_EFER)), "d"(0));
	check("WRMSR(EFER)", a, 4);
	a = 0;
	__asm__ volatile("inc %0\n\tmov 0x10(%1), %%ebx\n\tinc %0" : "+r"(a) : "r"(0xFEC00000UL)
			 : "rbx", "memory");
	check("a device's register", a, 2);
}

/* --- 29: NMIs --- */

static void on_nmi(struct es_frame *f)
{
	(void)f;
	if (nested++ != 0)
		es_terminate(1, 0x29);
	nmis++;
	for (u32 i = 0; i < 20000; i++)
		pause_cpu();
	/* From here on the next one may come; IRET follows at once. */
	nested = 0;
	if (es_args[0] == 0) {
		ghcb_clear();
		(void)ghcb_event(0x80000003, 0, 0);
	}
}

static void nmi(void)
{
	es_handler[2] = on_nmi;
	es_handler[TEST_VECTOR] = count_irq;
	x2apic_on();
	print("es: ready\n");
	sti();
	(void)wait_until(&nmis, es_args[0] == 0 ? 2 : 1, 1000000000);
	send_ipi(0, TEST_VECTOR);
	check_true("interrupts flow", wait_until(&irqs, 1, 1000000));
	for (u32 i = 0; i < 2000000; i++)
		pause_cpu();
	print("es: %u NMIs\n", nmis);
}

/* Only so that the hypervisor has something to inject into. */
static void wait_for_nmi(void)
{
	print("es: ready\n");
	for (;;)
		pause_cpu();
}

/* --- 27: other CPUs --- */

static volatile u32 held, released[ES_CPUS];
static volatile u64 hold_info2[ES_CPUS];

static void hold(u32 cpu)
{
	for (u32 round = 0; round < 3; round++) {
		u64 answer;

		__atomic_add_fetch(&held, 1, __ATOMIC_SEQ_CST);
		if (round == 1) {
			answer = ghcb_msr_call(6);
			hold_info2[cpu] = (answer & 0xFFF) == 7 ? answer >> 12 : 0x777;
		} else {
			ghcb_clear();
			(void)ghcb_event(0x80000004, 0, 0);
			hold_info2[cpu] = ghcb_valid(GHCB_INFO2) ? ghcb_get(GHCB_INFO2) : 0x888;
		}
		__atomic_add_fetch(&released[cpu], 1, __ATOMIC_SEQ_CST);
	}
}

static u64 jump_table(u64 what, u64 gpa, u64 *info2)
{
	u64 info1;

	ghcb_clear();
	info1 = ghcb_event(0x80000005, what, gpa);
	*info2 = ghcb_get(GHCB_INFO2);
	return (u32)info1;
}

static void check_jump_table(void)
{
	u64 r[4], info2[4];

	r[0] = jump_table(1, 0, &info2[0]);
	r[1] = jump_table(0, 0x9F000, &info2[1]);
	r[2] = jump_table(1, 0, &info2[2]);
	r[3] = jump_table(7, 0, &info2[3]);
	check("no table at first", info2[0], 0);
	check("set", r[1], 0);
	check("get", info2[2], 0x9F000);
	check("INFO1 = 7: INFO1", r[3], 2);
	check("INFO1 = 7: INFO2", info2[3], 5);
	check("get is right", r[0] | r[2], 0);
}

static void processors(void)
{
	u32 cpus = (u32)es_args[0];

	x2apic_on();
	check_jump_table();
	for (u32 i = 1; i < cpus; i++)
		start_ap(i, 0x99);
	check_true("all start", wait_until(&cpus_up, cpus, 100000000));
	for (u32 round = 0; round < 3; round++) {
		check_true("all in hold", wait_until(&held, (round + 1) * (cpus - 1), 100000000));
		for (u32 i = 1; i < cpus; i++) {
			for (u32 n = 0; n < 20000; n++)
				pause_cpu();
			check("still held", released[i], round);
			if (round == 2)
				send_ipi(i, IPI_NMI);
			else
				start_ap(i, 0x55);
			check_true("released", wait_until(&released[i], round + 1, 100000000));
			if (round == 2)
				check("without start-up IPI: 0", hold_info2[i], 0);
			else
				check_true("by start-up IPI: not 0",
					   hold_info2[i] != 0 && hold_info2[i] < 0x777);
		}
	}
}

static volatile u32 beats;

/* A start-up IPI for a CPU that runs is nothing to it. */
static void ignored_sipi(void)
{
	u32 seen;

	x2apic_on();
	start_ap(1, 0);
	check_true("beats", wait_until(&beats, 10, 100000000));
	send_ipi(1, IPI_SIPI | 0x33);
	seen = beats;
	check_true("beats on", wait_until(&beats, seen + 1000, 100000000));
	check("started once", cpus_up, 2);
	stop = 1;
}

static void on_quiet_nmi(struct es_frame *f) { (void)f; }

/* --- 33: two CPUs with different page tables for one address --- */

#define ALIAS 0x40000000UL

static u64 alias_pml4[2][512] __attribute__((aligned(4096)));
static u64 alias_pdpt[2][512] __attribute__((aligned(4096)));
static u64 alias_pd[2][512] __attribute__((aligned(4096)));
static u64 alias_pt[2][512] __attribute__((aligned(4096)));
static u64 alias_page[2][512] __attribute__((aligned(4096)));
static volatile u32 alias_wrong, alias_done;

static void map_alias(u32 n)
{
	memcpy(alias_pml4[n], es_pml4, 4096);
	memcpy(alias_pdpt[n], (void *)(es_pml4[0] & ~es_c_mask & ~0xFFFUL), 4096);
	alias_pml4[n][0] = (u64)alias_pdpt[n] | 3 | es_c_mask;
	alias_pdpt[n][1] = (u64)alias_pd[n] | 3 | es_c_mask;
	alias_pd[n][0] = (u64)alias_pt[n] | 3 | es_c_mask;
	alias_pt[n][0] = (u64)alias_page[n] | 3 | es_c_mask;
	alias_page[n][0] = 0xA11A5000 + n;
	WRITE_CR(3, (u64)alias_pml4[n] | es_c_mask);
}

static void use_alias(u32 n)
{
	map_alias(n);
	for (u64 i = 0; i < es_args[1]; i++) {
		if (*(volatile u64 *)ALIAS != 0xA11A5000 + n)
			__atomic_add_fetch(&alias_wrong, 1, __ATOMIC_SEQ_CST);
		pause_cpu();
	}
	__atomic_add_fetch(&alias_done, 1, __ATOMIC_SEQ_CST);
}

static void page_tables(void)
{
	x2apic_on();
	start_ap(1, 0);
	use_alias(0);
	check_true("both done", wait_until(&alias_done, 2, 100000000));
	check("stale translations", alias_wrong, 0);
}

/* --- 35: the owner's secret --- */

static void secret(void)
{
	const char *text = (const char *)es_args[0];

	print("es: secret '%s'\n", text);
}

/* --- KVM's records: not in private memory --- */

/* Clocks first. The two of a pair are one register; a wall clock has no enable bit. */
static const struct {
	u32 msr, enable;
} records[] = {
	{ 0x11, 0 }, { 0x4b564d00, 0 }, { 0x12, 1 }, { 0x4b564d01, 1 }, { 0x4b564d03, 1 },
	{ 0x4b564d04, 1 },
};
#define RECORDS (sizeof(records) / sizeof(records[0]))

static void refused(u32 n, u64 value)
{
	u64 before = rdmsr(records[n].msr);

	TRY("wrmsr", : : "c"(records[n].msr), "a"((u32)value), "d"((u32)(value >> 32)) : CLOBBERS);
	check("private: #GP", trap.vector, GP);
	check("private: its error code", trap.error, 0);
	check("private: as before", rdmsr(records[n].msr), before);
}

/* Interrupts, time and other VMs: what makes the hypervisor write to records. */
static void use_records(void)
{
	es_handler[TEST_VECTOR] = count_irq;
	sti();
	for (u32 i = 0; i < 20000; i++) {
		if (i % 100 == 0)
			send_ipi(0, TEST_VECTOR);
		pause_cpu();
	}
	cli();
}

static u64 private_words_changed(void)
{
	u64 changed = 0;

	for (u32 i = 0; i < sizeof(private_page) / 8; i++)
		changed += ((volatile u64 *)private_page)[i] != 0x7e57 + i;
	return changed;
}

static void private_records(void)
{
	volatile u64 *shared = (volatile u64 *)SHARED_FREE;

	x2apic_on();
	memset((void *)shared, 0, 4096);
	for (u32 i = 0; i < sizeof(private_page) / 8; i++)
		((volatile u64 *)private_page)[i] = 0x7e57 + i;
	for (u32 n = 0; n < RECORDS; n++)
		refused(n, ((u64)private_page + 64 * n) | es_c_mask | records[n].enable);
	use_records();
	check("private words changed", private_words_changed(), 0);
	for (u32 n = 0; n < RECORDS; n++) {
		u64 place = (u64)(shared + 8 * n);

		wrmsr(records[n].msr, place | records[n].enable);
		check("shared: taken", rdmsr(records[n].msr), place | records[n].enable);
		refused(n, place | es_c_mask | records[n].enable);
	}
	use_records();
	for (u32 n = 0; n < RECORDS - 1; n++) /* an EOI word says something for moments only */
		check_true("shared: written", shared[8 * n] != 0 || shared[8 * n + 1] != 0);
	check("private words changed", private_words_changed(), 0);
}

static void (*const tests[])(void) = {
	[0] = hello,
	[5] = one_copy,
	[6] = intercepts,
	[7] = debug_registers,
	[8] = hide,
	[9] = device,
	[10] = triple_fault,
	[11] = many_exits,
	[16] = terminate,
	[20] = invd,
	[21] = efer,
	[22] = cr0,
	[23] = cr4,
	[24] = cr8,
	[25] = registers,
	[26] = vectors,
	[27] = processors,
	[28] = resume,
	[29] = nmi,
	[33] = page_tables,
	[35] = secret,
	[40] = private_records,
	[56] = wrong_intercepts,
	[77] = ignored_sipi,
	[79] = wait_for_nmi,
};

void es_ap(u32 cpu)
{
	es_handler[2] = on_quiet_nmi;
	switch (es_test) {
	case 5:
	case 16:
		flip();
		break;
	case 27:
		hold(cpu);
		break;
	case 33:
		use_alias(1);
		break;
	case 77:
		while (!stop)
			__atomic_add_fetch(&beats, 1, __ATOMIC_SEQ_CST);
		break;
	default:
		es_ghcb_ap(cpu);
		break;
	}
}

void es_guest(void)
{
	if (es_test < sizeof(tests) / sizeof(tests[0]) && tests[es_test] != NULL)
		tests[es_test]();
	else if (!es_ghcb_test(es_test))
		es_terminate(1, 0x20);
}
