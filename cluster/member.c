#include "base/bytes.h"
#include "cluster/core.h"
#include "cluster/router_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CONSUMED_STEP_BYTES = 64 * 1024 };

struct og_member *og_member_get(const struct og_router *r, uint32_t slot, uint32_t gen)
{
	struct og_member *m = slot < r->opts.peers_max ? r->members[slot] : NULL;

	return m && m->gen == gen ? m : NULL;
}

static struct og_msg command(const struct og_member *m, enum og_core_command type)
{
	return (struct og_msg){.type = (uint16_t)type, .slot = m->slot, .gen = m->gen};
}

void og_member_free(struct og_member *m)
{
	json_decref(m->clusters);
	json_decref(m->models);
	og_line_fini(&m->lines);
	free(m->out);
	free(m);
}

static uint64_t found_at(const struct og_router *r, const uint8_t key[32])
{
	for (size_t i = 0; i < OG_ARRAY_LEN(r->found); i++)
		if (r->found[i].at && memcmp(r->found[i].key, key, 32) == 0)
			return r->found[i].at;
	return 0;
}

void og_member_open(struct og_router *r, const struct og_msg *ev)
{
	struct og_member *m = calloc(1, sizeof(*m));
	struct og_msg close = {.type = OG_CMD_CLOSE, .slot = ev->slot, .gen = ev->gen};

	if (!m || ev->slot >= r->opts.peers_max || r->members[ev->slot]) {
		free(m);
		og_router_command(r, &close);
		return;
	}
	m->slot = ev->slot;
	m->gen = ev->gen;
	memcpy(m->key, ev->key, sizeof(m->key));
	m->dialled = ev->flags & 1;
	if (ev->len_bytes >= 6) {
		memcpy(m->addr.ip, ev->data, 4);
		m->addr.port = og_load_be16(ev->data + 4);
	}
	m->opened_at = r->now_ns;
	m->kv_free = -1;
	m->found_at = found_at(r, m->key);
	m->credit_bytes = OG_PEER_CREDIT_BYTES;
	og_line_init(&m->lines, OG_LINE_MAX_BYTES);
	r->members[ev->slot] = m;
	r->nb_members++;
	og_count(&r->stats.members);
	og_member_hello(r, m);
}

void og_member_closed(struct og_router *r, const struct og_msg *ev)
{
	struct og_member *m = og_member_get(r, ev->slot, ev->gen);

	if (!m)
		return;
	r->members[m->slot] = NULL;
	r->nb_members--;
	og_count_add(&r->stats.members, (uint64_t)-1);
	og_request_member_gone(r, m);
	og_member_free(m);
}

static void flush(struct og_router *r, struct og_member *m)
{
	size_t sent = 0;

	while (sent < m->out_used_bytes && m->credit_bytes > 0) {
		struct og_msg cmd = command(m, OG_CMD_WRITE);
		size_t n = OG_MIN(m->out_used_bytes - sent, (size_t)OG_WRITE_MAX_BYTES);

		n = OG_MIN(n, (size_t)m->credit_bytes);
		cmd.data = (const uint8_t *)m->out + sent;
		cmd.len_bytes = (uint32_t)n;
		og_router_command(r, &cmd);
		sent += n;
		m->credit_bytes -= n;
	}
	memmove(m->out, m->out + sent, m->out_used_bytes - sent);
	m->out_used_bytes -= sent;
	if (m->out_used_bytes == 0 && m->ended && m->serving == 0) {
		struct og_msg cmd = command(m, OG_CMD_END);

		og_router_command(r, &cmd);
		m->ended = false;
	}
}

void og_member_send(struct og_router *r, struct og_member *m, char *line, size_t len)
{
	size_t cap = m->out_cap_bytes ? m->out_cap_bytes : 4096;
	char *out;

	if (!line)
		return;
	if (m->out_used_bytes + len > OG_MEMBER_QUEUE_MAX_BYTES) {
		struct og_msg cmd = command(m, OG_CMD_CLOSE);

		free(line);
		og_router_command(r, &cmd);
		return;
	}
	while (cap < m->out_used_bytes + len)
		cap *= 2;
	if (cap != m->out_cap_bytes) {
		out = realloc(m->out, cap);
		if (!out) {
			free(line);
			return;
		}
		m->out = out;
		m->out_cap_bytes = cap;
	}
	memcpy(m->out + m->out_used_bytes, line, len);
	m->out_used_bytes += len;
	free(line);
	flush(r, m);
}

void og_member_credit(struct og_router *r, const struct og_msg *ev)
{
	struct og_member *m = og_member_get(r, ev->slot, ev->gen);

	if (!m)
		return;
	m->credit_bytes += ev->arg;
	flush(r, m);
	if (m->out_used_bytes == 0)
		og_request_member_drained(r, m);
}

void og_member_end(struct og_router *r, const struct og_msg *ev)
{
	struct og_member *m = og_member_get(r, ev->slot, ev->gen);

	if (!m)
		return;
	/* Its writing side is closed: what it asked is still answered, then ours closes too. */
	m->ended = true;
	flush(r, m);
}

