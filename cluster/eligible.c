/*
 * Who can serve a prompt: the rule that request.c chooses by, and the same rule as a list for people.
 */
#include "cluster/router_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t silent_member_ns = 700 * OG_NS_PER_MS;

uint32_t og_member_load(const struct og_member *m)
{
	return m->asked + m->load + m->queue;
}

enum og_fit og_member_fit(
	const struct og_router *r, const struct og_member *m, const char *model, const char **why)
{
	if (m->ended) {
		*why = "it is leaving";
		return OG_FIT_NO;
	}
	if (og_member_has_model(m, model)) {
		*why = model[0] ? "it serves the model" : "it serves a model";
		return OG_FIT_YES;
	}
	if (m->has_hello) {
		*why = !m->models || json_array_size(m->models) == 0
			       ? "it serves no model, or is draining"
			       : "it does not serve the model";
		return OG_FIT_NO;
	}
	if (r->now_ns - m->opened_at < silent_member_ns) {
		*why = "it has just connected and may still say what it serves";
		return OG_FIT_SOON;
	}
	*why = "it never said what it serves: asked when nobody else can";
	return OG_FIT_SILENT;
}

struct candidate {
	const struct og_member *m; /* NULL: this node */
	enum og_fit fit;
	uint32_t load;
	const char *why;
};

static int in_order_of_asking(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->fit != y->fit)
		return x->fit < y->fit ? 1 : -1;
	if ((x->m == NULL) != (y->m == NULL))
		return x->m ? 1 : -1;
	if (x->load != y->load)
		return x->load < y->load ? -1 : 1;
	/* choose() takes the first of equals. */
	return x->m && y->m && x->m->slot != y->m->slot ? (x->m->slot < y->m->slot ? -1 : 1) : 0;
}

static struct candidate this_node(const struct og_router *r, const char *model)
{
	struct candidate c = {.why = "it serves the model", .fit = OG_FIT_YES};
	struct og_router_load load = {.running = r->nb_serves};

	if (r->opts.load)
		r->opts.load(r->opts.env.ctx, &load);
	c.load = load.running + load.queued;
	if (r->draining || r->stopping) {
		c.fit = OG_FIT_NO;
		c.why = "it is draining";
	} else if (!og_router_local_model(r, model)) {
		c.fit = OG_FIT_NO;
		c.why = og_router_local_model(r, "") ? "it does not serve the model"
						     : "it serves no model";
	} else if (og_router_local_model(r, model)->state == OG_MODEL_LOADING) {
		c.why = "it loads the model";
	}
	return c;
}

static json_t *candidate_json(const struct og_router *r, const struct candidate *c, int order)
{
	return json_pack("{s:s, s:o, s:b, s:b, s:o, s:i, s:s}", "name",
		c->m ? c->m->name : r->node_name, "key",
		og_json_hex(c->m ? c->m->key : r->public_key, 32), "local", c->m == NULL,
		"eligible", order > 0, "order", order > 0 ? json_integer(order) : json_null(),
		"load", (int)c->load, "why", c->why);
}

json_t *og_router_eligible_json(struct og_router *r, const char *model, uint64_t now_ns)
{
	struct candidate *list = calloc(r->nb_members + 1, sizeof(*list));
	json_t *out = json_array();
	uint32_t n = 0;
	int order = 0;

	r->now_ns = now_ns;
	if (!list)
		return out;
	list[n++] = this_node(r, model);
	for (uint32_t i = 0; i < r->opts.peers_max && n <= r->nb_members; i++) {
		const struct og_member *m = r->members[i];

		if (!m)
			continue;
		list[n] = (struct candidate){.m = m, .load = og_member_load(m)};
		list[n].fit = og_member_fit(r, m, model, &list[n].why);
		n++;
	}
	qsort(list, n, sizeof(*list), in_order_of_asking);
	for (uint32_t i = 0; i < n; i++)
		json_array_append_new(out,
			candidate_json(r, &list[i],
				list[i].fit == OG_FIT_YES || list[i].fit == OG_FIT_SILENT ? ++order
											  : 0));
	free(list);
	return out;
}
