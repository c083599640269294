/*
 * Routers joined by hand: what one writes, the other reads. The engine is a function of the test.
 */
#include "base/metrics.h"
#include "cluster/core.h"
#include "cluster/message.h"
#include "cluster/router.h"
#include "crypto/hash.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SLOT = 3, GEN = 7, MS = 1000000 };

struct node {
	struct og_router *r;
	struct node *peer; /* connected at (SLOT, GEN) */
	struct og_rand rand;
	char wire[1 << 20]; /* written, not yet read by the peer */
	size_t wire_bytes;
	struct og_infer_request *running[32];
	int nb_running, nb_cancelled, infer_error;
	char text[4096];
	size_t text_bytes;
	int finals, error, watch, closes;
	struct og_answer last;
	uint32_t logprobs;
	char node_name[64], message[200];
	uint64_t now;
};

static int on_command(void *ctx, const struct og_msg *cmd)
{
	struct node *n = ctx;

	if (cmd->type == OG_CMD_WRITE) {
		memcpy(n->wire + n->wire_bytes, cmd->data, cmd->len_bytes);
		n->wire_bytes += cmd->len_bytes;
	} else if (cmd->type == OG_CMD_WATCH) {
		n->watch = (int)cmd->arg;
	} else if (cmd->type == OG_CMD_CLOSE) {
		n->closes++;
	}
	return 0;
}

static int on_infer(void *ctx, uint32_t engine, struct og_infer_request *req)
{
	struct node *n = ctx;

	if (n->infer_error)
		return n->infer_error;
	n->running[n->nb_running++] = req;
	return 0;
}

static void on_infer_cancel(void *ctx, uint32_t engine, uint64_t id)
{
	struct node *n = ctx;

	n->nb_cancelled++;
}

static void on_infer_credit(void *ctx, uint32_t engine, uint64_t id, uint32_t credits)
{
}

static void on_answer(void *ctx, const struct og_answer *a)
{
	struct node *n = ctx;

	if (a->type == OG_ANSWER_LOGPROB) {
		n->logprobs++;
		return;
	}
	if (a->type == OG_ANSWER_TEXT) {
		memcpy(n->text + n->text_bytes, a->text, a->text_bytes);
		n->text_bytes += a->text_bytes;
		return;
	}
	n->finals++;
	n->last = *a;
	n->error = a->type == OG_ANSWER_ERROR ? a->error : 0;
	snprintf(n->node_name, sizeof(n->node_name), "%s", a->node_name);
	snprintf(n->message, sizeof(n->message), "%s", a->message ? a->message : "");
}

static struct node *node_new(const char *name, const char *model)
{
	struct node *n = calloc(1, sizeof(*n));
	uint8_t key[32];
	struct og_router_model m = {.name = model};
	struct og_router_opts o = {
		.env = {n, on_command, on_infer, on_infer_cancel, on_infer_credit, on_answer,
			&n->rand},
		.node_name = name,
		.public_key = key,
		.models = &m,
		.nb_models = model ? 1 : 0,
	};

	memset(key, name[0], sizeof(key));
	og_rand_seeded(&n->rand, (uint64_t)name[0]);
	n->now = 100ull * 1000 * MS; /* past the grace of a start */
	cr_assert_eq(og_router_create(&n->r, &o, 1), 0);
	return n;
}

static void node_free(struct node *n)
{
	for (int i = 0; i < n->nb_running; i++)
		og_infer_request_free(n->running[i]);
	og_router_destroy(n->r);
	free(n);
}

static void shuttle(struct node *n)
{
	for (bool moved = true; moved;) {
		moved = false;
		for (struct node *from = n;; from = from->peer) {
			struct node *to = from->peer;

			if (from->wire_bytes > 0 && to) {
				char *copy = malloc(from->wire_bytes);
				struct og_msg ev = {
					.type = OG_EV_PEER_DATA, .slot = SLOT, .gen = GEN};

				memcpy(copy, from->wire, from->wire_bytes);
				ev.data = (uint8_t *)copy;
				ev.len_bytes = (uint32_t)from->wire_bytes;
				from->wire_bytes = 0;
				og_router_core_event(to->r, &ev, to->now);
				free(copy);
				moved = true;
			}
			if (!to || to == n)
				break;
		}
	}
}

