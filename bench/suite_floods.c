/*
 * suite_floods.c: what honest clients of a node see while it is flooded: 60 probes a second (PING,
 * FIND_NODE, LOOKUP in turn), lost when not answered within a second; and what an open stream keeps.
 *
 * Over sockets the flood is as fast as a second core can send. The probes share that core: they come
 * first there (SCHED_FIFO where allowed), and the kernel says when an answer arrived, so that they
 * do not measure their own scheduling. Over a polled port the flood is half of what the node takes
 * at most, which is measured first; flood and probes come from one polling core.
 *
 * Reference: the same probes before the flood, in the same run; with --peer js an unmodified
 * hyperdht server under the same flood. For the stream: the same flood sent to a sink.
 */
#include "bench/bench.h"
#include "bench/flood_make.h"
#include "bench/js.h"
#include "bench/ports.h"
#include "bench/probes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdalign.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	CALM = 10, /* probes answered in a row, and soon, are a recovery */
	TARGETS_MAX = 2,
	NICE = 10, /* of a flood beside probes */
	STREAM_WRITE_BYTES = 16384,
	STREAM_PARTS = 4, /* a flood lasts as long as so many streams do without */
	STREAM_RUNS_MAX = 7,
};

static const uint64_t probe_soon_ns = 5 * OG_NS_PER_MS;
static const uint64_t late_ns = 50 * OG_NS_PER_MS;
static const uint64_t recovery_max_ns = 10 * OG_NS_PER_S;

/* ---- probes from a socket ---- */

struct prober {
	int fd;
	struct probes probes;
};

/* The clock of the kernel's timestamps. */
static uint64_t stamp_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void probe_send(struct prober *p)
{
	uint8_t request[LOAD_REQUEST_BYTES];
	uint16_t n = probes_next(&p->probes, request, stamp_ns());

	if (n > 0)
		(void)!send(p->fd, request, n, 0);
}

/* An answer and when it came, or -1. */
static ssize_t receive(int fd, uint8_t answer[LOAD_REPLY_BYTES], uint64_t *came_ns)
{
	alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(struct timespec))];
	struct iovec iov = {answer, LOAD_REPLY_BYTES};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
	const struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m);
	struct timespec ts;

	*came_ns = stamp_ns();
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
		memcpy(&ts, CMSG_DATA(c), sizeof(ts));
		*came_ns = (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
	}
	return n;
}

/* Take answers until `until_ns`. */
static void probe_receive(struct prober *p, uint64_t until_ns)
{
	uint8_t answer[LOAD_REPLY_BYTES];
	uint64_t now_ns, came_ns;

	while ((now_ns = bench_now_ns()) < until_ns) {
		const struct timespec wait = {
			.tv_nsec = (long)OG_MIN(until_ns - now_ns, OG_NS_PER_S - 1)};
		struct pollfd pfd = {p->fd, POLLIN, 0};
		ssize_t n;

		if (ppoll(&pfd, 1, &wait, NULL) <= 0)
			continue;
		n = receive(p->fd, answer, &came_ns);
		if (n > 0)
			probes_answer(&p->probes, answer, (size_t)n, came_ns);
	}
}

static void probe_for(struct prober *p, uint64_t ns)
{
	uint64_t start_ns = bench_now_ns(), i = 0;

	p->probes.nb = 0;
	for (; i * OG_NS_PER_S / PROBES_PER_S < ns && i < PROBES_MAX; i++) {
		probe_send(p);
		probe_receive(p, start_ns + (i + 1) * OG_NS_PER_S / PROBES_PER_S);
	}
}

/* ns until CALM probes in a row are answered soon. */
static uint64_t probe_recovery(struct prober *p)
{
	uint64_t start_ns = bench_now_ns();
	const uint64_t *took_ns = &p->probes.took_ns[0];

	for (int calm = 0; calm < CALM && bench_now_ns() - start_ns < recovery_max_ns;) {
		p->probes.nb = 0;
		probe_send(p);
		for (uint64_t end = bench_now_ns() + 4 * probe_soon_ns;
			*took_ns == 0 && bench_now_ns() < end;)
			probe_receive(p, bench_now_ns() + OG_NS_PER_MS);
		calm = *took_ns > 0 && *took_ns <= probe_soon_ns ? calm + 1 : 0;
	}
	return bench_now_ns() - start_ns;
}

/* Before the flood that shares its core; not for the children. */
static void come_first(void)
{
	const struct sched_param first = {.sched_priority = 1};

	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first) < 0)
		bench_note("probes have no priority here (%s): floods are nice instead",
			strerror(errno));
}

