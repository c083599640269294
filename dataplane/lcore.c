#include "dataplane/lcore.h"

#include "base/count.h"
#include "dataplane/handover.h"
#include "dataplane/packet.h"
#include "dataplane/port.h"
#include "dataplane/port_behind.h"
#include "dataplane/thread.h"
#include "dataplane/worker.h"

#include <errno.h>
#include <rte_lcore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
	TX_QUEUE = 512,     /* datagrams that may wait for the port */
	COMMANDS_PASS = 64, /* commands of one sender handled in one pass */
	NAP_PART = 8,
	SAMPLE = 16,        /* one pass in so many is timed by phase */
	STOP_FLUSHES = 100, /* tries to send what is queued at the end, a millisecond apart */
};

/* Adaptive: an idle core polls on for this long before it sleeps. */
#define SPIN_NS (20 * OG_NS_PER_US)
/* Longest sleep when datagrams wait for room in the port, when the port cannot wake us, and ever. */
#define SLEEP_TX_NS (200 * OG_NS_PER_US)
#define SLEEP_POLL_NS OG_NS_PER_MS
#define SLEEP_MAX_NS OG_NS_PER_S

struct og_lcore {
	struct og_lcore_opts opts;
	struct og_core *core;
	struct og_tx tx;
	struct rte_mempool *pool;
	struct rte_mbuf *reserved; /* lent to the core, or NULL */
	struct rte_mbuf *tx_queue[TX_QUEUE];
	uint32_t nb_tx;
	uint64_t next_tick_ns;
	uint64_t now_ns;
	uint32_t passes;
	uint64_t phase_end_ns[OG_PHASE_COUNT]; /* in the pass that is timed */
	bool tick_soon;                        /* the core was refused a buffer: let it try again */
	bool command_pending;                  /* `command` was refused by the core */
	struct og_msg command;
	struct og_stage *command_from;
	struct og_stage *inboxes[OG_CORES_MAX]; /* the router's first */
	uint32_t nb_inboxes;
	struct og_lcore_group group; /* nb_cores 0: alone */
	bool has_behind;
	int epoll_fd;
	bool port_wakes; /* the port has descriptors to wait for */
	alignas(64) struct og_lcore_counters counters;
	alignas(64) bool stop; /* atomic; written by the thread that stops */
};

static uint64_t clock_ns(void)
{
	struct timespec ts;

	/* It counts on while the machine sleeps, so that timers see it. */
	clock_gettime(CLOCK_BOOTTIME, &ts); /* vDSO: no system call */
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Offer what is queued to the port; returns how many datagrams it took. */
static uint32_t flush(struct og_lcore *lc)
{
	uint32_t sent = 0;

	while (sent < lc->nb_tx) {
		uint16_t burst = (uint16_t)OG_MIN(lc->nb_tx - sent, (uint32_t)OG_BURST);
		uint16_t taken =
			lc->opts.port->ops->tx_burst(lc->opts.port, &lc->tx_queue[sent], burst);

		sent += taken;
		if (taken < burst)
			break;
	}
	if (sent > 0 && sent < lc->nb_tx)
		memmove(lc->tx_queue, &lc->tx_queue[sent],
			(lc->nb_tx - sent) * sizeof(lc->tx_queue[0]));
	lc->nb_tx -= sent;
	if (sent > 0 && lc->opts.port->behind)
		og_doorbell_ring(lc->group.bells[0]); /* that core has the device */
	og_count_add(&lc->counters.tx_packets, sent);
	return sent;
}

static uint8_t *reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	struct og_lcore *lc = OG_CONTAINER_OF(tx, struct og_lcore, tx);

	if (lc->nb_tx == TX_QUEUE) {
		lc->tick_soon = true;
		og_count(&lc->counters.tx_full);
		return NULL;
	}
	if (!lc->reserved)
		lc->reserved = rte_pktmbuf_alloc(lc->pool);
	if (!lc->reserved) {
		lc->tick_soon = true;
		og_count(&lc->counters.tx_no_mbuf);
		return NULL;
	}
	*cap_bytes = OG_PACKET_BYTES;
	return rte_pktmbuf_mtod(lc->reserved, uint8_t *);
}

