#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Builds the sources twice, in folders of different names and depth: both images must be equal
# byte for byte. The copies are what git tracks or would (work in progress counts).
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

copy() {
	mkdir -p "$1"
	(cd "$top" && git ls-files -z --cached --others --exclude-standard -- \
		Makefile linker.ld boot arch core sev drivers selftest vdev guest-pv tools tests/guests |
		xargs -0 -r ls -d 2>/dev/null | tar -cf - -T - ) | tar -xf - -C "$1"
}

one=$work/one
two=$work/a/longer/path/two
# Both copies first: somebody may be editing.
copy "$one"
mkdir -p "$two"
cp -a "$one/." "$two/"
for dir in "$one" "$two"; do
	make -C "$dir" -s -j2 O=out out/ravelin.elf out/ravelin.efi >"$work/log" 2>&1 || {
		cat "$work/log"
		exit 1
	}
done
status=0
for file in ravelin.elf ravelin.efi; do
	if cmp "$one/out/$file" "$two/out/$file"; then
		echo "  PASS  reproducible: $file $(sha256sum <"$one/out/$file" | cut -c1-16)"
	else
		echo "  FAIL  $file differs between two builds"
		status=1
	fi
done
exit $status
