/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_SEV_VMSA_H
#define RAVELIN_SEV_VMSA_H

#include "arch/x86/svm/vmcb.h"
#include "core/types.h"

/*
 * The save area of an SEV-ES vCPU (APM vol. 2, table B-4): written once in plain
 * text, encrypted by the security processor at launch, from then on the CPU's
 * alone. All of the page is part of the launch measurement.
 *
 * The tail of the host save area, at VM_HSAVE_PA + 0x400, has the same layout.
 */
struct vmsa {
	struct vmcb_seg es, cs, ss, ds, fs, gs;
	struct vmcb_seg gdtr, ldtr, idtr, tr;
	u64 pl_ssp[4];
	u64 u_cet;
	u8 reserved_0c8[2];
	u8 vmpl;
	u8 cpl;
	u32 reserved_0cc;
	u64 efer;
	u8 reserved_0d8[0x140 - 0x0d8];
	u64 xss;
	u64 cr4;
	u64 cr3;
	u64 cr0;
	u64 dr7;
	u64 dr6;
	u64 rflags;
	u64 rip;
	u64 dr[4];
	u64 dr_mask[4];
	u8 reserved_1c0[24];
	u64 rsp;
	u64 s_cet;
	u64 ssp;
	u64 isst_addr;
	u64 rax;
	u64 star;
	u64 lstar;
	u64 cstar;
	u64 sfmask;
	u64 kernel_gs_base;
	u64 sysenter_cs;
	u64 sysenter_esp;
	u64 sysenter_eip;
	u64 cr2;
	u8 reserved_248[32];
	u64 g_pat;
	u64 dbgctl;
	u64 br_from;
	u64 br_to;
	u64 lastexcp_from;
	u64 lastexcp_to;
	u8 reserved_298[80];
	u32 pkru;
	u32 tsc_aux;
	u64 tsc_scale;
	u64 tsc_offset;
	u64 reg_prot_nonce;
	u64 rcx;
	u64 rdx;
	u64 rbx;
	u64 reserved_320; /* RSP is above */
	u64 rbp;
	u64 rsi;
	u64 rdi;
	u64 r8_15[8];
	u64 reserved_380;
	u64 checksum_ptr; /* the processor's */
	u64 exitinfo1;
	u64 exitinfo2;
	u64 exitintinfo;
	u64 nrip;
	u64 sev_features;
	u64 vintr;
	u64 exitcode;
	u64 virtual_tom;
	u64 tlb_id;
	u64 pcpu_id;
	u64 eventinj;
	u64 xcr0;
	u8 reserved_3f0[16];
	u64 x87_dp;
	u32 mxcsr;
	u16 x87_ftw, x87_fsw, x87_fcw, x87_fop, x87_ds, x87_cs;
	u64 x87_rip;
	u8 x87[80];
	u8 xmm[256];
	u8 ymm_high[256];
	u8 reserved_670[0x1000 - 0x670];
};

