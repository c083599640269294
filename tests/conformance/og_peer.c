/*
 * og_peer.c: the core of a node on the real data plane, driven by JSON lines, so that a test can do
 * with it what an application does with a Hyperswarm peer: join topics, exchange bytes, store values.
 *
 *   og_peer [--bootstrap HOST:PORT,…] [--first] [--seed HEX64] [--host IP] [--port N] [--firewalled]
 *           [--driver socket|ethdev:<devargs>] [--prefix BITS] [--gateway IP] [--cores N]
 *
 * stdin:  {"cmd":"join","topic":HEX,"server":true,"client":true} {"cmd":"leave","topic":HEX}
 *         {"cmd":"dial","key":HEX,"at":"HOST:PORT"} {"cmd":"write","slot":N,"gen":N,"text":"…"}
 *         {"cmd":"pattern","slot":N,"gen":N,"bytes":N} (byte i is (i * 31 + (i >> 8)) & 255, then END)
 *         {"cmd":"end"|"close",…} {"cmd":"put_immutable","text":"…","tag":N}
 *         {"cmd":"get_immutable","key":HEX,"tag":N} {"cmd":"put_mutable","seq":N,"text":"…","tag":N}
 *         {"cmd":"get_mutable","key":HEX,"seq":N,"tag":N} {"cmd":"nodes"} {"cmd":"stats"}
 *         {"cmd":"stop"}
 * stdout: one JSON object per event; received bytes are counted, hashed, and shown while few.
 */
#include "base/bytes.h"
#include "base/count.h"
#include "base/rand.h"
#include "cluster/steer.h"
#include "cluster/stream_core.h"
#include "dataplane/dataplane.h"
#include "dht/view.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 2048, PEERS_MAX = 512, BOOTSTRAP_MAX = 8, SHOWN_BYTES = 16384, LINE_BYTES = 65536 };

struct conn {
	bool open;
	uint32_t gen;
	uint64_t received, to_send, sent, credit, unread;
	crypto_hash_sha256_state hash;
};

static struct conn conns[SLOTS];
static struct og_doorbell bell;
static struct og_dataplane *dp;
static struct og_core *core; /* the first */
static struct og_core *cores[OG_CORES_MAX];
static struct og_rand rands[OG_CORES_MAX];
static uint16_t nb_cores = 1;
static uint8_t own_key[32];

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void command(struct og_msg *m)
{
	bool of_peer = m->type >= OG_CMD_WRITE && m->type <= OG_CMD_CONSUMED;
	uint32_t at = of_peer ? m->slot / og_slots_per_core(PEERS_MAX, nb_cores) : 0;
	struct og_stage *stage = og_dataplane_core_commands(dp, (uint16_t)(at % nb_cores));

	while (og_stage_push(stage, m) == -EAGAIN)
		usleep(100);
}

static void say(json_t *o)
{
	char *text = json_dumps(o, JSON_COMPACT);

	puts(text);
	fflush(stdout);
	free(text);
	json_decref(o);
}

static json_t *hex(const uint8_t *p, size_t n)
{
	char *text = malloc(2 * n + 1);
	json_t *s;

	og_hex_encode(text, p, n);
	s = json_stringn(text, 2 * n);
	free(text);
	return s;
}

static void key_of(const json_t *o, const char *name, uint8_t key[32])
{
	const char *text = json_string_value(json_object_get(o, name));

	if (!text || og_hex_decode(key, 32, text, strlen(text)) != 0)
		fprintf(stderr, "og_peer: \"%s\" must be 64 hex digits\n", name);
}

static uint64_t number(const json_t *o, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(o, name));
}

/* ---- sending ---- */

static void write_some(uint32_t slot, const void *data, size_t n)
{
	const uint8_t *p = data;

	while (n > 0) {
		struct og_msg m = {.type = OG_CMD_WRITE, .slot = slot, .gen = conns[slot].gen};

		m.data = p;
		m.len_bytes = (uint32_t)OG_MIN(n, (size_t)OG_WRITE_MAX_BYTES);
		command(&m);
		conns[slot].credit -= OG_MIN(conns[slot].credit, (uint64_t)m.len_bytes);
		p += m.len_bytes;
		n -= m.len_bytes;
	}
}

