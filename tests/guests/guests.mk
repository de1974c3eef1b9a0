# SPDX-License-Identifier: BSD-2-Clause
# Test guests: $(O)/guests/NAME.elf (ELF32, multiboot 1 and PVH) and NAME-pvh.elf (ELF64, PVH only).
# Included by the Makefile; `make -f tests/guests/guests.mk O=DIR` builds them alone.

O ?= build
NASM ?= nasm
GUEST_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
GUEST_OUT := $(O)/guests
# The interrupt stubs are guest-pv's.
GUEST_STUBS := $(GUEST_DIR)/../../guest-pv/stubs.inc
GUEST_NASM := $(NASM) -f elf64 -I$(GUEST_DIR)/ -I$(dir $(GUEST_STUBS))
GUEST_CC ?= $(CROSS_COMPILE)gcc
GUEST_NAMES := hello exits hostile bench pvfuzz count pvipi
GUEST_CFLAGS := -std=gnu17 -O2 -g0 -ffreestanding -fno-pic -fno-pie -mcmodel=small -mno-red-zone \
	-mgeneral-regs-only -fno-stack-protector -fcf-protection=none -fno-strict-aliasing \
	-fno-asynchronous-unwind-tables -Wall -Wextra -Wshadow -Werror -I$(GUEST_DIR)
GUEST_ELFS := $(foreach n,$(GUEST_NAMES),$(GUEST_OUT)/$(n).elf $(GUEST_OUT)/$(n)-pvh.elf)

.PHONY: guests
guests: $(GUEST_ELFS) $(GUEST_OUT)/es.bin $(GUEST_OUT)/task.elf \
	$(GUEST_OUT)/remap.elf $(GUEST_OUT)/idle.elf $(GUEST_OUT)/user

$(GUEST_OUT):
	@mkdir -p $@

$(GUEST_OUT)/low.bin: $(GUEST_DIR)/low.asm $(GUEST_DIR)/forms.inc | $(GUEST_OUT)
	@$(NASM) -f bin -I$(GUEST_DIR)/ -o $@ $<

$(GUEST_OUT)/start.o: $(GUEST_DIR)/start.asm $(GUEST_STUBS) $(GUEST_OUT)/low.bin
	@$(GUEST_NASM) -DLOW_BLOB='"$(GUEST_OUT)/low.bin"' -o $@ $<

$(GUEST_OUT)/start-pvh.o: $(GUEST_DIR)/start.asm $(GUEST_STUBS) $(GUEST_OUT)/low.bin
	@$(GUEST_NASM) -DPVH_ONLY -DLOW_BLOB='"$(GUEST_OUT)/low.bin"' -o $@ $<

$(GUEST_OUT)/forms64.o: $(GUEST_DIR)/forms64.asm $(GUEST_DIR)/forms.inc | $(GUEST_OUT)
	@$(GUEST_NASM) -o $@ $<

$(GUEST_OUT)/%.o: $(GUEST_DIR)/%.c $(GUEST_DIR)/rt.h | $(GUEST_OUT)
	@$(GUEST_CC) $(GUEST_CFLAGS) -c -o $@ $<

# The benchmark's payload uses the same runtime.
$(GUEST_OUT)/%.o: $(GUEST_DIR)/../bench/%.c $(GUEST_DIR)/rt.h | $(GUEST_OUT)
	@$(GUEST_CC) $(GUEST_CFLAGS) -c -o $@ $<

$(GUEST_OUT)/%.elf64: $(GUEST_OUT)/%.o $(GUEST_OUT)/start.o $(GUEST_OUT)/rt.o \
		$(GUEST_OUT)/forms64.o $(GUEST_DIR)/guest.ld
	@$(CROSS_COMPILE)ld -nostdlib --build-id=none --no-warn-rwx-segments -z noexecstack \
		-T $(GUEST_DIR)/guest.ld -o $@ $(filter %.o,$^)

# These stand alone.
$(GUEST_OUT)/task.elf $(GUEST_OUT)/remap.elf: $(GUEST_OUT)/%.elf: $(GUEST_DIR)/%.asm | $(GUEST_OUT)
$(GUEST_OUT)/idle.elf: $(GUEST_DIR)/../bench/idle.asm | $(GUEST_OUT)
$(GUEST_OUT)/task.elf $(GUEST_OUT)/remap.elf $(GUEST_OUT)/idle.elf:
	@$(NASM) -f elf32 -o $(@:.elf=.o) $<
	@$(CROSS_COMPILE)ld -m elf_i386 -nostdlib --build-id=none --no-warn-rwx-segments \
		-z noexecstack -N -Ttext 0x100000 -e start -o $@ $(@:.elf=.o)

# A Linux guest's first process, entered where nothing else is ever executed.
$(GUEST_OUT)/user: $(GUEST_DIR)/../bench/user.asm | $(GUEST_OUT)
	@$(NASM) -f elf64 -o $(GUEST_OUT)/user.o $<
	@$(CROSS_COMPILE)ld -nostdlib --build-id=none -z noexecstack -Ttext 0x5a5a5000 -e start \
		-o $@ $(GUEST_OUT)/user.o

# Multiboot 1 loaders want a 32-bit ELF.
$(GUEST_OUT)/%.elf: $(GUEST_OUT)/%.elf64
	@$(CROSS_COMPILE)objcopy -O elf32-i386 $< $@

$(GUEST_OUT)/%-pvh.elf: $(GUEST_OUT)/%.o $(GUEST_OUT)/start-pvh.o $(GUEST_OUT)/rt.o \
		$(GUEST_OUT)/forms64.o $(GUEST_DIR)/guest.ld
	@$(CROSS_COMPILE)ld -nostdlib --build-id=none --no-warn-rwx-segments -z noexecstack \
		-T $(GUEST_DIR)/guest.ld -o $@ $(filter %.o,$^)

# SEV-ES test guests: a flat image, entered at its first byte (es_start.asm).
ES_OBJS := $(foreach n,es_start es_rt es_guest es_ghcb,$(GUEST_OUT)/$(n).o)
$(GUEST_OUT)/es_start.o: $(GUEST_DIR)/es_start.asm $(GUEST_STUBS) | $(GUEST_OUT)
	@$(GUEST_NASM) -o $@ $<

$(GUEST_OUT)/es_%.o: $(GUEST_DIR)/es_%.c $(GUEST_DIR)/es_rt.h | $(GUEST_OUT)
	@$(GUEST_CC) $(GUEST_CFLAGS) -c -o $@ $<

$(GUEST_OUT)/es.elf64: $(ES_OBJS) $(GUEST_DIR)/es.ld
	@$(CROSS_COMPILE)ld -nostdlib --build-id=none --no-warn-rwx-segments -z noexecstack \
		-T $(GUEST_DIR)/es.ld -o $@ $(ES_OBJS)

$(GUEST_OUT)/es.bin: $(GUEST_OUT)/es.elf64
	@$(CROSS_COMPILE)objcopy -O binary -j .image $< $@

.SECONDARY:
