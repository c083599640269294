/*
 * rpc_request.c: outgoing requests, their repeats and their answers. dht.md 3.3, 6.4.
 *
 * A slot is free, waiting for the congestion window, or sent. Every send waits the same second, so
 * a plain list in order of sending is the timer queue.
 */
#include "dht/rpc_priv.h"

#include <errno.h>
#include <stdlib.h>

enum { DEFAULT_SENDS = 4, TID_TRIES = 64 };

int og_dht_requests_create(
	struct og_dht_requests *r, uint32_t nb_slots, uint32_t slot_max, uint32_t total_max)
{
	r->slots = calloc(nb_slots, sizeof(r->slots[0]));
	r->slot_of_tid = calloc(UINT16_MAX + 1, sizeof(r->slot_of_tid[0]));
	r->refused = calloc(OG_DHT_REFUSED_MAX, sizeof(r->refused[0]));
	if (!r->slots || !r->slot_of_tid || !r->refused)
		return -ENOMEM;
	r->nb_slots = nb_slots;
	for (uint32_t i = 0; i < nb_slots; i++)
		r->slots[i].next = i + 1 < nb_slots ? i + 1 : OG_DHT_NONE;
	r->free = 0;
	r->sent = r->waiting = (struct og_dht_list){OG_DHT_NONE, OG_DHT_NONE};
	r->window_slot_max = slot_max;
	r->window_total_max = total_max;
	return 0;
}

void og_dht_requests_destroy(struct og_dht_requests *r)
{
	free(r->slots);
	free(r->slot_of_tid);
	free(r->refused);
}

uint32_t og_dht_requests_room(const struct og_dht_rpc *rpc)
{
	return rpc->req.nb_slots - rpc->req.nb_used;
}

/* ---- lists of slots ---- */

static void list_append(struct og_dht_requests *r, struct og_dht_list *list, uint32_t idx)
{
	r->slots[idx].prev = list->tail;
	r->slots[idx].next = OG_DHT_NONE;
	if (list->tail == OG_DHT_NONE)
		list->head = idx;
	else
		r->slots[list->tail].next = idx;
	list->tail = idx;
}

static void list_remove(struct og_dht_requests *r, struct og_dht_list *list, uint32_t idx)
{
	struct og_dht_slot *s = &r->slots[idx];

	if (s->prev == OG_DHT_NONE)
		list->head = s->next;
	else
		r->slots[s->prev].next = s->next;
	if (s->next == OG_DHT_NONE)
		list->tail = s->prev;
	else
		r->slots[s->next].prev = s->prev;
}

/* ---- congestion window, dht.md 6.4 ---- */

static void window_advance(struct og_dht_requests *r, uint64_t now_ns)
{
	uint64_t no = now_ns / OG_DHT_WINDOW_NS;

	for (unsigned i = 0; i < OG_DHT_WINDOW_SLOTS && r->window_no < no; i++) {
		uint32_t *slot = &r->window[++r->window_no % OG_DHT_WINDOW_SLOTS];

		r->window_total -= *slot;
		*slot = 0;
	}
	if (r->window_no < no) {
		/* All four are empty by now. */
		r->window_no = no;
	}
}

static uint32_t *window_current(struct og_dht_requests *r)
{
	return &r->window[r->window_no % OG_DHT_WINDOW_SLOTS];
}

static bool window_full(struct og_dht_requests *r)
{
	return *window_current(r) >= r->window_slot_max || r->window_total >= r->window_total_max;
}

static void window_sent(struct og_dht_requests *r)
{
	++*window_current(r);
	r->window_total++;
}

static void window_ended(struct og_dht_requests *r)
{
	if (*window_current(r) == 0)
		return;
	--*window_current(r);
	r->window_total--;
}

/* ---- slots ---- */

static uint16_t draw_tid(struct og_dht_rpc *rpc)
{
	uint16_t tid = 0;

	for (unsigned i = 0; i < TID_TRIES; i++) {
		tid = (uint16_t)og_rand_u32(rpc->rand);
		if (rpc->req.slot_of_tid[tid] == 0)
			return tid;
	}
	/* At most a quarter of all are taken, so this is next to never reached. */
	while (rpc->req.slot_of_tid[tid] != 0)
		tid++;
	return tid;
}

static void gauge(struct og_dht_rpc *rpc)
{
	og_dht_gauge(&rpc->count.outstanding, rpc->req.nb_used);
}

