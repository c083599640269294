/* Packets and behaviour recorded from the reference: tests/vectors/stream.json. */
#include "transport/udx.h"
#include "transport/udx_wire.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_BYTES = 16384, PACKETS_MAX = 64 };

static json_t *load(const char *section)
{
	json_error_t error;
	json_t *all = json_load_file(OG_VECTORS "/stream.json", 0, &error);
	json_t *part;

	cr_assert(all, "%s", error.text);
	part = json_incref(json_object_get(all, section));
	json_decref(all);
	cr_assert(part);
	return part;
}

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static uint32_t number_of(const json_t *o, const char *key)
{
	return (uint32_t)json_integer_value(json_object_get(o, key));
}

static size_t unhex(uint8_t *out, const char *hex)
{
	size_t n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++) {
		unsigned v;

		cr_assert_eq(sscanf(hex + 2 * i, "%2x", &v), 1);
		out[i] = (uint8_t)v;
	}
	return n;
}

/* The datagram of an entry; of long ones only the header is stored, the rest is 'a'. */
static uint16_t datagram_of(const json_t *e, uint8_t *out)
{
	const char *hex = text_of(e, "hex");
	uint32_t length = number_of(e, "length");

	memset(out, 'a', length);
	unhex(out, hex ? hex : text_of(e, "header_hex"));
	return (uint16_t)length;
}

/* "DATA|END 5+3 2 [6,8)": flags, sequence and payload, acknowledgement, blocks. */
static void describe(char *out, const uint8_t *p, size_t n)
{
	static const char *const names[] = {
		"DATA", "END", "SACK", "MESSAGE", "DESTROY", "HEARTBEAT"};
	struct og_udx_header h = {0};
	char *at = out;

	cr_assert(og_udx_decode(&h, p, n));
	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++) {
		if (h.flags >> i & 1)
			at += sprintf(at, "%s|", names[i]);
	}
	at += sprintf(at, " %u", h.seq);
	if (!(h.flags & OG_UDX_SACK))
		at += sprintf(at, "+%zu", n - OG_UDX_HEADER_BYTES - h.data_offset);
	at += sprintf(at, " %u", h.ack);
	for (uint32_t i = 0; i < og_udx_nb_blocks(&h, n); i++) {
		struct og_udx_block b = og_udx_block_at(p, i);

		at += sprintf(at, " [%u,%u)", b.first, b.end);
	}
}

static void describe_decoded(char *out, const json_t *d)
{
	char *at = out;
	size_t i;
	json_t *v;

	json_array_foreach(json_object_get(d, "flags"), i, v) at +=
		sprintf(at, "%s|", json_string_value(v));
	at += sprintf(at, " %u", number_of(d, "seq"));
	if (!json_object_get(d, "sacks"))
		at += sprintf(at, "+%u", number_of(d, "payload_length"));
	at += sprintf(at, " %u", number_of(d, "ack"));
	json_array_foreach(json_object_get(d, "sacks"), i, v) at +=
		sprintf(at, " [%u,%u)", (uint32_t)json_integer_value(json_array_get(v, 0)),
			(uint32_t)json_integer_value(json_array_get(v, 1)));
}

Test(udx_vectors, every_packet_decodes_and_encodes)
{
	json_t *scenarios = load("udx"), *scenario, *e;
	size_t i, j;

	json_array_foreach(scenarios, i, scenario)
	{
		json_array_foreach(json_object_get(scenario, "packets"), j, e)
		{
			const json_t *d = json_object_get(e, "decoded");
			uint8_t p[2048], again[OG_UDX_HEADER_BYTES];
			char got[1024], want[1024];
			struct og_udx_header h = {0};
			uint16_t n = datagram_of(e, p);

			describe(got, p, n);
			describe_decoded(want, d);
			cr_assert_str_eq(got, want);
			cr_assert(og_udx_decode(&h, p, n));
			cr_assert_eq(h.id, number_of(d, "stream_id"));
			cr_assert_eq(h.window, number_of(d, "recv_window"));
			cr_assert_eq(h.data_offset, number_of(d, "data_offset"));
			og_udx_encode(again, &h);
			cr_assert_eq(memcmp(again, p, sizeof(again)), 0);
		}
	}
	json_decref(scenarios);
}

/* ---- one stream whose peer is the recording ---- */

