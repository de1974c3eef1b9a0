/* SPDX-License-Identifier: BSD-2-Clause */
// sources: arch/x86/emulate.c arch/x86/emulate_known.c arch/x86/gwalk.c arch/x86/decode.c
/*
 * The emulator against the host's CPU: each supported instruction runs natively
 * on plain memory and emulated on a device with the same content; registers,
 * flags and memory must be equal afterwards. Guest addresses equal the native
 * ones, so that registers may hold pointers.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/x86/cpu.h"
#include "arch/x86/emulate.h"
#include "arch/x86/emulate_known.h"
#include "arch/x86/gwalk.h"
#include "arch/x86/xmm.h"
#include "core/mmio.h"
#include "tests/unit/guest_mock.h"

/* Guest-linear (and native) addresses, two pages each, and what is behind them. */
#define DEV_GVA 0x10000000UL
#define DEV_GPA 0xfed00000UL
#define RAM_GVA 0x10010000UL
#define RAM_GPA 0x20000UL
#define CODE_GVA 0x10020000UL
#define CODE_GPA 0x30000UL
#define ROM_GVA 0x10030000UL
#define AREA 0x2000UL

#define ARITH 0x8d5UL /* CF PF AF ZF SF OF */
#define DF 0x400UL

static u8 dev[AREA];
static u64 xmm_regs[16][2];
static struct { u32 reads, writes, widest; } dev_count;
static u16 io_port;
static u32 io_size, io_count;
static u8 io_data[0x4000];

static u64 dev_index(gpa_t gpa, u32 size)
{
	u64 i = gpa - DEV_GPA;

	assert_true(size == 1 || size == 2 || size == 4 || size == 8);
	assert_true(i < AREA && i + size <= AREA);
	assert_true((gpa & 0xfff) + size <= 0x1000);
	if (size > dev_count.widest)
		dev_count.widest = size;
	return i;
}

u64 mmio_read(struct vcpu *v, gpa_t gpa, u32 size)
{
	u64 value = 0;

	(void)v;
	dev_count.reads++;
	memcpy(&value, dev + dev_index(gpa, size), size);
	return value;
}

void mmio_write(struct vcpu *v, gpa_t gpa, u32 size, u64 value)
{
	(void)v;
	dev_count.writes++;
	memcpy(dev + dev_index(gpa, size), &value, size);
}

u32 port_read(struct vcpu *v, u16 port, u32 size)
{
	u32 value = 0;

	(void)v;
	io_port = port;
	io_size = size;
	memcpy(&value, io_data + io_count, size);
	io_count += size;
	return value;
}

void port_write(struct vcpu *v, u16 port, u32 size, u32 value)
{
	(void)v;
	io_port = port;
	io_size = size;
	memcpy(io_data + io_count, &value, size);
	io_count += size;
}

void guest_xmm_read(u32 reg, u64 value[2])
{
	memcpy(value, xmm_regs[reg], 16);
}

void guest_xmm_write(u32 reg, const u64 value[2])
{
	memcpy(xmm_regs[reg], value, 16);
}

/* --- running natively ------------------------------------------------------------------------- */

struct native {
	u64 gpr[16];
	u64 flags;
	u64 xmm[16][2];
};

void native_run(struct native *n);
u64 native_host_rsp, native_ctx, native_rdi;
struct { u32 offset; u16 selector; } __attribute__((packed)) native_entry;

/* Loads all registers, jumps to the code at CODE_GVA, and stores them when that jumps back. */
__asm__(".text\n.globl native_run, native_back\nnative_run:\n"
	"push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
	"mov %rsp, native_host_rsp(%rip)\nmov %rdi, native_ctx(%rip)\n"
	"cmpw $0x23, native_entry+4(%rip)\njne 1f\n"
	"mov $0x2b, %eax\nmov %eax, %ds\nmov %eax, %es\n1:\n"
	".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"movdqu (136+16*\\n)(%rdi), %xmm\\n\n.endr\n"
	"mov 128(%rdi), %rax\npush %rax\npopfq\n"
	"mov (%rdi), %rax\nmov 8(%rdi), %rcx\nmov 16(%rdi), %rdx\nmov 24(%rdi), %rbx\n"
	"mov 32(%rdi), %rsp\nmov 40(%rdi), %rbp\nmov 48(%rdi), %rsi\n"
	"mov 64(%rdi), %r8\nmov 72(%rdi), %r9\nmov 80(%rdi), %r10\nmov 88(%rdi), %r11\n"
	"mov 96(%rdi), %r12\nmov 104(%rdi), %r13\nmov 112(%rdi), %r14\nmov 120(%rdi), %r15\n"
	"mov 56(%rdi), %rdi\n"
	"ljmp *native_entry(%rip)\n"
	"native_back:\n"
	"mov %rdi, native_rdi(%rip)\nmov native_ctx(%rip), %rdi\n"
	"mov %rax, (%rdi)\nmov %rcx, 8(%rdi)\nmov %rdx, 16(%rdi)\nmov %rbx, 24(%rdi)\n"
	"mov %rsp, 32(%rdi)\nmov %rbp, 40(%rdi)\nmov %rsi, 48(%rdi)\n"
	"mov %r8, 64(%rdi)\nmov %r9, 72(%rdi)\nmov %r10, 80(%rdi)\nmov %r11, 88(%rdi)\n"
	"mov %r12, 96(%rdi)\nmov %r13, 104(%rdi)\nmov %r14, 112(%rdi)\nmov %r15, 120(%rdi)\n"
	"mov native_rdi(%rip), %rax\nmov %rax, 56(%rdi)\n"
	"mov native_host_rsp(%rip), %rsp\n"
	"pushfq\npop %rax\nmov %rax, 128(%rdi)\ncld\n"
	".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"movdqu %xmm\\n, (136+16*\\n)(%rdi)\n.endr\n"
	"cmpw $0x23, native_entry+4(%rip)\njne 2f\n"
	"xor %eax, %eax\nmov %eax, %ds\nmov %eax, %es\n2:\n"
	"pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n");
void native_back(void);

#define BACK64 (CODE_GVA + 0x800) /* jmp native_back */

/* The instruction, then a jump back: in 32-bit code a far one to 64-bit code first. */
static void place_code(const u8 *insn, u32 len, enum insn_mode mode)
{
	u8 *code = (u8 *)CODE_GVA, *back = (u8 *)BACK64;
	static const u8 jump_indirect[6] = { 0xff, 0x25 };
	u64 target = (u64)native_back;
	u32 back32 = (u32)BACK64;
	u16 cs64 = 0x33;

	memset(code, 0xcc, 64);
	memcpy(code, insn, len);
	if (mode == INSN_MODE_64) {
		memcpy(code + len, jump_indirect, 6);
		memcpy(code + len + 6, &target, 8);
	} else {
		code[len] = 0xea;
		memcpy(code + len + 1, &back32, 4);
		memcpy(code + len + 5, &cs64, 2);
	}
	memcpy(back, jump_indirect, 6);
	memcpy(back + 6, &target, 8);
	native_entry.offset = (u32)CODE_GVA;
	native_entry.selector = mode == INSN_MODE_64 ? 0x33 : 0x23;
}

/* --- running emulated ------------------------------------------------------------------------- */

static void map_area(gva_t gva, gpa_t gpa)
{
	for (u32 i = 0; i < AREA / 4096; i++)
		mock_put64(0x4000 + ((gva >> 12 & 511) + i) * 8, (gpa + i * 4096) | 7);
}

static void guest_reset(enum insn_mode mode)
{
	mock_reset(mode);
	memset(mock_ram, 0, 0x8000);
	mock_put64(0x1000, 0x2000 | 7);
	mock_put64(0x2000, 0x3000 | 7);
	mock_put64(0x3000 + (DEV_GVA >> 21) * 8, 0x4000 | 7);
	map_area(DEV_GVA, DEV_GPA);
	map_area(RAM_GVA, RAM_GPA);
	map_area(CODE_GVA, CODE_GPA);
	map_area(ROM_GVA, MOCK_ROM_BASE);
	if (mode != INSN_MODE_64)
		mock_put64(0x2000, 0x3000 | 1); /* also a page-directory pointer of PAE */
	mock_reg[VREG_CR0] = BIT(31) | 1;
	mock_reg[VREG_CR3] = mode == INSN_MODE_64 ? 0x1000 : 0x2000;
	mock_reg[VREG_CR4] = BIT(5);
	mock_reg[VREG_RIP] = CODE_GVA;
	memset(&dev_count, 0, sizeof(dev_count));
	memset(io_data, 0, sizeof(io_data));
	io_count = 0;
}

