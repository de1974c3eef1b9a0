/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest that tries everything it can to harm what is below and beside it. Its own death is fine;
 * what is judged is that the hypervisor and the other guests go on.
 * Command line:
 *   do=STEP    one step only: ports, msrs, cpuid, insns, mmio, exotic, devices, crs (default: all)
 *   end=WAY    how it ends: done (default), triple, hlt, nmi, int, pf, db, ac, init, crash, reset,
 *              spin, apicstorm
 *   seed=N     of the random numbers
 *   rounds=N   times a thousand random accesses a step (default 20)
 */
#include "rt.h"

int main(void);

#define WINDOW 0x8000000000ul		/* PML4 slot 1: a page of any physical address */

static u64 seed = 1;
static u64 rounds;
static u64 pdpt[512] __attribute__((aligned(4096)));
static u64 pd[512] __attribute__((aligned(4096)));
static u64 pt[512] __attribute__((aligned(4096)));
static u8 scratch[4096] __attribute__((aligned(4096)));

/* xorshift64*, Vigna 2016. */
static u64 next(void)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return seed * 0x2545F4914F6CDD1Dul;
}

static void map_window(u64 physical)
{
	pt[0] = (physical & 0xFFFFFFFFFF000ul) | 3;
	pt[1] = ((physical + 4096) & 0xFFFFFFFFFF000ul) | 3;
	__asm__ volatile("invlpg (%0)" : : "r"(WINDOW) : "memory");
	__asm__ volatile("invlpg (%0)" : : "r"(WINDOW + 4096) : "memory");
}

static void init_window(void)
{
	pd[0] = (u64)pt | 3;
	pdpt[0] = (u64)pd | 3;
	((u64 *)pml4)[1] = (u64)pdpt | 3;
	WRITE_CR(3, (u64)pml4);
}

/*
 * Ports with an effect that would end the test early (reset, power off, debug exit) and what we
 * print on. An access of up to four bytes must not reach them.
 */
static bool port_ends_us(u32 port)
{
	static const u16 bad[] = { 0x64, 0x92, 0x604, 0x605, 0xCF9 };

	for (u32 i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (port <= bad[i] && port + 3 >= bad[i])
			return true;
	return (port + 3 >= COM1 && port < COM1 + 8) ||
	       (port + 3 >= DEBUG_EXIT && port < DEBUG_EXIT + 4);
}

static void ports(void)
{
	for (u32 port = 0; port < 0x10000; port++) {
		u32 v = (u32)next();

		if (!port_ends_us(port)) {
			outb((u16)port, (u8)v);
			outw((u16)port, (u16)v);
			outl((u16)port, v);
		}
		if (port != COM1) {
			inb((u16)port);
			inw((u16)port);
			inl((u16)port);
		}
		if (port % 0x4000 == 0x3FFF)
			print("hostile: ports to %x\n", port);
	}
	for (u32 i = 0; i < rounds * 20; i++) {
		u64 c = next() % 5000, at = (u64)scratch;
		u16 port = (u16)next();

		if (port_ends_us(port))
			continue;
		/* String forms, also running off the end of what is mapped, both ways. */
		if (i & 1)
			at = WINDOW + 4096 - next() % 64;
		map_window((u64)scratch);
		if (i & 2)
			TRY("std\n\trep insb", : "+D"(at), "+c"(c) : "d"(port) : CLOBBERS);
		else if (at >= WINDOW)
			TRY("rep outsw", : "+S"(at), "+c"(c) : "d"(port) : CLOBBERS);
		else
			TRY("rep outsl", : "+S"(at), "+c"(c) : "d"(port) : CLOBBERS);
		__asm__ volatile("cld");
	}
}

static void one_msr(u32 index)
{
	u32 lo = 0, hi = 0;

	TRY("rdmsr", : "=a"(lo), "=d"(hi) : "c"(index) : CLOBBERS);
	/* What would only saw off our own branch: EFER, the APIC's base, FS/GS, what KVM's ABI
	 * writes into our memory, and the TSC that our waits use. */
	if (index == MSR_EFER || index == MSR_APIC_BASE || index == MSR_TSC)
		return;
	if (trap.vector == NO_TRAP)
		TRY("wrmsr", : : "c"(index), "a"(lo), "d"(hi) : CLOBBERS);
	if (index == 0x11 || index == 0x12 || (index >= 0x4B564D00 && index <= 0x4B564DFF)) {
		/* Structures at addresses that are not ours. */
		hi = (u32)next() & 0xFFFF;
		lo = (u32)next() | 0xF0000001;
	} else {
		lo = (u32)next();
		hi = (u32)next();
	}
	TRY("wrmsr", : : "c"(index), "a"(lo), "d"(hi) : CLOBBERS);
}

static void msrs(void)
{
	static const u32 bases[] = { 0, 0xC0000000, 0xC0010000, 0x40000000, 0x4B564D00 };

	for (u32 b = 0; b < 5; b++) {
		u32 n = b == 4 ? 0x100 : 0x2000;

		for (u32 i = 0; i < n; i++)
			one_msr(bases[b] + i);
		print("hostile: msrs at %x\n", bases[b]);
	}
	for (u32 i = 0; i < rounds * 1000; i++)
		one_msr((u32)next());
}

static void cpuids(void)
{
	u32 r[4];

	for (u32 i = 0; i < rounds * 1000; i++) {
		u64 v = next();
		u32 leaf = (u32)v;

		if (i % 3 == 0)
			leaf &= 0x8000003F;
		else if (i % 3 == 1)
			leaf = 0x40000000 | (leaf & 0x1FF);
		cpuid(leaf, (u32)(v >> 32) & (i & 4 ? 0xFF : ~0u), r);
	}
}

#define RUN(bytes) TRY(".byte " bytes, : : "a"(scratch), "b"(scratch), "c"(next()), "d"(next()) \
	: CLOBBERS)

