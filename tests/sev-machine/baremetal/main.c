/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bare-metal tests of the SEV machine's CPU side: the host plays the hypervisor, guest.asm the
 * guest. Each check prints "PASS name" or "FAIL name: value, expected value"; the last line is
 * "END passed/failed".
 *
 * Sources of the rules: AMD64 APM vol. 2, 15.34 and 15.35, and the SEV API specification.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

/* ---- from start.asm and guest.asm ------------------------------------------------------------ */

extern u8 stubs[], irq_stub[], guest_start[], guest_end[];
extern u64 guest_vectors[3];
extern u64 pml4[512], pdpt[512];
extern u64 fault_vector, irq_count, exit_regs[14], exit_xmm[4], host_if;
u64 try_rdmsr(u32 msr);
void try_wrmsr(u32 msr, u64 value);
u8 try_read(const volatile void *p);
void svm_run(u64 vmcb_pa, u8 *host_save);
void svm_save(u64 pa);
void svm_load(u64 pa);

#define NO_FAULT (~0ull)
#define GP 13u

/* ---- fixed memory ------------------------------------------------------------------------------- */

#define GUEST 0x2000000ull		/* code, tables and data of the guest: launched encrypted */
#define G_STACK (GUEST + 0x5000)
#define G_GDT (GUEST + 0x5000)
#define G_IDT (GUEST + 0x6000)
#define G_PML4 (GUEST + 0x8000)
#define G_PDPT (GUEST + 0x9000)
#define G_PD_PRIV (GUEST + 0xa000)	/* 0..1 GiB, C=1 */
#define G_PD_SHARED (GUEST + 0xb000)	/* the same at 1 GiB, C=0 */
#define G_PD_DEV (GUEST + 0xc000)	/* 3..4 GiB, C=0 */
#define G_DATA (GUEST + 0x10000)
#define G_LEN 0x11000u
#define SHARED (GUEST + 0x100000)
#define VMSA_PAGE (GUEST + 0x200000)
#define VMSA2_PAGE (GUEST + 0x201000)
#define ALIAS 0x40000000ull		/* guest's C=0 view of low memory */
#define DEV_ABSENT 0xc0000000ull	/* nested entry not present */
#define DEV_MMIO 0xc0200000ull		/* nested entry present with a reserved bit */
#define DEV_RAM 0xc0400000ull		/* nested entry to SPARE */
#define SPARE 0x2800000ull
#define TMR 0x3000000ull
#define C_VIEW 0x100000000ull		/* host's C=1 view of the first 4 GiB */

#define PAGE(name) static u8 name[4096] __attribute__((aligned(4096)))
PAGE(vmcb);
PAGE(vmcb2);
PAGE(hsave);
PAGE(npt_pml4);
PAGE(npt_pdpt);
static u64 npt_pd[4][512] __attribute__((aligned(4096)));
static u64 c_pds[4][512] __attribute__((aligned(4096)));
static u8 iopm[3 * 4096] __attribute__((aligned(4096)));
static u8 msrpm[2 * 4096] __attribute__((aligned(4096)));
PAGE(cmdbuf);
PAGE(page_a);
PAGE(page_b);
static u64 idt[512] __attribute__((aligned(16)));

static u32 c_pos, phys_bits;
static u64 c_bit;
static u32 passed, failed;

/* ---- output and checks ---------------------------------------------------------------------------- */

