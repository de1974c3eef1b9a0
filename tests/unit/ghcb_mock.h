/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_TESTS_UNIT_GHCB_MOCK_H
#define RAVELIN_TESTS_UNIT_GHCB_MOCK_H

/*
 * An SEV-ES vCPU with RAM, a few devices and the real handlers of core, for
 * tests of sev/ghcb*.c. Included by one file per test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/cpu.h"
#include "arch/x86/svm/svm.h"
#include "arch/x86/vcpu_state.h"
#include "core/errno.h"
#include "core/hypercall.h"
#include "core/msr.h"
#include "core/sched.h"
#include "core/trace.h"
#include "sev/ghcb.h"
#include "sev/ghcb_page.h"

/* RAM from 0, with the VGA hole and a page that is none; devices; a ROM below 4 GiB. */
#define MOCK_RAM 0x100000UL
#define MOCK_HOLE 0xa0000UL
#define MOCK_HOLE_END 0xc0000UL
#define MOCK_ROM 0xffff0000UL
#define MOCK_ROM_SIZE 0x10000UL
#define MOCK_DEVICE 0xd0000000UL /* a page of plain memory behind mmio_read() */
#define MOCK_PORT 0x100          /* 16 ports: see mock_told */
#define MOCK_C_BIT 47

struct cpu_features cpu_features = { .amd = true, .phys_bits = 48 };
struct sev_facts sev_facts = { .c_bit = MOCK_C_BIT, .reduction = 5 };
u32 trace_flags;

static _Alignas(4096) u8 mock_ram[MOCK_RAM];
static _Alignas(4096) u8 mock_rom[MOCK_ROM_SIZE];
static struct ghcb mock_copy;
static struct es_vcpu mock_es;
static struct es_vm mock_es_vm;
static struct vm_msrs mock_msrs;
static struct vm mock_vm;
static struct vcpu mock_v;      /* the encrypted one */
static struct vm mock_plain_vm;
static struct vcpu mock_plain;  /* and one whose registers are in v->gpr[] */
static u64 mock_ghcb_msr;
static u64 mock_xcr0_mask = 7;
static u64 mock_cr4;

#define MOCK_LOG 70000
static struct {
	u32 fatals, logs, records, traces;
	char fatal[256], log[256];
	struct trace_record record;
	u32 outs, ins;              /* accesses to MOCK_PORT and up */
	u16 port;
	u32 size, last;
	u8 out[MOCK_LOG];           /* bytes that went out, in order */
	u32 out_bytes;
	u32 mmio_reads, mmio_writes;
	u8 device[PAGE_SIZE];
	u32 lapic_writes;
	u32 ipis, kicks, yields;
	struct { u64 low, high, min, icr, cluster; } ipi;
	bool yields_cpu, wakes;
} mock_told;

/* Called in the middle of a request, when a device or a handler runs: another vCPU at work. */
static void (*mock_meanwhile)(void);

static inline void meanwhile(void)
{
	if (mock_meanwhile != NULL)
		mock_meanwhile();
}

/* --- memory --- */

void *vm_ram_ptr(struct vm *vm, gpa_t gpa, size_t *len, bool write)
{
	if (!write && gpa >= MOCK_ROM && gpa < MOCK_ROM + MOCK_ROM_SIZE) {
		*len = MIN(*len, MOCK_ROM + MOCK_ROM_SIZE - gpa);
		return mock_rom + (gpa - MOCK_ROM);
	}
	if (gpa >= MOCK_RAM || (gpa >= MOCK_HOLE && gpa < MOCK_HOLE_END))
		return NULL;
	*len = MIN(*len, (gpa < MOCK_HOLE ? MOCK_HOLE : MOCK_RAM) - gpa);
	return mock_ram + gpa;
}

static int copy_ram(gpa_t gpa, u8 *buf, size_t len, bool write)
{
	for (size_t done = 0, part; done < len; done += part) {
		part = len - done;
		if (vm_ram_ptr(&mock_vm, gpa + done, &part, write) == NULL)
			return -EFAULT;
	}
	for (size_t done = 0, part; done < len; done += part) {
		u8 *p;

		part = len - done;
		p = vm_ram_ptr(&mock_vm, gpa + done, &part, write);
		memcpy(write ? p : buf + done, write ? buf + done : p, part);
	}
	return 0;
}

int vm_memory_read(struct vdev_host *h, gpa_t gpa, void *buf, size_t len)
{
	return copy_ram(gpa, buf, len, false);
}

int vm_memory_write(struct vdev_host *h, gpa_t gpa, const void *buf, size_t len)
{
	return copy_ram(gpa, (u8 *)(uintptr_t)buf, len, true);
}

/* --- devices --- */

/* A port reads as its number, low byte first, plus how often it was read. */
u32 port_read(struct vcpu *v, u16 port, u32 size)
{
	u32 mask = size == 4 ? ~0U : (1U << 8 * size) - 1;

	meanwhile();
	if (port < MOCK_PORT || port >= MOCK_PORT + 16)
		return mask;
	mock_told.ins++;
	mock_told.port = port;
	mock_told.size = size;
	return (port + mock_told.ins * 0x01010101) & mask;
}