static void insns(void)
{
	RUN("0x0F,0x01,0xD8");			/* vmrun */
	RUN("0x0F,0x01,0xD9");			/* vmmcall */
	RUN("0x0F,0x01,0xDA");			/* vmload */
	RUN("0x0F,0x01,0xDB");			/* vmsave */
	RUN("0x0F,0x01,0xDC");			/* stgi */
	RUN("0x0F,0x01,0xDD");			/* clgi */
	RUN("0x0F,0x01,0xDE");			/* skinit */
	RUN("0x0F,0x01,0xDF");			/* invlpga */
	RUN("0xF3,0x0F,0x01,0xD9");		/* vmgexit */
	RUN("0x0F,0x01,0xC1");			/* vmcall */
	RUN("0x0F,0x01,0xC2");			/* vmlaunch */
	RUN("0x0F,0x01,0xC3");			/* vmresume */
	RUN("0x0F,0x01,0xC4");			/* vmxoff */
	RUN("0xF3,0x0F,0xC7,0x33");		/* vmxon */
	RUN("0x66,0x0F,0xC7,0x33");		/* vmclear */
	RUN("0x0F,0xC7,0x33");			/* vmptrld */
	RUN("0x0F,0xC7,0x3B");			/* vmptrst */
	RUN("0x0F,0x78,0xC0");			/* vmread */
	RUN("0x0F,0x79,0xC0");			/* vmwrite */
	RUN("0x66,0x0F,0x38,0x80,0x03");	/* invept */
	RUN("0x66,0x0F,0x38,0x81,0x03");	/* invvpid */
	RUN("0x66,0x0F,0x38,0x82,0x03");	/* invpcid */
	RUN("0x0F,0x01,0xD4");			/* vmfunc */
	RUN("0x0F,0x37");			/* getsec */
	RUN("0x0F,0xAA");			/* rsm */
	RUN("0x0F,0x08");			/* invd */
	RUN("0x0F,0x09");			/* wbinvd */
	RUN("0x0F,0x33");			/* rdpmc */
	RUN("0x0F,0x01,0xC8");			/* monitor */
	RUN("0x0F,0x01,0xFA");			/* monitorx */
	RUN("0x0F,0x01,0xD1");			/* xsetbv */
	RUN("0xF1");				/* icebp */
	RUN("0x0F,0x01,0xEE");			/* rdpkru */
	RUN("0x0F,0x01,0xFE");			/* invlpgb */
	RUN("0x0F,0x01,0xFF");			/* tlbsync */
	RUN("0xF3,0x0F,0x01,0xFF");		/* psmash */
	RUN("0xF2,0x0F,0x01,0xFF");		/* pvalidate */
	for (u32 i = 0; i < rounds * 100; i++) {
		u64 a = next() & (i & 1 ? 0xF : ~0ul);

		TRY("vmmcall", : "+a"(a) : "b"(next()), "c"(next()), "d"(next()), "S"(next())
		    : CLOBBERS);
	}
}

