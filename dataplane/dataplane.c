#include "dataplane/dataplane.h"

#include "base/log.h"
#include "base/metrics.h"
#include "dataplane/eal.h"
#include "dataplane/packet.h"
#include "dataplane/port_ethdev.h"
#include "dataplane/port_shared.h"
#include "dataplane/port_socket.h"
#include "dataplane/thread.h"
#include "dataplane/worker.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Packets beside those a port holds: the transmit queue, bursts and caches. */
enum { PACKETS_SPARE = 2047 };
/* Looks without a new count after which a trouble is over. */
enum { QUIET_LOOKS = 10, NB_TROUBLES = 3 };

struct trouble {
	uint64_t count;
	uint32_t quiet;
	bool on;
};

struct og_dataplane {
	struct og_port *port;
	struct og_doorbell doorbell; /* the polling core sleeps on it */
	struct og_stage *events;
	struct og_stage *commands;
	struct og_workers *workers;
	struct og_lcore *lcore;
	int lcore_cpu;
	/* The polling thread. */
	bool running;
	pthread_t thread;
	struct og_core *core;
	sem_t started;
	int start_result;
	struct trouble troubles[NB_TROUBLES];
};

static int fail(int ret, char *err, size_t err_bytes, const char *what)
{
	snprintf(err, err_bytes, "%s: %s", what, strerror(-ret));
	return ret;
}

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
	return value != 0 ? value : otherwise;
}

/* The devargs of "ethdev:<devargs>", or NULL for another driver. */
static const char *devargs_of(const struct og_dataplane_opts *opts)
{
	return strncmp(opts->driver, "ethdev:", 7) == 0 ? opts->driver + 7 : NULL;
}

static int open_eal(const struct og_dataplane_opts *opts)
{
	const struct og_eal_opts eal = {
		.hugepages = opts->hugepages,
		.memory_mib = opts->memory_mib,
		.device = devargs_of(opts),
		.extra_args = opts->eal_args,
	};

	return og_eal_open(&eal);
}

static int open_socket_port(
	struct og_dataplane *dp, struct rte_mempool *pool, const struct og_dataplane_opts *opts)
{
	const struct og_port_socket_opts socket = {
		.bind = opts->bind,
		.nb_endpoints = (uint16_t)or_default(opts->nb_endpoints, 1),
		.no_io_uring = opts->no_io_uring,
	};

	return og_port_socket_open(&dp->port, pool, &socket);
}

static int open_ethdev_port(
	struct og_dataplane *dp, struct rte_mempool *pool, const struct og_dataplane_opts *opts)
{
	struct og_port_ethdev_opts ethdev = {
		.devargs = devargs_of(opts),
		.addr = opts->bind,
		.prefix_bits = opts->prefix_bits,
		.mtu = opts->mtu,
		.nb_endpoints = (uint16_t)or_default(opts->nb_endpoints, 1),
	};

	memcpy(ethdev.gateway, opts->gateway.ip, sizeof(ethdev.gateway));
	return og_port_ethdev_open(&dp->port, pool, &ethdev);
}

static int open_shared_port(
	struct og_dataplane *dp, struct rte_mempool *pool, const struct og_dataplane_opts *opts)
{
	const struct og_port_shared_opts shared = {
		.devargs = devargs_of(opts),
		.addr = opts->bind,
		.nb_endpoints = (uint16_t)or_default(opts->nb_endpoints, 1),
		.no_io_uring = opts->no_io_uring,
	};

	return og_port_shared_open(&dp->port, pool, &shared);
}

static int open_port(struct og_dataplane *dp, const struct og_dataplane_opts *opts)
{
	const bool ethdev = devargs_of(opts) != NULL;
	uint32_t nb_packets = PACKETS_SPARE;
	struct rte_mempool *pool;
	int ret;

	if (!ethdev && (opts->shared || strcmp(opts->driver, "socket") != 0))
		return -EINVAL;
	if (!ethdev || opts->shared)
		nb_packets += OG_PORT_SOCKET_PACKETS;
	if (ethdev)
		nb_packets += OG_PORT_ETHDEV_PACKETS;
	ret = og_packet_pool_create(&pool, nb_packets);
	if (ret < 0)
		return ret;
	ret = opts->shared ? open_shared_port(dp, pool, opts)
	      : ethdev     ? open_ethdev_port(dp, pool, opts)
			   : open_socket_port(dp, pool, opts);
	if (ret < 0)
		rte_mempool_free(pool);
	return ret;
}

static void close_port(struct og_dataplane *dp)
{
	struct rte_mempool *pool = dp->port->pool;

	dp->port->ops->close(dp->port);
	rte_mempool_free(pool);
}

static int open_events(struct og_dataplane *dp, const struct og_dataplane_opts *opts)
{
	const struct og_stage_opts stage = {
		.depth = or_default(opts->event_depth, OG_DATAPLANE_STAGE_DEPTH),
		.nb_buffers = or_default(opts->event_buffers, OG_DATAPLANE_STAGE_BUFFERS),
		.buffer_bytes = or_default(opts->event_buffer_bytes, OG_DATAPLANE_BUFFER_BYTES),
		.doorbell = opts->router,
	};

	return og_stage_create(&dp->events, &stage);
}

static int open_commands(struct og_dataplane *dp, const struct og_dataplane_opts *opts)
{
	const struct og_stage_opts stage = {
		.depth = or_default(opts->command_depth, OG_DATAPLANE_STAGE_DEPTH),
		.nb_buffers = or_default(opts->command_buffers, OG_DATAPLANE_STAGE_BUFFERS),
		.buffer_bytes = or_default(opts->command_buffer_bytes, OG_DATAPLANE_BUFFER_BYTES),
		.doorbell = &dp->doorbell,
	};

	return og_stage_create(&dp->commands, &stage);
}

static int open_workers(struct og_dataplane *dp, const struct og_dataplane_opts *opts)
{
	const struct og_workers_opts workers = {
		.nb_workers = or_default(opts->nb_workers, 1),
		.nb_jobs = or_default(opts->nb_jobs, OG_DATAPLANE_JOBS),
		.doorbell = &dp->doorbell,
	};

	return og_workers_create(&dp->workers, &workers);
}

static int open_lcore(struct og_dataplane *dp, const struct og_dataplane_opts *opts)
{
	const struct og_lcore_opts lcore = {
		.port = dp->port,
		.workers = dp->workers,
		.commands = dp->commands,
		.doorbell = &dp->doorbell,
		.poll = opts->poll,
	};

	dp->lcore_cpu = opts->lcore_cpu;
	return og_lcore_create(&dp->lcore, &lcore);
}

int og_dataplane_open(struct og_dataplane **out, const struct og_dataplane_opts *opts, char *err,
	size_t err_bytes)
{
	struct og_dataplane *dp = calloc(1, sizeof(*dp));
	const char *what = "memory";
	int ret = -ENOMEM;

	if (!dp)
		return fail(ret, err, err_bytes, what);
	sem_init(&dp->started, 0, 0);
	what = "DPDK's environment";
	ret = open_eal(opts);
	if (ret < 0)
		goto free_dp;
	what = opts->driver;
	ret = open_port(dp, opts);
	if (ret < 0)
		goto free_dp;
	what = "doorbell";
	ret = og_doorbell_init(&dp->doorbell);
	if (ret < 0)
		goto close_port;
	what = "stages";
	ret = open_events(dp, opts);
	if (ret < 0)
		goto fini_doorbell;
	ret = open_commands(dp, opts);
	if (ret < 0)
		goto destroy_events;
	what = "crypto workers";
	ret = open_workers(dp, opts);
	if (ret < 0)
		goto destroy_commands;
	what = "polling core";
	ret = open_lcore(dp, opts);
	if (ret < 0)
		goto destroy_workers;
	*out = dp;
	return 0;

destroy_workers:
	og_workers_destroy(dp->workers);
destroy_commands:
	og_stage_destroy(dp->commands);
destroy_events:
	og_stage_destroy(dp->events);
fini_doorbell:
	og_doorbell_fini(&dp->doorbell);
close_port:
	close_port(dp);
free_dp:
	sem_destroy(&dp->started);
	free(dp);
	return fail(ret, err, err_bytes, what);
}

void og_dataplane_close(struct og_dataplane *dp)
{
	if (!dp)
		return;
	og_dataplane_stop(dp);
	og_lcore_destroy(dp->lcore);
	og_workers_destroy(dp->workers);
	og_stage_destroy(dp->commands);
	og_stage_destroy(dp->events);
	og_doorbell_fini(&dp->doorbell);
	close_port(dp);
	sem_destroy(&dp->started);
	free(dp);
}

const char *og_dataplane_port_name(const struct og_dataplane *dp)
{
	return dp->port->name;
}

void og_dataplane_local_addr(const struct og_dataplane *dp, uint16_t endpoint, struct og_addr *out)
{
	OG_ASSERT(endpoint < dp->port->nb_endpoints);
	dp->port->ops->local_addr(dp->port, endpoint, out);
}

void og_dataplane_env(struct og_dataplane *dp, struct og_core_env *env)
{
	env->tx = og_lcore_tx(dp->lcore);
	env->jobs = og_workers_jobs(dp->workers);
	env->events = og_stage_sink(dp->events);
}

static void started(void *arg, int ret)
{
	struct og_dataplane *dp = arg;

	dp->start_result = ret;
	sem_post(&dp->started);
}

static void *lcore_main(void *arg)
{
	struct og_dataplane *dp = arg;

	og_lcore_run(dp->lcore, dp->core, started, dp);
	return NULL;
}

int og_dataplane_start(struct og_dataplane *dp, struct og_core *core)
{
	int ret;

	if (dp->core)
		return -EALREADY;
	dp->core = core;
	ret = og_thread_start(&dp->thread, "og-net-0", dp->lcore_cpu, lcore_main, dp);
	if (ret < 0)
		return ret;
	while (sem_wait(&dp->started) < 0)
		continue;
	if (dp->start_result < 0)
		pthread_join(dp->thread, NULL);
	else
		dp->running = true;
	return dp->start_result;
}

void og_dataplane_stop(struct og_dataplane *dp)
{
	if (!dp->running)
		return;
	og_lcore_stop(dp->lcore);
	pthread_join(dp->thread, NULL);
	dp->running = false;
}

/*
 * Troubles that last are said when they begin and when they have been over for a while, not for
 * each packet.
 */
static void say_trouble(struct trouble *t, const char *what, uint64_t count)
{
	if (count != t->count) {
		t->count = count;
		t->quiet = 0;
		if (!t->on)
			OG_LOG(port, WARN, "%s", what);
		t->on = true;
	} else if (t->on && ++t->quiet == QUIET_LOOKS) {
		t->on = false;
		OG_LOG(port, INFO, "over: %s", what);
	}
}

void og_dataplane_supervise(struct og_dataplane *dp)
{
	const struct og_lcore_counters *lc = og_lcore_counters(dp->lcore);

	if (!dp->running)
		return;
	if (dp->port->ops->supervise)
		dp->port->ops->supervise(dp->port);
	say_trouble(&dp->troubles[0], "the packet pool is empty: packets are lost",
		og_counter_read(&lc->tx_no_mbuf) + og_dataplane_drops(dp, OG_DROP_RX_NO_MBUF));
	say_trouble(&dp->troubles[1], "the port takes less than is to be sent",
		og_counter_read(&lc->tx_full));
	say_trouble(&dp->troubles[2], "somebody else uses our IP address",
		og_dataplane_drops(dp, OG_DROP_OWN_ADDRESS));
}

struct og_stage *og_dataplane_events(struct og_dataplane *dp)
{
	return dp->events;
}

struct og_stage *og_dataplane_commands(struct og_dataplane *dp)
{
	return dp->commands;
}

const struct og_lcore_counters *og_dataplane_counters(const struct og_dataplane *dp)
{
	return og_lcore_counters(dp->lcore);
}

uint64_t og_dataplane_drops(const struct og_dataplane *dp, enum og_drop reason)
{
	return og_counter_read(&dp->port->drops[reason]);
}

static void register_drops(const struct og_dataplane *dp)
{
	static char labels[OG_DROP_COUNT][48]; /* metrics keep pointers */

	for (int i = 0; i < OG_DROP_COUNT; i++) {
		const struct og_metric m = {
			.name = "og_dataplane_drops_total",
			.labels = labels[i],
			.help = "Packets dropped, by reason.",
			.type = OG_METRIC_COUNTER,
			.value = &dp->port->drops[i],
		};

		snprintf(labels[i], sizeof(labels[i]), "lcore=\"0\",reason=\"%s\"",
			og_drop_name((enum og_drop)i));
		og_metrics_register(&m);
	}
}

static void register_phases(const struct og_lcore_counters *lc)
{
	static const char *const labels[OG_PHASE_COUNT] = {
		[OG_PHASE_RX] = "lcore=\"0\",phase=\"rx\"",
		[OG_PHASE_COMMANDS] = "lcore=\"0\",phase=\"commands\"",
		[OG_PHASE_JOBS] = "lcore=\"0\",phase=\"jobs\"",
		[OG_PHASE_TICK] = "lcore=\"0\",phase=\"tick\"",
		[OG_PHASE_TX] = "lcore=\"0\",phase=\"tx\"",
	};

	for (int i = 0; i < OG_PHASE_COUNT; i++) {
		const struct og_metric m = {
			.name = "og_dataplane_phase_seconds_total",
			.labels = labels[i],
			.help = "Busy time by phase of a pass, estimated from one pass in 16.",
			.type = OG_METRIC_COUNTER_NS,
			.value = &lc->phase_ns[i],
		};

		og_metrics_register(&m);
	}
}

void og_dataplane_register_metrics(const struct og_dataplane *dp)
{
	const struct og_lcore_counters *lc = og_lcore_counters(dp->lcore);
	const struct og_workers_counters *w = og_workers_counters(dp->workers);
	const struct {
		const char *name, *help;
		const uint64_t *value;
		enum og_metric_type type;
	} metrics[] = {
		{"og_dataplane_rx_packets_total", "Datagrams received.", &lc->rx_packets, 0},
		{"og_dataplane_rx_bytes_total", "Payload bytes received.", &lc->rx_bytes, 0},
		{"og_dataplane_tx_packets_total", "Datagrams given to the port.", &lc->tx_packets,
			0},
		{"og_dataplane_tx_bytes_total", "Payload bytes sent.", &lc->tx_bytes, 0},
		{"og_dataplane_tx_full_total", "Buffers refused, transmit queue full.",
			&lc->tx_full, 0},
		{"og_dataplane_tx_no_mbuf_total", "Buffers refused, pool empty.", &lc->tx_no_mbuf,
			0},
		{"og_dataplane_commands_total", "Commands of the router handled.", &lc->commands,
			0},
		{"og_dataplane_busy_seconds_total", "Time in passes with work.", &lc->busy_ns,
			OG_METRIC_COUNTER_NS},
		{"og_dataplane_idle_seconds_total", "Time in empty passes.", &lc->idle_ns,
			OG_METRIC_COUNTER_NS},
		{"og_dataplane_sleep_seconds_total", "Time asleep.", &lc->sleep_ns,
			OG_METRIC_COUNTER_NS},
		{"og_dataplane_sleeps_total", "Times that the core blocked.", &lc->sleeps, 0},
		{"og_dataplane_jobs_posted_total", "Jobs for the crypto workers.", &w->posted, 0},
		{"og_dataplane_jobs_done_total", "Jobs run.", &w->done, 0},
		{"og_dataplane_jobs_shed_total", "Jobs not run, source over its share.", &w->shed,
			0},
		{"og_dataplane_jobs_no_slot_total", "Jobs refused, all slots taken.", &w->no_slot,
			0},
		{"og_dataplane_jobs_waiting", "Jobs not yet with a worker.", &w->waiting,
			OG_METRIC_GAUGE},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(metrics); i++) {
		const struct og_metric m = {.name = metrics[i].name,
			.labels = "lcore=\"0\"",
			.help = metrics[i].help,
			.type = metrics[i].type,
			.value = metrics[i].value};

		og_metrics_register(&m);
	}
	register_phases(lc);
	register_drops(dp);
	if (dp->port->ops->register_metrics)
		dp->port->ops->register_metrics(dp->port);
}
