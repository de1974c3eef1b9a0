# SPDX-License-Identifier: BSD-2-Clause
"""Intel VMX in Bochs: the same guests as on AMD. And AMD's models there, as a second opinion."""

import re
import struct
import subprocess

import pytest

import bochs
import es
import test_guests
from harness import BUILD, guest, host_section, linux_files, linux_vm, vm_section
from test_vms import free_pages

BAD = r"Kernel panic|RV-FAIL|BUG:|soft lockup|rcu.*stall|has crashed"
GUEST = {"memory": "128M", "debug-exit": "yes", "autostart": "no"}
full = pytest.mark.full


def check_guest(machine, cmdline, kernel="exits", vcpus=1, mitigations="yes", **kw):
    # log: a line of the hypervisor's must not fall into one of the guest's
    conf = host_section(log="warn", mitigations=mitigations) + vm_section(
        "guest", kernel="guest.elf", cmdline=cmdline, cpus=vcpus, **GUEST)
    m = machine.bochs(conf, {"guest.elf": guest(kernel)}, **kw)
    m.boot(240)
    return m, m.run_guest("guest", timeout=400)


@pytest.mark.parametrize("cpu,vcpus,cpus,form,mitigations", [
    (bochs.INTEL, 2, 2, "exits", "yes"),
    pytest.param(bochs.INTEL, 4, 1, "exits-pvh", "no", marks=full),
    pytest.param("corei7_haswell_4770", 1, 1, "exits", "yes", marks=full),
    pytest.param("tigerlake", 2, 1, "exits", "yes", marks=full),
    pytest.param(bochs.AMD, 2, 2, "exits", "yes", marks=full),
])
def test_exits(machine, cpu, vcpus, cpus, form, mitigations):
    # Bochs refuses in control registers what a real CPU refuses, so this is asked for, too; but in
    # an SVM guest it takes a MOV to CR0 with PG and without PE, which is for VMRUN, and panics.
    words = f"cpus={vcpus}" + ("" if cpu == bochs.AMD else " hardware")
    m, text = check_guest(machine, words, form, vcpus, mitigations, cpu=cpu, smp=cpus)
    failed = re.findall(r"^FAIL .*$", text, re.M)
    passed = len(re.findall(r"^ok ", text, re.M))
    assert not failed, "\n".join(failed)
    assert re.search(rf"^checks: {passed} ok, 0 failed$", text, re.M), m.tail()
    assert passed > 200
    assert ("AMD SVM on" if cpu == bochs.AMD else "Intel VMX on") in m.command("log dmesg")


def bench(machine, mitigations, capabilities=None, **kw):
    conf = host_section(attach="bench", mitigations=mitigations) + vm_section(
        "bench", kernel="bench.elf", memory="64M", cpus=1, autostart="yes")
    checks = {"COUNT": "1", **({"ARCH_CAPABILITIES": capabilities} if capabilities else {})}
    m = machine.bochs(conf, {"bench.elf": guest("bench")}, smp=1, checks=checks, **kw)
    cost = int(m.expect(r"^bench cpuid.0 +(\d+)$", 240).group(1))
    return m, cost


def test_cpuid_costs_at_most_110_instructions(machine):
    """Bochs counts what the hypervisor executes between exit and entry; its TSC counts
    instructions, too: those of the guest's loop and of the hypervisor."""
    m, cost = bench(machine, "no")
    assert 40 < cost <= 110
    runs = re.findall(r"^ravelin: cpu 0: 500 CPUID exits: (\d+) VMREADs, (\d+) VMWRITEs, "
                      r"(\d+) MSR accesses, (\d+) instructions$", m.errors(), re.M)
    assert len(runs) >= 3
    for run in runs:
        reads, writes, msrs, instructions = map(int, run)
        assert (reads, writes, msrs) == (1000, 500, 0)
        assert 40 < instructions / 500 <= 110


