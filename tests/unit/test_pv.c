/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/pv.c core/pv_clock.c core/pv_eoi.c core/pv_ipi.c core/hypercall.c
/*
 * KVM's paravirtual interface against its documentation (Linux,
 * Documentation/virt/kvm/x86: cpuid, msr, hypercalls).
 * The host's clock stands until a test moves it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86/lapic.h"
#include "arch/x86/percpu.h"
#include "arch/x86/tsc.h"
#include "arch/x86/tsc_sync.h"
#include "core/errno.h"
#include "core/host.h"
#include "core/hypercall.h"
#include "core/sched.h"
#include "core/vm.h"

#define RAM_SIZE 0x400000UL /* two chunks */
#define VCPUS 64
#define HOLE 0x3000UL       /* a page that is not (shared) RAM, when hole is set */

u64 tsc_khz, tsc_to_ns_mult, ns_to_tsc_mult;
bool tsc_synchronised;
struct cpu_features cpu_features;

static _Alignas(4096) u8 ram[RAM_SIZE];
static bool hole;
static struct vm vm;
static struct vcpu vcpus[VCPUS];
static u64 regs[VREG_COUNT];
static struct vsegment cs;
static bool protected;
static u64 host_tsc, wall_ns;

/* What reached whom. */
static u32 delivered[VCPUS], woken[VCPUS], kicked[VCPUS], eois;
static u8 last_vector;
static u32 last_mode;
static bool apic_off[VCPUS];
static struct vcpu *boosted;
static bool boost_works;
static int next_vector;

void *vm_ram_ptr(struct vm *m, gpa_t gpa, size_t *len, bool write)
{
	u64 room;

	assert_true(write);
	if (gpa >= RAM_SIZE || (hole && (gpa & PAGE_MASK) == HOLE))
		return NULL;
	room = VM_CHUNK_SIZE - (gpa & (VM_CHUNK_SIZE - 1));
	*len = MIN(*len, room);
	return ram + gpa;
}

u64 host_wall_ns(void) { return wall_ns; }
u64 vdev_now_ns(struct vdev_host *h) { return tsc_to_ns(host_tsc - vm.tsc_base); }
void sched_wake(struct vcpu *v) { woken[v->id]++; }
u64 sched_wake_set(const struct vm *m, u64 running, u64 now, u64 id, u64 away, u64 answer)
{
	assert_int_equal(id, m->id);
	assert_int_not_equal(running | away, 0);
	for (u32 i = 0; i < VCPUS; i++) {
		bool is_away = away >> i & 1;

		woken[i] += is_away;
		kicked[i] += running >> i & 1;
		assert_true(!is_away || vcpus[i].pv.wait_start == now);
	}
	return answer;
}
bool sched_boost(struct vcpu *v)
{
	boosted = v;
	return boost_works;
}

bool vlapic_deliver(struct vlapic *l, u32 mode, u8 vector, bool level)
{
	u32 i = l->vcpu;

	assert_false(level);
	if (apic_off[i])
		return false;
	delivered[i]++;
	last_vector = vector;
	last_mode = mode;
	return true;
}

void vlapic_eoi(struct vlapic *l)
{
	eois++;
	l->isrv = 0;
}

int vlapic_accept(struct vlapic *l)
{
	int vector = next_vector;

	if (vector >= 0x20) /* below: the PIC's, which the LAPIC knows nothing of */
		l->isrv = (u8)vector;
	return vector;
}
int vlapic_pending(struct vlapic *l) { return next_vector; }

static int get_reg(struct vcpu *v, enum vreg reg, u64 *value)
{
	*value = regs[reg];
	return protected && reg != VREG_CPL ? -EACCES : 0;
}
static int get_seg(struct vcpu *v, enum vseg seg, struct vsegment *s)
{
	*s = cs;
	return protected ? -EACCES : 0;
}
static u32 code_state(struct vcpu *v)
{
	bool wide = (regs[VREG_EFER] & EFER_LMA) != 0 && (cs.attr & VSEG_ATTR_L) != 0;

	return protected ? VCODE_64 : (u32)regs[VREG_CPL] | (wide ? VCODE_64 : 0);
}
static const struct virt_backend mock = { .get_reg = get_reg, .get_seg = get_seg,
					  .code_state = code_state };
const struct virt_backend *virt = &mock;

static void set_khz(u64 khz)
{
	tsc_khz = khz;
	tsc_to_ns_mult = (1000000UL << 32) / khz;
	ns_to_tsc_mult = (khz << 32) / 1000000UL;
}

static void set_vcpus(u32 n)
{
	vm.vcpus = n;
	vm.pv.ipi_set = ~0UL >> (64 - n);
}

