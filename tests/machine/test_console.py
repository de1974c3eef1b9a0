# SPDX-License-Identifier: BSD-2-Clause
"""Consoles that are not the first serial port."""

import socket
import time

import pytest

from harness import guest, host_section, vm_section


def read_until(sock, want, seconds):
    text, end = "", time.monotonic() + seconds
    sock.settimeout(0.5)
    while want not in text and time.monotonic() < end:
        try:
            text += sock.recv(4096).decode(errors="replace")
        except TimeoutError:
            pass
    return text


@pytest.mark.qemu("needs a device that only QEMU is given")
def test_a_port_without_an_interrupt_is_polled(machine, tmp_path):
    """Typing reaches the shell although a guest never leaves the only CPU by itself."""
    path = tmp_path / "port"
    conf = "[host]\nconsole = 0x2e8,115200\n" + vm_section(
        "busy", kernel="bench.elf", cmdline="spin=cr0.wp", memory="64M", cpus=1, autostart="yes")
    m = machine(conf, {"bench.elf": guest("bench")}, door="grub-bios", smp=1, memory="512M",
                extra=["-chardev", f"socket,id=port,path={path},server=on,wait=off",
                       "-device", "isa-serial,iobase=0x2e8,irq=5,chardev=port"])
    with socket.socket(socket.AF_UNIX) as sock:
        for _ in range(50):
            try:
                sock.connect(str(path))
                break
            except OSError:
                time.sleep(0.1)
        text = read_until(sock, "ravelin> ", 90)
        assert "ravelin> " in text, (text, m.text)
        sock.sendall(b"vm list\r")
        text = read_until(sock, "busy", 30)
        assert "busy" in text
    assert "ravelin> " not in m.text


@pytest.mark.qemu("needs a device that only QEMU is given")
def test_two_consoles_show_the_same(machine, tmp_path):
    second = tmp_path / "com2"
    m = machine("[host]\nconsole = com1,115200 com2,115200\n", door="grub-bios", smp=1,
                memory="256M", extra=["-serial", f"file:{second}"])
    m.boot()
    assert "Ravelin" in m.command("version")
    m.pump(0.5)
    text = second.read_text(errors="replace")
    assert "ravelin> version" in text and "booted by multiboot2" in text, text
    assert m.poweroff() == 0


def test_no_such_port(machine):
    """A configured port where nothing is leaves the machine with its first one."""
    m = machine(host_section(console="0x2e8,115200"), door="grub-bios", smp=1, memory="256M")
    m.expect(r"console: none of the configured ones exists; using com1", 60)
    m.expect(r"ravelin> ", 30)
