/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory side of the SEV machine: one key state for each page of RAM, the guest keys, the
 * TMR, and the checkers for what real caches would punish.
 *
 * RAM holds, for each 4 KiB page, the bytes as one key shows them; pages[pfn].key says which. A
 * TLB entry for a page exists only while the page is in the state the entry was made for, so the
 * fast path needs no change. Using a page through another key ("flip") encrypts with the old
 * key, decrypts with the new one, drops the TLB entries that point at the page and the code
 * translated from it.
 *
 * The cipher is AES-128-XTS with the page's offset in RAM as the sector number: 16-byte blocks,
 * tweaked by address, as the manual asks (AMD64 APM vol. 2, 15.34.1); the real one is not public.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "qom/object_interfaces.h"
#include "crypto/cipher.h"
#include "exec/address-spaces.h"
#include "exec/exec-all.h"
#include "exec/ram_addr.h"
#include "exec/cputlb.h"
#include "hw/boards.h"
#include "hw/core/cpu.h"
#include "hw/i386/x86.h"
#include "hw/qdev-core.h"
#include "system/reset.h"
#include "system/system.h"
#include "cpu.h"
#include "sev-hook.h"
#include "sev-cpu.h"

#define TYPE_SEV_MEMORY "sev-memory"
OBJECT_DECLARE_SIMPLE_TYPE(SevMemory, SEV_MEMORY)

#define PAGE_BYTES 4096u
#define HOST_KEY16 0xffffu
#define MAX_ASIDS 0x4000u
#define VIOLATION_STATUS 70
#define SYSCFG_MEM_ENCRYPT (1ull << 23)
#define HWCR_SMM_LOCK 1ull

/* State of one page of RAM. */
typedef struct SevPage {
    uint16_t key;           /* the bytes in RAM are this key's view */
    uint16_t dirty_key;     /* last written through this key ... */
    uint32_t dirty_epoch;   /* ... at this time; 0: clean */
    uint8_t dirty_cpu;      /* ... by this CPU */
    bool vmsa;              /* a live VMSA of ASID vmsa_asid */
    uint16_t vmsa_asid;
} SevPage;

typedef struct SevAsid {
    QCryptoCipher *cipher;  /* NULL: no key installed */
    QCryptoCipher *unknown; /* what an ASID without key decrypts with */
    bool valid;
    bool has_run;
} SevAsid;

struct SevMemory {
    Object parent;
    SevConfig cfg;
    bool trace;
    bool poison;
    uint32_t test_port;
    char *mutate;
    MemoryRegion test_io;
    uint32_t test_index;
};

bool sev_memory_on;
bool sev_encryption_on;
__thread uint32_t sev_bus_key;
bool sev_mutations[SEV_M_COUNT];
SevCounters sev_counters;
SevCpu sev_cpus[SEV_MAX_CPUS];
int sev_arm_vmsa_flip = -1;
int sev_arm_exit_code = -1;
bool sev_poison;

static SevMemory *machine;
static SevConfig config_off;
static QemuMutex page_lock;
static SevPage *pages;
static uint64_t page_count;
static uint64_t pages_not_raw;
static uint64_t live_vmsas;
static uint8_t *ram_host;
static RAMBlock *ram_block;
static uint64_t low_ram_end;
static SevAsid *asids;
static QCryptoCipher *host_cipher;
static uint32_t epoch = 1;

static hwaddr tmr_base;
static uint64_t tmr_len;
static bool tmr_protected;

static const char *const mutation_names[SEV_M_COUNT] = {
    [SEV_M_NO_VMSA_CHECK] = "no-vmsa-check",
    [SEV_M_AE_AS_NAE] = "ae-as-nae",
    [SEV_M_NO_RIP_ADVANCE] = "no-rip-advance",
    [SEV_M_MMIO_AE] = "mmio-ae",
    [SEV_M_NO_TRAP] = "no-trap",
    [SEV_M_TRAP_BEFORE] = "trap-old-value",
    [SEV_M_FPU_KEPT] = "fpu-kept",
    [SEV_M_NO_TYPE_B] = "no-type-b",
    [SEV_M_NO_ASID_VALID] = "no-asid-valid",
    [SEV_M_C_BIT_IGNORED] = "c-bit-ignored",
    [SEV_M_NO_TWEAK] = "no-tweak",
    [SEV_M_DMA_DECRYPTS] = "dma-decrypts",
    [SEV_M_GHCB_NOT_SAVED] = "ghcb-not-saved",
    [SEV_M_IF_NOT_SHOWN] = "if-not-shown",
    [SEV_M_NO_SMMLOCK_CHECK] = "no-smmlock-check",
    [SEV_M_LEAK_EXITINFO] = "leak-exitinfo",
    [SEV_M_PSP_HMAC_ORDER] = "psp-hmac-order",
    [SEV_M_PSP_NO_DIRTY] = "psp-no-dirty",
    [SEV_M_PSP_NO_WBINVD] = "psp-no-wbinvd",
    [SEV_M_PSP_NO_POLICY_MAC] = "psp-no-policy-mac",
    [SEV_M_PSP_SECRET_MAC] = "psp-secret-mac",
    [SEV_M_PSP_ASID_CLASS] = "psp-asid-class",
    [SEV_M_PSP_VMSA_LATE_HASH] = "psp-vmsa-late-hash",
    [SEV_M_PSP_STATE] = "psp-state",
};

