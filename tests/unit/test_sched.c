/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The scheduler's run queue and the bits by which vCPUs are woken: who is
 * queued, in which order, which CPU is kicked, when a slice begins. Then the
 * real loops of two CPUs as threads, and threads that wake: none is lost, none
 * runs twice at once.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define PERCPU _Thread_local /* a thread is a CPU */
#include "arch/x86/cpu.h"
static void wait_for_interrupt(void);
static u32 halts;
#define cli() ((void)0)
#define sti() ((void)0)
#define sti_hlt() wait_for_interrupt()
#include "core/sched.c"

#define VCPUS 64

PERCPU struct percpu percpu;
struct cpu cpus[CPU_MAX];
u32 cpu_count;
u64 tsc_khz;
static u64 slice_ticks;

static struct vm vm, other_vm;
static struct vcpu vcpus[VCPUS], others[2];
static u32 kicks[CPU_MAX]; /* atomic */
static PERCPU u64 armed;   /* the timer, 0 for none */
static PERCPU u32 slices;

struct lapic_state lapic;
static u8 xapic[1];

void ipi_kick(volatile u8 *regs, u32 dest)
{
	assert_ptr_equal(regs, lapic.regs);
	__atomic_add_fetch(&kicks[dest], 1, __ATOMIC_SEQ_CST);
}
void ipi_send(u32 cpu, u8 vector) { ipi_kick(lapic.regs, cpu); }
u32 lapic_dest(u32 cpu) { return cpu; }
void timer_slice(u64 now, u64 *slice_end)
{
	slices++;
	*slice_end = now + slice_ticks;
	if (*slice_end < percpu.timer_deadline)
		percpu.timer_deadline = armed = *slice_end;
}
void timer_arm(u64 tsc) { percpu.timer_deadline = armed = tsc; }
void timer_disarm(void)
{
	percpu.timer_deadline = TIMER_NEVER;
	armed = 0;
}
void timer_fired(void) { percpu.timer_deadline = TIMER_NEVER; }
void timer_run(void) {}
u64 timer_next(void) { return 0; }
bool console_is_polled(void) { return false; }
bool console_poll(void) { return false; }
void console_task(void) {}
static u32 polls; /* atomic */
void vm_poll(void) { __atomic_add_fetch(&polls, 1, __ATOMIC_SEQ_CST); }
void log_print(u32 level, const char *fmt, ...) {}
void vcpu_startup_events(struct vcpu *v) {}
void pv_steal_enter(struct vcpu *v) {}
void pv_steal_leave(struct vcpu *v) {}
void pv_eoi_settle(struct vcpu *v) {}
void vcpu_hazard(struct vcpu *v, u32 bits)
{
	__atomic_or_fetch(&v->hazards, bits, __ATOMIC_SEQ_CST);
	sched_wake(v);
}
bool vcpu_wakes(struct vcpu *v)
{
	return (__atomic_load_n(&v->hazards, __ATOMIC_SEQ_CST) & HAZ_IRQ) != 0;
}
struct vm *vm_get(u32 id) { return id == vm.id ? &vm : id == other_vm.id ? &other_vm : NULL; }

static void (*run_fn)(struct vcpu *v);
static void run(struct vcpu *v) { run_fn(v); }
static const struct virt_backend mock = { .run = run };
const struct virt_backend *virt = &mock;

/* vCPU i lives on CPU i % cpus, and halts. */
static void place(struct vm *m, struct vcpu *v, u32 i, u32 cpu)
{
	struct cpu_set one = { .bits[0] = BIT(cpu) };

	*v = (struct vcpu){ .vm = m, .id = i, .state = VCPU_ON, .halted = true };
	m->vcpu[i] = v;
	m->vcpus = i + 1;
	sched_place(v, &one);
}

static void setup_cpus(u32 n)
{
	memset(queues, 0, sizeof(queues));
	memset(woken, 0, sizeof(woken));
	memset(kicks, 0, sizeof(kicks));
	memset(&vm, 0, sizeof(vm));
	memset(&other_vm, 0, sizeof(other_vm));
	cpu_count = n;
	percpu.id = 0;
	vm.id = 3;
	other_vm.id = 63;
	for (u32 i = 0; i < VCPUS; i++)
		place(&vm, &vcpus[i], i, i % n);
	for (u32 i = 0; i < 2; i++)
		place(&other_vm, &others[i], i, i % n);
	percpu.timer_deadline = TIMER_NEVER;
	slices = 0;
	armed = 0;
	slice_ticks = BIT(40); /* longer than a test, on any host */
	tsc_khz = BIT(40) / 5;
}

