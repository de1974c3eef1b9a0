# SPDX-License-Identifier: BSD-2-Clause
"""The benchmark's gate: its rules, the counting behind it, and that it sees a broken fast path."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path.insert(0, str(HERE))
import gate  # noqa: E402
import machine  # noqa: E402
import run  # noqa: E402
import single  # noqa: E402

BASE = {"off": {"cpuid.0": {"instructions": 80}, "in.pic": {"instructions": 100, "lock": 1}}}


def check(name, accepted=(), doc="", **figure):
    found = {"off": {**BASE["off"], name: figure}}
    return gate.verdicts(found, BASE, {"off": list(accepted)}, doc)


def test_equal_counts_pass():
    assert not gate.verdicts(BASE, BASE, {}, "")


@pytest.mark.parametrize("figure,wrong", [
    ({"instructions": 84}, False),
    ({"instructions": 85}, True),
    ({"instructions": 80, "vmsave": 1}, True),
])
def test_a_rise_fails(figure, wrong):
    assert bool(check("cpuid.0", **figure)) == wrong


def test_a_new_or_lost_operation_fails():
    assert "not in the baseline" in check("cpuid.9", instructions=1)[0]
    assert "not measured" in gate.verdicts({"off": {}}, BASE, {}, "")[0]


def test_a_missed_target_must_be_listed_and_explained():
    base = {"off": {"in.pic": {"instructions": 151}}}

    def verdict(accepted, doc):
        return gate.verdicts(base, base, {"off": accepted}, doc)
    assert "the target is 150" in verdict([], "`in.pic`")[0]
    assert "does not say why" in verdict(["in.pic"], "")[0]
    assert not verdict(["in.pic"], "`in.pic`")
    assert "take it off" in check("in.pic", ["in.pic"], "`in.pic`", instructions=100, lock=1)[0]


@pytest.mark.parametrize("code,kind", [
    ("0f01db", "vmsave"), ("0f01da", "vmload"), ("0f01dd", "gif"), ("0f32", "msr"),
    ("0f30", "msr"), ("0fa2", "cpuid"), ("f0480fb111", "lock"), ("4887078b", "lock"),
    ("87c0", None), ("0f22d8", "cr"), ("440f22c0", "cr"), ("0f01d1", "xcr0"), ("0f0138", "tlb"),
    ("660f388200", "tlb"), ("0f78c3", "vmread"), ("0f79c3", "vmwrite"), ("0f01d8", None),
    ("0faee8", None), ("488b0424", None), ("90", None), ("0f20c0", None),
])
def test_instructions_are_told_apart(code, kind):
    assert single.kind_of(bytes.fromhex(code) + b"\xff\xff") == kind


def test_turns_are_counted_outside_the_guest():
    mark, turn = 0x10, 0x20
    log = [(mark, True, None), (5, False, "lock"), (turn, True, None), (0x99, True, None),
           (5, False, "lock"), (6, False, None), (turn, True, None), (7, False, None)]
    assert single.turns(log, mark, turn) == [[{"instructions": 2, "lock": 1}]]


TEXT = """----------------
IN:
0xffffffff80000010:
OBJD-T: 0f01db

Trace 0: 0x7f150f7cc540 [00000000/ffffffff80000010/0010c2b0/ff022201]
Trace 1: 0x7f150f7cca40 [00000000/ffffffff80000010/0030c2b0/ff022201]
----------------
IN:
0xffffffff80000010:
OBJD-T: f0480fb111

Trace 0: 0x7f150f7ccb40 [00000000/ffffffff80000010/0010c2b0/ff022201]
"""


def test_log_is_read(tmp_path):
    """The flags say which ones are the guest's; at an address there may be other code later."""
    (tmp_path / "log").write_text(TEXT)
    pc = 0xffffffff80000010
    assert list(single.Log(tmp_path / "log")) == [(pc, False, "vmsave"), (pc, True, "vmsave"),
                                                  (pc, False, "lock")]


def test_operations_are_named_or_missed(monkeypatch):
    log = [(0x10, True, None), (0x20, True, None), (5, False, None), (6, False, None),
           (0x20, True, None), (5, False, None), (0x20, True, None)]
    monkeypatch.setattr(single, "addresses", lambda *_: (0x10, 0x20))
    found = single.by_operation(["in.pic"], log, None)
    assert [c["instructions"] for c in found["in.pic"]] == [1, 2]
    with pytest.raises(RuntimeError, match="2 operations printed, 1 seen"):
        single.by_operation(["in.pic", "out.pic"], log, None)


def test_two_runs_agree():
    """Within 1 %, each operation."""
    build = pathlib.Path(os.environ.get("RAVELIN_BUILD", TOP / "build"))
    emu = machine.emulator(build)
    first, second = (run.measure(emu, build, False) for _ in range(2))
    assert first.keys() == second.keys() and len(first) > 40
    apart = {n: (first[n], second[n]) for n in first
             if abs(first[n] - second[n]) > max(first[n], second[n]) / 100}
    assert not apart


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A copy of the tree whose loop also saves the guest's state with VMSAVE at each exit."""
    tree = tmp_path_factory.mktemp("broken") / "tree"
    build = pathlib.Path(os.environ.get("RAVELIN_BUILD", TOP / "build"))
    shutil.copytree(TOP, tree, symlinks=True, ignore=shutil.ignore_patterns(".git", "build*"))
    shutil.copytree(build, tree / "build", symlinks=True)
    entry = tree / "arch/x86/svm/entry.asm"
    text = entry.read_text()
    call = "\tcall svm_exit\t"
    assert text.count(call) == 1
    entry.write_text(text.replace(call, "\tmov rax, [rsp + 8]\n\tvmsave\n" + call))
    done = subprocess.run(["make", "-C", tree, "O=build", "build/ravelin.elf", "guests"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tree


def test_an_extra_vmsave_in_the_loop_fails(broken):
    done = subprocess.run([sys.executable, HERE / "run.py", "--build", broken / "build",
                           "--columns", "off"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: cpuid.0 (mitigations off): 1 vmsave, the baseline has 0" in done.stdout
    assert "error: rdmsr.efer (mitigations off): 1 vmsave" in done.stdout
    assert "error: cr0.wp" not in done.stdout, "no exit there: nothing to find"
