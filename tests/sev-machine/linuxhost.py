# SPDX-License-Identifier: GPL-2.0-or-later
"""Run Debian's unmodified kernel as the host (L1) on the SEV machine.

What is prepared once and kept in the cache: the kernel image and the modules kvm, kvm-amd, ccp of
the backports suite, and the kernel's own SEV selftests compiled from the matching source package.
"""

import fcntl
import lzma
import os
import pathlib
import re
import shutil
import subprocess

import debian

HERE = pathlib.Path(__file__).resolve().parent
CODENAME = re.search(r"^VERSION_CODENAME=(\w+)", pathlib.Path("/etc/os-release").read_text(),
                     re.M).group(1)
SUITE = f"{CODENAME}-backports"
MODULES = ("virt/lib/irqbypass", "drivers/crypto/ccp/ccp", "arch/x86/kvm/kvm",
           "arch/x86/kvm/kvm-amd")
SELFTESTS = ("sev_smoke_test", "sev_init2_tests")
QEMU_ARGS = ("-L", "/usr/share/seabios", "-L", "/usr/share/qemu", "-nodefaults", "-display",
             "none", "-M", "q35", "-accel", "tcg,thread=single")


def emulator():
    """The emulator under test: SEV_QEMU, or the cached build."""
    if os.environ.get("SEV_QEMU"):
        return os.environ["SEV_QEMU"]
    done = subprocess.run([HERE / "build.sh"], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()[-1]


# --- kernel and selftests -----------------------------------------------------------------------

def _unpack_kernel(dest):
    image = debian.newest(SUITE, r"linux-image-6\.12\.[0-9]+\+.*-amd64")
    tree = dest / "unpacked"
    debian.unpack(SUITE, tree, image)
    shutil.copy(next((tree / "boot").glob("vmlinuz-*")), dest / "vmlinuz")
    base = next((tree / "lib/modules").iterdir()) / "kernel"
    for module in MODULES:
        data = lzma.decompress((base / f"{module}.ko.xz").read_bytes())
        (dest / f"{pathlib.Path(module).name}.ko").write_bytes(data)
    shutil.rmtree(tree)


def _build_selftests(dest):
    tree = dest / "unpacked"
    debian.unpack(SUITE, tree, "linux-source-6.12", "linux-libc-dev")
    tar = next((tree / "usr/src").glob("linux-source-*.tar.xz"))
    subprocess.run(["tar", "xf", tar, "-C", tree, "--strip-components=1", "--wildcards",
                    "*/tools/testing/selftests/kvm/*", "*/tools/testing/selftests/*.h",
                    "*/tools/include/*", "*/tools/arch/x86/*", "*/tools/lib/*"], check=True)
    headers = tree / "usr/include"
    kvm = tree / "tools/testing/selftests/kvm"
    flags = ["-w", "-std=gnu99", "-O2", "-march=x86-64-v2", "-DCONFIG_64BIT", "-U_FORTIFY_SOURCE",
             "-fno-builtin-memcmp", "-fno-builtin-memcpy", "-fno-builtin-memset",
             "-fno-builtin-strnlen", "-fno-stack-protector", "-fno-PIE", "-fno-strict-aliasing",
             "-D_GNU_SOURCE=", "-isystem", headers, "-isystem", headers / "x86_64-linux-gnu",
             "-I../../../include", "-I../../../arch/x86/include", "-Iinclude", "-Ix86_64",
             "-Iinclude/x86_64", "-I..", "-pthread"]
    makefile = (kvm / "Makefile").read_text()
    objects = []
    for src in re.findall(r"^LIBKVM(?:_x86_64|_STRING)? \+= (lib\S+)", makefile, re.M):
        obj = dest / (src.replace("/", "_") + ".o")
        free = ["-ffreestanding"] if "string_override" in src else []
        subprocess.run(["cc", *flags, *free, "-c", src, "-o", obj], cwd=kvm, check=True)
        objects.append(obj)
    for test in SELFTESTS:
        subprocess.run(["cc", *flags, "-no-pie", "-static", f"x86_64/{test}.c", *objects, "-o",
                        dest / test, "-ldl"], cwd=kvm, check=True)
    for obj in objects:
        obj.unlink()
    shutil.rmtree(tree)


def prepared():
    """Directory with vmlinuz, the modules and the selftests."""
    dest = debian.CACHE / "sev-linux" / CODENAME
    dest.parent.mkdir(parents=True, exist_ok=True)
    with open(dest.parent / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (dest / "done").exists():
            shutil.rmtree(dest, ignore_errors=True)
            dest.mkdir()
            _unpack_kernel(dest)
            _build_selftests(dest)
            (dest / "done").write_text("")
    return dest


# --- initramfs ----------------------------------------------------------------------------------------

def cpio(tree, out):
    names = subprocess.run(["find", ".", "-print0"], cwd=tree, stdout=subprocess.PIPE, check=True)
    with open(out, "wb") as f:
        subprocess.run(["cpio", "--null", "--quiet", "-o", "-H", "newc"], cwd=tree,
                       input=names.stdout, stdout=f, check=True)
    return out


def libraries(binary):
    done = subprocess.run(["ldd", binary], stdout=subprocess.PIPE, text=True, check=True)
    return re.findall(r"(/\S+\.so\S*)", done.stdout)


def put(tree, path):
    dest = tree / str(path).lstrip("/")
    dest.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, dest)


def initramfs(work, script, peer=False):
    """The host's initramfs: busybox, modules, selftests and `script` to run after loading them.

    With peer=True also Debian's QEMU, OVMF and a small guest (kernel and /l2.cpio).
    """
    kernel = prepared()
    tree = work / "l1"
    for d in ("bin", "modules", "dev", "proc", "sys", "tmp", "run"):
        (tree / d).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin")
    for module in MODULES:
        shutil.copy(kernel / f"{pathlib.Path(module).name}.ko", tree / "modules")
    for test in SELFTESTS:
        shutil.copy(kernel / test, tree / "bin")
    shutil.copy(HERE / "linux" / "init", tree / "init")
    (tree / "run.sh").write_text(script)
    (tree / "run.sh").chmod(0o755)
    if peer:
        _add_peer(work, tree, kernel)
    return cpio(tree, work / "l1.cpio")


def _add_peer(work, tree, kernel):
    guest = work / "l2"
    for d in ("bin", "dev", "proc"):
        (guest / d).mkdir(parents=True)
    shutil.copy("/bin/busybox", guest / "bin")
    shutil.copy(HERE / "linux" / "guest-init", guest / "init")
    cpio(guest, tree / "l2.cpio")
    shutil.copy(kernel / "vmlinuz", tree)
    peer = "/usr/bin/qemu-system-x86_64"
    for path in (peer, *libraries(peer), "/usr/share/OVMF/OVMF_CODE.fd",
                 "/usr/share/OVMF/OVMF_VARS.fd"):
        put(tree, path)
    for rom in ("linuxboot_dma.bin", "kvmvapic.bin"):
        for folder in ("/usr/share/qemu", "/usr/share/seabios"):
            if os.path.exists(f"{folder}/{rom}"):
                put(tree, f"{folder}/{rom}")


# --- running -------------------------------------------------------------------------------------------

def boot(initrd, cpus=1, memory=1024, append="", sev="", psp=True, timeout=120, extra=()):
    """Boot the host; returns everything it and the emulator printed."""
    argv = ["timeout", "-k", "5", str(timeout), emulator(), *QEMU_ARGS, "-serial", "stdio",
            "-cpu", "EPYC,hypervisor=off", "-m", str(memory), "-smp", str(cpus), "-no-reboot",
            "-kernel", prepared() / "vmlinuz", "-initrd", initrd, "-append",
            f"console=ttyS0 loglevel=5 {append}".strip(), *extra]
    if sev is not None:
        argv += ["-object", "sev-memory,id=sev" + ("," + sev if sev else "")]
        if psp:
            argv += ["-device", "sev-psp"]
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.decode("utf-8", "replace").replace("\r", "")
