; SPDX-License-Identifier: BSD-2-Clause
; Entry of the first-stage loader (abi.h, docs/sev-launch.md): 32-bit protected mode, flat, paging
; off, EBX the vCPU's number. With paging off all data is private.
;
; This page and the next one stay reserved in the guest: application processors come here at their
; first start-up IPI, long after the loader's other memory went to the kernel.

%include "stubs.inc"

%define MSR_EFER	0xC0000080
%define MSR_GHCB	0xC0010130
%define MSR_SEV_STATUS	0xC0010131
%define SEV_AND_ES	3
%define GHCB_SEV_INFO	0x002
%define GHCB_AP_HOLD	0x006
%define GHCB_TERMINATE	0x100
%define REASON_SET	6
%define REASON_PLATFORM	1
%macro VMGEXIT 0
	db 0xF3, 0x0F, 0x01, 0xD9
%endmacro

extern bss_start, bss_end, image_end, loader_main, loader_trap
global ldr_start, c_mask, ghcb_offer, trap_stubs, kernel_enter
global LDR_INFO_PAGE, LDR_SECRET_AREA, LDR_CMDLINE_PAGE

; Addresses that the header names; guest.ld's region for image and zeros ends below.
LDR_INFO_PAGE		equ 0x1E0000
LDR_CMDLINE_PAGE	equ 0x1E2000
LDR_SECRET_AREA		equ 0x1E4000
LDR_SECRET_SIZE		equ 0x4000

section .entry progbits alloc exec write
bits 32
ldr_start:
	jmp near entry
	times 8 - ($ - ldr_start) nop
	db "RVLNLR1", 0
	dd entry
	dd bss_end
	dd LDR_INFO_PAGE
	dd LDR_SECRET_AREA
	dd LDR_SECRET_SIZE
	dd LDR_CMDLINE_PAGE

entry:
	cli
	cld
	lgdt [gdt_pointer]
	test ebx, ebx
	jnz ap

	; What lies in memory that nobody encrypted for us is noise.
	mov edi, bss_start
	mov ecx, bss_end
	sub ecx, edi
	shr ecx, 2
	xor eax, eax
	rep stosd

	; The CPU's own word; the hypervisor cannot intercept it (APM vol. 2, 15.34.10).
	mov ecx, MSR_SEV_STATUS
	rdmsr
	and eax, SEV_AND_ES
	cmp eax, SEV_AND_ES
	jne refuse

	; The hypervisor's word: versions and C-bit position. The position is proven below.
	mov ecx, MSR_GHCB
	mov eax, GHCB_SEV_INFO
	xor edx, edx
	wrmsr
	VMGEXIT
	rdmsr
	mov [ghcb_offer], eax
	mov [ghcb_offer + 4], edx
	mov ecx, eax
	and eax, 0xFFF
	cmp eax, 1
	jne refuse
	shr ecx, 24
	sub ecx, 32
	cmp ecx, 20		; bits 32..51
	jae refuse
	xor ebp, ebp
	bts ebp, ecx
	mov [c_mask + 4], ebp	; C-bit, upper half

	; A number that the hypervisor cannot know, written in private memory.
	mov ecx, 32
.random:
	rdrand eax
	jc .got
	loop .random
	jmp refuse
.got:
	mov [probe], eax
	mov esi, eax

	; The low 4 GiB to themselves with the C-bit, and once more from 4 GiB on without.
	mov edi, page_dirs
	mov eax, 0x83		; present, writable, 2 MiB
	mov ecx, 2048
.page:
	mov [edi], eax
	mov [edi + 4], ebp
	mov [edi + 4 * 4096], eax
	add eax, 0x200000
	add edi, 8
	loop .page
	mov edi, pdpt
	mov eax, page_dirs + 3
	mov ecx, 8