static void connect_nodes(struct node *a, struct node *b)
{
	uint8_t addr[6] = {127, 0, 0, 1, 1, 2};
	struct og_msg ev = {
		.type = OG_EV_PEER_OPEN, .slot = SLOT, .gen = GEN, .data = addr, .len_bytes = 6};

	a->peer = b;
	b->peer = a;
	memset(ev.key, 'b', 32);
	og_router_core_event(a->r, &ev, a->now);
	memset(ev.key, 'a', 32);
	og_router_core_event(b->r, &ev, b->now);
	shuttle(a);
}

/* A peer that is no og-node: lines go in by hand. */
static void open_raw(struct node *n)
{
	struct og_msg ev = {.type = OG_EV_PEER_OPEN, .slot = SLOT, .gen = GEN};

	memset(ev.key, 'x', 32);
	og_router_core_event(n->r, &ev, n->now);
	n->wire_bytes = 0;
}

static void say(struct node *n, const char *line)
{
	struct og_msg ev = {.type = OG_EV_PEER_DATA, .slot = SLOT, .gen = GEN};

	ev.data = (const uint8_t *)line;
	ev.len_bytes = (uint32_t)strlen(line);
	og_router_core_event(n->r, &ev, n->now);
}

static void close_peer(struct node *n)
{
	struct og_msg ev = {.type = OG_EV_PEER_CLOSED, .slot = SLOT, .gen = GEN};

	og_router_core_event(n->r, &ev, n->now);
}

static void ask(struct node *n, const char *model, bool stream)
{
	struct og_ask *a = calloc(1, sizeof(*a));
	struct og_infer_message m = {"user", "What is 2+2?", 12};
	struct og_infer_params p;

	og_infer_params_default(&p);
	a->face = 5;
	a->stream = stream;
	snprintf(a->model, sizeof(a->model), "%s", model);
	cr_assert_eq(og_infer_request_create(&a->req, 0, &p, false, &m, 1), 0);
	og_router_ask(n->r, a, n->now);
}

static void engine_says(struct node *n, int i, const char *text, bool done)
{
	struct og_infer_event ev = {.id = n->running[i]->id, .type = OG_INFER_TEXT};

	ev.text_bytes = (uint16_t)strlen(text);
	memcpy(ev.text, text, ev.text_bytes);
	if (ev.text_bytes > 0)
		og_router_engine_event(n->r, 0, &ev, n->now);
	ev.type = OG_INFER_DONE;
	ev.completion_tokens = 3;
	if (done)
		og_router_engine_event(n->r, 0, &ev, n->now);
}

Test(router, a_member_answers_for_a_node_without_a_model)
{
	struct node *a = node_new("a", NULL), *b = node_new("b", "demo");

	connect_nodes(a, b);
	ask(a, "", false);
	cr_assert_eq(a->watch, 1);
	shuttle(a);
	cr_assert_eq(b->nb_running, 1);
	cr_assert_str_eq(b->running[0]->messages[0].content, "What is 2+2?");
	engine_says(b, 0, "4", true);
	shuttle(a);
	cr_assert_eq(a->finals, 1);
	cr_assert_eq(a->error, 0);
	cr_assert_str_eq(a->text, "4");
	cr_assert_str_eq(a->node_name, "b");
	cr_assert_eq(a->last.completion_tokens, 3);
	cr_assert_eq(a->watch, 0);
	node_free(a);
	node_free(b);
}

Test(router, chunks_stream_and_nothing_comes_twice)
{
	struct node *a = node_new("a", NULL), *b = node_new("b", "demo");

	connect_nodes(a, b);
	ask(a, "demo", true);
	shuttle(a);
	engine_says(b, 0, "one ", false);
	shuttle(a);
	cr_assert_str_eq(a->text, "one ");
	engine_says(b, 0, "two", true);
	shuttle(a);
	cr_assert_str_eq(a->text, "one two");
	cr_assert_eq(a->finals, 1);
	node_free(a);
	node_free(b);
}