# What firmware left in FEATURE_CONTROL: bit 0 locks it, bit 2 allows VMX outside SMX.
@pytest.mark.parametrize("cpu,control,reason", [
    (bochs.INTEL_NO_VMX, None, r"the CPU has no VMX \(CPUID 1 ECX bit 5 is clear\)"),
    (bochs.INTEL, "1", r"VMX is disabled and locked by the firmware .*enable .Intel Virtualization"),
    (bochs.INTEL_NO_EPT, None, r"VMX has no EPT \(VMX_PROCBASED_CTLS2 bit 1\)"),
    (bochs.INTEL_NO_UNRESTRICTED, None, r"VMX has no unrestricted guest \(VMX_PROCBASED_CTLS2 bit 7\)"),
])
def test_refusals_name_the_reason(machine, cpu, control, reason):
    conf = host_section() + vm_section("hello", kernel="hello.elf", cpus=1,
                                       **{**GUEST, "autostart": "yes"})
    m = machine.bochs(conf, {"hello.elf": guest("hello")}, cpu=cpu, smp=2,
                      checks={"FEATURE_CONTROL": control} if control else None)
    m.boot(240)
    assert re.search(rf"virt: no Intel VMX: {reason}", m.text), m.tail()
    # The machine is up, and the VM was refused.
    assert "Ravelin" in m.command("version")
    assert "running" not in m.command("vm list")


@full
def test_vmx_allowed_by_the_firmware(machine):
    """FEATURE_CONTROL locked, with VMX on: nothing to write there."""
    m = machine.bochs(host_section(), {}, smp=2, checks={"FEATURE_CONTROL": "5"})
    m.boot(240)
    assert "Intel VMX on 2 CPUs" in m.text