static u64 wild_address(void)
{
	u64 v = next();

	switch (v & 7) {
	case 0: return 0xFEC00000 + (v >> 8 & 0x1FFF);
	case 1: return 0xFEE00000 + (v >> 8 & 0x2FFF);
	case 2: return 0xA0000 + (v >> 8 & 0x5FFFF);
	case 3: return 0xE0000000 + (v >> 8 & 0x1FFFFFFF);
	case 4: return v >> 8 & 0xFFFFFFFFFFul;
	case 5: return v >> 8 & 0xFFFFFFFFFFFFul;
	case 6: return 0xFED00000 + (v >> 8 & 0xFFFFF);
	default: return 0x40000000 + (v >> 8 & 0x3FFFFFFFFul);
	}
}

/* The ICR could kill us (INIT), or send interrupts without a handler: leave it to a later step. */
static bool is_icr(u64 at)
{
	return (at & ~0xFFFul) == APIC_BASE && (at & 0xF00) >= 0x300;
}

static void mmio(void)
{
	for (u64 i = 0; i < rounds * 1000; i++) {
		u64 at = wild_address(), p, v = next(), c = next() % 300, d = (u64)scratch;

		/* Reads of low memory that holds us are dull, writes there fatal. */
		if (at < 0x8000000 && (at < 0xA0000 || at >= 0x100000))
			continue;
		if (is_icr(at))
			continue;
		map_window(at);
		p = WINDOW + (at & 0xFFF);
		switch (v >> 32 & 15) {
		case 0: TRY("movb %%al, (%%rcx)", : : "a"(v), "c"(p) : CLOBBERS); break;
		case 1: TRY("movw %%ax, (%%rcx)", : : "a"(v), "c"(p) : CLOBBERS); break;
		case 2: TRY("movl %%eax, (%%rcx)", : : "a"(v), "c"(p) : CLOBBERS); break;
		case 3: TRY("movq %%rax, (%%rcx)", : : "a"(v), "c"(p) : CLOBBERS); break;
		case 4: TRY("movb (%%rcx), %%al", : "+a"(v) : "c"(p) : CLOBBERS); break;
		case 5: TRY("movl (%%rcx), %%eax", : "+a"(v) : "c"(p) : CLOBBERS); break;
		case 6: TRY("movq (%%rcx), %%rax", : "+a"(v) : "c"(p) : CLOBBERS); break;
		case 7: TRY("lock xorl %%eax, (%%rcx)", : : "a"(v), "c"(p) : CLOBBERS); break;
		case 8: TRY("xchgq %%rax, (%%rcx)", : "+a"(v) : "c"(p) : CLOBBERS); break;
		case 9: TRY("rep stosb", : "+D"(p), "+c"(c) : "a"(v) : CLOBBERS); break;
		case 10: TRY("rep movsl", : "+S"(p), "+D"(d), "+c"(c) : : CLOBBERS); break;
		case 11: TRY("std\n\trep stosq", : "+D"(p), "+c"(c) : "a"(v) : CLOBBERS); break;
		case 12: TRY("orb $3, (%%rcx)", : : "c"(p) : CLOBBERS); break;
		case 13: TRY("testw $3, (%%rcx)", : : "c"(p) : CLOBBERS); break;
		case 14: TRY("movsbq (%%rcx), %%rax", : "+a"(v) : "c"(p) : CLOBBERS); break;
		default: TRY("movzwl (%%rcx), %%eax", : "+a"(v) : "c"(p) : CLOBBERS); break;
		}
		__asm__ volatile("cld");
		/* The stores may have run over the window's second page: not ours either. */
	}
}

