; SPDX-License-Identifier: GPL-2.0-or-later
; Entry of the bare-metal test program: multiboot (flat binary) to long mode with the first 4 GiB
; mapped 1:1; exception entry; the instructions that C cannot say.
	bits 32
	section .header
	extern __bss_start, __end, main, fault_c

MB_MAGIC equ 0x1badb002
MB_FLAGS equ 0x10000			; the address fields are valid
	align 4
header:	dd MB_MAGIC, MB_FLAGS, -(MB_MAGIC + MB_FLAGS)
	dd header, header, __bss_start, __end, start

	section .text
	global start
start:	cli
	mov [boot_magic], eax
	mov ebp, ebx
	mov esp, stack_top
	mov edi, __bss_start
	mov ecx, __end
	sub ecx, edi
	xor eax, eax
	rep stosb
	mov edi, pml4
	mov eax, pdpt
	or eax, 3
	mov [edi], eax
	mov edi, pdpt
	mov eax, pds + 3
	mov ecx, 4
.pdpt:	mov [edi], eax
	add eax, 4096
	add edi, 8
	loop .pdpt
	mov edi, pds
	mov eax, 0x83			; 2 MiB pages, writable
	mov ecx, 2048
.pd:	mov [edi], eax
	add eax, 0x200000
	add edi, 8
	loop .pd
	mov eax, cr4
	or eax, 0x40620			; OSXSAVE, OSFXSR, OSXMMEXCPT, PAE
	mov cr4, eax
	mov eax, pml4
	mov cr3, eax
	mov ecx, 0xc0000080
	rdmsr
	or eax, 0x1901			; SVME, NXE, LME, SCE
	wrmsr
	mov eax, 0x80000033
	mov cr0, eax
	lgdt [gdtr]
	jmp 8:long_mode
	bits 64
long_mode:
	mov ax, 16
	mov ds, ax
	mov es, ax
	mov ss, ax
	mov fs, ax
	mov gs, ax
	mov ax, 24
	ltr ax
	mov edi, [abs boot_magic]
	mov esi, ebp
	call main
.halt:	cli
	hlt
	jmp .halt

; ---- exceptions: a fault inside a guarded access resumes at [fault_resume] --------------------
	global stubs
%macro STUB 1
	align 16
	%if %1 == 8 || (%1 >= 10 && %1 <= 14) || %1 == 17 || %1 == 29 || %1 == 30
	%else
	push 0
	%endif
	push %1
	jmp trapped
%endmacro
	align 16
stubs:
%assign i 0
%rep 32
	STUB i
%assign i i+1
%endrep
trapped:	push rax
	mov rax, [rsp + 8]
	mov [rel fault_vector], rax
	mov rax, [rel fault_resume]
	test rax, rax
	jz .fatal
	mov [rsp + 24], rax
	pop rax
	add rsp, 16
	iretq
.fatal:	mov rdi, [rsp + 8]
	mov rsi, [rsp + 16]
	mov rdx, [rsp + 24]
	call fault_c

	global irq_stub
irq_stub:
	push rax
	mov rax, 0xfee000b0
	mov dword [rax], 0		; EOI
	inc qword [rel irq_count]
	pop rax
	iretq

%macro GUARD 1
	lea rax, [rel %1]
	mov [rel fault_resume], rax
	mov qword [rel fault_vector], -1
%endmacro

; uint64_t try_rdmsr(uint32_t msr); fault_vector says -1 or the exception
	global try_rdmsr, try_wrmsr, try_read, svm_run, svm_save, svm_load
try_rdmsr:
	GUARD .out
	mov ecx, edi
	xor eax, eax
	xor edx, edx
	rdmsr
	shl rdx, 32
	or rax, rdx
	mov [rel scratch], rax
.out:	mov qword [rel fault_resume], 0
	mov rax, [rel scratch]
	ret

; void try_wrmsr(uint32_t msr, uint64_t value)
try_wrmsr:
	GUARD .out
	mov ecx, edi
	mov eax, esi
	mov rdx, rsi
	shr rdx, 32
	wrmsr
.out:	mov qword [rel fault_resume], 0
	ret

; uint8_t try_read(const void *)
try_read:
	GUARD .out
	xor eax, eax
	mov al, [rdi]
.out:	mov qword [rel fault_resume], 0
	ret

svm_save:	mov rax, rdi
	vmsave
	ret
svm_load:	mov rax, rdi
	vmload
	ret

; void svm_run(uint64_t vmcb_pa, uint8_t *host_save_area or NULL)
; Stores the callee-saved registers into the host save area, runs, keeps what came back in
; exit_regs (RCX RDX RBX RBP RSI RDI R8..R15) and the XMM0 and XMM15 of after the exit.
svm_run:	push rbx
	push rbp
	push r12
	push r13
	push r14
	push r15
	pushfq
	test rsi, rsi
	jz .plain
	mov [rsi + 0x318], rbx
	mov [rsi + 0x328], rbp
	mov [rsi + 0x360], r12
	mov [rsi + 0x368], r13
	mov [rsi + 0x370], r14
	mov [rsi + 0x378], r15
.plain:	mov rax, rdi
	clgi
	cmp byte [rel host_if], 0
	je .go
	sti
.go:	vmrun
	cli
	mov [rel exit_regs], rcx
	mov [rel exit_regs + 8], rdx
	mov [rel exit_regs + 16], rbx
	mov [rel exit_regs + 24], rbp
	mov [rel exit_regs + 32], rsi
	mov [rel exit_regs + 40], rdi
	mov [rel exit_regs + 48], r8
	mov [rel exit_regs + 56], r9
	mov [rel exit_regs + 64], r10
	mov [rel exit_regs + 72], r11
	mov [rel exit_regs + 80], r12
	mov [rel exit_regs + 88], r13
	mov [rel exit_regs + 96], r14
	mov [rel exit_regs + 104], r15
	movdqu [rel exit_xmm], xmm0
	movdqu [rel exit_xmm + 16], xmm15
	stgi
	popfq
	pop r15
	pop r14
	pop r13
	pop r12
	pop rbp
	pop rbx
	ret

	section .data
	align 16
	global gdt, gdtr, fault_vector, fault_resume, irq_count, exit_regs, exit_xmm, host_if
gdt:	dq 0, 0x00af9b000000ffff, 0x00cf93000000ffff
	dq 0x0000890000000067, 0	; TSS at 0: never used
gdtr:	dw gdtr - gdt - 1
	dq gdt
fault_vector: dq 0
fault_resume: dq 0
irq_count: dq 0
scratch: dq 0
host_if: dq 0
boot_magic: dd 0

	section .bss
	alignb 4096
	global pml4, pdpt
pml4:	resb 4096
pdpt:	resb 4096
pds:	resb 4096 * 4
exit_regs: resq 14
exit_xmm: resb 32
	alignb 16
	resb 16384
stack_top:
