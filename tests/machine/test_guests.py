# SPDX-License-Identifier: BSD-2-Clause
"""Each kind of guest image; our own guests that check every exit; and images that are not ours."""

import re
import zlib

import pytest

from harness import guest, host_section, image, initrd, linux_files, vm_section

GUEST = {"memory": "128M", "debug-exit": "yes", "autostart": "no"}


def checksum(data):
    """As tests/guests/hello.c computes it."""
    value = 0
    for byte in data:
        value = (value * 31 + byte) & 0xFFFFFFFF
    return value


@pytest.mark.parametrize("form", ["hello", "hello-pvh"])
@pytest.mark.parametrize("judge", [
    pytest.param("plain", marks=pytest.mark.qemu("compares with QEMU without a hypervisor")), "ravelin"])
def test_hello(machine, form, judge, tmp_path):
    """Command line, modules and memory map arrive; the bare emulator is the judge of the guest."""
    module = tmp_path / "module"
    module.write_bytes(b"what a module holds\n" * 500)
    want = f"size 10000 sum {checksum(module.read_bytes()):x}"
    if judge == "plain":
        m = machine.plain(guest(form), cmdline="word=1 exit=5", modules=[module], memory="128M")
        assert m.wait_exit(60) == 5 * 2 + 1
        text = m.text
    else:
        which = {"initrd": "module"} if form.endswith("pvh") else {"module": "module the args"}
        conf = host_section(log="warn") + vm_section(
            "hello", kernel="hello.elf", cmdline="word=1 exit=5", cpus=1, **which, **GUEST)
        m = machine(conf, {"hello.elf": guest(form), "module": module})
        m.boot()
        text = m.run_guest("hello")
    assert re.search(r'^hello: magic .* cmdline "(.* )?word=1 exit=5"$', text, re.M), text
    assert want in text
    assert re.search(r"^hello: memory 0 size [89][0-9a-f]{4} type 1$", text, re.M), text
    assert re.search(r"^hello: memory 100000 size 7[0-9a-f]{6} type 1$", text, re.M), text
    assert "guest: exit 5" in text


def results(text):
    """Failed checks, and how many passed."""
    failed = re.findall(r"^FAIL .*$", text, re.M)
    return failed, len(re.findall(r"^ok ", text, re.M))


@pytest.mark.qemu("compares with QEMU without a hypervisor")
@pytest.mark.parametrize("form", ["exits", "exits-pvh"])
def test_exits_on_the_bare_emulator(machine, form):
    """The judge: what the emulator itself answers is what the checks want."""
    m = machine.plain(guest(form), cmdline="plain cpus=2", smp=2, memory="256M", cpu="max",
                      extra=["-serial", "null"])
    m.wait_exit(120)
    failed, passed = results(m.text)
    assert not failed
    assert re.search(rf"^checks: {passed} ok, 0 failed$", m.text, re.M), m.tail()
    assert passed > 200


@pytest.mark.parametrize("form,vcpus,cpus", [("exits", 2, 2), ("exits-pvh", 4, 1)])
def test_exits(machine, form, vcpus, cpus):
    conf = host_section(log="warn") + vm_section(
        "exits", kernel="exits.elf", cmdline=f"cpus={vcpus}", cpus=vcpus, **GUEST)
    m = machine(conf, {"exits.elf": guest(form)}, smp=cpus)
    m.boot()
    text = m.run_guest("exits", timeout=240)
    failed, passed = results(text)
    assert not failed, "\n".join(failed)
    assert re.search(rf"^checks: {passed} ok, 0 failed$", text, re.M), m.tail()
    assert passed > 200


@pytest.mark.qemu("names a CPU model of QEMU")
def test_exits_with_next_rip(machine):
    """Instruction lengths from the CPU instead of our decoder, where the CPU model offers it."""
    conf = host_section(log="warn") + vm_section(
        "exits", kernel="exits.elf", cmdline="cpus=1", cpus=1, **GUEST)
    m = machine(conf, {"exits.elf": guest("exits")}, cpu="max", smp=1)
    m.boot()
    failed, passed = results(m.run_guest("exits", timeout=240))
    assert not failed, "\n".join(failed)
    assert passed > 200


def check_what_stops_a_vm(m, ways=("triple", "task")):
    """What a guest can do to end itself without asking: a report, and all others go on."""
    words = {"triple": "triple fault", "task": "hardware task switch, which is not offered"}
    for vm in ways:
        m.line(f"vm start {vm}")
        m.expect(rf"vm {vm}: vcpu 0 stopped: {words[vm]}", 60)
        m.shell()
        assert "crashed" in m.command("vm list").split(vm)[1].splitlines()[0]
    assert "guest: exit 0" in m.run_guest("good")


