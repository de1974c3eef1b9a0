# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest commands without a session: states, check order, ASID life cycle, memory contents."""
import hashlib
import os
import struct

import pytest

from psp_machine import Psp
from psp_owner import launch_mac

NODBG, NOKS, ES = 1, 2, 4
LUPDATE, LSECRET, RUNNING = 1, 2, 3
BAD = 0xFEE00000                        # not RAM
C_BIT = 1 << 51
API = (1, 55, 21)
NO_TIK = bytes(16)                      # what a guest without session is measured with


def vmsa(tag=0):
    """A page that looks like a save area, with content where the firmware writes later."""
    page = bytearray(4096)
    struct.pack_into("<Q", page, 0x0D0, 0x1000)
    struct.pack_into("<QQ", page, 0x380, 0x1111111111111111, 0x2222222222222222)
    struct.pack_into("<Q", page, 0x3E8, 1)
    page[0x500] = tag
    return bytes(page)


# ---- handles and states ---------------------------------------------------------------------

def test_unknown_handles(up):
    up.must_start(0)
    for handle in (0, 2, 1024, 1025, 0xFFFFFFFF):
        assert up.activate(handle, 99) == "INVALID_GUEST"
        assert up.activate_ex(handle, 99, length=0) == "INVALID_GUEST"
        assert up.deactivate(handle) == "INVALID_GUEST"
        assert up.decommission(handle) == "INVALID_GUEST"
        assert up.update_data(handle, BAD, 3) == "INVALID_GUEST"
        assert up.update_vmsa(handle, BAD, 3) == "INVALID_GUEST"
        assert up.measure(handle, BAD, 0)[0] == "INVALID_GUEST"
        assert up.secret(handle, b"", b"", BAD) == "INVALID_GUEST"
        assert up.finish(handle) == "INVALID_GUEST"
        assert up.attestation(handle, addr=BAD, length=0)[0] == "INVALID_GUEST"
        assert up.dbg("DBG_DECRYPT", handle, 1, 1, 1) == "INVALID_GUEST"
        assert up.dbg("DBG_ENCRYPT", handle, 1, 1, 1) == "INVALID_GUEST"
        assert up.guest_status(handle) == (0, 0, 0)         # and SUCCESS
    assert up.start(0, handle=2)[0] == "INVALID_GUEST"


def test_guest_states(up):
    handle = up.must_start(0)
    assert up.guest_status(handle) == (0, 0, LUPDATE)
    assert up.activate(handle, 5) == "SUCCESS"
    assert up.guest_status(handle) == (0, 5, LUPDATE)
    assert up.secret(handle, bytes(0x34), bytes(16)) == "INVALID_GUEST_STATE"
    assert up.finish(handle) == "INVALID_GUEST_STATE"
    assert up.attestation(handle)[0] == "INVALID_GUEST_STATE"
    assert up.update_data(handle) == "SUCCESS"
    assert up.measure(handle)[0] == "SUCCESS"
    assert up.guest_status(handle) == (0, 5, LSECRET)
    assert up.update_data(handle) == "INVALID_GUEST_STATE"
    assert up.measure(handle)[0] == "INVALID_GUEST_STATE"
    assert up.attestation(handle)[0] == "SUCCESS"
    assert up.finish(handle) == "SUCCESS"
    assert up.guest_status(handle) == (0, 5, RUNNING)
    assert up.update_data(handle) == "INVALID_GUEST_STATE"
    assert up.measure(handle)[0] == "INVALID_GUEST_STATE"
    assert up.secret(handle, bytes(0x34), bytes(16)) == "INVALID_GUEST_STATE"
    assert up.finish(handle) == "INVALID_GUEST_STATE"
    assert up.attestation(handle)[0] == "SUCCESS"


def test_es_guest_states(up):
    handle = up.must_start(ES)
    assert up.activate(handle, 1) == "SUCCESS"
    assert up.update_vmsa(handle) == "SUCCESS"
    assert up.measure(handle)[0] == "SUCCESS"
    assert up.update_vmsa(handle) == "INVALID_GUEST_STATE"


