#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What operations of a guest cost on Ravelin, in instructions.

Usage: run.py [--build DIR] [--qemu PATH] [--json FILE] [--update | --no-gate] [--stock]
              [--columns off,on]

Runs the payload (tests/bench/bench.c) in an emulator whose clock counts instructions, with
mitigations off and on, and prints a table: instructions, target, and the expensive instructions
among them. The gate: status 1 when a count is more than 5 % above the committed baseline
(baseline.json), or above a target without being listed in accepted.json. --update writes the
baseline anew instead.
The emulator is the SEV machine's, which saves the next RIP and instruction bytes as EPYC does;
--stock takes Debian's QEMU, which does not, and no gate.
"""

import pathlib
import re
import sys
import tempfile

import gate
import machine
import single


def measure(emu, build, mitigations):
    """{operation: instructions} by the guest's own clock, in the payload's order."""
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        with machine.on_ravelin(emu, tmp, build, mitigations) as m:
            text = m.wait("bench done")
    return {name: int(n) for name, n in re.findall(r"^bench (\S+) (\d+)$", text, re.M)}


def expensive(emu, build, mitigations):
    """{operation: Counter} of the instructions outside the guest, from a log of each of them."""
    elf = build / "guests" / "bench.elf64"
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        with machine.on_ravelin(emu, tmp, build, mitigations, cmdline="trace",
                                extra=single.filtered(elf)) as m:
            return single.expensive(m, tmp / "log", elf)


def joined(counts, kinds):
    """{operation: figure}, as gate.py has it."""
    found = {}
    for name, count in counts.items():
        found[name] = {"instructions": count}
        for kind in single.KINDS:
            if kinds.get(name, {}).get(kind):
                found[name][kind] = kinds[name][kind]
    return found


def figures(emu, build, mitigations):
    """{operation: figure} of Ravelin."""
    return joined(measure(emu, build, mitigations), expensive(emu, build, mitigations))


def expensive_text(figure):
    return " ".join(f"{kind}:{figure[kind]}" for kind in single.KINDS if kind in figure)


def table(found, accepted):
    head = "".join(f"{column:>8}{'target':>7}" for column in found)
    rows = [f"{'mitigations':24}{head}  expensive ones"]
    for name in next(iter(found.values())):
        row, notes = f"{name:24}", []
        for column, figures_of in found.items():
            count = figures_of[name]["instructions"]
            aim = gate.target(column, name)
            row += f"{count:8}{'' if aim is None else aim:>7}"
            notes = [expensive_text(figures_of[name])]
            if aim is not None and count > aim:
                notes.append("missed" + ", accepted" * (name in accepted.get(column, [])))
        rows.append(f"{row}  {'  '.join(notes)}".rstrip())
    return "\n".join(rows)


def main(argv):
    parser = machine.argument_parser(__doc__)
    parser.add_argument("--qemu")
    parser.add_argument("--stock", action="store_true")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--no-gate", action="store_true")
    parser.add_argument("--columns", default="off,on")
    opt = parser.parse_args(argv)
    emu = machine.emulator(opt.build, opt.stock)
    if opt.qemu:
        emu[0] = opt.qemu
    columns = opt.columns.split(",")
    if opt.stock:
        counts = {c: measure(emu, opt.build, c == "on") for c in columns}
        found = {c: {n: {"instructions": i} for n, i in counts[c].items()} for c in counts}
    else:
        found = {c: figures(emu, opt.build, c == "on") for c in columns}
    accepted = gate.load(gate.ACCEPTED)
    print(table(found, accepted))
    if opt.json:
        opt.json.write_text(gate.dump(found))
    if opt.update:
        gate.BASELINE.write_text(gate.dump(found))
    if opt.stock or opt.update or opt.no_gate:
        return 0
    doc = gate.DOC.read_text() if gate.DOC.exists() else ""
    wrong = gate.verdicts(found, gate.load(gate.BASELINE), accepted, doc)
    for text in wrong:
        print(f"error: {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
