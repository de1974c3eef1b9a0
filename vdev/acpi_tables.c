/* SPDX-License-Identifier: BSD-2-Clause */
#include "vdev/acpi_tables.h"

#include "core/string.h"
#include "vdev/platform.h"

/* Layouts and values: ACPI 5.0, chapters 5 (tables), 19.6 (resources) and 20 (AML). */

#define OEM_ID "RAVELN"
#define OEM_TABLE_ID "RAVELIN "
#define CREATOR_ID "RVLN"

struct acpi_header {
	char signature[4];
	u32 length;
	u8 revision;
	u8 checksum;
	char oem_id[6];
	char oem_table_id[8];
	u32 oem_revision;
	char creator_id[4];
	u32 creator_revision;
} __packed;
ASSERT_SIZE(struct acpi_header, 36);

struct acpi_rsdp {
	char signature[8];
	u8 checksum; /* of the first 20 bytes */
	char oem_id[6];
	u8 revision;
	u32 rsdt;
	u32 length;
	u64 xsdt;
	u8 extended_checksum;
	u8 reserved[3];
} __packed;
ASSERT_SIZE(struct acpi_rsdp, 36);

/* Generic Address Structure */
struct acpi_gas {
	u8 space; /* 1: I/O port */
	u8 bit_width;
	u8 bit_offset;
	u8 access; /* 1 byte, 2 word, 3 dword */
	u64 address;
} __packed;
ASSERT_SIZE(struct acpi_gas, 12);

struct acpi_fadt {
	struct acpi_header h;
	u32 firmware_ctrl;
	u32 dsdt;
	u8 reserved0;
	u8 preferred_pm_profile;
	u16 sci_int;
	u32 smi_cmd;
	u8 acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	u32 pm1a_evt_blk, pm1b_evt_blk, pm1a_cnt_blk, pm1b_cnt_blk;
	u32 pm2_cnt_blk, pm_tmr_blk, gpe0_blk, gpe1_blk;
	u8 pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len;
	u8 gpe0_blk_len, gpe1_blk_len, gpe1_base, cst_cnt;
	u16 p_lvl2_lat, p_lvl3_lat;
	u16 flush_size, flush_stride;
	u8 duty_offset, duty_width;
	u8 day_alrm, mon_alrm, century;
	u16 iapc_boot_arch;
	u8 reserved1;
	u32 flags;
	struct acpi_gas reset_reg;
	u8 reset_value;
	u8 reserved2[3];
	u64 x_firmware_ctrl;
	u64 x_dsdt;
	struct acpi_gas x_pm1a_evt_blk, x_pm1b_evt_blk, x_pm1a_cnt_blk, x_pm1b_cnt_blk;
	struct acpi_gas x_pm2_cnt_blk, x_pm_tmr_blk, x_gpe0_blk, x_gpe1_blk;
	struct acpi_gas sleep_control_reg, sleep_status_reg;
} __packed;
ASSERT_OFFSET(struct acpi_fadt, pm1a_evt_blk, 56);
ASSERT_OFFSET(struct acpi_fadt, iapc_boot_arch, 109);
ASSERT_OFFSET(struct acpi_fadt, flags, 112);
ASSERT_OFFSET(struct acpi_fadt, x_dsdt, 140);
ASSERT_OFFSET(struct acpi_fadt, x_pm_tmr_blk, 208);
ASSERT_SIZE(struct acpi_fadt, 268);

#define FADT_WBINVD BIT32(0)
#define FADT_PROC_C1 BIT32(2)
#define FADT_SLP_BUTTON BIT32(5)    /* no fixed sleep button */
#define FADT_FIX_RTC BIT32(6)       /* the RTC wakes nothing */
#define FADT_TMR_VAL_EXT BIT32(8)   /* the PM timer has 32 bits */
#define FADT_RESET_REG_SUP BIT32(10)

#define BOOT_LEGACY_DEVICES BIT32(0) /* serial ports; no bit 1: there is no keyboard controller */
#define BOOT_VGA_NOT_PRESENT BIT32(2)

#define FADT_NO_C2 0x0fff /* latencies over 100 and 1000 us: not supported */
#define FADT_NO_C3 0xffff

