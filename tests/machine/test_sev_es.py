# SPDX-License-Identifier: BSD-2-Clause
"""SEV-ES guests on Ravelin: the rows of docs/sev-es.md by name, and a launch failing in each way.

The checkers of the emulator end it at the first violation (fatal=on); caches are not coherent
over keys (coherent=off).
"""

import re
import struct

import pytest

import es
from harness import guest, vm_section

pytestmark = pytest.mark.qemu("needs the secure processor of the patched QEMU")

PLAIN = vm_section("plain", kernel="hello.elf", memory="32M", cpus=1, autostart="no",
                   **{"debug-exit": "yes"})


@pytest.fixture
def guests(machine, tmp_path):
    """Starts a machine with SEV-ES guests: see es.start()."""
    def start(what, **kw):
        return es.start(machine, what, tmp_path, **kw)
    return start


@pytest.fixture
def broken(guests):
    """The same with the hypervisor that makes mistakes when it is told to (make es-hooks)."""
    def start(what, *hooks, **kw):
        m = guests(what, image=es.hooks_image(), **kw)
        out = m.command("eshook " + " ".join(hooks))
        assert "hooks 0x" in out and "hooks 0x0" not in out, out
        for name in what: # made at start: made again, with the mistake
            m.command(f"vm destroy {name}")
        return m
    return start


def run(m, name="a", timeout=120):
    """Runs a guest to its end; its own checks must all have passed."""
    out = m.run_guest(name, timeout=timeout)
    assert "FAIL" not in out and "0 failed" in out and "is off" in out, out
    return out


def traps(m, name="a"):
    """[(exit code, value)] of the guest's write traps, from a trace."""
    out = m.command(f"trace show 100000 {name}", 120)
    return [(int(a, 16), int(b, 16)) for a, b in
            re.findall(r"\btrap +(?:0x)?([0-9a-f]+)[ ,]+(?:0x)?([0-9a-f]+)", out)]


def plain_runs(m):
    out = m.run_guest("plain", timeout=180)
    assert "FAIL" not in out and "is off" in out, out


# --- 5 to 8 ---


def test_row05_only_what_is_valid(guests):
    """P: an absent field is absent, whatever lies in its place."""
    run(guests({"a": (5,)}))


def test_row05_changed_by_another_cpu(guests):
    """N: the GHCB changes between exit and handling: one copy decides."""
    m = guests({"a": (5, 3000, {"cpus": 2})})
    out = run(m)
    seen = re.search(r"leaf 0 (\d+) times, the other's (\d+) times", out)
    assert int(seen[1]) + int(seen[2]) == 3000
    es.clean(m)


def test_row06_not_intercepted(guests):
    m = guests({"a": (6,)})
    run(m)
    es.clean(m)


def test_row06_wrong_intercepts(broken):
    """N: with the intercepts set the guest gets #VC for what nobody could emulate."""
    m = broken({"a": (56,)}, "intercepts")
    out = m.run_guest("a")
    assert "CR8 write: vector 29 code 0x18" in out, out
    assert "XSETBV: vector 29 code 0x8d" in out, out


def test_row07_debug_registers(guests):
    """P: DR0-3 without an exit, DR7 by the GHCB. N: the host's own DR7 is not armed."""
    m = guests({"a": (7,)}, smp=1)
    m.run_guest("a", end="es: armed")
    assert "FAIL" not in m.text
    for line in re.findall(r"DR6=\S+ DR7=(\S+)", es.registers(m)):
        assert int(line, 16) == 0x400
    m.command("vm stop a")
    es.clean(m)


def test_row08_protected(guests):
    """P: registers and memory are not shown. N: those of a plain guest are."""
    m = guests({"a": (8,)}, extra_sections=PLAIN, files={"hello.elf": guest("hello")})
    m.run_guest("a", end=r"^es: hidden.*\n")
    for command in ("vm regs a", "vm peek a 0x100000 256"):
        out = m.command(command)
        assert "protected" in out and "rip" not in out and " rax" not in out, out
        assert not re.search(r"^[0-9a-f]{12} ", out, re.M), out
    out = m.command("vm stats a")
    assert "rax" not in out
    m.command("vm stop a")
    plain_runs(m)
    m.command("vm start plain")
    out = m.command("vm regs plain")
    assert "rip" in out and "protected" not in out, out
    assert re.search(r"^000000200000 ", m.command("vm peek plain 0x200000"), re.M)


