#include "cli/config.h"

#include "cli/config_priv.h"
#include "cli/file.h"
#include "cli/text.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { INIH_SECTION_MAX = 49 }; /* longer section names are cut by inih */
#define NO_SECTION "[?]"        /* stands for a refused header: what follows it is skipped */

/* Walks the text for inih, one line a call, and knows the number of the line. */
struct source {
	const char *p;
	const char *end;
	int32_t line;
	int32_t section_line;
	struct og_config *cfg;
	struct og_problems *problems;
};

void og_config_problem(const struct og_config *cfg, struct og_problems *problems, int32_t line,
	const char *fmt, ...)
{
	char text[1024], full[PATH_MAX + 1100];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (line > 0)
		snprintf(full, sizeof(full), "%s:%d: %s", cfg->file, line, text);
	else if (line == OG_CONFIG_FROM_FLAG)
		snprintf(full, sizeof(full), "command line: %s", text);
	else
		snprintf(full, sizeof(full), "%s: %s", cfg->file, text);
	problems->nb++;
	if (problems->report)
		problems->report(problems->ctx, full);
}

static void copy_dir(char out[PATH_MAX], const char *file)
{
	const char *slash = strrchr(file, '/');
	size_t n = slash ? (size_t)(slash - file) : 0;

	if (!slash)
		strcpy(out, ".");
	else if (n == 0)
		strcpy(out, "/");
	else
		snprintf(out, PATH_MAX, "%.*s", (int)OG_MIN(n, (size_t)PATH_MAX - 1), file);
}

void og_config_init(struct og_config *cfg, const char *file)
{
	memset(cfg, 0, sizeof(*cfg));
	snprintf(cfg->file, sizeof(cfg->file), "%s", file);
	copy_dir(cfg->dir, file);
	for (size_t i = 0; i < og_config_nb_keys; i++) {
		const struct og_config_key *k = &og_config_keys[i];

		if (strcmp(k->section, "model") != 0)
			og_config_set_default(cfg, cfg, k);
	}
}

void og_config_fini(struct og_config *cfg)
{
	for (size_t i = 0; i < og_config_nb_keys; i++) {
		const struct og_config_key *k = &og_config_keys[i];

		if (og_config_is_list(k))
			og_config_list_clear(
				(struct og_config_list *)(void *)((char *)cfg + k->offset));
	}
}

static bool section_known(const char *section)
{
	for (size_t i = 0; i < og_config_nb_keys; i++) {
		if (strcmp(og_config_keys[i].section, section) == 0)
			return true;
	}
	return false;
}

static void report_section(struct source *src, const char *section)
{
	const char *names[OG_CONFIG_KEYS_MAX], *near;

	for (size_t i = 0; i < og_config_nb_keys; i++)
		names[i] = og_config_keys[i].section;
	near = og_text_nearest(section, names, og_config_nb_keys);
	if (near)
		og_config_problem(src->cfg, src->problems, src->section_line,
			"unknown section [%s], did you mean \"[%s]\"?", section, near);
	else
		og_config_problem(src->cfg, src->problems, src->section_line,
			"unknown section [%s]; there are [node] [cluster] [dht] [port] [cores] "
			"[model] [http] [limits] [log] [metrics]",
			section);
}

static void report_key(struct source *src, const char *section, const char *key)
{
	const char *names[OG_CONFIG_KEYS_MAX], *near;
	size_t nb = 0;

	for (size_t i = 0; i < og_config_nb_keys; i++) {
		if (strcmp(og_config_keys[i].section, section) == 0)
			names[nb++] = og_config_keys[i].key;
		else if (strcmp(og_config_keys[i].key, key) == 0) {
			og_config_problem(src->cfg, src->problems, src->line,
				"\"%s\" belongs in [%s], not in [%s]", key,
				og_config_keys[i].section, section);
			return;
		}
	}
	near = og_text_nearest(key, names, nb);
	if (near)
		og_config_problem(src->cfg, src->problems, src->line,
			"unknown key \"%s\" in [%s], did you mean \"%s\"?", key, section, near);
	else
		og_config_problem(src->cfg, src->problems, src->line,
			"unknown key \"%s\" in [%s]; og-node --list-config shows all", key,
			section);
}

