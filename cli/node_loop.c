/*
 * node_loop.c: the main thread of a running node: signals, the control socket, readiness, the nodes
 * file, and the way out: draining, leaving, ended.
 */
#include "cli/node_priv.h"

#include "base/bytes.h"
#include "base/log.h"
#include "cli/process.h"
#include "cluster/core.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { TICK_STARTING_MS = 20, TICK_MS = 500, TICK_STOPPING_MS = 10 };

static const uint64_t save_first_ns = 30 * OG_NS_PER_S;
static const uint64_t save_every_ns = 300 * OG_NS_PER_S;
static const uint64_t settle_ns = 1500 * OG_NS_PER_MS; /* for members found while joining */
static const uint64_t leave_max_ns = 3 * OG_NS_PER_S;
static const uint64_t watchdog_every_ns = 3 * OG_NS_PER_S;
static const uint64_t supervise_every_ns = 500 * OG_NS_PER_MS;

uint64_t og_node_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* ---- status ---- */

const char *og_node_state_name(const struct og_node *n)
{
	static const char *const names[] = {"starting", "ready", "draining", "leaving"};

	return names[n->state];
}

/* Why it is not ready, as sentences. */
static json_t *waiting_for(struct og_node *n)
{
	struct og_router_progress p = og_router_thread_progress(n->router);
	json_t *list = json_array(), *clusters = NULL;

	if (n->state != OG_NODE_STARTING)
		return list;
	og_node_load_waiting_for(n, list);
	if (og_dataplane_absent(n->dp))
		json_array_append_new(list, json_sprintf("%s is not there yet", n->cfg->driver));
	if (p.retries > 0)
		json_array_append_new(
			list, json_sprintf("no DHT node answers (%u tries); see [dht] bootstrap",
				      p.retries));
	if (og_link_query(n->link, OG_QUERY_CLUSTERS, NULL, &clusters) < 0)
		return list;
	for (size_t i = 0; i < json_array_size(clusters); i++) {
		const json_t *c = json_array_get(clusters, i);
		const char *state = json_string_value(json_object_get(c, "state"));

		if (state && strcmp(state, "joined") != 0)
			json_array_append_new(
				list, json_sprintf("cluster %s is not announced yet",
					      json_string_value(json_object_get(c, "id"))));
	}
	json_decref(clusters);
	return list;
}

json_t *og_node_status(void *ctx, json_t *status)
{
	struct og_node *n = ctx;
	char addr[OG_ADDR_TEXT_BYTES];
	json_t *models = json_array();

	for (uint32_t i = 0; i < n->nb_engines; i++)
		if (!n->loads[i].failed)
			json_array_append_new(models, json_string(n->models[i].name));
	json_object_set_new(status, "state", json_string(og_node_state_name(n)));
	json_object_set_new(status, "ready", json_boolean(n->ready));
	json_object_set_new(status, "waiting_for", waiting_for(n));
	json_object_set_new(status, "pid", json_integer(getpid()));
	json_object_set_new(status, "version", json_string(OG_VERSION));
	json_object_set_new(status, "root", json_string(n->cfg->root));
	json_object_set_new(
		status, "http", n->http ? json_string(og_http_address(n->http)) : json_null());
	json_object_set_new(status, "dht", json_string(og_addr_format(&n->local, addr)));
	json_object_set_new(status, "port", json_string(og_dataplane_port_name(n->dp)));
	json_object_set_new(status, "dht_nodes",
		json_integer(
			(json_int_t)og_counter_read(&og_cluster_core_stats(n->core)->table_nodes)));
	json_object_set_new(status, "models", models);
	json_object_set_new(status, "load", og_node_load_json(n));
	return status;
}

void og_node_set_up_log(const struct og_config *cfg)
{
	og_log_setup(OG_LOG_INFO, strcmp(cfg->log_format, "json") == 0);
	(void)!og_node_set_log_level(NULL, cfg->log_level);
}

int og_node_set_log_level(void *ctx, const char *name)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};

	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++) {
		if (strcmp(name, names[i]) == 0) {
			og_log_set_level((enum og_log_level)i);
			return 0;
		}
	}
	return -EINVAL;
}

