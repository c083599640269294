/*
 * dht_vectors.h: sections of tests/vectors/dht.json as jansson values, and hex as bytes.
 */
#pragma once
#include "base/addr.h"
#include "base/def.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { VECTOR_BYTES_MAX = 4096 };

struct vector_bytes {
	size_t len;
	uint8_t data[VECTOR_BYTES_MAX];
};

/* Borrowed from a document that lives as long as the test process. */
static inline json_t *vector_section(const char *name)
{
	json_error_t err;
	json_t *doc = json_load_file(OG_VECTORS "/dht.json", 0, &err);

	cr_assert_not_null(doc, "%s", err.text);
	return json_object_get(json_object_get(doc, "sections"), name);
}

/* The vector of that name within a section. */
static inline json_t *vector_named(json_t *section, const char *name)
{
	size_t i;
	json_t *v;

	json_array_foreach(section, i, v)
	{
		if (strcmp(json_string_value(json_object_get(v, "name")), name) == 0)
			return v;
	}
	cr_assert_fail("no vector %s", name);
	return NULL;
}

static inline const char *vector_name(json_t *v)
{
	return json_string_value(json_object_get(v, "name"));
}

static inline struct vector_bytes vector_hex(const char *hex)
{
	struct vector_bytes b = {.len = strlen(hex) / 2};

	cr_assert_leq(b.len, sizeof(b.data));
	for (size_t i = 0; i < b.len; i++) {
		unsigned byte;

		cr_assert_eq(sscanf(hex + 2 * i, "%2x", &byte), 1);
		b.data[i] = (uint8_t)byte;
	}
	return b;
}

/* `object[field]` as bytes; len 0 and data untouched when it is null or absent. */
static inline struct vector_bytes vector_field(json_t *object, const char *field)
{
	json_t *v = json_object_get(object, field);

	return json_is_string(v) ? vector_hex(json_string_value(v)) : (struct vector_bytes){0};
}

static inline uint64_t vector_int(json_t *object, const char *field)
{
	return (uint64_t)json_integer_value(json_object_get(object, field));
}

static inline struct og_addr vector_addr(json_t *text)
{
	struct og_addr a = {{0}, 0};

	cr_assert_eq(og_addr_parse(&a, json_string_value(text)), 0);
	return a;
}

static inline void vector_expect(
	const uint8_t *got, size_t len, const struct vector_bytes *want, const char *name)
{
	cr_assert_eq(len, want->len, "%s: %zu bytes, want %zu", name, len, want->len);
	cr_assert_arr_eq(got, want->data, len, "%s: bytes differ", name);
}