void og_member_hello(struct og_router *r, struct og_member *m)
{
	json_t *clusters = og_router_cluster_names(r);
	json_t *models = og_router_model_names(r);
	size_t len = 0;
	char *line = og_message_hello(r->node_name, clusters, models, &len);

	json_decref(clusters);
	json_decref(models);
	og_member_send(r, m, line, len);
}

void og_member_watch(struct og_router *r, struct og_member *m, bool on)
{
	struct og_msg cmd = command(m, OG_CMD_WATCH);

	cmd.arg = on;
	og_router_command(r, &cmd);
}

bool og_member_has_model(const struct og_member *m, const char *name)
{
	size_t i;
	json_t *v;

	if (!m->models)
		return false;
	if (!name[0])
		return json_array_size(m->models) > 0;
	json_array_foreach(
		m->models, i, v) if (strcmp(json_string_value(v), name) == 0) return true;
	return false;
}

/* Only short strings of a short list: the rest of what a peer claims is dropped. */
static json_t *strings_of(const json_t *list, size_t max_bytes)
{
	json_t *out = json_array();
	size_t i;
	json_t *v;

	json_array_foreach(list, i, v)
	{
		if (json_array_size(out) >= OG_MEMBER_MODELS_MAX)
			break;
		if (json_is_string(v) && json_string_length(v) > 0 &&
			json_string_length(v) < max_bytes &&
			strlen(json_string_value(v)) == json_string_length(v))
			json_array_append(out, v);
	}
	return out;
}

static void set_models(struct og_member *m, const json_t *list)
{
	json_decref(m->models);
	m->models = strings_of(list, OG_MODEL_NAME_BYTES);
}

static void on_hello(struct og_router *r, struct og_member *m, const struct og_message *msg)
{
	const json_t *models = json_object_get(msg->og, "models");
	size_t len;
	const char *name = og_message_string(msg->root, "node_name", &len);

	m->has_hello = true;
	m->speaks_og = msg->og != NULL;
	m->name[0] = '\0';
	if (name) {
		/* Not in the middle of a character. */
		size_t n = OG_MIN(len, sizeof(m->name) - 1);

		while (n < len && n > 0 && ((uint8_t)name[n] & 0xc0) == 0x80)
			n--;
		memcpy(m->name, name, n);
		m->name[n] = '\0';
	}
	json_decref(m->clusters);
	m->clusters = strings_of(json_object_get(msg->root, "clusters"), 256);
	set_models(
		m, json_is_array(models) ? models : json_object_get(msg->root, "supported_models"));
	og_request_retry_waiting(r);
}

static uint32_t small_count(const json_t *o, const char *name)
{
	json_int_t v = json_integer_value(json_object_get(o, name));

	return v < 0 ? 0 : (uint32_t)OG_MIN(v, (json_int_t)1000000);
}

static void on_status(struct og_router *r, struct og_member *m, const struct og_message *msg)
{
	const json_t *models = json_object_get(msg->root, "models");
	const json_t *kv_free = json_object_get(msg->root, "kv_free");

	m->load = small_count(msg->root, "load");
	m->queue = small_count(msg->root, "queue");
	m->kv_free = json_is_integer(kv_free) ? OG_MAX(json_integer_value(kv_free), -1) : -1;
	if (json_is_array(models))
		set_models(m, models);
	og_request_retry_waiting(r);
}

struct line_ctx {
	struct og_router *r;
	struct og_member *m;
};

static bool on_line(void *ctx, char *line, size_t len)
{
	struct line_ctx *lc = ctx;
	struct og_router *r = lc->r;
	struct og_message msg;

	og_count(&r->stats.lines);
	if (og_message_parse(&msg, line, len) < 0) {
		og_count(&r->stats.lines_bad);
		return true;
	}
	switch (msg.type) {
	case OG_MSG_HELLO:
		on_hello(r, lc->m, &msg);
		break;
	case OG_MSG_REQUEST:
		og_request_serve(r, lc->m, &msg);
		break;
	case OG_MSG_RESPONSE:
		og_request_response(r, lc->m, &msg);
		break;
	case OG_MSG_CHUNK:
		og_request_chunk(r, lc->m, &msg);
		break;
	case OG_MSG_CANCEL:
		og_request_cancelled(r, lc->m, &msg);
		break;
	case OG_MSG_STATUS:
		on_status(r, lc->m, &msg);
		break;
	case OG_MSG_UNKNOWN:
		break;
	}
	og_message_fini(&msg);
	return true;
}

void og_member_data(struct og_router *r, const struct og_msg *ev)
{
	struct og_member *m = og_member_get(r, ev->slot, ev->gen);
	struct line_ctx lc = {r, m};
	uint64_t skipped;

	if (!m)
		return;
	skipped = m->lines.skipped;
	if (og_line_feed(&m->lines, ev->data, ev->len_bytes, on_line, &lc) < 0) {
		struct og_msg cmd = command(m, OG_CMD_CLOSE);

		og_router_command(r, &cmd);
		return;
	}
	og_count_add(&r->stats.lines_long, m->lines.skipped - skipped);
	m->consumed_bytes += ev->len_bytes;
	if (m->consumed_bytes >= CONSUMED_STEP_BYTES) {
		struct og_msg cmd = command(m, OG_CMD_CONSUMED);

		cmd.arg = m->consumed_bytes;
		m->consumed_bytes = 0;
		og_router_command(r, &cmd);
	}
}