struct acpi_facs {
	char signature[4];
	u32 length;
	u32 hardware_signature;
	u32 firmware_waking_vector;
	u32 global_lock;
	u32 flags;
	u64 x_firmware_waking_vector;
	u8 version;
	u8 reserved[31];
} __packed;
ASSERT_SIZE(struct acpi_facs, 64);

struct acpi_madt {
	struct acpi_header h;
	u32 lapic_address;
	u32 flags; /* bit 0: an 8259 pair is there */
} __packed;

struct madt_lapic {
	u8 type, length, uid, apic_id;
	u32 flags; /* bit 0: enabled */
} __packed;

struct madt_ioapic {
	u8 type, length, id, reserved;
	u32 address;
	u32 gsi_base;
} __packed;

struct madt_override {
	u8 type, length, bus, source;
	u32 gsi;
	u16 flags;
} __packed;
ASSERT_SIZE(struct madt_override, 10);

struct madt_lapic_nmi {
	u8 type, length, uid;
	u16 flags;
	u8 lint;
} __packed;
ASSERT_SIZE(struct madt_lapic_nmi, 6);

struct madt_x2apic {
	u8 type, length;
	u16 reserved;
	u32 x2apic_id;
	u32 flags;
	u32 uid;
} __packed;
ASSERT_SIZE(struct madt_x2apic, 16);

#define MADT_LEVEL_HIGH 0x000d /* active high, level triggered */
#define XAPIC_ID_MAX 254U

/* ---- AML ---- */

/* An output window; the first byte that does not fit sets overflow. */
struct aml {
	u8 *buf;
	size_t size;
	size_t len;
	bool overflow;
};

static void aml_bytes(struct aml *a, const void *data, size_t len)
{
	if (len > a->size - a->len) {
		a->overflow = true;
		return;
	}
	memcpy(a->buf + a->len, data, len);
	a->len += len;
}

static void aml_byte(struct aml *a, u32 value)
{
	u8 byte = (u8)value;

	aml_bytes(a, &byte, 1);
}

static void aml_word(struct aml *a, u32 value)
{
	aml_byte(a, value);
	aml_byte(a, value >> 8);
}

static void aml_dword(struct aml *a, u32 value)
{
	aml_word(a, value);
	aml_word(a, value >> 16);
}

/* ConstObj or the shortest prefix that holds the value (20.2.3). */
static void aml_int(struct aml *a, u32 value)
{
	if (value <= 1) {
		aml_byte(a, value); /* ZeroOp, OneOp */
	} else if (value <= 0xff) {
		aml_byte(a, 0x0a);
		aml_byte(a, value);
	} else if (value <= 0xffff) {
		aml_byte(a, 0x0b);
		aml_word(a, value);
	} else {
		aml_byte(a, 0x0c);
		aml_dword(a, value);
	}
}

static void aml_string(struct aml *a, const char *s)
{
	aml_byte(a, 0x0d);
	aml_bytes(a, s, strlen(s) + 1);
}

/* A compressed EISA id, such as PNP0501 (19.3.4): big-endian letters and digits. */
static void aml_eisaid(struct aml *a, const char letters[3], u32 product)
{
	u32 id = ((u32)(letters[0] - '@') << 26) | ((u32)(letters[1] - '@') << 21) |
		 ((u32)(letters[2] - '@') << 16) | product;

	aml_byte(a, 0x0c);
	aml_dword(a, __builtin_bswap32(id));
}

/* NameOp and a four-character name. */
static void aml_name(struct aml *a, const char *name)
{
	aml_byte(a, 0x08);
	aml_bytes(a, name, 4);
}

/* The length in front of a block is written when the block is complete. */
static size_t aml_block(struct aml *a)
{
	return a->len;
}

