/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_DRIVERS_PCI_H
#define RAVELIN_DRIVERS_PCI_H

#include "core/types.h"

/*
 * Configuration space of the machine's PCI functions (PCI Local Bus 3.0,
 * chapter 6): memory-mapped where ACPI's MCFG says so, else ports 0xCF8 and
 * 0xCFC. Only what a driver needs to find and start its own function. Boot
 * CPU, interrupts on; nothing here is called on an exit.
 */
struct pci_fn {
	u16 segment;
	u8 bus;
	u8 devfn; /* device << 3 | function */
};

#define PCI_ID 0x00
#define PCI_COMMAND 0x04
#define PCI_COMMAND_MEMORY BIT32(1)
#define PCI_COMMAND_MASTER BIT32(2)
#define PCI_CLASS 0x08
#define PCI_HEADER 0x0e
#define PCI_HEADER_BRIDGE 1
#define PCI_HEADER_MULTI 0x80
#define PCI_BAR0 0x10
#define PCI_SECONDARY 0x19
#define PCI_SUBORDINATE 0x1a
#define PCI_CAPABILITIES 0x34
#define PCI_CAP_MSI 0x05
#define PCI_CAP_MSIX 0x11

/* The register's naturally aligned 8, 16 or 32 bits; all ones where nothing answers. reg < 256. */
u8 pci_read8(struct pci_fn f, u32 reg);
u16 pci_read16(struct pci_fn f, u32 reg);
u32 pci_read32(struct pci_fn f, u32 reg);
void pci_write16(struct pci_fn f, u32 reg, u16 v);
void pci_write32(struct pci_fn f, u32 reg, u32 v);

/* Calls fn for each function of the machine until it returns true; that one is returned in *f. */
bool pci_find(bool (*fn)(struct pci_fn f, u32 id), struct pci_fn *f);
/* Physical address of a memory BAR (0..5), 0 when it is not one, has no address, or n is too big. */
paddr_t pci_bar(struct pci_fn f, u32 n);
/* Offset of a capability, 0 when the function does not have it. */
u32 pci_capability(struct pci_fn f, u8 id);
/* Memory decoding and bus mastering, of the function and of all bridges above it (a loader may
 * have stopped those to end the firmware's DMA). */
void pci_enable(struct pci_fn f);
/*
 * Sends the function's first interrupt to a vector of CPU 0, by MSI-X or MSI.
 * -ENOTSUP: it has neither, or CPU 0's APIC id does not fit the message; -ENODEV: its table is out
 * of reach.
 */
int pci_msi(struct pci_fn f, u8 vector);

#endif
