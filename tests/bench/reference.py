#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Is our KVM the KVM that others measured? Its counts here beside an independent measurement.

Usage: reference.py [--build DIR] [--json FILE] [CASE...]

CASE is one of the keys of CASES below; without one all of them are run. Status 1 when a count is
more than 5 % from the reference. The counts include the loop around the operation (4 or 5
instructions), as the reference's do. What makes the two agree, each found by changing one thing
at a time:
  * the host's CPU model is "max": not of an affected family, so the kernel fills the return stack
    and uses retpolines, but has no "Safe RET" against SRSO, which it has on the model EPYC;
  * CPUID where the next RIP is saved is leaf 80000000h, found late in KVM's list of leaves; in
    Debian's emulator it makes 3 % only;
  * the self IPI writes both halves of ICR with IF = 0, then sets IF.
"""

import json
import pathlib
import sys
import tempfile

import machine
import peer

HOST_CPU = "max,x2apic=off,hypervisor=off"
STOCK_CPU = "max,hypervisor=off"
TOLERANCE = 0.05

# machine, kernel's series, mitigations, and what was measured independently there.
CASES = {
    "fair-6.12": ("fair", "6.12", True, {
        "cpuid.80000000": 1225, "hypercall": 1252, "rdmsr.efer": 1230, "in.pic": 1437,
        "apic.eoi": 2426, "icr_self": 11129, "mmio.hole": 6277}),
    "fair-6.12-off": ("fair", "6.12", False, {"cpuid.80000000": 1140}),
    "fair-6.1": ("fair", "6.1", True, {
        "cpuid.80000000": 1387, "hypercall": 1343, "rdmsr.efer": 1361, "in.pic": 1577,
        "apic.eoi": 2541, "icr_self": 11286, "mmio.hole": 6203}),
    "stock-6.1": ("stock", "6.1", True, {
        "cpuid.80000000": 3017, "hypercall": 3157, "rdmsr.apic_base": 3001, "wrmsr.efer": 3362,
        "in.pic": 1555, "in.unclaimed": 5097, "apic.id": 3626, "apic.eoi": 3584,
        "icr_self": 14416, "icr_self.hlt": 17533, "mmio.hole": 7253}),
}


def measure(build, kind, series, mitigations):
    """{operation: instructions}, the loop's included."""
    stock = kind == "stock"
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        peer.host_files(tmp, series, [build / "guests" / "bench.elf"], peer.GUEST)
        found = peer.measure(machine.emulator(build, stock), tmp, mitigations,
                             cpu=STOCK_CPU if stock else HOST_CPU,
                             append="GUEST_CMDLINE=reference")
    loop = found.pop("loop")
    return {name: count + loop for name, count in found.items()}


def apart(have, want):
    return have / want - 1


def rows(case, found):
    """One row an operation: what is measured, what was, and how far apart."""
    for name, want in CASES[case][3].items():
        far = apart(found[name], want)
        yield (f"{case:16}{name:20}{found[name]:8}{want:11}{far * 100:+8.1f}%"
               + ("" if abs(far) <= TOLERANCE else "  more than 5 %"))


def verdict(case, found):
    return all(abs(apart(found[n], want)) <= TOLERANCE for n, want in CASES[case][3].items())


def main(argv):
    parser = machine.argument_parser(__doc__)
    parser.add_argument("case", nargs="*")
    opt = parser.parse_args(argv)
    for case in opt.case:
        if case not in CASES:
            parser.error(f"no case {case}; there are: {' '.join(CASES)}")
    print(f"{'KVM':16}{'operation':20}{'here':>8}{'reference':>11}{'apart':>9}")
    found = {}
    for case in opt.case or CASES:
        found[case] = measure(opt.build, *CASES[case][:3])
        print("\n".join(rows(case, found[case])), flush=True)
    if opt.json:
        opt.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if all(verdict(case, counts) for case, counts in found.items()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
