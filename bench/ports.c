#include "bench/ports.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Two pairs: ours at .1 and testpmd's at .1 of the next network, the kernel at .2 of both. */
static const char our_server[] = "10.78.0.1:49737", our_client[] = "10.78.0.2:0";
static const char testpmd_server[] = "10.79.0.1:49737";

static void end_set(
	struct port_end *e, const char *driver, const char *address, const char *prefix_bits)
{
	snprintf(e->driver, sizeof(e->driver), "%s", driver);
	snprintf(e->address, sizeof(e->address), "%s", address);
	snprintf(e->prefix_bits, sizeof(e->prefix_bits), "%s", prefix_bits);
}

/*
 * Two processes that share memory: no privilege, no kernel on the path. They meet at an abstract
 * socket, which leaves no file behind however this ends.
 */
static int open_memif(struct ports *p)
{
	static int nb_made; /* several pairs at once have a socket each */
	char driver[PORTS_TEXT_BYTES];
	int n = nb_made++;

	snprintf(driver, sizeof(driver),
		"ethdev:net_memif0,role=server,socket=og-bench-%d-%d,socket-abstract=yes",
		(int)getpid(), n);
	end_set(&p->server, driver, "10.77.0.1:49737", "24");
	snprintf(driver, sizeof(driver),
		"ethdev:net_memif0,role=client,socket=og-bench-%d-%d,socket-abstract=yes",
		(int)getpid(), n);
	end_set(&p->client, driver, "10.77.0.2:49737", "24");
	return 0;
}

/* ---- veth ---- */

static int shell(const char *fmt, ...) OG_PRINTF(1, 2);

static int shell(const char *fmt, ...)
{
	char command[1024];
	va_list args;
	int status;

	va_start(args, fmt);
	vsnprintf(command, sizeof(command), fmt, args);
	va_end(args);
	status = system(command);
	if (status == 0)
		return 0;
	fprintf(stderr, "og-bench: failed: %s\n", command);
	return -EPERM;
}

/* `veth`a in the server's namespace, `veth`b in ours with its address. */
static int add_veth(const struct ports *p, const char *veth, const char *client_net)
{
	/* The kernel leaves checksums to the device it sends by, and a veth has no such thing. */
	return shell("ip link add %sb type veth peer name %sa && ip link set %sa netns %d && "
		     "ip link set %sb up && ip addr add %s dev %sb && "
		     "ethtool -K %sb tx off >/dev/null && nsenter %s ip link set %sa up",
		veth, veth, veth, (int)p->holder.pid, veth, client_net, veth, veth, p->netns, veth);
}

static int open_veth(struct ports *p, const char *pmd)
{
	const char *const hold[] = {"unshare", "-n", p->self, "--serve", "hold", NULL};
	char driver[PORTS_TEXT_BYTES];
	int ret = bench_child_start(&p->holder, hold, -1);

	if (ret < 0)
		return ret;
	snprintf(p->netns, sizeof(p->netns), "--net=/proc/%d/ns/net", (int)p->holder.pid);
	snprintf(driver, sizeof(driver), "ethdev:%s0,iface=oga", pmd);
	end_set(&p->server, driver, our_server, "24");
	end_set(&p->client, "socket", our_client, "0");
	ret = shell("ip link set lo up");
	return ret < 0 ? ret : add_veth(p, "og", "10.78.0.2/24");
}