@pytest.mark.parametrize("count", [500, pytest.param(350000, marks=full)])
def test_storm_loses_and_doubles_nothing(machine, count):
    """A device, IPIs and NMIs at once, counted one by one. On CPU 1 one guest spins and one exits
    all the time; CPU 0 takes them in the hypervisor, half of them with interrupts off."""
    conf = host_section()
    for name, cmdline in (("spin", "do=none end=spin"), ("exits", "do=cpuid rounds=1 end=spin")):
        conf += vm_section(name, kernel="hostile.elf", cmdline=cmdline, cpus=1, affinity="1",
                           **{**GUEST, "autostart": "yes"})
    m = machine.bochs(conf, {"hostile.elf": guest("hostile")}, smp=2)
    m.boot(240)
    before = exits(m, "spin"), exits(m, "exits")
    out = m.command(f"storm {count}", 1500)
    for cpu in (0, 1):
        found = re.search(rf"^storm: cpu {cpu}: {count} of {count} device interrupts, {2 * count} of "
                          rf"{2 * count} IPIs, (\d+) of (\d+) NMIs \((\d+) with interrupts off\), "
                          r"nested 1 deep, stack constant: good$", out, re.M)
        assert found, out
        assert found.group(1) == found.group(2) == str(count + count // 15)
        # In the hypervisor: for CPU 1 during the handling of an exit.
        assert int(found.group(3)) > count // 4
    after = exits(m, "spin"), exits(m, "exits")
    ended = {kind: sum(new[kind] - old.get(kind, 0) for new, old in zip(after, before))
             for kind in ("nmi", "interrupt")}
    # In guest mode: nearly all interrupts of CPU 1, and the NMIs that were sent first.
    assert ended["interrupt"] > 2.8 * count and ended["nmi"] > 0.3 * count, ended
    assert count < 350000 or sum(ended.values()) > 1000000


def exits(m, vm):
    """Exits of the VM by kind."""
    return {kind: int(n) for kind, n in
            re.findall(r"^    (\w+) +(\d+)", m.command(f"vm stats {vm}"), re.M)}


# What is on, by the CPU's CPUID and by what ARCH_CAPABILITIES says it is not affected by.
@pytest.mark.parametrize("cpu,capabilities,names", [
    (bochs.INTEL, None, {"return stack"}),
    ("tigerlake", None, {"return stack", "VERW", "IBPB", "SPEC_CTRL.IBRS"}),
    ("tigerlake", "0", {"return stack", "VERW", "L1D flush", "IBPB"}),
    pytest.param("tigerlake", "0x20", {"return stack", "L1D flush", "IBPB"}, marks=full),
])
def test_mitigations_cost_what_the_shell_says(machine, cpu, capabilities, names):
    """For each: on or off, when, how many instructions, and why. The sum of them is what a
    CPUID exit costs more than without; Bochs counts."""
    per_exit = {}
    for mitigations in ("no", "yes"):
        m, _ = bench(machine, mitigations, capabilities, cpu=cpu)
        counts = [int(n) for n in re.findall(r" 500 CPUID exits: .* (\d+) instructions$", m.errors(), re.M)]
        per_exit[mitigations] = min(counts)
        m.shell()
        out = m.command("mitigations")
        for name in ("return stack", "VERW", "L1D flush", "IBPB", "SPEC_CTRL.IBRS"):
            assert re.search(rf"^{re.escape(name)} +(on|off) +at (start|each \S+|another VM's turn) +"
                             r"(none|1 \S+|\d+ instructions) +\S", out, re.M), out
        on = re.findall(r"^\S.* on +at (?:each exit|each entry) +(\d+) instructions? ", out, re.M)
        found = set(re.findall(r"^(\S.*?) +on +at ", out, re.M)) - {"choice"}
        assert found == (names if mitigations == "yes" else set()), out
        m.stop()
    assert per_exit["yes"] - per_exit["no"] == 500 * sum(map(int, on)), (per_exit, on)
    assert sum(map(int, on)) > 50


def test_branch_predictor_is_flushed_for_another_vm_only(machine):
    """IBPB: one WRMSR when a CPU turns to another VM, none between two vCPUs of one."""
    conf = host_section(mitigations="yes") + vm_section("two", kernel="exits.elf", cpus=2,
                                                        cmdline="only=smp cpus=2", **GUEST)
    for name in ("this", "that"):
        conf += vm_section(name, kernel="hostile.elf", cmdline="do=none end=spin", cpus=1, **GUEST)
    m = machine.bochs(conf, {f"{name}.elf": guest(name) for name in ("exits", "hostile")},
                      cpu="tigerlake", smp=1, checks={"COUNT": "1"})
    m.boot(240)

    def barriers():
        """Bochs says each hundredth."""
        found = re.findall(r"^ravelin: cpu 0: (\d+) barriers$", m.errors(), re.M)
        return max(map(int, found), default=0)

    # Its vCPUs wake each other some hundred times.
    assert re.search(r"^checks: [1-9]\d* ok, 0 failed$", m.run_guest("two"), re.M), m.tail()
    assert exits(m, "two")["hlt"] > 200
    assert barriers() == 0
    for name in ("this", "that"):
        m.command(f"vm start {name}")
    for _ in range(120):
        m.pump(1)
        if barriers() >= 200:
            break
    assert barriers() >= 200


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
    """Three vCPUs on one CPU: the kernel finds the clock, and sends interrupts by hypercall where it
    may not do so to all CPUs at once. Later it prefers the TSC, which on this machine says of itself
    that it never stops."""
    conf = host_section(attach="linux") + linux_vm("linux", "dmesg", cpus=3, memory="256M",
                                                   extra="no_ipi_broadcast=1")
    m = machine.bochs(conf, linux_files(), smp=1)
    m.expect(r"^RV-CLOCK \S+ of .*kvm-clock", 500, never=BAD)
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


# --- what stops a VM ---

def test_what_stops_a_vm(machine):
    m = machine.bochs(*test_guests.stopping_vms(), smp=1)
    m.boot(240)
    test_guests.check_what_stops_a_vm(m)


@pytest.mark.parametrize("cpu", [bochs.INTEL, pytest.param(bochs.AMD, marks=full)])
def test_endless_debug_exceptions_keep_no_cpu(machine, cpu):
    """A watch point on the frame that its own trap pushes: the delivery of #DB never ends. Each one
    exits, so others on that CPU go on and the VM can be stopped (CVE-2015-8104)."""
    conf = host_section() + vm_section("count", kernel="count.elf", cpus=1, **GUEST) + vm_section(
        "loop", kernel="hostile.elf", cmdline="do=none end=db", cpus=1, **GUEST)
    m = machine.bochs(conf, {f"{name}.elf": guest(name) for name in ("count", "hostile")}, cpu=cpu,
                      smp=1)
    m.boot(240)
    for name in ("count", "loop"):
        m.command(f"vm start {name}")
    m.console("count")
    first = int(m.expect(r"^count: (\d+) unchanged", 120).group(1))
    m.expect(rf"^count: {first + 2} unchanged", 120)
    m.shell()
    assert exits(m, "loop")["exception"] > 100
    m.command("vm stop loop")
    assert "off" in m.command("vm list").split("\nloop")[1].splitlines()[0]


# What the CPU says to each deliberate mistake of arch/x86/vmx/hooks.c.
REFUSED = {
    "state": r"the VM entry refused the guest's state \(exit code 0x80000021 BAD_GUEST_STATE, info 0x4 ",
    "ept": r"the EPT has an entry the CPU does not accept \(exit code 0x31 EPT_MISCONFIG, info 0x\w+ "
           r"0x200\w{3}\)",
}


def test_what_the_cpu_refuses_stops_that_vm_only(machine):
    """A guest's state that no entry takes, and an entry in the EPT that no CPU takes."""
    conf = host_section()
    for name, kernel in (("count", "count.elf"), *((vm, "hello.elf") for vm in REFUSED)):
        conf += vm_section(name, kernel=kernel, cmdline="exit=0", cpus=1, **GUEST)
    m = machine.bochs(conf, {f"{name}.elf": guest(name) for name in ("count", "hello")}, smp=1,
                      image=es.hooks_image())
    m.boot(240)
    m.command("vm start count")
    for vm, report in REFUSED.items():
        assert "vmxhook" not in m.command(f"vmxhook {vm} {vm}")
        m.line(f"vm start {vm}")
        m.expect(rf"vm {vm}: vcpu 0 stopped: {report}", 60)
        m.shell()
        assert "crashed" in m.command("vm list").split(f"\n{vm}")[1].splitlines()[0]
        m.console("count")
        first = int(m.expect(r"^count: (\d+) unchanged", 120).group(1))
        assert int(m.expect(r"^count: (\d+) unchanged", 120).group(1)) == first + 1
        m.shell()
        # Made anew it runs: the mistake was that VM's alone.
        m.command(f"vm destroy {vm}")
        assert "guest: exit 0" in m.run_guest(vm)
    assert "CHANGED" not in m.text


def frames_beside_memory(machine, cpu, large):
    """Frames that a VM of 2 GiB takes for its tables and structures."""
    conf = host_section() + vm_section("vm", kernel="hello.elf", cpus=1, cmdline="exit=0",
                                       **{**GUEST, "memory": "2G"})
    # Two aligned gigabytes that nothing else is in: the second and the fifth; single pages are
    # taken from the sixth.
    m = machine.bochs(conf, {"hello.elf": guest("hello")}, cpu=cpu, smp=1, memory="6144")
    m.boot(400)
    assert (" ept-1g" in m.command("log dmesg")) == large
    assert "guest: exit 0" in m.run_guest("vm")
    free = free_pages(m)
    m.command("vm destroy vm")
    frames = free_pages(m) - free - (2 << 30 >> 12)
    m.stop()
    return frames


@full
def test_gigabyte_pages_where_the_cpu_has_them(machine):
    """The second gigabyte of a guest is one page, or a table of pages of 2 MiB: one frame more. The
    first one has a hole for the VGA's memory."""
    with_them = frames_beside_memory(machine, bochs.INTEL, True)
    assert with_them > 4
    assert frames_beside_memory(machine, bochs.INTEL_NO_1G, False) == with_them + 1


# --- a spoilt image ---

def spoilt(instruction, tmp_path, change=lambda code: b"\x90" * len(code), build=BUILD):
    """ravelin.elf with something else, by default no-operations, where these instructions stand."""
    dump = subprocess.run(["objdump", "-d", "-j", ".text", build / "ravelin.debug"], check=True,
                          capture_output=True, text=True).stdout
    found = re.findall(rf"^([0-9a-f]+):\t((?:[0-9a-f]{{2}} )+) *\t{instruction}\b", dump, re.M)
    assert found
    image = bytearray((build / "ravelin.elf").read_bytes())
    count = struct.unpack_from("<H", image, 0x38)[0]
    loads = [struct.unpack_from("<IIQQQQ", image, 0x40 + 56 * i) for i in range(count)]
    for address, code in found:
        address, code = int(address, 16), bytes.fromhex(code)
        offset = next(address - start + at for kind, _, at, start, _, size in loads
                      if kind == 1 and start <= address < start + size)
        assert image[offset:offset + len(code)] == code
        image[offset:offset + len(code)] = change(code)
    path = tmp_path / "ravelin.elf"
    path.write_bytes(image)
    return path


def control_registers(machine, image):
    """The exits guest's group "cr" where translations survive VM exits: failed checks."""
    conf = host_section() + vm_section("guest", kernel="guest.elf", cmdline="only=cr", cpus=1, **GUEST)
    m = machine.bochs(conf, {"guest.elf": guest("exits")}, smp=1, image=image,
                      checks={"TAGGED_TLB": "1"})
    m.boot(240)
    text = m.run_guest("guest", timeout=240)
    assert re.search(r"^checks: [1-9]\d* ok, \d+ failed$", text, re.M), m.tail()
    return re.findall(r"^FAIL (.*)$", text, re.M)


def test_a_forgotten_invvpid_is_seen(machine, tmp_path):
    """A guest flushes by a write to CR4 that exits: without INVVPID it goes on with the old page."""
    assert control_registers(machine, None) == []
    failed = control_registers(machine, spoilt("invvpid", tmp_path))
    assert failed and "cr4 pge and mce flush" in failed[0]


def moved_page(machine, image):
    """What a guest that does not turn paging on reads in three runs, where translations survive VM
    exits: at first, again, and after the page was exchanged for another one of zeros."""
    conf = host_section() + vm_section("guest", kernel="guest.elf", cpus=1, **GUEST)
    m = machine.bochs(conf, {"guest.elf": guest("remap")}, smp=1, image=image,
                      checks={"TAGGED_TLB": "1"})
    m.boot(240)
    said = []
    for run in range(3):
        if run == 2:
            assert "vmxhook" not in m.command("vmxhook move guest")
        said += re.findall(r"^remap: (.*)$", m.run_guest("guest"), re.M)
    return said


def test_a_forgotten_invept_is_seen(machine, tmp_path):
    """Nested mappings change while a VM is off: without INVEPT it goes on with the old page.
    INVVPID, which is still there, does not reach what was made without the guest's paging."""
    image = es.hooks_image()
    assert moved_page(machine, image) == ["nothing", "what was left", "nothing"]
    image = spoilt("invept", tmp_path, build=BUILD / "hooks")
    assert moved_page(machine, image) == ["nothing", "what was left", "what was left"]


@full
def test_linux_where_translations_survive_exits(machine):
    """No invalidation is missing for two VMs on one CPU."""
    conf = host_section(attach="one")
    for name in ("one", "two"):
        conf += linux_vm(name, "count", cpus=2, memory="256M")
    m = machine.bochs(conf, linux_files(), smp=2, checks={"TAGGED_TLB": "1"})
    m.expect(r"^RV-COUNT 3 ", 600, never=BAD)
    m.shell()
    m.console("two")
    m.expect(r"^RV-COUNT \d+ ", 300, never=BAD)
    m.expect(r"^RV-COUNT \d+ ", 60, never=BAD)


def test_a_failed_entry_stops_the_vm(machine, tmp_path):
    """VMLAUNCH instead of VMRESUME: refused by the CPU, which says why."""
    image = spoilt("vmresume", tmp_path, lambda code: code.replace(b"\x01\xc3", b"\x01\xc2"))
    conf = host_section() + vm_section("hello", kernel="hello.elf", cpus=1, **GUEST)
    m = machine.bochs(conf, {"hello.elf": guest("hello")}, smp=1, image=image)
    m.boot(240)
    m.line("vm start hello")
    m.expect(r"hello.*: VM(RESUME|LAUNCH) failed with VM-instruction error 4: "
             r"VMLAUNCH with a VMCS that is not clear", 60)
    m.shell()
    assert "crashed" in m.command("vm list").split("hello")[1].splitlines()[0]