static void set_code(const u8 *insn, u32 len)
{
	memset(mock_ram + CODE_GPA, 0xcc, 64);
	memcpy(mock_ram + CODE_GPA, insn, len);
}

static void set_exit(gpa_t gpa, u32 access, bool bytes)
{
	struct vexit_mmio *x = &mock_vcpu.exit.mmio;

	mock_vcpu.exit.kind = VEXIT_MMIO;
	mock_vcpu.exit.insn_len = 0;
	*x = (struct vexit_mmio){ .gpa = gpa, .access = access };
	if (bytes) {
		x->insn_len = INSN_MAX;
		memcpy(x->insn, mock_ram + CODE_GPA, INSN_MAX);
	}
}

/* --- the comparison --------------------------------------------------------------------------- */

struct insn_code {
	u8 bytes[INSN_MAX];
	u32 len;
};

static void emit(struct insn_code *c, u64 value, u32 bytes)
{
	memcpy(c->bytes + c->len, &value, bytes);
	c->len += bytes;
}

static u64 random64(void)
{
	static u64 x = 88172645463325252UL;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/* Mostly edge values: they are where flags differ. */
static u64 random_value(void)
{
	static const u64 edge[] = { 0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff,
				    0x80000000, 0xffffffff, 0x7fffffffffffffff, 0x8000000000000000,
				    ~0UL };

	return random64() % 3 ? random64() : edge[random64() % ARRAY_SIZE(edge)];
}

static u64 compared;

static void describe(const char *what, const struct insn_code *c, enum insn_mode mode)
{
	print_message("%s: mode %d,", what, mode);
	for (u32 i = 0; i < c->len; i++)
		print_message(" %02x", c->bytes[i]);
	print_message("\n");
}

/*
 * Runs c both ways from `start` with the same random memory. `gpa` and `access`
 * are what the hardware would report. Flags outside `flags` are not compared.
 */
static void compare(const struct insn_code *c, const struct native *start, gpa_t gpa, u32 access,
		    u64 flags, enum insn_mode mode, bool bytes, const char *what)
{
	struct native n = *start;
	u64 *words_dev = (u64 *)DEV_GVA, *words_ram = (u64 *)RAM_GVA;
	u64 keep = mode == INSN_MODE_64 ? ~0UL : 0xffffffffUL;
	u32 registers = mode == INSN_MODE_64 ? 16 : 8, result, rounds = 0;

	for (u64 i = 0; i < AREA / 8; i++) {
		words_dev[i] = i % 7 ? random64() : random_value();
		words_ram[i] = i % 5 ? random64() : words_dev[i];
	}
	memcpy(dev, words_dev, AREA);
	memcpy(mock_ram + RAM_GPA, words_ram, AREA);
	place_code(c->bytes, c->len, mode);
	native_run(&n);

	set_code(c->bytes, c->len);
	memcpy(mock_vcpu.gpr, start->gpr, sizeof(start->gpr));
	memcpy(xmm_regs, start->xmm, sizeof(xmm_regs));
	mock_reg[VREG_RSP] = start->gpr[GPR_RSP];
	mock_reg[VREG_RFLAGS] = start->flags | 2;
	mock_clear();
	set_exit(gpa, access, bytes);
	do {
		result = emulate_mmio(&mock_vcpu);
	} while (result == VRESULT_RETRY && !mock_told.exceptions && ++rounds < 100);

	if (result != VRESULT_ADVANCE || mock_vcpu.exit.insn_len != c->len) {
		describe(what, c, mode);
		fail_msg("result %u, length %u, fatal %s", result, mock_vcpu.exit.insn_len,
			 mock_told.fatal);
	}
	mock_vcpu.gpr[GPR_RSP] = mock_reg[VREG_RSP];
	for (u32 i = 0; i < registers; i++) {
		if ((mock_vcpu.gpr[i] ^ n.gpr[i]) & keep) {
			describe(what, c, mode);
			fail_msg("register %u: 0x%lx, CPU 0x%lx, before 0x%lx", i, mock_vcpu.gpr[i],
				 n.gpr[i], start->gpr[i]);
		}
	}
	if ((mock_reg[VREG_RFLAGS] ^ n.flags) & flags) {
		describe(what, c, mode);
		fail_msg("flags 0x%lx, CPU 0x%lx", mock_reg[VREG_RFLAGS], n.flags);
	}
	if (memcmp(dev, words_dev, AREA) || memcmp(mock_ram + RAM_GPA, words_ram, AREA) ||
	    memcmp(xmm_regs, n.xmm, sizeof(xmm_regs))) {
		describe(what, c, mode);
		fail_msg("memory or XMM registers differ");
	}
	compared++;
}

static void random_start(struct native *s, enum insn_mode mode)
{
	for (u32 i = 0; i < 16; i++)
		s->gpr[i] = random_value();
	for (u32 i = 0; i < 16; i++)
		s->xmm[i][0] = random64(), s->xmm[i][1] = random64();
	s->flags = (random64() & ARITH) | 0x202;
	s->gpr[GPR_RSP] = RAM_GVA + 0x1000 + (random64() & 0x1f8);
	if (mode != INSN_MODE_64)
		for (u32 i = 0; i < 16; i++)
			s->gpr[i] &= 0xffffffff;
}

struct form {
	const char *name;
	u8 map;      /* 0: one byte, 1: 0F, 2: 0F38 */
	u8 opcode;
	s8 group;    /* ModRM.reg of a group opcode, or -1: a register */
	bool byte;   /* operand is a byte */
	u8 imm;      /* 0; 1: one byte; 4: 2 or 4 bytes */
	u32 access;
	u64 flags;   /* defined flags */
	u8 prefixes; /* PFX_*: which may be put before */
	u8 mem;      /* fixed size of the memory operand, or 0 */
};

#define PFX_16 1
#define PFX_W 2
#define PFX_LOCK 4
#define PFX_ANY (PFX_16 | PFX_W)
#define RMW (VACCESS_WRITE)
#define RD VACCESS_READ
#define WR VACCESS_WRITE
#define LOGIC (ARITH & ~0x10UL) /* AF is undefined */
#define CARRY 0x41UL            /* BT leaves ZF alone; the others are undefined */

static const struct form forms[] = {
	{ "mov m8, r8", 0, 0x88, -1, true, 0, WR, ARITH, PFX_ANY, 0 },
	{ "mov m, r", 0, 0x89, -1, false, 0, WR, ARITH, PFX_ANY, 0 },
	{ "mov r8, m8", 0, 0x8a, -1, true, 0, RD, ARITH, PFX_ANY, 0 },
	{ "mov r, m", 0, 0x8b, -1, false, 0, RD, ARITH, PFX_ANY, 0 },
	{ "mov m8, imm", 0, 0xc6, 0, true, 1, WR, ARITH, PFX_ANY, 0 },
	{ "mov m, imm", 0, 0xc7, 0, false, 4, WR, ARITH, PFX_ANY, 0 },
	{ "movzx r, m8", 1, 0xb6, -1, true, 0, RD, ARITH, PFX_ANY, 1 },
	{ "movzx r, m16", 1, 0xb7, -1, false, 0, RD, ARITH, PFX_ANY, 2 },
	{ "movsx r, m8", 1, 0xbe, -1, true, 0, RD, ARITH, PFX_ANY, 1 },
	{ "movsx r, m16", 1, 0xbf, -1, false, 0, RD, ARITH, PFX_ANY, 2 },
	{ "add m8, r8", 0, 0x00, -1, true, 0, RMW, ARITH, PFX_ANY | PFX_LOCK, 0 },
	{ "add m, r", 0, 0x01, -1, false, 0, RMW, ARITH, PFX_ANY | PFX_LOCK, 0 },
	{ "add r8, m8", 0, 0x02, -1, true, 0, RD, ARITH, PFX_ANY, 0 },
	{ "add r, m", 0, 0x03, -1, false, 0, RD, ARITH, PFX_ANY, 0 },
	{ "or m, r", 0, 0x09, -1, false, 0, RMW, LOGIC, PFX_ANY | PFX_LOCK, 0 },
	{ "or r8, m8", 0, 0x0a, -1, true, 0, RD, LOGIC, PFX_ANY, 0 },
	{ "adc m8, r8", 0, 0x10, -1, true, 0, RMW, ARITH, PFX_ANY | PFX_LOCK, 0 },
	{ "adc m, r", 0, 0x11, -1, false, 0, RMW, ARITH, PFX_ANY, 0 },
	{ "adc r, m", 0, 0x13, -1, false, 0, RD, ARITH, PFX_ANY, 0 },
	{ "sbb m8, r8", 0, 0x18, -1, true, 0, RMW, ARITH, PFX_ANY, 0 },
	{ "sbb m, r", 0, 0x19, -1, false, 0, RMW, ARITH, PFX_ANY, 0 },
	{ "sbb r, m", 0, 0x1b, -1, false, 0, RD, ARITH, PFX_ANY, 0 },
	{ "and m8, r8", 0, 0x20, -1, true, 0, RMW, LOGIC, PFX_ANY, 0 },
	{ "and r, m", 0, 0x23, -1, false, 0, RD, LOGIC, PFX_ANY, 0 },
	{ "sub m8, r8", 0, 0x28, -1, true, 0, RMW, ARITH, PFX_ANY, 0 },
	{ "sub m, r", 0, 0x29, -1, false, 0, RMW, ARITH, PFX_ANY, 0 },
	{ "sub r8, m8", 0, 0x2a, -1, true, 0, RD, ARITH, PFX_ANY, 0 },
	{ "xor m, r", 0, 0x31, -1, false, 0, RMW, LOGIC, PFX_ANY, 0 },
	{ "xor r, m", 0, 0x33, -1, false, 0, RD, LOGIC, PFX_ANY, 0 },
	{ "cmp m8, r8", 0, 0x38, -1, true, 0, RD, ARITH, PFX_ANY, 0 },
	{ "cmp m, r", 0, 0x39, -1, false, 0, RD, ARITH, PFX_ANY, 0 },
	{ "cmp r8, m8", 0, 0x3a, -1, true, 0, RD, ARITH, PFX_ANY, 0 },
	{ "cmp r, m", 0, 0x3b, -1, false, 0, RD, ARITH, PFX_ANY, 0 },
	{ "add m8, imm", 0, 0x80, 0, true, 1, RMW, ARITH, PFX_ANY, 0 },
	{ "or m, imm", 0, 0x81, 1, false, 4, RMW, LOGIC, PFX_ANY, 0 },
	{ "adc m, imm", 0, 0x81, 2, false, 4, RMW, ARITH, PFX_ANY, 0 },
	{ "sbb m, simm", 0, 0x83, 3, false, 1, RMW, ARITH, PFX_ANY, 0 },
	{ "and m, simm", 0, 0x83, 4, false, 1, RMW, LOGIC, PFX_ANY | PFX_LOCK, 0 },
	{ "sub m, imm", 0, 0x81, 5, false, 4, RMW, ARITH, PFX_ANY, 0 },
	{ "xor m8, imm", 0, 0x80, 6, true, 1, RMW, LOGIC, PFX_ANY, 0 },
	{ "cmp m, imm", 0, 0x81, 7, false, 4, RD, ARITH, PFX_ANY, 0 },
	{ "cmp m, simm", 0, 0x83, 7, false, 1, RD, ARITH, PFX_ANY, 0 },
	{ "test m8, r8", 0, 0x84, -1, true, 0, RD, LOGIC, PFX_ANY, 0 },
	{ "test m, r", 0, 0x85, -1, false, 0, RD, LOGIC, PFX_ANY, 0 },
	{ "test m8, imm", 0, 0xf6, 0, true, 1, RD, LOGIC, PFX_ANY, 0 },
	{ "test m, imm", 0, 0xf7, 0, false, 4, RD, LOGIC, PFX_ANY, 0 },
	{ "test m, imm /1", 0, 0xf7, 1, false, 4, RD, LOGIC, PFX_ANY, 0 },
	{ "not m8", 0, 0xf6, 2, true, 0, RMW, ARITH, PFX_ANY, 0 },
	{ "not m", 0, 0xf7, 2, false, 0, RMW, ARITH, PFX_ANY | PFX_LOCK, 0 },
	{ "neg m8", 0, 0xf6, 3, true, 0, RMW, ARITH, PFX_ANY, 0 },
	{ "neg m", 0, 0xf7, 3, false, 0, RMW, ARITH, PFX_ANY, 0 },
	{ "inc m8", 0, 0xfe, 0, true, 0, RMW, ARITH, PFX_ANY, 0 },
	{ "inc m", 0, 0xff, 0, false, 0, RMW, ARITH, PFX_ANY | PFX_LOCK, 0 },
	{ "dec m8", 0, 0xfe, 1, true, 0, RMW, ARITH, PFX_ANY, 0 },
	{ "dec m", 0, 0xff, 1, false, 0, RMW, ARITH, PFX_ANY, 0 },
	{ "xchg m8, r8", 0, 0x86, -1, true, 0, RMW, ARITH, PFX_ANY, 0 },
	{ "xchg m, r", 0, 0x87, -1, false, 0, RMW, ARITH, PFX_ANY, 0 },
	{ "xadd m8, r8", 1, 0xc0, -1, true, 0, RMW, ARITH, PFX_ANY, 0 },
	{ "xadd m, r", 1, 0xc1, -1, false, 0, RMW, ARITH, PFX_ANY | PFX_LOCK, 0 },
	{ "cmpxchg m8, r8", 1, 0xb0, -1, true, 0, RMW, ARITH, PFX_ANY, 0 },
	{ "cmpxchg m, r", 1, 0xb1, -1, false, 0, RMW, ARITH, PFX_ANY | PFX_LOCK, 0 },
	{ "bt m, imm", 1, 0xba, 4, false, 1, RD, CARRY, PFX_ANY, 0 },
	{ "bts m, imm", 1, 0xba, 5, false, 1, RMW, CARRY, PFX_ANY | PFX_LOCK, 0 },
	{ "btr m, imm", 1, 0xba, 6, false, 1, RMW, CARRY, PFX_ANY, 0 },
	{ "btc m, imm", 1, 0xba, 7, false, 1, RMW, CARRY, PFX_ANY, 0 },
	{ "movbe r, m", 2, 0xf0, -1, false, 0, RD, ARITH, PFX_ANY, 0 },
	{ "movbe m, r", 2, 0xf1, -1, false, 0, WR, ARITH, PFX_ANY, 0 },
	{ "movnti m, r", 1, 0xc3, -1, false, 0, WR, ARITH, PFX_W, 0 },
};

/* The start has a pointer register; returns the operand's address after emitting ModRM. */
static u64 emit_operand(struct insn_code *c, struct native *s, u32 reg, u64 target, u32 imm_bytes,
			enum insn_mode mode, bool far_regs)
{
	u32 base, index, how = (u32)(random64() % 5);
	u8 field = (u8)((reg & 7) << 3);

	do {
		base = (u32)(random64() & 7);
		index = (u32)(random64() & 7);
	} while (base == 4 || index == 4 || base == 5 || base == reg || index == reg ||
		 base == index || base == 0 || index == 0);
	u32 rb = base + (far_regs ? 8 : 0), ri = index + (far_regs ? 8 : 0);

	if (how == 3 && far_regs) /* that would be an index, R12 */
		how = 1;

	switch (how) {
	case 0: /* [base] */
		s->gpr[rb] = target;
		emit(c, field | base, 1);
		break;
	case 1: /* [base + disp8] */
		s->gpr[rb] = target + 0x70;
		emit(c, 0x40U | field | base, 1);
		emit(c, (u8)-0x70, 1);
		break;
	case 2: /* [base + index * 4 + disp32] */
		s->gpr[rb] = target - 0x12345678;
		s->gpr[ri] = 0x11UL;
		if (mode != INSN_MODE_64)
			s->gpr[rb] &= 0xffffffff;
		emit(c, 0x84U | field, 1);
		emit(c, 0x80U | index << 3 | base, 1);
		emit(c, 0x12345678 - 0x44, 4);
		break;
	case 3: /* absolute through SIB */
		emit(c, 0x04U | field, 1);
		emit(c, 0x25, 1);
		emit(c, target, 4);
		break;
	default: /* RIP-relative, or absolute */
		emit(c, 0x05U | field, 1);
		if (mode == INSN_MODE_64)
			emit(c, target - (CODE_GVA + c->len + 4 + imm_bytes), 4);
		else
			emit(c, target, 4);
		break;
	}
	return target;
}

static void compare_form(const struct form *f, enum insn_mode mode)
{
	struct insn_code c = { .len = 0 };
	struct native s;
	bool p16 = (f->prefixes & PFX_16) && random64() % 3 == 0;
	bool w = mode == INSN_MODE_64 && (f->prefixes & PFX_W) && random64() % 3 == 0;
	u8 rex = mode != INSN_MODE_64 || random64() % 2 ? 0 : (u8)(0x40 | (random64() & 4));
	u32 reg = f->group >= 0 ? (u32)f->group : (u32)(random64() & 7), size, imm;
	bool far_regs = mode == INSN_MODE_64 && random64() % 4 == 0;
	u64 target;

	if (w)
		rex |= 0x48;
	if (far_regs)
		rex |= 0x43;
	size = f->byte ? 1 : w ? 8 : p16 ? 2 : 4;
	imm = f->imm == 4 ? (p16 && !w ? 2 : 4) : f->imm;
	if (f->mem)
		size = f->mem;
	random_start(&s, mode);
	if (f->prefixes & PFX_LOCK && random64() % 2)
		emit(&c, 0xf0, 1);
	if (p16)
		emit(&c, 0x66, 1);
	if (rex)
		emit(&c, rex, 1);
	if (f->map)
		emit(&c, 0x0f, 1);
	if (f->map == 2)
		emit(&c, 0x38, 1);
	emit(&c, f->opcode, 1);
	/* Aligned, unaligned and across the page boundary */
	target = DEV_GVA + (random64() % 3   ? random64() & 0xff8
			    : random64() % 8 ? random64() & 0x7ff
					     : 0x1000 - size / 2);
	if (f->group < 0 && reg == 4 && f->access == WR)
		reg = 3; /* RSP as source is tested apart */
	emit_operand(&c, &s, reg, target, imm, mode, far_regs);
	emit(&c, random_value(), imm);
	/* Let CMPXCHG succeed often. */
	if (f->map == 1 && (f->opcode & 0xfe) == 0xb0 && random64() % 2)
		s.gpr[GPR_RAX] = 0;
	compare(&c, &s, DEV_GPA + (target - DEV_GVA), f->access, f->flags, mode, random64() & 1,
		f->name);
}

static void test_forms_64(void **state)
{
	(void)state;
	guest_reset(INSN_MODE_64);
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
		for (u32 n = 0; n < 300; n++)
			compare_form(&forms[i], INSN_MODE_64);
	print_message("%lu runs compared\n", compared);
}

/* Can this kernel run 32-bit code? Asked in a child, for it may die. */
static bool have_32bit(void)
{
	static const u8 nop = 0x90;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct native n;

		signal(SIGSEGV, SIG_DFL);
		signal(SIGTRAP, SIG_DFL);
		random_start(&n, INSN_MODE_32);
		place_code(&nop, 1, INSN_MODE_32);
		native_run(&n);
		_exit(0);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void test_forms_32(void **state)
{
	(void)state;
	if (!have_32bit())
		skip();
	guest_reset(INSN_MODE_32);
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
		for (u32 n = 0; n < 200; n++)
			compare_form(&forms[i], INSN_MODE_32);
}

/* --- forms that need a shape of their own ----------------------------------------------------- */

static struct insn_code code_of(const char *hex)
{
	struct insn_code c = { .len = 0 };
	unsigned byte;
	int used;

	while (sscanf(hex, " %2x%n", &byte, &used) == 1) {
		c.bytes[c.len++] = (u8)byte;
		hex += used;
	}
	return c;
}

static void test_special_64(void **state)
{
	static const struct {
		const char *name, *hex;
		u32 access;
	} cases[] = {
		{ "mov [rbx], esp", "89 23", WR },
		{ "mov rsp, [rbx]", "48 8b 23", RD },
		{ "movzx esp, word [rbx]", "0f b7 23", RD },
		{ "xchg [rbx], rsp", "48 87 23", RMW },
		{ "add rsp, [rbx]", "48 03 23", RD },
		{ "movsxd r9, dword [rbx]", "4c 63 0b", RD },
		{ "mov eax, moffs", "a1 40 00 00 10 00 00 00 00", RD },
		{ "mov rax, moffs", "48 a1 40 00 00 10 00 00 00 00", RD },
		{ "mov al, moffs", "a0 40 00 00 10 00 00 00 00", RD },
		{ "mov moffs, ax", "66 a3 40 00 00 10 00 00 00 00", WR },
		{ "mov moffs32, eax", "67 a3 40 00 00 10", WR },
		{ "mov [ebx], eax", "67 89 03", WR },
		{ "push [rbx]", "ff 33", RD },
		{ "push16 [rbx]", "66 ff 33", RD },
		{ "pop [rbx]", "8f 03", WR },
		{ "pop16 [rbx]", "66 8f 03", WR },
		{ "push [rsp+disp]", "ff b4 24 40 f0 fe ff", RD },
		{ "clflush [rbx]", "0f ae 3b", RD },
		{ "bt [rbx], eax", "0f a3 03", RD },
		{ "bts [rbx], rax", "48 0f ab 03", RMW },
		{ "btr [rbx], ax", "66 0f b3 03", RMW },
		{ "btc [rbx], eax", "f0 0f bb 03", RMW },
		{ "movups xmm1, [rbx]", "0f 10 0b", RD },
		{ "movups [rbx], xmm1", "0f 11 0b", WR },
		{ "movupd xmm9, [rbx]", "66 44 0f 10 0b", RD },
		{ "movss xmm1, [rbx]", "f3 0f 10 0b", RD },
		{ "movss [rbx], xmm1", "f3 0f 11 0b", WR },
		{ "movsd xmm1, [rbx]", "f2 0f 10 0b", RD },
		{ "movsd [rbx], xmm15", "f2 44 0f 11 3b", WR },
		{ "movaps xmm7, [rbx]", "0f 28 3b", RD },
		{ "movapd [rbx], xmm7", "66 0f 29 3b", WR },
		{ "movntps [rbx], xmm2", "0f 2b 13", WR },
		{ "movd xmm3, [rbx]", "66 0f 6e 1b", RD },
		{ "movq xmm3, [rbx]", "66 48 0f 6e 1b", RD },
		{ "movd [rbx], xmm3", "66 0f 7e 1b", WR },
		{ "movq [rbx], xmm3 by 7e", "66 48 0f 7e 1b", WR },
		{ "movdqa xmm0, [rbx]", "66 0f 6f 03", RD },
		{ "movdqa [rbx], xmm0", "66 0f 7f 03", WR },
		{ "movdqu xmm0, [rbx]", "f3 0f 6f 03", RD },
		{ "movdqu [rbx], xmm12", "f3 44 0f 7f 23", WR },
		{ "movq xmm5, [rbx]", "f3 0f 7e 2b", RD },
		{ "movq [rbx], xmm5", "66 0f d6 2b", WR },
		{ "movntdq [rbx], xmm5", "66 0f e7 2b", WR },
		{ "lddqu xmm5, [rbx]", "f2 0f f0 2b", RD },
		{ "movntdqa xmm5, [rbx]", "66 0f 38 2a 2b", RD },
	};

	(void)state;
	guest_reset(INSN_MODE_64);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (u32 n = 0; n < 100; n++) {
			struct insn_code c = code_of(cases[i].hex);
			struct native s;

			random_start(&s, INSN_MODE_64);
			s.gpr[GPR_RBX] = DEV_GVA + 0x40;
			if (strstr(cases[i].name, "rsp+disp"))
				s.gpr[GPR_RSP] = RAM_GVA + 0x1000;
			if (!strncmp(cases[i].name, "bt", 2)) { /* bits to both sides of the base */
				u32 bit = (u32)(random64() % 30500) - 500;

				s.gpr[GPR_RAX] = (s.gpr[GPR_RAX] & ~0xffffffffUL) | bit;
			}
			if (!strcmp(cases[i].name, "bts [rbx], rax"))
				s.gpr[GPR_RAX] = random64() % 512 - 256;
			compare(&c, &s, DEV_GPA + 0x40, cases[i].access,
				!strncmp(cases[i].name, "bt", 2) ? CARRY : ARITH, INSN_MODE_64, n & 1,
				cases[i].name);
		}
	}
}

static void test_special_32(void **state)
{
	static const struct {
		const char *name, *hex;
		u32 access;
	} cases[] = {
		{ "mov eax, moffs", "a1 40 00 00 10", RD },
		{ "mov moffs, al", "a2 40 00 00 10", WR },
		{ "mov [ebx], ah", "88 23", WR },
		{ "mov ch, [ebx]", "8a 2b", RD },
		{ "push [ebx]", "ff 33", RD },
		{ "pop [ebx]", "8f 03", WR },
		{ "group 82", "82 03 91", RMW },
		{ "movbe", "0f 38 f0 13", RD },
	};

	(void)state;
	if (!have_32bit())
		skip();
	guest_reset(INSN_MODE_32);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (u32 n = 0; n < 50; n++) {
			struct insn_code c = code_of(cases[i].hex);
			struct native s;

			random_start(&s, INSN_MODE_32);
			s.gpr[GPR_RBX] = DEV_GVA + 0x40;
			compare(&c, &s, DEV_GPA + 0x40, cases[i].access, ARITH, INSN_MODE_32, n & 1,
				cases[i].name);
		}
	}
}

