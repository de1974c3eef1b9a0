; SPDX-License-Identifier: BSD-2-Clause
; Entry of an SEV-ES test guest: a flat image at 1 MiB, entered by each vCPU at its first byte in
; 32-bit protected mode without paging, EBX its number. All of the guest's memory is private but
; 6..8 MiB; the low 4 GiB are there once more from 512 GiB on, shared.

%include "stubs.inc"

%define MSR_EFER	0xC0000080
%define MSR_GHCB	0xC0010130
%define SHARED_2M	3	; number of the shared 2 MiB page

extern es_main, es_ap_main, es_isr, bss_start, bss_end
global entry, es_test, es_args, es_first_msr, es_c_mask, es_idt_stubs, es_stacks, es_pml4, es_pd

section .entry progbits alloc exec
bits 32
entry:
	jmp near start
	times 8 - ($ - entry) nop
	db "ESG1"			; offset 8
es_test: dd 0				; offset 12: written by who builds the machine
es_args: dq 0, 0, 0, 0			; offset 16

start:
	cld
	test ebx, ebx
	jnz paging
	mov edi, bss_start		; not measured: what is there is no plain text
	mov ecx, bss_end
	sub ecx, edi
	shr ecx, 2
	xor eax, eax
	rep stosd
	; At reset the MSR has the hypervisor's offer: versions and the C-bit's position.
	mov ecx, MSR_GHCB
	rdmsr
	mov [es_first_msr], eax
	mov [es_first_msr + 4], edx
	mov ecx, eax
	shr ecx, 24
	sub ecx, 32
	xor edx, edx
	bts edx, ecx
	mov [es_c_mask + 4], edx

	mov edi, es_pd
	mov eax, 0x83
	xor ecx, ecx
.page:
	mov [edi], eax
	mov [edi + 4 * 4096], eax	; the shared view
	cmp ecx, SHARED_2M
	je .next
	cmp ecx, 1536			; devices are above 3 GiB
	jae .next
	mov [edi + 4], edx
.next:
	add eax, 0x200000
	add edi, 8
	inc ecx
	cmp ecx, 2048
	jb .page
	mov edi, pdpt
	mov eax, es_pd + 3
	xor ecx, ecx
.pdpt:
	mov [edi + ecx * 8], eax
	mov [edi + ecx * 8 + 4], edx
	add eax, 4096
	inc ecx
	test ecx, 3
	jnz .pdpt
	cmp ecx, 4
	jne .pdpt_done
	mov edi, pdpt2 - 4 * 8
	jmp .pdpt
.pdpt_done:
	mov dword [es_pml4], pdpt + 3
	mov [es_pml4 + 4], edx
	mov dword [es_pml4 + 8], pdpt2 + 3
	mov [es_pml4 + 12], edx

paging:
	mov eax, (1 << 5) | (1 << 9)	; PAE, OSFXSR
	mov cr4, eax
	mov eax, es_pml4
	mov cr3, eax
	mov ecx, MSR_EFER
	rdmsr
	or eax, (1 << 8) | (1 << 11)	; LME, NXE
	wrmsr
	mov eax, cr0
	or eax, 0x80010003		; PG, WP, MP, PE
	and eax, ~0x0C			; EM, TS off
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
	mov edi, ebx
	mov eax, ebx
	inc eax
	shl eax, 14
	lea rsp, [es_stacks + rax]
	; CR3 is a plain address until the tables are there; with the C-bit for good form.
	mov rax, es_pml4
	or rax, [es_c_mask]
	mov cr3, rax
	test edi, edi
	jnz .ap
	call es_main
.halt:
	hlt
	jmp .halt
.ap:
	call es_ap_main
	jmp .halt

INTERRUPT_STUBS es_idt_stubs, 256, es_isr

section .data
align 16
gdt:
	dq 0
	dq 0x00AF9A000000FFFF		; 08 code, 64-bit
	dq 0x00CF92000000FFFF		; 10 data
gdt_pointer:
	dw 3 * 8 - 1
	dq gdt

section .bss
alignb 4096
es_pml4:	resb 4096
pdpt:		resb 4096
pdpt2:		resb 4096
es_pd:		resb 8 * 4096		; private view, shared view
es_stacks:	resb 16 * 16384
alignb 8
es_first_msr:	resq 1
es_c_mask:	resq 1