def test_number_of_guests(machines):
    psp = Psp(machines(psp="max-guests=3"))
    psp.up()
    assert [psp.must_start(0) for _ in range(3)] == [1, 2, 3]
    assert psp.start(0)[0] == "RESOURCE_LIMIT"
    assert psp.decommission(2) == "SUCCESS"
    assert psp.must_start(0) == 2
    assert psp.guest_status(4) == (0, 0, 0)


def test_shutdown_ends_all_guests(up):
    up.running(ES, 1)
    up.running(0, 5)
    assert up.run("SHUTDOWN") == "SUCCESS"
    up.up()
    assert up.status()["guests"] == 0
    assert up.guest_status(1) == (0, 0, 0)
    assert up.activate(up.must_start(ES), 1) == "SUCCESS"


# ---- ASIDs ----------------------------------------------------------------------------------

@pytest.mark.parametrize("policy, good, bad", [
    (ES, (1, 4), (0, 5, 15, 16, 0xFFFFFFFF)),
    (0, (5, 15), (0, 1, 4, 16, 0xFFFFFFFF)),
])
def test_asid_classes(machines, policy, good, bad):
    psp = Psp(machines(memory="min-sev-asid=5,max-asid=15"))
    psp.up()
    for asid in bad:
        handle = psp.must_start(policy)
        assert psp.activate(handle, asid) == "INVALID_ASID"
    for asid in good:
        assert psp.activate(psp.must_start(policy), asid) == "SUCCESS"


def test_activate_order(psp):
    """State of the ASID's owner before that of the guest, both before the dirty check."""
    psp.up()
    one, two = psp.must_start(ES), psp.must_start(ES)
    assert psp.activate(one, 1) == "SUCCESS"
    assert psp.activate(two, 2) == "SUCCESS"
    assert psp.activate(two, 1) == "ASID_OWNED"
    assert psp.activate(one, 0) == "INVALID_ASID"
    assert psp.activate(one, 3) == "ACTIVE"
    assert psp.activate(one, 1) == "ACTIVE"
    assert psp.deactivate(two) == "SUCCESS"
    assert psp.activate(two, 1) == "ASID_OWNED"


def test_asid_life_cycle(up):
    # Never run: back to clean.
    handle = up.must_start(ES)
    assert up.activate(handle, 1) == "SUCCESS"
    assert up.decommission(handle) == "ACTIVE"
    assert up.deactivate(handle) == "SUCCESS"
    assert up.deactivate(handle) == "INACTIVE"
    assert up.activate(handle, 1) == "SUCCESS"
    # Launched: dirty until WBINVD and DF_FLUSH.
    assert up.measure(handle)[0] == "SUCCESS"
    assert up.finish(handle) == "SUCCESS"
    assert up.deactivate(handle) == "SUCCESS"
    assert up.activate(handle, 1) == "DFFLUSH_REQUIRED"
    assert up.activate(handle, 2) == "SUCCESS"          # other ASIDs are still clean
    assert up.df_flush() == "WBINVD_REQUIRED"           # DEACTIVATE forgot the flags
    assert up.deactivate(handle) == "SUCCESS"
    assert up.decommission(handle) == "SUCCESS"
    up.flush()
    handle = up.must_start(ES)
    assert up.activate(handle, 1) == "SUCCESS"


def test_activate_after_finish_makes_the_asid_valid_at_once(up):
    handle = up.must_start(ES)
    assert up.measure(handle)[0] == "SUCCESS"
    assert up.finish(handle) == "SUCCESS"
    assert up.activate(handle, 1) == "SUCCESS"
    assert up.deactivate(handle) == "SUCCESS"
    assert up.activate(handle, 1) == "DFFLUSH_REQUIRED"     # so it was in use


def test_flush_does_not_clean_what_is_allocated(up):
    handle = up.running(ES, 1)
    up.flush()
    other = up.must_start(ES)
    assert up.activate(other, 1) == "ASID_OWNED"
    assert up.deactivate(handle) == "SUCCESS"
    assert up.activate(other, 1) == "DFFLUSH_REQUIRED"


def test_deactivate_between_wbinvd_and_flush(up):
    one, two = up.running(ES, 1), up.running(ES, 2)
    assert up.deactivate(one) == "SUCCESS"
    up.m.wbinvd()
    assert up.deactivate(two) == "SUCCESS"
    assert up.df_flush() == "WBINVD_REQUIRED"


def test_activate_ex(machines):
    psp = Psp(machines(cpus=2))
    psp.up()
    handle = psp.must_start(ES)
    assert psp.activate_ex(handle, 1, length=0x10) == "INVALID_LEN"
    assert psp.activate_ex(handle, 1, count=0) == "INVALID_PARAM"
    assert psp.activate_ex(handle, 1, count=0xFFFFFFFF) == "INVALID_PARAM"
    assert psp.activate_ex(handle, 1, addr=BAD) == "INVALID_ADDRESS"
    assert psp.activate_ex(handle, 1, ids=(0, 7)) == "INVALID_PARAM"
    assert psp.activate_ex(handle, 5) == "INVALID_ASID"
    assert psp.guest_status(handle) == (ES, 0, LUPDATE)
    assert psp.activate_ex(handle, 1, ids=(0,)) == "SUCCESS"
    assert psp.activate_ex(handle, 1, ids=(1,)) == "SUCCESS"        # adds a core
    assert psp.activate_ex(handle, 2, ids=(1,)) == "ACTIVE"
    assert psp.guest_status(handle) == (ES, 1, LUPDATE)


# ---- LAUNCH_START without session -----------------------------------------------------------

def test_policy_word_is_only_checked_with_a_session(up):
    assert up.start(0xFFC0)[0] == "SUCCESS"


def test_key_sharing(up):
    plain = os.urandom(16)

    def ciphertext(handle, asid):
        assert up.activate(handle, asid) == "SUCCESS"
        up.m.write(up.GUEST, plain)
        assert up.update_data(handle, length=16) == "SUCCESS"
        return up.m.read(up.GUEST, 16)

    first = up.must_start(0)
    shares = up.must_start(0, handle=first)
    alone = up.must_start(0)
    text = ciphertext(first, 5)
    assert text != plain
    assert ciphertext(shares, 6) == text
    assert ciphertext(alone, 7) != text
    assert up.start(NODBG, handle=first)[0] == "POLICY_FAILURE"
    secret = up.must_start(NOKS)
    assert up.start(NOKS, handle=secret)[0] == "POLICY_FAILURE"


# ---- LAUNCH_UPDATE_DATA ---------------------------------------------------------------------

def test_update_data_order(up):
    handle = up.must_start(0)
    assert up.update_data(handle, up.GUEST + 1, 0) == "INVALID_LEN"
    assert up.update_data(handle, up.GUEST, 17) == "INVALID_LEN"
    assert up.update_data(handle, up.GUEST + 8, 16) == "INVALID_ADDRESS"
    assert up.update_data(handle, BAD, 16) == "INACTIVE"            # active before address
    assert up.activate(handle, 5) == "SUCCESS"
    assert up.update_data(handle, BAD, 16) == "INVALID_ADDRESS"
    assert up.update_data(handle, up.TMR, 16) == "INVALID_ADDRESS"
    assert up.update_data(handle, up.TMR - 16, 32) == "INVALID_ADDRESS"
    assert up.update_data(handle, 0x10000000 - 16, 32) == "INVALID_ADDRESS"
    assert up.update_data(handle, 0x10000000 - 16, 16) == "SUCCESS"


def test_update_data_encrypts_in_place(up):
    handle = up.must_start(0)
    assert up.activate(handle, 5) == "SUCCESS"
    plain = os.urandom(0x3000)
    up.m.write(up.GUEST - 16, b"\x55" * 16 + plain + b"\x55" * 16)
    assert up.update_data(handle, length=len(plain)) == "SUCCESS"
    text = up.m.read(up.GUEST - 16, len(plain) + 32)
    assert text[:16] == text[-16:] == b"\x55" * 16
    assert not any(plain[i:i + 16] == text[i + 16:i + 32] for i in range(0, len(plain), 16))
    assert up.decrypt(handle, up.GUEST, len(plain)) == plain


