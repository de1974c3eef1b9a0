#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Take packages and source files from the Debian archive without touching the machine's apt.

The mirror and the signing keys are those of this machine's own apt sources; suites that the
machine does not name (backports, the next release) are asked for through a private apt
configuration in the cache. Everything is kept under $XDG_CACHE_HOME/ravelin (default
~/.cache/ravelin) and found there the next time.

Command line:
  debian.py source SUITE PACKAGE DIR      download the source package's files into DIR
  debian.py unpack SUITE DIR PACKAGE...   download binary packages and unpack them into DIR
"""

import os
import pathlib
import re
import subprocess
import sys

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "ravelin"
APT = CACHE / "sev-apt"


class DebianError(Exception):
    """A package cannot be had; the text says which and why."""


def run(*argv, cwd=None):
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode:
        raise DebianError(f"{' '.join(map(str, argv[-4:]))}: status {done.returncode}: "
                          f"{(done.stderr or done.stdout).strip()[-1500:]}")
    return done.stdout


def mirror():
    """(uri, signed-by) of the machine's own Debian archive."""
    rows = run("apt-get", "indextargets", "--format",
               "$(REPO_URI)|$(COMPONENT)|$(SIGNED_BY)", "Created-By: Packages")
    for row in rows.splitlines():
        uri, component, key = row.split("|")
        if component == "main" and re.search(r"/debian/?$", uri):
            return uri.rstrip("/"), "" if key.startswith("$(") else key
    raise DebianError("no Debian archive with component main among this machine's apt sources; "
                      "add one to /etc/apt and run apt-get update")


def options(suite):
    """apt options of the private configuration for one suite; updates its lists once a day."""
    uri, key = mirror()
    base = APT / suite
    for part in ("lists/partial", "cache/archives/partial", "parts"):
        (base / part).mkdir(parents=True, exist_ok=True)
    signed = f"[signed-by={key}] " if key else ""
    text = "".join(f"{kind} {signed}{uri} {suite} main\n" for kind in ("deb", "deb-src"))
    sources = base / "sources.list"
    opts = ["-o", f"Dir::Etc::sourcelist={sources}", "-o", f"Dir::Etc::sourceparts={base}/parts",
            "-o", f"Dir::State::lists={base}/lists", "-o", f"Dir::Cache={base}/cache",
            "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"]
    stamp = base / "updated"
    fresh = (stamp.exists() and sources.exists() and sources.read_text() == text
             and stamp.stat().st_mtime > __import__("time").time() - 86400)
    if not fresh:
        sources.write_text(text)
        run("apt-get", *opts, "update")
        stamp.write_text("")
    return opts


def source(suite, package, directory):
    """Download the files of the newest source package of the suite; returns their paths."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    run("apt-get", *options(suite), "source", "--download-only", package, cwd=directory)
    return sorted(directory.iterdir())


def newest(suite, pattern):
    """Name of the package that matches the regular expression and sorts last by version."""
    names = run("apt-cache", *options(suite), "pkgnames").split()
    found = [n for n in names if re.fullmatch(pattern, n)]
    if not found:
        raise DebianError(f"no package {pattern} in {suite}")
    return max(found, key=lambda n: [int(x) for x in re.findall(r"\d+", n)])


def unpack(suite, directory, *packages):
    """Download binary packages and unpack them into the directory, without installing."""
    directory = pathlib.Path(directory)
    debs = directory / ".debs"
    debs.mkdir(parents=True, exist_ok=True)
    for package in packages:
        run("apt-get", *options(suite), "download", package, cwd=debs)
        name = package.split("=")[0]
        deb = max(debs.glob(f"{name}_*.deb"), key=lambda p: p.stat().st_mtime)
        run("dpkg-deb", "-x", str(deb), str(directory))
        deb.unlink()


def main(argv):
    if len(argv) == 4 and argv[0] == "source":
        for path in source(*argv[1:]):
            print(path)
    elif len(argv) >= 4 and argv[0] == "unpack":
        unpack(*argv[1:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DebianError as err:
        sys.exit(f"debian.py: {err}")
