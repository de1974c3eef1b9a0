/* SPDX-License-Identifier: BSD-2-Clause */
#include "drivers/psp/psp.h"
#include "arch/x86/cpu.h"
#include "arch/x86/paging.h"
#include "arch/x86/traps.h"
#include "arch/x86/tsc.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/pmm.h"
#include "core/string.h"

/* --- what there is: functions, registers, commands --- */

/*
 * Register offsets in BAR 2. SEV command, address and feature registers lie the
 * same way behind one base; the interrupt registers moved on their own.
 */
struct generation {
	u16 device;
	u16 base;
	u16 inten;
};

#define REGS_OFFSET 0x10000U
static const struct generation generations[] = {
	{ 0x1456, 0x500, 0x610 }, /* Zen 1: Naples */
	{ 0x1486, 0x900, 0x690 }, /* Zen 2, 3: Rome, Milan */
	{ 0x14ca, 0x900, 0x690 }, /* Zen 4: Genoa */
	{ 0x156e, 0x900, 0x510 }, /* Zen 5: Turin */
};

#define VENDOR_AMD 0x1022U
#define REG_COMMAND 0x80  /* C2PMSG_32 */
#define REG_ADDR_LOW 0xe0 /* C2PMSG_56 */
#define REG_ADDR_HIGH 0xe4
#define REG_BOOTLOADER 0xec
#define REG_FEATURE 0xfc
#define REGS_SIZE 0x100U
#define INTSTS 4 /* behind INTEN */

#define COMMAND_ID_SHIFT 16
#define COMMAND_IOC BIT32(0)
#define COMMAND_DONE BIT32(31)
#define STATUS_MASK 0xffffU
#define INT_MAILBOX BIT32(1)
#define FEATURE_SEV BIT32(0)

struct command {
	u16 id;
	u8 size;    /* of the buffer */
	u8 seconds; /* until the mailbox counts as dead */
	const char *name;
};

#define SECONDS 5
#define SECONDS_KEYS 15 /* makes keys, or reads the whole of a file */
#define C(n, size, seconds) { PSP_##n, size, seconds, #n }
static const struct command commands[] = {
	C(INIT, sizeof(struct psp_init), SECONDS_KEYS),
	C(SHUTDOWN, 0, SECONDS),
	C(PLATFORM_RESET, 0, SECONDS_KEYS),
	C(PLATFORM_STATUS, sizeof(struct psp_platform_status), SECONDS),
	C(PEK_GEN, 0, SECONDS_KEYS),
	C(PEK_CSR, sizeof(struct psp_blob), SECONDS),
	C(PEK_CERT_IMPORT, sizeof(struct psp_two_blobs), SECONDS_KEYS),
	C(PDH_CERT_EXPORT, sizeof(struct psp_two_blobs), SECONDS),
	C(PDH_GEN, 0, SECONDS_KEYS),
	C(DF_FLUSH, 0, SECONDS),
	C(DOWNLOAD_FIRMWARE, sizeof(struct psp_blob), SECONDS_KEYS),
	C(GET_ID, sizeof(struct psp_blob), SECONDS),
	C(INIT_EX, sizeof(struct psp_init_ex), SECONDS_KEYS),
	C(NOP, 0, SECONDS),
	C(DECOMMISSION, sizeof(struct psp_handle), SECONDS),
	C(ACTIVATE, sizeof(struct psp_activate), SECONDS),
	C(DEACTIVATE, sizeof(struct psp_handle), SECONDS),
	C(GUEST_STATUS, sizeof(struct psp_guest_status), SECONDS),
	C(ACTIVATE_EX, sizeof(struct psp_activate_ex), SECONDS),
	C(LAUNCH_START, sizeof(struct psp_start), SECONDS),
	C(LAUNCH_UPDATE_DATA, sizeof(struct psp_range), SECONDS),
	C(LAUNCH_UPDATE_VMSA, sizeof(struct psp_range), SECONDS),
	C(LAUNCH_MEASURE, sizeof(struct psp_range), SECONDS),
	C(LAUNCH_SECRET, sizeof(struct psp_packet), SECONDS),
	C(LAUNCH_FINISH, sizeof(struct psp_handle), SECONDS),
	C(ATTESTATION, sizeof(struct psp_attestation), SECONDS),
	C(SEND_START, sizeof(struct psp_send_start), SECONDS),
	C(SEND_UPDATE_DATA, sizeof(struct psp_packet), SECONDS),
	C(SEND_UPDATE_VMSA, sizeof(struct psp_packet), SECONDS),
	C(SEND_FINISH, sizeof(struct psp_handle), SECONDS),
	C(SEND_CANCEL, sizeof(struct psp_handle), SECONDS),
	C(RECEIVE_START, sizeof(struct psp_start), SECONDS),
	C(RECEIVE_UPDATE_DATA, sizeof(struct psp_packet), SECONDS),
	C(RECEIVE_UPDATE_VMSA, sizeof(struct psp_packet), SECONDS),
	C(RECEIVE_FINISH, sizeof(struct psp_handle), SECONDS),
	C(DBG_DECRYPT, sizeof(struct psp_debug), SECONDS),
	C(DBG_ENCRYPT, sizeof(struct psp_debug), SECONDS),
};
#undef C