static int setup(void **state)
{
	setup_cpus(2);
	return 0;
}

/* Something to do, and the wake-up. */
static void give(struct vcpu *v) { vcpu_hazard(v, HAZ_IRQ); }

/* v runs on this CPU, alone. */
static struct run_queue *make_current(struct vcpu *v)
{
	give(v);
	assert_ptr_equal(take_next(own), v);
	v->halted = false;
	memset(kicks, 0, sizeof(kicks));
	slices = 0;
	return own;
}

static void homes(void **state)
{
	for (u32 i = 0; i < VCPUS; i++) {
		assert_ptr_equal(vm.home[i], &queues[i % 2]);
		assert_int_equal(vm.elsewhere[i],
				 i % 2 == 0 ? 0xaaaaaaaaaaaaaaaaUL : 0x5555555555555555UL);
	}
	assert_int_equal(queues[0].homes[vm.id], 0x5555555555555555UL);
	assert_int_equal(queues[1].homes[other_vm.id], 2);
	assert_int_equal(other_vm.elsewhere[1], ~2UL);
	assert_int_equal(queues[0].homed, 33);
	sched_unplace(&vcpus[0]);
	assert_int_equal(queues[0].homed, 32);
	assert_int_equal(queues[0].homes[vm.id], 0x5555555555555554UL);
}

static void woken_joins_when_the_cpu_looks(void **state)
{
	give(&vcpus[2]);
	give(&vcpus[2]); /* twice is once */
	assert_int_equal(vcpus[2].place, VCPU_AWAY);
	assert_true(sched_others_wait(&vcpus[4]));
	assert_false(sched_others_wait(&vcpus[5])); /* the other CPU */
	assert_ptr_equal(take_next(own), &vcpus[2]);
	assert_int_equal(vcpus[2].place, VCPU_CURRENT);
	assert_int_equal(own->waiting, 0);
	assert_false(sched_others_wait(&vcpus[4]));
	let_go(own, &vcpus[2]); /* it still has something to do */
	assert_int_equal(vcpus[2].place, VCPU_WAITS);
	assert_int_equal(own->waiting, 1);
	vcpu_hazard_clear(&vcpus[2], HAZ_IRQ);
	assert_ptr_equal(take_next(own), &vcpus[2]);
	let_go(own, &vcpus[2]);
	assert_int_equal(vcpus[2].place, VCPU_AWAY);
	assert_null(take_next(own));
}

/* A bit that is left over, or set for a vCPU that is there already, queues nobody. */
static void nothing_to_do(void **state)
{
	vcpu_hazard(&vcpus[2], HAZ_TLB);
	assert_null(take_next(own));
	assert_int_equal(own->woken_vms | woken[vm.id], 0);
	make_current(&vcpus[2]);
	own->woken_vms = BIT(vm.id);
	woken[vm.id] = BIT(2);
	let_go(own, &vcpus[2]);
	assert_int_equal(own->waiting, 1);
	own->woken_vms = BIT(vm.id);
	woken[vm.id] = BIT(2);
	assert_ptr_equal(take_next(own), &vcpus[2]);
	assert_null(pop_head(own));
	own->woken_vms = BIT(17); /* a VM that has gone */
	let_go(own, &vcpus[2]);
	assert_int_equal(own->waiting, 1);
}

/* Bits for CPU 0's vCPUs, for CPU 1's; each CPU is told once. */
static void sets(void **state)
{
	own->slice_end = SLICE_NONE;
	queues[1].slice_end = SLICE_IDLE;
	assert_int_equal(sched_wake_set(&vm, 0, rdtsc(), vm.id, 0xff, 77), 77);
	assert_int_equal(woken[vm.id], 0xff);
	assert_int_equal(queues[0].woken_vms, BIT(vm.id));
	assert_int_equal(queues[1].woken_vms, BIT(vm.id));
	assert_int_equal(kicks[0], 0);
	assert_int_equal(kicks[1], 1);
	assert_int_equal(slices, 1);
	(void)sched_wake_set(&vm, 0, rdtsc(), vm.id, BIT(63) | BIT(62), 0);
	assert_int_equal(woken[vm.id], 0xff | BIT(63) | BIT(62));
	assert_int_equal(slices, 1); /* it runs already */
	assert_int_equal(kicks[1], 2);
	/* Each CPU takes its own, and leaves the others'. */
	for (u32 i = 0; i < VCPUS; i++)
		vcpus[i].hazards = HAZ_IRQ;
	drain(own);
	assert_int_equal(own->waiting, 5);
	assert_int_equal(woken[vm.id], 0xaa | BIT(63));
	drain(&queues[1]);
	assert_int_equal(queues[1].waiting, 5);
	assert_int_equal(woken[vm.id], 0);
}

