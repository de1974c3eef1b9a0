/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/config.h"

#include "core/log.h"
#include "core/pv.h"
#include "core/string.h"

/*
 * ravelin.conf: an INI dialect, parsed in one pass without copying. The text is
 * hostile: every length is checked and what is echoed in an error is cleaned.
 */

/* A piece of the text; not NUL-terminated. */
struct span {
	const char *s;
	size_t len;
};

enum section { SECTION_NONE, SECTION_HOST, SECTION_VM, SECTION_SKIP };

#define KEYS_MAX 24

struct parser {
	struct config *c;
	const char *file;
	u32 line;
	enum section section;
	struct vm_config *vm;        /* the section's VM, SECTION_VM only */
	u32 host_line;               /* line of [host], 0: none yet */
	u32 attach_line;
	u32 key_line[KEYS_MAX];      /* where each key of this section was given, 0: not */
};

/* Parses one value into *p->c or *p->vm; returns NULL or what is wrong with it. */
typedef const char *(*key_fn)(struct parser *p, struct span value);

struct key {
	const char *name;
	key_fn parse; /* NULL: a path or a flag */
	bool repeats;
	bool flag;
	size_t place; /* where in struct vm_config the path or flag goes */
};

#define ECHO_LEN 48

/* The value as an error message may show it: printable ASCII, clipped. */
static const char *echo(struct span v, char *out)
{
	size_t n = MIN(v.len, (size_t)ECHO_LEN);

	for (size_t i = 0; i < n; i++)
		out[i] = v.s[i] >= ' ' && v.s[i] <= '~' ? v.s[i] : '?';
	if (v.len > ECHO_LEN)
		memcpy(out + ECHO_LEN - 3, "...", 3);
	out[n] = '\0';
	return out;
}

static bool is_space(char ch)
{
	return ch == ' ' || ch == '\t';
}

static char lower(char ch)
{
	return ch >= 'A' && ch <= 'Z' ? (char)(ch - 'A' + 'a') : ch;
}

static struct span span_trim(struct span v)
{
	while (v.len && is_space(v.s[0])) {
		v.s++;
		v.len--;
	}
	while (v.len && is_space(v.s[v.len - 1]))
		v.len--;
	return v;
}

/* Case does not matter in words that are values; keys are in small letters. */
static bool span_is(struct span v, const char *word)
{
	size_t i;

	for (i = 0; i < v.len; i++)
		if (!word[i] || lower(v.s[i]) != word[i])
			return false;
	return word[i] == '\0';
}

/* Cuts the next piece off *rest: up to a character that `is_end` accepts. */
static struct span span_next(struct span *rest, char end)
{
	struct span piece = { rest->s, 0 };
	size_t used;

	while (piece.len < rest->len &&
	       !(end == ' ' ? is_space(piece.s[piece.len]) : piece.s[piece.len] == end))
		piece.len++;
	used = MIN(piece.len + 1, rest->len);
	rest->s += used;
	rest->len -= used;
	return span_trim(piece);
}

/* Decimal or 0x-hexadecimal; false when malformed or over 64 bits. */
static bool span_number(struct span v, u64 *out)
{
	return str_to_u64(v.s, v.len, out) == 0;
}

static bool span_size(struct span v, u64 *out)
{
	u32 shift = 0;
	u64 n;

	if (v.len) {
		switch (lower(v.s[v.len - 1])) {
		case 'k': shift = 10; break;
		case 'm': shift = 20; break;
		case 'g': shift = 30; break;
		case 't': shift = 40; break;
		default: break;
		}
	}
	if (shift)
		v.len--;
	if (!span_number(v, &n) || n > (~0UL >> shift))
		return false;
	*out = n << shift;
	return true;
}

static const char *span_bool(struct span v, bool *out)
{
	if (span_is(v, "yes") || span_is(v, "on") || span_is(v, "true"))
		*out = true;
	else if (span_is(v, "no") || span_is(v, "off") || span_is(v, "false"))
		*out = false;
	else
		return "use yes or no";
	return NULL;
}

/* out holds size bytes; too_long is the error. */
static const char *span_text(struct span v, char *out, size_t size, const char *too_long)
{
	if (v.len >= size)
		return too_long;
	memcpy(out, v.s, v.len);
	out[v.len] = '\0';
	return NULL;
}

