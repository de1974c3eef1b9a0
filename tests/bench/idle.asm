; SPDX-License-Identifier: BSD-2-Clause
; A VM that does nothing but be there: halts for ever, interrupts on, none of which can come.
; Multiboot Specification 0.6.96, 3.1 and 3.2.
bits 32
section .text
	align 4
	dd 0x1BADB002, 0, -0x1BADB002
global start
start:
	sti
	hlt
	jmp start
