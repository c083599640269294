#include "dht/self.h"

bool og_dht_self_public(const struct og_dht_env *env, struct og_addr *out)
{
	return og_dht_rpc_public_addr(env->rpc, out) && out->port == env->server_port &&
	       !og_dht_rpc_firewalled(env->rpc);
}

bool og_dht_self_is_open(const struct og_dht_env *env)
{
	return !og_dht_rpc_firewalled(env->rpc);
}

static void add_address(struct og_dht_payload *p, const struct og_addr *a)
{
	for (uint32_t i = 0; i < p->nb_addresses4; i++) {
		if (og_addr_eq(&p->addresses4[i], a))
			return;
	}
	if (p->nb_addresses4 < OG_DHT_PAYLOAD_ADDRS)
		p->addresses4[p->nb_addresses4++] = *a;
}

void og_dht_self_payload(struct og_dht_payload *out, const struct og_dht_env *env, bool server,
	enum og_dht_payload_error error, uint32_t udx_id)
{
	struct og_addr public_addr;

	*out = (struct og_dht_payload){
		.version = 1,
		.error = error,
		.firewall =
			og_dht_self_is_open(env) ? OG_DHT_FIREWALL_OPEN : OG_DHT_FIREWALL_UNKNOWN,
		.has_udx = true,
		.udx_id = udx_id,
		.has_stream = true,
	};
	if (error != OG_DHT_PAYLOAD_OK)
		return;
	if (og_dht_self_public(env, &public_addr))
		add_address(out, &public_addr);
	for (uint32_t i = 0; i < env->nb_local_addrs; i++)
		add_address(out, &env->local_addrs[i]);
	if (!server || env->nb_relays == 0)
		return;
	out->has_relays = true;
	out->nb_relays = env->nb_relays;
	memcpy(out->relays, env->relays, env->nb_relays * sizeof(env->relays[0]));
}

static int octets_shared(const struct og_addr *a, const struct og_addr *b)
{
	int n = 0;

	while (n < 3 && a->ip[n] == b->ip[n])
		n++;
	return n;
}

bool og_dht_self_match(const struct og_dht_env *env, const struct og_addr *remote,
	uint32_t nb_remote, struct og_addr *out)
{
	int best = 0;

	for (uint32_t i = 0; i < nb_remote; i++) {
		for (uint32_t j = 0; j < env->nb_local_addrs; j++) {
			int shared = octets_shared(&remote[i], &env->local_addrs[j]);

			if (shared > best) {
				best = shared;
				*out = remote[i];
			}
		}
	}
	return best > 0;
}
