#include "dataplane/lcore.h"

#include "dataplane/eal.h"
#include "dataplane/packet.h"
#include "dataplane/thread.h"
#include "dataplane/worker.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <semaphore.h>
#include <string.h>

/* A port without a network: it takes at most `room` datagrams, and checks their order. */
struct fake_port {
	struct og_port port;
	int start_result;
	uint32_t room;
	uint32_t taken;
	bool in_order;
};

/* A core that sends numbered datagrams whenever it is asked, until it has sent `goal`. */
struct sender {
	struct og_core core;
	struct og_tx *tx;
	uint32_t sent;
	uint32_t goal;
	uint32_t refused;
	sem_t full; /* posted at the first refusal */
};

static struct fake_port fake;
static struct sender sender;
static struct og_doorbell doorbell;
static struct og_stage *stage;
static struct og_workers *workers;
static struct og_lcore *lcore;
static sem_t has_started;
static int start_result;

static int fake_start(struct og_port *port)
{
	(void)port;
	return fake.start_result;
}

static uint16_t fake_rx(struct og_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	(void)port;
	(void)pkts;
	(void)n;
	return 0;
}

static uint16_t fake_tx(struct og_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t i;

	(void)port;
	for (i = 0; i < n && __atomic_load_n(&fake.room, __ATOMIC_RELAXED) > 0; i++) {
		uint32_t number;

		memcpy(&number, rte_pktmbuf_mtod(pkts[i], void *), sizeof(number));
		fake.in_order &= number == fake.taken;
		__atomic_fetch_sub(&fake.room, 1, __ATOMIC_RELAXED);
		__atomic_store_n(&fake.taken, fake.taken + 1, __ATOMIC_RELAXED);
		rte_pktmbuf_free(pkts[i]);
	}
	return i;
}

static uint32_t fake_wait_fds(const struct og_port *port, int fds[OG_PORT_FDS_MAX])
{
	(void)port;
	(void)fds;
	return 0;
}

static const struct og_port_ops fake_ops = {
	.start = fake_start, .rx_burst = fake_rx, .tx_burst = fake_tx, .wait_fds = fake_wait_fds};

static uint64_t sender_tick(struct og_core *core, uint64_t now_ns)
{
	const struct og_addr dst = {{10, 0, 0, 1}, 1};

	(void)core;
	(void)now_ns;
	while (sender.sent < sender.goal) {
		uint16_t cap;
		uint8_t *out = sender.tx->reserve(sender.tx, &cap);

		if (!out) {
			if (sender.refused++ == 0)
				sem_post(&sender.full);
			break;
		}
		cr_assert_geq(cap, 1472);
		cr_assert_eq(sender.tx->reserve(sender.tx, &cap), out, "lent once until committed");
		memcpy(out, &sender.sent, sizeof(sender.sent));
		sender.tx->commit(sender.tx, 0, &dst, 0, sizeof(sender.sent));
		sender.sent++;
	}
	return OG_NEVER;
}

static const struct og_core_ops sender_ops = {.tick = sender_tick};

static void started(void *arg, int ret)
{
	(void)arg;
	start_result = ret;
	sem_post(&has_started);
}

static void *run(void *arg)
{
	(void)arg;
	og_lcore_run(lcore, &sender.core, started, NULL);
	return NULL;
}

static void setup(void)
{
	const struct og_eal_opts eal = {.memory_mib = 64};
	const struct og_stage_opts stage_opts = {.depth = 16, .doorbell = &doorbell};
	const struct og_workers_opts worker_opts = {
		.nb_workers = 1, .nb_jobs = 8, .doorbell = &doorbell};
	struct og_lcore_opts opts = {.port = &fake.port, .doorbell = &doorbell};

	fake = (struct fake_port){.port = {.ops = &fake_ops, .nb_endpoints = 1}, .in_order = true};
	cr_assert_eq(og_eal_open(&eal), 0);
	cr_assert_eq(og_packet_pool_create(&fake.port.pool, 2047, SOCKET_ID_ANY, false), 0);
	cr_assert_eq(og_doorbell_init(&doorbell), 0);
	cr_assert_eq(og_stage_create(&stage, &stage_opts), 0);
	cr_assert_eq(og_workers_create(&workers, &worker_opts), 0);
	opts.commands = stage;
	opts.workers = workers;
	cr_assert_eq(og_lcore_create(&lcore, &opts), 0);
	sender.core.ops = &sender_ops;
	sender.tx = og_lcore_tx(lcore);
	sem_init(&sender.full, 0, 0);
	sem_init(&has_started, 0, 0);
}

