/* SPDX-License-Identifier: BSD-2-Clause */
#include "drivers/console.h"
#include "arch/x86/cpu.h"
#include "arch/x86/traps.h"
#include "core/log.h"
#include "core/string.h"
#include "drivers/acpi.h"
#include "drivers/fb.h"
#include "drivers/ioapic.h"
#include "drivers/uart.h"

#define COM1 0x3f8
#define COM2 0x2f8
#define BAUD 115200U

static struct uart uarts[CONFIG_CONSOLES];
static u32 uart_count;
static bool fb_on;
static bool replayed;

/* Input waits here; power of two. Filled and emptied under the lock. */
#define INPUT_SIZE 256U
static u8 input[INPUT_SIZE];
static u32 input_head, input_tail;
static spinlock_t input_lock;

__weak void console_input_ready(void) {}

/* --- output --- */

void console_put_raw(char c)
{
	for (u32 i = 0; i < uart_count; i++)
		uart_put(&uarts[i], (u8)c);
	if (fb_on)
		fb_put(c);
}

void console_write(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n')
			console_put_raw('\r');
		console_put_raw(text[i]);
	}
}

/* What was logged before there was a console. */
static void replay(void)
{
	char buf[128];
	u64 pos = 0;
	size_t n;

	if (replayed || (uart_count == 0 && !fb_on))
		return;
	replayed = true;
	while ((n = log_read(&pos, buf, sizeof(buf))) != 0)
		console_write(buf, n);
	(void)log_add_sink(console_write);
}

/* The framebuffer comes late: it shows what the serial ports have shown already. */
static void start_fb(const struct boot_info *bi)
{
	char buf[128];
	u64 pos = 0;
	size_t n;

	if (fb_init(&bi->fb) != 0)
		return;
	while (replayed && (n = log_read(&pos, buf, sizeof(buf))) != 0)
		for (size_t i = 0; i < n; i++)
			fb_put(buf[i]);
	fb_on = true;
}

/* --- input --- */

static void queue_input(u8 ch)
{
	u64 flags = spin_lock_irqsave(&input_lock);

	if (input_head - input_tail < INPUT_SIZE)
		input[input_head++ % INPUT_SIZE] = ch;
	spin_unlock_irqrestore(&input_lock, flags);
}

/* As many bytes as a FIFO holds: a line stuck at "data ready" must not hold the CPU. */
#define POLL_BYTES 64

bool console_poll(void)
{
	/* Two readers of one UART, such as an interrupt in the middle of this, would swap bytes. */
	static spinlock_t poll_lock = SPINLOCK_INIT;
	u64 flags = spin_lock_irqsave(&poll_lock);

	for (u32 i = 0; i < uart_count; i++) {
		for (u32 n = 0; n < POLL_BYTES; n++) {
			int c = uart_get(&uarts[i]);

			if (c < 0)
				break;
			queue_input((u8)c);
		}
	}
	spin_unlock_irqrestore(&poll_lock, flags);
	return __atomic_load_n(&input_head, __ATOMIC_ACQUIRE) !=
	       __atomic_load_n(&input_tail, __ATOMIC_ACQUIRE);
}

int console_getc(void)
{
	u64 flags = spin_lock_irqsave(&input_lock);
	int c = -1;

	if (input_head != input_tail) {
		u8 *at = &input[input_tail++ % INPUT_SIZE];

		c = *at;
		*at = 0; /* what was typed may be for one reader only */
	}
	spin_unlock_irqrestore(&input_lock, flags);
	return c;
}

static void receive(struct trap_frame *f)
{
	(void)f;
	if (console_poll())
		console_input_ready();
}

/* False: nobody says where its interrupt goes, or it goes nowhere. */
static bool enable_interrupt(struct uart *u)
{
	u8 irq = u->port == COM1 ? 4 : u->port == COM2 ? 3 : 0;
	int vector;

	if (irq == 0)
		return false;
	vector = irq_alloc_vector();
	if (vector < 0 || irq_register((u8)vector, receive) < 0)
		return false;
	if (ioapic_route_isa(irq, (u8)vector, 0) != 0)
		return false;
	uart_enable_rx_interrupt(u);
	return true;
}

static bool polled;

bool console_is_polled(void)
{
	return polled;
}

/* --- set-up --- */

static void add_port(u16 port, u32 baud)
{
	if (uart_count < CONFIG_CONSOLES && uart_init_port(&uarts[uart_count], port, baud) == 0)
		uart_count++;
}

static void add_spcr(void)
{
	if (!acpi.spcr_present || uart_count == CONFIG_CONSOLES)
		return;
	if (uart_init_gas(&uarts[uart_count], &acpi.spcr, 0) == 0)
		uart_count++;
}

/* "console=" of the boot loader's command line: com1, com2, efifb, none. */
static bool named(const struct boot_info *bi, const char *name)
{
	const char *p = bi->cmdline;
	size_t len = strlen(name);

	while ((p = strchr(p, 'c')) != NULL) {
		if (strncmp(p, "console=", 8) == 0 && strncmp(p + 8, name, len) == 0)
			return true;
		p++;
	}
	return false;
}

void console_early(const struct boot_info *bi)
{
	if (named(bi, "none"))
		return;
	if (named(bi, "efifb"))
		fb_on = fb_init(&bi->fb) == 0;
	else
		add_port(named(bi, "com2") ? COM2 : COM1, BAUD);
	replay();
}

void console_setup(const struct boot_info *bi, const struct console_config *c, u32 count)
{
	uart_count = 0;
	fb_on = false;
	for (u32 i = 0; i < count; i++) {
		if (c[i].kind == CONSOLE_UART)
			add_port(c[i].port, c[i].baud);
		else if (c[i].kind == CONSOLE_FB)
			start_fb(bi);
	}
	if (count == 0) {
		add_spcr();
		if (uart_count == 0)
			add_port(COM1, BAUD);
		start_fb(bi);
	}
	replay();
	for (u32 i = 0; i < uart_count; i++)
		polled |= !enable_interrupt(&uarts[i]);
	if (uart_count == 0 && !fb_on) {
		add_port(COM1, BAUD);
		replay();
		log_warn("console: none of the configured ones exists; using com1");
	}
}
