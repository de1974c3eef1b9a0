/* SPDX-License-Identifier: BSD-2-Clause */
// sources: arch/x86/svm/exits.c arch/x86/svm/inject.c arch/x86/svm/asid.c arch/x86/svm/vcpu.c
// sources: arch/x86/svm/names.c arch/x86/decode.c arch/x86/emulate_known.c
/* From #VMEXIT to neutral exit and over the instruction, with hand-made control blocks. */
#include <stdlib.h>

#include "svm_mock.h"

#include "arch/x86/vcpu_state.h"
#include "core/heap.h"
#include "core/pmm.h"
#include "sev/es.h"

/* vcpu.c's surroundings; only the accessors are used here. */
static struct vmcb made_vmcb;
static struct svm_vcpu made;
static paddr_t freed;
void *heap_alloc(size_t size) { return &made; }
void heap_free(void *p) { }
paddr_t alloc_pages(u32 order, u32 flags) { return 0x5000; }
void free_pages(paddr_t pa, u32 order) { freed = pa; }
void *phys_to_virt(paddr_t pa) { return pa == 0x5000 ? &made_vmcb : NULL; }
paddr_t virt_to_phys(const void *va) { return va == &made_vmcb ? 0x5000 : 0; }
int vcpu_state_init(struct vcpu *v) { return 0; }
void vcpu_state_destroy(struct vcpu *v) { }
void vcpu_state_reset(struct vcpu *v, bool init) { }
/* An SEV-ES vCPU is only asked for its registers here. */
int es_vcpu_init(struct vcpu *v) { abort(); }
void es_vcpu_destroy(struct vcpu *v) { }
void es_vcpu_reset(struct vcpu *v, bool init) { abort(); }
int es_get_reg(struct vcpu *v, enum vreg reg, u64 *value) { return -EACCES; }
int es_set_reg(struct vcpu *v, enum vreg reg, u64 value) { return -EACCES; }

static u32 do_exit(u64 code, u64 info1, u64 info2)
{
	mock.vmcb.exitcode = code;
	mock.vmcb.exitinfo1 = info1;
	mock.vmcb.exitinfo2 = info2;
	return svm_exit(&mock.v, &mock.vmcb);
}

/* On a CPU that saves the next RIP and on one that does not. */
static void dispatched_as(u64 code, u64 info1, enum vexit_kind kind)
{
	for (u64 nrip = 0; nrip <= 0x1002; nrip += 0x1002) {
		mock_setup(NULL);
		mock.vmcb.nrip = nrip;
		do_exit(code, info1, 0);
		assert_int_equal(mock.dispatched + mock.msr_reads + mock.msr_writes + mock.halts, 1);
		if (mock.dispatched != 0)
			assert_int_equal(mock.seen.kind, kind);
		assert_int_equal(mock.v.exits[kind], 1);
	}
}

static void test_kinds(void **state)
{
	static const u64 ud[] = { 0x7a, 0x80, 0x82, 0x83, 0x84, 0x85, 0x86, 0x8a, 0x8b, 0x8c, 0x8e,
				  0xa0, 0xa1, 0xa3, 0xa4 };

	dispatched_as(0x6f, 0, VEXIT_RDPMC);
	dispatched_as(0x76, 0, VEXIT_WBINVD);
	dispatched_as(0x77, 0, VEXIT_PAUSE);
	dispatched_as(0x78, 0, VEXIT_HLT);
	dispatched_as(0x7c, 0, VEXIT_RDMSR);
	dispatched_as(0x7c, 1, VEXIT_WRMSR);
	dispatched_as(0x7d, 0, VEXIT_TASK_SWITCH);
	dispatched_as(0x7f, 0, VEXIT_SHUTDOWN);
	dispatched_as(0x81, 0, VEXIT_HYPERCALL);
	dispatched_as(0x89, 0, VEXIT_WBINVD);
	dispatched_as(0x8d, 0, VEXIT_XSETBV);
	for (size_t i = 0; i < ARRAY_SIZE(ud); i++)
		dispatched_as(ud[i], 0, VEXIT_UD);
}

/* Whatever is not asked for ends the VM with the numbers in the report. */
static void test_unknown(void **state)
{
	static const u64 codes[] = {
		0x00, 0x0f, 0x10, 0x17, 0x1f, 0x20, 0x2f, 0x30, 0x3f, 0x65, 0x66, 0x6d, 0x6e,
		0x70, 0x71, 0x73, 0x75, 0x79, 0x7e, 0x87, 0x88, 0x8f, 0x90, 0x9f, 0xa2, 0xa5, 0xa6,
		0xa7, 0xff, 0x3ff, 0x401, 0x402, 0x403, 0x404, 0x405, 0x7fffffffffffffffUL,
		0xffffffffUL, ~0UL, 0xfffffffeUL, ~1UL,
	};

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		mock_setup(NULL);
		do_exit(codes[i], 0x11, 0x22);
		assert_int_equal(mock.seen.kind, VEXIT_FATAL);
		assert_int_equal(mock.seen.fatal.code, codes[i]);
		assert_int_equal(mock.seen.fatal.info1, 0x11);
		assert_int_equal(mock.seen.fatal.info2, 0x22);
		assert_non_null(mock.seen.fatal.why);
	}
}

