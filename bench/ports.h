/*
 * ports.h: the two ends of a port: what each end's data plane is opened with.
 *
 * Memory:  lives until close; close removes what open made.
 */
#pragma once
#include "bench/bench.h"

enum { PORTS_TEXT_BYTES = 160 };

struct port_end {
	char driver[PORTS_TEXT_BYTES];
	char address[32]; /* with its UDP port; 0: any free one */
	char prefix_bits[8];
};

struct ports {
	struct port_end server, client;
	char dir[64]; /* of sockets; "" when there is none */
};

/* 0 or a negative errno, told on stderr. */
int ports_open(struct ports *p, const struct bench *b) OG_MUST_CHECK;
void ports_close(struct ports *p);