static pthread_t start(void)
{
	pthread_t thread;

	cr_assert_eq(og_thread_start(&thread, "lcore", -1, run, NULL), 0);
	sem_wait(&has_started);
	return thread;
}

static void finish(pthread_t thread)
{
	og_lcore_stop(lcore);
	pthread_join(thread, NULL);
	cr_assert_eq(rte_mempool_in_use_count(fake.port.pool), 0, "every packet was given back");
	og_lcore_destroy(lcore);
	og_workers_destroy(workers);
	og_stage_destroy(stage);
	og_doorbell_fini(&doorbell);
}

Test(lcore, a_full_port_refuses_the_core_and_loses_nothing, .init = setup)
{
	pthread_t thread;

	sender.goal = 5000;
	fake.room = 100;
	thread = start();
	sem_wait(&sender.full);
	cr_assert_leq(__atomic_load_n(&fake.taken, __ATOMIC_RELAXED), 100);
	__atomic_store_n(&fake.room, UINT32_MAX / 2, __ATOMIC_RELAXED);
	for (int i = 0; i < 5000 && __atomic_load_n(&fake.taken, __ATOMIC_RELAXED) < 5000; i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	finish(thread);
	cr_assert_eq(fake.taken, 5000);
	cr_assert(fake.in_order);
	cr_assert_gt(sender.refused, 0);
}

Test(lcore, what_is_queued_at_the_end_is_sent, .init = setup)
{
	pthread_t thread;

	sender.goal = 300; /* less than the queue */
	thread = start();
	__atomic_store_n(&fake.room, 1000, __ATOMIC_RELAXED);
	finish(thread);
	cr_assert_eq(fake.taken, sender.sent);
}

Test(lcore, what_cannot_be_sent_at_the_end_is_given_back, .init = setup)
{
	pthread_t thread;

	sender.goal = 300;
	thread = start();
	finish(thread);
	cr_assert_eq(fake.taken, 0);
}

Test(lcore, a_port_that_does_not_start_is_reported, .init = setup)
{
	pthread_t thread;

	fake.start_result = -EIO;
	thread = start();
	cr_assert_eq(start_result, -EIO);
	finish(thread);
}

static void wait_for_taken(uint32_t goal)
{
	for (int i = 0; i < 5000 && __atomic_load_n(&fake.taken, __ATOMIC_RELAXED) < goal; i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	cr_assert_eq(__atomic_load_n(&fake.taken, __ATOMIC_RELAXED), goal);
}

Test(lcore, an_empty_packet_pool_refuses_the_core_until_packets_come_back, .init = setup)
{
	static struct rte_mbuf *all[2047];
	uint32_t n = 0;
	pthread_t thread;

	while (n < OG_ARRAY_LEN(all) && (all[n] = rte_pktmbuf_alloc(fake.port.pool)))
		n++;
	sender.goal = 300;
	fake.room = 1000;
	thread = start();
	sem_wait(&sender.full);
	cr_assert_gt(og_lcore_counters(lcore)->tx_no_mbuf, 0);
	rte_pktmbuf_free_bulk(all, n);
	wait_for_taken(300);
	finish(thread);
	cr_assert(fake.in_order);
}

Test(lcore, nothing_of_the_old_pool_is_kept_when_the_port_has_a_new_one, .init = setup)
{
	struct rte_mempool *old = fake.port.pool, *pool;
	pthread_t thread;
	uint16_t cap;

	cr_assert_eq(og_packet_pool_create(&pool, 2047, SOCKET_ID_ANY, false), 0);
	cr_assert_not_null(sender.tx->reserve(sender.tx, &cap)); /* and not committed */
	cr_assert_eq(rte_mempool_in_use_count(old), 1);
	thread = start();
	__atomic_store_n(&fake.port.pool, pool, __ATOMIC_RELAXED);
	for (int i = 0; i < 5000 && rte_mempool_in_use_count(old) > 0; i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	cr_assert_eq(rte_mempool_in_use_count(old), 0);
	finish(thread);
	rte_mempool_free(old);
}