static const struct og_addr peer_addr = {{127, 0, 0, 1}, 2000};
static const struct og_addr other_addr = {{127, 0, 0, 1}, 3000};

struct side {
	struct og_tx tx; /* first */
	struct og_udx *udx;
	struct og_rand rand;
	uint32_t slot, id;
	uint64_t now_ns;
	bool closed;
	int reason;
	char *log; /* what happened, in the words of the vectors */
	char text[TEXT_BYTES];
	uint8_t out[2048];
	char sent[PACKETS_MAX][512];
	uint64_t sent_at_ns[PACKETS_MAX];
	uint32_t nb_sent;
};

static uint8_t *side_reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	*cap_bytes = 1472;
	return ((struct side *)tx)->out;
}

static void side_commit(
	struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl, uint16_t len)
{
	struct side *s = (struct side *)tx;

	(void)endpoint;
	(void)ttl;
	cr_assert(og_addr_eq(dst, &peer_addr), "answers go to the known address");
	cr_assert_eq(og_load_le32(s->out + 4), 2002);
	cr_assert_eq(og_load_le32(s->out + 8), OG_UDX_WINDOW_BYTES);
	cr_assert_lt(s->nb_sent, PACKETS_MAX);
	describe(s->sent[s->nb_sent], s->out, len);
	s->log += sprintf(s->log, "answer %s; ", s->sent[s->nb_sent]);
	s->sent_at_ns[s->nb_sent++] = s->now_ns;
}

static void log_value(struct side *s, const char *event, const uint8_t *data, size_t n)
{
	if (n > 64)
		s->log += sprintf(s->log, "%s %zu bytes; ", event, n);
	else
		s->log += sprintf(s->log, "%s %.*s; ", event, (int)n, (const char *)data);
}

static size_t side_data(void *ctx, uint32_t slot, uint8_t *data, size_t n)
{
	(void)slot;
	log_value(ctx, "data", data, n);
	return n;
}

static void side_message(void *ctx, uint32_t slot, const uint8_t *data, size_t n)
{
	(void)slot;
	log_value(ctx, "message", data, n);
}

static void side_end(void *ctx, uint32_t slot)
{
	struct side *s = ctx;

	(void)slot;
	s->log += sprintf(s->log, "end; ");
}

static void side_closed(void *ctx, uint32_t slot, uint32_t gen, int reason)
{
	struct side *s = ctx;

	(void)slot;
	(void)gen;
	s->closed = true;
	s->reason = reason;
	if (reason == -ECONNRESET)
		s->log += sprintf(s->log, "error ECONNRESET; ");
}

static const struct og_udx_ops side_ops = {
	.data = side_data, .message = side_message, .end = side_end, .closed = side_closed};

static struct side *side_new(void)
{
	struct side *s = calloc(1, sizeof(*s));
	struct og_udx_opts opts = {
		.nb_streams = 1,
		.nb_packets = 8192,
		.tx = &s->tx,
		.rand = &s->rand,
		.ops = &side_ops,
		.ctx = s,
	};

	s->tx = (struct og_tx){side_reserve, side_commit};
	s->log = s->text;
	s->now_ns = 1000 * OG_NS_PER_S;
	og_rand_seeded(&s->rand, 1);
	cr_assert_eq(og_udx_create(&s->udx, &opts), 0);
	cr_assert_eq(og_udx_open(s->udx, &s->slot, &s->id, s->now_ns), 0);
	og_udx_connect(s->udx, s->slot, 2002, 0, &peer_addr, s->now_ns);
	return s;
}

static void side_free(struct side *s)
{
	og_udx_destroy(s->udx);
	free(s);
}

/* A recorded packet, its id (that of the recorded receiver) replaced by ours. */
static void feed(struct side *s, const json_t *e, uint32_t recorded_id)
{
	const char *from = text_of(e, "from");
	uint8_t p[2304];
	uint16_t n = datagram_of(e, p);

	if (n >= 8 && og_load_le32(p + 4) == recorded_id)
		og_store_le32(p + 4, s->id);
	if (og_udx_input(s->udx, 0, from && !strcmp(from, "other") ? &other_addr : &peer_addr, p, n,
		    s->now_ns) == -ENOENT)
		s->log += sprintf(s->log, "socket-message %u; ", n);
	og_udx_flush(s->udx, s->now_ns);
}

