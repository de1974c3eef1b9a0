# SPDX-License-Identifier: BSD-2-Clause
"""What a count is held against: the targets, the committed baseline, and the accepted misses.

A figure is {"instructions": n, "lock": n, ...}: instructions, and the expensive ones among them
(single.KINDS; a kind that does not occur is not named). The columns are "off" and "on", by
mitigations.
"""

import json
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
BASELINE = HERE / "baseline.json"
ACCEPTED = HERE / "accepted.json"
DOC = HERE.parents[1] / "docs" / "performance.md"
TOLERANCE = 1.05

# Instructions per operation with mitigations off, and with them on.
TARGETS = {
    "cpuid.0": (90, 170), "cpuid.80000008": (90, 170), "hypercall": (90, 170),
    "rdmsr.apic_base": (120, 200), "rdmsr.efer": (120, 200), "wrmsr.efer": (120, 200),
    "rdmsr.mtrrcap": (120, 200),
    "in.pic": (150, 230), "out.pic": (150, 230), "in.uart": (150, 230), "out.uart": (150, 230),
    "in.port61": (150, 230), "in.unclaimed": (150, 230), "out.unclaimed": (150, 230),
    "apic.eoi": (250, 330), "x2apic.eoi": (140, 220), "self_ipi": (500, 660),
    "self_ipi.hlt": (800, 960), "mmio.hole": (300, 380),
    # no exit at all: the operation itself, twice
    "cr0.wp": (10, 10), "cr4.pge": (10, 10), "cr8": (5, 5), "dr7": (5, 5),
}
# Where the aim names one number it is that with mitigations off; each exit of the operation may
# take 80 more with them on, as for the lines that name both.
COLUMNS = ("off", "on")


def target(column, name):
    """Instructions aimed at, or None."""
    return TARGETS[name][COLUMNS.index(column)] if name in TARGETS else None


def load(path):
    return json.loads(path.read_text()) if path.exists() else {}


def dump(value):
    """JSON with one line for each operation: a change is a readable diff."""
    parts = []
    for column, rows in value.items():
        lines = ",\n".join(f'  "{name}": {json.dumps(row)}' for name, row in rows.items())
        parts.append(f' "{column}": {{\n{lines}\n }}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _above_baseline(figure, base):
    for kind in sorted(set(figure) | set(base)):
        count, before = figure.get(kind, 0), base.get(kind, 0)
        if count > before * TOLERANCE:
            yield f"{count} {kind}, the baseline has {before}"


def _against_target(column, name, figure, accepted, doc):
    aim, count = target(column, name), figure["instructions"]
    if aim is None:
        return
    listed = name in accepted.get(column, [])
    if count > aim and not listed:
        yield f"{count} instructions, the target is {aim}"
    if count <= aim and listed:
        yield f"meets its target {aim}: take it off {ACCEPTED.name}"
    if count > aim and listed and f"`{name}`" not in doc:
        yield f"is accepted above its target, but {DOC.name} does not say why"


def verdicts(figures, baseline, accepted, doc):
    """Sentences, one for each thing that is wrong; none when all is well."""
    wrong = []
    for column, rows in figures.items():
        base = baseline.get(column, {})
        for name in sorted(set(base) - set(rows)):
            wrong.append(f"{name} (mitigations {column}): in the baseline, but not measured")
        for name, figure in rows.items():
            why = list(_against_target(column, name, figure, accepted, doc))
            if name in base:
                why += _above_baseline(figure, base[name])
            else:
                why.append("not in the baseline")
            wrong += [f"{name} (mitigations {column}): {text}" for text in why]
    return wrong