static void compare_string(const u8 *prefix, u32 prefixes, u8 opcode, enum insn_mode mode)
{
	bool repeated = false;
	struct insn_code c = { .len = 0 };
	struct native s;
	u64 src, dst, count;

	for (u32 i = 0; i < prefixes; i++) {
		emit(&c, prefix[i], 1);
		repeated |= prefix[i] >= 0xf2;
	}
	emit(&c, opcode, 1);
	random_start(&s, mode);
	if (random64() & 1)
		s.flags |= DF;
	/* Device to RAM, RAM to device, device to device; around the page boundary at times */
	src = random64() % 3 ? DEV_GVA : RAM_GVA;
	dst = src == RAM_GVA || random64() & 1 ? DEV_GVA : RAM_GVA;
	s.gpr[GPR_RSI] = src + 0xc00 + (random64() & 0x3ff);
	s.gpr[GPR_RDI] = dst + 0xc00 + (random64() & 0x3ff);
	count = random64() % 100;
	s.gpr[GPR_RCX] = repeated ? count : random64();
	if (opcode == 0xae || opcode == 0xaf)
		s.gpr[GPR_RAX] = random_value();
	if (mode != INSN_MODE_64) {
		s.gpr[GPR_RCX] &= 0xffffffff;
		s.gpr[GPR_RAX] &= 0xffffffff;
	}
	compare(&c, &s, DEV_GPA + (s.gpr[GPR_RDI] & 0xfff), WR, ARITH | DF, mode, random64() & 1,
		"string");
}

