/* SPDX-License-Identifier: BSD-2-Clause */
// sources: vdev/bus.c vdev/lapic.c vdev/pic.c vdev/ioapic.c vdev/pit.c vdev/rtc.c
// sources: vdev/uart.c vdev/acpi_pm.c vdev/platform.c tests/unit/fake_vdev_host.c
// sources: tests/fuzz/vdev_fuzz.c
#include "tests/unit/fake_vdev_host.h"

#include <stdlib.h>

#include "tests/fuzz/vdev_fuzz.h"

/* VDEV_FUZZ_ROUNDS=N runs more of them; VDEV_FUZZ_SEED=N starts elsewhere. */
static u32 environment(const char *name, u32 otherwise)
{
	const char *text = getenv(name);

	return text ? (u32)strtoul(text, NULL, 0) : otherwise;
}

static void random_guests(void **state)
{
	u32 rounds = environment("VDEV_FUZZ_ROUNDS", 20);
	u32 seed = environment("VDEV_FUZZ_SEED", 1);

	for (u32 i = 0; i < rounds; i++) {
		print_message("seed %u\n", seed + i);
		vdev_fuzz(seed + i, 50000, 1 + (seed + i) % 5);
	}
}

static void many_processors(void **state)
{
	vdev_fuzz(64, 50000, 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_guests),
		cmocka_unit_test(many_processors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
