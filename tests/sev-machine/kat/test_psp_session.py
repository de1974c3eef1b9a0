# SPDX-License-Identifier: GPL-2.0-or-later
"""Sessions, measurements, secrets, certificates and reports, against OpenSSL."""
import hashlib
import os
import struct

from cryptography.hazmat.primitives.asymmetric import ec
import pytest

import psp_owner as o
from psp_machine import Psp

NODBG, NOKS, ES, SEV = 1, 2, 4, 32
API = (1, 55, 21)
BAD = 0xFEE00000


def session(psp, policy, **kwargs):
    """A guest launched with an owner's session: (handle, owner)."""
    owner = o.Owner(psp.certificates()[0], policy, **kwargs)
    return psp.must_start(policy, cert=owner.cert, session=owner.session()), owner


# ---- known answer ---------------------------------------------------------------------------

def test_measurement_known_answer(machines):
    """The launch measurement vector that AMD's sev-tool (tests.cpp) checks itself with."""
    psp = Psp(machines(psp="api-major=0,api-minor=0x12,build=0x0f,"
                           "mnonce=4fbe0bedbad6c86ae8f68971d103e554"))
    psp.up()
    handle, _ = session(psp, 0, tik=bytes.fromhex("66320db73158a35a255d051758e95ed4"))
    status, length, mac, mnonce = psp.measure(handle)
    assert (status, length) == ("SUCCESS", 0x30)
    assert mnonce.hex() == "4fbe0bedbad6c86ae8f68971d103e554"
    assert mac.hex() == "6faab2daae389bcd3405a05d6cafe33c0414f7bedd0bae19ba5f38b7fd1664ea"


def test_kdf_of_the_owner_side():
    """The independent side itself: HMAC-SHA256 by another implementation (Python's hashlib)."""
    import hmac as stdlib
    key = bytes(range(48))
    text = b"\1\0\0\0" + b"sev-master-secret" + b"\0" + b"n" * 16 + b"\x80\0\0\0"
    assert o.kdf(key, b"sev-master-secret", b"n" * 16) == \
        stdlib.new(key, text, hashlib.sha256).digest()[:16]


# ---- sessions -------------------------------------------------------------------------------

@pytest.mark.parametrize("policy", [0, NODBG, ES | NODBG, ES | SEV | NOKS, 0x37010000 | ES])
def test_session_is_accepted_and_measured(up, policy):
    handle, owner = session(up, policy)
    asid = 1 if policy & ES else 5
    assert up.activate(handle, asid) == "SUCCESS"
    data = os.urandom(0x12340)
    up.m.write(up.GUEST, data)
    assert up.update_data(handle, length=len(data)) == "SUCCESS"
    digest = hashlib.sha256(data)
    if policy & ES:
        page = os.urandom(4096)
        up.m.write(up.GUEST + 0x20000, page)
        assert up.update_vmsa(handle, up.GUEST + 0x20000) == "SUCCESS"
        digest.update(page)             # as written, not as sealed
    _, _, mac, mnonce = up.measure(handle)
    assert mac == owner.measurement(API, digest.digest(), mnonce)


def test_order_and_content_of_updates_are_measured(up):
    blocks = [os.urandom(32), os.urandom(48)]
    owner = None
    results = {}
    for order in ((0, 1), (1, 0)):
        handle, owner = session(up, 0)
        assert up.activate(handle, 5) == "SUCCESS"
        for i in order:
            up.m.write(up.GUEST, blocks[i])
            assert up.update_data(handle, length=len(blocks[i])) == "SUCCESS"
        _, _, mac, mnonce = up.measure(handle)
        for name, parts in (("same", order), ("other", order[::-1])):
            digest = hashlib.sha256(b"".join(blocks[i] for i in parts)).digest()
            results[name] = mac == owner.measurement(API, digest, mnonce)
        assert results == {"same": True, "other": False}
        assert up.deactivate(handle) == "SUCCESS"


def test_mnonce_is_fresh(up):
    nonces = set()
    for _ in range(3):
        handle = up.must_start(0)
        nonces.add(up.measure(handle)[3])
    assert len(nonces) == 3


def test_policy_word(up):
    owner = o.Owner(up.certificates()[0], 0)

    def start(policy):
        return up.start(policy, cert=owner.cert, session=owner.session(policy))[0]

    for bit in range(6, 16):
        assert start(1 << bit) == "POLICY_FAILURE"
    assert start(0x38010000) == "POLICY_FAILURE"        # minor 56 > 55
    assert start(0x00020000) == "POLICY_FAILURE"        # major 2 > 1
    assert start(0xFF000000) == "SUCCESS"               # major 0: any minor will do
    assert start(0x37010000) == "SUCCESS"


def test_wrong_sessions(up):
    policy = NODBG
    owner = o.Owner(up.certificates()[0], policy)
    good = owner.session()
    assert up.start(policy, cert=owner.cert, session=owner.session(0))[0] == "BAD_MEASUREMENT"
    assert up.start(0, cert=owner.cert, session=good)[0] == "BAD_MEASUREMENT"
    # One flipped bit anywhere: nonce, wrapped keys, IV, wrap MAC, policy MAC.
    for at in range(0, 0x80, 4):
        bad = bytearray(good)
        bad[at] ^= 1 << at % 8
        assert up.start(policy, cert=owner.cert, session=bytes(bad))[0] == "BAD_MEASUREMENT", at
    # Another owner's certificate gives another shared secret.
    other = o.Owner(up.certificates()[0], policy)
    assert up.start(policy, cert=other.cert, session=good)[0] == "BAD_MEASUREMENT"
    assert up.status()["guests"] == 0 and up.status()["state"] == 1
    assert up.start(policy, cert=owner.cert, session=good)[0] == "SUCCESS"


def test_session_dies_with_the_pdh(up):
    owner = o.Owner(up.certificates()[0], 0)
    assert up.run("PDH_GEN") == "SUCCESS"
    assert up.start(0, cert=owner.cert, session=owner.session())[0] == "BAD_MEASUREMENT"


def test_wrong_certificates(up):
    owner = o.Owner(up.certificates()[0], 0)
    text = owner.session()

    def start(cert):
        return up.start(0, cert=cert, session=text)[0]

    key = owner.key
    assert start(o.make_cert(key, o.USAGE_PDH, o.ALGO_ECDH, curve=1)) == "INVALID_CERTIFICATE"
    assert start(o.make_cert(key, o.USAGE_PDH, o.ALGO_ECDH, curve=3)) == "INVALID_CERTIFICATE"
    assert start(o.make_cert(key, o.USAGE_PEK, o.ALGO_ECDH)) == "INVALID_CERTIFICATE"
    assert start(o.make_cert(key, o.USAGE_PDH, o.ALGO_ECDSA)) == "INVALID_CERTIFICATE"
    assert start(o.make_cert(key, o.USAGE_PDH, 0x103)) == "INVALID_CERTIFICATE"
    assert start(o.make_cert(key, o.USAGE_PDH, o.ALGO_ECDH, version=2)) == "INVALID_CERTIFICATE"
    # Not a point of the curve; numbers beyond 384 bits.
    for at in (0x14, 0x5C, 0x14 + 60, 0x5C + 71):
        bad = bytearray(owner.cert)
        bad[at] ^= 1
        assert start(bytes(bad)) == "INVALID_CERTIFICATE", hex(at)
    zero = owner.cert[:0x14] + bytes(144) + owner.cert[0xA4:]
    assert start(zero) == "INVALID_CERTIFICATE"
    # Signatures on the owner's certificate are not looked at.
    assert start(o.sign_cert(owner.cert, o.new_key(), o.USAGE_PEK)) == "SUCCESS"


def test_launch_start_order(up):
    owner = o.Owner(up.certificates()[0], 0)
    text = owner.session()
    parts = {"cert": owner.cert, "session": text}
    assert up.start(0xFFC0, **parts, cert_len=0x823)[0] == "INVALID_LEN"
    assert up.start(0xFFC0, **parts, session_len=0x81)[0] == "INVALID_LEN"
    assert up.start(0, **parts, handle=7, cert_len=0)[0] == "INVALID_GUEST"
    assert up.start(0xFFC0, **parts, cert_addr=BAD)[0] == "INVALID_ADDRESS"
    assert up.start(0xFFC0, **parts, session_addr=BAD)[0] == "INVALID_ADDRESS"
    assert up.start(0xFFC0, **parts, session_addr=up.TMR)[0] == "INVALID_ADDRESS"
    bad = o.make_cert(owner.key, o.USAGE_CEK, o.ALGO_ECDH)
    assert up.start(0xFFC0, cert=bad, session=text)[0] == "POLICY_FAILURE"
    assert up.start(0, cert=bad, session=bytes(0x80))[0] == "INVALID_CERTIFICATE"


def test_session_in_host_encrypted_memory(up):
    """Addresses with the C-bit: the certificate is read through the host's key."""
    owner = o.Owner(up.certificates()[0], 0)
    status = up.start(0, cert=owner.cert, session=owner.session(), cert_addr=up.A | 1 << 51)[0]
    assert status == "INVALID_CERTIFICATE"      # plain bytes look like noise that way


# ---- secrets --------------------------------------------------------------------------------

@pytest.fixture
def waiting(up):
    """(psp, handle, owner, measurement) of a guest that waits for its secret."""
    handle, owner = session(up, 0)
    assert up.activate(handle, 5) == "SUCCESS"
    up.m.write(up.GUEST, bytes(0x1000))
    assert up.update_data(handle) == "SUCCESS"
    status, _, mac, _ = up.measure(handle)
    assert status == "SUCCESS"
    return up, handle, owner, mac


@pytest.mark.parametrize("size", [16, 48, 0x1000, 0x5000])
def test_secret_arrives(waiting, size):
    psp, handle, owner, mac = waiting
    payload = os.urandom(size)
    header, data = owner.secret(payload, mac)
    assert psp.secret(handle, header, data) == "SUCCESS"
    assert psp.m.read(psp.GUEST, size) not in (payload, data)
    assert psp.decrypt(handle, psp.GUEST, size) == payload


def test_wrong_secrets(waiting):
    psp, handle, owner, mac = waiting
    payload = os.urandom(32)
    header, data = owner.secret(payload, mac)
    for at in (4, 19, 20, 51):          # IV and MAC
        bad = bytearray(header)
        bad[at] ^= 0x80
        assert psp.secret(handle, bytes(bad), data) == "BAD_MEASUREMENT"
    assert psp.secret(handle, header, data[:31] + bytes([data[31] ^ 1])) == "BAD_MEASUREMENT"
    assert psp.secret(handle, header, data + bytes(16)) == "BAD_MEASUREMENT"
    other, other_data = owner.secret(payload, bytes(32))
    assert psp.secret(handle, other, other_data) == "BAD_MEASUREMENT"
    stranger = o.Owner(psp.certificates()[0], 0)
    assert psp.secret(handle, *stranger.secret(payload, mac)) == "BAD_MEASUREMENT"
    # Flags: compressed is not supported, others do not exist; both are under the MAC as well.
    assert psp.secret(handle, *owner.secret(payload, mac, flags=1)) == "UNSUPPORTED"
    assert psp.secret(handle, *owner.secret(payload, mac, flags=2)) == "INVALID_PARAM"
    assert psp.decrypt(handle, psp.GUEST, 32) == bytes(32)
    assert psp.secret(handle, header, data) == "SUCCESS"
    assert psp.decrypt(handle, psp.GUEST, 32) == payload


def test_secret_order(up):
    handle, owner = session(up, 0)
    header, data = owner.secret(bytes(32), bytes(32))
    assert up.secret(handle, header, data, hdr_len=0x33) == "INVALID_LEN"
    assert up.secret(handle, header, data, guest_len=0, trans_len=0) == "INVALID_LEN"
    assert up.secret(handle, header, data, guest_len=24, trans_len=24) == "INVALID_LEN"
    assert up.secret(handle, header, data, guest_len=16) == "INVALID_LEN"
    assert up.secret(handle, header, data, guest_len=0x5010, trans_len=0x5010) == "INVALID_LEN"
    assert up.secret(handle, header, data, guest=up.GUEST + 8) == "INVALID_ADDRESS"
    assert up.secret(handle, header, data, guest=BAD) == "INVALID_GUEST_STATE"
    assert up.measure(handle)[0] == "SUCCESS"
    assert up.secret(handle, header, data, guest=BAD) == "INACTIVE"
    assert up.activate(handle, 5) == "SUCCESS"
    assert up.secret(handle, header, data, guest=BAD) == "INVALID_ADDRESS"
    assert up.secret(handle, header, data, guest=up.TMR) == "INVALID_ADDRESS"
    assert up.secret(handle, header, data, hdr_addr=BAD) == "INVALID_ADDRESS"
    assert up.secret(handle, header, data, trans_addr=BAD) == "INVALID_ADDRESS"
    assert up.secret(handle, header, data) == "BAD_MEASUREMENT"


# ---- certificates ---------------------------------------------------------------------------

def check_chain(pdh, pek, oca, cek):
    keys = {name: o.public_key(cert) for name, cert in
            (("pdh", pdh), ("pek", pek), ("oca", oca), ("cek", cek))}
    assert (o.fields(pdh)["usage"], o.fields(pdh)["algo"]) == (o.USAGE_PDH, o.ALGO_ECDH)
    assert (o.fields(pek)["usage"], o.fields(pek)["algo"]) == (o.USAGE_PEK, o.ALGO_ECDSA)
    assert (o.fields(oca)["usage"], o.fields(oca)["algo"]) == (o.USAGE_OCA, o.ALGO_ECDSA)
    assert (o.fields(cek)["usage"], o.fields(cek)["algo"]) == (o.USAGE_CEK, o.ALGO_ECDSA)
    assert o.verify(pdh, keys["pek"], o.USAGE_PEK)
    assert o.verify(pek, keys["oca"], o.USAGE_OCA)
    assert o.verify(pek, keys["cek"], o.USAGE_CEK)
    assert o.verify(oca, keys["oca"], o.USAGE_OCA)
    # Exported unsigned: AMD's signature on the CEK comes from elsewhere.
    assert [sig[0] for sig in o.signatures(cek)] == [o.USAGE_INVALID] * 2
    return keys


def test_chain(up):
    pdh, pek, oca, cek = up.certificates()
    check_chain(pdh, pek, oca, cek)
    assert o.fields(pek)["version"] == 1 and o.fields(pek)["api"] == (1, 55)
    assert not o.verify(pdh, o.public_key(oca), o.USAGE_PEK)


def test_chain_with_the_openssl_program(up):
    pdh, pek, oca, cek = up.certificates()
    for cert, signer, usage in ((pdh, pek, o.USAGE_PEK), (pek, oca, o.USAGE_OCA),
                                (pek, cek, o.USAGE_CEK), (oca, oca, o.USAGE_OCA)):
        r, s = next(sig[2:] for sig in o.signatures(cert) if sig[0] == usage)
        key = o.public_key(signer)
        assert o.openssl_verify(cert[:o.SIGNED_LEN], key, r, s)
        assert not o.openssl_verify(b"\2" + cert[1:o.SIGNED_LEN], key, r, s)


def test_export_order(up):
    assert up.export(BAD, 0, BAD, 0) == ("INVALID_LEN", 0x824, 0x186C)
    assert up.export(BAD, 0x823, BAD, 0x186C) == ("INVALID_LEN", 0x824, 0x186C)
    assert up.export(BAD, 0x824, BAD, 0x186B) == ("INVALID_LEN", 0x824, 0x186C)
    up.m.write(up.A, bytes(16))
    assert up.export(chain=BAD)[0] == "INVALID_ADDRESS"
    assert up.m.read(up.A, 16) == bytes(16)     # nothing written
    assert up.export(pdh=BAD)[0] == "INVALID_ADDRESS"
    assert up.export(pdh=up.TMR)[0] == "INVALID_ADDRESS"
    assert up.export(pdh_len=0x10000, chain_len=0x10000) == ("SUCCESS", 0x824, 0x186C)


def test_new_keys(up):
    pdh, pek, oca, cek = up.certificates()
    assert up.run("PDH_GEN") == "SUCCESS"
    after = up.certificates()
    assert after[0] != pdh and after[1:] == (pek, oca, cek)
    check_chain(*after)
    assert up.run("PEK_GEN") == "SUCCESS"
    after = up.certificates()
    assert o.public_key(after[1]).public_numbers() != o.public_key(pek).public_numbers()
    assert after[3] == cek
    check_chain(*after)
    assert up.run("SHUTDOWN") == "SUCCESS"
    assert up.init() == "SUCCESS"
    assert up.certificates() == after           # the new keys are the stored ones


def test_csr(up):
    assert up.csr(BAD, 0x823) == ("INVALID_LEN", 0x824)
    assert up.csr(BAD) == ("INVALID_ADDRESS", 0x824)
    assert up.csr() == ("SUCCESS", 0x824)
    csr, pek = up.m.read(up.A, 0x824), up.certificates()[1]
    assert csr[:o.SIGNED_LEN] == pek[:o.SIGNED_LEN]
    assert [sig[0] for sig in o.signatures(csr)] == [o.USAGE_INVALID] * 2


@pytest.fixture
def owned(up):
    """(psp, csr, owner's key, owner's certificate)."""
    assert up.csr()[0] == "SUCCESS"
    csr, key = up.m.read(up.A, 0x824), o.new_key()
    oca = o.sign_cert(o.make_cert(key, o.USAGE_OCA, o.ALGO_ECDSA), key, o.USAGE_OCA)
    return up, csr, key, oca


