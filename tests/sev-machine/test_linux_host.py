# SPDX-License-Identifier: GPL-2.0-or-later
"""The judge: Debian's unmodified kernel 6.12 with ccp and kvm_amd, its selftests, and Debian's
QEMU and OVMF booting Linux as a guest under that KVM."""

import re

import pytest

import linuxhost

SELFTEST_SCRIPT = """#!/bin/sh
for t in sev_init2_tests sev_smoke_test; do
	echo "SELFTEST $t"
	timeout 100 /bin/$t && echo "SELFTEST $t passed" || echo "SELFTEST $t failed: $?"
done
"""

PEER_SCRIPT = """#!/bin/sh
timeout ${GUEST_TIMEOUT:-600} qemu-system-x86_64 -nodefaults -display none -serial stdio \\
	-machine q35,confidential-guest-support=sev0 -accel kvm -cpu EPYC -m 256 \\
	-smp $GUEST_CPUS -no-reboot \\
	-object sev-guest,id=sev0,policy=$GUEST_POLICY,cbitpos=51,reduced-phys-bits=1 \\
	-drive if=pflash,format=raw,unit=0,file=/usr/share/OVMF/OVMF_CODE.fd,readonly=on \\
	-drive if=pflash,format=raw,unit=1,file=/usr/share/OVMF/OVMF_VARS.fd \\
	-kernel /vmlinuz -initrd /l2.cpio -append "console=ttyS0 loglevel=4"
echo "PEER status $?"
"""


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    return linuxhost.initramfs(tmp_path_factory.mktemp("plain"), SELFTEST_SCRIPT)


@pytest.fixture(scope="session")
def peer(tmp_path_factory):
    return linuxhost.initramfs(tmp_path_factory.mktemp("peer"), PEER_SCRIPT, peer=True)


@pytest.fixture(scope="session")
def idle(tmp_path_factory):
    return linuxhost.initramfs(tmp_path_factory.mktemp("idle"), "#!/bin/sh\n")


@pytest.mark.parametrize("cpus,encrypt", [(1, "off"), (2, "on")])
def test_selftests(plain, cpus, encrypt):
    """The kernel's own sev_init2_tests and sev_smoke_test pass, with and without SME."""
    log = linuxhost.boot(plain, cpus=cpus, append=f"mem_encrypt={encrypt}", sev="fatal=on",
                         timeout=300)
    assert "L1: end" in log, log[-3000:]
    assert ("Memory Encryption Features active: AMD SME" in log) == (encrypt == "on"), log
    assert "SELFTEST sev_init2_tests passed" in log, log[-3000:]
    assert "SELFTEST sev_smoke_test passed" in log, log[-3000:]
    assert "violation" not in log, log


@pytest.mark.parametrize("max_asid,min_asid,c_bit", [(15, 5, 51), (509, 100, 47)])
def test_asid_ranges(idle, max_asid, min_asid, c_bit):
    """ccp starts the security processor; kvm_amd reports the configured ASIDs."""
    log = linuxhost.boot(idle, sev=f"max-asid={max_asid},min-sev-asid={min_asid},c-bit={c_bit}")
    assert re.search(r"ccp .*SEV API:", log), log[-3000:]
    assert f"SEV enabled (ASIDs {min_asid} - {max_asid})" in log
    assert f"SEV-ES enabled (ASIDs 1 - {min_asid - 1})" in log
    assert "kvm_amd sev=Y" in log and "kvm_amd sev_es=Y" in log


@pytest.mark.parametrize("sev,es,options", [
    ("Y", "N", "min-sev-asid=1"),       # no ASID is left for ES guests
    ("N", "N", "smm-lock=off"),
    ("N", "N", "mem-encrypt=off"),
    ("Y", "N", "sev-es=off"),
    ("N", "N", "sev=off"),
])
def test_not_offered(idle, sev, es, options):
    """KVM refuses what the machine does not offer."""
    log = linuxhost.boot(idle, sev=options)
    assert f"kvm_amd sev={sev}" in log, log[-3000:]
    assert f"kvm_amd sev_es={es}" in log


def test_without_the_object(idle):
    """The emulator without sev-memory is a plain machine."""
    log = linuxhost.boot(idle, sev=None)
    assert "kvm_amd sev=N" in log, log[-3000:]
    assert not re.search(r"L1: flags .*\bsme\b", log)


@pytest.mark.full
@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize("policy", [5, 1])
def test_linux_guest(peer, cpus, policy):
    """Debian's QEMU and OVMF boot Linux to user space, as SEV-ES guest (policy 5) and SEV (1)."""
    log = linuxhost.boot(peer, memory=2048, sev="fatal=on", timeout=1500,
                         append=f"GUEST_CPUS={cpus} GUEST_POLICY={policy} GUEST_TIMEOUT=1200")
    features = "SEV SEV-ES" if policy == 5 else "SEV"
    assert re.search(rf"L2: .*Memory Encryption Features active: AMD {features}\s*$", log, re.M), \
        log[-4000:]
    assert f"L2: user space, cpus={cpus}" in log
    assert "PEER status 0" in log
