/*
 * sim.h: many nodes in one process under one seeded clock: the cores and routers of the product,
 * joined by a network that loses, delays, reorders, repeats and partitions.
 *
 * Every datagram is a heap block of its exact size, so that a sanitizer sees an over-read. Slow jobs
 * come back after a delay. A node may have several cores: datagrams arrive at any of them, and messages
 * between them take their time and are refused now and then. An engine is played by the simulator: it answers "echo: <prompt>" in two
 * pieces. Iteration order depends on nothing but the seed, so a seed is a test.
 *
 * Units:   virtual ns.
 * Threads: one.
 */
#pragma once
#include "base/core.h"
#include "base/rand.h"
#include "cluster/core.h"
#include "cluster/router.h"

#include <stdbool.h>

struct sim;

enum { SIM_CORES_MAX = 4 };

struct sim_link {
	double loss, duplicate, reorder; /* probabilities */
	uint64_t delay_min_ns, delay_max_ns;
};

struct sim_node_opts {
	struct og_addr addr;
	const struct og_addr *bootstrap;
	uint32_t nb_bootstrap;
	bool first; /* knows its address and has no bootstrap list */
	const char *name;
	const char *model;   /* served, or NULL */
	const uint8_t *seed; /* of its key, or NULL: drawn */
	uint32_t peers_max;
	bool no_router;    /* raw events go to on_event */
	uint16_t nb_cores; /* polling cores; 0: 1 */
};

/* From one core of a node to another, one of them core 0. */
struct sim_between {
	struct og_sink sink;
	struct sim_node *node;
	uint16_t to;
	uint64_t last_at; /* they stay in order */
};

struct sim_node {
	struct sim *sim;
	uint32_t idx;
	bool alive;
	uint32_t life; /* counts restarts: what belonged to an earlier life is dropped */
	struct sim_node_opts opts;
	char name[32], model[32];
	struct og_keypair keys;
	struct og_core *core;
	struct og_core *others[SIM_CORES_MAX]; /* from 1 on */
	struct sim_between out[SIM_CORES_MAX], home[SIM_CORES_MAX];
	struct og_dht_view *view;
	uint16_t nb_cores;
	uint64_t handed_over;
	struct og_router *router;
	struct og_rand rand;
	uint64_t tick_at;
	int group;   /* partition */
	bool asleep; /* suspended: hears nothing, runs nothing, and its clock goes on */
	/* What the environment of the core points at. */
	struct og_tx tx;
	struct og_jobs jobs;
	struct og_sink events;
	struct og_job *job;
	uint8_t tx_buffer[2048];
	uint64_t sent, received;
	/* Results. */
	uint64_t answers, errors, duplicates;
	uint64_t answer_slow_ns; /* how long the played engine takes */
	void (*on_event)(struct sim_node *n, const struct og_msg *ev);
	void *user;
};

struct sim *sim_create(uint64_t seed, const struct sim_link *link);
void sim_destroy(struct sim *s);
uint64_t sim_now(const struct sim *s);
struct og_rand *sim_rand(struct sim *s);
void sim_set_link(struct sim *s, const struct sim_link *link);
struct sim_node *sim_add(struct sim *s, const struct sim_node_opts *opts);
uint32_t sim_nodes(const struct sim *s);
struct sim_node *sim_node(struct sim *s, uint32_t idx);
/* The process dies: no goodbye. Its key and address stay for sim_restart(). */
void sim_kill(struct sim_node *n);
void sim_restart(struct sim_node *n);
void sim_join(struct sim_node *n, const char *cluster_id);
void sim_leave(struct sim_node *n, const char *cluster_id);
void sim_command(struct sim_node *n, const struct og_msg *cmd);
/* A prompt at this node; counted in answers or errors when it ends, asks_open meanwhile. */
void sim_ask(struct sim_node *n, const char *prompt, uint32_t deadline_ms);
uint64_t sim_asks_open(const struct sim *s);
uint64_t sim_wrong_answers(const struct sim *s);
/* Run until that virtual time. */
void sim_run(struct sim *s, uint64_t until_ns);
/* Everything that was delivered, folded: the same seed gives the same value. */
uint64_t sim_trace(const struct sim *s);
