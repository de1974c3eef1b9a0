/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/vm.h"

/*
 * End of interrupt without an exit. When an interrupt is delivered and nothing
 * else waits, bit 0 of the guest's word is set: the offer. A guest that finds
 * it clears it, and that is its EOI. The word is looked at again only when it
 * matters: another vector has been requested, or the guest touches its LAPIC.
 * Then the bit is either still set, and the offer is withdrawn, or it is not,
 * and the EOI that the guest has done is carried out.
 */
#define PV_EOI_BIT 1U

static u8 *eoi_word(struct vcpu *v)
{
	return pv_area(v->vm, v->pv.eoi & ~PV_ENABLE, 4);
}

void pv_eoi_settle(struct vcpu *v)
{
	u8 *word = eoi_word(v);

	v->pv.eoi_armed = false;
	if (word == NULL) { /* its page went away: from here on by the register */
		v->pv.eoi = 0;
		return;
	}
	if ((__atomic_fetch_and(word, (u8)~PV_EOI_BIT, __ATOMIC_SEQ_CST) & PV_EOI_BIT) != 0)
		return;
	v->pv.eois++;
	vlapic_eoi(&v->lapic);
}

int pv_eoi_accept(struct vcpu *v)
{
	struct vlapic *l = &v->lapic;
	u8 before = l->isrv;
	int vector = vlapic_accept(l);
	u8 *word;

	/* isrv stays for a vector of the PIC. A level-triggered one's EOI is news to the IOAPIC. */
	if (vector < 0 || l->isrv == before || v->pv.eoi_armed || vlapic_waits(l) ||
	    (__atomic_load_n(&l->tmr[vector >> 5], __ATOMIC_RELAXED) & BIT32(vector & 31)) != 0)
		return vector;
	word = eoi_word(v);
	if (word != NULL) {
		__atomic_fetch_or(word, (u8)PV_EOI_BIT, __ATOMIC_SEQ_CST);
		v->pv.eoi_armed = true;
	}
	return vector;
}
