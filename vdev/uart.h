/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_VDEV_UART_H
#define RAVELIN_VDEV_UART_H

#include "core/spinlock.h"
#include "core/types.h"

/*
 * A 16550A (National PC16550D data sheet). It sends at once; received text
 * waits in a ring behind the 16-byte FIFO. The time-out interrupt comes without
 * the delay of four characters.
 */
struct vdev_platform;

#define VUART_FIFO 16U
#define VUART_RING 512U /* power of two */

struct vuart_fifo {
	u8 data[VUART_FIFO];
	u32 head; /* of the oldest byte */
	u32 len;
};

struct vuart {
	struct vdev_platform *p;
	spinlock_t lock;
	u32 port;        /* 0 for COM1, 1 for COM2 */
	u32 irq;
	u8 ier, fcr, lcr, mcr, scr, dll, dlm;
	u8 lsr;          /* only the overrun bit; the rest follows from the FIFOs */
	u8 msr;
	bool thre_irq;   /* transmitter-empty interrupt pending */
	bool line;       /* level of the interrupt line */
	struct vuart_fifo rx;
	struct vuart_fifo tx;
	u8 ring[VUART_RING];
	u32 ring_head, ring_len;
};

int vuart_init(struct vuart *u, struct vdev_platform *p, u32 port);
void vuart_reset(struct vuart *u);
/* Text for the guest, interrupts off, any CPU. Returns how many bytes found room. */
u32 vuart_rx(struct vuart *u, const u8 *data, u32 len);
/* vdev_console_put() may succeed again: sends what waits. Interrupts off, any CPU. */
void vuart_tx_ready(struct vuart *u);

#endif
