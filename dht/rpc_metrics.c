#include "dht/rpc_priv.h"

static void add(const char *name, const char *labels, const char *help, enum og_metric_type type,
	const void *value)
{
	struct og_metric m = {name, labels, help, type, value};

	og_metrics_register(&m);
}

static void add_drops(const struct og_dht_counters *c)
{
	static const char *const reasons[OG_DHT_NB_DROPS] = {
		[OG_DHT_DROP_MALFORMED] = "reason=\"malformed\"",
		[OG_DHT_DROP_BAD_SOURCE] = "reason=\"bad_source\"",
		[OG_DHT_DROP_OWN] = "reason=\"own_request\"",
		[OG_DHT_DROP_UNKNOWN_REPLY] = "reason=\"unknown_reply\"",
		[OG_DHT_DROP_FORGED_REPLY] = "reason=\"forged_reply\"",
		[OG_DHT_DROP_BAD_ARGUMENT] = "reason=\"bad_argument\"",
		[OG_DHT_DROP_NAT_PING_LIMIT] = "reason=\"nat_ping_limit\"",
		[OG_DHT_DROP_DELAYED_LIMIT] = "reason=\"delayed_ping_limit\"",
		[OG_DHT_DROP_TX_FULL] = "reason=\"tx_full\"",
		[OG_DHT_DROP_REQUEST_LIMIT] = "reason=\"request_limit\"",
		[OG_DHT_DROP_VALUE_BUDGET] = "reason=\"value_budget\"",
		[OG_DHT_DROP_CLOSER_CUT] = "reason=\"closer_nodes_cut\"",
		[OG_DHT_DROP_BAD_ID] = "reason=\"bad_id\"",
		[OG_DHT_DROP_NEWCOMER_LIMIT] = "reason=\"newcomer_limit\"",
		[OG_DHT_DROP_SUBNET_LIMIT] = "reason=\"subnet_limit\"",
		[OG_DHT_DROP_QUERY_NODES] = "reason=\"query_nodes\"",
		[OG_DHT_DROP_HINT_LIMIT] = "reason=\"hint_limit\"",
		[OG_DHT_DROP_CHALLENGE_NET] = "reason=\"challenge_limit\"",
	};

	for (unsigned i = 0; i < OG_DHT_NB_DROPS; i++)
		add("og_dht_drops_total", reasons[i],
			"Datagrams, or parts of them, not taken or not sent.", OG_METRIC_COUNTER,
			&c->drops[i]);
}

void og_dht_rpc_metrics_register(struct og_dht_rpc *rpc)
{
	const struct og_dht_counters *c = &rpc->count;

	add("og_dht_requests_received_total", NULL, "Requests of other nodes.", OG_METRIC_COUNTER,
		&c->requests_in);
	add("og_dht_replies_received_total", NULL, "Answers to own requests.", OG_METRIC_COUNTER,
		&c->replies_in);
	add("og_dht_requests_sent_total", NULL, "Own requests, without repeats.", OG_METRIC_COUNTER,
		&c->requests_out);
	add("og_dht_repeats_sent_total", NULL, "Repeats of own requests.", OG_METRIC_COUNTER,
		&c->repeats_out);
	add("og_dht_replies_sent_total", NULL, "Answers to other nodes.", OG_METRIC_COUNTER,
		&c->replies_out);
	add("og_dht_errors_sent_total", NULL, "Answers with an error.", OG_METRIC_COUNTER,
		&c->errors_out);
	add("og_dht_timeouts_total", NULL, "Own requests that got no answer.", OG_METRIC_COUNTER,
		&c->timeouts);
	add("og_dht_queries_total", NULL, "Iterative queries started.", OG_METRIC_COUNTER,
		&c->queries);
	add("og_dht_nodes_added_total", NULL, "Nodes added to the table.", OG_METRIC_COUNTER,
		&c->nodes_added);
	add("og_dht_nodes_removed_total", NULL, "Nodes removed from the table.", OG_METRIC_COUNTER,
		&c->nodes_removed);
	add("og_dht_swaps_total", NULL, "Silent nodes replaced by newcomers.", OG_METRIC_COUNTER,
		&c->swaps);
	add("og_dht_hints_sent_total", NULL, "Down hints sent.", OG_METRIC_COUNTER, &c->hints_out);
	add("og_dht_challenges_sent_total", NULL,
		"Strangers asked to prove their address before a handshake.", OG_METRIC_COUNTER,
		&c->challenges_out);
	add("og_dht_challenges_met_total", NULL, "Of them those that did.", OG_METRIC_COUNTER,
		&c->challenges_met);
	add("og_dht_wakeups_total", NULL, "Sleeps of the machine noticed.", OG_METRIC_COUNTER,
		&c->wakeups);
	add("og_dht_table_nodes", NULL, "Nodes in the routing table.", OG_METRIC_GAUGE,
		&c->table_nodes);
	add("og_dht_requests_outstanding", NULL, "Own requests without an answer yet.",
		OG_METRIC_GAUGE, &c->outstanding);
	add("og_dht_queries_running", NULL, "Iterative queries running.", OG_METRIC_GAUGE,
		&c->query_slots);
	add("og_dht_persistent", NULL, "1 while the node stores for others.", OG_METRIC_GAUGE,
		&c->persistent);
	add("og_dht_request_rtt_seconds", NULL, "Time from the last send to the answer.",
		OG_METRIC_HISTOGRAM, &c->rtt);
	add_drops(c);
}
