/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/string.h"
#include "guest-pv/loader/loader.h"

/* Talking to the hypervisor: GHCB specification 2.x; #VC: APM vol. 2, 15.35.5. */

#define MSR_GHCB 0xC0010130U
#define MSR_TERMINATE 0x100UL
#define VERSION_MAX 2UL

#define EVENT_CPUID 0x72U
#define EVENT_IOIO 0x7BU
#define EVENT_UNSUPPORTED 0x8000FFFFUL
#define IOIO_SIZE_8 BIT(4)
#define IOIO_ADDRESS_64 BIT(9)

#define CPUID_SEV 0x8000001FU
#define CPUID_SEV_ON BIT32(1)
#define CPUID_SEV_ES BIT32(3)

#define COM1 0x3F8
#define VECTOR_VC 29U

/* Numbers of the fields' quadwords: bit n of the bitmap stands for the 8 bytes at 8 * n. */
enum { RAX = 0x1F8 / 8, RCX = 0x308 / 8, RDX = 0x310 / 8, RBX = 0x318 / 8, EXITCODE = 0x390 / 8,
       INFO1 = 0x398 / 8, INFO2 = 0x3A0 / 8, XCR0 = 0x3E8 / 8, BITMAP = 0x3F0 / 8 };

struct ghcb {
	u64 field[0x400 / 8];
	u8 reserved[0xFFA - 0x400];
	u16 version;
	u32 usage;
};
ASSERT_OFFSET(struct ghcb, version, 0xFFA);
ASSERT_SIZE(struct ghcb, 4096);

struct frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};

struct gate {
	u16 low, selector;
	u8 ist, type;
	u16 mid;
	u32 high, reserved;
};
ASSERT_SIZE(struct gate, 16);

#define TRAPS 32
#define GATE_INTERRUPT 0x8E
#define CODE_SELECTOR 0x10

extern u8 trap_stubs[];
extern u64 c_mask, ghcb_offer;
void loader_trap(struct frame *f);

static struct ghcb page __aligned(4096);
static struct gate idt[TRAPS];
static bool ready;
static u16 version;

static void wrmsr(u32 msr, u64 value)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static void vmgexit(void)
{
	__asm__ volatile("rep; vmmcall" : : : "memory");
}

static void flush(const void *at, u64 size)
{
	for (u64 i = 0; i < size; i += 64)
		__asm__ volatile("clflush (%0)" : : "r"((const u8 *)at + i) : "memory");
	__asm__ volatile("mfence" : : : "memory");
}

void ldr_flush_shared(u64 gpa, u64 size)
{
	flush(ldr_shared(gpa), size);
}

__noreturn void ldr_terminate(enum ldr_reason reason, const char *text)
{
	if (ready) {
		ldr_print("ravelin-loader: refused: ");
		ldr_print(text);
		ldr_print("\n");
	}
	ready = false;
	for (;;) {
		wrmsr(MSR_GHCB, MSR_TERMINATE | LDR_REASON_SET << 12 | (u64)reason << 16);
		vmgexit();
	}
}

/* --- the page --- */

/* What every other CPU and the hypervisor may change at any time: read once. */
static volatile struct ghcb *shared(void)
{
	return ldr_shared((u64)&page);
}

static void put(u32 field, u64 value)
{
	shared()->field[field] = value;
	shared()->field[BITMAP + field / 64] |= BIT(field % 64);
}

static u64 take(u32 field)
{
	return shared()->field[field];
}

static void begin(void)
{
	shared()->field[BITMAP] = 0;
	shared()->field[BITMAP + 1] = 0;
	shared()->version = version;
	shared()->usage = 0;
}

static void finish(u64 code, u64 info1, u64 info2)
{
	put(EXITCODE, code);
	put(INFO1, info1);
	put(INFO2, info2);
	wrmsr(MSR_GHCB, (u64)&page);
	vmgexit();
	if ((u32)take(INFO1) != 0) {
		ready = false;
		ldr_terminate(LDR_R_HOST, "");
	}
}

u64 ldr_ghcb_event(u64 code, u64 info1, u64 info2)
{
	begin();
	finish(code, info1, info2);
	return take(INFO2);
}

/* --- #VC: what this loader itself executes --- */

static void vc_cpuid(struct frame *f)
{
	begin();
	put(RAX, (u32)f->rax);
	put(RCX, (u32)f->rcx);
	put(XCR0, 1);
	finish(EVENT_CPUID, 0, 0);
	f->rax = (u32)take(RAX);
	f->rbx = (u32)take(RBX);
	f->rcx = (u32)take(RCX);
	f->rdx = (u32)take(RDX);
	f->rip += 2;
}

/* OUT DX, AL. */
static void vc_out(struct frame *f)
{
	begin();
	put(RAX, f->rax & 0xFF);
	finish(EVENT_IOIO, (f->rdx & 0xFFFF) << 16 | IOIO_SIZE_8 | IOIO_ADDRESS_64, 0);
	f->rip += 1;
}

void loader_trap(struct frame *f)
{
	bool vc = f->vector == VECTOR_VC;

	if (vc && f->error == EVENT_CPUID)
		return vc_cpuid(f);
	if (vc && f->error == EVENT_IOIO && *(const u8 *)f->rip == 0xEE)
		return vc_out(f);
	if (vc && ready)
		(void)ldr_ghcb_event(EVENT_UNSUPPORTED, f->error, 0);
	ready = false; /* the trap may have come from a print */
	ldr_terminate(LDR_R_EXCEPTION, "");
}

/* --- start and end --- */

static void set_gates(void)
{
	struct __packed {
		u16 limit;
		u64 base;
	} idtr = { sizeof(idt) - 1, (u64)idt };

	for (u32 i = 0; i < TRAPS; i++) {
		u64 at = (u64)trap_stubs + 16UL * i;

		idt[i] = (struct gate){ .low = (u16)at, .selector = CODE_SELECTOR,
					.type = GATE_INTERRUPT, .mid = (u16)(at >> 16),
					.high = (u32)(at >> 32) };
	}
	__asm__ volatile("lidt %0" : : "m"(idtr));
}

static void negotiate(void)
{
	u64 max = ghcb_offer >> 48, min = ghcb_offer >> 32 & 0xFFFF;

	if (max < 1 || min > VERSION_MAX || min > max)
		for (;;) {
			wrmsr(MSR_GHCB, MSR_TERMINATE | 1UL << 16); /* set 0: no common version */
			vmgexit();
		}
	version = (u16)MIN(max, VERSION_MAX);
}

/* The CPU has said SEV-ES; a hypervisor that says otherwise, or another C-bit, would mislead the
 * kernel, which asks it again. */
static void check_cpuid(void)
{
	u32 a = CPUID_SEV, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	if ((a & CPUID_SEV_ON) == 0 || (a & CPUID_SEV_ES) == 0 || BIT(b & 63) != c_mask)
		ldr_terminate(LDR_R_PLATFORM, "CPUID 8000001F does not tell of SEV-ES");
}

void ldr_ghcb_init(void)
{
	set_gates();
	negotiate();
	flush(&page, sizeof(page));
	memset((void *)shared(), 0, sizeof(page));
	ready = true;
	check_cpuid();
}

void ldr_ghcb_done(void)
{
	ready = false;
	flush((const void *)shared(), sizeof(page));
}

void ldr_print(const char *text)
{
	static const char cr = '\r';

	for (; *text != '\0'; text++) {
		if (*text == '\n')
			__asm__ volatile("outb %0, %1" : : "a"(cr), "d"((u16)COM1));
		__asm__ volatile("outb %0, %1" : : "a"(*text), "d"((u16)COM1));
	}
}
