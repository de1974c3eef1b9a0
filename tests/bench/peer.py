#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The same payload on Ravelin and on KVM, in the same emulator: what each operation costs.

Usage: peer.py [--build DIR] [--json FILE] [--stock] [--series 6.12]

KVM is Debian's kernel with Debian's QEMU, started by tests/sev-machine/kvmguest.py. Prints
instructions with mitigations off and on and how many times Ravelin's count KVM's is, then the
expensive ones among them. --stock takes Debian's emulator, which has neither next-RIP save nor
decode assists: KVM decodes in software there, which flatters us. reference.py says how far KVM's
counts are from an independent measurement.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

import gate
import machine
import run
import single

KVMGUEST = machine.TOP / "tests" / "sev-machine" / "kvmguest.py"
HOST_CPU = "EPYC,+svm,+npt,x2apic=off,hypervisor=off"
# What the host's kernel command line says reaches the guest's: commas stand for spaces.
GUEST = ["-m", "64", "-smp", "${GUEST_CPUS:-1}", "-kernel", "/bench.elf", "-append",
         '"$(echo ${GUEST_CMDLINE:-run} | tr , \' \')"',
         "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]


def host_files(tmp, series, files, guest):
    """Kernel and initramfs of KVM's host, in tmp."""
    subprocess.run([sys.executable, str(KVMGUEST), str(tmp), series, *map(str, files), "--",
                    *guest], check=True)


def host_argv(emu, tmp, mitigations, *, cpu=HOST_CPU, memory=1024, cpus=1, append=""):
    """The emulator's arguments that start KVM's host from host_files()."""
    kernel = f"console=ttyS0 loglevel=3 mitigations={'auto,nosmt' if mitigations else 'off'} "
    return [*emu, "-cpu", cpu, "-m", str(memory), "-smp", str(cpus),
            "-kernel", tmp / "vmlinuz", "-initrd", tmp / "initrd", "-append", kernel + append]


def measure(emu, tmp, mitigations, **host):
    """{operation: instructions} by the guest's own clock. host: as host_argv()."""
    argv = host_argv(emu, tmp, mitigations, **host)
    with machine.Machine([*argv, *machine.COUNTING], tmp) as m:
        text = m.wait("bench done", 300)
    return {name: int(n) for name, n in re.findall(r"^bench (\S+) (\d+)$", text, re.M)}


def expensive(emu, tmp, build, mitigations):
    """{operation: Counter} of the instructions outside the guest, its QEMU's included."""
    elf = build / "guests" / "bench.elf64"
    argv = host_argv(emu, tmp, mitigations, append="GUEST_CMDLINE=trace")
    with machine.Machine([*argv, *machine.COUNTING, *single.filtered(elf)], tmp) as m:
        return single.expensive(m, tmp / "log", elf)


def figures(emu, tmp, build, mitigations):
    """As run.figures()."""
    return run.joined(measure(emu, tmp, mitigations), expensive(emu, tmp, build, mitigations))


def table(ravelin, kvm):
    rows = [f"{'mitigations':24}{'off':>8}{'KVM':>8}{'times':>7}{'on':>8}{'KVM':>8}{'times':>7}"]
    for name in ravelin["off"]:
        row = f"{name:24}"
        for column in gate.COLUMNS:
            ours = ravelin[column][name]["instructions"]
            theirs = kvm[column].get(name, {}).get("instructions")
            ratio = f"{theirs / ours:7.1f}" if theirs and ours else " " * 7
            row += f"{ours:8}{'' if theirs is None else theirs:>8}{ratio}"
        rows.append(row)
    return "\n".join(rows)


def expensive_table(ravelin, kvm, column):
    """The expensive instructions among the counts; operations that have none are left out."""
    rows = [f"{'mitigations ' + column:24}{'Ravelin':24}KVM"]
    for name, ours in ravelin[column].items():
        texts = [run.expensive_text(f) for f in (ours, kvm[column].get(name, {}))]
        if any(texts):
            rows.append(f"{name:24}{texts[0] or '-':24}{texts[1]}")
    return "\n".join(rows)


def main(argv):
    parser = machine.argument_parser(__doc__)
    parser.add_argument("--stock", action="store_true")
    parser.add_argument("--series", default="6.12")
    opt = parser.parse_args(argv)
    emu = machine.emulator(opt.build, opt.stock)
    ravelin = {c: run.figures(emu, opt.build, c == "on") for c in gate.COLUMNS}
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        host_files(tmp, opt.series, [opt.build / "guests" / "bench.elf"], GUEST)
        kvm = {c: figures(emu, tmp, opt.build, c == "on") for c in gate.COLUMNS}
    print(table(ravelin, kvm))
    for column in gate.COLUMNS:
        print(f"\n{expensive_table(ravelin, kvm, column)}")
    if opt.json:
        opt.json.write_text(json.dumps({"ravelin": ravelin, "kvm": kvm}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
