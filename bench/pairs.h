/*
 * pairs.h: two peers of one or two kinds, connected, one on each CPU, driven by lines; and several
 * such pairs side by side, measured in turn.
 *
 * Threads: one owner.
 * Memory:  the caller's.
 */
#pragma once
#include "bench/bench.h"
#include "bench/child.h"
#include "bench/ports.h"

enum { PAIRS_MAX = 4 };

struct pair {
	bool polls;    /* its ends never sleep */
	char name[32]; /* client to server, as in the report: "js to og" */
	char server_key[80];
	char server_addr[32];
	struct bench_child server, client;
};

struct pairs {
	uint32_t nb; /* the first is ours to ours */
	struct pair list[PAIRS_MAX];
	struct ports ports; /* of the first; the others use sockets */
	struct bench_child js_network;
};

/*
 * Starts ours on b->port and, with --peer js, JavaScript to itself and both mixed pairs, at rest
 * and, if asked, connected. 0 or a negative errno, told on stderr; pairs_stop() in either case.
 */
int pairs_start(const struct bench *b, struct pairs *p, bool connect) OG_MUST_CHECK;
void pairs_stop(struct pairs *p);
/*
 * A pair that polls rests while another is measured; one that sleeps when idle is left alone, for a
 * pause looks to its streams like a peer that died.
 */
void pair_resume(struct pair *p);
void pair_pause(struct pair *p);

/* What a client says to "done": how long, and quantiles of its steps (0: none). */
struct pair_answer {
	double ns, p50_ns, p99_ns;
};

/* Give the client a line; 0, or a negative errno, told on stderr. */
int pair_ask(struct pair *p, struct pair_answer *out, const char *fmt, ...) OG_PRINTF(3, 4);

/* Reports the samples of the first pair against `bound`, then against those of each other pair. */
void pairs_report(const struct bench *b, const struct pairs *p, const char *name, const char *unit,
	enum bench_better better, const struct bench_samples *samples, const char *bound_name,
	const struct bench_samples *bound);
