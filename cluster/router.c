#include "cluster/router.h"

#include "base/bytes.h"
#include "cluster/core.h"
#include "cluster/router_priv.h"
#include "crypto/hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	DEADLINE_MS_DEFAULT = 120000,
	ASKS_MAX_DEFAULT = 1024,
	PEERS_MAX_DEFAULT = 1024,
	RUNNING_MAX_DEFAULT = 4,
	QUEUED_MAX_DEFAULT = 16,
	PENDING_MAX = 65536,
};

static const uint64_t status_delay_ns = 250 * OG_NS_PER_MS;
static const uint64_t retry_command_ns = OG_NS_PER_MS;

/* ---- commands to the core ---- */

static bool flush_pending(struct og_router *r)
{
	while (r->pending_first) {
		struct og_pending_cmd *p = r->pending_first;

		p->msg.data = p->data;
		if (r->opts.env.command(r->opts.env.ctx, &p->msg) < 0)
			return false;
		r->pending_first = p->next;
		if (!r->pending_first)
			r->pending_last = NULL;
		r->nb_pending--;
		free(p);
	}
	return true;
}

void og_router_command(struct og_router *r, const struct og_msg *cmd)
{
	struct og_pending_cmd *p;

	if (flush_pending(r) && r->opts.env.command(r->opts.env.ctx, cmd) == 0)
		return;
	/* The ring is full: keep the order and try again soon. The credit of members bounds it. */
	OG_ASSERT(r->nb_pending < PENDING_MAX);
	p = malloc(sizeof(*p) + cmd->len_bytes);
	OG_ASSERT(p);
	p->next = NULL;
	p->msg = *cmd;
	if (cmd->len_bytes > 0)
		memcpy(p->data, cmd->data, cmd->len_bytes);
	if (r->pending_last)
		r->pending_last->next = p;
	else
		r->pending_first = p;
	r->pending_last = p;
	r->nb_pending++;
}

/* ---- what we are ---- */

json_t *og_router_model_names(const struct og_router *r)
{
	json_t *names = json_array();

	for (uint32_t i = 0; i < r->opts.nb_models && !r->draining; i++) {
		if (r->models[i].state != OG_MODEL_SERVED)
			continue;
		json_array_append_new(names, json_string(r->models[i].name));
		if (r->models[i].alias && r->models[i].alias[0])
			json_array_append_new(names, json_string(r->models[i].alias));
	}
	return names;
}

json_t *og_router_cluster_names(const struct og_router *r)
{
	json_t *names = json_array();

	for (uint32_t i = 0; i < r->nb_clusters; i++)
		if (!r->clusters[i].leaving)
			json_array_append_new(names, json_string(r->clusters[i].id));
	return names;
}

const struct og_router_model *og_router_local_model(const struct og_router *r, const char *name)
{
	for (uint32_t i = 0; i < r->opts.nb_models; i++) {
		const struct og_router_model *m = &r->models[i];

		if (m->state != OG_MODEL_FAILED &&
			(!name[0] || strcmp(m->name, name) == 0 ||
				(m->alias && strcmp(m->alias, name) == 0)))
			return m;
	}
	return NULL;
}

void og_router_load_changed(struct og_router *r)
{
	if (r->opts.nb_models > 0 && r->status_at == 0)
		r->status_at = r->now_ns + status_delay_ns;
}

static void tell_status(struct og_router *r)
{
	json_t *models = og_router_model_names(r);
	struct og_router_load load = {.running = r->nb_serves};

	r->status_at = 0;
	if (r->opts.load)
		r->opts.load(r->opts.env.ctx, &load);
	for (uint32_t i = 0; i < r->opts.peers_max; i++) {
		struct og_member *m = r->members[i];
		size_t len = 0;
		char *line;

		if (!m || !m->speaks_og)
			continue;
		line = og_message_status(load.running, load.queued,
			r->opts.load ? &load.kv_free : NULL, models, &len);
		og_member_send(r, m, line, len);
	}
	json_decref(models);
}

static void tell_hello(struct og_router *r)
{
	for (uint32_t i = 0; i < r->opts.peers_max; i++)
		if (r->members[i])
			og_member_hello(r, r->members[i]);
}

/* ---- clusters ---- */

static struct og_router_cluster *cluster_find(struct og_router *r, const char *id)
{
	for (uint32_t i = 0; i < r->nb_clusters; i++)
		if (strcmp(r->clusters[i].id, id) == 0)
			return &r->clusters[i];
	return NULL;
}

static struct og_router_topic *topic_find(
	struct og_router *r, const uint8_t topic[32], struct og_router_cluster **cluster)
{
	for (uint32_t i = 0; i < r->nb_clusters; i++)
		for (int t = 0; t < 2; t++)
			if (memcmp(r->clusters[i].topics[t].topic, topic, 32) == 0) {
				*cluster = &r->clusters[i];
				return &r->clusters[i].topics[t];
			}
	return NULL;
}

static void topic_command(struct og_router *r, enum og_core_command type, const uint8_t topic[32])
{
	struct og_msg cmd = {.type = (uint16_t)type, .flags = OG_JOIN_SERVER | OG_JOIN_CLIENT};

	memcpy(cmd.key, topic, sizeof(cmd.key));
	og_router_command(r, &cmd);
}