/* "[model NAME]" -> the model with that name, made if new. NULL when refused. */
static struct og_config_model *model_section(struct source *src, const char *section)
{
	struct og_config *cfg = src->cfg;
	const char *name = section + strlen("model");
	struct og_config_model *m;

	while (*name == ' ' || *name == '\t')
		name++;
	for (uint32_t i = 0; i < cfg->nb_models; i++) {
		m = &cfg->models[i];
		if (strcmp(m->name, name) != 0)
			continue;
		if (m->section_line == src->section_line)
			return m;
		og_config_problem(cfg, src->problems, src->section_line,
			"section [%s] is given twice, first in line %d; give the second a name of "
			"its "
			"own: [model NAME]",
			section, m->section_line);
		return NULL;
	}
	if (cfg->nb_models == OG_ROUTER_MODELS_MAX) {
		og_config_problem(cfg, src->problems, src->section_line, "more than %d models",
			OG_ROUTER_MODELS_MAX);
		return NULL;
	}
	m = &cfg->models[cfg->nb_models++];
	memset(m, 0, sizeof(*m));
	og_text_copy(m->name, sizeof(m->name), name);
	m->section_line = src->section_line;
	for (size_t i = 0; i < og_config_nb_keys; i++) {
		if (strcmp(og_config_keys[i].section, "model") == 0)
			og_config_set_default(cfg, m, &og_config_keys[i]);
	}
	return m;
}

static bool is_model(const char *section)
{
	return strncmp(section, "model", 5) == 0 &&
	       (section[5] == '\0' || section[5] == ' ' || section[5] == '\t');
}

static void assign(struct source *src, const char *section, const char *key, const char *value)
{
	struct og_config *cfg = src->cfg;
	struct og_config_model *model = NULL;
	const char *table = section;

	if (is_model(section)) {
		table = "model";
		model = model_section(src, section);
		if (!model)
			return;
	}
	for (size_t i = 0; i < og_config_nb_keys; i++) {
		const struct og_config_key *k = &og_config_keys[i];

		if (strcmp(k->section, table) == 0 && strcmp(k->key, key) == 0) {
			og_config_set(cfg, model, k, value, src->line, src->problems);
			return;
		}
	}
	report_key(src, table, key);
}

static int on_pair(void *ctx, const char *section, const char *key, const char *value)
{
	struct source *src = ctx;

	if (section[0] == '\0') {
		og_config_problem(src->cfg, src->problems, src->line,
			"\"%s\" stands before the first [section]", key);
		return 1;
	}
	if (!is_model(section) && !section_known(section))
		return 1; /* reported where the section starts */
	assign(src, section, key, value);
	return 1;
}

/* Returns whether inih may see the header as it stands. */
static bool start_section(struct source *src, const char *text, size_t len)
{
	const char *close = memchr(text, ']', len);
	char name[OG_CONFIG_WORD_BYTES];

	src->section_line = src->line;
	if (!close) {
		og_config_problem(
			src->cfg, src->problems, src->line, "the section has no closing ]");
		return false;
	}
	if (close - text - 1 > INIH_SECTION_MAX) {
		og_config_problem(src->cfg, src->problems, src->line,
			"the section name is longer than %d bytes", INIH_SECTION_MAX);
		return false;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(close - text - 1), text + 1);
	if (is_model(name))
		(void)!model_section(src, name);
	else if (!section_known(name))
		report_section(src, name);
	return true;
}

/* What inih would read wrongly or cut is reported here, and the line is blanked. */
static bool line_usable(struct source *src, const char *text, size_t len)
{
	if (len > OG_CONFIG_LINE_BYTES) {
		og_config_problem(src->cfg, src->problems, src->line,
			"line of %zu bytes; at most %d fit (split a list over several lines)", len,
			OG_CONFIG_LINE_BYTES);
		return false;
	}
	if (memchr(text, '\0', len) || !og_text_is_utf8(text, len)) {
		og_config_problem(src->cfg, src->problems, src->line, "not UTF-8 text");
		return false;
	}
	return len > 0 && *text != '#' && *text != ';';
}

