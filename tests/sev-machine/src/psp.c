/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The security processor as a PCI function: registers, mailbox, interrupts, fault injection.
 *
 * A command runs when the command register is written, in the context of the writing CPU; its
 * answer (response bit, status, interrupt) appears latency-us later, so software that does not
 * wait for it is found out. Memory outputs are visible at once.
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/pci/msi.h"
#include "hw/pci/msix.h"
#include "hw/pci/pci.h"
#include "hw/qdev-properties.h"
#include "migration/vmstate.h"
#include "system/system.h"
#include "psp.h"

#define PSP_REG_BAR 2
#define PSP_MSIX_BAR 5
#define PSP_BAR_LEN (1 * MiB)
#define PSP_VECTORS 2
#define PSP_VECTOR 0                    /* the other one is the CCP engine's */

#define CMD_RESP (1u << 31)
#define CMD_IOC (1u << 0)
#define CMD_ID(v) (((v) >> 16) & 0x7ff)
#define INT_CMD_COMPLETE (1u << 1)

/* Register offsets by generation (Linux drivers/crypto/ccp/sp-pci.c). */
typedef struct PspLayout {
    const char *name;
    uint16_t device_id;
    uint32_t cmd, lo, hi, feature, bootloader, inten, intsts;
} PspLayout;

static const PspLayout layouts[] = {
    { "v1", 0x1456, 0x10580, 0x105e0, 0x105e4, 0x105fc, 0x105ec, 0x10610, 0x10614 },
    { "v2", 0x1486, 0x10980, 0x109e0, 0x109e4, 0x109fc, 0x109ec, 0x10690, 0x10694 },
    { "v4", 0x14ca, 0x10980, 0x109e0, 0x109e4, 0x109fc, 0x109ec, 0x10690, 0x10694 },
    { "v6", 0x156e, 0x10980, 0x109e0, 0x109e4, 0x109fc, 0x109ec, 0x10510, 0x10514 },
};

/* ---- interrupts -------------------------------------------------------------------------- */

static void update_irq(SevPsp *s, bool edge)
{
    PCIDevice *dev = PCI_DEVICE(s);
    bool pending = s->reg_intsts & s->reg_inten;

    if (msix_enabled(dev)) {
        if (edge && pending) {
            msix_notify(dev, PSP_VECTOR);
        }
    } else if (msi_enabled(dev)) {
        if (edge && pending) {
            msi_notify(dev, PSP_VECTOR);
        }
    } else {
        pci_set_irq(dev, pending);
    }
}

/* ---- fault injection --------------------------------------------------------------------- */

static bool parse_number(const char *text, uint32_t *value)
{
    uint64_t v;

    if (qemu_strtou64(text, NULL, 0, &v) || v > UINT32_MAX) {
        return false;
    }
    *value = (uint32_t)v;
    return true;
}

/* Cut `text` at the last `mark` and read the number behind it, if the mark is there. */
static bool parse_suffix(char *text, char mark, uint32_t *value)
{
    char *at = strrchr(text, mark);

    if (!at) {
        return true;
    }
    *at = '\0';
    return parse_number(at + 1, value);
}

static bool parse_action(const char *text, PspFault *f)
{
    const char *arg;

    if (!strcmp(text, "never")) {
        f->kind = PSP_FAULT_NEVER;
        return true;
    }
    if (strstart(text, "late:", &arg)) {
        f->kind = PSP_FAULT_LATE;
        return parse_number(arg, &f->value);
    }
    f->kind = strstart(text, "done:", &arg) ? PSP_FAULT_DONE : PSP_FAULT_STATUS;
    return parse_number(f->kind == PSP_FAULT_DONE ? arg : text, &f->value) &&
           f->value <= 0xffff;
}

