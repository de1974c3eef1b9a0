# SPDX-License-Identifier: BSD-2-Clause
"""The owner's secret for an SEV-ES guest: certificates by the shell, a session for this machine, a
launch that waits, and each way in which it goes wrong. With Linux: test_sev_linux.py."""

import base64
import re
import shutil

import pytest

import es
from harness import guest, vm_section

pytestmark = pytest.mark.qemu("needs the secure processor of the patched QEMU")

PLACE = 0x800000
HEADER_AND_TABLE = 40   # bytes of the table in front of the first secret's text
PLAIN = vm_section("plain", kernel="hello.elf", memory="32M", cpus=1, autostart="yes",
                   **{"debug-exit": "yes"})
HELLO = {"hello.elf": guest("hello")}
TEXT = "a passphrase that its owner chose"


@pytest.fixture(name="owned")
def fixture_owned(machine, tmp_path, platform):
    """Starts a machine of that platform; its guests print the secret (es_guest.c, test 35)."""
    def start(what, owner=None, psp="", files=None, place=PLACE, **kw):
        owner = owner or es.Owner(tmp_path, platform.text)
        store = tmp_path / "flash"
        shutil.copyfile(platform.flash, store)
        guests = {}
        for name, keys in what.items():
            keys = {**owner.keys, "sev-secret": "wait", "sev-secret-gpa": hex(place), **keys}
            guests[name] = (35, place + HEADER_AND_TABLE, keys)
        return es.start(machine, guests, tmp_path, psp=f",nv-file={store}" + psp,
                        files={**HELLO, **owner.files, **(files or {})}, **kw), owner
    return start


def give(m, lines, name="a"):
    """All the lines of a packet; what the last one answers."""
    for line in lines[:-1]:
        assert m.command(line) == ""
    return m.command(lines[-1])


def printed(m, name="a", timeout=60):
    """What the guest says that its secret is."""
    m.console(name)
    found = m.expect(r"es: secret '([^']*)'", timeout)[1]
    m.shell()
    es.wait_state(m, name, "off", timeout)
    return found


def waits(m, name="a"):
    return re.search(rf"^{name} +waiting .* es +for its owner's secret", m.command("vm list"), re.M)


def test_from_certificate_to_secret(owned, tmp_path, platform):
    """P: the packet is made for this launch and read in the guest; meanwhile another VM runs. What
    was typed is in no log, trace, history or memory afterwards."""
    m, owner = owned({"a": {"autostart": "yes"}, "b": {"autostart": "yes"}}, fatal=False,
                     extra_sections=PLAIN)
    (tmp_path / "platform").write_text(platform.text)
    assert "are signed as they must be" in es.tool("verify", tmp_path / "platform")
    assert re.match(r"chip (?!0+\n)[0-9a-f]{128}\n-----BEGIN", platform.text), platform.text[:200]
    es.wait_state(m, "plain", "off")        # it came behind those that wait
    assert waits(m) and waits(m, "b")
    value = es.measured(m, "a")
    (tmp_path / "ravelin.conf").write_text(m.conf)
    assert "the measurement is the expected one" in \
        owner.measurement(tmp_path / "ravelin.conf", "a", value)
    lines = owner.packet("a", value, TEXT * 20)
    packet = owner.base.with_suffix(".payload").read_bytes() + \
        owner.base.with_suffix(".header").read_bytes()[4:]
    assert len(lines) > 2
    m.command("trace on")
    assert give(m, lines) == ""
    assert printed(m) == TEXT * 20
    m.command("trace off")
    assert waits(m, "b")
    words = [word for line in lines for word in line.split()[3:] if word != "+"]
    seen = m.command("log dmesg") + m.command("trace show 100000", 120)
    m.send("\x1b[A" * 8)
    m.pump(2)
    seen += m.text[m.mark:]
    m.send("\x15")
    ram = es.dump(m, tmp_path / "ram")
    pieces = [word[at:at + 16] for word in words for at in range(0, len(word) - 16, 16)]
    assert len(pieces) > 40 and not [text for text in pieces if text in seen]
    secrets = [text.encode() for text in pieces] + \
        [packet[at:at + 16] for at in range(0, len(packet), 16)]
    assert not [data for data in secrets if data in ram]


def test_row30_by_an_encrypted_host(owned, platform):
    """P: what the processor reads and writes for all of this is the host's encrypted memory."""
    m, owner = owned({"a": {}}, host={"memory-encryption": "yes"})
    assert "encrypted with" in m.command("mem")
    assert m.command("psp cert", 120) == platform.text
    m.command("vm start a")
    assert give(m, owner.packet("a", es.measured(m, "a"), TEXT)) == ""
    assert printed(m) == TEXT
    es.clean(m)


