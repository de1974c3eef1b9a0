; SPDX-License-Identifier: BSD-2-Clause
; Entry points of the 256 vectors, 16 bytes each: push a zero where the CPU
; pushes no error code, push the vector, go on in common code. The layout of
; what is saved is struct trap_frame (arch/x86/traps.h).
section .text progbits alloc exec nowrite align=16
bits 64
extern trap_dispatch
global trap_stubs

align 16
trap_stubs:
%assign v 0
%rep 256
	align 16, db 0xcc
	; APM vol. 2, 8.2: #DF #TS #NP #SS #GP #PF #AC #CP #HV(none) #VC #SX
	%if v != 8 && (v < 10 || v > 14) && v != 17 && v != 21 && v != 29 && v != 30
	push 0
	%endif
	push strict dword v
	jmp strict near trap_common
%assign v v+1
%endrep

align 16
trap_common:
	cld
	push rax
	push rcx
	push rdx
	push rbx
	push rbp
	push rsi
	push rdi
	push r8
	push r9
	push r10
	push r11
	push r12
	push r13
	push r14
	push r15
	mov rdi, rsp
	call trap_dispatch
	pop r15
	pop r14
	pop r13
	pop r12
	pop r11
	pop r10
	pop r9
	pop r8
	pop rdi
	pop rsi
	pop rbp
	pop rbx
	pop rdx
	pop rcx
	pop rax
	add rsp, 16
	iretq
