; SPDX-License-Identifier: BSD-2-Clause
; Entry of a test guest by multiboot 1 or PVH (both: 32-bit protected mode, paging off), the way to
; long mode, the 256 interrupt stubs, and the blob that runs below 1 MiB.
;
; Multiboot Specification 0.6.96, 3.1 and 3.2; the PVH entry as in Xen's docs/misc/pvh.pandoc.

%include "stubs.inc"

%define CR0_PE		(1 << 0)
%define CR0_PG		(1 << 31)
%define CR4_PAE		(1 << 5)
%define CR4_OSFXSR	(1 << 9)
%define MSR_EFER	0xC0000080
%define EFER_LME	(1 << 8)

extern main, isr, image_end
global start32, boot_magic, boot_info, idt_stubs, pml4, low_blob, low_blob_end, ap_entry64
global gdt, tss, stack_top

%ifndef PVH_ONLY
section .multiboot align=4
	dd 0x1BADB002, 3, -(0x1BADB002 + 3)
%endif

section .note.PVH note align=4
	dd 4, 4, 18			; XEN_ELFNOTE_PHYS32_ENTRY
	db "Xen", 0
	dd start32

section .text
bits 32
start32:
	cli
	cld
	mov [boot_magic], eax
	mov [boot_info], ebx
	mov esp, stack_top

	; The first 4 GiB one to one by 2 MiB pages; the same again at PML4 slot 256.
	mov edi, pd
	mov eax, 0x83
	mov ecx, 2048
.page:
	mov [edi], eax
	mov dword [edi + 4], 0
	add eax, 0x200000
	add edi, 8
	loop .page
	mov eax, pd + 3
	mov edi, pdpt
	mov ecx, 4
.pdpt:
	mov [edi], eax
	add eax, 4096
	add edi, 8
	loop .pdpt
	mov dword [pml4], pdpt + 3
	mov dword [pml4 + 256 * 8], pdpt + 3

	mov eax, CR4_PAE | CR4_OSFXSR
	mov cr4, eax
	mov eax, pml4
	mov cr3, eax
	mov ecx, MSR_EFER
	rdmsr
	or eax, EFER_LME
	wrmsr
	mov eax, cr0
	or eax, CR0_PG | CR0_PE | 0x10002	; with WP, MP
	and eax, ~0x6000000C		; CD, NW, EM, TS off
	mov cr0, eax
	lgdt [gdt_pointer]
	jmp 0x08:start64

bits 64
start64:
	mov ax, 0x10
	mov ds, ax
	mov es, ax
	mov ss, ax
	mov fs, ax
	mov gs, ax
	mov rsp, stack_top
	mov rax, tss
	mov word [gdt.tss + 2], ax
	shr rax, 16
	mov byte [gdt.tss + 4], al
	mov byte [gdt.tss + 7], ah
	mov ax, gdt.tss - gdt
	ltr ax
	xor ebp, ebp
	call main
.halt:
	cli
	hlt
	jmp .halt

; Other CPUs come here from the low blob, in long mode. edi: their number from 1.
extern ap_main
ap_entry64:
	lgdt [gdt_pointer]
	mov ax, 0x10
	mov ds, ax
	mov es, ax
	mov ss, ax
	mov fs, ax
	mov gs, ax
	mov eax, edi
	shl eax, 14
	lea rsp, [ap_stacks + rax]
	push qword 0x08
	mov rax, .flush
	push rax
	retfq
.flush:
	call ap_main
	jmp start64.halt

INTERRUPT_STUBS idt_stubs, 256, isr

section .rodata
low_blob:
	incbin LOW_BLOB
low_blob_end:

section .data
boot_magic:	dd 0
boot_info:	dd 0

align 16
gdt:
	dq 0
	dq 0x00AF9A000000FFFF		; 08 code, 64-bit
	dq 0x00CF92000000FFFF		; 10 data
	dq 0x00CF9A000000FFFF		; 18 code, 32-bit
	dq 0x00AFFA000000FFFF | (3 << 45)	; 20 code, 64-bit, ring 3
	dq 0x00CFF2000000FFFF		; 28 data, ring 3
	dq 0x00CF12000000FFFF		; 30 data, not present
.tss:
	dw 103, 0
	db 0, 0x89, 0, 0
	dq 0
gdt_end:
gdt_pointer:
	dw gdt_end - gdt - 1
	dq gdt

section .bss
alignb 4096
pml4:		resb 4096
pdpt:		resb 4096
pd:		resb 4 * 4096
ap_stacks:	resb 64 * 16384
		resb 32768
stack_top:
tss:		resb 104
