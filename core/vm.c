/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/vm.h"
#include "arch/x86/cpu.h"
#include "arch/x86/smp.h"
#include "core/errno.h"
#include "core/heap.h"
#include "core/log.h"
#include "core/msr.h"
#include "core/pmm.h"
#include "core/sched.h"
#include "core/string.h"
#include "core/trace.h"
#include "core/unit.h"
#include "sev/es.h"

/* The VMs: memory, creation and destruction, power. All of it runs on CPU 0 with interrupts on. */

static struct vm *vms[VM_MAX];

struct vm *vm_get(u32 id)
{
	return id < VM_MAX ? vms[id] : NULL;
}

struct vm *vm_find(const char *name)
{
	for (u32 i = 0; i < VM_MAX; i++)
		if (vms[i] != NULL && strcmp(vms[i]->name, name) == 0)
			return vms[i];
	return NULL;
}

/* --- memory -------------------------------------------------------------------------------------- */

#define CHUNKS_A_GIB (GIB(1) / VM_CHUNK_SIZE)
#define ORDER_CHUNK ORDER_2M

static void free_ram(struct vm *vm)
{
	for (u32 i = 0; i < vm->ram.chunks; i++)
		if (vm->ram.chunk[i] != 0)
			free_pages(vm->ram.chunk[i], ORDER_CHUNK);
	heap_free(vm->ram.chunk);
	vm->ram.chunk = NULL;
	vm->ram.chunks = 0;
}

/* Whole gigabytes where guest and host addresses allow one large page, else 2 MiB each. */
static int allocate_chunks(struct vm_ram *r)
{
	u32 low = (u32)(r->low / VM_CHUNK_SIZE);
	u32 i = 0;

	while (i < r->chunks) {
		u32 in_part = i < low ? i : i - low;
		u32 left = (i < low ? low : r->chunks) - i;
		bool whole = in_part % CHUNKS_A_GIB == 0 && left >= CHUNKS_A_GIB;
		u32 n = whole ? CHUNKS_A_GIB : 1;
		paddr_t pa = alloc_pages(whole ? ORDER_1G : ORDER_CHUNK, ALLOC_ZERO);

		if (pa == 0 && whole) {
			n = 1;
			pa = alloc_pages(ORDER_CHUNK, ALLOC_ZERO);
		}
		if (pa == 0)
			return -ENOMEM;
		for (u32 k = 0; k < n; k++)
			r->chunk[i + k] = pa + k * VM_CHUNK_SIZE;
		i += n;
	}
	return 0;
}

static int allocate_ram(struct vm *vm)
{
	struct vm_ram *r = &vm->ram;
	u64 size = vm->config->memory;

	r->low = MIN(size, VM_LOW_MAX);
	r->high = size - r->low;
	r->chunks = (u32)(size / VM_CHUNK_SIZE);
	r->chunk = heap_alloc(r->chunks * sizeof(*r->chunk));
	if (r->chunk == NULL) {
		r->chunks = 0;
		return -ENOMEM;
	}
	return allocate_chunks(r);
}

/* One mapping for each run of chunks that is contiguous in the host. */
static int map_range(struct vm *vm, gpa_t gpa, u32 first, u64 skip, u64 size)
{
	const paddr_t *c = vm->ram.chunk;

	while (size != 0) {
		u64 run = VM_CHUNK_SIZE - skip;
		u32 i = first;
		int err;

		while (run < size && c[i + 1] == c[i] + VM_CHUNK_SIZE) {
			run += VM_CHUNK_SIZE;
			i++;
		}
		run = MIN(run, size);
		err = pt_map(&vm->npt, gpa, c[first] + skip, run, PT_RWX | PT_USER | PT_ENCRYPTED);
		if (err < 0)
			return err;
		gpa += run;
		size -= run;
		first = i + 1;
		skip = 0;
	}
	return 0;
}

#define VGA_HOLE 0xa0000UL
#define VGA_HOLE_END 0xc0000UL

static int map_ram(struct vm *vm)
{
	const struct vm_ram *r = &vm->ram;
	int err = map_range(vm, 0, 0, 0, VGA_HOLE);

	if (err == 0)
		err = map_range(vm, VGA_HOLE_END, 0, VGA_HOLE_END, r->low - VGA_HOLE_END);
	if (err == 0 && r->high != 0)
		err = map_range(vm, GIB(4), (u32)(r->low / VM_CHUNK_SIZE), 0, r->high);
	return err;
}

/* --- creation ------------------------------------------------------------------------------------ */

