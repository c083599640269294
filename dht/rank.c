/*
 * rank.c: sorts by counting who is nearer, each against all: no branch depends on the ids.
 */
#include "dht/rank.h"

#include <assert.h>

static void plain(uint64_t place[OG_DHT_K], const uint64_t prefix[OG_DHT_K], unsigned nb_nodes,
	uint64_t target_prefix)
{
	for (unsigned i = 0; i < nb_nodes; i++) {
		uint64_t key = prefix[i] ^ target_prefix;
		uint64_t nearer = 0;

		for (unsigned j = 0; j < nb_nodes; j++)
			nearer += (prefix[j] ^ target_prefix) < key;
		place[i] = nearer;
	}
}

og_dht_rank_fn og_dht_rank_plain(void)
{
	return plain;
}

#if defined(__x86_64__)

#include <immintrin.h>

enum { LANES = 4, VECTORS = OG_DHT_K / LANES };
static_assert(VECTORS * (int)LANES == (int)OG_DHT_K, "a bucket is whole vectors");

__attribute__((target("avx2"))) static void avx2(uint64_t place[OG_DHT_K],
	const uint64_t prefix[OG_DHT_K], unsigned nb_nodes, uint64_t target_prefix)
{
	/* The comparison is of signed words: with the top bit turned it is that of unsigned. */
	const __m256i turn = _mm256_set1_epi64x((long long)(target_prefix ^ 1ull << 63));
	__m256i key[VECTORS], nearer[VECTORS];

#pragma GCC unroll 8 /* so that all of it stays in registers */
	for (unsigned v = 0; v < VECTORS; v++) {
		key[v] = _mm256_xor_si256(
			_mm256_loadu_si256((const void *)(prefix + v * LANES)), turn);
		nearer[v] = _mm256_setzero_si256();
	}
	for (unsigned j = 0; j < nb_nodes; j++) {
		const __m256i other =
			_mm256_xor_si256(_mm256_set1_epi64x((long long)prefix[j]), turn);

		/* All ones, which is -1, where the other is nearer. */
#pragma GCC unroll 8
		for (unsigned v = 0; v < VECTORS; v++)
			nearer[v] = _mm256_sub_epi64(nearer[v], _mm256_cmpgt_epi64(key[v], other));
	}
#pragma GCC unroll 8
	for (unsigned v = 0; v < VECTORS; v++)
		_mm256_storeu_si256((void *)(place + v * LANES), nearer[v]);
}

og_dht_rank_fn og_dht_rank_pick(void)
{
	return __builtin_cpu_supports("avx2") ? avx2 : plain;
}

#else

og_dht_rank_fn og_dht_rank_pick(void)
{
	return plain;
}

#endif
