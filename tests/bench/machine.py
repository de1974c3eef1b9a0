# SPDX-License-Identifier: BSD-2-Clause
"""The emulator with the benchmark's payload on Ravelin in it, its serial line and its monitor."""

import argparse
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path.insert(0, str(TOP / "tests" / "images"))
import media  # noqa: E402

SLOW = float(os.environ.get("RAVELIN_SLOW", "1"))
CPU = "EPYC,+svm,+npt,x2apic=off"
COUNTING = ["-icount", "shift=0,sleep=off"]

# No log: a line of it may come in the middle of one of the guest's.
CONF = """[host]
console = com1,115200
log = warn
attach = bench
mitigations = {mitigations}
[vm bench]
kernel = bench.elf
cmdline = {cmdline}
memory = 64M
cpus = {vcpus}
debug-exit = yes
autostart = yes
"""


def argument_parser(doc):
    """What the programs here have in common: whose build is measured, and where the figures go."""
    parser = argparse.ArgumentParser(description=doc,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build")
    parser.add_argument("--json", type=pathlib.Path)
    return parser


class BenchError(Exception):
    """The payload did not do what was expected; the text has the end of what was printed."""


def emulator(build, stock=False):
    """[program, options...]: the SEV machine's emulator, or Debian's."""
    if stock:
        return ["qemu-system-x86_64", "-accel", "tcg"]
    path = os.environ.get("SEV_QEMU") or build / "sev-machine" / "bin" / "qemu-system-x86_64"
    return [str(path), "-accel", "tcg,thread=single", "-object", "sev-memory,id=sev",
            "-L", "/usr/share/seabios", "-L", "/usr/share/qemu"]


def ravelin_iso(tmp, build, conf, files):
    """The boot medium; its path."""
    return media.iso(tmp / "bench.iso", build / "ravelin.elf", conf, files)


class Machine:
    """One run of the emulator. Use as a context: the emulator is gone at its end."""

    def __init__(self, argv, tmp):
        self.text, self.tmp = "", tmp
        serial, monitor = tmp / "serial", tmp / "monitor"
        argv = [*argv, "-nodefaults", "-display", "none", "-M", "q35",
                "-chardev", f"socket,id=com1,path={serial},server=on,wait=off",
                "-serial", "chardev:com1", "-monitor", f"unix:{monitor},server=on,wait=off"]
        with open(tmp / "emulator.log", "w", encoding="utf-8") as log:
            self.proc = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL,
                                         stdout=log, stderr=log)
        self.serial = self._connect(serial)
        self.monitor = self._connect(monitor)
        self.serial.setblocking(False)
        self._prompt()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.kill()
        self.proc.wait()
        self.serial.close()
        self.monitor.close()

    def _connect(self, path):
        sock = socket.socket(socket.AF_UNIX)
        for _ in range(200):
            try:
                sock.connect(str(path))
                return sock
            except OSError:
                if self.proc.poll() is not None:
                    break
                time.sleep(0.05)
        raise BenchError("the emulator did not start:\n" + (self.tmp / "emulator.log").read_text())

    def _prompt(self):
        got = b""
        while not got.rstrip().endswith(b"(qemu)"):
            part = self.monitor.recv(65536)
            if not part:
                raise BenchError("the emulator ended")
            got += part
        return got.decode("utf-8", "replace")

    def command(self, text):
        self.monitor.sendall(text.encode() + b"\n")
        return self._prompt()

    def poll(self):
        """Take in what was printed."""
        try:
            part = self.serial.recv(65536)
        except BlockingIOError:
            return
        self.text += part.decode("utf-8", "replace").replace("\r", "")

    def wait(self, mark, seconds=120):
        """Until mark was printed; all the text so far."""
        end = time.monotonic() + seconds * SLOW
        while mark not in self.text:
            self.poll()
            if mark in self.text:
                break
            if self.proc.poll() is not None or time.monotonic() > end:
                log = (self.tmp / "emulator.log").read_text()
                raise BenchError(f"'{mark}' was not printed:\n{self.text[-2000:]}\n{log[-500:]}")
            time.sleep(0.02)
        return self.text

    def wait_for(self, pattern, start=0, seconds=120):
        """Until the pattern is found in what was printed after the first `start` characters."""
        end = time.monotonic() + seconds * SLOW
        while time.monotonic() < end:
            match = re.search(pattern, self.text[start:])
            if match:
                return match
            time.sleep(0.02)
            self.poll()
        raise BenchError(f"/{pattern}/ was not printed:\n{self.text[-2000:]}")

    def send(self, text):
        self.serial.sendall(text.encode())


def start_ravelin(emu, tmp, build, conf, files, *, memory=512, cpus=1, cpu=CPU, counting=True,
                  extra=()):
    """A machine that boots Ravelin with that configuration and files."""
    iso = ravelin_iso(tmp, build, conf, files)
    return Machine([*emu, "-cpu", cpu, "-m", str(memory), "-smp", str(cpus), "-cdrom", iso,
                    *(COUNTING if counting else []), *extra], tmp)


def on_ravelin(emu, tmp, build, mitigations=False, cmdline="", vcpus=1, **more):
    """A machine that starts the payload on Ravelin."""
    conf = CONF.format(mitigations="yes" if mitigations else "no", cmdline=cmdline or "run",
                       vcpus=vcpus)
    return start_ravelin(emu, tmp, build, conf, {"bench.elf": build / "guests" / "bench.elf"},
                         **more)
