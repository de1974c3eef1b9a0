/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_SPINLOCK_H
#define RAVELIN_CORE_SPINLOCK_H

#include "core/types.h"

/*
 * Ticket locks: fair, two bytes each for the ticket to draw and the one being
 * served. A lock that an interrupt handler takes must be taken with the
 * irqsave form everywhere.
 */
typedef struct spinlock {
	u16 next;
	u16 owner;
} spinlock_t;

#define SPINLOCK_INIT { 0, 0 }

static inline void spin_lock(spinlock_t *l)
{
	u16 ticket = __atomic_fetch_add(&l->next, 1, __ATOMIC_ACQUIRE);

	while (__atomic_load_n(&l->owner, __ATOMIC_ACQUIRE) != ticket)
		__asm__ volatile("pause" ::: "memory");
}

static inline bool spin_trylock(spinlock_t *l)
{
	u16 owner = __atomic_load_n(&l->owner, __ATOMIC_RELAXED);
	u16 expect = owner;

	return __atomic_compare_exchange_n(&l->next, &expect, (u16)(owner + 1), false,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline void spin_unlock(spinlock_t *l)
{
	__atomic_store_n(&l->owner, (u16)(l->owner + 1), __ATOMIC_RELEASE);
}

static inline bool spin_is_locked(const spinlock_t *l)
{
	return __atomic_load_n(&l->next, __ATOMIC_RELAXED) !=
	       __atomic_load_n(&l->owner, __ATOMIC_RELAXED);
}

/* Turns interrupts off on this CPU and returns RFLAGS from before; the host build of a unit
 * test has no interrupts to turn off. */
static inline u64 irq_save(void)
{
	u64 flags = 0;

#ifndef UNIT_TEST
	__asm__ volatile("pushfq; popq %0; cli" : "=r"(flags) : : "memory");
#endif
	return flags;
}

static inline void irq_restore(u64 flags)
{
#ifdef UNIT_TEST
	(void)flags;
#else
	if ((flags & 0x200) != 0)
		__asm__ volatile("sti" ::: "memory");
#endif
}

static inline u64 spin_lock_irqsave(spinlock_t *l)
{
	u64 flags = irq_save();

	spin_lock(l);
	return flags;
}

static inline void spin_unlock_irqrestore(spinlock_t *l, u64 flags)
{
	spin_unlock(l);
	irq_restore(flags);
}

#endif
