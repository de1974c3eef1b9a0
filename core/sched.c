/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/sched.h"
#include "arch/x86/bits.h"
#include "arch/x86/cpu.h"
#include "arch/x86/lapic.h"
#include "arch/x86/percpu.h"
#include "arch/x86/traps.h"
#include "arch/x86/tsc.h"
#include "core/console.h"
#include "core/log.h"
#include "core/main.h"
#include "core/spinlock.h"
#include "core/timer.h"
#include "core/trace.h"
#include "core/vm.h"
#include "drivers/console.h"

/*
 * A vCPU is in one of three places: away (it has nothing to do, or is removed:
 * VCPU_OFF), in the queue of its home CPU, or current there. Only that CPU moves
 * it, under the queue's lock; but sched_remove() takes it out of the queue.
 *
 * Whoever gives a vCPU something to do first sets the hazard by an atomic
 * operation, a full barrier, and then looks where it is:
 * - It waits: who takes it looks at its hazards after that.
 * - It is current: so does who lets it go, under the lock. On another CPU it is
 *   kicked out of guest mode.
 * - It is away: its bit is set in woken[], then the VM's in its queue's woken_vms
 *   (full barriers, too). No lock, and no work in the queue: its CPU does that when
 *   it next looks, in drain(). drain() takes the bits in the opposite order, each
 *   by an atomic operation, so that a bit is seen by this drain or leaves its VM's
 *   bit for the next. It queues whoever is still away and has something to do;
 *   what a bit stands for was there before the bit.
 *
 * The CPU looks when it lets go, when it takes the next, and last before HLT. So
 * nothing is lost if it looks in time, which is what slice_end says: SLICE_IDLE
 * and SLICE_NONE are stored, then (barrier) woken_vms is looked at; a waker sets
 * woken_vms, then looks at slice_end. One of the two sees the other's store: a
 * CPU that halts, or runs a vCPU without a slice, is kicked, or it sees the bit.
 * Any other value ends the current vCPU's time, and then the CPU looks.
 */
#define SLICE_NONE 0U /* the current vCPU has the CPU for itself */
#define SLICE_IDLE 1U /* no vCPU is current: the CPU is in, or about to be in, HLT */

struct run_queue {
	u64 homes[VM_MAX]; /* vCPUs of VM n, by their numbers, that live here */
	u64 woken_vms;     /* bit n: look at woken[n]; atomic */
	spinlock_t lock __aligned(64);
	u32 dest;       /* lapic_dest() of its CPU */
	struct vcpu *head, *tail;
	struct vcpu *current;
	u32 waiting;    /* length of the queue */
	u32 homed;
	bool notified;  /* CPU 0: console or power event */
	bool boosted;   /* the next vCPU goes on with the slice of the one before */
	u64 slice_end;  /* TSC, or SLICE_* */
	u64 guest_tsc, idle_tsc;
} __aligned(64);
_Static_assert(VM_MAX <= 64 && VCPU_MAX <= 64, "woken has too few bits");

/* vCPUs of VM n, by their numbers; atomic. Each CPU takes those that live there. */
static u64 woken[VM_MAX];

static struct run_queue queues[CPU_MAX];
static PERCPU struct run_queue *own; /* this CPU's, from its loop on; CPU 0's from its first vCPU on */

static inline struct run_queue *own_queue(void)
{
	return &queues[cpu_number()];
}

static void push_tail(struct run_queue *q, struct vcpu *v)
{
	v->next = NULL;
	if (q->tail != NULL)
		q->tail->next = v;
	else
		q->head = v;
	q->tail = v;
	v->place = VCPU_WAITS;
	q->waiting++;
}

static struct vcpu *pop_head(struct run_queue *q)
{
	struct vcpu *v = q->head;

	if (v == NULL)
		return NULL;
	q->head = v->next;
	if (q->head == NULL)
		q->tail = NULL;
	q->waiting--;
	return v;
}

