/*
 * config_value.c: one value of node.conf: checked against its row of the table, and stored.
 */
#include "cli/config_priv.h"

#include "cli/resolve.h"
#include "cli/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct value {
	struct og_config *cfg;
	void *base;
	const struct og_config_key *k;
	const char *text;
	int32_t where;
	struct og_problems *problems;
};

bool og_config_is_list(const struct og_config_key *k)
{
	return k->type == OG_CONFIG_LINES || k->type == OG_CONFIG_KEYS ||
	       k->type == OG_CONFIG_COMMAS;
}

void og_config_list_clear(struct og_config_list *list)
{
	for (uint32_t i = 0; i < list->nb_items; i++)
		free(list->items[i].text);
	free(list->items);
	*list = (struct og_config_list){0};
}

static void *field(const struct value *v)
{
	return (char *)v->base + v->k->offset;
}

static void refuse(const struct value *v, const char *why)
{
	og_config_problem(v->cfg, v->problems, v->where, "%s = %s: %s", v->k->key,
		v->text[0] ? v->text : "(nothing)", why);
}

static int list_add(const struct value *v, const char *text)
{
	struct og_config_list *list = field(v);
	struct og_config_item *items;

	if (list->nb_items == OG_CONFIG_ITEMS_MAX) {
		refuse(v, "too many values for this key");
		return -ENOSPC;
	}
	items = realloc(list->items, (list->nb_items + 1) * sizeof(*items));
	if (!items)
		return -ENOMEM;
	list->items = items;
	items[list->nb_items].text = strdup(text);
	if (!items[list->nb_items].text)
		return -ENOMEM;
	items[list->nb_items++].where = v->where;
	return 0;
}

static void set_line(const struct value *v)
{
	const struct og_config_list *list = field(v);
	size_t n = strlen(v->text);

	if (n < v->k->min || n > v->k->max) {
		char why[64];

		snprintf(why, sizeof(why), "%zu bytes; %d to %d are allowed", n, (int)v->k->min,
			(int)v->k->max);
		refuse(v, why);
		return;
	}
	if (v->k->type == OG_CONFIG_KEYS && strspn(v->text, "0123456789abcdefABCDEF") != n) {
		refuse(v, "a public key is 64 hex digits");
		return;
	}
	for (uint32_t i = 0; i < list->nb_items; i++) {
		if (strcmp(list->items[i].text, v->text) == 0) {
			og_config_problem(v->cfg, v->problems, v->where,
				"%s = %s is given twice, first in line %d", v->k->key, v->text,
				list->items[i].where);
			return;
		}
	}
	(void)!list_add(v, v->text);
}

static void set_commas(const struct value *v)
{
	char copy[OG_CONFIG_WORD_BYTES], *save = NULL;

	if (strlen(v->text) >= sizeof(copy)) {
		refuse(v, "too long");
		return;
	}
	strcpy(copy, v->text);
	for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
		size_t n;

		p += strspn(p, " \t");
		for (n = strlen(p); n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'); n--)
			p[n - 1] = '\0';
		if (n > 0 && list_add(v, p) < 0)
			return;
	}
}

static void set_number(const struct value *v)
{
	uint64_t n;
	int ret;
	char why[96];

	if (v->k->type == OG_CONFIG_SIZE)
		ret = og_text_size(&n, v->text);
	else if (v->k->type == OG_CONFIG_DURATION)
		ret = og_text_duration(&n, v->text);
	else
		ret = og_text_uint(&n, v->text);
	if (ret == -EINVAL) {
		refuse(v, v->k->type == OG_CONFIG_SIZE ? "not a size such as 512MiB or 4GiB"
			  : v->k->type == OG_CONFIG_DURATION
				  ? "not a duration such as 250ms, 10s or 5m"
				  : "not a whole number");
		return;
	}
	if (ret == -ERANGE || n < v->k->min || n > v->k->max) {
		char lo[32], hi[32];

		if (v->k->type == OG_CONFIG_SIZE) {
			og_text_format_bytes(lo, v->k->min);
			og_text_format_bytes(hi, v->k->max);
		} else if (v->k->type == OG_CONFIG_DURATION) {
			og_text_format_ms(lo, v->k->min);
			og_text_format_ms(hi, v->k->max);
		} else {
			snprintf(lo, sizeof(lo), "%llu", (unsigned long long)v->k->min);
			snprintf(hi, sizeof(hi), "%llu", (unsigned long long)v->k->max);
		}
		snprintf(why, sizeof(why), "out of range, %s to %s are allowed", lo, hi);
		refuse(v, why);
		return;
	}
	*(uint64_t *)field(v) = n;
}

static void set_choice(const struct value *v)
{
	char choices[64], *save = NULL, why[160];
	const char *words[8], *near;
	size_t nb = 0;

	snprintf(choices, sizeof(choices), "%s", v->k->choices);
	for (char *p = strtok_r(choices, "|", &save); p; p = strtok_r(NULL, "|", &save)) {
		if (strcmp(p, v->text) == 0) {
			og_text_copy(field(v), v->k->cap, v->text);
			return;
		}
		words[nb++] = p;
	}
	near = og_text_nearest(v->text, words, nb);
	if (near)
		snprintf(why, sizeof(why), "not one of %s, did you mean \"%s\"?", v->k->choices,
			near);
	else
		snprintf(why, sizeof(why), "not one of %s", v->k->choices);
	refuse(v, why);
}