/* One CPU each: an idle one is told of who is away, one that runs a vCPU of it, and the caller's
 * own not of its current one. */
static void one_cpu_each(void **state)
{
	for (u32 i = 0; i < 2; i++) {
		lapic.regs = i == 0 ? xapic : NULL;
		setup_cpus(64);
		for (u32 cpu = 0; cpu < 64; cpu++)
			queues[cpu].slice_end = cpu == 9 ? rdtsc() + slice_ticks : SLICE_IDLE;
		own->slice_end = SLICE_NONE;
		assert_int_equal(sched_wake_set(&vm, 0xff01, rdtsc(), vm.id, 0xff0202, 5), 5);
		assert_int_equal(woken[vm.id], 0xff0202);
		for (u32 cpu = 0; cpu < 64; cpu++) {
			bool looks;

			assert_int_equal(kicks[cpu], cpu == 1 || (cpu >= 8 && cpu < 24));
			looks = cpu == 1 || cpu == 9 || (cpu >= 16 && cpu < 24);
			assert_int_equal(queues[cpu].woken_vms, looks ? BIT(vm.id) : 0);
		}
		assert_int_equal(slices, 0);
		assert_int_equal(sched_wake_set(&vm, BIT(63), rdtsc(), vm.id, 1, 6), 6);
		assert_int_equal(own->woken_vms, BIT(vm.id));
		assert_int_equal(slices, 1);
		assert_int_equal(kicks[63], 1);
		assert_int_equal(kicks[0], 0);
	}
}

static void whom_to_kick(void **state)
{
	queues[1].slice_end = SLICE_IDLE;
	give(&vcpus[1]);
	assert_int_equal(kicks[1], 1);
	queues[1].slice_end = SLICE_NONE; /* one runs there alone: its slice must begin */
	give(&vcpus[3]);
	assert_int_equal(kicks[1], 2);
	queues[1].slice_end = rdtsc() + slice_ticks; /* it ends: then that CPU looks */
	give(&vcpus[5]);
	assert_int_equal(kicks[1], 2);
	vcpus[7].place = VCPU_CURRENT; /* in guest mode */
	give(&vcpus[7]);
	assert_int_equal(kicks[1], 3);
	assert_int_equal(woken[vm.id] & BIT(7), 0);
	vcpus[9].place = VCPU_WAITS;
	give(&vcpus[9]);
	assert_int_equal(kicks[1], 3);
	vcpus[0].place = VCPU_CURRENT; /* this CPU's own */
	give(&vcpus[0]);
	assert_int_equal(kicks[0], 0);
	/* All in one set: one that runs there, one that is away. */
	(void)sched_wake_set(&vm, BIT(7), rdtsc(), vm.id, BIT(11), 0);
	assert_int_equal(kicks[1], 4);
	assert_int_equal(woken[vm.id] & (BIT(7) | BIT(11)), BIT(11));
}

static void slices_begin_and_end(void **state)
{
	struct run_queue *q = make_current(&vcpus[0]);

	timer_update();
	assert_int_equal(q->slice_end, SLICE_NONE); /* alone: no tick */
	assert_int_equal(armed, 0);
	give(&vcpus[2]);
	assert_int_equal(slices, 1);
	assert_int_equal(q->slice_end, armed);
	timer_update();
	assert_int_equal(q->slice_end, armed); /* somebody waits, though in no queue yet */
	q->slice_end = rdtsc() - 1;
	timer_interrupt();
	assert_true((vcpus[0].hazards & HAZ_LEAVE) != 0);
	vcpu_hazard_clear(&vcpus[0], HAZ_RESCHED);
	/* Who was woken goes before the one whose time is over. */
	let_go(q, &vcpus[0]);
	assert_ptr_equal(take_next(q), &vcpus[2]);
	assert_int_equal(q->slice_end, SLICE_NONE);
	timer_update(); /* vCPU 0 waits */
	assert_true(q->slice_end > rdtsc());
	vcpu_hazard_clear(&vcpus[2], HAZ_IRQ);
	let_go(q, &vcpus[2]);
	vcpu_hazard_clear(&vcpus[0], HAZ_IRQ);
	assert_ptr_equal(take_next(q), &vcpus[0]);
	vcpus[0].halted = true;
	let_go(q, &vcpus[0]);
	assert_null(take_next(q));
	assert_int_equal(q->slice_end, SLICE_IDLE);
}