static const char *span_path(struct span v, char *out)
{
	if (!v.len)
		return "empty; use the path of a file or the name of a boot module";
	for (size_t i = 0; i < v.len; i++)
		if (is_space(v.s[i]))
			return "a path has no spaces";
	return span_text(v, out, CONFIG_PATH_LEN, "path is longer than 127 characters");
}

static bool name_ok(struct span v)
{
	if (!v.len || v.len >= CONFIG_NAME_LEN)
		return false;
	for (size_t i = 0; i < v.len; i++) {
		char ch = lower(v.s[i]);

		if (!(ch >= 'a' && ch <= 'z') && !(ch >= '0' && ch <= '9') && ch != '-' &&
		    ch != '_' && ch != '.')
			return false;
	}
	return true;
}

#define NAME_RULE "use 1 to 31 letters, digits, dots, dashes or underscores"

/* ---- [host] ---- */

static const char *console_one(struct span v, struct console_config *con)
{
	struct span where = span_next(&v, ',');
	struct span baud = span_trim(v);
	u64 n;

	*con = (struct console_config){ .kind = CONSOLE_UART, .baud = 115200 };
	if (span_is(where, "efifb")) {
		*con = (struct console_config){ .kind = CONSOLE_FB };
		return baud.len ? "efifb has no baud rate" : NULL;
	}
	if (span_is(where, "com1"))
		con->port = 0x3f8;
	else if (span_is(where, "com2"))
		con->port = 0x2f8;
	else if (span_number(where, &n) && n >= 0x100 && n <= 0xfff8)
		con->port = (u16)n;
	else
		return "use com1, com2, a port from 0x100 to 0xfff8, or efifb";
	if (!baud.len)
		return NULL;
	if (!span_number(baud, &n) || n < 50 || n > 115200 || 115200 % n)
		return "bad baud rate; use 115200 or a whole fraction of it, such as 9600";
	con->baud = (u32)n;
	return NULL;
}

static const char *key_console(struct parser *p, struct span v)
{
	struct host_config *h = &p->c->host;
	struct console_config con;
	const char *error;

	do {
		error = console_one(span_next(&v, ' '), &con);
		if (error)
			return error;
		if (h->consoles == CONFIG_CONSOLES)
			return "at most 4 consoles";
		h->console[h->consoles++] = con;
		v = span_trim(v);
	} while (v.len);
	return NULL;
}

static const char *key_log(struct parser *p, struct span v)
{
	static const struct {
		const char *word;
		u32 level;
	} levels[] = {
		{ "error", LOG_ERROR }, { "warn", LOG_WARN }, { "info", LOG_INFO },
		{ "debug", LOG_DEBUG },
	};

	for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
		if (span_is(v, levels[i].word)) {
			p->c->host.log_level = levels[i].level;
			return NULL;
		}
	return "use error, warn, info or debug";
}

static const char *key_attach(struct parser *p, struct span v)
{
	p->attach_line = p->line;
	if (!name_ok(v))
		return "not a VM's name; " NAME_RULE;
	return span_text(v, p->c->host.attach, CONFIG_NAME_LEN, "too long");
}

static const char *key_escape(struct parser *p, struct span v)
{
	char ch = 0;

	if (v.len == 2 && v.s[0] == '^')
		ch = lower(v.s[1]);
	else if (v.len == 6 && span_is((struct span){ v.s, 5 }, "ctrl-"))
		ch = lower(v.s[5]);
	/* Enter, tab and backspace must reach whoever has the console. */
	if (((ch >= 'a' && ch <= 'z') || (ch >= '[' && ch <= '_')) && ch != 'm' && ch != 'j' &&
	    ch != 'i' && ch != 'h') {
		p->c->host.escape = (char)(ch & 0x1f);
		return NULL;
	}
	return "use ctrl- and a letter (not h, i, j, m) or one of [ \\ ] ^ _";
}

static const char *key_mitigations(struct parser *p, struct span v)
{
	return span_bool(v, &p->c->host.mitigations);
}

static const char *key_memory_encryption(struct parser *p, struct span v)
{
	return span_bool(v, &p->c->host.memory_encryption);
}

/* ---- [vm NAME] ---- */

