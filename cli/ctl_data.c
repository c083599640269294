/*
 * ctl_data.c: what a node says of itself, for people or as JSON.
 */
#include "cli/ctl.h"

#include "cli/process.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Asks, and shows the answer: as JSON, or by `show`. */
static int show_answer(json_t *req, void (*show)(FILE *out, const json_t *data))
{
	int status;
	json_t *data = og_ctl_ask(req, &status);

	if (!data)
		return status;
	if (og_ctl_json)
		og_ctl_print(data);
	else
		show(stdout, data);
	json_decref(data);
	return OG_EXIT_DONE;
}

static void show_loading(FILE *out, const json_t *list)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *l = json_array_get(list, i);

		if (strcmp(og_ctl_text(l, "state"), "failed") == 0)
			fprintf(out, "failed: %s: %s\n", og_ctl_text(l, "model"),
				og_ctl_text(l, "error"));
		if (strcmp(og_ctl_text(l, "state"), "loading") == 0)
			fprintf(out, "loading: %s: %.2f of %.2f GB, %.2f GB/s, %.0f s left\n",
				og_ctl_text(l, "model"), og_ctl_real(l, "bytes_read") / 1e9,
				og_ctl_real(l, "bytes_wanted") / 1e9,
				og_ctl_real(l, "bytes_per_s") / 1e9, og_ctl_real(l, "left_s"));
	}
}

void og_ctl_show_status(FILE *out, const json_t *o)
{
	const json_t *waiting = json_object_get(o, "waiting_for");
	const json_t *requests = json_object_get(o, "requests");

	fprintf(out, "%s  %s  key %s\n", og_ctl_text(o, "state"), og_ctl_text(o, "name"),
		og_ctl_text(o, "key"));
	for (size_t i = 0; i < json_array_size(waiting); i++)
		fprintf(out, "waiting: %s\n", json_string_value(json_array_get(waiting, i)));
	show_loading(out, json_object_get(o, "load"));
	fprintf(out, "up %.0f s, pid %lld, http %s, dht %s (%s)\n", og_ctl_real(o, "uptime_s"),
		og_ctl_int(o, "pid"), og_ctl_text(o, "http")[0] ? og_ctl_text(o, "http") : "none",
		og_ctl_text(o, "dht"), og_ctl_text(o, "port"));
	fprintf(out, "%lld clusters, %lld peers, %lld DHT nodes\n", og_ctl_int(o, "clusters"),
		og_ctl_int(o, "peers"), og_ctl_int(o, "dht_nodes"));
	fprintf(out,
		"prompts: %lld of clients and %lld of members running, %lld done, %lld failed\n",
		og_ctl_int(requests, "running"), og_ctl_int(requests, "serving"),
		og_ctl_int(requests, "done"), og_ctl_int(requests, "failed"));
}

static int show_stopped(void)
{
	puts(og_ctl_json ? "{\"state\": \"stopped\"}" : "stopped");
	return OG_EXIT_NOT_RUNNING;
}

/* It holds the lock and does not listen: it opens its models, or has just been killed. */
static int show_starting(pid_t pid)
{
	const struct timespec step = {0, 50 * 1000000L};

	for (int i = 0; i < 6; i++) {
		nanosleep(&step, NULL);
		if (og_process_holder(og_ctl_root) == 0)
			return show_stopped();
	}
	if (og_ctl_json)
		printf("{\"state\": \"starting\", \"pid\": %d}\n", (int)pid);
	else
		printf("starting  pid %d does not listen yet: it opens its models\n", (int)pid);
	return OG_EXIT_DONE;
}

int og_ctl_status(void)
{
	pid_t holder = og_process_holder(og_ctl_root);
	json_t *status;

	if (holder < 0) {
		og_ctl_say("%s: %s", og_ctl_root, strerror(-holder));
		return OG_EXIT_FAILED;
	}
	if (holder == 0)
		return show_stopped();
	status = og_ctl_try(json_pack("{s:s}", "cmd", "status"));
	if (!status)
		return show_starting(holder);
	if (og_ctl_json)
		og_ctl_print(status);
	else
		og_ctl_show_status(stdout, status);
	json_decref(status);
	return OG_EXIT_DONE;
}

static void show_clusters(FILE *out, const json_t *list)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *c = json_array_get(list, i);

		fprintf(out, "%-24s %-8s %lld peers, stored on %lld nodes\n", og_ctl_text(c, "id"),
			og_ctl_text(c, "state"), og_ctl_int(c, "peers"),
			og_ctl_int(c, "stored_on"));
	}
}

int og_ctl_clusters(void)
{
	return show_answer(json_pack("{s:s}", "cmd", "clusters"), show_clusters);
}

static void show_peers(FILE *out, const json_t *list)
{
	char models[512], clusters[512];

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *p = json_array_get(list, i);

		fprintf(out, "%-16s %s  %s  models %s  clusters %s\n",
			og_ctl_text(p, "name")[0] ? og_ctl_text(p, "name") : "-",
			og_ctl_text(p, "key"), og_ctl_text(p, "address"),
			og_ctl_joined(json_object_get(p, "models"), models, sizeof(models)),
			og_ctl_joined(json_object_get(p, "clusters"), clusters, sizeof(clusters)));
	}
}