/* ---- the nodes file ---- */

void og_node_on_nodes(void *ctx, const uint8_t *addr4, uint32_t nb)
{
	struct og_node *n = ctx;
	struct og_reader r = og_reader_of(addr4, nb * 6);

	pthread_mutex_lock(&n->nodes_lock);
	for (n->nb_nodes = 0; n->nb_nodes < nb && n->nb_nodes < OG_NODES_FILE_MAX; n->nb_nodes++)
		n->nodes[n->nb_nodes] = og_read_addr4(&r);
	n->nodes_fresh = true;
	pthread_mutex_unlock(&n->nodes_lock);
}

static void ask_nodes(struct og_node *n)
{
	struct og_msg cmd = {.type = OG_CMD_NODES, .arg = 1};

	n->saved_at = og_node_now();
	n->nodes_asked = og_router_thread_command(n->router, &cmd) == 0;
}

static void save_nodes(struct og_node *n)
{
	struct og_addr nodes[OG_NODES_FILE_MAX];
	uint32_t nb = 0;
	bool fresh;
	int ret;

	pthread_mutex_lock(&n->nodes_lock);
	fresh = n->nodes_fresh;
	if (fresh) {
		nb = n->nb_nodes;
		memcpy(nodes, n->nodes, nb * sizeof(nodes[0]));
	}
	n->nodes_fresh = false;
	pthread_mutex_unlock(&n->nodes_lock);
	if (!fresh)
		return;
	n->nodes_asked = false;
	if (nb == 0)
		return; /* the file of a better day stays */
	ret = og_nodes_file_save(n->cfg->root, nodes, nb);
	if (ret < 0)
		OG_LOG(node, WARN, "%s/nodes cannot be written: %s", n->cfg->root, strerror(-ret));
}

/* ---- ready ---- */

static bool members_named(struct og_node *n)
{
	json_t *peers = NULL;
	bool named = false;

	if (og_link_query(n->link, OG_QUERY_PEERS, NULL, &peers) < 0)
		return false;
	for (size_t i = 0; i < json_array_size(peers); i++)
		named |= json_is_true(json_object_get(json_array_get(peers, i), "said_hello"));
	json_decref(peers);
	return named;
}

/* Joined and announced; and members that were found on the way have had a moment to connect. */
static bool is_settled(struct og_node *n)
{
	struct og_router_progress p = og_router_thread_progress(n->router);

	if (!p.ready || og_dataplane_absent(n->dp))
		return false;
	if (n->joined_at == 0)
		n->joined_at = og_node_now();
	if (p.peers_found == 0 || og_node_now() - n->joined_at >= settle_ns)
		return true;
	return p.peers_open > 0 && members_named(n);
}

static void become_ready(struct og_node *n)
{
	uint64_t took_ns = og_node_now() - n->started_at;

	n->state = OG_NODE_READY;
	__atomic_store_n(&n->ready, true, __ATOMIC_RELAXED);
	OG_LOG(node, INFO, "ready after %llu ms", (unsigned long long)(took_ns / OG_NS_PER_MS));
	printf("ready\n");
	fflush(stdout);
	og_process_notify("READY=1");
}

/* ---- stop ---- */

static void begin_draining(struct og_node *n, bool patient)
{
	og_process_notify("STOPPING=1");
	__atomic_store_n(&n->ready, false, __ATOMIC_RELAXED);
	n->state = OG_NODE_DRAINING;
	n->patient = patient;
	n->drain_since = og_node_now();
	og_link_drain(n->link);
	if (n->http)
		og_http_quiesce(n->http);
	ask_nodes(n);
}

void og_node_begin_stop(void *ctx)
{
	struct og_node *n = ctx;

	if (n->state >= OG_NODE_DRAINING && !n->patient) {
		n->force = true;
		return;
	}
	OG_LOG(node, INFO, "stopping: finishing what runs, then leaving");
	if (n->state < OG_NODE_DRAINING)
		begin_draining(n, false);
	n->patient = false; /* a drain under way has stop_timeout left */
	n->drain_since = og_node_now();
}