/* The one place where a request ends. */
static void release(struct og_dht_rpc *rpc, uint32_t idx)
{
	struct og_dht_requests *r = &rpc->req;
	struct og_dht_slot *s = &r->slots[idx];

	if (s->state == OG_DHT_SLOT_SENT) {
		list_remove(r, &r->sent, idx);
		r->nb_sent--;
		window_ended(r);
	} else {
		list_remove(r, &r->waiting, idx);
	}
	r->slot_of_tid[s->tid] = 0;
	s->state = OG_DHT_SLOT_FREE;
	s->gen++;
	s->next = r->free;
	r->free = idx;
	r->nb_used--;
	gauge(rpc);
}

static void transmit(struct og_dht_rpc *rpc, struct og_dht_slot *s)
{
	uint16_t cap;
	uint8_t *buf = rpc->tx->reserve(rpc->tx, &cap);

	/* Lost here is as good as lost on the way: it is repeated. */
	if (!buf || cap < s->len_bytes) {
		og_dht_drop(rpc, OG_DHT_DROP_TX_FULL);
		return;
	}
	memcpy(buf, s->data, s->len_bytes);
	rpc->tx->commit(rpc->tx, s->endpoint, &s->to, 0, s->len_bytes);
}

/* First send and every repeat: identical bytes. */
static void send_slot(struct og_dht_rpc *rpc, uint32_t idx, uint64_t now_ns)
{
	struct og_dht_requests *r = &rpc->req;
	struct og_dht_slot *s = &r->slots[idx];

	if (s->sends_done == 0)
		s->first_ns = now_ns;
	s->sends_left--;
	s->sends_done++;
	s->sent_ns = now_ns;
	s->deadline_ns = now_ns + OG_DHT_RESEND_NS;
	s->state = OG_DHT_SLOT_SENT;
	list_append(r, &r->sent, idx);
	window_sent(r);
	transmit(rpc, s);
}

static int encode(struct og_dht_rpc *rpc, struct og_dht_slot *s, const struct og_dht_request *req)
{
	struct og_writer w = og_writer_of(s->data, sizeof(s->data));
	struct og_dht_msg m = {
		.tid = s->tid,
		.to = req->to,
		.internal = req->internal,
		.command = req->command,
		.target = req->target,
		.token = req->token,
		.has_value = req->has_value,
		.value = req->value,
		.value_bytes = req->value_bytes,
	};
	int ret;

	if (rpc->self.persistent && s->endpoint == 0) /* dht.md 2.2 */
		m.id = og_dht_table_center(rpc->table);
	ret = og_dht_msg_encode(&m, &w);
	s->len_bytes = (uint16_t)og_writer_len(&w);
	return ret;
}

static void refuse(struct og_dht_rpc *rpc, const struct og_dht_request *req,
	struct og_dht_req_id *id_out, uint64_t now_ns)
{
	struct og_dht_requests *r = &rpc->req;
	uint32_t id = r->refused_head;

	og_dht_drop(rpc, OG_DHT_DROP_REQUEST_LIMIT);
	if (id_out)
		*id_out = (struct og_dht_req_id){OG_DHT_NONE, id};
	if (!req->fn)
		return;
	if (r->refused_head - r->refused_tail == OG_DHT_REFUSED_MAX) {
		struct og_dht_reply reply = {.status = -ENOBUFS, .from = req->to};

		req->fn(req->ctx, req->tag, &reply, now_ns);
		return;
	}
	r->refused[id % OG_DHT_REFUSED_MAX] =
		(struct og_dht_refused){req->fn, req->ctx, req->tag, req->to, id};
	r->refused_head++;
}

void og_dht_request_start(struct og_dht_rpc *rpc, const struct og_dht_request *req,
	uint16_t reply_endpoint, og_dht_slow_fn slow, struct og_dht_req_id *id_out, uint64_t now_ns)
{
	struct og_dht_requests *r = &rpc->req;
	uint32_t idx = r->free;
	struct og_dht_slot *s;

	if (idx == OG_DHT_NONE || req->value_bytes > OG_DHT_VALUE_MAX) {
		refuse(rpc, req, id_out, now_ns);
		return;
	}
	s = &r->slots[idx];
	s->to = req->to;
	s->endpoint = req->any_endpoint ? og_dht_rpc_expected_endpoint(rpc) : req->endpoint;
	s->reply_endpoint = reply_endpoint == UINT16_MAX ? s->endpoint : reply_endpoint;
	s->tid = draw_tid(rpc);
	s->sends_left = req->forced ? 1 : req->sends ? req->sends : DEFAULT_SENDS;
	s->sends_done = 0;
	s->fn = req->fn;
	s->slow = slow;
	s->ctx = req->ctx;
	s->tag = req->tag;
	if (encode(rpc, s, req) < 0) {
		refuse(rpc, req, id_out, now_ns);
		return;
	}
	r->free = s->next;
	r->nb_used++;
	r->slot_of_tid[s->tid] = (uint16_t)(idx + 1);
	if (id_out)
		*id_out = (struct og_dht_req_id){idx, s->gen};
	og_count(&rpc->count.requests_out);
	gauge(rpc);

	window_advance(r, now_ns);
	if (window_full(r) && !req->forced) {
		s->state = OG_DHT_SLOT_WAITING;
		list_append(r, &r->waiting, idx);
	} else {
		r->nb_sent++;
		send_slot(rpc, idx, now_ns);
	}
}

