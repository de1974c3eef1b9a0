#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What the hypercall that sends an interrupt to a set of vCPUs costs, in instructions.

Usage: pv_ipi.py [--build DIR] [--qemu PATH] [--quick]

The payload (pvipi.c) runs in the SEV machine's emulator, whose clock counts instructions. A call to
n vCPUs may cost 150 + 25 n instructions, its exit and entry included, whether they run, wait for
their CPU or halt, and however many CPUs must be interrupted. Status 1 when one costs more.
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

# State of the targets, vCPUs, CPUs of the machine. "halted" on one CPU: the first one that wants to
# run beside the sender also begins the sender's time slice; on several: the other CPUs are idle and
# are woken. vCPU i lives with vCPU i + CPUs: the dearest are two targets on two CPUs, of which one
# begins the sender's slice and the other is woken.
RUNS = [("waiting", 64, 1), ("requested", 64, 1), ("halted", 64, 1), ("halted", 8, 8),
        ("halted", 9, 2), ("halted", 64, 4), ("running", 8, 8)]
QUICK = [("waiting", 9, 1), ("requested", 9, 1), ("halted", 9, 1), ("halted", 4, 4),
         ("halted", 9, 2), ("halted", 9, 4), ("running", 4, 4)]
# LAPICs of the machine, of the guest.
MODES = [("xapic", "xapic"), ("x2apic", "xapic"), ("xapic", "x2apic"), ("x2apic", "x2apic")]

CONF = """[host]
console = com1,115200
log = warn
attach = pvipi
mitigations = no
[vm pvipi]
kernel = pvipi.elf
cmdline = state={state} cpus={cpus} x2apic={x2apic}
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


def limit(targets):
    return 150 + 25 * targets


def accelerator(host):
    """With x2APIC the timer is set by WRMSR; an emulator that counts instructions ends there ("Bad
    icount read") unless each instruction is a block of its own."""
    return "tcg,thread=single" + (",one-insn-per-tb=on" if host == "x2apic" else "")


def measure(qemu, build, state, cpus, smp, host="xapic", guest="xapic", seconds=400):
    """{targets: instructions}"""
    with tempfile.TemporaryDirectory() as tmp:
        iso, com = pathlib.Path(tmp) / "pvipi.iso", pathlib.Path(tmp) / "com1"
        conf = CONF.format(state=state, cpus=cpus, x2apic=int(guest == "x2apic"))
        media.iso(iso, build / "ravelin.elf", conf,
                  {"pvipi.elf": build / "guests" / "pvipi.elf"})
        cpu = f"EPYC,+svm,+npt,x2apic={'on' if host == 'x2apic' else 'off'}"
        argv = [qemu, "-accel", accelerator(host), "-object", "sev-memory,id=sev",
                "-L", "/usr/share/seabios", "-L", "/usr/share/qemu", "-M", "q35", "-cpu", cpu,
                "-m", "512", "-smp", str(smp), "-nodefaults", "-display", "none",
                "-cdrom", str(iso),
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
    print(f"{'host':8}{'guest':8}{'targets are':14}{'CPUs':>5}{'targets':>9}{'instructions':>14}"
          f"{'limit':>7}")
    for host, guest in MODES:
        for state, cpus, smp in QUICK if opt.quick else RUNS:
            costs = measure(qemu, opt.build, state, cpus, smp, host, guest)
            for n in sorted(costs):
                most = limit(n)
                over += costs[n] > most
                print(f"{host:8}{guest:8}{state:14}{smp:5}{n:9}{costs[n]:14}{most:7}"
                      f"{'  over' if costs[n] > most else ''}", flush=True)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