static void test_names(void **state)
{
	for (u64 code = 0; code < 0x500; code++)
		assert_non_null(svm_exit_name(code));
	assert_string_equal(svm_exit_name(0x60), "INTR");
	assert_string_equal(svm_exit_name(0x72), "CPUID");
	assert_string_equal(svm_exit_name(0x7f), "SHUTDOWN");
	assert_string_equal(svm_exit_name(0x81), "VMMCALL");
	assert_string_equal(svm_exit_name(0x8d), "XSETBV");
	assert_string_equal(svm_exit_name(0x9f), "CR15_WRITE_TRAP");
	assert_string_equal(svm_exit_name(0xa6), "IDLE_HLT");
	assert_string_equal(svm_exit_name(0xa7), "unknown");
	assert_string_equal(svm_exit_name(0x400), "NPF");
	assert_string_equal(svm_exit_name(0xffffffff), "INVALID");
	assert_string_equal(svm_exit_name(~0UL), "INVALID");
}

static void test_host_events(void **state)
{
	static const struct {
		u64 code;
		enum vexit_kind kind;
	} cases[] = { { 0x60, VEXIT_INTERRUPT }, { 0x61, VEXIT_NMI }, { 0x62, VEXIT_INTERRUPT },
		      { 0x63, VEXIT_INTERRUPT } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		mock_setup(NULL);
		mock.sv.loaded = true;
		mock.v.hazards = HAZ_RESCHED;
		assert_int_equal(do_exit(cases[i].code, 0, 0), HAZ_RESCHED);
		assert_int_equal(mock.windows, 1);
		assert_int_equal(mock.vmsaves, 1); /* the guest's */
		assert_int_equal(mock.vmloads, 2); /* the host's, the guest's */
		assert_true(mock.sv.loaded);
		assert_int_equal(mock.dispatched, 0);
		assert_int_equal(mock.v.exits[cases[i].kind], 1);
	}
	dispatched_as(0x52, 0, VEXIT_MCE);
}

static void test_io(void **state)
{
	/* in ax, dx: IN, SZ16, port 0x71; next RIP two bytes on */
	mock.result = VRESULT_ADVANCE;
	do_exit(0x7b, 0x71UL << 16 | 1UL << 8 | 1UL << 5 | 1, 0x1002);
	assert_int_equal(mock.seen.kind, VEXIT_IO);
	assert_int_equal(mock.seen.io.port, 0x71);
	assert_int_equal(mock.seen.io.size, 2);
	assert_true(mock.seen.io.in);
	assert_false(mock.seen.io.string);
	assert_int_equal(mock.vmcb.rip, 0x1002);
	mock.result = VRESULT_RETRY;

	mock.vmcb.rip = 0x1000;
	/* rep outsd with a 64-bit address and FS: no look at memory with decode assists */
	mock.code_len = -EFAULT;
	do_exit(0x7b, 0xfffcUL << 16 | 4UL << 10 | 1UL << 9 | 1UL << 6 | 0xc, 0x1003);
	assert_int_equal(mock.seen.io.port, 0xfffc);
	assert_int_equal(mock.seen.io.size, 4);
	assert_false(mock.seen.io.in);
	assert_true(mock.seen.io.string && mock.seen.io.rep);
	assert_int_equal(mock.seen.io.addr_size, 8);
	assert_int_equal(mock.seen.io.seg, VSEG_FS);
	assert_int_equal(mock.seen.insn_len, 3);
}

static struct { u64 offset; u32 size; u64 value; u32 reads, writes; } device;

static u64 device_read(void *dev, u64 offset, u32 size)
{
	device.offset = offset;
	device.size = size;
	device.reads++;
	return device.value;
}

static void device_write(void *dev, u64 offset, u32 size, u64 value)
{
	device.offset = offset;
	device.size = size;
	device.value = value;
	device.writes++;
}

/* One byte goes to its device at once; of RAX only AL changes. */
static void test_byte_io(void **state)
{
	struct vdev_bus *bus = &mock.vm.platform.bus;
	const u64 in = 1UL << 4 | 1, out = 1UL << 4;

	memset(&device, 0, sizeof(device));
	bus->ports = 1;
	bus->port[0] = (struct vdev_range){ 0x70, 2, device_read, device_write, NULL, "clock", 1 };
	bus->port_index[0x70] = bus->port_index[0x71] = 1;
	device.value = 0x1ab;
	mock.vmcb.rax = 0x1122334455667788;
	do_exit(0x7b, 0x71UL << 16 | in, 0x1002);
	assert_int_equal(device.reads, 1);
	assert_int_equal(device.offset, 1);
	assert_int_equal(device.size, 1);
	assert_int_equal(mock.vmcb.rax, 0x11223344556677ab);
	assert_int_equal(mock.vmcb.rip, 0x1002);
	do_exit(0x7b, 0x70UL << 16 | out, 0x1004);
	assert_int_equal(device.writes, 1);
	assert_int_equal(device.offset, 0);
	assert_int_equal(device.value, 0xab);
	/* Nobody's port. */
	do_exit(0x7b, 0x72UL << 16 | out, 0x1006);
	do_exit(0x7b, 0x72UL << 16 | in, 0x1008);
	assert_int_equal(mock.vmcb.rax, 0x11223344556677ff);
	assert_int_equal(device.reads + device.writes, 2);
	assert_int_equal(mock.port_reads + mock.port_writes, 0);
	/* Beyond what the bus finds by one look. */
	mock.port_value = 0x5a;
	do_exit(0x7b, 0xffffUL << 16 | in, 0x100a);
	assert_int_equal(mock.port_reads, 1);
	assert_int_equal(mock.port, 0xffff);
	assert_int_equal(mock.vmcb.rax, 0x112233445566775a);
	do_exit(0x7b, 0x1000UL << 16 | out, 0x100c);
	assert_int_equal(mock.port_writes, 1);
	assert_int_equal(mock.port, 0x1000);
	assert_int_equal(mock.vmcb.rip, 0x100c);
	assert_int_equal(mock.v.exits[VEXIT_IO], 6);
	assert_int_equal(mock.dispatched, 0);

	trace_flags = TRACE_EVENTS; /* what is traced goes the long way */
	do_exit(0x7b, 0x71UL << 16 | in, 0x100e);
	assert_int_equal(mock.dispatched, 1);
	assert_int_equal(device.reads, 1);
}

