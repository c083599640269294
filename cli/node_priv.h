/*
 * node_priv.h: what the files of a node share.
 */
#pragma once
#include "base/count.h"
#include "base/rand.h"
#include "cli/control.h"
#include "cli/http.h"
#include "cli/node.h"
#include "cli/nodes_file.h"
#include "cli/router_thread.h"
#include "crypto/keys.h"
#include "dataplane/dataplane.h"

#include <pthread.h>

enum { OG_BOOTSTRAP_MAX = 64 };

/* node_net.c: places named in the configuration, as addresses. */
struct og_node_net {
	struct og_addr bootstrap[OG_BOOTSTRAP_MAX];
	uint32_t nb_bootstrap;
	bool first_node; /* bootstrap = none */
	struct og_addr known[OG_NODES_FILE_MAX + OG_BOOTSTRAP_MAX];
	uint32_t nb_known; /* the last run's nodes, and [dht] peers without a key */
	struct og_addr lan[16];
	uint32_t nb_lan;
};

enum og_node_state { OG_NODE_STARTING, OG_NODE_READY, OG_NODE_DRAINING, OG_NODE_LEAVING };

struct og_node_sample {
	uint64_t at;
	struct {
		uint64_t prompt_tokens, completion_tokens;
	} engine[OG_ROUTER_MODELS_MAX];
};

/* Of one model; written by the main thread. */
struct og_node_load {
	bool is_over;
	uint64_t failed;
	uint64_t bytes_per_s, left_s; /* for the metrics */
};

struct og_node {
	const struct og_config *cfg;
	struct og_config reloaded; /* the last one read by SIGHUP */
	bool has_reloaded;
	enum og_node_state state;
	bool ready;   /* read by the HTTP face */
	bool force;   /* a second signal: no more waiting */
	bool patient; /* draining without a limit of time */
	bool nodes_asked;
	uint64_t started_at, joined_at, drain_since, leave_since, saved_at, watchdog_at,
		supervised_at;
	int lock_fd, signal_fd;
	struct og_node_net net;
	struct og_keypair *keys;
	struct og_rand core_rands[OG_CORES_MAX];
	struct og_doorbell doorbell; /* of the router thread */
	bool has_doorbell;
	struct og_dataplane *dp;
	struct og_addr local;
	uint16_t nb_cores;    /* polling cores */
	struct og_core *core; /* core 0 */
	struct og_core *others[OG_CORES_MAX - 1];
	struct og_dht_view *view; /* NULL: core 0 is the only one */
	struct og_engine_thread *engines[OG_ROUTER_MODELS_MAX];
	const struct og_engine_stats *engine_stats[OG_ROUTER_MODELS_MAX];
	struct og_router_model models[OG_ROUTER_MODELS_MAX];
	char model_names[OG_ROUTER_MODELS_MAX][OG_MODEL_NAME_BYTES];
	uint32_t nb_engines;
	struct og_node_load loads[OG_ROUTER_MODELS_MAX];
	uint64_t progress_at; /* said */
	/* Two moments, the newer at most some seconds old: rates are over what lies between. */
	struct og_node_sample samples[2];
	struct og_router_thread *router;
	struct og_link *link;
	struct og_http *http;
	struct og_control *control;
	/* Written by the router thread under `nodes_lock`. */
	pthread_mutex_t nodes_lock;
	struct og_addr nodes[OG_NODES_FILE_MAX];
	uint32_t nb_nodes;
	bool nodes_fresh;
};

/* Looks the names up; logs what cannot be found. 0, or -EHOSTUNREACH: no way into the network. */
int og_node_net_resolve(struct og_node_net *net, const struct og_config *cfg) OG_MUST_CHECK;
/* The addresses at which others on the same network reach `local`. */
void og_node_net_lan(struct og_node_net *net, const struct og_addr *local);
/* allow, deny and dial as commands, before the core starts. */
int og_node_net_commands(struct og_node *n) OG_MUST_CHECK;

/* node_engines.c: opens every model; the weights follow. */
int og_node_engines_open(struct og_node *n) OG_MUST_CHECK;
void og_node_engines_close(struct og_node *n);
/* Has the device of a model failed for good? */
bool og_node_engines_lost(const struct og_node *n);

/* node_load.c: how far the weights are. Main thread. */
void og_node_load_metrics_register(struct og_node *n, uint32_t model, const char *labels);
void og_node_load_tick(struct og_node *n, uint64_t now);
/* All are here, or failed, and some model is served unless there is none. */
bool og_node_load_is_over(const struct og_node *n);
void og_node_load_waiting_for(const struct og_node *n, json_t *list);
json_t *og_node_load_json(const struct og_node *n);

/* node_loop.c: from the moment everything runs until it is to be closed. Returns an exit status. */
int og_node_loop(struct og_node *n, int (*reload)(void *ctx, struct og_config *out), void *ctx);
json_t *og_node_status(void *ctx, json_t *router_status);
const char *og_node_state_name(const struct og_node *n);
void og_node_on_nodes(void *ctx, const uint8_t *addr4, uint32_t nb);
void og_node_begin_stop(void *ctx);
void og_node_begin_drain(void *ctx);
int og_node_set_log_level(void *ctx, const char *name);

/* node_gauge.c: load, for people. Takes and gives a reference. */
json_t *og_node_gauge(void *ctx, json_t *router_gauge);
void og_node_sample(struct og_node *n, uint64_t now);

/* node_reload.c: SIGHUP. What cannot change while it runs is named in the log. */
void og_node_reload(struct og_node *n, int (*reload)(void *ctx, struct og_config *out), void *ctx);
/* The configuration in force: the one last reloaded. */
const struct og_config *og_node_config(const struct og_node *n);

uint64_t og_node_now(void);
