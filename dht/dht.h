/*
 * dht.h: one node of the hyperdht network: topics, servers, connections, stored values.
 *
 * Announces a key and topics, finds others, answers and relays handshakes, keeps records for the
 * network, and hands over a stream with its Noise keys once both sides have shaken hands. The
 * stream itself is the business of the layer above, which lends ids through og_dht_ops.
 *
 * Sans-I/O as rpc.h. Curve operations are jobs (base/core.h): they are posted, and come back
 * through og_dht_job_done(); a late or unknown one is ignored. Kinds below OG_DHT_JOB_KINDS are
 * ours.
 *
 * Every operation that starts (returns 0) ends in exactly one callback. Callbacks may call back
 * into this interface.
 *
 * Source:  dht.md 7 to 9, without hole punching: a peer that needs it fails with -EOPNOTSUPP.
 * Units:   times ns of the driver's monotonic clock.
 * Threads: one owner; the counters may be read by any thread.
 * Memory:  all made by create; what callbacks are given is borrowed for the call.
 */
#pragma once
#include "crypto/keys.h"
#include "crypto/noise.h"
#include "dht/query.h"
#include "dht/rpc.h"
#include "dht/store.h"

struct og_dht;

enum { OG_DHT_JOB_KINDS = 64, OG_DHT_LOCAL_ADDRS = 4 };

enum og_dht_topic_op { OG_DHT_TOPIC_ANNOUNCE, OG_DHT_TOPIC_LOOKUP, OG_DHT_TOPIC_UNANNOUNCE };

/* A handshake that succeeded. The stream now belongs to whom this is told. */
struct og_dht_conn {
	uint64_t stream; /* as stream_reserve() gave it */
	const struct og_noise_keys *keys;
	bool initiator;
	uint32_t remote_udx_id;
	uint16_t endpoint;
	bool has_remote; /* false: bind to the source of the first packet */
	struct og_addr remote;
	uint8_t remote_key[32];
	uint64_t tag; /* of og_dht_connect(); 0 for an incoming one */
};

/* NULL members are not called, except that stream_reserve and stream_release come together. */
struct og_dht_ops {
	/* True refuses: an incoming handshake meets silence, a connect fails. */
	bool (*firewall)(void *ctx, const uint8_t remote_key[32], bool incoming);
	/* A live stream id, for that peer, that waits for its keys. Returns 0 or -ENOSPC. */
	int (*stream_reserve)(void *ctx, const uint8_t remote_key[32], uint64_t *stream,
		uint32_t *udx_id, uint64_t now_ns);
	/* Where a message leaves that names the stream to its peer; NULL: as all others. */
	struct og_tx *(*stream_tx)(void *ctx, uint64_t stream);
	/* The attempt ended without a connection. */
	void (*stream_release)(void *ctx, uint64_t stream, uint64_t now_ns);
	void (*connected)(void *ctx, const struct og_dht_conn *c, uint64_t now_ns);
	/*
	 * -ENOENT nobody knows the key; -ECONNREFUSED known, but no relay brought a good answer;
	 * -EPROTO the peer speaks another version; -EREMOTEIO it answered with an error;
	 * -EOPNOTSUPP only hole punching could reach it; -ETIMEDOUT; -ENOBUFS no room for the work.
	 */
	void (*connect_failed)(
		void *ctx, uint64_t tag, const uint8_t remote_key[32], int reason, uint64_t now_ns);
	/* Reported once per node that lists it: the caller keeps them apart. Never our own key. */
	void (*topic_peer)(void *ctx, const uint8_t topic[32], const uint8_t key[32],
		const struct og_addr *relays, uint32_t nb_relays, uint64_t now_ns);
	/*
	 * status 0; -ENOENT no node answered; -EREMOTEIO nodes answered, but none stored;
	 * -ETIMEDOUT the operation took a minute.
	 */
	void (*topic_done)(void *ctx, const uint8_t topic[32], enum og_dht_topic_op op, int status,
		uint32_t stored_on, uint64_t now_ns);
	/* -ENOENT not found, or nobody answered; -EREMOTEIO a put that no node stored. */
	void (*value_done)(void *ctx, uint64_t tag, int status, uint64_t seq, const uint8_t *value,
		uint32_t n, uint64_t now_ns);
	/* After each announce round of our key that succeeded, and with 0 once unlisten is done. */
	void (*server_state)(void *ctx, uint32_t nb_relays, uint64_t now_ns);
};

struct og_dht_opts {
	struct og_dht_rpc_opts rpc;
	const struct og_keypair *keypair; /* lives as long as the node */
	const struct og_dht_ops *ops;     /* likewise */
	void *ctx;
	struct og_jobs *jobs;
	/* Told to peers as ways to reach us on the local network; each must answer PING. */
	const struct og_addr *local_addrs;
	uint32_t nb_local_addrs; /* at most OG_DHT_LOCAL_ADDRS */
	struct og_dht_store_opts store;