int og_ctl_peers(const char *cluster)
{
	return show_answer(
		json_pack("{s:s, s:s*}", "cmd", "peers", "cluster", cluster), show_peers);
}

static void show_models(FILE *out, const json_t *list)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *m = json_array_get(list, i);

		const char *state = og_ctl_text(m, "state");

		fprintf(out, "%-24s %s%s%s%s\n", og_ctl_text(m, "id"), og_ctl_text(m, "node"),
			json_is_true(json_object_get(m, "local")) ? " (this node)" : "",
			strcmp(state, "served") == 0 ? "" : ", ",
			strcmp(state, "served") == 0 ? "" : state);
	}
}

int og_ctl_models(void)
{
	return show_answer(json_pack("{s:s}", "cmd", "models"), show_models);
}

/* ---- load ---- */

static void show_own_models(FILE *out, const json_t *models)
{
	for (size_t i = 0; i < json_array_size(models); i++) {
		const json_t *m = json_array_get(models, i);
		long long total = og_ctl_int(m, "kv_total");

		fprintf(out, "%-24s %-12s %7lld %7lld %6.0f%% %11.1f\n", og_ctl_text(m, "model"),
			og_ctl_text(m, "backend"), og_ctl_int(m, "running"),
			og_ctl_int(m, "queued"),
			total ? 100.0 * (double)og_ctl_int(m, "kv_free") / (double)total : 0.0,
			og_ctl_real(m, "tokens_per_s"));
	}
}

static void show_members(FILE *out, const json_t *members)
{
	for (size_t i = 0; i < json_array_size(members); i++) {
		const json_t *m = json_array_get(members, i);
		const json_t *kv_free = json_object_get(m, "kv_free");
		char models[128], free_text[32] = "-";

		if (json_is_integer(kv_free))
			snprintf(free_text, sizeof(free_text), "%lld",
				(long long)json_integer_value(kv_free));
		fprintf(out, "%-24s %7lld %7lld %10s %7lld %7lld  %s\n",
			og_ctl_text(m, "name")[0] ? og_ctl_text(m, "name") : "-",
			og_ctl_int(m, "running"), og_ctl_int(m, "queued"), free_text,
			og_ctl_int(m, "asked"), og_ctl_int(m, "serving"),
			og_ctl_joined(json_object_get(m, "models"), models, sizeof(models)));
	}
}

void og_ctl_show_gauge(FILE *out, const json_t *g)
{
	const json_t *models = json_object_get(g, "models");
	const json_t *members = json_object_get(g, "members");

	fprintf(out, "%s  %s  prompts of clients %lld, of members %lld\n", og_ctl_text(g, "name"),
		og_ctl_text(g, "state"), og_ctl_int(g, "asks"), og_ctl_int(g, "serving"));
	if (json_array_size(models) > 0)
		fprintf(out, "%-24s %-12s %7s %7s %7s %11s\n", "MODEL HERE", "BACKEND", "RUNNING",
			"QUEUED", "KV FREE", "TOKENS/S");
	show_own_models(out, models);
	if (json_array_size(members) > 0)
		fprintf(out, "%-24s %7s %7s %10s %7s %7s  %s\n", "MEMBER", "RUNNING", "QUEUED",
			"KV FREE", "ASKED", "SERVED", "MODELS");
	show_members(out, members);
}

int og_ctl_gauge(void)
{
	return show_answer(json_pack("{s:s}", "cmd", "gauge"), og_ctl_show_gauge);
}

static void show_eligible(FILE *out, const json_t *list)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *c = json_array_get(list, i);
		char order[16] = "-";

		if (json_is_true(json_object_get(c, "eligible")))
			snprintf(order, sizeof(order), "%lld", og_ctl_int(c, "order"));
		fprintf(out, "%3s  %-20s %.16s  load %-4lld %s%s\n", order,
			og_ctl_text(c, "name")[0] ? og_ctl_text(c, "name") : "-",
			og_ctl_text(c, "key"), og_ctl_int(c, "load"), og_ctl_text(c, "why"),
			json_is_true(json_object_get(c, "local")) ? " (this node)" : "");
	}
}

/* The list, whether or not there is one who can: the status says that. */
int og_ctl_eligible(int argc, char **argv)
{
	static const struct option options[] = {{"model", 1, NULL, 'm'}, {0}};
	const char *model = "";
	bool any = false;
	json_t *list;
	int opt, status;

	optind = 0; /* starts getopt anew */
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt != 'm')
			return og_ctl_usage();
		model = optarg;
	}
	if (optind < argc)
		return og_ctl_usage();
	list = og_ctl_ask(json_pack("{s:s, s:s}", "cmd", "eligible", "model", model), &status);
	if (!list)
		return status;
	for (size_t i = 0; i < json_array_size(list); i++)
		any |= json_is_true(json_object_get(json_array_get(list, i), "eligible"));
	if (og_ctl_json)
		og_ctl_print(list);
	else
		show_eligible(stdout, list);
	json_decref(list);
	if (!any)
		og_ctl_say("nobody can serve it now");
	return any ? OG_EXIT_DONE : OG_EXIT_CANNOT_SERVE;
}
