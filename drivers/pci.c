/* SPDX-License-Identifier: BSD-2-Clause */
#include "drivers/pci.h"
#include "arch/x86/cpu.h"
#include "arch/x86/paging.h"
#include "arch/x86/percpu.h"
#include "core/errno.h"
#include "drivers/acpi.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define CONFIG_ENABLE BIT32(31)

static spinlock_t lock = SPINLOCK_INIT; /* the port pair is one register */
static volatile u8 *ecam[ACPI_ECAMS];
static bool tried[ACPI_ECAMS];

/* The register in memory-mapped configuration space; NULL where MCFG has none. */
static volatile u8 *mapped(struct pci_fn f, u32 reg)
{
	for (u32 i = 0; i < acpi.ecams; i++) {
		const struct acpi_ecam *e = &acpi.ecam[i];
		u64 size = ((u64)e->bus_last - e->bus_first + 1) << 20;

		if (e->segment != f.segment || f.bus < e->bus_first || f.bus > e->bus_last)
			continue;
		if (!tried[i]) {
			tried[i] = true;
			ecam[i] = mmio_map(e->base + ((u64)e->bus_first << 20), size);
		}
		if (ecam[i] != NULL)
			return ecam[i] + ((u64)(f.bus - e->bus_first) << 20 | (u64)f.devfn << 12 | reg);
	}
	return NULL;
}

static u32 port_address(struct pci_fn f, u32 reg)
{
	return CONFIG_ENABLE | (u32)f.bus << 16 | (u32)f.devfn << 8 | (reg & ~3U);
}

u32 pci_read32(struct pci_fn f, u32 reg)
{
	volatile u8 *p = mapped(f, reg & ~3U);
	u64 flags;
	u32 v;

	if (p != NULL)
		return mmio_read32(p);
	if (f.segment != 0)
		return ~0U;
	flags = spin_lock_irqsave(&lock);
	outl(CONFIG_ADDRESS, port_address(f, reg));
	v = inl(CONFIG_DATA);
	spin_unlock_irqrestore(&lock, flags);
	return v;
}

void pci_write32(struct pci_fn f, u32 reg, u32 v)
{
	volatile u8 *p = mapped(f, reg & ~3U);
	u64 flags;

	if (p != NULL) {
		mmio_write32(p, v);
		return;
	}
	if (f.segment != 0)
		return;
	flags = spin_lock_irqsave(&lock);
	outl(CONFIG_ADDRESS, port_address(f, reg));
	outl(CONFIG_DATA, v);
	spin_unlock_irqrestore(&lock, flags);
}

/* The neighbour of the command register is the status register: writes must be 16 bits wide. */
void pci_write16(struct pci_fn f, u32 reg, u16 v)
{
	volatile u8 *p = mapped(f, reg);
	u64 flags;

	if (p != NULL) {
		mmio_write16(p, v);
		return;
	}
	if (f.segment != 0)
		return;
	flags = spin_lock_irqsave(&lock);
	outl(CONFIG_ADDRESS, port_address(f, reg));
	outw((u16)(CONFIG_DATA + (reg & 2)), v);
	spin_unlock_irqrestore(&lock, flags);
}

u16 pci_read16(struct pci_fn f, u32 reg)
{
	return (u16)(pci_read32(f, reg) >> (reg & 2) * 8);
}

u8 pci_read8(struct pci_fn f, u32 reg)
{
	return (u8)(pci_read32(f, reg) >> (reg & 3) * 8);
}

/* --- finding functions --- */

static bool find_on_bus(struct pci_fn f, bool (*fn)(struct pci_fn f, u32 id), struct pci_fn *found)
{
	for (u32 devfn = 0; devfn < 256; devfn++) {
		u32 id;

		f.devfn = (u8)devfn;
		id = pci_read32(f, PCI_ID);
		if ((id & 0xffff) != 0xffff && fn(f, id)) {
			*found = f;
			return true;
		}
		/* Functions 1 to 7 exist only where function 0 does and says so. */
		if ((devfn & 7) == 0 &&
		    ((id & 0xffff) == 0xffff || !(pci_read8(f, PCI_HEADER) & PCI_HEADER_MULTI)))
			devfn |= 7;
	}
	return false;
}

/* Every bus number is tried: root bridges need not be reachable from bus 0. */
static bool find_in_range(u16 segment, u32 first, u32 last, bool (*fn)(struct pci_fn f, u32 id),
			  struct pci_fn *found)
{
	for (u32 bus = first; bus <= last; bus++) {
		struct pci_fn f = { segment, (u8)bus, 0 };

		if (find_on_bus(f, fn, found))
			return true;
	}
	return false;
}

