/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_SELFTEST_SELFTEST_H
#define RAVELIN_SELFTEST_SELFTEST_H

/*
 * "selftest=NAME" on the command line does, once all CPUs are up, what a bug
 * would: null, exec, text, wx, stack, ud, smash, assert, hidden. The
 * report on the console is the result. "safe" checks what must be survived.
 */
void selftest(const char *cmdline);

#endif
