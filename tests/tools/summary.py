#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Add up what a run of .ci/run left in the build folder, print it, end with "N passed, N failed".

Reads BUILD/unit/*.log (cmocka's output), BUILD/results/*.xml (JUnit) and BUILD/results/steps
(lines "NAME STATUS SECONDS"). A step that failed without a failed test counts as one failure.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree as xml


def unit(build):
    """(passed, names of failed) of the unit tests."""
    passed, failed = 0, []
    for log in sorted((build / "unit").glob("*.log")):
        text = log.read_text(errors="replace")
        passed += len(re.findall(r"^\[       OK \]", text, re.M))
        wrong = set(re.findall(r"^\[  FAILED  \] (?:\S+: )?([A-Za-z]\w*)$", text, re.M))
        # A test program that dies (a sanitizer's finding) reports no failed test itself.
        if not wrong and not re.search(r"^\[  PASSED  \]", text, re.M):
            wrong = {"died"}
        failed += [f"{log.stem}: {name}" for name in sorted(wrong)]
    return passed, failed


def junit(path):
    """(passed, names of failed, seconds) of one JUnit file."""
    passed, failed, seconds = 0, [], 0.0
    for case in xml.parse(path).iter("testcase"):
        seconds += float(case.get("time", 0))
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif case.find("skipped") is None:
            passed += 1
    return passed, failed, seconds


def steps(path):
    rows = path.read_text().split("\n") if path.exists() else []
    return [(name, int(status), int(seconds))
            for name, status, seconds in (row.split() for row in rows if row)]


def main(argv):
    build = pathlib.Path(argv[0] if argv else "build")
    results = build / "results"
    passed, failed = unit(build)
    print(f"unit tests: {passed} passed, {len(failed)} failed")
    for path in sorted(results.glob("*.xml")):
        good, bad, seconds = junit(path)
        print(f"{path.stem} tests: {good} passed, {len(bad)} failed, {seconds:.0f} s")
        passed += good
        failed += bad
    done = steps(results / "steps")
    for name, status, seconds in done:
        print(f"{name}: status {status}, {seconds} s")
    broken = [name for name, status, _ in done if status]
    if not done:
        broken = ["nothing ran"]
    if broken and not failed:
        failed = [f"step {name}" for name in broken]
    for name in failed:
        print(f"FAILED {name}")
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
