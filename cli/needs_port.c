/*
 * needs_port.c: what each kind of port needs of the machine.
 */
#include "cli/needs_priv.h"

#include "cli/machine.h"
#include "cli/text.h"
#include "dataplane/eal.h"
#include "dataplane/xdp.h"

#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <libgen.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The value of key= in devargs ("net_x,key=value,…"); false when it is not there. */
static bool devarg(const char *devargs, const char *key, char out[128])
{
	size_t n = strlen(key);

	for (const char *p = strchr(devargs, ','); p; p = strchr(p + 1, ',')) {
		if (strncmp(p + 1, key, n) == 0 && p[1 + n] == '=') {
			snprintf(out, 128, "%.*s", (int)strcspn(p + 2 + n, ","), p + 2 + n);
			return true;
		}
	}
	return false;
}

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

/* ---- ports on an interface of the kernel ---- */

/* Its name, when the interface is there. */
static bool interface_of(const struct og_needs *n, const char *devargs, char name[128])
{
	char path[PATH_MAX];

	if (!devarg(devargs, "iface", name)) {
		og_needs_lack(n, n->cfg->driver, "iface=NAME in the driver's arguments");
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

static uint32_t receive_queues(const char *name)
{
	char path[PATH_MAX];
	const struct dirent *e;
	uint32_t n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/sys/class/net/%s/queues", name);
	d = opendir(path);
	while (d && (e = readdir(d)))
		n += strncmp(e->d_name, "rx-", 3) == 0;
	if (d)
		closedir(d);
	return n;
}

static void af_packet_port(const struct og_needs *n, const char *devargs)
{
	char name[128];

	og_needs_caps(n, n->cfg->driver, OG_NEEDS_NET_RAW, "packet sockets");
	(void)interface_of(n, devargs, name);
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

static void af_xdp_port(const struct og_needs *n, const char *devargs)
{
	char name[128], text[128];
	uint32_t queues, taken = 1;
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
	if (!interface_of(n, devargs, name))
		return;
	if (n->cfg->shared) { /* what comes by other queues is the kernel's, and so reaches us */
		socket_port(n);
		if (!has_address(name))
			og_needs_lack(n, n->cfg->driver,
				"an IPv4 address on %s, where the kernel would answer too; ip addr "
				"add ADDRESS/PREFIX dev %s",
				name, name);
		return;
	}
	if (devarg(devargs, "queue_count", text))
		taken = (uint32_t)strtoul(text, NULL, 10);
	queues = receive_queues(name);
	if (queues > taken)
		og_needs_lack(n, n->cfg->driver,
			"all %u receive queues of %s (it takes %u, the kernel keeps the rest); "
			"ethtool -L %s combined %u, or steer our UDP port to them with ethtool -N",
			queues, name, taken, name, taken);
	if (queues < taken)
		og_needs_lack(n, n->cfg->driver,
			"%u receive queues: %s has %u; ethtool -L %s "
			"combined %u, or a smaller queue_count",
			taken, name, queues, name, taken);
}

static void tap_port(const struct og_needs *n)
{
	og_needs_caps(n, n->cfg->driver, OG_NEEDS_NET_ADMIN, "a tap interface");
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		og_needs_lack(n, n->cfg->driver, "/dev/net/tun: %s; modprobe tun", strerror(errno));
}

/* A socket of this path can be made or reached. */
static void path_argument(const struct og_needs *n, const char *devargs, const char *key)
{
	char path[128], copy[128];

	if (!devarg(devargs, key, path) || path[0] != '/')
		return; /* memif: an abstract name */
	strcpy(copy, path);
	if (access(dirname(copy), W_OK) < 0 && access(path, W_OK) < 0)
		og_needs_lack(n, n->cfg->driver, "%s=%s: %s; mkdir -p %s, owned by this user", key,
			path, strerror(errno), copy);
}

void og_needs_port(const struct og_needs *n)
{
	const char *devargs = n->cfg->driver + strlen("ethdev:");

	if (strncmp(n->cfg->driver, "ethdev:", strlen("ethdev:")) != 0)
		socket_port(n);
	else if (og_eal_is_pci(devargs))
		og_needs_pci(n, devargs);
	else if (strncmp(devargs, "net_af_packet", 13) == 0)
		af_packet_port(n, devargs);
	else if (strncmp(devargs, "net_af_xdp", 10) == 0)
		af_xdp_port(n, devargs);
	else if (strncmp(devargs, "net_tap", 7) == 0)
		tap_port(n);
	else if (strncmp(devargs, "net_memif", 9) == 0)
		path_argument(n, devargs, "socket");
	else if (strncmp(devargs, "net_virtio_user", 15) == 0)
		path_argument(n, devargs, "path");
}
