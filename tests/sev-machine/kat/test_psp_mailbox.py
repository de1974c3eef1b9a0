# SPDX-License-Identifier: GPL-2.0-or-later
"""PCI identity, registers, doorbell, polling and interrupts of the security processor."""
import pytest

from psp_machine import BAR5, COMMANDS, RESP, Psp, Timeout

NOP = COMMANDS["NOP"]
MSI, MSIX = 0x05, 0x11
INT_DONE = 2
MAILBOX = 0x300000      # where the tests point MSI messages: plain memory


def test_pci_identity(m):
    assert m.cfg_read(0x00) == 0x14CA1022
    assert m.cfg_read(0x08) >> 8 == 0x108000
    bar2 = m.cfg_read(0x18)
    assert bar2 & 7 == 4            # 64-bit memory
    m.cfg_write(0x18, 0xFFFFFFFF)
    assert m.cfg_read(0x18) & ~0xF == 0xFFF00000    # 1 MiB


@pytest.mark.parametrize("generation, device, offsets", [
    ("v1", 0x1456, {"cmd": 0x10580, "lo": 0x105E0, "hi": 0x105E4, "feature": 0x105FC,
                    "inten": 0x10610, "intsts": 0x10614}),
    ("v2", 0x1486, {"cmd": 0x10980, "lo": 0x109E0, "hi": 0x109E4, "feature": 0x109FC,
                    "inten": 0x10690, "intsts": 0x10694}),
    ("v6", 0x156E, {"cmd": 0x10980, "lo": 0x109E0, "hi": 0x109E4, "feature": 0x109FC,
                    "inten": 0x10510, "intsts": 0x10514}),
])
def test_generations(machines, generation, device, offsets):
    m = machines(psp="generation=" + generation, generation_layout=offsets)
    assert m.cfg_read(0) == device << 16 | 0x1022
    assert m.reg_read("feature") == 1
    m.reg_write("inten", INT_DONE)
    m.doorbell(NOP, ioc=True)
    assert m.wait_answer() == 0
    assert m.reg_read("intsts") == INT_DONE


def test_unknown_generation_is_refused(machines):
    with pytest.raises(RuntimeError, match="generation 'v9': expected v1, v2, v4 or v6"):
        machines(psp="generation=v9")


def test_feature_and_bootloader_registers(machines):
    m = machines(psp="feature=0x101,bootloader=0x12345678")
    assert m.reg_read("feature") == 0x101
    assert m.reg_read("boot") == 0x12345678
    m.reg_write("feature", 0)
    assert m.reg_read("feature") == 0x101


def test_polling(m):
    m.doorbell(NOP)
    assert m.wait_answer() == 0
    assert m.reg_read("cmd") == RESP
    assert m.reg_read("intsts") == 0            # no IOC, no interrupt status


def test_answer_takes_time(machines):
    m = machines(psp="latency-us=300000")
    m.doorbell(NOP)
    assert m.reg_read("cmd") == NOP << 16       # bit 31 clear: not answered yet
    assert m.wait_answer() == 0


def test_address_registers_do_not_survive(m):
    m.doorbell(NOP, 0x123456789ABC)
    assert m.wait_answer() == 0
    assert (m.reg_read("lo"), m.reg_read("hi")) == (0, 0)


def test_unknown_command(psp):
    for command in (0x000, 0x00F, 0x024, 0x037, 0x07F, 0x090, 0x7FF):
        assert psp.run(command) == "INVALID_COMMAND"


def test_interrupt_status_is_write_one_to_clear(m):
    m.doorbell(NOP, ioc=True)
    m.wait_answer()
    assert m.reg_read("intsts") == INT_DONE
    m.reg_write("intsts", 1)
    assert m.reg_read("intsts") == INT_DONE
    m.reg_write("intsts", INT_DONE)
    assert m.reg_read("intsts") == 0


def setup_msi(m):
    at = m.capability(MSI)
    assert m.cfg_read(at) & 0x800000            # 64-bit address
    m.cfg_write(at + 4, MAILBOX)
    m.cfg_write(at + 8, 0)
    m.cfg_write(at + 12, 0x4321)
    m.cfg_write(at, m.cfg_read(at) | 1 << 16)


def setup_msix(m):
    at = m.capability(MSIX)
    assert m.cfg_read(at) >> 16 & 0x7FF == 1    # two vectors
    assert m.cfg_read(at + 4) & 7 == 5          # table in BAR 5
    table = BAR5 + (m.cfg_read(at + 4) & ~7)
    for i, value in enumerate((MAILBOX, 0, 0x8765, 0)):
        m.writel(table + 4 * i, value)
    m.cfg_write(at, m.cfg_read(at) | 1 << 31)


