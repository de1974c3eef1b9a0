/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_SHELL_H
#define RAVELIN_CORE_SHELL_H

#include "core/types.h"

/*
 * The shell on the machine's console. Commands are records in a linker section:
 * any folder adds its own with SHELL_COMMAND(). They run on CPU 0, interrupts
 * on, and print with log_printf().
 */
#define SHELL_ARGS 16
#define SHELL_LINE 256

struct shell_command {
	const char *name;
	/* argv[0] is the command. 0; -EINVAL prints the usage; other errors have been explained. */
	int (*run)(int argc, char **argv);
	const char *usage; /* what follows the name, "" for nothing */
	const char *help;  /* one line */
};
ASSERT_SIZE(struct shell_command, 32);

/* SHELL_COMMAND(psp, psp_command, "status|reset", "the security processor"); */
#define SHELL_COMMAND(id, fn, usage_text, help_text)                                      \
	static const struct shell_command shell_command_##id __used __aligned(8)          \
		__section("shell_commands") = { #id, fn, usage_text, help_text }

/* One byte of input. */
void shell_input(u8 ch);
/* For a command that was given what nobody may find later: out of line and history. */
void shell_forget(void);
/* Prints the prompt and what has been typed so far. */
void shell_prompt(void);
/* Runs one command line; it is cut up in place. 0 or negative errno; -ENOENT: no such command. */
int shell_run(char *line);

/* A number or size argument: decimal, 0x hexadecimal, with K, M or G. False when malformed. */
bool shell_number(const char *s, u64 *value);

#endif
