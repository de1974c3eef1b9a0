/* SPDX-License-Identifier: BSD-2-Clause */
#include "drivers/acpi.h"
#include "arch/x86/cpu.h"
#include "arch/x86/paging.h"
#include "arch/x86/tsc.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/string.h"

struct acpi acpi;

#define TABLES_MAX 64
#define TABLE_SIZE_MAX MIB(1)

static const struct acpi_header *tables[TABLES_MAX];
static u32 table_count;

/* Little-endian values at any address; the caller has checked that they lie in the table. */
static u16 get16(const u8 *p) { return (u16)(p[0] | p[1] << 8); }
static u32 get32(const u8 *p) { return get16(p) | (u32)get16(p + 2) << 16; }
static u64 get64(const u8 *p) { return get32(p) | (u64)get32(p + 4) << 32; }

static u8 sum(const u8 *p, size_t n)
{
	u8 s = 0;

	while (n-- != 0)
		s = (u8)(s + *p++);
	return s;
}

/* --- finding the tables --- */

/* Maps and checks a table. NULL, logged, when it is damaged. */
static const struct acpi_header *map_table(paddr_t pa)
{
	const struct acpi_header *h = pa == 0 ? NULL : phys_map(pa, sizeof(*h));
	u32 length;

	if (h == NULL)
		return NULL;
	length = h->length;
	if (length < sizeof(*h) || length > TABLE_SIZE_MAX) {
		log_warn("acpi: table %.4s at 0x%lx: length %u is not possible; ignored",
			 h->signature, pa, length);
		return NULL;
	}
	h = phys_map(pa, length);
	if (h == NULL)
		return NULL;
	if (sum((const u8 *)h, length) != 0) {
		log_warn("acpi: table %.4s at 0x%lx: wrong checksum; ignored", h->signature, pa);
		return NULL;
	}
	return h;
}

#define RSDP_V1_SIZE 20U
#define RSDP_SIZE 36U

/* The RSDP (5.2.5.3) at p of which `room` bytes may be read. */
static bool rsdp_valid(const u8 *p, size_t room)
{
	if (room < RSDP_V1_SIZE || memcmp(p, "RSD PTR ", 8) != 0 || sum(p, RSDP_V1_SIZE) != 0)
		return false;
	return p[15] < 2 || (room >= RSDP_SIZE && sum(p, RSDP_SIZE) == 0);
}

static const u8 *scan(paddr_t base, u64 size)
{
	const u8 *area = phys_map(base, size);

	for (u64 i = 0; area != NULL && i + RSDP_SIZE <= size; i += 16)
		if (rsdp_valid(area + i, size - i))
			return area + i;
	return NULL;
}

#define EBDA_SEGMENT 0x40eUL
#define BIOS_BASE 0xe0000UL
#define BIOS_SIZE 0x20000UL

static const u8 *find_rsdp(paddr_t rsdp)
{
	const u8 *p;

	if (rsdp != 0) {
		p = phys_map(rsdp, RSDP_SIZE);
		if (p != NULL && rsdp_valid(p, RSDP_SIZE))
			return p;
		log_warn("acpi: the RSDP at 0x%lx is damaged; looking for another", rsdp);
	}
	p = phys_map(EBDA_SEGMENT, 2);
	p = p == NULL ? NULL : scan((paddr_t)get16(p) << 4, 1024);
	return p != NULL ? p : scan(BIOS_BASE, BIOS_SIZE);
}

static int collect(const struct acpi_header *root, u32 width)
{
	const u8 *entry = (const u8 *)(root + 1);
	u32 n = (u32)((root->length - sizeof(*root)) / width);

	for (u32 i = 0; i < n; i++, entry += width) {
		const struct acpi_header *h = map_table(width == 8 ? get64(entry) : get32(entry));

		if (h != NULL && table_count < TABLES_MAX)
			tables[table_count++] = h;
	}
	return 0;
}

static int collect_tables(const u8 *rsdp)
{
	const struct acpi_header *root = NULL;
	u32 width = 8;

	if (rsdp[15] >= 2 && get64(rsdp + 24) != 0)
		root = map_table(get64(rsdp + 24));
	if (root == NULL) {
		width = 4;
		root = map_table(get32(rsdp + 16));
	}
	if (root == NULL) {
		log_err("acpi: neither XSDT nor RSDT can be read: using one CPU only");
		return -EPROTO;
	}
	return collect(root, width);
}

const struct acpi_header *acpi_find(const char *signature, u32 nth)
{
	for (u32 i = 0; i < table_count; i++)
		if (memcmp(tables[i]->signature, signature, 4) == 0 && nth-- == 0)
			return tables[i];
	return NULL;
}

/* --- MADT (5.2.12) --- */

#define MADT_ENABLED BIT32(0)

static void add_cpu(u32 apic_id, u32 uid, u32 flags)
{
	if ((flags & MADT_ENABLED) == 0)
		return;
	for (u32 i = 0; i < acpi.cpus; i++) /* xAPIC and x2APIC entries may name the same CPU */
		if (acpi.cpu[i].apic_id == apic_id)
			return;
	if (acpi.cpus == CPU_MAX) {
		acpi.cpus_ignored++;
		return;
	}
	acpi.cpu[acpi.cpus++] = (struct acpi_cpu){ .apic_id = apic_id, .uid = uid };
}