void og_dht_request_send(struct og_dht_rpc *rpc, const struct og_dht_request *req,
	struct og_dht_req_id *id_out, uint64_t now_ns)
{
	og_dht_request_start(rpc, req, UINT16_MAX, NULL, id_out, now_ns);
}

void og_dht_ping(struct og_dht_rpc *rpc, const struct og_addr *to, uint8_t sends,
	og_dht_reply_fn fn, uint64_t tag, uint64_t now_ns)
{
	struct og_dht_request req = {
		.to = *to,
		.internal = true,
		.command = OG_DHT_PING,
		.sends = sends,
		.any_endpoint = true,
		.fn = fn,
		.ctx = rpc,
		.tag = tag,
	};

	og_dht_request_send(rpc, &req, NULL, now_ns);
}

static struct og_dht_slot *slot_of(struct og_dht_rpc *rpc, struct og_dht_req_id id)
{
	struct og_dht_slot *s;

	if (id.slot >= rpc->req.nb_slots)
		return NULL;
	s = &rpc->req.slots[id.slot];
	return s->state != OG_DHT_SLOT_FREE && s->gen == id.gen ? s : NULL;
}

static struct og_dht_refused *refused_of(struct og_dht_rpc *rpc, struct og_dht_req_id id)
{
	struct og_dht_requests *r = &rpc->req;

	if (id.slot != OG_DHT_NONE || id.gen - r->refused_tail >= r->refused_head - r->refused_tail)
		return NULL;
	return &r->refused[id.gen % OG_DHT_REFUSED_MAX];
}

void og_dht_request_abandon(struct og_dht_rpc *rpc, struct og_dht_req_id id)
{
	struct og_dht_slot *s = slot_of(rpc, id);
	struct og_dht_refused *f = refused_of(rpc, id);

	if (s) {
		s->fn = NULL;
		s->slow = NULL;
	}
	if (f)
		f->fn = NULL;
}

void og_dht_request_cancel(struct og_dht_rpc *rpc, struct og_dht_req_id id)
{
	og_dht_request_abandon(rpc, id);
	if (slot_of(rpc, id))
		release(rpc, id.slot);
}

/* ---- answers ---- */

bool og_dht_requests_is_own(
	const struct og_dht_rpc *rpc, uint16_t tid, const uint8_t *data, uint16_t len_bytes)
{
	uint16_t idx = rpc->req.slot_of_tid[tid];
	const struct og_dht_slot *s;

	if (idx == 0)
		return false;
	s = &rpc->req.slots[idx - 1];
	return s->len_bytes == len_bytes && memcmp(s->data, data, len_bytes) == 0;
}

/* Of no request in `slot`: it may be the one to a challenge. */
static void unexpected(struct og_dht_rpc *rpc, const struct og_dht_slot *slot, uint16_t endpoint,
	const struct og_addr *src, uint16_t tid, uint64_t now_ns)
{
	if (!og_dht_challenge_met(rpc->challenges, src, endpoint, tid, now_ns)) {
		og_dht_drop(rpc, slot ? OG_DHT_DROP_FORGED_REPLY : OG_DHT_DROP_UNKNOWN_REPLY);
		return;
	}
	og_count(&rpc->count.challenges_met);
	og_dht_proven_add(rpc->proven, src, now_ns);
}

