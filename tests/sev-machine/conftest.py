# SPDX-License-Identifier: GPL-2.0-or-later
"""Markers for the whole folder."""


def pytest_configure(config):
    config.addinivalue_line("markers", "full: takes minutes; run by check-sev-machine-full only")