static const char *key_cmdline(struct parser *p, struct span v)
{
	return span_text(v, p->vm->cmdline, CONFIG_CMDLINE_LEN, "longer than 2047 characters");
}

static const char *key_module(struct parser *p, struct span v)
{
	struct module_config *m;
	const char *error;

	if (p->vm->modules == CONFIG_MODULES)
		return "at most 8 modules";
	m = &p->vm->module[p->vm->modules];
	error = span_path(span_next(&v, ' '), m->path);
	if (!error)
		error = span_text(span_trim(v), m->args, CONFIG_PATH_LEN,
				  "arguments are longer than 127 characters");
	if (!error)
		p->vm->modules++;
	return error;
}

static const char *key_memory(struct parser *p, struct span v)
{
	u64 n;

	if (!span_size(v, &n))
		return "not a size; use a number with K, M or G, 2M to 1T";
	if (n < MIB(2) || n > GIB(1024))
		return "out of range; use 2M to 1T";
	if (!IS_ALIGNED(n, MIB(2)))
		return "not a multiple of 2M";
	p->vm->memory = n;
	return NULL;
}

static const char *key_cpus(struct parser *p, struct span v)
{
	u64 n;

	if (!span_number(v, &n) || n < 1 || n > VCPU_MAX)
		return "use a number from 1 to 64";
	p->vm->cpus = (u32)n;
	return NULL;
}

static const char *key_affinity(struct parser *p, struct span v)
{
	struct cpu_set *set = &p->vm->affinity;
	struct span item, first;
	bool range;
	u64 a, b;

	do {
		item = span_next(&v, ',');
		range = memchr(item.s, '-', item.len) != NULL;
		first = span_next(&item, '-');
		if (!span_number(first, &a))
			return "not a list of CPUs; use numbers and ranges such as 0-1,3";
		b = a;
		if (range && !span_number(span_trim(item), &b))
			return "not a list of CPUs; use numbers and ranges such as 0-1,3";
		if (a > b || b >= CPU_MAX)
			return "bad range of CPUs; use 0 to 255, the lower number first";
		for (; a <= b; a++)
			set->bits[a / 64] |= BIT(a % 64);
	} while (v.len);
	return NULL;
}

static const char *key_sev(struct parser *p, struct span v)
{
	if (span_is(v, "off"))
		p->vm->sev = SEV_OFF;
	else if (span_is(v, "es"))
		p->vm->sev = SEV_ES;
	else
		return "use off or es";
	return NULL;
}

static const char *key_sev_secret_gpa(struct parser *p, struct span v)
{
	return span_number(v, &p->vm->sev_secret_gpa) ? NULL : "use an address, such as 0x80d000";
}

/* Names of a comma-separated list: the bit of each in *set. False: there is no such name. */
static bool span_words(struct span v, const char *const *word, u32 words, u32 *set)
{
	*set = 0;
	do {
		struct span item = span_next(&v, ',');
		u32 i = 0;

		while (i < words && !span_is(item, word[i]))
			i++;
		if (i == words)
			return false;
		*set |= BIT32(i);
	} while (v.len);
	return true;
}

/* Bits of the guest policy: SEV API specification, chapter 3. */
#define POLICY_ES BIT32(2)

static const char *key_policy(struct parser *p, struct span v)
{
	static const char *const word[] = { "nodbg", "noks", "es", "nosend", "domain", "sev" };
	u32 policy;
	u64 n;

	if (span_number(v, &n)) {
		if (n > 0xffffffffUL)
			return "a policy has 32 bits";
		p->vm->policy = (u32)n;
		return NULL;
	}
	if (!span_words(v, word, ARRAY_SIZE(word), &policy))
		return "use a number, or words of nodbg, noks, es, nosend, domain, sev";
	p->vm->policy = policy;
	return NULL;
}

static const char *key_pv(struct parser *p, struct span v)
{
	static const char *const word[] = { "kvmclock", "steal", "eoi", "ipi", "tlb", "unhalt", "yield" };
	u32 pv;

	_Static_assert(PV_ALL == BIT32(ARRAY_SIZE(word)) - 1, "a word for each bit, in order");
	if (span_is(v, "all") || span_is(v, "none")) {
		p->vm->pv = span_is(v, "all") ? PV_ALL : 0;
		return NULL;
	}
	if (!span_words(v, word, ARRAY_SIZE(word), &pv))
		return "use all, none, or words of kvmclock, steal, eoi, ipi, tlb, unhalt, yield";
	if ((pv & PV_TLB) != 0 && (pv & PV_STEAL) == 0)
		return "tlb needs steal: its requests are in the same record";
	p->vm->pv = pv;
	return NULL;
}

