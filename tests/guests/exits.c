/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One check for each way in which a guest can leave to its hypervisor: the answer must be the one
 * that the architecture gives. The same image runs on the bare emulator (command line: plain),
 * which then is the judge; checks of what the emulator is known not to model are left out there.
 * Command line: only=GROUP runs one group; cpus=N expects that many CPUs (default 1);
 * hardware: the CPU is a real one.
 */
#include "rt.h"

int main(void);
void forms64_run(u64 alias);

#define HOLE 0xFB000000u	/* no RAM and no device of the emulated machines is there */
#define ALIAS 0xFFFF800000000000ul
#define ALIAS_32 0xC0000000u

struct form {
	u32 name, want;
};
extern const struct form forms64_table[], forms64_table_end[];

/* The command line says: a real CPU. Emulated ones take control register values that real ones
 * refuse, and then refuse to enter the guest with them. */
static bool hardware;
static volatile u32 ticks, nested, order_at;
static volatile u64 seen_rip;
static volatile u8 order[16];
static u8 page_a[4096] __attribute__((aligned(4096)));
static u8 page_b[4096] __attribute__((aligned(4096)));
static u32 pd_4m[1024] __attribute__((aligned(4096)));
static u64 pae_pdpt[4] __attribute__((aligned(32)));
static u64 pae_pd[4][512] __attribute__((aligned(4096)));
static u64 test_pd[512] __attribute__((aligned(4096)));
static u64 test_pt[512] __attribute__((aligned(4096)));

static bool has(u32 leaf, u32 reg, u32 bit)
{
	u32 r[4], max[4];

	cpuid(leaf & 0x80000000, 0, max);
	if (max[0] < leaf)
		return false;
	cpuid(leaf, 0, r);
	return r[reg] >> bit & 1;
}

static void count_irq(struct frame *f)
{
	seen_rip = f->rip;
	ticks++;
	apic_eoi();
}

static void record_irq(struct frame *f)
{
	if (order_at < sizeof(order))
		order[order_at++] = (u8)f->vector;
	apic_eoi();
}

/* --- pages of our own at 512 GiB: PML4 slot 1 --- */

#define OWN 0x8000000000ul

static void map_own(void)
{
	static u64 pdpt[512] __attribute__((aligned(4096)));

	test_pd[0] = (u64)test_pt | 3;
	pdpt[0] = (u64)test_pd | 3;
	((u64 *)pml4)[1] = (u64)pdpt | 3;
	test_pt[0] = (u64)page_a | 3;
	test_pt[1] = 0;
	WRITE_CR(3, (u64)pml4);
}

/* --- instructions --- */

static void test_cpuid(void)
{
	u64 a = 0xFFFFFFFF00000000ul, b = ~0ul, c = 0xFFFFFFFF00000000ul, d = ~0ul;
	u32 r[4];

	__asm__ volatile("cpuid" : "+a"(a), "+b"(b), "+c"(c), "+d"(d));
	check_true("cpuid leaf 0 has a vendor", b && c && d);
	check("cpuid clears upper halves", (a | b | c | d) >> 32, 0);
	cpuid(1, 0, r);
	check("cpuid initial apic id", r[1] >> 24, 0);
	TRY("cpuid", : : "a"(0x7FFFFFFF), "c"(0) : "rbx", "rdx", CLOBBERS);
	check("cpuid of an unknown leaf", trap.vector, NO_TRAP);
	if (!plain) {
		cpuid(0x80000001, 0, r);
		check("cpuid shows no svm", r[2] >> 2 & 1, 0);
		cpuid(1, 0, r);
		check("cpuid shows no vmx", r[2] >> 5 & 1, 0);
		check("cpuid shows a hypervisor", r[2] >> 31, 1);
		cpuid(0x40000000, 0, r);
		check_true("hypervisor leaves", r[0] >= 0x40000000 && r[1]);
	}
}

static void test_cpuid_dynamic(void)
{
	u32 before[4], after[4];

	if (!has(1, 2, 26))
		return;
	cpuid(1, 0, before);
	WRITE_CR(4, READ_CR(4) | 1 << 18);
	cpuid(1, 0, after);
	WRITE_CR(4, READ_CR(4) & ~(1ul << 18));
	check("cpuid osxsave follows cr4", (before[2] >> 27 & 1) << 1 | (after[2] >> 27 & 1), 1);
}

#define RDMSR_TRY(index) ({ \
	u32 lo_ = 0, hi_ = 0; \
	TRY("rdmsr", : "=a"(lo_), "=d"(hi_) : "c"(index) : CLOBBERS); \
	(u64)hi_ << 32 | lo_; })
#define WRMSR_TRY(index, value) \
	TRY("wrmsr", : : "c"(index), "a"((u32)(value)), "d"((u32)((u64)(value) >> 32)) : CLOBBERS)

static void msr_keeps(const char *name, u32 index, u64 value)
{
	u64 old = rdmsr(index), got;

	WRMSR_TRY(index, value);
	if (trap.vector != NO_TRAP) {
		check(name, trap.vector, NO_TRAP);
		return;
	}
	got = rdmsr(index);
	wrmsr(index, old);
	check(name, got, value);
}

static void test_msr(void)
{
	u64 v = rdmsr(MSR_APIC_BASE);

	check("msr apic base", v & 0xFFFFFF900ul, APIC_BASE | 0x900);
	v = rdmsr(MSR_EFER);
	check("msr efer long mode", v & 0x500, 0x500);
	check("msr efer shows no svme", v >> 12 & 1, 0);
	wrmsr(MSR_EFER, v | 1);
	check("msr efer sce set", rdmsr(MSR_EFER) & 0x501, 0x501);
	wrmsr(MSR_EFER, v);
	check("msr efer sce cleared", rdmsr(MSR_EFER), v);
	msr_keeps("msr fs base", MSR_FS_BASE, 0xFFFF8000DEADBEE0ul);
	msr_keeps("msr kernel gs base", MSR_KERNEL_GS_BASE, 0x7FFF12345678ul);
	msr_keeps("msr star", MSR_STAR, 0x0023001000000000ul);
	msr_keeps("msr lstar", MSR_LSTAR, 0xFFFFFFFF81000000ul);
	msr_keeps("msr sfmask", MSR_SFMASK, 0x47700);
	msr_keeps("msr sysenter eip", 0x176, 0x12345678);
	msr_keeps("msr pat", MSR_PAT, 0x0007040600070406ul);
	if (has(0x80000001, 3, 27))
		msr_keeps("msr tsc aux", MSR_TSC_AUX, 0x1234);
	if (plain)
		return;
	RDMSR_TRY(0x12345678);
	check("rdmsr unknown", trap.vector, GP);
	check("rdmsr unknown error code", trap.error, 0);
	WRMSR_TRY(0x12345678, 0);
	check("wrmsr unknown", trap.vector, GP);
	WRMSR_TRY(MSR_EFER, v | 1ul << 40);
	check("wrmsr efer reserved", trap.vector, GP);
	WRMSR_TRY(MSR_EFER, v | 1ul << 12);
	check("wrmsr efer svme", trap.vector, GP);
	WRMSR_TRY(MSR_EFER, v & ~0x100ul);
	check("wrmsr efer lme with paging", trap.vector, GP);
	check("efer is unchanged", rdmsr(MSR_EFER), v);
	WRMSR_TRY(MSR_PAT, 0x0007040600070402ul);
	check("wrmsr pat with type 2", trap.vector, GP);
	WRMSR_TRY(0xC0010117, 0x1000);
	check("wrmsr vm_hsave_pa", trap.vector, GP);
}

