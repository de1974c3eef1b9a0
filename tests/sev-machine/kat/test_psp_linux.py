# SPDX-License-Identifier: GPL-2.0-or-later
"""The security processor as Debian's unmodified kernels see it: the ccp module and /dev/sev."""
import fcntl
import gzip
import lzma
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys

import pytest

import psp_owner as o
from psp_machine import HERE, default_qemu

sys.path.insert(0, os.path.join(HERE, "..", "..", "images"))

import fetch  # noqa: E402
import initramfs  # noqa: E402

SUITES = {"6.1": "stable", "6.12": "backports"}
WANTED = "drivers/crypto/ccp/ccp.ko"


def unpack_kernel(suite, dest):
    """Kernel image and ccp module of one Debian package, which belong together."""
    fetch.apt_update()
    version = fetch.version_in("linux-image-amd64", suite)
    package = fetch.depends_on("linux-image-amd64", version, r"linux-image-[0-9][^ ,]*")
    root = fetch.unpack(package)
    module = next(root.glob("lib/modules/*/kernel/" + WANTED + "*"))
    data = module.read_bytes()
    if module.suffix == ".xz":
        data = lzma.decompress(data)
    dest.mkdir(parents=True)
    (dest / "ccp.ko").write_bytes(data)
    shutil.copyfile(next((root / "boot").glob("vmlinuz-*")), dest / "vmlinuz")
    shutil.rmtree(root.parent)


