# SPDX-License-Identifier: BSD-2-Clause
"""A hostile guest beside a Linux VM that counts seconds: the count goes on, the shell answers."""

import pytest

from harness import guest, host_section, linux_files, linux_vm, vm_section
from test_vms import check_count

STEPS = ["ports", "msrs", "cpuid", "insns", "mmio", "devices", "exotic", "crs"]
ENDS = ["triple", "hlt", "nmi", "int", "pf", "init", "crash", "reset", "spin", "apicstorm"]


def config(*attacks):
    conf = host_section(attach="victim") + linux_vm("victim", "count", cpus=1, memory="256M")
    for name, cmdline in attacks:
        conf += vm_section(name, kernel="hostile.elf", cmdline=cmdline, memory="64M", cpus=2,
                           **{"debug-exit": "yes", "autostart": "no"})
    return conf


def victim_counts(m, seconds):
    """Look at the victim for that many counts, then return to the shell."""
    m.console("victim")
    start = m.mark
    for _ in range(seconds):
        m.expect(r"^RV-COUNT \d+ .*$", 60, never="Kernel panic|BUG:|soft lockup")
    check_count(m.text[start:m.mark], seconds - 1, gap_ms=5000)
    m.shell()


@pytest.mark.parametrize("smp", [1, 2])
def test_everything_at_once(machine, smp):
    attacks = [(step, f"do={step} seed={i + 1} rounds=5") for i, step in enumerate(STEPS)]
    files = {**linux_files(), "hostile.elf": guest("hostile")}
    m = machine(config(*attacks), files, smp=smp)
    m.expect(r"^RV-COUNT 2 ", 240)
    m.shell()
    for step in STEPS:
        m.command(f"vm start {step}")
        victim_counts(m, 4)
    # What has not ended by itself must let itself be stopped.
    victim_counts(m, 10)
    for step in STEPS:
        out = m.command(f"vm stop {step}")
        assert "no such" not in out
    victim_counts(m, 3)
    assert "victim" in m.command("vm list")


@pytest.mark.parametrize("step", STEPS)
def test_one_attack_to_its_end(machine, step):
    """Each attack alone, attached: it must survive or die, and the hypervisor says which."""
    files = {**linux_files(), "hostile.elf": guest("hostile")}
    m = machine(config(("evil", f"do={step} seed=77 rounds=10")), files, smp=2)
    m.expect(r"^RV-COUNT 2 ", 240)
    m.shell()
    text = m.run_guest("evil", timeout=300)
    assert f"hostile: begin {step}" in text
    if step in ("cpuid", "insns", "msrs"):
        assert f"hostile: survived {step}" in text, text[-2000:]
    victim_counts(m, 4)


def test_ways_to_end(machine):
    attacks = [(f"end-{way}", f"do=none end={way}") for way in ENDS]
    files = {**linux_files(), "hostile.elf": guest("hostile")}
    m = machine(config(*attacks), files, smp=2)
    m.expect(r"^RV-COUNT 2 ", 240)
    m.shell()
    for way in ENDS:
        m.command(f"vm start end-{way}")
        victim_counts(m, 3)
        m.command(f"vm stop end-{way}")
    victim_counts(m, 3)
    out = m.command("vm list")
    assert "victim" in out
    # A guest that died can be started again and stopped again.
    m.command("vm start end-triple")
    m.pump(1)
    m.command("vm stop end-triple")
    victim_counts(m, 3)
