# SPDX-License-Identifier: BSD-2-Clause
"""Unmodified Debian kernels as SEV-ES guests by direct launch."""

import re
import shutil
import subprocess

import pytest

import es
from harness import BUILD, TREE, host_section, linux_files, vm_section

pytestmark = pytest.mark.qemu("needs the secure processor of the patched QEMU")

BAD = r"Kernel panic|RV-FAIL|BUG:|Oops"
LOADER = {"sev-loader": "loader.bin"}


def section(cpus=1, test="dmesg", **keys):
    keys = {**LOADER, **keys}
    keys.setdefault("policy", "nodbg,noks")
    return vm_section("secret", kernel="vmlinuz", initrd="initrd.img",
                      cmdline=f"console=ttyS0 rv.test={test}", memory="256M", cpus=cpus,
                      sev="es", **keys)


PLAIN = vm_section("plain", kernel="vmlinuz", initrd="initrd.img",
                   cmdline="console=ttyS0 rv.test=boot", memory="256M", cpus=1)


@pytest.fixture
def linux(machine, tmp_path):
    """Starts Ravelin with a Linux guest; also leaves its files in tmp_path, for the tool."""
    def start(conf, kernel="6.12", loader=None, psp="", more=None, **kw):
        files = {**linux_files(kernel), **(more or {})}
        files["loader.bin"] = BUILD / "guest-pv" / "loader.bin"
        if loader is not None:
            files["loader.bin"] = tmp_path / "changed.bin"
            files["loader.bin"].write_bytes(loader)
        conf = host_section() + conf
        folder = tmp_path / "files"
        folder.mkdir()
        for name, path in files.items():
            (folder / name).symlink_to(path)
        (folder / "ravelin.conf").write_text(conf)
        m = machine(conf, files, qemu=es.sev_qemu(), accel="tcg,thread=single", cpu="EPYC",
                    memory="1G", smp=2, extra=[*es.LINUX_MACHINE[:-1], es.LINUX_MACHINE[-1] + psp],
                    **kw)
        m.boot(180)
        m.folder = folder
        return m
    return start


def launched(m):
    """The measurement and its nonce, as the processor gave them."""
    m.command("vm start secret", 180)
    return es.measured(m, "secret").split()


def computed(m, nonce):
    """What the tool says beforehand; only the nonce is the processor's."""
    out = subprocess.run([TREE / "tools" / "ravelin-sev", "measure", m.folder / "ravelin.conf",
                          "secret", "--nonce", nonce], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    return re.search(r"measurement ([0-9a-f]{64})", out).group(1)


@pytest.mark.parametrize("kernel, cpus", [
    ("6.12", 2), pytest.param("6.12", 1, marks=pytest.mark.full),
    pytest.param("6.12", 4, marks=pytest.mark.full), pytest.param("6.1", 2, marks=pytest.mark.full)])
def test_debian_boots_and_is_measured(linux, kernel, cpus):
    """P: SEV-ES in its log, measurement as computed, a plain Linux beside it."""
    m = linux(section(cpus=cpus) + PLAIN, kernel)
    measured, nonce = launched(m)
    assert measured == computed(m, nonce)
    m.console("secret")
    m.expect(r"ravelin-loader: kernel, initrd and command line are as measured", 120, never=BAD)
    m.expect(r"Memory Encryption Features active: AMD SEV SEV-ES", 240, never=BAD)
    m.expect(rf"^RV-CPUS {cpus} online", 240, never=BAD)
    m.expect(r"^RV-DMESG-END$", 240, never=BAD)
    m.shell()
    m.command("vm start plain", 120)
    m.console("plain")
    m.expect(r"^RV-CPUS 1 online 0$", 240, never=BAD)
    m.shell()
    out = m.command("vm list")
    assert re.search(r"^secret +running .* es", out, re.M), out
    assert "violation" not in m.errors()


def test_secret_is_read_in_the_guest(linux, tmp_path, platform):
    """P: certificates, session, measurement, packet, by the owner's program alone; the unmodified
    kernel has the secret as a file. N: a packet for the launch before."""
    owner = es.Owner(tmp_path, platform.text)
    store = tmp_path / "flash"
    shutil.copyfile(platform.flash, store)
    m = linux(section(cpus=2, test="secret", **{"sev-secret": "wait"}, **owner.keys),
              more=owner.files, psp=f",nv-file={store}")
    value = " ".join(launched(m))
    lines = owner.packet("secret", value, "what only the owner knows")
    assert re.search(r"^secret +waiting +2 +256M +es +for its owner's secret",
                     m.command("vm list"), re.M)
    assert "the measurement is the expected one" in \
        owner.measurement(m.folder / "ravelin.conf", "secret", value)
    m.command("vm reset secret", 180)
    value = es.measured(m, "secret")
    assert "BAD_MEASUREMENT" in m.command(lines[-1])
    text = "x" * 300 + " what only the owner knows"
    for line in owner.packet("secret", value, text):
        assert "refused" not in m.command(line)
    m.console("secret")
    m.expect(r"Memory Encryption Features active: AMD SEV SEV-ES", 240, never=BAD)
    m.expect(rf"^RV-SECRET {owner.GUID} mode 400 '{text}'$", 240, never=BAD)
    m.expect(r"^RV-DONE secret$", 60)
    m.shell()
    es.clean(m, guests=1)


@pytest.mark.parametrize("part, reason", [("kernel", 3), ("initrd", 4), ("cmdline", 5)])
def test_changed_file_is_refused_by_the_loader(linux, part, reason):
    """N: one byte changes behind the measurement; the loader says which file and ends the VM."""
    m = linux(section(), image=es.hooks_image())
    assert "hooks 0x" in m.command(f"eshook {part}-byte")
    m.line("vm start secret")
    m.expect(rf"vm secret: vcpu 0 stopped: .*set 6, reason 0x{reason}:.*\n", 120,
             never="Linux version")
    m.expect("state protected", 30)
    m.sync()
    assert re.search(r"^secret +crashed ", m.command("vm list"), re.M)
    m.console("secret")
    name = {"cmdline": "command line"}.get(part, part)
    m.expect(f"ravelin-loader: refused: the {name} is not the one that was measured", 30)


def test_changed_loader_or_vmsa_is_measured(linux):
    """N: the measurement is another one than that of the files as they were."""
    image = bytearray((BUILD / "guest-pv" / "loader.bin").read_bytes())
    image[-1] ^= 1
    m = linux(section(), loader=bytes(image), image=es.hooks_image())
    measured, nonce = launched(m)
    assert measured == computed(m, nonce)
    (m.folder / "loader.bin").unlink()
    (m.folder / "loader.bin").symlink_to(BUILD / "guest-pv" / "loader.bin")
    assert measured != computed(m, nonce)
    m.command("vm stop secret")
    m.command("eshook vmsa-byte")
    measured, nonce = launched(m)
    (m.folder / "loader.bin").unlink()
    (m.folder / "loader.bin").write_bytes(bytes(image))
    assert measured != computed(m, nonce)