static const char *const violation_names[SEV_V_COUNT] = {
    [SEV_V_KEY_CHANGE] = "key-change",
    [SEV_V_TLB_FLUSH] = "tlb-flush",
    [SEV_V_VMSA_WRITE] = "vmsa-write",
    [SEV_V_TMR_ACCESS] = "tmr-access",
    [SEV_V_GUEST_INVD] = "guest-invd",
    [SEV_V_FLUSH_ORDER] = "flush-order",
    [SEV_V_SAVE_AREA] = "save-area",
    [SEV_V_MAILBOX] = "mailbox",
};

const SevConfig *sev_config(void)
{
    return machine ? &machine->cfg : &config_off;
}

int sev_cpu_count(void)
{
    return current_machine->smp.max_cpus;
}

/* ---- reports ----------------------------------------------------------------------------- */

void sev_violation(SevViolation kind, const char *fmt, ...)
{
    va_list ap;

    sev_counters.violations++;
    fprintf(stderr, "sev: violation %s: ", violation_names[kind]);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    if (sev_config()->fatal) {
        fprintf(stderr, "sev: stopped, as fatal=on asks\n");
        _exit(VIOLATION_STATUS);
    }
}

void sev_trace(const char *fmt, ...)
{
    va_list ap;

    if (!machine || !machine->trace) {
        return;
    }
    fputs("sev: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

/* ---- ciphers ------------------------------------------------------------------------------- */

/* AES-128-XTS wants two keys; the second is the first with every byte inverted. */
static QCryptoCipher *new_cipher(const uint8_t key[SEV_KEY_BYTES])
{
    uint8_t both[2 * SEV_KEY_BYTES];

    for (int i = 0; i < SEV_KEY_BYTES; i++) {
        both[i] = key[i];
        both[SEV_KEY_BYTES + i] = key[i] ^ 0xff;
    }
    return qcrypto_cipher_new(QCRYPTO_CIPHER_ALGO_AES_128, QCRYPTO_CIPHER_MODE_XTS, both,
                              sizeof(both), &error_fatal);
}

static QCryptoCipher *cipher_of(uint16_t key)
{
    SevAsid *a;
    uint8_t junk[SEV_KEY_BYTES];

    if (key == HOST_KEY16) {
        return host_cipher;
    }
    a = &asids[key];
    if (a->cipher) {
        return a->cipher;
    }
    if (!a->unknown) {
        memset(junk, 0xe7, sizeof(junk));
        memcpy(junk, &key, sizeof(key));
        a->unknown = new_cipher(junk);
    }
    return a->unknown;
}

static void crypt_page(uint64_t pfn, uint16_t key, bool encrypt)
{
    QCryptoCipher *c = cipher_of(key);
    uint8_t *host = ram_host + pfn * PAGE_BYTES;
    uint64_t iv[2] = { sev_mutation(SEV_M_NO_TWEAK) ? 0 : cpu_to_le64(pfn), 0 };

    qcrypto_cipher_setiv(c, (uint8_t *)iv, sizeof(iv), &error_abort);
    if (encrypt) {
        qcrypto_cipher_encrypt(c, host, host, PAGE_BYTES, &error_abort);
    } else {
        qcrypto_cipher_decrypt(c, host, host, PAGE_BYTES, &error_abort);
    }
}

/* ---- page states --------------------------------------------------------------------------- */

/* Drop the entry when it maps the host page; the addend stays for an access under way. */
static void drop_entry(CPUTLBEntry *e, uintptr_t host)
{
    for (int i = 0; i < 3; i++) {
        uint64_t cmp = e->addr_idx[i];

        if (cmp != (uint64_t)-1 && (cmp & TARGET_PAGE_MASK) + e->addend == host) {
            qatomic_set(&e->addr_idx[0], (uintptr_t)-1);
            qatomic_set(&e->addr_idx[1], (uintptr_t)-1);
            qatomic_set(&e->addr_idx[2], (uintptr_t)-1);
            return;
        }
    }
}

static void drop_cpu_entries(CPUState *cs, uintptr_t host)
{
    CPUTLB *tlb = &cs->neg.tlb;

    qemu_spin_lock(&tlb->c.lock);
    for (int mode = 0; mode < NB_MMU_MODES; mode++) {
        size_t n = (tlb->f[mode].mask >> CPU_TLB_ENTRY_BITS) + 1;

        if (!(tlb->c.dirty & (1 << mode))) {
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            drop_entry(&tlb->f[mode].table[i], host);
        }
        for (size_t i = 0; i < CPU_VTLB_SIZE; i++) {
            drop_entry(&tlb->d[mode].vtable[i], host);
        }
    }
    qemu_spin_unlock(&tlb->c.lock);
}

static void drop_code(uint64_t pfn)
{
    ram_addr_t addr = pfn * PAGE_BYTES + qemu_ram_get_offset(ram_block);

    if (!cpu_physical_memory_get_dirty_flag(addr, DIRTY_MEMORY_CODE)) {
        tb_invalidate_phys_range(addr, addr + PAGE_BYTES - 1);
    }
}

static void drop_mappings(uint64_t pfn)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        drop_cpu_entries(cs, (uintptr_t)(ram_host + pfn * PAGE_BYTES));
    }
    drop_code(pfn);
}

