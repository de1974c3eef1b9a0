; SPDX-License-Identifier: GPL-2.0-or-later
; The guest: reads a command number from the shared page, does it, reports and exits by VMGEXIT,
; again and again. Position independent; R15 is the shared page (C=0 view), R14 the private one.
	bits 64
	section .rodata
	global guest_start, guest_end, guest_vectors, guest_irq

SH_CMD equ 0x00				; in: what to do
SH_ARG equ 0x08				; in: argument
SH_RESULT equ 0x10			; out: result
SH_VC_COUNT equ 0x18			; out: #VC seen
SH_VC_CODE equ 0x20			; out: error code of the last
SH_VC_RIP equ 0x28			; out: RIP of the last
SH_VC_SKIP equ 0x30			; in: bytes to skip in the #VC handler
SH_GP_COUNT equ 0x38			; out
SH_IRQ_COUNT equ 0x40			; out
SH_ADDR equ 0x48			; in: address for memory commands
SH_AT equ 0x50				; out: address of the instruction under test
SH_DONE equ 0x58			; out: number of commands done
SH_RESULT2 equ 0x60

	align 4096
guest_start:
entry:	mov rax, [r15 + SH_CMD]
	lea rcx, [rel table]
	movsxd rax, dword [rcx + rax * 4]
	add rax, rcx
	jmp rax
done:	inc qword [r15 + SH_DONE]
	rep vmmcall			; VMGEXIT
	jmp entry

%macro CMD 1
	dd %1 - table
%endmacro
	align 4
table:	CMD done
	CMD c_hlt
	CMD c_pause
	CMD c_cpuid
	CMD c_efer
	CMD c_cr0
	CMD c_cr4
	CMD c_cr8
	CMD c_read
	CMD c_write
	CMD c_rdmsr
	CMD c_wrmsr
	CMD c_regs
	CMD c_inb
	CMD c_invd
	CMD c_sti
	CMD c_cli
	CMD c_shutdown
	CMD c_xgetbv
	CMD c_clts
	CMD c_wbinvd
	CMD c_shadow
	CMD c_readpriv
	CMD c_cr3
	CMD c_xsetbv
	CMD c_lgdt
	CMD c_dr7
	CMD c_dr0
	CMD c_rsp
	CMD c_int

%macro HERE 0
	lea rax, [rel %%here]
	mov [r15 + SH_AT], rax
%%here:
%endmacro

c_hlt:	HERE
	hlt
	jmp done
c_pause:
	HERE
	pause
	jmp done
c_cpuid:
	xor ecx, ecx
	HERE
	mov eax, 0
	cpuid
	mov [r15 + SH_RESULT], rbx
	jmp done
c_efer:	mov ecx, 0xc0000080		; ARG: value to write
	mov eax, [r15 + SH_ARG]
	xor edx, edx
	mov rbx, rax
	HERE
	mov rax, rbx
	wrmsr
	rdmsr
	mov [r15 + SH_RESULT], eax
	jmp done
c_cr0:	mov rbx, [r15 + SH_ARG]
	HERE
	mov cr0, rbx
	mov rbx, cr0
	mov [r15 + SH_RESULT], rbx
	jmp done
c_cr4:	mov rbx, [r15 + SH_ARG]
	HERE
	mov cr4, rbx
	mov rbx, cr4
	mov [r15 + SH_RESULT], rbx
	jmp done
c_cr8:	mov rbx, [r15 + SH_ARG]
	HERE
	mov cr8, rbx
	mov rbx, cr8
	mov [r15 + SH_RESULT], rbx
	jmp done
c_read:	mov rbx, [r15 + SH_ADDR]
	HERE
	mov rbx, [rbx]
	mov [r15 + SH_RESULT], rbx
	jmp done
c_write:
	mov rbx, [r15 + SH_ADDR]
	mov rcx, [r15 + SH_ARG]
	HERE
	mov [rbx], rcx
	jmp done
c_rdmsr:
	mov rcx, [r15 + SH_ADDR]
	HERE
	rdmsr
	mov [r15 + SH_RESULT], eax
	mov [r15 + SH_RESULT + 4], edx
	jmp done
