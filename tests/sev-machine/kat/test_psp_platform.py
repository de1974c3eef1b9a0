# SPDX-License-Identifier: GPL-2.0-or-later
"""Platform commands: states, INIT, INIT_EX, flush rules, identity and firmware."""
import struct
import subprocess

import pytest

from psp_machine import COMMANDS, Psp, default_qemu

UNINIT, INIT, WORKING = 0, 1, 2

# Platform states in which the specification allows each command.
ANYWHERE = {UNINIT, INIT, WORKING}
ALLOWED = {
    "INIT": {UNINIT}, "INIT_EX": {UNINIT}, "SHUTDOWN": ANYWHERE, "PLATFORM_RESET": {UNINIT},
    "PLATFORM_STATUS": ANYWHERE, "PEK_GEN": {INIT}, "PEK_CSR": {INIT, WORKING},
    "PEK_CERT_IMPORT": {INIT}, "PDH_CERT_EXPORT": {INIT, WORKING}, "PDH_GEN": {INIT, WORKING},
    "DF_FLUSH": ANYWHERE, "DOWNLOAD_FIRMWARE": {UNINIT}, "GET_ID": ANYWHERE, "NOP": ANYWHERE,
    "GUEST_STATUS": {INIT, WORKING}, "LAUNCH_START": {INIT, WORKING},
    "RECEIVE_START": {INIT, WORKING},
}
ALLOWED.update({name: {WORKING} for name in COMMANDS if name not in ALLOWED})

# Commands that change the state, tried last.
CHANGES = ("INIT", "INIT_EX", "LAUNCH_START", "DECOMMISSION", "SHUTDOWN")


@pytest.mark.parametrize("state", [UNINIT, INIT, WORKING])
def test_platform_state_comes_first(psp, state):
    """A command in a wrong state says so even with a bad command buffer; in a right one not."""
    if state != UNINIT:
        psp.up()
    if state == WORKING:
        psp.must_start(0)
    for name in [n for n in COMMANDS if n not in CHANGES] + list(CHANGES):
        status = psp.run(name, b"", 0xFEE00000)
        if state in ALLOWED[name]:
            assert status != "INVALID_PLATFORM_STATE", name
        else:
            assert status == "INVALID_PLATFORM_STATE", name


def test_life_of_the_platform(psp):
    assert psp.status() == {"api": (1, 55, 21), "state": UNINIT, "owner": 0, "config": 0,
                            "guests": 0}
    psp.up()
    assert psp.status()["state"] == INIT and psp.status()["config"] == 1
    first = psp.must_start(0)
    second = psp.must_start(0)
    assert (first, second) == (1, 2)
    assert psp.status()["state"] == WORKING and psp.status()["guests"] == 2
    assert psp.decommission(first) == "SUCCESS"
    assert psp.status()["state"] == WORKING and psp.status()["guests"] == 1
    assert psp.decommission(second) == "SUCCESS"
    assert psp.status()["state"] == INIT and psp.status()["guests"] == 0
    assert psp.run("SHUTDOWN") == "SUCCESS"
    assert psp.status()["state"] == UNINIT and psp.status()["config"] == 0


def test_version_properties(machines):
    psp = Psp(machines(psp="api-major=0,api-minor=24,build=9"))
    assert psp.status()["api"] == (0, 24, 9)


# ---- INIT -----------------------------------------------------------------------------------

def test_init_arguments(psp):
    assert psp.init(flags=2) == "INVALID_PARAM"
    assert psp.init(rsvd=1) == "INVALID_PARAM"
    assert psp.init(tmr_len=0x200000) == "INVALID_LEN"
    assert psp.init(tmr_len=0) == "INVALID_LEN"
    assert psp.init(tmr_len=0x80000, tmr=psp.TMR + 0x1000) == "INVALID_LEN"     # length first
    assert psp.init(tmr=psp.TMR + 0x1000) == "INVALID_ADDRESS"
    assert psp.init(tmr=0xE0000000) == "INVALID_CONFIG"
    assert psp.init(tmr=0x10000000) == "INVALID_CONFIG"
    assert psp.status()["state"] == UNINIT
    assert psp.init() == "SUCCESS"
    assert psp.init() == "INVALID_PLATFORM_STATE"