static void relabel(uint64_t pfn, uint16_t key)
{
    pages_not_raw += (key != 0) - (pages[pfn].key != 0);
    pages[pfn].key = key;
}

/* Bring a page to the view of `key`. Lock held. */
static void flip(uint64_t pfn, uint16_t key)
{
    uint16_t old = pages[pfn].key;

    if (old == key) {
        return;
    }
    drop_mappings(pfn);
    if (old) {
        crypt_page(pfn, old, true);
    }
    if (key) {
        crypt_page(pfn, key, false);
    }
    relabel(pfn, key);
    sev_counters.page_flips++;
}

static uint16_t key16(SevKey key)
{
    return key == SEV_KEY_HOST ? HOST_KEY16 : key;
}

/* Find the machine's RAM; false before it exists. */
static bool find_ram(void)
{
    MemoryRegion *mr;

    if (pages) {
        return true;
    }
    mr = current_machine ? current_machine->ram : NULL;
    if (!mr || !mr->ram_block || !object_dynamic_cast(OBJECT(current_machine), TYPE_X86_MACHINE) ||
        !X86_MACHINE(current_machine)->below_4g_mem_size) {
        return false;
    }
    ram_block = mr->ram_block;
    ram_host = memory_region_get_ram_ptr(mr);
    page_count = DIV_ROUND_UP(memory_region_size(mr), PAGE_BYTES);
    low_ram_end = X86_MACHINE(current_machine)->below_4g_mem_size;
    pages = g_new0(SevPage, page_count);
    return true;
}

/* Offset in RAM of a physical address without C-bit; false when it is not RAM. */
static bool ram_offset(hwaddr pa, uint64_t *offset)
{
    hwaddr xlat, len = 1;
    MemoryRegion *mr;

    if (!find_ram()) {
        return false;
    }
    RCU_READ_LOCK_GUARD();
    mr = address_space_translate(&address_space_memory, pa, &xlat, &len, false,
                                 MEMTXATTRS_UNSPECIFIED);
    *offset = xlat;
    return mr == current_machine->ram;
}

/* The same for the CPU's fast way: low RAM above the legacy area lies at its own address. */
static bool ram_offset_fast(hwaddr pa, uint64_t *offset)
{
    if (pa >= MiB && pa < low_ram_end) {
        *offset = pa;
        return true;
    }
    return ram_offset(pa, offset);
}

static hwaddr c_bit(void)
{
    return 1ull << machine->cfg.c_bit;
}

hwaddr sev_split_addr(hwaddr addr, SevKey *key)
{
    *key = SEV_KEY_NONE;
    if (sev_encryption_on && (addr & c_bit())) {
        *key = SEV_KEY_HOST;
        addr &= ~c_bit();
    }
    return addr;
}

bool sev_mem_is_ram(hwaddr pa, uint64_t len)
{
    uint64_t offset, first;

    if (len == 0 || pa + len - 1 < pa || !ram_offset(pa, &first)) {
        return false;
    }
    /* Pages of one range need not be adjacent in the block (the hole below 4 GiB). */
    for (hwaddr p = (pa & ~0xfffull) + PAGE_BYTES; p - 1 < pa + len - 1; p += PAGE_BYTES) {
        if (!ram_offset(p, &offset)) {
            return false;
        }
    }
    return true;
}

/* ---- checker: key changes without flush ------------------------------------------------------ */

static bool page_dirty(const SevPage *p)
{
    return p->dirty_epoch && p->dirty_epoch >= sev_cpus[p->dirty_cpu].flush_epoch;
}

static void check_key_change(uint64_t pfn, uint16_t key, const char *who)
{
    SevPage *p = &pages[pfn];

    if (machine->cfg.coherent || !page_dirty(p) || p->dirty_key == key) {
        return;
    }
    sev_violation(SEV_V_KEY_CHANGE, "RAM page 0x%" PRIx64 " used by %s through key 0x%x while "
                  "CPU %u holds unflushed lines of key 0x%x", pfn * PAGE_BYTES, who, key,
                  p->dirty_cpu, p->dirty_key);
    p->dirty_epoch = 0;
}

