#include "bench/servers.h"

#include "bench/js.h"

#include <errno.h>
#include <string.h>

static int start(const struct bench *b, struct servers *s, const char *name, bool is_echo,
	const char *const *argv)
{
	struct server *one = &s->list[s->nb++];
	char text[OG_ADDR_TEXT_BYTES];
	int ret;

	snprintf(one->name, sizeof(one->name), "%s", name);
	one->is_echo = is_echo;
	ret = bench_child_start(&one->child, argv, b->server_cpu);
	if (ret < 0)
		return ret;
	if (sscanf(one->child.ready, "%21s", text) != 1 || og_addr_parse(&one->addr, text) < 0)
		return -EPROTO;
	ret = load_open_socket(&one->load, &one->addr);
	bench_child_pause(&one->child);
	return ret;
}

int servers_start(const struct bench *b, struct servers *s, const char *kind)
{
	const char *const ours[] = {NULL, "--serve", kind, "socket", "127.0.0.1:0", NULL};
	const char *const mmsg[] = {NULL, "--serve", "echo-recvmmsg", NULL};
	const char *const uring[] = {NULL, "--serve", "echo-io_uring", NULL};
	int ret;

	memset(s, 0, sizeof(*s));
	ret = start(b, s, "og-node", strcmp(kind, "echo") == 0, ours);
	if (ret == 0)
		ret = start(b, s, "recvmmsg echo", true, mmsg);
	if (ret == 0)
		ret = start(b, s, "io_uring echo", true, uring);
	if (ret == 0 && b->js && strcmp(kind, "node") == 0) {
		struct js_command js;

		ret = js_start_network(&s->js_network);
		if (ret < 0)
			return ret;
		ret = js_command(&js, "node", s->js_network.ready);
		if (ret == 0)
			ret = start(b, s, "hyperdht (js)", false, js.argv);
	}
	return ret;
}

void servers_stop(struct servers *s)
{
	for (uint32_t i = 0; i < s->nb; i++) {
		load_close(s->list[i].load);
		bench_child_stop(&s->list[i].child);
	}
	bench_child_stop(&s->js_network);
}

struct figures {
	struct bench_samples per_s, per_cpu_s;
	uint64_t lost, bad;
};

/* One run of one server: a tenth of it to warm up, then the run that counts. */
static int run_once(
	const struct bench *b, struct server *s, const struct load_plan *plan, struct figures *f)
{
	struct load_result r;
	uint64_t cpu_ns;
	int ret;

	bench_child_resume(&s->child);
	ret = load_run(s->load, plan, b->run_ns / 10, &r);
	cpu_ns = bench_child_cpu_ns(&s->child);
	if (ret == 0)
		ret = load_run(s->load, plan, b->run_ns, &r);
	cpu_ns = bench_child_cpu_ns(&s->child) - cpu_ns;
	bench_child_pause(&s->child);
	if (ret < 0)
		return ret;
	bench_add(&f->per_s, (double)r.replies * 1e9 / (double)r.ns);
	bench_add(&f->per_cpu_s, (double)r.replies * 1e9 / (double)OG_MAX(cpu_ns, 1ull));
	f->lost += r.lost;
	f->bad += r.bad;
	return 0;
}

static void report(const struct bench *b, const struct servers *s, const char *name,
	const char *what, const struct figures *f)
{
	char per_cpu[64], unit[32], unit_cpu[32];

	snprintf(per_cpu, sizeof(per_cpu), "%s per CPU-second", name);
	snprintf(unit, sizeof(unit), "%s/s", what);
	snprintf(unit_cpu, sizeof(unit_cpu), "%s/CPU-s", what);
	for (uint32_t i = 1; i < s->nb; i++) {
		bench_report(b, &(struct bench_result){name, unit, BENCH_HIGHER, &f[0].per_s,
					s->list[i].name, &f[i].per_s});
		bench_report(b, &(struct bench_result){per_cpu, unit_cpu, BENCH_HIGHER,
					&f[0].per_cpu_s, s->list[i].name, &f[i].per_cpu_s});
	}
	for (uint32_t i = 0; i < s->nb; i++)
		if (f[i].lost + f[i].bad > 0)
			bench_note("%s: %s lost %lu and answered %lu too short", name,
				s->list[i].name, (unsigned long)f[i].lost, (unsigned long)f[i].bad);
}

int servers_measure(const struct bench *b, struct servers *s, const char *name, const char *what,
	const struct load_plan *plans)
{
	struct figures f[SERVERS_MAX] = {0};

	for (uint32_t run = 0; run < b->runs; run++)
		for (uint32_t i = 0; i < s->nb; i++) {
			int ret = run_once(b, &s->list[i], &plans[i], &f[i]);

			if (ret < 0) {
				fprintf(stderr, "og-bench: %s: %s\n", s->list[i].name,
					strerror(-ret));
				return ret;
			}
		}
	for (uint32_t i = 0; i < s->nb; i++)
		if (bench_median(&f[i].per_s) <= 0) {
			fprintf(stderr, "og-bench: %s: %s answers nothing\n", name,
				s->list[i].name);
			return -EPROTO;
		}
	report(b, s, name, what, f);
	return 0;
}
