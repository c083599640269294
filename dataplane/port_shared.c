#include "dataplane/port_shared.h"

#include "base/log.h"
#include "base/metrics.h"
#include "dataplane/devargs.h"
#include "dataplane/device.h"
#include "dataplane/flow_rules.h"
#include "dataplane/frame.h"
#include "dataplane/kernel_net.h"
#include "dataplane/packet.h"
#include "dataplane/port_socket.h"
#include "dataplane/xdp.h"

#include <errno.h>
#include <rte_ethdev.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ASK_SLOTS = 1024, DEVARGS_BYTES = 512, FDS_LOOKED_AT = 1024 };

/* How often a datagram to each neighbour goes by the kernel. */
#define ASK_NS (15 * OG_NS_PER_S)

struct shared_port {
	struct og_port port;
	struct og_port *socket;
	struct og_device dev;
	struct og_inet self;
	/* The polling core. */
	bool socket_first;
	uint64_t asked_ns[ASK_SLOTS];        /* by hash of the neighbour's IP address */
	uint64_t by_device[2], by_kernel[2]; /* received, sent */
	uint64_t drops[OG_DROP_COUNT];       /* of the socket, as already counted */
	/* Main thread. */
	enum og_device_state state;
	bool has_program; /* XDP's, not flow rules */
	int program_fd;
	uint16_t fragment_id; /* of the next datagram that may be cut */
	int xdp_fd;           /* the driver's socket, readable while frames wait; -1: unknown */
	/* The main thread fills the table that the polling core does not read. */
	struct og_kernel_net nets[2];
	alignas(64) uint32_t current; /* atomic; main thread's: which of them holds */
	bool lost;                    /* atomic; main thread's: the interface is not the device's */
	alignas(64) uint32_t seen;    /* atomic; polling core's: which of them it reads */
};

static struct shared_port *shared_port(const struct og_port *port)
{
	return OG_CONTAINER_OF(port, struct shared_port, port);
}

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static bool has_device(const struct shared_port *p)
{
	return !__atomic_load_n(&p->lost, __ATOMIC_RELAXED);
}

static int start(struct og_port *port)
{
	struct shared_port *p = shared_port(port);

	return p->socket->ops->start(p->socket);
}

/* ---- receiving ---- */

static uint16_t rx_device(struct shared_port *p, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t nb = rte_eth_rx_burst(p->dev.id, 0, pkts, n), got = 0;

	for (uint16_t i = 0; i < nb; i++) {
		struct rte_mbuf *m = pkts[i];
		struct og_inet_input in;

		og_frame_input(m, &p->self, &in);
		if (in.verdict == OG_INET_UDP) {
			pkts[got++] = m;
			continue;
		}
		og_port_drop(&p->port, in.verdict == OG_INET_DROP ? in.reason : OG_DROP_NOT_OURS);
		rte_pktmbuf_free(m);
	}
	og_count_add(&p->by_device[0], got);
	return got;
}

static uint16_t rx_socket(struct shared_port *p, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t got = p->socket->ops->rx_burst(p->socket, pkts, n);

	og_count_add(&p->by_kernel[0], got);
	return got;
}

/* What the socket has dropped is dropped by this port. */
static void take_over_drops(struct shared_port *p)
{
	for (int i = 0; i < OG_DROP_COUNT; i++) {
		og_count_add(&p->port.drops[i], p->socket->drops[i] - p->drops[i]);
		p->drops[i] = p->socket->drops[i];
	}
}