void sev_note_wbinvd(int cpu)
{
    CPUState *cs;

    sev_cpus[cpu].wbinvd_done = true;
    sev_cpus[cpu].flush_epoch = ++epoch;
    if (!machine->cfg.coherent) {
        CPU_FOREACH(cs) {
            tlb_flush(cs); /* so that the next store is seen */
        }
    }
}

SevKey sev_page_key(hwaddr pa)
{
    uint64_t off;
    uint16_t k = ram_offset(pa, &off) ? pages[off / PAGE_BYTES].key : 0;

    return k == HOST_KEY16 ? SEV_KEY_HOST : k;
}

void sev_note_clflush(hwaddr pa, SevKey key)
{
    uint64_t off;
    SevPage *p;

    if (machine->cfg.coherent || !ram_offset(pa, &off)) {
        return;
    }
    QEMU_LOCK_GUARD(&page_lock);
    p = &pages[off / PAGE_BYTES];
    if (p->dirty_key == key16(key)) {
        p->dirty_epoch = 0;
        drop_mappings(off / PAGE_BYTES);
    }
}

/* ---- accesses of the CPU and of the bus -------------------------------------------------------- */

static bool in_tmr(hwaddr pa, uint64_t len)
{
    return tmr_len && pa < tmr_base + tmr_len && pa + len > tmr_base;
}

bool sev_mem_in_tmr(hwaddr pa, uint64_t len)
{
    return in_tmr(pa, len);
}

void sev_page_enter(int cpu, hwaddr pa, SevKey key, int access, int *prot)
{
    uint16_t k = key16(key);
    uint64_t off;
    SevPage *p;

    if (!k && !pages_not_raw && !tmr_protected && !live_vmsas && machine->cfg.coherent) {
        return;
    }
    if (!ram_offset_fast(pa, &off)) {
        return;
    }
    if (tmr_protected && in_tmr(pa & ~0xfffull, PAGE_BYTES)) {
        sev_violation(SEV_V_TMR_ACCESS, "CPU %d touches 0x%" HWADDR_PRIx " in the TMR", cpu, pa);
    }
    p = &pages[off / PAGE_BYTES];
    if (p->key == k && !p->vmsa && machine->cfg.coherent) {
        return;
    }
    QEMU_LOCK_GUARD(&page_lock);
    check_key_change(off / PAGE_BYTES, k, "a CPU");
    flip(off / PAGE_BYTES, k);
    if (p->vmsa || !machine->cfg.coherent) {
        if (access != MMU_DATA_STORE) {
            *prot &= ~PAGE_WRITE; /* the first store comes here again */
            return;
        }
        p->dirty_key = k;
        p->dirty_cpu = cpu;
        p->dirty_epoch = epoch;
    }
    if (p->vmsa && k != p->vmsa_asid) {
        sev_violation(SEV_V_VMSA_WRITE, "CPU %d writes to 0x%" HWADDR_PRIx
                      ", a live VMSA of ASID %u", cpu, pa, p->vmsa_asid);
    }
}

hwaddr sev_bus_addr_slow(hwaddr addr)
{
    SevKey key;

    addr = sev_split_addr(addr, &key);
    sev_bus_key = key;
    return addr;
}

/* The TMR is 1 MiB aligned to its size, so it lies in one piece of the RAM block. */
static bool offset_in_tmr(uint64_t offset, uint64_t len)
{
    uint64_t tmr_off;

    return tmr_protected && ram_offset(tmr_base, &tmr_off) && offset < tmr_off + tmr_len &&
           offset + len > tmr_off;
}

void sev_bus_access_slow(RAMBlock *block, uint64_t offset, uint64_t len)
{
    uint16_t k = key16(sev_bus_key);

    if (!find_ram() || block != ram_block || len == 0 || (!k && !pages_not_raw && !tmr_protected)) {
        return;
    }
    if (sev_mutation(SEV_M_DMA_DECRYPTS) && !k) {
        return;
    }
    len = MIN(len, page_count * PAGE_BYTES - offset);
    if (offset_in_tmr(offset, len)) {
        sev_violation(SEV_V_TMR_ACCESS, "bus access to RAM offset 0x%" PRIx64 " in the TMR",
                      offset);
    }
    for (uint64_t pfn = offset / PAGE_BYTES; pfn <= (offset + len - 1) / PAGE_BYTES; pfn++) {
        if (pages[pfn].key != k) {
            QEMU_LOCK_GUARD(&page_lock);
            flip(pfn, k);
        }
    }
}

void sev_bus_written_slow(RAMBlock *block, uint64_t offset, uint64_t len)
{
    if (!live_vmsas || block != ram_block || len == 0) {
        return;
    }
    for (uint64_t pfn = offset / PAGE_BYTES; pfn <= (offset + len - 1) / PAGE_BYTES; pfn++) {
        if (pages[pfn].vmsa) {
            sev_violation(SEV_V_VMSA_WRITE, "bus write to RAM page 0x%" PRIx64
                          ", a live VMSA of ASID %u", pfn * PAGE_BYTES, pages[pfn].vmsa_asid);
        }
    }
}

