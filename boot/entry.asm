; SPDX-License-Identifier: BSD-2-Clause
; The two entries of the image. Both find out where they were loaded, build the
; first page tables (first 4 GiB at 0 and in the direct map, the image at its
; link address, one area of per-CPU variables) and call boot_main() there.
%include "boot/image.inc"

extern boot_main, image_start, image_end

; The multiboot2 header (Multiboot2 specification 2.0, 3.1) and ours, which
; ravelin.efi reads. In the first 32 KiB of the file, as the specification asks.
section .boot.header progbits alloc exec nowrite align=16
image_header:
	db "RAVELIN", 0
	dd REL(entry64)			; from the image's start
	dd 1				; version of this header and of boot_info
	align 8
mb2_header:
	dd 0xe85250d6, 0, mb2_end - mb2_header
	dd 0x100000000 - (0xe85250d6 + 0 + mb2_end - mb2_header)
	; relocatable: anywhere below 4 GiB, at a multiple of 2 MiB, low preferred
	align 8
	dw 10, 0
	dd 24, 0x200000, 0xffe00000, 0x200000, 1
	; modules on page boundaries
	align 8
	dw 6, 0
	dd 8
	align 8
	dw 0, 0
	dd 8
mb2_end:

section .boot.text progbits alloc exec nowrite align=16

; From ravelin.efi: 64-bit mode, paging with the image identity mapped below 4 GiB,
; RDI = physical address of a boot_info below 4 GiB. Goes down to 32-bit mode, so that
; whatever paging the firmware used (five levels, encryption bits) is gone.
bits 64
global entry64
entry64:
	cli
	cld
	mov ebx, edi
	lea rsp, [rel boot_stack_top]
	lea rax, [rel boot_gdt]
	mov [rsp - 8], rax
	mov word [rsp - 10], boot_gdt_end - boot_gdt - 1
	lgdt [rsp - 10]
	sub rsp, 16
	lea rax, [rel .down]
	push 0x18
	push rax
	retfq
bits 32
.down:
	mov ecx, 0x10
	mov ds, ecx
	mov es, ecx
	mov ss, ecx
	mov eax, cr0
	and eax, 0x7fffffff		; PG off: long mode ends
	mov cr0, eax
	mov ecx, MSR_EFER
	xor eax, eax
	xor edx, edx
	wrmsr
	mov eax, EFI_BOOT_MAGIC
	jmp common32

; From a multiboot2 loader: EAX magic, EBX boot information, flat 32-bit protected mode,
; no stack: the second word of the information is reserved and takes the return address.
global mb2_entry
mb2_entry:
	cli
	cld
	cmp eax, MB2_BOOT_MAGIC
	jne .halt
	lea esp, [ebx + 8]
	call .here
.here:
	pop esi
	sub esi, REL(.here)
	lea esp, [esi + REL(boot_stack_top)]
	jmp common32
.halt:
	hlt
	jmp .halt

; EAX magic, EBX its pointer, ESP any stack.
common32:
	mov ebp, eax
	call .here
.here:
	pop esi
	sub esi, REL(.here)		; ESI = load address
	mov edi, ebx			; CPUID overwrites it
	call check_cpu
	mov ebx, edi

	; Tables are adjacent: pml4, pdpt_low, pdpt_high, pd_high, pd_cpu, pt_cpu, pd_low[4].
	lea edi, [esi + REL(boot_tables)]
	push edi
	mov ecx, BOOT_TABLES * 1024
	xor eax, eax
	rep stosd
	pop edi
	lea eax, [edi + 0x1000 + 3]
	mov [edi], eax			; identity
	mov [edi + 256 * 8], eax	; direct map
	add eax, 0x1000
	mov [edi + 511 * 8], eax	; image and per-CPU area
	add eax, 0x1000
	mov [edi + 0x2000 + 510 * 8], eax
	add eax, 0x1000
	mov [edi + 0x2000 + 511 * 8], eax
	add eax, 0x1000
	mov [edi + 0x4000], eax		; pd_cpu[0]: PERCPU_BASE is a multiple of 1 GiB

	; the first 4 GiB: four page directories, 2 MiB pages
	add eax, 0x1000
	xor ecx, ecx
.low:	mov [edi + 0x1000 + ecx * 8], eax
	add eax, 0x1000
	inc ecx
	cmp ecx, 4
	jne .low
	mov eax, 0x83
	xor ecx, ecx
.low2:	mov [edi + 0x6000 + ecx * 8], eax
	add eax, 0x200000
	inc ecx
	cmp ecx, 2048
	jne .low2

	; the image: 16 MiB from the load address
	lea eax, [esi + 0x83]
	xor ecx, ecx
.high:	mov [edi + 0x3000 + ecx * 8], eax
	add eax, 0x200000
	inc ecx
	cmp ecx, 8
	jne .high

	; per-CPU variables of the start
	lea eax, [esi + REL(boot_percpu) + 3]
	xor ecx, ecx
