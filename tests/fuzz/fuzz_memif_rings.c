/*
 * fuzz_memif_rings.c: messages of a memif's peer, one after the other, at a client and at a server: never
 * more rings than we have queues, and a second one only where the first is.
 */
#include "dataplane/memif_rings.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

enum { QUEUES = 3 };

static void feed(const char *devargs, const uint8_t *data, size_t len_bytes)
{
	struct og_memif_rings *m = og_memif_open(devargs, QUEUES);
	uint8_t *msg = malloc(OG_MEMIF_MESSAGE_BYTES); /* exact size: an over-read is seen */

	OG_ASSERT(m && msg);
	/* Only the head of a message says something. */
	for (size_t at = 0; at < len_bytes; at += 48) {
		memset(msg, 0, OG_MEMIF_MESSAGE_BYTES);
		memcpy(msg, data + at, OG_MIN(len_bytes - at, (size_t)48));
		og_memif_note(m, msg);
		OG_ASSERT(m->nb_rx <= QUEUES && m->nb_tx <= QUEUES);
		OG_ASSERT(!m->server || m->nb_rx == 0 || (m->rings_in & 1));
		og_memif_mend(m, msg);
	}
	free(msg);
	og_memif_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	feed("net_memif0,role=server,socket=/tmp/s", data, len_bytes);
	feed("net_memif0,role=client,socket=/tmp/s", data, len_bytes);
	return 0;
}
