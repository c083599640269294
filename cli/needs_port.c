/*
 * needs_port.c: what each kind of port needs of the machine.
 */
#include "cli/needs_priv.h"

#include "base/core.h"
#include "cli/affinity.h"
#include "cli/machine.h"
#include "cli/text.h"
#include "dataplane/devargs.h"
#include "dataplane/eal.h"
#include "dataplane/memif_socket.h"
#include "dataplane/xdp.h"

#include <errno.h>
#include <ifaddrs.h>
#include <libgen.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- the kernel's sockets ---- */

static bool is_own(const struct og_addr *a)
{
	struct ifaddrs *list = NULL;
	bool found = false;

	if (getifaddrs(&list) < 0)
		return true;
	for (const struct ifaddrs *p = list; p; p = p->ifa_next) {
		struct sockaddr_in in;

		if (!p->ifa_addr || p->ifa_addr->sa_family != AF_INET)
			continue;
		memcpy(&in, p->ifa_addr, sizeof(in));
		found |= memcmp(&in.sin_addr, a->ip, 4) == 0;
	}
	freeifaddrs(list);
	return found || a->ip[0] == 127;
}

static void socket_port(const struct og_needs *n)
{
	char host[OG_ADDR_TEXT_BYTES];

	if (og_addr_u32(&n->cfg->address) == 0 || is_own(&n->cfg->address))
		return;
	og_addr_format_host(&n->cfg->address, host);
	og_needs_lack(n, &n->cfg->address,
		"the address %s on an interface; ip addr add %s/24 dev NAME, or [port] address = "
		"0.0.0.0",
		host, host);
}

/* ---- queues of a device ---- */

static uint16_t polling_cores(const struct og_needs *n)
{
	cpu_set_t set;

	if (og_cpus_parse(&set, n->cfg->net) < 0)
		return 1;
	return (uint16_t)OG_MAX(OG_MIN(CPU_COUNT(&set), (int)OG_CORES_MAX), 1);
}

static uint16_t queues_wanted(const struct og_needs *n)
{
	uint16_t cores = polling_cores(n);

	if (n->cfg->shared)
		return 1;
	return n->cfg->queues != 0 ? (uint16_t)OG_MIN(n->cfg->queues, cores) : cores;
}

/* How many of the polling cores will have a pair, and what that means for the others. */
static void note_queues(const struct og_needs *n, const char *devargs)
{
	uint16_t cores = polling_cores(n), queues = og_devargs_queues(devargs, queues_wanted(n));

	if (cores == 1)
		return;
	if (queues < cores)
		og_needs_note(n, n->cfg->driver,
			"%u of the %u polling cores get%s a pair of queues of the device; the "
			"others receive and send through the first one",
			queues, cores, queues == 1 ? "s" : "");
	else if (og_memif_is(devargs))
		og_needs_note(n, n->cfg->driver,
			"up to %u pairs of queues, one for each polling core: as many as the other "
			"end of the memif has, too; cores without one use the first one's",
			queues);
	else if (og_eal_is_pci(devargs))
		og_needs_note(n, n->cfg->driver,
			"up to %u pairs of queues, one for each polling core, as far as the card "
			"has them (the log says how many); cores without one use the first one's",
			queues);
	else
		og_needs_note(
			n, n->cfg->driver, "%u pairs of queues, one for each polling core", queues);
}

/* ---- ports on an interface of the kernel ---- */

/* Its name, when the interface is there. */
static bool interface_of(
	const struct og_needs *n, const char *devargs, const char *key, char name[128])
{
	char path[PATH_MAX];

	if (!og_devargs_get(devargs, key, name, 128)) {
		og_needs_lack(n, n->cfg->driver, "%s=NAME in the driver's arguments", key);
		return false;
	}
	snprintf(path, sizeof(path), "/sys/class/net/%s", name);
	if (access(path, F_OK) == 0)
		return true;
	og_needs_lack(n, n->cfg->driver,
		"the interface %s; ip link shows those that are here, ip link add makes a veth "
		"pair "
		"to try with",
		name);
	return false;
}

static void af_packet_port(const struct og_needs *n, const char *devargs)
{
	char name[128];

	og_needs_caps(n, n->cfg->driver, OG_NEEDS_NET_RAW, "packet sockets");
	(void)interface_of(n, devargs, "iface", name);
}

static bool has_address(const char *name)
{
	struct ifaddrs *list = NULL;
	bool found = false;

	if (getifaddrs(&list) < 0)
		return true;
	for (const struct ifaddrs *p = list; p; p = p->ifa_next)
		found |= p->ifa_addr && p->ifa_addr->sa_family == AF_INET &&
			 strcmp(p->ifa_name, name) == 0;
	freeifaddrs(list);
	return found;
}

