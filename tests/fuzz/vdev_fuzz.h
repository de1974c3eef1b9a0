/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_TESTS_FUZZ_VDEV_FUZZ_H
#define RAVELIN_TESTS_FUZZ_VDEV_FUZZ_H

#include "core/types.h"

/*
 * Plays `steps` random guest accesses, messages and clock advances against a
 * platform with `cpus` vCPUs, checking invariants on the way. Everything
 * follows from the seed. Failures are cmocka assertions or sanitizer reports.
 */
void vdev_fuzz(u64 seed, u32 steps, u32 cpus);

#endif