def test_import(owned):
    psp, csr, key, oca = owned
    pdh = psp.certificates()[0]
    assert psp.cert_import(o.sign_cert(csr, key, o.USAGE_OCA), oca) == "SUCCESS"
    assert psp.status()["owner"] == 1
    after = psp.certificates()
    assert after[2] == oca and after[0] != pdh
    check_chain(*after)
    assert psp.cert_import(b"", b"", pek_len=0) == "ALREADY_OWNED"
    session(psp, 0)
    assert psp.run("SHUTDOWN") == "SUCCESS"
    assert psp.status()["owner"] == 0           # reads 0 in UNINIT
    assert psp.init() == "SUCCESS"
    assert psp.status()["owner"] == 1
    assert psp.certificates() == after
    assert psp.run("PEK_GEN") == "SUCCESS"      # back to self-owned
    assert psp.status()["owner"] == 0
    check_chain(*psp.certificates())


def test_wrong_imports(owned):
    psp, csr, key, oca = owned
    signed = o.sign_cert(csr, key, o.USAGE_OCA)
    before = psp.certificates()
    other = o.new_key()

    def attempt(pek=signed, oca_cert=oca, **kwargs):
        return psp.cert_import(pek, oca_cert, **kwargs)

    assert attempt(pek_len=0x823, pek_addr=BAD) == "INVALID_LEN"
    assert attempt(oca_len=0x825) == "INVALID_LEN"
    assert attempt(pek_addr=BAD) == "INVALID_ADDRESS"
    wrong_usage = o.sign_cert(o.make_cert(key, o.USAGE_CEK, o.ALGO_ECDSA), key, o.USAGE_OCA)
    assert attempt(oca_cert=wrong_usage) == "INVALID_CERTIFICATE"
    wrong_algo = o.sign_cert(o.make_cert(key, o.USAGE_OCA, o.ALGO_ECDH), key, o.USAGE_OCA)
    assert attempt(oca_cert=wrong_algo) == "INVALID_CERTIFICATE"
    foreign = o.sign_cert(o.make_cert(other, o.USAGE_PEK, o.ALGO_ECDSA), key, o.USAGE_OCA)
    assert attempt(pek=foreign) == "INVALID_CERTIFICATE"        # not this platform's key
    assert attempt(pek=csr) == "BAD_SIGNATURE"                  # not signed
    assert attempt(pek=o.sign_cert(csr, other, o.USAGE_OCA)) == "BAD_SIGNATURE"
    assert attempt(pek=o.sign_cert(csr, key, o.USAGE_CEK)) == "BAD_SIGNATURE"
    assert attempt(oca_cert=o.sign_cert(oca, other, o.USAGE_OCA)) == "BAD_SIGNATURE"
    flipped = bytearray(signed)
    flipped[0x41C] ^= 1
    assert attempt(pek=bytes(flipped)) == "BAD_SIGNATURE"
    assert psp.status()["owner"] == 0
    assert psp.certificates() == before
    assert attempt() == "SUCCESS"


def test_small_subgroup_and_wrong_curve_points_are_refused(up):
    """A P-256 point dressed as P-384."""
    owner = o.Owner(up.certificates()[0], 0)
    point = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    cert = owner.cert[:0x14] + o.le72(point.x) + o.le72(point.y) + owner.cert[0xA4:]
    assert up.start(0, cert=cert, session=owner.session())[0] == "INVALID_CERTIFICATE"


# ---- reports --------------------------------------------------------------------------------

def test_attestation_report(up):
    handle, owner = session(up, ES)
    assert up.activate(handle, 1) == "SUCCESS"
    data = os.urandom(64)
    up.m.write(up.GUEST, data)
    assert up.update_data(handle, length=64) == "SUCCESS"
    assert up.measure(handle)[0] == "SUCCESS"
    mnonce = os.urandom(16)
    status, length, report = up.attestation(handle, mnonce)
    assert (status, length) == ("SUCCESS", 0xD0)
    assert report[:16] == mnonce
    assert report[16:48] == hashlib.sha256(data).digest()
    assert struct.unpack_from("<IIII", report, 48) == (ES, o.USAGE_PEK, o.ALGO_ECDSA, 0)
    pek = o.public_key(up.certificates()[1])
    r, s = o.number(report[64:136]), o.number(report[136:208])
    assert o.openssl_verify(report[:0x34], pek, r, s)
    assert not o.openssl_verify(report[:0x33] + b"\xff", pek, r, s)
    assert up.attestation(handle, os.urandom(16))[2][:16] != mnonce
    assert owner.policy == ES


def test_reproducible_runs(machines):
    """With a seed two runs make the same keys; without one they do not."""
    runs = []
    for psp_options in ("seed=7", "seed=7", "seed=8", "", ""):
        psp = Psp(machines(psp=psp_options))
        psp.up()
        runs.append(psp.certificates())
        psp.m.close()
    assert runs[0] == runs[1]
    assert len({run[1] for run in runs}) == 4
    assert len({run[3] for run in runs}) == 1
