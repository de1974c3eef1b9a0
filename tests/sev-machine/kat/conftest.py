# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures: the ROM, a fresh emulator for each test, and its security processor."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from psp_machine import Machine, Psp, build_rom, default_qemu  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "full: only in the long check")


@pytest.fixture(scope="session")
def rom(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("rom") / "rom.bin")
    if not os.path.exists(default_qemu()):
        pytest.fail("no emulator at %s: run `make sev-machine` or set SEV_QEMU" % default_qemu())
    build_rom(path)
    return path


@pytest.fixture
def machines(rom):
    """Start emulators that end with the test: machines(cpus=2, psp="...", memory="...")."""
    started = []

    def start(**kwargs):
        machine = Machine(rom, **kwargs)
        started.append(machine)
        return machine

    yield start
    for machine in started:
        machine.close()


@pytest.fixture
def m(machines):
    return machines()


@pytest.fixture
def psp(m):
    """A security processor in state UNINIT."""
    return Psp(m)


@pytest.fixture
def up(psp):
    """A security processor in state INIT, all ASIDs clean, TMR protected."""
    psp.up()
    return psp
