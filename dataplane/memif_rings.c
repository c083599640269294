#include "dataplane/memif_rings.h"

#include "base/bytes.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum { HELLO = 2, INIT = 3, ADD_RING = 5 };
/* Offsets in a message, whose integers are the machine's own: little endian. */
enum { TYPE = 0, HELLO_MAX_S2C = 40, HELLO_MAX_C2S = 42, RING_FLAGS = 2, RING_INDEX = 4 };
enum { FLAG_C2S = 1, RINGS_MAX = 32 };

static struct og_memif_rings table[OG_MEMIF_MAX];

struct og_memif_rings *og_memif_open(const char *devargs, uint16_t queues)
{
	struct og_memif_rings new = {.queues = OG_MIN(queues, (uint16_t)RINGS_MAX)};

	og_memif_socket(devargs, new.socket);
	new.server = og_memif_is_server(devargs);
	for (size_t i = 0; i < OG_ARRAY_LEN(table); i++)
		if (!table[i].used) {
			table[i] = new;
			/* Release: pairs with the acquire in find(). */
			__atomic_store_n(&table[i].used, true, __ATOMIC_RELEASE);
			return &table[i];
		}
	return NULL;
}

void og_memif_close(struct og_memif_rings *m)
{
	if (m)
		__atomic_store_n(&m->used, false, __ATOMIC_RELAXED);
}

static void set_counts(struct og_memif_rings *m, uint32_t rx, uint32_t tx)
{
	/* Relaxed: the driver lets nobody in before it has taken the connection for up. */
	__atomic_store_n(&m->nb_rx, (uint16_t)OG_MIN(rx, (uint32_t)m->queues), __ATOMIC_RELAXED);
	__atomic_store_n(&m->nb_tx, (uint16_t)OG_MIN(tx, (uint32_t)m->queues), __ATOMIC_RELAXED);
}

/* How many from the first on are there. */
static uint32_t in_a_row(uint32_t rings)
{
	return (uint32_t)__builtin_ctzll(~(uint64_t)rings);
}

void og_memif_note(struct og_memif_rings *m, const uint8_t msg[OG_MEMIF_MESSAGE_BYTES])
{
	uint16_t index;

	switch (og_load_le16(msg + TYPE)) {
	case HELLO: /* of the server: the client makes as many rings as both have queues */
		if (!m->server)
			set_counts(m, og_load_le16(msg + HELLO_MAX_S2C) + 1u,
				og_load_le16(msg + HELLO_MAX_C2S) + 1u);
		break;
	case INIT: /* of a client: its rings follow */
		m->rings_in = m->rings_out = 0;
		set_counts(m, 0, 0);
		break;
	case ADD_RING:
		index = og_load_le16(msg + RING_INDEX);
		if (!m->server || index >= RINGS_MAX)
			break;
		if (og_load_le16(msg + RING_FLAGS) & FLAG_C2S)
			m->rings_in |= 1u << index;
		else
			m->rings_out |= 1u << index;
		set_counts(m, in_a_row(m->rings_in), in_a_row(m->rings_out));
		break;
	default:
		break;
	}
}

void og_memif_mend(const struct og_memif_rings *m, uint8_t msg[OG_MEMIF_MESSAGE_BYTES])
{
	if (!m->server || og_load_le16(msg + TYPE) != HELLO)
		return;
	og_store_le16(msg + HELLO_MAX_S2C, (uint16_t)(m->queues - 1));
	og_store_le16(msg + HELLO_MAX_C2S, (uint16_t)(m->queues - 1));
}

/* ---- the driver's socket ---- */

static bool is_name(const struct sockaddr_un *un, const char *name)
{
	/* An abstract name starts with a zero byte. */
	return strncmp(un->sun_path, name, sizeof(un->sun_path)) == 0 ||
	       (un->sun_path[0] == '\0' &&
		       strncmp(un->sun_path + 1, name, sizeof(un->sun_path) - 1) == 0);
}

/* Whose connection that is: a client's leads to the name, a server's has it. */
static struct og_memif_rings *find(int fd, const struct msghdr *mh)
{
	struct sockaddr_un here, there;
	socklen_t here_len = sizeof(here), there_len = sizeof(there);

	if (mh->msg_iovlen != 1 || mh->msg_iov[0].iov_len != OG_MEMIF_MESSAGE_BYTES)
		return NULL;
	memset(&here, 0, sizeof(here));
	memset(&there, 0, sizeof(there));
	if (getsockname(fd, (struct sockaddr *)&here, &here_len) < 0 || here.sun_family != AF_UNIX)
		return NULL;
	if (getpeername(fd, (struct sockaddr *)&there, &there_len) < 0)
		return NULL;
	for (size_t i = 0; i < OG_ARRAY_LEN(table); i++)
		/* Acquire: pairs with the release in og_memif_open(). */
		if (__atomic_load_n(&table[i].used, __ATOMIC_ACQUIRE) &&
			is_name(table[i].server ? &here : &there, table[i].socket))
			return &table[i];
	return NULL;
}

/* In place of the C library's, also for the driver's file. */
ssize_t recvmsg(int fd, struct msghdr *mh, int flags)
{
	ssize_t got = syscall(SYS_recvmsg, fd, mh, flags);
	struct og_memif_rings *m = got == OG_MEMIF_MESSAGE_BYTES ? find(fd, mh) : NULL;

	if (m)
		og_memif_note(m, mh->msg_iov[0].iov_base);
	return got;
}

ssize_t sendmsg(int fd, const struct msghdr *mh, int flags)
{
	const struct og_memif_rings *m = find(fd, mh);

	if (m)
		og_memif_mend(m, mh->msg_iov[0].iov_base);
	return syscall(SYS_sendmsg, fd, mh, flags);
}
