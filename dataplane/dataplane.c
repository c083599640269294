#include "dataplane/dataplane.h"

#include "base/log.h"
#include "base/metrics.h"
#include "base/rand.h"
#include "dataplane/eal.h"
#include "dataplane/handover.h"
#include "dataplane/packet.h"
#include "dataplane/port_behind.h"
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
enum { QUIET_LOOKS = 10, NB_TROUBLES = 4 };
/* Of memory for each packet, and data of messages between two cores. */
enum { PACKET_MEMORY_BYTES = 2816, LINK_BUFFERS = 256 };

struct trouble {
	uint64_t count;
	uint32_t quiet;
	bool on;
};

/* One polling core and what is its own. */
struct core {
	struct og_port *port;
	struct og_doorbell doorbell; /* the polling core sleeps on it */
	struct og_stage *events;
	struct og_stage *commands;
	struct og_stage *to_first;   /* messages to core 0; of core 0: NULL */
	struct og_stage *from_first; /* and from it */
	struct og_lcore *lcore;
	int cpu;
	/* The polling thread. */
	bool running;
	pthread_t thread;
	struct og_core *core;
	sem_t started;
	int start_result;
};

struct og_dataplane {
	uint16_t nb_cores;
	uint32_t tag_key; /* of the ids of streams; 0 where no port looks at them */
	struct core cores[OG_CORES_MAX];
	struct og_handover *handovers[OG_CORES_MAX][OG_CORES_MAX]; /* from, to */
	struct og_workers *workers;
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

/* The CPU of a core, -1: wherever. */
static int cpu_of(const struct og_dataplane_opts *opts, uint16_t idx)
{
	if (idx == 0)
		return opts->lcore_cpu;
	return opts->more_cpus ? opts->more_cpus[idx - 1] : -1;
}

/* The devargs of "ethdev:<devargs>", or NULL for another driver. */
static const char *devargs_of(const struct og_dataplane_opts *opts)
{
	return strncmp(opts->driver, "ethdev:", 7) == 0 ? opts->driver + 7 : NULL;
}

static bool is_ethdev(const struct og_dataplane_opts *opts)
{
	return devargs_of(opts) != NULL;
}

/* Pairs of queues that a device is asked for. */
static uint16_t nb_queues(const struct og_dataplane_opts *opts, uint16_t nb_cores)
{
	if (opts->shared)
		return 1;
	return opts->queues != 0 ? OG_MIN(opts->queues, nb_cores) : nb_cores;
}

/* Packets of one core's pool: those it receives into, those it sends, those away with others. */
static uint32_t packets_of(const struct og_dataplane_opts *opts, uint16_t idx, uint16_t nb_cores)
{
	uint32_t n = PACKETS_SPARE + (nb_cores - 1u) * OG_DATAPLANE_HANDOVER;

	if (is_ethdev(opts) && idx < nb_queues(opts, nb_cores))
		n += OG_PORT_ETHDEV_PACKETS;
	if (!is_ethdev(opts) || (opts->shared && idx == 0))
		n += OG_PORT_SOCKET_PACKETS;
	return n;
}

static int open_eal(const struct og_dataplane_opts *opts, uint16_t nb_cores)
{
	struct og_eal_opts eal = {
		.hugepages = opts->hugepages,
		.memory_mib = opts->memory_mib,
		.device = devargs_of(opts),
		.extra_args = opts->eal_args,
	};

	if (eal.memory_mib == 0 && !eal.hugepages && nb_cores > 1) {
		uint64_t packets = 0;

		/* A device that comes back has new pools beside the old ones. */
		for (uint16_t i = 1; i < nb_cores; i++)
			packets += packets_of(opts, i, nb_cores) * (is_ethdev(opts) ? 2 : 1);
		packets += (nb_cores - 1u) * OG_DATAPLANE_HANDOVER; /* more of core 0 */
		eal.memory_mib =
			OG_EAL_MEMORY_MIB + (uint32_t)(packets * PACKET_MEMORY_BYTES >> 20);
	}
	return og_eal_open(&eal);
}

static uint32_t draw_tag_key(void)
{
	struct og_rand rand;

	og_rand_system(&rand);
	return og_rand_u32(&rand) | 1; /* odd: each bit of an id counts */
}

static int open_socket_ports(struct og_dataplane *dp, struct og_port **ports,
	struct rte_mempool *const *pools, const struct og_dataplane_opts *opts)
{
	const struct og_port_socket_opts socket = {
		.bind = opts->bind,
		.tag_key = dp->tag_key = draw_tag_key(),
		.nb_endpoints = (uint16_t)or_default(opts->nb_endpoints, 1),
		.no_io_uring = opts->no_io_uring,
		.steering = opts->steering,
		.nb_steering = opts->nb_steering,
	};