# --- 9 to 11 ---


def test_row09_device(guests):
    """P: one #VC (the guest counts) and one VMGEXIT an access, no nested fault that reaches the
    hypervisor: those would be counted as mmio, too."""
    m = guests({"a": (9,)})
    run(m)
    stats = dict(re.findall(r"^ +((?:ghcb )?mmio\S*) +(\d+)", m.command("vm stats a"), re.M))
    assert stats == {"mmio": "2", "ghcb mmio-read": "1", "ghcb mmio-write": "1"}, stats
    es.clean(m)


def test_row09_no_progress(broken):
    """N: with devices not mapped instead of reserved the guest would fault for ever."""
    m = broken({"a": (9,)}, "no-holes")
    m.run_guest("a")
    assert "no progress: nested page fault at 0xfec000" in m.command("vm list")
    es.clean(m)


def test_row10_shutdown(guests):
    m = guests({"a": (10,)}, extra_sections=PLAIN, files={"hello.elf": guest("hello")})
    m.run_guest("a")
    assert "triple fault" in m.command("vm list")
    es.clean(m)
    plain_runs(m)
    run_again = m.run_guest("a")
    assert "es: shutdown" in run_again


def test_row10_again_after_shutdown(broken):
    """N: VMRUN after SHUTDOWN is of no use and harms nobody."""
    m = broken({"a": (10,)}, "after-shutdown", extra_sections=PLAIN,
               files={"hello.elf": guest("hello")})
    m.run_guest("a")
    out = m.command("vm list")
    assert "triple fault" in out or "VMRUN refused" in out, out
    es.clean(m)
    plain_runs(m)


def test_row11_long_run(guests):
    """P: whatever a guest does for long, only exits of the automatic kind come."""
    m = guests({"a": (11, 20000)})
    run(m, timeout=300)
    assert "unexpected exit" not in m.command("log dmesg")
    es.clean(m)


def test_row11_impossible_exit(guests):
    """N: a code that cannot be ends that VM; another goes on."""
    m = guests({"a": (79,), "b": (0,)})
    m.run_guest("a", end="es: ready")
    m.qmp("qom-set", path=es.SEV, property="inject-exit-code", value=0x72)
    assert "unexpected exit (exit code 0x72 CPUID" in es.crash(m, "a", "vm nmi a")
    m.qmp("qom-set", path=es.SEV, property="inject-exit-code", value=-1)
    run(m, "b")
    es.clean(m)


# --- 16 ---


def test_row16_termination(guests):
    """P: the reason in the log, the VM gone, its resources back."""
    m = guests({"a": (16, 1, 0x42)})
    assert re.search(r"set 1\b.*0x42", es.crash(m, "a", "vm start a"))
    assert es.count(m, "vmrun-es") > 0
    es.clean(m)


def test_row16_other_cpu_in_the_guest(guests):
    """N: DEACTIVATE while a CPU runs the guest would be a violation."""
    m = guests({"a": (16, 1, 0x42, 1, {"cpus": 2})})
    for _ in range(10):
        es.crash(m, "a", "vm start a")
    es.clean(m)
    assert re.search(r"DEACTIVATE +10 sent +0 failed", m.command("psp"))


# --- 20 to 25 ---


def test_row20_invd(guests):
    m = guests({"a": (20,)})
    run(m)
    assert es.count(m, "guest-invd") == 0
    es.clean(m)


def test_row20_without_intercept(broken):
    """N: the emulator counts an INVD that reaches the caches."""
    m = broken({"a": (20, 1)}, "no-invd", fatal=False)
    run(m)
    assert es.count(m, "guest-invd") == 1


def test_row21_efer(guests):
    """P: one trap a write with the value. N: SVME is not tracked, a reserved bit does not trap."""
    m = guests({"a": (21,)})
    m.command("trace on")
    out = m.run_guest("a", end=r"es: EFER 0x[0-9a-f]+$")
    assert "FAIL" not in out
    m.command("trace off")
    value = int(re.search(r"es: EFER 0x([0-9a-f]+)", out)[1], 16)
    regs = m.command("vm regs a")
    assert int(re.search(r"efer ([0-9a-f]+)", regs)[1], 16) == value, regs
    seen = [v for code, v in traps(m) if code == 0x8f]
    # Long mode at the start, SCE, SCE with SVME; nothing for the refused value.
    assert len(seen) == 3 and seen[1] & 1 and not seen[0] & 1, seen


def test_row22_cr0(guests):
    m = guests({"a": (22,)})
    m.command("trace on")
    out = run(m)
    m.command("trace off")
    value = int(re.search(r"es: CR0 0x([0-9a-f]+)", out)[1], 16)
    seen = [v for code, v in traps(m) if code == 0x90]
    assert seen[-5:-1] == [value ^ 0x10000, value, value | 8, value] or \
        seen[-4:] == [value ^ 0x10000, value, value | 8, value], seen


def test_row22_cannot_be_corrected(broken):
    """N: what the hypervisor writes to the control block's CR0 has no effect."""
    m = broken({"a": (22,)}, "cr0")
    run(m)


def test_row23_osxsave(guests):
    m = guests({"a": (23,)})
    out = run(m)
    assert "OSXSAVE 1" in out, out


def test_row23_without_trap(broken):
    """N: without the trap CPUID is stale."""
    m = broken({"a": (23,)}, "no-cr4-trap")
    out = run(m)
    assert "OSXSAVE 0" in out, out


def test_row24_cr8(guests):
    """P: a priority holds an interrupt back and lets it in. N: 16 is #GP, without a trap."""
    m = guests({"a": (24,)})
    m.command("trace on")
    run(m)
    m.command("trace off")
    assert [v for code, v in traps(m) if code == 0x98] == [15, 4, 5, 0, 3, 0]
    es.clean(m)


def test_row25_tracked_registers(guests):
    """P: what the traps told equals what the guest says."""
    m = guests({"a": (25,)})
    out = m.run_guest("a", end=r"es: tracked .*\n")
    said = re.search(r"tracked cr0 (\w+) cr4 (\w+) cr8 (\w+) efer (\w+)", out)
    regs = m.command("vm regs a")
    shown = re.search(r"cr0 (\w+)\s+cr4 (\w+)\s+cr8 (\w+)\s+efer (\w+)", regs)
    assert [int(x, 16) for x in said.groups()] == [int(x, 16) for x in shown.groups()], regs


def test_row25_written_at_launch(broken):
    """N: what is written before LAUNCH_UPDATE_VMSA is measured; what comes behind the launch is
    refused, and by force it is the VM's end."""
    m = broken({"a": (79,)}, "check", psp=",mnonce=" + "25" * 16, fatal=False)
    values = []
    for hook in ("check", "vmsa-byte", "check"):
        m.command(f"eshook {hook}")
        m.command("vm start a")
        values.append(es.measured(m, "a"))
        m.command("vm stop a")
    assert values[0] == values[2] != values[1], values
    assert len({value.split()[1] for value in values}) == 1
    m.command("eshook vmsa-late")
    assert "VMRUN refused the guest's state" in es.crash(m, "a", "vm start a")
    log = m.command("log dmesg")
    assert re.findall(r"eshook: setting \w+: error (\d+)", log) == ["13"] * 3, log
    assert "violation vmsa-write" in m.errors()


# --- 26 to 29 ---


