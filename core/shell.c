/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/shell.h"

#include "core/console.h"
#include "core/errno.h"
#include "core/log.h"
#include "core/string.h"

#define PROMPT "ravelin> "
#define HISTORY 8U
#define KEY_CTRL(letter) ((letter) & 0x1f)
#define KEY_ESC 0x1b
#define KEY_DEL 0x7f

/* From the linker script. */
extern const struct shell_command __start_shell_commands[], __stop_shell_commands[];

static struct {
	char line[SHELL_LINE];
	u32 len;
	char history[HISTORY][SHELL_LINE];
	u32 count;    /* lines ever kept */
	u32 back;     /* how far back the line shown is, 0: the new one */
	u8 sequence;  /* of an escape sequence: 0 none, 1 after ESC, 2 after ESC [ */
} shell;

static void put(const char *s)
{
	log_write(s, strlen(s));
}

void shell_prompt(void)
{
	put(PROMPT);
	log_write(shell.line, shell.len);
}

/* ---- running ---- */

/* Cuts line into words; words beyond max are counted only. */
static int split(char *line, char **argv, int max)
{
	int argc = 0;

	while (*line) {
		while (*line == ' ' || *line == '\t')
			*line++ = '\0';
		if (!*line)
			break;
		if (argc < max)
			argv[argc] = line;
		argc++;
		while (*line && *line != ' ' && *line != '\t')
			line++;
	}
	return argc;
}

static const struct shell_command *find(const char *name)
{
	for (const struct shell_command *c = __start_shell_commands; c < __stop_shell_commands; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

int shell_run(char *line)
{
	const struct shell_command *c;
	char *argv[SHELL_ARGS];
	int argc = split(line, argv, SHELL_ARGS);
	int error;

	if (!argc)
		return 0;
	c = find(argv[0]);
	if (!c) {
		log_printf("%s: no such command; try help\n", argv[0]);
		return -ENOENT;
	}
	error = argc > SHELL_ARGS ? -EINVAL : c->run(argc, argv);
	if (error == -EINVAL)
		log_printf("usage: %s %s\n", c->name, c->usage);
	return error;
}

bool shell_number(const char *s, u64 *value)
{
	size_t len = strlen(s);
	u32 shift = 0;

	if (!len)
		return false;
	switch (s[len - 1]) {
	case 'k': case 'K': shift = 10; break;
	case 'm': case 'M': shift = 20; break;
	case 'g': case 'G': shift = 30; break;
	default: break;
	}
	if (str_to_u64(s, len - (shift ? 1 : 0), value) || *value > (~0UL >> shift))
		return false;
	*value <<= shift;
	return true;
}

/* The first command in the alphabet after name, NULL at the end. */
static const struct shell_command *after(const char *name)
{
	const struct shell_command *first = NULL;

	for (const struct shell_command *c = __start_shell_commands; c < __stop_shell_commands; c++)
		if (strcmp(c->name, name) > 0 && (!first || strcmp(c->name, first->name) < 0))
			first = c;
	return first;
}

static int help_command(int argc, char **argv)
{
	const struct shell_command *c = after("");

	(void)argv;
	if (argc > 1)
		return -EINVAL;
	for (; c; c = after(c->name)) {
		log_printf("  %-12s %s\n", c->name, c->help);
		if (c->usage[0])
			log_printf("               %s %s\n", c->name, c->usage);
	}
	return 0;
}
SHELL_COMMAND(help, help_command, "", "lists the commands");

/* ---- line editing ---- */

/* Replaces what is shown after the prompt. */
static void show_line(const char *text)
{
	while (shell.len) {
		put("\b \b");
		shell.len--;
	}
	shell.len = (u32)MIN(str_copy(shell.line, text, SHELL_LINE), (size_t)SHELL_LINE - 1);
	log_write(shell.line, shell.len);
}

/* Up (older) or down in the history. */
static void recall(bool older)
{
	u32 kept = MIN(shell.count, HISTORY);

	if (older && shell.back < kept)
		shell.back++;
	else if (!older && shell.back)
		shell.back--;
	else
		return;
	show_line(shell.back ? shell.history[(shell.count - shell.back) % HISTORY] : "");
}

static void keep(void)
{
	u32 last = (shell.count - 1) % HISTORY;

	if (shell.count && !strcmp(shell.history[last], shell.line))
		return;
	str_copy(shell.history[shell.count++ % HISTORY], shell.line, SHELL_LINE);
}

void shell_forget(void)
{
	memset(shell.line, 0, SHELL_LINE);
	if (shell.count)
		memset(shell.history[--shell.count % HISTORY], 0, SHELL_LINE);
}

static void enter(void)
{
	shell.line[shell.len] = '\0';
	shell.back = 0;
	put("\n");
	if (shell.len) {
		char line[SHELL_LINE];

		keep();
		str_copy(line, shell.line, sizeof(line));
		shell.len = 0;
		shell_run(line);
	}
	if (!console_owner()) /* else the command gave the console away */
		shell_prompt();
}

static void erase(void)
{
	if (!shell.len)
		return;
	shell.len--;
	put("\b \b");
}

/* The part of an escape sequence; true when ch belonged to one. */
static bool sequence(u8 ch)
{
	u8 state = shell.sequence;

	shell.sequence = 0;
	if (ch == KEY_ESC)
		shell.sequence = 1;
	else if (state == 1 && (ch == '[' || ch == 'O'))
		shell.sequence = 2;
	else if (state == 2 && (ch == 'A' || ch == 'B'))
		recall(ch == 'A');
	else if (state == 2 && ((ch >= '0' && ch <= '9') || ch == ';'))
		shell.sequence = 2; /* parameters of a key that is not used here */
	else
		return state == 2;
	return true;
}

static void insert(u8 ch)
{
	char text = (char)ch;

	if (ch < ' ' || ch > '~')
		return;
	if (shell.len == SHELL_LINE - 1) {
		put("\a");
		return;
	}
	shell.line[shell.len++] = text;
	log_write(&text, 1);
}

void shell_input(u8 ch)
{
	if (sequence(ch))
		return;
	switch (ch) {
	case '\r':
	case '\n':
		enter();
		break;
	case '\b':
	case KEY_DEL:
		erase();
		break;
	case KEY_CTRL('U'):
		show_line("");
		break;
	case KEY_CTRL('C'):
		shell.len = 0;
		put("^C\n" PROMPT);
		break;
	case KEY_CTRL('P'):
	case KEY_CTRL('N'):
		recall(ch == KEY_CTRL('P'));
		break;
	default:
		insert(ch);
		break;
	}
}