/* ---- targets ---- */

struct target {
	const char *name;
	bool is_js;
	char address[32], key[80];
	struct bench_child child;
	struct prober prober;       /* over sockets */
	struct bench_child flooder; /* over a port: all floods, and the probes */
};

struct outcome {
	struct bench_samples lost, p50_us, p99_us, offered, grown_mib, recovery_ms;
	struct bench_samples shed, queue_full;            /* over sockets */
	struct bench_samples taken, overload_recovery_ms; /* over a port */
	struct bench_samples stream_mb_s, sink_mb_s;      /* over sockets */
};

static int open_prober(struct target *t)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	struct prober *p = &t->prober;
	struct og_addr at;

	if (og_addr_parse(&at, t->address) < 0)
		return -EPROTO;
	probes_init(&p->probes, &at);
	memcpy(&to.sin_addr, at.ip, 4);
	to.sin_port = htons(at.port);
	p->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	(void)setsockopt(p->fd, SOL_SOCKET, SO_TIMESTAMPNS, &(int){1}, sizeof(int));
	return 0;
}

static int start_flooder(const struct bench *b, struct target *t, const struct ports *ports)
{
	const struct port_end *from = &ports->client;
	const char *const argv[] = {NULL, "--serve", "flood-port", from->driver, from->address,
		from->prefix_bits, t->address, t->key, NULL};

	return bench_child_start(&t->flooder, argv, b->load_cpu);
}

static int start_js(const struct bench *b, struct target *t, struct bench_child *js_network)
{
	struct js_command js;
	int ret = js_start_network(js_network);

	if (ret == 0)
		ret = js_command(&js, "peer", js_network->ready);
	return ret < 0 ? ret : bench_child_start(&t->child, js.argv, b->server_cpu);
}

static int start_target(const struct bench *b, struct target *t, const struct ports *ports,
	struct bench_child *js_network)
{
	const char *ours[PORTS_ARGS];
	int ret;

	t->prober.fd = -1;
	t->is_js = js_network != NULL;
	t->name = t->is_js ? "hyperdht (js)" : "og-node";
	ports_serve(ports, ours, "peer");
	ret = js_network ? start_js(b, t, js_network)
			 : bench_child_start(&t->child, ours, b->server_cpu);
	if (ret == 0 && sscanf(t->child.ready, "%31s %79s", t->address, t->key) != 2)
		ret = -EPROTO;
	if (ret < 0)
		return ret;
	return ports_kernel_client(ports) ? open_prober(t) : start_flooder(b, t, ports);
}

static void stop_target(struct target *t)
{
	if (t->prober.fd >= 0)
		close(t->prober.fd);
	bench_child_stop(&t->flooder);
	bench_child_stop(&t->child);
}

static void add_seen(struct outcome *o, const struct probes_seen *seen)
{
	bench_add(&o->lost, seen->lost_percent);
	bench_add(&o->p50_us, seen->p50_us);
	bench_add(&o->p99_us, seen->p99_us);
}

/* ---- a flood over sockets ---- */

static int begin_flood(struct bench_child *flooder, uint64_t ns, int level, const char *address)
{
	char line[128];

	snprintf(line, sizeof(line), "run %lu %d %s", (unsigned long)ns, level, address);
	return bench_child_tell(flooder, line);
}

static int end_flood(struct bench_child *flooder, double *sent_per_s)
{
	double took_ns, sent, answers;
	char line[128];
	int ret = bench_child_hear(flooder, line, sizeof(line));

	if (ret == 0 && sscanf(line, "done %lf %lf %lf", &took_ns, &sent, &answers) != 3)
		ret = -EPROTO;
	if (ret == 0)
		*sent_per_s = sent * 1e9 / took_ns;
	return ret;
}

struct drops {
	double shed, queue_full;
};

/* Of our node, so far. */
static int ask_drops(struct target *t, struct drops *out)
{
	char line[128];
	int ret = bench_child_tell(&t->child, "drops");

	if (ret == 0)
		ret = bench_child_hear(&t->child, line, sizeof(line));
	if (ret == 0 && sscanf(line, "drops %lf %lf", &out->shed, &out->queue_full) != 2)
		ret = -EPROTO;
	return ret;
}

static int flood_sockets(const struct bench *b, struct target *t, enum flood_kind kind, uint64_t ns,
	struct outcome *o)
{
	const char *const argv[] = {
		NULL, "--serve", "flood", flood_names[kind], t->address, t->key, NULL};
	struct bench_child flooder;
	struct probes_seen seen;
	double offered = 0;
	int ret = bench_child_start(&flooder, argv, b->load_cpu);

