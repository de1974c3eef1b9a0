#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What the hypercall that sends an interrupt to a set of vCPUs costs, in instructions.

Usage: pv_ipi.py [--build DIR] [--json FILE] [--quick]

The payload (pvipi.c) runs in the SEV machine's emulator, whose clock counts instructions. A call
to n vCPUs may cost 150 + 25 n instructions, its exit and entry included, whether they run, wait
for their CPU or halt. Each CPU in guest mode that must be interrupted, beyond two, may cost KICK
more.
Status 1 when one costs more.
"""

import json
import pathlib
import re
import sys
import tempfile

import machine

KICK = 11

# State of the targets, vCPUs, CPUs of the machine. "halted" on one CPU: the first one that wants
# to run beside the sender also begins the sender's time slice; on two: the other CPU is idle and
# is woken.
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


def limit(state, targets):
    return 150 + 25 * targets + (KICK * max(targets - 2, 0) if state == "running" else 0)


def measure(emu, build, state, cpus, smp, seconds=400):
    """{targets: instructions}. emu: as of machine.emulator()"""
    conf = CONF.format(state=state, cpus=cpus)
    files = {"pvipi.elf": build / "guests" / "pvipi.elf"}
    with tempfile.TemporaryDirectory() as tmp:
        with machine.start_ravelin(emu, pathlib.Path(tmp), build, conf, files, cpus=smp) as m:
            text = m.wait("guest: exit", seconds)
    if "pvipi done" not in text or "FAIL" in text:
        raise machine.BenchError(f"the payload did not end:\n{text[-1500:]}")
    return {int(n): int(cost) for n, cost in
            re.findall(rf"^pvipi {state} (\d+) (\d+)$", text, re.M)}


def main(argv):
    parser = machine.argument_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="a few vCPUs instead of 64")
    opt = parser.parse_args(argv)
    emu, found, over = machine.emulator(opt.build), [], 0
    print(f"{'targets are':14}{'CPUs':>5}{'targets':>9}{'instructions':>14}{'limit':>7}")
    for state, cpus, smp in QUICK if opt.quick else RUNS:
        costs = measure(emu, opt.build, state, cpus, smp)
        found.append({"state": state, "cpus": smp, "costs": costs})
        for n in sorted(costs):
            wrong = costs[n] > limit(state, n)
            over += wrong
            print(f"{state:14}{smp:5}{n:9}{costs[n]:14}{limit(state, n):7}"
                  + "  over" * wrong, flush=True)
    if opt.json:
        opt.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