void og_node_begin_drain(void *ctx)
{
	struct og_node *n = ctx;

	if (n->state >= OG_NODE_DRAINING)
		return;
	OG_LOG(node, INFO, "draining: taking no prompt, finishing what runs, then leaving");
	begin_draining(n, true);
}

static bool is_idle(struct og_node *n)
{
	json_t *status = NULL;
	const json_t *requests;
	bool idle;

	if (og_link_query(n->link, OG_QUERY_STATUS, NULL, &status) < 0)
		return true;
	requests = json_object_get(status, "requests");
	idle = json_integer_value(json_object_get(requests, "running")) == 0 &&
	       json_integer_value(json_object_get(requests, "serving")) == 0;
	json_decref(status);
	return idle;
}

/* Returns false when it is time to close everything. */
static bool stop_step(struct og_node *n, uint64_t now)
{
	if (n->force)
		return false;
	if (n->state == OG_NODE_DRAINING) {
		uint64_t limit_ns = og_node_config(n)->stop_timeout_ms * OG_NS_PER_MS;
		bool late = !n->patient && now - n->drain_since >= limit_ns;
		bool saving = n->nodes_asked && now - n->drain_since < 200 * OG_NS_PER_MS;

		if ((!late && !is_idle(n)) || saving)
			return true;
		if (late)
			OG_LOG(node, WARN, "requests still run after stop_timeout; they end now");
		n->state = OG_NODE_LEAVING;
		n->leave_since = now;
		og_router_thread_leave(n->router);
		return true;
	}
	if (og_router_thread_progress(n->router).stopped)
		return false;
	if (now - n->leave_since >= leave_max_ns) {
		OG_LOG(node, WARN, "the cluster was not left within %llu ms; ending anyway",
			(unsigned long long)(leave_max_ns / OG_NS_PER_MS));
		return false;
	}
	return true;
}

/* ---- the loop ---- */

/* The node stays up, for others may serve the prompts; but it takes none itself. */
static void check_engines(struct og_node *n)
{
	if (n->state != OG_NODE_READY || !n->ready || !og_node_engines_lost(n))
		return;
	__atomic_store_n(&n->ready, false, __ATOMIC_RELAXED);
	OG_LOG(node, ERR, "not ready: the device that computes a model failed; restart the node");
}

static void tick(struct og_node *n, uint64_t now)
{
	uint64_t since = n->saved_at ? n->saved_at : n->started_at;
	uint64_t every = n->saved_at ? save_every_ns : save_first_ns;

	og_node_load_tick(n, now);
	if (n->state == OG_NODE_STARTING && og_node_load_is_over(n) && is_settled(n))
		become_ready(n);
	check_engines(n);
	if (n->state <= OG_NODE_READY && now - since >= every)
		ask_nodes(n);
	save_nodes(n);
	og_node_sample(n, now);
	if (now - n->supervised_at >= supervise_every_ns) {
		n->supervised_at = now;
		og_dataplane_supervise(n->dp);
	}
	if (now - n->watchdog_at >= watchdog_every_ns) {
		n->watchdog_at = now;
		og_process_notify("WATCHDOG=1");
	}
}

int og_node_loop(struct og_node *n, int (*reload)(void *ctx, struct og_config *out), void *ctx)
{
	static const int wait_ms[] = {
		TICK_STARTING_MS, TICK_MS, TICK_STOPPING_MS, TICK_STOPPING_MS};
	struct pollfd fds[2] = {{.fd = n->signal_fd, .events = POLLIN},
		{.fd = og_control_fd(n->control), .events = POLLIN}};

	for (;;) {
		struct signalfd_siginfo info;

		(void)!poll(fds, OG_ARRAY_LEN(fds), wait_ms[n->state]);
		if ((fds[0].revents & POLLIN) &&
			read(n->signal_fd, &info, sizeof(info)) == sizeof(info)) {
			if (info.ssi_signo == SIGHUP)
				og_node_reload(n, reload, ctx);
			else
				og_node_begin_stop(n);
		}
		og_control_serve(n->control);
		tick(n, og_node_now());
		if (n->state >= OG_NODE_DRAINING && !stop_step(n, og_node_now()))
			return OG_EXIT_DONE;
	}
}