	if (ret == 0)
		ret = begin_flood(&flooder, ns, NICE, t->address);
	if (ret == 0) {
		probe_for(&t->prober, ns);
		ret = end_flood(&flooder, &offered);
	}
	bench_child_stop(&flooder);
	if (ret < 0)
		return ret;
	/* The last probes have their time too. */
	probe_receive(&t->prober, bench_now_ns() + late_ns);
	seen = probes_result(&t->prober.probes);
	bench_add(&o->recovery_ms, (double)probe_recovery(&t->prober) / 1e6);
	add_seen(o, &seen);
	bench_add(&o->offered, offered);
	return 0;
}

/* ---- a flood over a port ---- */

static int flood_port(struct target *t, enum flood_kind kind, uint64_t ns, unsigned rate_per_s,
	struct probes_seen *seen, double *sent_per_s, double *recovery_ms)
{
	double took_ns, sent, answers, probes, recovery_ns;
	char line[192];
	int ret;

	snprintf(line, sizeof(line), "run %s %lu %u", flood_names[kind], (unsigned long)ns,
		rate_per_s);
	ret = bench_child_tell(&t->flooder, line);
	if (ret == 0)
		ret = bench_child_hear(&t->flooder, line, sizeof(line));
	if (ret < 0)
		return ret;
	if (sscanf(line, "done %lf %lf %lf %lf %lf %lf %lf %lf", &took_ns, &sent, &answers, &probes,
		    &seen->lost_percent, &seen->p50_us, &seen->p99_us, &recovery_ns) != 8)
		return -EPROTO;
	*sent_per_s = sent * 1e9 / took_ns;
	*recovery_ms = recovery_ns / 1e6;
	return 0;
}

/* What it takes at most, then half of that. */
static int flood_polled(struct target *t, enum flood_kind kind, uint64_t ns, struct outcome *o)
{
	struct probes_seen seen;
	double taken, offered, recovery_ms;
	unsigned half;
	int ret = flood_port(t, kind, ns / 10, 0, &seen, &taken, &recovery_ms);

	if (ret < 0)
		return ret;
	bench_add(&o->taken, taken);
	bench_add(&o->overload_recovery_ms, recovery_ms);
	half = kind == FLOOD_REAL_HANDSHAKE ? FLOOD_REAL_PER_S : (unsigned)(taken / 2) + 1;
	ret = flood_port(t, kind, ns, half, &seen, &offered, &recovery_ms);
	if (ret < 0)
		return ret;
	add_seen(o, &seen);
	bench_add(&o->offered, offered);
	bench_add(&o->recovery_ms, recovery_ms);
	return 0;
}

static int flood_ours(const struct bench *b, struct target *t, enum flood_kind kind, uint64_t ns,
	struct outcome *o)
{
	struct drops before, after;
	int ret = ask_drops(t, &before);

	if (ret == 0)
		ret = flood_sockets(b, t, kind, ns, o);
	if (ret == 0)
		ret = ask_drops(t, &after);
	if (ret < 0)
		return ret;
	bench_add(&o->shed, (after.shed - before.shed) * 1e9 / (double)ns);
	bench_add(&o->queue_full, (after.queue_full - before.queue_full) * 1e9 / (double)ns);
	return 0;
}

static int flood_once(const struct bench *b, struct target *t, enum flood_kind kind, uint64_t ns,
	struct outcome *o)
{
	uint64_t rss = bench_child_rss_bytes(&t->child);
	int ret;

	if (t->flooder.pid > 0)
		ret = flood_polled(t, kind, ns, o);
	else if (t->is_js)
		ret = flood_sockets(b, t, kind, ns, o);
	else
		ret = flood_ours(b, t, kind, ns, o);

	if (ret < 0)
		return ret;
	bench_add(&o->grown_mib,
		((double)bench_child_rss_bytes(&t->child) - (double)rss) / (1024 * 1024));
	if (!bench_child_alive(&t->child)) {
		fprintf(stderr, "og-bench: %s did not survive %s\n", t->name, flood_names[kind]);
		return -EPIPE;
	}
	return 0;
}

/* ---- a stream beside a flood ---- */

struct streaming {
	struct bench_child client;
	int sink;
	char sink_address[32];
	double mb_s; /* without a flood */
};