static void test_efer(void **state)
{
	mock.vmcb.nrip = 0x1002;
	mock.v.gpr[GPR_RCX] = MSR_EFER;
	mock.vmcb.rax = mock.v.gpr[GPR_RDX] = ~0UL;
	do_exit(0x7c, 0, 0);
	assert_int_equal(mock.vmcb.rax, EFER_LMA | EFER_LME); /* SVME is not the guest's */
	assert_int_equal(mock.v.gpr[GPR_RDX], 0);
	assert_int_equal(mock.vmcb.rip, 0x1002);
	do_exit(0x7c, 1, 0); /* writes what is there */
	assert_int_equal(mock.msr_reads + mock.msr_writes, 0);
	assert_int_equal(mock.vmcb.efer, EFER_SVME | EFER_LMA | EFER_LME);

	/* SCE is the guest's; SVME stays, and the CPU is told. */
	mock.vmcb.rax |= EFER_SCE;
	mock.vmcb.clean = VMCB_CLEAN_ALL;
	do_exit(0x7c, 1, 0);
	assert_int_equal(mock.vmcb.efer, EFER_SVME | EFER_LMA | EFER_LME | EFER_SCE);
	assert_int_equal(mock.vmcb.clean, VMCB_CLEAN_ALL & ~VMCB_CLEAN_CRX);
	mock.v.cpuid.ext[1].edx = BIT32(20);
	mock.vmcb.rax = EFER_LMA | EFER_LME | EFER_NXE;
	mock.vmcb.rip = 0x1000;
	do_exit(0x7c, 1, 0);
	assert_int_equal(mock.vmcb.efer, EFER_SVME | EFER_LMA | EFER_LME | EFER_NXE);
	assert_int_equal(mock.vmcb.rip, 0x1002);
	assert_int_equal(mock.msr_writes, 0);
	assert_int_equal(mock.v.exits[VEXIT_WRMSR], 3);
}

/* All else about EFER is core's to judge. */
static void test_efer_not_quick(void **state)
{
	static const u64 values[] = {
		EFER_LMA | EFER_LME | EFER_NXE,             /* CPUID does not offer it */
		EFER_LMA | EFER_LME | BIT(32),              /* reserved */
		EFER_LMA | EFER_LME | EFER_SVME,
		EFER_LMA | EFER_LME | EFER_FFXSR,
		EFER_LMA, EFER_LME, 0,
	};

	mock.vmcb.nrip = 0x1002;
	mock.v.gpr[GPR_RCX] = MSR_EFER;
	for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
		mock.vmcb.rax = (u32)values[i];
		mock.v.gpr[GPR_RDX] = values[i] >> 32;
		do_exit(0x7c, 1, 0);
		assert_int_equal(mock.msr_writes, i + 1);
		assert_int_equal(mock.msr, MSR_EFER);
		assert_int_equal(mock.msr_value, values[i]);
		assert_int_equal(mock.vmcb.efer, EFER_SVME | EFER_LMA | EFER_LME);
	}
}

/* Other MSRs are core's, which may refuse: then RIP and registers stay, and #GP waits. */
static void test_msr(void **state)
{
	mock.vmcb.nrip = 0x1002;
	mock.v.gpr[GPR_RCX] = 0xffffffff00000010;
	mock.v.gpr[GPR_RDX] = 0xaaaaaaaa00000001;
	mock.vmcb.rax = 0xbbbbbbbb00000002;
	assert_int_equal(do_exit(0x7c, 1, 0), 0);
	assert_int_equal(mock.msr, 0x10);
	assert_int_equal(mock.msr_value, 0x100000002);
	assert_int_equal(mock.vmcb.rip, 0x1002);
	assert_int_equal(mock.v.exits[VEXIT_WRMSR], 1);
	mock.msr_value = 0x1122334455667788;
	assert_int_equal(do_exit(0x7c, 0, 0), 0);
	assert_int_equal(mock.vmcb.rax, 0x55667788);
	assert_int_equal(mock.v.gpr[GPR_RDX], 0x11223344);
	assert_int_equal(mock.v.exits[VEXIT_RDMSR], 1);

	mock.msr_error = -EINVAL;
	mock.msr_value = 0;
	for (u64 write = 0; write < 2; write++) {
		mock.vmcb.rip = 0x2000;
		mock.v.event.type = VEVENT_NONE;
		mock.v.hazards = 0;
		assert_int_equal(do_exit(0x7c, write, 0), HAZ_EVENT);
		assert_int_equal(mock.v.event.vector, VEC_GP);
		assert_true(mock.v.event.has_error);
		assert_int_equal(mock.vmcb.rip, 0x2000);
		assert_int_equal(mock.vmcb.rax, 0x55667788);
		assert_int_equal(mock.v.gpr[GPR_RDX], 0x11223344);
	}
}