static void commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl,
	uint16_t len_bytes)
{
	struct og_lcore *lc = OG_CONTAINER_OF(tx, struct og_lcore, tx);
	struct rte_mbuf *m = lc->reserved;

	OG_DASSERT(m && len_bytes <= OG_PACKET_BYTES && endpoint < lc->opts.port->nb_endpoints);
	lc->reserved = NULL;
	m->data_len = len_bytes;
	m->pkt_len = len_bytes;
	*og_packet(m) = (struct og_packet){.peer = *dst, .endpoint = endpoint, .ttl = ttl};
	lc->tx_queue[lc->nb_tx++] = m;
	og_count_add(&lc->counters.tx_bytes, len_bytes);
	if (lc->nb_tx % OG_BURST == 0)
		flush(lc);
}

static void describe(struct rte_mbuf *m, struct og_dgram *out)
{
	const struct og_packet *p = og_packet(m);

	*out = (struct og_dgram){
		.data = rte_pktmbuf_mtod(m, uint8_t *),
		.len_bytes = rte_pktmbuf_data_len(m),
		.endpoint = p->endpoint,
		.src = p->peer,
	};
}

static void input(struct og_lcore *lc, struct rte_mbuf **pkts, uint16_t n)
{
	struct og_dgram burst[OG_BURST];

	for (uint16_t i = 0; i < n; i++)
		describe(pkts[i], &burst[i]);
	lc->core->ops->input(lc->core, burst, n, lc->now_ns);
}

static void hand_over(struct og_lcore *lc, uint16_t to, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t taken = og_handover_push(lc->group.to[to], pkts, n);

	if (taken < n) {
		og_count_add(&lc->counters.handover_full, n - taken);
		rte_pktmbuf_free_bulk(pkts + taken, n - taken);
	}
	og_count_add(&lc->counters.handed_out, taken);
	if (taken > 0)
		og_doorbell_ring(lc->group.bells[to]);
}

/* Keeps what is ours at the head of `pkts` and hands the rest over; returns how many are ours. */
static uint16_t sort_out(struct og_lcore *lc, struct rte_mbuf **pkts, uint16_t n)
{
	struct rte_mbuf *away[OG_CORES_MAX][OG_BURST];
	uint16_t nb_away[OG_CORES_MAX] = {0}, ours = 0;

	for (uint16_t i = 0; i < n; i++) {
		struct og_dgram d;
		uint16_t to;

		describe(pkts[i], &d);
		to = lc->core->ops->steer(lc->core, &d);
		if (to >= lc->group.nb_cores || to == lc->group.idx)
			pkts[ours++] = pkts[i];
		else
			away[to][nb_away[to]++] = pkts[i];
	}
	for (uint16_t to = 0; to < lc->group.nb_cores; to++)
		if (nb_away[to] > 0)
			hand_over(lc, to, away[to], nb_away[to]);
	return ours;
}

/* What others received for us, a burst of each; and what they are done with of ours. */
static uint32_t rx_handed(struct og_lcore *lc)
{
	struct rte_mbuf *pkts[OG_BURST];
	uint32_t total = 0;

	for (uint16_t i = 0; i < lc->group.nb_cores; i++) {
		uint16_t n;

		if (i == lc->group.idx)
			continue;
		og_handover_collect(lc->group.to[i]);
		n = og_handover_pop(lc->group.from[i], pkts, OG_BURST);
		if (n == 0)
			continue;
		input(lc, pkts, n);
		og_handover_give_back(lc->group.from[i], pkts, n);
		total += n;
	}
	og_count_add(&lc->counters.handed_in, total);
	return total;
}

