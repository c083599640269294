/*
 * router.h: members, messages, and who serves a prompt. One table of requests; each ends once.
 *
 * Sans-I/O like the core: driven by events of the core, events of the engines, asks of the faces and
 * the time; it acts through struct og_router_env. It runs on the router thread, which may allocate.
 *
 * A prompt goes to a local engine that has the model, else to the least loaded member that says it
 * has it, else (no model named, or none listed by anybody silent) to a member that never said what it
 * serves. It is tried elsewhere only if nothing of the answer was delivered, and always ends within
 * its deadline by exactly one final answer. Log probabilities do not travel between members: a
 * request for them is answered by a local engine or refused.
 *
 * Source:  cluster.md; design.md 6.3.
 * Threads: the router thread.
 * Memory:  bounded by the limits below; lines by OG_LINE_MAX_BYTES.
 */
#pragma once
#include "base/infer.h"
#include "base/msg.h"
#include "base/rand.h"

#include <jansson.h>
#include <stdbool.h>

enum {
	OG_LINE_MAX_BYTES = 256 * 1024,
	OG_JSON_NESTING_MAX = 64,
	OG_MODEL_NAME_BYTES = 96, /* with its NUL */
	OG_NODE_NAME_BYTES = 64,
	OG_ROUTER_MODELS_MAX = 16,
	OG_ROUTER_CLUSTERS_MAX = 32,
};

/* A prompt from a face. Made with malloc by the face; og_router_ask() takes it over. */
struct og_ask {
	uint64_t face;                   /* the face's own name for it, returned in each answer */
	char model[OG_MODEL_NAME_BYTES]; /* "": whatever serves */
	uint32_t deadline_ms;            /* 0: the router's default */
	bool stream;                     /* deliver text as it comes; else one TEXT before DONE */
	struct og_infer_request *req;    /* owned by the ask */
};

enum og_answer_type { OG_ANSWER_TEXT, OG_ANSWER_LOGPROB, OG_ANSWER_DONE, OG_ANSWER_ERROR };

/* Borrowed for the call of env.answer. DONE and ERROR are final, and exactly one of them comes. */
struct og_answer {
	uint64_t face;
	enum og_answer_type type;
	/* TEXT; LOGPROB: a token's bytes, not always whole characters */
	const char *text;
	uint32_t text_bytes;
	/* LOGPROB, as in struct og_infer_event */
	float logprob;
	uint32_t rank;
	/* DONE and ERROR */
	const char *model; /* who answered, or "" */
	const char *node_name;
	const char *node_key; /* hex, "" if unknown */
	uint32_t prompt_tokens, completion_tokens;
	enum og_infer_finish finish;
	/* ERROR: -ENOENT no member lists the model, -EHOSTUNREACH nobody can serve, -ETIMEDOUT,
	 * -EBUSY all who could are full, -ECANCELED, -E2BIG prompt too long, -EIO failed there,
	 * -EOPNOTSUPP what is asked for cannot be done by who could answer */
	int error;
	const char *message; /* a sentence for people */
	uint32_t attempts;   /* members tried */
	uint64_t waited_ns;
};

struct og_router_env {
	void *ctx;
	int (*command)(void *ctx, const struct og_msg *cmd); /* to the polling core; -EAGAIN */
	int (*infer)(void *ctx, uint32_t engine, struct og_infer_request *req); /* owns req on 0 */
	void (*infer_cancel)(void *ctx, uint32_t engine, uint64_t id);
	void (*infer_credit)(void *ctx, uint32_t engine, uint64_t id, uint32_t n);
	void (*answer)(void *ctx, const struct og_answer *answer);
	struct og_rand *rand;
};

/* What the engines of this node have to do; told to members. */
struct og_router_load {
	uint32_t running, queued; /* prompts */
	uint64_t kv_free;         /* tokens */
};

enum og_router_model_state {
	OG_MODEL_SERVED,
	OG_MODEL_LOADING, /* answers when it is loaded; members are told of it then */
	OG_MODEL_FAILED,  /* as if it were not there */
};

struct og_router_model {
	const char *name;  /* also matched: alias */
	const char *alias; /* or NULL */
	uint32_t engine;
	enum og_router_model_state state;
};

struct og_router_opts {
	struct og_router_env env;
	const char *node_name;
	const uint8_t *public_key;
	const struct og_router_model *models; /* served here; the first is the default */
	uint32_t nb_models;
	uint32_t deadline_ms;      /* 0: 120000 */
	uint32_t asks_max;         /* outstanding from faces; 0: 1024 */
	uint32_t peer_running_max; /* per member key; 0: 4 */
	uint32_t peer_queued_max;  /* per member key; 0: 16 */
	uint32_t peers_max;        /* 0: 1024 */
	bool first_node; /* of a private network: ready although no DHT node takes an announcement */
	void (*load)(void *ctx, struct og_router_load *out); /* env.ctx; NULL: prompts of members */
};

/* Those that may change while it runs. */
struct og_router_limits {
	uint32_t deadline_ms, peer_running_max, peer_queued_max;
};

struct og_router;

int og_router_create(
	struct og_router **out, const struct og_router_opts *opts, uint64_t now_ns) OG_MUST_CHECK;
void og_router_destroy(struct og_router *r);

void og_router_core_event(struct og_router *r, const struct og_msg *ev, uint64_t now_ns);
void og_router_engine_event(
	struct og_router *r, uint32_t engine, const struct og_infer_event *ev, uint64_t now_ns);
/* Takes the ask over in every case; refusal is an ERROR answer (possibly from inside the call). */
void og_router_ask(struct og_router *r, struct og_ask *ask, uint64_t now_ns);
/* The face went away: it gets one ERROR (-ECANCELED) at once and nothing after it. */
void og_router_cancel(struct og_router *r, uint64_t face, uint64_t now_ns);
uint64_t og_router_tick(struct og_router *r, uint64_t now_ns);

/* Both topics of cluster.md 1 (SHA-256, and zero-padded). 0, -EALREADY, -ENOENT, -ENOSPC, -EINVAL. */
int og_router_join(struct og_router *r, const char *cluster_id, uint64_t now_ns) OG_MUST_CHECK;
int og_router_leave(struct og_router *r, const char *cluster_id, uint64_t now_ns) OG_MUST_CHECK;
/* New prompts are refused, members are told that no model is served here; what runs goes on. */
void og_router_drain(struct og_router *r, uint64_t now_ns);
void og_router_set_limits(struct og_router *r, const struct og_router_limits *limits);
/* Of one of opts.models, by its place there; members are told. */
void og_router_set_model(
	struct og_router *r, uint32_t model, enum og_router_model_state state, uint64_t now_ns);
/* All clusters left, running requests failed or finished, core told to stop. */
void og_router_stop(struct og_router *r, uint64_t now_ns);
bool og_router_stopped(const struct og_router *r);
/*
 * Joined (announced once) in every cluster it was told to join, or there is none. Without a DHT node
 * that takes announcements: tried, and this is the first node or a member is connected.
 */
bool og_router_ready(const struct og_router *r);

/* New references, shapes as `opengateway --json` prints them. */
json_t *og_router_peers_json(
	struct og_router *r, const char *cluster_id /* or NULL */, uint64_t now_ns);
json_t *og_router_clusters_json(struct og_router *r, uint64_t now_ns);
json_t *og_router_models_json(struct og_router *r, uint64_t now_ns); /* ours and the members' */
json_t *og_router_status_json(struct og_router *r, uint64_t now_ns);
/* Prompts under way here and what each member says of its load. */
json_t *og_router_gauge_json(struct og_router *r, uint64_t now_ns);
/* Who would serve a prompt for `model` ("": any) now, in the order of asking; then who not and why. */
json_t *og_router_eligible_json(struct og_router *r, const char *model, uint64_t now_ns);
void og_router_metrics_register(struct og_router *r);
