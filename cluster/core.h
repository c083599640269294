/*
 * core.h: the protocol machine of one node: datagram -> DHT or stream, the swarm (join, refresh,
 * retry, duplicate rule) and the peer connections. What a polling core runs; see base/core.h.
 *
 * The router drives it by commands and hears of it by events, both struct og_msg. A peer connection
 * is named by (slot, gen) from PEER_OPEN to PEER_CLOSED; a message with a gen that has passed is
 * ignored.
 *
 * A node may have several cores, each on a thread of its own. Then slots are counted through all of
 * them (cores.h): commands about a peer go to the core of its slot, all others to core 0.
 *
 * Writing: the router may have up to OG_PEER_CREDIT_BYTES of WRITE data under way per peer. The core
 * returns credit with PEER_CREDIT (arg = bytes taken by the stream since the last one). More than
 * that closes the peer (-ENOBUFS).
 *
 * Source:  dht.md 10 (swarm), 10.3 (duplicate rule), design.md 2.
 * Threads: one lcore; counters may be read by any thread.
 * Memory:  all at create.
 */
#pragma once
#include "base/core.h"
#include "base/rand.h"
#include "crypto/keys.h"

enum {
	OG_PEER_CREDIT_BYTES = 256 * 1024,
	OG_PEER_UNREAD_BYTES = 512 * 1024,
	OG_WRITE_MAX_BYTES = 16 * 1024, /* data of one WRITE command or PEER_DATA event */
	OG_CORE_TOPICS_MAX = 64,
};

enum og_core_command {
	OG_CMD_JOIN = 1, /* key = topic; flags: OG_JOIN_*; joining again changes the flags */
	OG_CMD_LEAVE,    /* key = topic */
	OG_CMD_DIAL,     /* key = public key: keep a connection to it (explicit peer); data: 0 or
	                      more 6-byte addr4 to try first as relays or as the node itself */
	OG_CMD_UNDIAL,   /* key = public key */
	OG_CMD_WRITE,    /* slot, gen, data */
	OG_CMD_END,      /* slot, gen: nothing more to write */
	OG_CMD_CLOSE,    /* slot, gen: at once */
	OG_CMD_WATCH,    /* slot, gen, arg 1/0: an answer is outstanding: HEARTBEAT after 500 ms of
	                      silence, closed with -ETIMEDOUT after 1500 ms without a sign of life */
	OG_CMD_CONSUMED, /* slot, gen, arg: bytes of PEER_DATA handled. Beyond OG_PEER_UNREAD_BYTES
	                      not handled the peer's window closes: back-pressure */
	OG_CMD_ALLOW,    /* key: only allowed keys may connect once there is one */
	OG_CMD_DENY,     /* key: may not connect */
	OG_CMD_UNALLOW,  /* key: ALLOW taken back */
	OG_CMD_UNDENY,   /* key: DENY taken back */
	OG_CMD_ENFORCE,  /* after changes of the lists: connections they forbid are closed */
	OG_CMD_PUT_IMMUTABLE, /* data = value; arg = tag */
	OG_CMD_GET_IMMUTABLE, /* key = hash; arg = tag */
	OG_CMD_PUT_MUTABLE,   /* our own key; data = u64le seq, value; arg = tag */
	OG_CMD_GET_MUTABLE,   /* key = public key; arg = tag; data = u64le lowest seq */
	OG_CMD_NODES,         /* arg = tag: asks for an OG_EV_NODES (to save on disk) */
	OG_CMD_STOP,          /* leave topics, unannounce, close peers; ends with OG_EV_STOPPED */
};

enum { OG_JOIN_SERVER = 1, OG_JOIN_CLIENT = 2 };

