#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What the whole hypervisor costs: boot, memory, size, and how costs grow with VMs and vCPUs.

Usage: system.py [--build DIR] [--json FILE] [--series 6.12] [PART...]

PART is one of boot, memory, growth; without one all of them. Everything runs in the SEV machine's
emulator and is counted by it: instructions executed, idle time not among them.
  boot    From the loader's jump into the hypervisor (for KVM: into its host's kernel) to the
          guest kernel's first instruction, and from there to the first instruction of user space:
          on Ravelin, on KVM (Debian's kernel and QEMU on an initramfs that holds nothing else),
          and without a hypervisor. The guest is Debian's kernel, 512 MiB, one CPU.
  memory  Frames that the hypervisor takes, fixed and for each VM, and the image.
  growth  CPUID in one VM beside others that halt, and with other vCPUs that halt; creation and
          destruction of a VM of 4 MiB beside others, and of one with many vCPUs.
"""

import contextlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import gdbstub
import machine
import peer

sys.path.insert(0, str(machine.TOP / "tests" / "images"))
import fetch  # noqa: E402
import initramfs  # noqa: E402

USER_ENTRY = 0x5A5A5000  # guests.mk: of the first process
KERNEL_32 = 0x100000     # where a loader by the 32-bit protocol starts a bzImage
COUNTS = (1, 8, 64)
VCPUS = (1, 16, 64)
GUEST_MIB = 512
CMDLINE = "console=ttyS0 loglevel=3"
PARTS = ("boot", "memory", "growth")


def note(text):
    print(f"system: {text}", file=sys.stderr, flush=True)


# --- an emulator that stops where asked --------------------------------------------------

class Stopper:
    """A machine, its debugger, and the count of executed instructions."""

    def __init__(self, m, path):
        self.machine, self.gdb = m, gdbstub.Gdb(path)

    def executed(self):
        """All CPUs' instructions since the machine's start."""
        text = self.machine.command("info replay")
        found = re.search(r"instruction count = (\d+)", text)
        if not found:
            raise machine.BenchError(f"the emulator does not count: {text}")
        return int(found.group(1))

    def until(self, *addresses, seconds=600):
        """Go on to one of the addresses."""
        for address in addresses:
            self.gdb.point(address)
        self.gdb.start()
        for _ in range(int(seconds * machine.SLOW)):
            self.machine.poll()
            if self.gdb.stopped(1):
                break
        else:
            raise machine.BenchError("none of " + " ".join(map(hex, addresses)) + " was reached:\n"
                                     + self.machine.text[-1500:])
        self.gdb.points_off()

    def until_text(self, pattern):
        """Go on until that was printed."""
        self.gdb.start()
        self.machine.wait_for(pattern, seconds=600)
        self.gdb.interrupt()

    def count_at(self, *addresses):
        """Go on to one of the addresses; the count there."""
        self.until(*addresses)
        return self.executed()

    def call(self, function, log):
        """Instructions of the next call of the function, its start to its return, from a log."""
        self.until(function)
        stack, _ = self.gdb.registers()
        end = self.gdb.word(stack)
        self.machine.command(f"logfile {log}")
        self.machine.command("log exec,nochain")
        self.machine.command("one-insn-per-tb on")
        self.until(end)
        self.machine.command("log none")
        self.machine.command("one-insn-per-tb off")
        with open(log, "rb") as lines:
            return sum(line.startswith(b"Trace") for line in lines)


def counting(tmp, record=True):
    """The emulator's options that make Stopper work; with record, executed(). A recording takes
    no input of the serial line."""
    icount = "shift=0,sleep=off" + f",rr=record,rrfile={tmp / 'replay'}" * record
    return ["-icount", icount, "-gdb", f"unix:{tmp / 'gdb'},server=on,wait=off"]


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory() as tmp:
        yield pathlib.Path(tmp)


@contextlib.contextmanager
def on_ravelin(build, conf, files, memory, record=False):
    with folder() as tmp:
        with machine.start_ravelin(machine.emulator(build), tmp, build, conf, files, memory=memory,
                                   counting=False, extra=counting(tmp, record)) as m:
            yield Stopper(m, tmp / "gdb")


def symbols(elf, *names):
    rows = subprocess.run(["nm", str(elf)], capture_output=True, text=True, check=True).stdout
    found = {r.split()[-1]: int(r.split()[0], 16) for r in rows.splitlines()
             if len(r.split()) == 3}
    return [found[n] for n in names]


# --- boot --------------------------------------------------------------------------------

BOOT_CONF = f"""[host]
console = com1,115200
mitigations = no
[vm debian]
kernel = vmlinuz
initrd = initrd.img
cmdline = {CMDLINE}
memory = {GUEST_MIB}M
cpus = 1
autostart = yes
"""


def guest_initrd(build, tmp):
    archive = initramfs.Archive()
    archive.add("dev", initramfs.S_IFDIR | 0o755)
    archive.add("dev/console", initramfs.S_IFCHR | 0o600, device=(5, 1))
    archive.add("init", initramfs.S_IFREG | 0o755, (build / "guests" / "user").read_bytes())
    path = tmp / "initrd.img"
    path.write_bytes(archive.finish())
    return path


def preferred_address(kernel):
    """Where a bzImage wants to run (Linux Documentation/x86/boot.rst: pref_address)."""
    return int.from_bytes(kernel.read_bytes()[0x258:0x260], "little")


def boot_ravelin(build, kernel, initrd):
    elf = build / "ravelin.debug"
    image, entry, *steps = symbols(elf, "image_start", "mb2_entry", "tsc_init", "smp_start",
                                   "vm_create", "units_vm_init", "vm_start")
    with on_ravelin(build, BOOT_CONF, {"vmlinuz": kernel, "initrd.img": initrd}, 1024,
                    record=True) as s:
        start = s.count_at(entry - image + 0x200000)
        clock, clock_end, vm, vm_end, load = (s.count_at(step) for step in steps)
        guest = s.count_at(preferred_address(kernel) + 0x200)
        user = s.count_at(USER_ENTRY)
    return {"to_guest": guest - start, "clock": clock_end - clock, "memory": vm_end - vm,
            "load": guest - load, "to_user": user - guest}


def boot_bare(build, kernel, initrd):
    with folder() as tmp:
        argv = [*machine.emulator(build), "-cpu", machine.CPU, "-m", str(GUEST_MIB),
                "-kernel", kernel, "-initrd", initrd, "-append", CMDLINE, *counting(tmp)]
        with machine.Machine(argv, tmp) as m:
            s = Stopper(m, tmp / "gdb")
            start = s.count_at(KERNEL_32)
            user = s.count_at(USER_ENTRY)
    return {"to_user": user - start}


def boot_kvm(build, kernel, initrd, series):
    with folder() as tmp:
        guest = ["-m", str(GUEST_MIB), "-kernel", f"/{kernel.name}", "-initrd", f"/{initrd.name}",
                 "-append", f"'{CMDLINE}'"]
        peer.host_files(tmp, series, [kernel, initrd], guest)
        argv = peer.host_argv(machine.emulator(build), tmp, mitigations=False, memory=2048)
        with machine.Machine([*argv, *counting(tmp)], tmp) as m:
            s = Stopper(m, tmp / "gdb")
            start = s.count_at(KERNEL_32)
            s.until_text("L1: kvm_amd sev_es")
            first = s.count_at(KERNEL_32)
            user = s.count_at(USER_ENTRY)
    return {"to_guest": first - start, "to_user": user - first}


def boot(build, series):
    kernel = fetch.locked_image(f"vmlinuz-{series}")
    with folder() as tmp:
        initrd = guest_initrd(build, tmp)
        return {"bare": boot_bare(build, kernel, initrd),
                "ravelin": boot_ravelin(build, kernel, initrd),
                "kvm": boot_kvm(build, kernel, initrd, series)}


# --- VMs that halt -----------------------------------------------------------------------

HOST = "[host]\nconsole = com1,115200\nmitigations = no\n"
VM = """[vm {name}]
kernel = {kernel}
cmdline = {cmdline}
memory = 4M
cpus = {cpus}
autostart = {start}
"""


def vm(name, cmdline="", cpus=1, start=False):
    """With a command line it is the benchmark's payload, else one that halts."""
    return VM.format(name=name, kernel="bench.elf" if cmdline else "idle.elf",
                     cmdline=cmdline or "idle", cpus=cpus, start="yes" if start else "no")


def beside(count, *others):
    """A configuration with `count` VMs, all but the others of them running and halted."""
    idle = [vm(f"idle{i}", start=True) for i in range(count - len(others))]
    return HOST + "".join(idle) + "".join(others)


def shell(s, command=None):
    """Run a command of the shell while the machine runs; what it printed."""
    m = s.machine
    if command is None:
        return m.wait_for("ravelin> ", seconds=300)
    start = len(m.text)
    m.send(command + "\r")
    m.wait_for(r"\n(?:.*\n)*ravelin> $", start, 300)
    return m.text[start:]


def free_frames(s):
    return int(re.search(r"^free +\d+ MiB +(\d+) frames", shell(s, "mem"), re.M).group(1))


def files(build):
    return {n: build / "guests" / n for n in ("bench.elf", "idle.elf")}


# --- memory ------------------------------------------------------------------------------

def taken_by_vm(build, cpus):
    """KiB of the hypervisor's that a VM takes beside its memory."""
    with on_ravelin(build, beside(1, vm("probe", cpus=cpus)), files(build), 512) as s:
        s.gdb.start()
        shell(s)
        before = free_frames(s)
        shell(s, "vm destroy probe")
        return (free_frames(s) - before) * 4 - 4 * 1024


def image(build):
    rows = subprocess.run(["size", "-A", build / "ravelin.debug"], capture_output=True, text=True,
                          check=True).stdout
    sizes = {r.split()[0]: int(r.split()[1]) for r in rows.splitlines()
             if len(r.split()) == 3 and r.split()[1].isdigit()}
    found = {n[1:]: sizes[n] for n in (".text", ".rodata", ".data", ".bss")}
    return {"file": (build / "ravelin.elf").stat().st_size, **found}


def fixed(build):
    """KiB of a machine's usable memory that are not free once the shell is there, without VMs."""
    with on_ravelin(build, HOST, {}, 512) as s:
        s.gdb.start()
        shell(s)
        text = shell(s, "mem")
    total, free = (int(re.search(rf"^{n} +\d+ MiB +(\d+) frames", text, re.M).group(1))
                   for n in ("total", "free"))
    return (total - free) * 4


def memory(build):
    return {"image": image(build), "fixed_kib": fixed(build),
            "vm_kib": {cpus: taken_by_vm(build, cpus) for cpus in VCPUS}}


# --- growth ------------------------------------------------------------------------------

def measured(s, name="bench"):
    """Counts that the payload in that VM prints."""
    shell(s, f"vm start {name}")
    start = len(s.machine.text)
    s.machine.send(f"vm console {name}\r")
    s.machine.wait_for(r"bench done\n", start, 300)
    text = s.machine.text[start:]
    found = {op: int(n) for op, n in re.findall(r"^bench (\S+) (\d+)$", text, re.M)}
    others = re.search(r"^others (\d+)$", text, re.M)
    return found, int(others.group(1)) if others else 0


def cost(build, conf, count, vcpus=1):
    with on_ravelin(build, conf, files(build), 1024) as s:
        s.gdb.start()
        shell(s)
        if count > 1:
            s.machine.wait(f"vm idle{count - 2}: started", 300)
        found, others = measured(s)
    if others != vcpus - 1:
        raise machine.BenchError(f"of {vcpus - 1} other vCPUs {others} have started")
    return {n: found[n] for n in ("cpuid.0", "apic.eoi", "self_ipi.hlt")}


def life(build, conf, count):
    """Instructions of vm_destroy() and vm_create() of the VM "probe"."""
    create, destroy = symbols(build / "ravelin.debug", "vm_create", "vm_destroy")
    with on_ravelin(build, conf, files(build), 1024) as s:
        s.gdb.start()
        shell(s)
        if count > 1:
            s.machine.wait(f"vm idle{count - 2}: started", 300)
        s.gdb.interrupt()
        s.machine.send("vm destroy probe\r")
        gone = s.call(destroy, s.machine.tmp / "log")
        s.machine.send("vm start probe\r")
        made = s.call(create, s.machine.tmp / "log")
    return {"create": made, "destroy": gone}


def growth(build):
    found = {"vms": {}, "vcpus": {}}
    for n in COUNTS:
        note(f"{n} VMs")
        conf = beside(n, vm("bench", "short"))
        found["vms"][n] = cost(build, conf, n) | life(build, beside(n, vm("probe")), n)
    for n in VCPUS:
        note(f"{n} vCPUs")
        conf = beside(1, vm("bench", f"short others={n - 1}", n))
        found["vcpus"][n] = cost(build, conf, 1, n) | life(build, beside(1, vm("probe", cpus=n)), 1)
    return found


# --- tables ------------------------------------------------------------------------------

def millions(n):
    return f"{n / 1e6:12.1f}"


def boot_table(found):
    rows = [f"{'millions of instructions':50}{'Ravelin':>12}{'KVM':>12}{'bare':>12}"]
    for key, text in (("to_guest", "loader's jump to the guest kernel's first"),
                      ("clock", " of these: waiting for a clock to set the TSC by"),
                      ("memory", " of these: the guest's memory zeroed and mapped"),
                      ("load", " of these: its kernel put in place"),
                      ("to_user", "from there to user space's first")):
        rows.append(f"{text:50}" + "".join(
            millions(found[who][key]) if key in found[who] else f"{'-':>12}"
            for who in ("ravelin", "kvm", "bare")))
    return "\n".join(rows)


def memory_table(found):
    rows = ["image, bytes: " + ", ".join(f"{k} {v}" for k, v in found["image"].items()),
            f"hypervisor without VMs: {found['fixed_kib']} KiB"]
    rows += [f"a VM of {n} vCPU: {kib} KiB beside its memory" for n, kib in found["vm_kib"].items()]
    return "\n".join(rows)


def growth_table(found):
    columns = list(next(iter(found["vms"].values())))
    rows = [f"{'':10}" + "".join(f"{c:>14}" for c in columns)]
    for kind, label in (("vms", "VMs"), ("vcpus", "vCPUs")):
        rows += [f"{n:4} {label:5}" + "".join(f"{row[c]:14}" for c in columns)
                 for n, row in found[kind].items()]
    return "\n".join(rows)


def main(argv):
    parser = machine.argument_parser(__doc__)
    parser.add_argument("--series", default="6.12")
    parser.add_argument("part", nargs="*", choices=[[], *PARTS])
    opt = parser.parse_args(argv)
    measure = {"boot": (lambda: boot(opt.build, opt.series), boot_table),
               "memory": (lambda: memory(opt.build), memory_table),
               "growth": (lambda: growth(opt.build), growth_table)}
    found = {}
    for part in opt.part or PARTS:
        get, table = measure[part]
        found[part] = get()
        print(f"{table(found[part])}\n", flush=True)
    if opt.json:
        opt.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