static void send_pattern(uint32_t slot)
{
	struct conn *c = &conns[slot];
	uint8_t buf[OG_WRITE_MAX_BYTES];

	while (c->to_send > 0 && c->credit >= sizeof(buf)) {
		size_t n = (size_t)OG_MIN(c->to_send, (uint64_t)sizeof(buf));

		for (size_t i = 0; i < n; i++)
			buf[i] = (uint8_t)((c->sent + i) * 31 + ((c->sent + i) >> 8));
		write_some(slot, buf, n);
		c->sent += n;
		c->to_send -= n;
		if (c->to_send == 0) {
			struct og_msg m = {.type = OG_CMD_END, .slot = slot, .gen = c->gen};

			command(&m);
		}
	}
}

/* ---- events ---- */

static void on_open(const struct og_msg *ev)
{
	struct conn *c = &conns[ev->slot];

	memset(c, 0, sizeof(*c));
	c->open = true;
	c->gen = ev->gen;
	c->credit = OG_PEER_CREDIT_BYTES;
	crypto_hash_sha256_init(&c->hash);
	say(json_pack("{s:s, s:i, s:I, s:o, s:b}", "ev", "open", "slot", (int)ev->slot, "gen",
		(json_int_t)ev->gen, "key", hex(ev->key, 32), "initiator", ev->flags & 1));
}

static void on_data(const struct og_msg *ev)
{
	struct conn *c = &conns[ev->slot];
	struct og_msg m = {.type = OG_CMD_CONSUMED, .slot = ev->slot, .gen = ev->gen};

	crypto_hash_sha256_update(&c->hash, ev->data, ev->len_bytes);
	if (c->received < SHOWN_BYTES)
		say(json_pack("{s:s, s:i, s:I, s:o}", "ev", "data", "slot", (int)ev->slot, "gen",
			(json_int_t)ev->gen, "hex", hex(ev->data, ev->len_bytes)));
	c->received += ev->len_bytes;
	c->unread += ev->len_bytes;
	if (c->unread >= 65536) {
		m.arg = c->unread;
		c->unread = 0;
		command(&m);
	}
}

static void on_end(const struct og_msg *ev)
{
	crypto_hash_sha256_state hash = conns[ev->slot].hash;
	uint8_t sum[32];

	crypto_hash_sha256_final(&hash, sum);
	say(json_pack("{s:s, s:i, s:I, s:I, s:o}", "ev", "end", "slot", (int)ev->slot, "gen",
		(json_int_t)ev->gen, "bytes", (json_int_t)conns[ev->slot].received, "sha256",
		hex(sum, 32)));
}

static void on_event(const struct og_msg *ev, bool *running)
{
	switch ((enum og_core_event)ev->type) {
	case OG_EV_READY:
		say(json_pack("{s:s, s:I}", "ev", "ready", "nodes", (json_int_t)ev->arg));
		break;
	case OG_EV_JOINED:
		say(json_pack("{s:s, s:o, s:I}", "ev", "joined", "topic", hex(ev->key, 32),
			"stored_on", (json_int_t)ev->arg));
		break;
	case OG_EV_JOIN_RETRY:
		say(json_pack("{s:s, s:o, s:I}", "ev", "join_retry", "topic", hex(ev->key, 32),
			"ms", (json_int_t)ev->arg));
		break;
	case OG_EV_LEFT:
		say(json_pack("{s:s, s:o}", "ev", "left", "topic", hex(ev->key, 32)));
		break;
	case OG_EV_ANNOUNCED:
		say(json_pack("{s:s, s:I}", "ev", "announced", "relays", (json_int_t)ev->arg));
		break;
	case OG_EV_PEER_FOUND:
		say(json_pack("{s:s, s:o}", "ev", "found", "key", hex(ev->key, 32)));
		break;
	case OG_EV_PEER_OPEN:
		on_open(ev);
		break;
	case OG_EV_PEER_DATA:
		on_data(ev);
		break;
	case OG_EV_PEER_CREDIT:
		conns[ev->slot].credit += ev->arg;
		send_pattern(ev->slot);
		break;
	case OG_EV_PEER_END:
		on_end(ev);
		break;
	case OG_EV_PEER_CLOSED:
		conns[ev->slot].open = false;
		say(json_pack("{s:s, s:i, s:I, s:I}", "ev", "closed", "slot", (int)ev->slot, "gen",
			(json_int_t)ev->gen, "reason", (json_int_t)ev->arg));
		break;
	case OG_EV_VALUE:
		say(json_pack("{s:s, s:I, s:i, s:I, s:o}", "ev", "value", "tag",
			(json_int_t)ev->arg, "errno", (int)ev->flags, "seq",
			(json_int_t)og_load_le64(ev->key), "hex", hex(ev->data, ev->len_bytes)));
		break;
	case OG_EV_NODES:
		say(json_pack("{s:s, s:i}", "ev", "nodes", "count", (int)(ev->len_bytes / 6)));
		break;
	case OG_EV_STOPPED:
		say(json_pack("{s:s}", "ev", "stopped"));
		*running = false;
		break;
	}
}

