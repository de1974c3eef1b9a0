/* SPDX-License-Identifier: BSD-2-Clause */
#include "kernel.h"
#include "vc.h"

#include <stdarg.h>

#define COM1 0x3f8
#define DEBUG_EXIT 0xf4
#define AP_BASE 0x8000u
#define LAPIC 0xfee00000u
#define MSR_APIC_BASE 0x1bu
#define MSR_X2APIC_ID 0x802u
#define MSR_X2APIC_EOI 0x80bu
#define MSR_X2APIC_SVR 0x80fu
#define MSR_X2APIC_ICR 0x830u
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_INITIAL_COUNT 0x380
#define LAPIC_DIVIDE 0x3e0
#define TIMER_VECTOR 0x20
#define TIMER_MAX_NS 3000000000u
#define ICR_INIT_OTHERS 0xc4500u
#define ICR_START_OTHERS (0xc4600u | AP_BASE >> 12)

/* How it was started; start.asm, start_es.asm. */
enum { BY_MULTIBOOT = 1, BY_PVH, BY_SEV_ES };

extern uint8_t ap_blob[], ap_blob_end[], idt_stubs[];
extern volatile uint32_t ap_next;

uint32_t kernel_cpus = 1;
char kernel_cmdline[256];
void (*kernel_handler[256])(struct pv_cpu *self);

static bool x2apic;

void *memset(void *to, int c, size_t n)
{
	void *d = to;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
	void *d = to;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
	return to;
}

/* --- the CPU --------------------------------------------------------------------------------- */

static uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (uint64_t)hi << 32 | lo;
}

void pvk_wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
			 : "memory");
}

static void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static uint8_t inb(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

void pvk_cpuid(uint32_t leaf, uint32_t r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(0));
}

static bool intel;

/* VMMCALL on AMD, VMCALL on Intel: each faults on the other one. */
int64_t pvk_hypercall(uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
	int64_t r;

	if (intel)
		__asm__ volatile("vmcall" : "=a"(r) : "a"(nr), "b"(a0), "c"(a1), "d"(a2), "S"(a3)
				 : "memory");
	else
		__asm__ volatile("vmmcall" : "=a"(r) : "a"(nr), "b"(a0), "c"(a1), "d"(a2), "S"(a3)
				 : "memory");
	return r;
}

uint64_t pvk_tsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence\n\trdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

uint64_t pvk_irq_save(void)
{
	uint64_t flags;

	__asm__ volatile("pushfq\n\tpopq %0\n\tcli" : "=r"(flags) : : "memory");
	return flags;
}

void pvk_irq_restore(uint64_t flags)
{
	if ((flags & 0x200) != 0)
		__asm__ volatile("sti" : : : "memory");
}

void pvk_relax(void)
{
	__asm__ volatile("pause" : : : "memory");
}

void pvk_flush_local(void)
{
	uint64_t cr3;

	__asm__ volatile("mov %%cr3, %0\n\tmov %0, %%cr3" : "=r"(cr3) : : "memory");
}

/* All memory is mapped one to one. */
uint64_t pvk_shared_address(const volatile void *p)
{
	return (uint64_t)p;
}

/* --- local APIC ------------------------------------------------------------------------------ */

static volatile uint32_t *lapic(uint32_t offset)
{
	return (volatile uint32_t *)(uintptr_t)(LAPIC + offset);
}

static void lapic_on(void)
{
	uint32_t r[4];

	pvk_cpuid(1, r);
	x2apic = (r[2] >> 21 & 1) != 0;
	if (x2apic) {
		pvk_wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 3u << 10);
		pvk_wrmsr(MSR_X2APIC_SVR, 0x1ff);
	} else {
		*lapic(0xf0) = 0x1ff;
	}
}

static void lapic_write(uint32_t offset, uint32_t v)
{
	if (x2apic)
		pvk_wrmsr(0x800u + (offset >> 4), v);
	else
		*lapic(offset) = v;
}

