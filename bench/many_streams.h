/*
 * many_streams.h: the cases of the stream suite that have many streams at once.
 */
#pragma once
#include "bench/bench.h"

/* 0 or a negative errno, told on stderr. */
int many_streams(const struct bench *b) OG_MUST_CHECK;