static uint16_t rx_burst(struct og_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	struct shared_port *p = shared_port(port);
	const bool socket_first = p->socket_first;
	uint16_t got = 0;

	n = OG_MIN(n, (uint16_t)OG_BURST);
	/*
	 * Acquire: pairs with the release in look_at_kernel(), whose table is read from now on.
	 * Release: pairs with its acquire, after which it fills the other one again.
	 */
	__atomic_store_n(
		&p->seen, __atomic_load_n(&p->current, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
	/* In turns, so that a flood of the one leaves room to the other. */
	p->socket_first = !socket_first;
	if (socket_first)
		got = rx_socket(p, pkts, n);
	if (has_device(p) && got < n)
		got = (uint16_t)(got + rx_device(p, pkts + got, (uint16_t)(n - got)));
	if (!socket_first && got < n)
		got = (uint16_t)(got + rx_socket(p, pkts + got, (uint16_t)(n - got)));
	take_over_drops(p);
	return got;
}

/* ---- sending ---- */

/* The neighbour to send to, or NULL: the kernel knows better, or should be asked. */
static const struct og_inet_mac *way_of(struct shared_port *p, struct rte_mbuf *m, uint64_t now_ns)
{
	const struct og_inet_mac *mac;
	uint64_t *asked_ns;
	uint32_t hop;

	if (!has_device(p) || rte_pktmbuf_data_len(m) + OG_INET_UDP_OVERHEAD_BYTES > p->dev.mtu)
		return NULL;
	mac = og_kernel_net_find(&p->nets[p->seen], &og_packet(m)->peer, &hop);
	if (!mac)
		return NULL;
	asked_ns = &p->asked_ns[hop % ASK_SLOTS];
	if (now_ns - *asked_ns < ASK_NS)
		return mac;
	*asked_ns = now_ns;
	return NULL;
}

/* Returns how many the device took; the others are datagrams again. */
static uint16_t send_frames(struct shared_port *p, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t sent = n > 0 ? rte_eth_tx_burst(p->dev.id, 0, frames, n) : 0;

	og_count_add(&p->by_device[1], sent);
	for (uint16_t i = sent; i < n; i++)
		og_frame_unwrap(frames[i]);
	return sent;
}

static uint16_t tx_burst(struct og_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	struct shared_port *p = shared_port(port);
	uint64_t now_ns = clock_ns();
	uint16_t done = 0, nb_frames = 0; /* those from `done` on are frames */

	for (;;) {
		uint16_t next = (uint16_t)(done + nb_frames), sent;
		const struct og_inet_mac *mac = next < n ? way_of(p, pkts[next], now_ns) : NULL;

		if (mac) {
			og_frame_wrap(pkts[next], &p->self, mac, p->dev.tx_sums, &p->fragment_id);
			nb_frames++;
			continue;
		}
		sent = send_frames(p, pkts + done, nb_frames);
		done = (uint16_t)(done + sent);
		if (sent < nb_frames || done == n)
			return done;
		nb_frames = 0;
		if (p->socket->ops->tx_burst(p->socket, &pkts[done], 1) == 0)
			return done;
		og_count_add(&p->by_kernel[1], 1);
		done++;
	}
}

static void local_addr(const struct og_port *port, uint16_t endpoint, struct og_addr *out)
{
	const struct shared_port *p = shared_port(port);

	p->socket->ops->local_addr(p->socket, endpoint, out);
}

static uint32_t wait_fds(const struct og_port *port, int fds[OG_PORT_FDS_MAX])
{
	const struct shared_port *p = shared_port(port);
	uint32_t nb = p->socket->ops->wait_fds(p->socket, fds);

	if (p->xdp_fd < 0 || nb == 0 || nb == OG_PORT_FDS_MAX)
		return 0; /* the core sleeps in short naps */
	fds[nb++] = p->xdp_fd;
	return nb;
}

/* ---- main thread ---- */

static void look_at_kernel(struct shared_port *p)
{
	uint32_t next = p->current ^ 1;

	/* Acquire: pairs with the release in rx_burst(): the core is through with the other. */
	if (__atomic_load_n(&p->seen, __ATOMIC_ACQUIRE) != p->current)
		return;
	og_kernel_net_read(&p->nets[next], p->dev.if_name);
	/* Release: pairs with the acquire in rx_burst(). */
	__atomic_store_n(&p->current, next, __ATOMIC_RELEASE);
}

static void supervise(struct og_port *port)
{
	struct shared_port *p = shared_port(port);
	enum og_device_state state;

	if (p->lost)
		return;
	look_at_kernel(p);
	state = og_device_look(&p->dev);
	if (state == p->state)
		return;
	p->state = state;
	if (state == OG_DEVICE_GONE || state == OG_DEVICE_ANOTHER) {
		OG_LOG(port, WARN,
			"interface %s is gone: once it is back, datagrams go by the kernel alone "
			"until a restart",
			p->dev.if_name);
		__atomic_store_n(&p->lost, true, __ATOMIC_RELAXED);
		return;
	}
	OG_LOG(port, WARN, "%s: link %s", p->dev.if_name, state == OG_DEVICE_UP ? "up" : "down");
}

static void register_metrics(const struct og_port *port)
{
	const struct shared_port *p = shared_port(port);
	const struct {
		const char *labels;
		const uint64_t *value;
	} rows[] = {
		{p->has_program ? "way=\"xdp\",direction=\"rx\"" : "way=\"flow\",direction=\"rx\"",
			&p->by_device[0]},
		{p->has_program ? "way=\"xdp\",direction=\"tx\"" : "way=\"flow\",direction=\"tx\"",
			&p->by_device[1]},
		{"way=\"kernel\",direction=\"rx\"", &p->by_kernel[0]},
		{"way=\"kernel\",direction=\"tx\"", &p->by_kernel[1]},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(rows); i++) {
		const struct og_metric m = {
			.name = "og_dataplane_shared_packets_total",
			.labels = rows[i].labels,
			.help = "Datagrams of a shared interface, by the way they took.",
			.type = OG_METRIC_COUNTER,
			.value = rows[i].value,
		};

		og_metrics_register(&m);
	}
}

static void close_port(struct og_port *port)
{
	struct shared_port *p = shared_port(port);

	og_device_close(&p->dev);
	if (p->has_program)
		close(p->program_fd);
	p->socket->ops->close(p->socket);
	free(p);
}

static const struct og_port_ops shared_ops = {
	.start = start,
	.rx_burst = rx_burst,
	.tx_burst = tx_burst,
	.local_addr = local_addr,
	.wait_fds = wait_fds,
	.supervise = supervise,
	.register_metrics = register_metrics,
	.close = close_port,
};

/* ---- opening ---- */

static int address_of(const char *if_name, struct og_addr *addr)
{
	struct ifreq ifr = {.ifr_addr.sa_family = AF_INET};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), ret = 0;

	if (fd < 0)
		return -errno;
	memcpy(ifr.ifr_name, if_name, IF_NAMESIZE);
	if (ioctl(fd, SIOCGIFADDR, &ifr) < 0)
		ret = -errno;
	close(fd);
	if (ret == 0) /* past the family and the port of a struct sockaddr_in */
		memcpy(addr->ip, ifr.ifr_addr.sa_data + 2, sizeof(addr->ip));
	return ret;
}

static int open_socket(struct shared_port *p, struct rte_mempool *pool,
	const struct og_port_shared_opts *opts, const char *if_name)
{
	struct og_port_socket_opts socket = {.bind = opts->addr,
		.nb_endpoints = opts->nb_endpoints,
		.no_io_uring = opts->no_io_uring};
	int ret = 0;

	if (og_addr_u32(&socket.bind) == 0)
		ret = address_of(if_name, &socket.bind);
	if (ret == 0)
		ret = og_port_socket_open(&p->socket, &pool, 1, &socket);
	if (ret < 0)
		OG_LOG(port, ERR, "an address of %s: %s", if_name, strerror(-ret));
	return ret;
}

/* The driver keeps its socket to itself. Returns -1 if there is none, or more than one to choose from. */
static int find_xdp_socket(void)
{
	int found = -1;

	for (int fd = 0; fd < FDS_LOOKED_AT; fd++) {
		int domain;
		socklen_t len = sizeof(domain);

		if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || domain != AF_XDP)
			continue;
		if (found >= 0)
			return -1;
		found = fd;
	}
	return found;
}

