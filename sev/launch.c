/* SPDX-License-Identifier: BSD-2-Clause */
#include "sev/launch.h"
#include "arch/x86/svm/svm.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/pmm.h"
#include "core/string.h"
#include "sev/base64.h"
#include "sev/es.h"
#include "sev/es_hooks.h"
#include "sev/vmsa.h"

/* A launch under way. */
struct launch {
	struct loader l;
	struct es_plan plan;
	paddr_t owner; /* page with certificate, session and secret header; 0: none */
	u8 *cert, *session, *header;
	struct loader_image secret;
};

int es_plan_add(struct vm *vm, struct es_plan *p, gpa_t gpa, u64 size)
{
	if (size == 0 || !IS_ALIGNED(gpa | size, 16))
		return -EINVAL;
	if (p->ranges == ES_RANGES)
		return -ENOSPC;
	for (u64 done = 0, n; done < size; done += n) {
		n = size - done;
		if (vm_ram_ptr(vm, gpa + done, &n, false) == NULL)
			return -EINVAL;
	}
	p->range[p->ranges++] = (struct es_range){ gpa, size };
	return 0;
}

/* --- the owner's files --- */

/* A file of fixed size, as it is or in base64 (as sevctl writes it); nothing for an empty path. */
static int owner_file(struct launch *x, const char *key, const char *path, u8 *out, u64 size)
{
	struct loader_image f;
	int err;

	if (path[0] == '\0')
		return 0;
	err = loader_file(&x->l, key, path, &f);
	if (err != 0)
		return err;
	if (f.size == size)
		memcpy(out, f.data, size);
	else if (base64_decode(f.data, f.size, out, size) != (s64)size)
		return loader_error(&x->l, &f, -EPROTO, "not a file of %lu bytes, nor base64 of one",
				    size);
	return 0;
}

static int owner_files(struct launch *x)
{
	const struct vm_config *c = x->l.vm->config;
	int err;

	x->owner = alloc_pages(ORDER_4K, ALLOC_ZERO);
	if (x->owner == 0)
		return -ENOMEM;
	x->cert = phys_to_virt(x->owner);
	x->session = x->cert + ALIGN_UP(PSP_CERT_SIZE, 16U);
	x->header = x->session + PSP_SESSION_SIZE;
	err = owner_file(x, "sev-cert", c->sev_cert, x->cert, PSP_CERT_SIZE);
	if (err == 0)
		err = owner_file(x, "sev-session", c->sev_session, x->session, PSP_SESSION_SIZE);
	if (err == 0)
		err = owner_file(x, "sev-secret-header", c->sev_secret_header, x->header,
				 PSP_SECRET_HDR_SIZE);
	if (err == 0 && c->sev_secret[0] != '\0' && !config_secret_waits(c))
		err = loader_file(&x->l, "sev-secret", c->sev_secret, &x->secret);
	return err;
}

/* --- what is measured --- */

static int make_plan(struct launch *x)
{
	const struct vm_config *c = x->l.vm->config;

	if (c->firmware[0] != '\0')
		return es_plan_firmware(&x->l, &x->plan);
	return c->kernel[0] != '\0' ? es_plan_direct(&x->l, &x->plan) :
				      es_plan_flat(&x->l, &x->plan);
}

static int encrypt_ranges(struct launch *x)
{
	struct vm *vm = x->l.vm;
	int err = 0;

	for (u32 i = 0; i < x->plan.ranges && err == 0; i++) {
		const struct es_range *r = &x->plan.range[i];

		for (u64 done = 0, n; done < r->size && err == 0; done += n) {
			const void *p;

			n = r->size - done;
			p = vm_ram_ptr(vm, r->gpa + done, &n, false);
			err = sev_guest_data(&vm->es->guest, virt_to_phys(p), n);
		}
	}
	return err;
}