	return og_port_socket_open(ports, pools, dp->nb_cores, &socket);
}

static int open_ethdev_ports(struct og_port **ports, uint16_t *nb_ports,
	struct rte_mempool *const *pools, uint16_t nb_pools, struct og_doorbell *first,
	const struct og_dataplane_opts *opts)
{
	struct og_port_ethdev_opts ethdev = {
		.devargs = devargs_of(opts),
		.addr = opts->bind,
		.prefix_bits = opts->prefix_bits,
		.mtu = opts->mtu,
		.nb_endpoints = (uint16_t)or_default(opts->nb_endpoints, 1),
		.first = first,
	};

	memcpy(ethdev.gateway, opts->gateway.ip, sizeof(ethdev.gateway));
	return og_port_ethdev_open(ports, nb_ports, pools, nb_pools, &ethdev);
}

static int open_shared_port(
	struct og_port **out, struct rte_mempool *pool, const struct og_dataplane_opts *opts)
{
	const struct og_port_shared_opts shared = {
		.devargs = devargs_of(opts),
		.addr = opts->bind,
		.nb_endpoints = (uint16_t)or_default(opts->nb_endpoints, 1),
		.no_io_uring = opts->no_io_uring,
	};

	return og_port_shared_open(out, pool, &shared);
}

/* Cores without a queue of the device send and receive through core 0. */
static int open_device_ports(struct og_port **ports, struct rte_mempool *const *pools,
	struct og_dataplane *dp, const struct og_dataplane_opts *opts)
{
	uint16_t nb_ports = 1;
	int ret = opts->shared
			  ? open_shared_port(&ports[0], pools[0], opts)
			  : open_ethdev_ports(ports, &nb_ports, pools,
				    nb_queues(opts, dp->nb_cores), &dp->cores[0].doorbell, opts);

