# SPDX-License-Identifier: BSD-2-Clause
"""Rows 1, 2 and 31 of docs/sev-es.md, and the security processor failing in each way."""

import re

import pytest

import es
from harness import guest, host_section, vm_section

pytestmark = pytest.mark.qemu("needs the secure processor of the patched QEMU")

PSP = "/machine/peripheral/psp"
LAUNCH = ["LAUNCH_START", "ACTIVATE", "LAUNCH_UPDATE_DATA", "LAUNCH_UPDATE_VMSA",
          "LAUNCH_MEASURE", "LAUNCH_FINISH", "DEACTIVATE", "DECOMMISSION"]
UP = ["PLATFORM_STATUS", "INIT", "DF_FLUSH"]


@pytest.fixture
def sev(machine):
    """Starts a machine with SEV. psp=None: without the processor."""
    def start(memory="", psp="", smp=2, **kw):
        extra = ["-object", "sev-memory,id=sev,fatal=on,coherent=off" + memory,
                 *es.FIRMWARE]
        if psp is not None:
            extra += ["-device", "sev-psp,id=psp" + psp]
        conf = host_section() + vm_section("plain", kernel="hello.elf", memory="32M", cpus=1,
                                           autostart="no", **{"debug-exit": "yes"})
        m = machine(conf, {"hello.elf": guest("hello")}, qemu=es.sev_qemu(), smp=smp,
                    accel="tcg,thread=single", cpu="EPYC", memory="512M", extra=extra, **kw)
        m.boot(180)
        return m
    return start


def counts(m):
    """{command: times} as the processor counted."""
    text = m.qmp("qom-get", path=PSP, property="command-counts")
    return {k: int(v) for k, v in (item.split("=") for item in text.split()) if int(v)}


def fault(m, text):
    m.qmp("qom-set", path=PSP, property="fault", value=text)


def plain_guest_runs(m):
    out = m.run_guest("plain", timeout=180)
    assert "FAIL" not in out and "is off" in out, out


def whole(m, launches=1):
    """The processor works and nothing has been lost on the way here."""
    assert f"{launches} launches: all right" in m.command(f"psp test {launches}", 120)
    out = m.command("psp status")
    assert " 0 guests" in out and "waits for the PSP" not in out, out
    assert re.search(r"SEV-ES ASIDs 1-4: 0 taken", out), out


def test_row01_no_command_before_needed(sev):
    """P: probing sends nothing; the first launch does."""
    m = sev(memory=",min-sev-asid=5")
    log = m.command("log dmesg")
    assert "sev: ES ASIDs 1-4, SEV 5-15, C-bit 51" in log
    out = m.command("psp")
    assert "psp 1022:14ca" in out and "interrupt" in out and "not available" not in out, out
    assert "not up" in out
    plain_guest_runs(m)
    assert counts(m) == {}
    assert "psp is up" in m.command("psp up")
    assert counts(m) == {"INIT": 1, "PLATFORM_STATUS": 2, "DF_FLUSH": 1}
    out = m.command("psp status")
    assert "API 1.55 build 21, state init, owner self, 0 guests" in out, out
    assert re.search(r"INIT +1 sent +0 failed, last 0x0 SUCCESS", out), out
    assert "polling from now on" not in m.command("log dmesg")
    assert "psp is down" in m.command("psp down")
    assert "psp is up" in m.command("psp up")
    assert "violation" not in m.errors()


def test_row01_no_psp(sev):
    m = sev(psp=None)
    assert "no PSP with an SEV mailbox" in m.command("log dmesg")
    assert "failed" in m.command("psp up")
    plain_guest_runs(m)


def test_row01_every_command_refused(sev):
    """N: the plain guest runs, the launch is refused with that code."""
    m = sev(psp=",fault=ANY:0x13")
    assert "failed" in m.command("psp test")
    assert "psp: PLATFORM_STATUS failed: 0x13 HWERROR_PLATFORM: memory encryption is off" \
        in m.command("log dmesg")
    assert "the PSP did not start" in m.command("psp")
    plain_guest_runs(m)


