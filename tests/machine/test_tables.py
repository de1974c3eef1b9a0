# SPDX-License-Identifier: BSD-2-Clause
"""What firmware's tables and the CPU's feature bits say is read, checked and obeyed."""

import struct

import pytest

from harness import host_section


def table(signature, body):
    """An ACPI table with its header. The emulator gives it its checksum."""
    head = struct.pack("<4sIBB6s8sI4sI", signature, 36 + len(body), 1, 0, b"TEST  ", b"TESTTEST",
                       1, b"TEST", 1)
    return head + body


def spcr(port):
    """A 16550 at an I/O port, 115200 baud."""
    body = bytes([0, 0, 0, 0]) + struct.pack("<BBBBQ", 1, 8, 0, 1, port)
    body += bytes([3, 4]) + struct.pack("<I", 4) + bytes([7, 0, 1, 0, 3, 0])
    return body + struct.pack("<HHBBBI", 0xffff, 0xffff, 0, 0, 0, 0) + bytes(5)


def with_table(tmp_path, data):
    path = tmp_path / "table"
    path.write_bytes(data)
    return ["-acpitable", f"file={path}"]


@pytest.mark.qemu("gives the machine ACPI tables of its own")
def test_spcr_names_the_console(machine, tmp_path):
    second = tmp_path / "com2"
    m = machine("", door="grub-bios", smp=1, memory="256M",
                extra=["-serial", f"file:{second}"] +
                with_table(tmp_path, table(b"SPCR", spcr(0x2f8))))
    m.expect(r"machine: .* 1 CPUs", 60)     # the early console is COM1
    for _ in range(40):
        m.pump(0.5)
        if second.exists() and "ravelin> " in second.read_text(errors="replace"):
            break
    assert "ravelin> " in second.read_text(errors="replace")
    assert "ravelin> " not in m.text


@pytest.mark.qemu("gives the machine ACPI tables of its own")
def test_srat_gives_nodes(machine):
    extra = []
    for node in range(2):
        extra += ["-object", f"memory-backend-ram,id=m{node},size=256M",
                  "-numa", f"node,memdev=m{node},cpus={2 * node}-{2 * node + 1}"]
    m = machine(host_section(), door="grub-bios", smp=4, memory="512M", extra=extra)
    m.boot()
    out = m.command("cpu")
    rows = [row.split("node")[1].split()[0] for row in out.splitlines() if "node" in row]
    assert rows == ["0", "0", "1", "1"], out
    assert m.poweroff() == 0


@pytest.mark.qemu("names a CPU model of QEMU")
def test_cpu_without_nx(machine):
    m = machine(host_section(), door="grub-bios", smp=1, memory="256M", cpu="qemu64,-nx")
    m.expect(r"Ravelin: this CPU has no 64-bit mode with NX", 60)


@pytest.mark.qemu("names a CPU model of QEMU")
def test_no_virtualisation(machine):
    m = machine(host_section(), door="grub-bios", smp=2, memory="256M", cpu="qemu64,-svm")
    m.expect(r"virt: no AMD SVM: the CPU has no SVM", 60)
    m.boot()
    assert m.poweroff() == 0


@pytest.mark.qemu("names a CPU model of QEMU")
def test_memory_above_4g_and_many_cpus(machine):
    m = machine(host_section(), door="grub-uefi", smp=8, memory="6G", cpu="max")
    found = m.expect(r"machine: .* 8 CPUs, (\d+) MiB, (\d+) MiB free", 120)
    assert int(found.group(1)) > 6000
    assert int(found.group(2)) > 5980
    m.shell()
    assert m.poweroff() == 0
