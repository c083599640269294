/*
 * ctl.h: what the commands of `opengateway` share: the root they are about, questions to its node, and
 * how answers are shown.
 *
 * Data goes to stdout, talk to stderr. A command returns its exit status.
 *
 * Threads: one.
 * Memory:  answers are references that the caller drops.
 */
#pragma once
#include "cli/node.h"

#include <jansson.h>

enum { OG_CTL_PATH_BYTES = 4096, OG_CTL_FILE_BYTES = OG_CTL_PATH_BYTES + 32 };

extern char og_ctl_root[OG_CTL_PATH_BYTES];
extern bool og_ctl_json; /* --json */

/* ROOT/name. */
void og_ctl_path(char out[OG_CTL_FILE_BYTES], const char *name);
/* `opengateway: ` and the sentence, on stderr. */
void og_ctl_say(const char *fmt, ...) OG_PRINTF(1, 2);
/* opengateway.c: the usage on stderr; OG_EXIT_USAGE. */
int og_ctl_usage(void);
/* The folder of this program. */
void og_ctl_program_dir(char out[OG_CTL_PATH_BYTES]);

/* Sends one request (taken over); NULL, and said so, when the node does not run. */
FILE *og_ctl_request(json_t *req);
/* The next line of the answer, or NULL when the node went away. */
json_t *og_ctl_answer(FILE *f);
/* Says what the answer says of its failure; the exit status. */
int og_ctl_failure(const json_t *answer);
/* The data of the answer, or NULL, the reason said, and the exit status in `*status`. */
json_t *og_ctl_ask(json_t *req, int *status);
/* The same without a word; NULL: it does not run, or refused. */
json_t *og_ctl_try(json_t *req);

void og_ctl_print(const json_t *o);
/* A member that is a string, or ""; a number, or 0. */
const char *og_ctl_text(const json_t *o, const char *name);
long long og_ctl_int(const json_t *o, const char *name);
double og_ctl_real(const json_t *o, const char *name);
/* Strings of a list, with commas; "-" for none. */
const char *og_ctl_joined(const json_t *list, char *out, size_t cap);
/* "1.5 GiB" */
const char *og_ctl_bytes(uint64_t bytes, char out[32]);

/* ctl_root.c */
int og_ctl_init(int argc, char **argv);
int og_ctl_ensure_root(void); /* an empty root gets its defaults */
int og_ctl_cluster(const char *id, bool add);

/* ctl_process.c */
int og_ctl_start(void);
int og_ctl_stop(void);
int og_ctl_restart(void);
int og_ctl_drain(void);
int og_ctl_logs(void);
int og_ctl_bench(char **argv);

/* ctl_data.c */
int og_ctl_status(void);
int og_ctl_clusters(void);
int og_ctl_peers(const char *cluster /* or NULL */);
int og_ctl_models(void);
int og_ctl_gauge(void);
int og_ctl_eligible(int argc, char **argv);
void og_ctl_show_status(FILE *out, const json_t *status);
void og_ctl_show_gauge(FILE *out, const json_t *gauge);

/* ctl_resources.c, ctl_top.c, ctl_prompt.c */
int og_ctl_resources(void);
int og_ctl_top(void);
int og_ctl_prompt(int argc, char **argv);
