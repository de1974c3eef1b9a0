# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest owner's side of SEV, written against the formats alone and computed by OpenSSL.

Nothing here is shared with the emulator: it is the independent computation that its answers are
compared with (SEV API specification 55766; the formats as sev-tool documents them).
"""
import os
import struct
import subprocess
import tempfile

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

USAGE_INVALID, USAGE_OCA, USAGE_PEK, USAGE_PDH, USAGE_CEK = range(0x1000, 0x1005)
ALGO_ECDSA, ALGO_ECDH = 2, 3
CURVE_P384 = 2
CERT_LEN = 0x824
SIGNED_LEN = 0x414
SIG_AT = (0x414, 0x61C)

POLICY_NODBG, POLICY_NOKS, POLICY_ES = 1, 2, 4


def new_key():
    return ec.generate_private_key(ec.SECP384R1())


def mac(key, data):
    h = hmac.HMAC(key, hashes.SHA256())
    h.update(data)
    return h.finalize()


def sha256(data):
    h = hashes.Hash(hashes.SHA256())
    h.update(data)
    return h.finalize()


def ctr(key, iv, data):
    cipher = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return cipher.update(data) + cipher.finalize()


def kdf(key, label, context=b""):
    """SP 800-108 in counter mode, little-endian counter and length, 128 bits."""
    return mac(key, struct.pack("<I", 1) + label + b"\0" + context + struct.pack("<I", 128))[:16]


# ---- certificates ---------------------------------------------------------------------------

def le72(number):
    return number.to_bytes(72, "little")


def number(data):
    return int.from_bytes(data, "little")


def make_cert(key, usage, algo, curve=CURVE_P384, version=1, api=(1, 55)):
    """An unsigned certificate for a key."""
    point = key.public_key().public_numbers()
    body = struct.pack("<IBBHIII", version, api[0], api[1], 0, usage, algo, curve)
    body += le72(point.x) + le72(point.y)
    body = body.ljust(SIGNED_LEN, b"\0")
    unsigned = struct.pack("<II", USAGE_INVALID, 0).ljust(0x208, b"\0")
    return body + unsigned + unsigned


def sign_cert(cert, key, usage, slot=0, algo=ALGO_ECDSA):
    r, s = utils.decode_dss_signature(key.sign(cert[:SIGNED_LEN], ec.ECDSA(hashes.SHA256())))
    sig = struct.pack("<II", usage, algo) + (le72(r) + le72(s)).ljust(0x200, b"\0")
    return cert[:SIG_AT[slot]] + sig + cert[SIG_AT[slot] + 0x208:]


def fields(cert):
    version, major, minor, rsvd, usage, algo = struct.unpack_from("<IBBHII", cert)
    assert len(cert) == CERT_LEN and rsvd == 0
    return {"version": version, "api": (major, minor), "usage": usage, "algo": algo}


def public_key(cert):
    assert struct.unpack_from("<I", cert, 0x10)[0] == CURVE_P384
    x, y = number(cert[0x14:0x5C]), number(cert[0x5C:0xA4])
    assert not any(cert[0xA4:SIGNED_LEN])
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP384R1()).public_key()


def signatures(cert):
    """[(usage, algo, r, s)] of both slots."""
    out = []
    for at in SIG_AT:
        usage, algo = struct.unpack_from("<II", cert, at)
        out.append((usage, algo, number(cert[at + 8:at + 80]), number(cert[at + 80:at + 152])))
    return out


def verify(cert, signer, usage):
    """True when the signature made as `usage` verifies with the public key `signer`."""
    for sig_usage, algo, r, s in signatures(cert):
        if sig_usage == usage and algo == ALGO_ECDSA:
            try:
                signer.verify(utils.encode_dss_signature(r, s), cert[:SIGNED_LEN],
                              ec.ECDSA(hashes.SHA256()))
                return True
            except InvalidSignature:
                return False
    return False


def openssl_verify(data, signer, r, s):
    """The same by the openssl program: its verdict as a bool."""
    with tempfile.TemporaryDirectory() as tmp:
        names = {n: os.path.join(tmp, n) for n in ("key", "sig", "data")}
        contents = {
            "key": signer.public_bytes(serialization.Encoding.PEM,
                                       serialization.PublicFormat.SubjectPublicKeyInfo),
            "sig": utils.encode_dss_signature(r, s), "data": data}
        for name, path in names.items():
            with open(path, "wb") as out:
                out.write(contents[name])
        done = subprocess.run(["openssl", "dgst", "-sha256", "-verify", names["key"],
                               "-signature", names["sig"], names["data"]],
                              capture_output=True, check=False)
        return done.returncode == 0 and b"Verified OK" in done.stdout


# ---- session, measurement, secret -----------------------------------------------------------

class Owner:
    """A guest owner who opens a session with a platform."""

    def __init__(self, pdh_cert, policy, tek=None, tik=None):
        self.policy = policy
        self.tek = tek or os.urandom(16)
        self.tik = tik or os.urandom(16)
        self.key = new_key()
        self.cert = make_cert(self.key, USAGE_PDH, ALGO_ECDH)
        self.nonce, self.iv = os.urandom(16), os.urandom(16)
        shared = self.key.exchange(ec.ECDH(), public_key(pdh_cert))
        master = kdf(shared, b"sev-master-secret", self.nonce)
        self.kek, self.kik = kdf(master, b"sev-kek"), kdf(master, b"sev-kik")

    def session(self, policy=None):
        policy = self.policy if policy is None else policy
        wrapped = ctr(self.kek, self.iv, self.tek + self.tik)
        return (self.nonce + wrapped + self.iv + mac(self.kik, wrapped) +
                mac(self.tik, struct.pack("<I", policy)))

    def measurement(self, api, digest, mnonce):
        return launch_mac(self.tik, api, self.policy, digest, mnonce)

    def secret(self, payload, measurement, iv=None, flags=0):
        """(header, ciphertext) for LAUNCH_SECRET."""
        iv = iv or os.urandom(16)
        data = ctr(self.tek, iv, payload)
        tag = mac(self.tik, b"\x01" + struct.pack("<I", flags) + iv +
                  struct.pack("<II", len(data), len(data)) + data + measurement)
        return struct.pack("<I", flags) + iv + tag, data


def launch_mac(tik, api, policy, digest, mnonce):
    return mac(tik, bytes([4, *api]) + struct.pack("<I", policy) + digest + mnonce)
