/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_VDEV_PLATFORM_H
#define RAVELIN_VDEV_PLATFORM_H

#include "core/types.h"
#include "vdev/acpi_pm.h"
#include "vdev/bus.h"
#include "vdev/host.h"
#include "vdev/ioapic.h"
#include "vdev/lapic.h"
#include "vdev/pic.h"
#include "vdev/pit.h"
#include "vdev/rtc.h"
#include "vdev/uart.h"

/* The guest's PC: all addresses, ports and interrupts, for the devices and the ACPI tables. */
#define VDEV_MAX_CPUS 64U

#define VDEV_LAPIC_BASE 0xFEE00000ULL
#define VDEV_IOAPIC_BASE 0xFEC00000ULL
#define VDEV_IOAPIC_SIZE 0x1000ULL
#define VDEV_IOAPIC_ID 0U
#define VDEV_IOAPIC_GSI_BASE 0U

#define VDEV_PORT_PIC_MASTER 0x20U
#define VDEV_PORT_PIC_SLAVE 0xA0U
#define VDEV_PORT_ELCR 0x4D0U
#define VDEV_PORT_PIT 0x40U
#define VDEV_PORT_SPEAKER 0x61U    /* gate and output of PIT channel 2 */
#define VDEV_PORT_KBD_DATA 0x60U
#define VDEV_PORT_KBD_STATUS 0x64U
#define VDEV_PORT_RTC 0x70U
#define VDEV_CMOS_CENTURY 0x32U      /* FADT CENTURY */
#define VDEV_PORT_POST 0x80U
#define VDEV_PORT_FAST_A20 0x92U
#define VDEV_PORT_DEBUG_EXIT 0xF4U
#define VDEV_PORT_DEBUGCON 0x402U
#define VDEV_PORT_COM1 0x3F8U
#define VDEV_PORT_COM2 0x2F8U
#define VDEV_PORT_PCI_CONFIG 0xCF8U
#define VDEV_PORT_RESET 0xCF9U     /* FADT RESET_REG */
#define VDEV_RESET_VALUE 0x06U     /* FADT RESET_VALUE */

#define VDEV_PORT_PM1_EVENT 0x600U   /* PM1_EVT_LEN 4 */
#define VDEV_PORT_PM1_CONTROL 0x604U /* PM1_CNT_LEN 2 */
#define VDEV_PORT_PM_TIMER 0x608U    /* PM_TMR_LEN 4; FADT flag TMR_VAL_EXT: 32 bits */
#define VDEV_ACPI_SLP_TYP_S5 5U      /* for the \_S5 package */

#define VDEV_IRQ_PIT 0U            /* IOAPIC pin 2 (MADT override 0 -> 2) */
#define VDEV_IRQ_CASCADE 2U
#define VDEV_IRQ_COM2 3U
#define VDEV_IRQ_COM1 4U
#define VDEV_IRQ_RTC 8U
#define VDEV_IRQ_SCI 9U            /* level, active high (MADT override 9 -> 9) */
#define VDEV_IOAPIC_PIN_PIT 2U
#define VDEV_IOAPIC_PIN_INTR 0U    /* the PIC's output, for ExtINT */

struct vdev_platform_config {
	bool com[2];      /* COM1, COM2 exist */
	bool debug_exit;  /* port 0xF4 ends the VM */
	bool debugcon;    /* port 0x402 writes to COM1's console */
	u32 cpus;         /* 1..VDEV_MAX_CPUS */
	u8 phys_bits;     /* guest's physical address width, 32..52; bounds the APIC base */
	u64 mem_low;      /* bytes of RAM from 0 */
	u64 mem_high;     /* bytes of RAM from 4 GiB */
};

struct vdev_platform {
	struct vdev_host *host;
	struct vdev_platform_config config;
	struct vdev_bus bus;
	struct vlapic *lapic[VDEV_MAX_CPUS]; /* by vCPU index; set by vlapic_init() */
	/* By vector, bit n for vCPU n: an edge-triggered one needs vlapic_deliver(). Those that are an
	 * error, LAPICs that are not open, and where TMR's bit is set; atomic. */
	u64 unusual[256];
	u64 extint_cpus;  /* vCPUs that listen to the PIC's INTR; atomic */
	u32 lowest_next;  /* where the next lowest-priority arbitration starts; atomic */
	struct vpic pic;
	struct vioapic ioapic;
	struct vpit pit;
	struct vrtc rtc;
	struct vuart uart[2];
	struct vacpi_pm pm;
};

/*
 * Builds the platform of one VM in *p (zeroed here). Call before any
 * vlapic_init(). -EINVAL for a bad configuration, -EEXIST or -ENOSPC from the
 * bus; logged.
 */
int vplatform_init(struct vdev_platform *p, struct vdev_host *host,
		   const struct vdev_platform_config *config);
/* Reset of the machine: all devices; the LAPICs are reset by vlapic_reset(). No vCPU may run. */
void vplatform_reset(struct vdev_platform *p);
/* Cancels all timers, those of the LAPICs too: nothing of *p is referenced afterwards. */
void vplatform_destroy(struct vdev_platform *p);

/*
 * The level of an interrupt line: below 16 an ISA interrupt (PIC and IOAPIC, 0
 * on pin 2), from 16 to 23 an IOAPIC pin. One owner a line: devices that share
 * one combine their levels first. Any CPU, interrupts off.
 */
void vplatform_irq(struct vdev_platform *p, u32 gsi, bool level);
/* A message-signalled interrupt; what is not an interrupt message is dropped. */
void vplatform_msi(struct vdev_platform *p, u64 address, u32 data);
/* A LAPIC ended a level-triggered vector. */
void vplatform_eoi(struct vdev_platform *p, u8 vector);

/* Console of serial port 0 or 1: see vuart_rx(), vuart_tx_ready(). 0 when the port is off. */
u32 vplatform_console_rx(struct vdev_platform *p, u32 port, const u8 *data, u32 len);
void vplatform_console_tx_ready(struct vdev_platform *p, u32 port);

#endif
