/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_TESTS_VMX_MOCK_H
#define RAVELIN_TESTS_VMX_MOCK_H

/* What the VMX backend's files need around them, for its unit tests: two vCPUs, two CPUs. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/cpu.h"
#include "arch/x86/emulate.h"
#include "arch/x86/msr.h"
#include "arch/x86/percpu.h"
#include "arch/x86/smp.h"
#include "arch/x86/traps.h"
#include "arch/x86/vcpu_state.h"
#include "arch/x86/vmx/vmx.h"
#include "core/errno.h"
#include "core/heap.h"
#include "core/pmm.h"
#include "core/trace.h"

struct vmx_machine vmx;
PERCPU struct percpu percpu;
struct cpu_features cpu_features;
u32 trace_flags;
const char vmx_exit_point[1], vmx_exit_point_guarded[1];

#define MOCK_FIELDS 0x7000
#define MOCK_VCPUS 2
#define MOCK_CPUS 2

static struct {
	/* One VMCS a vCPU; the physical address of a VMCS is its number plus 1 pages. */
	u64 fields[MOCK_VCPUS][MOCK_FIELDS];
	struct vmx_vcpu vx[MOCK_VCPUS];
	struct vcpu v[MOCK_VCPUS];
	struct vm vm;
	struct vmx_cpu cpu[MOCK_CPUS];
	u8 tpr_page[MOCK_VCPUS][4096];

	/* Registers of the CPUs */
	int loaded[MOCK_CPUS];      /* current VMCS, -1 none */
	int active[MOCK_VCPUS];     /* CPU on which it is active, -1 none */
	u64 msr[MOCK_CPUS][0x2000]; /* by the low bits of the number */
	u64 cr2, dr6;

	u32 reads, writes, rdmsrs, wrmsrs, calls;
	u32 invepts, invvpids;
	/* A tagged TLB: per CPU and vCPU, what translations the CPU may keep were made from. */
	u64 tlb_ept[MOCK_CPUS][MOCK_VCPUS], tlb_guest[MOCK_CPUS][MOCK_VCPUS]; /* 0: none */
	u64 invept_type, invept_eptp;
	u16 invvpid_vpid;

	u32 dispatched;
	struct vexit seen;
	u32 result;
	u32 set_len; /* v->exit.insn_len as the handler leaves it */

	u32 handlers;
	u64 handler;
	bool fatal;
	int irr, accepted;
	u8 tpr;
	int length_at_rip;
	u8 ram[4096];
} mock;

static u64 *fields(void)
{
	assert_true(mock.loaded[percpu.id] >= 0);
	return mock.fields[mock.loaded[percpu.id]];
}

u64 vmx_read(u32 field)
{
	assert_true(field < MOCK_FIELDS);
	mock.reads++;
	return fields()[field];
}

void vmx_write(u32 field, u64 value)
{
	assert_true(field < MOCK_FIELDS);
	mock.writes++;
	fields()[field] = value;
}

static int vmcs_index(paddr_t pa) { return (int)(pa >> 12) - 1; }

int vmx_vmclear(paddr_t pa)
{
	int i = vmcs_index(pa);

	/* Elsewhere it would not reach the copy in that CPU. */
	assert_true(mock.active[i] < 0 || mock.active[i] == (int)percpu.id);
	mock.active[i] = -1;
	if (mock.loaded[percpu.id] == i)
		mock.loaded[percpu.id] = -1;
	return 0;
}

int vmx_vmptrld(paddr_t pa)
{
	int i = vmcs_index(pa);

	assert_true(mock.active[i] < 0 || mock.active[i] == (int)percpu.id);
	mock.active[i] = (int)percpu.id;
	mock.loaded[percpu.id] = i;
	return 0;
}

void vmx_invept(u64 type, u64 eptp)
{
	mock.invepts++;
	for (int i = 0; i < MOCK_VCPUS; i++)
		if (type == INV_ALL || mock.vx[i].eptp == eptp)
			mock.tlb_ept[percpu.id][i] = mock.tlb_guest[percpu.id][i] = 0;
	mock.invept_type = type;
	mock.invept_eptp = eptp;
}

