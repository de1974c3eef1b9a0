# SPDX-License-Identifier: BSD-2-Clause
"""The harness itself, and the test guests on the plain emulator (no hypervisor below)."""

import pytest

import harness
from harness import image, initrd


@pytest.mark.qemu("compares with QEMU without a hypervisor")
def test_expect_finds_in_order_and_times_out(machine):
    m = machine.plain(image("vmlinuz-6.1"), initrd_path=initrd(), cpu="max",
                      cmdline="console=ttyS0 quiet rv.test=boot")
    m.expect(r"^RV-KERNEL 6\.1\.", 60)
    assert m.expect(r"^RV-CPUS (\d+) online (\S+)$").groups() == ("1", "0")
    m.expect(r"guest# ")
    m.line("echo sum $((40 + 2))")
    m.expect(r"^sum 42$")
    with pytest.raises(harness.Timeout):
        m.expect("sum 43", timeout=1)
    with pytest.raises(AssertionError, match="came before"):
        m.line("echo bad; echo go''od")
        m.expect("^good", never="^bad")
    m.line("poweroff -f")
    assert m.wait_exit(30) == 0
    with pytest.raises(harness.Ended):
        m.expect("more")


def test_media_hold_the_files(tmp_path):
    (tmp_path / "k").write_bytes(b"kernel" * 1000)
    disk = harness.media.esp(tmp_path / "esp.img", tmp_path / "k", "[host]\n",
                             {"vmlinuz": tmp_path / "k", "debian/initrd.img": tmp_path / "k"})
    listing = harness.media.run("mdir", "-b", "-/", "-i", disk, "::/")
    assert "::/EFI/BOOT/BOOTX64.EFI" in listing
    assert "::/ravelin.conf" in listing
    assert "::/debian/initrd.img" in listing
    got = harness.media.run("mtype", "-i", disk, "::/vmlinuz")
    assert got == "kernel" * 1000


def test_grub_menu_names_modules():
    text = harness.media.grub_cfg(["ravelin.conf", "vmlinuz"], "log=debug")
    assert "multiboot2 /boot/ravelin.elf log=debug\n" in text
    assert "module2 --nounzip /boot/vmlinuz vmlinuz\n" in text
