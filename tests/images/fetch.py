#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Fetch unmodified Debian kernels and other test images, without installing anything.

Packages are taken with `apt-get download` through a private apt configuration that is derived from
the machine's own sources (so mirrors and keys are whatever the machine uses) plus the backports
suite beside them. What is unpacked lives in $XDG_CACHE_HOME/ravelin (default ~/.cache/ravelin)
and is used again until `--refresh` asks for the current candidate versions.

Command line:  fetch.py [--refresh] [NAME...]     prints "NAME PATH" for each image
"""

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
import zlib

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "ravelin"
IMAGES = CACHE / "images"
APT = CACHE / "apt"


class FetchError(Exception):
    """An image cannot be had; the text says which and why."""


def run(*argv, **kw):
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **kw)
    if done.returncode:
        raise FetchError(f"{' '.join(map(str, argv[:4]))}...: status {done.returncode}:\n"
                         f"{done.stderr.strip()[-2000:]}")
    return done.stdout


def note(text):
    print(f"images: {text}", file=sys.stderr, flush=True)


# --- the private apt configuration -------------------------------------------------------------

def system_sources():
    """(uri, suite, signed-by) of each Debian source of this machine that has `main`."""
    rows = run("apt-get", "indextargets", "--format",
               "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)", "Created-By: Packages")
    found = []
    for row in rows.splitlines():
        uri, suite, component, key = row.split("|")
        key = "" if key.startswith("$(") else key
        if component == "main" and re.search(r"/debian(-security)?/?$", uri):
            if (uri, suite, key) not in found:
                found.append((uri, suite, key))
    if not any("debian-security" not in uri for uri, _, _ in found):
        raise FetchError("no Debian archive with component main among this machine's apt sources; "
                         "add one (deb MIRROR bookworm main)")
    return found


def base_suite(sources):
    names = [s for u, s, _ in sources if "-" not in s and "debian-security" not in u]
    return "bookworm" if "bookworm" in names or not names else names[0]


def write_sources():
    sources = system_sources()
    suite = base_suite(sources)
    uri, _, key = next(s for s in sources if "debian-security" not in s[0])
    wanted = sources + [(uri, f"{suite}-backports", key)]
    lines = []
    for uri, suite, key in dict.fromkeys(wanted):
        key = key or "/usr/share/keyrings/debian-archive-keyring.gpg"
        lines.append(f"deb [signed-by={key}] {uri} {suite} main\n")
    (APT / "sources.list").write_text("".join(lines))


def apt_options():
    # The root user's downloads would be handed to the _apt user, who cannot write to our cache.
    opts = {
        "Dir::Etc::SourceList": APT / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State::Lists": APT / "lists",
        "Dir::Cache": APT / "cache",
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    return [arg for key, value in opts.items() for arg in ("-o", f"{key}={value}")]


_updated = False


def apt_update():
    global _updated
    if _updated:
        return
    note("reading the package lists")
    for folder in (APT / "lists" / "partial", APT / "cache" / "archives" / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    write_sources()
    run("apt-get", *apt_options(), "update")
    _updated = True


def depends_on(package, version, pattern):
    text = run("apt-cache", *apt_options(), "show", f"{package}={version}" if version else package)
    match = re.search(r"^Depends:.*?(" + pattern + r")", text, re.M)
    if not match:
        raise FetchError(f"package {package}: no dependency like {pattern}")
    return match.group(1)


def version_in(package, suite):
    """Newest version of a package that a suite (or one whose name ends like it) offers."""
    for row in run("apt-cache", *apt_options(), "madison", package).splitlines():
        _, version, where = (part.strip() for part in row.split("|"))
        name = where.split()[1].split("/")[0]
        if name.endswith("-backports") == (suite == "backports") and "Sources" not in where:
            return version
    raise FetchError(f"package {package}: no version in suite {suite}")


def unpack(package, version=None):
    """Download a package and return the folder with its files."""
    apt_update()
    work = CACHE / "unpack" / package
    shutil.rmtree(work, ignore_errors=True)
    (work / "deb").mkdir(parents=True)
    note(f"downloading {package} {version or ''}")
    run("apt-get", *apt_options(), "download", f"{package}={version}" if version else package,
        cwd=work / "deb")
    deb = next((work / "deb").glob("*.deb"))
    run("dpkg", "-x", str(deb), str(work / "root"))
    return work / "root"


# --- vmlinux out of a bzImage ------------------------------------------------------------------

def vmlinux_of(bzimage):
    """The ELF inside a bzImage (Linux Documentation/x86/boot.rst: payload_offset, _length)."""
    data = bzimage.read_bytes()
    if data[0x202:0x206] != b"HdrS":
        raise FetchError(f"{bzimage}: not a bzImage")
    setup_sects = data[0x1F1] or 4
    offset, length = struct.unpack_from("<II", data, 0x248)
    start = (setup_sects + 1) * 512 + offset
    payload = data[start:start + length]
    if payload[:6] == b"\xfd7zXZ\0":
        elf = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
    elif payload[:2] == b"\x1f\x8b":
        elf = zlib.decompressobj(31).decompress(payload)
    elif payload[:4] == b"\x28\xb5\x2f\xfd":
        # The last four bytes are the unpacked size, which zstd would take for a second frame.
        elf = subprocess.run(["zstd", "-dc"], input=payload[:-4], capture_output=True,
                             check=True).stdout
    else:
        raise FetchError(f"{bzimage}: unknown compression {payload[:6].hex()}")
    if elf[:4] != b"\x7fELF":
        raise FetchError(f"{bzimage}: the payload is not an ELF image")
    return elf


# --- the images ----------------------------------------------------------------------------------

def make_kernel(dest, suite):
    apt_update()
    version = version_in("linux-image-amd64", suite)
    package = depends_on("linux-image-amd64", version, r"linux-image-[0-9][^ ,]*")
    root = unpack(package)
    shutil.copyfile(next((root / "boot").glob("vmlinuz-*")), dest)
    shutil.rmtree(root.parent)


def make_vmlinux(dest, kernel):
    dest.write_bytes(vmlinux_of(image(kernel)))


def make_gunzip(dest, package, pattern):
    root = unpack(package)
    dest.write_bytes(gzip.decompress(next(root.glob(pattern)).read_bytes()))
    shutil.rmtree(root.parent)


def make_copy(dest, package, pattern):
    root = unpack(package)
    shutil.copyfile(next(root.glob(pattern)), dest)
    shutil.rmtree(root.parent)


RECIPES = {
    # Debian's kernels, bit for bit
    "vmlinuz-6.1": lambda d: make_kernel(d, "stable"),
    "vmlinuz-6.12": lambda d: make_kernel(d, "backports"),
    # the same kernels as ELF with a PVH note
    "vmlinux-6.1": lambda d: make_vmlinux(d, "vmlinuz-6.1"),
    # bzImage-format images that are not Linux
    "memtest": lambda d: make_copy(d, "memtest86+", "boot/memtest86+x64.bin"),
    # a multiboot 1 ELF image
    "xen": lambda d: make_gunzip(d, "xen-hypervisor-4.17-amd64", "boot/xen-*.gz"),
    # firmware images at the reset vector
    "seabios": lambda d: make_copy(d, "seabios", "usr/share/seabios/bios-256k.bin"),
    "seabios-128k": lambda d: make_copy(d, "seabios", "usr/share/seabios/bios.bin"),
    # One image of code and an empty variable store, as it would sit in flash.
    "ovmf": lambda d: make_ovmf(d),
}


def make_ovmf(dest):
    root = unpack("ovmf")
    parts = [root / "usr/share/OVMF" / name for name in ("OVMF_VARS.fd", "OVMF_CODE.fd")]
    dest.write_bytes(b"".join(part.read_bytes() for part in parts))
    shutil.rmtree(root.parent)


def image(name, refresh=False):
    """Path of an image, fetched if the cache does not have it."""
    if name not in RECIPES:
        raise FetchError(f"no image {name!r}; known: {', '.join(RECIPES)}")
    IMAGES.mkdir(parents=True, exist_ok=True)
    dest = IMAGES / name
    if dest.exists() and not refresh:
        return dest
    if os.environ.get("RAVELIN_OFFLINE"):
        raise FetchError(f"image {name} is not in {IMAGES} and RAVELIN_OFFLINE is set")
    part = IMAGES / f"{name}.part"
    RECIPES[name](part)
    part.rename(dest)
    return dest


def locked_image(name, refresh=False):
    """As image(), safe against a second process that fetches at the same time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return image(name, refresh)


def main(argv):
    refresh = "--refresh" in argv
    names = [a for a in argv if not a.startswith("-")] or list(RECIPES)
    failed = 0
    for name in names:
        try:
            print(name, locked_image(name, refresh), flush=True)
        except (FetchError, OSError, StopIteration, subprocess.CalledProcessError) as why:
            print(f"{name}: {why}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