@pytest.mark.parametrize("setup, data", [(setup_msi, 0x4321), (setup_msix, 0x8765)])
def test_message_interrupts(m, setup, data):
    setup(m)
    m.doorbell(NOP, ioc=True)                   # interrupt not enabled in INTEN
    m.wait_answer()
    assert m.readl(MAILBOX) == 0
    m.reg_write("intsts", INT_DONE)
    m.reg_write("inten", INT_DONE)
    m.doorbell(NOP)                             # no IOC
    m.wait_answer()
    assert m.readl(MAILBOX) == 0
    m.doorbell(NOP, ioc=True)
    m.wait_answer()
    assert m.readl(MAILBOX) == data
    assert m.reg_read("intsts") == INT_DONE


def test_line_interrupt(m):
    """Neither MSI nor MSI-X enabled: INTx follows INTSTS and INTEN (status register bit 3)."""
    def pending():
        return m.cfg_read(0x04) >> 16 & 8

    m.doorbell(NOP, ioc=True)
    m.wait_answer()
    assert not pending()
    m.reg_write("inten", INT_DONE)
    assert pending()
    m.reg_write("inten", 0)
    assert not pending()
    m.reg_write("inten", INT_DONE)
    m.reg_write("intsts", INT_DONE)
    assert not pending()


def test_interrupt_comes_with_the_answer(machines):
    m = machines(psp="latency-us=300000")
    setup_msi(m)
    m.reg_write("inten", INT_DONE)
    m.doorbell(NOP, ioc=True)
    assert m.readl(MAILBOX) == 0 and m.reg_read("intsts") == 0
    m.wait_answer()
    assert m.readl(MAILBOX) == 0x4321


def test_misuse_of_the_mailbox_is_reported(machines):
    m = machines(psp="latency-us=300000")
    m.doorbell(NOP)
    m.reg_write("cmd", COMMANDS["SHUTDOWN"] << 16)
    m.reg_write("lo", 0x1000)
    assert m.wait_answer() == 0
    m.reg_write("cmd", RESP | NOP << 16)
    assert m.reg_read("cmd") == RESP
    assert m.get("command-counts") == "NOP=1"
    log = m.close()
    assert "written (0x00020000) while a command runs" in log
    assert "address register written while a command runs" in log
    assert "with bit 31 set" in log


@pytest.mark.parametrize("addr", [
    0xFFFF0000,                 # ROM
    0xE0000000,                 # the processor's own BAR
    0x10000000 - 4,             # runs over the end of RAM
    0x7FFFFFFFFFFF8, (1 << 64) - 4,     # beyond everything; wraps
    0xFEE00000,
])
def test_command_buffer_must_be_ram(psp, addr):
    assert psp.run("PLATFORM_STATUS", b"\0" * 12, addr) == "INVALID_ADDRESS"


def test_command_buffer_needs_no_alignment(psp):
    psp.m.write(psp.BUF, b"\xee" * 32)
    assert psp.run("PLATFORM_STATUS", b"", psp.BUF + 3) == "SUCCESS"
    assert psp.m.read(psp.BUF, 5) == b"\xee\xee\xee\x01\x37"
    assert psp.m.read(psp.BUF + 3 + 12, 4) == b"\xee" * 4


def test_command_buffer_in_the_tmr_is_refused(up):
    assert up.run("PLATFORM_STATUS", b"\0" * 12, up.TMR + 0x80000) == "INVALID_ADDRESS"
    assert up.run("PLATFORM_STATUS", b"\0" * 12, up.TMR - 4) == "INVALID_ADDRESS"
    assert up.run("PLATFORM_STATUS", b"", up.TMR - 12) == "SUCCESS"


def test_reset_restarts_the_firmware(up):
    up.must_start(0)
    up.m.qmp("system_reset")
    up.m._wait(lambda: up.m.cfg_read(0x18) & ~0xF == 0, "no reset")
    up.m._setup_pci()
    assert up.status()["state"] == 0
    assert up.m.get("platform-state") == "uninit"


def test_never_answering_processor(machines):
    m = machines(psp="fault=NOP:never")
    m.doorbell(NOP)
    with pytest.raises(Timeout):
        m.wait_answer(0.5)


def test_counters_in_the_exit_log(machines):
    m = machines(psp="log-counts=on")
    psp = Psp(m)
    psp.status()
    psp.run("NOP")
    psp.run("NOP")
    assert m.get("command-counts") == "PLATFORM_STATUS=1 NOP=2"
    assert "sev-psp: commands: PLATFORM_STATUS=1 NOP=2" in m.close()
