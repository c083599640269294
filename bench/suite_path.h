/*
 * suite_path.h: the cases of the suite `stream` on a path with loss, in network namespaces.
 */
#pragma once
#include "bench/bench.h"

/* Returns an exit status. */
int suite_path(const struct bench *b);