def test_refused_and_then_the_right_one(owned, tmp_path, platform):
    """N: packets for another nonce, with other keys, damaged, no base64, too long. The VM waits on,
    and takes the right one."""
    room = 64
    m, owner = owned({"a": {}}, place=(16 << 20) - room)
    def packet(by, value, text="x" * 20):
        return by.packet("a", value, text)[-1].split()[3:]
    m.command("vm start a")
    last = packet(owner, es.measured(m, "a"))
    m.command("vm reset a")
    value = es.measured(m, "a")
    header, payload = packet(owner, value)
    assert len(base64.b64decode(payload)) == room
    long = packet(owner, value, "x" * 60)
    bad_mac = header[:60] + ("B" if header[60] != "B" else "A") + header[61:]
    for words, answer in (
            (last, "0xb BAD_MEASUREMENT: not made with these keys, for this policy or for this "
                   "launch; make it anew"),
            (packet(es.Owner(tmp_path, platform.text, "other"), value), "0xb BAD_MEASUREMENT"),
            ((bad_mac, payload), "LAUNCH_SECRET failed: 0xb BAD_MEASUREMENT"),
            ((header, last[1]), "LAUNCH_SECRET failed: 0xb BAD_MEASUREMENT"),
            ((header, long[1]), "the payload is longer than its place of 64 bytes; pack less"),
            ((header, "AAAA"), "payload has 3 bytes; its place takes 16 to 64, in steps of 16"),
            ((header,), "payload has 0 bytes"),
            (("garbage", payload), "the header is not 52 bytes in base64"),
            (("+", "?"), "the payload is no base64"),
            ((header, payload[:-1]), "the payload is no base64, or cut within a group of four")):
        out = m.command("vm secret a " + " ".join(words))
        assert answer in out, (words, out)
        assert "a: refused, error" in out and "it still waits" in out, out
        assert waits(m), words
    es.clean(m, guests=1)
    m.command(f"vm secret a {header} {payload}")
    assert printed(m) == "x" * 20
    es.clean(m)


def test_stopped_while_it_waits(owned):
    """Stop, destroy, reset: nothing stays, and each launch has a nonce of its own."""
    m, owner = owned({"a": {}, "b": {}}, memory=",min-sev-asid=3")
    for name in "ab":
        m.command(f"vm destroy {name}")
    frames = m.command("mem").splitlines()[1]
    seen = set()
    for how in ("stop", "destroy", "reset") * 3:
        for name in "ab":
            m.command(f"vm start {name}", 120)
            assert waits(m, name)
            seen.add(es.measured(m, name))
            assert m.command(f"vm secret {name} + AAAA") == ""
        for name in "ab":
            m.command(f"vm {how} {name}", 120)
            assert bool(waits(m, name)) == (how == "reset")
            if how == "reset":
                m.command(f"vm stop {name}")
            elif how == "stop":
                assert re.search(rf"^{name} +off +1 +16M +es *$", m.command("vm list"), re.M)
            assert "is not in a launch that waits" in m.command(f"vm secret {name} none") \
                or how == "destroy"
    assert len(seen) == 18
    for name in "ab":
        m.command(f"vm destroy {name}")
    es.clean(m)
    assert m.command("mem").splitlines()[1] == frames
    m.command("vm start a")
    m.command(owner.packet("a", es.measured(m, "a"), TEXT)[-1])
    assert printed(m) == TEXT


def test_who_gets_no_secret(owned):
    """N: a plain VM, one that is not there, one that runs. P: none goes on without."""
    m, owner = owned({"a": {}}, extra_sections=PLAIN.replace("autostart = yes", "autostart = no"))
    for name, words in (("plain", "is no SEV-ES guest"), ("x", "no such VM"),
                        ("a", "is not in a launch that waits")):
        assert words in m.command(f"vm secret {name} none"), name
    assert "usage: vm" in m.command("vm secret a")
    m.command("vm start a")
    lines = owner.packet("a", es.measured(m, "a"), TEXT)
    assert "not started: it is on; vm reset" in m.command("vm start a")
    assert waits(m)
    assert "is waiting" in m.command("vm nmi a")
    assert "guests are still there" in m.command("psp down")
    m.command("vm secret a none")
    m.console("a")
    m.expect(r"es: secret '", 60)   # and what an unencrypted page looks like
    m.shell()
    es.wait_state(m, "a", "off")
    assert TEXT not in m.text
    assert "is not in a launch that waits" in m.command(lines[-1])
    es.clean(m)


def damaged(path, at, to):
    data = bytearray(base64.b64decode(path.read_bytes()))
    data[at] ^= 1
    to.write_bytes(data)
    return to


