# SPDX-License-Identifier: GPL-2.0-or-later
# The SEV-ES machine: an emulator to test on, and the tests of the emulator itself.
SEV_MACHINE := tests/sev-machine
SEV_PYTEST ?=
SEV_QEMU ?= $(O)/sev-machine/bin/qemu-system-x86_64

.PHONY: sev-machine check-sev-machine check-sev-machine-full

# The build is cached outside the tree; $(O) gets a link to it.
sev-machine:
	@mkdir -p $(O)/sev-machine/bin
	@bin=$$($(SEV_MACHINE)/build.sh | tail -1) && test -x "$$bin" && \
		ln -sfn "$$bin" $(O)/sev-machine/bin/qemu-system-x86_64

check-sev-machine: sev-machine
	SEV_QEMU=$(abspath $(SEV_QEMU)) /usr/bin/python3 -m pytest -q -n $(PYTEST_JOBS) -p no:cacheprovider \
		$(SEV_MACHINE) -m "not full" $(SEV_PYTEST)

check-sev-machine-full: sev-machine
	SEV_QEMU=$(abspath $(SEV_QEMU)) /usr/bin/python3 -m pytest -q -n $(PYTEST_JOBS) -p no:cacheprovider \
		$(SEV_MACHINE) $(SEV_PYTEST)
