# SPDX-License-Identifier: BSD-2-Clause
"""Host memory encryption (`memory-encryption = yes`): row 30 of docs/sev-es.md.

The RAM of the SEV machine holds what the chips of a real one would: `es.dump()` is ciphertext where
a page is encrypted. The checkers are fatal, and caches are not coherent over keys.
"""

import re
import struct

import pytest

import es
from harness import BUILD, guest, host_section, linux_files, vm_section

pytestmark = pytest.mark.qemu("needs the secure processor of the patched QEMU")

ON = {"memory-encryption": "yes"}
ENCRYPTED = "memory: encrypted with the host's key, C-bit 51"
PLAIN = vm_section("plain", kernel="hello.elf", memory="32M", cpus=1, autostart="no", cmdline="one",
                   **{"debug-exit": "yes"})


@pytest.fixture
def guests(machine, tmp_path):
    """A machine with SEV-ES guests and a plain one: see es.start()."""
    def start(what, host=None, **kw):
        kw.setdefault("image", es.hooks_image())
        return es.start(machine, what, tmp_path, host=ON if host is None else host,
                        extra_sections=PLAIN, files={"hello.elf": guest("hello")}, **kw)
    return start


def ends_well(m, name, timeout=180):
    out = m.run_guest(name, timeout=timeout)
    assert "FAIL" not in out and "is off" in out, out
    return out


def test_row30_host_registers(guests):
    """P: ES guests on two CPUs and a plain one; the host keeps all its registers."""
    m = guests({"a": (11, 20000, {"affinity": 0}), "b": (118, {"affinity": 1}),
                "c": (27, 2, {"cpus": 2})})
    assert ENCRYPTED in m.command("log dmesg")
    assert "hooks 0x" in m.command("eshook check")
    for name in "abc":
        assert "0 failed" in ends_well(m, name, 600)
    assert 'cmdline "one"' in ends_well(m, "plain")
    out = m.command("eshook")
    assert int(re.search(r"(\d+) entries checked", out)[1]) > 50000, out
    assert "was not kept" not in m.command("log dmesg")
    es.clean(m)
    assert "all right" in m.command("psp test 20", 120)


def test_row30_save_area_without_c_bit(guests):
    """N: VM_HSAVE_PA without the C-bit, VMSAVE with it: the host comes back with garbage, and the
    check says so."""
    m = guests({"a": (0, {"affinity": 0})}, fatal=False)
    assert "hooks 0x" in m.command("eshook hsave-plain")
    m.run_guest("a", timeout=180)
    m.pump(1)
    m.sync()
    log = m.command("log dmesg")
    assert set(re.findall(r"eshook: (r\S+) was not kept", log)) == \
        {"rbx", "rbp", "r12", "r13", "r14", "r15"}, log
    assert "eshook: a host register was not kept" in log


@pytest.mark.parametrize("on", [True, False])
def test_row30_what_the_chips_hold(guests, tmp_path, on):
    """What guests and hypervisor write is ciphertext in the chips; plain text when it is off."""
    m = guests({"a": (8,)}, host=ON if on else {}, fatal=False)
    m.command("vm start plain")
    m.run_guest("a", end="es: hidden")
    # The dump goes over the security processor's own region, which nobody else may.
    assert "violation" not in m.errors()
    dump = es.dump(m, tmp_path / "ram")
    # Shared with the hypervisor, so not the guest's key, but the host's.
    assert (b"SharedMarker" * 4 in dump) != on
    assert b"PrivateMarker" not in dump
    # Page tables of the hypervisor: the direct map's entries for four pages of 2 MiB.
    for bits in (0x80000000000001e3, 0x88000000000001e3):
        entries = struct.pack("<4Q", *(bits | a << 20 for a in range(128, 136, 2)))
        assert (entries in dump) == (not on and bits >> 59 == 16)


DEBIAN = vm_section("debian", kernel="vmlinuz", initrd="initrd.img", memory="256M", cpus=2,
                    cmdline="console=ttyS0 rv.test=boot", autostart="no")
SECRET = vm_section("secret", kernel="vmlinuz", initrd="initrd.img", memory="256M", cpus=2,
                    cmdline="console=ttyS0 rv.test=dmesg", sev="es", policy="nodbg,noks",
                    autostart="no", **{"sev-loader": "loader.bin"})
# A dump goes over the security processor's region. OVMF places devices where one address bit fewer
# would not reach.
NOT_FATAL = [x.replace("fatal=on", "fatal=off,phys-reduction=0") for x in es.LINUX_MACHINE]
BAD = r"Kernel panic|RV-FAIL|BUG:|Oops"


