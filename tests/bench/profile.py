#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Where the instructions of operations go.

Usage: profile.py [--build DIR] [--json FILE] [--mitigations | --ipi CPUS] OPERATION...

Runs the benchmark's payload on Ravelin in the SEV machine's emulator, lets it log single
instructions, and prints for each operation how many fall on each function of the hypervisor.
With --ipi the operations are ipi.running and ipi.halted (ipi.py) on that many CPUs.
"""

import bisect
import collections
import json
import pathlib
import subprocess
import sys
import tempfile

import ipi
import machine
import single


def symbols(elf):
    rows = subprocess.run(["nm", "-n", elf], capture_output=True, text=True, check=True).stdout
    found = [(int(a, 16), name) for a, kind, name in (r.split() for r in rows.splitlines())
             if kind in "tT"]
    return [a for a, _ in found], [name for _, name in found]


class Functions:
    """A log whose kinds are the names of functions: single.turns() then counts by these."""

    def __init__(self, log, elf):
        self.log = log
        self.starts, self.names = symbols(elf)

    def name(self, pc):
        at = bisect.bisect_right(self.starts, pc) - 1
        return self.names[at] if at >= 0 else hex(pc)

    def __iter__(self):
        names = {}
        for pc, guest, _ in self.log:
            if pc not in names:
                names[pc] = self.name(pc)
            yield pc, guest, names[pc]


def profiles(build, mitigations, ipi_cpus=0):
    """{operation: Counter of functions}, the cheapest turn of each; of an IPI the median."""
    elf = build / "guests" / "bench.elf64"

    def by_function(path):
        return Functions(single.Log(path), build / "ravelin.debug")
    if ipi_cpus:
        return ipi.ravelin(machine.emulator(build), build, ipi_cpus, by_function)
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        emu = machine.emulator(build)
        with machine.on_ravelin(emu, tmp, build, mitigations, cmdline="trace",
                                extra=single.filtered(elf)) as m:
            names = single.collect(m, tmp / "log")
        found = single.by_operation(names, by_function(tmp / "log"), elf)
    return {name: t[0] for name, t in found.items()}


def show(name, counts):
    counts = collections.Counter(counts)
    print(f"{name}: {counts.pop('instructions', 0)} instructions")
    for function, n in counts.most_common():
        print(f"{n:8}  {function}")


def main(argv):
    parser = machine.argument_parser(__doc__)
    parser.add_argument("--mitigations", action="store_true")
    parser.add_argument("--ipi", type=int, default=0)
    parser.add_argument("operation", nargs="+")
    opt = parser.parse_args(argv)
    found = profiles(opt.build, opt.mitigations, opt.ipi)
    for name in opt.operation:
        if name not in found:
            raise SystemExit(f"no operation {name}; there are: {' '.join(found)}")
        show(name, found[name])
    if opt.json:
        opt.json.write_text(json.dumps({n: found[n] for n in opt.operation}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
