; SPDX-License-Identifier: BSD-2-Clause
; Says what it finds in a word of its memory, leaves another there and ends. It never turns paging
; on: the translations that it leaves in the CPU are those of nested paging alone. Multiboot 1.
bits 32
section .text

MOVED equ 0x200000		; no byte of the image is near
LEFT equ 0x57A1E

	align 4
	dd 0x1BADB002, 0, -0x1BADB002

global start
start:
	mov esi, zero
	mov eax, [MOVED]
	test eax, eax
	jz say
	mov esi, left
	cmp eax, LEFT
	je say
	mov esi, other
say:
	mov dword [MOVED], LEFT
	mov dx, 0x3f8		; COM1
.next:
	lodsb
	test al, al
	jz .end
	out dx, al
	jmp .next
.end:
	out 0xf4, al		; code 0
	hlt

section .data
zero:	db "remap: nothing", 10, 0
left:	db "remap: what was left", 10, 0
other:	db "remap: something else", 10, 0
