#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Build the bare-metal test program: build.sh OUTDIR makes OUTDIR/sevtest.bin
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$1
mkdir -p "$out"
nasm -f elf64 -o "$out/start.o" "$here/start.asm"
nasm -f elf64 -o "$out/guest.o" "$here/guest.asm"
cc -std=gnu17 -O1 -Wall -Wextra -Werror -ffreestanding -fno-pic -fno-pie -mno-red-zone -mno-sse \
	-mno-mmx -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables \
	-mcmodel=large -c -o "$out/main.o" "$here/main.c"
ld -m elf_x86_64 -nostdlib -z max-page-size=4096 -z noexecstack --no-warn-rwx-segments -T "$here/link.ld" -o "$out/sevtest.elf" \
	"$out/start.o" "$out/main.o" "$out/guest.o"
objcopy -O binary "$out/sevtest.elf" "$out/sevtest.bin"
