# SPDX-License-Identifier: BSD-2-Clause
# Ravelin. `make help` lists what can be made; O=DIR puts the output elsewhere.

O ?= build
CROSS_COMPILE ?=
CC := $(CROSS_COMPILE)gcc
LD := $(CROSS_COMPILE)ld
NM := $(CROSS_COMPILE)nm
OBJCOPY := $(CROSS_COMPILE)objcopy
READELF := $(CROSS_COMPILE)readelf
NASM ?= nasm
HOSTCC ?= gcc
PYTHON ?= /usr/bin/python3
IMAGE_LIMIT := 262144

.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules

# Sources are found, not listed: a new file in one of these folders is built.
DIRS := boot arch/x86 arch/x86/svm arch/x86/vmx core sev drivers drivers/psp vdev selftest
CSRCS := $(sort $(filter-out %/offsets.c,$(wildcard $(addsuffix /*.c,$(DIRS)))))
ASRCS := $(sort $(wildcard $(addsuffix /*.asm,$(DIRS))))
OBJS := $(CSRCS:%.c=$(O)/%.o) $(ASRCS:%.asm=$(O)/%.asm.o)
OFFSETS := $(patsubst %.c,$(O)/%.inc,$(wildcard $(addsuffix /offsets.c,$(DIRS))))

# No path, date or host name may reach an output: two builds anywhere are equal byte for byte.
REPRO := -ffile-prefix-map=$(CURDIR)=. -ffile-prefix-map=$(abspath $(O))=build -gno-record-gcc-switches
WARN := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
	-Wundef -Wpointer-arith -Werror
# What runs at start, at VM creation or at a prompt is built for size, the rest for speed.
COLD := boot/%.c drivers/%.c selftest/%.c \
	sev/asid.c sev/base64.c sev/cert.c sev/direct.c sev/es_vcpu.c sev/es_run.c sev/es_vm.c \
	sev/ghcb.c sev/ghcb_io.c sev/ghcb_msr.c sev/ghcb_stats.c sev/guest.c sev/launch.c \
	sev/plan.c sev/secret.c sev/sev.c sev/sha256.c sev/vmsa.c sev/why.c \
	core/boot_info.c core/config.c core/console.c core/heap.c core/loader%.c core/log.c core/main.c \
	core/panic.c core/pmm.c core/printf.c core/shell%.c core/start.c core/unit.c core/vm.c \
	arch/x86/cpu.c arch/x86/emulate.c arch/x86/gwalk.c arch/x86/hostmem.c arch/x86/memcrypt.c \
	arch/x86/mitigations.c arch/x86/paging.c arch/x86/smp.c arch/x86/symbols.c arch/x86/traps.c \
	arch/x86/tsc.c \
	arch/x86/svm/names.c arch/x86/svm/svm.c arch/x86/vmx/controls.c arch/x86/vmx/names.c \
	arch/x86/vmx/vmx.c \
	vdev/acpi_pm.c vdev/acpi_tables.c vdev/rtc.c
OPT = $(if $(filter $(COLD),$<),-Os,-O2)
CFLAGS := -std=gnu17 -ffreestanding -g $(REPRO) $(WARN) -I. \
	-m64 -march=x86-64 -mno-red-zone -mgeneral-regs-only -mcmodel=kernel -fno-pie -fno-pic \
	-fcf-protection=none -fomit-frame-pointer -fno-asynchronous-unwind-tables \
	-fstack-protector-strong -mstack-protector-guard=global \
	-fno-strict-aliasing -fno-delete-null-pointer-checks -fno-common \
	-ffunction-sections -fdata-sections $(EXTRA_CFLAGS)
LDFLAGS := -nostdlib -static -T linker.ld --gc-sections --build-id=none \
	-z max-page-size=4096 -z noexecstack --fatal-warnings --no-undefined

.PHONY: all help clean run iso esp check check-unit check-machine check-full check-bochs check-repro check-size \
	bench bench-system check-bench check-tools deps FORCE
all: $(O)/ravelin.elf $(O)/ravelin.efi check-size

help:
	@echo 'make             ravelin.elf (GRUB) and ravelin.efi (UEFI) in $(O)/'
	@echo 'make run         start a Debian guest on Ravelin in QEMU; says how to leave'
	@echo 'make run-sev     the same with a Debian guest whose memory is encrypted (SEV-ES)'
	@echo 'make iso         $(O)/ravelin.iso, boots by BIOS and UEFI through GRUB'
	@echo 'make esp         $(O)/esp.img, a FAT image with EFI/BOOT/BOOTX64.EFI'
	@echo 'make check       all tests: check-repro check-unit check-bench check-machine'
	@echo '                 check-tools check-sev-machine'
	@echo 'make check-unit  unit tests on this host, with sanitizers (TEST=name: one of them)'
	@echo 'make check-machine  tests in emulators (PYTEST="-k boot": a choice)'
	@echo 'make bench       what each operation costs a guest, in instructions, beside KVM'
	@echo 'make bench-system  boot, memory, and growth with more VMs, in instructions'
	@echo 'make check-bench the gate: no operation costs more than committed (tests/bench)'
	@echo 'make check-full  as check-machine, with every combination (hours)'
	@echo 'make check-bochs the machine tests in Bochs, on Intel and AMD (hours)'
	@echo 'make sev-machine build the emulator with SEV-ES; check-sev-machine[-full]: its tests'
	@echo 'make deps        install the Debian packages of packages.txt that are missing'
	@echo 'make clean       remove $(O)/'
	@echo 'Variables: O=DIR  CROSS_COMPILE=PREFIX  CONF=ravelin.conf and FILES="..." for iso and esp'

# --- the image ---------------------------------------------------------------------------------

$(O)/%.o: %.c Makefile | $(OFFSETS)
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(CFLAGS) $(OPT) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

# Assembly sees its folder's offsets.inc and those of arch/x86 ("arch/x86/offsets.inc").
$(O)/%.asm.o: %.asm Makefile $(OFFSETS)
	@mkdir -p $(@D)
	@echo "  NASM  $<"
	@$(NASM) -f elf64 -g -F dwarf --reproducible -Werror $(EXTRA_ASFLAGS) -I. -I$(O)/ -I$(O)/$(<D)/ -I$(<D)/ \
		-MD $(@:.o=.d) -MP -MT $@ $< -o $@
	@$(OBJCOPY) --strip-debug $@

$(O)/%/offsets.inc: %/offsets.c Makefile
	@mkdir -p $(@D)
	@echo "  GEN   $@"
	@$(CC) $(CFLAGS) -g0 -MMD -MP -MF $(@:.inc=.d) -MT $@ -S $< -o $(@:.inc=.s)
	@sed -n 's/^.*"->\([A-Za-z0-9_]*\) \$$*\(-*[0-9]*\)".*$$/%define \1 \2/p' $(@:.inc=.s) > $@

# A relink happens when a file comes or goes, too.
$(O)/objects.list: FORCE
	@mkdir -p $(@D)
	@echo '$(OBJS)' | cmp -s - $@ || echo '$(OBJS)' > $@

# Names of functions for back-traces: link once with an empty table, list, link again. The table is
# the last thing in .rodata: text does not move.
$(O)/pass1.elf: $(OBJS) $(O)/symbols0.o linker.ld $(O)/objects.list
	@echo "  LD    $@"
	@$(LD) $(LDFLAGS) $(OBJS) $(O)/symbols0.o -o $@

$(O)/symbols0.asm: tools/symbols.awk
	@mkdir -p $(@D)
	@awk -f tools/symbols.awk < /dev/null > $@

$(O)/symbols.asm: $(O)/pass1.elf tools/symbols.awk
	@$(NM) -n $< | awk -f tools/symbols.awk > $@

$(O)/symbols0.o $(O)/symbols.o: %.o: %.asm
	@$(NASM) -f elf64 --reproducible $< -o $@

$(O)/ravelin.debug: $(O)/pass1.elf $(O)/symbols.o
	@echo "  LD    $@"
	@$(LD) $(LDFLAGS) -Map $(O)/ravelin.map $(OBJS) $(O)/symbols.o -o $@
	@$(READELF) -lW $@ | awk '$$1 == "LOAD" && /RWE/ { bad = 1 } \
		END { if (bad) { print "error: a segment is writable and executable"; exit 1 } }'

$(O)/ravelin.elf: $(O)/ravelin.debug
	@$(OBJCOPY) --strip-all --remove-section .percpu $< $@

check-size: $(O)/ravelin.elf
	@size=$$(stat -c %s $<); test $$size -le $(IMAGE_LIMIT) || \
		{ echo "error: $< has $$size bytes, limit $(IMAGE_LIMIT)"; exit 1; }

# The same with deliberate mistakes to choose from, for tests: sev/es_hooks.h. Never shipped.
.PHONY: es-hooks
es-hooks:
	@$(MAKE) --no-print-directory O=$(O)/hooks EXTRA_CFLAGS=-DES_TEST_HOOKS \
		EXTRA_ASFLAGS=-DES_TEST_HOOKS IMAGE_LIMIT=1000000 $(O)/hooks/ravelin.elf

# --- the UEFI application ----------------------------------------------------------------------

EFI_SRCS := $(sort $(wildcard boot/efi/*.c))
EFI_OBJS := $(EFI_SRCS:%.c=$(O)/%.o) $(O)/boot/efi/blob.o
GNUEFI_INC ?= /usr/include/efi
GNUEFI_LIB ?= /usr/lib
EFI_CFLAGS := -std=gnu17 -ffreestanding -Os $(REPRO) $(WARN) -Wno-conversion -I. \
	-isystem $(GNUEFI_INC) -isystem $(GNUEFI_INC)/x86_64 -m64 -mno-red-zone -mgeneral-regs-only \
	-maccumulate-outgoing-args -fpic -fshort-wchar -fno-stack-protector -fcf-protection=none \
	-fno-strict-aliasing -fno-asynchronous-unwind-tables -fvisibility=hidden \
	-DGNU_EFI_USE_MS_ABI -DEFI_DEBUG=0

$(O)/boot/efi/%.o: boot/efi/%.c Makefile
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(EFI_CFLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

$(O)/boot/efi/blob.o: boot/efi/blob.asm $(O)/ravelin.elf
	@mkdir -p $(@D)
	@$(NASM) -f elf64 --reproducible -DIMAGE='"$(O)/ravelin.elf"' $< -o $@

$(O)/ravelin.so: $(EFI_OBJS)
	@$(LD) -nostdlib -shared -Bsymbolic -znocombreloc -znoexecstack --no-warn-rwx-segments \
		--build-id=none -T $(GNUEFI_LIB)/elf_x86_64_efi.lds $(GNUEFI_LIB)/crt0-efi-x86_64.o \
		$(EFI_OBJS) -L$(GNUEFI_LIB) -lefi -lgnuefi -o $@
	@! $(NM) -u $@ | grep . || { echo "error: undefined symbols in $@"; exit 1; }

$(O)/ravelin.efi: $(O)/ravelin.so
	@echo "  EFI   $@"
	@SOURCE_DATE_EPOCH=0 $(OBJCOPY) -j .text -j .sdata -j .data -j .rodata -j .dynamic -j .dynsym \
		-j .rel -j .rela -j .rel.* -j .rela.* -j .reloc --target efi-app-x86_64 --subsystem=10 \
		$< $@

# --- boot media --------------------------------------------------------------------------------

# CONF: the configuration; FILES: what it names. Both land beside each other.
CONF ?= /dev/null
FILES ?=
MEDIA_FILES = $(foreach f,$(FILES),$(notdir $(f))=$(f))

esp: $(O)/esp.img
$(O)/esp.img: $(O)/ravelin.efi tests/images/media.py FORCE
	@$(PYTHON) tests/images/media.py esp $@ $< $(CONF) $(MEDIA_FILES)

iso: $(O)/ravelin.iso
$(O)/ravelin.iso: $(O)/ravelin.elf tests/images/media.py FORCE
	@$(PYTHON) tests/images/media.py iso $@ $< $(CONF) $(MEDIA_FILES)

# --- tests -------------------------------------------------------------------------------------

# Both begin on a fresh system: packages first, then all that is built with them.
run: deps
	@$(MAKE) --no-print-directory all
	@RAVELIN_BUILD=$(abspath $(O)) $(PYTHON) tests/machine/run.py

# An SEV-ES guest beside a plain one: CPUS=, SMP=, KERNEL= as above.
.PHONY: run-sev
run-sev: deps
	@$(MAKE) --no-print-directory all loader
	@RAVELIN_BUILD=$(abspath $(O)) $(PYTHON) tests/machine/run.py --sev

check: deps
	@$(MAKE) --no-print-directory check-all

.PHONY: check-all
check-all: all check-repro check-unit check-tools check-bench check-machine check-sev-machine

JOBS ?= $(shell nproc)
TEST ?= *
UNIT_SRCS := $(sort $(wildcard tests/unit/test_$(TEST).c))
UNIT_BINS := $(UNIT_SRCS:tests/unit/%.c=$(O)/unit/%)
UNIT_CFLAGS := -std=gnu17 -O1 -g -Wall -Wextra -Wno-unused-parameter -Werror -I. -DUNIT_TEST \
	-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
	-fno-strict-aliasing

# `make check` goes from one part to the next: here it may use all CPUs.
check-unit:
	@$(MAKE) --no-print-directory -j$(JOBS) $(UNIT_BINS)
	@fail=0; for t in $(UNIT_BINS); do \
		if timeout 120 $$t > $$t.log 2>&1; then \
			echo "  PASS  $$(basename $$t) ($$(grep -c '       OK ' $$t.log) tests)"; \
		else echo "  FAIL  $$(basename $$t)"; cat $$t.log; fail=1; fi; \
	done; exit $$fail

# Host programs: seconds.
check-tools:
	@$(PYTHON) -m pytest -q tests/tools

# The sources under test stand in a line "// sources: a.c b.c" of the test itself.
$(O)/unit/%: tests/unit/%.c Makefile
	@mkdir -p $(@D)
	@echo "  HOSTCC $<"
	@srcs=$$(sed -n 's,^// *sources: *,,p' $<); \
	$(HOSTCC) $(UNIT_CFLAGS) $< $$srcs -o $@ -lcmocka && \
	for s in $< $$srcs; do $(HOSTCC) $(UNIT_CFLAGS) -MM -MP -MT $@ $$s; echo "$@: $$s"; done > $@.d

# Tests in emulators run side by side, one a CPU of this host; then each has more time.
PYTEST ?=
PYTEST_JOBS ?= $(JOBS)
MACHINE_ENV = RAVELIN_BUILD=$(abspath $(O)) RAVELIN_SLOW=$${RAVELIN_SLOW:-2}
check-machine: all guests guest-pv es-hooks
	@$(MACHINE_ENV) $(PYTHON) -m pytest -q -n $(PYTEST_JOBS) tests/machine $(PYTEST)

# As check-machine, with the whole boot matrix: hours.
check-full: all guests guest-pv es-hooks
	@$(MACHINE_ENV) $(PYTHON) -m pytest -q -n $(PYTEST_JOBS) tests/machine --full $(PYTEST)

# The tests that are written for QEMU, in Bochs: Intel, then AMD. Hours.
check-bochs: all guests guest-pv
	@for cpu in corei7_skylake_x ryzen; do RAVELIN_BUILD=$(abspath $(O)) RAVELIN_EMULATOR=bochs \
		RAVELIN_BOCHS_CPU=$$cpu $(PYTHON) -m pytest -q tests/machine \
		--ignore tests/machine/test_bochs.py $(PYTEST) || exit 1; done

# Instructions of each exit against the committed baseline and the targets; and that this would
# notice one VMSAVE too many.
check-bench: all guests sev-machine
	@$(PYTHON) tests/bench/run.py --build $(O)
	@RAVELIN_BUILD=$(abspath $(O)) $(PYTHON) -m pytest -q -p no:cacheprovider tests/bench

bench: all guests sev-machine
	@$(PYTHON) tests/bench/run.py --build $(O) --no-gate --json $(O)/bench.json
	@$(PYTHON) tests/bench/peer.py --build $(O) --json $(O)/bench-kvm.json
	@$(PYTHON) tests/bench/ipi.py --build $(O) --json $(O)/bench-ipi.json
	@$(PYTHON) tests/bench/reference.py --build $(O) --json $(O)/bench-reference.json

# The whole system: boot, memory, growth with the number of VMs and vCPUs.
bench-system: all guests sev-machine
	@$(PYTHON) tests/bench/system.py --build $(O) --json $(O)/bench-system.json

# The same sources in two other folders give the same bytes.
check-repro:
	@sh tools/check-repro.sh

deps:
	@need=$$(for p in $$(sed 's/#.*//' packages.txt); do \
		dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -z "$$need" ]; then echo 'all packages are there'; exit 0; fi; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	$$sudo apt-get update -q && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$need

clean:
	rm -rf $(O)

include tests/guests/guests.mk
include guest-pv/guest-pv.mk
include guest-pv/loader/loader.mk
-include tests/sev-machine/sev-machine.mk
-include $(OBJS:.o=.d) $(OFFSETS:.inc=.d) $(EFI_SRCS:%.c=$(O)/%.d) $(addsuffix .d,$(UNIT_BINS))
