/*
 * node_reload.c: SIGHUP: the file is read again; what may change while the node runs changes, and what
 * needs a restart is named.
 */
#include "cli/node_priv.h"

#include "base/bytes.h"
#include "base/log.h"
#include "cluster/core.h"

#include <errno.h>
#include <string.h>

static const char *const reloadable[] = {"cluster.id", "cluster.allow", "cluster.deny",
	"limits.deadline", "limits.peer_running", "limits.peer_queued", "limits.stop_timeout",
	"http.rate_per_s", "http.rate_burst", "log.level", "log.format"};

const struct og_config *og_node_config(const struct og_node *n)
{
	return n->has_reloaded ? &n->reloaded : n->cfg;
}

static bool holds(const struct og_config_list *list, const char *text)
{
	for (uint32_t i = 0; i < list->nb_items; i++) {
		if (strcasecmp(list->items[i].text, text) == 0)
			return true;
	}
	return false;
}

static bool holds_id(const struct og_config_list *list, const char *id)
{
	for (uint32_t i = 0; i < list->nb_items; i++) {
		if (strcmp(list->items[i].text, id) == 0)
			return true;
	}
	return false;
}

static void change_clusters(
	struct og_node *n, const struct og_config_list *old, const struct og_config_list *ids)
{
	for (uint32_t i = 0; i < old->nb_items; i++) {
		if (!holds_id(ids, old->items[i].text))
			(void)!og_link_leave(n->link, old->items[i].text);
	}
	for (uint32_t i = 0; i < ids->nb_items; i++) {
		int ret = og_link_join(n->link, ids->items[i].text);

		if (ret < 0 && ret != -EALREADY)
			OG_LOG(node, ERR, "cluster %s: %s", ids->items[i].text, strerror(-ret));
	}
}

/* Keys that one list has and the other lacks, as commands. */
static int push_missing(struct og_node *n, const struct og_config_list *from,
	const struct og_config_list *than, enum og_core_command type)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < from->nb_items; i++) {
		struct og_msg cmd = {.type = (uint16_t)type};
		const char *hex = from->items[i].text;

		if (holds(than, hex))
			continue;
		ret = og_hex_decode(cmd.key, sizeof(cmd.key), hex, strlen(hex));
		if (ret == 0)
			ret = og_router_thread_command(n->router, &cmd);
	}
	return ret;
}

/* In an order that at no moment lets in whom both the old and the new lists keep out. */
static void change_lists(
	struct og_node *n, const struct og_config *old, const struct og_config *fresh)
{
	const struct og_msg enforce = {.type = OG_CMD_ENFORCE};
	int ret = push_missing(n, &fresh->deny, &old->deny, OG_CMD_DENY);

	if (ret == 0)
		ret = push_missing(n, &fresh->allow, &old->allow, OG_CMD_ALLOW);
	if (ret == 0)
		ret = push_missing(n, &old->allow, &fresh->allow, OG_CMD_UNALLOW);
	if (ret == 0)
		ret = push_missing(n, &old->deny, &fresh->deny, OG_CMD_UNDENY);
	if (ret == 0)
		ret = og_router_thread_command(n->router, &enforce);
	if (ret < 0)
		OG_LOG(node, ERR, "allow and deny are reloaded in part: %s", strerror(-ret));
}

static void change_limits(struct og_node *n, const struct og_config *fresh)
{
	struct og_router_limits limits = {.deadline_ms = (uint32_t)fresh->deadline_ms,
		.peer_running_max = (uint32_t)fresh->peer_running,
		.peer_queued_max = (uint32_t)fresh->peer_queued};
	int ret;

	og_link_set_limits(n->link, &limits);
	if (!n->http)
		return;
	ret = og_http_reload(n->http, (uint32_t)fresh->rate_per_s, (uint32_t)fresh->rate_burst);
	if (ret < 0)
		OG_LOG(http, ERR, "api_key_file: %s; the keys before stay", strerror(-ret));
}

struct difference {
	const struct og_node *n;
	bool restart; /* which kind to name */
	uint32_t nb;
};

static void name_difference(void *ctx, const char *section, const char *key)
{
	struct difference *d = ctx;
	char name[64];
	bool may_change = false;

	snprintf(name, sizeof(name), "%s.%s", section, key);
	for (size_t i = 0; i < OG_ARRAY_LEN(reloadable); i++)
		may_change |= strcmp(reloadable[i], name) == 0;
	if (may_change == d->restart)
		return;
	d->nb++;
	if (d->restart)
		OG_LOG(node, WARN, "[%s] %s has changed: it needs a restart", section, key);
	else
		OG_LOG(node, INFO, "[%s] %s is reloaded", section, key);
}

void og_node_reload(struct og_node *n, int (*reload)(void *ctx, struct og_config *out), void *ctx)
{
	static struct og_config fresh;
	const struct og_config *old = og_node_config(n);
	struct difference changed = {.n = n}, restart = {.n = n, .restart = true};

	if (reload(ctx, &fresh) < 0) {
		OG_LOG(node, ERR, "the configuration has errors: the one before stays");
		og_config_fini(&fresh);
		return;
	}
	change_clusters(n, &old->cluster_ids, &fresh.cluster_ids);
	change_lists(n, old, &fresh);
	change_limits(n, &fresh);
	og_node_set_up_log(&fresh);
	og_config_diff(old, &fresh, name_difference, &changed);
	og_config_diff(n->cfg, &fresh, name_difference, &restart);
	if (changed.nb == 0 && restart.nb == 0)
		OG_LOG(node, INFO, "the configuration is read again: nothing has changed");
	if (n->has_reloaded)
		og_config_fini(&n->reloaded);
	n->reloaded = fresh;
	n->has_reloaded = true;
}