/* What the core and its port count. */
static void say_stats(void)
{
	const struct og_cluster_core_stats *stats = og_cluster_core_stats(core);
	uint64_t rx = 0, tx = 0, handed = 0, full = 0;
	json_t *drops = json_object(), *peers = json_array();

	for (int i = 0; i < OG_DROP_COUNT; i++)
		json_object_set_new(drops, og_drop_name((enum og_drop)i),
			json_integer((json_int_t)og_dataplane_drops(dp, (enum og_drop)i)));
	for (uint16_t i = 0; i < nb_cores; i++) {
		const struct og_lcore_counters *lcore = og_dataplane_core_counters(dp, i);
		const struct og_cluster_core_stats *of =
			i == 0 ? stats : og_stream_core_stats(cores[i]);

		rx += og_counter_read(&lcore->rx_packets);
		tx += og_counter_read(&lcore->tx_packets);
		handed += og_counter_read(&lcore->handed_out);
		full += og_counter_read(&lcore->handover_full);
		json_array_append_new(peers, json_integer((json_int_t)og_counter_read(&of->peers)));
	}
	say(json_pack("{s:s, s:b, s:o, s:I, s:I, s:I, s:I, s:o}", "ev", "stats", "persistent",
		(int)og_counter_read(&stats->persistent), "peers", peers, "rx", (json_int_t)rx,
		"tx", (json_int_t)tx, "handed", (json_int_t)handed, "handover_full",
		(json_int_t)full, "drops", drops));
}

/* ---- lines ---- */

static void text_of(const json_t *o, struct og_msg *m, uint8_t *buf, size_t skip)
{
	const char *text = json_string_value(json_object_get(o, "text"));
	size_t n = text ? OG_MIN(strlen(text), (size_t)OG_WRITE_MAX_BYTES - skip) : 0;

	if (n > 0)
		memcpy(buf + skip, text, n);
	m->data = buf;
	m->len_bytes = (uint32_t)(skip + n);
}

/* "at": where to try first. */
static void place_of(const json_t *o, struct og_msg *m, uint8_t *buf)
{
	const char *text = json_string_value(json_object_get(o, "at"));
	struct og_writer w = og_writer_of(buf, 6);
	struct og_addr a;

	if (!text || og_addr_parse(&a, text) < 0)
		return;
	og_write_addr4(&w, &a);
	m->data = buf;
	m->len_bytes = (uint32_t)og_writer_len(&w);
}

static void on_line(const char *line)
{
	static uint8_t buf[OG_WRITE_MAX_BYTES];
	json_t *o = json_loads(line, 0, NULL);
	const char *cmd = json_string_value(json_object_get(o, "cmd"));
	struct og_msg m = {.slot = (uint32_t)number(o, "slot"),
		.gen = (uint32_t)number(o, "gen"),
		.arg = number(o, "tag")};

	if (!cmd || m.slot >= SLOTS) {
		fprintf(stderr, "og_peer: not a command: %s\n", line);
		json_decref(o);
		return;
	}
	if (strcmp(cmd, "join") == 0) {
		m.type = OG_CMD_JOIN;
		m.flags = (uint16_t)((json_is_true(json_object_get(o, "server")) ? OG_JOIN_SERVER
										 : 0) |
				     (json_is_true(json_object_get(o, "client")) ? OG_JOIN_CLIENT
										 : 0));
		key_of(o, "topic", m.key);
	} else if (strcmp(cmd, "leave") == 0) {
		m.type = OG_CMD_LEAVE;
		key_of(o, "topic", m.key);
	} else if (strcmp(cmd, "dial") == 0) {
		m.type = OG_CMD_DIAL;
		key_of(o, "key", m.key);
		place_of(o, &m, buf);
	} else if (strcmp(cmd, "deny") == 0) {
		m.type = OG_CMD_DENY;
		key_of(o, "key", m.key);
	} else if (strcmp(cmd, "watch") == 0) {
		m.type = OG_CMD_WATCH;
		m.arg = 1;
	} else if (strcmp(cmd, "write") == 0) {
		text_of(o, &m, buf, 0);
		write_some(m.slot, m.data, m.len_bytes);
	} else if (strcmp(cmd, "pattern") == 0) {
		conns[m.slot].to_send = number(o, "bytes");
		send_pattern(m.slot);
	} else if (strcmp(cmd, "end") == 0) {
		m.type = OG_CMD_END;
	} else if (strcmp(cmd, "close") == 0) {
		m.type = OG_CMD_CLOSE;
	} else if (strcmp(cmd, "put_immutable") == 0) {
		m.type = OG_CMD_PUT_IMMUTABLE;
		text_of(o, &m, buf, 0);
	} else if (strcmp(cmd, "get_immutable") == 0) {
		m.type = OG_CMD_GET_IMMUTABLE;
		key_of(o, "key", m.key);
	} else if (strcmp(cmd, "put_mutable") == 0) {
		m.type = OG_CMD_PUT_MUTABLE;
		og_store_le64(buf, number(o, "seq"));
		text_of(o, &m, buf, 8);
	} else if (strcmp(cmd, "get_mutable") == 0) {
		m.type = OG_CMD_GET_MUTABLE;
		key_of(o, "key", m.key);
		og_store_le64(buf, number(o, "seq"));
		m.data = buf;
		m.len_bytes = 8;
	} else if (strcmp(cmd, "nodes") == 0) {
		m.type = OG_CMD_NODES;
	} else if (strcmp(cmd, "stats") == 0) {
		say_stats();
	} else if (strcmp(cmd, "stop") == 0) {
		m.type = OG_CMD_STOP;
	}
	if (m.type)
		command(&m);
	json_decref(o);
}

