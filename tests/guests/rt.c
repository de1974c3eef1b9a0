/* SPDX-License-Identifier: BSD-2-Clause */
#include "rt.h"

#include <stdarg.h>

#define MULTIBOOT_MAGIC 0x2BADB002u
#define PVH_MAGIC 0x336EC578u
#define PIT_HZ 1193182u

struct gate {
	u16 offset_low, selector, flags, offset_mid;
	u32 offset_high, reserved;
};
_Static_assert(sizeof(struct gate) == 16, "APM vol. 2, 4.8.4");

extern u32 boot_magic, boot_info;

volatile struct trap trap;
volatile u64 trap_fixup;
irq_fn *volatile irq_handler[256];
bool plain;
char cmdline[512];
volatile u32 cpus_up = 1;
void (*volatile ap_work)(u32 cpu);

static struct gate idt[256] __attribute__((aligned(16)));
static u64 tsc_per_ms = 1000000;
static u32 passed, failed;

void ap_main(u32 cpu);
void isr(struct frame *f);

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

int strcmp(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a - *b;
}

/* --- console --- */

static void put(char c)
{
	u32 spins = 50000000;

	if (c == '\n')
		put('\r');
	while (!(inb(COM1 + 5) & 0x20) && --spins)
		;
	outb(COM1, (u8)c);
}

static void put_number(u64 v, u32 base, bool negative)
{
	char digits[24];
	u32 n = 0;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	if (negative)
		put('-');
	while (n)
		put(digits[--n]);
}

/* %s %c %u %d %x and their l forms. */
void print(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	for (; *format; format++) {
		bool is_long = false;

		if (*format != '%') {
			put(*format);
			continue;
		}
		if (*++format == 'l') {
			is_long = true;
			format++;
		}
		if (*format == 's') {
			for (const char *s = va_arg(ap, const char *); *s; s++)
				put(*s);
		} else if (*format == 'c') {
			put((char)va_arg(ap, int));
		} else if (*format == 'd') {
			int v = va_arg(ap, int);

			put_number(v < 0 ? (u64) - (long)v : (u64)v, 10, v < 0);
		} else {
			u64 v = is_long ? va_arg(ap, u64) : va_arg(ap, u32);

			put_number(v, *format == 'x' ? 16 : 10, false);
		}
	}
	va_end(ap);
}

_Noreturn void guest_exit(u8 code)
{
	print("guest: exit %u\n", code);
	outb(DEBUG_EXIT, code);
	for (;;)
		__asm__ volatile("cli; hlt");
}

/* --- results --- */

void check(const char *name, u64 got, u64 want)
{
	if (got == want) {
		passed++;
		print("ok %s\n", name);
	} else {
		failed++;
		print("FAIL %s got %lx want %lx\n", name, got, want);
	}
}

void check_true(const char *name, bool ok)
{
	check(name, ok, true);
}

u32 checks_failed(void)
{
	print("checks: %u ok, %u failed\n", passed, failed);
	return failed;
}

/* --- the command line --- */

static void copy_cmdline(u64 from)
{
	const char *s = (const char *)from;

	for (size_t i = 0; from && s[i] && i < sizeof(cmdline) - 1; i++)
		cmdline[i] = s[i];
}

static void read_cmdline(void)
{
	const u32 *info = (const u32 *)(u64)boot_info;

	if (boot_magic == MULTIBOOT_MAGIC) {
		if (info[0] & 4)
			copy_cmdline(info[4]);
	} else if (info[0] == PVH_MAGIC) {
		copy_cmdline(info[6]);
	}
}

/* The value of NAME=VALUE (or an empty string for NAME alone). */
bool option(const char *name, char *value, size_t size)
{
	for (const char *p = cmdline; *p; ) {
		const char *n = name;

		while (*n && *p == *n)
			p++, n++;
		if (!*n && (!*p || *p == '=' || *p == ' ')) {
			size_t i = 0;

			if (*p == '=')
				p++;
			while (*p && *p != ' ' && i + 1 < size)
				value[i++] = *p++;
			value[i] = 0;
			return true;
		}
		while (*p && *p != ' ')
			p++;
		while (*p == ' ')
			p++;
	}
	return false;
}

u64 option_number(const char *name, u64 otherwise)
{
	char text[24];
	u64 v = 0;

	if (!option(name, text, sizeof(text)) || !text[0])
		return otherwise;
	for (const char *p = text; *p >= '0' && *p <= '9'; p++)
		v = v * 10 + (u64)(*p - '0');
	return v;
}

