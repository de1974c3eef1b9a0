/* SPDX-License-Identifier: BSD-2-Clause */
#ifdef ES_TEST_HOOKS
#include "arch/x86/paging.h"
#include "arch/x86/vmx/vmx.h"
#include "core/errno.h"
#include "core/pmm.h"
#include "core/shell.h"
#include "core/string.h"

/*
 * What a test does to one VM that is off: mistakes for which the CPU stops that VM, and
 * a change of its nested mappings. As sev/es_hooks.h, never in the image that is shipped
 * (`make es-hooks`).
 */

/* Where most guests of tests/guests begin, and what remap.asm there looks at. */
#define PAGE_GPA 0x200000UL

/* A link pointer to no page (SDM vol. 3, 27.3.1.5): the entry refuses the guest's state. */
static int spoil_state(struct vm *vm)
{
	int err = vmx_focus(vm->vcpu[0]);

	if (err == 0)
		vmx_write(VMCS_LINK, 1);
	return err;
}

static int remap(struct vm *vm, gpa_t gpa, paddr_t pa, u32 prot)
{
	int err = pt_unmap(&vm->npt, gpa, PAGE_SIZE);

	return err == 0 ? pt_map(&vm->npt, gpa, pa, PAGE_SIZE, prot) : err;
}

/* Writable but not readable (SDM vol. 3, 29.3.3.1): a misconfiguration at the first access. */
static int spoil_ept(struct vm *vm)
{
	struct pt_walk w;
	int err = pt_lookup(&vm->npt, PAGE_GPA, &w);

	return err == 0 ? remap(vm, PAGE_GPA, w.pa, PT_WRITE) : err;
}

/* Another page, of zeros; it is never given back. */
static int move_page(struct vm *vm)
{
	paddr_t pa = alloc_pages(ORDER_4K, ALLOC_ZERO);

	return pa != 0 ? remap(vm, PAGE_GPA, pa, PT_RWX) : -ENOMEM;
}

static int hook_command(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*fn)(struct vm *vm);
	} hooks[] = { { "state", spoil_state }, { "ept", spoil_ept }, { "move", move_page } };
	struct vm *vm = argc == 3 ? vm_find(argv[2]) : NULL;

	if (vm == NULL || vm->state == VM_RUNNING)
		return -EINVAL;
	for (u32 i = 0; i < ARRAY_SIZE(hooks); i++)
		if (strcmp(argv[1], hooks[i].name) == 0)
			return hooks[i].fn(vm);
	return -EINVAL;
}
SHELL_COMMAND(vmxhook, hook_command, "state|ept|move VM", "spoils or moves what a VM has");
#endif