void port_write(struct vcpu *v, u16 port, u32 size, u32 value)
{
	mock_told.port = port;
	mock_told.size = size;
	mock_told.last = value;
	mock_told.outs++;
	for (u32 i = 0; i < size && mock_told.out_bytes < MOCK_LOG; i++)
		mock_told.out[mock_told.out_bytes++] = (u8)(value >> 8 * i);
	meanwhile();
}

u64 mmio_read(struct vcpu *v, gpa_t gpa, u32 size)
{
	u64 value = 0;

	meanwhile();
	assert_true((gpa & ~PAGE_MASK) + size <= PAGE_SIZE);
	mock_told.mmio_reads++;
	if ((gpa & PAGE_MASK) != MOCK_DEVICE)
		return ~0UL;
	memcpy(&value, mock_told.device + (gpa & ~PAGE_MASK), size);
	return value;
}

void mmio_write(struct vcpu *v, gpa_t gpa, u32 size, u64 value)
{
	meanwhile();
	assert_true((gpa & ~PAGE_MASK) + size <= PAGE_SIZE);
	mock_told.mmio_writes++;
	if ((gpa & PAGE_MASK) == MOCK_DEVICE)
		memcpy(mock_told.device + (gpa & ~PAGE_MASK), &value, size);
}

/* --- around core's handlers --- */

u32 emulate_string_io(struct vcpu *v) { fail(); return 0; } /* would need the guest's memory */
u32 emulate_mmio(struct vcpu *v) { fail(); return 0; }
void vcpu_state_set_xcr0(struct vcpu *v, u64 value) { fail(); }
u64 vcpu_state_xcr0_mask(void) { return mock_xcr0_mask; }
u64 vcpu_state_xcr0(struct vcpu *v) { return v->guest_xcr0; }
void vcpu_state_set_tsc_aux(struct vcpu *v, u64 value) { v->msr_tsc_aux = value; }
bool sched_others_wait(const struct vcpu *v) { return false; }
bool vcpu_wakes(struct vcpu *v) { return mock_told.wakes; }
void vcpu_hazard(struct vcpu *v, u32 bits) { v->hazards |= bits; }
void trace_write(u32 vm, u32 vcpu, u32 kind, u64 a, u64 b)
{
	mock_told.traces++;
	/* An operand that is a guest's register must not get here. */
	assert_true(b == 0 || a == VEXIT_IO);
}
void trace_record(const struct trace_record *r)
{
	mock_told.records++;
	mock_told.record = *r;
}

void vcpu_inject_exception(struct vcpu *v, u8 vector, bool has_error, u32 error)
{
	assert_int_equal(v->event.type, VEVENT_NONE);
	v->event = (struct vevent){ VEVENT_EXCEPTION, vector, has_error, error };
	v->hazards |= HAZ_EVENT;
}

static void say(char *to, const char *fmt, va_list ap)
{
	vsnprintf(to, 256, fmt, ap);
}

void vcpu_fatal(struct vcpu *v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(mock_told.fatal, fmt, ap);
	va_end(ap);
	mock_told.fatals++;
}

void vdev_log(struct vdev_host *h, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(mock_told.log, fmt, ap);
	va_end(ap);
	mock_told.logs++;
}

int vlapic_msr_read(struct vlapic *l, u32 msr, u64 *value)
{
	*value = msr;
	return msr == 0x8ff ? -EINVAL : 0;
}
int vlapic_msr_write(struct vlapic *l, u32 msr, u64 value)
{
	mock_told.lapic_writes++;
	meanwhile();
	return value == 666 ? -EINVAL : 0;
}
void vlapic_tsc_changed(struct vlapic *l) {}
void pv_cpuid(const struct vm *m, struct cpuid_entry *leaf) { leaf[0].eax = 0x40000001; }
void pv_eoi_settle(struct vcpu *v) {}
void pv_clock_update(struct vcpu *v) {}
int pv_msr_read(struct vcpu *v, u32 msr, u64 *value) { *value = msr; return 0; }
int pv_msr_write(struct vcpu *v, u32 msr, u64 value) { return 0; }
s64 pv_send_ipi_any(const struct vcpu *v, u64 mask)
{
	mock_told.ipis++;
	mock_told.ipi.low = v->gpr[GPR_RBX] & mask;
	mock_told.ipi.high = v->gpr[GPR_RCX] & mask;
	mock_told.ipi.min = v->gpr[GPR_RDX] & mask;
	mock_told.ipi.icr = v->gpr[GPR_RSI] & mask;
	mock_told.ipi.cluster = mask == ~0UL ? 64 : 32;
	return 3;
}
void pv_kick(struct vm *vm, u64 apic_id) { mock_told.kicks++; }
bool pv_yield(struct vcpu *v, u64 apic_id)
{
	mock_told.yields++;
	return mock_told.yields_cpu;
}

