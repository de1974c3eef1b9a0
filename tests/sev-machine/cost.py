#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the patch costs a machine without SEV: cost.py STOCK PATCHED [PAIRS]

Boots Debian's kernel to user space and power-off on both binaries in turn, without the object
sev-memory, and compares the user time of the whole process. Exit status 1 when the median of the
pairs is more than 5 % above.
"""

import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

import linuxhost

LIMIT = 1.05


def user_seconds(binary, initrd):
    argv = [binary, *linuxhost.QEMU_ARGS, "-serial", "stdio", "-cpu", "EPYC", "-m", "1024",
            "-no-reboot", "-kernel", linuxhost.prepared() / "vmlinuz", "-initrd", initrd,
            "-append", "console=ttyS0 loglevel=3"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=300)
    if b"L1: end" not in done.stdout:
        sys.exit(f"{binary}: the kernel did not reach its end")
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    stock, patched = (os.path.abspath(p) for p in sys.argv[1:3])
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    ratios = []
    with tempfile.TemporaryDirectory() as work:
        initrd = linuxhost.initramfs(pathlib.Path(work), "#!/bin/sh\n")
        for n in range(pairs):
            order = (stock, patched) if n % 2 == 0 else (patched, stock)
            seconds = {binary: user_seconds(binary, initrd) for binary in order}
            ratios.append(seconds[patched] / seconds[stock])
            print(f"pair {n + 1}: stock {seconds[stock]:.2f} s, patched {seconds[patched]:.2f} s, "
                  f"ratio {ratios[-1]:.3f}", flush=True)
    median = statistics.median(ratios)
    print(f"median ratio {median:.3f}, limit {LIMIT}")
    return median > LIMIT


if __name__ == "__main__":
    sys.exit(main())