static void add_ioapic(const u8 *e)
{
	if (acpi.ioapics < ACPI_IOAPICS)
		acpi.ioapic[acpi.ioapics++] =
			(struct acpi_ioapic){ get32(e + 4), get32(e + 8), e[2] };
}

static void add_override(const u8 *e)
{
	if (acpi.overrides < ACPI_OVERRIDES && e[2] == 0)
		acpi.override[acpi.overrides++] =
			(struct acpi_override){ e[3], get32(e + 4), get16(e + 8) };
}

static void madt_entry(const u8 *e, u32 len)
{
	if (e[0] == 0 && len >= 8 && e[3] != 0xff)
		add_cpu(e[3], e[2], get32(e + 4));
	else if (e[0] == 1 && len >= 12)
		add_ioapic(e);
	else if (e[0] == 2 && len >= 10)
		add_override(e);
	else if (e[0] == 5 && len >= 12)
		acpi.lapic_base = get64(e + 4);
	else if (e[0] == 9 && len >= 16 && get32(e + 4) != 0xffffffffU)
		add_cpu(get32(e + 4), get32(e + 12), get32(e + 8));
}

static void walk(const struct acpi_header *h, u32 start, void (*fn)(const u8 *entry, u32 len))
{
	const u8 *p = (const u8 *)h;
	u32 at = start;

	while (at + 2 <= h->length) {
		u32 len = p[at + 1];

		if (len < 2 || at + len > h->length) {
			log_warn("acpi: %.4s: entry at offset %u has a wrong length %u; the rest is "
				 "ignored", h->signature, at, len);
			return;
		}
		fn(p + at, len);
		at += len;
	}
}

static void read_madt(void)
{
	const struct acpi_header *h = acpi_find("APIC", 0);
	const u8 *p = (const u8 *)h;

	if (h == NULL || h->length < 44) {
		log_warn("acpi: no MADT: using one CPU only");
		return;
	}
	acpi.lapic_base = get32(p + 36);
	acpi.has_8259 = (get32(p + 40) & 1) != 0;
	walk(h, 44, madt_entry);
	if (acpi.cpus_ignored != 0)
		log_warn("acpi: %u CPUs beyond the limit of %u are not used", acpi.cpus_ignored,
			 CPU_MAX);
}

/* --- SRAT (5.2.16): which CPU is near which memory --- */

static void set_node(u32 apic_id, u32 node)
{
	for (u32 i = 0; i < acpi.cpus; i++)
		if (acpi.cpu[i].apic_id == apic_id)
			acpi.cpu[i].node = node;
}

static void srat_entry(const u8 *e, u32 len)
{
	if (e[0] == 0 && len >= 16 && (get32(e + 4) & 1) != 0)
		set_node(e[3], e[2] | (get32(e + 8) & 0xffffff00U));
	else if (e[0] == 2 && len >= 24 && (get32(e + 12) & 1) != 0)
		set_node(get32(e + 8), get32(e + 4));
}

static void read_srat(void)
{
	const struct acpi_header *h = acpi_find("SRAT", 0);

	if (h != NULL && h->length >= 48)
		walk(h, 48, srat_entry);
}

/* --- MCFG, SPCR --- */

static void read_mcfg(void)
{
	const struct acpi_header *h = acpi_find("MCFG", 0);
	const u8 *p = (const u8 *)h;

	for (u32 at = 44; h != NULL && at + 16 <= h->length; at += 16)
		if (acpi.ecams < ACPI_ECAMS)
			acpi.ecam[acpi.ecams++] = (struct acpi_ecam){
				get64(p + at), get16(p + at + 8), p[at + 10], p[at + 11] };
}

static struct acpi_gas read_gas(const u8 *p)
{
	return (struct acpi_gas){ p[0], p[1], p[2], p[3], get64(p + 4) };
}

static void read_spcr(void)
{
	const struct acpi_header *h = acpi_find("SPCR", 0);
	const u8 *p = (const u8 *)h;

	if (h == NULL || h->length < 59)
		return;
	acpi.spcr_type = p[36];
	acpi.spcr = read_gas(p + 40);
	acpi.spcr_baud = p[58];
	acpi.spcr_present = acpi.spcr_type <= 1 || acpi.spcr_type == 0x12;
}

/* --- FADT and \_S5 (5.2.9, 7.4.2) --- */

/* An AML integer at p: ZeroOp, OneOp or BytePrefix. */
static bool aml_byte(const u8 **p, const u8 *end, u8 *value)
{
	if (*p < end && (**p == 0 || **p == 1)) {
		*value = *(*p)++;
		return true;
	}
	if (end - *p >= 2 && **p == 0x0a) {
		*value = (*p)[1];
		*p += 2;
		return true;
	}
	return false;
}

