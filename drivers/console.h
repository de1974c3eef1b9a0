/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_DRIVERS_CONSOLE_H
#define RAVELIN_DRIVERS_CONSOLE_H

#include "core/boot_info.h"
#include "core/config.h"

/*
 * The machine's console: up to CONFIG_CONSOLES devices, all get the same
 * output, input comes from any. Before console_setup(), text waits in the log
 * ring and is printed when the first device comes up.
 */
/* Early: looks at "console=" of the command line only; com1 when absent. */
void console_early(const struct boot_info *bi);
/* After the configuration is read: replaces the devices by the configured ones; none named: SPCR,
 * else COM1, and the framebuffer if there is one. */
void console_setup(const struct boot_info *bi, const struct console_config *c, u32 count);

/* Output as is, with "\n" sent as "\r\n". Any context. */
void console_write(const char *text, size_t len);
/* One byte without translation (guests' output). */
void console_put_raw(char c);
/* Moves received bytes from the devices into the input queue; true when there is input. */
bool console_poll(void);
/* The next input byte 0..255, -1 when none. Does not block. */
int console_getc(void);
/* Must console_poll() be called now and then, because a device has no interrupt? */
bool console_is_polled(void);
/* Called in interrupt context when input arrives; weak default does nothing. */
void console_input_ready(void);

#endif