#define KEY(key, fn) { .name = key, .parse = fn }
#define FLAG(key, field) { .name = key, .flag = true, .place = offsetof(struct vm_config, field) }
#define PATH(key, field) { .name = key, .place = offsetof(struct vm_config, field) }

static const struct key host_keys[] = {
	{ .name = "console", .parse = key_console, .repeats = true },
	KEY("log", key_log),
	KEY("attach", key_attach),
	KEY("escape", key_escape),
	KEY("mitigations", key_mitigations),
	KEY("memory-encryption", key_memory_encryption),
};

static const struct key vm_keys[] = {
	PATH("kernel", kernel),
	PATH("initrd", initrd),
	KEY("cmdline", key_cmdline),
	{ .name = "module", .parse = key_module, .repeats = true },
	PATH("firmware", firmware),
	KEY("memory", key_memory),
	KEY("cpus", key_cpus),
	KEY("affinity", key_affinity),
	KEY("sev", key_sev),
	KEY("policy", key_policy),
	PATH("sev-loader", sev_loader),
	PATH("sev-cert", sev_cert),
	PATH("sev-session", sev_session),
	PATH("sev-secret-header", sev_secret_header),
	PATH("sev-secret", sev_secret),
	KEY("sev-secret-gpa", key_sev_secret_gpa),
	FLAG("autostart", autostart),
	FLAG("debug-exit", debug_exit),
	FLAG("debugcon", debugcon),
	KEY("pv", key_pv),
};

#define HOST_KEY_NAMES "console, log, attach, escape, mitigations, memory-encryption"
#define VM_KEY_NAMES \
	"kernel, initrd, cmdline, module, firmware, memory, cpus, affinity, sev, policy, " \
	"sev-loader, sev-cert, sev-session, sev-secret-header, sev-secret, sev-secret-gpa, " \
	"autostart, debug-exit, debugcon, pv"

_Static_assert(ARRAY_SIZE(host_keys) <= KEYS_MAX, "key_line[] is too short");
_Static_assert(ARRAY_SIZE(vm_keys) <= KEYS_MAX, "key_line[] is too short");

/* ---- the text ---- */

/* Counts an error that has been logged; the section it is in cannot be started. */
static void count_error(struct parser *p)
{
	p->c->errors++;
	if (p->section == SECTION_VM)
		p->vm->valid = false;
}

static void value_error(struct parser *p, const char *key, struct span value, const char *why)
{
	char shown[ECHO_LEN + 1];

	log_err("%s:%u: %s = %s: %s", p->file, p->line, key, echo(value, shown), why);
	count_error(p);
}

static void line_error(struct parser *p, struct span text, const char *why)
{
	char shown[ECHO_LEN + 1];

	log_err("%s:%u: '%s': %s", p->file, p->line, echo(text, shown), why);
	count_error(p);
}

static void vm_error(struct parser *p, const char *why)
{
	log_err("%s:%u: [vm %s]: %s", p->file, p->vm->line, p->vm->name, why);
	count_error(p);
}

bool config_secret_waits(const struct vm_config *c)
{
	return !strcmp(c->sev_secret, "wait");
}

