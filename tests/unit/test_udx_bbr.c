/*
 * Congestion control on simulated paths: full use, no standing queue, no collapse under loss, fair
 * shares. Virtual time and one seed a test, so the figures are the same in every run.
 */
#include "transport/udx.h"
#include "udx_link.h"

#define MS OG_NS_PER_MS
#define SEC OG_NS_PER_S

enum { STREAMS_MAX = 4, PACKETS = 16384 };

static const uint64_t rate = 2500000; /* bytes a second: 20 Mbit/s */

/* One UDX with streams that write without end, or only read. */
struct end {
	struct node node; /* first */
	struct og_udx *udx;
	uint32_t nb;
	uint32_t ids[STREAMS_MAX]; /* in order of opening, which is that of the slots */
	uint64_t begin_ns[STREAMS_MAX];
	uint64_t received[STREAMS_MAX];
	bool writes;
};

struct path {
	struct link link;
	struct end a, b; /* a writes */
	uint64_t queue_sum_ns, queue_max_ns, nb_looks;
};

static size_t on_data(void *ctx, uint32_t slot, uint8_t *data, size_t n)
{
	(void)data;
	((struct end *)ctx)->received[slot] += n;
	return n;
}

static void on_closed(void *ctx, uint32_t slot, uint32_t gen, int reason)
{
	(void)ctx;
	(void)gen;
	cr_assert_fail("stream %u closed: %d", slot, reason);
}

static void pump(struct end *e, uint32_t slot)
{
	static const uint8_t block[16384];

	while (og_udx_write(e->udx, slot, block, sizeof(block), e->node.link->now_ns) ==
		sizeof(block))
		continue;
}

static void on_writable(void *ctx, uint32_t slot)
{
	pump(ctx, slot);
}

static const struct og_udx_ops ops = {
	.data = on_data, .closed = on_closed, .writable = on_writable};

static void input(struct node *n, const struct og_addr *src, uint8_t *data, uint16_t len)
{
	cr_assert_eq(og_udx_input(((struct end *)n)->udx, 0, src, data, len, n->link->now_ns), 0);
}

static void flush(struct node *n)
{
	og_udx_flush(((struct end *)n)->udx, n->link->now_ns);
}

static uint64_t tick(struct node *n)
{
	struct end *e = (struct end *)n;
	uint64_t next = OG_NEVER;

	for (uint32_t i = 0; e->writes && i < e->nb; i++) {
		if (e->begin_ns[i] > n->link->now_ns) {
			next = OG_MIN(next, e->begin_ns[i]);
			continue;
		}
		if (e->begin_ns[i] > 0)
			pump(e, i);
		e->begin_ns[i] = 0;
	}
	return OG_MIN(next, og_udx_tick(e->udx, n->link->now_ns));
}

static void end_open(
	struct path *p, struct end *e, uint8_t idx, uint32_t nb, const struct og_udx_cc_ops *cc)
{
	struct og_udx_opts opts = {
		.nb_streams = STREAMS_MAX,
		.nb_packets = PACKETS,
		.core_idx = idx,
		.tx = &e->node.tx,
		.rand = &e->node.rand,
		.ops = &ops,
		.ctx = e,
		.cc = cc,
	};

	link_attach(&p->link, &e->node, idx, 1);
	e->node.input = input;
	e->node.flush = flush;
	e->node.tick = tick;
	e->nb = nb;
	e->writes = idx == 0;
	cr_assert_eq(og_udx_create(&e->udx, &opts), 0);
	for (uint32_t i = 0; i < nb; i++) {
		uint32_t slot;

		cr_assert_eq(og_udx_open(e->udx, &slot, &e->ids[i], p->link.now_ns), 0);
		cr_assert_eq(slot, i);
		e->begin_ns[i] = p->link.now_ns;
	}
}

