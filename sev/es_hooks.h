/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_SEV_ES_HOOKS_H
#define RAVELIN_SEV_ES_HOOKS_H

#include "core/types.h"

/*
 * Deliberate mistakes, for the tests that show what each rule is good for. Only a
 * build with -DES_TEST_HOOKS has them (`make es-hooks`) and the shell command
 * eshook that turns them on; in the image that is shipped es_hook() is the
 * constant false, and nothing is left of them.
 */
enum es_hook {
	ES_HOOK_INTERCEPTS,    /* CR8 writes and XSETBV are intercepted */
	ES_HOOK_NO_HOLES,      /* devices are not mapped instead of reserved */
	ES_HOOK_AFTER_SHUTDOWN, /* VMRUN again after SHUTDOWN */
	ES_HOOK_NO_INVD,       /* INVD is not intercepted */
	ES_HOOK_CR0,           /* writes the control block's CR0 at each trap */
	ES_HOOK_NO_CR4_TRAP,
	ES_HOOK_VMSA_BYTE,     /* one byte of a VMSA differs at launch */
	ES_HOOK_SOFT_INT,      /* injects a software interrupt */
	ES_HOOK_VECTOR3,       /* injects #BP */
	ES_HOOK_VMSA_ALIGN,    /* VMSA address not aligned */
	ES_HOOK_VMSA_C_BIT,    /* VMSA address with C-bit */
	ES_HOOK_NO_FLUSH,      /* no TLB flush between two vCPUs of a VM */
	ES_HOOK_SKIP_R13,      /* R13 is not stored for #VMEXIT */
	ES_HOOK_NO_FINISH,     /* runs without LAUNCH_FINISH */
	ES_HOOK_SWAP_PAGES,    /* two pages of the guest change places after the launch */
	ES_HOOK_VERSION3,      /* offers GHCB version 3 at least */
	ES_HOOK_KERNEL_BYTE,   /* direct launch: one byte differs after its hash was taken */
	ES_HOOK_INITRD_BYTE,
	ES_HOOK_CMDLINE_BYTE,
	ES_HOOK_VMSA_LATE,     /* registers are set after the launch, by the seam and by force */
	ES_HOOK_HSAVE_PLAIN,   /* VM_HSAVE_PA without the C-bit */
	ES_HOOK_CHECK,         /* none: the registers are looked at with each of them */
	ES_HOOKS
};

#ifdef ES_TEST_HOOKS
struct vmcb;
struct vcpu;
struct vm;
struct vmsa;
extern u32 es_hooks;
#define es_hook(name) ((es_hooks & BIT32(name)) != 0)
void es_hook_intercepts(struct vmcb *b);
/* es_enter() with patterns in the host's registers, and a look at all of them afterwards. */
void es_hook_enter(paddr_t vmcb_pa, struct vmsa *host);
void es_hook_launched(struct vm *vm);
#else
#define es_hook(name) false
#define es_hook_intercepts(b) ((void)(b))
#define es_hook_launched(vm) ((void)(vm))
#endif

#endif