/* What the backend shows of an encrypted guest: what the traps told, the time offset, no more. */
static int get_reg(struct vcpu *v, enum vreg reg, u64 *value)
{
	*value = 0;
	if (v->trap_protected && reg != VREG_CR4)
		return -EACCES;
	if (reg == VREG_CR4)
		*value = mock_cr4;
	return 0;
}
static int set_reg(struct vcpu *v, enum vreg reg, u64 value)
{
	return v->trap_protected && reg != VREG_TSC_OFFSET ? -EACCES : 0;
}
static int get_seg(struct vcpu *v, enum vseg seg, struct vsegment *s) { return -EACCES; }
static u32 code_state(struct vcpu *v) { return VCODE_64; }
static void sync_tpr(struct vcpu *v) {}
static const char *exit_name(u64 code) { return "?"; }
static const struct virt_backend mock_backend = { .get_reg = get_reg, .set_reg = set_reg,
						  .get_seg = get_seg, .code_state = code_state, .sync_tpr = sync_tpr,
						  .exit_name = exit_name, .cpuid = svm_guest_cpuid,
						  .msr_read = svm_msr_read, .msr_write = svm_msr_write };
const struct virt_backend *virt = &mock_backend;

/* --- the vCPUs --- */

static inline void make_vcpu(struct vcpu *v, struct vm *vm)
{
	memset(vm, 0, sizeof(*vm));
	memset(v, 0, sizeof(*v));
	vm->vcpus = 2;
	vm->id = 3;
	vm->vcpu[1] = v;
	vm->msrs = &mock_msrs;
	vm->pv.features = PV_ALL;
	v->vm = vm;
	v->id = v->apic_id = 1;
	v->tsc_offset = 1UL << 40;
	v->msr_tsc_aux = 0x77;
	v->guest_xcr0 = 1;
}

static inline int mock_setup(void **state)
{
	memset(mock_ram, 0xee, sizeof(mock_ram));
	memset(mock_rom, 0xaa, sizeof(mock_rom));
	memset(&mock_told, 0, sizeof(mock_told));
	memset(&mock_es, 0, sizeof(mock_es));
	memset(&mock_es_vm, 0, sizeof(mock_es_vm));
	memset(&mock_copy, 0xcc, sizeof(mock_copy));
	mock_meanwhile = NULL;
	mock_cr4 = 0;
	mock_xcr0_mask = 7;
	trace_flags = 0;
	make_vcpu(&mock_plain, &mock_plain_vm);
	make_vcpu(&mock_v, &mock_vm);
	mock_vm.es = &mock_es_vm;
	mock_v.es = &mock_es;
	mock_v.trap_protected = true;
	mock_es.ghcb_msr = &mock_ghcb_msr;
	mock_es.copy = &mock_copy;
	mock_es_vm.min_version = GHCB_VERSION_MIN;
	vm_msrs_reset(&mock_msrs, false);
	cpuid_build(&mock_plain);
	cpuid_build(&mock_v);
	ghcb_reset(&mock_v);
	return 0;
}

/* --- the guest's side of a GHCB --- */

#define PAGE_GPA 0x5000UL

static inline struct ghcb *guest_page(void)
{
	return (struct ghcb *)(mock_ram + PAGE_GPA);
}

/* An event with all fields that every event needs, in a page that is otherwise garbage. */
static inline struct ghcb *ask(u64 event, u64 info1, u64 info2)
{
	struct ghcb *g = guest_page();

	memset(g, 0xee, sizeof(*g));
	g->valid_bitmap[0] = g->valid_bitmap[1] = 0;
	g->ghcb_usage = 0;
	g->protocol_version = 2;
	ghcb_set(g, sw_exitcode, event);
	ghcb_set(g, sw_exitinfo1, info1);
	ghcb_set(g, sw_exitinfo2, info2);
	return g;
}

static inline u32 vmgexit(void)
{
	mock_ghcb_msr = PAGE_GPA;
	return ghcb_vmgexit(&mock_v);
}

static inline u64 msr_protocol(u64 request)
{
	mock_ghcb_msr = request;
	assert_int_equal(ghcb_vmgexit(&mock_v), VRESULT_RETRY);
	return mock_ghcb_msr;
}

/* The answer's class and error: info1 is 0, 1 or 2. */
#define assert_answer(i1, i2)                                                   \
	do {                                                                    \
		const struct ghcb *g_ = guest_page();                           \
		assert_true(ghcb_has(g_, sw_exitinfo1) && ghcb_has(g_, sw_exitinfo2)); \
		assert_int_equal(g_->sw_exitinfo1, (i1));                       \
		assert_int_equal(g_->sw_exitinfo2, (i2));                       \
	} while (0)
#define assert_ok() assert_answer(0, 0)
#define assert_error(e) assert_answer(2, (e))
/* #GP(0), by the manual: vector 13, type 3, error code valid, valid. */
#define assert_gp() assert_answer(1, 0x80000b0dUL)

#endif
