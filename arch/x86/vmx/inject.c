/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/vmx/vmx.h"

/*
 * Events for the guest (SDM vol. 3, 27.6 and 27.7.5). One event fits into an entry;
 * for what must wait a window is opened: an exit as soon as the guest can take an
 * interrupt, or an NMI. What only the TPR holds back waits for the TPR threshold.
 */

static void set_hazard(struct vcpu *v, u32 bits)
{
	__atomic_or_fetch(&v->hazards, bits, __ATOMIC_RELAXED);
}

void vmx_close_windows(struct vmx_vcpu *vx, u32 which)
{
	vmx_proc_ctls(vx, 0, which);
}

static void set_threshold(struct vmx_vcpu *vx, u32 threshold)
{
	if (vx->threshold == threshold)
		return;
	vx->threshold = threshold;
	vmx_write(VMCS_TPR_THRESHOLD, threshold);
}

/* --- interrupts ------------------------------------------------------------------------------- */

static bool irq_open(void)
{
	return (vmx_read(VMCS_GUEST_RFLAGS) & RFLAGS_IF) != 0 &&
	       (vmx_read(VMCS_GUEST_INTERRUPTIBILITY) & INTERRUPTIBILITY_SHADOW) == 0;
}

/* Nothing is deliverable now: wait for what the TPR holds back, if there is such a thing. */
static void wait_tpr(struct vcpu *v, struct vmx_vcpu *vx)
{
	int blocked = vcpu_irq_blocked(v);

	vmx_close_windows(vx, PROC_INTR_WINDOW);
	set_threshold(vx, blocked >= 0 ? (u32)blocked >> 4 : 0);
}

static void inject_irq(struct vcpu *v, struct vmx_vcpu *vx, bool busy)
{
	int vector;

	/* Before looking: a kick from here on is not lost. */
	vcpu_hazard_clear(v, HAZ_IRQ);
	vmx_sync_tpr(v);
	vector = vcpu_irq_pending(v);
	if (vector < 0) {
		wait_tpr(v, vx);
		return;
	}
	set_threshold(vx, 0);
	if (busy || !irq_open()) {
		vmx_proc_ctls(vx, PROC_INTR_WINDOW, 0);
		return;
	}
	vector = vcpu_irq_accept(v);
	if (vector >= 0)
		vmx_write(VMCS_ENTRY_INTR_INFO, INTR_VALID | INTR_TYPE_EXT | (u32)vector);
	/* What is left is of lower priority and comes with EOI, unless the PIC has one too. */
	if (vcpu_irq_pending(v) >= 0)
		vmx_proc_ctls(vx, PROC_INTR_WINDOW, 0);
	else
		wait_tpr(v, vx);
}

/* --- NMIs ------------------------------------------------------------------------------------- */

static void nmi_took_one(struct vcpu *v)
{
	if (__atomic_sub_fetch(&v->nmi_pending, 1, __ATOMIC_ACQ_REL) == 0)
		vcpu_hazard_clear(v, HAZ_NMI);
	/* One that came between the two lines has set the count again: look once more. */
	if (__atomic_load_n(&v->nmi_pending, __ATOMIC_ACQUIRE) != 0)
		set_hazard(v, HAZ_NMI);
}

/* True: an NMI goes in with this entry. The CPU tracks whether the guest is in a handler. */
static bool inject_nmi(struct vcpu *v, struct vmx_vcpu *vx, bool busy)
{
	u64 blocked = INTERRUPTIBILITY_SHADOW | INTERRUPTIBILITY_NMI;

	if (__atomic_load_n(&v->nmi_pending, __ATOMIC_ACQUIRE) == 0) {
		vcpu_hazard_clear(v, HAZ_NMI);
		return busy;
	}
	if (busy || (vmx_read(VMCS_GUEST_INTERRUPTIBILITY) & blocked) != 0) {
		/* The window's exit brings the hazard back. */
		vcpu_hazard_clear(v, HAZ_NMI);
		vmx_proc_ctls(vx, PROC_NMI_WINDOW, 0);
		return busy;
	}
	vmx_write(VMCS_ENTRY_INTR_INFO, INTR_VALID | INTR_TYPE_NMI | VEC_NMI);
	nmi_took_one(v);
	return true;
}