def test_row26_vector_registers(guests):
    """P: two SEV-ES guests and a plain one on one CPU keep their own."""
    a, b = 0x1111222233334444, 0xaaaabbbbccccdddd
    n = 20000
    m = guests({"a": (26, a, n, {"affinity": 0}), "b": (26, b, n, {"affinity": 0})},
               extra_sections=vm_section("plain", kernel="exits.elf", memory="32M", cpus=1,
                                         affinity=0, autostart="no", cmdline="only=fpu",
                                         **{"debug-exit": "yes"}),
               files={"exits.elf": guest("exits")})
    for name in ("a", "b", "plain"):
        m.command(f"vm start {name}")
    for name in ("a", "b", "plain"):
        es.wait_state(m, name, "off", 300)
    for name in ("a", "b"):
        assert re.search(rf"^{name} +off .*debug exit", m.command("vm list"), re.M)
        assert f"vm {name}: debug exit with code 0" in m.command("log dmesg")
    es.clean(m)


def test_row26_reset_after_exit(guests):
    """N: the host finds the registers of reset, never the guest's."""
    m = guests({"a": (8,)}, smp=1)
    m.run_guest("a", end="es: hidden")
    text = es.registers(m)
    assert "YMM03=0000000000000000 0000000000000000 0000000000000000 0000000000000000" in text
    assert "5ec2e7005ec2e701" not in text.lower()


@pytest.mark.parametrize("cpus", [2, 4])
def test_row27_processors(guests, cpus):
    """P: all start at the launch's VMSA, park, and go on by start-up IPI. N: in the guest."""
    m = guests({"a": (27, cpus, {"cpus": cpus})})
    run(m, timeout=300)
    es.clean(m)


def test_row27_running_cpu(guests):
    """N: a start-up IPI to a CPU that runs is ignored."""
    m = guests({"a": (77, {"cpus": 2})})
    run(m)


def test_row28_rip(guests):
    """P: behind HLT, PAUSE, VMGEXIT and WRMSR. N: fatal=on watches the VMSA in all tests."""
    m = guests({"a": (28,)})
    run(m)
    assert es.count(m, "violations") == 0


def test_row29_nmi(guests):
    """P: three in a row; never nested, each only after the guest has completed the last."""
    m = guests({"a": (29,)})
    m.run_guest("a", end="es: ready")
    for _ in range(3):
        m.command("vm nmi a")
    m.line("vm console a")
    m.expect(r"^\[a: (is off|has crashed)\]", 120)
    out = m.text
    m.shell()
    assert "FAIL" not in out and re.search(r"es: [23] NMIs", out), out
    es.clean(m)


def test_row29_never_complete(guests):
    """N: without the completion no other NMI comes, and interrupts flow."""
    m = guests({"a": (29, 1)})
    m.run_guest("a", end="es: ready")
    for _ in range(3):
        m.command("vm nmi a")
    m.line("vm console a")
    m.expect(r"^\[a: (is off|has crashed)\]", 120)
    out = m.text
    m.shell()
    assert "FAIL" not in out and "es: 1 NMIs" in out, out


@pytest.mark.parametrize("hook", ["soft-int", "vector3"])
def test_row29_illegal_injection(broken, hook):
    """N: the CPU refuses a software interrupt and vectors 3 and 4."""
    m = broken({"a": (79,)}, hook)
    m.run_guest("a", end="es: ready")
    assert "VMRUN refused the guest's state" in es.crash(m, "a", "vm nmi a")
    es.clean(m)


# --- 31 to 34 ---


def test_row31_third_guest(guests):
    """P: ASIDs 1 and 2 are used again after one flush. N: a third guest at once is refused."""
    m = guests({name: (79,) for name in "abc"}, memory=",min-sev-asid=3")
    for name in "ab":
        m.run_guest(name, end="es: ready")
    out = m.command("vm start c")
    assert "not started" in out
    assert "no ES ASID is free" in m.command("log dmesg")
    m.command("vm stop a")
    m.run_guest("c", end="es: ready")
    assert re.search(r"DF_FLUSH +2 sent", m.command("psp"))
    m.command("vm stop b")
    m.command("vm stop c")
    es.clean(m)