/* Puts PkgLength (20.2.4, its own bytes included) in front of what followed aml_block(). */
static void aml_block_end(struct aml *a, size_t start)
{
	size_t body = a->len - start;
	u8 lead[3];
	size_t n;

	if (body + 1 <= 0x3f) {
		n = 1;
		lead[0] = (u8)(body + 1);
	} else if (body + 2 <= 0xfff) {
		n = 2;
		lead[0] = (u8)(0x40 | ((body + 2) & 0xf));
		lead[1] = (u8)((body + 2) >> 4);
	} else {
		n = 3;
		lead[0] = (u8)(0x80 | ((body + 3) & 0xf));
		lead[1] = (u8)((body + 3) >> 4);
		lead[2] = (u8)((body + 3) >> 12);
	}
	if (n > a->size - a->len) {
		a->overflow = true;
		return;
	}
	memmove(a->buf + start + n, a->buf + start, body);
	memcpy(a->buf + start, lead, n);
	a->len += n;
}

static size_t aml_device(struct aml *a, const char *name)
{
	size_t start;

	aml_byte(a, 0x5b);
	aml_byte(a, 0x82);
	start = aml_block(a);
	aml_bytes(a, name, 4);
	return start;
}

/* _CRS of one port range (I/O descriptor, 6.4.2.5) and one interrupt (6.4.2.1). */
static void aml_crs(struct aml *a, u32 port, u32 len, u32 irq)
{
	static const u32 resources = 8 + 3 + 2; /* I/O, IRQNoFlags, end tag */
	size_t start;

	aml_name(a, "_CRS");
	aml_byte(a, 0x11); /* Buffer */
	start = aml_block(a);
	aml_int(a, resources);
	aml_byte(a, 0x47);
	aml_byte(a, 0x01); /* 16-bit decode */
	aml_word(a, port);
	aml_word(a, port);
	aml_byte(a, 1);
	aml_byte(a, len);
	aml_byte(a, 0x22);
	aml_word(a, 1U << irq);
	aml_byte(a, 0x79);
	aml_byte(a, 0); /* no checksum */
	aml_block_end(a, start);
}

static void aml_isa_device(struct aml *a, const char *name, u32 pnp, u32 uid, u32 port, u32 len,
			   u32 irq)
{
	size_t device = aml_device(a, name);

	aml_name(a, "_HID");
	aml_eisaid(a, "PNP", pnp);
	aml_name(a, "_UID");
	aml_int(a, uid);
	aml_name(a, "_STA");
	aml_int(a, 0xf);
	aml_crs(a, port, len, irq);
	aml_block_end(a, device);
}

static void aml_processor(struct aml *a, u32 index)
{
	static const char hex[] = "0123456789ABCDEF";
	char name[5] = { 'C', '0', hex[(index >> 4) & 0xf], hex[index & 0xf], '\0' };
	size_t device = aml_device(a, name);

	aml_name(a, "_HID");
	aml_string(a, "ACPI0007");
	aml_name(a, "_UID");
	aml_int(a, index);
	aml_block_end(a, device);
}

static void aml_s5(struct aml *a)
{
	size_t package;

	aml_name(a, "_S5_");
	aml_byte(a, 0x12); /* Package */
	package = aml_block(a);
	aml_byte(a, 4);
	aml_int(a, VDEV_ACPI_SLP_TYP_S5);
	aml_int(a, 0);
	aml_int(a, 0);
	aml_int(a, 0);
	aml_block_end(a, package);
}

static void dsdt_body(struct aml *a, const struct acpi_tables_config *c)
{
	size_t scope;

	aml_s5(a);
	aml_byte(a, 0x10); /* Scope */
	scope = aml_block(a);
	aml_bytes(a, "\\_SB_", 5);
	for (u32 i = 0; i < c->cpus; i++)
		aml_processor(a, i);
	aml_isa_device(a, "RTC_", 0x0b00, 0, VDEV_PORT_RTC, 2, VDEV_IRQ_RTC);
	if (c->com[0])
		aml_isa_device(a, "COM1", 0x0501, 1, VDEV_PORT_COM1, 8, VDEV_IRQ_COM1);
	if (c->com[1])
		aml_isa_device(a, "COM2", 0x0501, 2, VDEV_PORT_COM2, 8, VDEV_IRQ_COM2);
	aml_block_end(a, scope);
}

/* ---- tables ---- */

struct builder {
	u8 *area;
	const struct acpi_tables_config *config;
	size_t next; /* offset of the next table */
};

