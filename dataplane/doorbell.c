#include "dataplane/doorbell.h"

#include <errno.h>
#include <poll.h>
#include <rte_atomic.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

int og_doorbell_init(struct og_doorbell *db)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	*db = (struct og_doorbell){.fd = fd};
	return 0;
}

void og_doorbell_fini(struct og_doorbell *db)
{
	close(db->fd);
	db->fd = -1;
}

void og_doorbell_ring(struct og_doorbell *db)
{
	static const uint64_t one = 1;

	/* Orders the push before the load; pairs with the barrier in og_doorbell_announce(). */
	rte_smp_mb();
	if (__atomic_load_n(&db->asleep, __ATOMIC_RELAXED) == 0)
		return;
	if (__atomic_exchange_n(&db->asleep, 0, __ATOMIC_RELAXED) == 0)
		return; /* another producer was first */
	while (write(db->fd, &one, sizeof(one)) < 0 && errno == EINTR)
		continue;
}

void og_doorbell_announce(struct og_doorbell *db)
{
	__atomic_store_n(&db->asleep, 1, __ATOMIC_RELAXED);
	/* Orders the store before the last look; pairs with the barrier in og_doorbell_ring(). */
	rte_smp_mb();
}

void og_doorbell_awake(struct og_doorbell *db)
{
	uint64_t rings;

	__atomic_store_n(&db->asleep, 0, __ATOMIC_RELAXED);
	/* Always read: a producer may have taken the flag and written only now. */
	while (read(db->fd, &rings, sizeof(rings)) < 0 && errno == EINTR)
		continue;
}

void og_doorbell_wait(struct og_doorbell *db, uint64_t timeout_ns)
{
	struct pollfd pfd = {.fd = db->fd, .events = POLLIN};
	struct timespec ts = {
		.tv_sec = (time_t)(timeout_ns / OG_NS_PER_S),
		.tv_nsec = (long)(timeout_ns % OG_NS_PER_S),
	};

	(void)ppoll(&pfd, 1, timeout_ns == OG_NEVER ? NULL : &ts, NULL);
}
