/*
 * view.h: what other polling cores need to know of a node to answer PING and FIND_NODE for it: a copy
 * of its routing table, its id and addresses, published by its owner whenever they have changed.
 *
 * Two copies. Readers use the newer one and say so while they do; the owner writes the other one once
 * nobody reads it any more, else later. Neither ever waits. Replies carry no token, and stay within three
 * times the request by their size alone, so that no secret and no limit is part of it.
 *
 * Source:  dht.md 4; hazard pointers (Michael, 2004), with an index in place of a pointer.
 * Units:   times ns; bytes.
 * Threads: publish() belongs to the owner of the rpc; each reader number to one other thread.
 * Memory:  two tables (half a MiB) at create.
 */
#pragma once
#include "base/core.h"
#include "dht/rpc.h"

struct og_dht_view;

/* Written by the reader. */
struct og_dht_view_counts {
	uint64_t requests;  /* taken here */
	uint64_t replies;   /* of them answered */
	uint64_t malformed; /* not a request that its head promised, or without its argument */
	uint64_t own;       /* from one of our own addresses */
	uint64_t tx_full;
};

int og_dht_view_create(struct og_dht_view **out, uint16_t nb_readers) OG_MUST_CHECK;
void og_dht_view_destroy(struct og_dht_view *v);

/*
 * After a tick: publishes what has changed, not more often than every 20 ms. Returns when it is to be
 * called again for what is not published yet, or OG_NEVER.
 */
uint64_t og_dht_view_publish(
	struct og_dht_view *v, const struct og_dht_rpc *rpc, uint64_t now_ns) OG_MUST_CHECK;

/*
 * By its head: a PING or FIND_NODE without a token and without an id. Everything else is the owner's: who
 * gives its id may belong into the table.
 */
bool og_dht_view_takes(const uint8_t *data, uint16_t len_bytes);
/* Answers a datagram that is taken, or drops and counts it. */
void og_dht_view_serve(
	struct og_dht_view *v, uint16_t reader, struct og_tx *tx, const struct og_dgram *d);
const struct og_dht_view_counts *og_dht_view_counts(const struct og_dht_view *v, uint16_t reader);

/* Registers the counters of all readers, with a label core="n". */
void og_dht_view_metrics_register(const struct og_dht_view *v);