@pytest.mark.parametrize("memory, psp, smp, words", [
    (",min-sev-asid=1", "", 1, "SEV-ES not available: no ASIDs for SEV-ES"),
    (",lbrv=off", "", 1, "SEV-ES not available: the CPU has no LBR virtualisation"),
    (",sev-es=off", "", 1, "SEV-ES not available: the CPU has no SEV-ES"),
    (",mem-encrypt=off", "", 2, "SEV not available: SYSCFG[23] is clear on CPU 0; enable SMEE"),
    (",smm-lock=off", "", 2, "SEV not available: HWCR.SmmLock is clear on CPU 0"),
    ("", ",feature=0", 1, "SEV not available: no PSP with an SEV mailbox"),
])
def test_row02_refused_with_reason(sev, memory, psp, smp, words):
    """N: each reason in words, and INIT is not tried."""
    m = sev(memory=memory, psp=psp, smp=smp)
    assert words in m.command("psp")
    assert "failed" in m.command("psp test")
    assert counts(m) == {}
    assert words.split(": ", 1)[1] in m.command("log dmesg")


def test_row02_old_firmware(sev):
    m = sev(psp=",api-major=0,api-minor=16")
    assert "failed" in m.command("psp up")
    assert "older than API 0.17" in m.command("psp")
    assert "INIT" not in counts(m)


def test_row31_lazy_flush(sev):
    """P: one DF_FLUSH at the start and one each time the four clean ASIDs are used up."""
    m = sev(memory=",min-sev-asid=5")
    whole(m, 4)
    assert counts(m)["DF_FLUSH"] == 1
    whole(m, 1)
    assert counts(m)["DF_FLUSH"] == 2
    whole(m, 9)
    assert counts(m)["DF_FLUSH"] == 4
    assert counts(m)["DECOMMISSION"] == counts(m)["LAUNCH_START"] == 14
    assert "violation" not in m.errors()


def test_each_command_fails_and_nothing_is_lost(sev):
    """Each command of a launch: refused, refused although done, late. Then all goes on."""
    m = sev(memory=",min-sev-asid=5")
    whole(m)
    frames = m.command("mem").splitlines()[1]
    for command in LAUNCH:
        for action in ("0x13*1", "0x13*2", "late:300*1"):
            fault(m, f"{command}:{action}")
            out = m.command("psp test", 60)
            survives = action.startswith("late") or \
                (action == "0x13*1" and command in ("DEACTIVATE", "DECOMMISSION"))
            assert ("all right" in out) == survives, f"{command}:{action}: {out}"
            fault(m, "")
            whole(m)
        assert re.search(rf"{command} +\d+ sent +[1-9]", m.command("psp")), command
    assert m.command("mem").splitlines()[1] == frames
    plain_guest_runs(m)


def test_start_fails_and_is_tried_again(sev):
    m = sev(memory=",min-sev-asid=5")
    for command in UP:
        fault(m, f"{command}:0x3*1")
        assert "failed" in m.command("psp up"), command
        fault(m, "")
        frames = m.command("mem").splitlines()[1]
        whole(m)
        assert "psp is down" in m.command("psp down")
        assert m.command("mem").splitlines()[1].split()[-2] >= frames.split()[-2]
    # Damaged keys: INIT is repeated once.
    fault(m, "INIT:0x18*1")
    assert "psp is up" in m.command("psp up")


@pytest.mark.parametrize("command", ["INIT", "ACTIVATE"])
def test_never_answered(sev, command):
    """The mailbox is dead after the time-out; plain guests do not care."""
    m = sev(psp=f",fault={command}:never")
    assert "failed" in m.command("psp test", 60)
    assert f"psp: {command}: no answer within" in m.command("log dmesg")
    before = counts(m)
    out = m.command("psp")
    assert "DEAD" in out and "reset the machine" in out, out
    assert "failed" in m.command("psp test", 10)
    assert counts(m) == before
    plain_guest_runs(m)


@pytest.mark.parametrize("generation", ["v1", "v2", "v6"])
def test_generations(sev, generation):
    m = sev(psp=f",generation={generation}")
    whole(m)
    assert "interrupt" in m.command("psp")


def test_by_efi(sev):
    # OVMF places devices at the end of all address bits and does not know that some are lost.
    m = sev(memory=",min-sev-asid=5,phys-reduction=0", door="efi")
    whole(m, 5)
    assert "interrupt" in m.command("psp")


def test_out_of_reach(sev):
    """N: firmware has placed the processor out of reach: said in words, and no fault."""
    m = sev(memory=",min-sev-asid=5", door="efi")
    assert re.search(r"device at 0x[89a-f]\w{9} is out of the CPU's reach of 39 address bits",
                     m.command("log dmesg"))
    assert "failed" in m.command("psp up")
    plain_guest_runs(m)