/* Two that need no more of core than a look. */
static void test_msr_read_quick(void **state)
{
	mock.vmcb.nrip = 0x1002;
	mock.v.lapic.base_msr = 0x1fee00900;
	mock.v.gpr[GPR_RCX] = 0xffffffff0000001b;
	mock.vmcb.rax = ~0UL;
	assert_int_equal(do_exit(0x7c, 0, 0), 0);
	assert_int_equal(mock.vmcb.rax, 0xfee00900);
	assert_int_equal(mock.v.gpr[GPR_RDX], 1);
	assert_int_equal(mock.vmcb.rip, 0x1002);
	mock.v.gpr[GPR_RCX] = 0xfe;
	assert_int_equal(do_exit(0x7c, 0, 0), 0);
	assert_int_equal(mock.vmcb.rax, 0x508);
	assert_int_equal(mock.v.gpr[GPR_RDX], 0);
	assert_int_equal(mock.msr_reads, 0);
	assert_int_equal(mock.v.exits[VEXIT_RDMSR], 2);
}

/* EOI of an x2APIC goes to the LAPIC straight; the interrupt shadow ends, hazards are told. */
static void test_eoi_quick(void **state)
{
	mock.vmcb.nrip = 0x1002;
	mock.vmcb.int_state = 1;
	mock.v.lapic.mode = VLAPIC_X2APIC;
	mock.v.gpr[GPR_RCX] = 0xffffffff0000080b;
	mock.v.gpr[GPR_RDX] = mock.vmcb.rax = 0xffffffff00000000;
	mock.vmcb.clean = VMCB_CLEAN_ALL;
	svm.clean = 0;
	assert_int_equal(do_exit(0x7c, 1, 0), HAZ_IRQ);
	assert_int_equal(mock.vmcb.clean, 0);
	assert_int_equal(mock.eois, 1);
	assert_int_equal(mock.msr_writes, 0);
	assert_int_equal(mock.v.exits[VEXIT_WRMSR], 1);
	assert_int_equal(mock.vmcb.rip, 0x1002);
	assert_int_equal(mock.vmcb.int_state, 0);
}

/* Not so another value, another mode, or an EOI that the guest may have made by itself. */
static void test_eoi_not_quick(void **state)
{
	static const struct {
		u64 rax, rdx;
		u8 mode;
		bool armed;
	} cases[] = {
		{ 1, 0, VLAPIC_X2APIC, false }, { 0, 1, VLAPIC_X2APIC, false },
		{ 0, 0, VLAPIC_XAPIC, false },  { 0, 0, VLAPIC_OFF, false },
		{ 0, 0, VLAPIC_X2APIC, true },
	};

	mock.vmcb.nrip = 0x1002;
	mock.v.gpr[GPR_RCX] = 0x80b;
	for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
		mock.vmcb.rax = cases[i].rax;
		mock.v.gpr[GPR_RDX] = cases[i].rdx;
		mock.v.lapic.mode = cases[i].mode;
		mock.v.pv.eoi_armed = cases[i].armed;
		do_exit(0x7c, 1, 0);
		assert_int_equal(mock.msr_writes, i + 1);
		assert_int_equal(mock.msr, 0x80b);
		assert_int_equal(mock.msr_value, cases[i].rdx << 32 | cases[i].rax);
	}
	assert_int_equal(mock.eois, 0);
}

/* HLT ends the interrupt shadow; IF and the guest's TPR are known to who decides. */
static void test_hlt(void **state)
{
	mock.vmcb.nrip = 0x1001;
	mock.vmcb.vintr |= 5;
	mock.vmcb.int_state = 1;
	assert_int_equal(do_exit(0x78, 0, 0), 0);
	assert_int_equal(mock.halts, 1);
	assert_true(mock.halt_if);
	assert_int_equal(mock.tpr, 0x50);
	assert_int_equal(mock.vmcb.rip, 0x1001);
	assert_int_equal(mock.vmcb.int_state, 0);
	mock.halted = true;
	mock.vmcb.rflags &= ~RFLAGS_IF;
	assert_int_equal(do_exit(0x78, 0, 0), SVM_LEAVE);
	assert_false(mock.halt_if);
	assert_int_equal(mock.v.exits[VEXIT_HLT], 2);
	assert_int_equal(mock.dispatched, 0);
}

/* mov [rax], ecx as if it had been executed once. */
static void know(const char *bytes, u32 len)
{
	struct insn insn;
	u8 all[INSN_MAX] = { 0 };

	memcpy(all, bytes, len);
	assert_int_equal(insn_decode(&insn, all, sizeof(all), INSN_MODE_64), 0);
	emulate_learn(&mock.v, all, &insn);
	memcpy(mock.vmcb.insn, all, sizeof(all));
	mock.vmcb.insn_len = 15;
}

