/*
 * router_priv.h: what router.c, member.c and request.c share.
 */
#pragma once
#include "base/addr.h"
#include "base/metrics.h"
#include "cluster/line.h"
#include "cluster/message.h"
#include "cluster/router.h"

enum {
	OG_UUID_BYTES = 37,
	OG_MEMBER_MODELS_MAX = 64,
	OG_MEMBER_QUEUE_MAX_BYTES = 4 * 1024 * 1024, /* to write; a slower reader is closed */
	OG_ANSWER_MAX_BYTES = 8 * 1024 * 1024,
	OG_SERVES_MAX = 1024,
};

/* A connected member. */
struct og_member {
	uint32_t slot, gen;
	uint8_t key[32];
	struct og_addr addr;
	bool dialled, has_hello, speaks_og, ended, wants_models;
	char name[OG_NODE_NAME_BYTES];
	json_t *clusters; /* arrays of strings from its hello */
	json_t *models;
	uint32_t load, queue; /* from its last peer_status */
	int64_t kv_free;      /* the same; -1: it did not say */
	uint32_t asked;       /* our requests it is working on */
	uint32_t serving;     /* its requests we are working on */
	uint64_t opened_at, found_at;
	uint64_t consumed_bytes; /* not yet reported to the core */
	struct og_line_buffer lines;
	char *out;
	size_t out_used_bytes, out_cap_bytes;
	uint64_t credit_bytes;
};

/* Who worked on an ask last. */
enum og_ask_route { OG_ROUTE_NONE, OG_ROUTE_LOCAL, OG_ROUTE_REMOTE, OG_ROUTES };

enum og_ask_state { OG_ASK_FREE, OG_ASK_WAITING, OG_ASK_LOCAL, OG_ASK_REMOTE };

/* A prompt from a face. */
struct og_ask_entry {
	struct og_ask *ask;
	enum og_ask_state state;
	enum og_ask_route route;
	uint32_t gen;
	char uuid[OG_UUID_BYTES];
	uint64_t asked_at, deadline, hold_until, delivered_at;
	uint32_t engine;
	bool local_tried;
	struct og_member *member; /* REMOTE */
	uint8_t tried[8][32];     /* keys of members that failed it */
	uint32_t nb_tried, attempts;
	uint32_t next_seq;
	size_t delivered_bytes;
	char *text; /* gathered when the face does not stream */
	size_t text_bytes, text_cap_bytes;
	int last_error;
	char last_message[160];
};

/* A prompt from a member. */
struct og_serve_entry {
	bool used, stream;
	uint32_t gen, engine;
	struct og_member *member;
	char *raw_id;
	size_t raw_id_bytes;
	const char *model;
	uint64_t deadline;
	uint32_t seq;
	uint32_t owed_credits; /* chunks not yet paid back: the member reads slowly */
	char *text;
	size_t text_bytes, text_cap_bytes;
};

struct og_router_topic {
	uint8_t topic[32];
	bool joined, tried, leaving;
	uint32_t stored_on;
};

struct og_router_cluster {
	char *id;
	uint64_t joined_at, announced_at;
	bool leaving;
	struct og_router_topic topics[2]; /* SHA-256 and zero-padded, cluster.md 1 */
};

struct og_pending_cmd {
	struct og_pending_cmd *next;
	struct og_msg msg;
	uint8_t data[];
};

/* When a key was first found on a topic, until it connects. */
struct og_found {
	uint8_t key[32];
	uint64_t at;
};

struct og_router_stats {
	uint64_t asks, asks_done, asks_failed, asks_local, asks_remote, asks_retried;
	uint64_t serves, serves_done, serves_failed, serves_refused;
	uint64_t lines, lines_bad, lines_long, responses_unknown;
	uint64_t members;
	struct og_hist ask_time, first_text, next_text;
	/* Asks that ended, by model (ours, then any other), route and outcome (failed, done). */
	uint64_t ends[OG_ROUTER_MODELS_MAX + 1][OG_ROUTES][2];
};

struct og_router {
	struct og_router_opts opts;
	struct og_router_model models[OG_ROUTER_MODELS_MAX];
	char node_name[OG_NODE_NAME_BYTES];
	uint8_t public_key[32];
	uint64_t now_ns, started_at;
	struct og_member **members; /* by slot */
	uint32_t nb_members;
	struct og_ask_entry *asks;
	uint32_t nb_asks;
	struct og_serve_entry *serves;
	uint32_t nb_serves;
	struct og_router_cluster clusters[OG_ROUTER_CLUSTERS_MAX];
	uint32_t nb_clusters;
	struct og_pending_cmd *pending_first, *pending_last;
	uint32_t nb_pending;
	struct og_found found[256];
	uint32_t next_found;
	uint64_t status_at; /* next peer_status, 0: nothing to tell */
	uint32_t table_nodes, relays;
	bool core_ready, draining, stopping, core_stopped;
	struct og_router_stats stats;
};

/* router.c */
void og_router_command(struct og_router *r, const struct og_msg *cmd);
json_t *og_router_model_names(const struct og_router *r);
json_t *og_router_cluster_names(const struct og_router *r);
const struct og_router_model *og_router_local_model(const struct og_router *r, const char *name);
/* Our load has changed: members hear of it soon. */
void og_router_load_changed(struct og_router *r);

/* member.c */
struct og_member *og_member_get(const struct og_router *r, uint32_t slot, uint32_t gen);
void og_member_open(struct og_router *r, const struct og_msg *ev);
void og_member_closed(struct og_router *r, const struct og_msg *ev);
void og_member_data(struct og_router *r, const struct og_msg *ev);
void og_member_end(struct og_router *r, const struct og_msg *ev);
void og_member_credit(struct og_router *r, const struct og_msg *ev);
/* Queue a line (malloc'ed, taken over; NULL is ignored). */
void og_member_send(struct og_router *r, struct og_member *m, char *line, size_t len);
void og_member_hello(struct og_router *r, struct og_member *m);
void og_member_watch(struct og_router *r, struct og_member *m, bool on);
bool og_member_has_model(const struct og_member *m, const char *name);
void og_member_free(struct og_member *m);

/* eligible.c */
enum og_fit {
	OG_FIT_NO,
	OG_FIT_SOON,   /* it may still say that it serves the model */
	OG_FIT_SILENT, /* it never said what it serves: asked when nobody else can */
	OG_FIT_YES,
};
/* `*why` is a clause for people. */
enum og_fit og_member_fit(
	const struct og_router *r, const struct og_member *m, const char *model, const char **why);
/* Of two that fit, the one with less is asked. */
uint32_t og_member_load(const struct og_member *m);
json_t *og_json_hex(const uint8_t *p, size_t n); /* router_json.c */

/* router_metrics.c */
void og_router_count_end(
	struct og_router *r, const struct og_ask *ask, enum og_ask_route route, bool done);

/* request.c */
void og_request_serve(struct og_router *r, struct og_member *m, const struct og_message *msg);
void og_request_response(struct og_router *r, struct og_member *m, const struct og_message *msg);
void og_request_chunk(struct og_router *r, struct og_member *m, const struct og_message *msg);
void og_request_cancelled(struct og_router *r, struct og_member *m, const struct og_message *msg);
void og_request_member_gone(struct og_router *r, struct og_member *m);
/* The member's queue has drained: its streams go on. */
void og_request_member_drained(struct og_router *r, struct og_member *m);
/* Somebody who may serve has appeared. */
void og_request_retry_waiting(struct og_router *r);
uint64_t og_request_tick(struct og_router *r);
void og_request_fail_all(struct og_router *r, int error, const char *message);
void og_request_fini(struct og_router *r);
