#include "sev/ghcb.h"
#include "sev/sev.h"
void ghcb_reset(struct vcpu *v) { *v->es->ghcb_msr = 1 | (u64)2 << 48 | (u64)1 << 32 | (u64)sev_facts.c_bit << 24; }
u32 ghcb_vmgexit(struct vcpu *v) { 
 u64 m = *v->es->ghcb_msr;
 if ((m & 0xfff) == 0x100) { vcpu_fatal(v, "terminated by the guest: set %lu reason 0x%lx", m >> 12 & 0xf, m >> 16 & 0xff); return VRESULT_LEAVE; }
 return VRESULT_RETRY; }
void ghcb_hold_end(struct vcpu *v) { v->es->hold = 0; }