/* A device access that was seen before: done by its bytes, and stepped over. */
static void test_npf_known(void **state)
{
	const u64 write = 1UL << 32 | 2, read = 1UL << 32;

	know("\x89\x48\x10", 3); /* mov [rax+0x10], ecx */
	mock.v.gpr[GPR_RCX] = 0x12345678;
	assert_int_equal(do_exit(0x400, write, 0xfee000b0), 0);
	assert_int_equal(mock.mmio_writes, 1);
	assert_int_equal(mock.mmio_gpa, 0xfee000b0);
	assert_int_equal(mock.mmio_size, 4);
	assert_int_equal((u32)mock.mmio_value, 0x12345678);
	assert_int_equal(mock.vmcb.rip, 0x1003);
	/* RAX is in the control block, both ways. */
	know("\x89\x41\x10", 3); /* mov [rcx+0x10], eax */
	mock.vmcb.rax = 0x55;
	do_exit(0x400, write, 0xfee000b0);
	assert_int_equal((u32)mock.mmio_value, 0x55);
	assert_int_equal(mock.vmcb.rip, 0x1006);
	know("\x8b\x41\x10", 3); /* mov eax, [rcx+0x10] */
	mock.mmio_value = 0xffffffff;
	do_exit(0x400, read, 0xfee00020);
	assert_int_equal(mock.mmio_reads, 1);
	assert_int_equal(mock.vmcb.rax, 0xffffffff);
	assert_int_equal(mock.vmcb.rip, 0x1009);
	assert_int_equal(mock.v.exits[VEXIT_MMIO], 3);
	assert_int_equal(mock.dispatched, 0);

	/* Not a read by these bytes; not with fewer bytes; not at a page's edge. */
	do_exit(0x400, write, 0xfee00020);
	mock.vmcb.insn_len = 2;
	do_exit(0x400, read, 0xfee00020);
	mock.vmcb.insn_len = 0;
	do_exit(0x400, read, 0xfee00020);
	mock.vmcb.insn_len = 15;
	do_exit(0x400, read, 0xfee00ffd);
	assert_int_equal(mock.dispatched, 4);
	assert_int_equal(mock.seen.kind, VEXIT_MMIO);
	assert_int_equal(mock.seen.insn_len, 0);
	/* 32-bit code: address size and wrap-around are others. In the middle of a delivery: fatal. */
	mock.vmcb.cs.attr = 0xc9b;
	do_exit(0x400, read, 0xfee00020);
	mock.vmcb.cs.attr = 0xa9b;
	mock.vmcb.exitintinfo = VMCB_EVENT_VALID | 0x55;
	do_exit(0x400, read, 0xfee00020);
	assert_int_equal(mock.dispatched, 6);
	assert_int_equal(mock.mmio_reads, 1);
	assert_int_equal(mock.mmio_writes, 2);
}

static void test_string_io_without_assists(void **state)
{
	svm.decode = false;
	set_code("\x65\x67\x6e\x90", 4); /* outsb from GS, 32-bit address */
	do_exit(0x7b, 0x10UL << 16 | 1UL << 4 | 4, 0x1003);
	assert_int_equal(mock.seen.io.addr_size, 4);
	assert_int_equal(mock.seen.io.seg, VSEG_GS);

	/* It is not there any more: the defaults of the mode. */
	mock.code_len = -EFAULT;
	do_exit(0x7b, 0x10UL << 16 | 1UL << 4 | 4, 0x1003);
	assert_int_equal(mock.seen.io.addr_size, 8);
	assert_int_equal(mock.seen.io.seg, VSEG_DS);
}

static void test_npf(void **state)
{
	mock.vmcb.insn_len = 15;
	memcpy(mock.vmcb.insn, "\x89\x08 abcdefghijkl", 15);
	do_exit(0x400, 1UL << 32 | 2, 0xfee000b0);
	assert_int_equal(mock.seen.kind, VEXIT_MMIO);
	assert_int_equal(mock.seen.mmio.gpa, 0xfee000b0);
	assert_int_equal(mock.seen.mmio.access, VACCESS_WRITE);
	assert_int_equal(mock.seen.mmio.insn_len, 15);
	assert_memory_equal(mock.seen.mmio.insn, "\x89\x08 abcdefghijkl", 15);
	assert_int_equal(mock.seen.mmio.code_mode, INSN_MODE_64 + 1);

	do_exit(0x400, 1UL << 32 | 4, 0x1000);
	assert_int_equal(mock.seen.mmio.access, VACCESS_READ);
	do_exit(0x400, 1UL << 32 | 0x14, 0x1000);
	assert_int_equal(mock.seen.mmio.access, VACCESS_EXEC);
	mock.vmcb.cs.attr = 0xc9b;
	svm.decode = false;
	do_exit(0x400, 1UL << 32, 0x1000);
	assert_int_equal(mock.seen.mmio.insn_len, 0);
	assert_int_equal(mock.seen.mmio.code_mode, INSN_MODE_32 + 1);
	mock.vmcb.cs.attr = 0x9b;
	do_exit(0x400, 1UL << 32, 0x1000);
	assert_int_equal(mock.seen.mmio.code_mode, INSN_MODE_16 + 1);
}

static void test_npf_fatal(void **state)
{
	do_exit(0x400, 1UL << 33 | 2, 0x1000);
	assert_int_equal(mock.seen.kind, VEXIT_FATAL);
	mock_setup(NULL);
	mock.vmcb.exitintinfo = VMCB_EVENT_VALID | 0x55;
	do_exit(0x400, 1UL << 32 | 2, 0x1000);
	assert_int_equal(mock.seen.kind, VEXIT_FATAL);
}

static void test_exceptions(void **state)
{
	do_exit(0x41, 0, 0);
	assert_int_equal(mock.seen.kind, VEXIT_EXCEPTION);
	assert_int_equal(mock.seen.exc.vector, VEC_DB);
	assert_false(mock.seen.exc.has_error);
	do_exit(0x51, 0, 0);
	assert_int_equal(mock.seen.exc.vector, 17);
	assert_true(mock.seen.exc.has_error);
	do_exit(0x4e, 0x12, 0x1234000);
	assert_int_equal(mock.seen.exc.vector, VEC_PF);
	assert_int_equal(mock.seen.exc.error, 0x12);
	assert_int_equal(mock.vmcb.cr2, 0x1234000);
	assert_int_equal(mock.vmcb.clean & VMCB_CLEAN_CR2, 0);
}

static void answer(struct vcpu *v)
{
	v->gpr[GPR_RAX] = 0xabcdef;
}

static void test_rax(void **state)
{
	mock.vmcb.rax = 0x1234;
	mock.on_dispatch = answer;
	do_exit(0x89, 0, 0);
	assert_int_equal(mock.seen_rax, 0x1234);
	assert_int_equal(mock.vmcb.rax, 0xabcdef);
}

