/*
 * panels.h: weights laid out for products on the CPU: 32 rows side by side, so that a vector holds a
 * value of each of several rows, no sum runs across its lanes, and all of a panel is one stream.
 *
 * A panel takes exactly the bytes of its rows. In order:
 *   BF16   for each pair of values, the pair of each row
 *   F16    for each value, that of each row
 *   Q8_0   for each block, the scale of each row, then, for each pair of values, the pair of each row
 *   Q4_0   for each block, the scale of each row, then, for each eight values, four bytes of each row:
 *          bits 4j … 4j+3 are value 2j, bits 16+4j … value 2j+1
 *   Q4_K   for each block, d of each row, dmin of each row, the scales of each row as three words in
 *          turn, then, for each eight values, four bytes of each row as for Q4_0
 *   Q5_K   the same, and before each 32 values a word of each row: bit p is the fifth of value 2p, bit
 *          16+p that of value 2p+1
 *   Q6_K   for each block, d of each row, the scales of each row as four words in turn, then, for each
 *          16 values, a word of each row (bits 2p and 2p+1 are the upper ones of value 2p, 16+2p …
 *          those of value 2p+1), and for each eight of them four bytes as for Q4_0
 * Rows beyond the last whole panel stay as they are, and so do all of other types.
 *
 * Units:   rows; n_in in values.
 * Threads: pure functions.
 */
#pragma once
#include "gpu/dtype.h"

enum { OG_PANEL_ROWS = 32 };

/* How many of n_out rows, the first ones, can lie in panels. */
uint32_t og_panel_rows(enum og_dtype type, uint32_t n_in, uint32_t n_out);
/* Lays the 32 rows at `data` out as a panel; `bounce` has room for them. */
void og_panel_pack(enum og_dtype type, uint32_t n_in, uint8_t *data, uint8_t *bounce);
/* Row `row` of the panel, as plain floats; out has n_in of them. */
void og_panel_row(
	enum og_dtype type, uint32_t n_in, const uint8_t *panel, uint32_t row, float *out);
