#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Build Bochs from Debian's source package: a newer one than the stable release has, without the
# debugger, for machines with several CPUs. Prints the path of the binary as the last line. The
# result is cached under $XDG_CACHE_HOME/ravelin (default ~/.cache/ravelin) by a key of all inputs;
# a second run only prints the path.
# Environment: JOBS (default: number of CPUs), BOCHS_TARBALL (a tarball already at hand).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ravelin
jobs=${JOBS:-$(nproc)}

say() { echo "bochs: $*" >&2; }
die() { say "$*"; exit 1; }

key=$(cat "$here/build.sh" "$here/sources" "$here/checks.h" | sha256sum | cut -c1-16)
out=$cache/bochs/$key
if [ -x "$out/bochs" ]; then
	say "cached: $out"
	echo "$out/bochs"
	exit 0
fi

# The mirror and its keys are those of this machine's own apt sources (see debian.py).
tarball=${BOCHS_TARBALL:-}
if [ -z "$tarball" ]; then
	while read -r suite file sum; do
		case $suite in '' | '#'*) continue ;; esac
		tarball=$cache/bochs-source/$file
		[ -f "$tarball" ] || {
			say "fetching bochs from $suite"
			/usr/bin/python3 "$here/../sev-machine/debian.py" source "$suite" bochs \
				"$cache/bochs-source" >/dev/null 2>&1 ||
				say "not all files of the source package are there; the tarball counts"
		}
		if [ -f "$tarball" ] && echo "$sum  $tarball" | sha256sum -c --quiet - 2>/dev/null; then
			break
		fi
		say "$file: missing or wrong SHA-256; trying the next"
		tarball=
	done <"$here/sources"
	[ -n "$tarball" ] || die "no usable source; see tests/bochs/sources"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/bochs.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
say "unpacking $(basename "$tarball")"
tar xf "$tarball" -C "$work" --strip-components=1
cd "$work"
edit() { # file in cpu/, sed expression, what is to be found after, how often
	sed -i "$2" "cpu/$1"
	[ "$(grep -c "$3" "cpu/$1")" = "$4" ] || die "cpu/$1 has no place for: $2"
}
# Bochs masks interrupts by the guest's RFLAGS.IF after a VM entry, although "external-interrupt
# exiting" makes IF irrelevant (SDM vol. 3, 26.2): a guest that spins with interrupts off would keep
# the CPU. It gets this right at later changes of IF: ask it at the entry, too.
edit vmx.cc 's/^  BX_CPU_THIS_PTR in_vmx_guest = true;$/&\n  handleInterruptMaskChange();/' \
	'^  handleInterruptMaskChange();$' 1
# The same at VMRUN, where with V_INTR_MASKING the host's IF counts (APM vol. 2, 15.21.1).
edit svm.cc 's/^  BX_CPU_THIS_PTR in_svm_guest = true;$/&\n  if (SVM_V_INTR_MASKING \&\& SVM_HOST_IF)\n    unmask_event(BX_EVENT_PENDING_INTR | BX_EVENT_PENDING_LAPIC_INTR);/' \
	'^  if (SVM_V_INTR_MASKING && SVM_HOST_IF)$' 1
# VMRUN loads the guest's CR2 (APM vol. 2, 15.5.1); Bochs reads it from the control block and forgets it.
edit svm.cc 's/^  BX_CPU_THIS_PTR cr3 = guest.cr3;$/  BX_CPU_THIS_PTR cr2 = guest.cr2;\n&/' \
	'^  BX_CPU_THIS_PTR cr2 = guest.cr2;$' 1
# At an intercepted #DB, DR6 and DR7.GD are as its handler would see them (APM vol. 2, 15.12.2).
edit svm.cc '/^void BX_CPU_C::SvmInterceptException(/,/^}/s/^  BX_CPU_THIS_PTR debug_trap = 0;.*$/  if (vector == BX_DB_EXCEPTION) {\n    BX_CPU_THIS_PTR dr6.val32 = (BX_CPU_THIS_PTR dr6.val32 \& 0xffff6ff0) | (BX_CPU_THIS_PTR debug_trap \& 0x0000e00f);\n    BX_CPU_THIS_PTR dr7.set_GD(0);\n  }\n&/' \
	'^    BX_CPU_THIS_PTR dr7.set_GD(0);$' 1
