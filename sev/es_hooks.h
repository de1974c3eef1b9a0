/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_SEV_ES_HOOKS_H
#define RAVELIN_SEV_ES_HOOKS_H

/*
 * Deliberate mistakes, for the tests that show what each rule is good for. Only a
 * build with -DES_TEST_HOOKS has them (`make es-hooks`); in the image that is
 * shipped they are constants that the compiler removes.
 */
#define es_hook_intercepts(b) ((void)(b))
#define es_hook(name) false

#endif