static void test_tsc(void)
{
	u64 a = rdtsc(), b, aux;
	u32 lo, hi, c;

	b = rdtsc();
	check_true("rdtsc goes up", b > a);
	if (has(0x80000001, 3, 27)) {
		wrmsr(MSR_TSC_AUX, 0x55AA);
		__asm__ volatile("rdtscp" : "=a"(lo), "=d"(hi), "=c"(c));
		aux = c;
		check("rdtscp aux", aux, 0x55AA);
		check_true("rdtscp goes up", ((u64)hi << 32 | lo) > b);
	}
	WRITE_CR(4, READ_CR(4) | 4);
	TRY("rdtsc", : : : "rax", "rdx", CLOBBERS);
	WRITE_CR(4, READ_CR(4) & ~4ul);
	check("rdtsc with tsd in ring 0", trap.vector, NO_TRAP);
	a = rdtsc();
	delay_us(20000);
	check_true("tsc runs on", rdtsc() > a);
	if (plain)
		return;
	wrmsr(MSR_TSC, 1ul << 50);
	b = rdtsc();
	check("wrmsr tsc", b >> 50, 1);
	wrmsr(MSR_TSC, a);
}

static void test_caches(void)
{
	static volatile u32 word;

	word = 0x600D;
	TRY("wbinvd", : : : CLOBBERS);
	check("wbinvd", trap.vector, NO_TRAP);
	TRY("invd", : : : CLOBBERS);
	check("invd", trap.vector, NO_TRAP);
	check("memory after invd", word, 0x600D);
	for (int i = 0; i < 5000; i++)
		pause_cpu();
	check_true("pause", true);
}

static void test_monitor(void)
{
	bool known = has(1, 2, 3);

	TRY("monitor", : : "a"(page_a), "c"(0), "d"(0) : CLOBBERS);
	check("monitor as cpuid says", trap.vector, known ? NO_TRAP : UD);
	if (known)
		return;
	TRY("mwait", : : "a"(0), "c"(0) : CLOBBERS);
	check("mwait as cpuid says", trap.vector, UD);
}

static void test_rdpmc(void)
{
	TRY("rdpmc", : : "c"(0x12345) : "rax", "rdx", CLOBBERS);
	check("rdpmc of no counter", trap.vector, plain ? UD : GP);
}

static u64 xgetbv(void)
{
	u32 lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (u64)hi << 32 | lo;
}

static void test_xsetbv(void)
{
	if (!has(1, 2, 26)) {
		TRY("xsetbv", : : "a"(1), "d"(0), "c"(0) : CLOBBERS);
		check("xsetbv without xsave", trap.vector, UD);
		return;
	}
	TRY("xsetbv", : : "a"(1), "d"(0), "c"(0) : CLOBBERS);
	check("xsetbv without osxsave", trap.vector, UD);
	WRITE_CR(4, READ_CR(4) | 1 << 18);
	TRY("xsetbv", : : "a"(3), "d"(0), "c"(0) : CLOBBERS);
	check("xsetbv x87+sse", trap.vector, NO_TRAP);
	check("xgetbv", xgetbv(), 3);
	TRY("xsetbv", : : "a"(0), "d"(0), "c"(0) : CLOBBERS);
	check("xsetbv without x87", trap.vector, GP);
	TRY("xsetbv", : : "a"(5), "d"(0), "c"(0) : CLOBBERS);
	check("xsetbv avx without sse", trap.vector, GP);
	TRY("xsetbv", : : "a"(3), "d"(0x40000000), "c"(0) : CLOBBERS);
	check("xsetbv reserved", trap.vector, GP);
	TRY("xsetbv", : : "a"(3), "d"(0), "c"(1) : CLOBBERS);
	check("xsetbv of xcr1", trap.vector, GP);
	check("xcr0 is unchanged", xgetbv(), 3);
	WRITE_CR(4, READ_CR(4) & ~(1ul << 18));
}

#define UD_CHECK(name, insn) do { \
	TRY(insn, : : "a"(0), "b"(page_b), "c"(0), "d"(0) : CLOBBERS); \
	check(name " is #UD", trap.vector, UD); \
} while (0)

static void test_virt_insns(void)
{
	UD_CHECK("vmrun", "vmrun");
	UD_CHECK("vmload", "vmload");
	UD_CHECK("vmsave", "vmsave");
	UD_CHECK("stgi", "stgi");
	UD_CHECK("clgi", "clgi");
	UD_CHECK("skinit", "skinit");
	UD_CHECK("invlpga", "invlpga");
	UD_CHECK("vmxon", ".byte 0xF3,0x0F,0xC7,0x33");
	UD_CHECK("vmclear", ".byte 0x66,0x0F,0xC7,0x33");
	UD_CHECK("vmptrld", ".byte 0x0F,0xC7,0x33");
	UD_CHECK("vmptrst", ".byte 0x0F,0xC7,0x3B");
	UD_CHECK("vmlaunch", ".byte 0x0F,0x01,0xC2");
	UD_CHECK("vmresume", ".byte 0x0F,0x01,0xC3");
	UD_CHECK("vmxoff", ".byte 0x0F,0x01,0xC4");
	UD_CHECK("vmread", ".byte 0x0F,0x78,0xC0");
	UD_CHECK("vmwrite", ".byte 0x0F,0x79,0xC0");
	UD_CHECK("vmfunc", ".byte 0x0F,0x01,0xD4");
	UD_CHECK("invept", ".byte 0x66,0x0F,0x38,0x80,0x03");
	UD_CHECK("invvpid", ".byte 0x66,0x0F,0x38,0x81,0x03");
	UD_CHECK("getsec", ".byte 0x0F,0x37");
	UD_CHECK("ud2", "ud2");
	UD_CHECK("rsm", "rsm");
	UD_CHECK("vmgexit or vmmcall's prefix form", ".byte 0x0F,0x01,0xDD");
}

static void test_hypercall(void)
{
	u64 a = 0x7FFF0000;

	if (plain)
		return;
	if (has_vmcall())
		TRY("vmcall", : "+a"(a) : : "rbx", "rcx", "rdx", "rsi", CLOBBERS);
	else
		TRY("vmmcall", : "+a"(a) : : "rbx", "rcx", "rdx", "rsi", CLOBBERS);
	/* KVM's ABI: an unknown number is -1000. */
	check("unknown hypercall", trap.vector == NO_TRAP ? a : trap.vector, (u64)-1000);
}

static void test_exceptions(void)
{
	u64 a = 1, d = 0;

	TRY("divl %%ecx", : "+a"(a), "+d"(d) : "c"(0) : CLOBBERS);
	check("#DE", trap.vector, 0);
	TRY("int3", : : : CLOBBERS);
	check("#BP", trap.vector, BP);
	TRY("movl (%%rcx), %%eax", : : "c"(0x7000000000ul) : "rax", CLOBBERS);
	check("#PF", trap.vector, PF);
	check("#PF cr2", trap.cr2, 0x7000000000ul);
	check("#PF read error code", trap.error, 0);
	TRY("movl %%eax, (%%rcx)", : : "c"(0x7000000008ul) : CLOBBERS);
	check("#PF write error code", trap.error, 2);
	TRY("movl (%%rcx), %%eax", : : "c"(0x8000000000000000ul) : "rax", CLOBBERS);
	check("#GP non-canonical", trap.vector, GP);
	TRY("movl %%ecx, %%es", : : "c"(0x30) : CLOBBERS);
	check("#NP", trap.vector, NP);
	check("#NP error code", trap.error, 0x30);
	WRITE_CR(0, READ_CR(0) | 8);
	TRY("fnop", : : : CLOBBERS);
	__asm__ volatile("clts");
	check("#NM", trap.vector, NM);
}

