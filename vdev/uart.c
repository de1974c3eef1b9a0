/* SPDX-License-Identifier: BSD-2-Clause */
#include "vdev/uart.h"

#include "core/errno.h"
#include "vdev/platform.h"

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RX 0x01U
#define IER_THRE 0x02U
#define IER_LINE 0x04U
#define IER_MODEM 0x08U
#define IIR_NONE 0x01U
#define IIR_MODEM 0x00U
#define IIR_THRE 0x02U
#define IIR_RX 0x04U
#define IIR_LINE 0x06U
#define IIR_TIMEOUT 0x0CU
#define IIR_FIFOS 0xC0U
#define FCR_ENABLE 0x01U
#define FCR_CLEAR_RX 0x02U
#define FCR_CLEAR_TX 0x04U
#define LCR_DLAB 0x80U
#define MCR_DTR 0x01U
#define MCR_RTS 0x02U
#define MCR_OUT1 0x04U
#define MCR_OUT2 0x08U
#define MCR_LOOP 0x10U
#define LSR_READY 0x01U
#define LSR_OVERRUN 0x02U
#define LSR_THRE 0x20U
#define LSR_IDLE 0x40U
#define MSR_CTS 0x10U
#define MSR_DSR 0x20U
#define MSR_RI 0x40U
#define MSR_DCD 0x80U
#define MSR_DELTAS 0x0FU
#define MSR_TERI 0x04U

/* FIFOs. All static functions below want the lock held. ------------------- */

static bool fifo_put(struct vuart_fifo *f, u8 ch, u32 depth)
{
	if (f->len >= depth)
		return false;
	f->data[(f->head + f->len) % VUART_FIFO] = ch;
	f->len++;
	return true;
}

static u8 fifo_get(struct vuart_fifo *f)
{
	u8 ch = f->data[f->head];

	f->head = (f->head + 1) % VUART_FIFO;
	f->len--;
	return ch;
}

static void fifo_clear(struct vuart_fifo *f)
{
	f->head = 0;
	f->len = 0;
}

/* One character without FIFOs. */
static u32 depth(const struct vuart *u)
{
	return u->fcr & FCR_ENABLE ? VUART_FIFO : 1;
}

static u32 trigger_level(const struct vuart *u)
{
	static const u8 levels[4] = { 1, 4, 8, 14 };

	return u->fcr & FCR_ENABLE ? levels[u->fcr >> 6] : 1;
}

static void refill(struct vuart *u)
{
	while (u->ring_len > 0 && u->rx.len < depth(u)) {
		fifo_put(&u->rx, u->ring[u->ring_head], depth(u));
		u->ring_head = (u->ring_head + 1) % VUART_RING;
		u->ring_len--;
	}
}

/* Interrupts --------------------------------------------------------------- */

static u32 interrupt_id(const struct vuart *u)
{
	if ((u->ier & IER_LINE) && (u->lsr & LSR_OVERRUN))
		return IIR_LINE;
	if ((u->ier & IER_RX) && u->rx.len >= trigger_level(u))
		return IIR_RX;
	if ((u->ier & IER_RX) && u->rx.len > 0)
		return IIR_TIMEOUT;
	if ((u->ier & IER_THRE) && u->thre_irq)
		return IIR_THRE;
	if ((u->ier & IER_MODEM) && (u->msr & MSR_DELTAS))
		return IIR_MODEM;
	return IIR_NONE;
}