static int setup(void **state)
{
	memset(ram, 0xee, sizeof(ram));
	memset(&vm, 0, sizeof(vm));
	memset(vcpus, 0, sizeof(vcpus));
	memset(regs, 0, sizeof(regs));
	memset(delivered, 0, sizeof(delivered));
	memset(woken, 0, sizeof(woken));
	memset(kicked, 0, sizeof(kicked));
	memset(vm.platform.unusual, 0xff, sizeof(vm.platform.unusual));
	memset(apic_off, 0, sizeof(apic_off));
	set_khz(2596113);
	set_vcpus(VCPUS);
	vm.pv.features = PV_ALL;
	vm.tsc_base = host_tsc = 123456789012UL;
	for (u32 i = 0; i < VCPUS; i++) {
		vm.vcpu[i] = &vcpus[i];
		vm.platform.lapic[i] = &vcpus[i].lapic;
		vcpus[i].vm = &vm;
		vcpus[i].id = vcpus[i].apic_id = vcpus[i].lapic.vcpu = i;
		vcpus[i].tsc_offset = 0 - vm.tsc_base;
	}
	cs = (struct vsegment){ .attr = 0x9b | VSEG_ATTR_L };
	regs[VREG_EFER] = EFER_LME | EFER_LMA;
	tsc_synchronised = true;
	hole = protected = boost_works = false;
	boosted = NULL;
	eois = 0;
	next_vector = -1;
	return 0;
}

static struct vcpu *v0(void) { return &vcpus[0]; }

static int wr(u32 msr, u64 value) { return pv_msr_write(v0(), msr, value); }

/* --- CPUID ------------------------------------------------------------------------------------ */

static void cpuid_signature(void **state)
{
	struct cpuid_entry leaf[PV_HV_LEAVES];
	char text[13] = "";

	pv_cpuid(&vm, leaf);
	memcpy(text, &leaf[0].ebx, 4);
	memcpy(text + 4, &leaf[0].ecx, 4);
	memcpy(text + 8, &leaf[0].edx, 4);
	assert_memory_equal(text, "KVMKVMKVM\0\0\0", 12);
	assert_int_equal(leaf[0].eax, 0x40000001);
	/* clocks 0 and 3, no IO delay 1, steal 5, EOI 6, unhalt 7, TLB 9, IPI 11, yield 13,
	 * stable 24; no asynchronous page faults (4, 10, 14) */
	assert_int_equal(leaf[1].eax, 1 << 0 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9 |
				      1 << 11 | 1 << 13 | 1 << 24);
	assert_int_equal(leaf[1].ebx | leaf[1].ecx | leaf[1].edx, 0);
	tsc_synchronised = false;
	pv_cpuid(&vm, leaf);
	assert_false(leaf[1].eax & 1 << 24);
}

static void cpuid_switches(void **state)
{
	static const u32 bits[] = { 1 << 0 | 1 << 3 | 1 << 24, 1 << 5, 1 << 6, 1 << 11, 1 << 9,
				    1 << 7, 1 << 13 };
	struct cpuid_entry leaf[PV_HV_LEAVES];

	for (u32 i = 0; i < ARRAY_SIZE(bits); i++) {
		vm.pv.features = BIT32(i);
		pv_cpuid(&vm, leaf);
		assert_int_equal(leaf[1].eax, bits[i] | 1 << 1);
	}
	vm.pv.features = 0;
	pv_cpuid(&vm, leaf);
	assert_int_equal(leaf[1].eax, 0);
	assert_int_not_equal(leaf[0].ebx, 0x4b4d564b); /* "KVMK" */
}

/* --- registration ----------------------------------------------------------------------------- */

static void registration_is_checked(void **state)
{
	static const u32 clocks[] = { MSR_KVM_SYSTEM_TIME, MSR_KVM_SYSTEM_TIME_OLD };
	u64 value;

	for (u32 i = 0; i < 2; i++) {
		assert_int_equal(wr(clocks[i], 0x2000 | 1), 0);
		assert_int_equal(pv_msr_read(v0(), clocks[i], &value), 0);
		assert_int_equal(value, 0x2001);
		assert_int_equal(wr(clocks[i], 0x2002 | 1), -EINVAL);         /* misaligned */
		assert_int_equal(wr(clocks[i], 0x2fe4 | 1), -EINVAL); /* 4 bytes in the next page */
		assert_int_equal(wr(clocks[i], 0x2fe0 | 1), 0);               /* its last place */
		assert_int_equal(wr(clocks[i], RAM_SIZE | 1), -EINVAL);
		assert_int_equal(wr(clocks[i], (RAM_SIZE - 28) | 1), -EINVAL); /* RAM ends within */
		assert_int_equal(wr(clocks[i], ~0UL), -EINVAL);
		assert_int_equal(wr(clocks[i], 0xffffffffffffffe1UL), -EINVAL); /* wraps around */
		assert_int_equal(wr(clocks[i], BIT(32) | 0x2001), -EINVAL);   /* 64 bits count */
		assert_int_equal(pv_msr_read(v0(), clocks[i], &value), 0);
		assert_int_equal(value, 0x2fe1);                      /* the last good one */
		assert_int_equal(wr(clocks[i], 0), 0);
	}
	for (u64 bit = 1; bit < 6; bit++)
		assert_int_equal(wr(MSR_KVM_STEAL_TIME, 0x2000 | BIT(bit) | 1), -EINVAL);
	assert_int_equal(wr(MSR_KVM_STEAL_TIME, RAM_SIZE | 1), -EINVAL);
	assert_int_equal(wr(MSR_KVM_STEAL_TIME, 0xffffffffffffffc1UL), -EINVAL);
	assert_int_equal(wr(MSR_KVM_STEAL_TIME, 0x2fc1), 0);
	assert_int_equal(wr(MSR_KVM_PV_EOI, 0x2002 | 1), -EINVAL);
	assert_int_equal(wr(MSR_KVM_PV_EOI, RAM_SIZE | 1), -EINVAL);
	assert_int_equal(wr(MSR_KVM_PV_EOI, 0x2ffd), 0);
	assert_int_equal(wr(MSR_KVM_WALL_CLOCK, 0x2ffe), -EINVAL);
	assert_int_equal(wr(MSR_KVM_WALL_CLOCK, 0x2ff8), -EINVAL);
	assert_int_equal(wr(MSR_KVM_WALL_CLOCK, 0x2ff4), 0);
	assert_int_equal(wr(MSR_KVM_WALL_CLOCK_OLD, ~0UL), -EINVAL);
	assert_int_equal(wr(MSR_KVM_WALL_CLOCK, 0x2ff1), -EINVAL);
	assert_int_equal(wr(MSR_KVM_WALL_CLOCK, BIT(32) | 0x2000), -EINVAL);
	assert_int_equal(wr(MSR_KVM_WALL_CLOCK, RAM_SIZE - 8), -EINVAL); /* RAM ends within */
	assert_int_equal(wr(MSR_KVM_STEAL_TIME, BIT(32) | 0x2001), -EINVAL);
	assert_int_equal(wr(MSR_KVM_PV_EOI, BIT(32) | 0x2001), -EINVAL);
	assert_int_equal(wr(MSR_KVM_PV_EOI, ~0UL), -EINVAL);
	assert_int_equal(wr(MSR_KVM_PV_EOI, 0xfffffffffffffffdUL), -EINVAL); /* wraps around */
}

