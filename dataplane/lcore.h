/*
 * lcore.h: the polling core: drives one struct og_core between a port, the router's commands and
 * the crypto workers.
 *
 * One pass: datagrams in, commands, finished jobs, tick, datagrams out. With OG_POLL_BUSY passes
 * follow each other without end; with OG_POLL_ADAPTIVE an idle core sleeps until a datagram, a
 * command, a job or its own deadline wakes it.
 *
 * Several cores of one node form a group. What a core's steer() says belongs to another is handed over
 * (handover.h); what does not fit is counted and dropped. Messages between cores come as commands do.
 *
 * Units:   ns of CLOCK_BOOTTIME, bytes.
 * Threads: og_lcore_run() is the core's thread; create, stop and destroy belong to the main thread.
 *          Counters are written by the core and may be read by any thread.
 * Memory:  everything at create; datagrams come from the port's packet pool.
 */
#pragma once
#include "base/core.h"
#include "dataplane/stage.h"

struct og_handover;
struct og_port;
struct og_workers;
struct og_lcore;

enum og_poll { OG_POLL_ADAPTIVE, OG_POLL_BUSY };

/* One core's view of its group. Arrays are by core; the own place is NULL. */
struct og_lcore_group {
	uint16_t nb_cores;
	uint16_t idx; /* of this core */
	struct og_handover *to[OG_CORES_MAX];
	struct og_handover *from[OG_CORES_MAX];
	struct og_doorbell *bells[OG_CORES_MAX];
	struct og_stage *inboxes[OG_CORES_MAX]; /* messages of that core; NULL: it sends none */
	struct og_port *behind[OG_CORES_MAX]; /* its port, when that sends through ours; or NULL */
};

struct og_lcore_opts {
	struct og_port *port;
	struct og_workers *workers; /* NULL: the core posts no jobs */
	struct og_stage *commands;
	struct og_doorbell *doorbell; /* rung by `commands`, `workers` and the group */
	enum og_poll poll;
	const struct og_lcore_group *group; /* NULL: the only core; copied */
};

/* What a pass consists of. */
enum og_phase {
	OG_PHASE_RX, /* datagrams in, and what the core makes of them */
	OG_PHASE_COMMANDS,
	OG_PHASE_JOBS,
	OG_PHASE_TICK,
	OG_PHASE_TX,
	OG_PHASE_COUNT
};

struct og_lcore_counters {
	uint64_t rx_packets;
	uint64_t rx_bytes;
	uint64_t tx_packets;
	uint64_t tx_bytes;
	uint64_t tx_full;    /* reserve() refused: transmit queue full */
	uint64_t tx_no_mbuf; /* reserve() refused: packet pool empty */
	uint64_t commands;
	uint64_t jobs;
	uint64_t handed_out;    /* packets given to the core they belong to */
	uint64_t handed_in;     /* and taken from others */
	uint64_t handover_full; /* not given: its ring is full. Dropped */
	uint64_t busy_ns;       /* in passes that did something */
	uint64_t idle_ns;       /* in passes that found nothing */
	uint64_t sleep_ns;      /* blocked */
	uint64_t sleeps;
	uint64_t phase_ns[OG_PHASE_COUNT]; /* of busy_ns, estimated from one pass in 16 */
};

int og_lcore_create(struct og_lcore **out, const struct og_lcore_opts *opts) OG_MUST_CHECK;
void og_lcore_destroy(struct og_lcore *lc);

/* What the core sends by: give it to the core's env. */
struct og_tx *og_lcore_tx(struct og_lcore *lc);

/*
 * Start the port, then poll until og_lcore_stop(); call on the thread that is to be the polling
 * core. `started` is called once with the port's result; if that is negative, run() returns at once.
 */
void og_lcore_run(
	struct og_lcore *lc, struct og_core *core, void (*started)(void *arg, int ret), void *arg);
/* From any thread: the core finishes its pass, sends what is queued, and og_lcore_run() returns. */
void og_lcore_stop(struct og_lcore *lc);

const struct og_lcore_counters *og_lcore_counters(const struct og_lcore *lc);
