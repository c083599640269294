/*
 * stream_core.h: many encrypted streams between two polling cores, with neither DHT nor handshake:
 * the transport alone. One end writes on all of them without end while told to, the other counts.
 *
 * Threads: as any core; `received` and `written` may be read by any thread with og_counter_read().
 * Memory:  everything at create.
 */
#pragma once
#include "base/core.h"
#include "base/rand.h"
#include "transport/stream.h"

#include <stdbool.h>

enum { STREAMS_MAX = 64 };

/* The only command: arg 1 writes, 0 stops writing. */
enum { STREAM_WRITE = 1 };

struct stream_core {
	struct og_core core; /* first */
	uint16_t idx, nb_cores;
	struct og_streams *streams;
	struct og_rand rand;
	uint32_t nb;
	bool writing;
	uint64_t now_ns;
	struct og_stream_id ids[STREAMS_MAX];
	uint32_t udx_ids[STREAMS_MAX];
	bool open[STREAMS_MAX];         /* by slot of the stream */
	bool full[STREAMS_MAX];         /* waits for writable */
	uint64_t received[STREAMS_MAX]; /* by order of reservation, so both ends agree */
	uint64_t written;               /* on all */
	uint32_t order_of_slot[STREAMS_MAX];
	uint8_t pattern[16 * 1024]; /* of one write */
};

/*
 * `nb` streams reserved, their ids in udx_ids, on core `idx` of `nb_cores`. 0 or a negative errno.
 */
int stream_core_create(struct stream_core *c, const struct og_core_env *env, uint32_t nb,
	uint16_t idx, uint16_t nb_cores, uint64_t now_ns) OG_MUST_CHECK;
void stream_core_destroy(struct stream_core *c);
/* Start stream i towards the other end's id i. Before the core runs. 0 or a negative errno. */
int stream_core_start(struct stream_core *c, uint32_t i, uint32_t remote_udx_id,
	const struct og_addr *remote, bool initiator, uint64_t now_ns) OG_MUST_CHECK;
