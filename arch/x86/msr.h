/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_MSR_H
#define RAVELIN_ARCH_X86_MSR_H

/* Model-specific registers, by the manuals' names (APM vol. 2, appendix A; SDM vol. 4). */
#define MSR_TSC 0x10
#define MSR_PLATFORM_ID 0x17
#define MSR_APIC_BASE 0x1b
#define APIC_BASE_BSP (1UL << 8)
#define APIC_BASE_X2APIC (1UL << 10)
#define APIC_BASE_ENABLE (1UL << 11)
#define APIC_BASE_ADDR 0x000ffffffffff000UL
#define MSR_FEATURE_CONTROL 0x3a
#define MSR_TSC_ADJUST 0x3b
#define MSR_SPEC_CTRL 0x48
#define MSR_PRED_CMD 0x49
#define MSR_BIOS_SIGN_ID 0x8b
#define MSR_MPERF 0xe7
#define MSR_APERF 0xe8
#define MSR_MTRRCAP 0xfe
#define MSR_ARCH_CAPABILITIES 0x10a
#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_MCG_CAP 0x179
#define MSR_MCG_STATUS 0x17a
#define MSR_MCG_CTL 0x17b
#define MSR_MISC_ENABLE 0x1a0
#define MISC_ENABLE_FIXED (BIT(0) | BIT(11) | BIT(12)) /* fast strings; no BTS, no PEBS */
#define MSR_DEBUGCTL 0x1d9
#define MSR_LASTBRANCHFROMIP 0x1db
#define MSR_LASTBRANCHTOIP 0x1dc
#define MSR_LASTINTFROMIP 0x1dd
#define MSR_LASTINTTOIP 0x1de
#define MSR_MTRR_PHYSBASE(n) (0x200 + 2 * (n))
#define MSR_MTRR_PHYSMASK(n) (0x201 + 2 * (n))
#define MSR_MTRR_FIX64K_00000 0x250
#define MSR_MTRR_FIX16K_80000 0x258
#define MSR_MTRR_FIX16K_A0000 0x259
#define MSR_MTRR_FIX4K_C0000 0x268
#define MSR_MTRR_FIX4K_F8000 0x26f
#define MSR_PAT 0x277
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MSR_MC0_CTL 0x400
#define MSR_MC0_STATUS 0x401
#define MSR_MC0_ADDR 0x402
#define MSR_MC0_MISC 0x403
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC_BASE 0x800
#define MSR_XSS 0xda0

#define MSR_EFER 0xc0000080
#define EFER_SCE (1UL << 0)
#define EFER_LME (1UL << 8)
#define EFER_LMA (1UL << 10)
#define EFER_NXE (1UL << 11)
#define EFER_SVME (1UL << 12)
#define EFER_LMSLE (1UL << 13)
#define EFER_FFXSR (1UL << 14)
#define EFER_TCE (1UL << 15)
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_SFMASK 0xc0000084
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX 0xc0000103
#define MSR_TSC_RATIO 0xc0000104

/* AMD (APM vol. 2, appendix A). */
#define MSR_SYSCFG 0xc0010010
#define SYSCFG_MEM_ENCRYPT (1UL << 23)
#define MSR_HWCR 0xc0010015
#define MSR_TOP_MEM 0xc001001a
#define MSR_TOP_MEM2 0xc001001d
#define MSR_PATCH_LEVEL 0x8b
#define MSR_VM_CR 0xc0010114
#define VM_CR_LOCK (1UL << 3)
#define VM_CR_SVMDIS (1UL << 4)
#define MSR_VM_HSAVE_PA 0xc0010117
#define MSR_GHCB 0xc0010130
#define MSR_SEV_STATUS 0xc0010131
#define MSR_DE_CFG 0xc0011029
#define MSR_VIRT_SPEC_CTRL 0xc001011f

/* Page attributes in MSR_PAT (APM vol. 2, 7.8). */
#define PAT_UC 0UL
#define PAT_WC 1UL
#define PAT_WT 4UL
#define PAT_WP 5UL
#define PAT_WB 6UL
#define PAT_UCM 7UL
/* The value after reset; the host uses entry 4 (PAT bit alone) as write combining. */
#define PAT_RESET 0x0007040600070406UL
#define PAT_HOST 0x0007040100070406UL

#endif