static void test_strings(void **state)
{
	static const u8 ops[] = { 0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf };
	static const u8 prefix[][4] = {
		{ 0 },		{ 0xf3 },	{ 0xf2 }, { 0x66 },	  { 0xf3, 0x66 },
		{ 0x66, 0xf2 }, { 0xf3, 0x48 }, { 0x48 }, { 0xf3, 0x67 }, { 0x67, 0xf2, 0x48 }
	};
	static const u32 lengths[] = { 0, 1, 1, 1, 2, 2, 2, 1, 2, 3 };

	(void)state;
	guest_reset(INSN_MODE_64);
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		for (size_t p = 0; p < ARRAY_SIZE(prefix); p++)
			for (u32 n = 0; n < 100; n++)
				compare_string(prefix[p], lengths[p], ops[i], INSN_MODE_64);
	if (!have_32bit())
		return;
	guest_reset(INSN_MODE_32);
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		for (size_t p = 0; p < 6; p++)
			for (u32 n = 0; n < 50; n++)
				compare_string(prefix[p], lengths[p], ops[i], INSN_MODE_32);
}

/* --- behaviour that no comparison shows ------------------------------------------------------- */

static u32 run(const char *hex, gpa_t gpa, u32 access, bool bytes)
{
	struct insn_code c = code_of(hex);

	set_code(c.bytes, c.len);
	mock_clear();
	set_exit(gpa, access, bytes);
	return emulate_mmio(&mock_vcpu);
}

