#include "bench/servers.h"

#include "bench/js.h"

#include <errno.h>
#include <string.h>

void server_resume(struct server *s)
{
	bench_child_resume(&s->child);
	bench_child_resume(&s->generator);
}

void server_pause(struct server *s)
{
	bench_child_pause(&s->generator);
	bench_child_pause(&s->child);
}

/* The load comes from the other end of our port, or from a socket where that is the kernel's. */
static int open_load(const struct bench *b, struct server *s, const struct port_end *from)
{
	char text[OG_ADDR_TEXT_BYTES];
	const char *const argv[] = {NULL, "--serve", "load", from ? from->driver : "",
		from ? from->address : "", from ? from->prefix_bits : "",
		og_addr_format(&s->addr, text), NULL};
	int ret;

	if (!from)
		return load_open_socket(&s->load, &s->addr);
	ret = bench_child_start(&s->generator, argv, b->load_cpu);
	return ret < 0 ? ret : load_open_port(&s->load, &s->generator);
}

static int start(const struct bench *b, struct servers *s, const char *name, bool is_echo,
	const char *const *argv, const struct port_end *from)
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
	ret = open_load(b, one, from);
	server_pause(one);
	return ret;
}

static int start_js(const struct bench *b, struct servers *s)
{
	struct js_command js;
	int ret = js_start_network(&s->js_network);

	if (ret == 0)
		ret = js_command(&js, "node", s->js_network.ready);
	return ret < 0 ? ret : start(b, s, "hyperdht (js)", false, js.argv, NULL);
}

/* testpmd does not say when it is up: ask until it answers. */
static int start_testpmd(const struct bench *b, struct servers *s)
{
	const uint8_t hello[4] = {0};
	uint8_t answer[LOAD_REPLY_BYTES];
	const char *argv[PORTS_ARGS];
	int ret = ports_testpmd(&s->ports, b, argv);

	if (ret == -ENOENT) {
		if (b->port == BENCH_AF_PACKET || b->port == BENCH_AF_XDP)
			bench_note("dpdk-testpmd is not installed: measured without it");
		return 0;
	}
	if (ret == 0)
		ret = start(b, s, "testpmd 5tswap", true, argv, NULL);
	if (ret < 0)
		return ret;
	server_resume(&s->list[s->nb - 1]);
	for (int i = 0; i < 5; i++) {
		ret = load_ask(s->list[s->nb - 1].load, hello, sizeof(hello), answer);
		if (ret >= 0)
			break;
	}
	server_pause(&s->list[s->nb - 1]);
	return ret < 0 ? ret : 0;
}

int servers_start(const struct bench *b, struct servers *s, const char *kind)
{
	const char *const mmsg[] = {NULL, "--serve", "echo-recvmmsg", NULL};
	const char *const uring[] = {NULL, "--serve", "echo-io_uring", NULL};
	bool is_echo = strcmp(kind, "echo") == 0;
	const char *ours[PORTS_ARGS];
	int ret;

	memset(s, 0, sizeof(*s));
	ret = ports_open(&s->ports, b);
	if (ret == 0) {
		ports_serve(&s->ports, ours, kind);
		ret = start(b, s, "og-node", is_echo, ours,
			ports_kernel_client(&s->ports) ? NULL : &s->ports.client);
	}
	if (ret == 0)
		ret = start(b, s, "recvmmsg echo", true, mmsg, NULL);
	if (ret == 0)
		ret = start(b, s, "io_uring echo", true, uring, NULL);
	if (ret == 0)
		ret = start_testpmd(b, s);
	if (ret == 0 && b->js && !is_echo)
		ret = start_js(b, s);
	return ret;
}

void servers_stop(struct servers *s)
{
	for (uint32_t i = 0; i < s->nb; i++) {
		bench_child_resume(&s->list[i].child);
		load_close(s->list[i].load);
		bench_child_stop(&s->list[i].generator);
		bench_child_stop(&s->list[i].child);
	}
	ports_close(&s->ports);
	bench_child_stop(&s->js_network);
}

struct figures {
	struct bench_samples per_s, per_cpu_s;
	uint64_t lost, bad;
	struct bench_samples load_busy; /* percent */
};

/*
 * One run of one server: a single answer, without which neighbours may not know each other, a tenth of
 * the run to warm up, then the run that counts.
 */
static int run_once(
	const struct bench *b, struct server *s, const struct load_plan *plan, struct figures *f)
{
	uint8_t answer[LOAD_REPLY_BYTES];
	struct load_result r;
	uint64_t cpu_ns;
	int ret;

	server_resume(s);
	ret = load_ask(s->load, plan->slots[0].data, plan->slots[0].len_bytes, answer);
	if (ret >= 0)
		ret = load_run(s->load, plan, b->run_ns / 10, &r);
	cpu_ns = bench_child_cpu_ns(&s->child);
	if (ret == 0)
		ret = load_run(s->load, plan, b->run_ns, &r);
	cpu_ns = bench_child_cpu_ns(&s->child) - cpu_ns;
	server_pause(s);
	if (ret < 0)
		return ret;
	bench_add(&f->per_s, (double)r.replies * 1e9 / (double)r.ns);
	bench_add(&f->per_cpu_s, (double)r.replies * 1e9 / (double)OG_MAX(cpu_ns, 1ull));
	if (r.busy_percent > 0)
		bench_add(&f->load_busy, r.busy_percent);
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
	if (f[0].load_busy.n > 0)
		bench_note("%s: the load worked %.0f %% of its time", name,
			bench_median(&f[0].load_busy));
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
