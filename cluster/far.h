/*
 * far.h: core 0's side of the other cores (cores.h): the streams they offer, and messages to them.
 *
 * Threads: core 0's lcore.
 * Memory:  all at create.
 */
#pragma once
#include "cluster/cores.h"
#include "dht/dht.h"

struct og_far;

/* links[i]: to core i; links[0] is not used. */
int og_far_create(struct og_far **out, uint16_t nb_cores, uint32_t slots_per_core,
	struct og_sink *const *links, uint64_t seed) OG_MUST_CHECK;
void og_far_destroy(struct og_far *f);

/* The core that everything of this key lives on. */
uint16_t og_far_core_of_key(const struct og_far *f, const uint8_t key[32]);
/* And that a stream lives on. */
uint16_t og_far_core_of_stream(const struct og_far *f, uint64_t stream);

/* For struct og_dht_ops, of streams and keys of cores 1 and up. -ENOSPC: nothing is offered. */
int og_far_reserve(
	struct og_far *f, uint16_t core, uint64_t *stream, uint32_t *udx_id) OG_MUST_CHECK;
void og_far_release(struct og_far *f, uint64_t stream);
/* -EAGAIN: no room for the keys, and the stream is released. */
int og_far_connected(
	struct og_far *f, const struct og_dht_conn *c, bool dialling, bool exempt) OG_MUST_CHECK;
struct og_tx *og_far_tx(struct og_far *f, uint64_t stream);

/* OFFER, WITHDRAWN or FREED. */
void og_far_note(struct og_far *f, const struct og_msg *m);
/* To one core, or to all of them. */
void og_far_tell(struct og_far *f, uint16_t core, const struct og_msg *m);
void og_far_tell_all(struct og_far *f, const struct og_msg *m);
/* Streams taken and not freed yet. */
uint32_t og_far_held(const struct og_far *f);
/* Hands over what waits for room; true when nothing is left. */
bool og_far_flush(struct og_far *f);
