# SPDX-License-Identifier: BSD-2-Clause
"""Bad input: each error names the thing, and the machine comes up to its shell all the same."""

import pytest

from harness import guest, host_section, image, initrd, linux_files, linux_vm, vm_section

GOOD = {"memory": "64M", "cpus": 1, "debug-exit": "yes", "autostart": "yes"}


def cut(tmp_path, name, size):
    """The first bytes of an image, as a file."""
    path = tmp_path / f"{name}-cut"
    path.write_bytes(image(name).read_bytes()[:size])
    return path


def comes_up(m, error, vm=None):
    """The error is reported, the shell works, the VM did not start."""
    m.expect(error, 120)
    m.boot()
    out = m.command("vm list")
    assert "no such command" not in out
    if vm:
        assert not any(vm in row and "running" in row for row in out.splitlines()), out
    assert m.poweroff() == 0


BAD_CONFIGS = {
    "unknown key": ("colour = blue\n", r"ravelin\.conf:\d+: .*colour"),
    "bad number": ("cpus = many\n", r"ravelin\.conf:\d+: cpus = many"),
    "zero cpus": ("cpus = 0\n", r"ravelin\.conf:\d+: cpus = 0"),
    "too many cpus": ("cpus = 65\n", r"ravelin\.conf:\d+: cpus = 65"),
    "bad memory": ("memory = 12Q\n", r"ravelin\.conf:\d+: memory = 12Q"),
    "no equals sign": ("autostart\n", r"ravelin\.conf:\d+: .*autostart"),
}


# The UEFI loader reads the file by itself to find what to load: it must not trip, either.
@pytest.mark.parametrize("case,door", [(case, "grub-bios") for case in BAD_CONFIGS] +
                         [("unknown key", "efi"), ("no equals sign", "efi")])
def test_bad_configuration(machine, case, door):
    line, error = BAD_CONFIGS[case]
    keys = {key: value for key, value in GOOD.items() if not line.startswith(key)}
    conf = (host_section() + vm_section("bad", kernel="hello.elf", **keys) + line +
            vm_section("good", kernel="hello.elf", cmdline="exit=0",
                       **{**GOOD, "autostart": "no"}))
    m = machine(conf, {"hello.elf": guest("hello")}, smp=1, door=door)
    m.expect(error, 120)
    m.boot()
    # The other VM is not harmed.
    assert "guest: exit 0" in m.run_guest("good")
    assert m.poweroff() == 0


@pytest.mark.parametrize("door", ["efi", "grub-bios"])
@pytest.mark.parametrize("key", ["kernel", "initrd"])
def test_missing_file(machine, door, key):
    keys = {"kernel": "vmlinuz", "initrd": "initrd.img", key: "nowhere"}
    conf = host_section() + vm_section("bad", cmdline="console=ttyS0", **keys, **GOOD)
    m = machine(conf, linux_files(), door=door, smp=1)
    comes_up(m, r"nowhere", "bad")


@pytest.mark.parametrize("name,size", [("vmlinuz-6.1", 100), ("vmlinuz-6.1", 0x260),
                                       ("vmlinuz-6.1", 300000), ("vmlinux-6.1", 4096),
                                       ("xen", 2000), ("seabios", 1000)])
def test_truncated_image(machine, name, size, tmp_path):
    key = "firmware" if name == "seabios" else "kernel"
    conf = host_section() + vm_section("bad", **{key: "image"}, **GOOD)
    m = machine(conf, {"image": cut(tmp_path, name, size)}, smp=1)
    comes_up(m, r"error: .*\bbad\b", "bad")


def test_empty_file(machine, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    conf = host_section() + vm_section("bad", kernel="empty", **GOOD)
    m = machine(conf, {"empty": tmp_path / "empty"}, smp=1)
    comes_up(m, r"empty", "bad")


def test_more_memory_than_there_is(machine):
    conf = host_section() + linux_vm("bad", memory="64G", cpus=1)
    m = machine(conf, linux_files(), smp=1)
    comes_up(m, r"error: .*\bbad\b", "bad")


@pytest.mark.parametrize("door", ["efi", "grub-bios"])
def test_no_configuration(machine, door):
    m = machine(None, {}, door=door, smp=1)
    comes_up(m, r"ravelin\.conf|no configuration")


@pytest.mark.parametrize("door", ["efi", "grub-bios"])
def test_configuration_of_noise(machine, door):
    noise = "".join(chr(33 + i * 7919 % 90) + ("\n" if i % 37 == 0 else "") for i in range(5000))
    m = machine(noise, {}, smp=1, door=door)
    comes_up(m, r"ravelin\.conf:\d+: ")


@pytest.mark.qemu("names a CPU model of QEMU")
def test_no_svm(machine):
    """A CPU without virtualisation: the reason, and the shell."""
    conf = host_section() + vm_section("linux", kernel="vmlinuz", initrd="initrd.img", **GOOD)
    m = machine(conf, {"vmlinuz": image("vmlinuz-6.1"), "initrd.img": initrd()}, smp=2,
                cpu="EPYC,-svm")
    comes_up(m, r"(?i)svm", "linux")


@pytest.mark.qemu("names a CPU model of QEMU")
def test_no_nested_paging(machine):
    conf = host_section()
    m = machine(conf, {}, smp=1, cpu="EPYC,+svm,-npt")
    comes_up(m, r"(?i)nested pag|NPT")
