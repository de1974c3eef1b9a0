/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "arch/x86/paging.h"
#include "arch/x86/percpu.h"
#include "arch/x86/smp.h"
#include "arch/x86/traps.h"
#include "core/log.h"
#include "core/string.h"
#include "drivers/acpi.h"

struct cpu_features cpu_features;
PERCPU struct percpu percpu;
struct cpu cpus[CPU_MAX];
u32 cpu_count = 1;

static void read_names(struct cpu_features *f)
{
	struct cpuid_regs r = cpuid(0, 0);

	memcpy(f->vendor, &r.ebx, 4);
	memcpy(f->vendor + 4, &r.edx, 4);
	memcpy(f->vendor + 8, &r.ecx, 4);
	f->amd = strcmp(f->vendor, "AuthenticAMD") == 0 || strcmp(f->vendor, "HygonGenuine") == 0;
	f->intel = strcmp(f->vendor, "GenuineIntel") == 0;
	for (u32 i = 0; i < 3; i++) {
		r = cpuid_if(0x80000002U + i, 0);
		memcpy(f->brand + 16 * i, &r, 16);
	}
	/* Some vendors fill the name with blanks. */
	for (size_t n = strlen(f->brand); n > 0 && f->brand[n - 1] == ' '; n--)
		f->brand[n - 1] = '\0';
	r = cpuid(1, 0);
	f->family = r.eax >> 8 & 15;
	f->model = r.eax >> 4 & 15;
	f->stepping = r.eax & 15;
	if (f->family == 6 || f->family == 15)
		f->model |= r.eax >> 12 & 0xf0;
	if (f->family == 15)
		f->family += r.eax >> 20 & 0xff;
}

static bool bit(u32 reg, u32 n)
{
	return (reg >> n & 1) != 0;
}

/*
 * Memory encryption takes address bits away (APM vol. 2, 15.34.1): CPUID
 * 8000_001F EBX 11:6, once SYSCFG[23] is set. A page table entry with such a bit
 * faults.
 */
static u32 lost_address_bits(const struct cpu_features *f)
{
	struct cpuid_regs r = cpuid_if(0x8000001fU, 0);

	if (!f->amd || (r.eax & 3) == 0 || (rdmsr(MSR_SYSCFG) & SYSCFG_MEM_ENCRYPT) == 0)
		return 0;
	return r.ebx >> 6 & 0x3f;
}

/* "TCGTCGTCGTCG": QEMU's docs/system/i386, the leaf of its own emulation. */
static bool on_tcg(void)
{
	struct cpuid_regs r = cpuid(0x40000000U, 0);

	return r.ebx == 0x54474354 && r.ecx == 0x43544743 && r.edx == 0x47435447;
}

int cpu_detect(void)
{
	struct cpu_features *f = &cpu_features;
	struct cpuid_regs one = cpuid(1, 0), seven = cpuid_if(7, 0);
	struct cpuid_regs ext = cpuid_if(0x80000001U, 0);
	static const struct {
		u8 edx_bit;
		const char *name;
	} needed[] = { { 4, "TSC" }, { 5, "MSR" }, { 9, "APIC" }, { 13, "PGE" }, { 16, "PAT" } };

	read_names(f);
	f->phys_bits = cpuid_if(0x80000008U, 0).eax & 0xff;
	if (f->phys_bits == 0)
		f->phys_bits = 36;
	f->phys_bits -= lost_address_bits(f);
	f->nx = bit(ext.edx, 20);
	f->page1g = bit(ext.edx, 26);
	f->pge = bit(one.edx, 13);
	f->pat = bit(one.edx, 16);
	f->smep = bit(seven.ebx, 7);
	f->smap = bit(seven.ebx, 20);
	f->umip = bit(seven.ecx, 2);
	f->xsave = bit(one.ecx, 26);
	f->x2apic = bit(one.ecx, 21);
	f->tsc_deadline = bit(one.ecx, 24);
	f->hypervisor = bit(one.ecx, 31);
	f->tcg = f->hypervisor && on_tcg();
	f->tsc_invariant = bit(cpuid_if(0x80000007U, 0).edx, 8);
	f->arat = bit(cpuid_if(6, 0).eax, 2);
	for (u32 i = 0; i < ARRAY_SIZE(needed); i++) {
		if (!bit(one.edx, needed[i].edx_bit)) {
			log_err("cpu: %s has no %s, which is needed", f->brand, needed[i].name);
			return -ENOTSUP;
		}
	}
	return 0;
}

