/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/timer.h"
#include "arch/x86/cpu.h"
#include "arch/x86/lapic.h"
#include "arch/x86/percpu.h"
#include "arch/x86/traps.h"
#include "arch/x86/tsc.h"
#include "core/spinlock.h"
#include "core/vm.h"

struct timer_queue {
	spinlock_t lock;
	struct vdev_timer *first; /* earliest */
	u64 next;                 /* its deadline, 0 for none; read without the lock */
} __aligned(64);

static struct timer_queue queues[CPU_MAX];

static void publish(struct timer_queue *q)
{
	__atomic_store_n(&q->next, q->first == NULL ? 0 : q->first->tsc, __ATOMIC_RELEASE);
}

static void insert(struct timer_queue *q, struct vdev_timer *t)
{
	struct vdev_timer *prev = NULL, *at = q->first;

	while (at != NULL && at->tsc <= t->tsc) {
		prev = at;
		at = at->next;
	}
	t->prev = prev;
	t->next = at;
	if (at != NULL)
		at->prev = t;
	if (prev != NULL)
		prev->next = t;
	else
		q->first = t;
	t->armed = true;
	publish(q);
}

static void unlink_timer(struct timer_queue *q, struct vdev_timer *t)
{
	if (t->prev != NULL)
		t->prev->next = t->next;
	else
		q->first = t->next;
	if (t->next != NULL)
		t->next->prev = t->prev;
	t->armed = false;
	publish(q);
}

void vdev_timer_init(struct vdev_timer *t, struct vdev_host *h, u32 vcpu, void (*fn)(void *),
		     void *arg)
{
	*t = (struct vdev_timer){ .fn = fn, .arg = arg, .host = h, .vcpu = vcpu };
}

/* The queue that t is in cannot change while its lock is held. */
static struct timer_queue *lock_queue(struct vdev_timer *t, u64 *flags)
{
	for (;;) {
		u32 cpu = __atomic_load_n(&t->cpu, __ATOMIC_ACQUIRE);
		struct timer_queue *q = &queues[cpu];

		*flags = spin_lock_irqsave(&q->lock);
		if (t->cpu == cpu)
			return q;
		spin_unlock_irqrestore(&q->lock, *flags);
	}
}

static u32 home_of(const struct vdev_timer *t)
{
	const struct vm *vm = vm_from_host(t->host);
	const struct vcpu *v = t->vcpu < vm->vcpus ? vm->vcpu[t->vcpu] : NULL;

	return v == NULL ? 0 : v->cpu;
}

void vdev_timer_arm(struct vdev_timer *t, u64 deadline_ns)
{
	u32 home = home_of(t);
	u64 flags;
	struct timer_queue *q = lock_queue(t, &flags);
	bool first;

	if (t->armed)
		unlink_timer(q, t);
	if (t->cpu != home) {
		__atomic_store_n(&t->cpu, home, __ATOMIC_RELEASE);
		spin_unlock(&q->lock);
		q = &queues[home];
		spin_lock(&q->lock);
		if (t->armed) /* another CPU was faster: its deadline gives way to ours */
			unlink_timer(q, t);
	}
	t->deadline_ns = deadline_ns;
	t->tsc = vm_ns_to_tsc(vm_from_host(t->host), deadline_ns);
	insert(q, t);
	first = q->first == t;
	spin_unlock(&q->lock);
	if (first && home == cpu_number())
		timer_update();
	irq_restore(flags);
	if (first && home != cpu_number())
		ipi_send(home, VECTOR_KICK);
}

void vdev_timer_cancel(struct vdev_timer *t)
{
	u64 flags;
	struct timer_queue *q = lock_queue(t, &flags);

	if (t->armed)
		unlink_timer(q, t);
	spin_unlock_irqrestore(&q->lock, flags);
	/* The hardware may still fire for it: timer_run() finds nothing due. */
}

u64 timer_next(void)
{
	return __atomic_load_n(&queues[cpu_number()].next, __ATOMIC_ACQUIRE);
}

/* A device that re-arms in its callback with a deadline in the past must not keep the CPU. */
#define TIMERS_A_RUN 256

void timer_run(void)
{
	struct timer_queue *q = &queues[cpu_number()];

	for (u32 i = 0; i < TIMERS_A_RUN; i++) {
		struct vdev_timer *t;
		void (*fn)(void *);
		void *arg;

		spin_lock(&q->lock);
		t = q->first;
		if (t == NULL || t->tsc > rdtsc()) {
			spin_unlock(&q->lock);
			return;
		}
		unlink_timer(q, t);
		fn = t->fn;
		arg = t->arg;
		spin_unlock(&q->lock);
		fn(arg);
	}
}
