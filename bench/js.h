/*
 * js.h: the JavaScript peers that --peer js measures: unmodified npm packages, driven by peer.mjs.
 *
 * Memory:  a command lives as long as its struct.
 */
#pragma once
#include "bench/child.h"

enum { JS_ARGS_MAX = 8, JS_PATH_BYTES = 512 };

struct js_command {
	const char *argv[JS_ARGS_MAX];
	char node[JS_PATH_BYTES];
};

/* "" when the packages are there; else what to do about it. */
const char *js_missing(void);
/* `peer.mjs ROLE ARGUMENT` (NULL: none). 0 or -ENOENT, told on stderr. */
int js_command(struct js_command *c, const char *role, const char *argument) OG_MUST_CHECK;
/* A private network of JavaScript nodes; c->ready is its bootstrap address. */
int js_start_network(struct bench_child *c) OG_MUST_CHECK;
