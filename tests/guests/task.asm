; SPDX-License-Identifier: BSD-2-Clause
; A hardware task switch: a far jump to a TSS, which only legacy protected mode has. Multiboot 1.
; On a machine that offers it the new task ends the guest with code 7.
bits 32
section .text

	align 4
	dd 0x1BADB002, 0, -0x1BADB002

global start
start:
	mov eax, old_tss
	mov edi, gdt + 24
	call place
	mov eax, new_tss
	mov edi, gdt + 32
	call place
	lgdt [gdtr]
	jmp 8:loaded
loaded:
	mov ax, 16
	mov ds, ax
	mov es, ax
	mov ss, ax
	mov esp, stack
	mov ax, 24
	ltr ax
	mov al, '!'		; on COM1: so far all went well
	mov dx, 0x3f8
	out dx, al
	jmp 32:0

new_task:
	mov al, 7
	out 0xf4, al
	hlt

; Address EAX into the descriptor at EDI.
place:
	mov [edi + 2], ax
	shr eax, 16
	mov [edi + 4], al
	mov [edi + 7], ah
	ret

section .data
	align 8
gdt:
	dq 0
	dq 0x00cf9b000000ffff
	dq 0x00cf93000000ffff
	dq 0x0000890000000067	; available 32-bit TSS
	dq 0x0000890000000067
gdtr:
	dw $ - gdt - 1
	dd gdt
	align 4
old_tss:
	times 26 dd 0
new_tss:
	dd 0, stack, 16, 0, 0, 0, 0
	dd 0, new_task, 2, 0, 0, 0, 0, stack, 0, 0, 0
	dd 16, 8, 16, 16, 16, 16, 0
	dd 0x680000

section .bss
	align 16
	resb 4096
stack:
