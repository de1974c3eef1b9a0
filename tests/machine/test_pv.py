# SPDX-License-Identifier: BSD-2-Clause
"""The paravirtual interface: Debian's kernels find and use it, guest-pv puts it to the test, a
hostile guest abuses it."""

import re
import sys

import pytest

import es
from harness import BUILD, TREE, guest, host_section, linux_files, linux_vm, vm_section

sys.path.insert(0, str(TREE / "tests" / "bench"))
import pv_ipi         # noqa: E402  pylint: disable=wrong-import-position

BAD = r"Kernel panic|RV-FAIL|BUG:|soft lockup|rcu.*stall"


def pv_guest(name):
    path = BUILD / "guest-pv" / f"{name}.elf"
    if not path.exists():
        raise FileNotFoundError(f"{path}: run `make guest-pv` first")
    return path


def exits(m, vm):
    """Exits of all its vCPUs by kind, from `vm stats`."""
    count = {}
    for kind, number in re.findall(r"^    (\w+) +(\d+)", m.command(f"vm stats {vm}"), re.M):
        count[kind] = count.get(kind, 0) + int(number)
    return count


# --- Debian's kernels ---

@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_debian_uses_all_of_it(machine, kernel):
    conf = host_section(attach="linux") + linux_vm("linux", "dmesg", cpus=4)
    m = machine(conf, linux_files(kernel), smp=1)
    clock, clocks = m.expect(r"^RV-CLOCK (\S+) of (.*)$", 240, never=BAD).groups()
    # Where the CPU says that its TSC never stops, the kernel prefers that once it has measured it.
    steady = re.search(r"\btsc: .*, invariant$", m.text, re.M)
    assert clock == ("tsc" if steady else "kvm-clock") and "kvm-clock" in clocks.split()
    m.expect(r"^RV-DMESG-BEGIN$", 60, never=BAD)
    begin = m.mark
    m.expect(r"^RV-DMESG-END$", 60)
    log = m.text[begin:m.mark]
    for line in ("Hypervisor detected: KVM", "kvm-clock: Using msrs 4b564d01 and 4b564d00",
                 "KVM setup pv remote TLB flush", "setup PV sched yield", "PV spinlocks enabled",
                 "setup PV IPIs", "Switched to clocksource kvm-clock"):
        assert line in log, line
    assert re.search(r"x2apic.*enabled|Switched APIC routing to.*x2apic", log)
    # Four vCPUs on one CPU wait for it, and are told how long.
    m.expect(r"guest# ", 60)
    m.line("awk '/^cpu / { print \"STEAL\", $9 }' /proc/stat")
    assert int(m.expect(r"^STEAL (\d+)$", 60).group(1)) > 0
    m.shell()
    assert exits(m, "linux")["hypercall"] > 0


def test_switched_off(machine):
    conf = host_section(attach="linux") + linux_vm("linux", "dmesg", cpus=2, pv="none")
    m = machine(conf, linux_files(), smp=2)
    clock = m.expect(r"^RV-CLOCK (\S+) of (.*)$", 240, never=BAD)
    assert "kvm-clock" not in clock.group(0)
    m.expect(r"^RV-DMESG-END$", 60, never=BAD)
    assert "kvm-clock" not in m.text and "Hypervisor detected: KVM" not in m.text


MESSAGING = "perf bench sched messaging -t -g 1 -l 20"


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_perf_bench_sched(machine, kernel):
    """On 4 vCPUs of 1 CPU, with all of the interface: wake-ups, IPIs, flushes; it must all end."""
    conf = host_section(attach="linux", log="warn") + linux_vm("linux", "boot", cpus=4)
    m = machine(conf, linux_files(kernel, "perf"), smp=1)
    m.expect(r"guest# ", 240, never=BAD)
    for bench, done in (("perf bench sched messaging -g 1 -l 20", "1 groups == 40 processes run"),
                        (MESSAGING, "1 groups == 40 threads run"),
                        ("perf bench sched pipe -l 1000", "Executed 1000 pipe operations")):
        m.line(f"{bench}; echo STATUS $?")
        m.expect(done, 240, never=BAD)
        assert float(m.expect(r"Total time: (\d+\.\d+) \[sec\]", 240, never=BAD).group(1)) > 0
        assert m.expect(r"^STATUS (\d+)$", 60, never=BAD).group(1) == "0"
    m.line("awk '/^cpu[0-3] / { print \"STEAL\", $9 }' /proc/stat")
    for _ in range(4):
        assert int(m.expect(r"^STEAL (\d+)$", 60).group(1)) > 0


