/* SPDX-License-Identifier: BSD-2-Clause */
// sources: core/string.c
/* The tests of guest-pv for a build with masks that are part of struct pv_cpu. */
#define PV_STATIC_MASKS 1
#include "tests/unit/test_pv_guest.c"