/* Another cluster may share the zero-padded topic (ids with the same first 32 bytes). */
static bool topic_shared(
	const struct og_router *r, const struct og_router_cluster *except, const uint8_t topic[32])
{
	for (uint32_t i = 0; i < r->nb_clusters; i++)
		for (int t = 0; t < 2; t++)
			if (&r->clusters[i] != except && !r->clusters[i].leaving &&
				memcmp(r->clusters[i].topics[t].topic, topic, 32) == 0)
				return true;
	return false;
}

int og_router_join(struct og_router *r, const char *id, uint64_t now_ns)
{
	struct og_router_cluster *c = cluster_find(r, id);
	size_t len = strlen(id);

	r->now_ns = now_ns;
	if (len == 0 || len > 255 || r->stopping)
		return -EINVAL;
	if (c && !c->leaving)
		return -EALREADY;
	if (!c) {
		if (r->nb_clusters == OG_ROUTER_CLUSTERS_MAX)
			return -ENOSPC;
		c = &r->clusters[r->nb_clusters];
		memset(c, 0, sizeof(*c));
		c->id = strdup(id);
		if (!c->id)
			return -ENOMEM;
		r->nb_clusters++;
		og_sha256(c->topics[0].topic, id, len);
		memcpy(c->topics[1].topic, id, OG_MIN(len, (size_t)32));
	}
	c->leaving = false;
	c->joined_at = now_ns;
	c->announced_at = 0;
	for (int t = 0; t < 2; t++) {
		c->topics[t].joined = c->topics[t].tried = c->topics[t].leaving = false;
		topic_command(r, OG_CMD_JOIN, c->topics[t].topic);
	}
	tell_hello(r);
	return 0;
}

static void cluster_forget(struct og_router *r, struct og_router_cluster *c)
{
	free(c->id);
	memmove(c, c + 1, (size_t)(&r->clusters[--r->nb_clusters] - c) * sizeof(*c));
}

int og_router_leave(struct og_router *r, const char *id, uint64_t now_ns)
{
	struct og_router_cluster *c = cluster_find(r, id);

	r->now_ns = now_ns;
	if (!c || c->leaving)
		return -ENOENT;
	c->leaving = true;
	for (int t = 0; t < 2; t++) {
		if (topic_shared(r, c, c->topics[t].topic))
			continue;
		c->topics[t].leaving = true;
		topic_command(r, OG_CMD_LEAVE, c->topics[t].topic);
	}
	tell_hello(r);
	return 0;
}

static void on_left(struct og_router *r, const struct og_msg *ev)
{
	struct og_router_cluster *c;
	struct og_router_topic *t = topic_find(r, ev->key, &c);

	if (!t || !c->leaving)
		return;
	t->leaving = false;
	if (c->topics[0].leaving || c->topics[1].leaving)
		return;
	cluster_forget(r, c);
	/* Members that shared no other cluster with us stay only as long as they like. */
	for (uint32_t i = 0; r->nb_clusters == 0 && i < r->opts.peers_max; i++) {
		struct og_member *m = r->members[i];
		struct og_msg cmd = {.type = OG_CMD_END};

		if (!m || m->serving > 0 || m->asked > 0)
			continue;
		cmd.slot = m->slot;
		cmd.gen = m->gen;
		og_router_command(r, &cmd);
	}
}

static void on_joined(struct og_router *r, const struct og_msg *ev, bool reached)
{
	struct og_router_cluster *c;
	struct og_router_topic *t = topic_find(r, ev->key, &c);

	if (!t)
		return;
	t->tried = true;
	if (!reached)
		return;
	t->joined = true;
	t->stored_on = (uint32_t)ev->arg;
	if (!c->announced_at)
		c->announced_at = r->now_ns;
}

static void on_found(struct og_router *r, const struct og_msg *ev)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(r->found); i++)
		if (r->found[i].at && memcmp(r->found[i].key, ev->key, 32) == 0)
			return;
	memcpy(r->found[r->next_found].key, ev->key, 32);
	r->found[r->next_found].at = r->now_ns;
	r->next_found = (r->next_found + 1) % OG_ARRAY_LEN(r->found);
}

bool og_router_ready(const struct og_router *r)
{
	if (!r->core_ready && r->nb_clusters == 0)
		return false;
	for (uint32_t i = 0; i < r->nb_clusters; i++) {
		const struct og_router_topic *t = r->clusters[i].topics;

		if (r->clusters[i].leaving)
			continue;
		if (t[0].joined)
			continue;
		if (!r->core_ready || !t[0].tried || r->table_nodes > 0)
			return false;
		if (!r->opts.first_node && r->nb_members == 0)
			return false;
	}
	return true;
}

/* ---- events, time ---- */

