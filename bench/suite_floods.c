/*
 * suite_floods.c: what honest clients of a node see while it is flooded as fast as a second core
 * can: 60 probes a second (PING, FIND_NODE, LOOKUP in turn), lost when not answered within a second.
 *
 * Reference: the same probes before the flood, in the same run; with --peer js an unmodified
 * hyperdht server under the same flood.
 */
#include "base/bytes.h"
#include "base/rand.h"
#include "bench/bench.h"
#include "bench/dht_requests.h"
#include "bench/flood.h"
#include "bench/js.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	PROBES_PER_S = 60,
	PROBES_MAX = 4096,
	CALM = 10, /* probes answered in a row, and soon, are a recovery */
	TARGETS_MAX = 2,
};

static const uint64_t probe_lost_ns = OG_NS_PER_S;
static const uint64_t probe_soon_ns = 5 * OG_NS_PER_MS;
static const uint64_t recovery_max_ns = 10 * OG_NS_PER_S;

/* ---- probes ---- */

struct prober {
	int fd;
	struct og_addr to;
	struct og_rand rand;
	uint16_t nb;
	uint64_t sent_ns[PROBES_MAX];
	uint64_t took_ns[PROBES_MAX]; /* 0: no answer yet */
};

static void probe_send(struct prober *p)
{
	uint8_t target[32], request[LOAD_REQUEST_BYTES];
	uint16_t n;

	if (p->nb == PROBES_MAX)
		return;
	og_rand_fill(&p->rand, target, sizeof(target));
	n = dht_request(request, (enum dht_request)(p->nb % 3), p->nb, &p->to, target);
	p->took_ns[p->nb] = 0;
	p->sent_ns[p->nb++] = bench_now_ns();
	(void)!send(p->fd, request, n, 0);
}

/* Take answers until `until_ns`. */
static void probe_receive(struct prober *p, uint64_t until_ns)
{
	uint8_t answer[LOAD_REPLY_BYTES];
	uint64_t now_ns;

	while ((now_ns = bench_now_ns()) < until_ns) {
		const struct timespec wait = {
			.tv_nsec = (long)OG_MIN(until_ns - now_ns, OG_NS_PER_S - 1)};
		struct pollfd pfd = {p->fd, POLLIN, 0};
		uint16_t tid;

		if (ppoll(&pfd, 1, &wait, NULL) <= 0 ||
			recv(p->fd, answer, sizeof(answer), MSG_DONTWAIT) < 4)
			continue;
		tid = og_load_le16(answer + 2);
		if (tid < p->nb && p->took_ns[tid] == 0)
			p->took_ns[tid] = OG_MAX(bench_now_ns() - p->sent_ns[tid], 1ull);
	}
}