/* An interrupt to a set, by 64-bit code of CPL 0, goes straight to its handler. */
static void test_vmmcall_fast(void **state)
{
	struct vmcb *b = &mock.vmcb;

	b->nrip = 0x1003;
	b->efer = EFER_LMA;
	b->cs.attr = VSEG_ATTR_L;
	b->rax = 10;
	mock.v.gpr[GPR_RDX] = 0x40;
	assert_int_equal(do_exit(0x81, 0, 0), 0);
	assert_int_equal(mock.dispatched, 0);
	assert_int_equal(mock.ipis, 1);
	assert_int_equal(mock.ipi_min, 0x40);
	assert_int_equal(b->rax, 7);
	assert_int_equal(b->rip, 0x1003);
	assert_int_equal(mock.v.exits[VEXIT_HYPERCALL], 1);

	/* All else is for hypercall(): another number, user mode, 32-bit code. */
	b->rax = 9;
	do_exit(0x81, 0, 0);
	b->rax = 10;
	b->cpl = 3;
	do_exit(0x81, 0, 0);
	b->cpl = 0;
	b->cs.attr = VSEG_ATTR_DB;
	do_exit(0x81, 0, 0);
	assert_int_equal(mock.dispatched, 3);
	assert_int_equal(mock.ipis, 1);
}

static void test_advance(void **state)
{
	mock.vmcb.nrip = 0x1007;
	mock.vmcb.int_state = 1;
	do_exit(0x81, 0, 0);
	assert_int_equal(mock.vmcb.rip, 0x1000); /* RETRY */
	assert_int_equal(mock.vmcb.int_state, 1);
	mock.result = VRESULT_ADVANCE;
	assert_int_equal(do_exit(0x81, 0, 0), 0);
	assert_int_equal(mock.vmcb.rip, 0x1007);
	assert_int_equal(mock.vmcb.int_state, 0);
	/* A vector that waited for the end of the shadow needs no exit of the window. */
	mock.vmcb.int_state = 1;
	mock.vmcb.intercept3 = VMCB_I3_VINTR;
	assert_int_equal(do_exit(0x81, 0, 0), HAZ_IRQ);
	assert_int_equal(mock.vmcb.int_state, 0);
	mock.result = VRESULT_ADVANCE | VRESULT_LEAVE;
	mock.vmcb.nrip = 0x1008;
	assert_int_equal(do_exit(0x81, 0, 0), SVM_LEAVE);
	assert_int_equal(mock.vmcb.rip, 0x1008);
}

static void emulated(struct vcpu *v)
{
	v->exit.insn_len = 6;
}

static void test_advance_by_length(void **state)
{
	mock.result = VRESULT_ADVANCE;
	/* The emulator knows the length; nRIP means nothing at #NPF. */
	mock.vmcb.nrip = 0x9999;
	mock.on_dispatch = emulated;
	do_exit(0x400, 1UL << 32, 0);
	assert_int_equal(mock.vmcb.rip, 0x1006);
	svm.decode = false;
	mock.on_dispatch = NULL;
	set_code("\x8b\x0d\x00\x00\x00\x00\x90", 7);
	mock.vmcb.rip = 0x1000;
	do_exit(0x400, 1UL << 32, 0);
	assert_int_equal(mock.vmcb.rip, 0x1006);
	svm.decode = true;
	/* Nobody knows: the decoder does. */
	mock.on_dispatch = NULL;
	set_code("\x8b\x0d\x00\x00\x00\x00\x90", 7);
	do_exit(0x400, 1UL << 32, 0);
	assert_int_equal(mock.vmcb.rip, 0x100c);
	/* No next-RIP save; a CPUID with a useless prefix. */
	svm.nrips = false;
	mock.vmcb.nrip = 0;
	set_code("\x66\x0f\xa2\x90", 4);
	do_exit(0x72, 0, 0);
	assert_int_equal(mock.vmcb.rip, 0x100f);
	/* Another CPU has unmapped the code. */
	mock.code_len = -EFAULT;
	do_exit(0x72, 0, 0);
	assert_int_equal(mock.vmcb.rip, 0x1011);
	/* Outside 64-bit code RIP has 32 bits. */
	mock.vmcb.cs.attr = 0xc9b;
	mock.vmcb.rip = 0xffffffff;
	set_code("\xf4", 1);
	do_exit(0x78, 0, 0);
	assert_int_equal(mock.vmcb.rip, 0);
}

static void test_trap_flag(void **state)
{
	mock.result = VRESULT_ADVANCE;
	mock.vmcb.nrip = 0x1002;
	mock.vmcb.rflags |= RFLAGS_TF;
	assert_int_equal(do_exit(0x7c, 0, 0), HAZ_EVENT);
	assert_int_equal(mock.v.event.type, VEVENT_EXCEPTION);
	assert_int_equal(mock.v.event.vector, VEC_DB);
	assert_int_equal(mock.vmcb.dr6 & BIT(14), BIT(14));
	assert_int_equal(mock.vmcb.clean & VMCB_CLEAN_DRX, 0);
}

