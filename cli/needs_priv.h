/*
 * needs_priv.h: what the files of needs share.
 */
#pragma once
#include "cli/config_priv.h"
#include "cli/needs.h"

/* Memory for packets, of a port on huge pages. */
#define OG_NEEDS_PACKET_BYTES (256ull << 20)

enum og_needs_cap {
	OG_NEEDS_NET_ADMIN = 1u << 0,
	OG_NEEDS_NET_RAW = 1u << 1,
	OG_NEEDS_BPF = 1u << 2,
	OG_NEEDS_IPC_LOCK = 1u << 3,
};

struct og_needs {
	const struct og_config *cfg;
	struct og_problems *lacks;
};

/* "lacks: WHAT; HOW" at the line where `field` of the configuration was set. */
void og_needs_lack(const struct og_needs *n, const void *field, const char *fmt, ...)
	OG_PRINTF(3, 4);
/* "note: WHAT", what follows from what is there; counts as no lack. */
void og_needs_note(const struct og_needs *n, const void *field, const char *fmt, ...)
	OG_PRINTF(3, 4);
/* Lacks of capabilities, `for_what` in words. */
void og_needs_caps(
	const struct og_needs *n, const void *field, uint32_t caps, const char *for_what);

/* needs_port.c */
void og_needs_port(const struct og_needs *n);
/* What [port] shared needs of the kernel's interface of that name. */
void og_needs_shared(const struct og_needs *n, const char *name);

/* needs_pci.c: `devargs` name a PCI device. */
void og_needs_pci(const struct og_needs *n, const char *devargs);