static void soft_int(struct frame *f)
{
	seen_rip = f->rip;
	ticks++;
}

static void test_soft_int(void)
{
	u64 want;

	irq_handler[0x80] = soft_int;
	ticks = 0;
	__asm__ volatile("int $0x80\n1: leaq 1b(%%rip), %0" : "=r"(want) : : "memory");
	check("int 0x80", ticks, 1);
	check("int 0x80 returns behind", seen_rip, want);
	TRY(".byte 0xF1", : : : CLOBBERS);
	/* Some emulators know no ICEBP at all. */
	if (trap.vector == UD)
		return;
	irq_handler[DB] = soft_int;
	ticks = 0;
	__asm__ volatile(".byte 0xF1\n1: leaq 1b(%%rip), %0" : "=r"(want) : : "memory");
	irq_handler[DB] = NULL;
	check("icebp gives #DB", ticks, 1);
	check("icebp returns behind", seen_rip, want);
}

/* --- control and debug registers --- */

static void test_cr0(void)
{
	u64 cr0 = READ_CR(0);

	for (u32 bit = 1; bit < 31; bit++) {
		u64 changed = cr0 ^ 1ul << bit;

		/* MP, TS, NE, WP, AM: each may change by itself. */
		if (!(0x5002A & 1u << bit))
			continue;
		WRITE_CR(0, changed);
		check("cr0 bit", READ_CR(0), changed);
		WRITE_CR(0, cr0);
	}
	WRITE_CR(0, cr0 | 1 << 30);
	check("cr0 cd", READ_CR(0) >> 29 & 3, 2);
	WRITE_CR(0, cr0);
	__asm__ volatile("smsw %%ax\n\torw $8, %%ax\n\tlmsw %%ax" : : : "rax", "memory");
	check("lmsw sets ts", READ_CR(0), cr0 | 8);
	__asm__ volatile("clts");
	check("clts", READ_CR(0), cr0);
	if (!hardware)
		return;
	TRY("movq %%rcx, %%cr0", : : "c"(cr0 | 1 << 29) : CLOBBERS);
	check("cr0 nw without cd", trap.vector, GP);
	TRY("movq %%rcx, %%cr0", : : "c"(cr0 & ~1ul) : CLOBBERS);
	check("cr0 paging without protection", trap.vector, GP);
	TRY("movq %%rcx, %%cr0", : : "c"(cr0 | 1ul << 32) : CLOBBERS);
	check("cr0 upper half", trap.vector, GP);
	check("cr0 is unchanged", READ_CR(0), cr0);
}

static void test_cr3(void)
{
	volatile u8 *own = (volatile u8 *)OWN;

	map_own();
	page_a[0] = 0xAA;
	page_b[0] = 0xBB;
	check("own page", own[0], 0xAA);
	test_pt[0] = (u64)page_b | 3;
	__asm__ volatile("invlpg (%0)" : : "r"(own) : "memory");
	check("invlpg", own[0], 0xBB);
	test_pt[0] = (u64)page_a | 3;
	WRITE_CR(3, READ_CR(3));
	check("cr3 write flushes", own[0], 0xAA);
	test_pt[0] = (u64)page_b | 3 | 0x100;
	WRITE_CR(4, READ_CR(4) | 0x80);
	__asm__ volatile("invlpg (%0)" : : "r"(own) : "memory");
	check("global page", own[0], 0xBB);
	test_pt[0] = (u64)page_a | 3;
	WRITE_CR(4, READ_CR(4) & ~0x80ul);
	check("cr4 pge flushes", own[0], 0xAA);
	/* The same together with MCE, which a hypervisor keeps for itself. */
	test_pt[0] = (u64)page_b | 3 | 0x100;
	WRITE_CR(4, READ_CR(4) | 0x80);
	__asm__ volatile("invlpg (%0)" : : "r"(own) : "memory");
	check("global page again", own[0], 0xBB);
	test_pt[0] = (u64)page_a | 3;
	WRITE_CR(4, READ_CR(4) ^ 0xC0);
	check("cr4 pge and mce flush", own[0], 0xAA);
	WRITE_CR(4, READ_CR(4) ^ 0x40);
	check("cr3", READ_CR(3), (u64)pml4);
	WRITE_CR(3, (u64)pml4);
}

static void test_cr4(void)
{
	u64 cr4 = READ_CR(4);

	for (u32 bit = 0; bit < 9; bit++) {
		u64 changed = cr4 ^ 1ul << bit;

		/* TSD, DE, PSE, MCE, PGE, PCE. */
		if (!(0x1DC & 1u << bit))
			continue;
		WRITE_CR(4, changed);
		check("cr4 bit", READ_CR(4), changed);
		WRITE_CR(4, cr4);
	}
	if (!hardware)
		return;
	TRY("movq %%rcx, %%cr4", : : "c"(cr4 & ~0x20ul) : CLOBBERS);
	check("cr4 pae off in long mode", trap.vector, GP);
	TRY("movq %%rcx, %%cr4", : : "c"(cr4 | 1 << 13) : CLOBBERS);
	check("cr4 vmxe", trap.vector, GP);
	TRY("movq %%rcx, %%cr4", : : "c"(cr4 | 1ul << 40) : CLOBBERS);
	check("cr4 reserved bit", trap.vector, GP);
	check("cr4 is unchanged", READ_CR(4), cr4);
}

static void test_cr8(void)
{
	WRITE_CR(8, 5);
	check("cr8 reads back", READ_CR(8), 5);
	check("cr8 shows in tpr", apic_read(APIC_TPR), 0x50);
	apic_write(APIC_TPR, 0x73);
	check("tpr shows in cr8", READ_CR(8), 7);
	apic_write(APIC_TPR, 0);
	check("cr8 is zero again", READ_CR(8), 0);
	check("ppr", apic_read(APIC_PPR), 0);
	if (!hardware)
		return;
	TRY("movq %%rcx, %%cr8", : : "c"(0x10) : CLOBBERS);
	check("cr8 reserved bit", trap.vector, GP);
}

static volatile u64 watched, seen_dr6;

static void debug_trap(struct frame *f)
{
	seen_rip = f->rip;
	seen_dr6 = READ_DR(6);
	ticks++;
	WRITE_DR(6, 0xFFFF0FF0);
	f->rflags &= ~(1ul << 8);
}

static void test_dr(void)
{
	u64 want;

	WRITE_DR(0, 0x1111);
	WRITE_DR(1, 0x2222);
	WRITE_DR(2, 0x3333);
	WRITE_DR(3, 0xFFFF800000004444ul);
	check("dr0", READ_DR(0), 0x1111);
	check("dr1", READ_DR(1), 0x2222);
	check("dr2", READ_DR(2), 0x3333);
	check("dr3", READ_DR(3), 0xFFFF800000004444ul);
	check("dr7 after start", READ_DR(7), 0x400);
	irq_handler[DB] = debug_trap;
	ticks = 0;
	WRITE_DR(0, (u64)&watched);
	WRITE_DR(7, 0x400 | 0xD0000 | 3);
	__asm__ volatile("movl $7, watched\n1: leaq 1b(%%rip), %0" : "=r"(want) : : "memory");
	check("watch point", ticks, 1);
	check("watch point is a trap", seen_rip, want);
	check("watch point in dr6", seen_dr6 & 0xF, 1);
	WRITE_DR(7, 0x400);
	irq_handler[DB] = NULL;
	WRITE_CR(4, READ_CR(4) | 8);
	TRY("movq %%dr4, %%rcx", : : : "rcx", CLOBBERS);
	WRITE_CR(4, READ_CR(4) & ~8ul);
	check("dr4 with cr4.de", trap.vector, UD);
	if (plain)
		return;
	TRY("movq %%rcx, %%dr7", : : "c"(1ul << 32) : CLOBBERS);
	check("dr7 upper half", trap.vector, GP);
}

