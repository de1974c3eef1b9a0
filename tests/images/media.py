#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Build what a machine boots Ravelin from: an EFI system partition, or a GRUB ISO.

Command line:
  media.py esp OUTPUT RAVELIN.EFI CONF [NAME=FILE...]
  media.py iso OUTPUT RAVELIN.ELF CONF [NAME=FILE...]
The ESP is a bare FAT image (no partition table): EFI firmware reads it like a partition. The ISO
starts under BIOS and UEFI. NAME is what ravelin.conf calls the file.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

MIB = 1 << 20


def run(*argv, **kw):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, **kw)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: status {done.returncode}\n{done.stderr}")
    return done.stdout


def size_of(files):
    return sum(os.path.getsize(path) for path in files.values())


def esp(output, efi, conf, files):
    """A FAT image with EFI/BOOT/BOOTX64.EFI, ravelin.conf and the files in its root folder."""
    output = pathlib.Path(output)
    mib = max(40, size_of(files) // MIB + 16)
    with open(output, "wb") as img:
        img.truncate(mib * MIB)
    # A fixed serial number: two builds of the same content are equal.
    run("mformat", "-i", output, "-F", "-v", "RAVELIN", "-N", "0", "-T", mib * 2048, "-h", 64,
        "-s", 32, "::")
    run("mmd", "-i", output, "::/EFI", "::/EFI/BOOT")
    run("mcopy", "-i", output, efi, "::/EFI/BOOT/BOOTX64.EFI")
    with tempfile.TemporaryDirectory() as tmp:
        if conf is not None:
            conf_file = pathlib.Path(tmp) / "ravelin.conf"
            conf_file.write_text(conf)
            run("mcopy", "-i", output, conf_file, "::/ravelin.conf")
        for name, path in files.items():
            folder = ""
            for part in pathlib.PurePosixPath(name).parts[:-1]:
                folder += "/" + part
                run("mmd", "-i", output, "-D", "s", f"::{folder}")
            run("mcopy", "-i", output, path, f"::/{name}")
    return output


def grub_cfg(names, cmdline):
    lines = [
        # Console output of GRUB itself goes to the serial port so that a test sees its errors.
        "serial --unit=0 --speed=115200",
        "terminal_input serial console",
        "terminal_output serial console",
        "set timeout=0",
        "set default=0",
        "menuentry 'Ravelin' {",
        f"\tmultiboot2 /boot/ravelin.elf {cmdline}".rstrip(),
    ]
    lines += [f"\tmodule2 --nounzip /boot/{name} {name}" for name in names]
    lines += ["\tboot", "}"]
    return "\n".join(lines) + "\n"


def iso(output, elf, conf, files, cmdline=""):
    """A hybrid ISO: GRUB for BIOS and UEFI, ravelin.elf by multiboot2, all else as modules."""
    output = pathlib.Path(output)
    with tempfile.TemporaryDirectory(dir=output.parent) as tmp:
        boot = pathlib.Path(tmp) / "boot"
        (boot / "grub").mkdir(parents=True)
        shutil.copyfile(elf, boot / "ravelin.elf")
        names = []
        if conf is not None:
            (boot / "ravelin.conf").write_text(conf)
            names.append("ravelin.conf")
        for name, path in files.items():
            (boot / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, boot / name)
            except OSError:
                shutil.copyfile(path, boot / name)
            names.append(name)
        (boot / "grub" / "grub.cfg").write_text(grub_cfg(names, cmdline))
        env = dict(os.environ, SOURCE_DATE_EPOCH="0")
        run("grub-mkrescue", "--locales=", "--fonts=", "--themes=",
            "--install-modules=normal multiboot2 iso9660 part_msdos part_gpt fat serial terminal "
            "terminfo all_video search gzio",
            "-o", output, tmp, env=env)
    return output


def main(argv):
    if len(argv) < 4 or argv[0] not in ("esp", "iso"):
        print(__doc__, file=sys.stderr)
        return 2
    kind, output, image, conf = argv[:4]
    files = dict(arg.split("=", 1) for arg in argv[4:])
    build = esp if kind == "esp" else iso
    build(output, image, pathlib.Path(conf).read_text(), files)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
