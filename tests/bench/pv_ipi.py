#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What the hypercall that sends an interrupt to a set of vCPUs costs, in instructions.

Usage: pv_ipi.py [--build DIR] [--json FILE] [--quick]

The payload (pvipi.c) runs in the SEV machine's emulator, whose clock counts instructions. A call to
n vCPUs may cost 150 + 25 n instructions, its exit and entry included, whether they run, wait for
their CPU or halt, and however many CPUs must be interrupted. Status 1 when one costs more.
"""

import json
import pathlib
import re
import sys
import tempfile

import machine

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


def limit(targets):
    return 150 + 25 * targets


def emulator_for(emu, host):
    """With x2APIC the timer is set by WRMSR; an emulator that counts instructions ends there ("Bad
    icount read") unless each instruction is a block of its own."""
    return [a + ",one-insn-per-tb=on" if host == "x2apic" and a.startswith("tcg") else a
            for a in emu]


def measure(emu, build, state, cpus, smp, host="xapic", guest="xapic", seconds=400):
    """{targets: instructions}. emu: as of machine.emulator()"""
    conf = CONF.format(state=state, cpus=cpus, x2apic=int(guest == "x2apic"))
    files = {"pvipi.elf": build / "guests" / "pvipi.elf"}
    cpu = f"EPYC,+svm,+npt,x2apic={'on' if host == 'x2apic' else 'off'}"
    with tempfile.TemporaryDirectory() as tmp:
        with machine.start_ravelin(emulator_for(emu, host), pathlib.Path(tmp), build, conf, files,
                                   cpus=smp, cpu=cpu) as m:
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
    print(f"{'host':8}{'guest':8}{'targets are':14}{'CPUs':>5}{'targets':>9}{'instructions':>14}"
          f"{'limit':>7}")
    for host, guest in MODES:
        for state, cpus, smp in QUICK if opt.quick else RUNS:
            costs = measure(emu, opt.build, state, cpus, smp, host, guest)
            found.append({"host": host, "guest": guest, "state": state, "cpus": smp,
                          "costs": costs})
            for n in sorted(costs):
                most = limit(n)
                over += costs[n] > most
                print(f"{host:8}{guest:8}{state:14}{smp:5}{n:9}{costs[n]:14}{most:7}"
                      f"{'  over' if costs[n] > most else ''}", flush=True)
    if opt.json:
        opt.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
