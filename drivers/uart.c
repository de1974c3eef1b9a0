/* SPDX-License-Identifier: BSD-2-Clause */
#include "drivers/uart.h"
#include "arch/x86/cpu.h"
#include "arch/x86/paging.h"
#include "core/errno.h"

enum uart_reg { UART_DATA, UART_IER, UART_FCR, UART_LCR, UART_MCR, UART_LSR, UART_MSR, UART_SCR };
#define LCR_8N1 0x03U
#define LCR_DLAB 0x80U
#define LSR_DATA 0x01U
#define LSR_THRE 0x20U
#define LSR_TEMT 0x40U
#define MCR_DTR_RTS_OUT2 0x0bU
#define FCR_ENABLE_CLEAR 0x07U
#define IER_RX 0x01U
#define UART_CLOCK_BAUD 115200U
/* A byte at 1200 baud takes 8 ms; each look takes about a microsecond on a real bus. */
#define TX_WAIT_TURNS 20000U

static u8 reg_read(const struct uart *u, enum uart_reg r)
{
	u32 offset = (u32)r << u->stride_shift;

	return u->regs != NULL ? mmio_read8(u->regs + offset) : inb((u16)(u->port + offset));
}

static void reg_write(const struct uart *u, enum uart_reg r, u8 value)
{
	u32 offset = (u32)r << u->stride_shift;

	if (u->regs != NULL)
		mmio_write8(u->regs + offset, value);
	else
		outb((u16)(u->port + offset), value);
}

static void wait_for(const struct uart *u, u8 status)
{
	for (u32 i = 0; i < TX_WAIT_TURNS && (reg_read(u, UART_LSR) & status) == 0; i++)
		cpu_relax();
}

static int setup(struct uart *u, u32 baud)
{
	u32 divisor = baud == 0 ? 0 : UART_CLOCK_BAUD / baud;

	/* The scratch register keeps what is written where there is a UART. */
	reg_write(u, UART_SCR, 0x5a);
	if (reg_read(u, UART_SCR) != 0x5a)
		return -ENODEV;
	/* It may be in use, by us or by firmware: what is being sent would be lost with the FIFO. */
	wait_for(u, LSR_TEMT);
	reg_write(u, UART_IER, 0);
	if (divisor != 0) {
		reg_write(u, UART_LCR, LCR_DLAB);
		reg_write(u, UART_DATA, (u8)divisor);
		reg_write(u, UART_IER, (u8)(divisor >> 8));
	}
	reg_write(u, UART_LCR, LCR_8N1);
	reg_write(u, UART_FCR, FCR_ENABLE_CLEAR);
	reg_write(u, UART_MCR, MCR_DTR_RTS_OUT2);
	u->baud = baud;
	u->present = true;
	return 0;
}

int uart_init_port(struct uart *u, u16 port, u32 baud)
{
	*u = (struct uart){ .port = port };
	return setup(u, baud);
}

int uart_init_gas(struct uart *u, const struct acpi_gas *gas, u32 baud)
{
	*u = (struct uart){ .port = 0 };
	if (gas->space == GAS_IO && gas->address != 0 && gas->address <= 0xfff8) {
		u->port = (u16)gas->address;
		return setup(u, baud);
	}
	if (gas->space != GAS_MEMORY || gas->address == 0)
		return -ENOTSUP;
	/* A register width of 32 bits says that they stand four bytes apart (SPCR, ACPI DBG2). */
	u->stride_shift = gas->width == 32 ? 2 : 0;
	u->regs = mmio_map(gas->address, 8UL << u->stride_shift);
	return u->regs == NULL ? -ENOSPC : setup(u, baud);
}

void uart_put(struct uart *u, u8 ch)
{
	wait_for(u, LSR_THRE);
	reg_write(u, UART_DATA, ch);
}

int uart_get(struct uart *u)
{
	return (reg_read(u, UART_LSR) & LSR_DATA) != 0 ? reg_read(u, UART_DATA) : -1;
}

void uart_enable_rx_interrupt(struct uart *u)
{
	reg_write(u, UART_IER, IER_RX);
}
