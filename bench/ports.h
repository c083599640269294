/*
 * ports.h: the two ends of a port: what each end's data plane is opened with, and where it runs.
 *
 *   socket      loopback, both ends
 *   recvmmsg    the same, and the server's end does without io_uring
 *   memif       shared memory, both ends data planes; no privilege
 *   af_packet   a veth pair: the server's end is the data plane, in a network namespace of its own,
 *   af_xdp      the client's end the kernel; af_xdp needs root
 *
 * Memory:  lives until close; close removes what open made. What is in a namespace goes with it.
 */
#pragma once
#include "bench/bench.h"
#include "bench/child.h"

enum { PORTS_TEXT_BYTES = 160, PORTS_ARGS = 16 };

struct port_end {
	char driver[PORTS_TEXT_BYTES];
	char address[32]; /* with its UDP port; 0: any free one */
	char prefix_bits[8];
};

struct ports {
	enum bench_port kind;
	struct port_end server, client;
	struct bench_child holder; /* holds the server's namespace open */
	char netns[48];            /* for nsenter; "" when there is none */
	char self[256];
	char testpmd[512]; /* a shell's command */
};

/*
 * af_packet and af_xdp run in a namespace of their own: replaces this process by one inside, with
 * `inside` as the last argument. Returns only on failure, BENCH_SKIPPED.
 */
int ports_enter(const struct bench *b, char **argv, const char *inside);

/* 0 or a negative errno, told on stderr. */
int ports_open(struct ports *p, const struct bench *b) OG_MUST_CHECK;
void ports_close(struct ports *p);

/* The command that serves `kind` at the server's end. */
void ports_serve(const struct ports *p, const char *argv[PORTS_ARGS], const char *kind);
/*
 * testpmd that swaps both ends of each datagram, on a veth pair of its own, as a server. 0, or
 * -ENOENT when it is not installed or not for this port.
 */
int ports_testpmd(struct ports *p, const struct bench *b, const char *argv[PORTS_ARGS]);
/* The client's end is the kernel's. */
bool ports_kernel_client(const struct ports *p);