def test_init_clears_the_c_bit_of_the_tmr(psp):
    assert psp.init(tmr=psp.TMR | 1 << 51) == "SUCCESS"
    psp.flush()
    handle = psp.must_start(4)
    assert psp.activate(handle, 1) == "SUCCESS"
    assert psp.update_vmsa(handle) == "SUCCESS"


def test_init_without_es(psp):
    psp.up(es=False)
    assert psp.status()["config"] == 0
    assert psp.start(4) == ("UNSUPPORTED", 0)
    assert psp.start(0)[0] == "SUCCESS"


def test_init_needs_syscfg(machines):
    psp = Psp(machines(memory="mem-encrypt=off"))
    assert psp.init() == "HWERROR_PLATFORM"
    assert psp.status()["state"] == UNINIT


def test_init_needs_sev(machines):
    psp = Psp(machines(memory="sev=off,sev-es=off"))
    assert psp.init() == "UNSUPPORTED"


def test_processor_needs_memory_encryption(rom):
    done = subprocess.run([default_qemu(), "-M", "q35", "-accel", "tcg,thread=single",
                           "-nodefaults", "-display", "none", "-bios", rom, "-device", "sev-psp"],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "add -object sev-memory" in done.stderr


def test_init_ex_arguments(psp):
    psp.m.write(psp.NV, b"\xff" * 0x8000)
    assert psp.init_ex(length=0x20) == "INVALID_LEN"
    assert psp.init_ex(rsvd=1) == "INVALID_PARAM"
    assert psp.init_ex(nv_len=0x4000) == "INVALID_LEN"
    assert psp.init_ex(nv=psp.NV + 16) == "INVALID_ADDRESS"
    assert psp.init_ex(nv=0xE0000000) == "INVALID_ADDRESS"
    assert psp.init_ex(nv=psp.TMR) == "INVALID_ADDRESS"
    assert psp.init_ex(tmr_len=0) == "INVALID_LEN"
    assert psp.status()["state"] == UNINIT
    assert psp.init_ex() == "SUCCESS"


def test_init_ex_keeps_the_identity_in_memory(machines):
    first = Psp(machines())
    first.m.write(first.NV, b"\xff" * 0x8000)
    assert first.init_ex() == "SUCCESS"
    nv = first.m.read(first.NV, 0x8000)
    assert nv != b"\xff" * 0x8000
    certs = first.certificates()
    # Another machine with the same chip continues with it; PDH_GEN rewrites the memory.
    second = Psp(machines())
    second.m.write(second.NV, nv)
    assert second.init_ex() == "SUCCESS"
    assert second.certificates() == certs
    before = second.m.read(second.NV, 0x8000)
    assert second.run("PDH_GEN") == "SUCCESS"
    assert second.m.read(second.NV, 0x8000) != before
    # The keys are not readable in it, and another chip cannot use it.
    assert certs[1] not in nv and certs[0] not in nv
    other = Psp(machines(psp="chip-id=other"))
    other.m.write(other.NV, nv)
    assert other.init_ex() == "SECURE_DATA_INVALID"


def test_damaged_nv_data_fails_once(psp):
    psp.m.write(psp.NV, b"\xff" * 0x8000)
    assert psp.init_ex() == "SUCCESS"
    pek = psp.certificates()[1]
    assert psp.run("SHUTDOWN") == "SUCCESS"
    byte = psp.m.read(psp.NV + 0x100, 1)[0]
    psp.m.write(psp.NV + 0x100, bytes([byte ^ 1]))
    assert psp.init_ex() == "SECURE_DATA_INVALID"
    assert psp.status()["state"] == UNINIT
    assert psp.init_ex() == "SUCCESS"           # the retry replaces the state
    assert psp.certificates()[1] != pek
    assert psp.run("SHUTDOWN") == "SUCCESS"
    assert psp.init_ex() == "SUCCESS"


def test_flash_keeps_the_identity(machines, tmp_path):
    path = tmp_path / "nv"
    first = Psp(machines(psp="nv-file=%s" % path))
    first.up()
    certs = first.certificates()
    assert first.run("SHUTDOWN") == "SUCCESS"
    assert first.init() == "SUCCESS"
    assert first.certificates() == certs
    second = Psp(machines(psp="nv-file=%s" % path))
    second.up()
    assert second.certificates() == certs
    assert second.run("SHUTDOWN") == "SUCCESS"
    assert second.run("PLATFORM_RESET") == "SUCCESS"
    assert second.init() == "SUCCESS"
    after = second.certificates()
    assert after[3] == certs[3]                 # the chip's own key
    assert all(after[i] != certs[i] for i in range(3))


def test_nv_file_of_a_wrong_size_is_refused(machines, tmp_path):
    path = tmp_path / "nv"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(RuntimeError, match="has 100 bytes, not 32768"):
        machines(psp="nv-file=%s" % path)


# ---- flush rules ----------------------------------------------------------------------------

def test_df_flush_needs_wbinvd_on_every_cpu(machines):
    psp = Psp(machines(cpus=2))
    assert psp.init() == "SUCCESS"
    assert psp.df_flush() == "WBINVD_REQUIRED"
    psp.m.wbinvd([1])
    assert psp.df_flush() == "WBINVD_REQUIRED"
    psp.m.wbinvd([0])
    assert psp.df_flush() == "SUCCESS"
    assert psp.df_flush() == "SUCCESS"          # the flags stay until something clears them


def test_init_forgets_wbinvd(psp):
    psp.up()
    assert psp.run("SHUTDOWN") == "SUCCESS"
    assert psp.init() == "SUCCESS"
    assert psp.df_flush() == "WBINVD_REQUIRED"


def test_asids_are_dirty_after_init(psp):
    psp.flush()                                 # cleans them, but INIT undoes that
    assert psp.init() == "SUCCESS"
    handle = psp.must_start(4)
    assert psp.activate(handle, 1) == "DFFLUSH_REQUIRED"
    psp.m.wbinvd()
    assert psp.activate(handle, 1) == "DFFLUSH_REQUIRED"    # WBINVD alone is not enough
    assert psp.df_flush() == "SUCCESS"
    assert psp.activate(handle, 1) == "SUCCESS"


# ---- GET_ID, DOWNLOAD_FIRMWARE --------------------------------------------------------------

def test_get_id(machines):
    psp = Psp(machines())
    assert psp.get_id(length=0, addr=0xFEE00000) == ("INVALID_LEN", 64)
    assert psp.get_id(length=63) == ("INVALID_LEN", 64)
    assert psp.get_id(addr=0xFEE00000) == ("INVALID_ADDRESS", 64)
    assert psp.get_id(length=4096) == ("SUCCESS", 64)
    unique = psp.m.read(psp.A, 64)
    assert len(set(unique)) > 16
    psp.up()
    assert psp.get_id() == ("SUCCESS", 64)
    assert psp.m.read(psp.A, 64) == unique
    other = Psp(machines(psp="chip-id=other"))
    other.get_id()
    assert other.m.read(other.A, 64) != unique


def download(psp, addr, length):
    return psp.run("DOWNLOAD_FIRMWARE", struct.pack("<QI", addr, length))


def test_download_firmware(machines):
    psp = Psp(machines())
    assert download(psp, psp.A, 0) == "INVALID_LEN"
    assert download(psp, psp.A, 24) == "INVALID_LEN"
    assert download(psp, psp.A, 0x1000010) == "INVALID_LEN"
    assert download(psp, 0xE0000000, 0x1000) == "INVALID_ADDRESS"
    assert download(psp, psp.A, 0x1000) == "BAD_SIGNATURE"
    psp = Psp(machines(psp="accept-firmware=on"))
    assert download(psp, psp.A, 0x1000) == "SUCCESS"


def test_migration_commands_are_unsupported(up):
    assert up.run("RECEIVE_START") == "UNSUPPORTED"
    up.must_start(0)
    for name in COMMANDS:
        if name.startswith(("SEND", "RECEIVE")):
            assert up.run(name) == "UNSUPPORTED", name
