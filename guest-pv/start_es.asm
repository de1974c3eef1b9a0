; SPDX-License-Identifier: BSD-2-Clause
; Entry of the guest kernel as an SEV-ES guest: a flat image at 1 MiB that every vCPU enters at its
; first byte, in 32-bit protected mode without paging, EBX its number (docs/pv.md). Without paging
; all memory is private. The tables made here map 4 GiB one to one: the 2 MiB pages of the section
; .shared without the C-bit, and what is above 3 GiB, where devices are; all else with it.
default abs

MSR_EFER equ 0xC0000080
MSR_GHCB equ 0xC0010130
DEVICES equ 1536			; 2 MiB pages below 3 GiB
STACK_SHIFT equ 14

extern kernel_main, kernel_ap, pml4, pdpt, page_dirs, boot_stack_end, ap_stacks, gdtr
extern bss_start, bss_end, shared_start, shared_end
global es_entry, es_cmdline, vc_c_bit

section .es_entry progbits alloc exec nowrite
bits 32
es_entry:
	jmp near es_start
	times 8 - ($ - es_entry) nop
	db "GPVE", 0, 0, 0, 0		; offset 8: what this is
es_cmdline:				; offset 16: the command line, measured with all the rest
	times 240 db 0

es_start:
	cld
	test ebx, ebx
	jnz es_paging
	mov edi, bss_start		; not part of the image: as encrypted, not zero
	mov ecx, bss_end
	sub ecx, edi
	shr ecx, 2
	xor eax, eax
	rep stosd
	; At its start a vCPU finds SEV_INFO in the MSR: bits 31:24 are the C-bit's position.
	mov ecx, MSR_GHCB
	rdmsr
	mov ecx, eax
	shr ecx, 24
	sub ecx, 32			; above 31 on all processors
	xor edx, edx
	bts edx, ecx
	mov [vc_c_bit + 4], edx

	mov edi, page_dirs
	mov eax, 0x83
	xor ecx, ecx
.page:
	mov [edi], eax
	mov [edi + 4], edx
	cmp ecx, DEVICES
	jae .shared
	lea esi, [eax - 0x83]
	cmp esi, shared_start
	jb .next
	cmp esi, shared_end
	jae .next
.shared:
	mov dword [edi + 4], 0
.next:
	add eax, 0x200000
	add edi, 8
	inc ecx
	cmp ecx, 2048
	jb .page

	mov eax, page_dirs + 3
	xor ecx, ecx
.pdpt:
	mov [pdpt + ecx * 8], eax
	mov [pdpt + ecx * 8 + 4], edx
	add eax, 4096
	inc ecx
	cmp ecx, 4
	jb .pdpt
	mov dword [pml4], pdpt + 3
	mov [pml4 + 4], edx

es_paging:
	mov eax, 0x20			; PAE
	mov cr4, eax
	mov eax, pml4
	mov cr3, eax
	mov ecx, MSR_EFER
	rdmsr
	or eax, 0x100			; LME
	wrmsr
	mov eax, cr0
	and eax, ~0x60000000
	or eax, 0x80010001
	mov cr0, eax
	lgdt [gdtr]
	jmp 0x08:es_long

bits 64
es_long:
	mov ax, 0x10
	mov ds, ax
	mov es, ax
	mov ss, ax
	xor eax, eax
	mov fs, ax
	mov gs, ax
	mov eax, pml4
	or rax, [vc_c_bit]
	mov cr3, rax
	test ebx, ebx
	jnz .other
	mov esp, boot_stack_end
	mov edi, 3			; how
	xor esi, esi
	call kernel_main
.halt:
	hlt
	jmp .halt
.other:
	mov eax, ebx
	shl eax, STACK_SHIFT
	lea rsp, [ap_stacks + rax]
	mov edi, ebx
	call kernel_ap
	jmp .halt

section .bss nobits align=8
vc_c_bit: resq 1
