; SPDX-License-Identifier: BSD-2-Clause
%include "offsets.inc"

; void es_enter(paddr_t vmcb_pa, struct vmsa *host)
;
; VMRUN of an SEV-ES guest (APM vol. 2, 15.35.9). The guest's registers are in its
; VMSA: none is loaded or saved. #VMEXIT loads all of the host's general registers from the
; host save area, so those that a function must preserve are stored there first.
; What the others get is what the page has for them: zero, nothing of the guest.
;
; VMRUN itself saves and loads RAX, RSP, RIP and RFLAGS.
;
; es_enter_guarded() is for "mitigations = yes": the guest has left nothing in the
; return predictor that steers what comes next (see arch/x86/svm/entry.asm).
bits 64
default rel
section .text.hot exec align=16
global es_enter:function, es_enter_guarded:function

; %1: name; %2: overwrite the return predictor, 32 entries; %3: leave R13 out (a test's hook)
%macro ES_ENTER 3
%1:
	mov [rsi + VMSA_RBX], rbx
	mov [rsi + VMSA_RBP], rbp
	mov [rsi + VMSA_R12], r12
%if !%3
	mov [rsi + VMSA_R13], r13
%endif
	mov [rsi + VMSA_R14], r14
	mov [rsi + VMSA_R15], r15
	mov rax, rdi
	vmrun			; address in RAX
%if %2
	mov ecx, 16
%%fill:
	call %%first
	int3
%%first:
	call %%second
	int3
%%second:
	dec ecx
	jnz %%fill
	add rsp, 32 * 8
	lfence
%endif
	ret
%endmacro

ES_ENTER es_enter, 0, 0
ES_ENTER es_enter_guarded, 1, 0

%ifdef ES_TEST_HOOKS
global es_enter_checked:function, es_enter_skip_r13:function
ES_ENTER es_enter_skip_r13, 0, 1

; u64 es_enter_checked(paddr_t vmcb_pa, struct vmsa *host, const u64 pattern[6], enter)
; Bit n of the answer: register n of RBX RBP R12 R13 R14 R15 has lost its pattern.
es_enter_checked:
	push rbx
	push rbp
	push r12
	push r13
	push r14
	push r15
	push rdx
	mov rbx, [rdx]
	mov rbp, [rdx + 8]
	mov r12, [rdx + 16]
	mov r13, [rdx + 24]
	mov r14, [rdx + 32]
	mov r15, [rdx + 40]
	call rcx
	pop rdx
	xor eax, eax
%macro CHECK 2
	xor ecx, ecx
	cmp %1, [rdx + 8 * %2]
	setne cl
	shl ecx, %2
	or eax, ecx
%endmacro
	CHECK rbx, 0
	CHECK rbp, 1
	CHECK r12, 2
	CHECK r13, 3
	CHECK r14, 4
	CHECK r15, 5
	pop r15
	pop r14
	pop r13
	pop r12
	pop rbp
	pop rbx
	ret
%endif