	if (ret == 0 && dp->nb_cores > 1)
		OG_LOG(port, INFO, "%u of %u polling cores have a pair of queues", nb_ports,
			dp->nb_cores);
	for (uint16_t i = nb_ports; i < dp->nb_cores && ret == 0; i++) {
		ret = og_port_behind_open(&ports[i], pools[i], ports[0]);
		if (ret < 0)
			while (i-- > 0)
				ports[i]->ops->close(ports[i]);
	}
	return ret;
}

static int open_ports(struct og_dataplane *dp, const struct og_dataplane_opts *opts)
{
	struct rte_mempool *pools[OG_CORES_MAX] = {0};
	struct og_port *ports[OG_CORES_MAX];
	int ret = 0;

	if (!is_ethdev(opts) && (opts->shared || strcmp(opts->driver, "socket") != 0))
		return -EINVAL;
	for (uint16_t i = 0; i < dp->nb_cores && ret == 0; i++)
		ret = og_packet_pool_create(&pools[i], packets_of(opts, i, dp->nb_cores),
			og_thread_node(cpu_of(opts, i)),
			is_ethdev(opts) && og_eal_is_pci(devargs_of(opts)));
	if (ret == 0)
		ret = is_ethdev(opts) ? open_device_ports(ports, pools, dp, opts)
				      : open_socket_ports(dp, ports, pools, opts);
	if (ret < 0) {
		for (uint16_t i = 0; i < dp->nb_cores; i++)
			rte_mempool_free(pools[i]);
		return ret;
	}
	for (uint16_t i = 0; i < dp->nb_cores; i++)
		dp->cores[i].port = ports[i];
	return 0;
}

/* Ports before pools: packets that wait in a port of one core may be another's. */
static void close_ports(struct og_dataplane *dp)
{
	struct rte_mempool *pools[OG_CORES_MAX] = {0};

	for (uint16_t i = dp->nb_cores; i-- > 0;) {
		struct og_port *port = dp->cores[i].port;

		if (!port)
			continue;
		pools[i] = port->pool;
		port->ops->close(port);
	}
	for (uint16_t i = 0; i < dp->nb_cores; i++)
		rte_mempool_free(pools[i]);
}

static int open_stage(struct og_stage **out, uint32_t depth, uint32_t nb_buffers,
	uint32_t buffer_bytes, struct og_doorbell *doorbell)
{
	const struct og_stage_opts stage = {
		.depth = or_default(depth, OG_DATAPLANE_STAGE_DEPTH),
		.nb_buffers = or_default(nb_buffers, OG_DATAPLANE_STAGE_BUFFERS),
		.buffer_bytes = or_default(buffer_bytes, OG_DATAPLANE_BUFFER_BYTES),
		.doorbell = doorbell,
	};

	return og_stage_create(out, &stage);
}

static int open_link(struct og_stage **out, struct og_doorbell *doorbell)
{
	const struct og_stage_opts stage = {
		.depth = OG_DATAPLANE_STAGE_DEPTH,
		.nb_buffers = LINK_BUFFERS,
		.buffer_bytes = OG_PACKET_BYTES,
		.secret = true,
		.doorbell = doorbell,
	};

	return og_stage_create(out, &stage);
}

static int open_stages(struct og_dataplane *dp, const struct og_dataplane_opts *opts)
{
	struct core *first = &dp->cores[0];
	int ret = 0;

	for (uint16_t i = 0; i < dp->nb_cores && ret == 0; i++) {
		struct core *c = &dp->cores[i];

		ret = open_stage(&c->events, opts->event_depth, opts->event_buffers,
			opts->event_buffer_bytes, opts->router);
		if (ret == 0)
			ret = open_stage(&c->commands, opts->command_depth, opts->command_buffers,
				opts->command_buffer_bytes, &c->doorbell);
		if (ret == 0 && i > 0)
			ret = open_link(&c->to_first, &first->doorbell);
		if (ret == 0 && i > 0)
			ret = open_link(&c->from_first, &c->doorbell);
	}
	for (uint16_t i = 0; i < dp->nb_cores; i++)
		for (uint16_t k = 0; k < dp->nb_cores && ret == 0; k++)
			if (i != k)
				ret = og_handover_create(
					&dp->handovers[i][k], OG_DATAPLANE_HANDOVER);
	return ret;
}

static void close_stages(struct og_dataplane *dp)
{
	for (uint16_t i = 0; i < dp->nb_cores; i++) {
		og_stage_destroy(dp->cores[i].events);
		og_stage_destroy(dp->cores[i].commands);
		og_stage_destroy(dp->cores[i].to_first);
		og_stage_destroy(dp->cores[i].from_first);
		for (uint16_t k = 0; k < dp->nb_cores; k++)
			og_handover_destroy(dp->handovers[i][k]);
	}
}

static int open_workers(struct og_dataplane *dp, const struct og_dataplane_opts *opts)
{
	const struct og_workers_opts workers = {
		.nb_workers = or_default(opts->nb_workers, 1),
		.nb_jobs = or_default(opts->nb_jobs, OG_DATAPLANE_JOBS),
		.doorbell = &dp->cores[0].doorbell,
	};

	return og_workers_create(&dp->workers, &workers);
}

static void describe_group(struct og_dataplane *dp, uint16_t idx, struct og_lcore_group *out)
{
	*out = (struct og_lcore_group){.nb_cores = dp->nb_cores, .idx = idx};
	for (uint16_t i = 0; i < dp->nb_cores; i++) {
		struct core *c = &dp->cores[i];

		if (i == idx)
			continue;
		out->to[i] = dp->handovers[idx][i];
		out->from[i] = dp->handovers[i][idx];
		out->bells[i] = &c->doorbell;
		if (idx == 0) {
			out->inboxes[i] = c->to_first;
			out->behind[i] = c->port->behind ? c->port : NULL;
		} else if (i == 0) {
			out->inboxes[0] = dp->cores[idx].from_first;
		}
	}
}

static int open_lcores(struct og_dataplane *dp, const struct og_dataplane_opts *opts)
{
	int ret = 0;

	for (uint16_t i = 0; i < dp->nb_cores && ret == 0; i++) {
		struct core *c = &dp->cores[i];
		struct og_lcore_group group;
		struct og_lcore_opts lcore = {
			.port = c->port,
			.workers = i == 0 ? dp->workers : NULL,
			.commands = c->commands,
			.doorbell = &c->doorbell,
			.poll = opts->poll,
		};

		if (dp->nb_cores > 1) {
			describe_group(dp, i, &group);
			lcore.group = &group;
		}
		c->cpu = cpu_of(opts, i);
		ret = og_lcore_create(&c->lcore, &lcore);
	}
	return ret;
}

static int open_doorbells(struct og_dataplane *dp)
{
	int ret = 0;

	for (uint16_t i = 0; i < dp->nb_cores && ret == 0; i++)
		ret = og_doorbell_init(&dp->cores[i].doorbell);
	return ret;
}

static struct og_dataplane *allocate(uint16_t nb_cores)
{
	struct og_dataplane *dp = aligned_alloc(64, sizeof(*dp));

