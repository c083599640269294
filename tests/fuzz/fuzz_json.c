/*
 * fuzz_json.c: any bytes are refused with a sentence, or become a tree that can be walked once
 * through, whose nodes are what their counts say.
 */
#include "gpu/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static volatile uint64_t sink;

/* Every node is reached exactly once from the root. */
static uint32_t walk(const struct og_json *j, uint32_t node)
{
	enum og_json_kind kind = og_json_kind(j, node);
	struct og_text text = og_json_text(j, node);
	uint32_t seen = 1, items = 0;
	uint64_t u = 0;
	int64_t i = 0;
	double f = 0;

	for (uint32_t at = 0; at < text.len_bytes;) {
		int n = og_utf8_first(text.data + at, text.len_bytes - at);

		OG_ASSERT(n > 0);
		at += (uint32_t)n;
	}
	if (kind == OG_JSON_NUMBER && og_json_f64(j, node, &f) == 0 &&
		og_json_u64(j, node, &u) == 0 && og_json_i64(j, node, &i) == 0)
		OG_ASSERT(u == (uint64_t)i);
	for (uint32_t k = og_json_first(j, node); k; k = og_json_next(j, k), items++) {
		seen += walk(j, k);
		if (kind == OG_JSON_OBJECT)
			seen += walk(j, k + 1);
	}
	OG_ASSERT(items == og_json_count(j, node));
	sink += u;
	return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	char err[256] = "";
	struct og_json j;

	if (og_json_init(&j, "f", data, len_bytes, 4096, err, sizeof(err)) < 0) {
		OG_ASSERT(err[0] != '\0');
		return 0;
	}
	OG_ASSERT(walk(&j, OG_JSON_ROOT) == j.nb_nodes);
	(void)og_json_get(&j, OG_JSON_ROOT, "a");
	og_json_fini(&j);
	return 0;
}
