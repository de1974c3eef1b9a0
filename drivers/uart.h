/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_DRIVERS_UART_H
#define RAVELIN_DRIVERS_UART_H

#include "core/types.h"
#include "drivers/acpi.h"

/* A 16550 (National PC16550D data sheet) at an I/O port or in memory. */
struct uart {
	u16 port;            /* I/O port, 0 when in memory */
	volatile u8 *regs;   /* memory, or NULL */
	u8 stride_shift;     /* registers are 1 << stride_shift bytes apart */
	u32 baud;
	bool present;
};

/* Sets up 8n1 at baud (0: as it is). -ENODEV when nothing answers there. */
int uart_init_port(struct uart *u, u16 port, u32 baud);
/* The one that ACPI's SPCR names. -ENOTSUP for a register layout that is no 16550. */
int uart_init_gas(struct uart *u, const struct acpi_gas *gas, u32 baud);
/* Waits for room, for a bounded time. */
void uart_put(struct uart *u, u8 ch);
/* A received byte, or -1. */
int uart_get(struct uart *u);
/* Interrupts when bytes arrive. */
void uart_enable_rx_interrupt(struct uart *u);

#endif