Test(router, the_local_model_comes_first)
{
	struct node *a = node_new("a", "demo"), *b = node_new("b", "demo");

	connect_nodes(a, b);
	ask(a, "demo", false);
	cr_assert_eq(a->nb_running, 1);
	engine_says(a, 0, "4", true);
	cr_assert_str_eq(a->text, "4");
	cr_assert_str_eq(a->node_name, "a");
	node_free(a);
	node_free(b);
}

Test(router, a_busy_local_model_sends_it_to_a_member)
{
	struct node *a = node_new("a", "demo"), *b = node_new("b", "demo");

	a->infer_error = -EBUSY;
	connect_nodes(a, b);
	ask(a, "demo", false);
	shuttle(a);
	cr_assert_eq(b->nb_running, 1);
	engine_says(b, 0, "4", true);
	shuttle(a);
	cr_assert_str_eq(a->node_name, "b");
	node_free(a);
	node_free(b);
}

Test(router, an_unlisted_model_is_an_error_at_once)
{
	struct node *a = node_new("a", "demo"), *b = node_new("b", "other");

	connect_nodes(a, b);
	ask(a, "nope", false);
	cr_assert_eq(a->finals, 1);
	cr_assert_eq(a->error, -ENOENT);
	node_free(a);
	node_free(b);
}

Test(router, a_lost_member_before_any_text_ends_in_one_error)
{
	struct node *a = node_new("a", NULL), *b = node_new("b", "demo");

	connect_nodes(a, b);
	ask(a, "", false);
	shuttle(a);
	close_peer(a);
	cr_assert_eq(a->finals, 0); /* another member may just be connecting */
	a->now += 3000ull * MS;
	og_router_tick(a->r, a->now);
	cr_assert_eq(a->finals, 1);
	cr_assert_eq(a->error, -EIO);
	og_router_tick(a->r, a->now + 1000000ull * MS);
	cr_assert_eq(a->finals, 1);
	/* The server stops work whose requester is gone. */
	close_peer(b);
	cr_assert_eq(b->nb_cancelled, 1);
	node_free(a);
	node_free(b);
}

Test(router, after_delivered_text_it_is_not_tried_elsewhere)
{
	struct node *a = node_new("a", NULL), *b = node_new("b", "demo");

	connect_nodes(a, b);
	ask(a, "", true);
	shuttle(a);
	engine_says(b, 0, "par", false);
	shuttle(a);
	close_peer(a);
	cr_assert_eq(a->finals, 1);
	cr_assert_eq(a->error, -EIO);
	node_free(a);
	node_free(b);
}

Test(router, the_deadline_ends_what_nobody_answers)
{
	struct node *a = node_new("a", NULL), *b = node_new("b", "demo");

	connect_nodes(a, b);
	ask(a, "", false);
	shuttle(a);
	cr_assert_leq(og_router_tick(a->r, a->now), a->now + 120000ull * MS);
	a->now += 120000ull * MS;
	og_router_tick(a->r, a->now);
	cr_assert_eq(a->finals, 1);
	cr_assert_eq(a->error, -ETIMEDOUT);
	shuttle(a); /* the cancel */
	cr_assert_eq(b->nb_cancelled, 1);
	node_free(a);
	node_free(b);
}

Test(router, an_old_peer_is_asked_plainly_after_a_short_wait)
{
	struct node *a = node_new("a", NULL);
	json_t *o;

	open_raw(a);
	ask(a, "", false);
	cr_assert_eq(a->wire_bytes, 0); /* it may still say what it serves */
	a->now += 800ull * MS;
	og_router_tick(a->r, a->now);
	cr_assert_gt(a->wire_bytes, 0);
	o = json_loadb(a->wire, a->wire_bytes - 1, 0, NULL);
	cr_assert_str_eq(json_string_value(json_object_get(o, "prompt")), "What is 2+2?");
	char line[200];
	snprintf(line, sizeof(line),
		"{\"type\":\"inference_response\",\"request_id\":\"%s\",\"response\":\"[echo] "
		"hi\"}\n",
		json_string_value(json_object_get(o, "request_id")));
	json_decref(o);
	say(a, line);
	cr_assert_eq(a->finals, 1);
	cr_assert_str_eq(a->text, "[echo] hi");
	say(a, line); /* a duplicate is ignored */
	cr_assert_eq(a->finals, 1);
	node_free(a);
}

Test(router, a_plain_request_is_answered_with_its_own_id)
{
	struct node *b = node_new("b", "demo");
	static const char req[] = "{\"type\":\"inference_request\",\"request_id\":1.0,\"prompt\":"
				  "\"hi\",\"model\":\"demo\"}\n";

	open_raw(b);
	say(b, req);
	say(b, req); /* still running: not started again */
	cr_assert_eq(b->nb_running, 1);
	engine_says(b, 0, "yo", true);
	b->wire[b->wire_bytes] = '\0';
	cr_assert_not_null(strstr(b->wire, "\"request_id\":1.0,"));
	cr_assert_not_null(strstr(b->wire, "\"response\":\"yo\""));
	node_free(b);
}

Test(router, a_bystander_leaves_plain_requests_unanswered)
{
	struct node *b = node_new("b", NULL);

	open_raw(b);
	say(b, "{\"type\":\"inference_request\",\"request_id\":\"r\",\"prompt\":\"hi\"}\n");
	cr_assert_eq(b->wire_bytes, 0);
	/* An og-node asked us alone and must be told. */
	say(b, "{\"type\":\"inference_request\",\"request_id\":\"r\",\"prompt\":\"hi\",\"og\":{"
	       "\"v\":1}}\n");
	b->wire[b->wire_bytes] = '\0';
	cr_assert_not_null(strstr(b->wire, "[error] "));
	node_free(b);
}

Test(router, requests_per_member_are_bounded)
{
	struct node *b = node_new("b", "demo");
	char line[200];

	open_raw(b);
	for (int i = 0; i < 25; i++) {
		snprintf(line, sizeof(line),
			"{\"type\":\"inference_request\",\"request_id\":%d,\"prompt\":\"hi\"}\n",
			i);
		say(b, line);
	}
	cr_assert_eq(b->nb_running, 20);
	b->wire[b->wire_bytes] = '\0';
	cr_assert_not_null(strstr(b->wire, "[error] busy"));
	node_free(b);
}

Test(router, nonsense_lines_change_nothing)
{
	struct node *b = node_new("b", "demo");

	open_raw(b);
	say(b, "\n\r\n{\n[]\n{\"type\":5}\n{\"type\":\"inference_request\"}\n");
	say(b, "{\"type\":\"inference_request\",\"request_id\":null,\"prompt\":\"hi\"}\n");
	say(b, "{\"type\":\"peer_hello\",\"node_name\":5,\"clusters\":{},\"supported_models\":[5,"
	       "\"\"]}\n");
	cr_assert_eq(b->nb_running, 0);
	cr_assert_eq(b->wire_bytes, 0);
	say(b, "{\"type\":\"inference_request\",\"request_id\":1,\"prompt\":7}\n");
	b->wire[b->wire_bytes] = '\0';
	cr_assert_not_null(strstr(b->wire, "[error] "));
	node_free(b);
}

Test(router, a_face_that_went_away_hears_nothing_more_but_the_end)
{
	struct node *a = node_new("a", "demo");

	ask(a, "", true);
	og_router_cancel(a->r, 5, a->now);
	cr_assert_eq(a->nb_cancelled, 1);
	cr_assert_eq(a->finals, 1);
	engine_says(a, 0, "late", true);
	cr_assert_eq(a->finals, 1);
	cr_assert_eq(a->text_bytes, 0);
	node_free(a);
}