@pytest.mark.parametrize("door", [None, pytest.param("efi", marks=pytest.mark.full)])
def test_row30_debian(machine, tmp_path, door):
    """Unmodified Linux, plain and as SEV-ES guest, two CPUs. What it unpacks is in no chip."""
    files = dict(linux_files("6.12"))
    files["loader.bin"] = BUILD / "guest-pv" / "loader.bin"
    m = machine(host_section(**ON) + DEBIAN + SECRET, files, qemu=es.sev_qemu(),
                accel="tcg,thread=single", cpu="EPYC", memory="1G", extra=NOT_FATAL, smp=2,
                **({"door": door} if door else {}))
    m.boot(180)
    assert ENCRYPTED in m.command("log dmesg")
    m.command("vm start debian", 60)
    m.console("debian")
    m.expect(r"^RV-CPUS 2 online 0-1$", 240, never=BAD)
    m.shell()
    m.command("vm start secret", 180)
    m.console("secret")
    m.expect(r"Memory Encryption Features active: AMD SEV SEV-ES", 240, never=BAD)
    m.expect(r"^RV-CPUS 2 online", 240, never=BAD)
    m.expect(r"^RV-DMESG-END$", 240, never=BAD)
    m.shell()
    assert "violation" not in m.errors()
    assert b"Linux version 6.12" not in es.dump(m, tmp_path / "ram", 1 << 30)


def test_row30_debian_unencrypted(machine, tmp_path):
    """The same look at the chips with encryption off finds it."""
    m = machine(host_section() + DEBIAN, linux_files("6.12"), qemu=es.sev_qemu(),
                accel="tcg,thread=single", cpu="EPYC", memory="1G", extra=es.LINUX_MACHINE, smp=2)
    m.boot(180)
    m.command("vm start debian", 60)
    m.console("debian")
    m.expect(r"^RV-CPUS 2 online 0-1$", 240, never=BAD)
    m.shell()
    assert b"Linux version 6.12" in es.dump(m, tmp_path / "ram", 1 << 30)


@pytest.mark.parametrize("cpu, memory, words", [
    ("EPYC", ",mem-encrypt=off", "SYSCFG[23] is clear on CPU 0; enable SMEE in firmware setup"),
    ("EPYC", None, "the CPU has no SME (CPUID 8000_001F EAX bit 0)"),
])
def test_row30_refused_with_reason(machine, cpu, memory, words):
    """N: what cannot be is said, and the machine comes up without."""
    extra = []
    if memory is not None:
        extra = ["-object", "sev-memory,id=sev,fatal=on,coherent=off" + memory,
                 *es.FIRMWARE]
    m = machine(host_section(**ON) + PLAIN, {"hello.elf": guest("hello")},
                accel="tcg,thread=single", cpu=cpu, memory="512M", smp=2, extra=extra,
                **({"qemu": es.sev_qemu()} if memory is not None else {}))
    m.boot(180)
    log = m.command("log dmesg")
    assert f"error: memory: not encrypted: {words}" in log
    assert "encrypted with" not in log
    ends_well(m, "plain")


def test_row30_refused_on_one_cpu(guests, tmp_path):
    """N: a CPU without SYSCFG[23] cannot use the others' memory: it is left out, in words. The
    image is changed to look at SYSCFG[24], which is clear: no CPU of this machine can be set alone."""
    image = bytearray(es.hooks_image().read_bytes())
    look = bytes.fromhex("0fbae017") # bt eax, 23
    assert image.count(look) == 1
    image[image.index(look) + 3] = 24
    path = tmp_path / "changed.elf"
    path.write_bytes(image)
    m = guests({}, image=path)
    log = m.command("log dmesg")
    assert ENCRYPTED in log
    assert "smp: CPU with APIC id 1 has SYSCFG[23] clear and cannot use encrypted memory " \
        "(enable SMEE in firmware setup), going on without it" in log
    assert re.search(r"machine: .* 1 CPUs", log)
    ends_well(m, "plain")


def test_row30_other_c_bit(guests):
    """The bit is where CPUID says; more address bits are lost; most memory is above 4 GiB."""
    m = guests({"a": (9,)}, memory=",c-bit=47,phys-reduction=5", image=BUILD / "ravelin.elf",
               machine_memory="5G")
    assert "encrypted with the host's key, C-bit 47" in m.command("log dmesg")
    assert "0 failed" in ends_well(m, "a")
    ends_well(m, "plain")
    es.clean(m)