static void test_cpuid_fast(void **state)
{
	mock.v.cpuid.basic[2] = (struct cpuid_entry){ 0xa, 0xb, 0xc, 0xd };
	mock.v.cpuid.basic_dyn = BIT(1);
	mock.v.cpuid.ext[1] = (struct cpuid_entry){ 1, 2, 3, 4 };
	mock.vmcb.rax = 0xffffffff00000002UL;
	mock.vmcb.nrip = 0x1002;
	assert_int_equal(do_exit(0x72, 0, 0), 0);
	assert_int_equal(mock.dispatched, 0);
	assert_int_equal(mock.vmcb.rax, 0xa);
	assert_int_equal(mock.v.gpr[GPR_RBX], 0xb);
	assert_int_equal(mock.v.gpr[GPR_RCX], 0xc);
	assert_int_equal(mock.v.gpr[GPR_RDX], 0xd);
	assert_int_equal(mock.vmcb.rip, 0x1002);
	assert_int_equal(mock.v.exits[VEXIT_CPUID], 1);
	mock.vmcb.rax = 0x80000001;
	do_exit(0x72, 0, 0);
	assert_int_equal(mock.vmcb.rax, 1);
	mock.v.cpuid.hv[1] = (struct cpuid_entry){ 5, 6, 7, 8 };
	mock.vmcb.rax = 0x40000001;
	do_exit(0x72, 0, 0);
	assert_int_equal(mock.vmcb.rax, 5);
	assert_int_equal(mock.cpuids, 0);
	/* A hazard is seen; of a leaf that changes core is asked, with CR4 as it is now. */
	mock.v.hazards = HAZ_RESCHED;
	mock.vmcb.rax = 0xffffffff00000001UL;
	mock.v.gpr[GPR_RCX] = 0xffffffff00000003UL;
	mock.vmcb.cr4 = CR4_OSXSAVE;
	mock.cpuid = (struct cpuid_entry){ 9, 10, 11, 12 };
	mock.vmcb.nrip = 0x1004;
	assert_int_equal(do_exit(0x72, 0, 0), HAZ_RESCHED);
	assert_int_equal(mock.cpuid_leaf, 1);
	assert_int_equal(mock.cpuid_subleaf, 3);
	assert_int_equal(mock.cpuid_cr4, CR4_OSXSAVE);
	assert_int_equal(mock.vmcb.rax, 9);
	assert_int_equal(mock.v.gpr[GPR_RDX], 12);
	assert_int_equal(mock.vmcb.rip, 0x1004);
	/* Far beyond the tables. */
	mock.vmcb.rax = 0x7fffffff;
	do_exit(0x72, 0, 0);
	mock.vmcb.rax = 0x40000002;
	do_exit(0x72, 0, 0);
	mock.vmcb.rax = 0xffffffff;
	do_exit(0x72, 0, 0);
	assert_int_equal(mock.cpuids, 4);
	assert_int_equal(mock.dispatched, 0);
	/* What is traced goes the long way. */
	trace_flags = 1;
	mock.vmcb.rax = 2;
	do_exit(0x72, 0, 0);
	assert_int_equal(mock.dispatched, 1);
}

static void test_cr8(void **state)
{
	svm.cr8_quirk = true;
	mock.vmcb.intercept_cr = BIT32(0x18);
	mock.v.gpr[GPR_R9] = 7;
	set_code("\x45\x0f\x22\xc1\x90", 5); /* mov cr8, r9 */
	assert_int_equal(do_exit(0x18, 0, 0), HAZ_IRQ);
	assert_int_equal(mock.vmcb.vintr & 0xff, 7);
	assert_int_equal(mock.vmcb.rip, 0x1004);
	/* A reserved bit */
	mock.v.gpr[GPR_R9] = 16;
	do_exit(0x18, 0, 0);
	assert_int_equal(mock.v.event.vector, VEC_GP);
	assert_int_equal(mock.vmcb.vintr & 0xff, 7);
	assert_int_equal(mock.vmcb.rip, 0x1004);
	/* mov cr8, rsp takes the guest's */
	mock.vmcb.rsp = 3;
	set_code("\x44\x0f\x22\xc4\x90", 5);
	do_exit(0x18, 0, 0);
	assert_int_equal(mock.vmcb.vintr & 0xff, 3);
	/* Gone meanwhile: the intercept is taken away, nothing else happens. */
	mock.code_len = -EFAULT;
	mock.vmcb.rip = 0x1000;
	do_exit(0x18, 0, 0);
	assert_int_equal(mock.vmcb.intercept_cr, 0);
	assert_int_equal(mock.vmcb.rip, 0x1000);
}

static void test_prepare(void **state)
{
	mock.v.hazards = HAZ_STOP | HAZ_IRQ;
	mock.irr = 0x55;
	assert_int_not_equal(svm_prepare(&mock.v), 0);
	assert_int_equal(mock.accepted, -1);
	mock.v.hazards = HAZ_TPR;
	mock.v.lapic.tpr = 0x57;
	assert_int_equal(svm_prepare(&mock.v), 0);
	assert_int_equal(mock.vmcb.vintr & 0xff, 5);
	assert_int_equal(mock.v.hazards, 0);
	/* The common case, an interrupt alone, and with company. */
	mock.v.hazards = HAZ_IRQ;
	mock.irr = 0x65;
	assert_int_equal(svm_prepare(&mock.v), 0);
	assert_int_equal(mock.vmcb.eventinj, VMCB_EVENT_VALID | 0x65);
	mock.vmcb.eventinj = 0;
	mock.v.hazards = HAZ_IRQ | HAZ_TLB;
	mock.irr = 0x75;
	svm_prepare(&mock.v);
	assert_int_equal(mock.vmcb.eventinj, VMCB_EVENT_VALID | 0x75);
	assert_int_equal(mock.vmcb.asid, 1);
	assert_int_equal(mock.v.hazards, 0);
	/* A flush that another vCPU of this CPU left behind. */
	mock.sv.cpu = 0;
	mock.cpu.flush_all = true;
	svm_asid_load(&mock.v);
	svm_prepare(&mock.v);
	assert_int_equal(mock.vmcb.tlb_control, VMCB_TLB_FLUSH_ALL);
	svm_prepare(&mock.v);
	assert_int_equal(mock.vmcb.tlb_control, VMCB_TLB_NOTHING);
	assert_int_equal(mock.v.hazards, 0);
}