Test(router, stopping_answers_everyone)
{
	struct node *a = node_new("a", "demo");

	ask(a, "", true);
	og_router_stop(a->r, a->now);
	cr_assert_eq(a->finals, 1);
	cr_assert_eq(a->error, -ECANCELED);
	ask(a, "", true);
	cr_assert_eq(a->finals, 2);
	node_free(a);
}

static void ask_for_logprobs(struct node *n)
{
	struct og_ask *a = calloc(1, sizeof(*a));
	struct og_infer_message m = {"user", "What is 2+2?", 12};
	struct og_infer_params p;

	og_infer_params_default(&p);
	p.logprobs = true;
	a->face = 5;
	cr_assert_eq(og_infer_request_create(&a->req, 0, &p, false, &m, 1), 0);
	og_router_ask(n->r, a, n->now);
}

Test(router, log_probabilities_come_from_a_local_engine_or_not_at_all)
{
	struct node *a = node_new("a", NULL), *b = node_new("b", "demo");
	struct og_infer_event ev = {.type = OG_INFER_LOGPROB, .logprob = -1};

	connect_nodes(a, b);
	ask_for_logprobs(a);
	cr_expect_eq(a->finals, 1);
	cr_expect_eq(a->error, -EOPNOTSUPP);
	ask_for_logprobs(b);
	cr_assert_eq(b->nb_running, 1);
	ev.id = b->running[0]->id;
	og_router_engine_event(b->r, 0, &ev, b->now);
	engine_says(b, 0, "4", true);
	cr_expect_eq(b->logprobs, 1);
	cr_expect_eq(b->finals, 1);
	cr_expect_eq(b->error, 0);
	node_free(a);
	node_free(b);
}

/* Member `key` in `slot`, by hand; `hello` is its first line, or NULL. */
static void open_member(struct node *n, uint32_t slot, uint8_t key, const char *hello)
{
	struct og_msg ev = {.type = OG_EV_PEER_OPEN, .slot = slot, .gen = GEN};

	memset(ev.key, key, 32);
	og_router_core_event(n->r, &ev, n->now);
	n->wire_bytes = 0;
	if (!hello)
		return;
	ev = (struct og_msg){.type = OG_EV_PEER_DATA, .slot = slot, .gen = GEN};
	ev.data = (const uint8_t *)hello;
	ev.len_bytes = (uint32_t)strlen(hello);
	og_router_core_event(n->r, &ev, n->now);
}

static const json_t *row(const json_t *list, size_t i, const char *name)
{
	return json_object_get(json_array_get(list, i), name);
}

Test(router, who_is_eligible_comes_in_the_order_of_asking)
{
	struct node *n = node_new("n", NULL);
	json_t *list, *gauge;

	open_member(n, 0, 1, NULL); /* will be silent */
	open_member(n, 1, 2,
		"{\"type\":\"peer_hello\",\"node_name\":\"busy\",\"og\":{\"models\":[\"m\"]}}\n"
		"{\"type\":\"peer_status\",\"load\":2,\"queue\":1,\"kv_free\":7}\n");
	open_member(n, 2, 3,
		"{\"type\":\"peer_hello\",\"node_name\":\"other\",\"og\":{\"models\":[\"x\"]}}\n");
	open_member(n, 3, 4,
		"{\"type\":\"peer_hello\",\"node_name\":\"idle\",\"og\":{\"models\":[\"m\"]}}\n");
	n->now += 1000ull * MS;
	open_member(n, 4, 5, NULL); /* has just come */
	list = og_router_eligible_json(n->r, "m", n->now);
	cr_assert_eq(json_array_size(list), 6);
	cr_expect_str_eq(json_string_value(row(list, 0, "name")), "idle");
	cr_expect_eq(json_integer_value(row(list, 0, "order")), 1);
	cr_expect_str_eq(json_string_value(row(list, 1, "name")), "busy");
	cr_expect_eq(json_integer_value(row(list, 1, "load")), 3);
	cr_expect_eq(json_integer_value(row(list, 2, "order")), 3);
	cr_expect_not_null(strstr(json_string_value(row(list, 2, "why")), "never said"));
	cr_expect_not_null(strstr(json_string_value(row(list, 3, "why")), "just connected"));
	for (size_t i = 3; i < 6; i++)
		cr_expect(json_is_false(row(list, i, "eligible")));
	json_decref(list);
	/* The router chooses as the list says. */
	ask(n, "m", false);
	cr_assert_not_null(strstr(n->wire, "inference_request"));
	gauge = og_router_gauge_json(n->r, n->now);
	list = json_object_get(gauge, "members");
	cr_expect_eq(json_integer_value(row(list, 3, "asked")), 1);
	cr_expect_eq(json_integer_value(row(list, 1, "kv_free")), 7);
	cr_expect(json_is_null(row(list, 3, "kv_free")));
	json_decref(gauge);
	node_free(n);
}