/* On a PC, OUT2 gates the line; in loop-back mode that pin is inactive. */
static void update_line(struct vuart *u)
{
	bool open = (u->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
	bool line = open && interrupt_id(u) != IIR_NONE;

	if (line != u->line) {
		u->line = line;
		vplatform_irq(u->p, u->irq, line);
	}
}

/* Transmission ------------------------------------------------------------- */

static void drain(struct vuart *u)
{
	bool had = u->tx.len > 0;

	while (u->tx.len > 0 && vdev_console_put(u->p->host, u->port, u->tx.data[u->tx.head]))
		fifo_get(&u->tx);
	if (had && u->tx.len == 0)
		u->thre_irq = true;
}

static void loop_back(struct vuart *u, u8 ch)
{
	if (!fifo_put(&u->rx, ch, depth(u)))
		u->lsr |= LSR_OVERRUN;
	u->thre_irq = true;
}

static void transmit(struct vuart *u, u8 ch)
{
	/* The write ends a transmitter interrupt: an edge input must see the line fall. */
	u->thre_irq = false;
	update_line(u);
	if (u->mcr & MCR_LOOP) {
		loop_back(u, ch);
		return;
	}
	/* A full FIFO drops what the guest writes without waiting for THRE. */
	fifo_put(&u->tx, ch, depth(u));
	drain(u);
}

/* Registers ---------------------------------------------------------------- */

static u8 modem_lines(const struct vuart *u)
{
	if (!(u->mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD; /* a terminal is always there */
	return (u8)((u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
		    (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void update_modem(struct vuart *u)
{
	u32 lines = modem_lines(u), changed = (lines ^ u->msr) & 0xF0;

	/* The ring indicator's delta bit notes its trailing edge only. */
	if (lines & MSR_RI)
		changed &= ~MSR_RI;
	u->msr = (u8)(lines | (u->msr & MSR_DELTAS) | changed >> 4);
}
_Static_assert(MSR_RI >> 4 == MSR_TERI, "delta bits sit four below their lines");

static void write_fcr(struct vuart *u, u8 value)
{
	bool toggled = (value ^ u->fcr) & FCR_ENABLE;

	/* The other bits count only together with the enable bit. */
	u->fcr = value & FCR_ENABLE ? value & 0xC9 : 0;
	if (toggled || ((value & FCR_ENABLE) && (value & FCR_CLEAR_RX)))
		fifo_clear(&u->rx);
	if (toggled || ((value & FCR_ENABLE) && (value & FCR_CLEAR_TX))) {
		if (u->tx.len > 0)
			u->thre_irq = true;
		fifo_clear(&u->tx);
	}
	refill(u);
}

static void write_ier(struct vuart *u, u8 value)
{
	u8 enabled = value & (u8)~u->ier;

	u->ier = value & 0x0F;
	/* Enabling it with an empty transmitter interrupts at once. */
	if ((enabled & IER_THRE) && u->tx.len == 0)
		u->thre_irq = true;
}

static u8 read_data(struct vuart *u)
{
	u8 ch = u->rx.len > 0 ? fifo_get(&u->rx) : 0;

	if (!(u->mcr & MCR_LOOP))
		refill(u);
	return ch;
}

static u8 read_iir(struct vuart *u)
{
	u32 id = interrupt_id(u);

	if (id == IIR_THRE)
		u->thre_irq = false;
	return (u8)(id | (u->fcr & FCR_ENABLE ? IIR_FIFOS : 0));
}

static u8 read_lsr(struct vuart *u)
{
	u8 value = u->lsr;

	drain(u);
	u->lsr = 0;
	if (u->rx.len > 0)
		value |= LSR_READY;
	if (u->tx.len == 0)
		value |= LSR_THRE | LSR_IDLE;
	return value;
}

static u8 read_msr(struct vuart *u)
{
	u8 value = u->msr;

	u->msr &= (u8)~MSR_DELTAS;
	return value;
}

static u8 read_register(struct vuart *u, u64 reg)
{
	bool dlab = u->lcr & LCR_DLAB;

	switch (reg) {
	case REG_DATA: return dlab ? u->dll : read_data(u);
	case REG_IER: return dlab ? u->dlm : u->ier;
	case REG_IIR_FCR: return read_iir(u);
	case REG_LCR: return u->lcr;
	case REG_MCR: return u->mcr;
	case REG_LSR: return read_lsr(u);
	case REG_MSR: return read_msr(u);
	default: return u->scr;
	}
}

static void write_register(struct vuart *u, u64 reg, u8 value)
{
	bool dlab = u->lcr & LCR_DLAB;

	switch (reg) {
	case REG_DATA:
		if (dlab)
			u->dll = value;
		else
			transmit(u, value);
		break;
	case REG_IER:
		if (dlab)
			u->dlm = value;
		else
			write_ier(u, value);
		break;
	case REG_IIR_FCR: write_fcr(u, value); break;
	case REG_LCR: u->lcr = value; break;
	case REG_MCR:
		u->mcr = value & 0x1F;
		update_modem(u);
		break;
	case REG_SCR: u->scr = value; break;
	default: break; /* LSR and MSR: factory test only */
	}
}

static u64 port_read(void *dev, u64 offset, u32 size __unused)
{
	struct vuart *u = dev;

	spin_lock(&u->lock);
	u8 value = read_register(u, offset);
	update_line(u);
	spin_unlock(&u->lock);
	return value;
}

static void port_write(void *dev, u64 offset, u32 size __unused, u64 value)
{
	struct vuart *u = dev;

	spin_lock(&u->lock);
	write_register(u, offset, (u8)value);
	update_line(u);
	spin_unlock(&u->lock);
}

/* The host's side ---------------------------------------------------------- */

u32 vuart_rx(struct vuart *u, const u8 *data, u32 len)
{
	u32 taken = 0;

	spin_lock(&u->lock);
	for (; taken < len && u->ring_len < VUART_RING; taken++) {
		u->ring[(u->ring_head + u->ring_len) % VUART_RING] = data[taken];
		u->ring_len++;
	}
	if (!(u->mcr & MCR_LOOP))
		refill(u);
	update_line(u);
	spin_unlock(&u->lock);
	return taken;
}

void vuart_tx_ready(struct vuart *u)
{
	spin_lock(&u->lock);
	drain(u);
	update_line(u);
	spin_unlock(&u->lock);
}

void vuart_reset(struct vuart *u)
{
	spin_lock(&u->lock);
	u->ier = u->fcr = u->lcr = u->mcr = u->scr = u->lsr = 0;
	u->dll = 0x0C; /* 9600 baud; nothing depends on it */
	u->dlm = 0;
	u->thre_irq = false;
	fifo_clear(&u->rx);
	fifo_clear(&u->tx);
	u->ring_head = u->ring_len = 0;
	u->msr = modem_lines(u);
	update_line(u);
	spin_unlock(&u->lock);
}

int vuart_init(struct vuart *u, struct vdev_platform *p, u32 port)
{
	const struct vdev_range range = {
		port ? VDEV_PORT_COM2 : VDEV_PORT_COM1, 8, port_read, port_write, u,
		port ? "com2" : "com1", 1
	};

	if (port > 1)
		return -EINVAL;
	u->p = p;
	u->port = port;
	u->irq = port ? VDEV_IRQ_COM2 : VDEV_IRQ_COM1;
	vuart_reset(u);
	return vdev_bus_add_port(&p->bus, &range);
}