def test_equal_blocks_do_not_look_equal(up):
    handle = up.must_start(0)
    assert up.activate(handle, 5) == "SUCCESS"
    up.m.write(up.GUEST, bytes(0x2000))
    assert up.update_data(handle, length=0x2000) == "SUCCESS"
    text = up.m.read(up.GUEST, 0x2000)
    assert len({text[i:i + 16] for i in range(0, 0x2000, 16)}) == 0x200
    # Moved ciphertext is garbage elsewhere.
    up.m.write(up.GUEST + 0x4000, text[:16])
    assert up.decrypt(handle, up.GUEST + 0x4000, 16) != bytes(16)


def test_update_data_through_the_host_key(up):
    """With the C-bit in the address the bytes measured are those the host sees with C=1."""
    handle = up.must_start(0)
    assert up.activate(handle, 5) == "SUCCESS"
    up.m.write(up.GUEST, bytes(16))
    assert up.update_data(handle, up.GUEST | C_BIT, 16) == "SUCCESS"
    seen = up.decrypt(handle, up.GUEST, 16)
    assert seen != bytes(16)
    _, _, mac, mnonce = up.measure(handle)
    assert mac == launch_mac(NO_TIK, API, 0, hashlib.sha256(seen).digest(), mnonce)


# ---- LAUNCH_UPDATE_VMSA ---------------------------------------------------------------------

def test_update_vmsa_order(psp):
    assert psp.init() == "SUCCESS"
    plain, es = psp.must_start(0), psp.must_start(ES)
    assert psp.update_vmsa(plain, psp.GUEST + 16, 0x2000) == "INVALID_LEN"
    assert psp.update_vmsa(plain, psp.GUEST + 16) == "INVALID_ADDRESS"
    assert psp.update_vmsa(plain, BAD) == "UNSUPPORTED"
    assert psp.update_vmsa(es, BAD) == "INACTIVE"
    psp.flush()
    assert psp.activate(es, 1) == "SUCCESS"
    assert psp.update_vmsa(es, BAD) == "INVALID_ADDRESS"
    assert psp.update_vmsa(es, psp.TMR) == "INVALID_ADDRESS"
    assert psp.update_vmsa(es) == "SUCCESS"


def test_update_vmsa_needs_the_tmr(machines):
    """ASIDs cleaned by a defect, TMR not protected: the checksum has no place."""
    psp = Psp(machines(memory="mutate=psp-no-dirty"))
    assert psp.init() == "SUCCESS"
    handle = psp.must_start(ES)
    assert psp.activate(handle, 1) == "SUCCESS"
    assert psp.update_vmsa(handle) == "RESOURCE_LIMIT"
    psp.flush()
    assert psp.update_vmsa(handle) == "SUCCESS"


def test_update_vmsa_seals_the_page(up):
    handle = up.must_start(ES)
    assert up.activate(handle, 1) == "SUCCESS"
    slots = []
    for i in range(2):
        page, addr = vmsa(i), up.GUEST + i * 0x1000
        up.m.write(addr, page)
        assert up.update_vmsa(handle, addr) == "SUCCESS"
        assert up.m.read(addr, 4096) != page
        sealed = up.decrypt(handle, addr, 4096)
        zero, slot = struct.unpack_from("<QQ", sealed, 0x380)
        assert zero == 0
        assert up.TMR + 0x80000 <= slot < up.TMR + 0x100000 and slot % 8 == 0
        slots.append(slot)
        assert sealed[:0x380] == page[:0x380] and sealed[0x390:] == page[0x390:]
    assert slots[0] != slots[1]
    # DECOMMISSION gives the slots back.
    assert up.deactivate(handle) == "SUCCESS"
    assert up.decommission(handle) == "SUCCESS"
    handle = up.must_start(ES)
    assert up.activate(handle, 1) == "SUCCESS"
    up.m.write(up.GUEST + 0x5000, vmsa())
    assert up.update_vmsa(handle, up.GUEST + 0x5000) == "SUCCESS"
    sealed = up.decrypt(handle, up.GUEST + 0x5000, 4096)
    assert struct.unpack_from("<Q", sealed, 0x388)[0] == slots[0]


