/* SPDX-License-Identifier: BSD-2-Clause */
#include "es_rt.h"

/*
 * SEV-ES test guest: es_test says which part of docs/sev-es.md it exercises (the row's
 * number), es_args how.
 */

void es_ap(u32 cpu) { (void)cpu; }

static void hello(void)
{
	print("es: hello\n");
}

static void terminate(void)
{
	es_terminate((u32)es_args[0], (u32)es_args[1]);
}

static void (*const tests[])(void) = {
	[0] = hello,
	[16] = terminate,
};

void es_guest(void)
{
	if (es_test < sizeof(tests) / sizeof(tests[0]) && tests[es_test] != NULL)
		tests[es_test]();
	else
		es_terminate(1, 0x20);
}
