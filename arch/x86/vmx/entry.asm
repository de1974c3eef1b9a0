; SPDX-License-Identifier: BSD-2-Clause
%include "offsets.inc"

; void vmx_loop(struct vcpu *v, struct vmx_vcpu *vx)
; void vmx_loop_guarded(the same)
;
; Enters the guest again and again until vmx_prepare() or vmx_exit() ask to
; leave. Called with interrupts off and v's VMCS current. An external interrupt
; that waits ends guest mode at once (SDM vol. 3, 27.7.5), so a hazard that is set
; after the test comes with an exit.
;
; VM entry and exit switch RSP, RIP and RFLAGS; all other general registers are
; ours to switch.
;
; vmx_loop_guarded() is for "mitigations = yes": see arch/x86/mitigations.c.
bits 64
default rel
section .text.hot exec align=16

extern vmx_exit
extern vmx_prepare
extern vmx_entry_failed
extern mitigations

; One entry of the return predictor; the call never returns.
%macro FILL_RETURN 0
	call %%over
	int3
%%over:
%endmacro

; Nothing that the guest has left in a register or in the return predictor can steer
; what the hypervisor does speculatively (Intel, "Retpoline", RSB stuffing; 32 entries).
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

%macro VMX_LOOP 3			; name, guarded, name of the exit point
global %1:function
global %3
%1:
	push rbp
	push rbx
	push r12
	push r13
	push r14
	push r15
	sub rsp, 8
	push rsi		; [rsp + 8]  struct vmx_vcpu *
	push rdi		; [rsp]      struct vcpu *; RSP is now a multiple of 16
	cmp [rsi + VMX_HOST_RSP], rsp
	je %%prepare
	mov [rsi + VMX_HOST_RSP], rsp
	mov eax, FIELD_HOST_RSP
	vmwrite rax, rsp
%%prepare:
	mov rdi, [rsp]
	mov rsi, [rsp + 8]
	call vmx_prepare
	test eax, eax
	jnz %%leave

	align 16
%%enter:
%if %2
	call before_entry
%endif
	mov rdi, [rsp]
	mov rax, [rsp + 8]
	cmp byte [rax + VMX_LAUNCHED], 0
	mov rax, [rdi + VCPU_RAX]
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
	je %%launch
	vmresume
	jmp %%failed
%%launch:
	vmlaunch
%%failed:
	mov rdi, [rsp]
	mov rsi, [rsp + 8]
	call vmx_entry_failed
	jmp %%leave

	align 16
%3:
	push rax
	mov rax, [rsp + 8]
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
	pop qword [rax + VCPU_RAX]
	mov rdi, rax
	mov rsi, [rsp + 8]
	mov byte [rsi + VMX_LAUNCHED], 1
%if %2
	CLEAR_GUEST_TRACES
%endif
	call vmx_exit		; the hazards, or VMX_LEAVE: the sign bit
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

VMX_LOOP vmx_loop, 0, vmx_exit_point
VMX_LOOP vmx_loop_guarded, 1, vmx_exit_point_guarded

; Buffers of the CPU and the first-level cache, where the table in mitigations.c says
; so; RSP is not a multiple of 16 here, and nothing is called.
%define MITIGATION_VERW 0
%define MITIGATION_L1D 1
before_entry:
	cmp byte [mitigations + MITIGATION_L1D], 0
	je .no_l1d
	mov ecx, 0x10b		; IA32_FLUSH_CMD, bit 0: L1D_FLUSH
	mov eax, 1
	xor edx, edx
	wrmsr
.no_l1d:
	cmp byte [mitigations + MITIGATION_VERW], 0
	je .no_verw
	verw [verw_operand]
.no_verw:
	ret

; void vmx_call_handler(u64 entry)
;
; Runs an entry point of the IDT as the CPU would for an event that came now, with
; interrupts off: the frame of an interrupt by hand, then an indirect call, which
; pushes the return address as its last word. The handler's IRET comes back behind the
; call; it also opens NMIs again after an NMI exit. RSP is restored from RBP, which
; handlers preserve, and not taken from what IRET popped.
global vmx_call_handler:function
vmx_call_handler:
	push rbp
	mov rbp, rsp
	and rsp, -16		; as the CPU aligns (SDM vol. 3, 6.14.2)
	push SELECTOR_DATA
	push rbp
	pushfq
	push SELECTOR_CODE
	call rdi
	mov rsp, rbp
	pop rbp
	ret

section .rodata
verw_operand:
	dw SELECTOR_DATA
