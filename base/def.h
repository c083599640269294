/*
 * def.h: the few macros every folder uses.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define OG_MUST_CHECK __attribute__((warn_unused_result))
#define OG_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define OG_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define OG_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define OG_MIN(a, b) ((a) < (b) ? (a) : (b))
#define OG_MAX(a, b) ((a) > (b) ? (a) : (b))

#define OG_NS_PER_US 1000ull
#define OG_NS_PER_MS 1000000ull
#define OG_NS_PER_S 1000000000ull
#define OG_NEVER UINT64_MAX /* a deadline that does not come */

/* A bug, never bad input: always checked, ends the process before it corrupts anything. */
#define OG_ASSERT(cond) ((cond) ? (void)0 : og_assert_fail(#cond, __FILE__, __LINE__))
/* The same on the polling path: checked in debug and test builds only. */
#ifdef NDEBUG
#define OG_DASSERT(cond) ((void)0)
#else
#define OG_DASSERT(cond) OG_ASSERT(cond)
#endif

void og_assert_fail(const char *cond, const char *file, int line) __attribute__((noreturn, cold));