static bool parse_command(const char *text, uint16_t *id)
{
    const PspCommand *cmd = psp_command_by_name(text);
    uint32_t v;

    if (cmd) {
        *id = cmd->id;
    } else if (!g_ascii_strcasecmp(text, "ANY")) {
        *id = PSP_CMD_ANY;
    } else if (parse_number(text, &v) && v < PSP_MAX_CMD) {
        *id = (uint16_t)v;
    } else {
        return false;
    }
    return true;
}

/* One fault: COMMAND:ACTION[*TIMES][@SKIP]. */
static bool parse_fault(char *text, PspFault *f)
{
    char *colon = strchr(text, ':');

    *f = (PspFault) { .times = UINT32_MAX };
    if (!colon) {
        return false;
    }
    *colon = '\0';
    return parse_command(text, &f->cmd) && parse_suffix(colon + 1, '@', &f->skip) &&
           parse_suffix(colon + 1, '*', &f->times) && parse_action(colon + 1, f);
}

static void set_fault(Object *obj, const char *value, Error **errp)
{
    SevPsp *s = SEV_PSP(obj);
    g_auto(GStrv) items = g_strsplit(value, ";", -1);
    PspFault faults[PSP_MAX_FAULTS];
    unsigned n = 0;

    for (char **item = items; *item; item++) {
        g_autofree char *copy = g_strdup(g_strstrip(*item));

        if (!*copy) {
            continue;
        }
        if (n == PSP_MAX_FAULTS) {
            error_setg(errp, "sev-psp: more than %u faults", PSP_MAX_FAULTS);
            return;
        }
        if (!parse_fault(copy, &faults[n++])) {
            error_setg(errp, "sev-psp: fault '%s': expected COMMAND:ACTION[*TIMES][@SKIP] with "
                       "ACTION a status, done:STATUS, late:MILLISECONDS or never", *item);
            return;
        }
    }
    memcpy(s->faults, faults, n * sizeof(faults[0]));
    s->nfaults = n;
    g_free(s->fault_text);
    s->fault_text = g_strdup(value);
}

static char *get_fault(Object *obj, Error **errp)
{
    return g_strdup(SEV_PSP(obj)->fault_text ?: "");
}

/* The fault that hits this occurrence of a command, or NULL. */
static const PspFault *take_fault(SevPsp *s, uint16_t id)
{
    for (unsigned i = 0; i < s->nfaults; i++) {
        PspFault *f = &s->faults[i];

        if (f->cmd != id && f->cmd != PSP_CMD_ANY) {
            continue;
        }
        if (f->skip) {
            f->skip--;
        } else if (f->times) {
            f->times -= f->times != UINT32_MAX;
            return f;
        }
    }
    return NULL;
}

/* ---- mailbox ----------------------------------------------------------------------------- */

static void command_done(void *opaque)
{
    SevPsp *s = opaque;

    s->busy = false;
    s->reg_cmd = CMD_RESP | s->answer;
    /* Real firmware leaves 0 or an error stack here: nobody may rely on the address. */
    s->reg_lo = s->answer ? 0x3ff & s->answer : 0;
    s->reg_hi = 0;
    if (s->ioc) {
        s->reg_intsts |= INT_CMD_COMPLETE;
        update_irq(s, true);
    }
}