/* A page that the guest keeps to itself (or that is no RAM) cannot be registered. */
static void private_memory_is_refused(void **state)
{
	hole = true;
	assert_int_equal(wr(MSR_KVM_SYSTEM_TIME, HOLE | 1), -EINVAL);
	assert_int_equal(wr(MSR_KVM_STEAL_TIME, HOLE | 1), -EINVAL);
	assert_int_equal(wr(MSR_KVM_PV_EOI, HOLE | 1), -EINVAL);
	assert_int_equal(wr(MSR_KVM_WALL_CLOCK, HOLE), -EINVAL);
}

/* Registered while it was there, gone when it is used: no access, and no request is lost. */
static void memory_that_goes_away(void **state)
{
	struct vcpu *v = v0();

	assert_int_equal(wr(MSR_KVM_SYSTEM_TIME, HOLE | 1), 0);
	assert_int_equal(wr(MSR_KVM_STEAL_TIME, (HOLE + 64) | 1), 0);
	assert_int_equal(wr(MSR_KVM_PV_EOI, (HOLE + 128) | 1), 0);
	next_vector = 0x40;
	assert_int_equal(vcpu_irq_accept(v), 0x40);
	assert_true(v->pv.eoi_armed);
	memset(ram + HOLE, 0x55, PAGE_SIZE);
	hole = true;
	pv_clock_update(v);
	pv_steal_leave(v);
	pv_steal_enter(v);
	assert_int_equal(v->hazards & HAZ_TLB, HAZ_TLB); /* somebody may have asked for it there */
	assert_int_equal(v->pv.steal, 0);
	pv_eoi_settle(v);
	assert_int_equal(eois, 0);
	assert_int_equal(vcpu_irq_accept(v), 0x40);
	assert_false(v->pv.eoi_armed);
	for (u32 i = 0; i < PAGE_SIZE; i++)
		assert_int_equal(ram[HOLE + i], 0x55);
}

static void features_off_are_gp(void **state)
{
	static const u32 msrs[] = { 0x11, 0x12, 0x4b564d00, 0x4b564d01, 0x4b564d03, 0x4b564d04 };
	static const u32 never[] = { 0x4b564d02, 0x4b564d05, 0x4b564d06, 0x4b564d07, 0x4b564d08,
				     0x4b564dff };
	u64 value;

	for (u32 i = 0; i < ARRAY_SIZE(never); i++) {
		assert_true(pv_is_msr(never[i]));
		assert_int_equal(wr(never[i], 0), -EINVAL);
		assert_int_equal(pv_msr_read(v0(), never[i], &value), -EINVAL);
	}
	vm.pv.features = PV_IPI;
	for (u32 i = 0; i < ARRAY_SIZE(msrs); i++) {
		assert_int_equal(wr(msrs[i], 0x2001), -EINVAL);
		assert_int_equal(pv_msr_read(v0(), msrs[i], &value), -EINVAL);
	}
}