@pytest.mark.parametrize("hook", ["vmsa-align", "vmsa-c-bit"])
def test_row32_bad_vmsa_address(broken, hook):
    """N: refused by VMRUN, the VM ends. P: test_es_vcpu.c has the whole control block."""
    m = broken({"a": (0,)}, hook)
    assert "VMRUN refused the guest's state" in es.crash(m, "a", "vm start a")
    m.command("eshook check")
    m.command("vm destroy a")
    run(m)
    es.clean(m)


def test_row33_two_vcpus_one_cpu(guests):
    """P: with different page tables for one address."""
    m = guests({"a": (33, 0, 2000, {"cpus": 2, "affinity": 0})})
    run(m, timeout=300)
    assert es.count(m, "violations") == 0
    es.clean(m)


def test_row33_without_flush(broken):
    """N: the emulator sees the VMRUN that lacks the flush."""
    m = broken({"a": (33, 0, 2000, {"cpus": 2, "affinity": 0})}, "no-flush", fatal=False)
    m.run_guest("a", timeout=300)
    assert "violation tlb-flush" in m.errors()


@pytest.mark.parametrize("mitigations", ["yes", "no"])
def test_row34_host_registers(broken, mitigations):
    """P: over many exits the host keeps all its registers, whichever entry is used."""
    m = broken({"a": (11, 40000, {"affinity": 0})}, "check", host={"mitigations": mitigations})
    run(m, timeout=600)
    out = m.command("eshook")
    assert int(re.search(r"(\d+) entries checked", out)[1]) > 100000, out
    assert ("es_enter_guarded" in out) == (mitigations == "yes"), out
    assert "was not kept" not in m.command("log dmesg")


def test_row34_one_register_missing(broken):
    """N: the one that is not stored, and only that, is lost."""
    m = broken({"a": (0, {"affinity": 0})}, "skip-r13")
    m.run_guest("a")
    log = m.command("log dmesg")
    assert "eshook: r13 was not kept" in log
    assert set(re.findall(r"eshook: (.*) was not kept", log)) == {"r13"}, log


# --- 35 ---


def test_row35_not_finished(broken):
    """N: VMRUN before LAUNCH_FINISH."""
    m = broken({"a": (0,)}, "no-finish")
    assert "VMRUN refused" in es.crash(m, "a", "vm start a")
    es.clean(m)


def test_row35_vmsa_tampered(guests):
    """N: one bit of the encrypted VMSA."""
    m = guests({"a": (79,)})
    m.run_guest("a", end="es: ready")
    m.qmp("qom-set", path=es.SEV, property="inject-vmsa-flip", value=0x178 * 8)
    assert "VMRUN refused" in es.crash(m, "a", "vm nmi a")
    es.clean(m)


def test_row35_pages_swapped(broken):
    """N: ciphertext at another address is garbage: the guest does not get to its first word."""
    m = broken({"a": (0,)}, "swap-pages")
    out = m.run_guest("a", timeout=120, end=r"is off|has crashed|mark9")
    assert "es: hello" not in out
    es.clean(m)


# --- all of it ---

LAUNCH = ["LAUNCH_START", "ACTIVATE", "LAUNCH_UPDATE_DATA", "LAUNCH_UPDATE_VMSA",
          "LAUNCH_MEASURE", "LAUNCH_FINISH", "DEACTIVATE", "DECOMMISSION"]


def fault(m, text):
    m.qmp("qom-set", path=es.PSP, property="fault", value=text)


