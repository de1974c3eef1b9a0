/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/string.c
/* The tests of guest-pv for a build with one CPU. */
#define PV_CPUS 1
#include "tests/unit/test_pv_guest.c"