static int encrypt_vmsas(struct launch *x)
{
	const struct es_plan *p = &x->plan;
	struct vm *vm = x->l.vm;
	int err = 0;

	for (u32 i = 0; i < vm->vcpus && err == 0; i++) {
		struct vcpu *v = vm->vcpu[i];
		struct vmsa *s = phys_to_virt(v->es->vmsa);
		u32 signature = v->cpuid.basic[1].eax;

		if (p->direct)
			vmsa_direct(s, signature, p->entry, i, p->info);
		else
			vmsa_reset(s, signature, i != 0 && p->ap_reset != 0 ? p->ap_reset :
				   0xfffffff0U);
		if (es_hook(ES_HOOK_VMSA_BYTE))
			s->r8_15[0] ^= 1;
		v->es->cr0 = s->cr0;
		v->es->cr4 = s->cr4;
		err = sev_guest_vmsa(&vm->es->guest, v->es->vmsa);
	}
	return err;
}

/* --- the rest --- */

static void log_measure(const struct vm *vm)
{
	char text[2 * PSP_MEASURE_SIZE + 1];

	sev_measure_text(vm->es->measure, text);
	log_info("vm %s: launch measurement %.64s nonce %s", vm->name, text, text + 64);
}

static int measure(struct launch *x)
{
	struct vm *vm = x->l.vm;
	int err = sev_guest_measure(&vm->es->guest, vm->es->measure);

	if (err == 0) {
		vm->es->guest.measure = vm->es->measure;
		log_measure(vm);
	}
	return err;
}

static int secret(struct launch *x)
{
	struct vm *vm = x->l.vm;

	if (vm->config->sev_secret[0] == '\0')
		return 0;
	es_secret_place(vm, x->plan.secret, x->plan.secret_size);
	return config_secret_waits(vm->config) ? es_secret_wait(vm) :
	       es_secret_give(vm, x->header, x->secret.pa, x->secret.size);
}

static int start(struct launch *x)
{
	struct vm *vm = x->l.vm;
	const struct sev_session s = { .cert = machine_pa(virt_to_phys(x->cert)),
				       .session = machine_pa(virt_to_phys(x->session)) };

	return sev_guest_start(&vm->es->guest, vm->es->name, vm->config->policy,
			       vm->config->sev_session[0] != '\0' ? &s : NULL);
}

static int ended(const struct vm *vm, const char *step, int err)
{
	if (err != 0)
		log_err("vm %s: SEV-ES launch ended at %s: error %d%s%s", vm->name, step, -err,
			err == -EIO ? ", PSP status " : "",
			err == -EIO ? psp_status_name(psp_last_status()) : "");
	return err;
}

static int run_steps(struct launch *x)
{
	static const struct {
		const char *name;
		int (*run)(struct launch *x);
	} step[] = {
		{ "the owner's files", owner_files }, { "the image", make_plan },
		{ "LAUNCH_START", start }, { "LAUNCH_UPDATE_DATA", encrypt_ranges },
		{ "LAUNCH_UPDATE_VMSA", encrypt_vmsas }, { "LAUNCH_MEASURE", measure },
		{ "LAUNCH_SECRET", secret },
	};
	int err = 0;

	for (size_t i = 0; i < ARRAY_SIZE(step) && err == 0; i++)
		err = ended(x->l.vm, step[i].name, step[i].run(x));
	return err;
}

/* What plain text is left in the caches would be written over the guest's own lines. */
int es_launch_finish(struct vm *vm)
{
	struct es_vm *es = vm->es;
	int err = 0;

	sev_wbinvd();
	if (!es_hook(ES_HOOK_NO_FINISH))
		err = ended(vm, "LAUNCH_FINISH", sev_guest_finish(&es->guest));
	if (err != 0)
		return err;
	for (u32 i = 0; i < vm->vcpus; i++)
		svm_vcpu(vm->vcpu[i])->fixed_asid = es->guest.asid;
	es_hook_launched(vm);
	return 0;
}

int es_launch(struct vm *vm)
{
	static struct launch x; /* CPU 0 only */
	struct es_vm *es = vm->es;
	int err = es_stop(vm); /* in case that its last end was refused */

	if (err != 0)
		return err;
	memset(&x, 0, sizeof(x));
	x.l.vm = vm;
	es->ap_jump_table = 0;
	memset(es->last, 0, sizeof(es->last));
	err = run_steps(&x);
	if (x.owner != 0) {
		memset(x.cert, 0, PAGE_SIZE); /* with what follows it, the secret's header */
		free_pages(x.owner, ORDER_4K);
	}
	if (err == 0 && vm->state != VM_WAITING)
		err = es_launch_finish(vm);
	if (err != 0)
		(void)es_stop(vm);
	return err;
}