def test_each_command_fails(guests):
    """During a VM's launch and end: the command and the status in words; nothing is lost."""
    m = guests({"a": (0,)}, extra_sections=PLAIN, files={"hello.elf": guest("hello")})
    run(m)
    m.command("vm destroy a")
    frames = m.command("mem").splitlines()[1]
    for command in LAUNCH:
        for action in ("0x13*1", "0x10*2", "late:300*1"):
            fault(m, f"{command}:{action}")
            at_end = command in ("DEACTIVATE", "DECOMMISSION")
            if at_end or action.startswith("late"):
                run(m)
                m.command("vm destroy a")
            else:
                out = m.command("vm start a", 60)
                assert "not started" in out, (command, action, out)
                log = m.command("log dmesg")
                assert re.search(rf"psp: {command} failed: {action[:4]} \w+", log), command
                assert re.search(r"vm a: SEV-ES launch ended at .*PSP status \w+", log)
                m.command("vm destroy a")
            fault(m, "")
            run(m)
            m.command("vm destroy a")
            es.clean(m)
    assert m.command("mem").splitlines()[1] == frames
    plain_runs(m)


def test_dead_processor(guests):
    """Never an answer: the guest's memory is kept, plain guests go on."""
    m = guests({"a": (79,), "b": (0,)}, extra_sections=PLAIN, files={"hello.elf": guest("hello")})
    m.run_guest("a", end="es: ready")
    fault(m, "DEACTIVATE:never")
    m.command("vm destroy a", 120)
    assert "memory is kept until the PSP ends the guest" in m.command("log dmesg")
    assert "not started" in m.command("vm start b", 60)
    plain_runs(m)


def test_200_launches(guests):
    """With four ASIDs, three guests at once: none is lost."""
    m = guests({name: (79,) for name in "abcd"}, memory=",min-sev-asid=5")
    for name in "abcd":
        m.command(f"vm destroy {name}")
    frames = m.command("mem").splitlines()[1]
    for _ in range(50):
        for name in "abcd":
            m.command(f"vm start {name}")
        for name in "abcd":
            m.command(f"vm destroy {name}")
    assert re.search(r"LAUNCH_FINISH +200 sent +0 failed", m.command("psp"))
    es.clean(m)
    assert m.command("mem").splitlines()[1] == frames


def test_host_side_view(guests, tmp_path):
    """A marker in private memory and patterns in registers are nowhere in a dump of all RAM."""
    m = guests({"a": (8,)}, fatal=False)
    m.run_guest("a", end="es: hidden")
    before = m.errors()
    dump = es.dump(m, tmp_path / "ram")
    assert b"SharedMarker" * 4 in dump
    assert b"PrivateMarker" not in dump
    assert struct.pack("<Q", 0x5ec2e7005ec2e701) not in dump
    # The dump itself goes over the processor's own region, which nobody else may.
    assert "violation" not in before


def test_ovmf_as_firmware(guests):
    """Debian's OVMF runs encrypted to where it waits for a timer, as a plain guest's does; firmware
    that does not say where its APs begin is refused for two vCPUs."""
    sections = vm_section("ovmf", firmware="OVMF.fd", sev="es", memory="256M", cpus=2,
                          autostart="no")
    sections += vm_section("bios", firmware="bios.bin", sev="es", memory="64M", cpus=2,
                           autostart="no")
    m = guests({"a": (0,)}, extra_sections=sections,
               files={"OVMF.fd": "/usr/share/ovmf/OVMF.fd",
                      "bios.bin": "/usr/share/seabios/bios-256k.bin"})
    assert "not started" in m.command("vm start bios")
    assert "names no SEV-ES reset address" in m.command("log dmesg")
    m.command("vm start ovmf")
    assert "launch measurement" in m.command("log dmesg")
    # Long mode by its own #VC handler, then IN from port 0: what it takes for the PM timer.
    for _ in range(60):
        m.pump(2)
        if int(re.search(r"ghcb in +(\d+)", m.command("vm stats ovmf") + "ghcb in 0")[1]) > 1000:
            break
    m.command("trace on")
    m.pump(1)
    m.command("trace off")
    assert "vmgexit 0x7b info 0x241 0x0 result 0/0" in m.command("trace show ovmf 40")
    regs = m.command("vm regs ovmf")
    assert int(re.search(r"efer ([0-9a-f]+)", regs)[1], 16) & 0x500 == 0x500, regs
    m.command("vm destroy ovmf")
    run(m)
    es.clean(m)
