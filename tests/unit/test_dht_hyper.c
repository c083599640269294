#include "dht_net.h"

static struct net net;
static const uint64_t second = OG_NS_PER_S;

static void setup(void)
{
	net_init(&net, 1);
}

static void teardown(void)
{
	net_fini(&net);
}

TestSuite(dht_hyper, .init = setup, .fini = teardown, .timeout = 60);

static void listen_and_wait(struct net_node *n)
{
	cr_assert_eq(og_dht_listen(n->dht, net.sim.now_ns), 0);
	net_kick(n);
	net_run(&net, 5 * second);
	cr_assert_gt(n->nb_relays, 0);
}

static void connect_to(struct net_node *from, const struct net_node *to)
{
	cr_assert_eq(og_dht_connect(from->dht, to->kp.public_key, NULL, 0, 77, net.sim.now_ns), 0);
	net_kick(from);
}

static void expect_connected(const struct net_node *client, const struct net_node *server)
{
	cr_assert_eq(client->nb_connected, 1);
	cr_assert_eq(server->nb_connected, 1);
	cr_assert(client->last_conn.initiator);
	cr_assert_not(server->last_conn.initiator);
	cr_assert_eq(client->last_conn.tag, 77);
	cr_assert_arr_eq(client->last_conn.remote_key, server->kp.public_key, 32);
	cr_assert_arr_eq(server->last_conn.remote_key, client->kp.public_key, 32);
	cr_assert_arr_eq(client->last_keys.tx, server->last_keys.rx, 32);
	cr_assert_arr_eq(client->last_keys.rx, server->last_keys.tx, 32);
	cr_assert_arr_eq(client->last_keys.hash, server->last_keys.hash, 64);
	cr_assert_eq(og_dht_nb_connects(client->dht), 0);
	cr_assert_eq(og_dht_nb_half_open(server->dht), 0);
}

Test(dht_hyper, a_server_is_announced_on_three_nodes_and_gone_after_unlisten)
{
	struct net_node *server;
	uint32_t routes = 0;

	net_grow(&net, 30);
	server = net_add_member(&net, 0x0a000101, 5000, OG_NO);
	net_run(&net, 2 * second);
	listen_and_wait(server);
	cr_assert_eq(server->nb_relays, 3);
	for (uint32_t i = 0; i < 30; i++)
		routes += og_dht_stored(net.nodes[i]->dht).routes;
	cr_assert_eq(routes, 3);

	cr_assert_eq(og_dht_unlisten(server->dht, net.sim.now_ns), 0);
	net_kick(server);
	net_run(&net, second);
	cr_assert(server->told_stopped);
	routes = 0;
	for (uint32_t i = 0; i < 30; i++)
		routes += og_dht_stored(net.nodes[i]->dht).routes;
	cr_assert_eq(routes, 0);
}

Test(dht_hyper, two_members_connect_through_relays_whatever_they_declare)
{
	static const enum og_auto kinds[][2] = {
		{OG_NO, OG_NO}, {OG_NO, OG_YES}, {OG_YES, OG_NO}, {OG_YES, OG_YES}};

	net_grow(&net, 30);
	for (uint32_t k = 0; k < OG_ARRAY_LEN(kinds); k++) {
		struct net_node *server =
			net_add_member(&net, 0x0a000101 + 2 * k, 5000, kinds[k][0]);
		struct net_node *client =
			net_add_member(&net, 0x0a000102 + 2 * k, 5000, kinds[k][1]);

		net_run(&net, 2 * second);
		listen_and_wait(server);
		connect_to(client, server);
		net_run(&net, 12 * second);
		expect_connected(client, server);
	}
}