static uint32_t lapic_id(void)
{
	return x2apic ? (uint32_t)rdmsr(MSR_X2APIC_ID) : *lapic(0x20) >> 24;
}

static void lapic_icr(uint32_t dest, uint32_t low)
{
	uint64_t flags;

	if (x2apic) {
		pvk_wrmsr(MSR_X2APIC_ICR, (uint64_t)dest << 32 | low);
		return;
	}
	flags = pvk_irq_save(); /* the register's two halves belong together */
	*lapic(0x310) = dest << 24;
	*lapic(0x300) = low;
	while ((*lapic(0x300) & 1u << 12) != 0)
		pvk_relax();
	pvk_irq_restore(flags);
}

void pvk_native_ipi(uint32_t apic_id, uint8_t vector)
{
	lapic_icr(apic_id, 0x4000u | vector);
}

static void eoi(void)
{
	if (x2apic)
		pvk_wrmsr(MSR_X2APIC_EOI, 0);
	else
		*lapic(0xb0) = 0;
}

/* --- memory ---------------------------------------------------------------------------------- */

static _Alignas(64) uint8_t arena[65536];
static size_t arena_used;
/* "fail=N", for tests: bit 2 * c + n stands for the nth allocation of CPU c, which fails. A CPU's
 * first one is for its IPIs, the second one for flushes. */
static uint64_t fail_set;
bool kernel_no_memory;

static bool fails(void)
{
	static uint32_t allocations[KERNEL_CPUS];
	uint32_t cpu = kernel_self()->number, nth = allocations[cpu]++;

	return kernel_no_memory || (nth < 2 && cpu < 32 && (fail_set >> (2 * cpu + nth) & 1) != 0);
}

void *pvk_alloc(size_t size)
{
	size_t at;

	if (fails())
		return NULL;
	size = (size + 63) & ~63ul;
	at = __atomic_fetch_add(&arena_used, size, __ATOMIC_SEQ_CST);
	return at + size <= sizeof(arena) ? arena + at : NULL;
}

/* --- console --------------------------------------------------------------------------------- */

static uint32_t print_lock;

static void put(char c)
{
	if (c == '\n')
		put('\r');
	while ((inb(COM1 + 5) & 0x20) == 0)
		pvk_relax();
	outb(COM1, (uint8_t)c);
}

static void put_number(uint64_t v, unsigned base)
{
	char text[24];
	int n = 0;

	do
		text[n++] = "0123456789abcdef"[v % base];
	while ((v /= base) != 0);
	while (n > 0)
		put(text[--n]);
}

/* %s %u %x %lu %lx */
void kernel_print(const char *f, ...)
{
	uint64_t flags = pvk_irq_save();
	va_list ap;

	while (__atomic_exchange_n(&print_lock, 1, __ATOMIC_ACQUIRE) != 0)
		pvk_relax();
	va_start(ap, f);
	for (; *f != '\0'; f++) {
		bool wide = f[0] == '%' && f[1] == 'l';
		const char *s;

		if (*f != '%') {
			put(*f);
			continue;
		}
		f += wide ? 2 : 1;
		if (*f == 's') {
			for (s = va_arg(ap, const char *); *s != '\0'; s++)
				put(*s);
		} else {
			put_number(wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned),
				   *f == 'x' ? 16 : 10);
		}
	}
	va_end(ap);
	__atomic_store_n(&print_lock, 0, __ATOMIC_RELEASE);
	pvk_irq_restore(flags);
}

_Noreturn void kernel_exit(uint8_t code)
{
	outb(DEBUG_EXIT, code);
	for (;;)
		__asm__ volatile("cli\n\thlt");
}

uint64_t kernel_option(const char *name, uint64_t otherwise)
{
	const char *c = kernel_cmdline;

	while (*c != '\0') {
		const char *n = name;
		uint64_t v = 0;

		while (*c == ' ')
			c++;
		while (*n != '\0' && *c == *n)
			c++, n++;
		if (*n == '\0' && *c == '=') {
			for (c++; *c >= '0' && *c <= '9'; c++)
				v = v * 10 + (uint64_t)(*c - '0');
			return v;
		}
		while (*c != '\0' && *c != ' ')
			c++;
	}
	return otherwise;
}

