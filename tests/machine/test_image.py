# SPDX-License-Identifier: BSD-2-Clause
"""The built image itself: size, and no memory that is writable and executable."""

import re
import subprocess

from harness import BUILD, TREE, media


def readelf(*args):
    return media.run("readelf", *args)


def test_size():
    assert (BUILD / "ravelin.elf").stat().st_size <= 256 * 1024


def test_no_segment_is_writable_and_executable():
    rows = re.findall(r"^  (\w+) +0x\S+ 0x\S+ 0x\S+\s+0x\S+ 0x\S+ ([RWE ]{3})",
                      readelf("-lW", BUILD / "ravelin.elf"), re.M)
    loads = [flags for kind, flags in rows if kind == "LOAD"]
    assert len(loads) >= 2, rows
    assert any("E" in flags for flags in loads)
    assert not [flags for flags in loads if "W" in flags and "E" in flags]


def test_link_fails_on_a_writable_and_executable_segment(tmp_path):
    """The linker script and the build refuse such an image, not only this test."""
    (tmp_path / "bad.asm").write_text(
        "section .text\nglobal bad_text\nbad_text: ret\n"
        "section .badwx progbits alloc exec write\nglobal bad\nbad: dq bad_text\n")
    media.run("nasm", "-f", "elf64", "-o", tmp_path / "bad.o", tmp_path / "bad.asm")
    flags = re.search(r"^LDFLAGS := ((?:.*\\\n)*.*)", (TREE / "Makefile").read_text(), re.M)
    words = flags.group(1).replace("\\\n", " ").split()
    done = subprocess.run(["ld", *words, tmp_path / "bad.o", "-o", tmp_path / "bad.elf"],
                          cwd=TREE, capture_output=True, text=True, check=False)
    assert done.returncode, "a section that is writable and executable was linked"
    assert "badwx" in done.stderr, done.stderr


def test_efi_application():
    head = media.run("objdump", "-h", "-f", BUILD / "ravelin.efi")
    assert "pei-x86-64" in head
    sections = re.findall(r"^ +\d+ (\S+) .*\n +(.*)$", head, re.M)
    assert sections
    assert not [s for s in sections if "CODE" in s[1] and "READONLY" not in s[1]]
