#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""An interrupt to another vCPU: what Ravelin and KVM execute for it, on both CPUs together.

Usage: ipi.py [--build DIR] [--json FILE] [--series 6.12] [--no-kvm]

A vCPU sends (ICR's two halves by MMIO) and waits until the other's handler has run and written
EOI. The target spins or halts, on a CPU of its own or on the sender's. An emulator that counts
instructions runs its CPUs in turns, so the guest's clock says nothing here: the instructions
executed outside the guest are counted one by one, mitigations off, and of 64 turns the median
counts. On one CPU both switches from vCPU to vCPU are part of a turn, and what the spinning of
the sender costs the hypervisor till its time is over.
"""

import json
import pathlib
import sys
import tempfile

import gdbstub
import machine
import peer
import run
import single

CASES = (("one CPU each", 2), ("same CPU", 1))
OPERATIONS = ("ipi.running", "ipi.halted")


# The emulator's CPUs take turns until the next timer: one of the HPET's that ticks often, on an
# input of the I/O APIC that is masked (IA-PC HPET 1.0a, 2.3.4, 2.3.8 and 2.3.9).
HPET, TIMER = 0xFED00000, 0x120
TICK = 2000  # of 10 instructions
PERIODIC = 1 << 2 | 1 << 3 | 1 << 6 | 20 << 9  # enabled, periodic, accumulator set; input 20


def short_turns(m):
    gdb = gdbstub.Gdb(m.tmp / "gdb")
    gdb.physical_write(HPET + 0x10, 1)
    gdb.physical_write(HPET + TIMER, PERIODIC)
    gdb.physical_write(HPET + TIMER + 8, TICK)
    gdb.close()


def options(build, tmp):
    return ["-gdb", f"unix:{tmp / 'gdb'},server=on,wait=off",
            *single.filtered(build / "guests" / "bench.elf64"), *machine.COUNTING]


def counted(m, build, log=single.Log):
    """{operation: Counter} of the median turn."""
    names = single.collect(m, m.tmp / "log", lambda: short_turns(m))
    found = single.by_operation(names, log(m.tmp / "log"), build / "guests" / "bench.elf64")
    return {name: turns[len(turns) // 2] for name, turns in found.items()}


def ravelin(emu, build, cpus, log=single.Log):
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        with machine.on_ravelin(emu, tmp, build, cmdline="trace ipi", vcpus=2, cpus=cpus,
                                counting=False, extra=options(build, tmp)) as m:
            return counted(m, build, log)


def kvm(emu, build, tmp, cpus):
    argv = peer.host_argv(emu, tmp, False, cpus=cpus,
                          append="GUEST_CMDLINE=trace,ipi GUEST_CPUS=2")
    with machine.Machine([*argv, *options(build, tmp)], tmp) as m:
        return counted(m, build)


def measure(build, series):
    """{who: {case: {operation: Counter}}}; KVM only with a series."""
    emu = machine.emulator(build)
    found = {"ravelin": {}}
    for case, cpus in CASES:
        print(f"ipi: Ravelin, {case}", file=sys.stderr, flush=True)
        found["ravelin"][case] = ravelin(emu, build, cpus)
    if series:
        with tempfile.TemporaryDirectory() as tmp:
            tmp = pathlib.Path(tmp)
            peer.host_files(tmp, series, [build / "guests" / "bench.elf"], peer.GUEST)
            found["kvm"] = {}
            for case, cpus in CASES:
                print(f"ipi: KVM, {case}", file=sys.stderr, flush=True)
                found["kvm"][case] = kvm(emu, build, tmp, cpus)
    return found


def table(found):
    """Counts, and how many times Ravelin's KVM's is, then the expensive ones among them."""
    rows = [f"{'':28}" + "".join(f"{who:>9}" for who in found) + f"{'times':>7}"]
    notes = []
    for case, _ in CASES:
        for operation in OPERATIONS:
            name = f"{operation}, {case}"
            figures = [cases[case][operation] for cases in found.values()]
            counts = [figure["instructions"] for figure in figures]
            ratio = f"{counts[1] / counts[0]:7.1f}" if len(counts) > 1 else ""
            rows.append(f"{name:28}" + "".join(f"{count:9}" for count in counts) + ratio)
            notes += [f"{name:28}{who:9}{run.expensive_text(figure)}"
                      for who, figure in zip(found, figures)]
    return "\n".join([*rows, "", *notes])


def main(argv):
    parser = machine.argument_parser(__doc__)
    parser.add_argument("--series", default="6.12")
    parser.add_argument("--no-kvm", action="store_true")
    opt = parser.parse_args(argv)
    found = measure(opt.build, None if opt.no_kvm else opt.series)
    print(table(found))
    if opt.json:
        opt.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