c_wrmsr:
	mov rcx, [r15 + SH_ADDR]
	mov rbx, [r15 + SH_ARG]
	HERE
	mov eax, ebx
	mov rdx, rbx
	shr rdx, 32
	wrmsr
	jmp done
c_regs:	mov rax, [r15 + SH_ARG]		; fill registers, exit, see whether they are there again
	movq xmm0, rax
	movq xmm15, rax
	mov rcx, rax
	mov rdx, rax
	mov rbx, rax
	mov rbp, rax
	mov rsi, rax
	mov rdi, rax
	mov r8, rax
	mov r12, rax
	rep vmmcall
	xor r11d, r11d
	cmp rcx, rax
	setne r11b
	cmp rdx, rax
	jne .bad
	cmp rbx, rax
	jne .bad
	cmp rbp, rax
	jne .bad
	cmp rsi, rax
	jne .bad
	cmp rdi, rax
	jne .bad
	cmp r8, rax
	jne .bad
	cmp r12, rax
	jne .bad
	movq rcx, xmm0
	cmp rcx, rax
	jne .bad
	movq rcx, xmm15
	cmp rcx, rax
	je .good
.bad:	mov r11d, 1
.good:	mov [r15 + SH_RESULT], r11
	jmp done
c_inb:	HERE
	in al, 0x80
	jmp done
c_invd:	HERE
	invd
	jmp done
c_wbinvd:
	HERE
	wbinvd
	jmp done
c_sti:	sti
	nop
	jmp done
c_cli:	cli
	jmp done
c_shadow:
	cli
	HERE
	sti
	rep vmmcall			; exits inside the shadow, which the VMGEXIT itself ends
	cli
	jmp done
c_shutdown:
	lidt [rel null_idt]
	HERE
	ud2
	jmp done
c_xgetbv:
	xor ecx, ecx
	xgetbv
	mov [r15 + SH_RESULT], eax
	jmp done
c_xsetbv:
	xor ecx, ecx
	mov eax, [r15 + SH_ARG]
	xor edx, edx
	xsetbv
	jmp done
c_clts:	HERE
	clts
	mov rbx, cr0
	mov [r15 + SH_RESULT], rbx
	jmp done
c_readpriv:
	mov rbx, [r14]
	mov [r15 + SH_RESULT], rbx
	jmp done
c_cr3:	mov rbx, cr3
	HERE
	mov cr3, rbx
	jmp done
c_lgdt:	sub rsp, 16
	HERE
	sgdt [rsp]
	add rsp, 16
	jmp done

c_dr7:	HERE
	mov dr7, rbx
	jmp done
c_dr0:	mov rbx, [r15 + SH_ARG]
	mov dr0, rbx
	mov rcx, dr0
	mov [r15 + SH_RESULT], rcx
	jmp done

c_rsp:	mov rsp, [r15 + SH_ADDR]
	jmp done
c_int:	HERE
	int 0x50
	jmp done

	align 8
null_idt: dw 0
	dq 0

; ---- handlers ------------------------------------------------------------------------------------
v_vc:	push rax			; +8 error code, +16 RIP
	inc qword [r15 + SH_VC_COUNT]
	mov rax, [rsp + 8]
	mov [r15 + SH_VC_CODE], rax
	mov rax, [rsp + 16]
	mov [r15 + SH_VC_RIP], rax
	add rax, [r15 + SH_VC_SKIP]
	mov [rsp + 16], rax
	pop rax
	add rsp, 8
	iretq
v_gp:	push rax
	inc qword [r15 + SH_GP_COUNT]
	mov rax, [rsp + 16]
	add rax, [r15 + SH_VC_SKIP]
	mov [rsp + 16], rax
	pop rax
	add rsp, 8
	iretq
v_irq:	inc qword [r15 + SH_IRQ_COUNT]
	iretq
v_other:
	ud2

	align 8
guest_vectors: dq v_vc - guest_start, v_gp - guest_start, v_irq - guest_start
guest_end:
