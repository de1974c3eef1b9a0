/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/printf.h"
#include "core/string.h"

#ifdef UNIT_TEST
#define vsnprintf rv_vsnprintf
#define snprintf rv_snprintf
int vsnprintf(char *buf, size_t size, const char *fmt, va_list ap);
int snprintf(char *buf, size_t size, const char *fmt, ...) __printf(3, 4);
#endif

struct out {
	char *buf;
	size_t size;
	size_t len;
};

struct spec {
	bool left, zero, plus, space, alt;
	int width;
	int precision; /* -1: none */
	int length;    /* 0 int, 1 long, 2 long long or size_t, -1 short, -2 char */
};

static void put(struct out *o, char c)
{
	if (o->len + 1 < o->size)
		o->buf[o->len] = c;
	o->len++;
}

static void put_n(struct out *o, char c, int n)
{
	while (n-- > 0)
		put(o, c);
}

static void put_text(struct out *o, const struct spec *s, const char *text)
{
	size_t max = s->precision < 0 ? SIZE_MAX : (size_t)s->precision;
	int len;

	if (text == NULL)
		text = "(null)";
	len = (int)strnlen(text, max);
	if (!s->left)
		put_n(o, ' ', s->width - len);
	for (int i = 0; i < len; i++)
		put(o, text[i]);
	if (s->left)
		put_n(o, ' ', s->width - len);
}

/* Digits backwards into the end of buf; returns their count. No digit for 0. */
static int to_digits(char *end, u64 v, u32 base, bool upper)
{
	const char *set = upper ? "0123456789ABCDEF" : "0123456789abcdef";
	int n = 0;

	for (; v != 0; v /= base) {
		*--end = set[v % base];
		n++;
	}
	return n;
}

static void put_number(struct out *o, const struct spec *s, u64 v, u32 base, bool upper,
		       char sign)
{
	char buf[24];
	char *end = buf + sizeof(buf);
	bool prefix = s->alt && base == 16 && v != 0;
	int digits = to_digits(end, v, base, upper);
	int zeros = MAX((s->precision < 0 ? 1 : s->precision) - digits, 0);
	int pad = s->width - digits - zeros - (sign != '\0') - (prefix ? 2 : 0);

	if (s->zero && !s->left && s->precision < 0 && pad > 0) {
		zeros += pad;
		pad = 0;
	}
	if (!s->left)
		put_n(o, ' ', pad);
	if (sign != '\0')
		put(o, sign);
	if (prefix) {
		put(o, '0');
		put(o, upper ? 'X' : 'x');
	}
	put_n(o, '0', zeros);
	for (int i = digits; i > 0; i--)
		put(o, end[-i]);
	if (s->left)
		put_n(o, ' ', pad);
}

static s64 get_signed(const struct spec *s, va_list *ap)
{
	s64 v;

	if (s->length >= 1)
		return va_arg(*ap, s64);
	v = va_arg(*ap, int);
	if (s->length == -1)
		return (s16)v;
	return s->length == -2 ? (s8)v : v;
}

static u64 get_unsigned(const struct spec *s, va_list *ap)
{
	u64 v;

	if (s->length >= 1)
		return va_arg(*ap, u64);
	v = va_arg(*ap, u32);
	if (s->length == -1)
		return (u16)v;
	return s->length == -2 ? (u8)v : v;
}

static void put_signed(struct out *o, const struct spec *s, s64 v)
{
	char sign = v < 0 ? '-' : s->plus ? '+' : s->space ? ' ' : '\0';

	put_number(o, s, v < 0 ? 0 - (u64)v : (u64)v, 10, false, sign);
}

static const char *parse_number(const char *f, int *v)
{
	int n = 0;

	for (; *f >= '0' && *f <= '9'; f++) {
		if (n < 10000)
			n = n * 10 + (*f - '0');
	}
	*v = n;
	return f;
}

static const char *parse_flags(const char *f, struct spec *s)
{
	for (;; f++) {
		if (*f == '-')
			s->left = true;
		else if (*f == '0')
			s->zero = true;
		else if (*f == '+')
			s->plus = true;
		else if (*f == ' ')
			s->space = true;
		else if (*f == '#')
			s->alt = true;
		else
			return f;
	}
}

static const char *parse_spec(const char *f, struct spec *s, va_list *ap)
{
	f = parse_flags(f, s);
	if (*f == '*') {
		s->width = va_arg(*ap, int);
		if (s->width < 0) {
			s->left = true;
			s->width = -s->width;
		}
		f++;
	} else {
		f = parse_number(f, &s->width);
	}
	if (*f == '.') {
		f++;
		if (*f == '*') {
			s->precision = va_arg(*ap, int);
			f++;
		} else {
			f = parse_number(f, &s->precision);
		}
	}
	for (;; f++) {
		if (*f == 'l')
			s->length++;
		else if (*f == 'z')
			s->length = 2;
		else if (*f == 'h')
			s->length--;
		else
			return f;
	}
}

static void put_conversion(struct out *o, struct spec *s, char c, va_list *ap)
{
	char ch[2] = { 0, 0 };

	switch (c) {
	case 'd':
	case 'i':
		put_signed(o, s, get_signed(s, ap));
		break;
	case 'u':
		put_number(o, s, get_unsigned(s, ap), 10, false, '\0');
		break;
	case 'x':
	case 'X':
		put_number(o, s, get_unsigned(s, ap), 16, c == 'X', '\0');
		break;
	case 'p':
		s->alt = true;
		put_number(o, s, (u64)(uintptr_t)va_arg(*ap, void *), 16, false, '\0');
		break;
	case 's':
		put_text(o, s, va_arg(*ap, const char *));
		break;
	case 'c':
		ch[0] = (char)va_arg(*ap, int);
		s->precision = -1;
		put_text(o, s, ch);
		break;
	case '%':
		put(o, '%');
		break;
	default:
		put(o, '%');
		put(o, c);
		break;
	}
}

int vsnprintf(char *buf, size_t size, const char *fmt, va_list ap)
{
	struct out o = { buf, size, 0 };
	va_list args;

	va_copy(args, ap);
	for (const char *f = fmt; *f != '\0'; f++) {
		struct spec s = { .precision = -1 };

		if (*f != '%') {
			put(&o, *f);
			continue;
		}
		f = parse_spec(f + 1, &s, &args);
		if (*f == '\0')
			break;
		put_conversion(&o, &s, *f, &args);
	}
	va_end(args);
	if (size > 0)
		buf[MIN(o.len, size - 1)] = '\0';
	return (int)o.len;
}

int snprintf(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, size, fmt, ap);
	va_end(ap);
	return n;
}
