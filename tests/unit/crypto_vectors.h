/*
 * crypto_vectors.h: vector files as tests read them: hex strings in JSON, found by name.
 *
 * Every failure to find something ends the test.
 *
 * Memory:  what vec_hex() gives stays until the process ends, each in a block of its exact size.
 */
#pragma once
#include "crypto/keys.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <string.h>

struct vec_bytes {
	uint8_t *data;
	size_t n;
};

static void *vec_keep[65536]; /* reachable, so no leak is reported */
static size_t vec_nb_keep;

__attribute__((unused)) static json_t *vec_load(const char *file)
{
	char path[512];
	json_error_t err;
	json_t *root;

	cr_assert_eq(og_crypto_init(), 0);
	snprintf(path, sizeof(path), "%s/%s", OG_VECTORS, file);
	root = json_load_file(path, 0, &err);
	cr_assert_not_null(root, "%s: %s", path, err.text);
	cr_assert_lt(vec_nb_keep, sizeof(vec_keep) / sizeof(*vec_keep));
	vec_keep[vec_nb_keep++] = root;
	return root;
}

__attribute__((unused)) static json_t *vec_get(json_t *object, const char *name)
{
	json_t *v = json_object_get(object, name);

	cr_assert_not_null(v, "no member %s", name);
	return v;
}

/* A section of tests/vectors/dht.json. */
__attribute__((unused)) static json_t *vec_dht(const char *section)
{
	return vec_get(vec_get(vec_load("dht.json"), "sections"), section);
}

/* A section of tests/vectors/stream.json. */
__attribute__((unused)) static json_t *vec_stream(const char *section)
{
	return vec_get(vec_load("stream.json"), section);
}

__attribute__((unused)) static const char *vec_text(json_t *object, const char *name)
{
	const char *text = json_string_value(vec_get(object, name));

	cr_assert_not_null(text, "%s is no string", name);
	return text;
}

__attribute__((unused)) static struct vec_bytes vec_unhex(const char *text)
{
	struct vec_bytes b = {.n = strlen(text) / 2};

	b.data = malloc(b.n > 0 ? b.n : 1);
	cr_assert_lt(vec_nb_keep, sizeof(vec_keep) / sizeof(*vec_keep));
	vec_keep[vec_nb_keep++] = b.data;
	cr_assert_eq(og_hex_decode(b.data, b.n, text, strlen(text)), 0, "%s", text);
	return b;
}

__attribute__((unused)) static struct vec_bytes vec_hex(json_t *object, const char *name)
{
	return vec_unhex(vec_text(object, name));
}

/* NULL where the vector has null. */
__attribute__((unused)) static const uint8_t *vec_hex_or_null(json_t *object, const char *name)
{
	return json_is_null(vec_get(object, name)) ? NULL : vec_hex(object, name).data;
}

/* The member `name` whose "name" member is `want`, of an array of named vectors. */
__attribute__((unused)) static json_t *vec_named(json_t *array, const char *want)
{
	size_t i;
	json_t *v;

	json_array_foreach(array, i, v)
	{
		if (strcmp(vec_text(v, "name"), want) == 0)
			return v;
	}
	cr_assert_fail("no vector %s", want);
	return NULL;
}

#define VEC_EQ(got, want, what)                                                                    \
	cr_assert_eq(memcmp((got), (want).data, (want).n), 0, "%s differs", (what))

#define VEC_EQ_HEX(got, object, name)                                                              \
	do {                                                                                       \
		struct vec_bytes want_ = vec_hex((object), (name));                                \
		VEC_EQ((got), want_, (name));                                                      \
	} while (0)

__attribute__((unused)) static struct og_keypair vec_keypair(struct vec_bytes seed)
{
	struct og_keypair kp;

	cr_assert_eq(seed.n, (size_t)OG_SEED_BYTES);
	og_keypair_from_seed(&kp, seed.data);
	return kp;
}