/* --- single step across instructions that leave to the hypervisor --- */

static volatile u64 step_first, step_traps;

static void step_trap(struct frame *f)
{
	if (!step_traps++) {
		step_first = f->rip;
		seen_dr6 = READ_DR(6);
	}
	WRITE_DR(6, 0xFFFF0FF0);
	/* Off from here: the first trap is the one that counts. */
	f->rflags &= ~(1ul << 8);
}

static void step_all(void)
{
	u64 a, c, d;

	irq_handler[DB] = step_trap;
#define STEP1(name, insn, ra, rc, rd) do { \
	u64 want_; \
	step_traps = 0; \
	step_first = 0; \
	a = ra; c = rc; d = rd; \
	__asm__ volatile("leaq 881f(%%rip), %%r15\n\tmovq %%r15, %0\n\tpushfq\n\t" \
		"orq $0x100, (%%rsp)\n\tpopfq\n\t" insn "\n881:\tnop\n\tnop" \
		: "=m"(want_), "+a"(a), "+c"(c), "+d"(d) : : "memory", "cc", "r15", "rbx"); \
	check("step over " name, step_first, want_); \
	check("step over " name " in dr6", seen_dr6 >> 14 & 1, 1); \
} while (0)
	STEP1("nop", "nop", 0, 0, 0);
	STEP1("cpuid", "cpuid", 0, 0, 0);
	STEP1("in", "inb %%dx, %%al", 0, 0, COM1 + 7);
	STEP1("out", "outb %%al, %%dx", 0, 0, COM1 + 7);
	STEP1("rdmsr", "rdmsr", 0, MSR_APIC_BASE, 0);
	STEP1("wrmsr", "wrmsr", 0, MSR_KERNEL_GS_BASE, 0);
	STEP1("mov from cr0", "movq %%cr0, %%rax", 0, 0, 0);
	STEP1("mov to cr4", "movq %%rax, %%cr4", READ_CR(4), 0, 0);
	STEP1("mov to cr8", "movq %%rax, %%cr8", 0, 0, 0);
	STEP1("mmio read", "movl (%%rcx), %%eax", 0, APIC_BASE + APIC_VERSION, 0);
	STEP1("mmio write", "movl %%eax, (%%rcx)", 0, APIC_BASE + APIC_EOI, 0);
	STEP1("wbinvd", "wbinvd", 0, 0, 0);
	if (!plain && has_vmcall())
		STEP1("vmcall", "vmcall", 0x7FFF0000, 0, 0);
	else if (!plain)
		STEP1("vmmcall", "vmmcall", 0x7FFF0000, 0, 0);
#undef STEP1
	irq_handler[DB] = NULL;
}

/* --- ports --- */

static void test_io(void)
{
	outb(COM1 + 7, 0x5A);
	check("out/in 8", inb(COM1 + 7), 0x5A);
	__asm__ volatile("outb %%al, $0x80" : : "a"(0));
	check("unclaimed in 8", inb(0x1234), 0xFF);
	check("unclaimed in 16", inw(0x1234), 0xFFFF);
	check("unclaimed in 32", inl(0x1234), 0xFFFFFFFF);
	outb(0x1234, 1), outw(0x1234, 1), outl(0x1234, 1);
	{
		u64 a = 0x1122334455667788ul;

		__asm__ volatile("inb %%dx, %%al" : "+a"(a) : "d"(COM1 + 7));
		check("in 8 keeps the rest", a, 0x112233445566775Aul);
		a = 0x1122334455667788ul;
		__asm__ volatile("inw %%dx, %%ax" : "+a"(a) : "d"(0x1234));
		check("in 16 keeps the rest", a, 0x112233445566FFFFul);
		a = 0x1122334455667788ul;
		__asm__ volatile("inl %%dx, %%eax" : "+a"(a) : "d"(0x1234));
		check("in 32 clears the rest", a, 0xFFFFFFFFul);
		a = 0;
		__asm__ volatile("inb $0x21, %%al" : "+a"(a));
		check("in imm8", a, 0xFF);
	}
	outb(0x21, 0xFB);
	check("pic mask reads back", inb(0x21), 0xFB);
	outb(0x21, 0xFF);
}

static void test_string_io(void)
{
	static u8 from[8] = { 1, 2, 3, 4, 5, 6, 7, 0x99 }, to[64];
	u64 di, si, c;

	si = (u64)from, c = 8;
	__asm__ volatile("rep outsb" : "+S"(si), "+c"(c) : "d"(COM1 + 7) : "memory");
	check("rep outsb last", inb(COM1 + 7), 0x99);
	check("rep outsb rcx", c, 0);
	check("rep outsb rsi", si, (u64)from + 8);
	memset(to, 0, sizeof(to));
	di = (u64)to, c = 4;
	__asm__ volatile("rep insb" : "+D"(di), "+c"(c) : "d"(COM1 + 7) : "memory");
	check("rep insb", *(u64 *)to, 0x99999999);
	check("rep insb rdi", di, (u64)to + 4);
	memset(to, 0, sizeof(to));
	di = (u64)to, c = 3;
	__asm__ volatile("rep insw" : "+D"(di), "+c"(c) : "d"(0x1234) : "memory");
	check("rep insw", *(u64 *)to, 0xFFFFFFFFFFFFul);
	di = (u64)to + 32, c = 2;
	__asm__ volatile("std\n\trep insl\n\tcld" : "+D"(di), "+c"(c) : "d"(0x1234) : "memory");
	check("rep insl down", *(u64 *)(to + 28), ~0ul);
	check("rep insl down rdi", di, (u64)to + 24);
	memset(to, 0, sizeof(to));
	di = (u64)to, c = 0;
	__asm__ volatile("rep insb" : "+D"(di), "+c"(c) : "d"(COM1 + 7) : "memory");
	check("rep insb of zero", to[0] | (di - (u64)to), 0);
	si = (u64)from;
	__asm__ volatile("outsb" : "+S"(si) : "d"(COM1 + 7) : "memory");
	check("outsb", inb(COM1 + 7), 1);
	si = (u64)from + 0xFF00000000ul;
	__asm__ volatile(".byte 0x67\n\toutsb" : "+S"(si) : "d"(COM1 + 7) : "memory");
	check("outsb with 32-bit address", inb(COM1 + 7), 1);
}

static void test_string_io_fault(void)
{
	u64 di, c = 8;

	map_own();
	di = OWN + 4096 - 4;
	page_a[4095] = 0;
	TRY("rep insb", : "+D"(di), "+c"(c) : "d"(COM1 + 7) : CLOBBERS);
	check("rep insb into nothing", trap.vector, PF);
	check("rep insb fault address", trap.cr2, OWN + 4096);
	check("rep insb fault error code", trap.error, 2);
	check("rep insb done before", c, 4);
	check("rep insb rdi at fault", di, OWN + 4096);
	test_pt[0] = (u64)page_a | 1;
	WRITE_CR(3, READ_CR(3));
	di = OWN, c = 1;
	TRY("rep insb", : "+D"(di), "+c"(c) : "d"(COM1 + 7) : CLOBBERS);
	check("rep insb read-only page", trap.vector == PF ? trap.error : trap.vector, 3);
	di = OWN + 4096, c = 1;
	TRY("rep outsb", : "+S"(di), "+c"(c) : "d"(COM1 + 7) : CLOBBERS);
	check("rep outsb from nothing", trap.vector == PF ? trap.error : trap.vector, 0);
	di = OWN + 4096 - 2, c = 0;
	TRY("insl", : "+D"(di) : "d"(0x1234) : CLOBBERS);
	check("insl across into nothing", trap.vector, PF);
}

