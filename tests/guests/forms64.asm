; SPDX-License-Identifier: BSD-2-Clause
; The MMIO instruction forms in long mode, and the table of names and wanted values.

%define P_RESULTS	0x701C
%define P_DONE		0x7030

section .table progbits alloc noexec nowrite
global forms64_table, forms64_table_end
forms64_table:
section .strings progbits alloc noexec nowrite

section .text
global forms64_run
forms64_run:
	push rbx
	push rbp
	push r12
	push r13
	; Called at the second mapping: RDI is its distance.
	lea rax, [forms64 + rdi]
	call rax
	pop r13
	pop r12
	pop rbp
	pop rbx
	ret

%define FORMS forms64
%define FORMS_BITS 64
%define FORMS_TABLE 2
%include "forms.inc"

section .table
forms64_table_end:
