#include "dataplane/shed.h"

#include "base/bytes.h"
#include "base/rand.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const uint8_t request[] = {0x03, 0x04}, of_a_stream[] = {0xff, 0x01};
static const struct og_addr public = {{93, 184, 216, 34}, 1000}, other = {{8, 8, 8, 8}, 53};
static const struct og_addr local = {{127, 0, 0, 1}, 4000}, neighbour = {{127, 0, 0, 1}, 4001};

enum { LONG_NS = 5 * 1000 * 1000, SHORT_NS = 10 * 1000 };

struct one {
	struct og_shed s;
	uint64_t now_ns;
};

static void see(struct one *o, struct og_addr from, const uint8_t *data, uint32_t n, bool spread)
{
	for (uint32_t i = 0; i < n; i++) {
		from.port = (uint16_t)(from.port + spread);
		o->s.nb_taken++;
		og_shed_seen(&o->s, &from, data, 2);
	}
}

static bool turn(struct one *o, uint64_t waited_ns)
{
	o->now_ns += OG_SHED_TURN_NS;
	return og_shed_turn(&o->s, waited_ns, o->now_ns);
}

/* The queue stands for a second look. */
static bool stand(struct one *o)
{
	return turn(o, LONG_NS);
}

static struct one standing(void)
{
	struct one o = {.now_ns = OG_NS_PER_S};

	turn(&o, SHORT_NS);
	o.s.nb_taken = 4000;
	turn(&o, LONG_NS);
	cr_assert(o.s.stands);
	return o;
}

static uint32_t admitted(const struct og_shed *s, const struct og_addr *from)
{
	for (uint32_t i = 0; i < s->nb_rules; i++)
		if (og_addr_eq(&s->rules[i].from, from))
			return s->rules[i].admit;
	return OG_SHED_ALL;
}

Test(shed, leaves_a_short_queue_alone)
{
	struct one o = {.now_ns = OG_NS_PER_S};

	for (int i = 0; i < 100; i++) {
		see(&o, local, request, 2000, false);
		cr_assert_not(turn(&o, SHORT_NS));
	}
	cr_assert_eq(o.s.nb_rules, 0);
}

Test(shed, leaves_a_closed_loop_alone)
{
	struct one o = {.now_ns = OG_NS_PER_S};

	/* 128 under way: however slow we are, what waits times what comes is no more. */
	for (int i = 0; i < 100; i++) {
		see(&o, local, request, 128, false);
		cr_assert_not(turn(&o, LONG_NS));
	}
}

/* A burst that came while the core had no processor has waited long, and is no flood. */
Test(shed, leaves_what_waited_for_the_processor_alone)
{
	struct one o = {.now_ns = OG_NS_PER_S};

	turn(&o, SHORT_NS);
	o.now_ns += 3 * OG_SHED_TURN_NS;
	see(&o, local, request, 32, false);
	cr_expect_not(turn(&o, 4 * OG_SHED_TURN_NS));
	see(&o, local, request, 168, false);
	cr_expect_not(turn(&o, 4 * OG_SHED_TURN_NS));
	cr_expect_not(o.s.stands);
	/* The same rate for as long as they waited is one. */
	for (int i = 0; i < 2; i++) {
		see(&o, local, request, 168, false);
		turn(&o, 4 * OG_SHED_TURN_NS);
	}
	cr_expect(o.s.stands);
}

Test(shed, needs_two_looks_at_a_queue_that_stands)
{
	struct one o = {.now_ns = OG_NS_PER_S};

	turn(&o, SHORT_NS);
	see(&o, local, request, 4000, false);
	cr_assert_not(turn(&o, LONG_NS));
	see(&o, local, request, 4000, false);
	cr_assert(turn(&o, LONG_NS));
}

Test(shed, cuts_the_heavy_source_and_no_other)
{
	struct one o = standing();
	struct og_addr host = public;

	host.port = 0;
	see(&o, public, request, 4000, true);
	see(&o, other, request, 100, true);
	cr_assert(stand(&o));
	cr_assert_eq(o.s.nb_rules, 1);
	cr_assert_eq(admitted(&o.s, &host), OG_SHED_ALL / 4, "whatever its ports");
}