/* Instructions on MMIO that no decoder for devices knows, and code that is itself in MMIO. */
static void exotic(void)
{
	u64 p = WINDOW + 0x40, old;

	map_window(0xFB000000);
	WRITE_CR(4, READ_CR(4) | 0x600);
#define EXOTIC(insn) do { \
	TRY(insn, : : "a"(0), "b"(0), "c"(p), "d"(0) : CLOBBERS); \
	print("hostile: exotic %s: vector %x\n", insn, trap.vector); \
} while (0)
	EXOTIC("movups (%%rcx), %%xmm0");
	EXOTIC("movntdq %%xmm0, (%%rcx)");
	EXOTIC("cmpxchg16b (%%rcx)");
	EXOTIC("cmpxchg %%rdx, (%%rcx)");
	EXOTIC("fldl (%%rcx)");
	EXOTIC("fxsave (%%rcx)");
	EXOTIC("pushq (%%rcx)");
	EXOTIC("sgdt (%%rcx)");
	EXOTIC("clflush (%%rcx)");
	EXOTIC("prefetchw (%%rcx)");
	EXOTIC("movdiri %%rax, (%%rcx)");
	EXOTIC("invlpg (%%rcx)");
	EXOTIC("bsfl (%%rcx), %%eax");
	EXOTIC("imull (%%rcx), %%eax");
	EXOTIC("movw (%%rcx), %%es");
	EXOTIC("lss (%%rcx), %%eax");
	EXOTIC("xlatb");
#undef EXOTIC
	/* A page table in MMIO. */
	old = pd[1];
	pd[1] = 0xFB000000 | 3;
	WRITE_CR(3, (u64)pml4);
	TRY("movl (%%rcx), %%eax", : : "c"(WINDOW + 0x200000) : "rax", CLOBBERS);
	print("hostile: page table in mmio: vector %x\n", trap.vector);
	pd[1] = old;
	WRITE_CR(3, (u64)pml4);
	/* A stack in MMIO that an interrupt uses. */
	TRY("movq %%rsp, %%rbx\n\tmovq %%rcx, %%rsp\n\tpushq %%rax\n\tpopq %%rax\n\t"
	    "movq %%rbx, %%rsp", : : "c"(WINDOW + 0x800) : "rax", "rbx", CLOBBERS);
	/* Jump into MMIO: the fixup is what brings us back. */
	TRY("jmp *%%rcx", : : "c"(WINDOW + 0x100) : CLOBBERS);
	print("hostile: code in mmio: vector %x\n", trap.vector);
}

static void garbage_irq(struct frame *f)
{
	(void)f;
	apic_eoi();
	outb(0x20, 0x20);
	outb(0xA0, 0x20);
}

static void devices(void)
{
	static const u16 device_ports[] = {
		0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x70, 0x71,
		COM2, COM2 + 1, COM2 + 2, COM2 + 3, COM2 + 4, COM2 + 5, COM2 + 6, COM2 + 7,
	};

	for (u32 v = 32; v < 256; v++)
		irq_handler[v] = garbage_irq;
	irq_handler[NMI] = garbage_irq;
	for (u64 i = 0; i < rounds * 1000; i++) {
		u64 v = next();
		u32 value = (u32)(v >> 16);

		switch (v & 3) {
		case 0:
			outw(0x40 + (u16)(v >> 8 & 3), (u16)value);
			break;
		case 1:
			ioapic_write((u8)(v >> 4), value);
			break;
		case 2: {
			u32 reg = (u32)(v >> 4 & 0x3F) << 4;

			/* INIT to ourselves is a way to end, not a step. */
			if (reg == APIC_ICR && (value & 0x700) == 0x500)
				value &= ~0x400u;
			/* SMI and SIPI stay; the address of the APIC too. */
			apic_write(reg, value);
			break;
		}
		default:
			outb(device_ports[(v >> 8) % (sizeof(device_ports) / 2)], (u8)value);
			inb(device_ports[(v >> 24) % (sizeof(device_ports) / 2)]);
		}
		if (i % 64 == 0)
			__asm__ volatile("sti\n\tnop\n\tnop\n\tcli" : : : "memory");
	}
	apic_write(APIC_LVT_TIMER, 0x10000);
	apic_write(APIC_TPR, 0);
	apic_write(APIC_SVR, 0x1FF);
}