.table:
	mov [edi], eax
	mov [edi + 4], ebp
	add eax, 4096
	add edi, 8
	loop .table
	mov dword [pml4], pdpt + 3
	mov [pml4 + 4], ebp

	mov eax, (1 << 5) | (1 << 9) | (1 << 10)	; PAE, OSFXSR, OSXMMEXCPT: SHA-256 uses SSE
	mov cr4, eax
	mov eax, pml4		; the C-bit follows: CR3 has 32 bits here
	mov cr3, eax
	mov ecx, MSR_EFER
	rdmsr
	or eax, 1 << 8		; LME
	wrmsr
	mov eax, cr0
	and eax, ~0x0C		; EM, TS
	or eax, 0x80010003	; PG, WP, MP, PE
	mov cr0, eax
	jmp 0x10:long_mode

bits 64
long_mode:
	mov eax, 0x18
	mov ds, eax
	mov es, eax
	mov ss, eax
	mov fs, eax
	mov gs, eax
	; Under any other address bit this reads what the hypervisor put there.
	cmp esi, [probe]
	jne refuse64
	mov rax, pml4
	or rax, [c_mask]
	mov cr3, rax
	mov rsp, stack_end
	call loader_main	; does not return

bits 32
refuse:
bits 64
refuse64:
	; The same bytes in both modes.
	mov ecx, MSR_GHCB
	mov eax, GHCB_TERMINATE | REASON_SET << 12 | REASON_PLATFORM << 16
	xor edx, edx
	wrmsr
	VMGEXIT
.stop:
	hlt
	jmp short .stop

; void kernel_enter(u64 params, u64 entry): the 64-bit boot protocol. The shared view goes first.
kernel_enter:
	mov rax, rsi
	mov rsi, rdi
	mov rdi, pdpt + 4 * 8
	mov ecx, 4
	xor ebx, ebx
.unmap:
	mov [rdi], rbx
	add rdi, 8
	loop .unmap
	mov rdi, cr3
	mov cr3, rdi
	mov rdx, cr4
	and rdx, ~((1 << 9) | (1 << 10))
	mov cr4, rdx
	xor ebp, ebp
	xor edi, edi
	jmp rax

; --- application processors ---
; From here to real mode, with code and data segments of 64 KiB based on this page and the next.
bits 32
ap:
	jmp 0x20:ap16 - ldr_start
bits 16
ap16:
	mov ax, 0x28
	mov ds, ax
	mov es, ax
	mov ss, ax
	mov fs, ax
	mov gs, ax
.look:
	; The kernel has put the address of its code there, or this start-up IPI is no kernel's.
	cmp dword [0], 0
	jne .go
	mov ecx, MSR_GHCB
	mov eax, GHCB_AP_HOLD
	xor edx, edx
	wrmsr
	VMGEXIT
	jmp .look
.go:
	o32 lidt [cs:real_idt - ldr_start]
	xor eax, eax
	xor ebx, ebx
	xor ecx, ecx
	xor edx, edx
	xor esi, esi
	mov edi, cr0
	and edi, ~1
	mov cr0, edi
	; CS and DS keep their bases until they are loaded.
	jmp far [0]

align 8
real_idt:
	dw 0x3FF
	dd 0
gdt_pointer:
	dw gdt_end - gdt - 1
	dd gdt
	dd 0			; upper half, should a 64-bit LGDT read it
align 8
gdt:
	dq 0
	dq 0
	dq 0x00AF9B000000FFFF	; 10 code, 64 bits
	dq 0x00CF93000000FFFF	; 18 data
	dq 0x00009B100000FFFF	; 20 code, 16 bits, this page
	dq 0x000093101000FFFF	; 28 data, 16 bits, the AP jump table
gdt_end:
	times 4096 - ($ - ldr_start) db 0
jump_table:			; u16 IP, u16 CS: written by the kernel
	times 4096 db 0

section .text
bits 64
INTERRUPT_STUBS trap_stubs, 32, loader_trap

section .bss
alignb 4096
pml4:		resb 4096
pdpt:		resb 4096
page_dirs:	resb 8 * 4096	; private view, shared view
		resb 16384
stack_end:
c_mask:		resq 1
ghcb_offer:	resq 1
probe:		resd 1