int ports_testpmd(struct ports *p, const struct bench *b, const char *argv[PORTS_ARGS])
{
	const char *pmd = p->kind == BENCH_AF_XDP ? "net_af_xdp" : "net_af_packet";
	int ret;

	if (!ports_kernel_client(p) || p->netns[0] == '\0' ||
		system("command -v dpdk-testpmd >/dev/null") != 0)
		return -ENOENT;
	ret = add_veth(p, "pm", "10.79.0.2/24");
	if (ret == 0)
		/* It answers no ARP. */
		ret = shell("mac=$(nsenter %s cat /sys/class/net/pma/address 2>/dev/null || "
			    "nsenter %s ip -o link show pma | sed 's|.*ether \\([^ ]*\\).*|\\1|'); "
			    "ip neigh replace 10.79.0.1 lladdr $mac dev pmb nud permanent",
			p->netns, p->netns);
	if (ret < 0)
		return ret;
	snprintf(p->testpmd, sizeof(p->testpmd),
		"echo ready %s; exec dpdk-testpmd --lcores 0@%d,1@%d --no-pci --no-huge -m 256 "
		"--no-shconf --no-telemetry --vdev=%s0,iface=pma -- --forward-mode=5tswap "
		"--auto-start --no-mlockall --total-num-mbufs=16384 >/dev/null 2>&1",
		testpmd_server, b->server_cpu, b->server_cpu, pmd);
	argv[0] = "nsenter";
	argv[1] = p->netns;
	argv[2] = "sh";
	argv[3] = "-c";
	argv[4] = p->testpmd;
	argv[5] = NULL;
	return 0;
}

int ports_enter(const struct bench *b, char **argv, const char *inside)
{
	static const char probe_user[] = "unshare -Urn true 2>/dev/null";
	char self[256], *args[32];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int n = 0, i = 1;

	if (geteuid() != 0 && (b->port == BENCH_AF_XDP || system(probe_user) != 0)) {
		fprintf(stderr, "og-bench: this port needs root%s\n",
			b->port == BENCH_AF_XDP ? "" : " or user namespaces");
		return BENCH_SKIPPED;
	}
	self[OG_MAX(len, 0)] = '\0';
	args[n++] = "unshare";
	args[n++] = geteuid() == 0 ? "-n" : "-Urn";
	args[n++] = self;
	while (argv[i] && n < (int)OG_ARRAY_LEN(args) - 2)
		args[n++] = argv[i++];
	args[n++] = (char *)inside;
	args[n] = NULL;
	execvp(args[0], args);
	perror("og-bench: unshare");
	return BENCH_SKIPPED;
}

/* ---- all ---- */

int ports_open(struct ports *p, const struct bench *b)
{
	ssize_t len;

	memset(p, 0, sizeof(*p));
	p->kind = b->port;
	len = readlink("/proc/self/exe", p->self, sizeof(p->self) - 1);
	p->self[OG_MAX(len, 0)] = '\0';
	switch (b->port) {
	case BENCH_SOCKET:
		end_set(&p->server, "socket", "127.0.0.1:0", "0");
		end_set(&p->client, "socket", "127.0.0.1:0", "0");
		return 0;
	case BENCH_RECVMMSG:
		end_set(&p->server, "recvmmsg", "127.0.0.1:0", "0");
		end_set(&p->client, "socket", "127.0.0.1:0", "0");
		return 0;
	case BENCH_MEMIF:
		return open_memif(p);
	case BENCH_AF_PACKET:
		return open_veth(p, "net_af_packet");
	case BENCH_AF_XDP:
		return open_veth(p, "net_af_xdp");
	case BENCH_PATH:
		break; /* suite_path.c makes its own */
	}
	return -EINVAL;
}

void ports_close(struct ports *p)
{
	if (p->netns[0] != '\0') {
		/* The namespace would take them along, but not at once. */
		shell("ip link del ogb; ip link del pmb 2>/dev/null; true");
		bench_child_stop(&p->holder);
		p->netns[0] = '\0';
	}
}

bool ports_kernel_client(const struct ports *p)
{
	return strcmp(p->client.driver, "socket") == 0;
}

void ports_serve(const struct ports *p, const char *argv[PORTS_ARGS], const char *kind)
{
	int n = 0;

	if (p->netns[0] != '\0') {
		argv[n++] = "nsenter";
		argv[n++] = p->netns;
	}
	argv[n++] = p->self;
	argv[n++] = "--serve";
	argv[n++] = kind;
	argv[n++] = p->server.driver;
	argv[n++] = p->server.address;
	argv[n++] = p->server.prefix_bits;
	argv[n] = NULL;
}
