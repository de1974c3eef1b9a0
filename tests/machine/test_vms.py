# SPDX-License-Identifier: BSD-2-Clause
"""Several VMs at once, more vCPUs than CPUs, and their coming and going."""

import re

from harness import guest, host_section, linux_files, linux_vm, vm_section

BAD = r"Kernel panic|RV-FAIL|BUG:|soft lockup|rcu.*stall"


def counts(text):
    """The lines of rv.test=count as (n, milliseconds of uptime)."""
    return [tuple(map(int, match)) for match in
            re.findall(r"^RV-COUNT (\d+) (\d+)(?: \d+)?$", text, re.M)]


def check_count(text, at_least, gap_ms=4000):
    """The counting guest went on, without holes."""
    rows = counts(text)
    assert len(rows) >= at_least, f"only {len(rows)} counts"
    for (n, ms), (n2, ms2) in zip(rows, rows[1:]):
        assert n2 == n + 1, f"count {n} is followed by {n2}"
        assert 0 < ms2 - ms < gap_ms, f"{ms2 - ms} ms between counts {n} and {n2}"


def free_pages(m):
    """Free frames of 4 KiB by the shell's `mem`."""
    out = m.command("mem")
    match = re.search(r"^free +\d+ MiB +(\d+) frames$", out, re.M)
    assert match, out
    return int(match.group(1))


def test_two_run_while_a_third_comes_and_goes(machine):
    conf = (host_section(attach="one", log="warn") + linux_vm("one", "count", cpus=1, memory="256M") +
            linux_vm("two", "count", cpus=1, memory="256M") +
            linux_vm("three", "boot", cpus=2, memory="256M", autostart="no"))
    m = machine(conf, linux_files(), smp=2)
    m.expect(r"^RV-COUNT 3 ", 240, never=BAD)
    m.shell()
    m.console("two")
    m.expect(r"^RV-COUNT \d+ ", 240, never=BAD)
    m.shell()
    m.command("vm destroy three")
    before = free_pages(m)
    for i in range(50):
        out = m.command("vm start three", 60)
        assert "error" not in out, f"round {i}: {out}"
        # Some rounds go far into the kernel's start, most are cut short.
        if i % 10 == 0:
            m.pump(3)
        out = m.command("vm stop three", 60)
        assert "error" not in out, f"round {i}: {out}"
    m.command("vm destroy three")
    assert free_pages(m) == before
    for vm in ("one", "two"):
        m.console(vm)
        start = m.mark
        for _ in range(5):
            m.expect(r"^RV-COUNT \d+ .*$", 30, never=BAD)
        check_count(m.text[start:m.mark], 4)
        m.shell()
    # And the third still boots to its end.
    m.run_guest("three", end=r"guest# ", timeout=180)


def test_four_vcpus_on_one_cpu(machine):
    conf = host_section(attach="linux") + linux_vm("linux", "smp", cpus=4)
    m = machine(conf, linux_files(), smp=1)
    for _ in range(4):
        m.expect(r"^RV-SMP cpu \d sum 2001000", 240, never=BAD)
    m.expect(r"^RV-DONE smp$", 120, never=BAD)


def test_thousand_rounds_lose_no_page(machine):
    """Created, run for a moment and destroyed: the allocator's count stays what it was."""
    conf = host_section() + vm_section("small", kernel="hello.elf", cmdline="exit=0", memory="64M",
                                       cpus=2, **{"debug-exit": "yes", "autostart": "no"})
    m = machine(conf, {"hello.elf": guest("hello")}, smp=2)
    m.boot()
    m.command("vm destroy small")
    before = free_pages(m)
    out = m.command("stress create 1000 small", 300)
    assert re.search(r"^stress: 1000 rounds, .*: equal$", out, re.M), out
    out = m.command("stress start 100 small", 300)
    assert re.search(r"^stress: 100 rounds, .*: equal$", out, re.M), out
    assert free_pages(m) == before
    # The machine is as good as new.
    assert "guest: exit 0" in m.run_guest("small")
    m.command("vm destroy small")
    assert free_pages(m) == before


def test_fair_shares(machine):
    """Two guests that burn one CPU get the same of it."""
    burn = "console=ttyS0 rv.test=count"
    conf = host_section(attach="a", log="warn")
    for name in ("a", "b"):
        conf += vm_section(name, kernel="vmlinuz", initrd="initrd.img", cmdline=burn,
                           memory="256M", cpus=1, affinity="0", autostart="yes")
    m = machine(conf, linux_files(), smp=1)
    m.expect(r"^RV-COUNT 2 ", 240, never=BAD)
    m.shell()
    m.console("b")
    start = m.mark
    for _ in range(6):
        m.expect(r"^RV-COUNT \d+ .*$", 60, never=BAD)
    check_count(m.text[start:m.mark], 5)


def test_stats_and_trace(machine):
    conf = host_section(attach="linux") + linux_vm("linux", "count", cpus=2)
    m = machine(conf, linux_files(), smp=2)
    m.expect(r"^RV-COUNT 2 ", 180, never=BAD)
    m.shell()
    for command in ("help", "vm list", "cpu", "mem", "version", "config", "log dmesg",
                    "vm stats linux"):
        out = m.command(command)
        assert "no such command" not in out and out, command
    out = m.command("vm stats linux")
    assert re.search(r"\d{2,}", out), out
    assert "no such command" not in m.command("trace on")
    m.pump(1)
    assert "no such command" not in m.command("trace off")
    out = m.command("trace show linux 20")
    assert re.search(r"cpu\d+ +linux/[01] ", out), out


def switches(m, vm):
    """What `vm stats` says of its first vCPU's switches, by word."""
    out = m.command(f"vm stats {vm}")
    found = re.search(r"^  vCPU 0: entered (\d+) times, loaded (\d+), XSETBV (\d+), TSC_AUX (\d+), "
                      r"IBPB (\d+)$", out, re.M)
    assert found, out
    return dict(zip(("entered", "loaded", "xsetbv", "tsc_aux", "ibpb"), map(int, found.groups())))


def test_stats_count_switches(machine):
    """Registers are loaded when another vCPU had the CPU before, not at each entry."""
    conf = host_section() + "".join(
        vm_section(name, kernel="count.elf", memory="64M", affinity="0", autostart="no")
        for name in ("a", "b"))
    m = machine(conf, {"count.elf": guest("count")}, smp=1)
    m.boot()
    m.command("vm start a")
    m.pump(1)
    first = switches(m, "a")
    m.pump(1)
    alone = switches(m, "a")
    assert alone["entered"] > first["entered"], "the shell took the CPU in between"
    assert alone["loaded"] == 1 and alone | {"entered": 0} == first | {"entered": 0}
    m.command("vm start b")
    m.pump(2)
    a, b = switches(m, "a"), switches(m, "b")
    assert a["loaded"] > 5 and b["loaded"] > 5
    assert a["loaded"] <= a["entered"] and b["loaded"] <= b["entered"]
    # They take turns.
    assert abs(a["loaded"] - b["loaded"]) <= 3