void vmx_invvpid(u64 type, u16 vpid)
{
	mock.invvpids++;
	for (int i = 0; i < MOCK_VCPUS; i++)
		if (mock.vx[i].vpid == vpid)
			mock.tlb_guest[percpu.id][i] = 0;
	mock.invvpid_vpid = vpid;
}

u64 vmx_rdmsr(u32 msr)
{
	mock.rdmsrs++;
	return mock.msr[percpu.id][msr & 0x1fff];
}

void vmx_wrmsr(u32 msr, u64 value)
{
	mock.wrmsrs++;
	mock.msr[percpu.id][msr & 0x1fff] = value;
}

u64 vmx_read_cr2(void) { return mock.cr2; }
void vmx_write_cr2(u64 value) { mock.cr2 = value; }
u64 vmx_read_dr6(void) { return mock.dr6; }
void vmx_write_dr6(u64 value) { mock.dr6 = value; }
u64 vmx_read_cr3(void) { return 0x7000 + percpu.id; }
u64 vmx_irq_save(void) { return 0; }
void vmx_irq_restore(u64 flags) { }
struct vmx_cpu *vmx_this_cpu(void) { return &mock.cpu[percpu.id]; }

int smp_call(u32 cpu, void (*fn)(void *arg), void *arg)
{
	u32 here = percpu.id;

	mock.calls++;
	percpu.id = cpu;
	fn(arg);
	percpu.id = here;
	return 0;
}

u64 trap_entry(u8 vector) { return 0x1000UL + vector; }
void vmx_call_handler(u64 entry)
{
	mock.handlers++;
	mock.handler = entry;
}

u32 vcpu_dispatch(struct vcpu *v)
{
	mock.dispatched++;
	mock.seen = v->exit;
	v->exit.insn_len = mock.set_len;
	return mock.result;
}

void vcpu_inject_exception(struct vcpu *v, u8 vector, bool has_error, u32 error)
{
	v->event = (struct vevent){ VEVENT_EXCEPTION, vector, has_error, error };
	v->hazards |= HAZ_EVENT;
}

void vcpu_fatal(struct vcpu *v, const char *fmt, ...) { mock.fatal = true; }

int vlapic_pending(struct vlapic *l) { return mock.irr >> 4 > mock.tpr >> 4 ? mock.irr : -1; }
int vlapic_blocked(struct vlapic *l)
{
	return mock.irr >= 0 && mock.irr >> 4 <= mock.tpr >> 4 ? mock.irr : -1;
}
int vlapic_accept(struct vlapic *l)
{
	mock.accepted = mock.irr;
	mock.irr = -1;
	return mock.accepted;
}
void vlapic_set_tpr_hw(struct vlapic *l, u8 tpr)
{
	mock.tpr = tpr;
	l->tpr = tpr;
}

/* Nobody here has paravirtual EOI on. */
void pv_eoi_settle(struct vcpu *v) { }
int pv_eoi_accept(struct vcpu *v) { return vlapic_accept(&v->lapic); }

int insn_length_at_rip(struct vcpu *v) { return mock.length_at_rip; }

void *vm_ram_ptr(struct vm *vm, gpa_t gpa, size_t *len, bool write)
{
	if (gpa >= sizeof(mock.ram))
		return NULL;
	if (*len > sizeof(mock.ram) - gpa)
		*len = sizeof(mock.ram) - gpa;
	return mock.ram + gpa;
}

bool cpuid_has(const struct vcpu *v, u32 leaf, u32 reg, u32 bit)
{
	const struct cpuid_entry *e = &v->cpuid.basic[leaf];
	u32 value = reg == 0 ? e->eax : reg == 1 ? e->ebx : reg == 2 ? e->ecx : e->edx;

	return (value >> bit & 1) != 0;
}