/* What Linux does for an end of interrupt; the second time without registers but CS being asked. */
static void test_quick(void **state)
{
	(void)state;
	guest_reset(INSN_MODE_64);
	mock_vcpu.gpr[GPR_RSI] = 0xaabbccdd11223344;
	for (u32 i = 0; i < 3; i++) {
		memset(dev, 0xee, AREA);
		assert_int_equal(run("89 34 25 b0 c0 5f ff", DEV_GPA + 0xb0, WR, true),
				 VRESULT_ADVANCE);
		assert_int_equal(mock_vcpu.exit.insn_len, 7);
		assert_int_equal(*(u64 *)(dev + 0xb0), 0xeeeeeeee11223344);
		mock_reg[VREG_CR3] = 0xfed00000; /* from now on a walk would stop the VM */
	}
	assert_int_equal(dev_count.writes, 3);
	/* The same bytes mean another address size and length in 16-bit mode. */
	guest_reset(INSN_MODE_64);
	mock_vcpu.gpr[GPR_RDI] = DEV_GVA + 0x10;
	assert_int_equal(run("89 07", DEV_GPA + 0x10, WR, true), VRESULT_ADVANCE);
	mock_vcpu.gpr[GPR_RAX] = 0x1234567890;
	mock_seg[VSEG_CS].attr = MOCK_CODE;
	mock_seg[VSEG_DS].base = DEV_GVA;
	mock_vcpu.gpr[GPR_RBX] = 0x10;
	memset(dev, 0, AREA);
	assert_int_equal(run("89 07", DEV_GPA + 0x10, WR, true), VRESULT_ADVANCE);
	assert_int_equal(*(u64 *)(dev + 0x10), 0x7890);
	/* An immediate that differs only in its last byte */
	guest_reset(INSN_MODE_64);
	assert_int_equal(run("c7 04 25 40 00 00 10 01 02 03 04", DEV_GPA + 0x40, WR, true),
			 VRESULT_ADVANCE);
	assert_int_equal(run("c7 04 25 40 00 00 10 01 02 03 05", DEV_GPA + 0x40, WR, true),
			 VRESULT_ADVANCE);
	assert_int_equal(*(u32 *)(dev + 0x40), 0x05030201);
	/* The exit has fewer bytes than the instruction (a stale one follows): they are fetched. */
	set_exit(DEV_GPA + 0x40, WR, true);
	mock_vcpu.exit.mmio.insn_len = 10;
	mock_ram[CODE_GPA + 10] = 6;
	assert_int_equal(emulate_mmio(&mock_vcpu), VRESULT_ADVANCE);
	assert_int_equal(*(u32 *)(dev + 0x40), 0x06030201);
	/* Other bytes in the same place are another instruction. */
	guest_reset(INSN_MODE_64);
	mock_vcpu.gpr[GPR_RAX] = 5;
	mock_vcpu.gpr[GPR_RCX] = 7;
	assert_int_equal(run("89 04 25 40 00 00 10", DEV_GPA + 0x40, WR, true), VRESULT_ADVANCE);
	assert_int_equal(run("89 0c 25 40 00 00 10", DEV_GPA + 0x40, WR, true), VRESULT_ADVANCE);
	assert_int_equal(dev[0x40], 7);
	assert_int_equal(run("89 04 25 40 00 00 10", DEV_GPA + 0x40, WR, true), VRESULT_ADVANCE);
	assert_int_equal(dev[0x40], 5);
}

/* Done without a look at the guest's state, which is out of reach for the moment. */
static bool is_quick(const char *hex, gpa_t gpa, u32 access)
{
	struct insn_code c = code_of(hex);
	enum insn_mode mode;
	u32 result;

	set_code(c.bytes, c.len);
	mock_clear();
	set_exit(gpa, access, true);
	assert_int_equal(guest_mode_of(&mock_vcpu, &mode), 0);
	mock_vcpu.exit.mmio.code_mode = (u8)(mode + 1);
	mock_protected = true;
	result = emulate_mmio(&mock_vcpu);
	mock_protected = false;
	assert_int_equal(mock_told.fatals, result == VRESULT_LEAVE);
	return result == VRESULT_ADVANCE;
}

static void learn(const char *hex, gpa_t gpa, u32 access)
{
	assert_int_equal(run(hex, gpa, access, true), VRESULT_ADVANCE);
}

