/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/tsc.h"
#include "arch/x86/tsc_sync.h"
#include "core/errno.h"
#include "core/host.h"
#include "core/vm.h"

/*
 * The guest's clock counts nanoseconds from the VM's creation, as vdev_now_ns()
 * does. All vCPUs compute with one reference, the host's TSC at creation: a
 * record differs from another's only by the vCPU's own TSC offset, so that no
 * clock is ever behind another, and none needs to be written again as time goes
 * by. Only a guest that sets a TSC makes its vCPU's record change.
 */

void pv_clock_scale(u64 mult, u32 *mul, s8 *shift)
{
	u32 s = 0;

	/* Above 1 GHz the factor is the host's own one, and the two clocks agree to the digit. */
	while (mult >> s > 0xffffffffUL)
		s++;
	*mul = (u32)(mult >> s);
	*shift = (s8)s;
}

void pv_clock_update(struct vcpu *v)
{
	struct pv_time_info *r;
	u32 mul;
	s8 shift;

	if ((v->pv.clock & PV_ENABLE) == 0)
		return;
	r = pv_area(v->vm, v->pv.clock & ~PV_ENABLE, sizeof(*r));
	if (r == NULL) {
		v->pv.clock = 0;
		return;
	}
	pv_clock_scale(tsc_to_ns_mult, &mul, &shift);
	v->pv.clock_version |= 1;
	__atomic_store_n(&r->version, v->pv.clock_version, __ATOMIC_RELEASE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* stores stay in order (APM vol. 2, 7.2) */
	r->tsc_timestamp = v->vm->tsc_base + v->tsc_offset;
	r->system_time = 0;
	r->tsc_to_system_mul = mul;
	r->tsc_shift = shift;
	r->flags = tsc_synchronised ? PV_TIME_STABLE : 0;
	__atomic_store_n(&r->version, ++v->pv.clock_version, __ATOMIC_RELEASE);
}

#define NS_A_SECOND 1000000000UL

int pv_write_wall_clock(struct vcpu *v, u64 value)
{
	struct pv_wall_clock *w;
	u64 zero;
	u32 version;

	if (value == 0) {
		v->vm->pv.wall = 0;
		return 0;
	}
	w = IS_ALIGNED(value, 4UL) ? pv_area(v->vm, value, sizeof(*w)) : NULL;
	if (w == NULL)
		return -EINVAL;
	v->vm->pv.wall = value;
	zero = host_wall_ns() - vdev_now_ns(vm_host(v->vm));
	version = __atomic_load_n(&w->version, __ATOMIC_RELAXED) | 1;
	__atomic_store_n(&w->version, version, __ATOMIC_RELEASE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	w->sec = (u32)(zero / NS_A_SECOND); /* unsigned: to the year 2106 */
	w->nsec = (u32)(zero % NS_A_SECOND);
	__atomic_store_n(&w->version, version + 1, __ATOMIC_RELEASE);
	return 0;
}
