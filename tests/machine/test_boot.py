# SPDX-License-Identifier: BSD-2-Clause
"""Debian's kernels come up on Ravelin through each door, on each number of CPUs."""

import itertools

import pytest

from harness import (DOORS, Machine, host_section, linux_files, linux_vm)

KERNELS = ("6.1", "6.12")
BAD = r"Kernel panic|RV-FAIL|BUG:|^\[ *\d+\.\d+\] error: |soft lockup|rcu.*stall"

# Every pair of two factors' values is in one of these rows.
PAIRWISE = [
    ("6.1", "efi", 1, 1), ("6.12", "efi", 2, 4), ("6.1", "efi", 4, 1),
    ("6.12", "grub-bios", 4, 4), ("6.1", "grub-bios", 2, 1), ("6.1", "grub-bios", 1, 4),
    ("6.12", "grub-uefi", 1, 1), ("6.1", "grub-uefi", 4, 4), ("6.12", "grub-uefi", 2, 1),
]
REST = [row for row in itertools.product(KERNELS, DOORS, (1, 2, 4), (1, 4))
        if row not in PAIRWISE]


def name(row):
    return "-".join(map(str, row))


def test_rows_cover_all_pairs():
    """The choice above is what it claims to be."""
    factors = (KERNELS, DOORS, (1, 2, 4), (1, 4))
    for a, b in itertools.combinations(range(4), 2):
        for pair in itertools.product(factors[a], factors[b]):
            assert any((row[a], row[b]) == pair for row in PAIRWISE), pair


def boots(machine, kernel, door, vcpus, cpus):
    conf = host_section(attach="linux") + linux_vm("linux", cpus=vcpus)
    m = machine(conf, linux_files(kernel), door=door, smp=cpus)
    m.expect(rf"^RV-KERNEL {kernel}\.", 180, never=BAD)
    assert m.expect(r"^RV-CPUS (\d+) online", never=BAD).group(1) == str(vcpus)
    memory = int(m.expect(r"^RV-MEM (\d+)$").group(1))
    assert 420 <= memory <= 512
    m.expect(r"^RV-TAINT 0$")
    m.expect(r"guest# ")
    m.line("echo sum $((40 + 2))")
    m.expect(r"^sum 42$", never=BAD)
    m.line("poweroff -f")
    m.expect(r"^\[linux: is off\]", 60, never=BAD)
    m.shell()
    assert m.poweroff() == 0


@pytest.mark.parametrize("row", PAIRWISE, ids=name)
def test_debian_boots(machine, row):
    boots(machine, *row)


@pytest.mark.full
@pytest.mark.parametrize("row", REST, ids=name)
def test_debian_boots_everywhere(machine, row):
    boots(machine, *row)


@pytest.mark.qemu("names a CPU model of QEMU")
def test_cpu_models(machine):
    """A second CPU model: other features, other CPUID policy."""
    conf = host_section(attach="linux") + linux_vm("linux", cpus=2)
    m = machine(conf, linux_files(), cpu="max", smp=2)
    m.expect(r"^RV-CPUS 2 online", 180, never=BAD)
    assert isinstance(m, Machine)