static struct path *path_new(
	uint64_t seed, uint32_t nb, uint64_t rtt_ns, const struct og_udx_cc_ops *cc)
{
	struct path *p = calloc(1, sizeof(*p));

	link_init(&p->link, seed);
	p->link.delay_ns = rtt_ns / 2;
	p->link.rate_bytes_per_s = rate;
	p->link.queue_ns = 2 * rtt_ns;
	end_open(p, &p->a, 0, nb, cc);
	end_open(p, &p->b, 1, nb, cc);
	for (uint32_t i = 0; i < nb; i++) {
		og_udx_connect(p->a.udx, i, p->b.ids[i], 0, &p->b.node.addr, p->link.now_ns);
		og_udx_connect(p->b.udx, i, p->a.ids[i], 0, &p->a.node.addr, p->link.now_ns);
	}
	return p;
}

static void path_free(struct path *p)
{
	og_udx_destroy(p->a.udx);
	og_udx_destroy(p->b.udx);
	link_fini(&p->link);
	free(p);
}

/* Runs, looking at the queue each millisecond. */
static void run(struct path *p, uint64_t ns)
{
	p->queue_sum_ns = p->queue_max_ns = p->nb_looks = 0;
	for (uint64_t t = 0; t < ns; t += MS) {
		uint64_t queue_ns = 0;

		link_run_for(&p->link, MS);
		if (p->a.node.busy_until_ns > p->link.now_ns)
			queue_ns = p->a.node.busy_until_ns - p->link.now_ns;
		p->queue_sum_ns += queue_ns;
		p->queue_max_ns = OG_MAX(p->queue_max_ns, queue_ns);
		p->nb_looks++;
	}
}

static uint64_t queue_mean_ns(const struct path *p)
{
	return p->queue_sum_ns / p->nb_looks;
}

/* What all streams carried in that time, over what the path could. */
static double use_of(struct path *p, uint64_t ns)
{
	uint64_t before = 0, after = 0;

	for (uint32_t i = 0; i < p->b.nb; i++)
		before += p->b.received[i];
	run(p, ns);
	for (uint32_t i = 0; i < p->b.nb; i++)
		after += p->b.received[i];
	return (double)(after - before) * 1e9 / (double)ns / (double)p->link.rate_bytes_per_s;
}

Test(udx_bbr, fills_a_path_and_leaves_no_standing_queue, .timeout = 120)
{
	static const uint64_t rtts_ms[] = {2, 20, 80, 200};

	for (size_t i = 0; i < OG_ARRAY_LEN(rtts_ms); i++) {
		struct path *p = path_new(1, 1, rtts_ms[i] * MS, NULL);
		double use;

		run(p, 5 * SEC);
		use = use_of(p, 20 * SEC);
		cr_log_info("%lu ms: use %.3f, queue %.1f ms, at most %.1f ms\n", rtts_ms[i], use,
			(double)queue_mean_ns(p) / 1e6, (double)p->queue_max_ns / 1e6);
		cr_assert_gt(use, 0.9, "%lu ms: %.3f", rtts_ms[i], use);
		cr_assert_lt(queue_mean_ns(p), rtts_ms[i] * MS / 4 + 4 * MS);
		path_free(p);
	}
}

Test(udx_bbr, does_not_collapse_under_random_loss, .timeout = 120)
{
	static const struct {
		uint32_t loss_permille;
		double use; /* at least */
	} cases[] = {{10, 0.85}, {50, 0.8}, {100, 0.7}};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		struct path *p = path_new(2, 1, 80 * MS, NULL);
		double use;

		p->link.loss_permille = cases[i].loss_permille;
		use = use_of(p, 30 * SEC);
		cr_log_info("%u per mille: use %.3f, queue %.1f ms\n", cases[i].loss_permille, use,
			(double)queue_mean_ns(p) / 1e6);
		cr_assert_gt(use, cases[i].use, "%u per mille: %.3f", cases[i].loss_permille, use);
		path_free(p);
	}
}

Test(udx_bbr, reordering_and_repetition_cost_little, .timeout = 120)
{
	struct path *p = path_new(3, 1, 40 * MS, NULL);
	double use;

	p->link.jitter_ns = 5 * MS;
	p->link.dup_permille = 20;
	use = use_of(p, 30 * SEC);
	cr_assert_gt(use, 0.85, "%.3f", use);
	path_free(p);
}