/* --- all -------------------------------------------------------------------------------------- */

static u32 event_word(const struct vevent *e)
{
	static const u32 types[] = {
		[VEVENT_NONE] = 0,
		[VEVENT_INTR] = INTR_VALID | INTR_TYPE_EXT,
		[VEVENT_NMI] = INTR_VALID | INTR_TYPE_NMI,
		[VEVENT_EXCEPTION] = INTR_VALID | INTR_TYPE_HW_EXCEPTION,
		[VEVENT_SOFT_INT] = INTR_VALID | INTR_TYPE_SOFT_INT,
	};
	u32 w = e->type < ARRAY_SIZE(types) ? types[e->type] : 0;

	/* In real mode no exception has an error code, and an entry with one is refused. */
	if (e->has_error && (vmx_read(VMCS_GUEST_CR0) & CR0_PE) != 0)
		w |= INTR_ERROR_CODE;
	return w | e->vector;
}

/* An entry with TF and an interrupt shadow wants the pending single step named (27.3.1.5). */
static void name_pending_step(u64 interruptibility)
{
	if ((interruptibility & INTERRUPTIBILITY_SHADOW) == 0 ||
	    (vmx_read(VMCS_GUEST_RFLAGS) & RFLAGS_TF) == 0)
		return;
	vmx_write(VMCS_GUEST_PENDING_DEBUG,
		  vmx_read(VMCS_GUEST_PENDING_DEBUG) | PENDING_DEBUG_BS);
}

/* True: the event goes in with this entry. */
static bool inject_event(struct vcpu *v)
{
	u64 i = vmx_read(VMCS_GUEST_INTERRUPTIBILITY), was = i;

	vcpu_hazard_clear(v, HAZ_EVENT);
	if (v->event.type == VEVENT_NONE)
		return false;
	/* An NMI whose delivery was cut short has closed NMIs already; its delivery closes them. */
	if (v->event.type == VEVENT_NMI)
		i &= ~INTERRUPTIBILITY_NMI;
	/* What is delivered again had been accepted: no shadow held it back. */
	if (v->event.type == VEVENT_INTR || v->event.type == VEVENT_NMI)
		i &= ~INTERRUPTIBILITY_SHADOW;
	if (i != was)
		vmx_write(VMCS_GUEST_INTERRUPTIBILITY, i);
	name_pending_step(i);
	if (v->event.has_error)
		vmx_write(VMCS_ENTRY_ERROR_CODE, v->event.error);
	/* A software interrupt's RIP is behind its instruction already. */
	if (v->event.type == VEVENT_SOFT_INT)
		vmx_write(VMCS_ENTRY_INSN_LEN, 0);
	vmx_write(VMCS_ENTRY_INTR_INFO, event_word(&v->event));
	v->event.type = VEVENT_NONE;
	return true;
}

void vmx_inject(struct vcpu *v, u32 hazards)
{
	struct vmx_vcpu *vx = vmx_vcpu(v);
	bool busy = false;

	if ((hazards & HAZ_EVENT) != 0)
		busy = inject_event(v);
	if ((hazards & HAZ_NMI) != 0)
		busy = inject_nmi(v, vx, busy);
	if ((hazards & HAZ_IRQ) != 0)
		inject_irq(v, vx, busy);
}

/*
 * The event has not been delivered (SDM vol. 3, 28.2.4). Software interrupts and
 * exceptions (INT n, INT1, INT3, INTO) are not queued: RIP still is at the
 * instruction, which runs again.
 */
void vmx_requeue(struct vcpu *v, u32 info)
{
	u8 type;

	switch (info & INTR_TYPE) {
	case INTR_TYPE_EXT: type = VEVENT_INTR; break;
	case INTR_TYPE_NMI: type = VEVENT_NMI; break;
	case INTR_TYPE_HW_EXCEPTION: type = VEVENT_EXCEPTION; break;
	default: return;
	}
	v->event = (struct vevent){
		.type = type,
		.vector = info & INTR_VECTOR,
		.has_error = (info & INTR_ERROR_CODE) != 0,
	};
	if (v->event.has_error)
		v->event.error = (u32)vmx_read(VMCS_IDT_ERROR_CODE);
	set_hazard(v, HAZ_EVENT);
}