static void run_command(SevPsp *s, uint16_t id)
{
    uint64_t addr = (uint64_t)s->reg_hi << 32 | s->reg_lo;
    const PspCommand *cmd = psp_command_by_id(id);
    const PspFault *fault = take_fault(s, id);
    uint64_t delay_us = s->latency_us;
    const char *note = "";

    sev_counters.psp_commands++;
    if (id < PSP_MAX_CMD) {
        s->counts[id]++;
    }
    if (fault && fault->kind == PSP_FAULT_NEVER) {
        sev_trace("psp: %s (0x%03x): no answer (fault)", cmd ? cmd->name : "?", id);
        return;
    }
    if (fault && fault->kind == PSP_FAULT_STATUS) {
        s->answer = (uint16_t)fault->value;
        note = " (fault)";
    } else {
        s->answer = psp_execute(s, id, addr);
    }
    if (fault && fault->kind == PSP_FAULT_DONE) {
        s->answer = (uint16_t)fault->value;
        note = " (fault, executed)";
    } else if (fault && fault->kind == PSP_FAULT_LATE) {
        delay_us = (uint64_t)fault->value * 1000;
        note = " (fault, late)";
    }
    sev_counters.psp_errors += s->answer != PSP_SUCCESS;
    sev_trace("psp: %s (0x%03x) -> 0x%02x %s%s", cmd ? cmd->name : "?", id, s->answer,
              psp_status_name(s->answer), note);
    if (delay_us) {
        timer_mod(s->timer, qemu_clock_get_us(QEMU_CLOCK_VIRTUAL) + (int64_t)delay_us);
    } else {
        command_done(s);
    }
}

static void write_command(SevPsp *s, uint32_t value)
{
    if (s->busy) {
        sev_violation(SEV_V_MAILBOX, "command register written (0x%08x) while a command runs",
                      value);
        return;
    }
    if (value & CMD_RESP) {
        sev_violation(SEV_V_MAILBOX, "command register written (0x%08x) with bit 31 set", value);
        return;
    }
    s->busy = true;
    s->ioc = value & CMD_IOC;
    s->reg_cmd = value;
    run_command(s, CMD_ID(value));
}

/* ---- registers --------------------------------------------------------------------------- */

static uint64_t bar_read(void *opaque, hwaddr off, unsigned size)
{
    SevPsp *s = opaque;
    const PspLayout *l = s->layout;

    if (off == l->cmd) {
        return s->reg_cmd;
    }
    if (off == l->lo) {
        return s->reg_lo;
    }
    if (off == l->hi) {
        return s->reg_hi;
    }
    if (off == l->feature) {
        return s->feature;
    }
    if (off == l->bootloader) {
        return s->bootloader;
    }
    if (off == l->inten) {
        return s->reg_inten;
    }
    if (off == l->intsts) {
        return s->reg_intsts;
    }
    return 0;
}

static void bar_write(void *opaque, hwaddr off, uint64_t value, unsigned size)
{
    SevPsp *s = opaque;
    const PspLayout *l = s->layout;

    if (off == l->cmd) {
        write_command(s, (uint32_t)value);
    } else if ((off == l->lo || off == l->hi) && s->busy) {
        sev_violation(SEV_V_MAILBOX, "address register written while a command runs");
    } else if (off == l->lo) {
        s->reg_lo = (uint32_t)value;
    } else if (off == l->hi) {
        s->reg_hi = (uint32_t)value;
    } else if (off == l->inten) {
        bool was = s->reg_intsts & s->reg_inten;

        s->reg_inten = (uint32_t)value;
        update_irq(s, !was);
    } else if (off == l->intsts) {
        s->reg_intsts &= ~(uint32_t)value;
        update_irq(s, false);
    }
}

static const MemoryRegionOps bar_ops = {
    .read = bar_read,
    .write = bar_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 4, .max_access_size = 4 },
    .impl = { .min_access_size = 4, .max_access_size = 4 },
};

/* ---- counters ---------------------------------------------------------------------------- */

static char *counts_text(SevPsp *s)
{
    g_autoptr(GString) out = g_string_new("");

    for (unsigned id = 0; id < PSP_MAX_CMD; id++) {
        const PspCommand *cmd = psp_command_by_id((uint16_t)id);

        if (!s->counts[id]) {
            continue;
        }
        if (cmd) {
            g_string_append_printf(out, "%s%s=%u", out->len ? " " : "", cmd->name, s->counts[id]);
        } else {
            g_string_append_printf(out, "%s0x%03x=%u", out->len ? " " : "", id, s->counts[id]);
        }
    }
    return g_strdup(out->str);
}

static char *get_counts(Object *obj, Error **errp)
{
    return counts_text(SEV_PSP(obj));
}

