/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_LOG_H
#define RAVELIN_CORE_LOG_H

#include <stdarg.h>
#include "core/types.h"

#define LOG_ERROR 0U
#define LOG_WARN 1U
#define LOG_INFO 2U
#define LOG_DEBUG 3U

/* Lines at or below this level go to the sinks; all go to the ring. */
extern u32 log_level;

/*
 * Writes one line (a newline is added) to the ring and the sinks. Any context,
 * also NMI: a holder of the lock is waited for only a bounded time.
 */
void log_print(u32 level, const char *fmt, ...) __printf(2, 3);
void log_vprint(u32 level, const char *fmt, va_list ap);

#define log_err(...) log_print(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_print(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_print(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_print(LOG_DEBUG, __VA_ARGS__)

/* Where log lines go beside the ring; the text is not NUL-terminated. At most LOG_SINKS. */
#define LOG_SINKS 4
typedef void (*log_sink_fn)(const char *text, size_t len);
int log_add_sink(log_sink_fn fn); /* 0 or -ENOSPC */
/* Sends raw text (no level, no time) to the sinks only: console output such as the shell's. */
void log_write(const char *text, size_t len);
void log_printf(const char *fmt, ...) __printf(1, 2);

/*
 * Reads the ring: copies up to size bytes of text starting at *pos (0 at first:
 * the oldest still there) and moves *pos. Returns the bytes copied, 0 at the end.
 */
size_t log_read(u64 *pos, char *buf, size_t size);
/* After this no lock is taken: the machine is going down on this CPU alone. */
void log_panic_mode(void);
/* Time stamp of a line in microseconds since start; weak default 0, tsc.c has the real one. */
u64 log_time_us(void);

#endif
