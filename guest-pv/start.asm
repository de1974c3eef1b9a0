; SPDX-License-Identifier: BSD-2-Clause
; Entries of the guest kernel: multiboot 1 and PVH (both 32-bit, paging off, EBX = information), and
; the start of the other CPUs at 0x8000. All end in 64-bit mode with 4 GiB mapped one to one.
default rel
%include "stubs.inc"

MB_MAGIC equ 0x1BADB002
MB_FLAGS equ 0x3
AP_BASE equ 0x8000
STACK_SHIFT equ 14

extern kernel_main
extern kernel_ap
extern interrupt

section .boot progbits alloc exec nowrite align=4
	dd MB_MAGIC, MB_FLAGS, -(MB_MAGIC + MB_FLAGS)

; ELF note: Xen, type 18 (XEN_ELFNOTE_PHYS32_ENTRY): where to start in 32-bit mode
section .note.pvh note alloc align=4
	dd 4, 4, 18
	db "Xen", 0
	dd pvh_entry

section .text exec
bits 32
global mb_entry
mb_entry:
	mov edi, 1
	jmp enter
pvh_entry:
	mov edi, 2
enter:
	cli
	cld
	mov esp, boot_stack_end
	mov ebp, ebx
	; four page directories of 2 MiB pages
	mov eax, 0x83
	mov ecx, 2048
	mov esi, page_dirs
.fill:
	mov [esi], eax
	mov dword [esi + 4], 0
	add eax, 0x200000
	add esi, 8
	loop .fill
	mov eax, page_dirs + 3
	mov [pdpt], eax
	add eax, 0x1000
	mov [pdpt + 8], eax
	add eax, 0x1000
	mov [pdpt + 16], eax
	add eax, 0x1000
	mov [pdpt + 24], eax
	mov dword [pml4], pdpt + 3
	call to_long
	lgdt [gdtr]
	jmp 0x08:long_entry

; PAE, page tables, EFER.LME and NXE, paging
to_long:
	mov eax, cr4
	or eax, 0x20
	mov cr4, eax
	mov eax, pml4
	mov cr3, eax
	mov ecx, 0xC0000080
	rdmsr
	or eax, 0x100
	wrmsr
	mov eax, cr0
	and eax, ~0x60000000
	or eax, 0x80010001
	mov cr0, eax
	ret

bits 64
long_entry:
	mov ax, 0x10
	mov ds, ax
	mov es, ax
	mov ss, ax
	xor eax, eax
	mov fs, ax
	mov gs, ax
	mov rsp, boot_stack_end
	mov esi, ebp
	call kernel_main		; (how, information)
.halt:
	hlt
	jmp .halt

; Copied to AP_BASE: 16-bit, then straight to 64-bit mode.
global ap_blob, ap_blob_end
ap_blob:
bits 16
	cli
	cld
	mov ax, cs
	mov ds, ax
	o32 lgdt [ap_gdtr - ap_blob]
	mov eax, cr0
	or al, 1
	mov cr0, eax
	jmp dword 0x18:(AP_BASE + ap_32 - ap_blob)
bits 32
ap_32:
	mov ax, 0x10
	mov ds, ax
	mov es, ax
	mov ss, ax
	mov ecx, 1
	mov eax, ap_next
	lock xadd [eax], ecx		; our number
	mov ebp, ecx
	mov esp, ecx
	shl esp, STACK_SHIFT
	add esp, ap_stacks		; the end of stack n - 1; CPU 0 has its own
	mov eax, to_long
	call eax
	jmp 0x08:ap_long
ap_gdtr:
	dw 31
	dd gdt
ap_blob_end:

bits 64
ap_long:
	mov edi, ebp
	mov eax, ebp
	shl rax, STACK_SHIFT
	mov rsp, ap_stacks
	add rsp, rax
	call kernel_ap			; (number)
.halt:
	hlt
	jmp .halt

global idt_stubs
INTERRUPT_STUBS idt_stubs, 256, interrupt

section .data align=16
gdt:
	dq 0
	dq 0x00AF9B000000FFFF		; 0x08: 64-bit code
	dq 0x00CF93000000FFFF		; 0x10: data
	dq 0x00CF9B000000FFFF		; 0x18: 32-bit code
global gdtr
gdtr:
	dw 31
	dq gdt
global ap_next
ap_next:
	dd 1

section .bss nobits align=4096
global pml4, pdpt, page_dirs, boot_stack, boot_stack_end, ap_stacks
pml4: resb 4096
pdpt: resb 4096
page_dirs: resb 4 * 4096
boot_stack: resb 16384
boot_stack_end:
ap_stacks: resb 64 << STACK_SHIFT