static void log_counts_at_exit(Notifier *n, void *data)
{
    SevPsp *s = container_of(n, SevPsp, exit_notifier);
    g_autofree char *text = counts_text(s);

    info_report("sev-psp: commands: %s", *text ? text : "none");
}

static char *get_platform_state(Object *obj, Error **errp)
{
    static const char *const names[] = { "uninit", "init", "working" };

    return g_strdup(names[SEV_PSP(obj)->state]);
}

/* ---- life -------------------------------------------------------------------------------- */

static bool setup_layout(SevPsp *s, Error **errp)
{
    for (unsigned i = 0; i < ARRAY_SIZE(layouts); i++) {
        if (!s->generation || !strcmp(layouts[i].name, s->generation)) {
            s->layout = &layouts[s->generation ? i : 2];
            return true;
        }
    }
    error_setg(errp, "sev-psp: generation '%s': expected v1, v2, v4 or v6", s->generation);
    return false;
}

static bool setup_mnonce(SevPsp *s, Error **errp)
{
    const char *hex = s->mnonce_hex;

    if (!hex) {
        return true;
    }
    if (strlen(hex) != 2 * PSP_MNONCE_BYTES || strspn(hex, "0123456789abcdefABCDEF") !=
        2 * PSP_MNONCE_BYTES) {
        error_setg(errp, "sev-psp: mnonce '%s': expected %u hexadecimal digits", hex,
                   2 * PSP_MNONCE_BYTES);
        return false;
    }
    for (unsigned i = 0; i < PSP_MNONCE_BYTES; i++) {
        s->mnonce[i] = (uint8_t)(g_ascii_xdigit_value(hex[2 * i]) << 4 |
                                 g_ascii_xdigit_value(hex[2 * i + 1]));
    }
    s->forced_mnonce = true;
    return true;
}

static bool setup_firmware(SevPsp *s, Error **errp)
{
    if (s->max_guests == 0 || s->max_guests > 65536) {
        error_setg(errp, "sev-psp: max-guests %u: expected 1..65536", s->max_guests);
        return false;
    }
    if (!s->chip_id) {
        s->chip_id = g_strdup("sev-machine");
    }
    if (s->seed) {
        uint8_t seed[8];

        stq_le_p(seed, s->seed);
        psp_random_seed(&s->random, seed, sizeof(seed));
    }
    s->guests = g_new0(PspGuest, s->max_guests);
    s->asids = g_new0(uint8_t, (size_t)sev_config()->max_asid + 1);
    s->tmr_slots = g_new0(uint32_t, PSP_TMR_SLOTS);
    psp_chip_setup(s);
    return setup_mnonce(s, errp) && psp_nv_open(s, errp);
}

static void psp_realize(PCIDevice *dev, Error **errp)
{
    SevPsp *s = SEV_PSP(dev);

    if (!sev_config()->enabled) {
        error_setg(errp, "sev-psp: the machine has no memory encryption; add "
                   "-object sev-memory,id=ID before it");
        return;
    }
    if (!setup_layout(s, errp) || !setup_firmware(s, errp)) {
        return;
    }
    pci_config_set_device_id(dev->config, s->layout->device_id);
    pci_config_set_interrupt_pin(dev->config, 1);
    memory_region_init_io(&s->bar, OBJECT(s), &bar_ops, s, "sev-psp", PSP_BAR_LEN);
    pci_register_bar(dev, PSP_REG_BAR,
                     PCI_BASE_ADDRESS_SPACE_MEMORY | PCI_BASE_ADDRESS_MEM_TYPE_64, &s->bar);
    if (msix_init_exclusive_bar(dev, PSP_VECTORS, PSP_MSIX_BAR, errp)) {
        return;
    }
    msix_vector_use(dev, PSP_VECTOR);
    if (msi_init(dev, 0, 1, true, false, errp)) {
        msix_uninit_exclusive_bar(dev);
        return;
    }
    s->timer = timer_new_us(QEMU_CLOCK_VIRTUAL, command_done, s);
    if (s->log_counts) {
        s->exit_notifier.notify = log_counts_at_exit;
        qemu_add_exit_notifier(&s->exit_notifier);
    }
}