static void crs(void)
{
	u64 cr0 = READ_CR(0), cr4 = READ_CR(4), efer = rdmsr(MSR_EFER);

	for (u32 bit = 1; bit < 31; bit++) {
		if (bit == 16)
			continue;
		TRY("movq %%rcx, %%cr0", : : "c"(cr0 ^ 1ul << bit) : CLOBBERS);
		WRITE_CR(0, cr0);
	}
	print("hostile: cr0\n");
	for (u32 bit = 0; bit < 64; bit++) {
		u64 v = efer ^ 1ul << bit;

		/* Not LME, which would fault anyway; not LMA. */
		if (bit == 8 || bit == 10)
			continue;
		TRY("wrmsr", : : "c"(MSR_EFER), "a"((u32)v), "d"((u32)(v >> 32)) : CLOBBERS);
		wrmsr(MSR_EFER, efer);
	}
	print("hostile: efer\n");
	for (u32 i = 0; i < 1000; i++) {
		u64 v = next() & (i & 1 ? 0xFF : ~0ul);

		WRITE_CR(4, cr4 | 1 << 18);
		TRY("xsetbv", : : "c"(0), "a"((u32)v), "d"((u32)(v >> 32)) : CLOBBERS);
		WRITE_CR(4, cr4);
		TRY("movq %%rcx, %%cr8", : : "c"(v) : CLOBBERS);
		TRY("movq %%rcx, %%dr7", : : "c"(v & 0xFFFFFC00) : CLOBBERS);
		TRY("movq %%rcx, %%dr6", : : "c"(v) : CLOBBERS);
	}
	WRITE_CR(8, 0);
	WRITE_DR(7, 0x400);
	print("hostile: xcr0, cr8, dr\n");
	for (u32 bit = 0; bit < 64; bit++) {
		if (bit == 5 || bit == 12)	/* PAE; LA57 faults in long mode */
			continue;
		print("hostile: cr4 bit %u\n", bit);
		TRY("movq %%rcx, %%cr4", : : "c"(cr4 ^ 1ul << bit) : CLOBBERS);
		WRITE_CR(4, cr4);
	}
}

/* --- ways to end --- */

static void end_nmi(struct frame *f)
{
	(void)f;
	apic_write(APIC_ICR2, 0);
	apic_write(APIC_ICR, 0x4400);
}

static void load_idt_at(const void *at, u16 limit)
{
	struct __attribute__((packed)) {
		u16 limit;
		u64 base;
	} pointer = { limit, (u64)at };

	__asm__ volatile("lidt %0" : : "m"(pointer));
}

static void storm(u32 cpu)
{
	for (;;) {
		apic_write(APIC_ICR2, (u32)next() & 0x0F000000);
		apic_write(APIC_ICR, 0x4040 + (cpu & 7));
	}
}