static gpa_t guest_address(const struct builder *b, const void *table)
{
	return ACPI_TABLES_BASE + (gpa_t)((const u8 *)table - b->area);
}

static u8 checksum(const void *data, size_t len)
{
	const u8 *p = data;
	u8 sum = 0;

	while (len--)
		sum = (u8)(sum + *p++);
	return (u8)-sum;
}

static void *table_begin(struct builder *b, const char *signature, u8 revision, size_t length)
{
	struct acpi_header *h = (struct acpi_header *)(b->area + b->next);

	memcpy(h->signature, signature, 4);
	h->length = (u32)length;
	h->revision = revision;
	memcpy(h->oem_id, OEM_ID, sizeof(h->oem_id));
	memcpy(h->oem_table_id, OEM_TABLE_ID, sizeof(h->oem_table_id));
	h->oem_revision = 1;
	memcpy(h->creator_id, CREATOR_ID, sizeof(h->creator_id));
	h->creator_revision = 1;
	return h;
}

/* length: the table's final one. */
static void table_end(struct builder *b, struct acpi_header *h, size_t length)
{
	h->length = (u32)length;
	h->checksum = checksum(h, length);
	b->next = ALIGN_UP(b->next + length, 16UL);
}

static struct acpi_gas io_register(u32 port, u32 bytes)
{
	return (struct acpi_gas){
		.space = 1,
		.bit_width = (u8)(bytes * 8),
		.access = (u8)(bytes == 4 ? 3 : bytes),
		.address = port,
	};
}

static gpa_t write_facs(struct builder *b)
{
	u8 *at = b->area + ACPI_TABLES_FACS - ACPI_TABLES_BASE;
	struct acpi_facs *facs = (struct acpi_facs *)at;

	memcpy(facs->signature, "FACS", 4);
	facs->length = sizeof(*facs);
	facs->version = 2;
	return guest_address(b, facs);
}

static gpa_t write_dsdt(struct builder *b)
{
	struct acpi_header *h = table_begin(b, "DSDT", 2, sizeof(*h));
	size_t room = ACPI_TABLES_FACS - ACPI_TABLES_BASE - b->next - sizeof(*h);
	struct aml a = { .buf = (u8 *)(h + 1), .size = room };

	dsdt_body(&a, b->config);
	if (a.overflow)
		return 0;
	table_end(b, h, sizeof(*h) + a.len);
	return guest_address(b, h);
}

static gpa_t write_fadt(struct builder *b, gpa_t facs, gpa_t dsdt)
{
	struct acpi_fadt *f = table_begin(b, "FACP", 5, sizeof(*f));

	f->firmware_ctrl = (u32)facs;
	f->dsdt = (u32)dsdt;
	f->x_dsdt = dsdt;
	f->sci_int = VDEV_IRQ_SCI;
	f->pm1a_evt_blk = VDEV_PORT_PM1_EVENT;
	f->pm1_evt_len = 4;
	f->x_pm1a_evt_blk = io_register(VDEV_PORT_PM1_EVENT, 4);
	f->x_pm1a_evt_blk.access = 2; /* two 16-bit registers */
	f->pm1a_cnt_blk = VDEV_PORT_PM1_CONTROL;
	f->pm1_cnt_len = 2;
	f->x_pm1a_cnt_blk = io_register(VDEV_PORT_PM1_CONTROL, 2);
	f->pm_tmr_blk = VDEV_PORT_PM_TIMER;
	f->pm_tmr_len = 4;
	f->x_pm_tmr_blk = io_register(VDEV_PORT_PM_TIMER, 4);
	f->p_lvl2_lat = FADT_NO_C2;
	f->p_lvl3_lat = FADT_NO_C3;
	f->century = 0x32;
	f->iapc_boot_arch = BOOT_LEGACY_DEVICES | BOOT_VGA_NOT_PRESENT;
	f->flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC |
		   FADT_TMR_VAL_EXT | FADT_RESET_REG_SUP;
	f->reset_reg = io_register(VDEV_PORT_RESET, 1);
	f->reset_value = VDEV_RESET_VALUE;
	table_end(b, &f->h, sizeof(*f));
	return guest_address(b, f);
}