void og_router_core_event(struct og_router *r, const struct og_msg *ev, uint64_t now_ns)
{
	r->now_ns = now_ns;
	switch ((enum og_core_event)ev->type) {
	case OG_EV_READY:
		r->core_ready = true;
		r->table_nodes = (uint32_t)ev->arg;
		break;
	case OG_EV_JOINED:
		on_joined(r, ev, true);
		r->table_nodes = OG_MAX(r->table_nodes, (uint32_t)ev->arg);
		break;
	case OG_EV_JOIN_RETRY:
		on_joined(r, ev, false);
		break;
	case OG_EV_LEFT:
		on_left(r, ev);
		break;
	case OG_EV_ANNOUNCED:
		r->relays = (uint32_t)ev->arg;
		break;
	case OG_EV_PEER_FOUND:
		on_found(r, ev);
		break;
	case OG_EV_PEER_OPEN:
		og_member_open(r, ev);
		break;
	case OG_EV_PEER_DATA:
		og_member_data(r, ev);
		break;
	case OG_EV_PEER_CREDIT:
		og_member_credit(r, ev);
		break;
	case OG_EV_PEER_END:
		og_member_end(r, ev);
		break;
	case OG_EV_PEER_CLOSED:
		og_member_closed(r, ev);
		break;
	case OG_EV_STOPPED:
		r->core_stopped = true;
		break;
	case OG_EV_VALUE:
	case OG_EV_NODES:
		break; /* asked for and taken by others */
	}
}

uint64_t og_router_tick(struct og_router *r, uint64_t now_ns)
{
	uint64_t next;

	r->now_ns = now_ns;
	next = og_request_tick(r);
	if (r->status_at && now_ns >= r->status_at)
		tell_status(r);
	if (r->status_at)
		next = OG_MIN(next, r->status_at);
	if (!flush_pending(r))
		next = OG_MIN(next, now_ns + retry_command_ns);
	return next;
}

void og_router_drain(struct og_router *r, uint64_t now_ns)
{
	r->now_ns = now_ns;
	if (r->draining || r->stopping)
		return;
	r->draining = true;
	tell_hello(r); /* it lists models; other members stop asking here */
}

void og_router_set_model(
	struct og_router *r, uint32_t model, enum og_router_model_state state, uint64_t now_ns)
{
	r->now_ns = now_ns;
	r->models[model].state = state;
	tell_hello(r); /* it lists models */
}

void og_router_set_limits(struct og_router *r, const struct og_router_limits *limits)
{
	r->opts.deadline_ms = limits->deadline_ms;
	r->opts.peer_running_max = limits->peer_running_max;
	r->opts.peer_queued_max = limits->peer_queued_max;
}

void og_router_stop(struct og_router *r, uint64_t now_ns)
{
	struct og_msg cmd = {.type = OG_CMD_STOP};

	r->now_ns = now_ns;
	if (r->stopping)
		return;
	r->stopping = true;
	og_request_fail_all(r, -ECANCELED, "the node is stopping");
	og_router_command(r, &cmd);
}

bool og_router_stopped(const struct og_router *r)
{
	return r->core_stopped;
}

/* ---- create ---- */

int og_router_create(struct og_router **out, const struct og_router_opts *opts, uint64_t now_ns)
{
	struct og_router *r = calloc(1, sizeof(*r));
	struct og_router_opts *o;

	if (!r)
		return -ENOMEM;
	if (opts->nb_models > OG_ROUTER_MODELS_MAX) {
		free(r);
		return -EINVAL;
	}
	r->opts = *opts;
	o = &r->opts;
	o->deadline_ms = o->deadline_ms ? o->deadline_ms : DEADLINE_MS_DEFAULT;
	o->asks_max = o->asks_max ? o->asks_max : ASKS_MAX_DEFAULT;
	o->peers_max = o->peers_max ? o->peers_max : PEERS_MAX_DEFAULT;
	o->peer_running_max = o->peer_running_max ? o->peer_running_max : RUNNING_MAX_DEFAULT;
	o->peer_queued_max = o->peer_queued_max ? o->peer_queued_max : QUEUED_MAX_DEFAULT;
	for (uint32_t i = 0; i < o->nb_models; i++)
		r->models[i] = o->models[i];
	snprintf(r->node_name, sizeof(r->node_name), "%s", o->node_name);
	memcpy(r->public_key, o->public_key, sizeof(r->public_key));
	r->now_ns = r->started_at = now_ns;
	r->members = calloc(o->peers_max, sizeof(struct og_member *));
	r->asks = calloc(o->asks_max, sizeof(*r->asks));
	r->serves = calloc(OG_SERVES_MAX, sizeof(*r->serves));
	if (!r->members || !r->asks || !r->serves) {
		og_router_destroy(r);
		return -ENOMEM;
	}
	*out = r;
	return 0;
}

void og_router_destroy(struct og_router *r)
{
	if (!r)
		return;
	og_request_fini(r);
	for (uint32_t i = 0; i < r->opts.peers_max && r->members; i++)
		if (r->members[i])
			og_member_free(r->members[i]);
	while (r->pending_first) {
		struct og_pending_cmd *p = r->pending_first;

		r->pending_first = p->next;
		free(p);
	}
	for (uint32_t i = 0; i < r->nb_clusters; i++)
		free(r->clusters[i].id);
	free(r->members);
	free(r->asks);
	free(r->serves);
	free(r);
}
