/* SPDX-License-Identifier: BSD-2-Clause */
// sources: sev/sha256.c
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sev/sha256.h"

static void check(const void *data, u64 size, const char *want)
{
	u8 digest[SHA256_SIZE];
	char text[2 * SHA256_SIZE + 1];

	sha256(data, size, digest);
	for (u32 i = 0; i < SHA256_SIZE; i++)
		sprintf(text + 2 * i, "%02x", digest[i]);
	assert_string_equal(text, want);
}

/* FIPS 180-4 examples, and the long message of NIST's SHA test suite. */
static void test_nist_vectors(void **state)
{
	char *million = malloc(1000000);

	memset(million, 'a', 1000000);
	check("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	check("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	check("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
	      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	check("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnop"
	      "qrlmnopqrsmnopqrstnopqrstu", 112,
	      "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
	check(million, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(million);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_nist_vectors) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