void *sev_map_ram_ptr(RAMBlock *block, uint64_t offset)
{
    /* The accessors move at most 8 bytes and an aligned one stays inside its page. */
    sev_bus_access(block, offset, offset & 7 ? 8 : 1);
    return qemu_map_ram_ptr(block, offset);
}

/* ---- memory for the security processor --------------------------------------------------------- */

typedef enum { COPY_OUT, COPY_IN } CopyDir;

static bool copy(hwaddr pa, void *buf, uint64_t len, uint16_t key, CopyDir dir)
{
    uint8_t *b = buf;

    if (!sev_mem_is_ram(pa, len)) {
        return false;
    }
    QEMU_LOCK_GUARD(&page_lock);
    while (len) {
        uint64_t off, n = MIN(len, PAGE_BYTES - (pa & 0xfff));

        g_assert(ram_offset(pa, &off));
        flip(off / PAGE_BYTES, key);
        if (dir == COPY_OUT) {
            memcpy(b, ram_host + off, n);
        } else {
            memcpy(ram_host + off, b, n);
            drop_code(off / PAGE_BYTES);
        }
        pa += n;
        b += n;
        len -= n;
    }
    return true;
}

bool sev_mem_read(hwaddr pa, void *buf, uint64_t len, SevKey key)
{
    return copy(pa, buf, len, key16(key), COPY_OUT);
}

bool sev_mem_write(hwaddr pa, const void *buf, uint64_t len, SevKey key)
{
    return copy(pa, (void *)buf, len, key16(key), COPY_IN);
}

/* One page or a part of it: what `from` shows becomes what `to` shows. Lock held. */
static void convert_part(uint64_t off, uint64_t len, uint16_t from, uint16_t to)
{
    uint64_t pfn = off / PAGE_BYTES;
    uint8_t part[PAGE_BYTES];

    check_key_change(pfn, to, "the security processor");
    flip(pfn, from);
    if (len == PAGE_BYTES) {
        drop_mappings(pfn);
        relabel(pfn, to);
        return;
    }
    memcpy(part, ram_host + off, len);
    flip(pfn, to);
    memcpy(ram_host + off, part, len);
    drop_code(pfn);
}

bool sev_mem_convert(hwaddr pa, uint64_t len, SevKey from, SevKey to)
{
    g_assert(!((pa | len) & 15));
    if (!sev_mem_is_ram(pa, len)) {
        return false;
    }
    QEMU_LOCK_GUARD(&page_lock);
    while (len) {
        uint64_t off, n = MIN(len, PAGE_BYTES - (pa & 0xfff));

        g_assert(ram_offset(pa, &off));
        convert_part(off, n, key16(from), key16(to));
        pa += n;
        len -= n;
    }
    return true;
}

/* ---- keys and ASIDs ------------------------------------------------------------------------------ */

/* Pages kept as this key shows them go back to raw bytes before the key changes. */
static void settle(uint16_t key)
{
    QEMU_LOCK_GUARD(&page_lock);
    for (uint64_t pfn = 0; pages && pfn < page_count; pfn++) {
        if (pages[pfn].key == key) {
            flip(pfn, 0);
        }
    }
}

static SevAsid *asid_state(uint32_t asid)
{
    g_assert(asid >= 1 && asid <= machine->cfg.max_asid);
    return &asids[asid];
}

void sev_key_install(uint32_t asid, const uint8_t vek[SEV_KEY_BYTES])
{
    SevAsid *a = asid_state(asid);

    settle(asid);
    qcrypto_cipher_free(a->cipher);
    a->cipher = new_cipher(vek);
    a->valid = false;
    sev_trace("key of ASID %u installed", asid);
}

void sev_key_remove(uint32_t asid)
{
    SevAsid *a = asid_state(asid);

    if (sev_asid_running(asid)) {
        sev_violation(SEV_V_FLUSH_ORDER, "key of ASID %u removed while a CPU runs it", asid);
    }
    settle(asid);
    qcrypto_cipher_free(a->cipher);
    a->cipher = NULL;
    a->valid = false;
    for (int i = 0; i < SEV_MAX_CPUS; i++) {
        sev_cpus[i].last_vmcb[asid] = 0;
    }
    sev_trace("key of ASID %u removed", asid);
}

bool sev_key_installed(uint32_t asid)
{
    return asid_state(asid)->cipher;
}

void sev_asid_set_valid(uint32_t asid, bool valid)
{
    asid_state(asid)->valid = valid;
}

bool sev_asid_valid(uint32_t asid)
{
    return asid_state(asid)->valid;
}

bool sev_asid_has_run(uint32_t asid)
{
    return asid_state(asid)->has_run;
}

void sev_asid_clear_has_run(uint32_t asid)
{
    asid_state(asid)->has_run = false;
}

void sev_asid_note_run(uint32_t asid)
{
    asid_state(asid)->has_run = true;
}

