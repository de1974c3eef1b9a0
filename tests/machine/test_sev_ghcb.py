# SPDX-License-Identifier: BSD-2-Clause
"""The GHCB protocol between an SEV-ES guest and Ravelin: rows 12 to 19 of docs/sev-es.md, and a
guest that means harm. tests/guests/es_ghcb.c is the guest; more of each row is in
tests/unit/test_ghcb.c and test_ghcb_fuzz.c. Rows 5, 16, 27 and 29 are in test_sev_es.py.
"""

import re

import pytest

import es
from harness import guest, vm_section
from test_sev_es import broken, guests, run  # noqa: F401  fixtures

pytestmark = pytest.mark.qemu("needs the secure processor of the patched QEMU")


def events(m, name="a"):
    """The counters of `vm stats`."""
    return {kind: int(n) for kind, n in
            re.findall(r"^ +ghcb (\S+) +(\d+)$", m.command(f"vm stats {name}"), re.M)}


def test_row12_page(guests):
    """P: CPUID 0 by the page gives the vendor, with exactly its fields valid. N: each thing that
    can be wrong with a page has its answer; a page that is no RAM is ignored."""
    m = guests({"a": (112,)})
    out = run(m)
    assert out.count("es: vendor AuthenticAMD") == 2, out
    seen = events(m)
    assert seen["no-page"] == 8 and seen["unknown"] >= 2 and seen["refused"] == 7, seen
    assert re.search(r"VMGEXIT ignored, GHCB 0x0 is not set", m.command("log dmesg"))
    es.clean(m)


@pytest.mark.parametrize("rounds", [100000, pytest.param(1000000, marks=pytest.mark.full)])
@pytest.mark.parametrize("cpus", [1, 2])
def test_row12_hostile_guest(guests, cpus, rounds):
    """N: random pages and requests; with two CPUs the second one changes the first one's page all
    the time. The neighbour counts on, its memory as it was; the guest's private memory, too."""
    m = guests({"a": (112000, rounds, 7, cpus - 1, {"cpus": cpus, "affinity": "1-2"})}, smp=3,
               extra_sections=vm_section("count", kernel="count.elf", memory="32M", cpus=1,
                                         autostart="no", affinity=0),
               files={"count.elf": guest("count")})
    m.run_guest("count", end=r"count: 3 ")
    out = m.run_guest("a", timeout=rounds / 100)
    assert "FAIL" not in out and "0 failed" in out and "is off" in out, out
    assert "es: vendor AuthenticAMD" in out
    pages, requests = map(int, re.search(r"es: (\d+) pages, (\d+) requests", out).groups())
    assert pages + requests == rounds
    seen = events(m)
    assert sum(n for kind, n in seen.items() if kind != "refused") > rounds
    for kind in ["refused", "unknown", "no-page", "mmio-write", "ins", "outs", "wrmsr", "vmmcall",
                 "msr:unknown", "msr:snp"] + ["reset-hold"] * (cpus > 1):
        assert seen[kind] > 10, seen
    m.line("vm console count")
    start = m.mark
    for _ in range(3):
        m.expect(r"^count: \d+ (unchanged|CHANGED)$", 120)
    text = m.text[start:m.mark]
    m.shell()
    counts = [int(n) for n in re.findall(r"^count: (\d+) unchanged", text, re.M)]
    assert "CHANGED" not in text and counts[0] > 3, text
    assert counts == list(range(counts[0], counts[0] + len(counts))) and len(counts) >= 3, text
    es.clean(m)


def traced(m):
    """What the trace has of the guest's own calls, in order; without what its console needs."""
    out = m.command("trace show 100000 a", 120)
    calls = [(int(e, 16), int(i, 16), int(j, 16), int(r), int(c)) for e, i, j, r, c in
             re.findall(r"vmgexit 0x(\w+) info 0x(\w+) 0x(\w+) result (\d+)/(\d+)", out)]
    requests = [(int(a, 16), int(b, 16)) for a, b in
                re.findall(r"ghcb-msr 0x(\w+) 0x(\w+)", out)]
    return [c for c in calls if c[0] != 0x7b], requests