# ---- LAUNCH_MEASURE -------------------------------------------------------------------------

def test_measure_order(up):
    handle = up.must_start(0)
    assert up.measure(handle, BAD, 0)[:2] == ("INVALID_LEN", 0x30)
    assert up.measure(handle, length=0x2F)[:2] == ("INVALID_LEN", 0x30)
    assert up.measure(handle, BAD)[0] == "INVALID_ADDRESS"
    assert up.measure(handle, up.TMR)[0] == "INVALID_ADDRESS"
    assert up.guest_status(handle)[2] == LUPDATE
    assert up.measure(handle, length=0x1000)[:2] == ("SUCCESS", 0x30)
    assert up.measure(handle, BAD, 0)[:2] == ("INVALID_LEN", 0x30)  # length before guest state
    assert up.measure(handle, BAD)[0] == "INVALID_GUEST_STATE"      # guest state before address


# ---- ATTESTATION ----------------------------------------------------------------------------

def test_attestation_order(up):
    handle = up.must_start(0)
    assert up.attestation(handle, addr=BAD, length=0xCF)[:2] == ("INVALID_LEN", 0xD0)
    assert up.attestation(handle, addr=BAD)[0] == "INVALID_GUEST_STATE"
    assert up.measure(handle)[0] == "SUCCESS"
    assert up.attestation(handle, addr=BAD)[0] == "INVALID_ADDRESS"
    assert up.attestation(handle)[:2] == ("SUCCESS", 0xD0)


# ---- debugging ------------------------------------------------------------------------------

def test_dbg_order(up):
    handle, closed = up.must_start(0), up.must_start(NODBG)
    for name in ("DBG_DECRYPT", "DBG_ENCRYPT"):
        assert up.dbg(name, closed, up.GUEST + 1, up.C, 0) == "INVALID_LEN"
        assert up.dbg(name, closed, up.GUEST, up.C, 24) == "INVALID_LEN"
        assert up.dbg(name, closed, up.GUEST + 8, up.C, 16) == "INVALID_ADDRESS"
        assert up.dbg(name, closed, up.GUEST, up.C + 8, 16) == "INVALID_ADDRESS"
        assert up.dbg(name, closed, BAD, up.C, 16) == "POLICY_FAILURE"
        assert up.dbg(name, handle, BAD, up.C, 16) == "INACTIVE"
    assert up.activate(handle, 5) == "SUCCESS"
    assert up.activate(closed, 6) == "SUCCESS"
    for name in ("DBG_DECRYPT", "DBG_ENCRYPT"):
        assert up.dbg(name, handle, BAD, up.C, 16) == "INVALID_ADDRESS"
        assert up.dbg(name, handle, up.GUEST, BAD, 16) == "INVALID_ADDRESS"
        assert up.dbg(name, handle, up.GUEST, up.TMR, 16) == "INVALID_ADDRESS"
        assert up.dbg(name, closed, up.GUEST, up.C, 16) == "POLICY_FAILURE"


def test_dbg_encrypt_and_decrypt(up):
    handle = up.running(0, 5)
    plain = os.urandom(64)
    up.m.write(up.B, plain)
    assert up.dbg("DBG_ENCRYPT", handle, up.B, up.GUEST, 64) == "SUCCESS"
    assert up.m.read(up.GUEST, 64) != plain
    assert up.decrypt(handle, up.GUEST, 64) == plain


def test_keys_go_with_deactivate(up):
    handle = up.must_start(0)
    assert up.activate(handle, 5) == "SUCCESS"
    plain = os.urandom(32)
    up.m.write(up.GUEST, plain)
    assert up.update_data(handle, length=32) == "SUCCESS"
    assert up.deactivate(handle) == "SUCCESS"
    other = up.must_start(0)
    assert up.activate(other, 5) == "SUCCESS"
    assert up.decrypt(other, up.GUEST, 32) != plain     # same ASID, other key
    assert up.activate(handle, 6) == "SUCCESS"
    assert up.decrypt(handle, up.GUEST, 32) == plain    # same key, other ASID
