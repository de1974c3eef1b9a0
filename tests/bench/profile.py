#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Where the instructions of one operation go.

Usage: profile.py QEMU BUILD OPERATION [QEMU-OPTION...]

Starts the benchmark's payload on Ravelin with `spin=OPERATION`, lets the emulator log a stretch of
single instructions, and prints how many fall on each function of the hypervisor per operation.
"""

import bisect
import collections
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "images"))
import media  # noqa: E402

CONF = """[host]
console = com1,115200
attach = bench
mitigations = no
[vm bench]
kernel = bench.elf
cmdline = spin={op}
memory = 64M
cpus = 1
autostart = yes
"""
HYPERVISOR = 0xFFFFFFFF80000000


def symbols(elf):
    rows = subprocess.run(["nm", "-n", elf], capture_output=True, text=True, check=True).stdout
    found = [(int(a, 16), name) for a, kind, name in (r.split() for r in rows.splitlines())
             if kind in "tT"]
    return [a for a, _ in found], [name for _, name in found]


class Monitor:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        for _ in range(100):
            try:
                self.sock.connect(path)
                break
            except OSError:
                time.sleep(0.1)
        self.sock.recv(4096)

    def command(self, text):
        self.sock.sendall(text.encode() + b"\n")
        got = b""
        while not got.rstrip().endswith(b"(qemu)"):
            got += self.sock.recv(4096)


def collect(qemu, build, op, options, tmp):
    iso, log, com = tmp / "bench.iso", tmp / "qemu.log", tmp / "com1"
    media.iso(iso, build / "ravelin.elf", CONF.format(op=op),
              {"bench.elf": build / "guests" / "bench.elf"})
    argv = [qemu, "-M", "q35", "-m", "512", "-nodefaults", "-display", "none", "-cdrom", iso,
            "-serial", f"file:{com}", "-monitor", f"unix:{tmp / 'mon'},server=on,wait=off",
            "-accel", "tcg,thread=single,one-insn-per-tb=on", "-D", log, *options]
    with subprocess.Popen([str(a) for a in argv]) as proc:
        try:
            monitor = Monitor(str(tmp / "mon"))
            for _ in range(600):
                if com.exists() and "bench spin" in com.read_text(errors="replace"):
                    break
                time.sleep(0.1)
            else:
                raise SystemExit(f"{op}: not reached:\n{com.read_text(errors='replace')[-2000:]}")
            monitor.command("log exec,nochain")
            time.sleep(0.5)
            monitor.command("log none")
        finally:
            proc.kill()
    return log


def main(argv):
    if len(argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    qemu, build, op, *options = argv
    build = pathlib.Path(build)
    starts, names = symbols(build / "ravelin.debug")
    with tempfile.TemporaryDirectory() as tmp:
        log = collect(qemu, build, op, options, pathlib.Path(tmp))
        counts, rounds = collections.Counter(), 0
        with open(log, encoding="ascii", errors="replace") as lines:
            last = 0
            for line in lines:
                match = re.search(r"\[[0-9a-f]+/([0-9a-f]+)/", line)
                if not match:
                    continue
                pc = int(match.group(1), 16)
                if pc >= HYPERVISOR:
                    name = names[bisect.bisect_right(starts, pc) - 1]
                    counts[name] += 1
                    rounds += last < HYPERVISOR
                last = pc
    if not rounds:
        raise SystemExit(f"{op}: no exit seen")
    print(f"{op}: {rounds} exits, {sum(counts.values()) / rounds:.1f} instructions an exit")
    for name, n in counts.most_common():
        if n / rounds >= 0.5:
            print(f"{n / rounds:8.1f}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