bool pci_find(bool (*fn)(struct pci_fn f, u32 id), struct pci_fn *f)
{
	if (acpi.ecams == 0)
		return find_in_range(0, 0, 255, fn, f);
	for (u32 i = 0; i < acpi.ecams; i++) {
		const struct acpi_ecam *e = &acpi.ecam[i];

		if (find_in_range(e->segment, e->bus_first, e->bus_last, fn, f))
			return true;
	}
	return false;
}

paddr_t pci_bar(struct pci_fn f, u32 n)
{
	u32 low;
	u64 high = 0;

	if (n > 5)
		return 0;
	low = pci_read32(f, PCI_BAR0 + 4 * n);
	if ((low & 1) != 0)
		return 0; /* I/O ports */
	if ((low & 6) == 4 && n < 5)
		high = pci_read32(f, PCI_BAR0 + 4 * n + 4);
	return high << 32 | (low & ~15U);
}

/* The list is the device's word: bounded by the number of capabilities that fit. */
u32 pci_capability(struct pci_fn f, u8 id)
{
	u32 at = pci_read8(f, PCI_CAPABILITIES) & ~3U;

	for (u32 i = 0; i < 48 && at >= 0x40; i++) {
		u16 head = pci_read16(f, at);

		if ((head & 0xff) == id)
			return at;
		at = head >> 8 & ~3U;
	}
	return 0;
}

/* --- starting one --- */

static void command_set(struct pci_fn f)
{
	u16 command = pci_read16(f, PCI_COMMAND);

	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	pci_write16(f, PCI_COMMAND, command);
}

static struct pci_fn target; /* of pci_enable() */

static bool enable_if_above(struct pci_fn f, u32 id)
{
	(void)id;
	if (f.segment == target.segment && (pci_read8(f, PCI_HEADER) & 0x7f) == PCI_HEADER_BRIDGE &&
	    pci_read8(f, PCI_SECONDARY) <= target.bus && pci_read8(f, PCI_SUBORDINATE) >= target.bus)
		command_set(f);
	return false;
}

void pci_enable(struct pci_fn f)
{
	struct pci_fn none;

	target = f;
	(void)pci_find(enable_if_above, &none);
	command_set(f);
}

#define MSI_ADDRESS(apic_id) (0xfee00000U | (apic_id) << 12)
#define MSI_ENABLE BIT32(16)          /* the control word is the upper half of the first dword */
#define MSI_COUNT (7U << 20)
#define MSI_64BIT BIT32(23)
#define MSIX_MASK_ALL BIT32(30)
#define MSIX_ENABLE BIT32(31)

static int enable_msix(struct pci_fn f, u32 cap, u8 vector)
{
	u32 control = pci_read32(f, cap), place = pci_read32(f, cap + 4);
	paddr_t bar = pci_bar(f, place & 7);
	volatile u8 *entry = bar != 0 ? mmio_map(bar + (place & ~7U), 16) : NULL;

	if (entry == NULL)
		return -ENODEV;
	pci_write32(f, cap, control | MSIX_ENABLE | MSIX_MASK_ALL);
	mmio_write32(entry, MSI_ADDRESS(cpus[0].apic_id));
	mmio_write32(entry + 4, 0);
	mmio_write32(entry + 8, vector);
	mmio_write32(entry + 12, 0); /* this one is not masked */
	pci_write32(f, cap, (control | MSIX_ENABLE) & ~MSIX_MASK_ALL);
	return 0;
}

static void enable_msi(struct pci_fn f, u32 cap, u8 vector)
{
	u32 control = pci_read32(f, cap) & ~MSI_COUNT;

	pci_write32(f, cap + 4, MSI_ADDRESS(cpus[0].apic_id));
	if ((control & MSI_64BIT) != 0)
		pci_write32(f, cap + 8, 0);
	pci_write16(f, cap + ((control & MSI_64BIT) != 0 ? 12 : 8), vector);
	pci_write32(f, cap, control | MSI_ENABLE);
}

int pci_msi(struct pci_fn f, u8 vector)
{
	u32 cap = pci_capability(f, PCI_CAP_MSIX);

	if (cpus[0].apic_id > 0xfe)
		return -ENOTSUP;
	if (cap != 0)
		return enable_msix(f, cap, vector);
	cap = pci_capability(f, PCI_CAP_MSI);
	if (cap == 0)
		return -ENOTSUP;
	enable_msi(f, cap, vector);
	return 0;
}