/* --- MMIO --- */

static void check_forms(const char *mode, const struct form *f, const struct form *end,
			const u32 *results)
{
	const u32 *done = (const u32 *)(u64)LOW_PARAMS->done;
	u32 wrong = 0, n = 0;

	for (; f < end && results < done; f++, results++, n++) {
		if (*results == f->want)
			continue;
		wrong++;
		print("FAIL %s: %s got %x want %x\n", mode, (const char *)(u64)f->name, *results,
		      f->want);
	}
	print("%s: %u forms\n", mode, n);
	check_true("some forms ran", n > 50);
	check(mode, wrong, 0);
}

static void mode_tables(void)
{
	for (u32 i = 0; i < 1024; i++)
		pd_4m[i] = i << 22 | 0x83;
	for (u32 i = 0; i < 2048; i++)
		pae_pd[i / 512][i % 512] = (u64)i << 21 | 0x83;
	for (u32 i = 0; i < 4; i++)
		pae_pdpt[i] = (u64)pae_pd[i] | 1;
	/* Low memory a second time, where the hypervisor must walk to find it. */
	pd_4m[ALIAS_32 >> 22] = 0x83;
	pae_pd[ALIAS_32 >> 30][0] = 0x83;
	LOW_PARAMS->cr3_32 = (u32)(u64)pd_4m;
	LOW_PARAMS->cr3_pae = (u32)(u64)pae_pdpt;
	LOW_PARAMS->alias = ALIAS_32;
}

static void test_forms(void)
{
	static const char *const names[] = { "16-bit real mode", "32-bit protected mode",
					     "32-bit paging", "PAE paging" };
	const u64 *header = (const u64 *)(u64)LOW_BASE;
	void (*run_mode)(u32) = (void (*)(u32))header[1];
	u32 only = (u32)option_number("mode", 99);

	/* Results are at 0x6000: real mode writes them with DS = 0. */
	apic_write(APIC_LVT_TIMER, 0x10000);
	mode_tables();
	for (u32 m = 0; m < 4; m++) {
		if (only != 99 && only != m)
			continue;
		print("forms: %s\n", names[m]);
		LOW_PARAMS->results = 0x6000;
		LOW_PARAMS->done = 0;
		run_mode(m);
		check_forms(names[m], (const struct form *)header[2],
			    (const struct form *)header[3], (const u32 *)0x6000);
	}
	for (u32 upper = 0; upper < 2 && (only == 99 || only == 4); upper++) {
		u64 alias = upper ? ALIAS : 0;

		LOW_PARAMS->results = 0x6000;
		LOW_PARAMS->done = 0;
		forms64_run(alias);
		check_forms(alias ? "long mode, upper half" : "long mode", forms64_table,
			    forms64_table_end, (const u32 *)0x6000);
	}
	apic_write(APIC_TICR, 0);
}

static void test_hole(void)
{
	u64 v = 0, at = HOLE, c, di;

	if (plain)
		return;
	__asm__ volatile("movb (%1), %b0" : "+r"(v) : "r"(at) : "memory");
	check("hole 8", v, 0xFF);
	__asm__ volatile("movw (%1), %w0" : "+r"(v) : "r"(at) : "memory");
	check("hole 16", v, 0xFFFF);
	__asm__ volatile("movl (%1), %k0" : "+r"(v) : "r"(at) : "memory");
	check("hole 32", v, 0xFFFFFFFF);
	__asm__ volatile("movq (%1), %0" : "+r"(v) : "r"(at) : "memory");
	check("hole 64", v, ~0ul);
	__asm__ volatile("movq %1, (%0)" : : "r"(at), "r"(0ul) : "memory");
	__asm__ volatile("movq (%1), %0" : "+r"(v) : "r"(at) : "memory");
	check("hole keeps nothing", v, ~0ul);
	__asm__ volatile("movzbl (%1), %k0" : "=r"(v) : "r"(at + 1) : "memory");
	check("hole movzx", v, 0xFF);
	__asm__ volatile("movl (%1), %k0" : "=r"(v) : "r"(at + 3) : "memory");
	check("hole unaligned", v, 0xFFFFFFFF);
	di = at, c = 16;
	__asm__ volatile("rep stosl" : "+D"(di), "+c"(c) : "a"(0) : "memory");
	check("hole rep stos rdi", di, at + 64);
	check("hole rep stos rcx", c, 0);
	memset(page_a, 0, 64);
	di = (u64)page_a, c = 16;
	__asm__ volatile("rep movsb" : "+D"(di), "+c"(c), "+S"(at) : : "memory");
	check("hole rep movs", *(u64 *)(page_a + 8), ~0ul);
	check("hole rep movs end", page_a[16], 0);
	at = HOLE + 4096 - 4;
	__asm__ volatile("movq (%1), %0" : "=r"(v) : "r"(at) : "memory");
	check("hole across a page", v, ~0ul);
	at = HOLE;
	__asm__ volatile("xorl %%eax, %%eax\n\ttestl $1, (%1)\n\tsetz %%al" : "=a"(v) : "r"(at));
	check("hole test", v, 0);
}

/* --- interrupts --- */

static void test_hlt(void)
{
	u64 want;

	irq_handler[0x40] = count_irq;
	ticks = 0;
	apic_write(APIC_TDCR, 3);
	apic_write(APIC_LVT_TIMER, 0x40);
	apic_write(APIC_TICR, 2000000);
	__asm__ volatile("sti\n\thlt\n1:\tcli\n\tleaq 1b(%%rip), %0" : "=r"(want) : : "memory");
	check("hlt wakes by the timer", ticks, 1);
	check("hlt returns behind", seen_rip, want);
	/* An interrupt that waits already: sti's shadow covers hlt, which then wakes at once. */
	ticks = 0;
	apic_write(APIC_ICR, 0x44040);
	__asm__ volatile("sti\n\thlt\n\tcli" : : : "memory");
	check("sti; hlt with one pending", ticks, 1);
}

/* SELF-IPI first with IF=0, then open the window with an instruction in the shadow. */
#define SHADOW(name, insn) do { \
	u64 want_; \
	ticks = 0; \
	apic_write(APIC_ICR, 0x44040); \
	__asm__ volatile("sti\n\t" insn "\n1:\tnop\n\tcli\n\tleaq 1b(%%rip), %0" \
		: "=r"(want_) : "a"(0), "c"(MSR_APIC_BASE), "d"(COM1 + 7) \
		: "rbx", "memory"); \
	check("shadow, " name ": taken", ticks, 1); \
	check("shadow, " name ": behind it", seen_rip, want_); \
} while (0)

static void test_shadow(void)
{
	u64 want;

	irq_handler[0x40] = count_irq;
	SHADOW("nop", "nop");
	SHADOW("in", "inb %%dx, %%al");
	SHADOW("out", "outb %%al, %%dx");
	__asm__ volatile("" : : : "rax", "rdx");
	ticks = 0;
	apic_write(APIC_ICR, 0x44040);
	__asm__ volatile("xorl %%eax, %%eax\n\tsti\n\tcpuid\n1:\tnop\n\tcli\n\tleaq 1b(%%rip), %0"
			 : "=r"(want) : : "rax", "rbx", "rcx", "rdx", "memory");
	check("shadow, cpuid: taken", ticks, 1);
	check("shadow, cpuid: behind it", seen_rip, want);
	ticks = 0;
	apic_write(APIC_ICR, 0x44040);
	__asm__ volatile("movl %%ss, %%eax\n\tsti\n\tmovl %%eax, %%ss\n\tnop\n1:\tnop\n\tcli\n\t"
			 "leaq 1b(%%rip), %0" : "=r"(want) : : "rax", "memory");
	check("shadow, mov ss: taken", ticks, 1);
	ticks = 0;
	apic_write(APIC_ICR, 0x44040);
	__asm__ volatile("sti\n\tcli\n\tnop\n\tnop" : : : "memory");
	check("sti; cli lets nothing in", ticks, 0);
	__asm__ volatile("sti\n\tnop\n\tnop\n\tcli" : : : "memory");
	check("then it comes", ticks, 1);
}

