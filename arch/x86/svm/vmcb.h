/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_SVM_VMCB_H
#define RAVELIN_SVM_VMCB_H

#include "core/types.h"

/*
 * The virtual machine control block (APM vol. 2, appendix B): a control area
 * of 1 KiB and the state save area behind it, in one page.
 */

/* Intercept words: bit n of word w asks for VMEXIT code 32 * w + n. */
#define VMCB_I3_INTR BIT32(0)
#define VMCB_I3_NMI BIT32(1)
#define VMCB_I3_SMI BIT32(2)
#define VMCB_I3_INIT BIT32(3)
#define VMCB_I3_VINTR BIT32(4)
#define VMCB_I3_RDPMC BIT32(15)
#define VMCB_I3_CPUID BIT32(18)
#define VMCB_I3_IRET BIT32(20)
#define VMCB_I3_INVD BIT32(22)
#define VMCB_I3_PAUSE BIT32(23)
#define VMCB_I3_HLT BIT32(24)
#define VMCB_I3_INVLPGA BIT32(26)
#define VMCB_I3_IOIO BIT32(27)
#define VMCB_I3_MSR BIT32(28)
#define VMCB_I3_TASK_SWITCH BIT32(29)
#define VMCB_I3_FERR_FREEZE BIT32(30)
#define VMCB_I3_SHUTDOWN BIT32(31)

#define VMCB_I4_VMRUN BIT32(0)
#define VMCB_I4_VMMCALL BIT32(1)
#define VMCB_I4_VMLOAD BIT32(2)
#define VMCB_I4_VMSAVE BIT32(3)
#define VMCB_I4_STGI BIT32(4)
#define VMCB_I4_CLGI BIT32(5)
#define VMCB_I4_SKINIT BIT32(6)
#define VMCB_I4_WBINVD BIT32(9)
#define VMCB_I4_MONITOR BIT32(10)
#define VMCB_I4_MWAIT BIT32(11)
#define VMCB_I4_MWAIT_ARMED BIT32(12)
#define VMCB_I4_XSETBV BIT32(13)
#define VMCB_I4_RDPRU BIT32(14)
/* Write traps (APM vol. 2, 15.35.10): after the write, SEV-ES guests only. */
#define VMCB_I4_EFER_TRAP BIT32(15)
#define VMCB_I4_CR_TRAP(n) BIT32(16 + (n))

#define VMCB_I5_INVLPGB BIT32(0)
#define VMCB_I5_INVLPGB_ILLEGAL BIT32(1)
#define VMCB_I5_MCOMMIT BIT32(3)
#define VMCB_I5_TLBSYNC BIT32(4)

/* vmcb.tlb_control (APM vol. 2, 15.16.1) */
#define VMCB_TLB_NOTHING 0
#define VMCB_TLB_FLUSH_ALL 1
#define VMCB_TLB_FLUSH_ASID 3

/* vmcb.vintr (APM vol. 2, 15.21) */
#define VMCB_V_TPR 0x0fUL
#define VMCB_V_TPR_BYTE 0xffUL
#define VMCB_V_IRQ BIT(8)
#define VMCB_V_NMI BIT(11)
#define VMCB_V_NMI_MASK BIT(12)
#define VMCB_V_INTR_PRIO_SHIFT 16
#define VMCB_V_INTR_PRIO (0xfUL << 16)
#define VMCB_V_IGN_TPR BIT(20)
#define VMCB_V_INTR_MASKING BIT(24)
#define VMCB_V_NMI_ENABLE BIT(26)
#define VMCB_V_VECTOR_SHIFT 32
#define VMCB_V_VECTOR (0xffUL << 32)

#define VMCB_INT_SHADOW BIT(0)
#define VMCB_INT_IF BIT(1) /* RFLAGS.IF of an SEV-ES guest at the exit */

#define VMCB_NP_ENABLE BIT(0)
#define VMCB_SEV_ENABLE BIT(1)
#define VMCB_SEV_ES_ENABLE BIT(2)

#define VMCB_LBR_ENABLE BIT(0)

/* eventinj and exitintinfo (APM vol. 2, 15.20) */
#define VMCB_EVENT_VECTOR 0xffUL
#define VMCB_EVENT_TYPE (7UL << 8)
#define VMCB_EVENT_INTR (0UL << 8)
#define VMCB_EVENT_NMI (2UL << 8)
#define VMCB_EVENT_EXCEPTION (3UL << 8)
#define VMCB_EVENT_SOFT (4UL << 8)
#define VMCB_EVENT_ERROR BIT(11)
#define VMCB_EVENT_VALID BIT(31)
#define VMCB_EVENT_ERRCODE_SHIFT 32