bool sev_asid_running(uint32_t asid)
{
    for (int i = 0; i < sev_cpu_count(); i++) {
        if (sev_cpus[i].asid == asid) {
            return true;
        }
    }
    return false;
}

void sev_note_df_flush(void)
{
    sev_trace("DF_FLUSH");
}

/* ---- flags of all CPUs ----------------------------------------------------------------------------- */

bool sev_wbinvd_all_done(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        if (!sev_cpus[cs->cpu_index].wbinvd_done) {
            return false;
        }
    }
    return true;
}

void sev_wbinvd_clear(void)
{
    for (int i = 0; i < SEV_MAX_CPUS; i++) {
        sev_cpus[i].wbinvd_done = false;
    }
}

bool sev_syscfg_all_enabled(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        if (!(sev_cpus[cs->cpu_index].syscfg & SYSCFG_MEM_ENCRYPT)) {
            return false;
        }
    }
    return true;
}

void sev_syscfg_changed(void)
{
    CPUState *cs;

    sev_encryption_on = false;
    CPU_FOREACH(cs) {
        sev_encryption_on |= !!(sev_cpus[cs->cpu_index].syscfg & SYSCFG_MEM_ENCRYPT);
        tlb_flush(cs);
    }
}

/* ---- TMR and VMSA -------------------------------------------------------------------------------------- */

void sev_tmr_set(hwaddr base, uint64_t len)
{
    tmr_base = base;
    tmr_len = len;
    tmr_protected = false;
}

void sev_tmr_protect(void)
{
    CPUState *cs;

    tmr_protected = tmr_len != 0;
    CPU_FOREACH(cs) {
        tlb_flush(cs); /* mappings made before would escape the checker */
    }
}

void sev_tmr_clear(void)
{
    tmr_base = tmr_len = 0;
    tmr_protected = false;
}

bool sev_tmr_protected(void)
{
    return tmr_protected;
}

hwaddr sev_tmr_base(void)
{
    return tmr_base;
}

uint64_t sev_tmr_len(void)
{
    return tmr_len;
}

uint64_t sev_vmsa_checksum(const uint8_t *vmsa)
{
    uint64_t sum = 0x5e5e1e5c0ffee123ull;

    for (int i = 0; i < 0xfc0; i += 8) {
        sum = (sum ^ ldq_le_p(vmsa + i)) * 0x9e3779b97f4a7c15ull;
        sum = (sum << 29) | (sum >> 35);
    }
    return sum;
}

bool sev_vmsa_seal(hwaddr vmsa_pa, SevKey from, uint32_t asid, hwaddr slot_pa)
{
    uint8_t page[PAGE_BYTES];
    uint64_t sum, off;

    if ((vmsa_pa & 0xfff) || !ram_offset(vmsa_pa, &off)) {
        return false;
    }
    WITH_QEMU_LOCK_GUARD(&page_lock) {
        check_key_change(off / PAGE_BYTES, asid, "the security processor");
    }
    sev_mem_read(vmsa_pa, page, PAGE_BYTES, from);
    stq_le_p(page + 0x380, 0);
    stq_le_p(page + 0x388, slot_pa);
    sum = cpu_to_le64(sev_vmsa_checksum(page));
    if (!sev_mem_write(slot_pa, &sum, sizeof(sum), SEV_KEY_NONE)) {
        return false;
    }
    sev_mem_write(vmsa_pa, page, PAGE_BYTES, asid);
    WITH_QEMU_LOCK_GUARD(&page_lock) {
        live_vmsas += !pages[off / PAGE_BYTES].vmsa;
        pages[off / PAGE_BYTES].vmsa = true;
        pages[off / PAGE_BYTES].vmsa_asid = asid;
        drop_mappings(off / PAGE_BYTES);
    }
    return true;
}

void sev_vmsa_forget(uint32_t asid)
{
    for (uint64_t pfn = 0; pages && pfn < page_count; pfn++) {
        if (pages[pfn].vmsa && pages[pfn].vmsa_asid == asid) {
            pages[pfn].vmsa = false;
            live_vmsas--;
        }
    }
}

bool sev_vmsa_live(hwaddr pa, uint32_t asid)
{
    uint64_t off;

    return ram_offset(pa, &off) && pages[off / PAGE_BYTES].vmsa &&
           pages[off / PAGE_BYTES].vmsa_asid == asid;
}

/* ---- test port --------------------------------------------------------------------------------------------- */

#define COUNTER(field) { #field, offsetof(SevCounters, field) }

static const struct {
    const char *name;
    size_t offset;
} counter_table[] = {
    COUNTER(page_flips), COUNTER(vmrun_sev), COUNTER(vmrun_es), COUNTER(vmrun_refused),
    COUNTER(exits_ae), COUNTER(exits_nae), COUNTER(guest_invd), COUNTER(violations),
    COUNTER(psp_commands), COUNTER(psp_errors),
};

