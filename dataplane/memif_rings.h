/*
 * memif_rings.h: how many rings a memif connection has in each direction, which DPDK's driver knows and
 * does not tell.
 *
 * The client makes the rings, and may make fewer than the server has queues; the driver would then take
 * the first ring for each of the others. Its server also offers rings that it has no queues for and refuses
 * the client that wants them. So the messages of the connection are read as they arrive, and what
 * the server offers is set right as it leaves.
 *
 * Source:  memif 2.0, the messages HELLO, INIT and ADD_RING; DPDK 22.11, drivers/net/memif.
 * Units:   rings.
 * Threads: open and close on the main thread, before the device is started and after it is closed. The
 *          counts are written by EAL's interrupt thread before the driver takes the connection for up,
 *          and read by polling cores.
 * Memory:  OG_MEMIF_MAX of them in the process.
 */
#pragma once
#include "dataplane/memif_socket.h"

#include <stddef.h>

enum { OG_MEMIF_MAX = 8, OG_MEMIF_MESSAGE_BYTES = 128 };

struct og_memif_rings {
	bool used; /* atomic; main thread's */
	char socket[OG_MEMIF_SOCKET_BYTES];
	bool server;
	uint16_t queues;       /* that we have, each way */
	uint32_t rings_in;     /* of those that are under way, one bit each */
	uint32_t rings_out;    /* towards the peer */
	uint16_t nb_rx, nb_tx; /* atomic: that the connection has */
};

/* NULL: no place left; then no more than one queue may be used. */
struct og_memif_rings *og_memif_open(const char *devargs, uint16_t queues);
void og_memif_close(struct og_memif_rings *m);

/* A message from the peer. Others than those above change nothing. */
void og_memif_note(struct og_memif_rings *m, const uint8_t msg[OG_MEMIF_MESSAGE_BYTES]);
/* A message to the peer, before it is sent. */
void og_memif_mend(const struct og_memif_rings *m, uint8_t msg[OG_MEMIF_MESSAGE_BYTES]);
