/*
 * compare.c: `og-bench compare A B`: what B's figures are over A's, case by case.
 */
#include "bench/bench.h"

#include <jansson.h>
#include <string.h>

enum { LINE_BYTES = 4096 };

static const char *text_of(const json_t *o, const char *name)
{
	const char *text = json_string_value(json_object_get(o, name));

	return text ? text : "";
}

static double number_of(const json_t *o, const char *name)
{
	return json_number_value(json_object_get(o, name));
}

/* All lines of a file as an array, or NULL. */
static json_t *load(const char *path)
{
	FILE *f = fopen(path, "re");
	json_t *all = json_array();
	char line[LINE_BYTES];
	int nb_lines = 0;

	if (!f) {
		fprintf(stderr, "og-bench: %s: cannot be opened\n", path);
		goto fail;
	}
	while (fgets(line, sizeof(line), f)) {
		json_error_t error;
		json_t *o = json_loads(line, 0, &error);

		nb_lines++;
		if (!json_is_object(o)) {
			fprintf(stderr, "og-bench: %s:%d: not a line of og-bench\n", path,
				nb_lines);
			json_decref(o);
			fclose(f);
			goto fail;
		}
		json_array_append_new(all, o);
	}
	fclose(f);
	return all;

fail:
	json_decref(all);
	return NULL;
}

static const json_t *find(const json_t *all, const json_t *like)
{
	static const char *const names[] = {"bench", "port", "case", "unit", "ref"};
	const json_t *o;
	size_t i;

	json_array_foreach(all, i, o)
	{
		bool same = true;

		for (size_t k = 0; k < OG_ARRAY_LEN(names); k++)
			same = same && strcmp(text_of(o, names[k]), text_of(like, names[k])) == 0;
		if (same)
			return o;
	}
	return NULL;
}

int bench_compare(const char *path_a, const char *path_b)
{
	json_t *a = load(path_a), *b = load(path_b);
	int status = BENCH_FAILED;
	const json_t *o;
	size_t i;

	if (!a || !b)
		goto out;
	printf("%-10s %-9s %-40s %-16s %-24s %12s %12s %7s %9s\n", "suite", "port", "case", "unit",
		"of", "A", "B", "B/A", "ratio B/A");
	json_array_foreach(a, i, o)
	{
		const json_t *other = find(b, o);
		double ratio = number_of(o, "ratio");

		if (!other)
			continue;
		status = BENCH_DONE;
		printf("%-10s %-9s %-40s %-16s %-24s %12.6g %12.6g", text_of(o, "bench"),
			text_of(o, "port"), text_of(o, "case"), text_of(o, "unit"),
			text_of(o, "ref"), number_of(o, "median"), number_of(other, "median"));
		if (number_of(o, "median") != 0)
			printf(" %7.2f", number_of(other, "median") / number_of(o, "median"));
		else
			printf(" %7s", "-");
		if (ratio > 0)
			printf(" %9.2f", number_of(other, "ratio") / ratio);
		putchar('\n');
	}
	if (status != BENCH_DONE)
		fprintf(stderr, "og-bench: the files have no case in common\n");
out:
	json_decref(a);
	json_decref(b);
	return status;
}
