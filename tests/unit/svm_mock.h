/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_TESTS_SVM_MOCK_H
#define RAVELIN_TESTS_SVM_MOCK_H

/* What the SVM backend's files need around them, for its unit tests: one vCPU on one CPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/cpu.h"
#include "arch/x86/emulate.h"
#include "arch/x86/emulate_known.h"
#include "arch/x86/gwalk.h"
#include "arch/x86/lapic.h"
#include "arch/x86/msr.h"
#include "arch/x86/percpu.h"
#include "arch/x86/svm/svm.h"
#include "arch/x86/traps.h"
#include "core/errno.h"
#include "core/trace.h"

struct svm_machine svm;
PERCPU struct percpu percpu;
u32 trace_flags;

static struct {
	struct vmcb vmcb;
	struct svm_vcpu sv;
	struct vcpu v;
	struct vm vm;
	struct svm_cpu cpu;

	/* vcpu_dispatch(): what it saw, what it answers */
	u32 dispatched;
	struct vexit seen;
	u64 seen_rax;
	u32 result;
	void (*on_dispatch)(struct vcpu *v);

	/* the virtual LAPIC: one request, the TPR decides */
	int irr, accepted, next; /* next: requested right after */
	u8 tpr;

	/* guest memory at RIP */
	u8 code[16];
	int code_len; /* or a negative errno */

	/* vdev_bus_port_read() and _write() */
	u32 port_reads, port_writes, port;
	u8 port_value;

	/* device memory */
	u32 mmio_reads, mmio_writes, mmio_size;
	gpa_t mmio_gpa;
	u64 mmio_value;

	/* msr_read() and msr_write() */
	u32 msr_reads, msr_writes, msr;
	u32 eois;
	u64 msr_value;
	int msr_error;

	/* vcpu_halt() */
	u32 halts;
	bool halt_if, halted;

	/* cpuid_dynamic() */
	u32 cpuids, cpuid_leaf, cpuid_subleaf;
	u64 cpuid_cr4;
	struct cpuid_entry cpuid;

	u32 ipis; /* pv_send_ipi() */
	u64 ipi_min;

	u32 kicks, windows, vmloads, vmsaves;
} mock;

struct svm_cpu *svm_this_cpu(void) { return &mock.cpu; }
void svm_clgi(void) { }
void svm_stgi(void) { }
void svm_gif_window(void) { mock.windows++; }
void svm_vmload(paddr_t pa) { mock.vmloads++; }
void svm_vmsave(paddr_t pa) { mock.vmsaves++; }
void ipi_send(u32 cpu, u8 vector) { mock.kicks += vector == VECTOR_KICK; }

u32 vcpu_dispatch(struct vcpu *v)
{
	mock.dispatched++;
	mock.seen = v->exit;
	mock.seen_rax = v->gpr[GPR_RAX];
	if (mock.on_dispatch)
		mock.on_dispatch(v);
	return mock.result;
}

u32 dispatch_io(struct vcpu *v) { return vcpu_dispatch(v); }

int msr_read(struct vcpu *v, u32 msr, u64 *value)
{
	mock.msr_reads++;
	mock.msr = msr;
	*value = mock.msr_value;
	return mock.msr_error;
}

int msr_write(struct vcpu *v, u32 msr, u64 value)
{
	mock.msr_writes++;
	mock.msr = msr;
	mock.msr_value = value;
	return mock.msr_error;
}

bool vcpu_halt(struct vcpu *v, bool interruptible)
{
	mock.halts++;
	mock.halt_if = interruptible;
	return mock.halted;
}

const struct cpuid_entry *cpuid_dynamic(struct vcpu *v, u32 leaf, u32 subleaf, u64 cr4)
{
	mock.cpuids++;
	mock.cpuid_leaf = leaf;
	mock.cpuid_subleaf = subleaf;
	mock.cpuid_cr4 = cr4;
	return &mock.cpuid;
}

s64 pv_send_ipi(const struct vcpu *v)
{
	mock.ipis++;
	mock.ipi_min = v->gpr[GPR_RDX];
	return 7;
}

u32 vdev_bus_port_read(const struct vdev_bus *bus, u16 port, u32 size)
{
	mock.port_reads += size;
	mock.port = port;
	return mock.port_value;
}

