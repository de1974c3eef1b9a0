/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/string.h"
#include "guest-pv/loader/loader.h"

/*
 * The owner's secrets as a cpio archive that the kernel unpacks after the initrd:
 * Documentation/driver-api/early-userspace/buffer-format.rst of Linux's sources.
 */

#define NEWC_HEADER 110UL
#define GUID_TEXT 36UL
#define MODE_DIRECTORY 040700U
#define MODE_FILE 0100400U

struct entry_header {
	u8 guid[16];
	u32 length; /* of header and data */
} __packed;
ASSERT_SIZE(struct entry_header, 20);

/* 1e74f542-71dd-4d66-963e-ef4287ff173b */
static const u8 table_guid[16] = { 0x42, 0xf5, 0x74, 0x1e, 0xdd, 0x71, 0x66, 0x4d,
				   0x96, 0x3e, 0xef, 0x42, 0x87, 0xff, 0x17, 0x3b };

struct archive {
	u8 *out;
	u64 size, room;
	u32 inode;
	bool full;
};

static void hex(char *to, u64 value, u32 digits)
{
	for (u32 i = 0; i < digits; i++)
		to[i] = "0123456789abcdef"[value >> 4 * (digits - 1 - i) & 0xF];
}

static void guid_text(char *to, const u8 *guid)
{
	/* The first three fields are little-endian numbers. */
	static const u8 order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };

	for (u32 i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*to++ = '-';
		hex(to, guid[order[i]], 2);
		to += 2;
	}
}

/* Bytes, then zeros up to a multiple of 4. */
static void append(struct archive *a, const void *data, u64 size)
{
	u64 padded = ALIGN_UP(size, 4UL);

	if (padded > a->room - a->size) {
		a->full = true;
		return;
	}
	memset(a->out + a->size, 0, padded);
	memcpy(a->out + a->size, data, size);
	a->size += padded;
}

/* name_size: with its NUL. Header and name together are padded. */
static void add_file(struct archive *a, const char *name, u64 name_size, u32 mode, const u8 *data,
		     u64 size)
{
	char h[NEWC_HEADER + 64];
	u64 value[13] = { a->inode++, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0 };

	memcpy(h, "070701", 6);
	for (u32 i = 0; i < ARRAY_SIZE(value); i++)
		hex(h + 6 + 8UL * i, value[i], 8);
	memcpy(h + NEWC_HEADER, name, name_size);
	append(a, h, NEWC_HEADER + name_size);
	append(a, data, size);
}

static void add_entries(struct archive *a, const u8 *area, u64 end)
{
	char name[] = "sev-secret/xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	struct entry_header e;

	for (u64 at = sizeof(e); end - at >= sizeof(e) && !a->full; at += e.length) {
		memcpy(&e, area + at, sizeof(e));
		if (e.length < sizeof(e) || e.length > end - at) {
			a->full = true;
			return;
		}
		guid_text(name + sizeof(name) - 1 - GUID_TEXT, e.guid);
		add_file(a, name, sizeof(name), MODE_FILE, area + at + sizeof(e),
			 e.length - sizeof(e));
	}
}

static bool all_zero(const u8 *p, u64 size)
{
	u8 any = 0;

	for (u64 i = 0; i < size; i++)
		any |= p[i];
	return any == 0;
}

s64 ldr_secret_cpio(const u8 *area, u64 size, u8 *out, u64 room)
{
	struct archive a = { .out = out, .room = room, .inode = 1 };
	struct entry_header table;

	if (all_zero(area, size))
		return 0;
	memcpy(&table, area, sizeof(table));
	if (memcmp(table.guid, table_guid, sizeof(table_guid)) != 0 ||
	    table.length < sizeof(table) || table.length > size)
		return -1;
	add_file(&a, "sev-secret", 11, MODE_DIRECTORY, area, 0);
	add_entries(&a, area, table.length);
	add_file(&a, "TRAILER!!!", 11, 0, area, 0);
	return a.full ? -1 : (s64)a.size;
}
