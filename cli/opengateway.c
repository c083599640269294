/*
 * opengateway.c: the operator's command: makes a root, starts and stops its node, and asks it things
 * over ROOT/control.sock.
 *
 * Data goes to stdout, talk to stderr. Exit status: 0 done, 1 failed, 2 usage, 3 node not running,
 * 4 no peer or model can serve, 5 timed out, 78 bad configuration.
 */
#include "cli/ctl.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage_text[] =
	"usage: opengateway [--root DIR] [--json] COMMAND\n"
	"  init [--name N] [--model PATH|demo|none] [--bootstrap LIST|none|public]\n"
	"  connect|join ID      be a member of a cluster, now and at each start\n"
	"  disconnect|leave ID  leave it\n"
	"  start, stop, restart, status\n"
	"  drain                take no more prompts, finish those that run, leave and end\n"
	"  clusters, peers [ID], models\n"
	"  prompt [TEXT] [--model M] [--stream]   no text: a conversation, one turn a line\n"
	"  gauge                load of this node and its members\n"
	"  eligible [--model M] who could serve a prompt now, in the order of asking, and who not\n"
	"  top                  status and gauge, drawn anew each second; q ends\n"
	"  resources            CPUs, memory, huge pages, GPUs, ports and models of this machine\n"
	"  logs                 what the node wrote\n"
	"  bench SUITE …        runs og-bench\n"
	"The root (default ~/.opengateway or $OPENGATEWAY_ROOT) holds node.conf, node.key and the "
	"state.\n"
	"Exit status: 0 done, 1 failed, 2 usage, 3 node not running, 4 nobody can serve, 5 timed "
	"out,\n78 bad configuration.\n";

int og_ctl_usage(void)
{
	fputs(usage_text, stderr);
	return OG_EXIT_USAGE;
}

/* Those that take no argument. */
static const struct {
	const char *name;
	int (*run)(void);
} plain_commands[] = {
	{"start", og_ctl_start},
	{"stop", og_ctl_stop},
	{"restart", og_ctl_restart},
	{"drain", og_ctl_drain},
	{"status", og_ctl_status},
	{"clusters", og_ctl_clusters},
	{"models", og_ctl_models},
	{"gauge", og_ctl_gauge},
	{"top", og_ctl_top},
	{"resources", og_ctl_resources},
	{"logs", og_ctl_logs},
};

static int dispatch(int argc, char **argv)
{
	const char *cmd = argv[0];
	bool add = strcmp(cmd, "connect") == 0 || strcmp(cmd, "join") == 0;

	if (strcmp(cmd, "init") == 0)
		return og_ctl_init(argc, argv);
	if (strcmp(cmd, "prompt") == 0)
		return og_ctl_prompt(argc, argv);
	if (strcmp(cmd, "eligible") == 0)
		return og_ctl_eligible(argc, argv);
	if (strcmp(cmd, "bench") == 0)
		return og_ctl_bench(argv);
	if (add || strcmp(cmd, "disconnect") == 0 || strcmp(cmd, "leave") == 0)
		return argc == 2 ? og_ctl_cluster(argv[1], add) : og_ctl_usage();
	if (strcmp(cmd, "peers") == 0 && argc <= 2)
		return og_ctl_peers(argv[1]);
	for (size_t i = 0; i < OG_ARRAY_LEN(plain_commands); i++) {
		if (strcmp(cmd, plain_commands[i].name) == 0)
			return argc == 1 ? plain_commands[i].run() : og_ctl_usage();
	}
	og_ctl_say("\"%s\" is no command", cmd);
	return og_ctl_usage();
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"root", 1, NULL, 'r'}, {"json", 0, NULL, 'j'},
		{"version", 0, NULL, 'v'}, {"help", 0, NULL, 'h'}, {0}};
	const char *env = getenv("OPENGATEWAY_ROOT"), *home = getenv("HOME");
	int opt;

	signal(SIGPIPE, SIG_IGN);
	if (env && env[0])
		snprintf(og_ctl_root, sizeof(og_ctl_root), "%s", env);
	else
		snprintf(og_ctl_root, sizeof(og_ctl_root), "%s/.opengateway", home ? home : ".");
	while ((opt = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (opt == 'r') {
			snprintf(og_ctl_root, sizeof(og_ctl_root), "%s", optarg);
		} else if (opt == 'j') {
			og_ctl_json = true;
		} else if (opt == 'v') {
			puts("opengateway " OG_VERSION);
			return OG_EXIT_DONE;
		} else if (opt == 'h') {
			fputs(usage_text, stdout);
			return OG_EXIT_DONE;
		} else {
			return og_ctl_usage();
		}
	}
	return optind < argc ? dispatch(argc - optind, argv + optind) : og_ctl_usage();
}
