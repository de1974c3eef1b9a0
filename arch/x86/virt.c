/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/virt.h"
#include "arch/x86/mitigations.h"
#include "arch/x86/percpu.h"
#include "arch/x86/smp.h"
#include "core/errno.h"
#include "core/log.h"

/* The choice of the backend. */

static const struct virt_backend *const backends[] = { &svm_backend, &vmx_backend };

const struct virt_backend *virt;

/* Run on each CPU in turn; one failure is enough to give up. */
struct enable_request {
	const struct virt_backend *backend;
	u32 enabled; /* CPUs */
};

static void enable_here(void *arg)
{
	struct enable_request *req = arg;
	const char *reason = "unknown reason";

	mitigations_cpu_init();
	if (req->backend->cpu_enable(&reason) < 0) {
		log_err("virt: CPU %u cannot use %s: %s", cpu_number(), req->backend->isa, reason);
		return;
	}
	req->enabled++;
}

static void disable_here(void *arg)
{
	const struct virt_backend *backend = arg;

	backend->cpu_disable();
}

static int enable_everywhere(const struct virt_backend *backend)
{
	/* Not on the stack: that is this CPU's own and is not there for the others. */
	static struct enable_request req;

	req = (struct enable_request){ .backend = backend };
	smp_call_all(enable_here, &req);
	if (req.enabled == cpu_count)
		return 0;
	smp_call_all(disable_here, (void *)(uintptr_t)backend);
	return -ENODEV;
}

int virt_init(void)
{
	const char *refused[ARRAY_SIZE(backends)] = { NULL };

	mitigations_init();
	for (size_t i = 0; i < ARRAY_SIZE(backends); i++) {
		const struct virt_backend *b = backends[i];

		refused[i] = "unknown reason";
		if (b->probe(&refused[i]) < 0)
			continue;
		refused[i] = NULL; /* from here on a failure has been logged */
		if (b->init() < 0 || enable_everywhere(b) < 0)
			continue;
		virt = b;
		log_info("virt: %s on %u CPUs", b->isa, cpu_count);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(backends); i++)
		if (refused[i] != NULL)
			log_warn("virt: no %s: %s", backends[i]->isa, refused[i]);
	log_err("virt: no way to run guests on this machine; the shell still works");
	return -ENODEV;
}