static struct {
	spinlock_t lock;
	struct pci_fn fn;
	const struct generation *gen;
	volatile u8 *regs;   /* at the generation's base; NULL: no mailbox */
	volatile u8 *inten;
	u8 *buffer;          /* a page of its own: the processor may write it after a timeout */
	bool dead;
	bool interrupts;
	u32 answered;        /* set by the interrupt, atomic */
	u32 missed;          /* answers in a row whose interrupt did not come */
	u32 last;
	struct {
		u32 sent, failed;
		u32 status;
	} stat[ARRAY_SIZE(commands)];
} psp = { .lock = SPINLOCK_INIT };

static const struct command *find_command(u32 id)
{
	for (u32 i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].id == id)
			return &commands[i];
	return NULL;
}

int psp_command_size(u32 id)
{
	const struct command *c = find_command(id);

	return c != NULL ? c->size : -EINVAL;
}

u32 psp_last_status(void) { return psp.last; }
bool psp_dead(void) { return psp.dead; }

/* --- finding it --- */

static const struct generation *generation_of(u32 id)
{
	for (u32 i = 0; i < ARRAY_SIZE(generations); i++)
		if (id == (VENDOR_AMD | (u32)generations[i].device << 16))
			return &generations[i];
	return NULL;
}

/* Each socket has such a function; the one whose mailbox does SEV says so. */
static bool is_ours(struct pci_fn f, u32 id)
{
	const struct generation *g = generation_of(id);
	volatile u8 *regs;
	paddr_t bar;
	u32 feature;

	if (g == NULL)
		return false;
	bar = pci_bar(f, 2);
	if (bar == 0) {
		log_err("psp: %02x:%02x.%u: BAR 2 has no address; firmware must assign one", f.bus,
			f.devfn >> 3, f.devfn & 7U);
		return false;
	}
	regs = mmio_map(bar + REGS_OFFSET, PAGE_SIZE);
	if (regs == NULL)
		return false;
	pci_enable(f);
	feature = mmio_read32(regs + g->base + REG_FEATURE);
	if (feature == ~0U || (feature & FEATURE_SEV) == 0) {
		log_warn("psp: %02x:%02x.%u: no SEV mailbox (features 0x%x); SEV may be off in "
			 "firmware setup", f.bus, f.devfn >> 3, f.devfn & 7U, feature);
		return false;
	}
	psp.fn = f;
	psp.gen = g;
	psp.regs = regs + g->base;
	psp.inten = regs + g->inten;
	return true;
}

static void on_interrupt(struct trap_frame *f)
{
	u32 status = mmio_read32(psp.inten + INTSTS);

	(void)f;
	mmio_write32(psp.inten + INTSTS, status);
	if ((status & INT_MAILBOX) != 0)
		__atomic_store_n(&psp.answered, 1, __ATOMIC_RELEASE);
}

/* Without an interrupt the mailbox is polled. */
static void setup_interrupt(void)
{
	int vector = irq_alloc_vector();

	mmio_write32(psp.inten, 0);
	if (vector < 0 || irq_register((u8)vector, on_interrupt) != 0 ||
	    pci_msi(psp.fn, (u8)vector) != 0) {
		log_info("psp: no interrupt, the mailbox is polled");
		return;
	}
	mmio_write32(psp.inten + INTSTS, ~0U);
	mmio_write32(psp.inten, INT_MAILBOX);
	psp.interrupts = true;
}

int psp_probe(void)
{
	struct pci_fn f;
	paddr_t page;

	if (psp.regs != NULL)
		return 0;
	if (!pci_find(is_ours, &f))
		return -ENOENT;
	page = alloc_pages(ORDER_4K, ALLOC_ZERO);
	if (page == 0) {
		psp.regs = NULL;
		log_err("psp: no page for the command buffer");
		return -ENODEV;
	}
	psp.buffer = phys_to_virt(page);
	setup_interrupt();
	return 0;
}

/* --- the mailbox --- */

#define POLL_NS 20000UL       /* how often the register is looked at when there is no interrupt */
#define POLL_IRQ_NS 5000000UL /* and when one is expected */
#define MISSED_MAX 3

