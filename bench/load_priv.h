/*
 * load_priv.h: what the kinds of load share.
 */
#pragma once
#include "bench/load.h"

struct load_ops {
	int (*run)(
		struct load *l, const struct load_plan *plan, uint64_t ns, struct load_result *out);
	/* One try; -EAGAIN: no answer in time. */
	int (*ask)(struct load *l, const uint8_t *request, uint16_t len_bytes, uint8_t *answer,
		int wait_ms);
	void (*close)(struct load *l);
};

struct load {
	const struct load_ops *ops;
};

/* Counts an answer; returns its slot, or -1 for one that is not of this plan. */
int load_answer(
	const struct load_plan *plan, const uint8_t *data, size_t len_bytes, struct load_result *r);
