#include "bench/js.h"

#include <errno.h>
#include <unistd.h>

static const char script[] = BENCH_SOURCE "/bench/peer.mjs";
static const char packages[] = BENCH_SOURCE "/tests/conformance/node_modules/hyperdht";
static const char current_node[] = BENCH_SOURCE "/tests/conformance/node_modules/.bin/node";

const char *js_missing(void)
{
	if (access(script, R_OK) < 0)
		return "bench/peer.mjs of the source tree is not there";
	if (access(packages, R_OK) < 0)
		return "the npm packages are not installed: configs/deps.sh test";
	return "";
}

int js_command(struct js_command *c, const char *role, const char *argument)
{
	if (js_missing()[0] != '\0') {
		fprintf(stderr, "og-bench: --peer js: %s\n", js_missing());
		return -ENOENT;
	}
	/* The packages bring a current node; Debian's is older. */
	snprintf(c->node, sizeof(c->node), "%s",
		access(current_node, X_OK) == 0 ? current_node : "node");
	c->argv[0] = c->node;
	c->argv[1] = script;
	c->argv[2] = role;
	c->argv[3] = argument;
	c->argv[4] = NULL;
	return 0;
}

int js_start_network(struct bench_child *c)
{
	struct js_command js;
	int ret = js_command(&js, "network", NULL);

	return ret < 0 ? ret : bench_child_start(c, js.argv, -1);
}
