# SPDX-License-Identifier: BSD-2-Clause
"""The emulator's debugger interface: stop where an address is executed, in whatever guest.

GDB's remote serial protocol (GDB manual, appendix E), as much of it as breakpoints need. An
emulator that counts instructions counts none for a stop.
"""

import socket
import struct
import time


class GdbError(Exception):
    """The emulator did not answer as expected."""


class Gdb:
    """Connected means stopped."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(path))
        self.buffer = b""
        self.points = set()
        self._ask("?")

    def close(self):
        """The emulator goes on."""
        self.points_off()
        self._send("D")
        self.sock.close()

    # --- packets ---

    def _send(self, text):
        data = text.encode()
        self.sock.sendall(b"$%s#%02x" % (data, sum(data) & 0xFF))

    def _packet(self, seconds=10):
        """The next packet's text, or None when none comes in that time."""
        end = time.monotonic() + seconds
        while True:
            start = self.buffer.find(b"$")
            stop = self.buffer.find(b"#", start)
            if start >= 0 and 0 <= stop < len(self.buffer) - 2:
                text = self.buffer[start + 1:stop].decode("latin-1")
                self.buffer = self.buffer[stop + 3:]
                self.sock.sendall(b"+")
                return text
            if time.monotonic() > end:
                return None
            self.sock.settimeout(max(0.01, end - time.monotonic()))
            try:
                part = self.sock.recv(65536)
            except TimeoutError:
                continue
            if not part:
                raise GdbError("the emulator ended")
            self.buffer += part

    def _ask(self, text):
        self._send(text)
        answer = self._packet()
        if answer is None or answer.startswith("E"):
            raise GdbError(f"{text}: {answer}")
        return answer

    # --- what it is for ---

    def point(self, address):
        """Stop before the instruction at that linear address is executed, by whomever."""
        self._ask(f"Z1,{address:x},1")
        self.points.add(address)

    def points_off(self):
        for address in self.points:
            self._ask(f"z1,{address:x},1")
        self.points.clear()

    def start(self):
        self._send("c")

    def stopped(self, seconds):
        """Did it stop by now?"""
        return self._packet(seconds) is not None

    def interrupt(self):
        self.sock.sendall(b"\x03")
        if self._packet() is None:
            raise GdbError("it does not stop")

    def word(self, address):
        """Eight bytes at a linear address of the stopped CPU."""
        return struct.unpack("<Q", bytes.fromhex(self._ask(f"m{address:x},8")))[0]

    def physical_write(self, address, value):
        """Eight bytes to a physical address; to a device's register, too."""
        self._ask("Qqemu.PhyMemMode:1")
        self._ask(f"M{address:x},8:{struct.pack('<Q', value).hex()}")
        self._ask("Qqemu.PhyMemMode:0")

    def registers(self):
        """(RSP, RIP) in 64-bit mode: rax rbx rcx rdx rsi rdi rbp rsp r8..r15 rip."""
        values = struct.unpack("<17Q", bytes.fromhex(self._ask("g"))[:136])
        return values[7], values[16]
