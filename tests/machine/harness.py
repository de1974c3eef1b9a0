# SPDX-License-Identifier: BSD-2-Clause
"""Start emulated machines, talk to their serial console, and drive Ravelin's shell.

    with Machine(conf, {"vmlinuz": image("vmlinuz-6.1")}, door="efi", smp=2) as m:
        m.shell()
        print(m.command("vm list"))

Environment:
  O, RAVELIN_BUILD    build folder (default build/ in the tree; relative to the tree)
  RAVELIN_QEMU        emulator binary (default qemu-system-x86_64)
  RAVELIN_ACCEL       its accelerator (default tcg)
  RAVELIN_CPU         its CPU model (default EPYC,+svm,+npt)
  RAVELIN_SLOW        factor on every timeout (default 1)
  RAVELIN_LOGS        where console logs go (default BUILD/machine-logs)
"""

import json
import os
import pathlib
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time

TREE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "tests" / "images"))

import fetch          # noqa: E402  pylint: disable=wrong-import-position
import initramfs      # noqa: E402  pylint: disable=wrong-import-position
import media          # noqa: E402  pylint: disable=wrong-import-position

BUILD = TREE / (os.environ.get("RAVELIN_BUILD") or os.environ.get("O") or "build")
LOGS = pathlib.Path(os.environ.get("RAVELIN_LOGS") or BUILD / "machine-logs")
QEMU = os.environ.get("RAVELIN_QEMU", "qemu-system-x86_64")
ACCEL = os.environ.get("RAVELIN_ACCEL", "tcg")
CPU = os.environ.get("RAVELIN_CPU", "EPYC,+svm,+npt")
SLOW = float(os.environ.get("RAVELIN_SLOW", "1"))

DOORS = ("efi", "grub-bios", "grub-uefi")
DEFAULT_DOOR = "grub-bios"      # the fastest: UEFI firmware takes five seconds more
PROMPT = "ravelin> "
ESCAPE = "\x1d"                 # Ctrl-]
OVMF_CODE = ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_CODE_4M.fd")
# Colours, cursor movement, and what firmware sends to find out the terminal's size.
ANSI = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78]")


class Timeout(AssertionError):
    """The awaited text did not come; carries the tail of the console."""


class Ended(AssertionError):
    """The emulator ended while a test still waited for text."""


def image(name):
    """Path of a fetched image (see tests/images/fetch.py)."""
    return fetch.locked_image(name)


_initrds = {}


def initrd(program=None):
    """Path of the test guests' initramfs, with a program of this machine's. Built once a run."""
    if program not in _initrds:
        BUILD.mkdir(parents=True, exist_ok=True)
        path = BUILD / (f"{program}-initrd.img" if program else "test-initrd.img")
        data = initramfs.build(initramfs.program(program) if program else None)
        if not path.exists() or path.read_bytes() != data:
            part = path.with_suffix(f".{os.getpid()}")
            part.write_bytes(data)
            part.rename(path)
        _initrds[program] = path
    return _initrds[program]


def guest(name):
    """Path of one of our own test guests (tests/guests/)."""
    path = BUILD / "guests" / f"{name}.elf"
    if not path.exists():
        raise FileNotFoundError(f"{path}: run `make guests` first")
    return path