static void probe_for(struct prober *p, uint64_t ns)
{
	uint64_t start_ns = bench_now_ns(), i = 0;

	p->nb = 0;
	for (; i * OG_NS_PER_S / PROBES_PER_S < ns && i < PROBES_MAX; i++) {
		probe_send(p);
		probe_receive(p, start_ns + (i + 1) * OG_NS_PER_S / PROBES_PER_S);
	}
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

struct seen {
	double lost_percent, p50_us, p99_us;
};

static struct seen probe_result(const struct prober *p)
{
	static uint64_t took[PROBES_MAX];
	uint32_t n = 0;

	for (uint16_t i = 0; i < p->nb; i++)
		if (p->took_ns[i] > 0 && p->took_ns[i] <= probe_lost_ns)
			took[n++] = p->took_ns[i];
	qsort(took, n, sizeof(took[0]), by_value);
	return (struct seen){100.0 * (double)(p->nb - n) / (double)OG_MAX(p->nb, (uint16_t)1),
		n ? (double)took[n / 2] / 1e3 : 0, n ? (double)took[n * 99 / 100] / 1e3 : 0};
}

/* ns until CALM probes in a row are answered soon. */
static uint64_t probe_recovery(struct prober *p)
{
	uint64_t start_ns = bench_now_ns();

	for (int calm = 0; calm < CALM && bench_now_ns() - start_ns < recovery_max_ns;) {
		p->nb = 0;
		probe_send(p);
		for (uint64_t end = bench_now_ns() + 4 * probe_soon_ns;
			p->took_ns[0] == 0 && bench_now_ns() < end;)
			probe_receive(p, bench_now_ns() + OG_NS_PER_MS);
		calm = p->took_ns[0] > 0 && p->took_ns[0] <= probe_soon_ns ? calm + 1 : 0;
	}
	return bench_now_ns() - start_ns;
}

/* ---- targets ---- */

struct target {
	const char *name;
	char address[32], key[80];
	struct bench_child child;
	struct prober prober;
};

struct outcome {
	struct bench_samples lost, p50_us, p99_us, offered, grown_mib, recovery_ms;
};

static int open_prober(struct target *t)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	struct prober *p = &t->prober;

	if (sscanf(t->child.ready, "%31s %79s", t->address, t->key) != 2 ||
		og_addr_parse(&p->to, t->address) < 0)
		return -EPROTO;
	og_rand_system(&p->rand);
	memcpy(&to.sin_addr, p->to.ip, 4);
	to.sin_port = htons(p->to.port);
	p->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return connect(p->fd, (struct sockaddr *)&to, sizeof(to)) < 0 ? -errno : 0;
}

static int start_target(const struct bench *b, struct target *t, struct bench_child *js_network)
{
	const char *const ours[] = {NULL, "--serve", "peer", "socket", "127.0.0.1:0", NULL};
	struct js_command js;
	int ret;

	t->prober.fd = -1;
	if (!js_network) {
		t->name = "og-node";
		ret = bench_child_start(&t->child, ours, b->server_cpu);
	} else {
		t->name = "hyperdht (js)";
		ret = js_start_network(js_network);
		if (ret == 0)
			ret = js_command(&js, "peer", js_network->ready);
		if (ret == 0)
			ret = bench_child_start(&t->child, js.argv, b->server_cpu);
	}
	return ret < 0 ? ret : open_prober(t);
}

static void stop_target(struct target *t)
{
	if (t->prober.fd >= 0)
		close(t->prober.fd);
	bench_child_stop(&t->child);
}

/* ---- a flood ---- */

static int flood_once(const struct bench *b, struct target *t, enum flood_kind kind, uint64_t ns,
	struct outcome *o)
{
	const char *const argv[] = {
		NULL, "--serve", "flood", flood_names[kind], t->address, t->key, NULL};
	struct bench_child flooder;
	double took_ns, sent, answers;
	uint64_t rss;
	struct seen seen;
	char line[128];
	int ret = bench_child_start(&flooder, argv, b->load_cpu);

	if (ret < 0)
		return ret;
	rss = bench_child_rss_bytes(&t->child);
	snprintf(line, sizeof(line), "run %lu", (unsigned long)ns);
	ret = bench_child_tell(&flooder, line);
	if (ret == 0) {
		probe_for(&t->prober, ns);
		ret = bench_child_hear(&flooder, line, sizeof(line));
	}
	if (ret == 0 && sscanf(line, "done %lf %lf %lf", &took_ns, &sent, &answers) != 3)
		ret = -EPROTO;
	bench_child_stop(&flooder);
	if (ret < 0)
		return ret;
	/* The last probes have their second too. */
	probe_receive(&t->prober, bench_now_ns() + OG_NS_PER_MS);
	seen = probe_result(&t->prober);
	bench_add(&o->recovery_ms, (double)probe_recovery(&t->prober) / 1e6);
	bench_add(&o->lost, seen.lost_percent);
	bench_add(&o->p50_us, seen.p50_us);
	bench_add(&o->p99_us, seen.p99_us);
	bench_add(&o->offered, sent * 1e9 / took_ns);
	bench_add(&o->grown_mib,
		((double)bench_child_rss_bytes(&t->child) - (double)rss) / (1024 * 1024));
	if (!bench_child_alive(&t->child)) {
		fprintf(stderr, "og-bench: %s did not survive %s\n", t->name, flood_names[kind]);
		return -EPIPE;
	}
	return 0;
}