/* Checks what only the whole section shows. */
static void section_end(struct parser *p)
{
	struct vm_config *vm = p->vm;

	if (p->section != SECTION_VM)
		return;
	if (vm->kernel[0] && vm->firmware[0])
		vm_error(p, "has both kernel and firmware; remove one");
	else if (!vm->kernel[0] && !vm->firmware[0] && !vm->sev_loader[0] && vm->valid)
		vm_error(p, "names nothing to start; add kernel or firmware");
	else if (vm->firmware[0] && (vm->initrd[0] || vm->modules || vm->cmdline[0]))
		vm_error(p, "initrd, module and cmdline need kernel, not firmware");
	else if (vm->initrd[0] && vm->modules)
		vm_error(p, "has both initrd and module; module is for multiboot kernels only");
	if (vm->sev == SEV_ES)
		vm->policy |= POLICY_ES; /* the launch would be refused without */
	else if (vm->sev_loader[0] || vm->sev_cert[0] || vm->sev_session[0] || vm->sev_secret[0])
		vm_error(p, "has sev-... keys, which need sev = es");
	if (vm->sev == SEV_ES && vm->kernel[0] && !vm->sev_loader[0])
		vm_error(p, "sev = es with a kernel needs sev-loader");
	if (vm->firmware[0] && vm->sev_loader[0])
		vm_error(p, "has both firmware and sev-loader; remove one");
	if (!vm->sev_cert[0] != !vm->sev_session[0])
		vm_error(p, "sev-cert and sev-session belong together");
	if (config_secret_waits(vm) && (vm->sev_secret_header[0] || !vm->sev_session[0]))
		vm_error(p, "sev-secret = wait needs sev-cert and sev-session, and no "
			 "sev-secret-header");
	else if (!config_secret_waits(vm) && !vm->sev_secret[0] != !vm->sev_secret_header[0])
		vm_error(p, "sev-secret and sev-secret-header belong together");
	p->section = SECTION_SKIP;
}

static struct vm_config *config_vm(struct config *c, struct span name)
{
	for (u32 i = 0; i < c->vms; i++)
		if (strlen(c->vm[i].name) == name.len && !memcmp(c->vm[i].name, name.s, name.len))
			return &c->vm[i];
	return NULL;
}

static void section_vm(struct parser *p, struct span header, struct span name)
{
	const struct vm_config *twin;
	struct vm_config *vm;

	if (!name_ok(name)) {
		line_error(p, header, "bad VM name; " NAME_RULE);
		return;
	}
	twin = config_vm(p->c, name);
	if (twin) {
		log_err("%s:%u: [vm %s]: already in line %u; this one is ignored", p->file,
			  p->line, twin->name, twin->line);
		count_error(p);
		return;
	}
	if (p->c->vms == VM_MAX) {
		line_error(p, header, "more than 64 VMs; this one is ignored");
		return;
	}
	vm = &p->c->vm[p->c->vms++];
	memset(vm, 0, sizeof(*vm));
	memcpy(vm->name, name.s, name.len);
	vm->memory = MIB(256);
	vm->cpus = 1;
	vm->pv = PV_ALL;
	vm->valid = true;
	vm->line = p->line;
	p->vm = vm;
	p->section = SECTION_VM;
}

static void section_begin(struct parser *p, struct span line)
{
	struct span inner = { line.s + 1, line.len - 1 };
	struct span kind;

	section_end(p);
	p->section = SECTION_SKIP;
	p->vm = NULL;
	memset(p->key_line, 0, sizeof(p->key_line));
	if (line.s[line.len - 1] != ']') {
		line_error(p, line, "a section ends with ]");
		return;
	}
	inner.len--;
	inner = span_trim(inner);
	kind = span_next(&inner, ' ');
	inner = span_trim(inner);
	if (span_is(kind, "vm")) {
		section_vm(p, line, inner);
	} else if (!span_is(kind, "host") || inner.len) {
		line_error(p, line, "unknown section; use [host] or [vm NAME]");
	} else if (p->host_line) {
		log_err("%s:%u: [host]: already in line %u; this one is ignored", p->file,
			  p->line, p->host_line);
		count_error(p);
	} else {
		p->host_line = p->line;
		p->section = SECTION_HOST;
	}
}

/* Drops a trailing comment: # or ; after white space. A quoted value is taken as it is. */
static const char *value_clean(struct span *v)
{
	*v = span_trim(*v);
	if (v->len && v->s[0] == '"') {
		size_t end = 1;

		while (end < v->len && v->s[end] != '"')
			end++;
		if (end == v->len)
			return "closing \" is missing";
		for (size_t i = end + 1; i < v->len && v->s[i] != '#' && v->s[i] != ';'; i++)
			if (!is_space(v->s[i]))
				return "text after the closing \"";
		v->s++;
		v->len = end - 1;
		return NULL;
	}
	for (size_t i = 0; i < v->len; i++)
		if ((v->s[i] == '#' || v->s[i] == ';') && (i == 0 || is_space(v->s[i - 1])))
			v->len = i;
	*v = span_trim(*v);
	return NULL;
}

