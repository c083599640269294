/*
 * og_node.c: the program og-node: one node in the foreground.
 */
#include "cli/needs.h"
#include "cli/node.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OVERRIDES_MAX = 64 };
enum { OPT_CHECK = 256, OPT_PRINT, OPT_LIST, OPT_LOG_FORMAT, OPT_LOG_LEVEL, OPT_PROGRESS };

struct flags {
	const char *file;
	char *overrides[OVERRIDES_MAX];
	int nb_overrides;
	bool check, print, progress;
};

const char *argp_program_version = "og-node " OG_VERSION;

static const struct argp_option options[] = {
	{"config", 'c', "FILE", 0, "read FILE (default: ./node.conf)", 0},
	{"option", 'o', "SECTION.KEY=VALUE", 0, "set a value over that of the file", 0},
	{"log-format", OPT_LOG_FORMAT, "text|json", 0, "form of the lines on stderr", 0},
	{"log-level", OPT_LOG_LEVEL, "LEVEL", 0, "error, warn, info or debug", 0},
	{"progress", OPT_PROGRESS, NULL, 0, "say on stderr each second how far the weights are", 0},
	{"check", OPT_CHECK, NULL, 0,
		"list every problem of the file (exit 78), else what it needs and this machine "
		"lacks, and how to get it (exit 1), and end",
		1},
	{"print-config", OPT_PRINT, NULL, 0, "print each value and where it came from", 1},
	{"list-config", OPT_LIST, NULL, 0, "print every key with its default and meaning", 1},
	{0},
};

static void add_override(
	struct flags *f, const char *prefix, const char *text, struct argp_state *state)
{
	if (f->nb_overrides == OVERRIDES_MAX ||
		asprintf(&f->overrides[f->nb_overrides], "%s%s", prefix, text) < 0)
		argp_error(state, "too many options");
	else
		f->nb_overrides++;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct flags *f = state->input;

	switch (key) {
	case 'c':
		f->file = arg;
		return 0;
	case 'o':
		add_override(f, "", arg, state);
		return 0;
	case OPT_LOG_FORMAT:
		add_override(f, "log.format=", arg, state);
		return 0;
	case OPT_LOG_LEVEL:
		add_override(f, "log.level=", arg, state);
		return 0;
	case OPT_PROGRESS:
		f->progress = true;
		return 0;
	case OPT_CHECK:
		f->check = true;
		return 0;
	case OPT_PRINT:
		f->print = true;
		return 0;
	case OPT_LIST:
		og_config_list(stdout);
		exit(OG_EXIT_DONE);
	case ARGP_KEY_ARG:
		argp_error(state, "what is \"%s\"? The configuration is named by -c FILE", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void say(void *ctx, const char *line)
{
	fprintf(stderr, "%s\n", line);
}

static int load(const struct flags *f, struct og_config *cfg, struct og_problems *problems)
{
	int ret = og_config_load(cfg, f->file, problems);

	for (int i = 0; i < f->nb_overrides; i++) {
		int over = og_config_override(cfg, f->overrides[i], problems);

		ret = ret < 0 ? ret : over;
	}
	if (ret == 0 || ret == -EINVAL) {
		int all = og_config_finish(cfg, problems);

		ret = ret < 0 ? ret : all;
	}
	return ret;
}

static int reload(void *ctx, struct og_config *out)
{
	struct og_problems problems = {.report = say};

	return load(ctx, out, &problems);
}

/* The file is right; what it needs is a matter of its own, with another exit status. */
static int check(const struct og_config *cfg)
{
	struct og_problems lacks = {.report = say};

	og_needs_all(cfg, &lacks);
	if (lacks.nb == 0)
		fprintf(stderr, "%s: no problem\n", cfg->file);
	else
		fprintf(stderr,
			"%s: no problem in the file; this machine lacks %u of what it needs\n",
			cfg->file, lacks.nb);
	return lacks.nb == 0 ? OG_EXIT_DONE : OG_EXIT_FAILED;
}

static int run(struct og_config *cfg, struct flags *flags)
{
	struct og_problems lacks = {.report = say};

	og_needs_files(cfg, &lacks);
	if (lacks.nb > 0)
		return OG_EXIT_CONFIG;
	og_node_set_up_log(cfg);
	cfg->show_progress = flags->progress;
	return og_node_run(cfg, reload, flags);
}

int main(int argc, char **argv)
{
	static const struct argp argp = {options, parse, NULL,
		"og-node: a node that finds its cluster over the Hyperswarm DHT and answers "
		"prompts.",
		NULL, NULL, NULL};
	static struct og_config cfg;
	struct flags flags = {.file = "node.conf"};
	struct og_problems problems = {.report = say};
	int status = OG_EXIT_DONE;

	argp_err_exit_status = OG_EXIT_USAGE;
	if (argp_parse(&argp, argc, argv, 0, NULL, &flags) != 0)
		return OG_EXIT_USAGE;
	if (load(&flags, &cfg, &problems) < 0)
		status = OG_EXIT_CONFIG;
	else if (flags.print)
		og_config_print(&cfg, stdout);
	else
		status = flags.check ? check(&cfg) : run(&cfg, &flags);
	og_config_fini(&cfg);
	for (int i = 0; i < flags.nb_overrides; i++)
		free(flags.overrides[i]);
	return status;
}