static void unlink_queued(struct run_queue *q, struct vcpu *v)
{
	struct vcpu **p = &q->head;
	struct vcpu *last = NULL;

	while (*p != v) {
		last = *p;
		p = &last->next;
	}
	*p = v->next;
	if (q->tail == v)
		q->tail = last;
	v->place = VCPU_AWAY;
	q->waiting--;
}

/* regs: of `lapic`. Inline, and there once for each way to send: the loops ask for nothing but the CPU. */
static inline __attribute__((always_inline)) void tell_by(volatile u8 *regs, const struct vm *vm,
							  u64 running, u64 id, u64 away)
{
	u64 n;

	if (away != 0) {
		n = lowest_bit(away);
		do {
			struct run_queue *q = vm->home[n];

			away &= vm->elsewhere[n];
			(void)bits_set(q->woken_vms, id);
			if (likely(q->slice_end <= SLICE_IDLE))
				ipi_kick(regs, q->dest);
		} while (next_bit(away, &n));
	}
	if (running != 0) {
		n = lowest_bit(running);
		do {
			ipi_kick(regs, vm->home[n]->dest);
		} while (next_bit(running = without_bit(running, n), &n));
	}
}

/* Those who live on other CPUs. */
static inline __attribute__((always_inline)) u64 tell_others(const struct vm *vm, u64 running, u64 id,
							     u64 away, u64 answer)
{
	if (lapic.regs != NULL)
		tell_by(lapic.regs, vm, running, id, away);
	else
		tell_by(NULL, vm, running, id, away);
	return answer;
}

/* This CPU first, which has to look for some. */
static __attribute__((noinline)) u64 tell_here_too(const struct vm *vm, u64 running, u64 now, u64 id,
						   u64 away, u64 answer)
{
	struct run_queue *q = own;

	(void)bits_set(q->woken_vms, id);
	if (q->slice_end == SLICE_NONE)
		timer_slice(now, &q->slice_end);
	return tell_others(vm, running, id, away, answer);
}

/*
 * A sender of interrupts pays for each vCPU here, too: one step for all that are away and live on
 * one CPU. In pieces that hand on what they were given, in the same order: no register needs to be
 * saved, or moved.
 */
u64 sched_wake_set(const struct vm *vm, u64 running, u64 now, u64 id, u64 away, u64 answer)
{
	u64 here = own->homes[id];

	if (running != 0)
		running &= ~here; /* who is current here will look */
	if (away != 0)
		__atomic_or_fetch(&woken[id], away, __ATOMIC_SEQ_CST);
	__asm__("" : "+r"(here)); /* not before, which takes a comparison more */
	here &= away;
	return here != 0 ? tell_here_too(vm, running, now, id, away ^ here, answer) :
			   tell_others(vm, running, id, away, answer);
}

void sched_wake(struct vcpu *v)
{
	u64 flags, now, away;
	u8 place = v->place;

	if (place == VCPU_WAITS)
		return;
	flags = irq_save();
	now = rdtsc();
	if (place == VCPU_AWAY)
		v->pv.wait_start = now;
	away = place == VCPU_AWAY ? BIT(v->id) : 0;
	(void)sched_wake_set(v->vm, BIT(v->id) ^ away, now, v->vm->id, away, 0);
	irq_restore(flags);
}

/* Has v something to do, seen from outside its loop? */
static bool wants_cpu(struct vcpu *v)
{
	u32 haz = __atomic_load_n(&v->hazards, __ATOMIC_SEQ_CST);

	if (v->state == VCPU_OFF || v->vm->power != VM_POWER_NONE)
		return false;
	if ((haz & (HAZ_INIT | HAZ_SIPI)) != 0)
		return true;
	return v->state != VCPU_WAIT_SIPI && (!v->halted || vcpu_wakes(v));
}

