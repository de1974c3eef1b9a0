; SPDX-License-Identifier: BSD-2-Clause
%include "offsets.inc"

; void svm_loop(struct vcpu *v, paddr_t vmcb_pa, struct vmcb *b)
; void svm_loop_guarded(the same)
;
; Enters the guest again and again until svm_prepare() or svm_exit() ask to
; leave. Called with GIF clear and RFLAGS.IF set: so a pending host interrupt
; ends guest mode (APM vol. 2, 15.21.1: V_INTR_MASKING) and waits outside.
;
; VMRUN switches RAX, RSP, RIP and RFLAGS; all other general registers are ours
; to switch. The guest's RAX stays in the VMCB: RAX holds the VMCB's address.
;
; svm_loop_guarded() is for "mitigations = yes": nothing that the guest has left
; in a register or in the return predictor can steer what the hypervisor does
; speculatively. 32 calls overwrite the predictor (AMD, "Software techniques for
; managing speculation", mitigation V2-3).
bits 64
default rel
section .text.hot exec align=16

extern svm_exit
extern svm_prepare

; One entry of the return predictor; the call never returns.
%macro FILL_RETURN 0
	call %%over
	int3
%%over:
%endmacro

%macro CLEAR_GUEST_TRACES 0
%rep 32
	FILL_RETURN
%endrep
	add rsp, 32 * 8
	xor ecx, ecx
	xor edx, edx
	xor ebx, ebx
	xor ebp, ebp
	xor r8d, r8d
	xor r9d, r9d
	xor r10d, r10d
	xor r11d, r11d
	xor r12d, r12d
	xor r13d, r13d
	xor r14d, r14d
	xor r15d, r15d
	lfence
%endmacro

; The hypervisor arms no debug trap. One that arrives here is left over from the
; guest (AMD's CPUs drop it at #VMEXIT, Bochs does not): the trap handler goes on.
section .extable progbits alloc noexec nowrite align=4
section .text.hot
%macro RESUME_AFTER_DEBUG_TRAP 1
[section .extable]
	dd %1 - $
	dd %1 - $
__SECT__
%endmacro

%macro SVM_LOOP 2
global %1:function
%1:
	push rbp
	push rbx
	push r12
	push r13
	push r14
	push r15
	push rdx		; [rsp + 16] struct vmcb *
	push rsi		; [rsp + 8]  its physical address
	push rdi		; [rsp]      struct vcpu *; RSP is now a multiple of 16
%%prepare:
	mov rdi, [rsp]
	call svm_prepare
	test eax, eax
	jnz %%leave

	align 16
%%enter:
	mov rdi, [rsp]
	mov rax, [rsp + 8]
	mov rcx, [rdi + VCPU_RCX]
	mov rdx, [rdi + VCPU_RDX]
	mov rbx, [rdi + VCPU_RBX]
	mov rbp, [rdi + VCPU_RBP]
	mov rsi, [rdi + VCPU_RSI]
	mov r8, [rdi + VCPU_R8]
	mov r9, [rdi + VCPU_R9]
	mov r10, [rdi + VCPU_R10]
	mov r11, [rdi + VCPU_R11]
	mov r12, [rdi + VCPU_R12]
	mov r13, [rdi + VCPU_R13]
	mov r14, [rdi + VCPU_R14]
	mov r15, [rdi + VCPU_R15]
	mov rdi, [rdi + VCPU_RDI]
	vmrun			; address in RAX
%%after:
	RESUME_AFTER_DEBUG_TRAP %%after
	mov rax, [rsp]
	mov [rax + VCPU_RDI], rdi
	mov [rax + VCPU_RSI], rsi
	mov [rax + VCPU_RCX], rcx
	mov [rax + VCPU_RDX], rdx
	mov [rax + VCPU_RBX], rbx
	mov [rax + VCPU_RBP], rbp
	mov [rax + VCPU_R8], r8
	mov [rax + VCPU_R9], r9
	mov [rax + VCPU_R10], r10
	mov [rax + VCPU_R11], r11
	mov [rax + VCPU_R12], r12
	mov [rax + VCPU_R13], r13
	mov [rax + VCPU_R14], r14
	mov [rax + VCPU_R15], r15
	mov rdi, rax
	mov rsi, [rsp + 16]
%if %2
	CLEAR_GUEST_TRACES
%endif
	call svm_exit		; the hazards, or SVM_LEAVE: the sign bit
	test eax, eax
	jz %%enter
	jns %%prepare
%%leave:
	add rsp, 24
	pop r15
	pop r14
	pop r13
	pop r12
	pop rbx
	pop rbp
	ret
%endmacro

SVM_LOOP svm_loop, 0
SVM_LOOP svm_loop_guarded, 1