static void endpoints_of(const struct shared_port *p, struct og_addr at[OG_PORT_ENDPOINTS_MAX])
{
	for (uint16_t i = 0; i < p->port.nb_endpoints; i++)
		local_addr(&p->port, i, &at[i]);
}

static int open_with_program(struct shared_port *p, struct rte_mempool *pool,
	const struct og_port_shared_opts *opts, const char *if_name)
{
	struct og_addr at[OG_PORT_ENDPOINTS_MAX];
	char devargs[DEVARGS_BYTES];
	int ret = og_xdp_clean(if_nametoindex(if_name));

	if (ret < 0) {
		OG_LOG(port, ERR, "the XDP program that is on %s: %s; ip link set %s xdp off",
			if_name, strerror(-ret), if_name);
		return ret;
	}
	endpoints_of(p, at);
	p->program_fd = og_xdp_open(at, opts->nb_endpoints);
	if (p->program_fd < 0)
		return p->program_fd;
	if (snprintf(devargs, sizeof(devargs), "%s,xdp_prog=/proc/self/fd/%d", opts->devargs,
		    p->program_fd) >= (int)sizeof(devargs))
		ret = -E2BIG;
	else
		ret = og_device_open(&p->dev, devargs, 0, &pool, 1);
	if (ret < 0) {
		close(p->program_fd);
		return ret;
	}
	p->has_program = true;
	p->xdp_fd = find_xdp_socket();
	return 0;
}