/* Lets time pass up to a moment after the start of the recording. */
static void run_until(struct side *s, double ms)
{
	uint64_t until = 1000 * OG_NS_PER_S + (uint64_t)(ms * 1e6);

	while (s->now_ns < until) {
		uint64_t next = og_udx_tick(s->udx, s->now_ns);

		s->now_ns = OG_MIN(OG_MAX(next, s->now_ns + 1000), until);
	}
	og_udx_tick(s->udx, s->now_ns);
}

/* The reference's own limits, where ours are others: tests/vectors/exceptions.md. */
static bool differs_on_purpose(const char *name)
{
	return strcmp(name, "data far ahead is kept and acknowledged selectively") == 0 ||
	       strcmp(name, "datagram of 2100 bytes is cut at 2048 and acknowledged") == 0;
}

static char *describe_event(char *at, const json_t *event)
{
	const char *name = text_of(event, "event");
	const char *value = text_of(event, "value");
	char packet[512];

	if (strcmp(name, "sent") == 0)
		return at;
	if (strcmp(name, "answer") == 0) {
		describe_decoded(packet, json_object_get(event, "decoded"));
		return at + sprintf(at, "answer %s; ", packet);
	}
	if (strcmp(name, "socket-message") == 0)
		return at + sprintf(at, "socket-message %u; ", number_of(event, "bytes"));
	if (value)
		return at + sprintf(at, "%s %s; ", name, value);
	return at + sprintf(at, "%s; ", name);
}

Test(udx_vectors, hand_made_packets_are_taken_as_the_reference_takes_them)
{
	json_t *cases = load("udx_receiver_behaviour"), *c, *e;
	size_t i, j;

	json_array_foreach(cases, i, c)
	{
		struct side *s;
		char want[TEXT_BYTES] = "", *at = want;

		if (differs_on_purpose(text_of(c, "case")))
			continue;
		s = side_new();
		json_array_foreach(json_object_get(c, "sent"), j, e) feed(s, e, 1001);
		json_array_foreach(json_object_get(c, "events"), j, e) at = describe_event(at, e);
		cr_assert_str_eq(
			s->text, want, "%s:\n got %s\nwant %s", text_of(c, "case"), s->text, want);
		side_free(s);
	}
	json_decref(cases);
}

static json_t *scenario_named(json_t *scenarios, const char *name)
{
	json_t *v;
	size_t i;

	json_array_foreach(scenarios, i, v)
	{
		if (strcmp(text_of(v, "name"), name) == 0)
			return v;
	}
	cr_assert(false, "no scenario %s", name);
	return NULL;
}

/*
 * Plays one side of a recording: gives it what the other side sent, at its time, and has the
 * application do its part just before the recorded packet that shows it.
 */
struct act {
	const char *before; /* the packet of ours that the next one of `writes` causes */
	const char *write;
	bool end;
	bool message;
	bool destroy;
	bool heartbeat;
};

static void perform(struct side *s, const struct act *act)
{
	if (act->write && act->message)
		cr_assert_eq(
			og_udx_message(s->udx, s->slot, act->write, strlen(act->write), s->now_ns),
			0);
	else if (act->write)
		cr_assert_eq(
			og_udx_write(s->udx, s->slot, act->write, strlen(act->write), s->now_ns),
			strlen(act->write));
	if (act->heartbeat)
		og_udx_heartbeat(s->udx, s->slot, s->now_ns);
	if (act->end)
		og_udx_end(s->udx, s->slot, s->now_ns);
	if (act->destroy)
		og_udx_close(s->udx, s->slot, s->now_ns);
}