def stopping_vms():
    conf = host_section()
    for name, kernel, cmdline in (("triple", "hostile.elf", "do=none end=triple"),
                                  ("task", "task.elf", None), ("good", "hello.elf", "exit=0")):
        conf += vm_section(name, kernel=kernel, cmdline=cmdline, cpus=1, **GUEST)
    return conf, {f"{name}.elf": guest(name) for name in ("hostile", "task", "hello")}


def test_what_stops_a_vm(machine):
    m = machine(*stopping_vms(), smp=1)
    m.boot()
    check_what_stops_a_vm(m, ["triple"])   # QEMU does not intercept task switches


@pytest.mark.qemu("compares with QEMU without a hypervisor")
def test_task_switch_on_the_bare_emulator(machine):
    """The guest above does switch tasks where that is offered."""
    m = machine.plain(guest("task"), memory="64M", cpu="qemu32")
    assert m.wait_exit(60) == 7 * 2 + 1


def test_pvh_linux(machine):
    """Debian's kernel as ELF, by its PVH note."""
    conf = host_section(attach="linux") + vm_section(
        "linux", kernel="vmlinux", initrd="initrd.img", cmdline="console=ttyS0 rv.test=poweroff",
        memory="512M", cpus=2, autostart="yes")
    m = machine(conf, {"vmlinux": image("vmlinux-6.1"), "initrd.img": initrd()})
    m.expect(r"^RV-CPUS 2 online", 180, never="Kernel panic")
    m.expect(r"^\[linux: is off\]", 60)


def test_multiboot_xen(machine):
    """A Debian multiboot 1 ELF with its modules: the Xen hypervisor, up to its look at dom0.

    There is no BIOS that its real-mode code could call.
    """
    conf = host_section(attach="xen") + vm_section(
        "xen", kernel="xen", cmdline="com1=115200,8n1 console=com1 noreboot no-real-mode edd=off",
        memory="512M",
        cpus=1, module="vmlinuz dummy", autostart="yes")
    m = machine(conf, {"xen": image("xen"), **linux_files()})
    m.expect(r"^\(XEN\) Xen version 4\.17", 180)
    m.expect(r"^\(XEN\) (\*\*\* Building a PV Dom0|.*[Dd]om0.*)", 180)


def test_memtest(machine):
    """memtest86+: a bzImage-format image that is not Linux and starts in 32-bit mode."""
    conf = host_section(attach="memtest") + vm_section(
        "memtest", kernel="memtest", cmdline="console=ttyS0,115200", memory="64M", cpus=1,
        autostart="yes")
    m = machine(conf, {"memtest": image("memtest")})
    m.expect(r"Memtest86\+ v6", 180)
    m.expect(r"Test #|Pass", 120)


def test_seabios(machine):
    """SeaBIOS at the reset vector runs to the point where it finds no boot device."""
    conf = host_section(attach="bios") + vm_section(
        "bios", firmware="bios.bin", memory="64M", cpus=1, debugcon="yes", autostart="yes")
    m = machine(conf, {"bios.bin": image("seabios")})
    m.expect(r"SeaBIOS \(version", 120)
    m.expect(r"No bootable device|Booting from|enter handle_1[89]", 180)


def test_ovmf(machine):
    """OVMF at the reset vector: from real mode in flash to long mode with its stack in RAM.

    It goes no further: its timer is found by the PCI host bridge of QEMU's machines.
    """
    conf = host_section(log="warn") + vm_section(
        "uefi", firmware="ovmf.fd", memory="256M", cpus=1, autostart="yes")
    m = machine(conf, {"ovmf.fd": image("ovmf")}, smp=1)
    m.boot()
    for _ in range(60):
        regs = m.command("vm regs uefi")
        rsp = int(re.search(r"^rsp ([0-9a-f]+)", regs, re.M).group(1), 16)
        efer = int(re.search(r" efer ([0-9a-f]+)", regs).group(1), 16)
        if efer & 0x500 == 0x500 and 0x1000000 <= rsp < 0x10000000:
            break
        m.pump(1)
    else:
        pytest.fail(f"OVMF does not come to its permanent memory:\n{regs}")
    assert "running" in m.command("vm list")


def test_checksum_of_the_test_itself():
    """The guest's sum and ours are the same function (an independent value by hand)."""
    assert checksum(b"") == 0
    assert checksum(b"\x01\x02") == 33
    assert zlib.crc32(b"") == 0