/* AF_XDP: the socket first, whose ports the program is made for. */
static int open_xdp(
	struct shared_port *p, struct rte_mempool *pool, const struct og_port_shared_opts *opts)
{
	char if_name[IF_NAMESIZE] = "";
	int ret;

	if (!og_devargs_get(opts->devargs, "iface", if_name, sizeof(if_name)))
		return -EINVAL;
	if (!og_xdp_built()) {
		OG_LOG(port, ERR, "this build has no XDP program: clang or libbpf was missing");
		return -EOPNOTSUPP;
	}
	ret = open_socket(p, pool, opts, if_name);
	if (ret < 0)
		return ret;
	ret = open_with_program(p, pool, opts, if_name);
	if (ret < 0)
		p->socket->ops->close(p->socket);
	return ret;
}

/* The kernel's interface that the device stands before. */
static int find_interface(struct shared_port *p, const char *devargs)
{
	char name[IF_NAMESIZE];

	if (og_devargs_get(devargs, "remote", name, sizeof(name))) {
		memcpy(p->dev.if_name, name, sizeof(name));
		p->dev.if_index = if_nametoindex(name);
	}
	if (p->dev.if_index != 0)
		return 0;
	OG_LOG(port, ERR,
		"the kernel has no interface on this device: its driver does not share it. Use "
		"shared with ethdev:net_af_xdp0,iface=NAME, or give the node the device alone");
	return -EOPNOTSUPP;
}

/* The device first, which receives nothing yet and knows its interface; then the socket, then rules for its ports. */
static int open_flow(
	struct shared_port *p, struct rte_mempool *pool, const struct og_port_shared_opts *opts)
{
	struct og_addr at[OG_PORT_ENDPOINTS_MAX];
	int ret = og_device_open_isolated(&p->dev, opts->devargs, pool);

	if (ret < 0)
		return ret;
	p->xdp_fd = -1;
	ret = find_interface(p, opts->devargs);
	if (ret == 0)
		ret = open_socket(p, pool, opts, p->dev.if_name);
	if (ret < 0)
		goto close_device;
	endpoints_of(p, at);
	ret = og_flow_take(p->dev.id, at, opts->nb_endpoints);
	if (ret == 0)
		return 0;
	p->socket->ops->close(p->socket);

close_device:
	og_device_close(&p->dev);
	return ret;
}

static void set_identity(struct shared_port *p)
{
	struct og_addr at[OG_PORT_ENDPOINTS_MAX];

	endpoints_of(p, at);
	p->self = (struct og_inet){.mac = p->dev.mac, .nb_endpoints = p->port.nb_endpoints};
	memcpy(p->self.ip, at[0].ip, sizeof(p->self.ip));
	for (uint16_t i = 0; i < p->port.nb_endpoints; i++)
		p->self.ports[i] = at[i].port;
}

int og_port_shared_open(
	struct og_port **out, struct rte_mempool *pool, const struct og_port_shared_opts *opts)
{
	struct shared_port *p = aligned_alloc(64, (sizeof(*p) + 63) / 64 * 64);
	int ret;

	if (!p)
		return -ENOMEM;
	memset(p, 0, sizeof(*p));
	p->port = (struct og_port){.ops = &shared_ops,
		.name = "shared",
		.pool = pool,
		.nb_endpoints = opts->nb_endpoints};
	ret = strncmp(opts->devargs, "net_af_xdp", strlen("net_af_xdp")) == 0
		      ? open_xdp(p, pool, opts)
		      : open_flow(p, pool, opts);
	if (ret < 0) {
		free(p);
		return ret;
	}
	set_identity(p);
	p->state = og_device_look(&p->dev);
	og_kernel_net_read(&p->nets[0], p->dev.if_name);
	*out = &p->port;
	return 0;
}
