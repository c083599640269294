/*
 * steer.h: which polling core a datagram belongs to: a UDX packet to the core in its stream id, a PING or
 * FIND_NODE without an id to any (it stays where it is), the rest of the DHT to core 0.
 *
 * Source:  udx.md 2; dht.md 3.2, 4; Linux's classic BPF for sockets that share a port.
 * Threads: pure functions.
 */
#pragma once
#include "base/core.h"

#include <linux/filter.h>

/* On core `self` of `nb_cores`. */
uint16_t og_steer(const uint8_t *data, uint16_t len_bytes, uint16_t self, uint16_t nb_cores);

enum { OG_STEER_PROGRAM_MAX = 32 };

/*
 * The same for the kernel, over the bytes of a datagram; PING and FIND_NODE are spread by a hash of their
 * source port and transaction id. Returns the number of instructions.
 */
uint16_t og_steer_program(struct sock_filter out[OG_STEER_PROGRAM_MAX], uint16_t nb_cores);
