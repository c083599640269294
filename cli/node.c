#include "cli/node_priv.h"

#include "base/log.h"
#include "cli/affinity.h"
#include "cli/process.h"
#include "cluster/core.h"
#include "cluster/steer.h"
#include "cluster/stream_core.h"
#include "dht/view.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

static int open_root(struct og_node *n)
{
	const char *root = n->cfg->root;
	pid_t holder;
	int ret = og_make_dirs(root);

	if (ret < 0) {
		OG_LOG(node, ERR, "root folder %s: %s", root, strerror(-ret));
		return ret;
	}
	n->lock_fd = og_process_lock(root, &holder);
	if (n->lock_fd == -EBUSY)
		OG_LOG(node, ERR, "a node runs in %s already (pid %d)", root, (int)holder);
	else if (n->lock_fd < 0)
		OG_LOG(node, ERR, "%s/og-node.pid: %s", root, strerror(-n->lock_fd));
	return n->lock_fd < 0 ? n->lock_fd : 0;
}

static int open_key(struct og_node *n)
{
	const char *path = n->cfg->key_file;
	struct og_rand rand;
	int ret = og_keypair_alloc(&n->keys);

	if (ret == 0)
		ret = og_keypair_load(n->keys, path);
	if (ret == -ENOENT) {
		og_rand_system(&rand);
		ret = og_keypair_create(n->keys, path, &rand);
		if (ret == 0)
			OG_LOG(node, INFO, "made a key: %s", path);
	}
	if (ret == 0)
		return 0;
	OG_LOG(node, ERR, "key %s: %s", path,
		ret == -EACCES    ? "others may read it; chmod 600, and consider it known"
		: ret == -EPERM   ? "it belongs to another user"
		: ret == -ELOOP   ? "it is a symlink"
		: ret == -EBADMSG ? "it does not hold 64 hex digits"
				  : strerror(-ret));
	return ret;
}

/* From here on every thread inherits the mask, so that signals reach the descriptor. */
static int open_signals(struct og_node *n)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
		return -EINVAL;
	signal(SIGPIPE, SIG_IGN);
	n->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return n->signal_fd < 0 ? -errno : 0;
}

static bool port_given(const struct og_config *cfg)
{
	for (size_t i = 0; i < og_config_nb_keys; i++) {
		if (og_config_keys[i].offset == offsetof(struct og_config, dht_port) &&
			strcmp(og_config_keys[i].section, "dht") == 0)
			return cfg->where[i] != OG_CONFIG_FROM_DEFAULT && cfg->dht_port != 0;
	}
	return false;
}

/* The CPUs of the polling cores, in order; returns how many there are, at least one. */
static uint16_t net_cpus(const char *text, int cpus[OG_CORES_MAX])
{
	cpu_set_t set;
	uint16_t n = 0;

	cpus[0] = -1;
	if (og_cpus_parse(&set, text) < 0)
		return 1;
	for (int i = 0; i < CPU_SETSIZE && n < OG_CORES_MAX; i++)
		if (CPU_ISSET(i, &set))
			cpus[n++] = i;
	return OG_MAX(n, 1);
}

static int open_dataplane(struct og_node *n)
{
	const struct og_config *cfg = n->cfg;
	struct sock_filter steering[OG_STEER_PROGRAM_MAX];
	int cpus[OG_CORES_MAX];
	struct og_dataplane_opts opts = {
		.driver = cfg->driver,
		.bind = cfg->address,
		.prefix_bits = (uint8_t)cfg->prefix_len,
		.gateway = cfg->gateway,
		.mtu = (uint16_t)cfg->mtu,
		.queues = (uint16_t)cfg->queues,
		.shared = cfg->shared,
		.nb_endpoints = 1,
		.poll = strcmp(cfg->poll, "busy") == 0 ? OG_POLL_BUSY : OG_POLL_ADAPTIVE,
		.nb_workers = (uint32_t)cfg->crypto,
		.hugepages = cfg->hugepages,
		.eal_args = cfg->eal_args[0] ? cfg->eal_args : NULL,
		.router = &n->doorbell,
	};
	char err[256] = "", addr[OG_ADDR_TEXT_BYTES];
	int ret = og_doorbell_init(&n->doorbell);

	if (ret < 0)
		return ret;
	n->has_doorbell = true;
	opts.nb_cores = n->nb_cores = net_cpus(cfg->net, cpus);
	opts.lcore_cpu = cpus[0];
	opts.more_cpus = cpus + 1;
	opts.steering = steering;
	opts.nb_steering = og_steer_program(steering, n->nb_cores);
	opts.bind.port = (uint16_t)cfg->dht_port;
	ret = og_dataplane_open(&n->dp, &opts, err, sizeof(err));
	if (ret < 0) {
		OG_LOG(node, ERR, "port: %s", err);
		return ret;
	}
	og_dataplane_local_addr(n->dp, 0, &n->local);
	if (port_given(cfg) && n->local.port != cfg->dht_port) {
		OG_LOG(node, ERR,
			"[dht] port = %" PRIu64 " is in use; without it a free one is taken",
			cfg->dht_port);
		return -EADDRINUSE;
	}
	OG_LOG(node, INFO, "UDP at %s by %s", og_addr_format(&n->local, addr),
		og_dataplane_port_name(n->dp));
	if (n->nb_cores > 1)
		OG_LOG(node, INFO, "%u polling cores on CPUs %s", n->nb_cores, cfg->net);
	return 0;
}