Test(shed, cuts_deeper_while_the_queue_stands_and_has_a_floor)
{
	struct one o = standing();
	uint32_t before = OG_SHED_ALL;

	for (int i = 0; i < 32; i++) {
		see(&o, local, request, 4000, false);
		stand(&o);
		cr_assert_leq(admitted(&o.s, &local), before);
		before = admitted(&o.s, &local);
	}
	cr_assert(before > 0 && before < OG_SHED_ALL / 500);
}

Test(shed, tells_ports_of_a_private_address_apart)
{
	struct one o = standing();

	see(&o, local, request, 4000, false);
	see(&o, neighbour, request, 10, false);
	stand(&o);
	cr_assert(admitted(&o.s, &local) < OG_SHED_ALL);
	cr_assert_eq(admitted(&o.s, &neighbour), OG_SHED_ALL);
}

Test(shed, blames_a_private_address_that_uses_many_ports)
{
	struct one o = standing();
	struct og_addr host = local;

	host.port = 0;
	see(&o, local, request, 4000, true);
	stand(&o);
	cr_assert_eq(o.s.nb_rules, 1);
	cr_assert(admitted(&o.s, &host) < OG_SHED_ALL);
}

Test(shed, cuts_everybody_alike_when_nobody_is_to_blame)
{
	const struct og_addr anybody = {.port = 0};
	struct one o = standing();

	for (uint32_t i = 0; i < 4000; i++)
		see(&o, og_addr_from_key((uint64_t)(0x08000000u + i * 977) << 16), request, 1,
			false);
	stand(&o);
	cr_assert_eq(o.s.nb_rules, 1);
	cr_assert(admitted(&o.s, &anybody) < OG_SHED_ALL);
}

Test(shed, never_cuts_for_what_streams_send)
{
	struct one o = standing();

	see(&o, local, of_a_stream, 4000, false);
	cr_assert_not(stand(&o));
	cr_assert_eq(o.s.nb_rules, 0);
}

/* A packet for an id: our own, or one that has a wrong tag. */
static void packet_of(uint8_t out[20], uint32_t id, uint32_t tag_key, bool ours)
{
	memset(out, 0, 20);
	out[0] = OG_STREAM_BYTE;
	out[1] = 1;
	og_store_le32(out + OG_STREAM_ID_AT,
		og_stream_tag_put(id, tag_key) ^ (ours ? 0 : 1u << (26 + id % 6)));
}

Test(shed, cuts_what_begins_like_a_stream_and_is_none)
{
	struct one o = standing();
	uint8_t ours[20], stray[20];

	o.s.tag_key = 0x9e3779b1;
	packet_of(ours, 4711, o.s.tag_key, true);
	packet_of(stray, 4711, o.s.tag_key, false);
	for (int i = 0; i < 4000; i++) {
		og_shed_seen(&o.s, &local, stray, sizeof(stray));
		og_shed_seen(&o.s, &neighbour, ours, sizeof(ours));
	}
	o.s.nb_taken = 8000;
	cr_assert(stand(&o));
	cr_assert(admitted(&o.s, &local) < OG_SHED_ALL);
	cr_assert_eq(admitted(&o.s, &neighbour), OG_SHED_ALL);
	cr_assert(og_shed_drops(&o.s, &local, stray, sizeof(stray)));
	cr_assert(og_shed_drops(&o.s, &local, stray, 7), "too short for an id");
	cr_assert_not(og_shed_drops(&o.s, &local, ours, sizeof(ours)), "whoever sends it");
}

Test(shed, forgives_in_about_a_second)
{
	struct one o = standing();
	uint64_t end_ns;

	for (int i = 0; i < 20; i++) {
		see(&o, local, request, 4000, false);
		stand(&o);
	}
	end_ns = o.now_ns;
	while (o.s.nb_rules > 0)
		turn(&o, SHORT_NS);
	cr_assert_leq(o.now_ns - end_ns, 1200 * OG_NS_PER_MS);
}

Test(shed, forgives_in_one_turn_what_was_silent_for_long)
{
	struct one o = standing();

	see(&o, local, request, 4000, false);
	stand(&o);
	o.now_ns += 2 * OG_NS_PER_S;
	cr_assert(turn(&o, SHORT_NS));
	cr_assert_eq(o.s.nb_rules, 0);
}

Test(shed, stays_within_its_rules)
{
	struct one o = standing();
	struct sock_filter program[OG_SHED_PROGRAM];

	for (int i = 0; i < 100; i++) {
		struct og_addr from = {{10, 0, (uint8_t)i, 1}, (uint16_t)(1000 + i)};

		see(&o, from, request, 4000, false);
		stand(&o);
		cr_assert_leq(o.s.nb_rules, OG_SHED_RULES);
		cr_assert(admitted(&o.s, &from) < OG_SHED_ALL);
		cr_assert_leq(og_shed_program(&o.s, program), OG_SHED_PROGRAM);
	}
}

Test(shed, drops_what_waits_of_those_it_has_cut_while_the_queue_stands)
{
	struct one o = standing();

	see(&o, local, request, 4000, false);
	cr_assert_not(og_shed_drops(&o.s, &local, request, 2));
	stand(&o);
	cr_assert(og_shed_drops(&o.s, &local, request, 2));
	cr_assert_not(og_shed_drops(&o.s, &local, of_a_stream, 2));
	cr_assert_not(og_shed_drops(&o.s, &neighbour, request, 2));
	turn(&o, SHORT_NS);
	cr_assert_not(og_shed_drops(&o.s, &local, request, 2), "the filter is enough");
}

/* ---- a core that takes less than comes ---- */

enum { STEPS_TURN = 50, DRAIN = 4 };

struct overload {
	double taken_per_s, offered_per_s;
	double queue, admitted; /* datagrams, share */
	double rest;            /* of a datagram that is being handled */
};

/* A hundred microseconds of it; returns how long who comes now waits, in seconds. */
static double step(struct overload *l, struct one *o)
{
	const double dt = 1e-4, queue_max = 10000;
	/* What is dropped as it is received costs little. */
	double most = l->taken_per_s * dt * (o->s.stands && o->s.nb_rules ? DRAIN : 1);
	double handled;

	l->queue += l->offered_per_s * dt * l->admitted;
	l->queue = l->queue < queue_max ? l->queue : queue_max;
	handled = l->queue < most ? l->queue : most;
	l->queue -= handled;
	for (l->rest += handled; l->rest >= 1; l->rest--) {
		o->s.nb_taken++;
		if (o->s.stands)
			og_shed_seen(&o->s, &local, request, 2);
	}
	return l->queue / l->taken_per_s;
}

/* Ten seconds of a flood; the per mille of the time in which who comes waits over 5 ms. */
static int slow_per_mille(double taken_per_s, double times)
{
	struct overload l = {taken_per_s, taken_per_s * times, 0, 1, 0};
	struct one o = {.now_ns = OG_NS_PER_S};
	int slow = 0, turns = 10 * 1000 / 5;
	double wait = 0;

	turn(&o, 0);
	for (int t = 0; t < turns; t++) {
		for (int i = 0; i < STEPS_TURN; i++) {
			wait = step(&l, &o);
			slow += wait > 5e-3;
		}
		if (turn(&o, (uint64_t)(wait * 1e9)))
			l.admitted = (double)admitted(&o.s, &local) / OG_SHED_ALL;
	}
	return slow * 1000 / (turns * STEPS_TURN);
}

Test(shed, an_overload_leaves_the_queue_short)
{
	static const double taken[] = {100e3, 400e3, 1e6}, times[] = {1.05, 1.2, 2, 5, 20};

	for (size_t i = 0; i < OG_ARRAY_LEN(taken); i++)
		for (size_t k = 0; k < OG_ARRAY_LEN(times); k++) {
			int slow = slow_per_mille(taken[i], times[k]);

			cr_assert_leq(slow, 9, "%d of 1000 for %.0f, %.2f times", slow, taken[i],
				times[k]);
		}
}

/* ---- the program, in the kernel ---- */

struct wire {
	int from, to, bystander;
	struct og_addr source;
};

static int bound(struct og_addr *out)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)&sin, len) == 0 &&
		  getsockname(fd, (struct sockaddr *)&sin, &len) == 0);
	*out = (struct og_addr){{127, 0, 0, 1}, ntohs(sin.sin_port)};
	return fd;
}

