# SPDX-License-Identifier: BSD-2-Clause
"""The comparison with KVM: its rules, and the debugger's protocol. No emulator."""

import pathlib
import socket
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gdbstub  # noqa: E402
import ipi  # noqa: E402
import peer  # noqa: E402
import reference  # noqa: E402
import system  # noqa: E402


@pytest.mark.parametrize("factor,good", [(1, True), (1.049, True), (0.951, True), (1.051, False),
                                         (0.949, False)])
def test_five_percent_from_the_reference_are_allowed(factor, good):
    want = reference.CASES["fair-6.12"][3]
    found = {name: count * factor for name, count in want.items()}
    assert reference.verdict("fair-6.12", found) == good
    texts = list(reference.rows("fair-6.12", {n: round(c) for n, c in found.items()}))
    assert len(texts) == len(want) and any("more than" in t for t in texts) != good


def test_one_line_apart_is_enough_to_fail():
    found = dict(reference.CASES["stock-6.1"][3])
    found["icr_self"] *= 1.06
    assert not reference.verdict("stock-6.1", found)


def test_table_has_kvm_and_its_expensive_instructions():
    ours = {c: {"cpuid.0": {"instructions": 100}, "in.pic": {"instructions": 50, "lock": 1}}
            for c in ("off", "on")}
    kvm = {c: {"cpuid.0": {"instructions": 1000, "vmload": 2, "msr": 3}} for c in ("off", "on")}
    assert "100    1000   10.0" in peer.table(ours, kvm)
    rows = peer.expensive_table(ours, kvm, "off").splitlines()
    assert rows[1].split() == ["cpuid.0", "-", "vmload:2", "msr:3"]
    assert rows[2].split() == ["in.pic", "lock:1"]


def test_ipi_table_names_each_case():
    ours = {op: {"instructions": 700, "lock": 2} for op in ipi.OPERATIONS}
    kvm = {op: {"instructions": 7070, "vmload": 3} for op in ipi.OPERATIONS}
    found = {"ravelin": {case: ours for case, _ in ipi.CASES}}
    cases = len(ipi.OPERATIONS) * len(ipi.CASES)
    assert ipi.table(found).count("lock:2") == cases
    found["kvm"] = {case: kvm for case, _ in ipi.CASES}
    text = ipi.table(found)
    assert text.count("lock:2") == text.count("vmload:3") == text.count("   10.1") == cases


def test_only_vms_that_halt_are_beside():
    conf = system.beside(8, system.vm("bench", "run"))
    assert conf.count("[vm ") == 8 and conf.count("kernel = idle.elf") == 7
    assert conf.count("autostart = yes") == 7


def stub(path, answers, asked):
    """A debugger's other side: one answer to each packet."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(1)

    def serve():
        conn, _ = server.accept()
        data = b""
        for answer in answers:
            while b"#" not in data:
                data += conn.recv(100)
            text, data = data.lstrip(b"+")[1:].split(b"#", 1)
            data = data[2:]
            asked.append(text.decode())
            conn.sendall(b"+$%s#%02x" % (answer, sum(answer) & 0xFF))
        conn.recv(100)
        conn.close()
        server.close()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_debugger_sets_points_and_reads_registers(tmp_path):
    asked = []
    registers = b"".join(n.to_bytes(8, "little").hex().encode() for n in range(17))
    stub(tmp_path / "gdb", [b"T05", b"OK", b"T05", registers, b"8877665544332211"], asked)
    gdb = gdbstub.Gdb(tmp_path / "gdb")
    gdb.point(0x1000)
    gdb.start()
    assert gdb.stopped(5)
    assert gdb.registers() == (7, 16)
    assert gdb.word(0x10) == 0x1122334455667788
    assert asked == ["?", "Z1,1000,1", "c", "g", "m10,8"]


def test_debugger_writes_physical_memory(tmp_path):
    asked = []
    stub(tmp_path / "gdb", [b"T05", b"OK", b"OK", b"OK"], asked)
    gdbstub.Gdb(tmp_path / "gdb").physical_write(0xfed00010, 0x102)
    assert asked[1:] == ["Qqemu.PhyMemMode:1", "Mfed00010,8:0201000000000000", "Qqemu.PhyMemMode:0"]


def test_debugger_reports_a_refusal(tmp_path):
    stub(tmp_path / "gdb", [b"T05", b"E22"], [])
    gdb = gdbstub.Gdb(tmp_path / "gdb")
    with pytest.raises(gdbstub.GdbError, match="Z1,1000"):
        gdb.point(0x1000)