static void end_by(const char *way)
{
	static u64 gates[512];

	print("hostile: end by %s\n", way);
	if (!strcmp(way, "triple")) {
		load_idt_at(gates, 0);
		__asm__ volatile("int3");
	} else if (!strcmp(way, "hlt")) {
		for (;;)
			__asm__ volatile("cli; hlt");
	} else if (!strcmp(way, "nmi")) {
		irq_handler[NMI] = end_nmi;
		end_nmi(NULL);
		for (;;)
			pause_cpu();
	} else if (!strcmp(way, "int")) {
		irq_handler[0x80] = garbage_irq;
		for (;;)
			__asm__ volatile("int $0x80");
	} else if (!strcmp(way, "pf")) {
		/* The handler faults itself, for ever: its gate's code is not there. */
		u64 at = 0x7000000000ul;

		gates[2 * PF] = (at & 0xFFFF) | 8u << 16 | (at & 0xFFFF0000) << 32 |
				0x8E00ul << 32;
		gates[2 * PF + 1] = at >> 32;
		gates[2 * 8] = gates[2 * PF];
		gates[2 * 8 + 1] = gates[2 * PF + 1];
		load_idt_at(gates, sizeof(gates) - 1);
		__asm__ volatile("movl (%0), %%eax" : : "r"(0x7000000000ul) : "rax");
	} else if (!strcmp(way, "db")) {
		/* A watch point (8 bytes, writes) on the frame that its own trap pushes, which
		 * comes to the same place each time: a stack of its own. */
		static u64 stack[512] __attribute__((aligned(16)));
		u64 *ist1 = (u64 *)(tss + 36), at = (u64)(idt_stubs + 16 * DB);

		irq_handler[DB] = garbage_irq;
		*ist1 = (u64)(stack + 512);
		gates[2 * DB] = (at & 0xFFFF) | 8u << 16 | 1ul << 32 | 0x8E00ul << 32 |
				(at & 0xFFFF0000) << 32;
		gates[2 * DB + 1] = at >> 32;
		load_idt_at(gates, sizeof(gates) - 1);
		WRITE_DR(0, (u64)(stack + 511));
		WRITE_DR(7, 0x400 | 0x90000 | 3);
		for (;;)
			*(volatile u64 *)(stack + 511) = 0;
	} else if (!strcmp(way, "init")) {
		apic_write(APIC_ICR2, 0);
		apic_write(APIC_ICR, 0x4500);
		for (;;)
			pause_cpu();
	} else if (!strcmp(way, "reset")) {
		outb(0xCF9, 6);
	} else if (!strcmp(way, "spin")) {
		cli();
		for (;;)
			;
	} else if (!strcmp(way, "apicstorm")) {
		irq_handler[0x40] = garbage_irq;
		for (u32 v = 0x40; v < 0x48; v++)
			irq_handler[v] = garbage_irq;
		low_init();
		start_cpus(4);
		ap_work = storm;
		sti();
		storm(0);
	} else if (!strcmp(way, "crash")) {
		/* Random control registers until one of them is fatal. */
		for (;;) {
			TRY("movq %%rcx, %%cr4", : : "c"(next() & 0x3FFFFF) : CLOBBERS);
			TRY("wrmsr", : : "c"(MSR_EFER), "a"((u32)next()), "d"(0) : CLOBBERS);
			TRY("movq %%rcx, %%cr0", : : "c"(next() & 0xE005003F) : CLOBBERS);
			TRY("movq %%rcx, %%cr3", : : "c"(next()) : CLOBBERS);
		}
	}
}

static const struct step {
	const char *name;
	void (*run)(void);
} steps[] = {
	{ "ports", ports }, { "msrs", msrs }, { "cpuid", cpuids }, { "insns", insns },
	{ "mmio", mmio }, { "devices", devices }, { "exotic", exotic }, { "crs", crs },
};

int main(void)
{
	char what[16] = "", way[16] = "done";

	rt_init();
	init_window();
	seed = option_number("seed", 1) * 0x9E3779B97F4A7C15ul | 1;
	rounds = option_number("rounds", 20);
	option("do", what, sizeof(what));
	option("end", way, sizeof(way));
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (what[0] && strcmp(what, steps[i].name))
			continue;
		print("hostile: begin %s\n", steps[i].name);
		steps[i].run();
		cli();
		print("hostile: survived %s\n", steps[i].name);
	}
	end_by(way);
	guest_exit(0);
}