class Console:
    """A process with a serial line: everything that came is kept, expect() moves a mark."""

    def __init__(self, name):
        self.name = name
        self.text = ""
        self.mark = 0
        self.sock = None
        self.proc = None
        LOGS.mkdir(parents=True, exist_ok=True)
        self.log_path = LOGS / f"{name}.log"
        self.log = open(self.log_path, "wb", buffering=0)

    def pump(self, seconds):
        """Read what there is, waiting at most that long. False at the end of the line."""
        ready, _, _ = select.select([self.sock], [], [], max(0, seconds))
        if not ready:
            return True
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            return False
        self.log.write(data)
        self.text += data.decode("utf-8", "replace").replace("\r", "")
        if "\x1b" in self.text[self.mark:]:
            tail = ANSI.sub("", self.text[self.mark:])
            self.text = self.text[:self.mark] + tail
        return True

    def tail(self, lines=40):
        return "\n".join(self.text.splitlines()[-lines:])

    def expect(self, pattern, timeout=60, never=None):
        """Wait for a regular expression; the mark moves behind it. Returns the match.

        A final $ stands for a complete line.
        never: an expression that must not come first (fails at once instead of timing out).
        """
        end = time.monotonic() + timeout * SLOW
        # The end of a line, not the end of what has come so far.
        if pattern.endswith("$"):
            pattern = pattern[:-1] + r"(?=\n)"
        want = re.compile(pattern, re.M)
        bad = re.compile(never, re.M) if never else None
        while True:
            found = want.search(self.text, self.mark)
            if bad:
                wrong = bad.search(self.text, self.mark, found.start() if found else len(self.text))
                if wrong:
                    raise AssertionError(f"{self.name}: {wrong.group(0)!r} came before "
                                         f"{pattern!r}; log: {self.log_path}\n{self.tail()}")
            if found:
                self.mark = found.end()
                return found
            left = end - time.monotonic()
            if left <= 0:
                raise Timeout(f"{self.name}: no {pattern!r} within {timeout * SLOW:.0f} s; log: "
                              f"{self.log_path}\n{self.tail()}")
            if not self.pump(min(left, 1)):
                found = want.search(self.text, self.mark)
                if found:
                    self.mark = found.end()
                    return found
                raise Ended(f"{self.name}: ended (status {self.proc.poll()}) before {pattern!r}; "
                            f"log: {self.log_path}\n{self.tail()}")

    def absent(self, pattern, seconds):
        """Fail if the expression comes within that time; the mark stays."""
        start, end = self.mark, time.monotonic() + seconds
        while time.monotonic() < end and self.pump(end - time.monotonic()):
            pass
        found = re.compile(pattern, re.M).search(self.text, start)
        if found:
            raise AssertionError(f"{self.name}: unwanted {found.group(0)!r}\n{self.tail()}")

    def since(self, position):
        return self.text[position:]

    def send(self, text):
        """Type text. In small pieces: a UART's FIFO holds 16 bytes, and a reader may be slow."""
        data = text.encode()
        for at in range(0, len(data), 8):
            self.sock.sendall(data[at:at + 8])
            if at + 8 < len(data):
                self.pump(0.01)

    def line(self, text=""):
        self.send(text + "\r")

    def wait_exit(self, timeout=60):
        """Wait for the emulator to end by itself; returns its status."""
        end = time.monotonic() + timeout * SLOW
        while time.monotonic() < end:
            if not self.pump(0.2):
                return self.proc.wait(timeout=20)
            if self.proc.poll() is not None:
                while self.pump(0) and select.select([self.sock], [], [], 0)[0]:
                    pass
                return self.proc.returncode
        raise Timeout(f"{self.name}: still running after {timeout * SLOW:.0f} s; log: "
                      f"{self.log_path}\n{self.tail()}")


