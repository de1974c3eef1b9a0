# SPDX-License-Identifier: BSD-2-Clause
"""Single instructions of a run: what an operation executes outside the guest, one by one.

The emulator logs each instruction's bytes and each execution; the payload (option "trace") calls
mark_operation() and mark_turn() between the operations, which is how they are told apart.
"""

import collections
import re
import subprocess

IN_GUEST = 1 << 21  # HF_GUEST_MASK in the emulator's flags of a block
PREFIXES = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF2, 0xF3}

# What costs tens to thousands of cycles on a real CPU, however short its encoding.
KINDS = ("vmload", "vmsave", "gif", "msr", "vmread", "vmwrite", "cr", "xcr0", "tlb", "lock",
         "cpuid")
_AFTER_0F01 = {0xDA: "vmload", 0xDB: "vmsave", 0xDC: "gif", 0xDD: "gif", 0xDF: "tlb",
               0xD1: "xcr0"}
_AFTER_0F = {0x06: "cr", 0x22: "cr", 0x30: "msr", 0x32: "msr", 0x78: "vmread", 0x79: "vmwrite",
             0xA2: "cpuid"}


def _two_byte(code):
    if code[0] == 0x01:
        reg, memory = code[1] >> 3 & 7, code[1] < 0xC0
        if code[1] in _AFTER_0F01:
            return _AFTER_0F01[code[1]]
        return "tlb" if memory and reg == 7 else "cr" if reg == 6 else None
    if code[0] == 0x38 and 0x80 <= code[1] <= 0x82:  # INVEPT, INVVPID, INVPCID
        return "tlb"
    return _AFTER_0F.get(code[0])


def kind_of(code):
    """One of KINDS, or None, for the bytes of one instruction."""
    at = 0
    while code[at] in PREFIXES:
        at += 1
    if code[at] == 0xF0:
        return "lock"
    if code[at] & 0xF0 == 0x40:
        at += 1
    if code[at] in (0x86, 0x87):  # XCHG with memory locks by itself
        return "lock" if code[at + 1] < 0xC0 else None
    return _two_byte(code[at + 1:]) if code[at] == 0x0F else None


def addresses(elf, *names):
    rows = subprocess.run(["nm", str(elf)], capture_output=True, text=True, check=True).stdout
    found = {r.split()[2]: int(r.split()[0], 16) for r in rows.splitlines()
             if len(r.split()) == 3}
    return [found[n] for n in names]


def filtered(elf):
    """The emulator's options for a log that holds the marks and what is not the payload's: that has
    less than 256 MiB, and host kernels, their programs and hypervisors are above."""
    marks = [f"{a:#x}+1" for a in addresses(elf, "mark_operation", "mark_turn")]
    return ["-dfilter", ",".join([*marks, "0x10000000..0xffffffffffffffff"])]


class Log:
    """Reads an emulator's log; yields (pc, in guest, kind) of each instruction executed.

    A line of the log is one of
        Trace 0: 0x7f150e96e300 [00000000/ffffffffb3fd5957/10d0c2b0/ff022201] ...  (executed)
        0xffffffffb3fd5957:  ...                                   (translated, with the next line)
        OBJD-T: 8b4e08
    Millions of them come: each is split once, and a text is looked at only the first time.
    """

    def __init__(self, path):
        self.path, self.kinds = path, {}

    def __iter__(self):
        addr, seen = None, {}
        with open(self.path, encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line[0] == "T":
                    _, pc, flags, _ = line.split("/", 3)
                    found = seen.get((pc, flags))
                    if found is None:
                        number = int(pc, 16)
                        found = number, bool(int(flags, 16) & IN_GUEST), self.kinds[number]
                        seen[pc, flags] = found
                    yield found
                elif line[0] == "0":
                    addr = int(line[:line.index(":")], 16)
                elif line[0] == "O" and addr is not None:
                    kind = kind_of(bytes.fromhex(line[line.index(":") + 1:]) + b"\xff\xff")
                    if self.kinds.get(addr, self) != kind:
                        self.kinds[addr] = kind
                        seen.clear()  # another program is there now
                    addr = None


def turns(log, mark_operation, mark_turn):
    """[[Counter per turn] per operation]: "instructions", and each of KINDS, outside the guest."""
    operations, turn = [], None
    for pc, guest, kind in log:
        if guest:
            if pc == mark_operation:
                operations.append([])
                turn = None
            elif pc == mark_turn and operations:
                turn = collections.Counter()
                operations[-1].append(turn)
        elif turn is not None:
            turn["instructions"] += 1
            if kind:
                turn[kind] += 1
    # What follows the last mark is not a turn.
    return [found[:-1] for found in operations]


def collect(machine, path, prepare=None):
    """Logs a payload from "bench ready" to "bench traced"; its operations' names in order.

    prepare is called before, with the payload waiting.
    """
    machine.wait("bench ready", 300)
    if prepare:
        prepare()
    # Stopped, so that no block of single instructions is there that was not logged.
    machine.command("stop")
    machine.command(f"logfile {path}")
    machine.command("log exec,in_asm,nochain")
    machine.command("one-insn-per-tb on")
    machine.command("cont")
    machine.send("g")
    machine.wait("bench traced", 900)
    machine.command("log none")
    machine.command("one-insn-per-tb off")
    machine.send("g")
    return re.findall(r"^bench (\S+) 0$", machine.wait("bench done"), re.M)


def by_operation(names, log, elf):
    """{operation: [Counter per turn], the cheapest one first}"""
    found = turns(log, *addresses(elf, "mark_operation", "mark_turn"))
    if len(names) != len(found):
        raise RuntimeError(f"{len(names)} operations printed, {len(found)} seen")
    return {name: sorted(t, key=lambda c: c["instructions"]) for name, t in zip(names, found)}


def expensive(machine, path, elf):
    """{operation: Counter} of the cheapest turn of each."""
    names = collect(machine, path)
    return {name: t[0] for name, t in by_operation(names, Log(path), elf).items()}
