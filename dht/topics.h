/*
 * topics.h: announce, look up and unannounce topics, one operation per topic at a time.
 *
 * An announce is a LOOKUP that reports the peers it meets and then stores our record on the 20
 * nearest nodes. The first one of a topic clears what an earlier life of ours left there.
 *
 * Source:  dht.md 8.1, 10.1 "leave".
 * Threads: the owner of the node.
 * Memory:  made by create.
 */
#pragma once
#include "dht/env.h"

struct og_dht_topics;

int og_dht_topics_create(struct og_dht_topics **out, struct og_dht_env *env,
	const struct og_dht_opts *opts) OG_MUST_CHECK;
void og_dht_topics_destroy(struct og_dht_topics *t);

/* Returns 0, -EALREADY while an operation of this topic runs, or -ENOSPC. */
int og_dht_topics_start(struct og_dht_topics *t, const uint8_t topic[32], enum og_dht_topic_op op,
	uint64_t now_ns) OG_MUST_CHECK;
/* OG_DHT_JOB_TOPIC_SIGN */
void og_dht_topics_job_done(struct og_dht_topics *t, const struct og_job *job, uint64_t now_ns);
uint64_t og_dht_topics_tick(struct og_dht_topics *t, uint64_t now_ns);
