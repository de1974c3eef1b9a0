; SPDX-License-Identifier: GPL-2.0-or-later
; A 64 KiB ROM that makes the CPUs of the SEV machine execute WBINVD on request, so that the
; security processor's flush rules can be exercised with the real instruction.
;
; All CPUs halt. An NMI wakes them; each CPU whose bit is set in the mask at MASK executes
; WBINVD and adds one to its counter. Build: nasm -f bin -o rom.bin rom.asm

bits 16
org 0

MASK	equ 0x600	; dword: bit n = APIC id n executes WBINVD
ALIVE	equ 0x604	; dword: CPUs that are ready
COUNT	equ 0x610	; dword for each APIC id: WBINVDs executed
SIPI_PAGE equ 0x1000

X2APIC_BASE equ 0x1b
X2APIC_ID equ 0x802
X2APIC_SVR equ 0x80f
X2APIC_ICR equ 0x830
X2APIC_LINT1 equ 0x836

start:
	cli
	xor	ax, ax
	mov	ds, ax
	mov	word [2 * 4], nmi
	mov	word [2 * 4 + 2], 0xf000
	; SIPI target: jmp 0xf000:ap_start
	mov	byte [SIPI_PAGE], 0xea
	mov	word [SIPI_PAGE + 1], ap_start
	mov	word [SIPI_PAGE + 3], 0xf000
	mov	edi, 1			; this is the boot CPU
	jmp	setup
ap_start:
	xor	edi, edi
setup:
	cli
	xor	ax, ax
	mov	ds, ax
	mov	ss, ax
	mov	ecx, X2APIC_BASE
	rdmsr
	or	eax, 0xc00
	wrmsr
	mov	ecx, X2APIC_ID
	rdmsr
	shl	ax, 8
	mov	sp, 0x7000
	sub	sp, ax
	mov	ecx, X2APIC_SVR
	xor	edx, edx
	mov	eax, 0x1ff
	wrmsr
	mov	ecx, X2APIC_LINT1
	mov	eax, 0x400		; deliver as NMI, not masked
	wrmsr
	lock inc dword [ALIVE]
	test	edi, edi
	jz	idle
	mov	ecx, X2APIC_ICR
	xor	edx, edx
	mov	eax, 0xc4500		; INIT, all but self
	wrmsr
	mov	eax, 0xc4600 | SIPI_PAGE >> 12
	wrmsr
idle:
	hlt
	jmp	idle

nmi:
	pushad
	push	ds
	xor	ax, ax
	mov	ds, ax
	mov	ecx, X2APIC_ID
	rdmsr
	bt	dword [MASK], eax
	jnc	.out
	wbinvd
	lock inc dword [COUNT + eax * 4]
.out:
	pop	ds
	popad
	iret

	times 0xfff0 - ($ - $$) db 0xff
	jmp	0xf000:start
	times 0x10000 - ($ - $$) db 0xff
