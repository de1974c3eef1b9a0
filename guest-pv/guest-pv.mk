# SPDX-License-Identifier: BSD-2-Clause
# The paravirtual guest: $(O)/guest-pv/NAME.elf (ELF32: multiboot 1 and PVH) and NAME.elf64 (PVH),
# with masks that are allocated, static ones, and for one CPU. libguest-pv.a is the library alone.

O ?= build
NASM ?= nasm
GPV_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
GPV_OUT := $(O)/guest-pv
GPV_CC ?= $(CROSS_COMPILE)gcc
GPV_CFLAGS := -std=gnu17 -O2 -g0 -ffreestanding -fno-pic -fno-pie -mcmodel=small -mno-red-zone \
	-mgeneral-regs-only -fno-stack-protector -fcf-protection=none -fno-strict-aliasing \
	-fno-asynchronous-unwind-tables -Wall -Wextra -Wshadow -Wconversion -Werror -I$(GPV_DIR)
GPV_NAMES := guest-pv guest-pv-static guest-pv-up
GPV_OBJS := kernel app pv vc
GPV_ASM := $(GPV_OUT)/start.o $(GPV_OUT)/start_es.o
GPV_FLAGS_guest-pv-static := -DPV_STATIC_MASKS=1
GPV_FLAGS_guest-pv-up := -DPV_CPUS=1
GPV_ELFS := $(foreach n,$(GPV_NAMES),$(GPV_OUT)/$(n).elf)

.PHONY: guest-pv
guest-pv: $(GPV_ELFS) $(GPV_NAMES:%=$(GPV_OUT)/%.es) $(GPV_OUT)/libguest-pv.a

$(GPV_OUT)/%.o: $(GPV_DIR)/%.asm $(GPV_DIR)/stubs.inc
	@mkdir -p $(@D)
	@$(NASM) -f elf64 -Werror -I$(GPV_DIR)/ -o $@ $<

define GPV_VARIANT
$(GPV_OUT)/$(1)/%.o: $(GPV_DIR)/%.c $(wildcard $(GPV_DIR)/*.h) $(GPV_DIR)/guest-pv.mk
	@mkdir -p $$(@D)
	@$(GPV_CC) $(GPV_CFLAGS) $(GPV_FLAGS_$(1)) -c -o $$@ $$<

$(GPV_OUT)/$(1).elf64 $(GPV_OUT)/$(1).es-elf: $(GPV_ASM) \
		$(foreach s,$(GPV_OBJS),$(GPV_OUT)/$(1)/$(s).o)

$(GPV_OUT)/$(1).elf64: $(GPV_DIR)/guest-pv.ld
	@$(CROSS_COMPILE)ld -nostdlib --build-id=none -z noexecstack -z max-page-size=4096 \
		-T $(GPV_DIR)/guest-pv.ld -o $$@ $$(filter %.o,$$^)

# SEV-ES: a flat image (sev-loader).
$(GPV_OUT)/$(1).es-elf: $(GPV_DIR)/es.ld
	@$(CROSS_COMPILE)ld -nostdlib --build-id=none --no-warn-rwx-segments -z noexecstack \
		-T $(GPV_DIR)/es.ld -o $$@ $$(filter %.o,$$^)

$(GPV_OUT)/$(1).es: $(GPV_OUT)/$(1).es-elf
	@$(CROSS_COMPILE)objcopy -O binary -j .image $$< $$@
endef
$(foreach n,$(GPV_NAMES),$(eval $(call GPV_VARIANT,$(n))))

# Multiboot 1 loaders want a 32-bit ELF.
$(GPV_ELFS): %.elf: %.elf64
	@$(CROSS_COMPILE)objcopy -O elf32-i386 $< $@

$(GPV_OUT)/libguest-pv.a: $(GPV_OUT)/guest-pv/pv.o
	@rm -f $@
	@$(CROSS_COMPILE)ar rcD $@ $<
