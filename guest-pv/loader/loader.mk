# SPDX-License-Identifier: BSD-2-Clause
# The first-stage loader of SEV-ES guests: $(O)/guest-pv/loader.bin, a flat image (abi.h).
# SHA-256 is BearSSL's (MIT licence), from Debian's libbearssl-dev.

LDR_DIR := guest-pv/loader
LDR_OUT := $(O)/guest-pv/loader
LDR_CFLAGS := -std=gnu17 -Os -g0 -ffreestanding -fno-pic -fno-pie -mcmodel=small -mno-red-zone \
	-mgeneral-regs-only -fno-stack-protector -fcf-protection=none -fno-strict-aliasing \
	-fno-delete-null-pointer-checks -fno-asynchronous-unwind-tables -ffunction-sections \
	$(WARN) -I.
LDR_SRCS := $(sort $(wildcard $(LDR_DIR)/*.c)) core/string.c vdev/acpi_tables.c
LDR_OBJS := $(LDR_OUT)/entry.o $(LDR_SRCS:%.c=$(LDR_OUT)/%.o)
LDR_SHA256 ?= -l:libbearssl.a

.PHONY: loader
loader: $(O)/guest-pv/loader.bin
guest-pv: loader

$(LDR_OUT)/entry.o: $(LDR_DIR)/entry.asm guest-pv/stubs.inc $(LDR_DIR)/loader.mk
	@mkdir -p $(@D)
	@$(NASM) -f elf64 -Werror -Iguest-pv/ -o $@ $<

$(LDR_OUT)/%.o: %.c $(LDR_DIR)/loader.mk
	@mkdir -p $(@D)
	@$(CC) $(LDR_CFLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

$(LDR_OUT)/loader.elf: $(LDR_OBJS) $(LDR_DIR)/loader.ld
	@$(CC) -nostdlib -static -no-pie -Wl,--build-id=none,--gc-sections,-z,noexecstack \
		-Wl,--no-warn-rwx-segments -T $(LDR_DIR)/loader.ld -o $@ $(LDR_OBJS) $(LDR_SHA256)

$(O)/guest-pv/loader.bin: $(LDR_OUT)/loader.elf
	@$(OBJCOPY) -O binary -j .image $< $@

-include $(LDR_OBJS:.o=.d)
