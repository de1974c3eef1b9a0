/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/console.h"

#include "core/errno.h"
#include "core/heap.h"
#include "core/log.h"
#include "core/shell.h"
#include "core/spinlock.h"
#include "core/string.h"
#include "core/unit.h"
#include "core/vm.h"
#include "drivers/console.h"

#define OUT_SIZE 4096U /* powers of two */
#define IN_SIZE 1024U
#define CHUNK 128U     /* bytes to the machine's console in one call of console_task() */
#define PORTS 2U

struct guest_port {
	spinlock_t lock;  /* of what follows up to out[] */
	bool attached;
	bool stalled;     /* the guest's UART was refused a byte and waits */
	u32 head, tail;   /* free running: head - tail bytes are in out[] */
	u8 out[OUT_SIZE];
	u32 in_head, in_tail; /* CPU 0 only */
	u8 in[IN_SIZE];
};

struct guest_console {
	struct guest_port port[PORTS];
};

static struct guest_console *consoles[VM_MAX];

/* Who has the machine's console. CPU 0 only. */
static struct {
	struct vm *vm;      /* NULL: the shell */
	u32 port;
	bool has_run;       /* seen running since it was attached */
	/* The escape key was the last input: once more gives it to this port. */
	char escaped[CONFIG_NAME_LEN];
	u32 escaped_port;
} owner;

/* ---- guest side ---- */

bool vdev_console_put(struct vdev_host *h, u32 port, u8 ch)
{
	struct guest_console *con = consoles[vm_from_host(h)->id];
	struct guest_port *g;
	bool notify = false;
	bool ok = true;
	u64 flags;

	if (!con || port >= PORTS)
		return true;
	g = &con->port[port];
	flags = spin_lock_irqsave(&g->lock);
	if (g->head - g->tail == OUT_SIZE) {
		if (g->attached) {
			g->stalled = true;
			ok = false;
		} else {
			g->tail++; /* the oldest goes */
		}
	}
	if (ok) {
		notify = g->attached && g->head == g->tail;
		g->out[g->head++ % OUT_SIZE] = ch;
	}
	spin_unlock_irqrestore(&g->lock, flags);
	if (notify)
		console_notify();
	return ok;
}

static void port_attach(struct guest_port *g, bool attached, bool *stalled)
{
	u64 flags = spin_lock_irqsave(&g->lock);

	g->attached = attached;
	*stalled = g->stalled;
	g->stalled = false;
	spin_unlock_irqrestore(&g->lock, flags);
}

/* Takes up to size bytes out of the ring; *more: some are left; *stalled: the UART waits. */
static u32 port_take(struct guest_port *g, u8 *buf, u32 size, bool *more, bool *stalled)
{
	u64 flags = spin_lock_irqsave(&g->lock);
	u32 n = MIN(g->head - g->tail, size);

	for (u32 i = 0; i < n; i++)
		buf[i] = g->out[g->tail++ % OUT_SIZE];
	*more = g->head != g->tail;
	*stalled = g->stalled;
	g->stalled = false;
	spin_unlock_irqrestore(&g->lock, flags);
	return n;
}

static void tx_ready(struct vm *vm, u32 port)
{
	u64 flags = irq_save();

	vplatform_console_tx_ready(&vm->platform, port);
	irq_restore(flags);
}

/* ---- the machine's side ---- */

static struct guest_port *owner_port(void)
{
	return &consoles[owner.vm->id]->port[owner.port];
}

struct vm *console_owner(void)
{
	return owner.vm;
}

/* Gives the guest's UART what it has room for. */
static void push_input(void)
{
	struct guest_port *g = owner_port();

	while (g->in_head != g->in_tail) {
		u32 at = g->in_tail % IN_SIZE;
		u32 len = MIN(g->in_head - g->in_tail, IN_SIZE - at);
		u64 flags = irq_save();
		u32 n = vplatform_console_rx(&owner.vm->platform, owner.port, g->in + at, len);

		irq_restore(flags);
		g->in_tail += MIN(n, len);
		if (n < len)
			return; /* tried again with the next console_task() */
	}
}

/* "Ctrl-]" for the configured key. */
static char escape_letter(void)
{
	return (char)(config.host.escape + '@');
}

