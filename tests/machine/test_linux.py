# SPDX-License-Identifier: BSD-2-Clause
"""What an unmodified Debian kernel says and does inside a VM."""

import re

import pytest

from harness import host_section, image, initrd, linux_files, linux_vm

BAD = r"Kernel panic|RV-FAIL|BUG:|soft lockup|rcu.*stall"

# What only the bare emulator or only we have, with the reason. Every entry is a pattern of a
# whole message after normalize().
ACCEPTED = [
    # no such devices in the VM, and no firmware that would describe them
    r".*\bi8042\b.*",
    r".*\bpcibios\b.*|PCI: Fatal: No config space access function found",
    r"PCI: System does not support PCI",
]


def start(machine, test, kernel="6.1", cpus=2, smp=2, extra="", **kw):
    conf = host_section(attach="linux") + linux_vm("linux", test, cpus=cpus, extra=extra)
    return machine(conf, linux_files(kernel), smp=smp, **kw)


def dmesg(m, timeout=180):
    m.expect(r"^RV-DMESG-BEGIN$", timeout, never=BAD)
    begin = m.mark
    m.expect(r"^RV-DMESG-END$", 60)
    return m.text[begin:m.mark]


def normalize(line):
    """A message without what differs from run to run."""
    line = re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b", "X", line)
    return re.sub(r"\d+", "N", line)


def warnings(text):
    """Messages of level warning and worse: {normalized: as printed}."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"<(\d+)>\[ *[\d.]+\] (.*)", line)
        if match and int(match.group(1)) & 7 <= 4:
            found[normalize(match.group(2))] = match.group(2)
    return found


@pytest.mark.qemu("compares with QEMU without a hypervisor")
@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_dmesg_is_as_clean_as_on_the_bare_emulator(machine, kernel):
    plain = machine.plain(image(f"vmlinuz-{kernel}"), initrd_path=initrd(), smp=2, memory="512M",
                          cmdline="console=ttyS0 rv.test=dmesg", cpu="EPYC")
    allowed = warnings(dmesg(plain))
    plain.stop()
    m = start(machine, "dmesg", kernel)
    text = dmesg(m)
    ours = warnings(text)
    new = [shown for line, shown in ours.items()
           if line not in allowed and not any(re.fullmatch(p, line) for p in ACCEPTED)]
    assert not new, "messages that the bare emulator does not give:\n" + "\n".join(new)
    # The log must be a whole one, or the comparison says nothing.
    assert "Linux version" in text and "Memory:" in text
    for word in ("TSC unstable", "timer doesn't work", "APIC bug", "MTRR", "NMI watchdog: BUG"):
        hits = [line for line in text.splitlines() if word in line and re.match(r"<[0-4]>", line)]
        assert not hits, hits


def test_cpus_work_and_come_back(machine):
    m = start(machine, "smp", cpus=4, smp=2)
    for cpu in range(4):
        got = m.expect(r"^RV-SMP cpu (\d) sum (\d+) ran-on (\d)$", 180, never=BAD)
        assert got.groups() == (str(cpu), "2001000", str(cpu))
    for cpu in range(1, 4):
        m.expect(rf"^RV-SMP cpu {cpu} offline, online (\S+)$", 60, never=BAD)
        m.expect(rf"^RV-SMP cpu {cpu} back, online 0-3$", 60, never=BAD)
    m.expect(r"^RV-DONE smp$")


def test_clocks_agree(machine):
    m = start(machine, "timers")
    monotonic, rtc = map(int, m.expect(r"^RV-TIMERS monotonic (\d+) rtc (\d+)$", 240,
                                       never=BAD).groups())
    # sleep 5: never shorter; the RTC counts whole seconds.
    assert 4990 <= monotonic <= 7000
    assert abs(rtc - monotonic) <= 1500
    short = int(m.expect(r"^RV-TIMERS short-sleeps (\d+)$", 60).group(1))
    # 20 times 50 ms and the start of 20 processes
    assert 990 <= short <= 6000


def test_interrupts_arrive(machine):
    m = start(machine, "irqs")
    m.expect(r"^RV-DONE irqs$", 180, never=BAD)
    text = m.text[:m.mark]
    first, second = text.split("RV-IRQ --")

    def row(part, label):
        match = re.search(rf"^RV-IRQ +{label}: +([\d ]+)", part, re.M)
        return sum(map(int, match.group(1).split())) if match else None

    assert row(second, "LOC") > row(first, "LOC"), "local timer interrupts"
    assert row(first, "4") > 0, "the serial port's interrupt"
    assert not row(second, "ERR"), "spurious interrupts of the PIC"
    assert not row(second, "MIS"), "lost level interrupts"
    assert not row(second, "SPU"), "spurious interrupts of the local APIC"


def test_time_source(machine):
    """A real clock is in use; which one depends on how steady the emulator keeps the TSC."""
    m = start(machine, "boot")
    clock = m.expect(r"^RV-CLOCK (\S+) of (.*)$", 180, never=BAD)
    assert clock.group(1) in ("kvm-clock", "tsc", "tsc-early", "acpi_pm"), clock.group(0)
    assert "acpi_pm" in clock.group(2).split()


def test_reboot(machine):
    m = start(machine, "boot")
    for _ in range(3):
        m.expect(r"^RV-KERNEL", 180, never=BAD)
        m.expect(r"guest# ", 60)
        m.line("reboot -f")
    m.expect(r"^RV-KERNEL", 180, never=BAD)


def test_poweroff(machine):
    m = start(machine, "poweroff")
    m.expect(r"^RV-BYE poweroff$", 180, never=BAD)
    m.expect(r"^\[linux: is off\]", 60, never=BAD)
    m.shell()
    assert "linux" in m.command("vm list")
    # It starts again as if nothing had been.
    out = m.run_guest("linux", timeout=180)
    assert "RV-BYE poweroff" in out