void og_needs_shared(const struct og_needs *n, const char *name)
{
	socket_port(n);
	if (!has_address(name))
		og_needs_lack(n, n->cfg->driver,
			"an IPv4 address on %s, where the kernel would answer too; ip addr "
			"add ADDRESS/PREFIX dev %s",
			name, name);
}

static void af_xdp_port(const struct og_needs *n, const char *devargs)
{
	char name[128], text[16];
	uint32_t queues, taken;
	struct rlimit limit;

	og_needs_caps(n, n->cfg->driver, OG_NEEDS_NET_ADMIN | OG_NEEDS_NET_RAW | OG_NEEDS_BPF,
		"XDP sockets");
	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur < OG_NEEDS_PACKET_BYTES)
		og_needs_caps(n, n->cfg->driver, OG_NEEDS_IPC_LOCK,
			"memory that the kernel writes packets to");
	if (n->cfg->shared && !og_xdp_built())
		og_needs_lack(n, &n->cfg->shared,
			"the XDP program in this build; install clang and libbpf-dev and build "
			"again");
	if (!interface_of(n, devargs, "iface", name))
		return;
	if (n->cfg->shared) { /* what comes by other queues is the kernel's, and so reaches us */
		og_needs_shared(n, name);
		return;
	}
	taken = og_devargs_queues(devargs, queues_wanted(n));
	queues = og_devargs_interface_queues(name);
	if (queues > taken)
		og_needs_lack(n, n->cfg->driver,
			"all %u receive queues of %s (it takes %u, the kernel keeps the rest); "
			"ethtool -L %s combined %u, or steer our UDP port to them with ethtool -N",
			queues, name, taken, name, taken);
	if (og_devargs_get(devargs, "queue_count", text, sizeof(text)) &&
		queues < strtoul(text, NULL, 10))
		og_needs_lack(n, n->cfg->driver,
			"%s receive queues: %s has %u; ethtool -L %s "
			"combined %s, or a smaller queue_count",
			text, name, queues, name, text);
}

static void tap_port(const struct og_needs *n, const char *devargs)
{
	char name[128];

	og_needs_caps(n, n->cfg->driver, OG_NEEDS_NET_ADMIN, "a tap interface");
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		og_needs_lack(n, n->cfg->driver, "/dev/net/tun: %s; modprobe tun", strerror(errno));
	if (n->cfg->shared && interface_of(n, devargs, "remote", name))
		og_needs_shared(n, name);
}

/* A socket of this path can be made or reached. */
static void path_argument(const struct og_needs *n, const char *devargs, const char *key)
{
	char path[128], copy[128];

	if (!og_devargs_get(devargs, key, path, sizeof(path)) || path[0] != '/')
		return; /* memif: an abstract name */
	strcpy(copy, path);
	if (access(dirname(copy), W_OK) < 0 && access(path, W_OK) < 0)
		og_needs_lack(n, n->cfg->driver, "%s=%s: %s; mkdir -p %s, owned by this user", key,
			path, strerror(errno), copy);
}

static void memif_port(const struct og_needs *n, const char *devargs)
{
	char socket[OG_MEMIF_SOCKET_BYTES];
	int ret = og_memif_reach(devargs);

	path_argument(n, devargs, "socket");
	og_memif_socket(devargs, socket);
	if (ret == -EAGAIN)
		og_needs_note(n, n->cfg->driver,
			"no server listens at %s yet: the node will wait for one", socket);
	else if (ret < 0)
		og_needs_lack(
			n, n->cfg->driver, "a way to the server at %s: %s", socket, strerror(-ret));
}

void og_needs_port(const struct og_needs *n)
{
	const char *devargs = n->cfg->driver + strlen("ethdev:");

	if (strncmp(n->cfg->driver, "ethdev:", strlen("ethdev:")) != 0) {
		socket_port(n);
		return;
	}
	note_queues(n, devargs);
	if (og_eal_is_pci(devargs))
		og_needs_pci(n, devargs);
	else if (strncmp(devargs, "net_af_packet", 13) == 0)
		af_packet_port(n, devargs);
	else if (strncmp(devargs, "net_af_xdp", 10) == 0)
		af_xdp_port(n, devargs);
	else if (strncmp(devargs, "net_tap", 7) == 0)
		tap_port(n, devargs);
	else if (strncmp(devargs, "net_memif", 9) == 0)
		memif_port(n, devargs);
	else if (strncmp(devargs, "net_virtio_user", 15) == 0)
		path_argument(n, devargs, "path");
}
