# SPDX-License-Identifier: BSD-2-Clause
"""`make run` as a newcomer uses it, with a pipe and with a terminal."""

import os
import pathlib
import subprocess
import sys

import pexpect
import pytest

import harness

pytestmark = pytest.mark.qemu("is about the command that starts QEMU")

RUN = pathlib.Path(__file__).with_name("run.py")
ENV = {**os.environ, "RAVELIN_BUILD": str(harness.BUILD), "TERM": "dumb"}


def spawn(*args):
    child = pexpect.spawn(sys.executable, [str(RUN), *args], env=ENV, encoding="utf-8",
                          codec_errors="replace", timeout=180 * harness.SLOW)
    harness.LOGS.mkdir(parents=True, exist_ok=True)
    child.logfile_read = open(harness.LOGS / "make_run.log", "w", encoding="utf-8")
    return child


@pytest.mark.parametrize("args", [(), ("--guests", "2", "--kernel", "6.12")], ids=["one", "two"])
def test_run_on_a_terminal(args):
    child = spawn(*args)
    try:
        child.expect("To leave:")
        child.expect(r"RV-CPUS 2 online 0-1")
        child.expect("guest# ")
        child.send("uname -r\r")
        child.expect(r"[\r\n]6\.\d+\.\d+\S*-amd64[\r\n]")
        child.send("\x1d")
        child.expect("ravelin> ")
        child.send("vm list\r")
        child.expect(r"debian +running")
        if args:
            child.expect(r"debian2 +running")
        child.send("vm console debian\r")
        child.expect(r"\[debian, serial port 1")
        child.send("\recho back $((1 + 1))\r")
        child.expect(r"[\r\n]back 2[\r\n]")
        child.send("\x1d")
        child.expect("ravelin> ")
        child.send("poweroff\r")
        child.expect(pexpect.EOF, timeout=60 * harness.SLOW)
    finally:
        child.close(force=True)
    assert child.exitstatus == 0


def test_run_with_a_pipe():
    """No terminal: what a script sees."""
    done = subprocess.run([sys.executable, str(RUN), "--timeout", str(int(45 * harness.SLOW))],
                          env=ENV, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", check=False)
    assert "Ctrl-]" in done.stdout
    assert "RV-CPUS 2 online 0-1" in done.stdout, done.stdout[-3000:]
    assert "guest# " in done.stdout


def test_run_names_what_is_wrong():
    done = subprocess.run([sys.executable, str(RUN), "--memory", "lots"], env=ENV, text=True,
                          capture_output=True, check=False)
    assert done.returncode and "lots" in done.stderr


def test_run_sev_on_a_terminal():
    """`make run-sev`: the console is the encrypted guest's; a plain one runs beside it."""
    child = spawn("--sev")
    try:
        child.expect("To leave:")
        child.expect(r"Memory Encryption Features active: AMD SEV SEV-ES")
        child.expect(r"RV-CPUS 2 online 0-1")
        child.expect("guest# ")
        child.send("uname -r\r")
        child.expect(r"[\r\n]6\.12\.\d+\S*-amd64[\r\n]")
        child.send("\x1d")
        child.expect("ravelin> ")
        child.send("vm list\r")
        child.expect(r"secret +running.* es\b")
        child.send("vm regs secret\r")
        child.expect("protected")
        child.expect("ravelin> ")
        child.send("poweroff\r")
        child.expect(pexpect.EOF, timeout=60 * harness.SLOW)
    finally:
        child.close(force=True)
    assert child.exitstatus == 0