static void test_apic_regs(void)
{
	check("apic id", apic_read(APIC_ID) >> 24, 0);
	check("apic version", apic_read(APIC_VERSION) & 0xF0, 0x10);
	check_true("apic lvt count", (apic_read(APIC_VERSION) >> 16 & 0xFF) >= 3);
	apic_write(APIC_LDR, 0x01000000);
	check("ldr", apic_read(APIC_LDR), 0x01000000);
	apic_write(APIC_DFR, 0xFFFFFFFF);
	check("dfr", apic_read(APIC_DFR), 0xFFFFFFFF);
	check("svr", apic_read(APIC_SVR) & 0x1FF, 0x1FF);
	apic_write(APIC_LVT_ERROR, 0x100FE);
	check("lvt error", apic_read(APIC_LVT_ERROR), 0x100FE);
	apic_write(APIC_TDCR, 0xB);
	check("divide configuration", apic_read(APIC_TDCR), 0xB);
	apic_write(APIC_ICR2, 0x05000000);
	check("icr high", apic_read(APIC_ICR2), 0x05000000);
	apic_write(APIC_ICR2, 0);
	apic_write(APIC_ESR, 0);
	apic_write(APIC_ESR, 0);
	check("esr clear", apic_read(APIC_ESR), 0);
	if (!plain) {
		apic_write(APIC_ICR, 0x44005);
		apic_write(APIC_ESR, 0);
		check("esr: illegal vector sent", apic_read(APIC_ESR) & 0x20, 0x20);
		apic_write(APIC_ESR, 0);
		apic_write(APIC_ESR, 0);
	}
}

static volatile u32 isr_bit, irr_bit;

static void look_irq(struct frame *f)
{
	u32 v = (u32)f->vector;

	isr_bit = apic_read(APIC_ISR + (v / 32) * 16) >> v % 32 & 1;
	irr_bit = apic_read(APIC_IRR + (v / 32) * 16) >> v % 32 & 1;
	ticks++;
	apic_eoi();
}

static void test_self_ipi(void)
{
	irq_handler[0x41] = look_irq;
	ticks = 0;
	apic_write(APIC_ICR, 0x44041);
	check("icr idle", apic_read(APIC_ICR) >> 12 & 1, 0);
	check("irr while masked", apic_read(APIC_IRR + 0x20) >> 1 & 1, 1);
	sti();
	check_true("self ipi", wait_until(&ticks, 1, 1000));
	cli();
	check("isr in the handler", isr_bit, 1);
	check("irr in the handler", irr_bit, 0);
	check("isr after eoi", apic_read(APIC_ISR + 0x20), 0);
	/* Two of the same vector merge in IRR. */
	ticks = 0;
	apic_write(APIC_ICR, 0x44041);
	apic_write(APIC_ICR, 0x44041);
	sti();
	delay_us(1000);
	cli();
	check("two of one vector merge", ticks, 1);
	/* To its own id, physical. */
	ticks = 0;
	apic_write(APIC_ICR2, 0);
	apic_write(APIC_ICR, 0x4041);
	sti();
	check_true("ipi to own id", wait_until(&ticks, 1, 1000));
	cli();
	/* Logical, flat. */
	ticks = 0;
	apic_write(APIC_ICR2, 0x01000000);
	apic_write(APIC_ICR, 0x4841);
	sti();
	check_true("ipi to own logical id", wait_until(&ticks, 1, 1000));
	cli();
	ticks = 0;
	apic_write(APIC_ICR, 0x84041);
	sti();
	check_true("ipi to all with self", wait_until(&ticks, 1, 1000));
	cli();
}

static void outer_irq(struct frame *f)
{
	if (order_at < sizeof(order))
		order[order_at++] = (u8)f->vector;
	/* A lower and a higher one arrive while this is in service. */
	apic_write(APIC_ICR, 0x44051);
	apic_write(APIC_ICR, 0x44071);
	sti();
	delay_us(1000);
	cli();
	if (order_at < sizeof(order))
		order[order_at++] = 0xEE;
	apic_eoi();
}

static void test_priority(void)
{
	irq_handler[0x45] = count_irq;
	ticks = 0;
	apic_write(APIC_TPR, 0x40);
	apic_write(APIC_ICR, 0x44045);
	sti();
	delay_us(1000);
	check("tpr holds its class back", ticks, 0);
	apic_write(APIC_TPR, 0x30);
	check_true("lower tpr lets it in", wait_until(&ticks, 1, 1000));
	ticks = 0;
	WRITE_CR(8, 4);
	apic_write(APIC_ICR, 0x44045);
	delay_us(1000);
	check("cr8 holds its class back", ticks, 0);
	WRITE_CR(8, 3);
	check_true("lower cr8 lets it in", wait_until(&ticks, 1, 1000));
	cli();
	WRITE_CR(8, 0);
	irq_handler[0x51] = irq_handler[0x71] = record_irq;
	irq_handler[0x61] = outer_irq;
	order_at = 0;
	memset((void *)order, 0, sizeof(order));
	apic_write(APIC_ICR, 0x44061);
	sti();
	delay_us(5000);
	cli();
	check("priority: outer first", order[0], 0x61);
	check("priority: higher preempts", order[1], 0x71);
	check("priority: lower waits", order[2], 0xEE);
	check("priority: then lower", order[3], 0x51);
	order_at = 0;
	apic_write(APIC_ICR, 0x44051);
	apic_write(APIC_ICR, 0x44071);
	sti();
	delay_us(1000);
	cli();
	check("of two the higher comes first", order[0] << 8 | order[1], 0x7151);
}

static void test_timer(void)
{
	u32 first, second;

	irq_handler[0x40] = count_irq;
	apic_write(APIC_TDCR, 3);
	ticks = 0;
	apic_write(APIC_LVT_TIMER, 0x40);
	apic_write(APIC_TICR, 100000000);
	first = apic_read(APIC_TCCR);
	delay_us(1000);
	second = apic_read(APIC_TCCR);
	check_true("timer counts down", second < first && second > 0);
	check("initial count reads back", apic_read(APIC_TICR), 100000000);
	sti();
	apic_write(APIC_TICR, 100000);
	check_true("one-shot fires", wait_until(&ticks, 1, 2000));
	delay_us(20000);
	check("one-shot fires once", ticks, 1);
	check("current count is zero", apic_read(APIC_TCCR), 0);
	ticks = 0;
	apic_write(APIC_LVT_TIMER, 0x20040);
	apic_write(APIC_TICR, 200000);
	check_true("periodic fires again", wait_until(&ticks, 5, 5000));
	apic_write(APIC_LVT_TIMER, 0x30040);
	delay_us(10000);
	ticks = 0;
	delay_us(30000);
	check("masked timer is silent", ticks, 0);
	apic_write(APIC_TICR, 0);
	delay_us(1000);
	check("count zero stops it", apic_read(APIC_TCCR), 0);
	apic_write(APIC_LVT_TIMER, 0x40);
	cli();
	if (has(1, 2, 24)) {
		ticks = 0;
		apic_write(APIC_LVT_TIMER, 0x40040);
		wrmsr(MSR_TSC_DEADLINE, rdtsc() + (1ul << 42));
		check_true("deadline reads back", rdmsr(MSR_TSC_DEADLINE) > rdtsc());
		wrmsr(MSR_TSC_DEADLINE, rdtsc() + 3000000);
		sti();
		check_true("deadline fires", wait_until(&ticks, 1, 2000));
		check("deadline is zero after", rdmsr(MSR_TSC_DEADLINE), 0);
		wrmsr(MSR_TSC_DEADLINE, 1);
		check_true("past deadline fires at once", wait_until(&ticks, 2, 1000));
		wrmsr(MSR_TSC_DEADLINE, rdtsc() + 30000000);
		wrmsr(MSR_TSC_DEADLINE, 0);
		delay_us(30000);
		check("deadline disarmed", ticks, 2);
		cli();
		apic_write(APIC_LVT_TIMER, 0x10040);
	}
	if (plain)
		return;
	/* Software disable masks the LVTs. */
	apic_write(APIC_SVR, 0xFF);
	check("software disable masks", apic_read(APIC_LVT_TIMER) >> 16 & 1, 1);
	apic_write(APIC_SVR, 0x1FF);
}