/* A kick to a CPU where one runs alone begins the slice. */
static void kicked(void **state)
{
	struct run_queue *q = make_current(&vcpus[0]);

	kick_interrupt();
	assert_int_equal(q->slice_end, SLICE_NONE);
	woken[vm.id] = BIT(4);
	q->woken_vms = BIT(vm.id);
	kick_interrupt();
	assert_true(q->slice_end > rdtsc());
	assert_int_equal(armed, q->slice_end);
}

/* Its bit was set behind the last look for the next vCPU, while a slice still ran: no kick. */
static void last_look_before_halt(void **state)
{
	halts = 0;
	assert_null(take_next(own));
	woken[vm.id] = BIT(4);
	own->woken_vms = BIT(vm.id);
	idle(own);
	assert_int_equal(halts, 0);
	give(&vcpus[4]);
	assert_ptr_equal(take_next(own), &vcpus[4]);
	vcpu_hazard_clear(&vcpus[4], HAZ_IRQ);
	let_go(own, &vcpus[4]);
	assert_null(take_next(own));
	idle(own);
	assert_int_equal(halts, 1);
}

/* The time in the queue counts from the wake-up, not from the CPU's look. */
static void steal_time(void **state)
{
	struct run_queue *q = make_current(&vcpus[0]);
	u64 before = rdtsc(), woken, waited;

	vcpus[2].pv.waited = 0;
	give(&vcpus[2]);
	woken = rdtsc();
	while (rdtsc() - woken < 100000)
		;
	let_go(q, &vcpus[0]);
	assert_ptr_equal(take_next(q), &vcpus[2]);
	waited = vcpus[2].pv.waited;
	assert_true(waited >= 100000 && waited <= rdtsc() - before);
	/* And of one that was let go only from then on. */
	vcpus[0].pv.waited = 0;
	before = rdtsc();
	assert_ptr_equal(take_next(q), &vcpus[0]);
	assert_true(vcpus[0].pv.waited < rdtsc() - woken);
}

static void removed(void **state)
{
	struct run_queue *q = own;

	give(&vcpus[2]);
	give(&vcpus[4]);
	give(&others[0]);
	sched_remove(&vcpus[2]); /* woken */
	assert_ptr_equal(take_next(q), &vcpus[4]);
	sched_remove(&others[0]); /* in the queue */
	assert_int_equal(others[0].place, VCPU_AWAY);
	assert_int_equal(q->waiting, 0);
	assert_null(take_next(q));
	/* Woken once more, by a timer of a device, before it is destroyed. */
	give(&others[0]);
	sched_unplace(&others[0]);
	other_vm.vcpu[0] = NULL;
	assert_null(take_next(q));
	/* It starts again while its bit is set. */
	give(&vcpus[2]);
	vcpus[2].state = VCPU_ON;
	sched_wake(&vcpus[2]);
	assert_ptr_equal(take_next(q), &vcpus[2]);
	assert_null(pop_head(q));
}

static void *lets_go_late(void *arg)
{
	struct timespec time = { .tv_nsec = 20000000 };

	nanosleep(&time, NULL);
	let_go(&queues[1], arg);
	return NULL;
}

/* One kick: its CPU would spend all its time on more of them, and never let it go. */
static void removed_where_it_runs(void **state)
{
	pthread_t cpu;

	give(&vcpus[1]);
	assert_ptr_equal(take_next(&queues[1]), &vcpus[1]);
	vcpus[1].halted = false;
	memset(kicks, 0, sizeof(kicks));
	assert_int_equal(pthread_create(&cpu, NULL, lets_go_late, &vcpus[1]), 0);
	sched_remove(&vcpus[1]);
	pthread_join(cpu, NULL);
	assert_int_equal(kicks[1], 1);
	assert_int_equal(vcpus[1].place, VCPU_AWAY);
	assert_int_equal(vcpus[1].hazards & HAZ_STOP, 0);
	assert_null(take_next(&queues[1]));
}