static void aim(int fd, const struct og_addr *at)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(at->port)};

	memcpy(&sin.sin_addr, at->ip, 4);
	cr_assert_eq(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
}

static struct wire open_wire(void)
{
	struct og_addr to, bystander;
	struct wire w = {.to = bound(&to)};

	w.from = bound(&w.source);
	w.bystander = bound(&bystander);
	aim(w.from, &to);
	aim(w.bystander, &to);
	return w;
}

static void attach(const struct wire *w, const struct og_shed *s)
{
	struct sock_filter steps[OG_SHED_PROGRAM];
	struct sock_fprog program = {og_shed_program(s, steps), steps};

	cr_assert_eq(setsockopt(w->to, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0,
		"%s", strerror(errno));
}

/* How many of 100 datagrams arrive, and whole. */
static int arrive(const struct wire *w, int from, const uint8_t *data)
{
	uint8_t sent[300] = {0}, got[400];
	int n = 0;

	memcpy(sent, data, 2);
	for (int i = 0; i < 100; i++) {
		cr_assert_eq(send(from, sent, sizeof(sent), 0), (ssize_t)sizeof(sent));
		n += recv(w->to, got, sizeof(got), MSG_DONTWAIT) == (ssize_t)sizeof(sent);
	}
	return n;
}

static void expect_cut(const struct wire *w, struct og_addr from, uint32_t admit, int low, int high)
{
	struct og_shed s = {.nb_rules = 2, .rules = {{{{192, 0, 2, 1}, 7}, 0}, {from, admit}}};
	int n;

	attach(w, &s);
	n = arrive(w, w->from, request);
	cr_assert(n >= low && n <= high, "%d of 100", n);
	cr_assert_eq(arrive(w, w->from, of_a_stream), 100);
}

Test(shed, program_drops_what_its_rules_say)
{
	struct wire w = open_wire();
	struct og_addr host = w.source, anybody = {.port = 0}, nobody = {{203, 0, 113, 1}, 0};

	host.port = 0;
	expect_cut(&w, w.source, 0, 0, 0);
	cr_assert_eq(arrive(&w, w.bystander, request), 100);
	expect_cut(&w, host, 0, 0, 0);
	cr_assert_eq(arrive(&w, w.bystander, request), 0);
	expect_cut(&w, anybody, 0, 0, 0);
	expect_cut(&w, nobody, 0, 100, 100);
	expect_cut(&w, w.source, OG_SHED_ALL / 2, 10, 90);
	close(w.from);
	close(w.to);
	close(w.bystander);
}

/* Every id that we choose passes, from whomever; of others about one in 64. */
Test(shed, program_knows_our_streams)
{
	struct wire w = open_wire();
	struct og_shed s = {.nb_rules = 1}; /* nobody is let in */
	struct og_rand rand;

	og_rand_seeded(&rand, 7);
	for (int k = 0; k < 20; k++) {
		uint8_t packet[20], got[64];
		int strays = 0;

		s.tag_key = og_rand_u32(&rand) | 1;
		attach(&w, &s);
		for (int i = 0; i < 100; i++) {
			packet_of(packet, og_rand_u32(&rand), s.tag_key, true);
			cr_assert_eq(send(w.from, packet, sizeof(packet), 0), sizeof(packet));
			cr_assert_eq(recv(w.to, got, sizeof(got), MSG_DONTWAIT), sizeof(packet));
			packet_of(packet, og_rand_u32(&rand), s.tag_key, false);
			cr_assert_eq(send(w.from, packet, sizeof(packet), 0), sizeof(packet));
			cr_assert_lt(recv(w.to, got, sizeof(got), MSG_DONTWAIT), 0);
			og_store_le32(packet + OG_STREAM_ID_AT, og_rand_u32(&rand));
			cr_assert_eq(send(w.from, packet, sizeof(packet), 0), sizeof(packet));
			strays += recv(w.to, got, sizeof(got), MSG_DONTWAIT) > 0;
		}
		cr_assert_leq(strays, 10);
		cr_assert_eq(send(w.from, packet, 7, 0), 7);
		cr_assert_lt(recv(w.to, got, sizeof(got), MSG_DONTWAIT), 0, "too short for an id");
	}
	close(w.from);
	close(w.to);
	close(w.bystander);
}
