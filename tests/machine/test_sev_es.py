# SPDX-License-Identifier: BSD-2-Clause
"""SEV-ES guests on Ravelin: the rows of docs/sev-es.md by name, and a launch failing in each way."""

import pytest

import es


@pytest.fixture
def guests(machine, tmp_path):
    """Starts a machine with SEV-ES guests: see es.start()."""
    def start(what, **kw):
        return es.start(machine, what, tmp_path, **kw)
    return start


def test_row16_termination(guests):
    """P: the reason in the log, the VM gone, its resources back."""
    m = guests({"a": (16, 1, 0x42)})
    m.command("vm start a")
    m.expect(r"terminated by the guest.*\n", 30)
    out = m.command("vm list")
    assert "crashed" in out, out
    assert es.count(m, "vmrun-es") > 0
    es.clean(m)
