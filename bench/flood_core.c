#include "bench/flood_core.h"

#include "bench/bench.h"
#include "bench/dht_requests.h"

#include <string.h>

enum { FLOOD_FROM = 0, PROBES_FROM = 1, CALM = 10, LATE_MAX = 128 };

static const uint64_t ask_again_ns = 100 * OG_NS_PER_MS;
static const uint64_t soon_ns = 5 * OG_NS_PER_MS;
static const uint64_t recovery_max_ns = 10 * OG_NS_PER_S;
static const uint64_t probe_every_ns = OG_NS_PER_S / PROBES_PER_S;

static struct flood_core *self(struct og_core *core)
{
	return (struct flood_core *)core;
}

static bool transmit(
	struct flood_core *f, uint16_t endpoint, const uint8_t *data, uint16_t len_bytes)
{
	struct og_tx *tx = f->env.tx;
	uint16_t cap_bytes;
	uint8_t *out = tx->reserve(tx, &cap_bytes);

	if (!out || len_bytes > cap_bytes)
		return false;
	memcpy(out, data, len_bytes);
	tx->commit(tx, endpoint, &f->maker.to, 0, len_bytes);
	return true;
}

static void probe(struct flood_core *f, struct probes *p, uint64_t now_ns)
{
	uint8_t request[LOAD_REQUEST_BYTES];
	uint16_t n = probes_next(p, request, now_ns);

	f->probed_ns = now_ns;
	if (n > 0)
		(void)transmit(f, PROBES_FROM, request, n); /* no room is as good as lost */
}

/*
 * How many are to be sent by now. Who was kept from sending for a while does not make up for it: that
 * would be a burst beyond the rate, into a queue that holds two milliseconds of it.
 */
static uint64_t due_by(struct flood_core *f, uint64_t now_ns)
{
	uint64_t due;

	if (f->rate_per_s == 0)
		return UINT64_MAX;
	due = (uint64_t)((double)(now_ns - f->start_ns) / 1e9 * (double)f->rate_per_s) - f->missed;
	if (due > f->sent + LATE_MAX) {
		f->missed += due - f->sent - LATE_MAX;
		due = f->sent + LATE_MAX;
	}
	return due;
}

/* As many as the rate allows, and as one pass should send. */
static void flood(struct flood_core *f, uint64_t now_ns)
{
	uint64_t due = due_by(f, now_ns);
	for (uint32_t i = 0; i < FLOOD_BURST && f->sent < due; i++) {
		if (f->maker.kind == FLOOD_REAL_HANDSHAKE) {
			f->len_bytes[i] = flood_make(&f->maker, f->data[i]);
			due = f->sent + 1; /* each takes a while: one a pass */
		} else {
			flood_vary(&f->maker, f->data[i]);
		}
		if (!transmit(f, FLOOD_FROM, f->data[i], f->len_bytes[i]))
			return;
		f->sent++;
	}
}

static void begin_flood(struct flood_core *f, uint64_t now_ns)
{
	for (int i = 0; i < FLOOD_BURST; i++)
		f->len_bytes[i] = flood_make(&f->maker, f->data[i]);
	f->start_ns = now_ns;
	f->end_ns = now_ns + f->run_ns;
	f->phase = FLOOD_ON;
}

static void ask_token(struct flood_core *f, uint64_t now_ns)
{
	uint8_t request[LOAD_REQUEST_BYTES];
	uint16_t n = flood_ask_token(&f->maker, request);

	f->asked_ns = now_ns;
	(void)transmit(f, FLOOD_FROM, request, n);
}

/* A probe after the other until CALM in a row are answered soon. */
static void recover(struct flood_core *f, uint64_t now_ns)
{
	const struct og_msg m = {.type = FLOOD_DONE};
	const struct probes *p = &f->afterwards;
	bool answered = p->nb > 0 && p->took_ns[p->nb - 1] > 0;

	if (p->nb > 0 && !answered && now_ns - f->probed_ns < soon_ns)
		return;
	f->calm = answered && p->took_ns[p->nb - 1] <= soon_ns ? f->calm + 1 : 0;
	if (f->calm < CALM && now_ns - f->end_ns < recovery_max_ns) {
		probe(f, &f->afterwards, now_ns);
		return;
	}
	f->recovery_ns = now_ns - f->end_ns;
	f->phase = FLOOD_IDLE;
	(void)f->env.events->push(f->env.events, &m); /* one at a time: there is room */
}

static void input(struct og_core *core, struct og_dgram *burst, uint16_t n, uint64_t now_ns)
{
	struct flood_core *f = self(core);

	for (uint16_t i = 0; i < n; i++) {
		const struct og_dgram *d = &burst[i];

		if (d->endpoint == FLOOD_FROM) {
			f->answers++;
			if (f->phase == FLOOD_TOKEN &&
				flood_take_token(&f->maker, d->data, d->len_bytes) == 0)
				begin_flood(f, now_ns);
		} else if (f->phase == FLOOD_RECOVERY) {
			probes_answer(&f->afterwards, d->data, d->len_bytes, now_ns);
		} else {
			probes_answer(&f->probes, d->data, d->len_bytes, now_ns);
		}
	}
}

static uint64_t tick(struct og_core *core, uint64_t now_ns)
{
	struct flood_core *f = self(core);

	switch (f->phase) {
	case FLOOD_IDLE:
		return OG_NEVER;
	case FLOOD_TOKEN:
		if (now_ns - f->asked_ns >= ask_again_ns)
			ask_token(f, now_ns);
		break;
	case FLOOD_ON:
		if (now_ns - f->probed_ns >= probe_every_ns)
			probe(f, &f->probes, now_ns);
		flood(f, now_ns);
		if (now_ns >= f->end_ns)
			f->phase = FLOOD_LATE;
		break;
	case FLOOD_LATE: /* the last probe has its time too */
		if (f->probes.nb == 0 || f->probes.took_ns[f->probes.nb - 1] > 0 ||
			now_ns - f->end_ns >= OG_NS_PER_S) {
			f->end_ns = now_ns;
			f->phase = FLOOD_RECOVERY;
		}
		break;
	case FLOOD_RECOVERY:
		recover(f, now_ns);
		break;
	}
	return now_ns; /* in every pass */
}

static int command(struct og_core *core, const struct og_msg *m, uint64_t now_ns)
{
	struct flood_core *f = self(core);

	f->maker.kind = (enum flood_kind)m->slot;
	f->run_ns = m->arg;
	f->rate_per_s = m->gen;
	f->sent = f->answers = f->missed = 0;
	f->calm = 0;
	probes_init(&f->probes, &f->maker.to);
	probes_init(&f->afterwards, &f->maker.to);
	f->phase = FLOOD_TOKEN;
	f->probed_ns = now_ns;
	if (f->maker.kind == FLOOD_BAD_ANNOUNCE)
		ask_token(f, now_ns);
	else
		begin_flood(f, now_ns);
	return 0;
}

static void job_done(struct og_core *core, struct og_job *job, uint64_t now_ns)
{
}

static const struct og_core_ops ops = {
	.input = input, .tick = tick, .command = command, .job_done = job_done};

void flood_core_init(struct flood_core *f, const struct og_core_env *env)
{
	f->core.ops = &ops;
	f->env = *env;
}
