/* SPDX-License-Identifier: BSD-2-Clause */
#include "es_rt.h"

#include <stdarg.h>

/* GHCB specification (AMD publication 56421), chapters 2 to 4; APM vol. 2, 15.35. */

#define VC 29u

struct gate {
	u16 offset_low, selector, flags, offset_mid;
	u32 offset_high, reserved;
};
_Static_assert(sizeof(struct gate) == 16, "APM vol. 2, 4.8.4");

volatile struct es_trap trap;
volatile u64 trap_fixup;
volatile u32 vc_count[VC_CODES];
volatile u64 vc_last;
volatile u32 cpus_up = 1;
es_irq_fn *volatile es_handler[256];

static struct gate idt[256] __attribute__((aligned(16)));
static u32 passed, failed;

void es_main(void);
void es_ap_main(u32 cpu);
void es_isr(struct es_frame *f);

void *memset(void *to, int c, size_t n)
{
	u8 *p = to;

	while (n--)
		*p++ = (u8)c;
	return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
	u8 *p = to;
	const u8 *q = from;

	while (n--)
		*p++ = *q++;
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const u8 *p = a, *q = b;

	for (; n--; p++, q++)
		if (*p != *q)
			return *p - *q;
	return 0;
}

void flush_page(volatile void *p)
{
	volatile u8 *line = (volatile u8 *)((u64)p & ~0xFFFUL);

	for (u32 i = 0; i < 4096; i += 64)
		clflush(line + i);
	__asm__ volatile("mfence" : : : "memory");
}

/* --- GHCB --- */

u32 es_cpu(void)
{
	return (u32)(((u64)__builtin_frame_address(0) - (u64)es_stacks - 1) >> 14);
}

volatile struct es_ghcb *es_ghcb(void) { return GHCB_OF(es_cpu()); }

void ghcb_clear(void)
{
	volatile u64 *p = (volatile u64 *)es_ghcb();

	for (u32 i = 0; i < 0x400 / 8; i++)
		p[i] = 0;
	es_ghcb()->version = 2;
	es_ghcb()->usage = 0;
}

void ghcb_put(u32 offset, u64 value)
{
	volatile struct es_ghcb *g = es_ghcb();
	u32 bit = offset / 8;

	if (offset == GHCB_CPL)
		g->save[offset] = (u8)value;
	else
		*(volatile u64 *)&g->save[offset] = value;
	g->valid[bit / 64] |= 1UL << (bit % 64);
}

bool ghcb_valid(u32 offset)
{
	u32 bit = offset / 8;

	return (es_ghcb()->valid[bit / 64] >> (bit % 64) & 1) != 0;
}

u64 ghcb_get(u32 offset) { return *(volatile u64 *)&es_ghcb()->save[offset]; }

void vmgexit(void) { __asm__ volatile("rep; vmmcall" : : : "memory"); }

u64 ghcb_msr_call(u64 value)
{
	wrmsr(MSR_GHCB, value);
	vmgexit();
	return rdmsr(MSR_GHCB);
}

u64 ghcb_event(u64 code, u64 info1, u64 info2)
{
	ghcb_put(GHCB_EXITCODE, code);
	ghcb_put(GHCB_INFO1, info1);
	ghcb_put(GHCB_INFO2, info2);
	wrmsr(MSR_GHCB, (u64)es_ghcb());
	vmgexit();
	return ghcb_get(GHCB_INFO1);
}

_Noreturn void es_terminate(u32 set, u32 reason)
{
	for (;;)
		(void)ghcb_msr_call(0x100 | (u64)set << 12 | (u64)reason << 16);
}

/* --- #VC: what the tests' own instructions need, and no more --- */

static u64 *gpr(struct es_frame *f, u32 n)
{
	u64 *by_number[] = { &f->rax, &f->rcx, &f->rdx, &f->rbx, &f->rsp, &f->rbp, &f->rsi, &f->rdi,
			     &f->r8, &f->r9, &f->r10, &f->r11, &f->r12, &f->r13, &f->r14, &f->r15 };

	return by_number[n & 15];
}

/* The hypervisor asks for an exception instead of the instruction's result. */
static void raise(struct es_frame *f, u64 word)
{
	if (trap_fixup == 0)
		es_terminate(1, 0x10);
	trap.vector = word & 0xFF;
	trap.error = (u32)(word >> 32);
	f->rip = trap_fixup;
}

