# SPDX-License-Identifier: BSD-2-Clause
"""The built image itself: size, and no memory that is writable and executable."""

import re
import subprocess

from harness import BUILD, TREE, media


def readelf(*args):
    return media.run("readelf", *args)


def test_size():
    assert (BUILD / "ravelin.elf").stat().st_size <= 256 * 1024


def code_lines(path):
    """Lines that are neither empty nor comment."""
    text = path.read_text()
    if path.suffix == ".asm":
        return sum(1 for line in text.splitlines() if re.match(r"\s*[^\s;]", line))
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    return sum(1 for line in text.splitlines() if re.sub(r"//.*", "", line).strip())


def test_the_core_is_small():
    files = [path for folder in ("core", "arch/x86/svm") for path in (TREE / folder).iterdir()
             if path.suffix in (".c", ".h", ".asm")]
    assert len(files) > 60
    assert sum(map(code_lines, files)) < 10000


def test_no_segment_is_writable_and_executable():
    rows = re.findall(r"^  (\w+) +0x\S+ 0x\S+ 0x\S+\s+0x\S+ 0x\S+ ([RWE ]{3})",
                      readelf("-lW", BUILD / "ravelin.elf"), re.M)
    loads = [flags for kind, flags in rows if kind == "LOAD"]
    assert len(loads) >= 2, rows
    assert any("E" in flags for flags in loads)
    assert not [flags for flags in loads if "W" in flags and "E" in flags]


def link(tmp_path, source, script):
    """Link a source as the Makefile does, with that linker script; (status, messages)."""
    (tmp_path / "bad.asm").write_text(source)
    (tmp_path / "bad.ld").write_text(script)
    media.run("nasm", "-f", "elf64", "-o", tmp_path / "bad.o", tmp_path / "bad.asm")
    flags = re.search(r"^LDFLAGS := ((?:.*\\\n)*.*)", (TREE / "Makefile").read_text(), re.M)
    words = flags.group(1).replace("\\\n", " ").replace("linker.ld", "bad.ld").split()
    done = subprocess.run(["ld", *words, tmp_path / "bad.o", "-o", tmp_path / "bad.elf"],
                          cwd=tmp_path, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


START = "section .text\nglobal mb2_entry\nmb2_entry: mov rax, data\nret\n"
DATA = "section .data\ndata: dq 0\n"


def test_link_fails_on_memory_that_is_writable_and_executable(tmp_path):
    """The build refuses such an image, not only this test."""
    script = (TREE / "linker.ld").read_text()
    status, text = link(tmp_path, START + DATA, script)
    assert status == 0, f"even a good one does not link: {text}"
    loose = re.sub(r"(PT_LOAD\s+FLAGS)\([56]\)", r"\1(7)", script)
    assert loose != script
    status, text = link(tmp_path, START + DATA, loose)
    assert status and "RWX" in text, "a segment that is writable and executable was linked"


def test_efi_application():
    head = media.run("objdump", "-h", "-f", BUILD / "ravelin.efi")
    assert "pei-x86-64" in head
    sections = re.findall(r"^ +\d+ (\S+) .*\n +(.*)$", head, re.M)
    assert sections
    assert not [s for s in sections if "CODE" in s[1] and "READONLY" not in s[1]]