/* Those that have been woken join the queue. With its lock. A bit that is set: its VM exists. */
static void drain(struct run_queue *q)
{
	u64 vms = q->woken_vms != 0 ? __atomic_exchange_n(&q->woken_vms, 0, __ATOMIC_SEQ_CST) : 0;

	for (; vms != 0; vms &= vms - 1) {
		u32 id = (u32)lowest_bit(vms);
		u64 set = __atomic_load_n(&woken[id], __ATOMIC_SEQ_CST) & q->homes[id];

		__atomic_and_fetch(&woken[id], ~set, __ATOMIC_SEQ_CST); /* nobody else takes them */
		for (; set != 0; set &= set - 1) {
			struct vcpu *v = vm_get(id)->vcpu[lowest_bit(set)];

			if (v->place == VCPU_AWAY && wants_cpu(v))
				push_tail(q, v);
		}
	}
}

/*
 * The boosted vCPU uses what is left of the caller's slice, and no more: vCPUs
 * that yield to each other for ever together get no more than one of them would.
 */
bool sched_boost(struct vcpu *v)
{
	struct run_queue *q = own_queue();
	u64 flags = spin_lock_irqsave(&q->lock);
	bool here;

	drain(q);
	here = v->queue == q && v->place == VCPU_WAITS && rdtsc() < q->slice_end;
	q->boosted = here;
	if (here && q->head != v) {
		unlink_queued(q, v);
		v->next = q->head;
		q->head = v;
		v->place = VCPU_WAITS;
		q->waiting++;
	}
	spin_unlock_irqrestore(&q->lock, flags);
	return here;
}

void sched_remove(struct vcpu *v)
{
	struct run_queue *q = v->queue;

	for (;;) {
		u64 flags = spin_lock_irqsave(&q->lock);
		bool current = v->place == VCPU_CURRENT;

		v->state = VCPU_OFF;
		if (v->place == VCPU_WAITS)
			unlink_queued(q, v);
		spin_unlock_irqrestore(&q->lock, flags);
		if (!current)
			break;
		/* Once: kicked in each turn, its CPU would do nothing else but answer. */
		if ((__atomic_load_n(&v->hazards, __ATOMIC_RELAXED) & HAZ_STOP) == 0)
			vcpu_hazard(v, HAZ_STOP);
		cpu_relax();
	}
	vcpu_hazard_clear(v, HAZ_STOP);
}

static bool in_set(const struct cpu_set *set, u32 cpu)
{
	u64 any = 0;

	for (size_t i = 0; i < ARRAY_SIZE(set->bits); i++)
		any |= set->bits[i];
	return any == 0 || (set->bits[cpu / 64] >> (cpu % 64) & 1) != 0;
}

void sched_place(struct vcpu *v, const struct cpu_set *affinity)
{
	u32 best = CPU_MAX;

	for (u32 i = 0; i < cpu_count; i++) {
		/* At equal load the later CPU: CPU 0 also serves the console. */
		if (in_set(affinity, i) && (best == CPU_MAX || queues[i].homed <= queues[best].homed))
			best = i;
	}
	v->cpu = best == CPU_MAX ? 0 : best;
	v->queue = &queues[v->cpu];
	v->queue->dest = lapic_dest(v->cpu);
	v->queue->homed++;
	v->queue->homes[v->vm->id] |= BIT(v->id);
	v->vm->home[v->id] = v->queue;
	for (u32 i = 0; i <= v->id; i++)
		v->vm->elsewhere[i] = ~v->vm->home[i]->homes[v->vm->id];
	own = own_queue(); /* CPU 0 wakes vCPUs before its loop begins */
	if (best == CPU_MAX)
		log_warn("vm %s: vcpu %u: no CPU of its affinity exists; it runs on CPU 0",
			 v->vm->name, v->id);
}

/* After this no drain() looks for v, nor, when the last of them has gone, for its VM. */
void sched_unplace(struct vcpu *v)
{
	u64 flags = spin_lock_irqsave(&v->queue->lock);

	v->queue->homed--;
	v->queue->homes[v->vm->id] &= ~BIT(v->id);
	__atomic_and_fetch(&woken[v->vm->id], ~BIT(v->id), __ATOMIC_SEQ_CST);
	spin_unlock_irqrestore(&v->queue->lock, flags);
}

static bool others_wait(const struct run_queue *q)
{
	return q->waiting != 0 || q->woken_vms != 0;
}