static void test_x2apic(void)
{
	u64 base = rdmsr(MSR_APIC_BASE);

	if (!has(1, 2, 21)) {
		if (!plain) {
			WRMSR_TRY(MSR_APIC_BASE, base | 0x400);
			check("x2apic mode without the feature", trap.vector, GP);
		}
		return;
	}
	wrmsr(MSR_APIC_BASE, base | 0x400);
	check("x2apic id", rdmsr(0x802), 0);
	check("x2apic version", rdmsr(0x803) & 0xF0, 0x10);
	irq_handler[0x40] = soft_int;
	ticks = 0;
	wrmsr(0x83F, 0x40);
	sti();
	check_true("x2apic self ipi", wait_until(&ticks, 1, 1000));
	cli();
	wrmsr(0x80B, 0);
	ticks = 0;
	wrmsr(0x830, 0x4040);
	sti();
	check_true("x2apic icr", wait_until(&ticks, 1, 1000));
	cli();
	wrmsr(0x80B, 0);
	wrmsr(0x808, 0x20);
	check("x2apic tpr", rdmsr(0x808), 0x20);
	wrmsr(0x808, 0);
	WRMSR_TRY(0x80B, 1);
	check("x2apic eoi of one", trap.vector, GP);
	WRMSR_TRY(0x802, 1);
	check("x2apic id is read-only", trap.vector, GP);
	RDMSR_TRY(0x80E);
	check("x2apic has no dfr", trap.vector, GP);
	WRMSR_TRY(MSR_APIC_BASE, base);
	check("x2apic to xapic", trap.vector, GP);
	wrmsr(MSR_APIC_BASE, base & ~0x800ul);
	wrmsr(MSR_APIC_BASE, base);
	apic_write(APIC_SVR, 0x1FF);
	check("xapic again", apic_read(APIC_SVR), 0x1FF);
}

/* --- PIC, PIT, IOAPIC, RTC --- */

static void pic_irq(struct frame *f)
{
	seen_rip = f->rip;
	ticks++;
	outb(0x20, 0x20);
}

static void pit_rate(u16 divisor)
{
	outb(0x43, 0x34);
	outb(0x40, (u8)divisor);
	outb(0x40, (u8)(divisor >> 8));
}

static void test_pic(void)
{
	u32 first, second;

	irq_handler[0x30] = pic_irq;
	pit_rate(11932);
	outb(0x43, 0);
	first = inb(0x40);
	first |= (u32)inb(0x40) << 8;
	delay_us(500);
	outb(0x43, 0);
	second = inb(0x40);
	second |= (u32)inb(0x40) << 8;
	check_true("pit counts", first != second && first <= 11932);
	apic_write(APIC_LVT_LINT0, 0x700);
	ticks = 0;
	outb(0x21, 0xFE);
	sti();
	check_true("pit by the pic", wait_until(&ticks, 3, 3000));
	cli();
	outb(0x21, 0xFF);
	delay_us(30000);
	outb(0x20, 0x0A);
	check("pic irr shows irq 0", inb(0x20) & 1, 1);
	outb(0x20, 0x0B);
	check("pic isr is empty", inb(0x20), 0);
	ticks = 0;
	sti();
	delay_us(30000);
	cli();
	check("pic mask", ticks, 0);
	apic_write(APIC_LVT_LINT0, 0x10700);
}

static volatile u32 remote_irr;

static void ioapic_irq(struct frame *f)
{
	(void)f;
	ticks++;
	apic_eoi();
}

static void test_ioapic_edge(void)
{
	u32 max;

	check("ioapic id register", ioapic_read(0) & 0xF0FFFFFF, 0);
	max = ioapic_read(1);
	check_true("ioapic version", (max & 0xFF) >= 0x11);
	check_true("ioapic pins", (max >> 16 & 0xFF) >= 23);
	ioapic_write(0x10 + 2 * 20, 0x000100A5);
	check("redirection reads back", ioapic_read(0x10 + 2 * 20), 0x000100A5);
	ioapic_write(0x11 + 2 * 20, 0x03000000);
	check("destination reads back", ioapic_read(0x11 + 2 * 20), 0x03000000);
	irq_handler[0x42] = ioapic_irq;
	pit_rate(11932);
	ticks = 0;
	ioapic_write(0x11 + 4, 0);
	ioapic_write(0x10 + 4, 0x42);
	sti();
	check_true("pit by the ioapic", wait_until(&ticks, 3, 3000));
	ioapic_write(0x10 + 4, 0x10042);
	delay_us(10000);
	ticks = 0;
	delay_us(30000);
	cli();
	check("ioapic mask", ticks, 0);
}

static void level_irq(struct frame *f)
{
	(void)f;
	ticks++;
	if (ticks == 1)
		remote_irr = ioapic_read(0x10 + 2 * 4) >> 14 & 1;
	isr_bit = apic_read(APIC_TMR + 0x20) >> 3 & 1;
	/* The first time the line stays up, so the EOI brings it again. */
	if (ticks >= 2)
		inb(COM1 + 2);
	apic_eoi();
}

static void test_ioapic_level(void)
{
	irq_handler[0x43] = level_irq;
	delay_us(2000);
	ticks = 0;
	remote_irr = 0;
	ioapic_write(0x11 + 2 * 4, 0);
	ioapic_write(0x10 + 2 * 4, 0x8043);
	outb(COM1 + 4, 0x08);
	/* The transmitter is empty: enabling its interrupt raises the line. */
	outb(COM1 + 1, 2);
	sti();
	wait_until(&ticks, 2, 2000);
	delay_us(2000);
	cli();
	outb(COM1 + 1, 0);
	ioapic_write(0x10 + 2 * 4, 0x10000);
	check("level: again after eoi while up", ticks, 2);
	check("level: remote irr", remote_irr, 1);
	check("level: tmr", isr_bit, 1);
	check("level: remote irr after", ioapic_read(0x10 + 2 * 4) >> 14 & 1, 0);
}

static u8 cmos(u8 index)
{
	outb(0x70, index);
	return inb(0x71);
}

static void rtc_irq(struct frame *f)
{
	(void)f;
	ticks++;
	cmos(0x0C);
	apic_eoi();
}

