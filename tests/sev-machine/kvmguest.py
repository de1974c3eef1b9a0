#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine boots to run a guest on KVM: Debian's kernel with an initramfs that holds KVM's
modules, Debian's QEMU and the guest.

Usage: kvmguest.py DIR KERNEL-SERIES FILE... -- QEMU-ARGUMENT...

Writes DIR/vmlinuz and DIR/initrd. KERNEL-SERIES is 6.12 (of backports) or 6.1 (the release's). The
files land in the initramfs's root folder; QEMU starts with the arguments and -accel kvm, its first
serial port on the machine's.
"""

import fcntl
import lzma
import os
import pathlib
import shutil
import sys

import debian
import linuxhost

PATTERN = r"linux-image-{series}\.[0-9]+[-+].*-amd64"
ROMS = ("bios-256k.bin", "multiboot.bin", "multiboot_dma.bin", "pvh.bin", "linuxboot_dma.bin",
        "kvmvapic.bin")
SCRIPT = """#!/bin/sh
qemu-system-x86_64 -accel kvm -cpu host -nodefaults -display none -serial stdio {arguments}
echo "KVM guest ended: $?"
"""


def _newest(suite, series):
    return debian.newest(suite, PATTERN.format(series=series.replace(".", r"\.")).replace(
        "-amd64", r"(?<!cloud)(?<!rt)-amd64"))


def kernel(series):
    """Folder with vmlinuz and the modules; kept in the cache."""
    dest = debian.CACHE / "kvm-host" / series
    dest.parent.mkdir(parents=True, exist_ok=True)
    with open(dest.parent / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (dest / "done").exists():
            return dest
        shutil.rmtree(dest, ignore_errors=True)
        dest.mkdir()
        suite = linuxhost.SUITE if series == "6.12" else linuxhost.CODENAME
        tree = dest / "unpacked"
        debian.unpack(suite, tree, _newest(suite, series))
        shutil.copy(next((tree / "boot").glob("vmlinuz-*")), dest / "vmlinuz")
        base = next((tree / "lib/modules").iterdir()) / "kernel"
        for module in linuxhost.MODULES:
            name, path = pathlib.Path(module).name, base / f"{module}.ko"
            packed = path.with_suffix(".ko.xz")
            data = lzma.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
            (dest / f"{name}.ko").write_bytes(data)
        shutil.rmtree(tree)
        (dest / "done").write_text("")
    return dest


def initrd(work, series, files, arguments):
    """Writes the initramfs; its path."""
    host, tree = kernel(series), work / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    for d in ("bin", "modules", "dev", "proc", "sys", "tmp", "run"):
        (tree / d).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin")
    for module in linuxhost.MODULES:
        shutil.copy(host / f"{pathlib.Path(module).name}.ko", tree / "modules")
    shutil.copy(linuxhost.HERE / "linux" / "init", tree / "init")
    (tree / "run.sh").write_text(SCRIPT.format(arguments=arguments))
    (tree / "run.sh").chmod(0o755)
    peer = "/usr/bin/qemu-system-x86_64"
    for path in (peer, *linuxhost.libraries(peer)):
        linuxhost.put(tree, path)
    for rom in ROMS:
        for folder in ("/usr/share/qemu", "/usr/share/seabios"):
            if os.path.exists(f"{folder}/{rom}"):
                linuxhost.put(tree, f"{folder}/{rom}")
    for path in files:
        shutil.copy(path, tree)
    return linuxhost.cpio(tree, work / "initrd")


def main(argv):
    if len(argv) < 5 or "--" not in argv:
        sys.exit(__doc__)
    work, cut = pathlib.Path(argv[1]), argv.index("--")
    work.mkdir(parents=True, exist_ok=True)
    initrd(work, argv[2], argv[3:cut], " ".join(argv[cut + 1:]))
    shutil.copy(kernel(argv[2]) / "vmlinuz", work / "vmlinuz")


if __name__ == "__main__":
    main(sys.argv)