/* Clean bits (APM vol. 2, 15.15.3): what the CPU may keep from the last run. */
#define VMCB_CLEAN_I BIT32(0)     /* intercepts, TSC offset, pause filter */
#define VMCB_CLEAN_IOPM BIT32(1)  /* both bitmaps' addresses */
#define VMCB_CLEAN_ASID BIT32(2)
#define VMCB_CLEAN_TPR BIT32(3)   /* vintr */
#define VMCB_CLEAN_NP BIT32(4)    /* nested paging: n_cr3, g_pat */
#define VMCB_CLEAN_CRX BIT32(5)   /* CR0 CR3 CR4 EFER */
#define VMCB_CLEAN_DRX BIT32(6)   /* DR6 DR7 */
#define VMCB_CLEAN_DT BIT32(7)    /* GDTR IDTR */
#define VMCB_CLEAN_SEG BIT32(8)   /* CS DS SS ES, CPL */
#define VMCB_CLEAN_CR2 BIT32(9)
#define VMCB_CLEAN_LBR BIT32(10)  /* DEBUGCTL and the last-branch registers */
#define VMCB_CLEAN_AVIC BIT32(11)
#define VMCB_CLEAN_CET BIT32(12)
/* All groups that this code ever writes; what it never writes may be clean as well. */
#define VMCB_CLEAN_ALL 0x00001fffU

struct vmcb_seg {
	u16 selector;
	u16 attr;
	u32 limit;
	u64 base;
};

struct vmcb {
	/* Control area */
	u32 intercept_cr;        /* reads 15:0, writes 31:16 */
	u32 intercept_dr;
	u32 intercept_exception;
	u32 intercept3;          /* VMCB_I3_* */
	u32 intercept4;          /* VMCB_I4_* */
	u32 intercept5;          /* VMCB_I5_* */
	u8 reserved_018[0x03c - 0x018];
	u16 pause_threshold;
	u16 pause_count;
	u64 iopm_base;
	u64 msrpm_base;
	u64 tsc_offset;
	u32 asid;
	u8 tlb_control;
	u8 reserved_05d[3];
	u64 vintr;
	u64 int_state;           /* bit 0: interrupt shadow */
	u64 exitcode;
	u64 exitinfo1;
	u64 exitinfo2;
	u64 exitintinfo;
	u64 np_control;
	u64 avic_bar;
	u64 ghcb_gpa;
	u64 eventinj;
	u64 n_cr3;
	u64 lbr_control;
	u32 clean;
	u32 reserved_0c4;
	u64 nrip;
	u8 insn_len;             /* bytes in insn[], decode assists only */
	u8 insn[15];
	u64 avic_backing;
	u64 reserved_0e8;
	u64 avic_logical;
	u64 avic_physical;
	u64 reserved_100;
	u64 vmsa_pa;
	u8 reserved_110[0x400 - 0x110];

	/* State save area, offsets relative to 0x400 */
	struct vmcb_seg es, cs, ss, ds, fs, gs;
	struct vmcb_seg gdtr, ldtr, idtr, tr;
	u8 reserved_4a0[0x4cb - 0x4a0];
	u8 cpl;
	u32 reserved_4cc;
	u64 efer;
	u8 reserved_4d8[0x548 - 0x4d8];
	u64 cr4;
	u64 cr3;
	u64 cr0;
	u64 dr7;
	u64 dr6;
	u64 rflags;
	u64 rip;
	u8 reserved_580[0x5d8 - 0x580];
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
	u8 reserved_648[0x668 - 0x648];
	u64 g_pat;
	u64 debugctl;
	u64 br_from;
	u64 br_to;
	u64 lastexcp_from;
	u64 lastexcp_to;
	u8 reserved_698[0x1000 - 0x698];
};

