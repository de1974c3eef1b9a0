#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Build the SEV-ES emulator: Debian's QEMU source, our patch and our files. Prints the path of
# the binary as the last line. The result is cached under $XDG_CACHE_HOME/ravelin (default
# ~/.cache/ravelin) by a key of all inputs; a second run only prints the path.
# With --stock the same source is built without patch and files, to compare with.
# Environment: JOBS (default: number of CPUs), SEV_QEMU_TARBALL (a tarball already at hand).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ravelin
jobs=${JOBS:-$(nproc)}
stock=0
[ "${1:-}" != --stock ] || stock=1

say() { echo "sev-machine: $*" >&2; }
die() { say "$*"; exit 1; }

key=$(echo $stock | cat - "$here/build.sh" "$here/qemu.patch" "$here/devices.mak" "$here/sources" \
	"$here/src"/*.[ch] "$here/src/meson.build" | sha256sum | cut -c1-16)
out=$cache/sev-machine/$key
if [ -x "$out/qemu-system-x86_64" ]; then
	say "cached: $out"
	echo "$out/qemu-system-x86_64"
	exit 0
fi

# One build at a time; who waited finds the result.
mkdir -p "$cache/sev-machine"
exec 9>"$cache/sev-machine/lock"
flock -n 9 || { say "waiting for another build"; flock 9; }
if [ -x "$out/qemu-system-x86_64" ]; then
	echo "$out/qemu-system-x86_64"
	exit 0
fi

# Packages of the list that are not installed.
missing=
for p in $(grep -v '^#' "$here/packages"); do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' ||
		missing="$missing $p"
done
if [ -n "$missing" ]; then
	say "installing:$missing"
	[ "$(id -u)" = 0 ] || die "not root: install these packages by hand:$missing"
	apt-get update >/dev/null 2>&1 || say "apt-get update failed; going on"
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing \
		>/dev/null || die "apt-get install failed"
fi

tarball=${SEV_QEMU_TARBALL:-}
if [ -z "$tarball" ]; then
	while read -r suite file sum; do
		case $suite in '' | '#'*) continue ;; esac
		tarball=$cache/sev-source/$file
		[ -f "$tarball" ] || {
			say "fetching qemu from $suite"
			/usr/bin/python3 "$here/debian.py" source "$suite" qemu "$cache/sev-source" \
				>/dev/null || say "cannot fetch from $suite"
		}
		if [ -f "$tarball" ] && echo "$sum  $tarball" | sha256sum -c --quiet - 2>/dev/null; then
			break
		fi
		say "$file: missing or wrong SHA-256; trying the next"
		tarball=
	done <"$here/sources"
	[ -n "$tarball" ] || die "no usable QEMU source; see tests/sev-machine/sources"
fi

# meson of the stable release is too old for QEMU 10; the one of backports is not installed.
meson=$cache/sev-meson
if [ ! -x "$meson/usr/bin/meson" ]; then
	say "fetching meson"
	codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
	/usr/bin/python3 "$here/debian.py" unpack "$codename-backports" "$meson" meson ||
		die "cannot fetch meson"
fi
PATH=$meson/usr/bin:$PATH
PYTHONPATH=$meson/usr/lib/python3/dist-packages
export PATH PYTHONPATH

work=$(mktemp -d "${TMPDIR:-/tmp}/sev-machine.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
say "unpacking $(basename "$tarball")"
mkdir "$work/src" "$work/build"
tar xf "$tarball" -C "$work/src" --strip-components=1
cd "$work/src"
# The archive's tarball comes without firmware blobs and Python wheels.
sed -i 's/^pycotap/#&/' pythondeps.toml
sed -i 's/^if unpack_edk2_blobs$/if false/' pc-bios/meson.build
if [ $stock = 0 ]; then
	patch -p1 --quiet <"$here/qemu.patch" || die "qemu.patch does not apply"
	mkdir hw/i386/sev
	cp "$here/src"/*.[ch] "$here/src/meson.build" hw/i386/sev/
	cp "$here/src/sev-hook.h" include/hw/i386/
fi
cp "$here/devices.mak" configs/devices/x86_64-softmmu/sevmachine.mak

cd "$work/build"
say "configuring"
../src/configure --python=/usr/bin/python3 --target-list=x86_64-softmmu \
	--without-default-features --without-default-devices \
	--with-devices-x86_64=sevmachine --enable-tcg --disable-kvm --disable-fdt \
	--enable-pixman --enable-slirp --enable-nettle --disable-docs --disable-tools \
	--disable-guest-agent --disable-user --disable-install-blobs --disable-werror \
	>configure.log 2>&1 || { tail -20 configure.log >&2; die "configure failed"; }
say "compiling with $jobs jobs (about 5 minutes on 2 cores)"
ninja -j"$jobs" qemu-system-x86_64 >ninja.log 2>&1 &
ninja=$!
while kill -0 $ninja 2>/dev/null; do
	sleep 10
	say "$(tail -1 ninja.log | cut -c1-70)"
done
wait $ninja || { grep -B2 -A8 -E 'error:|FAILED' ninja.log | head -60 >&2; die "build failed"; }

mkdir -p "$out"
cp qemu-system-x86_64 "$out/qemu-system-x86_64.new"
strip "$out/qemu-system-x86_64.new"
mv "$out/qemu-system-x86_64.new" "$out/qemu-system-x86_64"
say "built: $out"
echo "$out/qemu-system-x86_64"
