/*
 * dataplane.h: everything a core needs to run: EAL, port, workers, stages and its polling thread.
 *
 * With several cores each has a polling thread, a port and stages of its own; core 0 has the crypto
 * workers, and a stage joins it with each of the others in both directions. On sockets all ports share
 * one address. Of a device each core has a pair of queues as far as there are some (a shared one has one):
 * core 0 receives and sends for those without.
 *
 * Order: open, env (create the core with it), start, stop, close (after the core is destroyed).
 * Between open and close the node may drop privileges: only start() needs system calls beyond those
 * of a running node (clone, io_uring_register).
 *
 * Threads: all calls from the main thread, except the consumer's of events and the producer's of
 *          commands, which belong to the router.
 * Memory:  everything at open. One dataplane per process polls a port; tests may open several.
 */
#pragma once
#include "base/core.h"
#include "dataplane/lcore.h"
#include "dataplane/port.h"
#include "dataplane/stage.h"

struct og_dataplane;

struct og_dataplane_opts {
	const char *driver; /* "socket" or "ethdev:<devargs>" */
	struct og_addr
		bind; /* socket: 0.0.0.0 is any; ethdev: its address. Port: see port_socket.h */
	uint8_t prefix_bits;    /* ethdev: of the local network */
	struct og_addr gateway; /* ethdev: 0.0.0.0 is none; the port is ignored */
	uint16_t mtu;           /* ethdev: of IP; 0: what the device has */
	uint16_t queues;        /* ethdev: pairs of queues at most; 0: one for each core */
	bool shared;            /* ethdev, net_af_xdp: see port_shared.h; bind may be 0.0.0.0 */
	uint16_t nb_endpoints;  /* 1: server; 2: server and client; 0: 1 */
	int lcore_cpu;          /* of the polling core; -1: wherever */
	uint16_t nb_cores;      /* polling cores; 0: 1 */
	const int *more_cpus;   /* of cores 1 and up; NULL: wherever */
	/* socket, several cores: see port_socket.h */
	const struct sock_filter *steering;
	uint16_t nb_steering;
	enum og_poll poll;
	uint32_t nb_workers; /* crypto workers; 0: 1 */
	uint32_t nb_jobs;    /* slots for jobs; 0: OG_DATAPLANE_JOBS */
	bool no_io_uring;    /* socket: recvmmsg even where io_uring works */
	bool hugepages;
	uint32_t memory_mib;  /* of EAL; 0: its default */
	const char *eal_args; /* more of EAL's arguments, or NULL */
	/* Core to router, and back. 0: the defaults below. */
	uint32_t event_depth;
	uint32_t event_buffers;
	uint32_t event_buffer_bytes;
	uint32_t command_depth;
	uint32_t command_buffers;
	uint32_t command_buffer_bytes;
	struct og_doorbell *router; /* rung at each event; NULL: the router polls */
};

enum {
	OG_DATAPLANE_JOBS = 512,
	OG_DATAPLANE_STAGE_DEPTH = 4096,
	OG_DATAPLANE_STAGE_BUFFERS = 1024,
	OG_DATAPLANE_BUFFER_BYTES = 16384,
	OG_DATAPLANE_HANDOVER = 512 /* packets on their way from one core to another */
};

/* Returns 0, or a negative errno and the reason for people in `err`. */
int og_dataplane_open(struct og_dataplane **out, const struct og_dataplane_opts *opts, char *err,
	size_t err_bytes) OG_MUST_CHECK;
/* Stops the core if it still runs. */
void og_dataplane_close(struct og_dataplane *dp);

/* What the port is called ("io_uring", "recvmmsg", "ethdev"). */
const char *og_dataplane_port_name(const struct og_dataplane *dp);
/* Where `endpoint` is bound; ip 0.0.0.0 when to all addresses. */
void og_dataplane_local_addr(const struct og_dataplane *dp, uint16_t endpoint, struct og_addr *out);
/* Fills all but rand, which is the caller's. */
void og_dataplane_env(struct og_dataplane *dp, struct og_core_env *env);

/* The same of any core; `jobs` is NULL but for core 0. */
void og_dataplane_core_env(struct og_dataplane *dp, uint16_t idx, struct og_core_env *env);
/* Messages from one core to another, one of them core 0: they come as commands. */
struct og_sink *og_dataplane_link(struct og_dataplane *dp, uint16_t from, uint16_t to);

/* Run `core` on its polling thread, once per dataplane. Returns when it polls, or fails. */
int og_dataplane_start(struct og_dataplane *dp, struct og_core *core) OG_MUST_CHECK;
/* All nb_cores of them; each has a steer(). */
int og_dataplane_start_cores(struct og_dataplane *dp, struct og_core *const *cores) OG_MUST_CHECK;
/* The cores end their pass, send what they have queued, and their threads are joined: core 0 last. */
void og_dataplane_stop(struct og_dataplane *dp);

/*
 * Every half second or so, from the main thread: logs what has happened to the port and the packet
 * pool, and opens a device again that was away.
 */
void og_dataplane_supervise(struct og_dataplane *dp);
/* The port waits for its device, e.g. a memif for its server. From the main thread. */
bool og_dataplane_absent(const struct og_dataplane *dp);

struct og_stage *og_dataplane_events(struct og_dataplane *dp);   /* core 0 to router */
struct og_stage *og_dataplane_commands(struct og_dataplane *dp); /* router to core 0 */
const struct og_lcore_counters *og_dataplane_counters(const struct og_dataplane *dp);
struct og_stage *og_dataplane_core_events(struct og_dataplane *dp, uint16_t idx);
struct og_stage *og_dataplane_core_commands(struct og_dataplane *dp, uint16_t idx);
const struct og_lcore_counters *og_dataplane_core_counters(
	const struct og_dataplane *dp, uint16_t idx);
uint16_t og_dataplane_nb_cores(const struct og_dataplane *dp);
/* Of all ports together. */
uint64_t og_dataplane_drops(const struct og_dataplane *dp, enum og_drop reason);

/* Register all counters with base/metrics.h; then `dp` must live as long as the process. */
void og_dataplane_register_metrics(const struct og_dataplane *dp);
