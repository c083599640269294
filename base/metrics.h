/*
 * metrics.h: one table of counters, gauges and histograms that `/metrics` and `status` read.
 *
 * A module registers pointers to its counters once, before threads run; afterwards the owner thread
 * bumps them with og_count() and any thread renders the table.
 *
 * Source:  Prometheus text exposition format 0.0.4.
 * Units:   in the name: og_<module>_<what>_<unit>[_total].
 * Threads: registration before the threads start; rendering from any one thread at a time.
 */
#pragma once
#include "base/count.h"
#include "base/def.h"

#include <stdbool.h>
#include <stdio.h>

enum { OG_METRICS_MAX = 1024, OG_HIST_BUCKETS = 20 };

/* COUNTER_NS counts nanoseconds and is shown in seconds, as names of Prometheus have it. */
enum og_metric_type {
	OG_METRIC_COUNTER,
	OG_METRIC_GAUGE,
	OG_METRIC_HISTOGRAM,
	OG_METRIC_COUNTER_NS
};

/* Seconds, bounds 1 ms … 524 s by powers of two; the last bucket is +Inf. */
struct og_hist {
	uint64_t buckets[OG_HIST_BUCKETS + 1];
	uint64_t sum_us;
	uint64_t count;
};

void og_hist_observe_us(struct og_hist *h, uint64_t us);

struct og_metric {
	const char *name;   /* string constants, or alive as long as the process */
	const char *labels; /* e.g. `reason="bad_tag"`, or NULL */
	const char *help;
	enum og_metric_type type;
	const void *value; /* uint64_t *, or struct og_hist * */
};

/* Aborts when the table is full. */
void og_metrics_register(const struct og_metric *m);
/* Text as the value of a label may hold it, in quotes after `name=`. Cut to `size`. */
void og_metrics_label(char *out, size_t size, const char *name, const char *text);
void og_metrics_render(FILE *out);