Test(router, a_draining_node_takes_nothing_and_finishes_what_runs)
{
	struct node *a = node_new("a", NULL), *b = node_new("b", "demo");
	json_t *list;

	connect_nodes(a, b);
	ask(a, "demo", false);
	shuttle(a);
	cr_assert_eq(b->nb_running, 1);
	og_router_drain(b->r, b->now);
	shuttle(a);
	list = og_router_eligible_json(a->r, "demo", a->now);
	for (size_t i = 0; i < json_array_size(list); i++)
		cr_expect(json_is_false(row(list, i, "eligible")));
	json_decref(list);
	ask(b, "", false);
	cr_assert_eq(b->error, -ECANCELED);
	ask(a, "demo", false);
	shuttle(a);
	cr_assert_eq(a->error, -ENOENT, "%s", a->message);
	cr_assert_eq(b->nb_running, 1);
	engine_says(b, 0, "4", true);
	shuttle(a);
	cr_assert_eq(a->error, 0);
	cr_assert_str_eq(a->text, "4");
	node_free(a);
	node_free(b);
}

Test(router, ready_without_a_dht_only_for_the_first_node_or_with_a_member)
{
	struct node *n = node_new("n", NULL);
	struct og_msg ready = {.type = OG_EV_READY}, retry = {.type = OG_EV_JOIN_RETRY};

	og_router_core_event(n->r, &ready, n->now);
	cr_assert(og_router_ready(n->r));
	cr_assert_eq(og_router_join(n->r, "c", n->now), 0);
	og_sha256(retry.key, "c", 1);
	og_router_core_event(n->r, &retry, n->now);
	cr_assert_not(og_router_ready(n->r));
	open_raw(n);
	cr_assert(og_router_ready(n->r));
	node_free(n);
}

static void expect_sample(const char *sample)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	og_metrics_render(f);
	fclose(f);
	cr_expect_not_null(strstr(text, sample), "%s", sample);
	free(text);
}

Test(router, requests_are_counted_by_model_route_and_outcome)
{
	struct node *a = node_new("a", "demo"), *b = node_new("b", "demo");

	og_router_metrics_register(a->r);
	connect_nodes(a, b);
	ask(a, "", true);
	engine_says(a, 0, "one ", false);
	a->now += 3 * MS;
	engine_says(a, 0, "two", true);
	ask(a, "nope", false);
	a->infer_error = -EBUSY;
	ask(a, "demo", false);
	shuttle(a);
	engine_says(b, 0, "4", true);
	shuttle(a);
	expect_sample(
		"\nog_router_requests_total{model=\"demo\",route=\"local\",outcome=\"done\"} 1\n");
	expect_sample(
		"\nog_router_requests_total{model=\"demo\",route=\"remote\",outcome=\"done\"} 1\n");
	expect_sample(
		"\nog_router_requests_total{model=\"\",route=\"none\",outcome=\"failed\"} 1\n");
	expect_sample("\nog_router_inter_text_seconds_bucket{le=\"0.002\"} 0\n");
	expect_sample("\nog_router_inter_text_seconds_bucket{le=\"0.004\"} 1\n");
	node_free(a);
	node_free(b);
}
