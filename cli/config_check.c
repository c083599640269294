/*
 * config_check.c: what depends on several values of node.conf, and what follows from them.
 */
#include "cli/config_priv.h"

#include "base/core.h"
#include "cli/affinity.h"
#include "cli/resolve.h"
#include "cli/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int32_t og_config_where(const struct og_config *cfg, const void *field)
{
	size_t offset = (size_t)((const char *)field - (const char *)cfg);

	for (size_t i = 0; i < og_config_nb_keys; i++) {
		if (strcmp(og_config_keys[i].section, "model") != 0 &&
			og_config_keys[i].offset == offset)
			return cfg->where[i];
	}
	return 0;
}

static void fill_node(struct og_config *cfg)
{
	if (cfg->root[0] == '\0')
		strcpy(cfg->root, cfg->dir);
	if (cfg->key_file[0] == '\0')
		(void)!snprintf(cfg->key_file, sizeof(cfg->key_file), "%.*s/node.key",
			(int)sizeof(cfg->key_file) - 16, cfg->root);
	if (cfg->node_name[0] == '\0') {
		char host[256] = "";

		gethostname(host, sizeof(host) - 1);
		og_text_copy(cfg->node_name, sizeof(cfg->node_name), host[0] ? host : "og-node");
	}
}

static void check_bootstrap(const struct og_config *cfg, struct og_problems *problems)
{
	for (uint32_t i = 0; i < cfg->bootstrap.nb_items; i++) {
		const struct og_config_item *item = &cfg->bootstrap.items[i];
		struct og_endpoint e;

		if (strcmp(item->text, "public") == 0 || strcmp(item->text, "none") == 0) {
			if (cfg->bootstrap.nb_items > 1)
				og_config_problem(cfg, problems, item->where,
					"bootstrap: \"%s\" stands alone", item->text);
		} else if (og_endpoint_parse(&e, item->text) < 0 || e.has_key) {
			og_config_problem(cfg, problems, item->where,
				"bootstrap: \"%s\" is not host:port, IP@name:port, public or none",
				item->text);
		}
	}
}

static void check_peers(const struct og_config *cfg, struct og_problems *problems)
{
	for (uint32_t i = 0; i < cfg->peers.nb_items; i++) {
		const struct og_config_item *item = &cfg->peers.items[i];
		struct og_endpoint e;

		if (og_endpoint_parse(&e, item->text) < 0)
			og_config_problem(cfg, problems, item->where,
				"peers: \"%s\" is not host:port, KEY@host:port or KEY", item->text);
	}
}

/* On a GPU only. Where `auto` finds none, the start says so. */
static void check_fp8(const struct og_config *cfg, struct og_problems *problems,
	const struct og_config_model *m, const char *key, const char *value)
{
	if (strcmp(value, "fp8") == 0 && strcmp(m->backend, "cpu") == 0)
		og_config_problem(cfg, problems, m->section_line,
			"%s = fp8 is for GPUs: leave it out, or take backend = cuda", key);
}

static void check_models(struct og_config *cfg, struct og_problems *problems)
{
	for (uint32_t i = 0; i < cfg->nb_models; i++) {
		struct og_config_model *m = &cfg->models[i];
		bool no_file = strcmp(m->backend, "echo") == 0 || strcmp(m->backend, "none") == 0;

		if (m->path[0] == '\0' && strcmp(m->backend, "auto") == 0)
			strcpy(m->backend, "none");
		else if (m->path[0] == '\0' && !no_file)
			og_config_problem(cfg, problems, m->section_line,
				"backend = %s needs a path", m->backend);
		check_fp8(cfg, problems, m, "weights", m->weights);
		check_fp8(cfg, problems, m, "kv", m->kv);
	}
}

/* Drivers that can leave an interface to the kernel, by an XDP program or flow rules, and cards, some of which can. */
static bool may_share(const char *driver)
{
	if (strncmp(driver, "ethdev:", 7) != 0)
		return false;
	driver += 7;
	return strncmp(driver, "net_af_xdp", 10) == 0 || strncmp(driver, "net_", 4) != 0 ||
	       (strncmp(driver, "net_tap", 7) == 0 && strstr(driver, ",remote="));
}

static void check_port(const struct og_config *cfg, struct og_problems *problems)
{
	bool ethdev = strncmp(cfg->driver, "ethdev:", 7) == 0;

	if (!ethdev && strcmp(cfg->driver, "socket") != 0)
		og_config_problem(cfg, problems, og_config_where(cfg, cfg->driver),
			"driver = %s: socket or ethdev:<devargs>", cfg->driver);
	if (cfg->shared && !may_share(cfg->driver))
		og_config_problem(cfg, problems, og_config_where(cfg, &cfg->shared),
			"shared = yes is for driver = ethdev:net_af_xdp0,iface=NAME, and for a "
			"card (mlx5) or ethdev:net_tap0,remote=NAME with flow rules: socket shares "
			"its interface anyway, and other drivers have it for themselves");
	else if (cfg->shared && strstr(cfg->driver, ",xdp_prog="))
		og_config_problem(cfg, problems, og_config_where(cfg, &cfg->shared),
			"shared = yes brings an XDP program of its own: without xdp_prog=");
	if (ethdev && !cfg->shared && (og_addr_u32(&cfg->address) == 0 || cfg->prefix_len == 0))
		og_config_problem(cfg, problems, og_config_where(cfg, cfg->driver),
			"an ethdev port needs its own address, e.g. [port] address = "
			"192.0.2.10/24");
}

static void check_cores(const struct og_config *cfg, struct og_problems *problems)
{
	cpu_set_t set;

	if (og_cpus_parse(&set, cfg->net) < 0)
		og_config_problem(cfg, problems, og_config_where(cfg, cfg->net),
			"net = %s: a list of CPUs such as 2,4-5", cfg->net);
	else if (CPU_COUNT(&set) > OG_CORES_MAX)
		og_config_problem(cfg, problems, og_config_where(cfg, cfg->net),
			"net = %s: %d polling cores; at most %d", cfg->net, CPU_COUNT(&set),
			OG_CORES_MAX);
}

int og_config_finish(struct og_config *cfg, struct og_problems *problems)
{
	uint32_t before = problems->nb;

	fill_node(cfg);
	if (cfg->secret_file[0] != '\0')
		og_config_problem(cfg, problems, og_config_where(cfg, cfg->secret_file),
			"secret_file: this version cannot prove a cluster secret; use allow = KEY");
	if (cfg->cluster_ids.nb_items > OG_ROUTER_CLUSTERS_MAX)
		og_config_problem(cfg, problems, og_config_where(cfg, &cfg->cluster_ids),
			"%u cluster ids; at most %d", cfg->cluster_ids.nb_items,
			OG_ROUTER_CLUSTERS_MAX);
	check_bootstrap(cfg, problems);
	check_peers(cfg, problems);
	check_port(cfg, problems);
	check_cores(cfg, problems);
	check_models(cfg, problems);
	return problems->nb == before ? 0 : -EINVAL;
}

int og_config_split_listen(const char *text, char host[OG_CONFIG_WORD_BYTES], uint16_t *port)
{
	const char *colon = strrchr(text, ':');
	uint64_t n;
	size_t len;

	if (!colon || og_text_uint(&n, colon + 1) < 0 || n > 65535)
		return -EINVAL;
	len = (size_t)(colon - text);
	if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
		text++;
		len -= 2;
	} else if (memchr(text, ':', len)) {
		return -EINVAL;
	}
	if (len == 0 || len >= OG_CONFIG_WORD_BYTES)
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	*port = (uint16_t)n;
	return 0;
}
