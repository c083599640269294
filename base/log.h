/*
 * log.h: log lines to stderr, as text or JSON. Never called on a polling core.
 *
 * Text:    2026-11-24T04:00:00.123Z INFO  http: listening on 127.0.0.1:8480
 * JSON:    {"time":"…","level":"info","module":"http","msg":"…"}
 * Threads: any but polling cores; a line is written by one write(2), so lines never mix.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

enum og_log_level { OG_LOG_ERR, OG_LOG_WARN, OG_LOG_INFO, OG_LOG_DEBUG };

/* Set once before threads start. */
void og_log_setup(enum og_log_level level, bool json);
/* At any time. */
void og_log_set_level(enum og_log_level level);
void og_log_write(enum og_log_level level, const char *module, const char *fmt, ...)
	OG_PRINTF(3, 4);
/* Lines not written because a second had more than 500 lines (errors and warnings always pass). */
uint64_t og_log_suppressed(void);

/* OG_LOG(noise, WARN, "peer %s: handshake timed out after %u ms", ...) */
#define OG_LOG(module, level, ...) og_log_write(OG_LOG_##level, #module, __VA_ARGS__)
