/* SPDX-License-Identifier: BSD-2-Clause */
/* The smallest guest: says how it was started and with what. */
#include "rt.h"

extern u32 boot_magic, boot_info;
int main(void);

static u32 sum(u64 from, u64 to)
{
	u32 s = 0;

	for (const u8 *p = (const u8 *)from; (u64)p < to; p++)
		s = s * 31 + *p;
	return s;
}

static void multiboot(const u32 *info)
{
	print("hello: multiboot flags %x mem %u %u\n", info[0], info[1], info[2]);
	if (!(info[0] & 8))
		return;
	for (u32 i = 0; i < info[5]; i++) {
		const u32 *mod = (const u32 *)(u64)info[6] + 4 * i;

		print("hello: module %u at %x size %u sum %x name %s\n", i, mod[0], mod[1] - mod[0],
		      sum(mod[0], mod[1]), mod[2] ? (const char *)(u64)mod[2] : "");
	}
	if (!(info[0] & 0x40))
		return;
	for (u64 p = info[12]; p < info[12] + info[11]; p += *(const u32 *)p + 4)
		print("hello: memory %lx size %lx type %u\n", *(const u64 *)(p + 4),
		      *(const u64 *)(p + 12), *(const u32 *)(p + 20));
}

static void pvh(const u32 *info)
{
	const u64 *mod = (const u64 *)*(const u64 *)(info + 4);

	print("hello: pvh version %u flags %x rsdp %lx\n", info[1], info[2],
	      *(const u64 *)(info + 8));
	for (u32 i = 0; i < info[3]; i++, mod += 4)
		print("hello: module %u at %lx size %lu sum %x name %s\n", i, mod[0], mod[1],
		      sum(mod[0], mod[0] + mod[1]), mod[2] ? (const char *)mod[2] : "");
	if (info[1] < 1)
		return;
	for (u32 i = 0; i < info[12]; i++) {
		const u64 *e = (const u64 *)(*(const u64 *)(info + 10) + 24ul * i);

		print("hello: memory %lx size %lx type %u\n", e[0], e[1], (u32)e[2]);
	}
}

int main(void)
{
	const u32 *info = (const u32 *)(u64)boot_info;

	rt_init();
	print("hello: magic %x cmdline \"%s\"\n", boot_magic, cmdline);
	if (boot_magic == 0x2BADB002)
		multiboot(info);
	else if (info[0] == 0x336EC578)
		pvh(info);
	else
		print("hello: unknown way of starting\n");
	guest_exit((u8)option_number("exit", 0));
}