class Emulator(Console):
    """QEMU with its first serial port on a socket of ours and QMP on a second one."""

    def __init__(self, name="machine", smp=1, memory="1G", cpu=None, qemu=None, accel=None,
                 extra=()):
        super().__init__(name)
        self.smp, self.memory = smp, memory
        self.cpu, self.qemu, self.accel = cpu or CPU, qemu or QEMU, accel or ACCEL
        self.extra = list(extra)
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="ravelin-"))
        self.monitor = None
        self.debug_exit = True

    def boot_args(self):
        raise NotImplementedError

    def argv(self):
        args = [self.qemu, "-machine", "q35", "-accel", self.accel, "-cpu", self.cpu,
                "-smp", str(self.smp), "-m", str(self.memory), "-display", "none", "-vga", "none",
                "-nic", "none", "-no-reboot", "-nodefaults",
                "-chardev", f"socket,id=com1,path={self.dir}/com1",
                "-serial", "chardev:com1",
                "-chardev", f"socket,id=qmp,path={self.dir}/qmp",
                "-mon", "chardev=qmp,mode=control"]
        if self.debug_exit:
            args += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
        return args + self.boot_args() + self.extra

    def start(self):
        doors = {}
        for name in ("com1", "qmp"):
            doors[name] = socket.socket(socket.AF_UNIX)
            doors[name].bind(f"{self.dir}/{name}")
            doors[name].listen(1)
            doors[name].settimeout(30)
        argv = [str(a) for a in self.argv()]
        with open(self.dir / "stderr", "wb") as err:
            self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=err, stderr=err)
        try:
            self.sock = doors["com1"].accept()[0]
            self.monitor = doors["qmp"].accept()[0]
        except TimeoutError:
            self.stop()
            raise RuntimeError(f"{self.name}: emulator did not start: "
                               f"{(self.dir / 'stderr').read_text()}") from None
        finally:
            for door in doors.values():
                door.close()
        self.monitor.settimeout(30)
        self.qmp_file = self.monitor.makefile("rw")
        self.qmp_file.readline()
        self.qmp("qmp_capabilities")
        return self

    def qmp(self, command, **arguments):
        """Run a QMP command and return its answer."""
        self.qmp_file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.qmp_file.flush()
        while True:
            answer = json.loads(self.qmp_file.readline())
            if "error" in answer:
                raise RuntimeError(f"QMP {command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def hmp(self, line):
        return self.qmp("human-monitor-command", **{"command-line": line})

    def errors(self):
        """What the emulator itself complained about."""
        path = self.dir / "stderr"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self):
        if self.proc and self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        for sock in (self.sock, self.monitor):
            if sock:
                sock.close()
        self.sock = self.monitor = None
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


class Plain(Emulator):
    """The emulator by itself, no hypervisor: the judge of what a guest should see."""

    def __init__(self, kernel, cmdline="", initrd_path=None, modules=(), **kw):
        kw.setdefault("name", "plain")
        super().__init__(**kw)
        self.kernel, self.cmdline = kernel, cmdline
        # For multiboot images QEMU takes a list of modules where Linux has its initrd.
        self.initrd = ",".join(map(str, modules)) or initrd_path

    def boot_args(self):
        args = ["-kernel", self.kernel]
        if self.cmdline:
            args += ["-append", self.cmdline]
        if self.initrd:
            args += ["-initrd", self.initrd]
        return args