	/* Limits; 0 takes the default in brackets. */
	uint32_t nb_connects;            /* outgoing attempts at a time [64] */
	uint32_t nb_accepts;             /* handshakes remembered, half-open ones included [1024] */
	uint32_t nb_topics;              /* topics in use [64] */
	uint32_t nb_value_ops;           /* puts and gets at a time [16] */
	uint32_t nb_verifies;            /* signatures of announces and puts in work [256] */
	uint32_t nb_noise_jobs;          /* incoming handshakes in work [256] */
	uint32_t records_per_s;          /* announces and puts verified, of one limited host [32] */
	uint32_t handshakes_per_s;       /* of one limited host or, relayed, client /24 [20] */
	uint32_t strangers_per_s;        /* of all who have not answered us yet [512] */
	uint32_t relay_handshakes_per_s; /* that one limited relay brings [200] */
	uint32_t forwards_per_s;         /* relayed for one limited host [20] */
};

/* What was refused or dropped, by reason; og_count() semantics. */
struct og_dht_counts {
	uint64_t handshakes, handshake_duplicates, handshakes_bad, handshakes_limited,
		handshakes_shed, handshakes_challenged, handshakes_refused, handshakes_replayed,
		handshakes_unproven, half_open_evicted;
	uint64_t forwards, forwards_limited, forwards_unknown; /* relaying for others */
	uint64_t records_bad, records_limited, records_shed;
	uint64_t connects, connects_failed, replies_bad;
	uint64_t announce_rounds, announce_rounds_failed;
};

int og_dht_create(
	struct og_dht **out, const struct og_dht_opts *opts, uint64_t now_ns) OG_MUST_CHECK;
/* Ends nothing and calls nothing back. */
void og_dht_destroy(struct og_dht *dht);

/* As og_dht_rpc_input(). */
int og_dht_input(struct og_dht *dht, uint16_t endpoint, const struct og_addr *src,
	const uint8_t *data, uint16_t len_bytes, uint64_t now_ns);
/* Call when the time it returned has come, and after any call that starts something. */
uint64_t og_dht_tick(struct og_dht *dht, uint64_t now_ns);
void og_dht_job_done(struct og_dht *dht, struct og_job *job, uint64_t now_ns);

struct og_dht_rpc *og_dht_rpc(struct og_dht *dht);
const struct og_dht_counts *og_dht_counts(const struct og_dht *dht);
struct og_dht_store_counts og_dht_stored(const struct og_dht *dht);
/* Slots in use, for tests and gauges: connects, half-open and remembered handshakes. */
uint32_t og_dht_nb_connects(const struct og_dht *dht);
uint32_t og_dht_nb_half_open(const struct og_dht *dht);
uint32_t og_dht_nb_accepts(const struct og_dht *dht);

/* Announce our key on the 3 nearest nodes, keep it there, and serve handshakes. 0 or -EALREADY. */
int og_dht_listen(struct og_dht *dht, uint64_t now_ns) OG_MUST_CHECK;
/* Stop serving and unannounce; server_state(0) follows within a second. 0 or -EALREADY. */
int og_dht_unlisten(struct og_dht *dht, uint64_t now_ns) OG_MUST_CHECK;
/* The relay addresses our records carry: at most OG_DHT_RECORD_RELAYS. */
uint32_t og_dht_relays(const struct og_dht *dht, struct og_addr out[OG_DHT_RECORD_RELAYS]);

/* One operation per topic at a time. 0, -EALREADY, or -ENOSPC when all topics are in use. */
int og_dht_announce(struct og_dht *dht, const uint8_t topic[32], uint64_t now_ns) OG_MUST_CHECK;
int og_dht_lookup(struct og_dht *dht, const uint8_t topic[32], uint64_t now_ns) OG_MUST_CHECK;
int og_dht_unannounce(struct og_dht *dht, const uint8_t topic[32], uint64_t now_ns) OG_MUST_CHECK;

/*
 * `relays`: where to try first, e.g. from topic_peer(). Ends in connected() or connect_failed().
 * Returns 0, -EKEYREJECTED refused by the hook, -EINVAL our own key, -ENOSPC no attempt or stream
 * is free. `tag` is the caller's.
 */
int og_dht_connect(struct og_dht *dht, const uint8_t remote_key[32], const struct og_addr *relays,
	uint32_t nb_relays, uint64_t tag, uint64_t now_ns) OG_MUST_CHECK;
/* Gives up the attempts of that tag: their streams are released, nothing else is called. */
void og_dht_connect_cancel(struct og_dht *dht, uint64_t tag, uint64_t now_ns);
/* The first UDX packet for a stream that is reserved here: that address is the peer's. */
void og_dht_stream_seen(struct og_dht *dht, uint64_t stream, uint16_t endpoint,
	const struct og_addr *src, uint64_t now_ns);

/* 0, -ENOSPC, or -EMSGSIZE for a value over OG_DHT_STORED_MAX (mutable: 980) bytes. */
int og_dht_immutable_put(struct og_dht *dht, const uint8_t *value, uint32_t value_bytes,
	uint64_t tag, uint64_t now_ns) OG_MUST_CHECK;
int og_dht_immutable_get(
	struct og_dht *dht, const uint8_t target[32], uint64_t tag, uint64_t now_ns) OG_MUST_CHECK;
int og_dht_mutable_put(struct og_dht *dht, const struct og_keypair *kp, uint64_t seq,
	const uint8_t *value, uint32_t value_bytes, uint64_t tag, uint64_t now_ns) OG_MUST_CHECK;
/* The highest seq found that is at least min_seq. */
int og_dht_mutable_get(struct og_dht *dht, const uint8_t public_key[32], uint64_t min_seq,
	uint64_t tag, uint64_t now_ns) OG_MUST_CHECK;

void og_dht_metrics_register(struct og_dht *dht);
