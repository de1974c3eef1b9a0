/* SPDX-License-Identifier: BSD-2-Clause */
#include "boot/efi/loader.h"

/*
 * The loader looks at the configuration only for names of files; what is wrong
 * with the rest, the hypervisor says.
 */
#define LINE_CHARS 512

static const char *const file_keys[] = {
	"kernel", "initrd", "firmware", "module", "sev-loader", "sev-cert", "sev-session",
	"sev-secret-header", "sev-secret",
};

static BOOLEAN blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* "key = value": is the key the given one? *value: behind the equals sign and blanks. */
static BOOLEAN key_is(const char *line, const char *key, const char **value)
{
	while (*key != 0)
		if (*line++ != *key++)
			return FALSE;
	while (blank(*line))
		line++;
	if (*line++ != '=')
		return FALSE;
	while (blank(*line))
		line++;
	*value = line;
	return TRUE;
}

/* The same file may be named by several VMs: it is read once. */
static BOOLEAN known(const struct boot_info *bi, const char *path)
{
	for (u32 i = 0; i < bi->modules; i++)
		if (strcmpa((const CHAR8 *)bi->module[i].name, (const CHAR8 *)path) == 0)
			return TRUE;
	return FALSE;
}

/* A secret that comes later, by the shell. */
static BOOLEAN no_file(const char *key, const char *path)
{
	return strcmpa((const CHAR8 *)key, (const CHAR8 *)"sev-secret") == 0 &&
	       strcmpa((const CHAR8 *)path, (const CHAR8 *)"wait") == 0;
}

/* The value up to the first blank: what follows are a module's arguments. */
static void read_value(struct boot_info *bi, const char *key, const char *value)
{
	char path[BOOT_NAME_LEN];
	UINTN n = 0;

	if (*value == '"')
		value++;
	while (value[n] != 0 && value[n] != '"' && !blank(value[n]) && n < BOOT_NAME_LEN - 1) {
		path[n] = value[n];
		n++;
	}
	path[n] = 0;
	if (n == 0 || known(bi, path) || no_file(key, path))
		return;
	if (files_read(bi, path) == NULL)
		Print(L"ravelin: %a: more than %d files; not read\n", path, BOOT_MODULE_MAX);
}

static void read_line(struct boot_info *bi, const char *line)
{
	const char *value;

	while (blank(*line))
		line++;
	for (UINTN i = 0; i < sizeof(file_keys) / sizeof(file_keys[0]); i++)
		if (key_is(line, file_keys[i], &value))
			read_value(bi, file_keys[i], value);
}

void config_read_files(struct boot_info *bi, const char *text, UINTN size)
{
	char line[LINE_CHARS];
	UINTN n = 0;

	for (UINTN i = 0; i <= size; i++) {
		char c = i < size ? text[i] : '\n';

		if (c == '\n') {
			line[n] = 0;
			read_line(bi, line);
			n = 0;
		} else if (n < LINE_CHARS - 1) {
			line[n++] = c;
		}
	}
}