static uint64_t counter(unsigned i)
{
    return *(uint64_t *)((uint8_t *)&sev_counters + counter_table[i].offset);
}

/* Port +0: index. Port +4: read counter of that number; write: 0x100 arms a VMSA bit flip,
 * 0x101 an exit code. */
static uint64_t test_read(void *opaque, hwaddr addr, unsigned size)
{
    SevMemory *s = opaque;

    if (addr == 4 && s->test_index < ARRAY_SIZE(counter_table)) {
        return (uint32_t)counter(s->test_index);
    }
    return 0xffffffff;
}

static void test_write(void *opaque, hwaddr addr, uint64_t val, unsigned size)
{
    SevMemory *s = opaque;

    if (addr == 0) {
        s->test_index = val;
    } else if (addr == 4 && s->test_index == 0x100) {
        sev_arm_vmsa_flip = val & 0x7fff;
    } else if (addr == 4 && s->test_index == 0x101) {
        sev_arm_exit_code = val;
    }
}

static const MemoryRegionOps test_ops = {
    .read = test_read,
    .write = test_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 4, .max_access_size = 4 },
};

/* ---- the object ----------------------------------------------------------------------------------------------- */

static void cpu_reset_state(void *opaque)
{
    for (int i = 0; i < SEV_MAX_CPUS; i++) {
        SevCpu *c = &sev_cpus[i];

        c->syscfg = machine->cfg.mem_encrypt ? SYSCFG_MEM_ENCRYPT : 0;
        c->hwcr = machine->cfg.smm_lock ? HWCR_SMM_LOCK : 0;
        c->ghcb = 0;
        c->asid = 0;
        memset(c->lbr, 0, sizeof(c->lbr));
    }
    sev_syscfg_changed();
}

static void machine_done(Notifier *n, void *data)
{
    if (qemu_tcg_mttcg_enabled()) {
        error_report("sev-memory needs -accel tcg,thread=single");
        exit(1);
    }
    if (sev_cpu_count() > SEV_MAX_CPUS) {
        error_report("sev-memory: at most %d CPUs", SEV_MAX_CPUS);
        exit(1);
    }
    if (!find_ram()) {
        error_report("sev-memory: this machine type has no RAM it can encrypt; use -M q35");
        exit(1);
    }
    if (machine->test_port) {
        memory_region_init_io(&machine->test_io, OBJECT(machine), &test_ops, machine,
                              "sev-test", 8);
        memory_region_add_subregion(get_system_io(), machine->test_port, &machine->test_io);
    }
}

static Notifier done_notifier = { .notify = machine_done };

static bool set_mutations(const char *list, Error **errp)
{
    g_auto(GStrv) names = g_strsplit(list, ":", 0);

    for (int i = 0; names[i]; i++) {
        int m;

        for (m = 0; m < SEV_M_COUNT && strcmp(names[i], mutation_names[m]); m++) {
        }
        if (m == SEV_M_COUNT) {
            error_setg(errp, "mutate: '%s' is not the name of a mutation", names[i]);
            return false;
        }
        sev_mutations[m] = true;
    }
    return true;
}

static void sev_memory_complete(UserCreatable *uc, Error **errp)
{
    SevMemory *s = SEV_MEMORY(uc);
    const SevConfig *c = &s->cfg;
    uint8_t key[SEV_KEY_BYTES];

    if (machine) {
        error_setg(errp, "only one sev-memory object can exist");
        return;
    }
    if (c->c_bit < 32 || c->c_bit > 51 || c->phys_reduction > 16 || c->max_asid < 1 ||
        c->max_asid >= MAX_ASIDS || c->min_sev_asid < 1 || c->min_sev_asid > c->max_asid + 1) {
        error_setg(errp, "c-bit must be 32..51, phys-reduction 0..16, max-asid 1..%u, "
                   "min-sev-asid 1..max-asid+1", MAX_ASIDS - 1);
        return;
    }
    if (s->mutate && !set_mutations(s->mutate, errp)) {
        return;
    }
    for (int i = 0; i < SEV_KEY_BYTES; i++) {
        key[i] = 0x5a + 11 * i; /* fixed, so that runs can be repeated */
    }
    machine = s;
    s->cfg.enabled = true;
    sev_poison = s->poison;
    host_cipher = new_cipher(key);
    asids = g_new0(SevAsid, c->max_asid + 1);
    for (int i = 0; i < SEV_MAX_CPUS; i++) {
        sev_cpus[i].last_vmcb = g_new0(uint64_t, c->max_asid + 1);
    }
    qemu_mutex_init(&page_lock);
    qemu_register_reset(cpu_reset_state, s);
    qemu_add_machine_init_done_notifier(&done_notifier);
    sev_memory_on = true;
}

static void bool_get(Object *obj, Visitor *v, const char *name, void *opaque, Error **errp)
{
    bool *flag = (bool *)((uint8_t *)obj + (uintptr_t)opaque);

    visit_type_bool(v, name, flag, errp);
}