/* At a page's ends an instruction seen before is known again only if all of its operand is there. */
static void test_quick_at_edges(void **state)
{
	(void)state;
	guest_reset(INSN_MODE_64);
	memset(dev, 0, AREA);
	mock_vcpu.gpr[GPR_RBX] = DEV_GVA;
	mock_vcpu.gpr[GPR_RCX] = 0x11223344;
	learn("89 0b", DEV_GPA, WR); /* mov [rbx], ecx */
	assert_true(is_quick("89 0b", DEV_GPA, WR));
	mock_vcpu.gpr[GPR_RBX] = DEV_GVA - 2; /* the operand begins in the page before */
	assert_false(is_quick("89 0b", DEV_GPA, WR));
	mock_vcpu.gpr[GPR_RBX] = DEV_GVA + 0xffc;
	assert_true(is_quick("89 0b", DEV_GPA + 0xffc, WR));
	assert_int_equal(*(u32 *)(dev + 0xffc), 0x11223344);
	mock_vcpu.gpr[GPR_RBX] = DEV_GVA + 0xffd; /* and here it ends in the next */
	assert_false(is_quick("89 0b", DEV_GPA + 0xffd, WR));
	mock_vcpu.gpr[GPR_RBX] = DEV_GVA + 0xfff;
	assert_false(is_quick("89 0b", DEV_GPA + 0xfff, WR));
	assert_true(is_quick("89 0b", DEV_GPA + 1, WR)); /* the exit's address alone counts */

	/* Base, index, scale and displacement make the address: mov [rbx+rsi*4+0x10], ecx */
	mock_vcpu.gpr[GPR_RBX] = DEV_GVA - 0x20;
	mock_vcpu.gpr[GPR_RSI] = 4;
	learn("89 4c b3 10", DEV_GPA, WR);
	assert_true(is_quick("89 4c b3 10", DEV_GPA, WR));
	mock_vcpu.gpr[GPR_RSI] = 3;
	assert_false(is_quick("89 4c b3 10", DEV_GPA, WR));

	/* One byte is whole wherever it is. */
	mock_vcpu.gpr[GPR_RBX] = DEV_GVA;
	learn("88 0b", DEV_GPA, WR);
	assert_true(is_quick("88 0b", DEV_GPA, WR));
	assert_true(is_quick("88 0b", DEV_GPA + 0xfff, WR));

	/* Where the address does not follow from registers at hand, a page's start is not quick. */
	learn("89 0c 25 00 00 00 10", DEV_GPA, WR); /* absolute: it does */
	assert_true(is_quick("89 0c 25 00 00 00 10", DEV_GPA, WR));
	learn("89 0d fa ff fd ff", DEV_GPA, WR); /* RIP-relative */
	assert_false(is_quick("89 0d fa ff fd ff", DEV_GPA, WR));
	assert_true(is_quick("89 0d fa ff fd ff", DEV_GPA + 4, WR));
	mock_reg[VREG_RSP] = DEV_GVA;
	learn("89 0c 24", DEV_GPA, WR); /* [rsp] */
	assert_false(is_quick("89 0c 24", DEV_GPA, WR));
	learn("64 89 0b", DEV_GPA, WR); /* fs:[rbx] */
	assert_false(is_quick("64 89 0b", DEV_GPA, WR));
	learn("67 89 0b", DEV_GPA, WR); /* [ebx] */
	assert_false(is_quick("67 89 0b", DEV_GPA, WR));
}

/* A load that reads as all ones, as where nobody answers, by 64-bit and by 32-bit code. */
static void load_from_hole(enum insn_mode mode, const char *hex, u64 start, u64 want)
{
	guest_reset(mode);
	memset(dev, 0xff, AREA);
	mock_vcpu.gpr[GPR_RBX] = DEV_GVA + 0x10;
	for (u32 i = 0; i < 2; i++) {
		mock_vcpu.gpr[GPR_RAX] = start;
		if (i == 0)
			learn(hex, DEV_GPA + 0x10, RD);
		else
			assert_true(is_quick(hex, DEV_GPA + 0x10, RD));
		assert_int_equal(mock_vcpu.gpr[GPR_RAX], want);
		assert_int_equal(mock_vcpu.exit.insn_len, code_of(hex).len);
	}
	assert_int_equal(dev_count.reads, 2);
	/* What was seen in one mode is another instruction, or none, in another. */
	mock_seg[VSEG_CS].attr ^= mode == INSN_MODE_64 ? MOCK_L | MOCK_DB : MOCK_DB;
	assert_false(is_quick(hex, DEV_GPA + 0x10, RD));
	/* As is a write by its bytes. */
	mock_seg[VSEG_CS].attr ^= mode == INSN_MODE_64 ? MOCK_L | MOCK_DB : MOCK_DB;
	assert_false(is_quick(hex, DEV_GPA + 0x10, WR));
}

static void test_quick_loads(void **state)
{
	(void)state;
	for (u32 i = 0; i < 2; i++) {
		enum insn_mode mode = i == 0 ? INSN_MODE_64 : INSN_MODE_32;

		load_from_hole(mode, "8b 03", 0x1234, 0xffffffff);
		load_from_hole(mode, "66 8b 03", 0x12345678, 0x1234ffff);
		load_from_hole(mode, "8a 03", 0x12345678, 0x123456ff);
		load_from_hole(mode, "0f b6 03", 0x12345678, 0xff);
		load_from_hole(mode, "66 0f b6 03", 0x12345678, 0x123400ff);
		load_from_hole(mode, "0f b7 03", 0x12345678, 0xffff);
		load_from_hole(mode, "0f be 03", 0x12345678, 0xffffffff);
		load_from_hole(mode, "66 0f be 03", 0x12345678, 0x1234ffff);
	}
	load_from_hole(INSN_MODE_64, "48 8b 03", 0x1234, ~0UL);
	load_from_hole(INSN_MODE_64, "48 0f b7 03", 0x1234, 0xffff);
	load_from_hole(INSN_MODE_64, "48 0f be 03", 0x1234, ~0UL);
	load_from_hole(INSN_MODE_64, "8b 03", 0xffffffff00000000, 0xffffffff);
	/* The absolute address of 32-bit code: its segments may have bases, so a page's start is not
	 * quick. */
	guest_reset(INSN_MODE_32);
	memset(dev, 0xff, AREA);
	learn("8b 0d 10 00 00 10", DEV_GPA + 0x10, RD);
	assert_true(is_quick("8b 0d 10 00 00 10", DEV_GPA + 0x10, RD));
	assert_int_equal(mock_vcpu.gpr[GPR_RCX], 0xffffffff);
	learn("a1 00 00 00 10", DEV_GPA, RD);
	assert_false(is_quick("a1 00 00 00 10", DEV_GPA, RD));
	assert_int_equal(run("a1 00 00 00 10", DEV_GPA, RD, true), VRESULT_ADVANCE);
	assert_int_equal(mock_vcpu.gpr[GPR_RAX], 0xffffffff);
	/* Nothing has been seen yet, and the mode is not known: no slot of the table matches. */
	guest_reset(INSN_MODE_64);
	mock_protected = true;
	assert_int_equal(run("8b 03", DEV_GPA, RD, true), VRESULT_LEAVE);
	mock_protected = false;
}

/* CMPXCHG writes back what it read when the comparison fails. */
static void test_cmpxchg_writes(void **state)
{
	(void)state;
	guest_reset(INSN_MODE_64);
	memset(dev, 0, AREA);
	mock_vcpu.gpr[GPR_RBX] = DEV_GVA;
	mock_vcpu.gpr[GPR_RAX] = 1;
	assert_int_equal(run("f0 0f b1 0b", DEV_GPA, WR, true), VRESULT_ADVANCE);
	assert_int_equal(dev_count.reads, 1);
	assert_int_equal(dev_count.writes, 1);
	assert_int_equal(mock_vcpu.gpr[GPR_RAX], 0);
}

/* An operand that begins in RAM and ends in a device is not taken for one at the page's start. */
static void test_straddle(void **state)
{
	(void)state;
	for (u32 i = 0; i < 2; i++) {
		guest_reset(INSN_MODE_64);
		mock_put64(0x4000 + 0x11 * 8, DEV_GPA | 7); /* RAM_GVA + 0x1000 */
		memset(mock_ram + RAM_GPA, 0, AREA);
		memset(dev, 0, AREA);
		mock_vcpu.gpr[GPR_RAX] = 0x1122334455667788;
		mock_vcpu.gpr[GPR_RBX] = RAM_GVA + 0x1000;
		assert_int_equal(run("48 89 03", DEV_GPA, WR, true), VRESULT_ADVANCE);
		assert_int_equal(*(u64 *)dev, 0x1122334455667788);
		memset(dev, 0, AREA);
		mock_vcpu.gpr[GPR_RBX] = RAM_GVA + 0xffd;
		assert_int_equal(run("48 89 03", DEV_GPA, WR, true), VRESULT_ADVANCE);
		assert_int_equal(*(u32 *)(mock_ram + RAM_GPA + 0xffc), 0x66778800);
		assert_int_equal(*(u64 *)dev, 0x1122334455);
	}
	/* The second page is not there: nothing reaches the device in the first. */
	guest_reset(INSN_MODE_64);
	mock_put64(0x4000 + 1 * 8, DEV_GPA | 7);
	mock_put64(0x4000 + 2 * 8, 0);
	mock_vcpu.gpr[GPR_RBX] = DEV_GVA + 0x1ffc;
	assert_int_equal(run("48 89 03", DEV_GPA + 0xffc, WR, true), VRESULT_RETRY);
	assert_int_equal(mock_told.vector, VEC_PF);
	assert_int_equal(mock_told.error, PF_WRITE);
	assert_int_equal(mock_told.address, DEV_GVA + 0x2000);
	assert_int_equal(dev_count.writes, 0);
}

