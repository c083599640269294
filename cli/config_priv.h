/*
 * config_priv.h: what the files of the configuration share.
 */
#pragma once
#include "cli/config.h"

void og_config_problem(const struct og_config *cfg, struct og_problems *problems, int32_t line,
	const char *fmt, ...) OG_PRINTF(4, 5);

/* The line that set `field`, a member of `cfg` that is no model's; 0, or a flag. */
int32_t og_config_where(const struct og_config *cfg, const void *field);

bool og_config_is_list(const struct og_config_key *k);
void og_config_list_clear(struct og_config_list *list);

/* `base` is the struct that k->offset counts in: the config or one of its models. */
void og_config_set_default(struct og_config *cfg, void *base, const struct og_config_key *k);
/* Checks and stores a value; what is wrong with it is reported. `model` for rows of [model]. */
void og_config_set(struct og_config *cfg, struct og_config_model *model,
	const struct og_config_key *k, const char *value, int32_t where,
	struct og_problems *problems);
