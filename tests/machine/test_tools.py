# SPDX-License-Identifier: BSD-2-Clause
"""What adds up the results must not lose a failure, and the image tools refuse bad input."""

import re
import subprocess
import sys

import pytest

from harness import TREE, fetch, image, initramfs

SUMMARY = TREE / "tests" / "tools" / "summary.py"

JUNIT = """<?xml version="1.0"?><testsuites><testsuite>
<testcase classname="a" name="good" time="1"/>
<testcase classname="a" name="bad" time="1"><failure>no</failure></testcase>
<testcase classname="a" name="broken" time="1"><error>no</error></testcase>
</testsuite></testsuites>"""

GOOD_LOG = ("[ RUN      ] one\n[       OK ] one\n[ RUN      ] two\n[       OK ] two\n"
            "[  PASSED  ] 2 test(s).\n")
BAD_LOG = ("[ RUN      ] one\n[       OK ] one\n[ RUN      ] two\n[  FAILED  ] two\n"
           "[  PASSED  ] 1 test(s).\n[  FAILED  ] tests: 1 test(s), listed below:\n"
           "[  FAILED  ] two\n\n 1 FAILED TEST(S)\n")
DEAD_LOG = "[ RUN      ] one\n==1==ERROR: AddressSanitizer: heap-buffer-overflow\n"


def summary(build, steps, **logs):
    (build / "unit").mkdir()
    (build / "results").mkdir()
    for name, text in logs.items():
        if name.startswith("test_"):
            (build / "unit" / f"{name}.log").write_text(text)
        else:
            (build / "results" / f"{name}.xml").write_text(text)
    (build / "results" / "steps").write_text(steps)
    done = subprocess.run([sys.executable, SUMMARY, build], capture_output=True, text=True,
                          check=False)
    return done.stdout.splitlines()[-1], done.returncode


@pytest.mark.parametrize("steps,logs,last,status", [
    ("build 0 1\ncheck 0 9\n", {"test_a": GOOD_LOG}, "2 passed, 0 failed", 0),
    ("build 0 1\ncheck 2 9\n", {"test_a": GOOD_LOG, "machine": JUNIT}, "3 passed, 2 failed", 1),
    ("build 0 1\ncheck 2 9\n", {"test_a": BAD_LOG}, "1 passed, 1 failed", 1),
    ("build 0 1\ncheck 2 9\n", {"test_a": DEAD_LOG}, "0 passed, 1 failed", 1),
    ("build 2 1\n", {}, "0 passed, 1 failed", 1),
    ("", {}, "0 passed, 1 failed", 1),
])
def test_summary(tmp_path, steps, logs, last, status):
    assert summary(tmp_path, steps, **logs) == (last, status)


def test_vmlinux_of_refuses_what_is_no_kernel(tmp_path):
    bad = tmp_path / "bad"
    bad.write_bytes(b"\0" * 5000)
    with pytest.raises(fetch.FetchError, match="not a bzImage"):
        fetch.vmlinux_of(bad)
    data = bytearray(image("vmlinuz-6.1").read_bytes()[:0x5000])
    data[0x248:0x24C] = b"\0\0\0\0"
    bad.write_bytes(data)
    with pytest.raises(fetch.FetchError, match="unknown compression"):
        fetch.vmlinux_of(bad)


def test_unknown_image_is_named():
    with pytest.raises(fetch.FetchError, match="'nothing'"):
        fetch.image("nothing")


def test_initramfs_is_reproducible_and_readable(tmp_path):
    first = initramfs.build({"etc/note": b"hello"})
    assert first == initramfs.build({"etc/note": b"hello"})
    (tmp_path / "a.gz").write_bytes(first)
    listing = subprocess.run(f"zcat {tmp_path}/a.gz | cpio -t --quiet", shell=True, check=True,
                             capture_output=True, text=True).stdout.split()
    assert {"init", "bin/busybox", "dev/console", "etc/note"} <= set(listing)


def test_what_is_not_for_bochs_is_documented():
    """Every test with the mark, and its reason, stands in docs/test-machines.md."""
    docs = (TREE / "docs" / "test-machines.md").read_text()
    marked = 0
    for path in (TREE / "tests" / "machine").glob("test_*.py"):
        text = path.read_text()
        for reason, rest in re.findall(
                r'pytest\.mark\.qemu\("([^"]+)"\)(.*?)(?=\n\n|\Z)', text, re.S):
            marked += 1
            assert reason in docs, (path.name, reason)
            found = re.search(r"def (test_\w+)\(", rest)
            name = found.group(1) if found else path.name
            assert any(word.rstrip(".") and name.startswith(word.rstrip("."))
                       for word in re.findall(r"test_[\w.]+", docs)), (path.name, name)
    assert marked > 15


def test_vmx_exit_table_names_what_is_there():
    """Every reason that arch/x86/vmx knows has its row in docs/vmx-exits.md, and every test that a
    row names exists."""
    rows = re.findall(r"^\| ([\d, -]+) \|.*\| ([^|]+) \|$",
                      (TREE / "docs/vmx-exits.md").read_text(), re.M)
    reasons = set()
    for numbers, _ in rows:
        for part in numbers.split(","):
            first, _, last = part.partition("-")
            reasons |= set(range(int(first), int(last or first) + 1))
    known, value = set(), 0
    names = re.findall(r"\bVMX_EXIT_([A-Z_]+)(?: = (\d+))?,", (TREE / "arch/x86/vmx/vmcs.h").read_text())
    for name, start in names:
        value = int(start or value)
        known.add(value)
        value += 1
    assert len(known) > 70 and 79 in known
    assert known == reasons
    sources = {"exits": TREE / "tests/guests/exits.c", "machine": TREE / "tests/machine/test_bochs.py",
               "unit": TREE / "tests/unit"}
    for numbers, tests in rows:
        for kind, names in re.findall(r"(exits|machine|unit): ([\w, ()#]+)", tests):
            for name in re.sub(r"\([^)]*\)", "", names).split(", "):
                name = name.strip()
                if kind == "unit":
                    assert (sources[kind] / f"test_vmx_{name}.c").exists(), (numbers, name)
                elif not name.startswith("and "):
                    text = sources[kind].read_text()
                    assert re.search(rf"\b(test_)?\w*{name}\w*\(", text), (numbers, kind, name)