/* Ours beside what the probes saw before, and beside the other target under the same flood. */
static void report(const struct bench *b, const char *flood, const struct outcome *o,
	const struct outcome *quiet, const struct outcome *js)
{
	static const char before[] = "without the flood";
	const struct {
		const char *what, *unit;
		enum bench_better better;
		const struct bench_samples *ours, *quiet, *js;
	} rows[] = {
		{"probes lost", "%", BENCH_LOWER, &o->lost, &quiet->lost, &js->lost},
		{"probe p50", "us", BENCH_LOWER, &o->p50_us, &quiet->p50_us, &js->p50_us},
		{"probe p99", "us", BENCH_LOWER, &o->p99_us, &quiet->p99_us, &js->p99_us},
		{"memory grown", "MiB", BENCH_LOWER, &o->grown_mib, NULL, &js->grown_mib},
		{"recovery", "ms", BENCH_LOWER, &o->recovery_ms, NULL, &js->recovery_ms},
		{"offered", "datagrams/s", BENCH_HIGHER, &o->offered, NULL, &js->offered},
	};
	char name[96];

	for (size_t i = 0; i < OG_ARRAY_LEN(rows); i++) {
		struct bench_result r = {.name = name,
			.unit = rows[i].unit,
			.better = rows[i].better,
			.ours = rows[i].ours,
			.ref = rows[i].quiet ? before : "",
			.theirs = rows[i].quiet};

		snprintf(name, sizeof(name), "%s: %s", flood, rows[i].what);
		if (rows[i].quiet || rows[i].js->n == 0)
			bench_report(b, &r);
		r.ref = "hyperdht (js)";
		r.theirs = rows[i].js;
		if (rows[i].js->n > 0)
			bench_report(b, &r);
	}
}

static int run_target(const struct bench *b, struct target *t, uint64_t ns, struct outcome *quiet,
	struct outcome floods[FLOOD_KINDS])
{
	struct seen seen;

	probe_for(&t->prober, OG_MIN(ns, 2 * OG_NS_PER_S));
	seen = probe_result(&t->prober);
	bench_add(&quiet->lost, seen.lost_percent);
	bench_add(&quiet->p50_us, seen.p50_us);
	bench_add(&quiet->p99_us, seen.p99_us);
	for (int kind = 0; kind < FLOOD_KINDS; kind++) {
		int ret;

		if (!bench_wanted(b, flood_names[kind]))
			continue;
		ret = flood_once(b, t, (enum flood_kind)kind, ns, &floods[kind]);

		if (ret < 0) {
			fprintf(stderr, "og-bench: %s: %s: %s\n", t->name, flood_names[kind],
				strerror(-ret));
			return ret;
		}
	}
	return 0;
}

int suite_floods(const struct bench *b)
{
	static struct outcome quiet[TARGETS_MAX], floods[TARGETS_MAX][FLOOD_KINDS];
	static struct target targets[TARGETS_MAX];
	struct bench_child js_network = {0};
	uint64_t ns = 20 * b->run_ns; /* 10 s, 1 s to smoke */
	int nb_targets = b->js ? 2 : 1, ret = 0;

	for (int i = 0; ret == 0 && i < nb_targets; i++) {
		ret = start_target(b, &targets[i], i == 0 ? NULL : &js_network);
		if (ret == 0)
			ret = run_target(b, &targets[i], ns, &quiet[i], floods[i]);
		stop_target(&targets[i]);
	}
	for (int kind = 0; ret == 0 && kind < FLOOD_KINDS; kind++)
		if (bench_wanted(b, flood_names[kind]))
			report(b, flood_names[kind], &floods[0][kind], &quiet[0], &floods[1][kind]);
	bench_child_stop(&js_network);
	return ret == 0 ? BENCH_DONE : BENCH_FAILED;
}
