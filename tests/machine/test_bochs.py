# SPDX-License-Identifier: BSD-2-Clause
"""Intel VMX in Bochs: the same guests as on AMD. And AMD's models there, as a second opinion."""

import re

import pytest

import bochs
from harness import guest, host_section, linux_files, linux_vm, vm_section

BAD = r"Kernel panic|RV-FAIL|BUG:|soft lockup|rcu.*stall|has crashed"
GUEST = {"memory": "128M", "debug-exit": "yes", "autostart": "no"}
full = pytest.mark.full


def check_guest(machine, cmdline, kernel="exits", vcpus=1, mitigations="yes", **kw):
    conf = host_section(mitigations=mitigations) + vm_section(
        "guest", kernel="guest.elf", cmdline=cmdline, cpus=vcpus, **GUEST)
    m = machine.bochs(conf, {"guest.elf": guest(kernel)}, **kw)
    m.boot(240)
    return m, m.run_guest("guest", timeout=400)


@pytest.mark.parametrize("cpu,vcpus,cpus,form,mitigations", [
    (bochs.INTEL, 2, 2, "exits", "yes"),
    pytest.param(bochs.INTEL, 4, 1, "exits-pvh", "no", marks=full),
    pytest.param("corei7_haswell_4770", 1, 1, "exits", "yes", marks=full),
    pytest.param("tigerlake", 2, 1, "exits", "yes", marks=full),
])
def test_exits(machine, cpu, vcpus, cpus, form, mitigations):
    m, text = check_guest(machine, f"cpus={vcpus}", form, vcpus, mitigations, cpu=cpu, smp=cpus)
    failed = re.findall(r"^FAIL .*$", text, re.M)
    passed = len(re.findall(r"^ok ", text, re.M))
    assert not failed, "\n".join(failed)
    assert re.search(rf"^checks: {passed} ok, 0 failed$", text, re.M), m.tail()
    assert passed > 200
    assert "Intel VMX on" in m.text


@full
@pytest.mark.parametrize("group", ["cpuid", "msr", "virt", "cr", "io", "forms", "apic", "pic", "nmi"])
def test_exits_on_amd(machine, group):
    """All groups but dr and step, see arch/x86/vmx/README.md."""
    m, text = check_guest(machine, f"cpus=1 only={group}", cpu=bochs.AMD, smp=1)
    assert re.search(r"^checks: [1-9]\d* ok, 0 failed$", text, re.M), m.tail()
    assert "AMD SVM on" in m.text


def test_cpuid_costs_at_most_110_instructions(machine):
    """Bochs's TSC counts instructions: those of the guest's loop and of the hypervisor."""
    conf = host_section(attach="bench", mitigations="no") + vm_section(
        "bench", kernel="bench.elf", memory="64M", cpus=1, autostart="yes")
    m = machine.bochs(conf, {"bench.elf": guest("bench")}, smp=1)
    cost = int(m.expect(r"^bench cpuid.0 +(\d+)$", 240).group(1))
    assert 40 < cost <= 110


@pytest.mark.parametrize("cpu,reason", [(bochs.INTEL_NO_EPT, "no EPT"),
                                        (bochs.INTEL_NO_UNRESTRICTED, "no unrestricted guest")])
def test_refusals_name_the_reason(machine, cpu, reason):
    conf = host_section() + vm_section("hello", kernel="hello.elf", cpus=1, **GUEST)
    m = machine.bochs(conf, {"hello.elf": guest("hello")}, cpu=cpu, smp=1)
    m.boot(240)
    assert re.search(rf"virt: no Intel VMX: .*{reason}", m.text), m.tail()
    assert "Ravelin" in m.command("version")


