/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/mitigations.h"
#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "core/config.h"
#include "core/log.h"
#include "core/shell.h"

/*
 * Bits by SDM vol. 2A (CPUID leaf 7 EDX) and vol. 4 (IA32_ARCH_CAPABILITIES); APM
 * vol. 3, E.4.6 (Fn8000_0008 EBX).
 */
#define L7_EDX_MD_CLEAR BIT32(10)
#define L7_EDX_IBRS_IBPB BIT32(26)
#define L7_EDX_L1D_FLUSH BIT32(28)
#define L7_EDX_ARCH_CAPABILITIES BIT32(29)
#define L7_EBX_RTM BIT32(11)
#define E8_EBX_IBPB BIT32(12)
#define E8_EBX_IBRS BIT32(14)
#define E8_EBX_IBRS_ALWAYS BIT32(16)
#define CAP_RDCL_NO BIT(0)
#define CAP_IBRS_ALL BIT(1)
#define CAP_SKIP_L1D_FLUSH BIT(3)
#define CAP_MDS_NO BIT(5)
#define CAP_TAA_NO BIT(8)
#define CAP_FBSDP_NO BIT(14)
#define CAP_FB_CLEAR BIT(17)
#define CAP_RFDS_NO BIT(27)
#define CAP_RFDS_CLEAR BIT(28)
#define SPEC_CTRL_IBRS BIT(0)

struct mitigations mitigations;

/* What the decisions rest on. */
struct facts {
	bool intel, amd;
	u32 ebx7, edx7, ebx8;
	u64 caps;
};

struct decision {
	bool on;
	const char *why;
};

static void read_facts(struct facts *f)
{
	struct cpuid_regs seven = cpuid_if(7, 0);

	f->intel = cpu_features.intel;
	f->amd = cpu_features.amd;
	f->ebx7 = seven.ebx;
	f->edx7 = f->intel ? seven.edx : 0;
	f->ebx8 = cpuid_if(0x80000008U, 0).ebx;
	if ((f->edx7 & L7_EDX_ARCH_CAPABILITIES) == 0 ||
	    rdmsr_safe(MSR_ARCH_CAPABILITIES, &f->caps) < 0)
		f->caps = 0;
}

/* MDS, TAA, MMIO stale data and RFDS: buffers that VERW overwrites with the right microcode. */
static struct decision decide_verw(const struct facts *f)
{
	bool mds = (f->caps & CAP_MDS_NO) == 0;
	bool taa = (f->ebx7 & L7_EBX_RTM) != 0 && (f->caps & CAP_TAA_NO) == 0;
	bool fb = (f->caps & CAP_FB_CLEAR) != 0 && (f->caps & CAP_FBSDP_NO) == 0;
	bool rfds = (f->caps & CAP_RFDS_CLEAR) != 0 && (f->caps & CAP_RFDS_NO) == 0;

	if (!f->intel)
		return (struct decision){ false, "an answer to Intel's buffers; AMD's are left alone" };
	if (!mds && !taa && !fb && !rfds)
		return (struct decision){ false, "ARCH_CAPABILITIES: MDS_NO and no kin of it" };
	if ((f->edx7 & L7_EDX_MD_CLEAR) == 0 && !fb && !rfds)
		return (struct decision){ false, "the microcode has no MD_CLEAR: update it" };
	return (struct decision){ true, "MD_CLEAR, and the CPU does not say it is not affected" };
}

static struct decision decide_l1d(const struct facts *f)
{
	if (!f->intel)
		return (struct decision){ false, "only Intel has the L1 terminal fault" };
	if ((f->caps & (CAP_RDCL_NO | CAP_SKIP_L1D_FLUSH)) != 0)
		return (struct decision){ false, "ARCH_CAPABILITIES: not affected by L1TF" };
	if ((f->edx7 & L7_EDX_L1D_FLUSH) == 0)
		return (struct decision){ false, "the microcode has no L1D_FLUSH" };
	return (struct decision){ true, "L1D_FLUSH, and neither RDCL_NO nor SKIP_L1DFL_VMENTRY" };
}

