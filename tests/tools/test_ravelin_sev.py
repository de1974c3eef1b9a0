# SPDX-License-Identifier: BSD-2-Clause
"""tools/ravelin-sev against published vectors: sevctl's tests, AMD's sev-tool, and refusals."""

import base64
import hashlib
import importlib.machinery
import importlib.util
import pathlib
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
import pytest

TREE = pathlib.Path(__file__).resolve().parents[2]


def load():
    loader = importlib.machinery.SourceFileLoader("ravelin_sev", str(TREE / "tools/ravelin-sev"))
    spec = importlib.util.spec_from_loader("ravelin_sev", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


T = load()

# sevctl's tests/data/secret and tests/data/measurement.
SECRET_TIK = bytes.fromhex("c6d5a9956133050912b24bbe5c372686")
SECRET_TEK = bytes.fromhex("52a869b79ab9c13bb6a92b0561619cb3")
MEASURE_TIK = bytes.fromhex("3569cf61a32a602b87185ac6e0f55913")
BLOB = "TLeA7607lZQntLjRY1/i+sbtdSZ+75zxpz4Px9hzpBLwItF5Q2o4prA++3ZZv9ZS"
IV = "rFR07U3TLH2YnsUj2SVZ7A=="
GUID1 = "736869e5-84f0-4973-92ec-06879ce3da0b"
GUID2 = "736869e5-aaaa-4973-92ec-06879ce3da0b"


# --- published answers ---

def expected_vmsa(base, rip):
    """The complete non-zero content of sevctl's vmsa0.bin and vmsa1.bin."""
    page = bytearray(4096)
    for at in (0x00, 0x20, 0x30, 0x40, 0x50):
        page[at + 2:at + 8] = bytes((0x93, 0, 0xFF, 0xFF, 0, 0))
    page[0x10:0x20] = struct.pack("<HHIQ", 0xF000, 0x9B, 0xFFFF, base)
    for at, attributes in ((0x60, 0), (0x70, 0x82), (0x80, 0), (0x90, 0x8B)):
        page[at + 2] = attributes
        page[at + 4:at + 6] = b"\xff\xff"
    for at, value in ((0xD0, 4096), (0x148, 64), (0x158, 16), (0x160, 1024),
                      (0x168, 4294905840), (0x170, 2), (0x178, rip), (0x268, 1974748653749254),
                      (0x310, 10489617), (0x3E8, 1)):
        page[at:at + 8] = value.to_bytes(8, "little")
    return bytes(page)


def test_vmsa_boot_processor(tmp_path):
    assert T.main(["vmsa", str(tmp_path / "v"), "--signature", "0xA00F11"]) == 0
    assert (tmp_path / "v").read_bytes() == expected_vmsa(4294901760, 65520)


def test_vmsa_application_processor(tmp_path):
    assert T.main(["vmsa", str(tmp_path / "v"), "--signature", "0xA00F11",
                   "--reset", "0x80b004"]) == 0
    assert (tmp_path / "v").read_bytes() == expected_vmsa(0x800000, 0xB004)


def measured(capsys, *args):
    assert T.main(["measure", *args]) == 0
    out = capsys.readouterr().out
    return dict(line.split(None, 1) for line in out.splitlines())["measurement"]


def test_measurement_of_sev_tool(capsys):
    got = measured(capsys, "--api-major", "0", "--api-minor", "0x12", "--build", "0x0f",
                   "--policy", "0", "--nonce", "4fbe0bedbad6c86ae8f68971d103e554",
                   "--digest", base64.b64encode(hashlib.sha256().digest()).decode(), "--tik",
                   base64.b64encode(bytes.fromhex("66320db73158a35a255d051758e95ed4")).decode())
    assert got == "6faab2daae389bcd3405a05d6cafe33c0414f7bedd0bae19ba5f38b7fd1664ea"


def test_measurement_of_sevctl(capsys):
    got = measured(capsys, "--api-major", "1", "--api-minor", "40", "--build", "40",
                   "--policy", "3", "--tik", base64.b64encode(MEASURE_TIK).decode(),
                   "--nonce", base64.b64decode("wxP6tRHCFrFQWxsuqZA8QA==").hex(),
                   "--digest", "xkvRAfyaSizgonxAjZIAkR8TmolUabBKQKb6KJCDDSM=")
    assert base64.b64encode(bytes.fromhex(got)).decode() == \
        "lswbxWxI9gckya16JQvdFtpYmNO4b+3inAPpqsgoBI4="


@pytest.mark.parametrize("secrets, header, payload", [
    ([(GUID1, "MY-LUKS-PASSPHRASE")],
     "AAAAAKxUdO1N0yx9mJ7FI9klWey8FSzeYQ4X8K71VzNKLU/KQsIsQxLjtbhaPUewqshX5Q==",
     "0U3e5PcXv0UW+H4tSBFKOdCYfKE1+j38Bc2fuO16mYiyI+sWx7INfn+lgYj56GL12yyinDa+lVfCCwD/2w5cPA=="),
    ([(GUID1, "MY-LUKS-PASSPHRASE"), (GUID2, "SOME OTHER SECRET")],
     "AAAAAKxUdO1N0yx9mJ7FI9klWeyZ3r0dOEKHUOhIRqzGYYvTJgdMtBPL1nK6GD9aGET7Ng==",
     "0U3e5PcXv0UW+H4tSBFKObWYfKE1+j38Bc2fuO16mYiyI+sWx7INfn+lgYj56GL12yyinDa+lVfCC+WWs332lpLN"
     "UX1ZI3YK7vYgtys4X+uGxEIlkIQ90v8/w8ZFmQMe"),
])
def test_secret_of_sevctl(tmp_path, secrets, header, payload):
    args = ["secret", "--tik", base64.b64encode(SECRET_TIK).decode(),
            "--tek", base64.b64encode(SECRET_TEK).decode(), "--measurement", BLOB, "--iv", IV]
    for i, (guid, text) in enumerate(secrets):
        (tmp_path / f"s{i}").write_text(text)
        args += ["--secret", f"{guid}:{tmp_path}/s{i}"]
    assert T.main(args + [str(tmp_path / "h"), str(tmp_path / "p")]) == 0
    assert base64.b64encode((tmp_path / "h").read_bytes()).decode() == header
    assert base64.b64encode((tmp_path / "p").read_bytes()).decode() == payload


def test_secret_sizes_of_sevctl():
    """Its largest secrets: 16343 and 16344 bytes give packets of 16384."""
    for size in (16343, 16344):
        assert len(T.secret_table([("23058844-597b-42fb-8259-a0f5d9d495af", bytes(size))])) == 16384


# --- session ---

def platform():
    key = ec.generate_private_key(ec.SECP384R1())
    return key, T.owner_certificate(key)


def test_session_opens_with_the_platforms_key(tmp_path):
    """The platform's half of the exchange, by the specification's formats."""
    key, cert = platform()
    (tmp_path / "pdh").write_bytes(cert)
    assert T.main(["session", str(tmp_path / "vm"), str(tmp_path / "pdh"), "es,nodbg"]) == 0
    godh = base64.b64decode((tmp_path / "vm_godh.b64").read_bytes())
    s = base64.b64decode((tmp_path / "vm_session.b64").read_bytes())
    assert len(godh) == 0x824 and len(s) == 0x80
    x, y = (int.from_bytes(godh[at:at + 72], "little") for at in (0x14, 0x5C))
    owner = ec.EllipticCurvePublicNumbers(x, y, ec.SECP384R1()).public_key()
    z = key.exchange(ec.ECDH(), owner)
    digest = lambda k, d: __import__("hmac").new(k, d, "sha256").digest()  # noqa: E731
    bits = b"\x80\0\0\0"
    master = digest(z, b"\1\0\0\0sev-master-secret\0" + s[:16] + bits)[:16]
    kek = digest(master, b"\1\0\0\0sev-kek\0" + bits)[:16]
    kik = digest(master, b"\1\0\0\0sev-kik\0" + bits)[:16]
    assert digest(kik, s[0x10:0x30]) == s[0x40:0x60]
    keys = T.ctr(kek, s[0x30:0x40], s[0x10:0x30])
    assert keys[:16] == (tmp_path / "vm_tek.bin").read_bytes()
    assert keys[16:] == (tmp_path / "vm_tik.bin").read_bytes()
    assert digest(keys[16:], b"\5\0\0\0") == s[0x60:]
    assert (tmp_path / "vm_tik.bin").stat().st_mode & 0o077 == 0


# --- certificates ---

def signed(key, usage, algo, signers):
    data = bytearray(T.owner_certificate(key))
    struct.pack_into("<II", data, 8, usage, algo)
    for at, (signer, signer_usage) in zip((0x414, 0x61C), signers):
        r, s = utils.decode_dss_signature(
            signer.sign(bytes(data[:0x414]), ec.ECDSA(hashes.SHA256())))
        struct.pack_into("<II", data, at, signer_usage, 2)
        data[at + 8:at + 80] = r.to_bytes(72, "little")
        data[at + 80:at + 152] = s.to_bytes(72, "little")
    return bytes(data)


def chain():
    pdh, pek, oca, cek = (ec.generate_private_key(ec.SECP384R1()) for _ in range(4))
    return [signed(pdh, T.USAGE_PDH, 3, [(pek, T.USAGE_PEK)]),
            signed(pek, T.USAGE_PEK, 2, [(oca, T.USAGE_OCA), (cek, T.USAGE_CEK)]),
            signed(oca, T.USAGE_OCA, 2, [(oca, T.USAGE_OCA)]),
            signed(cek, T.USAGE_CEK, 2, [])]


def test_chain(tmp_path, capsys):
    good = chain()
    (tmp_path / "c").write_bytes(b"".join(good))
    assert T.main(["verify", str(tmp_path / "c")]) == 0
    for i in range(3):
        for at in (0x20, 0x420):            # key, signature
            bad = [bytearray(c) for c in good]
            bad[i][at] ^= 1
            (tmp_path / "c").write_bytes(b"".join(bad))
            assert T.main(["verify", str(tmp_path / "c")]) == 1, (i, at)
            assert "signature" in (err := capsys.readouterr().err) or "curve" in err
    (tmp_path / "c").write_bytes(b"".join(good[:3] + chain()[3:]))
    assert T.main(["verify", str(tmp_path / "c")]) == 1
    assert "bad signature of the CEK" in capsys.readouterr().err


# --- digest ---

def kernel_file(preferred=0x1000000, init_size=0x3000000):
    k = bytearray(0x8000)
    k[0x1F1] = 7
    k[0x1FE:0x200] = b"\x55\xaa"
    k[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", k, 0x206, 0x20F)
    struct.pack_into("<I", k, 0x22C, 0x7FFFFFFF)
    struct.pack_into("<IBBH", k, 0x230, 0x200000, 1, 0x15, 0x7F)
    struct.pack_into("<QI", k, 0x258, preferred, init_size)
    return bytes(k)


def loader_file():
    image = bytearray(8192)
    image[8:16] = b"RVLNLR1\0"
    struct.pack_into("<6I", image, 16, 0x100028, 0x110000, 0x1E0000, 0x1E4000, 0x4000, 0x1E2000)
    return bytes(image)


CONF = """[host]
log = info
[vm a]
kernel = k
initrd = i
sev-loader = l
cmdline = "console=ttyS0 # not a comment"   # one
memory = 4G
cpus = 2
sev = es
policy = nodbg,noks  ; another
[vm b]
kernel = k
"""


def folder(tmp_path, conf=CONF, **files):
    parts = {"k": kernel_file(), "i": b"initrd", "l": loader_file(), **files}
    for name, data in parts.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "ravelin.conf").write_text(conf)
    return str(tmp_path / "ravelin.conf")


def test_digest_is_that_of_the_documented_order(tmp_path, capsys):
    assert T.main(["measure", folder(tmp_path), "a"]) == 0
    out = dict(line.split() for line in capsys.readouterr().out.splitlines())
    cmdline = b"console=ttyS0 # not a comment\0"
    low = 3 << 30
    # The initrd ends 64 KiB or more below what the kernel can reach, at a page.
    initrd_at = (0x80000000 - 6 - 0x10000) & ~4095
    info = b"RVLNNF1\0" + struct.pack("<IIQQ", 2, 3, low, 1 << 30)
    for gpa, data in ((0x1000000 - 4096, kernel_file()), (initrd_at, b"initrd"),
                      (0x1E2000, cmdline)):
        info += struct.pack("<QQ", gpa, len(data)) + hashlib.sha256(data).digest()
    want = hashlib.sha256(loader_file() + info.ljust(4096, b"\0") + bytes(0x4000))
    for vcpu in range(2):
        page = bytearray(expected_vmsa(0, 0x100028))
        for at in (0, 0x20, 0x30, 0x40, 0x50):
            page[at:at + 16] = struct.pack("<HHIQ", 0x18, 0xC93, 0xFFFFFFFF, 0)
        page[0x10:0x20] = struct.pack("<HHIQ", 0x10, 0xC9B, 0xFFFFFFFF, 0)
        page[0x158] = 0x11
        page[0x310:0x318] = (0x800F12).to_bytes(8, "little")
        page[0x318] = vcpu
        page[0x330:0x334] = (0x1E0000).to_bytes(4, "little")
        want.update(page)
    assert out == {"digest": want.hexdigest(), "policy": "0x7"}


def test_each_input_is_in_the_digest(tmp_path, capsys):
    def digest(conf=CONF, *extra, **files):
        assert T.main(["measure", folder(tmp_path, conf, **files), "a", *extra]) == 0
        return capsys.readouterr().out.split()[1]

    digests = [digest(), digest(k=kernel_file()[:-1] + b"x"), digest(i=b"initrE"),
               digest(l=loader_file()[:-1] + b"x"), digest(CONF.replace("ttyS0", "ttyS1")),
               digest(CONF.replace("cpus = 2", "cpus = 3")), digest(CONF.replace("4G", "512M")),
               digest(CONF, "--signature", "0x830f10")]
    assert len(set(digests)) == len(digests)
    assert digest() == digests[0]


# --- wrong input: refused, with words ---

@pytest.mark.parametrize("conf, files, words", [
    (CONF.replace("[vm a]", "[vm c]"), {}, "no section [vm a]"),
    (CONF.replace("sev = es", "sev = off"), {}, "no sev = es"),
    (CONF.replace("sev-loader = l", ""), {}, "needs sev-loader"),
    (CONF.replace("kernel = k", "kernel = none"), {}, "No such file"),
    (CONF.replace("nodbg,noks", "nodbg,what"), {}, "policy 'what'"),
    (CONF.replace("4G", "lots"), {}, "memory 'lots'"),
    (CONF.replace("4G", "3M"), {}, "multiple of 2 MiB"),
    (CONF.replace("4G", "64M"), {}, "more memory"),
    (CONF, {"k": b"no kernel"}, "no Linux bzImage"),
    (CONF, {"l": bytes(8192)}, "not a first-stage loader"),
    (CONF, {"l": loader_file()[:5000]}, "not a first-stage loader"),
])
def test_measure_refuses(tmp_path, capsys, conf, files, words):
    assert T.main(["measure", folder(tmp_path, conf, **files), "a"]) == 1
    assert words in capsys.readouterr().err


def test_wrong_measurement_is_refused(tmp_path, capsys):
    conf = folder(tmp_path)
    args = ["measure", conf, "a", "--nonce", "00" * 16]
    assert T.main(args) == 0
    blob = capsys.readouterr().out.split("base64")[1].split()[0]
    assert T.main(["measure", conf, "a", "--blob", blob]) == 0
    bad = bytearray(base64.b64decode(blob))
    bad[0] ^= 1
    assert T.main(["measure", conf, "a", "--blob", base64.b64encode(bad).decode()]) == 1
    assert "another one" in capsys.readouterr().err


@pytest.mark.parametrize("edit, words", [
    (lambda c: c[:-1], "2084"),
    (lambda c: b"\2" + c[1:], "version 2"),
    (lambda c: c[:8] + b"\2\x10\0\0" + c[12:], "PDH certificate is wanted, this is a PEK"),
    (lambda c: c[:0x10] + b"\1" + c[0x11:], "curve 1"),
    (lambda c: c[:0x14] + bytes([c[0x14] ^ 1]) + c[0x15:], "no point"),
])
def test_session_refuses(tmp_path, capsys, edit, words):
    (tmp_path / "pdh").write_bytes(edit(platform()[1]))
    assert T.main(["session", str(tmp_path / "vm"), str(tmp_path / "pdh"), "es"]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "vm_tik.bin").exists()


@pytest.mark.parametrize("change, words", [
    ({"--secret": "GUID:x"}, "no GUID"), ({"--secret": GUID1}, "GUID:FILE"),
    ({"--tik": "AAAA"}, "16 are needed"), ({"--measurement": "AAAA"}, "32 or 48"),
])
def test_secret_refuses(tmp_path, capsys, change, words):
    (tmp_path / "x").write_bytes(b"x")
    keys = {"--tik": base64.b64encode(SECRET_TIK).decode(), "--measurement": BLOB,
            "--tek": base64.b64encode(SECRET_TEK).decode(), "--secret": f"{GUID1}:{tmp_path}/x"}
    if change.get("--secret") == "GUID:x":
        change = {"--secret": f"GUID:{tmp_path}/x"}
    args = [word for pair in {**keys, **change}.items() for word in pair]
    assert T.main(["secret", *args, str(tmp_path / "h"), str(tmp_path / "p")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "h").exists()


def test_too_many_secrets():
    with pytest.raises(T.Refused, match="16384 at most"):
        T.secret_table([(GUID1, bytes(16384 - 39))])


# --- by Ravelin's shell ---

def printed(certs):
    """What a console's log has of `psp cert`."""
    text = base64.b64encode(b"".join(certs)).decode()
    lines = [text[at:at + 64] for at in range(0, len(text), 64)]
    return "\r\n".join(["ravelin> psp cert", "-----BEGIN SEV PLATFORM-----", *lines,
                        "-----END SEV PLATFORM-----", "ravelin> "])


def test_platform_as_printed(tmp_path, capsys):
    good = chain()
    text = printed(good)
    (tmp_path / "log").write_text(printed(chain()) + text)  # the last one counts
    assert T.main(["verify", str(tmp_path / "log")]) == 0
    assert T.platform_block((tmp_path / "log").read_bytes()) == b"".join(good)
    assert T.main(["session", str(tmp_path / "vm"), str(tmp_path / "log"), "es"]) == 0
    assert (tmp_path / "vm_tik.bin").exists()
    (tmp_path / "vm_tik.bin").unlink()
    lines = text.split("\r\n")
    for bad in (lines[:5] + lines[6:], lines[:5] + ["[    1.000000] vm a: started"] + lines[5:]):
        (tmp_path / "log").write_text("\r\n".join(bad))
        for args in (["verify", str(tmp_path / "log")],
                     ["session", str(tmp_path / "vm"), str(tmp_path / "log"), "es"]):
            capsys.readouterr()
            assert T.main(args) == 1
            assert "damaged" in capsys.readouterr().err
    assert not (tmp_path / "vm_tik.bin").exists()


def lines_for_the_shell(tmp_path, capsys, size, vm="secret"):
    (tmp_path / "x").write_bytes(bytes(size))
    assert T.main(["secret", "--tik", base64.b64encode(SECRET_TIK).decode(), "--tek",
                   base64.b64encode(SECRET_TEK).decode(), "--measurement", BLOB, "--vm", vm,
                   "--secret", f"{GUID1}:{tmp_path}/x", str(tmp_path / "h"),
                   str(tmp_path / "p")]) == 0
    return [x for x in capsys.readouterr().out.splitlines() if not x.startswith("wrote")]


@pytest.mark.parametrize("size, count", [(1, 1), (40, 1), (200, 3), (16344, 94)])
def test_lines_for_the_shell(tmp_path, capsys, size, count):
    """None is longer than a line of the shell (core/shell.h); together they are the packet."""
    lines = lines_for_the_shell(tmp_path, capsys, size)
    assert len(lines) == count and max(map(len, lines)) <= 255
    payload, header = b"", None
    for i, line in enumerate(lines):
        words = line.split()
        assert words[:3] == ["vm", "secret", "secret"]
        if i < len(lines) - 1:
            assert words[3] == "+" and len(words) == 5
        else:
            header = base64.b64decode(words[3], validate=True)
        if len(words) == 5:
            payload += base64.b64decode(words[4], validate=True)
    assert header == (tmp_path / "h").read_bytes()
    assert payload == (tmp_path / "p").read_bytes()


def test_lines_with_a_long_name(tmp_path, capsys):
    assert max(map(len, lines_for_the_shell(tmp_path, capsys, 9000, "n" * 31))) <= 255
    assert T.main(["secret", "--tik", "x", "--tek", "x", "--measurement", BLOB, "--vm", "a b",
                   "--secret", "x:x", "h", "p"]) == 1
    assert "no name of a VM" in capsys.readouterr().err


def test_hexadecimal(tmp_path, capsys):
    """As Ravelin logs it. 64 digits are 32 bytes, though they could be base64 of 48."""
    blob = base64.b64decode(BLOB)
    value, nonce = blob[:32].hex(), blob[32:].hex()
    for text in (value, value + nonce, f"{value} {nonce}"):
        assert T.from_file_or_base64(text, "x", 32, 48) == blob[:32 if text == value else 48]
    (tmp_path / "f").write_text(value + "\n" + nonce + "\n")
    assert T.from_file_or_base64(str(tmp_path / "f"), "x", 32, 48) == blob
    with pytest.raises(T.Refused, match="32 bytes, 48 are needed"):
        T.from_file_or_base64(value, "x", 48)


# --- AMD's certificates ---

def amd_certificate(key, usage, signer):
    """ASK or ARK: SEV API, appendix B."""
    numbers = key.public_key().public_numbers()
    size = key.key_size // 8
    data = bytearray(64)
    struct.pack_into("<I", data, 0x24, usage)
    struct.pack_into("<II", data, 0x38, key.key_size, key.key_size)
    data += numbers.e.to_bytes(size, "little") + numbers.n.to_bytes(size, "little")
    return bytes(data) + amd_signature(signer, bytes(data))[::-1]


def amd_signature(key, data):
    digest = hashes.SHA384() if key.key_size == 4096 else hashes.SHA256()
    return key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)


@pytest.mark.parametrize("bits", [2048, 4096])
def test_chain_up_to_amd(tmp_path, capsys, bits):
    """With the CEK as the processor gives it, unsigned, and as AMD does."""
    good = chain()
    ark, ask = (rsa.generate_private_key(65537, bits) for _ in range(2))
    (tmp_path / "amd").write_bytes(amd_certificate(ask, T.USAGE_ASK, ark) +
                                   amd_certificate(ark, T.USAGE_ARK, ark))
    cek = bytearray(good[3])
    struct.pack_into("<II", cek, 0x414, T.USAGE_ASK, 1)
    cek[0x41C:0x41C + bits // 8] = amd_signature(ask, bytes(cek[:0x414]))[::-1]
    (tmp_path / "cek").write_bytes(cek)
    (tmp_path / "platform").write_text(printed(good))
    args = ["verify", str(tmp_path / "platform"), "--amd", str(tmp_path / "amd")]
    assert T.main(args) == 1
    assert "CEK: not signed by a ASK" in capsys.readouterr().err
    args += ["--cek", str(tmp_path / "cek")]
    assert T.main(args) == 0
    assert "CEK is signed by AMD's ASK" in capsys.readouterr().out
    cek[0x41C] ^= 1
    (tmp_path / "cek").write_bytes(cek)
    assert T.main(args) == 1
    assert "bad signature of the ASK" in capsys.readouterr().err
    (tmp_path / "cek").write_bytes(chain()[3])  # another chip's
    assert T.main(args) == 1
    assert "PEK: bad signature of the CEK" in capsys.readouterr().err
