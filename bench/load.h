/*
 * load.h: the other end of what is measured: a closed loop that keeps a window of requests under
 * way, one question with its answer, and a flood.
 *
 * Slot i of the window is one datagram that carries i where its kind carries an id; an answer with
 * that id sends it again. What is not answered within LOAD_PATIENCE_NS is sent again and counted.
 *
 * Threads: one owner.
 * Memory:  everything at open.
 */
#pragma once
#include "base/addr.h"
#include "bench/child.h"

#include <stdbool.h>

enum { LOAD_WINDOW_MAX = 256, LOAD_REQUEST_BYTES = 1200, LOAD_REPLY_BYTES = 2048 };
#define LOAD_PATIENCE_NS (300 * OG_NS_PER_MS)

struct load_slot {
	uint16_t len_bytes;
	uint8_t data[LOAD_REQUEST_BYTES];
};

struct load_plan {
	struct load_slot slots[LOAD_WINDOW_MAX];
	uint32_t window;
	uint16_t id_offset; /* of the id, u16 little endian, in requests and answers */
	int first_byte;     /* of an answer; -1: any */
	uint16_t min_bytes; /* of an answer; shorter ones are counted as bad and sent again */
};

struct load_result {
	uint64_t ns;
	uint64_t replies;
	uint64_t bad;
	uint64_t lost;
	uint32_t busy_percent; /* of the load's own core; 0: not known */
};

struct load;

/* Towards `target`, over sockets of the kernel. 0 or a negative errno. */
int load_open_socket(struct load **out, const struct og_addr *target) OG_MUST_CHECK;
/* By a child that was started as `--serve load …`, which stays the caller's. */
int load_open_port(struct load **out, struct bench_child *generator) OG_MUST_CHECK;
void load_close(struct load *l);

/* Run for `ns`, then wait until nothing is under way. 0 or a negative errno. */
int load_run(struct load *l, const struct load_plan *plan, uint64_t ns,
	struct load_result *out) OG_MUST_CHECK;
/* Bytes of the answer to one datagram, or -ETIMEDOUT after three tries of a second. */
int load_ask(struct load *l, const uint8_t *request, uint16_t len_bytes,
	uint8_t answer[LOAD_REPLY_BYTES]) OG_MUST_CHECK;
