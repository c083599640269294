#include "dataplane/fanout.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ID_MASK = 0xffff, UNIQUE = PACKET_FANOUT_FLAG_UNIQUEID << 16 };

/* Of the device that this thread opens: all its queues are in one group. */
static _Thread_local struct {
	bool on;
	bool has_group;
	int id;
} opening;

void og_fanout_begin(void)
{
	opening.on = true;
	opening.has_group = false;
}

void og_fanout_end(void)
{
	opening.on = false;
}

static int set(int fd, int level, int name, const void *value, socklen_t len)
{
	return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

static int join_group(int fd, int wanted)
{
	int arg = (wanted & ~ID_MASK) | (opening.has_group ? opening.id : UNIQUE);
	socklen_t len = sizeof(arg);

	if (set(fd, SOL_PACKET, PACKET_FANOUT, &arg, sizeof(arg)) < 0)
		return -1;
	if (getsockopt(fd, SOL_PACKET, PACKET_FANOUT, &arg, &len) < 0)
		return -1;
	opening.id = arg & ID_MASK;
	opening.has_group = true;
	return 0;
}

/* In place of the C library's, also for the driver's file. */
int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	int wanted;

	if (!opening.on || level != SOL_PACKET || name != PACKET_FANOUT || len != sizeof(wanted))
		return set(fd, level, name, value, len);
	memcpy(&wanted, value, sizeof(wanted));
	return join_group(fd, wanted);
}
