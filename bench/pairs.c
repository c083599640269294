#include "bench/pairs.h"

#include "bench/js.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

static int start_js(struct bench_child *c, const struct bench_child *network, int cpu)
{
	struct js_command command;
	int ret = js_command(&command, "peer", network->ready);

	return ret < 0 ? ret : bench_child_start(c, command.argv, cpu);
}

static int start_ours(struct bench_child *c, const struct port_end *end, int cpu)
{
	const char *const argv[] = {
		NULL, "--serve", "peer", end->driver, end->address, end->prefix_bits, NULL};

	return bench_child_start(c, argv, cpu);
}

/* Beside our own pair, all run over sockets of loopback. */
static int start_pair(
	const struct bench *b, struct pairs *all, const char *name, bool js_client, bool js_server)
{
	static const struct port_end loopback = {"socket", "127.0.0.1:0", "0"};
	bool first = all->nb == 0;
	struct pair *p = &all->list[all->nb++];
	const char *argv[PORTS_ARGS];
	int ret;

	p->polls = first && b->port > BENCH_RECVMMSG;
	snprintf(p->name, sizeof(p->name), "%s", name);
	ports_serve(&all->ports, argv, "peer");
	if (js_server)
		ret = start_js(&p->server, &all->js_network, b->server_cpu);
	else if (first)
		ret = bench_child_start(&p->server, argv, b->server_cpu);
	else
		ret = start_ours(&p->server, &loopback, b->server_cpu);
	if (ret == 0 && js_client)
		ret = start_js(&p->client, &all->js_network, b->load_cpu);
	else if (ret == 0)
		ret = start_ours(&p->client, first ? &all->ports.client : &loopback, b->load_cpu);
	if (ret == 0 && sscanf(p->server.ready, "%31s %79s", p->server_addr, p->server_key) != 2)
		ret = -EPROTO;
	return ret;
}

int pairs_start(const struct bench *b, struct pairs *p, bool connect)
{
	struct pair_answer answer;
	int ret;

	memset(p, 0, sizeof(*p));
	ret = ports_open(&p->ports, b);
	if (ret == 0)
		ret = start_pair(b, p, "og to og", false, false);
	if (ret == 0 && b->js) {
		ret = js_start_network(&p->js_network);
		if (ret == 0)
			ret = start_pair(b, p, "js to js", true, true);
		if (ret == 0)
			ret = start_pair(b, p, "og to js", false, true);
		if (ret == 0)
			ret = start_pair(b, p, "js to og", true, false);
	}
	for (uint32_t i = 0; ret == 0 && connect && i < p->nb; i++)
		ret = pair_ask(&p->list[i], &answer, "connect %s %s", p->list[i].server_key,
			p->list[i].server_addr);
	for (uint32_t i = 0; i < p->nb; i++)
		pair_pause(&p->list[i]);
	return ret;
}

void pairs_stop(struct pairs *p)
{
	for (uint32_t i = 0; i < p->nb; i++) {
		bench_child_resume(&p->list[i].server);
		bench_child_stop(&p->list[i].client);
		bench_child_stop(&p->list[i].server);
	}
	bench_child_stop(&p->js_network);
	ports_close(&p->ports);
}

void pair_resume(struct pair *p)
{
	if (!p->polls)
		return;
	bench_child_resume(&p->server);
	bench_child_resume(&p->client);
}

void pair_pause(struct pair *p)
{
	if (!p->polls)
		return;
	bench_child_pause(&p->client);
	bench_child_pause(&p->server);
}

int pair_ask(struct pair *p, struct pair_answer *out, const char *fmt, ...)
{
	char line[256];
	va_list args;
	int ret;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	*out = (struct pair_answer){0};
	ret = bench_child_tell(&p->client, line);
	if (ret == 0)
		ret = bench_child_hear(&p->client, line, sizeof(line));
	if (ret == 0 && sscanf(line, "done %lf %lf %lf", &out->ns, &out->p50_ns, &out->p99_ns) >= 1)
		return 0;
	fprintf(stderr, "og-bench: %s: %s\n", p->name, ret < 0 ? strerror(-ret) : line);
	return ret < 0 ? ret : -EPROTO;
}

void pairs_report(const struct bench *b, const struct pairs *p, const char *name, const char *unit,
	enum bench_better better, const struct bench_samples *samples, const char *bound_name,
	const struct bench_samples *bound)
{
	bench_report(b, &(struct bench_result){name, unit, better, &samples[0], bound_name, bound});
	for (uint32_t i = 1; i < p->nb; i++)
		bench_report(b, &(struct bench_result){name, unit, better, &samples[0],
					p->list[i].name, &samples[i]});
}