bool sched_others_wait(const struct vcpu *v)
{
	return others_wait(v->queue);
}

void sched_notify_cpu0(void)
{
	struct run_queue *q = &queues[0];
	struct vcpu *current;

	__atomic_store_n(&q->notified, true, __ATOMIC_SEQ_CST);
	current = __atomic_load_n(&q->current, __ATOMIC_SEQ_CST);
	/* current may have been let go meanwhile: then a spurious hazard is all that happens. */
	if (cpu_number() == 0 && current != NULL)
		__atomic_or_fetch(&current->hazards, HAZ_RESCHED, __ATOMIC_RELEASE);
	if (cpu_number() != 0)
		ipi_send(0, VECTOR_KICK);
}

void sched_stats(u32 cpu, struct sched_stats *s)
{
	const struct run_queue *q = &queues[cpu];

	s->guest_tsc = q->guest_tsc;
	s->idle_tsc = q->idle_tsc;
	s->homed = q->homed;
	s->runnable = q->waiting + (q->current != NULL ? 1 : 0);
	s->current = q->current;
}

/* --- slices and timers ---------------------------------------------------------------------- */

/*
 * A notice that came after CPU 0 looked and before it took its next vCPU ends no
 * guest mode: nothing more may come for a long time. That vCPU then gets a short
 * slice; not none, or a neighbour that prints without end would keep it out.
 */
#define SCHED_NOTIFIED_US 500U

static bool notified(struct run_queue *q)
{
	return __atomic_load_n(&q->notified, __ATOMIC_SEQ_CST);
}

/* When the scheduler wants the CPU back from its current vCPU, 0 for never. Interrupts off. */
static u64 slice_deadline(struct run_queue *q)
{
	bool noticed = notified(q);

	if (q->current == NULL)
		return 0;
	if (!others_wait(q) && !noticed) {
		if (q->slice_end == SLICE_NONE)
			return 0;
		/* Ended before the look that counts: who comes after it sees that and kicks. */
		__atomic_store_n(&q->slice_end, SLICE_NONE, __ATOMIC_SEQ_CST);
		if (!others_wait(q))
			return 0;
	}
	if (q->slice_end == SLICE_NONE)
		q->slice_end = rdtsc() + (noticed ? SCHED_NOTIFIED_US : SCHED_SLICE_US) * tsc_khz / 1000;
	return q->slice_end;
}

/* A console without an interrupt is looked at so often, by CPU 0: a FIFO fills in 1.4 ms at the
 * highest rate, a person types slower. */
#define CONSOLE_POLL_MS 10U

static u64 console_poll_at; /* TSC, 0: not set; CPU 0 only */

static u64 console_deadline(void)
{
	if (likely(!console_is_polled()) || cpu_number() != 0)
		return 0;
	if (console_poll_at == 0)
		console_poll_at = rdtsc() + CONSOLE_POLL_MS * tsc_khz;
	return console_poll_at;
}

static void check_console(void)
{
	if (cpu_number() != 0 || console_poll_at == 0 || rdtsc() < console_poll_at)
		return;
	console_poll_at = 0;
	if (console_poll())
		sched_notify_cpu0();
}