void percpu_init(u32 id, u32 apic_id)
{
	static const u64 flat[GDT_SLOTS] = { 0, 0x00af9b000000ffffUL, 0x00cf93000000ffffUL };
	u64 tss = (u64)&percpu.tss;

	percpu.id = id;
	percpu.apic_id = apic_id;
	percpu.cpu = &cpus[id];
	memcpy(percpu.gdt, flat, sizeof(flat));
	percpu.gdt[SEL_TSS / 8] = (sizeof(struct tss) - 1) | (tss & 0xffffff) << 16 |
				  0x89UL << 40 | (tss >> 24 & 0xff) << 56;
	percpu.gdt[SEL_TSS / 8 + 1] = tss >> 32;
	percpu.tss.ist[IST_NMI - 1] = IST_TOP(IST_NMI);
	percpu.tss.ist[IST_DF - 1] = IST_TOP(IST_DF);
	percpu.tss.ist[IST_MC - 1] = IST_TOP(IST_MC);
	percpu.tss.iomap = sizeof(struct tss);
}

/* CS changes by a far return; the data segments hold the same selectors as at start. */
static void load_tables(void)
{
	struct desc_ptr gdtr = { sizeof(percpu.gdt) - 1, (u64)percpu.gdt };

	percpu.gdt[SEL_TSS / 8] &= ~(2UL << 40); /* not busy: it may be loaded again */
	lgdt(&gdtr);
	__asm__ volatile("pushq %0\n"
			 "leaq 1f(%%rip), %%rax\n"
			 "pushq %%rax\n"
			 "lretq\n"
			 "1:\n" : : "i"(SEL_CODE) : "rax", "memory");
	ltr(SEL_TSS);
}

void cpu_setup(void)
{
	u64 cr4 = CR4_PAE | CR4_PGE | CR4_MCE | CR4_DE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	struct cpuid_regs one = cpuid(1, 0), seven = cpuid_if(7, 0);

	if (percpu.cpu == NULL)
		percpu_init(0, one.ebx >> 24);
	load_tables();
	traps_load();
	if (bit(one.ecx, 26))
		cr4 |= CR4_OSXSAVE;
	if (bit(seven.ebx, 7))
		cr4 |= CR4_SMEP;
	if (bit(seven.ebx, 20))
		cr4 |= CR4_SMAP;
	if (bit(seven.ecx, 2))
		cr4 |= CR4_UMIP;
	write_cr4(cr4);
	write_cr0(CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE);
	wrmsr(MSR_EFER, (rdmsr(MSR_EFER) & EFER_SVME) | EFER_LME | EFER_LMA | EFER_NXE);
	wrmsr(MSR_PAT, PAT_HOST);
	tlb_flush_local();
}

void machine_halt(void)
{
	cli();
	smp_stop_others();
	for (;;)
		hlt();
}

void machine_reboot(void)
{
	static const struct desc_ptr no_idt = { 0, 0 };

	log_info("machine: reboot");
	cli();
	smp_stop_others();
	acpi_reset();
	/* The keyboard controller's reset line, as on the first AT; then a triple fault. */
	for (u32 i = 0; i < 100000 && (inb(0x64) & 2) != 0; i++)
		cpu_relax();
	outb(0x64, 0xfe);
	for (u32 i = 0; i < 10000000; i++)
		cpu_relax();
	lidt(&no_idt);
	__asm__ volatile("ud2");
	__builtin_unreachable();
}

void machine_poweroff(void)
{
	log_info("machine: power off");
	cli();
	smp_stop_others();
	acpi_poweroff();
	log_err("machine: ACPI names no way to switch off; it is safe to do so by hand now");
	machine_halt();
}