static enum og_core_tristate tristate(const char *word)
{
	return strcmp(word, "yes") == 0  ? OG_CORE_YES
	       : strcmp(word, "no") == 0 ? OG_CORE_NO
					 : OG_CORE_AUTO;
}

static int create_others(struct og_node *n, uint64_t now)
{
	const struct og_config *cfg = n->cfg;
	int ret = 0;

	for (uint16_t i = 1; i < n->nb_cores && ret == 0; i++) {
		struct og_stream_core_opts opts = {
			.home = og_dataplane_link(n->dp, i, 0),
			.view = n->view,
			.idx = i,
			.nb_cores = n->nb_cores,
			.own_key = n->keys->public_key,
			.peers_max = (uint32_t)cfg->peers_max,
			.peers_per_key_max = (uint32_t)cfg->peers_per_key,
			.peers_per_net_max = (uint32_t)cfg->peers_per_net,
			.frame_budget_bytes = cfg->frame_memory,
		};

		og_rand_system(&n->core_rands[i]);
		og_dataplane_core_env(n->dp, i, &opts.env);
		opts.env.rand = &n->core_rands[i];
		ret = og_stream_core_create(&n->others[i - 1], &opts, now);
	}
	return ret;
}

static int create_core(struct og_node *n)
{
	const struct og_config *cfg = n->cfg;
	struct og_cluster_core_opts opts = {
		.keys = n->keys,
		.local = {n->local},
		.lan_addrs = n->net.lan,
		.nb_lan_addrs = n->net.nb_lan,
		.bootstrap = n->net.bootstrap,
		.nb_bootstrap = n->net.nb_bootstrap,
		.saved_nodes = n->net.known,
		.nb_saved_nodes = n->net.nb_known,
		.public_addr = cfg->public_address,
		.ephemeral = tristate(cfg->ephemeral),
		.firewalled = tristate(cfg->firewalled),
		.peers_max = (uint32_t)cfg->peers_max,
		.peers_per_key_max = (uint32_t)cfg->peers_per_key,
		.peers_per_net_max = (uint32_t)cfg->peers_per_net,
		.frame_budget_bytes = cfg->frame_memory,
		.dht_strangers_per_s = (uint32_t)cfg->strangers,
	};
	struct timespec ts;
	int ret;

	clock_gettime(CLOCK_REALTIME, &ts);
	opts.wall_ms = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
	/* The first node of a network is what the others bootstrap from: dht.md 5.8. */
	if (n->net.first_node && opts.ephemeral != OG_CORE_YES) {
		opts.ephemeral = OG_CORE_NO;
		if (opts.public_addr.port == 0 && og_addr_u32(&n->local) != 0)
			opts.public_addr = n->local;
		/* Nodes take an announcement only when they know their own id. */
		if (opts.public_addr.port == 0)
			OG_LOG(dht, WARN,
				"the first node of a network, bound to every address, learns its "
				"own from others: [dht] public_address makes their start faster");
	}
	if (opts.firewalled == OG_CORE_AUTO)
		opts.firewalled = OG_CORE_NO;
	opts.nb_cores = n->nb_cores;
	ret = n->nb_cores > 1 ? og_dht_view_create(&n->view, n->nb_cores) : 0;
	opts.view = n->view;
	for (uint16_t i = 1; i < n->nb_cores; i++)
		opts.links[i] = og_dataplane_link(n->dp, 0, i);
	og_rand_system(&n->core_rands[0]);
	og_dataplane_env(n->dp, &opts.env);
	opts.env.rand = &n->core_rands[0];
	if (ret == 0)
		ret = og_cluster_core_create(&n->core, &opts, og_node_now());
	if (ret == 0)
		ret = create_others(n, og_node_now());
	if (ret < 0)
		OG_LOG(node, ERR, "core: %s", strerror(-ret));
	return ret;
}