.cpu:	mov [edi + 0x5000 + ecx * 8], eax
	add eax, 0x1000
	inc ecx
	cmp ecx, PERCPU_PAGES
	jne .cpu

	mov cr3, edi
	mov eax, CR4_PAE
	mov cr4, eax
	mov ecx, MSR_EFER
	mov eax, EFER_LME | EFER_NXE
	xor edx, edx
	wrmsr
	mov eax, CR0_START
	mov cr0, eax

	lea eax, [esi + REL(boot_gdt)]
	push eax
	push word boot_gdt_end - boot_gdt - 1
	lgdt [esp]
	add esp, 6
	push dword 8
	lea eax, [esi + REL(long_low)]
	push eax
	retf

; Long mode and NX, or a message on COM1 and a halt: nothing else is there yet to tell.
check_cpu:
	mov eax, 0x80000000
	cpuid
	cmp eax, 0x80000001
	jb .bad
	mov eax, 0x80000001
	cpuid
	and edx, 0x20100000		; LM, NX
	cmp edx, 0x20100000
	jne .bad
	ret
.bad:
	lea esi, [esi + REL(bad_cpu)]
	mov edx, 0x3f8
.next:	lodsb
	test al, al
	jz .halt
	out dx, al
	jmp .next
.halt:
	hlt
	jmp .halt
bad_cpu:
	db "Ravelin: this CPU has no 64-bit mode with NX: it cannot run here", 13, 10, 0

bits 64
long_low:
	mov rax, long_high
	jmp rax
long_high:
	mov ecx, 0x10
	mov ds, ecx
	mov es, ecx
	mov ss, ecx
	xor ecx, ecx
	mov fs, ecx
	mov gs, ecx
	lldt cx
	mov rsp, boot_stack_top
	mov edi, ebp			; boot_main(magic, pointer, load address)
	mov edx, esi
	mov esi, ebx
	call boot_main
.stop:
	cli
	hlt
	jmp .stop

align 8
global boot_gdt
boot_gdt:
	dq 0
	dq 0x00af9b000000ffff		; 0x08: 64-bit code
	dq 0x00cf93000000ffff		; 0x10: data
	dq 0x00cf9b000000ffff		; 0x18: 32-bit code
boot_gdt_end:

; --- application processors -------------------------------------------------------------------
; Copied to a page below 1 MiB, where a start-up IPI begins it in real mode at CS:0.
extern ap_main
global trampoline, trampoline_end, trampoline_cr3, trampoline_cpu_cr3
global trampoline_gdtr, trampoline_jump, trampoline_refused
%define T(sym) (sym - trampoline)
bits 16
trampoline:
	cli
	cld
	mov ax, cs
	mov ds, ax
	o32 lgdt [T(trampoline_gdtr)]
	mov eax, CR4_PAE
	mov cr4, eax
	mov eax, [T(trampoline_cr3)]
	mov cr3, eax
	mov ecx, MSR_EFER
	mov eax, EFER_LME | EFER_NXE
	xor edx, edx
	wrmsr
	mov eax, CR0_START
	mov cr0, eax
	jmp dword far [T(trampoline_jump)]
bits 64
.long:
	mov ecx, 0x10
	mov ds, ecx
	mov es, ecx
	mov ss, ecx
	mov rbx, [rel trampoline_cpu_cr3]
	mov rax, rbx			; tables are below 4 GiB: above is the C-bit or nothing
	shr rax, 32
	jz .enter
	mov ecx, MSR_SYSCFG
	rdmsr
	bt eax, 23			; without memory encryption CR3 would be #GP
	jc .enter
	mov byte [rel trampoline_refused], 1
.wait:	hlt
	jmp .wait
.enter:
	mov rax, ap_high
	jmp rax
align 8
trampoline_gdt:
	dq 0
	dq 0x00af9b000000ffff
	dq 0x00cf93000000ffff
trampoline_cpu_cr3:
	dq 0				; the CPU's own page tables
trampoline_cr3:
	dd 0				; boot_tables, physical
trampoline_gdtr:
	dw 3 * 8 - 1
	dd T(trampoline_gdt)		; the page's address is added
trampoline_jump:
	dd T(trampoline.long)		; the page's address is added
	dw 8
trampoline_refused:
	db 0
trampoline_end:

ap_high:
	mov cr3, rbx
	xor ecx, ecx
	mov fs, ecx
	mov gs, ecx
	lldt cx
	mov rsp, STACK_TOP
	call ap_main
.stop:
	cli
	hlt
	jmp .stop

; switch_space(cr3, stack top, function): the boot CPU leaves the first page tables for good.
global switch_space
switch_space:
	mov cr3, rdi
	mov rsp, rsi
	call rdx
	ud2

section .boot.bss nobits alloc noexec write align=4096
BOOT_TABLES equ 10
global boot_tables, boot_percpu, boot_stack, boot_stack_top
boot_tables: resb BOOT_TABLES * 4096
boot_percpu: resb PERCPU_PAGES * 4096
boot_stack: resb 16384
boot_stack_top:
