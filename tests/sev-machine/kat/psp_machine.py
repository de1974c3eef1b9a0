# SPDX-License-Identifier: GPL-2.0-or-later
"""Drive the SEV machine's security processor without a guest operating system.

QEMU runs a small ROM (rom.asm) on its CPUs; everything else goes through QEMU's qtest protocol
(port I/O, memory) and QMP (properties, NMI).
"""
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))

BAR2 = 0xE0000000
BAR5 = 0xE0200000
DEVFN = 3 << 3

RESP = 1 << 31

# ROM variables, see rom.asm.
ROM_MASK = 0x600
ROM_ALIVE = 0x604
ROM_COUNT = 0x610

COMMANDS = {
    "INIT": 0x001, "SHUTDOWN": 0x002, "PLATFORM_RESET": 0x003, "PLATFORM_STATUS": 0x004,
    "PEK_GEN": 0x005, "PEK_CSR": 0x006, "PEK_CERT_IMPORT": 0x007, "PDH_CERT_EXPORT": 0x008,
    "PDH_GEN": 0x009, "DF_FLUSH": 0x00A, "DOWNLOAD_FIRMWARE": 0x00B, "GET_ID": 0x00C,
    "INIT_EX": 0x00D, "NOP": 0x00E, "DECOMMISSION": 0x020, "ACTIVATE": 0x021,
    "DEACTIVATE": 0x022, "GUEST_STATUS": 0x023, "ACTIVATE_EX": 0x025, "LAUNCH_START": 0x030,
    "LAUNCH_UPDATE_DATA": 0x031, "LAUNCH_UPDATE_VMSA": 0x032, "LAUNCH_MEASURE": 0x033,
    "LAUNCH_SECRET": 0x034, "LAUNCH_FINISH": 0x035, "ATTESTATION": 0x036, "SEND_START": 0x040,
    "SEND_UPDATE_DATA": 0x041, "SEND_UPDATE_VMSA": 0x042, "SEND_FINISH": 0x043,
    "SEND_CANCEL": 0x044, "RECEIVE_START": 0x050, "RECEIVE_UPDATE_DATA": 0x051,
    "RECEIVE_UPDATE_VMSA": 0x052, "RECEIVE_FINISH": 0x053, "DBG_DECRYPT": 0x060,
    "DBG_ENCRYPT": 0x061,
}

STATUS = {name: value for value, name in enumerate(
    "SUCCESS INVALID_PLATFORM_STATE INVALID_GUEST_STATE INVALID_CONFIG INVALID_LEN ALREADY_OWNED "
    "INVALID_CERTIFICATE POLICY_FAILURE INACTIVE INVALID_ADDRESS BAD_SIGNATURE BAD_MEASUREMENT "
    "ASID_OWNED INVALID_ASID WBINVD_REQUIRED DFFLUSH_REQUIRED INVALID_GUEST INVALID_COMMAND "
    "ACTIVE HWERROR_PLATFORM HWERROR_UNSAFE UNSUPPORTED INVALID_PARAM RESOURCE_LIMIT "
    "SECURE_DATA_INVALID".split())}
STATUS_NAME = {value: name for name, value in STATUS.items()}


def default_qemu():
    """The emulator to test: SEV_QEMU, or what `make sev-machine` builds."""
    if "SEV_QEMU" in os.environ:
        return os.environ["SEV_QEMU"]
    out = os.environ.get("O", os.path.join(HERE, "..", "..", "..", "build"))
    return os.path.join(out, "sev-machine", "bin", "qemu-system-x86_64")


def build_rom(path):
    subprocess.run(["nasm", "-f", "bin", "-o", path, os.path.join(HERE, "rom.asm")], check=True)


class Timeout(Exception):
    """The security processor did not answer in time."""


