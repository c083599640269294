/*
 * echo_core.h: the smallest core there is: every datagram goes back to where it came from.
 */
#pragma once
#include "base/core.h"

struct echo_core {
	struct og_core core; /* first */
	struct og_tx *tx;
};

void echo_core_init(struct echo_core *e, struct og_tx *tx);