static void play(const char *name, const char *mine, const struct act *acts, size_t nb_acts)
{
	json_t *scenarios = load("udx"), *scenario = scenario_named(scenarios, name), *e;
	struct side *s = side_new();
	uint32_t nb_seen = 0;
	size_t i, at = 0;

	if (strcmp(name, "sequence-wrap") == 0) {
		if (*mine == 'a')
			og_udx_set_sequences(s->udx, s->slot, 0xfffffffe, 0);
		else
			og_udx_set_sequences(s->udx, s->slot, 0, 0xfffffffe);
	}
	json_array_foreach(json_object_get(scenario, "packets"), i, e)
	{
		const char *dir = text_of(e, "dir");
		char want[512];

		run_until(s, json_number_value(json_object_get(e, "t")));
		if (strncmp(dir, mine, 1) != 0) {
			if (!json_object_get(e, "dropped_by_proxy"))
				feed(s, e, *mine == 'a' ? 1001 : 2002);
			continue;
		}
		describe_decoded(want, json_object_get(e, "decoded"));
		if (at < nb_acts && strcmp(want, acts[at].before) == 0) {
			perform(s, &acts[at++]);
			og_udx_tick(s->udx, s->now_ns);
		}
		cr_assert_lt(nb_seen, s->nb_sent, "%s: nothing sent for %s", name, want);
		cr_assert_str_eq(s->sent[nb_seen], want, "%s, packet %zu", name, i);
		nb_seen++;
	}
	cr_assert_eq(at, nb_acts);
	cr_assert_eq(nb_seen, s->nb_sent, "%s: also sent %s", name, s->sent[nb_seen]);
	side_free(s);
	json_decref(scenarios);
}

#define PLAY(name, mine, ...)                                                                      \
	do {                                                                                       \
		const struct act acts[] = {__VA_ARGS__};                                           \
		play(name, mine, acts, OG_ARRAY_LEN(acts));                                        \
	} while (0)

Test(udx_vectors, a_stream_sends_what_the_reference_sends)
{
	PLAY("data-and-half-close", "a", {"DATA| 0+5 0", .write = "hello"},
		{"END| 1+0 1", .end = true});
	PLAY("data-and-half-close", "b", {"DATA| 0+8 1", .write = "re:hello"},
		{"END| 1+0 2", .end = true});
	PLAY("data-with-end", "a", {"DATA|END| 0+5 0", .write = "hello", .end = true});
	PLAY("data-with-end", "b", {"END| 0+0 1", .end = true});
	PLAY("coalesced-writes", "a", {"DATA| 0+10 0", .write = "w0w1w2w3w4"});
	PLAY("message", "a", {"MESSAGE| 0+2 0", .write = "hi", .message = true},
		{"MESSAGE| 0+0 0", .write = "", .message = true}, {"DATA| 0+1 0", .write = "x"},
		{"MESSAGE| 1+5 0", .write = "after", .message = true});
	PLAY("destroy", "a", {"DATA| 0+1 0", .write = "x"}, {"DESTROY| 1+0 1", .destroy = true});
	PLAY("destroy", "b", {"DATA| 0+1 1", .write = "y"});
	PLAY("heartbeat", "a", {"HEARTBEAT| 0+0 0", .heartbeat = true},
		{"HEARTBEAT| 0+0 0", .heartbeat = true}, {"HEARTBEAT| 0+0 0", .heartbeat = true});
	PLAY("sequence-wrap", "a", {"DATA| 4294967294+2 0", .write = "w0"},
		{"DATA| 4294967295+2 0", .write = "w1"}, {"DATA| 0+2 0", .write = "w2"},
		{"DATA| 1+2 0", .write = "w3"});
}

static void play_receiver(const char *name, const char *mine)
{
	play(name, mine, NULL, 0);
}

Test(udx_vectors, a_receiver_answers_as_the_reference_does)
{
	play_receiver("coalesced-writes", "b");
	play_receiver("one-loss-and-sack", "b");
	play_receiver("three-losses-and-sack-blocks", "b");
	play_receiver("heartbeat", "b");
	play_receiver("sequence-wrap", "b");
	play_receiver("tail-loss-probe", "b");
	PLAY("end-before-data", "b", {"END| 0+0 3", .end = true});
}

/* Times of our packets that look like `what`, in ms after the first of them. */
static uint32_t times_of(const struct side *s, const char *what, uint32_t ms[PACKETS_MAX])
{
	uint32_t nb = 0;
	uint64_t first = 0;

	for (uint32_t i = 0; i < s->nb_sent; i++) {
		if (strcmp(s->sent[i], what) != 0)
			continue;
		if (nb == 0)
			first = s->sent_at_ns[i];
		ms[nb++] = (uint32_t)((s->sent_at_ns[i] - first) / OG_NS_PER_MS);
	}
	return nb;
}