Test(udx_bbr, streams_share_a_path, .timeout = 120)
{
	for (uint32_t nb = 2; nb <= STREAMS_MAX; nb += 2) {
		struct path *p = path_new(4, nb, 40 * MS, NULL);
		uint64_t before[STREAMS_MAX], sum = 0, least = UINT64_MAX;
		double use;

		/* The others come when the first has all of it. */
		for (uint32_t i = 1; i < nb; i++)
			p->a.begin_ns[i] += 3 * SEC * i;
		run(p, 30 * SEC);
		memcpy(before, p->b.received, sizeof(before));
		use = use_of(p, 60 * SEC);
		for (uint32_t i = 0; i < nb; i++) {
			uint64_t n = p->b.received[i] - before[i];

			cr_log_info("%u of %u: %.3f of its share\n", i, nb,
				(double)n * nb / (double)(rate * 60));
			sum += n;
			least = OG_MIN(least, n);
		}
		cr_log_info("use %.3f, queue %.1f ms\n", use, (double)queue_mean_ns(p) / 1e6);
		cr_assert_gt(use, 0.9, "%.3f", use);
		cr_assert_gt((double)least * nb / (double)sum, 0.6);
		/* Their windows bound the queue to about what the path holds and half as much. */
		cr_assert_lt(queue_mean_ns(p), 60 * MS);
		path_free(p);
	}
}

/* Those that come into a full queue never see for themselves how short the path is. */
static void near_streams(uint64_t queue_ns, double least_use, double least_share)
{
	struct path *p = path_new(7, STREAMS_MAX, MS / 10, NULL);
	uint64_t before[STREAMS_MAX], sum = 0;

	p->link.rate_bytes_per_s = 100000000;
	p->link.queue_ns = queue_ns;
	p->link.jitter_ns = MS / 20;
	for (uint32_t i = 1; i < STREAMS_MAX; i++)
		p->a.begin_ns[i] += 100 * MS;
	run(p, 4 * SEC);
	memcpy(before, p->b.received, sizeof(before));
	run(p, SEC);
	for (uint32_t i = 0; i < STREAMS_MAX; i++)
		sum += p->b.received[i] - before[i];
	cr_log_info("use %.3f\n", (double)sum / 1e8);
	cr_expect_gt((double)sum / 1e8, least_use);
	for (uint32_t i = 0; i < STREAMS_MAX; i++) {
		double share = (double)(p->b.received[i] - before[i]) * STREAMS_MAX / (double)sum;

		cr_log_info("%u: %.3f of its share\n", i, share);
		cr_expect_gt(share, least_share);
	}
	path_free(p);
}

Test(udx_bbr, streams_to_a_near_host_are_equal, .timeout = 120)
{
	near_streams(50 * MS, 0.9, 0.95);
}

Test(udx_bbr, a_near_path_without_buffers_is_not_flooded, .timeout = 120)
{
	near_streams(MS / 5, 0.9, 0.1); /* and nobody is shut out */
}

Test(udx_bbr, follows_a_path_whose_rate_changes, .timeout = 120)
{
	struct path *p = path_new(5, 1, 40 * MS, NULL);
	double use;

	run(p, 5 * SEC);
	p->link.rate_bytes_per_s = rate / 10;
	run(p, 5 * SEC);
	use = use_of(p, 5 * SEC);
	cr_assert_gt(use, 0.8, "%.3f", use);
	cr_assert_lt(queue_mean_ns(p), 60 * MS);
	p->link.rate_bytes_per_s = rate;
	run(p, 10 * SEC);
	use = use_of(p, 5 * SEC);
	cr_assert_gt(use, 0.85, "%.3f", use);
	path_free(p);
}

/* What loss does to an algorithm that takes it for congestion; and that algorithms are exchangeable. */
Test(udx_bbr, cubic_collapses_where_it_does_not, .timeout = 120)
{
	struct path *p = path_new(6, 1, 80 * MS, &og_udx_cubic);

	p->link.loss_permille = 50;
	cr_assert_lt(use_of(p, 30 * SEC), 0.2);
	path_free(p);
}