/* A socket that nobody reads. */
static int open_sink(struct streaming *s)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(sin);

	s->sink = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s->sink < 0 || bind(s->sink, (struct sockaddr *)&sin, len) < 0 ||
		getsockname(s->sink, (struct sockaddr *)&sin, &len) < 0)
		return -errno;
	snprintf(s->sink_address, sizeof(s->sink_address), "127.0.0.1:%u", ntohs(sin.sin_port));
	return 0;
}

static int ask_client(struct streaming *s, const char *line, double *ns)
{
	char answer[128];
	int ret = bench_child_tell(&s->client, line);

	if (ret == 0)
		ret = bench_child_hear(&s->client, answer, sizeof(answer));
	if (ret < 0 || sscanf(answer, "done %lf", ns) == 1)
		return ret;
	fprintf(stderr, "og-bench: a stream: %s\n", answer);
	return -EPROTO;
}

static int stream_rate(struct streaming *s, double bytes, double *mb_s)
{
	char line[64];
	double ns = 0;
	int ret;

	snprintf(line, sizeof(line), "send %d %.0f", STREAM_WRITE_BYTES, bytes);
	ret = ask_client(s, line, &ns);
	*mb_s = bytes * 1e3 / OG_MAX(ns, 1);
	return ret;
}

/* The stream and its rate without a flood. */
static int start_streaming(const struct bench *b, struct streaming *s, const struct target *t)
{
	const char *const argv[] = {NULL, "--serve", "peer", "socket", "127.0.0.1:0", "0", NULL};
	char line[192];
	double ns;
	int ret = open_sink(s);

	if (ret == 0)
		ret = bench_child_start(&s->client, argv, b->load_cpu);
	snprintf(line, sizeof(line), "connect %.79s %.31s", t->key, t->address);
	if (ret == 0)
		ret = ask_client(s, line, &ns);
	if (ret == 0)
		ret = stream_rate(s, 8e6, &s->mb_s); /* warm */
	if (ret == 0)
		ret = stream_rate(s, s->mb_s * (double)b->run_ns / 1e3, &s->mb_s);
	return ret;
}

static void stop_streaming(struct streaming *s)
{
	bench_child_stop(&s->client);
	if (s->sink >= 0)
		close(s->sink);
}

/* One rate while a flood goes to `address`. */
static int stream_beside(const struct bench *b, struct streaming *s, struct bench_child *flooder,
	const char *address, struct bench_samples *mb_s)
{
	double rate = 0, offered;
	int ret = begin_flood(flooder, STREAM_PARTS * b->run_ns, 0, address);

	if (ret == 0)
		ret = stream_rate(s, s->mb_s * (double)b->run_ns / 1e3, &rate);
	if (ret < 0)
		return ret;
	bench_add(mb_s, rate);
	return end_flood(flooder, &offered);
}

static int stream_floods(
	const struct bench *b, struct target *t, struct outcome floods[FLOOD_KINDS])
{
	struct streaming s = {.sink = -1};
	uint32_t runs = OG_MIN(b->runs, (uint32_t)STREAM_RUNS_MAX);
	int ret = start_streaming(b, &s, t);

	for (int kind = 0; ret == 0 && kind < FLOOD_KINDS; kind++) {
		const char *const argv[] = {
			NULL, "--serve", "flood", flood_names[kind], t->address, t->key, NULL};
		struct outcome *o = &floods[kind];
		struct bench_child flooder;

		if (!bench_wanted(b, flood_names[kind]))
			continue;
		ret = bench_child_start(&flooder, argv, b->load_cpu);
		for (uint32_t run = 0; ret == 0 && run < runs; run++) {
			ret = stream_beside(b, &s, &flooder, s.sink_address, &o->sink_mb_s);
			if (ret == 0)
				ret = stream_beside(b, &s, &flooder, t->address, &o->stream_mb_s);
		}
		bench_child_stop(&flooder);
	}
	if (ret < 0)
		fprintf(stderr, "og-bench: a stream beside floods: %s\n", strerror(-ret));
	stop_streaming(&s);
	return ret;
}

/* ---- all ---- */