enum og_core_event {
	OG_EV_READY = 1,   /* bootstrapped; arg = nodes in the table */
	OG_EV_JOINED,      /* key = topic: the first refresh ended; arg = nodes it was stored on */
	OG_EV_JOIN_RETRY,  /* key = topic: reached nobody, will retry; arg = ms until then */
	OG_EV_LEFT,        /* key = topic */
	OG_EV_ANNOUNCED,   /* our own key; arg = relays */
	OG_EV_PEER_FOUND,  /* key = public key; data = 32-byte topic */
	OG_EV_PEER_OPEN,   /* slot, gen, key; flags bit 0: we dialled; data = 6-byte addr4 */
	OG_EV_PEER_DATA,   /* slot, gen, data: stream bytes in order */
	OG_EV_PEER_CREDIT, /* slot, gen, arg */
	OG_EV_PEER_END,    /* slot, gen: the peer will write nothing more */
	OG_EV_PEER_CLOSED, /* slot, gen, key; arg = (uint64_t)(int64_t) reason, 0 or negative errno */
	OG_EV_VALUE, /* arg = tag; flags = 0 or positive errno; key = u64le seq; data = value */
	OG_EV_NODES, /* arg = tag; data = addr4 list */
	OG_EV_STOPPED,
};

enum og_core_tristate { OG_CORE_AUTO, OG_CORE_YES, OG_CORE_NO };

struct og_dht_view;

struct og_cluster_core_opts {
	struct og_core_env env;
	const struct og_keypair *keys;   /* copied */
	struct og_addr local[2];         /* bound address of endpoint 0 and 1 (port 0: none) */
	const struct og_addr *lan_addrs; /* local addresses we answer at, for addresses4 */
	uint32_t nb_lan_addrs;
	const struct og_addr *bootstrap; /* none: first node of a private network */
	uint32_t nb_bootstrap;
	const struct og_addr *saved_nodes; /* from the last run */
	uint32_t nb_saved_nodes;
	struct og_addr public_addr; /* port 0: to be learned */
	enum og_core_tristate ephemeral;
	enum og_core_tristate firewalled;
	uint32_t peers_max;         /* connections in all; 0: 1024 */
	uint32_t peers_per_key_max; /* as in struct og_peers_opts */
	uint32_t peers_per_net_max;
	uint64_t frame_budget_bytes; /* 0: 256 MiB */
	uint32_t packets;            /* packet buffers of all streams; 0: by peers_max */
	uint32_t dht_records;        /* kept for others; 0: the store's default */
	uint32_t dht_values;
	uint32_t dht_strangers_per_s; /* as in struct og_dht_opts */
	uint64_t wall_ms;             /* ms since 1970, or 0 */
	/* Of a node with several cores this is core 0; the others are made by stream_core.h. */
	uint16_t nb_cores;                   /* 0 or 1: the only one */
	struct og_sink *links[OG_CORES_MAX]; /* to core i, from 1 on; they come as commands there */
	struct og_dht_view *view;            /* kept up to date for the others; outlives the core */
};

/* Counters of the core; one writer. */
struct og_cluster_core_stats {
	uint64_t rx_datagrams, rx_unknown;
	uint64_t peers, peers_opened, peers_closed, duplicates_closed, dials, dials_failed;
	uint64_t refused_firewall, refused_full, refused_limit, events_dropped, handshakes;
	uint64_t half_open_evicted;
	uint64_t table_nodes, topics;
	uint64_t persistent; /* 1: in other nodes' tables, stores for them */
};

int og_cluster_core_create(struct og_core **out, const struct og_cluster_core_opts *opts,
	uint64_t now_ns) OG_MUST_CHECK;
void og_cluster_core_destroy(struct og_core *core);
const struct og_cluster_core_stats *og_cluster_core_stats(const struct og_core *core);
/* Registers the counters of the core, its DHT and its streams. */
void og_cluster_core_metrics_register(struct og_core *core);
/* Of all cores of a node: `core` is core 0, others[i] core i + 1. */
void og_cluster_cores_metrics_register(
	struct og_core *core, struct og_core *const *others, uint16_t nb_others);
