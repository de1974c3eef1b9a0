# SPDX-License-Identifier: BSD-2-Clause
"""Machines in Bochs: Intel VMX, and a second opinion on AMD SVM. They boot by BIOS and GRUB.

Environment: RAVELIN_BOCHS, the binary (default: built from source by tests/bochs/build.sh, which
keeps it in a cache; bochs-bin is Debian's 2.7). With RAVELIN_EMULATOR=bochs the tests that are
written for QEMU run here, on the CPU model RAVELIN_BOCHS_CPU (default INTEL).
"""

import os
import pathlib
import socket
import subprocess

import harness

SHARE = pathlib.Path(os.environ.get("RAVELIN_BOCHS_SHARE", "/usr/share/bochs"))
VGA_BIOS = ("/usr/share/bochs/VGABIOS-lgpl-latest", "/usr/share/vgabios/vgabios.bin")

INTEL = "corei7_skylake_x"
INTEL_NO_VMX = "p4_prescott_celeron_336"
INTEL_NO_EPT = "core2_penryn_t9600"
INTEL_NO_UNRESTRICTED = "corei5_lynnfield_750"
INTEL_NO_1G = "corei7_ivy_bridge_3770k"
AMD = "ryzen"

CONFIG = """\
config_interface: textconfig
display_library: {display}
romimage: file={share}/BIOS-bochs-latest
vgaromimage: file={vga}
cpu: model={cpu}, count={smp}, ips=100000000, quantum=16, reset_on_triple_fault=0
clock: sync=none, time0=utc
{sound}memory: guest={memory}, host={host}
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path={iso}, status=inserted
boot: cdrom
com1: enabled=1, mode=socket-client, dev=localhost:{port}
log: {log}
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""


def chosen():
    """The CPU model that the tests written for QEMU run on, or None: that is QEMU's affair."""
    if os.environ.get("RAVELIN_EMULATOR") != "bochs":
        return None
    return os.environ.get("RAVELIN_BOCHS_CPU", INTEL)


_binary = None


def binary():
    """The Bochs to run; built if it is not there yet (two minutes, once)."""
    global _binary
    if _binary is None:
        _binary = os.environ.get("RAVELIN_BOCHS")
    if _binary is None:
        done = subprocess.run([harness.TREE / "tests" / "bochs" / "build.sh"], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"tests/bochs/build.sh: {done.stderr[-2000:]}")
        _binary = done.stdout.split()[-1]
    return _binary


class Bochs(harness.Machine):
    """A machine that boots Ravelin in Bochs; as harness.Machine, without QMP and other doors."""

    def __init__(self, conf, files=None, cpu=INTEL, checks=None, image=None, **kw):
        """checks: environment for what tests/bochs/checks.h adds; image: another ravelin.elf."""
        kw.setdefault("name", f"bochs-{cpu}")
        kw.setdefault("memory", "1024")
        self.checks = {f"RAVELIN_BOCHS_{key}": value for key, value in (checks or {}).items()}
        super().__init__(conf, files, door="grub-bios", cpu=cpu, **kw)
        self.image = image or harness.BUILD / "ravelin.elf"

    def start(self):
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(60 * harness.SLOW)
        iso = harness.media.iso(self.dir / "boot.iso", self.image, self.conf,
                                self.files, self.cmdline)
        stock = binary() == "bochs-bin"
        config = self.dir / "bochsrc"
        config.write_text(CONFIG.format(
            # Debian's binary would open a sound device; ours has no sound.
            sound="sound: waveoutdrv=dummy\n" if stock else "",
            display="rfb, options=\"timeout=0\"" if stock else "nogui", share=SHARE,
            vga=next(path for path in VGA_BIOS if os.path.exists(path)), cpu=self.cpu,
            smp=self.smp, memory=self.memory, host=min(int(self.memory), 2048), iso=iso,
            port=listener.getsockname()[1], log=self.dir / "bochs.log"))
        argv = [binary(), "-q", "-f", str(config)]
        if stock:
            # Debian's binary has the debugger in it, which must be told to go on.
            (self.dir / "commands").write_text("continue\nquit\n")
            argv += ["-rc", str(self.dir / "commands")]
        with open(self.dir / "stderr", "wb") as err:
            self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=err, stderr=err,
                                         env={**os.environ, **self.checks})
        try:
            self.sock = listener.accept()[0]
        except TimeoutError:
            text = (self.dir / "stderr").read_text(errors="replace")[-3000:]
            self.stop()
            raise RuntimeError(f"{self.name}: Bochs did not start: {text}") from None
        finally:
            listener.close()
        return self

    def bochs_log(self):
        log = self.dir / "bochs.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def errors(self):
        return super().errors() + self.bochs_log()

    def wait_exit(self, timeout=60):
        """As in QEMU 0 when the machine was turned off: Bochs calls that a fatal error."""
        status = super().wait_exit(timeout)
        return 0 if "ACPI control: soft power off" in self.bochs_log() else status
