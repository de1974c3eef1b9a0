#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Boot Ravelin in the emulator with Debian guests, on the user's terminal.

Each option is also an environment variable (in capitals), so that `make run SMP=4` works:
  --guests N    how many Debian guests (default 1; named debian, debian2, ...)
  --kernel V    6.1 or 6.12 (default 6.1)
  --smp N       CPUs of the machine (default 2)
  --cpus N      vCPUs of a guest (default 2)
  --memory M    memory of a guest (default 512M)
  --door D      efi, grub-bios or grub-uefi (default efi; with --sev grub-bios)
  --sev         the guest `secret` by direct launch as SEV-ES guest on the machine with SEV-ES,
                beside the plain ones; kernel 6.12 then, unless named
"""

import argparse
import os
import subprocess
import sys

import es
import harness


def options(argv):
    parser = argparse.ArgumentParser(prog="make run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)

    def add(name, default, **kw):
        parser.add_argument(f"--{name}", default=os.environ.get(name.upper()) or default, **kw)

    add("guests", "1", type=int)
    add("kernel", "", choices=("", "6.1", "6.12"))
    add("smp", "2", type=int)
    add("cpus", "2", type=int)
    add("memory", "512M")
    add("door", "", choices=("", *harness.DOORS))
    parser.add_argument("--sev", action="store_true")
    parser.add_argument("--timeout", type=int, default=0, help="end after that many seconds")
    opt = parser.parse_args(argv)
    opt.kernel = opt.kernel or ("6.12" if opt.sev else "6.1")
    # OVMF does not know that memory encryption takes an address bit: it puts the PSP out of reach.
    opt.door = opt.door or ("grub-bios" if opt.sev else "efi")
    return opt


def megabytes(text):
    units = {"M": 1, "G": 1024}
    if text[-1:].upper() not in units or not text[:-1].isdigit():
        raise SystemExit(f"memory {text!r}: a number with M or G, like 512M")
    return int(text[:-1]) * units[text[-1].upper()]


def configuration(opt):
    names = ["debian"] + [f"debian{i}" for i in range(2, opt.guests + 1)]
    conf = harness.host_section(attach="secret" if opt.sev else names[0])
    if opt.sev:
        conf += "\n" + harness.vm_section(
            "secret", kernel="vmlinuz", initrd="initrd.img", cmdline="console=ttyS0",
            memory=opt.memory, cpus=opt.cpus, sev="es", policy="nodbg,noks", autostart="yes",
            **{"sev-loader": "loader.bin"})
    for name in names:
        conf += "\n" + harness.vm_section(
            name, kernel="vmlinuz", initrd="initrd.img", cmdline="console=ttyS0",
            memory=opt.memory, cpus=opt.cpus, autostart="yes")
    return conf


class Terminal(harness.Machine):
    """A machine whose serial port is the user's terminal instead of a socket."""

    def argv(self):
        args, words = [], iter(super().argv())
        for word in words:
            # Drop the sockets that tests use.
            if word in ("-chardev", "-serial", "-mon"):
                next(words)
                continue
            args.append(str(word))
        # On a terminal: raw, Ctrl-a x ends the emulator. Else bytes go through untouched.
        if sys.stdin.isatty():
            return args + ["-serial", "mon:stdio"]
        return args + ["-chardev", "stdio,id=com1,signal=off", "-serial", "chardev:com1"]


# What QEMU's software CPU lacks of the model and would warn about.
QUIET = ",-rdseed,-sha-ni,-fxsr-opt,-misalignsse,-3dnowprefetch,-osvw,-topoext,-nrip-save,-xsavec"

HELP = """
  The console is the guest's serial port. To leave:
    Ctrl-]       back to the hypervisor's shell (`help` there; `vm console debian` returns)
    poweroff     in the hypervisor's shell: turns the machine off
    Ctrl-a x     ends the emulator at once
"""


def main(argv):
    opt = options(argv)
    print(f"Preparing Debian's kernel {opt.kernel} and an initramfs...", flush=True)
    try:
        files = harness.linux_files(opt.kernel)
    except (harness.fetch.FetchError, OSError) as why:
        raise SystemExit(f"make run: {why}") from None
    memory = 512 + (opt.guests + opt.sev) * megabytes(opt.memory)
    more = {}
    if opt.sev:
        files["loader.bin"] = harness.BUILD / "guest-pv" / "loader.bin"
        print("The emulator with SEV-ES is built the first time: minutes...", flush=True)
        more = {"qemu": es.sev_qemu(), "accel": "tcg,thread=single", "extra": es.LINUX_MACHINE}
    machine = Terminal(configuration(opt), files, door=opt.door, smp=opt.smp, name="run",
                       memory=f"{memory}M", cpu=os.environ.get("RAVELIN_CPU") or
                       harness.CPU + QUIET, **more)
    print(f"Booting Ravelin ({opt.door}) on {opt.smp} emulated CPU(s), {memory} MiB, with "
          f"{opt.guests} guest(s) of {opt.cpus} vCPU(s).\n{HELP}", flush=True)
    try:
        # Status 0 is a power off, odd ones come from the debug-exit port.
        return subprocess.run(machine.argv(), check=False,
                              timeout=opt.timeout or None).returncode
    except subprocess.TimeoutExpired:
        print(f"\nmake run: ended after {opt.timeout} s", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        machine.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