static inline void outb(u16 port, u8 v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline u8 inb(u16 port)
{
	u8 v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline void outl(u16 port, u32 v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}

static inline u32 inl(u16 port)
{
	u32 v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static void print(const char *s)
{
	for (; *s; s++) {
		while (!(inb(0x3fd) & 0x20)) {
		}
		outb(0x3f8, (u8)*s);
	}
}

static void print_hex(u64 v)
{
	char buf[19] = "0x";
	int n = 2;

	for (int i = 60; i >= 0; i -= 4) {
		if (n > 2 || (v >> i) || i == 0) {
			buf[n++] = "0123456789abcdef"[(v >> i) & 15];
		}
	}
	buf[n] = 0;
	print(buf);
}

static void check(const char *name, u64 got, u64 want)
{
	if (got == want) {
		passed++;
		print("PASS ");
		print(name);
	} else {
		failed++;
		print("FAIL ");
		print(name);
		print(": ");
		print_hex(got);
		print(", expected ");
		print_hex(want);
	}
	print("\n");
}

static void finish(void)
{
	print("END ");
	print_hex(passed);
	print("/");
	print_hex(failed);
	print("\n");
	outl(0xf4, failed ? 0x11 : 0x10);
	for (;;) {
		__asm__ volatile("cli; hlt");
	}
}

void fault_c(u64 vector, u64 error, u64 rip);
void fault_c(u64 vector, u64 error, u64 rip)
{
	print("FAIL unexpected exception ");
	print_hex(vector);
	print(" error ");
	print_hex(error);
	print(" at ");
	print_hex(rip);
	print("\n");
	failed++;
	finish();
}

void *memset(void *d, int c, size_t n);
void *memset(void *d, int c, size_t n)
{
	u8 *p = d;

	while (n--) {
		*p++ = (u8)c;
	}
	return d;
}

void *memcpy(void *d, const void *s, size_t n);
void *memcpy(void *d, const void *s, size_t n)
{
	u8 *p = d;
	const u8 *q = s;

	while (n--) {
		*p++ = *q++;
	}
	return d;
}

static bool same(const volatile void *a, const volatile void *b, size_t n)
{
	const volatile u8 *p = a, *q = b;

	while (n--) {
		if (*p++ != *q++) {
			return false;
		}
	}
	return true;
}

static u8 *at(u64 pa)
{
	return (u8 *)pa;
}

static u64 pa_of(const void *p)
{
	return (u64)p;
}

static volatile u64 *q(void *base, u32 offset)
{
	return (volatile u64 *)((u8 *)base + offset);
}

static volatile u32 *d(void *base, u32 offset)
{
	return (volatile u32 *)((u8 *)base + offset);
}

static volatile u64 *shared(u32 offset)
{
	return q(at(SHARED), offset);
}

static void cpuid(u32 leaf, u32 r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(0));
}

static void wbinvd(void)
{
	__asm__ volatile("wbinvd" : : : "memory");
}

static void reload_cr3(void)
{
	u64 v;

	__asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(v) : : "memory");
}

/* ---- host set-up ------------------------------------------------------------------------------------- */

static void set_gate(u64 *table, u32 vector, u64 handler, u16 selector)
{
	table[vector * 2] = (handler & 0xffff) | (u64)selector << 16 | 0x8e0000000000ull |
			    (handler >> 16 & 0xffff) << 48;
	table[vector * 2 + 1] = handler >> 32;
}

static void host_init(void)
{
	struct __attribute__((packed)) {
		u16 limit;
		u64 base;
	} idtr = { sizeof(idt) - 1, pa_of(idt) };

	for (u32 v = 0; v < 256; v++) {
		set_gate(idt, v, v < 32 ? pa_of(stubs) + 16 * v : pa_of(irq_stub), 8);
	}
	__asm__ volatile("lidt %0" : : "m"(idtr));
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	*(volatile u32 *)0xfee000f0ull = 0x1ff;
	try_wrmsr(0xc0010117, pa_of(hsave));
	for (u32 i = 0; i < 4; i++) {
		for (u32 j = 0; j < 512; j++) {
			c_pds[i][j] = ((u64)i << 30) + ((u64)j << 21) + 0x83 + c_bit;
		}
		pdpt[4 + i] = pa_of(c_pds[i]) + 3;
	}
	reload_cr3();
}

static void npt_init(void)
{
	*q(npt_pml4, 0) = pa_of(npt_pdpt) + 7;
	for (u32 i = 0; i < 4; i++) {
		*q(npt_pdpt, 8 * i) = pa_of(npt_pd[i]) + 7;
		for (u32 j = 0; j < 512; j++) {
			npt_pd[i][j] = ((u64)i << 30) + ((u64)j << 21) + 0x87;
		}
	}
	npt_pd[3][0] = 0;
	npt_pd[3][1] = DEV_MMIO | 0x87 | 1ull << 45;
	npt_pd[3][2] = SPARE | 0x87;
}

/* ---- the security processor ---------------------------------------------------------------------------- */

static volatile u32 *psp_regs;

static u32 pci_read(u32 dev, u32 reg)
{
	outl(0xcf8, 0x80000000u | dev << 11 | reg);
	return inl(0xcfc);
}

static void pci_write(u32 dev, u32 reg, u32 v)
{
	outl(0xcf8, 0x80000000u | dev << 11 | reg);
	outl(0xcfc, v);
}

static bool psp_find(void)
{
	for (u32 dev = 0; dev < 32; dev++) {
		if (pci_read(dev, 0) == 0x14ca1022) {
			u64 bar = pci_read(dev, 0x18);

			if ((bar & 6) == 4) {
				bar |= (u64)pci_read(dev, 0x1c) << 32;
			}
			pci_write(dev, 4, pci_read(dev, 4) | 6);
			psp_regs = (volatile u32 *)(bar & ~15ull);
			return true;
		}
	}
	return false;
}

/* Run a command whose buffer is `cmdbuf`; returns the status. */
static u32 psp(u32 command)
{
	psp_regs[0x109e0 / 4] = (u32)pa_of(cmdbuf);
	psp_regs[0x109e4 / 4] = 0;
	psp_regs[0x10980 / 4] = command << 16;
	while (!(psp_regs[0x10980 / 4] >> 31)) {
	}
	return psp_regs[0x10980 / 4] & 0xffff;
}

static u32 psp_handle(u32 command, u32 handle)
{
	memset(cmdbuf, 0, 64);
	*d(cmdbuf, 0) = handle;
	return psp(command);
}

static u32 psp_init(void)
{
	memset(cmdbuf, 0, 64);
	*d(cmdbuf, 0) = 1;
	*q(cmdbuf, 8) = TMR;
	*d(cmdbuf, 16) = 0x100000;
	return psp(1);
}

static u32 psp_flush(void)
{
	wbinvd();
	return psp(0xa);
}

static u32 psp_start(u32 policy)
{
	memset(cmdbuf, 0, 64);
	*d(cmdbuf, 4) = policy;
	return psp(0x30);
}

static u32 psp_activate(u32 handle, u32 asid)
{
	memset(cmdbuf, 0, 64);
	*d(cmdbuf, 0) = handle;
	*d(cmdbuf, 4) = asid;
	return psp(0x21);
}

static u32 psp_update(u32 command, u32 handle, u64 pa, u32 len)
{
	memset(cmdbuf, 0, 64);
	*d(cmdbuf, 0) = handle;
	*q(cmdbuf, 8) = pa;
	*d(cmdbuf, 16) = len;
	return psp(command);
}

static u32 psp_measure(u32 handle)
{
	memset(cmdbuf, 0, 64);
	*d(cmdbuf, 0) = handle;
	*q(cmdbuf, 8) = pa_of(page_b);
	*d(cmdbuf, 16) = 0x30;
	return psp(0x33);
}

/* ---- guests ------------------------------------------------------------------------------------------------ */

static u32 guest_handle;
static bool no_flush;			/* leave the CLFLUSH before LAUNCH_UPDATE out */

static void build_guest_tables(void)
{
	u64 *gdt = (u64 *)G_GDT;

	gdt[0] = 0;
	gdt[1] = 0x00af9b000000ffffull;
	gdt[2] = 0x00cf93000000ffffull;
	set_gate((u64 *)G_IDT, 29, GUEST + guest_vectors[0], 8);
	set_gate((u64 *)G_IDT, 13, GUEST + guest_vectors[1], 8);
	set_gate((u64 *)G_IDT, 0x50, GUEST + guest_vectors[2], 8);
	*q(at(G_PML4), 0) = G_PDPT + 3 + c_bit;
	*q(at(G_PDPT), 0) = G_PD_PRIV + 3 + c_bit;
	*q(at(G_PDPT), 8) = G_PD_SHARED + 3 + c_bit;
	*q(at(G_PDPT), 24) = G_PD_DEV + 3 + c_bit;
	for (u64 i = 0; i < 512; i++) {
		*q(at(G_PD_PRIV), (u32)(8 * i)) = (i << 21) + 0x83 + c_bit;
		*q(at(G_PD_SHARED), (u32)(8 * i)) = (i << 21) + 0x83;
		*q(at(G_PD_DEV), (u32)(8 * i)) = 0xc0000000ull + (i << 21) + 0x83;
	}
}

static void build_guest_memory(void)
{
	memset(at(GUEST), 0, G_LEN);
	memcpy(at(GUEST), guest_start, (size_t)(guest_end - guest_start));
	build_guest_tables();
	*q(at(G_DATA), 0) = 0x1122334455667788ull;
	memset(at(SHARED), 0, 4096);
}

static void put_seg(u8 *save, u32 offset, u16 sel, u16 attr, u32 limit)
{
	*(u16 *)(save + offset) = sel;
	*(u16 *)(save + offset + 2) = attr;
	*d(save, offset + 4) = limit;
	*q(save, offset + 8) = 0;
}

/* The guest's first registers, in the layout that VMCB save area and VMSA share. */
static void build_save(u8 *save)
{
	memset(save, 0, 0x300);
	for (u32 s = 0; s < 6; s++) {
		put_seg(save, 16 * s, s == 1 ? 8 : 16, s == 1 ? 0xa9b : 0xc93, 0xffffffff);
	}
	put_seg(save, 0x60, 0, 0, 23);
	*q(save, 0x68) = G_GDT;
	put_seg(save, 0x80, 0, 0, 4095);
	*q(save, 0x88) = G_IDT;
	put_seg(save, 0x70, 0, 0x82, 0xffff);
	put_seg(save, 0x90, 0, 0x8b, 0xffff);
	*q(save, 0xd0) = 0x1d01;		/* SVME NXE LMA LME SCE */
	*q(save, 0x148) = 0x40620;
	*q(save, 0x150) = G_PML4 + c_bit;
	*q(save, 0x158) = 0x80000033;
	*q(save, 0x160) = 0x400;
	*q(save, 0x168) = 0xffff0ff0;
	*q(save, 0x170) = 2;
	*q(save, 0x178) = GUEST;
	*q(save, 0x1d8) = G_STACK;
	*q(save, 0x268) = 0x0007040600070406ull;
}

static void build_vmsa(u64 pa)
{
	u8 *v = at(pa);

	memset(v, 0, 4096);
	build_save(v);
	*q(v, 0x370) = G_DATA;			/* R14 */
	*q(v, 0x378) = ALIAS + SHARED;		/* R15 */
	*q(v, 0x3e8) = 1;			/* XCR0 */
	*d(v, 0x408) = 0x1f80;
	*(u16 *)(v + 0x410) = 0x37f;
}

#define I3(n) (1u << (n))
#define W3 (I3(0) | I3(1) | I3(18) | I3(22) | I3(24) | I3(27) | I3(28) | I3(31))
#define W4 (1u | 2u | 1u << 15 | 1u << 16 | 1u << 20 | 1u << 24)

static void build_vmcb(u8 *v, u32 asid, bool sev, bool es, u64 vmsa)
{
	memset(v, 0, 4096);
	*d(v, 0x0c) = W3;
	*d(v, 0x10) = W4;
	*q(v, 0x40) = pa_of(iopm);
	*q(v, 0x48) = pa_of(msrpm);
	*d(v, 0x58) = asid;
	v[0x5c] = 3;
	*q(v, 0x60) = 1u << 24;			/* V_INTR_MASKING */
	*q(v, 0x90) = 1 | (sev ? 2 : 0) | (es ? 4 : 0);
	*q(v, 0xb0) = pa_of(npt_pml4);
	*q(v, 0xb8) = 1;
	*q(v, 0x108) = vmsa;
	if (!es) {
		build_save(v + 0x400);
	}
}

/* Load the host save area with what VMRUN does not save (swap type B). */
static void fill_hsave(void)
{
	u8 *s = hsave + 0x400;

	svm_save(pa_of(hsave));
	*q(s, 0x3e8) = 7;			/* XCR0 */
	*q(s, 0x140) = 0;
	*d(s, 0x2e8) = 0;
	*d(s, 0x2ec) = 0x77;			/* TSC_AUX */
	for (u32 r = 0x308; r <= 0x378; r += 8) {
		*q(s, r) = 0xb000000000000000ull + r;
	}
}

static u64 run(u8 *v)
{
	fill_hsave();
	svm_run(pa_of(v), hsave + 0x400);
	return *q(v, 0x70);
}

#define EXIT_INVALID (~0ull)
#define EXIT_VMGEXIT 0x403u

/* Have the guest do one command and run until it exits; returns the exit code. */
static u64 order(u64 command, u64 arg, u64 addr, u64 skip)
{
	*shared(0x00) = command;
	*shared(0x08) = arg;
	*shared(0x10) = 0xdead;
	*shared(0x48) = addr;
	*shared(0x30) = skip;
	return run(vmcb);
}

/* The same for commands that need no exit of their own. */
static void order_quiet(const char *name, u64 command, u64 arg, u64 addr, u64 skip)
{
	check(name, order(command, arg, addr, skip), EXIT_VMGEXIT);
}

/* Bring a guest to LAUNCH_UPDATE done; the VMSA is at VMSA_PAGE. Returns the first bad status. */
static u32 prepare(bool es, u32 asid)
{
	u32 st;

	build_guest_memory();
	build_vmsa(VMSA_PAGE);
	if (!no_flush) {
		wbinvd();
	}
	st = psp_start(es ? 5 : 1);
	guest_handle = *d(cmdbuf, 0);
	st = st ? st : psp_activate(guest_handle, asid);
	st = st ? st : psp_update(0x31, guest_handle, GUEST, G_LEN);
	if (es) {
		st = st ? st : psp_update(0x32, guest_handle, VMSA_PAGE, 4096);
	}
	build_vmcb(vmcb, asid, true, es, VMSA_PAGE);
	return st;
}

static u32 launch(bool es, u32 asid)
{
	u32 st = prepare(es, asid);

	st = st ? st : psp_measure(guest_handle);
	return st ? st : psp_handle(0x35, guest_handle);
}

static u32 destroy(void)
{
	u32 st = psp_handle(0x22, guest_handle);

	st = st ? st : psp_handle(0x20, guest_handle);
	return st ? st : psp_flush();
}

/* ---- tests: host memory -------------------------------------------------------------------------------------- */

static void test_discovery(void)
{
	u32 r[4];

	cpuid(0x8000001f, r);
	check("cpuid: SME, SEV, page flush, SEV-ES", r[0] & 0xf, 0xf);
	check("cpuid: C-bit position", r[1] & 0x3f, 51);
	check("cpuid: reduction", r[1] >> 6 & 0x3f, 1);
	check("cpuid: largest ASID", r[2], 15);
	check("cpuid: smallest SEV ASID", r[3], 5);
	cpuid(0x8000000a, r);
	check("cpuid: LBRV, next RIP, flush by ASID, decode assists", r[3] & 0xcb, 0xcb);
	check("SYSCFG: encryption on", try_rdmsr(0xc0010010) >> 23 & 1, 1);
	check("HWCR: SmmLock", try_rdmsr(0xc0010015) & 1, 1);
	try_rdmsr(0xc0010130);
	check("GHCB MSR: #GP in host mode", fault_vector, GP);
	try_wrmsr(0xc0010130, 0);
	check("GHCB MSR: write #GP in host mode", fault_vector, GP);
	try_rdmsr(0xc001011e);
	check("VM_PAGE_FLUSH: write-only", fault_vector, GP);
}

static void test_host_memory(void)
{
	volatile u64 *raw = q(page_a, 0), *enc = q(at(C_VIEW + pa_of(page_a)), 0);
	volatile u64 *raw2 = q(page_b, 0), *enc2 = q(at(C_VIEW + pa_of(page_b)), 0);

	memset(at(C_VIEW + pa_of(page_a)), 0, 4096);
	memset(at(C_VIEW + pa_of(page_b)), 0, 4096);
	enc[0] = 0x1234;
	enc[2] = 0x1234;
	check("SME: reads back through the key", enc[0], 0x1234);
	check("SME: raw bytes differ", raw[0] != 0x1234, 1);
	check("SME: equal blocks of a page have different ciphertext", raw[0] != raw[2], 1);
	enc2[0] = 0x1234;
	enc2[1] = enc[1];
	check("SME: equal blocks of two pages have different ciphertext", raw[0] != raw2[0], 1);
	raw2[0] = raw[0];
	raw2[1] = raw[1];
	check("SME: moved ciphertext decrypts to garbage", enc2[0] != 0x1234, 1);
	raw[4] = raw[4] ^ 1;
	check("SME: other blocks survive a bit flip", enc[0], 0x1234);
	check("SME: the flipped block does not", enc[4] != 0 && enc[5] != 0, 1);
	raw[0] = 0x5678;
	check("SME: plain bytes read through the key are garbage", enc[0] != 0x5678, 1);
}

static void test_reserved_bits(void)
{
	volatile u64 *entry = &pdpt[8];

	*entry = pa_of(c_pds[0]) + 3 + c_bit;
	memset(page_a, 0, 8);
	reload_cr3();
	try_read(at(8ull << 30));
	check("walk: C-bit in a table pointer reads the table through the key",
	      fault_vector != NO_FAULT, 1);
	*entry = 0x83 | 1ull << (phys_bits - 1);
	reload_cr3();
	try_read(at(8ull << 30));
	check("walk: a bit of the lost width is reserved", fault_vector, 14);
	*entry = 0x83 | c_bit;
	reload_cr3();
	try_read(at(8ull << 30));
	check("walk: the C-bit itself is not reserved", fault_vector, NO_FAULT);
	*entry = 0;
	reload_cr3();
}

/* fw_cfg's DMA interface: control word, length, address, all big-endian. */
struct fw_dma {
	u32 control, length;
	u64 address;
};

static u32 fw_dma_read(u64 control_bus, volatile struct fw_dma *ctl, u64 target_bus)
{
	ctl->control = __builtin_bswap32(0x0000000a);	/* select item 0, read */
	ctl->length = __builtin_bswap32(4);
	ctl->address = __builtin_bswap64(target_bus);
	outl(0x514, __builtin_bswap32((u32)(control_bus >> 32)));
	outl(0x518, __builtin_bswap32((u32)control_bus));
	return ctl->control;
}

static void test_dma(void)
{
	volatile struct fw_dma *ctl = (void *)page_a;
	volatile struct fw_dma *enc_ctl = (void *)(C_VIEW + pa_of(page_a));
	volatile u8 *target = page_b, *enc_target = at(C_VIEW + pa_of(page_b));

	memset(page_a, 0, 64);
	memset(page_b, 0, 64);
	check("DMA: works on plain memory", fw_dma_read(pa_of(page_a), ctl, pa_of(page_b)), 0);
	check("DMA: data arrives", same(target, "QEMU", 4), 1);
	check("DMA: is not what the key shows", same(enc_target, "QEMU", 4), 0);
	enc_target[0] = 'x';
	check("DMA: to an encrypted page works", fw_dma_read(pa_of(page_a), ctl, pa_of(page_b)), 0);
	check("DMA: writes raw bytes there", same(enc_target, "QEMU", 4), 0);
	check("DMA: which a plain view shows", same(target, "QEMU", 4), 1);
	check("DMA: bus address with C-bit", fw_dma_read(pa_of(page_a), ctl, pa_of(page_b) | c_bit), 0);
	check("DMA: then goes through the key", same(enc_target, "QEMU", 4), 1);
	check("DMA: sees ciphertext of an encrypted request",
	      fw_dma_read(pa_of(page_a), enc_ctl, pa_of(page_b)) != 0, 1);
	check("DMA: unless its address carries the C-bit",
	      fw_dma_read(pa_of(page_a) | c_bit, enc_ctl, pa_of(page_b)), 0);
}

/* ---- tests: VMRUN checks ------------------------------------------------------------------------------------------ */

static void refused(const char *name)
{
	check(name, run(vmcb), EXIT_INVALID);
}

static void test_before_finish(void)
{
	check("launch: up to the VMSA", prepare(true, 1), 0);
	refused("VMRUN: refused before LAUNCH_FINISH");
	check("launch: measure", psp_measure(guest_handle), 0);
	check("launch: finish", psp_handle(0x35, guest_handle), 0);
	check("VMRUN: accepted after LAUNCH_FINISH", run(vmcb), EXIT_VMGEXIT);
}

static void test_vmrun_checks(void)
{
	u64 nested = *q(vmcb, 0x90);

	*q(vmcb, 0x90) = 6;
	refused("VMRUN: nested paging off");
	*q(vmcb, 0x90) = 5;
	refused("VMRUN: SEV-ES without SEV");
	*q(vmcb, 0x90) = nested;
	*d(vmcb, 0x58) = 0;
	refused("VMRUN: ASID 0");
	*d(vmcb, 0x58) = 16;
	refused("VMRUN: ASID beyond the largest");
	*d(vmcb, 0x58) = 2;
	refused("VMRUN: ASID that is not active");
	*d(vmcb, 0x58) = 1;
	*q(vmcb, 0x90) = 3;
	refused("VMRUN: plain SEV on an ES ASID");
	*q(vmcb, 0x90) = nested;
	*q(vmcb, 0xb8) = 0;
	refused("VMRUN: LBR virtualisation off");
	*q(vmcb, 0xb8) = 1;
	*q(vmcb, 0x108) = VMSA_PAGE + 16;
	refused("VMRUN: VMSA not page aligned");
	*q(vmcb, 0x108) = VMSA_PAGE | c_bit;
	refused("VMRUN: VMSA address with C-bit");
	*q(vmcb, 0x108) = SPARE;
	refused("VMRUN: page that is no VMSA");
	*q(vmcb, 0x108) = 0xe0000000;
	refused("VMRUN: VMSA outside RAM");
	*q(vmcb, 0x108) = VMSA_PAGE;
	try_wrmsr(0xc0010015, 0);
	refused("VMRUN: SmmLock clear");
	try_wrmsr(0xc0010015, 1);
	*q(vmcb, 0xa8) = 0x80000450;
	refused("VMRUN: injection of a software interrupt");
	*q(vmcb, 0xa8) = 0x80000303;
	refused("VMRUN: injection of #BP");
	*q(vmcb, 0xa8) = 0;
	*d(vmcb, 0x10) = W4 & ~1u;
	refused("VMRUN: VMRUN intercept off");
	*d(vmcb, 0x10) = W4;
	check("VMRUN: all of it undone", order(0, 0, 0, 0), EXIT_VMGEXIT);
}

/* Copy a VMSA frame, then flip a bit of it, then put it back. */
static void test_vmsa_integrity(void)
{
	volatile u8 *v = at(VMSA_PAGE);

	check("VMSA: not readable as written", *q(at(VMSA_PAGE), 0x178) != GUEST, 1);
	memcpy(page_a, at(VMSA_PAGE), 4096);
	v[0x178] ^= 1;
	refused("VMSA: one flipped bit of RIP");
	v[0x178] ^= 1;
	v[0xfb0] ^= 0x80;
	refused("VMSA: one flipped bit near the end of the checked part");
	v[0xfb0] ^= 0x80;
	check("VMSA: restored", order(12, 0x77, 0, 0), EXIT_VMGEXIT);
	memcpy(at(VMSA_PAGE), page_a, 4096);
	refused("VMSA: an older one (replay)");
}

/* ---- tests: exits ------------------------------------------------------------------------------------------------------ */

#define POISON 0xa5a5a5a5a5a5a5a5ull

static u64 vc_code(void)
{
	return *shared(0x20);
}

/* An intercepted event that hardware turns into #VC in the guest. */
static void nae(const char *name, u64 command, u64 code, u64 skip, u64 addr)
{
	u64 before = *shared(0x18);

	order_quiet(name, command, 0, addr, skip);
	check("  #VC raised once", *shared(0x18) - before, 1);
	check("  error code", vc_code(), code);
	/* CPUID follows the 5 bytes of a MOV. */
	check("  RIP at the instruction", *shared(0x28), *shared(0x50) + (command == 3 ? 5 : 0));
}

static void test_nae(void)
{
	*d(vmcb, 0x0c) |= I3(7);		/* GDTR read */
	memset(iopm, 0xff, sizeof(iopm));
	memset(msrpm, 0xff, sizeof(msrpm));
	nae("NAE: CPUID", 3, 0x72, 2, 0);
	nae("NAE: port input", 13, 0x7b, 2, 0);
	nae("NAE: INVD", 14, 0x76, 2, 0);
	nae("NAE: RDMSR", 10, 0x7c, 2, 0x8b);
	nae("NAE: GDTR read", 25, 0x67, 4, 0);
	nae("NAE: MMIO (nested entry with a reserved bit)", 8, 0x400, 3, DEV_MMIO);
	*d(vmcb, 4) = 1u << 7 | 1u << 23;	/* DR7 read and write */
	nae("NAE: DR7 write", 26, 0x37, 3, 0);
	order_quiet("no intercept: DR0", 27, 0x5000, 0, 0);
	check("  reads back", *shared(0x10), 0x5000);
	check("NAE: leaves no guest address for the host", *q(vmcb, 0x80), POISON);
	*d(vmcb, 0x0c) &= ~I3(7);
	memset(iopm, 0, sizeof(iopm));
	memset(msrpm, 0, sizeof(msrpm));
	*d(vmcb, 0x0c) &= ~I3(18);
	{
		u64 before = *shared(0x18);

		order_quiet("no intercept: CPUID executes", 3, 0, 0, 0);
		check("  no #VC", *shared(0x18), before);
	}
	*d(vmcb, 0x0c) |= I3(18);
}

/* An automatic exit that is an instruction: the guest goes on behind it. */
static void ae_insn(const char *name, u64 command, u64 arg, u64 code)
{
	u64 vcs = *shared(0x18), finished = *shared(0x58);

	check(name, order(command, arg, 0, 2), code);
	check("  goes on behind the instruction", run(vmcb), EXIT_VMGEXIT);
	check("  once", *shared(0x58) - finished, 1);
	check("  no #VC", *shared(0x18), vcs);
}

static void test_ae(void)
{
	u64 before;

	*d(vmcb, 0x0c) |= I3(23);
	ae_insn("AE: HLT", 1, 0, 0x78);
	ae_insn("AE: PAUSE", 2, 0, 0x77);
	*d(vmcb, 0x0c) &= ~I3(23);
	before = *shared(0x58);
	npt_pd[3][0] = 0;
	check("AE: NPF, not present", order(8, 0, DEV_ABSENT + 0x123, 0), 0x400);
	check("  no RSVD in EXITINFO1", *q(vmcb, 0x78) & 8, 0);
	check("  guest address without C-bit", *q(vmcb, 0x80) & ~0xfffull, DEV_ABSENT);
	check("  comes again", run(vmcb), 0x400);
	*q(at(SPARE), 0x123) = 0x4711;
	npt_pd[3][0] = SPARE | 0x87;
	check("  goes on when mapped", run(vmcb), EXIT_VMGEXIT);
	check("  finished once", *shared(0x58) - before, 1);
	check("  data of the plain page", *shared(0x10), 0x4711);
	npt_pd[3][0] = 0;
}

static void test_traps(void)
{
	check("trap: EFER", order(4, 0x1901, 0, 2), 0x8f);
	check("  new value", *q(vmcb, 0x78), 0x1d01 & ~0x0ull);
	check("  goes on", run(vmcb), EXIT_VMGEXIT);
	ae_insn("trap: CR0", 5, 0x80010033, 0x90);
	check("trap: CR0 took effect", *shared(0x10), 0x80010033);
	ae_insn("trap: CR0.TS set", 5, 0x8000003b, 0x90);
	ae_insn("trap: CLTS", 19, 0, 0x90);
	check("trap: CLTS took effect", *shared(0x10), 0x80000033);
	check("trap: CR0 back", order(5, 0x80000033, 0, 0), 0x90);
	check("  new value", *q(vmcb, 0x78), 0x80000033);
	*q(vmcb, 0x400 + 0x158) = 0x80010033;
	check("  goes on", run(vmcb), EXIT_VMGEXIT);
	check("  the host cannot correct it", *shared(0x10), 0x80000033);
	ae_insn("trap: CR4", 6, 0x40660, 0x94);
	check("trap: CR4 took effect", *shared(0x10), 0x40660);
	check("trap: CR8", order(7, 9, 0, 0), 0x98);
	check("  new TPR", *q(vmcb, 0x78), 9);
	check("  V_TPR", *d(vmcb, 0x60) & 15, 9);
	check("  goes on", run(vmcb), EXIT_VMGEXIT);
	check("trap: CR8 back", order(7, 0, 0, 0), 0x98);
	check("  goes on", run(vmcb), EXIT_VMGEXIT);
	{
		u64 gps = *shared(0x38);

		order_quiet("trap: CR8 = 16 is #GP in the guest", 7, 16, 0, 4);
		check("  #GP", *shared(0x38) - gps, 1);
		order_quiet("trap: reserved EFER bit is #GP in the guest", 4, 0x1901 | 0x80, 0, 2);
		check("  #GP", *shared(0x38) - gps, 2);
		order_quiet("trap: reserved CR4 bit is #GP in the guest", 6, 0x40660 | 1u << 31, 0, 3);
		check("  #GP", *shared(0x38) - gps, 3);
	}
	check("trap: EFER.SVME cannot be cleared", order(4, 0x901, 0, 2), 0x8f);
	check("  goes on", run(vmcb), EXIT_VMGEXIT);
	check("  SVME still set", *shared(0x10) >> 12 & 1, 1);
	*d(vmcb, 0x10) = W4 & ~(1u << 16);
	order_quiet("no trap bit: CR0 write does not exit", 5, 0x80010033, 0, 0);
	*d(vmcb, 0x10) = W4;
}

/* ---- tests: registers ------------------------------------------------------------------------------------------------------ */

static void test_registers(void)
{
	static const u16 slot[14] = { 0x308, 0x310, 0x318, 0x328, 0x330, 0x338, 0x340, 0x348,
				      0x350, 0x358, 0x360, 0x368, 0x370, 0x378 };
	u32 bad = 0;

	*q(vmcb, 0x1f8 + 0x400) = 0;
	try_wrmsr(0xc0000100, 0x12345000);
	try_wrmsr(0xc0000082, 0x6789a000);
	check("registers: guest fills all and exits", order(12, 0x600d600d600d600d, 0, 0), EXIT_VMGEXIT);
	for (u32 i = 0; i < 14; i++) {
		bad += exit_regs[i] != *q(hsave, 0x400u + slot[i]);
	}
	check("registers: the host's come from the save area", bad, 0);
	check("registers: XMM0 is reset", exit_xmm[0] | exit_xmm[1], 0);
	check("registers: XMM15 is reset", exit_xmm[2] | exit_xmm[3], 0);
	check("registers: TSC_AUX comes from the save area", try_rdmsr(0xc0000103), 0x77);
	check("registers: nothing of the guest in the VMCB", *q(vmcb, 0x5f8) != 0x600d600d600d600d, 1);
	check("registers: FS base comes from the save area", try_rdmsr(0xc0000100), 0x12345000);
	check("registers: LSTAR comes from the save area", try_rdmsr(0xc0000082), 0x6789a000);
	check("registers: guest goes on", run(vmcb), EXIT_VMGEXIT);
	check("registers: guest's all survived", *shared(0x10), 0);
	order_quiet("registers: guest XCR0", 18, 0, 0, 0);
	check("  1 as in its VMSA", *shared(0x10), 1);
	order_quiet("registers: guest sets XCR0", 24, 7, 0, 0);
	order_quiet("registers: and reads it later", 18, 0, 0, 0);
	check("  7", *shared(0x10), 7);
}

static void test_msrs(void)
{
	memset(msrpm, 0xff, sizeof(msrpm));
	order_quiet("MSR: SEV_STATUS, intercept set", 10, 0, 0xc0010131, 2);
	check("  SEV and SEV-ES", *shared(0x10), 3);
	*q(vmcb, 0xa0) = 0x0002000100000001ull | (u64)c_pos << 24;
	order_quiet("MSR: GHCB, intercept set", 10, 0, 0xc0010130, 2);
	check("  value of the VMCB", *shared(0x10), 0x0002000100000001ull | (u64)c_pos << 24);
	order_quiet("MSR: GHCB written", 11, 0xabc002, 0xc0010130, 2);
	check("  is in the VMCB", *q(vmcb, 0xa0), 0xabc002);
	memset(msrpm, 0, sizeof(msrpm));
	try_wrmsr(0xc001011e, (pa_of(page_a) & ~0xfffull) | 1);
	check("VM_PAGE_FLUSH: accepted", fault_vector, NO_FAULT);
	try_wrmsr(0xc001011e, pa_of(page_a) & ~0xfffull);
	check("VM_PAGE_FLUSH: ASID 0 is #GP", fault_vector, GP);
	try_wrmsr(0xc001011e, (600ull << 30) | 1);
	check("VM_PAGE_FLUSH: unmapped address is #GP", fault_vector, GP);
}

static void test_guest_memory(void)
{
	check("memory: ciphertext in the private page", *q(at(G_DATA), 0) != 0x1122334455667788ull, 1);
	order_quiet("memory: guest reads its private page", 22, 0, 0, 0);
	check("  plaintext", *shared(0x10), 0x1122334455667788ull);
	order_quiet("memory: guest reads it with C=0", 8, 0, ALIAS + G_DATA, 0);
	check("  sees what the host sees", *shared(0x10), *q(at(G_DATA), 0));
	*q(at(SPARE), 0x40) = 0x99;
	order_quiet("memory: guest reads plain memory with C=1", 8, 0, SPARE + 0x40, 0);
	check("  garbage", *shared(0x10) != 0x99, 1);
	order_quiet("memory: with C=0", 8, 0, ALIAS + SPARE + 0x40, 0);
	check("  as written", *shared(0x10), 0x99);
	order_quiet("memory: guest writes private memory", 9, 0x55aa, SPARE + 0x80, 0);
	check("  host sees ciphertext", *q(at(SPARE), 0x80) != 0x55aa, 1);
	memcpy(page_a, at(G_DATA), 16);
	npt_pd[3][2] = SPARE | 0x87 | c_bit;
	*q(at(C_VIEW + SPARE), 0x100) = 0xfeed;
	order_quiet("memory: guest C=0, nested C=1", 8, 0, DEV_RAM + 0x100, 0);
	check("  goes through the host's key", *shared(0x10), 0xfeed);
	npt_pd[3][2] = SPARE | 0x87;
}

static void test_interrupts(void)
{
	u64 irqs = *shared(0x40);

	order_quiet("IF: guest clears it", 16, 0, 0, 0);
	check("  shown at VMCB 0x68", *d(vmcb, 0x68) & 3, 0);
	order_quiet("IF: guest sets it", 15, 0, 0, 0);
	check("  shown at VMCB 0x68", *d(vmcb, 0x68) & 3, 2);
	*q(vmcb, 0xa8) = 0x80000050;
	order_quiet("injection: interrupt 0x50", 0, 0, 0, 0);
	check("  taken once", *shared(0x40) - irqs, 1);
	check("  EVENTINJ consumed", *q(vmcb, 0xa8) & 0x80000000, 0);
	*d(vmcb, 0x60) = 1u << 24 | 1u << 8 | 1u << 20;
	*d(vmcb, 0x64) = 0x50;
	*d(vmcb, 0x0c) |= I3(4);
	check("VINTR: window exit", order(0, 0, 0, 0), 0x64);
	*d(vmcb, 0x0c) &= ~I3(4);
	check("VINTR: without intercept", run(vmcb), EXIT_VMGEXIT);
	check("  delivered", *shared(0x40) - irqs, 2);
	*d(vmcb, 0x60) = 1u << 24;
	*(volatile u32 *)0xfee00300ull = 0x44051;	/* self IPI 0x51 */
	host_if = 1;
	check("INTR: physical interrupt exits", order(0, 0, 0, 0), 0x60);
	check("  says nothing in EXITINFO1", *q(vmcb, 0x78), POISON);
	check("  says nothing in EXITINFO2", *q(vmcb, 0x80), POISON);
	host_if = 0;
	__asm__ volatile("sti; nop; cli");
	check("INTR: host takes it", irq_count, 1);
	check("  guest goes on", run(vmcb), EXIT_VMGEXIT);
	order_quiet("shadow: STI directly before VMGEXIT", 21, 0, 0, 0);
	check("  ended by the instruction, IF set", *d(vmcb, 0x68) & 3, 2);
	check("  guest goes on", run(vmcb), EXIT_VMGEXIT);
}

/* Delivery of an event that a nested fault interrupts: the stack is on an absent page. */
static void test_interrupted_delivery(void)
{
	u64 irqs = *shared(0x40);

	npt_pd[3][0] = SPARE | 0x87;
	order_quiet("delivery: guest moves its stack", 28, 0, DEV_ABSENT + 0x8000, 0);
	order_quiet("delivery: guest sets IF", 15, 0, 0, 0);
	npt_pd[3][0] = 0;
	*q(vmcb, 0xa8) = 0x80000050;
	check("delivery: NPF of the push", order(0, 0, 0, 0), 0x400);
	check("  EXITINTINFO names the event", *d(vmcb, 0x88), 0x80000050);
	check("  EVENTINJ is clear", *d(vmcb, 0xa8), 0);
	npt_pd[3][0] = SPARE | 0x87;
	*q(vmcb, 0xa8) = *q(vmcb, 0x88);
	check("  injected again", run(vmcb), EXIT_VMGEXIT);
	check("  taken once", *shared(0x40) - irqs, 1);
	npt_pd[3][0] = 0;
	check("delivery: software interrupt", order(29, 0, 0, 0), 0x400);
	check("  not in EXITINTINFO", *d(vmcb, 0x88) >> 31, 0);
	npt_pd[3][0] = SPARE | 0x87;
	check("  the instruction runs again", run(vmcb), EXIT_VMGEXIT);
	check("  taken once", *shared(0x40) - irqs, 2);
	order_quiet("delivery: stack back", 28, 0, G_STACK, 0);
	npt_pd[3][0] = 0;
}

/* Fault injection by the test port at 0x580. */
static void inject(u32 what, u32 value)
{
	outl(0x580, what);
	outl(0x584, value);
}

static u32 counter(u32 index)
{
	outl(0x580, index);
	return inl(0x584);
}

static void test_injection(void)
{
	u32 refusals = counter(3);

	inject(0x101, 0x72);
	check("injection: bogus exit code", order(0, 0, 0, 0), 0x72);
	check("injection: once", order(0, 0, 0, 0), EXIT_VMGEXIT);
	inject(0x100, 0x178 * 8 + 3);
	refused("injection: VMSA bit flip");
	check("injection: counted as refused", counter(3) - refusals, 1);
	inject(0x100, 0x178 * 8 + 3);
	check("injection: flipped back", order(0, 0, 0, 0), EXIT_VMGEXIT);
}

static void test_shutdown(void)
{
	check("SHUTDOWN: triple fault", order(17, 0, 0, 0), 0x7f);
	check("SHUTDOWN: again when run again", run(vmcb) == 0x7f || *q(vmcb, 0x70) == EXIT_INVALID, 1);
	check("destroy", destroy(), 0);
	refused("VMRUN: refused after DEACTIVATE");
}

/* ---- tests: guests of other kinds ------------------------------------------------------------------------------------------------ */

static void test_plain_sev(void)
{
	u64 rax = pa_of(vmcb), rcx = ALIAS + SHARED, rdx = G_DATA;

	check("SEV: launch", launch(false, 6), 0);
	/* The guest's R14 and R15 are the hypervisor's business here. */
	*shared(0) = 1;
	svm_load(pa_of(vmcb));
	__asm__ volatile("push %%rbx; push %%rbp; mov %%rcx, %%r15; mov %%rdx, %%r14; clgi; vmrun;"
			 "stgi; pop %%rbp; pop %%rbx"
			 : "+a"(rax), "+c"(rcx), "+d"(rdx)
			 : : "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory");
	check("SEV: guest runs encrypted code to HLT", *q(vmcb, 0x70), 0x78);
	check("SEV: registers are visible", *q(vmcb, 0x578) >= GUEST && *q(vmcb, 0x578) < GUEST + 0x4000, 1);
	check("SEV: RIP stays at the instruction", *q(vmcb, 0xc8) - *q(vmcb, 0x578), 1);
	*d(vmcb, 0x58) = 1;
	refused("SEV: plain guest on an ES ASID");
	check("SEV: destroy", destroy(), 0);
}

/* Next RIP and decode assists of a guest without SEV: MOV CR reads, one instruction each. */
static void test_plain_svm(void)
{
	static const u8 code[] = { 0x41, 0x0f, 0x20, 0xc4,	/* mov r12, cr0 */
				   0x0f, 0x22, 0xd8,		/* mov cr3, rax */
				   0x0f, 0xa2,			/* cpuid */
				   0x41, 0x0f, 0x22, 0xc1 };	/* mov cr0, r9 */
	u8 *v = vmcb2;

	build_guest_memory();
	memcpy(at(GUEST), code, sizeof(code));
	build_vmcb(v, 7, false, false, 0);
	for (u32 i = 0; i < 512; i++) {		/* no C-bits in a plain guest's tables */
		*q(at(G_PD_PRIV), 8 * i) &= ~c_bit;
		*q(at(G_PDPT), 8 * i) &= ~c_bit;
		*q(at(G_PML4), 8 * i) &= ~c_bit;
	}
	*q(v, 0x550) = G_PML4;
	*d(v, 0) = 1u | 1u << 19;
	v[0x5c] = 7;
	svm_run(pa_of(v), NULL);
	check("plain: CR0 read exit", *q(v, 0x70), 0);
	check("  decode assist", *q(v, 0x78), 1ull << 63 | 12);
	check("  next RIP", *q(v, 0xc8), GUEST + 4);
	*q(v, 0x578) = GUEST + 4;
	svm_run(pa_of(v), NULL);
	check("plain: CR3 write exit", *q(v, 0x70), 0x13);
	check("  decode assist", *q(v, 0x78), 1ull << 63);
	*q(v, 0x578) = GUEST + 7;
	svm_run(pa_of(v), NULL);
	check("plain: CPUID exit", *q(v, 0x70), 0x72);
	check("  next RIP", *q(v, 0xc8), GUEST + 9);
	*d(v, 0) = 0;
	*d(v, 0x0c) |= I3(5);
	*q(v, 0x578) = GUEST + 9;
	__asm__ volatile("xor %%r9d, %%r9d" : : : "r9");
	svm_run(pa_of(v), NULL);
	check("plain: selective CR0 write exit", *q(v, 0x70), 0x65);
	check("  decode assist", *q(v, 0x78), 1ull << 63 | 9);
	check("  next RIP", *q(v, 0xc8), GUEST + 13);
	npt_pd[0][GUEST >> 21] = 0;
	npt_pd[0][0] = 0x87;
	svm_run(pa_of(v), NULL);
	check("plain: NPF exit", *q(v, 0x70), 0x400);
	npt_pd[0][GUEST >> 21] = GUEST | 0x87;
}

static void test_syscfg_off(void)
{
	try_wrmsr(0xc0010010, try_rdmsr(0xc0010010) & ~(1ull << 23));
	build_guest_memory();
	for (u32 i = 0; i < 512; i++) {
		*q(at(G_PD_PRIV), 8 * i) &= ~c_bit;
		*q(at(G_PDPT), 8 * i) &= ~c_bit;
		*q(at(G_PML4), 8 * i) &= ~c_bit;
	}
	*(u8 *)GUEST = 0xf4;			/* hlt */
	build_vmcb(vmcb2, 7, true, false, 0);
	*q(vmcb2, 0x550) = G_PML4;
	svm_run(pa_of(vmcb2), NULL);
	check("SYSCFG[23] clear: the SEV bits have no meaning", *q(vmcb2, 0x70), 0x78);
	try_read(at(C_VIEW));
	check("SYSCFG[23] clear: the C-bit is reserved", fault_vector, 14);
	try_wrmsr(0xc0010010, try_rdmsr(0xc0010010) | 1ull << 23);
	try_read(at(C_VIEW));
	check("SYSCFG[23] set again: it is not", fault_vector, NO_FAULT);
}

/* ---- misuse that only the checkers see -------------------------------------------------------- */

static void step(const char *name)
{
	print("STEP ");
	print(name);
	print("\n");
}

static void clflush(volatile void *p)
{
	__asm__ volatile("clflush %0; mfence" : "+m"(*(volatile u8 *)p));
}

static void misuse_keys(void)
{
	volatile u64 *raw = q(page_a, 0), *enc = q(at(C_VIEW + pa_of(page_a)), 0);

	step("good: write, CLFLUSH, other key");
	raw[0] = 1;
	clflush(raw);
	(void)enc[0];
	step("good: write, WBINVD, other key");
	enc[0] = 1;
	wbinvd();
	(void)raw[0];
	step("key-change: write, other key");
	raw[0] = 2;
	(void)enc[0];
	step("key-change: write through the key, plain view");
	wbinvd();
	enc[0] = 3;
	(void)raw[0];
	wbinvd();
}

static void misuse_tlb(void)
{
	step("tlb-flush: first run of a VMCB");
	vmcb[0x5c] = 0;
	order(0, 0, 0, 0);
	step("good: the same again");
	order(0, 0, 0, 0);
	memcpy(vmcb2, vmcb, 4096);
	step("tlb-flush: another VMCB of the ASID");
	run(vmcb2);
	step("good: asks for the flush");
	vmcb[0x5c] = 3;
	order(0, 0, 0, 0);
}

static void misuse(void)
{
	misuse_keys();
	step("good: TMR before DF_FLUSH");
	memset(at(TMR), 0, 64);
	clflush(at(TMR));
	psp_init();
	psp_flush();
	step("tmr-access: read");
	try_read(at(TMR + 0x1000));
	step("key-change: LAUNCH_UPDATE of pages that were not flushed");
	no_flush = true;
	launch(true, 1);
	no_flush = false;
	destroy();
	step("good: launch");
	launch(true, 1);
	misuse_tlb();
	step("save-area: RIP of an ES guest in its VMCB");
	*q(vmcb, 0x578) = GUEST;
	order(0, 0, 0, 0);
	step("good: left alone");
	order(0, 0, 0, 0);
	step("guest-invd: INVD not intercepted");
	*d(vmcb, 0x0c) &= ~I3(22);
	order(14, 0, 0, 0);
	step("vmsa-write: live VMSA");
	*q(at(VMSA_PAGE), 0x800) = 0;
	step("vmsa-write: live VMSA by DMA");
	wbinvd();
	fw_dma_read(pa_of(page_b), (volatile struct fw_dma *)page_b, VMSA_PAGE + 0x900);
	step("good: after the guest is gone");
	destroy();
	wbinvd();
	*q(at(VMSA_PAGE), 0x800) = 0;
	step("end");
	finish();
}

int main(u32 magic, const u32 *info);
int main(u32 magic, const u32 *info)
{
	u32 r[4];
	const char *cmdline = (const char *)(u64)info[4];

	cpuid(0x80000008, r);
	phys_bits = r[0] & 0xff;
	cpuid(0x8000001f, r);
	c_pos = r[1] & 0x3f;
	c_bit = 1ull << c_pos;
	host_init();
	npt_init();
	if (!psp_find()) {
		check("security processor found", 0, 1);
		finish();
	}
	for (; magic == 0x2badb002 && (info[0] & 4) && *cmdline; cmdline++) {
		if (cmdline[0] == ' ' && cmdline[1] == 'm') {
			misuse();
		}
	}
	test_discovery();
	test_host_memory();
	test_reserved_bits();
	test_dma();
	check("INIT", psp_init(), 0);
	check("WBINVD and DF_FLUSH", psp_flush(), 0);
	test_before_finish();
	test_vmrun_checks();
	test_nae();
	test_ae();
	test_traps();
	test_registers();
	test_msrs();
	test_guest_memory();
	test_interrupts();
	test_interrupted_delivery();
	test_injection();
	test_shutdown();
	check("launch again", launch(true, 2), 0);
	check("second guest runs", order(0, 0, 0, 0), EXIT_VMGEXIT);
	test_vmsa_integrity();
	check("destroy the second", destroy(), 0);
	test_plain_sev();
	test_plain_svm();
	test_syscfg_off();
	finish();
	return 0;
}
