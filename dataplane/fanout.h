/*
 * fanout.h: af_packet devices that do not get into each other's way.
 *
 * DPDK's driver makes the number of its fanout group, which counts in the whole network namespace, of
 * process id and interface index: two nodes on two interfaces may arrive at the same one, and the second
 * then fails. While a device is opened here, the kernel chooses a number that is free.
 *
 * Source:  packet(7), PACKET_FANOUT_FLAG_UNIQUEID; DPDK 22.11, rte_eth_af_packet.c.
 * Threads: begin and end on the thread that opens the device.
 * Memory:  none.
 */
#pragma once

void og_fanout_begin(void);
void og_fanout_end(void);