static void test_rtc(void)
{
	u64 end;
	u8 second;

	check("rtc valid", cmos(0x0D) & 0x80, 0x80);
	check("rtc 24 hours", cmos(0x0B) & 2, 2);
	second = cmos(0);
	end = rdtsc() + 8000000000ul;
	while (cmos(0) == second && rdtsc() < end)
		pause_cpu();
	check_true("rtc seconds go on", cmos(0) != second);
	outb(0x70, 0x50), outb(0x71, 0xA6);
	check("cmos memory", cmos(0x50), 0xA6);
	irq_handler[0x44] = rtc_irq;
	ioapic_write(0x11 + 2 * 8, 0);
	ioapic_write(0x10 + 2 * 8, 0x44);
	cmos(0x0C);
	ticks = 0;
	outb(0x70, 0x0A), outb(0x71, 0x26);
	outb(0x70, 0x0B), outb(0x71, (u8)(0x42 | (inb(0x71) & 4)));
	sti();
	check_true("rtc periodic", wait_until(&ticks, 4, 3000));
	cli();
	outb(0x70, 0x0B), outb(0x71, 0x02);
	ioapic_write(0x10 + 2 * 8, 0x10000);
	outb(0x70, 0x0D);
}

static void test_uart(void)
{
	u8 lcr = inb(COM2 + 3);

	outb(COM2 + 7, 0x3C);
	if (inb(COM2 + 7) != 0x3C) {
		print("(no second serial port)\n");
		return;
	}
	outb(COM2 + 3, 0x83);
	outb(COM2, 0x0C), outb(COM2 + 1, 0);
	check("uart divisor", inb(COM2), 0x0C);
	outb(COM2 + 3, 3);
	outb(COM2 + 2, 7);
	outb(COM2 + 4, 0x10);
	outb(COM2, 0x77);
	delay_us(5000);
	check("uart loop back ready", inb(COM2 + 5) & 1, 1);
	check("uart loop back", inb(COM2), 0x77);
	check("uart is empty", inb(COM2 + 5) & 0x61, 0x60);
	outb(COM2 + 4, 0x1F);
	check("uart loop back of lines", inb(COM2 + 6) & 0xF0, 0xF0);
	outb(COM2 + 4, 0);
	outb(COM2 + 3, lcr);
}

/* --- NMI --- */

static void nmi(struct frame *f)
{
	(void)f;
	ticks++;
	if (ticks == 1) {
		/* A second one must wait for our IRET. */
		apic_write(APIC_ICR2, 0);
		apic_write(APIC_ICR, 0x4400);
		delay_us(1000);
		nested = ticks;
	}
}

static void test_nmi(void)
{
	irq_handler[NMI] = nmi;
	ticks = 0;
	nested = 0;
	apic_write(APIC_ICR2, 0);
	apic_write(APIC_ICR, 0x4400);
	check_true("nmi", wait_until(&ticks, 1, 1000));
	check("nmi is not nested", nested, 1);
	check_true("nmi after iret", wait_until(&ticks, 2, 1000));
	delay_us(1000);
	check("no third nmi", ticks, 2);
	ticks = 2;
	irq_handler[NMI] = soft_int;
	apic_write(APIC_LVT_LINT1, 0x400);
	apic_write(APIC_LVT_LINT1, 0x10400);
}

/* --- other CPUs --- */

static volatile u32 ap_ticks[64], ap_ids[64], ap_go, ap_nmis;

static void ap_irq(struct frame *f)
{
	(void)f;
	ap_ticks[apic_read(APIC_ID) >> 24 & 63]++;
	/* Last: it is what the boot processor waits for. */
	__atomic_add_fetch(&ticks, 1, __ATOMIC_SEQ_CST);
	apic_eoi();
}

static void ap_nmi(struct frame *f)
{
	(void)f;
	__atomic_add_fetch(&ap_nmis, 1, __ATOMIC_SEQ_CST);
}

static void ap_idle(u32 cpu)
{
	if (cpu < 64)
		ap_ids[cpu] = apic_read(APIC_ID) >> 24;
	apic_write(APIC_LDR, 1u << (24 + (cpu & 7)));
	if (ap_go == 1)
		__asm__ volatile("cli" : : : "memory");
	else
		__asm__ volatile("sti\n\thlt\n\tcli" : : : "memory");
}

static void test_smp(void)
{
	u32 want = (u32)option_number("cpus", 1), seen = 0;

	if (want < 2)
		return;
	irq_handler[0x46] = ap_irq;
	irq_handler[NMI] = ap_nmi;
	ap_work = ap_idle;
	check("cpus started", start_cpus(want), want);
	delay_us(20000);
	for (u32 i = 1; i < want; i++)
		seen |= 1u << ap_ids[i];
	check("apic ids of the others", seen, (1u << want) - 2);
	ticks = 0;
	apic_write(APIC_ICR2, 0x01000000);
	apic_write(APIC_ICR, 0x4046);
	check_true("ipi wakes cpu 1", wait_until(&ticks, 1, 2000));
	check("ipi reached cpu 1", ap_ticks[1], 1);
	delay_us(5000);
	ticks = 0;
	apic_write(APIC_ICR, 0xC4046);
	check_true("ipi to all others", wait_until(&ticks, want - 1, 3000));
	delay_us(5000);
	check("ipi to all others, once each", ticks, want - 1);
	ticks = 0;
	apic_write(APIC_LDR, 0x01000000);
	apic_write(APIC_ICR2, 0x02000000);
	apic_write(APIC_ICR, 0x4846);
	check_true("ipi by logical id", wait_until(&ticks, 1, 2000));
	check("no stray ipi", ticks, 1);
	ap_nmis = 0;
	apic_write(APIC_ICR2, 0x01000000);
	apic_write(APIC_ICR, 0x4400);
	check_true("nmi wakes cpu 1", wait_until(&ap_nmis, 1, 2000));
	for (u32 i = 0; i < 200; i++) {
		ticks = 0;
		apic_write(APIC_ICR, 0xC4046);
		if (!wait_until(&ticks, want - 1, 3000)) {
			check("ipi storm", i, 200);
			return;
		}
	}
	check_true("ipi storm", true);
	/* INIT and SIPI again: they start over. */
	cpus_up = 1;
	check("cpus restarted", start_cpus(want), want);
}

static const struct group {
	const char *name;
	void (*run)(void);
} groups[] = {
	{ "cpuid", test_cpuid }, { "cpuid", test_cpuid_dynamic }, { "msr", test_msr },
	{ "tsc", test_tsc }, { "caches", test_caches }, { "monitor", test_monitor },
	{ "rdpmc", test_rdpmc }, { "xsetbv", test_xsetbv }, { "virt", test_virt_insns },
	{ "virt", test_hypercall }, { "exceptions", test_exceptions },
	{ "exceptions", test_soft_int }, { "cr", test_cr0 }, { "cr", test_cr3 },
	{ "cr", test_cr4 }, { "cr", test_cr8 }, { "dr", test_dr }, { "step", step_all },
	{ "io", test_io }, { "io", test_string_io }, { "io", test_string_io_fault },
	{ "forms", test_forms }, { "mmio", test_hole }, { "hlt", test_hlt },
	{ "shadow", test_shadow }, { "apic", test_apic_regs }, { "apic", test_self_ipi },
	{ "apic", test_priority }, { "apic", test_timer }, { "x2apic", test_x2apic },
	{ "pic", test_pic }, { "ioapic", test_ioapic_edge }, { "ioapic", test_ioapic_level },
	{ "rtc", test_rtc }, { "uart", test_uart }, { "nmi", test_nmi }, { "smp", test_smp },
};

int main(void)
{
	char only[16];
	bool some = false;

	rt_init();
	low_init();
	hardware = option("hardware", only, sizeof(only));
	if (option("only", only, sizeof(only)))
		some = true;
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		if (some && strcmp(only, groups[i].name))
			continue;
		print("group %s\n", groups[i].name);
		groups[i].run();
		cli();
	}
	guest_exit(checks_failed() ? 1 : 0);
}
