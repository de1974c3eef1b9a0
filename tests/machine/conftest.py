# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures of the machine tests, and what a failed test shows of its consoles."""

import os
import pathlib
import re
import sys
import types

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import bochs          # noqa: E402  pylint: disable=wrong-import-position
import es             # noqa: E402  pylint: disable=wrong-import-position
import harness        # noqa: E402  pylint: disable=wrong-import-position


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true",
                     help="also what takes too long for every push (the whole boot matrix)")


def not_for_bochs(item):
    """Why the test makes sense in QEMU only, or None. The reasons stand in docs/test-machines.md."""
    marker = item.get_closest_marker("qemu")
    if marker:
        return marker.args[0]
    params = item.callspec.params.values() if hasattr(item, "callspec") else ()
    words = [word for p in params for word in (p if isinstance(p, tuple) else (p,))]
    return "boots by UEFI" if "efi" in words or "grub-uefi" in words else None


def pytest_configure(config):
    config.addinivalue_line("markers", "qemu(reason): not where RAVELIN_EMULATOR is bochs")
    config.addinivalue_line("markers", "full: only with --full")
    config.addinivalue_line("markers", "needs(file): skipped-as-failed if a built file is missing")


def pytest_collection_modifyitems(config, items):
    full = config.getoption("--full") or os.environ.get("RAVELIN_FULL")
    kept, left = [], []
    for item in items:
        out = (not full and item.get_closest_marker("full")) or (
            bochs.chosen() and not_for_bochs(item))
        (left if out else kept).append(item)
    # Deselected rather than skipped: a plain run reports no skips.
    config.hook.pytest_deselected(items=left)
    items[:] = kept


class Factory:
    """Starts machines for one test and stops them all at its end."""

    def __init__(self, test):
        self.test = re.sub(r"[^A-Za-z0-9_.-]+", "_", test).strip("_")
        self.running = []

    def add(self, made):
        self.running.append(made)
        return made.start()

    def name(self, kw):
        kw.setdefault("name", self.test + (f"-{len(self.running)}" if self.running else ""))
        return kw

    def __call__(self, conf, files=None, **kw):
        if bochs.chosen():
            # The same tests on Intel. Memory is Bochs's own default: some tests give QEMU little.
            kept = {key: kw[key] for key in ("smp", "name", "cmdline") if key in kw}
            kept.setdefault("smp", 2)
            return self.bochs(conf, files, cpu=bochs.chosen(), **kept)
        return self.add(harness.Machine(conf, files, **self.name(kw)))

    def plain(self, kernel, **kw):
        return self.add(harness.Plain(kernel, **self.name(kw)))

    def bochs(self, conf, files=None, **kw):
        return self.add(bochs.Bochs(conf, files, **self.name(kw)))

    def stop(self):
        for made in self.running:
            made.stop()


@pytest.fixture
def machine(request):
    """Factory of machines: machine(conf, files, door=..., smp=...), machine.plain(kernel),
    machine.bochs(conf, files, cpu=bochs.INTEL)."""
    factory = Factory(request.node.name)
    request.node.machines = factory
    yield factory
    factory.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    factory = getattr(item, "machines", None)
    if call.when == "call" and report.failed and factory:
        for made in factory.running:
            errors = made.errors().strip()
            text = f"full log: {made.log_path}\n{made.tail(60)}"
            report.sections.append((f"console of {made.name}", text))
            if errors:
                report.sections.append((f"emulator of {made.name}", errors[-2000:]))


@pytest.fixture(scope="session")
def platform(tmp_path_factory):
    """A machine's identity, for owners: .text is what `psp cert` prints, .flash holds it."""
    directory = tmp_path_factory.mktemp("platform")
    factory = Factory("platform")
    try:
        flash = directory / "flash"
        flash.write_bytes(b"\xff" * 0x8000)
        m = es.start(factory, {}, directory, psp=f",nv-file={flash}")
        return types.SimpleNamespace(text=m.command("psp cert", 120), flash=flash)
    finally:
        factory.stop()
