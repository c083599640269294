/*
 * kv.h: put and get of immutable and mutable values on the 20 nodes nearest to their target.
 *
 * Source:  dht.md 7.5 "Client side".
 * Threads: the owner of the node.
 * Memory:  made by create.
 */
#pragma once
#include "dht/env.h"

struct og_dht_kv;

int og_dht_kv_create(struct og_dht_kv **out, struct og_dht_env *env,
	const struct og_dht_opts *opts) OG_MUST_CHECK;
void og_dht_kv_destroy(struct og_dht_kv *kv);

/* As the functions of dht.h. */
int og_dht_kv_put_immutable(struct og_dht_kv *kv, const uint8_t *value, uint32_t value_bytes,
	uint64_t tag, uint64_t now_ns) OG_MUST_CHECK;
int og_dht_kv_get_immutable(struct og_dht_kv *kv, const uint8_t target[32], uint64_t tag,
	uint64_t now_ns) OG_MUST_CHECK;
int og_dht_kv_put_mutable(struct og_dht_kv *kv, const struct og_keypair *kp, uint64_t seq,
	const uint8_t *value, uint32_t value_bytes, uint64_t tag, uint64_t now_ns) OG_MUST_CHECK;
int og_dht_kv_get_mutable(struct og_dht_kv *kv, const uint8_t public_key[32], uint64_t min_seq,
	uint64_t tag, uint64_t now_ns) OG_MUST_CHECK;
/* OG_DHT_JOB_VALUE_SIGN, OG_DHT_JOB_VALUE_VERIFY */
void og_dht_kv_job_done(struct og_dht_kv *kv, const struct og_job *job, uint64_t now_ns);
uint64_t og_dht_kv_tick(struct og_dht_kv *kv, uint64_t now_ns);