static void test_faults(void **state)
{
	(void)state;
	/* A read-modify-write whose page is read-only, where the exit only says "read" */
	guest_reset(INSN_MODE_64);
	mock_reg[VREG_CR0] |= BIT(16);
	mock_put64(0x4000, DEV_GPA | 5);
	mock_vcpu.gpr[GPR_RBX] = DEV_GVA + 8;
	assert_int_equal(run("ff 03", DEV_GPA + 8, RD, true), VRESULT_RETRY);
	assert_int_equal(mock_told.vector, VEC_PF);
	assert_int_equal(mock_told.error, PF_PRESENT | PF_WRITE);
	assert_int_equal(dev_count.reads + dev_count.writes, 0);
	/* REP MOVS from a device into a page that ends: what was done is done */
	guest_reset(INSN_MODE_64);
	for (u32 i = 0; i < AREA; i++)
		dev[i] = (u8)(i * 3);
	mock_put64(0x4000 + 0x11 * 8, 0);
	mock_vcpu.gpr[GPR_RSI] = DEV_GVA;
	mock_vcpu.gpr[GPR_RDI] = RAM_GVA + 0xff0;
	mock_vcpu.gpr[GPR_RCX] = 30;
	assert_int_equal(run("f3 a4", DEV_GPA, RD, true), VRESULT_RETRY);
	assert_int_equal(mock_told.vector, VEC_PF);
	assert_int_equal(mock_told.address, RAM_GVA + 0x1000);
	assert_int_equal(mock_told.error, PF_WRITE);
	assert_int_equal(mock_vcpu.gpr[GPR_RCX], 14);
	assert_int_equal(mock_vcpu.gpr[GPR_RSI], DEV_GVA + 16);
	assert_int_equal(mock_vcpu.gpr[GPR_RDI], RAM_GVA + 0x1000);
	assert_memory_equal(mock_ram + RAM_GPA + 0xff0, dev, 16);
	assert_int_equal(dev_count.reads, 16);
	/* A code page that went away, and one that ends in the instruction */
	guest_reset(INSN_MODE_64);
	mock_put64(0x4000 + 0x20 * 8, 0);
	assert_int_equal(run("89 03", DEV_GPA, WR, false), VRESULT_RETRY);
	assert_int_equal(mock_told.vector, VEC_PF);
	assert_int_equal(mock_told.address, CODE_GVA);
	guest_reset(INSN_MODE_64);
	mock_put64(0x4000 + 0x21 * 8, 0);
	mock_reg[VREG_RIP] = CODE_GVA + 0xffe;
	mock_ram[CODE_GPA + 0xffe] = 0xc7;
	mock_ram[CODE_GPA + 0xfff] = 0x03;
	set_exit(DEV_GPA, WR, false);
	assert_int_equal(emulate_mmio(&mock_vcpu), VRESULT_RETRY);
	assert_int_equal(mock_told.vector, VEC_PF);
	assert_int_equal(mock_told.address, CODE_GVA + 0x1000);
	/* Too long, and no instruction: the code was changed under us */
	guest_reset(INSN_MODE_64);
	run("66 66 66 66 66 66 66 66 66 66 66 66 66 66 66", DEV_GPA, WR, true);
	assert_int_equal(mock_told.vector, VEC_GP);
	assert_true(mock_told.has_error);
	run("06", DEV_GPA, WR, true);
	assert_int_equal(mock_told.vector, VEC_UD);
}

static void test_stopped(void **state)
{
	static const char *const unknown[] = {
		"0f 01 13",          /* lgdt [rbx] */
		"f6 23",             /* mul byte [rbx] */
		"c5 f8 10 03",       /* vmovups xmm0, [rbx] */
		"ff 13",             /* call [rbx] */
		"c6 43 10 01 90",    /* known: mov byte [rbx+0x10], 1 */
		"f2 0f 38 f1 03",    /* crc32 eax, [rbx] */
		"89 c3",             /* mov ebx, eax: touches no memory */
		"0f c7 0b",          /* cmpxchg8b */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
		bool known = i == 4;

		guest_reset(INSN_MODE_64);
		mock_vcpu.gpr[GPR_RBX] = DEV_GVA;
		assert_int_equal(run(unknown[i], DEV_GPA, RD, true), known ? VRESULT_ADVANCE
									   : VRESULT_LEAVE);
		assert_int_equal(mock_told.fatals, !known);
		assert_int_equal(mock_told.exceptions, 0);
		if (!known)
			assert_non_null(strstr(mock_told.fatal, "0xfed00000 at RIP 0x10020000"));
	}
	/* Code in a device; page tables in a device; protected registers */
	guest_reset(INSN_MODE_64);
	mock_reg[VREG_RIP] = DEV_GVA;
	assert_int_equal(run("89 03", DEV_GPA, VACCESS_EXEC, false), VRESULT_LEAVE);
	assert_int_equal(mock_told.fatals, 1);
	guest_reset(INSN_MODE_64);
	mock_reg[VREG_CR3] = DEV_GPA;
	assert_int_equal(run("89 03", DEV_GPA, WR, false), VRESULT_LEAVE);
	assert_int_equal(mock_told.fatals, 1);
	guest_reset(INSN_MODE_64);
	mock_protected = true;
	assert_int_equal(run("89 03", DEV_GPA, WR, true), VRESULT_LEAVE);
	assert_int_equal(mock_told.fatals, 1);
	mock_protected = false;
}

static void test_rom(void **state)
{
	(void)state;
	guest_reset(INSN_MODE_64);
	mock_put32(MOCK_ROM_BASE + 0x10, 0x55);
	mock_vcpu.gpr[GPR_RBX] = ROM_GVA + 0x10;
	mock_vcpu.gpr[GPR_RAX] = 1;
	/* Writes are dropped; a read-modify-write sees the ROM and sets the flags. */
	assert_int_equal(run("01 03", MOCK_ROM_BASE + 0x10, WR, false), VRESULT_ADVANCE);
	assert_int_equal(mock_get32(MOCK_ROM_BASE + 0x10), 0x55);
	assert_int_equal(run("0f c1 03", MOCK_ROM_BASE + 0x10, WR, false), VRESULT_ADVANCE);
	assert_int_equal(mock_vcpu.gpr[GPR_RAX], 0x55);
	assert_int_equal(mock_get32(MOCK_ROM_BASE + 0x10), 0x55);
	assert_int_equal(dev_count.reads + dev_count.writes, 0);
}

/* Long runs give the CPU back in between, and at once when something waits. */
static void test_bounded(void **state)
{
	u32 rounds = 0;

	(void)state;
	guest_reset(INSN_MODE_64);
	mock_vcpu.gpr[GPR_RDI] = DEV_GVA;
	mock_vcpu.gpr[GPR_RCX] = 1000;
	while (run("f3 aa", DEV_GPA, WR, true) == VRESULT_RETRY && rounds < 1000)
		rounds++;
	assert_true(rounds >= 10 && rounds <= 100);
	assert_int_equal(mock_vcpu.gpr[GPR_RCX], 0);
	assert_int_equal(mock_vcpu.gpr[GPR_RDI], DEV_GVA + 1000);
	assert_int_equal(mock_vcpu.exit.insn_len, 2);
	mock_vcpu.gpr[GPR_RCX] = 1000;
	mock_vcpu.gpr[GPR_RDI] = DEV_GVA;
	mock_vcpu.hazards = HAZ_IRQ;
	assert_int_equal(run("f3 aa", DEV_GPA, WR, true), VRESULT_RETRY);
	assert_int_equal(mock_vcpu.gpr[GPR_RCX], 999);
	assert_int_equal(mock_told.exceptions, 0);
}

/* --- string I/O ------------------------------------------------------------------------------- */

static u32 run_io(const struct vexit_io *io, u32 len)
{
	mock_clear();
	mock_vcpu.exit.kind = VEXIT_IO;
	mock_vcpu.exit.insn_len = len;
	mock_vcpu.exit.io = *io;
	return emulate_string_io(&mock_vcpu);
}