static void boost(void **state)
{
	struct run_queue *q = make_current(&vcpus[0]);
	u64 end;

	assert_false(sched_boost(&vcpus[4])); /* it does not wait */
	give(&vcpus[2]);
	give(&vcpus[4]);
	give(&vcpus[3]);
	end = q->slice_end;
	assert_false(sched_boost(&vcpus[3])); /* at home elsewhere */
	assert_true(sched_boost(&vcpus[4]));
	let_go(q, &vcpus[0]);
	assert_ptr_equal(take_next(q), &vcpus[4]);
	assert_int_equal(q->slice_end, end); /* what was left of the slice */
	assert_ptr_equal(take_next(q), &vcpus[2]);
	assert_ptr_equal(take_next(q), &vcpus[0]);
	assert_null(take_next(q));
}

/* --- threads ---------------------------------------------------------------------------------- */

#define CPUS 2
#define WAKERS 3
#define ROUNDS 4000

static u64 asked[VCPUS], done[VCPUS]; /* atomic: things to do, and what has been done of them */
static u32 running[VCPUS], stop, stalls;
static bool quiet; /* guests wake nobody, and halt at once: each wake-up must do it alone */
static PERCPU u32 kicks_seen;
static PERCPU bool is_thread;
static PERCPU u64 seed;

static u32 rnd(void)
{
	seed = seed * 6364136223846793005UL + 1442695040888963407UL;
	return (u32)(seed >> 33);
}

static u32 peek(u32 *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }

/* What the CPU's interrupts do, whenever they come. */
static void interrupts(void)
{
	u32 now = peek(&kicks[percpu.id]);

	if (peek(&stop))
		pthread_exit(NULL);
	if (now != kicks_seen) {
		kicks_seen = now;
		kick_interrupt();
	}
	if (armed != 0 && rdtsc() >= armed) {
		armed = 0;
		timer_interrupt();
	}
}

static void wait_for_interrupt(void)
{
	if (!is_thread) {
		halts++;
		return;
	}
	while (peek(&kicks[percpu.id]) == kicks_seen && !(armed != 0 && rdtsc() >= armed)) {
		if (peek(&stop))
			pthread_exit(NULL);
		sched_yield();
	}
	interrupts();
}

/* Something to do for the set, as a hypercall gives it. */
static void ask(u64 set)
{
	u64 away = 0, current = 0, now = rdtsc();

	for (u64 rest = set; rest != 0; rest &= rest - 1) {
		struct vcpu *v = vm.vcpu[lowest_bit(rest)];

		__atomic_add_fetch(&asked[v->id], 1, __ATOMIC_SEQ_CST);
		__atomic_or_fetch(&v->hazards, HAZ_IRQ, __ATOMIC_SEQ_CST);
		switch (__atomic_load_n(&v->place, __ATOMIC_SEQ_CST)) {
		case VCPU_AWAY: away |= BIT(v->id); v->pv.wait_start = now; break;
		case VCPU_CURRENT: current |= BIT(v->id); break;
		}
	}
	(void)sched_wake_set(&vm, current, now, vm.id, away, 0);
}

/* A guest: does what there is, sometimes wakes others, sometimes halts, else goes on. */
static void guest(struct vcpu *v)
{
	if (__atomic_exchange_n(&running[v->id], 1, __ATOMIC_SEQ_CST) != 0)
		abort();
	for (;;) {
		u64 want;

		interrupts();
		if ((v->hazards & HAZ_LEAVE) != 0)
			break;
		vcpu_hazard_clear(v, HAZ_IRQ);
		want = __atomic_load_n(&asked[v->id], __ATOMIC_SEQ_CST);
		__atomic_store_n(&done[v->id], want, __ATOMIC_SEQ_CST);
		if (!quiet && rnd() % 64 == 0)
			ask(BIT(rnd() % VCPUS) | BIT(rnd() % VCPUS));
		v->halt_if = true;
		if ((quiet || rnd() % 4 == 0) && !vcpu_wakes(v)) {
			v->halted = true;
			break;
		}
		if (rnd() % 16 == 0 && sched_others_wait(v)) /* PAUSE */
			break;
	}
	__atomic_store_n(&running[v->id], 0, __ATOMIC_SEQ_CST);
}

