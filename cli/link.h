/*
 * link.h: how the faces (HTTP, control socket) reach the router thread, and how its answers come
 * back.
 *
 * Threads: og_link_* calls from any control thread; they may wait. The router thread serves the
 *          link through link_priv (router_thread.c) and calls the face's answer function.
 * Memory:  asks are taken over in every case.
 */
#pragma once
#include "cluster/router.h"

enum og_link_face { OG_FACE_HTTP = 1, OG_FACE_CONTROL = 2, OG_FACES_MAX = 4 };

enum { OG_FACE_SHIFT = 56 }; /* the face's number is the top byte of og_ask.face */

/* Called on the router thread; must not wait. `answer->face` is without the face's number. */
typedef void (*og_link_answer_fn)(void *ctx, const struct og_answer *answer);

struct og_link;

/* Before the router thread runs. */
void og_link_set_face(
	struct og_link *link, enum og_link_face face, og_link_answer_fn answer, void *ctx);

/*
 * ask->face is the face's own name for it (56 bits). 0, -EAGAIN when the ring is full, -ESHUTDOWN
 * when the router has ended; then the ask is freed and no answer comes.
 */
int og_link_ask(struct og_link *link, enum og_link_face face, struct og_ask *ask) OG_MUST_CHECK;
/* The answer that ends the ask still comes, if the ask was alive. */
void og_link_cancel(struct og_link *link, enum og_link_face face, uint64_t id);

enum og_link_query {
	OG_QUERY_STATUS,
	OG_QUERY_PEERS, /* arg: cluster id, or NULL for all */
	OG_QUERY_CLUSTERS,
	OG_QUERY_MODELS,
	OG_QUERY_GAUGE,
	OG_QUERY_ELIGIBLE, /* arg: model, or NULL for any */
};

/* A new reference in `*out`. 0 or -ESHUTDOWN. */
int og_link_query(
	struct og_link *link, enum og_link_query what, const char *arg, json_t **out) OG_MUST_CHECK;
/* What og_router_join() and og_router_leave() return, or -ESHUTDOWN. */
int og_link_join(struct og_link *link, const char *cluster_id) OG_MUST_CHECK;
int og_link_leave(struct og_link *link, const char *cluster_id) OG_MUST_CHECK;
/* og_router_drain() and og_router_set_limits(). */
void og_link_drain(struct og_link *link);
void og_link_set_limits(struct og_link *link, const struct og_router_limits *limits);
/* og_router_set_model() */
void og_link_set_model(struct og_link *link, uint32_t model, enum og_router_model_state state);