/* vcpu.c's surroundings; only the accessors are used here. */
void *heap_alloc(size_t size) { return NULL; }
void heap_free(void *p) { }
paddr_t alloc_pages(u32 order, u32 flags) { return 0; }
void free_pages(paddr_t pa, u32 order) { }
void *phys_to_virt(paddr_t pa) { return mock.ram; }
int vcpu_state_init(struct vcpu *v) { return -ENOMEM; }
void vcpu_state_destroy(struct vcpu *v) { }
void vcpu_state_reset(struct vcpu *v, bool init) { }

static inline void on_cpu(u32 cpu) { percpu.id = cpu; }
static inline u64 field(u32 f) { return fields()[f]; }
static inline void set_field(u32 f, u64 value) { fields()[f] = value; }

#define CR4_ALLOWED (CR4_PAE | CR4_PGE | CR4_PSE | CR4_MCE | CR4_SMEP | CR4_PCIDE)

/* 64-bit guests with interrupts open on CPUs with all features; vCPU 0 runs on CPU 0. */
static int mock_setup(void **state)
{
	memset(&mock, 0, sizeof(mock));
	memset(&vmx, 0, sizeof(vmx));
	trace_flags = 0;
	percpu.id = 0;
	cpu_features.phys_bits = 40;
	vmx.vpid = vmx.io_info = true;
	vmx.ept_cap = EPT_CAP_INVEPT | EPT_CAP_INVEPT_SINGLE;
	vmx.ctls.proc2 = PROC2_PAUSE_LOOP;
	vmx.cr0_fixed0 = 0x80000021;
	vmx.cr0_fixed1 = 0xffffffff;
	vmx.cr4_fixed0 = CR4_VMXE;
	vmx.cr4_fixed1 = 0x3fffff;
	mock.irr = mock.accepted = -1;
	for (int i = 0; i < MOCK_VCPUS; i++) {
		struct vmx_vcpu *vx = &mock.vx[i];

		mock.v[i].arch = vx;
		mock.v[i].vm = &mock.vm;
		vx->vcpu = &mock.v[i];
		vx->cpu = vx->msr_cpu = NO_CPU;
		vx->vmcs = (paddr_t)(i + 1) << 12;
		vx->tpr = &mock.tpr_page[i][0x80];
		vx->vpid = (u16)(i + 1);
		vx->eptp = 0x10000 * (u64)(i + 1);
		vx->cr0_mask = ~(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_WP | CR0_AM | CR0_PG);
		vx->cr4_allowed = CR4_ALLOWED;
		vx->cr4_mask = ~(CR4_ALLOWED & ~(CR4_MCE | CR4_VMXE));
		mock.active[i] = -1;
		mock.fields[i][VMCS_GUEST_CR0] = CR0_PE | CR0_PG | CR0_NE;
		mock.fields[i][VMCS_GUEST_CR4] = CR4_PAE | CR4_VMXE | CR4_MCE;
		mock.fields[i][VMCS_CR0_SHADOW] = CR0_PE | CR0_PG | CR0_ET;
		mock.fields[i][VMCS_CR4_SHADOW] = CR4_PAE;
		mock.fields[i][VMCS_GUEST_EFER] = EFER_LME | EFER_LMA;
		mock.fields[i][VMCS_ENTRY_CTLS] = ENTRY_IA32E;
		mock.fields[i][VMCS_GUEST_AR(VSEG_CS)] = 0xa09b;
		mock.fields[i][VMCS_GUEST_RFLAGS] = RFLAGS_FIXED1 | RFLAGS_IF;
		mock.fields[i][VMCS_GUEST_RIP] = 0x1000;
	}
	mock.loaded[0] = mock.loaded[1] = -1;
	assert_int_equal(vmx_load(&mock.v[0]), 0);
	mock.v[0].hazards = 0;
	mock.vx[0].running = true;
	mock.reads = mock.writes = mock.rdmsrs = mock.wrmsrs = mock.calls = 0;
	return 0;
}

#endif
