/*
 * sim_hour.c: 30 nodes are a DHT for a virtual hour, while one of them dies and one comes back every
 * minute. Each minute two of six users meet on a new topic and exchange a line, and what one stores
 * another reads. Shows, for each seed, that nobody ever gets a wrong answer, that everybody meets, and
 * that hardly a value is missing.
 *
 *   sim_hour [first-seed]      OG_HOUR_SEEDS=n seeds (default 5), OG_SIM_MINUTES=n (default 60)
 */
#include "crypto/hash.h"
#include "tests/sim/sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DHT_NODES = 30, KEPT = 4, USERS = 6, WORD_BYTES = 24, VALUE_BYTES = 200 };

static const struct sim_link link_model = {0.01, 0.01, 0.02, 2 * OG_NS_PER_MS, 40 * OG_NS_PER_MS};

/* What a user has been told since it last looked. */
struct user {
	struct sim_node *node;
	bool joined, left, open, closed;
	uint8_t peer_key[32];
	uint32_t peer_slot, peer_gen;
	uint8_t text[WORD_BYTES];
	size_t text_bytes;
	bool has_value;
	int value_error;
	uint64_t value_seq;
	uint8_t value[VALUE_BYTES];
	size_t value_bytes;
	/* What it last stored under its own key. */
	uint64_t seq;
	uint8_t stored[VALUE_BYTES];
};

struct world {
	struct sim *sim;
	struct sim_node *nodes[DHT_NODES];
	struct user users[USERS];
	uint32_t meetings, values, missing;
	const char *failure;
};

static void on_event(struct sim_node *n, const struct og_msg *ev)
{
	struct user *u = n->user;

	switch (ev->type) {
	case OG_EV_JOINED:
		u->joined = true;
		break;
	case OG_EV_LEFT:
		u->left = true;
		break;
	case OG_EV_PEER_OPEN:
		u->open = true;
		u->closed = false;
		u->peer_slot = ev->slot;
		u->peer_gen = ev->gen;
		u->text_bytes = 0;
		memcpy(u->peer_key, ev->key, 32);
		break;
	case OG_EV_PEER_CLOSED:
		u->closed = u->open && ev->slot == u->peer_slot && ev->gen == u->peer_gen;
		break;
	case OG_EV_PEER_DATA: {
		size_t n_bytes = OG_MIN((size_t)ev->len_bytes, WORD_BYTES - u->text_bytes);

		memcpy(u->text + u->text_bytes, ev->data, n_bytes);
		u->text_bytes += n_bytes;
		break;
	}
	case OG_EV_VALUE:
		u->has_value = true;
		u->value_error = ev->flags;
		memcpy(&u->value_seq, ev->key, sizeof(u->value_seq));
		u->value_bytes = OG_MIN((size_t)ev->len_bytes, sizeof(u->value));
		if (u->value_bytes > 0)
			memcpy(u->value, ev->data, u->value_bytes);
		break;
	default:
		break;
	}
}

/* Runs until `*flag` or for at most `seconds`. */
static bool wait_for(struct world *w, const bool *flag, uint32_t seconds)
{
	uint64_t end = sim_now(w->sim) + seconds * OG_NS_PER_S;

	while (!*flag && sim_now(w->sim) < end)
		sim_run(w->sim, sim_now(w->sim) + 20 * OG_NS_PER_MS);
	return *flag;
}

static struct og_addr addr_of(uint32_t i)
{
	return (struct og_addr){{(uint8_t)(30 + i), (uint8_t)(1 + 5 * i), 9, 1}, 49737};
}

static struct sim_node *add(struct world *w, uint32_t i)
{
	struct og_addr bootstrap[2] = {addr_of(0), addr_of(1)};
	struct sim_node_opts o = {
		.addr = addr_of(i),
		.first = i == 0,
		.bootstrap = bootstrap,
		.nb_bootstrap = i == 0 ? 0 : 2,
		.peers_max = 16,
		.no_router = true,
	};

	return sim_add(w->sim, &o);
}

static void topic_command(struct user *u, uint16_t type, const uint8_t topic[32], uint16_t flags)
{
	struct og_msg m = {.type = type, .flags = flags};

	memcpy(m.key, topic, 32);
	sim_command(u->node, &m);
}

/* `a` announces a topic, `b` finds it there; `b` says a word. */
static const char *meet(struct world *w, struct user *a, struct user *b)
{
	uint8_t topic[32], word[WORD_BYTES];
	struct og_msg m = {.type = OG_CMD_WRITE, .len_bytes = WORD_BYTES, .data = word};
	uint64_t end;

	og_rand_fill(sim_rand(w->sim), topic, sizeof(topic));
	og_rand_fill(sim_rand(w->sim), word, sizeof(word));
	a->joined = a->open = a->left = b->open = b->left = false;
	topic_command(a, OG_CMD_JOIN, topic, OG_JOIN_SERVER);
	if (!wait_for(w, &a->joined, 30))
		return "a topic was not announced within 30 s";
	topic_command(b, OG_CMD_JOIN, topic, OG_JOIN_CLIENT);
	if (!wait_for(w, &b->open, 30) || !wait_for(w, &a->open, 30))
		return "two members did not meet within 30 s";
	if (memcmp(b->peer_key, a->node->keys.public_key, 32) != 0 ||
		memcmp(a->peer_key, b->node->keys.public_key, 32) != 0)
		return "somebody else answered";
	m.slot = b->peer_slot;
	m.gen = b->peer_gen;
	sim_command(b->node, &m);
	end = sim_now(w->sim) + 10 * OG_NS_PER_S;
	while (a->text_bytes < WORD_BYTES && sim_now(w->sim) < end)
		sim_run(w->sim, sim_now(w->sim) + 20 * OG_NS_PER_MS);
	if (a->text_bytes < WORD_BYTES)
		return "a word did not arrive within 10 s";
	if (memcmp(a->text, word, WORD_BYTES) != 0)
		return "another word arrived";
	topic_command(b, OG_CMD_LEAVE, topic, 0);
	topic_command(a, OG_CMD_LEAVE, topic, 0);
	if (!wait_for(w, &a->left, 30) || !wait_for(w, &b->left, 30))
		return "a topic was not left within 30 s";
	m = (struct og_msg){.type = OG_CMD_CLOSE, .slot = b->peer_slot, .gen = b->peer_gen};
	sim_command(b->node, &m);
	w->meetings++;
	return wait_for(w, &a->closed, 60) ? NULL : "a closed connection stayed for 60 s";
}

