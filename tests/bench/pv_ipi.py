#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What the hypercall that sends an interrupt to a set of vCPUs costs, in instructions.

Usage: pv_ipi.py [--build DIR] [--qemu PATH] [--quick]

The payload (pvipi.c) runs in the SEV machine's emulator, whose clock counts instructions. A call to n
vCPUs may cost 150 + 25 n instructions, its exit and entry included, whether they run, wait for their
CPU or halt. Each CPU in guest mode that must be interrupted, beyond two, may cost KICK more.
Status 1 when one costs more.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "images"))
import media  # noqa: E402

KICK = 11

# State of the targets, vCPUs, CPUs of the machine. "halted" on one CPU: the first one that wants to run
# beside the sender also begins the sender's time slice; on two: the other CPU is idle and is woken.
RUNS = [("waiting", 64, 1), ("requested", 64, 1), ("halted", 64, 1), ("halted", 2, 2),
        ("running", 4, 4)]
QUICK = [("waiting", 9, 1), ("requested", 9, 1), ("halted", 9, 1), ("halted", 2, 2),
         ("running", 4, 4)]

CONF = """[host]
console = com1,115200
log = warn
attach = pvipi
mitigations = no
[vm pvipi]
kernel = pvipi.elf
cmdline = state={state} cpus={cpus}
memory = 64M
cpus = {cpus}
debug-exit = yes
autostart = yes
"""


def emulator():
    """The emulator that `make sev-machine` builds, or SEV_QEMU."""
    if os.environ.get("SEV_QEMU"):
        return os.environ["SEV_QEMU"]
    built = subprocess.run([TOP / "tests/sev-machine/build.sh"], check=True, text=True,
                           stdout=subprocess.PIPE)
    return built.stdout.split()[-1]


def limit(state, targets):
    return 150 + 25 * targets + (KICK * max(targets - 2, 0) if state == "running" else 0)


def measure(qemu, build, state, cpus, smp, seconds=400):
    """{targets: instructions}"""
    with tempfile.TemporaryDirectory() as tmp:
        iso, com = pathlib.Path(tmp) / "pvipi.iso", pathlib.Path(tmp) / "com1"
        media.iso(iso, build / "ravelin.elf", CONF.format(state=state, cpus=cpus),
                      {"pvipi.elf": build / "guests" / "pvipi.elf"})
        argv = [qemu, "-accel", "tcg,thread=single", "-object", "sev-memory,id=sev",
                "-L", "/usr/share/seabios", "-L", "/usr/share/qemu", "-M", "q35", "-cpu", "EPYC,+svm,+npt,x2apic=off", "-m", "512",
                "-smp", str(smp), "-nodefaults", "-display", "none", "-cdrom", str(iso),
                "-serial", f"file:{com}", "-icount", "shift=0,sleep=off"]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as proc:
            end, text = time.monotonic() + seconds, ""
            while time.monotonic() < end and "guest: exit" not in text and proc.poll() is None:
                time.sleep(0.2)
                text = com.read_text(errors="replace") if com.exists() else ""
            proc.kill()
            errors = proc.stderr.read()
    if "pvipi done" not in text or "FAIL" in text:
        raise SystemExit(f"the payload did not end:\n{text[-1500:]}\n{errors[-500:]}")
    return {int(n): int(cost) for n, cost in
            re.findall(rf"^pvipi {state} (\d+) (\d+)\r?$", text, re.M)}


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build")
    parser.add_argument("--qemu")
    parser.add_argument("--quick", action="store_true", help="a few vCPUs instead of 64")
    opt = parser.parse_args(argv)
    qemu = opt.qemu or emulator()
    over = 0
    print(f"{'targets are':14}{'CPUs':>5}{'targets':>9}{'instructions':>14}{'limit':>7}")
    for state, cpus, smp in QUICK if opt.quick else RUNS:
        costs = measure(qemu, opt.build, state, cpus, smp)
        for n in sorted(costs):
            wrong = costs[n] > limit(state, n)
            over += wrong
            print(f"{state:14}{smp:5}{n:9}{costs[n]:14}{limit(state, n):7}{'  over' if wrong else ''}",
                  flush=True)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