static uint32_t rx(struct og_lcore *lc)
{
	struct rte_mbuf *pkts[OG_BURST];
	uint16_t n = lc->opts.port->ops->rx_burst(lc->opts.port, pkts, OG_BURST), ours = n;
	uint64_t bytes = 0;

	if (n > 0) {
		for (uint16_t i = 0; i < n; i++)
			bytes += rte_pktmbuf_data_len(pkts[i]);
		if (lc->group.nb_cores > 1)
			ours = sort_out(lc, pkts, n);
		if (ours > 0) {
			input(lc, pkts, ours);
			rte_pktmbuf_free_bulk(pkts, ours);
		}
		og_count_add(&lc->counters.rx_packets, n);
		og_count_add(&lc->counters.rx_bytes, bytes);
	}
	return lc->group.nb_cores > 1 ? n + rx_handed(lc) : n;
}

static uint32_t take_commands(struct og_lcore *lc, struct og_stage *from)
{
	uint32_t n;

	for (n = 0; n < COMMANDS_PASS; n++) {
		if (!lc->command_pending && og_stage_pop(from, &lc->command) < 0)
			break;
		lc->command_from = from;
		lc->command_pending =
			lc->core->ops->command(lc->core, &lc->command, lc->now_ns) < 0;
		if (lc->command_pending)
			break; /* offered again in the next pass, and in order */
		og_stage_release(from, &lc->command);
	}
	return n;
}

static uint32_t commands(struct og_lcore *lc)
{
	uint32_t n = 0;

	if (lc->command_pending)
		n = take_commands(lc, lc->command_from);
	for (uint32_t i = 0; i < lc->nb_inboxes && !lc->command_pending; i++)
		n += take_commands(lc, lc->inboxes[i]);
	og_count_add(&lc->counters.commands, n);
	return n;
}

static void job_done(void *arg, struct og_job *job)
{
	struct og_lcore *lc = arg;

	lc->core->ops->job_done(lc->core, job, lc->now_ns);
}

static uint32_t jobs(struct og_lcore *lc)
{
	uint32_t n;

	if (!lc->opts.workers)
		return 0;
	n = og_workers_poll(lc->opts.workers, job_done, lc);
	og_count_add(&lc->counters.jobs, n);
	return n;
}

/* What cores without a queue of their own have to send, as far as there is room. */
static uint32_t take_from_behind(struct og_lcore *lc)
{
	uint32_t total = 0;

	for (uint16_t i = 0; i < lc->group.nb_cores; i++) {
		uint16_t room = (uint16_t)OG_MIN(TX_QUEUE - lc->nb_tx, (uint32_t)OG_BURST);
		uint16_t n;

		if (!lc->group.behind[i])
			continue;
		n = og_port_behind_pop(lc->group.behind[i], &lc->tx_queue[lc->nb_tx], room);
		lc->nb_tx += n;
		total += n;
	}
	return total;
}

/* True if the core was called: it has news, or its deadline has come. */
static bool tick(struct og_lcore *lc, bool news)
{
	if (!news && !lc->tick_soon && lc->now_ns < lc->next_tick_ns)
		return false;
	lc->tick_soon = false;
	lc->next_tick_ns = lc->core->ops->tick(lc->core, lc->now_ns);
	return true;
}

/* The port has a new pool if its device was away: nothing of the old one may stay here. */
static void follow_pool(struct og_lcore *lc)
{
	struct rte_mempool *pool = __atomic_load_n(&lc->opts.port->pool, __ATOMIC_RELAXED);

	if (pool == lc->pool)
		return;
	rte_pktmbuf_free(lc->reserved);
	lc->reserved = NULL;
	lc->pool = pool;
}

static void phase_ends(struct og_lcore *lc, bool timed, enum og_phase phase)
{
	if (timed)
		lc->phase_end_ns[phase] = clock_ns();
}

static void count_phases(struct og_lcore *lc)
{
	uint64_t start_ns = lc->now_ns;

	for (int i = 0; i < OG_PHASE_COUNT; i++) {
		og_count_add(&lc->counters.phase_ns[i], (lc->phase_end_ns[i] - start_ns) * SAMPLE);
		start_ns = lc->phase_end_ns[i];
	}
}

