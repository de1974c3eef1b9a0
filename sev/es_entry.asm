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

%macro FILL_RETURN 0
	call %%over
	int3
%%over:
%endmacro

%macro ES_ENTER 2
%1:
	mov [rsi + VMSA_RBX], rbx
	mov [rsi + VMSA_RBP], rbp
	mov [rsi + VMSA_R12], r12
	mov [rsi + VMSA_R13], r13
	mov [rsi + VMSA_R14], r14
	mov [rsi + VMSA_R15], r15
	mov rax, rdi
	vmrun			; address in RAX
%if %2
%rep 32
	FILL_RETURN
%endrep
	add rsp, 32 * 8
%endif
	ret
%endmacro

ES_ENTER es_enter, 0
ES_ENTER es_enter_guarded, 1