/* --- interrupts ------------------------------------------------------------------------------ */

static struct {
	uint16_t low, sel;
	uint8_t ist, attr;
	uint16_t mid;
	uint32_t high, zero;
} idt[256];
_Static_assert(sizeof(idt) == 4096, "a gate has 16 bytes");

static void idt_load(void)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} p = { sizeof(idt) - 1, (uint64_t)idt };

	__asm__ volatile("lidt %0" : : "m"(p));
}

static void idt_init(void)
{
	for (uint32_t v = 0; v < 256; v++) {
		uint64_t at = (uint64_t)idt_stubs + 16 * v;

		idt[v].low = (uint16_t)at;
		idt[v].mid = (uint16_t)(at >> 16);
		idt[v].high = (uint32_t)(at >> 32);
		idt[v].sel = 8;
		idt[v].attr = 0x8e;
	}
}

void interrupt(struct frame *f);
void interrupt(struct frame *f)
{
	if (f->vector == VC_VECTOR && vc_c_bit != 0) {
		vc_handle(f);
		return;
	}
	if (f->vector < 32) {
		uint64_t cr2;

		__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
		kernel_print("guest-pv: exception %lu error %lx at %lx, cr2 %lx\n", f->vector,
			     f->error, f->rip, cr2);
		kernel_exit(0x7f);
	}
	if (f->vector != 0xff)
		eoi();
	if (kernel_handler[f->vector & 0xff] != NULL)
		kernel_handler[f->vector & 0xff](kernel_self());
}

/* --- CPUs ------------------------------------------------------------------------------------ */

/* APIC ids may be anything: a search. Small numbers equal the CPU's own nearly always. */
struct pv_cpu *kernel_self(void)
{
	uint32_t id = vc_c_bit != 0 ? vc_cpu() : lapic_id();

	if (id < KERNEL_CPUS && pv_cpus[id].apic_id == id)
		return &pv_cpus[id];
	for (uint32_t i = 0; i < KERNEL_CPUS; i++)
		if (pv_cpus[i].apic_id == id)
			return &pv_cpus[i];
	return &pv_cpus[0];
}

static void (*volatile work)(struct pv_cpu *self);
static volatile uint32_t work_round;
static uint32_t work_done;

void kernel_on_all(void (*fn)(struct pv_cpu *self))
{
	work = fn;
	__atomic_store_n(&work_done, 0, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&work_round, 1, __ATOMIC_SEQ_CST);
	fn(kernel_self());
	while (__atomic_load_n(&work_done, __ATOMIC_SEQ_CST) < kernel_cpus - 1)
		pvk_relax();
}

void kernel_ap(uint32_t number);
void kernel_ap(uint32_t number)
{
	uint32_t seen = 0;

	idt_load();
	lapic_on();
	/* Numbers follow the APIC ids, so that they are the same in each run. */
	if (lapic_id() < KERNEL_CPUS)
		number = lapic_id();
	pv_cpu_init(number, lapic_id());
	__asm__ volatile("sti");
	__atomic_add_fetch(&kernel_cpus, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		while (work_round == seen)
			pvk_relax();
		seen = work_round;
		work(kernel_self());
		__atomic_add_fetch(&work_done, 1, __ATOMIC_SEQ_CST);
	}
}

/* LAPIC timer, one shot; it counts nanoseconds (docs/pv.md). Its interrupt is all that counts. */
void kernel_sleep_until(struct pv_cpu *self, uint64_t ns)
{
	uint64_t now = pv_clock_ns(self);
	uint64_t count = ns > now ? ns - now : 0;

	if (count == 0)
		return;
	if (count > TIMER_MAX_NS)
		count = TIMER_MAX_NS;
	__asm__ volatile("cli");
	lapic_write(LAPIC_DIVIDE, 0xb); /* by 1 */
	lapic_write(LAPIC_LVT_TIMER, TIMER_VECTOR);
	lapic_write(LAPIC_INITIAL_COUNT, (uint32_t)count);
	__asm__ volatile("sti\n\thlt");
}