static bool done(struct es_frame *f, u64 info1, u32 len)
{
	if ((u32)info1 == 1) {
		raise(f, ghcb_get(GHCB_INFO2));
		return false;
	}
	if ((u32)info1 != 0)
		es_terminate(1, 0x11);
	f->rip += len;
	return true;
}

static void vc_cpuid(struct es_frame *f)
{
	ghcb_put(GHCB_RAX, f->rax);
	ghcb_put(GHCB_RCX, f->rcx);
	if ((u32)f->rax == 0xD)
		ghcb_put(GHCB_XCR0, 1);
	if (!done(f, ghcb_event(0x72, 0, 0), 2))
		return;
	f->rax = ghcb_get(GHCB_RAX);
	f->rbx = ghcb_get(GHCB_RBX);
	f->rcx = ghcb_get(GHCB_RCX);
	f->rdx = ghcb_get(GHCB_RDX);
}

static void vc_msr(struct es_frame *f, const u8 *code)
{
	bool write = code[1] == 0x30;

	ghcb_put(GHCB_RCX, f->rcx);
	if (write) {
		ghcb_put(GHCB_RAX, (u32)f->rax);
		ghcb_put(GHCB_RDX, (u32)f->rdx);
	}
	if (done(f, ghcb_event(0x7C, write, 0), 2) && !write) {
		f->rax = (u32)ghcb_get(GHCB_RAX);
		f->rdx = (u32)ghcb_get(GHCB_RDX);
	}
}

/* IN and OUT of one byte, word or double word. */
static void vc_io(struct es_frame *f, const u8 *code)
{
	u32 len = 1, size;
	u16 port;
	bool in;
	u64 mask;

	size = code[0] == 0x66 ? 2 : 4;
	if (code[0] == 0x66) {
		code++;
		len++;
	}
	in = (code[0] & 2) == 0;
	if ((code[0] & 1) == 0)
		size = 1;
	port = (u16)f->rdx;
	if ((code[0] & 8) == 0) {
		port = code[1];
		len++;
	}
	mask = size == 4 ? 0xFFFFFFFF : size == 2 ? 0xFFFF : 0xFF;
	ghcb_put(GHCB_RAX, in ? 0 : f->rax & mask);
	if (done(f, ghcb_event(0x7B, (u64)port << 16 | 0x400 | size << 4 | in, 0), len) && in)
		f->rax = (f->rax & ~mask) | (ghcb_get(GHCB_RAX) & mask);
}

/* MOV between a register and a device, [reg + disp] without SIB. */
static void vc_mmio(struct es_frame *f, const u8 *code)
{
	u32 rex = 0, len = 2, size = 4, reg;
	u64 address, *r;
	bool write;

	if ((code[0] & 0xF0) == 0x40) {
		rex = *code++;
		len++;
	}
	if (code[0] < 0x88 || code[0] > 0x8B || (code[1] & 7) == 4 || code[1] >> 6 == 3)
		es_terminate(1, 0x12);
	write = (code[0] & 2) == 0;
	size = (code[0] & 1) == 0 ? 1 : (rex & 8) != 0 ? 8 : 4;
	reg = (code[1] >> 3 & 7) | (rex & 4) << 1;
	address = *gpr(f, (code[1] & 7) | (rex & 1) << 3);
	if (code[1] >> 6 == 1) {
		address += (u64)(int8_t)code[2];
		len += 1;
	} else if (code[1] >> 6 == 2) {
		int32_t disp;

		memcpy(&disp, code + 2, 4);
		address += (u64)disp;
		len += 4;
	}
	r = gpr(f, reg);
	ghcb_put(GHCB_SCRATCH, (u64)es_ghcb()->buffer);
	if (write)
		memcpy((void *)es_ghcb()->buffer, r, 8);
	address &= 0x7FFFFFFFFFUL;
	if (!done(f, ghcb_event(write ? 0x80000002 : 0x80000001, address, size), len) || write)
		return;
	if (size == 4)
		*r = 0;
	memcpy(r, (const void *)es_ghcb()->buffer, size);
}