def test_damaged_session(owned, tmp_path, platform):
    """N: certificate, wrapped keys, their MAC, policy's MAC: refused in words, nothing leaks."""
    owner = es.Owner(tmp_path, platform.text)
    files = {}
    for name, what, at in (("point", "godh", 0x14), ("algo", "godh", 0x0c),
                           ("keys", "session", 0x10), ("mac", "session", 0x40),
                           ("policy", "session", 0x60)):
        key = {"godh": "sev-cert", "session": "sev-session"}[what]
        files[name] = (key, damaged(tmp_path / f"owner_{what}.b64", at, tmp_path / f"{name}.raw"))
    m, _ = owned({"a": {}, "other": {"policy": "nodbg"},
                  **{name: {key: path.name} for name, (key, path) in files.items()}}, owner,
                 files={path.name: path for _, path in files.values()}, memory=",min-sev-asid=3")
    for name in [*files, "other"]:
        out = m.command(f"vm start {name}", 120)
        words = "INVALID_CERTIFICATE" if name in ("point", "algo") else \
            "BAD_MEASUREMENT: not made with these keys, for this policy"
        assert "psp: LAUNCH_START failed: 0x" in out and words in out, (name, out)
        assert f"vm {name}: SEV-ES launch ended at LAUNCH_START" in out
        assert re.search(rf"^{name} +off ", m.command("vm list"), re.M)
        es.clean(m)
    m.command("vm start a")
    assert waits(m)


def test_by_files(owned, tmp_path, platform):
    """P: a processor that repeats its nonce takes a packet from files. N: one too large."""
    owner = es.Owner(tmp_path, platform.text)
    nonce = ",mnonce=" + "5a" * 16
    keys = {"sev-secret": "secret.payload", "sev-secret-header": "secret.header"}
    m, _ = owned({"a": {}}, owner, psp=nonce)
    m.command("vm start a")
    owner.packet("a", es.measured(m, "a"), TEXT)
    m.stop()
    files = {f"secret.{x}": owner.base.with_suffix(f".{x}") for x in ("header", "payload")}
    m, _ = owned({"a": keys, "b": {**keys, "sev-secret-gpa": hex((16 << 20) - 48)}}, owner,
                 psp=nonce, files=files)
    out = m.command("vm start b")
    assert "secret's payload has 80 bytes; its place takes 16 to 48, in steps of 16" in out, out
    assert "not started" in out
    es.clean(m)
    m.command("vm start a")
    assert printed(m) == TEXT
    es.clean(m)


def test_processor_fails(owned):
    """At each command behind the measurement; and where there is nothing to export."""
    m, owner = owned({"a": {}}, memory=",min-sev-asid=3")
    m.qmp("qom-set", path=es.PSP, property="fault", value="PDH_CERT_EXPORT:0x1*1")
    out = m.command("psp cert")
    assert "psp: PDH_CERT_EXPORT failed: 0x1 INVALID_PLATFORM_STATE" in out and "BEGIN" not in out
    assert "cert: failed" in out
    m.command("vm start a")
    lines = owner.packet("a", es.measured(m, "a"), TEXT)
    m.qmp("qom-set", path=es.PSP, property="fault", value="LAUNCH_SECRET:0x13*1")
    assert "LAUNCH_SECRET failed: 0x13 HWERROR_PLATFORM" in m.command(lines[-1])
    assert waits(m)
    m.qmp("qom-set", path=es.PSP, property="fault", value="LAUNCH_FINISH:0x13*1")
    assert "SEV-ES launch ended at LAUNCH_FINISH" in m.command(lines[-1])
    assert re.search(r"^a +off ", m.command("vm list"), re.M)
    es.clean(m)
    m.command("vm start a")
    m.command(owner.packet("a", es.measured(m, "a"), TEXT)[-1])
    assert printed(m) == TEXT
    es.clean(m)


def test_no_place(owned):
    """N: a flat image names none, and nothing else does."""
    m, _ = owned({"a": {"sev-secret-gpa": None}})
    out = m.command("vm start a")
    assert "no place for it in the guest; set sev-secret-gpa" in out and "not started" in out, out
    es.clean(m)


def test_by_efi(owned):
    """P: the loader that reads the configuration's files knows that `wait` is none."""
    # OVMF places devices at the end of all address bits and does not know that some are lost.
    m, owner = owned({"a": {}}, door="efi", memory=",phys-reduction=0")
    m.command("vm start a")
    assert waits(m)
    m.command(owner.packet("a", es.measured(m, "a"), TEXT)[-1])
    assert printed(m) == TEXT
    log = m.command("log dmesg")
    assert "boot: file owner_session.b64" in log and "could not be read" not in log, log
    es.clean(m)