/* One pass: never blocks, allocates, locks or logs. Returns whether there was anything to do. */
static bool poll_once(struct og_lcore *lc)
{
	const bool timed = lc->passes++ % SAMPLE == 0;
	bool news = rx(lc) > 0;

	phase_ends(lc, timed, OG_PHASE_RX);
	news |= commands(lc) > 0;
	phase_ends(lc, timed, OG_PHASE_COMMANDS);
	news |= jobs(lc) > 0;
	phase_ends(lc, timed, OG_PHASE_JOBS);
	news |= tick(lc, news);
	phase_ends(lc, timed, OG_PHASE_TICK);
	if (lc->has_behind)
		news |= take_from_behind(lc) > 0;
	news |= flush(lc) > 0;
	phase_ends(lc, timed, OG_PHASE_TX);
	if (timed && news)
		count_phases(lc);
	follow_pool(lc);
	return news;
}

/*
 * How long the core may sleep from now on. Where the port cannot wake it, it naps for a part of the
 * time that nothing has come: what follows soon is met soon, and a long silence costs little.
 */
static uint64_t sleep_allowed_ns(const struct og_lcore *lc, uint64_t idle_since_ns)
{
	uint64_t ns = lc->next_tick_ns > lc->now_ns ? lc->next_tick_ns - lc->now_ns : 0;

	ns = OG_MIN(ns, SLEEP_MAX_NS);
	if (!lc->port_wakes)
		ns = OG_MIN(ns, OG_MIN((lc->now_ns - idle_since_ns) / NAP_PART, SLEEP_POLL_NS));
	if (lc->nb_tx > 0 || lc->command_pending || lc->tick_soon)
		ns = OG_MIN(ns, SLEEP_TX_NS);
	return ns;
}

static bool stopping(const struct og_lcore *lc)
{
	return __atomic_load_n(&lc->stop, __ATOMIC_RELAXED);
}

/* The last look: whoever pushed before the announcement did not ring. */
static bool anything_waits(const struct og_lcore *lc)
{
	for (uint32_t i = 0; i < lc->nb_inboxes; i++)
		if (og_stage_count(lc->inboxes[i]) > 0)
			return true;
	for (uint16_t i = 0; i < lc->group.nb_cores; i++) {
		if (lc->group.from[i] && !og_handover_empty(lc->group.from[i]))
			return true;
		if (lc->group.behind[i] && !og_port_behind_empty(lc->group.behind[i]))
			return true;
	}
	if (lc->opts.port->ops->waits && lc->opts.port->ops->waits(lc->opts.port))
		return true;
	return lc->opts.workers && og_workers_ready(lc->opts.workers);
}

static void block(const struct og_lcore *lc, uint64_t ns)
{
	const struct timespec ts = {(time_t)(ns / OG_NS_PER_S), (long)(ns % OG_NS_PER_S)};
	struct epoll_event events[OG_PORT_FDS_MAX + 1];

	if (epoll_pwait2(lc->epoll_fd, events, OG_ARRAY_LEN(events), &ts, NULL) < 0 &&
		errno == ENOSYS)
		epoll_wait(lc->epoll_fd, events, OG_ARRAY_LEN(events),
			(int)((ns + OG_NS_PER_MS - 1) / OG_NS_PER_MS));
}

static void go_to_sleep(struct og_lcore *lc, uint64_t idle_since_ns)
{
	uint64_t ns = sleep_allowed_ns(lc, idle_since_ns);

	if (ns == 0)
		return;
	og_doorbell_announce(lc->opts.doorbell);
	if (!anything_waits(lc) && !stopping(lc))
		block(lc, ns);
	og_doorbell_awake(lc->opts.doorbell);
}

static void poll_until_stopped(struct og_lcore *lc)
{
	uint64_t idle_since_ns;

	lc->now_ns = idle_since_ns = clock_ns();
	lc->next_tick_ns = lc->now_ns;
	while (!stopping(lc)) {
		bool worked = poll_once(lc);
		uint64_t end_ns = clock_ns();

		og_count_add(worked ? &lc->counters.busy_ns : &lc->counters.idle_ns,
			end_ns - lc->now_ns);
		lc->now_ns = end_ns;
		if (worked)
			idle_since_ns = end_ns;
		if (lc->opts.poll == OG_POLL_BUSY || end_ns - idle_since_ns < SPIN_NS)
			continue;
		go_to_sleep(lc, idle_since_ns);
		lc->now_ns = clock_ns();
		og_count_add(&lc->counters.sleep_ns, lc->now_ns - end_ns);
		og_count(&lc->counters.sleeps);
	}
}