/* --- traps --- */

void isr(struct frame *f)
{
	irq_fn *handler = irq_handler[f->vector & 0xFF];
	u64 cr2;

	if (handler) {
		handler(f);
		return;
	}
	__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
	if (trap_fixup) {
		trap.vector = (u32)f->vector;
		trap.error = (u32)f->error;
		trap.rip = f->rip;
		trap.cr2 = cr2;
		f->rip = trap_fixup;
		trap_fixup = 0;
		f->rflags &= ~(1ul << 8);
		return;
	}
	print("guest: unexpected vector %lu error %lx rip %lx cr2 %lx rsp %lx\n", f->vector,
	      f->error, f->rip, cr2, f->rsp);
	guest_exit(2);
}

static void load_idt(void)
{
	struct __attribute__((packed)) {
		u16 limit;
		u64 base;
	} pointer = { sizeof(idt) - 1, (u64)idt };

	__asm__ volatile("lidt %0" : : "m"(pointer));
}

static void init_idt(void)
{
	for (u32 i = 0; i < 256; i++) {
		u64 at = (u64)idt_stubs + 16 * i;

		idt[i] = (struct gate){ (u16)at, 8, 0x8E00, (u16)(at >> 16), (u32)(at >> 32), 0 };
	}
	/* #BP and one gate are open to ring 3. */
	idt[3].flags = idt[0x80].flags = 0xEE00;
	load_idt();
}

/* --- time --- */

static void calibrate(void)
{
	u32 count = PIT_HZ / 100;
	u64 start, spins = 0;

	/* PIT channel 2, mode 0: bit 5 of port 0x61 rises when 10 ms are over. */
	outb(0x61, (u8)((inb(0x61) & 0xFC) | 1));
	outb(0x43, 0xB0);
	outb(0x42, (u8)count);
	outb(0x42, (u8)(count >> 8));
	start = rdtsc();
	while (!(inb(0x61) & 0x20) && ++spins < 10000000)
		;
	if (rdtsc() > start)
		tsc_per_ms = (rdtsc() - start) / 10;
}

void delay_us(u64 us)
{
	u64 end = rdtsc() + tsc_per_ms * us / 1000;

	while (rdtsc() < end)
		pause_cpu();
}

/* Wait for an interrupt handler's counter; interrupts must be on. */
bool wait_until(volatile u32 *counter, u32 at_least, u64 ms)
{
	u64 end = rdtsc() + tsc_per_ms * ms;

	while (*counter < at_least)
		if (rdtsc() > end)
			return false;
	return true;
}

/* --- other CPUs --- */

void ap_main(u32 cpu)
{
	load_idt();
	apic_write(APIC_SVR, 0x1FF);
	__atomic_add_fetch(&cpus_up, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		void (*work)(u32) = ap_work;

		if (work)
			work(cpu);
		else
			pause_cpu();
	}
}

/* Below 1 MiB there may be what the loader passed: call this when that has been read. */
void low_init(void)
{
	memcpy((void *)(u64)LOW_BASE, low_blob, (size_t)(low_blob_end - low_blob));
	memset((void *)LOW_PARAMS, 0, sizeof(struct low_params));
	LOW_PARAMS->cr3 = (u64)pml4;
	LOW_PARAMS->ap_entry = (u64)ap_entry64;
}

/* INIT, SIPI, SIPI to all others; returns how many CPUs run in the end. */
u32 start_cpus(u32 want)
{
	LOW_PARAMS->ap_count = 0;
	apic_write(APIC_ICR, 0x000C4500);
	delay_us(10000);
	apic_write(APIC_ICR, 0x000C4600 | LOW_BASE >> 12);
	delay_us(200);
	apic_write(APIC_ICR, 0x000C4600 | LOW_BASE >> 12);
	wait_until(&cpus_up, want, 5000);
	return cpus_up;
}

void rt_init(void)
{
	char text[8];

	init_idt();
	read_cmdline();
	plain = option("plain", text, sizeof(text));
	/* Mask both 8259s, put them out of the way of exceptions. */
	outb(0x20, 0x11), outb(0xA0, 0x11);
	outb(0x21, 0x30), outb(0xA1, 0x38);
	outb(0x21, 4), outb(0xA1, 2);
	outb(0x21, 1), outb(0xA1, 1);
	outb(0x21, 0xFF), outb(0xA1, 0xFF);
	calibrate();
	apic_write(APIC_SVR, 0x1FF);
}
