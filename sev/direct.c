/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/errno.h"
#include "core/string.h"
#include "guest-pv/loader/abi.h"
#include "sev/es.h"
#include "sev/es_hooks.h"
#include "sev/launch.h"
#include "sev/sha256.h"

/*
 * A Linux kernel as SEV-ES guest without firmware. Measured: the first-stage
 * loader's image, the description of the launch with the hashes, the place for
 * the secret. Kernel, initrd and command line lie in plain text where the kernel wants them; the
 * loader makes them private in place and hashes them. docs/sev-launch.md.
 */

#define FILES_LOW MIB(2) /* below: the loader */

static int loader_bad(struct loader *l, const struct loader_image *f)
{
	return loader_error(l, f, -EPROTO, "not a first-stage loader of this version");
}

/* Claims all that the image names. */
static int claim_loader(struct loader *l, const struct loader_image *f, struct ldr_header *h)
{
	int err;

	if (f->size < sizeof(*h) || !IS_ALIGNED(f->size, PAGE_SIZE))
		return loader_bad(l, f);
	memcpy(h, f->data, sizeof(*h));
	if (h->magic != LDR_MAGIC || h->entry < LDR_BASE || h->entry >= LDR_BASE + f->size ||
	    h->end < LDR_BASE + f->size || h->secret_size == 0 ||
	    !IS_ALIGNED((h->info | h->secret | h->secret_size | h->cmdline), (u32)PAGE_SIZE))
		return loader_bad(l, f);
	err = loader_claim(l, f, "the loader", LDR_BASE, h->end - LDR_BASE);
	if (err == 0)
		err = loader_claim(l, f, "the launch information", h->info, PAGE_SIZE);
	if (err == 0)
		err = loader_claim(l, f, "the place for secrets", h->secret, h->secret_size);
	if (err == 0)
		err = loader_claim(l, f, "the command line", h->cmdline, PAGE_SIZE);
	return err;
}

static int place_files(struct loader *l, struct linux_layout *layout)
{
	const struct vm_config *c = l->vm->config;
	int err = loader_file(l, "kernel", c->kernel, &l->kernel);

	if (err == 0 && c->initrd[0] != '\0')
		err = loader_file(l, "initrd", c->initrd, &l->initrd);
	if (err != 0)
		return err;
	if (!linux_detect(&l->kernel))
		return loader_error(l, &l->kernel, -ENOTSUP, "direct launch takes a Linux bzImage");
	err = linux_place(l, LDR_CPIO_ROOM, layout);
	if (err != 0)
		return err;
	if (layout->file < FILES_LOW || layout->end > layout->initrd)
		return loader_error(l, &l->kernel, -ENOMEM, "no room; give the VM more memory");
	return loader_claim(l, &l->kernel, "the kernel's setup", layout->file, layout->setup_size);
}

static void describe(struct ldr_part *part, gpa_t gpa, const void *data, u64 size)
{
	part->gpa = gpa;
	part->size = size;
	sha256(data, size, part->sha256);
}

static void write_info(struct loader *l, const struct ldr_header *h,
		       const struct linux_layout *layout)
{
	const struct vm *vm = l->vm;
	const char *cmdline = vm->config->cmdline;
	struct ldr_info info = {
		.magic = LDR_INFO_MAGIC, .cpus = vm->vcpus,
		.com = (vm->platform.config.com[0] ? 1U : 0) | (vm->platform.config.com[1] ? 2U : 0),
		.mem_low = vm->ram.low, .mem_high = vm->ram.high,
	};

	describe(&info.part[LDR_KERNEL], layout->file, l->kernel.data, l->kernel.size);
	describe(&info.part[LDR_INITRD], layout->initrd, l->initrd.data, l->initrd.size);
	describe(&info.part[LDR_CMDLINE], h->cmdline, cmdline, strlen(cmdline) + 1);
	loader_zero(l, h->info, PAGE_SIZE);
	loader_write(l, h->info, &info, sizeof(info));
	for (u32 i = 0; i < LDR_PARTS; i++) {
		const u8 *data[LDR_PARTS] = { l->kernel.data, l->initrd.data, (const u8 *)cmdline };

		loader_write(l, info.part[i].gpa, data[i], info.part[i].size);
		if (es_hook(ES_HOOK_KERNEL_BYTE + i)) {
			u8 other = data[i][0] ^ 1;

			loader_write(l, info.part[i].gpa, &other, 1);
		}
	}
}

static int measure_order(struct vm *vm, struct es_plan *p, const struct ldr_header *h, u64 size)
{
	int err = es_plan_add(vm, p, LDR_BASE, size);

	if (err == 0)
		err = es_plan_add(vm, p, h->info, PAGE_SIZE);
	return err != 0 ? err : es_plan_add(vm, p, h->secret, h->secret_size);
}

int es_plan_direct(struct loader *l, struct es_plan *p)
{
	struct linux_layout layout;
	struct loader_image f;
	struct ldr_header h;
	int err = loader_file(l, "sev-loader", l->vm->config->sev_loader, &f);

	if (err == 0)
		err = claim_loader(l, &f, &h);
	if (err == 0)
		err = place_files(l, &layout);
	if (err != 0)
		return err;
	loader_write(l, LDR_BASE, f.data, f.size);
	loader_zero(l, h.secret, h.secret_size);
	write_info(l, &h, &layout);
	p->direct = true;
	p->entry = h.entry;
	p->info = h.info;
	p->secret = h.secret;
	p->secret_size = h.secret_size;
	return measure_order(l->vm, p, &h, f.size);
}
