# SPDX-License-Identifier: GPL-2.0-or-later
"""Fault injection: answers, delays, silence; and that each deliberate defect is noticed."""
import hashlib
import time

import pytest

import psp_owner as o
from psp_machine import COMMANDS, STATUS, Psp, Timeout

ES = 4
API = (1, 55, 21)


# ---- fault property -------------------------------------------------------------------------

@pytest.mark.parametrize("name", list(COMMANDS))
def test_any_command_can_answer_any_status(machines, name):
    """Each command, with a status of its own; the next command is left alone."""
    status = 1 + list(COMMANDS).index(name) % (len(STATUS) - 1)
    psp = Psp(machines(psp="fault=%s:0x%x" % (name, status)))
    assert STATUS[psp.run(name, b"\0" * 0x40)] == status
    other = "NOP" if name != "NOP" else "SHUTDOWN"
    assert psp.run(other) == "SUCCESS"


def test_faulty_answer_means_not_executed(machines):
    psp = Psp(machines(psp="fault=INIT:0x13"))
    assert psp.init() == "HWERROR_PLATFORM"
    assert psp.status()["state"] == 0
    psp = Psp(machines(psp="fault=INIT:0"))
    assert psp.init() == "SUCCESS"              # a lie
    assert psp.status()["state"] == 0


def test_executed_with_a_false_answer(machines):
    psp = Psp(machines(psp="fault=INIT:done:0x13"))
    assert psp.init() == "HWERROR_PLATFORM"
    assert psp.status()["state"] == 1


def test_statuses_beyond_the_table(machines):
    psp = Psp(machines(psp="fault=NOP:0xffff"))
    assert psp.run("NOP") == "0xffff"


def test_limits_and_offsets(machines):
    psp = Psp(machines(psp="fault=INIT:0x18*1;NOP:3*2@1"))
    assert psp.init() == "SECURE_DATA_INVALID"
    assert psp.init() == "SUCCESS"
    assert [psp.run("NOP") for _ in range(4)] == ["SUCCESS", "INVALID_CONFIG", "INVALID_CONFIG",
                                                  "SUCCESS"]


def test_every_command(machines):
    psp = Psp(machines(psp="fault=ANY:0x13"))
    for name in ("PLATFORM_STATUS", "INIT", "NOP", "SHUTDOWN"):
        assert psp.run(name, b"\0" * 0x20) == "HWERROR_PLATFORM"


def test_late_answer(machines):
    psp = Psp(machines(psp="fault=INIT:late:700"))
    start = time.monotonic()
    assert psp.init() == "SUCCESS"
    assert time.monotonic() - start > 0.5
    assert psp.status()["state"] == 1


def test_silence(machines):
    psp = Psp(machines(psp="fault=DF_FLUSH:never"))
    assert psp.init() == "SUCCESS"
    psp.m.doorbell(COMMANDS["DF_FLUSH"], ioc=True)
    with pytest.raises(Timeout):
        psp.m.wait_answer(0.5)
    assert psp.m.reg_read("intsts") == 0
    # The mailbox is dead for everything after it as well.
    psp.m.doorbell(COMMANDS["NOP"])
    with pytest.raises(Timeout):
        psp.m.wait_answer(0.3)


def test_faults_can_be_changed_while_running(psp):
    assert psp.run("NOP") == "SUCCESS"
    psp.m.set("fault", "NOP:7")
    assert psp.m.get("fault") == "NOP:7"
    assert psp.run("NOP") == "POLICY_FAILURE"
    psp.m.set("fault", "")
    assert psp.run("NOP") == "SUCCESS"


@pytest.mark.parametrize("text", ["NOP", "NOPE:1", "NOP:", "NOP:later:5", "NOP:0x10000", "NOP:1*x",
                                  "NOP:1@", "0x80:1", "NOP:late:", "NOP:late:-1", ":1"])
def test_bad_fault_texts(psp, text):
    with pytest.raises(RuntimeError, match="expected COMMAND:ACTION"):
        psp.m.set("fault", text)
    assert psp.run("NOP") == "SUCCESS"


def test_bad_mnonce(machines):
    for text in ("00", "zz" * 16, "00" * 17):
        with pytest.raises(RuntimeError, match="expected 32 hexadecimal digits"):
            machines(psp="mnonce=" + text)


# ---- mutations ------------------------------------------------------------------------------
# Each check passes on the machine as it is and fails on the machine with the defect.

def check_hmac_order(psp):
    psp.up()
    handle = psp.must_start(0)
    _, _, mac, mnonce = psp.measure(handle)
    return mac == o.launch_mac(bytes(16), API, 0, hashlib.sha256(b"").digest(), mnonce)


def check_dirty(psp):
    assert psp.init() == "SUCCESS"
    return psp.activate(psp.must_start(ES), 1) == "DFFLUSH_REQUIRED"


def check_wbinvd(psp):
    assert psp.init() == "SUCCESS"
    return psp.df_flush() == "WBINVD_REQUIRED"


def check_policy_mac(psp):
    psp.up()
    owner = o.Owner(psp.certificates()[0], 1)
    return psp.start(0, cert=owner.cert, session=owner.session())[0] == "BAD_MEASUREMENT"


def check_secret_mac(psp):
    psp.up()
    handle = psp.must_start(0)
    assert psp.activate(handle, 5) == "SUCCESS"
    assert psp.measure(handle)[0] == "SUCCESS"
    return psp.secret(handle, bytes(0x34), bytes(16)) == "BAD_MEASUREMENT"


def check_asid_class(psp):
    psp.up()
    return psp.activate(psp.must_start(ES), 5) == "INVALID_ASID"


def check_vmsa_digest(psp):
    psp.up()
    handle = psp.must_start(ES)
    assert psp.activate(handle, 1) == "SUCCESS"
    psp.m.write(psp.GUEST, b"\x5a" * 4096)
    assert psp.update_vmsa(handle) == "SUCCESS"
    _, _, mac, mnonce = psp.measure(handle)
    return mac == o.launch_mac(bytes(16), API, ES, hashlib.sha256(b"\x5a" * 4096).digest(), mnonce)


def check_state(psp):
    psp.up()
    return psp.finish(psp.must_start(0)) == "INVALID_GUEST_STATE"


@pytest.mark.parametrize("mutation, check", [
    ("psp-hmac-order", check_hmac_order),
    ("psp-no-dirty", check_dirty),
    ("psp-no-wbinvd", check_wbinvd),
    ("psp-no-policy-mac", check_policy_mac),
    ("psp-secret-mac", check_secret_mac),
    ("psp-asid-class", check_asid_class),
    ("psp-vmsa-late-hash", check_vmsa_digest),
    ("psp-state", check_state),
])
def test_mutations_are_noticed(machines, mutation, check):
    assert check(Psp(machines()))
    assert not check(Psp(machines(memory="mutate=" + mutation)))
