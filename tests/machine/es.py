# SPDX-License-Identifier: BSD-2-Clause
"""SEV-ES test guests and the machine they run on, for test_sev_es*.py."""

import fcntl
import os
import re
import struct
import subprocess

import bochs
from harness import BUILD, TREE, host_section, vm_section

PSP = "/machine/peripheral/psp"
SEV = "/objects/sev"


def tool(*args, check=True):
    """Runs the owner's program."""
    done = subprocess.run([TREE / "tools" / "ravelin-sev", *args], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert not check or done.returncode == 0, done.stdout
    return done.stdout


class Owner:
    """A guest's owner: keys for one platform, whose certificates came by `psp cert`."""

    # The ids of secrets are the owner's choice; this is OVMF's for a disk's passphrase.
    GUID = "736869e5-84f0-4973-92ec-06879ce3da0b"

    def __init__(self, directory, platform, name="owner", policy="nodbg,noks,es"):
        self.base = directory / name
        (directory / f"{name}.txt").write_text(platform)
        tool("session", self.base, directory / f"{name}.txt", policy)
        self.keys = {"sev-cert": f"{name}_godh.b64", "sev-session": f"{name}_session.b64",
                     "policy": policy}
        self.files = {f"{name}_{what}.b64": directory / f"{name}_{what}.b64"
                      for what in ("godh", "session")}

    def measurement(self, conf, vm, measured):
        """What the tool says of it; refused unless it is the files' own."""
        return tool("measure", conf, vm, "--tik", f"{self.base}_tik.bin", "--blob", measured)

    def packet(self, vm, measured, text):
        """Lines for the shell with that secret; also header and payload as files."""
        secret = self.base.with_suffix(".secret")
        secret.write_text(text)
        out = tool("secret", "--tik", f"{self.base}_tik.bin", "--tek", f"{self.base}_tek.bin",
                   "--measurement", measured, "--secret", f"{self.GUID}:{secret}", "--vm", vm,
                   f"{self.base}.header", f"{self.base}.payload")
        return [line for line in out.splitlines() if line.startswith("vm secret")]


def measured(m, name):
    """Measurement and nonce of the VM's last launch, as they were logged."""
    found = re.findall(rf"vm {name}: launch measurement ([0-9a-f]{{64}}) nonce ([0-9a-f]{{32}})",
                       m.command("log dmesg"))
    assert found, m.tail()
    return " ".join(found[-1])


# Where the emulator that we build finds its BIOS.
FIRMWARE = ["-L", "/usr/share/seabios", "-L", "/usr/share/qemu"]

# For Linux as guest. Its kernels turn the pages of .bss..decrypted into shared ones without a flush
# of the caches, so the checker of key changes (coherent=off) would stop them.
LINUX_MACHINE = ["-object", "sev-memory,id=sev,fatal=on,coherent=on",
                 *FIRMWARE, "-device", "sev-psp,id=psp"]


def sev_qemu():
    """The emulator that `make sev-machine` builds, or SEV_QEMU."""
    if os.environ.get("SEV_QEMU"):
        return os.environ["SEV_QEMU"]
    built = subprocess.run([TREE / "tests/sev-machine/build.sh"], check=True, text=True,
                           stdout=subprocess.PIPE)
    return built.stdout.split()[-1]


def with_threads(smp):
    """Keys of a machine whose CPUs run at the same time, for tests that switch vCPUs much. Debian's
    QEMU loses bits of the first CPU's state there (docs/test-machines.md); the patched one, as a
    plain machine, does not."""
    if smp == 1 or bochs.chosen():
        return {}
    return {"qemu": sev_qemu(), "cpu": "EPYC", "extra": FIRMWARE}


def es_image(directory, name, test, *args):
    """es.bin with its test's number (at offset 12) and arguments (u64 from 16 on)."""
    data = bytearray((BUILD / "guests" / "es.bin").read_bytes())
    assert data[8:12] == b"ESG1"
    args = list(args) + [0] * (4 - len(args))
    struct.pack_into("<I4Q", data, 12, test, *args)
    path = directory / f"{name}.bin"
    path.write_bytes(data)
    return path


def es_section(name, **keys):
    keys.setdefault("memory", "16M")
    keys.setdefault("cpus", 1)
    keys.setdefault("autostart", "no")
    keys.setdefault("debug-exit", "yes")
    keys.setdefault("sev-loader", f"{name}.bin")
    return vm_section(name, sev="es", **keys)


def hooks_image():
    """The hypervisor that makes mistakes when it is told to: `make es-hooks`."""
    # Tests run side by side: one of them makes it, the others wait.
    with open(BUILD / "es-hooks.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["make", "-s", "-C", TREE, "es-hooks"], check=True,
                       stdout=subprocess.DEVNULL)
    return BUILD / "hooks" / "ravelin.elf"


def start(machine, guests, directory, memory="", psp="", extra_sections="", files=None,
          log="warn", host=None, fatal=True, icount=False, more=(), machine_memory="512M",
          **kw):
    """A machine whose VMs are SEV-ES guests: {name: (test, args..., {keys})}."""
    conf = host_section(log=log, **(host or {})) + extra_sections
    files = dict(files or {})
    for name, what in guests.items():
        keys = dict(what[-1]) if isinstance(what[-1], dict) else {}
        args = [x for x in what if not isinstance(x, dict)]
        conf += es_section(name, **keys)
        files[f"{name}.bin"] = es_image(directory, name, *args)
    extra = ["-object", f"sev-memory,id=sev,fatal={'on' if fatal else 'off'},coherent=off" + memory,
             *FIRMWARE, "-device", "sev-psp,id=psp" + psp, *more]
    if icount: # one instruction is a tick of the TSC
        extra += ["-icount", "shift=0,sleep=off"]
    kw.setdefault("smp", 2)
    m = machine(conf, files, qemu=sev_qemu(), accel="tcg,thread=single", cpu="EPYC", extra=extra,
                memory=machine_memory, **kw)
    m.boot(180)
    return m


def wait_state(m, name, state, timeout=60):
    """Until `vm list` says so. The VM prints nothing meanwhile."""
    for _ in range(int(timeout * 5)):
        if re.search(rf"^{name} +{state} ", m.command("vm list"), re.M):
            return
        m.pump(0.2)
    raise AssertionError(f"{name} is not {state}:\n{m.command('vm list')}")


def crash(m, name, command, timeout=60):
    """Runs a command after which the VM is stopped with a report; returns the reason."""
    m.pump(0)
    m.mark = len(m.text)
    m.line(command)
    why = m.expect(rf"vm {name}: vcpu \d+ stopped: (.*)\n", timeout)[1]
    m.pump(0.5)
    m.shell()
    wait_state(m, name, "crashed")
    return why


def count(m, name):
    """One of the emulator's counters."""
    return int(m.qmp("qom-get", path=SEV, property=f"count-{name}"))


def registers(m):
    """What the CPUs hold now."""
    m.qmp("stop")
    text = m.qmp("human-monitor-command", **{"command-line": "info registers -a"})
    m.qmp("cont")
    return text


def dump(m, path, size=512 << 20):
    """All RAM as it is in the chips."""
    m.qmp("stop")
    m.qmp("pmemsave", val=0, size=size, filename=str(path))
    m.qmp("cont")
    return path.read_bytes()


def clean(m, guests=0):
    """Nothing violated, and nothing left at the processor."""
    assert "violation" not in m.errors(), m.errors()
    out = m.command("psp status")
    assert f" {guests} guests" in out and "waits for the PSP" not in out, out
