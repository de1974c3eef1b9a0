# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPU side rule by rule: baremetal/main.c on the machine, its checkers, and the proof that
each deliberate defect of the emulator is noticed."""

import pathlib
import re
import subprocess

import pytest

import linuxhost

HERE = pathlib.Path(__file__).resolve().parent

# Names of src/sev.h whose defects are on the CPU side; the security processor's are in kat/.
MUTATIONS = ("no-vmsa-check", "ae-as-nae", "no-rip-advance", "mmio-ae", "no-trap",
             "trap-old-value", "fpu-kept", "no-type-b", "no-asid-valid", "c-bit-ignored",
             "no-tweak", "dma-decrypts", "ghcb-not-saved", "if-not-shown", "no-smmlock-check",
             "leak-exitinfo")
FATAL_STATUS = 70
GOOD = 33             # isa-debug-exit of 0x10; 35 after a failed check


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    out = tmp_path_factory.mktemp("baremetal")
    subprocess.run([HERE / "baremetal" / "build.sh", out], check=True)
    return out / "sevtest.bin"


def run(program, options="", append="", timeout=60):
    """(exit status of the emulator, its output lines); status None when it did not end."""
    argv = [linuxhost.emulator(), *linuxhost.QEMU_ARGS, "-serial", "stdio", "-m", "256", "-cpu",
            "EPYC,hypervisor=off", "-no-reboot", "-kernel", program, "-append", append,
            "-object", "sev-memory,id=sev,test-port=0x580" + options, "-device", "sev-psp",
            "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
    try:
        done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
    except subprocess.TimeoutExpired as late:
        return None, (late.stdout or b"").decode("utf-8", "replace").splitlines()
    return done.returncode, done.stdout.decode("utf-8", "replace").splitlines()


def test_rules(program):
    """Every check passes, and the only violations are the test's own writes to a VMSA."""
    status, lines = run(program)
    assert not [x for x in lines if x.startswith("FAIL")]
    end = [x for x in lines if x.startswith("END")]
    passed = [x for x in lines if x.startswith("PASS")]
    assert end == [f"END {hex(len(passed))}/0x0"]
    assert len(passed) > 200
    assert status == GOOD
    assert all("vmsa-write" in x for x in lines if "violation" in x)


def test_poison(program):
    """With poison=on nothing of the guest is in the VMCB's save area; all rules still hold."""
    status, lines = run(program, ",poison=on")
    assert status == GOOD, [x for x in lines if x.startswith("FAIL")]


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_is_noticed(program, name):
    status, lines = run(program, f",mutate={name}", timeout=30)
    assert status != GOOD, f"the tests pass on an emulator with the defect {name}"
    if status is not None:
        assert [x for x in lines if x.startswith("FAIL")], lines[-5:]


def test_every_mutation_has_a_test():
    """The names of src/sev.h are the ones tested here and the security processor's."""
    text = (HERE / "src" / "sev.h").read_text()
    names = re.findall(r'/\* "([a-z-]+)":', text)
    assert {n for n in names if not n.startswith("psp-")} == set(MUTATIONS)


def test_unknown_mutation(program):
    status, lines = run(program, ",mutate=no-such-thing")
    assert status == 1
    assert "no-such-thing" in " ".join(lines)


def violations_by_step(lines):
    steps = []
    for line in lines:
        if line.startswith("STEP "):
            steps.append((line[5:], []))
        elif line.startswith("sev: violation ") and steps:
            steps[-1][1].append(line.split()[2].rstrip(":"))
    return steps


def test_checkers(program):
    """Each misuse is reported as its kind, and the correct way beside it is not."""
    status, lines = run(program, ",coherent=off,poison=on", append="m")
    steps = violations_by_step(lines)
    assert status == GOOD and steps and steps[-1] == ("end", [])
    for name, kinds in steps[:-1]:
        want = name.split(":")[0]
        if want == "good":
            assert kinds == [], name
        else:
            assert kinds and set(kinds) == {want}, (name, kinds)


def test_coherent_caches_need_no_flush(program):
    status, lines = run(program, ",coherent=on", append="m")
    assert status == GOOD
    assert not [x for x in lines if "violation key-change" in x]


def test_fatal_violation(program):
    status, lines = run(program, ",coherent=off,fatal=on", append="m")
    assert status == FATAL_STATUS
    assert len([x for x in lines if "violation" in x]) == 1


@pytest.mark.parametrize("option,got", [("inject-exit-code=114", "0x72"),
                                        ("inject-vmsa-flip=3011", "0xffffffffffffffff")])
def test_injection_by_property(program, option, got):
    """The first guest meets the injected fault, once."""
    status, lines = run(program, "," + option)
    fails = [x for x in lines if x.startswith("FAIL")]
    assert fails[0] == f"FAIL VMRUN: accepted after LAUNCH_FINISH: {got}, expected 0x403"
    assert status != GOOD


@pytest.mark.parametrize("option", ["c-bit=31", "c-bit=52", "max-asid=0", "min-sev-asid=0",
                                    "min-sev-asid=17", "phys-reduction=17"])
def test_bad_option(program, option):
    status, lines = run(program, "," + option)
    assert status == 1, lines
    assert "c-bit must be" in " ".join(lines)


def test_many_threads_are_refused(program):
    argv = [linuxhost.emulator(), "-M", "q35", "-accel", "tcg,thread=multi", "-nodefaults",
            "-display", "none", "-L", "/usr/share/seabios", "-object", "sev-memory,id=sev"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False, timeout=30)
    assert done.returncode == 1
    assert "thread=single" in done.stderr


def test_size_of_the_patch():
    """Fewer than 350 lines of QEMU's own files change."""
    lines = (HERE / "qemu.patch").read_text().splitlines()
    changed = [x for x in lines if x[:1] in "+-" and not x.startswith(("+++", "---"))]
    assert 100 < len(changed) < 350