# A static key of the kernel: each change makes all other CPUs synchronise, three times.
CASTS = 6
TOGGLE = ("i=0; while [ $i -lt {n} ]; do echo 1 >/proc/sys/kernel/sched_schedstats; "
          "echo 0 >/proc/sys/kernel/sched_schedstats; i=$((i+1)); done; wait; echo TOGGLED")


def interrupts(m):
    """The guest's counters of interrupts by kind, on all its CPUs."""
    m.line("sed 's/^/COUNTED/' /proc/interrupts; echo COUNTS-DONE")
    begin = m.mark
    m.expect(r"^COUNTS-DONE$", 60)
    return {kind: sum(map(int, numbers.split())) for kind, numbers in
            re.findall(r"^COUNTED *([A-Z]+):([ 0-9]+)", m.text[begin:m.mark], re.M)}


def multicasts(m, n, load="", trace=False):
    """So many changes of the key while the load runs: hypercalls by `vm stats`, writes of MSRs but
    for those that follow a timer's interrupt, function call interrupts taken. And the trace."""
    before = interrupts(m)
    m.shell()
    exits_before = exits(m, "linux")
    if trace:
        m.command("trace on")
    m.console("linux")
    m.line(load + TOGGLE.format(n=n))
    m.expect(r"^TOGGLED$", 400, never=BAD)
    m.shell()
    m.command("trace off")
    more = {kind: count - exits_before.get(kind, 0) for kind, count in exits(m, "linux").items()}
    text = m.command("trace show linux 2048", 240) if trace else ""
    m.console("linux")
    m.line()
    m.expect(r"guest# ", 60)
    after = interrupts(m)
    writes = more["wrmsr"] - (after["LOC"] - before["LOC"])
    return more.get("hypercall", 0), writes, after["CAL"] - before["CAL"], text


def measured(machine, kernel, pv):
    """Few changes with a trace, many with nothing else, some while perf has all vCPUs busy. An
    interrupt to all CPUs but one would be a single command by shorthand: that is what
    no_ipi_broadcast is for."""
    conf = host_section(attach="linux", log="warn") + linux_vm(
        "linux", "boot", cpus=4, pv=pv, extra="x2apic_phys no_ipi_broadcast=1")
    m = machine(conf, linux_files(kernel, "perf"), smp=1)
    m.expect(r"guest# ", 240, never=BAD)
    traced = multicasts(m, 6, trace=True)
    icr = len(re.findall(r"wrmsr +(?:0x)?0*830\b", traced[3]))
    quiet = multicasts(m, 40)
    busy = multicasts(m, 20, MESSAGING + " & ")
    assert "Total time" in m.text
    m.stop()
    print(f"{kernel}, {pv}: {6 * CASTS} multicasts: {traced[:3]}, {icr} by ICR; "
          f"{40 * CASTS}: {quiet[:3]}; {20 * CASTS} under load: {busy[:3]}")
    return {6: traced, 40: quiet, 20: busy}, icr


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_debian_multicasts_by_one_exit(machine, kernel):
    """Interrupts to three CPUs at once: one exit instead of three. Without `yield` and `unhalt`,
    so that all hypercalls are interrupts."""
    by_call, _ = measured(machine, kernel, "kvmclock,steal,eoi,ipi,tlb")
    natively, icr = measured(machine, kernel, "kvmclock,steal,eoi,tlb")
    for n, (calls, _, taken, _) in by_call.items():
        # Fewer than one: a CPU that has not yet looked at its calls needs no further interrupt.
        assert n * CASTS * 0.6 <= calls <= n * CASTS * 1.2
        assert taken >= 2.5 * n * CASTS
    for calls, _, _, _ in natively.values():
        assert calls == 0
    assert icr >= 2 * 6 * CASTS
    # By `vm stats`: what is written beside the timer's deadlines is the same but for ICR.
    assert natively[40][1] - by_call[40][1] >= 2 * 40 * CASTS * 0.8


# --- guest-pv ---

