/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/boot_info.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/string.h"

/* Which type wins where two entries overlap: the one that forbids more. */
static u32 severity(u32 type)
{
	switch (type) {
	case MEM_RAM:
		return 0;
	case MEM_ACPI:
		return 1;
	case MEM_NVS:
		return 2;
	case MEM_BAD:
		return 4;
	default:
		return 3;
	}
}

static void sort(struct boot_mem *m, u32 n)
{
	for (u32 i = 1; i < n; i++) {
		struct boot_mem x = m[i];
		u32 j = i;

		for (; j > 0 && m[j - 1].base > x.base; j--)
			m[j] = m[j - 1];
		m[j] = x;
	}
}

static int insert(struct boot_info *bi, u32 at, u64 base, u64 size, u32 type)
{
	if (bi->mems == BOOT_MEM_MAX)
		return -ENOSPC;
	memmove(&bi->mem[at + 1], &bi->mem[at], (bi->mems - at) * sizeof(bi->mem[0]));
	bi->mem[at] = (struct boot_mem){ base, size, type, 0 };
	bi->mems++;
	return 0;
}

static void drop(struct boot_info *bi, u32 at)
{
	bi->mems--;
	memmove(&bi->mem[at], &bi->mem[at + 1], (bi->mems - at) * sizeof(bi->mem[0]));
}

/* Makes entries i and i+1, which overlap, disjoint; the order by base is kept or repaired. */
static int resolve(struct boot_info *bi, u32 i)
{
	struct boot_mem *a = &bi->mem[i], *b = &bi->mem[i + 1];
	u64 a_end = a->base + a->size, b_end = b->base + b->size;
	bool a_wins = severity(a->type) >= severity(b->type);
	int err = 0;

	if (a_wins) {
		if (b_end <= a_end) {
			drop(bi, i + 1);
			return 0;
		}
		b->size = b_end - a_end;
		b->base = a_end;
	} else {
		a->size = b->base - a->base;
		if (a_end > b_end)
			err = insert(bi, i + 2, b_end, a_end - b_end, a->type);
		if (a->size == 0)
			drop(bi, i);
	}
	sort(bi->mem, bi->mems);
	return err;
}

static int check_entries(struct boot_info *bi)
{
	for (u32 i = 0; i < bi->mems;) {
		struct boot_mem *m = &bi->mem[i];

		if (m->base + m->size < m->base && m->base + m->size != 0) {
			log_err("memory map: entry 0x%lx + 0x%lx wraps around", m->base, m->size);
			return -EINVAL;
		}
		/* An entry up to the very end of the address space loses its last page. */
		if (m->size != 0 && m->base + m->size == 0)
			m->size -= PAGE_SIZE;
		if (m->size == 0)
			drop(bi, i);
		else
			i++;
	}
	return 0;
}

static void merge(struct boot_info *bi)
{
	for (u32 i = 0; i + 1 < bi->mems;) {
		struct boot_mem *a = &bi->mem[i], *b = &bi->mem[i + 1];

		if (a->type == b->type && a->base + a->size == b->base) {
			a->size += b->size;
			drop(bi, i + 1);
		} else {
			i++;
		}
	}
}

int boot_info_normalise(struct boot_info *bi)
{
	int err = check_entries(bi);

	if (err != 0)
		return err;
	sort(bi->mem, bi->mems);
	for (u32 i = 0; i + 1 < bi->mems;) {
		if (bi->mem[i].base + bi->mem[i].size <= bi->mem[i + 1].base) {
			i++;
			continue;
		}
		err = resolve(bi, i);
		if (err != 0)
			return err;
		/* What was cut off may now overlap an earlier entry. */
		i = i > 0 ? i - 1 : 0;
	}
	merge(bi);
	for (u32 i = 0; i < bi->mems; i++) {
		if (bi->mem[i].type == MEM_RAM)
			return 0;
	}
	return -ENOENT;
}

static bool overlaps(u64 a, u64 a_size, u64 b, u64 b_size)
{
	return a < b + b_size && b < a + a_size;
}

static bool is_ram(const struct boot_info *bi, u64 base, u64 size)
{
	for (u32 i = 0; i < bi->mems; i++) {
		const struct boot_mem *m = &bi->mem[i];

		if (m->type == MEM_RAM && base >= m->base && size <= m->size &&
		    base - m->base <= m->size - size)
			return true;
	}
	return false;
}

static int check_module(const struct boot_info *bi, u32 i)
{
	const struct boot_module *m = &bi->module[i];

	if (m->base + m->size < m->base || !is_ram(bi, m->base, m->size)) {
		log_err("module %s: 0x%lx + 0x%lx is not RAM in the memory map: not used", m->name,
			m->base, m->size);
		return -EFAULT;
	}
	if (overlaps(m->base, m->size, bi->image, bi->image_size)) {
		log_err("module %s overlaps the hypervisor's own image: not used", m->name);
		return -EEXIST;
	}
	for (u32 j = 0; j < i; j++) {
		const struct boot_module *o = &bi->module[j];

		if (o->error == 0 && overlaps(m->base, m->size, o->base, o->size)) {
			log_err("module %s overlaps module %s: not used", m->name, o->name);
			return -EEXIST;
		}
	}
	return 0;
}

u32 boot_info_check_modules(struct boot_info *bi)
{
	u32 bad = 0;

	for (u32 i = 0; i < bi->modules; i++) {
		struct boot_module *m = &bi->module[i];

		if (m->error != 0 || m->size == 0)
			continue;
		m->error = check_module(bi, i);
		if (m->error != 0) {
			m->base = 0;
			m->size = 0;
			bad++;
		}
	}
	return bad;
}

bool boot_info_is_free_ram(const struct boot_info *bi, u64 base, u64 size)
{
	if (!is_ram(bi, base, size) || overlaps(base, size, bi->image, bi->image_size))
		return false;
	for (u32 i = 0; i < bi->modules; i++) {
		const struct boot_module *m = &bi->module[i];

		if (m->error == 0 && overlaps(base, size, m->base, m->size))
			return false;
	}
	return true;
}

static char fold(char c)
{
	if (c == '\\')
		return '/';
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static const char *skip_slashes(const char *s)
{
	while (fold(*s) == '/')
		s++;
	return s;
}

static bool same_name(const char *a, const char *b)
{
	a = skip_slashes(a);
	b = skip_slashes(b);
	while (*a != '\0' && fold(*a) == fold(*b)) {
		a++;
		b++;
	}
	return *a == *b;
}

const struct boot_module *boot_module_find(const struct boot_info *bi, const char *name)
{
	for (u32 i = 0; i < bi->modules; i++) {
		if (same_name(bi->module[i].name, name))
			return &bi->module[i];
	}
	return NULL;
}