/* False at the end of the input. */
static bool read_lines(void)
{
	static char buf[LINE_BYTES];
	static size_t used;
	ssize_t n = read(STDIN_FILENO, buf + used, sizeof(buf) - 1 - used);
	char *start = buf, *newline;

	if (n <= 0)
		return n < 0 && errno == EINTR;
	used += (size_t)n;
	buf[used] = '\0';
	while ((newline = strchr(start, '\n'))) {
		*newline = '\0';
		on_line(start);
		start = newline + 1;
	}
	used -= (size_t)(start - buf);
	memmove(buf, start, used);
	return true;
}

/* False once the core has stopped. */
static bool take_events(void)
{
	bool running = true;
	struct og_msg ev;

	for (uint16_t i = nb_cores; i-- > 0;) { /* what others have to say before core 0 ends it */
		struct og_stage *events = og_dataplane_core_events(dp, i);

		while (running && og_stage_pop(events, &ev) == 0) {
			on_event(&ev, &running);
			og_stage_release(events, &ev);
		}
	}
	return running;
}

static bool event_waits(void)
{
	for (uint16_t i = 0; i < nb_cores; i++)
		if (og_stage_count(og_dataplane_core_events(dp, i)) > 0)
			return true;
	return false;
}

static void loop(void)
{
	bool reading = true;
	uint64_t supervised_at = 0;

	while (take_events()) {
		struct pollfd fds[2] = {
			{reading ? STDIN_FILENO : -1, POLLIN, 0}, {bell.fd, POLLIN, 0}};

		og_doorbell_announce(&bell);
		if (!event_waits())
			poll(fds, 2, 500);
		og_doorbell_awake(&bell);
		if (now_ns() - supervised_at >= 500 * OG_NS_PER_MS) {
			supervised_at = now_ns();
			og_dataplane_supervise(dp);
		}
		if (fds[0].revents && !read_lines()) {
			struct og_msg stop = {.type = OG_CMD_STOP};

			reading = false;
			command(&stop);
		}
	}
}

/* ---- start ---- */

static int parse_bootstrap(char *list, struct og_addr *out)
{
	int n = 0;

	for (char *item = strtok(list, ","); item && n < BOOTSTRAP_MAX; item = strtok(NULL, ","))
		if (og_addr_parse(&out[n++], item) < 0) {
			fprintf(stderr, "og_peer: not an address: %s\n", item);
			exit(2);
		}
	return n;
}

static int create_cores(struct og_cluster_core_opts *co)
{
	struct og_dht_view *view = NULL;

	if (nb_cores > 1 && og_dht_view_create(&view, nb_cores) < 0)
		return -1;
	co->view = view;
	co->nb_cores = nb_cores;
	co->peers_max = PEERS_MAX;
	for (uint16_t i = 1; i < nb_cores; i++)
		co->links[i] = og_dataplane_link(dp, 0, i);
	if (og_cluster_core_create(&core, co, now_ns()) < 0)
		return -1;
	cores[0] = core;
	for (uint16_t i = 1; i < nb_cores; i++) {
		struct og_stream_core_opts so = {.home = og_dataplane_link(dp, i, 0),
			.view = view,
			.idx = i,
			.nb_cores = nb_cores,
			.own_key = own_key,
			.peers_max = PEERS_MAX};

		og_dataplane_core_env(dp, i, &so.env);
		og_rand_system(&rands[i]);
		so.env.rand = &rands[i];
		if (og_stream_core_create(&cores[i], &so, now_ns()) < 0)
			return -1;
	}
	return 0;
}

