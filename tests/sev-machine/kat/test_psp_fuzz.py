# SPDX-License-Identifier: GPL-2.0-or-later
"""Random and hostile command sequences: the processor stays consistent and answers."""
import random
import struct

import pytest

from psp_machine import COMMANDS, STATUS_NAME, Psp

ADDRESSES = [0, 0x100000, 0x100001, 0x110000, 0x200000, 0x200010, 0x8000000, 0x8080000, 0xFFFFFFF,
             0x10000000, 0xE0000000, 0xE0010980, 0xFEE00000, 0xFFFFFFF0, 1 << 51,
             1 << 51 | 0x200000,
             1 << 63, (1 << 64) - 1]
LENGTHS = [0, 1, 0x10, 0x30, 0x34, 0x80, 0xD0, 0x824, 0x1000, 0x186C, 0x5000, 0x100000, 0xFFFFFFF0,
           0xFFFFFFFF]


def random_buffer(rng):
    """64 bytes of plausible fields: handles, lengths and addresses at natural places."""
    out = b""
    while len(out) < 0x40:
        kind = rng.randrange(6)
        if kind < 2 and len(out) % 8 == 0:
            out += struct.pack("<Q", rng.choice(ADDRESSES))
        elif kind < 4:
            out += struct.pack("<I", rng.choice((0, 1, 1, 2, 3, 4, 5, 6, rng.choice(LENGTHS))))
        elif kind == 4:
            out += struct.pack("<I", rng.choice(LENGTHS))
        else:
            out += rng.randbytes(4)
    return out[:0x40]


def check_consistent(psp, max_guests):
    status = psp.status()
    assert status["state"] in (0, 1, 2)
    if status["state"] == 0:
        assert status["guests"] == 0
        return
    live = [psp.guest_status(handle) for handle in range(1, max_guests + 1)]
    live = [guest for guest in live if guest[2] != 0]
    assert len(live) == status["guests"]
    assert (status["state"] == 2) == bool(live)
    asids = [asid for _, asid, _ in live if asid]
    assert len(asids) == len(set(asids))
    for policy, asid, _ in live:
        assert asid == 0 or (asid < 5) == bool(policy & 4)


@pytest.mark.parametrize("seed", range(6))
def test_random_commands(machines, seed):
    rng = random.Random(seed)
    psp = Psp(machines(psp="latency-us=0,max-guests=6,seed=%d" % (seed + 1)))
    names = list(COMMANDS)
    seen = set()
    rom_data = psp.m.read(0, 0x2000)
    for step in range(3000):
        if rng.random() < 0.02:
            psp.m.write(0, rom_data)            # vectors that a command may have overwritten
            psp.m.wbinvd()
        if rng.random() < 0.1:
            psp.init()
            psp.start(rng.choice((0, 4)))
        name = rng.choice(names)
        if name in ("SHUTDOWN", "PLATFORM_RESET") and rng.random() < 0.8:
            continue
        addr = psp.BUF if rng.random() < 0.95 else rng.choice(ADDRESSES)
        status, _ = psp.raw(name, random_buffer(rng), addr)
        assert status in STATUS_NAME.values(), (step, name, status)
        seen.add(status)
        if step % 50 == 49:
            check_consistent(psp, 6)
    assert {"SUCCESS", "INVALID_ADDRESS", "INVALID_GUEST", "INVALID_PLATFORM_STATE",
            "INVALID_LEN"} <= seen