static void send_the_rest(struct og_lcore *lc)
{
	const struct timespec ms = {.tv_nsec = OG_NS_PER_MS};

	flush(lc);
	for (int i = 0; i < STOP_FLUSHES && lc->nb_tx > 0; i++) {
		nanosleep(&ms, NULL);
		flush(lc);
	}
}

static void give_back_what_is_lent(struct og_lcore *lc)
{
	rte_pktmbuf_free_bulk(lc->tx_queue, lc->nb_tx);
	lc->nb_tx = 0;
	rte_pktmbuf_free(lc->reserved);
	lc->reserved = NULL;
	if (lc->command_pending)
		og_stage_release(lc->command_from, &lc->command);
	lc->command_pending = false;
}

void og_lcore_run(
	struct og_lcore *lc, struct og_core *core, void (*started)(void *arg, int ret), void *arg)
{
	int ret = 0;

	lc->core = core;
	/* An lcore id gives this thread the mempools' caches. */
	if (rte_thread_register() < 0)
		ret = -ENOSPC;
	if (lc->opts.poll == OG_POLL_ADAPTIVE)
		prctl(PR_SET_TIMERSLACK, 1);
	og_thread_run_promptly();
	if (ret == 0)
		ret = lc->opts.port->ops->start(lc->opts.port);
	started(arg, ret);
	if (ret == 0) {
		poll_until_stopped(lc);
		send_the_rest(lc);
	}
	give_back_what_is_lent(lc);
	rte_thread_unregister();
}

void og_lcore_stop(struct og_lcore *lc)
{
	__atomic_store_n(&lc->stop, true, __ATOMIC_RELAXED);
	og_doorbell_ring(lc->opts.doorbell); /* its barrier orders the store too */
}

struct og_tx *og_lcore_tx(struct og_lcore *lc)
{
	return &lc->tx;
}

const struct og_lcore_counters *og_lcore_counters(const struct og_lcore *lc)
{
	return &lc->counters;
}

static int watch(const struct og_lcore *lc, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};

	return epoll_ctl(lc->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_epoll(struct og_lcore *lc)
{
	int fds[OG_PORT_FDS_MAX], ret;
	uint32_t nb_fds = lc->opts.port->ops->wait_fds(lc->opts.port, fds);

	lc->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (lc->epoll_fd < 0)
		return -errno;
	lc->port_wakes = nb_fds > 0 || lc->opts.port->behind;
	ret = watch(lc, lc->opts.doorbell->fd);
	for (uint32_t i = 0; i < nb_fds && ret == 0; i++)
		ret = watch(lc, fds[i]);
	if (ret < 0)
		close(lc->epoll_fd);
	return ret;
}

static void join_group(struct og_lcore *lc, const struct og_lcore_group *group)
{
	lc->group = *group;
	for (uint16_t i = 0; i < group->nb_cores; i++) {
		lc->has_behind |= group->behind[i] != NULL;
		if (group->inboxes[i])
			lc->inboxes[lc->nb_inboxes++] = group->inboxes[i];
	}
}

int og_lcore_create(struct og_lcore **out, const struct og_lcore_opts *opts)
{
	struct og_lcore *lc = aligned_alloc(64, sizeof(*lc));
	int ret;

	if (!lc)
		return -ENOMEM;
	memset(lc, 0, sizeof(*lc));
	lc->opts = *opts;
	lc->pool = opts->port->pool;
	lc->tx = (struct og_tx){.reserve = reserve, .commit = commit};
	lc->inboxes[lc->nb_inboxes++] = opts->commands;
	if (opts->group)
		join_group(lc, opts->group);
	ret = open_epoll(lc);
	if (ret < 0) {
		free(lc);
		return ret;
	}
	*out = lc;
	return 0;
}

void og_lcore_destroy(struct og_lcore *lc)
{
	if (!lc)
		return;
	close(lc->epoll_fd);
	free(lc);
}