static int create_platform(struct vm *vm)
{
	struct vdev_platform_config pc = {
		.com = { true, true },
		.debug_exit = vm->config->debug_exit,
		.debugcon = vm->config->debugcon,
		.cpus = vm->vcpus,
		.phys_bits = (u8)MIN(cpu_features.phys_bits, 52U),
		.mem_low = vm->ram.low,
		.mem_high = vm->ram.high,
	};

	return vplatform_init(&vm->platform, vm_host(vm), &pc);
}

/* Each step's failure is undone by vm_destroy(), which takes any half-made VM apart. */
static int build(struct vm *vm)
{
	int err;

	vm->msrs = heap_alloc(sizeof(*vm->msrs));
	if (vm->msrs == NULL)
		return -ENOMEM;
	err = es_vm_create(vm);
	if (err < 0)
		return err;
	err = allocate_ram(vm);
	if (err < 0)
		return err;
	err = virt->vm_init(vm);
	if (err == 0)
		err = map_ram(vm);
	if (err == 0)
		err = es_vm_map(vm);
	if (err == 0)
		err = create_platform(vm);
	for (u32 i = 0; i < vm->vcpus && err == 0; i++)
		err = vcpu_create(vm, i);
	if (err == 0)
		err = units_vm_init(vm);
	vm->units_ready = err == 0;
	return err;
}

static s32 free_slot(void)
{
	for (u32 i = 0; i < VM_MAX; i++)
		if (vms[i] == NULL)
			return (s32)i;
	return -1;
}

static int creation_failed(struct vm *vm, int err)
{
	if (err == -ENOMEM)
		log_err("vm %s: not enough memory: it wants %lu MiB, %lu MiB are free", vm->name,
			vm->config->memory >> 20, pmm_free_count() >> 8);
	else
		log_err("vm %s: cannot be created: error %d", vm->name, err);
	vm_destroy(vm);
	return err;
}

int vm_create(const struct vm_config *cfg, struct vm **out)
{
	s32 slot = free_slot();
	struct vm *vm;
	int err;

	*out = NULL;
	if (virt == NULL) {
		log_err("vm %s: this machine cannot run guests", cfg->name);
		return -ENODEV;
	}
	if (vm_find(cfg->name) != NULL)
		return -EEXIST;
	if (slot < 0) {
		log_err("vm %s: there are %u VMs already", cfg->name, VM_MAX);
		return -ENOSPC;
	}
	vm = heap_alloc(sizeof(*vm));
	if (vm == NULL)
		return -ENOMEM;
	str_copy(vm->name, cfg->name, sizeof(vm->name));
	vm->id = (u32)slot;
	vm->config = cfg;
	vm->vcpus = cfg->cpus;
	vm->tsc_base = rdtsc();
	vm->pv.features = cfg->pv;
	vm->pv.ipi_set = (cfg->pv & PV_IPI) != 0 ? ~0UL >> (64 - cfg->cpus) : 0;
	vms[slot] = vm;
	err = build(vm);
	if (err < 0)
		return creation_failed(vm, err);
	*out = vm;
	return 0;
}

/* Interrupt handlers that were in a timer's callback when it was cancelled have ended after this. */
static void barrier(void *arg)
{
	(void)arg;
}

void vm_destroy(struct vm *vm)
{
	if (vm->state == VM_RUNNING)
		(void)vm_stop(vm);
	if (vm->units_ready)
		units_vm_exit(vm);
	if (vm->platform.host != NULL)
		vplatform_destroy(&vm->platform);
	smp_call_all(barrier, NULL);
	es_vm_destroy(vm);
	for (u32 i = 0; i < vm->vcpus; i++)
		vcpu_destroy(vm->vcpu[i]);
	virt->vm_destroy(vm);
	free_ram(vm);
	if (vm->ram.rom != 0)
		vm_free_rom(vm);
	heap_free(vm->msrs);
	vms[vm->id] = NULL;
	heap_free(vm);
}

/* --- firmware ------------------------------------------------------------------------------------- */

int vm_map_rom(struct vm *vm, gpa_t gpa, u64 size, u8 **image)
{
	u32 order = 0;
	int err;

	if (vm->ram.rom != 0)
		vm_free_rom(vm);
	while ((PAGE_SIZE << order) < size)
		order++;
	vm->ram.rom = alloc_pages(order, ALLOC_ZERO);
	if (vm->ram.rom == 0)
		return -ENOMEM;
	vm->ram.rom_order = order;
	vm->ram.rom_gpa = gpa;
	vm->ram.rom_size = size;
	err = pt_map(&vm->npt, gpa, vm->ram.rom, size, PT_RX | PT_USER | PT_ENCRYPTED);
	if (err < 0) {
		free_pages(vm->ram.rom, order);
		vm->ram.rom = 0;
		return err;
	}
	*image = phys_to_virt(vm->ram.rom);
	return 0;
}