static void psp_exit(PCIDevice *dev)
{
    SevPsp *s = SEV_PSP(dev);

    if (s->exit_notifier.notify) {
        qemu_remove_exit_notifier(&s->exit_notifier);
    }
    psp_platform_uninit(s);
    timer_free(s->timer);
    msi_uninit(dev);
    msix_uninit_exclusive_bar(dev);
}

static void psp_finalize(Object *obj)
{
    SevPsp *s = SEV_PSP(obj);

    g_free(s->guests);
    g_free(s->asids);
    g_free(s->tmr_slots);
    g_free(s->fault_text);
}

/* A platform reset restarts the firmware; the flash keeps its content. */
static void psp_reset(DeviceState *dev)
{
    SevPsp *s = SEV_PSP(dev);

    timer_del(s->timer);
    s->reg_cmd = CMD_RESP;
    s->reg_lo = s->reg_hi = s->reg_inten = s->reg_intsts = 0;
    s->busy = s->ioc = false;
    s->secure_data_failed = false;
    psp_platform_uninit(s);
}

static const Property psp_properties[] = {
    DEFINE_PROP_STRING("generation", SevPsp, generation),
    DEFINE_PROP_STRING("chip-id", SevPsp, chip_id),
    DEFINE_PROP_STRING("mnonce", SevPsp, mnonce_hex),
    DEFINE_PROP_STRING("nv-file", SevPsp, nv_path),
    DEFINE_PROP_UINT8("api-major", SevPsp, api_major, 1),
    DEFINE_PROP_UINT8("api-minor", SevPsp, api_minor, 55),
    DEFINE_PROP_UINT8("build", SevPsp, build, 21),
    DEFINE_PROP_UINT32("feature", SevPsp, feature, 1),
    DEFINE_PROP_UINT32("bootloader", SevPsp, bootloader, 0),
    DEFINE_PROP_UINT32("latency-us", SevPsp, latency_us, 20),
    DEFINE_PROP_UINT32("max-guests", SevPsp, max_guests, 1024),
    DEFINE_PROP_UINT64("seed", SevPsp, seed, 0),
    DEFINE_PROP_BOOL("accept-firmware", SevPsp, accept_firmware, false),
    DEFINE_PROP_BOOL("log-counts", SevPsp, log_counts, false),
};

static const VMStateDescription vmstate_psp = {
    .name = TYPE_SEV_PSP,
    .unmigratable = 1,
};

static void psp_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(klass);

    pc->realize = psp_realize;
    pc->exit = psp_exit;
    pc->vendor_id = PCI_VENDOR_ID_AMD;
    pc->device_id = 0x14ca;
    pc->class_id = PCI_CLASS_CRYPT_OTHER;
    dc->desc = "AMD security processor with the SEV mailbox";
    dc->vmsd = &vmstate_psp;
    device_class_set_legacy_reset(dc, psp_reset);
    device_class_set_props(dc, psp_properties);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    object_class_property_add_str(klass, "fault", get_fault, set_fault);
    object_class_property_add_str(klass, "command-counts", get_counts, NULL);
    object_class_property_add_str(klass, "platform-state", get_platform_state, NULL);
}

static const TypeInfo psp_info = {
    .name = TYPE_SEV_PSP,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(SevPsp),
    .instance_finalize = psp_finalize,
    .class_init = psp_class_init,
    .interfaces = (InterfaceInfo[]) {
        { INTERFACE_CONVENTIONAL_PCI_DEVICE },
        { },
    },
};

static void psp_register(void)
{
    type_register_static(&psp_info);
}

type_init(psp_register)
