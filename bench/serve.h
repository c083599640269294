/*
 * serve.h: the servers that og-bench starts as processes of its own: `og-bench --serve KIND …`.
 *
 * Each prints "ready ADDRESS:PORT …" and runs until its standard input ends.
 *
 * Kinds:   echo-recvmmsg, echo-io_uring: the references, plain kernel sockets
 *          echo DRIVER ADDRESS …:        the echo core on the data plane
 *          node DRIVER ADDRESS …:        a node's core on the data plane, its routing table full
 *          peer DRIVER ADDRESS …:        the same with an application that obeys lines
 *          load DRIVER ADDRESS …:        not a server but a load, from a data plane
 *          path PID …:                   not a server but a path (path.h)
 *          tcp-sink ADDRESS:             the far end of the kernel's TCP
 *          streams DRIVER ADDRESS …:     one end of many streams (stream_core.h)
 *          flood, flood-port …:          hostile datagrams (flood.h)
 *          hold:                         nothing: keeps its network namespace
 * Threads: each has its process.
 */
#pragma once
#include "base/core.h"
#include "dataplane/dataplane.h"

/* Runs it; returns an exit status. */
int bench_serve(int argc, char **argv);

int serve_echo_recvmmsg(void);
int serve_echo_uring(void);
int serve_echo(int argc, char **argv);
int serve_node(int argc, char **argv);
int serve_peer(int argc, char **argv);
int serve_load(int argc, char **argv);
int serve_streams(int argc, char **argv);
int serve_tcp_sink(int argc, char **argv);

/*
 * Open a data plane as `DRIVER ADDRESS[:PORT] [PREFIX_BITS]` in argv says, its polling core busy
 * where the port cannot wake it. Returns 0, or -1 with the reason told on stderr.
 */
int serve_open(struct og_dataplane **out, struct og_dataplane_opts *opts, int argc, char **argv);
/*
 * The next line of the input, or NULL at its end. Looks after the data plane meanwhile: it learns only so
 * that the link of its port is up.
 */
char *serve_line(char *line, int line_bytes);
enum { SERVE_SUPERVISE_MS = 50 };
void serve_supervise(void);
/* "ready …", then wait for the end of the input. */
void serve_until_told(const char *fmt, ...) OG_PRINTF(1, 2);