static void bool_set(Object *obj, Visitor *v, const char *name, void *opaque, Error **errp)
{
    bool val;

    if (machine) {
        error_setg(errp, "%s cannot be changed any more", name);
    } else if (visit_type_bool(v, name, &val, errp)) {
        *(bool *)((uint8_t *)obj + (uintptr_t)opaque) = val;
    }
}

static void counter_get(Object *obj, Visitor *v, const char *name, void *opaque, Error **errp)
{
    uint64_t val = counter((uintptr_t)opaque);

    visit_type_uint64(v, name, &val, errp);
}

static void inject_get(Object *obj, Visitor *v, const char *name, void *opaque, Error **errp)
{
    int64_t val = *(int *)opaque;

    visit_type_int(v, name, &val, errp);
}

/* Can be set while the machine runs: acts once. */
static void inject_set(Object *obj, Visitor *v, const char *name, void *opaque, Error **errp)
{
    int64_t val;

    if (!visit_type_int(v, name, &val, errp)) {
        return;
    }
    if (val < -1 || val > 0x7fff) {
        error_setg(errp, "%s must be -1 (off) or 0..32767", name);
        return;
    }
    *(int *)opaque = val;
}

static char *mutate_get(Object *obj, Error **errp)
{
    return g_strdup(SEV_MEMORY(obj)->mutate);
}

static void mutate_set(Object *obj, const char *val, Error **errp)
{
    SevMemory *s = SEV_MEMORY(obj);

    g_free(s->mutate);
    s->mutate = g_strdup(val);
}

#define FLAG(name, field) { name, offsetof(SevMemory, field) }

static const struct {
    const char *name;
    size_t offset;
} flag_table[] = {
    FLAG("sev", cfg.sev), FLAG("sev-es", cfg.sev_es), FLAG("smm-lock", cfg.smm_lock),
    FLAG("mem-encrypt", cfg.mem_encrypt), FLAG("coherent", cfg.coherent),
    FLAG("lbrv", cfg.lbrv), FLAG("fatal", cfg.fatal), FLAG("host64-only", cfg.host64_only),
    FLAG("trace", trace), FLAG("poison", poison),
};

static void sev_memory_class_init(ObjectClass *oc, void *data)
{
    UserCreatableClass *ucc = USER_CREATABLE_CLASS(oc);

    ucc->complete = sev_memory_complete;
    for (int i = 0; i < ARRAY_SIZE(flag_table); i++) {
        object_class_property_add(oc, flag_table[i].name, "bool", bool_get, bool_set, NULL,
                                  (void *)flag_table[i].offset);
    }
    for (int i = 0; i < ARRAY_SIZE(counter_table); i++) {
        g_autofree char *name = g_strdup_printf("count-%s", counter_table[i].name);

        for (char *p = name; *p; p++) {
            *p = *p == '_' ? '-' : *p;
        }
        object_class_property_add(oc, name, "uint64", counter_get, NULL, NULL,
                                  (void *)(uintptr_t)i);
    }
    object_class_property_add(oc, "inject-vmsa-flip", "int", inject_get, inject_set, NULL,
                              &sev_arm_vmsa_flip);
    object_class_property_add(oc, "inject-exit-code", "int", inject_get, inject_set, NULL,
                              &sev_arm_exit_code);
    object_class_property_add_str(oc, "mutate", mutate_get, mutate_set);
}

static void sev_memory_init(Object *obj)
{
    SevMemory *s = SEV_MEMORY(obj);

    s->cfg = (SevConfig) {
        .sev = true, .sev_es = true, .smm_lock = true, .mem_encrypt = true, .coherent = true,
        .lbrv = true, .c_bit = 51, .phys_reduction = 1, .max_asid = 15, .min_sev_asid = 5,
    };
    object_property_add_uint32_ptr(obj, "c-bit", &s->cfg.c_bit, OBJ_PROP_FLAG_READWRITE);
    object_property_add_uint32_ptr(obj, "phys-reduction", &s->cfg.phys_reduction,
                                   OBJ_PROP_FLAG_READWRITE);
    object_property_add_uint32_ptr(obj, "max-asid", &s->cfg.max_asid, OBJ_PROP_FLAG_READWRITE);
    object_property_add_uint32_ptr(obj, "min-sev-asid", &s->cfg.min_sev_asid,
                                   OBJ_PROP_FLAG_READWRITE);
    object_property_add_uint32_ptr(obj, "test-port", &s->test_port, OBJ_PROP_FLAG_READWRITE);
}

static const TypeInfo sev_memory_info = {
    .name = TYPE_SEV_MEMORY,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(SevMemory),
    .instance_init = sev_memory_init,
    .class_init = sev_memory_class_init,
    .interfaces = (InterfaceInfo[]) { { TYPE_USER_CREATABLE }, { } },
};

static void sev_memory_register(void)
{
    type_register_static(&sev_memory_info);
}

type_init(sev_memory_register)