static void delay(uint64_t ticks)
{
	uint64_t end = pvk_tsc() + ticks;

	while ((int64_t)(pvk_tsc() - end) < 0)
		pvk_relax();
}

/* Leaf 0xb, level 1: logical processors of the package. */
static uint32_t cpus_there(void)
{
	uint32_t b;

	__asm__ volatile("cpuid" : "=b"(b) : "a"(0xb), "c"(1) : "edx");
	b &= 0xffff;
	return b == 0 ? 1 : b > KERNEL_CPUS ? KERNEL_CPUS : b;
}

static void start_others(void)
{
	uint32_t want = cpus_there();
	uint64_t end;

	if (PV_CPUS == 1 || want == 1)
		return;
	if (vc_c_bit == 0) /* an encrypted guest's CPUs all begin where the first one did */
		memcpy((void *)(uintptr_t)AP_BASE, ap_blob, (size_t)(ap_blob_end - ap_blob));
	lapic_icr(0, ICR_INIT_OTHERS);
	delay(20000000);
	lapic_icr(0, ICR_START_OTHERS);
	end = pvk_tsc() + 60000000000ull;
	while (__atomic_load_n(&kernel_cpus, __ATOMIC_SEQ_CST) < want &&
	       (int64_t)(pvk_tsc() - end) < 0)
		pvk_relax();
}

/* Multiboot 1 information: flags, then at 16 the command line. PVH (hvm_start_info): at 24. The
 * image of an encrypted guest brings its own. */
static void read_cmdline(uint32_t how, uint32_t info)
{
	const uint8_t *at = (const uint8_t *)(uintptr_t)info;
	uint32_t flags = 0;
	uint64_t line = 0;

	if (how == BY_SEV_ES)
		line = (uint64_t)es_cmdline;
	else
		memcpy(&flags, at, 4);
	if (how == BY_PVH)
		memcpy(&line, at + 24, 8);
	else if (how == BY_MULTIBOOT && (flags & 4) != 0)
		memcpy(&line, at + 16, 4);
	for (size_t i = 0; line != 0 && i < sizeof(kernel_cmdline) - 1; i++) {
		kernel_cmdline[i] = ((const char *)(uintptr_t)line)[i];
		if (kernel_cmdline[i] == '\0')
			break;
	}
}

static const char *const doors[] = { "", "multiboot", "PVH", "SEV-ES" };

void kernel_main(uint32_t how, uint32_t info);
void kernel_main(uint32_t how, uint32_t info)
{
	uint32_t r[4];

	idt_init();
	idt_load();
	if (how == BY_SEV_ES)
		vc_init();
	pvk_cpuid(0, r);
	intel = r[1] == 0x756e6547; /* "Genu" */
	read_cmdline(how, info);
	fail_set = kernel_option("fail", 0);
	outb(0x21, 0xff); /* the old interrupt controllers stay silent */
	outb(0xa1, 0xff);
	lapic_on();
	pv_detect();
	pv_features &= (uint32_t)kernel_option("features", ~0u);
	kernel_handler[PV_FLUSH_VECTOR] = pv_flush_serve;
	for (uint32_t i = 1; i < PV_CPUS; i++)
		pv_cpus[i].apic_id = ~0u;
	pv_cpu_init(0, lapic_id());
	app_early();
	__asm__ volatile("sti");
	start_others();
	kernel_print("guest-pv: %s, %u CPUs, features %x, %s masks\n", doors[how],
		     kernel_cpus, pv_features, PV_STATIC_MASKS ? "static" : "dynamic");
	kernel_exit((uint8_t)app_main());
}