static const struct key *key_find(struct parser *p, struct span name, u32 *index)
{
	bool host = p->section == SECTION_HOST;
	const struct key *keys = host ? host_keys : vm_keys;
	size_t count = host ? ARRAY_SIZE(host_keys) : ARRAY_SIZE(vm_keys);

	for (u32 i = 0; i < count; i++)
		if (strlen(keys[i].name) == name.len && !memcmp(keys[i].name, name.s, name.len)) {
			*index = i;
			return &keys[i];
		}
	return NULL;
}

static void key_line(struct parser *p, struct span line)
{
	struct span value = line;
	struct span name = span_next(&value, '=');
	const struct key *key;
	const char *error;
	u32 index = 0;

	if (name.s + name.len >= line.s + line.len || !name.len) {
		line_error(p, line, "not understood; use [section], key = value, or # comment");
		return;
	}
	if (p->section == SECTION_SKIP)
		return; /* the header was refused, and that has been said */
	if (p->section == SECTION_NONE) {
		line_error(p, line, "before any section; start with [host] or [vm NAME]");
		return;
	}
	key = key_find(p, name, &index);
	if (!key) {
		line_error(p, name,
			   p->section == SECTION_HOST ? "unknown key in [host]; use " HOST_KEY_NAMES
						      : "unknown key in [vm]; use " VM_KEY_NAMES);
		return;
	}
	error = value_clean(&value);
	if (!error && p->key_line[index] && !key->repeats) {
		log_err("%s:%u: %s: already given in line %u; remove one", p->file, p->line,
			  key->name, p->key_line[index]);
		count_error(p);
		return;
	}
	if (!error)
		error = key->parse ? key->parse(p, value) :
			key->flag  ? span_bool(value, (bool *)((char *)p->vm + key->place)) :
				     span_path(value, (char *)p->vm + key->place);
	if (error)
		value_error(p, key->name, value, error);
	p->key_line[index] = p->line;
}

static void one_line(struct parser *p, struct span line)
{
	line = span_trim(line);
	if (!line.len || line.s[0] == '#' || line.s[0] == ';')
		return;
	for (size_t i = 0; i < line.len; i++)
		if (((u8)line.s[i] < ' ' && line.s[i] != '\t') || line.s[i] == 0x7f) {
			line_error(p, line, "has a control character; this must be plain text");
			return;
		}
	if (line.s[0] == '[') {
		/* A comment may follow the bracket. */
		for (size_t i = 0; i < line.len; i++)
			if ((line.s[i] == '#' || line.s[i] == ';') && is_space(line.s[i - 1]))
				line.len = i;
		section_begin(p, span_trim(line));
	} else {
		key_line(p, line);
	}
}

static void attach_check(struct parser *p)
{
	struct host_config *h = &p->c->host;
	struct span name = { h->attach, strlen(h->attach) };

	if (!name.len || config_vm(p->c, name))
		return;
	log_err("%s:%u: attach = %s: no such VM in this file", p->file, p->attach_line, h->attach);
	count_error(p);
	h->attach[0] = '\0';
}

void config_defaults(struct config *c)
{
	c->host = (struct host_config){
		.log_level = LOG_INFO,
		.escape = ']' & 0x1f,
		.mitigations = true,
	};
	c->vms = 0;
	c->errors = 0;
}

u32 config_parse(struct config *c, const char *name, const char *text, size_t len)
{
	struct parser p = { .c = c, .file = name };
	struct span rest = { text, len };

	config_defaults(c);
	if (rest.len >= 3 && !memcmp(rest.s, "\xef\xbb\xbf", 3)) { /* UTF-8 mark of some editors */
		rest.s += 3;
		rest.len -= 3;
	}
	while (rest.len) {
		struct span line = { rest.s, 0 };
		size_t used;

		while (line.len < rest.len && line.s[line.len] != '\n')
			line.len++;
		used = MIN(line.len + 1, rest.len);
		rest.s += used;
		rest.len -= used;
		p.line++;
		if (line.len && line.s[line.len - 1] == '\r')
			line.len--;
		one_line(&p, line);
	}
	section_end(&p);
	attach_check(&p);
	return c->errors;
}