void console_attach(struct vm *vm, u32 port)
{
	bool stalled;

	if (!consoles[vm->id] || port >= PORTS) {
		log_err("console: vm %s has no serial port %u", vm->name, port);
		return;
	}
	if (owner.vm)
		console_detach();
	log_printf("[%s, serial port %u; Ctrl-%c returns to the shell]\n", vm->name, port + 1,
		   escape_letter());
	owner.vm = vm;
	owner.port = port;
	owner.has_run = false;
	port_attach(owner_port(), true, &stalled);
	console_notify();
}

void console_detach(void)
{
	struct vm *vm = owner.vm;
	bool stalled;

	if (!vm)
		return;
	push_input();
	owner_port()->in_tail = owner_port()->in_head; /* what had no room is not for later */
	port_attach(owner_port(), false, &stalled);
	owner.vm = NULL;
	if (stalled)
		tx_ready(vm, owner.port);
}

static void to_shell(const char *why)
{
	log_printf("\n[%s: %s]\n", owner.vm->name, why);
	console_detach();
	shell_prompt();
}

static void drain_output(void)
{
	struct guest_port *g = owner_port();
	bool more, stalled;
	u8 buf[CHUNK];
	u32 n = port_take(g, buf, CHUNK, &more, &stalled);

	for (u32 i = 0; i < n; i++)
		console_put_raw((char)buf[i]);
	if (stalled)
		tx_ready(owner.vm, owner.port);
	if (more || stalled)
		console_notify();
	else if (owner.vm->state == VM_RUNNING)
		owner.has_run = true;
	else if (owner.has_run && (owner.vm->state == VM_OFF || owner.vm->state == VM_CRASHED))
		to_shell(owner.vm->state == VM_OFF ? "is off" : "has crashed");
}

static void input_put(struct guest_port *g, u8 ch)
{
	if (g->in_head - g->in_tail < IN_SIZE)
		g->in[g->in_head++ % IN_SIZE] = ch;
}

static void escape_key(void)
{
	str_copy(owner.escaped, owner.vm->name, sizeof(owner.escaped));
	owner.escaped_port = owner.port;
	to_shell("still runs; the same key again goes to it");
}

/* The escape key twice: back to the port, which receives the key once. */
static void escape_again(u8 ch)
{
	struct vm *vm = vm_find(owner.escaped);

	if (!vm)
		return;
	console_attach(vm, owner.escaped_port);
	if (owner.vm)
		input_put(owner_port(), ch);
}

static void input_byte(u8 ch)
{
	bool is_escape = ch == (u8)config.host.escape;

	if (owner.vm && is_escape)
		escape_key();
	else if (owner.vm)
		input_put(owner_port(), ch);
	else if (is_escape && owner.escaped[0])
		escape_again(ch);
	else
		shell_input(ch);
	if (!is_escape)
		owner.escaped[0] = '\0';
}

static bool input_room(void)
{
	struct guest_port *g;

	if (!owner.vm)
		return true;
	g = owner_port();
	return g->in_head - g->in_tail < IN_SIZE;
}

static void take_input(void)
{
	int ch = -1;

	console_poll();
	for (u32 i = 0; i < CHUNK && input_room(); i++) {
		ch = console_getc();
		if (ch < 0)
			break;
		input_byte((u8)ch);
	}
	if (ch >= 0 && input_room())
		console_notify();
}

void console_task(void)
{
	take_input();
	if (owner.vm)
		push_input();
	if (owner.vm)
		drain_output();
}

void console_start(void)
{
	struct vm *vm = config.host.attach[0] ? vm_find(config.host.attach) : NULL;

	if (config.host.attach[0] && !vm)
		log_warn("console: attach = %s: the VM was not created", config.host.attach);
	if (vm)
		console_attach(vm, 0);
	else
		shell_prompt();
}

static int console_vm_init(struct vm *vm)
{
	if (vm->id >= VM_MAX)
		return -ERANGE;
	consoles[vm->id] = heap_alloc(sizeof(struct guest_console));
	return consoles[vm->id] ? 0 : -ENOMEM;
}

/* The VM's vCPUs have stopped for good. */
static void console_vm_exit(struct vm *vm)
{
	if (owner.vm == vm)
		to_shell("is gone");
	heap_free(consoles[vm->id]);
	consoles[vm->id] = NULL;
}

UNIT(40, console) = { .name = "console", .vm_init = console_vm_init, .vm_exit = console_vm_exit };
