# SPDX-License-Identifier: BSD-2-Clause
"""What a bug in the hypervisor would do ends in a report; what must be survived is."""

import pytest

from harness import host_section

# The command line's selftest=NAME, and the report's last word.
REPORTS = {
    "null": r"#PF page fault: address 0x10, error 0x2",
    "exec": r"#PF page fault: address 0xffff8\w+, error 0x11",      # a fetch from data
    "text": r"#PF page fault: address 0xffffffff8\w+, error 0x3",   # a write to code
    "wx": r"#PF page fault: address 0xffff8\w+, error 0x2",         # a second view of code
    "hidden": r"#PF page fault: address 0xffff8\w+, error 0x2",     # another view of private data
    "stack": r"#DF double fault in the hypervisor",                 # the guard page
    "ud": r"#UD invalid opcode in the hypervisor",
    "smash": r"stack smashed",
    "assert": r"assertion failed: cpu_count == 0",
}


@pytest.mark.parametrize("name", REPORTS)
def test_report(machine, name):
    m = machine(host_section(), door="grub-bios", smp=2, memory="256M",
                cmdline=f"selftest={name}")
    m.expect(rf"selftest: {name}", 60)
    if name not in ("smash", "assert", "exec"):
        m.expect(rf"CPU 0: vector \d+ error 0x\w+ at on_{name}\+0x", 20)
    if name in ("null", "ud", "wx"):
        m.expect(r"selftest\+0x\w+", 20)        # the back-trace knows names
        m.expect(r"machine_main\+0x\w+", 20)
    m.expect(REPORTS[name], 20)
    m.expect(r"the machine is halted", 20)


@pytest.mark.qemu("uses QEMU's monitor")
def test_nmi_from_outside(machine):
    m = machine(host_section(), door="grub-bios", smp=2, memory="256M")
    m.boot()
    m.hmp("nmi")
    m.expect(r"cpu0: NMI of unknown source", 20)
    m.shell()
    assert m.poweroff() == 0


@pytest.mark.qemu("uses QEMU's monitor")
def test_machine_check(machine):
    m = machine(host_section(), door="grub-bios", smp=2, memory="256M")
    m.boot()
    # Bank 3, uncorrected, with address and context corrupt; MCIP and RIPV.
    m.hmp("mce 0 3 0xbe00000000000135 0x5 0x12345000 0x8c")
    m.expect(r"machine check on CPU 0: MCG_STATUS 0x5", 20)
    m.expect(r"bank 3: status 0xbe00000000000135 address 0x12345000 misc 0x8c", 20)
    m.expect(r"panic on CPU 0", 20)
    m.expect(r"#MC machine check in the hypervisor", 20)


def test_survived(machine):
    m = machine(host_section(), door="grub-bios", smp=4, cmdline="selftest=safe")
    m.expect(r"selftest: 4000 calls on 4 CPUs", 60)
    m.expect(r"cpu1: NMI of unknown source", 20)
    m.shell()
    assert m.poweroff() == 0
