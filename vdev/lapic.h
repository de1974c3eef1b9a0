/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_VDEV_LAPIC_H
#define RAVELIN_VDEV_LAPIC_H

#include "arch/x86/bits.h"
#include "arch/x86/msr.h"
#include "core/spinlock.h"
#include "core/types.h"
#include "vdev/host.h"

/*
 * The local APIC of one vCPU (Intel SDM vol. 3A, chapter 11; APM vol. 2,
 * chapter 16), as xAPIC and x2APIC.
 *
 * Any CPU may deliver an interrupt: irr, irr_words and tmr change by atomic
 * operations only. `own` is what the vCPU sent to itself, kept beside irr until it is
 * taken or must be compared: that takes no atomic operation. The timer's state is under timer_lock, because its callback
 * may run on another CPU. All the rest belongs to the vCPU itself; senders read
 * the addressing registers without a lock, as they would on a real bus.
 */
struct vdev_platform;

enum vlapic_mode { VLAPIC_OFF, VLAPIC_XAPIC, VLAPIC_X2APIC };

/* In the order of their registers, 0x320 and up. */
enum vlapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PMC, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

/* Delivery modes of ICR, LVT, IOAPIC and MSI. */
enum apic_delivery {
	APIC_FIXED,
	APIC_LOWEST,
	APIC_SMI,
	APIC_RESERVED3,
	APIC_NMI,
	APIC_INIT,
	APIC_SIPI,
	APIC_EXTINT
};

struct vlapic {
	u32 irr_words;      /* bit w: irr[w] may be non-zero; atomic */
	u32 isr_classes;    /* bit c: isr[c], a vector of priority class c, is in service */
	u8 tpr;
	u8 isrv;            /* highest vector in service, 0 for none */
	u8 ppr;             /* follows tpr and isrv */
	u8 mode;            /* enum vlapic_mode */
	bool extint;        /* the PIC's INTR reaches this vCPU (LVT0, or the LAPIC is off) */
	bool extint_once;   /* an ExtINT message waits; atomic */
	u8 own;             /* 0 for none */
	bool open;          /* on, and enabled by SVR: takes fixed interrupts */
	u32 vcpu;           /* index, for vdev_kick() */
	gpa_t page;         /* of its registers; VLAPIC_NOWHERE */
	u32 irr[8];
	u32 tmr[8];
	u8 isr[16];         /* one a class: only what is above PPR's class comes into service */
	struct vdev_platform *p;
	struct vdev_host *host;

	u32 apic_id;
	u32 svr;
	u32 ldr;            /* xAPIC format; that of x2APIC follows from apic_id */
	u32 dfr;
	u32 esr;            /* as latched by the last write */
	u32 esr_pending;    /* atomic */
	u32 icr_low;
	u32 icr_high;
	u64 base_msr;
	u32 lvt[LVT_COUNT];

	spinlock_t timer_lock;
	u32 tmict;          /* initial count */
	u8 divide;          /* divide configuration register */
	u64 start_ns;       /* when the count was tmict */
	u64 deadline_tsc;   /* IA32_TSC_DEADLINE, 0 when disarmed */
	u64 due_ns;         /* the host timer's deadline, 0 when idle */
	u64 armed_tsc;      /* the deadline_tsc that due_ns is for; 0: none */
	struct vdev_timer timer;
};

#define MSR_X2APIC_FIRST 0x800U
#define MSR_X2APIC_LAST 0x8FFU

#define APIC_BASE_EXTD BIT(10)
#define APIC_BASE_EN BIT(11)

/* The timer counts at 1 GHz before its divider: Linux finds it by calibration, others by
 * CPUID leaf 0x15 or the PV leaves. */
#define VLAPIC_BUS_HZ 1000000000U

/* Puts *l in its power-on state and makes it known to the platform. vcpu < VDEV_MAX_CPUS. */
void vlapic_init(struct vlapic *l, struct vdev_platform *p, u32 vcpu, u32 apic_id);
/* init: an INIT signal, which keeps the APIC base MSR (SDM vol. 3A, 11.4.7); else power-on. The
 * vCPU must not run. */
void vlapic_reset(struct vlapic *l, bool init);

/* offset within the page. Only whole 32-bit registers exist: other accesses read 0, are dropped. */
u32 vlapic_mmio_read(struct vlapic *l, u32 offset, u32 size);
void vlapic_mmio_write(struct vlapic *l, u32 offset, u32 size, u32 value);

/* MSR_APIC_BASE, MSR_TSC_DEADLINE and MSR_X2APIC_*. -EINVAL asks for #GP(0). */
int vlapic_msr_read(struct vlapic *l, u32 msr, u64 *value);
int vlapic_msr_write(struct vlapic *l, u32 msr, u64 value);

/* Where gpa is in the page that the LAPIC claims (enabled and not x2APIC); PAGE_SIZE and more: not
 * in that page, or there is none. */
#define VLAPIC_NOWHERE BIT(63)
static inline u64 vlapic_offset(const struct vlapic *l, gpa_t gpa)
{
	return gpa - l->page;
}

/* Is any vector requested, whatever its priority? */
static inline bool vlapic_waits(const struct vlapic *l)
{
	return __atomic_load_n(&l->irr_words, __ATOMIC_RELAXED) != 0 || l->own != 0;
}
/* The vector to be delivered now, from IRR above PPR or from the PIC; -1 for none. */
int vlapic_pending(struct vlapic *l);
/* The highest requested vector that the TPR alone holds back, -1 for none. */
int vlapic_blocked(struct vlapic *l);
/* Takes the vector that vlapic_pending() reports (IRR to ISR, or the PIC's INTA); -1 if gone. */
int vlapic_accept(struct vlapic *l);

/* Ends the interrupt in service, as a write to the EOI register does. */
void vlapic_eoi(struct vlapic *l);

/*
 * The short way of vlapic_deliver() for an edge-triggered vector, for who sends to many and has
 * found the LAPIC not among the platform's unusual[vector]. True: requested now, and the caller sees
 * to it that the vCPU looks; false: it was already.
 */
static inline bool vlapic_request(struct vlapic *l, u32 vector)
{
	if (unlikely(bits_set(l->irr, vector)))
		return false;
	(void)bits_set(l->irr_words, vector >> 5);
	return true;
}

/* The TPR byte as hardware has it (V_TPR in bits 7:4). Evaluate vlapic_pending() afterwards. */
void vlapic_set_tpr_hw(struct vlapic *l, u8 tpr);
static inline u8 vlapic_tpr(const struct vlapic *l)
{
	return l->tpr;
}

/* The vCPU's TSC offset changed: an armed TSC deadline is at another time now. Own CPU. */
void vlapic_tsc_changed(struct vlapic *l);

/* One message to this LAPIC, from any CPU. Returns false when it does not accept it. */
bool vlapic_deliver(struct vlapic *l, u32 delivery_mode, u8 vector, bool level);

/* A message on the APIC bus. */
struct apic_message {
	u32 dest;
	u8 mode;      /* enum apic_delivery */
	u8 vector;
	bool logical;
	bool level;
	bool wide;    /* dest is a 32-bit x2APIC destination; else 8 bits */
};

/* Sends *m to all LAPICs it addresses (one of them for APIC_LOWEST). Number that accepted. */
u32 vlapic_send(struct vdev_platform *p, const struct apic_message *m);

#endif