static void test_ins(void **state)
{
	struct vexit_io io = { .port = 0x1f0, .size = 2, .in = true, .string = true, .rep = true,
			       .addr_size = 8, .seg = VSEG_ES };
	u32 rounds = 0, result;

	(void)state;
	guest_reset(INSN_MODE_64);
	for (u32 i = 0; i < 512; i++)
		io_data[i] = (u8)(i ^ 0x5a);
	mock_vcpu.gpr[GPR_RDI] = RAM_GVA + 0xf00;
	mock_vcpu.gpr[GPR_RCX] = 256;
	while ((result = run_io(&io, 3)) == VRESULT_RETRY && rounds < 100)
		rounds++;
	assert_int_equal(result, VRESULT_ADVANCE);
	assert_true(rounds > 0);
	assert_int_equal(mock_vcpu.exit.insn_len, 3);
	assert_int_equal(io_port, 0x1f0);
	assert_int_equal(io_size, 2);
	assert_memory_equal(mock_ram + RAM_GPA + 0xf00, io_data, 512);
	assert_int_equal(mock_vcpu.gpr[GPR_RDI], RAM_GVA + 0x1100);
	assert_int_equal(mock_vcpu.gpr[GPR_RCX], 0);
	/* Count zero does nothing. */
	io_count = 0;
	assert_int_equal(run_io(&io, 3), VRESULT_ADVANCE);
	assert_int_equal(io_count, 0);
	/* A page fault before the device is asked: no byte is lost. */
	mock_put64(0x4000 + 0x11 * 8, 0);
	mock_vcpu.gpr[GPR_RDI] = RAM_GVA + 0xffc;
	mock_vcpu.gpr[GPR_RCX] = 8;
	assert_int_equal(run_io(&io, 3), VRESULT_RETRY);
	assert_int_equal(mock_told.vector, VEC_PF);
	assert_int_equal(mock_told.address, RAM_GVA + 0x1000);
	assert_int_equal(mock_vcpu.gpr[GPR_RCX], 6);
	assert_int_equal(io_count, 4);
}

static void test_outs(void **state)
{
	struct vexit_io io = { .port = 0x402,
			       .size = 1,
			       .string = true,
			       .rep = true,
			       .addr_size = 2,
			       .seg = VSEG_DS };

	(void)state;
	/* 16-bit addresses wrap, only CX and SI count; backwards */
	guest_reset(INSN_MODE_16);
	mock_reg[VREG_CR0] = 0;
	for (u32 i = 0; i < VSEG_TR; i++)
		mock_seg[i].limit = 0xffff;
	mock_seg[VSEG_DS].base = 0x10000;
	mock_seg[VSEG_CS].base = CODE_GPA - CODE_GVA;
	memcpy(mock_ram + 0x10000, "ba", 2);
	mock_ram[0x1ffff] = 'c';
	mock_vcpu.gpr[GPR_RSI] = 0xabcd0001;
	mock_vcpu.gpr[GPR_RCX] = 0x70003;
	mock_reg[VREG_RFLAGS] |= DF;
	assert_int_equal(run_io(&io, 2), VRESULT_ADVANCE);
	assert_int_equal(io_count, 3);
	assert_memory_equal(io_data, "abc", 3);
	assert_int_equal(mock_vcpu.gpr[GPR_RSI], 0xabcdfffe);
	assert_int_equal(mock_vcpu.gpr[GPR_RCX], 0x70000);
	/* Past the limit: #GP, and #SS with the stack's segment */
	io.size = 4;
	io.rep = false;
	mock_vcpu.gpr[GPR_RSI] = 0xfffd;
	assert_int_equal(run_io(&io, 2), VRESULT_RETRY);
	assert_int_equal(mock_told.vector, VEC_GP);
	io.seg = VSEG_SS;
	assert_int_equal(run_io(&io, 2), VRESULT_RETRY);
	assert_int_equal(mock_told.vector, VEC_SS);
	assert_int_equal(io_count, 3);
}

/* The hardware says neither length nor segment: both come from the instruction. */
static void test_outs_decoded(void **state)
{
	struct vexit_io io = { .port = 0x80, .size = 4, .string = true, .addr_size = 8,
			       .seg = VSEG_COUNT };
	struct insn_code c = code_of("65 6f"); /* outs dx, dword gs:[rsi] */

	(void)state;
	guest_reset(INSN_MODE_64);
	set_code(c.bytes, c.len);
	mock_seg[VSEG_GS].base = RAM_GVA;
	mock_put32(RAM_GPA + 0x20, 0xdeadbeef);
	mock_vcpu.gpr[GPR_RSI] = 0x20;
	assert_int_equal(run_io(&io, 0), VRESULT_ADVANCE);
	assert_int_equal(mock_vcpu.exit.insn_len, 2);
	assert_memory_equal(io_data, "\xef\xbe\xad\xde", 4);
	assert_int_equal(mock_vcpu.gpr[GPR_RSI], 0x24);
}

static void test_length_at_rip(void **state)
{
	struct insn_code c = code_of("0f 01 d9");

	(void)state;
	guest_reset(INSN_MODE_64);
	set_code(c.bytes, c.len);
	assert_int_equal(insn_length_at_rip(&mock_vcpu), 3);
	mock_reg[VREG_RIP] = CODE_GVA + 0x5000;
	assert_int_equal(insn_length_at_rip(&mock_vcpu), -EFAULT);
	assert_int_equal(mock_told.exceptions, 0);
	mock_protected = true;
	assert_int_equal(insn_length_at_rip(&mock_vcpu), -EACCES);
	mock_protected = false;
}

/* Random instructions on random registers: nothing but the device, RAM and the guest is touched. */
static void test_random(void **state)
{
	(void)state;
	for (u32 i = 0; i < 200000; i++) {
		enum insn_mode mode = (enum insn_mode)(random64() % 3);
		struct native s;
		u32 result;

		if (i % 64 == 0)
			guest_reset(mode);
		else
			mode = mock_reg[VREG_EFER] ? INSN_MODE_64 : INSN_MODE_32;
		random_start(&s, mode);
		memcpy(mock_vcpu.gpr, s.gpr, sizeof(s.gpr));
		for (u32 r = 0; r < 8; r++)
			if (random64() % 2)
				mock_vcpu.gpr[r] = DEV_GVA + (random64() & 0xfff);
		mock_reg[VREG_RSP] = s.gpr[GPR_RSP];
		mock_reg[VREG_CPL] = random64() & 3;
		mock_clear();
		for (u32 b = 0; b < 16; b++)
			mock_ram[CODE_GPA + b] = (u8)random64();
		if (random64() % 2) /* more of what is known */
			mock_ram[CODE_GPA + random64() % 3] =
				forms[random64() % ARRAY_SIZE(forms)].opcode;
		set_exit(DEV_GPA + (random64() & 0xff8), random64() & 1 ? WR : RD, random64() & 1);
		if (random64() % 8 == 0)
			mock_vcpu.exit.mmio.insn_len = (u8)random64();
		result = emulate_mmio(&mock_vcpu);
		assert_true(result == VRESULT_ADVANCE || result == VRESULT_RETRY ||
			    result == VRESULT_LEAVE);
		assert_int_equal(result == VRESULT_LEAVE, mock_told.fatals);
		assert_true(result != VRESULT_ADVANCE || (mock_vcpu.exit.insn_len >= 1 &&
							  mock_vcpu.exit.insn_len <= INSN_MAX));
	}
}

static int set_up(void **state)
{
	static const gva_t areas[] = { DEV_GVA, RAM_GVA, CODE_GVA };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(areas); i++)
		if (mmap((void *)areas[i], AREA, PROT_READ | PROT_WRITE | PROT_EXEC,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
			 0) != (void *)areas[i])
			return -1;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms_64),     cmocka_unit_test(test_forms_32),
		cmocka_unit_test(test_special_64),   cmocka_unit_test(test_special_32),
		cmocka_unit_test(test_strings),      cmocka_unit_test(test_quick),
		cmocka_unit_test(test_quick_at_edges), cmocka_unit_test(test_quick_loads),
		cmocka_unit_test(test_cmpxchg_writes), cmocka_unit_test(test_straddle),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_stopped),      cmocka_unit_test(test_rom),
		cmocka_unit_test(test_bounded),      cmocka_unit_test(test_ins),
		cmocka_unit_test(test_outs),         cmocka_unit_test(test_outs_decoded),
		cmocka_unit_test(test_length_at_rip), cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