	if (!dp)
		return NULL;
	memset(dp, 0, sizeof(*dp));
	dp->nb_cores = nb_cores;
	for (uint16_t i = 0; i < nb_cores; i++) {
		sem_init(&dp->cores[i].started, 0, 0);
		dp->cores[i].doorbell.fd = -1;
	}
	return dp;
}

int og_dataplane_open(struct og_dataplane **out, const struct og_dataplane_opts *opts, char *err,
	size_t err_bytes)
{
	uint16_t nb_cores = (uint16_t)or_default(opts->nb_cores, 1);
	struct og_dataplane *dp;
	const char *what = "DPDK's environment";
	int ret;

	if (nb_cores > OG_CORES_MAX)
		return fail(-EINVAL, err, err_bytes, "polling cores");
	dp = allocate(nb_cores);
	if (!dp)
		return fail(-ENOMEM, err, err_bytes, "memory");
	ret = open_eal(opts, nb_cores);
	if (ret == 0) {
		what = opts->driver;
		ret = open_ports(dp, opts);
	}
	if (ret == 0) {
		what = "doorbell";
		ret = open_doorbells(dp);
	}
	if (ret == 0) {
		what = "stages";
		ret = open_stages(dp, opts);
	}
	if (ret == 0) {
		what = "crypto workers";
		ret = open_workers(dp, opts);
	}
	if (ret == 0) {
		what = "polling core";
		ret = open_lcores(dp, opts);
	}
	if (ret < 0) {
		og_dataplane_close(dp);
		return fail(ret, err, err_bytes, what);
	}
	*out = dp;
	return 0;
}

/* Also of one that opened only in part. */
void og_dataplane_close(struct og_dataplane *dp)
{
	if (!dp)
		return;
	og_dataplane_stop(dp);
	for (uint16_t i = 0; i < dp->nb_cores; i++)
		og_lcore_destroy(dp->cores[i].lcore);
	og_workers_destroy(dp->workers);
	close_stages(dp);
	close_ports(dp);
	for (uint16_t i = 0; i < dp->nb_cores; i++) {
		if (dp->cores[i].doorbell.fd >= 0)
			og_doorbell_fini(&dp->cores[i].doorbell);
		sem_destroy(&dp->cores[i].started);
	}
	free(dp);
}

const char *og_dataplane_port_name(const struct og_dataplane *dp)
{
	return dp->cores[0].port->name;
}

void og_dataplane_local_addr(const struct og_dataplane *dp, uint16_t endpoint, struct og_addr *out)
{
	const struct og_port *port = dp->cores[0].port;

	OG_ASSERT(endpoint < port->nb_endpoints);
	port->ops->local_addr(port, endpoint, out);
}

void og_dataplane_core_env(struct og_dataplane *dp, uint16_t idx, struct og_core_env *env)
{
	env->tx = og_lcore_tx(dp->cores[idx].lcore);
	env->jobs = idx == 0 ? og_workers_jobs(dp->workers) : NULL;
	env->events = og_stage_sink(dp->cores[idx].events);
	env->tag_key = dp->tag_key;
}

void og_dataplane_env(struct og_dataplane *dp, struct og_core_env *env)
{
	og_dataplane_core_env(dp, 0, env);
}

struct og_sink *og_dataplane_link(struct og_dataplane *dp, uint16_t from, uint16_t to)
{
	OG_ASSERT((from == 0) != (to == 0) && from < dp->nb_cores && to < dp->nb_cores);
	return og_stage_sink(from == 0 ? dp->cores[to].from_first : dp->cores[from].to_first);
}

static void started(void *arg, int ret)
{
	struct core *c = arg;

	c->start_result = ret;
	sem_post(&c->started);
}

static void *lcore_main(void *arg)
{
	struct core *c = arg;

	og_lcore_run(c->lcore, c->core, started, c);
	return NULL;
}

static int start_core(struct core *c, uint16_t idx)
{
	char name[16];
	int ret;

	snprintf(name, sizeof(name), "og-net-%u", idx);
	ret = og_thread_start(&c->thread, name, c->cpu, lcore_main, c);
	if (ret < 0)
		return ret;
	while (sem_wait(&c->started) < 0)
		continue;
	if (c->start_result < 0)
		pthread_join(c->thread, NULL);
	else
		c->running = true;
	return c->start_result;
}

int og_dataplane_start_cores(struct og_dataplane *dp, struct og_core *const *cores)
{
	if (dp->cores[0].core)
		return -EALREADY;
	for (uint16_t i = 0; i < dp->nb_cores; i++)
		dp->cores[i].core = cores[i];
	/* Core 0 last: it is the one that begins to talk. */
	for (uint16_t i = dp->nb_cores; i-- > 0;) {
		int ret = start_core(&dp->cores[i], i);

		if (ret < 0) {
			og_dataplane_stop(dp);
			return ret;
		}
	}
	return 0;
}

int og_dataplane_start(struct og_dataplane *dp, struct og_core *core)
{
	OG_ASSERT(dp->nb_cores == 1);
	return og_dataplane_start_cores(dp, &core);
}

void og_dataplane_stop(struct og_dataplane *dp)
{
	/* Core 0 last: it may have to send for the others. */
	for (uint16_t i = dp->nb_cores; i-- > 0;) {
		struct core *c = &dp->cores[i];

		if (!c->running)
			continue;
		og_lcore_stop(c->lcore);
		pthread_join(c->thread, NULL);
		c->running = false;
	}
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
	uint64_t no_mbuf = og_dataplane_drops(dp, OG_DROP_RX_NO_MBUF), tx_full = 0,
		 handover_full = 0;

	if (!dp->cores[0].running)
		return;
	for (uint16_t i = 0; i < dp->nb_cores; i++) {
		const struct core *c = &dp->cores[i];
		const struct og_lcore_counters *lc = og_lcore_counters(c->lcore);

		if (c->port->ops->supervise)
			c->port->ops->supervise(c->port);
		no_mbuf += og_counter_read(&lc->tx_no_mbuf);
		tx_full += og_counter_read(&lc->tx_full);
		handover_full += og_counter_read(&lc->handover_full);
	}
	say_trouble(&dp->troubles[0], "the packet pool is empty: packets are lost", no_mbuf);
	say_trouble(&dp->troubles[1], "the port takes less than is to be sent", tx_full);
	say_trouble(&dp->troubles[2], "somebody else uses our IP address",
		og_dataplane_drops(dp, OG_DROP_OWN_ADDRESS));
	say_trouble(&dp->troubles[3], "a polling core does not keep up with what others hand it",
		handover_full);
}

bool og_dataplane_absent(const struct og_dataplane *dp)
{
	const struct og_port *port = dp->cores[0].port;

	return port->ops->absent && port->ops->absent(port);
}

uint16_t og_dataplane_nb_cores(const struct og_dataplane *dp)
{
	return dp->nb_cores;
}

struct og_stage *og_dataplane_core_events(struct og_dataplane *dp, uint16_t idx)
{
	return dp->cores[idx].events;
}

struct og_stage *og_dataplane_core_commands(struct og_dataplane *dp, uint16_t idx)
{
	return dp->cores[idx].commands;
}

const struct og_lcore_counters *og_dataplane_core_counters(
	const struct og_dataplane *dp, uint16_t idx)
{
	return og_lcore_counters(dp->cores[idx].lcore);
}

struct og_stage *og_dataplane_events(struct og_dataplane *dp)
{
	return og_dataplane_core_events(dp, 0);
}

struct og_stage *og_dataplane_commands(struct og_dataplane *dp)
{
	return og_dataplane_core_commands(dp, 0);
}

const struct og_lcore_counters *og_dataplane_counters(const struct og_dataplane *dp)
{
	return og_dataplane_core_counters(dp, 0);
}

uint64_t og_dataplane_drops(const struct og_dataplane *dp, enum og_drop reason)
{
	uint64_t sum = 0;

	for (uint16_t i = 0; i < dp->nb_cores; i++)
		sum += og_counter_read(&dp->cores[i].port->drops[reason]);
	return sum;
}

/* ---- metrics ---- */

/* Labels, which metrics keep pointers to. */
static const char *label(uint16_t core, const char *name, const char *value)
{
	size_t bytes = sizeof("lcore=\"16\",=\"\"") + strlen(name) + strlen(value);
	char *text = malloc(bytes);

	OG_ASSERT(text);
	if (name[0])
		snprintf(text, bytes, "lcore=\"%u\",%s=\"%s\"", core, name, value);
	else
		snprintf(text, bytes, "lcore=\"%u\"", core);
	return text;
}

static void register_drops(const struct og_dataplane *dp)
{
	for (uint16_t core = 0; core < dp->nb_cores; core++)
		for (int i = 0; i < OG_DROP_COUNT; i++)
			og_metrics_register(&(struct og_metric){
				.name = "og_dataplane_drops_total",
				.labels = label(core, "reason", og_drop_name((enum og_drop)i)),
				.help = "Packets dropped, by reason.",
				.type = OG_METRIC_COUNTER,
				.value = &dp->cores[core].port->drops[i],
			});
}

static void register_phases(const struct og_dataplane *dp)
{
	static const char *const phases[OG_PHASE_COUNT] = {
		[OG_PHASE_RX] = "rx",
		[OG_PHASE_COMMANDS] = "commands",
		[OG_PHASE_JOBS] = "jobs",
		[OG_PHASE_TICK] = "tick",
		[OG_PHASE_TX] = "tx",
	};

	for (uint16_t core = 0; core < dp->nb_cores; core++)
		for (int i = 0; i < OG_PHASE_COUNT; i++)
			og_metrics_register(&(struct og_metric){
				.name = "og_dataplane_phase_seconds_total",
				.labels = label(core, "phase", phases[i]),
				.help = "Busy time by phase of a pass, estimated from one pass in "
					"16.",
				.type = OG_METRIC_COUNTER_NS,
				.value = &og_lcore_counters(dp->cores[core].lcore)->phase_ns[i],
			});
}

static void register_lcores(const struct og_dataplane *dp, const char *const *labels)
{
	static const struct {
		const char *name, *help;
		size_t offset; /* in the counters of a core */
		enum og_metric_type type;
	} rows[] = {
#define LCORE(field) offsetof(struct og_lcore_counters, field)
		{"og_dataplane_rx_packets_total", "Datagrams received.", LCORE(rx_packets), 0},
		{"og_dataplane_rx_bytes_total", "Payload bytes received.", LCORE(rx_bytes), 0},
		{"og_dataplane_tx_packets_total", "Datagrams given to the port.", LCORE(tx_packets),
			0},
		{"og_dataplane_tx_bytes_total", "Payload bytes sent.", LCORE(tx_bytes), 0},
		{"og_dataplane_tx_full_total", "Buffers refused, transmit queue full.",
			LCORE(tx_full), 0},
		{"og_dataplane_tx_no_mbuf_total", "Buffers refused, pool empty.", LCORE(tx_no_mbuf),
			0},
		{"og_dataplane_handed_out_total", "Datagrams given to the core they belong to.",
			LCORE(handed_out), 0},
		{"og_dataplane_handed_in_total",
			"Datagrams that other cores received for this one.", LCORE(handed_in), 0},
		{"og_dataplane_handover_full_total",
			"Datagrams dropped, the ring to their core full.", LCORE(handover_full), 0},
		{"og_dataplane_commands_total", "Commands of the router handled.", LCORE(commands),
			0},
		{"og_dataplane_busy_seconds_total", "Time in passes with work.", LCORE(busy_ns),
			OG_METRIC_COUNTER_NS},
		{"og_dataplane_idle_seconds_total", "Time in empty passes.", LCORE(idle_ns),
			OG_METRIC_COUNTER_NS},
		{"og_dataplane_sleep_seconds_total", "Time asleep.", LCORE(sleep_ns),
			OG_METRIC_COUNTER_NS},
		{"og_dataplane_sleeps_total", "Times that the core blocked.", LCORE(sleeps), 0},
#undef LCORE
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(rows); i++)
		for (uint16_t core = 0; core < dp->nb_cores; core++) {
			const struct og_lcore_counters *lc =
				og_lcore_counters(dp->cores[core].lcore);

			og_metrics_register(&(struct og_metric){.name = rows[i].name,
				.labels = labels[core],
				.help = rows[i].help,
				.type = rows[i].type,
				.value = (const uint8_t *)lc + rows[i].offset});
		}
}

void og_dataplane_register_metrics(const struct og_dataplane *dp)
{
	const struct og_workers_counters *w = og_workers_counters(dp->workers);
	const char *labels[OG_CORES_MAX];
	const struct {
		const char *name, *help;
		const uint64_t *value;
		enum og_metric_type type;
	} jobs[] = {
		{"og_dataplane_jobs_posted_total", "Jobs for the crypto workers.", &w->posted, 0},
		{"og_dataplane_jobs_done_total", "Jobs run.", &w->done, 0},
		{"og_dataplane_jobs_shed_total", "Jobs not run, source over its share.", &w->shed,
			0},
		{"og_dataplane_jobs_no_slot_total", "Jobs refused, all slots taken.", &w->no_slot,
			0},
		{"og_dataplane_jobs_waiting", "Jobs not yet with a worker.", &w->waiting,
			OG_METRIC_GAUGE},
	};

	for (uint16_t core = 0; core < dp->nb_cores; core++)
		labels[core] = label(core, "", "");
	register_lcores(dp, labels);
	for (size_t i = 0; i < OG_ARRAY_LEN(jobs); i++)
		og_metrics_register(&(struct og_metric){.name = jobs[i].name,
			.labels = labels[0],
			.help = jobs[i].help,
			.type = jobs[i].type,
			.value = jobs[i].value});
	register_phases(dp);
	register_drops(dp);
	for (uint16_t core = 0; core < dp->nb_cores; core++) {
		const struct og_port *port = dp->cores[core].port;

		if (port->ops->register_metrics)
			port->ops->register_metrics(port);
	}
}