/* fgets-like reader of inih. Leading blanks go: inih would read such a line as a continuation. */
static char *next_line(char *out, int cap, void *stream)
{
	struct source *src = stream;
	const char *start = src->p, *newline;
	size_t len;

	if (start == src->end)
		return NULL;
	newline = memchr(start, '\n', (size_t)(src->end - start));
	src->p = newline ? newline + 1 : src->end;
	len = (size_t)((newline ? newline : src->end) - start);
	src->line++;
	if (src->line == 1 && len >= 3 && memcmp(start, "\xef\xbb\xbf", 3) == 0) {
		start += 3;
		len -= 3;
	}
	while (len > 0 &&
		(start[len - 1] == '\r' || start[len - 1] == ' ' || start[len - 1] == '\t'))
		len--;
	while (len > 0 && (*start == ' ' || *start == '\t')) {
		start++;
		len--;
	}
	if (!line_usable(src, start, len) || (int)len + 2 > cap) {
		len = 0;
	} else if (*start == '[') {
		if (!start_section(src, start, len)) {
			start = NO_SECTION;
			len = strlen(NO_SECTION);
		}
	} else if (!memchr(start, '=', len)) {
		og_config_problem(src->cfg, src->problems, src->line,
			"neither [section] nor key = value: \"%.*s\"", (int)OG_MIN(len, 60u),
			start);
		len = 0;
	}
	memcpy(out, start, len);
	out[len] = '\n';
	out[len + 1] = '\0';
	return out;
}

int og_config_parse(
	struct og_config *cfg, const char *text, size_t len_bytes, struct og_problems *problems)
{
	struct source src = {.p = text, .end = text + len_bytes, .cfg = cfg, .problems = problems};
	uint32_t before = problems->nb;

	if (ini_parse_stream(next_line, &src, on_pair, &src) != 0 && problems->nb == before)
		og_config_problem(cfg, problems, 0, "cannot be read as INI");
	cfg->last_line = src.line;
	return problems->nb == before ? 0 : -EINVAL;
}

int og_config_load(struct og_config *cfg, const char *file, struct og_problems *problems)
{
	char *text = NULL;
	size_t len_bytes = 0;
	int ret;

	og_config_init(cfg, file);
	ret = og_file_load(file, OG_CONFIG_FILE_BYTES, &text, &len_bytes);
	if (ret < 0) {
		og_config_problem(cfg, problems, 0, "cannot be read: %s", strerror(-ret));
		return ret;
	}
	ret = og_config_parse(cfg, text, len_bytes, problems);
	free(text);
	return ret;
}

int og_config_override(struct og_config *cfg, const char *assignment, struct og_problems *problems)
{
	struct source src = {.line = OG_CONFIG_FROM_FLAG, .cfg = cfg, .problems = problems};
	char section[OG_CONFIG_WORD_BYTES], key[OG_CONFIG_WORD_BYTES];
	const char *equals = strchr(assignment, '='), *dot = strchr(assignment, '.');
	uint32_t before = problems->nb;

	src.section_line = OG_CONFIG_FROM_FLAG;
	if (!equals || !dot || dot > equals || dot - assignment > INIH_SECTION_MAX) {
		og_config_problem(cfg, problems, OG_CONFIG_FROM_FLAG,
			"\"%s\" is not of the form section.key=value", assignment);
		return -EINVAL;
	}
	snprintf(section, sizeof(section), "%.*s", (int)(dot - assignment), assignment);
	snprintf(key, sizeof(key), "%.*s", (int)(equals - dot - 1), dot + 1);
	if (!is_model(section) && !section_known(section))
		report_section(&src, section);
	else
		assign(&src, section, key, equals + 1);
	return problems->nb == before ? 0 : -EINVAL;
}
