/* SPDX-License-Identifier: BSD-2-Clause */
#include "sev/es.h"
#include "arch/x86/cpu.h"
#include "core/errno.h"
#include "core/heap.h"
#include "core/log.h"
#include "core/pmm.h"
#include "core/string.h"
#include "sev/es_hooks.h"

/* What an SEV-ES guest is beside a plain VM, from its creation to its end. */

/* Guests that the processor would not end when their VMs went away: tried again at each launch. */
static struct es_vm *graves;

/* Encrypted lines of the guest must not be written back over what its frames hold next. */
static int end_guest(struct es_vm *es)
{
	if (es->guest.handle == 0)
		return 0;
	sev_wbinvd();
	return sev_guest_stop(&es->guest);
}

static void free_grave(struct es_vm *es)
{
	for (u32 i = 0; i < VCPU_MAX; i++)
		if (es->vmsa[i] != 0)
			free_pages(es->vmsa[i], ORDER_4K);
	if (es->ram.rom != 0)
		free_pages(es->ram.rom, es->ram.rom_order);
	for (u32 i = 0; i < es->ram.chunks; i++)
		free_pages(es->ram.chunk[i], ORDER_2M);
	heap_free(es->ram.chunk);
	heap_free(es);
}

static void retry_graves(void)
{
	struct es_vm **p = &graves;

	while (*p != NULL) {
		struct es_vm *es = *p;

		if (psp_dead() || end_guest(es) != 0) {
			p = &es->next;
			continue;
		}
		*p = es->next;
		free_grave(es);
	}
}

int es_vm_create(struct vm *vm)
{
	int err;

	if (vm->config->sev != SEV_ES)
		return 0;
	err = sev_up();
	if (err != 0) {
		log_err("vm %s: sev = es, but SEV-ES is not available: see the reason above, or psp",
			vm->name);
		return err;
	}
	retry_graves();
	vm->es = heap_alloc(sizeof(*vm->es));
	if (vm->es == NULL)
		return -ENOMEM;
	str_copy(vm->es->name, vm->name, sizeof(vm->es->name));
	vm->es->min_version = es_hook(ES_HOOK_VERSION3) ? 3 : GHCB_VERSION_MIN;
	return 0;
}

/*
 * A physical address bit that no CPU accepts (APM vol. 2, 15.34.6: those above
 * the reduced width are reserved), and not the C-bit, which has a meaning. 0: none.
 */
static u64 reserved_bit(void)
{
	u32 bit = sev_facts.c_bit == 51 ? 50 : 51;

	return bit >= cpu_features.phys_bits ? BIT(bit) : 0;
}

#define GPA_END BIT(48)

/*
 * Only a nested fault by a reserved bit becomes #VC, by which the guest asks for
 * what lies there; one by a missing entry would come back for ever (APM vol. 2,
 * 15.35.4). Entries of the top level are leaves here that no CPU accepts either.
 */
int es_vm_map(struct vm *vm)
{
	const struct pt_format *format = vm->npt.fmt;
	struct pt_format holes = *format;
	u64 bit = reserved_bit();
	struct pt_walk w;
	int err = 0;

	if (vm->es == NULL || es_hook(ES_HOOK_NO_HOLES))
		return 0;
	if (bit == 0) {
		log_err("vm %s: this CPU has no reserved address bit to mark devices with", vm->name);
		return -ENOTSUP;
	}
	holes.large_levels |= BIT32(4);
	vm->npt.fmt = &holes;
	for (gpa_t gpa = 0; gpa < GPA_END && err == 0; gpa += w.page_size) {
		if (pt_lookup(&vm->npt, gpa, &w) == 0)
			w.page_size -= gpa & (w.page_size - 1);
		else
			err = pt_map(&vm->npt, gpa, bit, w.page_size, PT_RWX | PT_USER);
	}
	vm->npt.fmt = format;
	return err;
}

int es_stop(struct vm *vm)
{
	if (vm->es == NULL)
		return 0;
	es_secret_drop(vm->es);
	if (vm->state == VM_WAITING) {
		vm->state = VM_OFF;
		vm->why[0] = '\0';
	}
	return end_guest(vm->es);
}

static void bury(struct vm *vm)
{
	struct es_vm *es = vm->es;

	es->ram = vm->ram;
	vm->ram.chunks = 0;
	vm->ram.chunk = NULL;
	vm->ram.rom = 0;
	for (u32 i = 0; i < vm->vcpus; i++)
		if (vm->vcpu[i] != NULL && vm->vcpu[i]->es != NULL) {
			es->vmsa[i] = vm->vcpu[i]->es->vmsa;
			vm->vcpu[i]->es->vmsa = 0;
		}
	es->guest.name = es->name;
	es->next = graves;
	graves = es;
	log_err("vm %s: its memory is kept until the PSP ends the guest", vm->name);
}

void es_vm_destroy(struct vm *vm)
{
	if (vm->es == NULL)
		return;
	if (es_stop(vm) == 0)
		heap_free(vm->es);
	else
		bury(vm);
	vm->es = NULL;
}
