#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 2048, LINES_PER_SECOND = 500 };

static _Atomic int log_level = OG_LOG_INFO;
static bool log_json;
static _Atomic uint64_t suppressed;
static _Atomic int64_t window_s;
static _Atomic unsigned window_lines;

void og_log_setup(enum og_log_level level, bool json)
{
	og_log_set_level(level);
	log_json = json;
}

void og_log_set_level(enum og_log_level level)
{
	atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

uint64_t og_log_suppressed(void)
{
	return atomic_load_explicit(&suppressed, memory_order_relaxed);
}

static bool over_rate(int64_t now_s)
{
	if (atomic_exchange_explicit(&window_s, now_s, memory_order_relaxed) != now_s)
		atomic_store_explicit(&window_lines, 0, memory_order_relaxed);
	return atomic_fetch_add_explicit(&window_lines, 1, memory_order_relaxed) >=
	       LINES_PER_SECOND;
}

/* Escape for a JSON string; invalid UTF-8 passes through as it came. */
static size_t escape(char *out, size_t cap, const char *text)
{
	size_t n = 0;

	for (; *text && n + 7 < cap; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\') {
			out[n++] = '\\';
			out[n++] = (char)c;
		} else if (c < 0x20) {
			n += (size_t)snprintf(out + n, 7, "\\u%04x", c);
		} else {
			out[n++] = (char)c;
		}
	}
	out[n] = '\0';
	return n;
}

void og_log_write(enum og_log_level level, const char *module, const char *fmt, ...)
{
	static const char *const upper[] = {"ERROR", "WARN ", "INFO ", "DEBUG"};
	static const char *const lower[] = {"error", "warn", "info", "debug"};
	char msg[LINE_BYTES / 2], line[LINE_BYTES + 64], when[32], escaped[LINE_BYTES];
	struct timespec ts;
	struct tm tm;
	va_list ap;
	int n;

	if ((int)level > atomic_load_explicit(&log_level, memory_order_relaxed))
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	if (level > OG_LOG_WARN && over_rate(ts.tv_sec)) {
		atomic_fetch_add_explicit(&suppressed, 1, memory_order_relaxed);
		return;
	}
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	if (log_json) {
		escape(escaped, sizeof(escaped), msg);
		n = snprintf(line, sizeof(line),
			"{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"module\":\"%s\",\"msg\":\"%s\"}"
			"\n",
			when, ts.tv_nsec / 1000000, lower[level], module, escaped);
	} else {
		n = snprintf(line, sizeof(line), "%s.%03ldZ %s %s: %s\n", when,
			ts.tv_nsec / 1000000, upper[level], module, msg);
	}
	if (n > (int)sizeof(line) - 1)
		n = (int)sizeof(line) - 1;
	while (write(STDERR_FILENO, line, (size_t)n) < 0)
		break; /* nothing better to do with a log that cannot be written */
}

void og_assert_fail(const char *cond, const char *file, int line)
{
	fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, cond);
	abort();
}