ASSERT_SIZE(struct vmcb_seg, 16);
#define AT(field, offset) ASSERT_OFFSET(struct vmcb, field, offset)
AT(intercept_cr, 0x000); AT(intercept_dr, 0x004); AT(intercept_exception, 0x008);
AT(intercept3, 0x00c); AT(intercept4, 0x010); AT(intercept5, 0x014); AT(pause_threshold, 0x03c);
AT(pause_count, 0x03e); AT(iopm_base, 0x040); AT(msrpm_base, 0x048); AT(tsc_offset, 0x050);
AT(asid, 0x058); AT(tlb_control, 0x05c); AT(vintr, 0x060); AT(int_state, 0x068);
AT(exitcode, 0x070); AT(exitinfo1, 0x078); AT(exitinfo2, 0x080); AT(exitintinfo, 0x088);
AT(np_control, 0x090); AT(avic_bar, 0x098); AT(ghcb_gpa, 0x0a0); AT(eventinj, 0x0a8);
AT(n_cr3, 0x0b0); AT(lbr_control, 0x0b8); AT(clean, 0x0c0); AT(nrip, 0x0c8);
AT(insn_len, 0x0d0); AT(insn, 0x0d1); AT(avic_backing, 0x0e0); AT(avic_logical, 0x0f0);
AT(avic_physical, 0x0f8); AT(vmsa_pa, 0x108); AT(es, 0x400); AT(cs, 0x410); AT(ss, 0x420);
AT(ds, 0x430); AT(fs, 0x440); AT(gs, 0x450); AT(gdtr, 0x460); AT(ldtr, 0x470); AT(idtr, 0x480);
AT(tr, 0x490); AT(cpl, 0x4cb); AT(efer, 0x4d0); AT(cr4, 0x548); AT(cr3, 0x550); AT(cr0, 0x558);
AT(dr7, 0x560); AT(dr6, 0x568); AT(rflags, 0x570); AT(rip, 0x578); AT(rsp, 0x5d8);
AT(s_cet, 0x5e0); AT(ssp, 0x5e8); AT(isst_addr, 0x5f0); AT(rax, 0x5f8); AT(star, 0x600);
AT(lstar, 0x608); AT(cstar, 0x610); AT(sfmask, 0x618); AT(kernel_gs_base, 0x620);
AT(sysenter_cs, 0x628); AT(sysenter_esp, 0x630); AT(sysenter_eip, 0x638); AT(cr2, 0x640);
AT(g_pat, 0x668); AT(debugctl, 0x670); AT(br_from, 0x678); AT(br_to, 0x680);
AT(lastexcp_from, 0x688); AT(lastexcp_to, 0x690);
#undef AT
ASSERT_SIZE(struct vmcb, 4096);

/*
 * Writers for the cached fields: each clears the clean bit of its group, so
 * that a write can never be lost. RIP, RSP, RAX, RFLAGS, int_state, eventinj,
 * tlb_control and what VMLOAD loads are never cached and are written directly.
 */
#define VMCB_WRITER(name, field, type, bit)                          \
	static inline void vmcb_set_##name(struct vmcb *b, type value) \
	{                                                            \
		b->field = value;                                    \
		b->clean &= ~(bit);                                  \
	}
VMCB_WRITER(intercept_cr, intercept_cr, u32, VMCB_CLEAN_I)
VMCB_WRITER(intercept_exception, intercept_exception, u32, VMCB_CLEAN_I)
VMCB_WRITER(intercept3, intercept3, u32, VMCB_CLEAN_I)
VMCB_WRITER(intercept4, intercept4, u32, VMCB_CLEAN_I)
VMCB_WRITER(intercept5, intercept5, u32, VMCB_CLEAN_I)
VMCB_WRITER(tsc_offset, tsc_offset, u64, VMCB_CLEAN_I)
VMCB_WRITER(asid, asid, u32, VMCB_CLEAN_ASID)
VMCB_WRITER(vintr, vintr, u64, VMCB_CLEAN_TPR)
VMCB_WRITER(n_cr3, n_cr3, u64, VMCB_CLEAN_NP)
VMCB_WRITER(g_pat, g_pat, u64, VMCB_CLEAN_NP)
VMCB_WRITER(cr0, cr0, u64, VMCB_CLEAN_CRX)
VMCB_WRITER(cr3, cr3, u64, VMCB_CLEAN_CRX)
VMCB_WRITER(cr4, cr4, u64, VMCB_CLEAN_CRX)
VMCB_WRITER(efer, efer, u64, VMCB_CLEAN_CRX)
VMCB_WRITER(cr2, cr2, u64, VMCB_CLEAN_CR2)
VMCB_WRITER(dr6, dr6, u64, VMCB_CLEAN_DRX)
VMCB_WRITER(dr7, dr7, u64, VMCB_CLEAN_DRX)
VMCB_WRITER(debugctl, debugctl, u64, VMCB_CLEAN_LBR)
#undef VMCB_WRITER