static u64 earlier(u64 a, u64 b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

void timer_update(void)
{
	u64 next = earlier(timer_next(), earlier(slice_deadline(own_queue()), console_deadline()));

	if (next == 0)
		next = TIMER_NEVER;
	if (next == this_cpu()->timer_deadline)
		return;
	if (next == TIMER_NEVER)
		timer_disarm();
	else
		timer_arm(next);
}

static void check_slice(struct run_queue *q)
{
	struct vcpu *v = q->current;

	if (v == NULL || q->slice_end == SLICE_NONE || rdtsc() < q->slice_end)
		return;
	__atomic_store_n(&q->slice_end, SLICE_NONE, __ATOMIC_SEQ_CST);
	if (others_wait(q) || notified(q))
		__atomic_or_fetch(&v->hazards, HAZ_RESCHED, __ATOMIC_RELEASE);
}

void timer_interrupt(void)
{
	timer_fired();
	timer_run();
	check_slice(own_queue());
	check_console();
	timer_update();
}

void kick_interrupt(void)
{
	struct run_queue *q = own_queue();

	if (__atomic_load_n(&q->notified, __ATOMIC_ACQUIRE) && q->current != NULL)
		__atomic_or_fetch(&q->current->hazards, HAZ_RESCHED, __ATOMIC_RELEASE);
	timer_update();
}

void console_input_ready(void)
{
	sched_notify_cpu0();
}

/* --- the loop ------------------------------------------------------------------------------- */

static struct vcpu *take_next(struct run_queue *q)
{
	u64 flags = spin_lock_irqsave(&q->lock);
	struct vcpu *v;

	drain(q);
	v = pop_head(q);
	if (v != NULL) {
		v->place = VCPU_CURRENT;
		v->pv.waited += rdtsc() - v->pv.wait_start;
	}
	if (v == NULL || !q->boosted)
		q->slice_end = v == NULL ? SLICE_IDLE : SLICE_NONE;
	q->boosted = false;
	__atomic_store_n(&q->current, v, __ATOMIC_SEQ_CST); /* the barrier before who looks next */
	spin_unlock_irqrestore(&q->lock, flags);
	return v;
}

/* Events that change what the vCPU is before it can run. False: it has nothing to run. */
static bool ready(struct vcpu *v)
{
	vcpu_hazard_clear(v, HAZ_RESCHED);
	if (v->state == VCPU_OFF || v->vm->power != VM_POWER_NONE)
		return false;
	vcpu_startup_events(v);
	if (v->state == VCPU_WAIT_SIPI)
		return false;
	if (v->halted && !vcpu_wakes(v))
		return false;
	if (v->halted)
		__atomic_store_n(&v->pv.unhalted, false, __ATOMIC_RELAXED);
	v->halted = false;
	return true;
}

static void let_go(struct run_queue *q, struct vcpu *v)
{
	u64 flags = spin_lock_irqsave(&q->lock);

	drain(q); /* they have waited longer than v */
	v->place = VCPU_AWAY;
	__atomic_store_n(&q->current, NULL, __ATOMIC_SEQ_CST);
	v->pv.wait_start = rdtsc();
	if (wants_cpu(v))
		push_tail(q, v);
	spin_unlock_irqrestore(&q->lock, flags);
}

static void run_one(struct run_queue *q, struct vcpu *v)
{
	u64 start;

	if (!ready(v))
		return;
	cli();
	timer_update();
	sti();
	start = rdtsc();
	if ((v->pv.steal & PV_ENABLE) != 0)
		pv_steal_enter(v);
	virt->run(v);
	if ((v->pv.steal & PV_ENABLE) != 0)
		pv_steal_leave(v);
	/* Now, as it may kick v: not any more with the queue's lock held. */
	if (v->pv.eoi_armed)
		pv_eoi_settle(v);
	start = rdtsc() - start;
	v->run_tsc += start;
	q->guest_tsc += start;
}

static void idle(struct run_queue *q)
{
	u64 start = rdtsc();

	cli();
	timer_update();
	if (!others_wait(q) && !notified(q))
		sti_hlt();
	else
		sti();
	q->idle_tsc += rdtsc() - start;
}

void sched_loop(void)
{
	struct run_queue *q = own = own_queue();

	for (;;) {
		struct vcpu *v;

		if (cpu_number() == 0) {
			/* vm_power() says that there is something for vm_poll(): it looks at all VMs. */
			if (__atomic_exchange_n(&q->notified, false, __ATOMIC_SEQ_CST))
				vm_poll();
			console_task();
		}
		v = take_next(q);
		if (v == NULL) {
			idle(q);
			continue;
		}
		run_one(q, v);
		let_go(q, v);
	}
}

void cpu_idle_loop(void)
{
	sched_loop();
}

/* The console multiplexer has work for CPU 0's loop. */
void console_notify(void)
{
	sched_notify_cpu0();
}