static struct decision decide_return_stack(const struct facts *f)
{
	(void)f;
	return (struct decision){ true, "the return predictor is shared with guests on every CPU" };
}

static struct decision decide_ibpb(const struct facts *f)
{
	if ((f->edx7 & L7_EDX_IBRS_IBPB) != 0 || (f->ebx8 & E8_EBX_IBPB) != 0)
		return (struct decision){ true, "CPUID offers IBPB; VMs share a branch predictor" };
	return (struct decision){ false, "CPUID offers no IBPB" };
}

/* Guests have no SPEC_CTRL of their own, so one value per CPU serves host and guests. */
static struct decision decide_spec_ctrl(const struct facts *f)
{
	if ((f->caps & CAP_IBRS_ALL) != 0)
		return (struct decision){ true, "IBRS_ALL: set once, holds for all modes" };
	if (f->amd && (f->ebx8 & E8_EBX_IBRS) != 0 && (f->ebx8 & E8_EBX_IBRS_ALWAYS) != 0)
		return (struct decision){ true, "CPUID prefers IBRS always on" };
	return (struct decision){ false, "CPUID offers no IBRS that is meant to stay on" };
}

static const struct row {
	const char *name;
	const char *when;
	const char *cost;
	struct decision (*decide)(const struct facts *f);
	size_t offset; /* in struct mitigations */
} rows[] = {
	{ "return stack", "each exit", "46 instructions", decide_return_stack,
	  offsetof(struct mitigations, return_stack) },
	{ "VERW", "each entry", "1 instruction", decide_verw, offsetof(struct mitigations, verw) },
	{ "L1D flush", "each entry", "4 instructions", decide_l1d,
	  offsetof(struct mitigations, l1d_flush) },
	{ "IBPB", "another VM's turn", "1 WRMSR", decide_ibpb, offsetof(struct mitigations, ibpb) },
	{ "SPEC_CTRL.IBRS", "start", "none", decide_spec_ctrl,
	  offsetof(struct mitigations, spec_ctrl) },
};

void mitigations_init(void)
{
	struct facts f;

	read_facts(&f);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		((u8 *)&mitigations)[rows[i].offset] =
			config.host.mitigations && rows[i].decide(&f).on;
}

void mitigations_cpu_init(void)
{
	u64 value;

	/* Compare, then write. */
	if (mitigations.spec_ctrl && rdmsr_safe(MSR_SPEC_CTRL, &value) == 0 &&
	    (value & SPEC_CTRL_IBRS) == 0 && wrmsr_safe(MSR_SPEC_CTRL, value | SPEC_CTRL_IBRS) < 0)
		log_warn("mitigations: the CPU refuses IBRS in SPEC_CTRL");
}

static int mitigations_command(int argc, char **argv)
{
	struct facts f;

	(void)argv;
	if (argc != 1)
		return -EINVAL;
	read_facts(&f);
	log_printf("CPU family 0x%x model 0x%x stepping %u, ARCH_CAPABILITIES 0x%lx%s\n",
		   cpu_features.family, cpu_features.model, cpu_features.stepping, f.caps,
		   config.host.mitigations ? "" : "; all off: [host] mitigations = no");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *r = &rows[i];

		log_printf("%-15s %-4s at %-17s %-16s %s\n", r->name,
			   ((const u8 *)&mitigations)[r->offset] ? "on" : "off", r->when, r->cost,
			   r->decide(&f).why);
	}
	if (cpu_features.intel && mitigations.return_stack)
		log_printf("choice          on   at each entry        6 instructions   of VERW and L1D flush\n");
	return 0;
}

SHELL_COMMAND(mitigations, mitigations_command, "", "what is done against speculation, why, its cost");
