/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_EXIT_H
#define RAVELIN_CORE_EXIT_H

#include "core/types.h"

/*
 * The neutral exit: what a backend (SVM, VMX, the GHCB dispatcher) tells core
 * about why a guest stopped. Operands that are free to fetch are filled in;
 * what costs a VMREAD or a decode is fetched by the handler that needs it.
 */
enum vexit_kind {
	VEXIT_CPUID,     /* leaf in RAX, subleaf in RCX; answers in RAX RBX RCX RDX */
	VEXIT_HYPERCALL, /* VMMCALL/VMCALL; number in RAX */
	VEXIT_RDMSR,     /* index in RCX; value to RDX:RAX */
	VEXIT_WRMSR,     /* index in RCX; value in RDX:RAX */
	VEXIT_IO,        /* operand: io; data in RAX, or in memory when io.string */
	VEXIT_MMIO,      /* operand: mmio; guest-physical access that no RAM serves */
	VEXIT_HLT,
	VEXIT_PAUSE,
	VEXIT_XSETBV,    /* index in RCX, value in RDX:RAX */
	VEXIT_WBINVD,    /* WBINVD, WBNOINVD or INVD: all act as "nothing needed" or a real WBINVD */
	VEXIT_RDPMC,     /* index in RCX */
	VEXIT_UD,        /* an instruction this guest's CPU does not have: #UD */
	VEXIT_GP,        /* an access the architecture refuses here: #GP(0) */
	VEXIT_EXCEPTION, /* operand: exc; an intercepted exception to be reflected unchanged */
	VEXIT_INTERRUPT, /* a host interrupt ended guest mode; it is taken when interrupts open */
	VEXIT_NMI,       /* a host NMI ended guest mode */
	VEXIT_MCE,       /* a machine check ended guest mode */
	VEXIT_WINDOW,    /* the guest can now take an interrupt (or NMI) it could not before */
	VEXIT_SHUTDOWN,  /* triple fault */
	VEXIT_TASK_SWITCH, /* hardware task switch: not emulated, VM stopped */
	VEXIT_NOTHING,   /* fully handled by the backend */
	VEXIT_FATAL,     /* operand: fatal; the backend cannot go on with this vCPU */
	VEXIT_KINDS
};

struct vexit_io {
	u16 port;
	u8 size;      /* 1, 2 or 4 bytes */
	bool in;
	bool string;  /* INS or OUTS */
	bool rep;
	u8 addr_size; /* 2, 4 or 8 bytes; string only */
	u8 seg;       /* enum vseg; OUTS only */
};

#define VACCESS_READ BIT32(0)
#define VACCESS_WRITE BIT32(1)
#define VACCESS_EXEC BIT32(2)

struct vexit_mmio {
	gpa_t gpa;
	u32 access;      /* VACCESS_* */
	u8 insn_len;     /* bytes valid in insn[]; 0: fetch them from guest memory */
	u8 insn[15];
	u8 code_mode;    /* enum insn_mode of CS, plus 1; 0: not known, asked for when needed */
};

struct vexit_exception {
	u8 vector;
	bool has_error;
	u32 error;
};

struct vexit_fatal {
	const char *why; /* static text: what the hardware said */
	u64 code;        /* exit code or VM-instruction error */
	u64 info1;
	u64 info2;
};

struct vexit {
	u32 kind; /* enum vexit_kind */
	u32 insn_len; /* length of the exiting instruction; 0: not known, backend finds out on advance */
	union {
		struct vexit_io io;
		u64 msr; /* the value read, on its way to the registers */
		struct vexit_mmio mmio;
		struct vexit_exception exc;
		struct vexit_fatal fatal;
	};
};

/*
 * What core tells the backend to do next. ADVANCE: the instruction is complete,
 * step over it (clears the interrupt shadow, delivers #DB for RFLAGS.TF).
 * LEAVE: end the enter/exit loop and return to the scheduler.
 */
#define VRESULT_RETRY 0U          /* re-enter at the same RIP */
#define VRESULT_ADVANCE BIT32(0)  /* step over the instruction, then re-enter */
#define VRESULT_LEAVE BIT32(1)

#endif