static void test_pause(void **state)
{
	mock.vmcb.intercept3 = VMCB_I3_PAUSE | VMCB_I3_HLT;
	do_exit(0x77, 0, 0);
	assert_int_equal(mock.vmcb.intercept3, VMCB_I3_HLT);
	svm_pause_intercept(&mock.vmcb, true);
	assert_int_equal(mock.vmcb.intercept3, VMCB_I3_PAUSE | VMCB_I3_HLT);
	/* With a filter the intercept stays. */
	svm.features |= SVM_FEAT_PAUSE_FILTER;
	do_exit(0x77, 0, 0);
	assert_int_equal(mock.vmcb.intercept3, VMCB_I3_PAUSE | VMCB_I3_HLT);
}

/* The lower four bits of the LAPIC's TPR survive as long as CR8 is not written. */
static void test_sync_tpr(void **state)
{
	mock.v.lapic.tpr = 0x57;
	mock.vmcb.vintr |= 5;
	svm_sync_tpr(&mock.v);
	assert_int_equal(mock.v.lapic.tpr, 0x57);
	mock.vmcb.vintr ^= 5 ^ 6;
	svm_sync_tpr(&mock.v);
	assert_int_equal(mock.v.lapic.tpr, 0x60);
}

static void test_registers(void **state)
{
	u64 value = 0;

	mock.sv.loaded = true;
	assert_int_equal(svm_set_reg(&mock.v, VREG_EFER, 0x500), 0);
	assert_int_equal(mock.vmcb.efer, 0x1500);
	assert_int_equal(svm_get_reg(&mock.v, VREG_EFER, &value), 0);
	assert_int_equal(value, 0x500);
	assert_int_equal(mock.vmsaves, 0);
	svm_set_reg(&mock.v, VREG_LSTAR, 0x1234);
	assert_int_equal(mock.vmsaves, 1);
	assert_int_equal(mock.vmloads, 1);
	svm_get_reg(&mock.v, VREG_LSTAR, &value);
	assert_int_equal(value, 0x1234);
	mock.v.trap_protected = true;
	assert_int_equal(svm_get_reg(&mock.v, VREG_RIP, &value), -EACCES);
	assert_int_equal(value, 0);
	assert_int_equal(svm_set_reg(&mock.v, VREG_RIP, 1), -EACCES);
	assert_int_equal(mock.vmcb.rip, 0x1000);
}

static void test_segments(void **state)
{
	struct vsegment s = { .selector = 0x33, .attr = 0xf0f3, .limit = 0xfffff, .base = 0x1000 };
	struct vsegment got;

	assert_int_equal(svm_set_seg(&mock.v, VSEG_SS, &s), 0);
	assert_int_equal(mock.vmcb.cpl, 3);
	assert_int_equal(mock.vmcb.clean & VMCB_CLEAN_SEG, 0);
	assert_int_equal(svm_get_seg(&mock.v, VSEG_SS, &got), 0);
	assert_int_equal(got.attr, 0x0f3);
	assert_int_equal(got.base, 0x1000);
	assert_int_equal(svm_get_seg(&mock.v, VSEG_COUNT, &got), -EINVAL);
	mock.sv.loaded = true;
	svm_get_seg(&mock.v, VSEG_GS, &got);
	assert_int_equal(mock.vmsaves, 1);
	mock.v.trap_protected = true;
	assert_int_equal(svm_get_seg(&mock.v, VSEG_CS, &got), -EACCES);
	assert_int_equal(svm_set_seg(&mock.v, VSEG_CS, &s), -EACCES);
}

/* All that the CPU is told to find in encrypted memory; what is given back is the page itself. */
static void test_row30_addresses(void **state)
{
	const u64 c = BIT(47);

	for (u64 bit = 0; bit <= c; bit += c) {
		host_c_bit = bit;
		memset(&made_vmcb, 0, sizeof(made_vmcb));
		svm.iopm = 0x7000;
		svm.msrpm = 0x8000;
		mock.vm.npt.root = 0x9000;
		mock.vm.es = NULL;
		assert_int_equal(svm_vcpu_init(&mock.v), 0);
		assert_int_equal(made_vmcb.iopm_base, 0x7000 | bit);
		assert_int_equal(made_vmcb.msrpm_base, 0x8000 | bit);
		assert_int_equal(made_vmcb.n_cr3, 0x9000 | bit);
		assert_int_equal(made.vmcb_pa, 0x5000 | bit);
		svm_vcpu_destroy(&mock.v);
		assert_int_equal(freed, 0x5000);
	}
	host_c_bit = 0;
}

#define T(f) cmocka_unit_test_setup(f, mock_setup)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_kinds), T(test_unknown), T(test_names), T(test_host_events), T(test_io),
		T(test_byte_io), T(test_efer), T(test_efer_not_quick), T(test_msr), T(test_msr_read_quick),
		T(test_eoi_quick), T(test_eoi_not_quick), T(test_hlt), T(test_npf_known), T(test_vmmcall_fast),
		T(test_string_io_without_assists), T(test_npf), T(test_npf_fatal),
		T(test_exceptions), T(test_rax), T(test_advance), T(test_advance_by_length),
		T(test_trap_flag), T(test_cpuid_fast), T(test_cr8), T(test_prepare), T(test_pause),
		T(test_sync_tpr), T(test_registers), T(test_segments),
		T(test_row30_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