class Machine:
    """One emulator process with a security processor at 00:03.0."""

    def __init__(self, rom, cpus=1, psp="", memory="", generation_layout=None, wait_roms=True):
        self.dir = tempfile.mkdtemp(prefix="sev-kat-")
        self.cpus = cpus
        self.layout = generation_layout or {
            "cmd": 0x10980, "lo": 0x109E0, "hi": 0x109E4, "boot": 0x109EC, "feature": 0x109FC,
            "inten": 0x10690, "intsts": 0x10694}
        listeners = [self._listen("qtest"), self._listen("qmp")]
        self.log_path = os.path.join(self.dir, "log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [default_qemu(), "-M", "q35", "-accel", "tcg,thread=single", "-m", "256",
                 "-cpu", "EPYC,+svm,+x2apic", "-smp", str(cpus), "-nodefaults", "-display", "none",
                 "-bios", rom, "-object", "sev-memory,id=sev0" + self._opt(memory),
                 "-device", "sev-psp,id=psp,addr=3" + self._opt(psp),
                 "-qtest", "unix:" + os.path.join(self.dir, "qtest"), "-qtest-log", "none",
                 "-qmp", "unix:" + os.path.join(self.dir, "qmp")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.qtest, self.qmp_file = [self._accept(s) for s in listeners]
            self._line(self.qmp_file)           # greeting
            self.qmp("qmp_capabilities")
            if wait_roms:
                self._wait(lambda: self.readl(ROM_ALIVE) == cpus, "CPUs did not start")
            self._setup_pci()
        except Exception:
            self.close()
            raise

    @staticmethod
    def _opt(text):
        return "," + text if text else ""

    def _listen(self, name):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(os.path.join(self.dir, name))
        sock.listen(1)
        sock.settimeout(0.2)
        return sock

    def _accept(self, sock):
        deadline = time.monotonic() + 30
        while True:
            try:
                conn, _ = sock.accept()
                conn.settimeout(60)
                sock.close()
                return conn.makefile("rw", buffering=1, newline="\n")
            except socket.timeout:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("emulator did not start: " + self.log()) from None

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def close(self):
        """End the emulator and return its log."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        text = self.log() if os.path.exists(self.log_path) else ""
        shutil.rmtree(self.dir, ignore_errors=True)
        return text

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @staticmethod
    def _wait(condition, what, seconds=20.0):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise Timeout(what)
            time.sleep(0.002)

    # ---- qtest and QMP ----------------------------------------------------------------------

    def _line(self, stream):
        try:
            line = stream.readline()
        except ConnectionError:
            line = ""
        if not line:
            self.process.wait(10)
            raise RuntimeError("emulator went away: " + self.log())
        return line

    def _qtest(self, line):
        self.qtest.write(line + "\n")
        self.qtest.flush()
        while True:
            answer = self._line(self.qtest)
            if answer.startswith("IRQ"):
                continue
            if not answer.startswith("OK"):
                raise RuntimeError("qtest: %s -> %s" % (line, answer.strip()))
            return answer[2:].strip()

    def qmp(self, command, **arguments):
        self.qmp_file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.qmp_file.flush()
        while True:
            answer = json.loads(self._line(self.qmp_file))
            if "error" in answer:
                raise RuntimeError(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]

    def get(self, name, path="/machine/peripheral/psp"):
        return self.qmp("qom-get", path=path, property=name)

    def set(self, name, value, path="/machine/peripheral/psp"):
        self.qmp("qom-set", path=path, property=name, value=value)

    def readl(self, addr):
        return int(self._qtest("readl 0x%x" % addr), 16)

    def writel(self, addr, value):
        self._qtest("writel 0x%x 0x%x" % (addr, value))

    def read(self, addr, size):
        return bytes.fromhex(self._qtest("read 0x%x 0x%x" % (addr, size))[2:])

    def write(self, addr, data):
        if data:
            self._qtest("write 0x%x 0x%x 0x%s" % (addr, len(data), data.hex()))

    def cfg_read(self, offset):
        self._qtest("outl 0xcf8 0x%x" % (0x80000000 | DEVFN << 8 | offset & ~3))
        return int(self._qtest("inl 0xcfc"), 16)

    def cfg_write(self, offset, value):
        self._qtest("outl 0xcf8 0x%x" % (0x80000000 | DEVFN << 8 | offset & ~3))
        self._qtest("outl 0xcfc 0x%x" % value)

    def _setup_pci(self):
        self.cfg_write(0x18, BAR2)
        self.cfg_write(0x1C, 0)
        self.cfg_write(0x24, BAR5)
        self.cfg_write(0x04, 0x6)   # memory space, bus master

    def capability(self, wanted):
        """Configuration space offset of a PCI capability."""
        at = self.cfg_read(0x34) & 0xFF
        while at:
            head = self.cfg_read(at)
            if head & 0xFF == wanted:
                return at
            at = head >> 8 & 0xFF
        raise KeyError(wanted)

    # ---- mailbox ----------------------------------------------------------------------------

    def reg_read(self, name):
        return self.readl(BAR2 + self.layout[name])

    def reg_write(self, name, value):
        self.writel(BAR2 + self.layout[name], value)

    def doorbell(self, command, addr=0, ioc=False):
        self.reg_write("lo", addr & 0xFFFFFFFF)
        self.reg_write("hi", addr >> 32)
        self.reg_write("cmd", command << 16 | int(ioc))

    def wait_answer(self, seconds=20.0):
        self._wait(lambda: self.reg_read("cmd") & RESP, "no answer", seconds)
        value = self.reg_read("cmd")
        assert value & 0x7FFF0000 == 0
        return value & 0xFFFF

    # ---- CPUs -------------------------------------------------------------------------------

    def wbinvd(self, cpus=None):
        """Let CPUs (default: all) execute WBINVD."""
        cpus = list(range(self.cpus)) if cpus is None else cpus
        before = {cpu: self.readl(ROM_COUNT + 4 * cpu) for cpu in cpus}
        self.writel(ROM_MASK, sum(1 << cpu for cpu in cpus))
        self.qmp("inject-nmi")
        for cpu in cpus:
            self._wait(lambda cpu=cpu: self.readl(ROM_COUNT + 4 * cpu) != before[cpu],
                       "CPU %d did not execute WBINVD" % cpu)


class Psp:
    """The commands, by name. Each method returns the status name, or (status, outputs)."""

    BUF = 0x100000          # command buffer
    A = 0x110000            # three areas for data behind pointers
    B = 0x120000
    C = 0x130000
    TMR = 0x8000000         # 1 MiB at 128 MiB
    NV = 0x140000
    GUEST = 0x200000        # guest memory

    def __init__(self, machine):
        self.m = machine

    def raw(self, name, data=b"", addr=None, ioc=False):
        """Run a command with this buffer; returns (status name, buffer afterwards)."""
        command = COMMANDS[name] if isinstance(name, str) else name
        addr = self.BUF if addr is None else addr
        if data and addr == self.BUF:
            self.m.write(addr, data)
        self.m.doorbell(command, addr, ioc)
        status = self.m.wait_answer()
        out = self.m.read(addr, len(data)) if data and addr == self.BUF else b""
        return STATUS_NAME.get(status, hex(status)), out

    def run(self, name, data=b"", addr=None):
        return self.raw(name, data, addr)[0]

    # platform

    def init(self, es=True, tmr=None, tmr_len=0x100000, flags=None, rsvd=0):
        flags = int(es) if flags is None else flags
        tmr = self.TMR if tmr is None else tmr
        return self.run("INIT", struct.pack("<IIQI", flags, rsvd, tmr if flags & 1 else 0,
                                            tmr_len if flags & 1 else 0))

    def init_ex(self, es=True, tmr=None, tmr_len=0x100000, nv=None, nv_len=0x8000, length=0x24,
                rsvd=0):
        return self.run("INIT_EX", struct.pack(
            "<IIQIIQI", length, int(es), self.TMR if tmr is None else tmr, tmr_len, rsvd,
            self.NV if nv is None else nv, nv_len))

    def status(self):
        status, out = self.raw("PLATFORM_STATUS", b"\xee" * 12)
        assert status == "SUCCESS"
        major, minor, state, owner, config, rsvd, build, guests = struct.unpack("<BBBBHBBI", out)
        assert rsvd == 0
        return {"api": (major, minor, build), "state": state, "owner": owner, "config": config,
                "guests": guests}

    def df_flush(self):
        return self.run("DF_FLUSH")

    def up(self, es=True):
        """INIT, WBINVD everywhere, DF_FLUSH."""
        assert self.init(es) == "SUCCESS"
        self.m.wbinvd()
        assert self.df_flush() == "SUCCESS"

    def flush(self):
        self.m.wbinvd()
        assert self.df_flush() == "SUCCESS"

    def export(self, pdh=None, pdh_len=0x824, chain=None, chain_len=0x186C):
        status, out = self.raw("PDH_CERT_EXPORT", struct.pack(
            "<QIIQI", self.A if pdh is None else pdh, pdh_len, 0,
            self.B if chain is None else chain, chain_len))
        _, pdh_len, _, _, chain_len = struct.unpack("<QIIQI", out)
        return status, pdh_len, chain_len

    def certificates(self):
        """(pdh, pek, oca, cek) as bytes."""
        assert self.export()[0] == "SUCCESS"
        chain = self.m.read(self.B, 0x186C)
        return (self.m.read(self.A, 0x824), chain[:0x824], chain[0x824:0x1048], chain[0x1048:])

    def csr(self, addr=None, length=0x824):
        status, out = self.raw("PEK_CSR", struct.pack(
            "<QI", self.A if addr is None else addr, length))
        return status, struct.unpack("<QI", out)[1]

    def cert_import(self, pek, oca, pek_len=0x824, oca_len=0x824, pek_addr=None):
        self.m.write(self.A, pek)
        self.m.write(self.B, oca)
        return self.run("PEK_CERT_IMPORT", struct.pack(
            "<QIIQI", self.A if pek_addr is None else pek_addr, pek_len, 0, self.B, oca_len))

    def get_id(self, addr=None, length=64):
        status, out = self.raw("GET_ID", struct.pack(
            "<QI", self.A if addr is None else addr, length))
        return status, struct.unpack("<QI", out)[1]

    # guests

    def start(self, policy=1, handle=0, cert=None, session=None, cert_len=None,
              session_len=None, cert_addr=None, session_addr=None):
        """LAUNCH_START; returns (status, handle)."""
        if cert is not None:
            self.m.write(self.A, cert)
            self.m.write(self.B, session)
            cert_addr = self.A if cert_addr is None else cert_addr
            session_addr = self.B if session_addr is None else session_addr
            cert_len = 0x824 if cert_len is None else cert_len
            session_len = 0x80 if session_len is None else session_len
        status, out = self.raw("LAUNCH_START", struct.pack(
            "<IIQIIQI", handle, policy, cert_addr or 0, cert_len or 0, 0, session_addr or 0,
            session_len or 0))
        return status, struct.unpack_from("<I", out)[0]

    def must_start(self, policy=1, **kwargs):
        status, handle = self.start(policy, **kwargs)
        assert status == "SUCCESS"
        return handle

    def activate(self, handle, asid):
        return self.run("ACTIVATE", struct.pack("<II", handle, asid))

    def activate_ex(self, handle, asid, ids=(0,), length=0x18, count=None, addr=None):
        self.m.write(self.A, b"".join(struct.pack("<I", i) for i in ids))
        return self.run("ACTIVATE_EX", struct.pack(
            "<IIIIQ", length, handle, asid, len(ids) if count is None else count,
            self.A if addr is None else addr))

    def deactivate(self, handle):
        return self.run("DEACTIVATE", struct.pack("<I", handle))

    def decommission(self, handle):
        return self.run("DECOMMISSION", struct.pack("<I", handle))

    def guest_status(self, handle):
        status, out = self.raw("GUEST_STATUS", struct.pack("<III", handle, 0xEE, 0xEE) + b"\xee")
        assert status == "SUCCESS"
        _, policy, asid, state = struct.unpack("<IIIB", out)
        return policy, asid, state

    def _update(self, name, handle, addr, length):
        return self.run(name, struct.pack("<IIQI", handle, 0, addr, length))

    def update_data(self, handle, addr=None, length=0x1000):
        return self._update("LAUNCH_UPDATE_DATA", handle, self.GUEST if addr is None else addr,
                            length)

    def update_vmsa(self, handle, addr=None, length=0x1000):
        return self._update("LAUNCH_UPDATE_VMSA", handle, self.GUEST if addr is None else addr,
                            length)

    def measure(self, handle, addr=None, length=0x30):
        """LAUNCH_MEASURE; returns (status, length, mac, mnonce)."""
        addr = self.C if addr is None else addr
        status, out = self.raw("LAUNCH_MEASURE", struct.pack("<IIQI", handle, 0, addr, length))
        blob = self.m.read(self.C, 0x30)
        return status, struct.unpack_from("<I", out, 0x10)[0], blob[:32], blob[32:]

    def secret(self, handle, header, data, guest=None, hdr_len=0x34, guest_len=None,
               trans_len=None, hdr_addr=None, trans_addr=None):
        self.m.write(self.A, header)
        self.m.write(self.B, data)
        return self.run("LAUNCH_SECRET", struct.pack(
            "<IIQIIQIIQI", handle, 0, self.A if hdr_addr is None else hdr_addr, hdr_len, 0,
            self.GUEST if guest is None else guest, len(data) if guest_len is None else guest_len,
            0, self.B if trans_addr is None else trans_addr,
            len(data) if trans_len is None else trans_len))

    def finish(self, handle):
        return self.run("LAUNCH_FINISH", struct.pack("<I", handle))

    def attestation(self, handle, mnonce=b"m" * 16, addr=None, length=0xD0):
        """ATTESTATION; returns (status, length, report)."""
        status, out = self.raw("ATTESTATION", struct.pack(
            "<IIQ16sI", handle, 0, self.C if addr is None else addr, mnonce, length))
        return status, struct.unpack_from("<I", out, 0x20)[0], self.m.read(self.C, 0xD0)

    def dbg(self, name, handle, src, dst, length):
        return self.run(name, struct.pack("<IIQQI", handle, 0, src, dst, length))

    def decrypt(self, handle, addr, length):
        """What the guest would see at addr (policy must allow debugging)."""
        assert self.dbg("DBG_DECRYPT", handle, addr, self.C, length) == "SUCCESS"
        return self.m.read(self.C, length)

    def running(self, policy=1, asid=1):
        """A guest after LAUNCH_FINISH; returns its handle."""
        handle = self.must_start(policy)
        assert self.activate(handle, asid) == "SUCCESS"
        assert self.measure(handle)[0] == "SUCCESS"
        assert self.finish(handle) == "SUCCESS"
        return handle
