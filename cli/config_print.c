/*
 * config_print.c: node.conf as the program understood it, and the list of what it may hold.
 */
#include "cli/config_priv.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *origin(char out[48], int32_t where)
{
	if (where > 0)
		snprintf(out, 48, "line %d", where);
	else
		strcpy(out, where == OG_CONFIG_FROM_FLAG ? "command line" : "default");
	return out;
}

/* A number in the largest unit that divides it. */
static void print_unit(FILE *out, uint64_t v, const char *const *names, const uint64_t *factors)
{
	size_t i = 0;

	while (names[i + 1] && v > 0 && v % factors[i + 1] == 0)
		i++;
	fprintf(out, "%" PRIu64 "%s", v / factors[i], names[i]);
}

static void print_value(
	FILE *out, const struct og_config_key *k, const void *field, const struct og_config *cfg)
{
	static const char *const sizes[] = {"B", "KiB", "MiB", "GiB", NULL};
	static const uint64_t size_factors[] = {1, 1 << 10, 1 << 20, 1 << 30};
	static const char *const times[] = {"ms", "s", "m", "h", NULL};
	static const uint64_t time_factors[] = {1, 1000, 60000, 3600000};
	char addr[OG_ADDR_TEXT_BYTES] = "";
	const struct og_addr *a = field;

	switch (k->type) {
	case OG_CONFIG_UINT:
		fprintf(out, "%" PRIu64, *(const uint64_t *)field);
		break;
	case OG_CONFIG_SIZE:
		print_unit(out, *(const uint64_t *)field, sizes, size_factors);
		break;
	case OG_CONFIG_DURATION:
		print_unit(out, *(const uint64_t *)field, times, time_factors);
		break;
	case OG_CONFIG_BOOL:
		fputs(*(const bool *)field ? "yes" : "no", out);
		break;
	case OG_CONFIG_IP:
	case OG_CONFIG_IP_PREFIX:
		og_addr_format_host(a, addr);
		fputs(addr, out);
		if (k->type == OG_CONFIG_IP_PREFIX && cfg->prefix_len > 0)
			fprintf(out, "/%" PRIu64, cfg->prefix_len);
		break;
	case OG_CONFIG_IP_PORT:
		if (a->port != 0)
			fputs(og_addr_format(a, addr), out);
		break;
	default:
		fputs(field, out);
		break;
	}
}

static void print_row(FILE *out, const struct og_config *cfg, const void *base,
	const struct og_config_key *k, const int32_t *where)
{
	const void *field = (const char *)base + k->offset;
	char from[48];

	if (og_config_is_list(k)) {
		const struct og_config_list *list = field;

		for (uint32_t i = 0; i < list->nb_items; i++)
			fprintf(out, "%s = %s ; %s\n", k->key, list->items[i].text,
				origin(from, list->items[i].where));
		if (list->nb_items == 0)
			fprintf(out, "; %s: none, %s\n", k->key, origin(from, 0));
		return;
	}
	fprintf(out, "%s = ", k->key);
	print_value(out, k, field, cfg);
	fprintf(out, " ; %s\n", origin(from, where[k - og_config_keys]));
}

static void print_models(const struct og_config *cfg, FILE *out)
{
	for (uint32_t m = 0; m < cfg->nb_models; m++) {
		const struct og_config_model *model = &cfg->models[m];

		fprintf(out, model->name[0] ? "\n[model %s]\n" : "\n[model]\n", model->name);
		for (size_t i = 0; i < og_config_nb_keys; i++) {
			if (strcmp(og_config_keys[i].section, "model") == 0)
				print_row(out, cfg, model, &og_config_keys[i], model->where);
		}
	}
}

void og_config_print(const struct og_config *cfg, FILE *out)
{
	const char *section = "";

	fprintf(out, "; %s\n", cfg->file);
	for (size_t i = 0; i < og_config_nb_keys; i++) {
		const struct og_config_key *k = &og_config_keys[i];

		if (strcmp(section, k->section) != 0) {
			section = k->section;
			if (strcmp(section, "model") == 0)
				print_models(cfg, out);
			else
				fprintf(out, "\n[%s]\n", section);
		}
		if (strcmp(section, "model") != 0)
			print_row(out, cfg, cfg, k, cfg->where);
	}
}

/* One row's values, or all of [model], without where they came from. The caller frees it. */
static char *values_text(const struct og_config *cfg, const struct og_config_key *k)
{
	bool models = strcmp(k->section, "model") == 0;
	const struct og_config_list *list = (const void *)((const char *)cfg + k->offset);
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	if (!models && og_config_is_list(k)) {
		for (uint32_t i = 0; i < list->nb_items; i++)
			fprintf(out, "%s\n", list->items[i].text);
	} else if (!models) {
		print_value(out, k, list, cfg);
	}
	for (uint32_t m = 0; models && m < cfg->nb_models; m++) {
		fprintf(out, "%s ", cfg->models[m].name);
		print_value(out, k, (const char *)&cfg->models[m] + k->offset, cfg);
		fputc('\n', out);
	}
	fclose(out);
	return text;
}

void og_config_diff(const struct og_config *a, const struct og_config *b,
	void (*fn)(void *ctx, const char *section, const char *key), void *ctx)
{
	for (size_t i = 0; i < og_config_nb_keys; i++) {
		const struct og_config_key *k = &og_config_keys[i];
		char *x = values_text(a, k), *y = values_text(b, k);

		if (!x || !y || strcmp(x, y) != 0)
			fn(ctx, k->section, k->key);
		free(x);
		free(y);
	}
}

void og_config_list(FILE *out)
{
	static const char *const types[] = {
		[OG_CONFIG_STRING] = "text",
		[OG_CONFIG_PATH] = "path",
		[OG_CONFIG_UINT] = "number",
		[OG_CONFIG_SIZE] = "size",
		[OG_CONFIG_DURATION] = "duration",
		[OG_CONFIG_BOOL] = "yes|no",
		[OG_CONFIG_CHOICE] = "choice",
		[OG_CONFIG_IP] = "IPv4",
		[OG_CONFIG_IP_PORT] = "IPv4:port",
		[OG_CONFIG_IP_PREFIX] = "IPv4/prefix",
		[OG_CONFIG_LISTEN] = "host:port",
		[OG_CONFIG_LINES] = "text, several",
		[OG_CONFIG_KEYS] = "key, several",
		[OG_CONFIG_COMMAS] = "list",
	};
	const char *section = "";

	for (size_t i = 0; i < og_config_nb_keys; i++) {
		const struct og_config_key *k = &og_config_keys[i];

		if (strcmp(section, k->section) != 0)
			fprintf(out, "\n[%s]\n", k->section);
		section = k->section;
		fprintf(out, "%s = %s ; %s: %s\n", k->key, k->def,
			k->choices ? k->choices : types[k->type], k->help);
	}
}
