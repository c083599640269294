/*
 * challenge.h: which strangers were asked to prove that they receive at their address: the PINGs to
 * them, by address, so that they take no slot and no window from the node's own requests.
 *
 * A fixed table, hashed with a secret seed, four ways; a full set forgets its oldest. A source is
 * asked again after about half a second at the earliest, and a /24 has a rate, so that who floods from one
 * place does not make the node forget the others. An answer names the tid of its PING; after three
 * wrong ones none is taken until the next PING, so that a tid cannot be found by trying.
 *
 * Units:   times ns.
 * Threads: the owner of the rpc.
 * Memory:  16 bytes an entry, made by create.
 */
#pragma once
#include "base/addr.h"

struct og_dht_challenges;

/* nb_entries is a power of two. */
int og_dht_challenges_create(
	struct og_dht_challenges **out, uint32_t nb_entries, uint64_t seed) OG_MUST_CHECK;
void og_dht_challenges_destroy(struct og_dht_challenges *c);

/*
 * `tid` is drawn for this source. 0: send it a PING; -EALREADY: it was sent one just now; -EDQUOT: its
 * /24 was sent too many (not asked for an exempt source, one that limits do not apply to).
 */
int og_dht_challenge_add(struct og_dht_challenges *c, const struct og_addr *to, uint16_t endpoint,
	uint16_t tid, bool exempt, uint64_t now_ns) OG_MUST_CHECK;
/* An answer that belongs to no other request: whether it proves its source. */
bool og_dht_challenge_met(struct og_dht_challenges *c, const struct og_addr *from,
	uint16_t endpoint, uint16_t tid, uint64_t now_ns);