static int create_router(struct og_node *n)
{
	const struct og_config *cfg = n->cfg;
	struct og_router_thread_opts opts = {
		.router = {.node_name = cfg->node_name,
			.public_key = n->keys->public_key,
			.models = n->models,
			.nb_models = n->nb_engines,
			.deadline_ms = (uint32_t)cfg->deadline_ms,
			.asks_max = (uint32_t)cfg->asks_max,
			.peer_running_max = (uint32_t)cfg->peer_running,
			.peer_queued_max = (uint32_t)cfg->peer_queued,
			.peers_max = n->nb_cores *
				     og_slots_per_core((uint32_t)cfg->peers_max, n->nb_cores),
			.first_node = n->net.first_node},
		.doorbell = &n->doorbell,
		.nb_cores = n->nb_cores,
		.slots_per_core = og_slots_per_core((uint32_t)cfg->peers_max, n->nb_cores),
		.engines = n->engines,
		.nb_engines = n->nb_engines,
		.cpus = cfg->router,
		.nodes = og_node_on_nodes,
		.ctx = n,
	};
	int ret;

	for (uint16_t i = 0; i < n->nb_cores; i++) {
		opts.core_events[i] = og_dataplane_core_events(n->dp, i);
		opts.core_commands[i] = og_dataplane_core_commands(n->dp, i);
	}
	ret = og_router_thread_create(&n->router, &opts);
	if (ret < 0) {
		OG_LOG(node, ERR, "router: %s", strerror(-ret));
		return ret;
	}
	n->link = og_router_thread_link(n->router);
	return 0;
}

static int open_http(struct og_node *n)
{
	const struct og_config *cfg = n->cfg;
	const char *allow[OG_CONFIG_ITEMS_MAX];
	char host[OG_CONFIG_WORD_BYTES], err[256] = "";
	struct og_http_opts opts = {
		.host = host,
		.api_key_file = cfg->api_key_file,
		.max_body_bytes = cfg->max_body,
		.max_connections = (uint32_t)cfg->max_connections,
		.max_connections_per_address = (uint32_t)cfg->max_connections_per_address,
		.rate_per_s = (uint32_t)cfg->rate_per_s,
		.rate_burst = (uint32_t)cfg->rate_burst,
		.metrics = cfg->metrics,
		.link = n->link,
		.ready = &n->ready,
	};
	int ret;

	if (strcmp(cfg->listen, "none") == 0)
		return 0;
	ret = og_config_split_listen(cfg->listen, host, &opts.port);
	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < cfg->allow_hosts.nb_items; i++)
		allow[i] = cfg->allow_hosts.items[i].text;
	opts.allow_hosts = allow;
	opts.nb_allow_hosts = cfg->allow_hosts.nb_items;
	ret = og_http_open(&n->http, &opts, err, sizeof(err));
	if (ret < 0) {
		OG_LOG(http, ERR, "%s", err);
		return ret;
	}
	og_http_metrics_register(n->http);
	OG_LOG(http, INFO, "listening on %s", og_http_address(n->http));
	if (strncmp(og_http_address(n->http), "127.", 4) != 0 && !cfg->api_key_file[0])
		OG_LOG(http, WARN, "others reach this address and no key is asked: api_key_file");
	return 0;
}

static int open_control(struct og_node *n)
{
	struct og_control_opts opts = {
		.root = n->cfg->root,
		.link = n->link,
		.status = og_node_status,
		.gauge = og_node_gauge,
		.stop = og_node_begin_stop,
		.drain = og_node_begin_drain,
		.log_level = og_node_set_log_level,
		.ctx = n,
	};
	char err[256] = "";
	int ret = og_control_open(&n->control, &opts, err, sizeof(err));

	if (ret < 0)
		OG_LOG(control, ERR, "%s", err);
	return ret;
}

static int drop_privileges(struct og_node *n)
{
	const char *user = n->cfg->user;
	int ret;

	if (!user[0])
		return 0;
	ret = og_process_become(user);
	if (ret < 0)
		OG_LOG(node, ERR, "[node] user = %s: %s", user,
			ret == -ENOENT ? "there is no such user" : strerror(-ret));
	return ret;
}

