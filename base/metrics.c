#include "base/metrics.h"

#include <inttypes.h>
#include <string.h>

static struct og_metric table[OG_METRICS_MAX];
static uint32_t nb_metrics;

void og_hist_observe_us(struct og_hist *h, uint64_t us)
{
	uint32_t i = 0;

	while (i < OG_HIST_BUCKETS && us > (1000ull << i))
		i++;
	og_count(&h->buckets[i]);
	og_count_add(&h->sum_us, us);
	og_count(&h->count);
}

void og_metrics_register(const struct og_metric *m)
{
	uint32_t at = nb_metrics;

	OG_ASSERT(nb_metrics < OG_METRICS_MAX);
	/* The format wants the samples of one name in one group. */
	for (uint32_t i = 0; i < nb_metrics; i++)
		if (strcmp(table[i].name, m->name) == 0)
			at = i + 1;
	memmove(&table[at + 1], &table[at], (nb_metrics - at) * sizeof(table[0]));
	table[at] = *m;
	nb_metrics++;
}

void og_metrics_label(char *out, size_t size, const char *name, const char *text)
{
	size_t k = (size_t)snprintf(out, size, "%s=\"", name);

	OG_ASSERT(k + 2 <= size);
	for (; *text && k + 2 < size; text++)
		out[k++] = *text == '"' || *text == '\\' || *text == '\n' ? '_' : *text;
	out[k++] = '"';
	out[k] = '\0';
}

static void render_hist(FILE *out, const struct og_metric *m)
{
	const struct og_hist *h = m->value;
	const char *labels = m->labels ? m->labels : "";
	const char *comma = m->labels ? "," : "";
	uint64_t below = 0;

	for (uint32_t i = 0; i < OG_HIST_BUCKETS; i++) {
		below += og_counter_read(&h->buckets[i]);
		fprintf(out, "%s_bucket{%s%sle=\"%.3f\"} %" PRIu64 "\n", m->name, labels, comma,
			(double)(1ull << i) / 1000.0, below);
	}
	below += og_counter_read(&h->buckets[OG_HIST_BUCKETS]);
	fprintf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", m->name, labels, comma, below);
	fprintf(out, "%s_sum%s%s%s %.6f\n", m->name, m->labels ? "{" : "", labels,
		m->labels ? "}" : "", (double)og_counter_read(&h->sum_us) / 1e6);
	fprintf(out, "%s_count%s%s%s %" PRIu64 "\n", m->name, m->labels ? "{" : "", labels,
		m->labels ? "}" : "", below);
}

static void render_value(FILE *out, const struct og_metric *m)
{
	uint64_t v = og_counter_read(m->value);

	fprintf(out, "%s%s%s%s ", m->name, m->labels ? "{" : "", m->labels ? m->labels : "",
		m->labels ? "}" : "");
	if (m->type == OG_METRIC_COUNTER_NS)
		fprintf(out, "%llu.%09llu\n", v / OG_NS_PER_S, v % OG_NS_PER_S);
	else
		fprintf(out, "%" PRIu64 "\n", v);
}

void og_metrics_render(FILE *out)
{
	static const char *const types[] = {"counter", "gauge", "histogram", "counter"};
	const char *previous = "";

	for (uint32_t i = 0; i < nb_metrics; i++) {
		const struct og_metric *m = &table[i];

		if (strcmp(previous, m->name) != 0)
			fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name,
				types[m->type]);
		previous = m->name;
		if (m->type == OG_METRIC_HISTOGRAM)
			render_hist(out, m);
		else
			render_value(out, m);
	}
}