static void set_bool(const struct value *v)
{
	static const char *const yes[] = {"yes", "true", "on", "1"};
	static const char *const no[] = {"no", "false", "off", "0"};

	for (size_t i = 0; i < OG_ARRAY_LEN(yes); i++) {
		if (strcasecmp(v->text, yes[i]) == 0 || strcasecmp(v->text, no[i]) == 0) {
			*(bool *)field(v) = strcasecmp(v->text, yes[i]) == 0;
			return;
		}
	}
	refuse(v, "yes or no");
}

static void set_path(const struct value *v)
{
	char *out = field(v);
	int n;

	if (v->text[0] == '\0' || v->text[0] == '/')
		n = snprintf(out, v->k->cap, "%s", v->text);
	else
		n = snprintf(out, v->k->cap, "%s/%s", v->cfg->dir, v->text);
	if (n >= (int)v->k->cap) {
		out[0] = '\0';
		refuse(v, "the path is too long");
	}
}

static void set_ip(const struct value *v)
{
	char host[64];
	const char *slash = strchr(v->text, '/');
	struct og_addr a;
	uint64_t bits = 0;

	if (v->k->type != OG_CONFIG_IP_PREFIX)
		slash = NULL;
	snprintf(host, sizeof(host), "%.*s", slash ? (int)(slash - v->text) : 63, v->text);
	if (v->text[0] == '\0') {
		*(struct og_addr *)field(v) = (struct og_addr){0};
		return;
	}
	if (og_addr_parse(&a, host) < 0 || (v->k->type != OG_CONFIG_IP_PORT && a.port != 0) ||
		(v->k->type == OG_CONFIG_IP_PORT && a.port == 0)) {
		refuse(v, v->k->type == OG_CONFIG_IP_PORT
				  ? "not an address such as 192.0.2.1:49737"
				  : "not an IPv4 address such as 192.0.2.1");
		return;
	}
	if (slash && (og_text_uint(&bits, slash + 1) < 0 || bits < 1 || bits > 32)) {
		refuse(v, "the prefix length is 1 to 32");
		return;
	}
	*(struct og_addr *)field(v) = a;
	if (v->k->type == OG_CONFIG_IP_PREFIX)
		v->cfg->prefix_len = bits;
}

static void set_text(const struct value *v)
{
	size_t n = strlen(v->text);
	char host[OG_CONFIG_WORD_BYTES], why[64];
	uint16_t port;

	if (v->k->type == OG_CONFIG_LISTEN && strcmp(v->text, "none") != 0 &&
		og_config_split_listen(v->text, host, &port) < 0) {
		refuse(v, "not host:port such as 127.0.0.1:8480, nor none");
		return;
	}
	if (n >= v->k->cap || (v->k->max > 0 && n > v->k->max) || n < v->k->min) {
		snprintf(why, sizeof(why), "%zu bytes; %d to %d are allowed", n, (int)v->k->min,
			(int)(v->k->max ? v->k->max : v->k->cap - 1));
		refuse(v, why);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)v->text[i] < 0x20) {
			refuse(v, "holds a control character");
			return;
		}
	}
	strcpy(field(v), v->text);
}

static void set(const struct value *v)
{
	switch (v->k->type) {
	case OG_CONFIG_LINES:
	case OG_CONFIG_KEYS:
		set_line(v);
		break;
	case OG_CONFIG_COMMAS:
		set_commas(v);
		break;
	case OG_CONFIG_UINT:
	case OG_CONFIG_SIZE:
	case OG_CONFIG_DURATION:
		set_number(v);
		break;
	case OG_CONFIG_CHOICE:
		set_choice(v);
		break;
	case OG_CONFIG_BOOL:
		set_bool(v);
		break;
	case OG_CONFIG_PATH:
		set_path(v);
		break;
	case OG_CONFIG_IP:
	case OG_CONFIG_IP_PORT:
	case OG_CONFIG_IP_PREFIX:
		set_ip(v);
		break;
	case OG_CONFIG_STRING:
	case OG_CONFIG_LISTEN:
		set_text(v);
		break;
	}
}

void og_config_set_default(struct og_config *cfg, void *base, const struct og_config_key *k)
{
	struct og_problems none = {0};
	struct value v = {cfg, base, k, k->def, OG_CONFIG_FROM_DEFAULT, &none};

	if (k->def[0] != '\0')
		set(&v);
	OG_ASSERT(none.nb == 0);
}

void og_config_set(struct og_config *cfg, struct og_config_model *model,
	const struct og_config_key *k, const char *value, int32_t where,
	struct og_problems *problems)
{
	struct value v = {cfg, model ? (void *)model : cfg, k, value, where, problems};
	int32_t *from = model ? &model->where[k - og_config_keys] : &cfg->where[k - og_config_keys];

	if (og_config_is_list(k)) {
		/* The first value given replaces the default; a flag replaces the file. */
		if (*from == OG_CONFIG_FROM_DEFAULT || (where == OG_CONFIG_FROM_FLAG && *from > 0))
			og_config_list_clear(field(&v));
	} else if (*from > 0 && where > 0) {
		og_config_problem(cfg, problems, where, "\"%s\" is given twice, first in line %d",
			k->key, *from);
		return;
	}
	*from = where;
	set(&v);
}