static int start_threads(struct og_node *n)
{
	struct og_core *cores[OG_CORES_MAX] = {n->core};
	int ret = og_node_net_commands(n);

	for (uint16_t i = 1; i < n->nb_cores; i++)
		cores[i] = n->others[i - 1];
	if (ret == 0)
		ret = og_dataplane_start_cores(n->dp, cores);
	for (uint32_t i = 0; ret == 0 && i < n->nb_engines; i++)
		ret = og_engine_thread_start(n->engines[i]);
	if (ret == 0)
		ret = og_router_thread_start(n->router);
	if (ret < 0)
		OG_LOG(node, ERR, "threads: %s", strerror(-ret));
	return ret;
}

static void join_clusters(struct og_node *n)
{
	for (uint32_t i = 0; i < n->cfg->cluster_ids.nb_items; i++) {
		const char *id = n->cfg->cluster_ids.items[i].text;
		int ret = og_link_join(n->link, id);

		if (ret < 0)
			OG_LOG(node, ERR, "cluster %s: %s", id, strerror(-ret));
		else
			OG_LOG(node, INFO, "joining cluster %s", id);
	}
}

static int open_all(struct og_node *n)
{
	char hex[2 * OG_KEY_BYTES + 1];
	int ret = open_root(n);

	if (ret == 0)
		ret = og_crypto_init();
	if (ret == 0)
		ret = open_key(n);
	if (ret == 0)
		ret = og_node_net_resolve(&n->net, n->cfg);
	/* Before any thread is there: all of them must inherit the mask. */
	if (ret == 0)
		ret = open_signals(n);
	if (ret == 0)
		ret = open_dataplane(n);
	if (ret < 0)
		return ret;
	og_hex_encode(hex, n->keys->public_key, OG_KEY_BYTES);
	OG_LOG(node, INFO, "%s, key %s", n->cfg->node_name, hex);
	og_node_net_lan(&n->net, &n->local);
	ret = create_core(n);
	if (ret == 0)
		ret = og_node_engines_open(n);
	if (ret == 0)
		ret = create_router(n);
	if (ret == 0)
		ret = open_control(n);
	if (ret == 0)
		ret = open_http(n);
	if (ret == 0)
		ret = drop_privileges(n);
	if (ret < 0)
		return ret;
	og_cluster_cores_metrics_register(n->core, n->others, n->nb_cores - 1);
	og_dataplane_register_metrics(n->dp);
	og_router_thread_metrics_register(n->router);
	return start_threads(n);
}

static void close_all(struct og_node *n)
{
	if (n->router)
		og_router_thread_stop(n->router);
	og_http_close(n->http);
	og_control_close(n->control);
	og_node_engines_close(n);
	if (n->dp)
		og_dataplane_stop(n->dp);
	for (size_t i = 0; i < OG_ARRAY_LEN(n->others); i++)
		og_stream_core_destroy(n->others[i]);
	og_cluster_core_destroy(n->core);
	og_dht_view_destroy(n->view);
	og_router_thread_destroy(n->router);
	og_dataplane_close(n->dp);
	if (n->has_doorbell)
		og_doorbell_fini(&n->doorbell);
	if (n->keys)
		og_keypair_free(n->keys);
	if (n->signal_fd >= 0)
		close(n->signal_fd);
	if (n->lock_fd >= 0)
		close(n->lock_fd);
	if (n->has_reloaded)
		og_config_fini(&n->reloaded);
	pthread_mutex_destroy(&n->nodes_lock);
	free(n);
}

int og_node_run(
	const struct og_config *cfg, int (*reload)(void *ctx, struct og_config *out), void *ctx)
{
	struct og_node *n = aligned_alloc(64, (sizeof(*n) + 63) / 64 * 64);
	int status = OG_EXIT_FAILED;

	if (!n)
		return OG_EXIT_FAILED;
	memset(n, 0, sizeof(*n));
	n->cfg = cfg;
	n->lock_fd = n->signal_fd = -1;
	n->started_at = og_node_now();
	pthread_mutex_init(&n->nodes_lock, NULL);
	og_process_harden();
	if (open_all(n) == 0) {
		join_clusters(n);
		status = og_node_loop(n, reload, ctx);
		OG_LOG(node, INFO, "ended");
	}
	close_all(n);
	return status;
}