@pytest.fixture(scope="module", params=list(SUITES))
def kernel(request):
    dest = fetch.CACHE / "sev-kat" / request.param
    dest.parent.mkdir(parents=True, exist_ok=True)
    with open(fetch.CACHE / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (dest / "vmlinuz").exists():
            shutil.rmtree(dest, ignore_errors=True)
            unpack_kernel(SUITES[request.param], dest)
    return dest


@pytest.fixture(scope="module")
def init_program(tmp_path_factory):
    path = tmp_path_factory.mktemp("init") / "init"
    subprocess.run(["cc", "-static", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(path),
                    os.path.join(HERE, "psp-linux-init.c")], check=True)
    return path.read_bytes()


def archive(files):
    out = initramfs.Archive()
    out.add("dev", initramfs.S_IFDIR | 0o755)
    out.add("dev/console", initramfs.S_IFCHR | 0o600, device=(5, 1))
    for name, data in files.items():
        out.add(name, initramfs.S_IFREG | 0o755, data)
    return gzip.compress(out.finish(), 1, mtime=0)


class Run:
    """One boot: .log, and .kat = {name: (rc, errno, fw status, bytes)}."""

    def __init__(self, kernel, init_program, tmp_path, psp="", append="", files=None):
        initrd, answers = tmp_path / "initrd", tmp_path / "answers"
        initrd.write_bytes(archive({"init": init_program,
                                    "ccp.ko": (kernel / "ccp.ko").read_bytes(), **(files or {})}))
        done = subprocess.run(
            [default_qemu(), "-L", "/usr/share/seabios", "-L", "/usr/share/qemu", "-M", "q35",
             "-accel", "tcg,thread=single", "-cpu", "EPYC,hypervisor=off", "-m", "512",
             "-nodefaults", "-display", "none", "-serial", "stdio",
             "-serial", "file:%s" % answers, "-no-reboot",
             "-object", "sev-memory,id=sev0,trace=on",
             "-device", "sev-psp,id=psp" + ("," + psp if psp else ""),
             "-kernel", str(kernel / "vmlinuz"), "-initrd", str(initrd),
             "-append", "console=ttyS0 loglevel=7 panic=-1 " + append],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            timeout=240, check=False)
        self.log = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
        self.kat = {
            m[1]: (int(m[2]), int(m[3]), int(m[4]), bytes.fromhex(m[5]))
            for m in re.finditer(r"^KAT (\S+) rc=(-?\d+) errno=(\d+) fw=(\d+) ?([0-9a-f]*)\r?$",
                                 answers.read_text(), re.M)}
        assert "done" in self.kat, self.log[-3000:]

    def ok(self, name):
        rc, errno, status, data = self.kat[name]
        assert (rc, errno, status) == (0, 0, 0), (name, self.kat[name][:3])
        return data

    def chain(self, name):
        """(pdh, pek, oca, cek), verified with each other."""
        chain, pdh = self.ok(name), self.ok(name + "-pdh")
        pek, oca, cek = chain[:0x824], chain[0x824:0x1048], chain[0x1048:]
        assert o.verify(pdh, o.public_key(pek), o.USAGE_PEK)
        assert o.verify(pek, o.public_key(oca), o.USAGE_OCA)
        assert o.verify(pek, o.public_key(cek), o.USAGE_CEK)
        assert o.verify(oca, o.public_key(oca), o.USAGE_OCA)
        return pdh, pek, oca, cek


def test_ioctls(kernel, init_program, tmp_path):
    """Every command that /dev/sev offers; then a second boot imports an owner's certificate."""
    nv = tmp_path / "flash"
    run = Run(kernel, init_program, tmp_path, psp="nv-file=%s" % nv)
    assert "SEV API:1.55 build:21" in run.log
    assert struct.unpack("<BBBIBI", run.ok("status")) == (1, 55, 1, 0x100, 21, 0)
    assert run.kat["export-query"][2] == 4 and run.kat["csr-query"][2] == 4     # INVALID_LEN
    assert struct.unpack(">II", run.ok("lengths")) == (0x824, 0x186C)
    first, second, third = [run.chain(name) for name in ("export", "new-pdh", "new-pek")]
    assert first[0] != second[0] and first[1:] == second[1:]
    assert second[1] != third[1] and second[3] == third[3]
    assert run.ok("csr")[:o.SIGNED_LEN] == first[1][:o.SIGNED_LEN]
    assert len(set(run.ok("id"))) > 16
    assert run.kat["import-zeros"][0] == -1 and run.kat["import-zeros"][2] == 6

    # Sign what the first run left in flash; the device's CSR is the PEK's signed part.
    key = o.new_key()
    oca = o.sign_cert(o.make_cert(key, o.USAGE_OCA, o.ALGO_ECDSA), key, o.USAGE_OCA)
    pek = o.sign_cert(third[1], key, o.USAGE_OCA)
    run = Run(kernel, init_program, tmp_path, psp="nv-file=%s" % nv,
              files={"pek": pek, "oca": oca})
    assert run.chain("export")[1] == third[1]
    run.ok("import")
    assert run.kat["import-again"][2] == 5                      # ALREADY_OWNED
    assert struct.unpack("<BBBIBI", run.ok("owned"))[3] == 0x101
    assert run.chain("imported")[2] == oca
    assert run.chain("new-pek")[2] != oca
    assert struct.unpack("<BBBIBI", run.ok("end"))[3] == 0x100


def test_init_ex(kernel, init_program, tmp_path):
    """Linux keeps the processor's data in a file (module parameter init_ex_path)."""
    run = Run(kernel, init_program, tmp_path, append="init_ex=1", files={"nv": b"\xff" * 0x8000})
    assert "psp: INIT_EX (0x00d) -> 0x00 SUCCESS" in run.log
    nv, last = run.ok("nv"), run.chain("new-pek")
    assert len(nv) == 0x8000 and nv != b"\xff" * 0x8000
    run = Run(kernel, init_program, tmp_path, append="init_ex=1", files={"nv": nv})
    assert run.chain("export") == last
    # Damaged: fails once, and the driver's retry starts afresh.
    run = Run(kernel, init_program, tmp_path, append="init_ex=1",
              files={"nv": nv[:0x200] + bytes([nv[0x200] ^ 1]) + nv[0x201:]})
    assert "psp: INIT_EX (0x00d) -> 0x18 SECURE_DATA_INVALID" in run.log
    assert "psp: INIT_EX (0x00d) -> 0x00 SUCCESS" in run.log
    assert run.chain("export")[1] != last[1]


@pytest.mark.full
def test_faults_reach_the_driver(kernel, init_program, tmp_path):
    """What ccp does with a processor that fails, is late, or is silent."""
    run = Run(kernel, init_program, tmp_path, psp="fault=INIT:0x18*1")
    assert run.log.count("psp: INIT (0x001)") >= 2              # its own retry
    assert struct.unpack("<BBBIBI", run.ok("status"))[2] == 1
    run = Run(kernel, init_program, tmp_path, psp="fault=PDH_CERT_EXPORT:0x13;PEK_GEN:late:700")
    assert run.kat["export"][0] == -1 and run.kat["export"][2] == 0x13
    assert run.ok("pek-gen") == b""
    run = Run(kernel, init_program, tmp_path, psp="fault=PLATFORM_STATUS:never")
    assert "sev command 0x4 timed out, disabling PSP" in run.log
