/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/sched.h"
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
 * A vCPU is in exactly one of four places: nowhere (it has nothing to do), in
 * the queue of its home CPU, current there, or removed (VCPU_OFF). Who gives it
 * something to do first sets the hazard, then calls sched_wake(). The CPU that
 * lets go of its current vCPU looks at the hazards again under the queue's
 * lock: no wake-up is lost.
 */
struct run_queue {
	spinlock_t lock;
	struct vcpu *head, *tail;
	struct vcpu *current;
	u32 waiting;    /* length of the queue */
	u32 homed;
	bool idle;      /* in, or about to be in, HLT */
	bool notified;  /* CPU 0: console or power event */
	bool boosted;   /* the next vCPU goes on with the slice of the one before */
	u64 slice_end;  /* TSC; 0: no slice runs */
	u64 guest_tsc, idle_tsc;
} __aligned(64);

static struct run_queue queues[CPU_MAX];
static spinlock_t place_lock;

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
	v->queued = true;
	v->pv.wait_start = rdtsc();
	/* Before the look at slice_end: see slice_deadline(). */
	__atomic_store_n(&q->waiting, q->waiting + 1, __ATOMIC_SEQ_CST);
}

static struct vcpu *pop_head(struct run_queue *q)
{
	struct vcpu *v = q->head;

	if (v == NULL)
		return NULL;
	q->head = v->next;
	if (q->head == NULL)
		q->tail = NULL;
	v->queued = false;
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
	v->queued = false;
	q->waiting--;
}

/* The queue's CPU must look at its queue: out of HLT, or start a slice for the running vCPU. */
static void poke(u32 cpu)
{
	if (cpu != cpu_number())
		ipi_send(cpu, VECTOR_KICK);
}

/*
 * The answer for a vCPU that already waits needs no lock: whoever takes it from
 * the queue looks at its hazards after that, and the caller set them before.
 */
void sched_wake(struct vcpu *v)
{
	struct run_queue *q = &queues[v->cpu];
	bool kick = false;
	u64 flags;

	if (__atomic_load_n(&v->queued, __ATOMIC_SEQ_CST))
		return;
	flags = spin_lock_irqsave(&q->lock);
	if (v->current) {
		kick = true;
	} else if (!v->queued && v->state != VCPU_OFF) {
		push_tail(q, v);
		kick = q->idle || __atomic_load_n(&q->slice_end, __ATOMIC_SEQ_CST) == 0;
		if (v->cpu == cpu_number() && q->current != NULL && q->slice_end == 0)
			timer_update();
	}
	spin_unlock_irqrestore(&q->lock, flags);
	if (kick)
		poke(v->cpu);
}

/*
 * The boosted vCPU uses what is left of the caller's slice, and no more: vCPUs
 * that yield to each other for ever together get no more than one of them would.
 */
bool sched_boost(struct vcpu *v)
{
	struct run_queue *q = own_queue();
	u64 flags = spin_lock_irqsave(&q->lock);
	bool here = v->queued && v->cpu == cpu_number() && q->slice_end != 0 &&
		    rdtsc() < q->slice_end;

	q->boosted = here;
	if (here && q->head != v) {
		unlink_queued(q, v);
		v->next = q->head;
		q->head = v;
		v->queued = true;
		q->waiting++;
	}
	spin_unlock_irqrestore(&q->lock, flags);
	return here;
}

void sched_remove(struct vcpu *v)
{
	struct run_queue *q = &queues[v->cpu];

	for (;;) {
		u64 flags = spin_lock_irqsave(&q->lock);
		bool current = v->current;

		v->state = VCPU_OFF;
		if (v->queued)
			unlink_queued(q, v);
		spin_unlock_irqrestore(&q->lock, flags);
		if (!current)
			break;
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
	u64 flags = spin_lock_irqsave(&place_lock);
	u32 best = CPU_MAX;

	for (u32 i = 0; i < cpu_count; i++) {
		/* At equal load the later CPU: CPU 0 also serves the console. */
		if (in_set(affinity, i) && (best == CPU_MAX || queues[i].homed <= queues[best].homed))
			best = i;
	}
	v->cpu = best == CPU_MAX ? 0 : best;
	queues[v->cpu].homed++;
	spin_unlock_irqrestore(&place_lock, flags);
	if (best == CPU_MAX)
		log_warn("vm %s: vcpu %u: no CPU of its affinity exists; it runs on CPU 0",
			 v->vm->name, v->id);
}

void sched_unplace(struct vcpu *v)
{
	u64 flags = spin_lock_irqsave(&place_lock);

	queues[v->cpu].homed--;
	spin_unlock_irqrestore(&place_lock, flags);
}

static bool others_wait(const struct run_queue *q)
{
	return __atomic_load_n(&q->waiting, __ATOMIC_SEQ_CST) != 0;
}

bool sched_others_wait(const struct vcpu *v)
{
	return others_wait(&queues[v->cpu]);
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
	poke(0);
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
		if (q->slice_end == 0)
			return 0;
		/* Ended before the look that counts: who comes after it sees that and kicks. */
		__atomic_store_n(&q->slice_end, 0, __ATOMIC_SEQ_CST);
		if (!others_wait(q))
			return 0;
	}
	if (q->slice_end == 0)
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

	if (next == this_cpu()->timer_deadline)
		return;
	if (next == 0)
		timer_disarm();
	else
		timer_arm(next);
}

static void check_slice(struct run_queue *q)
{
	struct vcpu *v = q->current;

	if (v == NULL || q->slice_end == 0 || rdtsc() < q->slice_end)
		return;
	q->slice_end = 0;
	if (q->waiting != 0 || notified(q))
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
	struct vcpu *v = pop_head(q);

	if (v != NULL) {
		v->current = true;
		v->pv.waited += rdtsc() - v->pv.wait_start;
	}
	__atomic_store_n(&q->current, v, __ATOMIC_SEQ_CST);
	if (!q->boosted)
		q->slice_end = 0;
	q->boosted = false;
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

/* Has v something to do, seen from outside its loop? */
static bool wants_cpu(struct vcpu *v)
{
	u32 haz = __atomic_load_n(&v->hazards, __ATOMIC_SEQ_CST);

	if (v->state == VCPU_OFF || v->vm->power != VM_POWER_NONE)
		return false;
	if ((haz & (HAZ_INIT | HAZ_SIPI)) != 0)
		return true;
	if (v->state == VCPU_WAIT_SIPI)
		return false;
	return !v->halted || vcpu_wakes(v);
}

static void let_go(struct run_queue *q, struct vcpu *v)
{
	u64 flags = spin_lock_irqsave(&q->lock);

	v->current = false;
	__atomic_store_n(&q->current, NULL, __ATOMIC_SEQ_CST);
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
	__atomic_store_n(&q->idle, true, __ATOMIC_SEQ_CST);
	timer_update();
	if (__atomic_load_n(&q->head, __ATOMIC_SEQ_CST) == NULL &&
	    !__atomic_load_n(&q->notified, __ATOMIC_SEQ_CST))
		sti_hlt();
	else
		sti();
	q->idle = false;
	q->idle_tsc += rdtsc() - start;
}

void sched_loop(void)
{
	struct run_queue *q = own_queue();

	for (;;) {
		struct vcpu *v;

		if (cpu_number() == 0) {
			__atomic_store_n(&q->notified, false, __ATOMIC_SEQ_CST);
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
