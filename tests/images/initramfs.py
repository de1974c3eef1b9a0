#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Build the initramfs of the test guests: one static busybox, the script `init`, and what a test
adds to them.

The archive ("newc" cpio, Linux Documentation/driver-api/early-userspace/buffer-format.rst) is
written here rather than by cpio(1), so that device nodes need no root and two builds are equal.

Command line:  initramfs.py OUTPUT
"""

import gzip
import io
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
BUSYBOX = pathlib.Path("/bin/busybox")

S_IFDIR, S_IFREG, S_IFCHR, S_IFLNK = 0o040000, 0o100000, 0o020000, 0o120000


class Archive:
    """A cpio archive in the making."""

    def __init__(self):
        self.out = io.BytesIO()
        self.inode = 0

    def add(self, name, mode, data=b"", device=(0, 0)):
        self.inode += 1
        raw = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(raw), 0)
        self.out.write(b"070701" + b"".join(b"%08X" % f for f in fields) + raw)
        self.pad()
        self.out.write(data)
        self.pad()

    def pad(self):
        self.out.write(b"\0" * (-self.out.tell() % 4))

    def finish(self):
        self.add("TRAILER!!!", 0)
        return self.out.getvalue()


def program(name):
    """A program of this machine with the libraries it needs, {name in the archive: bytes}."""
    path = shutil.which(name)
    if path is None:
        raise SystemExit(f"{name} is not installed: make deps")
    ldd = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
    libraries = re.findall(r"(?:=> |^\s)/(\S+) \(0x", ldd, re.M)
    files = {library: pathlib.Path("/", library).read_bytes() for library in libraries}
    return files | {f"bin/{name}": pathlib.Path(path).read_bytes()}


def build(extra=None):
    """The packed archive as bytes. extra: more files, {name: bytes}."""
    busybox = BUSYBOX.read_bytes()
    if b"/ld-linux" in busybox[:4096]:
        raise SystemExit(f"{BUSYBOX} is not static: install busybox-static")
    archive = Archive()
    for folder in ("bin", "dev", "proc", "sys", "tmp", "run"):
        archive.add(folder, S_IFDIR | 0o755)
    archive.add("dev/console", S_IFCHR | 0o600, device=(5, 1))
    archive.add("dev/null", S_IFCHR | 0o666, device=(1, 3))
    archive.add("bin/busybox", S_IFREG | 0o755, busybox)
    archive.add("bin/sh", S_IFLNK | 0o777, b"busybox")
    archive.add("init", S_IFREG | 0o755, (HERE / "init").read_bytes())
    folders = {str(folder) for name in extra or {} for folder in pathlib.PurePath(name).parents}
    for folder in sorted(folders - {".", "bin"}):
        archive.add(folder, S_IFDIR | 0o755)
    for name, data in (extra or {}).items():
        archive.add(name, S_IFREG | 0o755, data)
    return gzip.compress(archive.finish(), 6, mtime=0)


def main(argv):
    if len(argv) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    pathlib.Path(argv[0]).write_bytes(build())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