@pytest.mark.parametrize("count", [1000, pytest.param(1000000, marks=full)])
def test_storm_loses_and_doubles_nothing(machine, count):
    """Interrupts and NMIs, counted one by one, while guests spin, halt and exit."""
    conf = (host_section(attach="one") + linux_vm("one", "count", cpus=1, memory="256M", affinity=1)
            if count > 1000 else host_section() + vm_section(
                "spin", kernel="hostile.elf", cmdline="do=cpuid rounds=1 end=spin", cpus=2, affinity="1",
                **{**GUEST, "autostart": "yes"}))
    files = linux_files() if count > 1000 else {"hostile.elf": guest("hostile")}
    m = machine.bochs(conf, files, smp=2)
    if count > 1000:
        m.expect(r"^RV-COUNT 2 ", 500, never=BAD)
        m.shell()
    else:
        m.boot(240)
    out = m.command(f"storm {count}", 900)
    for cpu in (0, 1):
        assert re.search(rf"^storm: cpu {cpu}: {count} interrupts, {count + 1} NMIs .* nested 1 deep, "
                         r"stack constant: good$", out, re.M), out
    stats = m.command("vm stats " + ("one" if count > 1000 else "spin"))
    # Some of them ended guest mode, and both kinds were counted there.
    assert int(re.search(r"^ +nmi +(\d+)$", stats, re.M).group(1)) > 10
    assert int(re.search(r"^ +interrupt +(\d+)$", stats, re.M).group(1)) > 10


def test_mitigations_are_explained(machine):
    m = machine.bochs(host_section(), {}, smp=1)
    m.boot(240)
    out = m.command("mitigations")
    for name in ("return stack", "VERW", "L1D flush", "IBPB", "SPEC_CTRL.IBRS"):
        assert re.search(rf"^{re.escape(name)} +(on|off) +at ", out, re.M), out
    assert re.search(r"^return stack +on ", out, re.M), out


@pytest.mark.parametrize("cpu,cpus,vcpus", [
    (bochs.INTEL, 2, 2),
    pytest.param(bochs.INTEL, 1, 1, marks=full),
    pytest.param(bochs.INTEL, 1, 2, marks=full),
    pytest.param(bochs.INTEL, 2, 1, marks=full),
    pytest.param(bochs.AMD, 2, 2, marks=full),
])
def test_linux(machine, cpu, cpus, vcpus):
    conf = host_section(attach="linux") + linux_vm("linux", "boot", cpus=vcpus, memory="256M")
    m = machine.bochs(conf, linux_files(), cpu=cpu, smp=cpus)
    m.expect(rf"^RV-CPUS {vcpus} online", 500, never=BAD)
    m.expect(r"guest# ", 60, never=BAD)
    m.line("poweroff -f")
    m.expect(r"^\[linux: is off\]", 60, never=BAD)


def test_linux_is_paravirtual(machine):
    """Two vCPUs on one CPU: the kernel finds the clock, and sends interrupts by hypercall."""
    conf = host_section(attach="linux") + linux_vm("linux", "dmesg", cpus=2, memory="256M")
    m = machine.bochs(conf, linux_files(), smp=1)
    m.expect(r"^RV-CLOCK kvm-clock of (.*)$", 900, never=BAD)
    m.expect(r"^RV-DMESG-BEGIN$", 60, never=BAD)
    begin = m.mark
    m.expect(r"^RV-DMESG-END$", 120)
    log = m.text[begin:m.mark]
    for line in ("Hypervisor detected: KVM", "kvm-clock: Using msrs 4b564d01 and 4b564d00",
                 "setup PV IPIs", "KVM setup pv remote TLB flush", "Switched to clocksource kvm-clock"):
        assert line in log, line
    m.expect(r"guest# ", 120)
    m.shell()
    assert sum(map(int, re.findall(r"^ +hypercall +(\d+)$", m.command("vm stats linux"), re.M))) > 0


@full
def test_two_vms(machine):
    conf = host_section(attach="one")
    for name in ("one", "two"):
        conf += linux_vm(name, "count", cpus=1, memory="256M")
    m = machine.bochs(conf, linux_files(), smp=2)
    m.expect(r"^RV-COUNT 3 ", 600, never=BAD)
    m.shell()
    m.console("two")
    m.expect(r"^RV-COUNT \d+ ", 300, never=BAD)
    m.expect(r"^RV-COUNT \d+ ", 60, never=BAD)