Test(udx_vectors, time_outs_come_when_those_of_the_reference_do)
{
	static const uint32_t want[] = {0, 1000, 3000, 5000, 7000, 9000, 11000};
	json_t *scenarios = load("udx");
	json_t *packets =
		json_object_get(scenario_named(scenarios, "retransmission-timeouts"), "packets");
	struct side *s = side_new();
	uint32_t ms[PACKETS_MAX], nb;

	perform(s, &(struct act){.write = "first"});
	run_until(s, 0.1);
	feed(s, json_array_get(packets, 1), 1001);
	run_until(s, 100);
	perform(s, &(struct act){.write = "second"});
	run_until(s, 14000);
	nb = times_of(s, "DATA| 1+6 0", ms);
	/* The tail-loss probe comes in between, some ms after the first. */
	cr_assert_eq(nb, 8);
	cr_assert_leq(ms[1], 5);
	for (size_t i = 1; i < OG_ARRAY_LEN(want); i++)
		cr_assert_leq(ms[i + 1] - want[i], 10, "time-out %zu at %u", i, ms[i + 1]);
	cr_assert(s->closed);
	cr_assert_eq(s->reason, -ETIMEDOUT);
	side_free(s);
	json_decref(scenarios);
}

Test(udx_vectors, a_closed_window_is_probed_when_the_reference_probes_it)
{
	static const uint32_t want[] = {0, 1000, 3000, 5000};
	json_t *scenarios = load("udx"), *e;
	json_t *packets = json_object_get(scenario_named(scenarios, "zero-window"), "packets");
	struct side *s = side_new();
	uint32_t ms[PACKETS_MAX], nb;
	size_t i;

	perform(s, &(struct act){.write = "first"});
	json_array_foreach(packets, i, e)
	{
		run_until(s, json_number_value(json_object_get(e, "t")) + 5);
		if (strcmp(text_of(e, "dir"), "peer>a") == 0)
			feed(s, e, 1001);
		if (i == 1) {
			run_until(s, 50);
			perform(s, &(struct act){.write = "second"});
		}
	}
	nb = times_of(s, "HEARTBEAT| 1+0 0", ms);
	cr_assert_eq(nb, OG_ARRAY_LEN(want));
	for (i = 0; i < nb; i++)
		cr_assert_leq(ms[i] - want[i], 10, "probe %zu at %u", i, ms[i]);
	cr_assert_eq(times_of(s, "DATA| 1+6 0", ms), 1);
	side_free(s);
	json_decref(scenarios);
}

Test(udx_vectors, a_lost_tail_is_probed_like_the_reference_probes_it)
{
	json_t *scenarios = load("udx"), *e;
	json_t *packets = json_object_get(scenario_named(scenarios, "tail-loss-probe"), "packets");
	static const char *const writes[] = {"one", "two", "three"};
	struct side *s = side_new();
	uint32_t ms[PACKETS_MAX];
	uint32_t nb_writes = 0;
	size_t i;

	json_array_foreach(packets, i, e)
	{
		run_until(s, json_number_value(json_object_get(e, "t")));
		if (strcmp(text_of(e, "dir"), "b>a") == 0)
			feed(s, e, 1001);
		else if (nb_writes < OG_ARRAY_LEN(writes))
			perform(s, &(struct act){.write = writes[nb_writes++]});
	}
	cr_assert_eq(times_of(s, "DATA| 2+5 0", ms), 2);
	cr_assert(ms[1] >= 40 && ms[1] <= 90, "%u", ms[1]);
	side_free(s);
	json_decref(scenarios);
}

/* The recording ends with an error; one that has consumed the peer's end may close cleanly. */
Test(udx_vectors, a_lost_last_acknowledgement_ends_cleanly)
{
	json_t *scenarios = load("udx");
	json_t *packets = json_object_get(scenario_named(scenarios, "lost-last-ack"), "packets");
	struct side *s = side_new();
	uint32_t ms[PACKETS_MAX];

	feed(s, json_array_get(packets, 0), 2002);
	perform(s, &(struct act){.end = true});
	run_until(s, 0.2);
	feed(s, json_array_get(packets, 3), 2002);
	run_until(s, 14000);
	cr_assert_geq(times_of(s, "END| 0+0 1", ms), 7);
	cr_assert(s->closed);
	cr_assert_eq(s->reason, 0);
	side_free(s);
	json_decref(scenarios);
}
