/*
 * config.h: node.conf: what an operator may set, checked before anything starts.
 *
 * One table (og_config_keys) names every key with its type, default, range and help; it drives
 * parsing, errors, --print-config and --list-config. Every problem of a file is reported, each as
 * `file:line: what is wrong, what to do`.
 *
 * Source:  design.md 6.2; INI as inih reads it, except that a line is never cut silently.
 * Units:   sizes in bytes, durations in ms.
 * Threads: load on one thread; afterwards read-only.
 * Memory:  lists are on the heap: og_config_fini().
 */
#pragma once
#include "base/addr.h"
#include "cluster/router.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

enum {
	OG_CONFIG_KEYS_MAX = 64,
	OG_CONFIG_ITEMS_MAX = 256,  /* values of one key that may be given several times */
	OG_CONFIG_LINE_BYTES = 198, /* inih would cut longer ones */
	OG_CONFIG_FILE_BYTES = 1 << 20,
	OG_CONFIG_WORD_BYTES = 200,
};

enum { OG_CONFIG_FROM_DEFAULT = 0, OG_CONFIG_FROM_FLAG = -1 }; /* else a line of the file */

struct og_config_item {
	char *text;
	int32_t where;
};

struct og_config_list {
	struct og_config_item *items;
	uint32_t nb_items;
};

struct og_config_model {
	char name[OG_MODEL_NAME_BYTES]; /* of `[model NAME]`, or "" */
	char path[PATH_MAX];
	char backend[16], decode[16], matmul[16];
	char alias[OG_MODEL_NAME_BYTES];
	uint64_t device, context, kv_memory, swap_memory, max_batch, queue, threads;
	char weights[16], kv[8];
	bool prefix_reuse;
	int32_t section_line;
	int32_t where[OG_CONFIG_KEYS_MAX]; /* per row of the table */
};

struct og_config {
	char file[PATH_MAX]; /* for messages */
	char dir[PATH_MAX];  /* relative paths start here */
	bool show_progress;  /* of the weights, on stderr: a flag, no key */
	/* [node] */
	char node_name[OG_NODE_NAME_BYTES];
	char root[PATH_MAX];
	char key_file[PATH_MAX];
	char user[OG_CONFIG_WORD_BYTES];
	/* [cluster] */
	struct og_config_list cluster_ids, allow, deny;
	char secret_file[PATH_MAX];
	/* [dht] */
	struct og_config_list bootstrap, peers;
	uint64_t dht_port;
	uint64_t strangers;
	struct og_addr public_address; /* port 0: to be learned */
	char ephemeral[8], firewalled[8];
	/* [port] */
	char driver[OG_CONFIG_WORD_BYTES];
	struct og_addr address, gateway;
	uint64_t prefix_len, mtu, queues;
	bool shared;
	/* [cores] */
	char net[OG_CONFIG_WORD_BYTES];
	uint64_t crypto;
	char router[OG_CONFIG_WORD_BYTES], engine[OG_CONFIG_WORD_BYTES];
	char poll[16];
	bool hugepages;
	char eal_args[OG_CONFIG_WORD_BYTES];
	/* [http] */
	char listen[OG_CONFIG_WORD_BYTES];
	char api_key_file[PATH_MAX];
	uint64_t max_body, max_connections, max_connections_per_address, rate_per_s, rate_burst;
	struct og_config_list allow_hosts;
	/* [limits] */
	uint64_t peers_max, peers_per_key, peers_per_net, frame_memory, asks_max, peer_running;
	uint64_t peer_queued, deadline_ms, stop_timeout_ms;
	/* [log] and [metrics] */
	char log_level[8], log_format[8];
	bool metrics;
	/* [model] and [model NAME] */
	struct og_config_model models[OG_ROUTER_MODELS_MAX];
	uint32_t nb_models;

	int32_t where[OG_CONFIG_KEYS_MAX]; /* where each single value came from */
	int32_t last_line;
};

enum og_config_type {
	OG_CONFIG_STRING,
	OG_CONFIG_PATH, /* relative ones start at the folder of the file */
	OG_CONFIG_UINT,
	OG_CONFIG_SIZE,
	OG_CONFIG_DURATION,
	OG_CONFIG_BOOL,
	OG_CONFIG_CHOICE,
	OG_CONFIG_IP,        /* 1.2.3.4 */
	OG_CONFIG_IP_PORT,   /* 1.2.3.4:5 */
	OG_CONFIG_IP_PREFIX, /* 1.2.3.4 or 1.2.3.4/24; the length goes into prefix_len */
	OG_CONFIG_LISTEN,    /* host:port or none */
	OG_CONFIG_LINES,     /* may be given several times, each a value */
	OG_CONFIG_KEYS,      /* the same, each 64 hex digits */
	OG_CONFIG_COMMAS,    /* values separated by commas; may be given several times */
};

struct og_config_key {
	const char *section;
	const char *key;
	enum og_config_type type;
	size_t offset; /* in struct og_config, or in struct og_config_model for [model] */
	size_t cap;    /* strings: bytes with the NUL */
	const char *def;
	uint64_t min, max;   /* numbers; strings: bytes */
	const char *choices; /* "a|b|c" */
	const char *help;
};

extern const struct og_config_key og_config_keys[];
extern const size_t og_config_nb_keys;

/* Each problem is one line without newline. */
struct og_problems {
	void (*report)(void *ctx, const char *line);
	void *ctx;
	uint32_t nb;
};

/* All defaults; `file` is for messages and relative paths. */
void og_config_init(struct og_config *cfg, const char *file);
void og_config_fini(struct og_config *cfg);

/*
 * init, read the file, cross checks. 0, -ENOENT and the like if the file cannot be read, -EINVAL
 * when problems were reported. Call fini in every case.
 */
int og_config_load(
	struct og_config *cfg, const char *file, struct og_problems *problems) OG_MUST_CHECK;
/* The same from memory, without cross checks that look at the disk. */
int og_config_parse(struct og_config *cfg, const char *text, size_t len_bytes,
	struct og_problems *problems) OG_MUST_CHECK;
/* `section.key=value` of a flag. */
int og_config_override(
	struct og_config *cfg, const char *assignment, struct og_problems *problems) OG_MUST_CHECK;
/* Cross checks after file and flags; fills what depends on others (key_file, root). */
int og_config_finish(struct og_config *cfg, struct og_problems *problems) OG_MUST_CHECK;

/* Every value with where it came from, in a form that parses back. */
void og_config_print(const struct og_config *cfg, FILE *out);
/* Calls `fn` for each key whose values differ, in the order of the table. */
void og_config_diff(const struct og_config *a, const struct og_config *b,
	void (*fn)(void *ctx, const char *section, const char *key), void *ctx);
/* Every key with type, default, range and help. */
void og_config_list(FILE *out);

/* Splits "host:port" ("[v6]:port" too). Returns 0 or -EINVAL. */
int og_config_split_listen(
	const char *text, char host[OG_CONFIG_WORD_BYTES], uint16_t *port) OG_MUST_CHECK;
