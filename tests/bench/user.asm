; SPDX-License-Identifier: BSD-2-Clause
; The first process of a Linux guest, whose first instruction is at an address of its own: a
; breakpoint there says how far the kernel's boot is.
bits 64
section .text
global start
start:
	mov eax, 1		; write(1, text, length)
	mov edi, 1
	lea rsi, [rel text]
	mov edx, text.end - text
	syscall
.pause:
	mov eax, 34		; pause()
	syscall
	jmp .pause
text:	db "bench user", 10
.end:
