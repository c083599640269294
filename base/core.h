/*
 * core.h: what a polling core, a fuzzer or the simulator drives: a protocol machine without I/O.
 *
 * A core has no socket, file, thread, clock, global state, and allocates nothing after create. It is
 * given datagrams and the time, writes datagrams into buffers that its driver lends, posts events
 * for the router and jobs for the crypto workers.
 *
 * Units:   times are ns of a monotonic clock of the driver's choice, the same for all calls.
 * Threads: all calls of one core come from one thread (its lcore).
 * Memory:  datagrams in are borrowed for the call and may be decrypted in place.
 */
#pragma once
#include "base/addr.h"
#include "base/msg.h"

#include <stdalign.h>

/* A datagram that arrived. Endpoint: 0 the server socket, 1 the client socket (dht.md 2.1). */
struct og_dgram {
	uint8_t *data;
	uint16_t len_bytes;
	uint16_t endpoint;
	struct og_addr src;
};

/*
 * Where datagrams leave. reserve() lends the buffer of the next datagram (`*cap_bytes` of room, at
 * least 1472) or NULL when the transmit queue is full; commit() sends what was written there. A
 * reservation not committed is simply reserved again by the next call. A ttl of 0 means the default
 * (64); OG_TX_MAY_FRAGMENT beside it lets the network cut the datagram, which it must not otherwise.
 */
enum { OG_TX_TTL_MAX = 127, OG_TX_MAY_FRAGMENT = 128 };

struct og_tx {
	uint8_t *(*reserve)(struct og_tx *tx, uint16_t *cap_bytes);
	void (*commit)(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl,
		uint16_t len_bytes);
};

/*
 * Slow work (curve operations) that must not run on a polling core. A job is a value: the poster
 * fills slot, gen, kind, run and body; a worker copies it, calls run(job), and the copy comes back
 * through job_done() of the core. run() may use nothing but the job itself.
 */
enum { OG_JOB_BODY_BYTES = 3072 };

struct og_job {
	void (*run)(struct og_job *job);
	uint32_t slot;
	uint32_t gen;
	uint16_t kind;        /* the poster's own numbering */
	uint16_t source_hash; /* of the address that caused it: workers share fairly by it */
	int32_t result;       /* set by run(): 0 or a negative errno */
	alignas(16) uint8_t body[OG_JOB_BODY_BYTES];
};

/*
 * begin() lends an empty job to fill, or NULL when all are taken (shed the work and count it);
 * post() hands it to the workers. Between the two no other begin().
 */
struct og_jobs {
	struct og_job *(*begin)(struct og_jobs *jobs);
	void (*post)(struct og_jobs *jobs, struct og_job *job);
};

/* What a core is created with and keeps for life. */
struct og_core_env {
	struct og_tx *tx;
	struct og_jobs *jobs;
	struct og_sink *events; /* to the router; a full ring is counted by the core */
	struct og_rand *rand;
	uint32_t tag_key; /* for the ids of streams, see stream_tag.h; 0: they carry no tag */
};

struct og_core;

/* Cores of one node, each on a thread of its own; a number names one. */
enum { OG_CORES_MAX = 16 };

struct og_core_ops {
	void (*input)(struct og_core *core, struct og_dgram *burst, uint16_t n, uint64_t now_ns);
	/* Timers and sending. Returns when it next wants to be called; earlier is fine. */
	uint64_t (*tick)(struct og_core *core, uint64_t now_ns);
	/* A message from the router. Returns 0, or -EAGAIN: the driver offers it again later. */
	int (*command)(struct og_core *core, const struct og_msg *msg, uint64_t now_ns);
	void (*job_done)(struct og_core *core, struct og_job *job, uint64_t now_ns);
	/*
	 * Of a node with several cores: the number of the one that a datagram which arrived here
	 * belongs to. Only that one is given it as input; what it says of others is not trusted.
	 */
	uint16_t (*steer)(const struct og_core *core, const struct og_dgram *d);
};

struct og_core {
	const struct og_core_ops *ops;
};