def start_pv(machine, cpus, smp, name="guest-pv", cmdline="", extra=(), **keys):
    # log: a line of the hypervisor's must not fall into one of the guest's
    conf = host_section(log="warn") + vm_section("pv", kernel="guest.elf", cmdline=cmdline or None,
                                       memory="64M", cpus=cpus, autostart="no",
                                       **{"debug-exit": "yes"}, **keys)
    more = es.with_threads(smp)
    more["extra"] = [*more.get("extra", []), *extra]
    m = machine(conf, {"guest.elf": pv_guest(name)}, smp=smp, door="grub-bios", **more)
    m.boot()
    return m


def passed(out):
    assert "guest-pv: PASS" in out and "FAIL" not in out, out
    assert "exception" not in out, out


def run_pv(machine, cpus, smp, name="guest-pv", cmdline="", timeout=240, **kw):
    m = start_pv(machine, cpus, smp, name, cmdline, **kw)
    out = m.run_guest("pv", timeout=timeout)
    passed(out)
    return m, out


# Work of a test: less where vCPUs are many or encrypted.
def rounds(cpus):
    return f"rounds={2000 if cpus <= 4 else 200}"


def senders(cpus):
    """Those that app.c has send in turn."""
    return list(range(0, cpus, 1 if cpus <= 8 else cpus // 3))


def check_ways(out, cpus, fail=0):
    """Each CPU as sender: a hypercall a multicast, a flush that may be left for later; natively for
    what bit 2 * CPU (IPIs) or the next one (flushes) of `fail` stands for, and for nothing else."""
    lines = re.findall(r"CPU (\d+): 5 multicasts: (\d+) hypercalls, (\d+) single IPIs; "
                       r"flushes: (\d+) deferred, (\d+) by IPI", out)
    assert [int(line[0]) for line in lines] == senders(cpus), out
    for cpu, calls, single, deferred, ipis in (map(int, line) for line in lines):
        if fail >> 2 * cpu & 1:
            assert (calls, single) == (0, 5 * (cpus - 1)), (cpu, out)
        else:
            assert (calls, single) == (5, 0), (cpu, out)
        assert deferred + ipis == 5 * (cpus - 1), (cpu, out)
        if fail >> 2 * cpu & 2:
            assert deferred == 0, (cpu, out)


def check_guest_pv(out, name, door, cpus, fail=0):
    passed(out)
    assert f"guest-pv: {door}, {cpus} CPUs" in out
    bits = [fail >> n & 1 for n in range(2 * cpus)]
    assert (f"masks missing: {sum(bits[0::2])} for IPIs, {sum(bits[1::2])} for flushes") in out
    if cpus == 1:
        return
    check_ways(out, cpus, fail)
    # Then each CPU in turn loses each mask, and gets another one. The first time, for IPIs, it asks
    # in vain for the one for flushes as well where that has failed before.
    lost = 0 if name == "guest-pv-static" else 2 * len(senders(cpus)) + sum(bits[1::2])
    assert f"masks lost and found: {lost + sum(bits)} failures" in out
    assert int(re.search(r"(\d+) IPIs during flushes answered", out).group(1)) > 0


@pytest.mark.parametrize("cpus,smp", [(1, 1), (2, 2), (4, 1), (4, 2), (64, 2)])
@pytest.mark.parametrize("name", ["guest-pv", "guest-pv-static"])
def test_guest_pv(machine, name, cpus, smp):
    _, out = run_pv(machine, cpus, smp, name, rounds(cpus), timeout=500)
    check_guest_pv(out, name, "PVH", cpus)
    if cpus == 1:
        return
    # One exit for each multicast, where it would be one for each CPU of it.
    assert re.search(rf"(\d+) multicasts to {cpus - 1} CPUs: \1 hypercalls, 0 single", out), out
    if cpus > smp:
        assert int(re.search(r"flushes: (\d+) deferred", out).group(1)) > 0


def test_guest_pv_for_one_cpu(machine):
    _, out = run_pv(machine, 2, 2, "guest-pv-up")
    assert "1 CPUs" in out


def test_guest_pv_by_multiboot(machine):
    """A file with both doors is started by multiboot when it has modules."""
    _, out = run_pv(machine, 4, 2, cmdline="rounds=1000", module="guest.elf")
    assert "guest-pv: multiboot, 4 CPUs" in out
    assert re.search(r"(\d+) multicasts to 3 CPUs: \1 hypercalls, 0 single", out)


def test_pvh_is_the_other_door(machine):
    _, out = run_pv(machine, 2, 2, cmdline="rounds=500")
    assert "guest-pv: PVH, 2 CPUs" in out


# A machine whose time flies: each instruction takes a microsecond, and sleep nothing but what wakes
# it (the PIT would, 36 times a second). QEMU 7.2 would hang at the start of a second CPU here.
FAST = ["-icount", "shift=10,sleep=off", "-machine", "pit=off"]


def check_rate(m, out, cpus):
    """The clock against the guest's own RDTSC: no drift above 1 part in 10^6 at the rate that the
    hypervisor announced at its start, and to the digit what the record says."""
    khz = int(re.search(r"tsc: (\d+)\.(\d{3}) MHz", m.text).expand(r"\1\2"))
    spans = [tuple(map(int, s)) for s in re.findall(r"CPU \d: (\d+) ns in (\d+) ticks", out)]
    records = [tuple(map(int, r)) for r in
               re.findall(r"CPU \d: (\d+) ns at (\d+), from (\d+) ns at (\d+) by (\d+) \* 2\^(\d+)",
                          out)]
    assert len(spans) == len(records) == cpus, out
    for ns, ticks in spans:
        assert abs(ns * khz - ticks * 10**6) * 10**6 < ticks * 10**6, (ns, ticks, khz)
        # This TSC counts nanoseconds. How wrongly it was measured is no drift, but must be little.
        assert abs(ns - ticks) * 10**6 < 20 * ticks, (ns, ticks)
    for ns, tsc, zero_ns, zero_tsc, mul, shift in records:
        assert shift < 32
        assert ns == zero_ns + (((tsc - zero_tsc) << shift) * mul >> 32)
        assert abs((mul << shift) * khz - (10**6 << 32)) * 10**6 < 10**6 << 32, (mul, shift, khz)
    return [ns for ns, _ in spans]


@pytest.mark.qemu("needs a machine whose time passes faster than ours")
@pytest.mark.parametrize("smp", [1, pytest.param(2, marks=pytest.mark.full)])
def test_clock_for_a_day(machine, smp):
    m, out = run_pv(machine, 4, smp, cmdline="seconds=86400", timeout=500, extra=FAST)
    met = re.search(r"guest-pv: backwards 0, each pair met (\d+) times or more", out)
    assert int(met.group(1)) > 86400 // 10
    assert min(check_rate(m, out, 4)) > 86400 * 10**9


def clock_from(m):
    """The least of what the vCPUs' clocks showed first in this run."""
    return int(m.expect(r"^guest-pv: clock from (\d+) ns$", 60, never=BAD).group(1))


def clock_until(m, ns):
    """Waits for that time; returns the last that any vCPU has read by then."""
    while True:
        now = int(m.expect(r"^guest-pv: clock at (\d+) ns$", 120, never=BAD).group(1))
        if now >= ns:
            return now


def interrupted_runs(machine, smp, span, cmdline, **kw):
    """Runs for so many ns each, ended by stop and start, reset, and the guest's own end: no vCPU of
    one run reads less than any vCPU of the run before has read."""
    m = start_pv(machine, 4, smp, cmdline=cmdline, **kw)
    m.line("vm start pv")
    latest = 0
    for then in (["stop", "start"], ["reset"], ["stop", "start"], []):
        m.console("pv")
        earliest = clock_from(m)
        assert earliest > latest, (then, earliest, latest)
        begin = len(m.text)
        latest = clock_until(m, earliest + span)
        if not then:
            break
        m.shell()
        for command in then:
            m.command(f"vm {command} pv")
        latest = max(latest, *map(int, re.findall(r"^guest-pv: clock at (\d+) ns$",
                                                  m.text[begin:], re.M)))
    return m, latest


@pytest.mark.qemu("needs a machine whose time passes faster than ours")
def test_clock_for_a_day_with_stops_and_resets(machine):
    """Six hours to each stop and start, reset, stop and start, on two CPUs; as long to the end."""
    hours = 3600 * 10**9
    m, latest = interrupted_runs(machine, 2, 6 * hours, "seconds=28800 report=600", extra=FAST)
    begin = m.mark
    m.expect(r"^\[pv: is off\]", 120)
    out = m.text[begin:]
    passed(out)
    assert "guest-pv: backwards 0," in out
    assert latest > 24 * hours and min(check_rate(m, out, 4)) > 8 * hours


@pytest.mark.parametrize("smp", [1, 2])
def test_clock_across_stop_start_and_reset(machine, smp):
    """The same at the machine's own pace, with CPUs that run at once."""
    interrupted_runs(machine, smp, 2 * 10**9, "seconds=36000 period=1 report=1")


def test_multicast_exits(machine):
    """The same multicasts with and without the hypercall: `vm stats` has the difference."""
    counts = {}
    for pv in ("all", "kvmclock,steal,eoi,tlb"):
        m, out = run_pv(machine, 8, 2, cmdline="rounds=1000", pv=pv)
        sent = re.search(r"(\d+) multicasts to 7 CPUs: (\d+) hypercalls, (\d+) single", out)
        counts[pv] = list(map(int, sent.groups())), exits(m, "pv").get("hypercall", 0)
        m.stop()
    (n, calls, single), hypercalls = counts["all"]
    assert (calls, single) == (n, 0) and hypercalls >= n
    (n, calls, single), hypercalls = counts["kvmclock,steal,eoi,tlb"]
    assert (calls, single, hypercalls) == (0, 7 * n, 0)


# Each mask alone; one of each CPU, in two ways; all.
@pytest.mark.parametrize("fail", [1 << n for n in range(8)] + [0b10011001, 0b01100110, 0xff])
def test_masks_that_cannot_be_had(machine, fail):
    _, out = run_pv(machine, 4, 2, cmdline=f"rounds=500 fail={fail}")
    check_guest_pv(out, "guest-pv", "PVH", 4, fail)


# --- guest-pv as an SEV-ES guest ---

def run_es(machine, tmp_path, cpus, smp, name="guest-pv", cmdline="", timeout=240, **keys):
    """The same program, encrypted: its image brings its command line at offset 16."""
    data = bytearray((BUILD / "guest-pv" / f"{name}.es").read_bytes())
    assert data[8:12] == b"GPVE" and len(cmdline) < 240
    data[16:16 + len(cmdline)] = cmdline.encode()
    (tmp_path / "guest.es").write_bytes(data)
    conf = host_section(log="warn") + vm_section(
        "pv", memory="64M", cpus=cpus, autostart="no", sev="es", **{"debug-exit": "yes",
        "sev-loader": "guest.es"}, **keys)
    m = machine(conf, {"guest.es": tmp_path / "guest.es"}, smp=smp, door="grub-bios",
                memory="512M", qemu=es.sev_qemu(), accel="tcg,thread=single", cpu="EPYC",
                extra=["-object", "sev-memory,id=sev,fatal=on,coherent=off",
                       *es.FIRMWARE, "-device", "sev-psp,id=psp"])
    m.boot(180)
    out = m.run_guest("pv", timeout=timeout)
    es.clean(m)
    return m, out


@pytest.mark.qemu("needs the secure processor of the patched QEMU")
@pytest.mark.parametrize("cpus,smp", [(1, 1), (2, 2), (4, 1), (4, 2), (64, 2)])
@pytest.mark.parametrize("name", ["guest-pv", "guest-pv-static"])
def test_guest_pv_encrypted(machine, tmp_path, name, cpus, smp):
    _, out = run_es(machine, tmp_path, cpus, smp, name, rounds(cpus), timeout=500)
    check_guest_pv(out, name, "SEV-ES", cpus)
    if cpus > 1:
        assert re.search(rf"(\d+) multicasts to {cpus - 1} CPUs: \1 hypercalls, 0 single", out), out
    assert "backwards 0" in out


@pytest.mark.qemu("needs the secure processor of the patched QEMU")
@pytest.mark.parametrize("cpus", [1, 2])
def test_guest_pv_for_one_cpu_encrypted(machine, tmp_path, cpus):
    _, out = run_es(machine, tmp_path, cpus, 2, "guest-pv-up", "rounds=500")
    check_guest_pv(out, "guest-pv-up", "SEV-ES", 1)


@pytest.mark.qemu("needs the secure processor of the patched QEMU")
@pytest.mark.parametrize("fail", [1, 2, 0b10011001, 0b01100110, 0xff])
def test_masks_that_cannot_be_had_encrypted(machine, tmp_path, fail):
    _, out = run_es(machine, tmp_path, 4, 2, cmdline=f"rounds=500 fail={fail}")
    check_guest_pv(out, "guest-pv", "SEV-ES", 4, fail)


@pytest.mark.qemu("needs the secure processor of the patched QEMU")
def test_clock_of_an_encrypted_guest(machine, tmp_path):
    _, out = run_es(machine, tmp_path, 4, 2, cmdline="seconds=5 period=1")
    passed(out)
    assert "guest-pv: backwards 0," in out


@pytest.mark.qemu("needs the secure processor of the patched QEMU")
def test_private_memory_is_refused(machine, tmp_path):
    """Clocks, steal time and EOI at an address with the C-bit: #GP, and nothing is written; without
    it they are taken. es_guest.c has the checks."""
    m = es.start(machine, {"a": (40,)}, tmp_path)
    out = m.run_guest("a")
    assert "FAIL" not in out and " 0 failed" in out and "is off" in out, out
    for name in ("private: #GP", "private: as before"):
        assert len(re.findall(rf"ok +{name}", out)) == 12, out
    assert len(re.findall(r"ok +shared: taken", out)) == 6, out
    es.clean(m)


# --- what it costs ---

@pytest.mark.qemu("counts instructions in QEMU")
@pytest.mark.parametrize("host,guest,state,cpus,smp", [
    ("xapic", "xapic", "waiting", 64, 1), ("xapic", "xapic", "requested", 64, 1),
    ("xapic", "xapic", "halted", 9, 1), ("xapic", "xapic", "halted", 4, 4),
    ("xapic", "xapic", "halted", 9, 2), ("xapic", "xapic", "halted", 9, 4),
    ("xapic", "xapic", "running", 4, 4), ("x2apic", "x2apic", "halted", 9, 2),
    ("x2apic", "x2apic", "halted", 9, 1), ("x2apic", "xapic", "halted", 4, 4),
    ("x2apic", "x2apic", "running", 4, 4), ("xapic", "x2apic", "running", 4, 4)])
def test_ipi_costs_its_sender(host, guest, state, cpus, smp):
    """At most 150 + 25 n instructions to n vCPUs."""
    emu = pv_ipi.machine.emulator(BUILD)
    emu[0] = es.sev_qemu()
    costs = pv_ipi.measure(emu, BUILD, state, cpus, smp, host, guest)
    assert cpus - 1 in costs and costs[0] > 60
    over = {n: cost for n, cost in costs.items() if cost > pv_ipi.limit(n)}
    assert not over, costs


# --- hostile ---

def test_hostile_hypercalls(machine):
    """10^6 random hypercalls and MSR values. A Linux VM and one that watches its memory, both on
    the same CPU, go on counting."""
    conf = host_section(attach="victim", log="warn")
    conf += linux_vm("victim", "count", cpus=1, memory="256M")
    conf += vm_section("watch", kernel="count.elf", memory="32M", cpus=1, autostart="no")
    conf += vm_section("evil", kernel="pvfuzz.elf", cmdline="calls=1000000", memory="64M", cpus=4,
                       autostart="no", **{"debug-exit": "yes"})
    m = machine(conf, {**linux_files(), "pvfuzz.elf": guest("pvfuzz"), "count.elf": guest("count")},
                smp=1)
    m.expect(r"^RV-COUNT 2 ", 240)
    m.shell()
    m.run_guest("watch", end=r"count: 3 ")
    out = m.run_guest("evil", end=r"^\[evil: (is off|has crashed)\]", timeout=580)
    assert "pvfuzz: survived 1000000" in out, out[-2000:]
    seen = exits(m, "evil")
    assert sum(seen.get(kind, 0) for kind in ("hypercall", "wrmsr")) >= 1000000, seen
    m.console("watch")
    begin = m.mark
    for _ in range(4):
        m.expect(r"^count: \d+ (unchanged|CHANGED)$", 60)
    assert "CHANGED" not in m.text[begin:m.mark]
    m.shell()
    m.console("victim")
    for _ in range(4):
        m.expect(r"^RV-COUNT \d+ ", 60, never=BAD)
    m.shell()
    assert "victim" in m.command("vm list")