static void *cpu_thread(void *arg)
{
	is_thread = true;
	percpu.id = (u32)(u64)arg;
	percpu.timer_deadline = TIMER_NEVER;
	seed = percpu.id + 1;
	sched_loop();
}

static bool all_done(u64 set)
{
	for (; set != 0; set &= set - 1) {
		u32 i = (u32)lowest_bit(set);

		if (__atomic_load_n(&done[i], __ATOMIC_SEQ_CST) <
		    __atomic_load_n(&asked[i], __ATOMIC_SEQ_CST))
			return false;
	}
	return true;
}

/* Waits for all it asked before it asks again: a lost wake-up stops it. */
static void *waker_thread(void *arg)
{
	u64 n = (u64)arg;

	percpu.id = 100 + (u32)n; /* none of the vCPUs' */
	own = own_queue();
	seed = 1000 + n;
	for (u32 i = 0; i < ROUNDS; i++) {
		/* Each third of the vCPUs is asked by this waker and by guests. */
		u64 set = 0x9249249249249249UL << n & ((u64)rnd() << 32 | rnd());
		time_t end = time(NULL) + 20;

		if (quiet)
			set = BIT(rnd() % VCPUS);
		else if (rnd() % 2 == 0)
			set &= -set;
		ask(set);
		while (!all_done(set)) {
			if (time(NULL) > end) {
				__atomic_add_fetch(&stalls, 1, __ATOMIC_SEQ_CST);
				return NULL;
			}
			sched_yield();
		}
	}
	return NULL;
}

/* The VMs are looked at when somebody has asked for it, and not else. */
static void ask_for_a_poll(void)
{
	time_t end = time(NULL) + 20;

	assert_int_equal(__atomic_load_n(&polls, __ATOMIC_SEQ_CST), 0);
	percpu.id = 100;
	sched_notify_cpu0();
	while (__atomic_load_n(&polls, __ATOMIC_SEQ_CST) == 0 && time(NULL) < end)
		sched_yield();
	assert_int_equal(__atomic_load_n(&polls, __ATOMIC_SEQ_CST), 1);
}

static void stress(u32 wakers)
{
	pthread_t cpu[CPUS], waker[WAKERS];

	slice_ticks = 100000;
	tsc_khz = slice_ticks / 5;
	run_fn = guest;
	stop = stalls = polls = 0;
	memset(running, 0, sizeof(running));
	for (u64 i = 0; i < CPUS; i++)
		assert_int_equal(pthread_create(&cpu[i], NULL, cpu_thread, (void *)i), 0);
	for (u64 i = 0; i < wakers; i++)
		assert_int_equal(pthread_create(&waker[i], NULL, waker_thread, (void *)i), 0);
	for (u32 i = 0; i < wakers; i++)
		pthread_join(waker[i], NULL);
	ask_for_a_poll();
	__atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
	for (u32 i = 0; i < CPUS; i++)
		pthread_join(cpu[i], NULL);
	assert_int_equal(stalls, 0);
}

static void stress_many(void **state)
{
	quiet = false;
	stress(WAKERS);
}

static void stress_each_alone(void **state)
{
	quiet = true;
	stress(1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(homes, setup),
		cmocka_unit_test_setup(woken_joins_when_the_cpu_looks, setup),
		cmocka_unit_test_setup(nothing_to_do, setup),
		cmocka_unit_test_setup(sets, setup),
		cmocka_unit_test_setup(one_cpu_each, setup),
		cmocka_unit_test_setup(whom_to_kick, setup),
		cmocka_unit_test_setup(slices_begin_and_end, setup),
		cmocka_unit_test_setup(kicked, setup),
		cmocka_unit_test_setup(last_look_before_halt, setup),
		cmocka_unit_test_setup(steal_time, setup),
		cmocka_unit_test_setup(removed, setup),
		cmocka_unit_test_setup(removed_where_it_runs, setup),
		cmocka_unit_test_setup(boost, setup),
		cmocka_unit_test_setup(stress_many, setup),
		cmocka_unit_test_setup(stress_each_alone, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