static void vc(struct es_frame *f)
{
	const u8 *code = (const u8 *)f->rip;

	vc_count[f->error == 0x400 ? 0xFF : f->error & 0xFF]++;
	ghcb_clear();
	switch (f->error) {
	case 0x72:
		vc_cpuid(f);
		return;
	case 0x7B:
		vc_io(f, code);
		return;
	case 0x7C:
		vc_msr(f, code);
		return;
	default:
		break;
	}
	vc_last = f->error;
	switch (f->error) {
	case 0x37: /* MOV to DR7: the register is the guest's, the hypervisor is told */
		ghcb_put(GHCB_RAX, *gpr(f, code[2] & 7));
		(void)done(f, ghcb_event(0x37, 0, 0), 3);
		return;
	case 0x76: /* INVD, WBINVD */
	case 0x89:
		(void)done(f, ghcb_event(f->error, 0, 0), 2);
		return;
	case 0x400:
		vc_mmio(f, code);
		return;
	default:
		if (trap_fixup != 0)
			raise(f, VC | f->error << 32);
		else
			es_terminate(1, 0x13);
	}
}

void es_isr(struct es_frame *f)
{
	u64 msr = rdmsr(MSR_GHCB);

	/* A #VC in the middle of somebody's GHCB would destroy it: only the tests' own handlers,
	 * which have none open, cause one. */
	if (f->vector == VC)
		vc(f);
	else if (es_handler[f->vector] != NULL)
		es_handler[f->vector](f);
	else if (trap_fixup != 0) {
		trap.vector = (u32)f->vector;
		trap.error = (u32)f->error;
		f->rip = trap_fixup;
	} else
		es_terminate(1, (u32)f->vector);
	wrmsr(MSR_GHCB, msr);
}

/* --- console --- */

static void put(char c)
{
	if (c == '\n')
		put('\r');
	while (!(inb(COM1 + 5) & 0x20))
		;
	outb(COM1, (u8)c);
}

static void put_number(u64 v, u32 base)
{
	char digits[24];
	u32 n = 0;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (n)
		put(digits[--n]);
}

static void put_text(const char *s)
{
	while (*s)
		put(*s++);
}

/* %s, %u, %x, %lu, %lx */
void print(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	for (; *format; format++) {
		bool wide = false;

		if (*format != '%') {
			put(*format);
			continue;
		}
		if (*++format == 'l') {
			wide = true;
			format++;
		}
		if (*format == 's')
			put_text(va_arg(ap, const char *));
		else
			put_number(wide ? va_arg(ap, u64) : va_arg(ap, u32),
				   *format == 'x' ? 16 : 10);
	}
	va_end(ap);
}

void check(const char *name, u64 got, u64 want)
{
	if (got == want) {
		passed++;
		print("  ok   %s\n", name);
	} else {
		failed++;
		print("  FAIL %s: 0x%lx instead of 0x%lx\n", name, got, want);
	}
}

void check_true(const char *name, bool ok) { check(name, ok, true); }
u32 checks_failed(void) { return failed; }

_Noreturn void guest_exit(u8 code)
{
	print("es: %u passed, %u failed\n", passed, failed);
	for (;;)
		outb(DEBUG_EXIT, code);
}

/* --- interrupts, CPUs --- */

void x2apic_on(void)
{
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xC00);
	apic_write(0xF0, 0x1FF);
}

void apic_write(u32 reg, u64 v) { wrmsr(MSR_X2APIC + reg / 16, v); }
u64 apic_read(u32 reg) { return rdmsr(MSR_X2APIC + reg / 16); }
void apic_eoi(void) { apic_write(0xB0, 0); }
void send_ipi(u32 cpu, u32 low) { apic_write(0x300, (u64)cpu << 32 | low); }

void start_ap(u32 cpu, u8 vector)
{
	send_ipi(cpu, IPI_INIT);
	send_ipi(cpu, IPI_SIPI | vector);
}

bool wait_until(volatile u32 *counter, u32 at_least, u64 spins)
{
	while (*counter < at_least && spins--)
		pause_cpu();
	return *counter >= at_least;
}

static void set_gate(u32 n)
{
	u64 at = (u64)es_idt_stubs + 16 * n;

	idt[n] = (struct gate){ (u16)at, 8, 0x8E00, (u16)(at >> 16), (u32)(at >> 32), 0 };
}

static void load_idt(void)
{
	struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) r = { sizeof(idt) - 1, (u64)idt };

	__asm__ volatile("lidt %0" : : "m"(r));
}

void es_main(void)
{
	for (u32 i = 0; i < 256; i++)
		set_gate(i);
	load_idt();
	ghcb_clear();
	es_guest();
	guest_exit(failed != 0);
}

void es_ap_main(u32 cpu)
{
	load_idt();
	ghcb_clear();
	__atomic_add_fetch(&cpus_up, 1, __ATOMIC_SEQ_CST);
	es_ap(cpu);
}
