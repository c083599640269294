/*
 * flood.h: floods of hostile datagrams, as processes of their own.
 *
 *     flood KIND TARGET:PORT PUBLIC_KEY
 *
 * from a socket of the kernel. Says "ready", then obeys "run NS NICE [ADDRESS:PORT]" with "done NS
 * SENT ANSWERS"; with an address, the flood goes there instead.
 *
 *     flood-port DRIVER ADDRESS PREFIX_BITS TARGET:PORT PUBLIC_KEY
 *
 * from a data plane, with honest probes beside it (flood_core.h). Says "ready", then obeys
 * "run KIND NS RATE_PER_S", 0 for as fast as it goes, with "done NS SENT ANSWERS PROBES LOST_PERCENT P50_US
 * P99_US RECOVERY_NS".
 */
#pragma once

int serve_flood(int argc, char **argv);
int serve_flood_port(int argc, char **argv);