void og_dht_requests_input(struct og_dht_rpc *rpc, uint16_t endpoint, const struct og_addr *src,
	const struct og_dht_msg *msg, uint64_t now_ns)
{
	uint16_t idx = rpc->req.slot_of_tid[msg->tid];
	struct og_dht_slot *s = idx == 0 ? NULL : &rpc->req.slots[idx - 1];
	struct og_dht_reply reply = {.from = *src, .endpoint = endpoint, .msg = msg};
	og_dht_reply_fn fn;
	uint64_t tag;
	void *ctx;

	if (s && s->state != OG_DHT_SLOT_SENT)
		s = NULL;
	if (!s || !og_addr_eq(&s->to, src) || s->reply_endpoint != endpoint) {
		unexpected(rpc, s, endpoint, src, msg->tid, now_ns);
		return;
	}
	og_count(&rpc->count.replies_in);
	reply.rtt_ns = now_ns - s->sent_ns;
	og_hist_observe_us(&rpc->count.rtt, reply.rtt_ns / OG_NS_PER_US);
	reply.id = og_dht_check_id(rpc, src, msg->id);
	fn = s->fn;
	ctx = s->ctx;
	tag = s->tag;
	release(rpc, idx - 1u);

	rpc->last_reply_ns = now_ns;
	og_dht_proven_add(rpc->proven, src, now_ns);
	og_dht_learn_reply(rpc, src, reply.id, &msg->to,
		endpoint == og_dht_rpc_expected_endpoint(rpc), now_ns);
	if (fn)
		fn(ctx, tag, &reply, now_ns);
}

/* ---- timers ---- */

static void time_out(struct og_dht_rpc *rpc, uint32_t idx, uint64_t now_ns)
{
	struct og_dht_slot *s = &rpc->req.slots[idx];
	struct og_dht_reply reply = {.status = -ETIMEDOUT, .from = s->to, .endpoint = s->endpoint};
	og_dht_reply_fn fn = s->fn;
	void *ctx = s->ctx;
	uint64_t tag = s->tag;
	uint64_t first_ns = s->first_ns;
	uint8_t sends = s->sends_done;

	og_count(&rpc->count.timeouts);
	release(rpc, idx);
	og_dht_learn_timeout(rpc, &reply.from, sends, first_ns);
	if (fn)
		fn(ctx, tag, &reply, now_ns);
}

static void repeat(struct og_dht_rpc *rpc, uint32_t idx, uint64_t now_ns)
{
	struct og_dht_slot *s = &rpc->req.slots[idx];

	og_count(&rpc->count.repeats_out);
	list_remove(&rpc->req, &rpc->req.sent, idx);
	send_slot(rpc, idx, now_ns);
	if (s->sends_done >= 2 && s->sends_done <= 3 && s->slow)
		s->slow(s->ctx, s->tag, now_ns);
}

static void report_refused(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	struct og_dht_requests *r = &rpc->req;
	uint32_t end = r->refused_head; /* those refused from inside a callback wait */

	while (r->refused_tail != end) {
		struct og_dht_refused f = r->refused[r->refused_tail++ % OG_DHT_REFUSED_MAX];
		struct og_dht_reply reply = {.status = -ENOBUFS, .from = f.to};

		if (f.fn)
			f.fn(f.ctx, f.tag, &reply, now_ns);
	}
}

void og_dht_requests_tick(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	struct og_dht_requests *r = &rpc->req;
	uint64_t slot_before = r->window_no;

	report_refused(rpc, now_ns);
	window_advance(r, now_ns);
	if (r->window_no != slot_before)
		while (r->waiting.head != OG_DHT_NONE && !window_full(r)) {
			uint32_t idx = r->waiting.head;

			list_remove(r, &r->waiting, idx);
			r->nb_sent++;
			send_slot(rpc, idx, now_ns);
		}
	while (r->sent.head != OG_DHT_NONE && r->slots[r->sent.head].deadline_ns <= now_ns) {
		uint32_t idx = r->sent.head;

		if (r->slots[idx].sends_left > 0)
			repeat(rpc, idx, now_ns);
		else
			time_out(rpc, idx, now_ns);
	}
}

uint64_t og_dht_requests_deadline(const struct og_dht_rpc *rpc, uint64_t now_ns)
{
	const struct og_dht_requests *r = &rpc->req;
	uint64_t at = OG_NEVER;

	if (r->refused_head != r->refused_tail)
		return now_ns;
	if (r->waiting.head != OG_DHT_NONE)
		at = (r->window_no + 1) * OG_DHT_WINDOW_NS;
	if (r->sent.head != OG_DHT_NONE)
		at = OG_MIN(at, r->slots[r->sent.head].deadline_ns);
	return at;
}

void og_dht_requests_woke(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	struct og_dht_requests *r = &rpc->req;

	for (uint32_t i = r->sent.head; i != OG_DHT_NONE; i = r->slots[i].next)
		r->slots[i].deadline_ns = now_ns + OG_DHT_RESEND_NS;
}
