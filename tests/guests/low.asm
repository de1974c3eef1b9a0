; SPDX-License-Identifier: BSD-2-Clause
; What must run below 1 MiB: the start of other CPUs, and the MMIO instruction forms in 16-bit real
; mode, 32-bit protected mode without and with paging, and with PAE. A flat image at 0x8000; the
; parameters are at 0x7000 (struct low_params in rt.h).

org 0x8000

%define CR0_PE		(1 << 0)
%define CR0_PG		(1 << 31)
%define CR4_PSE		(1 << 4)
%define CR4_PAE		(1 << 5)
%define MSR_EFER	0xC0000080
%define EFER_LME	(1 << 8)

%define P_CR3		0x7000		; long mode's page table
%define P_AP_ENTRY	0x7008
%define P_AP_COUNT	0x7010
%define P_CR3_32	0x7014		; page directory, 4 MiB pages
%define P_CR3_PAE	0x7018
%define P_RESULTS	0x701C
%define P_SAVED_RSP	0x7020
%define P_SAVED_CR4	0x7028
%define P_ALIAS		0x702C		; offset of the second mapping of low memory
%define P_DONE		0x7030		; results written

section .data follows=.text align=8
section .table follows=.data align=8
section .strings follows=.table
section .text

bits 16
	jmp near ap16
	align 8
	dq run_mode			; +8
	dq table			; +16
	dq table_end			; +24

ap16:
	cli
	xor ax, ax
	mov ds, ax
	lgdt [gdt_pointer]
	mov eax, CR0_PE | 0x10
	mov cr0, eax
	jmp dword 0x08:ap32

bits 32
ap32:
	mov ax, 0x10
	mov ds, ax
	mov es, ax
	mov ss, ax
	mov eax, CR4_PAE | (1 << 9)
	mov cr4, eax
	mov eax, [P_CR3]
	mov cr3, eax
	mov ecx, MSR_EFER
	rdmsr
	or eax, EFER_LME
	wrmsr
	mov eax, CR0_PG | CR0_PE | 0x12
	mov cr0, eax
	jmp 0x18:ap64
bits 64
ap64:
	mov edi, 1
	lock xadd [P_AP_COUNT], edi
	inc edi
	jmp [P_AP_ENTRY]

; void run_mode(unsigned mode): 0 real, 1 protected, 2 paging, 3 PAE. Runs the forms there.
run_mode:
	push rbx
	push rbp
	push r12
	push r13
	push r14
	push r15
	pushfq
	cli
	mov [P_SAVED_RSP], rsp
	mov rax, cr4
	mov [P_SAVED_CR4], eax
	sub rsp, 16
	sgdt [rsp]
	lgdt [gdt_pointer]
	mov ebp, edi
	push qword 0x08
	mov eax, leave_long
	push rax
	retfq

bits 32
leave_long:
	mov eax, cr0
	and eax, ~CR0_PG
	mov cr0, eax
	mov ecx, MSR_EFER
	rdmsr
	and eax, ~EFER_LME
	wrmsr
	mov ax, 0x10
	mov ds, ax
	mov es, ax
	mov ss, ax
	mov fs, ax
	mov gs, ax
	mov esp, 0x7C00
	xor eax, eax
	mov cr4, eax
	cmp ebp, 1
	jb to_real
	je plain32
	cmp ebp, 2
	je paged32
	mov eax, CR4_PAE
	mov cr4, eax
	mov eax, [P_CR3_PAE]
	jmp set_paging
paged32:
	mov eax, CR4_PSE
	mov cr4, eax
	mov eax, [P_CR3_32]
set_paging:
	mov cr3, eax
	mov eax, cr0
	or eax, CR0_PG
	mov cr0, eax
	jmp .flush
.flush:
	; Run at the second mapping: an address that no physical one equals.
	mov eax, forms32
	add eax, [P_ALIAS]
	call eax
	mov eax, cr0
	and eax, ~CR0_PG
	mov cr0, eax
	jmp back
plain32:
	call forms32
back:
	mov eax, CR4_PAE
	mov cr4, eax
	mov eax, [P_CR3]
	mov cr3, eax
	mov ecx, MSR_EFER
	rdmsr
	or eax, EFER_LME
	wrmsr
	mov eax, cr0
	or eax, CR0_PG
	mov cr0, eax
	jmp 0x18:back64

to_real:
	jmp 0x20:pm16
bits 16
pm16:
	mov eax, cr0
	and al, 0xFE
	mov cr0, eax
	jmp 0:rm16
rm16:
	; DS, ES and SS keep their 4 GiB limits: they are not loaded again here.
	call forms16
	mov eax, cr0
	or al, 1
	mov cr0, eax
	jmp dword 0x08:back_pm
bits 32
back_pm:
	mov ax, 0x10
	mov ds, ax
	mov es, ax
	mov ss, ax
	jmp back

bits 64
back64:
	mov eax, [P_SAVED_CR4]
	mov cr4, rax
	mov rsp, [P_SAVED_RSP]
	lgdt [rsp - 16]
	mov ax, 0x10
	mov ds, ax
	mov es, ax
	mov ss, ax
	mov fs, ax
	mov gs, ax
	popfq
	pop r15
	pop r14
	pop r13
	pop r12
	pop rbp
	pop rbx
	; The caller's code selector is another one than ours: 08 there is 64-bit code.
	pop rax
	push qword 0x08
	push rax
	retfq

%define FORMS forms32
%define FORMS_BITS 32
%define FORMS_TABLE 1
%include "forms.inc"
%undef FORMS
%undef FORMS_BITS
%undef FORMS_TABLE
%define FORMS forms16
%define FORMS_BITS 16
%define FORMS_TABLE 0
%include "forms.inc"

section .table
table_end:

section .data
align 8
gdt:
	dq 0
	dq 0x00CF9A000000FFFF		; 08 code, 32-bit
	dq 0x00CF92000000FFFF		; 10 data
	dq 0x00AF9A000000FFFF		; 18 code, 64-bit
	dq 0x00009A000000FFFF		; 20 code, 16-bit
gdt_end:
gdt_pointer:
	dw gdt_end - gdt - 1
	dq gdt				; 64-bit code loads it, too