static void reset_forgets(void **state)
{
	u64 value;

	assert_int_equal(wr(MSR_KVM_SYSTEM_TIME, 0x2001), 0);
	assert_int_equal(wr(MSR_KVM_STEAL_TIME, 0x2041), 0);
	assert_int_equal(wr(MSR_KVM_PV_EOI, 0x2081), 0);
	pv_kick(&vm, 0);
	pv_reset(v0());
	assert_int_equal(pv_msr_read(v0(), MSR_KVM_SYSTEM_TIME, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(v0()->pv.steal | v0()->pv.eoi, 0);
	assert_false(v0()->pv.unhalted);
	memset(ram, 0x77, PAGE_SIZE * 4);
	pv_clock_update(v0());
	for (u32 i = 0; i < 4 * PAGE_SIZE; i++)
		assert_int_equal(ram[i], 0x77);
}

/* --- clocks ----------------------------------------------------------------------------------- */

/* The formula of the interface, as a guest computes it. */
static u64 guest_ns(const struct pv_time_info *r, u64 tsc)
{
	u64 d = tsc - r->tsc_timestamp;

	d = r->tsc_shift >= 0 ? d << r->tsc_shift : d >> -r->tsc_shift;
	return r->system_time + (u64)((unsigned __int128)d * r->tsc_to_system_mul >> 32);
}

static struct pv_time_info *record(u32 i) { return (void *)(ram + 0x8000 + 32 * i); }

static u64 read_clock(u32 i)
{
	assert_int_equal(record(i)->version & 1, 0);
	return guest_ns(record(i), host_tsc + vcpus[i].tsc_offset);
}

static void register_all(void)
{
	for (u32 i = 0; i < VCPUS; i++)
		assert_int_equal(pv_msr_write(&vcpus[i], MSR_KVM_SYSTEM_TIME,
					      (0x8000 + 32 * i) | 1), 0);
}

static u64 rnd_state = 88172645463325252UL;
static u64 rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	return rnd_state ^= rnd_state << 17;
}

/* A day: any two vCPUs in any order, TSCs that the guest sets, records that it registers again. */
static void clock_runs_a_day(void **state)
{
	static const u64 rates[] = { 800000, 999999, 1000000, 1000001, 2596113, 3700000, 5100000 };

	for (u32 k = 0; k < ARRAY_SIZE(rates); k++) {
		u64 last = 0, start, day;

		setup(NULL);
		set_khz(rates[k]);
		register_all();
		start = host_tsc;
		day = rates[k] * 1000 * 86400;
		while (host_tsc - start < day) {
			u32 i = (u32)(rnd() % VCPUS);
			u64 ns, exact;

			host_tsc += rnd() % 3 == 0 ? rnd() % 4 : rnd() % (day / 5000);
			if (rnd() % 16 == 0) { /* the guest writes its TSC */
				vcpus[i].tsc_offset = rnd();
				pv_clock_update(&vcpus[i]);
			}
			if (rnd() % 16 == 0)
				assert_int_equal(pv_msr_write(&vcpus[i], MSR_KVM_SYSTEM_TIME,
							      (0x8000 + 32 * i) | 1), 0);
			ns = read_clock(i);
			assert_true(ns >= last);
			last = ns;
			exact = (u64)((unsigned __int128)(host_tsc - start) * 1000000 / rates[k]);
			/* drift below 1 in 10^6, and a tick */
			assert_true(ns <= exact + exact / 1000000 + 2);
			assert_true(ns + exact / 1000000 + 2 >= exact);
		}
		assert_true(last > 86399UL * 1000000000);
	}
}

/* Above 1 GHz the guest's clock is the devices' clock. */
static void clock_is_the_devices_clock(void **state)
{
	register_all();
	for (u32 i = 0; i < 1000; i++) {
		host_tsc += rnd() >> 24;
		assert_int_equal(read_clock(i % VCPUS), vdev_now_ns(NULL));
	}
}

static void clock_survives_restart(void **state)
{
	u64 before;

	register_all();
	host_tsc += 1UL << 40;
	before = read_clock(3);
	for (u32 i = 0; i < VCPUS; i++)
		pv_reset(&vcpus[i]);
	memset(ram, 0, sizeof(ram));
	host_tsc += 1000;
	register_all();
	assert_true(read_clock(3) >= before);
}

static void clock_flags_and_versions(void **state)
{
	u32 version;

	assert_int_equal(wr(MSR_KVM_SYSTEM_TIME, 0x8001), 0);
	assert_int_equal(record(0)->flags, 1);
	assert_int_equal(record(0)->pad0, 0xeeeeeeee); /* what is not ours stays */
	version = record(0)->version;
	pv_clock_update(v0());
	assert_int_not_equal(record(0)->version, version);
	assert_int_equal(record(0)->version & 1, 0);
	tsc_synchronised = false;
	pv_clock_update(v0());
	assert_int_equal(record(0)->flags, 0);
	/* disabled: not written any more */
	assert_int_equal(wr(MSR_KVM_SYSTEM_TIME, 0x8000), 0);
	version = record(0)->version;
	pv_clock_update(v0());
	assert_int_equal(record(0)->version, version);
}

static void wall_clock(void **state)
{
	struct pv_wall_clock *w = (void *)(ram + 0x2000);
	u64 value;

	host_tsc += ns_to_tsc(5000000000UL); /* the VM is five seconds old */
	wall_ns = 1800000000UL * 1000000000UL + 250000000UL;
	w->version = 7; /* left odd by whoever was there before */
	assert_int_equal(wr(MSR_KVM_WALL_CLOCK, 0x2000), 0);
	assert_int_equal(w->version & 1, 0);
	assert_in_range(w->sec, 1800000000UL - 5, 1800000000UL - 4);
	assert_in_range(w->nsec, 0, 999999999);
	assert_in_range(w->sec * 1000000000UL + w->nsec + vdev_now_ns(NULL), wall_ns - 10,
			wall_ns + 10);
	assert_int_equal(pv_msr_read(v0(), MSR_KVM_WALL_CLOCK_OLD, &value), 0);
	assert_int_equal(value, 0x2000);
	assert_int_equal(wr(MSR_KVM_WALL_CLOCK, 0), 0);
}

/* --- steal time and TLB flush ----------------------------------------------------------------- */

static struct pv_steal_time *steal(void) { return (void *)(ram + 0x2000); }

static void steal_time(void **state)
{
	u64 before;

	v0()->pv.waited = ns_to_tsc(1000000);
	assert_int_equal(wr(MSR_KVM_STEAL_TIME, 0x2001), 0);
	assert_int_equal(steal()->preempted, 0);
	assert_in_range(steal()->steal, 999998, 1000001);
	pv_steal_leave(v0());
	assert_int_equal(steal()->preempted, PV_PREEMPTED);
	v0()->pv.waited += ns_to_tsc(7000);
	pv_steal_enter(v0());
	assert_int_equal(steal()->preempted, 0);
	assert_int_equal(steal()->version & 1, 0);
	assert_in_range(steal()->steal, 1006997, 1007001);
	assert_int_equal(v0()->hazards & HAZ_TLB, 0);
	/* It never goes back, whatever the guest writes there or registers. */
	before = steal()->steal;
	steal()->steal = ~0UL;
	assert_int_equal(wr(MSR_KVM_STEAL_TIME, 0), 0);
	assert_int_equal(wr(MSR_KVM_STEAL_TIME, 0x2001), 0);
	assert_int_equal(steal()->steal, before);
}

static void tlb_flush_by_flag(void **state)
{
	assert_int_equal(wr(MSR_KVM_STEAL_TIME, 0x2001), 0);
	pv_steal_leave(v0());
	steal()->preempted |= PV_FLUSH_TLB; /* another vCPU */
	assert_int_equal(v0()->hazards, 0);
	pv_steal_enter(v0());
	assert_int_equal(v0()->hazards, HAZ_TLB);
	assert_int_equal(steal()->preempted, 0);
	assert_int_equal(v0()->pv.tlb_flushes, 1);
	v0()->hazards = 0;
	pv_steal_enter(v0());
	assert_int_equal(v0()->hazards, 0); /* once */
}

/* --- end of interrupt ------------------------------------------------------------------------- */

#define EOI_WORD (*(u32 *)(ram + 0x2080))

static void eoi_setup(void)
{
	EOI_WORD = 0;
	assert_int_equal(wr(MSR_KVM_PV_EOI, 0x2081), 0);
}

static void eoi_taken(void **state)
{
	eoi_setup();
	next_vector = 0x41;
	assert_int_equal(vcpu_irq_accept(v0()), 0x41);
	assert_int_equal(EOI_WORD, 1);
	EOI_WORD = 0; /* the guest's EOI */
	pv_eoi_settle(v0());
	assert_int_equal(eois, 1);
	assert_false(v0()->pv.eoi_armed);
	assert_int_equal(v0()->pv.eois, 1);
}

static void eoi_withdrawn(void **state)
{
	eoi_setup();
	next_vector = 0x41;
	assert_int_equal(vcpu_irq_accept(v0()), 0x41);
	assert_int_equal(vcpu_irq_pending(v0()), 0x41); /* nothing requested: the offer stands */
	assert_true(v0()->pv.eoi_armed);
	v0()->lapic.irr_words = 2;
	assert_int_equal(vcpu_irq_pending(v0()), 0x41);
	assert_false(v0()->pv.eoi_armed);
	assert_int_equal(EOI_WORD, 0);
	assert_int_equal(eois, 0); /* the guest has not done it: its register write comes */
}

static void eoi_not_offered(void **state)
{
	eoi_setup();
	next_vector = 0x41;
	v0()->lapic.tmr[2] = BIT32(1); /* level: the IOAPIC waits for the EOI */
	assert_int_equal(vcpu_irq_accept(v0()), 0x41);
	assert_int_equal(EOI_WORD, 0);
	v0()->lapic.tmr[2] = 0;
	v0()->lapic.isrv = 0;
	v0()->lapic.irr_words = 1; /* another one waits for this one's end */
	assert_int_equal(vcpu_irq_accept(v0()), 0x41);
	assert_int_equal(EOI_WORD, 0);
	v0()->lapic.irr_words = 0;
	next_vector = 0x08; /* from the PIC: nothing is in service */
	assert_int_equal(vcpu_irq_accept(v0()), 0x08);
	assert_int_equal(EOI_WORD, 0);
	next_vector = -1;
	assert_int_equal(vcpu_irq_accept(v0()), -1);
	assert_int_equal(EOI_WORD, 0);
	assert_int_equal(wr(MSR_KVM_PV_EOI, 0), 0);
	next_vector = 0x51;
	assert_int_equal(vcpu_irq_accept(v0()), 0x51);
	assert_int_equal(EOI_WORD, 0);
}

static void eoi_registered_again(void **state)
{
	eoi_setup();
	next_vector = 0x41;
	assert_int_equal(vcpu_irq_accept(v0()), 0x41);
	assert_int_equal(wr(MSR_KVM_PV_EOI, 0x2091), 0);
	assert_int_equal(EOI_WORD, 0); /* the old word carries no offer any more */
	assert_false(v0()->pv.eoi_armed);
}

/* --- hypercalls ------------------------------------------------------------------------------- */

static s64 call4(u64 number, u64 a0, u64 a1, u64 a2, u64 a3, u32 want)
{
	u64 *g = v0()->gpr;

	g[GPR_RAX] = number;
	g[GPR_RBX] = a0;
	g[GPR_RCX] = a1;
	g[GPR_RDX] = a2;
	g[GPR_RSI] = a3;
	/* As a backend does: 64-bit code of CPL 0 takes the short way first. */
	if (code_state(v0()) != VCODE_64 || protected || !hypercall_fast(v0(), number, &g[GPR_RAX]))
		assert_int_equal(hypercall(v0()), want);
	return (s64)g[GPR_RAX];
}

static s64 call(u64 number, u64 a0, u64 a1, u64 a2, u64 a3)
{
	return call4(number, a0, a1, a2, a3, VRESULT_ADVANCE);
}

/* KVM's error numbers are part of its interface. */
static void hypercall_errors(void **state)
{
	assert_int_equal(call(0x7fffffff, 0, 0, 0, 0), -1000);
	assert_int_equal(call(BIT(32) | 10, 1, 0, 0, 0x40), -1000); /* 64 bits count */
	assert_int_equal(call(0, 0, 0, 0, 0), -1000);
	assert_int_equal(call(2, 0, 0, 0, 0), -1000);  /* MMU_OP */
	assert_int_equal(call(12, 0, 0, 0, 0), -1000); /* MAP_GPA_RANGE */
	assert_int_equal(call(9, 0x2000, 0, 0, 0), -95);
	assert_int_equal(call(1, 0, 0, 0, 0), 0);
	regs[VREG_CPL] = 3;
	for (u64 nr = 0; nr < 16; nr++)
		assert_int_equal(call(nr, ~0UL, ~0UL, 0, 0x40), -1);
	for (u32 i = 0; i < VCPUS; i++)
		assert_int_equal(delivered[i] + woken[i], 0);
	regs[VREG_CPL] = 0;
	vm.pv.features = 0;
	vm.pv.ipi_set = 0;
	for (u64 nr = 2; nr < 16; nr++)
		assert_int_equal(call(nr, ~0UL, ~0UL, 0, 0x40), -1000);
	for (u32 i = 0; i < VCPUS; i++)
		assert_int_equal(delivered[i] + woken[i], 0);
}

static u64 who(void)
{
	u64 set = 0;

	for (u32 i = 0; i < VCPUS; i++) {
		assert_in_range(delivered[i], 0, 1);
		set |= (u64)delivered[i] << i;
	}
	memset(delivered, 0, sizeof(delivered));
	return set;
}

static void ipi_sets(void **state)
{
	assert_int_equal(call(10, 0x8000000000000005UL, 0, 0, 0x41), 3);
	assert_int_equal(who(), 0x8000000000000005UL);
	assert_int_equal(last_vector, 0x41);
	assert_int_equal(last_mode, APIC_FIXED);
	assert_int_equal(call(10, ~0UL, ~0UL, 0, 0x41), 64);
	assert_int_equal(who(), ~0UL);
	/* min moves the window; what is above the last vCPU is dropped */
	assert_int_equal(call(10, 3, 0, 62, 0x41), 2);
	assert_int_equal(who(), 3UL << 62);
	assert_int_equal(call(10, ~0UL, ~0UL, 63, 0x41), 1);
	assert_int_equal(who(), 1UL << 63);
	assert_int_equal(call(10, ~0UL, ~0UL, 64, 0x41), 0);
	assert_int_equal(call(10, ~0UL, ~0UL, 130, 0x41), 0);
	assert_int_equal(call(10, ~0UL, ~0UL, ~0UL, 0x41), 0);      /* min + 64 would wrap to 63 */
	assert_int_equal(call(10, ~0UL, ~0UL, ~0UL - 63, 0x41), 0); /* and here to 0 */
	assert_int_equal(who(), 0);
	/* NMI */
	assert_int_equal(call(10, 2, 0, 0, 0x400), 1);
	assert_int_equal(last_mode, APIC_NMI);
	assert_int_equal(who(), 2);
	/* a target that does not accept is not counted */
	apic_off[1] = true;
	assert_int_equal(call(10, 7, 0, 0, 0x41), 2);
	assert_int_equal(who(), 5);
}

/* The short way, to LAPICs in their usual state: what is requested, and who is told of it. */
static void ipi_short_way(void **state)
{
	memset(vm.platform.unusual + 16, 0, sizeof(vm.platform.unusual) - 16 * sizeof(u64));
	for (u32 i = 0; i < VCPUS; i++)
		vcpus[i].place = VCPU_AWAY;
	vcpus[1].place = VCPU_WAITS;            /* sees it when it runs */
	vcpus[2].place = VCPU_CURRENT;          /* runs: must be kicked */
	vcpus[4].lapic.irr[2] = BIT32(1);       /* requested before */
	vm.platform.unusual[0x42] = ~0UL;       /* another vector's */
	vm.platform.unusual[0x41] = BIT(7);     /* not of this set */
	assert_int_equal(call(10, 0x7f, 0, 0, 0x41), 7);
	assert_int_equal(who(), 0);
	for (u32 i = 0; i < 7; i++) {
		const struct vcpu *v = &vcpus[i];

		assert_int_equal(v->lapic.irr[2], BIT32(1));
		assert_int_equal(v->lapic.irr_words, i != 4 ? BIT32(2) : 0);
		assert_int_equal(v->hazards, i != 4 ? HAZ_IRQ : 0);
		assert_int_equal(woken[i], i == 0 || i == 3 || i == 5 || i == 6);
		assert_int_equal(kicked[i], i == 2);
	}
	assert_int_equal(vcpus[7].lapic.irr[2], 0);
	/* One that is off, or whose last one was level-triggered: all go the long way. */
	apic_off[5] = true;
	vm.platform.unusual[0x61] = BIT(5) | BIT(6);
	assert_int_equal(call(10, 0x7f, 0, 0, 0x61), 6);
	assert_int_equal(who(), 0x5f);
	assert_int_equal(vcpus[0].lapic.irr[3], 0);
	/* Both halves, and the limit of the VM. */
	for (u32 i = 0; i < VCPUS; i++)
		memset(vcpus[i].lapic.irr, 0, sizeof(vcpus[i].lapic.irr));
	set_vcpus(63);
	assert_int_equal(call(10, BIT(63), 1, 0, 0xff), 0);
	assert_int_equal(call(10, BIT(63), 0, 0, 0xff), 0);
	assert_int_equal(call(10, BIT(60) | BIT(2), ~0UL, 2, 0xff), 2);
	assert_int_equal(call(10, 0, 1, 0, 0xff), 0);
	cs.attr = 0x9b | VSEG_ATTR_DB; /* 32-bit code: the second half begins at 32 */
	assert_int_equal(call(10, 1, 1, 8, 0xff), 2);
	for (u32 i = 0; i < VCPUS; i++)
		assert_int_equal(vcpus[i].lapic.irr[7],
				 i == 62 || i == 4 || i == 8 || i == 40 ? BIT32(31) : 0);
	/* Vectors that are an error, and NMIs, never by the short way. */
	assert_int_equal(call(10, 2, 0, 0, 15), 1);
	assert_int_equal(call(10, 2, 0, 0, 0x441), 1);
	assert_int_equal(delivered[1], 2);
	assert_int_equal(vcpus[1].lapic.irr[0] | vcpus[1].lapic.irr[2], 0);
}

static void ipi_small_vm(void **state)
{
	set_vcpus(3);
	vm.vcpu[3] = NULL;
	assert_int_equal(call(10, ~0UL, ~0UL, 0, 0x41), 3);
	assert_int_equal(who(), 7);
	assert_int_equal(call(10, ~0UL, ~0UL, 2, 0x41), 1);
	assert_int_equal(who(), 4);
	assert_int_equal(call(10, ~0UL, ~0UL, 3, 0x41), 0);
}

static void ipi_bad_icr(void **state)
{
	assert_int_equal(call(10, 1, 0, 0, 0x41 | 0x800), -22);    /* logical */
	assert_int_equal(call(10, 1, 0, 0, 0x41 | 0x40000), -22);  /* shorthands */
	assert_int_equal(call(10, 1, 0, 0, 0x41 | 0x80000), -22);
	for (u64 mode = 1; mode < 8; mode++)
		assert_int_equal(call(10, 1, 0, 0, 0x41 | mode << 8), mode == 4 ? 1 : -22);
}

/* What KVM does not look at decides nothing here: other bits of the ICR, arguments of other calls. */
static void garbage_in_arguments(void **state)
{
	u64 rest = ~(0xffUL | 0x700 | 0x800 | 0xc0000);

	assert_int_equal(call(10, 4, 0, 0, 0x41 | rest), 1);
	assert_int_equal(who(), 4);
	assert_int_equal(last_vector, 0x41);
	assert_int_equal(call(1, ~0UL, ~0UL, ~0UL, ~0UL), 0);
	assert_int_equal(call(9, ~0UL, ~0UL, ~0UL, ~0UL), -95);
	assert_int_equal(call(5, ~0UL, 3, ~0UL, ~0UL), 0);
	assert_int_equal(woken[3], 1);
	boosted = NULL; /* who is kicked may go first */
	assert_int_equal(call(5, 0, BIT(32) | 4, 0, 0), 0); /* 64 bits count: nobody */
	assert_int_equal(call(11, BIT(32) | 4, 0, 0, 0), 0);
	assert_int_equal(woken[4], 0);
	assert_null(boosted);
	assert_int_equal(call(11, 6, ~0UL, ~0UL, ~0UL), 0);
	assert_ptr_equal(boosted, &vcpus[6]);
	/* No memory is named by any of them. */
	for (u32 i = 0; i < RAM_SIZE; i++)
		assert_true(ram[i] == 0xee);
}

/* From 32-bit code the sets have 32 bits each, and upper halves do not exist. */
static void ipi_from_32bit_code(void **state)
{
	regs[VREG_EFER] = 0;
	cs.attr = 0x9b | VSEG_ATTR_DB;
	assert_int_equal(call(10, 0xffffffff00000001UL, 0xabcd000000000003UL, BIT(40) | 1, 0x41),
			 3);
	assert_int_equal(who(), 1UL << 1 | 3UL << 33);
	/* compatibility mode is not 64-bit mode; a protected guest always is */
	regs[VREG_EFER] = EFER_LME | EFER_LMA;
	assert_int_equal(call(10, 0, 1, 0, 0x41), 1);
	assert_int_equal(who(), 1UL << 32);
	protected = true;
	assert_int_equal(call(10, BIT(40), 0, 0, 0x41), 1);
	assert_int_equal(who(), BIT(40));
}

static void kick_and_yield(void **state)
{
	assert_int_equal(call(5, 0, 9, 0, 0), 0);
	assert_true(vcpus[9].pv.unhalted);
	assert_int_equal(woken[9], 1);
	assert_int_equal(call(5, 0, 64, 0, 0), 0); /* KVM says 0 for those that do not exist, too */
	assert_int_equal(call(5, 0, ~0UL, 0, 0), 0);
	assert_int_equal(call(11, 64, 0, 0, 0), 0);
	assert_int_equal(call(11, ~0UL, 0, 0, 0), 0);
	boosted = NULL;
	assert_int_equal(call(11, 0, 0, 0, 0), 0); /* oneself */
	assert_null(boosted);
	assert_int_equal(call(11, 5, 0, 0, 0), 0); /* runs elsewhere: nothing to do */
	assert_ptr_equal(boosted, &vcpus[5]);
	boost_works = true;
	assert_int_equal(call4(11, 5, 0, 0, 0, VRESULT_ADVANCE | VRESULT_LEAVE), 0);
	assert_int_equal(call4(5, 0, 5, 0, 0, VRESULT_ADVANCE | VRESULT_LEAVE), 0);
}

/* --- anything --------------------------------------------------------------------------------- */

static u64 wild(void)
{
	u64 v = rnd();

	switch (v >> 60) {
	case 0 ... 3: return v & 0xfffff;
	case 4 ... 5: return v & 0x7fffff;
	case 6: return ~0UL - (v & 0xffff);
	case 7: return RAM_SIZE - (v & 0x7f);
	case 8: return v & 0xff;
	default: return v;
	}
}

/* Sanitizers watch the memory; RAM stays within its array, results within KVM's. */
static void fuzz(void **state)
{
	memset(vm.platform.unusual + 64, 0, 128 * sizeof(u64)); /* the short way, too */
	for (u32 i = 0; i < 1000000; i++) {
		struct vcpu *v = &vcpus[rnd() % VCPUS];
		u64 value;

		switch (rnd() & 7) {
		case 0 ... 2:
			(void)pv_msr_write(v, (rnd() & 1) != 0 ? MSR_KVM_WALL_CLOCK + (rnd() & 7) :
					   0x11 + (rnd() & 1), wild());
			break;
		case 3:
			(void)pv_msr_read(v, MSR_KVM_WALL_CLOCK + (u32)(rnd() & 0xff), &value);
			break;
		case 4:
			hole = (rnd() & 1) != 0;
			if ((v->pv.steal & PV_ENABLE) != 0)
				pv_steal_leave(v);
			if ((v->pv.steal & PV_ENABLE) != 0)
				pv_steal_enter(v);
			break;
		case 5:
			next_vector = (int)(rnd() & 0xff) - 1;
			v->lapic.irr_words = (rnd() & 3) == 0;
			(void)vcpu_irq_pending(v);
			(void)vcpu_irq_accept(v);
			break;
		default:
			boost_works = (rnd() & 1) != 0;
			v->gpr[GPR_RAX] = rnd() % 14;
			v->gpr[GPR_RBX] = wild();
			v->gpr[GPR_RCX] = wild();
			v->gpr[GPR_RDX] = wild();
			v->gpr[GPR_RSI] = wild();
			(void)hypercall(v);
			assert_in_range((s64)v->gpr[GPR_RAX] + 1000, 0, 1128);
			break;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(cpuid_signature, setup),
		cmocka_unit_test_setup(cpuid_switches, setup),
		cmocka_unit_test_setup(registration_is_checked, setup),
		cmocka_unit_test_setup(private_memory_is_refused, setup),
		cmocka_unit_test_setup(memory_that_goes_away, setup),
		cmocka_unit_test_setup(features_off_are_gp, setup),
		cmocka_unit_test_setup(reset_forgets, setup),
		cmocka_unit_test_setup(clock_runs_a_day, setup),
		cmocka_unit_test_setup(clock_is_the_devices_clock, setup),
		cmocka_unit_test_setup(clock_survives_restart, setup),
		cmocka_unit_test_setup(clock_flags_and_versions, setup),
		cmocka_unit_test_setup(wall_clock, setup),
		cmocka_unit_test_setup(steal_time, setup),
		cmocka_unit_test_setup(tlb_flush_by_flag, setup),
		cmocka_unit_test_setup(eoi_taken, setup),
		cmocka_unit_test_setup(eoi_withdrawn, setup),
		cmocka_unit_test_setup(eoi_not_offered, setup),
		cmocka_unit_test_setup(eoi_registered_again, setup),
		cmocka_unit_test_setup(hypercall_errors, setup),
		cmocka_unit_test_setup(ipi_sets, setup),
		cmocka_unit_test_setup(ipi_short_way, setup),
		cmocka_unit_test_setup(ipi_small_vm, setup),
		cmocka_unit_test_setup(ipi_bad_icr, setup),
		cmocka_unit_test_setup(garbage_in_arguments, setup),
		cmocka_unit_test_setup(ipi_from_32bit_code, setup),
		cmocka_unit_test_setup(kick_and_yield, setup),
		cmocka_unit_test_setup(fuzz, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