static void destroy_cores(struct og_dht_view *view)
{
	for (uint16_t i = 1; i < nb_cores; i++)
		og_stream_core_destroy(cores[i]);
	og_cluster_core_destroy(core);
	og_dht_view_destroy(view);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"bootstrap", 1, NULL, 'b'},
		{"first", 0, NULL, 'f'}, {"seed", 1, NULL, 's'}, {"host", 1, NULL, 'h'},
		{"port", 1, NULL, 'p'}, {"firewalled", 0, NULL, 'w'}, {"driver", 1, NULL, 'd'},
		{"prefix", 1, NULL, 'x'}, {"gateway", 1, NULL, 'g'}, {"cores", 1, NULL, 'c'}, {0}};
	struct sock_filter steering[OG_STEER_PROGRAM_MAX];
	struct og_addr bootstrap[BOOTSTRAP_MAX];
	struct og_dataplane_opts dpo = {.driver = "socket",
		.bind = {{127, 0, 0, 1}, 0},
		.nb_endpoints = 2,
		.lcore_cpu = -1,
		.router = &bell,
		.event_buffers = 2048};
	struct og_cluster_core_opts co = {.bootstrap = bootstrap, .ephemeral = OG_CORE_NO};
	struct og_keypair keys;
	uint8_t seed[32];
	char err[256], text[OG_ADDR_TEXT_BYTES];
	bool first = false;
	int opt;

	if (og_crypto_init() < 0 || og_doorbell_init(&bell) < 0)
		return 1;
	og_rand_system(&rands[0]);
	og_rand_fill(&rands[0], seed, sizeof(seed));
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'b')
			co.nb_bootstrap = (uint32_t)parse_bootstrap(optarg, bootstrap);
		else if (opt == 'f')
			first = true;
		else if (opt == 's' && og_hex_decode(seed, 32, optarg, strlen(optarg)) != 0)
			return 2;
		else if (opt == 'h' && og_addr_parse(&dpo.bind, optarg) < 0)
			return 2;
		else if (opt == 'p')
			dpo.bind.port = (uint16_t)atoi(optarg);
		else if (opt == 'w')
			co.firewalled = OG_CORE_YES;
		else if (opt == 'd')
			dpo.driver = optarg;
		else if (opt == 'x')
			dpo.prefix_bits = (uint8_t)atoi(optarg);
		else if (opt == 'g' && og_addr_parse(&dpo.gateway, optarg) < 0)
			return 2;
		else if (opt == 'c')
			nb_cores = (uint16_t)OG_MIN(OG_MAX(atoi(optarg), 1), (int)OG_CORES_MAX);
		else if (opt == '?')
			return 2;
	}
	og_keypair_from_seed(&keys, seed);
	memcpy(own_key, keys.public_key, 32);
	dpo.nb_cores = nb_cores;
	dpo.steering = steering;
	dpo.nb_steering = og_steer_program(steering, nb_cores);
	if (og_dataplane_open(&dp, &dpo, err, sizeof(err)) < 0) {
		fprintf(stderr, "og_peer: %s\n", err);
		return 1;
	}
	og_dataplane_local_addr(dp, 0, &co.local[0]);
	og_dataplane_local_addr(dp, 1, &co.local[1]);
	og_dataplane_env(dp, &co.env);
	co.env.rand = &rands[0];
	co.keys = &keys;
	co.lan_addrs = &co.local[0];
	co.nb_lan_addrs = 1;
	if (first)
		co.public_addr = co.local[0];
	if (create_cores(&co) < 0)
		return 1;
	say(json_pack("{s:s, s:s, s:o}", "ev", "listening", "address",
		og_addr_format(&co.local[0], text), "key", hex(own_key, 32)));
	if (og_dataplane_start_cores(dp, cores) < 0)
		return 1;
	loop();
	og_dataplane_stop(dp);
	destroy_cores(co.view);
	og_dataplane_close(dp);
	og_doorbell_fini(&bell);
	return 0;
}