static u8 *madt_cpus(u8 *at, const struct acpi_tables_config *c)
{
	for (u32 i = 0; i < c->cpus; i++) {
		if (c->apic_id[i] <= XAPIC_ID_MAX) {
			*(struct madt_lapic *)at = (struct madt_lapic){
				.type = 0, .length = sizeof(struct madt_lapic), .uid = (u8)i,
				.apic_id = (u8)c->apic_id[i], .flags = 1,
			};
			at += sizeof(struct madt_lapic);
		} else {
			*(struct madt_x2apic *)at = (struct madt_x2apic){
				.type = 9, .length = sizeof(struct madt_x2apic),
				.x2apic_id = c->apic_id[i], .flags = 1, .uid = i,
			};
			at += sizeof(struct madt_x2apic);
		}
	}
	return at;
}

static u8 *madt_override(u8 *at, u8 source, u32 gsi, u16 flags)
{
	*(struct madt_override *)at = (struct madt_override){
		.type = 2, .length = sizeof(struct madt_override), .source = source,
		.gsi = gsi, .flags = flags,
	};
	return at + sizeof(struct madt_override);
}

static gpa_t write_madt(struct builder *b)
{
	struct acpi_madt *madt = table_begin(b, "APIC", 3, sizeof(*madt));
	u8 *at = madt_cpus((u8 *)(madt + 1), b->config);

	madt->lapic_address = VDEV_LAPIC_BASE;
	madt->flags = 1;
	*(struct madt_ioapic *)at = (struct madt_ioapic){
		.type = 1, .length = sizeof(struct madt_ioapic), .id = VDEV_IOAPIC_ID,
		.address = VDEV_IOAPIC_BASE, .gsi_base = VDEV_IOAPIC_GSI_BASE,
	};
	at += sizeof(struct madt_ioapic);
	at = madt_override(at, VDEV_IRQ_PIT, VDEV_IOAPIC_PIN_PIT, 0);
	at = madt_override(at, VDEV_IRQ_SCI, VDEV_IRQ_SCI, MADT_LEVEL_HIGH);
	*(struct madt_lapic_nmi *)at = (struct madt_lapic_nmi){
		.type = 4, .length = sizeof(struct madt_lapic_nmi), .uid = 0xff, .lint = 1,
	};
	at += sizeof(struct madt_lapic_nmi);
	table_end(b, &madt->h, (size_t)(at - (u8 *)madt));
	return guest_address(b, madt);
}

/* RSDT (4-byte entries) or XSDT (8-byte entries). */
static gpa_t write_root(struct builder *b, const char *signature, size_t width, const gpa_t *table,
			size_t tables)
{
	struct acpi_header *h = table_begin(b, signature, 1, sizeof(*h));

	for (size_t i = 0; i < tables; i++)
		memcpy((u8 *)(h + 1) + i * width, &table[i], width);
	table_end(b, h, sizeof(*h) + tables * width);
	return guest_address(b, h);
}

gpa_t acpi_tables_write(u8 *area, const struct acpi_tables_config *config)
{
	struct builder b = { .area = area, .config = config };
	struct acpi_rsdp *rsdp = (struct acpi_rsdp *)area;
	gpa_t table[2];
	gpa_t dsdt;

	if (config->cpus < 1 || config->cpus > VDEV_MAX_CPUS)
		return 0;
	b.next = ALIGN_UP(sizeof(*rsdp), 16UL);
	dsdt = write_dsdt(&b);
	if (!dsdt)
		return 0;
	table[0] = write_fadt(&b, write_facs(&b), dsdt);
	table[1] = write_madt(&b);
	memcpy(rsdp->signature, "RSD PTR ", 8);
	memcpy(rsdp->oem_id, OEM_ID, sizeof(rsdp->oem_id));
	rsdp->revision = 2;
	rsdp->rsdt = (u32)write_root(&b, "RSDT", 4, table, ARRAY_SIZE(table));
	rsdp->length = sizeof(*rsdp);
	rsdp->xsdt = write_root(&b, "XSDT", 8, table, ARRAY_SIZE(table));
	rsdp->checksum = checksum(rsdp, 20);
	rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
	return guest_address(&b, rsdp);
}