class Machine(Emulator):
    """A machine that boots Ravelin."""

    def __init__(self, conf, files=None, door=DEFAULT_DOOR, cmdline="", image=None, **kw):
        kw.setdefault("name", f"ravelin-{door}")
        kw.setdefault("smp", 2)
        kw.setdefault("memory", "2G")
        super().__init__(**kw)
        assert door in DOORS, f"door {door!r}: one of {DOORS}"
        self.conf, self.files, self.door, self.cmdline = conf, dict(files or {}), door, cmdline
        self.marks = 0
        self.image = image or BUILD / "ravelin.elf"

    def flash(self):
        code = next((path for path in OVMF_CODE if os.path.exists(path)), None)
        if code is None:
            raise RuntimeError("no OVMF firmware: install the package ovmf")
        store = self.dir / "vars.fd"
        shutil.copyfile(code.replace("CODE", "VARS"), store)
        return ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={code}",
                "-drive", f"if=pflash,format=raw,unit=1,file={store}"]

    def boot_args(self):
        if self.door == "efi":
            disk = media.esp(self.dir / "esp.img", BUILD / "ravelin.efi", self.conf, self.files)
            return self.flash() + ["-drive", f"if=ide,format=raw,file={disk}"]
        disk = media.iso(self.dir / "boot.iso", self.image, self.conf, self.files,
                         self.cmdline)
        args = ["-drive", f"if=ide,media=cdrom,readonly=on,format=raw,file={disk}"]
        return args if self.door == "grub-bios" else self.flash() + args

    # --- the hypervisor's shell ---

    def boot(self, timeout=90):
        """Wait until Ravelin is up, and come to its prompt."""
        self.expect(r"^" + PROMPT, timeout)
        self.shell()

    def sync(self, timeout=60):
        """Make sure that the shell has done all that was typed; returns where its answer began."""
        self.marks += 1
        word = f"mark{self.marks}"
        self.line(word)
        answer = self.expect(rf"^{word}: no such command.*\n" + PROMPT, timeout)
        return answer.start()

    def shell(self, timeout=60):
        """Come to the shell's prompt from wherever the console is."""
        self.send(ESCAPE)
        self.pump(0.3)
        # What a guest printed last may stand in this line; an empty one ends it.
        self.line()
        self.sync(timeout)

    def command(self, text, timeout=60):
        """Run a shell command; returns what it printed (the echo and the prompts cut off)."""
        self.pump(0)
        start = self.mark = len(self.text)
        self.line(text)
        self.expect(re.escape(text) + r"\n", timeout)
        first = self.mark
        last = self.sync(timeout)
        out = self.text[first:last]
        return out[:out.rfind(PROMPT)].strip("\n") if PROMPT in out else out.strip("\n")

    def console(self, vm, timeout=30):
        """Attach to a guest's serial console."""
        self.pump(0)
        self.mark = len(self.text)
        self.line(f"vm console {vm}")
        self.expect(rf"^\[{vm}, serial port 1; .*\n", timeout)

    def run_guest(self, vm, end=None, timeout=120):
        """Start a VM with the console attached, wait for its end; returns what it printed.

        end: what marks the end (default: the VM is off or has crashed). The shell's prompt must
        be there before, and is there after.
        """
        self.pump(0)
        start = self.mark = len(self.text)
        self.line(f"vm start {vm}")
        self.line(f"vm console {vm}")
        self.expect(rf"^\[{vm}, serial port 1; .*\n", timeout)
        told = ""
        if end:
            self.expect(end, timeout)
        else:
            told = self.wait_off(vm, timeout)
        out = (self.text[start:] if told else self.text[start:self.mark]) + told
        self.shell()
        return out

    def wait_off(self, vm, timeout):
        """Wait until the attached VM has ended. Where this host is slow, it may have done so before
        the console was attached, which is then told by the shell only: returned in the console's
        words. The shell is asked only while the VM says nothing, so as to cut no line of it."""
        limit = time.monotonic() + timeout * SLOW
        while True:
            said, left = len(self.text), limit - time.monotonic()
            try:
                self.expect(rf"^\[{vm}: (is off|has crashed)\]", min(60, max(left, 1)) / SLOW)
                return ""
            except Timeout:
                if left <= 60:
                    raise
            if len(self.text) != said:
                continue
            self.shell()
            row = [row for row in self.command("vm list").splitlines() if row.startswith(f"{vm} ")]
            if row:
                self.console(vm)
            if not row or " running " not in row[0]:
                while len(self.text) != said:
                    said = len(self.text)
                    self.pump(1)        # what it has said meanwhile comes now
                return f"\n[{vm}: {'has crashed' if row and ' crashed ' in row[0] else 'is off'}]"

    def poweroff(self, timeout=60):
        """Turn the machine off by the shell (which must be at its prompt)."""
        self.line("poweroff")
        return self.wait_exit(timeout)


def vm_section(name, kernel=None, **keys):
    """One [vm] section as text. Keys of ravelin.conf; None leaves a key out."""
    lines = [f"[vm {name}]"]
    if kernel:
        lines.append(f"kernel = {kernel}")
    lines += [f"{key} = {value}" for key, value in keys.items() if value is not None]
    return "\n".join(lines) + "\n"


def host_section(attach=None, console="com1,115200", log="info", **keys):
    lines = ["[host]", f"console = {console}", f"log = {log}"]
    if attach:
        lines.append(f"attach = {attach}")
    lines += [f"{key} = {value}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def linux_vm(name, test="boot", cpus=2, memory="512M", kernel="vmlinuz", extra="", **keys):
    """A section for a Debian kernel with the test initramfs."""
    keys.setdefault("autostart", "yes")
    return vm_section(name, kernel=kernel, initrd="initrd.img",
                      cmdline=f"console=ttyS0 rv.test={test} {extra}".strip(),
                      memory=memory, cpus=cpus, **keys)


def linux_files(kernel="6.1", program=None):
    return {"vmlinuz": image(f"vmlinuz-{kernel}"), "initrd.img": initrd(program)}
