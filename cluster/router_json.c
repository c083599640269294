/*
 * What the router knows, for people: the JSON of `opengateway --json`.
 */
#include "cluster/router_priv.h"

#include <string.h>

json_t *og_json_hex(const uint8_t *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	char text[65];

	for (size_t i = 0; i < n; i++) {
		text[2 * i] = digits[p[i] >> 4];
		text[2 * i + 1] = digits[p[i] & 15];
	}
	return json_stringn(text, 2 * n);
}

static json_t *ms_between(uint64_t from_ns, uint64_t to_ns)
{
	if (!from_ns || !to_ns || to_ns < from_ns)
		return json_null();
	return json_real((double)(to_ns - from_ns) / 1e6);
}

static bool lists(const json_t *array, const char *name)
{
	size_t i;
	json_t *v;

	json_array_foreach((json_t *)(uintptr_t)array, i,
		v) if (strcmp(json_string_value(v), name) == 0) return true;
	return false;
}

static json_t *peer_json(const struct og_router *r, const struct og_member *m, uint64_t now_ns)
{
	char addr[OG_ADDR_TEXT_BYTES];
	uint64_t joined_at = r->nb_clusters ? r->clusters[0].joined_at : 0;
	uint64_t found_at = m->found_at ? m->found_at : m->opened_at;
	json_t *o = json_pack("{s:o, s:s, s:s, s:s, s:b}", "key", og_json_hex(m->key, 32), "name",
		m->name, "address", og_addr_format(&m->addr, addr), "direction",
		m->dialled ? "outgoing" : "incoming", "og", m->speaks_og);

	json_object_set_new(o, "clusters", m->clusters ? json_incref(m->clusters) : json_array());
	json_object_set_new(o, "models", m->models ? json_incref(m->models) : json_array());
	json_object_set_new(o, "said_hello", json_boolean(m->has_hello));
	json_object_set_new(o, "load", json_integer(m->load + m->queue));
	json_object_set_new(o, "asked", json_integer(m->asked));
	json_object_set_new(o, "serving", json_integer(m->serving));
	json_object_set_new(
		o, "connected_s", json_real((double)(now_ns - m->opened_at) / (double)OG_NS_PER_S));
	json_object_set_new(o, "discovery_ms", ms_between(joined_at, found_at));
	json_object_set_new(o, "connect_ms", ms_between(found_at, m->opened_at));
	return o;
}

json_t *og_router_peers_json(struct og_router *r, const char *cluster_id, uint64_t now_ns)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < r->opts.peers_max; i++) {
		const struct og_member *m = r->members[i];

		if (m && (!cluster_id || !m->has_hello || lists(m->clusters, cluster_id)))
			json_array_append_new(list, peer_json(r, m, now_ns));
	}
	return list;
}

static uint32_t members_of(const struct og_router *r, const char *cluster_id)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->opts.peers_max; i++) {
		const struct og_member *m = r->members[i];

		n += m && (!m->has_hello || lists(m->clusters, cluster_id));
	}
	return n;
}

json_t *og_router_clusters_json(struct og_router *r, uint64_t now_ns)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < r->nb_clusters; i++) {
		const struct og_router_cluster *c = &r->clusters[i];

		json_array_append_new(list,
			json_pack("{s:s, s:s, s:o, s:i, s:i, s:o}", "id", c->id, "state",
				c->leaving            ? "leaving"
				: c->topics[0].joined ? "joined"
						      : "joining",
				"topic", og_json_hex(c->topics[0].topic, 32), "stored_on",
				(int)c->topics[0].stored_on, "peers", (int)members_of(r, c->id),
				"announce_ms", ms_between(c->joined_at, c->announced_at)));
	}
	return list;
}

static void add_model(json_t *list, const char *id, const char *owner, json_t *key, bool local,
	enum og_router_model_state state)
{
	static const char *const states[] = {[OG_MODEL_SERVED] = "served",
		[OG_MODEL_LOADING] = "loading",
		[OG_MODEL_FAILED] = "failed"};

	json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:b, s:s}", "id", id, "node", owner,
					    "key", key, "local", local, "state", states[state]));
}

json_t *og_router_models_json(struct og_router *r, uint64_t now_ns)
{
	json_t *list = json_array(), *v;
	size_t k;

	for (uint32_t i = 0; i < r->opts.nb_models; i++) {
		add_model(list, r->models[i].name, r->node_name, og_json_hex(r->public_key, 32),
			true, r->models[i].state);
		if (r->models[i].alias && r->models[i].alias[0])
			add_model(list, r->models[i].alias, r->node_name,
				og_json_hex(r->public_key, 32), true, r->models[i].state);
	}
	for (uint32_t i = 0; i < r->opts.peers_max; i++) {
		const struct og_member *m = r->members[i];

		if (!m || !m->models)
			continue;
		json_array_foreach(m->models, k, v) add_model(list, json_string_value(v), m->name,
			og_json_hex(m->key, 32), false, OG_MODEL_SERVED);
	}
	return list;
}

json_t *og_router_status_json(struct og_router *r, uint64_t now_ns)
{
	const struct og_router_stats *s = &r->stats;
	json_t *o = json_pack("{s:s, s:o, s:b, s:f, s:i, s:i, s:i}", "name", r->node_name, "key",
		og_json_hex(r->public_key, 32), "ready", og_router_ready(r), "uptime_s",
		(double)(now_ns - r->started_at) / 1e9, "peers", (int)r->nb_members, "clusters",
		(int)r->nb_clusters, "relays", (int)r->relays);

	json_object_set_new(o, "requests",
		json_pack("{s:i, s:i, s:I, s:I, s:I, s:I}", "running", (int)r->nb_asks, "serving",
			(int)r->nb_serves, "done", (json_int_t)s->asks_done, "failed",
			(json_int_t)s->asks_failed, "retried", (json_int_t)s->asks_retried,
			"served", (json_int_t)s->serves_done));
	return o;
}

json_t *og_router_gauge_json(struct og_router *r, uint64_t now_ns)
{
	json_t *members = json_array();

	for (uint32_t i = 0; i < r->opts.peers_max; i++) {
		const struct og_member *m = r->members[i];

		if (!m)
			continue;
		json_array_append_new(members,
			json_pack("{s:s, s:o, s:O?, s:i, s:i, s:o, s:i, s:i}", "name", m->name,
				"key", og_json_hex(m->key, 32), "models", m->models, "running",
				(int)m->load, "queued", (int)m->queue, "kv_free",
				m->kv_free < 0 ? json_null() : json_integer(m->kv_free), "asked",
				(int)m->asked, "serving", (int)m->serving));
	}
	return json_pack("{s:s, s:i, s:i, s:o}", "name", r->node_name, "asks", (int)r->nb_asks,
		"serving", (int)r->nb_serves, "members", members);
}