/*
 * Looks for Name (_S5, Package () {a, b, ...}) as its bytes; there is no AML
 * interpreter here, and firmware writes this object as constants.
 */
static void find_s5(const struct acpi_header *h)
{
	const u8 *p = (const u8 *)(h + 1), *end = (const u8 *)h + h->length;

	for (; end - p >= 8; p++) {
		const u8 *q = p + 4;

		if (memcmp(p, "_S5_", 4) != 0 || *q != 0x12)
			continue;
		q += 1 + 1 + (q[1] >> 6) + 1; /* PackageOp, PkgLength, number of elements */
		if (aml_byte(&q, end, &acpi.s5_typ_a) && aml_byte(&q, end, &acpi.s5_typ_b)) {
			acpi.s5_known = true;
			return;
		}
	}
}

static void read_dsdt(const u8 *fadt, u32 length)
{
	paddr_t pa = length >= 148 ? get64(fadt + 140) : 0;
	const struct acpi_header *dsdt = map_table(pa != 0 ? pa : get32(fadt + 40));
	const struct acpi_header *ssdt;

	if (dsdt != NULL)
		find_s5(dsdt);
	for (u32 i = 0; !acpi.s5_known && (ssdt = acpi_find("SSDT", i)) != NULL; i++)
		find_s5(ssdt);
}

#define FADT_RESET_SUPPORTED BIT32(10)
#define FADT_TMR_VAL_EXT BIT32(8)

static void read_fadt(void)
{
	const struct acpi_header *h = acpi_find("FACP", 0);
	const u8 *p = (const u8 *)h;
	u32 flags;

	if (h == NULL || h->length < 116) {
		log_warn("acpi: no FADT: power off and the PM timer are not available");
		return;
	}
	acpi.sci_irq = get16(p + 46);
	acpi.smi_command = (u16)get32(p + 48);
	acpi.acpi_enable = p[52];
	acpi.pm1a_event = (u16)get32(p + 56);
	acpi.pm1a_control = (u16)get32(p + 64);
	acpi.pm1b_control = (u16)get32(p + 68);
	acpi.pm_timer_port = p[91] == 4 ? (u16)get32(p + 76) : 0;
	flags = get32(p + 112);
	acpi.pm_timer_32bit = (flags & FADT_TMR_VAL_EXT) != 0;
	if ((flags & FADT_RESET_SUPPORTED) != 0 && h->length >= 129) {
		acpi.reset = read_gas(p + 116);
		acpi.reset_value = p[128];
		acpi.reset_supported = true;
	}
	read_dsdt(p, h->length);
}

int acpi_init(paddr_t rsdp)
{
	const u8 *p = find_rsdp(rsdp);
	int err;

	memset(&acpi, 0, sizeof(acpi));
	table_count = 0;
	acpi.lapic_base = 0xfee00000;
	if (p == NULL) {
		log_err("acpi: no RSDP found: using one CPU only");
		return -ENOENT;
	}
	err = collect_tables(p);
	if (err < 0)
		return err;
	read_madt();
	read_srat();
	read_mcfg();
	read_fadt();
	read_spcr();
	log_info("acpi: %u CPUs, %u I/O APICs, %u tables", acpi.cpus, acpi.ioapics, table_count);
	return 0;
}

/* --- power --- */

#define RESET_WAIT_US 100000U

void acpi_reset(void)
{
	if (!acpi.reset_supported)
		return;
	if (acpi.reset.space == GAS_IO) {
		outb((u16)acpi.reset.address, acpi.reset_value);
	} else if (acpi.reset.space == GAS_MEMORY) {
		volatile u8 *p = mmio_map(acpi.reset.address, 1);

		if (p != NULL)
			mmio_write8(p, acpi.reset_value);
	}
	delay_us(RESET_WAIT_US);
}

#define PM1_SCI_EN BIT32(0)
#define PM1_SLP_TYP_SHIFT 10
#define PM1_SLP_TYP (7U << PM1_SLP_TYP_SHIFT)
#define PM1_SLP_EN BIT32(13)

/* Hands the power management registers from firmware to us (4.8.2.5). */
static void acpi_mode(void)
{
	if ((inw(acpi.pm1a_control) & PM1_SCI_EN) != 0 || acpi.smi_command == 0)
		return;
	outb(acpi.smi_command, acpi.acpi_enable);
	for (u32 i = 0; i < 300 && (inw(acpi.pm1a_control) & PM1_SCI_EN) == 0; i++)
		delay_us(10000);
}

static void sleep_write(u16 port, u8 typ)
{
	u16 value = inw(port);

	value = (u16)((value & ~PM1_SLP_TYP) | (u32)typ << PM1_SLP_TYP_SHIFT | PM1_SLP_EN);
	outw(port, value);
}

void acpi_poweroff(void)
{
	if (!acpi.s5_known || acpi.pm1a_control == 0)
		return;
	acpi_mode();
	sleep_write(acpi.pm1a_control, acpi.s5_typ_a);
	if (acpi.pm1b_control != 0)
		sleep_write(acpi.pm1b_control, acpi.s5_typ_b);
	delay_us(RESET_WAIT_US);
}