ASSERT_OFFSET(struct vmsa, es, 0x000);
ASSERT_OFFSET(struct vmsa, cs, 0x010);
ASSERT_OFFSET(struct vmsa, ss, 0x020);
ASSERT_OFFSET(struct vmsa, ds, 0x030);
ASSERT_OFFSET(struct vmsa, fs, 0x040);
ASSERT_OFFSET(struct vmsa, gs, 0x050);
ASSERT_OFFSET(struct vmsa, gdtr, 0x060);
ASSERT_OFFSET(struct vmsa, ldtr, 0x070);
ASSERT_OFFSET(struct vmsa, idtr, 0x080);
ASSERT_OFFSET(struct vmsa, tr, 0x090);
ASSERT_OFFSET(struct vmsa, pl_ssp, 0x0a0);
ASSERT_OFFSET(struct vmsa, u_cet, 0x0c0);
ASSERT_OFFSET(struct vmsa, vmpl, 0x0ca);
ASSERT_OFFSET(struct vmsa, cpl, 0x0cb);
ASSERT_OFFSET(struct vmsa, efer, 0x0d0);
ASSERT_OFFSET(struct vmsa, xss, 0x140);
ASSERT_OFFSET(struct vmsa, cr4, 0x148);
ASSERT_OFFSET(struct vmsa, cr3, 0x150);
ASSERT_OFFSET(struct vmsa, cr0, 0x158);
ASSERT_OFFSET(struct vmsa, dr7, 0x160);
ASSERT_OFFSET(struct vmsa, dr6, 0x168);
ASSERT_OFFSET(struct vmsa, rflags, 0x170);
ASSERT_OFFSET(struct vmsa, rip, 0x178);
ASSERT_OFFSET(struct vmsa, dr, 0x180);
ASSERT_OFFSET(struct vmsa, dr_mask, 0x1a0);
ASSERT_OFFSET(struct vmsa, rsp, 0x1d8);
ASSERT_OFFSET(struct vmsa, s_cet, 0x1e0);
ASSERT_OFFSET(struct vmsa, ssp, 0x1e8);
ASSERT_OFFSET(struct vmsa, isst_addr, 0x1f0);
ASSERT_OFFSET(struct vmsa, rax, 0x1f8);
ASSERT_OFFSET(struct vmsa, star, 0x200);
ASSERT_OFFSET(struct vmsa, lstar, 0x208);
ASSERT_OFFSET(struct vmsa, cstar, 0x210);
ASSERT_OFFSET(struct vmsa, sfmask, 0x218);
ASSERT_OFFSET(struct vmsa, kernel_gs_base, 0x220);
ASSERT_OFFSET(struct vmsa, sysenter_cs, 0x228);
ASSERT_OFFSET(struct vmsa, sysenter_esp, 0x230);
ASSERT_OFFSET(struct vmsa, sysenter_eip, 0x238);
ASSERT_OFFSET(struct vmsa, cr2, 0x240);
ASSERT_OFFSET(struct vmsa, g_pat, 0x268);
ASSERT_OFFSET(struct vmsa, dbgctl, 0x270);
ASSERT_OFFSET(struct vmsa, br_from, 0x278);
ASSERT_OFFSET(struct vmsa, br_to, 0x280);
ASSERT_OFFSET(struct vmsa, lastexcp_from, 0x288);
ASSERT_OFFSET(struct vmsa, lastexcp_to, 0x290);
ASSERT_OFFSET(struct vmsa, pkru, 0x2e8);
ASSERT_OFFSET(struct vmsa, tsc_aux, 0x2ec);
ASSERT_OFFSET(struct vmsa, tsc_scale, 0x2f0);
ASSERT_OFFSET(struct vmsa, tsc_offset, 0x2f8);
ASSERT_OFFSET(struct vmsa, reg_prot_nonce, 0x300);
ASSERT_OFFSET(struct vmsa, rcx, 0x308);
ASSERT_OFFSET(struct vmsa, rdx, 0x310);
ASSERT_OFFSET(struct vmsa, rbx, 0x318);
ASSERT_OFFSET(struct vmsa, rbp, 0x328);
ASSERT_OFFSET(struct vmsa, rsi, 0x330);
ASSERT_OFFSET(struct vmsa, rdi, 0x338);
ASSERT_OFFSET(struct vmsa, r8_15, 0x340);
ASSERT_OFFSET(struct vmsa, checksum_ptr, 0x388);
ASSERT_OFFSET(struct vmsa, exitinfo1, 0x390);
ASSERT_OFFSET(struct vmsa, exitinfo2, 0x398);
ASSERT_OFFSET(struct vmsa, exitintinfo, 0x3a0);
ASSERT_OFFSET(struct vmsa, nrip, 0x3a8);
ASSERT_OFFSET(struct vmsa, sev_features, 0x3b0);
ASSERT_OFFSET(struct vmsa, vintr, 0x3b8);
ASSERT_OFFSET(struct vmsa, exitcode, 0x3c0);
ASSERT_OFFSET(struct vmsa, virtual_tom, 0x3c8);
ASSERT_OFFSET(struct vmsa, tlb_id, 0x3d0);
ASSERT_OFFSET(struct vmsa, pcpu_id, 0x3d8);
ASSERT_OFFSET(struct vmsa, eventinj, 0x3e0);
ASSERT_OFFSET(struct vmsa, xcr0, 0x3e8);
ASSERT_OFFSET(struct vmsa, x87_dp, 0x400);
ASSERT_OFFSET(struct vmsa, mxcsr, 0x408);
ASSERT_OFFSET(struct vmsa, x87_ftw, 0x40c);
ASSERT_OFFSET(struct vmsa, x87_fsw, 0x40e);
ASSERT_OFFSET(struct vmsa, x87_fcw, 0x410);
ASSERT_OFFSET(struct vmsa, x87_fop, 0x412);
ASSERT_OFFSET(struct vmsa, x87_ds, 0x414);
ASSERT_OFFSET(struct vmsa, x87_cs, 0x416);
ASSERT_OFFSET(struct vmsa, x87_rip, 0x418);
ASSERT_OFFSET(struct vmsa, x87, 0x420);
ASSERT_OFFSET(struct vmsa, xmm, 0x470);
ASSERT_OFFSET(struct vmsa, ymm_high, 0x570);
ASSERT_SIZE(struct vmsa, 0x1000);

#define VMSA_EFER EFER_SVME
#define VMSA_CR0 0x10UL /* ET: what KVM leaves after reset, so that measurements are comparable */
#define VMSA_CR4 0x40UL /* MCE, likewise */

/*
 * The state after reset, of the whole page. signature: CPUID 1 EAX, which RDX
 * holds then; reset: where it begins, 0xfffffff0 for the boot processor, for the
 * others the address that the firmware's SEV-ES reset block names.
 */
void vmsa_reset(struct vmsa *s, u32 signature, u32 reset);
/*
 * For an image that is entered without firmware: flat 32-bit protected mode
 * without paging, CS 0x10, data segments 0x18 (no GDT is loaded), EIP entry, EBX
 * the vCPU's number, ESI info.
 */
void vmsa_direct(struct vmsa *s, u32 signature, u32 entry, u32 vcpu, u32 info);

#endif