static void count_missed(bool came)
{
	psp.missed = came ? 0 : psp.missed + 1;
	if (!psp.interrupts || psp.missed < MISSED_MAX)
		return;
	psp.interrupts = false;
	mmio_write32(psp.inten, 0);
	log_warn("psp: %u answers without an interrupt; polling from now on", psp.missed);
}

/* Waits for the answer. All ones is no answer: the function has left the bus. */
static bool wait_answer(u32 seconds, u32 *answer)
{
	u64 end = time_ns() + (u64)seconds * 1000000000;
	u64 step = psp.interrupts ? POLL_IRQ_NS : POLL_NS;
	u64 poll = time_ns() + step;

	for (;;) {
		bool irq = __atomic_exchange_n(&psp.answered, 0, __ATOMIC_ACQUIRE) != 0;
		u64 now = time_ns();

		if (irq || now >= poll) {
			*answer = mmio_read32(psp.regs + REG_COMMAND);
			if ((*answer & COMMAND_DONE) != 0) {
				count_missed(irq || !psp.interrupts);
				return *answer != ~0U;
			}
			poll = now + step;
		}
		if (now >= end)
			return false;
		cpu_relax();
	}
}

static bool exchange(const struct command *c, void *buffer, u32 *answer)
{
	paddr_t pa = machine_pa(virt_to_phys(psp.buffer));

	if (c->size != 0)
		memcpy(psp.buffer, buffer, c->size);
	mmio_write32(psp.regs + REG_ADDR_LOW, c->size != 0 ? (u32)pa : 0);
	mmio_write32(psp.regs + REG_ADDR_HIGH, c->size != 0 ? (u32)(pa >> 32) : 0);
	__atomic_store_n(&psp.answered, 0, __ATOMIC_RELEASE);
	mfence(); /* the buffer is in memory before the doorbell rings */
	mmio_write32(psp.regs + REG_COMMAND, (u32)c->id << COMMAND_ID_SHIFT |
		     (psp.interrupts ? COMMAND_IOC : 0));
	if (!wait_answer(c->seconds, answer))
		return false;
	if (c->size != 0)
		memcpy(buffer, psp.buffer, c->size);
	return true;
}

/* Under the lock. */
static int send(const struct command *c, void *buffer)
{
	u32 i = (u32)(c - commands), answer;

	if (psp.regs == NULL || psp.dead)
		return -ENODEV;
	psp.stat[i].sent++;
	if (!exchange(c, buffer, &answer)) {
		psp.dead = true;
		psp.stat[i].failed++;
		psp.stat[i].status = psp.last = STATUS_MASK;
		return -ETIMEDOUT;
	}
	psp.stat[i].status = psp.last = answer & STATUS_MASK;
	if (psp.last == PSP_SUCCESS)
		return 0;
	psp.stat[i].failed++;
	return -EIO;
}

int psp_command(u32 id, void *buffer)
{
	const struct command *c = find_command(id);
	u32 status;
	int err;

	if (c == NULL || (c->size != 0) != (buffer != NULL))
		return -EINVAL;
	spin_lock(&psp.lock);
	err = send(c, buffer);
	status = psp.last;
	spin_unlock(&psp.lock);
	if (err == -ETIMEDOUT)
		log_err("psp: %s: no answer within %u s; SEV is off until the machine is reset",
			c->name, c->seconds);
	else if (err == -EIO)
		log_err("psp: %s failed: 0x%x %s: %s", c->name, status,
			psp_status_name(status), psp_status_remedy(status));
	else if (err == -ENODEV)
		log_err("psp: %s not sent: %s", c->name,
			psp.dead ? "the processor has stopped to answer; reset the machine" :
				   "there is no mailbox");
	return err;
}

/* --- for the shell --- */

void psp_print(void)
{
	if (psp.regs == NULL)
		return;
	log_printf("psp %04x:%04x at %04x:%02x:%02x.%u, bootloader 0x%x, %s%s\n", VENDOR_AMD,
		   psp.gen->device, psp.fn.segment, psp.fn.bus, psp.fn.devfn >> 3,
		   psp.fn.devfn & 7U, mmio_read32(psp.regs + REG_BOOTLOADER),
		   psp.interrupts ? "interrupt" : "polled", psp.dead ? ", DEAD: no answer" : "");
	for (u32 i = 0; i < ARRAY_SIZE(commands); i++) {
		u32 status = psp.stat[i].status;

		if (psp.stat[i].sent == 0)
			continue;
		log_printf("  %-20s %6u sent %6u failed, last 0x%x %s\n", commands[i].name,
			   psp.stat[i].sent, psp.stat[i].failed, status,
			   status == STATUS_MASK ? "no answer" : psp_status_name(status));
	}
}