void vdev_bus_port_write(const struct vdev_bus *bus, u16 port, u32 size, u32 value)
{
	mock.port_writes += size;
	mock.port = port;
	mock.port_value = (u8)value;
}

u64 mmio_read(struct vcpu *v, gpa_t gpa, u32 size)
{
	mock.mmio_reads++;
	mock.mmio_gpa = gpa;
	mock.mmio_size = size;
	return mock.mmio_value;
}

void mmio_write(struct vcpu *v, gpa_t gpa, u32 size, u64 value)
{
	mock.mmio_writes++;
	mock.mmio_gpa = gpa;
	mock.mmio_size = size;
	mock.mmio_value = value;
}

void vcpu_inject_exception(struct vcpu *v, u8 vector, bool has_error, u32 error)
{
	v->event = (struct vevent){ VEVENT_EXCEPTION, vector, has_error, error };
	v->hazards |= HAZ_EVENT;
}

int vlapic_pending(struct vlapic *l) { return mock.irr >> 4 > mock.tpr >> 4 ? mock.irr : -1; }
int vlapic_blocked(struct vlapic *l)
{
	return mock.irr >= 0 && mock.irr >> 4 <= mock.tpr >> 4 ? mock.irr : -1;
}
int vlapic_accept(struct vlapic *l)
{
	if (vlapic_pending(l) < 0)
		return -1;
	mock.accepted = mock.irr;
	mock.irr = mock.next;
	return mock.accepted;
}
/* What waited behind the one in service is to be looked at. */
void vlapic_eoi(struct vlapic *l)
{
	assert_ptr_equal(l, &mock.v.lapic);
	mock.eois++;
	mock.v.hazards |= HAZ_IRQ;
}
void vlapic_set_tpr_hw(struct vlapic *l, u8 tpr)
{
	mock.tpr = tpr;
	l->tpr = tpr;
}

/* Nobody here has paravirtual EOI on. */
void pv_eoi_settle(struct vcpu *v) { }
int pv_eoi_accept(struct vcpu *v) { return vlapic_accept(&v->lapic); }

int gwalk_load(struct vcpu *v, struct gwalk_ctx *ctx)
{
	memset(ctx, 0, sizeof(*ctx));
	ctx->mode = INSN_MODE_64;
	return 0;
}

int guest_fetch(struct vcpu *v, const struct gwalk_ctx *ctx, u64 rip, u8 *buf, struct guest_fault *f)
{
	if (mock.code_len > 0)
		memcpy(buf, mock.code, (size_t)mock.code_len);
	return mock.code_len;
}

int insn_length_at_rip(struct vcpu *v)
{
	struct insn insn;

	if (mock.code_len < 0)
		return mock.code_len;
	if (insn_decode(&insn, mock.code, (size_t)mock.code_len, INSN_MODE_64) < 0)
		return -EINVAL;
	return insn.len;
}

static inline void set_code(const char *bytes, int n)
{
	memcpy(mock.code, bytes, (size_t)n);
	mock.code_len = n;
}

/* A 64-bit guest with interrupts open, on a CPU with all features. */
static int mock_setup(void **state)
{
	memset(&mock, 0, sizeof(mock));
	memset(&svm, 0, sizeof(svm));
	trace_flags = 0;
	percpu.id = 0;
	svm.asids = 16;
	svm.first_asid = 1;
	svm.features = SVM_FEAT_NP | SVM_FEAT_FLUSH_ASID;
	svm.nrips = svm.decode = true;
	svm.clean = VMCB_CLEAN_ALL;
	mock.irr = mock.accepted = mock.next = -1;
	mock.v.arch = &mock.sv;
	mock.v.vm = &mock.vm;
	mock.sv.vmcb = &mock.vmcb;
	mock.sv.vmcb_pa = 0x1000;
	mock.sv.cpu = ~0U;
	mock.cpu.asid_next = 1;
	mock.vmcb.efer = EFER_SVME | EFER_LMA | EFER_LME;
	mock.vmcb.cs.attr = 0xa9b;
	mock.vmcb.rflags = RFLAGS_FIXED1 | RFLAGS_IF;
	mock.vmcb.rip = 0x1000;
	mock.vmcb.vintr = VMCB_V_INTR_MASKING;
	mock.vmcb.intercept_exception = SVM_EXCEPTIONS_ALWAYS;
	mock.vmcb.clean = VMCB_CLEAN_ALL;
	return 0;
}

#endif
