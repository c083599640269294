/*
 * config_table.c: the one table of what node.conf may hold.
 */
#include "cli/config.h"

#define AT(field) offsetof(struct og_config, field), sizeof(((struct og_config *)0)->field)
#define MODEL_AT(field)                                                                            \
	offsetof(struct og_config_model, field), sizeof(((struct og_config_model *)0)->field)
#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* clang-format off */
const struct og_config_key og_config_keys[] = {
	{"node", "name", OG_CONFIG_STRING, AT(node_name), "", 0, OG_NODE_NAME_BYTES - 1, NULL,
		"name shown to other members; default: the host name"},
	{"node", "root", OG_CONFIG_PATH, AT(root), "", 0, 0, NULL,
		"folder of the state and the control socket; default: the folder of this file"},
	{"node", "key_file", OG_CONFIG_PATH, AT(key_file), "", 0, 0, NULL,
		"the node's key, mode 0600, made on first start; default: ROOT/node.key"},
	{"node", "user", OG_CONFIG_STRING, AT(user), "", 0, 32, NULL,
		"user to become once everything is open; default: stay"},

	{"cluster", "id", OG_CONFIG_LINES, AT(cluster_ids), "", 1, 180, NULL,
		"cluster to join; may be given several times"},
	{"cluster", "secret_file", OG_CONFIG_PATH, AT(secret_file), "", 0, 0, NULL,
		"reserved; refused by this version"},
	{"cluster", "allow", OG_CONFIG_KEYS, AT(allow), "", 64, 64, NULL,
		"public key that may connect; once there is one, only these may"},
	{"cluster", "deny", OG_CONFIG_KEYS, AT(deny), "", 64, 64, NULL,
		"public key that may not connect"},

	{"dht", "bootstrap", OG_CONFIG_COMMAS, AT(bootstrap), "public", 0, 0, NULL,
		"host:port or IP@name:port, separated by commas; public; none (first node of a private network)"},
	{"dht", "port", OG_CONFIG_UINT, AT(dht_port), "49737", 0, 65535, NULL,
		"UDP port; the default takes the next free one; 0: any"},
	{"dht", "public_address", OG_CONFIG_IP_PORT, AT(public_address), "", 0, 0, NULL,
		"our address as others see it; default: learned from their answers"},
	{"dht", "ephemeral", OG_CONFIG_CHOICE, AT(ephemeral), "auto", 0, 0, "auto|yes|no",
		"yes: use the DHT without being a node of it"},
	{"dht", "firewalled", OG_CONFIG_CHOICE, AT(firewalled), "auto", 0, 0, "auto|yes|no",
		"whether strangers' datagrams reach us; auto means open"},
	{"dht", "peers", OG_CONFIG_COMMAS, AT(peers), "", 0, 0, NULL,
		"host:port of DHT nodes to know from the start, or KEY@host:port of members to stay connected to"},
	{"dht", "strangers", OG_CONFIG_UINT, AT(strangers), "512", 1, 100000, NULL,
		"handshakes a second from addresses that have not answered us yet; beyond that they answer a PING first"},

	{"port", "driver", OG_CONFIG_STRING, AT(driver), "socket", 1, 180, NULL,
		"socket, or ethdev:<devargs>"},
	{"port", "address", OG_CONFIG_IP_PREFIX, AT(address), "0.0.0.0", 0, 0, NULL,
		"own IPv4 address, with /prefix for ethdev"},
	{"port", "gateway", OG_CONFIG_IP, AT(gateway), "0.0.0.0", 0, 0, NULL,
		"IPv4 router (ethdev); 0.0.0.0: none"},
	{"port", "mtu", OG_CONFIG_UINT, AT(mtu), "1500", 576, 9000, NULL, "bytes"},
	{"port", "shared", OG_CONFIG_BOOL, AT(shared), "no", 0, 0, NULL,
		"the interface of a net_af_xdp driver or an mlx5 card stays the kernel's: only our UDP port is taken"},
	{"port", "queues", OG_CONFIG_UINT, AT(queues), "0", 0, 16, NULL,
		"pairs of queues that an ethdev is asked for; 0: one for each polling core"},

	{"cores", "net", OG_CONFIG_STRING, AT(net), "", 0, 180, NULL,
		"CPUs of the polling cores, one each, at most 16, e.g. 2 or 2,3; default: one, wherever the kernel puts it"},
	{"cores", "crypto", OG_CONFIG_UINT, AT(crypto), "1", 1, 64, NULL,
		"worker threads for handshakes and signatures"},
	{"cores", "router", OG_CONFIG_STRING, AT(router), "", 0, 180, NULL, "CPUs of the router thread"},
	{"cores", "engine", OG_CONFIG_STRING, AT(engine), "", 0, 180, NULL, "CPUs of the engine threads"},
	{"cores", "poll", OG_CONFIG_CHOICE, AT(poll), "adaptive", 0, 0, "adaptive|busy",
		"busy spins: for cores that do nothing else"},
	{"cores", "hugepages", OG_CONFIG_BOOL, AT(hugepages), "no", 0, 0, NULL,
		"take packet memory from huge pages"},
	{"cores", "eal_args", OG_CONFIG_STRING, AT(eal_args), "", 0, 180, NULL,
		"further arguments for DPDK's EAL"},

	{"model", "path", OG_CONFIG_PATH, MODEL_AT(path), "", 0, 0, NULL, "GGUF or safetensors file"},
	{"model", "backend", OG_CONFIG_CHOICE, MODEL_AT(backend), "auto", 0, 0,
		"auto|cpu|cuda|echo|none", "auto: cuda where a device is, else cpu; none without a path"},
	{"model", "device", OG_CONFIG_UINT, MODEL_AT(device), "0", 0, 63, NULL, "number of the GPU"},
	{"model", "matmul", OG_CONFIG_CHOICE, MODEL_AT(matmul), "own", 0, 0, "own|cublaslt",
		"what multiplies prompts on a GPU; cublaslt: NVIDIA's library, if it is installed"},
	{"model", "context", OG_CONFIG_UINT, MODEL_AT(context), "0", 0, 1 << 22, NULL,
		"tokens; 0: 4096, or what the model was made for where that is less"},
	{"model", "kv_memory", OG_CONFIG_SIZE, MODEL_AT(kv_memory), "0", 0, 4096 * GIB, NULL,
		"for the KV cache; 0: what max_batch prompts of full length take"},
	{"model", "swap_memory", OG_CONFIG_SIZE, MODEL_AT(swap_memory), "0", 0, 4096 * GIB, NULL,
		"host memory for prompts that give way when the KV cache is full; 0: as much as it"},
	{"model", "prefix_reuse", OG_CONFIG_BOOL, MODEL_AT(prefix_reuse), "yes", 0, 0, NULL,
		"keep what was computed of prompts for those that begin alike"},
	{"model", "max_batch", OG_CONFIG_UINT, MODEL_AT(max_batch), "8", 1, 1024, NULL,
		"prompts computed together"},
	{"model", "queue", OG_CONFIG_UINT, MODEL_AT(queue), "64", 1, 65536, NULL,
		"prompts that may wait; more are refused as busy"},
	{"model", "threads", OG_CONFIG_UINT, MODEL_AT(threads), "0", 0, 1024, NULL,
		"CPU threads of this model, which shares none with others; 0: one per core"},
	{"model", "alias", OG_CONFIG_STRING, MODEL_AT(alias), "", 0, OG_MODEL_NAME_BYTES - 1, NULL,
		"second name under which the model is asked for"},

	{"http", "listen", OG_CONFIG_LISTEN, AT(listen), "127.0.0.1:8480", 0, 0, NULL,
		"host:port; port 0: any free one; none: no HTTP"},
	{"http", "api_key_file", OG_CONFIG_PATH, AT(api_key_file), "", 0, 0, NULL,
		"keys that clients send as a bearer token, one per line; default: no key asked"},
	{"http", "allow_host", OG_CONFIG_LINES, AT(allow_hosts), "", 1, 180, NULL,
		"further Host names to answer to when listening on loopback"},
	{"http", "max_body", OG_CONFIG_SIZE, AT(max_body), "1MiB", KIB, 64 * MIB, NULL,
		"longest request body"},
	{"http", "max_connections", OG_CONFIG_UINT, AT(max_connections), "1024", 1, 65536, NULL,
		"open at once"},
	{"http", "max_connections_per_address", OG_CONFIG_UINT, AT(max_connections_per_address), "0",
		0, 65536, NULL, "0: 32, or no limit when listening on loopback"},
	{"http", "rate_per_s", OG_CONFIG_UINT, AT(rate_per_s), "0", 0, 1000000, NULL,
		"prompts a second and client address; 0: no limit"},
	{"http", "rate_burst", OG_CONFIG_UINT, AT(rate_burst), "16", 1, 1000000, NULL,
		"prompts that may come at once before rate_per_s counts"},

	{"limits", "peers", OG_CONFIG_UINT, AT(peers_max), "1024", 1, 65536, NULL,
		"connections to members"},
	{"limits", "peers_per_key", OG_CONFIG_UINT, AT(peers_per_key), "4", 1, 65536, NULL,
		"connections of one key, those not yet open included"},
	{"limits", "peers_per_net", OG_CONFIG_UINT, AT(peers_per_net), "64", 1, 65536, NULL,
		"incoming connections of one public /24"},
	{"limits", "frame_memory", OG_CONFIG_SIZE, AT(frame_memory), "256MiB", MIB, 64 * GIB, NULL,
		"for unfinished frames of all members"},
	{"limits", "asks", OG_CONFIG_UINT, AT(asks_max), "1024", 1, 65536, NULL,
		"prompts of clients under way"},
	{"limits", "peer_running", OG_CONFIG_UINT, AT(peer_running), "4", 1, 1024, NULL,
		"prompts computed at once for one member"},
	{"limits", "peer_queued", OG_CONFIG_UINT, AT(peer_queued), "16", 0, 1024, NULL,
		"prompts waiting for one member"},
	{"limits", "deadline", OG_CONFIG_DURATION, AT(deadline_ms), "120s", 100, 86400000, NULL,
		"an answer or an error within"},
	{"limits", "stop_timeout", OG_CONFIG_DURATION, AT(stop_timeout_ms), "10s", 0, 3600000, NULL,
		"time for running prompts when stopping"},

	{"log", "level", OG_CONFIG_CHOICE, AT(log_level), "info", 0, 0, "error|warn|info|debug",
		"what is written"},
	{"log", "format", OG_CONFIG_CHOICE, AT(log_format), "text", 0, 0, "text|json", "of a line"},

	{"metrics", "enabled", OG_CONFIG_BOOL, AT(metrics), "yes", 0, 0, NULL,
		"serve GET /metrics on the HTTP face"},
};
/* clang-format on */

const size_t og_config_nb_keys = OG_ARRAY_LEN(og_config_keys);
static_assert(OG_ARRAY_LEN(og_config_keys) <= OG_CONFIG_KEYS_MAX, "where[] covers every row");