/* Ours beside what the probes saw before, and beside the other target under the same flood. */
static void report(const struct bench *b, const char *flood, const struct outcome *o,
	const struct outcome *quiet, const struct outcome *js)
{
	static const char before[] = "without the flood", sink[] = "flood to a sink";
	const struct {
		const char *what, *unit;
		enum bench_better better;
		const struct bench_samples *ours;
		const char *ref;
		const struct bench_samples *theirs, *js;
	} rows[] = {
		{"probes lost", "%", BENCH_LOWER, &o->lost, before, &quiet->lost, &js->lost},
		{"probe p50", "us", BENCH_LOWER, &o->p50_us, before, &quiet->p50_us, &js->p50_us},
		{"probe p99", "us", BENCH_LOWER, &o->p99_us, before, &quiet->p99_us, &js->p99_us},
		{"memory grown", "MiB", BENCH_LOWER, &o->grown_mib, "", NULL, &js->grown_mib},
		{"recovery", "ms", BENCH_LOWER, &o->recovery_ms, "", NULL, &js->recovery_ms},
		{"offered", "datagrams/s", BENCH_HIGHER, &o->offered, "", NULL, &js->offered},
		{"shed by the kernel", "datagrams/s", BENCH_HIGHER, &o->shed, "", NULL, &js->shed},
		{"lost in a full queue", "datagrams/s", BENCH_LOWER, &o->queue_full, "", NULL,
			&js->queue_full},
		{"taken at most", "datagrams/s", BENCH_HIGHER, &o->taken, "", NULL, &js->taken},
		{"recovery from all it takes", "ms", BENCH_LOWER, &o->overload_recovery_ms, "",
			NULL, &js->overload_recovery_ms},
		{"stream", "MB/s", BENCH_HIGHER, &o->stream_mb_s, sink, &o->sink_mb_s,
			&js->stream_mb_s},
	};
	char name[96];

	for (size_t i = 0; i < OG_ARRAY_LEN(rows); i++) {
		struct bench_result r = {.name = name,
			.unit = rows[i].unit,
			.better = rows[i].better,
			.ours = rows[i].ours,
			.ref = rows[i].ref,
			.theirs = rows[i].theirs};

		snprintf(name, sizeof(name), "%s: %s", flood, rows[i].what);
		if (r.ours->n == 0)
			continue;
		if (r.theirs || rows[i].js->n == 0)
			bench_report(b, &r);
		r.ref = "hyperdht (js)";
		r.theirs = rows[i].js;
		if (rows[i].js->n > 0)
			bench_report(b, &r);
	}
}

static int see_quiet(struct target *t, uint64_t ns, struct outcome *quiet)
{
	struct probes_seen seen;
	double ignored;
	int ret = 0;

	if (t->flooder.pid > 0) {
		ret = flood_port(t, FLOOD_PING, ns, 1, &seen, &ignored, &ignored);
	} else {
		probe_for(&t->prober, ns);
		seen = probes_result(&t->prober.probes);
	}
	if (ret == 0)
		add_seen(quiet, &seen);
	return ret;
}

static int run_target(const struct bench *b, struct target *t, uint64_t ns, struct outcome *quiet,
	struct outcome floods[FLOOD_KINDS])
{
	int ret = see_quiet(t, OG_MIN(ns, 2 * OG_NS_PER_S), quiet);

	for (int kind = 0; ret == 0 && kind < FLOOD_KINDS; kind++) {
		if (!bench_wanted(b, flood_names[kind]))
			continue;
		ret = flood_once(b, t, (enum flood_kind)kind, ns, &floods[kind]);
		if (ret < 0)
			fprintf(stderr, "og-bench: %s: %s: %s\n", t->name, flood_names[kind],
				strerror(-ret));
	}
	return ret;
}

int suite_floods(const struct bench *b)
{
	static struct outcome quiet[TARGETS_MAX], floods[TARGETS_MAX][FLOOD_KINDS];
	static struct target targets[TARGETS_MAX];
	struct bench_child js_network = {0};
	uint64_t ns = 20 * b->run_ns; /* 10 s, 1 s to smoke */
	struct ports ports;
	int nb_targets, ret = ports_open(&ports, b);

	if (ret < 0)
		return BENCH_FAILED;
	nb_targets = b->js && ports_kernel_client(&ports) ? 2 : 1;
	come_first();
	for (int i = 0; ret == 0 && i < nb_targets; i++) {
		ret = start_target(b, &targets[i], &ports, i == 0 ? NULL : &js_network);
		if (ret == 0)
			ret = run_target(b, &targets[i], ns, &quiet[i], floods[i]);
		if (ret == 0 && i == 0 && ports_kernel_client(&ports))
			ret = stream_floods(b, &targets[i], floods[i]);
		stop_target(&targets[i]);
	}
	for (int kind = 0; ret == 0 && kind < FLOOD_KINDS; kind++)
		if (bench_wanted(b, flood_names[kind]))
			report(b, flood_names[kind], &floods[0][kind], &quiet[0], &floods[1][kind]);
	bench_child_stop(&js_network);
	ports_close(&ports);
	return ret == 0 ? BENCH_DONE : BENCH_FAILED;
}