void vm_free_rom(struct vm *vm)
{
	if (vm->npt.root != 0)
		(void)pt_unmap(&vm->npt, vm->ram.rom_gpa, vm->ram.rom_size);
	free_pages(vm->ram.rom, vm->ram.rom_order);
	vm->ram.rom = 0;
}

/* --- power ---------------------------------------------------------------------------------------- */

/* Devices' locks are taken with interrupts off: a timer's callback takes them, too. */
static void reset_devices(struct vm *vm)
{
	u64 flags = irq_save();

	vplatform_reset(&vm->platform);
	for (u32 i = 0; i < vm->vcpus; i++)
		vlapic_reset(&vm->vcpu[i]->lapic, false);
	irq_restore(flags);
}

static int load(struct vm *vm)
{
	struct guest_entry entry = { .mode = GUEST_REAL };
	int err;

	vm_msrs_reset(vm->msrs, vm->config->firmware[0] == '\0');
	reset_devices(vm);
	for (u32 i = 0; i < vm->vcpus; i++)
		vcpu_power_on(vm->vcpu[i]);
	if (vm->es != NULL)
		return es_launch(vm);
	err = loader_load(vm, &entry);
	return err < 0 ? err : vcpu_set_entry(vm->vcpu[0], &entry);
}

void vm_run(struct vm *vm)
{
	vm->why[0] = '\0';
	__atomic_store_n(&vm->power, VM_POWER_NONE, __ATOMIC_RELEASE);
	vm->state = VM_RUNNING;
	virt->flush_guest_tlb(vm);
	for (u32 i = 0; i < vm->vcpus; i++)
		vm->vcpu[i]->state = i == 0 ? VCPU_ON : VCPU_WAIT_SIPI;
	log_info("vm %s: started, %u vCPUs, %lu MiB", vm->name, vm->vcpus, vm->config->memory >> 20);
	sched_wake(vm->vcpu[0]);
}

static bool is_on(const struct vm *vm)
{
	return vm->state == VM_RUNNING || vm->state == VM_WAITING;
}

int vm_start(struct vm *vm)
{
	int err = is_on(vm) ? -EBUSY : load(vm);

	if (err < 0)
		log_err("vm %s: not started%s", vm->name,
			err == -EBUSY ? ": it is on; vm reset starts it anew" : "");
	else if (vm->state != VM_WAITING)
		vm_run(vm);
	return err;
}

int vm_stop(struct vm *vm)
{
	if (!is_on(vm))
		return -EINVAL;
	for (u32 i = 0; i < vm->vcpus; i++)
		sched_remove(vm->vcpu[i]);
	reset_devices(vm);
	(void)es_stop(vm);
	vm->state = VM_OFF;
	trace_event(vm->id, 0, TRACE_VM, vm->state, 0);
	return 0;
}

int vm_reset(struct vm *vm)
{
	(void)vm_stop(vm);
	vm->resets++;
	return vm_start(vm);
}

int vm_send_nmi(struct vm *vm, u32 vcpu)
{
	if (vcpu >= vm->vcpus || vm->state != VM_RUNNING)
		return -EINVAL;
	vdev_kick(vm_host(vm), vcpu, VDEV_KICK_NMI, 0);
	return 0;
}

void vm_power(struct vm *vm, u32 what, u32 code)
{
	u32 none = VM_POWER_NONE;

	if (!__atomic_compare_exchange_n(&vm->power, &none, what, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_RELAXED))
		return;
	vm->power_code = code;
	for (u32 i = 0; i < vm->vcpus; i++)
		vcpu_hazard(vm->vcpu[i], HAZ_RESCHED);
	sched_notify_cpu0();
}

static void carry_out(struct vm *vm, u32 what)
{
	(void)vm_stop(vm);
	switch (what) {
	case VM_POWER_RESET:
		log_info("vm %s: reset by the guest", vm->name);
		vm->resets++;
		(void)vm_start(vm);
		break;
	case VM_POWER_OFF:
		str_copy(vm->why, "powered off by the guest", sizeof(vm->why));
		log_info("vm %s: powered off", vm->name);
		break;
	case VM_POWER_DEBUG_EXIT:
		str_copy(vm->why, "debug exit", sizeof(vm->why));
		log_info("vm %s: debug exit with code %u", vm->name, vm->power_code);
		break;
	default:
		vm->state = VM_CRASHED;
		break;
	}
}

void vm_poll(void)
{
	for (u32 i = 0; i < VM_MAX; i++) {
		struct vm *vm = vms[i];
		u32 what;

		if (vm == NULL || vm->state != VM_RUNNING)
			continue;
		what = __atomic_load_n(&vm->power, __ATOMIC_ACQUIRE);
		if (what != VM_POWER_NONE)
			carry_out(vm, what);
	}
}
