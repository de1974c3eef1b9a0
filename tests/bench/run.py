#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What operations of a guest cost on Ravelin, in instructions.

Usage: run.py [--build DIR] [--qemu PATH] [--stock] [--mitigations] [--json FILE] [--update]

Runs the payload (tests/bench/bench.c) in an emulator whose clock counts instructions and prints a
table: the count, the target, the committed baseline. Status 1 when a count is more than 5 % above
its baseline, or above a target that the baseline meets. --update writes the baseline anew.
The emulator is the SEV machine's, which saves the next RIP and instruction bytes as EPYC does;
--stock takes Debian's QEMU, which does not.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path.insert(0, str(TOP / "tests" / "images"))
import media  # noqa: E402

BASELINE = HERE / "baseline.json"
TOLERANCE = 1.05

# Instructions per operation with mitigations off: what we aim at.
TARGETS = {
    "cpuid.0": 90, "cpuid.80000008": 90, "hypercall": 90,
    "rdmsr.apic_base": 120, "rdmsr.efer": 120, "wrmsr.efer": 120, "rdmsr.mtrrcap": 120,
    "in.pic": 150, "out.pic": 150, "in.uart": 150, "out.uart": 150, "in.port61": 150,
    "in.unclaimed": 150, "out.unclaimed": 150,
    "apic.eoi": 250, "x2apic.eoi": 140, "self_ipi": 500, "self_ipi.hlt": 800, "mmio.hole": 300,
    # no exit at all: the operation itself, twice
    "cr0.wp": 10, "cr4.pge": 10, "cr8": 5, "dr7": 5,
}

CONF = """[host]
console = com1,115200
attach = bench
mitigations = {mitigations}
[vm bench]
kernel = bench.elf
memory = 64M
cpus = 1
debug-exit = yes
autostart = yes
"""


def emulator(build, stock):
    """(program, options) of the emulator."""
    if stock:
        return "qemu-system-x86_64", ["-accel", "tcg"]
    path = os.environ.get("SEV_QEMU") or build / "sev-machine" / "bin" / "qemu-system-x86_64"
    return str(path), ["-accel", "tcg,thread=single", "-object", "sev-memory,id=sev",
                       "-L", "/usr/share/seabios", "-L", "/usr/share/qemu"]


def measure(qemu, options, build, mitigations=False, seconds=180):
    """{operation: instructions}, in the payload's order."""
    with tempfile.TemporaryDirectory() as tmp:
        iso, com = pathlib.Path(tmp) / "bench.iso", pathlib.Path(tmp) / "com1"
        media.iso(iso, build / "ravelin.elf",
                  CONF.format(mitigations="yes" if mitigations else "no"),
                  {"bench.elf": build / "guests" / "bench.elf"})
        argv = [qemu, *options, "-M", "q35", "-cpu", "EPYC,+svm,+npt,x2apic=off", "-m", "512",
                "-nodefaults", "-display", "none", "-cdrom", str(iso), "-serial", f"file:{com}",
                "-icount", "shift=0,sleep=off"]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as proc:
            end, text = time.monotonic() + seconds, ""
            while time.monotonic() < end and "bench done" not in text and proc.poll() is None:
                time.sleep(0.2)
                text = com.read_text(errors="replace") if com.exists() else ""
            proc.kill()
            errors = proc.stderr.read()
    if "bench done" not in text:
        raise SystemExit(f"the payload did not end:\n{text[-1500:]}\n{errors[-500:]}")
    return {name: int(n) for name, n in re.findall(r"^bench (\S+) (\d+)\r?$", text, re.M)}


def verdicts(counts, baseline):
    """{operation: what is wrong with it}"""
    wrong = {}
    for name, base in baseline.items():
        count = counts.get(name)
        if count is None:
            wrong[name] = "was not measured"
        elif count > base * TOLERANCE + 1:
            wrong[name] = f"{count}, more than 5 % above the baseline {base}"
        elif base <= TARGETS.get(name, 0) < count:
            wrong[name] = f"{count}, above the target {TARGETS[name]} that was met"
    return wrong


def table(counts, baseline):
    rows = [f"{'operation':24}{'instructions':>13}{'target':>8}{'baseline':>10}"]
    for name, count in counts.items():
        target = TARGETS.get(name, "")
        mark = "" if target == "" or count <= target else "  missed"
        rows.append(f"{name:24}{count:13}{target:>8}{baseline.get(name, ''):>10}{mark}")
    return "\n".join(rows)


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build")
    parser.add_argument("--qemu")
    parser.add_argument("--stock", action="store_true")
    parser.add_argument("--mitigations", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--update", action="store_true")
    opt = parser.parse_args(argv)
    qemu, options = emulator(opt.build, opt.stock)
    counts = measure(opt.qemu or qemu, options, opt.build, opt.mitigations)
    if opt.update:
        BASELINE.write_text(json.dumps(counts, indent=1) + "\n")
    baseline = json.loads(BASELINE.read_text())
    print(table(counts, baseline))
    if opt.json:
        opt.json.write_text(json.dumps(counts, indent=1) + "\n")
    if opt.stock or opt.mitigations:
        return 0  # the baseline is for the other machine
    wrong = verdicts(counts, baseline)
    for name, why in wrong.items():
        print(f"error: {name}: {why}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
