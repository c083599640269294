#include "bench/ports.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void end_set(
	struct port_end *e, const char *driver, const char *address, const char *prefix_bits)
{
	snprintf(e->driver, sizeof(e->driver), "%s", driver);
	snprintf(e->address, sizeof(e->address), "%s", address);
	snprintf(e->prefix_bits, sizeof(e->prefix_bits), "%s", prefix_bits);
}

/* Two processes that share memory: no privilege, no kernel on the path. */
static int open_memif(struct ports *p)
{
	char driver[PORTS_TEXT_BYTES];

	snprintf(p->dir, sizeof(p->dir), "/tmp/og-bench-XXXXXX");
	if (!mkdtemp(p->dir)) {
		p->dir[0] = '\0';
		perror("og-bench: a directory for the socket of memif");
		return -errno;
	}
	snprintf(driver, sizeof(driver),
		"ethdev:net_memif0,role=server,socket=%s/memif,socket-abstract=no", p->dir);
	end_set(&p->server, driver, "10.77.0.1:49737", "24");
	snprintf(driver, sizeof(driver),
		"ethdev:net_memif0,role=client,socket=%s/memif,socket-abstract=no", p->dir);
	end_set(&p->client, driver, "10.77.0.2:49737", "24");
	return 0;
}

int ports_open(struct ports *p, const struct bench *b)
{
	memset(p, 0, sizeof(*p));
	switch (b->port) {
	case BENCH_SOCKET:
		end_set(&p->server, "socket", "127.0.0.1:0", "0");
		end_set(&p->client, "socket", "127.0.0.1:0", "0");
		return 0;
	case BENCH_MEMIF:
		return open_memif(p);
	default:
		return -EOPNOTSUPP;
	}
}

void ports_close(struct ports *p)
{
	char path[sizeof(p->dir) + 8];

	if (p->dir[0] == '\0')
		return;
	snprintf(path, sizeof(path), "%s/memif", p->dir);
	unlink(path);
	rmdir(p->dir);
	p->dir[0] = '\0';
}
