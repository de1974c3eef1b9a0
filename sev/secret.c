/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/errno.h"
#include "core/heap.h"
#include "core/log.h"
#include "core/shell.h"
#include "core/string.h"
#include "sev/base64.h"
#include "sev/es.h"

/*
 * The owner's secret (SEV API specification, 6.6): a header and a payload, packed for the
 * measurement of one launch. It comes as files, or by the shell while the launch waits. Guests'
 * owners need not trust this memory, but what came by a console is wiped when it has been used.
 */
#define SECRET_MAX KIB(16)

struct es_packet {
	u8 payload[SECRET_MAX]; /* page aligned */
	u8 header[PSP_SECRET_HDR_SIZE];
	u32 size; /* of the payload, so far */
};

void es_secret_place(struct vm *vm, gpa_t gpa, u32 size)
{
	struct es_vm *es = vm->es;
	size_t room = MIN(size, SECRET_MAX);

	if (vm->config->sev_secret_gpa != 0) {
		gpa = vm->config->sev_secret_gpa;
		room = SECRET_MAX;
	}
	es->secret = room != 0 && IS_ALIGNED(gpa, 16) ? vm_ram_ptr(vm, gpa, &room, true) : NULL;
	es->secret_room = es->secret != NULL ? (u32)room : 0;
}

static int check_place(const struct vm *vm)
{
	if (vm->es->secret != NULL)
		return 0;
	log_err("vm %s: sev-secret: no place for it in the guest; set sev-secret-gpa to RAM, a "
		"multiple of 16", vm->name);
	return -EFAULT;
}

int es_secret_wait(struct vm *vm)
{
	int err = check_place(vm);

	if (err != 0)
		return err;
	vm->state = VM_WAITING;
	str_copy(vm->why, "for its owner's secret: vm secret", sizeof(vm->why));
	log_info("vm %s: waits for its owner's secret of %u bytes at most: vm secret %s ...",
		 vm->name, vm->es->secret_room, vm->name);
	return 0;
}

int es_secret_give(struct vm *vm, const u8 *header, paddr_t payload, u64 size)
{
	const struct es_vm *es = vm->es;
	int err = check_place(vm);

	if (err != 0)
		return err;
	if (size == 0 || size > es->secret_room || !IS_ALIGNED(size, 16)) {
		log_err("vm %s: the secret's payload has %lu bytes; its place takes 16 to %u, in "
			"steps of 16", vm->name, size, es->secret_room);
		return -E2BIG;
	}
	return sev_guest_secret(&es->guest, header, payload, virt_to_phys(es->secret), (u32)size);
}

/* --- the shell --- */

void es_secret_drop(struct es_vm *es)
{
	if (es->packet == NULL)
		return;
	memset(es->packet, 0, sizeof(*es->packet));
	heap_free(es->packet);
	es->packet = NULL;
}

/* One piece, behind those that are there. */
static int take_payload(const struct vm *vm, const char *text)
{
	struct es_packet *p = vm->es->packet;
	s64 n = base64_decode(text, strlen(text), p->payload + p->size,
			      vm->es->secret_room - p->size);

	if (n == -E2BIG)
		log_printf("%s: the payload is longer than its place of %u bytes; pack less\n",
			   vm->name, vm->es->secret_room);
	else if (n < 0)
		log_printf("%s: the payload is no base64, or cut within a group of four\n",
			   vm->name);
	else
		p->size += (u32)n;
	return n < 0 ? (int)n : 0;
}

static int take_header(const struct vm *vm, const char *text)
{
	u8 *header = vm->es->packet->header;

	if (base64_decode(text, strlen(text), header, PSP_SECRET_HDR_SIZE) == PSP_SECRET_HDR_SIZE)
		return 0;
	log_printf("%s: the header is not %u bytes in base64\n", vm->name, PSP_SECRET_HDR_SIZE);
	return -EPROTO;
}

/* argv: what follows the VM's name. */
static int take(struct vm *vm, int argc, char **argv)
{
	bool more = !strcmp(argv[0], "+");
	struct es_vm *es = vm->es;
	int err = 0;

	if (es->packet == NULL)
		es->packet = heap_alloc(sizeof(*es->packet));
	if (es->packet == NULL)
		err = -ENOMEM;
	if (err == 0 && !more)
		err = take_header(vm, argv[0]);
	if (err == 0 && argc > 1)
		err = take_payload(vm, argv[1]);
	if (err == 0 && more)
		return -EAGAIN;
	if (err == 0)
		err = es_secret_give(vm, es->packet->header,
				     machine_pa(virt_to_phys(es->packet->payload)), es->packet->size);
	es_secret_drop(es);
	if (err != 0)
		log_printf("%s: refused, error %d; it still waits: give the whole packet again, or "
			   "none\n", vm->name, -err);
	return err;
}

static int go_on(struct vm *vm)
{
	int err = es_launch_finish(vm);

	if (err == 0) {
		vm_run(vm);
	} else {
		(void)es_stop(vm);
		log_err("vm %s: not started", vm->name);
	}
	return err;
}

static struct vm *need_waiting(const char *name)
{
	struct vm *vm = vm_find(name);

	if (vm != NULL && vm->state == VM_WAITING)
		return vm;
	log_printf("%s: %s\n", name, vm == NULL ? "no such VM; try vm list" :
		   vm->es == NULL ? "is no SEV-ES guest and takes no secret" :
		   config_secret_waits(vm->config) ?
		   "is not in a launch that waits; see vm list" :
		   "waits for none: sev-secret = wait is not set");
	return NULL;
}

static int run(int argc, char **argv)
{
	struct vm *vm;
	int err = 0;

	if (argc < 4 || argc > 5 || (argc == 4 && !strcmp(argv[3], "+")))
		return -EINVAL;
	vm = need_waiting(argv[2]);
	if (vm == NULL)
		return -ENOENT;
	if (argc == 5 || strcmp(argv[3], "none") != 0)
		err = take(vm, argc - 3, argv + 3);
	if (err == -EAGAIN)
		return 0;
	return err != 0 ? err : go_on(vm);
}

int es_secret_command(int argc, char **argv)
{
	int err = run(argc, argv);

	for (int i = 3; i < argc; i++)
		memset(argv[i], 0, strlen(argv[i]));
	shell_forget();
	return err;
}