/* Runs one command for a value and waits for its end. */
static bool value_command(struct world *w, struct user *u, const struct og_msg *m)
{
	u->has_value = false;
	sim_command(u->node, m);
	return wait_for(w, &u->has_value, 30);
}

static const char *store_and_read(struct world *w, struct user *a, struct user *b, bool is_mutable)
{
	uint8_t body[8 + VALUE_BYTES];
	struct og_msg put = {
		.type = OG_CMD_PUT_IMMUTABLE, .len_bytes = VALUE_BYTES, .data = body + 8};
	struct og_msg get = {.type = OG_CMD_GET_IMMUTABLE};
	const uint64_t lowest = 0;

	og_rand_fill(sim_rand(w->sim), body, sizeof(body));
	if (is_mutable) {
		a->seq++;
		memcpy(body, &a->seq, sizeof(a->seq));
		memcpy(a->stored, body + 8, VALUE_BYTES);
		put = (struct og_msg){
			.type = OG_CMD_PUT_MUTABLE, .len_bytes = sizeof(body), .data = body};
		get = (struct og_msg){.type = OG_CMD_GET_MUTABLE,
			.len_bytes = sizeof(lowest),
			.data = (const uint8_t *)&lowest};
		memcpy(get.key, a->node->keys.public_key, 32);
	}
	if (!value_command(w, a, &put))
		return "a put had no end within 30 s";
	w->values++;
	if (a->value_error) {
		w->missing++;
		return NULL;
	}
	if (!is_mutable)
		og_hash_one(get.key, body + 8, VALUE_BYTES);
	if (!value_command(w, b, &get))
		return "a get had no end within 30 s";
	if (b->value_error) {
		w->missing++;
		return NULL;
	}
	if (b->value_bytes != VALUE_BYTES || memcmp(b->value, body + 8, VALUE_BYTES) != 0)
		return "a get returned another value";
	return is_mutable && b->value_seq != a->seq ? "a get returned another seq" : NULL;
}

/* One node dies; the one that died a minute ago comes back. */
static void churn(struct world *w)
{
	for (uint32_t i = KEPT; i < DHT_NODES; i++)
		if (!w->nodes[i]->alive)
			sim_restart(w->nodes[i]);
	sim_kill(w->nodes[KEPT + og_rand_below(sim_rand(w->sim), DHT_NODES - KEPT)]);
}

static void start(struct world *w)
{
	for (uint32_t i = 0; i < DHT_NODES; i++) {
		w->nodes[i] = add(w, i);
		sim_run(w->sim, sim_now(w->sim) + 300 * OG_NS_PER_MS);
	}
	for (uint32_t i = 0; i < USERS; i++) {
		w->users[i].node = add(w, DHT_NODES + i);
		w->users[i].node->user = &w->users[i];
		w->users[i].node->on_event = on_event;
	}
	sim_run(w->sim, sim_now(w->sim) + 10 * OG_NS_PER_S);
}

static void minute(struct world *w, uint32_t i)
{
	uint64_t end = sim_now(w->sim) + 60 * OG_NS_PER_S;
	struct user *a = &w->users[i % USERS], *b = &w->users[(i * 5 + 1) % USERS];

	if (a == b)
		b = &w->users[(i + 1) % USERS];
	churn(w);
	w->failure = meet(w, a, b);
	if (!w->failure)
		w->failure = store_and_read(w, a, b, false);
	if (!w->failure)
		w->failure = store_and_read(w, a, b, true);
	if (sim_now(w->sim) < end)
		sim_run(w->sim, end);
}

static bool run_seed(uint64_t seed, uint32_t minutes)
{
	struct world w = {.sim = sim_create(seed, &link_model)};

	start(&w);
	for (uint32_t i = 0; i < minutes && !w.failure; i++)
		minute(&w, i);
	if (!w.failure && w.missing > w.values / 20)
		w.failure = "more than one value of twenty was missing";
	printf("seed %llu: %.0f virtual minutes, %u meetings, %u values, %u missing%s%s\n",
		(unsigned long long)seed, (double)sim_now(w.sim) / (60.0 * OG_NS_PER_S), w.meetings,
		w.values, w.missing, w.failure ? ": " : "", w.failure ? w.failure : "");
	fflush(stdout);
	sim_destroy(w.sim);
	return !w.failure;
}

static uint32_t env_number(const char *name, uint32_t fallback)
{
	const char *text = getenv(name);

	return text && *text ? (uint32_t)strtoul(text, NULL, 10) : fallback;
}

int main(int argc, char **argv)
{
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	uint32_t seeds = argc > 1 ? 1 : env_number("OG_HOUR_SEEDS", 5);
	uint32_t minutes = env_number("OG_SIM_MINUTES", 60);
	int failed = 0;

	for (uint64_t seed = first; seed < first + seeds; seed++)
		failed += !run_seed(seed, minutes);
	return failed ? 1 : 0;
}