def said(out):
    calls = [(int(e, 16), int(i, 16), int(j, 16), int(r), int(c)) for e, i, j, r, c in
             re.findall(r"event 0x(\w+) info 0x(\w+) 0x(\w+) result (\d+)/(\d+)", out)]
    return calls, [(int(a, 16), int(b, 16)) for a, b in
                   re.findall(r"request 0x(\w+) response 0x(\w+)", out)]


def call_and_say(m):
    """The guest makes its calls, then, when the trace is off, says which they were."""
    start = len(m.text)
    m.run_guest("a", end="es: called")
    m.command("trace off")
    m.command("vm nmi a")
    m.line("vm console a")
    m.expect(r"^\[a: (is off|has crashed)\]", 120)
    out = m.text[start:]
    m.shell()
    return said(out)


def test_row13_trace(guests):
    """P: the trace is the guest's own list of calls."""
    m = guests({"a": (113,)})
    m.command("trace on")
    calls, _ = call_and_say(m)
    assert len(calls) == 8 and {c[3] for c in calls} == {0, 1, 2}, calls
    assert traced(m)[0] == calls
    es.clean(m)


def test_row17_trace_of_requests(guests):
    """P: requests and responses of the MSR protocol are in the trace."""
    m = guests({"a": (113,)})
    m.command("trace on")
    _, requests = call_and_say(m)
    assert len(requests) == 3 and requests[1] == (0x333, 0x333), requests
    assert traced(m)[1] == requests


def test_row13_row17_no_trace(guests):
    """N: with the trace off nothing is recorded, and the guest sees the same."""
    m = guests({"a": (113,)})
    plain = call_and_say(m)
    assert len(plain[0]) == 8 and len(plain[1]) == 3
    assert "nothing recorded" in m.command("trace show 100000 a")
    m.command("trace on")
    assert call_and_say(m) == plain


def test_row14_info(guests):
    """P: the first read of the MSR finds the offer, as the request does; the C-bit is CPUID's."""
    run(guests({"a": (114,)}))


def test_row14_no_common_version(broken):
    """N: a hypervisor that wants version 3: the guest ends itself and says why."""
    m = broken({"a": (114,)}, "version3")
    m.command("vm start a")
    es.wait_state(m, "a", "crashed")
    assert re.search(r"set 0, reason 0x1: no common version", m.command("vm list"))
    es.clean(m)


def test_row15_cpuid(guests):
    """P: each register of leaves 0, 1 and 8000001F as by the page. N: reserved bits set."""
    run(guests({"a": (115,)}))


def test_row17_unknown_request(guests):
    """N: logged, unchanged, resumed."""
    m = guests({"a": (117,)})
    run(m)
    assert re.search(r"vm a: vcpu 0: unknown request 0x333 in the GHCB MSR", m.command("log dmesg"))
    assert events(m)["msr:unknown"] == 1


def test_row18_devices(guests):
    """P: all sizes; I/O APIC and local APIC."""
    m = guests({"a": (118,)})
    run(m)
    es.clean(m)


def test_row18_refused(guests):
    """N: sizes, addresses, scratch; memory stays as it was."""
    m = guests({"a": (218,)})
    run(m)
    assert events(m)["refused"] == 38
    es.clean(m)


def test_row19_ports(guests):
    """P: a text goes out, bytes and words come in. N: too much, no size, nobody's port."""
    m = guests({"a": (119,)})
    out = run(m)
    text = "".join(chr(ord("a") + i % 26) for i in range(298))
    assert f"\n{text}\n" in out or out.startswith(text), out
    seen = events(m)
    assert seen["outs"] >= 11 and seen["ins"] >= 3, seen
    es.clean(m)


def test_cpuid_cost(guests):
    """A CPUID round trip by the page: at most 250 instructions of the hypervisor. The emulator's
    TSC counts instructions; VMGEXIT itself is one of them."""
    m = guests({"a": (100,)}, smp=1, icount=True)
    out = run(m, timeout=300)
    cost = {name: int(n) for name, n in
            re.findall(r"([a-z0-9-]+) (\d+)", re.search(r"es: cost (.*)", out)[1])}
    print(cost)
    assert 20 < cost["cpuid"] <= 250, cost
    assert cost["cpuid"] < cost["cpuid-1"] <= 250, cost # an answer that is computed