# With one CPU, cpu_loop() commits what the delivery of an exception has changed; the loop for several in
# main.cc does not: a VM exit by an interrupt right then would save the RIP of before, with the handler's CS
# and stack.
edit exception.cc 's/^  BX_CPU_THIS_PTR last_exception_type = 0; \/\/ error resolved$/&\n  BX_CPU_THIS_PTR prev_rip = RIP;\n  BX_CPU_THIS_PTR speculative_rsp = false;/' \
	'^  BX_CPU_THIS_PTR prev_rip = RIP;$' 1
# What the tests ask for by the environment: see checks.h.
cp "$here/checks.h" cpu/ravelin-checks.h
hook() { # file, sed expression, how often its work is to be found after
	edit "$1" "$2" 'ravelin[-_]' "$3"
}
hook vmx.cc 's/^#include "cpu.h"$/&\n#define RAVELIN_CHECKS\n#include "ravelin-checks.h"/' 1
hook vmx.cc 's/^  BX_CPU_THIS_PTR in_vmx_guest = true;$/&\n  ravelin_entry(this);/' 2
hook vmx.cc 's/^  BX_CPU_THIS_PTR in_vmx_guest = false;$/  ravelin_exit(this, reason);\n&/' 3
hook vmx.cc '/::VMREAD_EqGq(/,/^  if/s/^#if BX_SUPPORT_VMX$/&\n  ravelin_count(this, RAVELIN_READS);/' 4
hook vmx.cc '/::VMWRITE_GqEq(/,/^  if/s/^#if BX_SUPPORT_VMX$/&\n  ravelin_count(this, RAVELIN_WRITES);/' 5
hook vmx.cc 's/TLB_flush();.*with EPTP.51:12.$/&\n     ravelin_tlb_drop(this, false, false, inv_eptp.xmm64u(0));/' 6
hook vmx.cc 's/TLB_flush();.*with all EPTPs$/&\n     ravelin_tlb_drop(this, true, false, 0);/' 7
hook vmx.cc 's/TLB_flush.*tagged with VPID\( except globals\)*$/&\n    ravelin_tlb_drop(this, false, true, vpid);/' 10
hook vmx.cc 's/TLB_flush();.*tagged with VPID <> 0$/&\n    ravelin_tlb_drop(this, true, true, 0);/' 11
for name in RDMSR WRMSR; do
	sed -i "/AttrRegparmN(1) BX_CPU_C::$name(/,/^  if/s/^#if BX_CPU_LEVEL >= 5\$/&\n  ravelin_count(this, RAVELIN_MSRS);/" cpu/msr.cc
done
hook msr.cc 's/^#include "cpu.h"$/&\n#include "ravelin-checks.h"/' 3
hook msr.cc 's/msr.ia32_feature_ctrl = val32_lo;/msr.ia32_feature_ctrl = ravelin_feature_control(this, val32_lo);/' 4
hook msr.cc 's/val64 = 0x1F; .. set bits .4:0.$/val64 = ravelin_arch_capabilities();/' 5
hook msr.cc 's/^.*\[0\] - Indirect Branch Prediction Barrier (IBPB)$/&\n      ravelin_barrier(this);/' 6
say "configuring"
./configure --enable-cpu-level=6 --enable-x86-64 --enable-smp --enable-fpu --enable-a20-pin \
	--enable-all-optimizations --enable-vmx=2 --enable-svm --enable-avx --enable-evex \
	--enable-protection-keys --enable-memtype --enable-monitor-mwait --enable-pci \
	--enable-iodebug --with-nogui --disable-docbook \
	>configure.log 2>&1 || { tail -20 configure.log >&2; die "configure failed"; }
say "compiling with $jobs jobs (about 2 minutes on 2 cores)"
make -j"$jobs" bochs >make.log 2>&1 ||
	{ grep -B2 -A8 -E 'error:|Error ' make.log | head -60 >&2; die "build failed"; }

mkdir -p "$out"
cp bochs "$out/bochs.new"
strip "$out/bochs.new"
mv "$out/bochs.new" "$out/bochs"
say "built: $out"
echo "$out/bochs"