/* Exit codes (APM vol. 2, appendix C). */
#define SVM_EXIT_CR0_READ 0x00
#define SVM_EXIT_CR0_WRITE 0x10
#define SVM_EXIT_CR8_WRITE 0x18
#define SVM_EXIT_DR0_READ 0x20
#define SVM_EXIT_DR0_WRITE 0x30
#define SVM_EXIT_EXCP0 0x40
#define SVM_EXIT_EXCP_MC 0x52
#define SVM_EXIT_EXCP31 0x5f
#define SVM_EXIT_INTR 0x60
#define SVM_EXIT_NMI 0x61
#define SVM_EXIT_SMI 0x62
#define SVM_EXIT_INIT 0x63
#define SVM_EXIT_VINTR 0x64
#define SVM_EXIT_CR0_SEL_WRITE 0x65
#define SVM_EXIT_IDTR_READ 0x66
#define SVM_EXIT_GDTR_READ 0x67
#define SVM_EXIT_LDTR_READ 0x68
#define SVM_EXIT_TR_READ 0x69
#define SVM_EXIT_IDTR_WRITE 0x6a
#define SVM_EXIT_GDTR_WRITE 0x6b
#define SVM_EXIT_LDTR_WRITE 0x6c
#define SVM_EXIT_TR_WRITE 0x6d
#define SVM_EXIT_RDTSC 0x6e
#define SVM_EXIT_RDPMC 0x6f
#define SVM_EXIT_PUSHF 0x70
#define SVM_EXIT_POPF 0x71
#define SVM_EXIT_CPUID 0x72
#define SVM_EXIT_RSM 0x73
#define SVM_EXIT_IRET 0x74
#define SVM_EXIT_SWINT 0x75
#define SVM_EXIT_INVD 0x76
#define SVM_EXIT_PAUSE 0x77
#define SVM_EXIT_HLT 0x78
#define SVM_EXIT_INVLPG 0x79
#define SVM_EXIT_INVLPGA 0x7a
#define SVM_EXIT_IOIO 0x7b
#define SVM_EXIT_MSR 0x7c
#define SVM_EXIT_TASK_SWITCH 0x7d
#define SVM_EXIT_FERR_FREEZE 0x7e
#define SVM_EXIT_SHUTDOWN 0x7f
#define SVM_EXIT_VMRUN 0x80
#define SVM_EXIT_VMMCALL 0x81
#define SVM_EXIT_VMLOAD 0x82
#define SVM_EXIT_VMSAVE 0x83
#define SVM_EXIT_STGI 0x84
#define SVM_EXIT_CLGI 0x85
#define SVM_EXIT_SKINIT 0x86
#define SVM_EXIT_RDTSCP 0x87
#define SVM_EXIT_ICEBP 0x88
#define SVM_EXIT_WBINVD 0x89
#define SVM_EXIT_MONITOR 0x8a
#define SVM_EXIT_MWAIT 0x8b
#define SVM_EXIT_MWAIT_ARMED 0x8c
#define SVM_EXIT_XSETBV 0x8d
#define SVM_EXIT_RDPRU 0x8e
#define SVM_EXIT_EFER_TRAP 0x8f
#define SVM_EXIT_CR0_TRAP 0x90
#define SVM_EXIT_CR15_TRAP 0x9f
#define SVM_EXIT_INVLPGB 0xa0
#define SVM_EXIT_INVLPGB_ILLEGAL 0xa1
#define SVM_EXIT_INVPCID 0xa2
#define SVM_EXIT_MCOMMIT 0xa3
#define SVM_EXIT_TLBSYNC 0xa4
#define SVM_EXIT_BUS_LOCK 0xa5
#define SVM_EXIT_IDLE_HLT 0xa6
#define SVM_EXIT_CODES 0xa7 /* the dense range ends here */
#define SVM_EXIT_NPF 0x400
#define SVM_EXIT_AVIC_IPI 0x401
#define SVM_EXIT_AVIC_NOACCEL 0x402
#define SVM_EXIT_VMGEXIT 0x403
#define SVM_EXIT_PAGE_NOT_VALIDATED 0x404
#define SVM_EXIT_INVALID 0xffffffffU /* low word: QEMU up to 10.0 stores 32 bits of -1 */
#define SVM_EXIT_BUSY 0xfffffffeU

/* EXITINFO1 of #NPF (APM vol. 2, 15.25.6) */
#define SVM_NPF_WRITE BIT(1)
#define SVM_NPF_FETCH BIT(4)
#define SVM_NPF_TABLE BIT(33)

/* EXITINFO1 of IOIO (APM vol. 2, 15.10.2) */
#define SVM_IOIO_IN BIT(0)
#define SVM_IOIO_STRING BIT(2)
#define SVM_IOIO_REP BIT(3)
#define SVM_IOIO_BYTE BIT(4)
#define SVM_IOIO_SIZE_SHIFT 4 /* one-hot: 1, 2, 4 bytes */
#define SVM_IOIO_ADDR_SHIFT 7 /* one-hot: 16, 32, 64 bits */
#define SVM_IOIO_SEG_SHIFT 10
#define SVM_IOIO_PORT_SHIFT 16

/* SVM features, CPUID 8000_000A EDX */
#define SVM_FEAT_NP BIT32(0)
#define SVM_FEAT_NRIPS BIT32(3)
#define SVM_FEAT_CLEAN BIT32(5)
#define SVM_FEAT_FLUSH_ASID BIT32(6)
#define SVM_FEAT_DECODE BIT32(7)
#define SVM_FEAT_PAUSE_FILTER BIT32(10)
#define SVM_FEAT_PAUSE_THRESHOLD BIT32(12)
#define SVM_FEAT_VNMI BIT32(25)

#endif
