/*
 * config_edit.h: changes to node.conf that keep the operator's comments and order.
 *
 * Threads: one editor at a time (the caller holds the root's lock if that matters).
 * Memory:  none kept.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

/* The text with `id = ID` added to or removed from [cluster]; malloc'ed. 0, -EALREADY if it is
 * there (or not there) already, -ENOMEM. Pure. */
int og_config_text_add_cluster(char **out, const char *text, const char *id) OG_MUST_CHECK;
int og_config_text_remove_cluster(char **out, const char *text, const char *id) OG_MUST_CHECK;

/* A cluster id that node.conf can hold: 0, or -EINVAL with a sentence in `why`. */
int og_config_check_cluster_id(const char *id, const char **why) OG_MUST_CHECK;

/* The same on the file, by a new file and rename. 0, -EALREADY, or an errno of the disk. */
int og_config_edit_cluster(const char *file, const char *id, bool add) OG_MUST_CHECK;
