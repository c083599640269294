#include "base/metrics.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

Test(metrics, renders_one_header_per_name_and_cumulative_buckets)
{
	static uint64_t a = 3, b = 4, busy_ns = 12345678901;
	static struct og_hist h;
	char *text = NULL;
	size_t len = 0;
	FILE *f;

	og_metrics_register(&(struct og_metric){
		"og_t_drops_total", "reason=\"a\"", "Drops.", OG_METRIC_COUNTER, &a});
	og_metrics_register(&(struct og_metric){
		"og_t_busy_seconds_total", NULL, "Busy.", OG_METRIC_COUNTER_NS, &busy_ns});
	og_metrics_register(&(struct og_metric){
		"og_t_drops_total", "reason=\"b\"", "Drops.", OG_METRIC_COUNTER, &b});
	og_metrics_register(
		&(struct og_metric){"og_t_time_seconds", NULL, "Time.", OG_METRIC_HISTOGRAM, &h});
	og_hist_observe_us(&h, 500);
	og_hist_observe_us(&h, 1500);
	f = open_memstream(&text, &len);
	og_metrics_render(f);
	fclose(f);
	cr_assert_not_null(strstr(
		text, "og_t_drops_total{reason=\"a\"} 3\nog_t_drops_total{reason=\"b\"} 4\n"));
	cr_assert_not_null(strstr(text, "# TYPE og_t_busy_seconds_total counter\n"));
	cr_assert_not_null(strstr(text, "\nog_t_busy_seconds_total 12.345678901\n"));
	cr_assert_null(
		strstr(strstr(text, "# TYPE og_t_drops_total") + 1, "# TYPE og_t_drops_total"));
	cr_assert_not_null(strstr(text, "og_t_time_seconds_bucket{le=\"0.001\"} 1\n"));
	cr_assert_not_null(strstr(text, "og_t_time_seconds_bucket{le=\"+Inf\"} 2\n"));
	cr_assert_not_null(strstr(text, "og_t_time_seconds_count 2\n"));
	free(text);
}

Test(metrics, a_label_cannot_break_its_line)
{
	char l[24];

	og_metrics_label(l, sizeof(l), "model", "a\"b\\c\nd");
	cr_assert_str_eq(l, "model=\"a_b_c_d\"");
	og_metrics_label(l, sizeof(l), "model", "0123456789abcdefghijk");
	cr_assert_str_eq(l, "model=\"0123456789abcde\"");
}
