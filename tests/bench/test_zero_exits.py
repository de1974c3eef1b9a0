# SPDX-License-Identifier: BSD-2-Clause
"""What must not cause exits at all: a vCPU that has its CPU for itself and only computes."""

import os
import pathlib
import re
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import machine  # noqa: E402

BUILD = pathlib.Path(os.environ.get("RAVELIN_BUILD", machine.TOP / "build"))
SECONDS = 10


def stats(m):
    """(ms that the vCPU ran, its exits), by Ravelin's own count."""
    start = len(m.text)
    m.send("vm stats bench\n")
    text = m.wait_for(r"vCPU 0: .*ran (\d+) ms, (\d+) exits\n", start)
    return int(text.group(1)), int(text.group(2))


def test_a_lone_busy_vcpu_is_left_alone(tmp_path):
    """At most 10 exits in each second that the guest spins, the shell's own noise included."""
    emu = machine.emulator(BUILD)
    with machine.on_ravelin(emu, tmp_path, BUILD, cmdline="busy", counting=False) as m:
        m.wait("bench busy")
        m.send("\x1d")
        ran, exits = stats(m)
        end = time.monotonic() + 60 * SECONDS * machine.SLOW
        now, more = ran, exits
        while now - ran < SECONDS * 1000 and time.monotonic() < end:
            time.sleep(SECONDS)
            now, more = stats(m)
    assert now - ran >= SECONDS * 1000, "the guest did not run"
    print(f"{more - exits} exits in {now - ran} ms")
    assert (more - exits) * 1000 <= 10 * (now - ran)
