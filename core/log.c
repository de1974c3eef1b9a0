/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/log.h"
#include "core/errno.h"
#include "core/printf.h"
#include "core/spinlock.h"
#include "core/string.h"

#define RING_SIZE 32768U
#define LINE_MAX 512

u32 log_level = LOG_INFO;

static char ring[RING_SIZE];
static u64 ring_end; /* bytes ever written; the ring holds the last RING_SIZE of them */
static log_sink_fn sinks[LOG_SINKS];
static spinlock_t lock = SPINLOCK_INIT;
static bool panicking;

static const char *const level_names[] = { "error: ", "warning: ", "", "debug: " };

__weak u64 log_time_us(void)
{
	return 0;
}

/*
 * An NMI or a fault may come while this CPU holds the lock: after about a
 * second it goes on without, a mixed line being better than silence.
 */
static bool log_lock(u64 *flags)
{
	*flags = irq_save();
	if (__atomic_load_n(&panicking, __ATOMIC_RELAXED))
		return false;
	for (u32 i = 0; i < 10000000; i++) {
		if (spin_trylock(&lock))
			return true;
		__asm__ volatile("pause" ::: "memory");
	}
	return false;
}

static void log_unlock(bool locked, u64 flags)
{
	if (locked)
		spin_unlock(&lock);
	irq_restore(flags);
}

static void to_sinks(const char *text, size_t len)
{
	for (u32 i = 0; i < LOG_SINKS; i++) {
		if (sinks[i] != NULL)
			sinks[i](text, len);
	}
}

void log_vprint(u32 level, const char *fmt, va_list ap)
{
	char line[LINE_MAX];
	u64 us = log_time_us();
	u64 flags;
	bool locked;
	size_t len;

	len = (size_t)snprintf(line, sizeof(line), "[%5lu.%06lu] %s", (unsigned long)(us / 1000000),
			       (unsigned long)(us % 1000000), level_names[MIN(level, LOG_DEBUG)]);
	len += (size_t)vsnprintf(line + len, sizeof(line) - len, fmt, ap);
	len = MIN(len, sizeof(line) - 2);
	line[len++] = '\n';

	locked = log_lock(&flags);
	for (size_t i = 0; i < len; i++)
		ring[(ring_end + i) % RING_SIZE] = line[i];
	ring_end += len;
	if (level <= log_level)
		to_sinks(line, len);
	log_unlock(locked, flags);
}

void log_print(u32 level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vprint(level, fmt, ap);
	va_end(ap);
}

int log_add_sink(log_sink_fn fn)
{
	for (u32 i = 0; i < LOG_SINKS; i++) {
		if (sinks[i] == NULL || sinks[i] == fn) {
			sinks[i] = fn;
			return 0;
		}
	}
	return -ENOSPC;
}

void log_write(const char *text, size_t len)
{
	u64 flags;
	bool locked = log_lock(&flags);

	to_sinks(text, len);
	log_unlock(locked, flags);
}

void log_printf(const char *fmt, ...)
{
	char text[LINE_MAX];
	va_list ap;
	size_t len;

	va_start(ap, fmt);
	len = (size_t)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_write(text, MIN(len, sizeof(text) - 1));
}

size_t log_read(u64 *pos, char *buf, size_t size)
{
	u64 flags;
	bool locked = log_lock(&flags);
	size_t n;

	if (*pos > ring_end)
		*pos = ring_end;
	if (ring_end - *pos > RING_SIZE)
		*pos = ring_end - RING_SIZE;
	n = MIN(size, (size_t)(ring_end - *pos));
	for (size_t i = 0; i < n; i++)
		buf[i] = ring[(*pos + i) % RING_SIZE];
	*pos += n;
	log_unlock(locked, flags);
	return n;
}

void log_panic_mode(void)
{
	__atomic_store_n(&panicking, true, __ATOMIC_RELAXED);
}
